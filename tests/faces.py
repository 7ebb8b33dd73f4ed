"""Rendered people as the real detector cuts them: what forgers work on in tests."""

from pathlib import Path

import cv2
import numpy as np

from media.faces import extract_clips
from media.forgers.detail import COVERED
from media.synthetic import make_sample_media
from workspace.settings import FaceSettings

DETAIL_SIGMA = 1.0
Clip = tuple[np.ndarray, np.ndarray]


def rendered_clips(folder: Path, people: int = 4) -> list[Clip]:
    """A clip [8, 96, 96, 3] and its landmarks for each of `people`."""
    report = make_sample_media(folder, people=people, seconds=1.0, fakes={})
    faces = FaceSettings(size_px=96, fps=8.0, clip_frames=8, clips_per_video=1, min_clip_frames=4, max_detect_px=256)
    found = [extract_clips(folder / row["path"], faces).clips[0] for row in report.rows]
    return [(clip.frames, clip.landmarks) for clip in found]


def motion(frames: np.ndarray) -> float:
    """Mean squared difference of neighbouring frames, fine grain left out."""
    import cv2

    soft = np.stack([cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 1.0) for frame in frames])
    return float((np.diff(soft, axis=0) ** 2).mean())


def detail(frames: np.ndarray, covers: np.ndarray | None = None) -> float:
    """Spread of what a blur of one pixel takes away from a clip [T,S,S,3], in 8-bit steps; with `covers` [T,S,S] where these cover anything."""
    fine = np.stack([frame - cv2.GaussianBlur(frame, (0, 0), DETAIL_SIGMA) for frame in frames]).reshape(-1, 3)
    return float(np.std(fine if covers is None else fine[(covers > COVERED).ravel()]))


def cut_off(frames: np.ndarray) -> np.ndarray:
    """Crops [T,S,S,3] of a picture that ends in them: black below a slanting line."""
    rows, columns = np.indices(frames.shape[1:3])
    return np.where((rows > 0.75 * frames.shape[1] + 0.15 * columns)[None, ..., None], 0, np.maximum(frames, 1))
