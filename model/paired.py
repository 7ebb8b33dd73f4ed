"""Two models on the same videos: how far they differ, and how sure that is, when videos of one person rise and fall together.

Each figure is written as a sum of one influence a video; influences of one person are added before their spread is taken, so a person
counts once (Obuchowski 1997 for the AUC, after DeLong et al. 1988; Liang and Zeger 1986 for means). What a person holds a share h of, he draws
towards himself: his sum is divided by 1 - h, and the squares of I people count (I - 1) / I, as when each is left out in turn (the jackknife; CV3 of
MacKinnon, Nielsen and Webb 2023, section 3), however many people the other class has. Where all have equally many videos that is the I / (I - 1)
of any sample; by the root of 1 - h, one of 61 people who has 180 of 240 videos hid half of the spread. Degrees of freedom count how many people it
comes to (Bell and McCaffrey 2002). No resampling: exact sums, milliseconds for thousands of videos. Compare `model/intervals.py`, which draws people
anew and gives the intervals that people read.

One person who has a third of the videos leaves a test by videos hardly a degree of freedom: it shows nothing then of what all others lost, however many
they are. So where some people have far more videos than others the same difference is told once more with each person counted once (`Paired.once`), and a
test asks both, each at half the level (`of_both`). Whether it does depends on who has how many videos, never on a score, so that the level stays.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.estimate import as_many
from model.metrics import as_fake

UNEVEN = 2.0  # times the degrees of freedom, with each person counted once; people of whom each has one video or two come to 1.6 at most
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """Challenger less champion, its standard error, degrees of freedom (less than people of the poorest sample; 0: nothing can be said) and its skewness.

    `once`: the same with each person counted once, where some have far more videos than others.
    """

    difference: float
    se: float
    df: int
    skew: float = 0.0
    once: "Paired | None" = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready. `uneven` says whether there is a `once`, so that a lost one is no difference that has none."""
        told = {"difference": self.difference, "se": self.se, "df": self.df, "skew": self.skew, "uneven": self.once is not None}
        return told | ({"once": self.once.as_dict()} if self.once else {})

    def times(self, worth: float) -> "Paired":
        """So much of it: what a part counts for in a whole."""
        return replace(self, difference=self.difference * worth, se=self.se * worth, once=self.once.times(worth) if self.once else None)

    def bounds(self, alpha: float) -> tuple[float, float]:
        """One-sided bounds at level `alpha`, lower and upper, that allow for skewness (Hall 1992, "On the removal of skewness by transformation").

        A mean in which a few large values decide, as a log-loss, is believed too low by Student's t: a sample that lacks them shows a small spread too.
        """
        from scipy.stats import t

        if self.df < 1:
            return -math.inf, math.inf
        quantile = float(t.isf(alpha, self.df))
        lower, upper = (self.difference - _unskewed(side, self.skew) * self.se for side in (quantile, -quantile))
        return lower, upper


def paired_auc(labels: ArrayLike, challenger: ArrayLike, champion: ArrayLike, clusters: ArrayLike, margin: float | None = None) -> Paired | None:
    """Difference of the AUCs; None without both classes.

    With a `margin` the standard error is the one that a challenger worse by exactly it would show, where that is larger (as the score interval of
    Farrington and Manning 1990 does for shares): near 1 a lucky AUC also has a small spread of its own, and is believed too readily.
    """
    fake = as_fake(labels)
    if fake.all() or not fake.any():
        return None
    scores = [np.asarray(one, dtype=np.float64) for one in (challenger, champion)]

    def change(counts: Floats) -> tuple[float, Floats, Floats]:
        new, old = (_auc_influence(fake, one, counts) for one in scores)
        wider = _spread_at(max(0.0, old[0] - margin), new[0]) if margin is not None else 1.0
        return new[0] - old[0], wider * new[1] - old[1], np.ones(fake.size)

    return _both(change, [fake, ~fake], clusters)


def auc_bounds(labels: ArrayLike, scores: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> tuple[float, float] | None:
    """The two ends of one model's AUC: Student's t about its logit (Qin and Hotilovac 2008), since near 1 it varies less upwards than down.

    Each class has one degree of freedom less than people (Kish's effective number, where they have unlike numbers of videos), which count by how much of
    the spread is its (Welch 1947).

    None without both classes, with one person of either, and where the AUC is 0 or 1.
    """
    from scipy.stats import t

    fake = as_fake(labels)
    if fake.all() or not fake.any():
        return None
    each = np.ones(fake.size)
    value, influence = _auc_influence(fake, np.asarray(scores, dtype=np.float64), each)
    found = _paired(value, influence, [fake, ~fake], clusters, each, each)
    if found.df < 1 or not 0 < value < 1:
        return None
    parts = [
        (_paired(value, influence[side], [np.ones(int(side.sum()), bool)], np.asarray(clusters)[side], each[side], each[side]).se ** 2, _people(side, clusters))
        for side in (fake, ~fake)
    ]
    degrees = _welch([(variance, max(1.0, people - 1)) for variance, people in parts]) or 1.0
    middle, reach = math.log(value / (1 - value)), float(t.isf((1 - confidence) / 2, degrees)) * found.se / (value * (1 - value))
    low, high = (0.5 * (1 + math.tanh((middle + side * reach) / 2)) for side in (-1, 1))
    return low, high


def paired_balanced_accuracy(labels: ArrayLike, challenger: ArrayLike, champion: ArrayLike, clusters: ArrayLike) -> Paired | None:
    """Difference of the balanced accuracies, from whether each model says fake (bool [N]); with one class alone, of the share it gets right."""
    fake = as_fake(labels)
    right_new, right_old = (np.asarray(said, dtype=bool) == fake for said in (challenger, champion))
    return paired_mean(labels, right_new, right_old, clusters)


def paired_mean(labels: ArrayLike, challenger: ArrayLike, champion: ArrayLike, clusters: ArrayLike) -> Paired | None:
    """Difference of two means over the same videos, such as of their log-losses or of the shares of attacks that each stands: [N].

    Both classes count alike, whatever the mixture of the videos, as in model/calibration.py; with one class alone it is the mean of that. None without videos.
    """
    fake = as_fake(labels)
    if not fake.size:
        return None
    gain = np.asarray(challenger, dtype=np.float64) - np.asarray(champion, dtype=np.float64)
    sides = [side for side in (fake, ~fake) if side.any()]

    def change(counts: Floats) -> tuple[float, Floats, Floats]:
        influence, difference = np.zeros(fake.size), 0.0
        for side in sides:
            mean = float(np.average(gain[side], weights=counts[side]))
            difference += mean / len(sides)
            influence[side] = counts[side] * (gain[side] - mean) / counts[side].sum() / len(sides)
        return difference, influence, np.ones(fake.size)

    return _both(change, sides, clusters)


def shift_within(values: ArrayLike, new: ArrayLike, strata: ArrayLike, kinds: ArrayLike, clusters: ArrayLike) -> Paired | None:
    """Mean over the rows that are new less the mean over the others (not the same videos) within each stratum, weighed as the strata are in the new rows.

    The `kinds` [N] of the others weigh as they are mixed in the new rows, and people count as so many whose rows weigh alike in the mean (Kish 1965).

    Each side of each stratum is a sample of its own, and the one of fewest people bounds what can be said: a hundred of the one do not tell how two of another
    differ, and two may well agree by chance. None where a stratum lacks a side, or there is no row.
    """
    seen, side, strata = np.asarray(values, dtype=np.float64), np.asarray(new, dtype=bool), np.asarray(strata)
    parts = [(side & (strata == kind), ~side & (strata == kind)) for kind in np.unique(strata)]
    if not all(come.any() and before.any() for come, before in parts) or not parts:
        return None

    def change(counts: Floats) -> tuple[float, Floats, Floats]:
        influence, difference = np.zeros(seen.size), 0.0
        mix = mixed_as_new(side, kinds, counts)
        weight = counts * mix
        for come, before in parts:
            part = weight[come].sum() / weight[side].sum()
            for sample, sign in ((come, 1), (before, -1)):
                mean = float(np.average(seen[sample], weights=weight[sample]))
                difference += float(sign * part * mean)
                influence[sample] = sign * part * weight[sample] * (seen[sample] - mean) / weight[sample].sum()
        return difference, influence, mix

    return _both(change, [sample for part in parts for sample in part], clusters)


def mixed_as_new(new: ArrayLike, kinds: ArrayLike, counts: Floats) -> Floats:
    """Weights of rows [N], 1 of the new ones, under which the kinds of the others, each row counted so often, are mixed as theirs."""
    side, names = np.asarray(new, dtype=bool), np.asarray(kinds)
    wanted, there = ({kind: float(np.average(names[one] == kind, weights=counts[one])) for kind in np.unique(names)} for one in (side, ~side))
    return np.array([1.0 if is_new else wanted[kind] / there[kind] for is_new, kind in zip(side, names, strict=True)])


def counted_once(samples: Sequence[NDArray[np.bool_]], clusters: ArrayLike) -> Floats:
    """How often a row counts [N] where each person counts once in each sample: 1 of so many as he has there. Each row is in one of the samples."""
    _, inverse = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    counts = np.ones(inverse.size)
    for sample in samples:
        counts[sample] = 1 / np.bincount(inverse[sample])[inverse[sample]]
    return counts


def log_losses(labels: ArrayLike, p_fake: ArrayLike) -> Floats:
    """Log-loss of each video in nats; probabilities are kept 1e-6 from 0 and 1."""
    fake, p = as_fake(labels), np.clip(np.asarray(p_fake, dtype=np.float64), 1e-6, 1 - 1e-6)
    losses: Floats = -np.where(fake, np.log(p), np.log1p(-p))
    return losses


def p_greater(value: float, se: float, df: int, bound: float) -> float:
    """One-sided p-value of the hypothesis that the true value is at most `bound` (Student's t). 1 where nothing can be said.

    People who all differ alike show no spread at all: what counts then is how many they are (the sign test), for two may well agree by chance. Beyond a
    bound of 0 and more, they are no weaker evidence than if one of them had differed by nothing, which leaves a spread to go by.
    """
    from scipy.stats import t

    if df < 1:
        return 1.0
    if se > 1e-9 * abs(value - bound):  # not only 0: sums that cancel leave their last digits
        return float(t.sf((value - bound) / se, df))
    if value <= bound:
        return 1.0
    spared = float(t.sf(df - bound * (df + 1) / value, df)) if bound >= 0 else 1.0
    return min(0.5 ** (df + 1), spared)


def of_both(*p_values: float) -> float:
    """The p-value of one question that was asked in several ways, each at its part of the level (Bonferroni): the smallest, times how many they are."""
    return min(1.0, len(p_values) * min(p_values))


def detectable(se: float, df: int, bound: float, alpha: float) -> float:
    """The true value that a test of "at most `bound`" at level `alpha` finds with a power of 0.8; infinite where it finds nothing.

    Without any spread it is the value by which all people have to differ alike: see `p_greater`.
    """
    from scipy.stats import norm, t

    if df < 1:
        return math.inf
    quantile = float(t.isf(alpha, df))
    if se > 0 or 0.5 ** (df + 1) <= alpha:
        return bound + (quantile + float(norm.isf(1 - 0.8))) * se
    return bound * (df + 1) / (df - quantile) if bound >= 0 and quantile < df else math.inf


def needed(n: int, se: float, margin: float, alpha: float, power: float = 0.95) -> int:
    """How many videos like these n would let two equally good models pass a non-inferiority test with this power."""
    from scipy.stats import norm

    return max(1, math.ceil(n * (float(norm.isf(alpha) + norm.isf(1 - power)) * se / margin) ** 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): rejecting those at most alpha keeps the chance of any false rejection at alpha."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = highest
    return adjusted


def _auc_influence(fake: NDArray[np.bool_], scores: Floats, counts: Floats) -> tuple[float, Floats]:
    """AUC, each video counted so often, and the influence of each on it: how its share of won comparisons differs from the mean share."""
    share = np.empty(scores.size)
    for side, others, wins_above in ((fake, ~fake, True), (~fake, fake, False)):
        order = np.argsort(scores[others], kind="stable")
        rivals, upto = scores[others][order], np.concatenate([[0.0], np.cumsum(counts[others][order])])
        below = upto[np.searchsorted(rivals, scores[side], "left")]
        won = below + (upto[np.searchsorted(rivals, scores[side], "right")] - below) / 2
        share[side] = (won if wins_above else upto[-1] - won) / upto[-1]
    value = float(np.average(share[fake], weights=counts[fake]))
    influence = counts * (share - value)
    for side in (fake, ~fake):
        influence[side] /= counts[side].sum()
    return value, influence


def _unskewed(quantile: float, skew: float) -> float:
    """The studentised value whose transform, T + skew T^2 / 3 + skew^2 T^3 / 27 + skew / 6, is this quantile (Hall 1992)."""
    if abs(skew) < 1e-9:
        return quantile
    return 3 / skew * (float(np.cbrt(1 + skew * (quantile - skew / 6))) - 1)


def _spread_at(supposed: float, seen: float) -> float:
    """By what the spread of an AUC grows from the one seen to a lower one, as that of a share does; at least 1, and 1 where none is seen at all."""
    return max(1.0, math.sqrt(supposed * (1 - supposed) / (seen * (1 - seen)))) if 0 < seen < 1 else 1.0


def _both(change: Callable[[Floats], tuple[float, Floats, Floats]], samples: Sequence[NDArray[np.bool_]], clusters: ArrayLike) -> Paired:
    """A difference of videos, and of people where some have far more videos than others.

    `change` says of how often each row counts [N] the difference, the influences [N], and by what rows weigh beside that [N].
    """
    videos, people = np.ones(len(np.asarray(clusters))), counted_once(samples, clusters)
    (difference, influence, mix), once = change(videos), change(people)
    found = _paired(difference, influence, samples, clusters, videos, mix)
    if not _uneven(samples, clusters, videos * mix, people * once[2]):
        return found
    return replace(found, once=_paired(*once[:2], samples, clusters, people, once[2]))


def _uneven(samples: Sequence[NDArray[np.bool_]], clusters: ArrayLike, videos: Floats, people: Floats) -> bool:
    """Whether in some sample the weights [N] by people leave far more degrees of freedom than those by videos."""
    _, inverse = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    of = [[_degrees(_held(np.bincount(inverse[sample], weights=weight[sample]))) for weight in (videos, people)] for sample in samples]
    return any(by_people >= UNEVEN * by_videos > 0 for by_videos, by_people in of)


def _held(rows: ArrayLike) -> Floats:
    """The share of a sample that each person has who has any, of the weights of all."""
    weights = np.asarray(rows, dtype=np.float64)
    held: Floats = weights[weights > 0] / weights.sum()
    return held


def _paired(difference: float, influence: Floats, samples: Sequence[NDArray[np.bool_]], clusters: ArrayLike, counts: Floats, mix: Floats) -> Paired:
    # Each row is in one of the samples, each of which has the spread of a sample of its own people; the poorest one in people bounds what can be said.
    names, inverse = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    people, parts = [0] if not samples else [], []
    for sample in samples:
        rows = np.bincount(inverse[sample], weights=(counts * mix)[sample], minlength=names.size)
        held = rows / (rows.sum() or 1.0)  # of the sample, by each person, who draws the mean towards himself
        count = int((rows > 0).sum())
        number = np.bincount(inverse[sample], weights=counts[sample], minlength=names.size)
        people.append(round(as_many(rows[rows > 0] / number[rows > 0])) if count else 0)  # not by rows: many of little weight hide who carries the rest
        apart = np.where(held < 1, 1 - held, 1.0) / math.sqrt(max(1, count - 1) / max(1, count))
        influence = np.where(sample, influence / apart[inverse], influence)
        own = np.bincount(inverse[sample], weights=influence[sample], minlength=names.size)
        parts.append((float((own**2).sum()), _degrees(held[rows > 0])))
    sums = np.bincount(inverse, weights=influence, minlength=names.size)
    variance = float((sums**2).sum())
    skew = float((sums**3).sum()) / variance**1.5 if variance > 0 else 0.0
    return Paired(float(difference), math.sqrt(variance), min(min(people) - 1, _together(parts)), skew)


def _together(parts: Sequence[tuple[float, float]]) -> int:
    """Degrees of freedom, rounded, of a sum of variances (each with its own): Welch's, at least those of the poorest, and these where it has none."""
    least = min(degrees for _, degrees in parts)
    return round(max(least, _welch(parts)) if least >= 1 else least)


def _welch(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own: by how much of the sum is whose (Welch 1947); 0 of a sum of 0."""
    varied = sum(variance for variance, _ in parts)
    return varied**2 / sum(variance**2 / degrees for variance, degrees in parts) if varied > 0 else 0.0


def _people(side: NDArray[np.bool_], clusters: ArrayLike) -> float:
    """Of how many people the rows of one class are, as if all had equally many (Kish 1965)."""
    _, videos = np.unique(np.asarray(clusters)[side], return_counts=True)
    return as_many(videos)


def _degrees(held: Floats) -> float:
    """Degrees of freedom of the spread of a mean over people who hold these shares of its rows (Bell and McCaffrey 2002, section 4); 0 of one alone.

    Satterthwaite's, as if all that one person's rows tell were the same: I - 1 for I people of equally many, 1 where one has nearly all.
    """
    if held.size < 2:
        return 0.0
    weight = held**2 / (1 - held)
    total, a, b, c = weight.sum(), (held**2).sum(), (held * weight).sum(), (weight**2).sum()
    trace = total - 2 * b + total * a
    square = c + 2 * (total * (weight * held**2).sum() - 2 * (weight**2 * held).sum()) + 2 * b**2 + 2 * a * c - 4 * total * a * b + (total * a) ** 2
    return max(1.0, float(trace**2 / square))  # at a share near 1 both are differences of large numbers
