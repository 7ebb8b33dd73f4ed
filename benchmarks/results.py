"""The rows of a resumable benchmark: what was measured before is read, each new row is on disk before the next is begun."""

from pathlib import Path
from typing import Any

from workspace.files import add_row, rows_of

__all__ = ["add_row", "rows_of", "rows_of_code"]


def rows_of_code(path: Path, code: str) -> list[dict[str, Any]]:
    """The rows that this code made; those of other code stay in the file, and are neither counted nor shown beside them."""
    return [row for row in rows_of(path) if row.get("code") == code]
