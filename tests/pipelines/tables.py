"""Batches as tables, without media: what `assemble` reads, made from a few words a sample."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from media.shards import CLIP_SCHEMA, MISSING, write_index
from pipelines.faces import ABOUT
from workspace.files import sha256_bytes, write_json

LANDMARKS = np.zeros((1, 468, 2), "<f2").tobytes()


def sample(name: str, label: str = "real", identity: str = "", clips: int = 1, **more: Any) -> dict[str, Any]:
    """One entry of a faces report. `name` becomes the sample id."""
    entry = dict.fromkeys(("path", *ABOUT, "quarantine", "duplicate_of", "looks"), "") | {"kind": "video", "use": "train", "label": label, "identity": identity}
    entry |= {"sample_id": sha256_bytes(name.encode()), "path": name, "clips": clips, "generator": "gan" if label == "fake" else ""} | more
    if entry["duplicate_of"]:
        entry["duplicate_of"] = sha256_bytes(entry["duplicate_of"].encode())
    entry["looks"] = " ".join(sha256_bytes(look.encode()) for look in entry["looks"].split())
    return entry


def write_batch(
    root: Path, batch: str, samples: Iterable[dict[str, Any]], forgers: tuple[str, ...] = ("self_blend",), donors: dict[str, str] | None = None
) -> None:
    """Write data/faces/<batch> and data/forged/<batch>: each clip of a real is forged once by each forger.

    `donors` names the sample (by path) whose first clip gave its face to the forgeries of another.
    """
    samples = list(samples)
    by_path = {entry["path"]: entry for entry in samples}
    clips, forged = [], []
    for entry in samples:
        for number in range(entry["clips"]):
            row = {field.name: MISSING[field.type] for field in CLIP_SCHEMA} | {name: entry[name] for name in ABOUT}
            clip_id = f"{entry['sample_id'][:16]}-t0-c{number}"
            row |= {"clip_id": clip_id, "sample_id": entry["sample_id"], "batch": batch, "kind": "video", "origin": "collected", "landmarks": LANDMARKS}
            clips.append(row | {"frames": 1, "size_px": 64, "sha256": sha256_bytes(clip_id.encode())})
            for forger in forgers if entry["label"] == "real" else ():
                donor = by_path.get((donors or {}).get(entry["path"], ""))
                about = {"donor": donor["identity"], "donor_clip": f"{donor['sample_id'][:16]}-t0-c0"} if donor else {}
                made = {"clip_id": f"{clip_id}+{forger}", "label": "fake", "generator": forger, "forger": forger, "origin": "forged", "source_clip": clip_id}
                forged.append(clips[-1] | made | about | {"sha256": sha256_bytes(f"{clip_id}+{forger}".encode())})
    for store, rows in (("faces", clips), ("forged", forged)):
        (root / "data" / store / batch).mkdir(parents=True, exist_ok=True)
        write_index(root / "data" / store / batch, rows)
    write_json(root / "data" / "faces" / batch / "report.json", {"batch": batch, "samples": samples})
