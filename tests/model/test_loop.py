"""What every step of either phase does, on a model small enough to follow by hand: averaging, clipping, precision, memory format."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.loop import Loop, clip_gradients, learning_rate
from model.training import autocast
from tests.model.toys import small_model
from workspace.settings import TrainSettings

SETTINGS = TrainSettings(precision="fp32", steps=12, batch=8, micro_batch=8, lr=0.05, validate_every=12, patience=9)
INPUTS = torch.linspace(-1, 1, 12).reshape(4, 3)


def line() -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(3, 1)


def stepped(folder: Path, ema: float, clip_norm: float, scale: float = 1.0) -> tuple[Loop, list[Tensor], list[float]]:
    """A loop that ran all its steps; the raw weights after each, and the norm of the gradient that the optimiser was given."""
    model, raw, norms = line(), [], []
    loop = Loop(model, SETTINGS, ema=ema, clip_norm=clip_norm, folder=folder)
    take = loop.optimiser.step

    def watched() -> None:
        norms.append(float(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])))
        take()
        raw.append(model.weight.detach().clone())

    loop.optimiser.step = watched  # type: ignore[method-assign, assignment]

    def work(step: int) -> dict[str, float]:
        loss = scale * (model(INPUTS) - 2 * INPUTS.sum(1, keepdim=True)).square().mean()
        loss.backward()
        return {"loss": loss.item()}

    loop.run(work, lambda: {"val_refinement": 1.0})
    return loop, raw, norms


@pytest.mark.parametrize("ema", [0.0, 0.5, 0.999])
def test_the_kept_weights_are_the_moving_average_that_the_formula_says(tmp_path: Path, ema: float) -> None:
    loop, raw, _ = stepped(tmp_path, ema, 1e9)
    expected = line().weight.detach().clone()
    for step, weights in enumerate(raw, start=1):
        keep = min(ema, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * weights
    torch.testing.assert_close(loop.averaged["weight"], expected)
    torch.testing.assert_close(loop.model.weight.detach(), expected), "and they are left in the model"
    assert ema == 0.0 or not torch.allclose(expected, raw[-1], atol=1e-4), "an average, not the last"


def test_no_step_is_given_a_longer_gradient_than_clip_norm(tmp_path: Path) -> None:
    _, _, free = stepped(tmp_path / "free", 0.9, 1e9, scale=50.0)
    _, _, clipped = stepped(tmp_path / "clipped", 0.9, 0.5, scale=50.0)
    assert min(free) > 0.5, "else nothing would be clipped"
    assert max(clipped) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("share", [0.5, 1.0, 1.0 + 1e-6, 1.5, float("inf"), float("nan")])
def test_gradients_are_clipped_to_the_bit_as_torch_clips_them(share: float) -> None:
    ours, theirs = small_model(), small_model()
    for one in (ours, theirs):
        torch.manual_seed(3)
        for parameter in one.temporal.parameters():
            parameter.grad = torch.randn_like(parameter)
    most = 2.0
    for one in (ours, theirs):
        norm = nn.utils.get_total_norm([parameter.grad for parameter in one.parameters() if parameter.grad is not None])
        for parameter in one.temporal.parameters():
            assert parameter.grad is not None
            parameter.grad *= share * most / norm
    told = nn.utils.clip_grad_norm_(theirs.parameters(), most)
    assert torch.tensor(clip_gradients(ours, most)).equal(told) or bool(told.isnan())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or other.grad is None or torch.equal(one.grad.nan_to_num(7), other.grad.nan_to_num(7))


def test_the_rate_of_each_step_is_that_of_its_place(tmp_path: Path) -> None:
    loop, _, _ = stepped(tmp_path, 0.9, 1.0)
    assert loop.optimiser.param_groups[0]["lr"] == learning_rate(SETTINGS, SETTINGS.steps - 1)


@pytest.mark.parametrize(("precision", "wanted"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_network_computes_in_the_precision_that_was_asked_for_and_keeps_its_weights_in_fp32(precision: str, wanted: torch.dtype) -> None:
    model, clips, seen = small_model(1), torch.rand(2, 3, 3, 32, 32), []
    convolution = next(module for module in model.backbone.modules() if isinstance(module, nn.Conv2d))
    convolution.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    with autocast(torch.device("cpu"), precision):
        model(clips).float().sum().backward()
    assert seen == [wanted]
    assert {p.dtype for p in model.parameters()} == {torch.float32} and all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("has", [False, True])
def test_auto_takes_bf16_only_where_the_machine_multiplies_it(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    with autocast(torch.device("cpu"), "auto"):
        assert torch.is_autocast_enabled("cpu") == has


def test_convolutions_lie_and_see_their_pictures_channels_last() -> None:
    model, seen = small_model(1), []
    first = next(module for module in model.backbone.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda module, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last)))
    model(torch.rand(1, 2, 3, 32, 32))
    assert seen == [True] and all(module.weight.is_contiguous(memory_format=torch.channels_last) for module in model.modules() if isinstance(module, nn.Conv2d))


def test_what_the_optimiser_remembers_goes_on_where_the_weights_are(tmp_path: Path) -> None:
    """The fused step reads its counters on the weights' own device; left on the processor they would end a resumed training on a GPU."""
    stepped(tmp_path, 0.5, 1e9)
    again = Loop(line().to("meta"), SETTINGS, ema=0.5, clip_norm=1e9, folder=tmp_path)
    assert again._resume() == SETTINGS.steps
    kept = [tensor for parameter in again._parameters() for tensor in again.optimiser.state[parameter].values()]
    assert len(kept) == 6 and {tensor.device.type for tensor in kept} == {"meta"}
