"""The service's secret: what keys and sessions are hashed with, reports signed with, webhook secrets sealed with.

It comes from the environment (VIGIL_SECRET). A service of this machine alone may do without: it makes one for its
workspace, readable by its user only. A service that others can reach refuses to start without.
"""

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from workspace.errors import WorkspaceError

VARIABLE = "VIGIL_SECRET"
FILE = Path(".vigil/secret")
SHORTEST = 32


class Secret:
    """Derives one key a purpose; none of them tells another."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._keys: dict[str, bytes] = {}

    def key(self, purpose: str) -> bytes:
        """32 bytes for this purpose (HKDF's expand step, RFC 5869, one block)."""
        if purpose not in self._keys:
            self._keys[purpose] = hmac.digest(self._value, purpose.encode() + b"\x01", "sha256")
        return self._keys[purpose]

    def digest(self, purpose: str, text: str) -> str:
        """The keyed hash of `text`, 64 hex digits."""
        return hmac.digest(self.key(purpose), text.encode(), "sha256").hex()

    def seal(self, purpose: str, text: str) -> str:
        """Encrypted and authenticated (Fernet)."""
        return self._fernet(purpose).encrypt(text.encode()).decode()

    def unseal(self, purpose: str, sealed: str) -> str:
        """The text again. Raises WorkspaceError where it was sealed with another secret."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet(purpose).decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise WorkspaceError(
                f"A stored {purpose} cannot be opened.",
                why=f"it was sealed with another {VARIABLE}",
                next_step="Start with the secret of before, or make it anew.",
            ) from None

    def _fernet(self, purpose: str):  # type: ignore[no-untyped-def]  # imported late: it takes 0.1 s
        from cryptography.fernet import Fernet

        return Fernet(base64.urlsafe_b64encode(self.key(purpose)))


def load_secret(root: Path, local: bool = True) -> Secret:
    """The environment's secret, else (on this machine alone) the workspace's own, made when first asked for.

    Raises WorkspaceError for one that is too short, and where others can reach the service and there is none.
    """
    if given := _given():
        return given
    path = root / FILE
    if not local:
        raise WorkspaceError(
            "The service was not started.",
            why=f"others can reach this address, and there is no {VARIABLE} in the environment",
            next_step=f"Set {VARIABLE} to at least {SHORTEST} random characters, or listen on 127.0.0.1.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(secrets.token_hex(32))
        handle.flush()
        os.fsync(handle.fileno())
    return _read(path)


def find_secret(root: Path) -> Secret | None:
    """The environment's secret, else the workspace's own; None where there is neither, and none is made. Raises WorkspaceError for one that is too short."""
    return _given() or (_read(root / FILE) if (root / FILE).exists() else None)


def _given() -> Secret | None:
    given = os.environ.get(VARIABLE, "")
    if given and len(given) < SHORTEST:
        raise WorkspaceError(f"{VARIABLE} is too short.", why=f"it has {len(given)} characters", next_step=f"Use at least {SHORTEST} random ones.")
    return Secret(hashlib.sha256(given.encode()).digest()) if given else None


def _read(path: Path) -> Secret:
    text = path.read_text().strip()
    if len(text) < SHORTEST:
        raise WorkspaceError(f"{path} holds no secret.", why="it is empty or cut short", next_step="Delete it: keys and sessions made with it are void.")
    return Secret(hashlib.sha256(text.encode()).digest())
