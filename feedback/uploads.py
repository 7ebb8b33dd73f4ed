"""Uploads, streamed: one multipart file goes to a file of ours, hashed on the way, and stops being read at the size cap.

The client's file name is only ever echoed in the answer; on disk the upload has a random name, later its content hash.
The form is parsed here and not by the framework because the framework stores the whole body before it can be refused.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from feedback.problems import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

UPLOADS = Path(".vigil/uploads")
FORM_OVERHEAD_BYTES = 64 << 10  # boundaries, part headers and small fields around the file
DRAIN_BYTES = 64 << 20  # read and thrown away after a refusal, so that an ordinary client sees the 413 and not a reset connection
STALE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Upload:
    """A received file: where it lies, what it holds, and what the client called it (for the echo, never for a path)."""

    path: Path
    sha256: str
    size_bytes: int
    file_name: str


@asynccontextmanager
async def received(request: Request, root: Path, max_bytes: int) -> AsyncIterator[Upload]:
    """The one file of a multipart request, under `.vigil/uploads` until the block ends.

    Raises Problem: 413 above `max_bytes` (at once when Content-Length says so, else when the byte arrives), 415 for
    another content type, 400 for a broken body, 422 when there is not exactly one part called `file`.
    """
    body = _Body(request)
    try:
        boundary = _boundary(request)
        if _declared_bytes(request) > max_bytes + FORM_OVERHEAD_BYTES:
            raise _too_large(max_bytes)
    except Problem:
        await body.drain()
        raise
    folder = root / UPLOADS
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, suffix=".part")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            form = _FilePart(boundary, handle, max_bytes)
            await _read(body, form, max_bytes)
        yield Upload(path, form.digest.hexdigest(), form.size_bytes, clean_file_name(form.file_name))
    finally:
        path.unlink(missing_ok=True)


def clean_file_name(name: str) -> str:
    """A client's file name fit for an answer: its last part, printable, at most 255 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:255]


def remove_stale_uploads(root: Path, older_than_seconds: float = STALE_SECONDS) -> int:
    """Delete what a killed server left under `.vigil/uploads`; returns how many files."""
    removed = 0
    for path in (root / UPLOADS).glob("*.part"):
        if time.time() - path.stat().st_mtime > older_than_seconds:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


class _FilePart:
    """Parser callbacks: writes the part called `file`, counts the others, keeps nothing else."""

    def __init__(self, boundary: bytes, handle: IO[bytes], max_bytes: int) -> None:
        self.handle, self.max_bytes = handle, max_bytes
        self.digest = hashlib.sha256()
        self.size_bytes = 0
        self.file_name = ""
        self.files = 0
        self.others: list[str] = []
        self.ended = False
        self._inside = False
        self._header, self._value, self._disposition = b"", b"", b""
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }
        self.parser = MultipartParser(boundary, callbacks)

    def _part_begin(self) -> None:
        self._inside, self._disposition = False, b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == "file" and b"filename" in options:
            self.files += 1
            self._inside = self.files == 1
            self.file_name = options[b"filename"].decode("utf-8", "replace")
        else:
            self.others.append(name)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._inside:
            return
        self.size_bytes += end - start
        if self.size_bytes > self.max_bytes:
            raise _too_large(self.max_bytes)
        self.digest.update(data[start:end])
        self.handle.write(data[start:end])

    def _end(self) -> None:
        self.ended = True


async def _read(body: "_Body", form: _FilePart, max_bytes: int) -> None:
    read = 0
    try:
        async for chunk in body.chunks():
            read += len(chunk)
            if read > max_bytes + FORM_OVERHEAD_BYTES:
                raise _too_large(max_bytes)
            form.parser.write(chunk)
        form.parser.finalize()
    except FormParserError as problem:
        await body.drain()
        raise Problem(400, f"The multipart body cannot be read: {problem}", next_step=_HOW, close=True) from problem
    except Problem:
        await body.drain()
        raise
    if not form.ended:
        raise Problem(400, "The multipart body ends before its last boundary.", next_step="Send it again.")
    if form.files != 1 or form.others:
        extra = f", and other parts: {', '.join(name[:40] for name in form.others[:5])}" if form.others else ""
        raise Problem(422, f"Expected exactly one file, in a part called `file`; found {form.files}{extra}.", next_step=_HOW)


class _Body:
    """A request's body that knows whether there is more of it, so that draining never waits for a body that has ended."""

    def __init__(self, request: Request) -> None:
        self.receive = request.receive
        # A client that asks first (Expect: 100-continue) has sent nothing yet: draining would invite the whole file.
        self.asks_first = request.headers.get("expect", "").lower() == "100-continue"
        self.started, self.more = False, True

    async def chunks(self) -> AsyncIterator[bytes]:
        while self.more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self.more = False
                raise Problem(400, "The connection ended before the file did.", next_step="Send it again.")
            self.started, self.more = True, message.get("more_body", False)
            if content := message.get("body", b""):
                yield content

    async def drain(self) -> None:
        """Throw away the rest, up to DRAIN_BYTES. A client that goes away meanwhile is no error."""
        drained = 0
        while self.more and drained < DRAIN_BYTES and (self.started or not self.asks_first):
            message = await self.receive()
            drained += len(message.get("body", b""))
            self.more = message["type"] != "http.disconnect" and message.get("more_body", False)


_HOW = "POST multipart/form-data with one part: `curl -F file=@clip.mp4 .../v1/detections`."


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, f"The file is larger than {max_bytes} bytes.", next_step="Cut it, or raise serve.max_upload_bytes.", max_bytes=max_bytes, close=True)


def _declared_bytes(request: Request) -> int:
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else 0


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem(415, "The content type is not multipart/form-data with a boundary.", next_step=_HOW, close=True)
    return options[b"boundary"]
