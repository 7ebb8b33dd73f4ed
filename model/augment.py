"""Augmentation of whole clips: one draw a clip, the same for each of its frames, and by the same rules for real and fake.

Half of the clips are turned, moved, zoomed or sheared and half get noise, so that the network also sees pixels that
nobody resampled: resampling and noise hide the very traces that it looks for.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.data import to_tensor
from workspace.settings import AugmentSettings

CHANCE = 0.5  # of a geometric change, and of noise


def augment_clip(clip: NDArray[np.uint8], settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """uint8 [T, H, W, 3] -> float32 [T, 3, H, W] in 0..1, changed by one draw from `rng`. The clip itself stays as it is."""
    if settings.degrade > 0:
        from media.degrade import degrade_clip

        clip = degrade_clip(clip, rng, settings)
    frames = to_tensor(clip)
    if rng.random() < settings.flip:
        frames = frames.flip(3)
    if rng.random() < CHANCE:
        frames = _move(frames, settings, rng)
    frames = frames * (1.0 + settings.brightness * rng.uniform(-1, 1))
    if rng.random() < CHANCE:
        sigma = settings.noise_sigma * rng.random()
        frames = frames + sigma * torch.from_numpy(rng.standard_normal(tuple(frames.shape), dtype=np.float32))
    return frames.clamp_(0, 1)


def _move(frames: Tensor, settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """Rotation, zoom, shear and shift of all frames [T, 3, H, W] alike; what lies outside mirrors the inside."""
    turn = math.radians(settings.rotation_degrees * rng.uniform(-1, 1))
    zoom, shear, right, down = settings.affine * rng.uniform(-1, 1, 4)
    rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = rotate @ np.array([[1.0, shear], [0.0, 1.0]]) * (1.0 + zoom)
    theta = torch.tensor(np.column_stack([matrix, [2 * right, 2 * down]]), dtype=torch.float32)  # grid coordinates reach from -1 to 1
    grid = F.affine_grid(theta.unsqueeze(0), [1, 3, frames.shape[2], frames.shape[3]], align_corners=False)
    return F.grid_sample(frames, grid.expand(frames.shape[0], -1, -1, -1), mode="bilinear", padding_mode="reflection", align_corners=False)
