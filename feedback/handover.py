"""Reviewed cases go to `ingest` as a batch of their own, once, whatever is killed in between.

The review wrote an outbox row in its own transaction. From there:

1. `export_reviewed(root)` writes every row that training has not got to `.vigil/outbox/<batch>/` (media and labels.csv)
   and returns the folder; `source(folder)` says how `ingest` reads it.
2. `ingest` takes it like any other source; its samples are known by content hash, so twice is the same as once.
3. `mark_ingested(root, sample_ids)` closes the rows whose media are in a manifest, and removes the folder.

A crash before 3 means that 1 and 2 run again and add nothing; a crash inside 1 leaves a hidden folder that the next run
removes. A batch is named by what it holds: the same pending rows give the same folder.
"""

import csv
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feedback.store import DATABASE, FeedbackStore
from workspace.errors import DataError
from workspace.settings import IdentityRule, SourceSettings

OUTBOX_FOLDER = Path(".vigil/outbox")
LOCK = Path(".vigil/locks/handover.lock")
TABLE = "labels.csv"
COLUMNS = ("path", "label", "use", "identity", "generator", "kind", "source", "case_id")
SOURCE_NAME = "feedback"


def export_reviewed(root: Path) -> Path | None:
    """Write all reviewed cases that training has not got as one folder; returns the folder, or None with nothing to hand over.

    Labels `real` and `fake` only; `use` is train; `identity` is what the reviewer knew, else empty, and such a sample only
    ever trains; `generator` of a fake is `reported`. Safe to repeat: the same pending rows give the same folder.
    Raises DataError when the media of a reviewed case are gone.
    """
    if not (root / DATABASE).is_file():
        return None
    with _lock(root), _store(root) as store:
        pending = store.not_ingested()
        if not pending:
            _remove_other_folders(root, keep="")
            return None
        batch = _batch_name(pending)
        folder = root / OUTBOX_FOLDER / batch
        if not (folder / TABLE).is_file():
            _publish(_write_folder(root, batch, pending, store), folder)
        store.mark_exported([row["case_id"] for row in pending], batch)
        _remove_other_folders(root, keep=batch)
        return folder


def source(folder: Path) -> SourceSettings:
    """How `ingest` has to read an exported folder: a CSV whose `identity` column says who is in a file, empty where nobody knows."""
    return SourceSettings(name=SOURCE_NAME, path=str(folder / TABLE), layout="csv", identity=IdentityRule(rule="column", pattern=""))


def mark_ingested(root: Path, sample_ids: Iterable[str]) -> int:
    """Close the rows whose media ingest has: `sample_ids` are those of manifests, known and quarantined ones included.

    A sample id is the sha256 of the content, as it is here. Returns how many rows were closed; again returns 0.
    """
    if not (root / DATABASE).is_file():
        return 0
    have = set(sample_ids)
    with _lock(root), _store(root) as store:
        pending = store.not_ingested()
        closed = store.mark_ingested(row["case_id"] for row in pending if row["sha256"] in have)
        if closed == len(pending):
            _remove_other_folders(root, keep="")
        return closed


def waiting(root: Path) -> int:
    """How many reviewed cases training has not got; cheap."""
    if not (root / DATABASE).is_file():
        return 0
    with _store(root) as store:
        return len(store.not_ingested())


def _batch_name(pending: Sequence[Mapping[str, Any]]) -> str:
    content = json.dumps([[row["case_id"], row["sha256"], row["label"], row["identity"]] for row in pending])
    return f"feedback-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _write_folder(root: Path, batch: str, pending: Sequence[Mapping[str, Any]], store: FeedbackStore) -> Path:
    """Media and table under a hidden name; nobody reads it before `_publish`."""
    hidden = root / OUTBOX_FOLDER / f".{batch}.part"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    rows = []
    for row in pending:
        kept = store.media_path(row["sha256"])
        if not kept.is_file():
            raise DataError(
                f"Reviewed case {row['case_id']} cannot be handed over. Nothing was handed over.",
                why=f"its media {kept.relative_to(root)} are gone",
                next_step="Put the file with this sha256 back (it is named by its hash), then run again.",
            )
        name = row["sha256"] + media_suffix(kept)
        _link_or_copy(kept, hidden / name)
        rows.append(
            {
                "path": name,
                "label": row["label"],
                "use": "train",
                "identity": row["identity"],
                "generator": "reported" if row["label"] == "fake" else "",
                "kind": row["kind"],
                "source": SOURCE_NAME,
                "case_id": row["case_id"],
            }
        )
    with open(hidden / TABLE, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        handle.flush()
        os.fsync(handle.fileno())
    return hidden


def _link_or_copy(kept: Path, to: Path) -> None:
    try:
        os.link(kept, to)
    except OSError:  # a file system without hard links
        shutil.copyfile(kept, to)


def _publish(hidden: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # only ever a folder without a table: not one of ours, or damaged
    os.rename(hidden, folder)


def _remove_other_folders(root: Path, keep: str) -> None:
    """Folders of earlier exports and of killed ones: their rows are in `keep`, or training has them."""
    for folder in (root / OUTBOX_FOLDER).glob("*"):
        if folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)


def media_suffix(path: Path) -> str:
    """The file name ending that fits the first bytes of `path`, for readers that go by names; `.bin` when unknown."""
    with open(path, "rb") as handle:
        head = handle.read(16)
    for at, magic, suffix in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return suffix
    return ".bin"


_MAGIC = (
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG", ".png"),
    (8, b"WEBP", ".webp"),
    (8, b"AVI ", ".avi"),
    (0, b"BM", ".bmp"),
    (0, b"II*\x00", ".tif"),
    (0, b"MM\x00*", ".tif"),
    (0, b"\x1aE\xdf\xa3", ".mkv"),
    (4, b"ftypqt", ".mov"),
    (4, b"ftyp", ".mp4"),
    (4, b"moov", ".mov"),
    (0, b"\x00\x00\x01\xba", ".mpg"),
    (0, b"FLV", ".flv"),
    (0, b"OggS", ".ogv"),
    (0, b"GIF8", ".gif"),
)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One hand-over at a time in a workspace; ends with the process."""
    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _store(root: Path) -> Iterator[FeedbackStore]:
    store = FeedbackStore(root)
    try:
        yield store
    finally:
        store.close()
