"""What the workspace already holds, by content and by looks. Read from the manifests of all batches; their media stay closed
unless two files look alike and have to be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from media.decode import Source
from pipelines.fingerprint import hash_distances, same_picture
from pipelines.layouts import Found
from pipelines.rows import rows_of
from workspace.errors import VigilError, WorkspaceError
from workspace.for_review import is_disputed, is_unlabelled
from workspace.journal import Journal
from workspace.manifest import read_manifest, read_media
from workspace.state import batch_states

MOST_COMPARED = 8  # candidates of one file whose frames are compared, the nearest first
# Only files that claim to be the same thing can be duplicates: a fake often has its target's middle frame, and
# FaceForensics++ holds one video in three compressions on purpose.
ALIKE = ("kind", "label", "generator", "method", "compression", "donor")


@dataclass(frozen=True, slots=True)
class Look:
    """How one known sample looks, and where its media are."""

    sample_id: str
    original: str  # the first of its near duplicates
    phash: int
    media: Path | tuple[Path, str, int, int]

    def source(self) -> Source:
        """The media. Raises VigilError where the batch's media are not on this machine."""
        return self.media if isinstance(self.media, Path) else read_media(*self.media)


@dataclass(slots=True)
class Known:
    """Labels and uses by sample id, and looks in groups of files that claim to be the same kind of thing."""

    labels: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # (batch, label, use)
    unlabelled: set[str] = field(default_factory=set)
    disputed: set[str] = field(default_factory=set)  # two labels in one ingest
    reviewed: set[str] = field(default_factory=set)  # a person has decided
    contradicted: dict[str, list[str]] = field(default_factory=dict)  # what was said of known content, where it differs
    looks: dict[tuple[str, ...], list[Look]] = field(default_factory=dict)

    def add(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make the rows of a batch known."""
        for row in rows:
            self.labels[row["sample_id"]] = (row["batch"], row["label"], row["use"])
            for group, belongs in ((self.unlabelled, is_unlabelled(row)), (self.disputed, is_disputed(row)), (self.reviewed, bool(row["case_id"]))):
                (group.add if belongs else group.discard)(row["sample_id"])
            if row["phash"] and not row["quarantine"]:
                place = (folder, row["shard"], int(row["offset"]), int(row["bytes"]))
                self._look(row, Look(row["sample_id"], row["duplicate_of"] or row["sample_id"], int(row["phash"], 16), place))

    def holds(self, sample_id: str, found: Found, by_people: bool) -> bool:
        """Whether this file brings nothing new: its content is known, and so is its label.

        A person's label (`by_people`: handed over by the service) is new where it is not the recorded one; a source's only where none was recorded.
        """
        if sample_id not in self.labels:
            return False
        _, label, use = self.labels[sample_id]
        if found.problem or not found.label or use == "never":
            return True
        if by_people:
            return found.label == label and sample_id not in self.disputed
        return sample_id not in self.unlabelled

    def compare(self, sample_id: str, found: Found, source: str, conflicts: list[str]) -> None:
        """Note where known content comes with other words than before; what was recorded stands."""
        batch, label, use = self.labels[sample_id]
        if found.problem:
            return
        if found.label and found.label != label:
            conflicts.append(f"{found.name} is {found.label} here, {label or 'unlabelled'} in batch {batch}")
            if label and use != "never" and sample_id not in self.reviewed:
                self.contradicted[sample_id] = [f"{label} in batch {batch}", f"{found.label} in {source} ({found.name})"]
        if found.use and found.use != use:
            conflicts.append(f"{found.name} has use {found.use} here, {use} in batch {batch}")

    def mark_near_duplicates(self, rows: Sequence[tuple[dict[str, Any], Path]], bits: int) -> None:
        """Set `duplicate_of` of new rows that show what a known sample, or an earlier new one, shows."""
        fresh: dict[tuple[str, ...], list[Look]] = {}
        for row, path in rows:
            if not row["phash"]:
                continue
            group = tuple(row[name] for name in ALIKE)
            looks = self.looks.get(group, []) + fresh.setdefault(group, [])
            row["duplicate_of"] = _original(row["phash"], path, looks, bits)
            fresh[group].append(Look(row["sample_id"], row["duplicate_of"] or row["sample_id"], int(row["phash"], 16), path))

    def _look(self, row: Mapping[str, Any], look: Look) -> None:
        self.looks.setdefault(tuple(row[name] for name in ALIKE), []).append(look)


def read_known(root: Path) -> Known:
    """Everything in the batches of the journal. Raises WorkspaceError when a batch's manifest is not on this machine:

    without it, all its files would come in a second time.
    """
    known = Known()
    missing = []
    for batch in batch_states(Journal(root).events()):
        folder = root / "data" / "raw" / batch
        if (folder / "manifest.parquet").is_file():
            known.add(folder, rows_of(read_manifest(folder)))
        else:
            missing.append(batch)
    if missing:
        raise WorkspaceError(
            f"Batches of this workspace are not on this machine: {', '.join(missing[:5])}. Nothing was ingested.",
            why="without their manifests nobody can tell what is new", next_step="Run `dvc pull` in the workspace, then ingest again.",
        )  # fmt: skip
    return known


def _original(phash: str, path: Path, looks: Sequence[Look], bits: int) -> str:
    if not looks:
        return ""
    distances = hash_distances(phash, np.array([look.phash for look in looks], np.uint64))
    near = np.nonzero(distances <= bits)[0]
    for index in near[np.argsort(distances[near], kind="stable")][:MOST_COMPARED]:
        try:
            alike = same_picture(path, looks[index].source())
        except VigilError:  # its media were not pulled: the hashes alone decide, a leak costs more than a clip
            alike = True
        if alike:
            return looks[index].original
    return ""
