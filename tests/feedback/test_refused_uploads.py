"""What is refused, or was answered before, leaves nothing on the disk: files are stored before their upload is accepted, and it may not be."""

import gc
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from feedback import database
from feedback.access import Actor, Role
from feedback.detections import remove_leftovers
from tests.feedback.conftest import Make, ask
from tests.feedback.test_service import is_problem
from workspace.files import sha256_bytes


def stored(app: FastAPI) -> list[str]:
    """The names in the media folder."""
    return sorted(path.name for path in (app.state.service.root / ".vigil/media").glob("*"))


def send(app: FastAPI, who: tuple[str, str], content: bytes, idempotency_key: str = "", **fields: str) -> httpx.Response:
    more = {"files": {"file": ("a.jpg", content)}, "data": fields, "headers": {"Idempotency-Key": idempotency_key} if idempotency_key else {}}
    return ask(app, ("POST", "/v1/detections?wait=0", more), key=who[1])[0]


def erase(app: FastAPI, who: tuple[str, str], detection_id: str) -> None:
    assert ask(app, ("DELETE", f"/v1/detections/{detection_id}", {}), key=who[1])[0].json()["state"] == "erased"


def meanwhile(app: FastAPI, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> None:
    """Let something happen once, when a file that was not refused so far is about to be stored."""
    media, put, left = app.state.service.media, app.state.service.media.put, [happens]

    def late(path: Path, sha256: str) -> None:
        if left:
            left.pop()()
        put(path, sha256)

    monkeypatch.setattr(media, "put", late)


def test_a_mode_that_is_none_is_refused_and_its_file_not_kept(make: Make) -> None:
    app, people = make()
    for number in range(3):
        assert "'bogus'" in is_problem(send(app, people["vera"], b"file %d" % number, mode="bogus"), 422)["detail"]
    assert stored(app) == []


def test_a_policy_that_is_given_twice_is_refused_and_named(make: Make) -> None:
    """The address won over the form, and the last of two over the first, without a word: and with it threshold and retention."""
    app, people = make()
    jpeg = {"files": {"file": ("a.jpg", b"one")}}
    for address, form, why in (
        ("policy=moderation", {"policy": "identity_check"}, "policy is given twice: 'moderation' in the address, 'identity_check' in the body."),
        ("mode=fast", {"mode": "dense"}, "mode is given twice: 'fast' in the address, 'dense' in the body."),
        ("policy=moderation&policy=identity_check", {}, "policy is given 2 times in the address."),
        ("", {"policy": ["moderation", "identity_check"]}, "policy is given twice in the form."),
    ):
        for path in ("/v1/detections", "/v1/detections/batch"):
            refused = is_problem(ask(app, ("POST", f"{path}?{address}", {**jpeg, "data": form}), key=people["vera"][1])[0], 422)
            assert refused["detail"] == why and "once" in refused["next_step"]
    named = {"json": {"reference": "https://example.org/a", "policy": "forensics"}}
    assert ask(app, ("POST", "/v1/detections?policy=moderation&policy=forensics", named), key=people["vera"][1])[0].status_code == 422
    doubled = '{"reference": "https://example.org/a", "policy": "moderation", "p\\u006flicy": "identity_check"}'
    json_body = {"content": doubled, "headers": {"Content-Type": "application/json"}}
    refused = is_problem(ask(app, ("POST", "/v1/detections", json_body), key=people["vera"][1])[0], 422)
    assert refused["detail"] == "'policy' is given twice in the body." and "once" in refused["next_step"]
    doubled = '{"reference": "https://example.org/a", "reference": "https://example.org/b"}'
    refused = is_problem(ask(app, ("POST", "/v1/detections", {**json_body, "content": doubled}), key=people["vera"][1])[0], 422)
    assert refused["detail"] == "'reference' is given twice in the body." and refused["next_step"] == "Give it once.", "the address takes none"
    no_json = {**json_body, "content": "[" * 100_000}
    assert is_problem(ask(app, ("POST", "/v1/detections", no_json), key=people["vera"][1])[0], 422)["mistakes"]
    assert stored(app) == []
    same = ask(app, ("POST", "/v1/detections?wait=0&policy=moderation", {**jpeg, "data": {"policy": "moderation"}}), key=people["vera"][1])[0]
    assert same.json()["policy"] == "moderation", "what says the same does not contradict"


def test_an_erased_upload_that_is_sent_again_with_its_key_stays_erased(make: Make) -> None:
    # Once the bytes were stored before anybody asked whether the key was new: an ordinary retry brought them back for good.
    app, people = make()
    first = send(app, people["vera"], b"private", "key").json()
    assert stored(app) == [sha256_bytes(b"private")]
    erase(app, people["vera"], first["id"])
    again = send(app, people["vera"], b"private", "key").json()
    assert (again["id"], again["state"]) == (first["id"], "erased") and stored(app) == []


def test_a_retry_is_answered_though_the_queue_is_full(make: Make) -> None:
    """What had been accepted was refused for want of room when its answer was lost and it was sent again."""
    app, people = make(max_batch_files=1, workers__queue_length=1)
    first = send(app, people["vera"], b"file", "key").json()
    again = send(app, people["vera"], b"file", "key")
    assert again.status_code == 202 and again.json()["id"] == first["id"]
    assert send(app, people["vera"], b"file", "another").status_code == 429 and send(app, people["rob"], b"file", "key").status_code == 429
    assert send(app, people["vera"], b"other", "key").status_code == 422


def test_a_key_that_comes_with_another_file_keeps_only_the_first(make: Make) -> None:
    app, people = make()
    send(app, people["vera"], b"one", "key")
    is_problem(send(app, people["vera"], b"another", "key"), 422)
    assert stored(app) == [sha256_bytes(b"one")]


def test_a_retry_that_overtakes_its_first_request_brings_back_nothing_that_was_erased(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app, people = make()
    service, vera = app.state.service, Actor(people["vera"][0], Role.viewer, "vera")
    file = tmp_path / "file"
    file.write_bytes(b"private")
    given = [(file, sha256_bytes(b"private"), 7)]

    def the_other_one() -> None:
        row = service.detect(vera, given, idempotency_key="key", fingerprint="same")[0]
        service.erase(vera, row["id"])

    meanwhile(app, monkeypatch, the_other_one)
    assert service.detect(vera, given, idempotency_key="key", fingerprint="same")[0]["state"] == "erased" and stored(app) == []


def test_a_queue_that_fills_in_the_last_moment_keeps_nothing_of_who_came_late(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app, people = make(max_batch_files=1, workers__queue_length=1)
    service = app.state.service
    file = tmp_path / "file"
    file.write_bytes(b"early")
    early = [(file, sha256_bytes(b"early"), 5)]
    meanwhile(app, monkeypatch, lambda: service.detect(Actor(people["rob"][0], Role.reviewer, "rob"), early))
    is_problem(send(app, people["vera"], b"late"), 429)
    assert stored(app) == [sha256_bytes(b"early")]


def test_what_somebody_else_sent_stays_when_the_same_file_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    app, people = make(max_batch_files=1, workers__queue_length=1)
    service = app.state.service
    send(app, people["rob"], b"shared")
    monkeypatch.setattr(service.detections, "make_room", lambda files: None)  # as where both came at the same moment
    is_problem(send(app, people["vera"], b"shared"), 429)
    assert stored(app) == [sha256_bytes(b"shared")] and service.media.has(sha256_bytes(b"shared"))


# -- a database that does not answer ------------------------------------------------------------------------------------------
@pytest.fixture
def busy(make: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FastAPI, dict[str, tuple[str, str]], sqlite3.Connection]]:
    """The app, its people, and who holds its database's write lock: roll that back, and it answers again."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    app, people = make()
    holder = sqlite3.connect(app.state.service.root / "feedback.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    yield app, people, holder
    holder.close()


def test_a_busy_database_asks_for_patience_and_what_was_stored_goes_later(busy: Any) -> None:
    """It was called a failure of the service, which the client does not send again; the refused file stayed on the disk for ever."""
    app, people, holder = busy
    service, uploads = app.state.service, app.state.service.media.scratch()
    refused = is_problem(send(app, people["vera"], b"refused"), 503)
    assert (refused["detail"], refused["next_step"]) == ("The database does not answer.", "Try again in a moment.")
    assert send(app, people["vera"], b"taken").headers["Retry-After"] == "5"
    holder.execute("ROLLBACK")
    assert send(app, people["vera"], b"taken").status_code == 202
    assert remove_leftovers(service.database, service.media) == 0 and len(stored(app)) == len(list(uploads.iterdir())) == 2
    for note in uploads.iterdir():
        os.utime(note, (0, 0))
    assert remove_leftovers(service.database, service.media) == 2 and list(uploads.iterdir()) == []
    assert stored(app) == [sha256_bytes(b"taken")], "what a row names stays"


def test_leftovers_wait_for_a_database_that_answers(busy: Any) -> None:
    app, people, holder = busy
    send(app, people["vera"], b"refused")
    (note,) = app.state.service.media.scratch().iterdir()
    os.utime(note, (0, 0))
    with pytest.raises(database.DatabaseSilent):
        remove_leftovers(app.state.service.database, app.state.service.media)
    holder.execute("ROLLBACK")
    assert remove_leftovers(app.state.service.database, app.state.service.media) == 1 and stored(app) == [] and not note.exists()


# -- what is killed -----------------------------------------------------------------------------------------------------------
def test_what_was_stored_and_never_accepted_goes_once_its_leftovers_are_old(make: Make) -> None:
    app, people = make()
    service, vera = app.state.service, Actor(people["vera"][0], Role.viewer, "vera")
    uploads = service.media.scratch()
    for name, content in (("a.part", b"accepted"), ("b.part", b"killed")):
        (uploads / name).write_bytes(content)
    service.detect(vera, [(uploads / "a.part", sha256_bytes(b"accepted"), 8)])
    put = service.media.put
    if os.fork() == 0:
        gc.freeze()  # as in tests/feedback/killing.py

        def killed(path: Path, sha256: str) -> None:
            put(path, sha256)
            os.kill(os.getpid(), signal.SIGKILL)

        service.media.put = killed
        service.detect(vera, [(uploads / "b.part", sha256_bytes(b"killed"), 6)])
    os.wait()
    assert stored(app) == sorted([sha256_bytes(b"accepted"), sha256_bytes(b"killed")])
    assert remove_leftovers(service.database, service.media) == 0, "fresh ones may belong to another server"
    for name in ("a.part", "b.part"):
        os.utime(uploads / name, (0, 0))
    assert remove_leftovers(service.database, service.media) == 2
    assert stored(app) == [sha256_bytes(b"accepted")] and list(uploads.iterdir()) == []


def test_what_a_request_has_is_no_leftover_however_long_it_takes(make: Make) -> None:
    # A batch that took longer than an hour to come lost its first files to the sweep, and ended as 500.
    app, people = make()
    service = app.state.service

    async def body() -> AsyncIterator[bytes]:
        for content in (b"first", b"second"):
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n"
            for path in service.media.scratch().glob("*.part"):
                os.utime(path, (0, 0))
            assert remove_leftovers(service.database, service.media) == 0
        yield b"--b--\r\n"

    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert ask(app, ("POST", "/v1/detections/batch", {"content": body(), "headers": form}), key=people["vera"][1])[0].status_code == 202
    assert stored(app) == sorted(sha256_bytes(content) for content in (b"first", b"second")) and list(service.media.scratch().iterdir()) == []


def test_folders_and_half_copies_of_killed_processes_go_too(make: Make) -> None:
    app, _ = make()
    service = app.state.service
    left = [service.media.scratch() / name for name in ("gathered-x1", "media-x2")] + [service.root / ".vigil/media" / f".{'a' * 64}.x3.tmp"]
    for folder in left[:2]:
        folder.mkdir()
        (folder / ("b" * 64)).write_bytes(b"a face")
    left[2].parent.mkdir()
    left[2].write_bytes(b"half a")
    assert remove_leftovers(service.database, service.media) == 0
    for path in left:
        os.utime(path, (0, 0))
    assert remove_leftovers(service.database, service.media) == 3 and not any(path.exists() for path in left)


def test_a_leftover_that_cannot_be_deleted_keeps_no_other(make: Make) -> None:
    app, _ = make()
    service, uploads = app.state.service, app.state.service.media.scratch()
    held = sha256_bytes(b"held")
    (service.root / ".vigil/media" / held).mkdir(parents=True)  # nothing unlinks a folder
    for name, content in (("a.part", b"held"), ("b.part", b"killed")):
        (uploads / name).write_bytes(content)
        os.utime(uploads / name, (0, 0))
    service.media.put(uploads / "b.part", sha256_bytes(b"killed"))
    assert remove_leftovers(service.database, service.media) == 2
    assert stored(app) == [held] and [path.name for path in uploads.iterdir()] == ["a.part"]
    (service.root / ".vigil/media" / held).rmdir()
    assert remove_leftovers(service.database, service.media) == 1 and stored(app) == list(uploads.iterdir()) == []


@pytest.mark.parametrize("times", [1, 2])
def test_media_that_go_while_they_are_taken_in_are_stored_once_more_and_then_asked_for_again(make: Make, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    app, people = make()
    media, put, left = app.state.service.media, app.state.service.media.put, [None] * times

    def gone_at_once(path: Path, sha256: str) -> None:
        put(path, sha256)
        if left:
            left.pop()
            media.delete(sha256)

    monkeypatch.setattr(media, "put", gone_at_once)
    said = send(app, people["vera"], b"one")
    if times == 1:
        assert said.status_code == 202 and stored(app) == [sha256_bytes(b"one")]
    else:
        assert is_problem(said, 503)["next_step"] == "Send it again." and said.headers["Retry-After"] == "1" and stored(app) == []
        assert send(app, people["vera"], b"one").status_code == 202
