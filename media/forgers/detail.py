"""Sharpness and tone: a forged clip gets the real one's, so that no detector can go by blur, colour or contrast alone."""

import cv2
import numpy as np

from media.forgers.masks import Floats

SIGMA = 1.0  # what a blur of so many pixels takes away is detail
LEAST_GAIN, MOST_GAIN = 0.7, 2.2


def detail(frames: Floats) -> float:
    """Spread of the fine detail of a clip [T,S,S,3], in 8-bit steps."""
    return float(np.std([frame - cv2.GaussianBlur(frame, (0, 0), SIGMA) for frame in frames]))


def match_detail(made: Floats, wanted: float) -> Floats:
    """The clip [T,S,S,3] with its detail scaled to spread `wanted`, by a factor from LEAST_GAIN to MOST_GAIN that all frames share."""
    gain = np.clip(wanted / max(detail(made), 1e-3), LEAST_GAIN, MOST_GAIN)
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), SIGMA) for frame in made])
    matched: Floats = soft + gain * (made - soft)
    return matched


def match_tone(made: Floats, frames: Floats) -> Floats:
    """The clip [T,S,S,3] with mean and spread of each colour as in `frames`, over the clip; spreads are scaled by 0.6 to 1.8."""
    axes = (0, 1, 2)
    gain = np.clip(frames.std(axis=axes) / np.maximum(made.std(axis=axes), 1e-3), 0.6, 1.8)
    matched: Floats = (made - made.mean(axis=axes)) * gain + frames.mean(axis=axes)
    return matched
