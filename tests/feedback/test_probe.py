"""The probe: a real service process that only scores clips, for the last question before a promotion."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

import flows.probe
from feedback.serving import golden_clip
from model.inference import Engine
from tests.feedback.conftest import command, environment, model_sha256, running, wait_for
from tests.feedback.test_service import is_problem
from tests.system.world import words_of
from workspace.settings import Settings


def test_the_probe_scores_raw_clips_exactly_as_the_engine_does(root: Path, models: tuple[Path, Path]) -> None:
    engine = Engine(models[0])
    size = engine.card.faces.size_px
    with running(root, "--model-dir", str(models[0]), "--probe") as service:
        ready = service.client.get("/readyz")
        assert ready.status_code == 200, "the ready file of a probe is written when the model has answered"
        assert ready.json()["model_sha256"] == model_sha256(models[0]) and ready.json()["origin"] == "directory"
        for frames in (1, 4, 6):
            clip = np.random.default_rng(frames).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)
            answer = service.client.post("/v1/clips", content=clip.tobytes(), headers={"X-Shape": f"{frames},{size},{size},3"})
            expected = engine.score_clips([clip])[0]
            assert answer.status_code == 200 and answer.json()["logit"] == pytest.approx(expected.logit, abs=1e-6)
            assert answer.json()["p_fake"] == pytest.approx(expected.p_fake) and len(answer.json()["certainty"]) == frames

        clip = golden_clip(size)
        for shape in ("", "4,64,64", "4,64,64,4", "0,64,64,3", "4,32,32,3", "-4,64,64,3", "9999,64,64,3", "a,b,c,d", "4,64,64,3,1", "²,64,64,3"):
            headers = {"X-Shape": shape.encode()}
            is_problem(service.client.post("/v1/clips", content=clip.tobytes(), headers=headers), 422)
        for body in (b"", clip.tobytes()[:-1], clip.tobytes() + b"x"):
            is_problem(service.client.post("/v1/clips", content=body, headers={"X-Shape": f"4,{size},{size},3"}), 422)
        assert service.client.post("/v1/detections", files={"file": ("a", b"x")}).status_code == 404
        assert service.stop() == 0
    assert sorted(path.name for path in root.iterdir()) == [".vigil", "params.yaml"], "a probe writes nothing into the workspace"
    assert list((root / ".vigil").iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_model_that_cannot_be_loaded_ends_the_probe_with_the_reason(root: Path, models: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
    broken, ready = tmp_path / "broken", tmp_path / "ready.json"
    shutil.copytree(models[0], broken)
    if damage == "changed":
        with open(broken / "model.onnx", "ab") as handle:
            handle.write(b"x")
    else:
        (broken / "card.json").unlink()
    arguments = [sys.executable, *command(root, ready, "--model-dir", str(broken), "--probe")]
    ended = subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and not ready.exists()
    assert ("sha256" if damage == "changed" else "card") in ended.stderr and "Traceback" not in ended.stderr


def test_a_probe_without_a_model_is_a_usage_error(root: Path, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, *command(root, tmp_path / "r.json", "--probe")], env=environment(), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and "--model-dir" in ended.stderr


@pytest.mark.parametrize("between", [(), ("sh", "-c", '"$@"; true', "sh")], ids=["its own", "a named one"])
def test_a_probe_ends_when_its_parent_is_killed(root: Path, models: tuple[Path, Path], tmp_path: Path, between: tuple[str, ...]) -> None:
    ready = tmp_path / "ready.json"
    arguments = [*between, sys.executable, *command(root, ready, "--model-dir", str(models[0]), "--probe")]
    code = "import os, subprocess; from workspace.processes import parent_token; os.environ['VIGIL_PARENT'] = parent_token()"
    code += f"; subprocess.Popen({arguments!r}).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment(), cwd=root)
    try:
        wait_for(ready.exists, bool)
        probe = psutil.Process(json.loads(ready.read_text())["pid"])
        assert probe.is_running() and (probe.ppid() == parent.pid) == (not between)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_for(lambda: not probe.is_running() or probe.status() == psutil.STATUS_ZOMBIE, bool)
        assert not ready.exists(), "it ended cleanly and took its ready file along"
    finally:
        if parent.poll() is None:
            parent.kill()


def test_a_clock_that_was_set_meanwhile_ends_no_probe(root: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """When a process began is told by the wall clock: a step of 2 s in the hours of a cycle ended its probe, and the week was held with every gate passed."""
    monkeypatch.setenv("VIGIL_PARENT", f"{os.getpid()}:{psutil.Process().create_time() - 60}")
    with running(root, "--model-dir", str(models[0]), "--probe") as service, pytest.raises(subprocess.TimeoutExpired):
        service.process.wait(3)


def test_a_service_that_is_not_ready_in_time_is_not_promoted(
    root: Path, models: tuple[Path, Path], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start takes a minute: Python imports `sitecustomize` before anything else."""
    (tmp_path / "sitecustomize.py").write_text("import time\n\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    hurried = settings.model_copy(update={"serve": settings.serve.model_copy(update={"ready_timeout_seconds": 1})})
    found = flows.probe.probe_model(root, hurried, models[0])
    assert not found.passed and "not ready after 1 s" in found.reason
    assert not [one for one in psutil.Process().children() if "feedback.serve" in words_of(one)], "it was ended"


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_service_that_dies_or_hangs_while_it_is_asked_holds_and_says_so(
    root: Path, models: tuple[Path, Path], settings: Settings, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Before, the error left the flow, and every later run met it again: the cycle could never end."""

    def spoiled(client: httpx.Client, *_: object) -> None:
        (served,) = [one for one in psutil.Process().children() if "feedback.serve" in words_of(one)]
        served.send_signal(signal.SIGKILL if how == "dies" else signal.SIGSTOP)
        try:
            client.get("/readyz", timeout=2.0)
        finally:
            if how == "hangs":
                served.send_signal(signal.SIGCONT)

    monkeypatch.setattr(flows.probe, "_compare", spoiled)
    found = flows.probe.probe_model(root, settings, models[0])
    assert not found.passed and ("ended with code -9" if how == "dies" else "did not answer") in found.reason


def test_ctrl_c_reaches_the_flow_and_not_its_probe(root: Path, models: tuple[Path, Path], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sends it to the whole group: the service ended as it should, and the week was held because its model had not answered."""

    def alone(*_: object) -> flows.probe.ProbeResult:
        (served,) = [one for one in psutil.Process().children() if "feedback.serve" in words_of(one)]
        assert os.getpgid(served.pid) != os.getpgid(0)
        return flows.probe.ProbeResult(False, "seen")

    monkeypatch.setattr(flows.probe, "_compare", alone)
    assert flows.probe.probe_model(root, settings, models[0]).reason == "seen"
