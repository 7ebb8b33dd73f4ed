"""Forgers: real changes inside the face, none outside, steady through time, the same for the same draw."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.fft
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.align import beyond
from media.faces import extract_clips
from media.forgers import FORGERS, forge_clip
from media.forgers.detail import compose
from media.forgers.landmark_swap import donor_path
from media.forgers.masks import hull_mask, reach_mask, steady
from media.forgers.reenact import reenact
from media.forgers.registry import forged_within
from pipelines.nuisance import STATISTICS, shares_of_detail, statistics
from tests.faces import Clip, cut_off, detail, motion, rendered_clips
from workspace.errors import DataError
from workspace.settings import FaceSettings


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Four people's clips [8,96,96,3], cut by the real detector."""
    return rendered_clips(tmp_path_factory.mktemp("forgers"))


def forge(name: str, clips: list[Clip], seed: int, target: int = 0, donor: int = 1) -> np.ndarray:
    frames, landmarks = clips[target]
    return forge_clip(name, frames, landmarks, np.random.default_rng(seed), clips[donor] if FORGERS[name].needs_donor else None)[0]


@pytest.fixture(scope="session")
def forged(clips: list[Clip]) -> Callable[[str, int, int], np.ndarray]:
    """The clip of a number as a forger makes it by a draw, with the next one's face where it needs one; each is made once, whoever asks for it."""
    return cache(lambda name, seed, target: forge(name, clips, seed, target, (target + 1) % 4))


@pytest.mark.parametrize("name", sorted(name for name, forger in FORGERS.items() if not forger.whole))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_pixels_outside_the_grown_hull_of_the_face_never_change(clips: list[Clip], name: str, seed: int) -> None:
    frames, landmarks = clips[0]
    forged = forge(name, clips, seed)
    assert forged.shape == frames.shape and forged.dtype == np.uint8
    for frame, fake, points in zip(frames, forged, steady(landmarks), strict=True):
        outside = reach_mask(points, frames.shape[1]) == 0
        assert outside.any() and np.array_equal(frame[outside], fake[outside])


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_a_fake_is_not_known_by_being_softer_than_its_real(clips: list[Clip], forged: Callable[[str, int, int], np.ndarray], name: str) -> None:
    """Where it was softer in nearly every pair, a network learned that sharp is real, and clean generated faces were the most real of all."""
    sharp = [detail(frames.astype(np.float32)) for frames, _ in clips]
    ratios = np.log([detail(forged(name, seed, target).astype(np.float32)) / sharp[target]
                     for seed in range(15) for target in range(4)])  # fmt: skip
    softer, sharper = np.mean(ratios < -0.02), np.mean(ratios > 0.02)
    assert -0.02 < np.median(ratios) < 0.05 and softer < 0.5, (name, np.median(ratios), softer, sharper)
    assert sharper > 0.03


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_a_fake_is_not_known_by_the_edge_of_its_crop(clips: list[Clip], forged: Callable[[str, int, int], np.ndarray], name: str) -> None:
    """Resizing and bending repeat a picture's outermost pixels. A detector that finds flat edges finds these forgers and no generator of the world."""

    def lines(frames: np.ndarray, fake: np.ndarray) -> np.ndarray:
        """How much more detail the outermost lines of `fake` have than those of `frames`, as a logarithm, each beside the lines 8 to 15 further in."""
        rough = [np.abs([cv2.Laplacian(one.astype(np.float32).mean(axis=2), cv2.CV_32F) for one in clip]) for clip in (fake, frames)]
        ring = [[np.concatenate([one[:, k], one[:, -1 - k], one[..., k], one[..., -1 - k]]).mean() + 0.1 for k in (0, 1, 2, *range(8, 16))] for one in rough]
        change = np.log(ring[0]) - np.log(ring[1])
        return change[:3] - change[3:].mean()

    changes = np.array([lines(clips[target][0], fake) for seed in range(12) for target in range(4)
                        if not np.array_equal((fake := forged(name, seed, target))[:, 0], clips[target][0][:, 0])])  # fmt: skip
    assert len(changes) == 0 or np.abs(np.median(changes, axis=0)).max() < 0.25, np.median(changes, axis=0)


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_where_a_crop_reaches_beyond_its_picture_a_fake_is_as_black_as_its_real(clips: list[Clip], name: str) -> None:
    cut = [(cut_off(frames), points) for frames, points in clips]
    outside = beyond(cut[0][0][0]) > 0
    assert 0.1 < outside.mean() < 0.3
    for seed in range(6):
        fake = forge(name, cut, seed, seed % 4, (seed + 1) % 4)
        assert fake[:, outside].max() == 0 and np.median(fake[:, ~outside]) > 20, (name, seed)


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_no_line_is_left_along_the_edge_of_a_picture(clips: list[Clip], name: str) -> None:
    """The black of what lies beyond bled into whatever was blurred or enlarged, and rang in what was sharpened after it."""
    cut = [(cut_off(frames), points) for frames, points in clips]

    def step(frame: np.ndarray) -> float:
        far = cv2.distanceTransform((beyond(frame) == 0).astype(np.uint8), cv2.DIST_L2, 5)
        grey = frame.astype(np.float32).mean(axis=2)
        return float(grey[(far >= 1) & (far < 2.5)].mean() - grey[(far >= 2.5) & (far < 4.5)].mean())

    more = [step(forge(name, cut, seed, seed % 4, (seed + 1) % 4)[0]) - step(cut[seed % 4][0][0]) for seed in range(24)]
    assert abs(np.median(more)) < 2.5 and np.mean(np.abs(more) > 6) < 0.2, more


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_no_more_of_a_fake_is_black_or_white_than_of_its_real(clips: list[Clip], name: str) -> None:
    """A gain overshoots: pixels at an end of the scale were a mark of half of all fakes."""
    lit = [
        (np.clip(frames.astype(np.float32) * 1.25 - 15, 2, 253).astype(np.uint8), points) for frames, points in clips
    ]  # much of it near an end, nothing there
    ends = [np.isin(forge(name, lit, seed, seed % 4, (seed + 1) % 4), (0, 255)).mean() for seed in range(16)]
    assert np.mean(np.array(ends) > 0.001) < 0.1, ends


def test_the_surroundings_of_a_driven_still_move_as_those_of_its_clip(clips: list[Clip]) -> None:
    """A crop follows its head, so that what is round it drifts by; round a still that was driven all stood still, in every clip."""
    frames, points = clips[0]
    rough = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 200, 3)).astype(np.float32), (0, 0), 4) * 3 - 250
    wall = np.clip(rough, 0, 255).astype(np.uint8)
    outside = np.stack([hull_mask(mesh, 96) == 0 for mesh in points])[..., None]
    drifting = np.where(outside, np.stack([wall[:, 3 * moment : 3 * moment + 96] for moment in range(len(frames))]), frames)
    standing = np.where(outside, wall[None, :, :96], frames)
    rim = np.ones((96, 96), bool)
    rim[5:-5, 5:-5] = False

    def moved(clip: np.ndarray) -> float:
        return float(np.abs(np.diff(clip.astype(np.float32), axis=0))[:, rim].mean())

    for seed in range(4):
        found = {
            name: moved(reenact(clip, points, np.random.default_rng(seed), portrait=True)[0]) for name, clip in (("drifts", drifting), ("stands", standing))
        }
        assert found["drifts"] > 0.4 * moved(drifting) and found["stands"] < 0.5 * found["drifts"], (found, moved(drifting))


def test_what_cannot_be_seen_is_forged_again(clips: list[Clip]) -> None:
    """A blend of a picture with nearly itself, a mouth driven to where it was: real clips under the label fake."""
    frames, points = clips[0]
    draws = iter([frames, frames + np.uint8(1), 255 - frames])
    assert np.array_equal(forged_within(frames, lambda pictures: (next(draws), points))[0], 255 - frames)
    assert np.array_equal(forged_within(frames, lambda pictures: (frames, points))[0], frames), "not for ever"


@pytest.mark.parametrize("off", [0, 2])
@pytest.mark.parametrize("name", sorted(FORGERS))
def test_of_a_clip_without_colours_the_fake_has_none(clips: list[Clip], name: str, off: int) -> None:
    """Any colour at all told every fake of a black-and-white clip, by three forgers; coding alone may bring channels apart by a level or two."""
    tint = np.array([0, off, off // 2], np.uint8)
    grey = [(np.repeat(frame.min(axis=-1, keepdims=True), 3, axis=-1).clip(4, 250) + tint, points) for frame, points in clips]
    for seed in range(3):
        made = forge(name, [grey[0], clips[1]], seed)
        assert np.ptp(made.astype(int) - tint, axis=-1).max() == 0 and made.shape == grey[0][0].shape
        assert (made != grey[0][0]).any()


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_a_fake_is_not_known_by_the_colours_of_its_detail(clips: list[Clip], forged: Callable[[str, int, int], np.ndarray], name: str) -> None:
    """Whatever a camera or a codec recorded has colour at half the resolution, and so has every forgery that circulates; those made here had not."""
    shares = [shares_of_detail(frames) for frames, _ in clips]
    more = [shares_of_detail(forged(name, seed, target)) - shares[target] for seed in range(12) for target in range(4)]
    assert np.abs(np.median(more, axis=0)).max() < 0.15, np.median(more, axis=0)


@pytest.mark.parametrize("sharpness", [0.8, 1.0, 1.25])
def test_what_is_laid_over_half_has_the_detail_that_was_asked_for(clips: list[Clip], sharpness: float) -> None:
    """Two pictures laid half over each other lose some of both: matched before, a mixture was up to a tenth softer than asked.

    What counts is each ring of the spectrum, less the peaks in it, so that the spread of it all comes out somewhat above.
    """
    frames = clips[0][0]
    made = np.stack([cv2.GaussianBlur(frame[:, ::-1].astype(np.float32), (0, 0), 0.5) for frame in frames])
    covers = np.zeros(frames.shape[:3], np.float32)
    covers[:, 20:70, 20:70] = 0.7
    found = compose(frames, made, covers, sharpness)
    assert 0.98 < detail(found.astype(np.float32), covers) / (sharpness * detail(frames.astype(np.float32), covers)) < 1.15
    assert np.array_equal(found[covers == 0], frames[covers == 0])


@pytest.mark.parametrize("sigma", [0.6, 1.5])
def test_a_soft_picture_gets_a_spectrum_and_not_a_contrast(clips: list[Clip], sigma: float) -> None:
    """Detail that is enlarged as a whole is too much of the coarse and too little of the fine: so decoders were told, and what blends by the reverse."""
    frames = clips[0][0]
    soft = np.stack([cv2.GaussianBlur(frame[:, ::-1].astype(np.float32), (0, 0), sigma) for frame in frames])
    found = compose(frames, soft, np.ones(frames.shape[:3], np.float32), 1.0, fill=True)
    bands = [place for place, name in enumerate(STATISTICS) if name.startswith("spectrum")]
    more, left = (np.array([statistics(one.astype(np.uint8))[place] - statistics(frames[4])[place] for place in bands]) for one in (found[4], soft[4]))
    assert np.abs(more).max() < 0.25 and np.abs(left).max() > 2 * np.abs(more).max(), (more, left)


def test_what_is_coarser_than_detail_does_not_seep_into_the_spectrum_of_a_soft_edged_fake(clips: list[Clip]) -> None:
    """A decoder's face is soft and shaded otherwise: strong gains for what it lacks, beside a light that has none and that the edge of the cover spreads."""
    frames = clips[0][0]
    size = frames.shape[1]
    y, x = np.mgrid[:size, :size] / size - 0.5
    soft = np.stack([cv2.GaussianBlur(frame[:, ::-1].astype(np.float32), (0, 0), 1.5) for frame in frames]) + (60 * x + 50 * np.cos(5 * y))[None, ..., None]
    covers = np.repeat(np.clip(3 - 7 * np.hypot(x, y), 0, 1)[None].astype(np.float32), len(frames), axis=0)
    found = compose(frames, soft, covers, 1.0, fill=True)

    def rings(picture: np.ndarray) -> np.ndarray:
        grey = picture.astype(np.float32).mean(axis=2)
        amplitudes = np.abs(scipy.fft.dctn((grey - cv2.GaussianBlur(grey, (0, 0), 5.5)) * covers[4], norm="ortho"))
        radius = np.hypot(*np.meshgrid(np.arange(size), np.arange(size))) / (2 * size)
        return np.log([(amplitudes[(radius > low) & (radius <= high)] ** 1.5).mean() for low, high in pairwise((0.04, 0.06, 0.1, 0.15, 0.25, 0.4))]) / 1.5

    assert np.abs(rings(found[4]) - rings(frames[4])).max() < 0.045, rings(found[4]) - rings(frames[4])


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_the_face_does_change_and_the_input_does_not(clips: list[Clip], name: str) -> None:
    before = clips[0][0].copy()
    for seed in range(8):
        change = np.abs(forge(name, clips, seed).astype(int) - before)
        assert change.max() >= 8 and change.mean() > 0.3, f"draw {seed} forged nothing"
    assert np.array_equal(before, clips[0][0])


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_the_same_draw_gives_the_same_clip_and_another_draw_another(clips: list[Clip], name: str) -> None:
    assert np.array_equal(forge(name, clips, 3), forge(name, clips, 3))
    assert not np.array_equal(forge(name, clips, 3), forge(name, clips, 4))


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_a_forged_clip_moves_as_much_as_the_real_one(clips: list[Clip], forged: Callable[[str, int, int], np.ndarray], name: str) -> None:
    """A mask or colour drawn anew for each frame would flicker; a still donor would freeze the face."""
    ratios = [motion(forged(name, seed, target)) / motion(clips[target][0]) for seed in range(5) for target in range(4)]
    assert 1 / 1.5 < np.exp(np.mean(np.log(ratios))) < 1.5, ratios


@pytest.mark.parametrize("name", sorted(FORGERS))
def test_an_image_is_a_clip_of_one_frame(clips: list[Clip], name: str) -> None:
    frames, landmarks = clips[0][0][:1], clips[0][1][:1]
    donor = (clips[1][0][:1], clips[1][1][:1])
    forged, points = forge_clip(name, frames, landmarks, np.random.default_rng(0), donor if FORGERS[name].needs_donor else None)
    assert forged.shape == frames.shape and points.shape == landmarks.shape and not np.array_equal(forged, frames)


def test_swap_brings_the_donors_looks_to_the_targets_pose(clips: list[Clip]) -> None:
    """Two donors of one target: inside the face the results differ, and the eyes stay where the target's eyes are."""
    one, other = forge("landmark_swap", clips, 1, 0, 1), forge("landmark_swap", clips, 1, 0, 2)
    points = clips[0][1]
    face = np.stack([cv2.erode(reach_mask(p, 96), np.ones((29, 29), np.uint8)) for p in points]) > 0
    assert np.abs(one.astype(int) - other)[face].mean() > 2


def test_the_donors_time_does_not_jump() -> None:
    """Shapes that fit frames 0, 5, 0, 5 almost equally well must not be followed to and fro."""
    rng = np.random.default_rng(0)
    face = rng.random((468, 2))
    source = np.stack([face + 0.0005 * rng.standard_normal((468, 2)) for _ in range(6)]).astype(np.float32)
    goal = source[[0, 5, 0, 5, 0, 5]]
    steps = np.diff(donor_path(goal, source))
    assert np.abs(steps - 1).max() <= 1


def test_a_turned_head_takes_the_donors_turned_frame() -> None:
    rng = np.random.default_rng(1)
    face = rng.random((468, 2))
    source = np.stack([face * [1 - 0.08 * step, 1] for step in range(6)]).astype(np.float32)
    assert donor_path(source[[4]], source) == [4]


@pytest.mark.parametrize(
    ("name", "frames", "landmarks", "words"),
    [
        ("deep_magic", np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 468, 2)), ", ".join(sorted(FORGERS))),
        ("landmark_swap", np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 468, 2)), "another person"),
        ("self_blend", np.zeros((2, 32, 32, 3), np.float32), np.zeros((2, 468, 2)), "uint8"),
        ("self_blend", np.zeros((2, 32, 31, 3), np.uint8), np.zeros((2, 468, 2)), "[T,S,S,3]"),
        ("self_blend", np.zeros((2, 32, 32, 3), np.uint8), np.zeros((1, 468, 2)), "(2, 468, 2)"),
        ("self_blend", np.zeros((2, 32, 32, 3), np.uint8), np.full((2, 468, 2), np.nan), "not finite"),
    ],
)
def test_what_cannot_be_forged_is_refused_by_name(name: str, frames: np.ndarray, landmarks: np.ndarray, words: str) -> None:
    with pytest.raises(DataError) as problem:
        forge_clip(name, frames, landmarks, np.random.default_rng(0))
    assert words in str(problem.value)


def test_real_faces_are_forged_too(shared_data: Path) -> None:
    photo = sorted((shared_data / "real" / "photos").iterdir())
    faces = FaceSettings(size_px=112, min_clip_frames=1, clip_frames=8)
    found = [clips[0] for path in photo[:6] if (clips := extract_clips(path, faces).clips)]
    assert len(found) >= 2
    for name in FORGERS:
        forged, _ = forge_clip(
            name, found[0].frames, found[0].landmarks, np.random.default_rng(0), (found[1].frames, found[1].landmarks) if FORGERS[name].needs_donor else None
        )
        assert np.abs(forged.astype(int) - found[0].frames).mean() > 0.3


def test_single_frames_are_reenacted_with_eyes_as_often_closed_as_those_of_a_clip(clips: list[Clip]) -> None:
    """A blink at its height in each single frame, and nowhere among real ones, would be the mark of a fake."""
    from media.forgers.reenact import LOWER_LIDS, UPPER_LIDS

    frames, points = clips[0]
    middle = len(UPPER_LIDS) // 4  # of the first eye
    gap = lambda mesh: np.linalg.norm(mesh[UPPER_LIDS[middle]] - mesh[LOWER_LIDS[middle]])  # noqa: E731

    def closed(count: int) -> float:
        found = [reenact(frames[:count], points[:count], np.random.default_rng([7, seed]))[1] for seed in range(120)]
        return float(np.mean([gap(mesh) < 0.5 * gap(points[0]) for meshes in found for mesh in meshes]))

    assert closed(1) < 0.25 and closed(1) < closed(len(frames)) + 0.12
