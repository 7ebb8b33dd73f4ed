"""What the doctor closes, in real records of runs: those that say RUNNING though the process that made them is gone."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.kills import Round, environment, leftovers, strike
from tests.system.world import copy_workspace, events, vigil
from tests.workspace.worlds import start_python, wait_until
from vigil.opening import open_workspace
from workspace.lease import lease_holder
from workspace.settings import load_settings


def states(database: Path, query: str) -> list[str]:
    with sqlite3.connect(database) as opened:
        return sorted(row[0] for row in opened.execute(query))


@pytest.mark.slow
def test_runs_that_a_killed_flow_left_running_are_closed_and_named(ingested: Path, tmp_path: Path) -> None:
    root = copy_workspace(ingested, tmp_path / "w")
    strike(root, Round("group", "faces", 0.0))
    flows_of = root / ".vigil" / "prefect" / "prefect.db"
    assert "RUNNING" in states(flows_of, "select state_type from flow_run"), "the flow died in it"
    from workspace.registry import find_running, open_registry

    settings = load_settings(root / "params.yaml")
    with open_registry(root, settings) as client:  # the pause between a run's beginning and its end is too short to be hit
        made = client.get_experiment_by_name(settings.registry.experiment)
        client.create_run(made.experiment_id if made else client.create_experiment(settings.registry.experiment))
    (left,) = find_running(root, settings)
    bad = vigil("doctor", "-w", root, "--json", check=False)
    assert bad.returncode == 1 and "left behind" in [row["check"] for row in json.loads(bad.stdout)["checks"] if not row["ok"]], bad.stdout
    done = vigil("doctor", "--fix", "-w", root, check=False)
    assert f"MLflow run {left} ended as KILLED" in done.stdout and "closed as CRASHED" in done.stdout, done.stdout
    assert find_running(root, settings) == [] and "RUNNING" not in states(flows_of, "select state_type from flow_run")
    assert leftovers(root) == [] and not events(root, "promotion")


THREE_RUNS = """
    import asyncio, json, sys
    from pathlib import Path
    from flows.environment import OWNER_TAG, owner_tags, prepare_environment
    root = Path(sys.argv[1])
    prepare_environment(root)
    from prefect import flow, get_client
    from prefect.states import Running
    from flows.leftovers import end_what_was_left
    from workspace.lease import lease
    from workspace.settings import load_settings

    told = flow(lambda workspace: None, name="weekly-retrain")
    tags = {"mine": owner_tags(root), "of before": [], "of another": [f"{OWNER_TAG}0123456789abcdef"]}

    async def three():
        async with get_client() as client:
            return {name: (await client.create_flow_run(told, parameters={"workspace": str(root)}, tags=tags[name], state=Running())).id for name in tags}

    async def states(runs):
        async with get_client() as client:
            return {name: (await client.read_flow_run(run)).state_name for name, run in runs.items()}

    runs = asyncio.run(three())
    with lease(root, "doctor"):
        end_what_was_left(root, load_settings(root / "params.yaml"))
    print(json.dumps(asyncio.run(states(runs))))
"""


@pytest.mark.usefixtures("one_server")
def test_a_run_of_another_machine_on_the_same_server_is_left_alone(ingested: Path, tmp_path: Path) -> None:
    """Two machines may well have their workspaces at one path."""
    process = start_python(THREE_RUNS, copy_workspace(ingested, tmp_path / "w"))
    said, problem = process.communicate(timeout=120)
    assert said, problem
    assert json.loads(said.splitlines()[-1]) == {"mine": "Crashed", "of before": "Crashed", "of another": "Running"}


@pytest.mark.slow
def test_ctrl_c_while_prefects_server_starts_pauses_the_doctor(tmp_path: Path) -> None:
    """The server died of it: the doctor waited two minutes for that, held the workspace meanwhile, and called it a mistake in Vigil."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    (root / ".vigil" / "prefect").mkdir()
    (root / ".vigil" / "prefect" / "prefect.db").touch()  # as if a cycle had run
    doctor = subprocess.Popen(
        [sys.executable, "-m", "vigil", "doctor", "--fix", "-w", str(root)], stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment()
    )

    def serves() -> bool:
        with suppress(psutil.Error):  # a child that ends while it is looked at
            return any("uvicorn" in one.cmdline() for one in psutil.Process(doctor.pid).children())
        return False

    wait_until(serves, 120)
    os.killpg(doctor.pid, signal.SIGINT)  # as a terminal does
    _, said = doctor.communicate(timeout=90)
    assert doctor.returncode == 130 and "Paused." in said and "Traceback" not in said, said
    assert lease_holder(root) is None
