"""How long media are kept.

`sweep` follows the settings: by policy, verdict and age, media are deleted and only their hashes stay; those that are kept for
no day go with the verdict (`let_go`). Media that somebody still needs are kept: of an upload in work, of a case that is open,
in quarantine, or on its way to training. What a person wants erased is feedback/erasing.py.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from feedback import audit
from feedback.database import Database, now
from feedback.keep import MediaStore, StoreSilent
from feedback.policies import policy_settings
from feedback.tables import CASES, DETECTIONS, MEDIA, OUTBOX
from workspace.choices import POLICIES
from workspace.errors import DatabaseSilent
from workspace.settings import FeedbackSettings

LOG = logging.getLogger("vigil.keep")
WHO = "system:retention"


class Retention:
    """The keeping of one service's media. Safe to use from several threads and processes."""

    def __init__(self, database: Database, media: MediaStore, settings: FeedbackSettings) -> None:
        self.database, self.media, self.settings = database, media, settings

    def sweep(self, moment: str = "", only: str = "") -> dict[str, int]:
        """Delete and quarantine what is due at `moment` (now), of all files or this one; returns {"deleted": n, "quarantined": n}. Safe to repeat."""
        moment, done = moment or now(), {"deleted": 0, "quarantined": 0}
        with self.database.read() as connection:
            due = [sha256 for sha256, what in self._due(connection, moment, only).items() if what]
        for sha256 in due:
            with self.database.write() as connection:  # one file a transaction, and looked at again: others wait for a moment only
                what = self._due(connection, moment, sha256).get(sha256, "")
                if what == "deleted":
                    self.media.delete(sha256)
                if what:
                    values = {"state": what, "state_since": now(), "why": "kept long enough" if what == "deleted" else "called fake"}
                    connection.execute(update(MEDIA).where(MEDIA.c.sha256 == sha256).values(**values))
                    audit.append(connection, WHO, f"media.{what}", f"media:{sha256}", {"why": values["why"]})
                    done[what] += 1
        if not only:
            self.database.empty_log()  # of erasures while others were reading
        return done

    def let_go(self, row: Mapping[str, Any]) -> None:
        """Delete the media of a detection that has just got its verdict where they are kept for no day longer; what cannot go now goes with the next sweep."""
        if self._days(row) > 0:
            return
        try:
            self.sweep(only=row["sha256"])
        except (DatabaseSilent, StoreSilent, OSError) as problem:
            LOG.warning("the media %s are deleted later: %s", row["sha256"], problem)

    def _due(self, connection: Connection, moment: str, sha256: str = "") -> dict[str, str]:
        """What is to be done with each file: deleted, quarantined, or ""."""
        query = select(
            MEDIA.c.sha256, MEDIA.c.state.label("media_state"),
            *(DETECTIONS.c[name] for name in ("state", "policy", "verdict", "finished_at", "created_at")),
            CASES.c.state.label("case_state"), OUTBOX.c.state.label("outbox_state"),
        ).select_from(
            MEDIA.join(DETECTIONS, DETECTIONS.c.sha256 == MEDIA.c.sha256)
            .outerjoin(CASES, CASES.c.sha256 == MEDIA.c.sha256).outerjoin(OUTBOX, OUTBOX.c.case_id == CASES.c.id)
        ).where(MEDIA.c.state != "deleted", DETECTIONS.c.state != "erased")  # fmt: skip
        if sha256:
            query = query.where(MEDIA.c.sha256 == sha256)
        files: dict[str, list[Mapping[str, Any]]] = {}
        for row in connection.execute(query).mappings():
            files.setdefault(row["sha256"], []).append(dict(row))
        return {name: self._what(rows, moment) for name, rows in files.items()}

    def _what(self, rows: list[Mapping[str, Any]], moment: str) -> str:
        working = any(row["state"] != "done" for row in rows)
        asked = rows[0]["case_state"] in ("open", "quarantined") or rows[0]["outbox_state"] in ("waiting", "exported")
        if not working and not asked and all(_past(row, self._days(row), moment) for row in rows):
            return "deleted"
        fake = any(row["verdict"] == "fake" and _past(row, self.settings.retention.every_minutes / 1440, moment) for row in rows)
        return "quarantined" if self.settings.retention.quarantine_fakes and fake and rows[0]["media_state"] == "kept" else ""

    def _days(self, row: Mapping[str, Any]) -> float:
        policy = policy_settings(self.settings, row["policy"]) if row["policy"] in POLICIES else None
        if policy is not None and policy.keep_days is not None:
            return float(policy.keep_days)
        kept = self.settings.retention
        return float({"real": kept.real_days, "fake": kept.fake_days, "uncertain": kept.uncertain_days}.get(row["verdict"], kept.none_days))


def _past(row: Mapping[str, Any], days: float, moment: str) -> bool:
    since = datetime.fromisoformat(row["finished_at"] or row["created_at"])
    return since + timedelta(days=days) <= datetime.fromisoformat(moment).astimezone(UTC)
