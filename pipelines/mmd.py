"""Permutation test of the maximum mean discrepancy (Gretton et al. 2012): do two samples come from one distribution?

Label-free: the p-value is the rank of the measured statistic among those of shuffled samples. Whole blocks (people) change sides, never single
videos: videos of one person are alike, and shuffling them apart would call every week of new people a drift. A person counts once, as the mean of
his videos: were it by videos, one who sends thirty where others send one would be a drift (up to two weeks of three at a nominal 1%). And of people of
either side so few videos are looked at as most of the other have: a mean of many lies nearer to the middle than one of few, and no shuffle would know.
Evidently's embedding drift gave false alarms up to always.
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
    """Squared MMD between blocks with and without `new` [B], from how alike two blocks are [B, B]; mean 0 when both come from one distribution."""
    return float(_many_mmd(kernel, new[None])[0])


def mmd_test(points: NDArray[np.float64], new: NDArray[np.bool_], clusters: NDArray[np.str_], *, permutations: int, seed: int) -> MmdResult:
    """Test rows `new` [N] of points [N, D] against the others, shuffling whole clusters [N]. Same seed, same p-value.

    A cluster with rows on both sides counts as two blocks. Raises ValueError with fewer than two blocks a side.
    """
    keys = np.array([f"{cluster}\0{side}" for cluster, side in zip(clusters, new, strict=True)])
    names, block = np.unique(keys, return_inverse=True)
    side = np.zeros(len(names), dtype=bool)
    side[block[new]] = True
    count = int(side.sum())
    if min(count, len(names) - count) < 2:
        raise ValueError("a permutation test needs two blocks on each side")
    rng = np.random.default_rng(seed)
    kept = _as_few(block, side, rng) & _as_few(block, ~side, rng)
    kernel = _between(gram(points[kept]), block[kept])
    shuffled = np.zeros((permutations, len(names)), dtype=bool)
    for row in shuffled:
        row[rng.permutation(len(names))[:count]] = True
    measured = unbiased_mmd(kernel, side)
    reached = sum(int((_many_mmd(kernel, part) >= measured - 1e-12).sum()) for part in np.array_split(shuffled, max(1, permutations // AT_ONCE)))
    return MmdResult(measured, (1 + reached) / (1 + permutations), int((~new).sum()), int(new.sum()), len(names))


def _as_few(block: NDArray[np.intp], like: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows to look at: of each block that is not `like` [B] at most as many as three in four of those have, drawn by chance."""
    most = max(1, int(np.quantile(np.bincount(block)[like], 0.25)))
    order = rng.permutation(block.size)
    order = order[np.argsort(block[order], kind="stable")]  # block by block, within each by chance
    begins = np.searchsorted(block[order], np.arange(like.size))
    rank = np.empty(block.size, dtype=np.intp)
    rank[order] = np.arange(block.size) - begins[block[order]]
    return np.asarray(like[block] | (rank < most))


def _between(kernel: NDArray[np.float64], block: NDArray[np.intp]) -> NDArray[np.float64]:
    """How alike the rows of two blocks are in the mean [B, B], from how alike rows are [N, N]."""
    share = np.zeros((block.size, int(block.max()) + 1))
    share[np.arange(block.size), block] = 1 / np.bincount(block)[block]
    return np.asarray(share.T @ kernel @ share)


def _many_mmd(kernel: NDArray[np.float64], new: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`unbiased_mmd` of many ways [P, B] to divide the blocks, as a few matrix products."""
    side = new.astype(np.float64)
    m = side.sum(axis=1)
    n = new.shape[1] - m
    rows, diagonal = kernel.sum(axis=1), np.diag(kernel)
    inner = np.einsum("pn,pn->p", side @ kernel, side)  # s'Ks of each way
    towards = side @ rows  # s'K1
    own = side @ diagonal
    within_new = inner - own
    within_ref = (rows.sum() - 2 * towards + inner) - (diagonal.sum() - own)
    return np.asarray(within_new / (m * (m - 1)) + within_ref / (n * (n - 1)) - 2 * (towards - inner) / (m * n))


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
