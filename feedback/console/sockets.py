"""Keeps a live connection to the page that its own browser session opened.

The library believes each message which page it is for: whoever knew a page's ids, which stand in its HTML, could act on it as its owner.
"""

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import Client, core
from starlette.requests import HTTPConnection

from feedback.console.visitor import token_of

MESSAGES = ("event", "javascript_response", "ack", "log")  # each names its page


def may_open(client_id: str, asked: HTTPConnection) -> bool:
    """Whether a connection comes from the session that opened this page; a page that is none is left to the library, which answers it."""
    client = Client.instances.get(client_id)
    return client is None or hmac.compare_digest(token_of(client.request).encode(), token_of(asked).encode())


@contextmanager
def own_pages() -> Iterator[None]:
    """For the length of the block a connection joins pages of its own session alone, and what it sends about any other page is dropped."""
    library: dict[str, Callable[..., Any]] = core.sio.handlers["/"]

    async def handshake(sid: str, data: dict[str, Any]) -> bool:
        asked = HTTPConnection(core.sio.get_environ(sid)["asgi.scope"])
        return may_open(data["client_id"], asked) and bool(await library["handshake"](sid, data))

    def joined(name: str) -> Callable[[str, dict[str, Any]], None]:
        def handle(sid: str, data: dict[str, Any]) -> None:
            if data["client_id"] in core.sio.rooms(sid):  # a page's handshake enters its room
                library[name](sid, data)

        return handle

    core.sio.handlers["/"] = {**library, "handshake": handshake, **{name: joined(name) for name in MESSAGES}}
    try:
        yield
    finally:
        core.sio.handlers["/"] = library
