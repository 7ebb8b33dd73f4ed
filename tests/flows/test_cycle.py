"""What a cycle is opened with: what the data checks refuse is held, and no later cycle takes it for learned."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from feedback.erasing import Erasing
from feedback.learned import FOLDER
from flows.closing import finish_commit
from flows.cycle import _one_cycle, conclude, keep_candidate, settle_batches
from flows.health import examine
from flows.opening import drawn_forgers, open_new_cycle, place_models, refuse_missing_parameters, waiting_forgers
from flows.plan import make_plan
from flows.policy import Start, how_much
from flows.taking_in import take_in
from tests.feedback.world import World
from tests.pipelines.small_world import demo_settings
from tests.workspace.worlds import make_model, verdict_for
from vigil.cycles import run_cycle
from vigil.deciding import override_gate
from vigil.erasing import erase, render_erased
from vigil.opening import open_workspace
from vigil.reading import render_status, status_of
from workspace.batches import set_batch_state
from workspace.cycle import Cycle, read_cycle, restore_cycle, write_cycle
from workspace.errors import ModelFileError, SettingsError, WorkspaceError
from workspace.files import sha256_bytes, write_json
from workspace.forgetting import batches_with
from workspace.journal import Journal
from workspace.lease import lease
from workspace.manifest import read_manifest
from workspace.promotion import bootstrap, override, promote
from workspace.remote import verify
from workspace.revisions import git
from workspace.settings import Settings, SourceSettings, load_settings
from workspace.state import Decision, batch_states, cycles
from workspace.upgrade import upgraded_params

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")


def open_with(root: Path, success: dict[str, bool], week: str = "") -> Journal:
    """A workspace in which each batch has come in and been checked, and the cycle that is opened on them."""
    journal = Journal(root)
    for batch, passed in success.items():
        journal.append("batch_added", batch=batch, source="folder", samples=4, quarantined=0)
        row = {
            "name": "media decode",
            "success": passed,
            "observed": 0.1,
            "limit": 0.9,
            "setting": "min_decodable",
            "reasons": {"empty file": 1, "truncated or corrupt": 3},
        }
        write_json(root / "reports" / "validate" / f"{batch}.json", {"batch": batch, "success": passed, "expectations": [row]})
    open_new_cycle(root, journal, SETTINGS, make_plan(journal.events(), SETTINGS), Start("person", "a person asked", week))
    return journal


def test_a_cycle_of_a_clone_of_an_old_tag_ends_in_a_commit_and_a_tag_of_its_own(tmp_path: Path) -> None:
    """A clone has the tags of what came later, too: its next cycle took such a one's name, counted as committed, and stayed in no commit."""
    open_workspace(tmp_path / "w", "demo")

    def end_one(root: Path, batch: str) -> str:
        journal = open_with(root, {batch: False}, "2026-W48")
        journal.append("cycle_closed", cycle=read_cycle(root).cycle, outcome="held", reason="data checks", verdict_sha256="")
        return finish_commit(root)

    first, second = (end_one(tmp_path / "w", batch) for batch in ("one", "two"))
    old = tmp_path / "old"
    git(tmp_path, "clone", "-q", "-b", first, str(tmp_path / "w"), str(old))
    made = end_one(old, "three")
    assert (first, second, made) == ("vigil/2026-W48.1", "vigil/2026-W48.2", "vigil/2026-W48.3")
    assert git(old, "show", f"{made}:journal.jsonl") == (old / "journal.jsonl").read_text().strip()


def test_a_refused_batch_is_not_counted_as_learned_when_a_person_accepts_it_later(tmp_path: Path) -> None:
    journal = open_with(tmp_path, {"good": True, "bad": False})
    (opened,) = cycles(journal.events())
    assert opened.judged == ("good",) == read_cycle(tmp_path).judged and read_cycle(tmp_path).refused == ("bad",)
    states = batch_states(journal.events())
    assert (
        states["bad"].state == "held"
        and "media decode (observed 0.1, limit 0.9, see validate.min_decodable; 3 x truncated or corrupt; 1 x empty file)" in states["bad"].why
    )
    journal.append("cycle_closed", cycle=opened.cycle, outcome="promoted", reason="", verdict_sha256="")
    set_batch_state(tmp_path, "good", "accepted", who="vigil", why="promoted")
    assert not make_plan(journal.events(), SETTINGS).reasons
    set_batch_state(tmp_path, "bad", "accepted", who="ana", why="looked at each")
    plan = make_plan(journal.events(), SETTINGS)
    assert plan.judged == ("bad",) and plan.accepted == ("good",)


def test_after_a_bootstrap_its_batches_are_known_and_only_what_came_since_is_judged(tmp_path: Path) -> None:
    """Its cycle was held, so they were judged again in every later one, and against nothing: no model could ever follow the first."""
    journal = open_with(tmp_path, {"first": True})
    (opened,) = cycles(journal.events())
    sha256 = make_model(tmp_path, opened.cycle)
    journal.append("candidate", cycle=opened.cycle, model_sha256=sha256, path=f"models/{opened.cycle}")
    journal.append("cycle_closed", cycle=opened.cycle, outcome="held", reason="AUC 0.88", verdict_sha256="")
    bootstrap(tmp_path, tmp_path / "models" / opened.cycle, verdict=verdict_for(opened.cycle, sha256), cycle=opened.cycle, who="ana", why="a start")
    set_batch_state(tmp_path, "first", "accepted", who="ana", why="bootstrapped: a start")
    assert not make_plan(journal.events(), SETTINGS).needed
    open_with(tmp_path, {"second": True})
    cycle = read_cycle(tmp_path)
    assert cycle.judged == ("second",) and cycle.batches == ("first", "second") and cycle.base_model == sha256 and not cycle.judges_all


def test_a_cycle_whose_only_news_was_refused_trains_nothing_also_when_it_is_taken_up_again(tmp_path: Path) -> None:
    open_with(tmp_path, {"bad": False})
    assert not read_cycle(tmp_path).trains
    assert make_plan(Journal(tmp_path).events(), SETTINGS).resume


def deferred_once(root: Path, *kinds: str) -> Journal:
    """A workspace whose one batch was judged, and deferred."""
    journal = open_with(root, {"sparse": True})
    for kind in kinds:
        journal.append(kind, cycle=cycles(journal.events())[0].cycle, reason="", defer=True)
    journal.append("cycle_closed", cycle=cycles(journal.events())[0].cycle, outcome="held", reason="", verdict_sha256="")
    set_batch_state(root, "sparse", "deferred", who="vigil", why="too little of it")
    return journal


def test_a_deferred_batch_makes_no_cycle_due_and_is_judged_beside_the_next(tmp_path: Path) -> None:
    journal = deferred_once(tmp_path)
    assert not make_plan(journal.events(), SETTINGS).needed
    assert make_plan(journal.events(), SETTINGS, force=True).judged == ("sparse",), "a person may ask for it"
    open_with(tmp_path, {"next": True})
    assert read_cycle(tmp_path).judged == ("next", "sparse")


def test_an_override_makes_a_deferred_batch_due_once(tmp_path: Path) -> None:
    journal = deferred_once(tmp_path)
    override(tmp_path, "drift", who="ana", why="that is what it looks like now", until=datetime.now(UTC) + timedelta(days=7))
    plan = make_plan(journal.events(), SETTINGS)
    assert plan.judged == ("sparse",) and plan.reasons[0] == "gate drift overridden since" and plan.regardless
    cycle = open_new_cycle(tmp_path, journal, SETTINGS, plan, Start("person", "a person asked"))
    assert cycle.judged == ("sparse",) and cycle.trains
    journal.append("cycle_closed", cycle=cycle.cycle, outcome="held", reason="", verdict_sha256="")
    assert not make_plan(journal.events(), SETTINGS).needed


def test_where_nothing_is_new_it_is_said_what_waits_for_a_person(tmp_path: Path) -> None:
    """After a held first cycle `vigil retrain --force` said that --force runs one all the same, and ran none."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    journal, settings = Journal(root), load_settings(root / "params.yaml")
    assert "vigil ingest" in run_cycle(root, settings)["reason"]
    journal.append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    set_batch_state(root, "b1", "held", who="vigil", why="accuracy")
    reason = run_cycle(root, settings, force=True)["reason"]
    assert "vigil batches accept): b1" in reason and "--force" not in reason
    assert "vigil batches accept, where it was this gate that held b1" in override_gate(root, "latency", "ana", "a new machine", 3)
    set_batch_state(root, "b1", "accepted", who="ana", why="they are right")
    assert make_plan(journal.events(), settings).judged == ("b1",)


def test_the_only_source_is_passed_over_too_where_it_cannot_be_understood_and_erasures_are_carried_out(tmp_path: Path) -> None:
    """One mistake in its table stopped the whole cycle and every erasure; with a second source beside it neither."""
    root, bad = tmp_path / "w", tmp_path / "bad"
    open_workspace(root, "demo")
    world = World(root)
    content = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    detection, case = world.upload(content)
    world.decide(case, "real")
    with lease(root, "retrain"):
        take_in.fn(root, world.settings, [])
        assert Erasing(world.database, world.media).erase(world.sender, detection)["training"] == "requested"
        bad.mkdir()
        (bad / "labels.csv").write_text("path,label\na.jpg,1\n")
        taken = take_in.fn(root, world.settings, [SourceSettings(name="bad", path=str(bad))])
    world.close()
    assert len(taken.problems) == 1 and taken.problems[0].startswith("bad: ") and "label '1'" in taken.problems[0]
    assert f"erased {sha256_bytes(content)[:16]} on request" in taken.lines
    assert [batch.state for batch in batch_states(Journal(root).events()).values()] == ["dropped"]


def test_what_a_stage_lacks_in_the_settings_is_named_before_anything_is_taken_in(tmp_path: Path) -> None:
    """The settings have a default, DVC has none: it said so at that stage, for one of them after the whole training, and spoke of a full disk."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    path = root / "params.yaml"
    whole = path.read_text()
    path.write_text("".join(line for line in whole.splitlines(keepends=True) if not line.startswith(("seed:", "  alpha:"))))
    with lease(root, "retrain"), pytest.raises(SettingsError, match=r"lacks gates\.alpha, seed[\s\S]*vigil upgrade"):
        _one_cycle(root, load_settings(path), False, False, [])
    path.write_text(upgraded_params(path.read_text())[0])
    refuse_missing_parameters(root)


def paused(root: Path) -> tuple[Journal, Settings, Cycle]:
    """A workspace with a cycle that was opened over one batch, b1, and not closed."""
    open_workspace(root, "demo")
    journal, settings = Journal(root), load_settings(root / "params.yaml")
    journal.append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    with lease(root, "retrain"):
        write_json(root / "reports" / "validate" / "b1.json", {"batch": "b1", "success": True, "expectations": []})
        cycle = open_new_cycle(root, journal, settings, make_plan(journal.events(), settings), Start("person", "a person asked"))
    return journal, settings, cycle


def test_a_paused_cycle_whose_champion_changed_is_ended_before_anything_more_is_trained(tmp_path: Path) -> None:
    """It trained to its end, and was held then: what it was to beat did not lead any more."""
    root = tmp_path / "w"
    journal, settings, cycle = paused(root)
    with lease(root, "retrain"):
        told = {"who": "ana", "why": "ours of before", "card_sha256": ""}
        journal.append("promotion", cycle="imported", model_sha256="1" * 64, path="models/imported", previous_sha256="", **told)
        outcome = _one_cycle(root, settings, False, False, [])
    assert outcome.cycle == cycle.cycle and outcome.outcome == "held" and "opened to beat no champion, and 111111111111 (imported) leads" in outcome.reason
    assert "vigil retrain --force" in outcome.reason and batch_states(journal.events())["b1"].state == "deferred"
    assert make_plan(journal.events(), settings, force=True).base_cycle == "imported"


def test_a_cycle_whose_batch_is_not_here_begins_no_stage_and_says_what_brings_it(tmp_path: Path) -> None:
    """It ended in DVC's own words, of a file that was not found, and advised to mend the cause."""
    root = tmp_path / "w"
    _, settings, _ = paused(root)
    with lease(root, "retrain"):
        with pytest.raises(WorkspaceError, match=r"(?s)No stage was begun.*b1.*vigil doctor --pull"):
            _one_cycle(root, settings, False, False, [])


def test_what_is_erased_while_a_cycle_is_open_is_taken_out_when_it_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It waited for a cycle after that, which comes when something is new: `vigil erase` had said `vigil retrain`, and nothing else a word."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    world, journal = World(root), Journal(root)
    contents = [cv2.imencode(".jpg", np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes() for seed in (0, 1, 2)]
    (detection, case), *others = (world.upload(content) for content in contents)
    for one in (case, *(other for _, other in others)):
        world.decide(one, "real")
    settings, gone = world.settings, sha256_bytes(contents[0])
    with lease(root, "retrain"):
        take_in.fn(root, settings, [])
        (batch,) = batch_states(journal.events())
        write_json(root / "reports" / "validate" / f"{batch}.json", {"batch": batch, "success": True, "expectations": []})
        cycle = open_new_cycle(root, journal, settings, make_plan(journal.events(), settings), Start("person", "a person asked"))
    assert Erasing(world.database, world.media).erase(world.sender, detection)["training"] == "requested"
    said = render_erased(erase(root, settings, [], "ana", "asked to"))
    assert said == "1 erasures wait for the end of the cycle that was begun. Next: vigil retrain"

    def erasures() -> tuple[str, bool]:
        (row,) = [row for row in examine(root, settings) if row["check"] == "erasures"]
        return row["found"], f"erasures  {row['found']}" in render_status(status_of(root, settings))

    waits = f"1 erased file leaves the training data when {cycle.cycle} ends (`vigil retrain`)"
    assert erasures() == (waits, True)
    journal.append("candidate", cycle=cycle.cycle, model_sha256="a" * 64, path=f"models/{cycle.cycle}")
    write_json(root / FOLDER / f"{cycle.cycle}.json", {"cycle": cycle.cycle, "cases": [], "samples": [gone[:16]]})
    with lease(root, "retrain"):
        conclude(root, settings, journal, cycle, Decision("held", "nothing was trained"))
    assert f"erased {gone[:16]} on request; the weights of {cycle.cycle} learned from it and stay" in capsys.readouterr().err
    use = read_manifest(root / "data" / "raw" / batch).set_index("sample_id")["use"]
    assert use[gone] == "never" != use[sha256_bytes(contents[1])] and not batches_with(root, [gone])[gone]
    assert verify(root).whole, "the batch that was packed anew is on the remote"
    assert erasures() == ("none waits", False)
    erase(root, settings, [sha256_bytes(contents[2])], "ana", "asked to")
    assert verify(root).whole, "so it is where a person erases between cycles"
    world.close()


def test_an_override_that_has_ended_makes_nothing_due(tmp_path: Path) -> None:
    """It started a full cycle, with a reason that was no longer true."""
    journal, now = deferred_once(tmp_path), datetime.now(UTC)
    override(tmp_path, "drift", who="ana", why="for a day", until=now + timedelta(days=1))
    assert make_plan(journal.events(), SETTINGS, now=now + timedelta(hours=12)).needed
    assert not make_plan(journal.events(), SETTINGS, now=now + timedelta(days=2)).needed


def keep(root: Path, settings: Settings) -> None:
    """Journal the model in build/model as the open cycle's candidate, with these settings."""
    journal = Journal(root)
    cycle = restore_cycle(root, journal.events(), cycles(journal.events())[-1].cycle)
    if not (root / "build" / "model").exists():
        make_model(root, cycle.cycle)
        shutil.copytree(root / "models" / cycle.cycle, root / "build" / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workspace.repository.dvc_add", lambda root, paths: None)
        keep_candidate(root, settings, journal, cycle, root / "models" / cycle.cycle)


def with_lr(times: float) -> Settings:
    """Settings that every stage meets which they concern, whenever they are changed."""
    return SETTINGS.model_copy(update={"train": SETTINGS.train.model_copy(update={"lr": SETTINGS.train.lr * times})})


def test_a_cycle_that_ended_with_other_settings_than_it_was_opened_with_trained_with_those(tmp_path: Path) -> None:
    """Edited while it paused, they were what its stages met; the journal had those of before, and a change back was no change."""
    journal = open_with(tmp_path, {"good": True})
    (opened,) = cycles(journal.events())
    changed = with_lr(2)
    for _ in range(2):
        keep(tmp_path, changed)
    assert [event.kind for event in journal.events()].count("candidate") == 1, "said once"
    journal.append("cycle_closed", cycle=opened.cycle, outcome="promoted", reason="", verdict_sha256="")
    set_batch_state(tmp_path, "good", "accepted", who="vigil", why="promoted")
    assert not make_plan(journal.events(), changed).reasons
    assert make_plan(journal.events(), SETTINGS).reasons == ("a setting or a stage version changed",)


@pytest.mark.parametrize("what", ["seed", "forgers", "anchor", "fine-tune"])
def test_a_change_that_a_paused_cycle_could_not_take_over_is_tried_by_the_next(tmp_path: Path, what: str) -> None:
    """The journal said that the model was trained with it: nothing was new then, and the next week fine-tuned on what had never been trained with it."""
    sha256 = [make_model(tmp_path, f"2026-W0{number}.1") for number in (1, 2, 3)]
    for number, made in enumerate(sha256, 1):
        name, base = f"2026-W0{number}.1", sha256[number - 2] if number > 1 else ""
        promote(tmp_path, tmp_path / "models" / name, expected_champion_sha256=base, verdict=verdict_for(name, made, base), cycle=name, who="a", why="b")
    forge, evaluate = SETTINGS.forge, SETTINGS.evaluate
    changed = {
        "seed": SETTINGS.model_copy(update={"seed": SETTINGS.seed + 1}),
        "forgers": SETTINGS.model_copy(update={"forge": forge.model_copy(update={"forgers": forge.forgers[:1]})}),
        "anchor": SETTINGS.model_copy(update={"evaluate": evaluate.model_copy(update={"anchor_promotions": 1})}),
        "fine-tune": with_lr(2),
    }[what]
    journal = open_with(tmp_path, {"good": True})
    cycle = read_cycle(tmp_path)
    if what == "fine-tune":
        write_cycle(tmp_path, replace(cycle, work="fine-tune", steps=0.25))
    plan = make_plan(journal.events(), changed)
    assert plan.resume and how_much(journal.events(), changed, plan, cycle.week).why == f"as {cycle.cycle} was opened"
    keep(tmp_path, changed)
    keep(tmp_path, changed)
    assert [event["fingerprint"] for event in journal.events() if event.kind == "candidate"] == [""]
    journal.append("cycle_closed", cycle=cycle.cycle, outcome="promoted", reason="", verdict_sha256="")
    set_batch_state(tmp_path, "good", "accepted", who="vigil", why="promoted")
    for settings in (changed, SETTINGS):
        plan = make_plan(journal.events(), settings)
        assert plan.reasons == ("a setting or a stage version changed",) and plan.regardless, "it was trained with neither"


def test_a_cycle_whose_settings_were_changed_back_before_it_ended_trained_with_those_it_was_opened_with(tmp_path: Path) -> None:
    journal = open_with(tmp_path, {"good": True})
    changed = SETTINGS.model_copy(update={"seed": SETTINGS.seed + 1})
    keep(tmp_path, changed)
    keep(tmp_path, SETTINGS)
    prints = [event["fingerprint"] for event in journal.events() if event.kind == "candidate"]
    assert prints == ["", cycles(journal.events())[-1].fingerprint] and prints[1] == make_plan(journal.events(), SETTINGS).fingerprint


def test_a_deferred_batch_stays_so_whatever_holds_a_later_cycle_until_a_person_has_to_decide(tmp_path: Path) -> None:
    journal = deferred_once(tmp_path, "cycle_held")
    most = SETTINGS.policy.deferrals
    for number in range(2, most + 2):
        assert batch_states(journal.events())["sparse"].state == "deferred", number
        cycle = Cycle(cycle=f"2026-W02.{number}", seed=1, batches=("sparse",), judged=("sparse",))
        journal.append("cycle_opened", **cycle.as_dict(), fingerprint="", scheduled=False, week=cycle.week)
        decision = Decision("held", "accuracy fail: AUC 0.88.", defer=False)
        journal.append("cycle_held", cycle=cycle.cycle, reason=decision.reason, defer=False)
        said = {settle_batches(tmp_path, SETTINGS, journal, cycle, decision) for _ in range(2)}  # safe to repeat
        waits = "" if number == most + 1 else " Deferred: judged again with what comes in next."
        assert said == {f"accuracy fail: AUC 0.88.{waits}"}, "said of what waits for a person, nobody would have looked"
        journal.append("cycle_closed", cycle=cycle.cycle, outcome="held", reason="", verdict_sha256="")
    held = batch_states(journal.events())["sparse"]
    assert (held.state, held.why) == ("held", f"{cycle.cycle} held: accuracy fail: AUC 0.88.")


def test_of_a_held_cycle_it_is_said_which_batch_is_judged_again(tmp_path: Path) -> None:
    journal = deferred_once(tmp_path, "cycle_held")
    open_with(tmp_path, {"bad": True})
    said = settle_batches(tmp_path, SETTINGS, journal, read_cycle(tmp_path), Decision("held", "accuracy fail: AUC 0.88."))
    states = batch_states(journal.events())
    assert (states["bad"].state, states["sparse"].state) == ("held", "deferred")
    assert said == "accuracy fail: AUC 0.88. Deferred: sparse, judged again with what comes in next."
    assert states["bad"].why == f"{read_cycle(tmp_path).cycle} held: accuracy fail: AUC 0.88."


def test_a_deferred_batch_stays_out_where_nothing_new_can_teach(tmp_path: Path) -> None:
    deferred_once(tmp_path)
    open_with(tmp_path, {"bad": False})
    assert read_cycle(tmp_path).judged == () and not read_cycle(tmp_path).trains
    assert batch_states(Journal(tmp_path).events())["sparse"].state == "deferred"


def test_each_cycle_begins_with_the_next_forger_and_one_that_has_not_arrived_waits() -> None:
    words = {"command": ["/bin/true"]}
    plugins = [{"name": "later", "arrived": "2026-12-01", **words}, {"name": "mine", **words}]
    settings = demo_settings({"forge": {"forgers": ["self_blend", "later", "mine"], "plugins": plugins}})
    before, on_the_day = date(2026, 11, 30), date(2026, 12, 1)
    assert [drawn_forgers(settings, number, before)[0] for number in range(3)] == ["self_blend", "mine", "self_blend"]
    assert drawn_forgers(settings, 1, on_the_day) == ("later", "mine", "self_blend")
    alone = demo_settings({"forge": {"forgers": ["later"], "plugins": plugins}})
    assert drawn_forgers(alone, 0, before) == ("later",) and not waiting_forgers(alone, before), "somebody has to"
    assert [waiting_forgers(settings, day) for day in (before, on_the_day)] == [("later",), ()]


def two_champions(root: Path) -> tuple[Cycle, Cycle]:
    """A third cycle, against the second of two champions; and the same one with the first as its anchor."""
    sha256: list[str] = []
    for name in ("2026-W01.1", "2026-W02.1"):
        base, made = sha256[-1] if sha256 else "", make_model(root, name)
        promote(root, root / "models" / name, expected_champion_sha256=base, verdict=verdict_for(name, made, base), cycle=name, who="vigil", why="passed")
        sha256.append(made)
    alone = Cycle(cycle="2026-W03.1", seed=1, batches=("b",), judged=("b",), base_model=sha256[1], base_cycle="2026-W02.1")
    return alone, replace(alone, anchor_model=sha256[0], anchor_cycle="2026-W01.1")


@pytest.mark.parametrize("name", ["2026-W01.1", "2026-W02.1"])
def test_nothing_is_judged_against_a_model_whose_card_was_changed_since_it_was_promoted(tmp_path: Path, name: str) -> None:
    """Its weights were asked for, its threshold was not: drift, worst slice and label noise were judged at one that nobody had shipped."""
    _, cycle = two_champions(tmp_path)
    path = tmp_path / "models" / name / "card.json"
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), "threshold": 0.05}))
    with pytest.raises(ModelFileError, match="the one that was judged"):
        place_models(tmp_path, Journal(tmp_path), cycle)
    assert not (tmp_path / "build" / "base").exists()
    path.write_text(before)
    place_models(tmp_path, Journal(tmp_path), cycle)
    laid = tmp_path / "build/base" / ("anchor" if name == cycle.anchor_cycle else "") / "card.json"
    laid.write_text(json.dumps({**json.loads(before), "threshold": 0.05}))
    place_models(tmp_path, Journal(tmp_path), cycle)
    assert laid.read_text() == before, "what lies there is looked at, too"


def test_champion_and_anchor_lie_where_the_stages_look_and_one_that_changed_is_laid_anew(tmp_path: Path) -> None:
    alone, both = two_champions(tmp_path)

    def laid(cycle: Cycle) -> dict[str, str]:
        place_models(tmp_path, Journal(tmp_path), cycle)
        return {path.parent.name: path.read_text() for path in sorted((tmp_path / "build/base").rglob("card.json"))}

    cards = {name: (tmp_path / "models" / name / "card.json").read_text() for name in ("2026-W01.1", "2026-W02.1")}
    for cycle, wanted in (
        (both, {"anchor": cards["2026-W01.1"], "base": cards["2026-W02.1"]}),
        (alone, {"base": cards["2026-W02.1"]}),
        (replace(alone, base_model="", base_cycle=""), {}),
    ):
        assert laid(cycle) == laid(cycle) == wanted


def test_a_cycle_that_was_forced_trains_on_what_is_accepted(tmp_path: Path) -> None:
    journal = open_with(tmp_path, {"good": True})
    journal.append("cycle_closed", cycle=cycles(journal.events())[0].cycle, outcome="promoted", reason="", verdict_sha256="")
    set_batch_state(tmp_path, "good", "accepted", who="vigil", why="promoted")
    cycle = open_new_cycle(tmp_path, journal, SETTINGS, make_plan(journal.events(), SETTINGS, force=True), Start("person", "a person asked"))
    assert cycle.trains and cycle.batches == ("good",) and not cycle.judged


def close(journal: Journal, outcome: str, trained: bool = True) -> None:
    """End the open cycle."""
    cycle = cycles(journal.events())[-1].cycle
    if trained:
        journal.append("candidate", cycle=cycle, model_sha256="a" * 64, path=f"models/{cycle}")
    journal.append("cycle_closed", cycle=cycle, outcome=outcome, reason="", verdict_sha256="")


def test_a_changed_setting_is_not_done_with_a_cycle_that_trained_nothing(tmp_path: Path) -> None:
    """The batch beside it was refused, the cycle closed with the new settings' fingerprint, and nobody ever trained with them."""
    journal = open_with(tmp_path, {"good": True})
    set_batch_state(tmp_path, "good", "accepted", who="vigil", why="promoted")
    close(journal, "promoted")
    changed = SETTINGS.model_copy(update={"seed": SETTINGS.seed + 1})
    assert "a setting or a stage version changed" in make_plan(journal.events(), changed).reasons
    journal.append("batch_added", batch="bad", source="folder", samples=4, quarantined=0)
    write_json(tmp_path / "reports" / "validate" / "bad.json", {"batch": "bad", "success": False, "expectations": []})
    cycle = open_new_cycle(tmp_path, journal, changed, make_plan(journal.events(), changed), Start("person", "a person asked"))
    assert cycle.refused == ("bad",) and not cycle.trains
    close(journal, "held", trained=False)
    assert make_plan(journal.events(), changed).reasons == ("a setting or a stage version changed",)
    cycle = open_new_cycle(tmp_path, journal, changed, make_plan(journal.events(), changed), Start("person", "a person asked"))
    assert cycle.trains and cycle.batches == ("good",)
    close(journal, "held")
    assert not make_plan(journal.events(), changed).needed


def test_what_a_person_accepted_is_tried_once_and_then_beside_what_is_new(tmp_path: Path) -> None:
    """It stayed a reason for ever: each question, and each timer, trained the same again."""
    journal = open_with(tmp_path, {"good": True})
    set_batch_state(tmp_path, "good", "accepted", who="vigil", why="promoted")
    close(journal, "promoted")
    open_with(tmp_path, {"odd": True})
    close(journal, "held")
    set_batch_state(tmp_path, "odd", "held", who="vigil", why="accuracy")
    set_batch_state(tmp_path, "odd", "accepted", who="ana", why="they are right")
    plan = make_plan(journal.events(), SETTINGS)
    assert plan.reasons == ("accepted by a person since: odd",) and plan.vouched == ("odd",)
    open_new_cycle(tmp_path, journal, SETTINGS, plan, Start("person", "a person asked"))
    close(journal, "held")
    assert not make_plan(journal.events(), SETTINGS).needed
    override(tmp_path, "accuracy", who="ana", why="good enough", until=datetime.now(UTC) + timedelta(days=7))
    assert make_plan(journal.events(), SETTINGS).judged == ("odd",), "a gate that is overridden since lets it be tried again"
    close_by = open_with(tmp_path, {"next": True})
    assert read_cycle(tmp_path).judged == ("next", "odd") and read_cycle(tmp_path).vouched == ("odd",)
    assert close_by.events()[-1]["why"][-2].startswith("judged again beside it: odd")


def test_after_the_only_learned_batch_was_dropped_what_comes_next_is_judged_whole(tmp_path: Path) -> None:
    """No row of the holdout was known then, so that every gate was undecided for good, and there was no way out."""
    journal = open_with(tmp_path, {"wrong": True})
    journal.append("promotion", cycle=cycles(journal.events())[0].cycle, model_sha256="a" * 64, path="models/x", previous_sha256="", who="vigil", why="")
    set_batch_state(tmp_path, "wrong", "accepted", who="vigil", why="promoted")
    close(journal, "promoted")
    set_batch_state(tmp_path, "wrong", "dropped", who="ana", why="its labels are wrong")
    open_with(tmp_path, {"right": True})
    cycle = read_cycle(tmp_path)
    assert cycle.base_model and cycle.batches == ("right",) and cycle.judges_all
