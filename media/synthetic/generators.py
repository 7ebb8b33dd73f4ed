"""The forgers of the sample world, on rendered pictures before the camera. What betrays the one says nothing about the other.

`BlendSwap` pastes another person's inner face: a seam, another colour, another sharpness. `Upsampler` makes the whole head anew
with a crude decoder: no seam at all, but the overlap of its transposed convolution prints a faint periodic grid. The later ones
(`CoarseUpsampler`, `FineUpsampler`, `Smoother`) are for long runs, in which a new forger comes every few weeks.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from media.synthetic.renderer import PersonRenderer
from media.synthetic.skin import Floats, single


class BlendSwap:
    """The inner face of `donor` on the head of `target`. One draw of parameters a clip.

    Its strength is fixed so that the demo's network of 200k parameters learns it from 100 clips in a minute (AUC 0.995 on 42 and 42 clips of
    other people after 240 steps of phase 1) and stays near chance on `Upsampler` (0.45) until it has met that one (0.99).
    """

    def __init__(self, target: PersonRenderer, donor: PersonRenderer, rng: np.random.Generator) -> None:
        self.target, self.donor = target, donor
        self.feather = float(rng.uniform(0.010, 0.022)) * target.take.unit
        self.matched = float(rng.uniform(0.5, 0.8))  # how much of the colour difference is removed
        self.tint = (rng.normal(0, 9.0, 3) + rng.normal(0, 8.0)).astype(np.float32)  # 8-bit values
        self.blur = float(rng.uniform(0.9, 1.9)) * target.take.unit / 90
        self.shrink = float(rng.uniform(0.92, 1.06))

    def frames(self) -> Iterator[Floats]:
        """Forged pictures [height,width,3], RGB, 0..255, in order."""
        for index in range(self.target.take.frames):
            scene, other = self.target.frame(index), self.donor.frame(index)
            goal, outline = self.target.inner_face(index), self.donor.inner_face(index)
            matrix = _similarity(outline, goal)
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

    The decoder works on an aligned canvas, so its grid sticks to the head. Brightness and colour keep their local means, the detail stays,
    and the grid fades out over hair, neck and background: there is neither seam nor mismatch nor other sharpness to find. It is faint
    (some 8-bit steps) and everywhere on the face, so that only a detector that has met it adds it up.
    """

    CANVAS = 128  # px of the decoder's canvas
    PER_UNIT = 49.0  # canvas px a head unit: a cell of 5 is a tenth of a head unit, some 10 px of a face 140 px wide
    CELL = 5
    LUMA = (5.5, 7.0)  # amplitudes, sigma of 8-bit values
    CHROMA = (5.5, 7.0)

    def __init__(self, target: PersonRenderer, rng: np.random.Generator) -> None:
        self.target = target
        luma, chroma = float(rng.uniform(*self.LUMA)), float(rng.uniform(*self.CHROMA))
        bright, tinted = self._grid(rng), self._grid(rng)
        self.pattern = np.dstack([luma * bright + chroma * tinted, luma * bright - 0.4 * chroma * tinted, luma * bright - chroma * tinted])

    def _grid(self, rng: np.random.Generator) -> Floats:
        """What a transposed convolution (stride CELL, a kernel that does not divide by it) makes of a constant [CANVAS,CANVAS].

        Its uneven overlap in rows and columns, with zero mean and unit sigma (Odena et al. 2016, "Deconvolution and checkerboard artifacts").
        """
        reach = self.CELL * rng.uniform(0.5, 0.6)
        taps = np.arange(-self.CELL, self.CELL + 1)
        kernel = np.clip(np.cos(taps / reach * np.pi / 2), 0, None) * (np.abs(taps) < reach)
        lines: list[NDArray[np.floating]] = []
        for phase in (int(rng.integers(self.CELL)), int(rng.integers(self.CELL))):
            impulses = np.zeros(self.CANVAS + 4 * self.CELL)
            impulses[phase :: self.CELL] = 1
            lines.append(np.convolve(impulses, kernel, mode="same")[2 * self.CELL : -2 * self.CELL])
        grid = lines[0][:, None] + lines[1][None, :]
        return ((grid - grid.mean()) / grid.std()).astype(np.float32)

    def frames(self) -> Iterator[Floats]:
        """Forged pictures [height,width,3], RGB, 0..255, in order."""
        target, take = self.target, self.target.take
        half, step = self.CANVAS / 2, 1 / self.PER_UNIT
        axis = np.linspace(-1, 1, self.CANVAS, dtype=np.float32)
        ramp = np.clip(2.6 * (1 - np.hypot(axis[None, :] * 1.15, axis[:, None])), 0, 1)
        fade = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)[..., None]
        to_units = single([step, 0, -half * step, 0, -step, half * step - 0.12, 0, 0, 1]).reshape(3, 3)
        layers = (self.pattern * fade).astype(np.float32)
        for index in range(take.frames):
            scene = target.frame(index)
            to_frame = (target.place(index) @ to_units).astype(np.float32)
            drawn = cv2.warpAffine(layers, to_frame, (scene.shape[1], scene.shape[0]), flags=cv2.INTER_CUBIC)
            bright = np.clip(cv2.blur(scene, (9, 9)).mean(axis=2, keepdims=True) / 110, 0.5, 1.2)  # a decoder's error grows with its output
            yield scene + drawn * bright


class CoarseUpsampler(Upsampler):
    """A decoder of another stride: the same kind of trace at another period."""

    CELL = 8


class FineUpsampler(Upsampler):
    """A decoder of stride 3: a grid as fine as the camera lets through."""

    CELL = 3
    LUMA = (7.0, 9.0)
    CHROMA = (7.0, 9.0)


class Smoother:
    """The target's own inner face without its finest detail, and with grain of its own, as a denoising generator leaves it. No grid, hardly a seam."""

    def __init__(self, target: PersonRenderer, rng: np.random.Generator) -> None:
        self.target = target
        self.sigma = float(rng.uniform(1.2, 2.0)) * target.take.unit / 90
        self.reach = float(rng.uniform(0.95, 1.05))
        self.grain = float(rng.uniform(3.0, 5.0))  # 8-bit values
        self.rng = rng

    def frames(self) -> Iterator[Floats]:
        """Forged pictures [height,width,3], RGB, 0..255, in order."""
        for index in range(self.target.take.frames):
            scene, goal = self.target.frame(index), self.target.inner_face(index)
            mask = np.zeros(scene.shape[:2], np.uint8)
            middle = goal.mean(axis=0)
            polygon = middle + (goal - middle) * self.reach
            cv2.fillPoly(mask, np.round(polygon * 16).astype(np.int32)[None], 255, cv2.LINE_AA, 4)
            cover = cv2.GaussianBlur(mask, (0, 0), 0.05 * self.target.take.unit).astype(np.float32)[..., None] / 255
            grain = cv2.GaussianBlur(self.rng.normal(0, self.grain, scene.shape).astype(np.float32), (0, 0), 1.2) * 2
            yield scene + (cv2.GaussianBlur(scene, (0, 0), self.sigma) + grain - scene) * cover


def _similarity(start: Floats, goal: Floats) -> Floats:
    """The shift, turn and scale [2,3] that carries points `start` [N,2] nearest to `goal` [N,2] (least squares; no random search)."""
    a, b = start - start.mean(axis=0), goal - goal.mean(axis=0)
    size = float((a**2).sum())
    cosine, sine = float((a * b).sum()) / size, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / size
    turn = single([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, goal.mean(axis=0) - turn @ start.mean(axis=0)]).astype(np.float32)
