"""The media themselves, for players that jump about in them, and where the API keeps the pictures made of them."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.background import BackgroundTask

from feedback.access import Forbidden
from feedback.console import PATH
from feedback.console.visitor import LoggedOut, Visitor, token_of
from feedback.service import Gone, NotFound, Service
from workspace.errors import VigilError

STARTS = (  # what a file begins with, and what it is; anything else is bytes that no browser shows
    (0, b"\xff\xd8\xff", "image/jpeg"), (0, b"\x89PNG\r\n", "image/png"), (0, b"GIF8", "image/gif"), (0, b"BM", "image/bmp"), (8, b"WEBP", "image/webp"),
    (4, b"ftyp", "video/mp4"), (0, b"\x1aE\xdf\xa3", "video/webm"), (8, b"AVI ", "video/x-msvideo"), (0, b"OggS", "video/ogg"),
)  # fmt: skip
ONE_VIEW_SECONDS = 600.0
KEPT_VIEWS = 1000
HEADERS = {"cache-control": "no-store", "content-security-policy": "default-src 'none'; sandbox"}


def add(app: FastAPI, service: Service) -> None:
    """Add the route."""
    opened: OrderedDict[tuple[str, str], float] = OrderedDict()  # a player asks for a file in many parts; it is one view

    @app.get("/media/{detection_id}", include_in_schema=False)
    async def media(request: Request, detection_id: str) -> Response:
        held = ExitStack()  # a file that was fetched from a bucket is removed once it was sent

        def open_it() -> Path:
            actor = Visitor(service, token_of(request)).actor()
            key, moment = (actor.user_id, detection_id), time.monotonic()
            again = moment - opened.get(key, -ONE_VIEW_SECONDS) < ONE_VIEW_SECONDS
            path = Path(held.enter_context(service.media_local(actor, detection_id, again)))
            if not again:
                opened[key] = moment
                while len(opened) > KEPT_VIEWS:
                    opened.popitem(last=False)
            return path

        try:
            path = await asyncio.to_thread(open_it)
        except (LoggedOut, Forbidden, NotFound, Gone, VigilError) as problem:
            return _refused(problem)
        return FileResponse(path, media_type=_kind(path), headers=dict(HEADERS), background=BackgroundTask(held.close))


def pictures_of(detection: Mapping[str, Any], reviewer: bool) -> dict[str, Any]:
    """Where the pictures of a detection lie; empty where there is none, or they are in quarantine and this is no reviewer.

    `heatmaps` is followed by a number, once they are made.
    """
    base, made = f"/v1/detections/{detection['id']}", detection.get("pictures") or {}
    gone = ("deleted",) if reviewer else ("deleted", "quarantined")
    kept = detection.get("media_state") not in gone and detection.get("state") == "done"
    return {
        "id": detection["id"],
        "kind": detection.get("kind") or "",
        "file": f"{PATH}/media/{detection['id']}" if kept else "",
        "thumbnail": f"{base}/thumbnail" if kept and made.get("thumbnail") else "",
        "picture": f"{base}/picture" if kept and made.get("picture") else "",
        "faces": [f"{base}/faces/{number}" for number in range(made.get("faces") or 0)] if kept else [],
        "heatmaps": f"{base}/heatmaps/",
    }


def _kind(path: Path) -> str:
    with open(path, "rb") as handle:
        start = handle.read(16)
    return next((kind for at, mark, kind in STARTS if start[at : at + len(mark)] == mark), "application/octet-stream")


def _refused(problem: Exception) -> Response:
    if isinstance(problem, VigilError):
        return PlainTextResponse(f"{problem.what} {problem.why}", 503)
    status = 401 if isinstance(problem, LoggedOut) else 403 if isinstance(problem, Forbidden) else 410 if isinstance(problem, Gone) else 404
    return PlainTextResponse(str(problem) or "Log in first.", status)
