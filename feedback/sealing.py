"""What the audit trail seals of a verdict, and whether a detection still is what was sealed.

The entry has the figures that people look for by name, and a hash over all that a report is made of: what came in, what was
asked, and everything that was found out. It is written in the transaction of the verdict, once. The entry names the form by
which its hash was made.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from feedback import audit
from feedback.tables import AUDIT, DETECTIONS

ACTION = "detection.verdict"
NAMED = ("sha256", "verdict", "p_fake", "threshold", "abstain", "model_sha256")
_LATER = ("dispute",)  # what comes into an answer after its verdict
_COLUMNS = ("id", "created_at", "finished_at", "bytes", "policy", "mode", "kind", "novelty", "sha256", "verdict", "p_fake", "model_sha256")
FORMS = {1: (_COLUMNS, _LATER)}  # of the hash. What it is made of changes in a new form alone: by the others entries are sealed that nobody can write anew
FORM = max(FORMS)


def seal(connection: Connection, detection_id: str, digests: Mapping[str, str] | None) -> None:
    """Append the entry of a verdict that has just been written, as the database has it now. `digests`: sha256 of the derived files."""
    row = connection.execute(select(DETECTIONS).where(DETECTIONS.c.id == detection_id)).mappings().one()
    audit.append(connection, "system:worker", ACTION, f"detection:{detection_id}", {"case": row["case_id"], "digests": digests, **_sealed(dict(row), FORM)})


def unlike_sealed(connection: Connection, row: Mapping[str, Any]) -> str:
    """Why a detection is not what the trail sealed, "" where it is. That it has no entry is a reason, and so is a second one: the service writes one."""
    query = select(AUDIT).where(AUDIT.c.object == f"detection:{row['id']}", AUDIT.c.action == ACTION)
    found = connection.execute(query).mappings().all()
    if not found:
        return "the audit trail has no entry of this verdict: it was written past the service, or by one of before the trail"
    if len(found) > 1:
        return f"the audit trail has {len(found)} entries of this verdict, and the service writes one"
    entry = dict(found[0])
    if not audit.holds(entry):
        return f"entry {entry['number']} of the audit trail was changed itself"
    detail = entry["detail"]
    if "answer_sha256" in detail and detail.get("form") not in FORMS:
        return f"the audit trail sealed this verdict in form {detail.get('form')!r}, and this version of Vigil knows {', '.join(map(str, FORMS))}"
    pairs = [(name, _plain(value), _plain(detail.get(name))) for name, value in _sealed(row, detail.get("form", FORM)).items() if name in detail]
    unlike = [f"{name}: {value!r}, sealed {sealed!r}" for name, value, sealed in pairs if value != sealed]
    return f"the database has another verdict than the audit trail: {'; '.join(unlike)}" if unlike else ""


def _sealed(row: Mapping[str, Any], form: int) -> dict[str, Any]:
    taken, later = FORMS[form]
    answer = {name: value for name, value in (row["answer"] or {}).items() if name not in later}
    columns = {name: row[name] for name in taken}
    whole = json.dumps([columns, answer], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    named = {name: {**answer, **columns}.get(name) for name in NAMED}
    return {**named, "form": form, "answer_sha256": hashlib.sha256(whole.encode()).hexdigest()}


def _plain(value: Any) -> Any:
    return "" if value is None else value
