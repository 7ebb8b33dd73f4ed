"""A push to the DVC remote that has not ended well: a mark in `.vigil` that stays until one has, read by all who must not ask the remote itself."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from workspace.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class Unsent:
    """Since when the remote may lack something (UTC), and why the last push did not end well."""

    since: str
    why: str

    def __str__(self) -> str:
        return f"not all was sent to the DVC remote since {self.since}: {self.why}"


def unsent(root: Path) -> Unsent | None:
    """The mark; None where the last push ended well, or none was tried. A damaged one is a mark, too. Raises PermissionError where this user may not look."""
    try:
        found = read_json(_path(root))
        return Unsent(str(found["since"]), str(found["why"]))
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return Unsent("a time that is not known", f"{_path(root)} cannot be read")


def mark_unsent(root: Path, why: str) -> None:
    """Leave the mark; one that is there keeps its time."""
    known = unsent(root)
    write_json(_path(root), asdict(Unsent(known.since if known else f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", why)))


def mark_sent(root: Path) -> None:
    """Take the mark away: all was sent."""
    _path(root).unlink(missing_ok=True)


def _path(root: Path) -> Path:
    return root / ".vigil" / "unsent.json"
