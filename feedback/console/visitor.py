"""Who looks at a page: the session behind a cookie, looked up anew at each action."""

import asyncio
import hmac
from collections.abc import Callable
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from feedback.access import Actor
from feedback.accounts import Session
from feedback.api.guard import host_name
from feedback.service import Service

COOKIE = "vigil_session"  # the API takes the same one
FORM_COOKIE = "vigil_form"  # what a form must bring back where nobody is logged in yet
FORM_FIELD = "csrf"
NAMES = "vigil_names"  # in the scope: the names by which the service is reached (see guard.py)


class LoggedOut(Exception):
    """The session has ended, or its account was disabled."""


class Visitor:
    """One browser tab's visitor. Holds the session's token, never an actor: rights are those of this moment."""

    def __init__(self, service: Service, token: str) -> None:
        self.service, self._token = service, token

    def session(self) -> Session | None:
        """The session as it stands now, or None."""
        return self.service.accounts.session(self._token) if self._token else None

    def actor(self) -> Actor:
        """Who this is now. Raises LoggedOut."""
        session = self.session()
        if session is None:
            raise LoggedOut
        return session.actor

    async def ask(self, method: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Call a method of the service as this visitor, in a thread. Raises LoggedOut and what the method raises."""

        def call() -> Any:
            return method(self.actor(), *arguments, **more)

        return await asyncio.to_thread(call)


def token_of(request: HTTPConnection) -> str:
    """The session token that a request carries, or ""."""
    return request.cookies.get(COOKIE, "")[:200]


def set_session(response: Response, token: str, secure: bool, seconds: int) -> None:
    """Give the browser its session: no script can read the cookie, no other site can make it travel."""
    response.set_cookie(COOKIE, token, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict")


def end_session(response: Response) -> None:
    """Take the cookie back."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def form_token(request: HTTPConnection) -> str:
    """The token for forms of somebody who is not logged in: what the guard found in the cookie, or made (see guard.py)."""
    return str(request.scope.get(FORM_COOKIE, ""))


def same_site(request: HTTPConnection) -> bool:
    """Whether the browser says that this comes from our own pages; a client that says nothing is judged by its token alone."""
    fetched = request.headers.get("sec-fetch-site", "")
    if fetched and fetched != "same-origin":
        return False
    origin = request.headers.get("origin", "").lower().split("://", 1)[-1]
    return not origin or origin == request.headers.get("host", "").lower() or host_name(origin) in request.scope.get(NAMES, ())


def names_its_site(request: HTTPConnection) -> bool:
    """Whether the client says from which site this comes, as browsers do when they send a form."""
    return "sec-fetch-site" in request.headers or "origin" in request.headers


def is_same(given: str, wanted: str) -> bool:
    """Compare two tokens in constant time; an empty one fits nothing."""
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())
