"""Who may do less than a moment ago: what had begun by then ends with the key, the session, the account or the role."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import feedback.api.events
from feedback.access import Role
from tests.feedback.conftest import PASSWORD, Make, ask
from tests.feedback.test_queue import SAID
from tests.feedback.test_service import is_problem
from workspace.files import sha256_bytes

People = dict[str, tuple[str, str]]


def of(people: People, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {people[name][1]}"}


def revoke(app: FastAPI, people: People, name: str) -> None:
    accounts = app.state.service.accounts
    assert [accounts.revoke_key(key["id"], "system:test") for key in accounts.list_keys(people[name][0])]


def judge(app: FastAPI) -> None:
    """The oldest upload that waits gets its verdict."""
    detections = app.state.service.detections
    assert detections.finish(detections.claim("w")["id"], "w", SAID) is not None


def watched(app: FastAPI, people: People, headers: dict[str, str], happens: Callable[[], Any]) -> str:
    """What is told of an upload to who has these headers, where this happens while it waits, and then it gets its verdict."""
    files, left = {"file": ("a", f"watched {headers} {happens}".encode())}, [happens]
    detection_id = ask(app, ("POST", "/v1/detections?wait=0", {"files": files}), key=people["vera"][1])[0].json()["id"]

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        async def meanwhile(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body" and left:
                left.pop()()
                judge(app)

        await app(scope, receive, meanwhile)

    answer = ask(streaming, ("GET", f"/v1/detections/{detection_id}/events", {"headers": headers}))[0]  # type: ignore[arg-type]
    assert answer.status_code == 200 and answer.text.startswith("event: progress")
    return answer.text


def test_who_watches_is_told_nothing_more_once_the_access_has_ended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reviewer was handed verdict and reason of somebody's file up to an hour after the key was revoked."""
    monkeypatch.setattr(feedback.api.events, "LOOK_SECONDS", 0.05)
    app, people = make()
    accounts = app.state.service.accounts
    session = {"Cookie": f"vigil_session={accounts.log_in('rita', PASSWORD).token}"}
    for headers in (of(people, "rob"), session):
        assert "event: done" in watched(app, people, headers, lambda: None)
    for headers, happens in (
        (of(people, "rob"), lambda: revoke(app, people, "rob")),
        (session, lambda: accounts.govern(people["rita"][0], "system:test", disabled=True)),
        (of(people, "rosa"), lambda: accounts.govern(people["rosa"][0], "system:test", role=Role.viewer)),
    ):
        assert "event: done" not in watched(app, people, headers, happens)


def test_who_waits_for_a_verdict_is_told_that_it_is_to_come_once_the_access_has_ended(make: Make) -> None:
    app, people = make()

    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vigil", headers=of(people, "vera")) as client:
            asking = asyncio.create_task(client.post("/v1/detections?wait=60", files={"file": ("a", b"one")}))
            while not app.state.service.detections.waiting():
                await asyncio.sleep(0.01)
            revoke(app, people, "vera")
            judge(app)
            return await asking

    answer = asyncio.run(go())
    assert (answer.status_code, answer.json()["state"], answer.json()["verdict"]) == (202, "queued", ""), "it was taken in"


@pytest.mark.parametrize("path", ["/v1/detections?wait=0", "/v1/detections/batch"])
def test_an_upload_whose_sender_is_disabled_meanwhile_is_not_taken_in(make: Make, path: str) -> None:
    app, people = make()
    service = app.state.service

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\none'
        service.accounts.govern(people["vera"][0], "system:test", disabled=True)
        yield b"\r\n--b--\r\n"

    form = {"Content-Type": "multipart/form-data; boundary=b"}
    is_problem(ask(app, ("POST", path, {"content": body(), "headers": form}), key=people["vera"][1])[0], 401)
    assert not service.detections.waiting() and not service.media.has(sha256_bytes(b"one")) and not list(service.media.scratch().iterdir())
