"""Bad weeks of cached scores are held by a gate that was named beforehand; good ones are not; with the gate off, the bad week passes."""

import pytest

from benchmarks.gates import bounds, drill_one, expected_log_loss
from benchmarks.plants import GATE_PLANTS
from benchmarks.weeks import good_week, probability
from model.metrics import wilson
from model.paired import log_losses

SETTINGS = bounds()
SETTINGS = SETTINGS.model_copy(update={"evaluate": SETTINGS.evaluate.model_copy(update={"resamples": 200})})


@pytest.mark.parametrize("kind", sorted(GATE_PLANTS))
def test_a_bad_week_is_held_for_the_reason_that_was_declared_and_for_no_other(kind: str) -> None:
    found = drill_one(kind, 77, SETTINGS)
    assert found["verdict"] != "pass" and found["unexpected"] == [] and found["own_spoke"], found
    assert found["all_named_off"] == "pass", "a gate that was not named would have held it: this drill proves nothing about the named ones"
    if len(found["gates"]) == 1:
        assert found["switched_off"] == "pass", "its own gate was switched off, and something else held it"


@pytest.mark.parametrize("gain", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_a_good_week_is_promoted(gain: float) -> None:
    held = [verdict.reasons() for seed in range(6) if (verdict := good_week(SETTINGS, 900 + seed, gain=gain).verdict()).verdict != "pass"]
    assert len(held) <= 1, held


def test_a_drill_whose_reason_was_not_declared_is_noticed() -> None:
    plant = GATE_PLANTS["slow model"]
    assert plant.allows("latency") and not plant.allows("size") and not plant.allows("accuracy: AUC")
    assert GATE_PLANTS["too many false alarms"].allows("accuracy: precision")


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_log_loss_that_a_level_is_asked_at_is_that_of_the_weeks_drawn(scale: float) -> None:
    table = good_week(SETTINGS, 5, videos=20_000, fresh=0).table
    losses = log_losses(table["label"] == "fake", probability(scale * table["x_challenger"].to_numpy()))
    assert losses.mean() == pytest.approx(expected_log_loss(scale), abs=0.01)


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(0, 10) == pytest.approx([0.0, 0.2775], abs=1e-3) and wilson(5, 10) == pytest.approx([0.2366, 0.7634], abs=1e-3)
