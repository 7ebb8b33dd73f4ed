"""Whole files or none: atomic writes, JSON, YAML, tables of JSON lines, content hashes."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

CHUNK_BYTES = 1 << 20


def is_no_room(problem: BaseException) -> bool:
    """Whether a write failed because the disk is full, the file at its limit, or the system read-only: no fault of what was being read."""
    return isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def names_path_in(problem: OSError, folder: Path) -> bool:
    """Whether the path that a failure names, or one of its two, is `folder` or lies in it, as they are spelled."""
    names = (name for name in (problem.filename, problem.filename2) if isinstance(name, str | os.PathLike))
    return any(Path(os.path.abspath(name)).is_relative_to(os.path.abspath(folder)) for name in names)


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` and rename it over `path` on success.

    A crash, an exception or a kill leaves the old file (or none), never half a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, mode, encoding=encoding) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def move_folder(source: Path, target: Path) -> None:
    """Give a folder of files the name `target`, which is free; from another disk it is copied beside it first. A kill leaves all of it there, or none."""
    try:
        os.rename(source, target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        remove_torn(target)
        copied = target.with_name(f".{target.name}.moved.tmp")
        shutil.copytree(source, copied)
        for path in (*copied.iterdir(), copied):
            sync_folder(path)
        os.rename(copied, target)
        shutil.rmtree(source)


def remove_torn(path: Path) -> None:
    """Remove what a killed `atomic_file` or `move_folder` has left of what nobody is writing; the last part of `path` may be a pattern."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


class CsvLines:
    r"""Where a csv.writer puts its rows, which it ends in \r\n as it does by itself: they end in \n here.

    Asked for \n it would leave a carriage return without quotes (Python 3.11), and a name that holds one would break its row.
    """

    def __init__(self, handle: IO[str]) -> None:
        self._handle = handle

    def write(self, row: str) -> int:
        """Write one row."""
        return self._handle.write(row.removesuffix("\r\n") + "\n")


def private_folder(path: Path) -> Path:
    """Make a folder for its owner alone, and close one of before that everybody may enter; where a link leads stays as it is. Returns `path`."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.is_symlink():
        with suppress(OSError):  # another user's, or on a disk that knows no modes
            if path.stat().st_mode & 0o007:
                path.chmod(0o700)
    return path


def sync_folder(folder: Path) -> None:
    """Make names that were just written in `folder`, or the bytes of a file, survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as sorted, indented JSON; the same value gives the same bytes. NaN and infinity become null."""
    with atomic_file(path) as handle:
        json.dump(_finite(value), handle, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        handle.write("\n")
    return Path(path)


def read_json(path: Path) -> Any:
    """The JSON value stored at `path`. Raises OSError, or ValueError where its bytes are no JSON: cut short, no UTF-8, nested beyond reading."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as problem:
        raise ValueError(f"{path} is nested too deep") from problem


def parse_yaml(text: str | bytes) -> Any:
    """The value of YAML, by the C parser where there is one: dvc.lock has a dozen lines a batch and stage. Raises yaml.YAMLError."""
    import yaml

    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, none before the first. What a crash left of a line is no JSON, and is passed over."""
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def add_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row in one write; where a crash tore the last line, below it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as handle:
        handle.seek(max(handle.tell() - 1, 0))
        torn = handle.read() not in (b"", b"\n")
        handle.write((b"\n" if torn else b"") + json.dumps(row).encode() + b"\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_bytes(content: bytes) -> str:
    """The sha256 of `content`, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()
