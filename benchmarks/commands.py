"""What benchmarks run from outside: the command line, and one Prefect server for many cycles."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def vigil(*words: object, shown: bool = False) -> subprocess.CompletedProcess[str]:
    """One verb of the command line, which has to end well (0, or 3 for held), else the script ends; `shown` lets it speak to the terminal."""
    done = subprocess.run([sys.executable, "-m", "vigil", *map(str, words)], capture_output=not shown, text=True)
    if done.returncode not in (0, 3):
        said = "" if shown else f":\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        sys.exit(f"vigil {' '.join(map(str, words))} ended with {done.returncode}{said}")
    return done


@contextmanager
def one_prefect_server(home: Path) -> Iterator[None]:
    """One Prefect server for all cycles inside, its files in `home`: a cycle that starts its own does so for ten seconds."""
    from flows.schedule import prefect_server

    os.environ["PREFECT_HOME"] = str(home / "prefect")
    try:
        with prefect_server(home):
            yield
    finally:
        del os.environ["PREFECT_HOME"]
