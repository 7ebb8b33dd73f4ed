"""`vigil retrain`: says at once when nothing is new; else runs the flow and words its outcome."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.plan import Plan, make_plan, unread_sources
from flows.policy import NONE, NOT_DUE, TRAINING, how_much, waiting_reviews, what_starts
from workspace.cycle import due_week, iso_week, told_cycle
from workspace.errors import LeaseHeldError
from workspace.journal import Event, Journal
from workspace.settings import Settings
from workspace.state import batch_states, cycles, held_batches, promoted
from workspace.unsent import unsent


def would_run(root: Path, settings: Settings, force: bool = False) -> Plan:
    """What a cycle would do, without Prefect, DVC or torch: quick enough to ask every minute."""
    from feedback.handover import waiting
    from feedback.restored import to_hand_over_again
    from pipelines.ingest import pending, unjournalled

    problems: dict[str, str] = {}
    files, cases = pending(root, settings, settings.ingest.sources, problems), waiting(root, settings) + to_hand_over_again(root, settings)
    events, now = Journal(root).events(), datetime.now(UTC)
    plan = make_plan(events, settings, pending_files=files, pending_cases=cases, left=unjournalled(root), force=force)
    unread = tuple(f"{source}: {why}" for source, why in problems.items())
    due = due_week(events, settings.schedule, now)
    work = how_much(events, settings, plan, iso_week(now, settings.schedule.timezone))  # of a run by hand
    start = what_starts(events, settings, now, scheduled=True, reviews=waiting_reviews(root, settings))
    return replace(plan, work=work.kind, work_why=work.why, due=due or "", timer=start.why, unread=unread)


def rehearse(root: Path, settings: Settings, force: bool = False) -> Plan:
    """What `would_run` says, once the settings and the champion were looked at as a cycle looks at them before its first stage; raises what that would raise.

    For a person who asks: to know the names in the settings may take torch.
    """
    plan = would_run(root, settings, force)
    if not plan.needed:
        return plan
    from flows.opening import refuse_missing_parameters, refuse_other_ground
    from pipelines.names import refuse_unknown_names
    from workspace.modelfiles import verify_promoted

    refuse_unknown_names(root, settings)
    refuse_missing_parameters(root)
    if plan.work == NONE:  # what is decided is only closed
        return plan
    events = Journal(root).events()
    base = promoted(events).get(plan.base_cycle)
    if base and (root / base.path).exists():  # one that is not here would be fetched first
        verify_promoted(root, base)
    refuse_other_ground(root, settings, plan.base_cycle, told_cycle(root, events, plan.resume)[0] if plan.resume else None)
    return plan


def run_cycle(root: Path, settings: Settings, *, scheduled: bool = False, force: bool = False) -> dict[str, Any]:
    """Run one cycle if there is a reason to. Scheduled: only if a week is due."""
    from flows.closing import finish_commit, unfinished
    from workspace.lease import CYCLE, lease
    from workspace.revisions import refuse_cut_short

    refuse_cut_short(root)  # such a journal says too that nothing is new
    if unfinished(root):
        with lease(root, "commit"):
            finish_commit(root)
    events = Journal(root).events()
    start = what_starts(events, settings, datetime.now(UTC), scheduled=scheduled, reviews=waiting_reviews(root, settings))
    if not start:  # asked every hour: no source is listed for it
        _send_again(root, settings)
        return {"outcome": "nothing new", "reason": NOT_DUE, "cycle": ""}
    plan = would_run(root, settings, force)
    if not plan.needed and not (start.week and batch_states(events)):
        _send_again(root, settings)
        if plan.unread:
            raise unread_sources(plan.unread)
        trained = [cycle.fingerprint for cycle in cycles(events) if cycle.trained]
        untried = trained and trained[-1] != plan.fingerprint
        nothing = "no new file or batch that the changed settings could judge" if untried else "no new file, batch, setting or stage version"
        return {"outcome": "nothing new", "reason": f"{nothing}; {_what_else(events)}", "cycle": ""}
    from pipelines.names import refuse_unknown_names

    refuse_unknown_names(root, settings)  # before anything is taken in
    from flows.environment import prepare_environment, start_private_server

    prepare_environment(root)
    from flows.leftovers import end_what_was_left

    with lease(root, CYCLE):  # first: a workspace that cannot be written says so here, Prefect's server after two minutes
        start_private_server()
        for line in end_what_was_left(root, settings):
            print(line, file=sys.stderr, flush=True)
    from flows.cycle import weekly_retrain

    return weekly_retrain(workspace=str(root), scheduled=scheduled, force=force)


def _send_again(root: Path, settings: Settings) -> None:
    """Send what an earlier push did not, unless somebody is at work here, who may be sending it."""
    from flows.closing import send_again
    from workspace.lease import lease
    from workspace.repository import set_remote

    if unsent(root):
        with suppress(LeaseHeldError), lease(root, "push"):
            set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)
            send_again(root)


def _what_else(events: Sequence[Event]) -> str:
    """What a person can do where nothing is new."""
    states = batch_states(events)
    held = held_batches(states)
    force = "--force runs a cycle all the same" if any(batch.state in ("accepted", "deferred") for batch in states.values()) else ""
    accept = f"held, and in no cycle until a person says so (vigil batches accept): {', '.join(held)}" if held else ""
    dropped = "all that came in was dropped (`vigil batches drop NAME --again` and the same ingest take it in anew)"
    return "; ".join(filter(None, (accept, force))) or (dropped if states else "nothing has come in yet (vigil ingest)")


def describe_plan(plan: dict[str, Any]) -> str:
    """What would run, how much of it, and why."""
    unread = "".join(f"\n  cannot be read: {one}" for one in plan["unread"])
    if not plan["needed"]:
        skipped = f" A timer would note {plan['due']} as skipped, unless nothing has ever come in." if plan["due"] and not unread else ""
        return f"Nothing new; nothing would run.{skipped}{unread}"
    asked = f" (a timer would run it: {plan['timer']})" if plan["timer"] else " (no week is due, and nothing else starts one early: a person must ask)"
    return f"Would run{asked}: {'; '.join(plan['reasons'])}\n  {TRAINING[plan['work']]}: {plan['work_why']}{unread}"


def describe(outcome: dict[str, Any]) -> str:
    """Two or three lines for a person."""
    if outcome["outcome"] == "nothing new":
        return f"Nothing new: {outcome['reason']}."
    lines = [f"{outcome['cycle']}  {outcome['outcome'].upper()}  {outcome['reason']}"]
    if outcome.get("report"):
        lines.append(f"  Report: {os.path.relpath(outcome['report'])}")
    if outcome["outcome"] == "held":
        lines.append("  Next: read the report; `vigil batches` shows what waits: held for a person (accept, drop), deferred for more of its kind.")
    return "\n".join(lines)
