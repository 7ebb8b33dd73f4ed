"""Networks side by side on the sets of the last cycle: the same recipe, budget and seeds for each, measured on validation videos.

A choice between networks is a choice, so it is made on validation; the holdout stays for the gates. A run that was broken off
is simply run again: finished rows stay in reports/compare.jsonl.
"""

import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.predictions import class_counts
from pipelines.pretrain import CHECKPOINTS, new_network
from pipelines.scoring import Tell, meshes, read_set, silent, unit_table
from workspace.errors import DataError, Diverged, SettingsError
from workspace.files import add_row, rows_of
from workspace.processes import stage_lock
from workspace.settings import ModelSettings, Settings

if TYPE_CHECKING:
    import pandas as pd

    from model.data import ClipDataset
    from model.loop import Looked

RESULTS = Path("reports/compare.jsonl")
TEMPORAL = ("lstm", "gru", "transformer")
CLIP_3D = "r3d_18"
NAMES = ("resnext50_32x4d", "resnet50", "efficientnet_b0", "vit_b_16", "swin_t", "xception", "meso4", CLIP_3D, *(f"temporal:{kind}" for kind in TEMPORAL))
FIGURES = ("auc", "accuracy", "f1", "parameters", "megabytes", "clip_ms", "seconds")
RUNS = 5
# What is compared is the network, not the loop around it. A 3D network has no map of each frame in which a forgery could be found: none is taught that way.
PLAIN: dict[str, dict[str, Any]] = {
    "model": {"weights": ""},
    "pretrain": {"locate": 0.0, "patience": 1},
    "train": {
        "adversarial_steps": 0, "adversarial_eps": 0.0, "adversarial_fraction": 0.0, "distillation": 0.0, "frozen": 0.0, "distance": "scores", "patience": 1
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sets:
    """The sets of the last cycle as they were when the choice began: a cycle that replaces them meanwhile changes nothing for those still to be trained."""

    root: Path
    train: "pd.DataFrame"
    validation: "pd.DataFrame"
    meshes: Mapping[str, bytes]

    def key(self, about: Mapping[str, Any]) -> str:
        """A name for a choice made on these sets, that changes with their clips, with what is said of each, and with what it is `about`."""
        from model.training import DECIDE

        columns = [name for name in DECIDE if name in self.train]
        sets = {name: sorted(table[columns].astype(str).to_numpy().tolist()) for name, table in (("train", self.train), ("validation", self.validation))}
        told = {**sets, **about}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def recipe_of(settings: Settings) -> dict[str, Any]:
    """What decides, beside sets and seed, what `train_anew` makes: the settings that a training reads, and the versions of its code."""
    blocks = {block: getattr(settings, block).model_dump(mode="json") for block in ("model", "augment", "pretrain", "train", "faces")}
    versions = settings.stage_versions.model_dump(mode="json")
    return {"settings": blocks, "versions": [versions[name] for name in ("pretrain", "train")]}


def read_sets(root: Path, settings: Settings) -> Sets:
    """Raises DataError where a set is missing, and where validation lacks a class: nothing can be chosen on it."""
    sets = Sets(root, read_set(root, "train"), read_set(root, "validation"), meshes(root, settings))
    if set(sets.validation["label"]) != {"real", "fake"}:
        raise DataError("There is nothing to choose on.", why="validation lacks a class", next_step="Ingest more people, then run `vigil retrain`.")
    return sets


def compare(
    root: Path, settings: Settings, names: Sequence[str], steps: int, fit_steps: int, seeds: Sequence[int], tell: Tell = silent
) -> list[dict[str, Any]]:
    """Train and measure what is missing; rows name, seed, auc, accuracy, f1, n_real, n_fake, parameters, megabytes, clip_ms, seconds (of training; None
    where it was broken off and gone on with), diverged (why a training did, whose figures are None; else None).

    A name is a backbone, `r3d_18` (a 3D network in place of CNN and LSTM), or `temporal:KIND` on the settings' own backbone.
    `steps` of phase 1, `fit_steps` of phase 2, the rest as the settings say; attacks, distillation and the places of forgeries
    (`pretrain.locate`) are off, hardened clips are left out, the distance is that of scores, no backbone stands still, every network begins from
    nothing whatever `model.weights` says, and keeps its last averaged weights. Raises DataError before the first cycle, SettingsError for an unknown
    name, or one whose network does not take pictures of this size, LeaseHeldError while another comparison runs here.
    """
    names = list(dict.fromkeys(names))  # the same name twice is no second seed
    _refuse_unknown(names, settings)
    settings = _laid_over(settings, steps, fit_steps)
    with stage_lock(root, "compare", wait_seconds=0.0):  # two would train everything twice, and go on from each other's checkpoints
        sets = read_sets(root, settings)
        key = sets.key(recipe_of(settings))
        path = root / RESULTS
        rows = {(row["name"], row["seed"]): row for row in rows_of(path) if row["key"] == key}
        for seed in seeds:
            for name in names:
                if (name, seed) not in rows:
                    rows[name, seed] = {"name": name, "seed": seed, "key": key} | _one_or_diverged(sets, settings, name, seed, tell)
                    add_row(path, rows[name, seed])
    return [rows[name, seed] for name in names for seed in seeds]


def _laid_over(settings: Settings, steps: int, fit_steps: int) -> Settings:
    """The settings that every network is trained by: this budget, nothing to stop it early, and PLAIN. Other values of these are no other comparison."""
    budget = {"pretrain": steps, "train": fit_steps}
    over = {block: values | ({"steps": budget[block], "validate_every": budget[block]} if block in budget else {}) for block, values in PLAIN.items()}
    return settings.model_copy(update={block: getattr(settings, block).model_copy(update=values) for block, values in over.items()})


def _refuse_unknown(names: Sequence[str], settings: Settings) -> None:
    """Raise SettingsError for a name that is none, or that does not take pictures as the settings show them, before anything is trained."""
    from model.backbones import refuse_lone_pictures, refuse_side

    side = settings.faces.size_px // settings.model.shrink
    for name in names:
        kind, _, temporal = name.partition(":")
        if kind == "temporal" and temporal not in TEMPORAL:
            raise SettingsError(f"There is no {name!r} to compare.", why=f"temporal heads are {', '.join(TEMPORAL)}", next_step="Mend the name.")
        if kind != "temporal" and name != CLIP_3D:
            refuse_side(name, side)
            if settings.pretrain.fewest_at_once == 1:
                refuse_lone_pictures(name, side)


def _model_settings(model: ModelSettings, name: str) -> ModelSettings:
    kind, _, temporal = name.partition(":")
    return model.model_copy(update={"temporal": temporal} if kind == "temporal" else {"backbone": name})


def _one_or_diverged(sets: Sets, settings: Settings, name: str, seed: int, tell: Tell) -> dict[str, Any]:
    """What `_one` says; of a network that these rates are too high for, which it diverges with each time, only that it does."""
    try:
        return _one(sets, settings, name, seed, tell) | {"diverged": None}
    except Diverged as problem:
        return dict.fromkeys(FIGURES) | class_counts(unit_table(sets.validation)) | {"diverged": problem.why}


def _one(sets: Sets, settings: Settings, name: str, seed: int, tell: Tell) -> dict[str, Any]:
    """Train one network from scratch, with nothing to stop it early, and measure it."""
    from model.data import ClipDataset
    from model.network import count_parameters

    started = time.monotonic()
    wanted = settings.model_copy(update={"model": _model_settings(settings.model, name)})
    own = sets.root / CHECKPOINTS / "compare"  # beside those of a cycle that may train meanwhile
    network, resumed = train_anew(sets, wanted, seed, _named(tell, name), three_d=name == CLIP_3D, folder=own)
    seconds = None if resumed else round(time.monotonic() - started)  # of a part only: what went before is not known
    found = measure(network, ClipDataset(sets.root, sets.validation, settings.faces.size_px))
    count = count_parameters(network)
    return found | {"parameters": count, "megabytes": round(4e-6 * count, 1), "clip_ms": clip_milliseconds(network, settings), "seconds": seconds}


def train_anew(
    sets: Sets,
    settings: Settings,
    seed: int,
    tell: Tell,
    *,
    three_d: bool = False,
    validate: bool = False,
    looked: "Looked | None" = None,
    folder: Path,
) -> tuple[Any, bool]:
    """A network trained from scratch by both phases of `settings` on the `sets`, on the device it was trained on; and whether a checkpoint was gone on from.

    Without `validate` nothing stops a phase early and the last averaged weights are kept. `looked` hears each look at validation, with
    the steps of both phases counted through. `folder` holds its checkpoints.
    """
    import torch

    from model.data import ClipDataset
    from model.hardware import best_device
    from model.rivals import Clip3D
    from model.training import fit, pretrain

    size = settings.faces.size_px
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = Clip3D(settings.model, size) if three_d else new_network(sets.root, settings.model, size)
    network.to(best_device())
    train = ClipDataset(sets.root, sets.train, size, landmarks=sets.meshes)
    judged = ClipDataset(sets.root, sets.validation if validate else train.rows.head(0), size)
    augment, versions = settings.augment, settings.stage_versions
    first = pretrain(network, train, judged, settings.pretrain, seed, folder, tell, augment=augment, version=versions.pretrain, looked=looked)

    def looked_later(row: Mapping[str, Any]) -> None:
        if looked is not None:
            looked({**row, "step": settings.pretrain.steps + row["step"]})

    second = fit(network, train, judged, settings.train, seed, folder, tell, augment=augment, version=versions.train, looked=looked_later)
    for done in (first, second):
        shutil.rmtree(done.folder, ignore_errors=True)
    return network, bool(first.resumed_from or second.resumed_from)


def _named(tell: Tell, name: str) -> Tell:
    def told(done: int, total: int, message: str = "") -> None:
        tell(done, total, f"{name}  {message}")

    return told


def measure(network: Any, clips: "ClipDataset") -> dict[str, Any]:
    """AUC over videos, by the rule that serves (a 3D network knows no frames: the clip's own certainty stands in); accuracy and F1 where p_fake 0.5 divides."""
    import numpy as np
    import torch

    from model.aggregate import ClipEvidence, aggregate
    from model.calibration import typical_logits
    from model.data import to_tensor
    from model.metrics import auc, threshold_metrics
    from model.rivals import Clip3D

    device, evidence = next(network.parameters()).device, dict[str, list[ClipEvidence]]()
    network.eval()
    with torch.no_grad():
        for position, (unit, track) in enumerate(zip(clips.rows["unit"], clips.rows["track"], strict=True)):
            clip = to_tensor(clips.clip(position))[None].to(device)
            if isinstance(network, Clip3D):
                logit = float(network(clip)[0])
                certainty = float(np.tanh(abs(logit) / 2))
            else:
                outputs = network.forward_all(clip)
                logit, certainty = float(outputs.logits[0]), float(outputs.certainty.mean())
            evidence.setdefault(str(unit), []).append(ClipEvidence(logit, certainty, int(track)))
    table = unit_table(clips.rows).set_index("unit").loc[list(evidence)]
    labels = table["label"].to_numpy(dtype=object)
    levels = typical_logits(labels == "fake", list(evidence.values()))
    p_fake = np.array([aggregate(one, levels=levels).p_fake for one in evidence.values()])
    at = threshold_metrics(labels, p_fake, 0.5)
    return {"auc": auc(labels, p_fake), "accuracy": at["accuracy"], "f1": at["f1"], **class_counts(table)}


def clip_milliseconds(network: Any, settings: Settings) -> float:
    """Median milliseconds of one clip through the checkpoint, fp32, on the device it is on."""
    import torch

    device, faces = next(network.parameters()).device, settings.faces
    clip = torch.rand(1, faces.clip_frames, 3, faces.size_px, faces.size_px, device=device)
    times = []
    with torch.no_grad():
        for _ in range(RUNS + 1):
            began = time.perf_counter()
            float(network(clip)[0])
            times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times[1:]), 1)


def means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a name: means over its seeds (of F1 and seconds over those that have one), with the AUC's spread; `diverged` counts seeds without figures."""
    found = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        learned = [row for row in mine if not row.get("diverged")]
        values = {key: _mean_known(learned, key) for key in ("auc", "accuracy", "f1", "seconds")}
        spread = statistics.stdev(row["auc"] for row in learned) if len(learned) > 1 else None
        times = {"clip_ms": round(statistics.mean(row["clip_ms"] for row in learned), 1) if learned else None}
        size = {"megabytes": learned[0]["megabytes"] if learned else None}
        found.append({"name": name, "seeds": len(mine), "diverged": len(mine) - len(learned), **values, "auc_spread": spread, **size, **times})
    return found


def _mean_known(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    known = [row[key] for row in rows if row[key] is not None]
    return statistics.mean(known) if known else None
