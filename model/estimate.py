"""How often a model is right on media whose labels nobody knows yet, and how a few labels of a random draw correct that.

Without labels: a calibrated p_fake says how likely its own verdict is right; the mean over all verdicts is the estimate (confidence-based
performance estimation). p_fake is calibrated for as many fakes as reals, so the share of fakes in the traffic is estimated first and p_fake moved to
it (Saerens, Latinne & Decaestecker 2002, section 2.2). It holds as long as calibration holds, and just that is in doubt when the traffic changes. With the
labels of a random draw the mean error of those probabilities is measured and taken off (prediction-powered inference, Angelopoulos et al.
2023, section 2): right on average whatever the probabilities are worth, and sharper the better they are.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

UNKNOWN_VARIANCE = 0.25  # of a share of which there is one value: the largest there can be
HARDLY_ANY = 5  # errors drawn, or right verdicts: fewer say little about their spread
ROUNDS, CLOSE = 500, 1e-6  # of the share of fakes: rounds at most, and a change that ends them
LEAST_LABELS = 10  # of a random draw; fewer correct nothing


@dataclass(frozen=True, slots=True)
class Estimated:
    """A share of right verdicts with its 95% interval. Without correction the interval knows of chance alone, not of a wrong calibration."""

    value: float
    low: float
    high: float
    n: int  # verdicts
    labels: int  # of the random draw
    right: int  # of these
    corrected: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Moments:
    """What an estimate needs of the probabilities of all verdicts: how many, their mean, and their variance."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: ArrayLike) -> "Moments":
        """Of values [N]."""
        found = np.asarray(values, np.float64)
        return cls(len(found), float(found.mean()) if len(found) else math.nan, _variance(found))

    @classmethod
    def of_sums(cls, n: int, mean: float, mean_square: float) -> "Moments":
        """Of n values whose mean and mean square a database has worked out."""
        return cls(n, mean, max(0.0, mean_square - mean**2) * n / (n - 1) if n > 1 else UNKNOWN_VARIANCE)


def share_of_fakes(p_fake: ArrayLike, times: ArrayLike | None = None) -> float:
    """The share of fakes among videos whose `p_fake` [N] is calibrated for classes alike, each seen so many `times` [N]; a half where there are none.

    The fixed point of Saerens et al. 2002, with one video of either class added, so that a few sure ones do not end in a share of 0 or 1.
    """
    p = np.clip(np.asarray(p_fake, np.float64), 0.0, 1.0)
    weight = np.ones_like(p) if times is None else np.asarray(times, np.float64)
    share, total = 0.5, float(weight.sum()) + 2
    for _ in range(ROUNDS):
        found = (float((weight * at_share(p, share)).sum()) + 1) / total
        if abs(found - share) < CLOSE:
            break
        share = found
    return share


def at_share(p_fake: ArrayLike, share: float) -> np.ndarray:
    """`p_fake` [N], calibrated for classes alike, where a `share` within 0..1 of the videos is fake (Bayes)."""
    p = np.asarray(p_fake, np.float64)
    fake, real = p * share, (1 - p) * (1 - share)
    moved: np.ndarray = fake / (fake + real)
    return moved


def expected_right(p_fake: ArrayLike, said_fake: ArrayLike) -> np.ndarray:
    """The probability [N] that each verdict is right, if p_fake is calibrated."""
    p = np.asarray(p_fake, dtype=np.float64)
    return np.where(np.asarray(said_fake, dtype=bool), p, 1 - p)


def estimate(expected: Moments, drawn_expected: ArrayLike, drawn_right: ArrayLike, stands_for: ArrayLike | None = None) -> Estimated | None:
    """The share of right verdicts, from the probabilities of all of them and those [n] of a random draw with whether each was right (bool [n]).

    `stands_for` [n]: from how many verdicts each was drawn, where the part was not always the same (Hajek 1971); its spread is then that of fewer
    (Kish 1965).
    None without a verdict. The interval is Student's; where hardly an error was drawn, the spread is that of a share with two more
    of each kind (Agresti and Coull 1998), so that a draw without an error does not make it certain. Without a draw it always is: whether a
    verdict is right is chance too, whatever its probability. Of calibrated scores 0.94 to 1.00 of these intervals held the truth, with 5 to 1000
    verdicts, on half fakes to one in fifty; with the spread of the probabilities alone 0.25 to 1.00 did.
    """
    from scipy.stats import norm, t

    drawn, right = np.asarray(drawn_expected, np.float64), np.asarray(drawn_right, bool)
    if not expected.n:
        return None
    weight = np.ones(len(right)) if stands_for is None else np.asarray(stands_for, np.float64)
    seen = len(right)
    value, variance, reach = expected.mean, expected.variance / expected.n, float(norm.ppf(0.975))
    corrected = seen >= LEAST_LABELS
    if corrected:
        error = right.astype(np.float64) - drawn
        wrong = seen - int(right.sum())
        alike = as_many(weight)
        mean = float(np.average(error, weights=weight))
        spread = float(np.average((error - mean) ** 2, weights=weight)) * alike / (alike - 1) if alike > 1 else UNKNOWN_VARIANCE
        if min(wrong, seen - wrong) < HARDLY_ANY:
            spread = max(spread, _spread(float(np.average(right, weights=weight)) * alike, alike))
        value, variance = value + mean, variance + spread / alike
        reach = float(t.ppf(0.975, max(1.0, alike - 1)))
    else:
        variance = max(expected.variance, _spread(value * expected.n, expected.n)) / expected.n
    low, high = (min(1.0, max(0.0, value + side * reach * math.sqrt(variance))) for side in (-1, 1))
    return Estimated(min(1.0, max(0.0, value)), low, high, expected.n, seen, int(right.sum()), corrected)


def as_many(weights: np.ndarray) -> float:
    """How many that weigh alike say as much as all these do [n] (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _spread(right: float, n: float) -> float:
    """The variance of right and wrong, with two more of each kind."""
    share = (right + 2) / (n + 4)
    return share * (1 - share)


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else UNKNOWN_VARIANCE
