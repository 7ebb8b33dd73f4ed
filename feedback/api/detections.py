"""Routes of files and verdicts."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import AfterValidator
from starlette.types import Message, Receive, Scope, Send

from feedback.access import Actor
from feedback.api.answers import REFUSALS, Detection, DetectionPage, Dispute, Explanation, Policy, Verdict, json_response, refusals
from feedback.api.caller import Callers, Door
from feedback.api.events import Changes, progress
from feedback.api.problems import Problem, problem_response
from feedback.api.sending import add_sending
from feedback.database import ID, moment_of

Id = Annotated[str, Path(pattern=f"^{ID}$", examples=["5d1f0c5e9c0b4f6d9f0d3a2b1c4e5f60"])]


def _day(text: str) -> str:
    if text:
        moment_of(text)
    return text


Day = Annotated[str, AfterValidator(_day), Query(max_length=40, description="A day, 2026-11-21, or a moment, 2026-11-21T09:30:00+01:00; else in UTC.")]
State = Annotated[str, Query(pattern="^(|queued|running|done|erased)$")]


def router(door: Door, callers: Callers, changes: Changes) -> APIRouter:
    """The routes under /v1/detections, and /v1/export, in the order in which the schema lists them."""
    routes = APIRouter(prefix="/v1", responses=REFUSALS, tags=["detections"])
    add_sending(routes, door, callers, changes)
    _add_verdicts(routes, door, callers, changes)
    _add_pictures(routes, door, callers)
    _add_what_follows(routes, door, callers)
    return routes


def _add_verdicts(routes: APIRouter, door: Door, callers: Callers, changes: Changes) -> None:
    service = door.service
    Caller = Annotated[Actor, Depends(callers.actor)]

    @routes.get("/detections", responses={200: {"model": DetectionPage}})
    async def detections(
        actor: Caller,
        everybody: bool = False,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        verdict: Verdict = "",
        state: State = "",
        policy: Policy = "",
        since: Day = "",
        until: Day = "",
    ) -> Response:
        """Verdicts, newest first: one's own, or everybody's for reviewers."""
        return await door.answer(service.detections_page, actor, everybody, before, limit, verdict, state, policy, since, until)

    @routes.get("/detections/{detection_id}", responses={200: {"model": Detection}})
    async def detection(detection_id: Id, actor: Caller) -> Response:
        """One verdict, or how far it is."""
        return await door.answer(service.detection, actor, detection_id)

    @routes.get("/detections/{detection_id}/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
    async def events(request: Request, detection_id: Id, actor: Caller) -> Response:
        """Progress as server-sent events: `progress` while it goes on, `done` with the verdict at the end."""
        found = await door.look(service.detection, actor, detection_id)  # a refusal is an answer, not a broken stream
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(progress(door, changes, partial(callers.by_now, request), found), media_type="text/event-stream", headers=headers)


def _add_pictures(routes: APIRouter, door: Door, callers: Callers) -> None:
    service = door.service
    Caller = Annotated[Actor, Depends(callers.actor)]

    @routes.get("/detections/{detection_id}/thumbnail", response_class=FileResponse, responses=_pictures())
    async def thumbnail(detection_id: Id, actor: Caller) -> Response:
        """The face, small."""
        return _picture(await door.do(service.media_file, actor, detection_id, "thumbnail"))

    @routes.get("/detections/{detection_id}/picture", response_class=FileResponse, responses=_pictures())
    async def picture(detection_id: Id, actor: Caller) -> Response:
        """The middle frame, whole."""
        return _picture(await door.do(service.media_file, actor, detection_id, "picture"))

    @routes.get("/detections/{detection_id}/faces/{number}", response_class=FileResponse, responses=_pictures())
    async def face(detection_id: Id, number: Annotated[int, Path(ge=0, le=999)], actor: Caller) -> Response:
        """A face frame of the clip that speaks most for the verdict."""
        return _picture(await door.do(service.media_file, actor, detection_id, f"face-{number}"))

    @routes.get("/detections/{detection_id}/heatmaps/{number}", response_class=FileResponse, responses=_pictures())
    async def heatmap(detection_id: Id, number: Annotated[int, Path(ge=0, le=999)], actor: Caller) -> Response:
        """The same frame under the heat of the explanation; ask for the explanation first."""
        return _picture(await door.do(service.media_file, actor, detection_id, f"heatmap-{number}"))


def _pictures() -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"image/webp": {}}, "description": "A picture."}, **refusals(410)}


class _Picture(FileResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or the part of it that is asked for; where there is no such part, a refusal as all are, in place of the framework's plain text.

        A part in another unit than bytes is not asked for: such are to be ignored (RFC 9110), which the framework refuses.
        """
        refused: dict[str, Any] = {}
        known = [(name, value) for name, value in scope["headers"] if name != b"range" or value.partition(b"=")[0].strip().lower() == b"bytes"]

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused.update(message)
            if not refused:
                await send(message)

        await super().__call__({**scope, "headers": known}, receive, told)
        if refused:
            reach = {name.decode(): value.decode() for name, value in refused["headers"] if name == b"content-range"}
            why = "This part of the picture is not there." if reach else "The Range header cannot be read."
            await problem_response(refused["status"], why, "Ask without Range for the whole.", reach)(scope, receive, send)


def _picture(path: Any) -> Response:
    return _Picture(path, media_type="image/webp")


def _add_what_follows(routes: APIRouter, door: Door, callers: Callers) -> None:
    """What can be done with a verdict: have it explained or reported, say that it is wrong, erase it, take the history along."""
    service = door.service
    Caller = Annotated[Actor, Depends(callers.actor)]

    @routes.get("/detections/{detection_id}/explanation", responses={200: {"model": Explanation}, **refusals(409, 410)})
    async def explanation(detection_id: Id, actor: Caller) -> Response:
        """Why the network said so; the first time it takes some seconds."""
        try:
            return json_response(await service.explanation(actor, detection_id))
        except ValueError as problem:
            raise Problem(409, str(problem)) from problem

    @routes.get("/detections/{detection_id}/report", responses={200: {"content": {"application/pdf": {}, "application/json": {}}}, **refusals(409, 410)})
    async def report(detection_id: Id, actor: Caller, form: Annotated[str, Query(alias="format", pattern="^(json|pdf)$")] = "json") -> Response:
        """The signed report of a verdict."""
        try:
            if form == "json":
                return json_response(await door.do(service.report, actor, detection_id))
            page = await door.do(service.report_page, actor, detection_id)
        except ValueError as problem:
            raise Problem(409, str(problem), next_step="Ask again when its state is `done`.") from problem
        return Response(page, media_type="application/pdf", headers={"Content-Disposition": f'attachment; filename="vigil-{detection_id[:12]}.pdf"'})

    @routes.post("/detections/{detection_id}/dispute", responses={200: {"model": Detection}, **refusals(409)})
    async def dispute(detection_id: Id, actor: Caller, given: Dispute) -> Response:
        """Say that a verdict is wrong: people look at it."""
        try:
            return json_response(await door.do(service.dispute, actor, detection_id, given.claim, given.note))
        except ValueError as problem:
            raise Problem(409, str(problem)) from problem

    @routes.delete("/detections/{detection_id}", responses={200: {"description": "What was erased, and what the next cycle will do."}})
    async def erase(detection_id: Id, actor: Caller, why: Annotated[str, Query(max_length=500)] = "") -> Response:
        """Erase an upload and everything that came of it."""
        return json_response(await door.do(service.erase, actor, detection_id, why))

    @routes.get("/export", response_class=StreamingResponse, responses={200: {"content": {"text/csv": {}}}})
    async def export(
        actor: Caller, everybody: bool = False, verdict: Verdict = "", state: State = "", policy: Policy = "", since: Day = "", until: Day = ""
    ) -> Response:
        """The history as CSV."""
        lines = await door.do(service.export, actor, everybody, verdict=verdict, state=state, policy=policy, since=since, until=until)
        return StreamingResponse(lines, media_type="text/csv", headers={"Content-Disposition": 'attachment; filename="vigil-history.csv"'})
