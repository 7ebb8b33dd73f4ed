"""A faulty wire to a real S3 server: an HTTP proxy on loopback that cuts, lies, stalls and answers 500, and counts what it sent."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FOREVER = 10**6


@dataclass
class Fault:
    """What happens to the next `times` GETs of `path` (an end of the address; "" means the listing).

    cut: the connection ends after `at` bytes. short: so does the body, and Content-Length agrees with it. status: the server answers
    `code` and `error` in its place. wrong: one byte is another. stall: nothing comes after `at` bytes, for `seconds`. none: only `before` is called.
    """

    path: str
    kind: str
    times: int = FOREVER
    at: int = 0
    code: int = 500
    error: str = "InternalError"
    seconds: float = 5.0
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None  # once what is to be sent is sent, before the connection ends


class FaultyStore(ThreadingHTTPServer):
    """Passes requests on to the server at `backend`; `sent` counts body bytes by path, listings under ""."""

    daemon_threads = True

    def __init__(self, backend: str, fault: Fault | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Wire)
        self.backend, self.fault = urlsplit(backend).netloc, fault
        self.sent: Counter[str] = Counter()
        self.guard = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def take(self, path: str) -> Fault | None:
        """The fault that this request meets."""
        with self.guard:
            fault = self.fault
            if fault is None or not (path.endswith(fault.path) if fault.path else path == "") or fault.times <= 0:
                return None
            fault.times -= 1
            return fault

    def handle_error(self, *_: object) -> None:
        """A peer that is gone is what these tests are about."""


class _Wire(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyStore

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        path = "" if "list-type" in self.path else urlsplit(self.path).path
        fault = self.server.take(path) if self.command == "GET" else None
        if fault:
            fault.before()
        if fault and fault.kind == "status":
            self._answer(path, fault.code, [], f"<Error><Code>{fault.error}</Code></Error>".encode())
            return
        upstream = http.client.HTTPConnection(self.server.backend, timeout=20)
        try:
            upstream.request(self.command, self.path, content, dict(self.headers))
            answer = upstream.getresponse()
            body = answer.read()
        except OSError:  # the server is dead
            self.close_connection = True
            return
        finally:
            upstream.close()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in ("content-length", "connection", "transfer-encoding")]
        self._answer(path, answer.status, headers, body, int(answer.getheader("Content-Length") or 0), fault)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _answer(self, path: str, status: int, headers: list[tuple[str, str]], body: bytes, told: int = 0, fault: Fault | None = None) -> None:
        kind, at = (fault.kind, fault.at) if fault else ("", 0)
        if kind == "wrong":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if kind == "short":
            body = body[:at]
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(told if self.command == "HEAD" else len(body)))
        self.end_headers()
        sent = body[:at] if kind in ("cut", "stall") else body
        self.wfile.write(sent)
        self.wfile.flush()
        if self.command == "GET" and status < 300:
            with self.server.guard:
                self.server.sent[path] += len(sent)
        if fault:
            fault.after()
        if kind == "stall" and fault:
            time.sleep(fault.seconds)
        if kind in ("cut", "stall"):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def faulty_store(backend: str, fault: Fault | None = None) -> Iterator[FaultyStore]:
    """The proxy, running for the time of the block."""
    server = FaultyStore(backend, fault)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
