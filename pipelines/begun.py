"""What an ingest had found out when it was stopped, so that the next one goes on: a large set takes hours to read, to compare and to pack.

`.vigil/unfinished/ingest/<source>` holds `found.jsonl`, a line a finding, and `batch`, with the media that were packed. It is only a cache: deleting it
costs time, nothing else, and a finding counts for exactly the file of which it was found.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from workspace.files import sha256_bytes

UNFINISHED = Path(".vigil/unfinished/ingest")
FOUND_BY = ("fingerprint.py", "lookalike.py", "known.py")  # the code that finds out: findings of other code do not count


class Begun:
    """The findings of one source that lies in one place. What is put outlives a kill of this process."""

    def __init__(self, root: Path, source: str, place: str) -> None:
        self.folder = root / UNFINISHED / source
        self.batch = self.folder / "batch"
        self._head = json.dumps([place, *(sha256_bytes((Path(__file__).parent / name).read_bytes()) for name in FOUND_BY)])
        self._found: dict[str, Any] = {}
        self._handle: IO[str] | None = None
        with suppress(OSError, UnicodeDecodeError), open(self.folder / "found.jsonl", encoding="utf-8") as lines:
            if next(lines, "").strip() == self._head:
                for line in lines:
                    with suppress(ValueError, TypeError):  # the end of one that a kill cut short
                        key, value = json.loads(line)
                        self._found[key] = value

    def get(self, *key: str | int) -> Any:
        """What was put under this key, None where nothing was."""
        return self._found.get(_named(key))

    def put(self, value: Any, *key: str | int) -> None:
        """Keep plain values; None takes back what was kept. Raises OSError where the disk has no room."""
        name = _named(key)
        if self._found.get(name) == value:
            return
        if self._handle is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._handle = open(self.folder / "found.jsonl", "a" if self._found else "w", encoding="utf-8")  # noqa: SIM115 (closed by `close`)
            self._handle.write("\n" if self._found else self._head + "\n")
        self._found[name] = value
        self._handle.write(json.dumps([name, value]) + "\n")
        self._handle.flush()

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def forget(self) -> None:
        """Nothing is left to go on from."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # another source's
            self.folder.parent.rmdir()


@contextmanager
def begun(root: Path, source: str, place: str) -> Iterator[Begun]:
    """What an earlier ingest of the source had begun, gone once the block ends well."""
    found = Begun(root, source, place)
    try:
        yield found
    finally:
        found.close()
    found.forget()


def _named(key: tuple[str | int, ...]) -> str:
    return sha256_bytes(json.dumps(key).encode())[:32]
