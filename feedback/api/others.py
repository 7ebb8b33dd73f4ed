"""Routes of cases, models, accounts, keys, webhooks and the audit trail."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from feedback.access import Actor
from feedback.api.answers import (
    OPEN,
    REFUSALS,
    Account,
    AccountPage,
    Case,
    CasePage,
    Gold,
    Govern,
    Key,
    NewKey,
    NewPassword,
    NewUser,
    NewWebhook,
    ReportKey,
    Review,
    Rollback,
    SignUp,
    Webhook,
    Why,
    json_response,
    refusals,
)
from feedback.api.caller import Callers, Door
from feedback.api.problems import Problem
from feedback.database import ID

Id = Annotated[str, Path(pattern=f"^{ID}$")]
MaybeId = Annotated[str, Query(pattern=f"^({ID})?$")]
Number = Annotated[int, Query(ge=0, le=2**53)]


def cases(door: Door, callers: Callers) -> APIRouter:
    """The routes under /v1/cases and /v1/queue."""
    routes, service = APIRouter(prefix="/v1", responses=REFUSALS, tags=["cases"]), door.service
    Caller = Annotated[Actor, Depends(callers.actor)]

    @routes.get("/cases", responses={200: {"model": CasePage}})
    async def list_cases(
        actor: Caller,
        state: Annotated[str, Query(pattern="^(open|decided|quarantined|erased|known|all)$")] = "open",
        after: Number = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """Cases in order of arrival; the `known` ones for who may govern them."""
        return json_response(await door.do(service.cases_page, actor, None if state == "all" else state, after, limit))

    @routes.get("/queue", responses={200: {"description": "The cases to look at next."}})
    async def queue(actor: Caller, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Response:
        """What this reviewer should look at next, most useful first."""
        return json_response({"cases": await door.do(service.queue, actor, limit)})

    @routes.get("/cases/{case_id}", responses={200: {"model": Case}})
    async def case(case_id: Id, actor: Caller) -> Response:
        """One case, its answers, and which models have learned from it."""
        return json_response(await door.do(service.case, actor, case_id))

    @routes.post("/cases/{case_id}/review", status_code=201, responses={201: {"model": Case}, **refusals(409)})
    async def review(case_id: Id, actor: Caller, given: Review) -> Response:
        """Answer a case, once. When enough agree, `real` and `fake` reach the next cycle's batch."""
        return json_response(await door.do(service.review, actor, case_id, given.label, given.note, given.identity, given.seconds), 201)

    @routes.post("/cases/{case_id}/undo", responses={200: {"model": Case}, **refusals(409)})
    async def undo(case_id: Id, actor: Caller) -> Response:
        """Take one's answer back, until it was handed over."""
        return json_response(await door.do(service.undo, actor, case_id))

    @routes.post("/cases/{case_id}/quarantine", responses={200: {"model": Case}, **refusals(409)})
    async def quarantine(case_id: Id, actor: Caller, given: Why) -> Response:
        """Keep a case out of training and out of the queue."""
        return json_response(await door.do(service.quarantine, actor, case_id, given.why))

    @routes.post("/cases/{case_id}/release", responses={200: {"model": Case}, **refusals(409)})
    async def release(case_id: Id, actor: Caller) -> Response:
        """End a quarantine."""
        return json_response(await door.do(service.release, actor, case_id))

    @routes.post("/cases/{case_id}/gold", responses={200: {"model": Case}, **refusals(409)})
    async def gold(case_id: Id, actor: Caller, given: Gold) -> Response:
        """Say what a case truly is: it measures reviewers from now on, and never trains."""
        return json_response(await door.do(service.set_gold, actor, case_id, given.label))

    @routes.get("/quality", responses={200: {"description": "A row a reviewer."}})
    async def quality(actor: Caller, user: Annotated[str, Query(pattern=f"^({ID}|me)?$")] = "me") -> Response:
        """How well reviewers agree with the known cases and with each other; empty for all."""
        return json_response({"reviewers": await door.do(service.quality, actor, actor.user_id if user == "me" else user or None)})

    return routes


def people(door: Door, callers: Callers) -> APIRouter:
    """The routes under /v1/users and /v1/keys."""
    routes, service = APIRouter(prefix="/v1", responses=REFUSALS, tags=["people"]), door.service
    Caller = Annotated[Actor, Depends(callers.actor)]

    @routes.get("/users", responses={200: {"model": AccountPage}})
    async def users(
        actor: Caller,
        before: MaybeId = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        named: Annotated[str, Query(max_length=100)] = "",
        sources: bool = False,
    ) -> Response:
        """Accounts, newest first, `named` so in part; with `sources` those too that own what sources of the workspace brought, with which nobody logs in."""
        return json_response(await door.do(service.users_page, actor, before, limit, named, sources))

    @routes.post("/users", status_code=201, responses={201: {"model": Account}})
    async def create_user(actor: Caller, given: NewUser) -> Response:
        """Make an account."""
        made = await door.do(service.create_user, actor, given.name, given.email, given.user_name, given.password, given.role)
        return json_response(await door.do(service.account, actor, made), 201)

    @routes.get("/users/me", responses={200: {"model": Account}})
    async def me(actor: Caller) -> Response:
        """One's own account."""
        return json_response(await door.do(service.account, actor))

    @routes.patch("/users/{user_id}", responses={200: {"model": Account}})
    async def govern(user_id: Id, actor: Caller, given: Govern) -> Response:
        """Change a role, disable, unlock."""
        return json_response(await door.do(service.govern, actor, user_id, given.role, given.disabled, given.unlock))

    @routes.post("/users/{user_id}/password", status_code=204)
    async def password(user_id: Id, actor: Caller, given: NewPassword) -> Response:
        """Set a password; every session of the account ends."""
        await door.do(service.change_password, actor, given.password, given.old, user_id)
        return Response(status_code=204)

    @routes.get("/keys", responses={200: {"description": "Keys without their secret, and the `before` of the following page."}})
    async def keys(actor: Caller, user: MaybeId = "", before: MaybeId = "", limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        """One's own keys, or an account's, newest first."""
        return json_response(await door.do(service.keys_page, actor, user, before, limit))

    @routes.post("/keys", status_code=201, responses={201: {"model": Key}})
    async def create_key(actor: Caller, given: NewKey) -> Response:
        """A new key; its text is shown this once."""
        return json_response(await door.do(service.create_key, actor, given.name), 201)

    @routes.delete("/keys/{key_id}", status_code=204)
    async def revoke_key(key_id: Id, actor: Caller) -> Response:
        """End a key."""
        await door.do(service.revoke_key, actor, key_id)
        return Response(status_code=204)

    return routes


def rest(door: Door, callers: Callers) -> APIRouter:
    """The routes of models, charts, webhooks and the trail."""
    routes, service = APIRouter(prefix="/v1", responses=REFUSALS, tags=["service"]), door.service
    Caller = Annotated[Actor, Depends(callers.actor)]

    @routes.get("/report-key", responses={200: {"model": ReportKey}}, openapi_extra=OPEN)
    async def report_key(actor: Caller) -> Response:
        """The public key of this service, which its signed reports are verified with; for anybody."""
        return json_response(await door.look(service.report_key, actor))

    @routes.get("/models", responses={200: {"description": "What answers, what came before, what was decided."}})
    async def models(actor: Caller) -> Response:
        """Which model answers, every decision about models, and the figures of the newest hundred cycles."""
        return json_response(await door.look(service.models, actor))

    @routes.post("/models/rollback", responses={200: {"description": "What was done."}, **refusals(409)})
    async def rollback(actor: Caller, given: Rollback) -> Response:
        """Serve an earlier champion again."""
        return json_response({"done": await door.do(service.rollback, actor, given.why, given.to, given.instead_of)})

    @routes.get("/charts", responses={200: {"description": "By day, by model, and by cycle."}})
    async def charts(actor: Caller, days: Annotated[int, Query(ge=1, le=3660)] = 56) -> Response:
        """Volume, verdicts and uncertainty by day; estimated accuracy by model; drift and accuracy of the newest hundred cycles."""
        return json_response(await door.do(service.charts, actor, days))

    @routes.get("/webhooks", responses={200: {"description": "Webhooks with what was sent."}})
    async def webhooks(actor: Caller, user: MaybeId = "") -> Response:
        """One's own webhooks, or an account's."""
        return json_response({"webhooks": await door.do(service.webhooks_list, actor, user)})

    @routes.post("/webhooks", status_code=201, responses={201: {"model": Webhook}})
    async def create_webhook(actor: Caller, given: NewWebhook) -> Response:
        """Have verdicts sent to an address; the secret that signs them is shown this once."""
        try:
            return json_response(await door.do(service.create_webhook, actor, given.url), 201)
        except ValueError as problem:
            raise Problem(422, str(problem), next_step="The list is feedback.webhook_hosts.") from problem

    @routes.delete("/webhooks/{webhook_id}", status_code=204)
    async def delete_webhook(webhook_id: Id, actor: Caller) -> Response:
        """End a webhook."""
        await door.do(service.delete_webhook, actor, webhook_id)
        return Response(status_code=204)

    @routes.get("/audit", responses={200: {"description": "Newest first."}})
    async def trail(
        actor: Caller,
        about: Annotated[str, Query(max_length=100)] = "",
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """The audit trail, of one object (`detection:<id>`) or of all."""
        return json_response(await door.do(service.trail, actor, about or None, before, limit))

    @routes.get("/audit/verify", responses={200: {"description": "Whether the chain holds."}})
    async def verify(actor: Caller, expect: Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$")] = "") -> Response:
        """Walk the whole chain."""
        found = await door.do(service.verify_trail, actor, expect)
        shown: dict[str, Any] = {"entries": found.entries, "last_hash": found.last_hash, "broken_at": found.broken_at, "why": found.why}
        return json_response(shown)

    return routes


def sign_up(door: Door, callers: Callers) -> APIRouter:
    """The one route of people who are not known yet."""
    routes, service = APIRouter(prefix="/v1", responses=REFUSALS, tags=["people"]), door.service

    @routes.post("/sign-up", status_code=201, responses={201: {"description": "The id of the new account."}}, openapi_extra=OPEN)
    async def make_account(request: Request, given: SignUp, actor: Annotated[Actor, Depends(callers.actor)]) -> Response:
        """Make one's own account; the settings say what it may do."""
        callers.sign_up(request)
        return json_response({"id": await door.do(service.sign_up, actor, given.name, given.email, given.user_name, given.password)}, 201)

    return routes
