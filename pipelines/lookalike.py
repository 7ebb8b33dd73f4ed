"""Do two files show the same recording? One is laid over the other: mirrored or not, in place and size, and in time.

Two takes of one person before one camera share all that stands still, so of a video its motion has to agree too. A copy may be
encoded anew, resized, cropped, mirrored, or cut out of a longer one. The thresholds were set on half of the people of real videos
and photos; what they give on the other half: benchmarks/duplicates.py.
"""

from dataclasses import dataclass, field
from itertools import product

import cv2
import numpy as np

from media.decode import Source, probe, read_frames, read_image, shown_seconds
from pipelines.fingerprint import grey_of

GREY_PX = 192  # longest side of the pictures that are laid over each other; they are compared at a quarter of it
COARSE = 4
FRAMES_A_SECOND = 25.0
LONGEST_CUT_SECONDS = 60.0  # of a longer video only copies of the whole are recognised, by so many frames
SPREAD_FRAMES = 24
LENGTH_SLACK = 0.03
OURS = (0.1, 0.5, 0.9)  # parts of the shorter one whose pictures are laid over the other's,
THEIRS = 12  # over so many pictures of it, evenly spread, but not closer together than STEP
STEP = 5  # pictures: what changes within a fifth of a second tells one nod from another
POINTS, LEAST_CONTRAST = 300, 0.02  # of SIFT
STARTS, ROUNDS = 3, 3
RATIO = 0.8  # Lowe's: a point's match must be so much nearer than the second best
REACH_PX = 1.5
LEAST_AGREEING = 8  # points that agree on one place and size
MOST_RESIZED = 2.5  # beside a resize of the whole, which goes before
MOST_TURNED = 0.05  # rows and columns of a copy stay what they are
LEAST_COMMON = 0.35  # part of either picture that the other must show: 15% off each side leave half
OVERHANG = 0.25  # part of the shorter one that the other need not hold,
LEAST_FRAMES = 50  # while so many are compared
LEAST_LIKE = 0.97
LEAST_LIKE_IMAGES = 0.99  # the worst of 420 copies of photos has 0.9975, but neighbouring frames kept as images are close too
LEAST_MOTION, LEAST_MOTION_SHORT = 0.7, 0.8  # in less than LEAST_FRAMES another take may move the same way by chance
STILL = 0.015  # what changes by less than this part of a picture's contrast is noise, and its motion says nothing
LEAST_LIKE_STILL = 0.995


@dataclass(frozen=True, slots=True)
class Recording:
    """What is compared of one file: grey pictures uint8 [n, h, w], one of them for an image, and their SIFT points as far as they were asked for."""

    kind: str
    seconds: float
    pictures: np.ndarray
    points: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def spread(self) -> bool:
        """Whether the pictures are spread over a video too long to look at closely."""
        return self.seconds > LONGEST_CUT_SECONDS

    def picture(self, index: int, mirrored: bool) -> np.ndarray:
        """One picture, from left to right or the other way round."""
        return np.ascontiguousarray(self.pictures[index][:, ::-1]) if mirrored else self.pictures[index]

    def points_of(self, index: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        """Places [n, 2] and descriptors [n, 128] of a picture's points."""
        key = (index, mirrored)
        if key not in self.points:
            points, described = cv2.SIFT.create(nfeatures=POINTS, contrastThreshold=LEAST_CONTRAST).detectAndCompute(self.picture(index, mirrored), None)
            places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
            self.points[key] = (places, described if described is not None else np.empty((0, 128), np.float32))
        return self.points[key]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How well two files agree when laid over each other as well as they go. Correlations are between -1 and 1."""

    pictures: float = -1.0
    motion: float = -1.0  # of how the pictures differ from their mean, and from those a fifth of a second before: the mean of both
    moving: float = 0.0  # how much does, as a part of the contrast
    frames: int = 0  # compared

    @property
    def same(self) -> bool:
        """Whether they are one recording. A picture has no motion; of a video that stands still the pictures must agree the better."""
        if self.frames == 1:
            return self.pictures >= LEAST_LIKE_IMAGES
        if self.moving < STILL:
            return self.pictures >= LEAST_LIKE_STILL
        return self.pictures >= LEAST_LIKE and self.motion >= (LEAST_MOTION if self.frames >= LEAST_FRAMES else LEAST_MOTION_SHORT)


def open_recording(source: Source) -> Recording:
    """What is to be compared of a file. Raises MediaError where it does not decode."""
    info = probe(source)
    if info.kind == "image":
        return Recording("image", 0.0, grey_of(read_image(source), GREY_PX)[None])
    seconds = shown_seconds(source, info)
    if seconds > LONGEST_CUT_SECONDS:
        times = (np.arange(SPREAD_FRAMES) + 0.5) / SPREAD_FRAMES * seconds
    else:
        times = np.arange(0, max(seconds, 1 / FRAMES_A_SECOND), 1 / FRAMES_A_SECOND)
    return Recording("video", seconds, np.stack([grey_of(frame, GREY_PX) for _, frame in read_frames(source, list(times))]))


def likeness(one: Recording, other: Recording, ways: tuple[bool, ...] = (False, True)) -> Likeness:
    """How alike two recordings are, laid over each other in these `ways` (True: mirrored); nothing is alike that cannot be laid over each other."""
    if one.kind != other.kind or one.spread != other.spread:
        return Likeness()
    if one.spread and abs(one.seconds - other.seconds) > LENGTH_SLACK * max(one.seconds, other.seconds):
        return Likeness()
    short, long = sorted((one, other), key=lambda recording: len(recording.pictures))
    laid = [found for mirrored in ways for found in _laid_over(short, long, mirrored, None)]
    whole = np.diag([ours / theirs for ours, theirs in zip(short.pictures.shape[:0:-1], long.pictures.shape[:0:-1], strict=True)])
    plain = [(0, mirrored, np.column_stack([whole, np.zeros(2)])) for mirrored in ways]  # too blurred for points, but not cropped
    best = Likeness()
    for _, mirrored, place in [*sorted(laid, key=lambda found: -found[0])[:STARTS], *plain]:
        for _ in range(ROUNDS):  # what moved between two times pulls the place aside, and that the time: each is found anew by the other
            shift, found = _in_time(short, long, mirrored, place)
            if found.pictures <= best.pictures:
                break
            best = found
            place = next((again[2] for again in _laid_over(short, long, mirrored, shift)), place)
        if best.same:
            break
    return best


def _laid_over(short: Recording, long: Recording, mirrored: bool, shift: int | None) -> list[tuple[int, bool, np.ndarray]]:
    """How many points agree on which affine map [2, 3] of `long`'s pictures onto `short`'s, of all maps that a copy can have.

    While the shift in time is unknown, each of ours is tried with each of theirs; then all pairs together, once.
    """
    last = len(short.pictures) - 1, len(long.pictures) - 1
    ours = sorted({round(place * last[0]) for place in OURS})
    tried = THEIRS if long.spread else min(THEIRS, -(-len(long.pictures) // STEP))
    theirs = sorted({round((number + 0.5) / tried * last[1]) for number in range(tried)})
    pairs = list(product(ours, theirs)) if shift is None else [(index, min(max(0, index + shift), last[1])) for index in ours]
    matches = [_matches(short.points_of(index, False), long.points_of(at, mirrored)) for index, at in pairs]
    if shift is not None:
        matches = [(np.concatenate([match[0] for match in matches]), np.concatenate([match[1] for match in matches]))]
    shapes = short.pictures.shape[1:], long.pictures.shape[1:]
    return [(agreeing, mirrored, place) for match in matches for agreeing, place in _places(*match) if _is_of_copy(place, *shapes)]


def _matches(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Places [n, 2] of points that are each other's, in the one picture and in the other."""
    pairs = cv2.BFMatcher().knnMatch(ours[1], theirs[1], k=2) if len(ours[1]) and len(theirs[1]) > 1 else []
    good = [best for best, second in pairs if best.distance < RATIO * second.distance]
    return ours[0][[match.queryIdx for match in good]], theirs[0][[match.trainIdx for match in good]]


def _places(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[int, np.ndarray]]:
    if len(ours) < LEAST_AGREEING:
        return []
    cv2.setRNGSeed(1)  # RANSAC draws: the same files, the same answer
    place, agreeing = cv2.estimateAffine2D(theirs, ours, method=cv2.RANSAC, ransacReprojThreshold=REACH_PX)
    return [] if place is None or agreeing.sum() < LEAST_AGREEING else [(int(agreeing.sum()), place)]


def _is_of_copy(place: np.ndarray, onto: tuple[int, ...], of: tuple[int, ...]) -> bool:
    """Whether a map only moves and resizes, within limits, and leaves enough in common."""
    wide, high = place[0, 0], place[1, 1]
    if not all(1 / MOST_RESIZED < factor < MOST_RESIZED for factor in (wide, high)):
        return False
    if max(abs(place[0, 1]), abs(place[1, 0])) > MOST_TURNED * min(wide, high):
        return False
    common = float(_common(place, onto, of).mean()) * onto[0] * onto[1]
    return common >= LEAST_COMMON * max(onto[0] * onto[1], of[0] * of[1] * wide * high)


def _common(place: np.ndarray, onto: tuple[int, ...], of: tuple[int, ...]) -> np.ndarray:
    """Where both pictures show something: bool [h, w] at the size at which they are compared."""
    return _coarse(cv2.warpAffine(np.full(of, 255, np.uint8), place, onto[::-1])) > 254


def _in_time(short: Recording, long: Recording, mirrored: bool, place: np.ndarray) -> tuple[int, Likeness]:
    """The shift, in pictures, at which the two agree best, and how well they do there."""
    onto = short.pictures.shape[1:]
    common = _common(place, onto, long.pictures.shape[1:])
    if not common.any():  # of a picture one pixel high nothing may be left
        return 0, Likeness()
    ours = _normed(np.stack([_coarse(picture)[common] for picture in short.pictures]))
    laid = (cv2.warpAffine(long.picture(index, mirrored), place, onto[::-1]) for index in range(len(long.pictures)))
    theirs = _normed(np.stack([_coarse(picture)[common] for picture in laid]))
    agree = ours @ theirs.T  # [n, m]
    spare = 0 if short.spread else max(0, min(round(OVERHANG * len(ours)), len(ours) - LEAST_FRAMES))
    shifts = range(-spare, len(theirs) - len(ours) + spare + 1)
    shift = max(shifts, key=lambda shift: float(np.diagonal(agree, shift).mean()))
    held = np.arange(max(0, -shift), min(len(ours), len(theirs) - shift))
    both = ours[held], theirs[held + shift]
    away = _agreement(*(part - part.mean(0) for part in both))
    onward = _agreement(*(part[STEP:] - part[:-STEP] for part in both))
    moving = min(float(np.linalg.norm(part - part.mean(0))) for part in both) / len(held) ** 0.5
    return shift, Likeness(float(np.diagonal(agree, shift).mean()), (away + onward) / 2, moving, len(held))


def _agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours * theirs).sum()) / max(float(np.linalg.norm(ours) * np.linalg.norm(theirs)), 1e-9)


def _coarse(picture: np.ndarray) -> np.ndarray:
    high, wide = (max(1, side // COARSE) for side in picture.shape)  # a banner may be three pixels high
    return cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA)


def _normed(pictures: np.ndarray) -> np.ndarray:
    """Pictures [n, pixels] without their mean and contrast: each of length 1, so that a product is a correlation."""
    centred = pictures - pictures.mean(1, keepdims=True, dtype=np.float32)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
