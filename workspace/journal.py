"""The journal of a workspace: every decision that was taken, one JSON line each, chained by hashes.

`journal.jsonl` is the truth about batches, cycles, promotions and rollbacks; everything else (aliases, reports) can be made
again from it. Each line holds the hash of the line before, so an edited, removed or reordered line is found. Lines are
appended under an operating-system lock on the file itself and synced to disk. A line that a crash tore is never counted and
never silently lost: the next append moves it to `journal.torn`. What the lines mean: workspace/state.py.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workspace.errors import JournalError
from workspace.files import sync_folder

NO_HASH = "0" * 64
KINDS: dict[str, tuple[str, ...]] = {
    "batch_added": ("batch", "source", "samples", "quarantined"),
    "batch_state": ("batch", "state", "who", "why"),
    "cycle_opened": ("cycle", "judged", "base_model", "fingerprint", "scheduled", "week"),
    "cycle_closed": ("cycle", "outcome", "reason", "verdict_sha256"),
    "erased": ("sample_id", "batches", "tags", "who", "why"),
    "week_skipped": ("week", "why"),
    "clock_mended": ("week", "why"),
    "candidate": ("cycle", "model_sha256", "path"),
    "cycle_held": ("cycle", "reason"),
    "promotion": ("cycle", "model_sha256", "path", "previous_sha256", "who", "why"),
    "rollback": ("cycle", "model_sha256", "path", "who", "why"),
    "override": ("who", "why"),
    "upgraded": ("before", "after", "changes"),
}


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `fields` are the event's own values; `time` is ISO 8601 in UTC; `event["batch"]` is short for `event.fields["batch"]`."""

    seq: int
    time: str
    kind: str
    previous: str
    hash: str
    fields: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The field `name`, or `default`."""
        return self.fields.get(name, default)


@dataclass(frozen=True, slots=True)
class _Content:
    events: list[Event]
    whole_bytes: int  # up to the end of the last whole line
    torn: bytes  # what stands after it
    open_end: bool  # the last whole line lacks only its newline


class Journal:
    """The journal of the workspace at `root`. Cheap to make; nothing is kept between calls."""

    def __init__(self, root: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = Path(root) / "journal.jsonl"
        self.torn_path = Path(root) / "journal.torn"
        self._now = now

    def events(self) -> list[Event]:
        """All events in order; none when nothing was journalled yet. Raises JournalError naming the line when the chain is broken."""
        try:
            return _parse(self.path, self.path.read_bytes()).events
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise JournalError(f"Cannot read {self.path}.", why=str(problem), next_step="Check the disk and the file's owner.") from problem

    def verify(self) -> list[str]:
        """What a person should know about the file, one sentence each; empty when all is well. Raises JournalError when the chain is broken."""
        if not self.path.exists():
            return []
        content = _parse(self.path, self.path.read_bytes())
        notes = (
            [f"a line of {len(content.torn)} bytes was torn by a crash after line {len(content.events)}; the next entry moves it aside"] if content.torn else []
        )
        return notes + ([f"{self.torn_path.name} holds lines that earlier crashes tore"] if self.torn_path.exists() else [])

    def append(self, kind: str, **fields: Any) -> Event:
        """Add one event, on disk when this returns. Raises JournalError for an unknown kind, missing fields or a broken chain."""
        event = self.append_if(lambda _: (kind, fields))
        assert event is not None
        return event

    def append_if(self, decide: Callable[[Sequence[Event]], tuple[str, dict[str, Any]] | None]) -> Event | None:
        """Compare and set: `decide` sees every event while no other process can add one, and returns (kind, fields) to add or None.

        What `decide` raises passes through, and nothing is added then.
        """
        added = self.append_all(lambda events: [decision] if (decision := decide(events)) is not None else [])
        return added[0] if added else None

    def append_all(self, decide: Callable[[Sequence[Event]], Iterable[tuple[str, dict[str, Any]]]]) -> list[Event]:
        """`append_if` for several events, which are written at once: of a kill as many of the first are left as were written whole."""
        with self._locked() as descriptor:
            content = _parse(self.path, _read_all(descriptor))
            last, added = content.events[-1] if content.events else None, list[Event]()
            for kind, fields in decide(content.events):
                last = _make_event(last, self._now(), kind, fields)
                added.append(last)
            if added:
                self._repair(descriptor, content)
                self._write(descriptor, "".join(f"{_line(event)}\n" for event in added).encode())
            return added

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                try:
                    same = os.path.samestat(os.fstat(descriptor), os.stat(self.path))
                except FileNotFoundError:
                    same = False
                if same:  # git may have put another file in its place while we waited
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _repair(self, descriptor: int, content: _Content) -> None:
        """Move a torn line to journal.torn (first written there, then cut here) and end an unended last line."""
        if content.torn:
            note = {
                "moved": _stamp(self._now()),
                "after_line": len(content.events),
                "bytes": len(content.torn),
                "text": content.torn.decode("utf-8", "backslashreplace"),
            }
            aside = os.open(self.torn_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                _write_fully(aside, (json.dumps(note, ensure_ascii=False) + "\n").encode())
                os.fsync(aside)
            finally:
                os.close(aside)
            os.ftruncate(descriptor, content.whole_bytes)
        if content.open_end:
            os.lseek(descriptor, content.whole_bytes, os.SEEK_SET)
            _write_fully(descriptor, b"\n")

    def _write(self, descriptor: int, lines: bytes) -> None:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        try:
            _write_fully(descriptor, lines)
            os.fsync(descriptor)
        except OSError as problem:
            os.ftruncate(descriptor, end)
            raise JournalError(
                f"Cannot write to {self.path}. The entry was not made.", why=str(problem), next_step="Make room on the disk, then run the command again."
            ) from problem
        if end == 0:
            sync_folder(self.path.parent)


def _make_event(last: Event | None, now: datetime, kind: str, fields: dict[str, Any]) -> Event:
    missing = [name for name in KINDS.get(kind, ()) if name not in fields]
    if kind not in KINDS or missing:
        why = f"{kind!r} is not one of {', '.join(KINDS)}" if kind not in KINDS else f"{kind} lacks {', '.join(missing)}"
        raise JournalError("This cannot be journalled. Nothing was written.", why=why, next_step="See KINDS in workspace/journal.py.")
    try:
        plain = json.loads(json.dumps(fields, allow_nan=False))  # what a reader will get back
    except (TypeError, ValueError) as problem:
        raise JournalError(
            "This cannot be journalled. Nothing was written.", why=f"{kind}: {problem}", next_step="Journal text, whole numbers, lists."
        ) from problem
    seq, previous, stamp = (last.seq + 1, last.hash, _stamp(now)) if last else (1, NO_HASH, _stamp(now))
    return Event(seq, stamp, kind, previous, _hash(seq, stamp, kind, previous, plain), plain)


def _hash(seq: int, time: str, kind: str, previous: str, fields: dict[str, Any]) -> str:
    text = json.dumps([seq, time, kind, previous, fields], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _line(event: Event) -> str:
    line = {"seq": event.seq, "time": event.time, "kind": event.kind, "fields": event.fields, "previous": event.previous, "hash": event.hash}
    return json.dumps(line)  # ASCII, so that a torn line cannot end inside a character


def _parse(path: Path, raw: bytes) -> _Content:
    events: list[Event] = []
    whole = 0
    for number, piece in enumerate(raw.split(b"\n"), start=1):
        ended = whole + len(piece) < len(raw)
        if not piece and not ended:
            break
        event = _event(piece, events[-1] if events else None)
        if event is None and not ended:
            return _Content(events, whole, piece, False)
        if event is None:
            raise JournalError(
                f"The journal {path} is broken at line {number}. Nothing was changed.",
                why="the line was edited, removed, reordered or damaged: its hash does not follow",
                next_step=f"Compare with `git log -p -- {path.name}` in the workspace and restore the committed file.",
            )
        events.append(event)
        whole += len(piece) + ended
        if not ended:
            return _Content(events, whole, b"", True)
    return _Content(events, whole, b"", False)


def _event(piece: bytes, last: Event | None) -> Event | None:
    """The event of one line, or None when the line is not the next link of the chain."""
    try:
        line = json.loads(piece)
        event = Event(line["seq"], line["time"], line["kind"], line["previous"], line["hash"], line["fields"])
        expected = (last.seq + 1, last.hash) if last else (1, NO_HASH)
        fits = (event.seq, event.previous) == expected and event.hash == _hash(event.seq, event.time, event.kind, event.previous, event.fields)
        return event if fits and isinstance(event.fields, dict) and isinstance(event.kind, str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds")


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))


def _write_fully(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
