"""What the network is shown: a pair differs by its forgery alone, and where they differ is told; without pairs nothing is shared."""

import numpy as np
import pandas as pd
import pytest
import torch

from model.data import MemoryClips
from model.loop import TrainReport
from model.training import pretrain
from model.views import Views
from tests.model.test_training import PHASE1, Stopped, same, stop_at
from tests.model.toys import small_model, toy_clips
from workspace.settings import AugmentSettings

ALL = AugmentSettings(degrade=1.0, h264=0.0, poor_reals=0.0, tilt_db=8.0, reforge=0.0)
LEFT, REAL, FAKE, STRANGER = 12, 0, 1, 2
STILL = ("degrade", "cutout", "rotation_degrees", "affine", "flip", "tilt_db", "frequency_mask")  # what moves places about, or smears them over the border


@pytest.fixture
def clips() -> MemoryClips:
    """A real clip, a fake of it whose left third is another, and a fake of a clip that is not here."""
    real = np.random.default_rng(0).integers(60, 190, (5, 36, 36, 3), dtype=np.uint8)
    fake = real.copy()
    fake[:, :, :LEFT] = 255 - fake[:, :, :LEFT]
    rows = [("r", "real", ""), ("f", "fake", "r"), ("s", "fake", "gone")]
    table = pd.DataFrame([{"clip_id": name, "label": label, "source_clip": source, "role": "forged" if source else "new"} for name, label, source in rows])
    return MemoryClips(table, [real, fake, fake])


@pytest.mark.parametrize("single", [True, False])
def test_a_pair_shares_frame_and_augmentation_and_tells_where_it_differs(clips: MemoryClips, single: bool) -> None:
    views = Views(clips, ALL.model_copy(update=dict.fromkeys(STILL, 0.0)), 1, single=single, pairs=True, grid=6)
    for step in range(6):
        real, fake, stranger = views.make(step, [REAL, FAKE, STRANGER], [0, 1, 2])
        assert real.where is not None and not real.where.any() and stranger.where is None
        assert fake.where is not None and fake.where.shape == real.where.shape == (1 if single else 5, 6, 6)
        assert fake.where[:, :, 0].mean() > 0.9 and fake.where[:, :, 4:].mean() < 0.2 and fake.where.min() >= 0 and fake.where.max() <= 1
        assert (fake.frames - real.frames)[..., 24:].abs().mean() < 0.2 * (fake.frames - real.frames)[..., :8].abs().mean()


def test_a_pair_loses_its_colours_together(clips: MemoryClips) -> None:
    views = Views(clips, ALL.model_copy(update={"grey": 0.5}), 1, single=True, pairs=True, grid=6)
    seen = set()
    for step in range(12):
        real, fake = (torch.equal(view.frames[:, 0], view.frames[:, 1]) for view in views.make(step, [REAL, FAKE], [0, 1]))
        assert real == fake
        seen.add(real)
    assert seen == {True, False}


def test_without_pairs_each_is_drawn_for_itself(clips: MemoryClips) -> None:
    real, fake, _ = Views(clips, ALL, 1).make(0, [REAL, FAKE, STRANGER], [0, 1, 2])
    assert (fake.frames - real.frames)[..., 24:].abs().mean() > 0.01 and fake.where is None


def test_where_nobody_asks_for_places_none_are_told(clips: MemoryClips) -> None:
    assert [view.where for view in Views(clips, ALL, 1, pairs=True).make(0, [REAL, FAKE, STRANGER], [0, 1, 2])] == [None] * 3


@pytest.mark.parametrize("pairs", [True, False])
def test_a_slot_is_the_same_whoever_makes_it(clips: MemoryClips, pairs: bool) -> None:
    """Several processes share a batch: what one shows must not depend on what it shows beside it."""
    views = Views(clips, ALL, 1, single=True, pairs=pairs, grid=6 if pairs else 0)
    together = views.make(3, [FAKE, REAL, STRANGER], [0, 1, 2])
    for slot in range(3):
        (alone,) = views.make(3, [FAKE, REAL, STRANGER], [slot])
        assert torch.equal(alone.frames, together[slot].frames)
        assert alone.where is together[slot].where is None or torch.equal(alone.where, together[slot].where)


def test_a_real_clip_that_was_made_poorer_leaves_the_difference_as_it_was(clips: MemoryClips) -> None:
    poor = ALL.model_copy(update={"poor_reals": 1.0})
    plain, poorer = (Views(clips, settings, 1, single=True, pairs=True, grid=6).make(0, [REAL, FAKE], [0, 1]) for settings in (ALL, poor))
    assert torch.equal(plain[1].frames, poorer[1].frames) and torch.equal(plain[1].where, poorer[1].where)
    assert not torch.equal(plain[0].frames, poorer[0].frames)


@pytest.mark.parametrize(("role", "changed"), [("new", [True, False]), ("hardened", [False, False])])
def test_hardened_reals_keep_their_attack_as_hardened_fakes_do(clips: MemoryClips, role: str, changed: list[bool]) -> None:
    """A third of the hardened reals lost it and no hardened fake: what was left of adversarial noise spoke for `fake`."""
    nothing_else = dict.fromkeys((*STILL, "noise_sigma", "brightness", "contrast", "saturation"), 0.0) | {"degrade": 1e-9, "poor_sources": 0.0}
    alike = MemoryClips(clips.rows.assign(role=role), [clips.clip(position) for position in range(3)])
    plain, poorer = (Views(alike, ALL.model_copy(update={**nothing_else, "poor_reals": chance}), 1).make(0, [REAL, FAKE], [0, 1]) for chance in (0.0, 1.0))
    assert [not torch.equal(before.frames, after.frames) for before, after in zip(plain, poorer, strict=True)] == changed


def test_a_poor_source_is_poor_for_both_and_is_forged_after(clips: MemoryClips) -> None:
    """Degraded alike before the forgery: what differs stays where it was, and outside of it nothing does."""
    plain = AugmentSettings(reforge=0.0, poor_sources=0.0, noise_sigma=0.0, brightness=0.0, contrast=0.0, saturation=0.0, degrade=1e-9, h264=0.0)
    still = plain.model_copy(update=dict.fromkeys(set(STILL) - {"degrade"}, 0.0))
    poor = still.model_copy(update={"poor_sources": 1.0})
    changed = 0
    for step in range(8):
        before, after = (Views(clips, settings, 1, single=True, pairs=True, grid=6).make(step, [REAL, FAKE], [0, 1]) for settings in (still, poor))
        changed += not torch.equal(before[0].frames, after[0].frames)
        assert not torch.equal(before[1].frames, after[1].frames) or torch.equal(before[0].frames, after[0].frames)
        assert (after[1].frames - after[0].frames)[..., 24:].abs().max() < 0.1, "far from the forgery the pair is the same"
        assert after[1].where is not None and after[1].where[:, :, 0].mean() > 0.9 and after[1].where[:, :, 4:].mean() < 0.1
    assert changed >= 6


def located(folder, progress=None) -> tuple[torch.nn.Module, TrainReport]:
    """Phase 1 with pairs and places on toy clips, every fake made from the real of its number."""
    clips = toy_clips(16)
    reals = clips.rows.index[clips.rows["label"] == "real"].tolist()
    for number, position in enumerate(clips.rows.index[clips.rows["label"] == "fake"]):
        clips.rows.loc[position, ["source_clip", "forger", "role"]] = [clips.rows["clip_id"][reals[number % len(reals)]], "toy", "forged"]
    model = small_model(1)
    settings = PHASE1.model_copy(update={"pairs": True, "locate": 1.0, "steps": 30, "validate_every": 10})
    return model, pretrain(model, clips, clips, settings, 3, folder, progress, augment=AugmentSettings(degrade=0.0, reforge=0.0))


def test_places_are_learned_and_a_run_that_was_stopped_goes_on_exactly(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("model.loop.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("model.loop.CHECKPOINT_SHARE", 1e9)
    whole, report = located(tmp_path / "whole")
    assert report.history[-1]["locate"] < report.history[0]["locate"] and not whole.training
    with pytest.raises(Stopped):
        located(tmp_path / "parts", stop_at(13))
    again, resumed = located(tmp_path / "parts")
    assert resumed.resumed_from == 13 and same(whole, again) and resumed.history == report.history
