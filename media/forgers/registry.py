"""The forgers by name, and the one door to them. A new forger is a module beside this one and a line in `FORGERS`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from media.align import all_beyond, continued, kept_beyond
from media.forgers.landmark_swap import landmark_swap
from media.forgers.masks import LANDMARKS
from media.forgers.reenact import reenact
from media.forgers.restore import restore
from media.forgers.self_blend import self_blend
from media.forgers.upsample import upsample
from workspace.errors import DataError

Frames = NDArray[np.uint8]
Landmarks = NDArray[np.floating]
Clip = tuple[Frames, Landmarks]
WHO = ("sample_id", "identity", "source_video")
TRIES = 3  # to forge so that it can be seen
GREY = 2  # levels between the channels of a pixel, up to which coding alone may bring them apart
CELL, LEAST_CHANGE = 16, 1.5  # px a side; mean difference of a cell's pixels, in levels, below which nothing was forged


@dataclass(frozen=True, slots=True)
class Forger:
    """One way to forge. `arrived` is the day it joined the registry. `whole`: it may change the surroundings too. `from_other_moments`: its donor,
    which it can do without, is the same clip at other moments."""

    name: str
    needs_donor: bool
    arrived: date
    function: Callable[[Frames, Landmarks, np.random.Generator, Clip | None], Clip]
    whole: bool = False
    from_other_moments: bool = False


FORGERS: dict[str, Forger] = {
    forger.name: forger
    for forger in (
        Forger("self_blend", False, date(2026, 11, 16), self_blend),
        Forger("landmark_swap", True, date(2026, 11, 16), landmark_swap),
        Forger("reenact", False, date(2026, 11, 20), reenact, whole=True, from_other_moments=True),
        Forger("upsample", False, date(2026, 11, 20), upsample, whole=True),
        Forger("restore", False, date(2026, 11, 20), restore, whole=True),
    )
}


def forge_clip(name: str, frames: Frames, landmarks: Landmarks, rng: np.random.Generator, donor: Clip | None = None) -> Clip:
    """A forged copy of a clip and its landmarks, same shapes; the inputs are not changed.

    frames [T,S,S,3] uint8 RGB, landmarks [T,468,2] in 0..1 of the crop, `donor` the same of another person (any T; of the same one for a forger
    `from_other_moments`), for which the caller answers; forgers that need none get none. One draw of parameters a clip, all from `rng`.

    Raises DataError for an unknown name, a missing donor, wrong shapes or landmarks that are not finite.
    """
    what = f"Cannot forge with {name!r}."
    if name not in FORGERS:
        raise DataError(what, why="no forger has this name", next_step=f"Choose from {', '.join(sorted(FORGERS))}.")
    forger = FORGERS[name]
    if forger.needs_donor and donor is None:
        raise DataError(what, why="it needs a clip of another person and none was given", next_step="Hand in a donor, or choose another forger.")
    check_clip(what, frames, landmarks)
    if donor is not None:
        check_clip(what, *donor)
        if donor[0].shape[1:] != frames.shape[1:]:
            why = f"the donor's frames are {donor[0].shape[1:3]}, the target's {frames.shape[1:3]}"
            raise DataError(what, why=why, next_step="Cut both clips to one size.")
    given = donor if forger.needs_donor or forger.from_other_moments else None
    if given is not None:
        given = continued(given[0], all_beyond(given[0])), given[1]
    return forged_within(frames, lambda pictures: forger.function(pictures, landmarks, rng, given))


def forged_within(frames: Frames, forge: Callable[[Frames], Clip], tries: int = TRIES) -> Clip:
    """What `forge` makes of the pictures that crops [T,S,S,3] show; beyond those they stay black. Done again, at most `tries` times, until it can be seen.

    Of pictures without colour it keeps the brightness: else any colour would say fake.
    Some draws forge hardly anything: a mouth that is driven to where it was, a blend of a picture with nearly itself. Such a fake would be a real
    clip under the label fake.
    """
    outside = all_beyond(frames)
    pictures, grey = continued(frames, outside), _is_grey(frames)
    for _ in range(tries):
        made, points = forge(pictures)
        made = _with_colours_of(pictures, made) if grey else made
        made = kept_beyond(frames, made, outside) if pictures is not frames else made
        if changed(frames[len(frames) // 2], made[len(frames) // 2]):
            break
    return made, points


def _is_grey(frames: Frames) -> bool:
    """Whether no pixel of a clip [T,S,S,3] has a colour; that most have one shows in a few."""
    return all(int(np.ptp(some, axis=-1).max()) <= GREY for some in (frames[:1, ::8, ::8], frames))


def _with_colours_of(pictures: Frames, made: Frames) -> Frames:
    """The brightness of `made` [T,S,S,3] under what the channels of the pictures differ by."""
    bright = [np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip])[..., None].astype(np.int16) for clip in (pictures, made)]
    return np.clip(pictures + (bright[1] - bright[0]), 0, 255).astype(np.uint8)


def changed(real: Frames, made: Frames) -> bool:
    """Whether something was forged of a frame [S,S,3]: some cell of CELL pixels a side differs by LEAST_CHANGE or more in the mean."""
    cells = max(1, real.shape[0] // CELL)
    differs = cv2.resize(cv2.absdiff(real, made).astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
    return bool(differs.mean(axis=-1).max() >= LEAST_CHANGE)


def may_be_one_person(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two clips (rows of an index) may show one person: of one sample, one name, or one video that both were cut from. None gives a face to itself."""
    return any(one[name] and one[name] == other[name] for name in WHO)


def check_clip(what: str, frames: Frames, landmarks: Landmarks) -> None:
    """Raise DataError unless this is a clip of square uint8 frames with a finite mesh a frame."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] != frames.shape[2] or not len(frames):
        why = f"frames are {frames.dtype} {frames.shape}, not uint8 [T,S,S,3]"
        raise DataError(what, why=why, next_step="Hand in a face clip as media/faces.py cuts it.")
    if landmarks.shape != (len(frames), LANDMARKS, 2) or not np.isfinite(landmarks).all():
        why = f"landmarks are {landmarks.shape} or not finite, wanted ({len(frames)}, {LANDMARKS}, 2)"
        raise DataError(what, why=why, next_step="Hand in the clip's own landmarks.")
