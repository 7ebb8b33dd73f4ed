"""What the model page shows, from the journal and from the reports that each cycle's commit keeps. Changes nothing."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from workspace.errors import WorkspaceError
from workspace.journal import Event, Journal
from workspace.revisions import git
from workspace.state import IMPORTED, cycles, leading, model_states, promoted

FIGURES = ("auc", "balanced_accuracy", "recall", "fpr", "ece")
MOST_FIGURES = 100  # cycles: two years of weeks; each has two reports, which git is asked for once (see _tagged)


def models(root: Path) -> dict[str, Any]:
    """What `read_models` says, read anew when the journal has changed: nothing of it changes otherwise."""
    try:
        found = (root / "journal.jsonl").stat()
        stamp = (found.st_mtime_ns, found.st_size)
    except OSError:
        stamp = (0, 0)
    return _models(str(root), stamp)


@lru_cache(maxsize=4)
def _models(root: str, stamp: tuple[int, int]) -> dict[str, Any]:
    return read_models(Path(root))


def read_models(root: Path) -> dict[str, Any]:
    """Champion (`since`: what made it lead), previous, and every model with its role, the newest first; what was decided of models, by whom and why."""
    events = Journal(root).events()
    rows = [
        {"cycle": one.cycle, "role": one.role, "version": one.version, "model_sha256": one.model_sha256, "reason": one.why, "at": one.at}
        for one in reversed(model_states(events))
    ]
    newest = rows[0] if rows else None
    leads = leading(events)
    return {
        "champion": next((row for row in rows if row["role"] == "champion"), None),
        "since": {**{name: leads[name] for name in ("cycle", "model_sha256", "who", "why")}, "at": leads.time} if leads else None,
        "previous": next((row for row in rows if row["role"] == "previous"), None),
        "challenger": newest if newest and newest["role"] in ("held", "candidate") else None,
        "can_roll_back": any(row["role"] in ("previous", "earlier") for row in rows),
        "models": rows,
        "decisions": decisions(events),
        "figures": figures(root),
    }


def decisions(events: Sequence[Event]) -> list[dict[str, Any]]:
    """What each cycle came to, and what people decided beside the cycles: rollback, import, bootstrap, override of a gate. Newest first."""
    rows = [
        {
            "cycle": one.cycle,
            "outcome": one.outcome or "open",
            "reason": one.reason,
            "at": one.closed or one.opened,
            "batches": list(one.judged),
            "who": "vigil",
        }
        for one in cycles(events)
    ]
    for event in events:
        if event.kind in ("rollback", "override") or (event.kind == "promotion" and event["cycle"] == IMPORTED):
            outcome = "imported" if event.kind == "promotion" else "bootstrap" if event.get("what") == "bootstrap" else event.kind
            reason = f"{event['gate']} holds nothing until {event['until']}: {event['why']}" if outcome == "override" else event["why"]
            rows.append({"cycle": event.get("cycle", ""), "outcome": outcome, "reason": reason, "at": event.time, "batches": [], "who": event["who"]})
    return sorted(rows, key=lambda row: str(row["at"]))[::-1]


def figures(root: Path) -> list[dict[str, Any]]:
    """A row a closed cycle that judged a model, of the newest MOST_FIGURES, oldest first: its figures with intervals and what each gate measured."""
    events = Journal(root).events()
    serving = set(promoted(events))
    rows = []
    for one in [one for one in cycles(events) if one.trained][-MOST_FIGURES:]:
        evaluation, verdict = _report(root, one.cycle, "reports/evaluation.json"), _report(root, one.cycle, "reports/verdict.json")
        if verdict.get("cycle") != one.cycle:
            continue
        overall = evaluation.get("overall", {})
        rows.append(
            {
                "cycle": one.cycle,
                "at": one.closed,
                "outcome": "promoted" if one.cycle in serving else "held",
                **{side: _figures(overall.get(side) or {}) for side in ("challenger", "champion")},
                "gates": [{name: row.get(name) for name in ("gate", "verdict", "measured", "limit", "reason", "n")} for row in verdict.get("results", [])],
            }
        )
    return rows


def _figures(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{"auc": {"value", "low", "high"}, ...} of what was measured."""
    found = {}
    for name in FIGURES:
        row = metrics.get(name)
        if isinstance(row, dict) and row.get("value") is not None:
            found[name] = {key: row.get(key) for key in ("value", "low", "high")}
    return found


def _report(root: Path, cycle: str, path: str) -> dict[str, Any]:
    """A report as the cycle's tag keeps it, else (a cycle whose commit is on its way) as it lies in the workspace; empty where there is none."""
    try:
        found = json.loads(_tagged(str(root), cycle, path))
    except LookupError:
        try:
            found = json.loads((root / path).read_bytes())
        except (OSError, ValueError):
            return {}
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=4 * MOST_FIGURES)
def _tagged(root: str, cycle: str, path: str) -> str:
    """The file under the cycle's tag, which never changes. Raises LookupError, which is not remembered, where there is none."""
    try:
        return git(Path(root), "show", f"refs/tags/vigil/{cycle}:./{path}")
    except WorkspaceError as problem:
        raise LookupError(path) from problem
