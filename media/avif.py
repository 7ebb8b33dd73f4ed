"""What the boxes of an AVIF say and OpenCV does not (ISO/IEC 23008-12): turns and mirrors of its picture, its depth (6.5.10, 6.5.12 and 6.5.6), its profile."""

import struct
from collections.abc import Iterator

import numpy as np

Span = tuple[int, int]  # from, to: bytes of the file
PLACES = {b"irot": 0, b"imir": 0, b"pixi": 5}  # of the value in the box; of several channels the first one's bits
PROFILES = (b"prof", b"rICC")  # kinds of `colr`, of which others name colours by numbers (ISO/IEC 14496-12, 12.1.5)
LARGEST = 1 << 16  # bytes of a table of associations that is looked at; of one picture with its alpha it has a few dozen


def as_shown(picture: np.ndarray, content: bytes) -> np.ndarray:
    """The picture of the AVIF `content`, turned and mirrored as its boxes say. What is not understood changes nothing."""
    for kind, value in _marks(content):
        if kind == b"irot":
            picture = np.rot90(picture, value & 3)  # anticlockwise
        elif kind == b"imir":
            picture = np.flip(picture, value & 1)  # along that axis
    return np.ascontiguousarray(picture)


def depth_of(content: bytes) -> int | None:
    """Bits of a colour of the AVIF `content`, or None where it does not say."""
    return next((value for kind, value in _marks(content) if kind == b"pixi" and value), None)


def profile_of(content: bytes) -> bytes:
    """The ICC profile of the AVIF `content`; empty where it has none."""
    spans = [span for kind, span in _properties(content) if kind == b"colr"]
    return next((content[at + 4 : end] for at, end in spans if content[at : at + 4] in PROFILES), b"")


def _marks(content: bytes) -> list[tuple[bytes, int]]:
    """`irot`, `imir` and `pixi` of the primary picture with their values, in the order in which they apply; none where that is not understood."""
    try:
        return [(kind, content[at + PLACES[kind]]) for kind, (at, _) in _properties(content) if kind in PLACES]
    except IndexError:
        return []


def _properties(content: bytes) -> list[tuple[bytes, Span]]:
    """The boxes that describe the primary picture, in the order in which they apply; none where that is not understood."""
    try:
        return list(_properties_in(content))
    except (KeyError, IndexError, struct.error):
        return []


def _properties_in(content: bytes) -> Iterator[tuple[bytes, Span]]:
    start, end = dict(_boxes(content, (0, len(content))))[b"meta"]
    meta = dict(_boxes(content, (start + 4, end)))
    at, _ = meta[b"pitm"]
    (primary,) = struct.unpack_from(">I" if content[at] else ">H", content, at + 4)
    boxes = dict(_boxes(content, meta[b"iprp"]))
    properties = list(_boxes(content, boxes[b"ipco"]))
    for number in _numbers_of(primary, content[slice(*boxes[b"ipma"])][:LARGEST]):
        if number:
            yield properties[number - 1]


def _numbers_of(item: int, table: bytes) -> Iterator[int]:
    """The numbers, from 1 on, of an item's properties, in the order in which they apply."""
    version, wide, at = table[0], table[3] & 1, 8
    for _ in range(*struct.unpack_from(">I", table, 4)):
        (name,) = struct.unpack_from(">I" if version else ">H", table, at)
        count, at = table[at + (4 if version else 2)], at + (5 if version else 3)
        if name == item:
            yield from ((number & 0x7FFF) if wide else (number & 0x7F) for number in struct.unpack_from(f">{count}{'H' if wide else 'B'}", table, at))
            return
        at += count * (1 + wide)


def _boxes(content: bytes, span: Span) -> Iterator[tuple[bytes, Span]]:
    """The boxes within a span: kind, and where its content lies."""
    at, end = span
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, at)
        body = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, body)
            body += 8
        size = size or end - at
        if not body - at <= size <= end - at:
            return
        yield kind, (body, at + size)
        at += size
