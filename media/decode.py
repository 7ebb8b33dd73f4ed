"""Pictures out of media files: frames of a video by time stamp (PyAV); photos through media/photos.py (OpenCV).

Files come from anywhere, so nothing about them is believed: the kind is told by the first bytes, durations and frame counts
are hints, only containers on a list are opened (no playlists that name other files or addresses), and whatever is wrong ends
as a MediaError whose `why` is one of the REASONS.
"""

import io
import math
import os
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.format import Flags
from av.sidedata.sidedata import Type as SideData

from media.limits import MAX_PIXELS
from media.matrices import as_rgb
from media.photos import NO_MEMORY, REASONS, Source, head_of, is_photo, media_error, photo_codec, read_image, turned
from media.transport import parts_of

__all__ = ["REASONS", "MediaInfo", "Source", "is_photo", "measured_seconds", "probe", "read_frames", "read_image", "shown_seconds"]

# no raw H.264 or H.265: their pictures have no time
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,asf,gif,ogg,m4v,mxf,rm,ivf,dv,apng,nut"
PROGRAM_STREAM = b"\0\0\1\xba"
MOVIE_MARKS = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"FLV"), (0, b"OggS"), (0, PROGRAM_STREAM),
    (0, b"0&\xb2u"), (0, b"GIF8"),
)  # fmt: skip
SEEK_GAIN_SECONDS = 0.5  # decoding so much is cheaper than a seek
NEAR_SECONDS = 0.25  # where packets do not tell surely when pictures are shown, one that begins so long before a wanted time may be the one
FALL_SECONDS, LEAP_SECONDS = 0.1, 10.0  # of decoding time, beyond which a clock is taken to start anew, as FFmpeg's own program takes it
REORDER = 16  # pictures that come before others in a file and are shown after them, at most (H.264 table A-1, H.265 A.4.2)
HELD = 8  # pictures that are held back until those after them have told whether their time stamps are true; as many as a browser holds, about
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_streams": "64"}
WITHIN = OPTIONS | {"protocol_whitelist": "file,subfile"}
STAMPED = ("mov", "matroska")  # containers that say of every packet when its picture is shown
IN_PICTURES = ("mpeg", "mpegts", "mpegvideo")  # containers that leave it to the pictures how wide a pixel is, which may change on the way
DECODED = ("avi", "asf", "mxf")  # containers that say when a picture is decoded, not when it is shown
THREADS = 2
HEADER_SLACK = 0.1  # a header that says so much more than the length of its packets is not believed, nor LOST_SECONDS more where these are STAMPED
LOST_SECONDS = 0.2  # nor one that says so much less
LONGEST_SECONDS = 366 * 86400.0  # of a video; a time stamp of 64 bits may say more than the integers that count its windows
LONGEST_PIXEL = 8.0  # times as long as wide or wide as long; anamorphic film has 2
NEARLY_SQUARE = 0.02  # 14720:14719 comes of a size that was rounded, and scaling would take traces of a forgery away
LACK = (MemoryError, BlockingIOError)  # the second: no thread is to be had
TIME_SLACK_SECONDS = 0.002  # containers round time stamps to 1 ms


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a file says about itself. Width and height are of the upright picture with square pixels; a duration or count that is not known is 0."""

    kind: str  # video | image
    width: int
    height: int
    duration_seconds: float
    fps: float  # average
    frames: int
    codec: str
    begins_seconds: float = 0.0  # of the first picture, as a player counts: where sound comes first, from its beginning


@dataclass(frozen=True, slots=True)
class _Picture:
    """A decoded frame, and what its stream says beside it."""

    frame: Any
    codec: str
    pixel: float  # its width over its height


def probe(source: Source) -> MediaInfo:
    """What `source` is, without decoding all of it. Raises MediaError."""
    if is_photo(source):
        height, width = read_image(source).shape[:2]
        return MediaInfo("image", width, height, 0.0, 0.0, 1, photo_codec(head_of(source)))
    with _opened(source) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        pictures = _decoded(source, container, stream)
        first = next(pictures, None)
        if first is None:
            raise media_error(source, "truncated or corrupt")
        if container.format.name == "gif" and next(pictures, None) is None:
            height, width = read_image(source).shape[:2]  # which is what everybody reads then, and refuses one that was cut short
            return MediaInfo("image", width, height, 0.0, 0.0, 1, "gif")
        width, height = _square_size(first)
        if _turns(first.frame)[1] % 2:
            width, height = height, width
        duration = (_may_start_anew(container) and measured_seconds(source)) or _duration(container, stream) or measured_seconds(source)
        count = stream.frames or (round(duration * fps) if duration and fps else 0)
        return MediaInfo("video", width, height, duration, fps, count, stream.codec_context.name, _begins_seconds(first.frame, container))


def read_frames(source: Source, times_seconds: Sequence[float]) -> Iterator[tuple[float, np.ndarray]]:
    """The picture that a player would show at each of the times, in order: (asked time, RGB uint8 [H, W, 3]).

    Times count from the first frame and must not fall. A time after the end gives nothing. Two times within one frame give the
    same array object twice, so that a caller can spare its work; do not write into it. Raises MediaError when nothing at all decodes.
    """
    times = [float(time) for time in times_seconds]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise ValueError("times_seconds must not fall")
    if not times:
        return
    with _opened(source) as (container, stream):
        yield from _at_times(source, container, stream, times)


def measured_seconds(source: Source) -> float:
    """How long a video really is, by reading all of it without decoding; for files whose header lies. Raises MediaError."""
    with _opened(source) as (container, stream):
        return _packet_seconds(source, container, stream)


def shown_seconds(source: Source, info: MediaInfo) -> float:
    """How long a video is shown, from its first picture: what its header says, where its packets tell nothing else. Raises MediaError.

    Headers lie, and that of a Matroska file counts from time 0, however late the first picture comes, and to the end of a longer sound.
    More than LONGEST_SECONDS is believed of neither.
    """
    claimed = info.duration_seconds
    with _opened(source) as (container, stream):
        measured, slack = _packet_seconds(source, container, stream), HEADER_SLACK * claimed
        if container.format.name.startswith(STAMPED):  # the packets of others tell a few pictures less
            slack = min(slack, LOST_SECONDS)
    told = measured if measured > claimed + LOST_SECONDS or 0 < measured < claimed - slack else claimed
    return min(told, LONGEST_SECONDS)


def _at_times(source: Source, container: Any, stream: Any, times: list[float]) -> Iterator[tuple[float, np.ndarray]]:
    origin: float | None = None
    stamped = container.format.name.startswith(STAMPED)

    def far(packet: Any, following: int | None) -> bool:
        if origin is None or packet.pts is None or not packet.duration:
            return False
        start = float(packet.pts * packet.time_base) - origin
        if stamped:
            end = float(following * packet.time_base) - origin if following is not None else math.inf
        else:
            end = start + float(packet.duration * packet.time_base) + NEAR_SECONDS
        nearest = bisect_left(times, start - 2 * TIME_SLACK_SECONDS)
        return nearest == len(times) or times[nearest] > end

    pictures = _in_order(_decoded(source, container, stream, far))
    following = next(pictures, None)
    if following is None:
        raise media_error(source, "truncated or corrupt")
    origin = _seconds(following.frame, 0.0)  # headers name another start now and then (H.264 in AVI: one frame early)
    held, shown, place = None, None, 0.0
    turns: dict[int, tuple[bool, int]] = {}
    for time in times:
        limit = time + TIME_SLACK_SECONDS
        if not _may_start_anew(container) and (target := _worth_a_seek(stream, origin, place, limit)) is not None:
            pictures, held, shown = _sought(source, container, stream, target, far), None, None
            following = next(pictures, None)
            if following is None or _seconds(following.frame, origin) > limit:  # a wrong index: go through the file in order
                container.seek(0, stream=stream)
                pictures, following = _in_order(_decoded(source, container, stream, far)), None
        while True:
            if following is None:
                following = next(pictures, None)
            if following is None or (held is not None and _seconds(following.frame, origin) > limit):
                break
            held, shown, following = following, None, None
            place = _seconds(held.frame, origin)
        if held is None:
            break
        if following is None and time >= place + max(_frame_seconds(held.frame, stream), 2 * TIME_SLACK_SECONDS) - TIME_SLACK_SECONDS:
            break  # after the end, and so are all later times
        if shown is None:
            shown = _upright(held, turns)
        yield time, shown


@contextmanager
def _opened(source: Source) -> Iterator[tuple[Any, Any]]:
    head = head_of(source)
    if not head:
        raise media_error(source, "empty file")
    known = any(head[at : at + len(mark)] == mark for at, mark in MOVIE_MARKS)
    target: Any = io.BytesIO(source) if isinstance(source, bytes) else _address(source)
    certain = "mpeg" if head.startswith(PROGRAM_STREAM) else None  # whose content tells FFmpeg less than a name of a photo does
    try:
        container = av.open(target, format=certain, container_options=OPTIONS, metadata_errors="replace")
    except LACK as problem:
        raise media_error(source, NO_MEMORY) from problem
    except (OSError, ValueError, av.error.FFmpegError) as problem:
        raise media_error(source, "truncated or corrupt" if known else "not a media file") from problem
    with container:
        streams = [one for one in container.streams.video if not _is_cover(one)]
        stream = next((one for one in streams if one.disposition & av.stream.Disposition.default), streams[0] if streams else None)  # as a player does
        if stream is None or stream.codec_context is None:
            raise media_error(source, "no video stream" if known or container.streams.audio else "not a media file")
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise media_error(source, "picture too large")
        stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        try:
            yield container, stream
        except LACK as problem:
            raise media_error(source, NO_MEMORY) from problem
        except av.error.FFmpegError as problem:
            raise media_error(source, "truncated or corrupt") from problem


def _address(source: Path) -> str:
    return f"file:{os.fspath(Path(source).absolute())}"


def _parts(source: Source, container: Any, stream: Any) -> Iterator[tuple[Any, Any]]:
    """The container with its stream; where the pictures of a transport stream go on under another PID, each part of it, opened as a file of its own.

    Of a stream that a file does not begin with PyAV gives nothing, and FFmpeg can join streams of one codec only. A part that does not open is passed over.
    """
    parts = parts_of(source) if container.format.name == "mpegts" else []
    if len(parts) < 2 and all(part.pid == stream.id for part in parts):
        yield container, stream
        return
    for part in parts:
        within = f"subfile,,start,{part.begin},end,{part.end or 0},,:"  # 0: to the end
        target: Any = io.BytesIO(source[part.begin : part.end]) if isinstance(source, bytes) else within + _address(source)
        try:
            opened = av.open(target, format=container.format.name, container_options=WITHIN, metadata_errors="replace")
        except LACK:
            raise
        except (OSError, ValueError, av.error.FFmpegError):
            continue
        with opened:
            found = next((one for one in opened.streams.video if one.id == part.pid and one.codec_context), None)
            if found:
                found.thread_type, found.codec_context.thread_count = "AUTO", THREADS
                yield opened, found


def _decoded(source: Source, container: Any, stream: Any, far: Callable[[Any, int | None], bool] | None = None, begins: int | None = 0) -> Iterator[_Picture]:
    """Pictures from where the container stands to the end, passing over what is damaged, however much it is.

    A packet that is `far` from every wanted time (asked with the packet and the time stamp of the picture after it) is decoded only
    where other frames are built on it. `begins` is the time stamp of the first frame where the end alone brings it out: None, not known, after a seek.
    """
    late, shown, lack = _Late(begins), False, None
    in_decoding_order = container.format.name in DECODED  # what is left out would shift the rest
    in_pictures = container.format.name in IN_PICTURES
    far = None if in_decoding_order else far
    for part, packets in _packets(source, container, stream):
        codec, pixel = part.codec_context.name, float(part.sample_aspect_ratio or 1)
        for packet, following in _with_following(packets) if far else ((packet, None) for packet in packets):
            late.goes_in(packet.dts)
            try:
                part.codec_context.skip_frame = "NONREF" if far and far(packet, following) else "DEFAULT"
                for frame in packet.decode():
                    if in_decoding_order:
                        frame.pts = late.stamp(frame.dts)
                    if in_pictures:  # as the decoder has it by now: at a change, the two or three that it still held are given that of the next ones
                        pixel = float(part.codec_context.sample_aspect_ratio or 1)
                    if frame.pts is not None and frame.width * frame.height <= MAX_PIXELS:  # a stream may grow behind its header
                        shown = True
                        yield _Picture(frame, codec, pixel)
            except LACK as problem:
                lack = problem
            except (OSError, ValueError, av.error.FFmpegError):
                continue
    if lack and not shown:  # a damaged packet may ask for too much, too, but not each of them
        raise lack


def _in_order(pictures: Iterator[_Picture]) -> Iterator[_Picture]:
    """Pictures by their time stamps, as far as the HELD that follow each tell; one that is stamped far ahead would stand for all that come after it.

    What comes too late for its time is left out, and of those that others went past, where there are more than HELD, the one that is furthest
    ahead. Of large pictures fewer are held, for the memory's sake. Decoders give pictures in order: of a sound file nothing changes.
    """
    held: list[tuple[int, int, _Picture]] = []
    shown, newest = -math.inf, -1
    for number, picture in enumerate(pictures):
        frame = picture.frame
        if frame.pts < shown:
            continue
        insort(held, (frame.pts, number, picture))
        most = max(1, min(HELD, MAX_PIXELS // (frame.width * frame.height)))
        while sum(one[1] > newest for one in held) > most:
            shown, at, first = held.pop(0)
            newest = max(newest, at)
            yield first
        passed = [one for one in held if one[1] < newest]
        if len(passed) > most:
            held.remove(passed[-1])
    yield from (picture for _, _, picture in held)


class _Late:
    """Steady time stamps of pictures as they leave the decoder: of the packet that brought each out; at the end, where none did, a packet further each."""

    def __init__(self, begins: int | None) -> None:
        self._begins = begins
        self._last: int | None = None
        self._packet: int | None = None
        self._step = 1

    def goes_in(self, dts: int | None) -> None:
        if dts is not None and self._packet is not None:
            self._step = max(1, dts - self._packet)
        self._packet = dts

    def stamp(self, dts: int | None) -> int | None:
        if dts is None:
            dts = self._begins if self._last is None else self._last + self._step
        self._last = dts
        return dts


def _packets(source: Source, container: Any, stream: Any) -> Iterator[tuple[Any, Iterator[Any]]]:
    """What the file holds, from where the container stands to the end, or to where all is lost; by one clock. For each part its stream and its packets."""
    clock = _Clock() if _may_start_anew(container) else None
    for part, found in _parts(source, container, stream):
        yield found, _packets_of(part, found, clock)


def _packets_of(container: Any, stream: Any, clock: "_Clock | None") -> Iterator[Any]:
    try:
        for packet in container.demux(stream):
            if clock:
                clock.set(packet)
            yield packet
    except (OSError, IndexError, av.error.FFmpegError):  # the second: after the last packet, where a stream came that the file did not begin with
        return


def _may_start_anew(container: Any) -> bool:
    """Whether its kind of container (MPEG transport and program streams, Ogg) may be joined byte by byte, each part with times of its own."""
    return bool(container.format.flags & Flags.ts_discont.value)


class _Clock:
    """One clock for all packets: where decoding time falls or leaps, it goes on from the packet before, and so does all that follows."""

    def __init__(self) -> None:
        self._last: Any = None
        self._ahead = 0

    def set(self, packet: Any) -> None:
        if packet.dts is not None:
            last, packet.dts = self._last, packet.dts + self._ahead
            if last is not None and not -FALL_SECONDS <= (packet.dts - last.dts) * packet.time_base <= LEAP_SECONDS:
                change = last.dts + (last.duration or 0) - packet.dts
                self._ahead, packet.dts = self._ahead + change, packet.dts + change
            self._last = packet
        if packet.pts is not None:
            packet.pts += self._ahead


def _with_following(packets: Iterator[Any]) -> Iterator[tuple[Any, int | None]]:
    """Each packet with the time stamp at which its picture gives way to the next one, as far as REORDER packets to either side tell: never too early."""
    waiting: deque[Any] = deque()
    stamps: deque[int] = deque(maxlen=3 * REORDER)

    def first() -> tuple[Any, int | None]:
        packet = waiting.popleft()
        return packet, None if packet.pts is None else min((stamp for stamp in stamps if stamp > packet.pts), default=None)

    for packet in packets:
        waiting.append(packet)
        if packet.pts is not None:
            stamps.append(packet.pts)
        if len(waiting) > REORDER:
            yield first()
    while waiting:
        yield first()


def _sought(source: Source, container: Any, stream: Any, target: int, far: Callable[[Any, int | None], bool]) -> Iterator[_Picture]:
    try:
        container.seek(target, stream=stream, backward=True)
    except (OSError, av.error.FFmpegError):
        return iter(())
    return _in_order(_decoded(source, container, stream, far, None))


def _worth_a_seek(stream: Any, origin: float, place: float, limit: float) -> int | None:
    """The time stamp to seek to when a key frame lies well after `place` and not after `limit`, by the container's own index.

    That is the wanted time, not the key frame's: the index counts in decoding time, which runs before presentation time, and MP4
    seeks in the latter: asked for the former, it goes one key frame further back.
    """
    if limit - place < SEEK_GAIN_SECONDS:
        return None
    wanted = math.floor((limit + origin) / stream.time_base)
    entries = stream.index_entries
    at = entries.search_timestamp(wanted) if len(entries) else -1
    if at < 0 or float(entries[at].timestamp * stream.time_base) - origin < place + SEEK_GAIN_SECONDS:
        return None
    return wanted


def _upright(picture: _Picture, turns: dict[int, tuple[bool, int]]) -> np.ndarray:
    """The picture as a player shows it. `turns` keeps what was told of others with its rotation: in PyAV a frame asked for its side data stays in memory."""
    frame = picture.frame
    if frame.rotation not in turns:
        turns[frame.rotation] = _turns(frame)
    width, height = _square_size(picture)
    woven = frame.interlaced_frame and picture.codec != "hevc"  # whose frames are one field each
    shown = _upper_field(frame) if woven else frame
    return turned(as_rgb(shown, width, height), *turns[frame.rotation])


def _upper_field(frame: Any) -> Any:
    """Every second row of an interlaced frame with its own colours: those between are of another moment, and both in one picture are a comb."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("field", "top"), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()


def _square_size(picture: _Picture) -> tuple[int, int]:
    """Width and height with square pixels: the side along which pixels are longer grows, within MAX_PIXELS. Pixels that are nearly square are left alone."""
    frame, longer = picture.frame, min(max(picture.pixel, 1 / LONGEST_PIXEL), LONGEST_PIXEL)
    if abs(longer - 1) < NEARLY_SQUARE:
        return frame.width, frame.height
    width, height = frame.width * max(1.0, longer), frame.height * max(1.0, 1 / longer)
    fits = min(1.0, math.sqrt(MAX_PIXELS / (width * height)))
    return max(1, int(width * fits + 0.5)), max(1, int(height * fits + 0.5))


def _turns(frame: Any) -> tuple[bool, int]:
    """How a frame comes upright: whether left and right are exchanged, and then how many quarter turns anticlockwise."""
    try:
        matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # beside something that PyAV has no name for
        return False, round(frame.rotation / 90) % 4
    if matrix is None:
        return False, 0
    a, b, _, c, d = (float(number) for number in np.frombuffer(matrix, np.int32)[:5])  # x' = a x + c y, y' = b x + d y
    mirrored = a * d - b * c < 0
    return mirrored, round(-math.degrees(math.atan2(-b, -a) if mirrored else math.atan2(b, a)) / 90) % 4


def _seconds(frame: Any, origin: float) -> float:
    return float(frame.pts * frame.time_base) - origin


def _begins_seconds(first: Any, container: Any) -> float:
    """See MediaInfo. 0 where the container does not say when its first picture is shown."""
    if container.format.name in DECODED:
        return 0.0
    return max(0.0, _seconds(first, max(0.0, (container.start_time or 0) / av.time_base)))


def _frame_seconds(frame: Any, stream: Any) -> float:
    if frame.duration:
        return float(frame.duration * frame.time_base)
    return 1 / float(stream.average_rate or stream.guessed_rate or 25)


def _duration(container: Any, stream: Any) -> float:
    """As the header says; 0 where it does not. The packets would not tell here: the decoder has taken the first of them."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float((container.duration or 0) / av.time_base)


def _packet_seconds(source: Source, container: Any, stream: Any) -> float:
    """From the first picture to the end of the last, read without decoding.

    Which these are is told by the first and the last of the file, and beyond them by no fewer than the REORDER + 1 that reach furthest:
    a few false time stamps in between make it no longer, and any at the end shorter by a few pictures at most.
    """
    starts, ends = array("d"), array("d")
    in_decoding_order = container.format.name in DECODED  # where a time stamp beside that is FFmpeg's guess, in H.264 the next packet's
    for packet in (one for _, packets in _packets(source, container, stream) for one in packets):
        stamp = packet.dts if in_decoding_order else packet.pts
        if stamp is not None and not packet.is_discard:  # what an edit list leaves out is not shown
            starts.append(float(stamp * packet.time_base))
            ends.append(float((stamp + (packet.duration or 0)) * packet.time_base))
    if not starts:
        return 0.0
    few = min(len(starts), REORDER + 1)
    leap = max(LEAP_SECONDS, few * float(np.median(np.diff(np.sort(starts))))) if few > 1 else LEAP_SECONDS  # pictures may stand long, each of them
    last = []
    for at in range(len(starts) - few, len(starts)):
        reordered = min(starts[at:]) < starts[at]  # then its packet says when the next one is decoded, not how long it is shown
        end = starts[at] + ends[-1] - starts[-1] if reordered else ends[at]
        if end <= min(ends[at:]) + leap:
            last.append(end)
    low = min(min(starts[:few]), sorted(starts)[few - 1])
    high = max(max(last), sorted(ends)[-few])
    return max(0.0, high - low)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
