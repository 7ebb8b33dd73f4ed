"""Figures of a binary detector in plain NumPy: what each means is written beside it, and what cannot be computed is None.

Everywhere `labels` are 'real'/'fake' strings or a boolean array (True: fake), never 0/1 numbers; `p_fake` and `scores`
are floats, greater meaning more likely fake. One row is one unit (a video or a clip: the caller says). A metric that
needs both classes and sees one, or sees no rows at all, is None: a made-up number must never pass a gate. Log-loss, Brier
and ECE count both classes alike: p_fake is the chance where half are fakes (model/calibration.py), and is not wrong for a set of another mixture.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workspace.errors import DataError

Metric = Callable[[NDArray[np.bool_], NDArray[np.float64]], float | None]
Roc = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
OfRates = Callable[[float | None, float | None], float | None]  # of recall and the false-positive rate
PREVALENCES = (0.001, 0.01, 0.10, 0.50)
MIN_DEFINED = 0.8  # an interval needs this part of its resamples to be defined
TINY = 1e-7  # probabilities are kept this far from 0 and 1 in the log-loss
CERTAIN = 1e-6  # a probability closer to 0 or 1 is not told from it: a few sure videos would else be all that a column of logits shows


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its bootstrap interval. `low` and `high` are None where too few resamples were defined."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    resamples: int  # those in which the value was defined

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)


def as_fake(labels: ArrayLike | Sequence[str]) -> NDArray[np.bool_]:
    """Booleans, True for fake. Raises DataError for numbers and unknown words: 0/1 does not say which is which."""
    array = np.asarray(labels)
    if array.dtype == np.bool_:
        return array
    words = [str(word) for word in array.tolist()] if array.dtype.kind in "OUST" or array.size == 0 else None
    if words is None or not set(words) <= {"real", "fake"}:
        found = sorted(set(words))[:5] if words is not None else f"numbers ({array.dtype})"
        raise DataError("Labels cannot be used.", why=f"expected 'real' and 'fake', found {found}", next_step="Map them to 'real' and 'fake' first.")
    return np.array([word == "fake" for word in words], dtype=np.bool_)


def _pair(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    fake, values = as_fake(labels), np.asarray(scores, dtype=np.float64)
    if fake.shape != values.shape or fake.ndim != 1:
        raise DataError("Labels and scores do not fit.", why=f"shapes {fake.shape} and {values.shape}", next_step="Pass one score for each label.")
    if not np.isfinite(values).all():
        raise DataError(
            "A score is not a number.", why=f"{int((~np.isfinite(values)).sum())} of {values.size} are NaN or infinite", next_step="Score these units again."
        )
    return fake, values


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]  # mean rank (from 1) of each tie group


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Chance that a random fake scores above a random real, ties half (Mann-Whitney). None without both classes."""
    fake, values = _pair(labels, scores)
    n_fake = int(fake.sum())
    n_real = fake.size - n_fake
    if not n_fake or not n_real:
        return None
    return float((_ranks(values)[fake].sum() - n_fake * (n_fake + 1) / 2) / (n_fake * n_real))


def roc_points(labels: ArrayLike, scores: ArrayLike) -> Roc | None:
    """(FPR, TPR, threshold), from (0, 0, inf) downwards; one point a distinct score. None without both classes."""
    fake, values = _pair(labels, scores)
    if not fake.any() or fake.all():
        return None
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], fake[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    tpr = np.cumsum(hits)[ends] / hits.sum()
    fpr = np.cumsum(~hits)[ends] / (~hits).sum()
    return np.append(0.0, fpr), np.append(0.0, tpr), np.append(np.inf, ranked[ends])  # as `np.r_`, at a tenth of its time


def risk_coverage(labels: ArrayLike, p_fake: ArrayLike, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(coverage, risk): the part of wrong verdicts among the answers kept, when the least certain are left out first (El-Yaniv & Wiener 2010).

    Certainty is the probability of the verdict itself, `p_fake` or what is missing to 1: where the threshold is not 0.5, distance from it would take a
    real at 0.45 for surer than a fake at 0.99. Equally certain units come and go together. None without units.
    """
    fake, scores = _pair(labels, p_fake)
    if not len(scores):
        return None
    certainty = np.where(scores >= threshold, scores, 1.0 - scores)
    order = np.argsort(-certainty, kind="stable")
    kept = np.arange(1, len(scores) + 1)
    risk = np.cumsum((scores >= threshold)[order] != fake[order]) / kept
    last = np.append(np.diff(certainty[order]) != 0, True)  # of a run of equals only the end is a choice
    return kept[last] / len(scores), risk[last]


def precision_recall_points(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(recall, precision), one point a distinct score, strictest first. None without a fake."""
    fake, values = _pair(labels, scores)
    if not fake.any():
        return None
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], fake[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    found = np.cumsum(hits)[ends]
    return found / hits.sum(), found / (ends + 1.0)


def equal_error_rate(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """The rate at which FPR and FNR are equal, on straight lines between ROC points."""
    return _equal_error(roc_points(labels, scores))


def _equal_error(points: Roc | None) -> float | None:
    if points is None:
        return None
    fpr, tpr, _ = points
    gap = (1.0 - tpr) - fpr  # falls from 1 to -1
    after = int(np.flatnonzero(gap <= 0)[0])
    before = after - 1
    part = gap[before] / (gap[before] - gap[after])
    return float(fpr[before] + part * (fpr[after] - fpr[before]))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under precision-recall as a step function (no interpolation). None without both classes."""
    fake = as_fake(labels)
    points = precision_recall_points(labels, scores)
    if points is None or fake.all():
        return None
    recall, precision = points
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float) -> float | None:
    """Largest TPR among the thresholds whose FPR is at most `fpr`; nothing is interpolated in our favour."""
    return _largest_tpr(roc_points(labels, scores), fpr)


def _largest_tpr(points: Roc | None, fpr: float) -> float | None:
    return None if points is None else float(points[1][points[0] <= fpr + 1e-12].max())


def confusion(labels: ArrayLike, p_fake: ArrayLike, threshold: float) -> dict[str, int]:
    """Counts tp, fp, tn, fn where 'fake' is said at p_fake >= threshold and fake is the positive class."""
    fake, values = _pair(labels, p_fake)
    said = values >= threshold
    return {"tp": int((said & fake).sum()), "fp": int((said & ~fake).sum()), "tn": int((~said & ~fake).sum()), "fn": int((~said & fake).sum())}


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def threshold_metrics(labels: ArrayLike, p_fake: ArrayLike, threshold: float) -> dict[str, float | None]:
    """accuracy, balanced_accuracy, precision, recall, f1, fpr at one threshold; each None where its denominator is 0."""
    c = confusion(labels, p_fake, threshold)
    recall, fpr = _ratio(c["tp"], c["tp"] + c["fn"]), _ratio(c["fp"], c["fp"] + c["tn"])
    return {
        "accuracy": _ratio(c["tp"] + c["tn"], sum(c.values())),
        "balanced_accuracy": balanced_accuracy_of(recall, fpr),
        "precision": _ratio(c["tp"], c["tp"] + c["fp"]),
        "recall": recall,
        "f1": _ratio(2 * c["tp"], 2 * c["tp"] + c["fp"] + c["fn"]) if recall is not None else None,
        "fpr": fpr,
    }


def class_weights(fake: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of the rows, 1 in sum, under which both classes count alike. Both must be there."""
    return np.where(fake, 0.5 / fake.sum(), 0.5 / (~fake).sum())


def log_loss(labels: ArrayLike, p_fake: ArrayLike) -> float | None:
    """Mean negative log-likelihood in nats, classes alike, probabilities kept 1e-7 away from 0 and 1. None without both classes."""
    fake, values = _pair(labels, p_fake)
    if not fake.any() or fake.all():
        return None
    p = np.clip(values, TINY, 1 - TINY)
    return float(-class_weights(fake) @ np.where(fake, np.log(p), np.log1p(-p)))


def brier(labels: ArrayLike, p_fake: ArrayLike) -> float | None:
    """Mean squared difference between p_fake and the truth (0 or 1), classes alike. None without both."""
    fake, values = _pair(labels, p_fake)
    return float(class_weights(fake) @ (values - fake) ** 2) if fake.any() and not fake.all() else None


def expected_calibration_error(labels: ArrayLike, p_fake: ArrayLike, bins: int = 15) -> float | None:
    """Mean gap between p_fake and the part of fakes, over `bins` bins of so many rows each. None without both classes.

    Both count alike, as in model/calibration.py: p_fake is the chance where half are fakes, and a set with more reals than fakes would otherwise show its own
    mixture as an error of the model, one of reals alone nothing else. Equal scores share a bin, so the value does not depend on the order of the rows.
    """
    table = reliability(labels, p_fake, bins)
    return None if not table else float(sum(row["weight"] * abs(row["p_fake"] - row["fakes"]) for row in table) / sum(row["weight"] for row in table))


def reliability(labels: ArrayLike, p_fake: ArrayLike, bins: int = 15) -> list[dict[str, float]]:
    """Rows of a reliability diagram: n, weight, mean p_fake and part of fakes of each bin, classes alike; none without both classes."""
    fake, values = _pair(labels, p_fake)
    if not fake.any() or fake.all():
        return []
    place = calibration_bins(values, bins)
    chosen = [place == b for b in np.unique(place)]
    weight = class_weights(fake) * fake.size
    shares = [(rows, weight[rows] / weight[rows].sum()) for rows in chosen]
    return [
        {"n": int(rows.sum()), "weight": float(weight[rows].sum()), "p_fake": float(values[rows] @ share), "fakes": float(fake[rows] @ share)}
        for rows, share in shares
    ]


def logits_of(p_fake: ArrayLike) -> NDArray[np.float64]:
    """The logit of each probability, none farther than CERTAIN tells."""
    kept = np.clip(np.asarray(p_fake, dtype=np.float64), CERTAIN, 1 - CERTAIN)
    found: NDArray[np.float64] = np.log(kept / (1 - kept))
    return found


def calibration_bins(values: NDArray[np.float64], bins: int = 15) -> NDArray[np.int_]:
    """The bin of each row, of `bins` of so many rows each; equal values share one."""
    first = np.searchsorted(np.sort(values), values, side="left")  # rank of the first of its tie group
    return first * min(bins, values.size) // values.size


def balanced_accuracy_of(recall: float | None, fpr: float | None) -> float | None:
    """Mean of the true-positive and true-negative rates. None where one is not known."""
    return None if recall is None or fpr is None else (recall + 1.0 - fpr) / 2.0


def precision_at_prevalence(recall: float | None, fpr: float | None, prevalence: float) -> float | None:
    """Precision if a part `prevalence` of the traffic were fake (Bayes). None where it cannot be said."""
    if recall is None or fpr is None:
        return None
    return _ratio(recall * prevalence, recall * prevalence + fpr * (1.0 - prevalence))


OF_RATES: dict[str, OfRates] = {  # figures that rise with recall, fall with the false-positive rate, and depend on nothing else
    "balanced_accuracy": balanced_accuracy_of,
    **{f"precision_at_prevalence_{prevalence:g}": partial(precision_at_prevalence, prevalence=prevalence) for prevalence in PREVALENCES},
}


def f1_of(precision: float | None, recall: float | None) -> float | None:
    """Their harmonic mean; 0 where nothing right was called fake, None where recall is not known, or precision though something was found (no reals)."""
    if recall is None or (precision is None and recall > 0):
        return None
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Wilson score interval of a proportion (two-sided). None without trials. 0 of 94 ends just below 4%."""
    if n == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = successes / n, z * z / n
    centre, half = share + spread / 2, z * np.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, float((centre - half) / (1 + spread))), min(1.0, float((centre + half) / (1 + spread)))


def summarise(labels: ArrayLike, p_fake: ArrayLike, threshold: float) -> dict[str, float | None]:
    """Every figure of DESIGN 'Evaluation' for one set of units, by name; None where undefined."""
    at, points = threshold_metrics(labels, p_fake, threshold), roc_points(labels, p_fake)
    return {
        "auc": auc(labels, p_fake), "eer": _equal_error(points), "ap": average_precision(labels, p_fake), **at,
        "tpr_at_fpr_1": _largest_tpr(points, 0.01), "tpr_at_fpr_5": _largest_tpr(points, 0.05),
        "log_loss": log_loss(labels, p_fake), "brier": brier(labels, p_fake), "ece": expected_calibration_error(labels, p_fake),
        **{name: figure(at["recall"], at["fpr"]) for name, figure in OF_RATES.items()},
    }  # fmt: skip
