"""Straight, steady crops: where a face's crop lies in its frame, how that is smoothed over a clip, and how pixels get there.

A crop is placed by a similarity transform (shift, turn, scale) fitted to points that speech and blinks hardly move; the
transforms of a clip are smoothed over time, since a crop that trembles with the mesh's noise looks like forgery to a network.
Coordinates are continuous: the first pixel reaches from 0 to 1, its centre is at 0.5.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

# Points of the mesh and where they lie in a frontal face, in units of the distance of the outer eye corners; x right, y down, origin
# midway between these: eye corners, nose bridge and base, mouth corners, temples. Means over 564 frontal frames of 43 clips, made symmetric.
POINTS = (33, 133, 362, 263, 168, 6, 197, 2, 61, 291, 127, 356)
FRONTAL = np.array(
    [
        (-0.500, 0.000), (-0.192, 0.015), (0.192, 0.015), (0.500, 0.000), (0.000, -0.061), (0.000, 0.028), (0.000, 0.102), (0.000, 0.473),
        (-0.289, 0.720), (0.289, 0.720), (-0.762, 0.050), (0.762, 0.050),
    ]
)  # fmt: skip
FACE_CENTRE = np.array([0.0, 0.312])  # midway between forehead top (point 10) and chin (152), same units and frames
FACE_EXTENT = 1.758  # from forehead top to chin: the longer side of a frontal face
SMOOTH_SECONDS = 0.12
CONVEX = 1.01  # hull over area of what a picture leaves of a crop, at most: its line is drawn in pixels
PLAIN_RATIO = 1.33  # shrinking by less needs no area filter before bilinear sampling


def place(landmarks: np.ndarray) -> np.ndarray:
    """Where a face lies, from its mesh [468, 2]: centre x, centre y, side of the face (pixels), roll (radians). Float64 [4].

    Least squares similarity from the frontal points to the mesh's (Umeyama 1991, without reflection).
    """
    target = landmarks[list(POINTS)].astype(np.float64)
    a, b = FRONTAL - FRONTAL.mean(axis=0), target - target.mean(axis=0)
    power = (a * a).sum()
    cos = (a * b).sum() / power
    sin = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / power
    turn = np.array([[cos, -sin], [sin, cos]])
    centre = target.mean(axis=0) + turn @ (FACE_CENTRE - FRONTAL.mean(axis=0))
    return np.array([centre[0], centre[1], math.hypot(cos, sin) * FACE_EXTENT, math.atan2(sin, cos)])


def smooth(places: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Places [T, 4] of one face at times [T] as a steady path [T, 4]: a Gaussian over time, of SMOOTH_SECONDS, local lines at the ends.

    Fitting a line under the window, not a mean, keeps up with a head that moves evenly and does not pull the ends inwards.
    """
    path = places.astype(np.float64).copy()
    path[:, 2] = np.log(path[:, 2])
    path[:, 3] = np.unwrap(path[:, 3])
    result = np.empty_like(path)
    for at, now in enumerate(seconds):
        lag = seconds - now
        weight = np.exp(-0.5 * (lag / SMOOTH_SECONDS) ** 2)
        mean_lag = (weight * lag).sum() / weight.sum()
        mean = (weight[:, None] * path).sum(axis=0) / weight.sum()
        spread = (weight * (lag - mean_lag) ** 2).sum()
        slope = (weight[:, None] * (lag - mean_lag)[:, None] * (path - mean)).sum(axis=0) / (spread + 1e-3 * weight.sum() * SMOOTH_SECONDS**2)
        result[at] = mean - slope * mean_lag
    result[:, 2] = np.exp(result[:, 2])
    return result


def crop_transform(where: np.ndarray, margin: float, size_px: int) -> np.ndarray:
    """The 2 x 3 matrix from frame pixels to the pixels of a crop of `size_px`, whose side is `margin` times the face's."""
    x, y, side, roll = where
    scale = size_px / (margin * side)
    cos, sin = math.cos(roll) * scale, math.sin(roll) * scale
    middle = size_px / 2
    return np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]])


def warp(picture: np.ndarray, matrix: np.ndarray, size_px: int) -> np.ndarray:
    """The square [size_px, size_px, 3] that the 2 x 3 `matrix` (picture to square) cuts out, without aliasing; black outside the picture.

    A picture that shrinks much is first cut to what is needed and reduced by areas.
    """
    part, shift, factor = reduced(picture, matrix, size_px)
    if not part.size:
        return np.zeros((size_px, size_px, 3), np.uint8)
    return sample(part, rebased(matrix, shift, factor), size_px)


def sample(picture: np.ndarray, matrix: np.ndarray, size_px: int) -> np.ndarray:
    """Like `warp`, for a picture that is not much finer than the square."""
    shifted = matrix.copy()  # OpenCV counts from the centre of the first pixel
    shifted[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    return cv2.warpAffine(picture, shifted, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def rebased(matrix: np.ndarray, shift: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """`matrix` for a part of the picture that `reduced` returned with this shift and factor."""
    result = matrix.copy()
    result[:, :2] = matrix[:, :2] / factor
    result[:, 2] = matrix[:, :2] @ shift + matrix[:, 2]
    return result


def continued(frames: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Crops [T,S,S,3] that go on beyond their pictures, where `outside` [T,S,S] is, with the nearest pixel of the picture; `frames` itself where none is."""
    if not outside.any():
        return frames
    found = frames.copy()
    for frame, part in zip(found, outside, strict=True):
        if part.any() and not part.all():
            places, nearest = _nearest(np.packbits(part).tobytes(), part.shape)
            pixels = frame.reshape(-1, frame.shape[2])
            pixels[places] = pixels[nearest]
    return found


@lru_cache(maxsize=32)  # one crop is gone over again and again: degraded, forged, degraded
def _nearest(packed: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of a frame lie outside, by number, and of each the nearest inside, from the bits of where that is."""
    outside = np.unpackbits(np.frombuffer(packed, np.uint8), count=shape[0] * shape[1])
    _, label = cv2.distanceTransformWithLabels(outside.reshape(shape), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    places, inside = np.flatnonzero(outside), np.flatnonzero(outside == 0)
    source = np.zeros(int(label.max()) + 1, np.intp)
    source[label.ravel()[inside]] = inside
    return places, source[label.ravel()[places]]


def all_beyond(frames: np.ndarray) -> np.ndarray:
    """Where crops [T,S,S,3] show no picture or half of it: `beyond` and the pixels beside it, [T,S,S] bool."""
    outside = [beyond(frame) for frame in frames]
    return np.stack([cv2.dilate(one, np.ones((3, 3), np.uint8)) if one.any() else one for one in outside]).view(np.bool_)


def done_within(frames: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What `change` makes of crops [T,S,S,3], same shape, as if their pictures went on for ever; what lies beyond them stays as it is.

    Whoever blurs, resizes or draws a crop takes its black for a part of the picture: it bleeds in, a line along the edge that no picture has
    whose crop was cut out afterwards.
    """
    outside = all_beyond(frames)
    if not outside.any():
        return change(frames)
    return kept_beyond(frames, change(continued(frames, outside)), outside)


def kept_beyond(frames: np.ndarray, made: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """A copy of `made` [T,S,S,3] uint8 with the pixels of `frames` where `outside` [T,S,S] bool is."""
    kept = np.array(made, order="C")
    for frame, part, result in zip(frames, outside.view(np.uint8), kept, strict=True):
        cv2.copyTo(frame, part, result)  # np.where takes ten times as long
    return kept


def reduced(picture: np.ndarray, matrix: np.ndarray, size_px: int, extra: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of a picture that a crop needs, reduced by areas to about PLAIN_RATIO times the crop's resolution, never enlarged.

    Returns (part, shift [2], factor [2]): a point p of the picture lies at (p - shift) * factor in the part. `extra` widens the part by so
    many crop sides at each edge. The part is empty where crop and picture do not meet; it may be a view into the picture.
    """
    low, high = -extra * size_px - 2, (1 + extra) * size_px + 2
    corners = np.array([(low, low), (high, low), (high, high), (low, high)])
    inverse = cv2.invertAffineTransform(matrix)
    outline = corners @ inverse[:, :2].T + inverse[:, 2]
    x0, y0 = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, (picture.shape[1], picture.shape[0]))
    x1, y1 = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 1, 0, (picture.shape[1], picture.shape[0]))
    part = picture[y0:y1, x0:x1]
    scale = math.hypot(matrix[0, 0], matrix[1, 0]) * PLAIN_RATIO
    shift = np.array([x0, y0], np.float64)
    if scale >= 1 or not part.size:
        return part, shift, np.ones(2)
    width, height = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    factor = np.array([width / part.shape[1], height / part.shape[0]])
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), shift, factor


def beyond(frame: np.ndarray) -> np.ndarray:
    """1 where a crop [S,S,3] reaches beyond its picture, else 0, [S,S] uint8: black (`warp` leaves it so) from the crop's edge to a straight line.

    Black hair is no such thing: what is left of the crop must be convex, as what a picture's four sides leave of it is.
    """
    nothing = np.zeros(frame.shape[:2], np.uint8)
    if all((side[:, 0] | side[:, 1] | side[:, 2]).all() for side in (frame[0], frame[-1], frame[:, 0], frame[:, -1])):
        return nothing
    red, green, blue = cv2.split(frame)
    black = (cv2.max(cv2.max(red, green), blue) == 0).view(np.uint8)
    dark = cv2.copyMakeBorder(black, 2, 2, 2, 2, cv2.BORDER_REPLICATE)  # a black line at the edge is as good as a band
    dark = np.ascontiguousarray(cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))[2:-2, 2:-2])
    count, parts = cv2.connectedComponents(dark, connectivity=4)
    at_edge = np.zeros(count, np.uint8)
    for side in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        at_edge[side] = 1
    at_edge[0] = 0
    outside: np.ndarray = at_edge.take(parts) if count > 2 else dark * at_edge[-1]
    inside = (outside == 0).view(np.uint8)
    rows = np.flatnonzero(cv2.reduce(inside, 1, cv2.REDUCE_MAX).ravel())
    if not len(rows):
        return nothing
    ends = inside[rows].argmax(axis=1), inside.shape[1] - 1 - inside[rows, ::-1].argmax(axis=1)  # of each row: the hull is theirs
    hull = cv2.convexHull(np.concatenate([np.stack([rows, end], axis=1) for end in ends]).astype(np.int32))
    return nothing if cv2.contourArea(hull) > CONVEX * cv2.countNonZero(inside) else outside
