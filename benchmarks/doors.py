"""Ten thousand small files: taken in, a hundred more, pushed, pulled from fresh; and beside it plain `dvc add` of the same folder.

    python benchmarks/doors.py [--files 10000] [--more 100] [--remote folder|s3] [--work DIR]

Both in one run on one machine; each step is a whole process. Appends a line to benchmarks/doors.jsonl: wall and CPU seconds, how many
objects and bytes the remote holds after each push, how many files the fresh clone has. The pictures are small JPEGs (2-4 KB) of
distinct content, and the fresh clone's media are compared with the originals. `s3` is a server of its own in memory: moto.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import count  # noqa: E402
from workspace.files import add_row  # noqa: E402

RESULTS = HERE / "doors.jsonl"
VIGIL = [sys.executable, "-m", "vigil"]
DVC = [sys.executable, "-m", "dvc"]
QUIET = {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
PX = 96


def pictures(folder: Path, first: int, count: int) -> None:
    """JPEGs number `first` and on: soft blobs and grain, no two alike; half of them called fakes."""
    import cv2
    import numpy as np

    for number in range(first, first + count):
        rng = np.random.default_rng([20261121, number])
        blobs = cv2.resize(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8), (PX, PX), interpolation=cv2.INTER_CUBIC)
        grain = np.clip(blobs + rng.normal(0, 6, blobs.shape), 0, 255).astype(np.uint8)
        path = folder / ("real" if number % 2 else "fake/swap") / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), grain, [cv2.IMWRITE_JPEG_QUALITY, 80])


def step(words: list[object], cwd: Path) -> dict[str, float]:
    """Wall and CPU seconds of one process, children included."""
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, env={**os.environ, **QUIET})
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    wall, now = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": round(wall, 2), "cpu": round(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, 2)}


@contextmanager
def store(kind: str, scratch: Path) -> Iterator[tuple[Any, str]]:
    """(url of a remote by name, endpoint)."""
    if kind == "folder":
        yield (lambda name: str(scratch / "store" / name)), ""
        return
    from tests.feedback.buckets import s3_server

    with s3_server("past") as (endpoint, _):
        yield (lambda name: f"s3://past/{name}"), endpoint


def held(url: str, endpoint: str) -> dict[str, int]:
    """How many objects a remote holds, and their bytes."""
    if url.startswith("s3://"):
        from workspace.objectstore import list_prefix

        sizes = [item.size for item in list_prefix(url + "/", endpoint)]
    else:
        sizes = [path.stat().st_size for path in Path(url).rglob("*") if path.is_file()]
    return {"objects": len(sizes), "bytes": sum(sizes)}


def by_vigil(scratch: Path, media: Path, files: int, more: int, url: str, endpoint: str) -> dict[str, Any]:
    """Through the front door: ingest, ingest again, ingest a hundred more, push, pull."""
    from tests.system.world import change_settings
    from workspace.repository import commit as commit_workspace

    root, clone = scratch / "w", scratch / "w-clone"
    step([*VIGIL, "init", root, "--profile", "demo"], scratch)
    change_settings(root, {"remote": {"url": url, "s3_endpoint_url": endpoint}})
    ingest, push = [*VIGIL, "ingest", media, "--name", "small", "-w", root], [*VIGIL, "doctor", "--push", "-w", root]
    row: dict[str, Any] = {"ingest": step(ingest, scratch), "push": step(push, scratch), "held": held(url, endpoint), "nothing new": step(ingest, scratch)}
    pictures(media, files, more)
    row |= {"ingest more": step(ingest, scratch), "push more": step(push, scratch), "held then": held(url, endpoint)}
    commit_workspace(root, "what came in")
    subprocess.run(["git", "clone", "-q", root, clone], check=True)
    row["pull"] = step([*VIGIL, "doctor", "--pull", "-w", clone], scratch)
    row["verify remote"] = step([*VIGIL, "doctor", "--remote", "-w", clone], scratch)
    from workspace.manifest import read_manifest, read_media

    found = {}
    for manifest in (clone / "data" / "raw").glob("*/manifest.parquet"):
        for entry in read_manifest(manifest.parent).to_dict("records"):
            content = read_media(manifest.parent, entry["shard"], entry["offset"], entry["bytes"], entry["sample_id"])
            found[entry["path"]] = hashlib.sha256(content).hexdigest()
    row |= {"came back": len(found), "whole": found == digests(media)}
    row["files in the workspace"] = sum(path.is_file() for path in (root / "data").rglob("*"))
    return row


def by_dvc(scratch: Path, media: Path, files: int, more: int, url: str, endpoint: str) -> dict[str, Any]:
    """Plain DVC: the folder as it is."""
    root, clone = scratch / "d", scratch / "d-clone"
    root.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=root, check=True)
    step([*DVC, "init", "-q"], root)
    step([*DVC, "remote", "add", "-d", "store", url], root)
    if endpoint:
        step([*DVC, "remote", "modify", "store", "endpointurl", endpoint], root)
    shutil.copytree(media, root / "media")
    for path in (root / "media").rglob("*.jpg"):
        if int(path.stem) >= files:
            path.unlink()
    add, push = [*DVC, "add", "-q", "media"], [*DVC, "push", "-q"]
    row: dict[str, Any] = {"add": step(add, root), "push": step(push, root), "held": held(url, endpoint), "nothing new": step(add, root)}
    shutil.copytree(media, root / "media", dirs_exist_ok=True)
    row |= {"add more": step(add, root), "push more": step(push, root), "held then": held(url, endpoint)}
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    commit(root)
    subprocess.run(["git", "clone", "-q", root, clone], check=True)
    row["pull"] = step([*DVC, "pull", "-q"], clone)
    found = digests(clone / "media")
    return row | {"came back": len(found), "whole": found == digests(media)}


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every picture by its path."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.jpg")}


def commit(root: Path) -> None:
    """Commit what is staged."""
    subprocess.run(["git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-q", "-m", "files"], cwd=root, check=True)


def main() -> None:
    """One run of each, in a folder that goes away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=count, default=10_000)
    parser.add_argument("--more", type=count, default=100)
    parser.add_argument("--remote", choices=["folder", "s3"], default="folder")
    parser.add_argument("--work", type=Path, default=None, help="where the folder is made; else the system's temporary one")
    asked = parser.parse_args()
    row: dict[str, Any] = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "files": asked.files, "more": asked.more, "remote": asked.remote}
    row["cores"] = os.cpu_count()
    with tempfile.TemporaryDirectory(prefix="vigil-doors-", dir=asked.work) as folder:
        scratch, media = Path(folder), Path(folder) / "media"
        pictures(media, 0, asked.files)
        row["media bytes"] = sum(path.stat().st_size for path in media.rglob("*.jpg"))
        with store(asked.remote, scratch) as (url, endpoint):
            row["vigil"] = by_vigil(scratch, media, asked.files, asked.more, url("vigil"), endpoint)
            row["dvc"] = by_dvc(scratch, media, asked.files, asked.more, url("dvc"), endpoint)
    add_row(RESULTS, row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
