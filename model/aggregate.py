"""From clip logits to one probability for a video: the rule that serving, calibration and evaluation share.

Within a face track the clips' odds are averaged in a soft maximum, each clip weighted by its mean frame certainty:

    z_all = S * log( sum_i w_i exp(z_i / (S * T)) / sum_i w_i ),   w_i = FLOOR + (1 - FLOOR) * certainty_i

With S = 1/2 a forged second among ten is not averaged away (nine clips at logit -4, one at +4: 0.94, where the plain
mean says 0.04), while clips that agree give their own value back, whatever their number.

People differ more from one another than one of them does from second to second. So where a track has three clips or more and the
model's levels are known, the logits of the median real and the median fake validation video, its most suspicious clip is weighed against
the others: how far it stands out of their median, beyond a third of the way from a real to a fake. A median below the typical
real counts as typical, so nobody is suspected for having been found very real so far. Where it stands out no further, real and fake
are even: midway between the levels, wherever a network has put them. The whole is then nearly a mean, S = 2. The
more clips n there are, the further one of them stands out by chance; so the odds that it is the forged one are shared by all beyond
the M among which K and the third were chosen:

    z_part = ((real + fake) / 2 + K * (max_i z_i - max(median_i z_i, real) - (fake - real) / 3)) / T - log(max(n, M) / M)
    z_track = max(z_all, z_part)

So all logits and levels may be moved by one number, and the answers move by it alone: the offset takes it back.

Which of a video's N people would be forged is not known, and the most suspicious of them stands out by chance too. So their odds are averaged: one
forged face of three weighs a third, people who agree give their own value back, and a person cut into two tracks is one person still:

    z_video = log( sum_t exp(z_track) / N ),   p_fake = sigmoid(z_video + b)

What is named is the worst track. Temperature T and offset b are fitted through this very rule (model/calibration.py). K, the third and S
were chosen on rendered people (docs/evaluation.md). Plain NumPy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SOFTNESS = 0.5  # S: 0 would be the maximum, infinity the mean
SOFTNESS_BESIDE_PART = 2.0  # S where a part is weighed apart
FLOOR = 0.1  # a clip of no certainty at all still counts a tenth
STANDING_OUT = 2.0  # K
FAR_ENOUGH = 1 / 3  # of the way from a typical real to a typical fake
MANY = 13  # M: clips of ten seconds in mode dense, on which K and the third were chosen
FEWEST = 3  # clips of a track that have a median to stand out of
UNKNOWN = (0.0, 0.0)  # the levels of a model that has none


@dataclass(frozen=True, slots=True)
class ClipEvidence:
    """What the network said about one clip: raw logit (positive means fake), mean frame certainty 0..1, face track."""

    logit: float
    certainty: float
    track: int = 0


@dataclass(frozen=True, slots=True)
class VideoScore:
    """`p_fake` of the video, its worst track, the position of that one's most suspicious clip, and every track's p_fake."""

    p_fake: float
    track: int
    worst_clip: int
    tracks: dict[int, float]


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)) without overflow."""
    return float(0.5 * (1.0 + np.tanh(0.5 * logit)))


def track_logit(logits: Sequence[float], certainty: Sequence[float], temperature: float = 1.0, levels: tuple[float, float] = UNKNOWN) -> float:
    """Logit of one face track from its clips, before the offset (rule above). At least one clip."""
    values = np.asarray(logits, dtype=np.float64)
    real, fake = levels
    if fake <= real or values.size < FEWEST:
        return _soft_maximum(values / temperature, certainty, SOFTNESS)
    beyond = values.max() - max(float(np.median(values)), real) - FAR_ENOUGH * (fake - real)
    part = ((real + fake) / 2 + STANDING_OUT * beyond) / temperature - np.log(max(values.size, MANY) / MANY)
    return max(_soft_maximum(values / temperature, certainty, SOFTNESS_BESIDE_PART), float(part))


def _soft_maximum(values: np.ndarray, certainty: Sequence[float], softness: float) -> float:
    weights = FLOOR + (1.0 - FLOOR) * np.asarray(certainty, dtype=np.float64)
    top = values.max()
    return float(top + softness * np.log(np.sum(weights * np.exp((values - top) / softness)) / weights.sum()))


def track_logits(clips: Sequence[ClipEvidence], temperature: float = 1.0, levels: tuple[float, float] = UNKNOWN) -> dict[int, float]:
    """`track_logit` of each face track of a video, each as if it were alone. Raises ValueError without clips: no clip means no verdict, not a number."""
    if not clips:
        raise ValueError("a video without clips has no score")
    found = {}
    for track in sorted({clip.track for clip in clips}):
        own = [clip for clip in clips if clip.track == track]
        found[track] = track_logit([clip.logit for clip in own], [clip.certainty for clip in own], temperature, levels)
    return found


def video_logit(tracks: Mapping[int, float]) -> float:
    """The logit of a video from those of its face tracks, at least one: their mean odds."""
    return _soft_maximum(np.array(list(tracks.values())), [1.0] * len(tracks), 1.0)


def aggregate(clips: Sequence[ClipEvidence], temperature: float = 1.0, levels: tuple[float, float] = UNKNOWN, offset: float = 0.0) -> VideoScore:
    """The verdict's number for one video; `levels` (real, fake) are raw logits, and a model without them weighs no clip against the others.

    Raises ValueError without clips.
    """
    alone = track_logits(clips, temperature, levels)
    worst = max(alone, key=lambda track: alone[track])
    worst_clip = max((position for position, clip in enumerate(clips) if clip.track == worst), key=lambda position: clips[position].logit)
    tracks = {track: sigmoid(logit + offset) for track, logit in alone.items()}
    return VideoScore(p_fake=sigmoid(video_logit(alone) + offset), track=worst, worst_clip=worst_clip, tracks=tracks)


def band(threshold: float, abstain: float) -> tuple[float, float]:
    """From where to where nothing is called. The band reaches `abstain` to either side, but never over half of the room there:

    with a threshold of 0.95 and a band of 0.1, p_fake 0.98 is still called fake.
    """
    return threshold - min(abstain, threshold / 2), threshold + min(abstain, (1.0 - threshold) / 2)


def verdict(p_fake: float, threshold: float, abstain: float) -> str:
    """'real' below the band, 'fake' above it or where it ends, else 'uncertain'."""
    real_below, fake_from = band(threshold, abstain)
    if p_fake < real_below:
        return "real"
    return "fake" if p_fake >= fake_from else "uncertain"


def as_estimate(p_fake: float, digits: int = 3) -> str:
    """p_fake as people read it: >0.999 and <0.001 are the ends."""
    return "".join(short_of_certainty(p_fake, 1.0, digits))


def short_of_certainty(p_fake: float, whole: float, digits: int) -> tuple[str, str]:
    """An estimate in 0..`whole` (1, or 100 for percent) as a sign and a figure: never rounded to an end, even where the float has come to it."""
    text, step = f"{p_fake:.{digits}f}", 10.0**-digits
    if float(text) >= whole:
        return ">", f"{whole - step:.{digits}f}"
    return ("<", f"{step:.{digits}f}") if float(text) <= 0 else ("", text)
