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
from workspace.objects import LOCK, UNREADABLE, cache_of, outputs_in, place_of
from workspace.revisions import git
from workspace.state import IMPORTED, Champion, batch_states, came_from, candidates, cycles, promoted

FOLDER = Path(".vigil/learned")
TABLE = "train.parquet"
CANNOT = "weights of the models named here were trained with it, or go on from such weights, and cannot unlearn it"
LOOK_AGAIN_SECONDS = 30.0  # for a table that is not here yet: a cycle's tag comes a moment after its last line in the journal
_cached: dict[Path, tuple[tuple[int, int], float, "_Known"]] = {}  # by when and how long the journal was, and until when what was read holds
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
    noted = {model.cycle: set((_noted(root, model.cycle) or {}).get("samples", [])) for model in models}
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
    table = root / "data" / "sets" / TABLE
    try:
        if read_json(table.with_name("report.json")).get("cycle") == cycle and table.is_file():
            _note(root, cycle, table)
    except (OSError, ValueError):
        return


def remember_all(root: Path, fetch: bool = False) -> None:
    """Note what every model was trained with, before tables are removed. `fetch`: read those that are not here from the remote, too."""
    if (lacking := not_known(root)) and fetch:
        with contextlib.suppress(VigilError):  # a remote out of reach: who then removes something from it says so
            _fetch_tables(root, lacking)
            not_known(root)


def not_known(root: Path) -> list[str]:
    """Cycles with a model of which nobody can say here what samples it was trained with: nothing was noted, and the training table is not here."""
    made = [model.cycle for model in _models(Journal(root).events()) if model.cycle != IMPORTED]
    return [cycle for cycle in made if "samples" not in (_noted(root, cycle) or {})]


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
        whole = True
        for model in promoted(events).values():
            if model.cycle not in closed:
                continue
            noted = _noted(root, model.cycle)
            whole = whole and noted is not None
            for case_id in (noted or {}).get("cases", []):
                index.setdefault(case_id, []).append(_named(model))
        known = _Known(index, {name: batch.state for name, batch in batch_states(events).items()})
        _cached[root] = (stamp, float("inf") if whole else time.monotonic() + LOOK_AGAIN_SECONDS, known)
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


def _noted(root: Path, cycle: str) -> dict[str, list[str]] | None:
    """The cases in a cycle's training table, and the first digits of its samples (what an older Vigil noted has none); None where it is on another machine."""
    if "samples" in (noted := _read(root, cycle)):
        return noted
    remember(root, cycle)
    if "samples" not in _read(root, cycle) and (table := _table_of(root, cycle)) is not None:
        with contextlib.suppress(OSError, ValueError):  # damaged in the cache
            _note(root, cycle, table)
    return _read(root, cycle) or None


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


def _table_of(root: Path, cycle: str) -> Path | None:
    """The training table under the cycle's tag, as DVC's cache keeps it."""
    md5 = _table_in(root, _sets_of(root, cycle))
    table = place_of(cache_of(root), md5) if md5 else None
    return table if table is not None and table.is_file() else None


def _fetch_tables(root: Path, named: Iterable[str]) -> None:
    """Have the training tables under these cycles' tags in DVC's cache, where the remote has them. Raises DataError when it cannot be read."""
    from workspace.remote import fetch

    if sets := {md5 for cycle in named if (md5 := _sets_of(root, cycle))}:
        fetch(root, sets)
        fetch(root, {md5 for folder in sets if (md5 := _table_in(root, folder))})


def _sets_of(root: Path, cycle: str) -> str:
    """The md5 of data/sets under the cycle's tag, '' where there is none."""
    try:
        return outputs_in(git(root, "show", f"refs/tags/vigil/{cycle}:./{LOCK}", check=False)).get("data/sets", "")
    except (*UNREADABLE, VigilError):
        return ""


def _table_in(root: Path, sets: str) -> str:
    """The md5 of the training table in this version of data/sets, '' where its list of files is not in DVC's cache."""
    try:
        return str(next(entry["md5"] for entry in json.loads(place_of(cache_of(root), sets).read_bytes()) if entry["relpath"] == TABLE))
    except (*UNREADABLE, StopIteration, VigilError):
        return ""
