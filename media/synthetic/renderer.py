"""Renders a take: casts a ray a pixel onto the head's surface of revolution, looks its lit texture up, and lays it over body and background.

Camera axes are right, up, towards the camera, without perspective. The geometry is solved on every third pixel, since it
is smooth; only the silhouette and the texture need the full grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from media.synthetic.features import Features
from media.synthetic.motion import Motion
from media.synthetic.people import Person
from media.synthetic.scene import Light, draw_background, draw_body, draw_light, draw_strands, hair_behind
from media.synthetic.skin import THETA_MAX, TOP, Floats, Head, paint_head, single

JAW_DROP = 0.16  # how much longer the lower face grows with the mouth wide open
STEP = 3  # geometry is solved on every third pixel
OVAL_STEPS = 28  # corners of a face outline


@dataclass(frozen=True, slots=True)
class Take:
    """One recording: motion, light and framing. Lengths in pixels."""

    motion: Motion
    light: Light
    width: int
    height: int
    unit: float
    centre: tuple[float, float]
    background: Floats

    @property
    def frames(self) -> int:
        return len(self.motion.yaw)


def draw_take(rng: np.random.Generator, person: Person, motion: Motion, width: int, height: int) -> Take:
    """Light (exposed for `person`), framing and background for `motion`, in a picture of width x height pixels."""
    light = draw_light(rng, 0.3 * person.skin[0] + 0.59 * person.skin[1] + 0.11 * person.skin[2])
    unit = min(width, height) * rng.uniform(0.35, 0.415)
    centre = (width * (0.5 + rng.uniform(-0.04, 0.04)), height * rng.uniform(0.49, 0.53))
    return Take(motion, light, width, height, unit, centre, draw_background(rng, width, height))


class PersonRenderer:
    """Draws one person in one take. Not shared between threads."""

    def __init__(self, person: Person, take: Take, seed: int) -> None:
        self.take = take
        self.head: Head = paint_head(person, take.unit * 1.15, seed)
        self.features = Features(self.head)
        self.body, self.body_cover = draw_body(person, take.light, take.width, take.height, take.centre, take.unit)
        self.strands = draw_strands(person, take.light, take.width, take.height, take.unit)
        h = self.head
        self._table = np.stack([h.profile_width, h.profile_depth])

    def frames(self) -> Iterator[Floats]:
        """Whole pictures [height,width,3], RGB, 0..255, in order."""
        for index in range(self.take.frames):
            yield self.frame(index)

    def frame(self, index: int) -> Floats:
        """Picture `index` of the take, before the camera."""
        take, motion = self.take, self.take.motion
        scene = self.take.background.copy()
        place = self.place(index)
        behind = hair_behind(self.head.person, (take.height, take.width), place, float(motion.yaw[index]), take.unit)
        if behind is not None:
            _over(scene, self.strands, behind)
        shift = single([[1, 0, 0.75 * motion.shift_x[index] * take.unit], [0, 1, 0.6 * motion.shift_y[index] * take.unit]])
        size = (take.width, take.height)
        body = cv2.warpAffine(self.body, shift, size, borderMode=cv2.BORDER_REPLICATE)
        cover = cv2.warpAffine(self.body_cover, shift, size, borderMode=cv2.BORDER_REPLICATE)[..., None]
        _over(scene, body, cover)
        self._ears(scene, index, place)
        left, top, layer, alpha = self.head_layer(index)
        area = scene[top : top + layer.shape[0], left : left + layer.shape[1]]
        _over(area, layer, alpha)
        return scene

    def place(self, index: int) -> Floats:
        """The matrix [2,3] from upright head units to pixels of picture `index` (roll, zoom and shift; no yaw or pitch)."""
        motion, take = self.take.motion, self.take
        scale, roll = take.unit * float(motion.zoom[index]), float(motion.roll[index])
        x = take.centre[0] + float(motion.shift_x[index]) * take.unit
        y = take.centre[1] + float(motion.shift_y[index]) * take.unit
        cosine, sine = np.cos(roll) * scale, np.sin(roll) * scale
        return single([[cosine, -sine, x], [-sine, -cosine, y]])

    def project(self, index: int, points: Floats) -> Floats:
        """Pixels [N,2] of surface points [N,2] given as (surface distance x, height y) in head units."""
        person, motion = self.head.person, self.take.motion
        theta = points[:, 0] / person.half_width
        canonical = points[:, 1]
        width, depth = np.interp(canonical, self.head.profile_y, self._table[0]), np.interp(canonical, self.head.profile_y, self._table[1])
        rows = np.clip(np.round(np.asarray(self.head.row(canonical))), 0, self.head.relief.shape[0] - 1).astype(int)
        columns = np.clip(np.round(np.asarray(self.head.column(points[:, 0]))), 0, self.head.relief.shape[1] - 1).astype(int)
        lift = self.head.relief[rows, columns]
        x, z = (width + lift) * np.sin(theta), (depth + lift) * np.cos(theta)
        jaw = 1 + JAW_DROP * float(motion.mouth[index])
        y = np.where(canonical < person.mouth_y, person.mouth_y + (canonical - person.mouth_y) * jaw, canonical)
        yaw, pitch = float(motion.yaw[index]), float(motion.pitch[index])
        across, towards = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
        up = y * np.cos(pitch) - towards * np.sin(pitch)
        place = self.place(index)
        return (np.stack([across, up], 1) @ place[:, :2].T + place[:, 2]).astype(np.float32)

    def inner_face(self, index: int) -> Floats:
        """The outline [28,2] px of the inner face: from above the brows, outside the eyes, to below the lower lip."""
        p = self.head.person
        angle = np.linspace(0, 2 * np.pi, OVAL_STEPS, endpoint=False)
        top, bottom = p.eye_y + p.brow_y + 0.12, p.mouth_y - p.lip_lower - 0.13
        middle, high = (top + bottom) / 2, (top - bottom) / 2
        wide = p.eye_spacing + p.eye_width * 1.28
        shape = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.8 * wide * (1 - 0.16 * np.clip(-np.sin(angle), 0, 1))
        return self.project(index, np.stack([shape, middle + high * np.sin(angle)], 1).astype(np.float32))

    def face_oval(self, index: int) -> Floats:
        """The outline [28,2] px of the whole face, forehead to chin and cheek to cheek."""
        p = self.head.person
        angle = np.linspace(0, 2 * np.pi, OVAL_STEPS, endpoint=False)
        shape = np.cos(angle) * p.half_width * 1.15
        return self.project(index, np.stack([shape, -0.2 + 0.76 * np.sin(angle)], 1).astype(np.float32))

    def head_layer(self, index: int) -> tuple[int, int, Floats, Floats]:
        """Left and top px of the head's rectangle, its colour [h,w,3] and its coverage [h,w,1]."""
        take, motion = self.take, self.take.motion
        place = self.place(index)
        scale = take.unit * float(motion.zoom[index])
        left = max(0, int(place[0, 2] - 1.02 * scale)) // STEP * STEP
        top = max(0, int(place[1, 2] - 1.36 * scale)) // STEP * STEP
        right, bottom = min(take.width, int(place[0, 2] + 1.02 * scale)), min(take.height, int(place[1, 2] + 1.42 * scale))
        wide, high = (right - left) // STEP, (bottom - top) // STEP
        columns, rows, inside = self._cast(index, place, left, top, wide, high)
        size = (wide * STEP, high * STEP)
        texture = self._lit(index)
        columns, rows, inside = (cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR) for grid in (columns, rows, inside))
        colour = cv2.remap(texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return left, top, colour, np.clip(inside + 0.5, 0, 1)[..., None]

    def _cast(self, index: int, place: Floats, left: int, top: int, wide: int, high: int) -> tuple[Floats, Floats, Floats]:
        """Texture column and row, and signed distance to the silhouette in px, for every third pixel [high,wide]."""
        head, motion = self.head, self.take.motion
        person = head.person
        yaw, pitch = float(motion.yaw[index]), float(motion.pitch[index])
        jaw = 1 + JAW_DROP * float(motion.mouth[index])
        inverse = cv2.invertAffineTransform(place).astype(np.float32)
        px = left + np.arange(wide, dtype=np.float32) * STEP + (STEP - 1) / 2
        py = top + np.arange(high, dtype=np.float32) * STEP + (STEP - 1) / 2
        x = inverse[0, 0] * px[None, :] + inverse[0, 1] * py[:, None] + inverse[0, 2]
        y = inverse[1, 0] * px[None, :] + inverse[1, 1] * py[:, None] + inverse[1, 2]
        c, s, cp, sp = np.float32(np.cos(yaw)), np.float32(np.sin(yaw)), np.float32(np.cos(pitch)), np.float32(np.sin(pitch))
        towards = np.zeros_like(x)
        for _ in range(2):
            up = (y + towards * sp) / cp
            canonical = np.where(up < person.mouth_y, person.mouth_y + (up - person.mouth_y) / jaw, up)
            slot = np.clip((canonical + TOP) * (255 / (2 * TOP)), 0, 254.99)
            lower = slot.astype(np.int32)
            part = slot - lower
            w = self._table[0][lower] * (1 - part) + self._table[0][lower + 1] * part
            d = self._table[1][lower] * (1 - part) + self._table[1][lower + 1] * part
            w2, d2 = 1 / (w * w), 1 / (d * d)
            a = s * s * w2 + c * c * d2
            b = x * (s * c) * (d2 - w2)
            k = x * x * (c * c * w2 + s * s * d2) - 1
            towards = (np.sqrt(np.maximum(b * b - a * k, 0)) - b) / a
        reach = np.sqrt(c * c * w * w + s * s * d * d)
        inside = np.where(reach > 0.03, np.clip(1 - (x / reach) ** 2, -2, 1), np.float32(-2))  # no head beyond its poles
        slope_y, slope_x = np.gradient(inside)
        distance = inside / np.maximum(np.sqrt(slope_x**2 + slope_y**2), 1e-3) * STEP
        theta = np.arctan2((x * c - towards * s) / w, (x * s + towards * c) / d)
        # Relief: a raised point is seen away from where the smooth skull has it. Two corrections suffice below 25 degrees.
        turned, height = theta + np.float32(yaw), canonical
        for _ in range(2):
            lift = cv2.remap(head.relief, *self._grid(theta, height), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            theta = turned - yaw - np.clip(lift * np.sin(turned) / (w * np.maximum(np.cos(turned), 0.35)), -0.35, 0.35)
            height = canonical + lift * np.cos(turned) * sp
        columns, rows = self._grid(theta, height)
        return columns, rows, distance.astype(np.float32)

    def _grid(self, theta: Floats, y: Floats) -> tuple[Floats, Floats]:
        high, wide = self.head.relief.shape
        return ((theta * (wide / (2 * THETA_MAX)) + (wide - 1) / 2).astype(np.float32), (y * (-high / (2 * TOP)) + (high - 1) / 2).astype(np.float32))

    def _lit(self, index: int) -> Floats:
        """The texture of picture `index` under the lamp [h,w,3]."""
        motion, light, head = self.take.motion, self.take.light, self.head
        texture = head.albedo.copy()
        gaze = (float(motion.gaze_x[index]), float(motion.gaze_y[index]))
        self.features.draw(texture, float(motion.blink[index]), float(motion.mouth[index]), float(motion.rounding[index]), gaze)
        turn = _rotation(float(motion.yaw[index]), float(motion.pitch[index]))
        towards = (light.direction @ turn).astype(np.float32)  # the lamp in the head's axes
        halfway = light.direction + single([0, 0, 1])
        halfway = ((halfway / np.linalg.norm(halfway)) @ turn).astype(np.float32)
        facing = head.normals @ towards
        diffuse = np.clip((facing + 0.18) / 1.18, 0, 1)  # wrapped: skin scatters
        shade = light.ambient + diffuse[..., None] * light.colour
        shade[..., 0] += 0.05 * np.exp(-(((facing - 0.05) / 0.18) ** 2))  # red at the terminator
        peak = np.square(np.clip(head.normals @ halfway, 0, 1))
        peak *= np.square(np.square(np.square(peak)))  # to the 18th power
        shine = light.gloss * head.gloss * peak
        size = (texture.shape[1], texture.shape[0])
        texture *= cv2.resize(shade, size, interpolation=cv2.INTER_LINEAR)
        texture += cv2.resize(shine, size, interpolation=cv2.INTER_LINEAR)[..., None]
        return texture

    def _ears(self, scene: Floats, index: int, place: Floats) -> None:
        person, light, yaw = self.head.person, self.take.light, float(self.take.motion.yaw[index])
        if person.hair_style in ("long", "curly"):
            return
        for side in (-1, 1):
            theta = side * 1.52
            across = person.half_width * np.sin(theta) * np.cos(yaw) + person.depth * np.cos(theta) * np.sin(yaw)
            middle = single([across * 1.02, person.eye_y - 0.14]) @ place[:, :2].T + place[:, 2]
            axes = (0.095 * self.take.unit * (1 - 1.3 * side * yaw * 0.6), 0.20 * self.take.unit)
            bright = light.ambient + light.colour * (0.5 + 0.35 * side * light.direction[0])
            lit = single(person.skin) * bright
            for factor, colour in ((1.0, lit * single([0.97, 0.88, 0.86])), (0.58, lit * single([0.80, 0.66, 0.63]))):
                angle = np.rad2deg(-self.take.motion.roll[index]) + 8 * side
                cover = np.zeros(scene.shape[:2], np.uint8)
                centre = (int(middle[0] * 16), int(middle[1] * 16))
                cv2.ellipse(cover, centre, (max(16, int(axes[0] * factor * 16)), int(axes[1] * factor * 16)), float(angle), 0, 360, 255, -1, cv2.LINE_AA, 4)
                box = _box(middle, 0.3 * self.take.unit, scene.shape)
                _over(scene[box], colour, cover[box].astype(np.float32)[..., None] / 255)


def _box(middle: Floats, reach: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of a picture within `reach` px of a point."""
    return (
        slice(max(0, int(middle[1] - reach)), min(shape[0], max(0, int(middle[1] + reach)))),
        slice(max(0, int(middle[0] - reach)), min(shape[1], max(0, int(middle[0] + reach)))),
    )


def _rotation(yaw: float, pitch: float) -> Floats:
    """Head axes to camera axes [3,3]; positive yaw turns the face to the picture's right, positive pitch bows it."""
    c, s, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    about_y = single([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    about_x = single([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return about_x @ about_y


def _over(scene: Floats, colour: Floats, cover: Floats) -> None:
    """Lay `colour` over `scene` [h,w,3] in place where `cover` [h,w,1] says."""
    scene += (colour - scene) * cover
