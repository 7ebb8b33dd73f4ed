"""Celeb-DF v2 as it is downloaded (Li et al. 2020).

    Celeb-real/id<person>_<video>.mp4
    Celeb-synthesis/id<target>_id<source>_<video>.mp4
    YouTube-real/<video>.mp4
    List_of_testing_videos.txt        a line a video: 1 means real, 0 fake

The videos of the list are kept for evaluation. A fake belongs to the target's video; the source's face is put on it.
"""

import re
from pathlib import Path

from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, problem_of, refuse_incomplete
from pipelines.layouts.listing import Listing, each_file
from workspace.errors import DataError
from workspace.settings import SourceSettings

REAL, FAKE, YOUTUBE, TESTING = "Celeb-real", "Celeb-synthesis", "YouTube-real", "List_of_testing_videos.txt"
LABELS = {REAL: "real", YOUTUBE: "real", FAKE: "fake"}
LISTED = re.compile(r"^([01])\s+(\S.*)$")
PLAIN = re.compile(r"^id(?P<target>\d+)_(?P<video>\d+)$")
SWAPPED = re.compile(r"^id(?P<target>\d+)_id(?P<source>\d+)_(?P<video>\d+)$")
CARD = Card(
    title="Celeb-DF v2 (Li et al. 2020)",
    terms="Terms to Use Celeb-DF: research, after signing",
    where="README of yuezunli/celeb-deepfakeforensics, Celeb-DF-v2",
    published={"real": 890, "fake": 5639, "test": 518},
    note="The testing list shares people with the rest. Vigil keeps people apart, so videos of anybody in the list of whom a listed video is there "
    "and shows a face are kept for evaluation too (bring the whole set at once); "
    "`--split own` divides by person and ignores the list.",
)


def recognises(folder: Path) -> bool:
    """Whether one of the two folders that only this data set has is there."""
    return (folder / REAL).is_dir() or (folder / FAKE).is_dir()


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every video of the three folders. Raises DataError when one of them or the testing list is missing, or the list contradicts the folders."""
    refuse_incomplete(folder, (REAL, FAKE, YOUTUBE), CARD.title, "a set without it is another set")
    refuse_incomplete(folder, (TESTING,), CARD.title, "its testing videos would be trained on")
    testing = _testing(folder / TESTING)
    listing = Listing(names_people=True, card=CARD)
    for top in LABELS:
        for path, parts in each_file(folder, listing, top):
            name, known = "/".join(parts), _known(path, top)
            nameless = "" if "identity" in known else "its name does not say who is in it"
            problem = "not at a place of Celeb-DF" if len(parts) != 2 else problem_of(path, folder) or nameless
            listing.files.append(Found(path=path, name=name, use="evaluate" if name in testing else "", problem=problem, **known))
    for name in sorted(testing - {found.name for found in listing.files}):
        known = _known(folder / name, name.split("/")[0])
        listing.files.append(Found(path=folder / name, name=name, use="evaluate", problem="file not found", **known))
    return listing


def _known(path: Path, top: str) -> dict[str, str]:
    """What its folder and its name say of a video, be it there or not."""
    made = {"generator": FAKE, "method": FAKE} if top == FAKE else {}
    return {"label": LABELS[top]} | made | (youtuber(path.stem) if top == YOUTUBE else people_in(path.stem, top == FAKE))


def people_in(stem: str, fake: bool) -> dict[str, str]:
    """`identity`, `donor` and `source_video` by a video's name, or nothing when the name says nothing."""
    people = (SWAPPED if fake else PLAIN).match(stem)
    if not people:
        return {}
    target = f"celebdf-id{people['target']}"
    return {"identity": target, "donor": f"celebdf-id{people['source']}" if fake else "", "source_video": f"{target}_{people['video']}"}


def youtuber(stem: str) -> dict[str, str]:
    """The same for a video of YouTube-real/, each of somebody else; its name is a bare number."""
    person = f"celebdf-youtube-{stem}"
    return {"identity": person, "source_video": person}


def _testing(path: Path) -> set[str]:
    """The names in the testing list, which must agree with the folders about what is real."""
    names = set()
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        listed = LISTED.match(line.strip())
        top = listed[2].split("/")[0] if listed else ""
        if not listed or top not in LABELS or (listed[1] == "1") != (LABELS[top] == "real"):
            raise DataError(
                f"Cannot use {path}. Nothing was read from it.", why=f"line {number} is {line[:80]!r}: 1 goes with {REAL}/ and {YOUTUBE}/, 0 with {FAKE}/",
                next_step="Download the list again; in it 1 means real.",
            )  # fmt: skip
        names.add(listed[2])
    return names
