"""An attacker's own model: a network of the same kind that shares no training and no training data with the ones it attacks.

Champion and challenger are of one line (warm start), so an attack on one is nearly a white-box attack on the other: a
transfer attack is one from a model that was trained apart. This one starts from nothing, or from published weights
(`model.weights` by name) as any attacker can, and learns the frames of the validation set, without augmentation. It is a
quarter of phase 1's work, deterministic by seed, and resumes like any training.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.pretrain import CHECKPOINTS
from pipelines.scoring import Tell, read_set, silent
from workspace.cycle import Cycle
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

SEED_OFFSET = 104729  # a prime: no stage draws with this seed
PART_OF_PHASE_1, LEAST_STEPS = 4, 10


def train_surrogate(root: Path, settings: Settings, cycle: Cycle, tell: Tell = silent) -> Any:
    """The attacker's model, in eval mode, as a judge of clips; None where validation lacks a class to learn."""
    import torch

    from model.data import ClipDataset
    from model.hardware import best_device
    from model.network import ResNeXtLSTM
    from model.training import pretrain
    from pipelines.frameview import FrameView

    rows: pd.DataFrame = read_set(root, "validation")
    if rows["label"].nunique() < 2:
        return None
    seed, start = cycle.seed + SEED_OFFSET, settings.model.weights
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResNeXtLSTM(settings.model.model_copy(update={"weights": start if start.isidentifier() else ""}), settings.faces.size_px).to(best_device())
    steps = max(LEAST_STEPS, settings.pretrain.steps // PART_OF_PHASE_1)
    phase = settings.pretrain.model_copy(update={"steps": steps, "validate_every": steps})
    clips = ClipDataset(root, rows, settings.faces.size_px)
    pretrain(network, clips, clips, phase, seed, root / CHECKPOINTS, tell, version=settings.stage_versions.evaluate)
    return FrameView(network).eval()
