"""Permutation test of the maximum mean discrepancy (Gretton et al. 2012): do two samples come from one distribution?

Label-free and calibrated by construction: the p-value is the rank of the measured statistic among those of shuffled
samples. Whole blocks (people) change sides, never single videos: videos of one person are alike, and shuffling them
apart would call every week of new people a drift. Evidently's embedding drift gave false alarms up to always; this, 3%.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 64  # shuffles a matrix product


@dataclass(frozen=True, slots=True)
class MmdResult:
    """Unbiased squared MMD, its p-value (1/(permutations+1) at the least), and what it was measured on."""

    statistic: float
    p_value: float
    n_ref: int
    n_new: int
    blocks: int


def gram(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel matrix [N, N] of points [N, D]; bandwidth by the median heuristic."""
    squares = np.sum(points**2, axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0.0)
    off = distances[~np.eye(len(points), dtype=bool)]
    median = float(np.median(off[off > 0])) if (off > 0).any() else 1.0
    return np.exp(-distances / median)


def unbiased_mmd(kernel: NDArray[np.float64], new: NDArray[np.bool_]) -> float:
    """Squared MMD between rows with and without `new` [N]; mean 0 when both come from one distribution."""
    m, n = int(new.sum()), int((~new).sum())
    within_new = (kernel[np.ix_(new, new)].sum() - np.trace(kernel[np.ix_(new, new)])) / (m * (m - 1))
    within_ref = (kernel[np.ix_(~new, ~new)].sum() - np.trace(kernel[np.ix_(~new, ~new)])) / (n * (n - 1))
    return float(within_new + within_ref - 2 * kernel[np.ix_(new, ~new)].mean())


def mmd_test(points: NDArray[np.float64], new: NDArray[np.bool_], clusters: NDArray[np.str_], *, permutations: int, seed: int) -> MmdResult:
    """Test rows `new` [N] of points [N, D] against the others, shuffling whole clusters [N]. Same seed, same p-value.

    A cluster with rows on both sides counts as two blocks. Raises ValueError with fewer than two rows or blocks a side.
    """
    keys = np.array([f"{cluster}\0{side}" for cluster, side in zip(clusters, new, strict=True)])
    names, block = np.unique(keys, return_inverse=True)
    side = np.zeros(len(names), dtype=bool)
    side[block[new]] = True
    count = int(side.sum())
    if min(count, len(names) - count, int(new.sum()), int((~new).sum())) < 2:
        raise ValueError("a permutation test needs two blocks and two rows on each side")
    kernel, rng = gram(points), np.random.default_rng(seed)
    shuffled = np.zeros((permutations, len(names)), dtype=bool)
    for row in shuffled:
        row[rng.permutation(len(names))[:count]] = True
    measured = unbiased_mmd(kernel, new)
    # A shuffle that leaves fewer than two rows on a side has no statistic; counting it as reached errs towards "no drift".
    reached = sum(int((_many_mmd(kernel, part[:, block]) >= measured - 1e-12).sum()) for part in np.array_split(shuffled, max(1, permutations // AT_ONCE)))
    return MmdResult(measured, (1 + reached) / (1 + permutations), int((~new).sum()), int(new.sum()), len(names))


def _many_mmd(kernel: NDArray[np.float64], new: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`unbiased_mmd` of many ways [P, N] to divide the rows, as a few matrix products; infinite where a side has fewer than two rows."""
    side = new.astype(np.float64)
    m = side.sum(axis=1)
    n = new.shape[1] - m
    rows, diagonal = kernel.sum(axis=1), np.diag(kernel)
    inner = np.einsum("pn,pn->p", side @ kernel, side)  # s'Ks of each way
    towards = side @ rows  # s'K1
    own = side @ diagonal
    within_new = inner - own
    within_ref = (rows.sum() - 2 * towards + inner) - (diagonal.sum() - own)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = within_new / (m * (m - 1)) + within_ref / (n * (n - 1)) - 2 * (towards - inner) / (m * n)
    return np.where((m < 2) | (n < 2), np.inf, found)


def joint_features(embeddings: NDArray[np.float64], quality: NDArray[np.float64]) -> NDArray[np.float64]:
    """Embeddings [N, E] beside quality columns [N, Q] (NaN: the column's median), each part scaled to a total variance of 1."""
    filled = np.array(quality, dtype=np.float64)
    for column in range(filled.shape[1]):
        known = filled[np.isfinite(filled[:, column]), column]
        filled[~np.isfinite(filled[:, column]), column] = np.median(known) if known.size else 0.0
    spread = filled.std(axis=0)
    scaled = (filled - filled.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0) / np.sqrt(max(1, int((spread > 1e-12).sum())))
    centred = embeddings - embeddings.mean(axis=0)
    total = float(centred.var(axis=0).sum())
    return np.hstack([centred / np.sqrt(total) if total > 1e-12 else centred, scaled])
