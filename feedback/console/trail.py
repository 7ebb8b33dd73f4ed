"""For admins: the audit trail, and whether its chain is whole."""

import json
from typing import Any

from feedback.audit import Verified
from feedback.console import PATH
from feedback.console.layout import View, page
from feedback.console.parts import address, button, empty, field, link, moment, pages, table, tag
from feedback.service import Service

PAGE = 50
SHORT = 90  # longer details are folded


def add(service: Service) -> None:
    """Add the page."""

    @page(service, "/trail", "Audit trail")
    async def trail(view: View) -> None:
        wanted = view.request.query_params.get("object", "").strip()[:200]
        before, query = view.number("before"), {"object": wanted} if wanted else {}
        found = await view.ask(service.trail, wanted or None, before, PAGE)
        names = await view.ask(service.user_names, {_account(one["who"]) for one in found["entries"]})
        tag("h1", "Audit trail")
        tag("p", "Each entry holds the hash of the one before it: none can be changed or taken out unnoticed.", "lead")
        _verify(service, view)
        with tag("form", "", "card filters", method="get", action=f"{PATH}/trail", aria_label="Filters"):
            field("Of one object", "object", hint="Its whole name; a click on one in the list fills it in.", value=wanted)
            button("Filter", classes="button-main")
        if not found["entries"] and before:
            empty("No older entry.", "The list ends before this page.", address(f"{PATH}/trail", query), "Newest")
            return
        if not found["entries"]:
            empty("No entry fits.", "Take the filter away to see all.", f"{PATH}/trail", "Show all")
            return
        heads = ["Number", "When", "Who", "Action", "Object", "Detail"]
        table("Entries, the newest first", heads, [_row(one, names) for one in found["entries"]])
        pages(f"{PATH}/trail", query, before, found["next"])


def _verify(service: Service, view: View) -> None:
    async def verify() -> None:
        said.set_text("Walking the chain …")
        found = await view.do(service.verify_trail)
        said.set_text("" if found is None else _said(found))

    with tag("div", "", "card row"):
        button("Verify the chain", verify)
        said = tag("p", "", "walked", role="status")


def _said(found: Verified) -> str:
    if found.why:
        return f"Not whole: entry {found.broken_at} does not fit, {found.why}"
    return f"Whole: {found.entries} entries, the last hash {found.last_hash}"


def _row(one: dict[str, Any], names: dict[str, str]) -> list[Any]:
    detail = json.dumps(one["detail"], ensure_ascii=False, sort_keys=True) if one["detail"] else ""
    kind, _, id_ = one["object"].partition(":")
    short = f"{kind}:{id_[:8]}…" if len(id_) > 12 else one["object"]
    shown = lambda: link(short, address(f"{PATH}/trail", {"object": one["object"]}), "hash")  # noqa: E731
    return [str(one["number"]), moment(one["at"]), names.get(_account(one["who"]), one["who"]), one["action"], shown, lambda: _detail(detail)]


def _account(who: str) -> str:
    """The id of the account that an entry names as who did it; "" where that is none."""
    kind, _, id_ = who.partition(":")
    return id_ if kind == "user" else ""


def _detail(text: str) -> None:
    if len(text) <= SHORT:
        tag("code", text or "–", "hash")
        return
    with tag("details", "", "tight"):
        tag("summary", f"{text[:SHORT]}…", "hash")
        tag("code", text, "hash")
