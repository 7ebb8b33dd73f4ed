"""Half a year: a model that is never renewed against the weekly loop, on the same dated clips, while new forgers come by timetable.

    python benchmarks/longitudinal.py [--worlds 3] [--weeks 26] [--work FOLDER] [--only WORLD] [--anew]

Resumable; a row a week in benchmarks/longitudinal.jsonl; ends with the table. `--only` lives one world. A world whose folder is gone, or that
other code has lived, is not gone on with: `--anew` drops its rows and begins it again.

Rendered people and forgers, the demo profile, after the first champion with fewer steps (STEPS): it says whether the loop keeps up with
change, and nothing about the world outside. Each world has people, a training seed and a split key of its own. Worlds 1 to 4 are not used: this
benchmark and a gate were built on them.
Each week brings new people, real and forged by the newest forger and by the one before it. Each week is also measured, before it is learned, on
clips of further people that no model ever trains on, forged in the same proportions: by the first champion, frozen, and by the
champion of that moment. Of a clip in five two are real and three are forged, in every week. Weeks that the gates hold stay in the record. Before
the first champion a person accepts what was held; after it a person accepts nothing. No clip comes twice here, so none is looked for
(`ingest.near_duplicate_bits: 0`).
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import code_hash, count, one_prefect_server, vigil  # noqa: E402
from workspace.files import add_row, read_json, rows_of, write_json  # noqa: E402

RESULTS = HERE / "longitudinal.jsonl"
ARRIVALS = {1: "blendswap", 6: "upsampler", 11: "smoother", 16: "coarse_upsampler", 21: "fine_upsampler"}
FIRST_WORLD = 5
PEOPLE, FIRST_PEOPLE, MEASURED = 26, 72, 12
FORGED = 3  # clips a person, beside two real ones
# After the first champion: fewer steps, and of the attacks only what the gates read.
STEPS = {
    "ingest": {"near_duplicate_bits": 0},
    "pretrain": {"steps": 120, "validate_every": 40},
    "train": {"steps": 20, "validate_every": 10},
    "evaluate": {"attacks": ["pgd"], "attack_eps": [0.0, 0.00784, 0.05], "attack_steps": 3, "past_champions": 1},
}
FIGURES = ("auc", "accuracy", "balanced_accuracy")
EDGE = 4  # last weeks averaged


def code_of_rows() -> str:
    """What the weeks of a world must share."""
    return code_hash("benchmarks/longitudinal.py")


def counted() -> list[dict[str, Any]]:
    """The rows of the worlds that count; those of the others stay in the file as what was found on them."""
    return [row for row in rows_of(RESULTS) if row["seed"] >= FIRST_WORLD]


def mixture(week: int) -> dict[str, int]:
    """Forged clips a person, as they circulate in this week: two of the newest forger and one of that before it, which is all there is at first."""
    known = [name for start, name in ARRIVALS.items() if start <= week]
    return {known[-1]: FORGED} if len(known) == 1 else {known[-2]: 1, known[-1]: FORGED - 1}


def newest(week: int) -> str:
    """The latest forger of a week."""
    return list(mixture(week))[-1]


def media(folder: Path, people: int, week: int, seed: int, first_person: int, group_of: Callable[[str], str] | None = None) -> Path:
    """labels.csv of clips of so many further people."""
    from media.synthetic import make_sample_media

    if not (folder / "labels.csv").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        make_sample_media(folder, people=people, clips_per_person=2, seconds=0.85, seed=seed, fakes=mixture(week), first_person=first_person, group_of=group_of)
    return folder / "labels.csv"


def week_media(work: Path, seed: int, week: int) -> tuple[Path, Path]:
    """What comes in in a week, and what it is measured on before. Donors stand on their target's side of the split, or their swaps would be lost."""
    from pipelines.sides import split_of
    from workspace.settings import load_settings

    split = load_settings(work / f"seed{seed}" / "params.yaml").split
    people = FIRST_PEOPLE if week == 1 else PEOPLE
    new = media(work / f"new-{seed}-{week}", people, week, seed, 1000 * week, lambda person: split_of(person, split))
    return new, media(work / f"measured-{seed}-{week}", MEASURED, week, seed, 50_000 + 100 * week)


def scored(models: dict[str, Path], labels: Path, out: Path) -> dict[str, Any]:
    """`n` real and fake clips of a labelled set that got a verdict, and AUC and accuracies of each model on them."""
    told = vigil("evaluate", labels, "--cross", *(word for model in models.values() for word in ("--model", model)), "--out", out, "--json")
    cells = [row["cells"][0] for row in json.loads(told.stdout)["models"]]
    return {"n": [cells[0]["n_real"], cells[0]["n_fake"]]} | {
        name: {figure: cell[figure]["value"] for figure in FIGURES} for name, cell in zip(models, cells, strict=True)
    }


def measured(work: Path, seed: int, week: int, dated: Path) -> dict[str, Any]:
    """The first champion, frozen, and the one of this moment on this week's clips; kept, since after a death the week may have been learned."""
    from workspace.journal import Journal
    from workspace.state import promoted

    kept = work / f"measured-{seed}-{week}.json"
    if kept.is_file():
        return dict(read_json(kept))
    root = work / f"seed{seed}"
    ever = list(promoted(Journal(root).events()).values())
    found: dict[str, Any] = {}
    if ever:
        found = {"champion": ever[-1].cycle} | scored({"frozen": root / ever[0].path, "loop": root / ever[-1].path}, dated, work / f"out{seed}")
    write_json(kept, found)
    return found


def begin(work: Path, seed: int, known: list[dict[str, Any]], code: str, anew: bool) -> set[int]:
    """Open a world, or find it as it was left; returns the weeks that it has lived."""
    from tests.system.world import change_settings

    root = work / f"seed{seed}"
    why = "its folder is gone" if known and not root.exists() else "other code has lived it" if any(row.get("code") != code for row in known) else ""
    if why and not anew:
        sys.exit(f"World {seed} cannot be gone on with: {why}. Its {len(known)} weeks stay in {RESULTS.name}. Next: `--anew` drops them and begins it again.")
    if why or not known:
        others = [row for row in rows_of(RESULTS) if row["seed"] != seed]
        RESULTS.write_text("".join(f"{json.dumps(row)}\n" for row in others))
        for folder in [root, *(path for path in work.glob(f"*-{seed}-*") if path.is_dir())]:
            shutil.rmtree(folder, ignore_errors=True)
        for file in work.glob(f"measured-{seed}-*.json"):
            file.unlink()
        vigil("init", root, "--profile", "demo")
        change_settings(root, {"seed": 20261116 + seed, "split": {"key": f"world {seed}"}})
        return set()
    return {row["week"] for row in known}


def live(work: Path, seed: int, weeks: int, anew: bool) -> None:
    """Go on with a world from its first week that is not in the results."""
    from tests.system.world import change_settings
    from workspace.journal import Journal
    from workspace.state import batch_states, champion

    mine, code = [row for row in rows_of(RESULTS) if row["seed"] == seed], code_of_rows()
    if {row["week"] for row in mine} >= set(range(1, weeks + 1)):
        return
    root, known = work / f"seed{seed}", begin(work, seed, mine, code, anew)
    with ThreadPoolExecutor(2) as side:  # what does not depend on one another is done at once
        left = [week for week in range(1, weeks + 1) if week not in known]
        ahead = side.submit(week_media, work, seed, left[0])
        for week in left:
            new, dated = ahead.result()
            if champion(Journal(root).events()) is not None:
                change_settings(root, STEPS)  # the first champion had the profile's own steps
            found = measured(work, seed, week, dated)
            vigil("ingest", new, "--name", f"week{week}", "-w", root)
            if week < weeks:
                ahead = side.submit(week_media, work, seed, week + 1)
            vigil("retrain", "-w", root)
            last = [event for event in Journal(root).events() if event.kind == "cycle_closed"][-1]
            if champion(Journal(root).events()) is None:
                for batch in (name for name, known in batch_states(Journal(root).events()).items() if known.state == "held"):
                    vigil("batches", "accept", batch, "--who", "benchmark", "--why", "nothing serves yet", "-w", root)
            row = {"seed": seed, "week": week, "newest": newest(week), **found, "outcome": last["outcome"], "code": code}
            row["reason"] = "" if last["outcome"] == "promoted" else last["reason"][:160]
            add_row(RESULTS, row)
            print(row, flush=True)
            for folder in (new.parent, dated.parent):
                shutil.rmtree(folder)


def table(rows: list[dict[str, Any]]) -> None:
    """What was lost between the weeks before the second forger and the last weeks that all worlds have lived, by each model, mean over worlds
    with its t interval; and how many weeks the gates held."""
    from benchmarks.forgers import interval

    second, seeds = sorted(ARRIVALS)[1], sorted({row["seed"] for row in rows})
    weeks = min((max(row["week"] for row in rows if row["seed"] == seed) for seed in seeds), default=0)
    rows = sorted((row for row in rows if row["week"] <= weeks), key=lambda row: row["week"])
    print(f"{len(seeds)} worlds, {weeks} weeks")
    here = code_of_rows()
    others = {seed: row["code"] for seed in seeds for row in rows if row["seed"] == seed and row["code"] != here}
    if others:
        print(f"lived by other code than this, {here}: {', '.join(f'world {seed} by {code}' for seed, code in others.items())}")
    for figure in FIGURES:
        for model in ("frozen", "loop"):
            lost = []
            for seed in seeds:
                mine = [row for row in rows if row["seed"] == seed and model in row]
                first, last = [row for row in mine if row["week"] < second], [row for row in mine if row["week"] >= second][-EDGE:]
                if first and last:
                    lost.append(mean(row[model][figure] for row in first) - mean(row[model][figure] for row in last))
            if lost:
                print(f"{figure:<18}{model:<8}lost {interval(lost)}   by world {', '.join(f'{one:.3f}' for one in lost)}")
    judged = [row for row in rows if "loop" in row]
    print(f"held: {sum(row['outcome'] != 'promoted' for row in judged)} of {len(judged)} weeks in which a champion served")


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=count, default=3)
    parser.add_argument("--weeks", type=count, default=26)
    parser.add_argument("--work", type=Path, default=HERE.parent / "longitudinal")
    parser.add_argument("--only", type=int, default=0, metavar="WORLD")
    parser.add_argument("--anew", action="store_true", help="drop the rows of a world that cannot be gone on with, and begin it again")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    with one_prefect_server(asked.work):
        for seed in [asked.only] if asked.only else range(FIRST_WORLD, FIRST_WORLD + asked.worlds):
            live(asked.work, seed, asked.weeks, asked.anew)
    table(counted())


if __name__ == "__main__":
    main()
