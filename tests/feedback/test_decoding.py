"""Opening what strangers send: every limit refuses, whatever a file does to the process that opens it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from feedback.work import decoding
from feedback.work.decoding import ChildFailed, Decoders, Opened, open_file
from tests.media.videos import write_video
from workspace.processes import without_network
from workspace.settings import FaceSettings, WorkerSettings

FACES = FaceSettings(size_px=64, clip_frames=8)


def opened(path: Path, **limits: int) -> Opened:
    """A file through a pool of one."""

    async def go() -> Opened:
        pool = Decoders(WorkerSettings(decoders=1, **limits))
        try:
            return await pool.open(path, FACES)
        finally:
            await pool.stop()

    return asyncio.run(go())


@pytest.fixture
def still(tmp_path: Path, picture: bytes) -> Path:
    (tmp_path / "still").write_bytes(picture)
    return tmp_path / "still"


def test_a_face_comes_back_as_it_would_without_a_pool(media: Path) -> None:
    from media.faces import extract_clips

    path = next(path for path in sorted(media.rglob("*.mp4")))
    found, here = opened(path).extraction, extract_clips(path, FACES)
    assert len(found.clips) == len(here.clips) > 0
    for one, other in zip(found.clips, here.clips, strict=True):
        assert np.array_equal(one.frames, other.frames) and np.allclose(one.landmarks, other.landmarks) and one.track == other.track


def test_when_a_face_gave_no_clip_comes_back_too(media: Path, tmp_path: Path) -> None:
    from media.decode import read_frames

    ((_, frame),) = read_frames(next(path for path in sorted(media.rglob("*.mp4"))), [0.0])
    found = opened(write_video(tmp_path / "a.mp4", [frame] * 4 + [np.full_like(frame, 30)] * 8, fps=12)).extraction
    assert not found.clips and np.allclose(found.too_short, [(0.0, 0.4)], atol=0.01)


def test_who_is_told_to_stop_as_the_answer_comes_does_stop(still: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker of a service that had died asked the scorer, which had stopped, and waited for ever beside a child that waited for it."""
    answers, answered = asyncio.Event(), Opened.__new__(Opened)

    async def asks(*_: Any) -> Opened:
        await answers.wait()
        return answered

    async def go() -> None:
        pool = Decoders(WorkerSettings(decoders=1))
        await pool.start()
        monkeypatch.setattr(pool, "_ask", asks)
        job = asyncio.create_task(pool.open(still, FACES))
        await asyncio.sleep(0.1)  # it waits for the answer
        answers.set()
        job.cancel()
        done, _ = await asyncio.wait([job])
        await pool.stop()
        assert all(one.cancelled() for one in done)

    asyncio.run(go())


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_an_image_has_a_picture_as_a_video_has_one_with_a_face_or_without(tmp_path: Path, suffix: str) -> None:
    """Previews were read as videos are: no image had one, and of a TIFF, which no browser shows, nothing was to be seen."""
    plain = np.full((1280, 640, 3), (200, 100, 50), np.uint8)
    cv2.imwrite(str(tmp_path / f"plain{suffix}"), plain)
    found = opened(tmp_path / f"plain{suffix}")
    assert found.extraction.kind == "image" and not found.extraction.clips
    assert found.picture is not None and found.picture.shape == (640, 320, 3)
    assert np.abs(found.picture.astype(int) - (50, 100, 200)).max() < 8, "RGB"


def test_more_pixels_or_seconds_than_allowed_get_a_reason_before_anything_is_decoded(still: Path, media: Path) -> None:
    found = opened(still, max_pixels=1000)
    assert "pixels; at most 1,000" in (found.extraction.reason or "") and not found.extraction.clips and found.picture is None
    clip = next(path for path in sorted(media.rglob("*.mp4")))
    assert "at most 1 s" in (opened(clip, max_video_seconds=1).extraction.reason or "")


@pytest.mark.parametrize(("count", "why"), [(8, ""), (9, "3 s long; at most 2 s are looked at"), (14, "4 s long; at most 2 s are looked at")])
def test_a_video_that_is_a_moment_too_long_is_not_said_to_be_as_long_as_is_allowed(tmp_path: Path, count: int, why: str) -> None:
    """Half an hour and a picture was refused as "1800 s long; at most 1800 s are looked at"."""
    clip = write_video(tmp_path / "a.mp4", [np.full((48, 64, 3), 90, np.uint8)] * count, fps=4)
    reason = open_file(clip, FACES, WorkerSettings(max_video_seconds=2)).extraction.reason
    assert reason == (why or "no face found")


@pytest.mark.parametrize("begins_seconds", [600, 108_000])
def test_a_video_is_as_long_as_it_is_shown_however_late_its_pictures_begin(tmp_path: Path, media: Path, begins_seconds: int) -> None:
    """A Matroska file counts its length from time 0: one of a second was refused as one of thirty hours, or had no preview."""
    from media.decode import read_frames

    frames = [frame for _, frame in read_frames(next(path for path in sorted(media.rglob("*.mp4"))), [k / 12 for k in range(16)])]
    late = write_video(tmp_path / "late.mkv", frames, [round(1000 * (begins_seconds + k / 12)) for k in range(16)])
    found = open_file(late, FACES, WorkerSettings())
    assert found.extraction.clips and found.extraction.reason == "" and found.picture is not None
    assert "2 s long; at most" in open_file(late, FACES, WorkerSettings(max_video_seconds=1)).extraction.reason


def test_a_small_file_that_says_it_is_huge_is_refused(tmp_path: Path) -> None:
    _, coded = cv2.imencode(".png", np.zeros((9000, 9000), np.uint8))
    assert len(coded) < 1_000_000
    (tmp_path / "bomb").write_bytes(coded.tobytes())
    assert "too large" in (opened(tmp_path / "bomb").extraction.reason or "")


def test_memory_without_end_ends_the_process_not_the_service(tmp_path: Path, still: Path) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "large.png"), rng.integers(0, 255, (6000, 6000, 3), np.uint8))

    async def go() -> tuple[str, int]:
        pool = Decoders(WorkerSettings(decoders=1, decode_memory_bytes=1_100_000_000))
        try:
            why = ""
            try:
                why = (await pool.open(tmp_path / "large.png", FACES)).extraction.reason or "it was read"
            except ChildFailed as problem:
                why = str(problem)
            return why, len((await pool.open(still, FACES)).extraction.clips)
        finally:
            await pool.stop()

    why, clips = asyncio.run(go())
    assert why != "it was read" and clips == 1, why


def _pool_of(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Children that say they are ready and then do something else with the first file."""
    real = asyncio.create_subprocess_exec

    async def instead(*words: Any, **more: Any) -> Any:
        return await real(sys.executable, "-c", f"import os, sys, time\nprint('ready', flush=True)\nsys.stdin.readline()\n{body}", **more)

    monkeypatch.setattr(decoding.asyncio, "create_subprocess_exec", instead)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("time.sleep(60)", "longer than 2 s"),
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("sys.exit(3)", "code 3"),
        ("print('not json', flush=True); time.sleep(60)", "nothing sensible"),
        ('print(\'{"clips": [], "picture": null}\', flush=True); time.sleep(60)', "nothing sensible"),
        (
            'print(\'{"about": {}, "info": null, "picture": [99999, 99999], "clips": []}\', flush=True); time.sleep(60)',
            "nothing sensible",
        ),
        ('print(\'{"about": {}, "info": null, "picture": null, "clips": [{"frames": 1000000000}]}\', flush=True); time.sleep(60)', "nothing sensible"),
        ('print(\'{"about": {}, "info": null, "picture": null, "clips": [\' + ", ".join([\'{"frames": 8}\'] * 5000) + "]}", flush=True)', "mode standard"),
        ("print('x' * (5 << 20), flush=True); time.sleep(60)", "nothing sensible"),
    ],
)
def test_a_child_that_hangs_dies_or_lies_is_ended_and_the_file_gets_a_reason(monkeypatch: pytest.MonkeyPatch, still: Path, body: str, why: str) -> None:
    _pool_of(monkeypatch, body)
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(ChildFailed, match=why):
        opened(still, decode_seconds=2)
    assert {child.pid for child in psutil.Process().children()} <= before, "its process is gone"


def test_a_file_is_not_judged_by_what_the_files_before_it_left(monkeypatch: pytest.MonkeyPatch, still: Path) -> None:
    """A process that had opened others died of a good file, which was called damaged for ever."""
    nothing = '{"about": {}, "info": null, "picture": null, "clips": []}'
    _pool_of(monkeypatch, f"print('{nothing}', flush=True)\nsys.stdin.readline()\nsys.exit(3)")

    async def go() -> list[int]:
        pool = Decoders(WorkerSettings(decoders=1))
        try:
            return [len((await pool.open(still, FACES)).extraction.clips) for _ in range(3)]
        finally:
            await pool.stop()

    assert asyncio.run(go()) == [0, 0, 0]


def test_what_a_file_left_open_is_gone_before_the_next(media: Path) -> None:
    """The memory of the process is bounded for its whole life, and a video's stayed until Python chose to collect it."""
    videos = sorted(media.rglob("*.mp4"))[:4]

    async def go() -> list[int]:
        pool = Decoders(WorkerSettings(decoders=1))
        try:
            threads = []
            for path in videos:
                await pool.open(path, FACES)
                threads.append(await _threads(pool))
            return threads
        finally:
            await pool.stop()

    threads = asyncio.run(go())
    assert max(threads) == threads[0], threads


def test_a_child_killed_in_its_sleep_is_replaced(still: Path) -> None:
    async def go() -> tuple[int, int]:
        pool = Decoders(WorkerSettings(decoders=1))
        await pool.open(still, FACES)
        child = await pool._free.get()
        assert child is not None
        os.kill(child.process.pid, signal.SIGKILL)
        await child.process.wait()
        pool._free.put_nowait(child)
        again = await pool.open(still, FACES)
        await pool.stop()
        return len(again.extraction.clips), child.files

    assert asyncio.run(go())[0] == 1


async def _threads(pool: Decoders) -> int:
    """Of the one process of a pool."""
    child = await pool._free.get()
    pool._free.put_nowait(child)
    assert child is not None
    first = psutil.Process(child.process.pid)
    return max(one.num_threads() for one in [first, *first.children(recursive=True)])


def test_a_childs_memory_is_not_taken_by_threads_of_its_libraries() -> None:
    """NumPy's took 90 MB of addresses a core: where there were sixteen, every good file was called truncated or corrupt."""

    async def go() -> int:
        pool = Decoders(WorkerSettings(decoders=1))
        await pool.start()
        try:
            return await _threads(pool)
        finally:
            await pool.stop()

    assert asyncio.run(go()) == 1


def test_a_child_has_no_secrets_and_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a file could do with the process that opens it, asked of one that runs under the same words and limits."""
    for name in ("VIGIL_SECRET", "VIGIL_DATABASE_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "must not be seen")
    kept: dict[str, Any] = {}
    real = asyncio.create_subprocess_exec

    async def watched(*words: Any, **more: Any) -> Any:
        kept.update(words=words, environment=more["env"])
        return await real(*words, **more)

    monkeypatch.setattr(decoding.asyncio, "create_subprocess_exec", watched)
    (tmp_path / "none").write_bytes(b"nothing")
    assert opened(tmp_path / "none").extraction.reason
    assert "must not be seen" not in json.dumps(kept["environment"])
    if not without_network():
        pytest.skip("this system lets an ordinary user take no network away")
    assert list(kept["words"][: len(without_network())]) == list(without_network())


def test_the_limits_hold_inside_the_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from feedback.work.decoding import bound; from workspace.settings import WorkerSettings\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
        "bound(WorkerSettings(decode_memory_bytes=1 << 30))\n"
        "for ask in (lambda: bytearray(2 << 30), lambda: os.write(file, b'x'), lambda: [os.open('/dev/null', 0) for _ in range(100)]):\n"
        "    try:\n        ask()\n        print('allowed')\n    except (MemoryError, OSError):\n        print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], cwd=decoding.HOUSE, capture_output=True, check=True)
    assert done.stdout.split() == [b"refused"] * 3
