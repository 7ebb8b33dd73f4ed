"""Forgers that draw people who do not exist, by an image generator: exported ones, and what those that come with the installation share.

An exported generator is an ONNX file with one float32 input [N, D] (a normal random vector each) and one float32 output [N, 3, H, W],
RGB in -1..1, H = W: what StyleGAN2/3 and ProGAN exports give. A drawn picture is made as small and coded as pictures that circulate are, then its face
is found and aligned like everybody's. Half of the time it is swapped into the clip. Else it stands in the clip's place: alone for a
picture, for a video as a talking portrait, one still that moves as the clip's face does, coded as videos are (a still among videos would
give itself away). Either way it has as much fine detail as what it stands for, or as often more as less.
"""

from abc import ABC, abstractmethod
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from media.degrade import h264_round_trip
from media.faces import extract_clips
from media.forgers.detail import compose, draw_sharpness
from media.forgers.landmark_swap import landmark_swap
from media.forgers.masks import cover, steady
from media.forgers.reenact import lip_gap, reenact
from media.forgers.registry import Clip, Frames, Landmarks
from workspace.errors import DataError
from workspace.settings import FaceSettings

TRIES = 4  # vectors drawn until the generator shows a face
SWAPPED = 0.5
SMALLEST = 1.7  # sides of a crop: of a picture so small, the crop of a face that fills it as FFHQ's do is taken pixel for pixel
RIM = 0.15  # of a picture is mirrored round it, as augmentation does: a crop that reached beyond it would have a black edge, and that edge would be the mark
JPEG_QUALITY, CRF = (70, 97), (18, 30)


class Outside(ABC):
    """A forger from outside, by its name."""

    name: str

    def forge(self, frames: Frames, landmarks: Landmarks, rng: np.random.Generator) -> Clip:
        """A forged copy of the clip, same shapes. Raises DataError where there is none, or where more than half its frames are the real ones."""
        made, points = self._forge(frames, landmarks, rng)
        same = sum(np.array_equal(before, after) for before, after in zip(frames, made, strict=True))
        if 2 * same > len(frames):
            why = f"{same} of {len(frames)} frames came back unchanged"
            raise DataError(f"The forger {self.name!r} did not forge a clip.", why=why, next_step="Let it change every frame, or fail where it cannot.")
        return made, points

    @abstractmethod
    def _forge(self, frames: Frames, landmarks: Landmarks, rng: np.random.Generator) -> Clip:
        """What the forger makes of the clip, real frames among it or not."""


class FaceGenerator(Outside):
    """Draws faces out of nothing; how is left to `_picture`. `swapped`: so often its face is laid into the clip."""

    swapped = SWAPPED

    def __init__(self, faces: FaceSettings) -> None:
        self._faces = faces.model_copy(update={"min_clip_frames": 1})

    @abstractmethod
    def _picture(self, rng: np.random.Generator) -> NDArray[np.floating]:
        """One picture [3, H, W], RGB in -1..1."""

    def _forge(self, frames: Frames, landmarks: Landmarks, rng: np.random.Generator) -> Clip:
        """A generated face in place of the clip's person, or of the clip. Raises DataError when the generator shows no face."""
        for _ in range(TRIES):
            found = self._face(self._picture(rng), rng)
            if found is None:
                continue
            if rng.random() < self.swapped:
                return landmark_swap(frames, landmarks, rng, found)
            made, points = found if len(frames) == 1 else _talking(found, landmarks, rng)
            return compose(frames, made.astype(np.float32), cover(points, frames.shape[1], (), 0.0), draw_sharpness(rng)), points
        raise DataError(f"The generator {self.name!r} shows no face.", why=f"none in {TRIES} pictures", next_step="Use a generator of faces.")

    def _face(self, picture: NDArray[np.floating], rng: np.random.Generator) -> Clip | None:
        if picture.ndim != 3 or picture.shape[0] != 3:
            return None
        pixels = np.clip(np.rint((picture.transpose(1, 2, 0) + 1) * 127.5), 0, 255).astype(np.uint8)
        longest = max(pixels.shape[:2])
        side = np.exp(rng.uniform(np.log(min(longest, SMALLEST * self._faces.size_px)), np.log(longest)))
        if side < longest:
            pixels = cv2.resize(pixels, None, fx=side / longest, fy=side / longest, interpolation=cv2.INTER_AREA)
        rim = round(RIM * side)
        pixels = cv2.copyMakeBorder(pixels, rim, rim, rim, rim, cv2.BORDER_REFLECT_101)
        coded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*JPEG_QUALITY))])[1]
        clips = extract_clips(coded.tobytes(), self._faces).clips
        return (clips[0].frames, clips[0].landmarks) if clips else None


class ExportedGenerator(FaceGenerator):
    """A generator in an ONNX file. Raises DataError where the file is not one by the contract above."""

    def __init__(self, name: str, path: Path, faces: FaceSettings) -> None:
        import onnxruntime

        super().__init__(faces)
        self.name = name
        what = f"Cannot use the generator {name!r}."
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        except Exception as problem:
            raise DataError(what, why=f"{path}: {problem}"[:300], next_step="Name an ONNX file in forge.plugins.") from problem
        given, made = self._session.get_inputs(), self._session.get_outputs()
        if len(given) != 1 or len(made) != 1 or len(given[0].shape) != 2 or not isinstance(given[0].shape[1], int) or len(made[0].shape) != 4:
            shapes = f"inputs {[one.shape for one in given]}, outputs {[one.shape for one in made]}"
            raise DataError(what, why=f"{shapes}; wanted [N, D] and [N, 3, H, W]", next_step="Export the mapping and the synthesis as one network.")
        self._input, self._length = given[0].name, given[0].shape[1]

    def _picture(self, rng: np.random.Generator) -> NDArray[np.floating]:
        vector = rng.standard_normal((1, self._length)).astype(np.float32)
        try:
            return np.asarray(self._session.run(None, {self._input: vector})[0])[0]
        except Exception as problem:  # whatever a foreign network does not like: its input's type, a batch of another size
            why = f"{type(problem).__name__}: {problem}"[:300]
            raise DataError(f"The generator {self.name!r} failed.", why=why, next_step="Export it for float32 [N, D], N free.") from problem


def _talking(face: Clip, landmarks: Landmarks, rng: np.random.Generator) -> Clip:
    """A still [1,S,S,3] that moves as the meshes [T,468,2] do, from where their mouth is shut the most; coded once, as a video that was posted."""
    still, mesh = face
    moves = steady(landmarks)
    at_rest = min(range(len(moves)), key=lambda index: lip_gap(moves[index]))
    driven = (steady(mesh) + moves - moves[at_rest]).astype(np.float32)
    made, points = reenact(np.repeat(still, len(moves), axis=0), driven, rng, face, portrait=True)
    return h264_round_trip(made, int(rng.integers(*CRF))), points
