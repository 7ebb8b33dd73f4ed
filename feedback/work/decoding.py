"""Processes that open media: nobody trusts what comes in, so nothing of the service opens it itself.

A child process has bounded memory, processor time and files, no network (where the system lets an ordinary user take it
away), no secrets in its environment, and speaks a plain format back: one JSON line, then raw pixels. It is never sent or believed a
pickle. A child that hangs, crashes or eats its memory is ended, and another takes its place; the file that did it gets a reason.
One that is ended from outside, as by a machine short of memory, says nothing about its file.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import math
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workspace.processes import without_network
from workspace.quiet import ALONE
from workspace.settings import FaceSettings, WorkerSettings

if TYPE_CHECKING:
    from media.faces import Extraction

LOG = logging.getLogger("vigil.work")
HOUSE = Path(__file__).resolve().parent.parent.parent
FILES_A_CHILD = 200  # then it is replaced: what a library leaks, or a file has twisted, ends there
START_SECONDS = 60
DYING_SECONDS = 2  # for a child that said something impossible to end by itself
LONGEST_HEADER = 4 << 20
MOST_CLIPS, MOST_BYTES = 4096, 2 << 30  # of one file, whatever a child says
PICTURE_PX = 640  # longer side of the preview
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # no file makes the process that opens it die of one of these


class ChildFailed(Exception):
    """The child could not finish this file; the message is the reason for its verdict `none`."""


class ChildKilled(Exception):
    """Somebody else ended the child: the machine, which was short of memory, or a person. Another try may end well."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the process that opened it was ended from outside (signal {number})")
        self.number = number


@dataclass(slots=True)
class Opened:
    """What a child found: the clips as media/faces.py gives them, and a preview of the middle of the file."""

    extraction: "Extraction"
    picture: NDArray[np.uint8] | None = None  # [H, W, 3] RGB, longer side at most PICTURE_PX


@dataclass(slots=True)
class _Child:
    process: asyncio.subprocess.Process
    files: int = field(default=0)


class Decoders:
    """A pool of children, for one event loop. `open` waits for a free one."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._free: asyncio.LifoQueue[_Child | None] = asyncio.LifoQueue()
        for _ in range(settings.decoders):
            self._free.put_nowait(None)

    async def start(self) -> None:
        """Start one child ahead of the first file."""
        child = await self._free.get()
        self._free.put_nowait(child or await self._spawn())

    async def open(self, path: Path, faces: FaceSettings) -> Opened:
        """The clips of a file. Raises ChildFailed where a limit was hit or the child died, ChildKilled where it was ended from outside."""
        child, opened = await self._free.get(), None
        keep: _Child | None = None
        try:
            while opened is None:
                asked = child = child if child is not None and child.process.returncode is None else await self._spawn()
                try:
                    async with asyncio.timeout(self.settings.decode_seconds):  # not wait_for, which may swallow a cancellation: who asked would go on for ever
                        opened = await self._ask(asked, path, faces)
                except TimeoutError:
                    raise ChildFailed(f"opening it took longer than {self.settings.decode_seconds} s") from None
                except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionError, ValueError, KeyError, TypeError) as problem:
                    code = await self._ended(asked)
                    if code is not None and -code in OUTSIDE:
                        raise ChildKilled(-code) from problem
                    if not asked.files:
                        how = "it said nothing sensible" if code is None else f"signal {-code}" if code < 0 else f"code {code}"
                        raise ChildFailed(f"opening it ended the process that did so ({how}): damaged, or too large for its memory") from problem
                    await self._end(asked)  # it may have died of what the files before had left in it: a fresh one is asked
            asked.files += 1
            keep = asked if asked.files < FILES_A_CHILD else None
            return opened
        finally:
            if keep is None and child is not None:
                await self._end(child)
            self._free.put_nowait(keep)

    async def stop(self) -> None:
        """End every idle child; one at work ends with its file."""
        for _ in range(self._free.qsize()):
            child = self._free.get_nowait()
            if child is not None:
                await self._end(child)
            self._free.put_nowait(None)

    async def _spawn(self) -> _Child:
        words = [*without_network(), sys.executable, "-P", "-m", "feedback.work.decoding", "--settings", self.settings.model_dump_json()]
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS") if name in os.environ}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, [str(HOUSE), os.environ.get("PYTHONPATH", "")]))}
        environment |= ALONE  # each thread takes 90 MB of addresses, and of many cores they would leave nothing of its bounded memory
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=environment, limit=LONGEST_HEADER
        )
        child = _Child(process)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(START_SECONDS):
                await process.stdout.readline()
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _ask(self, child: _Child, path: Path, faces: FaceSettings) -> Opened:
        stdin, stdout = child.process.stdin, child.process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"path": str(path), "faces": faces.model_dump(mode="json")}).encode() + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        if not line:
            raise asyncio.IncompleteReadError(b"", None)
        return await _read(json.loads(line), stdout, faces.size_px)

    async def _ended(self, child: _Child) -> int | None:
        """How a child ended that was not ended here: minus the signal, or its code; None for one that lives on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DYING_SECONDS):
                await child.process.wait()
        return child.process.returncode

    async def _end(self, child: _Child) -> None:
        if child.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()
        await child.process.wait()


async def _read(header: dict[str, Any], stdout: asyncio.StreamReader, size_px: int) -> Opened:
    """Put together what the child says, believing no number of it."""
    from media.decode import MediaInfo
    from media.faces import Extraction, FaceClip

    rows, picture_shape = header["clips"], header["picture"]
    lengths = [int(row.pop("frames")) for row in rows]
    if not all(0 < length <= 1024 for length in lengths):
        raise ValueError("clips of an impossible length")
    if len(rows) > MOST_CLIPS or sum(lengths) * size_px * size_px * 3 > MOST_BYTES:
        raise ChildFailed("more faces for longer than are looked at of one file; mode standard looks at fewer moments")
    info = MediaInfo(**header["info"]) if header["info"] else None
    found = Extraction(**header["about"], info=info)
    for length, row in zip(lengths, rows, strict=True):
        frames = np.frombuffer(await stdout.readexactly(length * size_px * size_px * 3), np.uint8).reshape(length, size_px, size_px, 3)
        landmarks = np.frombuffer(await stdout.readexactly(length * 468 * 2 * 4), np.float32).reshape(length, 468, 2)
        row["place"] = tuple(row["place"])
        found.clips.append(FaceClip(frames=frames, landmarks=landmarks, **row))
    picture = None
    if picture_shape:
        height, width = (int(side) for side in picture_shape)
        if not (0 < height <= PICTURE_PX and 0 < width <= PICTURE_PX):
            raise ValueError("a preview of an impossible size")
        picture = np.frombuffer(await stdout.readexactly(height * width * 3), np.uint8).reshape(height, width, 3)
    return Opened(found, picture)


# -- in the child -------------------------------------------------------------------------------------------------------------
def bound(settings: WorkerSettings) -> None:
    """Limit this process: address space, processor time of a whole life, files, cores. There is no way back."""
    resource.setrlimit(resource.RLIMIT_AS, (settings.decode_memory_bytes, settings.decode_memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    seconds = settings.decode_seconds * 4 * FILES_A_CHILD
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def open_file(path: Path, faces: FaceSettings, settings: WorkerSettings) -> Opened:
    """The clips of a file that keeps to the limits, else an extraction without clips and with the reason. Raises MemoryError where memory does not suffice."""
    from media.decode import probe, shown_seconds
    from media.faces import Extraction, extract_clips
    from media.photos import NO_MEMORY
    from workspace.errors import MediaError

    try:
        info = probe(path)
        seconds = shown_seconds(path, info) if info.kind == "video" else 0.0
    except MediaError as problem:
        if problem.why == NO_MEMORY:
            raise MemoryError from problem
        return Opened(Extraction(reason=problem.why))
    if info.width * info.height > settings.max_pixels:
        return Opened(Extraction(kind=info.kind, info=info, reason=f"{info.width} x {info.height} pixels; at most {settings.max_pixels:,} are looked at"))
    if seconds > settings.max_video_seconds:
        why = f"{math.ceil(seconds)} s long; at most {settings.max_video_seconds} s are looked at"
        return Opened(Extraction(kind=info.kind, info=info, reason=why))
    extraction = extract_clips(path, faces)
    if extraction.reason == NO_MEMORY:
        raise MemoryError
    return Opened(extraction, _preview(path, info.kind, seconds / 2))


def _preview(path: Path, kind: str, middle_seconds: float) -> NDArray[np.uint8] | None:
    import cv2

    from media.decode import read_frames, read_image
    from workspace.errors import MediaError

    try:
        frame = read_image(path) if kind == "image" else next((frame for _, frame in read_frames(path, [middle_seconds])), None)
        if frame is None:
            return None
        scale = min(1.0, PICTURE_PX / max(frame.shape[:2]))
        size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
        return np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    except (MediaError, cv2.error):
        return None


def _answer(opened: Opened) -> Iterator[bytes | memoryview]:
    """A line of JSON, then pixels and meshes as they lie in memory: a copy of all of them would not fit beside them."""
    from media.faces import MEASURED

    found = opened.extraction
    names = ("frames_seen", "frames_with_face", "faces", "kind", "reason", "faces_too_small", "faces_beyond", "too_short")
    about = {name: getattr(found, name) for name in names}
    clips = []
    for clip in found.clips:
        row = {name: getattr(clip, name) for name in MEASURED}
        plain: dict[str, Any] = {name: int(value) if name == "track" else float(value) for name, value in row.items()}
        clips.append({**plain, "frames": len(clip.frames), "place": list(clip.place)})
    picture = None if opened.picture is None else list(opened.picture.shape[:2])
    header = {"about": about, "info": asdict(found.info) if found.info else None, "clips": clips, "picture": picture}
    yield json.dumps(header).encode() + b"\n"
    for clip in found.clips:
        yield np.ascontiguousarray(clip.frames).data
        yield np.ascontiguousarray(clip.landmarks, dtype=np.float32).data
    if opened.picture is not None:
        yield np.ascontiguousarray(opened.picture).data


def main() -> int:
    """Say that it is ready, then answer one file a line until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -P -m feedback.work.decoding", description="Open media for the service, under limits.")
    parser.add_argument("--settings", required=True, help="feedback.workers, as JSON")
    settings = WorkerSettings.model_validate_json(parser.parse_args().settings)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints must not be taken for an answer
    import media.faces  # noqa: F401  # before the limits: the libraries are ours, the files are not

    bound(settings)
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        opened = open_file(Path(asked["path"]), FaceSettings.model_validate(asked["faces"], strict=False), settings)
        for part in _answer(opened):
            out.write(part)
        out.flush()
        del opened
        gc.collect()  # what a video left open is C's memory, which brings nobody to collect it: the next file has less, by what others sent
    return 0


if __name__ == "__main__":
    sys.exit(main())
