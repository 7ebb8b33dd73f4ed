"""Decided cases go to `ingest` as a batch of their own, once, whatever is killed in between.

The answer that decided a case wrote its outbox row in its own transaction. From there:

1. `export_reviewed(root, settings)` settles anew what was decided by another number of reviewers (feedback/cases.py); brings the
   media of the rows that may go now, and looks whether they are what people have seen; claims these rows (`claim`: one
   transaction; from then on nobody can take an answer back), writes media and labels.csv to `.vigil/outbox/<batch>/` and returns
   the folder; `source(folder)` says how `ingest` reads it.
2. `ingest` takes it like any other source; its samples are known by content hash, so twice is the same as once.
3. `mark_ingested(root, settings, batch_of)` closes the rows whose media are in a manifest, and removes the folder with the last of them.

A crash before 3 means that 1 and 2 run again and add nothing; a crash inside 1 leaves a hidden folder that the next run
removes. A batch is named by what it holds: the same rows give the same folder. Two at once wait for one another.

No account may fill a batch with what it sent in: of one account at most `queue.source_cap` of a batch is handed over (or
`queue.source_cap_free` cases, where that is more), whatever keys it used; the rest waits for the next.
"""

import csv
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from feedback import audit
from feedback.cases import Cases
from feedback.database import Database, exists, now
from feedback.gathering import put_aside
from feedback.keep import OUTBOX_FOLDER, MediaMissing, MediaStore
from feedback.tables import CASES, OUTBOX, REVIEWS
from media.names import AVIF_BRANDS, TIFF_MARKS, begins_as_photo
from workspace.files import CsvLines, atomic_file, private_folder, sha256_file
from workspace.settings import IdentityRule, QueueSettings, Settings, SourceSettings

LOG = logging.getLogger("vigil.handover")
LOCK = Path(".vigil/locks/handover.lock")
TABLE = "labels.csv"
BROUGHT = ".part"  # the folder that is being made
COLUMNS = ("path", "label", "use", "identity", "generator", "kind", "source", "case_id", "labelled_by", "unsure_model")  # ingest reads up to case_id
SOURCE_NAME = "feedback"
WHO = "system:handover"
Waiting = dict[str, Any]


def export_reviewed(root: Path, settings: Settings) -> Path | None:
    """Write the decided cases that may go to training now as one folder; returns the folder, or None with nothing to hand over.

    Labels `real` and `fake` only; `use` is train; `identity` is what the reviewers knew, else empty, and such a sample only
    ever trains; `generator` of a fake is `reported`. Safe to repeat: the same rows give the same folder.
    A case whose media are gone, or are not that file any more, is left out and logged; it comes along once they are back. Raises StoreSilent.
    What the service had asked about for a batch that was dropped since is put aside first (feedback/gathering.py).
    """
    if not exists(root, settings):
        return None
    with _lock(root), closing(Database(root, settings)) as database:
        cases = Cases(database, settings.feedback)
        put_aside(root, cases)
        cases.settle_anew()
        names = _bring(root, database, settings.feedback.queue, MediaStore(root, settings))
        rows = claim(database, settings.feedback.queue, of=names)
        if not rows:
            _remove_other_folders(root, keep="")
            return None
        folder = root / OUTBOX_FOLDER / _batch_name(rows)
        _publish(_write_table(root, rows, names), folder)
        _remove_other_folders(root, keep=folder.name)
        return folder


def source(folder: Path) -> SourceSettings:
    """How `ingest` has to read an exported folder: a CSV whose `identity` column says who is in a file, empty where nobody knows."""
    return SourceSettings(name=SOURCE_NAME, path=str(folder / TABLE), layout="csv", identity=IdentityRule(rule="column", pattern=""))


def mark_ingested(root: Path, settings: Settings, batch_of: Mapping[tuple[str, str], str]) -> int:
    """Close the rows whose label ingest has: `batch_of` gives the batch of each (sample id, label) in a manifest, known and quarantined ones included.

    A sample id is the sha256 of the content, as it is here. That a content is known is not enough: its label may be what was asked for.
    Returns how many rows were closed; again returns 0.
    """
    if not exists(root, settings):
        return 0
    with _lock(root), closing(Database(root, settings)) as database:
        with database.write() as connection:
            pending = _not_ingested(connection)
            closed = [row for row in pending if (row["sha256"], row["label"]) in batch_of]
            moment = now()
            for row in closed:
                batch = batch_of[row["sha256"], row["label"]]
                values = {"state": "ingested", "batch": batch, "ingested_at": moment}
                connection.execute(update(OUTBOX).where(OUTBOX.c.case_id == row["case_id"]).values(**values))
                audit.append(connection, WHO, "case.ingested", f"case:{row['case_id']}", {"batch": batch, "sha256": row["sha256"]})
        left = [row for row in pending if row["state"] == "exported" and (row["sha256"], row["label"]) not in batch_of]
        if not left:  # those that wait for the next batch are in no folder
            _remove_other_folders(root, keep="")
        return len(closed)


def waiting(root: Path, settings: Settings) -> int:
    """How many decided cases the next batch would take; cheap."""
    if not exists(root, settings):
        return 0
    with closing(Database(root, settings)) as database, database.read() as connection:
        queue = settings.feedback.queue
        return len(within_caps([*_may_go(connection, queue), *Cases(database, settings.feedback).to_be_settled(connection)], queue))


def claim(database: Database, queue: QueueSettings, of: Collection[str] | None = None) -> list[Waiting]:
    """The rows of the next batch: those that were claimed before and not ingested, and those waiting that the caps let through; of these cases alone, or all.

    They are marked `exported` in the same transaction, so an answer that is being handed over can no longer be taken back.
    """
    with database.write() as connection:
        chosen = within_caps([row for row in _may_go(connection, queue) if of is None or row["case_id"] in of], queue)
        if not chosen:
            return []
        batch, moment = _batch_name(chosen), now()
        for row in chosen:
            if row["state"] == "exported" and row["batch"] == batch:
                continue
            connection.execute(update(OUTBOX).where(OUTBOX.c.case_id == row["case_id"]).values(state="exported", batch=batch, exported_at=moment))
            if row["state"] == "waiting":
                told = {"batch": batch, "label": row["label"], "labelled_by": row["labelled_by"], "model_sha256": row["model_sha256"], "sha256": row["sha256"]}
                audit.append(connection, WHO, "case.handover", f"case:{row['case_id']}", told)
        return chosen


def within_caps(pending: Sequence[Waiting], queue: QueueSettings) -> list[Waiting]:
    """As many rows as the cap a source allows, the longest waiting first; what was claimed before stays. The order is that of `pending`."""
    have = Counter(row["owner_id"] for row in pending)
    claimed = Counter(row["owner_id"] for row in pending if row["state"] == "exported")
    while True:  # each round lowers some number, or is the last
        limit = max(queue.source_cap_free, int(queue.source_cap * sum(have.values())))
        fitting = Counter({owner: max(claimed[owner], min(number, limit)) for owner, number in have.items()})
        if fitting == have:
            break
        have = fitting
    left = have - claimed
    chosen = []
    for row in sorted(pending, key=lambda row: (row["created_at"], row["case_id"])):
        if row["state"] == "exported":
            chosen.append(row)
        elif left[row["owner_id"]] > 0:
            left[row["owner_id"]] -= 1
            chosen.append(row)
    ids = {row["case_id"] for row in chosen}
    return [row for row in pending if row["case_id"] in ids]


def _bring(root: Path, database: Database, queue: QueueSettings, media: MediaStore) -> dict[str, str]:
    """Put the media that the next batch may take under a hidden name; returns what the file of each case is called there.

    One lost file keeps no other label from training: a case whose media are gone, or another file by now, is left out and logged.
    """
    with database.read() as connection:
        pending = _may_go(connection, queue)
    names: dict[str, str] = {}
    if not pending:
        return names
    hidden = private_folder(root / OUTBOX_FOLDER) / BROUGHT
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    while new := [row for row in within_caps([row for row in pending if names.get(row["case_id"], "?")], queue) if row["case_id"] not in names]:
        for row in new:
            names[row["case_id"]] = _brought(row, media, hidden)
    return {case_id: name for case_id, name in names.items() if name}


def _brought(row: Waiting, media: MediaStore, hidden: Path) -> str:
    """The name under which the media of a case lie in the folder now; '' where they are lost. What people have not seen never goes under their answer."""
    sha256, what = row["sha256"], "are gone"
    with suppress(MediaMissing, FileNotFoundError), media.local(sha256) as kept:  # or erased in this very moment
        name = str(sha256) + media_suffix(kept)
        _link_or_copy(kept, hidden / name)
        if sha256_file(hidden / name) == sha256:
            return name
        (hidden / name).unlink()
        what = "are not that file any more"
    next_step = "Put the file back where media are kept, named by its hash, or erase the upload."
    LOG.warning("Decided case %s is not handed over: its media %s %s. %s", row["case_id"], sha256, what, next_step)
    return ""


def _may_go(connection: Connection, queue: QueueSettings) -> list[Waiting]:
    """What was claimed before, and what is decided by as many who agree as are needed, whatever number was when it was decided."""
    rows = _not_ingested(connection)
    return [row for row in rows if row["state"] == "exported" or (row["decided"] and len(row["labelled_by"]) >= queue.reviewers_needed)]


def _not_ingested(connection: Connection) -> list[Waiting]:
    """Outbox rows that training has not got, in order of case id; an erased case is none of them."""
    query = (
        select(
            OUTBOX.c.case_id, OUTBOX.c.state, OUTBOX.c.batch, OUTBOX.c.created_at,
            *(CASES.c[name] for name in ("sha256", "kind", "label", "identity", "owner_id", "model_sha256")), CASES.c.state.label("case_state"), CASES.c.gold,
        )
        .join(CASES, CASES.c.id == OUTBOX.c.case_id)
        .where(OUTBOX.c.state != "ingested", CASES.c.state != "erased")
        .order_by(OUTBOX.c.case_id)
    )  # fmt: skip
    rows = [dict(row) for row in connection.execute(query).mappings()]
    said: dict[str, list[str]] = {}
    answers = (
        select(REVIEWS.c.case_id, REVIEWS.c.reviewer_id, REVIEWS.c.label)
        .join(OUTBOX, OUTBOX.c.case_id == REVIEWS.c.case_id)
        .where(OUTBOX.c.state != "ingested", REVIEWS.c.undone_at == "")
        .order_by(REVIEWS.c.created_at, REVIEWS.c.id)
    )
    for case_id, reviewer_id, label in connection.execute(answers).all():
        said.setdefault(f"{case_id} {label}", []).append(reviewer_id)
    for row in rows:
        row["decided"] = row["case_state"] == "decided" and not row["gold"]
        row["labelled_by"] = said.get(f"{row['case_id']} {row['label']}", [])
    return rows


def _batch_name(rows: Sequence[Waiting]) -> str:
    content = json.dumps([[row["case_id"], row["sha256"], row["label"], row["identity"]] for row in rows])
    return f"feedback-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _write_table(root: Path, claimed: Sequence[Waiting], names: Mapping[str, str]) -> Path:
    """Write the table beside the media that were brought, of which only those of the claimed cases stay; nobody reads the folder before `_publish`."""
    hidden = root / OUTBOX_FOLDER / BROUGHT
    for file in {*names.values()} - {names[row["case_id"]] for row in claimed}:  # an answer was taken back meanwhile
        (hidden / file).unlink(missing_ok=True)
    rows = [
        {
            "path": names[row["case_id"]],
            "label": row["label"],
            "use": "train",
            "identity": row["identity"],
            "generator": "reported" if row["label"] == "fake" else "",
            "kind": row["kind"],
            "source": SOURCE_NAME,
            "case_id": row["case_id"],
            "labelled_by": " ".join(row["labelled_by"]),
            "unsure_model": row["model_sha256"],
        }
        for row in claimed
    ]
    _write_rows(hidden / TABLE, rows)
    return hidden


def _write_rows(table: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with atomic_file(table) as handle:
        writer = csv.DictWriter(CsvLines(handle), COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _link_or_copy(kept: Path, to: Path) -> None:
    try:
        os.link(kept, to)
    except OSError:  # a file system without hard links
        shutil.copyfile(kept, to)


def _publish(hidden: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed: its files may be others by now
    os.rename(hidden, folder)


def _remove_other_folders(root: Path, keep: str) -> None:
    """Folders of earlier exports and of killed ones: their rows are in `keep`, or training has them."""
    for folder in (root / OUTBOX_FOLDER).glob("*"):
        if folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)


def remove_copies(root: Path, sha256: str) -> None:
    """Delete what is on its way to training of an erased file, and its row, which names people. An ingest that reads it now leaves it out, or comes again."""
    for copy in (root / OUTBOX_FOLDER).glob(f"*/{sha256}*"):
        copy.unlink(missing_ok=True)
    for table in (root / OUTBOX_FOLDER).glob(f"*/{TABLE}"):
        with suppress(FileNotFoundError):  # its folder went, or was given its name, at this moment
            with open(table, encoding="utf-8", newline="") as handle:
                rows = list(csv.DictReader(handle))
            if (others := [row for row in rows if not row["path"].startswith(sha256)]) != rows:
                _write_rows(table, others)


def media_suffix(path: Path) -> str:
    """The file name ending that fits the first bytes of `path`, for readers that go by names; `.bin` when unknown."""
    with open(path, "rb") as handle:
        head = handle.read(16)
    if head[4:8] == b"ftyp" and begins_as_photo(head):
        return ".avif" if head[8:12] in AVIF_BRANDS else ".heic"
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
    *((0, mark, ".tif") for mark in TIFF_MARKS),
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
