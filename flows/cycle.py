"""One cycle of the loop, as a Prefect flow: take in, version, forge, train, judge, then promote or hold.

A cycle can be killed anywhere. The journal says what was begun; DVC says which stages are finished; every step from
there on is safe to repeat, so `vigil retrain` goes on where the last one ended.
"""

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from flows.closing import finish_commit, send, send_again
from flows.decide import and_again, decide_outcome, refused_untrained
from flows.environment import prepare_environment, say, sign_run
from flows.opening import (
    hold_where_the_champion_changed,
    made_with,
    open_new_cycle,
    place_models,
    refuse_changed_champion,
    refuse_missing_parameters,
    refuse_other_ground,
    write_batches,
)
from flows.plan import cycles_held, make_plan, unread_sources
from flows.policy import NOT_DUE, Start, waiting_reviews, what_starts
from flows.taking_in import Taken, erase_requested, take_in
from workspace.batches import set_batch_state
from workspace.cycle import Cycle, restore_cycle
from workspace.errors import StageFailed, VigilError, without_passwords
from workspace.files import read_json, sha256_file
from workspace.journal import Journal
from workspace.lease import CYCLE, lease
from workspace.modelfiles import MODEL_FILES
from workspace.settings import STAGES, Settings, SourceSettings, load_settings
from workspace.state import Decision, batch_states, cycles, decided, open_cycle

FEW = 10  # DVC reads dvc.lock anew for every target: naming each pays where at most one batch in so many has something to do
DATA_STAGES = ("faces", "validate")
UNLABELLED_STAGES = ("forge", "assemble", "drift")  # what came in is measured; nothing is trained
MODEL_STAGES = tuple(stage for stage in STAGES if stage not in DATA_STAGES)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a cycle ended: `promoted`, `held`, or `nothing new`."""

    outcome: str
    reason: str
    cycle: str = ""
    batches: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    report: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return asdict(self)


def may_help_again(task: Any, run: Any, state: Any) -> bool:
    """Retry only what may pass: a killed or crashed stage, not a mistake that a person must mend."""
    try:
        state.result()
    except VigilError as problem:
        return problem.retryable
    except Exception:
        return True
    return False


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, retry_condition_fn=may_help_again)
def run_stage(root: Path, stage: str, anew: Sequence[str]) -> list[str]:
    """Bring one DVC stage up to date, for every batch that needs it; returns what really ran. `anew`: batches for which DVC cannot know that they do."""
    from pipelines.stage import PER_BATCH
    from workspace.processes import end_orphans
    from workspace.repository import reproduce
    from workspace.settled import batches_of, settle, unsettled

    end_orphans(root)
    if stage not in PER_BATCH:
        return reproduce(root, stage)
    ran = reproduce(root, *(f"{stage}@{batch}" for batch in anew), force=True) if anew else []
    batches = batches_of(root)
    todo = unsettled(root, stage, batches)
    few = len(todo) * FEW <= len(batches)
    ran += reproduce(root, *((f"{stage}@{batch}" for batch in todo) if few else [stage])) if todo else []
    settle(root, stage, batches)
    return ran


@task(name="publish", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
def publish(root: Path, settings: Settings, cycle: Cycle, outcome: str) -> None:
    """Show the cycle in MLflow: run, data sets, curves, figures, model version and aliases. Once a cycle."""
    from flows.publish import publish_cycle

    publish_cycle(root, settings, cycle, outcome)


@task(name="probe", cache_policy=NO_CACHE)
def probe(root: Path, settings: Settings, model_dir: Path) -> Any:
    """Ask a real service process whether the exported model works."""
    from flows.probe import probe_model

    return probe_model(root, settings, model_dir)


@flow(name="weekly-retrain", validate_parameters=False)
def weekly_retrain(workspace: str, scheduled: bool = False, force: bool = False, sources: Sequence[SourceSettings] | None = None) -> dict[str, Any]:
    """Ingest, check, forge, train, judge, then promote or hold. Finished steps are not repeated.

    1. Take in new media and reviewed cases. 2. Faces and data checks of every new batch. 3. Open the cycle.
    4. Forge, assemble, train, evaluate, drift, gate. 5. Probe and promote, or hold. 6. Publish, report, commit, tag.
    """
    from pipelines.names import refuse_unknown_names

    root = Path(workspace).resolve()
    prepare_environment(root)
    with _told_where_nobody_asked():
        settings = load_settings(root / "params.yaml")
        refuse_unknown_names(root, settings)
        with lease(root, CYCLE):
            sign_run(root)
            outcome = _run(root, settings, scheduled, force, settings.ingest.sources if sources is None else sources)
    if _is_served():
        say(f"{outcome.cycle} {outcome.outcome}: {outcome.reason}".strip())
    return outcome.as_dict()


def _is_served() -> bool:
    """Whether a schedule or a worker runs this flow in a process of its own: nobody else then prints how it ends."""
    running = FlowRunContext.get()
    return running is not None and running.flow_run is not None and running.flow_run.deployment_id is not None


@contextmanager
def _told_where_nobody_asked() -> Iterator[None]:
    """Say in the schedule's own output what stopped a cycle: Prefect keeps it in its database, where no operator looks."""
    try:
        yield
    except Exception as problem:
        if _is_served():
            say(str(problem) if isinstance(problem, VigilError) else without_passwords(traceback.format_exc()))
        raise


def _run(root: Path, settings: Settings, scheduled: bool, force: bool, sources: Sequence[SourceSettings]) -> Outcome:
    """One cycle. A timer's tick that finds one unfinished ends it, and then asks for its own week: the next tick may be a week away."""
    resumed = open_cycle(Journal(root).events()) is not None
    outcome = _one_cycle(root, settings, scheduled, force, sources)
    if not (scheduled and resumed):
        return outcome
    say(f"{outcome.cycle} {outcome.outcome}: {outcome.reason}")
    own = _one_cycle(root, settings, scheduled, force, sources)
    return own if own.cycle else outcome


def _one_cycle(root: Path, settings: Settings, scheduled: bool, force: bool, sources: Sequence[SourceSettings]) -> Outcome:
    from pipelines.outside import forged_otherwise, idle_forgers
    from workspace.objects import refuse_damaged
    from workspace.repository import refuse_absent, refuse_linked, set_remote

    refuse_damaged(root)
    refuse_missing_parameters(root)
    refuse_linked(root)
    journal = Journal(root)
    set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)
    finish_commit(root)
    stage = run_stage.with_options(retries=settings.schedule.retries, retry_delay_seconds=settings.schedule.retry_delay_seconds)
    start = what_starts(journal.events(), settings, datetime.now(UTC), scheduled=scheduled, reviews=waiting_reviews(root, settings))
    if not start:
        send_again(root)
        return Outcome("nothing new", NOT_DUE)
    plan, opened = make_plan(journal.events(), settings, force=force), None
    if plan.resume:
        opened = restore_cycle(root, journal.events(), plan.resume)
        say(f"going on with {opened.cycle}")
        hold_where_the_champion_changed(journal, opened)
        if decided(journal.events(), opened.cycle):
            return conclude(root, settings, journal, opened)
        if opened.trains and not made_with(journal.events(), settings, opened):
            say("settings changed since: seed, forgers and kind of training stay as it was opened; the next cycle takes the change whole")
    else:
        taken = take_in(root, settings, sources)
        for line in taken.lines:
            say(line)
        plan = make_plan(journal.events(), settings, force=force)
        if not plan.needed:
            send_again(root)
            return _nothing_new(journal, start, taken)
    base_cycle = opened.base_cycle if opened else plan.base_cycle
    refuse_absent(root, "No stage was begun.")
    refuse_changed_champion(root, journal, base_cycle)
    refuse_other_ground(root, settings, base_cycle, opened)
    write_batches(root, plan)
    for name in DATA_STAGES:
        say(f"{name} ...")
        stage(root, name, ())
    cycle = opened or open_new_cycle(root, journal, settings, plan, start)
    stages = MODEL_STAGES if cycle.trains else UNLABELLED_STAGES if cycle.unlabelled and cycle.base_model else ()
    if stages:
        place_models(root, journal, cycle)
    refused = None
    for name in stages:
        say(f"{name} ...")
        try:
            stage(root, name, forged_otherwise(root, settings, cycle.judged) if name == "forge" else ())
        except StageFailed as problem:
            if not problem.too_little:
                raise
            # other media mend it, and they can only come in once this cycle has ended
            refused = Decision("held", f"{name}: {problem.too_little}", defer=True, put_off=True)
            break
        for line in chain.from_iterable(idle_forgers(root, batch) for batch in cycle.judged if name == "forge"):
            say(line)
        if name == "drift" and cycle.trains and (refused := refused_untrained(root, settings, journal, cycle)):
            break
    return conclude(root, settings, journal, cycle, refused)


def _nothing_new(journal: Journal, start: Start, taken: Taken) -> Outcome:
    if taken.problems:
        raise unread_sources(taken.problems)
    if start.week and batch_states(journal.events()):  # before the first batch nothing was missed: the week waits for it
        journal.append("week_skipped", week=start.week, why="nothing new")
    return Outcome("nothing new", "no new batch, no changed setting or stage version")


def conclude(root: Path, settings: Settings, journal: Journal, cycle: Cycle, refused: Decision | None = None) -> Outcome:
    """Promote or hold, then publish, report, version, close and commit; then take out what people erased meanwhile.

    Each step is safe to repeat. `refused`: the hold of a cycle that came to no model.
    """
    from feedback.learned import remember
    from pipelines.decay import record as record_decay
    from pipelines.gate import read_report, report_of

    verdict = root / "reports" / "verdict.json"
    trained = not refused and verdict.exists() and read_json(verdict).get("cycle") == cycle.cycle
    model_dir = root / "models" / cycle.cycle
    if trained and not decided(journal.events(), cycle.cycle):
        keep_candidate(root, settings, journal, cycle, model_dir)
    decision = decide_outcome(root, settings, journal, cycle, model_dir if trained else None, probe, refused)
    reason = settle_batches(root, settings, journal, cycle, decision)
    remember(root, cycle.cycle)
    if trained:
        record_decay(root, settings, cycle)
        publish(root, settings, cycle, decision.outcome)
    if (running := open_cycle(journal.events())) and running.cycle == cycle.cycle:
        drifted = bool(report_of(cycle.cycle, root / "reports/drift/drift.json").get("drifted"))
        told = {"verdict_sha256": sha256_file(verdict) if trained else "", "drifted": drifted}
        journal.append("cycle_closed", cycle=cycle.cycle, outcome=decision.outcome, reason=reason, **told)
    send(root)
    finish_commit(root)
    report = root / "reports" / "report.html"
    figures = read_report(root / "reports" / "evaluation.json") if trained else {}
    for line in erase_requested(root, settings):
        say(line)
    return Outcome(decision.outcome, reason, cycle.cycle, cycle.judged, figures, os.path.relpath(report, Path.cwd()))


def keep_candidate(root: Path, settings: Settings, journal: Journal, cycle: Cycle, model_dir: Path) -> None:
    """Lay the model that was judged, every file of it, where it can serve from, and journal it with the settings that it was made with.

    A changed setting may leave the weights as they were and give another threshold or another export.
    """
    from workspace.repository import dvc_add, replace_folder

    made = root / "build" / "model"
    if any(not (model_dir / name).exists() or sha256_file(model_dir / name) != sha256_file(made / name) for name in MODEL_FILES):
        replace_folder(made, model_dir)
    dvc_add(root, [model_dir])
    sha256 = read_json(made / "card.json")["model_sha256"]
    events = journal.events()
    known, fingerprint = next(one for one in cycles(events) if one.cycle == cycle.cycle), made_with(events, settings, cycle)
    if (known.model_sha256, known.fingerprint) != (sha256, fingerprint):
        journal.append("candidate", cycle=cycle.cycle, model_sha256=sha256, path=f"models/{cycle.cycle}", fingerprint=fingerprint)


def settle_batches(root: Path, settings: Settings, journal: Journal, cycle: Cycle, decision: Decision) -> str:
    """A promoted cycle's batches are accepted; a held cycle's wait for a person, or for more of their kind. What a person has accepted stays so.

    What was deferred once has passed all other gates (unless it was only put off): it stays so, whatever holds a later cycle that it comes along with, up to
    `policy.deferrals` cycles.
    Returns the reason as a person is told it: with what is judged again, where something is.
    """
    events = journal.events()
    states = batch_states(events)
    for batch in cycle.judged:
        was = states[batch].state
        if was not in ("new", "deferred"):
            continue
        passed = was == "deferred" and not states[batch].put_off
        again = (decision.defer or passed) and cycles_held(events, batch) <= settings.policy.deferrals
        state = "accepted" if decision.outcome == "promoted" else "deferred" if again else "held"
        why = f"{cycle.cycle} {decision.outcome}: {decision.reason}"
        why = and_again(why) if state == "deferred" else why
        set_batch_state(root, batch, state, who="vigil", why=why, put_off=decision.put_off and not passed)
    states = batch_states(journal.events())
    waiting = [batch for batch in cycle.judged if states[batch].state == "deferred"]
    if not waiting:
        return decision.reason
    return and_again(decision.reason, "" if len(waiting) == len(cycle.judged) else ", ".join(waiting))
