"""Sign-up, log-in and log-out: plain forms over HTTP, because only an answer over HTTP can set a cookie that no script reads."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, unquote

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from nicegui import ui

from feedback.access import ANONYMOUS, Forbidden
from feedback.accounts import AccountRefused, Session
from feedback.api.caller import Buckets, address_of
from feedback.console import PATH, theme
from feedback.console.layout import BUILD_SECONDS, explain, frame
from feedback.console.parts import button, drawing, field, link, tag
from feedback.console.visitor import (
    COOKIE,
    FORM_COOKIE,
    FORM_FIELD,
    Visitor,
    end_session,
    form_token,
    is_same,
    names_its_site,
    same_site,
    set_session,
    token_of,
)
from feedback.service import Service
from workspace.errors import DatabaseSilent

LARGEST_FORM_BYTES = 8192
LOG_INS_A_MINUTE = 60  # of one address; an account is locked much sooner
KEPT_FORMS = 1000  # refused forms whose reason waits to be shown
FOREIGN = "This form did not come from this page, or was open too long. Send it again."


def add(app: FastAPI, service: Service, until_sign_up: Callable[[Request], float]) -> None:
    """Add the pages and what their forms post to. `until_sign_up` counts a sign-up with those by the API, and says how long to wait."""

    log_ins = Buckets(LOG_INS_A_MINUTE)
    refused: OrderedDict[str, dict[str, str]] = OrderedDict()  # by form token: what was refused, shown once; never in an address

    def again(page: str, why: str, at: str, request: Request, given: dict[str, str]) -> Response:
        """Back to the form, with what was written but the password."""
        token = request.cookies.get(FORM_COOKIE, "")
        if token:
            refused[token] = {name: given.get(name, "")[:254] for name in ("name", "email", "user_name")} | {"refused": why, "at": at}
            while len(refused) > KEPT_FORMS:
                refused.popitem(last=False)
        asked = given.get("next", "")
        return RedirectResponse(f"{PATH}/{page}" + (f"?next={quote(asked[:300], safe='')}" if asked else ""), 303)

    async def enter(page: str, request: Request, given: dict[str, str]) -> Response:
        try:
            session: Session = await asyncio.to_thread(service.log_in, ANONYMOUS, given.get("user_name", ""), given.get("password", ""))
        except (AccountRefused, Forbidden, DatabaseSilent) as problem:
            return again(page, explain(problem), getattr(problem, "field", ""), request, given)
        answer = RedirectResponse(_within(given.get("next", "")), 303)
        set_session(answer, session.token, request.url.scheme == "https", service.settings.feedback.session_hours * 3600)
        return answer

    @ui.page("/log-in", title="Log in · Vigil", response_timeout=BUILD_SECONDS)
    async def log_in(request: Request) -> Response | None:
        if await asyncio.to_thread(Visitor(service, token_of(request)).session) is not None:
            return RedirectResponse(_within(request.query_params.get("next", "")), 303)
        _card(request, "Log in", "log-in", "Log in", refused.pop(form_token(request), {}))
        return None

    @ui.page("/sign-up", title="Sign up · Vigil", response_timeout=BUILD_SECONDS)
    async def sign_up(request: Request) -> Response | None:
        if await asyncio.to_thread(Visitor(service, token_of(request)).session) is not None:
            return RedirectResponse(PATH, 303)
        if service.settings.feedback.sign_up:
            _card(request, "Sign up", "sign-up", "Make my account", refused.pop(form_token(request), {}))
        else:
            with frame("Sign up", None), tag("div", "", "card entry"):
                tag("h1", "Sign up")
                tag("p", "Accounts are made by an admin here. Ask one.")
        return None

    @app.get("/session", include_in_schema=False)
    async def session(request: Request) -> Response:
        """The token of the session of now and whose it is, for a page that was opened in an earlier one."""
        found = await asyncio.to_thread(Visitor(service, token_of(request)).session)
        return JSONResponse({"csrf": found.csrf, "person": found.actor.user_id} if found else {}, 200 if found else 401, {"cache-control": "no-store"})

    @app.post("/log-in", include_in_schema=False)
    async def send_log_in(request: Request) -> Response:
        given = await _form(request)
        if not _ours(request, given):
            return again("log-in", FOREIGN, "", request, given)
        if log_ins.take(address_of(request), time.monotonic()):
            return again("log-in", "Too many log-ins from this address. Wait a minute.", "", request, given)
        return await enter("log-in", request, given)

    @app.post("/sign-up", include_in_schema=False)
    async def send_sign_up(request: Request) -> Response:
        given = await _form(request)
        if not _ours(request, given):
            return again("sign-up", FOREIGN, "", request, given)
        if until_sign_up(request):
            return again("sign-up", "Too many accounts were made from this address. Come back later.", "", request, given)
        wanted = [given.get(name, "") for name in ("name", "email", "user_name", "password")]
        try:
            await asyncio.to_thread(service.sign_up, ANONYMOUS, *wanted)
        except (AccountRefused, Forbidden, DatabaseSilent) as problem:
            return again("sign-up", explain(problem), getattr(problem, "field", ""), request, given)
        return await enter("sign-up", request, given)

    @app.post("/log-out", include_in_schema=False)
    async def log_out(request: Request) -> Response:
        """End the session of this browser, whichever one the page was opened in: the token of an earlier one is no longer right."""
        given = await _form(request)
        session = await asyncio.to_thread(Visitor(service, token_of(request)).session)
        answer = RedirectResponse(f"{PATH}/log-in", 303)
        if session is not None:
            if not same_site(request) or not (names_its_site(request) or is_same(given.get(FORM_FIELD, ""), session.csrf)):
                return answer
            await asyncio.to_thread(service.log_out, session.actor, request.cookies[COOKIE])
        end_session(answer)
        return answer


def _card(request: Request, title: str, path: str, word: str, before: dict[str, str]) -> None:
    """The one form of a page for somebody who is not logged in; what was refused `before` is said above it."""
    refused, at = before.get("refused", ""), before.get("at", "")
    kept = {name: before.get(name, "") for name in ("name", "email", "user_name")}

    def wrong(name: str) -> str | None:
        return "true" if at == name else None

    with frame(title, None), tag("div", "", "card entry"):
        with tag("div", "", "entry-mark"):
            drawing(theme.icon("mark"))
        tag("h1", title)
        if refused:
            tag("p", refused, "refused", role="alert")
        with tag("form", "", "form", method="post", action=f"{PATH}/{path}"):
            tag("input", type="hidden", name=FORM_FIELD, value=form_token(request))
            tag("input", type="hidden", name="next", value=request.query_params.get("next", "")[:300])
            if path == "sign-up":
                field("Name", "name", autocomplete="name", required=True, maxlength=100, value=kept["name"], aria_invalid=wrong("name"))
                field("E-mail", "email", "email", autocomplete="email", required=True, value=kept["email"], aria_invalid=wrong("email"))
                hint = "3 to 32 letters, digits, dots, dashes or underscores."
                field("User name", "user_name", hint=hint, autocomplete="username", required=True, value=kept["user_name"], aria_invalid=wrong("user_name"))
                field(
                    "Password", "password", "password", "At least 10 characters. A few words are good.",
                    autocomplete="new-password", required=True, minlength=10, aria_invalid=wrong("password"),
                )  # fmt: skip
            else:
                field("User name or e-mail", "user_name", autocomplete="username", required=True, value=kept["user_name"])
                field("Password", "password", "password", autocomplete="current-password", required=True)
            button(word, classes="button-main")
        if path == "sign-up":
            with tag("p", "", "muted"):
                tag("span", "You have an account? ")
                link("Log in", f"{PATH}/log-in")
        else:
            with tag("p", "", "muted"):
                tag("span", "No account yet? ")
                link("Sign up", f"{PATH}/sign-up")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; a larger one has none, nor one with a NUL, which no database takes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM_BYTES:
            return {}
    try:
        given = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=20))
    except ValueError:
        return {}
    return {} if any("\0" in value for value in given.values()) else given


def _ours(request: Request, given: dict[str, str]) -> bool:
    return same_site(request) and is_same(given.get(FORM_FIELD, ""), request.cookies.get(FORM_COOKIE, ""))


def _within(path: str) -> str:
    """Where to go after the log-in: a page of the console, never another site, nor what lies above the console."""
    climbs = ".." in unquote(path.partition("?")[0]).split("/")  # a browser takes %2e for a dot too
    return path if path == PATH or (path.startswith(f"{PATH}/") and "\\" not in path and "//" not in path and not climbs) else PATH
