"""From verdict to outcome, where a person has overridden a gate."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from flows.decide import decide_outcome, too_few
from pipelines.drift import weigh
from pipelines.gates import judge
from pipelines.report import write_report
from tests.pipelines.gate_examples import passing, replaced
from tests.workspace.worlds import make_model, verdict_for
from workspace.cycle import Cycle
from workspace.files import write_json
from workspace.journal import Journal
from workspace.promotion import override
from workspace.settings import GateSettings, load_settings
from workspace.state import Decision, champion

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
ONE = "2026-W46.1"
CYCLE = Cycle(cycle=ONE, seed=1, batches=("b",), judged=("b",))
SLOW = {"gate": "latency", "verdict": "fail", "reason": "9 s", "measured": 9.0}


def decided(root: Path, passed: bool = True) -> Decision:
    def probe(*_: Any) -> Any:
        return SimpleNamespace(passed=passed, reason="ready" if passed else "it does not load")

    return decide_outcome(root, SETTINGS, Journal(root), CYCLE, root / "models" / ONE, probe)


def slow(root: Path) -> Path:
    """A workspace whose candidate is too slow."""
    write_json(root / "reports" / "verdict.json", verdict_for(ONE, make_model(root, ONE), verdict="fail", results=[SLOW]))
    return root


def let_through(root: Path) -> None:
    override(root, "latency", who="ann", why="the new machine comes on Monday", until=datetime.now(UTC) + timedelta(days=7))


def test_an_overridden_gate_promotes_and_the_journal_says_by_whom(tmp_path: Path) -> None:
    root = slow(tmp_path)
    let_through(root)
    found = decided(root)
    assert found.outcome == "promoted" and "overridden by ann" in found.reason and "new machine" in found.reason
    promotion = next(event for event in Journal(root).events() if event.kind == "promotion")
    assert "overridden by ann" in promotion["why"]


@pytest.mark.parametrize(("change", "defer"), [({}, True), ({"verdict": "fail"}, False), ({"n": None, "smallest_n": None}, False), ({"n": 94}, False)])
def test_what_a_first_model_lacks_media_for_waits_for_more_of_them_and_nothing_else_does(tmp_path: Path, change: dict[str, Any], defer: bool) -> None:
    """It was told to bring more media, and the next cycle judged those alone: the count began at nothing again."""
    row = {"gate": "accuracy: AUC", "verdict": "undecided", "reason": "80 of 94 videos", "n": 80, "smallest_n": 94} | change
    write_json(tmp_path / "reports" / "verdict.json", verdict_for(ONE, make_model(tmp_path, ONE), verdict="undecided", results=[row]))
    found = decided(tmp_path)
    assert (found.outcome, found.defer) == ("held", defer)


def test_beside_a_champion_too_few_videos_wait_for_a_person(tmp_path: Path) -> None:
    row = {"gate": "not worse", "verdict": "undecided", "reason": "80 of 94 videos", "n": 80, "smallest_n": 94}
    assert too_few({"results": [row]}) and not too_few({"results": [row, SLOW]})
    write_json(tmp_path / "reports" / "verdict.json", verdict_for(ONE, make_model(tmp_path, ONE), "a" * 64, verdict="undecided", results=[row]))
    held = decide_outcome(tmp_path, SETTINGS, Journal(tmp_path), replace(CYCLE, base_model="a" * 64, base_cycle="2026-W45.1"), tmp_path / "models" / ONE, None)
    assert (held.outcome, held.defer) == ("held", False)


def test_a_model_that_does_not_load_serves_nobody_whoever_says_so(tmp_path: Path) -> None:
    root = slow(tmp_path)
    let_through(root)
    assert decided(root, passed=False).outcome == "held" and champion(Journal(root).events()) is None


def test_an_override_is_for_later_cycles_not_for_one_that_was_decided(tmp_path: Path) -> None:
    root = slow(tmp_path)
    assert decided(root).outcome == "held"
    let_through(root)
    assert decided(root).outcome == "held" and champion(Journal(root).events()) is None


DRIFT = {"gate": "drift", "verdict": "fail", "reason": "the updated holdout has too little of it"}


def drifted(root: Path, results: list[dict[str, Any]], not_covered: list[str]) -> Decision:
    write_json(root / "reports" / "verdict.json", verdict_for(ONE, make_model(root, ONE), verdict="fail", results=results))
    write_json(root / "reports" / "drift" / "drift.json", {"cycle": ONE, "not_covered": not_covered})
    return decided(root)


def test_what_drift_alone_holds_is_judged_again_and_the_journal_keeps_that(tmp_path: Path) -> None:
    found = drifted(tmp_path, [{"gate": "accuracy", "verdict": "pass", "reason": "good"}, DRIFT], ["fake by swap"])
    assert found.defer and found.reason == "drift fail: the updated holdout has too little of it"
    (tmp_path / "reports" / "verdict.json").unlink()
    assert decided(tmp_path) == found, "taken up again, it ends as it was decided"


def test_a_generators_name_begins_no_line_of_a_reason_and_colours_none(tmp_path: Path) -> None:
    """A folder's name is a generator's, and wrote lines of its own, such as another champion, into status, journal, tag and page."""
    new = ("evaluation", "gate_inputs", "new_generators", "rows", 0)
    evil = replaced(replaced(passing(), (*new, "generator"), "swap\nchampion  2026-W01.1  trusted\x1b[31m"), (*new, "challenger_auc"), 0.5)
    results, name = judge(**evil, settings=GateSettings()).as_dict()["results"], r"swap\nchampion  2026-W01.1  trusted\x1b[31m"
    held = drifted(tmp_path / "held", results, [])
    assert f"{name} fail: AUC on the new generator {name} (" in held.reason and held.reason.isprintable()
    override(tmp_path / "promoted", "better on what is new", who="ann", why="x", until=datetime.now(UTC) + timedelta(days=7))
    promoted = drifted(tmp_path / "promoted", results, [])
    assert f"{name} said fail and was overridden by ann" in promoted.reason and promoted.reason.isprintable()


def test_what_another_gate_holds_too_or_has_no_label_waits_for_a_person(tmp_path: Path) -> None:
    undecided = {"gate": "forgetting", "verdict": "undecided", "reason": "too few"}
    cases = {
        "slow": ([DRIFT, SLOW], ["fake by swap"]),
        "undecided": ([DRIFT, undecided], ["fake by swap"]),
        "nameless": ([DRIFT], ["real", "unlabelled, called fake"]),
        "too few known": ([DRIFT | {"verdict": "undecided"}], []),
    }
    for name, (results, kinds) in cases.items():
        found = drifted(tmp_path / name, results, kinds)
        assert found.outcome == "held" and not found.defer, name


def test_where_nothing_has_a_label_and_drift_was_not_measured_it_is_said_why(tmp_path: Path) -> None:
    """Sixty videos of one person were "too few", as if more of theirs would help."""
    cycle = replace(CYCLE, unlabelled=("b",), base_model="a" * 64, base_cycle="2026-W45.1")
    people = [f"p{number % 9}" for number in range(120)]

    def reason(name: str, incoming: int, person: str) -> str:
        rows = [{"new": number < incoming, "cluster": person if number < incoming else people[number]} for number in range(120)]
        units = pd.DataFrame(rows).assign(label="", generator="", batch="b")
        write_json(tmp_path / name / "reports" / "drift" / "drift.json", weigh(units, {}, SETTINGS, cycle))
        return decide_outcome(tmp_path / name, SETTINGS, Journal(tmp_path / name), cycle, None, None).reason

    assert reason("alone", 60, "ann").endswith("drift was not measured: the incoming ones are all of one person; others are needed")
    least = SETTINGS.drift.min_samples
    assert reason("few", 5, "ann").endswith(f"drift was not measured: 5 incoming and 115 known videos can be compared, a test needs {least} of each")


def test_another_gate_still_holds(tmp_path: Path) -> None:
    forgot = {"gate": "forgetting", "verdict": "fail", "reason": "lost", "measured": 0.2}
    write_json(tmp_path / "reports" / "verdict.json", verdict_for(ONE, make_model(tmp_path, ONE), verdict="fail", results=[SLOW, forgot]))
    override(tmp_path, "latency", who="ann", why="x", until=datetime.now(UTC) + timedelta(days=7))
    assert decided(tmp_path).outcome == "held"


def test_a_first_model_that_too_few_people_judge_is_held_whoever_overrides_that_and_the_reason_says_so(tmp_path: Path) -> None:
    """On so few no later model could be set against it: the last there would ever be came in on a word that was given for another model."""
    few = replaced(passing(champion=False, drift="no reference"), ("evaluation", "gate_inputs", "people"), 40)
    verdict = judge(**few, settings=GateSettings()).as_dict()
    write_json(tmp_path / "reports" / "verdict.json", verdict_for(ONE, make_model(tmp_path, ONE), **verdict))
    override(tmp_path, "not worse than the champion", who="ana", why="few people yet", until=datetime.now(UTC) + timedelta(days=7))
    found = decided(tmp_path)
    assert found.outcome == "held" and found.defer and "videos of 40 people" in found.reason
    assert found.reason.endswith("The override of 'not worse than the champion' by ana does not count: too few are there to judge a first model.")
    assert found.reason in write_report(tmp_path, CYCLE).read_text(encoding="utf-8").replace("&#39;", "'")


@pytest.mark.parametrize("videos", [60, 3])
def test_a_first_model_that_too_few_videos_judge_is_held_though_it_has_a_value_on_them(tmp_path: Path, videos: int) -> None:
    """An override of `accuracy` made it champion, for whom `bootstrap` had been refused: beside it each later model would be undecided, and held."""
    row = {"gate": "accuracy: AUC", "verdict": "undecided", "reason": f"Undecided: the AUC is 1.0 on {videos} videos.", "measured": 1.0, "n": videos}
    write_json(tmp_path / "reports" / "verdict.json", verdict_for(ONE, make_model(tmp_path, ONE), verdict="undecided", results=[row | {"smallest_n": 94}]))
    override(tmp_path, "accuracy", who="ana", why="few videos yet", until=datetime.now(UTC) + timedelta(days=7))
    found = decided(tmp_path)
    assert found.outcome == "held" and champion(Journal(tmp_path).events()) is None
    assert found.reason.endswith("The override of 'accuracy' by ana does not count: too few are there to judge a first model.")


def test_too_small_a_value_of_a_first_model_on_enough_videos_is_what_an_override_covers(tmp_path: Path) -> None:
    row = {"gate": "accuracy: AUC", "verdict": "fail", "reason": "The AUC is 0.7.", "measured": 0.7, "n": 94, "smallest_n": 94}
    write_json(tmp_path / "reports" / "verdict.json", verdict_for(ONE, make_model(tmp_path, ONE), verdict="fail", results=[row]))
    override(tmp_path, "accuracy", who="ana", why="good enough for now", until=datetime.now(UTC) + timedelta(days=7))
    assert decided(tmp_path).outcome == "promoted"
