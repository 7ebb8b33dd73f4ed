"""Work spread over processes, results in the order of the jobs, whatever a bad file does to a process.

Processes are spawned, never forked (decoders and runtimes hold threads), end when their parent is gone, and are replaced when
one dies: the job that kills a process twice is reported as such, and the others are done.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
AHEAD = 3  # jobs handed out a process: keeps them busy without filling memory with results


def ordered_map(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, crashed: Callable[[Job], Result]) -> Iterator[Result]:
    """`function` of every job, in order. `workers` processes, 0 means one a core; `crashed` makes the result of a job that killed two.

    `function` is a top-level one; what it raises is raised here.
    """
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if not count:
        return
    pool = _pool(count)
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    rest = deque(jobs)
    try:
        while rest or waiting:
            while rest and len(waiting) < AHEAD * count:
                job = rest.popleft()
                waiting.append((job, pool.submit(function, job)))
            job, future = waiting.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                pool.shutdown(wait=False, cancel_futures=True)
                result = _alone(function, job, crashed)
                rest.extendleft(other for other, _ in reversed(waiting))
                waiting.clear()
                pool = _pool(count)
            yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(function: Callable[[Job], Result], job: Job, crashed: Callable[[Job], Result]) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(function, job).result()
        except BrokenProcessPool:
            return crashed(job)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start)


def _start() -> None:
    """One thread a process, and no life after the parent's: a worker waits on a pipe that it holds open itself."""
    import cv2

    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(75)
