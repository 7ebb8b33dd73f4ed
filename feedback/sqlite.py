"""SQLite as the service's database: one file, which many read while one writes, and its log beside it."""

import logging
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

LOG = logging.getLogger("vigil.database")
EMPTY_MILLISECONDS = 2000
UNREADABLE = "Could not decode"  # of bytes that are no text
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
CLOSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


def open_engine(url: str, busy_seconds: int) -> Engine:
    """Makes the file where there is none. Waits for `busy_seconds` while another writes."""
    path = Path(make_url(url).database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with suppress(OSError):  # SQLite says what is wrong in its own words
            path.touch(mode=0o600)  # accounts are for nobody else on this machine; the files that SQLite puts beside it follow
    # as many connections as there are threads: those that wait to write keep theirs, and who only reads must not wait for one
    # what people are called and wrote belongs in no log: hide_parameters
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": busy_seconds, "check_same_thread": False}, max_overflow=-1)
    first = threading.Lock()

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours (below), not the driver's
        with first:  # two connections that turn on WAL at once lock each other out
            # secure_delete: what is erased is overwritten; not every SQLite does so by itself
            for pragma in ("foreign_keys=ON", f"busy_timeout={busy_seconds * 1000}", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("vigil_begin", "BEGIN"))

    return engine


def is_damage(problem: DBAPIError) -> bool:
    """Whether something in the file cannot be read, or a table is gone; the driver calls some of it an OperationalError, as where the file is busy."""
    code = getattr(problem.orig, "sqlite_errorcode", 0) & 0xFF
    return code in DAMAGE or str(problem.orig).startswith(("no such table", UNREADABLE))


def is_closed(problem: DBAPIError) -> bool:
    """Whether the file, or one beside it, may not be opened or written by this user."""
    return getattr(problem.orig, "sqlite_errorcode", 0) & 0xFF in CLOSED


def empty_log(engine: Engine, busy_seconds: int) -> None:
    """Have nothing that was erased be left in the log, which keeps it until as much again was written. Where others do not stop reading, later."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={EMPTY_MILLISECONDS}")  # writers wait meanwhile
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        cursor.execute(f"PRAGMA busy_timeout={busy_seconds * 1000}")
    except sqlite3.Error as problem:  # what was written stands
        LOG.warning("SQLite's log could not be emptied: %s", problem)
        connection.invalidate()
    finally:
        connection.close()
