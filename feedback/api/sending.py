"""Routes that take files in for a verdict: one, a reference to one, or several."""

import contextlib
import hashlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError

from feedback import once
from feedback.access import Actor
from feedback.api.answers import Batch, Detection, Mode, Policy, Reference, json_response, refusals
from feedback.api.caller import Callers, Door
from feedback.api.events import Changes, until_done
from feedback.api.problems import Problem
from feedback.api.references import fetched
from feedback.api.uploads import FIELDS, GIVE_ONCE, Received, Upload, received
from feedback.detections import MediaGone
from feedback.keep import MediaStore
from feedback.once import NamedTwice
from media.names import begins_as_photo
from workspace.choices import MODES, POLICIES
from workspace.settings import Settings

IMAGE_WAIT_SECONDS = 20.0
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


def add_sending(routes: APIRouter, door: Door, callers: Callers, changes: Changes) -> None:
    """Add what takes files in to the routes of detections."""
    service, settings = door.service, door.service.settings
    Caller = Annotated[Actor, Depends(callers.actor)]

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
        _refuse_doubled(request)
        callers.upload(actor, request)
        async with _one(request, service.media, settings) as form:
            found = (await _take(door, await callers.by_now(request), form, policy, mode, idempotency_key))[0]  # the body may have come for hours
            name, photo = form.files[0].file_name, _is_photo(form.files[0])
        if wait is None:
            wait = IMAGE_WAIT_SECONDS if photo else 0.0
        if wait:
            found = await until_done(door, changes, partial(callers.by_now, request), found, wait)
        done = found["state"] == "done"
        return json_response({**found, "file": name}, 201 if done else 202, {"Location": f"/v1/detections/{found['id']}"})

    @routes.post("/detections/batch", status_code=202, responses={202: {"model": Batch}, **refusals(415)}, openapi_extra=_MANY_BODY)
    async def detect_batch(
        request: Request, actor: Caller, policy: Annotated[Policy, Query()] = "", mode: Annotated[Mode, Query()] = "", idempotency_key: IdempotencyKey = ""
    ) -> Response:
        """Send several files at once; all are accepted, or none."""
        await door.do(service.may_detect, actor, idempotency_key)
        _refuse_doubled(request)
        callers.upload(actor, request)
        async with received(request, service.media, settings.serve.max_upload_bytes, settings.feedback.max_batch_files) as form:
            found = await _take(door, await callers.by_now(request), form, policy, mode, idempotency_key)
            names = [file.file_name for file in form.files]
        return json_response({"detections": [{**row, "file": name} for row, name in zip(found, names, strict=True)]}, 202)


@contextlib.asynccontextmanager
async def _one(request: Request, media: MediaStore, settings: Settings) -> AsyncIterator[Received]:
    """The file of a request: in its form, or fetched from the address that its JSON names."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        async with received(request, media, settings.serve.max_upload_bytes) as form:
            yield form
        return
    asked = await _reference(request)
    async with fetched(asked.reference, media, settings) as upload:
        yield Received([upload], {"policy": asked.policy, "mode": asked.mode})


async def _reference(request: Request) -> Reference:
    content = await request.body()
    with contextlib.suppress(ValueError, RecursionError):  # what is no JSON is told below
        try:
            once.loads(content)
        except NamedTwice as problem:
            raise Problem(422, f"{problem.name!r} is given twice in the body.", next_step=GIVE_ONCE if problem.name in FIELDS else "Give it once.") from problem
    try:
        return Reference.model_validate_json(content)
    except ValidationError as problem:
        raise RequestValidationError([{**mistake, "loc": ("body", *mistake["loc"])} for mistake in problem.errors(include_url=False)]) from problem


async def _take(door: Door, actor: Actor, form: Received, policy: str, mode: str, key: str) -> list[dict[str, Any]]:
    """Have the service take a form's files in. Policy and mode may stand in the address or in the body, not two different ones."""
    policy, mode = _said_once("policy", policy, form), _said_once("mode", mode, form)
    fingerprint = hashlib.sha256("\n".join([policy, mode, *(file.sha256 for file in form.files)]).encode()).hexdigest() if key else ""
    given = [(file.path, file.sha256, file.size_bytes) for file in form.files]
    try:
        try:
            found: list[dict[str, Any]] = await door.do(door.service.detect, actor, given, policy, mode, key, fingerprint)
        except MediaGone:  # deleted by age in the moment between; the file is still in our hands
            found = await door.do(door.service.detect, actor, given, policy, mode, key, fingerprint)
    except MediaGone as problem:
        gone = "The file's copy was deleted twice while it was taken in; nothing was accepted."
        raise Problem(503, gone, next_step="Send it again.", retry_after_seconds=1) from problem
    except ValueError as problem:
        raise Problem(422, str(problem)) from problem
    return found


def _refuse_doubled(request: Request) -> None:
    """Of two in the address the last would count, without a word: and with it the threshold, and how long media are kept."""
    for name in FIELDS:
        if len(given := request.query_params.getlist(name)) > 1:
            raise Problem(422, f"{name} is given {len(given)} times in the address.", next_step=GIVE_ONCE)


def _said_once(name: str, address: str, form: Received) -> str:
    body = form.fields.get(name, "")
    if address and body and address != body:
        raise Problem(422, f"{name} is given twice: {address!r} in the address, {body!r} in the body.", next_step=GIVE_ONCE)
    return address or body


def _is_photo(file: Upload) -> bool:
    """By its first bytes; a wrong guess only changes how long the answer waits."""
    try:
        with open(file.path, "rb") as handle:
            head = handle.read(16)
    except OSError:
        return False
    return begins_as_photo(head)
