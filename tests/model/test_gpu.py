"""The way over a GPU, on one: trainings, attacks and what is made beside it. Skipped where there is none; test_hardware.py has what any machine can show."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import loop as loop_module
from model.attacks import pgd, robust_curve
from model.checkpoint import load_model, save_model
from model.export import export_onnx, parity
from model.hardware import best_device, describe_device
from model.training import fit, pretrain
from tests.model.test_training import AUGMENT, PHASE1, PHASE2, Stopped, stop_at
from tests.model.toys import lively_model, small_model, toy_clips
from workspace.errors import SettingsError

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
PHASES = [(pretrain, PHASE1), (fit, PHASE2)]
OF_LOSS = 0.02  # of two runs: sums in another order, which steps of Adam make more of


def trained(phase: Any, settings: Any, folder: Path, where: torch.device, progress: Any = None, **changed: Any) -> tuple[Any, Any]:
    model = small_model(1).to(where)
    return model, phase(model, toy_clips(20, lengths=(3, 2)), toy_clips(8, seed=9), settings.model_copy(update=changed), 3, folder, progress, augment=AUGMENT)


@pytest.mark.parametrize(("phase", "settings"), PHASES)
def test_a_gpu_learns_as_a_cpu_does(phase: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # else its convolutions have ten bits
    changed = {"adversarial_steps": 0, "lr": 0.0005}
    _, here = trained(phase, settings, tmp_path / "gpu", best_device(), **changed)
    _, there = trained(phase, settings, tmp_path / "cpu", torch.device("cpu"), **changed)
    assert len(here.history) == len(there.history) > 1
    for one, other in zip(here.history, there.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=OF_LOSS) and one["val_loss"] == pytest.approx(other["val_loss"], abs=OF_LOSS)
    assert "capability" in describe_device()


@pytest.mark.parametrize(("phase", "settings"), PHASES)
def test_half_precision_learns_and_attacked_clips_pass_through_it(phase: Any, settings: Any, tmp_path: Path) -> None:
    model, report = trained(phase, settings, tmp_path, best_device(), precision="auto", steps=60, validate_every=20)
    assert report.history[-1]["loss"] < report.history[0]["loss"] and report.history[-1]["val_auc"] > 0.9
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())


@pytest.mark.parametrize(("phase", "settings"), PHASES)
def test_a_run_that_was_stopped_goes_on_where_it_was(phase: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop_module, "CHECKPOINT_SHARE", 1e9)
    _, whole = trained(phase, settings, tmp_path / "whole", best_device())
    with pytest.raises(Stopped):
        trained(phase, settings, tmp_path / "parts", best_device(), stop_at(6))
    _, again = trained(phase, settings, tmp_path / "parts", best_device())
    assert 4 <= again.resumed_from < 8 and again.steps == whole.steps
    assert again.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], abs=OF_LOSS)


def test_an_attack_keeps_to_its_strength_and_turns_answers_there_too() -> None:
    model, rng = lively_model(3).to(best_device()), np.random.default_rng(0)
    clips = torch.from_numpy(rng.integers(0, 256, (12, 3, 3, 32, 32), dtype=np.uint8))
    with torch.no_grad():
        logits = model(clips.to(best_device()).float() / 255).cpu()
    fake = logits > logits.median()
    before = copy.deepcopy(model.state_dict())
    hit = pgd(model, clips.float() / 255, fake, eps=8 / 255, steps=5, step_size=2 / 255, seed=1)
    assert float((hit.cpu() - clips.float() / 255).abs().max()) <= 8 / 255 + 1e-6 and float(hit.min()) >= 0 and float(hit.max()) <= 1
    curves = [robust_curve(one, clips, fake, [0.0, 8 / 255], steps=5, restarts=1, seed=1, border=float(logits.median())) for one in (model, lively_model(3))]
    (clean, strong), (on_cpu, _) = curves
    assert clean.balanced_accuracy == pytest.approx(on_cpu.balanced_accuracy, abs=0.1) and strong.balanced_accuracy < clean.balanced_accuracy
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_compiled_backbone_trains_there(tmp_path: Path) -> None:
    _, plain = trained(pretrain, PHASE1, tmp_path / "plain", best_device())
    _, fast = trained(pretrain, PHASE1, tmp_path / "compiled", best_device(), compile=True)
    assert fast.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], abs=OF_LOSS)


def test_what_was_trained_there_is_stored_and_exported_as_from_a_cpu(tmp_path: Path) -> None:
    model, _ = trained(fit, PHASE2, tmp_path / "run", best_device())
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert next(loaded.parameters()).device.type == "cpu"
    export_onnx(loaded, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    assert parity(loaded, tmp_path / "model.onnx", [rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8) for _ in range(4)]) < 1e-3


def test_too_little_memory_says_which_setting_to_lower(tmp_path: Path) -> None:
    torch.cuda.empty_cache()
    left = torch.cuda.memory_reserved() + (24 << 20)  # room for the network and its averages, not for what a batch leaves in each layer
    torch.cuda.set_per_process_memory_fraction(left / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(SettingsError, match="not enough memory") as refusal:
            trained(pretrain, PHASE1, tmp_path, best_device(), batch=400, micro_batch=400)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "micro_batch (400)" in refusal.value.next_step
