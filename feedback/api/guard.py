"""What every answer carries and every request must keep to, whatever route it goes to. Plain ASGI, so that it costs little."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback.api.problems import WITHOUT_HEAD, problem_response

LARGEST_JSON = 1 << 20
DRAINED = 8 << 20  # read and thrown away after a refusal, so that an ordinary client sees the answer and not a reset connection
BODY_SECONDS = 30.0
RETRY_SECONDS = "5"  # a service that is started anew answers within some
LONGEST_PATH, LONGEST_HEADERS = 4096, 32 << 10
UPLOADS = ("/v1/detections", "/v1/detections/batch")
SAFE = ("GET", "HEAD", "OPTIONS")
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
CONSOLE = "/console"  # has headers of its own


class Refused(Exception):
    """A request that goes no further: status, detail, next step."""


class _HeadSent(Exception):
    """The head of an answer has been sent, and no more was asked for."""


class Guard:
    """Refuses what no route should see, reads bodies that are not uploads whole and bounded, answers HEAD where the API has GET, and adds the security headers.

    names: the host names that the service answers to; empty for any. A page of another site that has its own name resolve to this machine
    (DNS rebinding) is refused by it, and what a browser sends from another site by its Origin.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        self.app, self.names = app, frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = {}
        size = 0
        for name, value in scope["headers"]:
            if name == b"host" and name in headers:
                size = LONGEST_HEADERS + 1  # two of them: different readers would believe different ones
            headers.setdefault(name, value)
            size += len(name) + len(value)
        if scope["type"] == "websocket":
            if self._from_elsewhere(headers, change=True):
                await receive()
                await send({"type": "websocket.close", "code": 4403})
                return
            await self.app(scope, receive, send)
            return
        send = _secured(scope, send)
        try:
            await self._answer(headers, size, scope, receive, send)
        except asyncio.CancelledError:  # the server was told to stop, and ends what is open after its grace
            again = {"Retry-After": RETRY_SECONDS, "Connection": "close"}
            with contextlib.suppress(RuntimeError):  # an answer that has begun ends with its connection
                await problem_response(503, "The service was stopped before the answer.", "Send it again.", again)(scope, receive, send)

    async def _answer(self, headers: dict[bytes, bytes], size: int, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if size > LONGEST_HEADERS or len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > LONGEST_PATH:
                raise Refused(431, "The headers or the address are too long, or there are two Host headers.", "")
            if b"%00" in scope["query_string"] or "\0" in scope["path"]:
                raise Refused(400, "There is a NUL in the address.", "")
            if refused := self._from_elsewhere(headers, scope["method"] not in SAFE):
                raise refused
            receive = await _bounded(scope, headers, receive)
        except Refused as problem:
            status, detail, next_step = problem.args
            await problem_response(status, detail, next_step, {"Connection": "close"})(scope, receive, send)
            return
        if scope["method"] != "HEAD" or _of_console(scope):
            await self.app(scope, receive, send)
            return
        asked = scope if WITHOUT_HEAD.fullmatch(scope["path"]) else {**scope, "method": "GET"}
        with contextlib.suppress(_HeadSent):
            await self.app(asked, receive, _head_of(send))
        scope.update({**asked, "method": "HEAD"})  # which route it was, for who counts

    def _from_elsewhere(self, headers: dict[bytes, bytes], change: bool) -> Refused | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.names and host and host_name(host) not in self.names:
            return Refused(421, f"This service does not answer to {host[:100]!r}.", "Add the name to serve.host_names.")
        origin = headers.get(b"origin", b"").decode("latin-1").lower().split("://", 1)[-1]
        if change and origin and origin != host and host_name(origin) not in self.names - THIS_MACHINE:
            how = "Behind a proxy: have it pass the Host header on, or add the name to serve.host_names."
            return Refused(403, "A page of another site may not do this.", how)
        return None


def host_name(host: str) -> str:
    """The host without its port and without the dot that a whole name may end in; "" for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


async def _bounded(scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
    """A `receive` whose body has come already, whole; that of an upload is left alone, for it has limits of its own. Raises Refused."""
    encoded = headers.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity")
    upload = scope["method"] == "POST" and scope["path"].rstrip("/") in UPLOADS  # one with a slash is sent on, unread
    if not encoded and upload and headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
        return receive
    declared = headers.get(b"content-length", b"0")
    if declared == b"0" and b"transfer-encoding" not in headers:
        return receive
    refused = Refused(413, f"A body that is no upload has at most {LARGEST_JSON} bytes.", "Send files as multipart/form-data.")
    if encoded:
        refused = Refused(415, "This service reads no compressed body.", "Send it as it is, without Content-Encoding.")
    over = encoded or not declared.isdigit() or int(declared) > LARGEST_JSON
    if over and headers.get(b"expect"):  # nothing has been sent yet, and nothing need be
        raise refused
    body, read = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The connection ended before the body did.", "")
                part = message.get("body", b"")
                read += len(part)
                over = over or read > LARGEST_JSON
                if not over:
                    body += part
                if not message.get("more_body", False) or (over and read > DRAINED):
                    break
    except TimeoutError:
        raise Refused(408, f"The body did not come within {BODY_SECONDS:.0f} s.", "Send it again.") from None
    if over:
        raise refused
    whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


def _head_of(send: Send) -> Send:
    """A `send` that ends an answer after its head. Raises _HeadSent then: nothing of the body is made, and no stream goes on unheard."""

    async def head(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.start":
            await send({"type": "http.response.body", "body": b""})
            raise _HeadSent

    return head


def _of_console(scope: Scope) -> bool:
    return f"{scope['path']}/".startswith(f"{CONSOLE}/")


def _secured(scope: Scope, send: Send) -> Send:
    if _of_console(scope):
        return send

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            given: list[Any] = list(message.get("headers", []))
            have = {name for name, _ in given}
            given += [(name, value) for name, value in HEADERS if name not in have]
            message = {**message, "headers": given}
        await send(message)

    return secured
