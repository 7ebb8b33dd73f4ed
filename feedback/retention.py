"""How long media are kept, and how everything of an upload is erased.

`sweep` follows the settings: by policy, verdict and age, media are deleted and only their hashes stay; those that are kept for
no day go with the verdict (`let_go`). Media that somebody still needs are kept: of an upload in work, of a case that is open,
in quarantine, or on its way to training.

`erase` is a person's request. What the service holds goes at once: the media and all that was made of them, the verdict,
the case, its answers' notes. What training holds goes at the next cycle, or with `vigil erase` (`finish_erasures`): see
workspace/forgetting.py. The weights of models that learned from it cannot be unlearned; the erasure names these models.
One file that several people sent is one file: it stays while another's upload holds it, unless an admin erases the file.
A batch that has it from a source of its own keeps it too, and the erasure names it; what the service itself brought out of a
batch to show it to people (feedback/gathering.py) goes out of the batches as well.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, String, cast, delete, func, select, update

from feedback import audit
from feedback.access import Actor
from feedback.database import Database, exists, now
from feedback.handover import remove_copies
from feedback.keep import MediaStore, StoreSilent
from feedback.learned import learned_by, learned_from, remember_all
from feedback.policies import policy_settings
from feedback.tables import BROUGHT, CASES, DELIVERIES, DETECTIONS, ERASURES, MEDIA, OUTBOX, REVIEWS
from workspace.choices import POLICIES
from workspace.errors import DatabaseSilent
from workspace.settings import FeedbackSettings, Settings

if TYPE_CHECKING:
    from workspace.forgetting import Forgotten

LOG = logging.getLogger("vigil.keep")
WHO = "system:retention"
ELSEWHERE = "{batches} has it from a source of its own and keeps it, until an admin runs `vigil erase {sha256}`"
CANNOT = "weights of the models named here were trained with it, or go on from such weights, and cannot unlearn it"
NO_CYCLE = "the next cycle takes it out of the training data"


class Retention:
    """The keeping and erasing of one service. Safe to use from several threads and processes."""

    def __init__(self, database: Database, media: MediaStore, settings: FeedbackSettings) -> None:
        self.database, self.media, self.settings = database, media, settings

    # -- by age ---------------------------------------------------------------------------------------------------------------
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

    # -- on request -----------------------------------------------------------------------------------------------------------
    def erase(self, actor: Actor, detection_id: str, why: str = "") -> dict[str, Any]:
        """Erase one upload; returns {"sha256", "state": erased | held, "held_by", "training", "kept_in", "models", "next"}. Again is harmless.

        `held`: others sent the same file; this upload and its verdict are gone, the file stays for theirs. `training`: requested, done, kept
        (`kept_in` names the batches that have the file from a source of their own), or none. Of what was erased before, the record of that time
        is told and stays. Raises KeyError for no such upload.
        """
        wanted = select(DETECTIONS).where(DETECTIONS.c.id == detection_id)
        with self.database.read() as connection:
            row = connection.execute(wanted).mappings().one_or_none()
        if row is None:
            raise KeyError(detection_id)
        sha256 = str(row["sha256"])
        held = _training_holds(self.database.root, sha256)  # reads many files: not while others wait to write
        with self.database.write() as connection:
            row = connection.execute(wanted).mappings().one()  # as it is by now
            everywhere = str(row["source"]).startswith(BROUGHT)
            before = _recorded(connection, sha256, everywhere) if row["state"] == "erased" else None
            told = before or self._erase(connection, actor, sha256, [dict(row)], why, held, everywhere)
        self.database.empty_log()  # notes and names of people were in it
        return told

    def erase_file(self, actor: Actor, sha256: str, why: str = "", in_batches: bool = False) -> dict[str, Any]:
        """Erase a file, whoever sent it, out of every batch whatever its source. Returns what `erase` does; raises KeyError for an unknown hash.

        `in_batches`: the batches hold it, so it is to be erased though nobody ever sent it to the service.
        """
        held = _training_holds(self.database.root, sha256)
        with self.database.write() as connection:
            rows = [dict(row) for row in connection.execute(select(DETECTIONS).where(DETECTIONS.c.sha256 == sha256)).mappings()]
            if not rows and not in_batches:
                raise KeyError(sha256)
            if all(row["state"] == "erased" for row in rows):
                audit.append(connection, actor.who, "sample.erase", f"media:{sha256}", {"why": why})
            told = self._erase(connection, actor, sha256, rows, why, held, everywhere=True)
        self.database.empty_log()
        return told

    def erasures(self) -> list[dict[str, Any]]:
        """Every erased file: by hash, when, who, why, and what was done; the oldest first."""
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(select(ERASURES).order_by(ERASURES.c.requested_at, ERASURES.c.sha256)).mappings()]

    def _erase(
        self, connection: Connection, actor: Actor, sha256: str, rows: list[dict[str, Any]], why: str, held: "_Held", everywhere: bool
    ) -> dict[str, Any]:
        ids = [row["id"] for row in rows]
        fresh = [row["id"] for row in rows if row["state"] != "erased"]
        blank = {"state": "erased", "verdict": "", "answer": None, "p_fake": None, "novelty": None, "lease_by": "", "lease_until": "", "progress": 0.0}
        connection.execute(update(DETECTIONS).where(DETECTIONS.c.id.in_(fresh)).values(**blank, kind="", group_id="", case_id=None))
        for detection_id in fresh:
            connection.execute(delete(DELIVERIES).where(cast(DELIVERIES.c.body, String).contains(detection_id)))
        holding = (DETECTIONS.c.sha256 == sha256) & (DETECTIONS.c.state != "erased")
        others = connection.execute(select(DETECTIONS.c.owner_id, DETECTIONS.c.source).where(holding).order_by(DETECTIONS.c.number)).all()
        case = connection.execute(select(CASES).where(CASES.c.sha256 == sha256)).mappings().one_or_none()
        told: dict[str, Any] = {"sha256": sha256, "why": why, "detections": fresh, "held_by": len(others), "everywhere": everywhere}
        if others:
            for detection_id in fresh:
                self.media.delete_derived(sha256, detection_id)
            if case is not None:
                # the upload that opened it may be the one that goes
                connection.execute(update(DETECTIONS).where(holding, DETECTIONS.c.case_id.is_(None)).values(case_id=case["id"]))
                if case["owner_id"] not in {other.owner_id for other in others}:
                    connection.execute(update(CASES).where(CASES.c.id == case["id"]).values(owner_id=others[0].owner_id, source=others[0].source))
            if {row["owner_id"] for row in rows} != {other.owner_id for other in others}:
                next_step = "The same file was sent by others too; it stays for them."
            elif len(others) == 1:
                next_step = "The same account sent this file again; it stays until that upload is erased too."
            else:
                next_step = f"The same account sent this file {len(others)} more times; it stays until those uploads are erased too."
            outcome: dict[str, Any] = {"state": "held", "training": "", "kept_in": [], "models": [], "next": next_step}
        else:
            outcome = self._erase_last(connection, actor, sha256, None if case is None else dict(case), ids, why, held, everywhere)
        if fresh:
            for detection_id in fresh:
                audit.append(connection, actor.who, "detection.erase", f"detection:{detection_id}", told)
        return {"sha256": sha256, "held_by": len(others), **outcome}

    def _erase_last(
        self,
        connection: Connection,
        actor: Actor,
        sha256: str,
        case: dict[str, Any] | None,
        ids: list[str],
        why: str,
        held: "_Held",
        everywhere: bool,
    ) -> dict[str, Any]:
        """Nobody holds the file any more: its media, its case, and the word to training."""
        handed_over = ""
        if case is not None:
            connection.execute(delete(OUTBOX).where(OUTBOX.c.case_id == case["id"], OUTBOX.c.state == "waiting"))
            handed_over = connection.execute(select(OUTBOX.c.state).where(OUTBOX.c.case_id == case["id"])).scalar_one_or_none() or ""
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
            connection.execute(update(CASES).where(CASES.c.id == case["id"]).values(**blank))
            connection.execute(update(REVIEWS).where(REVIEWS.c.case_id == case["id"]).values(note="", identity=""))
            connection.execute(update(REVIEWS).where(REVIEWS.c.case_id == case["id"], REVIEWS.c.undone_at == "").values(undone_at=now()))
        before = connection.execute(select(ERASURES).where(ERASURES.c.sha256 == sha256)).mappings().one_or_none()
        earlier: dict[str, Any] = dict(before["detail"]) if before is not None else {}
        case_id = "" if case is None else str(case["id"])
        models = _joined(earlier.get("models", []), learned_by(self.database.root, case_id), held.models)
        requested = bool(handed_over) or everywhere or (before is not None and before["state"] == "requested")
        everywhere = everywhere or bool(earlier.get("everywhere"))
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
        values = {"requested_at": now(), "requested_by": actor.who, "why": why, "detail": detail}
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


def erasures_waiting(root: Path, settings: Settings) -> int:
    """How many files were erased and are yet to be taken out of the training data; cheap."""
    if not exists(root, settings):
        return 0
    with closing(Database(root, settings)) as database, database.read() as connection:
        return connection.execute(select(func.count()).select_from(ERASURES).where(ERASURES.c.state == "requested")).scalar_one()


def finish_erasures(root: Path, database: Database, who: str = WHO) -> list[dict[str, Any]]:
    """Take what was erased out of the workspace's training data; returns what was done, a row a file. The caller holds the lease.

    Between cycles only: a cycle that was begun ends as it began. Safe to repeat. What was packed anew goes to the remote; where that is
    out of reach it raises DataError, and the erasures stay requested.
    """
    from workspace.forgetting import forget
    from workspace.journal import Journal
    from workspace.remote import send_missing
    from workspace.repository import commit_journal
    from workspace.state import open_cycle

    if open_cycle(Journal(root).events()) is not None:
        return []
    with database.read() as connection:
        asked = [dict(row) for row in connection.execute(select(ERASURES).where(ERASURES.c.state == "requested").order_by(ERASURES.c.sha256)).mappings()]
    if not asked:
        return []
    case_of = {row["sha256"]: "" if row["detail"].get("everywhere") else str(row["detail"].get("case_id") or "-") for row in asked}
    remember_all(root, fetch=True)  # before the training tables go that name one of them
    learned = learned_from(root, [row["sha256"] for row in asked])
    forgotten = forget(root, case_of, who)
    _journal(root, [row for row in asked if row["sha256"] in forgotten.samples], forgotten)
    commit_journal(root, f"Erased {len(asked)} files on request")
    if forgotten.samples:
        send_missing(root)
    elsewhere = {row["sha256"]: _in_no_batch(root, row["sha256"]) for row in asked if row["sha256"] not in forgotten.samples}  # reads many files
    done = []
    with database.write() as connection:
        for row in asked:
            case_id = str(row["detail"].get("case_id") or "")
            models = _joined(row["detail"].get("models", []), learned_by(root, case_id), learned[row["sha256"]])
            found = row["sha256"] in forgotten.samples
            mine = {"samples": [row["sha256"]], "kept_in": forgotten.kept_in.get(row["sha256"], [])}
            training = {**forgotten.as_dict(), **mine} if found else elsewhere[row["sha256"]]
            detail = {**row["detail"], "training": training, "models": models}
            detail["cannot"] = CANNOT if models else ""
            same = (ERASURES.c.sha256 == row["sha256"]) & (ERASURES.c.requested_at == row["requested_at"])
            connection.execute(update(ERASURES).where(same).values(state="done", done_at=now(), detail=detail))
            # Handed over, and erased before the hand-over was closed: never ingested, or ingested and out again.
            connection.execute(delete(OUTBOX).where(OUTBOX.c.case_id == case_id, OUTBOX.c.state == "exported"))
            told = {"training": training, "models": models}
            audit.append(connection, who, "erasure.done", f"media:{row['sha256']}", told)
            done.append({"sha256": row["sha256"], **told})
    return done


def _journal(root: Path, rows: Iterable[Mapping[str, Any]], forgotten: "Forgotten") -> None:
    """One line a sample and request, for everybody who has the workspace but not the service's database."""
    from workspace.journal import Journal

    for row in rows:
        asked = {"sample_id": row["sha256"], "requested_at": row["requested_at"]}
        fields = {**asked, "batches": forgotten.batches, "tags": forgotten.tags, "who": row["requested_by"], "why": row["why"]}
        Journal(root).append_if(
            lambda events, asked=asked, fields=fields: (  # type: ignore[misc]
                None if any(one.kind == "erased" and asked.items() <= one.fields.items() for one in events) else ("erased", fields)
            )
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """What training has of a file: the models that learned from it, and the batches that hold it, each with the case that its row names."""

    models: list[dict[str, Any]]
    batches: dict[str, str]


def _training_holds(root: Path, sha256: str) -> _Held:
    from workspace.forgetting import batches_with

    return _Held(learned_from(root, [sha256])[sha256], batches_with(root, sha256))


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
    holding = select(DETECTIONS.c.id).where(DETECTIONS.c.sha256 == sha256, DETECTIONS.c.state != "erased")
    row = connection.execute(select(ERASURES).where(ERASURES.c.sha256 == sha256)).mappings().one_or_none()
    if row is None or (everywhere and not row["detail"].get("everywhere")) or connection.execute(holding.limit(1)).first() is not None:
        return None
    kept_in, models = list(row["detail"].get("kept_in", [])), list(row["detail"].get("models", []))
    taken_out = isinstance(row["detail"].get("training"), dict)
    training = "requested" if row["state"] == "requested" else "kept" if kept_in else "done" if taken_out else "none"
    told = {"state": "erased", "training": training, "kept_in": kept_in, "models": models, "next": _said(sha256, training, kept_in, models)}
    return {"sha256": sha256, "held_by": 0, **told}


def _in_no_batch(root: Path, sha256: str) -> str:
    from workspace.forgetting import batches_with

    kept_in = sorted(batches_with(root, sha256))
    return ELSEWHERE.format(batches=", ".join(kept_in), sha256=sha256) if kept_in else "it was in no batch"


def _past(row: Mapping[str, Any], days: float, moment: str) -> bool:
    since = datetime.fromisoformat(row["finished_at"] or row["created_at"])
    return since + timedelta(days=days) <= datetime.fromisoformat(moment).astimezone(UTC)


def _joined(*lists: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The models of several lists, each once, in order."""
    return list({model["cycle"]: dict(model) for models in lists for model in models}.values())
