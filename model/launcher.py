"""torchrun as `launch` starts it: `python -m model.launcher` with torchrun's own words. How it ended is its exit code, without a trace of calls.

0 done; FAILED where a process of the training failed, whose own words stand above; 128 and a signal's number where that signal ended one, or told this to
end. Of several the first counts: torchrun itself ends the others. It tells each of these by a traceback of itself.
"""

import logging
import sys

FAILED, BY_SIGNAL = 1, 128


def main() -> None:
    """Run torchrun, and exit."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    logging.disable(logging.ERROR)  # what it logs of the end of a process, the exit code says
    try:
        torchrun(sys.argv[1:])
    except SignalException as told:
        sys.exit(BY_SIGNAL + told.sigval)
    except ChildFailedError as problem:
        _, first = problem.get_first_failure()
        sys.exit(BY_SIGNAL - first.exitcode if first.exitcode < 0 else FAILED)


if __name__ == "__main__":
    main()
