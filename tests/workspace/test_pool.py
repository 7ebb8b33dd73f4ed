"""Work spread over processes: in order, whatever a job does to its process, and nothing left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.workspace.pool_jobs import process_id, square_or_die, unchanged
from workspace.errors import SettingsError
from workspace.pool import ordered_map

ROOT = Path(__file__).resolve().parents[2]


def test_a_job_that_kills_its_process_is_named_and_the_others_are_done_in_order() -> None:
    assert list(ordered_map(square_or_die, [1, 2, -3, 4, 5], 2, unchanged)) == [1, 4, -3, 16, 25]
    assert list(ordered_map(square_or_die, [], 2, unchanged)) == []


def test_a_process_that_dies_while_results_are_read_costs_no_job() -> None:
    """Jobs are still to be handed out then, and a pool that has broken takes none."""
    done = []
    for result in ordered_map(square_or_die, [*range(1, 30), -3, *range(30, 60)], 2, unchanged):
        time.sleep(0.02)
        done.append(result)
    assert done == [n * n for n in range(1, 30)] + [-3] + [n * n for n in range(30, 60)]


def test_a_script_is_loaded_again_only_for_a_function_of_its_own(tmp_path: Path) -> None:
    """Without a guard each process did all of the script's work again. Threads that begin processes at the same time leave the script its name."""
    begin = f"import sys, threading\nsys.path.insert(0, {str(ROOT)!r})\nfrom functools import partial\nfrom workspace.pool import ordered_map\n"
    theirs = "work = [threading.Thread(target=lambda: print(list(ordered_map(abs, [-1, -2], 2, str)))) for _ in range(3)]\n"
    (tmp_path / "theirs.py").write_text(begin + theirs + "[one.start() for one in work]\n[one.join() for one in work]\nprint(__file__)\n")
    own = "print('loaded', flush=True)\ndef add(number, more):\n    return number + more\n"
    guarded = "if __name__ == '__main__':\n    print(list(ordered_map(partial(add, more=1), [1], 1, str)))\n"
    (tmp_path / "own.py").write_text(begin + own + guarded)
    for name, said in (("theirs", ["[1, 2]"] * 3 + [str(tmp_path / "theirs.py")]), ("own", ["[2]", "loaded", "loaded"])):
        done = subprocess.run([sys.executable, tmp_path / f"{name}.py"], capture_output=True, text=True, timeout=120)
        assert sorted(done.stdout.splitlines()) == sorted(said), done.stderr


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        f"import sys, time\nsys.path.insert(0, {str(ROOT)!r})\nfrom workspace.pool import ordered_map\n"
        "if __name__ == '__main__':\n    for _ in ordered_map(time.sleep, [0.01] * 4 + [600] * 4, 2, print):\n        print('one done', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        _end_and_wait_for_children(parent, signal.SIGKILL)


@pytest.mark.parametrize("where", ["sitecustomize.py", "main.py"])
def test_workers_say_nothing_of_a_ctrl_c_that_meets_their_start(tmp_path: Path, where: str) -> None:
    """In a terminal all of them hear it, and each printed where it was: in Python's own start, or in what it loads after it."""
    slow = "import sys, time\nif 'spawn_main' in ' '.join(sys.orig_argv):\n    print('begun', flush=True)\n    time.sleep(1)\n"
    pool = f"sys.path.insert(0, {str(ROOT)!r})\nfrom workspace.pool import ordered_map\ndef own(number):\n    return number\n"
    work = "if __name__ == '__main__':\n    try:\n        list(ordered_map(own, range(8), 2, print))\n    except KeyboardInterrupt:\n        print('Paused.')\n"
    (tmp_path / "main.py").write_text("import sys\n" + pool + work)
    (tmp_path / where).write_text(slow + (pool + work if where == "main.py" else ""))
    words, environment = [sys.executable, str(tmp_path / "main.py")], {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment) as parent:
        assert parent.stdout is not None
        assert "begun" in parent.stdout.readline()
        os.killpg(parent.pid, signal.SIGINT)
        said, problems = parent.communicate(timeout=60)
        assert "Paused." in said and problems == "", said + problems


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT, signal.SIGKILL])
def test_rendering_that_is_ended_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """`vigil sample` in the middle, ended by `kill`, by Ctrl-C of it alone, and the hard way."""
    words = [Path(sys.executable).with_name("vigil"), "sample", tmp_path / "m", "--people", "400"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as parent:
        assert parent.stderr is not None
        deadline = time.monotonic() + 60
        while not any(tmp_path.rglob("*.mp4")):
            assert time.monotonic() < deadline and parent.poll() is None, "nothing was rendered"
            time.sleep(0.1)
        _end_and_wait_for_children(parent, number)
        assert b"Traceback" not in parent.stderr.read()


def wait_until_gone(children: list[psutil.Process]) -> None:
    """Fails where one of them is still there after a minute."""
    deadline = time.monotonic() + 60
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.1)


def _end_and_wait_for_children(parent: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    parent.send_signal(number)
    wait_until_gone(children)


def test_a_machine_says_how_many_processes_it_has_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """In params.yaml, which travels, another number would have all faces cut anew."""
    monkeypatch.setenv("VIGIL_WORKERS", "1")
    assert len(set(ordered_map(process_id, range(6), 2, str))) == 1
    for wrong in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("VIGIL_WORKERS", wrong)
        with pytest.raises(SettingsError, match=f"VIGIL_WORKERS is '{wrong}'"):
            next(ordered_map(process_id, range(6), 2, str))
