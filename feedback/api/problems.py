"""Errors as `application/problem+json` (RFC 9457): what happened, why, and what to do next where there is something; never a traceback."""

import logging
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from feedback.wording import without_root
from workspace.errors import VigilError
from workspace.files import is_no_room

LOG = logging.getLogger("vigil.serve")
MEDIA_TYPE = "application/problem+json"
NO_ROOM_SECONDS = 30
WITHOUT_HEAD = re.compile(r"/v1/(export|detections/[^/]+/(report|explanation))")  # what these give is written down, or takes a process seconds
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Problem(Exception):
    """A refusal with a status, a reason and a next step; the handlers below turn it into an answer.

    close: end the connection after the answer, because a part of the request was not read.
    """

    def __init__(self, status: int, detail: str, *, next_step: str = "", retry_after_seconds: int = 0, close: bool = False, **extra: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.next_step, self.extra = status, detail, next_step, extra
        self.headers: dict[str, str] = {}
        if retry_after_seconds:
            self.headers["Retry-After"] = str(retry_after_seconds)
        if close:
            self.headers["Connection"] = "close"


def problem_response(status: int, detail: str, next_step: str = "", headers: dict[str, str] | None = None, **extra: Any) -> JSONResponse:
    """The answer that every refusal has: type, title, status, detail, and next_step where there is one."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **extra}
    if next_step:
        body["next_step"] = next_step
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def problem_of(error: VigilError, status: int, root: Path, headers: dict[str, str] | None = None) -> JSONResponse:
    """What happened, why and what to do, but not where on this machine the workspace lies."""
    return problem_response(status, without_root(f"{error.what} {error.why}", root), without_root(error.next_step, root), headers)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods of all routes of a path; the framework names those of one route. HEAD is wherever GET is, but for WITHOUT_HEAD."""
    found = [one for one in METHODS if any(route.matches({**request.scope, "method": one})[0] is Match.FULL for route in app.router.routes)]
    return ["GET", "HEAD", *found[1:]] if found[:1] == ["GET"] and not WITHOUT_HEAD.fullmatch(request.scope["path"]) else found


def install_problem_handlers(app: FastAPI, root: Path) -> None:
    """Make every failure of `app` answer with problem+json: our own, FastAPI's, Starlette's, and the unexpected."""

    @app.exception_handler(Problem)
    async def refused(_: Request, problem: Problem) -> JSONResponse:
        return problem_response(problem.status, problem.detail, problem.next_step, problem.headers or None, **problem.extra)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, problem: HTTPException) -> JSONResponse:
        headers = dict(problem.headers or {})
        if problem.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(app, request))
        return problem_response(problem.status_code, str(problem.detail), headers=headers or None)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, problem: RequestValidationError) -> JSONResponse:
        # `input` and `ctx` are left out: they would echo what was sent, a whole document if the client likes.
        mistakes = [{"where": ".".join(map(str, mistake["loc"])), "message": mistake["msg"]} for mistake in problem.errors()]
        detail = "; ".join(f"{mistake['where']}: {mistake['message']}" for mistake in mistakes)
        return problem_response(422, detail, next_step="Mend these fields; /openapi.json describes them.", mistakes=mistakes)

    @app.exception_handler(VigilError)
    async def failed(_: Request, problem: VigilError) -> JSONResponse:
        LOG.error("%s", problem)
        return problem_of(problem, 500, root)

    @app.exception_handler(OSError)
    async def no_room(request: Request, problem: OSError) -> JSONResponse:
        """Wherever a write met a full disk, or one closed to writing, it may be told again later; what it was writing nobody was promised."""
        if not is_no_room(problem):
            raise problem
        LOG.warning("%s %s: there is no room on the disk: %s", request.method, request.url.path, problem)
        headers = {"Retry-After": str(NO_ROOM_SECONDS), "Connection": "close"}  # a part of the request may not have been read
        return problem_response(503, "There is no room on the disk of the service now.", "Send it again later.", headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, problem: Exception) -> JSONResponse:
        LOG.error("%s %s failed: %r", request.method, request.url.path, problem)
        return problem_response(500, "The service failed on this request.", next_step="Look for the time of this answer in the service's log.")
