"""What stage `evaluate` attacks: with which settings, and how much of it at once."""

from dataclasses import replace
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
from pipelines.scoring import CACHE
from tests.model.toys import lively_model, model_folder, toy_clip
from tests.pipelines.small_world import demo_settings, first_cycle, second_cycle
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

    def draw(settings: Settings, label: str = "real") -> Any:
        panel = pd.DataFrame({"sha256": ["a"], "label": [label]})
        return robustness.curve(tmp_path, "build/model", load_card(tmp_path / "build/model"), panel, settings, 1)

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
    draw(settings, label="fake")
    assert len(made) == 3, "a person has corrected the label"


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b'[{"eps": 0.0, "n"'])
def test_a_damaged_curve_is_measured_again(attacked: Any, tmp_path: Path, damage: bytes) -> None:
    draw, made = attacked
    draw(demo_settings())
    (path,) = (tmp_path / CACHE).glob("attack-*.json")
    path.write_bytes(damage)
    assert [[point["eps"] for point in draw(demo_settings())] for _ in range(2)] == [robustness.eps_list(demo_settings())] * 2
    assert len(made) == 2


def test_the_attacks_aim_at_the_raw_logit_of_the_shipped_threshold(attacked: Any) -> None:
    draw, made = attacked
    draw(demo_settings())
    assert made == [pytest.approx(2.0 * (0.8473 + 0.25), abs=1e-3)]  # sigmoid(border / 2 - 0.25) = 0.7


@pytest.fixture
def panel(tmp_path: Path) -> pd.DataFrame:
    """Six toy clips of each class, of three frames and of two, and a lively network in build/model."""
    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path / "data/faces/b") as writer:
        for number in range(12):
            clip = toy_clip(number % 2 == 1, rng, 3 if number < 8 else 2)
            writer.add({"clip_id": f"c{number:02d}", "label": "fake" if number % 2 else "real"}, clip, np.zeros((len(clip), 468, 2)))
    model_folder(tmp_path / "build/model", threshold=0.5)
    return read_index(tmp_path / "data/faces/b").assign(store="data/faces/b")


def middle_threshold(root: Path, panel: pd.DataFrame) -> Any:
    """The model's card with the threshold at the middle of what it says of the panel, so that verdicts of both kinds stand near the border."""
    from model.card import load_card
    from model.checkpoint import load_model

    card = load_card(root / "build/model")
    clips, _, lengths = robustness.load_clips(root, panel)
    with torch.no_grad():
        logits = load_model(root / "build/model/model.safetensors", card.model_sha256)(clips.float() / 255, lengths)
    return card.model_copy(update={"threshold": float(torch.sigmoid(logits.median() / card.temperature))})


def test_of_the_verdicts_that_an_attack_turned_it_is_told_how_many_stay_so_after_coding(
    tmp_path: Path, panel: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, settings = middle_threshold(tmp_path, panel), demo_settings()
    rows = robustness.survival(tmp_path, card, panel, settings, 1)
    assert [row["eps"] for row in rows] == [robustness.WHITEBOX_EPS, robustness.TRANSFER_EPS] and {row["n"] for row in rows} == {12}
    assert rows[1]["turned"] > 0 and all(0 <= rows[1][name] <= 1 for name in ("jpeg", "h264", "jpeg_alone", "h264_alone"))
    assert rows == robustness.survival(tmp_path, card, panel, settings, 1), "twice the same"
    for name in ("jpeg_round_trip", "h264_round_trip"):
        monkeypatch.setattr(f"media.degrade.{name}", lambda clip, strength: clip)
    (row,) = robustness.survival(tmp_path, card, panel, settings, 1)[1:]
    assert (row["jpeg"], row["h264"], row["jpeg_alone"], row["h264_alone"]) == (1.0, 1.0, 0.0, 0.0), "a codec that changes nothing mends nothing"


@pytest.mark.slow
def test_a_champion_that_attacks_is_itself_judged_at_its_shipped_border(tmp_path: Path, panel: pd.DataFrame) -> None:
    """All its logits lay on one side of 0: it was said to fall from 50% to 50%."""
    from model.card import load_card

    clips, fake, lengths = robustness.load_clips(tmp_path, panel)
    with torch.no_grad():
        logits = lively_model(1)(clips.float() / 255, lengths)
    best = max(logits.tolist(), key=lambda limit: abs(float((logits[fake] > limit).float().mean() - (logits[~fake] > limit).float().mean())))
    expected = (float((logits[fake] > best + 1e-4).float().mean()) + float((logits[~fake] <= best + 1e-4).float().mean())) / 2
    (tmp_path / "data/sets").mkdir(parents=True)
    panel[panel["label"] == "real"].to_parquet(tmp_path / "data/sets/validation.parquet")  # of one class nobody trains an attacker of his own
    rows = []
    for limit in (best + 1e-4, 100.0):
        model_folder(tmp_path / "build/base", seed=1, temperature=1.0, offset=-limit)
        cards = load_card(tmp_path / "build/model"), load_card(tmp_path / "build/base")
        rows.append(robustness.transfers(tmp_path, demo_settings(), first_cycle(), *cards, panel, robustness.silent)["parent"])
    assert [row["attacker_clean"] for row in rows] == [pytest.approx(expected), 0.5] and expected != 0.5
    told = [{name: value for name, value in row.items() if not name.startswith("attacker")} for row in rows]
    assert told[0] == told[1], "the challenger is judged by its own border alone"


@pytest.mark.parametrize(("known_batches", "attacked_clips"), [(("b1",), 6), ((), 8)])
def test_the_gate_attacks_what_the_holdout_held_before_the_cycle(
    tmp_path: Path, panel: pd.DataFrame, known_batches: tuple[str, ...], attacked_clips: int
) -> None:
    """Half of the attacked clips were of the week under judgement: a gain on a generator that the champion never met paid for a loss on all others."""
    from model.card import load_card

    rows = panel.assign(unit=panel["clip_id"], cluster=panel["clip_id"], origin="collected", new=np.arange(len(panel)) >= 6)
    (tmp_path / "data/sets").mkdir(parents=True)
    rows.to_parquet(tmp_path / "data/sets/holdout.parquet")
    rows[rows["label"] == "real"].to_parquet(tmp_path / "data/sets/validation.parquet")  # of one class nobody trains an attacker of his own
    model_folder(tmp_path / "build/base", seed=1, threshold=0.5)
    cards = load_card(tmp_path / "build/model"), load_card(tmp_path / "build/base")
    cycle = replace(second_cycle(cards[1].model_sha256), batches=(*known_batches, "b2"))
    settings = demo_settings({"evaluate": {"attacks": ["pgd"], "attack_eps": [0.0]}})
    found = robustness.measure(tmp_path, settings, cycle, *cards, ["collected"])
    assert found["n"] == found["gate"]["n"] == attacked_clips, "three of either class were there before; where no batch is known all are judged"


def test_the_huge_strength_uncovers_masked_gradients_and_is_in_no_curve(tmp_path: Path, panel: pd.DataFrame) -> None:
    from model.card import load_card

    points = robustness.curve(tmp_path, "build/model", load_card(tmp_path / "build/model"), panel, demo_settings(), 1)
    assert points[-1]["eps"] == robustness.HUGE_EPS
    assert [point["eps"] for point in robustness._below_huge(points)] == [0.0, 0.00784, 0.05]


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
