"""Rows of a resumable benchmark that belong into one table."""

from pathlib import Path
from typing import Any

from workspace.files import rows_of


def newest_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of whatever code wrote the last one: what a table of this benchmark was made of."""
    kept = rows_of(path)
    return rows_of_code(path, kept[-1].get("code")) if kept else []


def rows_of_code(path: Path, code: str | None) -> list[dict[str, Any]]:
    """The rows that this code made (None: those of before rows told it); the others stay in the file, and are neither counted nor shown beside them."""
    return [row for row in rows_of(path) if row.get("code") == code]
