"""Verbs of the operator about people and what they sent: accounts, keys, the audit trail, erasures, reports.

Whoever may run these may read the workspace's files and its secret anyway; they ask no password and are recorded as the command line's.
"""

import getpass
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from sqlalchemy import select

from feedback.access import Actor, Role
from feedback.accounts import AccountRefused, Accounts
from feedback.database import Database, now
from feedback.secret import FILE, VARIABLE, load_secret
from workspace.errors import DataError, WorkspaceError
from workspace.settings import Settings

WHO = "system:command line"
SHA256 = re.compile(r"[0-9a-f]{64}")


class Operator(Actor):
    """The person at the command line, as the audit trail names them."""

    @property
    def who(self) -> str:
        """The command line, and the name that was given."""
        return f"{WHO} ({self.name})" if self.name else WHO


def ask_password(prompt: str = "Password: ") -> str:
    """The password, typed twice at a terminal without being shown, else the first line of stdin; never from the command's words."""
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


def key_rows(root: Path, settings: Settings, user_name: str = "") -> list[dict[str, Any]]:
    """API keys of one account or of all, for `vigil keys`; never their text."""
    with _accounts(root, settings) as accounts, _refusals():
        names = {user["id"]: user["user_name"] for user in accounts.users()}
        rows = accounts.list_keys(_user(accounts, user_name)["id"] if user_name else None)
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
    """A new key of an account: {"id", "key"}; its text is shown this once."""
    with _accounts(root, settings) as accounts, _refusals():
        key_id, text = accounts.create_key(_user(accounts, user_name)["id"], name, WHO)
    return {"id": key_id, "key": text}


def revoke_key(root: Path, settings: Settings, key_id: str) -> None:
    """End a key, named by its id or by how it begins. Raises WorkspaceError where none, or more than one, is meant."""
    with _accounts(root, settings) as accounts:
        meant = [row for row in accounts.list_keys() if not row["revoked_at"] and key_id and (row["id"] == key_id or row["prefix"] == key_id)]
        if len(meant) != 1 or not accounts.revoke_key(meant[0]["id"], WHO):
            why = f"{len(meant)} keys that work are called {key_id!r}"
            raise WorkspaceError("No key was revoked.", why=why, next_step="Name the id that `vigil keys` shows.")


def noted_hash(word: str) -> str:
    """The hash that a person noted. Raises a usage error for what is none: an empty word would check nothing, and a part of one looks like a broken trail."""
    if not SHA256.fullmatch(found := word.strip().lower()):
        raise typer.BadParameter(f"--expect {word!r}: a hash is the 64 hexadecimal digits that `vigil audit verify` prints")
    return found


def verify_trail(root: Path, settings: Settings, expect: str = "") -> dict[str, Any]:
    """Walk the audit trail: {"entries", "last_hash", "broken_at", "why", "whole"}."""
    from dataclasses import asdict

    from feedback import audit

    with _database(root, settings) as database:
        found = audit.verify(database, expect)
    return {**asdict(found), "whole": not found.broken_at}


def render_trail(found: dict[str, Any]) -> str:
    """What `vigil audit verify` says."""
    if found["whole"]:
        return (
            f"The audit trail is whole: {found['entries']} entries.\n  Last hash: {found['last_hash']}\n  Keep it elsewhere; verify against it with --expect."
        )
    return f"The audit trail is BROKEN at entry {found['broken_at']}: {found['why']}.\n  The {found['entries']} entries before are whole."


def would_erase(root: Path, settings: Settings, what: str) -> dict[str, Any]:
    """What `erase` would take out of the workspace for this upload or sample, and which models learned from it; changes nothing."""
    from feedback.database import exists
    from feedback.learned import learned_from
    from feedback.tables import BROUGHT, CASES
    from workspace.forgetting import would_forget
    from workspace.lease import lease

    uploads: list[dict[str, Any]] = []
    sha256, case_id = what if SHA256.fullmatch(what) else "", ""
    if exists(root, settings):
        with _database(root, settings) as database, database.read() as connection:
            uploads = _uploads(database, what)
            if uploads and not sha256:
                sha256 = str(uploads[0]["sha256"])
                if not str(uploads[0]["source"]).startswith(BROUGHT):  # what the service brought out of a batch goes out of all of them
                    case_id = str(connection.execute(select(CASES.c.id).where(CASES.c.sha256 == sha256)).scalar_one_or_none() or "-")
    if not sha256:
        raise _unknown(what)
    with lease(root, "erase"):
        page = would_forget(root, sha256, case_id)
    if not (uploads or page["rows"] or page["cached_objects"] or sha256 in _samples_of(root)):
        raise _unknown(what)
    return {**page, "uploads": sum(one["state"] != "erased" for one in uploads), "models": learned_from(root, sha256)}


def render_would_erase(page: dict[str, Any]) -> str:
    """What `vigil erase --dry-run` says."""
    lines = [f"Would erase {page['sample_id'][:16]}...; nothing was changed."]
    lines += [f"  {page['uploads']} uploads to the service, each with its verdict"] if page["uploads"] else []
    lines += [f"  {row['batch']}: {row['path']}, {_of_shard(row)}" for row in page["rows"]]
    lines += [f"  {made}: removed" + ("" if made.startswith("mlartifacts") else "; the next cycle makes it again") for made in page["folders"]]
    lines.append(f"  {page['cached_objects']} objects of DVC's cache ({page['cached_bytes']:,} bytes), and their copies in its remote")
    if page["not_here"]:
        lines.append(f"  {page['not_here']} objects of earlier cycles are not in this cache: those that the remote has are fetched and looked into")
    lines += [f"  {batch}: has the same file from another source, in which it stays" for batch in page["kept_in"]]
    lines += [f"  near duplicate, another file, which stays: {sample_id[:16]}..." for sample_id in page["near_duplicates"]]
    lines += [f"  {tag} cannot be restored whole any more" for tag in page["tags"]]
    lines += [f"  cannot be erased: the weights of {model['cycle']} (v{model['version']}), which learned from it" for model in page["models"]]
    return "\n".join(lines)


def _of_shard(row: dict[str, Any]) -> str:
    return f"{row['bytes']:,} bytes of {row['shard']}, which is packed anew" if row["shard"] else "whose content was not kept: its name goes"


def erase(root: Path, settings: Settings, what: Sequence[str], who: str, why: str) -> dict[str, Any]:
    """Erase uploads (detection ids) and samples (sha256) and take what was erased out of the training data; with none only the latter.

    Returns {"erased": [...], "training": [...], "left": n}: `left` erasures wait for the end of the cycle that is running.
    Raises WorkspaceError, with nothing erased, for one that nobody knows, without a name or a reason, and where a committed file cannot be read.
    """
    from feedback.keep import MediaStore
    from feedback.retention import Retention, finish_erasures
    from workspace.lease import lease
    from workspace.objects import refuse_damaged
    from workspace.repository import set_remote

    if not who.strip() or not why.strip():
        raise WorkspaceError("Nothing was erased.", why=f"who is {who!r}, why is {why!r}", next_step="Give a name and a reason.")
    with lease(root, "erase"), _database(root, settings) as database:
        refuse_damaged(root)
        set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)  # a copied workspace still names the remote of the first one
        retention, operator = Retention(database, MediaStore(root, settings), settings.feedback), Operator("", Role.admin, who)
        in_batches = _samples_of(root) if what else set()
        for one in what:
            if one not in in_batches and not _uploads(database, one):
                raise _unknown(one)
        erased = [
            retention.erase_file(operator, one, why, in_batches=one in in_batches) if SHA256.fullmatch(one) else retention.erase(operator, one, why)
            for one in what
        ]
        training = finish_erasures(root, database, WHO)
        left = sum(row["state"] == "requested" for row in retention.erasures())
    return {"erased": erased, "training": training, "left": left}


def render_erased(found: dict[str, Any]) -> str:
    """What `vigil erase` says."""
    lines = []
    for one in found["erased"]:
        held = f" {one['held_by']} other uploads hold the same file: it stays for them." if one["state"] == "held" else ""
        lines.append(f"Erased {one['sha256'][:16]}....{held}")
        if one["training"] == "kept":
            lines += [f"  {batch} has the same file from a source of its own: it stays there, unless it is erased by its sha256." for batch in one["kept_in"]]
    for row in found["training"]:
        done = row["training"]
        if isinstance(done, str):
            lines.append(f"{row['sha256'][:16]}...: {done}.")
        else:
            objects = f"{done['cached_objects']} objects of DVC's cache and {done['remote_objects']} of its remote deleted"
            lines.append(f"{row['sha256'][:16]}...: taken out of {', '.join(done['batches'])}; {objects}.")
            lines += [f"  {batch} has the same file from another source: it stays there, unless it is erased by its sha256." for batch in done["kept_in"]]
            lines += [f"  {tag} cannot be restored whole any more." for tag in done["tags"]]
        if row["models"]:
            models = ", ".join(f"{model['cycle']} (v{model['version']})" for model in row["models"])
            lines.append(f"  Cannot be erased: the weights of models that learned from it: {models}.")
    if found["left"]:
        lines.append(f"{found['left']} erasures wait for the end of the cycle that was begun. Next: vigil retrain")
    return "\n".join(lines) or "Nothing is to be erased."


def _samples_of(root: Path) -> set[str]:
    """The samples that the batches hold or held."""
    from workspace.manifest import manifests, read_manifest

    return set().union(*(read_manifest(path.parent)["sample_id"] for path in manifests(root)))


def _uploads(database: Database, what: str) -> list[dict[str, Any]]:
    """The detections of this id, or of this file, that the service has had: also those whose media have gone, or that were erased."""
    from feedback.tables import DETECTIONS

    with database.read() as connection:
        found = connection.execute(DETECTIONS.select().where((DETECTIONS.c.id == what) | (DETECTIONS.c.sha256 == what)))
        return [dict(row) for row in found.mappings()]


def _unknown(what: str) -> WorkspaceError:
    why = f"no upload and no sample of the batches is called {what!r}"
    return WorkspaceError(
        "Nothing was erased.", why=why, next_step="Give a detection's id, or a sample's sha256 in full: `sha256sum FILE` says it, and the manifest."
    )


def check_report(file: Path, root: Path | None, key: str, *, ours: bool = False) -> dict[str, Any]:
    """Verify a report against a key, else against this workspace's own: {"valid", "trusted", "key", "why", "detection", "sha256", "verdict", "p_fake"}.

    Raises DataError where there is no such file, and with `ours` where there is neither a key nor one of the workspace.
    """
    from feedback.report import public_key, verify_report

    if not file.is_file():  # nothing to doubt: a report that does not hold is another thing
        why = "it is a folder" if file.is_dir() else "there is no such file"
        raise DataError(f"There is no report to verify at {file}.", why=why, next_step="Name the JSON file that the service gave out.")
    if not key and root is not None and (os.environ.get(VARIABLE) or (root / FILE).is_file()):
        key = public_key(load_secret(root))
    if ours and not key:
        why = f"{root} has no key of its own: it lies in {FILE}, which no clone has, and is made when the service starts"
        raise DataError("Whether this report is ours cannot be told.", why=why, next_step=f"Give the service's key with --key, or its secret as {VARIABLE}.")
    found = verify_report(file, key)
    report = found.report
    told = {"detection": report.get("detection", {}).get("id"), "sha256": report.get("media", {}).get("sha256")}
    told |= {name: report.get("verdict", {}).get(name) for name in ("verdict", "p_fake")}
    return {"valid": found.valid, "trusted": found.trusted, "expected": bool(key), "key": found.key, "why": found.why, **told}


def render_report(found: dict[str, Any]) -> str:
    """What `vigil verify-report` says."""
    if not found["valid"]:
        return f"This report does not hold: {found['why']}."
    said = "signed by this service" if found["trusted"] else found["why"]
    return f"The report is whole, {said}.\n  {found['verdict']}, p_fake {found['p_fake']}, file {found['sha256']}\n  Key: {found['key']}"


@contextmanager
def _database(root: Path, settings: Settings) -> Iterator[Database]:
    database = Database(root, settings)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _accounts(root: Path, settings: Settings) -> Iterator[Accounts]:
    with _database(root, settings) as database:
        yield Accounts(database, load_secret(root), settings.feedback)


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
