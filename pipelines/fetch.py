"""Bring a source to this machine: a local path as it is, an S3 prefix by fetching what was never looked at.

An empty file stands for what was looked at before, so that a layout sees the whole source; where it says something new of such
an object, `Place.bring` fetches it after all. Fetched objects lie in `.vigil/incoming/<source>` until they are in a batch; a cut
connection leaves them there, and the next run goes on with them.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines.fingerprint import TOO_BIG, UNREADABLE
from pipelines.intake import NotNow
from pipelines.layouts import Found
from pipelines.seen import Entry, Seen, Stamp, seen_as
from pipelines.stage import Progress
from workspace.errors import DataError
from workspace.objectstore import REFUSED, ObjectInfo, fetch, is_s3, list_prefix, partial_path, path_problem, split_url
from workspace.settings import IngestSettings, SourceSettings

CLOSED = {why: f"{UNREADABLE} ({why})" for why in REFUSED}  # what a person reads of an object that the store refuses
TABLES = (".csv", ".json", ".jsonl", ".txt")  # always fetched: without its table nobody knows what an object is


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source lies on this machine, what the cache calls it, which of its objects may not be fetched (`problem` says why), and which were not.

    `known` are the stamps of the latter, by path: empty files lie there until `bring` fetches them, and says which it could not and why.
    """

    path: Path
    source: str
    refused: tuple[Found, ...] = ()
    known: Mapping[Path, Stamp] = field(default_factory=dict)
    bring: Callable[[Sequence[Path]], Mapping[Path, str]] = lambda paths: {}


def located(root: Path, source: SourceSettings) -> Path:
    """Where a local source is; a relative path is of the workspace, wherever the caller stands. Raises FileNotFoundError."""
    path = root / os.path.expanduser(source.path)  # the home of somebody who is not known here stays as it is
    if not path.exists():
        raise FileNotFoundError(2, f"there is no {path}")
    return path


def pending_objects(source: SourceSettings, settings: IngestSettings, seen: Seen, again: Collection[str] = ()) -> list[ObjectInfo]:
    """The objects below an S3 prefix that were never looked at, or changed since, or are one of `again`. Raises NotNow when S3 does not answer."""
    known_as = seen_as(source, _url(source))

    def is_known(item: ObjectInfo) -> bool:
        name, stamp = _name(item.key, source), Stamp(item.size, item.etag)
        before = seen.get(known_as, name)
        refused = before is not None and before.stamp == stamp and before.problem in CLOSED.values()  # what stays refused is not new
        return refused or ((entry := seen.unchanged(known_as, name, stamp)) is not None and (bool(entry.problem) or entry.sample_id not in again))

    return [item for item in _objects(source, settings) if not is_known(item)]


@contextmanager
def fetched(root: Path, source: SourceSettings, settings: IngestSettings, seen: Seen) -> Iterator[Place]:
    """The source as a local path, for the time of the block; objects are known by etag once the block ends well.

    Raises FileNotFoundError or NotNow before the block starts.
    """
    if not is_s3(source.path):
        place = located(root, source)
        yield Place(place, seen_as(source, place))
        return
    known_as = seen_as(source, _url(source))
    incoming = root / ".vigil" / "incoming" / source.name
    incoming.mkdir(parents=True, exist_ok=True)
    objects = {_name(item.key, source): item for item in _objects(source, settings)}
    folders = {parent.as_posix() for name in objects for parent in PurePosixPath(name).parents}
    refused: list[Found] = []
    known: dict[Path, Stamp] = {}
    wanted: dict[str, ObjectInfo] = {}
    for name, item in objects.items():
        stamp = Stamp(item.size, item.etag)
        before = seen.unchanged(known_as, name, stamp)
        too_big = item.size > settings.max_file_bytes and (before is None or before.problem == TOO_BIG)
        if problem := path_problem(name) or ("a folder has its name" if name in folders else TOO_BIG if too_big else ""):
            refused.append(Found(path=incoming / name, name=name, problem=problem))
        elif before and not name.lower().endswith(TABLES):
            known[incoming / name] = stamp
        else:
            wanted[name] = item
    fresh = {**wanted, **{found.name: objects[found.name] for found in refused}}
    _drop_strays(incoming, wanted)
    closed = _fetch(source, settings, incoming, [*wanted.values()], len(objects))
    refused += [Found(path=incoming / name, name=name, problem=problem) for name, problem in closed.items()]
    for path in known:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def bring(paths: Sequence[Path]) -> Mapping[Path, str]:
        again = {(name := path.relative_to(incoming).as_posix()): objects[name] for path in paths}
        fresh.update(again)
        closed = _fetch(source, settings, incoming, [*again.values()], len(objects)) if again else {}
        return {incoming / name: problem for name, problem in closed.items()}

    yield Place(incoming, known_as, tuple(refused), known, bring)
    for name, item in fresh.items():
        taken = seen.get(known_as, name)
        seen.put(known_as, name, Entry(Stamp(item.size, item.etag), taken.sample_id if taken else "", taken.problem if taken else ""))
    seen.save(at_once=False)
    shutil.rmtree(incoming, ignore_errors=True)


def _fetch(source: SourceSettings, settings: IngestSettings, incoming: Path, objects: Sequence[ObjectInfo], of: int) -> dict[str, str]:
    """Why the store refuses some of the objects, by name. Raises NotNow where a table is among them, or all that the source has: so many (`of`)."""
    refused: dict[str, str] = {}
    try:
        fetch(_url(source), incoming, settings.s3_endpoint_url, objects=objects, progress=Progress("fetch"), refused=refused)
    except DataError as problem:
        raise NotNow(problem.what, why=problem.why, next_step=problem.next_step) from problem
    closed = {_name(key, source): why for key, why in sorted(refused.items())}
    if name := next((name for name in closed if len(closed) == of or name.lower().endswith(TABLES)), ""):
        what = "every object" if len(closed) == of else "a table, which says what the others are"
        raise NotNow(
            f"Cannot read {_url(source)}{name}.", why=f"the store refuses {what} ({closed[name]})",
            next_step="Let these credentials read objects (s3:GetObject), bring back what is archived, then run the same again.",
        )  # fmt: skip
    return {name: CLOSED[why] for name, why in closed.items()}


def _objects(source: SourceSettings, settings: IngestSettings) -> list[ObjectInfo]:
    """All of the source, one object at least. Raises NotNow."""
    try:
        objects = list_prefix(_url(source), settings.s3_endpoint_url)
    except DataError as problem:
        raise NotNow(problem.what, why=problem.why, next_step=problem.next_step) from problem
    if not objects:
        raise NotNow(
            f"There is nothing below {_url(source)}.", why="the bucket has no object whose key begins like that",
            next_step="Check the address, which names a folder and no single object; or wait until something is there, then run the same again.",
        )  # fmt: skip
    return objects


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
