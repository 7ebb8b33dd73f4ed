"""Two real processes train like one: the same gradients, the same weights, one of them writes; a failure of one is an error of all."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from model import parallel
from model.checkpoint import load_model, load_tensors, save_model, save_tensors
from model.parallel import gathered, joined, launch, leads, share, size, telling
from model.training import _Fit, fit, pretrain
from tests.model.test_training import AUGMENT, PHASE2, run
from tests.model.toys import small_model, toy_clips
from workspace.errors import Killed, TooLittleData, VigilError
from workspace.processes import end_with_children

OF_GRADIENT = 1e-5  # largest difference, as a part of the largest gradient: sums of floats in another order
OF_WEIGHTS = 5e-4  # after eight steps of Adam, which divides small gradients by small numbers


def main(out: Path) -> None:
    """What each of the processes does (this module, started by torchrun)."""
    torch.set_num_threads(1)
    with telling(), joined():
        assert size() == 2 and leads() == (share(2).start == 0)
        assert gathered(torch.arange(6.0)[share(6)], 6).tolist() == [0, 1, 2, 3, 4, 5]
        me = "first" if leads() else "other"
        (out / f"address-{me}").write_text(os.environ["MASTER_ADDR"])
        (out / f"threads-{me}").write_text(os.environ["OMP_NUM_THREADS"])
        save_tensors(out / f"gradient-{me}.safetensors", gradients(4), {})
        for name, phase in (("pretrain", pretrain), ("fit", fit)):
            model, _ = run(phase, out / "checkpoints" / name, micro_batch=4)
            save_model(model, out / f"{name}-{me}.safetensors")


def gradients(micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient of one step of phase 2: distillation, the joint Wasserstein term and an attack included."""
    model, clips = small_model(1), toy_clips(20, lengths=(3, 2))
    clips.rows.loc[:9, "role"] = "replay"
    task = _Fit(model, clips, PHASE2.model_copy(update={"micro_batch": micro_batch}), 3, AUGMENT, small_model(2))
    with task.ahead:
        task.work(4)
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes left their gradients and models."""
    out = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        patch.delenv("OMP_NUM_THREADS", raising=False)
        patch.setattr(parallel, "cores_here", lambda: 6)
        launch("tests.model.test_parallel", str(out), processes=2)
    return out


def largest_difference(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def test_the_gradient_of_two_processes_is_that_of_one(together: Path) -> None:
    alone = gradients(4)
    largest = max(float(gradient.abs().max()) for gradient in alone.values())
    for name in ("first", "other"):
        found, _ = load_tensors(together / f"gradient-{name}.safetensors")
        assert set(found) == set(alone) and largest > 0
        assert max(float((found[key] - alone[key]).abs().max()) for key in alone) < OF_GRADIENT * largest


def test_the_processes_need_no_name_of_the_machine(together: Path) -> None:
    """They met under its name, and waited for ever where nobody resolves it, as in many containers."""
    assert {path.read_text() for path in together.glob("address-*")} == {"127.0.0.1"}


def test_the_cores_are_shared_among_the_processes(together: Path) -> None:
    """Each had one thread, whatever the machine: torchrun says so unless it is told otherwise, and warned of it where nobody could read it."""
    assert [(together / f"threads-{who}").read_text() for who in ("first", "other")] == ["3", "3"]


def test_two_processes_end_where_one_with_two_micro_batches_ends(together: Path, tmp_path: Path) -> None:
    """Phase 2, where batch norm's statistics are frozen: distillation, the joint Wasserstein term and attacks included."""
    alone, _ = run(fit, tmp_path / "alone", micro_batch=4)
    both = [load_model(together / f"fit-{name}.safetensors") for name in ("first", "other")]
    assert largest_difference(*both) == 0, "the processes stay equal to the bit"
    assert largest_difference(both[0], alone) < OF_WEIGHTS


def test_phase_1_normalises_by_shares_and_stays_equal_in_both(together: Path) -> None:
    both = [load_model(together / f"pretrain-{name}.safetensors") for name in ("first", "other")]
    assert largest_difference(*both) == 0
    assert all(len(list((together / "checkpoints" / name).iterdir())) == 1 for name in ("pretrain", "fit")), "one of them writes checkpoints"


@pytest.mark.slow
def test_one_that_fails_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # TMPDIR is read once
    with pytest.raises(VigilError, match="2 processes failed"):
        launch("tests.model.ends", "fail", processes=2)
    assert list(tmp_path.iterdir()) == [], "torchrun left a folder behind at each training"


def test_what_one_has_to_say_is_the_error_of_all(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    with pytest.raises(TooLittleData) as said:
        launch("tests.model.ends", "say", processes=2)
    assert (said.value.what, said.value.why, said.value.next_step) == ("One of us could not.", "too few", "More.")
    assert "TooLittleData" not in capfd.readouterr().err


def test_one_that_was_killed_ends_all_and_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The words that it sent to were not there: who is killed says nothing."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    with pytest.raises(VigilError, match=r"was killed \(signal 9\).*memory(.|\n)*goes on where it was(.|\n)*micro_batch") as said:
        launch("tests.model.ends", "SIGKILL", processes=2)
    assert "above" not in str(said.value) and "torch.distributed.run" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("how", "told"), [pytest.param("SIGSEGV", "ended by signal 11: Segmentation fault", marks=pytest.mark.slow), ("tell", r"told to end \(signal 15\)")]
)
def test_the_signal_that_ended_them_is_named(monkeypatch: pytest.MonkeyPatch, how: str, told: str) -> None:
    """Of a crash, or of a launcher that was told to end, it said that the words are above, where there were none."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    with pytest.raises(Killed, match=told) as said:
        launch("tests.model.ends", how, processes=2)
    assert "above" not in str(said.value) and "memory" not in str(said.value)


@pytest.mark.parametrize("to_all", [False, True])
def test_ctrl_c_in_the_moment_of_the_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, to_all: bool) -> None:
    """It struck between the start of the launcher and the first look at it, which then went on without its stage.

    A terminal's reaches the process (`to_all`): another thread, such as the one of a stage's deadline, took what this one held back.
    """
    started: list[int] = []
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()

    class Struck(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            started.append(self.pid)
            if to_all:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)  # until that thread has taken it
            else:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Struck)
    with pytest.raises(KeyboardInterrupt):
        launch("tests.model.ends", "fail", processes=2)
    left = [pid for pid in started if psutil.pid_exists(pid)]
    for pid in left:
        end_with_children(pid)
    assert len(started) == 1 and not left


if __name__ == "__main__":
    main(Path(sys.argv[1]))
