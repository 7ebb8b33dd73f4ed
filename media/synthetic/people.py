"""Who is in the sample world: a person's looks, drawn from (seed, number) alone, so that the same person can return weeks later.

Lengths are in head units: half the height from chin to crown is 1, Y points up and 0 lies between the eyes.
"""

from dataclasses import dataclass

import numpy as np

HAIR_STYLES = ("shaved", "short", "side_part", "fringe", "long", "curly", "bun", "beanie")
SKIN_TONES = ((244, 209, 188), (234, 192, 166), (222, 176, 144), (200, 150, 116), (172, 122, 88), (140, 94, 66), (108, 72, 52), (84, 56, 42))
HAIR_COLOURS = ((28, 22, 20), (52, 34, 24), (86, 56, 34), (132, 88, 48), (188, 146, 88), (120, 52, 28), (150, 146, 142), (206, 202, 196))
EYE_COLOURS = ((74, 48, 28), (98, 66, 36), (62, 40, 26), (84, 104, 62), (70, 110, 142), (98, 128, 150), (104, 110, 114))
CLOTHES_COLOURS = ((38, 48, 74), (120, 38, 44), (54, 92, 78), (226, 222, 214), (70, 70, 74), (196, 158, 72), (92, 118, 160), (146, 98, 134), (30, 30, 34))
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Person:
    """One rendered person. Colours are RGB 0..255, lengths head units, all else fractions."""

    number: int
    half_width: float
    depth: float
    jaw_power: float
    jaw_taper: float
    skin: Colour
    blush: float
    roughness: float
    freckles: int
    age: float
    eye_colour: Colour
    eye_spacing: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    eye_y: float
    brow_y: float
    brow_thick: float
    brow_arch: float
    brow_colour: Colour
    nose_width: float
    nose_length: float
    nose_height: float
    mouth_y: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    lip_colour: Colour
    smile: float
    hair_style: str
    hair_colour: Colour
    hair_volume: float
    hairline: float
    beard: float
    glasses: bool
    clothes: str
    clothes_colour: Colour
    second_colour: Colour

    @property
    def name(self) -> str:
        """The identity as files and tables write it, e.g. p0007."""
        return f"p{self.number:04d}"


def draw_person(seed: int, number: int) -> Person:
    """The person with this number in the world of this seed. The same two numbers always give the same person."""
    rng = np.random.default_rng([seed, number, 101])

    def colour(table: tuple[Colour, ...], spread: float, index: int | None = None) -> Colour:
        base = table[int(rng.integers(len(table))) if index is None else index]
        mixed = np.clip(np.asarray(base) * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, 255 * spread * 0.12, 3), 8, 250)
        return (float(mixed[0]), float(mixed[1]), float(mixed[2]))

    tone = int(rng.integers(len(SKIN_TONES)))
    skin = colour(SKIN_TONES, 0.05, tone)
    dark = tone >= 3
    hair = colour(HAIR_COLOURS, 0.15, int(rng.integers(3)) if dark and rng.random() < 0.8 else None)
    redness = rng.uniform(0.62, 0.86)
    style = HAIR_STYLES[int(rng.choice(len(HAIR_STYLES), p=(0.10, 0.20, 0.17, 0.13, 0.16, 0.11, 0.08, 0.05)))]
    beard = float(rng.choice((0.0, 0.0, 0.35, 0.9)) * rng.uniform(0.8, 1.0)) if style not in ("long", "bun", "fringe") else 0.0
    return Person(
        number=number,
        half_width=rng.uniform(0.66, 0.77),
        depth=rng.uniform(0.76, 0.88),
        jaw_power=rng.uniform(2.3, 3.6),
        jaw_taper=rng.uniform(0.10, 0.32),
        skin=skin,
        blush=rng.uniform(0.2, 1.0),
        roughness=rng.uniform(0.3, 1.0),
        freckles=int(rng.choice((0, 0, 4, 12, 60 if tone < 3 else 6))),
        age=rng.uniform(0.0, 1.0),
        eye_colour=colour(EYE_COLOURS, 0.15, int(rng.integers(3)) if dark else None),
        eye_spacing=rng.uniform(0.265, 0.315),
        eye_width=rng.uniform(0.125, 0.155),
        eye_open=rng.uniform(0.058, 0.085),
        eye_tilt=rng.uniform(-0.012, 0.022),
        eye_y=rng.uniform(-0.06, 0.02),
        brow_y=rng.uniform(0.155, 0.20),
        brow_thick=rng.uniform(0.020, 0.044),
        brow_arch=rng.uniform(0.015, 0.055),
        brow_colour=(hair[0] * 0.62, hair[1] * 0.6, hair[2] * 0.6),
        nose_width=rng.uniform(0.115, 0.175),
        nose_length=rng.uniform(0.36, 0.44),
        nose_height=rng.uniform(0.13, 0.20),
        mouth_y=rng.uniform(-0.66, -0.59),
        mouth_width=rng.uniform(0.19, 0.26),
        lip_upper=rng.uniform(0.030, 0.060),
        lip_lower=rng.uniform(0.042, 0.078),
        lip_colour=(skin[0] * redness * 1.06, skin[1] * redness * rng.uniform(0.68, 0.82), skin[2] * redness * rng.uniform(0.74, 0.88)),
        smile=rng.uniform(-0.015, 0.045),
        hair_style=style,
        hair_colour=hair,
        hair_volume=rng.uniform(0.05, 0.14),
        hairline=rng.uniform(0.50, 0.64),
        beard=beard,
        glasses=bool(rng.random() < 0.15),
        clothes=("round", "v_neck", "collar", "hood")[int(rng.integers(4))],
        clothes_colour=colour(CLOTHES_COLOURS, 0.2),
        second_colour=colour(CLOTHES_COLOURS, 0.2),
    )
