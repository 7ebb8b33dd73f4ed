"""What can be proven afterwards: `vigil audit verify` of the trail, `vigil verify-report` of a report that was given out."""

import re
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import typer

from feedback.database import NO_TABLES, URL_VARIABLE, Database, damaged, exists, file_of, schema_behind
from feedback.same_secret import is_another
from feedback.secret import FILE, VARIABLE, find_secret
from workspace.errors import DataError, VigilError, WorkspaceError
from workspace.registry import damage_of
from workspace.settings import Settings, load_settings

SHA256 = re.compile(r"[0-9a-f]{64}")


def noted_hash(word: str) -> str:
    """The hash that a person noted. Raises a usage error for what is none: an empty word would check nothing, and a part of one looks like a broken trail."""
    if not SHA256.fullmatch(found := word.strip().lower()):
        raise typer.BadParameter(f"--expect {word!r}: a hash is the 64 hexadecimal digits that `vigil audit verify` prints")
    return found


def named_key(word: str) -> str:
    """The key that a report must be signed with, '' for none. Raises a usage error for what is no key: it would look like another signer."""
    if (found := word.strip().lower()) and not SHA256.fullmatch(found):
        raise typer.BadParameter(f"--key {word!r}: a key is 64 hexadecimal digits, as a report and the service print it")
    return found


def verify_trail(root: Path, settings: Settings, expect: str = "") -> dict[str, Any]:
    """Walk the audit trail: {"entries", "last_hash", "broken_at", "why", "whole"}. Raises WorkspaceError where there is no database, and makes none;
    DatabaseDamaged where the trail is whole and something else in the database is not: it says whether a backup is whole.
    """
    from dataclasses import asdict

    from feedback import audit

    _refuse_none(root, settings)
    with closing(Database(root, settings)) as database:
        found = audit.verify(database, expect)
    file = file_of(root, settings)
    if not found.broken_at and file is not None and (wrong := damage_of(file)):
        raise damaged(wrong)
    return {**asdict(found), "whole": not found.broken_at}


def _refuse_none(root: Path, settings: Settings) -> None:
    file = file_of(root, settings)
    if file is not None and not file.is_file():
        why = f"{file} is not there"
    elif (behind := schema_behind(root, settings)) and behind[0] == NO_TABLES:
        why = f"{file or 'the PostgreSQL that is named'} has no tables"
    else:
        return
    how = f"Name the workspace with -w, its database with {URL_VARIABLE} or feedback.database_url."
    if_lost = "One that was lost restore from a backup before the service starts: it begins an empty one."
    raise WorkspaceError("There is no audit trail here. Nothing was verified.", why=why, next_step=f"{how} {if_lost}")


def render_trail(found: dict[str, Any]) -> str:
    """What `vigil audit verify` says."""
    if found["whole"] and not found["entries"]:
        return "The audit trail has no entry yet: nobody has made an account here."
    if found["whole"]:
        return (
            f"The audit trail is whole: {found['entries']} entries.\n  Last hash: {found['last_hash']}\n  Keep it elsewhere; verify against it with --expect."
        )
    return f"The audit trail is BROKEN at entry {found['broken_at']}: {found['why']}.\n  The {found['entries']} entries before are whole."


def report_key(root: Path) -> dict[str, str]:
    """The key that reports of this workspace's service are verified with: {"algorithm", "key"}. Raises DataError where the workspace has none."""
    from feedback.report import ALGORITHM

    key, why = _own_key(root)
    if not key:
        how = f"Give the service's secret as {VARIABLE}, or start it once (`vigil serve`) where it never ran; a running service tells it at /v1/report-key."
        raise DataError("There is no key to print.", why=why, next_step=how)
    return {"algorithm": ALGORITHM, "key": key}


def _own_key(root: Path) -> tuple[str, str]:
    """(the public key of this workspace's service, '') or ('', why it is not known here). Makes nothing."""
    from feedback.report import public_key

    secret = find_secret(root)
    with suppress(VigilError):  # a database that cannot be asked, or is of before, says nothing
        settings = load_settings(root / "params.yaml")
        if exists(root, settings) and not schema_behind(root, settings):
            with closing(Database(root, settings)) as database:
                if is_another(database, secret):
                    return "", "the service has another secret than this command"
    if secret is None:
        return "", f"{root} has no key of its own: it lies in {FILE}, which no clone has, and is made when the service starts"
    return public_key(secret), ""


def check_report(file: Path, root: Path | None, key: str) -> dict[str, Any]:
    """Verify a report against a key, else against this workspace's own.

    Returns {"valid", "trusted", "expected", "key", "why", "detection", "sha256", "verdict", "p_fake"}; without a workspace and a key no key is `expected`,
    and no report `trusted`. Raises DataError where there is no such file, for the page made of a report, and where the workspace has no key and none is given.
    """
    from feedback.report import PDF, verify_report

    if not file.is_file():  # nothing to doubt: a report that does not hold is another thing
        why = "it is a folder" if file.is_dir() else "there is no such file"
        raise DataError(f"There is no report to verify at {file}.", why=why, next_step="Name the JSON file that the service gave out.")
    with open(file, "rb") as handle:
        if handle.read(len(PDF)) == PDF:  # verified by its attachment it would pass with whatever is drawn on it
            how = "Save the attachment with your PDF viewer, or `pdfdetach -saveall FILE`, verify that, and believe what it says."
            raise DataError(
                f"{file} is a PDF.", why="what is drawn on its pages is not signed; the signed report is attached to it as report.json", next_step=how
            )
    if not key and root is not None:
        key, why = _own_key(root)
        if not key:
            how = f"Give the service's key with --key, or its secret as {VARIABLE}."
            raise DataError("Whether this report is ours cannot be told.", why=why, next_step=how)
    found = verify_report(file, key)
    report = found.report
    told = {"detection": report.get("detection", {}).get("id"), "sha256": report.get("media", {}).get("sha256")}
    told |= {name: report.get("verdict", {}).get(name) for name in ("verdict", "p_fake")}
    return {"valid": found.valid, "trusted": found.trusted, "expected": bool(key), "key": found.key, "why": found.why, **told}


def render_report(found: dict[str, Any]) -> str:
    """What `vigil verify-report` says."""
    from model.aggregate import as_estimate

    if not found["valid"]:
        return f"This report does not hold: {found['why']}."
    said = "signed by this service" if found["trusted"] else found["why"]
    p_fake = "-" if found["p_fake"] is None else as_estimate(found["p_fake"])
    return f"The report is whole, {said}.\n  {found['verdict']}, p_fake {p_fake}, file {found['sha256']}\n  Key: {found['key']}" + (
        "" if found["expected"] else "\n  Next: vigil verify-report FILE --key KEY, with the key that the service says it has (/v1/report-key)."
    )
