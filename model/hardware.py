"""Where tensors are worked on: this process's GPU where there is one, else the CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from workspace.errors import SettingsError

OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # what torch says of the machine's own memory, in a RuntimeError


def best_device() -> torch.device:
    """The GPU that torchrun gave this process (LOCAL_RANK), the first one outside torchrun, or the CPU. Raises SettingsError for one too old for this torch."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0"))
    major, minor = torch.cuda.get_device_capability(number)
    oldest = min((int("".join(filter(str.isdigit, name))) for name in torch.cuda.get_arch_list() if name.startswith("sm_")), default=0)
    if 10 * major + minor < oldest:
        why = f"{torch.cuda.get_device_name(number)} has capability {major}.{minor}, this torch needs {oldest // 10}.{oldest % 10}"
        raise SettingsError("The GPU is too old for this torch.", why=why, next_step="Run on the CPU: `CUDA_VISIBLE_DEVICES= ` before the command.")
    return torch.device("cuda", number)


def cores_here() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def in_memory(what: str, next_step: str) -> Iterator[None]:
    """Where memory, the GPU's or the machine's own, does not suffice for what is done within, a SettingsError with `next_step` in place of a crash.

    Of a GPU `next_step` goes on with how to do without it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as problem:
        of_gpu = isinstance(problem, torch.OutOfMemoryError)
        if not of_gpu and not isinstance(problem, MemoryError) and OUT_OF_MEMORY not in str(problem):
            raise
        why = (str(problem).strip() or "not enough memory").splitlines()[0].split(" If reserved but unallocated")[0]
        who, more = ("GPU", "uses the GPU; `CUDA_VISIBLE_DEVICES= vigil retrain` works on the CPU.") if of_gpu else ("machine", "runs on it.")
        raise SettingsError(f"The {who} has not enough memory for {what}.", why=why[:300], next_step=f"{next_step} what else {more}") from problem


def describe_device() -> str:
    """In words, where learning and attacks run on this machine, and why not on a GPU."""
    if not torch.cuda.is_available():
        return "the CPU: " + ("this torch is built without CUDA" if torch.version.cuda is None else f"no GPU that CUDA {torch.version.cuda} can use")
    about = torch.cuda.get_device_properties(0)
    more = f", {torch.cuda.device_count()} of them" if torch.cuda.device_count() > 1 else ""
    return f"{about.name}, {about.total_memory / 2**30:.0f} GiB, capability {about.major}.{about.minor}{more}"
