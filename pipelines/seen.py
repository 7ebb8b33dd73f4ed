"""A cache of what ingest has already hashed: (source and its place, file, size, time stamp) to sample id, in `.vigil/seen.json`.

A scan of a million known files then costs a million stats and no reads. It is only a cache: deleting it costs time, nothing else.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.fingerprint import TOO_BIG, UNREADABLE
from pipelines.layouts.found import as_text
from workspace.files import read_json, write_json
from workspace.settings import SourceSettings

VERSION = 2  # of the file; another is not read
ROW = [int, str, str, str]  # size in bytes, stamp, sample id, problem
SHARE = 0.05  # of the time of an ingest that may go into writing the cache


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file system or an object store says of a file without reading it."""

    bytes: int
    stamp: str  # of a local file mtime and ctime in nanoseconds and its inode, or an object's etag


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a file that was measured before."""

    stamp: Stamp
    sample_id: str
    problem: str = ""


def stamp_of(path: Path) -> Stamp:
    """The stamp of a local file; of a link that leads nowhere, its own."""
    try:
        facts = path.stat()
    except OSError:
        try:
            facts = path.lstat()
        except OSError:
            return Stamp(0, "")
    return Stamp(facts.st_size, f"{facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino}")  # a copy keeps the first


def seen_as(source: SourceSettings, place: Path | str) -> str:
    """What the cache calls a source that lies in `place`: two folders may share a name, and their files names, sizes and times."""
    return f"{source.name} {as_text(str(place.resolve())) if isinstance(place, Path) else place}"


class Seen:
    """The cache of one workspace, under its present limit for a file. Read at once, written whole or not at all.

    Raises PermissionError where this user may not read it.
    """

    def __init__(self, root: Path, max_file_bytes: int) -> None:
        self.path = root / ".vigil" / "seen.json"
        self.max_file_bytes = max_file_bytes
        self._sources: dict[str, dict[str, list[Any]]] = {}
        self._unlabelled: dict[str, list[str]] = {}
        self._changed, self._saved_at, self._took = False, -math.inf, 0.0
        try:
            stored = read_json(self.path)
            rows = (row for named in stored["sources"].values() for row in named.values())
            if stored["version"] == VERSION and all([type(value) for value in row] == ROW for row in rows):
                self._sources = stored["sources"]
                self._unlabelled = {source: list(map(str, names)) for source, names in stored.get("unlabelled", {}).items()}
        except PermissionError:  # another user's: who may not look cannot say that all is new
            raise
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            pass  # none, or a damaged one: all is read again

    def get(self, source: str, name: str) -> Entry | None:
        """What was last measured under this name, whatever the file is now."""
        row = self._sources.get(source, {}).get(name)
        return Entry(Stamp(row[0], row[1]), row[2], row[3]) if row else None

    def unchanged(self, source: str, name: str, stamp: Stamp) -> Entry | None:
        """What was measured of exactly this file, or None; also where it could not be read, or was too big under a lower limit."""
        entry = self.get(source, name)
        if entry is None or entry.stamp != stamp:
            return None
        now_fits = entry.problem == TOO_BIG and stamp.bytes <= self.max_file_bytes
        return None if now_fits or entry.problem.startswith(UNREADABLE) else entry  # a disk that is mended changes no time stamp

    def put(self, source: str, name: str, entry: Entry) -> None:
        """Remember a file until `save`."""
        named, row = self._sources.setdefault(source, {}), [entry.stamp.bytes, entry.stamp.stamp, entry.sample_id, entry.problem]
        self._changed |= named.get(name) != row
        named[name] = row

    def unlabelled(self, source: str) -> frozenset[str]:
        """The files that had no label when the source was last taken in: a label that a table has been given since changes no file."""
        return frozenset(self._unlabelled.get(source, ()))

    def put_unlabelled(self, source: str, names: Iterable[str]) -> None:
        """Remember them until `save`, in place of those of before."""
        bare = sorted(names)
        self._changed |= self._unlabelled.get(source) != bare
        self._unlabelled[source] = bare

    def save(self, at_once: bool = True) -> None:
        """Write the cache, if anything in it changed; unless `at_once`, where the last time is long enough ago for what writing took.

        It holds all sources: written after each of ten thousand small ones, it would take longer than they do.
        """
        began = time.monotonic()
        if not self._changed or not (at_once or self._took < SHARE * (began - self._saved_at)):
            return
        write_json(self.path, {"version": VERSION, "sources": self._sources, "unlabelled": self._unlabelled})
        self._saved_at = time.monotonic()
        self._changed, self._took = False, self._saved_at - began
