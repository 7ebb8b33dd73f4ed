"""Puts the console into an application that may be answering already, and takes it out again.

NiceGUI has one application a process. Its usual way in (`ui.run_with`) starts it with the outer application, which here has
started long before; so it is configured through an outer application of its own, whose lifespan is run here.
"""

import logging
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from nicegui import app as library
from nicegui import binding, ui
from starlette.routing import Mount, Route

from feedback.api.guard import RETRY_SECONDS
from feedback.console import PATH, account, cases, charts, detect, entry, history, media, models, review, theme, trail, users, verdict
from feedback.console.guard import Guard
from feedback.console.layout import View, explain, frame, page
from feedback.console.parts import empty, tag
from feedback.console.sockets import may_open, own_pages
from feedback.service import NotFound, Service
from workspace.errors import DatabaseSilent

LOG = logging.getLogger("vigil.console")
PAGES = (detect, verdict, history, review, cases, models, charts, account, users, trail)


@asynccontextmanager
async def mounted(app: FastAPI, service: Service) -> AsyncIterator[None]:
    """The console under /console of `app` for the length of the block; / leads there. Once a process: NiceGUI has one application."""
    library.config.quasar_config["loadingBar"] = {"skipHijack": True}
    mimetypes.add_type("text/javascript", ".js")
    library.add_static_file(local_file=theme.STYLE, url_path="/assets/console.css", max_cache_age=86400)
    entry.add(library, service, app.state.callers.until_sign_up)
    media.add(library, service)
    for part in PAGES:
        part.add(service)
    outer = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ui.run_with(
        outer, title="Vigil", favicon=theme.FAVICON, dark=None, language="en-US", tailwind=False, show_welcome_message=False,
        binding_refresh_interval=None, reconnect_timeout=30.0, gzip_middleware_factory=None,
    )  # fmt: skip
    _lost(service)
    routes = [Mount(PATH, app=Guard(outer, may_open, service.settings.feedback.requests_per_minute, app.state.names)), Route("/", _start)]
    binding.MAX_PROPAGATION_TIME = 1.0  # the pages bind nothing: a slow moment of the machine is not worth a warning
    logging.getLogger("uvicorn.error").addFilter(_Quiet())
    async with outer.router.lifespan_context(outer):
        app.router.routes.extend(routes)
        try:
            with own_pages():
                yield
        finally:
            for route in routes:
                app.router.routes.remove(route)


def _lost(service: Service) -> None:
    """What is shown for an address that is none, and for a page that fails. Comes after every other page."""

    @page(service, "/{path:path}", "Not found")
    async def nothing(_: View) -> None:
        raise NotFound("There is no such page.")

    def failed(problem: Exception) -> None:
        LOG.error("a page failed: %r", problem)
        with frame("This failed", None):
            tag("h1", "This failed")
            empty("The service failed on this page.", "Its log says how. The API goes on answering.", PATH, "Back to the start")

    async def silent(_: Request, problem: Exception) -> Response:
        return PlainTextResponse(explain(problem), 503, {"Retry-After": RETRY_SECONDS})

    library.on_page_exception(failed)
    library.add_exception_handler(DatabaseSilent, silent)  # of what is no page: forms, media


class _Quiet(logging.Filter):
    """Leaves out the server's line for each live connection: it would write page ids, which open pages, into the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep the line."""
        return "WebSocket" not in str(record.msg) and record.msg not in ("connection open", "connection closed")


async def _start(_: Request) -> Response:
    return RedirectResponse(PATH)
