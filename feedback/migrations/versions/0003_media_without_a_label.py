"""Cases of media that came without a label, or with two: two more reasons, and what was said of the file."""

import sqlalchemy as sa
from alembic import op

from feedback.tables import CASES, DETECTIONS, METADATA, OUTBOX, REVIEWS

revision, down_revision = "0003", "0002"
TOGETHER = (CASES, DETECTIONS, REVIEWS, OUTBOX)  # in the order in which rows may come


def upgrade() -> None:
    connection = op.get_bind()
    if "said" in {column["name"] for column in sa.inspect(connection).get_columns("cases")}:
        return  # the step before has just made every table, as they are now
    if connection.dialect.name == "postgresql":
        op.add_column("cases", sa.Column("said", sa.JSON, nullable=False, server_default="[]"))
        op.drop_constraint(op.f("ck_cases_reason"), "cases", type_="check")
        reasons = ("uncertain", "novel", "disputed", "audit", "unlabelled", "conflict")
        op.create_check_constraint(op.f("ck_cases_reason"), "cases", f"reason IN {reasons}")
        return
    rows = {}  # SQLite changes no constraint: the tables that name one another are made anew
    for table in TOGETHER:
        known = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}  # a later step brings others
        here = [column for column in table.columns if column.name in known]
        rows[table.name] = [dict(row._mapping) for row in connection.execute(sa.select(*here))]
    for table in reversed(TOGETHER):
        op.drop_table(table.name)
    METADATA.create_all(connection, tables=list(TOGETHER))
    for table in TOGETHER:
        if rows[table.name]:
            connection.execute(table.insert(), rows[table.name])


def downgrade() -> None:
    raise NotImplementedError("There is no way back; restore the database from a backup.")
