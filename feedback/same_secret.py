"""That a key is made with the secret of the service: with another one it opens nothing, and nobody is told.

The database keeps a fingerprint of the service's secret, a keyed hash that tells nothing of it: from the start of the service on, or from the first
key that is made at the command line. A database of before has none until the service starts.
"""

from pathlib import Path

from sqlalchemy import Connection, select

from feedback.database import Database
from feedback.secret import VARIABLE, Secret, find_secret, load_secret
from feedback.tables import API_KEYS, SECRET, SESSIONS, WEBHOOKS
from workspace.errors import WorkspaceError


def note_secret(database: Database, secret: Secret) -> str:
    """Note the secret that the service starts with; says what that means where it had another one before, else ''. Safe to repeat."""
    with database.write() as connection:
        before, own = _noted(connection), _fingerprint(secret)
        if before != own:
            connection.execute(SECRET.delete())
            connection.execute(SECRET.insert().values(fingerprint=own))
    if before in ("", own):
        return ""
    return (
        "the secret is another one than until now: keys and sessions made with that open nothing, webhooks need new secrets, and reports of before verify "
        f"with the public key of before alone. Where that is not meant, stop, and start with the {VARIABLE} of before, or without one if there was none"
    )


def is_another(database: Database, secret: Secret | None) -> bool:
    """Whether the service of this database has a secret, and another than this one, as far as the database says."""
    with database.read() as connection:
        return _noted(connection) not in ("", _fingerprint(secret) if secret else "")


def secret_for_keys(database: Database, root: Path) -> Secret:
    """The secret to make a key with: the environment's or the workspace's, or a new one for the first key of all.

    Raises WorkspaceError where the service has another.
    """
    here = find_secret(root)
    with database.write() as connection:
        noted = _noted(connection)
        if not noted and not _is_used(connection):  # the first key of all says which it is
            first = here or load_secret(root)
            connection.execute(SECRET.insert().values(fingerprint=_fingerprint(first)))
            return first
        if here is not None and noted in ("", _fingerprint(here)):
            return here
    raise WorkspaceError(
        "No key was made.",
        why=f"it would open nothing: the service has another secret than this command{'' if here else ', which has none'}",
        next_step=f"Give {VARIABLE} as the service has it, or make the key in the console. To change the secret on purpose start the service with the new one.",
    )


def _fingerprint(secret: Secret) -> str:
    return secret.digest("fingerprint", "which secret")


def _noted(connection: Connection) -> str:
    return str(connection.execute(select(SECRET.c.fingerprint)).scalar_one_or_none() or "")


def _is_used(connection: Connection) -> bool:
    """Whether something is kept that was made with a secret."""
    return any(connection.execute(select(table).limit(1)).first() is not None for table in (API_KEYS, SESSIONS, WEBHOOKS))
