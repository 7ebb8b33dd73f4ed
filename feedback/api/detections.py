"""Routes of files and verdicts."""

import contextlib
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import AfterValidator

from feedback.access import Actor
from feedback.api.answers import REFUSALS, Batch, Detection, DetectionPage, Dispute, Explanation, Mode, Policy, Reference, Verdict, json_response, refusals
from feedback.api.caller import Callers, Door
from feedback.api.events import Changes, progress, until_done
from feedback.api.problems import Problem
from feedback.api.references import fetched
from feedback.api.uploads import Received, Upload, received
from feedback.database import ID, moment_of
from feedback.detections import MediaGone
from media.names import begins_as_photo
from workspace.choices import MODES, POLICIES

IMAGE_WAIT_SECONDS = 20.0
Id = Annotated[str, Path(pattern=f"^{ID}$", examples=["5d1f0c5e9c0b4f6d9f0d3a2b1c4e5f60"])]


def _day(text: str) -> str:
    if text:
        moment_of(text)
    return text


Day = Annotated[str, AfterValidator(_day), Query(max_length=40, description="A day, 2026-11-21, or a moment, 2026-11-21T09:30:00+01:00; else in UTC.")]
State = Annotated[str, Query(pattern="^(|queued|running|done|erased)$")]
IdempotencyKey = Annotated[str, Header(alias="Idempotency-Key", max_length=200, description="The same key gives the same detection, however often it is sent.")]
_FILE = {"type": "string", "format": "binary"}
_FIELDS = {
    "policy": {"type": "string", "enum": ["", *POLICIES]},
    "mode": {"type": "string", "enum": ["", *MODES]},
}
_ONE = {"type": "object", "required": ["file"], "properties": {"file": _FILE, **_FIELDS}}
_MANY = {"type": "object", "required": ["file"], "properties": {"file": {"type": "array", "items": _FILE}, **_FIELDS}}
_REFERENCE = {"schema": {"$ref": "#/components/schemas/Reference"}}
_ONE_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _ONE}, "application/json": _REFERENCE}}}
_MANY_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _MANY}}}}


def router(door: Door, callers: Callers, changes: Changes) -> APIRouter:
    """The routes under /v1/detections, and /v1/export."""
    routes, service = APIRouter(prefix="/v1", responses=REFUSALS, tags=["detections"]), door.service
    Caller = Annotated[Actor, Depends(callers.actor)]
    settings = service.settings

    async def take(actor: Actor, files: list[Upload], policy: str, mode: str, key: str) -> list[dict[str, Any]]:
        fingerprint = hashlib.sha256("\n".join([policy, mode, *(file.sha256 for file in files)]).encode()).hexdigest() if key else ""
        given = [(file.path, file.sha256, file.size_bytes) for file in files]
        try:
            try:
                found: list[dict[str, Any]] = await door.do(service.detect, actor, given, policy, mode, key, fingerprint)
            except MediaGone:  # deleted by age in the moment between; the file is still in our hands
                found = await door.do(service.detect, actor, given, policy, mode, key, fingerprint)
        except MediaGone as problem:
            gone = "The file's copy was deleted twice while it was taken in; nothing was accepted."
            raise Problem(503, gone, next_step="Send it again.", retry_after_seconds=1) from problem
        except ValueError as problem:
            raise Problem(422, str(problem)) from problem
        return found

    @routes.post("/detections", status_code=201, responses={201: {"model": Detection}, 202: {"model": Detection}, **refusals(415)}, openapi_extra=_ONE_BODY)
    async def detect(
        request: Request,
        actor: Caller,
        policy: Annotated[Policy, Query()] = "",
        mode: Annotated[Mode, Query()] = "",
        wait: Annotated[float | None, Query(ge=0, le=60, description="Seconds to wait for the verdict; images wait 20, videos 0.")] = None,
        idempotency_key: IdempotencyKey = "",
    ) -> Response:
        """Send one file, or a reference to one, for a verdict. 201 with the verdict, or 202 while it is still to come."""
        await door.do(service.may_detect, actor, idempotency_key)  # before a byte of the body is read
        callers.upload(actor, request)
        async with contextlib.AsyncExitStack() as stack:
            if request.headers.get("content-type", "").split(";")[0].strip().lower() == "application/json":
                asked = await _reference(request)
                upload = await stack.enter_async_context(fetched(asked.reference, service.root, settings))
                form = Received([upload], {"policy": asked.policy, "mode": asked.mode})
            else:
                form = await stack.enter_async_context(received(request, service.root, settings.serve.max_upload_bytes))
            found = (await take(actor, form.files, policy or form.fields.get("policy", ""), mode or form.fields.get("mode", ""), idempotency_key))[0]
            name, photo = form.files[0].file_name, _is_photo(form.files[0])
        if wait is None:
            wait = IMAGE_WAIT_SECONDS if photo else 0.0
        if wait:
            found = await until_done(door, changes, actor, found["id"], wait)
        done = found["state"] == "done"
        return json_response({**found, "file": name}, 201 if done else 202, {"Location": f"/v1/detections/{found['id']}"})

    @routes.post("/detections/batch", status_code=202, responses={202: {"model": Batch}, **refusals(415)}, openapi_extra=_MANY_BODY)
    async def detect_batch(
        request: Request, actor: Caller, policy: Annotated[Policy, Query()] = "", mode: Annotated[Mode, Query()] = "", idempotency_key: IdempotencyKey = ""
    ) -> Response:
        """Send several files at once; all are accepted, or none."""
        await door.do(service.may_detect, actor, idempotency_key)
        callers.upload(actor, request)
        async with received(request, service.root, settings.serve.max_upload_bytes, settings.feedback.max_batch_files) as form:
            found = await take(actor, form.files, policy or form.fields.get("policy", ""), mode or form.fields.get("mode", ""), idempotency_key)
            names = [file.file_name for file in form.files]
        return json_response({"detections": [{**row, "file": name} for row, name in zip(found, names, strict=True)]}, 202)

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
    async def events(detection_id: Id, actor: Caller) -> Response:
        """Progress as server-sent events: `progress` while it goes on, `done` with the verdict at the end."""
        await door.look(service.detection, actor, detection_id)  # a refusal is an answer, not a broken stream
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(progress(door, changes, actor, detection_id), media_type="text/event-stream", headers=headers)

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

    return routes


async def _reference(request: Request) -> Reference:
    from fastapi.exceptions import RequestValidationError
    from pydantic import ValidationError

    try:
        return Reference.model_validate_json(await request.body())
    except ValidationError as problem:
        raise RequestValidationError([{**mistake, "loc": ("body", *mistake["loc"])} for mistake in problem.errors(include_url=False)]) from problem


def _is_photo(file: Upload) -> bool:
    """By its first bytes; a wrong guess only changes how long the answer waits."""
    try:
        with open(file.path, "rb") as handle:
            head = handle.read(16)
    except OSError:
        return False
    return begins_as_photo(head)


def _pictures() -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"image/webp": {}}, "description": "A picture."}, **refusals(410)}


def _picture(path: Any) -> Response:
    return FileResponse(path, media_type="image/webp")
