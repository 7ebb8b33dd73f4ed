"""Sharpness and shades: most forged clips get the real one's, so that no detector can go by blur, colour or contrast alone."""

import cv2
import numpy as np

from media.forgers.masks import Floats

SIGMA = 1.0  # what a blur of so many pixels takes away is detail
LEAST_GAIN, MOST_GAIN = 0.7, 2.2


def detail(frames: Floats, masks: Floats | None = None) -> float:
    """Spread of the fine detail of a clip [T,S,S,3], in 8-bit steps; with `masks` [T,S,S] where they are above a half (0 where nowhere)."""
    fine = np.stack([frame - cv2.GaussianBlur(frame, (0, 0), SIGMA) for frame in frames])
    seen = fine if masks is None else fine[masks > 0.5]
    return float(np.std(seen)) if seen.size else 0.0


def match_detail(made: Floats, wanted: float, masks: Floats | None = None) -> Floats:
    """The clip [T,S,S,3] with its detail (in `masks`) scaled to spread `wanted`, by a factor from LEAST_GAIN to MOST_GAIN that all frames share."""
    gain = np.clip(wanted / max(detail(made, masks), 1e-3), LEAST_GAIN, MOST_GAIN)
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), SIGMA) for frame in made])
    matched: Floats = soft + gain * (made - soft)
    return matched


def match_shades(made: Floats, frames: Floats, sigma: float) -> Floats:
    """The clip [T,S,S,3] with everything coarser than `sigma` pixels as in `frames`: colours and shades stay, only fine detail is `made`'s.

    Small decoders draw red lips brown and skin pale: without this a detector learns that colour is real.
    """
    matched: Floats = made + np.stack([cv2.GaussianBlur(real - drawn, (0, 0), sigma) for real, drawn in zip(frames, made, strict=True)])
    return matched
