"""What was erased in the service, taken out of the training data between two cycles: see feedback/erasing.py, and workspace/forgetting.py for how.

What an admin had erased out of every batch goes also out of one that brings it only later: no batch had a row of it that would keep it from coming in.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from feedback import audit
from feedback.database import Database, exists, now
from feedback.erasing import ELSEWHERE, taken_out
from feedback.learned import CANNOT, joined, learned_by, learned_from, remember_all
from feedback.retention import WHO
from feedback.tables import ERASURES, OUTBOX
from workspace.forgetting import LOST_TAGS, Forgotten, back_in_batches, batches_with, forget
from workspace.journal import Event, Journal
from workspace.settings import Settings

BROUGHT_SINCE = "it was erased out of every batch, and one has brought it since"
NOW = "or now with `vigil erase --who NAME --why REASON`"


def erasures_waiting(root: Path, settings: Settings) -> int:
    """How many files were erased and are yet to be taken out of the training data.

    Reads the manifests only where one was to go out of every batch while none had it.
    """
    if not exists(root, settings):
        return 0
    with closing(Database(root, settings)) as database, database.read() as connection:
        requested: int = connection.execute(select(func.count()).select_from(ERASURES).where(ERASURES.c.state == "requested")).scalar_one()
        return requested + len(_brought_since(connection, root))


def what_waits(erasures: int, running: str) -> str:
    """What is still to be erased from the training data, and what does it, '' where nothing is; `running` is the cycle that is open."""
    if not erasures:
        return ""
    does_it = f"when {running} ends (`vigil retrain`)" if running else f"with the next cycle, {NOW}"
    return f"{erasures} erased file{'s leave' if erasures > 1 else ' leaves'} the training data {does_it}"


def erased_case(detail: Mapping[str, Any]) -> str:
    """Of which case an erasure takes rows out of batches, as workspace/forgetting.py is told it: '' is everything, '-' nobody's."""
    return "" if detail.get("everywhere") else str(detail.get("case_id") or "-")


def ask_again(connection: Connection, samples: Iterable[str], why: str) -> None:
    """Have erasures that were done wait once more, in this transaction."""
    for sha256 in sorted(samples):
        again = update(ERASURES).where(ERASURES.c.sha256 == sha256, ERASURES.c.state == "done").values(state="requested", done_at="")
        if connection.execute(again).rowcount:
            audit.append(connection, WHO, "erasure.again", f"media:{sha256}", {"why": why})


def finish_erasures(root: Path, database: Database, who: str = WHO) -> list[dict[str, Any]]:
    """Take what was erased out of the workspace's training data; returns what was done, a row a file. The caller holds the lease.

    What a batch has brought since is asked for again. Between cycles only: a cycle that was begun ends as it began. Safe to repeat. What was packed
    anew goes to the remote; where that is out of reach it raises DataError, and the erasures stay requested.
    """
    from workspace.remote import send_missing
    from workspace.repository import commit_journal
    from workspace.state import open_cycle

    with database.read() as connection:
        brought = _brought_since(connection, root)
    if brought:
        with database.write() as connection:
            ask_again(connection, brought, BROUGHT_SINCE)
    if open_cycle(Journal(root).events()) is not None:
        return []
    with database.read() as connection:
        asked = [dict(row) for row in connection.execute(select(ERASURES).where(ERASURES.c.state == "requested").order_by(ERASURES.c.sha256)).mappings()]
    if not asked:
        return []
    case_of = {row["sha256"]: erased_case(row["detail"]) for row in asked}
    remember_all(root, fetch=True)  # before the training tables go that name one of them
    learned = learned_from(root, [row["sha256"] for row in asked])
    forgotten = forget(root, case_of, who)
    _journal(root, [row for row in asked if row["sha256"] in forgotten], forgotten)
    commit_journal(root, f"Erased {len(asked)} files on request")
    if forgotten:
        send_missing(root)
    left = batches_with(root, learned.keys() - forgotten.keys())  # reads many files
    done = []
    with database.write() as connection:
        for row in asked:
            case_id = str(row["detail"].get("case_id") or "")
            models = joined(row["detail"].get("models", []), learned_by(root, case_id), learned[row["sha256"]])
            mine = forgotten.get(row["sha256"])
            training = {"samples": [row["sha256"]], **mine.as_dict()} if mine else _in_no_batch(row["sha256"], left[row["sha256"]])
            detail = {**row["detail"], "training": training, "models": models}
            detail["cannot"] = CANNOT if models else ""
            same = (ERASURES.c.sha256 == row["sha256"]) & (ERASURES.c.requested_at == row["requested_at"])
            connection.execute(update(ERASURES).where(same).values(state="done", done_at=now(), detail=detail))
            # Handed over, and erased before the hand-over was closed: never ingested, or ingested and out again.
            connection.execute(delete(OUTBOX).where(OUTBOX.c.case_id == case_id, OUTBOX.c.state == "exported"))
            told = {"training": training, "models": models}
            audit.append(connection, who, "erasure.done", f"media:{row['sha256']}", told)
            done.append({"sha256": row["sha256"], **told})
    (root / LOST_TAGS).unlink(missing_ok=True)
    return done


def _brought_since(connection: Connection, root: Path) -> set[str]:
    """Files that were to go out of every batch while none had them, and that one has by now."""
    done = connection.execute(select(ERASURES.c.sha256, ERASURES.c.detail).where(ERASURES.c.state == "done")).all()
    return back_in_batches(root, {row.sha256: erased_case(row.detail) for row in done if row.detail.get("everywhere") and not taken_out(row.detail)})


def _journal(root: Path, rows: Iterable[Mapping[str, Any]], forgotten: Mapping[str, Forgotten]) -> None:
    """One line a sample and request, for everybody who has the workspace but not the service's database. What a kill left out, the next run adds."""

    def lacking(events: Sequence[Event]) -> Iterator[tuple[str, dict[str, Any]]]:
        there = {(one.get("sample_id"), one.get("requested_at")) for one in events if one.kind == "erased"}
        for row in rows:
            asked, mine = {"sample_id": row["sha256"], "requested_at": row["requested_at"]}, forgotten[row["sha256"]]
            if tuple(asked.values()) not in there:
                yield "erased", {**asked, "batches": mine.batches, "tags": mine.tags, "who": row["requested_by"], "why": row["why"]}

    Journal(root).append_all(lacking)


def _in_no_batch(sha256: str, kept_in: Iterable[str]) -> str:
    kept_in = sorted(kept_in)
    return ELSEWHERE.format(batches=", ".join(kept_in), sha256=sha256) if kept_in else "it was in no batch"
