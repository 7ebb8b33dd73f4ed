"""A file by reference: from a host or a bucket on the list, bounded, and nothing of it left behind."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from feedback.api import references
from feedback.api.problems import Problem
from tests.feedback.buckets import CREDENTIALS, s3_server
from tests.feedback.conftest import Make, ask
from tests.feedback.test_service import is_problem
from workspace.files import sha256_bytes

CONTENT = b"\xff\xd8\xff a picture, or so it says"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, length = self.path, None
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/a.jpg")
            body = b""
        elif path == "/missing":
            self.send_response(404)
            body = b"none"
        else:
            self.send_response(200)
            body = {"/empty": b"", "/large": b"x" * 70_000}.get(path, CONTENT)
            length = 10_000 if path == "/broken" else None
            if path.startswith("/coded-"):
                self.send_header("Content-Encoding", path.removeprefix("/coded-"))
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if path == "/slow":
            self.server.closing.wait(20)  # type: ignore[attr-defined]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.closing = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.closing.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def send(make: Make, *names: str, **feedback: Any) -> list[Any]:
    app, people = make(**feedback)
    answers = ask(app, *(("POST", "/v1/detections?wait=0", {"json": {"reference": name}}) for name in names), key=people["vera"][1])
    root: Path = app.state.service.root
    assert not list((root / ".vigil/uploads").glob("*.part")), "nothing is left behind"
    return answers


LOCAL = {"reference_hosts": ["127.0.0.1"], "allow_private_addresses": True}


def test_a_file_on_a_listed_host_is_taken_as_if_it_had_been_sent(make: Make, host: str) -> None:
    (answer,) = send(make, f"{host}/a.jpg", **LOCAL)
    assert answer.status_code == 202 and answer.json()["sha256"] == sha256_bytes(CONTENT)


@pytest.mark.parametrize(
    ("path", "why"),
    [("/moved", "redirects"), ("/missing", "404"), ("/empty", "empty"), ("/broken", "127.0.0.1"), ("/coded-gzip", "it comes compressed (gzip)")],
)
def test_what_cannot_be_fetched_whole_is_refused(make: Make, host: str, path: str, why: str) -> None:
    (answer,) = send(make, f"{host}{path}", **LOCAL)
    is_problem(answer, 422)
    assert why in answer.text


def test_what_a_bucket_keeps_compressed_is_refused_and_what_says_that_it_is_not_is_taken(make: Make, host: str) -> None:
    """It got a verdict on the compressed bytes, "not a media file", which was recorded and counted: uploads that come so are refused."""
    with s3_server("inbox") as (endpoint, client):
        for coding in ("gzip", "aws-chunked,br", "aws-chunked", "identity"):
            client.put_object(Bucket="inbox", Key=coding, Body=CONTENT, ContentEncoding=coding)
        names = [f"s3://inbox/{coding}" for coding in ("gzip", "aws-chunked,br", "aws-chunked", "identity")]
        lists = {"reference_hosts": ["s3://inbox", "127.0.0.1"], "allow_private_addresses": True, "s3_endpoint_url": endpoint}
        *refused, chunked, plain, by_host = send(make, *names, f"{host}/coded-identity", **lists)
    assert ["it comes compressed (gzip)" in refused[0].text, "it comes compressed (br)" in refused[1].text] == [True, True]
    assert [answer.status_code for answer in (*refused, chunked, plain, by_host)] == [422, 422, 202, 202, 202]


def test_more_than_may_be_sent_is_not_fetched_either(make: Make, host: str) -> None:
    app, people = make(**LOCAL)
    service = app.state.service
    service.settings.serve.__dict__["max_upload_bytes"] = 60_000
    (answer,) = ask(app, ("POST", "/v1/detections", {"json": {"reference": f"{host}/large"}}), key=people["vera"][1])
    is_problem(answer, 413)
    assert not list((service.root / ".vigil/uploads").glob("*.part"))


def test_a_host_that_never_answers_is_not_waited_for(make: Make, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "FETCH_SECONDS", 0.5)
    (answer,) = send(make, f"{host}/slow", **LOCAL)
    is_problem(answer, 422)


def test_fetches_from_a_store_that_hangs_keep_nobody_else_waiting(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """They held every thread of the service: a few of one account's kept all others waiting for a minute."""
    reached: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer)

    async def go() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))  # as on a small machine
        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        app, people = make(reference_hosts=["s3://inbox"], s3_endpoint_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        headers = {"Authorization": f"Bearer {people['vera'][1]}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vigil", headers=headers) as client:
            fetches = [asyncio.create_task(client.post("/v1/detections?wait=0", json={"reference": "s3://inbox/a.jpg"})) for _ in range(4)]
            while len(reached) < 4 and not any(fetch.done() for fetch in fetches):
                await asyncio.sleep(0.01)
            another = {"Authorization": f"Bearer {people['rob'][1]}"}
            assert (await client.get("/v1/cases", headers=another)).status_code == 200 and not any(fetch.done() for fetch in fetches)
            for fetch in fetches:
                fetch.cancel()
            await asyncio.gather(*fetches, return_exceptions=True)
        server.close()
        for writer in reached:
            writer.close()
        assert not list((app.state.service.root / ".vigil/uploads").glob("*.part"))

    monkeypatch.setattr(references, "FETCH_SECONDS", 20.0)  # where it is not so, it ends
    for name, value in {**CREDENTIALS, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    asyncio.run(go())


def test_a_download_that_nobody_waits_for_stops_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    app, _ = make(reference_hosts=["s3://inbox"])
    settings, path, given_up = app.state.service.settings, tmp_path / "upload.part", threading.Event()
    with s3_server("inbox") as (endpoint, client):
        client.put_object(Bucket="inbox", Key="a.jpg", Body=CONTENT)
        settings.feedback.__dict__["s3_endpoint_url"] = endpoint
        with pytest.raises(FileNotFoundError):
            references._download("inbox", "a.jpg", path, settings, given_up)
        path.touch()
        given_up.set()
        with pytest.raises(Problem):
            references._download("inbox", "a.jpg", path, settings, given_up)
    assert path.read_bytes() == b""


def test_the_same_reference_under_the_same_key_is_the_same_detection_whatever_lies_there_by_now(make: Make) -> None:
    """A retry was told that nothing was fetched, or that it was another request, once the address had gone or said something else."""
    with s3_server("inbox") as (endpoint, client):
        app, people = make(reference_hosts=["s3://inbox"], s3_endpoint_url=endpoint)

        def sent(**more: str) -> httpx.Response:
            key, asked = {"Idempotency-Key": more.pop("key", "a key")}, {"reference": "s3://inbox/a.jpg", **more}
            return ask(app, ("POST", "/v1/detections?wait=0", {"json": asked, "headers": key}), key=people["vera"][1])[0]

        client.put_object(Bucket="inbox", Key="a.jpg", Body=CONTENT)
        first = sent()
        client.put_object(Bucket="inbox", Key="a.jpg", Body=CONTENT + b"more")
        assert (first.status_code, sent().json()["id"]) == (202, first.json()["id"])
        client.delete_object(Bucket="inbox", Key="a.jpg")
        assert sent().json()["id"] == first.json()["id"]
        for another in ({"policy": "forensics"}, {"reference": "s3://inbox/b.jpg"}):
            assert "came before with another request" in is_problem(sent(**another), 422)["detail"]
        assert "NoSuchKey" in is_problem(sent(key="another"), 422)["detail"]
    assert app.state.service.detections.waiting() == 1


def test_a_host_or_bucket_that_is_not_listed_or_lies_inside_is_refused(make: Make, host: str) -> None:
    for listed in ({}, {"reference_hosts": ["media.example"]}, {"reference_hosts": ["127.0.0.1"]}):
        for answer in send(make, f"{host}/a.jpg", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "s3://bucket/key", "x", **listed):
            is_problem(answer, 422)


def test_a_file_in_a_listed_bucket_is_fetched(make: Make) -> None:
    with s3_server("inbox") as (endpoint, client):
        client.put_object(Bucket="inbox", Key="a/b.jpg", Body=CONTENT)
        names = ("s3://inbox/a/b.jpg", "s3://inbox/none", "s3://outbox/a/b.jpg")
        found, missing, other = send(make, *names, reference_hosts=["s3://inbox"], s3_endpoint_url=endpoint)
    assert found.status_code == 202 and found.json()["sha256"] == sha256_bytes(CONTENT)
    is_problem(missing, 422)
    is_problem(other, 422)
