"""One module a stage of the cycle: files in, files out, a plain function plus a DVC entry. May import `model`, `media`, `workspace`."""

import signal
import sys

import media.limits  # noqa: F401  before OpenCV

# A stage starts (`python -m pipelines.<stage>`): until `stage_main` listens, Ctrl-C ends it at once and without a traceback.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
