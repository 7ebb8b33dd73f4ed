"""Starts the worker and the explainer, restarts a worker that dies, passes on what they say. Lives in the API's process."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feedback.forever import forever
from feedback.handed import as_line
from feedback.keep import Hindered, StoreSilent
from feedback.wording import PROBLEMS
from workspace.errors import DatabaseSilent, VigilError, WorkspaceError
from workspace.settings import Settings

LOG = logging.getLogger("vigil.work")
HOUSE = Path(__file__).resolve().parent.parent.parent
RESTART_SECONDS, LONGEST_RESTART_SECONDS = 0.2, 10.0
STOP_SECONDS = 20
EXPLAIN_SECONDS = 180
EXPLAINER_IDLE_SECONDS = 300
LONGEST_LINE = 4 << 20


class Workers:
    """The processes behind one service. All methods belong to one event loop."""

    def __init__(self, root: Path, settings: Settings, model_dir: Path | None, on_change: Callable[[dict[str, Any]], None]) -> None:
        self.root, self.settings, self.model_dir, self.on_change = root, settings, model_dir, on_change
        self.model: dict[str, Any] | None = None
        self.why, self.next_step = "the model is still being loaded", "Ask again in a few seconds."
        self.problems = dict.fromkeys(PROBLEMS, "")
        self.restarts = 0
        self._worker: asyncio.subprocess.Process | None = None
        self._explainer: asyncio.subprocess.Process | None = None
        self._explaining = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._pause = RESTART_SECONDS

    async def start(self) -> None:
        """Start the worker; returns at once, `model` is set once it has answered on its golden clip."""
        self._task = asyncio.create_task(forever("the worker", self._keep_alive))

    async def stop(self) -> None:
        """End the processes; jobs in work go back to the queue."""
        self._stopping = True
        for process in (self._worker, self._explainer):
            await _end(process)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._idle is not None:
            self._idle.cancel()

    def wake(self) -> None:
        """Say that something was accepted. May be called from any thread of the loop's process."""
        worker, task = self._worker, self._task
        if worker is not None and worker.stdin is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is there to be woken
                task.get_loop().call_soon_threadsafe(_nudge, worker.stdin)

    @property
    def pids(self) -> dict[str, int]:
        """The living processes by name."""
        found = {"worker": self._worker, "explainer": self._explainer}
        return {name: process.pid for name, process in found.items() if process is not None and process.returncode is None}

    async def explain(self, detection_id: str) -> dict[str, Any]:
        """The explanation of a verdict, from the explainer. Raises WorkspaceError with its reason, or where it takes too long.

        StoreSilent or DatabaseSilent where one of these did not answer it, Hindered where the machine stood in the way: another try may help.
        """
        async with self._explaining:
            if self._idle is not None:
                self._idle.cancel()
            try:
                async with asyncio.timeout(EXPLAIN_SECONDS):
                    answer = await self._ask_again(detection_id)
            except (TimeoutError, ConnectionError, ValueError) as problem:
                await self._end_explainer()
                why = f"it took longer than {EXPLAIN_SECONDS} s" if isinstance(problem, TimeoutError) else "its process ended"
                raise WorkspaceError("The explanation could not be made.", why=why, next_step="Ask again; the verdict stands without it.") from None
            finally:
                self._idle = asyncio.get_running_loop().call_later(EXPLAINER_IDLE_SECONDS, self._let_go)
        if "error" in answer:
            raise refusal(answer)
        return dict(answer["explanation"])

    # -- inside -----------------------------------------------------------------------------------------------------------------
    async def _keep_alive(self) -> float:
        """Start a worker and listen to it to its end; seconds until the next one."""
        if self._stopping:
            return LONGEST_RESTART_SECONDS
        started, self._worker = asyncio.get_running_loop().time(), None
        try:
            self._worker = await self._spawn("feedback.work.worker", "--name", worker_name(self.root))
            assert self._worker.stdout is not None
            while line := await self._worker.stdout.readline():
                with contextlib.suppress(ValueError):
                    self._said(json.loads(line))
        finally:
            await _end(self._worker)  # it has ended already, unless what it said could not be read
            code = "none" if self._worker is None else self._worker.returncode
            self.model, self.why, self.next_step = None, f"the worker ended (code {code}) and is being started again", "Ask again in a few seconds."
        if not self._stopping:
            self.restarts += 1
            LOG.error("the worker ended with code %s; starting another", code)
        long_lived = asyncio.get_running_loop().time() - started > 30
        self._pause = RESTART_SECONDS if long_lived else min(self._pause * 2, LONGEST_RESTART_SECONDS)
        return self._pause

    def _said(self, message: dict[str, Any]) -> None:
        if "model" in message:
            self.model, self.problems = message["model"], {name: message.get(name, "") for name in self.problems}
            self.why, self.next_step = message.get("why", ""), message.get("next_step", "")
        self.on_change(message)

    async def _ask_again(self, detection_id: str) -> dict[str, Any]:
        """The answer; where the process died, perhaps long before this question, that of another one."""
        try:
            return await self._ask(detection_id)
        except ConnectionError:
            await self._end_explainer()
            return await self._ask(detection_id)

    async def _end_explainer(self) -> None:
        await _end(self._explainer)
        self._explainer = None

    async def _ask(self, detection_id: str) -> dict[str, Any]:
        if self._explainer is None or self._explainer.returncode is not None:
            self._explainer = await self._spawn("feedback.work.explainer")
        stdin, stdout = self._explainer.stdin, self._explainer.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"id": detection_id}).encode() + b"\n")
        await stdin.drain()
        while line := await stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == detection_id:
                return answer
        raise ConnectionError("the explainer ended")

    async def _spawn(self, module: str, *more: str) -> asyncio.subprocess.Process:
        words = ["-P", "-m", module, "--workspace", str(self.root), *more]
        if self.model_dir is not None:
            words += ["--model-dir", str(self.model_dir)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HOUSE), os.environ.get("PYTHONPATH", "")]))}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(  # Ctrl-C, which a terminal sends to all of a session, is for the service alone: it ends them
            sys.executable, *words, stdin=pipe, stdout=pipe, env=environment, limit=LONGEST_LINE, start_new_session=True
        )
        assert process.stdin is not None
        process.stdin.write(as_line(self.settings))  # not params.yaml as it is by now: one service, one set of settings
        return process

    def _let_go(self) -> None:
        if self._explainer is not None and not self._explaining.locked() and self._explainer.stdin is not None:
            self._explainer.stdin.close()  # it ends by itself


def refusal(answer: dict[str, Any]) -> VigilError:
    """What an `error` of the explainer is to who asked: final, or where something was silent one to ask again about, as for every other request."""
    what, again = "The explanation could not be made.", "Ask again; the verdict stands without it."
    for kind in (StoreSilent, DatabaseSilent, Hindered):
        if answer.get("silent") == kind.__name__:
            return kind(what, why=answer["error"], next_step=again)
    return WorkspaceError(what, why=answer["error"], next_step="The verdict stands without it.")


def worker_name(root: Path) -> str:
    """Who holds a job: the same name after a restart, so that the next one takes over at once what the last one left."""
    return f"{socket.gethostname()}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def _nudge(stdin: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        stdin.write(b"\n")


async def _end(process: asyncio.subprocess.Process | None) -> None:
    if process is None or process.returncode is not None:
        return
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_SECONDS):  # not wait_for: of Python 3.11, it swallows a cancellation that comes as the process ends
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
