"""Where the media of a workspace were kept so far: each bucket that its service has stored in, so that one which the settings name no more is asked, too.

The note has addresses alone, never credentials. It lies beside what the workspace itself keeps, so that a backup has it, and one that was moved. A copy
beside the first workspace has none of its places: what is erased in the copy would go from the first one's buckets.
"""

import os
import uuid
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from workspace.errors import DataError, WorkspaceError
from workspace.files import read_json, write_json

NOTE = Path(".vigil/media-places.json")
FORGET = "`vigil doctor --forget-media-place {url}`"


class Place(NamedTuple):
    """A bucket with a prefix, and the endpoint of its store; '' is the default of boto3."""

    url: str
    endpoint: str


def place(url: str, endpoint: str) -> Place:
    """The place that the settings name, as it is noted."""
    parts = urlsplit(endpoint)
    return Place(url.rstrip("/"), parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/"))


def noted(root: Path) -> list[Place]:
    """The places of this workspace, the latest last. Raises DataError where the note cannot be read: nobody knows then what lies elsewhere."""
    found = _read(root)
    return [] if _is_copy(root, found) else _places(found)


def note(root: Path, used: Place) -> None:
    """Remember a place, before something is stored there. Again is harmless."""
    found = _read(root)
    if used in noted(root):
        return
    copied = _is_copy(root, found)
    _write(root, uuid.uuid4().hex if copied or not found else found["id"], [*noted(root), used])


def forget(root: Path, url: str) -> None:
    """Never ask a place again, whatever it holds. Raises WorkspaceError where media were never kept there."""
    known, gone = noted(root), url.rstrip("/")
    if gone not in {one.url for one in known}:
        some = ", ".join(one.url for one in known) or "none but the workspace itself"
        raise WorkspaceError(f"{url} was not forgotten.", why=f"media were never kept there; the places are {some}", next_step="Name one of them.")
    _write(root, _read(root)["id"], [one for one in known if one.url != gone])


def _read(root: Path) -> dict[str, Any]:
    try:
        found = read_json(root / NOTE)
        return {"id": str(found["id"]), "root": str(found["root"]), "places": [(str(one["url"]), str(one["endpoint"])) for one in found["places"]]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataError(
            f"{NOTE} cannot be read.",
            why=f"{problem!r}; it names the buckets in which media were kept before, and may lie still",
            next_step="Restore it from a backup; without one remove it, and look yourself into buckets that were used before.",
        ) from problem


def _write(root: Path, own: str, places: list[Place]) -> None:
    write_json(root / NOTE, {"id": own, "root": str(root.resolve()), "places": [one._asdict() for one in places]})


def _places(found: dict[str, Any]) -> list[Place]:
    return [Place(*one) for one in found.get("places", [])]


def _is_copy(root: Path, found: dict[str, Any]) -> bool:
    """Whether the workspace that the note was made in is still there, beside this one. A moved or restored one is alone."""
    first = Path(found["root"]) if found else root.resolve()
    if first == root.resolve() or not (first / NOTE).is_file() or os.path.samefile(first / NOTE, root / NOTE):
        return False
    return bool(_read(first).get("id") == found["id"])
