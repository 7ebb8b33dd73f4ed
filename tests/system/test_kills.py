"""Ten kills of the drill (`make kills` runs many): the next `vigil retrain` finishes what a dead process began."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import Round, complaints, repeated, strike
from tests.system.world import copy_workspace


def test_a_killed_stage_is_run_again_by_the_same_command(promoted: Path, struck: dict[str, Any], tmp_path: Path):
    assert struck["victim"] == "stage train"
    assert complaints(copy_workspace(promoted, tmp_path / "w"), struck) == []


@pytest.mark.usefixtures("one_server")  # the kill before had a server of its own, which died with it
def test_one_cycle_survives_nine_deaths_and_repeats_nothing_that_was_finished(ingested: Path, tmp_path: Path):
    """In stages, with everything around them, and between stages: each start goes on where the one before was."""
    root = copy_workspace(ingested, tmp_path / "w")
    plans = (
        Round("parent", "", 2.0),
        Round("group", "faces", 0.5),
        Round("parent", "validate", 0.0, after=True),
        Round("group", "forge", 0.5),
        Round("parent", "pretrain", 1.0),
        Round("group", "harden", 0.2),
        Round("group", "train", 1.0),
        Round("group", "evaluate", 2.0),
        Round("parent", "gate", 1.0, after=True),
    )
    deaths = [strike(root, plan) for plan in plans]
    assert [death["victim"] for death in deaths] == [plan.target for plan in plans]
    assert complaints(root, deaths[-1]) == []
    for death in deaths:
        assert repeated(root, death) == [], "a finished stage ran again"
