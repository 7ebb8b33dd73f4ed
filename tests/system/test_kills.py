"""Ten kills of the drill (`make kills` runs many): the next `vigil retrain` finishes what a dead process began."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.kills import complaints, environment, repeated, running_stage
from tests.size import drill
from tests.system.world import copy_workspace, vigil, vigil_json


def test_a_killed_stage_is_run_again_by_the_same_command(promoted: Path, deaths: tuple[list[dict[str, Any]], dict[str, Any]]):
    died, struck = deaths
    assert struck["victim"] == "stage train" and "train" not in struck["recorded"]
    assert "train" in died[-2]["recorded"], "the life of which this stage was killed came to the next one"
    assert repeated(promoted, struck) == []


@pytest.mark.parametrize("whom", [pytest.param("parent", marks=pytest.mark.slow), "group"])
def test_a_sigterm_is_a_pause_and_the_same_command_goes_on(ingested: Path, tmp_path: Path, whom: str):
    """To the process alone or, as `timeout` and shells send it, to all: a server that dies first left the flow waiting for a minute, and failing."""
    root = copy_workspace(ingested, tmp_path / "w")
    log = tmp_path / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vigil", "retrain", "-w", str(root)], stdout=output, stderr=output, start_new_session=True, env=environment()
        )
    while process.poll() is None and running_stage(psutil.Process(process.pid)) is None:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    (os.killpg if whom == "group" else os.kill)(process.pid, signal.SIGTERM)
    while process.poll() is None and b"Paused." not in log.read_bytes():
        time.sleep(0.02)
    assert process.poll() is not None or running_stage(psutil.Process(process.pid)) is None, "it said that it is paused, and a stage worked on for seconds"
    assert process.wait(60) == 130, log.read_text()
    assert "Paused." in log.read_text() and "unexpected" not in log.read_text()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert [one for one in vigil_json("batches", "-w", root) if one["state"] != "new"] == []
    assert vigil("retrain", "--dry-run", "-w", root).returncode == 0


@pytest.mark.usefixtures("one_server")
def test_one_cycle_survives_all_deaths_and_repeats_nothing_that_was_finished(
    promoted: Path, deaths: tuple[list[dict[str, Any]], dict[str, Any]], tmp_path: Path
):
    """In stages, with everything around them, and between stages: each start goes on where the one before was."""
    died, _ = deaths
    early, late = ["parent", "group", "parent", "group"], ["parent", "group", "group"]
    assert [death["victim"] for death in died] == [*early[: drill(2, 4)], *late[: drill(1, 3)], "group", "parent"]
    for death in died:
        assert repeated(promoted, death) == [], "a finished stage ran again"
    assert complaints(copy_workspace(promoted, tmp_path / "w"), died[-1]) == []
