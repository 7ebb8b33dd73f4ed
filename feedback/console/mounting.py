"""Puts the console into an application that may be answering already, and takes it out again.

NiceGUI has one application a process. Its usual way in (`ui.run_with`) starts it with the outer application, which here has
started long before; so it is configured through an outer application of its own, whose lifespan is run here.
"""

import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from nicegui import app as library
from nicegui import ui
from starlette.routing import Mount, Route

from feedback.console import PATH, account, cases, charts, detect, entry, history, media, models, review, theme, trail, users, verdict
from feedback.console.guard import Guard
from feedback.service import Service

PAGES = (detect, verdict, history, review, cases, models, charts, account, users, trail)


@asynccontextmanager
async def mounted(app: FastAPI, service: Service) -> AsyncIterator[None]:
    """The console under /console of `app` for the length of the block; / leads there. Once a process: NiceGUI has one application."""
    library.config.quasar_config["loadingBar"] = {"skipHijack": True}
    mimetypes.add_type("text/javascript", ".js")
    library.add_static_file(local_file=theme.STYLE, url_path="/assets/console.css", max_cache_age=86400)
    entry.add(library, service)
    media.add(library, service)
    for page in PAGES:
        page.add(service)
    outer = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ui.run_with(
        outer, title="Vigil", favicon=theme.FAVICON, dark=None, language="en-US", tailwind=False, show_welcome_message=False,
        binding_refresh_interval=None, reconnect_timeout=30.0, gzip_middleware_factory=None,
    )  # fmt: skip
    routes = [Mount(PATH, app=Guard(outer)), Route("/", _start)]
    async with outer.router.lifespan_context(outer):
        app.router.routes.extend(routes)
        try:
            yield
        finally:
            for route in routes:
                app.router.routes.remove(route)


async def _start(_: Request) -> Response:
    return RedirectResponse(PATH)
