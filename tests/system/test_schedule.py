"""The weekly slot: a served deployment runs and ends in an outcome; a timer that fires twice makes one cycle."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.kills import environment, leftovers
from flows.schedule import cron_line
from tests.system.world import copy_workspace, events, vigil
from workspace.settings import ScheduleSettings


def test_a_served_deployment_runs_and_a_timer_after_it_finds_the_week_done(ingested: Path, tmp_path: Path):
    """Due every minute, so the slot is at most a minute ahead, and comes again while the first run is still at work: one cycle all the same."""
    root = copy_workspace(ingested, tmp_path / "w")
    log = tmp_path / "schedule.log"
    with open(log, "wb") as output:
        served = subprocess.Popen(
            [sys.executable, "-m", "vigil", "schedule", "-w", str(root), "--cron", "* * * * *"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 600
        while not events(root, "cycle_closed") and time.monotonic() < deadline and served.poll() is None:
            time.sleep(1)
        time.sleep(3)  # the commit follows the journal's last line
        assert events(root, "cycle_closed"), log.read_text()[-3000:]
    finally:
        served.send_signal(signal.SIGINT)
        try:
            served.wait(60)
        except subprocess.TimeoutExpired:
            served.kill()
            served.wait()
    opened = events(root, "cycle_opened")
    assert len(opened) == 1 and opened[0]["fields"]["scheduled"] is True
    assert events(root, "cycle_closed")[0]["fields"]["outcome"] in ("promoted", "held")

    for _ in range(2):
        done = vigil("retrain", "--scheduled", "-w", root)
        assert done.returncode == 0 and "Nothing new" in done.stdout
    assert len(events(root, "cycle_opened")) == 1
    assert [line for line in leftovers(root) if "process" in line] == []


def test_a_timer_twice_in_a_week_makes_one_cycle(promoted: Path, tmp_path: Path):
    root = copy_workspace(promoted, tmp_path / "w")
    first = vigil("retrain", "--scheduled", "-w", root)  # nothing is new: the week is skipped, and that is written down
    second = vigil("retrain", "--scheduled", "-w", root)
    assert "Nothing new" in first.stdout and "Nothing new" in second.stdout
    assert len(events(root, "week_skipped")) == 1 and len(events(root, "cycle_opened")) == 1


def test_the_slot_of_the_settings_as_a_cron_line():
    assert cron_line(ScheduleSettings(weekday="monday", hour=3, minute=5)) == "5 3 * * 1"
    assert cron_line(ScheduleSettings(weekday="sunday", hour=0, minute=0)) == "0 0 * * 0"
