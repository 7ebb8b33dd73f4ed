"""Micro-batching: clips of several files in one run of the network, against a run for each file.

    python benchmarks/batching.py [--seconds 8] [--rounds 3] [--model FOLDER]      appends a row to benchmarks/batching.jsonl

The part of the worker that batches (feedback/work/batching.py) with the starter model, fed by 1, 8 and 32 clients that each send the
next file when they have the last one's scores: pictures (a clip of one frame) and videos (clips as the card cuts them). Both ways take
turns in one run; the ratio counts. Opening files is left out: it goes on in other processes and is the same for both.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import a_model, count  # noqa: E402
from workspace.files import add_row  # noqa: E402

WARM_SECONDS = 1.0


async def files_a_second(engine: Any, clips: list[Any], clients: int, most_clips: int, wait_seconds: float, seconds: float) -> float:
    """Files that so many clients get scored a second."""
    from feedback.work.batching import Batcher

    waiting = 0
    batcher = Batcher(most_clips, wait_seconds, lambda: 0 if clients == 1 else clients - waiting)
    running, done, until = asyncio.create_task(batcher.run()), 0, time.perf_counter() + seconds

    async def client() -> None:
        nonlocal done, waiting
        while time.perf_counter() < until:
            waiting += 1
            await batcher.score(engine, clips)
            waiting -= 1
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    taken = time.perf_counter() - started
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    batcher.close()
    return done / taken


def main() -> None:
    """Take turns, append the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--model", type=a_model, help="a model folder; else the starter")
    given = parser.parse_args()
    import numpy as np

    from model.inference import Engine
    from model.shipped import STARTER
    from workspace.settings import WorkerSettings

    engine, settings = Engine(given.model or STARTER), WorkerSettings()
    size, frames = engine.card.faces.size_px, engine.card.faces.clip_frames
    rng = np.random.default_rng(1)
    kinds = {
        "picture": [rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8)],
        "video": [rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)] * engine.card.faces.clips_per_video,
    }
    rows = []
    for kind, clips in kinds.items():
        for clients in (1, 8, 32):
            turns = []
            for number in range(given.rounds + 1):
                seconds = WARM_SECONDS if number == 0 else given.seconds
                alone = asyncio.run(files_a_second(engine, clips, clients, 1, 0.0, seconds))
                together = asyncio.run(files_a_second(engine, clips, clients, settings.batch_clips, settings.batch_wait_ms / 1000, seconds))
                turns.append((alone, together))
            counted = turns[1:]
            row = {"file": kind, "clients": clients, "alone": [round(one, 1) for one, _ in counted], "together": [round(other, 1) for _, other in counted]}
            rows.append(row | {"ratio": round(statistics.median(other / one for one, other in counted), 3)})
            print(rows[-1], flush=True)
    about = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "cores": os.cpu_count(), "load": os.getloadavg()[0], "model": engine.model_id}
    add_row(HERE / "batching.jsonl", {**about, "rows": rows})


if __name__ == "__main__":
    main()
