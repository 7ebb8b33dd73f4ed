"""Face swap by landmarks: another person's face, bent onto the target's mesh, matched in colour and blended in.

The donor's frame for each target frame is chosen by shape (pose and mouth) along the cheapest path, so that the donor's time
does not jump.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from media.forgers.detail import compose, draw_sharpness, transfer_colour
from media.forgers.masks import HULLS, Floats, feather, hull_mask, reach_mask, steady
from media.forgers.warp import CONTROL, bend

JUMP = 0.002  # price of one frame's jump in the donor's time, in squared units of a shape of size 1


@dataclass(frozen=True, slots=True)
class _Draw:
    kind: str
    grow: float
    softness: float
    colour: float
    membrane: bool
    blur: float
    sharpness: float


def landmark_swap(
    frames: NDArray[np.uint8], landmarks: NDArray[np.floating], rng: np.random.Generator, donor: tuple[NDArray[np.uint8], NDArray[np.floating]] | None
) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """The target's clip with the donor's face; the target's landmarks stay. frames [T,S,S,3], donor frames [D,S,S,3], D any.

    Colour statistics are the clip's, not each frame's, so that the face does not flicker; in seven of ten clips the face has as much fine detail as the
    one that it covers.
    """
    assert donor is not None  # forge_clip has checked
    draw = _Draw(
        kind="whole" if rng.random() < 0.5 else "inner",
        grow=float(rng.uniform(-0.045, 0.005)),
        softness=float(rng.uniform(0.008, 0.035)),
        colour=float(rng.uniform(0.75, 1.0)),
        membrane=bool(rng.random() < 0.4),
        blur=float(rng.uniform(0.0, 0.8)),
        sharpness=draw_sharpness(rng),
    )
    size = frames.shape[1]
    goal, source = steady(landmarks), steady(donor[1])
    path = donor_path(goal, source)
    warped, masks = [], []
    for index, chosen in enumerate(path):
        maps = bend(goal[index][list(CONTROL)], source[chosen][list(CONTROL)], size)
        face = cv2.remap(donor[0][chosen], *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        warped.append(cv2.GaussianBlur(face, (0, 0), draw.blur * size / 128) if draw.blur > 0.2 else face)
        mask = hull_mask(goal[index][list(HULLS[draw.kind])], size, draw.grow + (0.02 if draw.kind == "inner" else 0.0))
        masks.append(feather(mask, draw.softness, reach_mask(goal[index], size)))
    inside = np.stack(masks)
    painted = transfer_colour(np.stack(warped), frames, inside, inside, draw.colour)
    if draw.membrane:
        painted = painted + np.stack([_membrane(frame - face, mask) for frame, face, mask in zip(frames, painted, masks, strict=True)])
    return compose(frames, painted, inside, draw.sharpness), np.array(landmarks)


def donor_path(goal: Floats, source: Floats) -> list[int]:
    """For each target frame the donor frame whose shape fits, along the cheapest path. goal [T,468,2], source [D,468,2]."""
    here, there = _shapes(goal), _shapes(source)
    fit = ((here[:, None] - there[None]) ** 2).sum(axis=2)  # [T, D]
    step = np.arange(len(there))
    price = JUMP * np.abs(step[None, :] - step[:, None] - 1).clip(0, 8)  # [from, to]; the next frame is free
    cost, came = fit[0], []
    for row in fit[1:]:
        total = cost[:, None] + price
        came.append(total.argmin(axis=0))
        cost = total.min(axis=0) + row
    path = [int(cost.argmin())]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    return path[::-1]


def _shapes(points: Floats) -> Floats:
    """Landmarks without place and size [T, 2*len(CONTROL)], of length 1."""
    shape = points[:, list(CONTROL)]
    shape = shape - shape.mean(axis=1, keepdims=True)
    shape = shape.reshape(len(shape), -1)
    return shape / np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1e-6)


def _membrane(difference: Floats, mask: Floats) -> Floats:
    """What must be added inside so that the edge fits: the differences on the rim, spread smoothly inwards (after Farbman et al. 2009)."""
    rim = ((mask > 0.02) & (mask < 0.6)).astype(np.float32)
    sigma = mask.shape[0] / 9
    spread = cv2.GaussianBlur(difference * rim[..., None], (0, 0), sigma)
    weight = cv2.GaussianBlur(rim, (0, 0), sigma)
    return np.clip(spread / (weight[..., None] + 1e-3), -60, 60)
