"""Media and workspaces that the system tests share; each made once a session."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from benchmarks.commands import one_prefect_server
from benchmarks.kills import Round, at_work, environment, recorded, running_stage, stage_name, strike
from media.synthetic import make_sample_media
from tests.size import drill
from tests.system.world import Asked, Broken, change_settings, copy_workspace, events, key_of, quick_workspace, stage_runs, vigil
from workspace.files import read_json, sha256_bytes
from workspace.revisions import git

SIZE_PX = 160  # faces of 85 px, which suffice for clips of 64; drawing larger pictures takes twice as long
PATIENCE_SECONDS = 600


@pytest.fixture(scope="package")
def in_one_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the suite runs in several processes, one has all tests that share media and workspaces: these take minutes to make."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        mark = tmp_path_factory.getbasetemp().parent / "system-tests"  # the folder of all processes
        with open(mark, "a+") as handle:
            handle.seek(0)
            others = set(handle.read().split()) - {worker}
            assert not others, f"{worker} makes what system tests share, and so do {others}: see ALONE in tests/conftest.py"
            handle.write(f"{worker}\n")


@pytest.fixture(scope="package")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where a Prefect server runs that only `one_server` lets cycles use."""
    with one_prefect_server(tmp_path_factory.mktemp("prefect")):
        found = {name: os.environ.pop(name) for name in ("PREFECT_API_URL", "PREFECT_HOME")}
        yield found
        os.environ.update(found)


@pytest.fixture
def one_server(prefect: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cycles of this test use one running Prefect server, as in infra/; those of other tests start their own, for ten seconds and more each."""
    for name, value in prefect.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="package")
def media(in_one_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of 16 rendered people, two real clips and two blendswaps each."""
    out = tmp_path_factory.mktemp("media") / "first"
    make_sample_media(out, people=16, clips_per_person=2, seconds=1.0, fakes={"blendswap": 2}, seed=5, size_px=SIZE_PX)
    return out / "labels.csv"


@pytest.fixture(scope="package")
def second_media(in_one_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of a later week: other people, another forger."""
    out = tmp_path_factory.mktemp("media") / "second"
    make_sample_media(out, people=12, clips_per_person=1, seconds=1.0, fakes={"upsampler": 1}, seed=5, first_person=100, size_px=SIZE_PX)
    return out / "labels.csv"


@pytest.fixture(scope="package")
def ingested(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """A workspace with one new batch, from a plain folder, and no cycle yet. Copy it before changing it."""
    root = quick_workspace(tmp_path_factory.mktemp("ingested") / "w")
    vigil("ingest", media.parent, "--layout", "folder", "--identity", r"pattern:^(p\d+)", "--name", "plain", "-w", root)
    return root


@pytest.fixture(scope="package")
def settings_read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every stage writes down the settings it reads, from the first cycle on (tests/guard/reads.py)."""
    log = tmp_path_factory.mktemp("reads") / "log"
    os.environ["STAGE_READS_LOG"] = str(log)
    return log


def die(root: Path, server: dict[str, str], plans: Sequence[Round]) -> list[dict[str, Any]]:
    """Deaths of one cycle after another, as `strike` tells of them. Its lives use one running server: those of their own would die with them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.items():
            patch.setenv(name, value)
        return [strike(root, plan) for plan in plans]


def kill_stage(root: Path, stage: str, delay_seconds: float) -> dict[str, Any]:
    """Kill this stage alone, so long after it began, and say what stood at that moment: the flow goes on, and has to run it again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := [process for process, words in at_work(root) if f"pipelines.{stage}" in words]) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(delay_seconds)
    found[0].kill()
    return {"victim": f"stage {stage}", "recorded": sorted(recorded(root)), "runs": len(stage_runs(root))}


@pytest.fixture(scope="package")
def dying(tmp_path_factory: pytest.TempPathFactory, ingested: Path, prefect: dict[str, str], settings_read: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The first cycle's workspace and the deaths before phase 1. One cycle serves the kill drill and all that needs a finished one: it takes minutes."""
    root = copy_workspace(ingested, tmp_path_factory.mktemp("promoted") / "w")
    early = (Round("parent", "", 2.0), Round("group", "faces", 0.5), Round("parent", "validate", 0.0, after=True), Round("group", "forge", 0.5))
    return root, die(root, prefect, early[: drill(2, 4)])


@pytest.fixture(scope="package")
def paused(dying: tuple[Path, list[dict[str, Any]]]) -> Broken:
    """The same cycle, with a server of its own, stopped in phase 1 as Ctrl-C in a terminal does it."""
    root, _ = dying
    log = root.parent / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vigil", "retrain", "-w", str(root)], stdout=output, stderr=output, start_new_session=True, env=environment()
        )
    while process.poll() is None:
        stage = running_stage(psutil.Process(process.pid))
        if stage is not None and stage_name(stage) == "pretrain":
            time.sleep(2.5)
            os.killpg(process.pid, signal.SIGINT)
            break
        time.sleep(0.05)
    code = process.wait(120)
    assert code == 130, log.read_text()[-3000:]
    copy_workspace(root, root.parent / "as it was left")
    return Broken(root, code, log.read_text(), events(root))


@pytest.fixture(scope="package")
def deaths(dying: tuple[Path, list[dict[str, Any]]], paused: Broken, prefect: dict[str, str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All deaths of the first cycle, in stages, with everything around them, and between stages; and of a stage alone, whose flow went on."""
    root, before = dying
    late = (Round("parent", "pretrain", 1.0), Round("group", "harden", 0.2), Round("group", "train", 1.0))
    later = die(root, prefect, late[: drill(1, 3)])
    with ThreadPoolExecutor(1) as pool:  # the life that loses its stage `train` alone dies in the next
        last = pool.submit(die, root, prefect, (Round("group", "evaluate", 2.0), Round("parent", "gate", 1.0, after=True)))
        struck = kill_stage(root, "train", 1.0)
    return [*before, *later, *last.result()], struck


@pytest.fixture(scope="package")
def promoted(paused: Broken, deaths: tuple[list[dict[str, Any]], dict[str, Any]]) -> Path:
    """The same workspace after its first cycle, promoted. Copy it before changing it."""
    done = vigil("retrain", "-w", paused.root, check=False)
    said = done.stdout + done.stderr
    assert [one["fields"]["outcome"] for one in events(paused.root, "cycle_closed")] == ["promoted"] and "PROMOTED" in said, said[-3000:]
    assert done.returncode == 0, said[-3000:]
    return paused.root


@pytest.fixture(scope="package")
def asked(tmp_path_factory: pytest.TempPathFactory, promoted: Path) -> Asked:
    """A copy of the promoted workspace, in whose service a clip was uploaded, became a case, and was reviewed by two people, with what was said."""
    root = copy_workspace(promoted, tmp_path_factory.mktemp("asked") / "w")
    make_sample_media(root.parent / "upload", people=2, clips_per_person=1, seconds=1.0, fakes={}, seed=77, size_px=SIZE_PX)
    clip = sorted((root.parent / "upload" / "real").glob("*.mp4"))[0].read_bytes()
    queue = yaml.safe_load((root / "params.yaml").read_text())["feedback"]["queue"]
    change_settings(root, {"feedback": {"queue": {**queue, "audit_fraction": 1.0}}})  # what it is sure of becomes a case too
    sender, ana, ben = (key_of(root, name, role) for name, role in (("sam", "viewer"), ("ana", "reviewer"), ("ben", "reviewer")))
    ready = root.parent / "ready.json"
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "feedback.serve", "--workspace", str(root), "--port", "0", "--ready-file", str(ready)], env=environment()
    )
    try:
        deadline = time.monotonic() + 120
        while not ready.exists() and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.1)
        with httpx.Client(base_url=read_json(ready)["url"], timeout=60, trust_env=False) as client:
            while client.get("/readyz").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.2)
            clip_file = {"file": ("../../etc/passwd.mp4", clip, "video/mp4")}
            detected = client.post("/v1/detections", files=clip_file, params={"wait": 60}, headers=sender)
            case = detected.json()["case_id"]
            review = {"label": "real", "note": "known person"}
            answers = [client.post(f"/v1/cases/{case}/review", json=review, headers=who) for who in (ana, ana, ben)]
    finally:
        server.terminate()
        server.wait(30)
    return Asked(root, sha256_bytes(clip), detected, answers)


def copy_in_a_moment(root: Path, to: Path) -> None:
    """A workspace in which processes work, as it would be found if all of them died now."""
    stopped = {process for _ in range(2) for process, _ in at_work(root) if process.suspend() is None}  # again for one that was just being started
    try:
        copy_workspace(root, to)
    finally:
        for process in stopped:
            process.resume()


def closed_and_committed(root: Path) -> list[str]:
    """The cycles whose tag is in the repository."""
    return git(root, "tag", "--list", "vigil/*").split()


@pytest.fixture(scope="package")
def scheduled(asked: Asked, second_media: Path) -> Broken:
    """A second cycle, with the reviewed case and a batch of another forger, started by a served deployment.

    It is due every minute, so the slot is at most a minute ahead, and comes again while the first run is still at work. Beside it lies the workspace as it
    was once the model had been judged.
    """
    root, judged = asked.root, asked.root.parent / "judged"
    vigil("ingest", second_media, "-w", root)
    before, log = closed_and_committed(root), root.parent / "log"
    candidates = len(events(root, "candidate"))
    with open(log, "wb") as output:
        served = subprocess.Popen(
            [sys.executable, "-m", "vigil", "schedule", "-w", str(root), "--cron", "* * * * *"],
            stdout=output, stderr=subprocess.STDOUT, env=environment(), start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while closed_and_committed(root) == before and time.monotonic() < deadline and served.poll() is None:  # the tag is the last thing that a cycle makes
            if len(events(root, "candidate")) > candidates and not judged.exists():
                copy_in_a_moment(root, judged)
            time.sleep(0.2)
    finally:
        os.killpg(served.pid, signal.SIGINT)  # as a terminal does
        try:
            served.wait(60)
        except subprocess.TimeoutExpired:
            served.kill()
            served.wait()
    return Broken(root, served.returncode, log.read_text(), events(root))


@pytest.fixture(scope="package")
def twice(scheduled: Broken) -> Path:
    """The same workspace after two cycles, the second with another forger, promoted too. Copy it before changing it."""
    closed = events(scheduled.root, "cycle_closed")
    assert [one["fields"]["outcome"] for one in closed] == ["promoted", "promoted"], scheduled.said[-3000:]
    return scheduled.root
