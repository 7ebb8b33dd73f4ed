"""Half a year: a model that is never renewed against the weekly loop, on the same dated clips, while new forgers come by timetable.

    python benchmarks/longitudinal.py [--seeds 3] [--weeks 26] [--work FOLDER] [--only SEED]

Resumable; a row a week in benchmarks/longitudinal.jsonl; ends with the table. `--only` lives one seed, so that several can run side by side.

Rendered people and forgers, the demo profile, from the second week on with a third of its steps: it says whether the loop keeps up
with change, and nothing about the world.
Each week brings new people, real and forged by the newest forger and by those before it. Each week is also measured, before it is learned, on
clips of further people that no model ever trains on, forged in the same proportions: by the first champion, frozen, and by the
champion of that moment. Weeks that the gates hold stay in the record. Before the first champion a person accepts what was held; after
it a person accepts nothing. No clip comes twice here, so none is looked for (`ingest.near_duplicate_bits: 0`).
"""

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import one_prefect_server, vigil  # noqa: E402
from benchmarks.results import add_row, rows_of  # noqa: E402

RESULTS = HERE / "longitudinal.jsonl"
ARRIVALS = {1: "blendswap", 6: "upsampler", 11: "smoother", 16: "coarse_upsampler", 21: "fine_upsampler"}
PEOPLE, FIRST_PEOPLE, MEASURED = 26, 72, 24
# After the first champion: a third of the steps, and of the attacks only what the gates read.
STEPS = {
    "ingest": {"near_duplicate_bits": 0},
    "pretrain": {"steps": 120, "validate_every": 40},
    "train": {"steps": 20, "validate_every": 10},
    "evaluate": {"attacks": ["pgd"], "attack_eps": [0.0, 0.00784, 0.05], "attack_steps": 3, "past_champions": 1},
}
FIGURES = ("auc", "accuracy", "balanced_accuracy")
EDGE = 4  # last weeks averaged


def mixture(week: int) -> dict[str, int]:
    """Forged clips a person, as they circulate in this week: two of the newest forger, one of that before it."""
    known = [name for start, name in ARRIVALS.items() if start <= week]
    return {name: 2 if name == known[-1] else 1 for name in known[-2:]}


def media(folder: Path, people: int, week: int, seed: int, first_person: int) -> Path:
    """labels.csv of clips of so many further people."""
    from media.synthetic import make_sample_media

    if not (folder / "labels.csv").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        make_sample_media(folder, people=people, clips_per_person=2, seconds=0.85, seed=seed, fakes=mixture(week), first_person=first_person)
    return folder / "labels.csv"


def week_media(work: Path, seed: int, week: int) -> tuple[Path, Path]:
    """What comes in in a week, and what it is measured on before."""
    people = FIRST_PEOPLE if week == 1 else PEOPLE
    new = media(work / f"new-{seed}-{week}", people, week, seed, 1000 * week)
    return new, media(work / f"measured-{seed}-{week}", MEASURED, week, seed, 50_000 + 100 * week)


def scored(models: dict[str, Path], labels: Path, out: Path) -> dict[str, dict[str, float]]:
    """AUC and accuracies of each model on a labelled set."""
    told = vigil("evaluate", labels, "--cross", *(word for model in models.values() for word in ("--model", model)), "--out", out, "--json")
    cells = [row["cells"][0] for row in json.loads(told.stdout)["models"]]
    return {name: {figure: cell[figure]["value"] for figure in FIGURES} for name, cell in zip(models, cells, strict=True)}


def live(work: Path, seed: int, weeks: int, known: set[int]) -> None:
    """Go on with a world from its first week that is not in the results."""
    from tests.system.world import change_settings
    from workspace.journal import Journal
    from workspace.state import batch_states, champion

    root, frozen = work / f"seed{seed}", work / f"seed{seed}-frozen"
    if known and not root.exists():  # a world that was lived on another machine cannot be gone on with
        others = [row for row in rows_of(RESULTS) if row["seed"] != seed]
        RESULTS.write_text("".join(f"{json.dumps(row)}\n" for row in others))
        known = set()
    if not known:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(frozen, ignore_errors=True)
        vigil("init", root, "--profile", "demo")
    with ThreadPoolExecutor(2) as side:  # what does not depend on one another is done at once
        ahead = {week: side.submit(week_media, work, seed, week) for week in [min(set(range(1, weeks + 1)) - known, default=0)] if week}
        for week in range(1, weeks + 1):
            if week in known:
                continue
            row: dict[str, Any] = {"seed": seed, "week": week, "newest": list(mixture(week))[-1]}
            new, dated = ahead.pop(week).result()
            leading, measured = champion(Journal(root).events()), None
            if leading is not None:
                measured = side.submit(scored, {"frozen": frozen, "loop": root / leading.path}, dated, work / f"out{seed}")
                row["champion"] = leading.cycle
                change_settings(root, STEPS)  # the first champion had the profile's own steps
            vigil("ingest", new, "--name", f"week{week}", "-w", root)
            row |= measured.result() if measured else {}
            if week < weeks:
                ahead[week + 1] = side.submit(week_media, work, seed, week + 1)
            vigil("retrain", "-w", root)
            leading = champion(Journal(root).events())
            last = [event for event in Journal(root).events() if event.kind == "cycle_closed"][-1]
            if leading is None:
                for batch in (name for name, known in batch_states(Journal(root).events()).items() if known.state == "held"):
                    vigil("batches", "accept", batch, "--who", "benchmark", "--why", "nothing serves yet", "-w", root)
            elif not frozen.exists():
                shutil.copytree(root / leading.path, frozen)
            row |= {"outcome": last["outcome"], "reason": "" if last["outcome"] == "promoted" else last["reason"][:160]}
            shutil.rmtree(new.parent)
            shutil.rmtree(dated.parent)
            add_row(RESULTS, row)
            print(row, flush=True)


def table(rows: list[dict[str, Any]]) -> None:
    """What was lost between the weeks before the second forger and the last weeks, by each, mean over seeds with its t interval."""
    from benchmarks.forgers import interval

    second, seeds = sorted(ARRIVALS)[1], sorted({row["seed"] for row in rows})
    weeks = min((max(row["week"] for row in rows if row["seed"] == seed) for seed in seeds), default=0)
    for figure in ("auc", "accuracy"):
        for model in ("frozen", "loop"):
            lost = []
            for seed in seeds:
                mine = [row for row in sorted(rows, key=lambda row: row["week"]) if row["seed"] == seed and model in row]
                first, last = [row for row in mine if row["week"] < second], [row for row in mine if row["week"] >= second][-EDGE:]
                if first and last:
                    lost.append(mean(row[model][figure] for row in first) - mean(row[model][figure] for row in last))
            if lost:
                print(f"{figure:<10}{model:<8} lost {interval(lost)}, at least {weeks} weeks")


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weeks", type=int, default=26)
    parser.add_argument("--work", type=Path, default=HERE.parent / "longitudinal")
    parser.add_argument("--only", type=int, default=0, metavar="SEED")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    rows = rows_of(RESULTS)
    with one_prefect_server(asked.work):
        for seed in [asked.only] if asked.only else range(1, asked.seeds + 1):
            live(asked.work, seed, asked.weeks, {row["week"] for row in rows if row["seed"] == seed})
    table(rows_of(RESULTS))


if __name__ == "__main__":
    main()
