"""Face masks from landmarks: hulls of several kinds, grown or shrunk, softened, and always zero beyond a known reach."""

import cv2
import numpy as np
from numpy.typing import NDArray

from media.landmarks import FACE_OVAL

Floats = NDArray[np.floating]
LANDMARKS = 468
OVAL = tuple(FACE_OVAL)
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
NOSE = (168, 6, 197, 195, 1, 98, 327, 2)
LIPS = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 13, 14)
LOWER_OVAL = (361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132)
HULLS: dict[str, tuple[int, ...]] = {
    "whole": OVAL,
    "inner": BROWS + EYES + LIPS + NOSE,
    "upper": BROWS + EYES + (1, 98, 327, 234, 454),
    "lower": LOWER_OVAL + LIPS + (1, 98, 327),
}
REACH = 0.12  # no mask reaches farther than this part of the crop's side outside the hull of all landmarks


def steady(landmarks: NDArray[np.floating]) -> Floats:
    """Landmarks [T,468,2] smoothed over three frames: a trembling mesh would make a trembling seam, which no good forgery has."""
    points = np.asarray(landmarks, np.float32)
    if len(points) < 3:
        return points.copy()
    padded = np.concatenate([points[:1], points, points[-1:]])
    smoothed: Floats = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return smoothed


def hull_mask(points: Floats, size: int, grow: float = 0.0, warp: Floats | None = None) -> NDArray[np.uint8]:
    """The filled convex hull [size,size], 0 or 255, of `points` [N,2] in 0..1, grown (or shrunk) by a part of the side.

    `warp` [N,2] in 0..1 moves the points first, for hulls that are not the textbook one.
    """
    corners = (points if warp is None else points + warp) * size - 0.5
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(corners * 16).astype(np.int32)), 255, cv2.LINE_8, 4)
    steps = round(abs(grow) * size)
    if steps:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * steps + 1, 2 * steps + 1))
        mask = _grown(mask, kernel) if grow > 0 else cv2.erode(mask, kernel)
    return mask


def _grown(mask: NDArray[np.uint8], kernel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`cv2.dilate` of a filled convex hull [S,S] by an ellipse, in a quarter of the time: in each row both are one run of pixels, and so is what they make."""
    size, steps = mask.shape[0], kernel.shape[0] // 2
    filled, widths = mask > 0, kernel.sum(axis=1).astype(np.int64) // 2
    rows = np.flatnonzero(filled.any(axis=1))
    first, last = np.full(size + 2 * steps, 2 * size), np.full(size + 2 * steps, -2 * size)  # rows beyond the crop hold nothing
    first[rows + steps], last[rows + steps] = filled[rows].argmax(axis=1), size - 1 - filled[rows, ::-1].argmax(axis=1)
    near = np.arange(size)[:, None] + np.arange(2 * steps + 1)  # [S, rows that reach this one]
    begins, ends = (first[near] - widths).min(axis=1), (last[near] + widths).max(axis=1)
    places = np.arange(size)
    return np.where((places >= begins[:, None]) & (places <= ends[:, None]), np.uint8(255), np.uint8(0))


def feather(mask: NDArray[np.uint8], softness: float, limit: NDArray[np.uint8]) -> Floats:
    """`mask` as 0..1 with soft edges over `softness` of the side, zero wherever `limit` is zero."""
    side = max(1, round(softness * mask.shape[0])) * 2 + 1
    # Two box filters make a ramp without a Gaussian's endless tail.
    soft = cv2.blur(cv2.blur(mask.astype(np.float32) / 255, (side, side)), (side, side))
    return np.where(limit > 0, soft, np.float32(0))


def reach_mask(points: Floats, size: int) -> NDArray[np.uint8]:
    """Where a forger may change pixels: the hull of all landmarks grown by REACH."""
    return hull_mask(points, size, REACH)


def cover(points: Floats, size: int, hull: tuple[int, ...], softness: float, reach: Floats | None = None) -> Floats:
    """How much of each pixel [T,S,S] in 0..1 a forgery takes: the hull of the mesh points [T,468,2] it names, or everything where it names none.

    Nothing beyond the reach of `points`, or of the meshes `reach` [T,468,2] where the face was moved away from those.
    """
    if not hull:
        return np.ones((len(points), size, size), np.float32)
    limits = points if reach is None else reach
    return np.stack([feather(hull_mask(mesh[list(hull)], size), softness, reach_mask(limit, size)) for mesh, limit in zip(points, limits, strict=True)])
