"""Stage `harden`: adversarial clips for training. Drawn clips are attacked with PGD, stored in 8 bits without loss, and read back.

The attacked model is the base where there is one, else the phase-1 network through its frame head. An image codec would
eat the attack (tried), so the shards keep raw pixels; what comes back from disk must obey eps and still fool the model.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.pretrain import load_base
from pipelines.scoring import read_set
from pipelines.stage import Progress, stage_main
from workspace.cycle import Cycle
from workspace.errors import DataError
from workspace.files import write_json
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path("data/hardened")
LEAST_KEPT = 0.9  # part of the attack's effect that must survive storage


def run(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """Write data/hardened/{index.parquet, clips-*.tar, report.json}; returns the report. Same inputs, same bytes.

    Raises DataError when a stored clip breaks eps: such clips must not train a model.
    """
    from media.shards import CLIP_COLUMNS, ShardWriter, read_clip, read_landmarks
    from model.attacks import pgd, to_uint8, whole_levels

    rows = draw(read_rows(root), settings.budget.hardened_clips, cycle.seed)
    eps = whole_levels(settings.harden.eps) / 255  # 8-bit pixels can reach this, so rounding is all that storage takes away
    model, surrogate = surrogate_model(root, cycle)
    tell, measured = Progress("harden"), []
    with ShardWriter(root / FOLDER) as shards:
        for part in same_length(rows):
            pixels = [read_clip(root, row) for row in part]
            clean8, clean = _tensors(pixels)
            fake = _fake(part)
            attacked = pgd(
                model,
                clean,
                fake,
                eps=eps,
                steps=settings.harden.steps,
                step_size=settings.harden.step_size,
                restarts=settings.harden.restarts,
                seed=_seed(cycle.seed, part),
            )
            stored8 = to_uint8(attacked, clean8, settings.harden.eps)
            for row, frames in zip(part, stored8.permute(0, 1, 3, 4, 2).numpy(), strict=True):
                about = {name: row[name] for name in CLIP_COLUMNS if name in row}
                about |= {"clip_id": f"{row['clip_id']}+pgd", "origin": "hardened", "source_clip": row["clip_id"]}
                shards.add(about, np.ascontiguousarray(frames), read_landmarks(row))
            measured.append((_losses(model, clean, fake), _losses(model, attacked, fake)))
            tell(sum(len(before) for before, _ in measured), len(rows), "clips attacked")
    report = {"surrogate": surrogate, "eps": settings.harden.eps, "attack_eps": eps, "clips": len(rows), **read_back(root, settings, rows, model, measured)}
    write_json(root / FOLDER / "report.json", report)
    if report["largest_levels"] > report["allowed_levels"]:
        raise DataError(
            "Attacked clips moved further than eps when they were stored.",
            why=f"{report['largest_levels']} levels of 255, {report['allowed_levels']} are allowed",
            next_step="Report this: clips must be stored without loss.",
        )
    return report


def read_rows(root: Path) -> "pd.DataFrame":
    """The training set with its landmarks."""
    import pandas as pd

    read_set(root, "train")  # says what is missing where there is none
    return pd.read_parquet(root / "data/sets/train.parquet")


def draw(rows: "pd.DataFrame", most: int, seed: int) -> list[dict[str, Any]]:
    """At most `most` clips, half real and half fake as far as there are enough, collected or forged, by keyed hash."""
    rows = rows[rows["origin"].isin(["collected", "forged"]) & rows["label"].isin(["real", "fake"])]
    order = [hashlib.sha256(f"{seed}:{clip_id}".encode()).hexdigest() for clip_id in rows["clip_id"]]
    each = min(most // 2, *(int((rows["label"] == label).sum()) for label in ("real", "fake")))
    drawn = rows.assign(_order=order).sort_values("_order").groupby("label").head(each).drop(columns="_order")
    return [{str(name): value for name, value in row.items()} for row in drawn.to_dict("records")]


def same_length(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows in batches that may be attacked at once, of clips of one length, so that nothing is padded."""
    from model.attacks import at_once

    parts = []
    for length in sorted({int(row["frames"]) for row in rows}):
        group = [row for row in rows if int(row["frames"]) == length]
        count = at_once(length, int(group[0]["size_px"]))
        parts += [group[start : start + count] for start in range(0, len(group), count)]
    return parts


def surrogate_model(root: Path, cycle: Cycle) -> tuple[Any, str]:
    """The network to attack, in eval mode, and its name for the report."""
    from model.checkpoint import load_model
    from model.hardware import best_device
    from pipelines.frameview import FrameView

    base = load_base(root, cycle)
    if base is not None:
        return base.to(best_device()), "base"
    return FrameView(load_model(root / "build/pretrain/model.safetensors")).eval().to(best_device()), "phase 1"


def read_back(root: Path, settings: Settings, rows: list[dict[str, Any]], model: Any, measured: list[tuple[Any, Any]]) -> dict[str, Any]:
    """What the stored clips still do: largest change in levels, and the part of the loss increase and of the flips that is left."""
    from media.shards import read_clip, read_clip_at, read_index
    from model.attacks import whole_levels

    index = {row["clip_id"]: row for row in read_index(root / FOLDER).to_dict("records")}
    largest, stored = 0, []
    for part in same_length(rows):
        clean = [read_clip(root, row) for row in part]
        kept = [read_clip_at(root / FOLDER, index[f"{row['clip_id']}+pgd"], verify=True) for row in part]
        largest = max(largest, *(int(np.abs(a.astype(np.int16) - b.astype(np.int16)).max()) for a, b in zip(clean, kept, strict=True)))
        stored.append(_losses(model, _tensors(kept)[1], _fake(part)))
    before, attacked = (np.concatenate([pair[side] for pair in measured]) if measured else np.zeros(0) for side in (0, 1))
    after = np.concatenate(stored) if stored else np.zeros(0)
    flips = [int(((losses > np.log(2)) & (before <= np.log(2))).sum()) for losses in (attacked, after)]
    gain = float((attacked - before).mean()) if len(before) else 0.0
    left = float((after - before).mean()) if len(before) else 0.0
    kept_part = left / gain if gain > 0 else None
    return {
        "largest_levels": largest,
        "allowed_levels": whole_levels(settings.harden.eps),
        "loss_clean": float(before.mean()) if len(before) else None,
        "loss_attacked": float(attacked.mean()) if len(before) else None,
        "loss_stored": float(after.mean()) if len(before) else None,
        "flips_attacked": flips[0],
        "flips_stored": flips[1],
        "effect_kept": kept_part,
        "enough_kept": None if kept_part is None else kept_part >= LEAST_KEPT,
    }


def _tensors(pixels: list[np.ndarray]) -> tuple[Any, Any]:
    """Clips [T, S, S, 3] of one length -> (uint8, float 0..1) tensors [B, T, 3, S, S]."""
    import torch

    whole = torch.from_numpy(np.stack(pixels)).permute(0, 1, 4, 2, 3).contiguous()
    return whole, whole.float() / 255


def _fake(rows: list[dict[str, Any]]) -> Any:
    import torch

    return torch.tensor([row["label"] == "fake" for row in rows])


def _losses(model: Any, clips: Any, fake: Any) -> np.ndarray:
    """Cross-entropy [B] of each clip in nats; ln 2 is the border of a wrong verdict at p_fake 0.5."""
    import torch
    from torch.nn import functional

    with torch.no_grad():
        logits = model(clips.to(next(model.parameters()).device), None).double().cpu()
    return functional.binary_cross_entropy_with_logits(logits, fake.double(), reduction="none").numpy()


def _seed(seed: int, rows: list[dict[str, Any]]) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{rows[0]['clip_id']}".encode()).digest()[:4], "big")


if __name__ == "__main__":
    stage_main("harden", run)
