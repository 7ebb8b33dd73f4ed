"""The plain folder: `real/...` and `fake/<generator>/...`. Files elsewhere come in without a label, and never train."""

from pathlib import Path

from pipelines.layouts.found import Found, problem_of
from pipelines.layouts.listing import Listing, each_file
from workspace.errors import DataError
from workspace.settings import SourceSettings


def recognises(folder: Path) -> bool:
    """Whether `folder` holds a folder called real or fake."""
    return folder.is_dir() and any(child.name.lower() in ("real", "fake") for child in folder.iterdir() if child.is_dir())


def named_by(source: SourceSettings, folder: Path) -> bool:
    """Whether `folder` holds a folder that the source's `label_map` names."""
    names = {name.lower() for name in source.label_map}
    return folder.is_dir() and any(child.name.lower() in names for child in folder.iterdir() if child.is_dir())


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every file below `folder`. The first folder's name is the label: real, fake, or what `label_map` says of it.

    Below a fake folder the next folder is the generator. Raises DataError when no folder says real or fake.
    """
    meaning = {"real": "real", "fake": "fake"} | {name.lower(): label for name, label in source.label_map.items()}
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", why="layout `folder` reads folders", next_step="Name the folder above real/ and fake/.")
    if not (recognises(folder) or named_by(source, folder)):
        raise DataError(
            f"Nothing in {folder} says what is real and what is fake.",
            why="layout `folder` needs a folder real/ or fake/<generator>/ at its top, or a label_map that names its folders",
            next_step="Sort the files into real/ and fake/<generator>/, or give a CSV file with the columns path,label.",
        )
    listing = Listing()
    for path, parts in each_file(folder, listing):
        label = meaning.get(parts[0].lower(), "") if len(parts) > 1 else ""
        own_name = parts[0].lower() not in ("real", "fake")
        generator = (parts[0] if own_name else parts[1] if len(parts) > 2 else "") if label == "fake" else ""
        above = 1 + bool(generator and not own_name)  # folders that say label and generator, not who it is
        person = parts[-2] if len(parts) - 1 > above else ""
        listing.files.append(Found(path=path, name="/".join(parts), label=label, generator=generator, folder=person, problem=problem_of(path, folder)))
    return listing
