"""The colours that a player shows, whatever the header says of their matrix."""

from fractions import Fraction

import av
import numpy as np
import pytest

from media.decode import read_frames

BT709, BT601, BT2020, YCGCO = 1, 6, 9, 8  # matrices of ITU-T H.273
UNKNOWN = 2


def patches(height=48, width=96):
    """Brick, leaf and skin."""
    picture = np.empty((height, width, 3), np.uint8)
    for number, colour in enumerate([(200, 60, 50), (60, 160, 80), (225, 172, 150)]):
        picture[:, 32 * number : 32 * number + 32] = colour
    return picture


def written(path, frame, *, codec="libx264", matrix=UNKNOWN, primaries=UNKNOWN, transfer=UNKNOWN, full=False):
    """A video of five such frames whose header says this of them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = frame.height, frame.width, frame.format.name
        if codec in ("libx264", "libx265"):
            stream.options = {"crf": "1", "x265-params": "log-level=none:pools=1"}
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = matrix, primaries, transfer, 2 if full else 1
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = matrix, context.color_range, primaries, transfer
        for number in range(5):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shown(path):
    ((_, picture),) = read_frames(path, [0.1])
    return picture.astype(int)


def of_planes(planes, pixels):
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pixels)
    for plane, content in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = np.rint(content[:: content.shape[0] // plane.height, :: content.shape[1] // plane.width])
        plane.update(rows.tobytes())
    return frame


@pytest.mark.parametrize(
    ("matrix", "primaries", "coded"),
    [(12, 1, BT709), (12, BT2020, BT2020), (12, UNKNOWN, BT709), (10, BT2020, BT2020), (13, 1, BT709), (11, 1, BT709), (14, BT2020, BT2020), (14, 1, BT709),
     (15, 1, BT601), (17, UNKNOWN, BT601)],
)  # fmt: skip
def test_a_matrix_that_nobody_converts_is_no_damage(tmp_path, matrix, primaries, coded):
    """Another number in the header, and a forgery had no verdict: its pixels were the same, its colours shown as before."""
    picture = patches()
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p", dst_colorspace=5 if coded == BT601 else coded)
    source = written(tmp_path / "a.mkv", frame, codec="libx264" if matrix in (10, 11, 12, 13, 14) else "ffv1", matrix=matrix, primaries=primaries)
    with av.open(str(source)) as container:
        assert int(next(container.decode(video=0)).colorspace) == matrix
    assert np.abs(shown(source) - picture).mean() < 3


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_ycgco_is_read_as_the_colours_that_it_holds(tmp_path, pixels, full):
    picture = patches()
    red, green, blue = np.moveaxis(picture / 255, -1, 0)
    luma, cg, co = green / 2 + (red + blue) / 4, green / 2 - (red + blue) / 4, (red - blue) / 2  # H.273, MatrixCoefficients 8
    planes = [255 * luma, 128 + 255 * cg, 128 + 255 * co] if full else [16 + 219 * luma, 128 + 224 * cg, 128 + 224 * co]
    source = written(tmp_path / "a.mp4", of_planes(planes, pixels), matrix=YCGCO, full=full)
    assert np.abs(shown(source) - picture).mean() < 3


def test_rgb_and_grey_have_no_matrix_whatever_their_header_says(tmp_path):
    picture = patches()
    for pixels in ("bgr0", "gray"):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
        plain = written(tmp_path / "plain.mkv", frame, codec="ffv1", full=True)
        named = written(tmp_path / "named.mkv", frame, codec="ffv1", matrix=YCGCO, full=True)
        assert np.array_equal(shown(named), shown(plain)) and (pixels == "gray" or np.array_equal(shown(plain), picture))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("name", "codec", "pixels"), [("a.mp4", "libx265", "gray"), ("a.mkv", "ffv1", "gray"), ("a.mkv", "ffv1", "gray10le")])
def test_black_and_white_of_a_monochrome_video_are_black_and_white(tmp_path, name, codec, pixels, full):
    """FFmpeg takes each for one of full range: black was 16 and white 235, and both flat beside the same picture in colour."""
    ramp = np.repeat(np.linspace(0, 255, 96)[None], 64, axis=0)
    depth = 4 if pixels == "gray10le" else 1
    levels = np.rint(ramp * (256 * depth - 1) / 255 if full else (16 + ramp * 219 / 255) * depth)
    frame = av.VideoFrame.from_ndarray(levels.astype(np.uint8 if depth == 1 else np.uint16), format=pixels)
    pictures = shown(written(tmp_path / name, frame, codec=codec, full=full))
    assert np.abs(pictures - ramp[..., None]).max() <= (4 if codec == "libx265" else 2)
