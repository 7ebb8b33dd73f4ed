"""Charts of volume, uncertainty, accuracy and drift, each with its table."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from feedback.console import figures
from feedback.console.layout import View, page
from feedback.console.parts import drawing, empty, estimate, facts, percent, table, tag
from feedback.service import Service
from model.estimate import LEAST_LABELS

DAYS = 56
KINDS = ("real", "fake", "uncertain", "none")
INTERVALS = "In brackets: 95% intervals over people. Chance only adds to a calibration error, so its interval may lie above it."


def add(service: Service) -> None:
    """Add the page."""

    @page(service, "/charts", "Charts")
    async def charts(view: View) -> None:
        found = await view.ask(service.charts, DAYS)
        tag("h1", "Charts")
        tag("p", "The last eight weeks of uploads, and the newest hundred cycles that judged a model.", "lead")
        _cases(found["cases"])
        _days(found["days"])
        _estimated(found["estimated"])
        _cycles(found["cycles"])


def _cases(counts: dict[str, int]) -> None:
    with tag("section", "", "card"):
        tag("h2", "Cases")
        words = {"open": "Open", "decided": "Decided", "quarantined": "In quarantine", "erased": "Erased", "to_be_handed_over": "Waiting for training"}
        facts([(words.get(name, name), str(count)) for name, count in counts.items()], "facts-wide")


def _days(days: list[dict[str, Any]]) -> None:
    drawn = _every_day(days, datetime.now(UTC).date()) if days else []
    with tag("div", "", "columns"):
        with tag("section", "", "card"):
            tag("h2", "Volume")
            if not days:
                empty("No uploads yet.", "Each day's verdicts will be drawn here.")
            else:
                series = {kind: [float(day[kind] or 0) for day in drawn] for kind in KINDS}
                drawing(figures.bars([day["day"][5:] for day in drawn], series, "Verdicts a day, stacked by kind"), "chart-frame")
                _key(("real", "Real"), ("fake", "Fake"), ("uncertain", "Uncertain"), ("none", "No verdict"))
        with tag("section", "", "card"):
            tag("h2", "Uncertainty")
            if not days:
                empty("No uploads yet.", "The share of uncertain verdicts will be drawn here.")
            else:
                shares = [_share(day) for day in drawn]
                means = [day["mean_p_fake"] for day in drawn]
                drawing(
                    figures.lines(
                        [day["day"][5:] for day in drawn], {"uncertain": shares, "accent": means}, "Share of uncertain verdicts and mean p_fake a day"
                    ),
                    "chart-frame",
                )
                _key(("uncertain", "Share that is uncertain"), ("accent", "Mean estimate of fake"))
    if days:
        rows = [[day["day"], *(day[kind] or 0 for kind in KINDS), percent(_share(day)), estimate(day["mean_p_fake"])] for day in reversed(days)]
        with tag("details", "", "card"):
            tag("summary", "These days as a table")
            table("Verdicts by day", ["Day", "Real", "Fake", "Uncertain", "No verdict", "Uncertain share", "Mean p_fake"], rows)


def _every_day(days: list[dict[str, Any]], today: date) -> list[dict[str, Any]]:
    """These days, and those between them and until today on which nobody sent anything: nothing of each kind, and no mean."""
    known = {date.fromisoformat(day["day"]): day for day in days}
    first, last = min(known), max(today, *known)
    nothing = {**dict.fromkeys(KINDS, 0), "mean_p_fake": None}
    passed = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [known.get(day, {"day": day.isoformat(), **nothing}) for day in passed]


def _estimated(models: list[dict[str, Any]]) -> None:
    with tag("section", "", "card"):
        tag("h2", "Right verdicts, estimated")
        if not models:
            empty("No verdict of real or fake yet.", "How many are right is estimated here, before anybody has looked at them.")
            return
        words = "From each model's own probabilities; verdicts that were drawn at random and looked at by people correct it. Uncertain verdicts do not count."
        tag("p", words, "hint")
        rows = []
        for row in models:
            looked = f"{row['right']} of {row['labels']} right" if row["labels"] else "none yet"
            trust = "corrected by them" if row["corrected"] else f"not corrected: {LEAST_LABELS - row['labels']} more are needed"
            if row["ahead"] and not row["corrected"]:
                trust += f" ({row['ahead']} more count once older ones are answered)"
            between = f"{percent(row['value'], 1)} ({percent(row['low'], 1)} to {percent(row['high'], 1)})"
            rows.append([row["model_sha256"][:12], f"{row['n']:,}", between, looked, trust])
        table("Estimated accuracy by model", ["Model", "Verdicts", "Right, estimated", "Looked at", "Estimate"], rows)


def _cycles(cycles: list[dict[str, Any]]) -> None:
    with tag("div", "", "columns"):
        with tag("section", "", "card"):
            tag("h2", "Accuracy")
            if not cycles:
                empty("No cycle has judged a model yet.", "After `vigil retrain` its figures will be drawn here.")
            else:
                names = [row["cycle"] for row in cycles]
                series = {"accent": [_figure(row, "balanced_accuracy") for row in cycles], "real": [_figure(row, "auc") for row in cycles]}
                drawing(figures.lines(names, series, "Balanced accuracy and AUC of each cycle's challenger"), "chart-frame")
                _key(("accent", "Balanced accuracy"), ("real", "AUC"))
        with tag("section", "", "card"):
            tag("h2", "Drift")
            drifts = [_drift(row) for row in cycles]
            if not any(value is not None for value in drifts):
                empty("No drift was measured yet.", "Each cycle compares new media with those before.")
            else:
                high = max(1.0, *(value for value in drifts if value is not None))
                drawing(
                    figures.lines([row["cycle"] for row in cycles], {"fake": drifts}, "Measured drift of each cycle, as a part of its limit", high=high),
                    "chart-frame",
                )
                _key(("fake", "Drift against its limit: level of the test by its p-value (above 1 it was found)"))
    if cycles:
        rows = [
            [row["cycle"], row["outcome"], *(_words(row, name) for name in ("balanced_accuracy", "auc", "fpr", "ece")), _drift_words(row)]
            for row in reversed(cycles)
        ]
        with tag("details", "", "card"):
            tag("summary", "These cycles as a table")
            heads = ["Cycle", "Outcome", "Balanced accuracy", "AUC", "False positives", "Calibration error", "Drift against its limit"]
            table("Figures of each cycle's challenger, and its drift", heads, rows)
            tag("p", INTERVALS, "hint")


def _key(*rows: tuple[str, str]) -> None:
    with tag("ul", "", "key-list"):
        for kind, word in rows:
            with tag("li"):
                tag("span", "", f"key mark-{kind}", aria_hidden="true")
                tag("span", word)


def _share(day: dict[str, Any]) -> float | None:
    judged = sum(day[kind] or 0 for kind in ("real", "fake", "uncertain"))
    return (day["uncertain"] or 0) / judged if judged else None


def _figure(row: dict[str, Any], name: str) -> float | None:
    found = row["challenger"].get(name)
    return None if found is None else float(found["value"])


def _words(row: dict[str, Any], name: str, side: str = "challenger") -> str:
    found = row[side].get(name)
    if found is None:
        return "–"
    known = found.get("low") is not None and found.get("high") is not None
    return f"{found['value']:.3f}" + (f" [{found['low']:.3f}, {found['high']:.3f}]" if known else "")


def _drift(row: dict[str, Any]) -> float | None:
    """How far the gate's p-value is below its level: it falls as drift rises, so this rises with it, and above 1 drift was found."""
    for gate in row["gates"]:
        if gate["gate"] == "drift" and gate["measured"] and gate["limit"]:
            return float(gate["limit"]) / float(gate["measured"])
    return None


def _drift_words(row: dict[str, Any]) -> str:
    drift = _drift(row)
    return "–" if drift is None else f"{drift:.3f}"
