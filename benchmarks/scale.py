"""What it takes to draw a cycle's sets from one batch of the size of a large public set: seconds and memory of stage `assemble`, by size.

    python benchmarks/scale.py [--parts 0.01 0.1 1] [--work DIR] [--show]

The batch is tables alone, as stage `faces` leaves them: of DFDC's training part (19,154 real videos and 100,000 fakes, Dolhansky et al. 2020) the parts
that are named, four clips a video with landmarks that do not pack, each fake naming the video that it was made of, eight videos a person; a forgery of
one real clip in forty, as many as `forge.max_clips` of `full` allowed until December 2026. Each size is asked in a process of its own, one after another;
each appends a row to benchmarks/scale.jsonl. The budgets of `full` are the same at every size, and so is what is drawn.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import code_hash  # noqa: E402
from benchmarks.results import is_made_by, newest_rows, rows_of_code  # noqa: E402
from workspace.files import add_row, sha256_bytes, write_json  # noqa: E402

RESULTS = HERE / "scale.jsonl"
REALS, FAKES = 19_154, 100_000  # of DFDC
CLIPS, FRAMES, A_PERSON, FORGED_IN = 4, 5, 8, 40
BATCH = "dfdc"


def part_of(text: str) -> float:
    """An argument that says which part of the set is meant."""
    part = float(text)
    if not 0.001 <= part <= 10:
        raise argparse.ArgumentTypeError("a part is between 0.001 and 10")
    return part


def samples_of(part: float) -> list[dict[str, Any]]:
    """The entries of the faces report, by sample id."""
    from tests.pipelines.tables import sample

    draw, reals = random.Random(1), round(REALS * part)
    found = [sample(f"{number}.mp4", identity=f"p{number // A_PERSON}", clips=CLIPS, source="dfdc") for number in range(reals)]
    for number in range(round(FAKES * part)):
        of = draw.randrange(reals)
        found.append(sample(f"f{number}.mp4", "fake", f"p{of // A_PERSON}", clips=CLIPS, source_video=f"{of}.mp4", source="dfdc"))
    return sorted(found, key=lambda one: str(one["sample_id"]))


def clips_of(samples: Iterable[dict[str, Any]], forged: bool) -> Iterator[dict[str, Any]]:
    """The index rows of their clips, or of what is forged from these, in order of clip id."""
    from media.shards import CLIP_SCHEMA, MISSING
    from pipelines.faces import ABOUT

    draw = random.Random(2)
    bare = {field.name: MISSING[field.type] for field in CLIP_SCHEMA}
    for entry in samples:
        for number in range(entry["clips"]):
            clip_id = f"{entry['sample_id'][:16]}-t0-c{number}"
            row = bare | {name: entry[name] for name in ABOUT} | {"sample_id": entry["sample_id"], "batch": BATCH, "kind": "video", "frames": FRAMES}
            if not forged:
                made = {"clip_id": clip_id, "origin": "collected"}
            elif entry["label"] == "real" and draw.random() < 1 / FORGED_IN:
                made = {"clip_id": f"{clip_id}+self_blend", "origin": "forged", "label": "fake", "generator": "self_blend", "forger": "self_blend"}
                made |= {"source_clip": clip_id}
            else:
                continue
            yield row | made | {"size_px": 224, "sha256": sha256_bytes(made["clip_id"].encode()), "landmarks": draw.randbytes(FRAMES * 468 * 4)}


def build(root: Path, part: float, code: str) -> None:
    """The tables of a batch, group by group; made once for a code."""
    from media.shards import write_sorted

    if is_made_by(root / "made-by", code):
        return
    shutil.rmtree(root, ignore_errors=True)
    samples = samples_of(part)
    for store in ("faces", "forged"):
        folder = root / "data" / store / BATCH
        folder.mkdir(parents=True)
        write_sorted(folder, clips_of(samples, store == "forged"))
    write_json(root / "data" / "faces" / BATCH / "report.json", {"batch": BATCH, "samples": samples})
    (root / "made-by").write_text(code)


def measure(root: Path) -> dict[str, Any]:
    """One `assemble` in this process: seconds, the largest memory that it held, and what was drawn."""
    import yaml

    from pipelines import assemble
    from workspace.cycle import Cycle
    from workspace.profiles import compose_params
    from workspace.settings import parse_settings

    settings = parse_settings(yaml.safe_load(compose_params("full")))
    started, used = time.monotonic(), time.process_time()
    report = assemble.run(root, settings, Cycle(cycle="2026-W48.1", seed=1, batches=(BATCH,), judged=(BATCH,)))
    return {
        "wall_seconds": round(time.monotonic() - started, 1), "cpu_seconds": round(time.process_time() - used, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "drawn": {side: counts["clips"] for side, counts in report["counts"].items()}, "used": sum(report["samples"].values()), "leaks": len(report["leaks"]),
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> None:
    """The newest row of each size, and what the larger takes for each clip beside the smaller."""
    newest = {row["part"]: row for row in rows}
    before: dict[str, Any] | None = None
    for part in sorted(newest):
        row = newest[part]
        told = f"{row['videos']:>8,} videos {row['clips']:>8,} clips  {row['cpu_seconds']:>6.1f} processor s  {row['peak_mb']:>6,} MB"
        if before:
            times = [row[name] / before[name] for name in ("clips", "cpu_seconds", "peak_mb")]
            told += "   x {:.1f} clips: x {:.1f} time, x {:.1f} memory".format(*times)
        print(told)
        before = row


def main() -> None:
    """Build and measure each size that no row of this code is of, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=part_of, nargs="+", default=[0.01, 0.1, 1.0])
    parser.add_argument("--work", type=Path, default=HERE.parent / "scale")
    parser.add_argument("--show", action="store_true", help="measure nothing: the table of the newest rows that are kept, whatever code made them")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure)))
        return
    if asked.show:
        return summary(newest_rows(RESULTS))
    code = code_hash("benchmarks/scale.py", "tests/pipelines/tables.py")
    rows = rows_of_code(RESULTS, code)
    for part in asked.parts:
        if any(row["part"] == part for row in rows):
            continue
        root = asked.work.resolve() / f"part-{part}"
        build(root, part, code)
        done = subprocess.run([sys.executable, __file__, "--measure", root], check=True, stdout=subprocess.PIPE, text=True)
        videos, clips = round(REALS * part) + round(FAKES * part), CLIPS * (round(REALS * part) + round(FAKES * part))
        row = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "part": part, "videos": videos, "clips": clips, "cores": os.cpu_count()}
        rows.append(row | json.loads(done.stdout) | {"code": code})
        add_row(RESULTS, rows[-1])
        print(json.dumps(rows[-1]), flush=True)
        shutil.rmtree(root)
    summary(rows)


if __name__ == "__main__":
    main()
