"""A workspace small enough for a test: clips whose fakes carry a trace, the three sets, a cycle. No media are decoded."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save_file
from torch import Tensor

from media.shards import ShardWriter, read_index
from model.backbones import build_backbone
from workspace.cycle import Cycle
from workspace.files import parse_yaml, write_json
from workspace.settings import Settings, parse_settings

ROOT = Path(__file__).resolve().parents[2]
SIZE, FRAMES = 32, 3
TINY = {
    "faces": {"size_px": SIZE, "clip_frames": FRAMES, "min_clip_frames": 2},
    "budget": {"hardened_clips": 6, "attack_clips": 8},
    "pretrain": {"steps": 12, "batch": 8, "micro_batch": 8, "validate_every": 6},
    "train": {"steps": 8, "batch": 8, "micro_batch": 8, "validate_every": 4, "adversarial_steps": 1},
    "harden": {"steps": 5},
    "evaluate": {"resamples": 40, "attack_steps": 2, "attack_eps": [0.0, 0.00784, 0.05]},
    "drift": {"permutations": 199, "min_samples": 8},
    "gates": {"min_per_class": 4, "min_people": 2, "min_slice": 4},
}


def demo_settings(changes: dict[str, Any] | None = None) -> Settings:
    """The demo profile, with `changes` laid over it."""
    raw = parse_yaml((ROOT / "params.yaml").read_text())
    for layer in (parse_yaml((ROOT / "workspace/profiles/demo.yaml").read_text()), TINY, changes or {}):
        raw = _over(raw, layer)
    return parse_settings(raw)


def _over(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _over(below.get(key), value) for key, value in above.items()}


def clip_pixels(rng: np.random.Generator, fake: bool, trace: float = 60.0, brightness: float = 120.0) -> np.ndarray:
    """A soft face-like blob [T, S, S, 3]; fakes carry a fine stripe across the cheeks."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    blob = brightness + rng.normal(0, 10) + 60 * np.exp(-(((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.1))
    frames = blob[None, :, :, None] + rng.normal(0, 6, size=(FRAMES, SIZE, SIZE, 3))
    if fake:
        frames += trace * ((np.arange(SIZE) // 2) % 2 - 0.5)[None, None, :, None]
    return np.clip(frames, 0, 255).astype(np.uint8)


def add_batch(root: Path, batch: str, people: int, *, generator: str = "swap", seed: int = 0, trace: float = 60.0, brightness: float = 120.0) -> pd.DataFrame:
    """Store one real and one fake clip a person; returns index rows with `store`, as assemble hands them on."""
    rng = np.random.default_rng([seed, *batch.encode()])
    folder = root / "data/faces" / batch
    marks = np.full((FRAMES, 468, 2), 0.5)
    with ShardWriter(folder) as shard:
        for person in range(people):
            for label in ("real", "fake"):
                sample = f"{batch}{label}{person}".encode().hex().ljust(64, "0")[:64]
                row = {
                    "clip_id": f"{sample[:30]}-t0-c0",
                    "sample_id": sample,
                    "batch": batch,
                    "start_seconds": 0.0,
                    "end_seconds": 0.4,
                    "face_px": 80.0 + rng.normal(),
                    "sharpness": 5.0 + rng.normal(),
                    "brightness": brightness / 255 + rng.normal(0, 0.01),
                    "yaw_degrees": rng.normal(0, 5),
                    "score": 0.9,
                    "kind": "video",
                    "label": label,
                    "use": "train",
                    "identity": f"{batch}-p{person}",
                    "generator": generator if label == "fake" else "",
                    "source": "made",
                    "origin": "collected",
                }
                shard.add(row, clip_pixels(rng, label == "fake", trace, brightness), marks)
    return read_index(folder).assign(store=f"data/faces/{batch}")


def start_in_two_places(tmp_path: Path) -> tuple[Path, Path, dict[str, Tensor]]:
    """A workspace with a start.safetensors, a folder elsewhere with another file of that name, and the weights in the first."""
    root, elsewhere = tmp_path / "w", tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_sets(root, add_batch(root, "b1", 20), {"b1"})
    state = build_backbone("resnext_tiny").state_dict()
    save_file(state, root / "start.safetensors")
    save_file({name: tensor * 0 for name, tensor in state.items()}, elsewhere / "start.safetensors")
    return root, elsewhere, state


def write_sets(root: Path, rows: pd.DataFrame, new: set[str]) -> None:
    """Split by person (six in ten train, two validate, two hold out) and write data/sets as assemble does."""
    number = rows["identity"].str.extract(r"p(\d+)$")[0].astype(int) % 10
    rows = rows.assign(unit=rows["sample_id"], cluster=rows["identity"], new=rows["batch"].isin(new), corrects=False)
    rows["split"] = np.where(number < 6, "train", np.where(number < 8, "validation", "holdout"))
    rows["role"] = np.where(rows["split"] != "train", "", np.where(rows["new"], "new", "replay"))
    (root / "data/sets").mkdir(parents=True, exist_ok=True)
    for split, part in [*rows.groupby("split"), ("unlabelled", rows.iloc[:0])]:
        part.sort_values("clip_id").to_parquet(root / f"data/sets/{split}.parquet")


def first_cycle(seed: int = 3) -> Cycle:
    return Cycle(cycle="2026-W47.1", seed=seed, batches=("b1",), judged=("b1",), drawn_forgers=())


def second_cycle(base_sha256: str) -> Cycle:
    return Cycle(cycle="2026-W48.1", seed=4, batches=("b1", "b2"), judged=("b2",), base_model=base_sha256, base_cycle="2026-W47.1", known_generators=("swap",))


def write_data_reports(root: Path, cycle: Cycle, rows: pd.DataFrame) -> None:
    """The reports of the data stages, for the gate and for the page."""
    for batch in cycle.judged:
        samples = [
            {"label": row["label"], "generator": row["generator"], "quarantine": "", "clips": 1} for row in rows[rows["batch"] == batch].to_dict("records")
        ]
        write_json(root / f"data/faces/{batch}/report.json", {"batch": batch, "samples": samples, "clips": len(samples), "reasons": {}})
        write_json(
            root / f"reports/validate/{batch}.json",
            {"batch": batch, "success": True, "n": len(samples), "expectations": [{"name": "media decode", "success": True}]},
        )
    counts = {split: _counts(pd.read_parquet(root / f"data/sets/{split}.parquet")) for split in ("train", "validation", "holdout")}
    write_json(root / "data/sets/report.json", {"cycle": cycle.cycle, "train_rows": counts["train"]["clips"], "leaks": [], "counts": counts})


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    def tally(values: Any) -> dict[str, int]:
        return {str(name): int(n) for name, n in pd.Series(values).value_counts().items()}

    sizes = {"clips": len(rows), "units": rows["unit"].nunique(), "people": rows["cluster"].nunique(), "new": int(rows["new"].sum())}
    generators = np.where(rows["label"] == "real", "real", rows["generator"])
    return sizes | {"generator": tally(generators)} | {column: tally(rows[column]) for column in ("label", "origin", "role", "batch")}
