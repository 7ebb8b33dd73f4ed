"""Media and workspaces that the system tests share; each made once a session."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from benchmarks.commands import one_prefect_server
from benchmarks.kills import Round, environment, running_stage, stage_name, strike
from media.synthetic import make_sample_media
from tests.system.world import Asked, Broken, change_settings, copy_workspace, events, key_of, quick_workspace, vigil
from workspace.files import read_json, sha256_bytes


@pytest.fixture(scope="session")
def in_one_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the suite runs in several processes, one has all tests that share media and workspaces: these take minutes to make."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        mark = tmp_path_factory.getbasetemp().parent / "system-tests"  # the folder of all processes
        with open(mark, "a+") as handle:
            handle.seek(0)
            others = set(handle.read().split()) - {worker}
            assert not others, f"{worker} makes what system tests share, and so do {others}: see ALONE in tests/conftest.py"
            handle.write(f"{worker}\n")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def media(in_one_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of 16 rendered people, two real clips and two blendswaps each."""
    out = tmp_path_factory.mktemp("media") / "first"
    make_sample_media(out, people=16, clips_per_person=2, seconds=1.0, fakes={"blendswap": 2}, seed=5)
    return out / "labels.csv"


@pytest.fixture(scope="session")
def second_media(in_one_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of a later week: other people, another forger."""
    out = tmp_path_factory.mktemp("media") / "second"
    make_sample_media(out, people=12, clips_per_person=1, seconds=1.0, fakes={"upsampler": 1}, seed=5, first_person=100)
    return out / "labels.csv"


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """A workspace with one new batch, from a plain folder, and no cycle yet. Copy it before changing it."""
    root = quick_workspace(tmp_path_factory.mktemp("ingested") / "w")
    vigil("ingest", media.parent, "--layout", "folder", "--identity", r"pattern:^(p\d+)", "--name", "plain", "-w", root)
    return root


@pytest.fixture(scope="session")
def settings_read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every stage writes down the settings it reads, from the first cycle on (tests/guard/reads.py)."""
    log = tmp_path_factory.mktemp("reads") / "log"
    os.environ["STAGE_READS_LOG"] = str(log)
    return log


@pytest.fixture(scope="session")
def paused(tmp_path_factory: pytest.TempPathFactory, ingested: Path, settings_read: Path) -> Broken:
    """The first cycle, stopped in phase 1 as Ctrl-C in a terminal does it. One cycle serves this and all that needs a finished one: a cycle takes minutes."""
    root = copy_workspace(ingested, tmp_path_factory.mktemp("promoted") / "w")
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


@pytest.fixture(scope="session")
def struck(paused: Broken) -> dict[str, Any]:
    """The paused cycle goes on, one of its stages is killed on the way, and the flow's own retry mends that: what `strike` says of it."""
    return strike(paused.root, Round("stage", "train", 1.0))


@pytest.fixture(scope="session")
def promoted(paused: Broken, struck: dict[str, Any]) -> Path:
    """The same workspace after its first cycle, promoted. Copy it before changing it."""
    said = (paused.root / ".vigil" / "kill-drill.log").read_text()
    assert [one["fields"]["outcome"] for one in events(paused.root, "cycle_closed")] == ["promoted"] and "PROMOTED" in said, said[-3000:]
    return paused.root


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory, promoted: Path) -> Asked:
    """A copy of the promoted workspace, in whose service a clip was uploaded, became a case, and was reviewed by two people, with what was said."""
    root = copy_workspace(promoted, tmp_path_factory.mktemp("asked") / "w")
    make_sample_media(root.parent / "upload", people=2, clips_per_person=1, seconds=1.0, fakes={}, seed=77)
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


@pytest.fixture(scope="session")
def scheduled(asked: Asked, second_media: Path) -> Broken:
    """A second cycle, with the reviewed case and a batch of another forger, started by a served deployment.

    It is due every minute, so the slot is at most a minute ahead, and comes again while the first run is still at work.
    """
    root = asked.root
    vigil("ingest", second_media, "-w", root)
    before, log = len(events(root, "cycle_closed")), root.parent / "log"
    with open(log, "wb") as output:
        served = subprocess.Popen(
            [sys.executable, "-m", "vigil", "schedule", "-w", str(root), "--cron", "* * * * *"],
            stdout=output, stderr=subprocess.STDOUT, env=environment(), start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 600
        while len(events(root, "cycle_closed")) == before and time.monotonic() < deadline and served.poll() is None:
            time.sleep(1)
        time.sleep(3)  # the commit follows the journal's last line
    finally:
        os.killpg(served.pid, signal.SIGINT)  # as a terminal does
        try:
            served.wait(60)
        except subprocess.TimeoutExpired:
            served.kill()
            served.wait()
    return Broken(root, served.returncode, log.read_text(), events(root))


@pytest.fixture(scope="session")
def twice(scheduled: Broken) -> Path:
    """The same workspace after two cycles, the second with another forger, promoted too. Copy it before changing it."""
    closed = events(scheduled.root, "cycle_closed")
    assert [one["fields"]["outcome"] for one in closed] == ["promoted", "promoted"], scheduled.said[-3000:]
    return scheduled.root
