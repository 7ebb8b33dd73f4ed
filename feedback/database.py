"""The database of the feedback service: SQLite in the workspace, or PostgreSQL by URL, brought up to date when it is opened.

Every change is one transaction that takes the write lock first (BEGIN IMMEDIATE, or an advisory lock), so what a
transaction reads cannot change before it writes, with any number of threads and processes, in both databases alike.
What each of them needs of its own is in feedback/sqlite.py and feedback/postgresql.py.
"""

import logging
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from feedback import postgresql, sqlite
from feedback.belonging import NOTE, bind, refuse_forgotten, refuse_other
from feedback.tables import METADATA
from workspace.errors import DatabaseDamaged, DatabaseSilent, VigilError, WorkspaceError, shown_address
from workspace.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

LOG = logging.getLogger("vigil.database")
DATABASE = Path("feedback.db")
URL_VARIABLE = "VIGIL_DATABASE_URL"
BUSY_SECONDS = 30
RESTORE = "Stop the service, and restore the database from a backup: `vigil doctor` and `vigil audit verify` say whether that is whole."
NUL = "There is a NUL in this text: leave it out. Nothing was changed."
NO_TABLES = "none"  # the schema of a database in which nothing was ever made
ID = r"[0-9a-f]{32}"  # what new_id makes
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """A pool of connections to one service's database. Safe to use from several threads; make one in each process."""

    def __init__(self, root: Path, settings: Settings, take_over: bool = False) -> None:
        """Open, create or migrate. Raises WorkspaceError where the database cannot be reached, is newer than this Vigil, or not this workspace's;
        DatabaseDamaged where it cannot be read.

        `take_over`: it is from now on, on a person's word.
        """
        self.root = root
        self.url = _named_url(root, settings) if take_over else database_url(root, settings)
        self.engine = _engine(self.url)
        self._here = threading.local()
        try:
            self._migrate(take_over)
        except SQLAlchemyError as problem:
            self.engine.dispose()
            raise _unusable(self.shown_url, problem) from problem

    @property
    def shown_url(self) -> str:
        """The address without its password."""
        return shown_address(self.url)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Close every connection; the database cannot be used after it."""
        looking = getattr(self._here, "looking", None)
        if looking is not None:
            looking.close()
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent look. Raises DatabaseSilent, DatabaseDamaged."""
        with _answered(), self.engine.connect() as connection:
            yield connection

    def version(self) -> int | None:
        """A number that differs whenever anybody has changed anything since it was last asked for in this thread; None where there is none.

        SQLite's data_version, on a connection that never writes: what was read while it stood still holds now. Costs some microseconds.
        """
        if not self.is_sqlite:
            return None
        looking = getattr(self._here, "looking", None)
        if looking is None:
            looking = self._here.looking = self.engine.raw_connection()
        cursor = looking.cursor()
        try:
            return int(cursor.execute("PRAGMA data_version").fetchone()[0])
        finally:
            cursor.close()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that holds the write lock from its first statement; rolled back when the block raises. Raises what `read` does."""
        with _answered(), self._transaction() as connection:
            yield connection

    def empty_log(self) -> None:
        """Have nothing that was erased be left in SQLite's log, which keeps it until as much again was written. Where others do not stop reading, later."""
        if self.is_sqlite:
            sqlite.empty_log(self.engine, BUSY_SECONDS)

    def serving_alone(self, url: str) -> AbstractContextManager[None]:
        """Be the one service of a PostgreSQL, whichever machine asks; of an SQLite the workspace's lock sees to that. Raises WorkspaceError."""
        return nullcontext() if self.is_sqlite else postgresql.serving_alone(self.engine, url)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self.engine.execution_options(vigil_begin="BEGIN IMMEDIATE").begin() as connection:
            if not self.is_sqlite:
                postgresql.lock_writes(connection)
            yield connection

    def _migrate(self, take_over: bool) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it announces each plug-in as it is imported
        config, script = _migrations()
        head = script.get_current_head()
        with self._transaction() as connection:
            now = _revision(connection)
            embedded = _is_embedded(self.url, self.root)
            if not embedded and not take_over:
                refuse_other(connection, self.root, self.shown_url, self.root / DATABASE)
            if now != head:
                self._upgrade(connection, config, script, now)
            if not embedded:
                bind(connection, self.root, self.shown_url, take_over)
        if embedded and take_over:
            (self.root / NOTE).unlink(missing_ok=True)
        if now != head:
            self.engine.dispose()  # the patient connection with it

    def _upgrade(self, connection: Connection, config: "Config", script: "ScriptDirectory", now: str | None) -> None:
        from alembic import command

        _refuse_unknown(connection, now, script, self.shown_url)
        config.attributes["connection"] = connection
        if not self.is_sqlite:
            postgresql.be_patient(connection)
        if now is None and inspect(connection).has_table("detections"):
            command.stamp(config, "0001")  # a database from before migrations were kept
        command.upgrade(config, "head")


def database_url(root: Path, settings: Settings) -> str:
    """The environment's, else the settings', else SQLite in the workspace; a relative SQLite file lies inside the workspace.

    Raises WorkspaceError for what is not a database address, and where none is named although this workspace has a database elsewhere.
    """
    url = _named_url(root, settings)
    if _is_embedded(url, root):
        refuse_forgotten(root, URL_VARIABLE)
    return url


def _named_url(root: Path, settings: Settings) -> str:
    url = os.environ.get(URL_VARIABLE) or settings.feedback.database_url or f"sqlite:///{DATABASE}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as problem:  # a port that is no number is a ValueError
        raise WorkspaceError(
            "The address of the feedback database cannot be read.", why=str(problem), next_step="It looks like postgresql://user@host/name."
        ) from problem
    kind = parsed.get_backend_name()
    if kind in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    elif kind != "sqlite":
        raise WorkspaceError(
            "The feedback database is SQLite or PostgreSQL.", why=f"the address names {kind}", next_step="It looks like postgresql://user@host/name."
        )
    elif parsed.database in (None, "", ":memory:"):
        why, next_step = "what is kept in memory alone is gone with the process", "Name one, sqlite:///name.db, or nothing: then it is feedback.db."
        raise WorkspaceError("The address of the feedback database names no file.", why=why, next_step=next_step)
    else:
        parsed = parsed.set(database=str(root / parsed.database))
    return parsed.render_as_string(hide_password=False)


def schema_behind(root: Path, settings: Settings) -> tuple[str, str] | None:
    """(what the database has or NO_TABLES, what this Vigil wants) where opening it would migrate it; None where there is none, or nothing to do. Reads only.

    Raises WorkspaceError where the database cannot be reached or is newer than this Vigil, DatabaseDamaged where it cannot be read or a table is gone.
    """
    if not exists(root, settings):
        return None
    _, script = _migrations()
    head = str(script.get_current_head())
    url = database_url(root, settings)
    # of SQLite not as the service opens it: that would write to the file
    engine = create_engine(url) if url.startswith("sqlite") else postgresql.open_engine(url, BUSY_SECONDS)
    try:
        with engine.connect() as connection:
            if not _is_embedded(url, root):
                refuse_other(connection, root, shown_address(url), root / DATABASE)
            now = _revision(connection) or ("0001" if inspect(connection).has_table("detections") else NO_TABLES)
            if now != NO_TABLES:
                _refuse_unknown(connection, now, script, shown_address(url))
            if now == head and (gone := sorted(METADATA.tables.keys() - inspect(connection).get_table_names())):
                raise damaged(f"the table {gone[0]} is gone")
    except SQLAlchemyError as problem:
        raise _unusable(shown_address(url), problem) from problem
    finally:
        engine.dispose()
    return None if now == head else (now, head)


def _migrations() -> "tuple[Config, ScriptDirectory]":
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))  # read as in an ini file, where a % begins a name
    return config, ScriptDirectory.from_config(config)


def _refuse_unknown(connection: Connection, now: str | None, script: "ScriptDirectory", shown_url: str) -> None:
    if now is None or now in {revision.revision for revision in script.walk_revisions()}:
        return
    why, next_step = f"its schema is {now}, which this Vigil does not know", "Use the newer Vigil that wrote it."
    if inspect(connection).has_table("experiments"):  # which MLflow keeps the revision of in a table of the same name
        why = "it is MLflow's, the model registry of a workspace"
        next_step = f"Make the service one of its own (`createdb -E UTF8 -T template0 vigil`) and name that in {URL_VARIABLE} or feedback.database_url."
    raise WorkspaceError(f"Cannot use {shown_url}. Nothing was changed.", why=why, next_step=next_step)


def exists(root: Path, settings: Settings) -> bool:
    """Whether there is anything to open: another database than an SQLite file always counts as there."""
    found = file_of(root, settings)
    return found is None or found.is_file()


def file_of(root: Path, settings: Settings) -> Path | None:
    """The file of an SQLite database, the embedded one or another; None for a PostgreSQL."""
    url = make_url(database_url(root, settings))
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def _is_embedded(url: str, root: Path) -> bool:
    parsed = make_url(url)
    return parsed.get_backend_name() == "sqlite" and Path(parsed.database or "").resolve() == (root / DATABASE).resolve()


def new_id() -> str:
    """A random id, 32 hex digits."""
    return uuid.uuid4().hex


def now(later_seconds: float = 0.0) -> str:
    """This moment (or a later one) as the tables keep it."""
    return (datetime.now(UTC) + timedelta(seconds=later_seconds)).isoformat(timespec="milliseconds")


def moment_of(text: str, end: bool = False) -> str:
    """A moment in ISO 8601 as the tables keep it: UTC where it names no offset; of a day its first moment, or its last (`end`). Raises ValueError."""
    try:
        found = datetime.combine(date.fromisoformat(text), time.max if end else time.min, UTC)
    except ValueError:
        found = datetime.fromisoformat(text)
    try:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    except OverflowError as problem:
        raise ValueError(f"{text} is no moment of any clock") from problem


def _unusable(shown_url: str, problem: SQLAlchemyError) -> VigilError:
    why = _said(problem)
    if _is_damage(problem):
        return damaged(f"{shown_url}: {why}")
    if isinstance(problem, DBAPIError) and sqlite.is_closed(problem):
        look = "this user may read and write that file and its folder"
    elif shown_url.startswith("sqlite"):
        look = "no other program keeps that file locked and that its disk has room, then try again"
    else:
        look = f"it runs and that {URL_VARIABLE} or feedback.database_url names it"
    return WorkspaceError(
        f"Cannot use the database {shown_url}. Nothing was changed.",
        why=why,
        next_step=f"Check that {look}.",
    )


def damaged(why: str) -> DatabaseDamaged:
    """What is said of a database that holds something which cannot be read, or lacks a table."""
    return DatabaseDamaged("The service's database is damaged. Nothing was changed.", why=why, next_step=RESTORE)


def _said(problem: SQLAlchemyError) -> str:
    return str(getattr(problem, "orig", None) or problem).splitlines()[0]


def _is_damage(problem: SQLAlchemyError) -> bool:
    return isinstance(problem, DBAPIError) and (sqlite.is_damage(problem) or postgresql.is_damage(problem))


@contextmanager
def _answered() -> Iterator[None]:
    """Turn what says nothing about the question into DatabaseSilent, where the database does not answer it now, or DatabaseDamaged."""
    try:
        yield
    except (DBAPIError, NoConnectionFree) as problem:
        if _is_damage(problem):
            raise damaged(_said(problem)) from problem
        if isinstance(problem, OperationalError | NoConnectionFree) or problem.connection_invalidated or postgresql.is_not_now(problem):
            raise _silent(problem) from problem
        raise


def _silent(problem: Exception) -> DatabaseSilent:
    LOG.warning("the database does not answer: %s", getattr(problem, "orig", None) or problem)  # names addresses that are not for everybody who is told
    return DatabaseSilent("The database does not answer.", why="it is busy, or cannot be reached", next_step="Try again in a moment.")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return None if found is None else str(found)


def _engine(url: str) -> Engine:
    """Takes no text that holds a NUL: PostgreSQL keeps none, and SQLite would. Who gives one is told by a ValueError, whichever way it came."""
    engine = (sqlite if url.startswith("sqlite") else postgresql).open_engine(url, BUSY_SECONDS)

    @event.listens_for(engine, "before_cursor_execute")
    def refuse_nul(_connection: Any, _cursor: Any, _statement: Any, parameters: Any, _context: Any, many: bool) -> None:
        for row in parameters if many else (parameters,):
            if any(isinstance(value, str) and "\0" in value for value in (row.values() if isinstance(row, dict) else row)):
                raise ValueError(NUL)

    return engine
