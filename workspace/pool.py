"""Work spread over processes, results in the order of the jobs, whatever a bad file does to a process.

Processes are spawned, never forked from a working one (decoders and runtimes hold threads), end when their parent is gone, and are
replaced when one dies: the job that kills a process twice is reported as such, and the others are done.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from typing import TypeVar

from workspace.errors import SettingsError
from workspace.processes import deaf_to

Job = TypeVar("Job")
Result = TypeVar("Result")
WORKERS = "VIGIL_WORKERS"
AHEAD = 3  # jobs handed out a process: keeps them busy without filling memory with results
_SCRIPT = threading.Lock()  # held while this process's script is hidden: two threads that hide it would each put back what the other left


def ordered_map(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, crashed: Callable[[Job], Result]) -> Iterator[Result]:
    """`function` of every job, in order. `workers` processes, 0 means one a core; `crashed` makes the result of a job that killed two.

    What VIGIL_WORKERS in the environment says of this machine comes first; raises SettingsError where that is no number of processes.
    `function` is a top-level one; what it raises is raised here.
    """
    count = min(workers_here(workers), len(jobs))
    if not count:
        return
    pool = _pool(count)
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    rest = deque(jobs)
    try:
        while rest or waiting:
            while rest and len(waiting) < AHEAD * count:
                try:
                    waiting.append((rest[0], _submit(pool, function, rest[0])))
                except BrokenProcessPool:  # one died since; whose job it was is told by the results
                    break
                rest.popleft()
            if not waiting:
                pool = _pool(count)
                continue
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


def workers_here(wanted: int = 0) -> int:
    """How many share the work on this machine: what VIGIL_WORKERS says, else as many as `wanted`, 0 for one a core. Raises SettingsError for no number."""
    said = os.environ.get(WORKERS, "").strip()
    if not said:
        return wanted or os.cpu_count() or 1
    if not (said.isascii() and said.isdigit() and int(said)):
        step = f"Set it to 1 or more, or unset it: faces.workers of params.yaml then says how many, 0 one a core ({os.cpu_count()} here)."
        raise SettingsError(f"{WORKERS} is {said!r}. Nothing was begun.", why="it says how many processes share the work on this machine", next_step=step)
    return int(said)


def _alone(function: Callable[[Job], Result], job: Job, crashed: Callable[[Job], Result]) -> Result:
    with _pool(1) as pool:
        try:
            return _submit(pool, function, job).result()
        except BrokenProcessPool:
            return crashed(job)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start)


def _submit(pool: ProcessPoolExecutor, function: Callable[[Job], Result], job: Job) -> "Future[Result]":
    """Hand out a job, which Ctrl-C cuts short. A process that is begun for it hears none beside its jobs: it would print where its start was met."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # such as in a job that a script put into the background
    with deaf_to(signal.SIGINT), _without_script(function):  # Python's own start is no place for it either
        return pool.submit(function if ignored else partial(_hearing, function), job)


@contextmanager
def _without_script(function: Callable[..., object]) -> Iterator[None]:
    """Processes that are begun inside do not load the script of this one first, unless `function` is its own, as in a stage.

    Spawned ones do, to find what it defines: a script without `if __name__ == "__main__"` did all its work once more in each.
    """
    if getattr(function, "func", function).__module__ == "__main__":
        yield
        return
    script = vars(sys.modules["__main__"])
    with _SCRIPT:
        names: dict[str, object] = {name: script[name] for name in ("__file__", "__spec__") if name in script}  # what a process to be spawned is told of it
        script.update(dict.fromkeys(names))
        try:
            yield
        finally:
            script.update(names)


def _hearing(function: Callable[[Job], Result], job: Job) -> Result:
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # one that met the start is heard now
        return function(job)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def ready(workers: int, module: str, begin: Callable[..., object], *given: object) -> ProcessPoolExecutor:
    """So many processes that have loaded `module` and called `begin(*given)`, and leave Ctrl-C to their parent.

    Loaded once, in a process that does nothing else, from which they are forked: torch alone takes each of them seconds to load.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=partial(_ready, begin, given))


def _ready(begin: Callable[..., object], given: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _start()
    begin(*given)


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
