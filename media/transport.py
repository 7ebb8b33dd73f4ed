"""Parts of a transport stream that was joined byte by byte, where the pictures of one have another PID than those before (ISO/IEC 13818-1, 2.4.3).

FFmpeg makes a stream of each, of which a player shows the first. Nothing is decoded here, and packets may have 188 bytes, 192 or 204.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from media.photos import Source

PICTURE = re.compile(rb"\x47[\x40-\x5f].[\x10-\x1f\x30-\x3f]", re.DOTALL)  # the head of a packet in which a new unit begins, with a content and not scrambled
PACKET = 188
AT_ONCE = 1 << 22  # bytes
FEWEST = 12  # pictures in a row that make a part; of programs that are broadcast together, pictures take turns


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file that hold the pictures of one PID, and a few packets of others beside."""

    pid: int
    begin: int
    end: int | None  # None: of the file


@dataclass(slots=True)
class _Run:
    pid: int
    first: int  # where its first picture begins, and its last
    last: int
    pictures: int = 1


def parts_of(source: Source) -> list[Part]:
    """The parts in their order; where programs were broadcast together, none, and where nothing was joined no more than one."""
    runs: list[_Run] = []
    for pid, at in _pictures(source):
        if runs and runs[-1].pid == pid:
            runs[-1].last, runs[-1].pictures = at, runs[-1].pictures + 1
        else:
            runs.append(_Run(pid, at, at))
    kept: list[_Run] = []
    for run in runs:
        if run.pictures >= FEWEST and kept and kept[-1].pid == run.pid:
            kept[-1].last = run.last
        elif run.pictures >= FEWEST:
            kept.append(run)
    begins = [0, *(run.last for run in kept)]  # the tables that a part begins with lie somewhere between
    ends = [*(run.first for run in kept[1:]), None]
    return [Part(run.pid, begin, end) for run, begin, end in zip(kept, begins, ends, strict=False)]


def _pictures(source: Source) -> Iterator[tuple[int, int]]:
    """PID and place of each packet in which a picture begins, as far as the file can be read."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as handle:
            rest, start = b"", 0
            while piece := handle.read(AT_ONCE):
                content = rest + piece
                whole = max(0, len(content) - 2 * PACKET)  # so many packets may begin here and be looked into
                for head in PICTURE.finditer(content, 0, whole + 3):
                    at = head.start()
                    body = at + 4 + (1 + content[at + 4] if content[at + 3] & 0x20 else 0)
                    if body < at + PACKET and content[body : body + 3] == b"\0\0\1" and content[body + 3] >> 4 == 0xE:  # of video
                        yield (content[at + 1] & 0x1F) << 8 | content[at + 2], start + at
                rest, start = content[whole:], start + whole
    except OSError:
        return
