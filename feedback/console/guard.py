"""What stands before every answer of the console: security headers, the form cookie, and no websocket from another site."""

import secrets
import time
from collections.abc import Callable, Iterable

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback.api.caller import Buckets
from feedback.api.guard import THIS_MACHINE
from feedback.console.visitor import FORM_COOKIE, NAMES, same_site

# The library's pages are started by a script inside the page and compile their templates in the browser, hence the two
# 'unsafe' words for scripts. Nothing may be loaded from, sent to, or framed by another host.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGES_A_MINUTE = 600  # an opened page takes 0.17 MB (measured) for the minute in which its browser may still connect
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """An ASGI application before another one. `may_open` says whether a request may open the live connection of the page of this id.
    `names` are those by which the service is reached, should a proxy not pass the Host header on.

    Of one address at most `a_minute` requests are answered, and PAGES_A_MINUTE of those that open a page.
    """

    def __init__(self, inner: ASGIApp, may_open: Callable[[str, HTTPConnection], bool], a_minute: int, names: Iterable[str] = ()) -> None:
        self.names = frozenset(name.lower() for name in names) - THIS_MACHINE
        self.inner, self.may_open, self.requests, self.pages = inner, may_open, Buckets(a_minute), Buckets(PAGES_A_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request through the inner application."""
        if scope["type"] not in ("http", "websocket"):
            await self.inner(scope, receive, send)
            return
        scope[NAMES] = self.names
        asked = HTTPConnection(scope)
        if _is_socket(scope) and not (same_site(asked) and self._owns(asked)):
            await _refuse(scope, receive, send, 403, "This page's live connection may only be opened by the page itself.")
            return
        buckets = self.pages if _opens_page(scope) else self.requests
        wait = buckets.take(asked.client.host if asked.client else "", time.monotonic())
        if wait:
            await _refuse(scope, receive, send, 429, f"Too many requests from this address. Come back in {int(wait) + 1} seconds.")
            return
        scope["headers"] = [row for row in scope["headers"] if row[0] != b"x-forwarded-prefix"]  # it would be written into the page
        known = asked.cookies.get(FORM_COOKIE, "")
        made = "" if 20 <= len(known) <= 100 and known.isascii() and known.isprintable() else secrets.token_urlsafe(24)
        scope[FORM_COOKIE] = made or known

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)  # a route may be stricter
                if made and headers.get("content-type", "").startswith("text/html"):
                    headers.append("set-cookie", _cookie(made, scope.get("scheme") == "https"))
            await send(message)

        await self.inner(scope, receive, guarded)

    def _owns(self, asked: HTTPConnection) -> bool:
        """Whether a live connection comes from the browser session that opened each page it names: to know a page's id is not enough."""
        return all(self.may_open(client_id, asked) for client_id in asked.query_params.getlist("client_id"))


def _is_socket(scope: Scope) -> bool:
    """Whether this is the live connection of a page, by websocket or by polling."""
    return scope["type"] == "websocket" or "/_nicegui_ws/" in scope["path"]


def _opens_page(scope: Scope) -> bool:
    """Whether an answer will be a page, which is kept in memory: any GET but those of files."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and not path.startswith(("/_nicegui", "/assets/", "/media/"))


def _cookie(value: str, secure: bool) -> str:
    return f"{FORM_COOKIE}={value}; HttpOnly; Path=/; SameSite=strict" + ("; Secure" if secure else "")


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000 + status})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})
