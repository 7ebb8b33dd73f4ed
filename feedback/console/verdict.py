"""The page of one verdict: what was found, where and when, by which model, and what that does not show."""

import asyncio
from typing import Any

from nicegui import ui
from nicegui.element import Element

from feedback.cases import SAW
from feedback.console import PATH
from feedback.console.detect import LOOK_SECONDS, POLICY_WORDS
from feedback.console.layout import REFUSALS, View, explain, page, reload_soon
from feedback.console.media import pictures_of
from feedback.console.parts import Form, badge, button, choice, count, drawing, empty, estimate, facts, field, link, moment, percent, said_of, size, table, tag
from feedback.console.visitor import LoggedOut
from feedback.service import Service
from feedback.wording import band_of, limits_of
from workspace.errors import DatabaseSilent

PEOPLE = {"asked": "People are asked to look."} | {label: f"People have looked at it and {saw}." for label, saw in SAW.items()}
SAYS = {
    "real": "The model found no sign of a forgery that it knows.",
    "fake": "The model found signs of a forgery.",
    "uncertain": "The model is not sure.",
    "none": "There is no verdict on this file.",
}


class Evidence(Element, component="verdict.js"):
    """The file, its face under the heatmap, and the timeline."""

    def __init__(self, detection: dict[str, Any], reviewer: bool, can_explain: bool) -> None:
        super().__init__()
        media = pictures_of(detection, reviewer)
        shown = {name: detection.get(name) for name in ("clips", "tracks", "forged", "shown", "threshold", "verdict")}
        values = {"detection": shown, "media": media, "explanation": None, "explaining": False, "problem": "", "can_explain": can_explain}
        for name, value in values.items():
            self.props[name] = value

    def put(self, **values: Any) -> None:
        """Change what is shown."""
        for name, value in values.items():
            self.props[name] = value
        self.update()


def add(service: Service) -> None:
    """Add the page."""

    @page(service, "/detections/{detection_id}", "Verdict")
    async def verdict(view: View) -> None:
        found = await view.ask(service.detection, view.request.path_params["detection_id"])
        if found["state"] in ("queued", "running"):
            _waiting(service, view, found)
        elif found["state"] == "erased":
            tag("h1", "Erased")
            media = "another upload of the same file holds the media, which stay until it is erased too"
            if found["media_state"] in ("deleted", ""):
                media = "so are its media, unless another upload of the same file holds them, or a batch that has them from a source of its own"
            empty(
                "This upload was erased.",
                f"Its verdict and what came of it are gone, and {media}; the audit trail keeps that it was done.",
                PATH,
                "Send another file",
            )
        else:
            _shown(service, view, found)


def _waiting(service: Service, view: View, found: dict[str, Any]) -> None:
    tag("h1", "Being looked at")
    with tag("div", "", "card"):
        said_of(found)
        bar = tag("progress", "", value=found.get("progress") or 0, max=1, aria_label="Progress")
        tag("p", "This page shows the verdict as soon as there is one.", "muted")

    async def look() -> None:
        try:
            now = await view.ask(service.detection, found["id"])
        except DatabaseSilent:  # the next look asks again
            return
        except (LoggedOut, *REFUSALS):
            now = {"state": "gone"}
        if now["state"] in ("queued", "running"):
            bar.props["value"] = now.get("progress") or 0
            bar.update()
        else:
            ui.navigate.reload()

    ui.timer(LOOK_SECONDS, look)


def _shown(service: Service, view: View, found: dict[str, Any]) -> None:
    said = found["verdict"] or "none"
    tag("h1", "Verdict")
    with tag("section", "", f"card verdict verdict-{said}", aria_label="Verdict"):
        badge(said, found.get("p_fake"))
        with tag("div", "", "verdict-words"):
            tag("p", SAYS[said], "verdict-says")
            if people := PEOPLE.get(found.get("people") or ""):
                tag("p", people)
            if found.get("reason"):
                tag("p", found["reason"][:1].upper() + found["reason"][1:] + ".", "muted")
            if found.get("p_fake") is not None and (uncertain := band_of(found)) is not None:
                _scale(float(found["p_fake"]), float(found["threshold"]), *uncertain)
    reviewer = view.may("case.list")
    can = view.may("detection.media", found["owner_id"]) and found["media_state"] != "deleted"
    if found["media_state"] == "deleted":
        tag("p", "The media have been deleted as the retention settings say; the verdict and the hash are kept.", "notice")
    elif found["media_state"] == "quarantined" and not reviewer:
        tag("p", "The media are in quarantine: only reviewers can see them.", "notice")
    elif can:
        evidence = Evidence(found, reviewer, said != "none")
        evidence.on("explain", lambda _: _explain(service, view, found["id"], evidence))
    with tag("div", "", "columns"):
        _faces(found)
        _model(found)
    with tag("section", "", "card"):
        tag("h2", "What this does not show")
        with tag("ul", "", "plain-list"):
            for sentence in limits_of(found):
                tag("li", sentence.replace("`", ""))
    _actions(service, view, found)


def _scale(p: float, threshold: float, low: float, high: float) -> None:
    """A bar from real to fake with the estimate, the threshold and the uncertain band; the words beside it say the same."""
    drawing(
        '<svg class="scale" viewBox="0 0 400 34" aria-hidden="true" focusable="false">'
        '<rect class="scale-bar" x="0" y="12" width="400" height="8" rx="4"/>'
        f'<rect class="scale-band" x="{low * 400:.1f}" y="12" width="{(high - low) * 400:.1f}" height="8"/>'
        f'<line class="scale-threshold" x1="{threshold * 400:.1f}" x2="{threshold * 400:.1f}" y1="6" y2="26"/>'
        f'<circle class="scale-at" cx="{min(max(p * 400, 8), 392):.1f}" cy="16" r="8"/></svg>'
    )
    tag(
        "p", f"Estimated probability of fake {estimate(p, 1)}; called real below {percent(low, 1)}, fake from {percent(high, 1)} on, uncertain between.", "hint"
    )


async def _explain(service: Service, view: View, detection_id: str, evidence: Evidence) -> None:
    evidence.put(explaining=True, problem="")
    try:
        actor = await asyncio.to_thread(view.visitor.actor)
        evidence.put(explanation=await service.explanation(actor, detection_id), explaining=False)
    except LoggedOut:
        view.log_in_again()
    except REFUSALS as problem:
        evidence.put(explaining=False, problem=explain(problem))


def _faces(found: dict[str, Any]) -> None:
    with tag("section", "", "card"):
        tag("h2", "Faces")
        if not found.get("tracks"):
            reason = found.get("reason") or "none was found in the file"
            empty("No face was judged.", reason[:1].upper() + reason[1:] + ".")
            return
        rows = [
            [f"Face {one['track'] + 1}", estimate(one["p_fake"]), f"{one['start_seconds']:.1f}–{one['end_seconds']:.1f} s" if found["kind"] == "video" else "–"]
            for one in found["tracks"]
        ]
        table("Each face with its most suspicious part", ["Face", "Fake", "Most suspicious"], rows)
        if len(rows) > 1:
            tag("p", "The file's own figure averages the odds of its faces: which of them would be forged is not known beforehand.", "hint")
        forged = found.get("forged") or []
        if forged and found["kind"] == "video":
            fake = found["verdict"] == "fake"
            tag("h3", "Forged intervals" if fake else "Suspicious intervals")
            if not fake:
                tag("p", f"Here a face is at or above the threshold of {percent(found['threshold'], 1)}; the verdict on the whole file is not fake.", "hint")
            with tag("ul", "", "plain-list"):
                for part in forged:
                    tag("li", f"Face {part['track'] + 1}: {part['start_seconds']:.1f} to {part['end_seconds']:.1f} s, up to {estimate(part['p_fake'])} fake")


def _model(found: dict[str, Any]) -> None:
    knows = ", ".join(str(name) for name in found.get("knows") or []) or "none named"
    with tag("section", "", "card"):
        tag("h2", "File and model")
        facts(
            [
                ("Sent", moment(found["created_at"])),
                ("File", f"{found.get('kind') or 'unknown'}, {size(found['bytes'])}"),
                ("SHA-256", lambda: tag("code", found["sha256"], "hash")),
                ("Looked at", f"{count(found.get('frames'), 'frame')}, {count(found.get('faces'), 'face')}"),
                ("Policy", POLICY_WORDS.get(found.get("policy") or "", found.get("policy"))),
                ("Model", lambda: tag("code", str(found.get("model") or "–"))),
                ("Trained", moment(found["model_trained_at"]) if found.get("model_trained_at") else "not said by the model"),
                ("Cycle", "none: the starter model" if found.get("origin") == "starter" else found.get("cycle") or "none"),
                ("Forgeries it knows", knows),
            ]
        )


def _actions(service: Service, view: View, found: dict[str, Any]) -> None:
    owner = found["owner_id"]
    with tag("section", "", "card"):
        tag("h2", "What you can do")
        with tag("div", "", "row"):
            if view.may("detection.report", owner):
                for kind in ("pdf", "json"):
                    link(
                        f"Report ({kind.upper()})", f"/v1/detections/{found['id']}/report?format={kind}", "button", download=f"vigil-{found['id'][:12]}.{kind}"
                    )
            if found.get("case_id") and view.may("case.read"):
                link("Its case", f"{PATH}/cases/{found['case_id']}", "button")
        if found.get("dispute"):
            tag("p", f"Disputed: said to be {found['dispute']['claim']}.", "notice")
        elif view.may("detection.dispute", owner) and found["media_state"] != "deleted" and found.get("people") not in SAW:
            with tag("details"):
                tag("summary", "This verdict is wrong")
                with Form(lambda given: _dispute(service, view, found["id"], given)):
                    options = {"fake": "It is fake", "real": "It is real"}
                    if found["verdict"] != "real" or found["media_state"] != "quarantined":  # hidden by the verdict on another upload of it
                        options.pop(found["verdict"], None)
                    choice("What is it truly?", "claim", options)
                    field("Why do you think so?", "note", hint="People who look at it read this.", maxlength=2000)
                    button("Dispute", classes="button-main")
        if view.may("detection.erase", owner):
            with tag("details"):
                tag("summary", "Erase this upload")
                tag("p", "The media, the verdict, its case and what training made of it go. This cannot be undone; the audit trail keeps that it was done.")
                with Form(lambda given: _erase(service, view, found["id"], given)):
                    field("Why? (kept in the audit trail)", "why", maxlength=500)
                    button("Erase for good", classes="button-danger")


async def _dispute(service: Service, view: View, detection_id: str, given: dict[str, str]) -> None:
    done = "Thank you. People are asked to look at it."
    if await view.do(service.dispute, detection_id, given.get("claim", ""), given.get("note", ""), done=done) is not None:
        reload_soon()


async def _erase(service: Service, view: View, detection_id: str, given: dict[str, str]) -> None:
    if await view.do(service.erase, detection_id, given.get("why", "")) is not None:
        ui.navigate.reload()
