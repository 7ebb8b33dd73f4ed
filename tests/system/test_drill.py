"""Two kinds of `make drill` through the whole flow: what was held must end its cycle, too, and the champion serves on."""

from pathlib import Path

import pytest

from benchmarks.drill import run_kind, up_to_the_gates
from tests.system.world import copy_workspace, vigil

pytestmark = pytest.mark.usefixtures("one_server")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, promoted: Path, second_media: Path) -> Path:
    """A second week, trained and measured, one command before its promotion."""
    root = copy_workspace(promoted, tmp_path_factory.mktemp("ready") / "w")
    vigil("ingest", second_media, "-w", root)
    up_to_the_gates(root)
    return root


@pytest.mark.parametrize("kind", ["half-written evaluation", "tampered artifact"])
def test_a_spoiled_week_is_held_and_its_cycle_ends(ready: Path, promoted: Path, tmp_path: Path, kind: str) -> None:
    found = run_kind(kind, promoted, ready, tmp_path)
    assert found["complaints"] == [] and found["outcome"] == "held", found
