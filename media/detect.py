"""Where the faces of a picture are: BlazeFace (full range) and the 468-point face mesh, or OpenCV's Haar cascade with the same mesh.

Anchors, box decoding, weighted non-maximum suppression and the mesh's region follow MediaPipe's graphs face_detection_full_range and
face_landmark_front_cpu. Coordinates are continuous pixels: the first pixel reaches from 0 to 1. The networks: media/networks.py.
"""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from media.align import warp
from media.networks import INPUT_PX, networks
from workspace.settings import FaceSettings

STRIDE_PX = 4  # one anchor a cell: 48 x 48 = 2304
OVERLAP = 0.3  # boxes that overlap more are one face (MediaPipe)
PRESENCE = 0.5  # least presence of a face that the mesh network reports
REGION_SCALE = 1.5  # mesh region as a multiple of the box's longer side (MediaPipe)
# A picture that is one face: on crops of 160 real faces at 0.9 to 1.6 of the mesh's extent a region of 1.2 sides gave presence >= 0.9 in
# 799 of 800; on 210 squares without a face the highest presence was 0.01. The detector found 3, 66, 140, 156 and 160 of 160.
WHOLE_REGION = 1.2  # mesh region as a multiple of the picture's longer side
WHOLE_PRESENCE = 0.9
WHOLE_SCORE = 1.0  # there is no detector's score
MOST_OBLONG = 1.5  # longer side over shorter one; more is no crop of a face
LEFT, RIGHT = 234, 454  # mesh points at the sides of the face, for yaw
EYE_CORNERS = ((33, 133), (362, 263))


@dataclass(frozen=True, slots=True)
class Detection:
    """One face of one picture, in pixels of that picture."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1 of the detector
    score: float  # of the detector (Haar: of the mesh), 0..1
    landmarks: np.ndarray  # [468, 2] float32, x then y
    eyes: np.ndarray  # [2, 2] float32: the eye at the picture's left, then the other
    yaw_degrees: float  # 0 looks at the camera; positive turns towards the picture's right
    presence: float  # that the mesh lies on a face, 0..1


@dataclass(frozen=True, slots=True)
class Box:
    """A face before the mesh: box x0, y0, x1, y1 in pixels, score, and the two eyes [2, 2] where the detector says where they are."""

    box: np.ndarray
    score: float
    eyes: np.ndarray | None


class FaceFinder:
    """Finds and fits the faces of a picture as the settings say. Cheap to make; safe to call from several threads."""

    def __init__(self, settings: FaceSettings) -> None:
        self.settings = settings

    def find(self, frame: np.ndarray) -> list[Detection]:
        """The faces of an RGB picture uint8 [H, W, 3], the largest first, each with its mesh. What the mesh does not confirm is left out.

        Raises ModelFileError when the networks' files are not installed.
        """
        height, width = frame.shape[:2]
        small = shrunk(frame, self.settings.max_detect_px)
        ratio = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
        boxes = _blazeface(small, self.settings.min_score) if self.settings.detector == "blazeface" else _haar(small)
        found = [self._fit(frame, small, ratio, box) for box in boxes]
        faces = [face for face in found if face is not None]
        return sorted(faces, key=lambda face: (-_area(face.box), face.box))

    def fit_whole(self, frame: np.ndarray) -> list[Detection]:
        """The one face that fills an RGB picture, as in the crops of many data sets, or nothing. For pictures in which `find` finds nothing:

        the detector wants some of a head's surroundings. The mesh says whether it lies on a face.
        """
        height, width = frame.shape[:2]
        if max(height, width) > MOST_OBLONG * min(height, width):
            return []
        small = shrunk(frame, self.settings.max_detect_px)
        ratio = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
        inset = np.array([small.shape[1], small.shape[0]] * 2, np.float32) * np.array([1, 1, -1, -1]) * (1 - WHOLE_REGION / REGION_SCALE) / 2
        box = np.array([0, 0, small.shape[1], small.shape[0]], np.float32) + inset
        face = self._fit(frame, small, ratio, Box(box.astype(np.float32), WHOLE_SCORE, None))
        return [face] if face is not None and face.presence >= WHOLE_PRESENCE else []

    def _fit(self, frame: np.ndarray, small: np.ndarray, ratio: np.ndarray, box: Box) -> Detection | None:
        side = float(max(box.box[2] - box.box[0], box.box[3] - box.box[1])) * REGION_SCALE
        fine = side < INPUT_PX  # a face that is small in the shrunk picture is read from the full one
        factor = ratio if fine else np.ones(2, np.float32)
        corners = box.box.reshape(2, 2) * factor
        angle = 0.0
        if box.eyes is not None:
            across = (box.eyes[1] - box.eyes[0]) * factor
            angle = math.atan2(float(across[1]), float(across[0]))
        side = float((corners[1] - corners[0]).max()) * REGION_SCALE
        mesh, presence = fit_mesh(frame if fine else small, corners.mean(axis=0), side, angle)
        if presence < PRESENCE:
            return None
        depth = mesh[RIGHT] - mesh[LEFT]
        along = depth[0] * math.cos(angle) + depth[1] * math.sin(angle)
        yaw = math.degrees(math.atan2(float(depth[2]), float(along)))
        points = mesh[:, :2] if fine else mesh[:, :2] * ratio
        eyes = np.stack([points[list(pair)].mean(axis=0) for pair in EYE_CORNERS])
        x0, y0, x1, y1 = (float(value) for value in (box.box.reshape(2, 2) * ratio).ravel())
        score = box.score if self.settings.detector == "blazeface" else presence
        if score < self.settings.min_score:
            return None
        return Detection((x0, y0, x1, y1), score, np.ascontiguousarray(points, np.float32), eyes.astype(np.float32), yaw, presence)


def shrunk(frame: np.ndarray, longest_px: int) -> np.ndarray:
    """The picture with its longer side at most `longest_px`; the picture itself when that is so already.

    Halved by exact areas, then sampled: at 1080p four times as fast as one area filter of odd factor, and good enough to find faces in.
    """
    while min(frame.shape[:2]) > 1 and max(frame.shape[:2]) >= 2 * longest_px:
        even = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
        frame = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    scale = longest_px / max(frame.shape[:2])
    if scale >= 1:
        return frame
    return cv2.resize(frame, (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))), interpolation=cv2.INTER_LINEAR)


def fit_mesh(picture: np.ndarray, centre: np.ndarray, side_px: float, angle: float) -> tuple[np.ndarray, float]:
    """Fits the mesh in a square region: points [468, 3] float32 in the picture's pixels (z in the same unit), and presence 0..1.

    `angle` (radians, clockwise as seen) is that of the eye line.
    """
    scale = INPUT_PX / max(side_px, 1.0)
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    middle = INPUT_PX / 2
    forward = np.array([[cos, sin, middle - cos * centre[0] - sin * centre[1]], [-sin, cos, middle + sin * centre[0] - cos * centre[1]]])
    patch = warp(picture, forward, INPUT_PX)
    raw, logit = networks().run_mesh(patch.astype(np.float32) / 255)
    points = raw.reshape(-1, 3)
    inverse = cv2.invertAffineTransform(forward)
    mesh = np.empty_like(points)
    mesh[:, :2] = points[:, :2] @ inverse[:, :2].T + inverse[:, 2]
    mesh[:, 2] = points[:, 2] / scale
    return mesh, _sigmoid(logit)


def _blazeface(picture: np.ndarray, min_score: float) -> list[Box]:
    height, width = picture.shape[:2]
    scale = INPUT_PX / max(height, width)
    inner = cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (INPUT_PX - inner.shape[1]) // 2, (INPUT_PX - inner.shape[0]) // 2
    padded = np.zeros((INPUT_PX, INPUT_PX, 3), np.uint8)
    padded[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    raw, logits = networks().run_detector(padded.astype(np.float32) / 127.5 - 1)
    scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    kept = np.flatnonzero(scores >= min_score)
    if not kept.size:
        return []
    pairs = raw[kept].reshape(len(kept), 8, 2)  # centre, size, then six points: left eye, right eye, nose, mouth, ears
    centres = pairs[:, 0] + _anchors()[kept]
    points = pairs[:, 2:4] + _anchors()[kept][:, None]
    flat = np.concatenate([centres - pairs[:, 1] / 2, centres + pairs[:, 1] / 2, points.reshape(-1, 4)], axis=1)
    back = np.array([width / inner.shape[1], height / inner.shape[0]] * 4, np.float32)
    boxes = []
    for merged, score in _suppressed(flat, scores[kept]):
        placed = (merged - np.array([left, top] * 4, np.float32)) * back
        if (placed[2:4] > placed[:2]).all():
            boxes.append(Box(placed[:4], score, placed[4:].reshape(2, 2)))
    return boxes


def _suppressed(boxes: np.ndarray, scores: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Weighted suppression: boxes that overlap the best one are averaged into it, by score."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best = boxes[order[0]]
        others = boxes[order]
        inter = np.clip(np.minimum(best[2:4], others[:, 2:4]) - np.maximum(best[:2], others[:, :2]), 0, None).prod(axis=1)
        union = (best[2:4] - best[:2]).prod() + (others[:, 2:4] - others[:, :2]).prod(axis=1) - inter
        near = inter > OVERLAP * union
        near[0] = True
        weights = scores[order][near][:, None]
        kept.append(((others[near] * weights).sum(axis=0) / weights.sum(), float(scores[order[0]])))
        order = order[~near]
    return kept


def _haar(picture: np.ndarray) -> list[Box]:
    grey = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    found = networks().run_cascade(grey)
    return [Box(np.array([x, y, x + w, y + h], np.float32), 1.0, None) for x, y, w, h in found]


@cache
def _anchors() -> np.ndarray:
    """Anchor centres [2304, 2] in input pixels, x then y, row by row."""
    cells = (np.arange(INPUT_PX // STRIDE_PX, dtype=np.float32) + 0.5) * STRIDE_PX
    x, y = np.meshgrid(cells, cells)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-min(80.0, max(-80.0, value))))


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
