"""Whom a file without a name shows: the person in the video that it was made of, as a source's table tells. One answer for sets, gates and `vigil evaluate`."""

from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import Any

from workspace.manifest import composed

Row = Mapping[str, Any]  # with path, identity and source_video


class Shown:
    """Whom files show, as far as the rows met so far tell; a later row may name the person in an earlier file."""

    def __init__(self) -> None:
        self._by_file: dict[str, str] = {}  # what the file itself says
        self._by_fakes: dict[str, str] = {}  # what those say that name it as their source
        self._people = ChainMap(self._by_file, self._by_fakes)
        self._made_of: dict[str, str] = {}  # of one path in several sources as the first says
        self._nameless: dict[str, list[Row]] = {}  # by their path and by the video that they were made of

    def learn(self, rows: Iterable[Row]) -> list[Row]:
        """Take these in; of one file the first word stands. Returns the nameless among the earlier rows of whom more may be known now."""
        rows = list(rows)
        told: dict[str, None] = {}  # files of which something is new
        for row in rows:
            path, video, person = (composed(row[name]) for name in ("path", "source_video", "identity"))
            for known, key, word in ((self._by_file, path, person), (self._by_fakes, video, person), (self._made_of, path, video)):
                if key and word and key not in known:
                    known[key] = word
                    told[key] = None
        found: dict[int, Row] = {}
        waiting = list(reversed(told))
        while waiting:
            for row in self._nameless.get(waiting.pop(), ()):
                if id(row) not in found:
                    found[id(row)] = row
                    waiting.append(composed(row["path"]))  # what was made of it shows the same person
        for row in rows:
            if not row["identity"]:
                for key in {composed(row["path"]), composed(row["source_video"])} - {""}:
                    self._nameless.setdefault(key, []).append(row)
        return list(found.values())

    def video(self, row: Row) -> str:
        """Of the videos that a file was made of, itself at last, the first in which somebody is named; where nobody is, the one that all of it was made of."""
        video, met = composed(row["source_video"] or row["path"]), set[str]()
        while video not in self._people and video in self._made_of and video not in met:
            met.add(video)
            video = self._made_of[video]
        return video

    def person(self, row: Row) -> str:
        """Who is shown: as the row says, else as its `video` tells; '' where nobody knows."""
        return composed(row["identity"]) or self._people.get(self.video(row), "")
