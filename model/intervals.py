"""Cluster-bootstrap intervals: people, not videos, are drawn, because videos of one person rise and fall together.

Whole clusters (identities, or source videos where the identity is unknown) are drawn with replacement; the interval is
the percentile one. Deterministic by seed. Where fewer than 80% of the resamples give a value, the ends are None. A share has the wider of this interval and of
Wilson's over the clusters that it is a share of, as draws of few errors differ too little: 1% false alarms of 357 people, or 2% of 100 people with five videos
each that err alike, they alone held in 88 to 90 of 100 worlds and lay below in 10; the wider does in 99 and lies below in none (docs/evaluation.md: what that
costs). So has precision at a prevalence, at the worse ends of recall and the false-positive rate and at the better ones (90 and 98 of 100), and balanced
accuracy, where no draw moves one of the two: half the sum of both distances, which is never too narrow; where draws move both it is well told by them (93 of
100). Any other figure that no draw moves has no ends, as that is no certainty. An AUC has the wider
of this interval and of the clustered DeLong one: with few people, or near 1, drawing them held the truth in 84 to 91 of 100 worlds, the wider does in 93 to
100. And the share found at a false-positive rate of 1% has no ends below 200 real people (at 5%, 40): of so few the quantile itself is a guess.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.metrics import MIN_DEFINED, OF_RATES, Interval, Metric, OfRates, as_fake, auc, summarise, wilson
from model.paired import auc_bounds
from workspace.errors import DataError

Draw = NDArray[np.intp]
AT_FPR = {"tpr_at_fpr_1": 0.01, "tpr_at_fpr_5": 0.05}
MOVED = 1e-12  # ends that lie nearer are one figure, summed up in another order
BEYOND = 2  # reals that must lie beyond a quantile for it to be one


def _draws(clusters: ArrayLike, resamples: int, seed: int) -> tuple[Iterator[Draw], int]:
    """Row indices of each resample, one after the other, and the number of clusters."""
    _, inverse, rows = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
    members, first, rng, count = np.argsort(inverse, kind="stable"), np.cumsum(rows) - rows, np.random.default_rng(seed), len(rows)

    def draw() -> Draw:
        chosen = rng.integers(0, count, count)
        many = rows[chosen]
        drawn: Draw = members[np.arange(many.sum()) + np.repeat(first[chosen] - np.cumsum(many) + many, many)]
        return drawn

    return (draw() for _ in range(resamples if count else 0)), count


def _interval(value: float | None, seen: Sequence[float | None], n: int, clusters: int, confidence: float) -> Interval:
    defined = [v for v in seen if v is not None]
    if value is None or clusters < 2 or len(defined) < MIN_DEFINED * max(1, len(seen)):
        return Interval(value, None, None, n, clusters, len(defined))
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), n, clusters, len(defined))


def _is_still(found: Interval) -> bool:
    return found.low is not None and found.high is not None and found.high - found.low < MOVED


def _humble(found: Interval) -> Interval:
    """`found`, without ends where no draw moves it."""
    return replace(found, low=None, high=None) if _is_still(found) else found


def _as_share(found: Interval, of: int, confidence: float) -> Interval:
    """`found`, at least as wide as Wilson's interval of a share of so many clusters."""
    return found if found.value is None else _widened(found, wilson(found.value * of, of, confidence))


def _between(figure: OfRates, recall: Interval, fpr: Interval) -> tuple[float, float] | None:
    """`figure`(recall, fpr) at the worse ends of both and at the better ones; None where these are not known, or it is not defined there."""
    if recall.low is None or recall.high is None or fpr.low is None or fpr.high is None:
        return None
    low, high = figure(recall.low, fpr.high), figure(recall.high, fpr.low)
    return None if low is None or high is None else (low, high)


def _widened(found: Interval, ends: tuple[float, float] | None) -> Interval:
    """`found`, as wide as both say; without ends it stays so."""
    if found.low is None or found.high is None or ends is None:
        return found
    return replace(found, low=min(found.low, ends[0]), high=max(found.high, ends[1]))


def cluster_interval(
    metric: Metric, labels: ArrayLike, scores: ArrayLike, clusters: ArrayLike, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """`metric` on all rows, with its interval. One cluster cannot tell how far people differ, nor can a figure that no draw moves: no ends."""
    fake, values = as_fake(labels), np.asarray(scores, dtype=np.float64)
    _same_length(fake, values, clusters)
    draws, count = _draws(clusters, resamples, seed)
    found = _humble(_interval(metric(fake, values), [metric(fake[d], values[d]) for d in draws], fake.size, count, confidence))
    return _widened(found, auc_bounds(fake, values, clusters, confidence)) if metric is auc else found


def summarise_with_intervals(
    labels: ArrayLike, p_fake: ArrayLike, clusters: ArrayLike, threshold: float, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> dict[str, Interval]:
    """Every figure of `metrics.summarise` with its interval, all from the same resamples."""
    fake, values = as_fake(labels), np.asarray(p_fake, dtype=np.float64)
    _same_length(fake, values, clusters)
    draws, count = _draws(clusters, resamples, seed)
    whole = summarise(fake, values, threshold)
    parts: list[Mapping[str, float | None]] = [summarise(fake[d], values[d], threshold) for d in draws]
    called, who = values >= threshold, np.asarray(clusters)
    members = {"accuracy": np.ones_like(fake), "recall": fake, "fpr": ~fake, "precision": called}
    share_of = {name: len(np.unique(who[mask])) for name, mask in members.items()}
    drawn = {name: _interval(value, [part[name] for part in parts], fake.size, count, confidence) for name, value in whole.items()}
    found = {name: _humble(figure) for name, figure in drawn.items()} | {name: _as_share(drawn[name], of, confidence) for name, of in share_of.items()}
    still = _is_still(drawn["recall"]) or _is_still(drawn["fpr"])
    for name, figure in OF_RATES.items():
        if (still or name != "balanced_accuracy") and (ends := _between(figure, found["recall"], found["fpr"])):
            found[name] = _widened(drawn[name], ends)
    reals = len(np.unique(who[~fake]))
    guesses = {name: replace(found[name], low=None, high=None) for name, rate in AT_FPR.items() if reals * rate < BEYOND}
    return found | guesses | {"auc": _widened(found["auc"], auc_bounds(fake, values, clusters, confidence))}


def paired_difference(
    labels: ArrayLike,
    challenger: ArrayLike,
    champion: ArrayLike,
    clusters: ArrayLike,
    *,
    metric: Callable[[NDArray[np.bool_], NDArray[np.float64]], float | None] = auc,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.90,
) -> Interval:
    """`metric` of the challenger less that of the champion on the same rows, each resample drawn once for both.

    `confidence` 0.90 two-sided makes `low` the bound of a one-sided test at 5%: not worse where low > -margin.
    """
    fake, new, old = as_fake(labels), np.asarray(challenger, dtype=np.float64), np.asarray(champion, dtype=np.float64)
    _same_length(fake, new, clusters)
    _same_length(fake, old, clusters)
    draws, count = _draws(clusters, resamples, seed)
    difference = _minus(metric(fake, new), metric(fake, old))
    return _interval(difference, [_minus(metric(fake[d], new[d]), metric(fake[d], old[d])) for d in draws], fake.size, count, confidence)


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _same_length(fake: NDArray[np.bool_], values: NDArray[np.float64], clusters: ArrayLike) -> None:
    if not fake.shape == values.shape == np.asarray(clusters).shape:
        raise DataError(
            "Rows do not fit.",
            why=f"{fake.shape[0]} labels, {values.shape[0]} scores, {np.asarray(clusters).shape[0]} clusters",
            next_step="Pass one score and one cluster for each label.",
        )
