"""Verbs that set things right: doctor, batch states, rollback."""

import shutil
from pathlib import Path
from typing import Any

from workspace.batches import set_batch_state as journal_batch_state
from workspace.errors import ModelFileError, RegistryUnavailable, VigilError, WorkspaceError
from workspace.journal import Journal
from workspace.lease import lease
from workspace.modelfiles import verify_promoted
from workspace.revisions import is_ahead
from workspace.settings import Settings
from workspace.state import Champion, batch_states, champion, cycles, held_batches, open_cycle

TAKEN_OUT = ("held", "dropped")


def examine_and_fix(
    root: Path, settings: Settings, *, fix: bool, push: bool, pull: bool = False, remote: bool = False, clock_is_right: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """The doctor's findings, and what was done about them."""
    from flows.environment import prepare_environment

    prepare_environment(root)
    from flows.health import count_weeks_from_now, end_what_was_left, examine, examine_remote

    verified = None
    done: list[str] = []
    lost: list[dict[str, Any]] = []
    if fix or push or pull or remote or clock_is_right:
        from flows.closing import finish_commit
        from pipelines.stage import Progress
        from workspace import registry, repository
        from workspace.objects import refuse_damaged
        from workspace.remote import replace_damaged, send_missing, verify

        with lease(root, "doctor", decides=fix or clock_is_right):  # what is sent or fetched is saved, whatever the journal lacks
            refuse_damaged(root)
            lacking = repository.absent(root) if pull else []
            if lender := repository.lending_remote(root, settings.remote.url) if pull else "":
                repository.set_remote(root, lender)
                repository.pull(root)  # its own remote is empty yet
            repository.set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)
            if pull:
                if not lender:
                    repository.pull(root)
                left = repository.absent(root)
                done.append(f"pulled {len(lacking) - len(left)} of {len(lacking)} batches and models that were not here")
                lost = [_not_fetched(left)] if left else []
            if clock_is_right:
                done += count_weeks_from_now(root, settings)
            if fix:
                if aside := registry.set_aside_damaged(root, settings):
                    done.append(f"set the registry's damaged database aside as {aside}: what MLflow showed of earlier runs stands there, and in reports/")
                done += end_what_was_left(root, settings)
                done += [f"removed {name}" for name in (*repository.remove_stale_dvc_files(root), *repository.remove_stale_git_locks(root))]
                leading = champion(Journal(root).events())
                if leading and not _is_as_promoted(root, leading) and _bring_back(root, leading):
                    done.append(f"pulled {leading.path}")
                if tag := finish_commit(root):
                    done.append(f"committed {tag}")
                if is_ahead(root):
                    repository.commit_journal(root, "What came in and was decided since the last commit")
                    done += [] if is_ahead(root) else ["committed the journal"]
            if (fix and leading) or (pull and _could_serve(root, settings)):
                registry.rebuild_aliases(root, settings)
                done.append("aliases rebuilt from the journal")
            if push:
                done.append(f"pushed {repository.push(root) + send_missing(root)} objects")
            verified = verify(root, Progress("remote")) if remote else None
            if verified and push and verified.damaged:
                done.append(f"replaced {replace_damaged(root, verified)} objects")
    return examine(root, settings) + lost + (examine_remote(verified) if verified else []), done


def _is_as_promoted(root: Path, model: Champion) -> bool:
    try:
        verify_promoted(root, model)
    except ModelFileError:
        return False
    return True


def _bring_back(root: Path, model: Champion) -> bool:
    """Whether DVC's cache or remote had the files of this model, which now lie here in place of damaged ones. If not, these stay."""
    from workspace.repository import pull

    folder, aside, whole = root / model.path, root / ".vigil" / "damaged", False
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():  # DVC replaces no file that it does not know
        folder.replace(aside)
    try:
        pull(root, [f"{model.path}.dvc"])
        whole = _is_as_promoted(root, model)
        return whole
    finally:
        if aside.exists() and not whole:
            shutil.rmtree(folder, ignore_errors=True)
            aside.replace(folder)
        shutil.rmtree(aside, ignore_errors=True)


def _could_serve(root: Path, settings: Settings) -> bool:
    """Whether the champion's files are here and the registry names none, as in a fresh clone that was pulled.

    A registry that others use knows better than the clone of an old tag.
    """
    from workspace.registry import read_alias

    try:
        leading = champion(Journal(root).events())
        return leading is not None and (root / leading.path).exists() and read_alias(root, settings) is None
    except VigilError:  # each has a row of its own
        return False


def _not_fetched(names: list[str]) -> dict[str, Any]:
    """The doctor's finding about what is neither here nor on the remote."""
    some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    next_step = "Run `vigil doctor --push` in the workspace that has them, or name its remote in remote.url; then pull again."
    return {"check": "data", "ok": False, "found": f"{len(names)} not on the remote: {some}", "next": next_step}


def render_checks(rows: list[dict[str, Any]], done: list[str]) -> str:
    """The doctor's page."""
    lines = [f"{'ok ' if row['ok'] else 'BAD'}  {row['check']:<10} {row['found']}" + (f"\n       Next: {row['next']}" if row["next"] else "") for row in rows]
    return "\n".join(lines + [f"done {line}" for line in done])


def set_batch_state(root: Path, batch: str, state: str, who: str, why: str, again: bool = False) -> str:
    """Journal a person's decision about a batch; returns the sentences for a person: who said so before where it stands so already, and what else follows.

    Of a batch that an unfinished cycle judges, only that it is taken out: the cycle is then held on that person's word, and the next `vigil retrain`
    ends it. A cycle that fails again and again would otherwise stay for ever. So is one that learns from a batch of before that is taken out: its model
    would know what was withdrawn. `again`: what a dropped batch holds may come in again. Raises WorkspaceError.
    """
    from flows.decide import AGAIN, decided
    from workspace.repository import commit_journal

    with lease(root, f"batches {state}"):
        events = Journal(root).events()
        running = open_cycle(events)
        judging = running if running and batch in running.judged else None
        learning = running if running and batch in running.batches and not judging and state in TAKEN_OUT and not decided(events, running.cycle) else None
        if judging and (state not in TAKEN_OUT or decided(events, judging.cycle)):
            raise WorkspaceError(
                f"{batch} is under judgement.",
                why=f"{judging.cycle} is not finished",
                next_step="Run `vigil retrain` to finish it, then decide. Where it cannot be finished, `vigil batches hold` or `drop` ends it.",
            )
        recorded = journal_batch_state(root, batch, state, who=who, why=why, again=again)
        before = batch_states(events)[batch]
        told = f"{batch} is now {state} ({who}: {why})." if recorded else f"{batch} is {state} already ({before.who}: {before.why})."
        if not (recorded or judging or learning):
            told += " Nothing was recorded."
        if judging:
            Journal(root).append("cycle_held", cycle=judging.cycle, reason=f"{who} took {batch} out of it: {why}.{AGAIN}", defer=True)
        if learning:
            Journal(root).append("cycle_held", cycle=learning.cycle, reason=f"{who} took {batch} out of what it learns from: {why}.{AGAIN}", defer=True)
        commit_journal(root, f"{batch} {state} ({who}: {why})")
        if learning:
            return f"{told} {learning.cycle} learned from it and is held; `vigil retrain` ends it. Then `vigil retrain --force` judges what came in again."
        if not judging:
            return told
        others = [name for name in judging.judged if name != batch]
        told += f" {judging.cycle} is held; `vigil retrain` ends it."
        return told + (f" Then `vigil retrain --force` judges {', '.join(others)} again." if others else "")


def bootstrap_first(root: Path, settings: Settings, who: str, why: str) -> str:
    """Make the last candidate the first champion on a person's word, once it answers in a real service; returns the sentence for a person.

    Its batches count as accepted by that person. Raises WorkspaceError without a judged candidate, while a cycle is unfinished, where the
    service does not take the model or a gate failed that nobody can vouch for; PromotionConflict when there is a champion.
    """
    from flows.environment import prepare_environment

    prepare_environment(root)
    from flows.probe import probe_model
    from pipelines.continual import record
    from pipelines.gate import report_of
    from workspace.files import read_json
    from workspace.promotion import bootstrap
    from workspace.repository import commit_journal, pull
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
        if not (root / model.path).is_dir():  # `vigil gc --delete` removes the files of a held model that DVC keeps
            pull(root, [f"{model.path}.dvc"])
        if champion(events) is None:
            served = probe_model(root, settings, root / model.path)
            if not served.passed:
                raise WorkspaceError("Nothing was promoted.", why=f"a real service does not take the model: {served.reason}", next_step="Run `vigil retrain`.")
        bootstrap(root, root / model.path, verdict=verdict, cycle=model.cycle, who=who, why=why)
        record(root, report_of(model.cycle, root / "reports" / "evaluation.json"), base="")
        judged = next(cycle.judged for cycle in cycles(events) if cycle.cycle == model.cycle)
        states = batch_states(events)
        for batch in judged:
            if states[batch].state in ("held", "deferred"):
                journal_batch_state(root, batch, "accepted", who=who, why=f"bootstrapped: {why}")
        commit_journal(root, f"{model.cycle} bootstrapped ({who}: {why})")
    told = f"{model.cycle} is the first champion ({who}: {why})."
    set_aliases(root, settings, told)
    return f"{told} Every later model comes through the gates."


def set_aliases(root: Path, settings: Settings, told: str) -> None:
    """Let the registry follow what was decided and committed. Raises RegistryUnavailable that says what was done, and not to do it again."""
    from workspace import registry

    try:
        registry.rebuild_aliases(root, settings)
    except RegistryUnavailable as problem:
        raise RegistryUnavailable(
            f"{told} Only the registry's aliases are not set.",
            why=problem.why,
            next_step="Once it answers: `vigil doctor --fix`, or the next `vigil retrain`. Not the same command again: this decision stands.",
        ) from problem


def override_gate(root: Path, gate: str, who: str, why: str, days: int) -> str:
    """Let one gate hold nothing for some days; returns the sentence for a person. Raises WorkspaceError for a gate that nobody may switch off."""
    from datetime import UTC, datetime, timedelta

    from workspace.promotion import override
    from workspace.repository import commit_journal

    event = override(root, gate, who=who, why=why, until=datetime.now(UTC) + timedelta(days=days))
    commit_journal(root, f"gate {gate} overridden until {event['until']} ({who}: {why})")
    held = held_batches(batch_states(Journal(root).events()))
    first = f"vigil batches accept, where it was this gate that held {' or '.join(held)}; then " if held else ""
    return f"Gate {gate!r} is overridden until {event['until']} ({who}: {why}). Next: {first}vigil retrain (--force where nothing is new), or the next week."


def roll_back(root: Path, settings: Settings, to: str, who: str, why: str) -> str:
    """Serve an earlier champion again; returns the sentence for a person."""
    from flows.environment import prepare_environment

    prepare_environment(root)
    from workspace.promotion import rollback
    from workspace.repository import commit_journal

    before = champion(Journal(root).events())
    rollback(root, to or "previous", who=who, why=why)  # beside a running cycle, too: that one then cannot promote what it judged against another
    events = Journal(root).events()
    leading = champion(events)
    commit_journal(root, f"rolled back to {leading.cycle if leading else to} ({who}: {why})")
    again = "is champion again" if leading != before else "was champion already"
    done = f"{leading.cycle if leading else '?'} {again} ({who}: {why})."
    set_aliases(root, settings, done)
    told = f"{done} A running `vigil serve` follows within {settings.serve.reload_seconds:g} s."
    learned = [batch for cycle in cycles(events) if before and before != leading and cycle.cycle == before.cycle for batch in cycle.judged]
    return told + (
        f"\nWhat {before.cycle} learned from stays in training: {', '.join(learned)}. To take it out: vigil batches drop." if before and learned else ""
    )
