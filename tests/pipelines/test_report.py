"""The page of a cycle: what it must show whatever was measured, and that names from outside cannot write into it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.probe import SHADOW
from pipelines.comparison import describe
from pipelines.drift import weigh
from pipelines.gate import REFUSED, write_verdict
from pipelines.gates import judge
from pipelines.report import CLAIMS, KEPT, PREDICTIONS, figure, hardest_misses, headlines, interval, next_step, shadow, weighed, write_report
from tests.feedback.browser import browser
from tests.pipelines.gate_examples import CHAMPION, SETTINGS, passing, replaced
from tests.pipelines.small_world import demo_settings
from tests.pipelines.test_comparison import card, table, videos
from tests.pipelines.test_drift import units
from vigil.reading import report_of
from workspace.batches import set_batch_state
from workspace.cycle import Cycle, read_cycle, write_cycle
from workspace.files import write_json
from workspace.for_review import TWO_LABELS
from workspace.journal import Journal
from workspace.state import batch_states

CYCLE = Cycle(cycle="2026-W48.1", seed=1, batches=("b1", "b2"), judged=("b2",), base_model=CHAMPION, base_cycle="2026-W47.1")


ROW = ("measured", "limit", "production_limit", "n", "smallest_n", "rule")

HEADLINE: dict[str, Any] = {
    "overall": {"challenger": {"auc": {"value": 1.0}}}, "counts": {"overall": {"n_real": 9, "n_fake": 9}}, "judged_on": "collected",
}  # fmt: skip
BECAME = "the model of this cycle became the champion"


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


@pytest.mark.parametrize(("measure", "value", "row", "said"), [
    ("fpr", 0.0323, "0.0323</td>[^≤]*≤ 0.032<", "False-positive rate is 0.0323, but at most 0.032 is asked."),
    ("balanced_accuracy", 0.89996, "0.89996</td>[^≥]*≥ 0.9<", "Balanced accuracy is 0.89996, but at least 0.9 is asked."),
])  # fmt: skip
def test_a_value_beyond_its_bound_does_not_look_like_it(tmp_path: Path, measure: str, value: float, row: str, said: str) -> None:
    """`0.032 | at most 0.032 | fail` stood there."""
    write_verdict_of(tmp_path, **{f"accuracy__{measure}": value})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert re.search(row, page) and said in page and "the n that would decide" in page and ">n to decide<" in page


@pytest.mark.parametrize(("value", "bound", "shown"), [
    (0.032, 0.032, ("0.032", "0.032")), (0.1 + 0.2, 0.3, ("0.3", "0.3")), (0.05, 0.032, ("0.05", "0.032")), (0.899999, 0.9, ("0.899999", "0.9")),
    (209715201.0, 209715200.0, ("209 715 201", "209 715 200")), (None, 0.1, ("–", "0.1")),
])  # fmt: skip
def test_a_value_and_its_bound_look_alike_only_where_they_are(value: Any, bound: float, shown: tuple[str, str]) -> None:
    assert tuple(weighed({"measured": value, "limit": bound}).values()) == shown


def page_of(root: Path, cycle: Cycle, champion: bool, robustness: dict[str, Any] | None = None, more: dict[str, Any] | None = None) -> str:
    """The page of a cycle whose figures are those of a small predictions table."""
    rows = table(
        videos(20, "real", champion=0.2, challenger=0.2),
        videos(12, "fake", generator="swap", champion=0.8, challenger=0.8),
        videos(3, "fake", generator="blend", champion=0.8, challenger=0.8),
        videos(6, "fake", champion=0.8, challenger=0.8),
        videos(10, "fake", generator="blend", new=True, champion=0.4, challenger=0.8),
        videos(10, "fake", generator="neural", new=True, champion=0.4, challenger=0.8),
        videos(4, "fake", generator="self_blend", origin="forged", champion=0.6, challenger=0.2),
        videos(4, "fake", generator="mesh_swap", origin="forged", champion=0.6, challenger=0.8),
    )
    settings = demo_settings({"gates": {"min_per_class": 10, "min_slice": 8}, "evaluate": {"resamples": 20}})
    found = describe(rows, card("a") if champion else None, card("b"), settings, cycle)
    artifact = {"gate": {"latency": {"seconds": 1.5}}, "timed": "a clip", "machine": {"cores": 2, "processor": "x"}}
    beside = {"cycle": cycle.cycle, "artifact": artifact, "robustness": robustness or {"challenger": []}, "challenger_sha256": "b" * 64}
    write_json(root / "reports/evaluation.json", found | beside | (more or {}))
    return write_report(root, cycle).read_text(encoding="utf-8")


def met(page: str) -> dict[str, str]:
    """The last column of the table by generator."""
    rows = re.findall(r"<tr>(.*?)</tr>", page.split("<h2>By generator</h2>")[1].split("</table>")[0], re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    return {row[0]: row[-1] for row in cells if row}


def test_met_before_is_what_the_champion_has_met(tmp_path: Path) -> None:
    """It was said of generators that the holdout had too few of, and of all forged ones where no model was before."""
    page = page_of(tmp_path, replace(CYCLE, known_generators=("blend", "swap")), champion=True)
    assert met(page) == {"swap": "yes", "blend": "yes", "neural": "no", "unknown": "–"}
    assert "New here: neural. " in page and "Too few to be judged until now: blend. " in page and "New here: blend" not in page
    first = replace(CYCLE, base_model="", base_cycle="")
    assert met(page_of(tmp_path, first, champion=False)) == {"swap": "no", "blend": "no", "neural": "no", "unknown": "–"}


def test_forgeries_that_are_scored_and_not_judged_stand_on_the_page(tmp_path: Path) -> None:
    """Of 34 forgeries told at an AUC of 0.6 it showed nothing beside the 1.000 of the collected fakes, and the card's word that the model has met them."""
    page = page_of(tmp_path, CYCLE, champion=True)
    assert "(collected). Not judged: 8 fakes by our own forgers, AUC 0.500 (self_blend) to 1.000 (mesh_swap)." in page
    shown = page.split("<h2>Scored, not judged</h2>")[1].split("</table>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", shown, re.DOTALL)]
    assert [[row[0], row[1], row[2][:5], row[3]] for row in rows if row] == [["mesh_swap", "4", "1.000", "100.0%"], ["self_blend", "4", "0.500", "0.0%"]]
    assert "Judged on collected media: challenger and champion on the holdout as it stood before this cycle" in page
    (row,) = (line for line in headlines({**HEADLINE, "not_judged": {"portrait": {"n_fake": 3, "challenger": {"value": 0.75}}}}, CYCLE))
    assert row.endswith("Not judged: 3 fakes by our own forgers, AUC 0.750 (portrait).")


def heads(page: str) -> list[str]:
    """The head of the table of figures, column by column."""
    return re.findall(r"<th(?: [^>]*)?>(.*?)</th>", page.split("<h2>Figures</h2>")[1].split("</thead>")[0])


def test_each_column_says_how_many_videos_it_is_of_and_the_headline_of_which(tmp_path: Path) -> None:
    """All columns were said to be of the 20 real and 21 fake ones of before, the AUC on 20 new fakes without a real too, and the headline `of the holdout`."""
    more = {"counts": {"overall": {"n_real": 20, "n_fake": 21}, "new": {"n_real": 3, "n_fake": 4}, "validation": {"n_real": 15, "n_fake": 7}}}
    page = page_of(tmp_path, CYCLE, champion=True, more=more | {"new": {"challenger": {"auc": {"value": 0.7}}, "champion": {"auc": {"value": 0.6}}}})
    assert heads(page) == [
        "measure", "challenger<br>20 real, 21 fake", "champion<br>20 real, 21 fake", "on new videos<br>3 real, 4 fake", "on validation<br>15 real, 7 fake",
    ]  # fmt: skip
    assert "on 20 real and 21 fake videos of the holdout as it stood before this cycle (collected)." in page
    assert "Chance only adds to ECE, so its interval may lie above it." in page, "0.241 [0.266, 0.456] stood there without a word"
    assert "On what this cycle brought: AUC 0.700 (champion 0.600) on 3 real and 4 fake videos." in page and "what this cycle brought stands apart" in page


def test_where_all_of_the_holdout_is_judged_nothing_is_said_to_stand_apart(tmp_path: Path) -> None:
    first = page_of(tmp_path, replace(CYCLE, base_model="", base_cycle=""), champion=False)
    imported = page_of(tmp_path, replace(CYCLE, batches=CYCLE.judged), champion=True)
    for page in (first, imported):
        assert "on 20 real and 41 fake videos of the holdout (collected)." in page and "On what this cycle brought" not in page and "stands apart" not in page


@pytest.mark.parametrize(("engine", "found", "words"), [
    ("onnxruntime-fp32", None, "of the file that this model would serve from: onnxruntime-fp32.</p>"),
    (
        "onnxruntime-fp32", {"used": False, "largest_difference": 0.01421, "clips": 12},
        "onnxruntime-fp32. int8 was asked for and refused, the file is fp32: p_fake moved by up to 0.0142 on 12 validation clips, 0.001 is allowed",
    ),
    (
        "onnxruntime-int8", {"used": True, "largest_difference": 0.0004, "clips": 64},
        "onnxruntime-int8. int8 was asked for and taken: p_fake moved by up to 0.0004 on 64 validation clips, 0.001 is allowed (gates.max_parity); "
        "400 000 bytes for 1 000 000.",
    ),
])  # fmt: skip
def test_the_page_says_what_its_file_is_and_what_became_of_int8_but_of_a_held_model_not_that_it_serves(
    tmp_path: Path, engine: str, found: dict[str, Any] | None, words: str
) -> None:
    """Where int8 was refused the settings said int8, and no page said otherwise; then the page of a held cycle said that its model is served."""
    write_verdict_of(tmp_path)
    metrics = {"int8": {"mean_difference": 0.0001, "bytes": 400000, "fp32_bytes": 1000000, **found}} if found else {}
    write_json(tmp_path / "build/model/card.json", {"engine": engine, "metrics": metrics, "model_sha256": "c" * 64})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert words in page.split("<h2>Gates")[1] and page.count("int8") == words.count("int8")
    assert "banner not-promoted" in page and "is served" not in page


@pytest.mark.parametrize(("start", "words"), [
    ("the champion", "Training started from the champion."), ("the weights IMAGENET1K_V1", "Training started from the weights IMAGENET1K_V1."),
])  # fmt: skip
def test_the_page_says_from_what_training_started(tmp_path: Path, start: str, words: str) -> None:
    """`from nothing` was said of ImageNet weights."""
    write_verdict_of(tmp_path)
    write_json(tmp_path / "data/sets/report.json", SETS)
    write_json(tmp_path / "build/pretrain/history.json", {"history": [], "warm_start": start == "the champion", "start": start})
    assert words in write_report(tmp_path, CYCLE).read_text(encoding="utf-8")


@pytest.mark.parametrize(("by", "words"), [
    ("white-box PGD", "Under white-box PGD, on 8 clips of the holdout"),
    ("white-box PGD and black-box Square", "Under white-box PGD and black-box Square, the worst of them, on"),
])  # fmt: skip
def test_one_attack_alone_is_not_the_worst_of_several(tmp_path: Path, by: str, words: str) -> None:
    point = {"eps": 0.00784, "balanced_accuracy": 0.6, "evasion": 0.4, "framing": 0.4}
    about = {"by": by, "n": 8, "challenger": [point], "champion": [], "masked": [], "transfer": {}}
    assert words in page_of(tmp_path, CYCLE, champion=True, robustness=about)


def test_no_headline_speaks_of_an_auc_that_nothing_has() -> None:
    """With one class in the holdout it said `AUC – (champion –)`."""
    none = {"value": None, "low": None, "high": None, "n": 20}
    about = {"overall": {"challenger": {"auc": none}, "champion": {"auc": none}}, "new_generators": {"swap": {"champion": none, "challenger": none}}}
    assert headlines(about, CYCLE) == []


@pytest.mark.parametrize(("attackers", "judged"), [(("parent", "independent"), "a model trained apart"), (("parent",), "the model this one grew out of")])
def test_one_transfer_is_said_to_be_judged_and_it_is_the_one_that_was(tmp_path: Path, attackers: tuple[str, ...], judged: str) -> None:
    """Where validation has no fake there is no attacker of its own, and what the gate had judged stood there as reported only."""
    point = {"eps": 0.00784, "balanced_accuracy": 0.6, "evasion": 0.4, "framing": 0.4}
    row = {"eps": 0.05, "clean": 0.9, "attacked": 0.5, "attacker_clean": 0.9, "attacker_attacked": 0.1}
    about = {"by": "white-box PGD", "n": 8, "challenger": [point], "champion": [], "masked": [], "transfer": dict.fromkeys(attackers, row)}
    page = page_of(tmp_path, CYCLE, champion=True, robustness=about)
    assert re.findall(r"from ([^(<]+) \(judged\)", page) == [judged] and page.count("(reported)") == len(attackers) - 1


@pytest.mark.parametrize(("warm", "compared", "words"), [
    (True, True, "the model this one grew out of"),
    (False, True, "the champion it is compared with"),
    (False, False, "the model this one grew out of"),  # its own phase 1: there is no champion, or an imported one without gradients
])  # fmt: skip
def test_a_model_that_began_with_nothing_did_not_grow_out_of_the_champion(tmp_path: Path, warm: bool, compared: bool, words: str) -> None:
    """After a change of shape the champion's attack stood there as that of its own parent, beside "Training started from nothing."."""
    write_verdict_of(tmp_path)
    write_json(tmp_path / "build/pretrain/history.json", {"history": [], "warm_start": warm, "start": "the champion" if warm else "nothing"})
    point = {"eps": 0.00784, "balanced_accuracy": 0.6, "evasion": 0.4, "framing": 0.4}
    row = {"eps": 0.05, "clean": 0.9, "attacked": 0.5, "attacker_clean": 0.9, "attacker_attacked": 0.1}
    about = {"by": "white-box PGD", "n": 8, "challenger": [point], "champion": [point] * compared, "masked": []}
    page = page_of(tmp_path, CYCLE, champion=True, robustness=about | {"transfer": {"parent": row, "independent": row}})
    assert f"from {words} (reported)" in page and "from a model trained apart (judged)" in page


def test_the_journal_has_the_last_word_on_the_outcome(tmp_path: Path) -> None:
    write_verdict_of(tmp_path)
    Journal(tmp_path).append("cycle_closed", cycle=CYCLE.cycle, outcome="promoted", reason="every gate passed; served 3 clips", verdict_sha256="")
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert 'banner promoted"' in page and "served 3 clips" in page and "vigil models rollback --who" in page


def test_who_has_a_first_champion_is_not_sent_back_to_the_one_before(tmp_path: Path) -> None:
    Journal(tmp_path).append("promotion", cycle=CYCLE.cycle, model_sha256="b" * 64, path=f"models/{CYCLE.cycle}", previous_sha256="", who="vigil", why="gates")
    Journal(tmp_path).append("cycle_closed", cycle=CYCLE.cycle, outcome="promoted", reason="every gate passes", verdict_sha256="")
    assert "vigil models rollback" not in write_report(tmp_path, CYCLE).read_text(encoding="utf-8")


def test_the_hardest_misses_are_named_worst_first_and_only_of_what_was_judged(tmp_path: Path) -> None:
    """Where collected media were judged alone, the list was of forged ones, which no file of the user's shows."""
    rows = [
        ("fake", 0.4, "holdout", "collected"),
        ("fake", 0.1, "holdout", "collected"),
        ("real", 0.6, "holdout", "collected"),
        ("real", 0.9, "holdout", "collected"),
        ("fake", 0.0, "train", "collected"),
        ("fake", 0.0, "holdout", "forged"),
        ("real", 0.1, "holdout", "collected"),
    ]
    table = pd.DataFrame(rows, columns=["label", "p_challenger", "fold", "origin"])
    table = table.assign(unit=[f"unit-{number}" for number in range(len(rows))], generator="", source="phone", new=False, p_champion=[0.7, *[None] * 6])
    (tmp_path / PREDICTIONS).parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(tmp_path / PREDICTIONS)
    evaluation = {"thresholds": {"challenger": 0.5}, "judged_on": "collected"}
    found = hardest_misses(tmp_path, evaluation)
    assert [row["unit"] for row in found] == ["unit-1", "unit-0", "unit-3", "unit-2"] and [row["p_champion"] for row in found] == [None, 0.7, None, None]
    assert hardest_misses(tmp_path, {**evaluation, "judged_on": "collected+forged"})[0]["unit"] == "unit-5"
    assert hardest_misses(tmp_path, {}) == [], "nothing was judged"


def test_what_the_challenger_would_have_answered_stands_on_the_page_and_another_models_does_not(tmp_path: Path) -> None:
    largest = [{"detection": "d" * 32, "given_by": "2026-W47.1", "was": "real", "p_was": 0.2, "verdict": "fake", "p_fake": 0.81, "reason": "<b>x</b>"}]
    said = {"model_sha256": "c" * 64, "asked": 20, "changed": 3, "mean_difference": 0.04, "largest": largest}
    write_json(tmp_path / SHADOW, said)
    assert shadow(tmp_path, {"challenger_sha256": "c" * 64}) == said
    assert not shadow(tmp_path, {"challenger_sha256": "e" * 64}) and not shadow(tmp_path, {}), "of another model, or where nothing was judged"
    write_json(tmp_path / SHADOW, said | {"asked": 0})
    assert not shadow(tmp_path, {"challenger_sha256": "c" * 64}), "no request was logged"


def test_logged_requests_that_could_not_be_opened_are_counted_on_the_page(tmp_path: Path) -> None:
    """None of twenty had been answered, and the page said that none of them would be answered otherwise."""
    lost = {"detection": "d" * 32, "given_by": "2026-W47.1", "was": "real", "p_was": 0.2, "verdict": "", "p_fake": None, "reason": "it is not there"}
    said = {"model_sha256": "b" * 64, "asked": 20, "answered": 0, "not_opened": 20, "changed": 0, "mean_difference": None, "largest": [lost]}
    write_json(tmp_path / SHADOW, said)
    shown = page_of(tmp_path, CYCLE, champion=True).split("<h2>Logged requests, answered again</h2>")[1].split("</table>")[0]
    assert "0 would be answered otherwise; 20 could not be opened" in shown and "<td>not opened</td>" in shown and "it is not there" in shown


def test_no_p_fake_on_the_page_is_certainty(tmp_path: Path) -> None:
    """0.9999 and what its float makes of it stood as 1, where the service says that more than 0.999 it never claims."""
    largest = [{"detection": "d" * 32, "given_by": "2026-W47.1", "was": "fake", "p_was": 0.9999, "verdict": "fake", "p_fake": 1.0, "reason": ""}]
    write_json(tmp_path / SHADOW, {"model_sha256": "b" * 64, "asked": 1, "changed": 0, "mean_difference": 0.0001, "largest": largest})
    shown = page_of(tmp_path, CYCLE, champion=True).split("<h2>Logged requests, answered again</h2>")[1].split("</table>")[0]
    assert shown.count('<td class="n">&gt;0.999</td>') == 2


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


def test_bytes_that_are_no_letters_do_not_keep_a_cycle_from_its_page(tmp_path: Path) -> None:
    Journal(tmp_path).append("cycle_closed", cycle=CYCLE.cycle, outcome="held", reason="dropped by Jos\udce9", verdict_sha256="")
    assert "dropped by Jos\\udce9" in write_report(tmp_path, CYCLE).read_text(encoding="utf-8")


def test_a_week_without_labels_shows_drift_and_the_estimated_accuracy(tmp_path: Path) -> None:
    """Nothing is judged then, and this page is all that says how the champion does on what came in."""
    cycle = replace(CYCLE, unlabelled=("b2",))
    said = {"n": 40, "of": 60, "value": 0.7, "low": 0.6, "high": 0.8}
    drift = {"cycle": cycle.cycle, "status": "tested", "n_new": 40, "n_ref": 90, "p_value": 0.005, "alpha": 0.01, "drifted": True, "covered": False}
    write_json(tmp_path / "reports/drift/drift.json", {**drift, "not_covered": ["unlabelled"], "estimated": {"estimated": said, "observed": {"n": 0}}})
    page = write_report(tmp_path, cycle).read_text(encoding="utf-8")
    assert "of the 60 incoming videos, of which 40 were looked at" in page
    assert "They differ." in page and "right on 70.0%" in page and "vigil serve asks them" in page
    assert "They differ." not in write_report(tmp_path, replace(cycle, cycle="2026-W49.1")).read_text(encoding="utf-8"), "another cycle's"


@pytest.mark.parametrize(("side", "said"), [(True, "the incoming ones are all of one person"), (False, "the known ones are all of one person")])
def test_where_people_are_too_few_for_a_test_page_and_gate_say_so(tmp_path: Path, side: bool, said: str) -> None:
    """Of 30 videos of one person beside 400 the page said that they were too few, and the gate spoke of blocks."""
    seen = units()
    found = weigh(seen.assign(cluster=seen["cluster"].where(seen["new"] != side, "one")), {}, demo_settings(), CYCLE)
    write_json(tmp_path / "reports/drift/drift.json", {**found, "cycle": CYCLE.cycle})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert f"Not tested: of 30 incoming and 40 known videos {said}; others are needed." in page and "Too few videos" not in page
    seen_by_gate = passing()["drift"]["gate_inputs"] | found["gate_inputs"]
    verdict = judge(**replaced(passing(), ("drift", "gate_inputs"), seen_by_gate), settings=SETTINGS)
    (reason,) = [row.reason for row in verdict.results if row.gate == "drift"]
    assert reason == f"Undecided: of 30 incoming and 40 known videos {said}; others are needed."


def test_what_failed_before_anything_was_trained_stands_with_its_gate(tmp_path: Path) -> None:
    row = {"gate": "label noise", "verdict": "fail", "reason": "too many contradictions", "measured": 0.3, "rule": "at most", "limit": 0.01}
    row |= {"production_limit": 0.01, "n": 200, "smallest_n": 30}
    write_json(tmp_path / REFUSED, {"cycle": CYCLE.cycle, "results": [row]})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "<b>label noise</b>" in page and "before anything was trained" in page and "vigil batches drop" in page and "vigil models override" in page
    assert "<b>label noise</b>" not in write_report(tmp_path, replace(CYCLE, cycle="2026-W49.1")).read_text(encoding="utf-8")


def test_no_gate_is_wider_than_a_phone(tmp_path: Path) -> None:
    """Bytes of a model in two columns were: the bound was cut at the edge, and every reason with it."""
    row = {"gate": "size", "verdict": "pass", "reason": "small enough", "measured": 753872, "rule": "at most", "limit": 209715200}
    row |= {"production_limit": 209715200, "n": 1, "smallest_n": 1}
    write_json(tmp_path / REFUSED, {"cycle": CYCLE.cycle, "results": [row]})
    path = write_report(tmp_path, CYCLE)
    with browser("") as page:
        page.look(wide_px=390)
        page.driver.get(path.as_uri())
        frame = page.see(".gates").find_element("xpath", "..")
        assert "209" in frame.text and frame.get_property("scrollWidth") <= frame.get_property("clientWidth")


def test_a_model_that_passed_and_was_held_by_the_probe_is_not_asked_to_run_again_for_nothing(tmp_path: Path) -> None:
    """A deferred batch by itself makes no cycle due: plain `vigil retrain` would say that nothing is new."""
    verdict = {"results": [{"gate": "size", "verdict": "pass"}]}
    assert "--force" in next_step("held", verdict, deferred=True)
    assert "judged again beside" not in (held := next_step("held", verdict)) and "vigil batches accept" in held, "deferred too often, it waits for a person"


def test_more_media_alone_do_not_bring_back_what_a_person_has_to_accept() -> None:
    verdict = {"results": [{"gate": "accuracy: AUC", "verdict": "undecided"}]}
    assert "vigil batches accept" in next_step("held", verdict) and "judges these again" in next_step("held", verdict, deferred=True)
    assert "budget.evaluation_clips_per_slice" in next_step("held", verdict), "media beyond what is drawn would decide nothing"


def test_a_model_that_was_rolled_back_or_followed_is_not_said_to_serve(tmp_path: Path) -> None:
    """The page said that the new champion serves, and how to go back; who did so a second time went back one too far."""
    journal = Journal(tmp_path)
    for cycle, digit in (("2026-W47.1", "1"), (CYCLE.cycle, "2")):
        journal.append(
            "promotion", cycle=cycle, model_sha256=digit * 64, path=f"models/{cycle}", previous_sha256="", who="vigil", why="every gate passed", card_sha256=""
        )
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "promoted" in page and BECAME in page and "not judged" not in page, "decided, and not closed yet"
    journal.append("rollback", cycle="2026-W47.1", model_sha256="1" * 64, path="models/2026-W47.1", who="ana", why="false alarms")
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "when this page was written, 2026-W47.1 served" in page and BECAME not in page


def test_the_kept_page_of_an_earlier_champion_does_not_say_that_it_serves(tmp_path: Path) -> None:
    """It did, with the command that takes down the one that serves by now, which it does not name; and Evidently's page is not where it is kept."""
    journal, columns = Journal(tmp_path), [{"column": "yaw", "method": "ks", "p_value": 0.5, "drifted": False}]
    for number, cycle in enumerate((replace(CYCLE, cycle="2026-W46.1"), replace(CYCLE, cycle="2026-W47.1"), CYCLE)):
        journal.append("cycle_opened", **cycle.as_dict(), fingerprint="f", scheduled=False, week="")
        journal.append(
            "promotion", cycle=cycle.cycle, model_sha256=f"{number:064}", path=f"models/{cycle.cycle}", previous_sha256="", who="v", why="", card_sha256=""
        )
        write_json(tmp_path / "reports/drift/drift.json", {"cycle": cycle.cycle, "status": "no reference", "columns": columns})
        write_report(tmp_path, cycle)
    page = Path(report_of(tmp_path, "2026-W47.1")["report"]).read_text(encoding="utf-8")
    assert BECAME in page and "What serves now: vigil models. While it is this one" in page and "beside this one" not in page
    assert "reports/drift/evidently.html of the workspace until the next cycle." in page, "no model was judged: MLflow has no run of it"


def test_what_a_person_dropped_needs_no_look_at_its_data_checks(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for batch in CYCLE.judged:
        journal.append("batch_added", batch=batch, source="x", samples=6, quarantined=0)
        journal.append("batch_state", batch=batch, state="dropped", who="ana", why="withdrawn")
    journal.append("cycle_held", cycle=CYCLE.cycle, reason="dropped by ana", defer=False)
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "Nothing: what came in was dropped" in page and "Look at the data checks" not in page and "dropped by ana" in page
    (advice,) = re.findall(r"To take it back: ([^<]+)\.", page)
    for verb in re.findall(r"vigil batches (\w+)", advice):
        assert set_batch_state(tmp_path, CYCLE.judged[0], {"hold": "held", "accept": "accepted"}[verb], who="ana", why="a mistake")
    assert batch_states(journal.events())[CYCLE.judged[0]].state == "accepted"


SETS = {
    "cycle": CYCLE.cycle,
    "train_rows": 36,
    "counts": {"train": {"role": {"new": 36}, **dict.fromkeys(("clips", "units", "people", "new"), 36), "label": {}, "generator": {}}},
}


def test_a_cycle_that_was_cut_short_goes_on_and_does_not_blame_its_media(tmp_path: Path) -> None:
    """Killed in stage `evaluate`, it said to mend the media or to drop them, beside checks that were all met, and that nothing was trained."""
    Journal(tmp_path).append("cycle_opened", **CYCLE.as_dict(), fingerprint="f", scheduled=False, week="2026-W48")
    write_json(tmp_path / "data/sets/report.json", SETS)
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "not finished</strong>" in page and "Run vigil retrain: it goes on" in page and "Look at the data checks" not in page
    assert "36 clips were drawn to train:" in page and "nothing was trained" not in page
    Journal(tmp_path).append("cycle_held", cycle=CYCLE.cycle, reason="another champion leads", defer=True)
    assert "not finished" not in write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    write_json(tmp_path / REFUSED, {"cycle": CYCLE.cycle, "results": [{"gate": "labels", "verdict": "fail", "reason": "x", **dict.fromkeys(ROW)}]})
    assert "drawn to train (and nothing was trained)" in write_report(tmp_path, CYCLE).read_text(encoding="utf-8")


def test_what_was_put_off_unjudged_is_not_blamed_either() -> None:
    assert next_step("held", {}, deferred=True).endswith("What came in is judged again beside the next media.")
    assert "vigil batches" in next_step("held", {})


def test_the_report_of_the_last_cycle_is_not_of_one_that_was_never_opened(tmp_path: Path) -> None:
    """A kill left the file of the cycle to come, without its line in the journal: its page stood in the place of the last one's."""
    Journal(tmp_path).append("cycle_opened", **CYCLE.as_dict(), fingerprint="f", scheduled=False, week="2026-W48")
    write_cycle(tmp_path, replace(CYCLE, cycle="2026-W49.1"))
    page = Path(report_of(tmp_path, "")["report"]).read_text(encoding="utf-8")
    assert CYCLE.cycle in page and "2026-W49.1" not in page and read_cycle(tmp_path).cycle == "2026-W49.1"
    assert not (tmp_path / KEPT / "2026-W49.1.html").exists()


def test_the_page_of_every_cycle_is_kept(tmp_path: Path) -> None:
    write_report(tmp_path, CYCLE)
    before = (tmp_path / KEPT / f"{CYCLE.cycle}.html").read_text(encoding="utf-8")
    write_report(tmp_path, replace(CYCLE, cycle="2026-W49.1"))
    assert (tmp_path / KEPT / f"{CYCLE.cycle}.html").read_text(encoding="utf-8") == before and CYCLE.cycle in before


def test_a_failed_data_check_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "reports/validate/b2.json", {"batch": "b2", "success": False, "expectations": [{"name": "media decode", "success": False}]})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert "failed:" in page and "media decode" in page


def test_a_batch_that_the_data_checks_refused_is_shown_with_what_was_wrong_with_its_files(tmp_path: Path) -> None:
    """No batch was under judgement, said the page, and nothing of the one that came in and was held."""
    write_json(tmp_path / "reports/validate/b3.json", {"batch": "b3", "success": False, "expectations": [{"name": "media decode", "success": False}]})
    write_json(tmp_path / "data/faces/b3/report.json", {"batch": "b3", "samples": [], "clips": 0, "reasons": {"truncated or corrupt": 20}})
    page = write_report(tmp_path, replace(CYCLE, batches=("b1",), judged=(), refused=("b3",))).read_text(encoding="utf-8")
    assert "b3" in page and "media decode" in page and "20: truncated or corrupt" in page and "No new batch" not in page


def test_a_page_says_why_files_were_put_aside_and_names_none(tmp_path: Path) -> None:
    """It outlives the files: an erasure takes their names out of their batch."""
    reasons = {f"{TWO_LABELS} (fake: {name}.mp4, real: copy.mp4)": 1 for name in ("eve", "bob")} | {"empty file": 2}
    write_json(tmp_path / "data/faces/b2/report.json", {"batch": "b2", "samples": [], "clips": 0, "reasons": reasons})
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert f"2: empty file; 2: {TWO_LABELS}</span>" in page and ".mp4" not in page


def test_the_literatures_claims_stand_with_their_conditions(tmp_path: Path) -> None:
    page = write_report(tmp_path, CYCLE).read_text(encoding="utf-8")
    assert all(value in page and conditions in page for _, value, conditions in CLAIMS)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.5, "0.5"), (-0.0, "0"), (0.00001234, "1.23e-05"), (209715200.0, "209 715 200"), (True, "yes"), (7, "7")]
)
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
    told = next_step("held", verdict, deferred=deferred)
    assert told.startswith(says) and "vigil batches accept" in told
