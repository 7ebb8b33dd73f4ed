"""The first page: drop images and videos, watch them being sent and looked at, see the verdicts."""

from typing import Any

from nicegui import ui
from nicegui.element import Element

from feedback.console import PATH, theme
from feedback.console.layout import REFUSALS, View, page
from feedback.console.media import pictures_of
from feedback.console.parts import WORDS, choice, estimate, link, moment, said_of, tag
from feedback.console.visitor import LoggedOut
from feedback.service import Service
from workspace.choices import POLICIES
from workspace.errors import DatabaseSilent

LOOK_SECONDS = 0.4
RECENT = 8
POLICY_WORDS: dict[str, str] = {"": "As the model ships", **{name: name.replace("_", " ").capitalize() for name in POLICIES}}


class DropZone(Element, component="detect.js"):
    """Where files are dropped. Its `states` say how far the verdict of each accepted file is."""

    def __init__(self, csrf: str, person: str, most_bytes: int) -> None:
        super().__init__()
        self.states: dict[str, dict[str, Any]] = {}
        icons = {name: theme.icon(name) for name in ("upload", "real", "fake", "uncertain", "none")}
        given = {"icons": icons, "names": WORDS, "base": PATH, "csrf": csrf, "person": person, "most": most_bytes}
        for name, value in {**given, "states": {}, "ended": False}.items():
            self.props[name] = value

    def put(self, states: dict[str, dict[str, Any]]) -> None:
        """Show these states."""
        self.props["states"] = states
        self.update()


def add(service: Service) -> None:
    """Add the page."""

    @page(service, "/", "Detect")
    async def detect(view: View) -> None:
        tag("h1", "Is it real?")
        tag("p", "Send faces in images or videos. Each gets a verdict with how sure the model is; what it is unsure of goes to people.", "lead")
        zone = DropZone(view.session.csrf, view.session.actor.user_id, service.settings.serve.max_upload_bytes)
        pending: dict[str, dict[str, Any]] = {}

        async def look() -> None:
            """Ask how far the files are. The timer rests while nothing is pending."""
            for detection_id in list(pending):
                try:
                    found = await view.ask(service.detection, detection_id)
                except LoggedOut:  # what is not sent yet is kept: the page is loaded anew once nothing is left to send
                    zone.props["ended"] = True
                    zone.update()
                    timer.active = False
                    return
                except DatabaseSilent:  # the next look asks again
                    continue
                except REFUSALS as problem:
                    pending.pop(detection_id)
                    zone.states[detection_id] = {"state": "failed", "problem": str(problem)}
                    continue
                zone.states[detection_id] = state_of(found, view.may("case.list"))
                if found["state"] in ("done", "erased"):
                    pending.pop(detection_id)
            zone.put(dict(zone.states))
            timer.active = bool(pending)

        def accepted(event: Any) -> None:
            pending[str(event.args)[:64]] = {}
            timer.active = True

        timer = ui.timer(LOOK_SECONDS, look, active=False)
        zone.on("accepted", accepted)
        with tag("div") as above:
            choice("Policy", "policy", POLICY_WORDS, classes="policy")
            tag("p", "A policy sets how strict the verdict is, how wide the uncertain band is, and how long media are kept.", "hint")
        above.move(target_index=2)
        recent = (await view.ask(service.detections_page, limit=RECENT))["detections"]
        if not recent:
            tag("p", "The verdicts of your uploads are kept in your history.", "hint")
            return
        tag("h2", "Sent before")
        with tag("ul", "", "recent"):
            for one in recent:
                _recent(one, view.may("case.list"))


def state_of(found: dict[str, Any], reviewer: bool) -> dict[str, Any]:
    """What the drop zone shows of a detection."""
    figure = f"{estimate(found['p_fake'])} fake" if found.get("p_fake") is not None else ""
    return {
        "state": found["state"],
        "progress": found.get("progress") or 0,
        "verdict": found.get("verdict") or "",
        "percent": figure,
        "reason": found.get("reason") or "",
        "thumbnail": pictures_of(found, reviewer)["thumbnail"],
    }


def _recent(one: dict[str, Any], reviewer: bool) -> None:
    thumbnail = pictures_of(one, reviewer)["thumbnail"]
    with tag("li"), link("", f"{PATH}/detections/{one['id']}", "recent-card"):
        if thumbnail:
            tag("img", src=thumbnail, alt="", loading="lazy")
        else:
            tag("span", "", "no-picture")
        said_of(one)
        tag("span", moment(one["created_at"]), "muted")
