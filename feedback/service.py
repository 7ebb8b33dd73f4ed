"""The one door: everything that API and console do goes through a method here, and each asks `authorize` first.

Every public method takes who asks as its first argument. Plain and synchronous (call them from a thread where a page must
not wait), except what talks to the worker processes. An object that does not exist and one that is not for this actor to see
give the same answer, NotFound, so that ids cannot be guessed at; an action that its role may never do is Forbidden.
"""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from feedback import audit, estimate, learned, models_page, rollback
from feedback.access import ACTIONS, Actor, Forbidden, Role, authorize, may
from feedback.accounts import AccountRefused, Accounts, Session
from feedback.cases import Cases, blanked, disguised
from feedback.database import Database
from feedback.detections import Accepted, Detections
from feedback.erasing import Erasing
from feedback.gathering import Gathering
from feedback.history import as_csv, as_shown
from feedback.keep import MediaStore, derived_name
from feedback.report import ALGORITHM, case_report, public_key, report_pdf
from feedback.sealing import unlike_sealed
from feedback.secret import Secret
from feedback.webhooks import Webhooks
from feedback.work.supervisor import Workers
from workspace.choices import POLICIES
from workspace.errors import WorkspaceError
from workspace.settings import Settings, check_mode

_PICTURE = re.compile(r"thumbnail|picture|(face|heatmap)-\d{1,3}")


class NotFound(Exception):
    """There is no such thing for this actor: none at all, or somebody else's. `next_step` says how it comes to be, where it can."""

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(what)
        self.next_step = next_step


class Gone(Exception):
    """It was here; the message says what became of it."""


class Service:
    """The feedback service of one workspace, in one process. Close it when done."""

    def __init__(self, root: Path, settings: Settings, secret: Secret, workers: Workers | None = None) -> None:
        self.root, self.settings, self.secret, self.workers = root, settings, secret, workers
        self.database = Database(root, settings)
        self.media = MediaStore(root, settings)
        self.media.begin_service()
        self.accounts = Accounts(self.database, secret, settings.feedback)
        self.cases = Cases(self.database, settings.feedback, secret.key("cases"))
        self.cases.settle_anew()  # the settings of this start may want another number of reviewers
        self.webhooks = Webhooks(self.database, secret, settings.feedback)
        self.detections = Detections(self.database, self.media, self.cases, self.webhooks, settings.feedback)
        self.retention = self.detections.retention
        self.erasing = Erasing(self.database, self.media)
        self.gathering = Gathering(root, self.detections)

    def close(self) -> None:
        """Close the database; the service cannot be used after it."""
        self.database.close()

    # -- who asks -----------------------------------------------------------------------------------------------------------
    def sign_up(self, actor: Actor, name: str, email: str, user_name: str, password: str) -> str:
        """Make one's own account with the role that the settings give; returns its id. Raises AccountRefused."""
        authorize(actor, "account.sign_up")
        if not self.settings.feedback.sign_up:
            raise AccountRefused("Accounts are made by an admin here. Ask one.")
        return self.accounts.create(name, email, user_name, password, Role[self.settings.feedback.sign_up_role], by="")

    def log_in(self, actor: Actor, user_name: str, password: str) -> Session:
        """A new session. Raises AccountRefused."""
        authorize(actor, "account.log_in")
        return self.accounts.log_in(user_name, password)

    def log_out(self, actor: Actor, token: str) -> None:
        """End the session of this token."""
        authorize(actor, "account.log_in")
        self.accounts.log_out(token)

    def account(self, actor: Actor, user_id: str = "") -> dict[str, Any]:
        """An account: one's own, or anybody's for an admin."""
        authorize(actor, "account.read", user_id or actor.user_id)
        found = self.accounts.by_id(user_id or actor.user_id)
        if found is None:
            raise NotFound("There is no such account.")
        return found

    def change_password(self, actor: Actor, password: str, old: str = "", user_id: str = "") -> None:
        """Set a password; one's own needs the old one. Ends every session of the account."""
        target = user_id or actor.user_id
        authorize(actor, "account.change", target)
        own = target == actor.user_id
        if not own and self.accounts.by_id(target) is None:
            raise NotFound("There is no such account.")
        self.accounts.change_password(target, password, actor.who, old if own else None)

    def users_page(self, actor: Actor, before: str = "", limit: int = 100, named: str = "", sources: bool = False) -> dict[str, Any]:
        """Accounts, the newest first: {"users": [...], "next": the `before` of the following page or None}. See Accounts.page."""
        authorize(actor, "account.list")
        found, further = _page(self.accounts.page(before, limit + 1, named, sources), limit, "id")
        return {"users": found, "next": further}

    def user_names(self, actor: Actor, ids: Collection[str]) -> dict[str, str]:
        """The user names of these accounts, by their ids."""
        authorize(actor, "account.list")
        return self.accounts.user_names(ids)

    def create_user(self, actor: Actor, name: str, email: str, user_name: str, password: str, role: str) -> str:
        """Make an account for somebody; returns its id."""
        authorize(actor, "account.govern")
        return self.accounts.create(name, email, user_name, password, _role(role), actor.who)

    def govern(self, actor: Actor, user_id: str, role: str = "", disabled: bool | None = None, unlock: bool = False) -> dict[str, Any]:
        """Change an account's role, disable it, unlock it. Raises NotFound, AccountRefused."""
        authorize(actor, "account.govern")
        self.account(actor, user_id)
        self.accounts.govern(user_id, actor.who, _role(role) if role else None, disabled, unlock)
        return self.account(actor, user_id)

    def create_key(self, actor: Actor, name: str) -> dict[str, Any]:
        """A new API key of one's own; its text is shown this once."""
        authorize(actor, "key.create", actor.user_id)
        key_id, text = self.accounts.create_key(actor.user_id, name, actor.who)
        return {"id": key_id, "name": name.strip(), "key": text}

    def keys_page(self, actor: Actor, user_id: str = "", before: str = "", limit: int = 100) -> dict[str, Any]:
        """One's own keys, or an account's for an admin, the newest first: {"keys": [...], "next": the `before` of the following page or None}."""
        authorize(actor, "key.list", user_id or actor.user_id)
        found, further = _page(self.accounts.keys_page(user_id or actor.user_id, before, limit + 1), limit, "id")
        return {"keys": found, "next": further}

    def revoke_key(self, actor: Actor, key_id: str) -> None:
        """End a key."""
        self._allow(actor, "key.revoke", self.accounts.owner(key_id), "key")
        self.accounts.revoke_key(key_id, actor.who)

    # -- media and verdicts ---------------------------------------------------------------------------------------------------
    def detect(
        self, actor: Actor, files: Sequence[tuple[Path, str, int]], policy: str = "", mode: str = "", idempotency_key: str = "", fingerprint: str = ""
    ) -> list[dict[str, Any]]:
        """Take in received files (path, sha256, bytes) for a verdict: stored first, then queued in one transaction. Nothing of a refused request stays.

        Where database or store do not answer, what was stored goes with the leftovers. The files at `path` stay the caller's.
        Raises QueueFull, KeyReused, MediaGone, ValueError for an unknown policy or mode.
        """
        authorize(actor, "detection.create")
        if policy and policy not in POLICIES:
            raise ValueError(f"There is no policy {policy!r}; the policies are {', '.join(POLICIES)}.")
        check_mode(mode)
        if idempotency_key and (before := self.replayed(actor, idempotency_key, fingerprint)) is not None:
            return before
        self.detections.make_room(len(files))
        try:
            for path, sha256, _ in files:
                self.media.put(path, sha256)
            accepted = [Accepted(sha256, size) for _, sha256, size in files]
            rows = self.detections.accept(actor, accepted, policy, mode, idempotency_key, fingerprint)
        finally:
            self.detections.remove_unkept([sha256 for _, sha256, _ in files])  # refused after all, or answered before
        if self.workers is not None:
            self.workers.wake()
        return [_shown(actor, row) for row in rows]

    def may_detect(self, actor: Actor, idempotency_key: str = "") -> None:
        """Return quietly where this actor may send media, and there is room for one or the key came before: asked before a byte of them is read."""
        authorize(actor, "detection.create")
        if not (idempotency_key and self.detections.knows(actor, idempotency_key)):
            self.detections.make_room(1)

    def replayed(self, actor: Actor, idempotency_key: str, fingerprint: str) -> list[dict[str, Any]] | None:
        """The detections made under this key before, None where it is new. Raises KeyReused for another question."""
        authorize(actor, "detection.create")
        rows = self.detections.replayed(actor, idempotency_key, fingerprint)
        return None if rows is None else [_shown(actor, row) for row in rows]

    def detection(self, actor: Actor, detection_id: str) -> dict[str, Any]:
        """One verdict, or how far it is; for who may not read cases, with what people say of it (`people`)."""
        return self._told(actor, self._detection(actor, "detection.read", detection_id))

    def detections_page(
        self,
        actor: Actor,
        everybody: bool = False,
        before: int | None = None,
        limit: int = 50,
        verdict: str = "",
        state: str = "",
        policy: str = "",
        since: str = "",
        until: str = "",
    ) -> dict[str, Any]:
        """Verdicts, newest first: {"detections": [...], "next": the `before` of the following page or None}. Filters: see Detections.page."""
        authorize(actor, "detection.list", None if everybody else actor.user_id)
        rows, further = _page(self.detections.page(None if everybody else actor.user_id, before, limit + 1, verdict, state, policy, since, until), limit)
        return {"detections": [_shown(actor, row) for row in rows], "next": further}

    def export(self, actor: Actor, everybody: bool = False, **filters: str) -> Iterator[str]:
        """The history as CSV, a piece at a time, spreadsheet formulas defused; recorded in the audit trail."""
        authorize(actor, "detection.export", None if everybody else actor.user_id)
        with self.database.write() as connection:
            audit.append(connection, actor.who, "detection.export", "history", {"everybody": everybody, **{k: v for k, v in filters.items() if v}})
        return as_csv(self.detections, None if everybody else actor.user_id, filters)

    def dispute(self, actor: Actor, detection_id: str, claim: str, note: str = "") -> dict[str, Any]:
        """Say that a verdict is wrong (`claim`: real or fake); it becomes a case. Raises ValueError while there is no verdict."""
        row = self._detection(actor, "detection.dispute", detection_id)
        return self._told(actor, self.detections.dispute(actor, row["id"], claim, note))

    def erase(self, actor: Actor, detection_id: str, why: str = "") -> dict[str, Any]:
        """Erase an upload and what came of it; returns what was done now and what the next cycle will do."""
        row = self._detection(actor, "detection.erase", detection_id)
        return self.erasing.erase(actor, row["id"], why)

    def media_file(self, actor: Actor, detection_id: str, what: str) -> Path:
        """A picture made of a detection's media: `thumbnail`, `picture`, `face-3`, or (after an explanation) `heatmap-3`. Raises NotFound, Gone."""
        row = self._detection(actor, "detection.media", detection_id)
        self._seen(actor, row)
        if not _PICTURE.fullmatch(what):
            raise NotFound("There is no such picture.")
        made = self.media.derived(row["sha256"])
        path = made / derived_name(row["id"], f"{what}.webp")
        if not path.is_file():
            unexplained = what.startswith("heatmap-") and not (made / derived_name(row["id"], "heatmap-0.webp")).is_file()
            how = "Ask for this detection's /explanation: heatmaps are made with it, or it says why there are none."
            raise NotFound("There is no such picture.", how if unexplained else "")
        return path

    def media_local(self, actor: Actor, detection_id: str, again: bool = False) -> Any:
        """A context manager that gives the path of the media themselves, for playing them. Raises NotFound, Gone.

        `again`: a further part of what this actor has just opened; it is no new view for the audit trail.
        """
        row = self._detection(actor, "detection.media", detection_id)
        self._seen(actor, row)
        if not again:
            with self.database.write() as connection:
                audit.append(connection, actor.who, "detection.view", f"detection:{row['id']}", {"sha256": row["sha256"]})
        return self.media.local(row["sha256"])

    async def explanation(self, actor: Actor, detection_id: str) -> dict[str, Any]:
        """Heatmaps and timeline of a verdict, made when first asked for (seconds, by a process of its own)."""
        row = self._detection(actor, "detection.media", detection_id)
        self._seen(actor, row)
        if row["state"] != "done" or row["verdict"] in ("", "none"):
            raise ValueError("There is nothing to explain: this file has no verdict.")
        if self.workers is None:
            raise WorkspaceError("Explanations are made by the running service.", why="no worker runs here", next_step="Start `vigil serve`.")
        return await self.workers.explain(row["id"])

    def report(self, actor: Actor, detection_id: str) -> dict[str, Any]:
        """The signed report of a verdict; recorded. Raises Gone for an erased upload, ValueError where there is no verdict yet.

        Raises WorkspaceError for a verdict that the audit trail sealed otherwise, or never: it was changed in the database, and nothing is signed.
        """
        row = self._detection(actor, "detection.report", detection_id)
        if row["state"] == "erased":
            raise Gone("This upload was erased: there is no verdict to report.")
        if row["state"] != "done":
            raise ValueError("This file is still being looked at: there is no verdict to report yet.")
        with self.database.write() as connection:
            if unlike := unlike_sealed(connection, row):
                raise WorkspaceError(
                    "No report was signed.",
                    why=unlike,
                    next_step="Run `vigil audit verify`, and find out who wrote it. Sending the file anew gives a verdict that can be reported.",
                )
            audit.append(connection, actor.who, "detection.report", f"detection:{row['id']}", {"sha256": row["sha256"]})
        return case_report(as_shown(row), self.secret)

    def report_page(self, actor: Actor, detection_id: str) -> bytes:
        """The same as PDF, with the thumbnail where this actor may see it."""
        signed, thumbnail = self.report(actor, detection_id), None
        with contextlib.suppress(Gone, NotFound):  # in quarantine, deleted, or never made
            thumbnail = self.media_file(actor, detection_id, "thumbnail")
        return report_pdf(signed, thumbnail)

    def report_key(self, actor: Actor) -> dict[str, str]:
        """The key that this service's reports are verified with: {"algorithm", "key"}. For anybody: a report that names its own key proves nothing."""
        authorize(actor, "service.look")
        return {"algorithm": ALGORITHM, "key": public_key(self.secret)}

    # -- cases ----------------------------------------------------------------------------------------------------------------
    def queue(self, actor: Actor, limit: int = 20) -> list[dict[str, Any]]:
        """What this reviewer should look at next, most useful first."""
        authorize(actor, "case.list")
        return self.cases.queue(actor, limit)

    def cases_page(self, actor: Actor, state: str | None = "open", after: int = 0, limit: int = 100) -> dict[str, Any]:
        """Cases in order of arrival: {"cases": [...], "next": the `after` of the following page or None}."""
        authorize(actor, "case.govern" if state == "known" else "case.list")
        found, further = _page(self.cases.page(state, after, limit + 1, "" if may(actor, "case.govern") else actor.user_id), limit)
        return {"cases": [self._case_for(actor, row) for row in found], "next": further}

    def case(self, actor: Actor, case_id: str) -> dict[str, Any]:
        """One case; labels of others are hidden from a reviewer who has not answered yet."""
        authorize(actor, "case.read")
        found = self._found_case(case_id)
        came_in = found["batch"] if found["handover"] == "ingested" else ""
        known = {"learned_by": learned.learned_by(self.root, case_id), "batch_state": learned.batch_state(self.root, came_in)}
        return self._case_for(actor, {**found, **known})

    def review(self, actor: Actor, case_id: str, label: str, note: str = "", identity: str = "", seconds: float | None = None) -> dict[str, Any]:
        """Answer a case. Raises AlreadyReviewed, NotReviewable."""
        authorize(actor, "case.review")
        self._found_case(case_id)
        return self._case_for(actor, self._settled(self.cases.review(actor, case_id, label, note, identity, seconds)))

    def refusal(self, actor: Actor, case_id: str) -> str:
        """Why `review` would refuse an answer of this actor now; "" where it would take one."""
        authorize(actor, "case.review")
        self._found_case(case_id)
        return self.cases.refusal(actor, case_id)

    def undo(self, actor: Actor, case_id: str) -> dict[str, Any]:
        """Take back one's own answer, until it was handed over, and once its batch is dropped: else TooLate."""
        authorize(actor, "case.undo", actor.user_id)
        self._found_case(case_id)
        return self._case_for(actor, self._settled(self.cases.undo(actor, case_id)))

    def quarantine(self, actor: Actor, case_id: str, why: str) -> dict[str, Any]:
        """Keep a case out of training and out of the queue."""
        authorize(actor, "case.govern")
        self._found_case(case_id)
        self.cases.quarantine(actor, case_id, why)
        return self.case(actor, case_id)

    def release(self, actor: Actor, case_id: str) -> dict[str, Any]:
        """End the quarantine of a case."""
        authorize(actor, "case.govern")
        self._found_case(case_id)
        self._settled(self.cases.release(actor, case_id))
        return self.case(actor, case_id)

    def set_gold(self, actor: Actor, case_id: str, label: str) -> dict[str, Any]:
        """Say what a case truly is: it measures reviewers from now on and never trains. An empty label ends that."""
        authorize(actor, "case.govern")
        self._found_case(case_id)
        self._settled(self.cases.set_gold(actor, case_id, label))
        return self.case(actor, case_id)

    def quality(self, actor: Actor, user_id: str | None = None) -> list[dict[str, Any]]:
        """How well a reviewer (None: everybody) agrees with known cases and with the others."""
        authorize(actor, "quality.read", user_id)
        return self.cases.quality(user_id)

    # -- models, charts -------------------------------------------------------------------------------------------------------
    def models(self, actor: Actor) -> dict[str, Any]:
        """Which model answers, why it may not be the one that leads, which came before, every cycle's decision and figures."""
        authorize(actor, "model.read")
        return {"serving": self.serving(), **(self.workers.problems if self.workers else {}), **models_page.models(self.root)}

    def serving(self) -> dict[str, Any] | None:
        """What answers now; None until a model has. For anybody: /readyz shows it."""
        return dict(self.workers.model) if self.workers is not None and self.workers.model is not None else None

    def rollback(self, actor: Actor, why: str, to: str = "", instead_of: str = "") -> str:
        """Serve an earlier champion again, where `instead_of` still leads if it is named. Raises WorkspaceError with the reason where that cannot be."""
        authorize(actor, "model.rollback")
        tried = rollback.attempt(self.root, self.account(actor)["user_name"], why, to, instead_of)
        if tried.to:
            with self.database.write() as connection:  # it stands, whatever failed after it
                audit.append(connection, actor.who, "model.rollback", "model", {"to": tried.to, "why": why})
        return tried.told()

    def charts(self, actor: Actor, days: int = 56) -> dict[str, Any]:
        """Volume, verdicts and uncertainty by day; estimated accuracy by model; drift and accuracy by cycle."""
        authorize(actor, "chart.read")
        return {
            "days": self.detections.by_day(days),
            "cases": self.cases.counts(),
            "estimated": estimate.by_model(self.database, days),
            "cycles": models_page.figures(self.root),
        }

    # -- webhooks, the trail ----------------------------------------------------------------------------------------------------
    def create_webhook(self, actor: Actor, url: str) -> dict[str, Any]:
        """Have finished verdicts sent to `url`; the secret that signs them is shown this once. Raises ValueError for a refused address."""
        authorize(actor, "webhook.create", actor.user_id)
        return self.webhooks.create(actor, url)

    def webhooks_list(self, actor: Actor, user_id: str = "") -> list[dict[str, Any]]:
        """One's own webhooks, or an account's for an admin, with what was sent and what failed."""
        authorize(actor, "webhook.list", user_id or actor.user_id)
        return self.webhooks.list_webhooks(user_id or actor.user_id)

    def delete_webhook(self, actor: Actor, webhook_id: str) -> None:
        """End a webhook."""
        self._allow(actor, "webhook.delete", self.webhooks.owner(webhook_id), "webhook")
        self.webhooks.delete(actor, webhook_id)

    def trail(self, actor: Actor, object_: str | None = None, before: int | None = None, limit: int = 100) -> dict[str, Any]:
        """The audit trail, newest first: {"entries": [...], "next": the `before` of the following page or None}."""
        authorize(actor, "audit.read")
        with self.database.read() as connection:
            found, further = _page(audit.entries(connection, object_, before, limit + 1), limit)
        return {"entries": found, "next": further}

    def verify_trail(self, actor: Actor, expect_last: str = "") -> audit.Verified:
        """Walk the whole chain."""
        authorize(actor, "audit.read")
        return audit.verify(self.database, expect_last)

    def figures(self, actor: Actor) -> dict[str, int]:
        """Counts for a monitoring system."""
        authorize(actor, "service.metrics")
        return {
            **{f"detections_{state}": count for state, count in self.detections.counts().items()},
            **{f"cases_{s}": n for s, n in self.cases.counts().items()},
        }

    # -- inside -----------------------------------------------------------------------------------------------------------------
    def _allow(self, actor: Actor, action: str, owner_id: str | None, what: str) -> None:
        """authorize for an object that may be missing or not theirs to know of."""
        if owner_id is None or not may(actor, action, owner_id):
            if not may(actor, action, actor.user_id) or not actor.user_id:
                raise Forbidden(actor, action)
            raise NotFound(f"There is no such {what}.")
        authorize(actor, action, owner_id)

    def _detection(self, actor: Actor, action: str, detection_id: str) -> dict[str, Any]:
        row = self.detections.get(detection_id)
        self._allow(actor, action, None if row is None else row["owner_id"], "detection")
        assert row is not None  # _allow refuses a missing one
        return row

    def _seen(self, actor: Actor, row: Mapping[str, Any]) -> None:
        """Refuse media that are gone, or quarantined for who sent them."""
        if row["state"] == "erased":
            raise Gone("This upload was erased: there is nothing to see of it.")
        if row["media_state"] == "deleted":
            raise Gone("The media have been deleted; the verdict and the hash are kept.")
        if row["media_state"] == "quarantined" and actor.role < Role.reviewer:
            raise Gone("The media are in quarantine: only reviewers can see them.")

    def _settled(self, case: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """A case after what may have decided it; its media are shown at once where people did not call them fake."""
        if case is not None and case["state"] == "decided":
            self.retention.show_again(case["sha256"])
        return case or {}

    def _found_case(self, case_id: str) -> dict[str, Any]:
        found = self.cases.get(case_id)
        if found is None:
            raise NotFound("There is no such case.")
        return found

    def _case_for(self, actor: Actor, case: Mapping[str, Any]) -> dict[str, Any]:
        """Gold is not shown to who may not govern, nor others' answers to who has still to give one."""
        shown = dict(case)
        governs = may(actor, "case.govern")
        if shown and not governs:
            shown = disguised(shown, actor.user_id, self.settings.feedback.queue.reviewers_needed)
        mine = [review for review in shown.get("reviews", []) if review.get("reviewer_id") == actor.user_id]
        if shown.get("state") == "open" and not mine and not governs:
            shown["reviews"] = blanked(shown.get("reviews", []))
        return shown

    def _told(self, actor: Actor, row: Mapping[str, Any]) -> dict[str, Any]:
        """A detection, and how its case stands for who may not read it: a reviewer would learn from it which cases are known ones."""
        if may(actor, "case.read"):
            return _shown(actor, row)
        with self.database.read() as connection:
            state, label = self.cases.standing_of(connection, actor, row["sha256"])  # of the content, whichever upload opened its case
        people = label if state == "decided" else "asked" if row["case_state"] == "open" else ""
        return _shown(actor, row) | {"people": people}


def _page(found: list[dict[str, Any]], limit: int, by: str = "number") -> tuple[list[dict[str, Any]], Any]:
    """The rows of a page, of which one more was looked for, and the number (or id) to go on from; None where there are no further ones."""
    return found[:limit], found[limit - 1][by] if len(found) > limit else None


def _shown(actor: Actor, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as this actor may know it: a quarantine of the media is told to whom it hides them from, and to who governs cases.

    For a reviewer, who sees the media either way, they are kept: their answer ends the quarantine of an ordinary case, and of a known one never.
    """
    shown = as_shown(row)
    if shown["media_state"] == "quarantined" and actor.role >= Role.reviewer and not may(actor, "case.govern"):
        shown["media_state"] = "kept"
    return shown


def _role(name: str) -> Role:
    if name not in Role.__members__ or name == "anonymous":
        raise AccountRefused(f"There is no role {name!r}.", "role")
    return Role[name]


__all__ = ["ACTIONS", "Forbidden", "Gone", "NotFound", "Service"]
