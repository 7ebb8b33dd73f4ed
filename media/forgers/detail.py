"""Sharpness and shades: forged clips are as often sharper than the real one as softer, so that no detector can go by blur, colour or contrast alone."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from media.forgers.masks import Floats

SIGMA = 1.0  # what a blur of so many pixels takes away is detail
LEAST_GAIN, MOST_GAIN = 0.25, 3.0
COVERED = 0.02  # a pixel of which a forgery takes so much belongs to it: in the soft edge both pictures lose detail
AS_SHARP = 0.7  # so often a fake has exactly the detail of what it covers
MARGIN = 8  # pixels, a multiple of what up-samplers enlarge by
SPREAD = 0.3  # else the logarithm of how much it has lies evenly within so much of 0


def detail(frames: Floats, covers: Floats | None = None) -> float:
    """Spread of the fine detail of a clip [T,S,S,3], in 8-bit steps; with `covers` [T,S,S] where these cover anything (0 where nowhere)."""
    seen = _seen(_fine(frames), covers)
    return float(np.std(seen)) if seen.size else 0.0


def draw_sharpness(rng: np.random.Generator, as_sharp: float = AS_SHARP, spread: float = SPREAD) -> float:
    """How much detail a fake gets, as a part of what it covers: exactly 1 with the chance `as_sharp`, else as often more as less."""
    return 1.0 if rng.random() < as_sharp else float(np.exp(rng.uniform(-spread, spread)))


def compose(frames: NDArray[np.uint8], made: Floats, covers: Floats, sharpness: float, fill: bool = False) -> NDArray[np.uint8]:
    """`made` [T,S,S,3] laid over `frames` where `covers` [T,S,S] in 0..1 say, with `sharpness` times the detail that was there.

    The detail of the result is what counts: two pictures laid half over each other lose some of both. It is base + gain * fine, of which both have
    detail, so that the gain solves a quadratic equation; it is the same for all frames, from LEAST_GAIN to MOST_GAIN.
    What is missing then comes from the detail of `frames` themselves, with `fill`: of a copy that was blurred nearly all is gone.
    """
    real, cover = frames.astype(np.float32), covers[..., None]
    wanted = sharpness * detail(real, covers)
    fine = _fine(made)
    base, fine = real + cover * (made - fine - real), cover * fine
    gain = _gain(base, fine, covers, wanted)
    laid = base + gain * fine
    if fill and gain == MOST_GAIN:
        own = cover * _fine(real)
        laid = laid + _gain(laid, own, covers, wanted, least=0.0) * own
    return np.clip(np.rint(laid), 0, 255).astype(np.uint8)


def match_shades(made: Floats, frames: Floats, sigma: float) -> Floats:
    """The clip [T,S,S,3] with everything coarser than `sigma` pixels as in `frames`: colours and shades stay, only fine detail is `made`'s.

    Small decoders draw red lips brown and skin pale: without this a detector learns that colour is real.
    """
    matched: Floats = made + np.stack([cv2.GaussianBlur(real - drawn, (0, 0), sigma) for real, drawn in zip(frames, made, strict=True)])
    return matched


def transfer_colour(faces: NDArray[np.uint8], frames: NDArray[np.uint8], masks: Floats, there: Floats, strength: float) -> Floats:
    """The faces [T,S,S,3] with the mean and spread of L, a and b (Reinhard et al. 2001) that `frames` have where `there` [T,S,S] is over a half, as float RGB.

    What of the faces is compared is where `masks` [T,S,S] are; all of them is changed.
    """
    lab = np.stack([cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for face in faces])
    wanted = np.stack([cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for frame in frames])
    inside, goal = lab[masks > 0.5], wanted[there > 0.5]
    if not (inside.size and goal.size):
        return faces.astype(np.float32)
    mean, goal_mean = inside.mean(axis=0), goal.mean(axis=0)
    gain = np.clip(goal.std(axis=0) / np.maximum(inside.std(axis=0), 1e-3), 0.6, 1.6)
    matched = (lab - mean) * (1 + strength * (gain - 1)) + mean + strength * (goal_mean - mean)
    return np.stack([np.clip(cv2.cvtColor(face.astype(np.float32), cv2.COLOR_LAB2RGB) * 255, 0, 255) for face in matched])


def with_surroundings(redraw: Callable[[Floats], Floats], picture: NDArray[np.generic]) -> Floats:
    """A picture [S,S,3] as `redraw` draws it, which sees MARGIN more pixels on each side and gives a picture as large as what it sees.

    Whatever blurs or enlarges a picture repeats or mirrors its outermost pixels, and flattens the edge of a crop; no generator does, since its pictures
    are larger than the face that is cut out of them. So what lies beyond goes on with the slope that the edge has: mirrored in place and in value.
    """
    size, room = picture.shape[0], ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    wider = np.clip(np.pad(picture.astype(np.float32), room, "reflect", reflect_type="odd"), 0, 255)
    return redraw(wider)[MARGIN : MARGIN + size, MARGIN : MARGIN + size]


def _fine(frames: Floats) -> Floats:
    return np.stack([frame - cv2.GaussianBlur(frame, (0, 0), SIGMA) for frame in frames])


def _seen(fine: Floats, covers: Floats | None) -> Floats:
    return fine.ravel() if covers is None else np.compress((covers > COVERED).ravel(), fine.reshape(-1, 3), axis=0).ravel()  # a sixth of indexing's time


def _gain(base: Floats, fine: Floats, covers: Floats, wanted: float, least: float = LEAST_GAIN) -> float:
    """The g for which the detail of base + g * fine [T,S,S,3] under `covers` is `wanted`; where none does, the one that comes nearest."""
    there, more = _seen(_fine(base), covers), _seen(_fine(fine), covers)
    if not more.size or (power := float(np.var(more))) < 1e-6:
        return 1.0
    together = float(np.mean((there - there.mean()) * (more - more.mean())))
    room = together**2 - power * (float(np.var(there)) - wanted**2)
    return float(np.clip((-together + max(0.0, room) ** 0.5) / power, least, MOST_GAIN))
