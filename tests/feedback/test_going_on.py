"""What works behind the service goes on after an error, or ends loudly enough to be started again; it never stops without a word."""

import asyncio
import errno
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from feedback.access import Actor, Role
from feedback.api.app import create_app
from feedback.api.events import LOOK_SECONDS
from feedback.database import DATABASE, Database
from feedback.detections import Accepted
from feedback.secret import load_secret
from feedback.work.supervisor import Workers
from feedback.work.worker import Worker
from tests.feedback.buckets import s3_server
from tests.feedback.conftest import PATIENCE_SECONDS, Make, ask, people_of, wait_for
from tests.feedback.databases import filled_url, postgres_away
from tests.feedback.test_queue import SAID, Line
from tests.feedback.test_webhooks import Receiver
from tests.feedback.world import World, write_settings
from workspace.files import sha256_bytes
from workspace.settings import Settings

WAITS = 'import sys; print(\'{"model": {"model": "m"}}\', flush=True); sys.stdin.read()'


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error the next attempt comes soon."""
    monkeypatch.setattr("feedback.forever.TROUBLE_SECONDS", 0.05)


@contextmanager
def out_of_order(database: Database, *tables: str) -> Iterator[None]:
    """A database that answers questions about these tables with an error."""

    def rename(before: str, after: str) -> None:
        with database.write() as connection:
            for table in tables:
                connection.exec_driver_sql(f"ALTER TABLE {before.format(table)} RENAME TO {after.format(table)}")

    rename("{}", "{}_elsewhere")
    try:
        yield
    finally:
        rename("{}_elsewhere", "{}")


async def until(good: Callable[[], Any], task: "asyncio.Task[None] | None" = None) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not good():
            assert task is None or not task.done(), "it has ended"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def at_work(working: Worker) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker that claims and scores; what claims is told, so that nobody waits for one that has ended."""
    await working.serving.watch()
    parts = [asyncio.create_task(part) for part in (working._claim(), working.batcher.run())]
    try:
        yield parts[0]
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await working.decoders.stop()
        working.batcher.close()


async def waiting_process(*_: Any) -> asyncio.subprocess.Process:
    """In the worker's place: says that a model answers, and ends with its stdin."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", WAITS, stdin=pipe, stdout=pipe)


def test_webhooks_retention_and_gathering_outlive_a_database_error(make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Once the first error ended each of them for as long as the service lived; it answered 200 all the while.
    monkeypatch.setattr(Workers, "_spawn", waiting_process)
    app, people = make(webhook_hosts=["127.0.0.1"], allow_private_addresses=True, retention__none_days=0)
    service, vera, receiver = app.state.service, Actor(people["vera"][0], Role.viewer, "vera"), Receiver()
    service.create_webhook(vera, receiver.url)
    sent = ask(app, ("POST", "/v1/detections?wait=0", {"files": {"file": ("a", b"no picture")}}), key=people["vera"][1])[0].json()
    service.detections.claim("w")
    service.detections.finish(sent["id"], "w", {"verdict": "none", "p_fake": None, "reason": "no face", "kind": "", "model_sha256": ""})

    async def go() -> None:
        with out_of_order(service.database, "media", "cases", "deliveries"):
            serving = app.router.lifespan_context(app)
            await serving.__aenter__()
            await until(lambda: all(caplog.text.count(what) > 1 for what in ("webhooks: ", "retention: ", "gathering media without a label: ")))
        await until(lambda: receiver.got and not service.media.has(sent["sha256"]))
        await serving.__aexit__(None, None, None)

    try:
        asyncio.run(go())
    finally:
        receiver.shutdown()
        receiver.server_close()


def test_who_waits_for_a_verdict_hears_of_it_though_the_database_was_away_meanwhile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An upload that was taken in was answered 503, and stayed beside the one that was sent again as told; a stream of progress broke off."""
    url = filled_url("postgresql")
    app = create_app(tmp_path, write_settings(tmp_path, url), load_secret(tmp_path))
    service, key = app.state.service, people_of(tmp_path)["vera"][1]

    async def go() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vigil", headers={"Authorization": f"Bearer {key}"}) as client:
            sending = asyncio.create_task(client.post("/v1/detections?wait=60", files={"file": ("a", b"sent")}))
            await until(service.detections.waiting, sending)
            (sent,) = (await client.get("/v1/detections")).json()["detections"]
            watching = asyncio.create_task(client.get(f"/v1/detections/{sent['id']}/events"))
            await asyncio.sleep(1.5 * LOOK_SECONDS)
            with postgres_away(url):
                await until(lambda: caplog.text.count("the database does not answer") > 3, sending)
            service.detections.finish(service.detections.claim("w")["id"], "w", SAID)
            return await sending, await watching

    sent, watched = asyncio.run(go())
    service.close()
    assert (sent.status_code, sent.json()["state"]) == (201, "done"), sent.text
    assert watched.text.startswith("event: progress") and "event: done" in watched.text


@pytest.fixture
def worker(tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Worker, World, Callable[[], None]]]:
    """A worker that can be run here, its world, and how its service goes away."""
    world = World(tmp_path / "w")
    ours, its = os.pipe()
    with os.fdopen(ours, "rb") as stdin, os.fdopen(its, "wb") as service:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield Worker(world.root, world.settings, "w", models[0]), world, service.close
    world.close()


def test_a_worker_goes_on_claiming_after_a_database_error(
    worker: tuple[Worker, World, Callable[[], None]], picture: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    working, world, leave = worker
    (world.root / "file").write_bytes(picture)
    world.media.put(world.root / "file", sha256_bytes(picture))
    row = working.detections.accept(world.sender, [Accepted(sha256_bytes(picture), len(picture))])[0]

    async def go() -> None:
        await working.serving.watch()
        with out_of_order(world.database, "detections"):
            claiming = asyncio.create_task(working._claim())
            await until(lambda: caplog.text.count("claiming uploads: ") > 1, claiming)
        scoring = asyncio.create_task(working.batcher.run())
        await until(lambda: (working.detections.get(row["id"]) or {})["state"] == "done", claiming)
        for task in (claiming, scoring):
            task.cancel()
        await asyncio.gather(claiming, scoring, return_exceptions=True)
        await working.decoders.stop()
        working.batcher.close()

    asyncio.run(go())
    assert (working.detections.get(row["id"]) or {})["verdict"] == "uncertain"
    leave()


def test_a_worker_waits_for_a_store_that_does_not_answer_and_then_the_model_says_what_it_sees(
    tmp_path: Path, models: tuple[Path, Path], picture: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every upload that waited got the last word `none`, and its media went soon after."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("feedback.work.worker.TROUBLE_SECONDS", 0.2)
    with s3_server("media"):  # what is stored outlives the servers inside
        with s3_server() as (endpoint, _):
            line = Line(tmp_path / "w", media_url="s3://media/x", s3_endpoint_url=endpoint)
            row = line.send(picture)[0]
        working = Worker(line.world.root, line.world.settings, "w", models[0])

        async def go() -> None:
            async with at_work(working) as claiming:
                await until(lambda: caplog.text.count("goes back to the queue: ") > working.settings.feedback.workers.max_attempts, claiming)
                with s3_server(port=int(endpoint.rpartition(":")[2])):
                    await until(lambda: (line.queue.get(row["id"]) or {})["state"] == "done", claiming)

        asyncio.run(go())
    done = line.queue.get(row["id"]) or {}
    assert (done["verdict"], done["attempts"]) == ("uncertain", 1)
    line.world.close()


def test_a_bucket_that_is_away_is_no_last_word_on_what_waits(
    tmp_path: Path, models: tuple[Path, Path], picture: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To HEAD a store says 404 of all that a bucket had which was moved away: every upload that waited got the last word `none`, and nothing asked again."""
    monkeypatch.setattr("feedback.work.worker.TROUBLE_SECONDS", 0.2)
    with s3_server("media") as (endpoint, store):
        line = Line(tmp_path / "w", media_url="s3://media", s3_endpoint_url=endpoint)
        row = line.send(picture)[0]
        for item in store.list_objects_v2(Bucket="media")["Contents"]:
            store.delete_object(Bucket="media", Key=item["Key"])
        store.delete_bucket(Bucket="media")
        working = Worker(line.world.root, line.world.settings, "w", models[0])

        async def go() -> None:
            async with at_work(working) as claiming:
                await until(lambda: "goes back to the queue: " in caplog.text, claiming)
                store.create_bucket(Bucket="media")
                line.file(picture)
                await until(lambda: (line.queue.get(row["id"]) or {})["state"] == "done", claiming)

        asyncio.run(go())
    done = line.queue.get(row["id"]) or {}
    assert (done["verdict"], done["attempts"]) == ("uncertain", 1)
    line.world.close()


def test_a_database_that_is_busy_is_no_attempt_at_the_file(
    tmp_path: Path, models: tuple[Path, Path], picture: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever kept it locked for a few minutes made every file that was being looked at unreadable."""
    monkeypatch.setattr("feedback.database.BUSY_SECONDS", 0)
    monkeypatch.setattr("feedback.work.worker.TROUBLE_SECONDS", 0.05)
    line = Line(tmp_path / "w")
    row = line.send(picture)[0]
    working = Worker(line.world.root, line.world.settings, "w", models[0])
    other, keep = sqlite3.connect(line.world.root / DATABASE, isolation_level=None, check_same_thread=False), working._keep_pictures

    def busy(*words: Any) -> Any:
        if "goes back to the queue" not in caplog.text:
            other.execute("BEGIN IMMEDIATE")
        return keep(*words)

    monkeypatch.setattr(working, "_keep_pictures", busy)

    async def go() -> None:
        async with at_work(working) as claiming:
            await until(lambda: caplog.text.count("does not answer: database is locked") > working.settings.feedback.workers.max_attempts, claiming)
            other.rollback()
            await until(lambda: (line.queue.get(row["id"]) or {})["state"] == "done", claiming)

    asyncio.run(go())
    other.close()
    done = line.queue.get(row["id"]) or {}
    assert (done["verdict"], done["attempts"]) == ("uncertain", 1)
    line.world.close()


def test_a_full_disk_is_no_attempt_at_the_file(
    worker: tuple[Worker, World, Callable[[], None]], picture: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a minute and a half without room every file of the queue was unreadable, for good."""
    monkeypatch.setattr("feedback.work.worker.TROUBLE_SECONDS", 0.2)
    working, world, leave = worker
    (world.root / "file").write_bytes(picture)
    world.media.put(world.root / "file", sha256_bytes(picture))
    row, keep = working.detections.accept(world.sender, [Accepted(sha256_bytes(picture), len(picture))])[0], working._keep_pictures

    def full(*words: Any) -> Any:
        if caplog.text.count("no room on the disk") <= working.settings.feedback.workers.max_attempts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return keep(*words)

    monkeypatch.setattr(working, "_keep_pictures", full)

    async def go() -> None:
        async with at_work(working) as claiming:
            await until(lambda: (working.detections.get(row["id"]) or {})["state"] == "done", claiming)

    asyncio.run(go())
    done = working.detections.get(row["id"]) or {}
    assert (done["verdict"], done["attempts"]) == ("uncertain", 1)
    leave()


def test_a_worker_is_not_given_what_it_is_working_on_when_the_clock_jumps(
    tmp_path: Path, models: tuple[Path, Path], picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened the same file once more beside itself, and after the third jump a good file was unreadable."""
    monkeypatch.setattr("feedback.work.worker.POLL_SECONDS", 0.05)
    line = Line(tmp_path / "w")
    row, later = line.send(picture)[0], [b"sent later"]
    working = Worker(line.world.root, line.world.settings, "w", models[0])
    keep = working._keep_pictures

    def jumps(*words: Any) -> Any:
        if later:
            line.let_time_pass(row["id"])
            line.send(later.pop())
            wait_for(lambda: line.queue.counts()["queued"] == 0 or (line.queue.get(row["id"]) or {})["attempts"] > 1, bool)
        return keep(*words)

    monkeypatch.setattr(working, "_keep_pictures", jumps)

    async def go() -> None:
        async with at_work(working) as claiming:
            await until(lambda: not line.queue.waiting(), claiming)

    asyncio.run(go())
    done = line.queue.get(row["id"]) or {}
    assert (done["verdict"], done["attempts"]) == ("uncertain", 1)
    line.world.close()


def test_a_worker_of_which_a_part_fails_ends_whole_so_that_another_is_started(
    worker: tuple[Worker, World, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    working, _, leave = worker

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(working.batcher, "run", broken)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(working.run(), PATIENCE_SECONDS))
    leave()


def test_a_worker_whose_service_goes_away_ends_well(worker: tuple[Worker, World, Callable[[], None]]) -> None:
    working, _, leave = worker
    leave()
    asyncio.run(asyncio.wait_for(working.run(), PATIENCE_SECONDS))


def test_a_worker_that_cannot_be_started_is_tried_again(root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    workers, failed = Workers(root, settings, None, lambda _: None), []

    async def spawn(*_: Any) -> asyncio.subprocess.Process:
        if not failed:
            failed.append(1)
            raise BlockingIOError("no more processes")
        return await waiting_process()

    monkeypatch.setattr(workers, "_spawn", spawn)

    async def go() -> None:
        await workers.start()
        await until(lambda: workers.model is not None)
        await workers.stop()

    asyncio.run(go())
    assert failed
