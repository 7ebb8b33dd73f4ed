"""Which database and which workspace belong together: they carry the same id, and nothing is done for one with what is of another.

The database has it in the table `workspace`, the workspace in `.vigil/database.json` with the database's address: beside the media that the
database names, so that a copy or backup with the media has it, and a `git clone`, which has none of them, has not. feedback.db needs no
note, it lies in its workspace. A dump takes the id along; so the note also says which database of which PostgreSQL it is, by whatever address that
is named, and what a dump was restored into is another one. `vigil doctor --database-is-right` is a person's word that the two belong together from now on.
"""

import os
import uuid
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, inspect

from feedback.postgresql import identity, refuse_served
from feedback.tables import WORKSPACE
from workspace.errors import WorkspaceError
from workspace.files import read_json, write_json
from workspace.layout import place_of

NOTE = Path(".vigil/database.json")
HOW = "`vigil doctor --database-is-right`"


class _Note(NamedTuple):
    """What a workspace carries: the id, and the address of its database. `server` is '' where it is no PostgreSQL, or that was never told."""

    workspace: str
    database: str
    server: str = ""


def refuse_forgotten(root: Path, variable: str) -> None:
    """Raise WorkspaceError where the embedded database is about to be used and this workspace has its own elsewhere."""
    if (kept := _noted(root)) is not None:
        raise WorkspaceError(
            "Nothing was done: this workspace does not keep its feedback in feedback.db.",
            why=f"it is in {kept.database}, and neither {variable} nor feedback.database_url names a database",
            next_step=f"Set {variable} for this command as for `vigil serve`; to begin anew in feedback.db on purpose: {HOW}.",
        )


def refuse_other(connection: Connection, root: Path, address: str, embedded: Path) -> None:
    """Raise WorkspaceError where a database is another workspace's, or is not the one that this workspace has kept its feedback in."""
    kept, row, server = _noted(root), _row(connection), _server(connection)
    if row is None and (kept is not None or embedded.exists()):
        raise WorkspaceError(
            f"{address} is not the database of this workspace. Nothing was changed.",
            why=f"its feedback is in {kept.database if kept else embedded.name}, and the one named now knows no workspace",
            next_step=f"Name the other one; to go on with this one on purpose, which takes nothing of the other along: {HOW}.",
        )
    if row is None:
        return
    if kept is None or kept.workspace != row[0] or _is_copy(root, Path(row[1].partition(":")[2]), _Note(row[0], address, server)):
        left = kept is not None and row[1] == place_of(root)
        raise WorkspaceError(
            f"{address} is the database of another workspace. Nothing was changed.",
            why=f"this one has gone over to {kept.database} since" if kept and left else f"it belongs to {row[1]}; this is {place_of(root)}",
            next_step=f"Give this one a database of its own. Where it stands in for that one, which is used no more, have it take the database over: {HOW}.",
        )
    if kept.server and server and kept.server != server:
        raise WorkspaceError(
            f"{address} is a copy of this workspace's database. Nothing was changed.",
            why=f"until now this workspace worked with another one, {kept.database}: a dump of that was restored here, or its server upgraded",
            next_step=f"Name that one. Where this one takes its place, and that is used no more, or this is a copy of the workspace too: {HOW}.",
        )


def bind(connection: Connection, root: Path, address: str, take_over: bool) -> None:
    """Write down on both sides that they belong together, where that is not there yet, or (`take_over`) whatever was.

    The caller has seen to it that they do. Raises WorkspaceError where a database that is served is to be taken over.
    """
    if take_over:
        if connection.dialect.name == "postgresql":
            refuse_served(connection)
        connection.execute(WORKSPACE.delete())
    kept, row = None if take_over else _noted(root), _row(connection)
    own = row[0] if row is not None else kept.workspace if kept is not None else uuid.uuid4().hex
    if row is None:
        connection.execute(WORKSPACE.insert().values(id=own, place=place_of(root)))
    elif row[1].partition(":")[2] != str(root.resolve()):  # it was moved
        connection.execute(WORKSPACE.update().values(place=place_of(root)))
    note = _Note(own, address, _server(connection) or (kept.server if kept is not None else ""))
    if kept != note:
        write_json(root / NOTE, note._asdict())


def _server(connection: Connection) -> str:
    return identity(connection) if connection.dialect.name == "postgresql" else ""


def _is_copy(root: Path, first: Path, bound: _Note) -> bool:
    """Whether the workspace that a database was bound to is still there, beside this one which has its id. A restored or moved one is alone."""
    there = _noted(first) if first != root.resolve() else None
    if there is None or there.workspace != bound.workspace or os.path.samefile(first / NOTE, root / NOTE):
        return False
    return there.server == bound.server if there.server and bound.server else there.database == bound.database


def _noted(root: Path) -> _Note | None:
    try:
        found = read_json(root / NOTE)
        return _Note(str(found["workspace"]), str(found["database"]), str(found.get("server", "")))  # an older Vigil noted no server
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise WorkspaceError(
            f"{root / NOTE} cannot be read. Nothing was done.", why=f"{problem!r}", next_step=f"Restore it from a backup, or name the database and run {HOW}."
        ) from problem


def _row(connection: Connection) -> tuple[str, str] | None:
    """(the id, where its workspace is) that a database carries."""
    if not inspect(connection).has_table(WORKSPACE.name):
        return None
    found = connection.execute(WORKSPACE.select()).one_or_none()
    return None if found is None else (str(found.id), str(found.place))
