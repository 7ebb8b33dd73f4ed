"""What a layout reader hands to ingest: one value a file, with everything the layout knows about it and nothing measured."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TABLE_NAME = "labels.csv"


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
    case_id: str = ""
    folder: str = ""  # the folder that may be named after the person, for identity rule `folder`
    problem: str = ""


@dataclass(slots=True)
class Listing:
    """All files of a source, how many hidden ones were passed over, and whether people are named."""

    files: list[Found] = field(default_factory=list)
    hidden: int = 0
    names_people: bool = False  # the source itself says who is in its files (a column, or a naming scheme)


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
    except (OSError, RuntimeError) as problem:
        return f"unreadable ({problem.__class__.__name__})"
    if stat.S_ISDIR(mode):
        return "link to a folder" if path.is_symlink() else "unreadable folder"
    return "" if stat.S_ISREG(mode) else "not a regular file"
