"""Self-blending after the idea of Shiohara & Yamasaki (CVPR 2022, "Detecting Deepfakes with Self-Blended Images"): own code.

A clip is blended with a slightly altered copy of itself under a face mask. What remains is what all face swaps share and no
camera makes: a seam, two colours, two sharpnesses, two geometries in one picture; and nothing of any one generator.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from media.forgers.detail import compose, draw_sharpness
from media.forgers.masks import HULLS, Floats, feather, hull_mask, reach_mask, steady

KINDS = ("whole", "whole", "inner", "inner", "upper", "lower")
RATIOS = (0.5, 0.75, 1.0, 1.0, 1.0)
AS_SHARP, SPREAD = 0.4, 0.5  # two sharpnesses in one picture are a mark of what is blended: as often the one as the other is the greater


@dataclass(frozen=True, slots=True)
class _Draw:
    """One clip's parameters. Colours in 8-bit steps, lengths as parts of the crop's side."""

    offset: Floats
    contrast: float
    saturation: float
    hue: float
    sharpen: float
    shrink: float
    matrix: Floats
    elastic: Floats
    kind: str
    grow: float
    softness: float
    ratio: float
    outside: bool
    sharpness: float


def _draw(rng: np.random.Generator) -> _Draw:
    colour = rng.random() < 0.8
    sharp = rng.random()
    scale, angle = rng.uniform(0.965, 1.04), np.deg2rad(rng.uniform(-2, 2))
    shift = rng.uniform(-0.018, 0.018, 2)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return _Draw(
        offset=(rng.normal(0, 6, 3) + rng.normal(0, 7) if colour else rng.normal(0, 2, 3)).astype(np.float32),
        contrast=float(rng.uniform(0.88, 1.14) if colour else 1.0),
        saturation=float(rng.uniform(0.75, 1.3) if colour else 1.0),
        hue=float(rng.uniform(-5, 5) if colour else 0.0),
        sharpen=float(rng.uniform(0.4, 1.2) if sharp < 0.3 else 0.0),
        shrink=float(rng.uniform(0.5, 0.9) if sharp > 0.45 else 1.0),
        matrix=np.column_stack([turn, np.array([0.5, 0.5]) - turn @ np.array([0.5, 0.5]) + shift]).astype(np.float32),
        elastic=rng.normal(0, 0.008, (5, 5, 2)).astype(np.float32),
        kind=KINDS[int(rng.integers(len(KINDS)))],
        grow=float(rng.uniform(-0.05, 0.03)),
        softness=float(rng.uniform(0.006, 0.035)),
        ratio=RATIOS[int(rng.integers(len(RATIOS)))],
        outside=bool(rng.random() < 0.4),
        sharpness=draw_sharpness(rng, AS_SHARP, SPREAD),
    )


def self_blend(
    frames: NDArray[np.uint8], landmarks: NDArray[np.floating], rng: np.random.Generator, donor: object = None
) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """The clip blended with an altered copy of itself; landmarks stay. frames [T,S,S,3] uint8 RGB, landmarks [T,468,2] in 0..1.

    In four of ten clips the copy is what lies around the face and the untouched face is laid into it: there, too, only pixels near the
    face change. `donor` is not used.
    """
    size = frames.shape[1]
    draw = _draw(rng)
    points = steady(landmarks)
    wobble = rng.normal(0, 0.012, (len(HULLS[draw.kind]), 2)).astype(np.float32)
    maps = _maps(draw, size)
    copies, covers = [], []
    for index, frame in enumerate(frames):
        copy = _alter(frame, draw)
        if not draw.outside:
            copy = cv2.remap(copy, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        limit = reach_mask(points[index], size)
        mask = feather(hull_mask(points[index][list(HULLS[draw.kind])], size, draw.grow, wobble), draw.softness, limit)
        if draw.outside:
            # The changed ring must itself fade before the limit, or the limit would be the seam.
            ring = feather(hull_mask(points[index], size, 0.02), 0.025, limit)
            mask = np.maximum(ring - mask, 0)
        copies.append(copy)
        covers.append(mask * draw.ratio)
    return compose(frames, np.stack(copies), np.stack(covers), draw.sharpness, fill=True), np.array(landmarks)


def _maps(draw: _Draw, size: int) -> tuple[Floats, Floats]:
    """Where each pixel of the copy comes from: a small affine plus a small elastic warp."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(grid, grid)
    elastic = cv2.resize(draw.elastic, (size, size), interpolation=cv2.INTER_CUBIC)
    m = draw.matrix
    map_x = (m[0, 0] * x + m[0, 1] * y + m[0, 2] + elastic[..., 0]) * size - 0.5
    map_y = (m[1, 0] * x + m[1, 1] * y + m[1, 2] + elastic[..., 1]) * size - 0.5
    return map_x.astype(np.float32), map_y.astype(np.float32)


def _alter(frame: NDArray[np.uint8], draw: _Draw) -> Floats:
    """The frame in other colours and with another sharpness [S,S,3], 0..255."""
    size = frame.shape[0]
    hsv = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + draw.hue) % 360
    hsv[..., 1] = np.clip(hsv[..., 1] * draw.saturation, 0, 1)
    copy = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    copy = (copy - 110) * np.float32(draw.contrast) + 110 + draw.offset
    if draw.shrink < 1:
        small = max(8, round(size * draw.shrink))
        copy = cv2.resize(cv2.resize(copy, (small, small), interpolation=cv2.INTER_AREA), (size, size), interpolation=cv2.INTER_LINEAR)
    elif draw.sharpen > 0:
        copy = copy + draw.sharpen * (copy - cv2.GaussianBlur(copy, (0, 0), max(0.7, size / 128)))
    return np.clip(copy, 0, 255).astype(np.float32)
