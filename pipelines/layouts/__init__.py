"""One small reader a layout of media on disk. To add one: a module with `recognises` and `read`, and a line in LAYOUTS."""

from pathlib import Path

from pipelines.layouts import csv_table, faceforensics, folder
from pipelines.layouts.found import Found, Listing
from workspace.errors import DataError
from workspace.settings import SourceSettings

__all__ = ["LAYOUTS", "Found", "Listing", "read_layout"]

LAYOUTS = {"csv": csv_table, "faceforensics": faceforensics, "folder": folder}  # `auto` asks them in this order


def read_layout(source: SourceSettings, path: Path) -> Listing:
    """The files of a source, sorted by name. `path` is the source's folder or table on this machine.

    Raises DataError when the layout does not fit what is there, and OSError when it cannot be read.
    """
    name: str = source.layout
    if name == "auto":
        name = next((candidate for candidate, module in LAYOUTS.items() if module.recognises(path)), "")
    if not name:
        raise DataError(
            f"Nothing in {path} says what is real and what is fake.",
            why="there is neither real/ nor fake/<generator>/, no labels.csv, and no FaceForensics++ folder",
            next_step="Sort the files into real/ and fake/<generator>/, or give a CSV file with the columns path,label.",
        )
    listing = LAYOUTS[name].read(source, path)
    listing.files.sort(key=lambda found: found.name)
    return listing
