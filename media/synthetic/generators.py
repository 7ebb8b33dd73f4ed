"""The two forgers of the sample world, on rendered pictures before the camera. What betrays the one says nothing about the other.

`BlendSwap` pastes another person's inner face: a seam, another colour, another sharpness. `Upsampler` makes the whole head anew
with a crude decoder: no seam at all, but the overlap of its transposed convolution prints a faint periodic grid.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from media.synthetic.renderer import PersonRenderer
from media.synthetic.skin import Floats


class BlendSwap:
    """The inner face of `donor` on the head of `target`. One draw of parameters a clip."""

    def __init__(self, target: PersonRenderer, donor: PersonRenderer, rng: np.random.Generator) -> None:
        self.target, self.donor = target, donor
        self.feather = float(rng.uniform(0.015, 0.05)) * target.take.unit
        self.matched = float(rng.uniform(0.55, 0.85))                       # how much of the colour difference is removed
        self.tint = rng.normal(0, 5.0, 3).astype(np.float32)
        self.blur = float(rng.uniform(0.5, 1.3)) * target.take.unit / 90
        self.shrink = float(rng.uniform(0.92, 1.06))

    def frames(self) -> Iterator[Floats]:
        """Forged pictures [height,width,3], RGB, 0..255, in order."""
        for index in range(self.target.take.frames):
            scene, other = self.target.frame(index), self.donor.frame(index)
            goal, outline = self.target.inner_face(index), self.donor.inner_face(index)
            matrix, _ = cv2.estimateAffinePartial2D(outline, goal, method=cv2.LMEDS)
            size = (scene.shape[1], scene.shape[0])
            other = cv2.GaussianBlur(cv2.warpAffine(other, matrix, size, borderMode=cv2.BORDER_REPLICATE), (0, 0), self.blur)
            middle = goal.mean(axis=0)
            mask = np.zeros(scene.shape[:2], np.uint8)
            polygon = middle + (goal - middle) * self.shrink
            cv2.fillPoly(mask, np.round(polygon * 16).astype(np.int32)[None], 255, cv2.LINE_AA, 4)
            inside = mask > 127
            gap = scene[inside].mean(axis=0) - other[inside].mean(axis=0)
            other = np.clip(other + self.matched * gap + self.tint, 0, 255)
            cover = cv2.GaussianBlur(mask, (0, 0), self.feather).astype(np.float32)[..., None] / 255
            scene += (other - scene) * cover
            yield scene


class Upsampler:
    """The target's whole head through a small decoder that draws in cells. One draw of parameters a clip.

    The decoder's grid sticks to the head (it works on an aligned canvas). Brightness and colour keep their local means and the
    effect fades out over hair, neck and background, so that there is neither seam nor mismatch to find.
    """

    CANVAS = 112
    CELL = 8

    def __init__(self, target: PersonRenderer, rng: np.random.Generator) -> None:
        self.target = target
        taps = np.arange(-self.CELL, self.CELL + 1)
        kernel = np.clip(1 - np.abs(taps) / (self.CELL * rng.uniform(0.52, 0.62)), 0, None)
        self.luma, self.chroma = float(rng.uniform(6.0, 9.0)), float(rng.uniform(3.0, 5.0))
        self.cells = self._grid(kernel, int(rng.integers(self.CELL)))
        self.side = self._grid(kernel, int(rng.integers(self.CELL)))
        self.smooth = float(rng.uniform(0.3, 0.5))

    def _grid(self, kernel: Floats, phase: int) -> Floats:
        """A transposed convolution (stride CELL) of a constant: its uneven overlap, zero mean, unit sigma [CANVAS,CANVAS]."""
        impulses = np.zeros(self.CANVAS + 4 * self.CELL)
        impulses[phase :: self.CELL] = 1
        line = np.convolve(impulses, kernel, mode="same")[2 * self.CELL : -2 * self.CELL]
        grid = np.outer(line, line)
        return ((grid - grid.mean()) / grid.std()).astype(np.float32)

    def frames(self) -> Iterator[Floats]:
        """Forged pictures [height,width,3], RGB, 0..255, in order."""
        target, take = self.target, self.target.take
        half = self.CANVAS / 2
        per_unit = self.CANVAS / 2.5
        ramp = np.clip(1.35 - 1.15 * np.hypot(*np.meshgrid(np.linspace(-1, 1, self.CANVAS), np.linspace(-1, 1, self.CANVAS))), 0, 1)
        fade = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
        for index in range(take.frames):
            scene = target.frame(index)
            size = (scene.shape[1], scene.shape[0])
            place = target.place(index)
            to_units = np.float32([[1 / per_unit, 0, -half / per_unit], [0, -1 / per_unit, half / per_unit - 0.15], [0, 0, 1]])
            to_frame = (place @ to_units).astype(np.float32)
            cover = cv2.warpAffine(fade, to_frame, size)[..., None]
            pattern = np.dstack([self.luma * self.cells + self.chroma * self.side, self.luma * self.cells - 0.5 * self.chroma * self.side, self.luma * self.cells - self.chroma * self.side])
            pattern = cv2.warpAffine(pattern * fade[..., None], to_frame, size, flags=cv2.INTER_CUBIC)
            soft = cv2.GaussianBlur(scene, (0, 0), 1.4 * take.unit / 90)
            scene += (soft - scene) * (cover * self.smooth) + pattern
            yield scene
