"""All that a layout reader found in one source."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, is_hidden, walk

BESIDE = {"landmarks", "landmark", "masks", "mask", "models"}  # folders of a published data set whose files are no samples


@dataclass(slots=True)
class Listing:
    """All files of a source, how many were passed over, and whether people are named."""

    files: list[Found] = field(default_factory=list)
    hidden: int = 0
    unlisted: int = 0  # photos and videos of a folder that its table does not name, or that are at no place of its data set
    names_people: bool = False  # the source itself says who is in its files (a column, or a naming scheme)
    card: Card | None = None  # of a published data set
    published: dict[str, dict[str, int]] = field(default_factory=dict)  # what its card counts: {name: {found, published}}
    is_table: bool = False  # a person wrote it, and can say in a column who is in its files


def each_file(folder: Path, listing: Listing, top: str = "") -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every file below `folder/top` with its name's parts as seen from `folder`; hidden ones are counted in `listing` and passed over."""
    for path in walk(folder / top):
        if is_hidden(path, folder):
            listing.hidden += 1
        else:
            yield path, path.relative_to(folder).parts
