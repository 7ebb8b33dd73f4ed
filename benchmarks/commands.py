"""What benchmarks run from outside: the command line, and one Prefect server for many cycles."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SERVER_SECONDS = 120


def vigil(*words: object, shown: bool = False) -> subprocess.CompletedProcess[str]:
    """One verb of the command line, which has to end well (0, or 3 for held), else the script ends; `shown` lets it speak to the terminal."""
    done = subprocess.run([sys.executable, "-m", "vigil", *map(str, words)], capture_output=not shown, text=True)
    if done.returncode not in (0, 3):
        said = "" if shown else f":\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        sys.exit(f"vigil {' '.join(map(str, words))} ended with {done.returncode}{said}")
    return done


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """One Prefect server for all cycles inside, its database and log in `home`: a cycle that starts its own does so for ten seconds."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ |= {"PREFECT_HOME": str(home / "prefect"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    words = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "prefect.log").open("ab") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        for _ in range(SERVER_SECONDS):
            if server.poll() is not None:
                sys.exit(f"Prefect's server ended with {server.returncode}; its words are in {home / 'prefect.log'}")
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(1)
        yield
    finally:
        del os.environ["PREFECT_HOME"], os.environ["PREFECT_API_URL"]
        server.terminate()
        server.wait()
