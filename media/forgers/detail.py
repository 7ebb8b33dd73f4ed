"""Sharpness and shades: forged clips are as often sharper than the real one as softer, so that no detector can go by blur, colour or contrast alone."""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

from media.forgers.masks import Floats

SIGMA = 1.0  # what a blur of so many pixels takes away is detail
LEAST_GAIN, MOST_GAIN = 0.05, 3.0
COVERED = 0.02  # a pixel of which a forgery takes so much belongs to it: in the soft edge both pictures lose detail
AS_SHARP = 0.7  # so often a fake has exactly the detail of what it covers
SPREAD = 0.3  # else the logarithm of how much it has lies evenly within so much of 0
MARGIN = 8  # pixels, a multiple of what up-samplers enlarge by
TO_YCC = np.array([[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], np.float32)  # R, G, B -> Y, Cb, Cr (ITU-R BT.601)
TO_RGB = np.linalg.inv(TO_YCC)
RING, RINGS = 0.05, 16  # cycles a pixel from one ring of the spectrum to the next, and how many there are: up to a chessboard's 0.71
COARSE = (15, 15)  # pixels: the mean of so many has nothing to do with detail
FINENESS = 1 - np.exp(-0.5 * (2 * np.pi * SIGMA * RING * np.arange(RINGS, dtype=np.float32)) ** 2)  # how much of each ring is detail
ROUNDING = np.square(TO_YCC).sum(axis=0)[:, None] / 12  # variance that whole numbers for R, G and B bring into a channel; a forgery is rounded once more
ROUNDS, STEP = 4, 1.4  # a step is longer than what is missing, since what lies below a half-laid cover does not follow


def draw_sharpness(rng: np.random.Generator, as_sharp: float = AS_SHARP, spread: float = SPREAD) -> float:
    """How much detail a fake gets, as a part of what it covers: exactly 1 with the chance `as_sharp`, else as often more as less."""
    return 1.0 if rng.random() < as_sharp else float(np.exp(rng.uniform(-spread, spread)))


def compose(frames: NDArray[np.uint8], made: Floats, covers: Floats, sharpness: float, fill: bool = False) -> NDArray[np.uint8]:
    """`made` [T,S,S,3] laid over `frames` where `covers` [T,S,S] in 0..1 say, with the spectrum that was there, its fine detail times `sharpness`.

    The spectrum of the result is what counts: two pictures laid half over each other lose some of both. Brightness and the two differences of colour each
    keep what they had at every frequency, all directions taken together: cameras and codecs record colour at half the resolution, and who has more or
    less of one frequency than of the next is known for a copy as surely as by blur. One filter changes all frames of `made`; three of them decide it.
    Where it would have to raise a frequency more than MOST_GAIN times the rest comes from `frames` themselves, with `fill`: of a copy that was blurred
    nearly all is gone.
    """
    size, some = frames.shape[1], sorted({len(frames) * part // 6 for part in (1, 3, 5)})
    real, drawn = _planes(frames), _planes(made)
    fine = _fine(drawn)
    base = real + covers * (drawn - fine - real)
    waves = np.stack([_waves(fine), _waves(_fine(real))]) if fill else _waves(fine)[None]
    there = _window(covers[some])
    goal = _power(real[:, some], there) * (1 + (sharpness - 1) * FINENESS) ** 2 - ROUNDING * np.square(there).sum()
    gains = np.zeros((len(waves), *goal.shape), np.float32)
    gains[0] = 1.0
    for _ in range(ROUNDS):
        power = _power(base[:, some] + covers[some] * _filtered(waves[:, :, some], gains, size), there)
        gains = _corrected(gains, (np.maximum(goal, 0.0) / (power + 1e-3)) ** (STEP / 2))
    laid = base + covers * _filtered(waves, gains, size)
    return np.clip(np.rint(np.moveaxis(np.tensordot(TO_RGB.T, laid, 1), 0, -1)), 0, 255).astype(np.uint8)


def _corrected(gains: Floats, factors: Floats) -> Floats:
    """The gains [1 or 2,3,rings] of what is made and of what fills it up after a step by `factors` [3,rings]."""
    wanted = gains * factors
    stepped = np.clip(wanted, LEAST_GAIN, MOST_GAIN)
    if len(gains) > 1:
        missing = np.sqrt(np.maximum(0.0, 1 - np.square(MOST_GAIN / np.maximum(wanted[0], MOST_GAIN))))  # as if the two had nothing in common
        stepped[1] = np.minimum(1.0, np.where(gains[1] > 0, wanted[1], missing))
        stepped[0] = np.where(stepped[1] > LEAST_GAIN, MOST_GAIN, stepped[0])
    return stepped


def _planes(frames: NDArray[np.generic]) -> Floats:
    """Brightness, blue and red difference [3,T,S,S] of a clip [T,S,S,3]."""
    planes: Floats = (TO_YCC.T @ frames.reshape(-1, 3).T.astype(np.float32)).reshape(3, *frames.shape[:-1])
    return planes


def _fine(planes: Floats) -> Floats:
    """What a mean over COARSE takes away from pictures [3,T,S,S]: detail, and nothing of shades and colours."""
    return planes - np.stack([[cv2.blur(frame, COARSE) for frame in plane] for plane in planes])


def _waves(planes: Floats) -> NDArray[np.complex64]:
    """The transform of pictures [...,S,S] with their surroundings mirrored MARGIN wide, so that a filter brings nothing in from the opposite edge."""
    room = [(0, 0)] * (planes.ndim - 2) + [(MARGIN, MARGIN)] * 2
    found: NDArray[np.complex64] = rfft2(np.pad(planes, room, "symmetric"))
    return found


def _filtered(waves: NDArray[np.complex64], gains: Floats, size: int) -> Floats:
    """The sum [3,T,S,S] of what was transformed [parts,3,T,...], each frequency times its gain [parts,3,rings]."""
    shares = _shares(size + 2 * MARGIN)
    factors = (gains @ shares.reshape(RINGS, -1)).reshape(*gains.shape[:-1], 1, *shares.shape[1:])
    found: Floats = irfft2((waves * factors).sum(axis=0), (size + 2 * MARGIN,) * 2)
    return found[..., MARGIN : MARGIN + size, MARGIN : MARGIN + size]


def _window(covers: Floats) -> Floats:
    """Where [N,S,S] to look for the spectrum: where `covers` [N,S,S] are, fading out to their border and the picture's, since an edge has every frequency."""
    covered = (covers > COVERED).astype(np.float32)
    return np.square([cv2.blur(one, COARSE, borderType=cv2.BORDER_CONSTANT) for one in covered])


def _power(planes: Floats, there: Floats) -> Floats:
    """Mean power [3,rings] of the detail of a few frames [3,N,S,S] with weights `there` [N,S,S]."""
    waves, shares = rfft2(_fine(planes) * there), _shares(planes.shape[-1]).reshape(RINGS, -1)
    power: Floats = (waves.real**2 + waves.imag**2).sum(axis=1).reshape(3, -1) @ shares.T / shares.sum(axis=1)
    return power


@cache
def _shares(size: int) -> Floats:
    """How much of each frequency [size, size // 2 + 1] belongs to each ring [rings,...]: between the middles of two it is shared by distance."""
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    return np.maximum(0.0, 1 - np.abs(radius / RING - np.arange(RINGS)[:, None, None])).astype(np.float32)


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
