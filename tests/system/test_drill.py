"""Two kinds of `make drill` through the whole flow: what was held must end its cycle, too, and the champion serves on."""

from pathlib import Path

import pytest

from benchmarks.drill import run_kind
from tests.system.world import Broken, events
from workspace.journal import Journal
from workspace.state import cycles

pytestmark = pytest.mark.usefixtures("one_server")


@pytest.fixture(scope="module")
def ready(scheduled: Broken) -> Path:
    """A second week, trained and measured, before its promotion."""
    root = scheduled.root.parent / "judged"
    cycle = cycles(Journal(root).events())[-1]
    assert (len(events(root, "promotion")), cycle.closed, cycle.outcome) == (1, "", ""), "it was copied before anything was decided"
    return root


@pytest.mark.parametrize("kind", [pytest.param("half-written evaluation", marks=pytest.mark.slow), "tampered artifact"])
def test_a_spoiled_week_is_held_and_its_cycle_ends(ready: Path, promoted: Path, tmp_path: Path, kind: str) -> None:
    found = run_kind(kind, promoted, ready, tmp_path)
    assert found["complaints"] == [] and found["outcome"] == "held", found
