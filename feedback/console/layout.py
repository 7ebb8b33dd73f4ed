"""The frame of every page: who may see it, the way around, what is said when something is refused."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from nicegui import context, ui
from nicegui.element import Element

from feedback.access import ACTIONS, Forbidden, may
from feedback.accounts import AccountRefused, Session
from feedback.cases import AlreadyReviewed, NotReviewable, TooLate
from feedback.console import PATH, theme
from feedback.console.parts import button, drawing, empty, link, tag
from feedback.console.visitor import LoggedOut, Visitor, token_of
from feedback.service import Gone, NotFound, Service
from workspace.errors import VigilError

LOG = logging.getLogger("vigil.console")
BUILD_SECONDS = 30.0
READ_SECONDS = 2.5  # before a page is left or loaded anew, and what it said goes
WAYS = (  # the way around: path, word, the action that shows it
    ("", "Detect", "detection.create"),
    ("/history", "History", "detection.list"),
    ("/review", "Review", "case.list"),
    ("/cases", "Cases", "case.list"),
    ("/models", "Models", "model.read"),
    ("/charts", "Charts", "chart.read"),
    ("/users", "Users", "account.list"),
    ("/trail", "Audit", "audit.read"),
)
REFUSALS = (Forbidden, NotFound, Gone, AccountRefused, AlreadyReviewed, NotReviewable, TooLate, ValueError, VigilError)


@dataclass
class View:
    """What a page is built with."""

    service: Service
    visitor: Visitor
    session: Session
    request: Request

    def may(self, action: str, owner_id: str | None = None) -> bool:
        """Whether to show a way to do it; the service decides again when it is done."""
        return may(self.session.actor, action, owner_id)

    def number(self, name: str) -> int | None:
        """A number of the page's address, like the `before` of a list; None where it is missing or no number that a list could have."""
        text = self.request.query_params.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None  # int() takes no superscript two, which is a digit too

    def id(self, name: str) -> str:
        """An id of the page's address; "" where it is missing or no id can be so."""
        text = self.request.query_params.get(name, "")
        return text if text.isascii() and text.isalnum() and len(text) <= 32 else ""

    async def ask(self, method: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """See Visitor.ask."""
        return await self.visitor.ask(method, *arguments, **more)

    async def do(self, method: Callable[..., Any], *arguments: Any, done: str = "", **more: Any) -> Any:
        """Ask, and tell the person what came of it: `done`, or why not. Returns the answer; None where it was refused."""
        try:
            answer = await self.visitor.ask(method, *arguments, **more)
        except LoggedOut:
            self.log_in_again()
            return None
        except REFUSALS as problem:
            say(explain(problem), "bad")
            return None
        if done:
            say(done, "good")
        return True if answer is None else answer

    def log_in_again(self) -> None:
        """Say that it was not done, and lead to the log-in, which leads back to this page: at once where there is a new session, as of another tab."""
        say("This page's session has ended: what you pressed was not done.", "bad")
        ui.timer(READ_SECONDS, lambda: ui.navigate.to(_log_in(self.request)), once=True)  # the library puts the console's own path before it


def page(service: Service, path: str, title: str) -> Callable[[Callable[[View], Awaitable[None]]], None]:
    """Make the function a page for who is logged in. What the service refuses becomes a page that says so, with its status."""

    def add(build: Callable[[View], Awaitable[None]]) -> None:
        @ui.page(path, title=f"{title} · Vigil", response_timeout=BUILD_SECONDS)
        async def show(request: Request) -> Response | None:
            visitor = Visitor(service, token_of(request))
            session = await asyncio.to_thread(visitor.session)
            if session is None:
                return RedirectResponse(PATH + _log_in(request), 303)
            view = View(service, visitor, session, request)
            with frame(title, session, path) as body:
                try:
                    await build(view)
                except LoggedOut:
                    return RedirectResponse(PATH + _log_in(request), 303)
                except REFUSALS as problem:
                    body.clear()
                    ui.status_code(_status(problem))
                    tag("h1", _headline(problem))
                    empty(explain(problem), "Nothing was changed.", PATH, "Back to the start")
            return None

    return add


def frame(title: str, session: Session | None, here: str = "") -> Element:
    """The header and an empty body, in which the page is built."""
    ui.add_head_html(theme.head(PATH))
    layout = context.client.layout
    with layout:
        header = tag("header", "", "top").move(target_index=0)
        toast = tag("div", "", "toast", role="status", aria_live="polite")
    context.client.storage["toast"] = toast
    with header:
        link("Skip to the page", "#body", "skip")
        with link("", PATH, "brand", aria_label="Vigil, start page"):
            drawing(theme.icon("mark"))
            tag("span", "Vigil")
        if session is not None:
            _ways(session, here)
        with tag("div", "", "top-end"):
            with button("", _nothing, "button-plain theme-switch", title="Light, dark, or as the system is") as switch:
                drawing(theme.icon("theme"))
                tag("span", "Theme:", "wide-only")
                tag("span", "auto", "wide-only", data_theme_word=True)
            switch.props["aria-label"] = "Change between automatic, light and dark"
            switch.on("click", js_handler="() => window.vigilTheme.next()")
            if session is not None:
                link(session.actor.name, f"{PATH}/account", "who", title="My account")
                with tag("form", "", "inline", method="post", action=f"{PATH}/log-out"):
                    tag("input", type="hidden", name="csrf", value=session.csrf)
                    button("Log out", classes="button-plain")
            else:
                link("Log in", f"{PATH}/log-in", "way")
                link("Sign up", f"{PATH}/sign-up", "way")
    ui.run_javascript("window.vigilTheme.apply()")
    return tag("div", "", "body", id="body", tabindex="-1")


def say(text: str, kind: str = "good") -> None:
    """Tell the person, on screen and to a screen reader."""
    toast = context.client.storage.get("toast")
    if toast is None or context.client.is_deleted:
        return
    toast.clear()
    with toast:
        with tag("div", "", f"toast-card toast-{kind}"):
            drawing(theme.icon("real" if kind == "good" else "uncertain"))
            tag("span", text)
            button("Close", toast.clear, "button-plain")


def reload_soon() -> None:
    """Load the page anew once what was said has been read."""
    ui.timer(READ_SECONDS, ui.navigate.reload, once=True)


def explain(problem: Exception) -> str:
    """A refusal in words for the person."""
    if isinstance(problem, Forbidden):
        about = ACTIONS[problem.action].about
        return f"You may not do this: {about}. Your role is {problem.actor.role.name}; an admin can change it."
    if isinstance(problem, VigilError):
        return f"{problem.what} {problem.why[:1].upper()}{problem.why[1:]}. {problem.next_step}"
    return str(problem)


def _log_in(request: Request) -> str:
    """The log-in that leads back to what was asked for: its place within the console."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/log-in?next={quote(asked, safe='')}"


def _ways(session: Session, here: str) -> None:
    shown = next((word for path, word, _ in WAYS if (path or "/") == here), "Pages")
    with button("", _nothing, "button-plain menu-button", aria_expanded="false", aria_controls="ways") as menu:
        drawing(theme.icon("menu"))
        tag("span", shown)
    menu.on("click", js_handler=_MENU)
    with tag("nav", "", "ways", id="ways", aria_label="Pages"):
        for path, word, action in WAYS:
            if may(session.actor, action, session.actor.user_id):
                link(word, PATH + (path or "/"), "way", aria_current="page" if (path or "/") == here else None)


_MENU = """(event) => {
  const button = event.currentTarget, open = button.getAttribute('aria-expanded') !== 'true';
  button.setAttribute('aria-expanded', open);
  document.getElementById('ways').classList.toggle('open', open);
}"""


def _status(problem: Exception) -> int:
    kinds: tuple[tuple[Any, int], ...] = ((Forbidden, 403), (NotFound, 404), (Gone, 410), (VigilError, 503))
    return next((status for kind, status in kinds if isinstance(problem, kind)), 400)


def _headline(problem: Exception) -> str:
    return {403: "Not for your role", 404: "Not found", 410: "Gone", 503: "This does not work now"}.get(_status(problem), "This cannot be shown")


def _nothing() -> None:
    """The browser does it alone."""
