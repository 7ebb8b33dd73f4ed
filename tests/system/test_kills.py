"""A few rounds of the kill drill (`make kills` runs many): the next `vigil retrain` finishes what a dead process began."""

from pathlib import Path

import pytest

from benchmarks.kills import Round, complaints, strike
from tests.system.world import copy_workspace


@pytest.mark.parametrize(
    "plan",
    [Round("parent", "pretrain", 1.0), Round("stage", "train", 1.5), Round("group", "evaluate", 2.0), Round("parent", "gate", 1.0, after=True)],
    ids=lambda plan: f"{plan.target}-{'after' if plan.after else 'in'}-{plan.stage}",
)
def test_the_next_retrain_mends_what_a_kill_left(ingested: Path, tmp_path: Path, plan: Round):
    root = copy_workspace(ingested, tmp_path / "w")
    struck = strike(root, plan)
    assert not struck["victim"].startswith("nobody")
    assert complaints(root, struck) == []
