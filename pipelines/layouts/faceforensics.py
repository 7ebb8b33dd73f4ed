"""FaceForensics++ as it is downloaded (Roessler et al. 2019): the method is the generator, the compression a column.

    original_sequences/{youtube,actors}/<c0|c23|c40>/videos/<target>.mp4
    manipulated_sequences/<Method>/<compression>/videos/<target>_<source>.mp4

The target's head is seen in the fake and the source's face is put on it, so `identity` is the target and `donor` the source.
Actors' names (`03__walking_outside`) and DeepFakeDetection's (`03_26__walking__HASH`) follow the same pattern.
"""

import re
from pathlib import Path

from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, problem_of
from pipelines.layouts.listing import BESIDE, Listing, each_file
from workspace.errors import DataError
from workspace.settings import SourceSettings

ORIGINAL, MANIPULATED = "original_sequences", "manipulated_sequences"
SWAPPED = re.compile(r"^(?P<target>\d+)_(?P<source>\d+)(?P<scene>__.+?)?(?:__[0-9A-Z]{8})?$")
PLAIN = re.compile(r"^(?P<target>\d+)(?P<scene>__.+)?$")

CARD = Card(
    title="FaceForensics++ (Roessler et al. 2019) with DeepFakeDetection",
    terms="FaceForensics terms of use: research and education, after signing; no redistribution",
    where="README of ondyari/FaceForensics (1,000 sequences); table of SCLBD/DeepfakeBench (363 of actors)",
    published={"videos": 1363},
    note="Each method has 1,000 fakes a compression, DeepFakeDetection about 3,000. The published train, validation and test lists (JSON files of the "
    "repository) are no part of the download; Vigil divides by person, which is stricter.",
)


def recognises(folder: Path) -> bool:
    """Whether one of the data set's two top folders is there."""
    return (folder / ORIGINAL).is_dir() or (folder / MANIPULATED).is_dir()


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every video below the data set's two folders; masks, models and other files of it are not media and are passed over.

    Raises DataError when neither folder is there.
    """
    if not recognises(folder):
        raise DataError(
            f"{folder} is not FaceForensics++.", why=f"neither {ORIGINAL}/ nor {MANIPULATED}/ is there", next_step="Name the folder that holds them."
        )
    listing = Listing(names_people=True, card=CARD)
    for top in (top for top in (MANIPULATED, ORIGINAL) if (folder / top).is_dir()):
        for path, parts in each_file(folder, listing, top):
            if BESIDE & set(parts):
                continue
            if len(parts) == 5 and parts[3] == "videos":
                listing.files.append(_found(path, parts, folder))
            else:
                listing.files.append(Found(path=path, name="/".join(parts), problem="not at a place of FaceForensics++"))
    return listing


def _found(path: Path, parts: tuple[str, ...], folder: Path) -> Found:
    top, group, compression, _, file_name = parts
    fake = top == MANIPULATED
    people = people_in(Path(file_name).stem, fake, "actors" if group in ("actors", "DeepFakeDetection") else "youtube")
    problem = problem_of(path, folder) or ("" if people else "its name does not say who is in it")
    return Found(
        path=path, name="/".join(parts), label="fake" if fake else "real", generator=group if fake else "", method=group if fake else "",
        compression=compression, problem=problem, **people,
    )  # fmt: skip


def people_in(stem: str, fake: bool, people_of: str) -> dict[str, str]:
    """`identity`, `donor` and `source_video` by a video's name, or nothing when the name says nothing.

    YouTube videos and actors are two sets of people (`people_of`): 003 of one is not 03 of the other.
    """
    people = (SWAPPED if fake else PLAIN).match(stem)
    if not people:
        return {}
    target = f"{people_of}-{people['target']}"
    return {"identity": target, "donor": f"{people_of}-{people['source']}" if fake else "", "source_video": target + (people["scene"] or "")}
