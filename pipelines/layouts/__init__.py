"""One small reader a layout of media on disk. To add one: a module with `recognises`, `read` and a CARD, and a line in LAYOUTS."""

import os
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path

from media.names import MEDIA_SUFFIXES
from pipelines.layouts import celeba, celebdf, csv_table, deepfakebench, df40, dfdc, faceforensics, folder, json_table, openforensics, wilddeepfake
from pipelines.layouts.found import Found, is_hidden, readable, walk
from pipelines.layouts.listing import BESIDE, Listing
from workspace.errors import DataError
from workspace.settings import SourceSettings

__all__ = ["LAYOUTS", "Found", "Listing", "read_layout"]

# `auto` asks them in this order: tables know most, and a benchmark's own files more than the folders of the sets it is made of
LAYOUTS = {
    "csv": csv_table, "json": json_table, "deepfakebench": deepfakebench, "df40": df40, "faceforensics": faceforensics, "celebdf": celebdf, "dfdc": dfdc,
    "wilddeepfake": wilddeepfake, "openforensics": openforensics, "celeba": celeba, "folder": folder,
}  # fmt: skip
TABLES = ("csv", "json")


def read_layout(source: SourceSettings, path: Path) -> Listing:
    """The files of a source, sorted by name. `path` is the source's folder or table on this machine.

    Raises DataError when the layout does not fit what is there, and OSError when it cannot be read.
    """
    if not path.exists():
        raise DataError(
            f"There is nothing at {path}.", why="no file and no folder has this name", next_step="Check the path; a relative one is seen from here."
        )
    name: str = source.layout
    if name == "auto":
        name = next((candidate for candidate, module in LAYOUTS.items() if module.recognises(path)), "folder" if folder.named_by(source, path) else "")
    if not name and path.is_dir() and not any(path.iterdir()):
        raise DataError(
            f"{path} is empty.",
            why="nothing in it says what is real and what is fake, and a disk that is not mounted looks the same",
            next_step="Mount what belongs there. A folder that waits for its first files holds the empty folders real/ and fake/.",
        )
    if not name:
        raise DataError(
            f"Nothing in {path} says what is real and what is fake.",
            why="there is neither real/ nor fake/<generator>/, no labels.csv, and no data set that docs/layouts.md describes",
            next_step="Sort the files into real/ and fake/<generator>/, say with --label NAME=real and --label NAME=fake what the folders there are, "
            "or give a CSV file with the columns path,label.",
        )
    if source.columns and name not in TABLES:
        raise DataError(
            f"Layout {name} has no columns to name.", why="`columns` says what a table calls its columns", next_step="Leave it out, or give a CSV or JSON file."
        )
    listing = LAYOUTS[name].read(source, path)
    if listing.card:
        listing.published = listing.card.compare(listing.files)  # whatever part of it is used for testing
    if path.is_dir() and (listing.card or listing.is_table):
        listing.unlisted = _unlisted(path, listing.files, BESIDE if listing.card else set())
    if source.split == "own" and name not in TABLES:
        listing.files = [replace(found, use="" if found.use == "evaluate" else found.use) for found in listing.files]
    listing.files = _told_apart(sorted(map(readable, listing.files), key=lambda found: (found.name, str(found.path))))
    return listing


def _unlisted(folder: Path, files: Sequence[Found], beside: Set[str]) -> int:
    """How many photos and videos below the folder are none of `files`, whatever links lead to these. Hidden ones, and those in folders called as one of
    `beside`, do not count.
    """
    named = {found.path for found in files}
    media = (one for one in walk(folder) if one.suffix.lower() in MEDIA_SUFFIXES and not is_hidden(one, folder))
    others = [one for one in media if one not in named and not beside & set(one.relative_to(folder).parts)]
    reached = {os.path.realpath(path) for path in named} if others else set()
    return sum(os.path.realpath(one) not in reached for one in others)


def _told_apart(files: list[Found]) -> list[Found]:
    """The same with a number behind a name that is another file's too: bytes that are no UTF-8 are written with the letters that may be a name of their own."""
    paths: dict[str, Path] = {}
    for at, found in enumerate(files):
        name, number = found.name, 2
        while paths.setdefault(name, found.path) != found.path:
            name, number = f"{found.name} ({number})", number + 1
        if name != found.name:
            files[at] = replace(found, name=name)
    return files
