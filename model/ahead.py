"""What a step of training is shown, made while the network works on the steps before it."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import cv2
import torch

from model import data, parallel
from model.views import View
from workspace.errors import SettingsError
from workspace.pool import ready

MOST_THREADS = 8  # that make clips: each waits for Python's lock
MOST_PROCESSES = 16
BATCHES_AHEAD = 2  # a process
LITTLE = 0.1  # of a step

Choose = Callable[[int], list[int]]
Make = Callable[[int, list[int], Sequence[int]], list[View]]
Apart = Callable[[list[int], Sequence[int]], list[list[int]]]


def _each(chosen: list[int], slots: Sequence[int]) -> list[list[int]]:
    return [[slot] for slot in slots]


class Ahead:
    """Batches ahead of the network: beside a GPU made in processes of their own, on a CPU in threads.

    A GPU is done with a batch long before one core has forged it, and threads would wait for Python's lock. On a CPU the network's own threads
    wait for one another at every layer, and whoever takes a core from one of them stops them all: there it is one thread, and where a batch is
    made in less than LITTLE of a step, all threads together between two steps.
    `choose` gives the positions of a step's batch and is asked in rising order; `make` what is shown in some of its slots, whichever are
    asked for together; `apart` which of them share work: such stay with one thread. What comes out does not depend on the clock, nor on the number of
    threads or processes.
    """

    def __init__(self, choose: Choose, make: Make, steps: int, device: torch.device, apart: Apart = _each) -> None:
        cores = max(1, cores_here() // parallel.size())
        if device.type == "cpu":
            self._batches: _InThreads | _InProcesses = _InThreads(choose, make, apart, steps, min(MOST_THREADS, cores))
        else:
            self._batches = _InProcesses(choose, make, steps, max(1, min(MOST_PROCESSES, cores - 1)), device)

    def at(self, step: int) -> tuple[list[int], list[View]]:
        """Positions of the batch of `step`, and what this process shows of it; asked for in rising order. A VigilError of `make` comes out here."""
        return self._batches.at(step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._batches.close()


def cores_here() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _InThreads:
    def __init__(self, choose: Choose, make: Make, apart: Apart, steps: int, count: int) -> None:
        self._choose, self._make, self._apart, self._steps = choose, make, apart, steps
        # a thread that makes clips must not start a team of its own beside the network's
        self._cv2_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # of the whole process
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="clips", initializer=torch.set_num_threads, initargs=(1,))
        self._waiting: dict[int, _Making] = {}
        self._asked, self._seconds = time.monotonic(), 0.0

    def at(self, step: int) -> tuple[list[int], list[View]]:
        since, self._asked = time.monotonic() - self._asked, time.monotonic()
        making = self._waiting.pop(step) if step in self._waiting else self._begin(step, among_all=True)
        if step + 1 < self._steps and self._seconds > LITTLE * since:
            self._waiting[step + 1] = self._begin(step + 1, among_all=False)
        made, self._seconds = dict[int, View](), 0.0
        for slots, part in making.parts:
            views, seconds = part.result()
            made.update(zip(slots, views, strict=True))
            self._seconds += seconds
        return making.chosen, [made[slot] for slot in sorted(made)]

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(torch.get_num_threads())  # this thread's own number, again that of threads to come
        cv2.setNumThreads(self._cv2_threads)

    def _begin(self, step: int, among_all: bool) -> "_Making":
        """All threads take one part after the other until none is left: an equal number of clips each would take one of them half as long again."""
        chosen = self._choose(step)
        mine = parallel.share(len(chosen))
        slots = range(mine.start, mine.stop)
        parts = self._apart(chosen, slots) if among_all else [list(slots)]
        return _Making(chosen, [(part, self._threads.submit(self._timed, step, chosen, part)) for part in parts])

    def _timed(self, step: int, chosen: list[int], slots: list[int]) -> tuple[list[View], float]:
        began = time.monotonic()
        return self._make(step, chosen, slots), time.monotonic() - began


@dataclass(frozen=True, slots=True)
class _Making:
    """The positions of a batch, and what is made in which of its slots."""

    chosen: list[int]
    parts: list[tuple[list[int], "Future[tuple[list[View], float]]"]]


class _InProcesses:
    def __init__(self, choose: Choose, make: Make, steps: int, count: int, device: torch.device) -> None:
        self._choose, self._steps, self._count, self._device = choose, steps, count, device
        self._pool = ready(count, __name__, _begin, make, count)
        self._carrier = ThreadPoolExecutor(1, thread_name_prefix="clips")  # what it pins, a GPU fetches while it works
        self._waiting: deque[tuple[int, list[int], Future[_Batch]]] = deque()
        self._next: int | None = None

    def at(self, step: int) -> tuple[list[int], list[View]]:
        self._next = step if self._next is None else self._next
        try:
            while self._next < self._steps and len(self._waiting) < BATCHES_AHEAD * self._count:
                self._waiting.append(self._begin(self._next))
                self._next += 1
            made_for, chosen, batch = self._waiting.popleft()
            assert made_for == step, f"step {step} was given the batch of {made_for}"
            return chosen, batch.result().views(self._device)
        except BrokenProcessPool as problem:
            raise SettingsError(
                "A process that makes training clips was ended. Finished steps are kept.",
                why="most often the machine's memory ran out, or what a container may share between processes (/dev/shm)",
                next_step="Give the machine more memory, a container more shared memory (`docker run --shm-size 4g`), and run it again.",
            ) from problem

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._carrier.shutdown(wait=False, cancel_futures=True)

    def _begin(self, step: int) -> tuple[int, list[int], "Future[_Batch]"]:
        chosen = self._choose(step)
        mine = parallel.share(len(chosen))
        made = self._pool.submit(_make, step, chosen, range(mine.start, mine.stop))
        return step, chosen, self._carrier.submit(_pinned, made) if self._device.type == "cuda" else made


class _Batch:
    """A batch on its way between processes: two tensors, since each one that is sent holds a file open."""

    def __init__(self, views: list[View]) -> None:
        known = [view.where for view in views if view.where is not None]
        self.frames = torch.cat([view.frames for view in views]) if views else torch.empty(0)
        self.where = torch.cat(known) if known else torch.empty(0)
        self._each = [(len(view.frames), view.where is not None) for view in views]

    def views(self, device: torch.device) -> list[View]:
        """The batch again, on a GPU where there is one."""
        if device.type == "cuda":
            self.frames, self.where = (tensor.to(device, non_blocking=True) for tensor in (self.frames, self.where))
        frames = self.frames.split([length for length, _ in self._each])
        where = iter(self.where.split([length for length, known in self._each if known]))
        return [View(one, next(where) if known else None) for one, (_, known) in zip(frames, self._each, strict=True)]


def _pinned(made: "Future[_Batch]") -> _Batch:
    batch = made.result()
    batch.frames, batch.where = batch.frames.pin_memory(), batch.where.pin_memory()
    return batch


_MAKE: list[Make] = []  # in a process that makes clips, the one it was begun with


def _begin(make: Make, together: int) -> None:
    torch.set_num_threads(1)
    data.together = together
    _MAKE.append(make)


def _make(step: int, chosen: list[int], slots: range) -> _Batch:
    return _Batch(_MAKE[0](step, chosen, slots))
