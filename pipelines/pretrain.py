"""Stage `pretrain`: phase 1. The backbone and the frame head learn single frames, from the base model where there is one.

The stage keeps what must be the same on every run: the seed, the set, the start. Training itself is model/training.py.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.scoring import meshes, read_set
from pipelines.stage import Progress, stage_main
from workspace.cycle import Cycle
from workspace.files import read_json, write_json
from workspace.settings import ModelSettings, PhaseSettings, Settings
from workspace.state import IMPORTED

if TYPE_CHECKING:
    import pandas as pd

    from model.network import ResNeXtLSTM

Phase = TypeVar("Phase", bound=PhaseSettings)
FOLDER, CHECKPOINTS = Path("build/pretrain"), Path(".vigil/checkpoints")


def run(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """Write build/pretrain/{model.safetensors, history.json}; returns the history. A killed run goes on where it was.

    Raises DataError when the training set lacks a class, ModelFileError when build/base is not the cycle's base.
    """
    if settings.pretrain.processes > 1:
        from model.parallel import launch

        Progress.heed_interruption()  # one that the import swallowed
        launch("pipelines.together", "pretrain", processes=settings.pretrain.processes)
        found: dict[str, Any] = read_json(root / FOLDER / "history.json")
        return found
    return learn(root, settings, cycle)


def learn(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """The work of `run` in this process, which may be one of several (model/parallel.py): the first of them writes."""
    from model.checkpoint import save_model
    from model.data import ClipDataset
    from model.hardware import best_device, describe_device
    from model.parallel import leads
    from model.training import pretrain

    model, warm = start_model(root, settings, cycle)
    start = started_from(settings.model, warm)
    model.to(best_device())
    validation, size = read_set(root, "validation"), settings.faces.size_px
    if leads():
        if warm and settings.model.weights:
            print(f"This model starts from the champion; model.weights ({settings.model.weights}) are for one that has none to start from.", flush=True)
        print(f"Learning on {describe_device()}.", flush=True)
        tell_validation(validation)
    train_set = ClipDataset(root, read_set(root, "train"), size, landmarks=meshes(root, settings))
    val_set = ClipDataset(root, validation, size)
    phase = settings.pretrain.model_copy(update={"lr": settings.pretrain.lr * settings.pretrain.warm_lr_factor}) if warm else settings.pretrain
    phase = shortened(phase, cycle.steps)
    folder, tell, version = root / CHECKPOINTS, Progress("pretrain"), settings.stage_versions.pretrain
    report = pretrain(model, train_set, val_set, phase, cycle.seed, folder, tell, augment=settings.augment, version=version)
    if not leads():
        return {}
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    sha256 = save_model(model, root / FOLDER / "model.safetensors", {"cycle": cycle.cycle, "phase": "pretrain"})
    result = {
        "history": report.history,
        "best_step": report.best_step,
        "best_loss": report.best_loss,
        "steps": report.steps,
        "warm_start": warm,
        "start": start,
        "sha256": sha256,
    }
    write_json(root / FOLDER / "history.json", result)
    return result


def tell_validation(rows: "pd.DataFrame") -> None:
    """Say what the validation figures of training are of, where that is not what the report judges."""
    if forged := int((rows["origin"] == "forged").sum()):
        said = f"val loss and val auc are of all {len(rows)} clips of validation, {forged} of them forged here"
        print(f"{said}; the report's figures are of videos, and leave these out where enough fakes were collected.", flush=True)


def started_from(about: ModelSettings, warm: bool) -> str:
    """What a network that was just built began with: `the champion`, `the weights IMAGENET1K_V1`, or `nothing`, where that is so of published ones too."""
    from model.backbones import at_hand

    if warm:
        return "the champion"
    if not about.weights:
        return "nothing"
    return f"the weights {about.weights}" if at_hand(about.backbone, about.weights) else f"nothing: {about.weights} of {about.backbone} could not be fetched"


def shortened(phase: Phase, part: float) -> Phase:
    """The phase with a part of its steps, at least one; a fine-tune goes on from a champion and needs no more."""
    steps = max(1, round(phase.steps * part))
    return phase if part == 1 else phase.model_copy(update={"steps": steps, "validate_every": min(phase.validate_every, steps)})


def start_model(root: Path, settings: Settings, cycle: Cycle) -> tuple["ResNeXtLSTM", bool]:
    """The network to train, and whether it starts from the base model.

    A base of another shape (settings changed) cannot be taken over: the network then starts afresh. `model.weights` are asked for only where it
    does. The spatial prior is that of the settings.
    """
    import torch

    def fresh(about: ModelSettings) -> "ResNeXtLSTM":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cycle.seed)
            return new_network(root, about, settings.faces.size_px)

    base = load_base(root, cycle)
    if base is None:
        return fresh(settings.model), False
    model = fresh(settings.model.model_copy(update={"weights": ""}))
    if not same_shape(model, base):
        print("The champion's network has another shape (a setting under `model` or faces.size_px changed): this model starts from nothing.", flush=True)
        return fresh(settings.model), False
    model.settings = settings.model  # its file says what params.yaml does
    state = base.state_dict()
    if model.attention is not None and not torch.allclose(model.attention.prior, state["attention.prior"]):  # machines differ in its last digit
        state["attention.prior"] = model.attention.prior
    model.load_state_dict(state)
    return model, True


def new_network(root: Path, about: ModelSettings, size_px: int) -> "ResNeXtLSTM":
    """A network before its training, from `model.weights` where there are any: `rooted`, while its own settings go on saying what params.yaml does."""
    from model.network import ResNeXtLSTM

    network = ResNeXtLSTM(about.model_copy(update={"weights": rooted(root, about.weights)}), size_px)
    network.settings = about
    return network


def rooted(root: Path, weights: str) -> str:
    """What `model.weights` names, wherever the caller stands: a relative path is one of the workspace `root`."""
    return weights if not weights or weights.isidentifier() else str(root / weights)


def same_shape(one: "ResNeXtLSTM", other: "ResNeXtLSTM") -> bool:
    """Whether the weights of either network fit the other."""
    shapes = [{name: tensor.shape for name, tensor in network.state_dict().items()} for network in (one, other)]
    return shapes[0] == shapes[1]


def load_base(root: Path, cycle: Cycle) -> "ResNeXtLSTM | None":
    """The base model, checked against the cycle's sha256; None for a first model, and where the base has no weights (an imported ONNX file)."""
    from model.card import trainable, verify
    from model.checkpoint import load_model

    folder = root / "build/base"
    if not cycle.base_model:
        return None
    if cycle.base_cycle == IMPORTED and not trainable(folder):
        verify(folder)
        print("The champion is an imported ONNX file: this model starts from nothing.", flush=True)
        return None
    return load_model(folder / "model.safetensors", cycle.base_model)


if __name__ == "__main__":
    stage_main("pretrain", run)
