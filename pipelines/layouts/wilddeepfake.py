"""WildDeepfake as it is downloaded and unpacked (Zi et al. 2020): sequences of cropped faces, one picture a frame.

    {real,fake}_{train,test}/<archive>/{real,fake}/<sequence>/<frame>.png

A frame is a sample of its own, an image. All sequences of one archive share `source_video` and `identity`, so none of them can stand
on another side than the others. The pictures are tight crops in which the detector finds few faces; where it finds none, the
faces stage fits the landmarks to the whole picture (media/faces.py).
"""

import re
from pathlib import Path

from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, problem_of, refuse_incomplete
from pipelines.layouts.listing import Listing, each_file
from workspace.errors import DataError
from workspace.settings import SourceSettings

PART = re.compile(r"^(?P<label>real|fake)[ _](?P<split>train|test)$")
ARCHIVES = (".tar", ".gz", ".tgz", ".zip", ".7z", ".rar")
CARD = Card(
    title="WildDeepfake (Zi et al. 2020)",
    terms="WildDeepfake agreement: academic research, after signing",
    where="README of OpenTAI/wild-deepfake (7,314 face sequences from 707 videos)",
    published={"sequences": 7314},
    note="Frames come in as images, so a network over time sees one frame a clip. Nobody says who is in it; an archive stands for a person.",
)


def recognises(folder: Path) -> bool:
    """Whether one of the four parts is there."""
    return bool(_parts(folder))


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every frame of the four parts. Raises DataError when one is missing, or when nothing has been unpacked."""
    parts = _parts(folder)
    needed = [f"{label}_{split}" for label in ("real", "fake") for split in ("train", "test")]
    missing = set(needed) - {part.replace(" ", "_") for part in parts}
    refuse_incomplete(folder, [name for name in needed if name in missing], CARD.title, "its four parts are one set")
    listing = Listing(names_people=True, card=CARD)
    for top, known in parts.items():
        for path, place in each_file(folder, listing, top):
            listing.files.append(_found(path, place, folder, known))
    if listing.files and all(found.problem == "an archive; unpack it" for found in listing.files):
        raise DataError(
            f"Nothing in {folder} is unpacked.", why="WildDeepfake is downloaded as archives, and archives are never opened here",
            next_step="Run in each of the four folders: for a in *.tar.gz; do tar xf $a; done",
        )  # fmt: skip
    return listing


def _parts(folder: Path) -> dict[str, dict[str, str]]:
    """What each of the parts that are there says of its frames."""
    names = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    parts = {}
    for name in names:
        if match := PART.match(name):
            made = {"generator": "WildDeepfake"} if match["label"] == "fake" else {}
            parts[name] = {"label": match["label"], "use": "evaluate" if match["split"] == "test" else "", **made}
    return parts


def _found(path: Path, place: tuple[str, ...], folder: Path, known: dict[str, str]) -> Found:
    name = "/".join(place)
    if path.suffix.lower() in ARCHIVES:
        return Found(path=path, name=name, problem="an archive; unpack it")
    if len(place) != 5:
        return Found(path=path, name=name, problem="not at a place of WildDeepfake")
    top, archive, label, _, _ = place
    problem = problem_of(path, folder) or ("" if label == known["label"] else "its folders disagree about its label")
    group = f"wilddeepfake-{top.replace(' ', '_')}-{archive}"
    return Found(path=path, name=name, identity=group, source_video=group, folder="/".join(place[:4]), problem=problem, **known)
