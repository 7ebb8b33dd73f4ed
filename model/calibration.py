"""Temperature, offset and threshold, fitted on validation videos and nothing else. Plain NumPy.

One temperature T scales every logit (Guo et al. 2017), one offset b moves them all (Platt 1999): together the slope and the
intercept of a logistic regression. They minimise the log-loss of validation videos through the rule of model/aggregate.py, against
Platt's smoothed targets (n+1)/(n+2) and 1/(n+2), so that validation without an error does not end in a certainty of 1 that n
videos cannot show; a normal prior holds the offset near that which makes a logit midway between the levels even, so that few videos move it little,
and that it is wherever a network has put its logits. The threshold is the lowest at
which a new real, drawn like those of validation, is called fake with at most the target's chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from model.aggregate import UNKNOWN, ClipEvidence, sigmoid, track_logits, video_logit
from model.card import OperatingPoint
from model.metrics import as_fake, brier, calibration_bins, class_weights, expected_calibration_error, log_loss, logits_of, threshold_metrics
from workspace.errors import DataError, TooLittleData

COLDEST, HOTTEST = 0.05, 20.0
FARTHEST, USUAL_OFFSET = 8.0, 1.0  # of the offset from midway between the levels: bound, and standard deviation of the prior (docs/evaluation.md)
CHANCES = 100  # draws of what chance adds to a calibration error
OPERATING_FPRS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the model card keeps, and the figures that belong to it (on validation; n in videos). Log-loss, ECE and Brier count classes alike."""

    temperature: float
    offset: float
    levels: tuple[float, float]  # raw logits of the median real and the median fake video
    threshold: float
    target_fpr: float
    fpr: float | None
    recall: float | None
    n_real: int
    n_fake: int
    log_loss_before: float | None
    log_loss_after: float | None
    ece_before: float | None
    ece_after: float | None
    brier_before: float | None
    brier_after: float | None
    points: tuple[OperatingPoint, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)


def error_beyond_chance(labels: ArrayLike, p_fake: ArrayLike, bins: int = 15) -> float | None:
    """`expected_calibration_error` without what chance adds to it, at least 0. None without both classes.

    On 94 videos of each class and an AUC of 0.95 exactly right probabilities show 0.056 by chance alone; a bound on the plain figure would refuse two perfect
    models of three (Broecker 2012, Kumar et al. 2019). What chance adds is reckoned by the parametric bootstrap: `fit_platt` on these videos says what each
    p_fake would have to be, the truth is drawn from that CHANCES times, in the mixture of classes that is there, and the mean of what the scores then show
    is set against how far they are from it. (Drawn from the scores themselves, those of a model that is too unsure would claim noise that is not there.)
    Same rows, same value.
    """
    found = expected_calibration_error(labels, p_fake, bins)
    if found is None:
        return None
    fake, values = as_fake(labels), np.asarray(p_fake, dtype=np.float64)
    order = np.argsort(values, kind="stable")  # the value must not depend on the order of the rows
    fake, values = fake[order], values[order]
    logits, share = logits_of(values), fake.mean()
    temperature, offset = fit_platt(fake, lambda temperature: logits / temperature)
    right = 0.5 * (1 + np.tanh(0.5 * (logits / temperature + offset)))
    odds = right * share / (right * share + (1 - right) * (1 - share))  # p_fake is the chance where half are fakes
    drawn = [expected_calibration_error(truth, values, bins) for truth in np.random.default_rng(0).random((CHANCES, values.size)) < odds]
    shown = [error for error in drawn if error is not None]  # of few rows a draw may lack a class
    weight = odds / share + (1 - odds) / (1 - share)  # of both classes alike
    apart = np.abs(np.bincount(calibration_bins(values, bins), weight * (values - right))).sum() / weight.sum()
    return max(0.0, found - max(0.0, sum(shown) / len(shown) - float(apart))) if shown else found


def fit_platt(labels: ArrayLike, logits_at: Callable[[float], np.ndarray], usual_offset: float = USUAL_OFFSET, middle: float = 0.0) -> tuple[float, float]:
    """The temperature T in 0.05..20 and the offset that fit best: least smoothed log-loss of n videos, beside it the offset's prior.

    That is N(-middle/T, usual_offset): `middle` is the raw logit at which real and fake are even. `logits_at` gives the videos' logits [n] at a temperature,
    before the offset. (1, 0) without both classes: nothing to learn from. A coarse grid in the logarithm of the temperature, then golden section
    around its best point; for each the offset by bisection, since its slope only rises.
    """
    fake = as_fake(labels)
    n_fake, n_real = int(fake.sum()), int((~fake).sum())
    if not n_fake or not n_real:
        return 1.0, 0.0
    target = np.where(fake, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))
    enough = 4 * n_fake * n_real / fake.size  # as many videos, half of them fake, would tell as much: a few of one class must not outweigh the prior
    weight = enough * class_weights(fake)  # nobody must learn validation's class ratio

    def about_middle(temperature: float) -> np.ndarray:
        return logits_at(temperature) - middle / temperature

    def offset_for(logits: np.ndarray) -> float:
        low, high = -FARTHEST, FARTHEST
        for _ in range(50):
            between = (low + high) / 2
            slope = np.sum(weight * (0.5 * (1 + np.tanh(0.5 * (logits + between))) - target)) + between / usual_offset**2
            low, high = (between, high) if slope < 0 else (low, between)
        return (low + high) / 2

    def loss(log_t: float) -> float:
        logits = about_middle(float(np.exp(log_t)))
        offset = offset_for(logits)
        moved = logits + offset
        costs = target * np.logaddexp(0, -moved) + (1 - target) * np.logaddexp(0, moved)
        return float(np.sum(weight * costs) + (offset / usual_offset) ** 2 / 2)

    grid = np.linspace(np.log(COLDEST), np.log(HOTTEST), 61)
    best = int(np.argmin([loss(g) for g in grid]))
    low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    temperature = float(np.exp((low + high) / 2))
    return temperature, offset_for(about_middle(temperature)) - middle / temperature


def typical_logits(fake: np.ndarray, videos: Sequence[Sequence[ClipEvidence]]) -> tuple[float, float]:
    """Raw logits of the median real and the median fake video, a video being the median of its clips. UNKNOWN without both classes."""
    if fake.all() or not fake.any():
        return UNKNOWN
    medians = np.array([np.median([clip.logit for clip in clips]) for clips in videos])
    return float(np.median(medians[~fake])), float(np.median(medians[fake]))


def threshold_at_fpr(labels: ArrayLike, p_fake: ArrayLike, target_fpr: float) -> float:
    """The lowest threshold at which a new real is called fake (p_fake >= threshold) with a chance of at most `target_fpr`.

    Of n + 1 reals drawn alike each is as likely to be any in order, so that of n at most floor(target (n + 1)) - 1 may lie above it (Vovk, Gammerman
    & Shafer 2005, section 2.2); videos of one person are not drawn alike, and where a few people have many the true chance is higher: `shown` counts
    people. With fewer than 1/target - 1 reals none may, and the chance is 1 / (n + 1). It lies midway between the highest real
    that must stay below and the next higher score, so that neither class sits on the border.

    Raises TooLittleData without a real: a threshold cannot be known then.
    """
    fake, values = as_fake(labels), np.asarray(p_fake, dtype=np.float64)
    reals = np.sort(values[~fake])[::-1]
    if not reals.size:
        raise TooLittleData("No threshold can be set.", why="validation holds no real video", next_step="Add real media with known identities.")
    allowed = max(0, int(np.floor(target_fpr * (reals.size + 1) + 1e-9)) - 1)
    if allowed >= reals.size:
        return 0.0
    border = reals[allowed]  # the first real that must be called real
    above = values[values > border]
    return float(max((border + (above.min() if above.size else 1.0)) / 2, min(1.0, np.nextafter(border, 2.0))))


def calibrate(labels: ArrayLike, videos: Sequence[Sequence[ClipEvidence]], target_fpr: float, clusters: ArrayLike | None = None) -> Calibration:
    """Levels, temperature, offset and threshold from validation videos, each a list of its clips' evidence; `clusters` says whose each is (none: all differ).

    Raises TooLittleData where no real video is there to set the threshold with.
    """
    fake = as_fake(labels)
    if fake.size != len(videos):
        raise DataError("Labels and videos do not fit.", why=f"{fake.size} labels, {len(videos)} videos", next_step="Pass one label for each video.")

    levels = typical_logits(fake, videos)

    def logits_at(temperature: float) -> np.ndarray:
        return np.array([video_logit(track_logits(clips, temperature, levels)) for clips in videos])

    temperature, offset = fit_platt(fake, logits_at, middle=sum(levels) / 2)
    before, after = (np.array([sigmoid(logit + by) for logit in logits_at(t)]) for t, by in ((1.0, 0.0), (temperature, offset)))
    threshold = threshold_at_fpr(fake, after, target_fpr)
    at = threshold_metrics(fake, after, threshold)
    return Calibration(
        temperature, offset, levels, threshold, target_fpr, at["fpr"], at["recall"], int((~fake).sum()), int(fake.sum()),
        log_loss(fake, before), log_loss(fake, after), expected_calibration_error(fake, before), expected_calibration_error(fake, after),
        brier(fake, before), brier(fake, after), operating_points(fake, after, clusters=clusters),
    )  # fmt: skip


def operating_points(
    labels: ArrayLike, p_fake: ArrayLike, targets: Sequence[float] = OPERATING_FPRS, clusters: ArrayLike | None = None
) -> tuple[OperatingPoint, ...]:
    """The threshold for each target false-positive rate, lowest rate first. Raises TooLittleData without a real."""
    fake, points = as_fake(labels), []
    people = int((~fake).sum()) if clusters is None else len(np.unique(np.asarray(clusters)[~fake]))
    for target in sorted(targets):
        threshold = threshold_at_fpr(fake, p_fake, target)
        at = threshold_metrics(fake, p_fake, threshold)
        points.append(OperatingPoint(target, threshold, at["fpr"], at["recall"], (people + 1) * target >= 1 - 1e-9))
    return tuple(points)
