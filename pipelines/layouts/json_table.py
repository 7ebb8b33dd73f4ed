"""A table as JSON: a list of objects, an object of objects by path, or a line an object (JSON lines). Read like a CSV table."""

import json
from pathlib import Path
from typing import Any

from pipelines.layouts.csv_table import listing_of
from pipelines.layouts.found import Listing, no_key_twice, read_json_table
from workspace.errors import DataError
from workspace.settings import SourceSettings

SUFFIXES = (".json", ".jsonl")


def recognises(path: Path) -> bool:
    """Whether `path` is a JSON file; a folder is never taken for one."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read(source: SourceSettings, path: Path) -> Listing:
    """One Found an object. Raises DataError for a file that is no such table, or whose words cannot be understood."""
    if not path.is_file():
        raise DataError(f"{path} is not a JSON file.", why="layout `json` reads one file", next_step="Name the file itself.")
    content: Any = _lines(path) if path.suffix.lower() == ".jsonl" else read_json_table(path, list, dict)
    if isinstance(content, dict):
        content = [{"path": name, **about} if isinstance(about, dict) else about for name, about in content.items()]
    if wrong := next((number for number, row in enumerate(content, start=1) if not isinstance(row, dict)), 0):
        raise DataError(
            f"Cannot use the table {path}. Nothing was read from it.",
            why=f"entry {wrong} is no object",
            next_step='Write [{"path": ..., "label": ...}, ...].',
        )
    single = {source.columns.get(name, name).strip().lower() for name in ("path", "label")}
    for number, row in enumerate(content, start=1):
        if many := next((key for key, value in row.items() if str(key).strip().lower() in single and isinstance(value, list | dict)), ""):
            raise DataError(
                f"Cannot use the table {path}. Nothing was read from it.",
                why=f"{many!r} of entry {number} is no single word",
                next_step="Write an entry for each file.",
            )
    rows = [{str(key).strip().lower(): "" if value is None else str(value).strip() for key, value in row.items()} for row in content]
    if wrong := next((number for number, (row, said) in enumerate(zip(rows, content, strict=True), start=1) if len(row) < len(said)), 0):
        raise DataError(
            f"Cannot use the table {path}. Nothing was read from it.",
            why=f"entry {wrong} says one key more than once: capitals, and blanks around it, make no difference",
            next_step="Keep one of them.",
        )
    return listing_of(source, path, rows, list(dict.fromkeys(key for row in rows for key in row)), first=1, word="entry")


def _lines(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a string may hold other characters that end a line elsewhere
        return [json.loads(line, object_pairs_hook=no_key_twice) for line in lines if line.strip()]
    except (ValueError, RecursionError) as problem:
        raise DataError(f"Cannot read the table {path}.", why=f"not JSON lines: {problem}", next_step="Write one JSON object a line, in UTF-8.") from problem
