"""PostgreSQL as the service's database: one writer and one service at a time by advisory locks, and no wait without an end."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from workspace.errors import WorkspaceError, shown_address

if TYPE_CHECKING:
    from psycopg import Connection as Driver

WRITE_LOCK = 0x56494749  # one writer, as SQLite has it
SERVE_LOCK = 0x56494753  # one service
CONNECT_SECONDS = 5
UTF8 = "UTF8"
FOR_A_CONNECTION, FOR_A_LOCK = 1 / 3, 2 / 3  # of the seconds that SQLite would wait: who needs both waits no longer than that
NOT_NOW = ("25006", "25P03", "25P04")
DAMAGE = ("42P01", "58P01", "XX001", "XX002")  # no such table, its file is gone, data or an index that cannot be read
HOLDER = """SELECT coalesce(min(a.application_name), 'a service that has just ended') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objid = %s AND l.objsubid = 1 AND a.datname = current_database()"""


def open_engine(url: str, busy_seconds: int) -> Engine:
    """Waits for nothing longer than `busy_seconds`: a connection, a lock, a server that is stopped or gone. What the address says itself, stands.

    To connect raises WorkspaceError where the database's encoding has not every letter.
    """
    longest = max(int(busy_seconds * 1000), 1)  # milliseconds; 0 would be for ever
    impatient = _impatient(longest / 1000)
    pool: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 8, "max_overflow": 8, "pool_timeout": busy_seconds * FOR_A_CONNECTION}
    engine = create_engine(url, hide_parameters=True, connect_args=_connecting(url, longest), **pool)  # as SQLite's: names and notes belong in no log

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, words: Any, more: Any) -> Any:
        connection = impatient.connect(*words, **more)
        encoding = connection.info.parameter_status("server_encoding") or UTF8
        if encoding != UTF8:
            connection.close()
            raise _lacks_letters(url, encoding)
        return connection

    return engine


def _lacks_letters(url: str, encoding: str) -> WorkspaceError:
    return WorkspaceError(
        f"Cannot use the database {shown_address(url)}. Nothing was changed.",
        why=f"its encoding is {encoding}, in which not every name and note can be written",
        next_step=f"Make one with `createdb -E {UTF8} -T template0 NAME` and name that; what this one holds is carried over by pg_dump and psql.",
    )


def _connecting(url: str, longest: int) -> dict[str, Any]:
    """What a connection asks of the driver, and in `options` of the server, for waits of `longest` milliseconds."""
    # of the server: also of a machine that is gone and holds the write lock
    options = {
        "lock_timeout": max(int(longest * FOR_A_LOCK), 1),
        "statement_timeout": longest,
        "tcp_keepalives_idle": 30,
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 3,
    }
    connecting: dict[str, Any] = {
        "client_encoding": UTF8,  # whatever PGCLIENTENCODING says
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": longest,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    asked = make_url(url).query
    connecting = {name: value for name, value in connecting.items() if name not in asked}
    connecting["options"] = " ".join([*(f"-c {name}={value}" for name, value in options.items()), str(asked.get("options", ""))]).strip()
    return connecting


def _impatient(seconds: float) -> "type[Driver[Any]]":
    import psycopg

    class Impatient(psycopg.Connection[Any]):
        """Gives up on a server that takes what is sent and never answers: nothing in the network between would end that wait."""

        patience_seconds: float | None = seconds

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, self.patience_seconds if timeout is None else timeout)
            except psycopg.OperationalError as problem:
                if problem.sqlstate is None:  # not from the server: it may answer another time, but what?
                    self.close()
                raise

    return Impatient


def be_patient(connection: Connection) -> None:
    """Let this transaction take its time, and this connection from now on: a large database is migrated."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.connection.driver_connection.patience_seconds = None  # type: ignore[union-attr]


def is_not_now(problem: DBAPIError) -> bool:
    """Whether it only reads (after a failover), or has ended a transaction that took long; to the driver these are no OperationalError."""
    return getattr(problem.orig, "sqlstate", "") in NOT_NOW


def is_damage(problem: DBAPIError) -> bool:
    """Whether something in it cannot be read, or a table is gone."""
    return getattr(problem.orig, "sqlstate", "") in DAMAGE


def lock_writes(connection: Connection) -> None:
    """Be the one writer until the transaction ends."""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")


def identity(connection: Connection) -> str:
    """Which database of which server this is, however it is addressed; '' where this user may not ask.

    A copy of the server's files has the same (a replica that takes over, a restored snapshot); what a dump was restored into has not, nor an upgraded server.
    """
    if not connection.exec_driver_sql("SELECT has_function_privilege('pg_control_system()', 'execute')").scalar_one():
        return ""
    asked = "SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) FROM pg_control_system()"
    return str(connection.exec_driver_sql(asked).scalar_one())


@contextmanager
def serving_alone(engine: Engine, url: str) -> Iterator[None]:
    """Be the one service of this database, at `url`, whichever machine asks. Raises WorkspaceError.

    It ends with the connection: after the server was started anew, it holds nobody off until the service is, too.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # the lock is the connection's: none that others use may have it
        served_by = f"vigil serve on {socket.gethostname()} ({url})"[:63]  # PostgreSQL keeps 63 bytes
        connection.exec_driver_sql("SELECT set_config('application_name', %s, false), set_config('lock_timeout', '3s', false)", (served_by,))
        try:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({SERVE_LOCK})")
        except OperationalError as problem:
            raise _served_already(connection) from problem
        yield


def refuse_served(connection: Connection) -> None:
    """Raise WorkspaceError where a service has this database; until the transaction ends none gets it."""
    if not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({SERVE_LOCK})").scalar_one():
        raise _served_already(connection)


def _served_already(connection: Connection) -> WorkspaceError:
    holder = connection.exec_driver_sql(HOLDER, (SERVE_LOCK,)).scalar_one()
    return WorkspaceError("This database is served already. Nothing was changed.", why=f"by {holder}", next_step="End that service first.")
