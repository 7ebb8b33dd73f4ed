"""Checks of the file that would be served: how fast, how large, and whether it says what the checkpoint says."""

import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.scoring import read_set
from workspace.settings import FaceSettings, Settings

VIDEO_SECONDS = 10.0
GOLDEN = 4  # clips a class
RUNS = 5


def measure(root: Path, settings: Settings, folder: str = "build/model") -> dict[str, Any]:
    """`gate` (latency, size_bytes, parity) and, for people, the machine and what was timed."""
    from model.card import load_card

    faces = load_card(root / folder).faces
    frames = looked_at(faces)
    of = f"{max(frames)}" if len(set(frames)) == 1 else f"{min(frames)} to {max(frames)}"
    return {
        "gate": {
            "latency": latency(root / folder, settings),
            "size_bytes": (root / folder / "model.onnx").stat().st_size,
            "parity": golden_parity(root, folder),
        },
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": settings.serve.threads},
        "timed": f"{len(frames)} clip{'' if len(frames) == 1 else 's'} of {of} frames at {faces.size_px} px: a {VIDEO_SECONDS:g} s video "
        f"in the model's own mode ({faces.mode}), network only, decoding and face detection left out",
    }


def looked_at(faces: FaceSettings) -> list[int]:
    """The frames of each clip that a model of these `faces` looks at, in its own mode, in a video of VIDEO_SECONDS that shows one person throughout."""
    from media.faces import windows

    return [sum(seconds < VIDEO_SECONDS for seconds in window) for window in windows(VIDEO_SECONDS, faces)]


def latency(model_dir: Path, settings: Settings) -> dict[str, Any]:
    """Median seconds of the serving engine on the clips of a 10 s video (`looked_at`), after one warm-up."""
    from model.inference import Engine

    engine = Engine(model_dir, threads=settings.serve.threads)
    size = engine.card.faces.size_px
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8) for frames in looked_at(engine.card.faces)]
    engine.score_clips(clips)
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        engine.score_clips(clips)
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "runs": len(seconds)}


def golden_parity(root: Path, folder: str) -> dict[str, Any]:
    """Largest difference of p_fake between checkpoint and export on the first holdout clips of each class, by clip id."""
    from media.shards import read_clip
    from model.card import load_card
    from model.checkpoint import load_model
    from model.export import parity

    rows = read_set(root, "holdout").sort_values("clip_id").groupby("label").head(GOLDEN)
    clips = [read_clip(root, row) for row in rows.to_dict("records")]
    card = load_card(root / folder)
    model = load_model(root / folder / "model.safetensors", card.model_sha256)
    return {"clips": len(clips), "max_difference": float(parity(model, root / folder / "model.onnx", clips)) if clips else None}
