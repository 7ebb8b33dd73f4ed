"""What a dead process left, found and closed: orphans, runs that say RUNNING, stale locks, aliases that lag behind."""

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.environment import OWNER_TAG, owner_tags, start_private_server
from workspace.cycle import iso_week, week_ahead
from workspace.errors import VigilError, WorkspaceError, first_few
from workspace.journal import Journal
from workspace.remote import Verified
from workspace.settings import Settings


def end_what_was_left(root: Path, settings: Settings) -> list[str]:
    """End the processes that a killed cycle left, and the MLflow and Prefect runs that still say RUNNING though nobody runs them; tell the journal of batches.

    The lease must be held. Returns what was done.
    """
    from pipelines.ingest import journal_unjournalled
    from workspace.processes import end_orphans

    batches = [f"batch {name}, which a killed ingest had left whole, is journalled" for name in journal_unjournalled(root)]
    return [*end_orphans(root), *batches, *_close_mlflow_runs(root, settings), *_close_prefect_runs(root)]


def _close_mlflow_runs(root: Path, settings: Settings) -> list[str]:
    from workspace import registry

    return [f"MLflow run {run_id} ended as KILLED" for run_id in registry.end_running(root, settings)] if _has_registry(root, settings) else []


def _has_registry(root: Path, settings: Settings) -> bool:
    """Whether there is one to ask: the workspace's own database is made with its first run."""
    from workspace import registry

    own = registry.own_database(root, settings.registry)
    return own is None or own.exists()


def _close_prefect_runs(root: Path) -> list[str]:
    if not os.environ.get("PREFECT_API_URL") and not (root / ".vigil" / "prefect" / "prefect.db").exists():
        return []
    import httpx

    start_private_server()  # else the client starts one that hears our Ctrl-C, and then waits for it for two minutes
    try:
        return asyncio.run(_crash_running_flows(str(root.resolve()), set(owner_tags(root))))
    except httpx.HTTPError as problem:
        raise WorkspaceError(
            "Prefect's server did not answer. Nothing was run.",
            why=f"{os.environ.get('PREFECT_API_URL') or 'the temporary one of this workspace'}: {problem}",
            next_step="Check that it runs and that PREFECT_API_URL names it, or unset that: Vigil then starts its own.",
        ) from problem


async def _crash_running_flows(workspace: str, mine: set[str]) -> list[str]:
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import Crashed

    done = []
    async with get_client() as client:
        wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
        for run in await client.read_flow_runs(flow_run_filter=wanted):
            others = {tag for tag in run.tags if tag.startswith(OWNER_TAG)} - mine  # on a server that several machines use
            if run.parameters.get("workspace") != workspace or others:
                continue
            await _crash_tasks(client, run.id)
            await client.set_flow_run_state(run.id, Crashed(message="Its process is gone; closed by Vigil."), force=True)
            done.append(f"Prefect run {run.name} closed as CRASHED")
    return done


async def _crash_tasks(client: Any, flow_run_id: Any) -> None:
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.states import Crashed

    wanted = TaskRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING"]}}})
    for run in await client.read_task_runs(task_run_filter=wanted, flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [flow_run_id]}})):
        await client.set_task_run_state(run.id, Crashed(message="Its process is gone; closed by Vigil."), force=True)


def count_weeks_from_now(root: Path, settings: Settings) -> list[str]:
    """Where a clock that was ahead used up weeks to come, journal that it was mended; returns what was done."""
    now = datetime.now(UTC)
    ahead = week_ahead(Journal(root).events(), settings.schedule, now)
    if not ahead:
        return []
    week = iso_week(now, settings.schedule.timezone)
    Journal(root).append("clock_mended", week=week, why=f"{ahead} was used up, and this is {week}")
    return [f"weeks count from {week} on again, {ahead} is not used up"]


def examine(root: Path, settings: Settings) -> list[dict[str, Any]]:
    """Every check of `vigil doctor` as {check, ok, found, next}; nothing is changed."""
    from workspace import registry
    from workspace.lease import cycle_runs
    from workspace.objects import cache_of, damaged_files, damaged_lists
    from workspace.repository import is_versioned
    from workspace.revisions import NEVER_COMMITTED, PUT_BACK, cut_short, git_problem
    from workspace.state import champion, cycles, open_cycle

    rows = []

    def row(check: str, ok: bool, found: str, next_step: str = "") -> None:
        rows.append({"check": check, "ok": ok, "found": found, "next": "" if ok else next_step})

    journal = Journal(root)
    wrong = ""
    try:
        journal.verify()
        events = journal.events()
    except Exception as problem:
        wrong = str(problem)
    if wrong := wrong or cut_short(root):
        row("journal", False, wrong, PUT_BACK)
        return rows
    without_git, next_step = git_problem(root)
    if not (without_git or is_versioned(root)):
        without_git, next_step = "its .git has no commit that can be read", NEVER_COMMITTED
    if without_git:
        row("git", False, f"{without_git}; nothing can be versioned or restored", next_step)
    row("journal", True, f"{len(events)} events, chain intact{'' if without_git else ', and all that was committed'}")
    for name, (why, next_step) in damaged_files(root).items():
        row("files", False, f"{name} cannot be read: {why}", next_step)
    broken: dict[str, Path] = {}
    with suppress(VigilError):  # a .dvc/config that cannot be read has its row
        broken = damaged_lists(cache_of(root))
    if broken:
        some = first_few([str(path) for path in broken.values()])
        lists, them = ("lists of folders", "are") if len(broken) > 1 else ("list of a folder", "is")
        row("cache", False, f"{len(broken)} {lists} in DVC's cache {them} damaged: {some}", "run `vigil doctor --fix`: what is damaged goes, and is had anew")
    running, holder = open_cycle(events), cycle_runs(root)
    if holder:
        left_open = f"{running.cycle if running else 'one that is not opened yet'} is run by {holder}"
    else:
        left_open = f"{running.cycle} was begun and not finished" if running else ""
    row(
        "cycle",
        running is None or holder is not None,
        left_open or f"{len(cycles(events))} cycles, none open",
        "run `vigil retrain`: it goes on",
    )
    now = datetime.now(UTC)
    ahead = week_ahead(events, settings.schedule, now)
    row(
        "schedule",
        not ahead,
        f"the cycle of {ahead} is used up, though it is {now:%Y-%m-%d} here: nothing is due until then" if ahead else "no week to come is used up",
        "set the clock if it is wrong; if it is right, run `vigil doctor --clock-is-right`: weeks count from now on again",
    )
    left = left_behind(root, settings)
    row("left behind", not left, "; ".join(left) or "nothing", "run `vigil doctor --fix`, or simply `vigil retrain`: both close it")
    row("service", *_service(root, settings))
    if (waiting := _erasures(root, settings)) is not None:
        row("erasures", True, what_waits(waiting, running.cycle if running else "") or "none waits")
    if wrong := registry.damage(root, settings):
        row("registry", False, wrong, registry.MEND_DATABASE)
        return rows
    leading = champion(events)
    if leading is None:
        try:
            if registry.own_database(root, settings.registry) is None:  # a server, or a file of several; one of our own is made when it is needed
                registry.read_alias(root, settings)
                row("registry", True, "it answers")
        except VigilError as problem:
            row("registry", False, f"{problem.what} {problem.why}".strip(), problem.next_step)
        row("champion", True, "none yet")
        return rows
    try:
        named = registry.read_alias(root, settings)
        same = named is not None and named.model_sha256 == leading.model_sha256
        says = f"{named.cycle} ({named.model_sha256[:12]})" if named else "nothing"
        row("alias", same, f"the registry's `champion` names {says}{'' if same else f', the journal {leading.cycle}'}", "run `vigil doctor --fix`")
        serving = registry.serving_model(root, settings)
        from model.card import load_card

        load_card(serving)
        row("champion", True, f"{leading.cycle} ({leading.model_sha256[:12]}) verified in {serving.name}")
    except Exception as problem:
        row("champion", False, str(problem), "run `vigil doctor --fix`: aliases are rebuilt from the journal, a missing or damaged model is pulled")
    return rows


def _service(root: Path, settings: Settings) -> tuple[bool, str, str]:
    """Whether the service's database and secret can be used, what was found, and what to do: a cycle asks that database for corrections, too."""
    from feedback.database import exists, schema_behind
    from feedback.secret import refuse_short

    try:
        refuse_short(root)
        if not exists(root, settings):
            return True, "no database yet", ""
        behind = schema_behind(root, settings)
    except VigilError as problem:
        return False, f"{problem.what} {problem.why}".strip(), problem.next_step
    return True, f"its database is of schema {behind[0]}; `vigil upgrade` makes it {behind[1]}" if behind else "its database answers", ""


def _erasures(root: Path, settings: Settings) -> int | None:
    """How many erasures wait; None where there is no database, or none that can be asked without changing it."""
    from feedback.database import exists, schema_behind
    from feedback.retention import erasures_waiting

    try:
        return erasures_waiting(root, settings) if exists(root, settings) and not schema_behind(root, settings) else None
    except VigilError:  # it has a row of its own
        return None


def what_waits(erasures: int, running: str) -> str:
    """What is still to be erased from the training data, and what does it, '' where nothing is; `running` is the cycle that is open."""
    if not erasures:
        return ""
    does_it = f"when {running} ends (`vigil retrain`)" if running else "with the next cycle, or now with `vigil erase --who NAME --why REASON`"
    return f"{erasures} erased file{'s leave' if erasures > 1 else ' leaves'} the training data {does_it}"


def left_behind(root: Path, settings: Settings) -> list[str]:
    """What a dead process left, in words; nothing while somebody is at work in the workspace."""
    from flows.closing import unfinished
    from pipelines.ingest import unjournalled
    from workspace import registry
    from workspace.lease import lease_holder
    from workspace.processes import describe, find_orphans
    from workspace.repository import stale_git_locks

    if lease_holder(root):
        return []
    found = [f"orphan {describe(process)}" for process in find_orphans(root)]
    found += [f"batch {name} is whole and not in the journal" for name in unjournalled(root)]
    if _has_registry(root, settings):
        with suppress(VigilError):  # a registry that is away has a row of its own
            found += [f"MLflow run {run_id} says RUNNING" for run_id in registry.find_running(root, settings)]
    with suppress(VigilError):  # and so has a git that does not work
        if last := unfinished(root):
            found.append(f"{last.cycle} is closed and not committed")
    if locks := stale_git_locks(root):
        found.append(f"{', '.join(locks)} of a git that is gone: nothing is committed")
    return found


def examine_remote(found: Verified) -> list[dict[str, Any]]:
    """The remote's part of the doctor's page: a row for every object that is not as it should be, else one that says so."""
    if found.whole:
        sentence = f"{found.objects} objects, {found.bytes / 1e6:.1f} MB, each read and as its checksum says"
        return [{"check": "remote", "ok": True, "found": sentence, "next": ""}]
    again = "in a workspace that has it, run `vigil doctor --remote --push`"
    bad = [(oid, names, "missing") for oid, names in found.missing.items()] + [(oid, names, "damaged") for oid, names in found.damaged.items()]
    rows = [f"{', '.join(names)}: {how} on the remote (md5 {oid})" for oid, names, how in bad]
    if found.objects and len(found.missing) == found.objects:
        rows = [f"none of this workspace's {found.objects} objects is on the remote"]
        again = "`vigil doctor --push` in the workspace that has them; or mend remote.url, if it names another place"
    rows += [f"{output}: nobody can tell what belongs to it, its list of files is neither on the remote nor here" for output in found.unlisted]
    return [{"check": "remote", "ok": False, "found": sentence, "next": again} for sentence in rows]
