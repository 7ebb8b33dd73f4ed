"""The worker: claims jobs, has their files opened, runs the network over the clips of several at once, writes verdicts. No torch.

    python -P -m feedback.work.worker --workspace ROOT --name NAME [--model-dir DIR]

Started by feedback/work/supervisor.py. The first line on stdin is the service's settings (feedback/handed.py). A further one means that
something was accepted; the end of stdin means that the service is gone, and so is the worker. On stdout it says, a JSON line each, which
model answers ({"model": ...}) and how jobs go on ({"id", "state", "progress"}). The database is the truth: a line that is lost costs a
moment, nothing else. A job keeps the model that it began with; on SIGTERM, and while the store of the media or the database does not
answer, jobs go back to the queue.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from feedback.cases import Cases
from feedback.database import Database
from feedback.detections import Detections
from feedback.forever import TROUBLE_SECONDS, forever
from feedback.handed import handed_settings
from feedback.keep import MediaMissing, MediaStore, StoreSilent, derived_name
from feedback.log import start_log
from feedback.policies import Bound
from feedback.secret import load_secret
from feedback.serving import Served, Serving
from feedback.webhooks import Webhooks
from feedback.wording import PROBLEMS
from feedback.work.batching import Batcher
from feedback.work.decoding import ChildFailed, ChildKilled, Decoders, Opened
from feedback.work.judging import answer_of, bound_of, case_reason, faces_of, no_verdict
from model.inference import most_telling
from workspace.errors import DatabaseDamaged, DatabaseSilent, VigilError
from workspace.files import is_no_room, sha256_bytes
from workspace.quiet import set_quiet_environment
from workspace.settings import Settings

LOG = logging.getLogger("vigil.work")
POLL_SECONDS = 1.0
OPENED, SCORED = 0.6, 0.9  # how far a job is
SHOWN_FRAMES = 30  # of the clip that speaks most, kept for the timeline
KILLED = (
    "the process that opened it was ended from outside {attempts} times (signal {number}), as where the machine is short of memory: whether anything is wrong "
    "with the file is not known"
)


class Worker:
    """One worker process."""

    def __init__(self, root: Path, settings: Settings, name: str, model_dir: Path | None) -> None:
        self.root, self.settings, self.name = root, settings, name
        secret = load_secret(root)
        database = Database(root, settings)
        self.media = MediaStore(root, settings)
        cases = Cases(database, settings.feedback, secret.key("cases"))
        self.detections = Detections(database, self.media, cases, Webhooks(database, secret, settings.feedback), settings.feedback)
        self.database, self.audit_key = database, secret.key("audit draw")
        self.serving = Serving(root, settings, model_dir)
        limits = settings.feedback.workers
        self.decoders = Decoders(limits)
        self.opening = 0
        self.batcher = Batcher(limits.batch_clips, limits.batch_wait_ms / 1000, lambda: self.opening)
        self.progress: dict[str, float] = {}
        self.told: dict[str, float] = {}  # the progress with which leases were last renewed
        self.told_at = 0.0  # by the loop's clock
        self.resting_until = 0.0  # by the loop's clock: nothing is claimed while the store of the media does not answer
        self.failed: BaseException | None = None
        self.woken, self.stopping = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Work until stdin ends or SIGTERM comes. Raises what ended a part of it, which ends the whole."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        await asyncio.to_thread(self.detections.drop_lease, self.name)  # of one of this name that died
        parts = (self.serving.watch(), self._tell_model(), self._listen(), forever("renewing leases", self._renew), self.batcher.run(), self._claim())
        tasks = [asyncio.create_task(part) for part in parts]
        for task in tasks:
            task.add_done_callback(self._ended)
        tasks.append(asyncio.create_task(self.decoders.start()))  # ahead of the first file; where it fails, that file starts one
        try:
            await self.stopping.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self.detections.give_back, self.name)
            await self.decoders.stop()
            self.batcher.close()
            self.database.close()
        if self.failed is not None:
            raise self.failed

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A part that failed takes the whole process along: half a worker looks alive and works no more, a dead one is started again."""
        if not task.cancelled() and (problem := task.exception()) is not None:
            LOG.error("a part of the worker failed, so it ends: %r", problem)
            self.failed = problem
            self.stopping.set()

    async def _claim(self) -> None:
        await self.serving.tried.wait()
        room = asyncio.Semaphore(self.settings.feedback.workers.decoders + 2)  # files open or being scored; the others stay in the queue
        jobs: set[asyncio.Task[None]] = set()

        async def claim() -> float:
            await room.acquire()
            row = None
            try:
                if self.serving.current is not None and asyncio.get_running_loop().time() >= self.resting_until:
                    row = await asyncio.to_thread(self.detections.claim, self.name, set(self.progress))
            finally:
                if row is None:
                    room.release()
            if row is None:
                self.woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):  # not wait_for, which may swallow a cancellation: this goes on until one
                        await self.woken.wait()
                return 0.0
            job = asyncio.create_task(self._job(row, self.serving.current))
            jobs.add(job)
            job.add_done_callback(lambda done: (jobs.discard(done), room.release(), self.woken.set()))  # type: ignore[func-returns-value]
            return 0.0

        try:
            await forever("claiming uploads", claim)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _job(self, row: dict[str, Any], served: Served | None) -> None:
        assert served is not None  # nothing is claimed without a model
        detection_id = row["id"]
        self._at(detection_id, 0.05)
        try:
            bound = bound_of(self.settings.feedback, row["policy"], row["mode"], served.engine.card)
            answer = await self._judge(row, served, bound)
            fraction = self.settings.feedback.queue.audit_fraction
            answer["case_reason"] = case_reason(row["sha256"], answer, self.audit_key, fraction)
            answer["audit_fraction"] = fraction
            done = await asyncio.to_thread(self.detections.finish, detection_id, self.name, answer)
            if done is not None:
                _say({"id": detection_id, "state": "done", "progress": 1.0, "verdict": done["verdict"]})
        except asyncio.CancelledError:
            raise
        except Exception as problem:
            await self._put_down(detection_id, problem)
        finally:
            self.progress.pop(detection_id, None)

    async def _put_down(self, detection_id: str, problem: Exception) -> None:
        """End a job that failed: as if it had never been claimed where nothing about its file did, else the lease ends, another attempt follows, and after
        the last one the file says so. While the database does not answer the job stays with this worker."""
        silent = problem if isinstance(problem, StoreSilent | DatabaseSilent) else None
        why = f"{silent.what} {silent.why}" if silent else f"there is no room on the disk: {problem}" if is_no_room(problem) else ""
        if why:
            LOG.warning("detection %s goes back to the queue: %s", detection_id, why)
        elif not isinstance(problem, ChildKilled):  # that was told as it came
            LOG.error("detection %s: %r", detection_id, problem)
        put_down = self.detections.give_back if why else self.detections.let_go
        while True:
            if why:
                self.resting_until = asyncio.get_running_loop().time() + TROUBLE_SECONDS
            try:
                await asyncio.to_thread(put_down, self.name, detection_id)
                return
            except DatabaseSilent:
                await asyncio.sleep(TROUBLE_SECONDS)
            except (SQLAlchemyError, DatabaseDamaged) as failed:  # the lease ends by itself
                LOG.error("detection %s could not be put down: %r", detection_id, failed)
                return

    async def _judge(self, row: dict[str, Any], served: Served, bound: Bound) -> dict[str, Any]:
        card, model = served.engine.card, served.describe()
        try:
            with contextlib.ExitStack() as borrowed:
                path = await asyncio.to_thread(borrowed.enter_context, self.media.local(row["sha256"]))
                self.opening += 1
                try:
                    opened = await self.decoders.open(path, faces_of(card, bound.mode))
                finally:
                    self.opening -= 1
        except MediaMissing as problem:
            return no_verdict(f"{problem.what} {problem.why}", model, bound)
        except ChildKilled as problem:  # it counts as where the worker itself is killed: the next attempt is alone, and there are so many
            most = self.settings.feedback.workers.max_attempts
            LOG.warning("detection %s, attempt %d of %d: %s", row["id"], row["attempts"], most, problem)
            if row["attempts"] < most:
                raise
            return no_verdict(KILLED.format(attempts=row["attempts"], number=problem.number), model, bound)
        except ChildFailed as problem:
            return no_verdict(str(problem), model, bound)
        self._at(row["id"], OPENED)
        found = opened.extraction
        scores = await self.batcher.score(served.engine, [clip.frames for clip in found.clips]) if found.clips else []
        self._at(row["id"], SCORED)
        said = served.engine.judge(found, "", scores, bound.threshold, bound.abstain)
        answer = answer_of(replace(said, learned=await asyncio.to_thread(served.engine.learned_of, found)), scores, bound, model)
        shown = found.clips[most_telling(said)].frames if said.p_fake is not None else None
        answer["pictures"], answer["digests"] = await asyncio.to_thread(self._keep_pictures, row, opened, shown)
        return answer

    def _keep_pictures(self, row: dict[str, Any], opened: Opened, shown: NDArray[np.uint8] | None) -> tuple[dict[str, Any], dict[str, str]]:
        """Write thumbnail, preview and face frames, unless the upload was erased or given to another meanwhile; what there is, and the digest of each file."""
        made: dict[str, bytes] = {}
        if opened.picture is not None:
            made["picture.webp"] = webp(opened.picture)
        picks: list[int] = []
        if shown is not None:
            picks = sorted({round(float(place)) for place in np.linspace(0, len(shown) - 1, min(SHOWN_FRAMES, len(shown)))})
            made["thumbnail.webp"] = webp(shown[len(shown) // 2])
            made |= {f"face-{number}.webp": webp(shown[place]) for number, place in enumerate(picks)}
        elif opened.picture is not None:
            made["thumbnail.webp"] = made["picture.webp"]
        kinds = {"thumbnail": "thumbnail.webp" in made, "picture": "picture.webp" in made, "faces": len(picks)}
        made = {derived_name(row["id"], name): content for name, content in made.items()}
        with self.database.write() as connection:  # nothing is erased while this lock is held, and what is erased later takes the folder along
            if made and self.detections.held(connection, row["id"], self.name) is not None:
                folder = self.media.make_derived(row["sha256"])
                for name, content in made.items():
                    part = folder / f".{name}.{os.getpid()}.part"
                    part.write_bytes(content)
                    os.replace(part, folder / name)
        return kinds, {name: sha256_bytes(content) for name, content in made.items()}

    async def _tell_model(self) -> None:
        told: Any = None
        await self.serving.tried.wait()
        while True:
            current, problems = self.serving.current, {name: getattr(self.serving, name) for name in PROBLEMS}
            now = (None if current is None else current.model_sha256, current and current.cycle, problems, self.serving.why)
            if now != told:
                told = now
                model = None if current is None else current.describe()
                _say({"model": model, "why": self.serving.why, "next_step": self.serving.next_step, **problems})
                self.woken.set()
            await asyncio.sleep(0.05 if current is None else 0.2)

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while await reader.readline():
            self.woken.set()
        self.stopping.set()

    async def _renew(self) -> float:
        lease, moment = self.settings.feedback.workers.lease_seconds, asyncio.get_running_loop().time()
        if self.progress and (self.progress != self.told or moment > self.told_at + lease / 3):
            told = dict(self.progress)
            await asyncio.to_thread(self.detections.renew, self.name, told)
            self.told, self.told_at = told, moment
        return min(1.0, lease / 4)

    def _at(self, detection_id: str, progress: float) -> None:
        self.progress[detection_id] = progress
        _say({"id": detection_id, "state": "running", "progress": progress})


def webp(picture: NDArray[np.uint8]) -> bytes:
    """RGB as WebP. Raises ValueError where it cannot be encoded."""
    import cv2

    ok, content = cv2.imencode(".webp", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, 90])
    if not ok:
        raise ValueError("a picture could not be encoded")
    return bytes(content)


def _say(message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def main() -> int:
    """The command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m feedback.work.worker", description="Judge what the service has accepted.")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--name", required=True, help="who holds the jobs; one living process a name")
    parser.add_argument("--model-dir", type=Path, help="use this model instead of the champion")
    given = parser.parse_args()
    set_quiet_environment()
    start_log("worker: ")

    async def work() -> None:
        await Worker(given.workspace.resolve(), handed_settings(), given.name, given.model_dir).run()

    try:
        asyncio.run(work())
    except VigilError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
