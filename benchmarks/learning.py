"""What one cycle learns and what it keeps: a new forgery comes in, with and without replay and distillation.

    python benchmarks/learning.py [--seeds 3] [--ways "as it is"] [--work FOLDER]     resumable; a row a run in benchmarks/learning.jsonl; ends with the table

Two weeks of the demo on rendered people: week 1 brings a forger, week 2 another. After week 1 the workspace is copied, and each
copy lives through week 2 in its own way. Measured apart, on people who are in neither week: 100 clips of the new forger, 100 of the
old, 100 real. Nothing is chosen on them. Each seed is another world: people, training seed and split key. Rows of another recipe are not counted.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import count, one_prefect_server, recipe_hash, vigil  # noqa: E402
from benchmarks.results import is_made_by, newest_rows, rows_of_code  # noqa: E402
from workspace.files import add_row  # noqa: E402

RESULTS = HERE / "learning.jsonl"
OLD, NEW = "blendswap", "upsampler"
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "as it is": {},
    "no distillation": {"train": {"distillation": 0.0}},
    "no replay": {"budget": {"replay_clips": 0}},  # and so no distillation, which looks at replayed clips
}
NO_COPIES = {"ingest": {"near_duplicate_bits": 0}}  # no clip comes twice here, so none is looked for
SPLIT = {"train": 0.5, "validation": 0.25, "holdout": 0.25}  # the demo's dozen validation people fix a threshold so loosely that a first week may be held
TESTED = 100  # clips a kind


def code_of_rows() -> str:
    """What rows must share to stand in one table."""
    from vigil.demo import WEEKS

    return recipe_hash("demo", WEEKS[:2], OLD, NEW, WAYS, NO_COPIES, SPLIT, TESTED)


def test_media(work: Path) -> Path:
    """labels.csv of the measured set; made once for a recipe."""
    from media.synthetic import make_sample_media

    folder, code = work / "measured-media", code_of_rows()
    mark = folder / "made-by"
    if not mark.is_file() or mark.read_text() != code:
        shutil.rmtree(folder, ignore_errors=True)
        make_sample_media(folder, people=TESTED, clips_per_person=1, seconds=0.85, seed=77, fakes={OLD: 1, NEW: 1}, first_person=5000)
        mark.write_text(code)
    return folder / "labels.csv"


def first_week(work: Path, seed: int) -> Path:
    """A workspace that has promoted a model in week 1, and week 2's media beside it."""
    from tests.system.world import change_settings
    from vigil.demo import WEEKS, render_week
    from vigil.opening import open_workspace
    from workspace.journal import Journal
    from workspace.settings import load_settings
    from workspace.state import champion

    root, code = work / f"seed{seed}", code_of_rows()
    mark = root / ".vigil" / "lived"
    if is_made_by(mark, code):
        return root
    shutil.rmtree(root, ignore_errors=True)
    open_workspace(root, "demo")
    change_settings(root, {**NO_COPIES, "seed": 20261116 + seed, "split": SPLIT | {"key": f"world {seed}"}})
    settings = load_settings(root / "params.yaml")
    first = render_week(root, settings, WEEKS[0], 1, 1, seed)
    render_week(root, settings, WEEKS[1], 2, 1 + WEEKS[0].people, seed)
    vigil("ingest", first, "-w", root, "--name", "week1")
    vigil("retrain", "-w", root)
    if champion(Journal(root).events()) is None:
        sys.exit(f"Week 1 of seed {seed} was not promoted, so that there is nothing to start from: see `vigil report -w {root}`.")
    mark.write_text(code)
    return root


def aucs(root: Path, out: Path, table: Path) -> dict[str, float]:
    """AUC of the model that the last cycle made on each forger of the measured set, its `ece` on all of it, and the `n` that got a verdict.

    Empty where that cycle trained nothing.
    """
    from workspace.journal import Journal
    from workspace.state import candidates, cycles

    events = Journal(root).events()
    made = candidates(events).get(cycles(events)[-1].cycle)
    if made is None:
        return {}
    vigil("evaluate", table, "--model", root / made.path, "--out", out)
    report = json.loads((out / "evaluation.json").read_text())
    found = {name: part["auc"]["value"] for name, part in report["by_generator"].items()}
    return found | {"ece": report["overall"]["ece"]["value"], "n": report["answered"]["n"]}


def run(work: Path, seed: int, way: str, table: Path) -> dict[str, Any]:
    """Week 2 in one way; before and after."""
    from tests.system.world import change_settings

    root, copy = first_week(work, seed), work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy, symlinks=True)
    before = aucs(copy, work / "before", table)
    change_settings(copy, WAYS[way])
    vigil("ingest", copy / ".vigil" / "media" / "week2" / "labels.csv", "-w", copy, "--name", "week2")
    vigil("retrain", "-w", copy)
    after = aucs(copy, work / "after", table)
    if not before or not after:
        sys.exit(f"A week of seed {seed} ({way}) trained nothing: see `vigil report -w {copy}`.")
    return {
        "seed": seed,
        "way": way,
        "old_before": before[OLD],
        "new_before": before[NEW],
        "old_after": after[OLD],
        "new_after": after[NEW],
        "ece_after": after["ece"],
        "n": after["n"],
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Means over seeds with t intervals."""
    from benchmarks.forgers import interval

    for way in WAYS:
        mine = [row for row in rows if row["way"] == way]
        if not mine:
            continue
        print(f"{way}: {len(mine)} seeds, AUC on {TESTED} clips a kind, {min(row['n'] for row in mine)} of {3 * TESTED} with a verdict at least")
        print(f"    new forger, before {mean(row['new_before'] for row in mine):.3f}   after {interval([row['new_after'] for row in mine])}")
        if shown := [row["ece_after"] for row in mine if "ece_after" in row]:
            print(f"    ECE after, of all {3 * TESTED} clips: {interval(shown)}")
        print(f"    old forger, before {mean(row['old_before'] for row in mine):.3f}   lost {interval([row['old_before'] - row['old_after'] for row in mine])}")


def main() -> None:
    """Run what is missing, then show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=count, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which ways to live through week 2")
    parser.add_argument("--work", type=Path, default=Path("learning-work"))
    parser.add_argument("--show", action="store_true", help="train nothing: the table of the newest rows that are kept, whatever code made them")
    arguments = parser.parse_args()
    if arguments.show:
        return show(newest_rows(RESULTS))
    work = arguments.work.resolve()
    code = code_of_rows()
    rows = rows_of_code(RESULTS, code)
    table = test_media(work)
    with one_prefect_server(work):
        for seed in range(1, arguments.seeds + 1):
            for way in arguments.ways:
                if not any((row["seed"], row["way"]) == (seed, way) for row in rows):
                    rows.append(run(work, seed, way, table) | {"load": os.getloadavg()[0], "code": code})
                    add_row(RESULTS, rows[-1])
                    print(json.dumps(rows[-1]), flush=True)
    show(rows)


if __name__ == "__main__":
    main()
