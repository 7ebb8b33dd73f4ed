"""Which workspace the database belongs to: a second one was served from it without a word."""

from alembic import op

from feedback.tables import WORKSPACE

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    WORKSPACE.create(op.get_bind(), checkfirst=True)  # an earlier step may have just made every table, as they are now


def downgrade() -> None:
    raise NotImplementedError("There is no way back; restore the database from a backup.")
