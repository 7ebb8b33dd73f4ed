"""A table: a CSV file with the columns path,label and whatever else is known. Paths are relative to the table's folder, or lie in it."""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipelines.layouts.found import TABLE_NAME, Found, problem_of
from pipelines.layouts.listing import Listing
from workspace.errors import DataError
from workspace.settings import SourceSettings

OPTIONAL = ("use", "identity", "donor", "generator", "source_video", "method", "compression", "licence", "consent", "case_id", "attributes")
USES = ("train", "evaluate", "never")
MOST_NAMED = 5
HALF = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")  # JSON can write it, and nothing can store it; what is left out stands for bytes that are no UTF-8


def recognises(path: Path) -> bool:
    """Whether `path` is a CSV file, or a folder with a labels.csv: a table knows more than folder names do."""
    return (path.suffix.lower() == ".csv" and not path.is_dir()) or (path / TABLE_NAME).is_file()


def read(source: SourceSettings, path: Path) -> Listing:
    """One Found a row; other columns are ignored. Raises DataError for a table whose words cannot be understood.

    Labels are real, fake or empty, or go through the source's `label_map`. Numbers without a map are refused: nobody can
    tell from 0 and 1 which is which. The source's `columns` says what the table calls a column.
    """
    table = path / TABLE_NAME if path.is_dir() else path
    if path.is_dir() and not os.path.lexists(table):
        raise DataError(
            f"{path} has no {TABLE_NAME}.",
            why=f"layout `csv` reads one file, or a folder with {TABLE_NAME}",
            next_step="Name the file itself, or another layout.",
        )
    if table.exists() and not table.is_file():  # to open a pipe would be to wait for whoever writes into it
        raise DataError(f"{table} is not a CSV file.", why="it is no regular file; pipes and devices are never read", next_step="Name a file.")
    rows: list[dict[str, str]] = []
    lines: list[int] = []  # in which each row ends: blank lines are no rows, and a quoted field may have several
    shifted: list[str] = []
    try:
        with open(table, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)  # else a quote that nobody closes takes in the rest of the table
            columns = [column.strip().lower() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            for row in reader:
                lines.append(reader.line_num)
                if beyond := row.pop(None, []):
                    fields = f"{len(columns) + len(beyond)} fields, the table has {len(columns)} columns"
                    shifted.append(f"line {lines[-1]}: {fields}; put quotes round a field with a comma, and no comma at the end")
                rows.append({key: (value or "").strip() for key, value in row.items()})
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"Cannot read the table {table}.", why=str(problem), next_step="Save it as a CSV file in UTF-8, every quote closed.") from problem
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        raise DataError(
            f"Cannot use the table {table}. Nothing was read from it.",
            why=f"its first line is one column: {columns[0]!r}",
            next_step="Save it with commas between the columns.",
        )
    if twice := [name for name, times in Counter(columns).items() if name and times > 1]:
        raise DataError(
            f"Cannot use the table {table}. Nothing was read from it.",
            why=f"more than one column is called {twice[0]}: capitals, and blanks around it, make no difference",
            next_step="Keep one of them.",
        )
    return listing_of(source, table, rows, columns, numbers=lines, word="line", mistakes=shifted)


def columns_of(source: SourceSettings) -> dict[str, str]:
    """What the source's table calls each column that is read, in lower case."""
    called = {str(name): their for name, their in source.columns.items()}
    return {name: called.get(name, name).strip().lower() for name in ("path", "label", *OPTIONAL)}


def listing_of(
    source: SourceSettings, table: Path, rows: list[dict[str, str]], columns: Sequence[str], *, numbers: Iterable[int], word: str, mistakes: Sequence[str] = ()
) -> Listing:
    """The files that the rows of a table name. `columns` are its own, in lower case; `numbers` say which `word` of it each row is.

    Raises DataError, naming at most MOST_NAMED mistakes, those that were found before (`mistakes`) first.
    """
    theirs = columns_of(source)
    missing = {name: theirs[name] for name in ("path", "label", *map(str, source.columns)) if theirs[name] not in columns}
    if missing:
        words = " ".join(f"--column {name}=..." for name in missing)
        raise DataError(
            f"Cannot use the table {table}. Nothing was read from it.",
            why=f"no column {' and no column '.join(dict.fromkeys(missing.values()))}; it has {', '.join(columns) or 'none'}",
            next_step=f"Name the columns path,label,use,identity,generator,... or say what yours are called: `{words}`.",
        )  # fmt: skip
    mistakes = [*mistakes]
    meaning = {name.lower(): label for name, label in source.label_map.items()} | source.label_map  # without capitals, where none is spelled like it
    unnamed = False  # whether a label was among them
    listing = Listing(names_people=theirs["identity"] in columns, is_table=True)
    seen: set[str] = set()
    here = os.path.realpath(table.parent)
    for number, row in zip(numbers, rows, strict=True):
        row = {name: row.get(their, "") for name, their in theirs.items()}
        if "\0" in row["path"]:
            mistakes.append(f"{word} {number}: a null byte in its path")
            continue
        if half := next((theirs[name] for name, said in row.items() if HALF.search(said)), ""):
            mistakes.append(f"{word} {number}: half a character in its {half}, as of an emoji that was cut in two")
            continue
        name = _spelled(here, table.parent, row["path"]) if row["path"] else ""
        if not name:
            mistakes.append(f"{word} {number}: no path")
        elif name in seen:
            mistakes.append(f"{word} {number}: {name} stands in the table twice")
        seen.add(name)
        label = meaning.get(row["label"], meaning.get(row["label"].lower(), row["label"].lower()))
        if label not in ("real", "fake", ""):
            unnamed = True
            mistakes.append(f"{word} {number}: label {row['label']!r} is not real, fake or empty, and label_map does not name it")
        use = row["use"].lower()
        if use and use not in USES:
            mistakes.append(f"{word} {number}: use {use!r} is not one of {', '.join(USES)}")
        known = {key: row[key] for key in OPTIONAL if key != "use"}
        file = table.parent / name
        outside = "path leads outside the source" if Path(name).is_absolute() or ".." in Path(name).parts else ""
        person = file.parent.name if "/" in name else ""
        listing.files.append(Found(path=file, name=name, label=label, use=use, folder=person, problem=outside or problem_of(file, table.parent), **known))
    listing.files = [replace(found, source_video=_file_meant(here, table.parent, found.source_video, seen)) for found in listing.files]
    if mistakes:
        more = f"\n        and {len(mistakes) - MOST_NAMED} more" if len(mistakes) > MOST_NAMED else ""
        raise DataError(
            f"Cannot use the table {table}. Nothing was read from it.",
            why="\n        ".join(mistakes[:MOST_NAMED]) + more,
            next_step=f"Mend the table{', or say what its labels mean: `--label 1=fake --label 0=real` (`label_map` of a source in params.yaml)' * unnamed}.",
        )
    return listing


def _file_meant(here: str, folder: Path, video: str, names: Collection[str]) -> str:
    """A source video as the table's own file of that path is called (`names`), however the table spells either; any other name as it is."""
    if not video or video in names or "\0" in video:
        return video
    name = _spelled(here, folder, video)
    return name if name in names else video


def _spelled(here: str, folder: Path, path: str) -> str:
    """A path of the table as its file is called: seen from the table's folder where it lies below, with forward slashes and the accents of the disk."""
    return _as_on_disk(folder, _seen_from(here, PurePosixPath(path.replace("\\", "/"))))


def _as_on_disk(folder: Path, name: str) -> str:
    """The name with its accents as the file's own: a Mac's copy has each as two characters where a table has one, or the other way round."""
    spelt = [name] if name.isascii() else [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    return next((one for one in spelt[1:] if not os.path.exists(folder / name) and os.path.exists(folder / one)), name)


def _seen_from(here: str, named: PurePosixPath) -> str:
    """The path as seen from the table's folder, itself without links; one that leads out of it stays as it is. ./a.jpg and b/../a.jpg are a.jpg."""
    if named.is_absolute() or ".." in named.parts:
        there = os.path.join(os.path.realpath(os.path.join(here, named.parent)), named.name)
        if os.path.commonpath([here, there]) == here:
            return os.path.relpath(there, here)
    return named.as_posix()
