"""A person's head as pictures in cylinder coordinates: skin, brows, beard and hair as albedo, the relief as normals.

A texture has `width` columns over the angle theta in -THETA_MAX..THETA_MAX (0 faces forward) and `height` rows over Y in TOP..-TOP.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from media.synthetic.people import Person

THETA_MAX = 2.3
TOP = 1.25
Floats = NDArray[np.floating]


def single(values: ArrayLike) -> NDArray[np.float32]:
    """`values` as an array of float32: half the memory traffic of NumPy's default."""
    return np.asarray(values, np.float32)


@dataclass(frozen=True, slots=True)
class Head:
    """What the renderer needs of a head. albedo [h,w,3] 0..255, relief [h,w] head units, normals [h/2,w/2,3], gloss [h/2,w/2] 0..1."""

    person: Person
    pixels_per_unit: float
    albedo: Floats
    relief: Floats
    normals: Floats
    gloss: Floats
    profile_y: Floats
    profile_width: Floats
    profile_depth: Floats

    def column(self, x: float | Floats) -> float | Floats:
        """Texture column of the surface distance x from the middle of the face."""
        return (x / self.person.half_width / (2 * THETA_MAX) + 0.5) * self.albedo.shape[1] - 0.5

    def row(self, y: float | Floats) -> float | Floats:
        """Texture row of the height y."""
        return (TOP - y) / (2 * TOP) * self.albedo.shape[0] - 0.5


def profiles(person: Person) -> tuple[Floats, Floats, Floats]:
    """Heights [256], half-widths [256] and half-depths [256] of the skull with its hair."""
    y = np.linspace(-TOP, TOP, 256, dtype=np.float32)
    volume = 0.0 if person.hair_style == "shaved" else person.hair_volume * (1.5 if person.hair_style in ("curly", "beanie") else 1.0)
    up = np.clip(y / (1 + volume), 0, 1)
    down = np.clip(-y, 0, 1)
    top = np.sqrt(1 - up**2.3) * (1 + 0.35 * volume * np.clip(y, 0, 1))
    bottom = np.sqrt(np.clip(1 - down**person.jaw_power, 0, 1)) * (1 - person.jaw_taper * down**1.4)
    shape = np.where(y > 0, top, bottom).astype(np.float32)
    return y, np.maximum(person.half_width * shape, 1e-3), np.maximum(person.depth * np.where(y > 0, top, np.sqrt(bottom)), 1e-3).astype(np.float32)


class _Canvas:
    """Separable bells and soft steps on the texture grid: cheap, since each is an outer product of two curves."""

    def __init__(self, person: Person, width: int, height: int) -> None:
        self.x = ((np.arange(width) + 0.5) / width * 2 - 1).astype(np.float32) * THETA_MAX * person.half_width  # [w]
        self.y = TOP - ((np.arange(height) + 0.5) / height).astype(np.float32) * 2 * TOP  # [h]

    def bell(self, x: float, y: float, wide: float, high: float) -> Floats:
        return np.outer(np.exp(-(((self.y - y) / high) ** 2)), np.exp(-(((self.x - x) / wide) ** 2))).astype(np.float32)

    def pair(self, x: float, y: float, wide: float, high: float) -> Floats:
        both = np.exp(-(((self.x - x) / wide) ** 2)) + np.exp(-(((self.x + x) / wide) ** 2))
        return np.outer(np.exp(-(((self.y - y) / high) ** 2)), both).astype(np.float32)


def paint_head(person: Person, pixels_per_unit: float, seed: int) -> Head:
    """Paint the head of `person` at about `pixels_per_unit` texture pixels a head unit. Deterministic by seed."""
    rng = np.random.default_rng([seed, person.number, 102])
    width = int(2 * THETA_MAX * person.half_width * pixels_per_unit) // 2 * 2
    height = int(2 * TOP * pixels_per_unit) // 2 * 2
    canvas = _Canvas(person, width, height)
    relief = _relief(person, canvas)
    albedo = _skin(person, canvas, relief, rng)
    _brows(person, canvas, albedo, rng)
    _beard(person, canvas, albedo, rng)
    if person.glasses:
        _glasses(person, canvas, albedo)
    hair = _hair_mask(person, canvas, rng)
    strands = _hair_colour(person, hair.shape, rng)
    albedo += (strands - albedo) * hair[..., None]
    y, half_width, half_depth = profiles(person)
    half = (width // 2, height // 2)  # light is smooth: half the size will do
    gloss = 0.25 + 0.75 * (canvas.bell(0, -0.12, 0.07, 0.25) + canvas.bell(0, 0.36, 0.3, 0.14) + 0.6 * canvas.pair(0.36, -0.24, 0.13, 0.1))
    grooves = 0.012 * hair * (strands.mean(axis=2) / max(float(strands.mean()), 1.0) - 1)
    bare = relief * (1 - hair)
    return Head(
        person=person,
        pixels_per_unit=pixels_per_unit,
        albedo=np.clip(albedo, 4, 252).astype(np.float32),
        relief=bare.astype(np.float32),
        normals=_normals(person, cv2.resize(bare + grooves, half, interpolation=cv2.INTER_AREA), y, half_width, half_depth),
        gloss=cv2.resize(gloss * (1 - 0.85 * hair), half, interpolation=cv2.INTER_AREA).astype(np.float32),
        profile_y=y,
        profile_width=half_width,
        profile_depth=half_depth,
    )


def _relief(p: Person, c: _Canvas) -> Floats:
    """Heights above the smooth skull: nose, sockets, brow ridge, cheekbones, lips, chin."""
    tip = p.eye_y - p.nose_length
    bridge = np.exp(-((c.x / (0.055 + 0.25 * p.nose_width)) ** 2))
    ramp = np.clip((p.eye_y + 0.08 - c.y) / (p.nose_length + 0.02), 0, 1) ** 1.25 * (1 / (1 + np.exp(-(c.y - tip + 0.045) / 0.016)))
    relief = p.nose_height * np.outer(ramp, bridge)
    relief += 0.35 * p.nose_height * c.pair(p.nose_width * 0.68, tip + 0.01, 0.055, 0.05)
    relief -= 0.055 * c.pair(p.eye_spacing, p.eye_y + 0.015, 0.15, 0.10)
    relief += 0.035 * c.pair(p.eye_spacing * 0.95, p.eye_y + p.brow_y, 0.17, 0.06)
    relief += 0.045 * c.pair(0.40, p.eye_y - 0.24, 0.16, 0.12)
    relief += 0.030 * c.bell(0, p.mouth_y + p.lip_upper * 0.5, p.mouth_width * 0.8, 0.05)
    relief += 0.034 * c.bell(0, p.mouth_y - p.lip_lower * 0.7, p.mouth_width * 0.7, 0.05)
    relief -= 0.030 * c.bell(0, p.mouth_y - p.lip_lower - 0.075, 0.13, 0.035)
    relief += 0.055 * c.bell(0, -0.90, 0.16, 0.09)
    relief -= (0.012 + 0.022 * p.age) * c.pair(p.mouth_width + 0.035, p.mouth_y + 0.10, 0.028, 0.11)
    return relief.astype(np.float32)


def _noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> Floats:
    """Smooth noise with sigma 1 whose blobs are about `cell` pixels wide."""
    small = rng.standard_normal((max(2, int(shape[0] / cell)), max(2, int(shape[1] / cell))), dtype=np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _skin(p: Person, c: _Canvas, relief: Floats, rng: np.random.Generator) -> Floats:
    shape = relief.shape
    base = np.empty((*shape, 3), np.float32)
    base[:] = p.skin
    blotch = 0.018 * _noise(shape, 34, rng) + 0.014 * _noise(shape, 11, rng)
    pores = p.roughness * (0.030 * _noise(shape, 3.2, rng) + 0.016 * rng.standard_normal(shape, dtype=np.float32))
    base *= (1 + blotch + pores)[..., None]
    red = p.blush * (0.5 * c.pair(0.36, p.eye_y - 0.32, 0.15, 0.12) + 0.4 * c.bell(0, p.eye_y - p.nose_length, 0.1, 0.08) + 0.15 * _noise(shape, 20, rng))
    base *= 1 + red[..., None] * single([0.04, -0.09, -0.06])
    under_eye = c.pair(p.eye_spacing, p.eye_y - 0.10, 0.12, 0.035) * (0.05 + 0.10 * p.age) + 0.07 * c.pair(p.eye_spacing, p.eye_y + 0.075, 0.15, 0.05)
    base *= 1 - under_eye[..., None] * single([0.85, 1.0, 0.85])
    nostrils = c.pair(p.nose_width * 0.46, p.eye_y - p.nose_length - 0.032, 0.036, 0.016)
    base *= 1 - 0.62 * np.clip(nostrils, 0, 1)[..., None]
    wings = c.pair(p.nose_width * 0.98, p.eye_y - p.nose_length + 0.005, 0.016, 0.045)
    base *= 1 - 0.20 * wings[..., None]
    philtrum = c.bell(0, p.mouth_y + p.lip_upper + 0.045, 0.02, 0.04)
    base *= 1 - 0.06 * philtrum[..., None]
    for line in range(int(4 * p.age)):
        y = 0.36 + 0.075 * line + 0.01 * np.sin(c.x * 9 + line)
        crease = np.exp(-(((c.y[:, None] - y[None, :]) / 0.008) ** 2)) * np.exp(-((c.x / 0.34) ** 4))[None, :]
        base *= 1 - (0.09 * p.age * crease)[..., None]
    hollow = np.clip(cv2.GaussianBlur(relief, (0, 0), 0.07 * shape[0] / (2 * TOP)) - relief, 0, 0.1)
    base *= np.exp(-4.5 * hollow)[..., None]
    for _ in range(p.freckles):
        x, y = int(shape[1] * rng.uniform(0.36, 0.64)), int(shape[0] * rng.uniform(0.42, 0.80))
        cv2.circle(base, (x, y), int(rng.integers(1, 3)), tuple(v * 0.72 for v in p.skin), -1, cv2.LINE_AA)
    return base


def _brows(p: Person, c: _Canvas, albedo: Floats, rng: np.random.Generator) -> None:
    reach = np.abs(np.abs(c.x) - p.eye_spacing) / (p.eye_width * 1.22)
    outward = (np.abs(c.x) - p.eye_spacing) / (p.eye_width * 1.22)
    centre = p.eye_y + p.brow_y + p.brow_arch * (1 - (outward - 0.25) ** 2)
    thick = p.brow_thick * np.clip(1.15 - 0.75 * np.clip(outward, -1, 1) ** 2 * (outward > 0) - 0.2 * reach, 0.2, 1.2)
    away = np.abs(c.y[:, None] - centre[None, :]) / thick[None, :]
    mask = np.clip(1.35 - away, 0, 1) * np.clip(5.5 * (1 - reach), 0, 1)[None, :]
    mask = np.clip(mask * (0.86 + 0.22 * _noise(mask.shape, 2.2, rng)), 0, 0.93)
    albedo += (single(p.brow_colour) - albedo) * mask[..., None]


def _beard(p: Person, c: _Canvas, albedo: Floats, rng: np.random.Generator) -> None:
    if p.beard <= 0:
        return
    x, y = c.x[None, :], c.y[:, None]
    edge = p.mouth_y + 0.03 + 0.42 * np.clip(np.abs(x) / 0.62, 0, 1.4) ** 2.2
    area = 1 / (1 + np.exp(-(edge - y) / 0.03))
    moustache = c.bell(0, p.mouth_y + p.lip_upper + 0.05, p.mouth_width * 0.95, 0.055)
    mask = np.clip(np.maximum(area * (1 - c.bell(0, p.mouth_y - p.lip_lower - 0.03, 0.05, 0.03) * 0.5), 1.5 * moustache), 0, 1) * p.beard
    mask = np.clip(mask * (0.82 + 0.16 * _noise(mask.shape, 2.4, rng)), 0, 0.95) * (np.abs(x) < p.half_width * 1.45)
    albedo += (single(p.brow_colour) * 1.15 - albedo) * mask[..., None]


def _glasses(p: Person, c: _Canvas, albedo: Floats) -> None:
    side = np.abs(c.x)[None, :]
    radius = np.sqrt((np.abs(side - p.eye_spacing - 0.005) / (p.eye_width * 1.42)) ** 2.6 + (np.abs(c.y[:, None] - p.eye_y + 0.02) / 0.155) ** 2.6) ** (1 / 1.3)
    rim = np.exp(-(((radius - 1) / 0.11) ** 4))
    bridge = np.exp(-(((c.y[:, None] - p.eye_y - 0.035) / 0.014) ** 4)) * (side < p.eye_spacing - p.eye_width * 1.3)
    temple = np.exp(-(((c.y[:, None] - p.eye_y - 0.05) / 0.016) ** 4)) * (side > p.eye_spacing + p.eye_width * 1.4)
    frame = np.clip(rim + bridge + temple, 0, 1).astype(np.float32) * 0.92
    albedo += (single(p.second_colour) * 0.45 - albedo) * frame[..., None]


def _hair_mask(p: Person, c: _Canvas, rng: np.random.Generator) -> Floats:
    """Where hair (or a hat) covers the head, 0..1 [h,w]."""
    side = np.abs(c.x) / p.half_width  # theta
    wobble = cv2.resize(rng.standard_normal((1, 40), dtype=np.float32), (len(c.x), 1), interpolation=cv2.INTER_CUBIC)[0]
    line = np.full_like(c.x, p.hairline) - 0.10 * (side / 0.9) ** 2 * (side < 1.2)
    match p.hair_style:
        case "side_part":
            line = line - 0.12 * np.clip(np.sin(c.x * 2.2 + 0.6), -0.6, 1)
        case "fringe":
            line = np.where(side < 0.95, p.eye_y + p.brow_y + 0.10, line) + 0.012 * wobble
        case "beanie":
            line = np.full_like(c.x, 0.40)
        case _:
            line = line + 0.018 * wobble
    if p.hair_style != "beanie":
        strands = rng.standard_normal((1, max(2, len(c.x) // 3)), dtype=np.float32)
        line = line + 0.022 * cv2.resize(strands, (len(c.x), 1), interpolation=cv2.INTER_CUBIC)[0]
    sideburn = {"long": -1.3, "bun": 0.05, "curly": -0.25, "beanie": 0.1, "fringe": -0.3}.get(p.hair_style, 0.02)
    blend = 1 / (1 + np.exp(-(side - 1.12) / 0.045))
    line = line * (1 - blend) + sideburn * blend
    soft = 0.006 if p.hair_style == "beanie" else 0.022
    mask = 1 / (1 + np.exp(-np.clip((c.y[:, None] - line[None, :]) / soft, -30, 30)))
    return (mask * (0.30 if p.hair_style == "shaved" else 1.0)).astype(np.float32)


def _hair_colour(p: Person, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Strands: noise stretched along the hair, [h,w,3]."""
    tall = {"curly": 5.0, "beanie": 60.0}.get(p.hair_style, 26.0)
    fine = rng.standard_normal((max(2, int(shape[0] / tall)), max(2, int(shape[1] / (4.0 if p.hair_style == "curly" else 1.9)))), dtype=np.float32)
    strands = cv2.resize(fine, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    strength = {"beanie": 0.06, "shaved": 0.05, "curly": 0.20}.get(p.hair_style, 0.13)
    base = single(p.second_colour if p.hair_style == "beanie" else p.hair_colour)
    return base * np.clip(1 + strength * strands + 0.08 * _noise((shape[0], shape[1]), 30, rng), 0.4, 1.8)[..., None] + 3


def _normals(p: Person, relief: Floats, profile_y: Floats, half_width: Floats, half_depth: Floats) -> Floats:
    """Outward normals in the head's own axes (right, up, forward) [h,w,3], unit length."""
    height, width = relief.shape
    y = TOP - (np.arange(height, dtype=np.float32) + 0.5) / height * 2 * TOP
    theta = ((np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1) * THETA_MAX
    w, d = np.interp(y, profile_y, half_width), np.interp(y, profile_y, half_depth)
    slope = np.clip(np.gradient(w, y), -3, 3)
    base = np.empty((height, width, 3), np.float32)
    base[..., 0] = np.outer(d, np.sin(theta))
    base[..., 1] = -(slope * d)[:, None]
    base[..., 2] = np.outer(w, np.cos(theta))
    base /= np.linalg.norm(base, axis=2, keepdims=True)
    across = np.gradient(relief, axis=1) / (p.half_width * 2 * THETA_MAX / width)
    upward = -np.gradient(relief, axis=0) / (2 * TOP / height)
    cosine, sine = np.cos(theta)[None, :], np.sin(theta)[None, :]
    base[..., 0] -= across * cosine
    base[..., 2] += across * sine
    base[..., 1] -= upward
    return (base / np.linalg.norm(base, axis=2, keepdims=True)).astype(np.float32)
