"""A table as JSON: a list of objects, an object of objects by path, or a line an object (JSON lines). Read like a CSV table."""

import json
from pathlib import Path
from typing import Any

from pipelines.layouts.csv_table import columns_of, listing_of
from pipelines.layouts.found import no_key_twice, read_json_table
from pipelines.layouts.listing import Listing
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
    theirs = columns_of(source)
    single = {their for name, their in theirs.items() if name not in ("attributes", "case_id")}  # a column `case_id` of a stranger is not read
    rows = []
    for number, entry in enumerate(content, start=1):
        words = {key: _word(value, (their := str(key).strip().lower()) in single, their == theirs["attributes"]) for key, value in entry.items()}
        if many := next((key for key, word in words.items() if word is None), None):
            raise DataError(
                f"Cannot use the table {path}. Nothing was read from it.",
                why=f"{many!r} of entry {number} is no single word",
                next_step="Write one word there, and an entry for each file; `attributes` alone may be a list of words.",
            )
        rows.append({str(key).strip().lower(): word or "" for key, word in words.items()})
    if wrong := next((number for number, (row, said) in enumerate(zip(rows, content, strict=True), start=1) if len(row) < len(said)), 0):
        raise DataError(
            f"Cannot use the table {path}. Nothing was read from it.",
            why=f"entry {wrong} says one key more than once: capitals, and blanks around it, make no difference",
            next_step="Keep one of them.",
        )
    return listing_of(source, path, rows, list(dict.fromkeys(key for row in rows for key in row)), numbers=range(1, len(rows) + 1), word="entry")


def _word(value: Any, single: bool, listed: bool) -> str | None:
    """What a value says as a word of a table; None where it is a list or an object, but a `single` word is wanted, or a list of words (`listed`)."""
    if listed and not single and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join("_".join(one.split()) for one in value)  # a blank would make two attributes of one
    if (single or listed) and isinstance(value, list | dict):
        return None
    return "" if value is None or value != value else str(value).strip()  # NaN, as pandas writes an empty cell


def _lines(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a string may hold other characters that end a line elsewhere
        return [json.loads(line, object_pairs_hook=no_key_twice) for line in lines if line.strip()]
    except (ValueError, RecursionError) as problem:
        raise DataError(f"Cannot read the table {path}.", why=f"not JSON lines: {problem}", next_step="Write one JSON object a line, in UTF-8.") from problem
