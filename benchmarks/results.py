"""The rows of a resumable benchmark: what was measured before is read, each new row is on disk before the next is begun."""

import json
from pathlib import Path
from typing import Any


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a results file, none before the first."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row."""
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")


def rows_of_code(path: Path, code: str) -> list[dict[str, Any]]:
    """The rows that this code made; those of other code stay in the file, and are neither counted nor shown beside them."""
    return [row for row in rows_of(path) if row.get("code") == code]
