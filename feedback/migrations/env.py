"""Alembic's entry: migrations run on the connection that feedback/database.py holds the write lock on."""

from alembic import context

from feedback.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
