"""Learned forgers: they learn from faces, forge what looks like the clip, the same for the same draw, and never a still picture."""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
import torch

from media.align import beyond
from media.forgers.masks import reach_mask, steady
from media.forgers.reenact import reenact
from model.forgers import LEARNED, Face
from model.forgers.decoders import KINDS, Autoencoder, draw_again, draw_unlike, drawing_loss, train_autoencoder
from pipelines.nuisance import shares_of_detail
from tests.faces import Clip, cut_off, detail, motion, rendered_clips

STEPS = {"autoencoder_swap": 10}  # it is slow, and what is asked of it does not need more
FEW = 100  # for the others


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Four people's clips [8,96,96,3], cut by the real detector."""
    return rendered_clips(tmp_path_factory.mktemp("learned"))


@pytest.fixture(scope="session")
def networks(clips: list[Clip]) -> dict[str, torch.nn.Module]:
    """Each learned forger after a few steps."""
    faces = [Face(frame, number % 2) for number, (frames, _) in enumerate(clips) for frame in frames]
    return {name: forger.learn(faces, STEPS.get(name, FEW), 3, lambda done, total: None) for name, forger in LEARNED.items()}


@pytest.fixture(scope="session")
def forged(networks: dict[str, torch.nn.Module], clips: list[Clip]) -> Callable[[str, int, int], Clip]:
    """The clip of a number as a forger makes it by a draw; each is made once, whoever asks for it."""
    return cache(lambda name, number, seed: forge(networks, clips[number], name, seed))


def forge(networks: dict[str, torch.nn.Module], clip: Clip, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return LEARNED[name].forge(networks[name], clip[0], clip[1], np.random.default_rng(seed), 0)


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_a_learned_forger_changes_the_face_and_leaves_the_input(networks: dict[str, torch.nn.Module], clips: list[Clip], name: str) -> None:
    before = clips[0][0].copy()
    for seed in range(4):
        fake, points = forge(networks, clips[0], name, seed)
        assert fake.shape == before.shape and fake.dtype == np.uint8 and points.shape == clips[0][1].shape
        change = np.abs(fake.astype(int) - before)
        assert 0.3 < change.mean() < 60, f"draw {seed}: {change.mean()}"
    assert np.array_equal(before, clips[0][0])


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_the_same_draw_gives_the_same_clip_and_another_draw_another(networks: dict[str, torch.nn.Module], clips: list[Clip], name: str) -> None:
    first = forge(networks, clips[1], name, 5)[0]
    assert np.array_equal(first, forge(networks, clips[1], name, 5)[0])
    assert not np.array_equal(first, forge(networks, clips[1], name, 6)[0])


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_a_learned_forgery_moves_as_much_as_the_real_clip(forged: Callable[[str, int, int], Clip], clips: list[Clip], name: str) -> None:
    ratios = [motion(forged(name, number, seed)[0]) / motion(clip[0]) for seed in range(4) for number, clip in enumerate(clips)]
    assert 0.5 < np.exp(np.mean(np.log(ratios))) < 2.0, ratios


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_a_learned_fake_is_not_known_by_being_softer_than_its_real(forged: Callable[[str, int, int], Clip], clips: list[Clip], name: str) -> None:
    """Decoders draw softly; 98 in 100 of their fakes were softer than the real, by a fifth and more."""
    sharp = [detail(frames.astype(np.float32)) for frames, _ in clips]
    ratios = [detail(forged(name, number, seed)[0].astype(np.float32)) / sharp[number] for seed in range(10) for number in range(len(clips))]
    assert 0.95 < np.median(ratios) < 1.10 and np.mean(np.array(ratios) < 0.98) < 0.6, np.round(ratios, 2)


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_where_a_crop_reaches_beyond_its_picture_a_learned_fake_is_as_black_as_its_real(
    networks: dict[str, torch.nn.Module], clips: list[Clip], name: str
) -> None:
    """Every portrait had something there."""
    frames, points = cut_off(clips[2][0]), clips[2][1]
    outside = beyond(frames[0]) > 0
    for seed in range(4):
        fake = forge(networks, (frames, points), name, seed)[0]
        assert fake[:, outside].max() == 0 and np.median(fake[:, ~outside]) > 20, seed


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_a_learned_fake_is_not_known_by_the_colours_of_its_detail(forged: Callable[[str, int, int], Clip], clips: list[Clip], name: str) -> None:
    """As of the other forgers (tests/media/test_forgers.py); nor by the finest of its detail, which no small decoder draws."""
    shares = [shares_of_detail(frames) for frames, _ in clips]
    more = [shares_of_detail(forged(name, number, seed)[0]) - shares[number] for seed in range(10) for number in range(len(clips))]
    assert np.abs(np.median(more, axis=0)).max() < 0.15, np.median(more, axis=0)


def test_a_portrait_has_no_seam_because_all_of_it_is_driven(clips: list[Clip]) -> None:
    frames, points = clips[0]
    for seed in range(12):
        moved, _ = reenact(frames, points, np.random.default_rng(seed), portrait=True)
        outside = np.stack([reach_mask(mesh, frames.shape[1]) == 0 for mesh in steady(points)])
        assert np.abs(moved.astype(int) - frames)[outside].mean() > 0.2, f"draw {seed} kept its surroundings"


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_leaves_colours_shades_and_the_border_as_they_were(networks: dict[str, torch.nn.Module], clips: list[Clip], kind: str) -> None:
    """What a detector could go by without looking for a trace: brown lips, pale skin, a frame round the picture."""
    for seed in range(8):
        frames = clips[seed % 4][0]
        change = forge(networks, clips[seed % 4], f"decoder_{kind}", seed)[0].astype(np.float32) - frames
        coarse = np.stack([cv2.GaussianBlur(one, (0, 0), 8.0) for one in change])
        assert np.abs(coarse).mean() < 1.0 and np.abs(coarse).max() < 6.0, f"draw {seed}"
        fine = np.abs(change).mean(axis=(0, 3))
        rim = np.concatenate([fine[0], fine[-1], fine[:, 0], fine[:, -1]])
        assert rim.mean() < 2.5 * fine.mean() + 0.5, f"draw {seed}: the border stands out"


def test_no_two_clips_are_drawn_alike(networks: dict[str, torch.nn.Module], clips: list[Clip]) -> None:
    frames = clips[0][0][:1]
    network = networks["decoder_shuffle"]
    assert isinstance(network, Autoencoder)
    plain = draw_again(network, frames)
    draws = [draw_unlike(network, frames, np.random.default_rng(seed)) for seed in range(4)]
    assert all(one.shape == plain.shape and 0.05 < np.abs(one - plain).mean() < 25 for one in draws)
    assert np.abs(draws[0] - draws[1]).mean() > 0.05
    assert np.array_equal(plain, draw_again(network, frames)), "the network itself is not changed"


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_an_image_is_a_clip_of_one_frame(networks: dict[str, torch.nn.Module], clips: list[Clip], name: str) -> None:
    fake, points = forge(networks, (clips[0][0][:1], clips[0][1][:1]), name, 0)
    assert fake.shape == (1, 96, 96, 3) and points.shape == (1, 468, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_learns_to_draw(clips: list[Clip], kind: str) -> None:
    pictures = [frames[0] for frames, _ in clips]
    given = torch.from_numpy(pictures[0].transpose(2, 0, 1).copy())[None].float() / 255

    def loss(steps: int) -> float:
        network = train_autoencoder(kind, pictures, steps, 1)
        with torch.no_grad():
            return float(drawing_loss(network(given), given))

    assert loss(20) < 0.6 * loss(1)


def test_learning_is_repeatable_and_an_odd_size_is_drawn_whole(clips: list[Clip]) -> None:
    pictures = [frames[0] for frames, _ in clips]
    first, second = (train_autoencoder("shuffle", pictures, 5, 9).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    odd = np.ascontiguousarray(clips[0][0][:, :93, :93])
    assert draw_again(train_autoencoder("resize", pictures, 2, 1), odd).shape == odd.shape
