"""What every answer carries and every request must keep to, whatever route it goes to. Plain ASGI, so that it costs little."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback.api.problems import problem_response

LARGEST_JSON = 1 << 20
LONGEST_PATH, LONGEST_HEADERS = 4096, 32 << 10
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


class Guard:
    """Limits bodies that are not uploads, and adds the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = {}
        size = 0
        for name, value in scope["headers"]:
            headers[name] = value
            size += len(name) + len(value)
        secure = _secured(scope, send)
        if size > LONGEST_HEADERS or len(scope.get("raw_path") or scope["path"]) > LONGEST_PATH:
            await problem_response(431, "The headers or the address are too long.")(scope, receive, secure)
            return
        if headers.get(b"content-type", b"").startswith(b"multipart/"):  # uploads have limits of their own
            await self.app(scope, receive, secure)
            return
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > LARGEST_JSON:
            await problem_response(413, f"A body that is no upload has at most {LARGEST_JSON} bytes.", headers={"Connection": "close"})(scope, receive, secure)
            return
        await self.app(scope, _bounded(receive), secure)


def _bounded(receive: Receive) -> Receive:
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > LARGEST_JSON:  # chunked, without a length: treated as a connection that broke off
            return {"type": "http.disconnect"}
        return message

    return bounded


def _secured(scope: Scope, send: Send) -> Send:
    if scope["path"].startswith(CONSOLE):
        return send

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            given: list[Any] = list(message.get("headers", []))
            have = {name for name, _ in given}
            given += [(name, value) for name, value in HEADERS if name not in have]
            message = {**message, "headers": given}
        await send(message)

    return secured
