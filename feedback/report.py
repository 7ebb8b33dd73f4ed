"""The signed report of a verdict: what was looked at, by which model, what came out, and what that does not show.

The report is JSON with an Ed25519 signature over its canonical form (sorted keys, no spaces, ASCII). Nothing else may stand
in the file, and no key twice: a reader would believe what nobody signed. The signing key follows from the service's secret; a
report names it, and is only worth what the key is: compare it with the service's own (`public_key`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedback import once
from feedback.database import now
from feedback.once import NamedTwice
from feedback.secret import Secret
from feedback.wording import LABEL_MAP, VERDICT_WORDS, limits_of
from workspace.errors import first_few

FORMAT = "vigil-report-1"
PURPOSE = "report"
ALGORITHM = "Ed25519"
SIGNATURE = {"algorithm", "key", "value"}
MOST_BYTES = 32 << 20
PDF = b"%PDF"
ID, SHA256 = re.compile(r"[0-9A-Za-z-]{1,64}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a report: whether it is whole and by whom it is signed; `why` says what is wrong. `trusted`: the expected key signed it."""

    valid: bool
    trusted: bool
    key: str
    why: str
    report: dict[str, Any] = field(default_factory=dict)


def case_report(detection: Mapping[str, Any], secret: Secret) -> dict[str, Any]:
    """{"report": {...}, "signature": {"algorithm", "key", "value"}} of a detection as the API shows it."""
    report = {
        "format": FORMAT,
        "made_at": now(),
        "detection": {name: detection.get(name) for name in ("id", "created_at", "finished_at", "policy", "mode", "state")},
        "media": {name: detection.get(name) for name in ("sha256", "bytes", "kind", "frames", "faces")},
        "verdict": {name: detection.get(name) for name in ("verdict", "p_fake", "threshold", "abstain", "target_fpr", "novelty", "reason", "note")},
        "label_map": detection.get("label_map") or LABEL_MAP,
        "tracks": list(detection.get("tracks") or []),
        "forged": list(detection.get("forged") or []),
        "timeline": list(detection.get("clips") or []),
        "model": {name: detection.get(name) for name in ("model", "model_sha256", "model_trained_at", "cycle", "origin", "engine", "knows")},
        "limits": limits_of(detection),
    }
    report = json.loads(json.dumps(report, default=str))  # as a reader will have it: tuples are lists, moments text
    return {"report": report, "signature": {"algorithm": ALGORITHM, "key": public_key(secret), "value": _private(secret).sign(canonical(report)).hex()}}


def public_key(secret: Secret) -> str:
    """The key that this service's reports are verified with, 64 hex digits. No secret."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return str(_private(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex())


def verify_report(path: Path, expected_key: str = "") -> Checked:
    """Look at a report file. Anything that is not a whole report is `valid` False with the reason, never an exception."""
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            return Checked(False, False, "", f"the file is larger than {MOST_BYTES >> 20} MB")
        signed = once.loads(Path(path).read_bytes())
    except NamedTwice as problem:
        return Checked(False, False, "", f"it has {problem.name!r} twice, of which a signature covers one: it was changed after it was signed")
    except (OSError, ValueError, RecursionError) as problem:
        return Checked(False, False, "", f"it cannot be read as JSON: {problem}")
    return check_report(signed, expected_key)


def check_report(signed: Any, expected_key: str = "") -> Checked:
    """The same for a report that was read already."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    report = signed.get("report") if isinstance(signed, dict) else None
    signature = signed.get("signature") if isinstance(signed, dict) else None
    if not isinstance(report, dict) or not isinstance(signature, dict) or report.get("format") != FORMAT:
        return Checked(False, False, "", f"it is no report of the form {FORMAT}")
    if unsigned := sorted(map(str, (set(signed) - {"report", "signature"}) | (set(signature) - SIGNATURE))):
        return Checked(False, False, "", f"it has parts that no signature covers: {first_few([repr(name[:40]) for name in unsigned])}")
    key = ""
    try:
        if signature.get("algorithm") != ALGORITHM:
            raise ValueError(f"it is not by {ALGORITHM}")
        named = bytes.fromhex(str(signature.get("key", "")))
        signer, key = Ed25519PublicKey.from_public_bytes(named), named.hex()
        signer.verify(bytes.fromhex(str(signature.get("value", ""))), canonical(report))
    except InvalidSignature:
        return Checked(False, False, key, "the signature does not fit: the report was changed after it was signed")
    except ValueError as problem:
        return Checked(False, False, key, f"the signature cannot be read: {problem}")
    if wrong := _of_another_form(report):
        return Checked(False, False, key, f"it is no report of the form {FORMAT}: none has such a {first_few(wrong)}")
    if expected_key and key != expected_key:
        return Checked(True, False, key, "signed by another key than the one expected", report)
    return Checked(True, bool(expected_key), key, "" if expected_key else "signed by a key that is not known here: compare it with the service's own", report)


def _of_another_form(report: Mapping[str, Any]) -> list[str]:
    """Which figures that a verification repeats are none: whoever signs by a key of their own may write anything there, lines and a terminal's commands too."""
    detection, media, verdict = (part if isinstance(part := report.get(name), dict) else {} for name in ("detection", "media", "verdict"))
    p_fake = verdict.get("p_fake")
    fits = {
        "detection.id": isinstance(named := detection.get("id"), str) and ID.fullmatch(named),
        "media.sha256": isinstance(sha256 := media.get("sha256"), str) and SHA256.fullmatch(sha256),
        "verdict.verdict": verdict.get("verdict") in list(VERDICT_WORDS),
        "verdict.p_fake": p_fake is None or (isinstance(p_fake, int | float) and not isinstance(p_fake, bool) and 0 <= p_fake <= 1),
    }
    return [name for name, right in fits.items() if not right]


def canonical(report: Mapping[str, Any]) -> bytes:
    """The bytes that are signed."""
    return json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def report_pdf(signed: Mapping[str, Any], thumbnail: Path | None = None) -> bytes:
    """The report as a page to print, with the signed JSON attached."""
    from feedback.report_page import draw

    return draw(signed, thumbnail)


def _private(secret: Secret):  # type: ignore[no-untyped-def]  # imported late: it takes 0.1 s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(secret.key(PURPOSE))
