"""Uploads, streamed: multipart files go to files of ours, hashed on the way, and stop being read at the size cap.

The client's file name is only ever echoed in the answer; on disk the upload has a random name, later its content hash.
The form is parsed here and not by the framework because the framework stores the whole body before it can be refused.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Message

from feedback.api.problems import Problem
from feedback.keep import MediaStore
from workspace.errors import first_few

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM_OVERHEAD_BYTES = 64 << 10  # boundaries, part headers and small fields around the file
DRAIN_BYTES = 64 << 20  # read and thrown away after a refusal, so that an ordinary client sees the 413 and not a reset connection
IDLE_SECONDS, GRACE_SECONDS, SLOWEST_BYTES_A_SECOND = 30.0, 60.0, 1000  # a sender that trickles holds a connection and a file
OTHERS_TOLD = 5
HEAD_BYTES = 4096  # around a part: its boundary and headers
PIECE_BYTES = 16 << 10  # parsed before what was found is looked at
LONGEST_BOUNDARY = 70
FIELDS, LONGEST_FIELD = ("policy", "mode"), 64
GIVE_ONCE = "Give it once, in the address or in the body."


@dataclass(frozen=True, slots=True)
class Upload:
    """A received file: where it lies, what it holds, and what the client called it (for the echo, never for a path)."""

    path: Path
    sha256: str
    size_bytes: int
    file_name: str


@dataclass(frozen=True, slots=True)
class Received:
    """The files of a request, and its small fields."""

    files: list[Upload]
    fields: dict[str, str]


@asynccontextmanager
async def received(request: Request, media: MediaStore, max_bytes: int, most_files: int = 1) -> AsyncIterator[Received]:
    """The parts called `file` of a multipart request, under `.vigil/uploads` until the block ends, and the fields in FIELDS.

    Raises Problem: 413 above `max_bytes` a file (at once when Content-Length says so, else when the byte arrives), 415 for
    another content type, 400 for a broken body, 422 for no file, too many files, an empty file or another part. A form that is wrong
    already is parsed no further: ten megabytes of empty parts, of nine bytes each, once held the event loop for four seconds.
    """
    body = _Body(request)
    try:
        boundary = _boundary(request, _HOW if most_files == 1 else _HOW_MANY)
        if _declared_bytes(request) > (max_bytes + FORM_OVERHEAD_BYTES) * most_files:
            raise _too_large(max_bytes)
    except Problem:
        await body.drain()
        raise
    form = _Form(boundary, media, max_bytes, most_files)
    try:
        await _read(body, form, (max_bytes + FORM_OVERHEAD_BYTES) * most_files)
        files = [Upload(part.path, part.digest.hexdigest(), part.size_bytes, clean_file_name(part.name)) for part in form.parts]
        if empty := [file.file_name for file in files if not file.size_bytes]:
            which = f"{first_few(empty)}: nothing in it. All are taken or none." if len(files) > 1 else "The file is empty."
            raise Problem(422, which, next_step="Send an image or a video.")
        yield Received(files, form.fields)
    finally:
        form.close()
        for part in form.parts:
            with suppress(OSError):  # as where the disk was closed to writing meanwhile: it goes with the leftovers
                media.drop_part(part.path)


def clean_file_name(name: str) -> str:
    """A client's file name fit for an answer: its last part, printable, at most 255 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:255]


@dataclass(slots=True)
class _Part:
    path: Path
    handle: IO[bytes]
    name: str
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    size_bytes: int = 0


class _Form:
    """Parser callbacks: writes each part called `file`, keeps the known fields, counts the others, keeps nothing else."""

    def __init__(self, boundary: bytes, media: MediaStore, max_bytes: int, most_files: int) -> None:
        self.media, self.max_bytes, self.most_files = media, max_bytes, most_files
        self.most_parts = most_files + len(FIELDS) + OTHERS_TOLD
        self.parts: list[_Part] = []
        self.fields: dict[str, str] = {}
        self.files = 0
        self.others: list[str] = []
        self.ended = False
        self._part: _Part | None = None
        self._field = ""
        self._content = b""
        self._header, self._value, self._disposition = b"", b"", b""
        self._line, self._lines, self._tail = b"\r\n--" + boundary, 0, b""
        self._around = 0
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begin,
            "on_part_end": self._part_end,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }
        self.parser = MultipartParser(boundary, callbacks)

    def write(self, chunk: bytes) -> None:
        """Parse what has come. Raises Problem as soon as the form is wrong, however much of it is still to come, FormParserError for a broken one.

        The parser reads content at once and byte by byte what is or looks like a boundary; so of that there may be as much as a form needs.
        """
        for at in range(0, len(chunk), PIECE_BYTES):
            piece = chunk[at : at + PIECE_BYTES]
            self._around += len(piece)
            self.parser.write(piece)
            seen = self._tail + piece
            self._lines, self._tail = self._lines + seen.count(self._line), seen[1 - len(self._line) :]
            if self._lines > self.most_parts + 1 or self._around > self.most_parts * HEAD_BYTES:
                raise FormParserError("too much of it is boundaries, or stands around its parts")

    def check(self) -> None:
        """Raise Problem for a form of other parts than those that were asked for."""
        if 1 <= self.files <= self.most_files and not self.others:
            return
        extra = f", and other parts: {', '.join(self.others)}" if self.others else ""
        wanted, how = ("exactly one file", _HOW) if self.most_files == 1 else (f"1 to {self.most_files} files", _HOW_MANY)
        found = self.files if self.files <= self.most_files else f"more than {self.most_files}"
        what = f"Expected {wanted}, each in a part called `file`; found {found}{extra}."
        raise Problem(422, what, next_step=how, close=not self.ended)

    def close(self) -> None:
        """Close what a broken-off request left open."""
        for part in self.parts:
            with suppress(OSError):  # what is left of it finds no room on the disk; nobody wants it any more
                part.handle.close()

    def _part_begin(self) -> None:
        self._part, self._field, self._content, self._disposition = None, "", b"", b""

    def _part_end(self) -> None:
        if self._part is not None:
            self._part.handle.close()
        elif self._field:
            self.fields[self._field] = self._content.decode("utf-8", "replace")

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
            if self.files > self.most_files:
                self.check()
            descriptor, path = self.media.new_part()
            self._part = _Part(path, os.fdopen(descriptor, "wb"), options[b"filename"].decode("utf-8", "replace"))
            self.parts.append(self._part)
        elif name in FIELDS:
            if name in self.fields:
                raise Problem(422, f"{name} is given twice in the form.", next_step=GIVE_ONCE, close=True)
            self._field = name
        else:
            self.others.append(name[:40])
            if len(self.others) > OTHERS_TOLD:
                self.check()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._around -= end - start
        if self._field:
            if len(self._content) + end - start > LONGEST_FIELD:
                raise Problem(422, f"The field {self._field} is too long.", next_step=_HOW, close=True)
            self._content += data[start:end]
        part = self._part
        if part is None:
            return
        part.size_bytes += end - start
        if part.size_bytes > self.max_bytes:
            raise _too_large(self.max_bytes)
        part.digest.update(data[start:end])
        part.handle.write(data[start:end])

    def _end(self) -> None:
        self.ended = True


async def _read(body: "_Body", form: _Form, most_bytes: int) -> None:
    read = 0
    try:
        async for chunk in body.chunks():
            read += len(chunk)
            if read > most_bytes:
                raise _too_large(form.max_bytes)
            form.write(chunk)
        form.parser.finalize()
    except FormParserError as problem:
        await body.drain()
        raise Problem(400, f"The multipart body cannot be read: {problem}", next_step=_HOW, close=True) from problem
    except (Problem, OSError):
        await body.drain()
        raise
    if not form.ended:
        raise Problem(400, "The multipart body ends before its last boundary.", next_step="Send it again.")
    form.check()


class _Body:
    """A request's body that knows whether there is more of it, so that draining never waits for a body that has ended."""

    def __init__(self, request: Request) -> None:
        self.receive = request.receive
        # A client that asks first (Expect: 100-continue) has sent nothing yet: draining would invite the whole file.
        self.asks_first = request.headers.get("expect", "").lower() == "100-continue"
        self.started, self.more = False, True

    async def chunks(self) -> AsyncIterator[bytes]:
        began, read = time.monotonic(), 0
        while self.more:
            message = await self._next()
            passed = time.monotonic() - began
            read += len(message.get("body", b""))
            if passed > GRACE_SECONDS and read < passed * SLOWEST_BYTES_A_SECOND:
                raise self._too_slow()
            if message["type"] == "http.disconnect":
                self.more = False
                raise Problem(400, "The connection ended before the file did.", next_step="Send it again.")
            self.started, self.more = True, message.get("more_body", False)
            if content := message.get("body", b""):
                yield content

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                return await self.receive()
        except TimeoutError:
            raise self._too_slow() from None

    def _too_slow(self) -> Problem:
        self.more = False  # nothing of it is waited for any more
        return Problem(408, "The file came too slowly, or not at all.", next_step="Send it again.", close=True)

    async def drain(self) -> None:
        """Throw away the rest, up to DRAIN_BYTES. A client that goes away or falls silent meanwhile is no error."""
        drained = 0
        while self.more and drained < DRAIN_BYTES and (self.started or not self.asks_first):
            try:
                message = await self._next()
            except Problem:
                return
            drained += len(message.get("body", b""))
            self.more = message["type"] != "http.disconnect" and message.get("more_body", False)


_HOW = "POST multipart/form-data with one part: `curl -F file=@clip.mp4 .../v1/detections`."
_HOW_MANY = "POST multipart/form-data with a part a file: `curl -F file=@a.mp4 -F file=@b.mp4 .../v1/detections/batch`; more files go into a further request."


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, f"The file is larger than {max_bytes} bytes.", next_step="Cut it, or raise serve.max_upload_bytes.", max_bytes=max_bytes, close=True)


def _declared_bytes(request: Request) -> int:
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else 0


def _boundary(request: Request, how: str) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem(415, "The content type is not multipart/form-data with a boundary.", next_step=how, close=True)
    if len(options[b"boundary"]) > LONGEST_BOUNDARY:
        raise Problem(400, f"The boundary is longer than the {LONGEST_BOUNDARY} characters that RFC 2046 allows.", next_step=how, close=True)
    return options[b"boundary"]
