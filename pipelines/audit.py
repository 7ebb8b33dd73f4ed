"""Sanity of a training set and of the recipe: can the network learn a handful of clips by heart, and does anything but the picture give the answer away?

A network that cannot learn sixteen clips by heart has a fault in its labels, its rate or its code, and no amount of data mends
that. It is shown a frame of each, as in phase 1, and then the clips, as in phase 2: cut short, since thirty frames cost thirty times as much. A set whose
file numbers tell the classes apart teaches those numbers.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.nuisance import area_of, numbers_alone, told_by_statistics
from pipelines.pretrain import new_network
from pipelines.scoring import Tell, read_set, silent
from workspace.errors import DataError
from workspace.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

EACH = 8  # clips of a class to learn by heart
STEPS = 80  # of phase 1
CLIP_STEPS, FRAMES = 20, 3  # of phase 2, and of a clip at most: no more work than phase 1 is
LEAST_RATE = 3e-4  # of phase 2: by less, which may suit a long training, so few steps show nothing
LEAST_AUC, MOST_LOSS, MOST_ALONE, MOST_STATISTICS = 0.999, 0.1, 0.65, 0.8


def audit(root: Path, settings: Settings, tell: Tell = silent) -> list[dict[str, Any]]:
    """Rows check, value, low (where it is an estimate), bound, verdict (pass, fail, undecided), meaning, on the sets of the last cycle. Nothing is kept.

    Raises DataError before the first cycle, or where the training set lacks a class.
    """
    clips = read_set(root, "train")
    return [
        *overfit(root, settings, clips, tell),
        told_apart(
            "numbers beside the pixels: AUC",
            numbers_alone(clips, settings.seed),
            MOST_ALONE,
            "length, size or compression tell real from fake without a look at the picture",
        ),
        *(
            told_apart(
                f"statistics alone tell {name}: AUC",
                found,
                MOST_STATISTICS,
                "sharpness, colour, the border or a codec's blocks give these fakes away, and nothing else is learned from them",
            )
            for name, found in told_by_statistics(root, settings, clips, tell).items()
        ),
    ]


def told_apart(check: str, found: dict[str, Any] | None, bound: float, meaning: str) -> dict[str, Any]:
    """The row of an AUC (value, low) that should be at most `bound`. It fails where the low end of its interval lies beyond, since of few
    people a forest tells much by chance; where only the value does it is undecided, as is what nobody could ask (None).
    """
    if found is None:
        return _row(check, None, bound, None, f"else: {meaning}")
    value, low = float(found["value"]), float(found["low"])
    if value > bound >= low:
        return _row(check, value, bound, None, f"perhaps by chance, of so few people; else: {meaning}", low)
    return _row(check, value, bound, value <= bound, f"else: {meaning}", low)


def overfit(root: Path, settings: Settings, clips: "pd.DataFrame", tell: Tell = silent) -> list[dict[str, Any]]:
    """The rows of what a fresh network says of the very clips that it was shown, EACH a class, without augmentation: of a frame of each, then of the clips."""
    import tempfile

    import torch

    from model.data import ClipDataset, MemoryClips, labels_of, to_tensor
    from model.losses import cross_entropy
    from model.training import fit, pretrain

    few = clips[clips["role"] != "hardened"].sort_values("clip_id").groupby("label").head(EACH)
    if set(few["label"]) != {"real", "fake"}:
        raise DataError("There is nothing to learn by heart.", why="the training set holds one class only", next_step="Ingest the other class.")
    shown, nothing = ClipDataset(root, few, settings.faces.size_px), ClipDataset(root, few.head(0), settings.faces.size_px)
    whole = {"batch": len(few), "micro_batch": len(few), "ema": 0.8}
    first = settings.pretrain.model_copy(update=whole | {"steps": STEPS, "validate_every": STEPS})
    alone = {"adversarial_steps": 0, "distillation": 0.0, "frozen": 0.0, "lr": max(settings.train.lr, LEAST_RATE)}
    second = settings.train.model_copy(update=whole | alone | {"steps": CLIP_STEPS, "validate_every": CLIP_STEPS})
    fake = labels_of(shown.rows)
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="vigil-audit-") as scratch:
        torch.manual_seed(settings.seed)
        network = new_network(root, settings.model.model_copy(update={"dropout": 0.0}), settings.faces.size_px)
        pretrain(network, shown, nothing, first, settings.seed, Path(scratch), tell)
        with torch.no_grad():
            of_frames = network.frame_logits(torch.cat([to_tensor(_middle(shown.clip(position), 1)) for position in range(len(shown))]))
        short = [_middle(shown.clip(position), FRAMES) for position in range(len(shown))]
        fit(network, MemoryClips(few, short), nothing, second, settings.seed, Path(scratch), tell)
        with torch.no_grad():
            of_clips = torch.cat([network(to_tensor(clip)[None]) for clip in short])
    loss = float(cross_entropy(of_frames, torch.from_numpy(fake), "bce").mean())
    frames, areas = "learns single frames by heart", [area_of(fake, logits.double().numpy()) for logits in (of_frames, of_clips)]
    fault = "else: wrong labels, a rate that is too high or low, or a fault in the code"
    return [
        _row(f"{frames}: AUC", areas[0], LEAST_AUC, areas[0] >= LEAST_AUC, fault),
        _row(f"{frames}: loss", loss, MOST_LOSS, loss <= MOST_LOSS, "else: the rate of phase 1 does not fit this network"),
        _row("learns clips by heart: AUC", areas[1], LEAST_AUC, areas[1] >= LEAST_AUC, f"{fault} of what reads the frames in order, where frames are learned"),
    ]


def _middle(clip: "NDArray[np.uint8]", frames: int) -> "NDArray[np.uint8]":
    """So many frames [at most `frames`, H, W, 3] from the middle of a clip."""
    first = max(0, len(clip) // 2 - frames // 2)
    return clip[first : first + frames]


def _row(check: str, value: float | None, bound: float, passed: bool | None, meaning: str, low: float | None = None) -> dict[str, Any]:
    verdict = "undecided" if passed is None else "pass" if passed else "fail"
    return {"check": check, "value": value, "low": low, "bound": bound, "verdict": verdict, "meaning": meaning}
