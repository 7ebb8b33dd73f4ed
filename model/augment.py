"""Augmentation of whole clips: one draw a clip, the same for each of its frames, and by the same rules for real and fake
but one, which is off by default: a real clip may be degraded a second time (`poor_reals`), since forging alone softens a picture.

Not every clip is turned, moved, zoomed or sheared, nor gets noise (`move_chance`, `noise_chance`), so that the network also sees pixels that
nobody resampled: resampling and noise hide the very traces that it looks for. A part of the face is covered now and then
(after Das et al. 2021, Face-Cutout; the crop is aligned, so the parts lie where model/regions.py says), and part of the
spectrum taken away, so that no single place and no single frequency decides; all of the spectrum may be tilted, so that
how sharp a picture is says nothing; and the colours may be taken away, so that a picture without any is nothing new.
"""

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.data import to_tensor
from workspace.settings import AugmentSettings

MID_GREY = 0.5
LUMA = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)  # of red, green and blue, ITU-R BT.601: as JPEG and OpenCV take colours away
KNOTS = 5  # of the curve of a tilt, from a few periods a picture to the finest detail
LEAST_DB, MOST_DB = -24.0, 10.0
# the normal distribution in as many steps as two bytes tell: a look into it is a quarter of the work of a draw from it
NORMAL = torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)).float().numpy()


def mirror_only(clip: NDArray[np.uint8], settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """uint8 [T, H, W, 3] -> float32 [T, 3, H, W] in 0..1, mirrored by chance and else pixel for pixel: an attack does not survive more."""
    frames = to_tensor(clip)
    return frames.flip(3) if rng.random() < settings.flip else frames


def augment_clip(clip: NDArray[np.uint8], settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """uint8 [T, H, W, 3] -> float32 [T, 3, H, W] in 0..1, changed by one draw from `rng`. The clip itself stays as it is."""
    if settings.degrade > 0:
        from media.degrade import degrade_clip

        clip = degrade_clip(clip, rng, settings)
    frames = to_tensor(clip)
    if settings.cutout > 0 and rng.random() < settings.cutout:
        frames = cover(frames, rng)
    if settings.frequency_mask > 0 and rng.random() < settings.frequency_mask:
        frames = mask_spectrum(frames, settings.frequency_masked, rng)
    if rng.random() < settings.flip:
        frames = frames.flip(3)
    if rng.random() < settings.move_chance:
        frames = _move(frames, settings, rng)
    frames.mul_(1.0 + settings.brightness * rng.uniform(-1, 1))  # these pixels are nobody else's
    if settings.contrast > 0:
        frames.sub_(MID_GREY).mul_(1.0 + settings.contrast * rng.uniform(-1, 1)).add_(MID_GREY)  # about its own mean a pair would differ everywhere
    if settings.saturation > 0:
        grey = frames.mean(1, keepdim=True)
        frames.sub_(grey).mul_(1.0 + settings.saturation * rng.uniform(-1, 1)).add_(grey)
    if settings.noise_sigma > 0 and rng.random() < settings.noise_chance:
        sigma = settings.noise_sigma * rng.random()
        drawn = rng.integers(1 << 16, size=tuple(frames.shape), dtype=np.uint16)
        looked_up = cv2.LUT(drawn.reshape(-1, frames.shape[-1]), NORMAL[None])
        frames.add_(torch.from_numpy(looked_up).view_as(frames), alpha=sigma)
    if settings.tilt_db > 0 and rng.random() < settings.tilt_chance:
        frames = tilt_spectrum(frames, settings.tilt_db, rng)
    if settings.grey > 0 and rng.random() < settings.grey:
        frames = (frames * LUMA).sum(1, keepdim=True).repeat(1, 3, 1, 1)  # last, for the noise of a black and white picture has no colour either
    return frames.clamp_(0, 1)


def impoverish(clip: NDArray[np.uint8], chance: float, settings: AugmentSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The clip [T, H, W, 3] uint8, with the chance `chance` degraded before all else (`poor_sources`, `poor_reals`); none where nothing is degraded.

    As the last step it left a trace of its own, which a network took for a mark of reals.
    """
    if settings.degrade <= 0 or chance <= 0 or rng.random() >= chance:
        return clip
    from media.degrade import degrade_clip

    return degrade_clip(clip, rng, settings.model_copy(update={"degrade": 1.0}))


def _move(frames: Tensor, settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """Rotation, zoom, shear and shift of all frames [T, 3, H, W] alike; what lies outside mirrors the inside."""
    turn = math.radians(settings.rotation_degrees * rng.uniform(-1, 1))
    zoom, shear, right, down = settings.affine * rng.uniform(-1, 1, 4)
    rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = rotate @ np.array([[1.0, shear], [0.0, 1.0]]) * (1.0 + zoom)
    height, width = frames.shape[2:]
    # grid coordinates reach from -1 to 1; these are the pixels' centres
    x, y = (torch.arange(1 - side, side, 2, dtype=torch.float32) / side for side in (width, height))
    grid = torch.empty(1, height, width, 2)
    for axis, shift in enumerate((2 * right, 2 * down)):
        torch.add((y * matrix[axis, 1] + shift)[:, None], (x * matrix[axis, 0])[None], out=grid[0, ..., axis])
    return F.grid_sample(frames, grid.expand(frames.shape[0], -1, -1, -1), mode="bilinear", padding_mode="reflection", align_corners=False)


# Corners (left, top, right, bottom) of parts of the aligned face in 0..1 of the crop (margin 1.3): eyes, left eye, right eye, nose, mouth, either half.
PARTS = (
    (0.20, 0.30, 0.80, 0.44), (0.20, 0.30, 0.50, 0.44), (0.50, 0.30, 0.80, 0.44), (0.40, 0.40, 0.60, 0.62), (0.34, 0.60, 0.66, 0.78), (0.10, 0.1, 0.5, 0.9),
    (0.5, 0.1, 0.9, 0.9),
)  # fmt: skip


def cover(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Frames [T, 3, H, W] with a part of the face covered by one colour or by noise, the same in each frame."""
    side = frames.shape[-1]
    left, top, right, bottom = (round(side * float(np.clip(edge + rng.normal(0, 0.02), 0, 1))) for edge in PARTS[int(rng.integers(len(PARTS)))])
    covered = frames.clone()
    patch = covered[:, :, top:bottom, left:right]
    if rng.random() < 0.5:
        patch[:] = torch.from_numpy(rng.random((1, 3, 1, 1), dtype=np.float32))
    else:
        patch[:] = torch.from_numpy(rng.random((1, *patch.shape[1:]), dtype=np.float32))
    return covered


def mask_spectrum(frames: Tensor, part: float, rng: np.random.Generator) -> Tensor:
    """Frames [T, 3, H, W] without a random `part` of their spatial frequencies, the same ones in each frame; the mean stays."""
    spectrum = torch.fft.rfft2(frames)
    keep = torch.from_numpy(rng.random(tuple(spectrum.shape[-2:])) >= part)
    keep[0, 0] = True
    return torch.fft.irfft2(spectrum * keep, s=frames.shape[-2:])


def tilt_spectrum(frames: Tensor, spread_db: float, rng: np.random.Generator) -> Tensor:
    """Frames [T, 3, H, W], fine detail weakened or raised by a smooth random curve over frequency, the same for each frame.

    At the finest detail the gain is normal with a spread of `spread_db`, and a quarter of that again by which the curve bends; coarse shades stay.
    """
    side = frames.shape[-2]
    octaves = np.log2(np.maximum(np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(frames.shape[-1])[None]) * side, 1.0))
    part = np.linspace(0, 1, KNOTS)
    curve = part * (rng.normal(0, spread_db) + rng.normal(0, spread_db / 4, KNOTS))
    gain = 10 ** (np.clip(np.interp(octaves, np.linspace(1.5, math.log2(side * 0.7), KNOTS), curve), LEAST_DB, MOST_DB) / 20)
    return torch.fft.irfft2(torch.fft.rfft2(frames) * torch.from_numpy(gain).float(), s=frames.shape[-2:])
