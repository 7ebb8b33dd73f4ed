"""The database of the feedback service: SQLite in the workspace, or PostgreSQL by URL, brought up to date when it is opened.

Every change is one transaction that takes the write lock first (BEGIN IMMEDIATE, or an advisory lock), so what a
transaction reads cannot change before it writes, with any number of threads and processes, in both databases alike.
"""

import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from feedback.belonging import NOTE, SERVE_LOCK, bind, refuse_forgotten, refuse_other, served_already, served_by
from workspace.errors import DatabaseSilent, WorkspaceError, without_passwords
from workspace.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

LOG = logging.getLogger("vigil.database")
DATABASE = Path("feedback.db")
URL_VARIABLE = "VIGIL_DATABASE_URL"
BUSY_SECONDS = 30
EMPTY_MILLISECONDS = 2000
WRITE_LOCK = 0x56494749  # of PostgreSQL's advisory locks: one writer at a time, as SQLite has it
ID = r"[0-9a-f]{32}"  # what new_id makes
MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_SECONDS = 5
FOR_A_CONNECTION, FOR_A_LOCK = 1 / 3, 2 / 3  # of BUSY_SECONDS: who needs both waits no longer than for SQLite
# PostgreSQL only reads (after a failover), or has ended a transaction that took long; to the driver these are no OperationalError
NOT_NOW = ("25006", "25P03", "25P04")


class Database:
    """A pool of connections to one service's database. Safe to use from several threads; make one in each process."""

    def __init__(self, root: Path, settings: Settings, take_over: bool = False) -> None:
        """Open, create or migrate. Raises WorkspaceError where the database cannot be reached, is newer than this Vigil, or not this workspace's.

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
        return _shown(self.url)

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
        """A consistent look. Raises DatabaseSilent."""
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
        """One transaction that holds the write lock from its first statement; rolled back when the block raises. Raises DatabaseSilent."""
        with _answered(), self._transaction() as connection:
            yield connection

    def empty_log(self) -> None:
        """Have nothing that was erased be left in SQLite's log, which keeps it until as much again was written. Where others do not stop reading, later."""
        if not self.is_sqlite:
            return
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout={EMPTY_MILLISECONDS}")  # writers wait meanwhile
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        except sqlite3.Error as problem:  # what was written stands
            LOG.warning("SQLite's log could not be emptied: %s", problem)
            connection.invalidate()
        finally:
            connection.close()

    @contextmanager
    def serving_alone(self, url: str) -> Iterator[None]:
        """Be the one service of a PostgreSQL, whichever machine asks; of an SQLite the workspace's lock sees to that. Raises WorkspaceError.

        It ends with the connection: after the server was started anew, it holds nobody off until the service is, too.
        """
        if self.is_sqlite:
            yield
            return
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.detach()  # the lock is the connection's: none that others use may have it
            connection.exec_driver_sql("SELECT set_config('application_name', %s, false), set_config('lock_timeout', '3s', false)", (served_by(url),))
            try:
                connection.exec_driver_sql(f"SELECT pg_advisory_lock({SERVE_LOCK})")
            except OperationalError as problem:
                raise served_already(connection) from problem
            yield

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self.engine.execution_options(vigil_begin="BEGIN IMMEDIATE").begin() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
            yield connection

    def _migrate(self, take_over: bool) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it announces each plug-in as it is imported
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        script = ScriptDirectory.from_config(config)
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

        _refuse_newer(now, script, self.shown_url)
        config.attributes["connection"] = connection
        if not self.is_sqlite:  # of a large database this takes its time
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.connection.driver_connection.patience_seconds = None  # type: ignore[union-attr]
        if now is None and inspect(connection).has_table("detections"):
            command.stamp(config, "0001")  # a database from before migrations were kept
        command.upgrade(config, "head")


def database_url(root: Path, settings: Settings) -> str:
    """The environment's, else the settings', else SQLite in the workspace.

    Raises WorkspaceError for what is not a database address, and where none is named although this workspace has a database elsewhere.
    """
    url = _named_url(root, settings)
    if _is_embedded(url, root):
        refuse_forgotten(root, URL_VARIABLE)
    return url


def _named_url(root: Path, settings: Settings) -> str:
    url = os.environ.get(URL_VARIABLE) or settings.feedback.database_url or f"sqlite:///{root / DATABASE}"
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
    return parsed.render_as_string(hide_password=False)


def schema_behind(root: Path, settings: Settings) -> tuple[str, str] | None:
    """(what the database has, what this Vigil wants) where opening it would migrate it; None where there is none, or nothing to do. Reads only.

    Raises WorkspaceError where the database cannot be reached or is newer than this Vigil.
    """
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    if not exists(root, settings):
        return None
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    head = str(script.get_current_head())
    url = database_url(root, settings)
    engine = create_engine(url) if url.startswith("sqlite") else _postgresql(url)  # the service's own settings of SQLite would write to the file
    try:
        with engine.connect() as connection:
            if not _is_embedded(url, root):
                refuse_other(connection, root, _shown(url), root / DATABASE)
            now = _revision(connection) or ("0001" if inspect(connection).has_table("detections") else "none")
    except SQLAlchemyError as problem:
        raise _unusable(_shown(url), problem) from problem
    finally:
        engine.dispose()
    if now != "none":
        _refuse_newer(now, script, _shown(url))
    return None if now == head else (now, head)


def _refuse_newer(now: str | None, script: "ScriptDirectory", shown_url: str) -> None:
    if now is not None and now not in {revision.revision for revision in script.walk_revisions()}:
        raise WorkspaceError(
            f"Cannot use {shown_url}. Nothing was changed.",
            why=f"its schema is {now}, which this Vigil does not know",
            next_step="Use the newer Vigil that wrote it.",
        )


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


def _shown(url: str) -> str:
    return without_passwords(make_url(url).render_as_string(hide_password=True))


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


def _unusable(shown_url: str, problem: SQLAlchemyError) -> WorkspaceError:
    return WorkspaceError(
        f"Cannot use the database {shown_url}. Nothing was changed.",
        why=str(getattr(problem, "orig", None) or problem).splitlines()[0],
        next_step=f"Check that it runs and that {URL_VARIABLE} or feedback.database_url names it.",
    )


@contextmanager
def _answered() -> Iterator[None]:
    """Turn what says nothing about the question, but that the database does not answer it now, into DatabaseSilent."""
    try:
        yield
    except (DBAPIError, NoConnectionFree) as problem:
        if isinstance(problem, OperationalError | NoConnectionFree) or problem.connection_invalidated or getattr(problem.orig, "sqlstate", "") in NOT_NOW:
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
    if not url.startswith("sqlite"):
        return _postgresql(url)
    path = Path(make_url(url).database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with suppress(OSError):  # SQLite says what is wrong in its own words
            path.touch(mode=0o600)  # accounts are for nobody else on this machine; the files that SQLite puts beside it follow
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    first = threading.Lock()

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours (below), not the driver's
        with first:  # two connections that turn on WAL at once lock each other out
            # secure_delete: what is erased is overwritten; not every SQLite does so by itself
            for pragma in ("foreign_keys=ON", f"busy_timeout={BUSY_SECONDS * 1000}", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("vigil_begin", "BEGIN"))

    return engine


def _postgresql(url: str) -> Engine:
    """Waits for nothing longer than for SQLite: a connection, a lock, a server that is stopped or gone. What the address says itself, stands."""
    import psycopg

    longest = max(int(BUSY_SECONDS * 1000), 1)  # 0 would be for ever
    # of the server: also of a machine that is gone and holds the write lock
    options = {
        "lock_timeout": max(int(longest * FOR_A_LOCK), 1),
        "statement_timeout": longest,
        "tcp_keepalives_idle": 30,
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 3,
    }
    connecting: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": longest,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    asked = make_url(url).query
    connecting = {name: value for name, value in connecting.items() if name not in asked}
    connecting["options"] = " ".join([*(f"-c {name}={value}" for name, value in options.items()), str(asked.get("options", ""))]).strip()

    class Impatient(psycopg.Connection[Any]):
        """Gives up on a server that takes what is sent and never answers: nothing in the network between would end that wait."""

        patience_seconds: float | None = longest / 1000

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, self.patience_seconds if timeout is None else timeout)
            except psycopg.OperationalError as problem:
                if problem.sqlstate is None:  # not from the server: it may answer another time, but what?
                    self.close()
                raise

    pool: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 8, "max_overflow": 8, "pool_timeout": BUSY_SECONDS * FOR_A_CONNECTION}
    engine = create_engine(url, connect_args=connecting, **pool)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, words: Any, more: Any) -> Any:
        return Impatient.connect(*words, **more)

    return engine
