"""How long media are kept.

`sweep` follows the settings: by policy, verdict and age, media are deleted and only their hashes stay; those that are kept for
no day go with the verdict (`let_go`). Media that somebody still needs are kept: of an upload in work, of a case that is open,
in quarantine (unless nobody is to be asked any more), or on its way to training. What is called fake is hidden from who sent
it for as long as it is called so: people count before any verdict, and a verdict of fake stands until one that was asked for
in the same way, with its policy and mode, says real: who sends a file chooses both. What a person wants erased is
feedback/erasing.py.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, select, update

from feedback import audit
from feedback.database import Database, now
from feedback.keep import MediaStore, StoreSilent, one_of_many
from feedback.policies import policy_settings
from feedback.tables import CASES, DETECTIONS, MEDIA, OUTBOX
from workspace.choices import POLICIES
from workspace.errors import DatabaseSilent, first_few
from workspace.for_review import NOT_ASKED
from workspace.settings import FeedbackSettings

LOG = logging.getLogger("vigil.keep")
WHO = "system:retention"
ROWS_AT_A_TIME = 1000
HIDDEN_AFTER_HOURS = 1  # after a verdict of fake: so long who sent the file sees what it is about
DONE = {"deleted": "deleted", "quarantined": "quarantined", "kept": "released"}  # what becomes of a file, and how the trail calls it
ERASED_FAKE = "called fake in an upload that was erased since"  # of media that others hold: what hides them does not go with it
Way = tuple[str, str]  # policy and mode, in which a verdict was asked for
WHY = {"deleted": "kept long enough", "quarantined": "called fake", "kept": "not called fake any more"}


class Retention:
    """The keeping of one service's media. Safe to use from several threads and processes."""

    def __init__(self, database: Database, media: MediaStore, settings: FeedbackSettings) -> None:
        self.database, self.media, self.settings = database, media, settings

    def sweep(self, moment: str = "", only: str = "", deletes: bool = True) -> dict[str, int]:
        """Delete, quarantine and release what is due at `moment` (now), of all files or this one; returns how many of each. Safe to repeat.

        With `deletes` False it hides and shows again alone. A file that cannot be deleted, as where its store denies it, is logged and keeps no other.
        Raises StoreSilent where the store does not answer.
        """
        moment, done, stuck = moment or now(), dict.fromkeys(DONE.values(), 0), list[str]()
        with self.database.read() as connection:
            due = self._due(connection, moment, only, deletes)
        for sha256 in sorted(due, key=lambda one: due[one] == "deleted"):  # the others first: they need no store
            # one file a transaction, and looked at again: others wait for a moment only
            with one_of_many(sha256, stuck), self.database.write() as connection:
                what = self._due(connection, moment, sha256, deletes).get(sha256, "")
                if what:
                    self._do(connection, sha256, what)
                    done[DONE[what]] += 1
        if stuck:
            LOG.warning("%d media that are due could not be deleted; each sweep tries them again: %s", len(stuck), first_few(stuck))
        if not only:
            self.database.empty_log()  # of erasures while others were reading
        return done

    def let_go(self, row: Mapping[str, Any]) -> None:
        """Delete the media of a detection that has just got its verdict where they are kept for no day longer; what cannot go now goes with the next sweep."""
        if self._days(row) > 0:
            if row["media_state"] == "quarantined":
                self.show_again(row["sha256"])
            return
        try:
            self.sweep(only=row["sha256"])
        except (DatabaseSilent, StoreSilent) as problem:
            LOG.warning("the media %s are deleted later: %s", row["sha256"], problem)

    def show_again(self, sha256: str) -> None:
        """Show a file to who sent it again where nothing calls it fake any more, as by what people have just decided; else, or later, the next sweep does."""
        try:
            with self.database.read() as connection:
                if self._due(connection, now(), sha256).get(sha256) != "kept":
                    return
            with self.database.write() as connection:
                if self._due(connection, now(), sha256).get(sha256) == "kept":
                    self._do(connection, sha256, "kept")
        except DatabaseSilent as problem:
            LOG.warning("the media %s are shown again later: %s", sha256, problem)

    def _do(self, connection: Connection, sha256: str, what: str) -> None:
        if what == "deleted":
            self.media.delete(sha256)
        before = connection.execute(select(MEDIA.c.why).where(MEDIA.c.sha256 == sha256)).scalar_one()
        why = "" if what == "kept" else ERASED_FAKE if (what, before) == ("quarantined", ERASED_FAKE) else WHY[what]
        values = {"state": what, "state_since": now(), "why": why}
        connection.execute(update(MEDIA).where(MEDIA.c.sha256 == sha256).values(**values))
        audit.append(connection, WHO, f"media.{DONE[what]}", f"media:{sha256}", {"why": WHY[what]})

    def _due(self, connection: Connection, moment: str, sha256: str = "", deletes: bool = True) -> dict[str, str]:
        """What each file is to be that does not stay what it is: deleted (if `deletes`), quarantined, kept again.

        The uploads of one file at a time are in memory.
        """
        files = groupby(_uploads(connection, sha256), key=itemgetter("sha256"))
        judged = ((name, self._what(list(rows), moment)) for name, rows in files)
        return {name: what for name, what in judged if what and (deletes or what != "deleted")}

    def _what(self, rows: list[Mapping[str, Any]], moment: str) -> str:
        working = any(row["state"] != "done" for row in rows)
        doubted = rows[0]["case_state"] == "quarantined" and rows[0]["case_why"] not in NOT_ASKED
        asked = rows[0]["case_state"] == "open" or doubted or rows[0]["outbox_state"] in ("waiting", "exported")
        if not working and not asked and all(_past(_since(row), self._days(row), moment) for row in rows):
            return "deleted"
        since = _called_fake(rows) if self.settings.retention.quarantine_fakes else ""
        if rows[0]["media_state"] == "quarantined":
            return "" if since else "kept"
        return "quarantined" if since and _past(since, HIDDEN_AFTER_HOURS / 24, moment) else ""

    def _days(self, row: Mapping[str, Any]) -> float:
        policy = policy_settings(self.settings, row["policy"]) if row["policy"] in POLICIES else None
        if policy is not None and policy.keep_days is not None:
            return float(policy.keep_days)
        kept = self.settings.retention
        return float({"real": kept.real_days, "fake": kept.fake_days, "uncertain": kept.uncertain_days}.get(row["verdict"], kept.none_days))


def remember_fake(connection: Connection, sha256: str, before: set[Way]) -> None:
    """Note of media that others hold that they were called fake in one of the ways of `before` an upload was erased in which no other upload says so."""
    rows = list(_uploads(connection, sha256))
    if rows and before - _standing(rows).keys():
        connection.execute(update(MEDIA).where(MEDIA.c.sha256 == sha256).values(why=ERASED_FAKE))


def ways_called_fake(connection: Connection, sha256: str) -> set[Way]:
    """The ways in which verdicts call a file fake, whatever people say: they may take that back."""
    return set(_standing(_uploads(connection, sha256)))


def _uploads(connection: Connection, sha256: str) -> Iterator[Mapping[str, Any]]:
    """The uploads of this file, or of all, whose media are here, file by file, each with what is known of file and case."""
    query = select(
        MEDIA.c.sha256, MEDIA.c.state.label("media_state"), MEDIA.c.state_since, MEDIA.c.why,
        *(DETECTIONS.c[name] for name in ("number", "state", "policy", "mode", "verdict", "finished_at", "created_at")),
        CASES.c.state.label("case_state"), CASES.c.why.label("case_why"), CASES.c.label, CASES.c.decided_at, OUTBOX.c.state.label("outbox_state"),
    ).select_from(
        MEDIA.join(DETECTIONS, DETECTIONS.c.sha256 == MEDIA.c.sha256)
        .outerjoin(CASES, CASES.c.sha256 == MEDIA.c.sha256).outerjoin(OUTBOX, OUTBOX.c.case_id == CASES.c.id)
    ).where(MEDIA.c.state != "deleted", DETECTIONS.c.state != "erased")  # fmt: skip
    if sha256:
        query = query.where(MEDIA.c.sha256 == sha256)
    yield from map(dict, connection.execute(query.order_by(MEDIA.c.sha256), execution_options={"yield_per": ROWS_AT_A_TIME}).mappings())


def _called_fake(rows: list[Mapping[str, Any]]) -> str:
    """Since when a file has been called fake without a break, "" where it is not: by what people decided, else by the verdicts on it.

    What people decided stands while its case is in quarantine: the label is emptied when the case is opened again, or an answer taken back.
    """
    standing = _standing(rows)
    erased = [str(rows[0]["state_since"] or _since(rows[0]))] if rows[0]["why"] == ERASED_FAKE else []  # in which way nobody knows any more: people tell
    since = min([*standing.values(), *erased], default="")
    if rows[0]["case_state"] in ("decided", "quarantined") and rows[0]["label"] in ("real", "fake"):
        people = str(rows[0]["decided_at"])
        return "" if rows[0]["label"] == "real" else min(since or people, people)
    return since


def _standing(rows: Iterable[Mapping[str, Any]]) -> dict[Way, str]:
    """Since when each verdict of fake stands, by the way in which it was asked for."""
    standing: dict[Way, str] = {}
    for row in sorted((row for row in rows if row["state"] == "done"), key=lambda row: (row["finished_at"], row["number"])):
        way = (row["policy"], row["mode"])
        if row["verdict"] == "fake":
            standing.setdefault(way, _since(row))
        elif row["verdict"] == "real":
            standing.pop(way, None)
    return standing


def _since(row: Mapping[str, Any]) -> str:
    return str(row["finished_at"] or row["created_at"])


def _past(since: str, days: float, moment: str) -> bool:
    return datetime.fromisoformat(since) + timedelta(days=days) <= datetime.fromisoformat(moment).astimezone(UTC)
