"""Eyes and mouth, redrawn on the head's texture for every blink and syllable. Drawn twice too large, then shrunk, and remembered."""

import cv2
import numpy as np

from media.synthetic.skin import Floats, Head, single

OVERSAMPLE = 2
SHIFT = 4  # cv2 polygon points carry four bits behind the point
LEVELS = 10
Window = tuple[slice, slice]


class Features:
    """Draws onto copies of a head's albedo. One instance a clip; not shared between threads."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._patches: dict[tuple[object, ...], tuple[Floats, Floats]] = {}

    def draw(self, texture: Floats, blink: float, mouth: float, rounding: float, gaze: tuple[float, float]) -> None:
        """Paint both eyes and the mouth onto `texture` [h,w,3] in place. blink and mouth run 0..1 (closed, wide open)."""
        lids, lips, shape = round(blink * LEVELS), round(mouth * LEVELS * 2), round(rounding * 4)
        looks = (round(gaze[0] * 6), round(gaze[1] * 6))
        for side in (-1, 1):
            self._stamp(texture, ("eye", side, lids, looks), lambda side=side: self._eye(side, lids / LEVELS, looks[0] / 6, looks[1] / 6))
        self._stamp(texture, ("mouth", lips, shape), lambda: self._mouth(lips / LEVELS / 2, shape / 4))

    def _stamp(self, texture: Floats, key: tuple[object, ...], paint: object) -> None:
        if key not in self._patches:
            self._patches[key] = paint()  # type: ignore[operator]
        colour, corner = self._patches[key]
        left, top = int(corner[0]), int(corner[1])
        height, width = colour.shape[:2]
        area = texture[top : top + height, left : left + width]
        np.multiply(area, 1 - colour[..., 3:], out=area)
        area += colour[..., :3]

    def _canvas(self, x: float, y: float, wide: float, up: float, down: float) -> "_Patch":
        return _Patch(self.head, x, y, wide, up, down)

    def _eye(self, side: int, blink: float, look_x: float, look_y: float) -> tuple[Floats, Floats]:
        p = self.head.person
        patch = self._canvas(side * p.eye_spacing, p.eye_y, p.eye_width * 1.5, 0.16, 0.12)
        t = np.linspace(-1, 1, 25, dtype=np.float32)
        outward = t * side
        tilt = p.eye_tilt * outward
        upper_open = p.eye_open * (1 - np.abs(t) ** 2.2) ** 0.9 * (1 + 0.12 * -outward) + tilt
        lower = -0.55 * p.eye_open * (1 - np.abs(t) ** 2.4) + tilt
        upper = upper_open + (lower + 0.006 - upper_open) * blink
        x = t * p.eye_width
        almond = np.stack([np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]])], 1)
        crease = p.eye_open * 0.42 + upper_open * 1.06
        lid = np.stack([np.concatenate([x * 1.03, x[::-1]]), np.concatenate([crease, upper[::-1]])], 1)
        skin = single(p.skin)
        patch.fill(lid, skin * single([0.90, 0.83, 0.82]), soft=1.6)
        patch.line(np.stack([x * 1.04, crease], 1), skin * 0.66, 0.008)
        if blink < 0.93:
            mask = patch.mask(almond)
            patch.fill(almond, single([232, 226, 220]))
            iris_x, iris_y, radius = look_x * 0.035, 0.18 * p.eye_open + look_y * 0.016, p.eye_open * 0.93
            iris = single(p.eye_colour)
            for size, colour in ((1.0, iris * 0.45), (0.88, iris), (0.66, np.minimum(iris * 1.25, 250)), (0.42, single([14, 12, 12]))):
                patch.disc(iris_x, iris_y, radius * size, colour, mask)
            patch.disc(iris_x - 0.022, iris_y + 0.026, radius * 0.22, single([252, 252, 250]), mask)
            shadow = np.stack([np.concatenate([x, x[::-1]]), np.concatenate([upper, upper[::-1] - 0.022])], 1)
            patch.fill(shadow, single([60, 46, 42]), soft=1.4, strength=0.45, inside=mask)
            patch.disc(-side * p.eye_width * 0.93, -0.004, 0.018, single([205, 140, 130]), mask)
            patch.line(np.stack([x, lower], 1), skin * single([0.74, 0.56, 0.54]), 0.007)
        lash = single(p.brow_colour) * 0.4 + 6
        patch.line(np.stack([x, upper], 1), lash, 0.017)
        return patch.finish()

    def _mouth(self, opening: float, rounding: float) -> tuple[Floats, Floats]:
        p = self.head.person
        half = p.mouth_width * (1 - 0.24 * rounding)
        patch = self._canvas(0.0, p.mouth_y, p.mouth_width * 1.25, 0.14, 0.36)
        t = np.linspace(-1, 1, 33, dtype=np.float32)
        x = t * half
        arch = np.clip(1 - np.abs(t) ** 2.3, 0, 1)
        corner = p.smile * t**2
        gap = 0.20 * opening
        bow = 1 - 0.32 * np.exp(-((t / 0.17) ** 2)) + 0.10 * np.exp(-(((np.abs(t) - 0.28) / 0.17) ** 2))
        outer_up = corner + 0.30 * gap * arch + p.lip_upper * (1 + 0.2 * rounding) * arch * bow
        inner_up = corner + 0.22 * gap * arch - 0.004
        inner_low = corner - 0.78 * gap * arch - 0.006
        outer_low = corner - 0.86 * gap * arch - p.lip_lower * (1 + 0.15 * rounding) * arch**0.85
        lip = single(p.lip_colour)

        def between(upper: Floats, lower: Floats) -> Floats:
            return np.stack([np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]])], 1)

        patch.fill(between(outer_up, inner_low), lip * 0.88, soft=1.3)
        patch.fill(between(inner_up, outer_low), lip, soft=1.3)
        if opening > 0.04:
            cavity = between(inner_up, inner_low)
            mask = patch.mask(cavity)
            patch.fill(cavity, single([52, 18, 20]))
            teeth = between(inner_up, inner_up - min(0.055, 0.5 * gap + 0.012) * arch)
            patch.fill(teeth, single([226, 218, 204]), soft=0.7, inside=mask)
            tongue = between(inner_low + 0.3 * gap * arch, inner_low)
            patch.fill(tongue, single([158, 72, 74]), soft=1.6, strength=0.8, inside=mask)
        patch.line(np.stack([x, inner_up], 1), lip * 0.45, 0.011)
        shine = (inner_low + outer_low) / 2
        highlight = between(shine + 0.008, shine - 0.008) * single([0.5, 1.0])
        patch.fill(highlight, np.minimum(lip * 1.22, 250), soft=2.2, strength=0.6)
        return patch.finish()


class _Patch:
    """An oversampled picture with coverage, around (x, y) head units of the texture. Points are relative to (x, y), up positive."""

    def __init__(self, head: Head, x: float, y: float, wide: float, up: float, down: float) -> None:
        self.left = int(np.floor(float(head.column(x - wide))))
        self.top = int(np.floor(float(head.row(y + up))))
        right, bottom = int(np.ceil(float(head.column(x + wide)))), int(np.ceil(float(head.row(y - down))))
        self.size = (bottom - self.top + 1, right - self.left + 1)
        self.origin = single([float(head.column(x)) + 0.5 - self.left, float(head.row(y)) + 0.5 - self.top]) * OVERSAMPLE
        self.scale = head.pixels_per_unit * OVERSAMPLE
        shape = (self.size[0] * OVERSAMPLE, self.size[1] * OVERSAMPLE)
        self.colour = np.zeros((*shape, 3), np.float32)
        self.cover = np.zeros(shape, np.float32)

    def _cover(self, points: Floats, blur: float, thickness: int = 0) -> tuple[Window, Floats]:
        """The part of the patch that a polygon (or, with a thickness, its line) touches, and its coverage there 0..1."""
        pixels = self.origin + points * single([self.scale, -self.scale]) - 0.5
        pad = thickness + 3 * blur + 2
        low = np.clip(np.floor(pixels.min(axis=0) - pad), 0, None).astype(int)
        high = np.ceil(pixels.max(axis=0) + pad).astype(int) + 1
        window = (slice(low[1], max(low[1] + 1, min(high[1], self.cover.shape[0]))), slice(low[0], max(low[0] + 1, min(high[0], self.cover.shape[1]))))
        drawn = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8)
        corners = np.round((pixels - low) * (1 << SHIFT)).astype(np.int32)[None]
        if thickness:
            cv2.polylines(drawn, corners, False, 255, thickness, cv2.LINE_AA, SHIFT)
        else:
            cv2.fillPoly(drawn, corners, 255, cv2.LINE_AA, SHIFT)
        return window, (cv2.GaussianBlur(drawn, (0, 0), blur) if blur > 0 else drawn).astype(np.float32) / 255

    def mask(self, points: Floats) -> Floats:
        whole = np.zeros(self.cover.shape, np.float32)
        window, cover = self._cover(points, 0)
        whole[window] = cover
        return whole

    def _lay(self, window: Window, cover: Floats, colour: Floats) -> None:
        area = self.colour[window]
        area += (colour - area) * cover[..., None]
        self.cover[window] += (1 - self.cover[window]) * cover

    def fill(self, points: Floats, colour: Floats, soft: float = 0.6, strength: float = 1.0, inside: Floats | None = None) -> None:
        window, cover = self._cover(points, soft * self.scale / 125)
        self._lay(window, cover * strength if inside is None else cover * strength * inside[window], colour)

    def disc(self, x: float, y: float, radius: float, colour: Floats, inside: Floats) -> None:
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        window, cover = self._cover(np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1).astype(np.float32), 0.8)
        self._lay(window, cover * inside[window], colour)

    def line(self, points: Floats, colour: Floats, thickness: float) -> None:
        window, cover = self._cover(points, 0, max(1, round(thickness * self.scale)))
        self._lay(window, cover * np.float32(0.9), colour)

    def finish(self) -> tuple[Floats, Floats]:
        """Premultiplied colour and coverage [h,w,4], and the texture position [2] of its upper left corner."""
        size = (self.size[1], self.size[0])
        cover = cv2.resize(self.cover, size, interpolation=cv2.INTER_AREA)
        # `colour` started black under zero coverage, so laying colours has premultiplied it already.
        colour = cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA)
        return np.dstack([colour, cover]).astype(np.float32), single([self.left, self.top])
