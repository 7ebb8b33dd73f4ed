"""A few rounds of the kill drill (`make kills` runs many): the next `vigil retrain` finishes what a dead process began."""

from pathlib import Path

from benchmarks.kills import Round, complaints, runs, strike
from tests.system.world import copy_workspace


def test_one_cycle_survives_four_deaths_and_repeats_nothing_that_was_finished(ingested: Path, tmp_path: Path):
    """In a stage, between stages, in a later stage with everything around it, and a stage alone: each start goes on where the one before was."""
    root = copy_workspace(ingested, tmp_path / "w")
    plans = (Round("parent", "pretrain", 1.0), Round("parent", "harden", 0.5, after=True), Round("group", "train", 1.5), Round("stage", "evaluate", 2.0))
    deaths = [strike(root, plan) for plan in plans]
    assert [death["victim"] for death in deaths] == ["parent", "parent", "group", "stage evaluate"]
    assert complaints(root, deaths[-1]) == []
    for death in deaths:
        assert not set(runs(root)[death["runs"] :]) & set(death["recorded"]), "a finished stage ran again"
