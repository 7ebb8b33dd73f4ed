"""What waits for a person's label: media that came without one, and contents of which the sources say different things.

Both are read from the manifests; what a later source says against a recorded label is in no manifest, so ingest notes it in
`.vigil/for-review/conflicts.jsonl`, and strikes it there once that source says it no more. The service makes cases of them
(feedback/gathering.py). A person's label comes back as a row of its own, in the batch of the reviewed cases, and then stands
before the earlier one (pipelines/sides.py).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workspace.files import atomic_file
from workspace.journal import Journal
from workspace.manifest import LABELS, read_manifest
from workspace.state import BatchState, batch_states

if TYPE_CHECKING:
    import pandas as pd

CONFLICTS = Path(".vigil/for-review/conflicts.jsonl")
TWO_LABELS = "two labels for one content"
SUMMARY = "summary.json"  # of a batch: what came in, in numbers
NAMING_FILES = ("conflicts", "unmatched_videos")  # lists in an ingest's report, numbers in a summary
UNLABELLED, CONFLICT = "unlabelled", "conflict"
DROPPED, LABELLED = "the batch that it came in with was dropped", "a later source says what it is"
AGREED = "nobody contradicts its label any more"
NOT_ASKED = (DROPPED, LABELLED, AGREED)  # why nobody is asked any more


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sample that a person has to label. `said` are the statements that contradict each other, none where nothing was said."""

    sample_id: str
    batch: str
    source: str
    kind: str
    reason: str  # unlabelled | conflict
    said: tuple[str, ...]
    shard: str
    offset: int
    bytes: int


def is_unlabelled(row: Mapping[Any, Any]) -> bool:
    """Whether a manifest row, or an entry of a faces report, is media without a label that may be used once somebody gives one."""
    return not (row["label"] or row["quarantine"] or row["duplicate_of"]) and row["use"] != "never"


def is_disputed(row: Mapping[Any, Any]) -> bool:
    """Whether one ingest found this content under two labels: in quarantine, its media kept, until a person decides."""
    return str(row["quarantine"]).startswith(TWO_LABELS)


def erased_path(sample_id: str) -> str:
    """The path of a row whose media and names were erased."""
    return f"erased/{sample_id}"


def is_erased_path(path: str) -> bool:
    """Whether a path, or the source video that a row names, is what `erased_path` calls a file."""
    return re.fullmatch(r"erased/[0-9a-f]{64}", path) is not None


def is_erased(row: Mapping[Any, Any]) -> bool:
    """Whether the media and names of a manifest row, or of an entry of a faces report, were erased; a source may have a folder of that name."""
    return bool(row["path"] == erased_path(row["sample_id"]))


def without_names(reason: str) -> str:
    """A reason for quarantine as it may outlive the file: without the names of files, which may name a person."""
    return TWO_LABELS if reason.startswith(TWO_LABELS) else reason


def unnamed_reasons(numbers: Mapping[str, int]) -> dict[str, int]:
    """How many files were put aside for each reason, `without_names`."""
    reasons: dict[str, int] = {}
    for reason, number in numbers.items():
        reasons[without_names(reason)] = reasons.get(without_names(reason), 0) + number
    return reasons


def unnamed(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A batch's summary in numbers alone: an erasure takes names out of the manifest, and must not have to look for them here."""
    lists = {name: len(told) for name in NAMING_FILES if isinstance(told := summary.get(name, 0), list)}
    return {"conflicts": 0, **summary, "by_reason": unnamed_reasons(summary.get("by_reason", {})), **lists}


def waiting_samples(root: Path) -> Iterator[Waiting]:
    """Every sample of the batches that are not dropped that no person has labelled and somebody should; the oldest batch first."""
    states = batch_states(Journal(root).events())
    said = _still_said(root, states)
    tables = []
    answered: set[str] = set()
    labelled: set[str] = set()
    for name, batch in states.items():
        folder = root / "data" / "raw" / name
        if batch.state == "dropped" or not (folder / "manifest.parquet").is_file():
            continue
        table = read_manifest(folder)
        erased = table["path"] == table["sample_id"].map(erased_path)
        answered |= set(table.loc[(table["case_id"] != "") & ~erased, "sample_id"])  # an answer that was erased is none
        labelled |= set(table.loc[(table["label"] != "") & (table["quarantine"] == ""), "sample_id"])
        _add_recorded(said, name, table)
        unclear = (table["label"] == "") | (table["quarantine"] != "") | table["sample_id"].isin(set(said))
        tables.append((name, table[unclear & (table["shard"] != "") & (table["use"] != "never")]))
    contested = _contested(said)
    answered |= labelled - contested.keys()
    for name, table in tables:
        for row in table.to_dict("records"):
            if row["sample_id"] in answered or not (row["sample_id"] in contested or is_unlabelled(row) or is_disputed(row)):
                continue
            answered.add(row["sample_id"])
            statements = [*([row["quarantine"]] if is_disputed(row) else []), *contested.get(row["sample_id"], [])]
            place = (str(row["shard"]), int(row["offset"]), int(row["bytes"]))
            yield Waiting(row["sample_id"], name, row["source"], row["kind"], CONFLICT if statements else UNLABELLED, tuple(statements), *place)


def not_asked(root: Path, samples: Collection[str]) -> dict[str, str]:
    """Which of these samples, though a batch here holds them, no person should label any more, each with why: one of NOT_ASKED.

    Of what no batch here holds nothing is said: after a restore it may be on its way in again.
    """
    held: set[str] = set()
    used: set[str] = set()
    for name, batch in batch_states(Journal(root).events()).items():
        if (root / "data" / "raw" / name / "manifest.parquet").is_file():
            mine = set(samples) & set(read_manifest(root / "data" / "raw" / name)["sample_id"])
            held |= mine
            used |= mine if batch.state != "dropped" else set()
    waiting = {one.sample_id for one in waiting_samples(root)}
    return {sample_id: LABELLED if sample_id in used else DROPPED for sample_id in held - waiting}


def by_batch(label: str, batch: str) -> str:
    """The statement of a batch: what it recorded of a content."""
    return f"{label} in batch {batch}"


def by_source(label: str, source: str, name: str) -> str:
    """The statement of a source: what it says of one of its files."""
    return f"{label} in {source} ({name})"


def two_labels(said: Collection[str]) -> bool:
    """Whether statements about one content give it different labels."""
    return len({statement.split(" ", 1)[0] for statement in said}) > 1


def open_conflicts(root: Path) -> dict[str, list[str]]:
    """The statements about each content that still has two labels, by what the sources say and the batches that are not dropped hold."""
    states = batch_states(Journal(root).events())
    said = _still_said(root, states)
    for name, batch in states.items() if said else ():
        folder = root / "data" / "raw" / name
        if batch.state != "dropped" and (folder / "manifest.parquet").is_file():
            _add_recorded(said, name, read_manifest(folder))
    return _contested(said)


def _still_said(root: Path, states: Mapping[str, BatchState]) -> dict[str, list[str]]:
    """What was noted, but for the statements of dropped batches: these are nobody's word any more, as long as they stay dropped."""
    gone = {by_batch(label, name) for name, batch in states.items() if batch.state == "dropped" for label in LABELS}
    return {sample_id: [one for one in said if one not in gone] for sample_id, said in read_conflicts(root).items()}


def _add_recorded(said: Mapping[str, list[str]], batch: str, table: "pd.DataFrame") -> None:
    """Add what a batch recorded of these contents where no statement gives them that label: a batch that has the place of a dropped one was not noted."""
    recorded = table[(table["label"] != "") & (table["quarantine"] == "") & table["sample_id"].isin(set(said))]
    for sample_id, label in zip(recorded["sample_id"], recorded["label"], strict=True):
        if not any(statement.startswith(f"{label} ") for statement in said[sample_id]):
            said[sample_id].insert(0, by_batch(label, batch))


def _contested(said: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {sample_id: statements for sample_id, statements in said.items() if two_labels(statements)}


def read_conflicts(root: Path) -> dict[str, list[str]]:
    """The statements about each content whose recorded label a later source contradicts, as they were noted."""
    path = root / CONFLICTS
    if not path.is_file():
        return {}
    return {row["sample_id"]: row["said"] for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def note_conflicts(root: Path, said: Mapping[str, Sequence[str]]) -> None:
    """Note the statements about contents in place of those of before. The caller holds the workspace's lease."""
    if said != read_conflicts(root):
        _write(root, said)


def forget_conflicts(root: Path, samples: Collection[str]) -> None:
    """Take out what was said of these contents: it names files, and perhaps people."""
    note_conflicts(root, {sample_id: said for sample_id, said in read_conflicts(root).items() if sample_id not in samples})


def _write(root: Path, said: Mapping[str, Sequence[str]]) -> None:
    if not said:
        (root / CONFLICTS).unlink(missing_ok=True)
        return
    with atomic_file(root / CONFLICTS) as handle:
        handle.writelines(json.dumps({"sample_id": sample_id, "said": list(said[sample_id])}) + "\n" for sample_id in sorted(said))
