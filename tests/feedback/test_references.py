"""A file by reference: from a host or a bucket on the list, bounded, and nothing of it left behind."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from feedback.api import references
from tests.feedback.buckets import s3_server
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


@pytest.mark.parametrize(("path", "why"), [("/moved", "redirects"), ("/missing", "404"), ("/empty", "empty"), ("/broken", "127.0.0.1")])
def test_what_cannot_be_fetched_whole_is_refused(make: Make, host: str, path: str, why: str) -> None:
    (answer,) = send(make, f"{host}{path}", **LOCAL)
    is_problem(answer, 422)
    assert why in answer.text


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
