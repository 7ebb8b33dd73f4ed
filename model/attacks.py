"""Attacks on whole clips, in pixels of [0,1], by torchattacks, and how strong they were: PGD (Madry et al. 2018),
APGD-CE (Croce & Hein 2020, no step size to choose) and Square (Andriushchenko et al. 2020, which never asks for a gradient).

The network normalises inside, so eps is one of pixels. All frames of a clip are attacked together, through the LSTM.
Every answer is the worst of the clean clip and all restarts (Square has one start), so that an attack never helps the defender; the network is
left exactly as it was (modes of every module, gradients). What the usual mistakes are, and that they are not made here:
tests/model/test_attacks.py.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn

from model.data import mixed_seed
from model.hardware import in_memory


@dataclass(frozen=True, slots=True)
class RobustPoint:
    """Accuracy of clips under an attack of one strength. Rates are None without clips of their class."""

    eps: float
    n: int
    accuracy: float | None
    balanced_accuracy: float | None
    evasion: float | None  # part of the fakes called real
    framing: float | None  # part of the reals called fake
    by_attack: dict[str, float | None] = field(default_factory=dict)  # balanced accuracy under each attack alone
    right: tuple[bool, ...] = ()  # of each clip, in order: whether the verdict stands


class TwoLogits(nn.Module):
    """The detector as torchattacks wants it: two logits [B, 2] float64, 'real' fixed at 0, 'fake' asinh(its own - border).

    The larger of the two is then the verdict at `border`, the raw logit of the shipped threshold: APGD and Square leave alone what
    they believe wrong already. asinh grows like a logarithm, so in float64 cross-entropy neither loses its gradient nor stops
    moving however sure the detector is (a saturated loss hides weakness), and what lies nearer to the border still looks nearer.
    """

    def __init__(self, model: nn.Module, lengths: Tensor | None = None, border: float = 0.0) -> None:
        super().__init__()
        self.model, self.lengths, self.border = model, lengths, border

    def forward(self, clips: Tensor) -> Tensor:
        """clips [B, T, 3, H, W] -> [B, 2]."""
        beyond = torch.asinh(self.model(clips, self.lengths).double() - self.border)
        return torch.stack([torch.zeros_like(beyond), beyond], dim=1)

    def train(self, mode: bool = True) -> Self:
        """Nothing: `attackable` alone says in which mode a module stands. torchattacks would switch all of them, at every call."""
        return self


class Stacked(nn.Module):
    """TwoLogits for attacks that know pictures only: a clip's frames are its channels, [B, 3T, H, W]."""

    def __init__(self, view: TwoLogits, frames: int) -> None:
        super().__init__()
        self.view, self.frames = view, frames

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures [B, 3T, H, W] -> [B, 2]."""
        return self.view(pictures.unflatten(1, (self.frames, 3)))

    def train(self, mode: bool = True) -> Self:
        """Nothing, as TwoLogits."""
        return self


ATTACKS = ("pgd", "apgd", "square")
QUERIES = 200  # of Square, where the caller names none
BATCH_CLIPS, BATCH_PIXELS = 8, 40 * 224 * 224  # frames at once: at 224 px ResNeXt-50 keeps 112 MB of each for the gradient (fp32), 4.5 GB of 40


def _made(kind: str, model: nn.Module, lengths: Tensor | None, border: float, force: "_Force", seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The attack as torchattacks has it, on clips [B, T, 3, H, W] of these lengths."""
    import torchattacks

    eps, steps = force.eps, force.steps

    if kind not in ATTACKS:
        raise ValueError(f"no attack is called {kind!r}; there are {', '.join(ATTACKS)}")
    if kind == "pgd":
        made = torchattacks.PGD(TwoLogits(model, lengths, border), eps=eps, alpha=force.step_size, steps=steps, random_start=True)
        return made  # type: ignore[no-any-return]

    def attack(clips: Tensor, labels: Tensor) -> Tensor:
        # these attacks go on with the clips that still resist, so that lengths would no longer fit: clips of one length go together
        found = clips.clone()
        frames = torch.full((len(clips),), clips.shape[1], device=clips.device) if lengths is None else lengths
        for length in frames.unique().tolist():
            chosen = frames == length
            seen = Stacked(TwoLogits(model, border=border), length)
            if kind == "apgd":
                plain = torchattacks.APGD(seen, norm="Linf", eps=eps, steps=steps, n_restarts=1, seed=seed % 2**31, loss="ce")
            else:
                plain = torchattacks.Square(seen, norm="Linf", eps=eps, n_queries=force.queries, n_restarts=1, seed=seed % 2**31)
            pictures = clips[chosen][:, :length].flatten(1, 2)
            found[chosen, :length] = plain(pictures, labels[chosen]).detach().unflatten(1, (length, 3))
        return found

    return attack


def by_cudnn(module: nn.RNNBase) -> bool:
    """Whether cuDNN computes it, which gives no gradient in eval mode ("cudnn RNN backward can only be called in training mode")."""
    return bool(next(module.parameters()).is_cuda)


@contextmanager
def attackable(model: nn.Module) -> Iterator[None]:
    """Batch norm and dropout frozen, parameters without gradients, and everything put back afterwards.

    On a GPU an LSTM's or GRU's backward pass needs training mode (cuDNN); it has no dropout of its own here, so nothing changes.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.RNNBase) and by_cudnn(module):
                module.training = True
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires in wanted:
            parameter.requires_grad_(requires)


def _margins(model: nn.Module, clips: Tensor, fake: Tensor, lengths: Tensor | None, border: float = 0.0) -> Tensor:
    """How far [B] the logit lies on the right side of `border`; negative is a wrong verdict."""
    with torch.no_grad():
        logit = model(clips, lengths).float()
    return torch.where(fake, logit - border, border - logit)


def at_once(frames: int, side_px: int) -> int:
    """Clips of so many frames that are attacked together: what a gradient keeps of their frames must fit beside the network."""
    return max(1, min(BATCH_CLIPS, BATCH_PIXELS // (frames * side_px**2)))


def _batches(clips: Tensor, fake: Tensor, lengths: Tensor | None, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor, Tensor | None]]:
    """Where each batch begins, and on `device` its pixels in [0,1], its truth and its lengths."""
    count = at_once(clips.shape[1], clips.shape[-1])
    for start in range(0, clips.shape[0], count):
        part = slice(start, start + count)
        pixels = clips[part].detach().to(device)
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        yield start, pixels, fake[part].to(device), None if lengths is None else lengths[part].to(device)


@dataclass(frozen=True, slots=True)
class _Force:
    """What an attack may do: pixels move by `eps` at most, in `steps` of `step_size`, begun `restarts` times (Square: by `queries`, begun once)."""

    eps: float
    steps: int
    step_size: float
    restarts: int
    seed: int
    queries: int = QUERIES


def _worst(kind: str, model: nn.Module, clips: Tensor, fake: Tensor, lengths: Tensor | None, force: _Force, start: int, border: float = 0.0) -> Tensor:
    """The worst of one batch [B, T, 3, H, W], the one that begins at `start`, and all its restarts; on the model's device."""
    if force.eps <= 0:
        return clips
    eps, device = force.eps, clips.device
    with (
        in_memory(f"an attack on {len(clips)} clips", "End"),
        attackable(model),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        best, least = clips.clone(), _margins(model, clips, fake, lengths)
        for restart in range(1 if kind == "square" else force.restarts):  # its queries are all it has, and each start would ask as many
            own_seed = mixed_seed(force.seed, restart, start)
            attack = _made(kind, model, lengths, border, force, own_seed)
            torch.manual_seed(own_seed)
            found = attack(clips, fake.long()).detach()
            found = torch.minimum(torch.maximum(found, clips - eps), clips + eps).clamp(0, 1)  # float rounding cannot leave the ball
            margins = _margins(model, found, fake, lengths)
            better = margins < least
            least = torch.where(better, margins, least)
            best = torch.where(better.view(-1, 1, 1, 1, 1), found, best)
    return best


def _attack(kind: str, model: nn.Module, clips: Tensor, fake: Tensor, lengths: Tensor | None, force: _Force, border: float = 0.0) -> Tensor:
    device = next(model.parameters()).device
    parts = [
        _worst(kind, model, part, truth, frames, force, start, border).to(clips.device) for start, part, truth, frames in _batches(clips, fake, lengths, device)
    ]
    return torch.cat(parts) if parts else clips.detach().float()


def pgd(
    model: nn.Module,
    clips: Tensor,
    fake: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    restarts: int = 1,
    seed: int = 0,
    lengths: Tensor | None = None,
) -> Tensor:
    """Adversarial clips [N, T, 3, H, W] in [0,1], each within eps (largest pixel change) of its clean clip.

    clips in [0,1], or 8-bit pixels (uint8); fake [N] bool. Deterministic by seed. Worst case over `restarts` random starts and the clean clip.
    """
    return _attack("pgd", model, clips, fake, lengths, _Force(eps, steps, step_size, restarts, seed))


def attack_clips(
    kind: str,
    model: nn.Module,
    clips: Tensor,
    fake: Tensor,
    *,
    eps: float,
    steps: int,
    restarts: int = 1,
    seed: int = 0,
    border: float = 0.0,
    lengths: Tensor | None = None,
) -> Tensor:
    """As `pgd`, by any attack of ATTACKS; PGD's step is 2.5 eps / steps (Madry et al. 2018), Square begins once and asks QUERIES times.

    APGD and Square only push a clip over `border`, the raw logit at which the verdict turns.
    """
    return _attack(kind, model, clips, fake, lengths, _Force(eps, steps, 2.5 * eps / steps, restarts, seed), border)


def training_attack(
    model: nn.Module, clips: Tensor, fake: Tensor, *, eps: float, steps: int, generator: torch.Generator, lengths: Tensor | None = None
) -> Tensor:
    """A quick attack for training: one step is FGSM from a random start (Wong et al. 2020), more are PGD. Detached, in [0,1].

    Its step is 1.25 eps for one, 2.5 eps / steps for more; `generator` is one of the CPU, so that a run can be repeated.
    """
    if steps < 1 or eps <= 0:
        return clips.detach()
    clips, view = clips.detach(), TwoLogits(model, lengths)
    start = (torch.rand(clips.shape, generator=generator) * 2 - 1).to(clips.device) * eps
    size, found = eps * (1.25 if steps == 1 else 2.5 / steps), (clips + start).clamp(0, 1)
    with attackable(model):
        for _ in range(steps):
            found.requires_grad_(True)
            loss = nn.functional.cross_entropy(view(found), fake.long(), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, found)
            moved = found.detach() + size * gradient.sign()
            found = torch.minimum(torch.maximum(moved, clips - eps), clips + eps).clamp(0, 1)
    return found.detach()


def whole_levels(eps: float) -> int:
    """The whole levels of 255 that eps allows: 12 for 0.05, and 2 for 0.00784, since settings write 2/255 in five digits."""
    return int(eps * 255 + 0.01)


def to_uint8(adversarial: Tensor, clean: Tensor, eps: float) -> Tensor:
    """Adversarial clips (floats in [0,1]) as 8-bit pixels that still obey eps: no pixel moves more than its whole levels.

    `clean` holds the 8-bit pixels (uint8) that were attacked, in the same layout. eps 0.05 leaves 12 of 12.75 levels.
    """
    if clean.dtype != torch.uint8:
        raise ValueError(f"clean pixels must be uint8, got {clean.dtype}")
    levels, base = whole_levels(eps), clean.to(torch.int16)
    moved = (adversarial * 255).round().to(torch.int16)
    return torch.minimum(torch.maximum(moved, base - levels), base + levels).clamp(0, 255).to(torch.uint8)


def attacked_margins(
    kind: str,
    model: nn.Module,
    judges: Sequence[tuple[nn.Module, float]],
    clips: Tensor,
    fake: Tensor,
    *,
    eps: float,
    steps: int,
    restarts: int = 1,
    seed: int = 0,
    border: float = 0.0,
    lengths: Tensor | None = None,
    queries: int = QUERIES,
) -> list[Tensor]:
    """Attack clips through `model` as `attack_clips` does; how far [N] each then lies on the right side of each judge's border; negative: a wrong verdict.

    `judges` are models, each with the raw logit of its border. Attacked clips are forgotten batch by batch: a whole panel of them is gigabytes.
    """
    force, device = _Force(eps, steps, 2.5 * eps / steps, restarts, seed, queries), next(model.parameters()).device
    found: list[list[Tensor]] = [[torch.zeros(0)] for _ in judges]
    for start, part, truth, frames in _batches(clips, fake, lengths, device):
        worst = _worst(kind, model, part, truth, frames, force, start, border)
        for kept, (judge, limit) in zip(found, judges, strict=True):
            with attackable(judge):
                kept.append(_margins(judge, worst, truth, frames, limit).cpu())
    return [torch.cat(kept) for kept in found]


def robust_curve(
    model: nn.Module,
    clips: Tensor,
    fake: Tensor,
    eps_list: Sequence[float],
    *,
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
    border: float = 0.0,
    lengths: Tensor | None = None,
    attacks: Sequence[str] = ("pgd",),
    queries: int = QUERIES,
) -> list[RobustPoint]:
    """Accuracy under the worst of `attacks` at each eps, smallest first. Attacks are worst-case over smaller eps too, so that each attack goes on
    with the clips alone that it has not brought down yet.

    Each point also has the balanced accuracy under each attack alone: where Square does more harm than the attacks that
    follow gradients, gradients are masked, and the curve flatters. Square asks the model `queries` times, whatever `restarts` says. `border`
    is the raw logit of the shipped threshold: temperature * logit(threshold). eps 0 is clean accuracy.
    """
    truth, points = fake.cpu(), []
    alone: dict[str, Tensor] = {}
    for eps in sorted(eps_list):
        for kind in attacks:
            margins = alone[kind] if kind in alone else torch.full((len(clips),), torch.inf)
            left = _stands(margins, truth)
            if left.any():
                (found,) = attacked_margins(
                    kind,
                    model,
                    [(model, border)],
                    clips[left],
                    fake[left],
                    eps=eps,
                    steps=steps,
                    restarts=restarts,
                    seed=seed,
                    border=border,
                    lengths=None if lengths is None else lengths[left],
                    queries=queries,
                )
                margins = margins.masked_scatter(left, torch.minimum(margins[left], found))
            alone[kind] = margins
        each = {kind: robust_point(eps, margins, truth).balanced_accuracy for kind, margins in alone.items()}
        points.append(replace(robust_point(eps, torch.stack(list(alone.values())).amin(0), truth), by_attack=each))
    return points


def _stands(margins: Tensor, fake: Tensor) -> Tensor:
    """Which verdicts hold: on the border it is 'fake' (p_fake >= threshold), so a margin of 0 is right for fakes and wrong for reals."""
    return torch.where(fake, margins >= 0, margins > 0)


def robust_point(eps: float, margins: Tensor, fake: Tensor) -> RobustPoint:
    """What margins [N] of clips say, fake [N] bool being the truth: see `attacked_margins`."""
    stands = _stands(margins, fake)
    right = stands.float()
    recall = right[fake].mean().item() if fake.any() else None
    quiet = right[~fake].mean().item() if (~fake).any() else None
    both = None if recall is None or quiet is None else (recall + quiet) / 2
    accuracy = right.mean().item() if len(right) else None
    evasion, framing = (None if share is None else 1 - share for share in (recall, quiet))
    return RobustPoint(eps, len(right), accuracy, both, evasion, framing, right=tuple(stands.tolist()))
