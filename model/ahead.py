"""What a step of training is shown, made while the network works on the steps before it."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

import cv2
import torch

from model import data, parallel
from model.hardware import cores_here
from model.views import View
from workspace.errors import SettingsError
from workspace.pool import ready

MOST_PROCESSES = 16
BATCHES_AHEAD = 2  # a process

Choose = Callable[[int], list[int]]
Make = Callable[[int, list[int], Sequence[int]], list[View]]


class Ahead:
    """Batches ahead of the network: beside a GPU made in processes of their own, on a CPU in a thread.

    A GPU is done with a batch long before one core has forged it, and threads would wait for Python's lock. On a CPU the network leaves cores idle
    at the end of each layer and where it has but one thing to do: a thread that makes the next batch lives on that, where between two steps all
    would stand still for it. `choose` gives the positions of a step's batch and is asked in rising order; `make` what is shown in some of its slots,
    whichever are asked for together. What comes out does not depend on the clock, nor on the number of processes.
    """

    def __init__(self, choose: Choose, make: Make, steps: int, device: torch.device) -> None:
        if device.type == "cpu":
            self._batches: _InThread | _InProcesses = _InThread(choose, make, steps)
        else:
            cores = max(1, cores_here() // parallel.size())
            self._batches = _InProcesses(choose, make, steps, max(1, min(MOST_PROCESSES, cores - 1)), device)

    def at(self, step: int) -> tuple[list[int], list[View]]:
        """Positions of the batch of `step`, and what this process shows of it; asked for in rising order. A VigilError of `make` comes out here."""
        return self._batches.at(step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._batches.close()


class _InThread:
    """One batch ahead, by one thread."""

    def __init__(self, choose: Choose, make: Make, steps: int) -> None:
        self._choose, self._make, self._steps = choose, make, steps
        # a thread that makes clips must not start a team of its own beside the network's
        self._cv2_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # of the whole process
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clips", initializer=torch.set_num_threads, initargs=(1,))
        self._waiting: dict[int, tuple[list[int], Future[list[View]]]] = {}

    def at(self, step: int) -> tuple[list[int], list[View]]:
        chosen, making = self._waiting.pop(step) if step in self._waiting else self._begin(step)
        if step + 1 < self._steps:
            self._waiting[step + 1] = self._begin(step + 1)
        return chosen, making.result()

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(torch.get_num_threads())  # this thread's own number, again that of threads to come
        cv2.setNumThreads(self._cv2_threads)

    def _begin(self, step: int) -> tuple[list[int], "Future[list[View]]"]:
        chosen = self._choose(step)
        mine = parallel.share(len(chosen))
        return chosen, self._thread.submit(self._make, step, chosen, range(mine.start, mine.stop))


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
