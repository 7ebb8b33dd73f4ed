"""Rendered people as the real detector cuts them: what forgers work on in tests."""

from pathlib import Path

import cv2
import numpy as np

from media.faces import extract_clips
from media.forgers.detail import COVERED
from media.landmarks import FACE_OVAL, LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from media.synthetic import make_sample_media
from workspace.settings import FaceSettings

DETAIL_SIGMA = 1.0
EYE_GROWTH = 1.9  # the eye region reaches from brow to lower lid: the eye's outline, widened so much
LIP_GROWTH = 1.25
SOFTNESS = 0.02  # blur of the masks' edges, part of the side
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


def region_masks(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Eyes, lips and skin of one face as soft masks, float32 [3, size, size] in 0..1; skin is the face oval without the other two.

    landmarks [468, 2] in crop coordinates 0..1. A region outside the crop gives zeros.
    """
    points = landmarks.astype(np.float32) * size
    eyes = np.maximum(_filled(_grown(points[LEFT_EYE], EYE_GROWTH), size), _filled(_grown(points[RIGHT_EYE], EYE_GROWTH), size))
    lips = _filled(_grown(points[OUTER_LIPS], LIP_GROWTH), size)
    skin = np.clip(_filled(points[FACE_OVAL], size) - eyes - lips, 0, 1)
    return np.stack([eyes, lips, skin])


def _grown(outline: np.ndarray, factor: float) -> np.ndarray:
    middle = outline.mean(axis=0)
    grown = middle + (outline - middle) * factor
    # a closed eye or mouth has no height: at least a third of its width stays
    across = outline[:, 0].max() - outline[:, 0].min()
    height = grown[:, 1].max() - grown[:, 1].min()
    if 0 < height < across / 3:
        grown[:, 1] = middle[1] + (grown[:, 1] - middle[1]) * (across / 3 / height)
    return np.asarray(grown, np.float32)


def _filled(outline: np.ndarray, size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    fine = np.rint(np.clip(outline, -4 * size, 5 * size) * 16 - 8).astype(np.int32)  # a sixteenth of a pixel; centres at 0.5
    cv2.fillPoly(mask, [cv2.convexHull(fine)], 1.0, lineType=cv2.LINE_AA, shift=4)
    return np.clip(cv2.GaussianBlur(mask, (0, 0), max(0.3, SOFTNESS * size)), 0, 1)
