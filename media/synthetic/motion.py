"""How a rendered person moves in one take: head pose, drift, blinks, speech, gaze. All smooth, all from one generator."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Motion:
    """One value a frame, each [T]. Angles in radians, shifts in head units, blink, mouth and rounding in 0..1, gaze in -1..1."""

    yaw: Curve
    pitch: Curve
    roll: Curve
    shift_x: Curve
    shift_y: Curve
    zoom: Curve
    blink: Curve
    mouth: Curve
    rounding: Curve
    gaze_x: Curve
    gaze_y: Curve


def draw_motion(rng: np.random.Generator, frames: int, fps: float) -> Motion:
    """A take of `frames` frames at `fps` frames a second."""
    seconds = np.arange(frames) / fps

    def sway(reach: float, slow: float = 0.15, fast: float = 0.7) -> Curve:
        curve = np.zeros(frames)
        for _ in range(3):
            curve += rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * (rng.uniform(slow, fast) * seconds + rng.random()))
        return (reach * curve / 2).astype(np.float32)

    calm = rng.uniform(0.4, 1.0)
    blink = np.zeros(frames)
    moment = rng.uniform(-0.8, 1.8)
    while moment < frames / fps:
        blink = np.maximum(blink, np.clip(1.5 - np.abs(seconds - moment) / 0.11, 0, 1))
        moment += rng.uniform(0.9, 3.2)
    talks = rng.random() < 0.8
    rate, phase = rng.uniform(2.2, 3.8), rng.random(2)
    syllables = np.abs(np.sin(np.pi * (rate * seconds + phase[0]))) * np.clip(0.65 + 0.6 * np.sin(2 * np.pi * (0.55 * rate * seconds + phase[1])), 0.05, 1)
    pause = np.clip(1.2 + 1.6 * np.sin(2 * np.pi * (rng.uniform(0.25, 0.5) * seconds + rng.random())), 0, 1)
    mouth = syllables * pause * rng.uniform(0.5, 1.0) if talks else np.full(frames, rng.choice((0.0, 0.0, 0.12)))
    saccade = np.cumsum(rng.random(frames) < 1.2 / fps)
    looks = rng.uniform(-1, 1, (int(saccade[-1]) + 1, 2)) * 0.7
    return Motion(
        yaw=np.clip(rng.normal(0, 0.16) + sway(0.13 * calm), -0.42, 0.42).astype(np.float32),
        pitch=np.clip(rng.normal(0, 0.05) + sway(0.07 * calm), -0.2, 0.2).astype(np.float32),
        roll=np.clip(rng.normal(0, 0.05) + sway(0.06 * calm), -0.2, 0.2).astype(np.float32),
        shift_x=sway(0.07 * calm),
        shift_y=sway(0.04 * calm),
        zoom=1 + sway(0.025 * calm),
        blink=blink.astype(np.float32),
        mouth=np.clip(mouth, 0, 1).astype(np.float32),
        rounding=np.clip(0.3 + sway(0.6, 0.5, 1.6), 0, 1).astype(np.float32) * (1 if talks else 0),
        gaze_x=looks[saccade, 0].astype(np.float32),
        gaze_y=looks[saccade, 1].astype(np.float32),
    )
