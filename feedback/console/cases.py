"""Cases: the list, and the page of one with its answers, where its label went, and which models learned from it."""

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from feedback.console import PATH
from feedback.console.layout import View, page, reload_soon
from feedback.console.media import pictures_of
from feedback.console.parts import WORDS, Form, address, badge, button, choice, empty, estimate, facts, field, link, moment, table, tag
from feedback.console.review import REASONS, answered_by
from feedback.service import Service

PAGE = 50
STATES = {"open": "Open", "decided": "Decided", "quarantined": "In quarantine", "erased": "Erased", "all": "All"}
HANDOVERS = {
    "": "not to be handed over",
    "waiting": "waits for the next cycle",
    "exported": "being handed over as {batch}",
    "ingested": "came in with batch {batch}",
}
BATCHES = {  # what becomes of a batch that came in
    "new": "which the next cycle judges",
    "deferred": "which waits for the next cycle",
    "accepted": "which training may use",
    "held": "which is held: a person decides (`vigil batches`)",
    "dropped": "which was dropped and does not train",
}
HANDED_OVER = ("exported", "ingested")
GOLD = {"": "No known case", "real": "Known to be real", "fake": "Known to be fake"}


def add(service: Service) -> None:
    """Add both pages."""

    @page(service, "/cases", "Cases")
    async def cases(view: View) -> None:
        given = view.request.query_params
        states = STATES | ({"known": "Known"} if view.may("case.govern") else {})
        state = given.get("state", "open") if given.get("state", "open") in states else "open"
        after = view.number("after") or 0
        found = await view.ask(service.cases_page, None if state == "all" else state, after, PAGE)
        tag("h1", "Cases")
        with tag("form", "", "card filters", method="get", action=f"{PATH}/cases", aria_label="Filters"):
            choice("State", "state", states, state)
            button("Filter", classes="button-main")
            link("Review by keyboard", f"{PATH}/review", "button")
        if not found["cases"] and after:
            empty("No further case.", "The list ends before this page.", address(f"{PATH}/cases", {"state": state}), "From the first")
            return
        if not found["cases"]:
            empty(
                f"No case is {states[state].lower()}." if state != "all" else "There is no case yet.",
                "Cases open when the model is unsure or a verdict is disputed.",
            )
            return
        table("Cases in order of arrival", ["Case", "State", "Why", "Opened", "Answers", "Label", "Training"], [_row(one) for one in found["cases"]])
        if found["next"]:
            link("Further", address(f"{PATH}/cases", {"state": state, "after": found["next"]}), "button")

    @page(service, "/cases/{case_id}", "Case")
    async def case(view: View) -> None:
        found = await view.ask(service.case, view.request.path_params["case_id"])
        tag("h1", f"Case {found['number']}")
        sent = [await view.ask(service.detection, detection_id) for detection_id in found["detections"]]
        _pictures(sent)
        gone = bool(sent) and all(one["media_state"] == "deleted" for one in sent)
        if gone:
            tag("p", "The media have been deleted as the retention settings say, so nobody can look at them again. Answers and hash are kept.", "notice")
        answered = answered_by(view.session.actor, found)
        open_to_me = found["state"] == "open" and not answered
        refusal = await view.ask(service.refusal, found["id"]) if open_to_me else ""

        async def take_back() -> None:
            if await view.do(service.undo, found["id"]) is not None:
                ui.navigate.reload()

        with tag("div", "", "columns"):
            _about(found, open_to_me)
            _answers(found, open_to_me, refusal, take_back if answered and not gone and not _trains(found) else None)
        if not open_to_me:
            _disputes(sent)
        if view.may("case.govern") and found["state"] != "erased":
            _govern(service, view, found, gone)


def _row(one: dict[str, Any]) -> list[Any]:
    labelled = one["state"] == "decided"
    return [
        lambda: link(f"Case {one['number']}", f"{PATH}/cases/{one['id']}"),
        _state(one),
        REASONS.get(one["reason"], one["reason"]),
        moment(one["created_at"]),
        f"{one['answers']} of {one['needed']}",
        (lambda: badge("none" if one["label"] == "unsure" else one["label"], word=WORDS.get(one["label"], ""))) if labelled else "–",
        _way(one) if labelled else "–",
    ]


def _state(one: dict[str, Any]) -> str:
    """How a case stands; of a known one that it is, where the service has said so."""
    known = f", known to be {one['gold']}" if one.get("gold") else ""
    return STATES.get(one["state"], one["state"]) + known


def _way(one: dict[str, Any]) -> str:
    """How far the label of a decided case is on its way to training."""
    way = HANDOVERS.get(one["handover"], one["handover"]).format(batch=one["batch"])
    return f"{way}, {stands}" if (stands := BATCHES.get(one.get("batch_state", ""))) else way


def _trains(found: dict[str, Any]) -> bool:
    """Whether the label of a case was handed over to training, and its batch was not dropped since."""
    return found["handover"] in HANDED_OVER and found.get("batch_state") != "dropped"


def _pictures(sent: list[dict[str, Any]]) -> None:
    for detection in reversed(sent):
        pictures = pictures_of(detection, reviewer=True)
        if pictures["picture"] or pictures["faces"]:
            with tag("div", "", "card strip"):
                if pictures["picture"]:
                    tag("img", src=pictures["picture"], alt="A frame of this case", classes="strip-file")
                count = len(pictures["faces"])
                for at in sorted({round(step * (count - 1) / 5) for step in range(6)}) if count else []:
                    tag("img", src=pictures["faces"][at], alt=f"The face, frame {at + 1}", classes="strip-face")
            return


def _disputes(sent: list[dict[str, Any]]) -> None:
    """What those who dispute a verdict say of it: they were told that people read it."""
    rows = [[f"It is {said['claim']}", moment(said["at"]), said.get("note") or ""] for one in sent if (said := one.get("dispute"))]
    if rows:
        with tag("section", "", "card"):
            tag("h2", "Disputed")
            table("Disputed", ["What is said", "When", "Why"], rows)


def _about(found: dict[str, Any], open_to_me: bool) -> None:
    with tag("section", "", "card"):
        tag("h2", "About it")
        rows: list[tuple[str, Any]] = [
            ("State", _state(found)),
            ("Opened because", REASONS.get(found["reason"], found["reason"])),
            ("Opened", moment(found["created_at"])),
            *([("What was said of it", "; ".join(found["said"]))] if found.get("said") else []),
            ("SHA-256", lambda: tag("code", found["sha256"], "hash")),
        ]
        if not open_to_me and found["state"] != "erased":
            model = "no verdict" if found["p_fake"] is None else f"{estimate(found['p_fake'])} fake"
            rows += [("The model said", model), ("Model", lambda: tag("code", str(found["model_sha256"])[:12]))]
        if found["state"] == "decided":
            rows += [
                ("Label", lambda: badge("none" if found["label"] == "unsure" else found["label"], word=WORDS.get(found["label"], ""))),
                ("Decided", moment(found["decided_at"])),
                ("Person", found["identity"] or _unnamed(found)),
                ("On its way", _way(found)),
                ("Learned by", ", ".join(_model(one) for one in found.get("learned_by") or []) or "no model yet"),
            ]
        if found["state"] == "quarantined":
            rows.append(("Quarantined because", found.get("why") or "–"))
        facts(rows)
        if not open_to_me:
            if found["uploads"] > len(found["detections"]):
                tag("p", f"It was sent {found['uploads']} times. Here are {len(found['detections'])} of them, the disputed and the newest.", "muted")
            with tag("p", "", "row"):
                for number, detection_id in enumerate(found["detections"], start=1):
                    link(f"Verdict {number}", f"{PATH}/detections/{detection_id}", "button")


def _unnamed(case: dict[str, Any]) -> str:
    """Why a decided case has no person: nobody named one, or those who gave its label named different ones."""
    named = any(one["label"] == case["label"] and one["identity"] for one in case["reviews"])
    return "different names were given: none counts" if named else "not named"


def _model(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    version = f"version {one['version']} " if one.get("version") else ""
    return f"{version}({one.get('cycle') or str(one.get('model_sha256', ''))[:12]})"


def _answers(found: dict[str, Any], open_to_me: bool, refusal: str, take_back: Callable[[], Awaitable[None]] | None) -> None:
    """What people answered, and the way to answer; `refusal` says why this person's answer would be refused, `take_back` ends the one that stands."""
    with tag("section", "", "card"):
        tag("h2", "Answers")
        if found["state"] == "erased":
            empty("The answers went with the file.", "")
            return
        tag("p", f"{found['answers']} of {found['needed']} needed.", "muted")
        if open_to_me:
            tag("p", refusal or "What others and the model said is shown once you have answered.", "notice")
            if not refusal:
                link("Answer it", f"{PATH}/review?case={found['id']}", "button button-main")
        elif not found["reviews"]:
            empty("Nobody has answered yet.", "")
        else:
            rows = [
                [
                    one["reviewer"],
                    _said(one["label"]),
                    one.get("identity"),
                    moment(one["created_at"]),
                    one.get("note") or "",
                    f"{one['seconds']:.1f} s" if one.get("seconds") is not None else "",
                ]
                for one in found["reviews"]
            ]
            table("Answers", ["Who", "Label", "Person", "When", "Note", "Took"], rows)
            if take_back is not None:
                button("Take my answer back", take_back)


def _said(label: str) -> Any:
    return lambda: badge("none" if label == "unsure" else label, word=WORDS.get(label, label))


def _govern(service: Service, view: View, found: dict[str, Any], gone: bool) -> None:
    """What an engineer may do with a case; nothing is offered that would be refused."""

    async def do(method: Any, *arguments: Any, done: str) -> None:
        if await view.do(method, found["id"], *arguments, done=done) is not None:
            reload_soon()

    async def know(given: dict[str, str]) -> None:
        label = given.get("label", "")
        await do(service.set_gold, label, done=f"Saved: known to be {label}." if label else "Saved: it is no known case.")

    with tag("section", "", "card"):
        tag("h2", "Govern")
        if _trains(found):
            tag("p", "It was handed over to training. First its batch must be dropped (vigil batches drop), or the upload erased.", "muted")
            return
        if found["state"] == "quarantined":
            button("Release from quarantine", lambda: do(service.release, done="It is released."))
        else:
            with tag("details"):
                tag("summary", "Quarantine")
                with Form(lambda given: do(service.quarantine, given.get("why", ""), done="It is in quarantine.")):
                    field("Why?", "why", required=True, maxlength=2000, hint="It leaves the queue and does not train.")
                    button("Quarantine", classes="button-danger")
        if gone:
            return
        with tag("details"):
            tag("summary", "Known case")
            with Form(know):
                choice("What it truly is", "label", GOLD, found.get("gold") or "")
                tag("p", "A known case measures reviewers and never trains. Its media are kept, whatever the policy says, until its use ends.", "hint")
                button("Save")
