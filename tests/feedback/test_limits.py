"""What a request may not do, whoever sends it: too often, too long, too slowly, from elsewhere, without its token."""

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

import feedback.api.guard
import feedback.api.limits
import feedback.api.uploads
from feedback import audit
from feedback.api.caller import COOKIE, CSRF_HEADER, Buckets
from feedback.api.guard import LARGEST_JSON, THIS_MACHINE
from feedback.api.limits import LONGEST_HEAD_BYTES, BoundedProtocol
from tests.feedback.conftest import PASSWORD, Make, ask
from tests.feedback.test_service import is_problem
from tests.feedback.world import JPEG, World


@given(a_minute=st.integers(1, 600), gaps=st.lists(st.floats(0, 30), min_size=1, max_size=80))
def test_no_span_of_time_sees_more_than_the_burst_and_what_was_refilled(a_minute: int, gaps: list[float]) -> None:
    buckets, moment, taken = Buckets(a_minute), 0.0, []
    for gap in gaps:
        moment += gap
        wait = buckets.take("a", moment)
        if wait == 0:
            taken.append(moment)
        else:
            assert 0 < wait <= 60 / a_minute + 1e-6, "what is said to be the wait is enough"
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= a_minute + (taken[last] - taken[first]) * a_minute / 60 + 1e-6


def test_a_bucket_is_one_callers_and_the_least_recently_seen_is_forgotten() -> None:
    buckets = Buckets(1, most=2)
    assert [buckets.take(who, 0.0) for who in "abab"] == [0, 0, 60, 60]
    assert buckets.take("c", 0.0) == 0 and buckets.take("b", 0.0) == 60 and buckets.take("a", 0.0) == 0


def test_what_is_owed_is_made_up_before_the_next_one_may_come() -> None:
    buckets = Buckets(60)
    assert buckets.take("a", 0.0) == 0
    buckets.owe("a", 99, 0.0)
    assert buckets.take("a", 0.0) == pytest.approx(41), "forty are owed, and the next is one"
    assert buckets.take("a", 40.5) == pytest.approx(0.5) and buckets.take("a", 41.0) == 0
    buckets.owe("b", 1, 41.0)
    assert buckets.take("b", 41.0) == 0, "whom it has forgotten, or never seen"


# -- the application itself, without its workers: what is accepted waits ---------------------------------------------------------
FILE = {"files": {"file": ("a.jpg", b"\xff\xd8\xff not really")}}


def test_above_the_rate_of_an_account_the_answer_is_429_with_the_wait_and_others_are_not_held_up(make: Make) -> None:
    app, people = make(requests_per_minute=3)
    answers = ask(app, *[("GET", "/v1/users/me", {})] * 4, key=people["vera"][1])
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    is_problem(answers[3], 429)
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 21
    assert ask(app, ("GET", "/v1/users/me", {}), key=people["rob"][1])[0].status_code == 200


def test_an_account_has_one_rate_whatever_keys_it_uses(make: Make) -> None:
    """Each key that somebody made for themselves had requests and uploads of its own: there was no bound for an account."""
    app, people = make(requests_per_minute=6, uploads_per_minute=2)
    accounts = app.state.service.accounts
    first, *others = [accounts.create_key(people["vera"][0], f"key {number}", "user:x")[1] for number in range(3)]
    upload = ("POST", "/v1/detections?wait=0", FILE)
    assert [answer.status_code for answer in ask(app, upload, upload, upload, key=first)] == [202, 202, 429]
    assert [ask(app, upload, key=key)[0].status_code for key in others] == [429, 429]
    assert [answer.status_code for answer in ask(app, *[("GET", "/v1/users/me", {})] * 2, key=people["vera"][1])] == [200, 429]
    assert ask(app, upload, key=people["rob"][1])[0].status_code == 202


def test_guessing_keys_has_the_rate_of_an_address(make: Make) -> None:
    app, people = make(requests_per_minute=3)
    guesses = [("GET", "/v1/users/me", {"headers": {"Authorization": f"Bearer vigil_guess{number}"}}) for number in range(5)]
    assert [answer.status_code for answer in ask(app, *guesses)] == [401, 401, 401, 429, 429]
    assert ask(app, ("GET", "/v1/users/me", {}), key=people["vera"][1])[0].status_code == 200, "who has a key is known by it, not by the address"


def test_uploads_and_sign_ups_have_rates_of_their_own(make: Make) -> None:
    app, people = make(uploads_per_minute=2, sign_ups_per_hour=1)
    uploads = ask(app, *[("POST", "/v1/detections?wait=0", FILE)] * 3, key=people["vera"][1])
    assert [answer.status_code for answer in uploads] == [202, 202, 429]
    given = {"json": {"name": "New", "email": "new@example.org", "user_name": "new", "password": PASSWORD}}
    made, refused = ask(app, ("POST", "/v1/sign-up", given), ("POST", "/v1/sign-up", given))
    assert made.status_code == 201 and is_problem(refused, 429) and int(refused.headers["Retry-After"]) > 60


def test_each_file_of_a_batch_counts_as_an_upload_and_a_batch_that_is_let_in_is_taken_whole(make: Make) -> None:
    """A batch was one upload: by default an account could send 32 times what is stated."""
    app, people = make(uploads_per_minute=4)
    three = ("POST", "/v1/detections/batch", {"files": [("file", (name, name.encode())) for name in "abc"]})
    upload = ("POST", "/v1/detections?wait=0", FILE)
    answers = ask(app, three, three, upload, three, key=people["vera"][1])
    assert [answer.status_code for answer in answers] == [202, 202, 429, 429], "there was room for the first file of the second"
    assert 31 <= int(answers[2].headers["Retry-After"]) <= 46, "two are owed, and one more is to come: a minute refills four"
    assert ask(app, ("GET", "/v1/users/me", {}), key=people["vera"][1])[0].status_code == 200
    more = {"files": [("file", (name, name.encode())) for name in "abcdefgh"]}
    assert ask(app, ("POST", "/v1/detections/batch", more), key=people["rob"][1])[0].status_code == 202, "more than a minute's"


def test_a_full_queue_is_429_and_stores_nothing(make: Make) -> None:
    app, people = make(max_batch_files=2, workers__queue_length=2)
    root = app.state.service.root
    assert ask(app, ("POST", "/v1/detections?wait=0", FILE), key=people["vera"][1])[0].status_code == 202
    both = {"files": [("file", ("a", b"one")), ("file", ("b", b"two"))]}
    is_problem(ask(app, ("POST", "/v1/detections/batch", both), key=people["vera"][1])[0], 429)
    assert ask(app, ("POST", "/v1/detections?wait=0", FILE), key=people["vera"][1])[0].status_code == 202, "there is room for one, and a batch takes none of it"
    refused = ask(app, ("POST", "/v1/detections?wait=0", {"files": {"file": ("a", b"another")}}), key=people["vera"][1])[0]
    assert is_problem(refused, 429)["next_step"] and refused.headers["Retry-After"] == "5"
    assert len(list((root / ".vigil/media").iterdir())) == 1 and list((root / ".vigil/uploads").iterdir()) == []


def test_only_names_of_the_service_are_answered_to(make: Make) -> None:
    app, _ = make(names=("vigil.example.org", *sorted(THIS_MACHINE)))
    for host in ("localhost:8000", "127.0.0.1", "[::1]:9", "VIGIL.example.org", "vigil.example.org:443", "vigil.example.org.:443"):
        assert ask(app, ("GET", "/healthz", {"headers": {"Host": host}}))[0].status_code == 200, host
    for host in ("evil.example", "vigil.example.org.evil.example", "127.0.0.1.evil.example", "[::1", "evil@localhost.evil"):
        assert "serve.host_names" in is_problem(ask(app, ("GET", "/healthz", {"headers": {"Host": host}}))[0], 421)["next_step"]


def test_a_page_of_another_site_can_change_nothing(make: Make) -> None:
    app, people = make(names=("vigil.example.org", *sorted(THIS_MACHINE)))
    key = people["vera"][1]

    def post(origin: str, host: str = "localhost:8000") -> httpx.Response:
        headers = {"Origin": origin, "Host": host}
        return ask(app, ("POST", "/v1/keys", {"json": {"name": "n"}, "headers": headers}), key=key)[0]

    for origin in ("http://localhost:8000", "https://vigil.example.org", ""):
        assert post(origin).status_code == 201, origin
    for origin in ("https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8000", "https://vigil.example.org.evil.example", "garbage"):
        is_problem(post(origin), 403)
    looked = ask(app, ("GET", "/healthz", {"headers": {"Origin": "https://evil.example", "Host": "localhost"}}))[0]
    assert looked.status_code == 200 and "access-control-allow-origin" not in looked.headers, "it may be asked, and the page cannot read the answer"


def test_a_live_connection_from_another_site_is_closed(make: Make) -> None:
    app, _ = make(names=("localhost",))

    async def connect(origin: str) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        headers = [(b"host", b"localhost"), (b"origin", origin.encode())]

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            said.append(dict(message))

        scope = {"type": "websocket", "path": "/v1/nothing", "raw_path": b"/v1/nothing", "query_string": b"", "headers": headers, "subprotocols": []}
        await app.middleware_stack(scope, receive, send) if app.middleware_stack else await app(scope, receive, send)
        return said

    assert asyncio.run(connect("https://evil.example")) == [{"type": "websocket.close", "code": 4403}]
    assert asyncio.run(connect("http://localhost"))[0].get("code") != 4403, "here it is only that there is nothing to connect to"


async def _in_pieces(size: int, before: bytes = b"") -> AsyncIterator[bytes]:
    yield before
    for _ in range(size // 10_000):
        yield b"x" * 10_000


def test_a_body_that_is_no_upload_is_bounded_whatever_it_calls_itself(make: Make) -> None:
    # Once a body that called itself multipart was let through on every route, and the framework read all of it into memory.
    app, people = make()
    large = b"x" * (LARGEST_JSON + 1)
    for path in ("/v1/keys", "/v1/sign-up", "/v1/detections", "/healthz", "/nowhere"):
        for kind in ("application/json", "multipart/form-data; boundary=b") if path != "/v1/detections" else ("application/json", "text/plain"):
            for content in (large, _in_pieces(2 * LARGEST_JSON)):
                answer = ask(app, ("POST", path, {"content": content, "headers": {"Content-Type": kind}}), key=people["vera"][1])[0]
                assert is_problem(answer, 413)["detail"] and answer.headers["connection"] == "close", (path, kind)
    two = [("Content-Type", "application/json"), ("Content-Type", "multipart/form-data; boundary=b"), ("Authorization", f"Bearer {people['vera'][1]}")]
    is_problem(ask(app, ("POST", "/v1/detections", {"content": large, "headers": two}))[0], 413)
    assert ask(app, ("POST", "/v1/keys", {"json": {"name": "n"}}), key=people["vera"][1])[0].status_code == 201


def test_a_form_that_is_wrong_already_is_parsed_no_further(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts without number held the event loop: an account's requests of ten megabytes of them had everybody wait seconds, for any page."""
    app, people = make()
    begun, parsed, begin, write = [0], [0], feedback.api.uploads._Form._part_begin, feedback.api.uploads.MultipartParser.write

    def count(form: Any) -> None:
        begun[0] += 1
        begin(form)

    def weigh(parser: Any, data: bytes) -> int:
        parsed[0] += len(data)
        return write(parser, data)

    monkeypatch.setattr(feedback.api.uploads._Form, "_part_begin", count)
    monkeypatch.setattr(feedback.api.uploads.MultipartParser, "write", weigh)

    def send(body: bytes, path: str = "/v1/detections") -> httpx.Response:
        begun[0] = parsed[0] = 0
        return ask(app, ("POST", f"{path}?wait=0", {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}), key=people["vera"][1])[0]

    file, last = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n', b"\r\n--b--\r\n"
    for path, most in (("/v1/detections", 1), ("/v1/detections/batch", 32)):
        wanted = "exactly one file" if most == 1 else "1 to 32 files"
        told = is_problem(send(b"--b\r\n\r\n\r\n" * 100_000 + last, path), 422)["detail"]
        assert told.startswith(f"Expected {wanted}, each in a part called `file`; found 0, and other parts: ") and begun[0] < 12
        told = is_problem(send((file + b"x\r\n") * 5_000 + last, path), 422)["detail"]
        assert told.endswith(f"found more than {most}.") and begun[0] < most + 2
        for unit, before in ((b"\r\n--b-x", b"x"), (b"\r\n--b\rx", b"x"), (b" " * 1000, b"x\r\n--b")):  # what only looks like a boundary, and blanks behind one
            is_problem(send(file + before + unit * (2_000_000 // len(unit)) + last, path), 400)
            assert parsed[0] < 500_000, unit
    others = b"".join(b'--b\r\nContent-Disposition: form-data; name="other%d"\r\n\r\nx\r\n' % number for number in range(5))
    assert "found 1, and other parts: other0, other1, other2, other3, other4." in is_problem(send(others + file + b"x" + last), 422)["detail"]
    assert list((app.state.service.root / ".vigil/uploads").iterdir()) == []
    heads = (file[:-2].replace(b'"a"', b'"' + "\u957f".encode() * 255 + b'"') + b"Content-Type: video/mp4\r\n\r\n", b"\r\n")
    assert send(b"".join(b"%b%d%b" % (heads[0], number, heads[1]) for number in range(32)) + last[2:], "/v1/detections/batch").status_code == 202


def test_a_body_that_never_comes_is_not_waited_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback.api.guard, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(feedback.api.uploads, "IDLE_SECONDS", 0.05)
    app, people = make()

    async def silent() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx'
        await asyncio.sleep(30)

    for path, kind in (("/v1/keys", "application/json"), ("/v1/detections", "multipart/form-data; boundary=b")):
        is_problem(ask(app, ("POST", path, {"content": silent(), "headers": {"Content-Type": kind}}), key=people["vera"][1])[0], 408)
    assert list((app.state.service.root / ".vigil/uploads").iterdir()) == []


def test_a_sender_that_trickles_is_ended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback.api.uploads, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(feedback.api.uploads, "SLOWEST_BYTES_A_SECOND", 10_000_000)
    app, people = make()
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    is_problem(ask(app, ("POST", "/v1/detections", {"content": _in_pieces(20_000, b"--b\r\n"), "headers": form}), key=people["vera"][1])[0], 408)


@pytest.mark.parametrize("whole", [False, True])
def test_a_stop_in_the_middle_of_an_upload_says_when_to_send_it_again_unless_it_was_taken_in(make: Make, caplog: pytest.LogCaptureFixture, whole: bool) -> None:
    """One that was taken in, and waited for its verdict, was to be sent again too: then there were two, and of the first nobody had the id."""
    app, people = make()
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", timeout_graceful_shutdown=1, log_config=None))
    uploads = app.state.service.root / ".vigil/uploads"

    async def go() -> bytes:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
        head = (
            f"Host: vigil\r\nAuthorization: Bearer {people['vera'][1]}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(b"POST /v1/detections?wait=60 HTTP/1.1\r\n" + head.encode() + (body if whole else body[:-9]))
        while not (app.state.service.detections.waiting() if whole else uploads.is_dir() and list(uploads.iterdir())):
            await asyncio.sleep(0.01)
        server.should_exit = True
        answer = await reader.read()
        writer.close()
        await serving
        return answer

    answer = asyncio.run(go())
    if whole:
        assert answer.startswith(b"HTTP/1.1 202") and b'"state":"queued"' in answer
    else:
        assert answer.startswith(b"HTTP/1.1 503") and b"retry-after: 5" in answer.lower()
    assert list(uploads.iterdir()) == []
    assert not [record for record in caplog.records if record.exc_info]


def test_head_is_answered_wherever_get_is_and_allow_names_all_methods_of_a_path(make: Make) -> None:
    """A load balancer that probed by HEAD took the service for dead, and Allow of a path with two routes named one."""
    app, people = make()
    key = people["ada"][1]
    sent = ask(app, ("POST", "/v1/detections?wait=0", FILE), key=key)[0].json()["id"]
    for path in ("/healthz", "/readyz", "/openapi.json", "/metrics", "/v1/detections", f"/v1/detections/{sent}", "/v1/users/me", "/v1/report-key", "/nowhere"):
        looked, head = ask(app, ("GET", path, {}), ("HEAD", path, {}), key=key)
        assert (head.status_code, head.content) == (looked.status_code, b""), path
        assert head.headers.get("content-type") == looked.headers["content-type"] and head.headers["x-content-type-options"] == "nosniff"
        assert head.headers.get("content-length") == looked.headers.get("content-length") or path == "/metrics", path
    assert ask(app, ("HEAD", f"/v1/detections/{sent}/events", {}), key=key)[0].status_code == 200, "and does not wait for the verdict"
    assert ask(app, ("HEAD", "/v1/users", {}))[0].status_code == 401
    told = ask(app, ("GET", "/metrics", {}), key=key)[0].text
    assert 'vigil_requests_total{method="HEAD",route="/v1/detections/{detection_id}",status="200"}' in told
    for method, path, allowed in (
        ("PUT", "/v1/detections", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/detections", "GET, HEAD, POST"),
        ("POST", f"/v1/detections/{sent}", "GET, HEAD, DELETE"),
        ("HEAD", "/v1/models/rollback", "POST"),
        ("DELETE", "/healthz", "GET, HEAD"),
    ):
        answer = ask(app, (method, path, {}), key=key)[0]
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), (method, path)


def test_head_has_nothing_made_and_nothing_written_into_the_trail(make: Make) -> None:
    """It ran the whole GET: a report was signed and recorded that nobody was given, an export too, and the explainer was kept for seconds."""
    app, people = make()
    world = World(app.state.service.root)
    sent = world.upload(JPEG, verdict="fake", reason="")[0]
    before = audit.verify(world.database)
    for path in ("/v1/export", f"/v1/detections/{sent}/report", f"/v1/detections/{sent}/explanation"):
        for method in ("HEAD", "POST"):
            answer = ask(app, (method, path, {}), key=people["ada"][1])[0]
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET") and (method == "POST") == bool(answer.content), (method, path)
    assert audit.verify(world.database) == before
    world.close()


def test_a_compressed_body_is_refused_with_what_to_do(make: Make) -> None:
    """It was "Expected boundary character 45, got 31", or an error parsing the body."""
    app, people = make()
    key, packed = people["vera"][1], gzip.compress(b'{"name": "n"}')
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    for path, kind in (("/v1/keys", {"Content-Type": "application/json"}), ("/v1/detections", form), ("/v1/detections/batch", form)):
        for coding in ("gzip", "br, identity"):
            answer = ask(app, ("POST", path, {"content": packed, "headers": {**kind, "Content-Encoding": coding}}), key=key)[0]
            assert "without Content-Encoding" in is_problem(answer, 415)["next_step"]
    as_it_is = {"json": {"name": "n"}, "headers": {"Content-Encoding": "Identity"}}
    assert ask(app, ("POST", "/v1/keys", as_it_is), key=key)[0].status_code == 201
    assert ask(app, ("POST", "/v1/detections?wait=0", {**FILE, "headers": {"Content-Encoding": "identity"}}), key=key)[0].status_code == 202
    assert ask(app, ("GET", "/v1/keys", {"headers": {"Content-Encoding": "gzip"}}), key=key)[0].status_code == 200, "there is no body"


def test_a_nul_reaches_no_database(make: Make) -> None:
    app, people = make()
    key = people["ada"][1]
    is_problem(ask(app, ("GET", "/v1/audit?about=a%00b", {}), key=key)[0], 400)
    is_problem(ask(app, ("GET", "/v1/detections/%00", {}), key=key)[0], 400)
    assert "NUL" in is_problem(ask(app, ("POST", "/v1/keys", {"json": {"name": "a\0b"}}), key=key)[0], 422)["detail"]


def test_addresses_and_heads_have_a_length(make: Make) -> None:
    app, _ = make()
    is_problem(ask(app, ("GET", "/" + "a" * 5000, {}))[0], 431)
    is_problem(ask(app, ("GET", "/healthz?" + "a" * 5000, {}))[0], 431)
    is_problem(ask(app, ("GET", "/healthz", {"headers": {"X": "a" * 40_000}}))[0], 431)
    is_problem(ask(app, ("GET", "/healthz", {"headers": [("Host", "a"), ("Host", "b")]}))[0], 431)


def test_every_answer_has_the_security_headers_refusals_too(make: Make) -> None:
    app, _ = make(names=("vigil",))
    elsewhere = ("GET", "/healthz", {"headers": {"Host": "evil.example"}})
    asked = [("GET", path, {}) for path in ("/healthz", "/v1/users", "/nowhere", "/consoleX", "/console-of-old/x")]
    for answer in ask(app, *asked, ("POST", "/v1/keys", {"content": b"{"}), elsewhere):
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY", answer.url
        assert "default-src 'none'" in answer.headers["content-security-policy"] and answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers


def test_a_session_may_look_and_changes_with_its_token_alone(make: Make) -> None:
    app, _ = make()
    service = app.state.service
    session, other = service.accounts.log_in("vera", PASSWORD), service.accounts.log_in("vera", PASSWORD)
    cookie = {"Cookie": f"{COOKIE}={session.token}"}

    def post(**more: str) -> httpx.Response:
        return ask(app, ("POST", "/v1/keys", {"json": {"name": "n"}, "headers": {**cookie, **more}}))[0]

    assert ask(app, ("GET", "/v1/users/me", {"headers": cookie}))[0].json()["user_name"] == "vera"
    for more in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: "x"}, {CSRF_HEADER: other.csrf}):
        is_problem(post(**more), 403)
    assert post(**{CSRF_HEADER: session.csrf}).status_code == 201
    service.accounts.log_out(session.token)
    is_problem(post(**{CSRF_HEADER: session.csrf}), 401)


# -- the connection itself, against a real server -----------------------------------------------------------------------------------
@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """A server with the protocol of the service and an app that tells how much it was sent."""

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        body = json.dumps({"bytes": size}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(whole, http=BoundedProtocol, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


def speak(address: tuple[str, int], *parts: bytes) -> bytes:
    """Send parts, then read until the server closes or falls silent."""
    with socket.create_connection(address, timeout=10) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            return _rest(connection)
        return _rest(connection)


def _rest(connection: socket.socket) -> bytes:
    said = b""
    try:
        while more := connection.recv(65536):
            said += more
    except OSError:
        return said
    return said


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"


def test_a_head_that_never_ends_is_ended(address: tuple[str, int]) -> None:
    lines, long_line = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40_000, b"GET / HTTP/1.1\r\nX: " + b"y" * (3 * LONGEST_HEAD_BYTES)
    for endless in (b"GET /" + b"a" * (2 * LONGEST_HEAD_BYTES), lines, long_line):
        assert speak(address, *[endless[at : at + 4096] for at in range(0, len(endless), 4096)])[:12] in (b"HTTP/1.1 431", b"")
    assert speak(address, LAST).endswith(b'{"bytes": 3}')


def test_a_head_that_never_comes_is_not_waited_for(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback.api.limits, "HEAD_SECONDS", 1.0)
    for begun in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: y\r\n"):
        assert speak(address, begun).startswith(b"HTTP/1.1 408"), begun
    first_one_was_whole = speak(address, LAST.replace(b"Connection: close\r\n", b""), b"GET / HT")
    assert first_one_was_whole.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 408" in first_one_was_whole


def test_what_is_no_http_is_refused_as_everything_is(address: tuple[str, int]) -> None:
    twice = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"
    for broken in (b"\x16\x03\x01\r\n\r\n", HEAD + b"zz\r\nabc\r\n", twice):
        said = speak(address, broken)
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400") and b"application/problem+json" in head and json.loads(body)["status"] == 400, said
    assert speak(address, LAST).endswith(b'{"bytes": 3}')


def test_trailers_and_framing_without_end_are_ended(address: tuple[str, int]) -> None:
    trailers = HEAD + b"1\r\nx\r\n0\r\n" + b"T: z\r\n" * 40_000
    assert b'"bytes"' not in speak(address, *[trailers[at : at + 4096] for at in range(0, len(trailers), 4096)])
    assert b'"bytes"' not in speak(address, HEAD + b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n")


def test_a_large_body_in_ordinary_chunks_and_many_requests_on_one_connection_are_fine(address: tuple[str, int]) -> None:
    chunks = b"400\r\n" + b"x" * 1024 + b"\r\n"
    assert b'{"bytes": 20971520}' in speak(address, HEAD, *[chunks * 64] * 320, b"0\r\n\r\n" + LAST)
    with socket.create_connection(address, timeout=10) as connection:
        for _ in range(400):
            connection.sendall(LAST.replace(b"Connection: close\r\n", b"X: " + b"y" * 500 + b"\r\n"))
            said = b""
            while not said.endswith(b'{"bytes": 3}'):
                said += connection.recv(4096)
    assert speak(address, LAST.replace(b"Connection: close\r\n", b"") * 50 + LAST).count(b'{"bytes": 3}') == 51, "asked without waiting for answers"
