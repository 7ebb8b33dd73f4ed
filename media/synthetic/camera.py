"""The cameras of the sample world: blur, white balance, noise, then H.264. Real and forged takes pass through the same one, once."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from media.degrade import REPEATABLE
from media.synthetic.skin import Floats, single

SHAPES = ((1.0, 1.0), (1.0, 1.0), (1.25, 1.0), (1.0, 1.25))  # width and height against the short side
PRESETS = ("veryfast", "faster")


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera. noise is the sigma of 8-bit values at mid grey, blur a sigma in px, crf libx264's quality (higher is worse)."""

    width: int
    height: int
    crf: int
    preset: str
    noise: float
    blur: float
    gain: tuple[float, float, float]
    contrast: float


def draw_camera(rng: np.random.Generator, size_px: int) -> Camera:
    """A camera whose short side has `size_px` pixels. The draw must not know whether its take is real."""
    wide, high = SHAPES[int(rng.integers(len(SHAPES)))]
    white = rng.normal(1.0, 0.025, 3)
    return Camera(
        width=int(size_px * wide) // 2 * 2,
        height=int(size_px * high) // 2 * 2,
        crf=int(rng.integers(18, 31)),
        preset=PRESETS[int(rng.integers(len(PRESETS)))],
        noise=float(rng.uniform(0.5, 4.0)),
        blur=float(rng.choice((0.0, 0.4, 0.6, 0.9))) * size_px / 256,
        gain=(float(white[0]), float(white[1]), float(white[2])),
        contrast=float(rng.uniform(0.88, 1.12)),
    )


class Sensor:
    """Turns rendered pictures into what `camera` would record. The noise of one bank is shifted at random for each frame."""

    def __init__(self, camera: Camera, rng: np.random.Generator) -> None:
        self.camera, self.rng = camera, rng
        shape = (camera.height + 64, camera.width + 64)
        grain = rng.standard_normal((*shape, 1), dtype=np.float32)
        chroma = cv2.GaussianBlur(rng.standard_normal((*shape, 3), dtype=np.float32), (0, 0), 0.8)
        self.bank = (grain + 0.9 * chroma) * np.float32(camera.noise)

    def record(self, picture: Floats) -> NDArray[np.uint8]:
        """8-bit RGB [height,width,3] of `picture` 0..255, same size. `picture` is spoilt."""
        camera = self.camera
        if camera.blur > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), camera.blur)
        picture *= single(camera.gain) * np.float32(camera.contrast)
        picture += np.float32(118 * (1 - camera.contrast))
        y, x = (int(v) for v in self.rng.integers(0, 64, 2))
        picture += self.bank[y : y + camera.height, x : x + camera.width]
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def encode_h264(path: Path, frames: list[NDArray[np.uint8]], fps: float, crf: int, preset: str) -> None:
    """Write RGB frames as an MP4 with H.264, 4:2:0. One thread and no time stamps of the day: same frames, same bytes."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"crf": str(crf), "preset": preset, "x264-params": REPEATABLE}
        for frame in frames:
            planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
