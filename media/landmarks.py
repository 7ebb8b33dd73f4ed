"""What the 468 points of the face mesh are: index lists for eyes, lips and face oval, and soft region masks.

Left and right are the picture's: the left eye is the one at the smaller x of an upright face that is not mirrored. The lists are the
connections of MediaPipe's face mesh.
"""

import cv2
import numpy as np

LEFT_EYE = [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246]
RIGHT_EYE = [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466]
EYES = LEFT_EYE + RIGHT_EYE
OUTER_LIPS = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
INNER_LIPS = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]
LIPS = OUTER_LIPS + INNER_LIPS
FACE_OVAL = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
]  # fmt: skip
EYE_GROWTH = 1.9  # the eye region reaches from brow to lower lid: the eye's outline, widened so much
LIP_GROWTH = 1.25
SOFTNESS = 0.02  # blur of the masks' edges, part of the side


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
