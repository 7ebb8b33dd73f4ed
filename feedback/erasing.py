"""What a person wants erased: an upload, or a file whoever sent it.

What the service holds goes at once: the media and all that was made of them, the verdict, the case, its answers' notes. What
training holds goes at the next cycle, or with `vigil erase`: see feedback/forgetting.py. The weights of models that learned
from it cannot be unlearned; the erasure names these models. One file that several people sent is one file: it stays while
another's upload holds it, unless an admin erases the file. A batch that has it from a source of its own keeps it too, and the
erasure names it; what the service itself brought out of a batch to show it to people (feedback/gathering.py) goes out of the
batches as well.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, select, update

from feedback import audit
from feedback.access import Actor
from feedback.database import Database, now
from feedback.handover import remove_copies
from feedback.keep import MediaStore
from feedback.learned import CANNOT, joined, learned_by, learned_from
from feedback.retention import remember_fake, ways_called_fake
from feedback.tables import BROUGHT, CASES, DELIVERIES, DETECTIONS, ERASURES, MEDIA, OUTBOX, REVIEWS
from workspace.forgetting import batches_with

ELSEWHERE = "{batches} has it from a source of its own and keeps it, until an admin runs `vigil erase {sha256}`"
NO_CYCLE = "the next cycle takes it out of the training data"


@dataclass(frozen=True, slots=True)
class Held:
    """What training has of a file: the models that learned from it, and the batches that hold it, each with the case that its row names."""

    models: list[dict[str, Any]]
    batches: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file of which something is to be erased. `everywhere`: where it goes, it goes out of every batch, whatever its source."""

    sha256: str
    who: str
    why: str
    everywhere: bool
    held: Held


class Erasing:
    """The erasing of one service. Safe to use from several threads and processes."""

    def __init__(self, database: Database, media: MediaStore) -> None:
        self.database, self.media = database, media

    def erase(self, actor: Actor, detection_id: str, why: str = "", held: Mapping[str, Held] | None = None) -> dict[str, Any]:
        """Erase one upload; returns {"sha256", "state": erased | held, "held_by", "training", "kept_in", "models", "next"}. Again is harmless.

        `held`: others sent the same file; this upload and its verdict are gone, the file stays for theirs. `training`: requested, done, kept
        (`kept_in` names the batches that have the file from a source of their own), or none. Of what was erased before, the record of that time
        is told and stays. `held` is what training has of the file, where it was asked already. Raises KeyError for no such upload.
        """
        upload = select(DETECTIONS).where(DETECTIONS.c.id == detection_id)
        with self.database.read() as connection:
            row = connection.execute(upload).mappings().one_or_none()
        if row is None:
            raise KeyError(detection_id)
        sha256 = str(row["sha256"])
        held = held or held_by_training(self.database.root, [sha256])  # reads many files: not while others wait to write
        with self.database.write() as connection:
            row = connection.execute(upload).mappings().one()  # as it is by now
            everywhere = str(row["source"]).startswith(BROUGHT)
            before = _recorded(connection, sha256, everywhere) if row["state"] == "erased" else None
            if before and self.media.lies(sha256):  # as in a bucket that was put back
                self.media.delete(sha256)
                audit.append(connection, actor.who, "media.deleted", f"media:{sha256}", {"why": "it was erased before"})
            told = before or self._erase(connection, _Wanted(sha256, actor.who, why, everywhere, held[sha256]), [dict(row)])
        self.database.empty_log()  # notes and names of people were in it
        return told

    def erase_file(self, actor: Actor, sha256: str, why: str = "", in_batches: bool = False, held: Mapping[str, Held] | None = None) -> dict[str, Any]:
        """Erase a file, whoever sent it, out of every batch whatever its source. Returns what `erase` does; raises KeyError for an unknown hash.

        `in_batches`: the batches hold it, so it is to be erased though nobody ever sent it to the service.
        """
        held = held or held_by_training(self.database.root, [sha256])
        with self.database.write() as connection:
            rows = [dict(row) for row in connection.execute(select(DETECTIONS).where(DETECTIONS.c.sha256 == sha256)).mappings()]
            if not rows and not in_batches:
                raise KeyError(sha256)
            if all(row["state"] == "erased" for row in rows):
                audit.append(connection, actor.who, "sample.erase", f"media:{sha256}", {"why": why})
            told = self._erase(connection, _Wanted(sha256, actor.who, why, everywhere=True, held=held[sha256]), rows)
        self.database.empty_log()
        return told

    def erasures(self) -> list[dict[str, Any]]:
        """Every erased file: by hash, when, who, why, and what was done; the oldest first."""
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(select(ERASURES).order_by(ERASURES.c.requested_at, ERASURES.c.sha256)).mappings()]

    def _erase(self, connection: Connection, wanted: _Wanted, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Erase these uploads of the file, and the file itself where nobody else's holds it."""
        sha256 = wanted.sha256
        fresh = [row["id"] for row in rows if row["state"] != "erased"]
        called_fake = ways_called_fake(connection, sha256)
        blank = {"state": "erased", "verdict": "", "answer": None, "p_fake": None, "novelty": None, "lease_by": "", "lease_until": "", "progress": 0.0}
        connection.execute(update(DETECTIONS).where(DETECTIONS.c.id.in_(fresh)).values(**blank, kind="", group_id="", case_id=None))
        if fresh:  # one look through all deliveries, whatever their number: nobody else writes meanwhile
            connection.execute(delete(DELIVERIES).where(DELIVERIES.c.body["data", "id"].as_string().in_(fresh)))
        holding = select(DETECTIONS.c.owner_id, DETECTIONS.c.source).where(_held_by_uploads(sha256))
        others = connection.execute(holding.order_by(DETECTIONS.c.number)).all()
        found = connection.execute(select(CASES).where(CASES.c.sha256 == sha256)).mappings().one_or_none()
        case = None if found is None else dict(found)
        if others:
            remember_fake(connection, sha256, called_fake)
            outcome = self._leave_to_others(connection, sha256, case, rows, fresh, others)
        else:
            outcome = self._erase_last(connection, wanted, case, [row["id"] for row in rows])
        told = {"sha256": sha256, "why": wanted.why, "detections": fresh, "held_by": len(others), "everywhere": wanted.everywhere}
        for detection_id in fresh:
            audit.append(connection, wanted.who, "detection.erase", f"detection:{detection_id}", told)
        return {"sha256": sha256, "held_by": len(others), **outcome}

    def _leave_to_others(
        self, connection: Connection, sha256: str, case: dict[str, Any] | None, rows: list[dict[str, Any]], fresh: list[str], others: Sequence[Row[Any]]
    ) -> dict[str, Any]:
        """Others hold the same file: it stays, and its case goes to them; what was made of the erased uploads goes."""
        for detection_id in fresh:
            self.media.delete_derived(sha256, detection_id)
        if case is not None and case["state"] != "erased":
            # the upload that opened it may be the one that goes
            connection.execute(update(DETECTIONS).where(_held_by_uploads(sha256), DETECTIONS.c.case_id.is_(None)).values(case_id=case["id"]))
            if case["owner_id"] not in {other.owner_id for other in others}:
                connection.execute(update(CASES).where(CASES.c.id == case["id"]).values(owner_id=others[0].owner_id, source=others[0].source))
        if {row["owner_id"] for row in rows} != {other.owner_id for other in others}:
            next_step = "The same file was sent by others too; it stays for them."
        elif len(others) == 1:
            next_step = "The same account sent this file again; it stays until that upload is erased too."
        else:
            next_step = f"The same account sent this file {len(others)} more times; it stays until those uploads are erased too."
        return {"state": "held", "training": "", "kept_in": [], "models": [], "next": next_step}

    def _erase_last(self, connection: Connection, wanted: _Wanted, case: dict[str, Any] | None, ids: list[str]) -> dict[str, Any]:
        """Nobody holds the file any more: its media, its case, and the word to training."""
        sha256, held = wanted.sha256, wanted.held
        case_id, handed_over = ("", "") if case is None else (str(case["id"]), _blank_case(connection, case["id"]))
        before = connection.execute(select(ERASURES).where(ERASURES.c.sha256 == sha256)).mappings().one_or_none()
        earlier: dict[str, Any] = dict(before["detail"]) if before is not None else {}
        models = joined(earlier.get("models", []), learned_by(self.database.root, case_id), held.models)
        in_batch = bool(case_id) and case_id in held.batches.values()  # also in one that was dropped, where the label goes to another or was taken back
        requested = bool(handed_over) or in_batch or wanted.everywhere or (before is not None and before["state"] == "requested")
        everywhere = wanted.everywhere or bool(earlier.get("everywhere"))
        kept_in = [] if requested and everywhere else [batch for batch, case_of in held.batches.items() if not case_of or case_of != case_id]
        detail = {
            **earlier,
            "detections": sorted({*earlier.get("detections", []), *ids}),
            "case_id": case_id,
            "everywhere": everywhere,
            "kept_in": kept_in,
            "models": models,
            "cannot": CANNOT if models else "",
        }
        values = {"requested_at": now(), "requested_by": wanted.who, "why": wanted.why, "detail": detail}
        values |= {"state": "requested", "done_at": ""} if requested else {"state": "done", "done_at": now()}
        if before is None:
            connection.execute(ERASURES.insert().values(sha256=sha256, **values))
        else:
            connection.execute(update(ERASURES).where(ERASURES.c.sha256 == sha256).values(**values))
        gone = {"state": "deleted", "state_since": now(), "why": "erased on request"}
        connection.execute(update(MEDIA).where(MEDIA.c.sha256 == sha256).values(**gone))
        self.media.delete(sha256)  # before the commit: a kill here leaves a request to repeat, never media that nobody remembers
        remove_copies(self.database.root, sha256)
        training = "requested" if requested else "kept" if kept_in else "none"
        return {"state": "erased", "training": training, "kept_in": kept_in, "models": models, "next": _said(sha256, training, kept_in, models)}


def taken_out(detail: Mapping[str, Any]) -> bool:
    """Whether an erasure found the file in a batch, and took it out; else it says in words why there was nothing to take out."""
    return isinstance(detail.get("training"), dict)


def held_by_training(root: Path, samples: Collection[str]) -> dict[str, Held]:
    """What training has of each of these files. Reads every manifest and every table of clips once, however many are asked for."""
    learned, batches = learned_from(root, samples), batches_with(root, samples)
    return {sha256: Held(learned[sha256], batches[sha256]) for sha256 in samples}


def _held_by_uploads(sha256: str) -> ColumnElement[bool]:
    """The uploads that hold a file still."""
    return (DETECTIONS.c.sha256 == sha256) & (DETECTIONS.c.state != "erased")


def _blank_case(connection: Connection, case_id: str) -> str:
    """Take out of a case, and its answers, all that tells of its media, and take it back from what waits for training; returns how its hand-over stands."""
    connection.execute(delete(OUTBOX).where(OUTBOX.c.case_id == case_id, OUTBOX.c.state == "waiting"))
    handed_over = connection.execute(select(OUTBOX.c.state).where(OUTBOX.c.case_id == case_id)).scalar_one_or_none() or ""
    blank: dict[str, Any] = {
        "state": "erased",
        "label": "",
        "identity": "",
        "gold": "",
        "why": "",
        "said": [],
        "p_fake": None,
        "novelty": None,
        "embedding": None,
        "uncertainty": 0.0,
    }
    connection.execute(update(CASES).where(CASES.c.id == case_id).values(**blank))
    connection.execute(update(REVIEWS).where(REVIEWS.c.case_id == case_id).values(note="", identity=""))
    connection.execute(update(REVIEWS).where(REVIEWS.c.case_id == case_id, REVIEWS.c.undone_at == "").values(undone_at=now()))
    return str(handed_over)


def _said(sha256: str, training: str, kept_in: list[str], models: list[dict[str, Any]]) -> str:
    """What follows from an erasure, in words for who asked for it."""
    elsewhere = f" {ELSEWHERE.format(batches=', '.join(kept_in), sha256=sha256)}." if kept_in else ""
    if training == "requested":
        return f"Erased; {NO_CYCLE} (or run `vigil erase`).{elsewhere}"
    if training == "kept":
        return f"Erased here.{elsewhere}"
    if training == "done":
        return "Erased, out of the training data too."
    return "Erased; no batch has it any more." if models else "Erased; training never got it."


def _recorded(connection: Connection, sha256: str, everywhere: bool) -> dict[str, Any] | None:
    """What was said of a file that nobody holds any more; None where one does, where it was never erased, or is to go out of the batches now too."""
    holding = select(DETECTIONS.c.id).where(_held_by_uploads(sha256))
    row = connection.execute(select(ERASURES).where(ERASURES.c.sha256 == sha256)).mappings().one_or_none()
    if row is None or (everywhere and not row["detail"].get("everywhere")) or connection.execute(holding.limit(1)).first() is not None:
        return None
    kept_in, models = list(row["detail"].get("kept_in", [])), list(row["detail"].get("models", []))
    training = "requested" if row["state"] == "requested" else "kept" if kept_in else "done" if taken_out(row["detail"]) else "none"
    told = {"state": "erased", "training": training, "kept_in": kept_in, "models": models, "next": _said(sha256, training, kept_in, models)}
    return {"sha256": sha256, "held_by": 0, **told}
