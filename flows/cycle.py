"""One cycle of the loop, as a Prefect flow: take in, version, forge, train, judge, then promote or hold.

A cycle can be killed anywhere. The journal says what was begun; DVC says which stages are finished; every step from
there on is safe to repeat, so `vigil retrain` goes on where the last one ended.
"""

import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from flows.closing import finish_commit
from flows.decide import Decision, decide_outcome, decided, refused_untrained
from flows.environment import prepare_environment, sign_run
from flows.plan import Plan, cycles_held, make_plan, settings_fingerprint
from flows.policy import NOT_DUE, Start, how_much, waiting_reviews, what_starts
from workspace.batches import set_batch_state
from workspace.cycle import Cycle, iso_week, next_cycle_id, restore_cycle, write_cycle
from workspace.errors import ModelFileError, SettingsError, StageFailed, VigilError, without_passwords
from workspace.files import atomic_file, read_json, sha256_file, write_json
from workspace.journal import Journal
from workspace.lease import CYCLE, lease
from workspace.modelfiles import MODEL_FILES, verify_model_files, verify_promoted
from workspace.settings import STAGES, Settings, SourceSettings, load_settings
from workspace.state import IMPORTED, Champion, anchor, batch_states, cycles, open_cycle, promoted

FEW = 10  # DVC reads dvc.lock anew for every target: naming each pays where at most one batch in so many has something to do
DATA_STAGES = ("faces", "validate")
UNLABELLED_STAGES = ("forge", "assemble", "drift")  # what came in is measured; nothing is trained
CROPS = ("size_px", "detector", "margin", "fps", "clip_frames", "mode")  # what a model sees of a face, and its threshold was set on
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def may_help_again(task: Any, run: Any, state: Any) -> bool:
    """Retry only what may pass: a killed or crashed stage, not a mistake that a person must mend."""
    try:
        state.result()
    except VigilError as problem:
        return bool(getattr(problem, "retryable", False))
    except Exception:
        return True
    return False


@dataclass(frozen=True, slots=True)
class Taken:
    """What an ingest says for people, and the sources that could not be read."""

    lines: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@task(name="ingest", cache_policy=NO_CACHE)
def take_in(root: Path, settings: Settings, sources: Sequence[SourceSettings]) -> Taken:
    """Take what is new from the sources and from the reviewed cases, and take out what people had erased."""
    from pipelines.ingest import ingest
    from pipelines.stage import Progress
    from workspace.repository import version_batches

    every = [*sources, *_reviewed_cases(root, settings)]
    report = ingest(root, settings, every, progress=Progress("ingest")) if every else None
    _close_outbox(root, settings)
    lines = [*(report.lines() if report else ()), *_erase_requested(root, settings)]
    version_batches(root)
    return Taken(tuple(lines), tuple(f"{source}: {why}" for source, why in report.problems.items()) if report else ())


def _reviewed_cases(root: Path, settings: Settings) -> list[SourceSettings]:
    """Cases that people have decided since the last hand-over, as one more source."""
    from feedback.handover import export_reviewed, source

    folder = export_reviewed(root, settings)
    return [source(folder)] if folder else []


def _close_outbox(root: Path, settings: Settings) -> None:
    from feedback.cases import TRAINING_LABELS
    from feedback.handover import mark_ingested
    from workspace.for_review import is_disputed
    from workspace.manifest import manifests, read_manifest

    batch_of: dict[tuple[str, str], str] = {}
    states = batch_states(Journal(root).events())
    for folder in (manifest.parent for manifest in manifests(root)):
        table = read_manifest(folder)
        if folder.name in states and states[folder.name].state == "dropped":  # trains nobody; but what was erased stays erased
            table = table[table["use"] == "never"]
        for sample_id, label, use, quarantine in zip(table["sample_id"], table["label"], table["use"], table["quarantine"], strict=True):
            for said in TRAINING_LABELS if use == "never" else () if is_disputed({"quarantine": quarantine}) else (label,):
                batch_of[sample_id, said] = folder.name  # what may never be used takes no label any more
    mark_ingested(root, settings, batch_of)


def _erase_requested(root: Path, settings: Settings) -> list[str]:
    """Uploads that were erased since the last cycle leave the training data before anything is learned."""
    from feedback.database import Database, exists
    from feedback.retention import finish_erasures

    if not exists(root, settings):
        return []
    database = Database(root, settings)
    try:
        return [f"erased {row['sha256'][:16]} on request" for row in finish_erasures(root, database)]
    except VigilError as problem:  # the batches come first: what is left is copies that no stage reads, and the next cycle tries again
        return [str(problem)]
    finally:
        database.close()


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, retry_condition_fn=may_help_again)
def run_stage(root: Path, stage: str) -> list[str]:
    """Bring one DVC stage up to date, for every batch that needs it; returns what really ran."""
    from pipelines.stage import PER_BATCH
    from workspace.processes import end_orphans
    from workspace.repository import reproduce
    from workspace.settled import batches_of, settle, unsettled

    end_orphans(root)
    if stage not in PER_BATCH:
        return reproduce(root, stage)
    batches = batches_of(root)
    todo = unsettled(root, stage, batches)
    few = len(todo) * FEW <= len(batches)
    ran = reproduce(root, *((f"{stage}@{batch}" for batch in todo) if few else [stage])) if todo else []
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
        _say(f"{outcome.cycle} {outcome.outcome}: {outcome.reason}".strip())
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
            _say(str(problem) if isinstance(problem, VigilError) else without_passwords(traceback.format_exc()))
        raise


def _run(root: Path, settings: Settings, scheduled: bool, force: bool, sources: Sequence[SourceSettings]) -> Outcome:
    """One cycle. A timer's tick that finds one unfinished ends it, and then asks for its own week: the next tick may be a week away."""
    resumed = open_cycle(Journal(root).events()) is not None
    outcome = _one_cycle(root, settings, scheduled, force, sources)
    if not (scheduled and resumed):
        return outcome
    _say(f"{outcome.cycle} {outcome.outcome}: {outcome.reason}")
    own = _one_cycle(root, settings, scheduled, force, sources)
    return own if own.cycle else outcome


def _one_cycle(root: Path, settings: Settings, scheduled: bool, force: bool, sources: Sequence[SourceSettings]) -> Outcome:
    from workspace.objects import refuse_damaged
    from workspace.repository import set_remote

    refuse_damaged(root)
    journal = Journal(root)
    set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)
    finish_commit(root)
    stage = run_stage.with_options(retries=settings.schedule.retries, retry_delay_seconds=settings.schedule.retry_delay_seconds)
    start = what_starts(journal.events(), settings, datetime.now(UTC), scheduled=scheduled, reviews=waiting_reviews(root, settings))
    if not start:
        return Outcome("nothing new", NOT_DUE)
    plan = make_plan(journal.events(), settings, force=force)
    if not plan.resume:
        taken = take_in(root, settings, sources)
        for line in taken.lines:
            _say(line)
        plan = make_plan(journal.events(), settings, force=force)
        if not plan.needed:
            return _nothing_new(journal, start, taken)
        refuse_changed_champion(root, journal, plan.base_cycle)
        refuse_other_ground(root, settings, plan.base_cycle)
        write_batches(root, plan)
        for name in DATA_STAGES:
            _say(f"{name} ...")
            stage(root, name)
        cycle = open_new_cycle(root, journal, settings, plan, start)
    else:
        cycle = restore_cycle(root, journal.events(), plan.resume)
        _say(f"going on with {cycle.cycle}")
        if decided(journal.events(), cycle.cycle):
            return conclude(root, settings, journal, cycle)
        refuse_changed_champion(root, journal, cycle.base_cycle)
        refuse_other_ground(root, settings, cycle.base_cycle)
        write_batches(root, plan)
        for name in DATA_STAGES:
            stage(root, name)
    stages = MODEL_STAGES if cycle.trains else UNLABELLED_STAGES if cycle.unlabelled and cycle.base_model else ()
    if stages:
        place_models(root, journal, cycle)
    refused = ""
    for name in stages:
        _say(f"{name} ...")
        try:
            stage(root, name)
        except StageFailed as problem:
            if not problem.too_little:
                raise
            refused = f"{name}: {problem.too_little}"  # other media mend it, and they can only come in once this cycle has ended
            break
        if name == "drift" and cycle.trains and (refused := refused_untrained(root, settings, journal, cycle)):
            break
    return conclude(root, settings, journal, cycle, refused)


def _nothing_new(journal: Journal, start: Start, taken: Taken) -> Outcome:
    if taken.problems:  # the week stays due: the timer's next tick asks the source again
        return Outcome("nothing new", f"not every source could be read: {'; '.join(taken.problems)}")
    if start.week and batch_states(journal.events()):  # before the first batch nothing was missed: the week waits for it
        journal.append("week_skipped", week=start.week, why="nothing new")
    return Outcome("nothing new", "no new batch, no changed setting or stage version")


def refuse_changed_champion(root: Path, journal: Journal, base_cycle: str) -> None:
    """Raise ModelFileError where the champion here is not what was promoted: by its card a cycle is opened, and at its threshold the next model judged."""
    known = promoted(journal.events()).get(base_cycle)
    if known and (root / known.path).exists():
        verify_promoted(root, known)


def refuse_other_ground(root: Path, settings: Settings, base_cycle: str) -> None:
    """Raise SettingsError where the settings cut faces, or split people, another way than the champion's did: nobody could compare the two.

    Of an imported model only the size of the crops has to agree (`vigil models import` says so): the rest is the workspace's from then on.
    """
    path = root / "models" / base_cycle / "card.json"
    if not base_cycle or not path.exists():
        return
    card, imported = read_json(path), base_cycle == IMPORTED
    _refuse_other_crops(card.get("faces", {}), settings.faces.model_dump(mode="json"), CROPS[:1] if imported else CROPS)
    if not imported:
        _refuse_another_split(card.get("settings", {}).get("split", {}), settings.split.model_dump(mode="json"))


def _refuse_other_crops(its: dict[str, Any], ours: dict[str, Any], names: Sequence[str]) -> None:
    """What a model sees of a face has to stay: on other crops its answers say nothing."""
    other = [f"faces.{name} is {ours[name]}, the champion's {its[name]}" for name in _differing(its, ours, names)]
    if other:
        raise SettingsError(
            "No cycle was opened: faces would be cut another way than the champion looks at them.", why="; ".join(other),
            next_step="Set them back, or begin a workspace of its own for the other crops (`vigil init`) and ingest there.",
        )  # fmt: skip


def _refuse_another_split(its: dict[str, Any], ours: dict[str, Any]) -> None:
    """People have to stay on their sides: the next model would be judged on those whom the champion learned by heart."""
    if other := _differing(its, ours, ours):
        was = ", ".join(f"{name}: {its[name]}" for name in other)
        raise SettingsError(
            "No cycle was opened: people would be split another way than when the champion was trained, and some whom it trained on would judge it.",
            why=f"the champion's split has {was}; params.yaml has {', '.join(f'{name}: {ours[name]}' for name in other)}",
            next_step="Set it back, or begin a workspace of its own for another split (`vigil init`) and ingest there. More people make a larger holdout.",
        )


def _differing(its: dict[str, Any], ours: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Which of these keys a card has with another value. What an older card does not say differs in nothing."""
    return [name for name in names if name in its and its[name] != ours[name]]


def write_batches(root: Path, plan: Plan) -> None:
    """List the batches whose faces and checks DVC keeps up to date."""
    import yaml

    with atomic_file(root / "batches.yaml") as handle:
        yaml.safe_dump({"batches": sorted({*plan.judged, *plan.accepted})}, handle)


def _refused(root: Path, plan: Plan) -> list[str]:
    """Batches under judgement that the data checks did not let in."""
    return [batch for batch in plan.judged if read_json(root / "reports" / "validate" / f"{batch}.json").get("success") is not True]


def open_new_cycle(root: Path, journal: Journal, settings: Settings, plan: Plan, start: Start) -> Cycle:
    """Hold what the data checks refuse, then write cycle.yaml and the journal's `cycle_opened`."""
    refused = _refused(root, plan)
    for batch in refused:
        result = read_json(root / "reports" / "validate" / f"{batch}.json")
        failed = "; ".join(
            f"{row['name']} (observed {row.get('observed')}, limit {row.get('limit')})" for row in result.get("expectations", []) if not row.get("success")
        )
        # Also where a person has accepted it: it could never pass gate `data`, and would hold every week that it is part of.
        set_batch_state(root, batch, "held", who="vigil", why=f"data checks: {failed or 'no result'}")
        _say(f"held {batch}: {failed}")
    now = datetime.now(UTC)
    week = start.week or iso_week(now, settings.schedule.timezone)
    work = how_much(journal.events(), settings, plan, now)
    older = anchor(journal.events(), settings.evaluate.anchor_promotions)
    why = (start.why, *plan.reasons, f"{work.kind}: {work.why}")
    judged = tuple(batch for batch in plan.judged if batch not in refused)
    if not plan.regardless and not any(_teaches(root, batch) for batch in judged if batch not in plan.deferred):
        judged = tuple(batch for batch in judged if batch not in plan.deferred)  # there is nothing beside which to judge them again
    cycle = Cycle(
        cycle=next_cycle_id(journal.events(), week),
        seed=settings.seed,
        batches=tuple(sorted({*judged, *plan.accepted})),
        judged=judged,
        vouched=tuple(batch for batch in plan.vouched if batch in judged),
        refused=tuple(refused),
        unlabelled=nothing_to_learn(root, judged, plan),
        work=work.kind,
        steps=work.steps,
        why=why,
        base_model=plan.base_model,
        base_cycle=plan.base_cycle,
        anchor_model=older.model_sha256 if older else "",
        anchor_cycle=older.cycle if older else "",
        known_generators=tuple(known_generators(root, plan.base_cycle)),
        drawn_forgers=drawn_forgers(settings, len(cycles(journal.events())), now.date()),
        waiting_forgers=waiting_forgers(settings, now.date()),
    )
    write_cycle(root, cycle)
    journal.append(
        "cycle_opened",
        **cycle.as_dict(),  # whole: a lost cycle.yaml is written again from it
        fingerprint=plan.fingerprint,
        scheduled=bool(start.week),
        week=week,
        started_by=start.by,
    )
    return cycle


def nothing_to_learn(root: Path, judged: Sequence[str], plan: Plan) -> tuple[str, ...]:
    """The judged batches where not one of their media has a label and nothing else asks for a training; else none."""
    teaching = [*judged, *(plan.accepted if plan.regardless else ())]
    return () if any(_teaches(root, batch) for batch in teaching) else tuple(judged)


def _teaches(root: Path, batch: str) -> bool:
    path = root / "data" / "faces" / batch / "report.json"
    if not path.exists():  # not on this machine: the stages will say what is missing
        return True
    samples = read_json(path)["samples"]
    return any(one["label"] and one["clips"] and not one["quarantine"] and one["use"] != "never" for one in samples)


def known_generators(root: Path, base_cycle: str) -> list[str]:
    """Generators that the base model has met, as its card says."""
    card = root / "models" / base_cycle / "card.json"
    return sorted(read_json(card).get("generators_seen", [])) if base_cycle and card.exists() else []


def drawn_forgers(settings: Settings, number: int, day: date) -> tuple[str, ...]:
    """The forgers of this cycle, in rotation: each cycle begins with the next one."""
    waiting = waiting_forgers(settings, day)
    names = tuple(name for name in settings.forge.forgers if name not in waiting)
    start = number % len(names) if names else 0
    return (*names[start:], *names[:start])


def waiting_forgers(settings: Settings, day: date) -> tuple[str, ...]:
    """The forgers from outside that have not arrived by `day`; none where there is no other."""
    waiting = {plugin.name for plugin in settings.forge.plugins if plugin.arrived and plugin.arrived > day} & set(settings.forge.forgers)
    return () if waiting == set(settings.forge.forgers) else tuple(sorted(waiting))


def place_models(root: Path, journal: Journal, cycle: Cycle) -> None:
    """Lay the champion (or the word that there is none) and the anchor where the stages look for them. Same models, same bytes.

    Raises ModelFileError where one of them is not what was promoted, card and threshold too; nothing is laid then.
    """
    from workspace.repository import pull, replace_folder

    base, made = root / "build" / "base", promoted(journal.events())
    marker, wanted = base / "base.json", {"model_sha256": cycle.base_model, "anchor_sha256": cycle.anchor_model}
    models = [(made[name], folder) for name, folder in ((cycle.base_cycle, base), (cycle.anchor_cycle, base / "anchor")) if name]
    if marker.exists() and read_json(marker) == wanted and all(_is_promoted(folder, model) for model, folder in models):
        return
    for model, _ in models:
        if not (root / model.path).exists():
            pull(root, [f"{model.path}.dvc"])
        verify_promoted(root, model)
    shutil.rmtree(base, ignore_errors=True)
    for model, folder in models:
        replace_folder(root / model.path, folder)
    write_json(marker, wanted)


def _is_promoted(folder: Path, model: Champion) -> bool:
    try:
        verify_model_files(folder, model.model_sha256, card_sha256=model.card_sha256)
    except ModelFileError:
        return False
    return True


def conclude(root: Path, settings: Settings, journal: Journal, cycle: Cycle, refused: str = "") -> Outcome:
    """Promote or hold, then publish, report, version, close and commit. Each step is safe to repeat. `refused`: why nothing was trained."""
    from feedback.learned import remember
    from pipelines.decay import record as record_decay
    from pipelines.gate import read_report, report_of
    from workspace.repository import push

    verdict = root / "reports" / "verdict.json"
    trained = not refused and verdict.exists() and read_json(verdict).get("cycle") == cycle.cycle
    model_dir = root / "models" / cycle.cycle
    if trained and not decided(journal.events(), cycle.cycle):
        keep_candidate(root, settings, journal, cycle, model_dir)
    decision = decide_outcome(root, settings, journal, cycle, model_dir if trained else None, probe, refused)
    settle_batches(root, settings, journal, cycle, decision)
    remember(root, cycle.cycle)
    if trained:
        record_decay(root, settings, cycle)
        publish(root, settings, cycle, decision.outcome)
    if (running := open_cycle(journal.events())) and running.cycle == cycle.cycle:
        drifted = bool(report_of(cycle.cycle, root / "reports/drift/drift.json").get("drifted"))
        told = {"verdict_sha256": sha256_file(verdict) if trained else "", "drifted": drifted}
        journal.append("cycle_closed", cycle=cycle.cycle, outcome=decision.outcome, reason=decision.reason, **told)
    try:
        push(root)
    except VigilError as problem:
        _say(str(problem))
    finish_commit(root)
    report = root / "reports" / "report.html"
    figures = read_report(root / "reports" / "evaluation.json") if trained else {}
    return Outcome(decision.outcome, decision.reason, cycle.cycle, cycle.judged, figures, os.path.relpath(report, Path.cwd()))


def keep_candidate(root: Path, settings: Settings, journal: Journal, cycle: Cycle, model_dir: Path) -> None:
    """Lay the model that was judged, every file of it, where it can serve from, and journal it with the settings of now.

    They are those it was made with: what changed while the cycle paused, its stages have met.
    A changed setting may leave the weights as they were and give another threshold or another export.
    """
    from workspace.repository import dvc_add, replace_folder

    made = root / "build" / "model"
    if any(not (model_dir / name).exists() or sha256_file(model_dir / name) != sha256_file(made / name) for name in MODEL_FILES):
        replace_folder(made, model_dir)
    dvc_add(root, [model_dir])
    sha256 = read_json(made / "card.json")["model_sha256"]
    known, fingerprint = next(one for one in cycles(journal.events()) if one.cycle == cycle.cycle), settings_fingerprint(settings)
    if (known.model_sha256, known.fingerprint) != (sha256, fingerprint):
        journal.append("candidate", cycle=cycle.cycle, model_sha256=sha256, path=f"models/{cycle.cycle}", fingerprint=fingerprint)


def settle_batches(root: Path, settings: Settings, journal: Journal, cycle: Cycle, decision: Decision) -> None:
    """A promoted cycle's batches are accepted; a held cycle's wait for a person, or for more of their kind. What a person has accepted stays so.

    What was deferred once has passed all other gates: it stays so, whatever holds a later cycle that it comes along with, up to `policy.deferrals` cycles.
    """
    events = journal.events()
    states = batch_states(events)
    for batch in cycle.judged:
        was = states[batch].state
        if was not in ("new", "deferred"):
            continue
        again = (decision.defer or was == "deferred") and cycles_held(events, batch) <= settings.policy.deferrals
        state = "accepted" if decision.outcome == "promoted" else "deferred" if again else "held"
        set_batch_state(root, batch, state, who="vigil", why=f"{cycle.cycle} {decision.outcome}: {decision.reason}")
