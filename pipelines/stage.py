"""The frame round every stage: one lock, one parent, progress with time left, and a word about how it ended.

DVC starts a stage as `python -P -m pipelines.<stage>`. The stage holds its lock for its whole life and ends when the
process that asked for it is gone: DVC killed alone leaves its stage running, and a rerun would start a second one.
"""

import argparse
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workspace.errors import TooLittleData, VigilError, in_one_line
from workspace.last_word import LastWord
from workspace.quiet import set_quiet_environment

PAUSED, FAILED = 130, 1
ENDING_SECONDS = 60.0  # children that were killed are gone long before, but for one that a hung disk or GPU holds
PER_BATCH = ("faces", "validate", "forge")


class Progress:
    """Prints how far a long piece of work is, with the time left: at most one line in `every_seconds`. A lower count begins another piece."""

    interrupted = False  # of this process: the import of a library may swallow the first one

    def __init__(self, name: str, every_seconds: float = 5.0, begun: int = 0) -> None:
        """`begun`: how much was finished by an earlier process, which says nothing of this one's pace."""
        self.name, self.every_seconds = name, every_seconds
        self.started = self.spoken = time.monotonic()
        self.done = self.begun = begun
        self.live = sys.stderr.isatty()

    @classmethod
    def heed_interruption(cls) -> None:
        """Raises KeyboardInterrupt in a stage that Ctrl-C met."""
        if cls.interrupted:
            raise KeyboardInterrupt

    def __call__(self, done: int, total: int, message: str = "") -> None:
        """Tell that `done` of `total` are finished."""
        self.heed_interruption()
        now = time.monotonic()
        if done < self.done:
            self.started, self.begun = now, 0
        self.done = done
        if now - self.spoken < (0.2 if self.live else self.every_seconds) and done < total:
            return
        self.spoken = now
        passed = now - self.started
        left = passed / (done - self.begun) * (total - done) if done > self.begun else 0.0
        bar = "#" * (20 * done // total if total else 20)
        line = f"  {self.name:<9} [{bar:<20}] {done}/{total}  {passed:.0f} s, {left:.0f} s left  {message}"
        end = "\n" if not self.live or done >= total else ""
        print(("\r\033[K" if self.live else "") + line, end=end, file=sys.stderr, flush=True)


def stage_main(name: str, run: Callable[..., dict[str, Any]]) -> None:
    """Run a stage in the current folder as a process of its own and exit with its code.

    0 done; 1 a failure whose text is left as its last word, and printed where no flow reads that; 130 paused by Ctrl-C (finished work is kept). Ctrl-C after
    the work is done, or that a library's code swallowed, changes nothing here: the word it leaves tells the flow to pause before the next stage.
    """
    set_quiet_environment()
    parser = argparse.ArgumentParser(prog=f"pipelines.{name}")
    if name in PER_BATCH:
        parser.add_argument("--batch", required=True)
    arguments = parser.parse_args()
    batch: str | None = getattr(arguments, "batch", None)
    label = f"{name}@{batch}" if batch else name
    root = Path.cwd()

    def tell_paused(*_: object) -> None:
        LastWord(label, "paused", "paused by Ctrl-C").leave(root)

    def interrupt(*_: object) -> None:
        tell_paused()
        Progress.interrupted = True
        raise KeyboardInterrupt

    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # such as a job that a script put into the background
    try:
        if not deaf:
            signal.signal(signal.SIGINT, interrupt)
        report = _run_locked(root, name, label, batch, run)
        if not deaf:
            signal.signal(signal.SIGINT, tell_paused)  # finished: let DVC record it, and the flow pause after it
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more would strike in Python's own end, which tells of it by a traceback
        tell_paused()
        sys.exit(PAUSED)
    except VigilError as problem:
        too_little = f"{problem.what} Why: {problem.why}" if isinstance(problem, TooLittleData) else ""
        word = LastWord(label, "error", in_one_line(problem), retryable=problem.retryable, next_step=problem.next_step, too_little=too_little)
        word.leave(root)
        if too_little or "VIGIL_PARENT" not in os.environ:  # else the flow says it, from the last word
            print(problem, file=sys.stderr)
        sys.exit(FAILED)
    except Exception as problem:
        text = f"{type(problem).__name__}: {problem}"
        LastWord(label, "crash", text, retryable=isinstance(problem, OSError), trace=traceback.format_exc()).leave(root)
        traceback.print_exc()
        sys.exit(FAILED)
    timing = root / ".vigil" / "timings.jsonl"
    with open(timing, "a", encoding="utf-8") as handle:
        handle.write(f'{{"stage": "{label}", "seconds": {report["seconds"]:.3f}, "ended": {time.time():.3f}}}\n')


def _run_locked(root: Path, name: str, label: str, batch: str | None, run: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    from workspace.cycle import read_cycle
    from workspace.processes import stage_lock, start_deadline, start_parent_watchdog
    from workspace.settings import load_settings

    if parent := os.environ.get("VIGIL_PARENT"):
        start_parent_watchdog(parent)
    settings = load_settings(root / "params.yaml")
    longest = settings.schedule.stage_timeout_seconds
    word = LastWord(label, "timeout", f"it took longer than schedule.stage_timeout_seconds ({longest} s) and was ended")
    over = threading.Event()

    def end() -> None:
        over.set()
        word.leave(root)

    deadline = start_deadline(longest, end)
    with stage_lock(root, label):
        started = time.monotonic()
        try:
            result = run(root, settings, batch) if batch else run(root, settings, read_cycle(root))
        except Exception:
            if over.is_set():
                threading.Event().wait(ENDING_SECONDS)  # our children are ended before we are: that they were is not how this stage ends
                sys.exit(FAILED)  # one lives on: the lock is let go, and the word that it took too long stays
            raise
        deadline.cancel()
        return {**(result or {}), "seconds": time.monotonic() - started}
