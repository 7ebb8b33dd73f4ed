"""The review page: a case a second by keyboard, with what others said hidden until one has answered."""

import asyncio
from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.element import Element

from feedback.access import Actor
from feedback.console import PATH, theme
from feedback.console.layout import REFUSALS, View, explain, page
from feedback.console.media import pictures_of
from feedback.console.parts import WORDS, link, percent, tag
from feedback.console.visitor import LoggedOut
from feedback.service import Service
from workspace.errors import DatabaseDamaged, DatabaseSilent

AT_ONCE, MOST_LOOKED_AT = 12, 400
REASONS = {
    "uncertain": "the model is unsure",
    "novel": "unlike what the model knows",
    "disputed": "somebody disputes the verdict",
    "audit": "drawn at random",
    "unlabelled": "came without a label",
    "conflict": "its sources disagree",
}


class Deck(Element, component="review.js"):
    """The cases of one sitting. `results` says what became of each answer."""

    def __init__(self, person: str, cases: list[dict[str, Any]], more: bool) -> None:
        super().__init__()
        icons = {name: theme.icon(name) for name in ("real", "fake", "unsure", "empty")}
        values = {"cases": cases, "more": more, "icons": icons, "names": WORDS, "reasons": REASONS, "results": {}, "heats": {}, "problems": {}}
        for name, value in {**values, "base": PATH, "person": person}.items():
            self.props[name] = value

    def put(self, name: str, value: Any) -> None:
        """Change one of its props."""
        self.props[name] = value
        self.update()

    def add_to(self, name: str, key: str, value: Any) -> None:
        """Add to a prop that is a mapping."""
        self.put(name, {**self.props[name], key: value})


def add(service: Service) -> None:
    """Add the page."""

    @page(service, "/review", "Review")
    async def review(view: View) -> None:
        tag("h1", "Review")
        alone = service.settings.feedback.queue.reviewers_needed == 1
        trains = "Your answer is the label." if alone else "Two people who agree make a label that trains."
        tag("p", f"Say what you see. {trains} Others' answers and the model's stay hidden until you have given yours.", "lead")
        first = view.request.query_params.get("case", "")[:64]
        cases, more_wait = await _cases(service, view, set(), first=first)
        if first and not (cases and cases[0]["id"] == first):
            why = "you have answered it or sent it in yourself, it is closed, or its media have gone"
            with tag("p", "", "notice"):
                tag("span", f"The case that was asked for is not open to you: {why}. ")
                link("On its page", f"{PATH}/cases/{quote(first, safe='')}")
                tag("span", " stands why, and an answer of yours can be taken back. These wait.")
        deck = Deck(view.session.actor.user_id, cases, more_wait)

        in_turn = asyncio.Lock()  # an answer and what takes it back are written in the order in which they were given

        async def answered(event: Any) -> None:
            given = dict(event.args)
            case_id, turn = str(given.get("id")), given.get("turn")
            more = {name: str(given.get(name) or "") for name in ("note", "identity")}
            seconds = float(given["seconds"]) if isinstance(given.get("seconds"), int | float) else None
            async with in_turn:
                result = await _try(view, service.review, case_id, str(given.get("label")), **more, seconds=seconds)
            deck.add_to("results", case_id, {"turn": turn, **(result if "refused" in result else {"told": _told(result)})})

        async def undone(event: Any) -> None:
            case_id, turn = str(event.args.get("id")), event.args.get("turn")
            async with in_turn:
                result = await _try(view, service.undo, case_id)
            kept = {**result, "keep": True} if "refused" in result else {"told": "Taken back.", "undone": True}
            deck.add_to("results", case_id, {"turn": turn, **kept})

        looking = asyncio.Lock()  # each look for further cases knows what the one before it found

        async def more(_: Any) -> None:
            async with looking:
                known = {case["id"] for case in deck.props["cases"]}
                answered = {case_id for case_id, result in deck.props["results"].items() if not (result.get("refused") or result.get("undone"))}
                try:
                    fresh, _ = await _cases(service, view, known, len(known - answered))
                except (LoggedOut, *REFUSALS):
                    ui.navigate.reload()
                    return
                deck.props["more"] = bool(fresh)
                deck.put("cases", [*deck.props["cases"], *fresh])

        async def heat(event: Any) -> None:
            case_id = str(event.args)
            case = next((one for one in deck.props["cases"] if one["id"] == case_id), None)
            if case is None or case_id in deck.props["heats"]:
                return
            try:
                actor = await asyncio.to_thread(view.visitor.actor)
                deck.add_to("heats", case_id, (await service.explanation(actor, case["media"]["id"]))["heatmaps"])
            except (LoggedOut, *REFUSALS) as problem:
                deck.add_to("problems", case_id, explain(problem) or "Log in again.")

        for name, handler in {"answer": answered, "undo": undone, "more": more, "heat": heat}.items():
            deck.on(name, handler)
        await _quality(service, view)


def answered_by(actor: Actor, case: dict[str, Any]) -> bool:
    """Whether this person has answered a case, as the service shows it."""
    return any(review.get("reviewer_id") == actor.user_id for review in case["reviews"])


async def _cases(service: Service, view: View, known: set[str], waiting_known: int = 0, first: str = "") -> tuple[list[dict[str, Any]], bool]:
    """What this reviewer sees next (the case `first` before all), with where its pictures lie; nothing of what the model or others said; and
    whether more waits.

    Of the cases `known` to the page so many still wait for an answer: the queue names them again. Those that cannot be shown, whose media are deleted or
    not scored yet, are passed over: however many, they hide no case behind them.
    """

    def find(actor: Actor) -> tuple[list[dict[str, Any]], bool]:
        limit = AT_ONCE + waiting_known
        while True:
            waiting = service.queue(actor, limit)
            found = showable(actor, waiting)
            if len(found) >= AT_ONCE or len(waiting) < limit or limit >= MOST_LOOKED_AT:
                return found, len(waiting) >= limit
            limit = min(2 * limit, MOST_LOOKED_AT)

    def showable(actor: Actor, waiting: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if first:
            waiting.sort(key=lambda case: case["id"] != first)
            if not waiting or waiting[0]["id"] != first:
                asked_for = service.case(actor, first)
                if not service.refusal(actor, first):
                    waiting.insert(0, asked_for)
        found = []
        for case in waiting:
            if case["id"] in known or case["state"] != "open":
                continue
            detections = (service.detection(actor, one) for one in reversed(case["detections"]))
            shown = next((one for one in detections if one["state"] == "done" and one["media_state"] != "deleted"), None)
            if shown is not None:
                found.append({"id": case["id"], "reason": case["reason"], "answers": case["answers"], "media": pictures_of(shown, reviewer=True)})
        return found

    found: tuple[list[dict[str, Any]], bool] = await view.ask(find)
    return found


async def _try(view: View, method: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
    """What the service answers, or why it refuses; `again` where the same may be taken another time."""
    try:
        answer: dict[str, Any] = await view.ask(method, *arguments, **more)
        return answer
    except LoggedOut:
        view.log_in_again()
        return {"refused": True, "told": "Log in again.", "again": True}
    except REFUSALS as problem:
        return {"refused": True, "told": explain(problem), "again": isinstance(problem, DatabaseSilent | DatabaseDamaged)}


def _told(case: dict[str, Any]) -> str:
    """What an answer came to: agreement is shown once one's own is given."""
    labels = [review["label"] for review in case.get("reviews", []) if review.get("label")]
    if case["state"] == "decided":
        agree = labels.count(case["label"])
        ends = "it trains" if case.get("handover") else "it does not train"
        return f"Decided {WORDS.get(case['label'], case['label']).lower()}, {agree} of {len(labels)} agree; {ends}."
    if len(labels) > 1 and len(set(labels)) > 1:
        return f"The answers differ ({', '.join(WORDS[label].lower() for label in labels)}); another person decides."
    return f"{case['answers']} of {case['needed']} answers; waits for another person."


async def _quality(service: Service, view: View) -> None:
    rows = await view.ask(service.quality, view.session.actor.user_id)
    if not rows:
        return
    one = rows[0]

    def share(figure: dict[str, Any]) -> str:
        if not figure["n"]:
            return "none yet"
        return f"{percent(figure['value'])} of {figure['n']} (95 % interval {percent(figure['low'])} to {percent(figure['high'])})"

    with tag("details", "", "card quality"):
        tag("summary", "How you are doing")
        pace = f", {one['seconds']:.1f} s a case (median)" if one["seconds"] is not None else ""
        tag("p", f"{one['reviews']} answers{pace}. Agreement with decided cases: {share(one['agreement'])}. Known cases right: {share(one['gold'])}.")
