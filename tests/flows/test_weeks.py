"""The control loop over simulated weeks: kills between any two writes, clocks that jump, two schedulers, people who decide.

Everything that decides is real: plan, cycle, journal, batch states, verdict to outcome, promotion, closing. Only work is played: a stage
writes what it would have written, at once. A death is an exception at the n-th write that no handler of the loop may swallow.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import flows.closing
import flows.cycle
import flows.opening
import pipelines.decay
import workspace.repository
from flows.plan import batches_trained_on
from flows.taking_in import Taken
from tests.size import drill
from tests.workspace.worlds import verdict_for
from vigil import deciding
from workspace.batches import set_batch_state
from workspace.cycle import due_week, iso_week, read_cycle
from workspace.errors import WorkspaceError
from workspace.files import sha256_file, write_json
from workspace.journal import Journal
from workspace.lease import lease
from workspace.modelfiles import verify_model_files
from workspace.promotion import rollback
from workspace.settings import Settings, load_settings
from workspace.state import batch_states, champion, cycles, open_cycle, promoted

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
GOOD, BAD, REFUSED, SPARSE = "good", "bad", "refused", "sparse"  # sparse: of a new kind, too little of it by itself


class Killed(BaseException):
    """The process dies here."""


class Clock(datetime):
    """The time of the simulation, as the loop asks for it."""

    at = datetime(2026, 3, 2, 12, tzinfo=UTC)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return cls.at


class Loop:
    """One workspace and the real loop over it, whose stages are played."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.left = root, None  # writes until death; None: nobody dies
        self.waiting: list[tuple[str, str]] = []
        self.quality: dict[str, str] = {}
        self.scheduled: Counter[str] = Counter()
        self.deaths = 0
        append, append_if = Journal.append, Journal.append_if

        def dying(write: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*words: Any, **named: Any) -> Any:
                self.tick()
                made = write(*words, **named)
                self.tick()
                return made

            return wrapped

        patch.setattr(Journal, "append", dying(append))
        patch.setattr(Journal, "append_if", dying(append_if))
        patch.setattr(flows.opening, "write_cycle", dying(flows.opening.write_cycle))
        patch.setattr(flows.cycle, "datetime", Clock)
        patch.setattr(flows.opening, "datetime", Clock)
        patch.setattr(flows.cycle, "take_in", self.take_in)
        patch.setattr(flows.cycle, "run_stage", self)
        patch.setattr(flows.cycle, "publish", lambda *_: self.tick())
        patch.setattr(flows.cycle, "probe", lambda *_: type("Passed", (), {"passed": True, "reason": "ready"})())
        patch.setattr(flows.cycle, "finish_commit", lambda _: self.tick())
        patch.setattr(workspace.repository, "dvc_add", lambda *_: self.tick())
        patch.setattr(workspace.repository, "push", lambda _: self.tick())
        patch.setattr(workspace.repository, "set_remote", lambda *_: self.tick())
        patch.setattr(pipelines.decay, "record", lambda *_: self.tick())

    left: int | None

    def tick(self) -> None:
        """One more write; the last one for this process, perhaps."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                self.deaths += 1
                raise Killed

    def take_in(self, root: Path, settings: Settings, sources: Any) -> Taken:
        """Ingest: what waits becomes batches. A death between two leaves the rest waiting."""
        while self.waiting:
            batch, quality = self.waiting[0]
            if batch not in batch_states(Journal(root).events()):
                self.quality[batch] = quality
                (root / "data" / "raw" / batch).mkdir(parents=True, exist_ok=True)
                Journal(root).append("batch_added", batch=batch, source="folder", samples=4, quarantined=0)
            self.waiting.pop(0)
        return Taken()

    def with_options(self, **_: Any) -> Callable[..., None]:
        """In place of the Prefect task."""
        return self.stage

    def stage(self, root: Path, name: str, anew: Sequence[str]) -> None:
        """What a stage leaves behind."""
        self.tick()
        if name == "validate":
            for batch, quality in self.quality.items():
                row = {"name": "media decode", "success": quality != REFUSED, "observed": 0, "limit": 1}
                write_json(root / "reports/validate" / f"{batch}.json", {"batch": batch, "success": quality != REFUSED, "expectations": [row]})
        elif name == "train":
            cycle = read_cycle(root)
            content = f"{cycle.cycle} on {cycle.batches} over {cycle.base_model}".encode()
            hashes = {}
            for file, key in (("model.safetensors", "model_sha256"), ("model.onnx", "onnx_sha256")):
                (root / "build/model").mkdir(parents=True, exist_ok=True)
                (root / "build/model" / file).write_bytes(content + file.encode())
                hashes[key] = hashlib.sha256(content + file.encode()).hexdigest()
            write_json(root / "build/model/card.json", {**hashes, "cycle": cycle.cycle, "generators_seen": []})
        elif name == "evaluate":
            write_json(root / "reports/evaluation.json", {})
        elif name == "gate":
            cycle = read_cycle(root)
            sha256 = json.loads((root / "build/model/card.json").read_text())["model_sha256"]
            kinds = [self.quality[batch] for batch in cycle.judged]
            page = verdict_for(cycle.cycle, sha256, cycle.base_model, card_sha256=sha256_file(root / "build/model/card.json"))
            against = [{"gate": "accuracy", "verdict": "fail", "reason": "bad labels"}] if BAD in kinds or REFUSED in kinds else []
            sparse = kinds.count(SPARSE) == 1
            if sparse:
                against.append({"gate": "drift", "verdict": "fail", "reason": "too little of it"})
            if against:
                page |= {"verdict": "fail", "results": against}
            write_json(root / "reports/drift/drift.json", {"cycle": cycle.cycle, "not_covered": ["fake by new"] if sparse else []})
            write_json(root / "reports/verdict.json", page)
        self.tick()

    def run(self, scheduled: bool, die_at: int | None) -> str:
        """`vigil retrain`, or `--scheduled`, as the flow runs it; how it ended."""
        if scheduled and flows.cycle.make_plan(Journal(self.root).events(), SETTINGS).resume == "" and self.due() is None:
            return "not due"
        self.left = die_at
        try:
            with lease(self.root, "retrain"):
                return flows.cycle._run(self.root, SETTINGS, scheduled, False, ()).outcome
        except Killed:
            return "killed"
        finally:
            self.left = None

    def due(self) -> str | None:
        """The week that is due now."""
        return due_week(Journal(self.root).events(), SETTINGS.schedule, Clock.at)


class Weeks(RuleBasedStateMachine):
    """Any order of weeks, deaths, decisions and jumps of the clock."""

    folder: Path
    total: Counter[str]

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        Weeks.total["worlds"] += 1
        self.root = Weeks.folder / str(Weeks.total["worlds"])
        self.root.mkdir()
        Clock.at = datetime(2026, 3, 2, 12, tzinfo=UTC)
        self.loop, self.batches, self.lines = Loop(self.root, self.patch), 0, []

    @rule(quality=st.sampled_from([GOOD, GOOD, BAD, REFUSED, SPARSE]))
    def media_come_in(self, quality: str) -> None:
        self.batches += 1
        self.loop.waiting.append((f"b{self.batches:03d}", quality))

    @rule(hours=st.integers(1, 24 * 21) | st.just(24 * 7))
    def time_passes(self, hours: int) -> None:
        Clock.at += timedelta(hours=hours)

    @rule(hours=st.integers(1, 24 * 10))
    def the_clock_is_set_back(self, hours: int) -> None:
        Clock.at -= timedelta(hours=hours)

    @rule(weeks=st.lists(st.tuples(st.sampled_from([GOOD, GOOD, SPARSE, SPARSE, BAD, REFUSED]), st.none() | st.integers(0, 60)), min_size=2, max_size=6))
    def weeks_go_by(self, weeks: list[tuple[str, int | None]]) -> None:
        for quality, die_at in weeks:
            self.media_come_in(quality)
            self.time_passes(24 * 7)
            Weeks.total["weeks"] += 1
            Weeks.total[self.loop.run(True, die_at)] += 1

    @rule(die_at=st.none() | st.integers(0, 60))
    def a_scheduler_starts(self, die_at: int | None) -> None:
        Weeks.total[self.loop.run(True, die_at)] += 1

    @rule()
    def two_schedulers_start(self) -> None:
        before = sum(one.scheduled for one in cycles(self.events()))
        for _ in range(2):
            Weeks.total[self.loop.run(True, None)] += 1
        assert sum(one.scheduled for one in cycles(self.events())) <= before + 1, "the second scheduler opened another cycle"

    @rule(die_at=st.none() | st.integers(0, 60))
    def a_person_starts(self, die_at: int | None) -> None:
        Weeks.total[self.loop.run(False, die_at)] += 1

    @rule(at=st.integers(0, 50), state=st.sampled_from(["accepted", "dropped", "held"]))
    def a_person_decides_about_a_batch(self, at: int, state: str) -> None:
        states = batch_states(self.events())
        running = open_cycle(self.events())
        held = [name for name, one in states.items() if one.state in ("held", "deferred", "accepted") and not (running and name in running.judged)]
        if held:
            try:
                set_batch_state(self.root, held[at % len(held)], state, who="ana", why="looked at each")
            except WorkspaceError as problem:
                assert "cannot become" in str(problem)

    @precondition(lambda self: open_cycle(self.events()) is not None)
    @rule(at=st.integers(0, 50), state=st.sampled_from(["dropped", "held"]))
    def a_person_takes_a_batch_out_of_a_running_cycle(self, at: int, state: str) -> None:
        learned = cycles(self.events())[-1].batches
        try:
            Weeks.total["taken out"] += bool(learned) and "is held" in deciding.set_batch_state(
                self.root, learned[at % len(learned)], state, "ana", "withdrawn"
            )
        except WorkspaceError as problem:
            assert "cannot become" in str(problem) or "not closed yet" in str(problem)

    @precondition(lambda self: len(promoted(self.events())) > 1)
    @rule(data=st.data())
    def a_person_rolls_back(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(["previous", *promoted(self.events())]))
        try:
            rollback(self.root, target, who="ana", why="false alarms")
        except WorkspaceError as problem:
            assert "no model before" in str(problem)

    @rule(torn=st.binary(min_size=1, max_size=40).map(lambda line: line.replace(b"\n", b"")))
    def a_power_cut_tears_a_line(self, torn: bytes) -> None:
        with open(self.root / "journal.jsonl", "ab") as handle:
            handle.write(b'{"seq": 1' + torn)

    def events(self) -> Any:
        return Journal(self.root).events()

    @invariant()
    def the_journal_only_grows_and_its_chain_holds(self) -> None:
        Journal(self.root).verify()
        lines = [event.hash for event in self.events()]
        assert lines[: len(self.lines)] == self.lines, "what was journalled has changed"
        self.lines = lines

    @invariant()
    def no_cycle_promotes_twice_and_none_that_failed(self) -> None:
        promotions = [event["cycle"] for event in self.events() if event.kind == "promotion"]
        assert len(promotions) == len(set(promotions))
        for cycle in cycles(self.events()):
            bad = [batch for batch in cycle.judged if self.loop.quality[batch] in (BAD, REFUSED)]
            assert not (bad and cycle.cycle in promotions), f"{cycle.cycle} was promoted with {bad}"
            assert not cycle.closed or (cycle.outcome == "promoted") == (cycle.cycle in promotions)

    @invariant()
    def what_is_deferred_comes_along_with_what_is_new_and_makes_no_cycle_by_itself(self) -> None:
        states: dict[str, str] = {}
        for event in self.events():
            if event.kind == "batch_state":
                states[event["batch"]] = event["state"]
            elif event.kind == "cycle_opened" and event["judged"]:
                deferred = {batch for batch, state in states.items() if state == "deferred"}
                assert deferred < set(event["judged"]), f"{event['cycle']} judged {event['judged']} while {deferred} were deferred"
        waiting = {name: batch for name, batch in batch_states(self.events()).items() if batch.state == "deferred"}
        assert all(self.loop.quality[name] in (GOOD, SPARSE) or batch.put_off for name, batch in waiting.items())
        running, closed = open_cycle(self.events()), [one for one in cycles(self.events()) if one.closed]
        for name, batch in waiting.items():
            judged_by = [one.cycle for one in closed if name in one.judged]
            assert batch.why.split()[0] in {*judged_by[-1:], running.cycle if running else ""}, f"{name} has the reason of an earlier cycle: {batch.why}"

    @invariant()
    def the_champion_can_always_be_loaded(self) -> None:
        leading = champion(self.events())
        if leading is not None:
            verify_model_files(self.root / leading.path, leading.model_sha256)

    @invariant()
    def at_most_one_cycle_is_open_and_one_is_scheduled_a_week(self) -> None:
        known = cycles(self.events())
        assert sum(not one.closed for one in known) <= 1
        weeks = Counter(one.week for one in known if one.scheduled)
        assert all(count == 1 for count in weeks.values()), weeks
        assert all(week <= iso_week(max(Clock.at, self.latest()), "UTC") for week in weeks)

    def latest(self) -> datetime:
        self.seen = max(getattr(self, "seen", Clock.at), Clock.at)
        return self.seen

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            try:
                self.all_that_came_in_is_somewhere()
            finally:
                self.patch.undo()

    def all_that_came_in_is_somewhere(self) -> None:
        """However it was killed: the next two runs finish everything, and no batch was forgotten."""
        for _ in range(2):
            self.loop.run(False, None)
        assert self.loop.run(False, None) == "nothing new" or any(self.accepted_and_not_learned()), "a cycle that repeats itself"
        states = batch_states(self.events())
        assert sorted(states) == [f"b{number:03d}" for number in range(1, self.batches + 1)] and not self.loop.waiting
        assert open_cycle(self.events()) is None and not [name for name, one in states.items() if one.state == "new"]
        Weeks.total["deaths"] += self.loop.deaths
        deferred = {event["batch"] for event in self.events() if event.kind == "batch_state" and event["state"] == "deferred"}
        Weeks.total["deferred"] += len(deferred)
        Weeks.total["learned after all"] += len(deferred & batches_trained_on(self.events()))

    def accepted_and_not_learned(self) -> set[str]:
        """What a person accepted though a gate holds it: each run tries again."""
        return {name for name, one in batch_states(self.events()).items() if one.state == "accepted"} - batches_trained_on(self.events())


def simulate(folder: Path, worlds: int, steps: int, phases: Any = tuple(Phase)) -> Counter[str]:
    """Run so many worlds of so many steps; what happened in them."""
    Weeks.folder, Weeks.total = folder, Counter[str]()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Weeks, settings=settings(max_examples=worlds, stateful_step_count=steps, deadline=None, phases=phases, suppress_health_check=list(HealthCheck))
    )
    return Weeks.total


def test_hundreds_of_weeks(tmp_path: Path) -> None:
    """`make weeks` lives through a thousand."""
    wanted, total = int(os.environ.get("VIGIL_WEEKS", drill(100, 200))), Counter[str]()
    for number in range(wanted):  # how many weeks a world has is drawn, too
        (tmp_path / str(number)).mkdir()
        total += simulate(tmp_path / str(number), worlds=10, steps=50)
        if total["weeks"] >= wanted:
            break
    print(dict(total))
    assert total["weeks"] >= wanted and total["deaths"] >= wanted // 10 and total["promoted"] >= wanted // 10 and total["held"] >= wanted // 20, total
    assert total["deferred"] >= wanted // 40 and total["learned after all"] >= wanted // 100, total


def test_the_machine_notices_a_loop_that_promotes_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.decide

    real = flows.decide.read_json
    monkeypatch.setattr(flows.decide, "read_json", lambda path: real(path) | {"verdict": "pass", "results": [{"gate": "a", "verdict": "pass"}]})
    with pytest.raises(AssertionError, match="was promoted with"):
        simulate(tmp_path, worlds=40, steps=30, phases=(Phase.generate,))
