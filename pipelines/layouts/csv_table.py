"""A table: a CSV file with the columns path,label and whatever else is known. Paths are relative to the table's folder."""

import csv
from pathlib import Path

from pipelines.layouts.found import TABLE_NAME, Found, Listing, problem_of
from workspace.errors import DataError
from workspace.settings import SourceSettings

OPTIONAL = ("use", "identity", "donor", "generator", "source_video", "method", "compression", "licence", "case_id")
USES = ("train", "evaluate", "never")
MOST_NAMED = 5


def recognises(path: Path) -> bool:
    """Whether `path` is a CSV file, or a folder with a labels.csv: a table knows more than folder names do."""
    return path.suffix.lower() == ".csv" or (path / TABLE_NAME).is_file()


def read(source: SourceSettings, path: Path) -> Listing:
    """One Found a row; other columns are ignored. Raises DataError for a table whose words cannot be understood.

    Labels are real, fake or empty, or go through the source's `label_map`. Numbers without a map are refused: nobody can
    tell from 0 and 1 which is which.
    """
    table = path / TABLE_NAME if path.is_dir() else path
    rows = _rows(table)
    mistakes: list[str] = []
    listing = Listing(names_people=bool(rows) and "identity" in rows[0])
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        name = row.get("path", "").replace("\\", "/")
        if not name:
            mistakes.append(f"line {number}: no path")
        elif name in seen:
            mistakes.append(f"line {number}: {name} stands in the table twice")
        seen.add(name)
        label = row.get("label", "")
        label = source.label_map[label] if label in source.label_map else label.lower()
        if label not in ("real", "fake", ""):
            mistakes.append(f"line {number}: label {label!r} is not real, fake or empty, and label_map does not name it")
        use = row.get("use", "").lower()
        if use and use not in USES:
            mistakes.append(f"line {number}: use {use!r} is not one of {', '.join(USES)}")
        known = {key: row.get(key, "") for key in OPTIONAL if key != "use"}
        file = table.parent / name
        outside = "path leads outside the source" if Path(name).is_absolute() or ".." in Path(name).parts else ""
        person = file.parent.name if "/" in name else ""
        listing.files.append(Found(path=file, name=name, label=label, use=use, folder=person, problem=outside or problem_of(file, table.parent), **known))
    if mistakes:
        more = f"\n        and {len(mistakes) - MOST_NAMED} more" if len(mistakes) > MOST_NAMED else ""
        raise DataError(
            f"Cannot use the table {table}. Nothing was ingested from it.",
            why="\n        ".join(mistakes[:MOST_NAMED]) + more,
            next_step="Mend these lines, or say what its labels mean: `label_map: {'0': real, '1': fake}` in the source's settings.",
        )
    return listing


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with open(table, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = [column.strip().lower() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            missing = [column for column in ("path", "label") if column not in columns]
            rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str) and not isinstance(value, list)} for row in reader]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"Cannot read the table {table}.", why=str(problem), next_step="Save it as a CSV file in UTF-8.") from problem
    if missing:
        raise DataError(
            f"Cannot use the table {table}. Nothing was ingested from it.",
            why=f"no column {' and no column '.join(missing)}; it has {', '.join(columns) or 'none'}",
            next_step="Name the columns in its first line: path,label,use,identity,generator,...",
        )  # fmt: skip
    return rows
