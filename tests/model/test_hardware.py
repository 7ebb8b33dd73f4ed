"""What a machine without a GPU can show of the way over one: the choice of the device, the words where it does not do, numbers that would be lost."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from model.attacks import pgd
from model.hardware import best_device, describe_device
from model.loop import Loop
from model.parallel import launch
from model.temporal import read
from model.training import autocast
from tests.model.toys import small_model
from workspace.errors import SettingsError
from workspace.settings import PretrainSettings


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """torch as it speaks on a machine with one GPU, whose `capability` may be changed."""
    one = SimpleNamespace(capability=(9, 0))
    about = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_arch_list": lambda: ["sm_75", "sm_80", "sm_90a", "compute_120"],
        "get_device_name": lambda number=0: "Some GPU",
        "get_device_capability": lambda number=0: one.capability,
        "get_device_properties": lambda number=0: SimpleNamespace(name="Some GPU", total_memory=80 << 30, major=one.capability[0], minor=one.capability[1]),
    }
    for name, value in about.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    torch.cuda.is_bf16_supported.cache_clear() if hasattr(torch.cuda.is_bf16_supported, "cache_clear") else None
    return one


def test_the_device_is_named(gpu: SimpleNamespace) -> None:
    assert best_device() == torch.device("cuda", 0) and describe_device() == "Some GPU, 80 GiB, capability 9.0"


def test_without_a_gpu_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device() == torch.device("cpu") and describe_device().startswith("the CPU: ")


def test_a_gpu_that_this_torch_no_longer_speaks_to_is_refused_before_anything_runs(gpu: SimpleNamespace) -> None:
    gpu.capability = (7, 0)
    with pytest.raises(SettingsError, match="too old") as refusal:
        best_device()
    assert "7.0" in refusal.value.why and "7.5" in refusal.value.why and "CUDA_VISIBLE_DEVICES=" in refusal.value.next_step


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_only_gpus_that_multiply_bfloat16_themselves_are_given_it(gpu: SimpleNamespace, capability: tuple[int, int], wanted: bool) -> None:
    gpu.capability = capability
    assert torch.cuda.is_bf16_supported(including_emulation=False) is wanted
    assert autocast(torch.device("cuda"), "auto")._enabled is wanted
    assert autocast(torch.device("cuda"), "fp32")._enabled is False


def test_more_processes_than_gpus_are_refused_before_they_start(gpu: SimpleNamespace) -> None:
    with pytest.raises(SettingsError, match="2 processes") as refusal:
        launch("tests.model.test_parallel", "nowhere", processes=2)
    assert refusal.value.next_step == "Set `processes` to 1 in params.yaml."


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_a_recurrent_head_keeps_float32_and_its_small_gradients(kind: str, lengths: list[int] | None) -> None:
    """CUDA's autocast gives cuDNN float16 whatever was asked: with a loss of 1e-5 every gradient of the head was zero."""
    torch.manual_seed(1)
    module = (torch.nn.LSTM if kind == "lstm" else torch.nn.GRU)(6, 4, batch_first=True)
    features, wanted = torch.randn(2, 3, 6), None if lengths is None else torch.tensor(lengths)
    plain = read(module, features, wanted)
    with torch.autocast("cpu", torch.bfloat16):
        found = read(module, features.bfloat16().float(), wanted)
        assert read(module, features.bfloat16(), wanted).dtype == torch.float32
    assert found.dtype == torch.float32 and torch.equal(read(module, features.bfloat16().float(), wanted), found) and found.shape == plain.shape
    (1e-7 * found.sum()).backward()
    assert module.weight_hh_l0.grad is not None and module.weight_hh_l0.grad.abs().min() > 0


@pytest.mark.parametrize("where", ["a step", "validation"])
def test_too_little_memory_of_the_gpu_is_an_error_with_a_way_out(tmp_path: Path, where: str) -> None:
    model = torch.nn.Linear(2, 1)

    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8.00 GiB. If reserved but unallocated memory is large ...")

    def work(step: int) -> Mapping[str, float]:
        if where == "a step":
            full()
        model(torch.ones(1, 2)).sum().backward()
        return {}

    loop = Loop(model, PretrainSettings(lr=0.01, steps=1, validate_every=1, micro_batch=8, batch=8), ema=0.9, clip_norm=1.0, folder=tmp_path)
    with pytest.raises(SettingsError, match="not enough memory for a step of training") as refusal:
        loop.run(work, full)  # type: ignore[arg-type]
    assert "Tried to allocate 2.00 GiB" in refusal.value.why and "reserved" not in refusal.value.why
    assert "micro_batch (8)" in refusal.value.next_step and "CUDA_VISIBLE_DEVICES=" in refusal.value.next_step


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import torch
from model.loop import Loop
from workspace.settings import PretrainSettings
model = torch.nn.Linear(64, 64)
loop = Loop(model, PretrainSettings(lr=0.01, steps=1, validate_every=1, micro_batch=8, batch=8), ema=0.9, clip_norm=1.0, folder=Path(sys.argv[1]))
def work(step):
    {"torch": lambda: torch.ones(1 << 30), "numpy": lambda: __import__("numpy").ones(1 << 30)}[sys.argv[2]]()
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (256 << 20), resource.RLIM_INFINITY))
try:
    loop.run(work, dict)
except BaseException as problem:
    print(type(problem).__name__, problem)
"""


@pytest.mark.parametrize("whose", ["torch", "numpy"])
def test_too_little_memory_of_the_machine_is_an_error_with_a_way_out_too(tmp_path: Path, whose: str) -> None:
    """It was a trace of torch's calls, and a week that ended with a crash and without a word of what to set."""
    command = [sys.executable, "-c", SHORT_OF_MEMORY, str(tmp_path), whose]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2]).stdout
    assert said.startswith("SettingsError The machine has not enough memory for a step of training.") and "micro_batch (8)" in said, said
    assert "GPU" not in said and "allocate" in said


def test_an_attack_that_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(1)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(SettingsError, match="an attack on 2 clips"):
        pgd(model, torch.rand(2, 2, 3, model.size_px, model.size_px), torch.tensor([True, False]), eps=0.01, steps=1, step_size=0.01)
