"""Bounds on a connection before it is a request: heads that never end, heads that never come, and what surrounds a body's chunks.

The server below (uvicorn with httptools) reads a head of any length for any time; an application sees a request only when its
head is whole, which is too late to refuse it. So the protocol counts what comes that is no body.
"""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0
FRAMING_PART = 16  # chunk sizes and trailers may come to a sixteenth of the body: chunks of 128 bytes and more


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol that ends a connection whose head is too long (431) or too slow (408), and one on which something else than HTTP comes (400)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._bytes = self._body_bytes = 0  # since the last head was whole: of everything that is no body, and of the body
        self._timer: asyncio.TimerHandle | None = None
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes > LONGEST_HEAD_BYTES + self._body_bytes // FRAMING_PART and not self.transport.is_closing():
            self._refuse(431, f"The head of a request has at most {LONGEST_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._bytes = self._body_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bytes -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP as everything is refused; where an answer has begun, only end it."""
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete or not self.cycle.response_started):
            self.transport.write(_answer(400, msg))
        self.transport.close()

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, 408, f"The head of a request comes within {HEAD_SECONDS:.0f} s.")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, detail: str) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # else an answer has begun, and a second one would corrupt it
            self.transport.write(_answer(status, detail))
        self.transport.close()


def _answer(status: int, detail: str) -> bytes:
    title = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}[status]
    told: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body = json.dumps(told).encode()
    head = f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body
