"""Rows of a resumable benchmark that belong into one table."""

from pathlib import Path
from typing import Any

from workspace.files import rows_of


def is_made_by(mark: Path, code: str) -> bool:
    """Whether what `mark` lies in was made, to its end, by this code: a benchmark writes the code there last."""
    return mark.is_file() and mark.read_text() == code


def newest_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of whatever code wrote the last one: what a table of this benchmark was made of."""
    kept = rows_of(path)
    return rows_of_code(path, kept[-1].get("code")) if kept else []


def rows_of_code(path: Path, code: str | None) -> list[dict[str, Any]]:
    """The rows that this code made (None: those of before rows told it); the others stay in the file, and are neither counted nor shown beside them."""
    return [row for row in rows_of(path) if row.get("code") == code]
