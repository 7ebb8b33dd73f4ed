"""What wrong feedback costs where it passes: a second week with flipped labels, trained all the way, beside the same week with right ones.

    python benchmarks/poison.py [--seeds 3] [--work FOLDER]     resumable; a row a run in benchmarks/poison.jsonl; ends with the table

The weeks and the measured set are those of benchmarks/learning.py. `many` flips labels anywhere in the second week; `one` flips those of as
few people as it takes, as a single reporter would who sends one story. The model is measured whether the gates let it through or not.
"""

import argparse
import csv
import json
import random
import shutil
import sys
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import one_prefect_server, vigil  # noqa: E402
from benchmarks.learning import NEW, OLD, aucs, first_week, test_media  # noqa: E402
from benchmarks.results import add_row, rows_of  # noqa: E402

RESULTS = HERE / "poison.jsonl"
SHARES = (0.0, 0.01, 0.05, 0.10, 0.30)
WAYS = [("nobody", 0.0), *((who, share) for share in SHARES[1:] for who in ("many", "one"))]


def flip(table: Path, who: str, share: float, seed: int) -> tuple[int, int]:
    """Flip so large a share of the table's labels; returns (flipped, rows)."""
    with open(table, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    draw = random.Random(f"{seed} {who} {share}")
    wanted = round(share * len(rows))
    people = sorted({row["identity"] for row in rows})
    draw.shuffle(people)
    order = sorted(range(len(rows)), key=lambda at: (people.index(rows[at]["identity"]) if who == "one" else 0, draw.random()))
    for at in order[:wanted]:
        rows[at]["label"] = "real" if rows[at]["label"] == "fake" else "fake"
    with open(table, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return wanted, len(rows)


def run(work: Path, seed: int, who: str, share: float, measured: Path) -> dict[str, Any]:
    """One second week."""
    from workspace.journal import Journal

    copy = work / f"poisoned-{seed}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(first_week(work, seed), copy, symlinks=True)
    table = copy / ".vigil" / "media" / "week2" / "labels.csv"
    flipped, rows = flip(table, who, share, seed)
    vigil("ingest", table, "-w", copy, "--name", "week2")
    vigil("retrain", "-w", copy)
    last = [event for event in Journal(copy).events() if event.kind == "cycle_closed"][-1]
    found = aucs(copy, work / f"out-{seed}", measured)
    row = {"seed": seed, "who": who, "share": share, "flipped": flipped, "rows": rows, "outcome": last["outcome"], "reason": last["reason"][:200]}
    return row | {"old": found[OLD], "new": found[NEW], "ece": found["ece"]}


def show(rows: list[dict[str, Any]]) -> None:
    """AUC lost against the same week with right labels, mean over seeds with t interval, and how often it was held."""
    from benchmarks.forgers import interval

    clean = {row["seed"]: row for row in rows if row["who"] == "nobody"}
    for who, share in WAYS:
        mine = [row for row in rows if (row["who"], row["share"]) == (who, share) and row["seed"] in clean]
        if mine:
            lost = {name: [clean[row["seed"]][name] - row[name] for row in mine] for name in ("old", "new")}
            held = sum(row["outcome"] == "held" for row in mine)
            reached = mean(row["new"] for row in mine)
            told = f"old forger {interval(lost['old'])}, new {interval(lost['new'])} to {reached:.3f}"
            print(f"{share:4.0%} by {who:<7} n={len(mine)} held {held}   AUC lost: {told}")


def main() -> None:
    """Run what is missing, then show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("learning-work"))
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    rows = rows_of(RESULTS)
    measured = test_media(work)
    with one_prefect_server(work):
        for seed in range(1, arguments.seeds + 1):
            for who, share in WAYS:
                if not any((row["seed"], row["who"], row["share"]) == (seed, who, share) for row in rows):
                    rows.append(run(work, seed, who, share, measured))
                    add_row(RESULTS, rows[-1])
                    print(json.dumps(rows[-1]), flush=True)
    show(rows)


if __name__ == "__main__":
    main()
