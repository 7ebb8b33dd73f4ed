"""Which verdicts were drawn for an audit, apart from why their case is open now: a dispute must not take an error out of the sample."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    connection = op.get_bind()
    if "audited" not in {column["name"] for column in sa.inspect(connection).get_columns("detections")}:
        op.add_column("detections", sa.Column("audited", sa.Boolean, nullable=False, server_default=sa.false()))
    # also where an earlier step has just made the table anew, as it is now: its rows are from before
    connection.execute(sa.text("UPDATE detections SET audited = :yes WHERE case_id IN (SELECT id FROM cases WHERE reason = 'audit')"), {"yes": True})


def downgrade() -> None:
    raise NotImplementedError("There is no way back; restore the database from a backup.")
