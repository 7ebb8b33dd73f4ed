"""The manifest of a batch (one row a media file) and the tar shards that hold the media themselves.

A batch is a folder `data/raw/<batch>/` with `manifest.parquet` and `media-000.tar`, `media-001.tar`, ... The tars are
plain and uncompressed with every time stamp 0: the same files give the same bytes, `tar xf` opens them, and one seek and
one read fetch a file. Ten shards move through DVC ten times faster than ten thousand files.
"""

import hashlib
import re
import tarfile
import unicodedata
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from workspace.errors import DataError
from workspace.files import CHUNK_BYTES, atomic_file, is_no_room, sha256_bytes

if TYPE_CHECKING:
    import pandas as pd

# fmt: off
MANIFEST_COLUMNS = (
    "sample_id", "batch", "path", "kind", "label", "use", "identity", "donor", "generator", "source", "source_video", "method", "compression",
    "licence", "consent", "case_id", "bytes", "shard", "offset", "quarantine", "phash", "duplicate_of", "looks", "attributes",
)
# fmt: on
WHOLE_NUMBERS = ("bytes", "offset")
ADDED = ("consent", "looks", "attributes")  # later than the first manifests, which are read as if these were empty
LABELS = ("real", "fake")
DOMAINS = {"kind": ("video", "image"), "label": (*LABELS, ""), "use": ("train", "evaluate", "never")}
SHAPES = {
    "sample_id": r"[0-9a-f]{64}",
    "phash": r"([0-9a-f]{16}( [0-9a-f]{16})*)?",
    "looks": r"([0-9a-f]{64}( [0-9a-f]{64})*)?",
    "duplicate_of": r"([0-9a-f]{64})?",
    "shard": r"(media-\d{3,}\.tar)?",
    "batch": r".+",
}
BLOCK_BYTES = 512
RECORD_BYTES = 20 * BLOCK_BYTES


class ContentChanged(DataError):
    """A file has another content than it was hashed with, as where it is still being copied. `sample_id` is the hash."""

    def __init__(self, sample_id: str, what: str, why: str = "", next_step: str = "") -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.sample_id = sample_id


def composed(text: str) -> str:
    """The form in which names of people and of videos are kept and compared (NFC): an accent may be typed as one character or as two."""
    return unicodedata.normalize("NFC", text)


def manifests(root: Path) -> list[Path]:
    """The manifests of the batches that lie here, by the batches' names. A folder whose name begins with a dot is none: it is not whole yet."""
    return sorted((root / "data" / "raw").glob("[!.]*/manifest.parquet"))


def read_manifest(batch_dir: Path) -> "pd.DataFrame":
    """The rows of a batch, sorted by sample_id and path; text columns are never missing ('' means unknown).

    Raises DataError when the file is missing, unreadable or has other columns.
    """
    import pyarrow.parquet

    path = Path(batch_dir) / "manifest.parquet"
    try:
        frame = pyarrow.parquet.read_table(path).to_pandas()
        frame = frame.assign(**{name: "" for name in ADDED if name not in frame.columns})
    except (OSError, ValueError) as problem:
        raise DataError(
            f"Cannot read the manifest {path}.",
            why=str(problem),
            next_step="Where the workspace has committed the batch, move its folder away and run `vigil doctor --pull`.",
        ) from problem
    _refuse(_column_mistakes(frame), f"Cannot use the manifest {path}.")
    return frame[list(MANIFEST_COLUMNS)]


def write_manifest(df: "pd.DataFrame", batch_dir: Path) -> Path:
    """Write the rows of a batch to `manifest.parquet`, sorted; the same rows in any order give the same bytes.

    Missing text becomes ''. Raises DataError, listing every mistake, for other columns, values outside the domains (a
    label is never a number), malformed hashes, or two rows with one path. Nothing is written then.
    """
    import pyarrow
    import pyarrow.parquet

    _refuse(_column_mistakes(df), "Cannot write the manifest. Nothing was written.")
    clean = df[list(MANIFEST_COLUMNS)].copy()
    for name in MANIFEST_COLUMNS:
        if name in WHOLE_NUMBERS:
            clean[name] = clean[name].fillna(0)
        else:
            clean[name] = clean[name].astype(object).where(clean[name].notna(), "")
    _refuse(_value_mistakes(clean), "Cannot write the manifest. Nothing was written.")
    clean = clean.sort_values(["sample_id", "path"], kind="stable")
    schema = pyarrow.schema([(name, pyarrow.int64() if name in WHOLE_NUMBERS else pyarrow.string()) for name in MANIFEST_COLUMNS])
    table = pyarrow.table({name: clean[name].tolist() for name in MANIFEST_COLUMNS}, schema=schema)
    path = Path(batch_dir) / "manifest.parquet"
    with atomic_file(path, "wb") as handle:
        pyarrow.parquet.write_table(table, handle, compression="zstd")
    return path


def write_media(
    batch_dir: Path, files: Iterable[tuple[str, Path]], shard_bytes: int, progress: Callable[[int, int, str], None] | None = None
) -> dict[str, tuple[str, int, int]]:
    """Pack (sample_id, file) pairs into tar shards of about `shard_bytes`; returns {sample_id: (shard, offset, bytes)}.

    Files are packed once each, in order of sample_id, so the same files give the same bytes. A larger file gets a shard
    of its own. Of shards that an earlier, interrupted attempt left, those that hold what they should stay as they are, the others are replaced.
    Raises DataError when a file cannot be read or its content is no longer what its sample_id says, OSError when there is no room for the shard.
    """
    batch_dir = Path(batch_dir)
    todo = deque(sorted({sample_id: Path(path) for sample_id, path in files}.items()))
    total, done = len(todo), 0
    places: dict[str, tuple[str, int, int]] = {}
    written: list[str] = []
    while todo:
        shard = f"media-{len(written):03d}.tar"
        members: list[tuple[str, Path, int]] = []
        end = 0
        while todo:
            size = _size(todo[0][1])
            if members and end + BLOCK_BYTES + size > shard_bytes:
                break
            members.append((*todo.popleft(), size))
            end += BLOCK_BYTES + size + -size % BLOCK_BYTES
        end += 2 * BLOCK_BYTES
        if (left := _left_whole(batch_dir / shard, members, end + -end % RECORD_BYTES)) is None:
            with atomic_file(batch_dir / shard, "wb") as handle:
                left = []
                for sample_id, path, _ in members:
                    left.append(_add_member(handle, sample_id, path))
                    if progress:
                        progress(done + len(left), total, "packing")
                handle.write(b"\0" * (2 * BLOCK_BYTES))
                handle.write(b"\0" * (-handle.tell() % RECORD_BYTES))
        places |= {sample_id: (shard, *place) for (sample_id, _, _), place in zip(members, left, strict=True)}
        done += len(members)
        written.append(shard)
    for stale in {path.name for path in batch_dir.glob("media-*.tar")} - set(written):
        (batch_dir / stale).unlink()
    return places


def _left_whole(shard: Path, members: Sequence[tuple[str, Path, int]], nbytes: int) -> list[tuple[int, int]] | None:
    """Offset and length of each member of a shard that an earlier attempt left, None where it is not exactly the shard of these (sample_id, file, bytes),
    `nbytes` long.

    A shard gets its name once it is whole, and each content was compared with its sample_id as it was written: the headers say which ones it holds.
    """
    try:
        if shard.stat().st_size != nbytes:
            return None
        with tarfile.open(shard) as tar:
            found = [(member.name, member.size, member.offset_data) for member in tar]
    except (OSError, tarfile.TarError):
        return None
    wanted = [(_member_name(sample_id, path), size) for sample_id, path, size in members]
    return [(offset, size) for _, size, offset in found] if [(name, size) for name, size, _ in found] == wanted else None


def repack_shard(batch_dir: Path, shard: str, keep: Collection[str]) -> tuple[str, dict[str, int]]:
    """Write a shard anew with only the samples in `keep`, under a name that is free; returns the name ('' when nothing is kept) and {sample_id: offset}.

    The old shard stays until the caller's manifest no longer names it. Raises DataError for a damaged shard, OSError when there is no room for the new one.
    """
    batch_dir = Path(batch_dir)
    if not keep:
        return "", {}
    taken = {path.name for path in batch_dir.glob("media-*.tar")}
    new = next(name for number in range(len(taken) + 1000) if (name := f"media-{number:03d}.tar") not in taken)
    offsets: dict[str, int] = {}
    try:
        with tarfile.open(batch_dir / shard) as old, atomic_file(batch_dir / new, "wb") as handle:
            for member in old:
                sample_id = member.name.split(".")[0]
                content = old.extractfile(member)
                if sample_id not in keep or content is None:
                    continue
                clean = tarfile.TarInfo(member.name)
                clean.size = member.size
                handle.write(clean.tobuf(tarfile.GNU_FORMAT))
                offsets[sample_id] = handle.tell()
                while chunk := content.read(CHUNK_BYTES):
                    handle.write(chunk)
                handle.write(b"\0" * (-member.size % BLOCK_BYTES))
            if missing := set(keep) - set(offsets):
                raise ValueError(f"it lacks sample {min(missing)[:12]}")
            handle.write(b"\0" * (2 * BLOCK_BYTES))
            handle.write(b"\0" * (-handle.tell() % RECORD_BYTES))
    except (OSError, ValueError, tarfile.TarError) as problem:
        if is_no_room(problem):
            raise
        raise DataError(
            f"The shard {batch_dir / shard} cannot be packed anew. Nothing was changed.", why=str(problem), next_step="Run `dvc checkout` (or `dvc pull`)."
        ) from problem
    return new, offsets


def read_media(batch_dir: Path, shard: str, offset: int, nbytes: int, sample_id: str = "") -> bytes:
    """The content of one media file. With `sample_id`, the content is checked against it.

    Raises DataError for a missing shard, a range outside it, or content that has changed.
    """
    if not shard or not re.fullmatch(SHAPES["shard"], shard):
        raise DataError(f"No media are kept for this row (shard {shard!r}).", why="quarantined files are not stored", next_step="Use rows with a shard only.")
    path = Path(batch_dir) / shard
    try:
        with open(path, "rb") as handle:
            handle.seek(offset)
            content = handle.read(nbytes)
    except (OSError, ValueError) as problem:
        raise DataError(f"Cannot read media from {path}.", why=str(problem), next_step="Run `dvc checkout` (or `dvc pull`) in the workspace.") from problem
    if len(content) != nbytes or (sample_id and sha256_bytes(content) != sample_id):
        why = f"{len(content)} of {nbytes} bytes at {offset}" if len(content) != nbytes else f"the content is not that of sample {sample_id[:12]}"
        raise DataError(f"The shard {path} is damaged.", why=why, next_step="Delete it and run `dvc checkout` (or `dvc pull`) in the workspace.")
    return content


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _unreadable(path: Path, problem: OSError) -> DataError:
    return DataError(f"Cannot read {path}.", why=str(problem), next_step="Ingest again once the file is back.")


def _member_name(sample_id: str, path: Path) -> str:
    return sample_id + (path.suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", path.suffix) else "")


def _add_member(handle: IO[bytes], sample_id: str, path: Path) -> tuple[int, int]:
    """Append one tar member with all but name and size fixed; returns the offset and length of its content."""
    member = tarfile.TarInfo(_member_name(sample_id, path))  # mtime, uid and gid are 0, mode is 0644
    digest, copied = hashlib.sha256(), 0
    member.size = _size(path)
    handle.write(member.tobuf(tarfile.GNU_FORMAT))  # GNU: no 8 GiB limit
    offset = handle.tell()
    for chunk in _chunks(path):
        handle.write(chunk)
        digest.update(chunk)
        copied += len(chunk)
    if copied != member.size or digest.hexdigest() != sample_id:
        raise ContentChanged(
            sample_id,
            f"{path} changed while it was taken in.",
            why="its content is no longer what was hashed",
            next_step="Ingest again once the file is complete.",
        )
    handle.write(b"\0" * (-copied % BLOCK_BYTES))
    return offset, copied


def _column_mistakes(frame: "pd.DataFrame") -> list[str]:
    missing = [name for name in MANIFEST_COLUMNS if name not in frame.columns]
    unknown = [str(name) for name in frame.columns if name not in MANIFEST_COLUMNS]
    return [f"column {name} is missing" for name in missing] + [f"column {name} is unknown" for name in unknown]


def _value_mistakes(frame: "pd.DataFrame") -> list[str]:
    mistakes: list[str] = []

    def note(name: str, wrong: list[Any], rule: str) -> None:
        if wrong:
            mistakes.append(f"{name}: {len(wrong)} values are not {rule}, e.g. {wrong[0]!r}")

    for name in MANIFEST_COLUMNS:
        values = frame[name].tolist()
        if name in WHOLE_NUMBERS:
            note(name, [v for v in values if isinstance(v, bool | str) or v != int(v) or v < 0], "whole numbers from 0")
            continue
        texts = [v for v in values if isinstance(v, str)]
        note(name, [v for v in values if not isinstance(v, str)], "text")
        if name in DOMAINS:
            note(name, [v for v in texts if v not in DOMAINS[name]], " | ".join(repr(word) for word in DOMAINS[name]))
        if name in SHAPES:
            note(name, [v for v in texts if not re.fullmatch(SHAPES[name], v)], f"of the form {SHAPES[name]}")
    repeated = frame["path"][frame["path"].duplicated()].tolist()
    note("path", repeated, "unique")
    return mistakes


def _refuse(mistakes: list[str], what: str) -> None:
    if mistakes:
        raise DataError(what, why="\n        ".join(mistakes), next_step="The columns and their values: workspace/manifest.py.")
