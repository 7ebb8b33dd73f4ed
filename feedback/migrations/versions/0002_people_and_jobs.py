"""People, jobs, media, the audit trail; what the first service knew is carried over under the user `before-accounts`.

The first service had no accounts: whoever reviewed gave a name. Each such name becomes a disabled user, so that no
review is lost and nobody can log in as one of them.
"""

import hashlib
import uuid

import sqlalchemy as sa
from alembic import op

from feedback.tables import METADATA

revision, down_revision = "0002", "0001"
EARLIER = ("outbox", "reviews", "detections", "cases")  # in the order in which they may be dropped


def upgrade() -> None:
    connection = op.get_bind()
    old = {name: _rows(connection, name) for name in EARLIER}
    for name in EARLIER:
        op.drop_table(name)
    METADATA.create_all(connection)
    if any(old.values()):
        _carry_over(connection, old)


def downgrade() -> None:
    raise NotImplementedError("There is no way back to a service without accounts; restore the database from a backup.")


def _rows(connection: sa.Connection, table: str) -> list[dict[str, object]]:
    found = sa.Table(table, sa.MetaData(), autoload_with=connection)
    types = {"answer": sa.JSON}
    columns = [sa.type_coerce(column, types[column.name]).label(column.name) if column.name in types else column for column in found.columns]
    return [dict(row._mapping) for row in connection.execute(sa.select(*columns))]


def _carry_over(connection: sa.Connection, old: dict[str, list[dict[str, object]]]) -> None:
    tables = METADATA.tables
    moment = min(str(row["created_at"]) for rows in (old["cases"], old["detections"]) for row in rows)
    people = {name: _user(connection, name, moment) for name in ["before-accounts", *sorted({str(row["reviewer"]) for row in old["reviews"]})]}
    everyone = people["before-accounts"]
    cases = {str(row["id"]): row for row in old["cases"]}
    reviews = {str(row["case_id"]): row for row in old["reviews"]}
    media = {str(row["sha256"]): row for row in (*old["detections"], *old["cases"])}
    kept = {str(row["sha256"]) for row in old["cases"]}
    for sha256, row in media.items():
        state = {"state": "kept"} if sha256 in kept else {"state": "deleted", "why": "the first service kept only the media of cases"}
        connection.execute(tables["media"].insert().values(sha256=sha256, bytes=row["bytes"], created_at=row["created_at"], state_since=moment, **state))
    for row in sorted(cases.values(), key=lambda row: int(str(row["number"]))):
        review = reviews.get(str(row["id"]))
        said = (
            {"state": "decided", "label": review["label"], "identity": review["identity"], "decided_at": review["created_at"]} if review else {"state": "open"}
        )
        same = {name: row[name] for name in ("id", "created_at", "sha256", "bytes", "kind", "p_fake", "model_sha256")}
        connection.execute(tables["cases"].insert().values(**same, **said, owner_id=everyone, source="before-accounts", reason="uncertain", uncertainty=1.0))
    for row in sorted(old["detections"], key=lambda row: (str(row["created_at"]), str(row["id"]))):
        same = {name: row[name] for name in ("id", "created_at", "sha256", "bytes", "verdict", "p_fake", "model_sha256", "answer", "case_id")}
        answer = row["answer"] if isinstance(row["answer"], dict) else {}
        about = {"kind": str(answer.get("kind", "")), "finished_at": row["created_at"], "state": "done", "progress": 1.0}
        connection.execute(tables["detections"].insert().values(**same, **about, owner_id=everyone, source="before-accounts"))
    for case_id, review in reviews.items():
        about = {name: review[name] for name in ("created_at", "label", "note", "identity")}
        connection.execute(tables["reviews"].insert().values(id=uuid.uuid4().hex, case_id=case_id, reviewer_id=people[str(review["reviewer"])], **about))
    for row in old["outbox"]:
        connection.execute(tables["outbox"].insert().values(**row, created_at=reviews[str(row["case_id"])]["created_at"]))


def _user(connection: sa.Connection, name: str, moment: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    row = {"id": uuid.uuid4().hex, "created_at": moment, "name": name, "email": f"{digest}@before-accounts.invalid", "user_name": f"before-{digest}"}
    connection.execute(METADATA.tables["users"].insert().values(**row, password_hash="", role="viewer", disabled=True))
    return str(row["id"])
