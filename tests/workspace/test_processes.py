"""Stages end with their parent, leftovers are found and only they, a stage runs once. All with real, killed processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.workspace.worlds import start_python, wait_until
from workspace.errors import LeaseHeldError
from workspace.processes import PARENT_GONE, end_orphans, find_process, parent_token, stage_lock, start_parent_watchdog

LAST_NUMBER = Path("/proc/sys/kernel/ns_last_pid")
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STAGE = """
    import os, subprocess, sys, time
    from workspace.processes import start_parent_watchdog
    start_parent_watchdog(os.environ["VIGIL_PARENT"])
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(os.getpid(), worker.pid, flush=True)
    while True:
        time.sleep(0.1)
"""
FLOW = """
    import os, subprocess, sys, textwrap, time
    from workspace.processes import parent_token
    os.environ["VIGIL_PARENT"] = parent_token()
    os.environ["VIGIL_WORKSPACE"] = sys.argv[1]
    subprocess.Popen([sys.executable, "-c", textwrap.dedent(sys.argv[2])])
    time.sleep(600)
"""
DEAF = """
    import os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def started():
    """Processes to be ended after the test, whatever happened: Popen objects or numbers."""
    mine: list = []
    yield mine
    for one in mine:
        pid = one if isinstance(one, int) else one.pid
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
    for one in mine:  # only now: a child that lives keeps the pipes of its parent open
        if not isinstance(one, int):
            one.communicate()


def start_flow(started, workspace, stage=STAGE):
    flow = start_python(FLOW, workspace, stage)
    started.append(flow)
    pids = [int(word) for word in flow.stdout.readline().split()]
    started.extend(pids)
    wait_until(lambda: all("VIGIL_WORKSPACE" in psutil.Process(pid).environ() for pid in pids))  # empty while a program is being loaded
    return flow, pids


def test_a_stage_and_its_workers_end_when_the_parent_is_killed(tmp_path, started):
    flow, (stage, worker) = start_flow(started, tmp_path)
    assert not gone(stage) and not gone(worker)
    flow.kill()
    wait_until(lambda: gone(stage) and gone(worker))


def test_a_parent_that_is_gone_already_ends_the_stage_with_its_own_code(started):
    dead = subprocess.Popen(SLEEPER)
    token = f"{dead.pid}:{psutil.Process(dead.pid).create_time()}"
    dead.kill()
    dead.wait()
    stage = start_python(STAGE.replace("worker = subprocess", "time.sleep(600) or subprocess"), env={**os.environ, "VIGIL_PARENT": token})
    started.append(stage)
    stage.communicate(timeout=60)
    assert stage.returncode == PARENT_GONE == 75


def test_a_stage_with_a_living_parent_is_left_alone(started):
    stage = start_python(STAGE, env={**os.environ, "VIGIL_PARENT": parent_token()})
    started.append(stage)
    started.append(int(stage.stdout.readline().split()[1]))
    with pytest.raises(subprocess.TimeoutExpired):
        stage.wait(2)


def test_an_ancestor_is_known_by_its_number_even_after_the_clock_was_set(started):
    stage = start_python(STAGE, env={**os.environ, "VIGIL_PARENT": f"{os.getpid()}:12345.0"})
    started.append(stage)
    started.append(int(stage.stdout.readline().split()[1]))
    with pytest.raises(subprocess.TimeoutExpired):
        stage.wait(2)


@pytest.mark.parametrize("token", ["", "12", "a:b", "12:", "12:1.5x"])
def test_a_malformed_parent_is_refused(token):
    with pytest.raises(ValueError, match="pid:create_time"):
        start_parent_watchdog(token)


def test_a_token_names_a_process_only_while_it_lives(started):
    sleeper = subprocess.Popen(SLEEPER)
    started.append(sleeper)
    token = f"{sleeper.pid}:{psutil.Process(sleeper.pid).create_time()}"
    assert find_process(token).pid == sleeper.pid
    assert find_process(f"{sleeper.pid}:1.0") is None  # the number, used anew
    sleeper.kill()
    wait_until(lambda: find_process(token) is None)  # a zombie: nobody has waited for it yet


def test_orphans_of_a_killed_flow_are_ended_even_when_they_do_not_listen(tmp_path, started):
    flow, (stage,) = start_flow(started, tmp_path, DEAF)
    assert end_orphans(tmp_path) == []  # its flow lives
    flow.kill()
    flow.wait()
    told = end_orphans(tmp_path)
    assert len(told) == 1 and told[0].startswith(f"process {stage}:")
    assert gone(stage) and end_orphans(tmp_path) == []


def test_a_worker_whose_stage_alone_was_killed_is_an_orphan_though_the_flow_lives(tmp_path, started):
    flow, (stage, worker) = start_flow(started, tmp_path)
    os.kill(stage, signal.SIGKILL)
    wait_until(lambda: psutil.Process(worker).ppid() != stage)
    assert [line.split(":")[0] for line in end_orphans(tmp_path)] == [f"process {worker}"]
    assert gone(worker) and not gone(flow.pid)


def test_a_clock_that_was_set_meanwhile_makes_no_orphan(tmp_path, started):
    """When a process began is told by the wall clock: after NTP had set it, `vigil doctor --fix` ended the server of a schedule that served, as an orphan."""
    environment = {**os.environ, "VIGIL_WORKSPACE": str(tmp_path), "VIGIL_PARENT": f"{os.getpid()}:{psutil.Process().create_time() - 60}"}
    child = subprocess.Popen(SLEEPER, env=environment)
    started.append(child)
    wait_until(lambda: "time.sleep" in " ".join(psutil.Process(child.pid).cmdline()))
    assert end_orphans(tmp_path) == [] and child.poll() is None


def test_an_orphan_whose_number_belonged_to_another_process_at_the_last_look_is_found(tmp_path, started):
    environment = {**os.environ, "VIGIL_WORKSPACE": str(tmp_path), "VIGIL_PARENT": "999999999:1.0"}
    for _ in range(20):
        before = subprocess.Popen(SLEEPER)
        started.append(before)
        assert end_orphans(tmp_path) == []
        before.kill()
        before.wait()
        time.sleep(0.1)  # a start is told in hundredths of a second, and number and start are who a process is
        try:
            LAST_NUMBER.write_text(str(before.pid - 1))
        except OSError:
            pytest.skip("the system does not let us choose a process's number")
        orphan = subprocess.Popen(SLEEPER, env=environment)
        started.append(orphan)
        wait_until(lambda pid=orphan.pid: "VIGIL_PARENT" in psutil.Process(pid).environ())
        assert len(end_orphans(tmp_path)) == 1 and gone(orphan.pid)
        if orphan.pid == before.pid:
            return
    pytest.skip("another process was quicker each time")


@pytest.mark.parametrize("which", ["another workspace", "no parent named", "no workspace named", "malformed parent"])
def test_processes_that_are_not_ours_are_never_touched(tmp_path, started, which):
    environment = {**os.environ, "VIGIL_WORKSPACE": str(tmp_path), "VIGIL_PARENT": "999999999:1.0"}
    if which == "another workspace":
        environment["VIGIL_WORKSPACE"] = str(tmp_path / "other")
    elif which == "malformed parent":
        environment["VIGIL_PARENT"] = "nobody"
    else:
        del environment["VIGIL_PARENT" if which == "no parent named" else "VIGIL_WORKSPACE"]
    bystander = subprocess.Popen(SLEEPER, env=environment)
    started.append(bystander)
    wait_until(lambda: "time.sleep" in " ".join(psutil.Process(bystander.pid).cmdline()))
    assert end_orphans(tmp_path) == [] and bystander.poll() is None


def test_the_process_that_cleans_up_spares_itself(tmp_path):
    cleaner = start_python(
        "import sys; from workspace.processes import end_orphans; print(end_orphans(sys.argv[1]))",
        tmp_path,
        env={**os.environ, "VIGIL_WORKSPACE": str(tmp_path), "VIGIL_PARENT": "999999999:1.0"},
    )
    assert cleaner.communicate(timeout=60)[0] == "[]\n" and cleaner.returncode == 0


LOCKED_STAGE = """
    import sys, time
    from pathlib import Path
    from workspace.processes import stage_lock
    with stage_lock(Path(sys.argv[1]), "faces@b1"):
        print("held", flush=True)
        time.sleep(600)
"""


def test_a_stage_that_runs_is_not_started_again_and_the_refusal_names_it(tmp_path, started):
    other = start_python(LOCKED_STAGE, tmp_path)
    started.append(other)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(LeaseHeldError) as refusal, stage_lock(tmp_path, "faces@b1", wait_seconds=0.2):
        pass
    assert f"process {other.pid} " in refusal.value.why and "faces@b1" in refusal.value.what
    with stage_lock(tmp_path, "faces@b2", wait_seconds=0):  # another batch is another lock
        pass
    other.kill()
    with stage_lock(tmp_path, "faces@b1", wait_seconds=30):  # waits for the one that is about to end
        pass


def test_a_stage_name_cannot_leave_the_folder_of_locks(tmp_path):
    with stage_lock(tmp_path, "faces@../../x", wait_seconds=0):
        assert [path.name for path in (tmp_path / ".vigil" / "locks").glob("*.lock")] == ["faces@.._.._x.lock"]


def test_a_stage_that_takes_too_long_says_so_and_ends_with_its_workers(tmp_path, started):
    code = """
        import os, subprocess, sys, time
        from pathlib import Path
        from workspace.processes import start_deadline
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(worker.pid, flush=True)
        start_deadline(1.0, lambda: Path(sys.argv[1]).write_text("too long"))
        while True:
            time.sleep(0.1)
    """
    stage = start_python(code, tmp_path / "word")
    started.append(stage)
    worker = int(stage.stdout.readline())
    started.append(worker)
    assert stage.wait(30) == 1 and (tmp_path / "word").read_text() == "too long"
    wait_until(lambda: gone(worker))


def test_a_deadline_that_is_called_off_ends_nobody(tmp_path):
    done = start_python("import time; from workspace.processes import start_deadline; start_deadline(0.5, print).cancel(); time.sleep(1.5); print('lives')")
    assert done.communicate(timeout=60)[0].strip() == "lives" and done.returncode == 0
