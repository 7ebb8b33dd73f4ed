"""Sanity of a training set and of the recipe: can the network learn a handful of clips by heart, and does anything but the picture give the answer away?

A network that cannot learn sixteen clips by heart has a fault in its labels, its rate or its code, and no amount of data mends
that; a set whose file numbers tell the classes apart teaches those numbers.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.nuisance import area_of, numbers_alone, told_by_statistics
from pipelines.pretrain import new_network
from pipelines.scoring import Tell, read_set, silent
from workspace.errors import DataError
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

EACH = 8  # clips of a class to learn by heart
STEPS = 80
LEAST_AUC, MOST_LOSS, MOST_ALONE, MOST_STATISTICS = 0.999, 0.1, 0.65, 0.8


def audit(root: Path, settings: Settings, tell: Tell = silent) -> list[dict[str, Any]]:
    """Rows check, value, low (where it is an estimate), bound, verdict (pass, fail, undecided), meaning, on the sets of the last cycle. Nothing is kept.

    Raises DataError before the first cycle, or where the training set lacks a class.
    """
    clips = read_set(root, "train")
    loss, area = overfit(root, settings, clips, tell)
    return [
        _row("learns clips by heart: AUC", area, LEAST_AUC, area >= LEAST_AUC, "else: wrong labels, a rate that is too high or low, or a fault in the code"),
        _row("learns clips by heart: loss", loss, MOST_LOSS, loss <= MOST_LOSS, "else: the rate of phase 1 does not fit this network"),
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


def overfit(root: Path, settings: Settings, clips: "pd.DataFrame", tell: Tell = silent) -> tuple[float, float]:
    """(loss, AUC) on the very clips that a fresh network was shown, EACH a class, without augmentation."""
    import tempfile

    import torch

    from model.data import ClipDataset, labels_of
    from model.losses import cross_entropy
    from model.training import pretrain

    few = clips[clips["role"] != "hardened"].sort_values("clip_id").groupby("label").head(EACH)
    if set(few["label"]) != {"real", "fake"}:
        raise DataError("There is nothing to learn by heart.", why="the training set holds one class only", next_step="Ingest the other class.")
    shown = ClipDataset(root, few, settings.faces.size_px)
    nothing = ClipDataset(root, few.head(0), settings.faces.size_px)
    phase = settings.pretrain.model_copy(update={"steps": STEPS, "batch": len(few), "micro_batch": len(few), "validate_every": STEPS, "ema": 0.8})
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="vigil-audit-") as scratch:
        torch.manual_seed(settings.seed)
        network = new_network(root, settings.model.model_copy(update={"dropout": 0.0}), settings.faces.size_px)
        pretrain(network, shown, nothing, phase, settings.seed, Path(scratch), tell)
    frames = torch.stack([_middle(shown.clip(position)) for position in range(len(shown))])
    with torch.no_grad():
        logits = network.frame_logits(frames)
    fake = labels_of(shown.rows)
    return float(cross_entropy(logits, torch.from_numpy(fake), "bce").mean()), area_of(fake, logits.double().numpy())


def _middle(clip: Any) -> Any:
    from model.data import to_tensor

    return to_tensor(clip)[len(clip) // 2]


def _row(check: str, value: float | None, bound: float, passed: bool | None, meaning: str, low: float | None = None) -> dict[str, Any]:
    verdict = "undecided" if passed is None else "pass" if passed else "fail"
    return {"check": check, "value": value, "low": low, "bound": bound, "verdict": verdict, "meaning": meaning}
