"""Bending a picture so that one set of landmarks comes to lie on another: a thin-plate spline (Bookstein 1989), solved on a coarse grid."""

import cv2
import numpy as np
from numpy.typing import NDArray

from media.forgers.masks import BROWS, EYES, LIPS, NOSE, OVAL, Floats

CONTROL = OVAL[::2] + BROWS[::2] + EYES + NOSE + LIPS
GRID = 25  # the spline is evaluated on GRID x GRID nodes and enlarged: it is smooth
STIFFNESS = 1e-3


def bend(goal: Floats, source: Floats, size: int) -> tuple[Floats, Floats]:
    """Maps [size,size] for cv2.remap, saying for each pixel of the result where in the source it lies. goal, source [N,2] in 0..1."""

    def radial(squared: NDArray[np.float64]) -> NDArray[np.float64]:
        return squared * np.log(squared + 1e-12)

    count = len(goal)
    goal, source = goal.astype(np.float64), source.astype(np.float64)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = radial(((goal[:, None] - goal[None]) ** 2).sum(axis=2)) + STIFFNESS * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :] = goal
    system[count + 1 :, :count] = goal.T
    weights = np.linalg.lstsq(system, np.concatenate([source, np.zeros((3, 2))]), rcond=None)[0]
    nodes = (np.arange(GRID) + 0.5) / GRID
    grid = np.stack(np.meshgrid(nodes, nodes), axis=2).reshape(-1, 2)
    value = radial(((grid[:, None] - goal[None]) ** 2).sum(axis=2)) @ weights[:count] + weights[count] + grid @ weights[count + 1 :]
    moved = (value - grid).reshape(GRID, GRID, 2).astype(np.float32) * size  # beyond the outer nodes how far a pixel moves goes on, not where it lies
    field = cv2.resize(moved, (size, size), interpolation=cv2.INTER_CUBIC)
    own = np.arange(size, dtype=np.float32)
    return field[..., 0] + own, field[..., 1] + own[:, None]
