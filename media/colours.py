"""The colours of photos made sRGB, as their ICC profile says, by LittleCMS. What a profile does decides, not its name.

Relative colorimetric: what sRGB has comes out as it was, white white, and colours beyond sRGB are cut to its edge. With compensation for the
black point, which matters where a profile's darkest is not black, as of a press: it comes out black, and dark parts keep what they show.
"""

import io
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

LARGEST = 1 << 22  # bytes of a profile that is looked at; those of presses have up to 3 MB, those of cameras 3 KB
KEPT = 8  # profiles
SPACES = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}  # as Pillow calls them
DEVICES = (b"mntr", b"scnr", b"prtr", b"spac")  # what a photo's profile describes; others join profiles, or name colours
PROGRAM = b"mpet"  # calculations of any length, which the profiles of photos do not have
NEARLY = 2  # of 255: profiles that are sRGB with rounded numbers come so near, and Display P3 is 112 away
AT_ONCE = 1 << 18  # pixels, so that a large picture needs no more memory for it

Picture = NDArray[np.uint8]


def space_of(profile: bytes) -> str:
    """L, RGB or CMYK: what a profile that is to be followed speaks of; empty for any other."""
    followed = len(profile) <= LARGEST and profile[36:40] == b"acsp" and profile[12:16] in DEVICES and PROGRAM not in profile
    return SPACES.get(profile[16:20], "") if followed else ""


def in_srgb(picture: Picture, profile: bytes) -> Picture:
    """The RGB `picture` [H, W, 3] with the colours that its profile says. One that is sRGB already, damaged or of other colours changes nothing."""
    space = space_of(profile)
    transform = _transform(profile) if space in ("L", "RGB") else None
    if transform is None:
        return picture
    if np.array_equal(picture[..., 0], picture[..., 1]) and np.array_equal(picture[..., 1], picture[..., 2]):
        return cv2.LUT(picture, _tones(space, transform))  # no grey gets a tinge of rounding
    return _through(transform, space, picture) if space == "RGB" else picture


def inks_in_srgb(inks: Picture, profile: bytes) -> Picture | None:
    """RGB [H, W, 3] of C, M, Y and K [H, W, 4], each 255 where it is full; None without a profile of inks that can be followed."""
    transform = _transform(profile) if space_of(profile) == "CMYK" else None
    return None if transform is None else _through(transform, "CMYK", inks)


@lru_cache(KEPT)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """From the colours of a profile to sRGB; None where it is damaged, or changes nothing that could be seen."""
    space = space_of(profile)
    try:
        described = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(
            described, ImageCms.createProfile("sRGB"), space, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        )
    except (OSError, ImageCms.PyCMSError):
        return None
    return transform if space == "CMYK" or _furthest(space, transform) > NEARLY else None


def _furthest(space: str, transform: ImageCms.ImageCmsTransform) -> int:
    """How far, of 255, the value goes that is moved furthest, of 18 levels of each colour or of all greys."""
    if space == "L":
        return int(np.abs(_tones(space, transform).astype(int) - np.arange(256)).max())
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, -1, 3)
    return int(np.abs(_through(transform, space, colours).astype(int) - colours).max())


def _tones(space: str, transform: ImageCms.ImageCmsTransform) -> Picture:
    """What each of the 256 greys becomes."""
    greys = np.arange(256, dtype=np.uint8)[None]
    return _through(transform, space, greys if space == "L" else np.repeat(greys[..., None], 3, axis=2))[0, :, 1]


def _through(transform: ImageCms.ImageCmsTransform, space: str, picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    shown = np.empty((height, width, 3), np.uint8)
    rows = max(1, AT_ONCE // width)
    for top in range(0, height, rows):
        strip = np.ascontiguousarray(picture[top : top + rows])
        image = Image.frombytes(space, (width, len(strip)), strip)
        shown[top : top + rows] = np.asarray(ImageCms.applyTransform(image, transform))
    return shown
