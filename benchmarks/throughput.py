"""Does training wait for its data? Clips a second of phase 1 from the real shards, against a bare loop on a tensor in memory.

    python benchmarks/throughput.py [--profile full] [--table LABELS.csv] [--rounds 3]   appends a row to benchmarks/throughput.jsonl

Profile `small` (112 px, EfficientNet-Lite0) or `full` (224 px, ResNeXt-50), everything on: the profile's forgers, those that do not learn
made anew at each visit, every augmentation, averaged weights. The bare loop is forward, backward and AdamW's step of the same network on one batch that is
already there. Both take turns in one run; the ratios count: the median of the turns that begin with nothing in memory but may keep what they read
(`ratio`), and of those that read every clip from its shard each time (`ratio_uncached`), with all turns beside them.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import a_file, in_the_environment_of_a_stage  # noqa: E402
from workspace.files import add_row  # noqa: E402

LEARN_STEPS = 40  # of forgers that learn: how well they draw costs no time
STEPS = {"small": (40, 12), "full": (24, 8)}  # of a turn, and how many of the first ones take memory from the system, fill caches and do not count
ON_A_GPU = (300, 100)  # the same where there is one: processes start, and there are batches ahead at first


def clips_of(work: Path, profile: str, table: Path | None) -> tuple[Any, Any]:
    """Settings and the clips, reals and forgeries of them by the profile's own forgers, as a cycle would store them."""
    import pandas as pd

    from benchmarks.forgers import settings_of
    from media.shards import read_index
    from media.synthetic import make_sample_media
    from model.data import ClipDataset
    from pipelines import faces, forge
    from pipelines.ingest import ingest
    from vigil.opening import open_workspace
    from workspace.settings import SourceSettings

    open_workspace(work, profile)
    if table is None:
        make_sample_media(work / "media", people=24, clips_per_person=2, seconds=1.5, seed=1, fakes={})
        table = work / "media" / "labels.csv"
    settings = settings_of(work, {"forge": {"learn_steps": LEARN_STEPS}})
    ingest(work, settings, [SourceSettings(name="faces", path=str(table), layout="csv")], batch="b")
    faces.run(work, settings, "b")
    forge.run(work, settings, "b")
    rows = pd.concat([read_index(work / "data" / kind / "b").assign(store=f"data/{kind}/b") for kind in ("faces", "forged")], ignore_index=True)
    rows = rows[rows["use"] == "train"].assign(role="new", new=True).reset_index(drop=True)
    meshes = dict(zip(rows["clip_id"], rows["landmarks"], strict=True))
    return settings, partial(ClipDataset, work, rows.drop(columns="landmarks"), settings.faces.size_px, landmarks=meshes)


def trained(settings: Any, clips_anew: Any, seed: int, scratch: Path, cached: bool) -> float:
    """Clips a second of `pretrain`, on clips that nobody has read yet."""
    import torch

    from model import loop
    from model.data import CACHE_BYTES, ClipDataset
    from model.hardware import best_device
    from model.network import ResNeXtLSTM
    from model.training import pretrain

    loop.CHECKPOINT_SECONDS = float("inf")
    clips = clips_anew(cache_bytes=CACHE_BYTES if cached else 0)
    torch.manual_seed(seed)
    model, at = ResNeXtLSTM(settings.model, settings.faces.size_px).to(best_device()), []
    steps, skipped = turn(settings.profile)
    phase = settings.pretrain.model_copy(update={"steps": steps, "validate_every": steps})
    nothing = ClipDataset(clips.root, clips.rows.head(0), settings.faces.size_px)
    pretrain(model, clips, nothing, phase, seed, scratch, lambda *_: at.append(time.perf_counter()), augment=settings.augment)
    return (steps - 1 - skipped) * phase.batch / (at[steps - 2] - at[skipped - 1])  # the last step also writes a checkpoint


def turn(profile: str) -> tuple[int, int]:
    """Steps of a turn, and how many of them do not count."""
    from model.hardware import best_device

    return STEPS[profile] if best_device().type == "cpu" else ON_A_GPU


def bare(settings: Any, seed: int) -> float:
    """Clips a second of the same network on one batch in memory."""
    import torch
    from torch.nn import functional as F

    from model.hardware import best_device
    from model.network import ResNeXtLSTM
    from model.training import autocast

    torch.manual_seed(seed)
    device, batch = best_device(), settings.pretrain.batch
    model = ResNeXtLSTM(settings.model, settings.faces.size_px).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.pretrain.lr)
    frames, truth = torch.rand(batch, 3, settings.faces.size_px, settings.faces.size_px, device=device), (torch.arange(batch, device=device) % 2).float()
    steps, skipped = turn(settings.profile)
    for step in range(steps - 1):
        if step == skipped:
            finished(device)
            started = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with autocast(device, settings.pretrain.precision):
            logits = model.frame_logits(frames)
        F.binary_cross_entropy_with_logits(logits.float(), truth).backward()
        optimiser.step()
    finished(device)
    return (steps - 1 - skipped) * batch / (time.perf_counter() - started)


def finished(device: Any) -> None:
    """Wait until a GPU has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Take turns, append the row."""
    in_the_environment_of_a_stage()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=a_file, help="CSV of real faces; without it the project's rendered people")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", choices=tuple(STEPS), default="small")
    arguments = parser.parse_args()
    from model.hardware import describe_device
    from model.loop import CHECKPOINT_SHARE

    with tempfile.TemporaryDirectory(prefix="vigil-throughput-") as scratch:
        settings, clips = clips_of(Path(scratch) / "w", arguments.profile, arguments.table and arguments.table.resolve())
        kinds = [cached for _ in range(arguments.rounds) for cached in (True, False)]
        turns = [(bare(settings, seed), trained(settings, clips, seed, Path(scratch) / f"c{seed}", cached)) for seed, cached in enumerate(kinds)]
    ratios = {
        cached: [other / one * (1 - CHECKPOINT_SHARE) for (one, other), kind in zip(turns, kinds, strict=True) if kind == cached] for cached in (True, False)
    }
    row = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "device": describe_device(),
        "load": os.getloadavg()[0],
        "profile": arguments.profile,
        "media": "rendered" if arguments.table is None else "real faces",
        "bare_clips_a_second": [round(one, 1) for one, _ in turns],
        "trained_clips_a_second": [round(other, 1) for _, other in turns],
        "ratio": round(statistics.median(ratios[True]), 3),
        "ratio_uncached": round(statistics.median(ratios[False]), 3),
        "ratios": {"cached": [round(one, 3) for one in ratios[True]], "uncached": [round(one, 3) for one in ratios[False]]},
    }
    add_row(HERE / "throughput.jsonl", row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
