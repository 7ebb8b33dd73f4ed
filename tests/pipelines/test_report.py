"""The page of a cycle: what it must show whatever was measured, and that names from outside cannot write into it."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.gate import write_verdict
from pipelines.gates import judge
from pipelines.report import CLAIMS, figure, interval, next_step, write_report
from tests.pipelines.gate_examples import CHAMPION, SETTINGS, passing, replaced
from workspace.cycle import Cycle
from workspace.files import write_json
from workspace.journal import Journal

CYCLE = Cycle(cycle="2026-W48.1", seed=1, batches=("b1", "b2"), judged=("b2",), base_model=CHAMPION, base_cycle="2026-W47.1")


def write_verdict_of(root: Path, **changes: Any) -> None:
    example = passing()
    for path, value in changes.items():
        example = replaced(example, ("evaluation", "gate_inputs", *path.split("__")), value)
    judged = example.pop("judged"), example.pop("base_sha256")
    verdict = judge(
        *(example[name] for name in ("evaluation", "drift", "validate", "sets")),
        SETTINGS,
        judged=judged[0],
        base_sha256=judged[1],
        anchor_sha256=example["anchor_sha256"],
    )
    write_verdict(root, CYCLE, example["evaluation"], verdict)


def test_each_gate_stands_with_value_bound_production_bound_n_and_reason(tmp_path: Path) -> None:
    write_verdict_of(tmp_path, accuracy__fpr=0.05)
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "False-positive rate is 0.05, but at most 0.032 is asked." in page and "≤ 0.032" in page and ">120<" in page and ">94<" in page
    assert page.index("accuracy: false-positive rate</b>") < page.index("<b>data</b>")  # what holds a model back comes first
    assert "banner not-promoted" in page


def test_the_journal_has_the_last_word_on_the_outcome(tmp_path: Path) -> None:
    write_verdict_of(tmp_path)
    Journal(tmp_path).append("cycle_closed", cycle=CYCLE.cycle, outcome="promoted", reason="every gate passed; served 3 clips", verdict_sha256="")
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert 'banner promoted"' in page and "served 3 clips" in page and "vigil models rollback" in page


def test_an_undecided_cycle_says_that_more_media_are_needed(tmp_path: Path) -> None:
    write_verdict_of(tmp_path, accuracy__n_real=10)
    assert "Bring more media" in write_report(tmp_path, CYCLE).read_text(encoding="utf-8")


def test_a_report_of_another_cycle_is_not_shown_as_this_ones(tmp_path: Path) -> None:
    write_json(tmp_path / "reports/verdict.json", {"cycle": "2026-W40.1", "verdict": "pass", "reasons": [], "results": []})
    write_json(tmp_path / "reports/evaluation.json", {"cycle": "2026-W40.1", "overall": {}})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "No model was judged" in page and "Gates:" not in page


def test_names_from_outside_are_text_and_nothing_else(tmp_path: Path) -> None:
    samples = [{"label": "fake", "generator": "<script>alert(1)</script>", "quarantine": ""}]
    write_json(tmp_path / "data/faces/b2/report.json", {"samples": samples, "clips": 1, "reasons": {"<img src=x>": 1}})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "<script" not in page and "<img src=x" not in page and "&lt;script&gt;" in page


def test_a_failed_data_check_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "reports/validate/b2.json", {"batch": "b2", "success": False, "expectations": [{"name": "media decode", "success": False}]})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "failed:" in page and "media decode" in page


def test_the_literatures_claims_stand_with_their_conditions(tmp_path: Path) -> None:
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert all(value in page and conditions in page for _, value, conditions in CLAIMS)


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.5, "0.5"), (0.00001234, "1.23e-05"), (209715200.0, "209 715 200"), (True, "yes"), (7, "7")])
def test_numbers_read_well(value: Any, text: str) -> None:
    assert figure(value) == text


def test_an_interval_without_ends_shows_none() -> None:
    assert (
        interval({"value": 0.9, "low": None, "high": None}) == "0.900"
        and interval({"value": 0.9, "low": 0.8, "high": 1.0}) == "0.900 [0.800, 1.000]"
        and interval({}) == "–"
    )


@pytest.mark.parametrize(("failed", "deferred", "says"), [
    (("drift",), True, "Nothing: it is judged again"), (("drift",), False, "If what came in is wrong"), (("drift", "latency"), True, "Read the failed gates"),
])  # fmt: skip
def test_what_drift_alone_holds_needs_nobody_while_it_is_judged_again(failed: tuple[str, ...], deferred: bool, says: str) -> None:
    verdict = {"results": [{"gate": "size", "verdict": "pass"}, *({"gate": name, "verdict": "fail"} for name in failed)]}
    told = next_step("held", verdict, deferred)
    assert told.startswith(says) and "vigil batches accept" in told
