"""What stage `evaluate` attacks: with which settings, and how much of it at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from media.shards import ShardWriter, read_index
from model.attacks import RobustPoint
from pipelines import robustness
from pipelines.harden import same_length
from tests.model.toys import model_folder, toy_clip
from tests.pipelines.small_world import demo_settings
from workspace.settings import Settings


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that draws the curve of one model with the given settings, and the list of attacks that were really made."""
    from model.card import load_card

    made: list[float] = []

    def robust_curve(model: Any, clips: Any, fake: Any, strengths: Any, *, border: float, **others: Any) -> list[RobustPoint]:
        made.append(border)
        return [RobustPoint(eps, 1, 1.0, 1.0, 0.0, 0.0) for eps in strengths]

    monkeypatch.setattr("model.attacks.robust_curve", robust_curve)
    monkeypatch.setattr(robustness, "load_clips", lambda root, panel: (None, None, None))
    model_folder(tmp_path / "build/model", threshold=0.7, temperature=2.0)

    def draw(settings: Settings) -> Any:
        return robustness.curve(tmp_path, "build/model", load_card(tmp_path / "build/model"), pd.DataFrame({"sha256": ["a"]}), settings, 1)

    return draw, made


def test_a_curve_is_read_again_until_the_stage_has_another_version(attacked: Any) -> None:
    draw, made = attacked
    settings = demo_settings()
    draw(settings)
    draw(settings)
    assert len(made) == 1
    raised = settings.stage_versions.model_copy(update={"evaluate": settings.stage_versions.evaluate + 1})
    draw(settings.model_copy(update={"stage_versions": raised}))
    assert len(made) == 2


def test_the_attacks_aim_at_the_raw_logit_of_the_shipped_threshold(attacked: Any) -> None:
    draw, made = attacked
    draw(demo_settings())
    assert made == [pytest.approx(2.0 * 0.8473, abs=1e-3)]


def test_clips_wait_for_their_attack_in_8_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = [toy_clip(False, rng, frames) for frames in (3, 1)]
    with ShardWriter(tmp_path / "data/faces/b") as writer:
        for number, clip in enumerate(made):
            writer.add({"clip_id": f"c{number}", "label": "fake" if number else "real"}, clip, np.zeros((len(clip), 468, 2)))
    clips, fake, lengths = robustness.load_clips(tmp_path, read_index(tmp_path / "data/faces/b").assign(store="data/faces/b"))
    assert clips.dtype == torch.uint8 and clips.shape == (2, 3, 3, 32, 32) and fake.tolist() == [False, True] and lengths.tolist() == [3, 1]
    assert np.array_equal(clips[0].permute(0, 2, 3, 1).numpy(), made[0])


def test_clips_to_harden_are_attacked_in_batches_of_one_length_that_fit_the_memory() -> None:
    rows = [{"clip_id": str(n), "frames": 30 if n % 2 else 5, "size_px": 224} for n in range(20)]
    assert [[row["frames"] for row in part] for part in same_length(rows)] == [[5] * 8, [5] * 2, *[[30]] * 10]
