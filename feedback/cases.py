"""Cases: what people are asked, in which order, what they answered, and when an answer is a label.

A case opens inside the transaction of the verdict that asked for it. Each answer, each decision and what follows from it
(the outbox row that hands the label to training) are one transaction that holds the write lock, with its audit entry; two
reviewers who answer at the same moment are therefore one after the other, in SQLite and PostgreSQL alike.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, exists, false, func, select, update

from feedback import audit
from feedback.access import Actor
from feedback.database import Database, new_id, now
from feedback.database import exists as has_database
from feedback.learned import batch_state
from feedback.ordering import Candidate, gold_slots, in_order, keyed, uncertainty_of, use_of
from feedback.quality import quality
from feedback.tables import BROUGHT, CASES, DETECTIONS, ERASURES, MEDIA, OUTBOX, REVIEWS, USERS
from workspace.for_review import NOT_ASKED
from workspace.manifest import composed
from workspace.settings import FeedbackSettings, Settings

UNSCORED = ("", "unlabelled", "conflict")  # not asked because of a score
LABELS = ("real", "fake", "unsure")
TRAINING_LABELS = ("real", "fake")
SAW = {"real": "say that it is real", "fake": "say that it is fake", "unsure": "could not tell"}  # of people, in a sentence
PATIENT = ("uncertain", "unlabelled")  # reasons of which there may be very many: they leave room for the others
MOST_REVIEWS = 3
LOOKED_AT = 400  # open cases that an order is made of; the likeness of each to each costs their square
REMEMBERED = 50  # a reviewer's last answers, from which the next case should differ
UPLOADS_SHOWN = 20  # of one file, however often it was sent
LONGEST_TEXT = 2000
AT_A_TIME = 200  # cases that are settled anew in one transaction: others wait to write meanwhile
IDENTITY = r"^[^\x00-\x1f\x7f]*$"  # a name that is one cell of a table
SHOWN = ("number", "id", "created_at", "state", "reason", "kind", "sha256", "bytes", "p_fake", "novelty", "uncertainty", "model_sha256", "label", "identity",
         "decided_at", "owner_id", "gold", "why", "said")  # fmt: skip


class AlreadyReviewed(Exception):
    """This reviewer has answered this case already."""


class NotReviewable(Exception):
    """This case takes no answer from this reviewer; the message says why."""


class TooLate(Exception):
    """What should be taken back was handed over to training."""


def unanswered(root: Path, settings: Settings) -> tuple[int, str]:
    """How many open cases people are still to answer, and when the oldest was opened, '' where there is none; cheap."""
    if not has_database(root, settings):
        return 0, ""
    with closing(Database(root, settings)) as database, database.read() as connection:
        waits = select(func.count(), func.min(CASES.c.created_at)).where(CASES.c.state == "open", CASES.c.gold == "")
        number, since = connection.execute(waits).one()
    return int(number), str(since or "")


class Cases:
    """The cases of one service. Safe to use from several threads and processes. `key` makes the choice of gold cases hard to guess."""

    def __init__(self, database: Database, settings: FeedbackSettings, key: bytes = b"") -> None:
        self.database, self.settings, self.key = database, settings, key

    # -- opening and looking ------------------------------------------------------------------------------------------------
    def open_for(self, connection: Connection, detection: Mapping[str, Any], answer: Mapping[str, Any], reason: str, said: Sequence[str] = ()) -> str:
        """Open a case in the transaction of the verdict, or join the one of the same file; returns its id.

        `reason` is uncertain, novel, disputed, audit, unlabelled or conflict (`said`: what contradicts each other). A dispute of an
        open case becomes its reason; one that was opened before its file was scored gets the scores; an erased case of the same file is opened anew.
        One that was put aside because no batch asks any more is taken up again for an upload that asks. Without a reason none is opened: '' where
        there is none to join.
        """
        known = connection.execute(select(CASES).where(CASES.c.sha256 == detection["sha256"])).mappings().one_or_none()
        measured = {
            "kind": str(answer.get("kind") or detection.get("kind") or (known["kind"] if known is not None else "")),
            "p_fake": answer.get("p_fake"),
            "novelty": answer.get("novelty"),
            "uncertainty": 0.0 if reason in UNSCORED and answer.get("p_fake") is None else uncertainty_of(answer.get("p_fake"), answer.get("threshold")),
            "embedding": answer.get("embedding"),
            "model_sha256": str(answer.get("model_sha256") or ""),
        }
        if known is not None and known["state"] != "erased":
            if known["state"] == "open" and not known["model_sha256"] and measured["model_sha256"]:
                connection.execute(update(CASES).where(CASES.c.id == known["id"]).values(**measured))
            if reason == "disputed" and known["state"] == "open" and known["reason"] != "disputed":
                connection.execute(update(CASES).where(CASES.c.id == known["id"]).values(reason="disputed"))
                audit.append(connection, "system:cases", "case.dispute", f"case:{known['id']}", {"detection": detection["id"]})
            if reason and known["state"] == "quarantined" and known["why"] in NOT_ASKED and not detection["source"].startswith(BROUGHT):
                asks = {"reason": reason, "said": list(said), **{name: value for name, value in measured.items() if value is not None}}
                connection.execute(update(CASES).where(CASES.c.id == known["id"]).values(**asks))
                self.take_up(connection, {**known, **asks}, "system:cases", {"detection": detection["id"], "reason": reason})
            return str(known["id"])
        if not reason:
            return ""
        whose = {"owner_id": detection["owner_id"], "source": detection["source"], "reason": reason, "state": "open", "said": list(said)}
        if known is not None:
            case_id = str(known["id"])
            connection.execute(delete(OUTBOX).where(OUTBOX.c.case_id == case_id))  # of before the erasure; what was erased never trains again
            again = {"label": "", "identity": "", "decided_at": "", "gold": "", "why": "", "created_at": now(), "number": _next_number(connection)}
            connection.execute(update(CASES).where(CASES.c.id == case_id).values(**whose, **measured, **again))
        else:
            case_id = new_id()
            about = {"id": case_id, "created_at": now(), "sha256": detection["sha256"], "bytes": detection["bytes"]}
            connection.execute(CASES.insert().values(**about, **whose, **measured))
        told = {"sha256": detection["sha256"], "detection": detection["id"], "reason": reason, "model_sha256": measured["model_sha256"]}
        audit.append(connection, "system:cases", "case.open", f"case:{case_id}", {**told, "said": len(said)})  # what is said names files; the trail is for ever
        return case_id

    def queue(self, actor: Actor, limit: int = 20) -> list[dict[str, Any]]:
        """What this reviewer sees next: the most useful first, unlike one another and unlike what was just answered, gold cases unmarked among them."""
        with self.database.read() as connection:
            answered = select(REVIEWS.c.case_id).where(REVIEWS.c.reviewer_id == actor.user_id, REVIEWS.c.undone_at == "")
            fitting = [CASES.c.state == "open", CASES.c.id.not_in(answered)]
            if not self.settings.queue.review_own:
                fitting.append(~exists().where(DETECTIONS.c.sha256 == CASES.c.sha256, DETECTIONS.c.owner_id == actor.user_id))  # asked a case at a time
            use = use_of(CASES).label("use")
            query = (
                select(CASES.c.number, CASES.c.id, use, CASES.c.embedding, CASES.c.reason)
                .where(CASES.c.gold == "", *fitting)
                .order_by(use.desc(), CASES.c.number)
            )
            pressing = connection.execute(query.where(CASES.c.reason.not_in(PATIENT)).limit(LOOKED_AT)).all()
            open_cases = [Candidate.of(row) for row in (*pressing, *connection.execute(query.where(CASES.c.reason.in_(PATIENT)).limit(LOOKED_AT)).all())]
            recent = (
                select(CASES.c.embedding)
                .join(REVIEWS, REVIEWS.c.case_id == CASES.c.id)
                .where(REVIEWS.c.reviewer_id == actor.user_id, REVIEWS.c.undone_at == "")
                .order_by(REVIEWS.c.created_at.desc())
                .limit(REMEMBERED)
            )
            before = [row.embedding for row in connection.execute(recent) if row.embedding]
            done = int(connection.execute(select(func.count()).select_from(answered.subquery())).scalar_one())
            golden = list(connection.execute(select(CASES.c.id).where(CASES.c.gold != "", *fitting)).scalars())
            ids = in_order(open_cases, before, limit)
            slots = gold_slots(self.key, actor.user_id, done, len(ids), self.settings.queue.gold_fraction)
            for slot, case_id in zip(slots, sorted(golden, key=lambda one: keyed(self.key, actor.user_id, one)), strict=False):
                ids.insert(slot, case_id)
            shown = {case["id"]: case for case in self._shown(connection, ids[:limit])}
        return [_unanswered(shown[case_id], self.settings.queue.reviewers_needed) for case_id in ids[:limit] if case_id in shown]

    def page(self, state: str | None, after: int, limit: int, disguised_for: str = "") -> list[dict[str, Any]]:
        """Cases in order of arrival, those numbered above `after`; `state` None for all, `known` for the gold ones.

        `disguised_for` is who may not know which cases are gold: one that this reviewer has answered is where `disguised` says it is.
        """
        query = select(CASES.c.id).where(CASES.c.number > after).order_by(CASES.c.number).limit(limit)
        if state == "known":
            query = query.where(CASES.c.gold != "")
        elif state is not None:
            mine = select(REVIEWS.c.case_id).where(REVIEWS.c.reviewer_id == disguised_for, REVIEWS.c.undone_at == "")
            as_decided = (CASES.c.gold != "") & (CASES.c.state == "open") & CASES.c.id.in_(mine) if self.settings.queue.reviewers_needed == 1 else false()
            query = query.where(as_decided | (CASES.c.state == state) if state == "decided" else ~as_decided & (CASES.c.state == state))
        with self.database.read() as connection:
            return self._shown(connection, connection.execute(query).scalars().all())

    def get(self, case_id: str) -> dict[str, Any] | None:
        """One case with its standing reviews and the ids of its uploads, or None: see `_shown`."""
        with self.database.read() as connection:
            return self._get(connection, case_id)

    def standing_of(self, connection: Connection, actor: Actor, sha256: str) -> tuple[str, str]:
        """State and label of a file's case as this actor may know them, a gold one disguised; ("", "") where there is none."""
        case = connection.execute(select(CASES.c.id, CASES.c.state, CASES.c.label, CASES.c.gold).where(CASES.c.sha256 == sha256)).one_or_none()
        if case is None:
            return "", ""
        if not case.gold:  # as it is: a detection is asked for often, and seldom has a gold case
            return str(case.state), str(case.label)
        shown = disguised(self._get(connection, case.id) or {}, actor.user_id, self.settings.queue.reviewers_needed)
        return str(shown["state"]), str(shown["label"])

    def counts(self) -> dict[str, int]:
        """How many cases are in each state, and how many labels wait for training."""
        with self.database.read() as connection:
            found = dict.fromkeys(("open", "decided", "quarantined", "erased"), 0)
            found |= {str(state): int(number) for state, number in connection.execute(select(CASES.c.state, func.count()).group_by(CASES.c.state)).all()}
            waiting = connection.execute(select(func.count()).select_from(OUTBOX).where(OUTBOX.c.state != "ingested")).scalar_one()
        return {**found, "to_be_handed_over": int(waiting)}

    def quality(self, user_id: str | None = None) -> list[dict[str, Any]]:
        """How each reviewer (or one) does: see feedback/quality.py."""
        with self.database.read() as connection:
            return quality(connection, user_id)

    # -- answering ----------------------------------------------------------------------------------------------------------
    def review(self, actor: Actor, case_id: str, label: str, note: str = "", identity: str = "", seconds: float | None = None) -> dict[str, Any] | None:
        """Record what a person saw; the answer that settles the case also hands its label over. None for an unknown case.

        Raises AlreadyReviewed for a second answer, NotReviewable for one's own upload or a case that takes no answers, ValueError for another label, or a name
        with control characters.
        """
        if label not in LABELS:
            raise ValueError(f"A label is {', '.join(LABELS)}; not {label!r}.")
        if not re.fullmatch(IDENTITY, identity.strip()):
            raise ValueError("A name of who is in the file has no line breaks nor other control characters.")
        if seconds is not None and not 0 <= seconds < 1e6:
            seconds = None  # a clock that was set meanwhile
        with self.database.write() as connection:
            case = connection.execute(select(CASES).where(CASES.c.id == case_id)).mappings().one_or_none()
            if case is None:
                return None
            self._may_answer(connection, actor, dict(case))
            said = {"label": label, "note": note.strip()[:LONGEST_TEXT], "identity": identity.strip()[:LONGEST_TEXT], "seconds": seconds}
            connection.execute(REVIEWS.insert().values(id=new_id(), case_id=case_id, reviewer_id=actor.user_id, created_at=now(), **said))
            audit.append(connection, actor.who, "case.label", f"case:{case_id}", {"label": label, "sha256": case["sha256"], "seconds": seconds})
            self._settle(connection, dict(case))
            return self._get(connection, case_id)

    def refusal(self, actor: Actor, case_id: str) -> str:
        """Why an answer of this person would be refused now; "" where it would be taken."""
        with self.database.read() as connection:
            case = connection.execute(select(CASES).where(CASES.c.id == case_id)).mappings().one()
            try:
                self._may_answer(connection, actor, dict(case))
            except (AlreadyReviewed, NotReviewable) as problem:
                return str(problem)
        return ""

    def undo(self, actor: Actor, case_id: str) -> dict[str, Any] | None:
        """Take back one's own answer; a case that it settled is open again. None for an unknown case.

        Raises NotReviewable where there is nothing to take back, or nothing left to look at again; TooLate when the label was handed over
        and its batch stands.
        """
        with self.database.write() as connection:
            case = connection.execute(select(CASES).where(CASES.c.id == case_id)).mappings().one_or_none()
            if case is None:
                return None
            mine = (REVIEWS.c.case_id == case_id) & (REVIEWS.c.reviewer_id == actor.user_id) & (REVIEWS.c.undone_at == "")
            if connection.execute(select(REVIEWS.c.id).where(mine)).one_or_none() is None:
                gone = case["state"] == "erased"
                raise NotReviewable("This case was erased, and its answers with it." if gone else "There is no answer of yours to take back.")
            self._withdraw(connection, case_id)
            self._can_be_seen(connection, case["sha256"])
            connection.execute(update(REVIEWS).where(mine).values(undone_at=now()))
            audit.append(connection, actor.who, "case.undo", f"case:{case_id}", {"sha256": case["sha256"]})
            if case["state"] in ("decided", "quarantined"):
                state = "open" if case["state"] == "decided" else "quarantined"
                connection.execute(update(CASES).where(CASES.c.id == case_id).values(state=state, label="", identity="", decided_at=""))
                self._settle(connection, {**case, "state": state})
            return self._get(connection, case_id)

    # -- governing ----------------------------------------------------------------------------------------------------------
    def quarantine(self, actor: Actor, case_id: str, why: str) -> dict[str, Any] | None:
        """Keep a case out of the queue and out of training. Raises TooLate when it was handed over, NotReviewable when it is erased."""
        if not why.strip():
            raise ValueError("A quarantine needs a reason.")
        with self.database.write() as connection:
            case = self._governed(connection, case_id)
            if case is None:
                return None
            self.put_aside(connection, case_id, why.strip()[:LONGEST_TEXT], actor.who)
            return self._get(connection, case_id)

    def put_aside(self, connection: Connection, case_id: str, why: str, who: str) -> None:
        """Put a case into quarantine in this transaction. Raises TooLate when it was handed over."""
        self._withdraw(connection, case_id)
        connection.execute(update(CASES).where(CASES.c.id == case_id).values(state="quarantined", why=why))
        audit.append(connection, who, "case.quarantine", f"case:{case_id}", {"why": why})

    def release(self, actor: Actor, case_id: str) -> dict[str, Any] | None:
        """End a quarantine: the case is open again, or decided as its answers stand.

        Of media that are gone nobody can be asked again: there it is decided as it was. Raises NotReviewable where it was not.
        """
        with self.database.write() as connection:
            case = self._governed(connection, case_id)
            if case is None:
                return None
            if case["state"] == "quarantined":
                self.take_up(connection, case, actor.who)
            return self._get(connection, case_id)

    def take_up(self, connection: Connection, case: Mapping[str, Any], who: str, told: Mapping[str, Any] | None = None) -> None:
        """End the quarantine of a case in this transaction, as `release` says."""
        again = {"state": "open", "label": "", "identity": "", "decided_at": ""}
        if case["label"] and self._media_gone(connection, case["sha256"]):
            again = {"state": "decided"}  # its label was on no way to training, or the media would have been kept
        else:
            self._can_be_seen(connection, case["sha256"])
        connection.execute(update(CASES).where(CASES.c.id == case["id"]).values(**again, why=""))
        audit.append(connection, who, "case.release", f"case:{case['id']}", told)
        self._settle(connection, {**case, **again})

    def set_gold(self, actor: Actor, case_id: str, label: str) -> dict[str, Any] | None:
        """Say what a case truly is: from now on it measures reviewers and never trains; an empty label ends that. Raises TooLate when it was handed over.

        One that was put aside because no batch asks any more is opened by it: an engineer asks.
        """
        if label not in ("", *TRAINING_LABELS):
            raise ValueError(f"A gold case is real or fake; not {label!r}.")
        with self.database.write() as connection:
            case = self._governed(connection, case_id)
            if case is None:
                return None
            self._withdraw(connection, case_id)
            self._can_be_seen(connection, case["sha256"])
            if label and not self._shows_a_face(connection, case):
                raise NotReviewable(
                    "No face was found in this file, or nothing can open it. Known cases measure how well people tell faces: take one with a face."
                )
            aside = case["state"] == "quarantined" and not (label and case["why"] in NOT_ASKED)
            stands = {"state": "quarantined", "why": case["why"]} if aside else {"state": "open", "why": ""}
            connection.execute(update(CASES).where(CASES.c.id == case_id).values(gold=label, **stands, label="", identity="", decided_at=""))
            audit.append(connection, actor.who, "case.gold", f"case:{case_id}", {"label": label})
            self._settle(connection, {**case, **stands, "gold": label})
            return self._get(connection, case_id)

    # -- another number of reviewers ------------------------------------------------------------------------------------------
    def settle_anew(self) -> int:
        """Have every case stand as `reviewers_needed` says by now; returns how many stand otherwise than before. Safe to repeat, and quick where none does.

        An open case whose answers suffice is decided, as of its last answer. One whose label waits for training with too few that agree is open again:
        nobody could give the answer that it lacks. What was handed over stays.
        """
        with self.database.read() as connection:
            sufficing, lacking = self._sufficing(connection), self._lacking(connection)
        for at in range(0, len(sufficing), AT_A_TIME):
            with self.database.write() as connection:
                chosen = select(CASES).where(CASES.c.id.in_(sufficing[at : at + AT_A_TIME]))
                for case in connection.execute(chosen).mappings().all():
                    self._settle(connection, dict(case), as_of_last_answer=True)
        for at in range(0, len(lacking), AT_A_TIME):
            with self.database.write() as connection:
                for case_id in self._lacking(connection, lacking[at : at + AT_A_TIME]):
                    connection.execute(delete(OUTBOX).where(OUTBOX.c.case_id == case_id))
                    connection.execute(update(CASES).where(CASES.c.id == case_id).values(state="open", label="", identity="", decided_at=""))
                    audit.append(connection, "system:cases", "case.reopen", f"case:{case_id}", {"needed": self.settings.queue.reviewers_needed})
        return len(sufficing) + len(lacking)

    def to_be_settled(self, connection: Connection) -> list[dict[str, Any]]:
        """The open cases whose answers suffice for a label that may train, as rows that wait for the hand-over: `settle_anew` comes before it."""
        rows = []
        for case_id in self._sufficing(connection, TRAINING_LABELS):
            case = dict(connection.execute(select(CASES).where(CASES.c.id == case_id)).mappings().one())
            if self._can_train(connection, case):
                rows.append({"case_id": case_id, "owner_id": case["owner_id"], "state": "waiting", "created_at": now()})
        return rows

    # -- inside -------------------------------------------------------------------------------------------------------------
    def _sufficing(self, connection: Connection, labels: Collection[str] = LABELS) -> list[str]:
        """The open cases whose standing answers come to one of these labels."""
        needed = self.settings.queue.reviewers_needed
        answered = (CASES.c.state == "open") & (CASES.c.gold == "") & (REVIEWS.c.undone_at == "")
        enough = select(CASES.c.id).join(REVIEWS, REVIEWS.c.case_id == CASES.c.id).where(answered).group_by(CASES.c.id).having(func.count() >= needed)
        ids, said = connection.execute(enough).scalars().all(), dict[str, list[str]]()  # none as a rule, of however many cases
        for at in range(0, len(ids), AT_A_TIME):
            standing = select(REVIEWS.c.case_id, REVIEWS.c.label).where(REVIEWS.c.undone_at == "", REVIEWS.c.case_id.in_(ids[at : at + AT_A_TIME]))
            for case_id, label in connection.execute(standing.order_by(REVIEWS.c.created_at, REVIEWS.c.id)).all():
                said.setdefault(case_id, []).append(label)
        return [case_id for case_id, given in said.items() if decided(given, needed) in labels]

    def _lacking(self, connection: Connection, of: Collection[str] | None = None) -> list[str]:
        """The cases (of these) whose label waits for training with fewer agreeing answers than are needed."""
        its = CASES.c.id == OUTBOX.c.case_id  # asked a waiting label at a time: there are few, and of decided cases very many
        agrees = (REVIEWS.c.case_id == CASES.c.id) & (REVIEWS.c.label == CASES.c.label) & (REVIEWS.c.undone_at == "")
        agreeing = select(func.count()).select_from(CASES.join(REVIEWS, agrees)).where(its).correlate(OUTBOX).scalar_subquery()
        stands = exists().where(its, CASES.c.state == "decided")
        query = select(OUTBOX.c.case_id).where(OUTBOX.c.state == "waiting", stands, agreeing < self.settings.queue.reviewers_needed)
        return list(connection.execute(query if of is None else query.where(OUTBOX.c.case_id.in_(of))).scalars())

    def _may_answer(self, connection: Connection, actor: Actor, case: Mapping[str, Any]) -> None:
        standing = (REVIEWS.c.case_id == case["id"]) & (REVIEWS.c.reviewer_id == actor.user_id) & (REVIEWS.c.undone_at == "")
        if connection.execute(select(REVIEWS.c.id).where(standing)).one_or_none() is not None:
            raise AlreadyReviewed("You have answered this case. Take that answer back first: in the console on the page of the case, by the API with its undo.")
        if case["state"] != "open":
            raise NotReviewable(f"This case is {case['state']} and takes no more answers.")
        self._can_be_seen(connection, case["sha256"])
        if not self.settings.queue.review_own:
            # By content: an upload of the same file may have no case of its own, or be erased by now.
            sent = select(DETECTIONS.c.id).where(DETECTIONS.c.sha256 == case["sha256"], DETECTIONS.c.owner_id == actor.user_id).limit(1)
            if connection.execute(sent).one_or_none() is not None:
                raise NotReviewable("You sent this file in yourself; somebody else answers it.")

    def _can_be_seen(self, connection: Connection, sha256: str) -> None:
        """Refuse to ask people, and to train, where there is nothing left to look at. Raises NotReviewable."""
        if self._media_gone(connection, sha256):
            raise NotReviewable("The media of this case have been deleted, so nobody can look at them again. Send the file anew.")

    def _media_gone(self, connection: Connection, sha256: str) -> bool:
        return bool(connection.execute(select(MEDIA.c.state).where(MEDIA.c.sha256 == sha256)).scalar_one() == "deleted")

    def _settle(self, connection: Connection, case: Mapping[str, Any], as_of_last_answer: bool = False) -> None:
        """Decide an open case whose standing answers suffice, now or as of the last of them; a label that may train goes to the outbox."""
        if case["state"] != "open" or case["gold"]:
            return
        standing = REVIEWS.select().where(REVIEWS.c.case_id == case["id"], REVIEWS.c.undone_at == "").order_by(REVIEWS.c.created_at, REVIEWS.c.id)
        reviews = connection.execute(standing).mappings().all()
        label = decided([row["label"] for row in reviews], self.settings.queue.reviewers_needed)
        if not label:
            return
        identity = agreed_identity(row["identity"] for row in reviews if row["label"] == label)
        moment = str(reviews[-1]["created_at"]) if as_of_last_answer else now()
        connection.execute(update(CASES).where(CASES.c.id == case["id"]).values(state="decided", label=label, identity=identity, decided_at=moment))
        trains = label in TRAINING_LABELS and self._can_train(connection, case)
        if trains:
            connection.execute(OUTBOX.insert().values(case_id=case["id"], created_at=moment, state="waiting"))
        told = {"label": label, "answers": len(reviews), "trains": trains}
        audit.append(connection, "system:cases", "case.decide", f"case:{case['id']}", told)

    def _can_train(self, connection: Connection, case: Mapping[str, Any]) -> bool:
        """Whether training can learn from the file: not where it was erased, or shows no face.

        Ingest would refuse what cannot be opened again and again; a file without a face teaches nothing and counts against its whole batch.
        """
        erased = connection.execute(select(ERASURES.c.sha256).where(ERASURES.c.sha256 == case["sha256"])).one_or_none() is not None
        return not erased and self._shows_a_face(connection, case)

    def _shows_a_face(self, connection: Connection, case: Mapping[str, Any]) -> bool:
        """Not where nothing could open the file, or the newest look at it found no face."""
        looked_at = (DETECTIONS.c.sha256 == case["sha256"]) & (DETECTIONS.c.state == "done") & (DETECTIONS.c.kind != "")
        newest = select(DETECTIONS.c.answer).where(looked_at).order_by(DETECTIONS.c.finished_at.desc(), DETECTIONS.c.number.desc()).limit(1)
        answer = connection.execute(newest).scalar_one_or_none() or {}
        return bool(case["kind"]) and answer.get("faces") != 0

    def _withdraw(self, connection: Connection, case_id: str) -> None:
        """Take a label back from the outbox, or of a batch that was dropped since. Raises TooLate when it has left otherwise."""
        row = connection.execute(select(OUTBOX.c.state, OUTBOX.c.batch).where(OUTBOX.c.case_id == case_id)).one_or_none()
        dropped = row is not None and row.state == "ingested" and batch_state(self.database.root, row.batch) == "dropped"
        if row is not None and row.state != "waiting" and not dropped:
            raise TooLate("This case was handed over to training. First its batch must be dropped (`vigil batches drop`), or the upload erased.")
        connection.execute(delete(OUTBOX).where(OUTBOX.c.case_id == case_id))

    def _governed(self, connection: Connection, case_id: str) -> dict[str, Any] | None:
        row = connection.execute(select(CASES).where(CASES.c.id == case_id)).mappings().one_or_none()
        if row is not None and row["state"] == "erased":
            raise NotReviewable("This case was erased.")
        return None if row is None else dict(row)

    def _get(self, connection: Connection, case_id: str) -> dict[str, Any] | None:
        return next(iter(self._shown(connection, [case_id])), None)

    def _shown(self, connection: Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The cases of these ids, by number.

        `uploads` is how often the file was sent and not erased, by whomever; `detections` the ids of at most UPLOADS_SHOWN of them in order of arrival:
        first the disputed, then those that have a verdict, the newest of each.
        """
        columns = [CASES.c[name] for name in SHOWN] + [OUTBOX.c.state.label("handover"), OUTBOX.c.batch]
        query = select(*columns).outerjoin(OUTBOX, OUTBOX.c.case_id == CASES.c.id).where(CASES.c.id.in_(ids)).order_by(CASES.c.number)
        rows = [dict(row) for row in connection.execute(query).mappings()]
        reviews: dict[str, list[dict[str, Any]]] = {}
        said = (
            select(REVIEWS, USERS.c.name.label("reviewer"))
            .join(USERS, USERS.c.id == REVIEWS.c.reviewer_id)
            .where(REVIEWS.c.case_id.in_(ids), REVIEWS.c.undone_at == "")
            .order_by(REVIEWS.c.created_at, REVIEWS.c.id)
        )
        for row in connection.execute(said).mappings():
            told = {name: row[name] for name in ("reviewer", "reviewer_id", "label", "note", "identity", "created_at", "seconds")}
            reviews.setdefault(row["case_id"], []).append(told)
        sent: dict[str, list[Any]] = {}
        held = (DETECTIONS.c.sha256 == CASES.c.sha256) & (DETECTIONS.c.state != "erased")  # whichever upload opened the case
        disputed = DETECTIONS.c.answer["dispute"]["claim"].as_string().is_not(None)
        first = (disputed.desc(), (DETECTIONS.c.state == "done").desc(), DETECTIONS.c.number.desc())
        place = func.row_number().over(partition_by=CASES.c.id, order_by=first)
        every = func.count().over(partition_by=CASES.c.id)
        asked = select(CASES.c.id.label("case_id"), DETECTIONS.c.id.label("upload"), DETECTIONS.c.number, place.label("place"), every.label("every"))
        placed = asked.join(DETECTIONS, held).where(CASES.c.id.in_(ids)).subquery()
        for upload in connection.execute(select(placed).where(placed.c.place <= UPLOADS_SHOWN).order_by(placed.c.number)):
            sent.setdefault(upload.case_id, []).append(upload)
        return [self._one(row, reviews.get(row["id"], []), sent.get(row["id"], [])) for row in rows]

    def _one(self, row: Mapping[str, Any], reviews: list[dict[str, Any]], sent: Sequence[Any]) -> dict[str, Any]:
        answers, needed = len(reviews), self.settings.queue.reviewers_needed
        if row["state"] == "decided":
            needed = answers
        elif answers >= needed and not decided([review["label"] for review in reviews], needed):
            needed = MOST_REVIEWS
        uploads = {"uploads": sent[0].every if sent else 0, "detections": [upload.upload for upload in sent]}
        left = {"handover": row["handover"] or "", "batch": row["batch"] or "", **uploads}
        return {**row, "reviews": reviews, "answers": answers, "needed": max(needed, answers), **left}


def _next_number(connection: Connection) -> int:
    """Of a case that is opened now; the write lock is held."""
    counted = func.nextval(func.pg_get_serial_sequence("cases", "number"))
    highest = func.max(CASES.c.number) + 1
    return int(connection.execute(select(highest if connection.dialect.name == "sqlite" else counted)).scalar_one())


def decided(labels: Sequence[str], needed: int) -> str:
    """What the answers come to, in the order in which they came: a label, or "" while another answer is needed.

    `needed` agreeing answers decide; where two differ a third decides; three without a majority of real or fake are unsure.
    """
    if len(labels) < needed:
        return ""
    if len(set(labels)) == 1:
        return labels[0]
    if len(labels) < MOST_REVIEWS:
        return ""
    label, votes = Counter(labels).most_common(1)[0]
    return label if votes * 2 > len(labels) and label in TRAINING_LABELS else "unsure"


def agreed_identity(identities: Iterable[str]) -> str:
    """Whom those who named somebody agree on, however accents are typed; "" where they name different people: a wrong identity leaks people across splits."""
    named = {composed(identity.strip()) for identity in identities if identity.strip()}
    return named.pop() if len(named) == 1 else ""


def disguised(case: Mapping[str, Any], user_id: str, reviewers_needed: int) -> dict[str, Any]:
    """A gold case as an ordinary one to who may not know it: as if this reviewer were the first to answer."""
    shown = {name: value for name, value in case.items() if name != "gold"}
    if not case["gold"] or case["state"] != "open":
        return shown
    mine = [review for review in case["reviews"] if review["reviewer_id"] == user_id]
    shown |= {"reviews": mine, "answers": len(mine), "needed": reviewers_needed}
    if mine and reviewers_needed == 1:
        label = mine[0]["label"]
        shown |= {"state": "decided", "label": label, "decided_at": mine[0]["created_at"], "handover": "waiting" if label in TRAINING_LABELS else ""}
        shown["identity"] = agreed_identity([mine[0]["identity"]])
    return shown


def _unanswered(case: Mapping[str, Any], reviewers_needed: int) -> dict[str, Any]:
    """A case for somebody who has not answered: how many have, and nothing of what they said; of a gold case, nothing that tells it from another."""
    shown = {name: value for name, value in disguised(case, "", reviewers_needed).items() if name != "owner_id"}
    return shown | {"reviews": blanked(shown["reviews"])}


def blanked(reviews: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """When others have answered, and nothing of who they are or what they said."""
    return [{"reviewer": "", "label": "", "note": "", "created_at": review["created_at"]} for review in reviews]
