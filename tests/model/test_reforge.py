"""Forging anew: other numbers at each visit, the same for the same step, and never where the recipe is not whole."""

import numpy as np
import pandas as pd
import pytest
import torch

from model.data import MemoryClips
from model.reforge import Reforger
from model.views import Views
from tests.faces import Clip, rendered_clips
from workspace.settings import AugmentSettings


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return rendered_clips(tmp_path_factory.mktemp("reforge"), people=2)


def fake_of(forger: str, source: str = "a", donor: str = "", role: str = "forged") -> dict[str, str]:
    return {"clip_id": f"{source}+{forger}+{role}", "label": "fake", "forger": forger, "source_clip": source, "donor_clip": donor, "role": role}


def memory(clips: list[Clip], *fakes: dict[str, str]) -> MemoryClips:
    """Two real clips `a` and `b`, and stored fakes whose pixels are grey, so that a forgery made anew cannot be mistaken for one."""
    blank = {"forger": "", "source_clip": "", "donor_clip": "", "role": "new", "source_video": "", "kind": "video"}
    real = [{**blank, "clip_id": name, "label": "real", "sample_id": name, "identity": name} for name in "ab"]
    fakes = tuple({**blank, "sample_id": fake["source_clip"], "identity": fake["source_clip"]} | fake for fake in fakes)
    grey = np.full_like(clips[0][0], 128)
    points = [points for _, points in clips] + [clips[0][1]] * len(fakes)
    return MemoryClips(pd.DataFrame([*real, *fakes]), [frames for frames, _ in clips] + [grey] * len(fakes), points)


def is_stored(found: np.ndarray) -> bool:
    return bool((found == 128).all())


def test_a_fake_is_another_one_at_each_visit_and_the_same_for_the_same_numbers(clips: list[Clip]) -> None:
    reforger = Reforger(memory(clips, fake_of("self_blend")), 1.0)
    first, again, other = (reforger.take(2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert not is_stored(first) and np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == clips[0][0].shape


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_what_training_is_shown_is_forged_anew_as_often_as_the_settings_say(clips: list[Clip], chance: float) -> None:
    nothing_else = dict.fromkeys(("degrade", "poor_sources", "cutout", "frequency_mask", "flip", "move_chance", "tilt_db"), 0.0)
    alike = dict.fromkeys(("brightness", "contrast", "saturation", "noise_sigma"), 0.0)
    views = Views(memory(clips, fake_of("self_blend")), AugmentSettings(reforge=chance, **nothing_else, **alike), 1)
    one, other = (views.make(step, [2], [0])[0].frames for step in (0, 1))
    assert bool((one == 128 / 255).all()) == bool((other == 128 / 255).all()) == (chance == 0)
    assert torch.equal(one, other) == (chance == 0), "a seam in one place would be learned by heart"


def test_one_frame_is_forged_alone(clips: list[Clip]) -> None:
    reforger = Reforger(memory(clips, fake_of("landmark_swap", donor="b")), 1.0)
    found = reforger.take(2, np.random.default_rng(3), single=True)
    assert found.shape == (1, *clips[0][0].shape[1:]) and not is_stored(found)


@pytest.mark.parametrize(
    "fake",
    [
        fake_of("self_blend", source="gone"),
        fake_of("landmark_swap", source="gone", donor="b"),
        fake_of("portrait"),
        fake_of("self_blend", role="hardened"),
        fake_of(""),
    ],
    ids=["no source", "no target", "learned", "hardened", "collected"],
)
def test_without_a_whole_recipe_the_stored_clip_is_taken(clips: list[Clip], fake: dict[str, str]) -> None:
    assert is_stored(Reforger(memory(clips, fake), 1.0).take(2, np.random.default_rng(0)))


def test_a_swap_whose_donor_was_not_drawn_takes_the_face_of_another(clips: list[Clip]) -> None:
    """Of a replayed tenth of the history hardly any swap had its own donor beside it, and each stayed one seam in one place."""
    reforger = Reforger(memory(clips, fake_of("landmark_swap", donor="gone")), 1.0)
    one, other = (reforger.take(2, np.random.default_rng(seed)) for seed in (1, 2))
    assert not is_stored(one) and not is_stored(other) and not np.array_equal(one, other)


def test_a_swap_without_anybody_to_give_a_face_stays_as_it_is_stored(clips: list[Clip]) -> None:
    alone = memory(clips, fake_of("landmark_swap", donor="gone"))
    alone.rows["identity"] = "one"
    assert is_stored(Reforger(alone, 1.0).take(2, np.random.default_rng(0)))


def test_switched_off_nothing_is_forged_and_no_number_is_drawn(clips: list[Clip]) -> None:
    rng = np.random.default_rng(0)
    assert is_stored(Reforger(memory(clips, fake_of("self_blend")), 0.0).take(2, rng))
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_without_landmarks_nothing_is_forged(clips: list[Clip]) -> None:
    whole = memory(clips, fake_of("self_blend"))
    bare = MemoryClips(whole.rows, [whole.clip(position) for position in range(3)])
    assert is_stored(Reforger(bare, 1.0).take(2, np.random.default_rng(0)))


def test_a_source_is_spoiled_before_it_is_forged(clips: list[Clip]) -> None:
    """Pixels that self-blending leaves alone are exactly those of the spoiled source, with the same forgery as on the source as it is."""
    reforger = Reforger(memory(clips, fake_of("self_blend")), 1.0)
    made, dark = (reforger.take(2, np.random.default_rng(0), spoil=spoil) for spoil in (lambda clip: clip, lambda clip: clip // 2))
    touched, forged = (made != clips[0][0]).any(axis=3), (dark != clips[0][0] // 2).any(axis=3)
    assert 0 < forged.mean() < 0.8 and (forged & ~touched).mean() < 0.02


def test_a_stored_clip_is_spoiled_itself_and_a_hardened_one_not_at_all(clips: list[Clip]) -> None:
    for role, grey in (("forged", 64), ("hardened", 128)):
        found = Reforger(memory(clips, fake_of("portrait", role=role)), 1.0).take(2, np.random.default_rng(0), spoil=lambda clip: clip // 2)
        assert (found == grey).all()


def test_source_and_donor_are_spoilt_each_in_its_own_way_before_the_swap(clips: list[Clip]) -> None:
    reforger = Reforger(memory(clips, fake_of("landmark_swap", donor="b")), 1.0)
    plain = reforger.take(2, np.random.default_rng(4))
    seen: dict[str, np.ndarray] = {}

    def spoil(name: str, level: int):
        def done(frames: np.ndarray) -> np.ndarray:
            seen[name] = frames
            return np.full_like(frames, level)

        return done

    donor_alone = reforger.take(2, np.random.default_rng(4), spoil_donor=spoil("donor", 90))
    assert np.array_equal(seen["donor"], clips[1][0]) and not np.array_equal(donor_alone, plain)
    reforger.take(2, np.random.default_rng(4), spoil=spoil("source", 60), spoil_donor=spoil("donor", 90))
    assert np.array_equal(seen["source"], clips[0][0])


def test_a_single_frame_is_reenacted_from_another_moment_of_its_clip(clips: list[Clip]) -> None:
    """From itself alone a frame is bent onto its own mesh, and nothing is ever driven."""
    whole = memory(clips, fake_of("reenact"))
    dark = np.zeros_like(clips[0][0])
    dark[2] = clips[0][0][2]
    others_dark = MemoryClips(whole.rows, [dark, clips[1][0], whole.clip(2)], [clips[0][1], clips[1][1], clips[0][1]])
    took, took_dark = ([Reforger(given, 1.0).take(2, np.random.default_rng(seed), single=True, at=2) for seed in range(30)] for given in (whole, others_dark))
    changed = sum(not np.array_equal(one, other) for one, other in zip(took, took_dark, strict=True))
    assert 8 <= changed <= 28, "stills come from another frame, the rest from the frame itself"


def test_each_visit_brings_another_donor_of_the_same_kind_and_never_the_person_itself(clips: list[Clip]) -> None:
    bare = memory(clips, fake_of("landmark_swap", donor="b")).rows
    rows = pd.concat(
        [bare, bare.iloc[[0, 1, 1]].assign(clip_id=["a2", "c", "photo"], sample_id=["a2", "c", "photo"], identity=["a", "c", "d"])], ignore_index=True
    )
    rows.loc[5, "kind"] = "image"
    level = {0: 200, 1: 10, 3: 220, 4: 20, 5: 240}
    pixels = [np.full_like(clips[0][0], level.get(position, 128)) for position in range(6)]
    reforger = Reforger(MemoryClips(rows, pixels, [clips[0][1]] * 6), 1.0)
    gave: set[int] = set()

    def seen(frames: np.ndarray) -> np.ndarray:
        gave.add(int(frames.flat[0]))
        return frames

    for seed in range(20):
        reforger.take(2, np.random.default_rng(seed), spoil_donor=seen)
    assert gave == {10, 20}
