"""Promotion and rollback: who may become champion, once, and against whom."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.gates import GATES, judge
from tests.pipelines.gate_examples import CHAMPION, passing, replaced, without
from tests.workspace.worlds import make_model, start_python, verdict_for
from workspace.errors import LeaseHeldError, ModelFileError, PromotionConflict, WorkspaceError
from workspace.files import sha256_file
from workspace.journal import Journal
from workspace.lease import lease
from workspace.promotion import bootstrap, import_champion, overridden, override, overrides, promote, rollback, without_effect
from workspace.settings import GateSettings
from workspace.state import champion

ONE, TWO, THREE = "2026-W46.1", "2026-W47.1", "2026-W48.1"


def promote_next(root, cycle, base="", **changes):
    sha256 = make_model(root, cycle)
    arguments = {
        "expected_champion_sha256": base,
        "verdict": verdict_for(cycle, sha256, base),
        "cycle": cycle,
        "who": "vigil",
        "why": "all gates passed",
        **changes,
    }
    return promote(root, root / "models" / cycle, **arguments), sha256


def leading(root):
    found = champion(Journal(root).events())
    return found.cycle if found else None


def test_a_challenger_that_passed_becomes_champion(tmp_path):
    event, first = promote_next(tmp_path, ONE)
    assert event.kind == "promotion" and event["path"] == f"models/{ONE}" and event["previous_sha256"] == ""
    event, _ = promote_next(tmp_path, TWO, first)
    assert event["previous_sha256"] == first and leading(tmp_path) == TWO


def test_the_same_cycle_again_returns_the_first_event(tmp_path):
    Journal(tmp_path).append("candidate", cycle=ONE, model_sha256="0" * 64, path=f"models/{ONE}")
    first, sha256 = promote_next(tmp_path, ONE)
    again = promote(tmp_path, tmp_path / "models" / ONE, expected_champion_sha256="", verdict=verdict_for(ONE, sha256), cycle=ONE, who="x", why="rerun")
    assert again == first and [event.kind for event in Journal(tmp_path).events()] == ["candidate", "promotion"]


def test_a_rerun_after_a_rollback_does_not_promote_again(tmp_path):
    _, first = promote_next(tmp_path, ONE)
    event, second = promote_next(tmp_path, TWO, first)
    rollback(tmp_path, who="ann", why="complaints")
    assert (
        promote(tmp_path, tmp_path / "models" / TWO, expected_champion_sha256=first, verdict=verdict_for(TWO, second, first), cycle=TWO, who="x", why="rerun")
        == event
    )
    assert leading(tmp_path) == ONE


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "fail"},
        {"verdict": "undecided"},
        {"verdict": "PASS"},
        {"verdict": "pass "},
        {"verdict": True},
        {"verdict": None},
        {"verdict": 1},
        {"results": []},
        {"results": None},
        {"results": [{"gate": "accuracy", "verdict": "fail"}]},
        {"results": [{"gate": "accuracy"}]},
        {"cycle": "2026-W40.1"},
        {"challenger_sha256": ""},
        {"challenger_sha256": None},
        {"card_sha256": ""},
        {"card_sha256": None},
        {"base_sha256": "f" * 64},
        {"base_sha256": None},
    ],
)
def test_anything_but_a_whole_pass_verdict_promotes_nothing(tmp_path, changes):
    sha256 = make_model(tmp_path, ONE)
    with pytest.raises(WorkspaceError, match="Nothing was promoted"):
        promote(tmp_path, tmp_path / "models" / ONE, expected_champion_sha256="", verdict={**verdict_for(ONE, sha256), **changes}, cycle=ONE, who="x", why="y")
    assert Journal(tmp_path).events() == []


@pytest.mark.parametrize("key", ["verdict", "results", "cycle", "challenger_sha256", "card_sha256", "base_sha256"])
def test_a_verdict_with_a_key_missing_promotes_nothing(tmp_path, key):
    verdict = verdict_for(ONE, make_model(tmp_path, ONE))
    del verdict[key]
    with pytest.raises(WorkspaceError, match="Nothing was promoted"):
        promote(tmp_path, tmp_path / "models" / ONE, expected_champion_sha256="", verdict=verdict, cycle=ONE, who="x", why="y")
    assert Journal(tmp_path).events() == []


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "card.json"])
@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_changed_or_missing_file_is_refused(tmp_path, name, damage):
    sha256 = make_model(tmp_path, ONE)
    path = tmp_path / "models" / ONE / name
    path.write_bytes(b"{}") if damage == "change" else path.unlink()
    with pytest.raises(ModelFileError):
        promote(tmp_path, tmp_path / "models" / ONE, expected_champion_sha256="", verdict=verdict_for(ONE, sha256), cycle=ONE, who="x", why="y")
    assert Journal(tmp_path).events() == []


def test_a_model_other_than_the_judged_one_is_refused(tmp_path):
    make_model(tmp_path, ONE)
    other = make_model(tmp_path, TWO)
    with pytest.raises(ModelFileError, match="it holds model"):
        promote(tmp_path, tmp_path / "models" / ONE, expected_champion_sha256="", verdict=verdict_for(ONE, other), cycle=ONE, who="x", why="y")


def test_a_card_other_than_the_judged_one_is_refused(tmp_path):
    sha256 = make_model(tmp_path, ONE)
    card = tmp_path / "models" / ONE / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"threshold": 0.01}))
    with pytest.raises(ModelFileError, match="with the threshold"):
        promote(tmp_path, tmp_path / "models" / ONE, expected_champion_sha256="", verdict=verdict_for(ONE, sha256), cycle=ONE, who="x", why="y")
    assert Journal(tmp_path).events() == []


def test_a_model_outside_the_workspace_is_refused(tmp_path):
    sha256 = make_model(tmp_path / "elsewhere", ONE)
    with pytest.raises(WorkspaceError, match="not in the workspace"):
        promote(
            tmp_path / "w", tmp_path / "elsewhere" / "models" / ONE, expected_champion_sha256="", verdict=verdict_for(ONE, sha256), cycle=ONE, who="x", why="y"
        )


def test_a_challenger_judged_against_a_champion_of_the_past_is_refused(tmp_path):
    _, first = promote_next(tmp_path, ONE)
    promote_next(tmp_path, TWO, first)
    with pytest.raises(PromotionConflict, match="judged against"):
        promote_next(tmp_path, THREE, first)
    assert leading(tmp_path) == TWO


def test_a_challenger_judged_against_a_champion_of_whom_the_journal_knows_nothing_is_refused(tmp_path):
    """As after a journal was restored from a shorter copy."""
    with pytest.raises(PromotionConflict, match="the champion is now none"):
        promote_next(tmp_path, TWO, "f" * 64)
    assert Journal(tmp_path).events() == []


def test_a_rollback_while_a_cycle_runs_makes_its_promotion_a_conflict(tmp_path):
    _, first = promote_next(tmp_path, ONE)
    _, second = promote_next(tmp_path, TWO, first)
    with lease(tmp_path, "a long cycle"):
        rollback(tmp_path, who="ann", why="complaints")  # needs no lease
        with pytest.raises(PromotionConflict):
            promote_next(tmp_path, THREE, second)
    assert leading(tmp_path) == ONE


def test_a_cycle_cannot_promote_a_second_model(tmp_path):
    _, first = promote_next(tmp_path, ONE)
    sha256 = make_model(tmp_path, TWO)
    verdict = verdict_for(ONE, sha256, first, card_sha256=sha256_file(tmp_path / "models" / TWO / "card.json"))
    with pytest.raises(PromotionConflict, match="already promoted"):
        promote(tmp_path, tmp_path / "models" / TWO, expected_champion_sha256=first, verdict=verdict, cycle=ONE, who="x", why="y")


@pytest.mark.parametrize(("who", "why"), [("", "y"), ("x", " ")])
def test_every_decision_needs_a_name_and_a_reason(tmp_path, who, why):
    with pytest.raises(WorkspaceError, match="name and a reason"):
        promote_next(tmp_path, ONE, who=who, why=why)
    with pytest.raises(WorkspaceError, match="name and a reason"):
        rollback(tmp_path, who=who, why=why)
    with pytest.raises(WorkspaceError, match="name and a reason"):
        import_champion(tmp_path, tmp_path / "models" / ONE, model_sha256="0" * 64, source_sha256="a" * 64, who=who, why=why)
    verdict = verdict_for(ONE, sha256_file(tmp_path / "models" / ONE / "model.safetensors"), verdict="undecided")
    with pytest.raises(WorkspaceError, match="name and a reason"):
        bootstrap(tmp_path, tmp_path / "models" / ONE, verdict=verdict, cycle=ONE, who=who, why=why)
    assert Journal(tmp_path).events() == []


def test_the_lease_of_another_process_stops_a_promotion(tmp_path):
    other = start_python(
        """
        import sys, time
        from pathlib import Path
        from workspace.lease import lease
        with lease(Path(sys.argv[1]), "retrain"):
            print("held", flush=True)
            time.sleep(600)
    """,
        tmp_path,
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError, match=str(other.pid)):
            promote_next(tmp_path, ONE)
        assert leading(tmp_path) is None
    finally:
        other.kill()
        other.communicate()


RACE = """
    import json, sys, time
    from pathlib import Path
    from workspace.errors import VigilError
    from workspace.promotion import promote
    root, cycle, verdict, start = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        try:
            promote(root, root / "models" / cycle, expected_champion_sha256="", verdict=verdict, cycle=cycle, who=cycle, why="race")
            print("promoted")
        except VigilError as problem:
            if type(problem).__name__ == "LeaseHeldError":
                continue
            print(type(problem).__name__)
        break
"""


def test_of_two_processes_that_race_only_one_promotes(tmp_path):
    import json

    racers = []
    for cycle in (ONE, TWO):
        sha256 = make_model(tmp_path, cycle)
        racers.append(start_python(RACE, tmp_path, cycle, json.dumps(verdict_for(cycle, sha256)), 0, stdin=subprocess.PIPE))
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = sorted(racer.communicate(timeout=60)[0].strip() for racer in racers)
    assert said == ["PromotionConflict", "promoted"]
    assert [event.kind for event in Journal(tmp_path).events()] == ["promotion"]


def three_models(root):
    base = ""
    for cycle in (ONE, TWO, THREE):
        _, base = promote_next(root, cycle, base)


def test_rolling_back_goes_to_the_model_before_and_then_to_the_one_before_that(tmp_path):
    three_models(tmp_path)
    assert rollback(tmp_path, who="ann", why="false alarms")["cycle"] == TWO
    assert rollback(tmp_path, who="ann", why="still")["cycle"] == ONE
    with pytest.raises(WorkspaceError, match="no model before"):
        rollback(tmp_path, who="ann", why="further")
    assert leading(tmp_path) == ONE


def test_rolling_back_by_name_twice_is_once(tmp_path):
    three_models(tmp_path)
    first = rollback(tmp_path, ONE, who="ann", why="x")
    assert rollback(tmp_path, ONE, who="ann", why="x", instead_of=THREE) == first and leading(tmp_path) == ONE


@pytest.mark.parametrize("to", ["previous", THREE])
def test_a_rollback_from_a_champion_that_leads_no_more_is_refused(tmp_path, to):
    """A page older than the newest promotion put the very model back that one wanted to leave."""
    three_models(tmp_path)
    rollback(tmp_path, who="bob", why="false alarms")
    with pytest.raises(PromotionConflict, match=f"now it is {TWO}"):
        rollback(tmp_path, to, who="ann", why="false alarms", instead_of=THREE)
    assert leading(tmp_path) == TWO


def test_a_model_that_was_never_promoted_cannot_be_rolled_back_to(tmp_path):
    three_models(tmp_path)
    make_model(tmp_path, "2026-W49.1")
    Journal(tmp_path).append("candidate", cycle="2026-W49.1", model_sha256="0" * 64, path="models/2026-W49.1")
    with pytest.raises(WorkspaceError, match="never promoted"):
        rollback(tmp_path, "2026-W49.1", who="ann", why="x")


def test_a_rollback_beside_another_does_not_go_back_one_model_too_far(tmp_path, monkeypatch):
    """Hashing a model takes seconds: whoever reads the journal before them decides on a champion of the past."""
    three_models(tmp_path)
    events = Journal.events
    late = iter([Journal(tmp_path).events()])
    rollback(tmp_path, who="bob", why="false alarms")
    monkeypatch.setattr(Journal, "events", lambda journal: next(late, None) or events(journal))  # as ann read them, before bob
    with pytest.raises(PromotionConflict, match="Nothing was rolled back"):
        rollback(tmp_path, who="ann", why="false alarms")
    assert leading(tmp_path) == TWO


def test_a_rollback_to_changed_files_is_refused(tmp_path):
    three_models(tmp_path)
    (tmp_path / "models" / TWO / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelFileError):
        rollback(tmp_path, who="ann", why="x")
    assert leading(tmp_path) == THREE


@pytest.mark.parametrize("damage", [b"\xff", b"}", b"[" * 100_000], ids=["no UTF-8", "no JSON", "nested too deep"])
def test_a_model_whose_card_cannot_be_read_is_refused(tmp_path, damage):
    """A byte that is no UTF-8 was called a mistake in Vigil, by the doctor too, which would have restored the card."""
    three_models(tmp_path)
    card = tmp_path / "models" / TWO / "card.json"
    card.write_bytes(damage + card.read_bytes())
    with pytest.raises(ModelFileError, match=r"card\.json cannot be read") as refusal:
        rollback(tmp_path, who="ann", why="x")
    assert leading(tmp_path) == THREE and "onnx_sha256" not in str(refusal.value), "a card lists thousands of clips: it is not poured out"


def test_the_first_model_may_be_bootstrapped_by_a_person_and_only_the_first(tmp_path):
    sha256 = make_model(tmp_path, ONE)
    held = verdict_for(ONE, sha256, verdict="undecided")
    event = bootstrap(tmp_path, tmp_path / "models" / ONE, verdict=held, cycle=ONE, who="ann", why="too few videos to decide")
    assert [one.kind for one in Journal(tmp_path).events()] == ["override", "promotion"] and "bootstrapped" in event["why"]
    other = make_model(tmp_path, TWO)
    with pytest.raises(PromotionConflict, match="only the first"):
        bootstrap(tmp_path, tmp_path / "models" / TWO, verdict=verdict_for(TWO, other), cycle=TWO, who="ann", why="me too")


def test_an_import_is_safe_to_repeat_and_never_answers_for_another_model(tmp_path):
    one, two = make_model(tmp_path, ONE), make_model(tmp_path, TWO)
    Journal(tmp_path).append("candidate", cycle=TWO, model_sha256=two, path=f"models/{TWO}")
    words = {"source_sha256": "a" * 64, "who": "ann", "why": "from the lab"}
    first = import_champion(tmp_path, tmp_path / "models" / ONE, model_sha256=one, **words)
    assert import_champion(tmp_path, tmp_path / "models" / ONE, model_sha256=one, **words) == first and first["model_sha256"] == one
    with pytest.raises(PromotionConflict, match="Nothing was imported"):
        import_champion(tmp_path, tmp_path / "models" / TWO, model_sha256=two, **words)
    assert [event.kind for event in Journal(tmp_path).events()] == ["candidate", "promotion"]


def test_an_import_of_another_model_than_the_named_one_is_refused(tmp_path):
    make_model(tmp_path, ONE)
    with pytest.raises(ModelFileError, match="it holds model"):
        import_champion(tmp_path, tmp_path / "models" / ONE, model_sha256="e" * 64, source_sha256="a" * 64, who="ann", why="from the lab")
    assert Journal(tmp_path).events() == []


@pytest.mark.parametrize("gate", ["data", "leak-free", "artifact parity", "score collapse"])
def test_what_nobody_can_vouch_for_is_not_bootstrapped_either(tmp_path, gate):
    page = verdict_for(ONE, make_model(tmp_path, ONE), verdict="fail")
    rows = [row for row in page["results"] if row["gate"] != gate]
    failed = {"gate": gate, "verdict": "fail", "reason": "this is how it failed"}
    with pytest.raises(WorkspaceError, match="this is how it failed"):
        bootstrap(tmp_path, tmp_path / "models" / ONE, verdict={**page, "results": [*rows, failed]}, cycle=ONE, who="ann", why="x")
    assert Journal(tmp_path).events() == []


@pytest.mark.parametrize("missing", ["data", "leak-free"])
def test_a_report_about_the_data_that_nobody_finished_cannot_be_vouched_for(tmp_path, missing):
    sha256 = make_model(tmp_path, ONE)
    page = verdict_for(ONE, sha256, verdict="undecided")
    for rows in (
        [row for row in page["results"] if row["gate"] != missing],
        [row | {"verdict": "undecided"} if row["gate"] == missing else row for row in page["results"]],
    ):
        with pytest.raises(WorkspaceError, match=f"{missing}: it did not pass"):
            bootstrap(tmp_path, tmp_path / "models" / ONE, verdict={**page, "results": rows}, cycle=ONE, who="ann", why="x")
    assert Journal(tmp_path).events() == []


@pytest.mark.parametrize(
    ("gate", "least", "said"),
    [("accuracy: AUC", 94, "12 real or fake videos"), ("not worse than the champion", 50, "12 people with real or with fake videos in its holdout, 50")],
)
def test_a_model_whose_holdout_can_judge_no_later_one_is_not_bootstrapped(tmp_path, gate, least, said):
    sha256 = make_model(tmp_path, ONE)
    page = verdict_for(ONE, sha256, verdict="undecided")
    rows = [row for row in page["results"] if row["gate"] != gate]
    few = [*rows, {"gate": gate, "verdict": "undecided", "reason": "few", "n": 12, "smallest_n": least}]
    with pytest.raises(WorkspaceError, match=said):
        bootstrap(tmp_path, tmp_path / "models" / ONE, verdict={**page, "results": few}, cycle=ONE, who="ann", why="x")
    assert Journal(tmp_path).events() == []


def test_bootstrapping_another_file_than_the_judged_one_is_refused(tmp_path):
    make_model(tmp_path, ONE)
    with pytest.raises(ModelFileError):
        bootstrap(tmp_path, tmp_path / "models" / ONE, verdict=verdict_for(ONE, "e" * 64), cycle=ONE, who="ann", why="x")
    assert leading(tmp_path) is None


# -- overrides --------------------------------------------------------------------------------------------------------------------
SOON = datetime.now(UTC) + timedelta(days=7)
EVALUATION, DRIFT = ("evaluation", "gate_inputs"), ("drift", "gate_inputs")
LATENCY = {"gate": "latency", "verdict": "fail", "reason": "slow", "measured": 9.0}


def test_an_override_needs_a_name_a_reason_an_end_and_a_gate_that_may_be_overridden(tmp_path):
    for gate, who, why, until in (
        ("data", "ann", "x", SOON), ("leak-free", "ann", "x", SOON), ("artifact parity", "ann", "x", SOON), ("no such gate", "ann", "x", SOON),
        ("latency", "", "x", SOON), ("latency", "ann", " ", SOON), ("latency", "ann", "x", datetime.now(UTC) - timedelta(days=1)),
        ("latency", "ann", "x", datetime.now(UTC) + timedelta(days=400)), ("latency", "ann", "x", datetime.now()),
    ):  # fmt: skip
        with pytest.raises(WorkspaceError):
            override(tmp_path, gate, who=who, why=why, until=until)
    assert Journal(tmp_path).events() == []


def test_an_override_lets_its_gate_pass_until_it_ends_and_no_other(tmp_path):
    override(tmp_path, "latency", who="ann", why="the new machine comes on Monday", until=SOON)
    events = Journal(tmp_path).events()
    in_force = overrides(events, datetime.now(UTC))
    good = {"gate": "accuracy: AUC", "verdict": "pass", "reason": "good", "measured": 0.9}
    page, said = overridden(verdict_for(ONE, "d" * 64, verdict="fail", results=[good, LATENCY]), in_force)
    assert page["verdict"] == "pass" and page["results"][1]["overridden"]["who"] == "ann" and "the new machine" in said[0]
    assert overridden(verdict_for(ONE, "d" * 64, verdict="fail", results=[{**good, "verdict": "fail"}, LATENCY]), in_force) is None
    assert overridden(verdict_for(ONE, "d" * 64, verdict="fail", results=[{**LATENCY, "measured": None}]), in_force) is None
    assert overrides(events, SOON + timedelta(seconds=1)) == {}
    assert overrides(events, datetime(2020, 1, 1, tzinfo=UTC)) == {}, "a clock that was set back revives none"
    assert overridden(verdict_for(ONE, "d" * 64), in_force) is None, "nothing was held: nothing is overridden"


TOO_FEW = {
    "not worse than the champion": ((*EVALUATION, "comparison", "people"), 40),
    "drift": ((*DRIFT, "n_ref"), 12),
    "label noise": ((*DRIFT, "labels", "n_ref"), 12),
    "forgetting": ((*EVALUATION, "forgetting"), {"count": 0, "rows": []}),
    "worst slice": ((*EVALUATION, "slices"), {"count": 0, "rows": []}),
    "robustness": ((*EVALUATION, "robustness", "n"), 0),
}


@pytest.mark.parametrize("gate", TOO_FEW)
def test_an_override_covers_too_few_people_or_videos_beside_a_champion_and_no_missing_number(tmp_path, gate):
    """It was taken, journalled and announced, and the next night was held by that very gate without a word of it."""
    override(tmp_path, gate, who="ana", why="few people yet, all known", until=SOON)
    in_force = overrides(Journal(tmp_path).events(), datetime.now(UTC))
    path, few = TOO_FEW[gate]
    page = judge(**replaced(passing(something_new=False), path, few), settings=GateSettings()).as_dict() | {"base_sha256": CHAMPION}
    assert [row["gate"] for row in page["results"] if row["verdict"] != "pass"] == [gate]
    assert overridden(page, in_force)[0]["verdict"] == "pass" and without_effect(page, in_force) == []
    hole = judge(**without(passing(something_new=False), path), settings=GateSettings()).as_dict() | {"base_sha256": CHAMPION}
    assert overridden(hole, in_force) is None
    assert without_effect(hole, in_force) == [f"The override of {gate!r} by ana does not count: a number is missing, and nobody can answer for one."]


def test_an_override_is_found_in_a_journal_that_began_with_a_bootstrap(tmp_path):
    sha256 = make_model(tmp_path, ONE)
    bootstrap(tmp_path, tmp_path / "models" / ONE, verdict=verdict_for(ONE, sha256, verdict="undecided"), cycle=ONE, who="ann", why="x")
    override(tmp_path, "latency", who="ann", why="x", until=SOON)
    assert set(overrides(Journal(tmp_path).events(), datetime.now(UTC))) == {"latency"}


def test_an_override_covers_its_gate_whatever_part_of_it_failed(tmp_path):
    """Gates name what they looked at behind a colon: `accuracy: AUC`, one row for each new generator."""
    override(tmp_path, "better on what is new", who="ann", why="known by name", until=SOON)
    rows = [{"gate": f"better on what is new: {name}", "verdict": "fail", "reason": "worse", "measured": 0.8} for name in ("neural", "a:b")]
    page, said = overridden(verdict_for(ONE, "d" * 64, verdict="fail", results=rows), overrides(Journal(tmp_path).events(), datetime.now(UTC)))
    assert [row["verdict"] for row in page["results"]] == ["pass", "pass"] and len(said) == 2


def test_the_latest_word_on_a_gate_counts(tmp_path):
    for who, days in (("ann", 20), ("bob", 1)):
        override(tmp_path, "latency", who=who, why="x", until=datetime.now(UTC) + timedelta(days=days))
    events = Journal(tmp_path).events()
    assert overrides(events, datetime.now(UTC))["latency"]["who"] == "bob"
    assert overrides(events, datetime.now(UTC) + timedelta(days=2)) == {}, "who shortens an override ends it earlier"


def test_a_person_may_override_every_gate_but_those_that_look_at_data_and_file(tmp_path):
    for gate in GATES:
        if gate in ("data", "leak-free", "artifact parity", "score collapse"):
            with pytest.raises(WorkspaceError, match="Nothing was changed"):
                override(tmp_path, gate, who="ann", why="x", until=SOON)
        else:
            override(tmp_path, gate, who="ann", why="x", until=SOON)
    assert len(overrides(Journal(tmp_path).events(), datetime.now(UTC))) == len(GATES) - 4
