"""HDR video is read as a player shows it on a screen of standard range, whichever of the two codings it has; other video as ever."""

from fractions import Fraction

import av
import numpy as np
import pytest

from media.decode import read_frames
from media.hdr import HLG, PQ, as_shown
from tests.media.videos import write_video

TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # ITU-R BT.2087
BT2020 = 9  # primaries and matrix of ITU-T H.273


def coded(picture, transfer):
    """An sRGB picture as HDR of 16 bits, white at 203 cd/m2: both codings the other way round, as ITU-R BT.2100 writes them."""
    level = picture / 255
    light = 0.203 * np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4) @ TO_BT2020.T  # of 1000 cd/m2
    if transfer == PQ:
        power = (light / 10) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        luminance = light @ (0.2627, 0.6780, 0.0593)
        scene = light * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)
    return np.rint(65535 * signal).astype(np.uint16)


def write_hdr(path, pictures, transfer, codec):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = BT2020, transfer, BT2020
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=0:crf=4", "preset": "ultrafast"}
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(coded(picture, transfer), format="rgb48le").reformat(format=stream.pix_fmt, dst_colorspace=BT2020)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def coloured(height=96, width=128):
    """Soft colours, no brighter than a face in ordinary light."""
    down, across = np.mgrid[0:height, 0:width]
    return np.stack([40 + 120 * across / width, 150 - 110 * down / height, 90 + 60 * np.sin(across / 20)], -1).astype(np.uint8)


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx265"), ("a.mkv", "ffv1")])
def test_hdr_video_is_read_as_the_picture_that_it_shows(tmp_path, name, codec, transfer):
    """It was read as if it were coded as SDR: flat, and in PQ blue, by 15 to 18 levels in the mean."""
    picture = coloured()
    source = write_hdr(tmp_path / name, [picture] * 5, transfer, codec)
    ((_, shown),) = read_frames(source, [0.1])
    assert shown.dtype == np.uint8 and np.abs(shown.astype(int) - picture).mean() < 1.5


@pytest.mark.parametrize(
    ("pq", "hlg", "level"),
    [(0, 0, 0), (0.38, 0.38, 100), (0.5807, 0.75, 229), (0.7518, 1, 255)],
    ids=["black", "grey of 18%: 26 cd/m2", "paper white: 203 cd/m2", "1000 cd/m2"],
)
def test_both_codings_of_one_light_are_one_grey(pq, hlg, level):
    """The levels of ITU-R BT.2408: grey as dark as of SDR, and room above white for what shines."""
    shown = [as_shown(np.full((2, 3, 3), round(65535 * signal), np.uint16), transfer) for signal, transfer in ((pq, PQ), (hlg, HLG))]
    assert np.abs(np.array(shown, int) - level).max() <= 1


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_brighter_is_never_darker_and_rows_do_not_depend_on_others(transfer):
    ramp = np.repeat(np.arange(65536, dtype=np.uint16)[:, None, None], 3, axis=2)
    shown = as_shown(ramp, transfer)
    assert np.all(np.diff(shown[:, 0].astype(int), axis=0) >= 0) and np.array_equal(as_shown(ramp[40000:], transfer), shown[40000:])
    assert np.ptp(shown.astype(int), axis=2).max() <= 1  # grey stays grey


def test_other_video_is_read_as_ever(tmp_path):
    source = write_video(tmp_path / "a.mp4", [coloured()] * 5)
    with av.open(str(source)) as container:
        plain = next(container.decode(video=0)).to_ndarray(format="rgb24")
    ((_, shown),) = read_frames(source, [0.0])
    assert np.array_equal(shown, plain)
