"""What the workspace already holds, by content and by looks. Read from the manifests of all batches; their media stay closed
unless two files share words and have to be compared."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from media.decode import Source
from pipelines.begun import Begun
from pipelines.fingerprint import words_of
from pipelines.intake import SourceCounts
from pipelines.layouts import Found
from pipelines.lookalike import Recording, likeness, open_recording
from pipelines.neighbours import Neighbours, shared_words
from pipelines.rows import rows_of
from pipelines.sides import claims_of, stands_for_dropped
from workspace.errors import MediaError, VigilError, WorkspaceError
from workspace.for_review import TWO_LABELS, by_batch, by_source, is_disputed, is_erased, is_unlabelled, read_conflicts, two_labels
from workspace.journal import Journal
from workspace.manifest import LABELS, composed, read_manifest, read_media
from workspace.pool import ordered_map
from workspace.state import batch_states

Progress = Callable[[int, int, str], None]
MOST_OPENED = 2000  # pictures that a process keeps open: 70 MB and their points
MOST_COMPARED = 8  # candidates of one file whose frames are compared, the likeliest first
FEWEST_FOR_PROCESSES = 16  # files that have a candidate: starting processes costs seconds
ODD = (cv2.error, ValueError)  # what OpenCV and NumPy say of odd pictures, e.g. frames of two sizes: one file must not stop the ingest of the others
PEOPLE = ("identity", "donor")
WORDS = (*PEOPLE, "generator", "use")  # what a source says of a file beside its label
BY_FILE = "file-"  # begins the name of who is known by one file alone


@dataclass(frozen=True, slots=True)
class Look:
    """How one sample looks, what it claims to be, and where its media are."""

    sample_id: str
    claims: tuple[str, ...]
    source_video: str
    original: str  # the first of its near duplicates
    groups: frozenset[str]  # the first samples of all that look like it
    words: np.ndarray
    media: Path | tuple[Path, str, int, int]
    stands: bool = False  # though it is a copy: of a dropped one (pipelines/sides.py)
    dropped: bool = False  # with its batch: nothing is a copy of it, but what looks like it is tied to it, for the batch may come back

    def source(self) -> Source:
        """The media. Raises VigilError where the batch's media are not on this machine."""
        return self.media if isinstance(self.media, Path) else read_media(*self.media)


@dataclass(frozen=True, slots=True)
class Said:
    """What a source says of one of its files: each of the WORDS, None where nothing is said. `batch` is the one that recorded it."""

    source: str
    path: str
    words: tuple[str | None, ...]
    batch: str = ""

    def names_others(self, recorded: "Said") -> bool:
        """Whether another source, and no reviewer, calls the person or the donor otherwise than was recorded."""
        if self.source == recorded.source or not self.path:
            return False
        pairs = [(now, then) for name, now, then in zip(WORDS, self.words, recorded.words, strict=True) if name in PEOPLE]
        return any(now and not now.startswith(BY_FILE) and composed(now) != composed(then or "") for now, then in pairs)

    def of_copy(self, recorded: "Said") -> list[tuple[str, str, str]]:
        """Of another file of the same source with the same content: which word it has, of the person, the donor or the generator, and which was recorded."""
        if self.source != recorded.source or not self.path or recorded.path in ("", self.path):
            return []
        named = [(name, now, then or "") for name, now, then in zip(WORDS, self.words, recorded.words, strict=True) if name != "use" and now]
        return [(name, now, then) for name, now, then in named if not now.startswith(BY_FILE) and composed(now) != composed(then)]

    def unlike(self, recorded: "Said") -> list[str]:
        """Which words the same file of the same source has now and had not then."""
        if (self.source, self.path) != (recorded.source, recorded.path):
            return []
        pairs = zip(WORDS, self.words, recorded.words, strict=True)
        return [name for name, now, then in pairs if now is not None and now != then and composed(now) != composed(then or "")]


@dataclass(slots=True)
class Known:
    """Labels and uses by sample id, and the looks of all samples that have any.

    What dropped batches say of a content is nobody's word any more, so it is not among the labels: a person's label comes in, and so does a
    source's other one, and a file of which its own source says another person, part or generator now. What they said before is known all the
    same, or the next ingest would bring a dropped batch back from its source.
    """

    labels: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # (batch, label, use)
    said: dict[str, Said] = field(default_factory=dict)  # the rest, where it is used
    dropped: dict[str, dict[str, Said]] = field(default_factory=dict)  # of dropped batches, by label
    unlabelled: set[str] = field(default_factory=set)
    disputed: set[str] = field(default_factory=set)  # two labels in one ingest
    reviewed: set[str] = field(default_factory=set)  # a person has decided
    erased: set[str] = field(default_factory=set)  # on request
    contradicted: dict[str, list[str]] = field(default_factory=dict)  # what was said of known content, where it differs, now and before
    looks: list[Look] = field(default_factory=list)
    looked_at: set[str] = field(default_factory=set)  # whose looks these are
    people: dict[str, str] = field(default_factory=dict)  # by name: the first batch with somebody called so
    spelled: dict[str, str] = field(default_factory=dict)  # of each spelling the first name
    kept: set[str] = field(default_factory=set)  # people of whom something is kept for evaluation
    _neighbours: Neighbours = field(default_factory=Neighbours)  # of the looks, as far as somebody asked

    def add(self, folder: Path, rows: Sequence[Mapping[str, Any]], dropped: bool = False, again: bool = False) -> None:
        """Make the rows of a batch known. Of a dropped one the looks count, since it may come back, and what may never be used.

        `again`: a person lets its contents come in again, as if nobody had said anything of them.
        """
        for row in rows:
            sample_id = row["sample_id"]
            if dropped and row["use"] != "never":
                for label in () if again else ("real", "fake") if is_disputed(row) else (row["label"],):
                    self.dropped.setdefault(sample_id, {})[label] = _said(row)
            else:
                self.labels[sample_id] = (row["batch"], row["label"], row["use"])
                self.said[sample_id] = _said(row)
                for name in people_in(row):
                    self.name(name, row["batch"])
                if row["use"] == "evaluate" and not row["quarantine"]:
                    self.kept |= {composed(row["identity"]), composed(row["donor"])} - {""}
                for group, belongs in (
                    (self.unlabelled, is_unlabelled(row)), (self.disputed, is_disputed(row)), (self.reviewed, bool(row["case_id"])),
                    (self.erased, is_erased(row)),
                ):  # fmt: skip
                    (group.add if belongs else group.discard)(sample_id)
            if row["phash"] and not row["quarantine"]:
                self.looks.append(_look(row, (folder, row["shard"], int(row["offset"]), int(row["bytes"])), dropped))
                self.looked_at.add(row["sample_id"])

    def name(self, person: str, batch: str) -> None:
        """Make somebody's name known, unless it is."""
        if person not in self.people:
            self.people[person] = batch
            self.spelled.setdefault(spelling(person), person)

    def videos(self) -> set[str]:
        """What a source video may be called: the paths of all known files, and what these say that they are of."""
        said = [*self.said.values(), *(one for of_label in self.dropped.values() for one in of_label.values())]
        return {composed(one.path) for one in said} | {look.source_video for look in self.looks}

    def batch_of(self, sample_id: str) -> str:
        """The batch with what is known of a content, '' for new content; a dropped batch where no other holds it."""
        said = [*self.dropped.get(sample_id, {}).values()]
        return self.labels[sample_id][0] if sample_id in self.labels else said[-1].batch if said else ""

    def holds(self, sample_id: str, found: Found, now: Said, by_people: bool) -> bool:
        """Whether this file brings nothing new: its content is known, and so is its label.

        A person's label (`by_people`: handed over by the service) is new where no person's is recorded, or another; a source's only where none was recorded.
        """
        if not by_people and self._dropped_with(sample_id, found, now):
            return True
        if sample_id not in self.labels:
            return False
        _, label, use = self.labels[sample_id]
        if found.problem or not found.label or use == "never":
            return True
        if by_people:
            return found.label == label and sample_id in self.reviewed  # what a source said alike is dropped with its batch
        return sample_id not in self.unlabelled

    def _dropped_with(self, sample_id: str, found: Found, now: Said) -> str:
        """The dropped batch that said the same of a content which nobody has labelled since, or ''. A copy without a label vouches for no label."""
        if sample_id in self.labels and sample_id not in self.unlabelled:
            return ""
        before = self.dropped.get(sample_id, {}).get(found.label)
        return before.batch if before is not None and not now.unlike(before) else ""

    def compare(self, sample_id: str, found: Found, now: Said, counts: SourceCounts, settled: bool = False) -> None:
        """Note where known content comes with other words than before; what was recorded stands. `settled`: of two labels its source says one alone now."""
        if dropped := self._dropped_with(sample_id, found, now):
            counts.dropped[dropped] = counts.dropped.get(dropped, 0) + 1
            return
        if found.problem:
            return
        if sample_id in self.erased:
            counts.erased += 1
            return
        batch, label, use = self.labels[sample_id]
        before = self.said[sample_id]
        reworded = now.unlike(before)
        if settled and now.source == before.source and use != "never":
            reworded.append("label")
        elif found.label and found.label != label:
            waits = f", where it is in quarantine: {TWO_LABELS}" if sample_id in self.disputed else ""
            counts.conflicts.append(f"{found.name} is {found.label} here, {label or 'unlabelled'} in batch {batch}{waits}")
            if label and use != "never" and sample_id not in self.reviewed:
                said = [*self.contradicted.get(sample_id, []), by_batch(label, batch), by_source(found.label, now.source, found.name)]
                self.contradicted[sample_id] = list(dict.fromkeys(said))
        for word in reworded:
            of_batch = counts.reworded.setdefault(batch, {})
            of_batch[word] = of_batch.get(word, 0) + 1
        if now.names_others(before):
            counts.renamed[batch] = counts.renamed.get(batch, 0) + 1
        if found.use and found.use != use and "use" not in reworded:
            counts.conflicts.append(f"{found.name} has use {found.use} here, {use} in batch {batch}")

    def take_back(self, sample_id: str, found: Found, source: str) -> None:
        """Strike what a source said of a content under this file's name before, and says no more."""
        if sample_id not in self.contradicted or found.problem:
            return
        before = {by_source(label, source, found.name) for label in LABELS if label != found.label}
        self.contradicted[sample_id] = [statement for statement in self.contradicted[sample_id] if statement not in before]
        if not two_labels(self.contradicted[sample_id]):
            del self.contradicted[sample_id]

    def copy_conflicts(self, sample_id: str, found: Found, now: Said) -> list[str]:
        """What a file that nobody has looked at says of known content otherwise than an equal one of its source did; what was recorded stands.

        Another label is a conflict of its own, and who made it belongs to that.
        """
        if sample_id not in self.labels or found.label not in ("", self.labels[sample_id][1]):
            return []
        before = self.said[sample_id]
        first = f"{before.path}, the same content"
        return [
            f"{now.path} has {name} {word} here; {first}, {then or 'none'} in batch {before.batch}, which stands" for name, word, then in now.of_copy(before)
        ]

    def spelled_alike(self, rows: Iterable[Mapping[str, Any]], batch: str) -> list[str]:
        """A conflict for each new name of a person in these rows of `batch` that may be another spelling of a known one, or of an earlier new one."""
        files = Counter(name for row in rows for name in dict.fromkeys(people_in(row)))
        new = [name for name in files if name not in self.people]
        first: dict[str, str] = {}
        told = []
        for name in new:
            alike = spelling(name)
            if (other := self.spelled.get(alike) or first.setdefault(alike, name)) != name:
                whose = f"{other!r} of batch {self.people[other]}" if other in self.people else repr(other)
                mend = f"If they are one, mend the source, then vigil batches drop {batch} --again and ingest again"
                told.append(f"{name!r} ({files[name]} files) may be {whose}: two spellings are two people, on two sides perhaps. {mend}")
        return told

    def mark_near_duplicates(
        self, rows: Sequence[tuple[dict[str, Any], Path]], bits: int, workers: int = 1, progress: Progress | None = None, begun: Begun | None = None
    ) -> int:
        """Set `duplicate_of` and `looks` of new rows that show what a known sample, or an earlier new one, shows.

        Frames are compared in so many processes, 0 means one a core: a second of one core and more for each file that shares words with another.
        What was compared stays in `begun`, and what an ingest that was stopped had compared is there. Returns of how many rows the words alone decide,
        since to compare their frames ended two processes.
        """
        rows = [(row, path) for row, path in rows if row["phash"]]
        if not rows:
            return 0
        before, new, opened = len(self.looks), [_look(row, path) for row, path in rows], Opened()
        self._neighbours = self._neighbours.plus([look.words for look in self.looks[self._neighbours.files :]])
        neighbours = self._neighbours.plus([look.words for look in new])

        def candidates(number: int) -> list[Look]:
            near = neighbours.of(new[number].words, before + number, bits)
            return [self.looks[place] if place < before else new[place - before] for place in near]

        def kept(row: Mapping[str, Any]) -> dict[str, bool]:
            return (begun and begun.get("same", row["sample_id"], bits)) or {}

        ahead = [_compared_ahead(look, candidates(number), bits, self.looked_at) for number, look in enumerate(new)]
        jobs = [job if job and job.leaves_open(kept(row)) else None for (row, _), job in zip(rows, ahead, strict=True)]
        todo = [job for job in jobs if job]
        parallel, crashed = len(todo) >= FEWEST_FOR_PROCESSES, list[Compared]()

        def by_words(job: Comparison) -> Compared:
            crashed.append(Compared({look.sample_id: _is_same_by_words(job.new, look, job.bits) for look in job.others}))
            return crashed[-1]

        told = iter(ordered_map(_compare, todo, workers, by_words) if parallel else map(partial(_compare, opened=opened), todo))
        for number, ((row, path), compared, job) in enumerate(zip(rows, ahead, jobs, strict=True)):
            known = kept(row)
            found = next(told) if job else Compared()
            found.add(Compared({**known}, {*known}))  # by frames, which words do not outweigh
            row["duplicate_of"], row["looks"] = "", ""
            if compared is None or any(found.same.values()):
                row["duplicate_of"], row["looks"] = _resembled(new[number], candidates(number), bits, opened, found)
            if begun and found.by_frames != known.keys():
                begun.put({name: same for name, same in found.same.items() if name in found.by_frames}, "same", row["sample_id"], bits)
            new[number] = _look(row, path)
            if progress and todo:
                progress(number + 1, len(rows), "looking for copies")
        return len(crashed)


def read_known(root: Path) -> Known:
    """Everything in the batches of the journal. Raises WorkspaceError when a batch's manifest is not on this machine:

    without it, all its files would come in a second time.
    """
    known = Known(contradicted=read_conflicts(root))
    missing = []
    for batch, told in batch_states(Journal(root).events()).items():
        folder = root / "data" / "raw" / batch
        if (folder / "manifest.parquet").is_file():
            known.add(folder, rows_of(read_manifest(folder)), dropped=told.state == "dropped", again=told.again)
        elif not told.again:  # what that one held may come in a second time
            missing.append(batch)
    if missing:
        raise WorkspaceError(
            f"Batches of this workspace are not on this machine: {', '.join(missing[:5])}. Nothing was ingested.",
            why="without their manifests nobody can tell what is new", next_step="Run `vigil doctor --pull` in the workspace, then ingest again.",
        )  # fmt: skip
    return known


def people_in(row: Mapping[str, Any]) -> list[str]:
    """The names of people in a manifest row; who is known by one file alone has none."""
    return [composed(row[name]) for name in PEOPLE if row[name] and not row[name].startswith(BY_FILE)]


def spelling(name: str) -> str:
    """What is left of a person's name where capitals and blanks do not count, nor how a table writes a whole number: 7, 7.0 and 007 are one."""
    bare = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    number = re.fullmatch(r"0*([0-9]+)(\.0+)?", bare)
    return number[1] if number else bare


def _said(row: Mapping[str, Any]) -> Said:
    used = not row["quarantine"] and row["use"] != "never"  # nothing else is mended by other words
    return Said(row["source"], row["path"] if used else "", tuple(row[name] for name in WORDS), row["batch"])


def _look(row: Mapping[str, Any], media: Path | tuple[Path, str, int, int], dropped: bool = False) -> Look:
    original = row["duplicate_of"] or row["sample_id"]
    groups = frozenset(row["looks"].split() or [original])
    words, video = words_of(row["phash"]), composed(row["source_video"])
    return Look(row["sample_id"], claims_of(row), video, original, groups, words, media, stands_for_dropped(row), dropped)


class Opened:
    """Recordings that were compared lately: who is like one newcomer is often like the next."""

    def __init__(self) -> None:
        self._recordings: dict[str, Recording] = {}

    def of(self, look: Look) -> Recording:
        """What is to be compared of a file. Raises VigilError where it is not on this machine or does not decode."""
        found = self._recordings.pop(look.sample_id, None) or open_recording(look.source())
        self._recordings[look.sample_id] = found  # the last one asked for stands last
        while len(self._recordings) > 2 and sum(len(one.pictures) for one in self._recordings.values()) > MOST_OPENED:
            del self._recordings[next(iter(self._recordings))]
        return found


_OPENED = Opened()  # of a process that compares for another, from one file to the next


@dataclass(slots=True)
class Compared:
    """Which others, by sample id, show the `same` as a new file, and of which of them the frames were compared: elsewhere the words decided."""

    same: dict[str, bool] = field(default_factory=dict)
    by_frames: set[str] = field(default_factory=set)

    def add(self, more: "Compared") -> None:
        """Take these in, too."""
        self.same |= more.same
        self.by_frames |= more.by_frames


@dataclass(frozen=True, slots=True)
class Comparison:
    """A new file and the first that it is compared with, the likeliest first: whatever was found of these."""

    new: Look
    others: tuple[Look, ...]
    bits: int

    def leaves_open(self, told: Mapping[str, bool]) -> bool:
        """Whether what is told of the others, by sample id, does not yet say which of them is the first that is the same, or that none is."""
        first = next((look for look in self.others if told.get(look.sample_id) is not False), None)
        return first is not None and first.sample_id not in told


def _compared_ahead(new: Look, candidates: Sequence[Look], bits: int, before: Collection[str]) -> Comparison | None:
    """What can be compared before anything is known of the candidates: until one of them is the same, nothing else counts. None where that counts at once."""
    if new.sample_id in before:  # known content under a corrected label: of a candidate it counts whose copy that is
        return None
    others = [look for look in candidates if _is_compared(new, look, look.claims == new.claims)][:MOST_COMPARED]
    return Comparison(new, tuple(others), bits)


def _compare(job: Comparison, opened: Opened = _OPENED) -> Compared:
    """Whether each of the others is the same, up to the first that is; none where the file itself cannot be opened."""
    found = Compared()
    try:
        mine = opened.of(job.new)
    except (MediaError, *ODD):
        return found
    for look in job.others:
        if _same(mine, job.new, look, job.bits, opened, found):
            break
    return found


def _is_compared(new: Look, look: Look, alike: bool) -> bool:
    if look.sample_id == new.sample_id or look.claims[0] != new.claims[0]:
        return False
    one_video = look.source_video and look.source_video == new.source_video  # tied to one side by that
    return not (one_video and (new.claims[0] == "image" or not alike))  # frames of one video are alike without being copies


def _resembled(new: Look, candidates: Sequence[Look], bits: int, opened: Opened, told: Compared) -> tuple[str, str]:
    """`duplicate_of` and `looks` of a new sample: what it is a copy of, and every group of lookalikes that it belongs to.

    `told`: what is known already of which candidates are the same; the others' frames are compared here, and added.
    """
    original, groups, compared, stands = "", set[str](), 0, False
    mine: Recording | None = None
    for look in candidates:
        alike = look.claims == new.claims and look.original != new.sample_id  # a corrected label brings known content in again
        gives = look.groups | {look.original} if alike and look.dropped else look.groups  # by its name `decide_sides` knows it, should it come back
        if not _is_compared(new, look, alike) or (gives <= groups and (original or look.dropped or not alike)):
            continue
        if compared == MOST_COMPARED:
            break
        compared += 1
        same = told.same.get(look.sample_id)
        if same is None:
            try:
                mine = mine or opened.of(new)
            except (MediaError, *ODD):
                break
            same = _same(mine, new, look, bits, opened, told)
        if same:
            groups |= gives
            original = original or (look.original if alike and not look.dropped else "")
            stands = stands or (alike and (look.dropped or look.stands))
    return original, " ".join(sorted(groups | ({new.sample_id} if stands else set())))


def _same(mine: Recording, new: Look, look: Look, bits: int, opened: Opened, found: Compared) -> bool:
    """Whether the other shows the same; added to what was `found`."""
    shared = shared_words(new.words, look.words, bits)
    ways = tuple(way for way, words in zip((False, True), shared, strict=True) if 2 * words >= max(shared))  # faces are half like their mirror images
    try:
        same = likeness(mine, opened.of(look), ways).same
        found.by_frames.add(look.sample_id)
    except (VigilError, *ODD):  # as where its media were not pulled
        same = _is_same_by_words(new, look, bits)
    found.same[look.sample_id] = same
    return same


def _is_same_by_words(new: Look, look: Look, bits: int) -> bool:
    """Whether the words alone, where frames cannot be compared, say that the other shows the same: a leak costs more than a clip."""
    return 2 * max(shared_words(new.words, look.words, bits)) >= min(len(look.words), len(new.words))
