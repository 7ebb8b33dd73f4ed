"""Traces of up-sampling, which every decoder of a generator leaves: fine detail that is not the camera's but an up-sampler's.

The picture's detail is halved or quartered and enlarged again by a kernel drawn at random for each phase of the raster, as
transposed convolution, sub-pixel shuffle and nearest-neighbour-plus-convolution do (Odena et al. 2016; Durall et al. 2020).
The lost sharpness is given back, so that a detector cannot go by blur.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from media.forgers.detail import compose, draw_sharpness, with_surroundings
from media.forgers.masks import OVAL, Floats, cover, steady


@dataclass(frozen=True, slots=True)
class _Draw:
    factor: int
    kernels: Floats  # [factor*factor, 3, 3], a kernel a phase
    gains: Floats  # [factor*factor, 3], of each phase and colour
    whole: bool
    softness: float
    strength: float
    sharpness: float


def _draw(rng: np.random.Generator) -> _Draw:
    factor = 2 if rng.random() < 0.8 else 4
    shared = rng.random() < 0.5  # one irregularity for all phases, or each its own
    jitter = rng.normal(0, rng.uniform(0.02, 0.12) / factor, (1 if shared else factor * factor, 3, 3))
    return _Draw(
        factor=factor,
        kernels=(_ideal(factor) + jitter).astype(np.float32),
        gains=rng.normal(1.0, rng.uniform(0.005, 0.03), (factor * factor, 3)).astype(np.float32),
        whole=bool(rng.random() < 0.6),
        softness=float(rng.uniform(0.01, 0.04)),
        strength=float(rng.uniform(0.7, 1.0)),
        sharpness=draw_sharpness(rng),
    )


def _ideal(factor: int) -> Floats:
    """The bilinear kernels [factor*factor, 3, 3] that put each phase where it belongs."""
    kernels = np.zeros((factor, factor, 3, 3), np.float32)
    shifts = (np.arange(factor) + 0.5) / factor - 0.5  # of a phase from the centre of its coarse pixel
    taps = np.stack([np.maximum(-shifts, 0), 1 - np.abs(shifts), np.maximum(shifts, 0)], axis=1)  # [factor, 3]
    kernels[:] = taps[:, None, :, None] * taps[None, :, None, :]
    return kernels.reshape(-1, 3, 3)


def upsample(
    frames: NDArray[np.uint8], landmarks: NDArray[np.floating], rng: np.random.Generator, donor: object = None
) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """The clip with an up-sampler's detail, in the whole picture or in the face; landmarks stay. frames [T,S,S,3] uint8 RGB. `donor` is not used."""
    draw = _draw(rng)
    made = np.stack([with_surroundings(lambda wider: _regrow(wider, draw), frame) for frame in frames])
    covers = draw.strength * cover(steady(landmarks), frames.shape[1], () if draw.whole else OVAL, draw.softness)
    return compose(frames, made, covers, draw.sharpness, fill=True), np.array(landmarks)


def _regrow(picture: Floats, draw: _Draw) -> Floats:
    """The picture [S,S,3] made small and grown again, phase by phase."""
    size, factor = picture.shape[0], draw.factor
    small = -(-size // factor)
    low = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
    low = low + 0.6 * (low - cv2.GaussianBlur(low, (0, 0), 1.0))
    grown = np.empty((small, factor, small, factor, 3), np.float32)
    for phase in range(factor * factor):
        kernel = draw.kernels[phase] / draw.kernels[phase].sum()
        grown[:, phase // factor, :, phase % factor] = cv2.filter2D(low, -1, kernel, borderType=cv2.BORDER_REFLECT) * draw.gains[phase]
    return grown.reshape(small * factor, small * factor, 3)[:size, :size]
