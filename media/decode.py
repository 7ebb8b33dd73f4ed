"""Pictures out of media files: frames of a video by time stamp (PyAV), photos upright and as 8-bit RGB (OpenCV).

Files come from anywhere, so nothing about them is believed: the kind is told by the first bytes, durations and frame counts
are hints, only containers on a list are opened (no playlists that name other files or addresses), and whatever is wrong ends
as a MediaError whose `why` is one of the REASONS.
"""

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from workspace.errors import MediaError

Source = Path | bytes
REASONS = ("file not found", "empty file", "not a media file", "truncated or corrupt", "no video stream", "picture too large")
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,asf,gif,ogg,h264,hevc,m4v,mxf,rm,ivf,dv,apng,nut"
MOVIE_MARKS = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1aE\xdf\xa3"), (0, b"RIFF"), (0, b"FLV"), (0, b"OggS"), (0, b"\0\0\1\xba"), (0, b"0&\xb2u"), (0, b"GIF8"))
PHOTO_MARKS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
PHOTO_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
MAX_PIXELS = 1 << 26             # 8192 x 8192; a larger picture is a mistake or an attack
MAX_BAD_PACKETS = 100            # after so many in a row the rest of the file is taken as lost
SEEK_GAIN_SECONDS = 0.5          # decoding so much is cheaper than a seek
THREADS = 2
TIME_SLACK_SECONDS = 0.002       # containers round time stamps to 1 ms


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a file says about itself. Width and height are of the upright picture; a duration or count that is not known is 0."""

    kind: str                    # video | image
    width: int
    height: int
    duration_seconds: float
    fps: float                   # average
    frames: int
    codec: str


def probe(source: Source) -> MediaInfo:
    """What `source` is, without decoding all of it. Raises MediaError."""
    if is_photo(source):
        height, width = read_image(source).shape[:2]
        return MediaInfo("image", width, height, 0.0, 0.0, 1, _photo_codec(_head(source)))
    with _opened(source) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        frame = next(_decoded(container, stream), None)
        if frame is None:
            raise _error(source, "truncated or corrupt")
        width, height = frame.width, frame.height
        if round(frame.rotation / 90) % 2:
            width, height = height, width
        duration = _duration(container, stream)
        count = stream.frames or (round(duration * fps) if duration and fps else 0)
        return MediaInfo("video", width, height, duration, fps, count, stream.codec_context.name)


def read_frames(source: Source, times_seconds: Sequence[float]) -> Iterator[tuple[float, np.ndarray]]:
    """The picture that a player would show at each of the times, in order: (asked time, RGB uint8 [H, W, 3]).

    Times count from the first frame and must not fall. A time after the end gives nothing. Two times within one frame give the
    same array object twice, so that a caller can spare its work; do not write into it. Raises MediaError when nothing at all decodes.
    """
    times = [float(time) for time in times_seconds]
    if any(later < earlier for earlier, later in zip(times, times[1:], strict=False)):
        raise ValueError("times_seconds must not fall")
    if not times:
        return
    with _opened(source) as (container, stream):
        yield from _at_times(source, container, stream, times)


def _at_times(source: Source, container: Any, stream: Any, times: list[float]) -> Iterator[tuple[float, np.ndarray]]:
    frames = _decoded(container, stream)
    held, picture, place = None, None, 0.0
    following = next(frames, None)
    if following is None:
        raise _error(source, "truncated or corrupt")
    origin = _seconds(following, 0.0)            # headers name another start now and then (H.264 in AVI: one frame early)
    for time in times:
        limit = time + TIME_SLACK_SECONDS
        if (target := _worth_a_seek(stream, origin, place, limit)) is not None:
            frames, held, picture = _sought(container, stream, target), None, None
            following = next(frames, None)
            if following is None or _seconds(following, origin) > limit:      # a wrong index: go through the file in order
                container.seek(0, stream=stream)
                frames, following = _decoded(container, stream), None
        while True:
            if following is None:
                following = next(frames, None)
            if following is None or (held is not None and _seconds(following, origin) > limit):
                break
            held, picture, following = following, None, None
            place = _seconds(held, origin)
        if held is None:
            break
        if following is None and time >= place + _frame_seconds(held, stream) - TIME_SLACK_SECONDS:
            break                                                             # after the end, and so are all later times
        if picture is None:
            picture = _upright(held)
        yield time, picture


def read_image(source: Source) -> np.ndarray:
    """A photo as RGB uint8 [H, W, 3], turned upright by its EXIF entry; 16-bit is scaled, transparency laid over grey. Raises MediaError."""
    content = source if isinstance(source, bytes) else _content(source)
    if not content:
        raise _error(source, "empty file")
    if content[:3] == b"\xff\xd8\xff" and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        raise _error(source, "truncated or corrupt")             # no end mark after the last scan: OpenCV would fill up with grey
    encoded = np.frombuffer(content, np.uint8)
    try:
        picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        if picture is not None and content[:4] in (b"\x89PNG", b"RIFF"):
            picture = _over_grey(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), picture)
    except cv2.error as problem:
        raise _error(source, "picture too large" if "pixels" in str(problem).lower() else "truncated or corrupt") from problem
    if picture is None:
        raise _error(source, "truncated or corrupt" if is_photo(source) else "not a media file")
    if picture.shape[0] * picture.shape[1] > MAX_PIXELS:
        raise _error(source, "picture too large")
    return np.ascontiguousarray(picture)


def is_photo(source: Source) -> bool:
    """Whether the first bytes are those of a photo; anything else is tried as a video. Raises MediaError for an empty or missing file."""
    head = _head(source)
    if not head:
        raise _error(source, "empty file")
    if head[4:8] == b"ftyp":
        return head[8:12] in PHOTO_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head.startswith(PHOTO_MARKS)


@contextmanager
def _opened(source: Source) -> Iterator[tuple[Any, Any]]:
    head = _head(source)
    if not head:
        raise _error(source, "empty file")
    known = any(head[at : at + len(mark)] == mark for at, mark in MOVIE_MARKS)
    target: Any = io.BytesIO(source) if isinstance(source, bytes) else f"file:{os.fspath(Path(source).absolute())}"
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_streams": "64"}
    try:
        container = av.open(target, container_options=options, metadata_errors="replace")
    except (OSError, ValueError, av.error.FFmpegError) as problem:
        raise _error(source, "truncated or corrupt" if known else "not a media file") from problem
    with container:
        stream = next((one for one in container.streams.video if not _is_cover(one)), None)
        if stream is None or stream.codec_context is None:
            raise _error(source, "no video stream" if known or container.streams.audio else "not a media file")
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise _error(source, "picture too large")
        stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        try:
            yield container, stream
        except av.error.FFmpegError as problem:
            raise _error(source, "truncated or corrupt") from problem


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames from where the container stands, passing over what is damaged; ends at the end, or where all is lost."""
    bad = 0
    packets = container.demux(stream)
    while bad < MAX_BAD_PACKETS:
        try:
            packet = next(packets)
        except (StopIteration, OSError, av.error.FFmpegError):
            return
        try:
            for frame in packet.decode():
                if frame.pts is not None:
                    bad = 0
                    yield frame
        except (OSError, ValueError, av.error.FFmpegError):
            bad += 1


def _sought(container: Any, stream: Any, target: int) -> Iterator[Any]:
    try:
        container.seek(target, stream=stream, backward=True)
    except (OSError, av.error.FFmpegError):
        return iter(())
    return _decoded(container, stream)


def _worth_a_seek(stream: Any, origin: float, place: float, limit: float) -> int | None:
    """The time stamp to seek to when a key frame lies well after `place` and not after `limit`, by the container's own index."""
    if limit - place < SEEK_GAIN_SECONDS:
        return None
    wanted = math.floor((limit + origin) / stream.time_base)
    entries = stream.index_entries
    at = entries.search_timestamp(wanted) if len(entries) else -1
    # index entries are in decoding time, which runs before presentation time: one key frame earlier is always safe enough
    if at < 0 or float(entries[at].timestamp * stream.time_base) - origin < place + SEEK_GAIN_SECONDS:
        return None
    return int(entries[at].timestamp)


def _upright(frame: Any) -> np.ndarray:
    picture = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4       # anticlockwise
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _seconds(frame: Any, origin: float) -> float:
    return float(frame.pts * frame.time_base) - origin


def _frame_seconds(frame: Any, stream: Any) -> float:
    if frame.duration:
        return float(frame.duration * frame.time_base)
    return 1 / float(stream.average_rate or stream.guessed_rate or 25)


def _start_seconds(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0


def _duration(container: Any, stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    last = 0.0                                   # no header says: read the packets, without decoding them
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    except (OSError, av.error.FFmpegError):
        pass
    return max(0.0, last - _start_seconds(stream))


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _over_grey(raw: np.ndarray | None, picture: np.ndarray) -> np.ndarray:
    if raw is None or raw.ndim != 3 or raw.shape[2] != 4 or raw.shape[:2] != picture.shape[:2]:
        return picture
    alpha = raw[:, :, 3:].astype(np.float32) / np.iinfo(raw.dtype).max
    return picture if alpha.min() == 1 else np.rint(picture * alpha + 127 * (1 - alpha)).astype(np.uint8)


def _photo_codec(head: bytes) -> str:
    names = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"BM": "bmp", b"II": "tiff", b"MM": "tiff", b"RI": "webp"}
    return names.get(head[:2], head[8:12].decode("ascii", "replace"))


def _head(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source[:16]
    try:
        with open(source, "rb") as handle:
            return handle.read(16)
    except OSError as problem:
        raise _error(source, "file not found") from problem


def _content(source: Path) -> bytes:
    try:
        return Path(source).read_bytes()
    except OSError as problem:
        raise _error(source, "file not found") from problem


def _error(source: Source, reason: str) -> MediaError:
    name = f"{len(source)} bytes of media" if isinstance(source, bytes) else Path(source).name
    return MediaError(f"Cannot read {name}.", why=reason, next_step="Replace the file, or leave it out; others are not affected.")
