"""Sharpness and shades: forged clips are as often sharper than the real one as softer, so that no detector can go by blur, colour or contrast alone."""

import bisect
from collections.abc import Callable
from functools import cache, cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from media.forgers.masks import Floats

SIGMA = 1.0  # what a blur of so many pixels takes away is detail
LEAST_GAIN, MOST_GAIN = 0.25, 3.0
COVERED = 0.02  # a pixel of which a forgery takes so much belongs to it: in the soft edge both pictures lose detail
AS_SHARP = 0.7  # so often a fake has exactly the detail of what it covers
SPREAD = 0.3  # else the logarithm of how much it has lies evenly within so much of 0
KNEE, MOST_SHADE = 243.0, 254.4  # from here on shades are drawn together, to here: the last that is no end of the scale once it is rounded
MARGIN = 8  # pixels, a multiple of what up-samplers enlarge by
TO_YCC = np.array([[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], np.float32)  # R, G, B -> Y, Cb, Cr (ITU-R BT.601)
TO_RGB = np.linalg.inv(TO_YCC)
FINEST = 0.6  # what a blur of so many takes away is the finest of it
BLURS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 1.0, 1.3)  # what takes the finest away, the least first


def draw_sharpness(rng: np.random.Generator, as_sharp: float = AS_SHARP, spread: float = SPREAD) -> float:
    """How much detail a fake gets, as a part of what it covers: exactly 1 with the chance `as_sharp`, else as often more as less."""
    return 1.0 if rng.random() < as_sharp else float(np.exp(rng.uniform(-spread, spread)))


def compose(frames: NDArray[np.uint8], made: Floats, covers: Floats, sharpness: float, fill: bool = False) -> NDArray[np.uint8]:
    """`made` [T,S,S,3] laid over `frames` where `covers` [T,S,S] in 0..1 say, with `sharpness` times the detail that was there.

    The detail of the result is what counts: two pictures laid half over each other lose some of both. It is base + gain * fine, of which both have
    detail, so that the gain solves a quadratic equation; it is the same for all frames, from LEAST_GAIN to MOST_GAIN. Brightness and the two
    differences of colour have a gain each, and before that as much of the finest in their detail as was there (`_as_fine`): cameras and codecs record
    colour at half the resolution, and no forgery that circulates keeps more of it than they do.
    What is missing then comes from the detail of `frames` themselves, with `fill`: of a copy that was blurred nearly all is gone.
    """
    real, drawn = (_planes(clip) for clip in (frames, made))  # [3,T,S,S]
    there, laid = _Region(covers > COVERED), np.empty_like(real)
    middle = there.of(_middle(frames))
    for channel in range(3):
        old = real[channel]
        own = _fine(old)
        new = _as_fine(drawn[channel], old, own, middle, fill)
        fine = _fine(new)
        wanted = max(0.0, (sharpness * there.spread(own)) ** 2 - _rounding(channel)) ** 0.5
        base, fine = old + covers * (new - fine - old), covers * fine
        gain = _gain(base, fine, there, wanted, 0.0 if channel else LEAST_GAIN)
        laid[channel] = base + gain * fine
        if fill and gain == MOST_GAIN:
            laid[channel] += _gain(laid[channel], covers * own, there, wanted, 0.0) * covers * own
    again = np.stack([cv2.transform(cv2.merge(list(laid[:, moment])), TO_RGB.T) for moment in range(len(frames))])
    _hold_ends(again, frames, covers)
    return np.clip(np.rint(again, out=again), 0, 255, out=again).astype(np.uint8)


def _hold_ends(made: Floats, frames: NDArray[np.uint8], covers: Floats) -> None:
    """Let no more of a forgery [T,S,S,3] be black or white than of what it covers, channel by channel, in place.

    A gain overshoots, and so does a transfer of colour: half of all forgeries had pixels at an end of the scale that their real had not.
    What would lie there is drawn together with the shades before it.
    """
    there = covers > COVERED
    if not there.any():
        return
    for channel in range(3):
        plane, was = made[..., channel], frames[..., channel][there]
        for end in (255, 0):
            seen = plane if end else 255 - plane
            inside = seen[there]
            if inside.max() <= MOST_SHADE:
                continue
            reaches = float(np.quantile(inside, 1 - float((was == end).mean())))
            if reaches > MOST_SHADE:
                high = np.maximum(seen - KNEE, 0) * there * np.minimum(1, 2 * covers)
                seen = seen - high * (reaches - MOST_SHADE) / (reaches - KNEE)
                plane[...] = seen if end else 255 - seen


def _middle(clip: NDArray[np.generic]) -> slice:
    """The frame in the middle of a clip."""
    return slice(len(clip) // 2, len(clip) // 2 + 1)


def _as_fine(drawn: Floats, real: Floats, own: Floats, cover: "_Region", fill: bool) -> Floats:
    """One channel of a clip [T,S,S] with the share of the finest in its detail that `real` (of detail `own`) has, by its middle frame, of which `cover` is:
    blurred by the least of BLURS that is enough, or with as much of the finest more, of its own or with `fill` of `real`'s.
    """
    middle = _middle(real)
    one = drawn[middle]
    fine_of_it, finest_of_it = _fine(one), _finest(one)
    goal = _share(_finest(real[middle]), own[middle], cover)
    if _share(finest_of_it, fine_of_it, cover) > goal:
        box, part = cover.box  # what lies farther from the cover than blurs reach decides nothing
        seen = one[box]

        def is_enough(sigma: float) -> bool:
            softer = _blurred(seen, sigma)
            return _share(_finest(softer), _fine(softer), part) <= goal

        return _blurred(drawn, BLURS[bisect.bisect_left(BLURS[:-1], True, key=is_enough)])
    added = _finest(real if fill else drawn)
    more = added[middle]
    parts = [cover.moments(finest_of_it, _finest(more)), cover.moments(fine_of_it, _fine(more))]
    amounts = np.linspace(0.0, MOST_GAIN, 61)
    finest, fine = (np.maximum(base + 2 * amounts * both + amounts**2 * power, 0.0) for base, both, power in parts)
    return drawn + float(amounts[np.argmin(np.abs(finest - goal**2 * fine))]) * added


def _share(finest: Floats, fine: Floats, there: "_Region") -> float:
    """How much of the detail `fine` of [T,S,S] is of the finest: a quotient of spreads, 1 where there is none."""
    spread = there.spread(fine)
    return there.spread(finest) / spread if spread > 1e-3 else 1.0


class _Region:
    """Pixels [T,S,S] of a clip, and what planes of its size are like there."""

    def __init__(self, chosen: NDArray[np.bool_]) -> None:
        self._chosen = chosen
        self._mask = chosen.ravel().astype(np.float32)
        self._number = max(1.0, float(self._mask.sum()))

    def of(self, part: slice | tuple[slice, ...]) -> "_Region":
        """What lies in a part of the clip."""
        return _Region(self._chosen[part])

    @cached_property
    def box(self) -> "tuple[tuple[slice, ...], _Region]":
        """The part of a clip in which the region lies, with as much round it as two blurs of SIGMA see, and the region there."""
        room, found = 2 * round(4 * SIGMA), [slice(None)]
        for axis in (1, 2):
            places = np.flatnonzero(self._chosen.any(axis=(0, 3 - axis)))
            found.append(slice(max(0, int(places[0]) - room), int(places[-1]) + room + 1) if len(places) else slice(None))
        return tuple(found), self.of(tuple(found))

    def spread(self, plane: Floats) -> float:
        """Standard deviation; 0 where the region is empty."""
        plane = plane.ravel()
        seen = plane * self._mask  # two products are a sixth of what picking the pixels takes
        return max(0.0, float(seen @ plane) / self._number - float(seen.sum()) * float(plane @ self._mask) / self._number**2) ** 0.5

    def moments(self, base: Floats, more: Floats) -> tuple[float, float, float]:
        """Variance of `base`, covariance, variance of `more`."""
        base, more = base.ravel(), more.ravel()
        seen, also, number = base * self._mask, more * self._mask, self._number
        sum_, sum_of_more, slope = float(seen.sum()), float(also.sum()), float(more @ self._mask) / number**2
        return (
            float(seen @ base) / number - sum_ * float(base @ self._mask) / number**2,
            float(seen @ more) / number - sum_ * slope,
            float(also @ more) / number - sum_of_more * slope,
        )


@cache
def _rounding(channel: int) -> float:
    """Variance that whole numbers for R, G and B bring into the detail of a channel; a forgery is rounded once more, which in a clip without noise is seen."""
    dot = np.zeros((1, 31, 31), np.float32)
    dot[0, 15, 15] = 1.0
    return float(np.square(_fine(dot)).sum() * np.square(TO_YCC[:, channel]).sum() / 12)


def match_shades(made: Floats, frames: Floats, sigma: float) -> Floats:
    """The clip [T,S,S,3] with everything coarser than `sigma` pixels as in `frames`: colours and shades stay, only fine detail is `made`'s.

    Small decoders draw red lips brown and skin pale: without this a detector learns that colour is real.
    """
    matched: Floats = made + np.stack([cv2.GaussianBlur(real - drawn, (0, 0), sigma) for real, drawn in zip(frames, made, strict=True)])
    return matched


def transfer_colour(faces: NDArray[np.uint8], frames: NDArray[np.uint8], masks: Floats, there: Floats, strength: float) -> Floats:
    """The faces [T,S,S,3] with the mean and spread of L, a and b (Reinhard et al. 2001) that `frames` have where `there` [T,S,S] is over a half, as float RGB.

    What of the faces is compared is where `masks` [T,S,S] are; all of them is changed.
    """
    lab = np.stack([cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for face in faces])
    wanted = np.stack([cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for frame in frames])
    inside, goal = lab[masks > 0.5], wanted[there > 0.5]
    if not (inside.size and goal.size):
        return faces.astype(np.float32)
    mean, goal_mean = inside.mean(axis=0), goal.mean(axis=0)
    gain = np.clip(goal.std(axis=0) / np.maximum(inside.std(axis=0), 1e-3), 0.6, 1.6)
    matched = (lab - mean) * (1 + strength * (gain - 1)) + mean + strength * (goal_mean - mean)
    return np.stack([np.clip(cv2.cvtColor(face.astype(np.float32), cv2.COLOR_LAB2RGB) * 255, 0, 255) for face in matched])


def with_surroundings(redraw: Callable[[Floats], Floats], picture: NDArray[np.generic]) -> Floats:
    """A picture [S,S,3] as `redraw` draws it, which sees MARGIN more pixels on each side and gives a picture as large as what it sees.

    Whatever blurs or enlarges a picture repeats or mirrors its outermost pixels, and flattens the edge of a crop; no generator does, since its pictures
    are larger than the face that is cut out of them. So what lies beyond goes on with the slope that the edge has: mirrored in place and in value.
    """
    size, room = picture.shape[0], ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    wider = np.clip(np.pad(picture.astype(np.float32), room, "reflect", reflect_type="odd"), 0, 255)
    return redraw(wider)[MARGIN : MARGIN + size, MARGIN : MARGIN + size]


def _fine(frames: Floats) -> Floats:
    return frames - _blurred(frames, SIGMA)


def _finest(frames: Floats) -> Floats:
    return frames - _blurred(frames, FINEST)


def _planes(clip: NDArray[np.generic]) -> Floats:
    """Brightness and two differences of colour [3,T,S,S] of an RGB clip [T,S,S,3]."""
    return np.stack([np.stack(cv2.split(cv2.transform(np.ascontiguousarray(frame, np.float32), TO_YCC.T))) for frame in clip], axis=1)


def _blurred(frames: Floats, sigma: float) -> Floats:
    found = np.empty_like(frames, order="C")
    for frame, blurred in zip(frames, found, strict=True):
        cv2.GaussianBlur(frame, (0, 0), sigma, dst=blurred)
    return found


def _gain(base: Floats, more: Floats, there: _Region, wanted: float, least: float) -> float:
    """The g for which the detail of base + g * more [T,S,S] is `wanted` where they are `there`; where none does, the one that comes nearest."""
    now, both, power = there.moments(_fine(base), _fine(more))
    if power < 1e-6:
        return 1.0
    return float(np.clip((-both + max(0.0, both**2 - power * (now - wanted**2)) ** 0.5) / power, least, MOST_GAIN))
