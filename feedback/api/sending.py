"""Routes that take files in for a verdict: one, a reference to one, or several."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from feedback.api.events import Changes, Who, until_done
from feedback.api.problems import Problem
from feedback.api.references import fetched
from feedback.api.uploads import FIELDS, GIVE_ONCE, Received, Upload, received
from feedback.detections import MediaGone
from feedback.once import NamedTwice
from media.names import begins_as_photo
from workspace.choices import MODES, POLICIES

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
        who = partial(callers.by_now, request)  # the body may have come for hours
        take = _take_reference if _is_json(request) else _take_form
        found, name, photo = await take(request, door, who, _Asked(policy, mode, idempotency_key))
        if wait is None:
            wait = IMAGE_WAIT_SECONDS if photo else 0.0
        if wait:
            found = await until_done(door, changes, who, found, wait)
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
            callers.further_files(actor, request, len(form.files) - 1)
            found = await _take(door, await callers.by_now(request), form.files, _Asked(policy, mode, idempotency_key).of_form(form))
            names = [file.file_name for file in form.files]
        return json_response({"detections": [{**row, "file": name} for row, name in zip(found, names, strict=True)]}, 202)


@dataclass(frozen=True, slots=True)
class _Asked:
    """How a verdict is asked for, and under which key the same request may come again; `fingerprint` tells whether it is the same."""

    policy: str
    mode: str
    key: str
    fingerprint: str = ""

    def of_form(self, form: Received) -> "_Asked":
        """The same, of a form's files."""
        return self.of([file.sha256 for file in form.files], form.fields)

    def of(self, what: Sequence[str], body: Mapping[str, str]) -> "_Asked":
        """The same, of this content. Policy and mode may stand in the address or in the body, not two different ones."""
        policy, mode = _said_once("policy", self.policy, body), _said_once("mode", self.mode, body)
        return _Asked(policy, mode, self.key, hashlib.sha256("\n".join([policy, mode, *what]).encode()).hexdigest() if self.key else "")


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"


async def _take_form(request: Request, door: Door, who: Who, asked: _Asked) -> tuple[dict[str, Any], str, bool]:
    """Take in the file of a form: its detection, its name, and whether it is a photo."""
    service = door.service
    async with received(request, service.media, service.settings.serve.max_upload_bytes) as form:
        found = await _take(door, await who(), form.files, asked.of_form(form))
        return found[0], form.files[0].file_name, _is_photo(form.files[0])


async def _take_reference(request: Request, door: Door, who: Who, asked: _Asked) -> tuple[dict[str, Any], str, bool]:
    """The same of a file that is fetched from the address that its JSON names; not once more where this very request was taken in before."""
    service, given = door.service, await _reference(request)
    asked = asked.of(["reference", given.reference], {"policy": given.policy, "mode": given.mode})
    if asked.key and (before := await door.do(service.replayed, await who(), asked.key, asked.fingerprint)) is not None:
        return before[0], "", False
    async with fetched(given.reference, service.media, service.settings) as upload:
        return (await _take(door, await who(), [upload], asked))[0], "", _is_photo(upload)


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


async def _take(door: Door, actor: Actor, files: Sequence[Upload], asked: _Asked) -> list[dict[str, Any]]:
    """Have the service take files in."""
    given = [(file.path, file.sha256, file.size_bytes) for file in files]
    detect = partial(door.do, door.service.detect, actor, given, asked.policy, asked.mode, asked.key, asked.fingerprint)
    try:
        try:
            found: list[dict[str, Any]] = await detect()
        except MediaGone:  # deleted by age in the moment between; the file is still in our hands
            found = await detect()
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


def _said_once(name: str, address: str, body: Mapping[str, str]) -> str:
    told = body.get(name, "")
    if address and told and address != told:
        raise Problem(422, f"{name} is given twice: {address!r} in the address, {told!r} in the body.", next_step=GIVE_ONCE)
    return address or told


def _is_photo(file: Upload) -> bool:
    """By its first bytes; a wrong guess only changes how long the answer waits."""
    try:
        with open(file.path, "rb") as handle:
            head = handle.read(16)
    except OSError:
        return False
    return begins_as_photo(head)
