"""Find, follow and align the faces of one batch and cut them into clips: raw media in, a clip store and a report out.

The store and the report depend on the media and the settings alone, not on the number of processes, nor on how often the work was stopped: what was
cut is kept as it grows, and a batch that takes a day goes on where it was.
"""

import json
import math
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.rows import rows_of
from pipelines.stage import Progress, stage_main
from workspace.errors import VigilError
from workspace.files import sha256_bytes, write_json
from workspace.manifest import read_manifest, read_media
from workspace.pool import ordered_map
from workspace.settings import FaceSettings, Settings

if TYPE_CHECKING:
    from media.faces import Extraction

ABOUT = (
    "label",
    "use",
    "identity",
    "donor",
    "generator",
    "source",
    "source_video",
    "method",
    "compression",
    "case_id",
    "attributes",
)  # manifest columns that a clip keeps
UNFINISHED = Path(".vigil/unfinished/faces")  # of batches whose faces are being cut
KEEP_SECONDS = 20.0  # what a kill costs at most
CRASHED = "decoder crashed"
NEVER = "use is never"


@dataclass(frozen=True, slots=True)
class FaceJob:
    """One media file of a batch."""

    folder: Path
    sample_id: str
    shard: str
    offset: int
    nbytes: int
    settings: FaceSettings


def run(root: Path, settings: Settings, batch: str) -> dict[str, Any]:
    """Write data/faces/<batch>/ and return its report. Safe to repeat; raises DataError when the raw media are not there.

    The report has one entry a manifest row, quarantined ones too: why it gave no clip is never lost.
    """
    from media.shards import ShardWriter

    folder, out = root / "data" / "raw" / batch, root / "data" / "faces" / batch
    rows = rows_of(read_manifest(folder))
    usable = [row for row in rows if not row["quarantine"] and row["use"] != "never"]
    jobs = [FaceJob(folder, row["sample_id"], row["shard"], int(row["offset"]), int(row["bytes"]), settings.faces) for row in usable]
    shutil.rmtree(out, ignore_errors=True)
    with ShardWriter(out, unfinished=root / UNFINISHED / batch, made_of=_made_of(settings, usable)) as writer:
        begun, kept_at, fresh = len(writer.notes), time.monotonic(), list[tuple[str, dict[str, Any]]]()
        progress = Progress("faces", begun=begun)
        results = ordered_map(_extract, jobs[begun:], settings.faces.workers, _crashed)
        for number, (row, found) in enumerate(zip(usable[begun:], results, strict=True), start=begun + 1):
            fresh.append((row["sample_id"], _store(writer, row, found)))
            if time.monotonic() - kept_at > KEEP_SECONDS:
                writer.keep(*fresh)
                kept_at, fresh = time.monotonic(), []
            progress(number, len(usable))
        entries: dict[str, dict[str, Any]] = dict([*writer.notes, *fresh])
    samples = [_entry(row, entries.get(row["sample_id"])) for row in rows]
    report = _report(batch, samples)
    write_json(out / "report.json", report)
    return report


def _made_of(settings: Settings, rows: list[dict[str, Any]]) -> str:
    """A hash over all that the clips of these manifest rows depend on."""
    how = settings.faces.model_dump(mode="json", exclude={"workers"}) | {"stage": settings.stage_versions.faces}
    return sha256_bytes(json.dumps([how, rows], sort_keys=True, default=str).encode())


def _extract(job: FaceJob) -> "Extraction | str":
    """Runs in a process of its own. Returns the reason as text when the media are not what the manifest says, or break what reads them."""
    from media.faces import extract_clips

    try:
        return extract_clips(read_media(job.folder, job.shard, job.offset, job.nbytes, job.sample_id), job.settings)
    except VigilError as problem:
        return problem.why
    except Exception as problem:  # a file from anywhere may break a decoder in ways nobody listed; it ends no cycle
        return f"could not be read: {type(problem).__name__}: {problem}"[:300]


def _crashed(job: FaceJob) -> "Extraction | str":
    return CRASHED


def _store(writer: Any, row: dict[str, Any], found: "Extraction | str") -> dict[str, Any]:
    from media.faces import MEASURED

    if isinstance(found, str):
        return {"reason": found}
    numbers: Counter[int] = Counter()
    for clip in found.clips:
        clip_id = f"{row['sample_id'][:16]}-t{clip.track}-c{numbers[clip.track]}"
        numbers[clip.track] += 1
        about = {name: row[name] for name in ABOUT} | {"clip_id": clip_id, "sample_id": row["sample_id"], "batch": row["batch"], "kind": found.kind}
        measured = {name: getattr(clip, name) for name in MEASURED}
        measured["source_px"] = float(min(found.info.width, found.info.height)) if found.info else math.nan
        writer.add(about | measured | {"origin": "collected"}, clip.frames, clip.landmarks)
    info = found.info
    return {
        "kind": found.kind or row["kind"], "frames_seen": found.frames_seen, "frames_with_face": found.frames_with_face, "faces": found.faces,
        "clips": len(found.clips), "reason": found.reason, "decoded": info is not None and found.frames_seen > 0,
        "width": info.width if info else 0, "height": info.height if info else 0,
    }  # fmt: skip


def _entry(row: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    """A manifest row's line in the report: all that later stages need of the manifest, and what was found."""
    nothing = {"frames_seen": 0, "frames_with_face": 0, "faces": 0, "clips": 0, "decoded": False, "width": 0, "height": 0}
    kept = {name: row[name] for name in ("sample_id", "path", "kind", *ABOUT, "quarantine", "duplicate_of", "looks")}
    return kept | nothing | (found if found is not None else {"reason": row["quarantine"] or NEVER})


def _report(batch: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    looked_at = [sample for sample in samples if not sample["quarantine"] and sample["use"] != "never"]
    return {
        "batch": batch,
        "samples": samples,
        "looked_at": len(looked_at),
        "decoded": sum(sample["decoded"] for sample in looked_at),
        "with_face": sum(sample["clips"] > 0 for sample in looked_at),
        "clips": sum(sample["clips"] for sample in samples),
        "frames_seen": sum(sample["frames_seen"] for sample in samples),
        "frames_with_face": sum(sample["frames_with_face"] for sample in samples),
        "reasons": dict(sorted(Counter(sample["reason"] for sample in samples if sample["reason"]).items())),
    }


if __name__ == "__main__":
    stage_main("faces", run)
