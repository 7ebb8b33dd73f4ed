"""What photos hold beside their pixels: the parts of a PNG, JPEG, WebP or TIFF, and the colour profile that lies in one of them, as bytes.

Nothing is believed: a part may claim to go on beyond its file, and what is not understood counts as not there.
"""

import struct
import zlib
from collections.abc import Iterator

from media import avif

EXIF_NAME = b"Exif\0\0"
PROFILE_NAME = b"ICC_PROFILE\0"  # in a JPEG; then which segment of how many, for none holds more than 64 KiB (ICC.1, B.4)
TIFF_PROFILE = 0x8773
JPEG_DATA = 0xDA  # coded pixels follow
JPEG_EXIF, JPEG_PROFILE = 0xE1, 0xE2
JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # marks that state the size

Part = tuple[int, int]  # from, to: bytes of the file


def profile_of(content: bytes, most_bytes: int) -> bytes:
    """The ICC profile of a photo; empty where there is none, one of more than `most_bytes`, or a kind of file in which none is looked for."""
    if content[:2] == b"\xff\xd8":
        found = _profile_of_jpeg(content)
    elif content[:4] == b"\x89PNG":
        found = next((_unpacked(content[begin:end], most_bytes) for kind, begin, end in png_parts(content) if kind == b"iCCP"), b"")
    elif content[:4] == b"RIFF":
        found = next((content[begin:end] for kind, begin, end in _webp_parts(content) if kind == b"ICCP"), b"")
    elif content[:2] in (b"II", b"MM"):
        length, begin = next(_tiff_entries(content, TIFF_PROFILE, "I"), (0, 0))
        found = content[begin : begin + length]
    else:
        found = avif.profile_of(content) if content[4:8] == b"ftyp" else b""
    return found if len(found) <= most_bytes else b""


def jpeg_parts(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Mark, begin and end of what each segment of a JPEG holds, up to its coded pixels."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != JPEG_DATA:
        if content[at + 1] == 0xFF:  # may stand before any mark
            at += 1
        else:
            end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
            yield content[at + 1], at + 4, end
            at = end


def size_of_jpeg(content: bytes) -> tuple[int, int, int]:
    """Height, width and colours of a JPEG as its header says; zeros where it does not."""
    begin = next((begin for mark, begin, _ in jpeg_parts(content) if mark in JPEG_SIZES), len(content))
    return struct.unpack_from(">HHB", content, begin + 1) if begin + 6 <= len(content) else (0, 0, 0)


def exif_of_jpeg(content: bytes) -> bytes:
    """The EXIF entry of a JPEG; empty where there is none."""
    return next((content[begin:end] for mark, begin, end in jpeg_parts(content) if mark == JPEG_EXIF and content.startswith(EXIF_NAME, begin)), b"")


def png_parts(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of what each chunk of a PNG holds, up to its end mark; the last one may claim to go on beyond the file."""
    at, kind = 8, b""
    while at + 8 <= len(content) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, at + 8, at + 8 + length
        at += 12 + length


def tiff_value(tiff: bytes, wanted: int) -> int:
    """The small number that a TIFF has under this tag, or an EXIF entry, which is built like one; 0 where it has none."""
    return next(_tiff_entries(tiff, wanted, "H"), (0, 0))[1]


def _tiff_entries(tiff: bytes, wanted: int, form: str) -> Iterator[tuple[int, int]]:
    """How many values there are under this tag, and the value that stands there, or where they begin if they are many."""
    order = ">" if tiff[:2] == b"MM" else "<"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (rows,) = struct.unpack_from(f"{order}H", tiff, start)
        for number in range(rows):
            tag, _, count, value = struct.unpack_from(f"{order}HHI{form}", tiff, start + 2 + 12 * number)
            if tag == wanted:
                yield count, value
    except struct.error:
        return


def _profile_of_jpeg(content: bytes) -> bytes:
    """Put together of its segments, which may come in any order; empty where one is missing."""
    segments, count = {}, 0
    for mark, begin, end in jpeg_parts(content):
        start = begin + len(PROFILE_NAME) + 2
        if mark == JPEG_PROFILE and content.startswith(PROFILE_NAME, begin) and start <= end <= len(content):
            count = content[start - 1]
            segments[content[start - 2]] = content[start:end]
    return b"".join(segments[number] for number in range(1, count + 1)) if segments.keys() == set(range(1, count + 1)) else b""


def _unpacked(chunk: bytes, most_bytes: int) -> bytes:
    """The profile in a chunk of a PNG, behind its name and how it is packed; one byte more than `most_bytes` where it goes on."""
    _, _, packed = chunk.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(packed[1:], most_bytes + 1)
    except zlib.error:
        return b""


def _webp_parts(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of what each chunk of a WebP holds."""
    at = 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        yield kind, at + 8, at + 8 + length
        at += 8 + length + length % 2
