"""What was sent and what came out: filters, pages, and a table to take away."""

from datetime import date
from typing import Any

from fastapi import Request

from feedback.console import PATH
from feedback.console.detect import POLICY_WORDS
from feedback.console.layout import View, page
from feedback.console.media import pictures_of
from feedback.console.parts import address, button, choice, empty, field, link, moment, pages, said_of, size, table, tag
from feedback.service import Service

PAGE = 25
FILTERS = ("verdict", "state", "policy", "since", "until")
VERDICTS = {"": "Any", "real": "Real", "fake": "Fake", "uncertain": "Uncertain", "none": "No verdict"}
STATES = {"": "Any", "queued": "Waiting", "running": "Being looked at", "done": "Done", "erased": "Erased"}


def add(service: Service) -> None:
    """Add the page."""

    @page(service, "/history", "History")
    async def history(view: View) -> None:
        (filters, everybody), before = _asked(view.request), view.number("before")
        everybody = everybody and view.may("detection.list")
        found = await view.ask(service.detections_page, everybody, before, PAGE, **filters)
        tag("h1", "History")
        _filters(view, filters, everybody)
        rows, query = found["detections"], {**filters, **({"everybody": "1"} if everybody else {})}
        if not rows:
            if before:
                empty("Nothing older.", "The list ends before this page.", address(f"{PATH}/history", query), "Newest")
            elif filters or everybody:
                empty("Nothing fits these filters.", "Take one away, or look at all.", f"{PATH}/history", "Show all")
            else:
                empty("Nothing has been sent yet.", "The verdicts of your uploads will be listed here.", PATH, "Send a file")
            return
        table("Verdicts, the newest first", ["File", "Verdict", "Sent", "Kind", "Size", "Policy", "Model"], [_row(one, view.may("case.list")) for one in rows])
        pages(f"{PATH}/history", query, before, found["next"])


def _asked(request: Request) -> tuple[dict[str, str], bool]:
    given = request.query_params
    filters = {name: given[name][:40] for name in FILTERS if given.get(name) and (name not in ("since", "until") or _is_day(given[name]))}
    return filters, given.get("everybody") == "1"


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _filters(view: View, filters: dict[str, str], everybody: bool) -> None:
    with tag("form", "", "card filters", method="get", action=f"{PATH}/history", aria_label="Filters"):
        choice("Verdict", "verdict", VERDICTS, filters.get("verdict", ""))
        choice("State", "state", STATES, filters.get("state", ""))
        choice("Policy", "policy", {**POLICY_WORDS, "": "Any"}, filters.get("policy", ""))
        field("From", "since", "date", value=filters.get("since", ""))
        field("To", "until", "date", value=filters.get("until", ""))
        if view.may("detection.list"):
            choice("Whose", "everybody", {"": "Mine", "1": "Everybody's"}, "1" if everybody else "")
        with tag("div", "", "row"):
            button("Filter", classes="button-main")
            query = {name: value for name, value in {**filters, "everybody": "1" if everybody else ""}.items() if value}
            link("Export (CSV)", address("/v1/export", query), "button", download="vigil-history.csv")


def _row(one: dict[str, Any], reviewer: bool) -> list[Any]:
    def file() -> None:
        thumbnail = pictures_of(one, reviewer)["thumbnail"]
        with link("", f"{PATH}/detections/{one['id']}", "file-link"):
            if thumbnail:
                tag("img", src=thumbnail, alt="", loading="lazy")
            tag("code", str(one["sha256"])[:10])

    model = "starter" if one.get("origin") == "starter" else one.get("cycle") or one.get("origin") or "–"
    kind, policy = one.get("kind") or "–", POLICY_WORDS.get(one.get("policy") or "", one.get("policy"))
    return [file, lambda: said_of(one), moment(one["created_at"]), kind, size(one["bytes"]), policy, model]
