"""Which file is this, and does it look like one that is known? A content hash, a header sniff, and a perceptual hash.

The 64-bit hash (signs of low DCT frequencies of the middle frame, Zauner 2010) only proposes candidates: two clips of one
person before one camera often agree in it. Candidates are confirmed by comparing three frames and the duration.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from media.decode import MediaInfo, Source, probe, read_frames, read_image
from workspace.errors import MediaError
from workspace.files import sha256_bytes, sha256_file

THUMB_PX = 32
LOWEST, HIGHEST = 1, 9  # DCT rows and columns 1..8: 64 coefficients without the constant ones
FLAT_SIGMA = 2.0  # a picture with less contrast (of 255) has no hash
PLACES = (0.25, 0.5, 0.75)  # parts of the duration that are compared
MOST_DIFFERENCE = 0.08  # of 314 photos at 60% size and JPEG 50 the worst has 0.065; the nearest two different photos 0.27
DURATION_SLACK_SECONDS = 0.3
DURATION_SLACK = 0.03


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

    A file that is empty, too big or unreadable gets an id made of its name and size, so that it is known the next time.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            return Measured(_id_of_name(name, 0), 0, problem="empty file")
        if size > max_bytes:
            return Measured(_id_of_name(name, size), size, problem="file too big")
        sample_id = sha256_file(path)
    except OSError as problem:
        return Measured(_id_of_name(name, 0), 0, problem=f"unreadable ({problem.__class__.__name__})")
    try:
        info = probe(path)
    except MediaError as problem:
        return Measured(sample_id, size, problem=problem.why)
    return Measured(sample_id, size, info.kind, perceptual_hash(path, info))


def refused(name: str, problem: str) -> Measured:
    """The measure of a file that may not be opened."""
    return Measured(_id_of_name(f"{name}\n{problem}", 0), 0, problem=problem)


def perceptual_hash(source: Source, info: MediaInfo) -> str:
    """16 hex digits for the middle frame, or '' where it does not decode or shows nothing."""
    thumbs = _thumbs(source, info, (0.5,))
    if not thumbs or thumbs[0].std() < FLAT_SIGMA:
        return ""
    low = cv2.dct(thumbs[0])[LOWEST:HIGHEST, LOWEST:HIGHEST].ravel()
    bits = np.packbits(low > np.median(low))
    return bits.tobytes().hex()


def hash_distances(one: str, others: np.ndarray) -> np.ndarray:
    """Differing bits between a hash of 16 hex digits and each of `others` [N] uint64."""
    return np.bitwise_count(others ^ np.uint64(int(one, 16)))


def same_picture(one: Source, other: Source) -> bool:
    """Whether two files show the same: as long, and alike at three places. False where one of them does not decode."""
    try:
        infos = probe(one), probe(other)
        if infos[0].kind != infos[1].kind:
            return False
        lengths = [info.duration_seconds for info in infos]
        if abs(lengths[0] - lengths[1]) > DURATION_SLACK_SECONDS + DURATION_SLACK * max(lengths):
            return False
        pairs = list(zip(_thumbs(one, infos[0], PLACES), _thumbs(other, infos[1], PLACES), strict=False))
    except MediaError:
        return False
    return bool(pairs) and all(difference(first, second) <= MOST_DIFFERENCE for first, second in pairs)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square difference of two thumbs [32, 32], each freed of mean and contrast, between 0 and 2."""
    one, two = ((thumb - thumb.mean()) / max(float(thumb.std()), FLAT_SIGMA) for thumb in (first, second))
    return float(np.sqrt(np.mean((one - two) ** 2)))


def _thumbs(source: Source, info: MediaInfo, places: tuple[float, ...]) -> list[np.ndarray]:
    """Grey thumbs float32 [32, 32], one a place; a photo has one place."""
    try:
        if info.kind == "image":
            pictures = [read_image(source)]
        else:
            pictures = [frame for _, frame in read_frames(source, [place * info.duration_seconds for place in places])]
    except MediaError:
        return []
    grey = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in pictures)
    return [cv2.resize(picture, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA) for picture in grey]


def _id_of_name(name: str, size: int) -> str:
    return sha256_bytes(f"vigil quarantine\n{name}\n{size}".encode())
