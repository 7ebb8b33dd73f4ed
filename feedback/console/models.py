"""Which model answers, which came before, what each cycle decided and why, and the way back."""

from typing import Any

from nicegui import ui

from feedback.console import PATH, figures
from feedback.console.charts import INTERVALS, _figure, _key, _words
from feedback.console.layout import REFUSALS, View, page, reload_soon
from feedback.console.parts import Form, button, choice, drawing, empty, facts, field, moment, pages, table, tag
from feedback.console.visitor import LoggedOut
from feedback.service import Service
from feedback.wording import band_of
from workspace.errors import DatabaseSilent

ROLES = {"champion": "Champion", "previous": "Previous", "held": "Held back", "earlier": "Earlier", "candidate": "Being judged"}
OUTCOMES = {"rollback": "Champion again", "bootstrap": "First champion on a person's word", "override": "Gate overridden"}
DECISIONS = 50  # a page
LOOK_SECONDS, LOOKS = 2.0, 60  # while another model answers than leads


def add(service: Service) -> None:
    """Add the page."""

    @page(service, "/models", "Models")
    async def models(view: View) -> None:
        found = await view.ask(service.models)
        tag("h1", "Models")
        if problem := found.get("reload_problem"):
            tag("p", problem.replace("`", ""), "refused", role="alert")
        if problem := found.get("registry_problem"):
            tag("p", problem.replace("`", ""), "notice", role="status")
        with tag("div", "", "columns columns-3"):
            _serving(service, view, found)
            _one("Challenger", found["challenger"], "No model was held back in the newest cycle.")
            _one("Previous", found["previous"], "No champion came before this one.")
        _figures(found["figures"])
        _decisions(found, view.number("before"))
        if view.may("model.rollback"):
            _rollback(service, view, found)


def _serving(service: Service, view: View, found: dict[str, Any]) -> None:
    """The model that answers. While the champion is another the card is drawn anew until it is the same, a limited number of times."""
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        try:
            now = await view.ask(service.models)
        except DatabaseSilent:  # the next look asks again
            return
        except (LoggedOut, *REFUSALS):
            timer.active = False
            return
        timer.active = _behind(now) and looks < LOOKS
        card.clear()
        with card:
            _answers_now(now)

    with tag("section", "", "card") as card:
        _answers_now(found)
    timer = ui.timer(LOOK_SECONDS, look, active=_behind(found))


def _behind(found: dict[str, Any]) -> bool:
    """Whether another model leads than the one that answers. A service that serves a folder follows no champion."""
    serving, since = found["serving"] or {}, found["since"]
    return since is not None and serving.get("origin") != "directory" and serving.get("model_sha256") != since["model_sha256"]


def _answers_now(found: dict[str, Any]) -> None:
    serving, since = found["serving"], found["since"]
    tag("h2", "Answers now")
    if _behind(found):
        tag("p", f"{since['cycle']} is champion; the service is taking it up.", "notice", role="status")
    if serving is None:
        empty("No model answers yet.", "It is being loaded; look again in a few seconds.")
        return
    origin = {
        "starter": "the starter model that ships",
        "registry": "the registry's champion",
        "journal": "the journal's champion",
        "directory": "a folder",
    }
    uncertain = band_of(serving)
    leads = since is not None and since["model_sha256"] == serving.get("model_sha256")
    facts(
        [
            ("Model", lambda: tag("code", str(serving.get("model_sha256") or serving.get("model"))[:12])),
            ("Where from", origin.get(str(serving.get("origin")), serving.get("origin"))),
            ("Cycle", serving.get("cycle") or "–"),
            ("Version", str(serving.get("version") or "never promoted")),
            *([("Champion since", moment(since["at"])), ("By", since["who"]), ("Why", since["why"])] if leads else []),
            ("Loaded", moment(serving.get("loaded_at"))),
            ("Threshold", "{:.3f}, uncertain from {:.3f} to {:.3f}".format(serving["threshold"], *uncertain) if uncertain is not None else "–"),
            ("Knows", ", ".join(map(str, serving.get("knows") or [])) or "–"),
        ]
    )


def _one(title: str, row: dict[str, Any] | None, nothing: str) -> None:
    with tag("section", "", "card"):
        tag("h2", title)
        if row is None:
            tag("p", nothing, "muted")
            return
        rows: list[tuple[str, Any]] = [("Cycle", row["cycle"]), ("Version", str(row["version"] or "never promoted")), ("Decided", moment(row["at"]))]
        facts([*rows, ("Model", lambda: tag("code", str(row["model_sha256"])[:12])), ("Why", row["reason"] or "–")])


def _figures(cycles: list[dict[str, Any]]) -> None:
    with tag("section", "", "card"):
        tag("h2", "Figures over the weeks")
        if not cycles:
            empty("No cycle has judged a model yet.", "After `vigil retrain` the figures of each cycle will be drawn here.")
            return
        names = [row["cycle"] for row in cycles]
        champion = [row["champion"].get("balanced_accuracy", {}).get("value") for row in cycles]
        series = {"accent": [_figure(row, "balanced_accuracy") for row in cycles], "none": champion}
        drawing(figures.lines(names, series, "Balanced accuracy of challenger and champion by cycle"), "chart-frame")
        _key(("accent", "Challenger, balanced accuracy"), ("none", "Champion of then"))
        heads = ["Cycle", "Outcome", "Balanced accuracy", "Champion of then", "AUC", "Recall", "False positives", "Calibration error"]
        rows = []
        for row in reversed(cycles):
            ours, theirs = _words(row, "balanced_accuracy"), _words(row, "balanced_accuracy", "champion")
            rows.append([row["cycle"], row["outcome"], ours, theirs, *(_words(row, name) for name in ("auc", "recall", "fpr", "ece"))])
        table("Figures of each cycle's challenger with their intervals", heads, rows)
        tag("p", INTERVALS, "hint")


def _decisions(found: dict[str, Any], before: int | None) -> None:
    """A page of the decisions, the newest first: those numbered below `before`, counted from the oldest, as further ones come before the newest."""
    every = found["decisions"]
    start = max(len(every) - before + 1, 0) if before else 0
    shown = every[start : start + DECISIONS]
    with tag("section", "", "card"):
        tag("h2", "Decisions")
        if not every:
            empty("No cycle has run yet.", "`vigil retrain` runs one; what it decides and why is kept here.")
            return
        roles = {row["cycle"]: ROLES.get(row["role"], row["role"]) for row in found["models"]}
        rows = []
        for one in shown:
            outcome = OUTCOMES.get(one["outcome"], str(one["outcome"]).capitalize())
            rows.append([one["cycle"], outcome, roles.get(one["cycle"], "–"), one["who"], one["reason"], moment(one["at"])])
        if rows:
            table("What was decided of models, the newest first", ["Cycle", "Outcome", "Its model", "By", "Why", "When"], rows)
        else:
            empty("Nothing older.", "The list ends before this page.")
        older = len(every) - start - len(shown)
        pages(f"{PATH}/models", {}, before, older + 1 if older > 0 else None)


def _rollback(service: Service, view: View, found: dict[str, Any]) -> None:
    offered, leading = earlier(found["models"]), found["since"]

    async def back(given: dict[str, str]) -> None:
        why, to = given.get("why", "").strip(), given.get("to", "")
        if not why or to not in offered:
            return
        working.set_text("Going back; this takes up to a minute …")
        done = f"{to} is champion again. The service takes it up within seconds."
        if await view.do(service.rollback, why, to, leading["cycle"], done=done) is not None:
            reload_soon()
        working.set_text("")

    with tag("section", "", "card"):
        tag("h2", "Go back")
        if not found["can_roll_back"]:
            tag("p", "There is no earlier champion to go back to.", "muted")
            return
        with Form(back):
            choice(f"From {leading['cycle']} to", "to", offered, (found["previous"] or {}).get("cycle", ""))
            field("Why?", "why", required=True, maxlength=500, hint="Kept in the journal and the audit trail.")
            button("Go back", classes="button-danger")
        working = tag("p", "", "muted", role="status")


def earlier(models: list[dict[str, Any]]) -> dict[str, str]:
    """The champions that one may go back to: the cycle that each is of, and what it is called here."""
    which = {"previous": ", the previous champion", "earlier": ""}
    return {row["cycle"]: f"Version {row['version']} ({row['cycle']}){which[row['role']]}" for row in models if row["role"] in which}
