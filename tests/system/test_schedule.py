"""The weekly slot: one schedule a workspace, whose end, failure and leftovers are told. What a served cycle comes to is in test_cycle.py."""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.kills import leftovers, running_stage
from flows.schedule import cron_line
from media.synthetic import make_sample_media
from tests.system.world import quick_workspace, vigil, words_of
from vigil.opening import open_workspace
from workspace.journal import Journal
from workspace.registry import find_running, open_registry
from workspace.settings import ScheduleSettings, load_settings


@pytest.mark.usefixtures("one_server")
def test_what_a_killed_cycle_left_running_is_closed_as_the_schedule_begins(tmp_path: Path):
    """Only `vigil retrain` and `vigil doctor --fix` did so: under a schedule a run of MLflow said RUNNING for ever."""
    root = quick_workspace(tmp_path / "w")
    settings = load_settings(root / "params.yaml")
    with open_registry(root, settings) as client:
        client.create_run(client.create_experiment(settings.registry.experiment))
    (left,) = find_running(root, settings)
    words = [sys.executable, "-m", "vigil", "schedule", "-w", str(root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        said = process.stderr.read()
    assert first.startswith("Serving") and f"MLflow run {left} ended as KILLED" in said and find_running(root, settings) == [], (first, said)


@pytest.mark.usefixtures("one_server")
def test_a_served_cycle_that_fails_says_so_where_the_schedule_is_read(tmp_path: Path):
    """Prefect kept it in its database, at a log level that nobody sees: a loop could be dead for months."""
    root = quick_workspace(tmp_path / "w")
    (root / "feedback.db").write_bytes(b"no database" * 1000)
    words = [sys.executable, "-m", "vigil", "schedule", "--cron", "0 0 1 1 *", "-w", str(root)]
    environment = {**os.environ, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        _wait_until_served(first)
        name = first.removeprefix("Serving ").partition(":")[0]
        asked = subprocess.run(
            [sys.executable, "-m", "prefect", "deployment", "run", name, "--watch"], env=environment, capture_output=True, text=True, timeout=120
        )
        process.send_signal(signal.SIGINT)
        said = "".join(process.communicate(timeout=60))
    assert "database is damaged" in said and "file is not a database" in said and "Next: " in said, (name, said, asked.stdout, asked.stderr)


def _wait_until_served(said: str) -> str:
    """The address of the deployment, which a schedule names before it makes it, once it is there and polled for."""
    name, api = re.findall(r"^Serving (.*?):|API: (\S+)\. ", said)
    address = f"{api[1]}/deployments/name/{name[0]}"
    while httpx.get(address).status_code == 404:
        time.sleep(0.2)
    time.sleep(1)
    return address


def _serve_for_a_moment(root: Path, *words: str) -> str:
    """The address of the deployment that `vigil schedule` served until it was there."""
    with subprocess.Popen([sys.executable, "-m", "vigil", "schedule", *words, "-w", str(root)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = _wait_until_served(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    return address


@pytest.mark.usefixtures("one_server")
def test_workspaces_that_have_nothing_yet_are_each_served_under_a_name_of_their_own_and_keep_it(tmp_path: Path):
    """Two folders of one name had one deployment, and one was asked for both. With the first event came another name; the old one stayed active."""
    for place in ("x", "y"):
        open_workspace(tmp_path / place / "vigil", "demo")
    one, other = (_serve_for_a_moment(tmp_path / place / "vigil") for place in ("x", "y"))
    paths = [httpx.get(address).json()["parameters"]["workspace"] for address in (one, other)]
    assert paths == [str(tmp_path / "x/vigil"), str(tmp_path / "y/vigil")], (one, other)
    Journal(tmp_path / "x/vigil").append("week_skipped", week="2026-W48", why="nothing new")
    assert _serve_for_a_moment(tmp_path / "x/vigil") == one


@pytest.mark.usefixtures("one_server")
def test_what_nobody_was_there_to_be_asked_is_forgotten_but_for_what_a_person_started(tmp_path: Path):
    """Each hour in which nobody served was asked for later, one after the other, and what a person had started waited behind them."""
    root, words = tmp_path / "late", ("--cron", "0 0 1 1 *")
    open_workspace(root, "demo")
    deployment = httpx.get(_serve_for_a_moment(root, *words)).json()["id"]
    api, now = os.environ["PREFECT_API_URL"], datetime.now(UTC)
    window = {"start_time": (now - timedelta(days=366)).isoformat(), "end_time": now.isoformat(), "min_runs": 1}
    httpx.post(f"{api}/deployments/{deployment}/schedule", json=window).raise_for_status()
    httpx.post(f"{api}/deployments/{deployment}/create_flow_run", json={"name": "by-hand"}).raise_for_status()

    def due() -> set[str]:
        until = {"expected_start_time": {"before_": (now + timedelta(hours=1)).isoformat()}}
        found = httpx.post(f"{api}/flow_runs/filter", json={"deployments": {"id": {"any_": [deployment]}}, "flow_runs": until})
        return {run["name"] for run in found.raise_for_status().json()}

    assert len(due()) > 1
    _serve_for_a_moment(root, *words)
    assert due() == {"by-hand"}


@pytest.mark.usefixtures("one_server")
def test_a_second_schedule_of_a_workspace_is_refused_and_one_that_stops_silences_no_copy(tmp_path: Path):
    """Both served one deployment, and the one that stopped paused it: the other ran on and asked nothing, for ever. SIGTERM in a stage was a traceback."""
    make_sample_media(tmp_path / "media", people=4, clips_per_person=1, seconds=1.0, fakes={"blendswap": 1}, seed=5, size_px=160)
    root = quick_workspace(tmp_path / "w")
    vigil("ingest", tmp_path / "media/labels.csv", "-w", root)
    words = [sys.executable, "-m", "vigil", "schedule", "-w", str(root)]
    environment = {**os.environ, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = _wait_until_served(process.stdout.readline())
        second = vigil("schedule", "-w", root, check=False)
        httpx.post(f"{address.partition('/name/')[0]}/{httpx.get(address).json()['id']}/create_flow_run", json={}).raise_for_status()
        while process.poll() is None and running_stage(psutil.Process(process.pid)) is None:
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert second.returncode == 1 and second.stderr.startswith("This workspace is scheduled already. Nothing was started."), second
    assert f"process {process.pid} " in second.stderr and "Next: " in second.stderr
    assert httpx.get(address).json()["paused"] is False
    assert process.returncode == 0 and "Traceback" not in said and "never awaited" not in said, said
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert [line for line in leftovers(root) if "process" in line or "lock" in line] == []


@pytest.mark.parametrize("polls", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_schedule_whose_own_server_dies_ends_and_says_so(tmp_path: Path, polls: bool):
    """It stayed, asked nothing any more, and no service manager had a reason to start it again."""
    root = tmp_path / "R&D"  # Prefect lets no deployment be called so
    open_workspace(root, "demo")
    words = [sys.executable, "-m", "vigil", "schedule", "-w", str(root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        _wait_until_served(process.stdout.readline()) if polls else process.stdout.readline()
        (server,) = [child for child in psutil.Process(process.pid).children() if {"prefect", "server", "start"} <= {*words_of(child)}]
        server.kill()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "Prefect's server ended" in said and f"its process {server.pid} ended with -9" in said, said
    assert "Why:  " in said and "Next: " in said and "Traceback" not in said, said


RELAY = """
import asyncio, sys
async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def relay(reader, writer):
    further = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    await asyncio.gather(pump(reader, further[1]), pump(further[0], writer))
async def main():
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@pytest.mark.usefixtures("one_server")
def test_a_schedule_whose_named_server_goes_away_ends_and_names_it(tmp_path: Path):
    """It was called a mistake in Vigil. What goes away is what stands before the server, which others use."""
    open_workspace(tmp_path / "w", "demo")
    (port,) = re.findall(r":(\d+)/", os.environ["PREFECT_API_URL"])
    words = [sys.executable, "-m", "vigil", "schedule", "-w", str(tmp_path / "w")]
    with subprocess.Popen([sys.executable, "-c", RELAY, port], stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        address = f"http://127.0.0.1:{int(relay.stdout.readline())}/api"
        environment = {**os.environ, "PREFECT_API_URL": address, "PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_CLIENT_MAX_RETRIES": "0"}
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            _wait_until_served(process.stdout.readline())
            relay.kill()
            _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "Prefect's server did not answer" in said and f"Why:  {address}" in said and "PREFECT_API_URL" in said, said
    assert "mistake in Vigil" not in said, said


def test_it_asks_every_hour_at_the_minute_of_the_slot():
    assert cron_line(ScheduleSettings(weekday="monday", hour=3, minute=5)) == "5 * * * *"


def test_a_line_that_is_no_cron_line_is_named(tmp_path: Path):
    open_workspace(tmp_path / "w", "demo")
    done = vigil("schedule", "--cron", "bad", "-w", tmp_path / "w", check=False, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1 and done.stderr.startswith("Cannot use the cron line 'bad'") and "0 3 * * 1" in done.stderr


def test_a_prefect_server_that_is_away_is_named(tmp_path: Path):
    """It was called a mistake in Vigil."""
    open_workspace(tmp_path / "w", "demo")
    done = vigil("schedule", "-w", tmp_path / "w", check=False, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1 and done.stderr.startswith("Prefect's server did not answer") and "PREFECT_API_URL" in done.stderr, done.stderr
