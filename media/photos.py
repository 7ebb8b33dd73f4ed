"""Photos as pictures: upright, 8-bit sRGB, whatever the file holds; and the reasons why a media file cannot be read.

The kind of a file is told by its first bytes, never by its name. Shared by everything that opens media.
"""

import io
import os
import stat
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from media.avif import as_shown, depth_of
from media.colours import LARGEST, in_srgb, inks_in_srgb, space_of
from media.limits import MAX_PIXELS
from media.names import AVIF_BRANDS, HEIF_BRANDS, TIFF_MARKS, begins_as_photo
from media.parts import EXIF_NAME, exif_of_jpeg, png_parts, profile_of, size_of_jpeg, tiff_value
from workspace.errors import MediaError

Source = Path | bytes
HEIC = "HEIC is not read: save it as JPEG or PNG"
DEEP_TIFF = "TIFF of 32 bits is not read: save it with 8 or 16"
PACKED_TIFF = "TIFF in LZMA, Zstandard or WebP is not read: save it with LZW or Deflate"
UNREAD = "the file cannot be read"  # its disk fails, its name is too long
NO_MEMORY = "not enough memory or threads to read it"
REASONS = (
    "file not found", "no permission to read it", UNREAD, "a folder", "not a regular file", "empty file", "not a media file", "truncated or corrupt",
    "no video stream", "picture too large", NO_MEMORY, HEIC, DEEP_TIFF, PACKED_TIFF,
)  # fmt: skip
OPAQUE = (b"\xff\xd8", b"BM", b"II", b"MM")  # JPEG and bitmaps; a TIFF is laid over black by its library already
EXIF_ORIENTATION = 0x0112
TIFF_PACKING, UNREAD_PACKINGS = 0x0103, (34925, 50000, 50001)  # LZMA, Zstandard, WebP: OpenCV's wheels are built without them
EXIF_TURNS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}  # as `turned` takes them
BRANDS_BYTES = 256  # the brands of a file are looked for in so many; phones write six or so, of 4 bytes
GREY = 127  # under transparent parts


def read_image(source: Source) -> np.ndarray:
    """A photo as sRGB uint8 [H, W, 3], upright as its EXIF entry or its AVIF boxes say; 16-bit is scaled, transparency laid over grey. Raises MediaError."""
    content = source if isinstance(source, bytes) else content_of(source)
    if not content:
        raise media_error(source, "empty file")
    if content[:3] == b"\xff\xd8\xff" and not _jpeg_ends(content):
        raise media_error(source, "truncated or corrupt")  # OpenCV would fill up with grey
    if content[:4] == b"\x89PNG" and not _png_holds_its_parts(content):
        raise media_error(source, "truncated or corrupt")  # OpenCV says so too, once it has taken the gigabytes that the length of a part may claim
    if _claimed_pixels(content) > MAX_PIXELS:
        raise media_error(source, "picture too large")
    encoded = np.frombuffer(content, np.uint8)
    boxed = content[4:8] == b"ftyp"  # its boxes say how it is shown, whatever its EXIF entry says beside them
    by_library = content[:2] in OPAQUE
    try:
        picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB | (0 if by_library else cv2.IMREAD_IGNORE_ORIENTATION))
        profile = profile_of(content, LARGEST)
        if picture is not None and by_library:
            inks = _inks_of_jpeg(content, profile)
            picture = in_srgb(picture, profile) if inks is None else inks
        elif picture is not None:
            picture, exif = _over_grey(encoded, picture, depth_of(content) if boxed else None, profile)
            if not boxed:
                picture = _upright(picture, exif or _exif_of_png(content))
    except MemoryError as problem:
        raise media_error(source, NO_MEMORY) from problem
    except cv2.error as problem:
        why = NO_MEMORY if problem.code == cv2.Error.StsNoMem else "picture too large" if "pixels" in str(problem).lower() else "truncated or corrupt"
        raise media_error(source, why) from problem
    if picture is None:
        raise media_error(source, _why_unread(content))
    if picture.shape[0] * picture.shape[1] > MAX_PIXELS:
        raise media_error(source, "picture too large")
    return as_shown(picture, content) if boxed else np.ascontiguousarray(picture)


def turned(picture: np.ndarray, mirrored: bool, turns: int) -> np.ndarray:
    """The picture with left and right exchanged where `mirrored`, then turned by so many quarters anticlockwise."""
    if mirrored:
        picture = picture[:, ::-1]
    return np.ascontiguousarray(np.rot90(picture, turns) if turns else picture)


def _upright(picture: np.ndarray, exif: bytes) -> np.ndarray:
    return turned(picture, *EXIF_TURNS.get(tiff_value(exif.removeprefix(EXIF_NAME), EXIF_ORIENTATION), (False, 0)))


def is_photo(source: Source) -> bool:
    """Whether the first bytes are those of a photo; anything else is tried as a video. Raises MediaError for an empty or missing file."""
    head = head_of(source)
    if not head:
        raise media_error(source, "empty file")
    return begins_as_photo(head)


def _why_unread(content: bytes) -> str:
    """Why OpenCV made no picture of it: a format that it does not read, damage, or no photo at all."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
        brands = content[16 : min(int.from_bytes(content[:4], "big"), BRANDS_BYTES)]  # an AVIF may begin as mif1, and say avif here
        return "truncated or corrupt" if any(brands[at : at + 4] in AVIF_BRANDS for at in range(0, len(brands), 4)) else HEIC
    if content[:4] in TIFF_MARKS:
        if tiff_value(content, TIFF_PACKING) in UNREAD_PACKINGS:
            return PACKED_TIFF
        try:
            raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            raw = None
        if raw is not None and raw.dtype.itemsize > 2:
            return DEEP_TIFF
    return "truncated or corrupt" if is_photo(content) or content.startswith(b"GIF8") else "not a media file"


def _jpeg_ends(content: bytes) -> bool:
    """Whether the picture that a JPEG begins with has its end mark; what a phone appends to it (the film of a motion photo) is not looked at.

    ITU T.81, B.1.1: a segment says its length; coded data go on to the next mark that is neither stuffing (FF 00) nor a restart (FF D0 to D7).
    """
    at = 2
    while 0 <= (at := content.find(b"\xff", at)) < len(content) - 1:
        mark = content[at + 1]
        if mark == 0xD9:
            return True
        if mark in (0x00, 0x01, 0xD8) or 0xD0 <= mark <= 0xD7:
            at += 2
        elif mark == 0xFF:
            at += 1
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return False


def _claimed_pixels(content: bytes) -> int:
    """Width times height as the header of a PNG or JPEG says, before anything that large is allocated; 0 for other kinds."""
    if content[:4] == b"\x89PNG" and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return int(width * height)
    if content[:2] == b"\xff\xd8":
        height, width, _ = size_of_jpeg(content)
        return height * width
    return 0


def _inks_of_jpeg(content: bytes, profile: bytes) -> np.ndarray | None:
    """A JPEG of printing inks in sRGB, upright, as its profile says, which OpenCV does not ask; None for any other photo, and without such a profile."""
    if space_of(profile) != "CMYK" or size_of_jpeg(content)[2] != 4:
        return None
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            shown = inks_in_srgb(np.asarray(image), profile) if image.mode == "CMYK" else None
    except (OSError, SyntaxError, ValueError):  # so Pillow says that it does not like a file
        return None
    return None if shown is None else _upright(shown, exif_of_jpeg(content))


def _over_grey(encoded: np.ndarray, picture: np.ndarray, depth: int | None, profile: bytes) -> tuple[np.ndarray, bytes]:
    """The `picture` that was made of `encoded`, in sRGB, as it is stored, over grey where it has transparent parts; and its EXIF entry, which may be empty.

    `depth`: bits of a colour, where not all of those that OpenCV gives are used: of an AVIF 10 or 12 of 16.
    """
    raw, kinds, found = cv2.imdecodeWithMetadata(encoded, flags=cv2.IMREAD_UNCHANGED)
    exif = {kind: bytes(content) for kind, content in zip(kinds, found, strict=True)}.get(cv2.IMAGE_METADATA_EXIF, b"")
    if raw is None or raw.ndim != 3 or raw.shape[2] != 4:
        return in_srgb(picture, profile), exif
    bits = depth if depth and 8 <= depth <= 8 * raw.itemsize else 8 * raw.itemsize
    colour = in_srgb((raw[:, :, 2::-1] >> (bits - 8)).astype(np.uint8), profile)  # and not of `picture`: of an AVIF with alpha that has red for blue
    alpha = raw[:, :, 3:].astype(np.float32) / ((1 << bits) - 1)
    if alpha.min() < 1:
        colour = np.rint(colour * alpha + GREY * (1 - alpha)).astype(np.uint8)
    return colour, exif


def _png_holds_its_parts(content: bytes) -> bool:
    return all(end + 4 <= len(content) for _, _, end in png_parts(content))  # a checksum follows each


def _exif_of_png(content: bytes) -> bytes:
    """The EXIF entry of a PNG, which OpenCV tells of none that moves; empty where there is none, and for other kinds."""
    if content[:4] != b"\x89PNG":
        return b""
    return next((content[begin:end] for kind, begin, end in png_parts(content) if kind == b"eXIf"), b"")


def photo_codec(head: bytes) -> str:
    """The picture format's name, from a file's first bytes."""
    if head[4:8] == b"jP  ":
        return "jp2"
    names = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"BM": "bmp", b"II": "tiff", b"MM": "tiff", b"RI": "webp"}
    return names.get(head[:2], head[8:12].decode("ascii", "replace"))


def head_of(source: Source) -> bytes:
    """The first 16 bytes. Raises MediaError for a file that is not there, and for what is no file: opened, a pipe would wait for its other end."""
    return source[:16] if isinstance(source, bytes) else _begins(source, 16)


def content_of(source: Path) -> bytes:
    """All bytes of a file. Raises MediaError as `head_of`."""
    return _begins(source, -1)


def _begins(source: Path, count: int) -> bytes:
    try:
        mode = os.stat(source).st_mode
        if not stat.S_ISREG(mode):
            raise media_error(source, "a folder" if stat.S_ISDIR(mode) else "not a regular file")
        with open(source, "rb") as handle:
            return handle.read(count)
    except OSError as problem:
        gone = isinstance(problem, FileNotFoundError | NotADirectoryError)
        raise media_error(source, "file not found" if gone else "no permission to read it" if isinstance(problem, PermissionError) else UNREAD) from problem


def media_error(source: Source, reason: str) -> MediaError:
    """The error to raise; `reason` is one of REASONS."""
    name = f"{len(source)} bytes of media" if isinstance(source, bytes) else Path(source).name
    return MediaError(f"Cannot read {name}.", why=reason, next_step="Replace the file, or leave it out; others are not affected.")
