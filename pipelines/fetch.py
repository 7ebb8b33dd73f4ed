"""Bring a source to this machine: a local path as it is, an S3 prefix by fetching what was never looked at.

Fetched objects lie in `.vigil/incoming/<source>` until they are in a batch; a cut connection leaves them there, and the next
run goes on with them.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipelines.layouts import Found
from pipelines.seen import Entry, Seen, Stamp, stamp_of
from workspace.settings import IngestSettings, SourceSettings

if TYPE_CHECKING:
    from workspace.objectstore import ObjectInfo

TABLES = (".csv",)                 # always fetched: without its table nobody knows what an object is


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source lies on this machine, and which of its objects were not fetched, with the reason in `problem`."""

    path: Path
    refused: tuple[Found, ...] = ()


def located(root: Path, source: SourceSettings) -> Path:
    """Where a local source is; a relative path is seen from the workspace first. Raises FileNotFoundError."""
    path = Path(source.path).expanduser()
    for candidate in (root / path, Path.cwd() / path):
        if candidate.exists():
            return candidate
    raise FileNotFoundError(2, f"there is no {path}")


def pending_objects(source: SourceSettings, settings: IngestSettings, seen: Seen) -> "list[ObjectInfo]":
    """The objects below an S3 prefix that were never looked at, or changed since. Raises VigilError when S3 does not answer."""
    return [item for item in _objects(source, settings) if seen.unchanged(source.name, _name(item.key, source), Stamp(item.size, item.etag)) is None]


@contextmanager
def fetched(root: Path, source: SourceSettings, settings: IngestSettings, seen: Seen) -> Iterator[Place]:
    """The source as a local path, for the time of the block; objects are known by etag once the block ends well."""
    if not source.path.startswith("s3://"):
        yield Place(located(root, source))
        return
    from workspace.objectstore import fetch

    bucket = source.path.removeprefix("s3://").split("/")[0]
    incoming = root / ".vigil" / "incoming" / source.name
    incoming.mkdir(parents=True, exist_ok=True)
    names: dict[str, ObjectInfo] = {}
    refused: list[Found] = []
    for item in _objects(source, settings):
        name, stamp = _name(item.key, source), Stamp(item.size, item.etag)
        if seen.unchanged(source.name, name, stamp) and not name.lower().endswith(TABLES):
            continue
        problem = "file too big" if item.size > settings.max_file_bytes else "" if _is_safe(name) else "its key leads outside the source"
        names[name] = item
        if problem:
            refused.append(Found(path=incoming / name, name=name, problem=problem))
        else:
            fetch(f"s3://{bucket}/{item.key}", incoming / name, settings.s3_endpoint_url)
    yield Place(incoming, tuple(refused))
    for name, item in names.items():
        taken = seen.get(source.name, name)
        seen.put(source.name, name, Entry(Stamp(item.size, item.etag), taken.sample_id if taken else "", taken.problem if taken else ""))
    seen.save()
    shutil.rmtree(incoming, ignore_errors=True)


def _objects(source: SourceSettings, settings: IngestSettings) -> "list[ObjectInfo]":
    from workspace.objectstore import list_prefix

    return [item for item in list_prefix(source.path, settings.s3_endpoint_url) if not item.key.endswith("/")]


def _name(key: str, source: SourceSettings) -> str:
    prefix = source.path.removeprefix("s3://").partition("/")[2]
    return key.removeprefix(prefix).lstrip("/")


def _is_safe(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts
