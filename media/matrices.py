"""The colours of a decoded frame as a player shows them: RGB, whatever its header says of matrix, range and transfer (numbers of ITU-T H.273)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from media import hdr

BT709, BT601, YCGCO, BT2020 = 1, 5, 8, 9
LIMITED = 1  # as FFmpeg numbers it: black at 16 of 255 and white at 235
CONVERTED = frozenset((0, BT709, 2, 4, BT601, 6, 7, BT2020))  # matrices that FFmpeg's scaler knows; it refuses a frame of any other
OF_PRIMARIES = range(10, 15)  # those that follow from the primaries, and near relatives of theirs


def as_rgb(frame: Any, width: int, height: int) -> NDArray[np.uint8]:
    """RGB [height, width, 3] of a frame of any pixel format, HDR as a screen of standard range shows it.

    A matrix that nobody converts is no damage, and refusing it would be a way past the detector that changes no pixel: the frame is read by
    the next one to it, as most players do; by BT.601, as FFmpeg does where none is named, if there is none.
    """
    # asked for a size, even its own, PyAV keeps twice the memory
    how: dict[str, Any] = {} if (width, height) == (frame.width, frame.height) else {"width": width, "height": height}
    if frame.colorspace not in CONVERTED:
        near = BT601 if frame.colorspace not in OF_PRIMARIES else BT2020 if frame.color_primaries == BT2020 else BT709
        how |= {"src_colorspace": near, "dst_colorspace": near}
    is_hdr = frame.color_trc in hdr.TRANSFERS
    if frame.colorspace == YCGCO and not frame.format.is_rgb and len(frame.format.components) > 2:
        picture = _from_ycgco(frame.to_ndarray(format="yuv444p16le" if is_hdr else "yuv444p", dst_color_range=2, channel_last=True, **how))
    else:
        picture = frame.to_ndarray(format="rgb48le" if is_hdr else "rgb24", **how)
    if frame.color_range == LIMITED and frame.format.name.startswith("gray"):  # which FFmpeg's scaler takes for full range always
        picture = _of_full_range(picture, frame.format.components[0].bits)
    return hdr.as_shown(picture, frame.color_trc) if is_hdr else picture


def _from_ycgco(planes: NDArray[Any]) -> NDArray[Any]:
    """RGB of Y, Cg and Co of full range [H, W, 3], in as many bits (MatrixCoefficients 8)."""
    most = np.iinfo(planes.dtype).max
    luma, green, orange = np.moveaxis(planes.astype(np.int32) - (0, most // 2 + 1, most // 2 + 1), -1, 0)
    return np.stack([luma - green + orange, luma + green, luma - green - orange], -1).clip(0, most).astype(planes.dtype)


def _of_full_range(picture: NDArray[Any], bits: int) -> NDArray[Any]:
    """The picture with black at 0 and white at the most there is, of one whose levels are those of limited range in so many bits, made its own."""
    most = np.iinfo(picture.dtype).max
    black, white = (most * (level << (bits - 8)) / ((1 << bits) - 1) for level in (16, 235))
    levels = (np.arange(most + 1) - black) * most / (white - black)
    return levels.round().clip(0, most).astype(picture.dtype).take(picture)
