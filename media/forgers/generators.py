"""Forgers that draw people who do not exist, by an image generator: exported ones, and what those that come with the installation share.

An exported generator is an ONNX file with one float32 input [N, D] (a normal random vector each) and one float32 output [N, 3, H, W],
RGB in -1..1: what StyleGAN2/3 and ProGAN exports give. A drawn picture is made as small and coded as pictures that circulate are, then its face
is found and aligned like everybody's. Half of the time it is swapped into the clip. Else it stands in the clip's place: alone for a
picture, for a video as a talking portrait, one still that moves as the clip's face does, coded as videos are (a still among videos would
give itself away). Either way it has the colours of what it stands for and as much fine detail, or as often more as less, and is black where
that reached beyond its picture.
"""

from abc import ABC, abstractmethod
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from media.degrade import BLOCK, h264_of_larger
from media.faces import extract_clips
from media.forgers.detail import compose, draw_sharpness, transfer_colour
from media.forgers.landmark_swap import landmark_swap
from media.forgers.masks import OVAL, Floats, cover, hull_mask, steady
from media.forgers.reenact import lip_gap, reenact
from media.forgers.registry import Clip, Frames, Landmarks, changed, check_clip, forged_within
from workspace.errors import DataError
from workspace.settings import FaceSettings

TRIES = 4  # vectors drawn until the generator shows a face
SWAPPED = 0.5
SMALLEST = 1.7  # sides of a crop: of a picture so small, the crop of a face that fills it as FFHQ's do is taken pixel for pixel
RIM = 0.15  # of a picture is mirrored round it, as augmentation does: a crop that reached beyond it would have a black edge, and that edge would be the mark
JPEG_QUALITY, CRF = (70, 97), (18, 30)
COLOUR = (0.75, 1.0)  # of the clip's face, that a drawn one takes on: no light and no skin may be a mark
DROWNED = 0.01  # of a picture, that may become black or white by it
SCALE = (0.8, 2.2)  # of a talking portrait over its crop, where it was coded
SIDES = (32, 8192)  # px of a picture, shortest and longest
UNCHANGED = 0.1  # of a clip's frames, at most: where a program finds no face for a moment
BRIGHTEST = 8.0  # of the values of a picture that shall lie in -1..1: a network may overshoot, to 2 and more, but not as far as 8-bit values
DARK_PART, DARK = 0.01, -0.05  # the darkest part of a picture in 0..1 lies above it, though a network undershoots


def _is_real(picture: Frames, frames: Frames) -> bool:
    """Whether nothing was forged of a picture [S,S,3]: it is some frame of the clip, or one's mirror: a tool that is a frame late gives real ones back."""
    return any(not changed(frame, picture) or not changed(frame[:, ::-1], picture) for frame in frames)


class Outside(ABC):
    """A forger from outside, by its name."""

    name: str

    def forge(self, frames: Frames, landmarks: Landmarks, rng: np.random.Generator) -> Clip:
        """A forged copy of the clip, same shapes. Raises DataError where there is none, or where more than a part UNCHANGED of its frames are the real ones."""
        check_clip(f"Cannot forge with {self.name!r}.", frames, landmarks)
        made, points = forged_within(frames, lambda pictures: self._forge(pictures, landmarks, rng), tries=1)
        same = sum(_is_real(picture, frames) for picture in made)
        if same > UNCHANGED * len(frames):
            why = f"{same} of {len(frames)} frames came back unchanged, or as another of the clip's"
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
        why = ""
        for _ in range(TRIES):
            found = self._face(self._picture(rng), rng)
            if isinstance(found, str):
                why = found
                continue
            if rng.random() < self.swapped:
                return landmark_swap(frames, landmarks, rng, found)
            made, points = found if len(frames) == 1 else _talking(found, landmarks, rng)
            lit = _lit(made, points, frames, landmarks, rng.uniform(*COLOUR))
            covers = cover(points, frames.shape[1], (), 0.0)
            return compose(frames, lit, covers, draw_sharpness(rng)), points
        raise DataError(f"The generator {self.name!r} shows no face.", why=f"none in {TRIES} pictures ({why})", next_step="Use a generator of faces.")

    def _face(self, picture: NDArray[np.floating], rng: np.random.Generator) -> Clip | str:
        """The face of a picture as a clip of one frame, or why there is none. Raises DataError where it is no picture [3, H, W] in -1..1."""
        if odd := _odd(picture):
            raise DataError(f"The generator {self.name!r} draws something else.", why=odd, next_step="Export it with an output [N, 3, H, W], RGB in -1..1.")
        pixels = np.clip(np.rint((picture.transpose(1, 2, 0) + 1) * 127.5), 0, 255).astype(np.uint8)
        longest = max(pixels.shape[:2])
        side = np.exp(rng.uniform(np.log(min(longest, SMALLEST * self._faces.size_px)), np.log(longest)))
        if side < longest:
            height, width = (max(1, round(length * side / longest)) for length in pixels.shape[:2])
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        rim = min(round(RIM * side), *(length - 1 for length in pixels.shape[:2]))
        pixels = cv2.copyMakeBorder(pixels, rim, rim, rim, rim, cv2.BORDER_REFLECT_101)
        coded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*JPEG_QUALITY))])[1]
        found = extract_clips(coded.tobytes(), self._faces)
        return (found.clips[0].frames, found.clips[0].landmarks) if found.clips else found.reason


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
            if "external data" in str(problem).lower():
                next_step = "Save it as one file: `torch.onnx.export(..., external_data=False)`, or `onnx.save(model, path, save_as_external_data=False)`."
                raise DataError(what, why=f"{path}: its weights lie in another file", next_step=next_step) from problem
            raise DataError(what, why=f"{path}: {problem}"[:300], next_step="Name an ONNX file in forge.plugins.") from problem
        given, made = self._session.get_inputs(), self._session.get_outputs()
        if len(given) != 1 or len(made) != 1 or len(given[0].shape) != 2 or len(made[0].shape) != 4:
            shapes = f"inputs {[one.shape for one in given]}, outputs {[one.shape for one in made]}"
            raise DataError(what, why=f"{shapes}; wanted [N, D] and [N, 3, H, W]", next_step="Export the mapping and the synthesis as one network.")
        if not isinstance(given[0].shape[1], int):
            raise DataError(what, why=f"{path}: the length D of its vector is free", next_step="Export it with D fixed; only N may be free.")
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
    made, points = reenact(np.repeat(still, len(moves), axis=0), driven, rng, face, portrait=True, driven=True)
    scale, (x, y) = float(np.exp(rng.uniform(*np.log(SCALE)))), rng.integers(0, BLOCK, 2)
    return h264_of_larger(made, int(rng.integers(*CRF)), scale, (int(x), int(y))), points


def _lit(made: Frames, points: Landmarks, frames: Frames, landmarks: Landmarks, strength: float) -> Floats:
    """`made` [T,S,S,3] with the colours of the clip's face, as far as its surroundings do not drown in black or white, which would be a mark too."""
    masks = [_faces(mesh, frames.shape[1]) for mesh in (points, landmarks)]
    most = _drowned(made) + DROWNED
    for part in (1.0, 0.5, 0.25):
        lit = transfer_colour(made, frames, masks[0], masks[1], part * strength)
        if _drowned(lit) <= most:
            return lit
    return made.astype(np.float32)


def _drowned(pictures: Floats | Frames) -> float:
    """The part of the pixels [T,S,S,3] that is nearly black or white."""
    return float(((pictures.max(axis=-1) < 4) | (pictures.min(axis=-1) > 251)).mean())


def _faces(points: Landmarks, size: int) -> Floats:
    """1 on the face of each mesh [T,468,2], else 0, [T,S,S]."""
    masks: Floats = np.stack([hull_mask(mesh[list(OVAL)], size) for mesh in points]) / 255
    return masks


def _odd(picture: NDArray[np.floating]) -> str:
    """What is wrong with a picture, "" where nothing is. No photograph is lighter than nearly a middle grey all over: such values lie in 0..1."""
    if picture.ndim != 3 or picture.shape[0] != 3 or not SIDES[0] <= min(picture.shape[1:]) <= max(picture.shape[1:]) <= SIDES[1]:
        return f"a picture of {picture.shape}, wanted (3, H, W) with sides of {SIDES[0]} to {SIDES[1]} px"
    if not np.isfinite(picture).all():
        return "values that are not finite"
    if np.abs(picture).max() > BRIGHTEST or np.quantile(picture, DARK_PART) > DARK:
        return "values in another range, wanted -1..1"
    return ""
