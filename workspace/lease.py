"""One writer: a lease on the workspace that names its holder, and the lock file it is built on.

The lease is an operating-system lock (flock), so it ends with the process that holds it, however that ends. Beside the
lock lies a small JSON file that says who holds it; it is for people, the lock decides. Taking the lease twice in one
process is refused like taking it in two. A forked child gives up its copy, so a worker that outlives its parent holds nothing.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from workspace.errors import LeaseHeldError
from workspace.files import write_json
from workspace.revisions import refuse_cut_short

LOOK_SECONDS = 0.1
CYCLE = "retrain"  # the purpose of the lease that a cycle holds
_held: dict[int, str] = {}  # descriptors that this process holds, with the path of the lock
_fork_hook: list[bool] = []


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock. `create_time` is in seconds since 1970, `boot` the kernel's boot id ('' where there is none)."""

    pid: int
    host: str
    boot: str
    create_time: float
    purpose: str
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.purpose}, since {self.started})"


@contextmanager
def lease(root: Path, purpose: str, wait_seconds: float = 0.0, *, decides: bool = True) -> Iterator[Holder]:
    """Hold the right to write to the workspace at `root`.

    Raises LeaseHeldError, naming the holder, when it is taken for longer than `wait_seconds`; WorkspaceError where the journal lacks decisions that
    were committed and something is decided on it (`decides`).
    """
    with hold_lock(_lease_lock(root), purpose, wait_seconds, what="This workspace is being written to. Nothing was changed.") as holder:
        if decides:
            refuse_cut_short(root)
        yield holder


def serving_alone(root: Path, purpose: str, what: str) -> AbstractContextManager[Holder]:
    """Be the one service of the workspace at `root`, or see to it that there is none. Raises LeaseHeldError with `what` and the holder's name."""
    return hold_lock(Path(root).resolve() / ".vigil" / "locks" / "serve.lock", purpose, 0.0, what)


def scheduling_alone(root: Path) -> AbstractContextManager[Holder]:
    """Be the one `vigil schedule` of the workspace at `root`. Raises LeaseHeldError with the holder's name."""
    lock = Path(root).resolve() / ".vigil" / "locks" / "schedule.lock"
    return hold_lock(lock, "schedule", 0.0, "This workspace is scheduled already. Nothing was started.")


def lease_holder(root: Path) -> Holder | None:
    """The living process that holds the lease of `root`, or None. Looks only; raises PermissionError where this user may not."""
    return read_holder(_lease_lock(root))


def cycle_runs(root: Path) -> Holder | None:
    """The living process that runs a cycle at `root`, or None where the lease is free or held for anything else."""
    holder = lease_holder(root)
    return holder if holder and holder.purpose == CYCLE else None


def holds_lease(root: Path) -> bool:
    """Whether this very process holds the lease of `root`."""
    return str(_lease_lock(root)) in _held.values()


def _lease_lock(root: Path) -> Path:
    return Path(root).resolve() / ".vigil" / "lease.lock"


@contextmanager
def hold_lock(lock: Path, purpose: str, wait_seconds: float, what: str) -> Iterator[Holder]:
    """Hold the lock file `lock` (made when missing, never removed) and describe the holder in the `.json` beside it."""
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # in a fresh clone this makes `.vigil`
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + max(wait_seconds, LOOK_SECONDS)  # who only looks (`_is_free`) is gone by then
    holder: Holder | None = None
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LeaseHeldError(
                        what, why=f"held by {_name_holder(lock)}", next_step="Wait until it has finished, or end that process, then run the command again."
                    ) from None
                time.sleep(min(LOOK_SECONDS, max(deadline - time.monotonic(), 0)))
        _drop_on_fork()
        _held[descriptor] = str(lock)
        holder = _this_process(purpose)
        write_json(lock.with_suffix(".json"), asdict(holder))
        try:
            yield holder
        finally:
            if descriptor in _held:  # gone in a forked child: the note is the parent's
                lock.with_suffix(".json").unlink(missing_ok=True)
    finally:
        if _held.pop(descriptor, None) or not holder:  # after a fork the number may already mean another file
            os.close(descriptor)


def read_holder(lock: Path) -> Holder | None:
    """The living process that the file beside `lock` names, or None. A holder on another machine is taken to live while the lock is held.

    Raises PermissionError where this user may not look.
    """
    import psutil

    try:
        holder = Holder(**json.loads(lock.with_suffix(".json").read_text(encoding="utf-8")))
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError):
        return None
    if holder.host != socket.gethostname():
        return None if _is_free(lock) else holder
    if holder.boot != _boot_id():
        return None
    try:
        process = psutil.Process(holder.pid)
        same, lives = abs(process.create_time() - holder.create_time) < 5, process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    # create_time moves with the wall clock, which may have been set since; of a number that is used anew the lock is free
    return holder if lives and (same or not _is_free(lock)) else None


def _is_free(lock: Path) -> bool:
    """Whether nobody holds a lock file; a container that was killed leaves its note to one with another name. Takes it for a moment, with others who look."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _name_holder(lock: Path) -> str:
    for _ in range(10):  # the holder writes its name just after it has the lock
        if holder := read_holder(lock):
            return str(holder)
        time.sleep(LOOK_SECONDS / 2)
    return f"a process that has not given its name (see `fuser {lock}`)"


def _this_process(purpose: str) -> Holder:
    import psutil

    return Holder(os.getpid(), socket.gethostname(), _boot_id(), psutil.Process().create_time(), purpose, datetime.now(UTC).isoformat(timespec="seconds"))


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _drop_on_fork() -> None:
    if not _fork_hook:
        _fork_hook.append(True)
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for descriptor in list(_held):
        del _held[descriptor]
        os.close(descriptor)
