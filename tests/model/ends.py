"""What each of two processes does that end before they trained (this module, started by torchrun): it loads no more than that needs."""

import os
import signal
import sys

import torch

from model.parallel import gathered, joined, leads, share, telling
from workspace.errors import TooLittleData


def main(how: str) -> None:
    """One of the two ends as `how` says."""
    with telling(), joined():
        if leads():
            gathered(torch.arange(6.0)[share(6)], 6)  # it waits for the other for ever
        if how.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[how])
        if how == "tell":
            os.kill(os.getppid(), signal.SIGTERM)
            signal.pause()
        if how == "say":
            raise TooLittleData("One of us could not.", why="too few", next_step="More.")
        raise RuntimeError("one of us could not")


if __name__ == "__main__":
    main(sys.argv[1])
