"""Stage `train`: phase 2, the ONNX export, then temperature, offset and threshold on validation videos, and the model card.

The training rows are those of data/sets/train.parquet and the hardened clips; the card holds the hash of their pixels in
training order, recomputed from the bytes, so that a checkout can prove which data made the model.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.pretrain import CHECKPOINTS, load_base, shortened, tell_validation
from pipelines.scoring import collected_where_enough, meshes, read_set, score_rows, unit_evidence, unit_table
from pipelines.stage import Progress, stage_main
from workspace.cycle import Cycle
from workspace.errors import WorkspaceError
from workspace.files import atomic_file, read_json, sha256_file, write_json
from workspace.revisions import git
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

EDITED = ", with params.yaml edited since"  # of the commit that a card names
FOLDER, HARDENED = Path("build/model"), "data/hardened"
INT8_CLIPS = 64  # that ranges are measured on, and as many that agreement is


def run(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """Write build/model/{model.safetensors, model.onnx, card.json, history.json}; returns the history. A killed run goes on where it was.

    Raises DataError when the set lacks a class or validation has no real video to set the threshold with.
    """
    from model.checkpoint import load_model
    from model.export import export_onnx

    folder = root / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if settings.train.processes > 1:
        from model.parallel import launch

        Progress.heed_interruption()  # one that the import swallowed
        launch("pipelines.together", "train", processes=settings.train.processes)
    else:
        learn(root, settings, cycle)
    history = read_json(folder / "history.json")
    export_onnx(load_model(folder / "model.safetensors", history["model_sha256"]), folder / "model.onnx", settings.faces.size_px)
    rows = training_rows(root)
    if settings.serve.int8:
        history["int8"] = try_int8(root, settings, rows)
        write_json(folder / "history.json", history)
    write_model_card(root, settings, cycle, rows, history)
    return dict(history)


def try_int8(root: Path, settings: Settings, rows: "pd.DataFrame") -> dict[str, Any]:
    """Put the int8 network in the place of build/model/model.onnx if it agrees with it on validation clips; returns what was found.

    Agreement: p_fake (uncalibrated) of no clip moves by more than `gates.max_parity`, the bound that the exported file must keep anyway.
    Ranges are measured on training clips.
    """
    from media.shards import read_clip
    from model.quantise import difference, quantise

    path = root / FOLDER / "model.onnx"
    plain = path.read_bytes()
    seen, asked = (
        [read_clip(root, row) for row in table.sort_values("sha256").groupby("label").head(INT8_CLIPS // 2).to_dict("records")]
        for table in (rows, read_set(root, "validation"))
    )
    made = quantise(plain, seen)
    moved = difference(plain, made, asked)
    largest = float(moved.max())
    used = largest <= settings.gates.max_parity
    if used:
        with atomic_file(path, "wb") as handle:
            handle.write(made)
    said = f"largest change of p_fake {largest:.4f} on {len(asked)} validation clips, {settings.gates.max_parity:g} allowed (gates.max_parity)"
    print(f"int8 is {'served' if used else 'not served, fp32 is'}: {said}.", flush=True)
    return {
        "used": used,
        "largest_difference": largest,
        "mean_difference": float(moved.mean()),
        "clips": len(asked),
        "bytes": len(made),
        "fp32_bytes": len(plain),
    }


def learn(root: Path, settings: Settings, cycle: Cycle) -> None:
    """Phase 2 in this process, which may be one of several (model/parallel.py): the first of them writes weights and history."""
    from model.checkpoint import load_model, save_model
    from model.data import ClipDataset
    from model.hardware import best_device
    from model.parallel import leads
    from model.training import fit

    rows, validation, size = training_rows(root), read_set(root, "validation"), settings.faces.size_px
    if leads():
        tell_validation(validation)
    base = load_base(root, cycle)
    model = load_model(root / "build/pretrain/model.safetensors").to(best_device())
    report = fit(
        model,
        ClipDataset(root, rows, size, landmarks=meshes(root, settings)),
        ClipDataset(root, validation, size),
        shortened(settings.train, cycle.steps),
        cycle.seed,
        root / CHECKPOINTS,
        Progress("train"),
        augment=settings.augment,
        base=base if base is not None and base.size_px == size else None,
        met=cycle.known_generators,
        version=settings.stage_versions.train,
    )
    if not leads():
        return
    folder = root / FOLDER
    sha256 = save_model(model, folder / "model.safetensors", {"cycle": cycle.cycle, "phase": "train"})
    history = {"history": report.history, "best_step": report.best_step, "best_loss": report.best_loss, "steps": report.steps, "train_clips": len(rows)}
    write_json(folder / "history.json", history | {"model_sha256": sha256})


def training_rows(root: Path) -> "pd.DataFrame":
    """Every clip that phase 2 sees: the drawn training set and the hardened clips, in order of clip id.

    Hardened clips are of role `hardened` (no distillation: the base is wrong on them by construction) and as new as the clip they came from.
    """
    import pandas as pd

    from media.shards import INDEX_NAME, read_index

    drawn = read_set(root, "train")
    if not (root / HARDENED / INDEX_NAME).is_file():
        return drawn.sort_values("clip_id").reset_index(drop=True)
    hardened = read_index(root / HARDENED).drop(columns="landmarks").assign(store=HARDENED, role="hardened", split="train")
    new = dict(zip(drawn["clip_id"], drawn["new"], strict=True))
    hardened["new"] = [bool(new.get(clip_id, False)) for clip_id in hardened["source_clip"]]
    rows = pd.concat([drawn, hardened], ignore_index=True).fillna({"unit": "", "cluster": ""})
    return rows.sort_values("clip_id").reset_index(drop=True)


def write_model_card(root: Path, settings: Settings, cycle: Cycle, rows: "pd.DataFrame", history: dict[str, Any]) -> dict[str, Any]:
    """Calibrate on validation videos through the file that will serve and write the final card.json. Returns the calibration."""
    from model.calibration import calibrate
    from model.card import ModelCard, write_card
    from model.data import epoch_hash, epoch_order
    from model.novelty import fit_novelty
    from model.quantise import FP32, INT8

    folder = root / FOLDER
    generators = set(rows.loc[rows["label"] == "fake", "generator"]) | set(rows["forger"])
    met = cycle.known_generators if read_json(root / "build/pretrain/history.json")["warm_start"] else ()  # who starts from nothing has met none of them
    card = ModelCard(
        format=1,
        created="",
        model_sha256=history["model_sha256"],
        onnx_sha256=sha256_file(folder / "model.onnx"),
        engine=INT8 if history.get("int8", {}).get("used") else FP32,
        cycle=cycle.cycle,
        faces=settings.faces,
        model=settings.model,
        threshold=0.5,
        temperature=1.0,
        abstain=settings.evaluate.abstain,
        generators_seen=tuple(sorted({*met, *generators} - {""})),
        train_clips=tuple(rows["sha256"].iloc[epoch_order(rows, cycle.seed, 0)]),
        data_hash=epoch_hash(root, rows, cycle.seed),
        seed=cycle.seed,
        git_revision=revision(root),
        settings=settings.model_dump(mode="json", by_alias=True),
    )
    write_card(folder, card)  # the engine that scores validation wants one; temperature, offset and threshold follow
    validation = collected_where_enough(read_set(root, "validation"), settings.gates.min_per_class)
    scored = score_rows(root, folder, validation, threads=settings.serve.threads, tell=Progress("train"))
    units = unit_table(scored.drop(columns="embedding")).set_index("unit")
    evidence = unit_evidence(scored)
    of_each = units.loc[list(evidence)]
    labels, people = (of_each[name].to_numpy(dtype=object) for name in ("label", "cluster"))
    found = calibrate(labels, list(evidence.values()), settings.evaluate.target_fpr, people)
    metrics = {"calibration": found.as_dict(), "best_step": history["best_step"], "validation_loss": history["best_loss"], "train_clips": len(rows)}
    metrics |= {"int8": history["int8"]} if "int8" in history else {}
    metrics["novelty"] = fit_novelty(scored["embedding"].to_list(), scored["cluster"].to_list())
    fitted = {name: getattr(found, name) for name in ("threshold", "temperature", "offset", "levels")}
    write_card(folder, card.model_copy(update=fitted | {"metrics": metrics}))
    return found.as_dict()


def revision(root: Path) -> str:
    """The commit that the workspace stood at as it trained, EDITED where params.yaml is another by now: the cycle's own commit comes later. '' outside git."""
    try:
        return git(root, "rev-parse", "HEAD") + (EDITED if git(root, "diff", "--name-only", "HEAD", "--", "params.yaml") else "")
    except WorkspaceError:
        return ""


if __name__ == "__main__":
    stage_main("train", run)
