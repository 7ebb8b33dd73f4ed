"""The audit trail: append-only, each entry sealed with the hash of the one before, so that a change anywhere shows.

An entry is written in the transaction of what it tells: there is no verdict, label or deletion without its entry, and no
entry of something that did not happen. The hash is SHA-256 over the entry's canonical JSON (sorted keys, no spaces) and the
hash before; the first entry follows 64 zeros. Whoever can rewrite the whole table can rewrite the whole chain: keep the
last hash elsewhere (`vigil audit verify` prints it) and verify against it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from feedback.database import Database, now
from feedback.sqlite import UNREADABLE
from feedback.tables import AUDIT, USERS

FIRST = "0" * 64
PAGE = 5000


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at the whole chain showed. `broken_at` is the number of the first entry that does not fit, 0 for none."""

    entries: int
    last_hash: str
    broken_at: int = 0
    why: str = ""


def append(connection: Connection, who: str, action: str, object_: str, detail: Mapping[str, Any] | None = None) -> None:
    """Add an entry inside the transaction `connection`, which holds the write lock (Database.write). `detail` is plain JSON."""
    last = connection.execute(select(AUDIT.c.number, AUDIT.c.hash).order_by(AUDIT.c.number.desc()).limit(1)).one_or_none()
    number, previous = (1, FIRST) if last is None else (int(last.number) + 1, str(last.hash))
    entry = {"number": number, "at": now(), "who": who, "action": action, "object": object_, "detail": dict(detail or {}), "previous": previous}
    connection.execute(AUDIT.insert().values(**entry, hash=_hash(entry)))


def verify(database: Database, expect_last: str = "") -> Verified:
    """Walk the whole chain. `expect_last` is a hash noted earlier that must still be in it."""
    previous, count, met, page = FIRST, 0, not expect_last or expect_last == FIRST, PAGE
    with database.read() as connection:
        if connection.execute(select(AUDIT.c.number).where(AUDIT.c.number < 1).limit(1)).first() is not None:
            return Verified(0, previous, 1, "there is an entry before the first")
        while True:
            try:
                rows = connection.execute(select(AUDIT).where(AUDIT.c.number > count).order_by(AUDIT.c.number).limit(page)).mappings().all()
                sealed = [_hash(dict(row)) for row in rows]
            except (ValueError, TypeError, RecursionError, OperationalError) as problem:  # of a page that cannot be read, each entry before the one that cannot
                if isinstance(problem, OperationalError) and UNREADABLE not in str(problem):
                    raise
                if page == 1:
                    return Verified(count, previous, count + 1, "the entry or one before it was changed: it cannot be read")
                page = 1
                continue
            if not rows:
                break
            for row, seal in zip(rows, sealed, strict=True):
                if row["number"] != count + 1:
                    return Verified(count, previous, count + 1, f"entry {count + 1} is missing")
                if row["previous"] != previous or seal != row["hash"]:
                    return Verified(count, previous, count + 1, "the entry or one before it was changed")
                count, previous = count + 1, row["hash"]
                met = met or previous == expect_last
        missing = not count and connection.execute(select(USERS.c.id).where(USERS.c.password_hash != "").limit(1)).first() is not None
    if missing:
        return Verified(0, previous, 1, "entry 1 is missing, and there are accounts: to make one writes an entry")
    if not met:
        return Verified(count, previous, count + 1, "the hash noted earlier is not in the chain: its end was cut off or rewritten")
    return Verified(count, previous)


def entries(connection: Connection, object_: str | None = None, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """The newest entries first, of one object or of all; `before` is the number to go on below."""
    query = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit)
    if object_ is not None:
        query = query.where(AUDIT.c.object == object_)
    if before is not None:
        query = query.where(AUDIT.c.number < before)
    return [dict(row) for row in connection.execute(query).mappings()]


def holds(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is what its own hash was made of; whether it stands where it stood is for `verify`."""
    return bool(_hash(entry) == entry["hash"])


def _hash(entry: Mapping[str, Any]) -> str:
    told = {name: entry[name] for name in ("number", "at", "who", "action", "object", "detail", "previous")}
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()
