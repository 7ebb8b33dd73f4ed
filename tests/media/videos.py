"""Small media files for the tests of this room, made on the spot."""

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    times_ms: Sequence[int] | None = None,
    *,
    fps: int = 25,
    codec: str = "libx264",
    gop: int = 12,
    preset: str = "ultrafast",
    options: dict[str, str] | None = None,
    pixel: Fraction | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """An RGB video with the given presentation times (or a steady rate); `pixel`: its width over its height. Presets from `veryfast` on use B-frames."""
    stamps = times_ms if times_ms is not None else [round(k * 1000 / fps) for k in range(len(frames))]
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = gop
        if pixel:
            stream.codec_context.sample_aspect_ratio = pixel
        if codec == "libx265":
            stream.codec_context.options = {"preset": preset, "x265-params": "log-level=none:pools=1"}
        if codec == "libx264":
            stream.codec_context.options = {"crf": "10", "preset": preset, **(options or {})}
        for picture, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rewritten(source: Path, out: Path, change: Callable[[int, av.Packet], Iterable[av.Packet]]) -> Path:
    """The packets of a video in another file, without coding: `change` gets the number of each and the packet, in milliseconds, and gives what is written."""
    with av.open(str(source)) as container, av.open(str(out), "w") as written:
        (stream,) = container.streams.video
        target = written.add_stream_from_template(stream)
        target.time_base = milliseconds = Fraction(1, 1000)
        for number, packet in enumerate(one for one in container.demux(stream) if one.dts is not None):
            shown, decoded = (round(stamp * packet.time_base * 1000) for stamp in (packet.pts, packet.dts))
            packet.time_base, packet.pts, packet.dts, packet.duration = milliseconds, shown, decoded, 40
            for one in change(number, packet):
                one.stream = target
                written.mux(one)
    return out


def with_sound(source: Path, out: Path) -> Path:
    """The pictures of a video in another file, at their own times, and half a second of silence beside them that begins at 0."""
    with av.open(str(source)) as container, av.open(str(out), "w") as written:
        (stream,) = container.streams.video
        target, sound = written.add_stream_from_template(stream), written.add_stream("aac", rate=16000)
        for number in range(8):
            wave = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            wave.sample_rate, wave.pts = 16000, 1024 * number
            written.mux(sound.encode(wave))
        written.mux(sound.encode())
        for packet in container.demux(stream):
            if packet.dts is not None:
                packet.stream = target
                written.mux(packet)
    return out


def grey_steps(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Pictures that tell their number: grey 10, 18, 26, ... (at most 30)."""
    return [np.full((height, width, 3), 10 + 8 * k, np.uint8) for k in range(count)]


def number_of(picture: np.ndarray) -> int:
    """Which of `grey_steps` a decoded picture is."""
    return round((float(picture.mean()) - 10) / 8)


def turned_clockwise(content: bytes) -> bytes:
    """An MP4 whose header says: turn by 90 degrees clockwise, as a phone held upright writes it."""
    return shown_by(content, (0, 1, -1, 0))


def shown_by(content: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """An MP4 whose header says: show what is at (x, y) at (a x + c y, b x + d y), for a `matrix` of a, b, c, d."""
    at = content.index(b"tkhd") + 44
    a, b, c, d = (number << 16 for number in matrix)
    return content[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[at + 36 :]


def with_exif_turn(jpeg: bytes) -> bytes:
    """A JPEG whose EXIF orientation is 6: shown turned by 90 degrees clockwise."""
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<I", 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
