"""Photos come in with the colours that their profile says, and those without one, or of sRGB, as they are stored."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from media import colours
from media.decode import read_image
from pipelines.lookalike import open_recording
from tests.media.profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    SRGB_CURVE,
    coded_in,
    gamma_curve,
    grey_profile,
    press_profile,
    profile,
    program_profile,
    rgb_profile,
    to_code,
    to_light,
)

D50 = (0.3457, 0.3585)
SPACES = {
    "Display P3": (rgb_profile(DISPLAY_P3), (DISPLAY_P3, None)),
    "Adobe RGB": (rgb_profile(ADOBE_RGB, gamma_curve(563 / 256)), (ADOBE_RGB, 563 / 256)),
    "ProPhoto": (rgb_profile(PROPHOTO, gamma_curve(461 / 256), D50), (PROPHOTO, 461 / 256, D50)),
}
P3 = SPACES["Display P3"][0]
KINDS = {
    "PNG": {}, "JPEG": {"quality": 100, "subsampling": "4:4:4"}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}  # fmt: skip


def scene(height=60, width=80):
    """Colours that no camera's space lacks: soft, of every hue."""
    coarse = np.random.default_rng(1).integers(60, 200, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def saved(picture, kind="PNG", icc_profile=None, **how):
    content = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(content, kind, icc_profile=icc_profile, **(KINDS[kind] | how))
    return content.getvalue()


def away(picture, expected):
    return np.abs(picture.astype(float) - expected).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", SPACES)
def test_a_photo_has_the_colours_that_its_profile_says(space, kind):
    """Nobody read the profile: the photos of every phone that takes Display P3 came in pale, those of ProPhoto grey, and fakes rose from real ones."""
    icc, how = SPACES[space]
    stored = coded_in(scene(), *how)
    assert away(read_image(saved(stored, kind)), scene()) > 2
    assert away(read_image(saved(stored, kind, icc)), scene()) < (1.6 if kind == "AVIF" else 1)  # which keeps colours in 219 steps


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_of_srgb_is_read_as_it_is_stored_whichever_profile_says_so(kind):
    """By what it does, not by its name: some name themselves sRGB and are not, some are and have another name or rounded numbers."""
    plain = read_image(saved(scene(), kind))
    rounded = b"curv" + bytes(4) + struct.pack(">I64H", 64, *np.rint(65535 * to_light(np.linspace(0, 1, 64), None)).astype(int))
    for icc in (rgb_profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), rgb_profile(SRGB, rounded)):
        assert np.array_equal(read_image(saved(scene(), kind, icc)), plain)
    assert not np.array_equal(read_image(saved(scene(), kind, P3.replace(b"made by a test\0", b"sRGB IEC61966\0\0"))), plain)


def test_a_copy_in_other_colours_looks_the_same_to_those_who_look_for_copies():
    icc, how = SPACES["ProPhoto"]
    plain, managed, pale = (
        open_recording(content).pictures for content in (saved(scene()), saved(coded_in(scene(), *how), "PNG", icc), saved(coded_in(scene(), *how)))
    )
    assert away(managed, plain) < 1 < 10 < away(pale, plain)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_what_shows_through_is_laid_over_grey_once_the_colours_are_right(kind):
    stored = Image.fromarray(coded_in(scene(), DISPLAY_P3, None))
    alpha = np.full((60, 80), 255, np.uint8)
    alpha[:30] = 51
    stored.putalpha(Image.fromarray(alpha))
    expected = scene().astype(float)
    expected[:30] = 0.2 * expected[:30] + 0.8 * 127
    picture = read_image(saved(stored, kind, P3))
    assert away(picture[:28], expected[:28]) < 1 and away(picture[32:], expected[32:]) < 1


@pytest.mark.parametrize("channels", [3, 4])
def test_a_photo_of_16_bits_has_the_colours_that_its_profile_says(channels):
    deep = coded_in(scene(), DISPLAY_P3, None)[:, :, ::-1].astype(np.uint16) * 257
    if channels == 4:
        deep = np.dstack([deep, np.full((60, 80), 65535, np.uint16)])
    plain = cv2.imencode(".png", deep)[1].tobytes()
    body = b"iCCPname\0\0" + zlib.compress(P3)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    assert away(read_image(plain[:33] + chunk + plain[33:]), scene()) < 1


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_photo_that_is_turned_has_the_colours_that_its_profile_says(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = np.rot90(scene(), 3) if orientation == 6 else scene()
    assert away(read_image(saved(coded_in(scene(), DISPLAY_P3, None), kind, P3, exif=exif)), expected) < 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("icc", [grey_profile(gamma_curve(1.8)), rgb_profile(PROPHOTO, gamma_curve(1.8), D50)], ids=["grey", "ProPhoto"])
def test_a_picture_without_colours_gets_none(kind, mode, icc):
    """Rounded a colour at a time, greys would have a tinge that no black and white photo has."""
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None], 16, axis=0)
    picture = read_image(saved(Image.fromarray(grey).convert(mode), kind, icc))
    expected = 255 * to_code(to_light(np.arange(256) / 255, 1.8), None)
    assert np.ptp(picture.astype(int), axis=2).max() == 0
    assert np.abs(picture[..., 0] - expected).max() <= (3 if kind in ("JPEG", "AVIF") else 1.5)


INKS = press_profile(
    {(0, 0, 0, 0): (94, 0, 0), (1, 0, 0, 0): (55, -37, -50), (0, 1, 0, 0): (48, 74, -3), (0, 0, 1, 0): (89, -5, 93), (0, 1, 1, 0): (47, 68, 48)}
)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_of_printing_inks_has_the_colours_that_its_profile_says(orientation):
    """OpenCV makes colours of the inks by a rule of its own, glaring ones: printed cyan is 0, 144, 215, not 0, 255, 255."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    inks = np.zeros((40, 80, 4), np.uint8)
    inks[:, 40:, 0] = 255
    stored = Image.frombytes("CMYK", (80, 40), inks.tobytes())
    picture = read_image(saved(stored, "JPEG", INKS, exif=exif, subsampling=0))
    upright = picture if orientation == 1 else np.rot90(picture)
    assert picture.shape == ((40, 80, 3) if orientation == 1 else (80, 40, 3))
    assert away(upright[:, 50:], (0, 144, 215)) < 6 and away(upright[:, :30], (255, 255, 255)) < 2
    assert away(read_image(saved(stored, "JPEG"))[:, 50:], (0, 255, 255)) < 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])  # who writes AVIF takes none that is damaged
@pytest.mark.parametrize(
    "icc",
    [b"no profile at all", P3[:200], P3[:128] + bytes(400), P3.replace(b"acsp", b"none"), INKS, P3 + bytes(colours.LARGEST), profile(b"RGB ")],
    ids=["words", "cut", "empty", "unnamed", "of inks", "too large", "of no curves"],
)
def test_a_profile_that_is_damaged_or_of_other_colours_is_passed_over(kind, icc):
    assert np.array_equal(read_image(saved(scene(), kind, icc)), read_image(saved(scene(), kind)))


def test_a_damaged_profile_of_an_avif_is_passed_over():
    assert np.array_equal(read_image(saved(scene(), "AVIF", P3).replace(b"rTRC", b"none")), read_image(saved(scene(), "AVIF")))


def test_a_profile_that_reckons_without_end_is_passed_over():
    """100 KB of it keep LittleCMS at work for seconds before the first pixel, and 4 MB for minutes."""
    assert np.array_equal(read_image(saved(scene(), "PNG", program_profile(500))), read_image(saved(scene(), "PNG")))


def test_a_profile_of_grey_says_nothing_of_colours():
    icc = grey_profile(gamma_curve(1.0))
    assert np.array_equal(read_image(saved(scene(), "JPEG", icc)), read_image(saved(scene(), "JPEG")))


def test_a_profile_of_several_segments_is_put_together_and_one_that_lacks_a_segment_is_passed_over():
    long = P3 + bytes(150_000)
    content = saved(coded_in(scene(), DISPLAY_P3, None), "JPEG", struct.pack(">I", len(long)) + long[4:])
    begins = [at for at in range(len(content)) if content.startswith(b"\xff\xe2", at) and content[at + 4 : at + 15] == b"ICC_PROFILE"]
    assert len(begins) == 3 and away(read_image(content), scene()) < 1
    without = content[: begins[1]] + content[begins[2] :]
    assert np.array_equal(read_image(without), read_image(saved(coded_in(scene(), DISPLAY_P3, None), "JPEG")))
    exchanged = content[: begins[0]] + content[begins[1] : begins[2]] + content[begins[0] : begins[1]] + content[begins[2] :]
    assert np.array_equal(read_image(exchanged), read_image(content))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([P3, INKS, grey_profile(SRGB_CURVE)]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
    st.floats(0, 1),
)
def test_whatever_a_profile_holds_there_is_a_picture(icc, damage, part):
    damaged = bytearray(icc)
    for place, value in damage:
        damaged[int(place * len(damaged))] = value
    picture = read_image(saved(scene(6, 8), "PNG", bytes(damaged[: int(part * len(damaged))]) or None))
    assert picture.dtype == np.uint8 and picture.shape == (6, 8, 3)
