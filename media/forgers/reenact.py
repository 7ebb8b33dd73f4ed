"""Reenactment by warping: a face is made to move, speak and blink by bending pictures of it, as talking-portrait generators do.

Either one still frame is driven through the whole clip (its texture sticks to the mesh and its grain stands still, whatever
the camera did; a single frame is driven from another moment where one is given), or each frame keeps its own picture and only
mouth and eyes are driven anew. Where a mouth opens that was closed, its inside is painted: no warp can find what was never seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from media.forgers.detail import compose, draw_sharpness
from media.forgers.masks import HULLS, Floats, cover, hull_mask, steady
from media.forgers.warp import CONTROL, bend
from media.landmarks import INNER_LIPS

UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)
LOWER_LIDS = (7, 163, 144, 145, 153, 154, 155, 249, 390, 373, 374, 380, 381, 382)
DRIFT = (0.006, 0.05)  # of the surroundings from frame to frame, in sides of the crop: a portrait then moves as much as a video does
PORTRAIT_GRAIN = 0.6  # of the camera's, at least: without any a driven still hardly differs from frame to frame
FLOW_PX, STRIP_PX = 64, 4  # of a side, at which the motion of the surroundings is looked at; how far they may go from frame to frame
MOST_DRIFT, LEAST_AROUND = 0.2, 0.1  # of a side; of a strip, that has to lie beside the face
FOREHEAD, CHIN, LIP_TOP, LIP_BOTTOM = 10, 152, 13, 14
RIM = np.array([(x, y) for x in (0.0, 0.33, 0.67, 1.0) for y in (0.0, 0.33, 0.67, 1.0) if x in (0.0, 1.0) or y in (0.0, 1.0)], np.float32)

# how each side is turned to be the upper one, and what that does to a way (x, y) there: top, bottom, left, right
_SIDES: tuple[tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], tuple[int, int]], ...] = (
    (lambda picture: picture, (1, 1)),
    (lambda picture: picture[::-1], (1, -1)),
    (lambda picture: picture.T, (1, 1)),
    (lambda picture: picture.T[::-1], (1, -1)),
)


@dataclass(frozen=True, slots=True)
class _Draw:
    """One clip's parameters. Lengths in units of the face's height, rates in cycles a clip."""

    still: bool
    whole: bool
    opening: float
    syllables: float
    phase: float
    blink: float
    blink_at: float
    sway: Floats
    softness: float
    blur: float
    grain: float
    teeth: float
    kind: str
    sharpness: float
    moment: float  # of the clip, that a single frame shows: the height of the blink would be a mark of single frames


def _draw(rng: np.random.Generator) -> _Draw:
    still = bool(rng.random() < 0.6)
    return _Draw(
        still=still,
        whole=bool(still and rng.random() < 0.7),
        opening=float(rng.uniform(0.01, 0.05)),
        syllables=float(rng.uniform(0.4, 1.6)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        blink=float(rng.uniform(0.5, 1.0)) if rng.random() < 0.6 else 0.0,
        blink_at=float(rng.uniform(0.1, 0.9)),
        sway=rng.normal(0, 0.004, (2, 2)).astype(np.float32),
        softness=float(rng.uniform(0.01, 0.03)),
        blur=float(rng.uniform(0.0, 0.7)),
        grain=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.5 else 0.0,
        teeth=float(rng.uniform(0.3, 1.0)),
        kind="lower" if rng.random() < 0.5 else "whole",
        moment=float(rng.random()),
        sharpness=draw_sharpness(rng),
    )


def reenact(
    frames: NDArray[np.uint8],
    landmarks: NDArray[np.floating],
    rng: np.random.Generator,
    donor: tuple[NDArray[np.uint8], NDArray[np.floating]] | None = None,
    *,
    portrait: bool = False,
    driven: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """The clip reenacted, and the landmarks it was driven to. frames [T,S,S,3] uint8 RGB, landmarks [T,468,2] in 0..1. `donor`, where given, is the same clip
    at other moments: the still is taken from it, as from the clip itself else.

    Seven in ten of a still's clips, and each `portrait`, change the whole picture, since a generator draws the surroundings too; the others only the
    face. Seven in ten end with as much fine detail as they came with. Where the whole picture changes its surroundings move as the clip's do: a crop
    follows its head, and what is round it drifts by. `driven`: `landmarks` already say how the face shall move, and no speech, blink or
    sway of its own is added; such a clip does not move, and has a drift of its own.
    """
    size, draw, own = frames.shape[1], _draw(rng), steady(landmarks)
    if portrait:
        draw = replace(draw, still=True, whole=True, grain=max(draw.grain, PORTRAIT_GRAIN))
    if driven:
        draw, drift = replace(draw, opening=0.0, blink=0.0, sway=np.zeros_like(draw.sway)), _drift(rng, len(frames))
    else:
        drift = _drift_of(frames, own) if draw.whole else np.zeros((len(frames), 1, 2), np.float32)
    goal = _driven(own, draw)
    stills, meshes = (donor[0], steady(donor[1])) if donor is not None else (frames, own)
    chosen = int(rng.integers(len(stills)))
    grain = _grain(stills[chosen]) * draw.grain
    grained = _grained(stills[chosen]) if grain > 0 else None
    faces = []
    for index, frame in enumerate(frames):
        picture, mesh = (stills[chosen], meshes[chosen]) if draw.still else (frame, own[index])
        face = _drive(picture, mesh, goal[index], draw, size, drift[index])
        faces.append(face + _noise(rng, size, grain) * grained if grained is not None else face)
    covers = cover(goal, size, () if draw.whole else HULLS[draw.kind], draw.softness, reach=own)
    return compose(frames, np.stack(faces), covers, draw.sharpness), goal.astype(landmarks.dtype)


def _driven(own: Floats, draw: _Draw) -> Floats:
    """The mesh [T,468,2] with speech, a blink and, on the whole picture, a sway of the head added to its own motion."""
    goal = own.copy()
    times = np.linspace(0, 1, len(own), endpoint=False) if len(own) > 1 else np.array([draw.moment])
    for index, at in enumerate(times):
        points = goal[index]
        axis = points[CHIN] - points[FOREHEAD]
        height = float(np.linalg.norm(axis)) + 1e-6
        down, side = axis / height, np.array([axis[1], -axis[0]]) / height
        middle = 0.5 * (points[LIP_TOP] + points[LIP_BOTTOM])
        below, across = (points - middle) @ down / height, (points - middle) @ side / height
        jaw = np.clip(below / 0.03, 0, 1) * np.exp(-((across / 0.28) ** 2))
        said = draw.opening * (0.5 + 0.5 * np.sin(2 * np.pi * draw.syllables * at + draw.phase))
        points += (jaw * said * height)[:, None] * down
        close = draw.blink * np.exp(-(((at - draw.blink_at) / 0.12) ** 2))
        upper, lower = list(UPPER_LIDS), list(LOWER_LIDS)
        points[upper] += 0.9 * close * (points[lower] - points[upper])
        if draw.whole:
            points += height * (draw.sway[0] * np.sin(2 * np.pi * at) + draw.sway[1] * (np.cos(2 * np.pi * at) - 1))
    return goal


def _drift(rng: np.random.Generator, count: int) -> Floats:
    """A smooth path [count,1,2] of the surroundings, in sides of the crop, from 0."""
    steps = rng.normal(0, np.exp(rng.uniform(*np.log(DRIFT))), (count + 2, 2))
    path: Floats = np.cumsum(np.stack([np.convolve(column, (0.25, 0.5, 0.25), "valid") for column in steps.T], axis=1), axis=0)
    return (path - path[0]).astype(np.float32)[:, None]


def _drift_of(frames: NDArray[np.uint8], points: Floats) -> Floats:
    """Where the points of RIM go in a clip [T,S,S,3] with meshes [T,468,2]: [T,points,2] in sides of the crop about the middle of each path.

    They go as the strips along the crop's four sides do, less the face in them: each is looked for in the next frame, up to STRIP_PX away (block
    matching). A point in a corner goes as its two strips in the mean; a strip that shows the face alone goes as the others.
    """
    found = np.zeros((len(frames), len(RIM), 2), np.float32)
    if len(frames) < 2:
        return found
    small = [cv2.cvtColor(cv2.resize(frame, (FLOW_PX, FLOW_PX), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY) for frame in frames]
    around = [(hull_mask(mesh, FLOW_PX, 0.03) == 0).astype(np.uint8) for mesh in points]
    on_sides = np.stack([RIM[:, axis] == end for axis in (1, 0) for end in (0.0, 1.0)], axis=1).astype(np.float32)  # [points, top bottom left right]
    for moment in range(1, len(frames)):
        steps = np.full((4, 2), np.nan, np.float32)
        for side, (turn, sign) in enumerate(_SIDES):
            steps[side] = np.multiply(_step(*(np.ascontiguousarray(turn(one)) for one in (small[moment - 1], small[moment], around[moment - 1]))), sign)
        steps[2:] = steps[2:, ::-1]
        if (known := np.isfinite(steps[:, 0])).any():
            steps[~known] = steps[known].mean(axis=0)
            found[moment] = on_sides @ steps / on_sides.sum(axis=1, keepdims=True) / FLOW_PX
        found[moment] += found[moment - 1]
    return steady(np.clip(found - np.median(found, axis=0), -MOST_DRIFT, MOST_DRIFT))


def _step(before: NDArray[np.uint8], after: NDArray[np.uint8], around: NDArray[np.uint8]) -> tuple[float, float]:
    """How far in pixels (x, y) the strip along the upper edge of a picture went to the next, by the pixels `around` the face; NaN where too few are."""
    rows, columns = slice(STRIP_PX, 3 * STRIP_PX), slice(STRIP_PX, -STRIP_PX)
    strip, mask = before[rows, columns], around[rows, columns]
    if mask.mean() < LEAST_AROUND:
        return np.nan, np.nan
    cost = cv2.matchTemplate(after[: 4 * STRIP_PX].astype(np.float32), strip.astype(np.float32), cv2.TM_SQDIFF, mask=mask.astype(np.float32)) / mask.sum()
    cost = cost + 0.5 * np.hypot(*np.mgrid[-STRIP_PX : STRIP_PX + 1, -STRIP_PX : STRIP_PX + 1])  # where nothing tells, it stayed
    y, x = np.unravel_index(int(cost.argmin()), cost.shape)
    return float(x) + _valley(cost[y, max(0, x - 1) : x + 2]) - STRIP_PX, float(y) + _valley(cost[max(0, y - 1) : y + 2, x]) - STRIP_PX


def _valley(three: NDArray[np.floating]) -> float:
    """Where between -0.5 and 0.5 a parabola through three neighbours is lowest; 0 at the end of a row."""
    if len(three) < 3 or (bent := three[0] - 2 * three[1] + three[2]) <= 1e-6:
        return 0.0
    return float(np.clip(0.5 * (three[0] - three[2]) / bent, -0.5, 0.5))


def _drive(picture: NDArray[np.uint8], own: Floats, goal: Floats, draw: _Draw, size: int, drift: Floats) -> Floats:
    """`picture` bent from mesh `own` to mesh `goal` [468,2], its border moved by `drift` [1 or points of RIM, 2]; float [S,S,3].

    The inside of a newly opened mouth is painted.
    """
    maps = bend(np.concatenate([goal[list(CONTROL)], RIM + drift]), np.concatenate([own[list(CONTROL)], RIM]), size)
    face: Floats = cv2.remap(picture, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)
    opened = lip_gap(goal) - lip_gap(own)
    if opened > 0.012:
        face = _paint_mouth(face, goal, draw, size, strength=min(1.0, opened / 0.03))
    if draw.blur > 0.25:
        face = cv2.GaussianBlur(face, (0, 0), draw.blur * size / 128)
    return face


def lip_gap(points: Floats) -> float:
    """How far the lips stand apart, in units of the face's height."""
    return float(np.linalg.norm(points[LIP_BOTTOM] - points[LIP_TOP]) / (np.linalg.norm(points[CHIN] - points[FOREHEAD]) + 1e-6))


def _paint_mouth(face: Floats, goal: Floats, draw: _Draw, size: int, strength: float) -> Floats:
    """A dark cavity with a row of teeth above, in the light of the face around it."""
    inside = goal[INNER_LIPS]
    mask = cv2.GaussianBlur(hull_mask(inside, size).astype(np.float32) / 255, (0, 0), max(0.6, 0.008 * size)) * strength
    light = float(np.percentile(face, 80)) / 255
    cavity = np.array([70.0, 28.0, 28.0], np.float32) * light
    middle = (inside.mean(axis=0) * 0.6 + goal[LIP_TOP] * 0.4) * size
    wide, high = (max(2.0, float(np.ptp(inside[:, axis])) * size * part) for axis, part in ((0, 0.72), (1, 0.44)))
    teeth = np.zeros((size, size), np.float32)
    cv2.ellipse(teeth, ((float(middle[0]), float(middle[1])), (wide, high), 0.0), 1.0, -1)
    teeth = cv2.GaussianBlur(teeth, (0, 0), max(0.6, 0.008 * size)) * draw.teeth
    inner = cavity + (np.array([215.0, 205.0, 190.0], np.float32) * light - cavity) * teeth[..., None]
    painted: Floats = face + (inner - face) * mask[..., None]
    return painted


def _noise(rng: np.random.Generator, size: int, spread: float) -> Floats:
    """Grain [S,S,1] of this spread, the same in all colours and a little soft, as what is left of a camera's after coding; white chroma no camera leaves."""
    soft = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 0.7)
    noise: Floats = (soft * (spread / float(soft.std())))[..., None]
    return noise


def _grained(picture: NDArray[np.uint8]) -> Floats:
    """How much of the grain each pixel gets [S,S,1], 1 in the mean: codecs leave it where there is detail, and none in flat places."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = cv2.GaussianBlur(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0)), (0, 0), 3.0)
    share: Floats = np.clip(detail / (float(detail.mean()) + 1e-6), 0.0, 2.0)[..., None]
    return share / (float(share.mean()) + 1e-6)


def _grain(picture: NDArray[np.uint8]) -> float:
    """The camera's noise in 8-bit steps, from the median absolute Laplacian (after Immerkaer 1996)."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(cv2.filter2D(grey, -1, kernel))) / 0.6745 / 6.0)
