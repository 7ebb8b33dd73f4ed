"""Whose file a path means. Many sources number their files alike, and a folder that is filled anew each week has a real/0001.mp4 in every batch."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workspace.for_review import is_erased
from workspace.journal import Event
from workspace.manifest import composed
from workspace.state import batch_states, cycles, promoted

Row = Mapping[str, Any]


def content_path(sample_id: str) -> str:
    """What a file is called by its content, where no path of its batch tells: it had come in before."""
    return f"content/{sample_id}"


class Paths:
    """The files of all batches by their paths. What names one, as a fake its source video, means that of its own batch, else the last before it of its own
    source, else the first before it of all, else the first that came after it: no later batch gives a name that meant something another meaning."""

    def __init__(self, batches: Mapping[str, Iterable[Row]]) -> None:
        """`batches` in the order in which they were learned. Of each row its source, path, source video and sample id count."""
        self._turn = {batch: number for number, batch in enumerate(batches)}
        self._having: dict[str, dict[tuple[str, str], str]] = {}
        self._naming: dict[tuple[str, str], tuple[str, str]] = {}  # by content and the source video that it names: the source and batch that said so first
        self.erased: set[str] = set()
        for batch, rows in batches.items():
            for row in rows:
                if is_erased(row):  # whose path is what says so
                    self.erased.add(row["sample_id"])
                else:
                    self._having.setdefault(composed(row["path"]), {})[row["source"], batch] = row["sample_id"]
                    if row["source_video"]:
                        self._naming.setdefault((row["sample_id"], composed(row["source_video"])), (row["source"], batch))
        self._called: dict[str, dict[str, str]] = {}  # by path and content

    def meant(self, name: str, source: str, batch: str) -> str:
        """The content, by sample id, that a path means to a file of this source and batch; '' where no file has that path. Also of a `content_path`."""
        if by_content := re.fullmatch(content_path("([0-9a-f]{64})"), name):
            return by_content[1]
        having = self._having.get(composed(name), {})
        if (source, batch) in having or len(having) < 2:
            return having.get((source, batch)) or next(iter(having.values()), "")
        turn = self._turn.get(batch, len(self._turn))
        before = [key for key in having if self._turn[key[1]] < turn]
        mine = [key for key in before if key[0] == source]
        return having[mine[-1] if mine else before[0] if before else next(iter(having))]

    def made_of(self, row: Row, batch: str) -> str:
        """The content that the source video of a batch's row means. An answer repeats what its file's row said, and is of another source and batch."""
        source, where = self._naming.get((row["sample_id"], composed(row["source_video"])), (row["source"], batch))
        return self.meant(row["source_video"], source, where)

    def called(self, name: str, content: str) -> str:
        """What the path of a content is called, so that no two contents are called the same: as it stands where that one alone has it."""
        path = composed(name)
        if path not in self._called:
            self._called[path] = self._told_apart(self._having.get(path, {}), name)
        return self._called[path].get(content, name)

    @staticmethod
    def _told_apart(having: Mapping[tuple[str, str], str], name: str) -> dict[str, str]:
        first: dict[str, tuple[str, str]] = {}
        of_source: dict[str, set[str]] = {}
        for key, content in having.items():
            first.setdefault(content, key)
            of_source.setdefault(key[0], set()).add(content)
        if len(first) < 2:
            return {}
        alone = {content for content, (source, _) in first.items() if len(of_source[source]) == 1}
        return {content: f"{source}: {name}" if content in alone else f"{source}, {batch}: {name}" for content, (source, batch) in first.items()}


def learning_order(events: Sequence[Event], batches: Iterable[str]) -> list[str]:
    """These batches in the order in which promoted cycles learned them, then those that none has learned; by name within a cycle.

    Who comes first keeps its side of the split. This order never changes, whatever people decide about a batch and when: by the moment
    of acceptance, a batch that a person had released stood behind the others in its own cycle and before them in the next.
    """
    learned: dict[str, int] = {}
    ever = promoted(events)
    for number, known in enumerate(one for one in cycles(events) if one.cycle in ever):
        for batch in known.judged:
            learned.setdefault(batch, number)
    return sorted(batches, key=lambda batch: (learned.get(batch, len(events)), batch))


def still_said(events: Sequence[Event], batches: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Sequence[dict[str, Any]]]:
    """The batches as they were learned, with what still counts of dropped ones: what these said of their files, and of what was made of what, tells whom
    others show, and what was made of a file that went with one is not made of another file of its path.

    Of a file that came in again since, under its name, or under any where its batch was dropped for that, the old row is a name alone: whom it shows and
    what it was made of is as the new row says, from where the old one stood, for whoever brought it may have mended that. Where another file came in its
    place, nothing is left of it.
    """
    states = batch_states(events)
    dropped = {batch: states[batch] for batch in batches if batch in states and states[batch].state == "dropped"}
    came = {batch: turn for turn, batch in enumerate(dict.fromkeys((*states, *batches)))}
    here: dict[object, tuple[str, dict[str, Any]]] = {}  # by content, by content and path, and by place: the last to come in, and its batch
    for batch in sorted(batches.keys() - dropped.keys(), key=came.__getitem__) if dropped else ():
        for row in batches[batch]:
            if not is_erased(row):
                path = composed(row["path"])
                here |= dict.fromkeys((row["sample_id"], (row["sample_id"], path), (row["source"], path)), (batch, row))

    def since(batch: str, key: object) -> tuple[str, dict[str, Any]] | None:
        return found if (found := here.get(key)) and came[found[0]] > came[batch] else None

    said: dict[str, Sequence[dict[str, Any]]] = {batch: batches[batch] for batch in learning_order(events, batches)}
    names: list[tuple[dict[str, Any], str, dict[str, Any]]] = []  # each with what its file is now, and in which batch
    for batch, told in dropped.items():
        kept = []
        for row in batches[batch]:
            content, path = row["sample_id"], composed(row["path"])
            if now := since(batch, content if told.again else (content, path)):
                kept.append(row | {name: now[1][name] for name in ("identity", "donor") if name in row} | {"source_video": ""})
                names.append((kept[-1], *now))
            elif not (told.again and since(batch, (row["source"], path))):
                kept.append(row)
        said[batch] = kept
    paths = Paths(said if names else {})
    for name, batch, row in names:
        video = paths.made_of(row, batch)
        name["source_video"] = content_path(video) if video else row["source_video"]
    return said
