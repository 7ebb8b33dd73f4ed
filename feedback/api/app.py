"""The service as an ASGI application. Never imports torch or mlflow: those are in processes of their own."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.responses import Response
from fastapi.routing import APIRoute

from feedback.access import Actor
from feedback.api import detections, others
from feedback.api.answers import ANYWHERE, OPEN, Reference, json_response, refusals
from feedback.api.caller import Callers, Door, install_refusals
from feedback.api.events import Changes
from feedback.api.guard import Guard
from feedback.api.measured import Figures, Measured
from feedback.api.problems import Problem, install_problem_handlers
from feedback.detections import remove_leftovers
from feedback.forever import forever
from feedback.secret import Secret
from feedback.service import Service
from feedback.work.supervisor import Workers
from workspace.settings import Settings

LOG = logging.getLogger("vigil.serve")
RETRY_SECONDS = 2
HIDING_SECONDS = 3600.0  # between two looks for what is to be hidden, at the most
BEHIND = "The champion could not be loaded, or not be asked for: another model may answer. /v1/models says why, to who has a key."
ABOUT = """Send an image or a video, get a verdict; say when it is wrong; look at what nobody is sure of.

Programs send `Authorization: Bearer vigil_...`. Every refusal is `application/problem+json` with `detail`, what happened,
and where there is something to do with `next_step`. `p_fake`: 1 means fake."""


def create_app(root: Path, settings: Settings, secret: Secret, model_dir: Path | None = None, names: Sequence[str] = ()) -> FastAPI:
    """The service of the workspace `root`. With `model_dir` that model answers, else the champion, followed as it changes.

    names: the host names that it answers to; empty for any.
    """
    changes = Changes()
    workers = Workers(root, settings, model_dir, changes.tell)
    service = Service(root, settings, secret, workers)
    door, callers, figures = Door(service), Callers(service), Figures()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await workers.start()
        behind = [
            service.webhooks.deliver_forever(),
            forever("retention", lambda: _sweep(service)),
            forever("gathering media without a label", lambda: _gather(service)),
        ]
        if settings.feedback.retention.every_minutes * 60.0 > HIDING_SECONDS:  # else each sweep comes soon enough
            behind.append(forever("hiding fakes", lambda: _hide(service)))
        tasks = [asyncio.create_task(part) for part in behind]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await workers.stop()
            service.close()

    # No docs pages: they load their scripts from other hosts. /openapi.json stays.
    app = FastAPI(
        title="Vigil", version="1", description=ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan, responses=ANYWHERE, generate_unique_id_function=_name
    )  # fmt: skip
    app.state.service, app.state.changes, app.state.callers, app.state.names = service, changes, callers, names
    install_problem_handlers(app, root)
    install_refusals(app, root)
    app.add_middleware(Guard, names=names)
    app.add_middleware(Measured, figures=figures)

    @app.get("/healthz", tags=["service"], openapi_extra=OPEN)
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"], openapi_extra=OPEN)
    async def readyz() -> Response:
        """A model has scored its golden clip; else 503 with the reason."""
        if workers.model is None:
            raise Problem(503, f"No model is ready: {workers.why}.", next_step=workers.next_step, retry_after_seconds=RETRY_SECONDS)
        return json_response({**workers.model, "reload_problem": BEHIND if workers.problems["reload_problem"] else ""})

    @app.get("/metrics", tags=["service"], responses={200: {"content": {"text/plain": {}}}, **refusals(401, 429)})
    async def metrics(actor: Annotated[Actor, Depends(callers.actor)]) -> Response:
        """Figures for a monitoring system; for keys of engineers."""
        counts = await door.do(service.figures, actor)
        return Response(figures.text(counts, workers.model is not None, workers.restarts), media_type="text/plain; version=0.0.4")

    app.include_router(detections.router(door, callers, changes))
    for part in (others.cases, others.people, others.rest, others.sign_up):
        app.include_router(part(door, callers))
    app.openapi = _schema(app)  # type: ignore[method-assign]
    return app


async def _sweep(service: Service) -> float:
    """Delete and quarantine what is due, by age, old deliveries and what killed processes left; seconds until the next look."""
    done = await asyncio.to_thread(service.retention.sweep)
    if any(done.values()):
        LOG.info("retention: %s", done)
    await asyncio.to_thread(service.webhooks.drop_old)  # after what is due by age: that hides fakes, too
    await asyncio.to_thread(remove_leftovers, service.database, service.media)
    return service.settings.feedback.retention.every_minutes * 60.0


async def _hide(service: Service) -> float:
    """Hide what has been called fake long enough, and show again what is not any more; seconds until the next look."""
    await asyncio.to_thread(service.retention.sweep, deletes=False)
    return HIDING_SECONDS


async def _gather(service: Service) -> float:
    """Bring media that wait for a label before people, as they come in; seconds until the next look."""
    if (opened := await asyncio.to_thread(service.gathering.gather)) and service.workers is not None:
        LOG.info("%d media of the batches wait for a label: opened as cases", opened)
        service.workers.wake()
    return service.settings.serve.reload_seconds


def _name(route: APIRoute) -> str:
    """A route's name in the schema, which clients that are made from it get their names from."""
    return route.name


def _schema(app: FastAPI) -> Any:
    """The schema with what routes that read their body themselves refer to, and how callers are known."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = make()
            parts = schema.setdefault("components", {})
            parts.setdefault("schemas", {}).setdefault("Reference", Reference.model_json_schema(ref_template="#/components/schemas/{model}"))
            parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"key": []}]
        assert app.openapi_schema is not None
        return app.openapi_schema

    return openapi
