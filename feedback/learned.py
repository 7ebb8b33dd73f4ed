"""Which models learned from a case: the training tables of promoted cycles name it.

A cycle's commit keeps the hash of its training table (dvc.lock under its tag), DVC's cache the table. What was read is kept
in `.vigil/learned/<cycle>.json`: a promoted cycle never changes, and its table may be erased later, the answer not.
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

from workspace.errors import VigilError
from workspace.files import read_json, write_json
from workspace.journal import Journal
from workspace.objects import LOCK, UNREADABLE, cache_of, outputs_in, place_of
from workspace.revisions import git
from workspace.state import Champion, cycles, promoted

FOLDER = Path(".vigil/learned")
TABLE = "train.parquet"
LOOK_AGAIN_SECONDS = 30.0  # for a table that is not here yet: a cycle's tag comes a moment after its last line in the journal
_cached: dict[Path, tuple[tuple[int, int], float, dict[str, list[dict[str, Any]]]]] = {}
_lock = threading.Lock()


def learned_by(root: Path, case_id: str) -> list[dict[str, Any]]:
    """The promoted models whose training table holds the case, oldest first: {cycle, version, model_sha256}. Cheap to ask again."""
    return list(_index(root).get(case_id, [])) if case_id else []


def learned_from(root: Path, sample_id: str) -> list[dict[str, Any]]:
    """The promoted models among whose training clips is one of this sample, or one forged with it, as their cards say. Ask before its faces are removed."""
    import pyarrow.parquet

    clips: set[str] = set()
    start = f"{sample_id[:16]}-"
    for index in [*(root / "data").glob("faces/*/index.parquet"), *(root / "data").glob("forged/*/index.parquet")]:
        rows = pyarrow.parquet.read_table(index, columns=["sample_id", "sha256", "source_clip", "donor_clip"]).to_pylist()
        clips |= {row["sha256"] for row in rows if row["sample_id"] == sample_id or row["source_clip"].startswith(start) or row["donor_clip"].startswith(start)}
    found = []
    for model in promoted(Journal(root).events()).values():
        card = root / model.path / "card.json"
        if clips and card.is_file() and clips & set(read_json(card).get("train_clips", [])):
            found.append({"cycle": model.cycle, "version": model.version, "model_sha256": model.model_sha256})
    return found


def remember(root: Path, cycle: str) -> None:
    """Note what the training table that lies in the workspace holds, for `cycle`, which made it. A table of another cycle is left alone."""
    table = root / "data" / "sets" / TABLE
    try:
        if read_json(table.with_name("report.json")).get("cycle") == cycle and table.is_file():
            write_json(root / FOLDER / f"{cycle}.json", {"cycle": cycle, "cases": _cases_in(table)})
    except (OSError, ValueError):
        return


def _index(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Case ids with the models that learned from them; read again only when the journal has grown."""
    root = root.resolve()
    try:
        found = (root / "journal.jsonl").stat()
    except FileNotFoundError:
        return {}
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
            cases = _cases_of(root, model)
            whole = whole and cases is not None
            for case_id in cases or ():
                index.setdefault(case_id, []).append({"cycle": model.cycle, "version": model.version, "model_sha256": model.model_sha256})
        _cached[root] = (stamp, float("inf") if whole else time.monotonic() + LOOK_AGAIN_SECONDS, index)
        return index


def _cases_of(root: Path, model: Champion) -> list[str] | None:
    """The cases in a promoted cycle's training table; None where the table is on another machine."""
    note = root / FOLDER / f"{model.cycle}.json"
    try:
        return list(read_json(note)["cases"])
    except (OSError, ValueError, KeyError):
        remember(root, model.cycle)
    if note.is_file():
        return list(read_json(note)["cases"])
    table = _table_of(root, model.cycle)
    if table is None:
        return None
    cases = _cases_in(table)
    write_json(note, {"cycle": model.cycle, "cases": cases})
    return cases


def _table_of(root: Path, cycle: str) -> Path | None:
    """The training table under the cycle's tag, as DVC's cache keeps it."""
    lock = git(root, "show", f"refs/tags/vigil/{cycle}:./{LOCK}", check=False)
    try:
        cache = cache_of(root)
        listed = json.loads(place_of(cache, outputs_in(lock)["data/sets"]).read_bytes())
        table = place_of(cache, next(entry["md5"] for entry in listed if entry["relpath"] == TABLE))
    except (*UNREADABLE, StopIteration, VigilError):
        return None
    return table if table.is_file() else None


def _cases_in(table: Path) -> list[str]:
    """Sorted ids of the cases that a training table names. Raises OSError for one that cannot be read."""
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(table, columns=["case_id"])["case_id"].unique().to_pylist()
    return sorted(case_id for case_id in found if case_id)
