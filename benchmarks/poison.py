"""What wrong labels cost where they pass: a second week with flipped labels beside the same week with right ones.

    python benchmarks/poison.py [--seeds 3] [--work FOLDER]     resumable; a row a run in benchmarks/poison.jsonl; ends with the table

Week 1 is that of benchmarks/learning.py, week 2 has its own media: a forger that is known and one that is new, each of PEOPLE new people twice real.
That is enough for the gates to judge it alone; in the rows of 152 clips it was not.
`many` flips labels anywhere; `one` those of as few people as it takes, as a single reporter would who sends one story, and no more than `queue.source_cap` of
the week, which is what one account can hand over. A flipped label is one that the data checks let in: a real becomes a fake of the new
forger, a fake becomes a real without forger and donor. Where nothing was trained nothing can be lost, and the row says so; else the model is
measured on people of neither week, whether the gates let it through or not. Rows of other code are not counted.
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

from benchmarks.commands import code_hash, count, one_prefect_server, vigil  # noqa: E402
from benchmarks.learning import NEW, OLD, aucs, first_week, test_media  # noqa: E402
from benchmarks.results import newest_rows, rows_of_code  # noqa: E402
from workspace.files import add_row  # noqa: E402

RESULTS = HERE / "poison.jsonl"
PEOPLE = 80
SHARES = (0.0, 0.01, 0.05, 0.10, 0.30)
WAYS = [("nobody", 0.0), *((who, share) for share in SHARES[1:] for who in ("many", "one"))]


def code_of_rows() -> str:
    """What rows must share to stand in one table."""
    return code_hash("benchmarks/poison.py", "benchmarks/learning.py")


def second_week(root: Path, seed: int) -> Path:
    """labels.csv of week 2's media, in the workspace that has lived through week 1; made once."""
    from vigil.demo import WEEKS, Week, render_week
    from workspace.settings import load_settings

    table = root / ".vigil" / "media" / "week3" / "labels.csv"
    if table.is_file():
        return table
    week = Week("a known forger and a new one", PEOPLE, {OLD: 1, NEW: 1}, False, "promoted")
    return render_week(root, load_settings(root / "params.yaml"), week, 3, 1 + WEEKS[0].people + WEEKS[1].people, seed)


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
        was_real = rows[at]["label"] == "real"
        rows[at]["label"], rows[at]["generator"], rows[at]["donor"] = ("fake", NEW, "") if was_real else ("real", "", "")
    with open(table, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return wanted, len(rows)


def run(work: Path, seed: int, who: str, share: float, measured: Path) -> dict[str, Any]:
    """One second week."""
    from workspace.journal import Journal
    from workspace.settings import load_settings

    root, copy = first_week(work, seed), work / f"poisoned-{seed}"
    second_week(root, seed)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy, symlinks=True)
    table = copy / ".vigil" / "media" / "week3" / "labels.csv"
    cap = load_settings(copy / "params.yaml").feedback.queue.source_cap
    flipped, rows = flip(table, who, min(share, cap) if who == "one" else share, seed)
    vigil("ingest", table, "-w", copy, "--name", "week2")
    vigil("retrain", "-w", copy)
    last = [event for event in Journal(copy).events() if event.kind == "cycle_closed"][-1]
    if "data checks" in last["reason"]:
        sys.exit(f"The data checks refused the week, and not for its labels: {last['reason']}. No row was written.")
    found = aucs(copy, work / f"out-{seed}", measured)
    row = {"seed": seed, "who": who, "share": share, "flipped": flipped, "rows": rows, "outcome": last["outcome"], "reason": last["reason"][:300]}
    return row | {"trained": bool(found)} | ({"old": found[OLD], "new": found[NEW], "ece": found["ece"], "n": found["n"]} if found else {})


def show(rows: list[dict[str, Any]]) -> None:
    """How often the week was held, before or after training, and the AUC lost against the same week with right labels, mean over seeds with t interval."""
    from benchmarks.forgers import interval

    clean = {row["seed"]: row for row in rows if row["who"] == "nobody" and row["trained"]}
    for who, share in WAYS:
        mine = [row for row in rows if (row["who"], row["share"]) == (who, share)]
        if not mine:
            continue
        held = sum(row["outcome"] == "held" for row in mine)
        untrained = sum(not row["trained"] for row in mine)
        told = f"{share:4.0%} by {who:<7} n={len(mine)} held {held}, of them before training {untrained}"
        both = [(row, clean[row["seed"]]) for row in mine if row["trained"] and row["seed"] in clean]
        if both:
            lost = {name: interval([one[name] - row[name] for row, one in both]) for name in ("old", "new")}
            told += f"   AUC lost where trained: old forger {lost['old']}, new {lost['new']} to {mean(row['new'] for row, _ in both):.3f}"
        print(told)


def main() -> None:
    """Run what is missing, then show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=count, default=3)
    parser.add_argument("--work", type=Path, default=Path("learning-work"))
    parser.add_argument("--show", action="store_true", help="train nothing: the table of the newest rows that are kept, whatever code made them")
    arguments = parser.parse_args()
    if arguments.show:
        return show(newest_rows(RESULTS))
    work, code = arguments.work.resolve(), code_of_rows()
    rows = rows_of_code(RESULTS, code)
    measured = test_media(work)
    with one_prefect_server(work):
        for seed in range(1, arguments.seeds + 1):
            for who, share in WAYS:
                if not any((row["seed"], row["who"], row["share"]) == (seed, who, share) for row in rows):
                    rows.append(run(work, seed, who, share, measured) | {"code": code})
                    add_row(RESULTS, rows[-1])
                    print(json.dumps(rows[-1]), flush=True)
    show(rows)


if __name__ == "__main__":
    main()
