"""The client that ships, and one generated from the API's description, against a running service."""

import hashlib
import hmac
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import uvicorn
import yaml

from feedback.client import BadSignature, Client, Detection, FileChanged, NotDone, VigilApiError, verify_webhook
from feedback.webhooks import signature
from tests.feedback.conftest import PATIENCE_SECONDS, Make, Service, running, wait_for
from workspace.files import sha256_bytes


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path]) -> Iterator[Service]:
    """One service for this file."""
    from workspace.profiles import compose_params

    root = tmp_path_factory.mktemp("client") / "workspace"
    (root / ".vigil").mkdir(parents=True)
    params = yaml.safe_load(compose_params("demo"))
    params["feedback"] |= {"webhook_hosts": ["127.0.0.1"], "reference_hosts": ["127.0.0.1"], "allow_private_addresses": True}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    with running(root, "--model-dir", str(models[0])) as service:
        service.until_ready()
        yield service


@contextmanager
def closing_server(server: HTTPServer) -> Iterator[str]:
    """It serves for as long as this block lasts: its address."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def of(service: Service, name: str) -> Client:
    """The client of one of the people."""
    return Client(service.url, service.people[name][1])


def test_a_picture_is_sent_and_answered_and_a_video_is_waited_for(served: Service, picture: bytes, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_bytes(picture)
    with of(served, "vera") as vigil:
        found = vigil.detect(tmp_path / "face.jpg", policy="moderation")
        assert found.done and found.verdict == "uncertain" and found.kind == "image" and found.policy == "moderation"
        assert found.sha256 == sha256_bytes(picture) and found.p_fake == pytest.approx(0.5, abs=1e-3) and found.raw["file"] == "face.jpg"
        sent = vigil.send(clip)
        assert not sent.done or sent.kind == "video"
        watched = vigil.wait(sent.id)
        assert watched.done and watched.kind == "video" and watched.faces == 1 and watched == vigil.get(sent.id)
        assert vigil.picture(sent.id)[:4] == b"RIFF" and vigil.report(sent.id)["signature"]
        assert vigil.report_pdf(sent.id).startswith(b"%PDF")


def test_a_path_may_be_a_text_and_what_is_neither_path_nor_bytes_is_never_sent(served: Service, picture: bytes, tmp_path: Path) -> None:
    """The text of the path was sent as the file, and its verdict was that it is no media file."""
    named, odd = tmp_path / "named.jpg", tmp_path / os.fsdecode(b"od\xffd.jpg")
    named.write_bytes(picture + b"text")
    odd.write_bytes(picture + b"odd")
    with of(served, "vera") as vigil:
        found = vigil.send(str(named))
        assert (found.sha256, found.raw["file"]) == (sha256_bytes(picture + b"text"), "named.jpg")
        assert [one.sha256 for one in vigil.send_batch([str(named), odd])] == [sha256_bytes(picture + b"text"), sha256_bytes(picture + b"odd")]
        before = [one.id for one in vigil.history()]
        for wrong in (None, 3, bytearray(picture)):
            with pytest.raises(TypeError, match="its path or its bytes"):
                vigil.detect(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="list of files"):
            vigil.send_batch(str(named))
        with pytest.raises(FileNotFoundError):
            vigil.send(str(tmp_path / "none.jpg"))
        assert [one.id for one in vigil.history()] == before


def test_progress_ends_with_the_verdict(served: Service, clip: bytes) -> None:
    with of(served, "vera") as vigil:
        told = list(vigil.progress(vigil.send(clip + b"\0" * 16).id))
        assert told[-1].done and told[-1].verdict and all(not one.done for one in told[:-1])


def test_a_batch_is_several_detections_and_history_finds_them_page_by_page(served: Service, picture: bytes) -> None:
    with of(served, "rita") as vigil:
        sent = vigil.send_batch([picture + bytes([number]) for number in range(5)])
        assert len({one.id for one in sent}) == 5
        for one in sent:
            vigil.wait(one.id)
        assert [one.id for one in vigil.history(page=2)] == [one.id for one in reversed(sent)], "newest first, none twice, none left out"


def test_the_same_key_is_the_same_detection_and_another_question_is_refused(served: Service, picture: bytes) -> None:
    with of(served, "vera") as vigil:
        first, again = (vigil.send(picture, idempotency_key="mine") for _ in range(2))
        assert first.id == again.id
        with pytest.raises(VigilApiError, match="Idempotency-Key") as refused:
            vigil.send(picture, policy="forensics", idempotency_key="mine")
        assert refused.value.status == 422 and refused.value.next_step


def test_a_verdict_is_disputed_and_reviewed_and_taken_back(served: Service, picture: bytes) -> None:
    with of(served, "vera") as vigil, of(served, "rob") as reviewer:
        case_id = vigil.dispute(vigil.detect(picture + b"dispute").id, "real", "it is me").case_id
        assert case_id
        assert reviewer.case(case_id).state == "open" and case_id in {case.id for case in reviewer.queue(100)}
        assert reviewer.review(case_id, "real", seconds=1.5).needed >= 1
        assert reviewer.undo(case_id).state == "open"
        with pytest.raises(VigilApiError) as refused:
            vigil.queue()
        assert refused.value.status == 403


def test_what_is_refused_says_why(served: Service) -> None:
    with Client(served.url, "vigil_nonsense") as nobody, of(served, "vera") as vigil:
        with pytest.raises(VigilApiError, match="not known"):
            nobody.models()
        with pytest.raises(VigilApiError) as refused:
            vigil.get("0" * 32)
        assert refused.value.status == 404
        with pytest.raises(VigilApiError, match="not among the allowed hosts"):
            vigil.send_reference("http://169.254.169.254/latest/meta-data")
        assert vigil.models()["serving"]["model"]


def test_a_file_is_erased(served: Service, picture: bytes) -> None:
    with of(served, "vera") as vigil:
        found = vigil.detect(picture + b"erase")
        vigil.erase(found.id, "a mistake")
        assert vigil.get(found.id).state == "erased"


class Elsewhere(BaseHTTPRequestHandler):
    """Has a picture, and takes webhooks."""

    has: ClassVar[bytes] = b""
    told: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_GET(self) -> None:
        """The picture."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.has)

    def do_POST(self) -> None:
        """A webhook."""
        self.told.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_what_is_secret_in_an_address_does_not_reach_the_log(served: Service, picture: bytes) -> None:
    """httpx told of each request with its whole address: the token of a webhook, the signature of a presigned file."""
    Elsewhere.has = picture + b"elsewhere"
    with closing_server(HTTPServer(("127.0.0.1", 0), Elsewhere)) as url, of(served, "vera") as vigil:
        hook, secret = vigil.add_webhook(f"{url}/hook?token=s3cret")
        found = vigil.wait(vigil.send_reference(f"{url}/a.jpg?X-Amz-Signature=s3cret").id)
        wait_for(lambda: Elsewhere.told, bool, served.log)
        vigil.remove_webhook(hook)
    headers, body = Elsewhere.told[0]
    assert verify_webhook(secret, headers, body)["data"]["id"] == found.id
    assert "s3cret" not in served.log.read_text()


# -- retries, against a server that says no at first ------------------------------------------------------------------------------
class Reluctant(BaseHTTPRequestHandler):
    """Answers 429 and 503 before it answers."""

    refusals: ClassVar[list[tuple[int, str]]] = []
    keys: ClassVar[list[str]] = []
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        """Refuse as long as there are refusals left."""
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.keys.append(self.headers.get("Idempotency-Key", ""))
        status, retry_after = self.refusals.pop(0) if self.refusals else (201, "")
        body = json.dumps({"id": "1" * 32, "state": "queued", "progress": 0, "sha256": "", "detail": "full"}).encode()
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def reluctant() -> Iterator[str]:
    """Its address."""
    Reluctant.refusals, Reluctant.keys, Reluctant.bodies = [], [], []
    with closing_server(HTTPServer(("127.0.0.1", 0), Reluctant)) as url:
        yield url


def test_what_may_pass_is_tried_again_with_the_same_key_and_after_the_pause_that_was_asked_for(reluctant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("feedback.client.time.sleep", pauses.append)
    Reluctant.refusals = [(429, "7"), (503, ""), (429, "99999"), (502, ""), (504, "")]
    with Client(reluctant, "vigil_x") as vigil:
        assert vigil.send(b"x").state == "queued"
    assert len(Reluctant.keys) == 6 and len(set(Reluctant.keys)) == 1 and Reluctant.keys[0]
    assert pauses[0] == 7 and 0 < pauses[1] < 2 and pauses[2] == 60, "a pause has an end, whatever the server says"


def test_a_file_is_sent_in_pieces_whole_in_each_try_and_never_in_two_states(reluctant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times its size and more was held in memory."""
    path, content = tmp_path / "a.mp4", os.urandom(300_000)
    path.write_bytes(content)
    most, send = [0], socket.socket.sendall
    monkeypatch.setattr(socket.socket, "sendall", lambda one, piece, *more: (most.append(len(piece)), send(one, piece, *more))[1])
    monkeypatch.setattr("feedback.client.time.sleep", lambda _: None)
    Reluctant.refusals = [(503, ""), (429, "1")]
    with Client(reluctant, "vigil_x") as vigil:
        assert vigil.send(path).state == "queued" and max(most) < 100_000
        assert [content in body for body in Reluctant.bodies] == [True] * 3
        Reluctant.refusals = [(503, "")]
        monkeypatch.setattr("feedback.client.time.sleep", lambda _: path.write_bytes(content[1:]))
        with pytest.raises(FileChanged, match=r"a\.mp4 changed while it was sent.*send it again"):
            vigil.send_batch([b"x", path])


def test_tries_end(reluctant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.client.time.sleep", lambda _: None)
    Reluctant.refusals = [(429, "1")] * 9
    with Client(reluctant, "vigil_x", tries=3) as vigil, pytest.raises(VigilApiError, match="full"):
        vigil.send(b"x")
    assert len(Reluctant.keys) == 3


def test_no_verdict_in_time_is_said_with_how_far_it_was() -> None:
    row = {"id": "1" * 32, "state": "running", "progress": 0.25, "sha256": "a"}
    transport = httpx.MockTransport(lambda request: httpx.Response(404 if request.url.path.endswith("events") else 200, json=row))
    with Client("http://vigil", "vigil_x", transport=transport) as vigil, pytest.raises(NotDone, match="25%") as late:
        vigil.wait("1" * 32, timeout_seconds=0)
    assert late.value.detection.progress == 0.25


def test_heartbeats_do_not_make_it_wait_for_ever(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each heartbeat began the connection's time-out anew, and a verdict that never came was waited for without an end."""
    for name, seconds in (("LOOK_SECONDS", 0.02), ("HEARTBEAT_SECONDS", 0.05)):
        monkeypatch.setattr(f"feedback.api.events.{name}", seconds)
    app, people = make()
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning"))
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    wait_for(lambda: server.started, bool)
    told: list[Exception] = []

    def detect() -> None:
        with Client(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", people["vera"][1]) as vigil:
            try:
                vigil.detect(b"\0\0\0\x20ftypisom", timeout_seconds=0.5)
            except NotDone as late:
                told.append(late)

    asking = threading.Thread(target=detect, daemon=True)
    asking.start()
    asking.join(PATIENCE_SECONDS)
    server.should_exit = True
    serving.join(PATIENCE_SECONDS)
    assert told


def test_an_answer_of_a_newer_service_is_still_understood() -> None:
    forged = [{"track": 0, "start_seconds": 1.0, "end_seconds": 2.0, "p_fake": 0.9, "since_next_year": True}]
    found = Detection.of({"id": "a", "state": "done", "progress": 1.0, "verdict": "fake", "sha256": "b", "forged": forged, "brand_new": 1})
    assert found.done and found.forged[0].end_seconds == 2.0 and found.raw["brand_new"] == 1


# -- webhooks -------------------------------------------------------------------------------------------------------------------
def test_a_webhooks_signature_is_checked_over_its_time_and_its_body() -> None:
    body, stamp = b'{"id":"1","event":"detection.done"}', str(int(time.time()))
    headers = {"VIGIL-timestamp": stamp, "vigil-Signature": signature("s", stamp, body)}
    assert headers["vigil-Signature"] == "v1=" + hmac.new(b"s", f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert verify_webhook("s", headers, body)["event"] == "detection.done"
    old = str(int(time.time()) - 3600)
    wrong: list[tuple[str, dict[str, str], bytes]] = [
        ("t", headers, body),
        ("s", headers, body + b" "),
        ("s", {**headers, "VIGIL-timestamp": str(int(stamp) + 1)}, body),
        ("s", {**headers, "vigil-Signature": ""}, body),
        ("s", {**headers, "vigil-Signature": "v1=\u00e9"}, body),
        ("s", {}, body),
        ("s", {"Vigil-Timestamp": old, "Vigil-Signature": signature("s", old, body)}, body),
    ]
    for secret, given, content in wrong:
        with pytest.raises(BadSignature):
            verify_webhook(secret, given, content)


# -- a client made from the description -------------------------------------------------------------------------------------------
def test_a_client_generated_from_the_description_talks_to_the_service(served: Service, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = shutil.which("openapi-python-client", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if tool is None:
        pytest.skip("openapi-python-client is not installed")
    (tmp_path / "openapi.json").write_bytes(served.client.get("/openapi.json").content)
    config = {  # no hooks: it would format its code with tools that may be absent; pictures and pages are bytes to it
        "post_hooks": [],
        "content_type_overrides": dict.fromkeys(("image/webp", "application/pdf", "text/csv", "text/event-stream", "text/plain"), "application/octet-stream"),
    }
    (tmp_path / "config.yml").write_text(json.dumps(config))
    words = [tool, "generate", "--path", "openapi.json", "--output-path", "made", "--meta", "none", "--config", "config.yml"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "warning" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    made, read, listed = (importlib.import_module(name) for name in ("made", "made.api.detections.detection", "made.api.detections.detections"))
    client = made.AuthenticatedClient(base_url=served.url, token=served.people["vera"][1])
    sent = served.client.post("/v1/detections", files={"file": ("a.jpg", picture)}, params={"wait": 60}).json()
    found = read.sync(sent["id"], client=client)
    assert type(found).__name__ == "Detection" and found.id == sent["id"] and found.verdict == "uncertain" and found.sha256 == sha256_bytes(picture)
    page = listed.sync(client=client, limit=1)
    assert page.detections[0].id == sent["id"]
    refused = read.sync("0" * 32, client=client)
    assert type(refused).__name__ == "ProblemBody" and refused.status == 404
