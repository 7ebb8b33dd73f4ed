"""A workspace that was restored from a backup beside a database that lived on: what it lost since, and what it has again, by what the database knows.

- Labels that training got, in batches that the journal does not know: `hand_over_again` has them wait for the next batch. So it does with those of a
  batch that was dropped so that what it holds comes in again (`vigil batches drop --again`): the database is the source of these.
- What was taken out of the training data, and is in a batch again: `erase_again` asks for it once more (feedback/forgetting.py does it).
- Media that were deleted, by age or on request, and lie in the workspace again, or in their bucket (which may be put back alone): `erase_again` deletes them.

Any other batch that is dropped, held, or not on this machine is in the journal, and one of a `git clone` as well. Where nothing was restored, nothing else
is found. Safe to repeat: what is handed over is known by its content, and what was done is found no more. Each step is in the trail.
"""

import logging
import re
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from feedback import audit
from feedback.database import Database, exists
from feedback.erasing import taken_out
from feedback.forgetting import NOW, ask_again, erased_case
from feedback.handover import WHO as HANDOVER
from feedback.keep import MediaStore, StoreSilent, lying_here, one_of_many
from feedback.retention import WHO as RETENTION
from feedback.tables import CASES, ERASURES, MEDIA, OUTBOX
from workspace.errors import first_few, in_one_line
from workspace.forgetting import back_in_batches
from workspace.journal import Journal
from workspace.settings import Settings
from workspace.state import batch_states

LOG = logging.getLogger("vigil.keep")
EXPORT = re.compile(r"feedback-[0-9a-f]{16}")  # what the first service noted in place of a batch: the folder that it had handed over
MANY = 1000  # values of one question: SQLite takes some thousands
WHY = "this workspace was restored from a backup"
DROPPED = "its batch was dropped so that it comes in again"


@dataclass(frozen=True, slots=True)
class Restored:
    """How many labels come in again, and how many cannot since their media are gone; how many erased samples and deleted media are here again.

    As text it is one sentence, and '' where nothing was lost or came back.
    """

    labels: int = 0
    lost: int = 0
    erased: int = 0
    media: int = 0

    def __str__(self) -> str:
        said = []
        if self.labels:
            said.append(f"{_of(self.labels, 'label', 'handed over before')} in no batch here, to come in again with the next `vigil retrain`")
        if self.lost:
            said.append(f"{_of(self.lost, 'label', 'handed over before')} in no batch here, nor are the media: only a later backup has them")
        if self.erased:
            said.append(f"{_of(self.erased, 'file', 'erased')} in the training data again: out with the next cycle, {NOW}")
        if self.media:
            said.append(f"{_of(self.media, 'file', 'deleted')} there again: deleted with the next cycle, {NOW}")
        return f"the database is ahead of this workspace, as after a restore from a backup: {'; '.join(said)}" if said else ""


def look(root: Path, settings: Settings, bucket: bool = False) -> Restored:
    """What a restore left to be done; changes nothing. Reads the manifests only where something was ever erased out of them.

    `bucket`: look through that of the media too, which takes as long as listing it does.
    """
    if not exists(root, settings):
        return Restored()
    with closing(Database(root, settings)) as database:
        with database.read() as connection:
            rows = [row for row in _to_come_again(connection, root) if row["why"] == WHY]
            erased, media = _back_in_batches(connection, root), _deleted(connection, lying_here(root))
        if bucket:
            media |= _back_in_bucket(database, settings)
    labels = _kept(root, settings, rows)
    return Restored(len(labels), len(rows) - len(labels), len(erased), len(media))


def to_hand_over_again(root: Path, settings: Settings) -> int:
    """How many labels `hand_over_again` would have wait; cheap."""
    if not exists(root, settings):
        return 0
    with closing(Database(root, settings)) as database, database.read() as connection:
        rows = _to_come_again(connection, root)
    return len(_kept(root, settings, rows))


def hand_over_again(root: Path, settings: Settings) -> int:
    """Have the labels wait that training got in a batch which this workspace knows nothing of, or which was dropped to come again; returns how many."""
    if not exists(root, settings):
        return 0
    with closing(Database(root, settings)) as database:
        with database.read() as connection:
            rows = _to_come_again(connection, root)
        kept = {row["case_id"] for row in _kept(root, settings, rows)}  # asked before: nobody waits to write for what a store answers
        if not kept:
            return 0
        with database.write() as connection:
            labels = [row for row in _to_come_again(connection, root) if row["case_id"] in kept and row["media"] != "deleted"]
            for row in labels:
                waits = {"state": "waiting", "batch": "", "exported_at": "", "ingested_at": ""}
                connection.execute(update(OUTBOX).where(OUTBOX.c.case_id == row["case_id"]).values(**waits))
                told = {"batch": row["batch"], "sha256": row["sha256"], "why": row["why"]}
                audit.append(connection, HANDOVER, "case.handover_again", f"case:{row['case_id']}", told)
            return len(labels)


def erase_again(root: Path, settings: Settings, database: Database) -> int:
    """Ask again for what was erased and is in a batch once more, and delete media that were deleted; returns how many of these. The caller holds the lease.

    A file that cannot be deleted is logged, and keeps nothing else; a store that falls silent is logged too, and asked the next time.
    """
    stuck: list[str] = []
    with database.read() as connection:
        back, here = _back_in_batches(connection, root), _deleted(connection, lying_here(root))
    there = _back_in_bucket(database, settings)
    if not (back or here or there):
        return 0
    if back:
        with database.write() as connection:
            ask_again(connection, back, WHY)
    media, done = MediaStore(root, settings), set[str]()
    # what lies here goes whatever the bucket answers
    for sha256, delete in [*((one, media.delete_here) for one in sorted(here)), *((one, media.delete) for one in sorted(there))]:
        try:
            with one_of_many(sha256, stuck), database.write() as connection:  # one file a transaction: others wait for a moment only
                if _deleted(connection, {sha256}):  # whoever has sent it meanwhile keeps it
                    delete(sha256)
                    audit.append(connection, RETENTION, "media.deleted", f"media:{sha256}", {"why": WHY})
                    done.add(sha256)
        except StoreSilent as problem:
            stuck.append(f"{sha256} and what comes after it ({in_one_line(problem)})")
            break
    if stuck:
        LOG.warning("%d media that are to go again could not be deleted; the next time tries them again: %s", len(stuck), first_few(stuck))
    return len(done)


def _to_come_again(connection: Connection, root: Path) -> list[dict[str, Any]]:
    """The labels of batches that the journal does not know, or that were dropped to come in again; `why` says which."""
    got = select(OUTBOX.c.batch).where(OUTBOX.c.state == "ingested").distinct()
    named = {batch for batch in connection.execute(got).scalars() if batch and not EXPORT.fullmatch(batch)}
    states = batch_states(Journal(root).events())
    why = {batch: DROPPED if batch in states else WHY for batch in named if batch not in states or states[batch].again}
    if not why:
        return []
    query = (
        select(OUTBOX.c.case_id, OUTBOX.c.batch, CASES.c.sha256, MEDIA.c.state.label("media"))
        .join(CASES, CASES.c.id == OUTBOX.c.case_id)
        .join(MEDIA, MEDIA.c.sha256 == CASES.c.sha256)
        .where(OUTBOX.c.state == "ingested", OUTBOX.c.batch.in_(why), CASES.c.state != "erased")
        .order_by(OUTBOX.c.case_id)
    )
    return [{**row, "why": why[row["batch"]]} for row in connection.execute(query).mappings()]


def _kept(root: Path, settings: Settings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose media are there, and all of whom a store that has fallen silent says nothing: a hand-over asks it again."""
    kept, rows = [], [row for row in rows if row["media"] != "deleted"]
    if not rows:
        return []
    media = MediaStore(root, settings)
    for place, row in enumerate(rows):
        try:
            if media.has(row["sha256"]):
                kept.append(row)
        except StoreSilent:
            return [*kept, *rows[place:]]
    return kept


def _back_in_batches(connection: Connection, root: Path) -> set[str]:
    """Samples that were taken out of the training data, and that a batch has again."""
    done = connection.execute(select(ERASURES.c.sha256, ERASURES.c.detail).where(ERASURES.c.state == "done")).all()
    return back_in_batches(root, {row.sha256: erased_case(row.detail) for row in done if taken_out(row.detail)})


def _back_in_bucket(database: Database, settings: Settings) -> set[str]:
    """Files that were deleted, and that a bucket has again, where there is one. It is listed last: what is deleted meanwhile is not back."""
    with database.read() as connection:
        gone = set(connection.execute(select(MEDIA.c.sha256).where(MEDIA.c.state == "deleted")).scalars())
    return gone & MediaStore(database.root, settings).lying_in_buckets() if gone else set()


def _deleted(connection: Connection, lying: Collection[str]) -> set[str]:
    """Those of these files that were deleted; of one that is on its way in nothing is known yet."""
    names = sorted(lying)
    return {
        sha256
        for at in range(0, len(names), MANY)
        for sha256 in connection.execute(select(MEDIA.c.sha256).where(MEDIA.c.sha256.in_(names[at : at + MANY]), MEDIA.c.state == "deleted")).scalars()
    }


def _of(number: int, what: str, done: str) -> str:
    return f"{number} {what} that was {done} is" if number == 1 else f"{number} {what}s that were {done} are"
