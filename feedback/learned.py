"""Which models learned from a case or a sample: the training tables of their cycles name both.

A cycle's commit keeps the hash of its training table (dvc.lock under its tag), DVC's cache the table. What was read is kept
in `.vigil/learned/<cycle>.json`: a cycle that has ended never changes, and its table may be erased later, the answer not.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workspace.errors import VigilError
from workspace.files import read_json, write_json
from workspace.forgetting import CLIP_PREFIX, rows_that_begin
from workspace.journal import Event, Journal
from workspace.objects import LOCK, UNREADABLE, cache_of, cycle_tags, outputs_in, place_of
from workspace.revisions import git
from workspace.state import IMPORTED, Champion, batch_states, came_from, candidates, cycles, promoted

FOLDER = Path(".vigil/learned")
TABLE = "train.parquet"
HERE = Path("data/sets") / TABLE
CANNOT = "weights of the models named here were trained with it, or go on from such weights, and cannot unlearn it"
LOOK_AGAIN_SECONDS = 30.0  # for a table that is not here yet: a cycle's tag comes a moment after its last line in the journal
_cached: dict[Path, tuple[tuple[int, int], float, "_Known"]] = {}  # by when and how long the journal was, and until when what was read holds
_sets: dict[str, str] = {}  # by commit, which never changes, the md5 of data/sets: dvc.lock grows with every batch, and is parsed once
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Known:
    """What the journal and the noted tables say: of each case the models that learned from it, and how each batch stands."""

    learned: dict[str, list[dict[str, Any]]]
    batches: dict[str, str]


def learned_by(root: Path, case_id: str) -> list[dict[str, Any]]:
    """The promoted models whose training table holds the case, oldest first: {cycle, version, model_sha256}. Cheap to ask again."""
    return list(_known(root).learned.get(case_id, [])) if case_id else []


def batch_state(root: Path, batch: str) -> str:
    """How a batch stands (workspace/state.py, BATCH_STATES), '' where the journal knows of none of this name. Cheap to ask again."""
    return _known(root).batches.get(batch, "") if batch else ""


def learned_from(root: Path, samples: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """For each of these samples the models, promoted (`version` from 1) or not (0), whose weights know of it; oldest first.

    `goes_on_from` is '' for a model that was trained with a clip of the sample, or one forged with it: known from what was noted of the training
    tables, whatever was removed since, and from cards while the sample's faces are here. A model that was not, but goes on from the weights of
    one that was (or was taught by it), names the cycle of that one there.
    """
    events, samples = Journal(root).events(), list(samples)
    models = _models(events)
    noted = {cycle: set(found.get("samples", [])) for cycle, found in _noted(root, [model.cycle for model in models]).items()}
    cards = {model.cycle: root / model.path / "card.json" for model in models}
    lines, here = {model.cycle: came_from(events, model.cycle) for model in models}, _clips_of(root, samples)
    every = set[str]().union(*here.values())
    clips = {cycle: every.intersection(read_json(card).get("train_clips", [])) if card.is_file() else set() for cycle, card in cards.items()}
    found: dict[str, list[dict[str, Any]]] = {}
    for sample_id in samples:
        met = {model.cycle for model in models if sample_id[:CLIP_PREFIX] in noted[model.cycle] or here[sample_id] & clips[model.cycle]}
        through = {cycle: next((base for base in line if base in met), "") for cycle, line in lines.items() if cycle not in met}
        knowing = [model for model in models if through.get(model.cycle, "met")]
        found[sample_id] = [{**_named(model), "goes_on_from": through.get(model.cycle, "")} for model in knowing]
    return found


def joined(*lists: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The models of several lists, each once, in order."""
    return list({model["cycle"]: dict(model) for models in lists for model in models}.values())


def remember(root: Path, cycle: str) -> None:
    """Note what the training table that lies in the workspace holds, for `cycle`, which made it. A table of another cycle is left alone."""
    if _cycle_here(root) == cycle:
        with contextlib.suppress(OSError, ValueError):
            _note(root, cycle, root / HERE)


def remember_all(root: Path, fetch: bool = False) -> None:
    """Note what every model was trained with, before tables are removed. `fetch`: read those that are not here from the remote, too."""
    if (lacking := not_known(root)) and fetch:
        with contextlib.suppress(VigilError):  # a remote out of reach: who then removes something from it says so
            _fetch_tables(root, lacking)
            not_known(root)


def not_known(root: Path) -> list[str]:
    """Cycles with a model of which nobody can say here what samples it was trained with: nothing was noted, and the training table is not here."""
    made = [model.cycle for model in _models(Journal(root).events()) if model.cycle != IMPORTED]
    return [cycle for cycle, found in _noted(root, made).items() if "samples" not in found]


def _known(root: Path) -> _Known:
    """Read again only when the journal has grown, or a training table that is not here yet may have come."""
    root = root.resolve()
    try:
        found = (root / "journal.jsonl").stat()
    except FileNotFoundError:
        return _Known({}, {})
    stamp = (found.st_mtime_ns, found.st_size)
    with _lock:
        kept = _cached.get(root)
        if kept is not None and kept[0] == stamp and time.monotonic() < kept[1]:
            return kept[2]
        events = Journal(root).events()
        closed = {one.cycle for one in cycles(events) if one.closed}
        index: dict[str, list[dict[str, Any]]] = {}
        models = [model for model in promoted(events).values() if model.cycle in closed]
        noted = _noted(root, [model.cycle for model in models])
        for model in models:
            for case_id in noted[model.cycle].get("cases", []):
                index.setdefault(case_id, []).append(_named(model))
        known = _Known(index, {name: batch.state for name, batch in batch_states(events).items()})
        _cached[root] = (stamp, float("inf") if all(noted.values()) else time.monotonic() + LOOK_AGAIN_SECONDS, known)
        return known


def _models(events: Sequence[Event]) -> list[Champion]:
    """Every model that was made or promoted, oldest first."""
    return list({**candidates(events), **promoted(events)}.values())


def _named(model: Champion) -> dict[str, Any]:
    return {"cycle": model.cycle, "version": model.version, "model_sha256": model.model_sha256}


def _clips_of(root: Path, samples: Sequence[str]) -> dict[str, set[str]]:
    """For each sample the sha256 of its clips, and of those forged with it, whose faces are here."""
    clips: dict[str, set[str]] = {sample_id: set() for sample_id in samples}
    of = {sample_id[:CLIP_PREFIX]: clips[sample_id] for sample_id in samples}
    names = ("sample_id", "source_clip", "donor_clip")
    for index in [*(root / "data").glob("faces/*/index.parquet"), *(root / "data").glob("forged/*/index.parquet")]:
        for row in rows_that_begin(index, ["sha256", *names], names, of):
            for name in names:
                if (start := row[name].partition("-")[0][:CLIP_PREFIX]) in of:
                    of[start].add(row["sha256"])
    return clips


def _noted(root: Path, named: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """By cycle the cases in its training table, and the first digits of its samples (what an older Vigil noted has none); {} where it is on another machine."""
    found = {cycle: _read(root, cycle) for cycle in named}
    lacking = [cycle for cycle, noted in found.items() if "samples" not in noted]
    if (here := _cycle_here(root)) in lacking:
        remember(root, here)
        found[here] = _read(root, here)
    for cycle, table in _tables_of(root, [cycle for cycle in lacking if "samples" not in found[cycle]]).items():
        with contextlib.suppress(OSError, ValueError):  # damaged in the cache
            _note(root, cycle, table)
        found[cycle] = _read(root, cycle)
    return found


def _cycle_here(root: Path) -> str:
    """Whose training table lies in the workspace, '' where none does, or nobody can say."""
    try:
        return str(read_json((root / HERE).with_name("report.json")).get("cycle", "")) if (root / HERE).is_file() else ""
    except (OSError, ValueError):
        return ""


def _read(root: Path, cycle: str) -> dict[str, list[str]]:
    try:
        noted = read_json(root / FOLDER / f"{cycle}.json")
        return {name: list(noted[name]) for name in ("cases", "samples") if name in noted}
    except (OSError, ValueError, TypeError):
        return {}


def _note(root: Path, cycle: str, table: Path) -> None:
    """Write down the cases and samples that a training table names. Raises OSError or ValueError for one that cannot be read."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(table, columns=["case_id", "sample_id", "source_clip", "donor_clip"]).to_pylist()
    cases = {row["case_id"] for row in rows if row["case_id"]}
    samples = {row[name].partition("-")[0][:CLIP_PREFIX] for row in rows for name in ("sample_id", "source_clip", "donor_clip") if row[name]}
    write_json(root / FOLDER / f"{cycle}.json", {"cycle": cycle, "cases": sorted(cases), "samples": sorted(samples)})


def _tables_of(root: Path, named: Sequence[str]) -> dict[str, Path]:
    """The training tables under the tags of these cycles, as far as DVC's cache has them."""
    try:
        cache = cache_of(root)
    except VigilError:
        return {}
    found = {cycle: place_of(cache, md5) for cycle, sets in _sets_of(root, named).items() if (md5 := _table_in(cache, sets))}
    return {cycle: table for cycle, table in found.items() if table.is_file()}


def _fetch_tables(root: Path, named: Sequence[str]) -> None:
    """Have the training tables under these cycles' tags in DVC's cache, where the remote has them. Raises DataError when it cannot be read."""
    from workspace.remote import fetch

    if sets := set(_sets_of(root, named).values()):
        fetch(root, sets)
        fetch(root, {md5 for folder in sets if (md5 := _table_in(cache_of(root), folder))})


def _sets_of(root: Path, named: Sequence[str]) -> dict[str, str]:
    """The md5 of data/sets under the tag of each of these cycles that has one."""
    try:
        tags = cycle_tags(root) if named else {}
    except VigilError:  # no repository
        return {}
    commits = {cycle: tags[f"vigil/{cycle}"] for cycle in named if f"vigil/{cycle}" in tags}
    for commit in commits.values():
        if commit not in _sets:
            with contextlib.suppress(*UNREADABLE, VigilError):
                _sets[commit] = outputs_in(git(root, "show", f"{commit}:./{LOCK}", check=False))["data/sets"]
    return {cycle: _sets[commit] for cycle, commit in commits.items() if commit in _sets}


def _table_in(cache: Path, sets: str) -> str:
    """The md5 of the training table in this version of data/sets, '' where its list of files is not in DVC's cache."""
    try:
        return str(next(entry["md5"] for entry in json.loads(place_of(cache, sets).read_bytes()) if entry["relpath"] == TABLE))
    except (*UNREADABLE, StopIteration):
        return ""
