"""From verdict to outcome, where a person has overridden a gate."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flows.decide import Decision, decide_outcome
from tests.workspace.worlds import make_model, verdict_for
from workspace.cycle import Cycle
from workspace.files import write_json
from workspace.journal import Journal
from workspace.promotion import override
from workspace.settings import load_settings
from workspace.state import champion

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
ONE = "2026-W46.1"
CYCLE = Cycle(cycle=ONE, seed=1, batches=("b",), judged=("b",))
SLOW = {"gate": "latency", "verdict": "fail", "reason": "9 s", "measured": 9.0}


def decided(root: Path, passed: bool = True) -> Decision:
    def probe(*_: Any) -> Any:
        return SimpleNamespace(passed=passed, reason="ready" if passed else "it does not load")

    return decide_outcome(root, SETTINGS, Journal(root), CYCLE, root / "models" / ONE, probe)


def test_an_overridden_gate_promotes_and_the_journal_says_by_whom(tmp_path: Path) -> None:
    write_json(tmp_path / "reports" / "verdict.json", verdict_for(ONE, make_model(tmp_path, ONE), verdict="fail", results=[SLOW]))
    assert decided(tmp_path).outcome == "held" and champion(Journal(tmp_path).events()) is None
    override(tmp_path, "latency", who="ann", why="the new machine comes on Monday", until=datetime.now(UTC) + timedelta(days=7))
    assert decided(tmp_path, passed=False).outcome == "held", "a model that does not load serves nobody, whoever says so"
    found = decided(tmp_path)
    assert found.outcome == "promoted" and "overridden by ann" in found.reason and "new machine" in found.reason
    promotion = next(event for event in Journal(tmp_path).events() if event.kind == "promotion")
    assert "overridden by ann" in promotion["why"]


def test_another_gate_still_holds(tmp_path: Path) -> None:
    forgot = {"gate": "forgetting", "verdict": "fail", "reason": "lost", "measured": 0.2}
    write_json(tmp_path / "reports" / "verdict.json", verdict_for(ONE, make_model(tmp_path, ONE), verdict="fail", results=[SLOW, forgot]))
    override(tmp_path, "latency", who="ann", why="x", until=datetime.now(UTC) + timedelta(days=7))
    assert decided(tmp_path).outcome == "held"
