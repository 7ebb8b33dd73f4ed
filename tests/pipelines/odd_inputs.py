"""Makers of odd files: each takes the path (or folder) it may fill and a picture with a face, and leaves one real file there."""

import io
import os
import socket
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from tests.media.videos import turned_clockwise, with_exif_turn, write_video

Maker = Callable[[Path, np.ndarray], None]


def varied(picture: np.ndarray, name: str) -> np.ndarray:
    """The picture with a strip of its own, so that no two files have one content or one look."""
    changed = picture.copy()
    strip = np.random.default_rng(zlib.crc32(name.encode(errors="surrogateescape"))).integers(0, 255, (2, 16, 3), dtype=np.uint8)
    height = picture.shape[0] // 6
    changed[:height] = cv2.resize(strip, (picture.shape[1], height), interpolation=cv2.INTER_NEAREST)
    return changed


def encoded(suffix: str, *options: int, change: Callable[[np.ndarray], np.ndarray] = lambda picture: picture) -> Maker:
    """A picture that OpenCV writes; `change` gets and gives BGR."""

    def make(path: Path, picture: np.ndarray) -> None:
        done, content = cv2.imencode(suffix, change(varied(picture, path.name)[:, :, ::-1]), list(options))
        assert done
        path.write_bytes(content.tobytes())

    return make


def pillow(mode: str, form: str, **options: Any) -> Maker:
    """A picture that Pillow writes, in one of its modes."""

    def make(path: Path, picture: np.ndarray) -> None:
        with open(path, "wb") as handle:
            Image.fromarray(varied(picture, path.name)).convert(mode).save(handle, form, **options)

    return make


def animated(form: str) -> Maker:
    """Six frames that move, 10 a second."""

    def make(path: Path, picture: np.ndarray) -> None:
        frames = [Image.fromarray(np.roll(varied(picture, path.name), 3 * k, axis=1)) for k in range(6)]
        with open(path, "wb") as handle:
            frames[0].save(handle, form, save_all=True, append_images=frames[1:], duration=100, loop=0)

    return make


def content(data: bytes | Callable[[np.ndarray], bytes]) -> Maker:
    """A file with these bytes."""

    def make(path: Path, picture: np.ndarray) -> None:
        path.write_bytes(data if isinstance(data, bytes) else data(varied(picture, path.name)))

    return make


def jpeg(picture: np.ndarray) -> bytes:
    """The picture as a JPEG."""
    return cv2.imencode(".jpg", picture[:, :, ::-1])[1].tobytes()


def png(picture: np.ndarray) -> bytes:
    """The picture as a PNG."""
    return cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()


def video(codec: str = "libx264", pixels: str = "yuv420p", form: str | None = None, **more: Any) -> Maker:
    """Twelve frames, 6 a second, in any codec, pixel format and container."""

    def make(path: Path, picture: np.ndarray) -> None:
        path.write_bytes(video_bytes(varied(picture, path.name), codec, pixels, form or path.suffix[1:], **more))

    return make


def video_bytes(
    picture: np.ndarray, codec: str = "libx264", pixels: str = "yuv420p", form: str = "mp4", *,
    frames: int = 12, fps: Fraction = Fraction(6), first: int = 0, sound: bool = False,
    options: dict[str, str] | None = None, muxer: dict[str, str] | None = None,
) -> bytes:  # fmt: skip
    """A video of one face that moves to the side."""
    with (
        tempfile.TemporaryDirectory() as folder,
        av.open(f"{folder}/v", "w", format={"mkv": "matroska", "ts": "mpegts", "mpg": "mpeg"}.get(form, form), options=muxer or {}) as container,
    ):
        voice: Any = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], pixels
        stream.options = {"preset": "ultrafast"} | (options or {}) if codec.startswith("libx26") else options or {}
        if codec == "libx265":
            stream.options |= {"x265-params": "log-level=none:pools=1"}
        if voice:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            silence.rate = 8000
            container.mux(voice.encode(silence))
            container.mux(voice.encode())
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(picture, 2 * (number % 8), axis=1)), format="rgb24")
            frame.pts, frame.time_base = first + number, 1 / fps
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode())
        container.close()
        return Path(folder, "v").read_bytes()


def cut(maker: Maker, part: float) -> Maker:
    """What `maker` makes, only the first `part` of its bytes."""

    def make(path: Path, picture: np.ndarray) -> None:
        maker(path, picture)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])

    return make


def phone_video(path: Path, picture: np.ndarray) -> None:
    """A lying video whose header says: turn it upright, clockwise."""
    path.write_bytes(turned_clockwise(video_bytes(np.rot90(varied(picture, path.name)).copy())))


def phone_photo(path: Path, picture: np.ndarray) -> None:
    """A lying photo whose EXIF entry says: turn it upright, clockwise."""
    path.write_bytes(with_exif_turn(jpeg(np.rot90(varied(picture, path.name)).copy())))


def uneven(path: Path, picture: np.ndarray) -> None:
    """Frames at times of no rule."""
    write_video(path, [np.roll(varied(picture, path.name), 3 * k, axis=1) for k in range(8)], [0, 40, 80, 500, 540, 1500, 1540, 1580])


def long_video(path: Path, picture: np.ndarray) -> None:
    """Three hours at a frame a minute."""
    small = cv2.resize(varied(picture, path.name), (160, 120), interpolation=cv2.INTER_AREA)
    path.write_bytes(video_bytes(small, frames=180, fps=Fraction(1, 60), options={"crf": "30"}))


def sound_only(cover: bool) -> Maker:
    """Two seconds of silence, with a picture attached if asked."""

    def make(path: Path, picture: np.ndarray) -> None:
        with av.open(str(path), "w", format="mp4") as container:
            stream: Any = container.add_stream("aac", rate=8000, layout="mono")
            art: Any = container.add_stream("mjpeg") if cover else None
            if cover:
                art.height, art.width, art.pix_fmt = *picture.shape[:2], "yuvj420p"
                art.disposition = av.stream.Disposition.attached_pic
                frame = av.VideoFrame.from_ndarray(varied(picture, path.name), format="rgb24").reformat(format="yuvj420p")
                container.mux(art.encode(frame))
                container.mux(art.encode())
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            silence.rate = 8000
            container.mux(stream.encode(silence))
            container.mux(stream.encode())

    return make


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that claims this many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")


def resized_header(width: int, height: int) -> Maker:
    """A video in MJPEG whose only frames claim to be this large."""

    def make(path: Path, picture: np.ndarray) -> None:
        data = bytearray(video_bytes(varied(picture, path.name), "mjpeg", "yuvj420p", "avi"))
        at = data.find(b"\xff\xc0")
        while at >= 0:
            data[at + 5 : at + 9] = struct.pack(">HH", height, width)
            at = data.find(b"\xff\xc0", at + 1)
        start = data.index(b"strf") + 8
        data[start + 4 : start + 12] = struct.pack("<ii", width, height)
        path.write_bytes(data)

    return make


def zipped(path: Path, picture: np.ndarray) -> None:
    """An archive in an archive, with a photo inside."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("face.jpg", jpeg(picture))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())


def tarred(path: Path, picture: np.ndarray) -> None:
    """A packed tar with a photo inside."""
    data = jpeg(picture)
    entry = tarfile.TarInfo("face.jpg")
    entry.size = len(data)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(entry, io.BytesIO(data))


def link(to: str) -> Maker:
    """A symbolic link."""
    return lambda path, picture: os.symlink(to, path)


def hard_link(to: str) -> Maker:
    """A second name of the same file, which must be there already."""
    return lambda path, picture: os.link(path.parent / to, path)


def fifo(path: Path, picture: np.ndarray) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(path)


def listening(path: Path, picture: np.ndarray) -> None:
    """A socket's name; the socket itself is gone."""
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def locked(path: Path, picture: np.ndarray) -> None:
    """A good photo that may not be read."""
    path.write_bytes(jpeg(varied(picture, path.name)))
    path.chmod(0)


def locked_folder(path: Path, picture: np.ndarray) -> None:
    """A folder that may not be entered."""
    path.mkdir()
    path.chmod(0)


def many_tracks(path: Path, picture: np.ndarray) -> None:
    """Sound before the picture, and both begin two seconds late."""
    path.write_bytes(video_bytes(varied(picture, path.name), sound=True, first=12, form="mkv"))


def joined(path: Path, picture: np.ndarray) -> None:
    """A recording whose sound comes and goes."""
    parts = [video_bytes(varied(picture, f"{path.name} {number}"), form="ts", frames=frames, sound=number == 1) for number, frames in enumerate((240, 24, 240))]
    path.write_bytes(b"".join(parts))


def as_nobody_special() -> None:
    """To run in a child before it starts: root loses the right to read what it may not (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    import ctypes

    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):
            if libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "cannot drop a capability")


def run(words: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    """A command without root's rights over files."""
    return subprocess.run(words, capture_output=True, text=True, preexec_fn=as_nobody_special, **more)
