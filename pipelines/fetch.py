"""Bring a source to this machine: a local path as it is, an S3 prefix by fetching what was never looked at.

Fetched objects lie in `.vigil/incoming/<source>` until they are in a batch; a cut connection leaves them there, and the next
run goes on with them.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines.intake import NotNow
from pipelines.layouts import Found
from pipelines.seen import Entry, Seen, Stamp
from pipelines.stage import Progress
from workspace.errors import DataError
from workspace.objectstore import ObjectInfo, fetch, is_s3, list_prefix, partial_path, path_problem, split_url
from workspace.settings import IngestSettings, SourceSettings

TABLES = (".csv", ".json", ".jsonl", ".txt")  # always fetched: without its table nobody knows what an object is


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source lies on this machine, which of its objects may not be fetched (`problem` says why), and which need not be."""

    path: Path
    refused: tuple[Found, ...] = ()
    known: frozenset[str] = frozenset()


def located(root: Path, source: SourceSettings) -> Path:
    """Where a local source is; a relative path is seen from the workspace first. Raises FileNotFoundError."""
    path = Path(source.path).expanduser()
    for candidate in (root / path, Path.cwd() / path):
        if candidate.exists():
            return candidate
    raise FileNotFoundError(2, f"there is no {path}")


def pending_objects(source: SourceSettings, settings: IngestSettings, seen: Seen) -> list[ObjectInfo]:
    """The objects below an S3 prefix that were never looked at, or changed since. Raises NotNow when S3 does not answer."""
    return [item for item in _objects(source, settings) if seen.unchanged(source.name, _name(item.key, source), Stamp(item.size, item.etag)) is None]


@contextmanager
def fetched(root: Path, source: SourceSettings, settings: IngestSettings, seen: Seen) -> Iterator[Place]:
    """The source as a local path, for the time of the block; objects are known by etag once the block ends well.

    Raises FileNotFoundError or NotNow before the block starts.
    """
    if not is_s3(source.path):
        yield Place(located(root, source))
        return
    incoming = root / ".vigil" / "incoming" / source.name
    incoming.mkdir(parents=True, exist_ok=True)
    fresh: dict[str, ObjectInfo] = {}
    refused: list[Found] = []
    known: set[str] = set()
    objects = _objects(source, settings)
    folders = {parent.as_posix() for item in objects for parent in PurePosixPath(_name(item.key, source)).parents}
    for item in objects:
        name = _name(item.key, source)
        if seen.unchanged(source.name, name, Stamp(item.size, item.etag)) and not name.lower().endswith(TABLES):
            known.add(name)
            continue
        fresh[name] = item
        if problem := path_problem(name) or ("a folder has its name" if name in folders else "file too big" if item.size > settings.max_file_bytes else ""):
            refused.append(Found(path=incoming / name, name=name, problem=problem))
    barred = {found.name for found in refused}
    wanted = {name: item for name, item in fresh.items() if name not in barred}
    _drop_strays(incoming, wanted)
    try:
        fetch(_url(source), incoming, settings.s3_endpoint_url, objects=list(wanted.values()), progress=Progress("fetch"))
    except DataError as problem:
        raise NotNow(problem.what, why=problem.why, next_step=problem.next_step) from problem
    for folder in {(incoming / name).parent for name in known}:
        folder.mkdir(parents=True, exist_ok=True)  # a layout is recognised by its folders, whatever of it is new
    yield Place(incoming, tuple(refused), frozenset(known))
    for name, item in fresh.items():
        taken = seen.get(source.name, name)
        seen.put(source.name, name, Entry(Stamp(item.size, item.etag), taken.sample_id if taken else "", taken.problem if taken else ""))
    seen.save()
    shutil.rmtree(incoming, ignore_errors=True)


def _objects(source: SourceSettings, settings: IngestSettings) -> list[ObjectInfo]:
    try:
        return list_prefix(_url(source), settings.s3_endpoint_url)
    except DataError as problem:
        raise NotNow(problem.what, why=problem.why, next_step=problem.next_step) from problem


def _url(source: SourceSettings) -> str:
    """The prefix as a folder: s3://bucket/press must not take in s3://bucket/press-old."""
    return source.path.rstrip("/") + "/"


def _name(key: str, source: SourceSettings) -> str:
    return key.removeprefix(split_url(_url(source))[1])


def _drop_strays(incoming: Path, wanted: Mapping[str, ObjectInfo]) -> None:
    """What an interrupted run left stays only while the store still has it: an object that its owner deleted must not come in."""
    keep = {incoming / name for name in wanted} | {partial_path(incoming / name, item) for name, item in wanted.items()}
    for path in sorted(incoming.rglob("*"), reverse=True):  # what is in a folder comes before the folder
        if path.is_dir() and path in keep:
            path.rmdir()
        elif not path.is_dir() and path not in keep:
            path.unlink()
