"""Scores of a model on stored clips, remembered by model, clip and engine, and brought together to one score a video.

Evaluation, drift and training's calibration all score through the engine that serves. What was scored before is read
from .vigil/scores, so that a panel which stays the same from week to week costs a champion nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workspace.errors import DataError
from workspace.journal import Journal
from workspace.state import batch_states

if TYPE_CHECKING:
    import pandas as pd

    from model.card import ModelCard
    from workspace.settings import Settings

CACHE = Path(".vigil/scores")
AT_ONCE = 16  # clips an engine call; bounds memory, not speed
COLUMNS = ("sha256", "logit", "certainty", "embedding")
Tell = Callable[[int, int, str], None]


def silent(done: int, total: int, message: str = "") -> None:
    """A progress report that nobody reads."""


def score_rows(root: Path, model_dir: Path, rows: "pd.DataFrame", *, threads: int = 2, tell: Tell = silent) -> "pd.DataFrame":
    """`rows` (one a clip) with columns logit, certainty (mean over frames, 0..1) and embedding added, in the same order.

    The model's files are checked against its card first. The cache is written whole or not at all, and only added to; a damaged one is made anew.
    """
    import pandas as pd

    from model.inference import Engine

    engine = Engine(model_dir, threads=threads)
    path = root / CACHE / f"{engine.card.model_sha256}-{engine.card.onnx_sha256[:12]}-{engine.card.engine}.parquet"
    known = _stored(path)
    missing = rows[~rows["sha256"].isin(set(known["sha256"]))].drop_duplicates("sha256")
    if len(missing):
        found = _score_missing(root, engine, missing, tell)
        known = pd.concat([known, found], ignore_index=True) if len(known) else found
        _store(path, known)
    table = known.set_index("sha256")
    picked = table.loc[rows["sha256"].to_list()]
    return rows.assign(**{name: picked[name].to_numpy() for name in COLUMNS[1:]})


def _score_missing(root: Path, engine: Any, rows: "pd.DataFrame", tell: Tell) -> "pd.DataFrame":
    import pandas as pd

    from media.shards import read_clip

    records = rows.to_dict("records")
    found: list[dict[str, Any]] = []
    for start in range(0, len(records), AT_ONCE):
        part = records[start : start + AT_ONCE]
        scores = engine.score_clips([read_clip(root, row) for row in part])
        found += [
            {
                "sha256": row["sha256"],
                "logit": float(score.logit),
                "certainty": float(np.mean(score.certainty)),
                "embedding": np.asarray(score.embedding, np.float32),
            }
            for row, score in zip(part, scores, strict=True)
        ]
        tell(len(found), len(records), f"clips scored by {engine.model_id}")
    return pd.DataFrame(found)


def _stored(path: Path) -> "pd.DataFrame":
    """What was scored before; nothing where no file is, or one that cannot be read."""
    import pandas as pd
    import pyarrow

    try:
        return pd.read_parquet(path, columns=list(COLUMNS))
    except (OSError, ValueError, pyarrow.ArrowException):
        return pd.DataFrame({name: [] for name in COLUMNS})


def _store(path: Path, table: "pd.DataFrame") -> None:
    from workspace.files import atomic_file

    with atomic_file(path, "wb") as handle:
        table.sort_values("sha256").to_parquet(handle)


def unit_scores(scored: "pd.DataFrame", card: "ModelCard") -> "pd.Series[float]":
    """p_fake of each video: `scored` clips (columns unit, track, logit, certainty) through the rule that serving uses."""
    import pandas as pd

    from model.aggregate import aggregate

    evidence = unit_evidence(scored)
    found = {unit: aggregate(clips, card.temperature, card.levels, card.offset).p_fake for unit, clips in evidence.items()}
    return pd.Series(found, name="p_fake", dtype=float)


def unit_evidence(scored: "pd.DataFrame") -> dict[str, list[Any]]:
    """The evidence of each video's clips, in order of time, for the rule of model/aggregate.py."""
    from model.aggregate import ClipEvidence

    evidence: dict[str, list[ClipEvidence]] = {}
    ordered = scored.sort_values(["unit", "track", "start_seconds", "clip_id"])
    for unit, logit, certainty, track in zip(*(ordered[name].tolist() for name in ("unit", "logit", "certainty", "track")), strict=True):
        evidence.setdefault(unit, []).append(ClipEvidence(logit, certainty, track))
    return evidence


def unit_table(clips: "pd.DataFrame") -> "pd.DataFrame":
    """One row a video: the columns that hold for all its clips, and the means of its quality columns.

    Raises DataError where the clips of one video disagree about their label: such a row must not be judged.
    """
    mixed = clips.groupby("unit")["label"].nunique()
    if (mixed > 1).any():
        raise DataError(
            "A video cannot be judged.",
            why=f"its clips carry different labels: {', '.join(mixed.index[mixed > 1][:3])}",
            next_step="Run `vigil audit` on its batch.",
        )
    ordered = clips.sort_values(["unit", "clip_id"])
    first = ordered.groupby("unit").first()
    means = ordered.groupby("unit")[["face_px", "source_px", "sharpness", "brightness", "skin_tone_degrees", "yaw_degrees"]].mean()
    return first.drop(columns=means.columns).join(means).reset_index()


def collected_where_enough(clips: "pd.DataFrame", least: int) -> "pd.DataFrame":
    """The collected clips where they hold `least` videos of both classes, else all: what is calibrated on.

    The gates choose by the same rule, on the holdout: where one set holds enough and the other does not, they judge on other kinds than were calibrated.
    """
    collected = clips[clips["origin"] == "collected"]
    videos = collected.drop_duplicates("unit")["label"].value_counts()
    return collected if min(videos.get("real", 0), videos.get("fake", 0)) >= least else clips


def read_set(root: Path, split: str) -> "pd.DataFrame":
    """A table of data/sets without its landmarks. Raises DataError when it is missing."""
    import pandas as pd
    import pyarrow.parquet as pq

    path = root / "data/sets" / f"{split}.parquet"
    if not path.is_file():
        kept = any(batch.state != "dropped" for batch in batch_states(Journal(root).events()).values())
        next_step = "Run `vigil retrain --force`: the stage `assemble` writes it." if kept else "Run `vigil ingest MEDIA`, then `vigil retrain`."
        raise DataError(f"The {split} set is missing.", why=f"{path} does not exist", next_step=next_step)
    names = [name for name in pq.read_schema(path).names if name != "landmarks"]
    table: pd.DataFrame = pd.read_parquet(path, columns=names)
    return table


def meshes(root: Path, settings: "Settings") -> dict[str, bytes]:
    """The meshes of the real training clips by clip id, for forging anew while training; none where that is off."""
    import pyarrow.parquet as pq

    if settings.augment.reforge <= 0:
        return {}
    table = pq.read_table(root / "data/sets/train.parquet", columns=["clip_id", "landmarks"], filters=[("label", "==", "real")])
    return dict(zip(table["clip_id"].to_pylist(), table["landmarks"].to_pylist(), strict=True))
