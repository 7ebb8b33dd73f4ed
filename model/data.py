"""Clips for training: rows of a set and their pixels, read from the shards and kept in memory up to a bound.

Also the order of an epoch, and the hash of the pixels in that order, by which a model's training data can be proven.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.metrics import as_fake
from workspace.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# what training looks at, and what it assumes where a table lacks the column
COLUMNS: dict[str, Any] = {
    "sha256": "", "kind": "", "role": "", "new": False, "generator": "", "forger": "", "origin": "collected", "source_clip": "", "donor_clip": "",
}  # fmt: skip
READ_BY = ("clip_id", "store", "shard", "offset", "nbytes", "frames", "size_px", "sha256")  # what media/shards.py reads of a row
CACHE_BYTES = 2 << 30
FRAMES_KEPT = 64  # of those read by themselves: a real one and the fake that is forged from it come in one batch
together = 1  # processes that read clips for one training and share that bound (model/ahead.py)


class ClipSource(Protocol):
    """Anything training can read clips from."""

    rows: "pd.DataFrame"

    def __len__(self) -> int: ...

    def clip(self, position: int) -> NDArray[np.uint8]:
        """Pixels [T, H, W, 3] uint8 RGB of the row at `position`."""
        ...

    def length(self, position: int) -> int:
        """How many frames that clip has."""
        ...

    def frame(self, position: int, number: int) -> NDArray[np.uint8]:
        """Pixels [1, H, W, 3] uint8 RGB of one of its frames."""
        ...

    def landmarks(self, position: int) -> NDArray[np.float32] | None:
        """The mesh [T, 468, 2] in 0..1 of the row at `position`, None where it is not known."""
        ...


class ClipDataset:
    """The clips of a set's rows (data/sets/*.parquet), pixels read when first asked for.

    `size_px` refuses clips of another size at once. Decoded clips are kept until `cache_bytes` are full; what came first
    stays, since an epoch visits all clips alike. Of a clip that would not be kept a single frame is read by itself, and the last of these are kept a while.
    `landmarks` holds the meshes by clip id, as an index stores them.
    Raises DataError for rows without a label or with the wrong size.
    """

    def __init__(
        self,
        root: Path,
        rows: "pd.DataFrame",
        size_px: int | None = None,
        cache_bytes: int = CACHE_BYTES,
        landmarks: Mapping[str, bytes] | None = None,
    ) -> None:
        self.root, self.rows = Path(root), with_columns(rows)
        if size_px is not None and len(rows) and set(rows["size_px"]) != {size_px}:
            raise DataError(
                "The clips do not fit the model.",
                why=f"sizes {sorted(set(rows['size_px']))} px, the model takes {size_px} px",
                next_step="Set faces.size_px in params.yaml to the size of the clips, or run `vigil retrain`, which cuts the faces anew. Beside a champion of"
                " another size it refuses to: for another one begin a workspace of its own (`vigil init`) and ingest there.",
            )
        self._places: dict[str, NDArray[Any]] = {name: self.rows[name].to_numpy() for name in READ_BY if name in self.rows.columns}
        self._ids = self.rows["clip_id"].to_numpy(dtype=object)
        self._most = cache_bytes
        self._landmarks = landmarks or {}
        self._keep_nothing()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_cache", "_kept", "_single")}  # another process reads for itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._keep_nothing()

    def _keep_nothing(self) -> None:
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._kept = 0
        self._single = lru_cache(FRAMES_KEPT)(partial(_frame, self.root, self._places))  # not of `self`: the clips would outlive their last user

    def __len__(self) -> int:
        return len(self.rows)

    def clip(self, position: int) -> NDArray[np.uint8]:
        """Pixels [T, H, W, 3] uint8 RGB. Raises MediaError where the shard cannot be read."""
        if position in self._cache:
            return self._cache[position]
        from media.shards import read_clip

        pixels = read_clip(self.root, _place(self._places, position))
        if self._fits(pixels.nbytes):
            self._cache[position] = pixels
            self._kept += pixels.nbytes
        return pixels

    def length(self, position: int) -> int:
        """How many frames the clip has."""
        return int(self._places["frames"][position])

    def frame(self, position: int, number: int) -> NDArray[np.uint8]:
        """Pixels [1, H, W, 3] uint8 RGB of frame `number`, not to be written to. Raises MediaError where the shard cannot be read."""
        frames, size = self.length(position), int(self._places["size_px"][position])
        if position in self._cache or self._fits(frames * size * size * 3):
            return self.clip(position)[number][None]
        return self._single(position, number)

    def landmarks(self, position: int) -> NDArray[np.float32] | None:
        """The mesh [T, 468, 2] in 0..1, None where it is not known."""
        from media.shards import read_landmarks

        stored = self._landmarks.get(str(self._ids[position]))
        return read_landmarks({"landmarks": stored}) if stored else None

    def _fits(self, nbytes: int) -> bool:
        """Whether so much more may be kept."""
        return self._kept + nbytes <= self._most // together


def _place(places: Mapping[str, NDArray[Any]], position: int) -> dict[str, Any]:
    """What the shards need to know of a row; picking it out of the table would take longer than reading it."""
    return {name: column[position] for name, column in places.items()}


def _frame(root: Path, places: Mapping[str, NDArray[Any]], position: int, number: int) -> NDArray[np.uint8]:
    from media.shards import read_frame

    return read_frame(root, _place(places, position), number)


class MemoryClips:
    """Clips that are in memory already, with their rows (clip_id and label at least)."""

    def __init__(self, rows: "pd.DataFrame", clips: Sequence[NDArray[np.uint8]], landmarks: Sequence[NDArray[np.float32]] = ()) -> None:
        if len(rows) != len(clips):
            raise DataError("Rows and clips do not fit.", why=f"{len(rows)} rows, {len(clips)} clips", next_step="Pass one row for each clip.")
        self.rows, self._clips, self._landmarks = with_columns(rows), list(clips), list(landmarks)

    def __len__(self) -> int:
        return len(self.rows)

    def clip(self, position: int) -> NDArray[np.uint8]:
        """Pixels [T, H, W, 3] uint8 RGB."""
        return self._clips[position]

    def length(self, position: int) -> int:
        """How many frames the clip has."""
        return len(self._clips[position])

    def frame(self, position: int, number: int) -> NDArray[np.uint8]:
        """Pixels [1, H, W, 3] uint8 RGB of frame `number`."""
        return self._clips[position][number][None]

    def landmarks(self, position: int) -> NDArray[np.float32] | None:
        """The mesh [T, 468, 2] in 0..1, None where it is not known."""
        return self._landmarks[position] if self._landmarks else None


def with_columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """`rows` numbered from 0, with every column that training looks at. Raises DataError for a missing label."""
    as_fake(rows["label"].to_numpy(dtype=object))
    return rows.assign(**{name: value for name, value in COLUMNS.items() if name not in rows.columns}).reset_index(drop=True)


def labels_of(rows: "pd.DataFrame") -> NDArray[np.bool_]:
    """True for fake, one a row."""
    return as_fake(rows["label"].to_numpy(dtype=object))


def epoch_order(rows: "pd.DataFrame", seed: int, epoch: int) -> list[int]:
    """Positions of `rows` in training order of an epoch: a seeded shuffle of the clip ids, whatever order the table has."""
    by_name = np.argsort(rows["clip_id"].to_numpy(dtype=str), kind="stable")
    return [int(position) for position in by_name[np.random.default_rng([seed, epoch]).permutation(len(rows))]]


def epoch_hash(root: Path, rows: "pd.DataFrame", seed: int) -> str:
    """sha256 over the sha256 of each clip's pixels, recomputed from the shards, in training order of epoch 0."""
    from media.shards import read_clip

    digest = hashlib.sha256()
    for position in epoch_order(rows, seed, 0):
        pixels = read_clip(Path(root), rows.iloc[position])
        digest.update(hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest().encode() + b"\n")
    return digest.hexdigest()


def mixed_seed(*parts: int) -> int:
    """One seed (63 bits) from several whole numbers: what step 7 of seed 3 draws does not depend on what step 6 drew."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1


def to_tensor(clip: NDArray[np.uint8]) -> Tensor:
    """uint8 [T, H, W, 3] -> float32 [T, 3, H, W] in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2))).float().div_(255)


def stack(clips: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Clips [T_i, 3, H, W] -> (one tensor [B, T, 3, H, W], lengths [B] or None where all are equally long).

    A shorter clip is filled up with its last frame; the network does not look at the filling.
    """
    lengths = [clip.shape[0] for clip in clips]
    longest = max(lengths)
    if min(lengths) == longest:
        return torch.stack(list(clips)), None
    filled = [torch.cat([clip, clip[-1:].expand(longest - clip.shape[0], -1, -1, -1)]) for clip in clips]
    return torch.stack(filled), torch.tensor(lengths)
