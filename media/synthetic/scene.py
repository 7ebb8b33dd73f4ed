"""What is around the head: background, shoulders, neck, ears and the hair that hangs behind. Pictures are float32 [h,w,3] in 0..255."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from media.synthetic.people import Colour, Person
from media.synthetic.skin import Floats, single

SHIFT = 4


@dataclass(frozen=True, slots=True)
class Light:
    """One lamp. `direction` points to it in camera axes (right, up, towards the camera); colours multiply albedo."""

    direction: Floats
    colour: Floats
    ambient: Floats
    gloss: float


def draw_light(rng: np.random.Generator, skin_grey: float) -> Light:
    """A lamp somewhere in front, with its own colour temperature, exposed half-way for skin of this grey value."""
    azimuth, height = rng.uniform(-1.0, 1.0), rng.uniform(0.05, 0.75)
    direction = single([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)])
    warmth = rng.uniform(-0.07, 0.08)
    exposure = np.clip((150 / skin_grey) ** 0.5, 0.85, 1.6)
    strength, fill = rng.uniform(0.55, 0.80) * exposure, rng.uniform(0.36, 0.52) * exposure
    return Light(
        direction,
        single([1 + warmth, 1, 1 - warmth]) * strength,
        single([1 - warmth / 2, 1, 1 + warmth / 2]) * fill,
        float(rng.uniform(6, 26)),
    )


def draw_background(rng: np.random.Generator, width: int, height: int) -> Floats:
    """A wall, shelves, a window or a street out of focus."""
    base = single(rng.uniform(50, 215, 3) * 0.35 + rng.uniform(50, 205) * 0.65)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    picture = base * (1 + rng.uniform(-0.22, 0.22) * x + rng.uniform(-0.2, 0.2) * y) * np.ones((height, width, 1), np.float32)
    kind = int(rng.integers(5))
    blur = rng.uniform(1.0, 3.0) * width / 256
    if kind == 1:  # shelves
        for top in np.arange(-0.1, 1.0, rng.uniform(0.24, 0.34)):
            left = -0.05
            while left < 1.0:
                wide, high = rng.uniform(0.02, 0.06), rng.uniform(0.14, 0.22)
                corner = (int(left * width), int((top + 0.24 - high) * height))
                cv2.rectangle(picture, corner, (int((left + wide) * width) - 1, int((top + 0.24) * height)), _tuple(_muted(rng, 30, 190)), -1)
                left += wide + (rng.uniform(0.05, 0.2) if rng.random() < 0.15 else 0.004)
    elif kind == 2:  # window
        left, top = int(rng.uniform(-0.1, 0.6) * width), int(rng.uniform(-0.2, 0.15) * height)
        right, bottom = left + int(0.45 * width), top + int(0.7 * height)
        cv2.rectangle(picture, (left, top), (right, bottom), _tuple(rng.uniform(200, 250, 3)), -1)
        cv2.line(picture, ((left + right) // 2, top), ((left + right) // 2, bottom), _tuple(base * 0.8), max(2, width // 50))
        blur *= 1.5
    elif kind == 3:  # street or garden
        small = (rng.uniform(40, 200, (7, 9, 1)) * rng.uniform(0.75, 1.15, 3) + rng.normal(0, 14, (7, 9, 3))).astype(np.float32)
        picture = 0.4 * picture + 0.6 * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(int(rng.integers(4, 14))):
            centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
            cv2.circle(picture, centre, int(rng.uniform(0.02, 0.06) * width), _tuple(_muted(rng, 90, 255)), -1, cv2.LINE_AA)
    elif kind == 4:  # a picture on a wall
        for _ in range(2):
            left, top = int(rng.uniform(-0.1, 0.8) * width), int(rng.uniform(0.0, 0.4) * height)
            size = (int(rng.uniform(0.15, 0.3) * width), int(rng.uniform(0.15, 0.3) * height))
            cv2.rectangle(picture, (left, top), (left + size[0], top + size[1]), _tuple(base * 0.35), -1)
            cv2.rectangle(picture, (left + 6, top + 6), (left + size[0] - 6, top + size[1] - 6), _tuple(_muted(rng, 60, 230)), -1)
        blur *= 0.7
    picture = cv2.GaussianBlur(picture, (0, 0), blur)
    return np.clip(picture, 2, 253).astype(np.float32)


def draw_body(person: Person, light: Light, width: int, height: int, centre: tuple[float, float], unit: float) -> tuple[Floats, Floats]:
    """Neck, shoulders and clothes: colour [h,w,3] and coverage [h,w,1]; the head's middle is at `centre`, `unit` pixels a head unit."""
    colour, cover = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.uint8)
    brightness = light.ambient + light.colour * 0.62
    cloth, skin = single(person.clothes_colour) * brightness, single(person.skin) * brightness * 0.86

    def polygon(points: list[tuple[float, float]]) -> list[NDArray[np.int32]]:
        pixels = [(centre[0] + x * unit, centre[1] - y * unit) for x, y in points]
        return [np.round(single(pixels) * (1 << SHIFT)).astype(np.int32)]

    neck = person.half_width * 0.66
    sides = [(-neck, -0.5), (-neck * 0.96, -1.0), (-neck * 1.05, -1.2), (-neck * 1.5, -1.36)]
    shoulder = [(-1.15, -1.52), (-1.55, -1.80), (-1.75, -2.4), (-1.9, -5.0)]
    left = sides + shoulder
    whole = polygon(left + [(-x, y) for x, y in reversed(left)])
    cv2.fillPoly(cover, whole, 255, cv2.LINE_AA, SHIFT)
    colour[:] = cloth
    collar = {"round": -1.46, "v_neck": -1.85, "collar": -1.70, "hood": -1.34}[person.clothes]
    opening = [(-neck * 1.32, -1.30), (-neck * 0.8, (collar - 1.30) / 2 - 0.06), (0.0, collar)]
    if person.clothes == "v_neck":
        opening = [(-neck * 1.25, -1.28), (0.0, collar)]
    edge = [*opening, *[(-x, y) for x, y in reversed(opening[:-1])]]
    shape = np.zeros((height, width), np.uint8)
    cv2.fillPoly(shape, polygon([(-neck, -0.4), *edge, (neck, -0.4)]), 255, cv2.LINE_AA, SHIFT)
    if person.clothes in ("collar", "hood"):
        cv2.polylines(colour, polygon(edge), False, _tuple(single(person.second_colour) * brightness), int(0.17 * unit), cv2.LINE_AA, SHIFT)
    else:
        cv2.polylines(colour, polygon(edge), False, _tuple(cloth * 0.72), max(2, int(0.07 * unit)), cv2.LINE_AA, SHIFT)
    if person.number % 3 == 0:
        down = (np.arange(height) - centre[1])[:, None, None] / unit
        stripes = (np.sin(down * 26) > 0.35) & (down > 0.06 - collar)
        colour += (single(person.second_colour) * brightness - colour) * (0.55 * stripes)
    part = cv2.GaussianBlur(shape, (0, 0), 0.8).astype(np.float32)[..., None] / 255
    x = (np.arange(width, dtype=np.float32) - centre[0]) / unit
    y = (centre[1] - np.arange(height, dtype=np.float32)) / unit
    tone = 1 - 0.42 * np.exp(-(((y + 0.98) / 0.24) ** 2))[:, None] * np.exp(-((x / 0.5) ** 4))[None, :]  # the chin's shadow
    tone = tone * (1 + 0.30 * light.direction[0] * np.clip(x / neck, -1, 1))[None, :]
    colour += (skin * tone[..., None] - colour) * part
    cloth_light = (1 + 0.20 * light.direction[0] * np.clip(x / 1.4, -1, 1))[None, :, None] * (1 + 0.08 * np.sin(x * 7 + 2 * y[:, None]))[..., None]
    colour = np.where(part > 0.5, colour, colour * cloth_light)
    return np.clip(colour, 2, 252).astype(np.float32), (cover.astype(np.float32) / 255)[..., None]


def draw_strands(person: Person, light: Light, width: int, height: int, unit: float) -> Floats:
    """The hair behind the head as a picture of strands [height,width,3]."""
    rng = np.random.default_rng([person.number, 105])
    tall, fine = (10, 5) if person.hair_style == "curly" else (90, 3)
    noise = rng.standard_normal((max(2, height // tall), max(2, width // fine)), dtype=np.float32)
    strands = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.clip(single(person.hair_colour) * (light.ambient + light.colour * 0.4) * (1 + 0.13 * strands) + 2, 2, 252)


def hair_behind(person: Person, shape: tuple[int, int], place: Floats, yaw: float, unit: float) -> Floats | None:
    """Where long hair, a bun or curls show behind the head [h,w,1], or None. `place` [2,3] maps head units to pixels."""
    wide = person.half_width
    if person.hair_style == "long":
        half = [(0.0, 1.08), (wide * 0.9, 1.02), (wide * 1.26, 0.35), (wide * 1.22, -0.3), (wide * 1.36, -1.0), (wide * 1.25, -1.75), (wide * 0.6, -1.75)]
    elif person.hair_style == "bun":
        half = [(0.0, 1.50), (0.34, 1.50), (0.36, 1.12), (0.12, 0.95)]
    elif person.hair_style == "curly":
        angle = np.linspace(np.pi / 2, -0.6, 22)
        half = [((wide + 0.22 + 0.045 * np.cos(13 * a)) * np.cos(a), 0.25 + (1.06 + 0.045 * np.sin(15 * a)) * np.sin(a)) for a in angle]
    else:
        return None
    points = single(half + [(-x, y) for x, y in reversed(half)]) - single([0.10 * np.sin(yaw), 0])
    for _ in range(3):  # Chaikin: cut the corners
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1).reshape(-1, 2)
    pixels = points @ place[:, :2].T + place[:, 2]
    cover = np.zeros(shape, np.uint8)
    cv2.fillPoly(cover, [np.round(pixels * (1 << SHIFT)).astype(np.int32)], 255, cv2.LINE_AA, SHIFT)
    cover = cv2.GaussianBlur(cover, (0, 0), max(0.6, 0.012 * unit))
    return (cover.astype(np.float32) / 255)[..., None]


def _muted(rng: np.random.Generator, low: float, high: float) -> Floats:
    """A random colour half-way to grey, as rooms have them."""
    return single(0.5 * rng.uniform(low, high, 3) + 0.5 * rng.uniform(low, high))


def _tuple(colour: Floats | Colour) -> tuple[float, float, float]:
    return (float(colour[0]), float(colour[1]), float(colour[2]))
