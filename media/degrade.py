"""What real media go through on their way: scaling, blur, motion blur, noise removal, sharpening, local contrast, JPEG, H.264.

One draw a clip, the same for each frame. A strength or chance of zero draws no number, so that switching one off changes no other.
"""

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from media.align import done_within
from workspace.settings import AugmentSettings

Frames = NDArray[np.uint8]
# With its macroblock tree on, libx264's vector code reads memory it never wrote where a picture is 320 px wide: same frames, other bytes.
REPEATABLE = "no-mbtree=1:cpu-independent=1"
BLOCK = 16  # px of a macroblock


def degrade_clip(frames: Frames, rng: np.random.Generator, settings: AugmentSettings) -> Frames:
    """A copy of the clip [T,S,S,3] uint8 RGB, degraded with the chance `settings.degrade`; same shape, the input is not changed.

    Scaling, blur and a codec come in this order, each with `step_chance`, at least one of them in every degraded clip; motion blur, noise removal,
    sharpening and local contrast come between blur and codec, and are rarer. Where a crop reaches beyond its picture it stays black: it was the picture
    that went through all this.
    """
    if rng.random() >= settings.degrade:
        return frames.copy()
    return done_within(frames, lambda pictures: _degraded(pictures, rng, settings))


def _degraded(frames: Frames, rng: np.random.Generator, settings: AugmentSettings) -> Frames:
    scale, blur, codec = (bool(rng.random() < settings.step_chance) for _ in range(3))
    if not (scale or blur):
        codec = True
    degraded = frames
    if scale:
        degraded = rescale(degraded, float(rng.uniform(settings.downscale_min, 1.0)))
    if blur:
        degraded = soften(degraded, float(rng.uniform(0.0, settings.blur_sigma_max)))
    if settings.motion_blur_px > 1 and rng.random() < settings.rare_chance:
        degraded = motion_blur(degraded, float(rng.uniform(2, settings.motion_blur_px)), float(rng.uniform(0, np.pi)))
    if settings.denoise > 0 and rng.random() < settings.denoise:
        degraded = remove_noise(degraded, float(rng.uniform(settings.denoise_min, settings.denoise_max)))
    if settings.sharpen > 0 and rng.random() < settings.rare_chance:
        degraded = sharpen(degraded, float(rng.uniform(0, settings.sharpen)))
    if settings.clahe > 0 and rng.random() < settings.clahe:
        degraded = local_contrast(degraded, float(rng.uniform(settings.clahe_min, settings.clahe_max)))
    if codec:
        if rng.random() < settings.h264:
            degraded = h264_round_trip(degraded, int(rng.integers(settings.crf_min, settings.crf_max + 1)))
        else:
            degraded = jpeg_round_trip(degraded, int(rng.integers(settings.jpeg_quality_min, 101)))
    return degraded


def rescale(frames: Frames, factor: float) -> Frames:
    """The clip scaled down by `factor` (0..1] and up again."""
    height, width = frames.shape[1:3]
    small = (max(8, round(width * factor)), max(8, round(height * factor)))
    if small[0] >= width:
        return frames.copy()
    return np.stack([cv2.resize(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_LINEAR) for frame in frames])


def soften(frames: Frames, sigma: float) -> Frames:
    """The clip blurred by a Gaussian of `sigma` px; 0.05 and less changes nothing."""
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]) if sigma > 0.05 else frames.copy()


def motion_blur(frames: Frames, length_px: float, angle: float) -> Frames:
    """The clip smeared along a line of `length_px` at `angle` (radians), as a moving camera does."""
    reach = max(1, round(length_px / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    away = np.array([np.cos(angle), np.sin(angle)]) * length_px / 2
    start, end = (tuple(round(float(reach + sign * part)) for part in away) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return np.stack([cv2.filter2D(frame, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT) for frame in frames])


def remove_noise(frames: Frames, strength: float) -> Frames:
    """The clip through a bilateral filter that takes differences below about `strength` (8-bit steps) for noise."""
    return np.stack([cv2.bilateralFilter(frame, 5, strength, 2.0) for frame in frames])


def sharpen(frames: Frames, amount: float) -> Frames:
    """The clip with `amount` of its fine detail added once more (unsharp mask, sigma 1 px)."""
    return np.stack([cv2.addWeighted(frame, 1 + amount, cv2.GaussianBlur(frame, (0, 0), 1.0), -amount, 0) for frame in frames])


def local_contrast(frames: Frames, clip_limit: float) -> Frames:
    """The clip with its lightness equalised in 4 x 4 tiles (CLAHE), as phones and apps do."""
    equaliser = cv2.createCLAHE(clip_limit, (4, 4))
    made = []
    for frame in frames:
        lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
        lab[..., 0] = equaliser.apply(np.ascontiguousarray(lab[..., 0]))
        made.append(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))
    return np.stack(made)


def jpeg_round_trip(frames: Frames, quality: int) -> Frames:
    """Each frame through JPEG of `quality` 1..100."""
    through = []
    for frame in frames:
        coded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB)
        assert decoded is not None  # our own encoder's output
        through.append(decoded)
    return np.stack(through)


def h264_round_trip(frames: Frames, crf: int) -> Frames:
    """The clip through libx264 at `crf` (0..51, higher is worse) and back, in memory. Odd sides are padded on the way."""
    import av

    count, height, width = frames.shape[:3]
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    encoder.height, encoder.width, encoder.pix_fmt = padded.shape[1], padded.shape[2], "yuv420p"
    encoder.framerate = Fraction(25)
    encoder.time_base = 1 / encoder.framerate
    encoder.thread_count = decoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": "veryfast", "x264-params": REPEATABLE}
    packets = []
    for moment, picture in enumerate(padded):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = moment, encoder.time_base
        packets += encoder.encode(frame)
    decoded: list[Frames] = []
    for packet in (*packets, *encoder.encode(None), None):
        decoded += [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in decoder.decode(packet)]
    return np.stack(decoded[:count])[:, :height, :width]


def h264_of_larger(frames: Frames, crf: int, scale: float, corner: tuple[int, int]) -> Frames:
    """The clip [T,S,S,3] as if cut from a coded picture in which it was `scale` times as large and lay `corner` (x, y in 0..15) px off the codec's blocks.

    Clips are cut from videos after decoding, so a codec's blocks never lie on a clip's own pixels: what was coded at its own size is told by that.
    """
    size = frames.shape[1]
    side = round(size * scale)
    x, y = corner
    larger = np.stack([cv2.resize(frame, (side, side), interpolation=_interpolation(scale)) for frame in frames])
    edges = ((0, 0), (y, BLOCK - y), (x, BLOCK - x), (0, 0))
    coded = h264_round_trip(np.pad(larger, edges, mode="edge"), crf)[:, y : y + side, x : x + side]
    return np.stack([cv2.resize(frame, (size, size), interpolation=_interpolation(size / side)) for frame in coded])


def _interpolation(scale: float) -> int:
    return cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
