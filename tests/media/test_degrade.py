"""Degradations: one draw a clip, stronger settings do more harm, shapes stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.align import beyond
from media.degrade import degrade_clip, h264_of_larger, h264_round_trip, jpeg_round_trip, local_contrast, motion_blur, rescale, sharpen, soften
from media.synthetic import render_take
from pipelines.nuisance import statistics
from tests.faces import cut_off
from workspace.settings import AugmentSettings


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """[4,96,96,3], a rendered face."""
    return np.stack([frame[80:176, 80:176] for frame in render_take(0, 1, 0, 4)[0]])


def harm(before: np.ndarray, after: np.ndarray) -> float:
    assert after.shape == before.shape and after.dtype == np.uint8
    return float((before.astype(float) - after).std())


def test_a_chance_of_zero_changes_nothing_and_returns_a_copy(clip: np.ndarray) -> None:
    result = degrade_clip(clip, np.random.default_rng(0), AugmentSettings(degrade=0.0))
    assert np.array_equal(result, clip) and result is not clip and not np.shares_memory(result, clip)


def test_about_as_many_clips_are_degraded_as_the_settings_say(clip: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    changed = [not np.array_equal(degrade_clip(clip[:1], rng, AugmentSettings(degrade=0.5)), clip[:1]) for _ in range(120)]
    assert 0.35 < np.mean(changed) < 0.65


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_frame_of_a_clip_gets_the_same_draw(seed: int) -> None:
    """Four equal frames stay equal (H.264 codes them alike up to a step or two)."""
    frame = np.random.default_rng(7).integers(0, 256, (24, 24, 3)).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    result = degrade_clip(np.stack([frame] * 4), np.random.default_rng(seed), AugmentSettings(degrade=1.0))
    first = result[0].astype(int)
    assert all(np.abs(first - other).mean() < 6 for other in result[1:])
    again = degrade_clip(np.stack([frame] * 4), np.random.default_rng(seed), AugmentSettings(degrade=1.0))
    assert np.array_equal(result, again)


def test_stronger_is_worse(clip: np.ndarray) -> None:
    assert harm(clip, jpeg_round_trip(clip, 95)) < harm(clip, jpeg_round_trip(clip, 40)) < harm(clip, jpeg_round_trip(clip, 10))
    assert harm(clip, rescale(clip, 1.0)) == 0 < harm(clip, rescale(clip, 0.8)) < harm(clip, rescale(clip, 0.3))
    assert harm(clip, soften(clip, 0.0)) == 0 < harm(clip, soften(clip, 0.6)) < harm(clip, soften(clip, 2.0))
    assert 0 < harm(clip, h264_round_trip(clip, 18)) < harm(clip, h264_round_trip(clip, 38))


def test_what_cameras_and_apps_do_changes_the_picture_as_it_should(clip: np.ndarray) -> None:
    def slope(frames: np.ndarray, axis: int) -> float:
        return float(np.abs(np.diff(frames.astype(float), axis=axis)).mean())

    along = motion_blur(clip, 7, 0.0)
    assert slope(along, 2) / slope(clip, 2) < 0.8 * slope(along, 1) / slope(clip, 1)  # smeared from left to right, not up and down
    assert slope(sharpen(clip, 1.0), 2) > 1.2 * slope(clip, 2) and np.array_equal(sharpen(clip, 0.0), clip)
    assert local_contrast(clip, 3.0).std() != clip.std() and harm(clip, local_contrast(clip, 3.0)) > 1


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (5, 65, 63, 3), (3, 112, 112, 3)])
def test_h264_keeps_shape_count_and_picture(shape: tuple[int, ...]) -> None:
    y, x = np.mgrid[: shape[1], : shape[2]]
    frame = np.stack([x * 2, y * 2, 255 - x - y], axis=2).clip(0, 255).astype(np.uint8)
    clip = np.stack([np.roll(frame, 2 * step, axis=1) for step in range(shape[0])])
    assert harm(clip, h264_round_trip(clip, 20)) < 12


def test_order_of_channels_survives_jpeg() -> None:
    red = np.zeros((1, 16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert jpeg_round_trip(red, 95)[0, 8, 8].tolist() == pytest.approx([200, 0, 0], abs=4)


def test_blocks_of_a_larger_coded_picture_do_not_lie_on_the_clip() -> None:
    """A crop is cut from a decoded video: blocks that lie on its own pixels tell what was coded at its own size."""
    rng, found = np.random.default_rng(3), []
    for _ in range(16):
        clip = soften(rng.normal(128, 160, (3, 128, 128, 3)).clip(0, 255).astype(np.uint8), 1.5)
        larger = h264_of_larger(clip, 36, float(rng.uniform(0.8, 2.2)), (int(rng.integers(16)), int(rng.integers(16))))
        assert larger.shape == clip.shape and np.abs(larger.astype(int) - clip).mean() < 30, "it is still that clip"
        found.append([on_blocks(h264_round_trip(clip, 36)), on_blocks(larger)])
    plain, larger_ones = np.mean(found, axis=0)
    assert plain > 0.1 and abs(larger_ones) < 0.2 * plain


def on_blocks(clip: np.ndarray) -> float:
    return float(np.mean([statistics(frame)[-2:] for frame in clip]))


def test_what_lies_beyond_a_picture_stays_black(clip: np.ndarray) -> None:
    """It was the picture that was coded and shrunk, and not the crop: a forger that is given the copy must still see where its picture ends."""
    cut = cut_off(clip)
    outside = beyond(cut[0]) > 0
    for seed in range(30):
        poor = degrade_clip(cut, np.random.default_rng(seed), AugmentSettings(degrade=1.0))
        assert outside.mean() > 0.1 and poor[:, outside].max() == 0 and not np.array_equal(poor, cut), seed
