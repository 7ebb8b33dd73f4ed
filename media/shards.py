"""Face clips on disk: frames without loss in plain tar shards, everything else in one index.

A store is a folder with `clips-000.tar`, `clips-001.tar`, ... and `index.parquet`. Each tar member is the zstd-compressed
pixels of one clip (as differences), not compressed again, so that reading a clip is one seek and one read. Nothing in a store depends on the
clock or on the machine: the same clips added in the same order give the same bytes, which is what DVC compares.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workspace.errors import DataError, MediaError
from workspace.files import atomic_file

if TYPE_CHECKING:
    import pandas as pd

INDEX_NAME = "index.parquet"
MESH_POINTS = 468
TEXT, WHOLE, NUMBER, BINARY = pa.string(), pa.int64(), pa.float64(), pa.binary()
CLIP_SCHEMA = pa.schema(
    [
        *[(name, TEXT) for name in ("clip_id", "sample_id", "batch")],
        ("track", WHOLE), ("start_seconds", NUMBER), ("end_seconds", NUMBER), ("frames", WHOLE), ("size_px", WHOLE),
        ("shard", TEXT), ("offset", WHOLE), ("nbytes", WHOLE), ("sha256", TEXT), ("landmarks", BINARY),
        *[(name, NUMBER) for name in ("face_px", "source_px", "sharpness", "brightness", "skin_tone_degrees", "yaw_degrees", "score")],
        *[
            (name, TEXT)
            for name in (
                "kind", "label", "use", "identity", "donor", "generator", "source", "source_video", "method", "compression",
                "attributes", "case_id", "origin", "forger", "source_clip", "donor_clip",
            )
        ],
    ]
)  # fmt: skip
CLIP_COLUMNS: list[str] = CLIP_SCHEMA.names
MISSING: dict[pa.DataType, Any] = {TEXT: "", WHOLE: 0, NUMBER: float("nan"), BINARY: b""}
ROWS_A_GROUP = 8192  # 80 MB of landmarks: who wants those of a few clips reads them group by group
ZSTD_LEVEL = 3
AGAIN = "`dvc pull` (it is fetched), or `vigil retrain --force` (what its sets draw on is made again from the raw media)"
_KEPT = b"vigil"
_SHARD_NAME = re.compile(r"^clips-\d{3,}\.tar$")


class ShardWriter:
    """Collects clips into a store; use as a context manager.

    Shards appear under their names, and the index is written, only when the block ends without an exception; an earlier store
    in the same folder is then replaced. A shard is closed once it holds `shard_bytes`.

    With a folder `unfinished`, on the same disk best, the shards grow there, and what was added before the last `keep` outlives a kill: a writer with the
    same `made_of` (a word for all that the clips depend on) goes on behind it, and ends with the same bytes. `notes` are what was kept with it so far.
    """

    def __init__(self, folder: Path, shard_bytes: int = 256 << 20, unfinished: Path | None = None, made_of: str = "") -> None:
        self.folder = Path(folder)
        self.shard_bytes = shard_bytes
        self.rows: list[dict[str, Any]] = []
        self.notes: list[Any] = []
        self._growing, self._made_of = Path(unfinished) if unfinished else self.folder, made_of
        self._resumable = unfinished is not None
        self._known: set[str] = set()
        self._tar: tarfile.TarFile | None = None
        self._handle: IO[bytes] | None = None
        self._unfinished: list[Path] = []
        self._kept_files = self._kept_rows = 0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._resumable:
            self._growing.mkdir(parents=True, exist_ok=True)
            self._go_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._close_tar()
        if kind is not None:
            for path in () if self._resumable else self._unfinished:
                path.unlink(missing_ok=True)
            return
        for path in self.folder.iterdir():
            if _SHARD_NAME.match(path.name):
                path.unlink()
        index = write_index(self._growing, self.rows)  # first of all: of many clips it takes minutes
        for path in self._unfinished:
            shutil.move(path, self.folder / path.name.removesuffix(".part"))
        if self._resumable:
            shutil.move(index, self.folder / INDEX_NAME)
            shutil.rmtree(self._growing)

    def keep(self, *notes: Any) -> None:
        """Make what was added so far outlive a kill, and with it `notes`, plain values. Only with `unfinished`."""
        sizes = [path.stat().st_size for path in self._unfinished]
        if self._tar is not None:
            self._sync()
            sizes[-1] = self._tar.offset
        word = {"made_of": self._made_of, "sizes": sizes, "notes": notes}
        table = pa.Table.from_pylist(self.rows[self._kept_rows :], schema=CLIP_SCHEMA.with_metadata({_KEPT: json.dumps(word)}))
        with atomic_file(self._growing / f"kept-{self._kept_files:06d}.parquet", "wb") as handle:
            pq.write_table(table, handle, compression="zstd")
        self.notes += notes
        self._kept_files, self._kept_rows = self._kept_files + 1, len(self.rows)

    def _go_on(self) -> None:
        """Take up what an ended writer kept, all of it or nothing; whatever lies beside it goes."""
        kept = sorted(self._growing.glob("kept-*.parquet"))
        try:
            tables = [pq.read_table(path) for path in kept]
            words = [json.loads(table.schema.metadata[_KEPT]) for table in tables]
            sizes = words[-1]["sizes"] if words else []
            parts = [self._part(number) for number in range(len(sizes))]
            whole = all(part.stat().st_size >= size for part, size in zip(parts, sizes, strict=True))  # what lies behind the last one's is cut off
            fits = whole and all(word["made_of"] == self._made_of for word in words)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            fits = False
        if not fits:
            shutil.rmtree(self._growing)
            self._growing.mkdir()
            return
        for path in self._growing.iterdir():
            if path not in kept and path not in parts:
                path.unlink()
        self.rows = [row for table in tables for row in table.to_pylist()]
        self.notes = [note for word in words for note in word["notes"]]
        self._known, self._unfinished = {row["clip_id"] for row in self.rows}, parts
        self._kept_files, self._kept_rows = len(kept), len(self.rows)
        if parts:
            self._open_tar(sizes[-1])

    def _part(self, number: int) -> Path:
        return self._growing / f"clips-{number:03d}.tar.part"

    def add(self, row: Mapping[str, Any], frames: np.ndarray, landmarks: np.ndarray) -> dict[str, Any]:
        """Store one clip; returns its complete index row.

        frames [T, H, W, 3] uint8 RGB with H = W, T at least 1; landmarks [T, 468, 2] in crop coordinates 0..1, kept as float16.
        `row` holds any of CLIP_COLUMNS; what it lacks becomes '', 0 or NaN. Raises DataError for a wrong shape, an unknown
        column, or a clip_id that is empty or was added before.
        """
        clip_id = str(row.get("clip_id", ""))
        _check_clip(clip_id, row, frames, landmarks, self._known)
        self._known.add(clip_id)
        pixels = np.ascontiguousarray(frames).tobytes()
        packed = bytes(_codec().compress(_differences(frames).tobytes()))
        shard, offset = self._append(f"{clip_id}.zst", packed)
        full = {field.name: row.get(field.name, MISSING[field.type]) for field in CLIP_SCHEMA}
        full |= {
            "frames": frames.shape[0], "size_px": frames.shape[1], "shard": shard, "offset": offset, "nbytes": len(packed),
            "sha256": hashlib.sha256(pixels).hexdigest(), "landmarks": np.ascontiguousarray(landmarks, dtype="<f2").tobytes(),
        }  # fmt: skip
        self.rows.append(full)
        return full

    def _append(self, name: str, content: bytes) -> tuple[str, int]:
        if self._tar is not None and self._tar.offset >= self.shard_bytes:
            self._close_tar()
        if self._tar is None:
            self._unfinished.append(self._part(len(self._unfinished)))
            self._open_tar(0)
        assert self._tar is not None
        member = tarfile.TarInfo(name)  # mtime, owner and mode are constants
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
        padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return self._unfinished[-1].name.removesuffix(".part"), self._tar.offset - padded

    def _open_tar(self, offset: int) -> None:
        """Write on behind `offset` in the last shard."""
        self._handle = open(self._unfinished[-1], "r+b" if offset else "wb")  # noqa: SIM115 (closed by _close_tar)
        self._handle.truncate(offset)
        self._handle.seek(offset)
        self._tar = tarfile.open(fileobj=self._handle, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def _close_tar(self) -> None:
        if self._tar is not None and self._handle is not None:
            self._tar.close()
            if self._resumable:  # the next `keep` counts on it
                self._sync()
            self._handle.close()
            self._tar = self._handle = None

    def _sync(self) -> None:
        """Have the open shard on the disk as far as it is written."""
        assert self._handle is not None
        self._handle.flush()
        os.fsync(self._handle.fileno())


def write_index(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write `index.parquet` sorted by clip_id; the same rows give the same bytes."""
    return write_sorted(folder, sorted(rows, key=lambda row: str(row["clip_id"])))


def write_sorted(folder: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """As `write_index`, of rows that come in the order of their clip_id: so many as a group has are held at once."""
    path, coming = Path(folder) / INDEX_NAME, iter(rows)
    group = list(islice(coming, ROWS_A_GROUP))
    with atomic_file(path, "wb") as handle, pq.ParquetWriter(handle, CLIP_SCHEMA, compression="zstd") as writer:
        writer.write_table(pa.Table.from_pylist(group, schema=CLIP_SCHEMA))  # an empty index has a group, too
        while group := list(islice(coming, ROWS_A_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=CLIP_SCHEMA))
    return path


def read_index(folder: Path, label: str = "") -> "pd.DataFrame":
    """The clips of a store, one row each, columns CLIP_COLUMNS; with a `label` those alone that have it, and the others' landmarks in no memory.

    Raises DataError where there is no readable index.
    """
    path = Path(folder) / INDEX_NAME
    try:
        if not label:
            return pq.read_table(path).to_pandas()
        return pa.concat_tables(_groups(path, CLIP_COLUMNS, "label", [label])).to_pandas()
    except (OSError, pa.ArrowInvalid) as problem:
        raise DataError(
            f"Cannot read the clip index {path}.", why=str(problem), next_step="Run `vigil retrain` to make it again, or fetch it with `dvc pull`."
        ) from problem


def landmarks_of(folder: Path, clip_ids: Sequence[str]) -> dict[str, bytes]:
    """The landmarks of these clips as a row holds them, by clip id. Raises OSError or ArrowInvalid where there is no readable index."""
    parts = _groups(Path(folder) / INDEX_NAME, ["clip_id", "landmarks"], "clip_id", clip_ids)
    return {clip_id: points for part in parts for clip_id, points in zip(*(part[name].to_pylist() for name in part.column_names), strict=True)}


def _groups(path: Path, columns: Sequence[str], where: str, values: Sequence[str]) -> Iterator[pa.Table]:
    """The rows with one of these values, group by group of the file: all landmarks of a large batch at once are gigabytes."""
    index, wanted = pq.ParquetFile(path, buffer_size=1 << 20), pa.array(values, pa.string())
    yield index.schema_arrow.empty_table().select(columns)
    for group in range(index.num_row_groups):
        table = index.read_row_group(group, columns=list(columns))
        yield table.filter(pc.is_in(table[where], wanted))


def read_clip(root: Path, row: Any, *, verify: bool = False) -> np.ndarray:
    """The frames [T, H, W, 3] uint8 RGB of a row that names its `store` (a folder below the workspace root). See read_clip_at."""
    return read_clip_at(Path(root) / row["store"], row, verify=verify)


def read_clip_at(folder: Path, row: Any, *, verify: bool = False) -> np.ndarray:
    """The frames [T, H, W, 3] uint8 RGB of one row of the store in `folder`: one seek, one read.

    `verify` compares the pixels with the row's sha256. Raises MediaError, which names the clip, for a missing or damaged shard.
    """
    clip = _summed(_unpacked(Path(folder) / row["shard"], row, int(row["frames"])))
    if verify and (found := hashlib.sha256(clip.tobytes()).hexdigest()) != row["sha256"]:
        raise _damaged(row, Path(folder) / row["shard"], f"sha256 {found[:12]}..., the index says {str(row['sha256'])[:12]}...")
    return clip


def read_frame(root: Path, row: Any, number: int) -> np.ndarray:
    """Frame `number` [1, H, W, 3] uint8 RGB of a row that names its `store`; nothing behind it is unpacked. Raises as read_clip_at does."""
    if not 0 <= number < int(row["frames"]):
        raise IndexError(f"frame {number} of a clip of {row['frames']}")
    differences = _unpacked(Path(root) / row["store"] / row["shard"], row, number + 1)
    frame = _along_rows(differences[0])
    for later in differences[1:]:
        frame += later
    return frame[None]


def _unpacked(path: Path, row: Any, frames: int) -> np.ndarray:
    """The first `frames` of what `_differences` made of a clip, [frames, H, W, 3] uint8; read-only."""
    size = int(row["size_px"])
    wanted = frames * size * size * 3
    try:
        with open(path, "rb") as handle:
            handle.seek(int(row["offset"]))
            packed = handle.read(int(row["nbytes"]))
        if frames == int(row["frames"]):
            stored = _codec().decompress(packed, decompressed_size=wanted, asbytes=True)
        else:
            with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
                stored = stream.read(wanted)
    except FileNotFoundError as problem:
        raise _unread(row, path, "that file is not there", f"Run {AGAIN}.") from problem
    except (OSError, pa.ArrowInvalid, pa.ArrowException) as problem:
        raise _damaged(row, path, str(problem)) from problem
    if len(stored) != wanted:
        raise _damaged(row, path, f"{len(stored)} bytes of pixels where {wanted} were stored")
    return np.frombuffer(stored, np.uint8).reshape(frames, size, size, 3)


def read_landmarks(row: Any) -> np.ndarray:
    """The mesh of a row, float32 [T, 468, 2], crop coordinates 0..1 (x, y)."""
    return np.frombuffer(row["landmarks"], "<f2").astype(np.float32).reshape(-1, MESH_POINTS, 2)


def _differences(frames: np.ndarray) -> np.ndarray:
    """Each frame less the one before, the first less its neighbours at the left, modulo 256: packs 1.7 times as small, without loss."""
    differences = np.array(frames, np.uint8, order="C")
    differences[1:] -= frames[:-1]
    differences[0, :, 1:] -= frames[0, :, :-1]
    return differences


def _summed(differences: np.ndarray) -> np.ndarray:
    """The frames that `_differences` was made from; a new array."""
    frames = differences.copy()
    frames[0] = _along_rows(differences[0])
    for at in range(1, len(frames)):  # 1 ms for 30 frames of 224 px; accumulate over the first axis takes 60
        frames[at] += frames[at - 1]
    return frames


def _along_rows(first: np.ndarray) -> np.ndarray:
    """Running sums along the rows of [H, W, 3] uint8, modulo 256; by sums over areas, a fifth of what accumulate takes."""
    areas = cv2.integral(first).astype(np.uint8)
    return areas[1:, 1:] - areas[:-1, 1:]


def _codec() -> pa.Codec:
    return pa.Codec("zstd", compression_level=ZSTD_LEVEL)


def _damaged(row: Any, path: Path, why: str) -> MediaError:
    return _unread(row, path, f"truncated or corrupt shard: {why}", f"Delete that folder, then run {AGAIN}.")


def _unread(row: Any, path: Path, why: str, next_step: str) -> MediaError:
    return MediaError(f"Clip {row['clip_id']} cannot be read from {path.parent.name}/{path.name}.", why=why, next_step=next_step)


def _check_clip(clip_id: str, row: Mapping[str, Any], frames: np.ndarray, landmarks: np.ndarray, known: set[str]) -> None:
    unknown = sorted(set(row) - set(CLIP_COLUMNS))
    problem = ""
    if not clip_id or clip_id in known:
        problem = "its clip_id was stored before" if clip_id else "it has no clip_id"
    elif unknown:
        problem = f"unknown columns {unknown}"
    elif frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] != frames.shape[2] or not frames.size:
        problem = f"frames are {frames.dtype} {list(frames.shape)}, not uint8 [T, S, S, 3]"
    elif landmarks.shape != (frames.shape[0], MESH_POINTS, 2):
        problem = f"landmarks are {list(landmarks.shape)}, not [{frames.shape[0]}, {MESH_POINTS}, 2]"
    if problem:
        raise DataError(f"Clip {clip_id or '?'} cannot be stored.", why=problem, next_step="Report this: a stage made a clip that no shard holds.")
