"""`vigil demo`: four weeks of the loop on sample media, through the same verbs that a person uses.

Week 1 brings a first forger, week 2 a new one, week 3 a batch whose labels somebody flipped, week 4 a clean one. The loop
is told none of this: it sees a CSV a week. What is expected is checked here, at the end, against what it decided.
"""

import csv
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigil.opening import open_workspace, refuse_path
from workspace.cycle import read_cycle
from workspace.errors import WorkspaceError
from workspace.files import atomic_file, write_json
from workspace.lease import hold_lock, lease
from workspace.settings import Settings, load_settings

MARK = "demo.json"
LOCK = "demo-runs.lock"


@dataclass(frozen=True, slots=True)
class Week:
    """What the sample world sends in a week, and how a sound loop should answer."""

    title: str
    people: int
    fakes: dict[str, int]
    flipped: bool
    expected: str


WEEKS = (
    Week("a first forger, blendswap", 72, {"blendswap": 2}, False, "promoted"),
    Week("a new forger, upsampler", 38, {"upsampler": 2}, False, "promoted"),
    Week("a batch whose labels somebody flipped", 36, {"blendswap": 1, "upsampler": 1}, True, "held"),
    Week("a clean week", 30, {"blendswap": 1, "upsampler": 1}, False, "promoted"),
)


def run_demo(folder: Path, seed: int, as_json: bool) -> int:
    """Run the four weeks in `folder`; 0 when each ended as expected, 1 otherwise.

    An earlier demo there is replaced. Raises LeaseHeldError while that one runs, or anything writes to it.
    """
    folder = folder.resolve()
    refuse_path(folder)
    _refuse_other_things(folder)
    with hold_lock(folder / ".vigil" / LOCK, "demo", 0.0, "A demo runs in this folder. Nothing was changed."):
        with lease(folder, "demo", decides=False):
            _clear(folder)
            write_json(folder / ".vigil" / MARK, {"seed": seed})
        return _four_weeks(folder, seed, as_json)


def _four_weeks(folder: Path, seed: int, as_json: bool) -> int:
    started = time.monotonic()
    open_workspace(folder, "demo")
    settings = load_settings(folder / "params.yaml")
    rows = []
    first_person = 1
    for number, week in enumerate(WEEKS, start=1):
        _print(f"\nWeek {number}: {week.title}", as_json)
        media = render_week(folder, settings, week, number, first_person, seed)
        first_person += week.people
        rows.append(_live_through(folder, settings, number, week, media, as_json))
    seconds = time.monotonic() - started
    summary = {"weeks": rows, "seconds": round(seconds, 1), "as_expected": all(row["outcome"] == row["expected"] for row in rows)}
    if as_json:
        print(json.dumps(summary, indent=1))
    else:
        print_summary(summary, folder)
    return 0 if summary["as_expected"] else 1


def _print(text: str, as_json: bool) -> None:
    print(text, file=sys.stderr if as_json else sys.stdout, flush=True)


def _refuse_other_things(folder: Path) -> None:
    """Raises WorkspaceError where the folder holds anything but an earlier demo."""
    if folder.exists() and any(folder.iterdir()) and not (folder / ".vigil" / MARK).exists():
        raise WorkspaceError(
            f"{folder} is not an earlier demo. Nothing was changed.", why="a demo replaces only a demo", next_step="Name another folder: vigil demo FOLDER."
        )


def _clear(folder: Path) -> None:
    """Remove an earlier demo. Its locks stay, which are held, and until the end what says that it is one."""
    own = folder / ".vigil"
    for path in (*folder.iterdir(), *own.iterdir()):
        if path == own or (path.parent == own and (path.name == MARK or path.stem in (Path(LOCK).stem, "lease"))):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def render_week(folder: Path, settings: Settings, week: Week, number: int, first_person: int, seed: int) -> Path:
    """Render the week's clips and its labels.csv; returns the CSV. Donors come from the side of the split their target is on."""
    from media.synthetic import make_sample_media
    from pipelines.assemble import split_of
    from pipelines.stage import Progress

    out = folder / ".vigil" / "media" / f"week{number}"
    make_sample_media(
        out,
        people=week.people,
        clips_per_person=2,
        seconds=0.85,
        seed=seed,
        fakes=week.fakes,
        first_person=first_person,
        group_of=lambda person: split_of(person, settings.split),
        progress=Progress("render"),
    )
    table = out / "labels.csv"
    if week.flipped:
        flip_labels(table, max(week.fakes))
    return table


def flip_labels(table: Path, generator: str) -> None:
    """Call each real clip a fake of `generator` and each fake real, as a confused or hostile source would."""
    with open(table, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        was_real = row["label"] == "real"
        row["label"], row["generator"], row["donor"] = ("fake", generator, "") if was_real else ("real", "", "")
    with atomic_file(table) as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _live_through(folder: Path, settings: Settings, number: int, week: Week, media: Path, as_json: bool) -> dict[str, Any]:
    from vigil.cycles import run_cycle
    from vigil.taking_in import ingest_sources, named_sources

    started = time.monotonic()
    for report in ingest_sources(folder, settings, named_sources([str(media)], "csv", "column", f"week{number}", [])):
        for line in report.lines():
            _print(f"  {line}", as_json)
    outcome = run_cycle(folder, settings)
    row = {
        "week": number,
        "what": week.title,
        "cycle": outcome["cycle"],
        "outcome": outcome["outcome"],
        "expected": week.expected,
        "reason": outcome["reason"],
        "seconds": round(time.monotonic() - started, 1),
        "figures": figures_of(folder, outcome["cycle"]),
    }
    for line in row["figures"]:
        _print(f"  {line}", as_json)
    _print(f"  {outcome['outcome'].upper()}: {outcome['reason']}  ({row['seconds']} s)", as_json)
    return row


def figures_of(folder: Path, cycle: str) -> list[str]:
    """What `cycle` measured, in a few sentences; none where it was held before anything was measured: the page is then an earlier cycle's."""
    from pipelines.gate import report_of
    from pipelines.report import headlines

    evaluation = report_of(cycle, folder / "reports" / "evaluation.json")
    return headlines(evaluation, read_cycle(folder)) if evaluation else []


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """The four weeks as a table, and where to look next."""
    from vigil.reading import render_table

    print("\n" + render_table([{key: row[key] for key in ("week", "what", "cycle", "outcome", "expected", "seconds")} for row in summary["weeks"]]))
    word = "as a sound loop should" if summary["as_expected"] else "NOT as a sound loop should"
    print(f"\nFour weeks in {summary['seconds']:.0f} s; they ended {word}.")
    print(f"  Look:  {folder}/reports/report.html, `vigil status -w {folder}`, `vigil models -w {folder}`")
    print(f"  Score: vigil score FILE -w {folder}")
