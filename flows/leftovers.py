"""What a dead process left, found and closed: orphans, runs that say RUNNING, batches that nobody journalled, crops that a program was given, stale locks."""

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows.environment import OWNER_TAG, owner_tags, start_private_server
from workspace.errors import VigilError, WorkspaceError
from workspace.forgetting import FORGING
from workspace.settings import Settings

CROPS = "crops of faces that a program was given to forge from"


def end_what_was_left(root: Path, settings: Settings) -> list[str]:
    """End the processes that a killed cycle left, and the MLflow and Prefect runs that still say RUNNING though nobody runs them; tell the journal of batches;
    remove the crops that a program was given.

    The lease must be held. Returns what was done.
    """
    from pipelines.ingest import journal_unjournalled
    from workspace.processes import end_orphans

    batches = [f"batch {name}, which a killed ingest had left whole, is journalled" for name in journal_unjournalled(root)]
    return [*end_orphans(root), *_remove_crops(root), *batches, *_close_mlflow_runs(root, settings), *_close_prefect_runs(root)]


def _remove_crops(root: Path) -> list[str]:
    found = _has_crops(root)
    shutil.rmtree(root / FORGING, ignore_errors=True)
    return [f"removed {CROPS}"] if found else []


def _has_crops(root: Path) -> bool:
    return any((root / FORGING).glob("*/*"))  # a stage that ended by itself leaves its own folder empty


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
    found += [f"{CROPS}: {FORGING}"] if _has_crops(root) else []
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
