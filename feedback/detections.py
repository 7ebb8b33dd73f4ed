"""Detections: uploads that wait for a verdict, are being looked at, or have one. The table is the queue.

A worker claims a job for a while and renews it as it goes on; a job whose worker has been silent is given to another. The
verdict, its audit entry, the case that it opens and what webhooks are told are one transaction: whatever is killed, an
accepted upload has its verdict once, or is still queued.
"""

import logging
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, case, func, or_, select, update

from feedback import audit
from feedback.access import Actor
from feedback.cases import SAW
from feedback.database import NUL, Database, moment_of, new_id, now
from feedback.keep import STALE_SECONDS, UNSURE, MediaStore, StoreSilent, one_of_many
from feedback.retention import Retention
from feedback.sealing import seal
from feedback.tables import CASES, DETECTIONS, IDEMPOTENCY, MEDIA, SENT
from workspace.errors import DatabaseSilent, first_few
from workspace.files import sha256_file
from workspace.settings import FeedbackSettings

if TYPE_CHECKING:
    from feedback.cases import Cases
    from feedback.webhooks import Webhooks

LOG = logging.getLogger("vigil.keep")
CLAIMS = ("real", "fake")
RETRY_SECONDS = 5
ASKED_BEFORE = {
    "decided": "People have looked at this file already, and {label}.",
    "quarantined": "The case of this file is in quarantine: nobody is asked until it is released.",
}  # the states of a case in which a dispute would be shown to nobody
UNREADABLE = "looking at this file has failed {attempts} times, most likely because of what is in it: it is marked unreadable"


class QueueFull(Exception):
    """As many uploads wait as may."""

    retry_after_seconds = RETRY_SECONDS


class KeyReused(Exception):
    """An idempotency key came again with another question."""


class MediaGone(Exception):
    """A file was deleted between being stored and being accepted; store it again."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A received file that the media store keeps."""

    sha256: str
    size_bytes: int


class Detections:
    """The detections of one service. Safe to use from several threads and processes."""

    def __init__(self, database: Database, media: MediaStore, cases: "Cases", webhooks: "Webhooks", settings: FeedbackSettings) -> None:
        self.database, self.media, self.cases, self.webhooks, self.settings = database, media, cases, webhooks, settings
        self.retention = Retention(database, media, settings)

    # -- coming in ------------------------------------------------------------------------------------------------------------
    def make_room(self, files: int) -> None:
        """Raise QueueFull where so many more would not fit; asked before anything is stored."""
        with self.database.read() as connection:
            self._make_room(connection, files)

    def _make_room(self, connection: Connection, files: int) -> None:
        if _waiting(connection) + files > self.settings.workers.queue_length:
            raise QueueFull(f"{self.settings.workers.queue_length} files may wait.")

    def accept(
        self, actor: Actor, files: Sequence[Accepted], policy: str = "", mode: str = "", idempotency_key: str = "", fingerprint: str = ""
    ) -> list[dict[str, Any]]:
        """Queue files whose media are kept; the rows, in their order. The same key and fingerprint give the rows of the first time.

        Raises QueueFull, KeyReused, MediaGone.
        """
        moment, group = now(), new_id() if len(files) > 1 else ""
        with self.database.write() as connection:
            if idempotency_key and (before := self._replayed(connection, actor, idempotency_key, fingerprint)) is not None:
                return before
            self._make_room(connection, len(files))
            ids = []
            for file in files:
                self._keep(connection, file, moment)
                ids.append(new_id())
                about = {"owner_id": actor.user_id, "source": actor.source, "sha256": file.sha256, "bytes": file.size_bytes, "policy": policy, "mode": mode}
                connection.execute(DETECTIONS.insert().values(id=ids[-1], created_at=moment, group_id=group, state="queued", **about))
                audit.append(
                    connection, actor.who, "detection.upload", f"detection:{ids[-1]}", {"sha256": file.sha256, "bytes": file.size_bytes, "policy": policy}
                )
            if idempotency_key:
                row = {"owner_id": actor.user_id, "key": idempotency_key, "fingerprint": fingerprint, "created_at": moment, "detection_ids": ids}
                connection.execute(IDEMPOTENCY.insert().values(**row))
            return [_one(connection, detection_id) or {} for detection_id in ids]

    def knows(self, actor: Actor, idempotency_key: str) -> bool:
        """Whether something was accepted under this key before: then there is nothing to find room for."""
        with self.database.read() as connection:
            return connection.execute(_of_key(actor, idempotency_key)).first() is not None

    def replayed(self, actor: Actor, idempotency_key: str, fingerprint: str) -> list[dict[str, Any]] | None:
        """The rows made under this key before; None where it is new. Raises KeyReused."""
        with self.database.read() as connection:
            return self._replayed(connection, actor, idempotency_key, fingerprint)

    def remove_unkept(self, hashes: Iterable[str]) -> None:
        """Delete stored files that no row says are kept: what was stored and then refused, or was erased before. Again is harmless.

        Where database or store do not answer, or the disk is closed to writing, the files are noted, if that can be, and go with the leftovers.
        """
        wanted = list(hashes)
        try:
            _remove_unkept(self.database, self.media, wanted)
        except (DatabaseSilent, StoreSilent) as problem:
            LOG.warning("%d files are looked at again later: %s %s", len(wanted), problem.what, problem.why)
            self._note(wanted)
        except OSError as problem:
            LOG.warning("%d files are looked at again later: %s", len(wanted), problem)
            self._note(wanted)

    def _note(self, hashes: Iterable[str]) -> None:
        for sha256 in hashes:
            try:
                self.media.remember(sha256)
            except OSError as problem:
                LOG.warning("%s, which may be kept without a row, could not be noted: %s", sha256[:12], problem)

    def put_before_people(self, connection: Connection, owner_id: str, source: str, file: Accepted, kind: str, reason: str, said: Sequence[str] = ()) -> str:
        """Open a case of a file whose media are kept, and queue it, so that people see it with a score; returns the case's id. Raises MediaGone."""
        moment = now()
        self._keep(connection, file, moment)
        row = {"id": new_id(), "owner_id": owner_id, "source": source, "sha256": file.sha256, "bytes": file.size_bytes}
        case_id = self.cases.open_for(connection, row, {"kind": kind}, reason, said)
        connection.execute(DETECTIONS.insert().values(**row, created_at=moment, state="queued", case_id=case_id))
        return case_id

    # -- being looked at --------------------------------------------------------------------------------------------------------
    def claim(self, worker: str, but: Collection[str] = ()) -> dict[str, Any] | None:
        """The oldest job that nobody works on, now this worker's for `workers.lease_seconds`; None where there is none.

        `but`: what this worker has in work, of which the lease may have run out all the same, as where the clock jumps.
        A file that was tried before is looked at alone, so that one which ends its process takes no other along: it is given to a worker
        that holds nothing, which is given nothing beside it. After `workers.max_attempts` times it is finished here, without a verdict; one that
        cannot even be finished is logged, keeps no other, and comes again after a lease.
        """
        others = DETECTIONS.c.id.not_in(but)
        with self.database.read() as connection:  # most looks find nothing: they need no write lock
            if connection.execute(select(DETECTIONS.c.number).where(_free(now()), others).limit(1)).first() is None:
                return None
        while True:
            with self.database.write() as connection:
                row = connection.execute(select(DETECTIONS).where(_free(now()), others).order_by(DETECTIONS.c.number).limit(1)).mappings().one_or_none()
                if row is None:
                    return None
                if row["attempts"] < self.settings.workers.max_attempts:
                    return self._lend(connection, dict(row), worker)
                done = self._give_up(connection, dict(row))
            if done is not None:
                self.retention.let_go(done)

    def renew(self, worker: str, progress: Mapping[str, float]) -> None:
        """Say that these jobs go on, and how far they are (0..1)."""
        if not progress:
            return
        until = now(self.settings.workers.lease_seconds)
        with self.database.write() as connection:
            for detection_id, done in progress.items():
                mine = (DETECTIONS.c.id == detection_id) & _held(worker)
                connection.execute(update(DETECTIONS).where(mine).values(lease_until=until, progress=float(min(max(done, 0.0), 1.0))))

    def give_back(self, worker: str, detection_id: str = "") -> int:
        """Return what this worker holds (or one job of it) to the queue, as if it had never been claimed; returns how many."""
        with self.database.write() as connection:
            mine = _held(worker)
            if detection_id:
                mine &= DETECTIONS.c.id == detection_id
            values = {"state": "queued", "lease_by": "", "lease_until": "", "progress": 0.0, "attempts": DETECTIONS.c.attempts - 1}
            return connection.execute(update(DETECTIONS).where(mine).values(**values)).rowcount

    def drop_lease(self, worker: str) -> int:
        """Let others take at once what a worker that died was holding; the attempt counts. Returns how many."""
        with self.database.write() as connection:
            return connection.execute(update(DETECTIONS).where(_held(worker)).values(lease_until="")).rowcount

    def let_go(self, worker: str, detection_id: str) -> None:
        """This worker failed at a job and goes on with others; the attempt counts, and the next one comes when the lease ends."""
        with self.database.write() as connection:
            connection.execute(update(DETECTIONS).where(_held(worker), DETECTIONS.c.id == detection_id).values(lease_by=""))

    def finish(self, detection_id: str, worker: str, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        """Write the verdict and all that follows from it. None where the job was given to another, or its upload erased, meanwhile.

        `answer`: verdict, p_fake, reason, kind, model_sha256 at least; `case_reason` (uncertain, novel, audit, or "") says whether it
        becomes a case, and `audit_fraction` how many of such verdicts were drawn then; `digests` are the sha256 of the derived files.
        """
        with self.database.write() as connection:
            row = self.held(connection, detection_id, worker)
            if row is None:
                return None
            self._finish(connection, row, answer)
            done = _one(connection, detection_id)
        if done is not None:
            self.retention.let_go(done)
        return done

    def held(self, connection: Connection, detection_id: str, worker: str) -> dict[str, Any] | None:
        """The job where it is still this worker's; None where it was given to another, or its upload erased, meanwhile."""
        mine = (DETECTIONS.c.id == detection_id) & _held(worker)
        row = connection.execute(select(DETECTIONS).where(mine)).mappings().one_or_none()
        return None if row is None else dict(row)

    # -- looking ----------------------------------------------------------------------------------------------------------------
    def get(self, detection_id: str) -> dict[str, Any] | None:
        """One detection with `media_state`, or None."""
        with self.database.read() as connection:
            return _one(connection, detection_id)

    def page(
        self, owner_id: str | None, before: int | None, limit: int, verdict: str = "", state: str = "", policy: str = "", since: str = "", until: str = ""
    ) -> list[dict[str, Any]]:
        """Newest first, those numbered below `before`; of one owner or of all. `since`, `until`: see moment_of; else ValueError."""
        query = _query().order_by(DETECTIONS.c.number.desc()).limit(limit)
        for column, wanted in ((DETECTIONS.c.owner_id, owner_id), (DETECTIONS.c.verdict, verdict), (DETECTIONS.c.state, state), (DETECTIONS.c.policy, policy)):
            if wanted:
                query = query.where(column == wanted)
        if before is not None:
            query = query.where(DETECTIONS.c.number < before)
        if since:
            query = query.where(DETECTIONS.c.created_at >= moment_of(since))
        if until:
            query = query.where(DETECTIONS.c.created_at <= moment_of(until, end=True))
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def waiting(self) -> int:
        """How many are queued or being looked at."""
        with self.database.read() as connection:
            return _waiting(connection)

    def counts(self) -> dict[str, int]:
        """How many are in each state."""
        with self.database.read() as connection:
            found = connection.execute(select(DETECTIONS.c.state, func.count()).group_by(DETECTIONS.c.state)).all()
        return dict.fromkeys(("queued", "running", "done", "erased"), 0) | {str(state): int(count) for state, count in found}

    def by_day(self, days: int) -> list[dict[str, Any]]:
        """The last days on which people sent something, oldest first: {"day", "real", "fake", "uncertain", "none", "mean_p_fake"}."""
        first = (datetime.now(UTC) - timedelta(days=days)).date().isoformat()
        day = func.substr(DETECTIONS.c.created_at, 1, 10)
        counts = [func.sum(case((DETECTIONS.c.verdict == verdict, 1), else_=0)).label(verdict) for verdict in ("real", "fake", "uncertain", "none")]
        query = select(day.label("day"), *counts, func.avg(DETECTIONS.c.p_fake).label("mean_p_fake")).where(DETECTIONS.c.created_at >= first, SENT)
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query.group_by(day).order_by(day)).mappings()]

    # -- being wrong ------------------------------------------------------------------------------------------------------------
    def dispute(self, actor: Actor, detection_id: str, claim: str, note: str = "") -> dict[str, Any]:
        """Record that somebody says a verdict is wrong, and make it a case.

        What was said first stands: the same words again change nothing, others are refused. Raises ValueError for those, while there is no verdict,
        for a claim that is none or the verdict's own (but `real` of a file that another verdict hides), and for a file that people have decided about.
        """
        if claim not in CLAIMS:
            raise ValueError(f"What it truly is: real or fake; not {claim!r}.")
        if "\0" in note:  # it is kept as JSON, which takes one, and PostgreSQL then reads nothing of that answer any more
            raise ValueError(NUL)
        with self.database.write() as connection:
            row = _one(connection, detection_id)
            if row is None or row["state"] != "done" or row["verdict"] == "":
                erased = row is not None and row["state"] == "erased"
                raise ValueError("This upload was erased, and its verdict with it." if erased else "There is no verdict to dispute.")
            if row["media_state"] == "deleted":
                raise ValueError("The media have been deleted, so nobody can look at them again. Send the file anew.")
            if row["verdict"] == claim and not (claim == "real" and row["media_state"] == "quarantined"):
                raise ValueError(f"The verdict is {claim!r} already: with that claim there is nothing to dispute.")
            answer, said = dict(row["answer"] or {}), {"claim": claim, "note": note[:2000]}
            before = answer.get("dispute")
            if before and {name: before[name] for name in said} == said:
                return row
            answer["dispute"] = {**said, "at": now()}
            case_id = self.cases.open_for(connection, row, answer, "disputed")  # first: it takes up a case that no person put aside
            state, label = self.cases.standing_of(connection, actor, row["sha256"])
            if state in ASKED_BEFORE:
                raise ValueError(ASKED_BEFORE[state].format(label=SAW.get(label, "")))
            if before:
                raise ValueError("It is disputed already, and people are asked to look. What was said first stands.")
            connection.execute(update(DETECTIONS).where(DETECTIONS.c.id == detection_id).values(case_id=case_id, answer=answer))
            audit.append(connection, actor.who, "detection.dispute", f"detection:{detection_id}", {"claim": claim, "case": case_id})
            return _one(connection, detection_id) or {}

    # -- inside -----------------------------------------------------------------------------------------------------------------
    def _lend(self, connection: Connection, row: Mapping[str, Any], worker: str) -> dict[str, Any] | None:
        """Give a job to a worker, unless it holds another one while either was tried before."""
        beside = connection.execute(select(DETECTIONS.c.attempts).where(_held(worker), DETECTIONS.c.lease_until >= now())).scalars().all()
        if beside and max(row["attempts"], *(attempts - 1 for attempts in beside)) > 0:
            return None
        lease = {"lease_by": worker, "lease_until": now(self.settings.workers.lease_seconds)}
        connection.execute(update(DETECTIONS).where(DETECTIONS.c.id == row["id"]).values(state="running", attempts=row["attempts"] + 1, progress=0.0, **lease))
        return _one(connection, row["id"])

    def _give_up(self, connection: Connection, row: dict[str, Any]) -> dict[str, Any] | None:
        """Finish a job that was tried as often as may be. None where that fails: it is put off for a lease."""
        nothing = {"verdict": "none", "p_fake": None, "reason": UNREADABLE.format(attempts=row["attempts"]), "kind": "", "model_sha256": ""}
        lease_seconds = self.settings.workers.lease_seconds
        try:
            with connection.begin_nested():
                self._finish(connection, row, nothing)
        except Exception as problem:
            if connection.invalidated:  # the database has gone, which says nothing about the job
                raise
            LOG.error("detection %s cannot be given up, and is tried again in %g s; the others go on: %r", row["id"], lease_seconds, problem)
            put_off = {"state": "running", "lease_by": "", "lease_until": now(lease_seconds)}
            connection.execute(update(DETECTIONS).where(DETECTIONS.c.id == row["id"]).values(**put_off))
            return None
        return _one(connection, row["id"])

    def _finish(self, connection: Connection, row: dict[str, Any], answer: Mapping[str, Any]) -> None:
        told = {name: value for name, value in answer.items() if name not in ("case_reason", "embedding")}
        reason, case_id = str(answer.get("case_reason") or ""), row["case_id"]
        if reason or case_id:
            case_id = self.cases.open_for(connection, row, answer, reason) or None
        verdict = {name: answer.get(name) for name in ("verdict", "p_fake", "novelty", "model_sha256", "kind")}
        verdict = {name: value if value is not None or name in ("p_fake", "novelty") else "" for name, value in verdict.items()}
        done = {"state": "done", "progress": 1.0, "finished_at": now(), "lease_by": "", "lease_until": "", "answer": told, "case_id": case_id}
        done["audited"] = reason == "audit"
        connection.execute(update(DETECTIONS).where(DETECTIONS.c.id == row["id"]).values(**verdict, **done))
        seal(connection, row["id"], answer.get("digests"))
        body = {"id": row["id"], "case_id": case_id, "sha256": row["sha256"], "policy": row["policy"]}
        body |= {name: answer.get(name) for name in ("verdict", "p_fake", "threshold", "reason", "model_sha256")}
        self.webhooks.enqueue(connection, row["owner_id"], "detection.done", body)

    def _keep(self, connection: Connection, file: Accepted, moment: str) -> None:
        # The write lock is held, and nothing is deleted without it: what is here now stays until this transaction has ended.
        if not self.media.has(file.sha256):
            raise MediaGone(file.sha256)
        known = connection.execute(select(MEDIA.c.state).where(MEDIA.c.sha256 == file.sha256)).scalar_one_or_none()
        if known is None:
            connection.execute(MEDIA.insert().values(sha256=file.sha256, bytes=file.size_bytes, created_at=moment, state="kept", state_since=moment))
        elif known == "deleted":
            connection.execute(update(MEDIA).where(MEDIA.c.sha256 == file.sha256).values(state="kept", state_since=moment, why=""))

    def _replayed(self, connection: Connection, actor: Actor, key: str, fingerprint: str) -> list[dict[str, Any]] | None:
        found = connection.execute(_of_key(actor, key)).mappings().one_or_none()
        if found is None:
            return None
        if found["fingerprint"] != fingerprint:
            raise KeyReused(key)
        return [row for detection_id in found["detection_ids"] if (row := _one(connection, detection_id)) is not None]


def _of_key(actor: Actor, idempotency_key: str) -> Any:
    return select(IDEMPOTENCY).where(IDEMPOTENCY.c.owner_id == actor.user_id, IDEMPOTENCY.c.key == idempotency_key)


def remove_leftovers(database: Database, media: MediaStore, older_than_seconds: float = STALE_SECONDS) -> int:
    """Delete what killed processes left on the disk, and media that were stored of it without ever being accepted; returns how many were found.

    What was on its way in still lies in `.vigil/uploads`, and its content (of a note its name) says what may have been stored of it. One that
    cannot be deleted is logged and keeps no other. Raises StoreSilent where the store does not answer.
    """
    left, stuck = media.leftovers(older_than_seconds), list[str]()
    for path in left:
        with one_of_many(str(path), stuck):
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            hashes = [file.stem if file.suffix == UNSURE else sha256_file(file) for file in files]
            _remove_unkept(database, media, hashes)
            for sha256 in hashes:
                media.abort_parts(sha256)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if stuck:
        LOG.warning("%d leftovers could not be deleted; each sweep tries them again: %s", len(stuck), first_few(stuck))
    return len(left)


def _remove_unkept(database: Database, media: MediaStore, hashes: Sequence[str]) -> None:
    with database.read() as connection:
        stored = _unkept(connection, hashes)
    if not stored:  # as ever, after an upload that was accepted: no write lock for it
        return
    with database.write() as connection:
        for sha256 in _unkept(connection, stored):
            media.delete(sha256)


def _unkept(connection: Connection, hashes: Iterable[str]) -> list[str]:
    wanted = sorted(set(hashes))
    kept = connection.execute(select(MEDIA.c.sha256).where(MEDIA.c.sha256.in_(wanted), MEDIA.c.state != "deleted")).scalars().all()
    return sorted(set(wanted) - set(kept))


def _free(moment: str) -> Any:
    return or_(DETECTIONS.c.state == "queued", (DETECTIONS.c.state == "running") & (DETECTIONS.c.lease_until < moment))


def _held(worker: str) -> Any:
    return (DETECTIONS.c.state == "running") & (DETECTIONS.c.lease_by == worker)


def _query() -> Any:
    return select(DETECTIONS, MEDIA.c.state.label("media_state"), CASES.c.state.label("case_state")).select_from(
        DETECTIONS.join(MEDIA, MEDIA.c.sha256 == DETECTIONS.c.sha256).outerjoin(CASES, CASES.c.id == DETECTIONS.c.case_id)
    )


_ONE = _query().where(DETECTIONS.c.id == bindparam("wanted"))  # built once: building it takes longer than running it


def _one(connection: Connection, detection_id: str) -> dict[str, Any] | None:
    row = connection.execute(_ONE, {"wanted": detection_id}).mappings().one_or_none()
    return None if row is None else dict(row)


def _waiting(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(DETECTIONS).where(DETECTIONS.c.state.in_(("queued", "running")))).scalar_one())
