"""What a person decides: a batch's state, the first champion, a gate that holds nothing for some days, a rollback."""

from collections.abc import Sequence
from pathlib import Path

from flows.plan import batches_trained_on
from workspace.batches import set_batch_state as journal_batch_state
from workspace.errors import RegistryUnavailable, SettingsError, WorkspaceError
from workspace.journal import Event, Journal
from workspace.lease import lease
from workspace.settings import Settings
from workspace.state import batch_states, came_from, champion, cycles, decided, held_batches, open_cycle

TAKEN_OUT = ("held", "dropped")
LEARNED_BEFORE = (
    " The champion has learned from it: whom it knows by heart judges no model that goes on from it, whatever side their names fall on when they come in "
    "again, so that fewer may be left to judge."
)


def set_batch_state(root: Path, batch: str, state: str, who: str, why: str, again: bool = False) -> str:
    """Journal a person's decision about a batch; returns the sentences for a person: who said so before where it stands so already, and what else follows.

    Of a batch that an unfinished cycle judges, only that it is taken out: the cycle is then held on that person's word, and the next `vigil retrain`
    ends it. A cycle that fails again and again would otherwise stay for ever. So is one that learns from a batch of before that is taken out: its model
    would know what was withdrawn. `again`: what a dropped batch holds may come in again. Raises WorkspaceError, also of a batch that was erased whole.
    """
    from workspace.forgetting import is_emptied
    from workspace.repository import commit_journal

    with lease(root, f"batches {state}"):
        if state != "dropped" and is_emptied(root, batch):
            raise WorkspaceError(
                f"The state of batch {batch!r} was not changed.",
                why="what it held was erased on request: nothing of it is left to learn from, or to ask people about",
                next_step="Ingest other media. A batch like this stays dropped: `vigil batches drop`.",
            )
        events = Journal(root).events()
        running = open_cycle(events)
        judging = running if running and batch in running.judged else None
        learning = running if running and batch in running.batches and not judging and state in TAKEN_OUT and not decided(events, running.cycle) else None
        over = decided(events, judging.cycle) if judging else None
        if judging and (state not in TAKEN_OUT or over):
            ends = "" if over else " Where it cannot be finished, `vigil batches hold` or `drop` ends it."
            raise WorkspaceError(
                f"{batch} is under judgement.",
                why=f"{judging.cycle} is {over.outcome}, and not closed yet" if over else f"{judging.cycle} is not finished",
                next_step=f"Run `vigil retrain` to finish it, then decide.{ends}",
            )
        recorded = journal_batch_state(root, batch, state, who=who, why=why, again=again)
        before = batch_states(events)[batch]
        told = f"{batch} is now {state} ({who}: {why})." if recorded else f"{batch} is {state} already ({before.who}: {before.why})."
        if not (recorded or judging or learning):
            told += " Nothing was recorded."
        if again and state == "dropped" and batch in batches_trained_on(events):
            told += LEARNED_BEFORE
        if judging:
            Journal(root).append("cycle_held", cycle=judging.cycle, reason=f"{who} took {batch} out of it: {why}.", defer=True, put_off=True)
        if learning:
            Journal(root).append("cycle_held", cycle=learning.cycle, reason=f"{who} took {batch} out of what it learns from: {why}.", defer=True, put_off=True)
        commit_journal(root, f"{batch} {state} ({who}: {why})")
        if learning:
            told += f" {learning.cycle} learned from it and is held; `vigil retrain` ends it."
            return told + (f" {_judged_again('what came in')}" if learning.judged else "")
        if not judging:
            return told
        others = [name for name in judging.judged if name != batch]
        told += f" {judging.cycle} is held; `vigil retrain` ends it."
        return told + (f" {_judged_again(', '.join(others))}" if others else "")


def _judged_again(what: str) -> str:
    return f"Then `vigil retrain --force` judges {what} again, but for a batch that has been deferred too often: it is held, and waits for a person."


def bootstrap_first(root: Path, settings: Settings, who: str, why: str) -> str:
    """Make the last candidate the first champion on a person's word, once it answers in a real service; returns the sentence for a person.

    Its batches count as accepted by that person. Raises WorkspaceError without a judged candidate, while a cycle is unfinished, where a batch that the
    model learned from was dropped since or what it was judged on is not here any more, where the service does not take the model or a gate failed that
    nobody can vouch for; PromotionConflict when another model is champion. Safe to repeat: what a killed one left undone is done in the first one's name.
    """
    from flows.environment import prepare_environment

    prepare_environment(root)
    from flows.probe import probe_model
    from pipelines.continual import record
    from pipelines.gate import report_of
    from workspace.files import read_json
    from workspace.promotion import bootstrap
    from workspace.remote import pull
    from workspace.repository import commit_journal
    from workspace.state import candidates

    with lease(root, "bootstrap"):
        events = Journal(root).events()
        if running := open_cycle(events):
            raise WorkspaceError("Nothing was promoted.", why=f"{running.cycle} is not finished", next_step="Run `vigil retrain` to finish it, then decide.")
        page = root / "reports" / "verdict.json"
        verdict = read_json(page) if page.is_file() else {}
        model = candidates(events).get(str(verdict.get("cycle")))
        if model is None:
            raise WorkspaceError("There is no model to begin with.", why="no cycle here has judged one", next_step="Run `vigil retrain`.")
        if champion(events) is None:
            _refuse_withdrawn(events, model.cycle)
            _refuse_without_media(root, events, model.cycle)
        if not (root / model.path).is_dir():  # `vigil gc --delete` removes the files of a held model that DVC keeps
            pull(root, [f"{model.path}.dvc"])
        if champion(events) is None:
            served = probe_model(root, settings, root / model.path)
            if not served.passed:
                raise WorkspaceError("Nothing was promoted.", why=f"a real service does not take the model: {served.reason}", next_step="Run `vigil retrain`.")
        first = bootstrap(root, root / model.path, verdict=verdict, cycle=model.cycle, who=who, why=why)
        if evaluation := report_of(model.cycle, root / "reports" / "evaluation.json"):  # that of a later cycle, which came to no verdict, may lie there
            record(root, evaluation, base="")
        judged = next(cycle.judged for cycle in cycles(events) if cycle.cycle == model.cycle)
        states = batch_states(events)
        since = {event["batch"] for event in events if event.kind == "batch_state" and event.seq > first.seq}  # a person has decided about it by itself
        for batch in judged:
            if states[batch].state in ("held", "deferred") and batch not in since:
                journal_batch_state(root, batch, "accepted", who=first["who"], why=first["why"])
        said = f"({first['who']}: {str(first['why']).removeprefix('bootstrapped: ')})"
        commit_journal(root, f"{model.cycle} bootstrapped {said}")
    told = f"{model.cycle} is the first champion {'already ' if champion(events) else ''}{said}."
    set_aliases(root, settings, told)
    return f"{told} Every later model comes through the gates."


def _refuse_withdrawn(events: Sequence[Event], cycle: str) -> None:
    """Raise WorkspaceError where a batch that the model of this cycle learned from was dropped since: it knows what was withdrawn."""
    states = batch_states(events)
    learned = next(one.batches for one in cycles(events) if one.cycle == cycle)
    if gone := [batch for batch in learned if states[batch].state == "dropped"]:
        raise WorkspaceError(
            "Nothing was promoted.",
            why="; ".join(f"{cycle} learned from {batch}, which is dropped ({states[batch].who}: {states[batch].why})" for batch in gone),
            next_step=f"Bring in other media, then run `vigil retrain`. What was dropped by mistake: `vigil batches hold {gone[0]}`, then this again.",
        )


def _refuse_without_media(root: Path, events: Sequence[Event], cycle: str) -> None:
    """Raise WorkspaceError where what the service would be asked about, of what the model of this cycle was judged on, is not here: mostly it was erased."""
    from flows.probe import golden_files

    if missing := [str(path.relative_to(root)) for path in golden_files(root) if not path.is_file()]:
        judged = next(one.judged for one in cycles(events) if one.cycle == cycle)
        waiting = [batch for batch in judged if batch_states(events)[batch].state in ("held", "deferred")]
        accept = f"`vigil batches accept` ({', '.join(waiting)}), then " if waiting else ""
        raise WorkspaceError(
            "Nothing was promoted.",
            why=f"{cycle} was judged on {missing[0]}, which is not here: something was erased since, or this copy of the workspace was never filled",
            next_step=f"{accept}`vigil retrain` makes a model without what was erased. In a copy: `vigil doctor --pull`.",
        )


def set_aliases(root: Path, settings: Settings, told: str) -> None:
    """Let the registry follow what was decided and committed. Raises RegistryUnavailable, or where its names are another's SettingsError, that say
    what was done, and not to do it again."""
    from workspace import registry

    try:
        registry.rebuild_aliases(root, settings)
    except (RegistryUnavailable, SettingsError) as problem:
        then = problem.next_step if isinstance(problem, SettingsError) else "Once it answers: `vigil doctor --fix`, or the next `vigil retrain`."
        raise type(problem)(
            f"{told} Only the registry's aliases are not set.",
            why=problem.why,
            next_step=f"{then} Not the same command again: this decision stands.",
        ) from problem


def override_gate(root: Path, gate: str, who: str, why: str, days: int) -> str:
    """Let one gate hold nothing for some days; returns the sentence for a person. Raises WorkspaceError for a gate that nobody may switch off."""
    from datetime import UTC, datetime, timedelta

    from workspace.promotion import override
    from workspace.repository import commit_journal

    event = override(root, gate, who=who, why=why, until=datetime.now(UTC) + timedelta(days=days))
    commit_journal(root, f"gate {gate} overridden until {event['until']} ({who}: {why})")
    events = Journal(root).events()
    held = held_batches(batch_states(events))
    first = f"vigil batches accept, where it was this gate that held {' or '.join(held)}; then " if held else ""
    few = ", and too few people or videos to measure it on" if champion(events) else "; a first model that too few judge is held all the same"
    return (
        f"Gate {gate!r} is overridden until {event['until']} ({who}: {why}). That covers what it measures{few}. "
        f"Next: {first}vigil retrain (--force where nothing is new), or the next week."
    )


def roll_back(root: Path, settings: Settings, to: str, who: str, why: str, instead_of: str = "") -> str:
    """Serve an earlier champion again; returns the sentence for a person."""
    from flows.environment import prepare_environment

    prepare_environment(root)
    from workspace.promotion import rollback
    from workspace.repository import commit_journal

    before = champion(Journal(root).events())
    # beside a running cycle, too: that one then cannot promote what it judged against another
    rollback(root, to or "previous", who=who, why=why, instead_of=instead_of)
    events = Journal(root).events()
    leading = champion(events)
    commit_journal(root, f"rolled back to {leading.cycle if leading else to} ({who}: {why})")
    again = "is champion again" if leading != before else "was champion already"
    done = f"{leading.cycle if leading else '?'} {again} ({who}: {why})."
    set_aliases(root, settings, done)
    told = f"{done} A running `vigil serve` follows within {settings.serve.reload_seconds:g} s."
    gone = before and leading and before != leading and before.cycle not in came_from(events, leading.cycle)
    learned = [batch for cycle in cycles(events) if before and gone and cycle.cycle == before.cycle for batch in cycle.judged]
    return told + (
        f"\nWhat {before.cycle} learned from stays in training: {', '.join(learned)}. To take it out: vigil batches drop." if before and learned else ""
    )
