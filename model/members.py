"""Phase 1 several times over from one start, and one network of all: the mean of their weights.

Trainings from the same published or earlier weights that see their data in another order end in one valley, and the middle of it carries over to
what none of them saw better than either wall (Wortsman et al. 2022, Model soups; Ramé et al. 2022, Diverse weight averaging). It costs as many
trainings, and nothing when it judges. Whether they did end in one valley is asked of the validation people, never taken for granted.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model.data import ClipSource, labels_of, mixed_seed
from model.loop import Looked, Progress, TrainReport
from model.network import ResNeXtLSTM
from model.training import frame_figures, pretrain
from workspace.errors import Diverged
from workspace.settings import AugmentSettings, PretrainSettings

Weights = Mapping[str, Tensor]


def pretrain_members(
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
    """`pretrain` `settings.members` times from the weights that `model` has; it ends with the mean of those that belong together.

    The first member is the one that `pretrain` alone gives. Taken is who has the lowest validation loss, then, in that order, everyone beside whom the
    mean has no higher one (the greedy soup of Wortsman et al. 2022, section 2). Where validation lacks a class nobody can ask, and there is one member; one
    that diverges is left out, unless it is the first. The report is that of the best member, with the loss of the mean; the steps are those of all.
    """
    fake = labels_of(val_set.rows)
    count = settings.members if fake.any() and not fake.all() else 1
    trained, reports, start = [], [], _copied(model)
    for member in range(count):
        model.load_state_dict(start)
        try:
            report = pretrain(
                model,
                train_set,
                val_set,
                settings,
                mixed_seed(seed, member) if member else seed,
                checkpoint_dir,
                _of_all(progress, member, count),
                augment=augment,
                version=version,
                looked=looked if member == 0 else None,
            )
        except Diverged as problem:
            if member == 0:
                raise
            print(f"Training {member + 1} of {count} is left out of the mean: {problem.why}.", file=sys.stderr, flush=True)
            continue
        trained.append(_copied(model))
        reports.append(report)

    def loss(weights: Weights) -> float:
        model.load_state_dict(weights)
        found = frame_figures(model, val_set, settings.micro_batch)
        assert found is not None  # both classes are there
        return found["val_loss"]

    losses = [math.inf if report.best_loss is None else report.best_loss for report in reports]
    taken, lowest = greedy_soup(trained, losses, loss)
    model.load_state_dict(mean_of([trained[member] for member in taken]))
    model.eval()
    members = [
        {"best_step": report.best_step, "best_loss": report.best_loss, "steps": report.steps, "taken": member in taken} for member, report in enumerate(reports)
    ]
    best = reports[taken[0]]
    steps, resumed_from = (sum(getattr(report, name) for report in reports) for name in ("steps", "resumed_from"))
    return replace(best, best_loss=None if math.isinf(lowest) else lowest, steps=steps, resumed_from=resumed_from, members=members)


def _copied(model: ResNeXtLSTM) -> Weights:
    """Its weights in the machine's own memory: a GPU has no room to spare for those of all members."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def greedy_soup(trained: Sequence[Weights], losses: Sequence[float], loss_of: Callable[[Weights], float]) -> tuple[list[int], float]:
    """Which of `trained` are averaged, the best first, and the loss of their mean."""
    order = sorted(range(len(trained)), key=lambda member: losses[member])
    taken, lowest = order[:1], losses[order[0]]
    for member in order[1:]:
        loss = loss_of(mean_of([trained[one] for one in [*taken, member]]))
        if loss <= lowest:
            taken, lowest = [*taken, member], loss
    return taken, lowest


def mean_of(trained: Sequence[Weights]) -> Weights:
    """The mean of each tensor over networks; counters are the first one's."""
    return {name: torch.stack([weights[name] for weights in trained]).mean(0) if first.is_floating_point() else first for name, first in trained[0].items()}


def _of_all(progress: Progress | None, member: int, members: int) -> Progress | None:
    """Tells of one training as the part of all that it is."""
    if progress is None or members == 1:
        return progress
    return lambda done, steps, message: progress(member * steps + done, members * steps, f"{member + 1} of {members}: {message}")
