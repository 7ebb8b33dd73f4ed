"""What a cycle costs with 1, 10 and 100 old batches behind it, all of one size: only the new batch may count.

    python benchmarks/history.py [--old 1 10 100] [--rounds 3] [--steps real|reduced] [--work DIR] [--show]

Resumable: rendered media and finished workspaces stay in --work, each measured cycle appends a row to benchmarks/history.jsonl. What other code
made is made anew, and its rows are not counted.
A workspace is built with all its old batches accepted by one promoted cycle, and gets one new batch. Copies of the three are then timed
in turn, a whole `vigil retrain` each: wall seconds, CPU seconds of all its processes, and what each stage took. A copy is looked through
by DVC beforehand, as a workspace that lived on has been: both go by inodes and time stamps, which a copy has anew. Budgets of replay and
panel are those of one batch, so that one old batch fills them as a hundred do; media of a batch are PEOPLE x (one real, one fake) clips.
`real` trains with the demo profile's steps; `reduced` cuts them so that the rest shows. Ten times the history may take 1.1 times as long at
most; a cycle that ended as held did less, and is told.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import code_hash, count, vigil  # noqa: E402
from benchmarks.results import is_made_by, newest_rows, rows_of_code  # noqa: E402
from workspace.files import add_row  # noqa: E402

RESULTS = HERE / "history.jsonl"
PEOPLE = 16  # with 8 the first batch has nobody in validation
MOST = 1.1  # times as long, with ten times the history
STEPS = {
    "reduced": {
        "pretrain": {"steps": 40, "batch": 16, "micro_batch": 16, "validate_every": 20},
        "train": {"steps": 6, "batch": 8, "micro_batch": 8, "validate_every": 3},
    },
    "real": {},
}  # fmt: skip
# The clips of one batch fill every budget. Every gate is asked and none may hold: a model of forty steps is not what is measured.
BUDGET = {"new_clips": 400, "replay_clips": 2 * PEOPLE, "evaluation_clips_per_slice": 8, "attack_clips": 4, "hardened_clips": 4}
SPLIT = {"train": 0.5, "validation": 0.25, "holdout": 0.25}


def media_of(work: Path, number: int, code: str) -> Path:
    """The rendered media of batch `number`; other people in each. Made once for a code."""
    from media.synthetic import make_sample_media

    out = work / "media" / f"{number:03d}"
    mark = out / "made-by"
    if not is_made_by(mark, code):
        shutil.rmtree(out, ignore_errors=True)
        make_sample_media(out, people=PEOPLE, clips_per_person=1, seconds=0.85, seed=3, fakes={"blendswap": 1}, first_person=1 + PEOPLE * number)
        mark.write_text(code)
    return out / "labels.csv"


def build(work: Path, old: int, code: str) -> Path:
    """A workspace whose `old` batches were taken in by one promoted cycle, with one new batch waiting; built once for a code."""
    root = work / f"old-{old}"
    mark = root / ".vigil" / "built"
    if is_made_by(mark, code):
        return root
    from tests.system.world import WIDE_GATES, change_settings

    shutil.rmtree(root, ignore_errors=True)
    vigil("init", root, "--profile", "demo")
    evaluate = {"target_fpr": 0.5, "resamples": 100}  # a panel of 8 videos a slice sets no finer threshold
    gates = WIDE_GATES | {"min_per_class": 1, "min_slice": 1}
    change_settings(root, {"evaluate": evaluate, "budget": BUDGET, "split": SPLIT, "gates": gates})
    for number in range(1, old + 1):
        vigil("ingest", media_of(work, number, code), "--name", "weekly", "-w", root)
    vigil("models", "override", "accuracy", "--who", "bench", "--why", "times are measured, not models", "--days", 31, "-w", root)
    subprocess.run([sys.executable, __file__, "--prepare", root], check=True)
    vigil("retrain", "-w", root)
    from workspace.journal import Journal
    from workspace.state import batch_states

    states = [batch.state for batch in batch_states(Journal(root).events()).values()]
    if states != ["accepted"] * old:
        sys.exit(f"{root}: the first cycle did not take in all {old} batches ({states[:5]} ...); see its reports/verdict.json")
    vigil("ingest", media_of(work, 0, code), "--name", "weekly", "-w", root)
    mark.write_text(code)
    return root


def prepare(root: Path) -> None:
    """Faces, checks and forgeries of the waiting batches in one process, recorded by DVC: minutes in place of a process a batch and stage."""
    os.chdir(root)
    from dvc.repo import Repo

    from flows.opening import write_batches
    from flows.plan import make_plan
    from pipelines import faces, forge, validate
    from pipelines.stage import PER_BATCH
    from workspace.journal import Journal
    from workspace.settings import load_settings

    settings = load_settings(root / "params.yaml")
    plan = make_plan(Journal(root).events(), settings)
    write_batches(root, plan)
    for batch in plan.judged:
        for stage in (faces, validate, forge):
            stage.run(root, settings, batch)
    with Repo(str(root)) as repo:
        for name in PER_BATCH:
            repo.commit(name, force=True)


def warm(root: Path) -> None:
    """Let DVC and workspace/settled.py see a copy as they saw the original."""
    os.chdir(root)
    from dvc.repo import Repo

    from pipelines.stage import PER_BATCH
    from workspace.settled import batches_of, settle

    batches = [batch for batch in batches_of(root) if (root / "reports" / "validate" / f"{batch}.json").exists()]
    with Repo(str(root)) as repo:
        repo.status()
    for name in PER_BATCH:
        settle(root, name, batches)


def measure(root: Path, work: Path, steps: str) -> dict[str, Any]:
    """One `vigil retrain` on a copy that goes away."""
    from tests.system.world import change_settings

    copy = work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy, symlinks=True)
    change_settings(copy, STEPS[steps])
    subprocess.run([sys.executable, __file__, "--warm", copy], check=True)
    before = (copy / ".vigil" / "timings.jsonl").read_text().count("\n")
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    vigil("retrain", "-w", copy)
    wall, now = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    stages = [json.loads(line) for line in (copy / ".vigil" / "timings.jsonl").read_text().splitlines()[before:]]
    closed = [event for event in map(json.loads, (copy / "journal.jsonl").read_text().splitlines()) if event["kind"] == "cycle_closed"]
    sets = json.loads((copy / "data" / "sets" / "report.json").read_text())
    shutil.rmtree(copy)
    return {
        "wall_seconds": round(wall, 2), "cpu_seconds": round(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, 2),
        "stages": {stage["stage"].split("@")[0]: stage["seconds"] for stage in stages}, "ran": len(stages),
        "outcome": closed[-1]["fields"]["outcome"],
        "clips": {side: counts["clips"] for side, counts in sets["counts"].items()},
    }  # fmt: skip


def missing(rows: list[dict[str, Any]], steps: str, rounds: int, olds: list[int]) -> list[tuple[int, int]]:
    """(round, old batches) that no row is of, in the order of the rounds."""
    found = {(row["round"], row["old"]) for row in rows if row["steps"] == steps}
    return [(number, old) for number in range(1, rounds + 1) for old in olds if (number, old) not in found]


def summary(rows: list[dict[str, Any]], steps: str) -> None:
    """Medians, and their ratio to those with fewer old batches."""
    mine = [row for row in rows if row["steps"] == steps]
    counts = sorted({row["old"] for row in mine})
    for figure in ("wall_seconds", "cpu_seconds"):
        found = {old: median(row[figure] for row in mine if row["old"] == old) for old in counts}
        for old, fewer in zip(counts, [None, *counts], strict=False):
            told = f"{steps:<8} {figure:<13} {old:>4} old  {found[old]:8.1f} s"
            if fewer is not None:
                ratio = found[old] / found[fewer]
                told += f"  x {ratio:.3f} of {fewer} old"
                if old == 10 * fewer:
                    told += f", at most {MOST}: {'holds' if ratio <= MOST else 'does not hold'}"
            outcomes = [row["outcome"] for row in mine if row["old"] == old]
            print(f"{told}   n = {len(outcomes)}, held {outcomes.count('held')}")


def main() -> None:
    """Build what is missing, measure what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=count, nargs="+", default=[1, 10, 100])
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--steps", choices=list(STEPS), default="real")
    parser.add_argument("--work", type=Path, default=HERE.parent / "history")
    parser.add_argument("--show", action="store_true", help="measure nothing: the table of the newest rows that are kept, whatever code made them")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--warm", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.prepare:
        prepare(asked.prepare.resolve())
        return
    if asked.warm:
        warm(asked.warm.resolve())
        return
    if asked.show:
        return summary(newest_rows(RESULTS), asked.steps)
    work, code = asked.work.resolve(), code_hash("benchmarks/history.py")
    rows = rows_of_code(RESULTS, code)
    left = missing(rows, asked.steps, asked.rounds, asked.old)
    roots = {old: build(work, old, code) for old in dict.fromkeys(old for _, old in left)}
    for number, old in left:
        row = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "steps": asked.steps, "old": old, "round": number, "cores": os.cpu_count()}
        rows.append(row | measure(roots[old], work, asked.steps) | {"code": code})
        add_row(RESULTS, rows[-1])
        print(json.dumps(rows[-1]), flush=True)
    summary(rows, asked.steps)


if __name__ == "__main__":
    main()
