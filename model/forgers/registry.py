"""The learned forgers by name. Each learns from real faces, then draws clips; a new one is a line in `LEARNED`.

`decoder_*` draw the picture anew, whole or only the face. `portrait` animates one still frame and draws every frame of that:
what audio-driven portrait generators do, and what has no seam anywhere. `autoencoder_swap` is the two-decoder face swap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from media.forgers.detail import compose, draw_sharpness, match_shades
from media.forgers.masks import HULLS, OVAL, cover, steady
from media.forgers.reenact import reenact
from media.forgers.registry import Clip, Frames, Landmarks, forged_within
from model.forgers.autoencoder_swap import draw_as, train_swap
from model.forgers.decoders import KINDS, draw_unlike, train_autoencoder

FEWEST_FACES = 8  # fewer teach a decoder nothing
ARRIVED = date(2026, 11, 20)
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Face:
    """A real face to learn from: its crop [S, S, 3] uint8 and the group (0 or 1) that its person belongs to."""

    picture: NDArray[np.uint8]
    group: int


@dataclass(frozen=True, slots=True)
class LearnedForger:
    """One way to forge that has weights. `learn` gives the network, `draw` a forged clip and its landmarks, same shapes."""

    name: str
    arrived: date
    learn: Callable[[Sequence[Face], int, int, Tell], torch.nn.Module]
    draw: Callable[[Any, Frames, Landmarks, np.random.Generator, int], Clip]
    needs_both_groups: bool = False

    def forge(self, network: Any, frames: Frames, landmarks: Landmarks, rng: np.random.Generator, group: int) -> Clip:
        """A forged copy of a clip and its landmarks, same shapes: what `draw` makes of the pictures that its crops show."""
        return forged_within(frames, lambda pictures: self.draw(network, pictures, landmarks, rng, group))

    def can_learn(self, faces: Sequence[Face]) -> bool:
        """Whether these faces are enough: FEWEST_FACES of them, of each group where the forger tells groups apart."""
        groups = [sum(face.group == group for face in faces) for group in (0, 1)]
        return (min(groups) if self.needs_both_groups else sum(groups)) >= FEWEST_FACES


def _decoder(kind: str) -> LearnedForger:
    def learn(faces: Sequence[Face], steps: int, seed: int, tell: Tell) -> torch.nn.Module:
        return train_autoencoder(kind, [face.picture for face in faces], steps, seed, tell)

    return LearnedForger(f"decoder_{kind}", ARRIVED, learn, _redraw)


def _redraw(network: Any, frames: Frames, landmarks: Landmarks, rng: np.random.Generator, group: int) -> Clip:
    """The clip as an autoencoder draws it: six times in ten the whole picture, else only the face."""
    whole, softness, sharpness = bool(rng.random() < 0.6), float(rng.uniform(0.01, 0.04)), draw_sharpness(rng)
    drawn = _with_shades(draw_unlike(network, frames, rng), frames, rng)
    return compose(frames, drawn, cover(steady(landmarks), frames.shape[1], () if whole else OVAL, softness), sharpness, fill=True), np.array(landmarks)


def _portrait(network: Any, frames: Frames, landmarks: Landmarks, rng: np.random.Generator, group: int) -> Clip:
    moved, points = reenact(frames, landmarks, rng, portrait=True)
    drawn = _with_shades(draw_unlike(network, moved, rng), moved, rng)
    return compose(moved, drawn, cover(points, frames.shape[1], (), 0.0), draw_sharpness(rng), fill=True), points


def _learn_portrait(faces: Sequence[Face], steps: int, seed: int, tell: Tell) -> torch.nn.Module:
    """The decoder's kind goes by the seed, so that weeks differ."""
    return train_autoencoder(KINDS[seed % len(KINDS)], [face.picture for face in faces], steps, seed, tell)


def _learn_swap(faces: Sequence[Face], steps: int, seed: int, tell: Tell) -> torch.nn.Module:
    return train_swap([[face.picture for face in faces if face.group == group] for group in (0, 1)], steps, seed, tell)


def _swap(network: Any, frames: Frames, landmarks: Landmarks, rng: np.random.Generator, group: int) -> Clip:
    """The face drawn by the other group's decoder, in the target's light and with its grain, laid into the target's picture.

    Shades coarser than 4 to 9 pixels of a 128 px crop and detail finer than 1 to 2 stay the target's: a young network's faces are
    soft, and a soft face in a sharp picture would be found without a look at the face.
    """
    kind, softness, size = "whole" if rng.random() < 0.6 else "inner", float(rng.uniform(0.012, 0.04)), frames.shape[1]
    coarse, fine, grain = float(rng.uniform(4.0, 9.0)) * size / 128, float(rng.uniform(1.0, 2.0)) * size / 128, float(rng.uniform(0.6, 1.0))
    wanted = frames.astype(np.float32)
    drawn = match_shades(draw_as(network, frames, 1 - group), wanted, coarse)
    drawn = drawn + grain * np.stack([frame - cv2.GaussianBlur(frame, (0, 0), fine) for frame in wanted])
    return compose(frames, drawn, cover(steady(landmarks), size, HULLS[kind], softness), draw_sharpness(rng), fill=True), np.array(landmarks)


def _with_shades(drawn: NDArray[np.floating], frames: Frames, rng: np.random.Generator) -> NDArray[np.floating]:
    """`drawn` with the colours and shades of `frames`, coarser than 1.5 to 5 pixels of a 128 px crop."""
    return match_shades(drawn, frames.astype(np.float32), float(rng.uniform(1.5, 5.0)) * frames.shape[1] / 128)


LEARNED: dict[str, LearnedForger] = {
    forger.name: forger
    for forger in (
        *(_decoder(kind) for kind in KINDS),
        LearnedForger("portrait", ARRIVED, _learn_portrait, _portrait),
        LearnedForger("autoencoder_swap", ARRIVED, _learn_swap, _swap, needs_both_groups=True),
    )
}
