"""torchrun as `launch` starts it: `python -m model.launcher` with torchrun's own words. How it ended is its exit code, without a trace of calls.

0 done; KILLED where a process of the training was killed; FAILED where one failed, whose own words stand above; 128 and a signal's number where this was
told to end. torchrun tells each of these by a traceback of itself.
"""

import logging
import signal
import sys

FAILED, KILLED = 1, 128 + signal.SIGKILL


def main() -> None:
    """Run torchrun, and exit."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    logging.disable(logging.ERROR)  # what it logs of the end of a process, the exit code says
    try:
        torchrun(sys.argv[1:])
    except SignalException as told:
        sys.exit(128 + told.sigval)
    except ChildFailedError as problem:
        sys.exit(KILLED if any(one.exitcode == -signal.SIGKILL for one in problem.failures.values()) else FAILED)


if __name__ == "__main__":
    main()
