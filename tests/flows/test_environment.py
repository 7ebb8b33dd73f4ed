"""A pause that was asked for is a pause, wherever it strikes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STRUCK = """
import signal, sys, time
from flows.environment import pause_on_signals

class Freed:
    def __del__(self):
        signal.raise_signal(signal.{name})

pause_on_signals()
try:
    Freed()
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_pause_that_strikes_in_a_finaliser_is_not_lost(name: str) -> None:
    """Python drops an exception there: a cycle went on after Ctrl-C, and said so by a traceback."""
    done = subprocess.run([sys.executable, "-c", STRUCK.format(name=name)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, ""), done.stdout


def test_any_other_exception_that_is_dropped_is_told_as_ever() -> None:
    told = STRUCK.format(name="SIGINT").replace("signal.raise_signal(signal.SIGINT)", "raise RuntimeError('lost')").replace("60", "0.5")
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "RuntimeError: lost" in done.stderr
