"""Two real processes train like one: the same gradients, the same weights, one of them writes; a failure of one is an error of all."""

import sys
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_model, load_tensors, save_model, save_tensors
from model.parallel import gathered, joined, launch, leads, share, size
from model.training import _Fit, fit, pretrain
from tests.model.test_training import AUGMENT, PHASE2, run
from tests.model.toys import small_model, toy_clips
from workspace.errors import VigilError

PHASES = {"pretrain": pretrain, "fit": fit}
OF_GRADIENT = 1e-5  # largest difference, as a part of the largest gradient: sums of floats in another order
OF_WEIGHTS = 5e-4  # after eight steps of Adam, which divides small gradients by small numbers


def main(phase: str, out: Path) -> None:
    """What each of the processes does (this module, started by torchrun)."""
    torch.set_num_threads(1)
    with joined():
        assert size() == 2 and leads() == (share(2).start == 0)
        if phase == "fail" and not leads():
            raise RuntimeError("one of us could not")
        if phase == "gradient":
            save_tensors(out / f"{'first' if leads() else 'other'}.safetensors", gradients(4), {})
            return
        assert gathered(torch.arange(6.0)[share(6)], 6).tolist() == [0, 1, 2, 3, 4, 5]
        model, report = run(PHASES[phase], out / "checkpoints", micro_batch=4)
        if leads():
            save_model(model, out / "model.safetensors", {"steps": report.steps})
        else:
            assert not (out / "other").exists()
            save_model(model, out / "other.safetensors")


def gradients(micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient of one step of phase 2: distillation, the joint Wasserstein term and an attack included."""
    model, clips = small_model(1), toy_clips(20, lengths=(3, 2))
    clips.rows.loc[:9, "role"] = "replay"
    task = _Fit(model, clips, PHASE2.model_copy(update={"micro_batch": micro_batch}), 3, AUGMENT, small_model(2))
    with task.ahead:
        task.work(4)
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def together(phase: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    launch("tests.model.test_parallel", phase, str(out), processes=2)


def largest_difference(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def test_the_gradient_of_two_processes_is_that_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together("gradient", tmp_path, monkeypatch)
    alone = gradients(4)
    largest = max(float(gradient.abs().max()) for gradient in alone.values())
    for name in ("first", "other"):
        found, _ = load_tensors(tmp_path / f"{name}.safetensors")
        assert set(found) == set(alone) and largest > 0
        assert max(float((found[key] - alone[key]).abs().max()) for key in alone) < OF_GRADIENT * largest


def test_two_processes_end_where_one_with_two_micro_batches_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Phase 2, where batch norm's statistics are frozen: distillation, the joint Wasserstein term and attacks included."""
    together("fit", tmp_path, monkeypatch)
    alone, _ = run(fit, tmp_path / "alone", micro_batch=4)
    both = [load_model(tmp_path / name) for name in ("model.safetensors", "other.safetensors")]
    assert largest_difference(*both) == 0, "the processes stay equal to the bit"
    assert largest_difference(both[0], alone) < OF_WEIGHTS


def test_phase_1_normalises_by_shares_and_stays_equal_in_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together("pretrain", tmp_path, monkeypatch)
    both = [load_model(tmp_path / name) for name in ("model.safetensors", "other.safetensors")]
    assert largest_difference(*both) == 0
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_one_that_fails_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VigilError, match="2 processes failed"):
        together("fail", tmp_path, monkeypatch)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
