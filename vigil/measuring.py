"""`vigil evaluate`: a model on any labelled data set, or every model on every data set."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.layouts.found import as_text
from vigil.scoring import choose_model, model_folder, note_mode, refuse_unknown_mode
from vigil.taking_in import named_sources
from workspace.errors import DataError, WorkspaceError
from workspace.files import sha256_bytes, write_json

if TYPE_CHECKING:
    from model.inference import Engine
    from workspace.settings import SourceSettings

AT_ONCE = 4  # models that share one reading of a source: more would be in memory together
AS_IT_SAYS = "file"  # the identity rule under which a source that names people is believed, and no other has to
KEPT = ("drawn", "learned", "learned_unknown", "not_measured", "published")  # of a report, in its cell of the matrix
COMPARED = ("auc", "accuracy", "balanced_accuracy")
LEFT_OUT = {
    "copies": "files that are copies of others",
    "two_labels": "files whose content is there as real and as fake",
    "unlabelled": "files without a label: nothing says whether they are real or fake (`--label NAME=fake` says what a folder's name means)",
    "never": "files whose use is never",
    "unlisted": "photos and videos of the folder that its table does not name, or that are at no place of its data set",
}
SHOWN = ("auc", "balanced_accuracy", "recall", "fpr", "tpr_at_fpr_5", "ece")


def measured_sources(paths: list[str], layout: str, identity: str, labels: list[str], columns: list[str]) -> list["SourceSettings"]:
    """The sources that a person named, read as `vigil ingest` reads them. Raises DataError for one that is not on this disk."""
    if away := [path for path in paths if "://" in path]:
        what = f"vigil evaluate does not read {', '.join(away)}."
        raise DataError(what, why="it measures files on this disk", next_step="Fetch them to a folder first; `vigil ingest` reads s3:// itself.")
    return named_sources(paths, layout, identity or AS_IT_SAYS, "", labels, columns, numbered=True)


def evaluate_source(source: "SourceSettings", workspace: Path | None, model: Path | None, out: Path, mode: str) -> dict[str, Any]:
    """Measure and write; returns the report, with the folder it lies in."""
    refuse_unknown_mode(mode)
    from model.inference import Engine
    from pipelines.measure import measure, read_labelled
    from pipelines.stage import Progress

    folder, mark = choose_model(workspace, model)
    engine = Engine(folder)
    note_mode(engine, mode)
    journal = _journal(out, [source], workspace, model, mode)
    (report,) = measure([engine], read_labelled(source), [out], mode or None, Progress("evaluate"), journal, mark)
    journal.unlink(missing_ok=True)
    return report | {"out": as_text(str(out))}


def evaluate_cross(sources: list["SourceSettings"], workspace: Path | None, models: list[Path], out: Path, mode: str, history: bool) -> dict[str, Any]:
    """Measure each model on each source, write each cell's table and cross.json; returns what cross.json holds.

    `history` adds every model that this workspace ever promoted, oldest first; `not_here` names the cycles of those whose folders are away.
    A cell's folder is out/<model>/<number>-<source>; the second model of the same weights, under another card, is <model>-2.
    """
    refuse_unknown_mode(mode)
    from model.inference import Engine
    from pipelines.measure import measure, read_labelled
    from pipelines.stage import Progress

    past, away = promoted_models(workspace) if history else ([], [])
    if away:
        print(_left_out(away), file=sys.stderr)
    folders, mark = [*past, *map(model_folder, models)], ""
    if not folders:
        chosen, mark = choose_model(workspace, None)
        folders = [chosen]
    sets = [read_labelled(source) for source in sources]  # all, before the hours that the first one takes
    rows, seen, journal = [], Counter[str](), _journal(out, sources, workspace, models, mode, history)
    for first in range(0, len(folders), AT_ONCE):
        some = folders[first : first + AT_ONCE]
        engines, names = [Engine(folder) for folder in some], []
        for engine in engines:
            note_mode(engine, mode)
            seen[engine.model_id] += 1
            names.append(f"{engine.model_id}-{seen[engine.model_id]}" if seen[engine.model_id] > 1 else engine.model_id)
        cells: list[list[dict[str, Any]]] = [[] for _ in engines]
        for number, labelled in enumerate(sets, start=1):
            source = labelled.source
            outs = [out / name / f"{number}-{source.name}" for name in names]
            reports = measure(engines, labelled, outs, mode or None, Progress(f"{_told(engines)} on {source.name}"), journal, mark)
            for mine, report in zip(cells, reports, strict=True):
                kept = {name: report[name] for name in KEPT} | {name: report["overall"].get(name) for name in COMPARED}
                by_use = {
                    use: {name: part.get(name) for name in ("n", "of", "learned", "n_real", "n_fake", *COMPARED)} for use, part in report["by_use"].items()
                }
                mine.append({"source": report["source"], **report["answered"], **kept, "by_use": by_use})
        for name, folder, card, mine in zip(names, some, [engine.card for engine in engines], cells, strict=True):
            about = {"model": name, "mark": mark, "folder": as_text(str(folder)), "threshold": card.threshold, "cycle": card.cycle}
            rows.append(about | {"learned": list(card.generators_seen), "cells": mine})
    found = {"sources": [as_text(source.path) for source in sources], "models": rows, "not_here": away, "out": as_text(str(out))}
    write_json(out / "cross.json", found)
    journal.unlink(missing_ok=True)
    return found


def _journal(out: Path, sources: list["SourceSettings"], *asked: object) -> Path:
    """Where an evaluation keeps the files that it scored until its figures are there: its own, for others write their figures into the same folder."""
    return out / f"scored-{sha256_bytes(repr([[source.path for source in sources], *asked]).encode())[:12]}.jsonl"


def _told(engines: list["Engine"]) -> str:
    return engines[0].model_id if len(engines) == 1 else f"{len(engines)} models"


def promoted_models(workspace: Path | None) -> tuple[list[Path], list[str]]:
    """The folders of the models that the workspace promoted, oldest first; and the cycles of those whose folders are not here.

    Raises WorkspaceError where none is at hand, ModelFileError where one is not what was promoted.
    """
    from workspace.journal import Journal
    from workspace.layout import require_workspace
    from workspace.modelfiles import CARD, verify_promoted
    from workspace.state import promoted

    root = require_workspace(workspace or Path.cwd()).root
    ever = list(promoted(Journal(root).events()).values())
    made = [model for model in ever if (root / model.path / CARD).exists()]
    away = [model.cycle for model in ever if model not in made]
    if not made:
        how = _fetched(away) if away else "Run `vigil retrain`"
        raise WorkspaceError("There is no past to compare.", why=f"{root} holds no promoted model", next_step=f"{how}, or name models with --model.")
    for model in made:
        verify_promoted(root, model)
    return [root / model.path for model in made], away


def _left_out(away: list[str]) -> str:
    """Who is missing in the matrix of every model ever promoted."""
    return f"Promoted once, and left out as not here: {', '.join(away)}. {_fetched(away)}, and ask again."


def _fetched(away: list[str]) -> str:
    return f"In the workspace run `dvc pull {' '.join(f'models/{cycle}.dvc' for cycle in away)}`"


def render_cross(found: dict[str, Any]) -> str:
    """AUC with its interval, a line a model, a column a source; below, what was drawn and left out, what each model had learned, and where it had learned the
    source or did not answer."""
    from vigil.reading import render_table

    names = [f"{number} {Path(path).name}" for number, path in enumerate(found["sources"], start=1)]
    rows = []
    for row in found["models"]:
        rows.append({"model": row["model"], "cycle": row["cycle"]})
        for number, (name, cell) in enumerate(zip(names, row["cells"], strict=True), start=1):
            rows[-1][name] = _cell(cell["auc"])
            if cell["by_use"]:
                rows[-1][f"{number} use evaluate"] = _cell(cell["by_use"]["evaluate"]["auc"])
    marked = [f"  {row['model']} is {_told_mark(row['mark'])}" for row in found["models"] if row["mark"]]
    learned = [f"  {row['model']} had learned: {', '.join(row['learned']) or 'nothing'}" for row in found["models"]]
    drawn = [max((row["cells"][place]["drawn"] for row in found["models"]), key=_weakness) for place in range(len(names))]
    lines = [
        render_table(rows),
        f"AUC over files, {_all_drawn(dict(zip(names, drawn, strict=True)))}.",
        *marked,
        *_said_of_cells(found["models"], names),
        *learned,
    ]
    for place, name in enumerate(names):
        lines += [f"  {name} is {words}" for words in _published(found["models"][0]["cells"][place])]
        lines += [f"  left out of {name}: {words}" for words in _not_measured(found["models"][0]["cells"][place])]
    lines += [f"  {_left_out(found['not_here'])}"] if found["not_here"] else []
    return "\n".join([*lines, f"  {found['out']}/cross.json holds everything."])


def _said_of_cells(models: list[dict[str, Any]], names: list[str]) -> list[str]:
    """A line that names the cells where files got no verdict, one for those of which files trained the model, and one a reason why others were not asked."""
    cells = [(f"{row['model']} on {name}", cell) for row in models for name, cell in zip(names, row["cells"], strict=True)]
    fewer = [f"{place} ({cell['n']} of {cell['of']})" for place, cell in cells if cell["n"] < cell["of"]]
    trained = [f"{place} ({'at least ' if cell['learned_unknown'] else ''}{cell['learned']} of {cell['of']})" for place, cell in cells if cell["learned"]]
    fewer += [f"{place}, use evaluate ({part['n']} of {part['of']})" for place, cell in cells for part in _tested(cell) if part["n"] < part["of"]]
    lines = [f"  not all files got a verdict: {', '.join(fewer)}"] if fewer else []
    lines += [f"  too good, as files trained the model in its last training: {', '.join(trained)}"] if trained else []
    for why in dict.fromkeys(cell["learned_unknown"] for _, cell in cells if cell["learned_unknown"]):
        places = ", ".join(place for place, cell in cells if cell["learned_unknown"] == why)
        lines.append(f"  not checked whether files trained the model ({why}): {places}")
    return lines


def _not_measured(report: dict[str, Any]) -> list[str]:
    """How many files of the source have no row, by why."""
    return [f"{report['not_measured'][reason]} {words}" for reason, words in LEFT_OUT.items() if report["not_measured"][reason]]


def _tested(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The part that the source sets aside for testing, where it has another one too."""
    return [report["by_use"]["evaluate"]] if report["by_use"] else []


def _published(report: dict[str, Any]) -> list[str]:
    """What there is of a published set, beside what its authors say."""
    from pipelines.layouts.card import beside

    return [beside(**report["published"])] if report["published"] else []


def _weakness(drawn: dict[str, Any]) -> tuple[bool, bool, int, int]:
    """Orders what was drawn: files are weaker than source videos, those than people, and nothing at all is last."""
    return bool(drawn["files"]), bool(drawn["source_videos"]), drawn["files"] + drawn["source_videos"], drawn["people"]


def _drawn(drawn: dict[str, Any]) -> str:
    """Over what the intervals are: a person's files stand and fall together, and who does not know the people draws too often."""
    if not drawn["over"]:
        return "no intervals"
    by = [name.replace("_", " ") for name in ("people", "source_videos", "files") if drawn[name]]
    said = f"95% intervals over {' where known, else over '.join(by)}"
    unknown = drawn["files"] + drawn["source_videos"]
    if not unknown:
        return said
    which = f"{unknown} of {unknown + drawn['people']} files show" if drawn["people"] else "these are"
    return f"{said}: nobody says whose faces {which} (--identity)"


def _all_drawn(drawn: dict[str, dict[str, Any]]) -> str:
    """The same of several sources, by their names where they differ."""
    said = {name: _drawn(one) for name, one in drawn.items()}
    return next(iter(said.values())) if len(set(said.values())) == 1 else "; ".join(f"on {name} {words}" for name, words in said.items())


def render(report: dict[str, Any]) -> str:
    """The figures as a table, a line a slice, each with its interval."""
    from vigil.reading import render_table

    parts = {"overall": report["overall"]} | {f"use {name}": part for name, part in report["by_use"].items()} | report["by_kind"]
    parts |= {f"generator {name}": part for name, part in report["by_generator"].items()}
    rows = [
        {"slice": name, "real": part["n_real"], "fake": part["n_fake"]} | {figure: _cell(part.get(figure)) for figure in SHOWN} for name, part in parts.items()
    ]
    answered = report["answered"]
    lines = [
        render_table(rows),
        f"{answered['n']} of {answered['of']} files got a verdict; figures at threshold {report['threshold']:.3f} as shipped; {_drawn(report['drawn'])}."
        + (f" This model is {_told_mark(report['mark'])}." if report["mark"] else ""),
    ]
    for label, said_of in report["verdicts"].items():
        lines.append(f"  called, with its band of uncertainty, of {label} files: " + ", ".join(f"{count} {said}" for said, count in said_of.items()))
    if report["learned"]:
        count = f"{'at least ' if report['learned_unknown'] else ''}{report['learned']}"
        among = "".join(f", {part['learned']} of use evaluate," for part in _tested(report))
        lines.append(
            f"  {count} of these files{among} trained this very model in its last training: on them its figures are too good. "
            "Leave them out, or name another source."
        )
    if report["learned_unknown"]:
        lines.append(f"  not checked whether {'others' if report['learned'] else 'any'} of these files trained this model: {report['learned_unknown']}")
    lines += [f"  no verdict: {count} x {reason}" for reason, count in report["no_verdict"].items()]
    lines += [f"  not all of use evaluate got a verdict: {part['n']} of {part['of']} files" for part in _tested(report) if part["n"] < part["of"]]
    lines += [f"  left out: {words}" for words in _not_measured(report)]
    lines += [f"  {words}" for words in _published(report)]
    return "\n".join([*lines, f"  {report['out']}/predictions.csv and evaluation.json hold everything."])


def _told_mark(mark: str) -> str:
    return "the starter" if mark == "starter" else mark


def _cell(interval: dict[str, Any] | None) -> str:
    if not interval or interval["value"] is None:
        return "-"
    ends = f" [{interval['low']:.2f}, {interval['high']:.2f}]" if interval["low"] is not None else ""
    return f"{interval['value']:.3f}{ends}"
