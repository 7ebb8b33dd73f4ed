"""Clips of several files in one run of the network: the same scores, fewer runs."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.inference import ClipScore, Engine

Frames = NDArray[np.uint8]


@dataclass(slots=True)
class _Request:
    engine: Engine
    clips: Sequence[Frames]
    scores: "asyncio.Future[list[ClipScore]]"


class Batcher:
    """Scores clips in one thread; what arrives while it runs goes together into the next run.

    A file that is alone never waits. While others are being opened (`opening` says how many), the next run waits `wait_seconds`
    for them. At most `most_clips` a run; a file with more has runs of its own.
    """

    def __init__(self, most_clips: int, wait_seconds: float, opening: Callable[[], int]) -> None:
        self.most_clips, self.wait_seconds, self.opening = most_clips, wait_seconds, opening
        self.runs = 0
        self._waiting: list[_Request] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def score(self, engine: Engine, clips: Sequence[Frames]) -> list[ClipScore]:
        """Scores of the clips, in their order."""
        request = _Request(engine, clips, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._arrived.set()
        return await request.scores

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if self.opening() > 0 and self._clips() < self.most_clips and self.wait_seconds > 0:
                await asyncio.sleep(self.wait_seconds)
            batch = self._take()
            if not self._waiting:
                self._arrived.clear()
            clips = [clip for request in batch for clip in request.clips]
            self.runs += 1
            try:
                scores = await loop.run_in_executor(self._thread, batch[0].engine.score_clips, clips)
            except Exception as problem:
                for request in batch:
                    if not request.scores.done():
                        request.scores.set_exception(problem)
                continue
            start = 0
            for request in batch:
                with contextlib.suppress(asyncio.InvalidStateError):  # who asked has gone
                    request.scores.set_result(scores[start : start + len(request.clips)])
                start += len(request.clips)

    def close(self) -> None:
        """End the thread once its run is over."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _clips(self) -> int:
        return sum(len(request.clips) for request in self._waiting)

    def _take(self) -> list[_Request]:
        """The first request and those after it for the same model, as many as fit."""
        batch, count, left = [self._waiting[0]], len(self._waiting[0].clips), []
        for request in self._waiting[1:]:
            if request.engine is batch[0].engine and count + len(request.clips) <= self.most_clips:
                batch.append(request)
                count += len(request.clips)
            else:
                left.append(request)
        self._waiting = left
        return batch
