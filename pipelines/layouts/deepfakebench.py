"""DeepfakeBench's arranged data (Yan et al. 2023): JSON files that say what is what, and folders of cropped frames.

    [preprocessing/]dataset_json/<NAME>.json      {name: {label: {split: [{compression:] {video: {"label": ..., "frames": [...]}}}}}
    [datasets/][rgb/]<NAME>/...                   the frames that these files name

A frame is a sample of its own, an image; frames of one video share `source_video`. Paths in the JSON files begin at folders of other people's
machines; what counts is the longest end of a path that is here. Frames of a test split are kept for evaluation, and where one frame is in
several splits, which some of the sets do, test wins. DF40's JSON files have the same form. People are called as in the sets that the frames
are of, which the label says, or else the folders that the JSON file writes: DF40's call the frames of FaceForensics++ simswap_Real.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.layouts import celebdf, df40, faceforensics
from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, problem_of, read_json_table
from pipelines.layouts.listing import Listing
from workspace.errors import DataError
from workspace.settings import SourceSettings

TABLES = ("dataset_json", "preprocessing/dataset_json")
ROOTS = ("", "rgb", "datasets", "datasets/rgb")
USES = {"train": "", "val": "", "test": "evaluate"}
GENERATORS = {
    "FF-DF": "Deepfakes",
    "FF-F2F": "Face2Face",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter",
    "DFD_fake": "DeepFakeDetection",
}
MADE = df40.METHODS | {"roop"}  # of FaceForensics++ and Celeb-DF
DEEPER = re.compile(r"^(?P<target>\d{3})_(?P<source>[MW]\d+)$")  # DeeperForensics: an actor's face on a video of FaceForensics++
DEEPER_ACTOR = re.compile(r"^(?P<actor>[MW]\d+)_")  # and the actor's own videos
DFDCP = re.compile(r"^(?:(?P<source>\d+)_)?(?P<target>\d+)_(?P<scene>[A-Z])_\d+$")  # clips of an actor's scene; first the actor whose face a fake has
CARD = Card(
    title="DeepfakeBench's arranged data (Yan et al. 2023)",
    terms="CC BY-NC 4.0; copyright of each set stays with its provider, whose terms hold",
    where="README of SCLBD/DeepfakeBench; it states counts of the videos of each set, none of the frames",
    note="Frames come in as images. Where a set names nobody (DFDC, UADFV), a video stands for a person. "
    "The actors of DeeperForensics are all in its test part: with `--split own` some of them train.",
)


def recognises(folder: Path) -> bool:
    """Whether there is a dataset_json/ with a JSON file in it."""
    return bool(_tables(folder))


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every frame that the JSON files name. Raises DataError when there are none, for words that cannot be understood, or when no frame is here."""
    tables = _tables(folder)
    if not tables:
        raise DataError(
            f"{folder} is not DeepfakeBench's data.",
            why="there is no dataset_json/ with JSON files",
            next_step="Name the folder above dataset_json/ and rgb/.",
        )
    found: dict[str, Found] = {}
    places = _Places(folder)
    for table in tables:
        for labels, use, compression, video, frames in _videos(table):
            place = _parts(str(frames[0]))[:-1] if frames else []
            known = _known(table, labels, video, place, source.label_map) | {"compression": compression}
            for frame in frames:
                path = places.of(str(frame))
                name = path.relative_to(folder).as_posix()
                before = found.get(name)
                if before and before.label != known["label"]:
                    found[name] = replace(before, problem=before.problem or "its JSON files disagree about its label")
                elif before is None or (use and not before.use and not before.problem):
                    found[name] = Found(path=path, name=name, use=use, folder=str(PurePosixPath(name).parent), problem=problem_of(path, folder), **known)
    listing = Listing(files=list(found.values()), names_people=True, card=CARD)
    if listing.files and all(one.problem == "file not found" for one in listing.files):
        raise DataError(
            f"None of the {len(listing.files)} frames that {folder}'s JSON files name is here. Nothing was read.",
            why=f"the first is {listing.files[0].name[:120]}", next_step="Unpack the frames to rgb/<NAME>/ beside dataset_json/.",
        )  # fmt: skip
    return listing


class _Places:
    """Where frames lie: the longest end of a path that exists below the folder. What held for the last one is tried first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = (0, "")

    def of(self, frame: str) -> Path:
        parts = _parts(frame)
        tries = [self.last, *((cut, root) for cut in range(len(parts)) for root in ROOTS)]
        for cut, root in tries:
            path = self.folder.joinpath(root, *parts[cut:])
            if cut < len(parts) and path.is_file():
                self.last = (cut, root)
                return path
        return self.folder.joinpath(*parts)


def _parts(frame: str) -> list[str]:
    return [part for part in frame.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _tables(folder: Path) -> list[Path]:
    return next((found for place in TABLES if (found := sorted((folder / place).glob("*.json")))), [])


def _videos(table: Path) -> Iterator[tuple[str, str, str, str, list[Any]]]:
    """(label, use, compression, video, frames) of a JSON file."""
    try:
        for sets in read_json_table(table, dict).values():
            for label, splits in sets.items():
                for split, content in splits.items():
                    use = USES[split]
                    if {"label", "frames"} <= content.keys():  # of a test video, which rearrange.py writes over the validation part of DFDC, too
                        content = {video: about for video, about in content.items() if video not in ("label", "frames")}
                    levels = {"": content} if all("frames" in video for video in content.values()) else content
                    for compression, videos in levels.items():
                        for video, about in videos.items():
                            yield label, use, compression, video, list(about["frames"])
    except (AttributeError, KeyError, TypeError) as problem:
        raise DataError(
            f"Cannot use {table}. Nothing was read from it.", why=f"not of DeepfakeBench's form ({type(problem).__name__}: {problem})",
            next_step="Make it again with DeepfakeBench's rearrange.py, or move it away.",
        ) from problem  # fmt: skip


def _known(table: Path, label: str, video: str, place: list[str], label_map: dict[str, Any]) -> dict[str, str]:
    """The columns that a label, a video's name and the folders of its frames give."""
    words = label.lower()
    last = "real" if words.rfind("real") > words.rfind("fake") else "fake" if "fake" in words or label in GENERATORS else ""  # a set is called whichisreal
    said = label_map.get(label) or last
    if not said:
        raise DataError(
            f"Cannot use {table}. Nothing was read from it.", why=f"the label {label!r} says neither real nor fake",
            next_step=f"Say what it means: `--label {label}=fake` or `--label {label}=real`.",
        )  # fmt: skip
    fake = said == "fake"
    made = re.sub(r"_(fake|real)$", "", label, flags=re.IGNORECASE)
    places = {part.lower() for part in place}
    names = (video, *place[-1:])  # where several methods are in one file, the method stands beside the video's name
    people = next((people for name in names if (people := _people(label, made, name, fake, places))), {})
    group = f"{made}-{video}"
    generator = GENERATORS.get(label, label.removesuffix("_fake").removesuffix("_Fake")) if fake else ""
    return {"label": said, "generator": generator, "method": generator} | (people or {"identity": group, "source_video": group})


def _people(label: str, made: str, video: str, fake: bool, places: set[str]) -> dict[str, str]:
    """`identity`, `donor` and `source_video` as the set calls them that a video is of, or nothing where it names nobody."""
    if label.startswith(("FF-", "DFD_")) or "faceforensics++" in places:
        return faceforensics.people_in(video, fake, "actors" if label.startswith("DFD_") or "__" in video else "youtube")
    if label.startswith("CelebDF") or any(place.startswith("celeb-df") for place in places):
        return celebdf.youtuber(video) if video.isdecimal() and not fake else celebdf.people_in(video, fake)
    if made.lower() in MADE or not places.isdisjoint(("df40", "df40_train")):
        return df40.people_in(video, places)
    if label.startswith("DF_") and (swapped := DEEPER.match(video)):
        target = f"youtube-{swapped['target']}"
        return {"identity": target, "donor": f"deeperforensics-{swapped['source']}", "source_video": target}
    if label.startswith("DF_") and (own := DEEPER_ACTOR.match(video)):
        return {"identity": f"deeperforensics-{own['actor']}", "source_video": f"deeperforensics-{video}"}
    if label.startswith("DFDCP_") and (actors := DFDCP.match(video)):
        target, donor = f"dfdcp-{actors['target']}", f"dfdcp-{actors['source']}" if fake and actors["source"] else ""
        return {"identity": target, "donor": donor, "source_video": f"{target}_{actors['scene']}"}
    if label == "DFDC_Real":
        return {"identity": f"dfdc-{video}", "source_video": f"dfdc-{video}"}
    return {}
