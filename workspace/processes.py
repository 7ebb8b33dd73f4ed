"""Processes that belong together: a stage ends with its parent, leftovers of a killed parent are found, a stage runs once.

Killing DVC leaves its stage running, and a rerun starts a second one beside it. So a flow gives its children two
environment variables: VIGIL_WORKSPACE (the folder) and VIGIL_PARENT (`pid:create_time` of the flow; of the stage, for
processes that train together). A stage watches its parent; the next flow ends whoever could not.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from workspace.lease import Holder, hold_lock

if TYPE_CHECKING:
    import psutil

PARENT_GONE = 75  # EX_TEMPFAIL of sysexits.h: run it again
POLL_SECONDS = 0.5
GRACE_SECONDS = 3.0
PAUSE_SECONDS = 2.0
TOKEN = re.compile(r"\d+:\d+(\.\d+)?")
CLOCK_SECONDS = 2.0  # psutil derives create_time from the wall clock, which may be adjusted a little


@contextmanager
def deaf_to(*numbers: signal.Signals) -> Iterator[None]:
    """Children that are begun inside never hear these signals: a child inherits the mask, and keeps it. This process hears them once the block ends.

    The mask is this thread's alone, and Ctrl-C reaches the process: any thread that does not block it takes it, one of torch or numpy too, and Python then
    raises in the main thread. So there it is held back by a handler of ours as well.
    """
    held: list[int] = []

    def hold(number: int, _: object) -> None:
        held.append(number)

    here = numbers if threading.current_thread() is threading.main_thread() else ()  # Python sets handlers nowhere else
    heard = {number: handler for number in here if callable(handler := signal.getsignal(number))}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        for number in heard:
            signal.signal(number, hold)
        yield
    finally:
        try:
            for number, handler in heard.items():
                if signal.getsignal(number) is hold:  # not one that was set inside
                    signal.signal(number, handler)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for taken in sorted(set(held)):
            signal.raise_signal(taken)


def parent_token() -> str:
    """This process as its children should know it: the value of VIGIL_PARENT."""
    import psutil

    me = psutil.Process()
    return f"{me.pid}:{me.create_time()}"


def find_process(token: str) -> "psutil.Process | None":
    """The living process that a `pid:create_time` token names; None when it is gone, a zombie, or its number is used anew.

    Raises ValueError when `token` is not of that form.
    """
    import psutil

    if not TOKEN.fullmatch(token):
        raise ValueError(f"{token!r} is not of the form pid:create_time")
    pid, created = token.split(":")
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(created)) <= CLOCK_SECONDS
        return process if same and _lives(process) else None
    except psutil.NoSuchProcess:
        return None


def find_ancestor(process: "psutil.Process", token: str) -> "psutil.Process | None":
    """The ancestor of `process` that a `pid:create_time` token names; None when it is not among them, or no longer.

    Its number is enough: an ancestor is the right one whatever a clock that was set meanwhile says of its age.
    """
    return next((found for found in process.parents() if str(found.pid) == token.split(":")[0]), None)


def is_orphan(process: "psutil.Process", token: str) -> bool:
    """Whether a `pid:create_time` token names none of the ancestors of `process`. One that is malformed makes no orphan."""
    return bool(TOKEN.fullmatch(token)) and find_ancestor(process, token) is None


def _lives(process: "psutil.Process") -> bool:
    """Whether a process runs. A zombie does not: in a container nobody may ever collect it."""
    import psutil

    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_parent_watchdog(parent: str) -> threading.Thread:
    """Watch the process `parent` (`pid:create_time`) from a daemon thread: when it is gone, end our children and ourselves with code 75.

    A parent that is gone already ends us at the first look. Raises ValueError when `parent` is malformed.
    """
    import psutil

    watched = find_process(parent) or find_ancestor(psutil.Process(), parent)
    thread = threading.Thread(target=_watch, args=(watched,), name="parent-watchdog", daemon=True)
    thread.start()
    return thread


def _watch(watched: "psutil.Process | None") -> None:
    while watched is not None and _lives(watched):  # is_running compares start times since boot: safe from clock changes
        time.sleep(POLL_SECONDS)
    _end_family(PARENT_GONE)


def start_deadline(seconds: float, last_word: Callable[[], object]) -> threading.Timer:
    """End this process, its children first, with code 1 after so many seconds, whatever it is doing then; `last_word` is called before."""

    def end() -> None:
        try:
            last_word()
        finally:
            _end_family(1)

    timer = threading.Timer(seconds, end)
    timer.name, timer.daemon = "deadline", True
    timer.start()
    return timer


def _end_family(code: int) -> None:
    """End our children, then ourselves at once."""
    try:
        import psutil

        while children := [child for child in psutil.Process().children(recursive=True) if _lives(child)]:  # one may be starting another
            end_processes(children)
    finally:
        os._exit(code)


def end_processes(processes: "list[psutil.Process]") -> None:
    """Ask each process to end, then kill those that live after GRACE_SECONDS. Only by identity: a number used anew is left alone."""
    import psutil

    for process in processes:
        _signal(process, "terminate")
    _, stubborn = psutil.wait_procs(processes, timeout=GRACE_SECONDS)
    for process in stubborn:
        _signal(process, "kill")
    psutil.wait_procs(stubborn, timeout=GRACE_SECONDS)


def end_with_children(pid: int) -> None:
    """End a child of this process and all that it started, as `end_processes`."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        end_processes([process, *_children(process)])


def _signal(process: "psutil.Process", action: str) -> None:
    import psutil

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        getattr(process, action)()


def end_own_stages(pause_seconds: float = PAUSE_SECONDS) -> None:
    """End the stages of this process, which was told to pause: SIGTERM may have been sent to it alone. One that was told too has so long to end."""
    import psutil

    own = [process for process in psutil.Process().children(recursive=True) if _is_stage(process)]
    _, working = psutil.wait_procs(own, timeout=pause_seconds)
    end_processes([*working, *(child for process in working for child in _children(process))])


def _is_stage(process: "psutil.Process") -> bool:
    import psutil

    try:
        return any("pipelines." in word for word in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _children(process: "psutil.Process") -> "list[psutil.Process]":
    import psutil

    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def end_orphans(root: Path) -> list[str]:
    """End what killed flows left running in the workspace at `root` (see find_orphans); returns one line a process that was ended."""
    orphans = find_orphans(root)
    told = [describe(process) for process in orphans]
    end_processes(orphans)
    return told


def find_orphans(root: Path) -> "list[psutil.Process]":
    """What killed flows left running in the workspace at `root`, with its children.

    An orphan has VIGIL_WORKSPACE set to `root` and a VIGIL_PARENT that is dead or no longer among its ancestors (the
    process between was killed). Processes without both variables, of other workspaces or of other users are never touched, nor are we.
    """
    import psutil

    workspace = str(Path(root).resolve())
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    orphans: dict[int, psutil.Process] = {}
    for pid in psutil.pids():  # not process_iter: it keeps what it saw before, and a number used anew is missed by it
        if pid in spared:
            continue
        try:
            process = psutil.Process(pid)
            environment = process.environ()
            if environment.get("VIGIL_WORKSPACE") != workspace or not is_orphan(process, environment.get("VIGIL_PARENT", "")):
                continue
            for found in (process, *process.children(recursive=True)):
                if found.pid not in spared and _lives(found):
                    orphans.setdefault(found.pid, found)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return list(orphans.values())


def describe(process: "psutil.Process") -> str:
    """Number and command line of a process, for a person."""
    import psutil

    try:
        command = " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        command = "?"
    return f"process {process.pid}: {command[:120]}"


@contextmanager
def stage_lock(root: Path, name: str, wait_seconds: float = 30.0) -> Iterator[Holder]:
    """Hold the lock of a stage (`train`, `faces@b1`) for its whole life. Raises LeaseHeldError, naming the holder, after `wait_seconds`.

    The wait covers a stage whose parent was killed and which is about to notice.
    """
    safe = re.sub(r"[^\w@.-]", "_", name)
    with hold_lock(
        Path(root).resolve() / ".vigil" / "locks" / f"{safe}.lock", f"stage {name}", wait_seconds, what=f"Stage {name} already runs. Nothing was changed."
    ) as holder:
        yield holder


@cache
def without_network(with_its_children: bool = False) -> tuple[str, ...]:
    """Words that start a program without a network, where the system lets an ordinary user do that; else none.

    `with_its_children`: whatever the program starts ends with it, a child that left its group too.
    """
    words = ("unshare", "--user", "--map-root-user", "--net", *(("--pid", "--fork", "--kill-child") if with_its_children else ()))
    if shutil.which("unshare") is None:
        return ()
    return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else ()
