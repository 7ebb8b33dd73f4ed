"""The training loop both phases share: AdamW, warm-up and cosine, clipping, averaged weights, early stopping, exact resume.

Every random draw of a step comes from (seed, step), never from a generator that runs on; so a state is weights, optimiser
and counters, and a run that was killed ends with the very weights of one that was not (on a CPU, with as many threads; a GPU
adds in no fixed order). A checkpoint is one safetensors file, written whole or not at all, in a folder named by a hash of all
that the run depends on.
"""

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model import parallel
from model.checkpoint import load_tensors, save_tensors
from model.hardware import in_memory
from workspace.errors import Diverged, ModelFileError
from workspace.files import write_json
from workspace.settings import PhaseSettings

Progress = Callable[[int, int, str], None]
Work = Callable[[int], Mapping[str, float]]  # step (from 0) -> figures; adds to the gradients
Looked = Callable[[Mapping[str, Any]], None]  # hears each row of the learning curve, after a resume the earlier ones too; what it raises ends the training
Validate = Callable[[], Mapping[str, float] | None]  # figures with 'val_refinement', which is to fall, or None where there is nothing to validate on
CHECKPOINT_SECONDS = 30.0  # a kill costs at most about this much work
CHECKPOINT_SHARE = 0.005  # but writing checkpoints may take at most this part of the time
LAST_RATE = 0.02  # the cosine ends at this part of the rate
STATE, HISTORY = "state.safetensors", "history.json"


@dataclass(frozen=True, slots=True)
class TrainReport:
    """How training went. The model holds the averaged weights of `best_step`."""

    history: list[dict[str, Any]]
    best_step: int
    best_loss: float | None  # None where there was nothing to validate on
    steps: int  # done, over all starts
    resumed_from: int  # step at which this start took over; 0 for a fresh one
    folder: Path  # the checkpoint's; safe to delete once the model is saved


def run_key(model: nn.Module, depends_on: Mapping[str, Any]) -> str:
    """16 hex digits that change with the starting weights, the torch version and anything in `depends_on` (JSON-able)."""
    digest = hashlib.sha256(json.dumps([depends_on, torch.__version__.split("+")[0]], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def learning_rate(settings: PhaseSettings, step: int) -> float:
    """Rate of `step` (from 0): a straight rise over the warm-up, then half a cosine down to 2%."""
    rise = max(1, round(settings.warmup * settings.steps))
    if step < rise:
        return settings.lr * (step + 1) / rise
    done = (step - rise) / max(1, settings.steps - rise)
    return settings.lr * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))


def clip_gradients(model: nn.Module, most: float) -> float:
    """`torch.nn.utils.clip_grad_norm_` without its pass over gradients that are short enough; returns their norm before."""
    norm = nn.utils.get_total_norm([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    if not float(most / (norm + 1e-6)) >= 1.0:  # the factor that torch would multiply by
        nn.utils.clip_grads_with_norm_(model.parameters(), most, norm)
    return float(norm)


class Loop:
    """One phase of training a model; `run` does it, from the last checkpoint where there is one.

    Looks at validation within the first `frozen` steps do not count against patience: what is to learn has not begun to.
    """

    def __init__(self, model: nn.Module, settings: PhaseSettings, *, ema: float, clip_norm: float, folder: Path, frozen: int = 0) -> None:
        self.model, self.settings, self.ema, self.clip_norm, self.folder, self.frozen = model, settings, ema, clip_norm, folder, frozen
        decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]  # norms and biases are not drawn to zero
        groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.lr, fused=True)  # the same step in one pass over the weights
        self.averaged = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.best = dict(self.averaged)
        self.step, self.best_step, self.looks, self.best_loss = 0, 0, 0, math.inf
        self.history: list[dict[str, Any]] = []
        self.sums: dict[str, float] = {}
        self.since = 0

    def run(self, work: Work, validate: Validate, progress: Progress | None = None, looked: Looked | None = None) -> TrainReport:
        """Train until the steps are done or validation stops getting better; leave the best averaged weights in the model."""
        resumed_from = self._resume()
        parallel.wait()  # all have read the checkpoint before the first may write the next
        if looked is not None:
            for row in self.history:
                looked(row)  # by the last rows alone a run that was killed would be judged otherwise
        steps, last_save, pause = self.settings.steps, time.monotonic(), CHECKPOINT_SECONDS
        while self.step < steps and self.looks < self.settings.patience:
            self._advance(work)
            look = self.step % self.settings.validate_every == 0 or self.step == steps
            if look:
                self._look(validate)
            if parallel.leads() and (look or time.monotonic() - last_save > pause):
                began = time.monotonic()
                self._save()
                last_save = time.monotonic()
                pause = max(CHECKPOINT_SECONDS, (last_save - began) / CHECKPOINT_SHARE)
            if progress is not None and parallel.leads():
                progress(self.step, steps, self._message())
            if look and looked is not None:
                looked(self.history[-1])
        self.model.load_state_dict(self.best)
        self.model.eval()
        if parallel.leads():
            write_json(self.folder / HISTORY, self.history)
        best_loss = None if math.isinf(self.best_loss) else self.best_loss
        return TrainReport(self.history, self.best_step, best_loss, self.step, resumed_from, self.folder)

    def _advance(self, work: Work) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        with self._fits():
            figures = work(self.step)
        norm = clip_gradients(self.model, self.clip_norm)
        if not math.isfinite(norm):
            raise Diverged(
                "Training diverged. Nothing was written.",
                why=f"the gradient of step {self.step + 1} is not finite",
                next_step="Lower the phase's lr in params.yaml.",
            )
        self.optimiser.step()
        self.step += 1
        self.since += 1
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        keep = min(self.ema, (1 + self.step) / (10 + self.step))  # early averages must not remember the start
        with torch.no_grad():
            state = self.model.state_dict()
            moving = [name for name, tensor in state.items() if tensor.is_floating_point()]
            torch._foreach_lerp_([self.averaged[name] for name in moving], [state[name] for name in moving], 1 - keep)
            for name in state.keys() - moving:
                self.averaged[name].copy_(state[name])

    def _look(self, validate: Validate) -> None:
        """Validate the averaged weights, keep them if they are the best, and write a row of the learning curve."""
        raw = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.averaged)
        with self._fits():
            figures = validate()
        if figures is not None and parallel.size() > 1:  # one opinion on when to stop, whatever rounding says elsewhere
            figures = {name: parallel.total(value if parallel.leads() else 0.0) for name, value in figures.items()}
        self.model.load_state_dict(raw)
        row = {"step": self.step, "lr": learning_rate(self.settings, self.step - 1)}
        row |= {name: value / self.since for name, value in self.sums.items()} | dict(figures or {})
        self.history.append(row)
        self.sums, self.since = {}, 0
        loss = figures["val_refinement"] if figures else -math.inf  # nothing to validate on: the last weights are kept
        if figures is None or loss < self.best_loss:
            self.best = {name: tensor.clone() for name, tensor in self.averaged.items()}
            self.best_step, self.looks = self.step, 0
            self.best_loss = math.inf if figures is None else loss
        elif self.step > self.frozen:
            self.looks += 1

    def _fits(self) -> AbstractContextManager[None]:
        smaller = f"Lower micro_batch ({self.settings.micro_batch}) of this phase in params.yaml, which begins the phase anew"
        return in_memory("a step of training", f"{smaller}, or end")

    def _message(self) -> str:
        if not self.history:
            return ""
        row = self.history[-1]
        return ", ".join(f"{name.replace('_', ' ')} {row[name]:.3f}" for name in ("loss", "val_refinement", "val_auc") if row.get(name) is not None)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

    def _save(self) -> None:
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"averaged/{name}": tensor for name, tensor in self.averaged.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for number, parameter in enumerate(self._parameters()):
            tensors |= {f"adam/{number}/{name}": tensor for name, tensor in self.optimiser.state.get(parameter, {}).items()}
        counters = {name: getattr(self, name) for name in ("step", "best_step", "looks", "history", "sums", "since")}
        save_tensors(self.folder / STATE, tensors, counters | {"best_loss": None if math.isinf(self.best_loss) else self.best_loss})

    def _resume(self) -> int:
        path = self.folder / STATE
        if not path.is_file():
            return 0
        try:
            tensors, counters = load_tensors(path)
        except ModelFileError as problem:
            if isinstance(problem.__cause__, OSError) and not isinstance(problem.__cause__, FileNotFoundError):  # it may be whole
                next_step = "Run it again once the file can be read: the phase goes on from it. To begin the phase anew, delete it."
                raise ModelFileError("The checkpoint of this phase cannot be read. It was left as it is.", why=problem.why, next_step=next_step) from problem
            with suppress(FileNotFoundError):  # another process met it first
                path.unlink()  # a damaged checkpoint costs time, not the run
                print(f"The checkpoint of this phase was damaged and is deleted: the phase begins anew. Why: {problem.why}.", file=sys.stderr, flush=True)
            return 0
        with torch.no_grad():
            for kind, target in (("model", self.model.state_dict()), ("averaged", self.averaged)):
                for name, tensor in target.items():
                    tensor.copy_(tensors[f"{kind}/{name}"])
            self.best = {name: torch.empty_like(tensor).copy_(tensors[f"best/{name}"]) for name, tensor in self.averaged.items()}
        for number, parameter in enumerate(self._parameters()):
            if f"adam/{number}/step" in tensors:  # parameters that never had a gradient have no state
                moments = {name: torch.empty_like(parameter).copy_(tensors[f"adam/{number}/{name}"]) for name in ("exp_avg", "exp_avg_sq")}
                step = tensors[f"adam/{number}/step"].to(parameter.device)  # the fused optimiser reads it there
                self.optimiser.state[parameter] = {"step": step, **moments}
        for name in ("step", "best_step", "looks", "history", "sums", "since"):
            setattr(self, name, counters[name])
        self.best_loss = math.inf if counters["best_loss"] is None else counters["best_loss"]
        return self.step
