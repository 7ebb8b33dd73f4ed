"""The schedule as a Prefect deployment that this process serves. It asks every hour; the journal knows whether the week, or anything else, is due."""

import asyncio
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from workspace.errors import LeaseHeldError, WorkspaceError
from workspace.files import atomic_file
from workspace.journal import Journal
from workspace.lease import lease, scheduling_alone
from workspace.processes import PAUSE_SECONDS, deaf_to, end_own_stages
from workspace.settings import ScheduleSettings, Settings
from workspace.state import workspace_id

if TYPE_CHECKING:
    from prefect.runner import Runner
    from prefect.schedules import Schedule

BANNED = re.compile(r"[/%&<>]")  # which Prefect lets no deployment be called
LOOK_SECONDS = 1.0  # between two looks at whether the server still runs
LEAVE_SECONDS = 30.0  # for what is under way when it does not; a cycle that is cut off goes on with the next question


def cron_line(schedule: ScheduleSettings) -> str:
    """Every hour, at the minute of the weekly slot: so a slot that was missed is caught up an hour later, and what may start a cycle early does."""
    return f"{schedule.minute} * * * *"


@contextmanager
def prefect_server(root: Path) -> Iterator["subprocess.Popen[bytes] | None"]:
    """A Prefect server, started for as long as this block lasts (loopback only), or None where PREFECT_API_URL names one. That has the address meanwhile."""
    if os.environ.get("PREFECT_API_URL"):
        yield None
        return
    import socket

    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = _log_of_server(root)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output, deaf_to(signal.SIGINT):  # a server that ends first leaves the schedule waiting for it, for a minute and more
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    address = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + 120
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise WorkspaceError(
                    "Prefect's server did not start.", why=f"see {log}", next_step="Mend what the log says, or name a running server in PREFECT_API_URL."
                )
            try:
                if httpx.get(f"{address}/health", timeout=2.0, trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.3)
        os.environ["PREFECT_API_URL"] = address
        yield process
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _log_of_server(root: Path) -> Path:
    return root / ".vigil" / "prefect-server.log"


def serve_schedule(root: Path, settings: Settings, cron: str = "") -> None:
    """Serve the deployment until stopped. `cron` stands in for every hour. Raises LeaseHeldError where another process does so for this workspace,
    and WorkspaceError once a server that was started for it has ended, or a named one is away for minutes.
    """
    from flows.environment import owner_tags, prepare_environment

    prepare_environment(root)
    with scheduling_alone(root), prefect_server(root) as server, _told_where_it_ends(server, _log_of_server(root)):
        from prefect.runner import Runner

        from flows.cycle import weekly_retrain

        line = cron or cron_line(settings.schedule)
        slot, wanted = _slot(line, settings.schedule.timezone), settings.schedule
        folder = BANNED.sub("-", root.name)
        name = folder if server else f"{folder}-{_own_name(root)}"  # others may use a named server, and call a folder so
        _close_what_was_left(root, settings)
        _drop_late_questions(f"{weekly_retrain.name}/{name}")
        week = f"{wanted.weekday} {wanted.hour:02}:{wanted.minute:02} {wanted.timezone}"
        print(
            f"Serving weekly-retrain/{name}: asks at `{line}`, the week is due on {week}; Prefect's API: {os.environ['PREFECT_API_URL']}. Ctrl-C stops.",
            flush=True,
        )
        # Prefect would pause the deployment as this stops: a copy of this workspace may serve it elsewhere, and would ask nothing any more.
        runner = Runner(name=name, pause_on_shutdown=False, limit=1)
        runner.add_flow(
            weekly_retrain,
            name=name,
            schedule=slot,
            parameters={"workspace": str(root.resolve()), "scheduled": True},
            tags=["vigil", *owner_tags(root)],
        )
        with suppress(KeyboardInterrupt, asyncio.CancelledError):
            asyncio.run(_poll(runner, server))


@contextmanager
def _told_where_it_ends(server: "subprocess.Popen[bytes] | None", log: Path) -> Iterator[None]:
    """Raise WorkspaceError where the server that was started for this block has ended before it, whatever was made of that inside, or a named one is away."""
    try:
        yield
    except Exception as problem:
        if server is None and _is_silence(problem):
            raise WorkspaceError(
                "Prefect's server did not answer, and the schedule ends with it: nothing would be asked any more. What was finished is kept.",
                why=f"{os.environ['PREFECT_API_URL']}: {'asked in vain, again and again' if isinstance(problem, ExceptionGroup) else problem}",
                next_step="Check that it runs and that PREFECT_API_URL names it, then run `vigil schedule` again (a service manager should restart it).",
            ) from problem
        if server is None or server.poll() is None:
            raise
    if server is not None and server.poll() is not None:
        raise WorkspaceError(
            "Prefect's server ended, and the schedule with it: nothing would be asked any more.",
            why=f"its process {server.pid} ended with {server.returncode}; see {log}",
            next_step="Run `vigil schedule` again (a service manager should restart it); where it ends again, mend what the log says.",
        )


def _is_silence(problem: Exception) -> bool:
    """Whether Prefect's client could not ask, or its poller has given up after several times: a RuntimeError then, in groups of tasks."""
    import httpx

    if isinstance(problem, ExceptionGroup):
        return problem.subgroup((httpx.HTTPError, RuntimeError)) is not None
    return isinstance(problem, httpx.HTTPError)


async def _poll(runner: "Runner", server: "subprocess.Popen[bytes] | None") -> None:
    """Ask when it is time, for as long as the server runs that was started for it: without it Prefect tries three times, and then nothing any more."""
    mine, loop = cast("asyncio.Task[None]", asyncio.current_task()), asyncio.get_running_loop()
    # As Ctrl-C does: Prefect's own handler stops nothing, and ends in a traceback.
    runner.handle_sigterm = lambda *_: loop.call_soon_threadsafe(mine.cancel)  # type: ignore[method-assign]
    asking = asyncio.create_task(runner.start())
    try:
        while not asking.done() and (server is None or server.poll() is None):
            await asyncio.wait({asking}, timeout=LOOK_SECONDS)
        if asking.done():
            asking.result()
    finally:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # Prefect's observers ask a question that was cancelled what went wrong
        asking.cancel()
        await asyncio.to_thread(_end_cycle)  # Prefect waits for its process, however long
        await asyncio.wait({asking}, timeout=LEAVE_SECONDS)  # what it has open is closed first
        if asking.done() and not asking.cancelled():
            asking.exception()  # of the end: nobody asks for it


def _end_cycle() -> None:
    """Let the cycle that is under way pause, and its stage with it; one that takes too long is cut off."""
    for cycle in multiprocessing.active_children():
        cycle.join(PAUSE_SECONDS)  # one that was told too pauses by itself
        cycle.terminate()
        end_own_stages(0.0)  # at once: a stage that finds its cycle gone ends the hard way
        cycle.join(LEAVE_SECONDS)
        cycle.kill()


def _own_name(root: Path) -> str:
    """What no other workspace is called, but a copy of this one: the same from its first schedule on, which may come before there is anything in it."""
    kept = root / ".vigil" / "scheduled-as"
    if not kept.exists():
        with atomic_file(kept) as handle:
            handle.write(workspace_id(Journal(root).events())[:8] or uuid.uuid4().hex[:8])
    return kept.read_text(encoding="utf-8")


def _drop_late_questions(deployment: str) -> None:
    """Forget what a server that ran on would have asked while nobody served it: one question does for all of them. To serve it ends the pause.

    The client's own `pause_deployment` leaves what is late.
    """
    from prefect import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        found = client.read_deployment_by_name(deployment)
        client.request("POST", "/deployments/{id}/pause_deployment", path_params={"id": found.id})


def _close_what_was_left(root: Path, settings: Settings) -> None:
    """End what a killed cycle left running, as `vigil retrain` does before its own; nothing while somebody is at work."""
    from flows.leftovers import end_what_was_left

    with suppress(LeaseHeldError), lease(root, "schedule"):
        for line in end_what_was_left(root, settings):
            print(line, file=sys.stderr, flush=True)


def _slot(line: str, timezone: str) -> "Schedule":
    """The line as Prefect reads it. Call once its server's address is known: the first import of Prefect settles where it looks."""
    from prefect.schedules import Cron

    try:
        return Cron(line, timezone=timezone)
    except ValueError as problem:
        raise WorkspaceError(
            f"Cannot use the cron line {line!r}. Nothing was scheduled.",
            why=str(problem),
            next_step="Five fields: minute, hour, day, month, weekday, such as `0 3 * * 1`.",
        ) from problem
