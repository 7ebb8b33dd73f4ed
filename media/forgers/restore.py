"""Face restoration: skin without pores or grain, edges crisper than any lens draws them; fakes that are cleaner than the real clip.

Swapped and generated faces often go through a restoring network before they are shown, and generators draw such faces by
themselves. A detector that only met fakes poorer than their originals takes these for real.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from media.forgers.detail import compose, draw_sharpness, with_surroundings
from media.forgers.masks import OVAL, Floats, cover, steady


@dataclass(frozen=True, slots=True)
class _Draw:
    factor: float  # the picture is redrawn from one so many times its size
    smooth: float  # steps of 8 bits that still count as skin
    crisp: float
    radius: float  # of the sharpening, in pixels of a 128 px crop
    whole: bool
    softness: float
    strength: float
    sharpness: float


def _draw(rng: np.random.Generator) -> _Draw:
    return _Draw(
        factor=float(rng.uniform(0.4, 0.9)),
        smooth=float(rng.uniform(10, 45)),
        crisp=float(rng.uniform(0.6, 2.0)),
        radius=float(rng.uniform(0.8, 2.0)),
        whole=bool(rng.random() < 0.6),
        softness=float(rng.uniform(0.01, 0.04)),
        strength=float(rng.uniform(0.7, 1.0)),
        sharpness=draw_sharpness(rng),
    )


def restore(
    frames: NDArray[np.uint8], landmarks: NDArray[np.floating], rng: np.random.Generator, donor: object = None
) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """The clip restored, in the whole picture or in the face; landmarks stay. frames [T,S,S,3] uint8 RGB. `donor` is not used.

    Seven clips in ten end with as much fine detail as they came with (in edges now, no longer in skin), the others with more or less.
    """
    draw = _draw(rng)
    made = np.stack([with_surroundings(lambda wider: _redraw(wider, draw, frames.shape[1]), frame) for frame in frames])
    made += (frames - made).mean(axis=(0, 1, 2))  # steeper edges and flatter skin brighten by a tenth of a level, nearly always
    covers = draw.strength * cover(steady(landmarks), frames.shape[1], () if draw.whole else OVAL, draw.softness)
    return compose(frames, made, covers, draw.sharpness, fill=True), np.array(landmarks)


def _redraw(picture: Floats, draw: _Draw, crop: int) -> Floats:
    """The picture [S,S,3] made small, its skin smoothed, grown again and its edges steepened without an overshoot; float. Radii are of side `crop`."""
    size = picture.shape[0]
    side = max(16, round(size * draw.factor))
    small = np.rint(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)).astype(np.uint8)
    for _ in range(2):
        small = cv2.bilateralFilter(small, 5, draw.smooth, 2.0)
    grown = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    least, most = cv2.erode(grown, kernel), cv2.dilate(grown, kernel)
    steep = grown + draw.crisp * (grown - cv2.GaussianBlur(grown, (0, 0), draw.radius * crop / 128))
    crisp: Floats = np.clip(steep, least, most)
    return crisp
