"""Does training wait for its data? Clips a second of phase 1 from the real shards, against a bare loop on a tensor in memory.

    python benchmarks/throughput.py [--profile full] [--table LABELS.csv] [--blocks 12]   appends a row to benchmarks/throughput.jsonl

Profile `small` (112 px, EfficientNet-Lite0) or `full` (224 px, ResNeXt-50), everything on: the profile's forgers, those that do not learn
made anew at each visit, every augmentation, averaged weights. The bare loop is forward, backward and AdamW's step of the same network on one batch that is
already there. Both take turns of a few steps each in one process, since a shared machine is faster one minute than the next: the ratios count, all turns' time
of the one by all of the other's (`ratio` where clips that were read may be kept, `ratio_uncached` where every one is read from its shard each time), with
95% intervals by drawing pairs of turns again. Beside it the median of the pairs (`middle`), in which a turn that the machine gave to others for a minute
counts for no more than any, and all turns.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import a_file, count, in_the_environment_of_a_stage  # noqa: E402
from workspace.files import add_row  # noqa: E402

LEARN_STEPS = 40  # of forgers that learn: how well they draw costs no time
# Steps of a turn, and how many of the first ones do not count: a batch that was made during the other's turn costs nothing.
TURN = {"small": (20, 3), "full": (6, 1)}
ON_A_GPU = (140, 40)  # the same where there is one: there are as many as thirty batches ahead
WARM_UP = 2  # turns of each that take memory from the system, fill caches and do not count
DRAWS = 2000


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


def in_turns(settings: Any, clips_anew: Any, blocks: int, scratch: Path, cached: bool) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Seconds of the counted steps of each turn [blocks, 2], of the bare loop and of `pretrain` on clips that nobody has read yet."""
    import torch

    from model import loop
    from model.data import CACHE_BYTES, ClipDataset
    from model.hardware import best_device
    from model.network import ResNeXtLSTM
    from model.training import pretrain

    loop.CHECKPOINT_SECONDS = float("inf")
    device, (length, skipped) = best_device(), turn(settings.profile)
    clips = clips_anew(cache_bytes=CACHE_BYTES if cached else 0)
    torch.manual_seed(1)
    model, bare = ResNeXtLSTM(settings.model, settings.faces.size_px).to(device), Bare(settings, device)
    steps = (WARM_UP + blocks) * length + 1  # the last one also writes a checkpoint
    phase = settings.pretrain.model_copy(update={"steps": steps, "validate_every": steps})
    nothing = ClipDataset(clips.root, clips.rows.head(0), settings.faces.size_px)
    found, began = list[tuple[float, float]](), 0.0

    def after(step: int, *_: object) -> None:
        """Of each turn of the training the end: the bare loop has one."""
        nonlocal began
        if step % length == skipped:
            finished(device)
            began = time.perf_counter()
        elif step % length == 0 and step < steps:
            finished(device)
            took = time.perf_counter() - began
            found.append((bare.turn(length, skipped), took))

    pretrain(model, clips, nothing, phase, 1, scratch, after, augment=settings.augment)
    return np.array(found[WARM_UP:])


def turn(profile: str) -> tuple[int, int]:
    """Steps of a turn, and how many of them do not count."""
    from model.hardware import best_device

    return TURN[profile] if best_device().type == "cpu" else ON_A_GPU


class Bare:
    """The same network on one batch in memory."""

    def __init__(self, settings: Any, device: Any) -> None:
        import torch

        from model.network import ResNeXtLSTM

        self.device, self.settings, batch = device, settings, settings.pretrain.batch
        self.model = ResNeXtLSTM(settings.model, settings.faces.size_px).to(device).train()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=settings.pretrain.lr)
        self.frames = torch.rand(batch, 3, settings.faces.size_px, settings.faces.size_px, device=device)
        self.truth = (torch.arange(batch, device=device) % 2).float()

    def turn(self, steps: int, skipped: int) -> float:
        """Seconds of all but the first `skipped` of so many steps."""
        from torch.nn import functional as F

        from model.training import autocast

        began = 0.0
        for step in range(steps):
            if step == skipped:
                finished(self.device)
                began = time.perf_counter()
            self.optimiser.zero_grad(set_to_none=True)
            with autocast(self.device, self.settings.pretrain.precision):
                logits = self.model.frame_logits(self.frames)
            F.binary_cross_entropy_with_logits(logits.float(), self.truth).backward()
            self.optimiser.step()
        finished(self.device)
        return time.perf_counter() - began


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
    parser.add_argument("--blocks", type=count, default=12, help="turns of each that count; 12 of `full` take a quarter of an hour on two cores")
    parser.add_argument("--profile", choices=tuple(TURN), default="small")
    arguments = parser.parse_args()
    if arguments.blocks < 1:
        parser.error("--blocks is at least 1")
    from model.hardware import describe_device
    from model.loop import CHECKPOINT_SHARE

    row: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "device": describe_device(),
        "load": os.getloadavg()[0],
        "profile": arguments.profile,
        "media": "rendered" if arguments.table is None else "real faces",
        "turns": "in one process",
        "blocks": arguments.blocks,
    }
    with tempfile.TemporaryDirectory(prefix="vigil-throughput-") as scratch:
        settings, clips = clips_of(Path(scratch) / "w", arguments.profile, arguments.table and arguments.table.resolve())
        length, skipped = turn(arguments.profile)
        for name, cached in (("", True), ("_uncached", False)):
            seconds = in_turns(settings, clips, arguments.blocks, Path(scratch) / f"c{name}", cached)
            draws = np.random.default_rng(1).integers(len(seconds), size=(DRAWS, len(seconds)))
            ratio, drawn = (rows.sum(-2)[..., 0] / rows.sum(-2)[..., 1] * (1 - CHECKPOINT_SHARE) for rows in (seconds, seconds[draws]))
            bare, trained = ((length - skipped) * settings.pretrain.batch / seconds.mean(0)).round(1).tolist()
            row |= {
                f"bare_clips_a_second{name}": bare,
                f"trained_clips_a_second{name}": trained,
                f"ratio{name}": round(float(ratio), 3),
                f"middle{name}": round(float(np.median(seconds[:, 0] / seconds[:, 1])) * (1 - CHECKPOINT_SHARE), 3),
                f"interval{name}": np.quantile(drawn, (0.025, 0.975)).round(3).tolist(),
                f"seconds{name}": seconds.round(2).tolist(),
            }
            print(f"{'clips kept in memory' if cached else 'each read anew'}: {row[f'ratio{name}']} {row[f'interval{name}']}", flush=True)
    add_row(HERE / "throughput.jsonl", row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
