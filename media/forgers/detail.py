"""Sharpness and shades: forged clips are as often sharper than the real one as softer, so that no detector can go by blur, colour or contrast alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from media.forgers.masks import Floats

LEAST_GAIN, MOST_GAIN = 0.25, 3.0
COVERED = 0.02  # a pixel of which a forgery takes so much belongs to it: in the soft edge both pictures lose detail
AS_SHARP = 0.7  # so often a fake has exactly the detail of what it covers
SPREAD = 0.3  # else the logarithm of how much it has lies evenly within so much of 0
KNEE, MOST_SHADE = 243.0, 254.4  # from here on shades are drawn together, to here: the last that is no end of the scale once it is rounded
MARGIN = 8  # pixels, a multiple of what up-samplers enlarge by
TO_YCC = np.array([[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], np.float32)  # R, G, B -> Y, Cb, Cr (ITU-R BT.601)
ROUNDING = np.square(TO_YCC).sum(axis=0)[:, None] / 12  # variance that whole numbers for R, G and B will bring
TO_RGB = np.linalg.inv(TO_YCC)
DETAIL = 0.12  # cycles a pixel: what is finer counts as sharpness
RINGS = (0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56)  # of a spectrum, in cycles a pixel; coarser than the first is nobody's detail
COARSE = 5.5  # pixels: what a blur of so many leaves is taken off before a spectrum is looked at
POWERS = np.array([[1.5], [2.0], [2.0]], np.float32)  # of amplitudes of brightness and of two differences of colour
ROUNDS = 4  # of the search for what each ring needs


def draw_sharpness(rng: np.random.Generator, as_sharp: float = AS_SHARP, spread: float = SPREAD) -> float:
    """How much detail a fake gets, as a part of what it covers: exactly 1 with the chance `as_sharp`, else as often more as less."""
    return 1.0 if rng.random() < as_sharp else float(np.exp(rng.uniform(-spread, spread)))


def compose(frames: NDArray[np.uint8], made: Floats, covers: Floats, sharpness: float, fill: bool = False) -> NDArray[np.uint8]:
    """`made` [T,S,S,3] laid over `frames` where `covers` [T,S,S] in 0..1 say, with `sharpness` times the detail that was there.

    The detail of the result is what counts: two pictures laid half over each other lose some of both. Brightness and the two differences of colour
    have a gain for each of RINGS of their spectrum: a soft picture whose detail is enlarged as a whole has too much that is coarse and too
    little that is fine, and cameras and codecs record colour at half the resolution, more of which no forgery that circulates keeps.
    What no gain from LEAST_GAIN to MOST_GAIN brings is `frames`' own, with `fill`: of a copy that was blurred nearly all is gone.
    """
    real, drawn = _planes(frames), _planes(made)  # [3,T,S,S]
    laid = real + covers * (_as_detailed(drawn, real, covers, sharpness, fill) - real)
    again = np.stack([cv2.transform(cv2.merge(list(laid[:, moment])), TO_RGB.T) for moment in range(len(frames))])
    _hold_ends(again, frames, covers)
    return np.clip(np.rint(again, out=again), 0, 255, out=again).astype(np.uint8)


def _hold_ends(made: Floats, frames: NDArray[np.uint8], covers: Floats) -> None:
    """Let no more of a forgery [T,S,S,3] be black or white than of what it covers, channel by channel, in place.

    A gain overshoots, and so does a transfer of colour: half of all forgeries had pixels at an end of the scale that their real had not.
    What would lie there is drawn together with the shades before it.
    """
    there = covers > COVERED
    places = np.flatnonzero(there)
    if not places.size:
        return
    made_there, was_there = (np.ascontiguousarray(clip.reshape(-1, 3).take(places, axis=0).T) for clip in (made, frames))
    for channel, (inside_now, was) in enumerate(zip(made_there, was_there, strict=True)):
        plane = made[..., channel]
        for end in (255, 0):
            inside = inside_now if end else 255 - inside_now
            if inside.max() <= MOST_SHADE:
                continue
            share = float((was == end).mean())
            reaches = float(np.quantile(inside, 1 - share)) if share > 0 else float(inside.max())
            if reaches > MOST_SHADE:
                seen = plane if end else 255 - plane
                high = np.maximum(seen - KNEE, 0) * there * np.minimum(1, 2 * covers)
                seen = seen - high * (reaches - MOST_SHADE) / (reaches - KNEE)
                plane[...] = seen if end else 255 - seen
                inside_now = plane.take(places)


def _as_detailed(drawn: Floats, real: Floats, covers: Floats, sharpness: float, fill: bool) -> Floats:
    """`drawn` [3,T,S,S] so that, laid over `real` where `covers` [T,S,S] say, it has in each ring what `real` had there, times `sharpness` in the finer ones.

    Told by the frame in the middle of the clip, of brightness by less than its power: beside peaks that an up-sampler leaves in every fourth pixel all
    else would be soft. A cover is smooth, and a gain before it does nearly what a gain behind it does, so that one transform of what will have a gain and
    one of what will not serve the whole search. What is coarser than any ring has none, and counts with what will not: it would seep into the rings.
    """
    middle, size = len(covers) // 2, covers.shape[-1]
    cover, was, mine = covers[middle], real[:, middle], drawn[:, middle]
    if not (cover > COVERED).any():
        return drawn
    coarse = _coarse(mine)
    looked_at = np.stack([was, was + cover * (coarse - was), cover * (mine - coarse)])  # what was there, what no gain changes, what has one
    looked_at -= _coarse(looked_at)
    looked_at *= cover
    rings = _Rings.of(size)
    before, kept, changed = rings.ordered(_cosines(looked_at))
    goal = rings.mean(before) * np.where(np.array(RINGS) < DETAIL, 1.0, sharpness).astype(np.float32)  # [3, rings]
    goal = np.sqrt(np.maximum(goal**2 - ROUNDING * np.square(cover).mean(), 0))
    gains = np.ones_like(goal)

    def now() -> Floats:
        mixed = rings.spread(gains)
        mixed *= changed
        mixed += kept
        return rings.mean(mixed)

    for _ in range(ROUNDS):
        gains[:, 1:] = np.clip(gains[:, 1:] * (goal / np.maximum(now(), 1e-3))[:, 1:], LEAST_GAIN, MOST_GAIN)
    made = _back(_cosines(drawn), gains, rings)
    if fill and (gains >= MOST_GAIN).any():
        lacking = np.sqrt(np.maximum(1 - np.square(now() / np.maximum(goal, 1e-3)), 0)) * (gains >= MOST_GAIN)
        made += _back(_cosines(real), lacking, rings)
    return made


@dataclass(frozen=True, slots=True)
class _Rings:
    """The places of the spectrum of a picture, from the coarsest to the finest. Each lies between two of RINGS, and is shared among both by how near it is."""

    order: NDArray[np.intp]  # which place of the spectrum comes where [places], and back
    back: NDArray[np.intp]
    begins: NDArray[np.intp]  # where what lies between a ring and the next begins [rings - 1], and how much that is
    counts: NDArray[np.intp]
    part: Floats  # how far from the one ring to the other [places]
    shares: Floats  # how many places a ring has in all [rings]

    @classmethod
    @cache
    def of(cls, size: int) -> Self:
        """Those of a picture of `size`."""
        along = np.arange(size) / (2 * size)
        radius = np.hypot(along[:, None], along[None]).ravel()
        at = np.interp(np.log(np.maximum(radius, 1e-6)), np.log(RINGS), np.arange(len(RINGS)))
        order = np.argsort(at, kind="stable")
        ring = np.minimum(at[order].astype(np.intp), len(RINGS) - 2)
        counts, part = np.bincount(ring, minlength=len(RINGS) - 1), (at[order] - ring).astype(np.float32)
        finer = np.bincount(ring, part, len(RINGS) - 1)
        shares = np.append(counts - finer, 0) + np.append(0, finer)
        return cls(order, np.argsort(order), np.cumsum(counts) - counts, counts, part, np.maximum(shares, 1e-6).astype(np.float32))

    def ordered(self, spectra: Floats) -> Floats:
        """Spectra [...,S,S] as [..., places]."""
        return np.take(spectra.reshape(*spectra.shape[:-2], -1), self.order, axis=-1)

    def spread(self, gains: Floats) -> Floats:
        """`gains` [3, rings] at each place [3, places]: straight from one ring to the next."""
        found = np.repeat(np.diff(gains), self.counts, axis=-1)
        found *= self.part
        found += np.repeat(gains[:, :-1], self.counts, axis=-1)
        return found

    def mean(self, spectrum: Floats) -> Floats:
        """How much is in each ring [3, rings] of spectra [3, places], as the mean of POWERS of amplitudes."""
        power = np.abs(spectrum)  # to the power of POWERS, spelt out
        power[0] *= np.sqrt(power[0])
        power[1:] *= power[1:]
        both, finer = self._sums(power), self._sums(power * self.part)
        found = np.zeros((len(power), len(RINGS)), np.float32)
        found[:, :-1] = both - finer
        found[:, 1:] += finer
        return np.maximum(found / self.shares, 0) ** (1 / POWERS)

    def _sums(self, values: Floats) -> Floats:
        return np.where(self.counts > 0, np.add.reduceat(values, self.begins, axis=-1), 0)


def _coarse(planes: Floats) -> Floats:
    """What is coarser than any ring of [...,S,S]: as a blur of COARSE pixels leaves it, made at a quarter of the size."""
    size = planes.shape[-1]
    found = np.empty_like(planes, order="C")
    for plane, coarse in zip(planes.reshape(-1, size, size), found.reshape(-1, size, size), strict=True):
        small = cv2.GaussianBlur(cv2.resize(plane, (size // 4, size // 4), interpolation=cv2.INTER_AREA), (0, 0), COARSE / 4)
        cv2.resize(small, (size, size), dst=coarse, interpolation=cv2.INTER_LINEAR)
    return found


def _cosines(planes: Floats) -> Floats:
    """Spectrum of [...,S,S] by cosines: nothing jumps at an edge, as it would where a picture was continued by its other side."""
    found: Floats = scipy.fft.dctn(planes, axes=(-2, -1), norm="ortho")
    return found


def _back(spectrum: Floats, gains: Floats, rings: _Rings) -> Floats:
    """The planes [3,T,S,S] of a spectrum, with `gains` [3, rings]."""
    spectrum *= np.take(rings.spread(gains), rings.back, axis=-1).reshape(len(spectrum), 1, *spectrum.shape[-2:])
    found: Floats = scipy.fft.idctn(spectrum, axes=(-2, -1), norm="ortho", overwrite_x=True)
    return found


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


def _planes(clip: NDArray[np.generic]) -> Floats:
    """Brightness and two differences of colour [3,T,S,S] of an RGB clip [T,S,S,3]."""
    planes = np.empty((3, *clip.shape[:3]), np.float32)
    for moment, frame in enumerate(clip):
        cv2.split(cv2.transform(np.ascontiguousarray(frame, np.float32), TO_YCC.T), list(planes[:, moment]))  # into the planes
    return planes
