"""Media of the batches that wait for a person's label, brought before people: each a case, once, and a job for the worker.

What waits: media that came in without a label, and contents of which the sources say different things (workspace/for_review.py).
Such a file is kept, scored and shown like an upload; whose it is, an account of its source says, into which nobody can log in. Of one
source at most `queue.source_cap_free` such cases are open at a time (one at the least), so that a large folder leaves room for what people dispute.
What need not be asked any more, as of a batch that was dropped since, is put aside, and taken up again where that is undone.
"""

import hashlib
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, exists, func, select, update

from feedback import audit
from feedback.cases import Cases
from feedback.database import new_id, now
from feedback.detections import Accepted, Detections
from feedback.tables import BROUGHT, CASES, DETECTIONS, ERASURES, MEDIA, OUTBOX, SENT, USERS
from workspace.errors import DataError
from workspace.for_review import AGREED, CONFLICT, CONFLICTS, DROPPED, NOT_ASKED, UNLABELLED, Waiting, not_asked, waiting_samples
from workspace.manifest import manifests, read_media

LOG = logging.getLogger("vigil.gathering")
WHO = "system:gathering"


class Gathering:
    """The waiting media of one workspace. Belongs to one thread at a time."""

    def __init__(self, root: Path, detections: Detections) -> None:
        self.root, self.detections = root, detections
        self._stamp: tuple[Any, ...] = ()
        self._waiting: list[Waiting] = []

    def gather(self) -> int:
        """Open what cases may be opened now; returns how many. Cheap where nothing has changed; safe to repeat, and to be killed."""
        self._look()
        opened, left, room, full = 0, [], self._room(), self._half_full()
        for number, one in enumerate(self._waiting):
            if full:  # uploads come first
                left += self._waiting[number:]
                break
            if room.get(one.source, self._limit) <= 0 and one.reason != CONFLICT:
                left.append(one)
                continue
            if self._open(one):
                opened += 1
                room[one.source] = room.get(one.source, self._limit) - 1
                full = self._half_full()
        self._waiting = left
        return opened

    @property
    def _limit(self) -> int:
        return max(1, self.detections.settings.queue.source_cap_free)  # 0 is a word about what is handed over; none open at a time would end all asking

    def _half_full(self) -> bool:
        """Whether half of the service's queue is taken: the rest is left to uploads."""
        return self.detections.waiting() * 2 >= self.detections.settings.workers.queue_length

    def _look(self) -> None:
        """Read the manifests again, and put aside what is not asked any more, where the journal, a manifest or the list of conflicts has changed."""
        files = [self.root / "journal.jsonl", self.root / CONFLICTS, *manifests(self.root)]
        stamp = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file())
        if stamp != self._stamp:
            put_aside(self.root, self.detections.cases)
            self._waiting, self._stamp = list(waiting_samples(self.root)), stamp

    def _room(self) -> dict[str, int]:
        """How many more cases each source may have open."""
        query = select(DETECTIONS.c.source, func.count(CASES.c.id.distinct())).join(DETECTIONS, DETECTIONS.c.case_id == CASES.c.id)
        query = query.where(CASES.c.state == "open", ~SENT).group_by(DETECTIONS.c.source)
        with self.detections.database.read() as connection:
            return {str(source).removeprefix(BROUGHT): self._limit - int(n) for source, n in connection.execute(query).all()}

    def _open(self, one: Waiting) -> bool:
        """Open one case, or one that was put aside again, or tell an open one of the same file what contradicts it; False where there is nothing to do."""
        with self.detections.database.read() as connection:
            if not self._is_new(connection, one):
                return False
        try:
            content = read_media(self.root / "data" / "raw" / one.batch, one.shard, one.offset, one.bytes, one.sample_id)
        except DataError as problem:  # its batch is on another machine, or was erased meanwhile
            LOG.warning("%s", problem)
            return False
        with tempfile.TemporaryDirectory(prefix="gathered-", dir=self.detections.media.scratch()) as folder:
            path = Path(folder) / one.sample_id
            path.write_bytes(content)
            try:
                self.detections.media.put(path, one.sample_id)
                return self._tell(one)
            finally:
                self.detections.remove_unkept([one.sample_id])  # erased in the moment between

    def _tell(self, one: Waiting) -> bool:
        """Open the case of media that are stored, take it up again, or tell it what contradicts it; False where nobody is to be asked any more."""
        with self.detections.database.write() as connection:
            if not self._is_new(connection, one):
                return False
            known = connection.execute(select(CASES).where(CASES.c.sha256 == one.sample_id)).mappings().one_or_none()
            if known is not None and _contradicted(known["said"], one):
                connection.execute(update(CASES).where(CASES.c.id == known["id"]).values(reason=CONFLICT, said=list(one.said)))
                audit.append(connection, WHO, "case.conflict", f"case:{known['id']}", {"said": len(one.said), "batch": one.batch})
            if known is not None and known["state"] == "open":
                return True
            if known is None or connection.execute(select(MEDIA.c.state).where(MEDIA.c.sha256 == one.sample_id)).scalar_one() == "deleted":
                owner, file = _account(connection, one.source), Accepted(one.sample_id, one.bytes)
                self.detections.put_before_people(connection, owner, f"{BROUGHT}{one.source}", file, one.kind, one.reason, one.said)
            if known is not None:
                self.detections.cases.take_up(connection, dict(known), WHO)
        return True

    def _is_new(self, connection: Connection, one: Waiting) -> bool:
        """Nobody was asked yet, or not of what contradicts it, or no more; and nobody had it erased."""
        if connection.execute(select(ERASURES.c.sha256).where(ERASURES.c.sha256 == one.sample_id)).first() is not None:
            return False
        case = connection.execute(select(CASES.c.state, CASES.c.said, CASES.c.why).where(CASES.c.sha256 == one.sample_id)).one_or_none()
        if case is None or (case.state == "quarantined" and case.why in NOT_ASKED):
            return True
        return bool(case.state == "open" and _contradicted(case.said, one))


def put_aside(root: Path, cases: Cases) -> int:
    """Put cases into quarantine about which no batch asks any more, and that are nobody's upload; returns how many. Safe to repeat.

    Of a batch that was dropped those that are decided, too, as far as training has not got them; of what a later source has labelled those without a label,
    and those of two labels where one is left.
    """
    with cases.database.read() as connection:
        samples = {row.sha256 for row in _brought_alone(connection)}
    why = not_asked(root, samples) if samples else {}  # reads many files
    if not why:
        return 0
    with cases.database.write() as connection:
        rows = [
            row
            for row in _brought_alone(connection)
            if why.get(row.sha256) == DROPPED or (row.sha256 in why and row.state == "open" and row.reason in (UNLABELLED, CONFLICT))
        ]
        for row in rows:
            agreed = row.reason == CONFLICT and why[row.sha256] != DROPPED
            cases.put_aside(connection, row.id, AGREED if agreed else why[row.sha256], WHO)
    return len(rows)


def _brought_alone(connection: Connection) -> list[Row[Any]]:
    """The cases of what the service itself brought, and nobody has sent: open, or decided and not handed over. A known case is an engineer's."""
    sent = exists().where(DETECTIONS.c.sha256 == CASES.c.sha256, DETECTIONS.c.state != "erased", SENT)
    going = (CASES.c.state == "open") | ((CASES.c.state == "decided") & (OUTBOX.c.state == "waiting"))
    query = select(CASES.c.id, CASES.c.sha256, CASES.c.state, CASES.c.reason).outerjoin(OUTBOX, OUTBOX.c.case_id == CASES.c.id)
    return list(connection.execute(query.where(going, CASES.c.source.startswith(BROUGHT), CASES.c.gold == "", ~sent).order_by(CASES.c.number)))


def _contradicted(said: Iterable[str] | None, one: Waiting) -> bool:
    """Whether statements contradict each other that a case does not show yet."""
    return one.reason == CONFLICT and list(said or []) != list(one.said)


def _account(connection: Connection, source: str) -> str:
    """The account that owns what a source brought: disabled, and without a password. Made when it is first needed.

    It is named as nobody can sign up: a colon stands in no person's user name. What an account of another name owns of the source goes over to it.
    """
    name = f"source:{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    known = connection.execute(select(USERS.c.id).where(USERS.c.user_name == name)).scalar_one_or_none()
    if known is not None:
        return str(known)
    row = {"id": new_id(), "created_at": now(), "name": f"source {source}", "email": name, "user_name": name}
    connection.execute(USERS.insert().values(**row, password_hash="", role="viewer", disabled=True))
    for table in (DETECTIONS, CASES):
        connection.execute(update(table).where(table.c.source == f"{BROUGHT}{source}").values(owner_id=row["id"]))
    audit.append(connection, WHO, "account.create", f"user:{row['id']}", {"user_name": name, "role": "viewer", "source": source})
    return str(row["id"])
