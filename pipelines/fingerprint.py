"""Which file is this, and what might it look like? A content hash, a header sniff, and perceptual words.

A word is 64 signs of low DCT frequencies (Zauner 2010) of one patch of one frame. The patches lie around the strongest points of
SIFT (Lowe 2004), which a crop, another size or a mirror leaves where they are in the picture; so some words of a copy stay. Words
only propose candidates, since two clips of one person before one wall share the wall: pipelines/lookalike.py compares them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from media.decode import MediaInfo, Source, probe, read_frames, read_image, shown_seconds
from media.photos import NO_MEMORY, UNREAD
from workspace.errors import MediaError
from workspace.files import sha256_bytes, sha256_file

TOO_BIG, UNREADABLE = "file too big", "unreadable"
OF_ITS_PLACE = ("file not found", "no permission to read it", UNREAD, NO_MEMORY, "a folder", "not a regular file")  # reasons that are none of a content
PICTURE_PX = 192  # longest side of the pictures whose points are sought
PATCH_PX = 32
PATCH_SIZES = 3.0  # side of a patch, as a multiple of its point's own size
LEAST_POINT_PX = 6.0  # smaller points are the first that compression takes away
LEAST_CONTRAST = 0.01  # of SIFT's own measure; the usual 0.04 leaves smooth portraits without points
FLAT_SIGMA = 2.0  # a patch with less contrast (of 255) has no word
IMAGE_POINTS, FRAME_POINTS = 24, 8
PLACES = tuple((number + 0.5) / 6 for number in range(6))  # parts of the duration: half of a video holds three of them
_BY_FREQUENCY = sorted(((row, column) for row in range(12) for column in range(12) if row + column), key=lambda one: (one[0] ** 2 + one[1] ** 2, one))
ROWS, COLUMNS = np.array(_BY_FREQUENCY[:64]).T
MIRROR = np.packbits(COLUMNS % 2 == 1).view(">u8").astype(np.uint64)[0]  # a mirrored patch has the other sign in odd columns


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one file. `problem` is the reason for quarantine, or ''."""

    sample_id: str
    bytes: int
    kind: str = ""
    phash: str = ""
    problem: str = ""


def measure(path: Path, name: str, max_bytes: int) -> Measured:
    """Hash and sniff one file; never raises for what is wrong with it.

    A file that is empty, too big or unreadable gets an id made of its name and size, so that it is known the next time. Where nothing can be told
    of a content, it is read once more: what is not there, or another, by then is unreadable.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            return Measured(_id_of_name(name, 0), 0, problem="empty file")
        if size > max_bytes:
            return Measured(_id_of_name(name, size), size, problem=TOO_BIG)
        sample_id = sha256_file(path)
        measured = _sniffed(path, sample_id, size)
        if measured.phash or (measured.problem not in OF_ITS_PLACE and sha256_file(path) == sample_id):  # else it was its disk that failed
            return measured
        why = measured.problem if measured.problem in OF_ITS_PLACE else "it changed"
    except OSError as problem:
        why = problem.__class__.__name__
    return Measured(_id_of_name(name, 0), 0, problem=f"{UNREADABLE} ({why})")


def _sniffed(path: Path, sample_id: str, size: int) -> Measured:
    try:
        info = probe(path)
        return Measured(sample_id, size, info.kind, perceptual_hash(path, info))
    except MediaError as problem:
        return Measured(sample_id, size, problem=problem.why)


def refused(name: str, problem: str) -> Measured:
    """The measure of a file that may not be opened."""
    return Measured(_id_of_name(f"{name}\n{problem}", 0), 0, problem=problem)


def perceptual_hash(source: Source, info: MediaInfo) -> str:
    """The words of a file, 16 hex digits each, sorted and joined by spaces; '' where nothing decodes or all is flat. Raises MediaError for lack of memory."""
    try:
        if info.kind == "image":
            pictures, points = [read_image(source)], IMAGE_POINTS
        else:
            seconds = shown_seconds(source, info)
            pictures, points = [frame for _, frame in read_frames(source, [place * seconds for place in PLACES])], FRAME_POINTS
    except MediaError as problem:
        if problem.why == NO_MEMORY:
            raise
        return ""
    words = {word for picture in pictures for word in _words(grey_of(picture, PICTURE_PX), points)}
    return " ".join(f"{word:016x}" for word in sorted(words))


def words_of(phash: str) -> np.ndarray:
    """The words [W] uint64 of a manifest's `phash`."""
    return np.array([int(word, 16) for word in phash.split()], np.uint64)


def mirrored(words: np.ndarray) -> np.ndarray:
    """The words that the mirrored pictures would have, in the same order."""
    return words ^ MIRROR


def grey_of(picture: np.ndarray, longest_px: int) -> np.ndarray:
    """A grey copy uint8 [h, w] of an RGB picture [H, W, 3], its longest side `longest_px`."""
    scale = longest_px / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _words(grey: np.ndarray, points: int) -> Iterable[int]:
    """One word for the picture as a whole, one for each of its strongest large points."""
    yield from _word(cv2.resize(grey, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA))
    found = cv2.SIFT.create(contrastThreshold=LEAST_CONTRAST).detect(grey)  # a point with two directions comes twice
    places = {(round(point.pt[0]), round(point.pt[1]), round(point.size)): point for point in found if point.size >= LEAST_POINT_PX}
    for point in sorted(places.values(), key=lambda point: -point.size * point.response)[:points]:
        side = PATCH_SIZES * point.size
        step, corner = side / PATCH_PX, side / 2 - side / PATCH_PX / 2  # centre on centre, or a mirrored patch is another
        to_patch = np.array([[step, 0, point.pt[0] - corner], [0, step, point.pt[1] - corner]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        yield from _word(cv2.warpAffine(grey, to_patch, (PATCH_PX, PATCH_PX), flags=how, borderMode=cv2.BORDER_REPLICATE))


def _word(patch: np.ndarray) -> Iterable[int]:
    if patch.std() >= FLAT_SIGMA:
        yield int(np.packbits(cv2.dct(patch.astype(np.float32))[ROWS, COLUMNS] > 0).view(">u8")[0])


def _id_of_name(name: str, size: int) -> str:
    return sha256_bytes(f"vigil quarantine\n{name}\n{size}".encode())
