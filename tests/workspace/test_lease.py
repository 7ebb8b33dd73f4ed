"""One writer: the lease names its holder, ends with it, and is refused to everybody else."""

import json
import os
import signal
import socket
import time
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from tests.workspace.worlds import start_python, wait_until
from workspace.errors import LeaseHeldError
from workspace.lease import LOOK_SECONDS, cycle_runs, holds_lease, lease, lease_holder

HOLD = """
    import sys, time
    from pathlib import Path
    from workspace.lease import lease
    with lease(Path(sys.argv[1]), "retrain W47"):
        print("held", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = start_python(HOLD, tmp_path)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_holds_the_lease(tmp_path, holder):
    with pytest.raises(LeaseHeldError) as refusal, lease(tmp_path, "ingest"):
        pass
    assert f"process {holder.pid} on" in refusal.value.why and "retrain W47" in refusal.value.why
    assert lease_holder(tmp_path).pid == holder.pid and not holds_lease(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lease_ends_with_its_holder_however_that_ends(tmp_path, holder, number):
    holder.send_signal(number)
    holder.wait()
    assert lease_holder(tmp_path) is None
    with lease(tmp_path, "next") as mine:
        assert mine.pid == os.getpid() and lease_holder(tmp_path) == mine


def test_a_holder_that_was_killed_and_never_collected_counts_as_gone(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)  # stays a zombie until the fixture waits for it
    wait_until(lambda: lease_holder(tmp_path) is None)
    with lease(tmp_path, "next"):
        pass


def test_a_waiting_process_gets_the_lease_when_it_is_free(tmp_path, holder):
    waiting = start_python(
        """
        import sys
        from pathlib import Path
        from workspace.lease import lease
        with lease(Path(sys.argv[1]), "patient", wait_seconds=60):
            print("mine")
    """,
        tmp_path,
    )
    lock = str(tmp_path / ".vigil" / "lease.lock")
    wait_until(lambda: lock in [file.path for file in psutil.Process(waiting.pid).open_files()])
    time.sleep(5 * LOOK_SECONDS)  # it has looked in vain by then
    holder.kill()
    assert waiting.communicate(timeout=30)[0] == "mine\n"


def test_the_same_process_cannot_take_it_twice(tmp_path):
    with lease(tmp_path, "outer"):
        assert holds_lease(tmp_path)
        with pytest.raises(LeaseHeldError, match=f"process {os.getpid()} .*outer"), lease(tmp_path, "inner"):
            pass
        assert lease_holder(tmp_path).purpose == "outer"
    assert not holds_lease(tmp_path) and lease_holder(tmp_path) is None
    with lease(tmp_path, "again"):
        pass


def test_only_a_lease_that_is_held_for_a_cycle_says_that_one_runs(tmp_path):
    assert cycle_runs(tmp_path) is None
    for purpose, runs in (("retrain", True), ("ingest", False)):
        with lease(tmp_path, purpose) as mine:
            assert cycle_runs(tmp_path) == (mine if runs else None)


def test_a_workspace_is_the_same_whatever_path_it_is_named_by(tmp_path, monkeypatch):
    (tmp_path / "w").mkdir()
    (tmp_path / "link").symlink_to("w")
    monkeypatch.chdir(tmp_path)
    with lease(tmp_path / "w", "one"):
        for name in ("link", "w", "w/../w"):
            assert holds_lease(Path(name)), name
            with pytest.raises(LeaseHeldError), lease(Path(name), "two"):
                pass


def test_it_is_given_up_when_the_work_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), lease(tmp_path, "fails"):
        raise ZeroDivisionError
    with lease(tmp_path, "next"):
        pass


def test_leases_of_two_workspaces_do_not_meet(tmp_path):
    with lease(tmp_path / "a", "one"), lease(tmp_path / "b", "two"):
        assert holds_lease(tmp_path / "a") and holds_lease(tmp_path / "b")


def test_a_forked_worker_that_outlives_the_holder_holds_nothing(tmp_path):
    # A lock belongs to the open file, which a fork shares: without care the worker would keep it.
    parent = start_python(
        """
        import os, sys, time
        from pathlib import Path
        from workspace.lease import lease
        with lease(Path(sys.argv[1]), "parent"):
            worker = os.fork()
            if worker == 0:
                time.sleep(600)
                os._exit(0)
            print(worker, flush=True)
            time.sleep(600)
    """,
        tmp_path,
    )
    worker = int(parent.stdout.readline())
    try:
        with pytest.raises(LeaseHeldError), lease(tmp_path, "early"):
            pass
        parent.kill()
        parent.wait()
        os.kill(worker, 0)  # it lives
        with lease(tmp_path, "next", wait_seconds=30):  # the worker may not have been on a core since the fork
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        parent.stdout.close()
        parent.stderr.close()


def test_a_forked_worker_that_leaves_the_lease_takes_nothing_from_the_holder(tmp_path):
    parent = start_python(
        """
        import os, sys, time
        from pathlib import Path
        from workspace.lease import lease
        with lease(Path(sys.argv[1]), "parent"):
            worker = os.fork()
            if worker:
                os.waitpid(worker, 0)
                print("alone", flush=True)
                time.sleep(600)
    """,
        tmp_path,
    )
    try:
        assert parent.stdout.readline() == "alone\n"
        with pytest.raises(LeaseHeldError, match=f"process {parent.pid} "), lease(tmp_path, "early"):
            pass
    finally:
        parent.kill()
        parent.communicate()


def test_who_is_refused_again_and_again_keeps_no_file_open(tmp_path):
    with lease(tmp_path, "outer"):
        before = psutil.Process().num_fds()
        for _ in range(3):
            with pytest.raises(LeaseHeldError), lease(tmp_path, "inner"):
                pass
        assert psutil.Process().num_fds() == before


def test_a_note_left_by_a_dead_process_is_not_believed(tmp_path, holder):
    note = tmp_path / ".vigil" / "lease.json"
    told = json.loads(note.read_text(encoding="utf-8"))
    holder.kill()
    holder.wait()
    earlier = psutil.Process().create_time() - 60
    note.write_text(json.dumps(told | {"pid": os.getpid(), "create_time": earlier}), encoding="utf-8")  # its number is used anew
    assert lease_holder(tmp_path) is None


def test_a_clock_that_was_set_meanwhile_makes_no_holder_dead(tmp_path, holder):
    """When a process began is told by the wall clock: after NTP had set it, a cycle at work was said to be left unfinished, and `vigil retrain` advised."""
    note = tmp_path / ".vigil" / "lease.json"
    told = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(json.dumps(told | {"create_time": told["create_time"] - 60}), encoding="utf-8")
    assert lease_holder(tmp_path).pid == holder.pid
    with pytest.raises(LeaseHeldError, match=f"process {holder.pid} on"), lease(tmp_path, "another"):
        pass
    holder.kill()
    holder.wait()
    assert lease_holder(tmp_path) is None


@pytest.mark.parametrize("held", [True, False])
def test_a_note_from_another_host_counts_while_the_lock_is_held(tmp_path, holder, held):
    """A container that was killed leaves its note to the next one, which has another name: nothing was ever left behind then."""
    note = tmp_path / ".vigil" / "lease.json"
    text = note.read_text(encoding="utf-8")
    if not held:
        holder.kill()
        holder.wait()
    note.write_text(text.replace(socket.gethostname(), "f00dcafe"), encoding="utf-8")
    assert (lease_holder(tmp_path) is not None) == held
    with nullcontext() if not held else pytest.raises(LeaseHeldError), lease(tmp_path, "another"):
        pass
