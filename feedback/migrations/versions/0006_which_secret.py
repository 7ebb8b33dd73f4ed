"""Which secret the service has: a command that was given another one made keys that opened nothing."""

from alembic import op

from feedback.tables import SECRET

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    SECRET.create(op.get_bind(), checkfirst=True)  # an earlier step may have just made every table, as they are now


def downgrade() -> None:
    raise NotImplementedError("There is no way back; restore the database from a backup.")
