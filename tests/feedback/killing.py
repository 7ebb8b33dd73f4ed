"""SIGKILL at a chosen line of the hand-over, in a real process: a forked child counts the lines it executes and kills itself."""

import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import feedback.audit
import feedback.cases
import feedback.erasing
import feedback.forgetting
import feedback.handover
import feedback.keep
import feedback.retention

MODULES = (feedback.audit, feedback.cases, feedback.erasing, feedback.forgetting, feedback.handover, feedback.keep, feedback.retention)
WATCHED = {module.__file__ for module in MODULES}

VISITS = 2  # of a line in a loop: the third is as the second
PATIENCE_SECONDS = 120


def killed_at_line(number: int, work: Callable[[], Any], watched: set[str | None] = WATCHED) -> bool:
    """Run `work` in a forked child that dies by SIGKILL before its `number`-th line (from 1) in one of the `watched` files; a line counts twice at most.

    Returns False when the work had fewer lines and ended; raises AssertionError when it failed by itself.
    """
    child = os.fork()
    if child == 0:
        _run_and_die(number, work, watched)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the work failed by itself"
    return False


def _run_and_die(number: int, work: Callable[[], Any], watched: set[str | None]) -> None:
    gc.freeze()  # a video that the parent left half decoded waits, when it is collected, for threads that are not in here: for ever
    left, visits = number, Counter[tuple[str, int]]()

    def on_line(frame: FrameType, event: str, __: Any) -> Any:
        nonlocal left
        if event == "line":
            here = (frame.f_code.co_filename, frame.f_lineno)
            visits[here] += 1
            left -= visits[here] <= VISITS
            if left == 0 and visits[here] <= VISITS:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, _: str, __: Any) -> Any:
        return on_line if frame.f_code.co_filename in watched else None

    code = 1
    faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)  # one that hangs says where
    try:
        sys.settrace(on_call)
        work()
        sys.settrace(None)
        code = 0
    except BaseException:
        sys.settrace(None)
        traceback.print_exc()  # else nobody would learn how it failed: there is no way out of here but the next line
    finally:
        os._exit(code)
