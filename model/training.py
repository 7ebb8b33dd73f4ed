"""The two phases: `pretrain` teaches backbone and frame head on single frames, `fit` the whole network on clips.

`fit` minimises (1 - w) cross-entropy + w Wasserstein + d distillation (letters: TrainSettings.wasserstein and
.distillation; the distance is between scores, or a critic's between embeddings). Part of each batch is attacked first
(after the warm-up, FIELD practice: a clean start), batch norm keeps the statistics of phase 1, so that clean and
attacked clips meet the same network, and small micro-batches sum to exactly the gradient of the whole batch. Both may
be killed at any time and go on where they were (model/loop.py).
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from model import parallel
from model.ahead import Ahead
from model.attacks import training_attack
from model.calibration import fit_platt
from model.data import ClipSource, epoch_order, labels_of, mixed_seed, stack, to_tensor
from model.loop import Looked, Loop, Progress, TrainReport, run_key
from model.losses import Critic, critic_gap, cross_entropy, distillation, wasserstein
from model.metrics import auc
from model.network import ResNeXtLSTM
from model.sampling import balanced_batches
from model.views import View, Views
from workspace.errors import Diverged, SettingsError
from workspace.settings import AugmentSettings, PhaseSettings, PretrainSettings, TrainSettings

if TYPE_CHECKING:
    import pandas as pd

PRETRAIN_CLIP_NORM = 5.0
DROP, ATTACK, CRITIC = 2, 3, 5  # streams of random numbers; 1 and 4 are model/views.py's


# columns that decide who is drawn with whom, and what is forged anew from whom
DECIDE = ("clip_id", "sha256", "label", "role", "new", "generator", "forger", "source_clip", "donor_clip", "kind", "sample_id", "identity", "source_video")


def pretrain(
    model: ResNeXtLSTM,
    train_set: ClipSource,
    val_set: ClipSource,
    settings: PretrainSettings,
    seed: int,
    checkpoint_dir: Path,
    progress: Progress | None = None,
    *,
    augment: AugmentSettings | None = None,
    version: int = 1,
    looked: Looked | None = None,
) -> TrainReport:
    """Phase 1: the frame head learns single frames; the LSTM is not touched. The model ends with its best averaged weights.

    One random frame of each clip drawn. Trains on the device the model is on. `version` is that of the stage (stage_versions):
    a checkpoint of another is not gone on from. Raises DataError without both classes.
    """
    key = run_key(model, _depends("pretrain", model, train_set, val_set, settings, seed, augment, version))
    device, fake, batches = _device(model), labels_of(train_set.rows), _Batches(train_set, settings.batch, seed)
    grid = model.side if settings.locate > 0 else 0
    views = Views(train_set, augment, seed, single=True, pairs=settings.pairs, grid=grid)
    locator = nn.Conv2d(model.features, 1, 1).to(device) if grid else nn.Identity()  # reads from the maps, cell by cell; it is not kept
    for parameter in locator.parameters():
        nn.init.zeros_(parameter)
    learning = nn.ModuleDict({"network": model, "locator": locator}) if grid else model
    loop = Loop(learning, settings, ema=settings.ema, clip_norm=PRETRAIN_CLIP_NORM, folder=Path(checkpoint_dir) / f"pretrain-{key}")

    def losses(shown: list[View], truth: Tensor) -> tuple[Tensor, Tensor]:
        """Of each picture: cross-entropy, and how badly the forged places were found (0 where they are not known)."""
        frames = torch.cat([view.frames for view in shown]).to(device)
        with autocast(device, settings.precision):
            if not grid:
                return cross_entropy(model.frame_logits(frames).float(), truth, "bce"), truth.new_zeros(len(truth), dtype=torch.float32)
            maps = model.maps(frames)
            logits = model.frame_head(model.dropout(model.pool(maps)[0])).squeeze(1)
            places = locator(maps).squeeze(1)  # [N, g, g]
        known = torch.tensor([view.where is not None for view in shown], device=device)
        where = torch.cat([view.frames.new_zeros(1, grid, grid) if view.where is None else view.where for view in shown]).to(device)
        missed = nn.functional.binary_cross_entropy_with_logits(places.float(), where, reduction="none").mean((1, 2))
        return cross_entropy(logits.float(), truth, "bce"), missed * known

    def work(step: int) -> Mapping[str, float]:
        learning.train()
        (chosen, shown), total, missed = ahead.at(step), 0.0, 0.0
        truth, mine = torch.from_numpy(fake[chosen]).to(device), parallel.share(len(chosen))
        for part in parallel.parts(mine, settings.micro_batch):
            torch.manual_seed(mixed_seed(seed, step, DROP, part.start))
            told, found = losses(shown[part.start - mine.start : part.stop - mine.start], truth[part])
            loss, place = told.sum() / len(chosen), found.sum() / len(chosen)
            (loss + settings.locate * place).backward()
            total, missed = total + loss.item(), missed + place.item()
        parallel.sum_gradients(learning)
        return {"loss": parallel.total(total)} | ({"locate": parallel.total(missed)} if grid else {})

    def validate() -> Mapping[str, float] | None:
        def logits(clips: list[Tensor]) -> Tensor:
            return model.frame_logits(torch.stack([clip[clip.shape[0] // 2] for clip in clips]).to(device))

        return _validate(model, val_set, logits, settings.micro_batch)

    with (
        compiled(model.backbone, settings.compile),
        torch.random.fork_rng(devices=_cuda(device)),
        Ahead(batches.at, views.make, settings.steps, device) as ahead,
    ):
        return loop.run(work, validate, progress, looked)


def fit(
    model: ResNeXtLSTM,
    train_set: ClipSource,
    val_set: ClipSource,
    settings: TrainSettings,
    seed: int,
    checkpoint_dir: Path,
    progress: Progress | None = None,
    *,
    augment: AugmentSettings | None = None,
    base: ResNeXtLSTM | None = None,
    met: Collection[str] = (),
    version: int = 1,
    looked: Looked | None = None,
) -> TrainReport:
    """Phase 2: the whole network learns clips. `base` is the teacher on what is known: replayed rows (role 'replay'), and those forged from earlier batches by
    a forger that it has `met`; None: no distillation. `version` as in `pretrain`.

    The model ends with its best averaged weights, in eval mode; history rows: step, lr, loss, cross_entropy, wasserstein,
    distillation, attacked, val_loss, val_refinement, val_auc (validation figures absent where val_set lacks a class).
    """
    depends = _depends("fit", model, train_set, val_set, settings, seed, augment, version) | {"base": run_key(base, {}) if base is not None else ""}
    depends |= {"met": sorted(met)} if base is not None else {}
    task = _Fit(model, train_set, settings, seed, augment, base if settings.distillation > 0 else None, met)
    folder = Path(checkpoint_dir) / f"fit-{run_key(model, depends)}"
    waits = task.frozen if task.frozen < settings.steps else 0  # a backbone that stands still to the end is not waited for
    loop = Loop(task.learning, settings, ema=settings.ema, clip_norm=settings.clip_norm, folder=folder, frozen=waits)
    device = task.device

    def validate() -> Mapping[str, float] | None:
        def logits(clips: list[Tensor]) -> Tensor:
            padded, lengths = stack(clips)
            return model(padded.to(device), None if lengths is None else lengths.to(device))

        return _validate(model, val_set, logits, settings.micro_batch)

    try:
        with compiled(model.backbone, settings.compile), torch.random.fork_rng(devices=_cuda(device)), task.ahead:
            return loop.run(task.work, validate, progress, looked)
    finally:
        model.backbone.requires_grad_(True)


class _Fit:
    """One step of phase 2: draw, attack, loss of the whole batch, gradients by micro-batches."""

    def __init__(
        self,
        model: ResNeXtLSTM,
        train_set: ClipSource,
        settings: TrainSettings,
        seed: int,
        augment: AugmentSettings | None,
        base: ResNeXtLSTM | None,
        met: Collection[str] = (),
    ) -> None:
        self.model, self.train_set, self.settings, self.seed, self.augment = model, train_set, settings, seed, augment
        self.device, self.fake = _device(model), labels_of(train_set.rows)
        self.frozen = round(settings.frozen * settings.steps)  # steps during which the backbone stands still
        self.taught = _taught(train_set.rows, met)
        self.base = base.to(self.device).eval() if base is not None and self.taught.any() else None
        self.critic = _critic(model.features, seed).to(self.device) if settings.distance == "critic" and settings.wasserstein > 0 else None
        self.learning = model if self.critic is None else nn.ModuleDict({"network": model, "critic": self.critic})  # the critic is not kept
        self.batches = _Batches(train_set, settings.batch, seed)
        self.views = Views(train_set, augment, seed, pairs=settings.pairs)
        self.ahead = Ahead(self.batches.at, self.views.make, settings.steps, self.device)

    def work(self, step: int) -> Mapping[str, float]:
        """Add the gradient of step `step` to the model; return its figures."""
        chosen, shown = self.ahead.at(step)
        clips = [view.frames for view in shown]
        fake = torch.from_numpy(self.fake[chosen]).to(self.device)
        taught = torch.from_numpy(self.taught[chosen]).to(self.device)
        attacked = self._attacked(len(chosen), step)
        mine = parallel.share(len(chosen))
        parts = list(parallel.parts(mine, self.settings.micro_batch))
        inputs, teachers = [], []
        for part in parts:
            padded, lengths = stack(clips[part.start - mine.start : part.stop - mine.start])
            padded, lengths = padded.to(self.device), None if lengths is None else lengths.to(self.device)
            teachers.append(self._teach(padded, lengths))
            inputs.append((self._attack(padded, lengths, fake[part], attacked[part], step, part.start), lengths))
        teacher = parallel.gathered(torch.cat(teachers), len(chosen))
        train_mode(self.model)
        self.model.backbone.requires_grad_(step >= self.frozen)
        if len(parts) == 1 and parallel.size() == 1:
            loss, figures = self.loss(self._told(inputs[0], step, 0), fake, taught, teacher)
            loss.backward()
        else:
            # the loss joins all clips (quantiles of scores), so its slope by what is told of each is found first, then pushed through piece by piece
            with torch.no_grad():
                told = torch.cat([self._told(given, step, part.start) for given, part in zip(inputs, parts, strict=True)])
            told = parallel.gathered(told, len(chosen))
            loss, figures = self.loss(told.requires_grad_(True), fake, taught, teacher)
            (slopes,) = torch.autograd.grad(loss, told)
            for given, part in zip(inputs, parts, strict=True):
                self._told(given, step, part.start).backward(slopes[part])
        parallel.sum_gradients(self.learning)
        return figures | {"attacked": float(attacked.float().mean())}

    def loss(self, told: Tensor, fake: Tensor, taught: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The composite loss of a whole batch, and its terms. `told` [B, 1 or 3]: logit, and what the critic says of the clip where there is one."""
        s, logits = self.settings, told[:, 0]
        truth = cross_entropy(logits, fake, s.loss, s.focal_gamma).mean()
        apart = wasserstein(logits, fake) if self.critic is None else critic_gap(told[:, 1:], fake)
        kept = (distillation(logits, teacher) * taught).mean() if self.base is not None else logits.sum() * 0.0
        loss = (1 - s.wasserstein) * truth + s.wasserstein * apart + s.distillation * kept
        return loss, {"loss": loss.item(), "cross_entropy": truth.item(), "wasserstein": apart.item(), "distillation": kept.item()}

    def _told(self, given: tuple[Tensor, Tensor | None], step: int, start: int) -> Tensor:
        torch.manual_seed(mixed_seed(self.seed, step, DROP, start))  # the same dropout each time a piece is looked at
        with autocast(self.device, self.settings.precision):
            if self.critic is None:
                return self.model(*given).float().unsqueeze(1)
            outputs = self.model.forward_all(*given)
        return torch.cat([outputs.logits.float().unsqueeze(1), self.critic(outputs.embedding.float())], dim=1)

    def _teach(self, clips: Tensor, lengths: Tensor | None) -> Tensor:
        if self.base is None:
            return torch.zeros(clips.shape[0], device=self.device)
        with torch.no_grad(), autocast(self.device, self.settings.precision):
            return self.base(clips, lengths).float()

    def _attacked(self, count: int, step: int) -> Tensor:
        """Which clips of the batch are attacked [count]; none while the rate still rises. What is left of a clip in one step counts in the next."""
        s, chosen = self.settings, torch.zeros(count, dtype=torch.bool)
        if s.adversarial_steps and s.adversarial_eps > 0 and step >= round(s.warmup * s.steps):
            order = np.random.default_rng([self.seed, step, ATTACK]).permutation(count)
            until, before = (round(done * count * s.adversarial_fraction) for done in (step + 1, step))
            chosen[order[: until - before]] = True
        return chosen

    def _attack(self, clips: Tensor, lengths: Tensor | None, fake: Tensor, attacked: Tensor, step: int, start: int) -> Tensor:
        places = attacked.nonzero().squeeze(1).to(self.device)
        if not len(places):
            return clips
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, step, ATTACK, start))
        s, frames = self.settings, None if lengths is None else lengths[places]
        wanted = {"eps": s.adversarial_eps, "steps": s.adversarial_steps, "generator": generator, "lengths": frames}
        with eager(self.model.backbone):
            found = training_attack(self.model, clips[places], fake[places], **wanted)
        return clips.index_copy(0, places, found)


def _taught(rows: "pd.DataFrame", met: Collection[str]) -> "np.ndarray":
    """Of each row whether the base speaks of it [N]. Of a forger that it has not met it says `real`, which must not be kept."""
    forged = (rows["role"] == "forged") & ~rows["new"].astype(bool) & rows["forger"].isin(list(met))
    return ((rows["role"] == "replay") | forged).to_numpy(dtype=bool)


def _critic(features: int, seed: int) -> Critic:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed_seed(seed, CRITIC))
        return Critic(features)


def train_mode(model: nn.Module) -> None:
    """Training mode with batch norm's statistics held still (its scale and shift still learn)."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@contextmanager
def compiled(backbone: nn.Module, wanted: bool) -> Iterator[None]:
    """Within, `backbone` runs as torch.compile made it, where that is `wanted`; its weights and their names stay.

    Raises SettingsError where it cannot be compiled on this machine.
    """
    if not wanted:
        yield
        return
    try:
        from torch._dynamo.exc import TorchDynamoException  # loads the compiler, for seconds, and makes the folder for what it compiles
    except OSError as problem:
        raise _not_compiled(problem) from problem
    backbone.compile()
    try:
        yield
    except TorchDynamoException as problem:
        raise _not_compiled(problem) from problem
    finally:
        backbone._compiled_call_impl = None  # as it was: an export must not meet compiled code, and torch offers no other way back


def _not_compiled(problem: Exception) -> SettingsError:
    return SettingsError(
        "The backbone cannot be compiled on this machine. Finished steps are kept.",
        why=str(problem).strip().splitlines()[0][:300],
        next_step="Install a C++ compiler (g++; for a GPU also Python's headers); where there is one, set TORCHINDUCTOR_CACHE_DIR to a folder that can be "
        "written to and run from; or set compile: false under pretrain and train in params.yaml.",
    )


@contextmanager
def eager(backbone: nn.Module) -> Iterator[None]:
    """Within, `backbone` runs as it was written: compiled, its gradient by the pixels fails at replicated borders (torch 2.14, on a CPU)."""
    kept, backbone._compiled_call_impl = backbone._compiled_call_impl, None
    try:
        yield
    finally:
        backbone._compiled_call_impl = kept


def _validate(model: ResNeXtLSTM, val_set: ClipSource, logits_of: Any, batch: int) -> Mapping[str, float] | None:
    """On a set: class-balanced cross-entropy as the logits are (val_loss) and after the best temperature and offset (val_refinement), and AUC; None where it
    lacks a class.

    The second is what counts, since both are fitted once training has ended (Berta et al. 2025, Rethinking Early Stopping: Refine, Then Calibrate): a network
    gets surer than it is right long before it ranks worse, by the first alone it is stopped there.
    """
    fake = labels_of(val_set.rows)
    if not fake.any() or fake.all():
        return None
    model.eval()
    everything = parallel.parts(slice(0, len(val_set)), batch)
    with torch.no_grad():
        parts = [logits_of([to_tensor(val_set.clip(position)) for position in range(part.start, part.stop)]) for part in everything]
    logits, truth = torch.cat(parts).float().cpu(), torch.from_numpy(fake)
    if not torch.isfinite(logits).all():
        raise Diverged("Training diverged.", why="the network's answers are no longer numbers", next_step="Lower the phase's lr in params.yaml.")
    scores = logits.double().numpy()
    middle = float(np.median(scores[fake]) + np.median(scores[~fake])) / 2
    temperature, offset = fit_platt(fake, lambda temperature: scores / temperature, middle=middle)
    losses = [cross_entropy(one, truth, "bce") for one in (logits, torch.from_numpy(scores / temperature + offset))]
    as_it_is, refined = (0.5 * (loss[truth].mean().item() + loss[~truth].mean().item()) for loss in losses)
    area = auc(fake, scores)
    assert area is not None  # both classes are there
    return {"val_loss": as_it_is, "val_refinement": refined, "val_auc": area}


class _Batches:
    """Batch `step` of the endless balanced sequence; asked for in rising order, from any step on."""

    def __init__(self, source: ClipSource, batch: int, seed: int) -> None:
        self._batches: Iterator[list[int]] = balanced_batches(source.rows, batch, seed)
        self._next = 0

    def at(self, step: int) -> list[int]:
        chosen: list[int] = []
        while self._next <= step:  # after a resume: the batches before were seen by the run that was stopped
            chosen, self._next = next(self._batches), self._next + 1
        return chosen


def _depends(
    phase: str,
    model: ResNeXtLSTM,
    train_set: ClipSource,
    val_set: ClipSource,
    settings: PhaseSettings,
    seed: int,
    augment: AugmentSettings | None,
    version: int,
) -> dict[str, Any]:
    """All that decides the outcome, beside the starting weights: what is not in them (dropout, a fixed fusion) comes with the model's settings.

    For the code stands the version of the stage: else a finished checkpoint would give the weights of before an upgrade, in no steps.
    """

    def rows(source: ClipSource) -> list[list[str]]:
        table = source.rows.iloc[epoch_order(source.rows, seed, 0)]
        return table[[name for name in DECIDE if name in table]].astype(str).to_numpy().tolist()

    shown = None if augment is None else augment.model_dump()
    told = {"phase": phase, "version": version, "model": model.settings.model_dump(), "settings": settings.model_dump(), "augment": shown, "seed": seed}
    return told | {"train": rows(train_set), "val": rows(val_set)}


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 where `precision` asks for it; `auto` does on a GPU or a processor whose own instructions multiply it (a GPU's from capability 8.0 on)."""
    can = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    wanted = precision == "bf16" or (precision == "auto" and can)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)
