"""What a layout reader hands to ingest: one value a file, with everything the layout knows about it and nothing measured."""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from workspace.errors import DataError
from workspace.manifest import composed

TABLE_NAME = "labels.csv"
NOT_MEDIA, EMPTY = "not a media file", "empty file"  # the reasons that media/decode.py gives


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a source. Strings are '' when unknown; `problem` is why the file may not be opened ('' when it may)."""

    path: Path
    name: str  # relative to the source, with forward slashes
    label: str = ""
    use: str = ""  # train | evaluate | never; '' when the source does not say, which means train
    identity: str = ""
    donor: str = ""
    generator: str = ""
    source_video: str = ""
    method: str = ""
    compression: str = ""
    licence: str = ""
    consent: str = ""  # what the people in it agreed to, in the source's own words
    case_id: str = ""
    attributes: str = ""  # words that hold for it, with blanks between
    folder: str = ""  # the folder that may be named after the person, for identity rule `folder`
    problem: str = ""


def readable(found: Found) -> Found:
    """The same with every word as text that can be stored (`as_text`), and all but its own name `composed`. `path` still opens it."""
    texts = {column.name: getattr(found, column.name) for column in fields(found) if column.name != "path"}
    clean: dict[str, Any] = {name: as_text(text) if name == "name" else composed(as_text(text)) for name, text in texts.items()}
    return found if clean == texts else replace(found, **clean)


def as_text(name: str) -> str:
    """A file's name as text that can be stored: bytes that are no UTF-8 are written as \\xff."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def refuse_incomplete(folder: Path, needed: Iterable[str], title: str, reason: str) -> None:
    """Raises DataError when one of the `needed` names is missing in `folder`; `reason` says what would go wrong without it."""
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        raise DataError(
            f"{folder} is not all of {title}. Nothing was read from it.", why=f"{', '.join(missing)} is missing: {reason}",
            next_step="Name the folder that holds the whole data set, or list what you have in a CSV file with the columns path,label.",
        )  # fmt: skip


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object that a JSON file writes as these pairs. Raises ValueError for a key that it says twice: the last word would stand in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"one object says {twice!r} more than once")
    return found


def read_json_table(path: Path, *kinds: type) -> Any:
    """The content of a JSON file, one of `kinds` (dict, list). Raises DataError when it is not that."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=no_key_twice)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"Cannot read {path}. Nothing was read from it.", why=f"not JSON: {problem}", next_step="Mend it, or download it again.") from problem
    if not isinstance(content, kinds):
        raise DataError(
            f"Cannot use {path}. Nothing was read from it.",
            why=f"it holds no {' and no '.join(kind.__name__ for kind in kinds)} at its top",
            next_step="Mend it, or download it again.",
        )
    return content


def walk(folder: Path) -> Iterator[Path]:
    """Every file and every link below `folder`, in a stable order; linked folders are named, never entered."""
    closed: list[Path] = []
    for here, folders, names in os.walk(folder, followlinks=False, onerror=lambda problem: closed.append(Path(problem.filename))):
        folders.sort()
        linked = [name for name in folders if (Path(here) / name).is_symlink()]
        for name in sorted([*names, *linked]):
            yield Path(here) / name
    yield from sorted(closed)  # folders that may not be read: named, so that nothing is dropped in silence


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether the file, or a folder on its way, has a name that starts with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def problem_of(path: Path, folder: Path) -> str:
    """Why `path` may not be opened, or ''. Nothing outside `folder` is ever read, and no pipe or device."""
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return "link leads outside the source" if path.is_symlink() or ".." not in path.parts else "path leads outside the source"
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "broken link" if path.is_symlink() else "file not found"
    except RuntimeError:  # how Python 3.11 says it
        return "link in a loop"
    except OSError as problem:
        return f"unreadable ({problem.__class__.__name__})"
    if stat.S_ISDIR(mode):
        return "link to a folder" if path.is_symlink() else "unreadable folder"
    return "" if stat.S_ISREG(mode) else "not a regular file"
