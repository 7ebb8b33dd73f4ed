import cv2
import numpy as np
import pytest
import torch

from model.augment import augment_clip, impoverish, mask_spectrum, tilt_spectrum
from model.data import to_tensor
from workspace.settings import AugmentSettings

OFF = AugmentSettings(
    flip=0.0,
    rotation_degrees=0.0,
    affine=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    noise_sigma=0.0,
    degrade=0.0,
    cutout=0.0,
    frequency_mask=0.0,
    tilt_db=0.0,
)


def still(frames=4, size=32, seed=0):
    """A clip whose frames are all the same picture."""
    return np.repeat(np.random.default_rng(seed).integers(40, 200, (1, size, size, 3), dtype=np.uint8), frames, axis=0)


def test_with_everything_off_nothing_changes():
    clip = still()
    for seed in range(6):
        torch.testing.assert_close(augment_clip(clip, OFF, np.random.default_rng(seed)), to_tensor(clip), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"flip": 1.0},
        {"rotation_degrees": 15.0},
        {"affine": 0.1},
        {"brightness": 0.2},
        {"contrast": 0.2},
        {"saturation": 0.3},
        {"cutout": 1.0},
        {"frequency_mask": 1.0},
        {"tilt_db": 8.0},
        {"grey": 0.9},
        {"degrade": 1.0},
    ],
)
def test_one_draw_holds_for_every_frame_of_a_clip(settings):
    clip, changed = still(), 0
    for seed in range(8):
        found = augment_clip(clip, OFF.model_copy(update=settings), np.random.default_rng(seed))
        if settings != {"degrade": 1.0}:  # H.264 may treat frames a little differently
            torch.testing.assert_close(found, found[:1].expand_as(found), atol=1e-6, rtol=0)
        changed += not torch.allclose(found, to_tensor(clip), atol=1e-3)
    assert changed >= 2


def test_a_real_clip_is_degraded_once_more_where_clips_are_degraded_at_all():
    clip, rng = still(size=64), np.random.default_rng
    for seed in range(4):
        assert not np.array_equal(impoverish(clip, 1.0, OFF.model_copy(update={"degrade": 0.1}), rng(seed)), clip)
        assert impoverish(clip, 1.0, OFF.model_copy(update={"degrade": 0.0}), rng(seed)) is clip
        assert impoverish(clip, 0.0, OFF.model_copy(update={"degrade": 1.0}), rng(seed)) is clip


def test_a_tilt_changes_fine_detail_alone_and_takes_and_gives_as_often():
    frames = to_tensor(still(size=64))
    coarse = torch.nn.functional.avg_pool2d(frames, 32)
    fine = []
    for seed in range(40):
        tilted = tilt_spectrum(frames, 8.0, np.random.default_rng(seed))
        torch.testing.assert_close(torch.nn.functional.avg_pool2d(tilted, 32), coarse, atol=0.02, rtol=0)
        fine.append((tilted.std() / frames.std()).item())
    assert 0.25 < np.mean(np.array(fine) > 1) < 0.75 and max(fine) > 1.5 and min(fine) < 0.5


def test_noise_is_of_the_sigma_that_was_asked_and_differs_from_frame_to_frame():
    clip = np.full((4, 32, 32, 3), 128, np.uint8)
    settings = OFF.model_copy(update={"noise_sigma": 0.1})
    sigmas = [(augment_clip(clip, settings, np.random.default_rng(seed)) - 128 / 255).std().item() for seed in range(60)]
    assert max(sigmas) <= 0.105 and 0.2 < np.mean(np.array(sigmas) < 1e-4) < 0.8
    found = augment_clip(clip, settings, np.random.default_rng(int(np.argmax(sigmas))))
    assert not torch.allclose(found[0], found[1])


def test_pixels_stay_in_range_the_clip_stays_as_it_was_and_a_seed_repeats():
    clip = still()
    before, strong = clip.copy(), AugmentSettings(brightness=1.0, noise_sigma=0.5, degrade=1.0)
    for seed in range(10):
        found = augment_clip(clip, strong, np.random.default_rng(seed))
        assert found.shape == (4, 3, 32, 32) and found.dtype == torch.float32 and 0 <= found.min() <= found.max() <= 1
        assert torch.equal(found, augment_clip(clip, strong, np.random.default_rng(seed)))
    assert np.array_equal(clip, before)


def test_without_colours_a_clip_is_its_luma_and_its_noise_has_none_either():
    clip = still()
    grey = OFF.model_copy(update={"grey": 1.0})
    found = augment_clip(clip, grey, np.random.default_rng(0))
    wanted = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip])
    assert np.abs(found.numpy() * 255 - wanted[:, None]).max() <= 0.51, "what OpenCV makes of it, before it is rounded"
    noisy = augment_clip(clip, grey.model_copy(update={"noise_sigma": 0.3, "noise_chance": 1.0}), np.random.default_rng(1))
    assert not torch.allclose(noisy, found, atol=0.01) and all(torch.equal(noisy[:, 0], noisy[:, channel]) for channel in (1, 2))
    chance = grey.model_copy(update={"grey": 0.25})
    share = np.mean([torch.equal(*augment_clip(clip, chance, np.random.default_rng(seed))[0, :2]) for seed in range(200)])
    assert 0.15 < share < 0.35


def test_a_shift_moves_the_picture_by_at_most_the_part_that_was_asked():
    clip = np.zeros((1, 64, 64, 3), np.uint8)
    clip[:, 30:34, 30:34] = 255
    for seed in range(20):
        found = augment_clip(clip, OFF.model_copy(update={"affine": 0.1}), np.random.default_rng(seed))[0, 0]
        ys, xs = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        for axis in (ys, xs):
            assert abs((found * axis).sum() / found.sum() - 31.5) <= 6.4 * 1.25  # zoom and shear act on the shift, too


def test_a_cover_hides_a_part_of_the_face_and_leaves_the_rest():
    clip = still(size=64)
    for seed in range(20):
        found = augment_clip(clip, OFF.model_copy(update={"cutout": 1.0}), np.random.default_rng(seed))
        hidden = (found - to_tensor(clip)).abs().amax(dim=(0, 1)) > 2e-3
        assert 0.01 < hidden.float().mean() < 0.5 and not hidden[:4].any()  # forehead top and hair are no part of it


def test_a_masked_spectrum_keeps_the_mean_and_loses_about_the_part_that_was_asked():
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = mask_spectrum(frames, 0.15, np.random.default_rng(0))
    torch.testing.assert_close(found.mean((2, 3)), frames.mean((2, 3)), atol=1e-5, rtol=0)
    lost = torch.fft.rfft2(found).abs() < 1e-4
    assert torch.equal(lost[0, 0], lost[1, 2]) and 0.12 < lost.float().mean() < 0.18
