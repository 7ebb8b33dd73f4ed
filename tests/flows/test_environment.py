"""A pause that was asked for is a pause, wherever it strikes; and what a person's shell has set stands in nobody's way."""

import os
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


BESIDE_PROXY = """
import http.server, sys, threading, urllib.request
import httpx
from pathlib import Path
from flows.environment import prepare_environment

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
for _ in range(2):
    prepare_environment(Path(sys.argv[1]))
address = f"http://127.0.0.1:{server.server_port}/"
print(urllib.request.urlopen(address).status, httpx.get(address).status_code, bool(urllib.request.proxy_bypass("intern")))
"""


@pytest.mark.parametrize(
    ("already", "past"),
    [
        ({}, False),
        ({"no_proxy": "intern"}, True),
        ({"NO_PROXY": "intern"}, True),
        ({"no_proxy": "*"}, True),
        ({"no_proxy": "intern,[::1]"}, True),
        ({"ALL_PROXY": "socks5h://127.0.0.1:9", "all_proxy": "socks5h://127.0.0.1:9"}, False),
    ],
)
def test_no_proxy_stands_between_a_cycle_and_its_own_server(tmp_path: Path, already: dict[str, str], past: bool) -> None:
    """Prefect asked its temporary server, on this machine, through a company's proxy: a cycle ended after two minutes as a mistake in Vigil.

    With a SOCKS proxy, which its client cannot pass by unless it could take it, or an address in brackets, it ended at once so.
    """
    shell = {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"} | {"http_proxy": "http://127.0.0.1:9"} | already
    command = [sys.executable, "-c", BESIDE_PROXY, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=shell, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["204", "204", str(past)], done.stderr
