"""One training in several processes (torchrun): each takes its share of every batch, and the gradients are summed.

All processes draw the same batch from the same numbers and stay equal to the bit, so any of them could write the result; the
first does. With batch norm's statistics held still, the summed gradient is that of one process with as many micro-batches, but
for the order in which floats are added; where they move (phase 1), each process normalises by its own share, and the running
statistics are averaged.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.hardware import best_device, cores_here
from model.launcher import BY_SIGNAL
from workspace.errors import Killed, SettingsError, TooLittleData, VigilError
from workspace.files import read_json, write_json
from workspace.processes import deaf_to, end_with_children, parent_token

TOLD = "VIGIL_TOLD"  # names the file in which a process leaves its problem
LOST_SECONDS = 1.0  # torchrun looks at its processes ten times a second
PROBLEMS: dict[str, type[VigilError]] = {"too little data": TooLittleData, "problem": VigilError}  # the first that fits; a cycle treats these two differently
SIGNALS: dict[int, tuple[str, str]] = {  # how it was, and what more to do
    signal.SIGKILL: ("killed (signal 9), most often because memory ran out", " Where memory is short, lower micro_batch first; it then begins anew."),
    signal.SIGTERM: ("told to end (signal 15)", ""),
}


def size() -> int:
    """How many processes train together; 1 outside torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def leads() -> bool:
    """Whether this process writes and speaks for all."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, for as long as the block lasts. Alone where there are none."""
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    device = best_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if together:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield
    if together:  # not where one of them failed: it would wait for the others, who wait for it
        dist.destroy_process_group()


def share(count: int) -> slice:
    """The places of a batch of `count` that are this process's: one block each, as equal as can be."""
    return slice(count * rank() // size(), count * (rank() + 1) // size())


def parts(places: slice, size: int) -> Iterator[slice]:
    """`places` in blocks of `size`, the last one shorter."""
    for start in range(places.start, places.stop, size):
        yield slice(start, min(start + size, places.stop))


def sum_gradients(model: nn.Module) -> None:
    """Sum every gradient over the processes; average batch norm's running statistics."""
    if size() == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    means = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    flat = torch.cat([*(one.reshape(-1) for one in gradients), *(one.reshape(-1) / size() for one in means)])
    dist.all_reduce(flat)
    for tensor, part in zip([*gradients, *means], flat.split([one.numel() for one in [*gradients, *means]]), strict=True):
        tensor.copy_(part.view_as(tensor))


def gathered(mine: Tensor, count: int) -> Tensor:
    """The values [count, ...] of the whole batch, from this process's block of them. No gradient passes."""
    if size() == 1:
        return mine.detach()
    everyone = torch.zeros(count, *mine.shape[1:], dtype=mine.dtype, device=mine.device)
    everyone[share(count)] = mine.detach()
    dist.all_reduce(everyone)
    return everyone


def total(value: float) -> float:
    """The sum of a number over the processes."""
    if size() == 1:
        return value
    number = torch.tensor(value, dtype=torch.float64, device=best_device())
    dist.all_reduce(number)
    return float(number)


def wait() -> None:
    """Until all processes are here."""
    if size() > 1:
        dist.barrier()


@contextmanager
def telling() -> Iterator[None]:
    """Leaves the word of a failure that a person can act on for `launch`, and ends this process with 1, without a trace of calls.

    It ends at once, whatever still runs in it: its GPU would wait for the other processes, who wait for it.
    """
    try:
        yield
    except VigilError as problem:
        kind = next(name for name, known in PROBLEMS.items() if isinstance(problem, known))
        if told := os.environ.get(TOLD):
            write_json(Path(told), {"kind": kind, "what": problem.what, "why": problem.why, "next_step": problem.next_step})
        else:
            print(problem, file=sys.stderr)
        _end()
    except Exception:
        if size() > 1:
            time.sleep(LOST_SECONDS)  # where another one was killed this is its lost connection, and torchrun ends this process before it speaks of that
        traceback.print_exc()
        _end()


def _end() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def launch(module: str, *words: str, processes: int) -> None:
    """Run `python -m module words` in so many processes by torchrun, and wait. Raises VigilError where one of them failed, its own where it was `telling`.

    Killed where a signal ended one; SettingsError where there are GPUs, but fewer than processes. Ctrl-C is this process's alone, which ends the others; in
    their environment VIGIL_PARENT names it, so that they can end with it.
    """
    if torch.cuda.is_available() and processes > (gpus := torch.cuda.device_count()):
        why = f"each needs a GPU of its own, and there are {gpus}"
        raise SettingsError(f"Cannot train in {processes} processes.", why=why, next_step=f"Set `processes` to {gpus} in params.yaml.")
    with tempfile.TemporaryDirectory() as folder:
        torchrun = [sys.executable, "-P", "-m", "model.launcher", "--standalone", "--log-dir", folder]  # else it leaves a folder behind each time
        torchrun += ["--local-addr", "127.0.0.1"]  # not the name of the machine, which need not resolve
        command = [*torchrun, "--nproc-per-node", str(processes), "-m", module, *words]
        told = Path(folder) / "problem.json"
        about = {"PYTHONSAFEPATH": "1", "VIGIL_PARENT": parent_token(), TOLD: str(told)}
        # one machine: nothing need leave it; and torchrun would give each process one thread, however many cores there are
        unless_set = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": str(max(1, cores_here() // processes))}
        running: subprocess.Popen[bytes] | None = None
        try:
            with deaf_to(signal.SIGINT):  # one that it held back strikes as the block ends
                running = subprocess.Popen(command, env={**unless_set, **os.environ, **about})
            code = running.wait()
        except BaseException:
            if running is not None:
                end_with_children(running.pid)
            raise
        problem = read_json(told) if told.is_file() else None
    if problem is not None:
        raise PROBLEMS[problem["kind"]](problem["what"], why=problem["why"], next_step=problem["next_step"])
    if number := -code if code < 0 else max(0, code - BY_SIGNAL):
        how, more = SIGNALS.get(number, (f"ended by signal {number}: {signal.strsignal(number)}", ""))
        next_step = f"Run it again: the phase goes on where it was.{more}"
        raise Killed(f"Training in {processes} processes failed.", why=f"one of them was {how}", next_step=next_step)
    if code:
        raise VigilError(
            f"Training in {processes} processes failed.",
            why="one of them ended with an error; its words are above",
            next_step="Mend what it says; the phase goes on where it was, or begins anew with `processes` set to 1.",
        )
