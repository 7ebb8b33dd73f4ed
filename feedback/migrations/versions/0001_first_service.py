"""The tables of the first service: detections, cases, reviews, outbox.

Frozen: what later steps change is theirs. Such a database is SQLite in a workspace and has no `alembic_version`.
"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "cases",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("created_at",)),
        sa.Column("sha256", sa.String, nullable=False, unique=True),
        sa.Column("bytes", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("kind", "state")),
        sa.Column("p_fake", sa.Float),
        sa.Column("model_sha256", sa.String, nullable=False),
    )
    op.create_table(
        "detections",
        sa.Column("id", sa.String, primary_key=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("created_at", "sha256")),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("p_fake", sa.Float),
        sa.Column("model_sha256", sa.String, nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("case_id", sa.String, sa.ForeignKey("cases.id")),
    )
    op.create_table(
        "reviews",
        sa.Column("case_id", sa.String, sa.ForeignKey("cases.id"), primary_key=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("created_at", "label", "reviewer", "note", "identity")),
    )
    op.create_table(
        "outbox",
        sa.Column("case_id", sa.String, sa.ForeignKey("reviews.case_id"), primary_key=True),
        *(sa.Column(name, sa.String, nullable=False, server_default="") for name in ("state", "batch", "exported_at", "ingested_at")),
    )


def downgrade() -> None:
    for table in ("outbox", "reviews", "detections", "cases"):
        op.drop_table(table)
