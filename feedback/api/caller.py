"""Who a request comes from, whether it may come so often, and how what the service refuses becomes an answer."""

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from feedback.access import ANONYMOUS, Actor, Forbidden
from feedback.accounts import AccountRefused
from feedback.addresses import AddressRefused
from feedback.api.answers import dumps, json_response
from feedback.api.guard import SAFE
from feedback.api.problems import Problem, problem_of, problem_response
from feedback.cases import AlreadyReviewed, NotReviewable, TooLate
from feedback.detections import RETRY_SECONDS, KeyReused, QueueFull
from feedback.service import Gone, NotFound, Service
from workspace.errors import DatabaseSilent, DataError, WorkspaceError

COOKIE, CSRF_HEADER = "vigil_session", "X-CSRF-Token"
MOST_ANSWERS, LONGEST_ANSWER_BYTES = 2000, 16 << 10  # kept at once; longer ones are written anew each time
HOW = "Send `Authorization: Bearer vigil_...`; `vigil keys add` makes a key, and so does the console."


class Buckets:
    """Token buckets: so many requests a minute each, a burst of as many. The least recently seen are forgotten."""

    def __init__(self, a_minute: int, most: int = 10_000) -> None:
        self.a_minute, self.most = a_minute, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str, moment: float) -> float:
        """Seconds until the next one may come; 0 where this one may."""
        left, since = self._left.pop(who, (float(self.a_minute), moment))
        left = min(self.a_minute, left + (moment - since) * self.a_minute / 60)
        self._left[who] = (left - 1 if left >= 1 else left, moment)
        if len(self._left) > self.most:
            self._left.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) * 60 / self.a_minute

    def owe(self, who: str, number: int, moment: float) -> None:
        """Count so many more that came with one that was let in: what there is no room for is made up before the next one may come."""
        left, since = self._left.pop(who, (float(self.a_minute), moment))
        self._left[who] = (left - number, since)


class Callers:
    """Tells who asks. One for an app."""

    def __init__(self, service: Service) -> None:
        self.service, limits = service, service.settings.feedback
        self.requests, self.uploads = Buckets(limits.requests_per_minute), Buckets(limits.uploads_per_minute)
        self._sign_ups = Buckets(limits.sign_ups_per_hour)  # refilled sixty times too fast: see `until_sign_up`

    async def actor(self, request: Request) -> Actor:
        """Who sent this: by API key, by the console's session (whose changes need its CSRF token), or nobody.

        Raises Problem: 401 for a key or session that is none, 403 for a missing CSRF token, 429 above the rate.
        """
        try:
            actor = await self.by_now(request)
        except Problem:
            self._limit(self.requests, ANONYMOUS, request)  # guessing keys has the rate of an address
            raise
        self._limit(self.requests, actor, request)
        return actor

    async def by_now(self, request: Request) -> Actor:
        """The same, not counted: for a request that goes on, while keys are revoked and roles change. Raises Problem: 401, 403."""
        given = request.headers.get("authorization", "")
        actor = self.service.accounts.remembered(given[7:].strip(), time.monotonic()) if given[:7].lower() == "bearer " else None
        return actor if actor is not None else await asyncio.to_thread(self._known, request)

    def upload(self, actor: Actor, request: Request) -> None:
        """Count an upload. Raises Problem 429."""
        self._limit(self.uploads, actor, request)

    def further_files(self, actor: Actor, request: Request, number: int) -> None:
        """Count what else a batch holds whose first file was let in: it is taken whole, or one larger than the rate never would be."""
        self.uploads.owe(_who(actor, request), number, time.monotonic())

    def sign_up(self, request: Request) -> None:
        """Count a sign-up from this address, by the hour. Raises Problem 429."""
        wait = self.until_sign_up(request)
        if wait:
            raise Problem(429, "Too many accounts were made from this address.", next_step="Come back later.", retry_after_seconds=int(wait) + 1)

    def until_sign_up(self, request: Request) -> float:
        """Count a sign-up from this address, whichever way it comes; seconds until the next one may, 0 where this one may."""
        return self._sign_ups.take(address_of(request), time.monotonic() / 60) * 60

    def _known(self, request: Request) -> Actor:
        given = request.headers.get("authorization", "")
        if given:
            kind, _, text = given.partition(" ")
            actor = self.service.accounts.by_key(text.strip(), time.monotonic()) if kind.lower() == "bearer" else None
            if actor is None:
                raise _unknown("This key is not known, or was revoked.")
            return actor
        token = request.cookies.get(COOKIE, "")
        if not token:
            return ANONYMOUS
        session = self.service.accounts.session(token)
        if session is None:
            raise _unknown("This session has ended.")
        if request.method not in SAFE and not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf.encode()):
            raise Problem(403, f"A change by session needs its token in {CSRF_HEADER}.", next_step="Programs use an API key instead.")
        return session.actor

    def _limit(self, buckets: Buckets, actor: Actor, request: Request) -> None:
        wait = buckets.take(_who(actor, request), time.monotonic())
        if wait:
            raise Problem(429, "Too many requests.", next_step="Wait as Retry-After says.", retry_after_seconds=int(wait) + 1)


class Door:
    """Calls the service: short reads of the embedded database at once (they take a fraction of a millisecond), all else in a thread."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._version: int | None = None
        self._answers: dict[tuple[Any, ...], bytes] = {}

    async def look(self, method: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Call a method that only reads a few rows."""
        if self.service.database.is_sqlite:
            return method(*arguments, **more)
        return await asyncio.to_thread(method, *arguments, **more)

    async def answer(self, method: Callable[..., Any], actor: Actor, *arguments: Any) -> Response:
        """What `look` gives, as JSON; written anew only when anything in the embedded database has changed since this actor last asked."""
        version = self.service.database.version()
        if version is None:
            return json_response(await asyncio.to_thread(method, actor, *arguments))
        if version != self._version:
            self._answers.clear()
            self._version = version
        key = (method.__name__, actor, *arguments)
        content = self._answers.get(key)
        if content is None:
            content = dumps(method(actor, *arguments))
            if len(content) <= LONGEST_ANSWER_BYTES and len(self._answers) < MOST_ANSWERS and self.service.database.version() == version:
                self._answers[key] = content
        return Response(content, media_type="application/json")

    async def do(self, method: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Call a method that writes, or reads much."""
        return await asyncio.to_thread(method, *arguments, **more)


def install_refusals(app: FastAPI, root: Path) -> None:
    """Turn what the service raises into problem+json."""

    def answer(kind: type[Exception], make: Callable[[Any], Response]) -> None:
        async def handler(_: Request, problem: Exception) -> Response:
            return make(problem)

        app.add_exception_handler(kind, handler)

    def forbidden(problem: Forbidden) -> Response:
        if not problem.known:
            return problem_response(401, "This needs somebody who is known.", HOW, {"WWW-Authenticate": "Bearer"})
        return problem_response(403, f"Not with the role {problem.actor.role.name} ({problem.action}).", "Ask an admin.")

    def full(problem: QueueFull) -> Response:
        return problem_response(429, f"The queue is full: {problem}", "Send it again later.", {"Retry-After": str(problem.retry_after_seconds)})

    def refused(problem: AccountRefused) -> Response:
        return problem_response(422, str(problem), field=problem.field)

    app.add_exception_handler(ClientDisconnect, broken_off)
    answer(Forbidden, forbidden)
    answer(QueueFull, full)
    answer(AccountRefused, refused)
    answer(DatabaseSilent, lambda problem: problem_response(503, problem.what, problem.next_step, {"Retry-After": str(RETRY_SECONDS)}))
    answer(NotFound, lambda problem: problem_response(404, str(problem), problem.next_step))
    answer(Gone, lambda problem: problem_response(410, str(problem)))
    answer(AlreadyReviewed, lambda problem: problem_response(409, "You have answered this case already.", "Take it back first: POST .../undo."))
    answer(NotReviewable, lambda problem: problem_response(409, str(problem)))
    answer(TooLate, lambda problem: problem_response(409, str(problem)))
    answer(KeyReused, lambda problem: problem_response(422, "This Idempotency-Key came before with another request.", "Use a new key for a new request."))
    answer(AddressRefused, lambda problem: problem_response(422, str(problem), "The lists are feedback.reference_hosts and feedback.webhook_hosts."))
    answer(WorkspaceError, lambda problem: problem_of(problem, 409, root))
    answer(DataError, lambda problem: problem_of(problem, 503, root, {"Retry-After": "30"}))


async def broken_off(_: Request, __: Exception) -> Response:
    """The client has gone; nobody reads this, but it is no failure of the service."""
    return problem_response(400, "The connection ended before the body did.", "Send it again.", {"Connection": "close"})


def _who(actor: Actor, request: Request) -> str:
    """Whom a request is counted for."""
    return f"user:{actor.user_id}" if actor.user_id else address_of(request)


def _unknown(detail: str) -> Problem:
    problem = Problem(401, detail, next_step=HOW)
    problem.headers["WWW-Authenticate"] = "Bearer"
    return problem


def address_of(request: Request) -> str:
    """The address that a caller is counted by."""
    return request.client.host if request.client else "unknown"
