"""`vigil retrain`: says at once when nothing is new; else runs the flow and words its outcome."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.plan import Plan, make_plan
from workspace.journal import Journal
from workspace.settings import Settings


def would_run(root: Path, settings: Settings, force: bool = False) -> Plan:
    """What a cycle would do, without Prefect, DVC or torch: quick enough to ask every minute."""
    from pipelines.ingest import pending

    out_of_reach: dict[str, str] = {}
    waiting = pending(root, settings, settings.ingest.sources, out_of_reach) + waiting_reviews(root, settings)
    for name, why in out_of_reach.items():
        print(f"{name}: out of reach; {why}", file=sys.stderr, flush=True)
    return make_plan(Journal(root).events(), settings, pending_files=waiting, force=force)


def waiting_reviews(root: Path, settings: Settings) -> int:
    """Decided cases that no batch holds yet."""
    from feedback.handover import waiting

    return waiting(root, settings)


def run_cycle(root: Path, settings: Settings, *, scheduled: bool = False, force: bool = False) -> dict[str, Any]:
    """Run one cycle if there is a reason to. Scheduled: only if a week is due."""
    from flows.closing import finish_commit, unfinished
    from workspace.cycle import due_week
    from workspace.lease import lease

    if unfinished(root):
        with lease(root, "commit"):
            finish_commit(root)
    events = Journal(root).events()
    plan = would_run(root, settings, force)
    if scheduled and not plan.resume and due_week(events, settings.schedule, datetime.now(UTC)) is None:
        return {"outcome": "nothing new", "reason": "this week's scheduled cycle has been run; the next is due at its slot", "cycle": ""}
    if not plan.needed and not scheduled:
        return {"outcome": "nothing new", "reason": "no new file, batch, setting or stage version; --force runs a cycle all the same", "cycle": ""}
    from flows.environment import prepare_environment, start_private_server

    prepare_environment(root)
    start_private_server()
    from flows.health import close_stale_runs
    from workspace.processes import end_orphans

    with lease(root, "doctor"):
        for line in [*end_orphans(root), *close_stale_runs(root, settings)]:
            print(line, flush=True)
    from flows.cycle import weekly_retrain

    return weekly_retrain(workspace=str(root), scheduled=scheduled, force=force)


def describe(outcome: dict[str, Any]) -> str:
    """Two or three lines for a person."""
    if outcome["outcome"] == "nothing new":
        return f"Nothing new: {outcome['reason']}."
    lines = [f"{outcome['cycle']}  {outcome['outcome'].upper()}  {outcome['reason']}"]
    if outcome.get("report"):
        lines.append(f"  Report: {os.path.relpath(outcome['report'])}")
    if outcome["outcome"] == "held":
        lines.append("  Next: read the report; `vigil batches` shows what waits for a person (accept, drop).")
    return "\n".join(lines)
