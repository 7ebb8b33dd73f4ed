"""`vigil score`: one row an input file, whatever is wrong with any of them."""

import csv
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from media.names import MEDIA_SUFFIXES
from model.shipped import STARTER, has_starter
from pipelines.layouts.found import EMPTY, NOT_MEDIA, as_text, is_hidden, problem_of, walk
from workspace.errors import ModelFileError, VigilError, WorkspaceError
from workspace.files import CsvLines
from workspace.settings import check_mode

if TYPE_CHECKING:
    from model.card import OperatingPoint
    from model.inference import Engine

COLUMNS = ("file", "p_fake", "verdict", "frames", "faces", "model", "reason")
NO_VERDICT = 3
WARNINGS = {
    "not promoted": "This model was not promoted: no gate vouches for its answers ({name}).",
    "starter": "Scored by the starter model, which knows few people, none of your media, and no fake from outside: see {folder}/README.md.",
}


def expand(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The files that were named, and every file and link below folders that were named, in order, each with why it may not be opened, or ''.

    Hidden ones, and what hidden folders hold, come only by their own name. A link may lead to a file anywhere, but no linked folder is entered.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from ((one, problem_of(one, Path("/"))) for one in sorted(walk(path)) if not is_hidden(one, path))
        else:
            yield path, ""


def is_beside(path: Path, reason: str) -> bool:
    """Whether a file that nobody named is no media, or empty, and has no medium's name: tables and notes lie between clips."""
    return reason in (NOT_MEDIA, EMPTY) and not path.name.lower().endswith(MEDIA_SUFFIXES)


def choose_model(workspace: Path | None, named: Path | None) -> tuple[Path, str]:
    """The model's folder and a mark for people: --model, else the champion, else the latest candidate `not promoted`, else the `starter`.

    Raises WorkspaceError when there is none of these, or `workspace` was named and is none, ModelFileError when `named` is no model's folder.
    """
    if named is not None:
        return model_folder(named), ""
    from workspace.layout import find_workspace, require_workspace

    if workspace is None and has_starter() and find_workspace(Path.cwd()) is None:
        return STARTER, "starter"
    return _of_workspace(require_workspace(workspace or Path.cwd()).root)


def model_folder(named: Path) -> Path:
    """The folder that a person named, once it looks like a model's. Raises ModelFileError."""
    if not (named / "card.json").is_file():
        why = "it has no card.json" if named.is_dir() else "there is no such folder"
        raise ModelFileError(f"There is no model in {named}.", why=why, next_step="Name a folder with model.onnx and card.json.")
    return named


def _of_workspace(root: Path) -> tuple[Path, str]:
    from workspace.journal import Journal
    from workspace.settings import load_settings
    from workspace.state import candidates, champion

    events = Journal(root).events()
    if champion(events):
        from workspace.registry import serving_model

        return serving_model(root, load_settings(root / "params.yaml")), ""
    made = [model for model in candidates(events).values() if (root / model.path / "card.json").exists()]
    if made:
        return root / made[-1].path, "not promoted"
    if has_starter():
        return STARTER, "starter"
    raise WorkspaceError(
        "There is no model to score with.", why=f"{root} has no champion and no candidate", next_step="Run `vigil retrain`, or name a model with --model."
    )


def score_files(files: list[Path], workspace: Path | None, model: Path | None, output: str, mode: str, fpr: float | None = None) -> int:
    """Score and print; returns the exit code: 0 when each file got a verdict, 3 when one did not.

    What lies beside the media in a folder (`is_beside`) is counted and no row.
    `fpr` takes the card's operating point for that false-positive rate in place of its own threshold, and says what it costs.
    """
    refuse_unknown_mode(mode)
    from model.aggregate import band
    from model.inference import Engine, FileVerdict
    from workspace.errors import printable

    folder, mark = choose_model(workspace, model)
    engine = Engine(folder)
    if mark:
        print(warning(mark, folder), file=sys.stderr)
    if fpr is not None:
        print(price(engine.at_fpr(fpr)), file=sys.stderr)
    note_mode(engine, mode)
    rows, beside = [], []
    writer, named = _Printer(output, band(engine.card.threshold, engine.card.abstain)), set(files)
    for path, problem in expand(files):
        verdict = FileVerdict(str(path), None, "none", 0, 0, problem, engine.model_id, "") if problem else engine.score_file(path, mode or None)
        if path not in named and is_beside(path, verdict.reason):
            beside.append(printable(as_text(path.name)))
            continue
        row = verdict.as_dict()
        row["file"] = as_text(str(path))
        row["model"] = f"{row['model']} ({mark})" if mark else row["model"]
        row["promoted"] = not mark and model is None  # of a folder that was named nobody here knows
        row["reason"] = verdict.told
        writer.add(row)
        rows.append(row)
    if not rows:
        raise VigilError("Nothing was scored.", why="the folders named hold no image and no video", next_step="Name images or videos.")
    writer.close(rows)
    if beside:
        print(f"No media, passed over: {', '.join(beside[:5])}{f' and {len(beside) - 5} more' if len(beside) > 5 else ''}.", file=sys.stderr)
    return 0 if all(row["verdict"] != "none" for row in rows) else NO_VERDICT


def warning(mark: str, folder: Path) -> str:
    """What must be said of the answers of a model that no gate vouches for."""
    return WARNINGS[mark].format(name=folder.name, folder=folder)


def refuse_unknown_mode(mode: str) -> None:
    """Raise typer.BadParameter unless `mode` is one of the three, or empty."""
    try:
        check_mode(mode)
    except ValueError as problem:
        import typer

        raise typer.BadParameter(f"--mode: {problem}") from None


def note_mode(engine: "Engine", mode: str) -> None:
    """Say what does not hold in `mode` ('' is the card's own)."""
    from model.inference import other_mode

    if mode not in ("", engine.card.faces.mode):
        print(f"Note: {other_mode(engine.card.faces.mode, mode)}.", file=sys.stderr)


def price(point: "OperatingPoint") -> str:
    """What an operating point costs, as a sentence; just above the threshold a verdict is still `uncertain`."""
    doubt = "" if point.shown else " Validation has too few real people to show so low a rate."
    reals, fakes = ("an unknown part" if part is None else f"{part:.{digits}%}" for part, digits in ((point.fpr, 1), (point.recall, 0)))
    return f"Threshold {point.threshold:.3f}: on validation {reals} of the reals and {fakes} of the fakes lay above it.{doubt}"


class _Printer:
    """Prints rows as they come (csv) or at the end (table, json)."""

    def __init__(self, output: str, uncertain: tuple[float, float]) -> None:
        self.output, self.uncertain = output, uncertain
        self.csv = csv.DictWriter(CsvLines(sys.stdout), COLUMNS, extrasaction="ignore") if output == "csv" else None
        if self.csv:
            self.csv.writeheader()

    def add(self, row: dict[str, Any]) -> None:
        if self.csv:
            p_fake = row["p_fake"]
            self.csv.writerow({**row, "p_fake": "" if p_fake is None else f"{p_fake:.6f}"})
            sys.stdout.flush()

    def close(self, rows: list[dict[str, Any]]) -> None:
        if self.output == "json":
            from vigil.options import emit

            emit(rows, "", as_json=True)
        if self.output == "table":
            from model.aggregate import as_estimate
            from vigil.reading import render_table

            told = [{**{column: row[column] for column in COLUMNS}, "p_fake": "-" if row["p_fake"] is None else as_estimate(row["p_fake"])} for row in rows]
            print(render_table(told))
            print("p_fake: 1 means fake, 0 means real. Called real below {:.3f}, fake from {:.3f} on, uncertain between.".format(*self.uncertain))
