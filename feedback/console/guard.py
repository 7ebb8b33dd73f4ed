"""What stands before every answer of the console: security headers, the form cookie, and no websocket from another site."""

import hmac
import secrets
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback.console.visitor import FORM_COOKIE, same_site, token_of

# The library's pages are started by a script inside the page and compile their templates in the browser, hence the two
# 'unsafe' words for scripts. Nothing may be loaded from, sent to, or framed by another host.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """An ASGI application before another one. `page_token` gives the session token with which a page was opened, None for no such page."""

    def __init__(self, inner: ASGIApp, page_token: Callable[[str], str | None]) -> None:
        self.inner, self.page_token = inner, page_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request through the inner application."""
        if scope["type"] not in ("http", "websocket"):
            await self.inner(scope, receive, send)
            return
        asked = HTTPConnection(scope)
        if _is_socket(scope) and not (same_site(asked) and self._owns(asked)):
            await _refuse(scope, receive, send)
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
        """Whether a live connection comes from the browser session that opened its page: to know a page's id is not enough."""
        opened = self.page_token(asked.query_params.get("client_id", ""))
        return opened is None or hmac.compare_digest(opened.encode(), token_of(asked).encode())


def _is_socket(scope: Scope) -> bool:
    """Whether this is the live connection of a page, by websocket or by polling."""
    return scope["type"] == "websocket" or "/_nicegui_ws/" in scope["path"]


def _cookie(value: str, secure: bool) -> str:
    return f"{FORM_COOKIE}={value}; HttpOnly; Path=/; SameSite=strict" + ("; Secure" if secure else "")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        closed: dict[str, Any] = {"type": "websocket.close", "code": 4403}
        await send(closed)
        return
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain; charset=utf-8")]})
    await send({"type": "http.response.body", "body": b"This page's live connection may only be opened by the page itself."})
