"""Data cards: what a published data set says of itself, so that an ingest can put its own counts beside it.

A count that nobody could be found to publish is left out; it is never guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.layouts.found import Found

# what a card may count, over the files that are there and may be opened
COUNTS: dict[str, Callable[[Sequence[Found]], int]] = {
    "files": len,
    "real": lambda files: sum(found.label == "real" for found in files),
    "fake": lambda files: sum(found.label == "fake" for found in files),
    "test": lambda files: sum(found.use == "evaluate" for found in files),
    "people": lambda files: len({found.identity for found in files if found.identity}),
    "videos": lambda files: len({found.source_video for found in files if found.source_video}),
    "sequences": lambda files: len({found.folder for found in files if found.folder}),
    "generators": lambda files: len({found.generator for found in files if found.generator}),
}


@dataclass(frozen=True, slots=True)
class Card:
    """One data set. `published` maps names of COUNTS to what the authors state, `where` says where; `note` is what a user must know."""

    title: str
    terms: str  # of use, in one line; becomes the `licence` column of its files
    where: str
    published: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    def compare(self, files: Sequence[Found]) -> dict[str, dict[str, int]]:
        """`{name: {found, published}}` for every published count."""
        there = [found for found in files if not found.problem]
        return {name: {"found": COUNTS[name](there), "published": number} for name, number in self.published.items()}


def beside(title: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    """What was found of a data set beside what is published, in words; its title alone where nothing is."""
    told = ", ".join(f"{pair['found']} of {pair['published']} {what}" for what, pair in counts.items())
    return f"{title}{f': {told}, as published' if told else ''}"
