"""What starts a cycle and how much it does: rules by property over made-up journals, and stories through the front door."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flows.opening
from flows.cycle import _nothing_new
from flows.opening import open_new_cycle
from flows.plan import Plan, make_plan, settings_fingerprint
from flows.policy import FINE_TUNE, FULL, Start, how_much, what_starts
from flows.taking_in import Taken
from pipelines.pretrain import shortened
from tests.flows.test_weeks import Clock
from tests.system.world import change_settings, vigil, vigil_json
from tests.workspace.worlds import make_model
from vigil.api import Workspace
from vigil.cycles import describe_plan, run_cycle, would_run
from vigil.deciding import set_batch_state
from vigil.opening import open_workspace
from vigil.reading import render_status, status_of
from workspace.cycle import Cycle, iso_week, read_cycle, write_cycle
from workspace.errors import DataError, SettingsError, WorkspaceError
from workspace.files import read_json, write_json
from workspace.journal import NO_HASH, Event, Journal
from workspace.settings import CyclePolicy, ScheduleSettings, Settings, load_settings

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
START = datetime(2026, 1, 5, 12, tzinfo=UTC)
PRINT = settings_fingerprint(SETTINGS)
Past = Sequence[tuple[int, str, str, bool, str]]  # days since the one before, work, outcome, whether it had drifted, fingerprint
pasts = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from([FULL, FINE_TUNE]), st.sampled_from(["promoted", "held"]), st.booleans(), st.sampled_from([PRINT, "other"])),
    max_size=8,
)


def with_policy(**changes: Any) -> Settings:
    return SETTINGS.model_copy(update={"policy": CyclePolicy(**changes)})


def journal(past: Past, scheduled: bool = False) -> tuple[list[Event], datetime]:
    """The events of these cycles, and the time after the last."""
    events, now, leading = [], START, ""
    for number, (days, work, outcome, drifted, fingerprint) in enumerate(past):
        now += timedelta(days=days)
        cycle = f"2026-W{number + 1:02d}.1"
        opened = {"cycle": cycle, "judged": ["b"], "base_model": "", "fingerprint": fingerprint, "scheduled": scheduled, "week": iso_week(now)}
        opened |= {"work": work, "base_cycle": leading}
        leading = cycle if outcome == "promoted" else leading
        closed = {"cycle": cycle, "outcome": outcome, "reason": "", "verdict_sha256": "", "drifted": drifted}
        for kind, fields in (("cycle_opened", opened), ("cycle_closed", closed)):
            events.append(Event(len(events) + 1, now.isoformat(), kind, NO_HASH, NO_HASH, fields))
    return events, now


def plan_of(base: bool = True, **changes: Any) -> Plan:
    return Plan(
        **{"judged": ("new",), "base_model": "a" * 64 if base else "", "base_cycle": "2026-W01.1", "fingerprint": PRINT, "reasons": ("1 new",), **changes}
    )


@given(pasts, st.integers(0, 60), st.booleans(), st.booleans())
def test_by_default_every_cycle_is_full(past: Past, days: int, base: bool, regardless: bool) -> None:
    events, now = journal(past)
    work = how_much(events, SETTINGS, plan_of(base, regardless=regardless), iso_week(now + timedelta(days=days)))
    assert (work.kind, work.steps) == (FULL, 1.0)


@given(pasts, st.integers(0, 60), st.integers(0, 6), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3), st.sampled_from([PRINT, "other"]))
def test_a_fine_tune_needs_a_champion_of_ours_that_is_young_enough_and_the_same_settings(
    past: Past, days: int, weeks: int, base: bool, regardless: bool, imported: bool, back: int, fingerprint: str
) -> None:
    """`back`: so many promotions before the last the champion is, since somebody rolled back to it. What was promoted after it says nothing of it."""
    events, now = journal(past)
    now += timedelta(days=days)
    promoted = [number for number, (_, _, outcome, _, _) in enumerate(past) if outcome == "promoted"]
    line = promoted[: max(1, len(promoted) - back)]
    base_cycle = f"2026-W{line[-1] + 1:02d}.1" if line and not imported else "imported"
    work = how_much(
        events,
        with_policy(work="auto", full_every_weeks=weeks),
        plan_of(base, regardless=regardless, base_cycle=base_cycle, fingerprint=fingerprint),
        iso_week(now),
    )
    full = [number for number in line if past[number][1] == FULL]
    young = bool(full) and (not weeks or _monday(now) - _monday(datetime.fromisoformat(events[2 * full[-1]].time)) < timedelta(weeks=weeks))
    trained_so = bool(line) and past[line[-1]][4] == fingerprint
    allowed = base and base_cycle != "imported" and young and not regardless and trained_so
    assert (work.kind == FINE_TUNE) == allowed and work.steps == (0.25 if allowed else 1.0) and work.why


def _monday(moment: datetime) -> date:
    return moment.date() - timedelta(days=moment.weekday())


def test_every_four_weeks_is_every_four_weeks_whenever_in_its_week_a_cycle_was_opened(tmp_path: Path) -> None:
    """By the moments of opening it was four or five: over the change to summer time, and where the first ingest took longer than a later one."""
    root, berlin = tmp_path, ZoneInfo("Europe/Berlin")
    policy = {"policy": CyclePolicy(work="auto", full_every_weeks=4), "schedule": ScheduleSettings(timezone="Europe/Berlin", weekday="sunday", hour=23)}
    settings, log = SETTINGS.model_copy(update=policy), Journal(root)
    works, leading = [], ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.opening, "datetime", Clock)
        for number in range(10):  # the first is opened after midnight, in the week after that which was due
            Clock.at = (datetime(2026, 3, 2, 0, 9) + timedelta(weeks=number, minutes=-15 if number else 0)).replace(tzinfo=berlin)
            plan = plan_of(base=bool(leading), base_cycle=leading, judged=())
            start = what_starts(log.events(), settings, Clock.at - timedelta(minutes=30), scheduled=True, reviews=0)
            cycle = open_new_cycle(root, log, settings, plan, start)
            works.append(cycle.work)
            leading = cycle.cycle
            log.append("candidate", cycle=leading, model_sha256="a" * 64, path="x", fingerprint=PRINT)
            log.append("cycle_closed", cycle=leading, outcome="promoted", reason="", verdict_sha256="")
    assert [number for number, work in enumerate(works) if work == FULL] == [0, 4, 8], works


@given(pasts, st.integers(0, 50), st.integers(0, 10), st.booleans(), st.integers(0, 20))
def test_between_two_weeks_only_what_the_settings_name_starts_a_cycle(past: Past, reviews: int, least: int, drift: bool, hours: int) -> None:
    events, now = journal(past)
    now += timedelta(hours=hours)
    settings = with_policy(early_reviews=least, early_drift=drift)
    week = what_starts(events, settings, now, scheduled=True, reviews=reviews)
    assert week.by == "week" and week.week, "no scheduled cycle was run: the week comes first"
    skipped = [*events, Event(99, now.isoformat(), "week_skipped", NO_HASH, NO_HASH, {"week": week.week, "why": "nothing new"})]
    start = what_starts(skipped, settings, now, scheduled=True, reviews=reviews)
    wanted = "drift" if drift and past and past[-1][3] else "reviews" if 0 < least <= reviews else ""
    assert start.by == wanted and not start.week and bool(start) == bool(wanted)
    assert not what_starts(skipped, SETTINGS, now, scheduled=True, reviews=reviews), "nothing of the kind by default"
    assert what_starts(skipped, settings, now, scheduled=False, reviews=0).by == "person"


@given(st.lists(st.integers(-24 * 20, 24 * 40), min_size=1, max_size=30))
def test_a_timer_at_any_times_starts_a_week_once_and_never_an_older_one(hours: list[int]) -> None:
    events: list[Event] = []
    now, run = datetime(2026, 3, 20, tzinfo=UTC), []
    settings = SETTINGS.model_copy(
        update={"schedule": SETTINGS.schedule.model_copy(update={"timezone": "Europe/Berlin", "weekday": "sunday", "hour": 2, "minute": 30})}
    )
    for step in hours:  # the clock jumps, also back, and over the night in which the hour of the slot does not exist
        now += timedelta(hours=step)
        start = what_starts(events, settings, now, scheduled=True, reviews=0)
        if start:
            run.append(start.week)
            fields = {"cycle": f"{start.week}.1", "judged": [], "base_model": "", "fingerprint": "", "scheduled": True, "week": start.week}
            events += [
                Event(1, now.isoformat(), "cycle_opened", NO_HASH, NO_HASH, fields),
                Event(2, now.isoformat(), "cycle_closed", NO_HASH, NO_HASH, {**fields, "outcome": "held", "reason": "", "verdict_sha256": ""}),
            ]
    assert run == sorted(set(run)) and run


@pytest.mark.parametrize("by", ["week", "person", "drift"])
def test_drift_starts_one_cycle_and_not_one_after_the_other(by: str) -> None:
    """What had drifted is deferred and comes along: it would drift again, at each file that comes in."""
    events, now = journal([(0, FULL, "held", True, PRINT)])
    events[0] = Event(1, events[0].time, "cycle_opened", NO_HASH, NO_HASH, {**events[0].fields, "started_by": by})
    week = what_starts(events, SETTINGS, now, scheduled=True, reviews=0).week
    events.append(Event(3, now.isoformat(), "week_skipped", NO_HASH, NO_HASH, {"week": week, "why": "nothing new"}))
    start = what_starts(events, with_policy(early_drift=True), now, scheduled=True, reviews=0)
    assert start.by == ("" if by == "drift" else "drift")


def test_an_unfinished_cycle_comes_before_everything() -> None:
    events, now = journal([(0, FULL, "held", False, PRINT)])
    assert what_starts(events[:1], SETTINGS, now, scheduled=True, reviews=0).by == "unfinished"


def test_of_a_cycle_that_is_decided_nothing_is_trained_any_more_and_it_is_said(tmp_path: Path) -> None:
    """The status promised a full training where only the closing was left, such as after a drop."""
    open_workspace(tmp_path / "w", "demo")
    settings, journal = load_settings(tmp_path / "w" / "params.yaml"), Journal(tmp_path / "w")
    journal.append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    journal.append("cycle_opened", cycle="2026-W01.1", judged=["b1"], base_model="", fingerprint="", scheduled=False, week="")
    assert "vigil retrain (full training): cycle 2026-W01.1 was begun" in render_status(status_of(tmp_path / "w", settings))
    set_batch_state(tmp_path / "w", "b1", "dropped", "ana", "withdrawn")
    page = render_status(status_of(tmp_path / "w", settings))
    assert "vigil retrain (no training): cycle 2026-W01.1 is decided and not closed" in page
    told = describe_plan(would_run(tmp_path / "w", settings).as_dict())
    assert "no training: 2026-W01.1 is held: ana took b1 out of it: withdrawn" in told


def test_more_media_are_asked_for_what_they_bring_back_and_for_nothing_else(tmp_path: Path) -> None:
    """`bring more of their kind` was said of a held batch, which no media bring back: it waits for a person."""
    open_workspace(tmp_path / "w", "demo")
    settings, journal = load_settings(tmp_path / "w" / "params.yaml"), Journal(tmp_path / "w")

    def waiting(state: str) -> list[str]:
        batch = f"b{len(journal.events())}"
        journal.append("batch_added", batch=batch, source="folder", samples=4, quarantined=0)
        set_batch_state(tmp_path / "w", batch, state, "vigil", "2026-W01.1 held: drift")
        return [line.strip() for line in render_status(status_of(tmp_path / "w", settings)).splitlines() if line.startswith("          ")]

    held = "1 held: in no cycle until a person says so (vigil batches accept, or drop); `vigil batches` says why"
    assert waiting("held") == [held]
    assert waiting("deferred") == [
        held,
        "1 deferred: judged again beside the next media that come in (at once: vigil retrain --force); `vigil batches` says why",
    ]


@given(st.integers(1, 500), st.floats(0.01, 1))
def test_a_fine_tune_takes_a_part_of_the_steps_and_a_full_cycle_the_very_same_settings(steps: int, part: float) -> None:
    phase = SETTINGS.pretrain.model_copy(update={"steps": steps, "validate_every": min(steps, 50)})
    assert shortened(phase, 1.0) is phase
    short = shortened(phase, part)
    assert 1 <= short.steps <= steps and short.validate_every <= short.steps and abs(short.steps - steps * part) <= 1
    assert {**short.model_dump(), "steps": 0, "validate_every": 0} == {**phase.model_dump(), "steps": 0, "validate_every": 0}


@pytest.mark.parametrize(("work", "steps"), [("full", 0.5), ("fine-tune", 0), ("fine-tune", 1.5), ("nap", 1.0), ("full", True)])
def test_a_cycle_that_contradicts_itself_cannot_be(work: str, steps: Any) -> None:
    with pytest.raises(WorkspaceError, match="neither a full cycle nor a fine-tune"):
        Cycle(cycle="2026-W47.1", seed=1, batches=(), judged=(), work=work, steps=steps)


def test_a_cycles_work_and_reasons_survive_its_file(tmp_path: Path) -> None:
    cycle = Cycle(cycle="2026-W47.1", seed=1, batches=("b",), judged=("b",), work="fine-tune", steps=0.25, why=("the cycle is due", "1 new batch"))
    write_cycle(tmp_path, cycle)
    assert read_cycle(tmp_path) == cycle


def test_a_week_is_skipped_only_once_there_is_something_to_miss(tmp_path: Path) -> None:
    """A timer that was enabled before the first media came used their week up: the first cycle ran up to seven days later."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    log, settings = Journal(root), load_settings(root / "params.yaml")
    said = run_cycle(root, settings, scheduled=True)
    assert "nothing has come in yet" in said["reason"] and [event.kind for event in log.events()] == []
    week = Start("week", "its week is due", "2026-W01")
    assert _nothing_new(log, week, Taken()).outcome == "nothing new" and not log.events()
    log.append("batch_added", batch="b1", source="s", samples=3, quarantined=0)
    with pytest.raises(DataError, match="press: no such folder"):
        _nothing_new(log, week, Taken(problems=("press: no such folder",)))
    assert [event.kind for event in log.events()] == ["batch_added"], "a source that cannot be read uses no week up"
    _nothing_new(log, week, Taken())
    assert [event.kind for event in log.events()] == ["batch_added", "week_skipped"]


def test_a_dry_run_and_the_status_say_how_much_would_run_and_why(tmp_path: Path) -> None:
    root = tmp_path / "w"
    open_workspace(root, "demo")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("work: full", "work: auto"))
    log, settings = Journal(root), load_settings(params)
    assert "Nothing new" in vigil("retrain", "--dry-run", "-w", root).stdout
    log.append("batch_added", batch="b1", source="s", samples=3, quarantined=0)
    said = vigil_json("retrain", "--dry-run", "-w", root)
    assert (said["work"], said["work_why"]) == ("full", "there is no champion to go on from") and said["due"]
    log.append(
        "cycle_opened",
        cycle="2026-W01.1",
        judged=["b1"],
        base_model="",
        fingerprint=settings_fingerprint(settings),
        scheduled=True,
        week=said["due"],
        work="full",
    )
    log.append("promotion", cycle="2026-W01.1", model_sha256="a" * 64, path="models/2026-W01.1", previous_sha256="", who="vigil", why="passed")
    log.append("batch_state", batch="b1", state="accepted", who="vigil", why="promoted")
    log.append("cycle_closed", cycle="2026-W01.1", outcome="promoted", reason="passed", verdict_sha256="", drifted=False)
    log.append("batch_added", batch="b2", source="s", samples=3, quarantined=0)
    text = vigil("retrain", "--dry-run", "-w", root).stdout
    assert "fine-tune: the champion's last full training is 2026-W01.1" in text and "no week is due" in text and "1 new batch: b2" in text
    params.write_text(params.read_text().replace("early_drift: false", "early_drift: true"))
    log.append(
        "cycle_opened", cycle="2026-W01.2", judged=["b2"], base_model="", fingerprint=settings_fingerprint(settings), scheduled=False, week="", work="full"
    )
    log.append("batch_state", batch="b2", state="held", who="vigil", why="drift")
    log.append("cycle_closed", cycle="2026-W01.2", outcome="held", reason="drift", verdict_sha256="", drifted=True)
    log.append("batch_added", batch="b3", source="s", samples=3, quarantined=0)
    assert "a timer would run it: what came in with 2026-W01.2 had drifted" in vigil("retrain", "--dry-run", "-w", root).stdout
    assert "vigil retrain (fine-tune): 1 new batch" in vigil("status", "-w", root).stdout
    assert not make_plan(log.events(), settings).work, "how much is known only when it would run"


def test_a_changed_gate_judges_again_what_was_deferred(tmp_path: Path) -> None:
    """Whoever changed the gates because their first cycle decided nothing was told that no setting is new; of what was refused that stays so."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    log, params = Journal(root), root / "params.yaml"
    log.append("batch_added", batch="b1", source="s", samples=3, quarantined=0)
    fingerprint = settings_fingerprint(load_settings(params))
    log.append("cycle_opened", cycle="2026-W01.1", judged=["b1"], base_model="", fingerprint=fingerprint, scheduled=False, week="")
    log.append("candidate", cycle="2026-W01.1", model_sha256="1" * 64, path="models/2026-W01.1", fingerprint=fingerprint)
    log.append("batch_state", batch="b1", state="deferred", who="vigil", why="nothing could be decided")
    log.append("cycle_closed", cycle="2026-W01.1", outcome="held", reason="nothing could be decided", verdict_sha256="", drifted=False)
    subprocess.run(["git", "tag", "vigil/2026-W01.1"], cwd=root, check=True)  # all of it is written
    assert vigil("retrain", "-w", root).stdout.startswith("Nothing new: no new file, batch, setting or stage version; --force")
    change_settings(root, {"gates": {"min_people": 4}})
    plan = would_run(root, load_settings(params))
    assert plan.reasons == ("a setting or a stage version changed", "judged again beside it: b1") and plan.judged == ("b1",)
    log.append("batch_state", batch="b1", state="held", who="ada", why="not ours")
    assert not would_run(root, load_settings(params)).needed
    told = vigil("retrain", "-w", root).stdout
    assert told.startswith("Nothing new: no new file or batch that the changed settings could judge; held, and in no cycle until a person says so")


def test_another_precision_is_a_change_and_another_address_is_none(tmp_path: Path) -> None:
    """Who switched serve.int8 was told that nothing is new, and the model of before went on serving."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    log, params = Journal(root), root / "params.yaml"

    def promoted_by_these_settings(batch: str) -> None:
        cycle, fingerprint = f"2026-W01.{batch[1]}", settings_fingerprint(load_settings(params))
        log.append("batch_added", batch=batch, source="s", samples=3, quarantined=0)
        log.append("cycle_opened", cycle=cycle, judged=[batch], base_model="", fingerprint=fingerprint, scheduled=False, week="")
        log.append("candidate", cycle=cycle, model_sha256=batch[1] * 64, path=f"models/{cycle}", fingerprint=fingerprint)
        log.append("batch_state", batch=batch, state="accepted", who="vigil", why="promoted")
        log.append("cycle_closed", cycle=cycle, outcome="promoted", reason="passed", verdict_sha256="", drifted=False)

    promoted_by_these_settings("b1")
    change_settings(root, {"serve": {"port": 8123, "threads": 3}})
    assert would_run(root, load_settings(params)).reasons == ()
    for number, int8 in enumerate((True, False), start=2):
        change_settings(root, {"serve": {"int8": int8}})
        assert would_run(root, load_settings(params)).reasons == ("a setting or a stage version changed",)
        promoted_by_these_settings(f"b{number}")
        assert would_run(root, load_settings(params)).reasons == ()


def test_a_dry_run_ends_as_the_run_would_where_its_settings_are_refused(tmp_path: Path) -> None:
    """It promised a full training by settings that `vigil retrain` refuses at once, so that the timer was the first to say so."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    log, params = Journal(root), root / "params.yaml"
    as_it_was, settings = params.read_text(), load_settings(params)
    sha256, card = make_model(root, "2026-W01.1"), root / "models/2026-W01.1/card.json"
    looks = {"faces": settings.faces.model_dump(mode="json"), "settings": {"split": settings.split.model_dump(mode="json")}}
    write_json(card, read_json(card) | looks)
    log.append("promotion", cycle="2026-W01.1", model_sha256=sha256, path="models/2026-W01.1", previous_sha256="", who="vigil", why="passed")

    def asked() -> tuple[int, str]:
        done = vigil("retrain", "--dry-run", "-w", root, check=False)
        return done.returncode, done.stdout + done.stderr

    larger = {"faces": {"size_px": 96}}
    change_settings(root, larger)
    code, said = asked()
    assert code == 0 and said.startswith("Nothing new"), "where no cycle would begin, none is refused"
    log.append("batch_added", batch="b1", source="s", samples=3, quarantined=0)
    for blocks, says in (
        (larger, "No cycle was opened: faces would be cut another way than the champion looks at them.\n  Why:  faces.size_px is 96, the champion's 64\n"),
        ({"split": {"train": 0.5, "validation": 0.25}}, "No cycle was opened: people would be split another way"),
        ({"model": {"backbone": "resnext_big"}}, "Unknown backbone 'resnext_big'."),
    ):
        params.write_text(as_it_was)
        change_settings(root, blocks)
        code, said = asked()
        assert code == 1 and says in said and "Would run" not in said
        with pytest.raises(SettingsError):
            Workspace(root).retrain(dry_run=True)
    params.write_text(as_it_was)
    assert asked()[0] == 0
    card.write_text("{")
    code, said = asked()
    assert code == 1 and "card.json cannot be read" in said, "such a champion is none to train against either"


def test_a_source_that_cannot_be_read_is_told_and_is_never_called_nothing_new(tmp_path: Path) -> None:
    """A timer whose only source was gone ended well, hour after hour, with a line that nobody read."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    change_settings(root, {"ingest": {"sources": [{"name": "press", "path": str(tmp_path / "gone")}]}})
    settings = load_settings(root / "params.yaml")
    with pytest.raises(DataError, match=r"not every source could be read(.|\n)*press: .*gone(.|\n)*a week that is due stays due"):
        run_cycle(root, settings)
    plan = would_run(root, settings)
    assert len(plan.unread) == 1 and "cannot be read: press: " in describe_plan(plan.as_dict())
    assert "a source cannot be read: press: " in render_status(status_of(root, settings))
    (tmp_path / "gone" / "real").mkdir(parents=True)
    assert run_cycle(root, settings)["outcome"] == "nothing new"
