"""What an ingest found, for people to check: every file is new, known, a copy, or quarantined with a reason."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.layouts.card import beside
from pipelines.layouts.found import TABLE_NAME
from workspace.errors import DataError, printable

MOST_NAMED = 5


class NotNow(DataError):
    """A source did not answer, or changed while it was read. Nothing of it was taken in; the next run tries again."""


@dataclass(slots=True)
class SourceCounts:
    """The tally of one source."""

    found: int = 0
    hidden: int = 0
    unlisted: int = 0  # photos and videos of a folder that its table does not name, or that are at no place of its data set
    known: int = 0
    added: int = 0
    quarantined: int = 0
    near_duplicates: int = 0
    lookalikes: int = 0
    judged_by_words: int = 0  # files whose comparison with others ended two processes
    by_reason: dict[str, int] = field(default_factory=dict)
    by_label: dict[str, int] = field(default_factory=dict)
    by_generator: dict[str, int] = field(default_factory=dict)
    by_use: dict[str, int] = field(default_factory=dict)
    identities: int = 0
    unknown_identity: int = 0
    conflicts: list[str] = field(default_factory=list)
    reworded: dict[str, dict[str, int]] = field(default_factory=dict)  # by batch: files of which the source says another identity, use, ... by now
    renamed: dict[str, int] = field(default_factory=dict)  # by batch: known files that show somebody else by the words of this source
    dropped: dict[str, int] = field(default_factory=dict)  # by batch: known files that stay out with it
    erased: int = 0  # known files that were erased on request
    unmatched_videos: list[str] = field(default_factory=list)  # source videos that new fakes name and nothing else does
    card: dict[str, Any] = field(default_factory=dict)  # of a published data set: title, terms, counts {name: {found, published}}

    def count(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Set what follows from the new manifest rows."""
        rows = list(rows)
        good = [row for row in rows if not row["quarantine"]]
        self.added, self.quarantined = len(good), len(rows) - len(good)
        self.near_duplicates = sum(bool(row["duplicate_of"]) for row in good)
        self.lookalikes = sum(bool(row["looks"]) and not row["duplicate_of"] for row in good)
        self.by_reason = _tally(row["quarantine"] for row in rows if row["quarantine"])
        self.by_label = _tally(row["label"] or "unknown" for row in good)
        self.by_generator = _tally(row["generator"] or "unnamed" for row in good if row["label"] == "fake")
        self.by_use = _tally(row["use"] for row in good)
        self.identities = len({row["identity"] for row in good if row["identity"]})
        self.unknown_identity = sum(not row["identity"] for row in good)

    def as_dict(self) -> dict[str, Any]:
        """The tally as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class IngestReport:
    """What happened to every source. `batches` are the new ones, with those that a killed run had `left` whole; `refused` says why a source could not be
    taken in.
    """

    batches: list[str] = field(default_factory=list)
    sources: dict[str, SourceCounts] = field(default_factory=dict)
    refused: dict[str, DataError] = field(default_factory=dict)
    copies: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def problems(self) -> dict[str, str]:
        """Why a source could not be taken in, in words."""
        return {name: str(problem) for name, problem in self.refused.items()}

    @property
    def added(self) -> int:
        """Samples that are new, quarantined ones not counted."""
        return sum(counts.added for counts in self.sources.values())

    @property
    def known(self) -> int:
        """Files whose content is in a batch already."""
        return sum(counts.known for counts in self.sources.values())

    @property
    def quarantined(self) -> int:
        """New files that cannot be used."""
        return sum(counts.quarantined for counts in self.sources.values())

    @property
    def by_reason(self) -> dict[str, int]:
        """Quarantined files by reason, over all sources."""
        return dict(sum((Counter(counts.by_reason) for counts in self.sources.values()), Counter()))

    @property
    def conflicts(self) -> list[str]:
        """Content of which two words were said, now and before or in one source; the first stands."""
        return [text for counts in self.sources.values() for text in counts.conflicts]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "batches": self.batches, "added": self.added, "known": self.known, "quarantined": self.quarantined, "copies": self.copies,
            "problems": self.problems, "sources": {name: counts.as_dict() for name, counts in self.sources.items()},
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The report for people, a few lines a source."""
        lines: list[str] = []
        for name, counts in self.sources.items():
            lines.append(f"{name}: {counts.found} files found, {counts.added} new, {counts.known} known, {counts.quarantined} quarantined")
            if counts.card:
                lines.append(f"  {beside(counts.card['title'], counts.card['counts'])}; terms: {counts.card['terms']}")
            if counts.added:
                people = f"{counts.identities} people" + (f", {counts.unknown_identity} files of unknown people" if counts.unknown_identity else "")
                lines.append(f"  label: {_words(counts.by_label)}; use: {_words(counts.by_use)}; {people}")
            if counts.by_generator:
                lines.append(f"  fakes by generator: {_words(counts.by_generator)}")
            if counts.near_duplicates:
                lines.append(f"  {counts.near_duplicates} look like a file that is known; they are kept, and not trained on")
            if counts.lookalikes:
                alike = "show what a known file shows that has another label, generator or compression, or was dropped"
                lines.append(f"  {counts.lookalikes} {alike}; they are used on its side of the split alone")
            if counts.judged_by_words:
                ended = "could not be compared with files that may be the same: it ended two processes, as too little memory does"
                lines.append(f"  {counts.judged_by_words} {ended}; what the words of both have in common decided alone")
            lines += [f"  quarantined: {number} x {reason}" for reason, number in sorted(counts.by_reason.items())]
            for batch, words in sorted(counts.reworded.items()):
                unlike = ", ".join(f"{number} x {word}" for word, number in words.items())
                lines.append(f"  conflict: what batch {batch} recorded stands, though its source says other words now: {unlike}")
                lines.append(f"  to take in what is said now: vigil batches drop {batch} --again, then ingest again")
            for batch, number in sorted(counts.renamed.items()):
                lines.append(
                    f"  conflict: {number} known files show other people by this source than batch {batch} recorded, which stands: the same person may"
                )
                lines.append("  come to stand on both sides of the split, here under one name and there under another")
                lines.append(f"  to take in what this source says: vigil batches drop {batch} --again, then ingest this source again before that one")
            for batch, number in sorted(counts.dropped.items()):
                lines.append(f"  {number} of batch {batch}, which is dropped, stay out; vigil batches drop {batch} --again lets them in")
            if counts.erased:
                lines.append(f"  {counts.erased} were erased on request and stay out; delete them at the source")
            if counts.unmatched_videos:
                found = f"{len(counts.unmatched_videos)}, as {counts.unmatched_videos[0]!r}"
                lines.append(f"  fakes of a source video that no other file is or names: {found}; if that is misspelt, nothing ties them to who is in it")
            lines += [f"  conflict: {text}" for text in counts.conflicts[:MOST_NAMED]]
            if len(counts.conflicts) > MOST_NAMED:
                lines.append(f"  and {len(counts.conflicts) - MOST_NAMED} more conflicts")
            if counts.hidden:
                lines.append(f"  {counts.hidden} hidden files passed over")
            if counts.unlisted and counts.card:
                lines.append(f"  {counts.unlisted} photos and videos are at no place of {counts.card['title']}; passed over")
                lines.append("  to take them in: sort them into a folder of their own, or name another --layout")
            elif counts.unlisted:
                lines.append(f"  {counts.unlisted} photos and videos of the folder are not named in its {TABLE_NAME}; passed over")
        if self.copies:
            lines.append(f"{self.copies} files have the content of another new one")
        lines = [printable(line) for line in lines]  # generators and files are called as whoever made the folders calls them
        for name, reason in self.problems.items():
            lines.append("\n".join(map(printable, f"{name}: nothing taken in. {reason}".split("\n"))))
        lines += [f"new batch: {name}{', which a run that was killed had left whole' if name in self.left else ''}" for name in self.batches]
        return lines or ["no sources"]


def _tally(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _words(tally: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in tally.items())
