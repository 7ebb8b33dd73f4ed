"""Verbs of the operator about people: accounts and keys.

Whoever may run these may read the workspace's files and its secret anyway; they ask no password and are recorded as the command line's.
"""

import getpass
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from feedback.access import Actor, Role
from feedback.accounts import AccountRefused, Accounts
from feedback.database import Database, now
from feedback.same_secret import secret_for_keys
from workspace.errors import WorkspaceError
from workspace.settings import Settings

WHO = "system:command line"


class Operator(Actor):
    """The person at the command line, as the audit trail names them."""

    @property
    def who(self) -> str:
        """The command line, and the name that was given."""
        return f"{WHO} ({self.name})" if self.name else WHO


def ask_password(prompt: str = "Password: ") -> str:
    """The password, typed twice at a terminal without being shown, else the first line of stdin; never from the command's words."""
    try:
        password = _asked(prompt)
        password.encode()
    except UnicodeError as problem:
        raise WorkspaceError("Nothing was changed.", why="the password is no text in UTF-8", next_step="Give it in UTF-8, or choose another one.") from problem
    return password


def _asked(prompt: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(prompt)
    if getpass.getpass("Again:    ") != password:
        raise WorkspaceError("The two passwords differ. Nothing was changed.", why="they were typed differently", next_step="Run the command again.")
    return password


def user_rows(root: Path, settings: Settings) -> list[dict[str, Any]]:
    """Every account for `vigil users`."""
    with _accounts(root, settings) as accounts:
        return [
            {
                "user_name": user["user_name"],
                "role": user["role"],
                "name": user["name"],
                "email": user["email"],
                "state": "disabled" if user["disabled"] else f"locked until {user['locked_until'][:16]}" if user["locked_until"] > now() else "",
                "since": user["created_at"][:10],
            }
            for user in accounts.users()
        ]


def add_user(root: Path, settings: Settings, user_name: str, name: str, email: str, role: str, password: str) -> str:
    """Make an account; returns its id."""
    with _accounts(root, settings) as accounts, _refusals():
        return accounts.create(name or user_name, email, user_name, password, Role[role], WHO)


def govern_user(root: Path, settings: Settings, user_name: str, role: str = "", disabled: bool | None = None, unlock: bool = False) -> None:
    """Change role, disable, enable or unlock an account."""
    with _accounts(root, settings) as accounts, _refusals():
        accounts.govern(_user(accounts, user_name)["id"], WHO, Role[role] if role else None, disabled, unlock)


def set_password(root: Path, settings: Settings, user_name: str, password: str) -> None:
    """Give an account a new password; its sessions end, its lock-out too."""
    with _accounts(root, settings) as accounts, _refusals():
        accounts.change_password(_user(accounts, user_name)["id"], password, WHO)


def key_rows(root: Path, settings: Settings) -> list[dict[str, Any]]:
    """API keys of all accounts, for `vigil keys`; never their text."""
    with _accounts(root, settings) as accounts, _refusals():
        names = {user["id"]: user["user_name"] for user in accounts.users()}
        rows = accounts.list_keys()
    return [
        {
            "id": row["id"],
            "user_name": names.get(row["user_id"], "?"),
            "name": row["name"],
            "begins": row["prefix"],
            "since": row["created_at"][:10],
            "last_used": row["last_used_at"][:10],
            "revoked": row["revoked_at"][:10],
        }
        for row in rows
    ]


def add_key(root: Path, settings: Settings, user_name: str, name: str) -> dict[str, str]:
    """A new key of an account: {"id", "key"}; its text is shown this once. Raises WorkspaceError where the service would not know it."""
    with _accounts(root, settings) as accounts, _refusals():
        user = _user(accounts, user_name)
        accounts.secret = secret_for_keys(accounts.database, root)
        key_id, text = accounts.create_key(user["id"], name, WHO)
    return {"id": key_id, "key": text}


def revoke_key(root: Path, settings: Settings, key_id: str) -> None:
    """End a key, named by its id, how it begins or what it is called. Raises WorkspaceError where none, or more than one, is meant."""
    with _accounts(root, settings) as accounts:
        meant = [row for row in accounts.list_keys() if not row["revoked_at"] and key_id and key_id in (row["id"], row["prefix"], row["name"])]
        if len(meant) != 1 or not accounts.revoke_key(meant[0]["id"], WHO):
            why = f"{len(meant) or 'no'} keys that work are called {key_id!r}, have that id or begin so"
            raise WorkspaceError("No key was revoked.", why=why, next_step="Name the id that `vigil keys` shows.")


@contextmanager
def _accounts(root: Path, settings: Settings) -> Iterator[Accounts]:
    with closing(Database(root, settings)) as database:
        yield Accounts(database, None, settings.feedback)  # to list or change accounts needs no secret, and makes none


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except AccountRefused as problem:
        raise WorkspaceError(
            "Nothing was changed.", why=str(problem), next_step="Mend that and run the command again; `vigil users` lists accounts."
        ) from problem


def _user(accounts: Accounts, user_name: str) -> dict[str, Any]:
    found = accounts.user(user_name)
    if found is None:
        step = "`vigil users` lists them, `vigil users add` makes one."
        raise WorkspaceError("Nothing was changed.", why=f"there is no account {user_name!r}", next_step=step)
    return found
