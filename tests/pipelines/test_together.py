"""The learning stages in two processes, as the stage starts them: torchrun, one writer, an ordinary model at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines import pretrain, train
from tests.pipelines.small_world import add_batch, demo_settings, first_cycle, write_sets
from workspace.cycle import write_cycle


@pytest.mark.slow
def test_a_model_is_trained_in_two_processes_beside_a_folder_that_is_called_like_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from model.card import verify

    settings = demo_settings({"pretrain": {"processes": 2, "micro_batch": 4}, "train": {"processes": 2, "micro_batch": 4}, "gates": {"min_per_class": 2}})
    write_sets(tmp_path, add_batch(tmp_path, "b1", 20), {"b1"})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(json.loads(settings.model_dump_json(by_alias=True))))
    cycle = first_cycle()
    write_cycle(tmp_path, cycle)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("raise RuntimeError('the user has a folder of this name')\n")
    monkeypatch.chdir(tmp_path)
    first, second = pretrain.run(tmp_path, settings, cycle), train.run(tmp_path, settings, cycle)
    assert first["steps"] == settings.pretrain.steps and second["steps"] == settings.train.steps
    assert verify(tmp_path / "build/model").model_sha256 == second["model_sha256"]


def test_ctrl_c_pauses_two_processes_as_it_does_one(tmp_path: Path) -> None:
    """torchrun told of it by a traceback of its own, before the word that the work is paused."""
    settings = demo_settings({"pretrain": {"processes": 2, "micro_batch": 4, "steps": 100_000, "validate_every": 2, "patience": 50_000}})
    write_sets(tmp_path, add_batch(tmp_path, "b1", 20), {"b1"})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(json.loads(settings.model_dump_json(by_alias=True))))
    write_cycle(tmp_path, first_cycle())
    log, home = tmp_path / "log", str(Path(__file__).resolve().parents[2])
    with open(log, "wb") as output:
        command = [sys.executable, "-P", "-m", "pipelines.pretrain"]
        stage = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True, env={**os.environ, "PYTHONPATH": home})
    try:
        until = time.monotonic() + 300
        while stage.poll() is None and not list(tmp_path.glob(".vigil/checkpoints/pretrain-*/*")):
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        family = psutil.Process(stage.pid).children(recursive=True)
        os.killpg(stage.pid, signal.SIGINT)
        assert stage.wait(120) == 130, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(stage.pid, signal.SIGKILL)  # torchrun too; its workers, in groups of their own, end with the stage
    assert len(family) >= 3 and psutil.wait_procs(family, timeout=30)[1] == []
    said = log.read_text()
    assert "Traceback" not in said and "signal" not in said, said
    assert json.loads((tmp_path / ".vigil/failure.json").read_text())["kind"] == "paused"
