"""DF40's cropped frames as they are downloaded and unpacked (Yan et al. 2024): forty methods, a folder each.

    DF40_train/<method>/[ff|cdf/][frames/]<video>/<frame>.png      to train on
    DF40/<method>/[ff|cdf/][frames/]<video>/<frame>.png            to test on
    DF40/<method>/{real,fake}/...                                  methods that bring reals of their own

A frame is a sample of its own, an image; frames of one video share `source_video`, and a picture right in real/ or fake/ is of none. Most
fakes are made of FaceForensics++ and Celeb-DF and keep their names, so people are called as in these sets. Their real frames are
DeepfakeBench's, a download of their own.
"""

from collections.abc import Collection
from pathlib import Path

from pipelines.layouts import celebdf, faceforensics
from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, problem_of
from pipelines.layouts.listing import BESIDE, Listing, each_file
from workspace.errors import DataError
from workspace.settings import SourceSettings

USES = {"DF40_train": "", "DF40": "evaluate"}
METHODS = frozenset(
    (
        "blendface", "collabdiff", "danet", "ddim", "deepfacelab", "dit", "e4e", "e4s", "facedancer", "faceswap", "facevid2vid", "fomm", "fsgan", "heygen",
        "hyperreenact", "inswap", "lia", "mcnet", "midjourney", "mobileswap", "mraa", "one_shot_free", "pirender", "pixart", "rddm", "sadtalker", "sd2.1",
        "simswap", "sit", "stargan", "starganv2", "styleclip", "stylegan2", "stylegan3", "styleganxl", "tpsm", "uniface", "vqgan", "wav2lip", "whichfaceisreal",
    )
)  # fmt: skip
CALLED = {"heygen_new": "heygen"}  # folders of the download: the method as the JSON files call it
CELEBDF = {"cdf", "cdfv2"}
CARD = Card(
    title="DF40 (Yan et al. 2024)",
    terms="CC BY-NC 4.0; the sets that it is made of keep their own terms",
    where="README of YZY-stack/DF40 (40 methods)",
    published={"generators": 40},
    note="Frames come in as images. The download has no reals for 31 of the methods: ingest those of FaceForensics++ and Celeb-DF too.",
)


def recognises(folder: Path) -> bool:
    """Whether DF40/ or DF40_train/ is there, or the folder is one of them."""
    return bool(_tops(folder))


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every frame below the methods' folders. Raises DataError when it cannot be told what is for training and what for testing."""
    tops = _tops(folder)
    if not tops:
        raise DataError(
            f"{folder} is not DF40.", why="there is neither DF40_train/<method>/ nor DF40/<method>/, which say what is for training and what for testing",
            next_step="Unpack the methods below folders of these names, and name the folder above them.",
        )  # fmt: skip
    listing = Listing(names_people=True, card=CARD)
    for top in tops:
        for method in _methods(top):
            for path, parts in each_file(folder, listing, f"{top.name}/{method}" if top != folder else method):
                inner = parts if top == folder else parts[1:]
                if not BESIDE & set(inner) and path.suffix.lower() != ".npy":
                    listing.files.append(_found(path, "/".join(parts), inner, folder, USES[top.name]))
    return listing


def _tops(folder: Path) -> list[Path]:
    """The parts with a method in them: those in the folder, and the folder itself where it is called like one, as the whole set may be."""
    return [top for top in (*([folder] if folder.name in USES else []), *(folder / name for name in USES)) if _methods(top)]


def _methods(top: Path) -> list[str]:
    return sorted(child.name for child in top.iterdir() if child.is_dir() and child.name.lower() in METHODS | CALLED.keys()) if top.is_dir() else []


def _found(path: Path, name: str, parts: tuple[str, ...], folder: Path, use: str) -> Found:
    if len(parts) < 3:
        return Found(path=path, name=name, problem=problem_of(path, folder) or "not at a place of DF40")
    method, places, video = CALLED.get(parts[0].lower(), parts[0]), {part.lower() for part in parts[1:-1]}, Path(parts[-2]).stem
    fake = "real" not in places
    alone = (Path(parts[-1]).stem,) if parts[-2].lower() in ("real", "fake") else ()  # a picture that lies in no folder of its video
    group = "-".join(("df40", method, *parts[1:-1], *alone))
    made = {"generator": method, "method": method} if fake else {}
    return Found(
        path=path, name=name, label="fake" if fake else "real", use=use, problem=problem_of(path, folder), folder="/".join(parts[:-1]),
        **made, **(people_in(video, places) or {"identity": group, "source_video": group}),
    )  # fmt: skip


def people_in(video: str, places: Collection[str]) -> dict[str, str]:
    """`identity`, `donor` and `source_video` by a video's name, as the set calls them that the method was given, or nothing when the name says nothing.

    `places` are the folders it lies in, in lower case: cdf (cdfv2 in DeepfakeBench) is Celeb-DF, all else FaceForensics++.
    """
    if CELEBDF.isdisjoint(places):
        return faceforensics.people_in(video, "_" in video, "youtube")
    return celebdf.youtuber(video) if video.isdecimal() else celebdf.people_in(video, video.count("_") > 1)
