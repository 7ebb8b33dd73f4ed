"""What starts a cycle, and how much it does: functions of the journal, the settings, the time and the reviews that wait, each with its reason.

A week is due by the journal, never by a timer: a timer that fires twice, late, or after the clock was set back changes nothing
(workspace/cycle.py). Between two weeks drift or enough reviewed cases may start a cycle, where the settings say so; such a cycle does
not use the week up. A full cycle trains with the steps of the settings; a fine-tune goes on from the champion with a part of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from flows.plan import Plan
from workspace.cycle import due_week
from workspace.journal import Event
from workspace.settings import Settings
from workspace.state import cycles, decided, open_cycle

FULL, FINE_TUNE, NONE = "full", "fine-tune", "none"
TRAINING = {FULL: "full training", FINE_TUNE: "fine-tune", NONE: "no training"}  # in a person's words
NOT_DUE = "this week's scheduled cycle has been run, or was skipped because nothing was new; the next is due at its slot"


@dataclass(frozen=True, slots=True)
class Start:
    """What asks for a cycle: `unfinished`, `week`, `drift`, `reviews`, `person`; '' is nothing. `week` is the ISO week that is due, else ''."""

    by: str = ""
    why: str = ""
    week: str = ""

    def __bool__(self) -> bool:
        return bool(self.by)


@dataclass(frozen=True, slots=True)
class Work:
    """How much a cycle does: `full`, `fine-tune` or `none` (it is decided), the part of the settings' steps, and why."""

    kind: str
    steps: float
    why: str


def waiting_reviews(root: Path, settings: Settings) -> int:
    """Decided cases that no batch holds, where so many may start a cycle; else 0, and nothing is asked."""
    from feedback.handover import waiting

    return waiting(root, settings) if settings.policy.early_reviews else 0


def what_starts(events: Sequence[Event], settings: Settings, now: datetime, *, scheduled: bool, reviews: int) -> Start:
    """What asks for a cycle now; `scheduled` is a timer's question, else a person asks. `reviews` are decided cases that no batch holds."""
    running = open_cycle(events)
    if running:
        return Start("unfinished", f"cycle {running.cycle} was begun and not finished")
    if not scheduled:
        return Start("person", "a person asked")
    if week := due_week(events, settings.schedule, now):
        return Start("week", f"the cycle of {week} is due", week)
    closed = [event for event in events if event.kind == "cycle_closed"]
    by = {event["cycle"]: event.get("started_by") for event in events if event.kind == "cycle_opened"}
    if settings.policy.early_drift and closed and closed[-1].get("drifted") and by.get(closed[-1]["cycle"]) != "drift":  # once a week: what drifted comes along
        return Start("drift", f"what came in with {closed[-1]['cycle']} had drifted")
    if 0 < settings.policy.early_reviews <= reviews:
        return Start("reviews", f"{reviews} reviewed cases wait ({settings.policy.early_reviews} start a cycle)")
    return Start()


def how_much(events: Sequence[Event], settings: Settings, plan: Plan, week: str) -> Work:
    """Full where the settings ask for nothing else, and wherever a fine-tune would build on what is not there, not the same any more, or too old.

    `week`: the ISO week whose cycle it is. Moments of opening would not do: an ingest that took a minute less, or summer time, made a week of the count.
    """
    if plan.resume and (over := decided(events, plan.resume)):
        return Work(NONE, 0.0, f"{plan.resume} is {over.outcome}: {over.reason}")
    if plan.resume:
        opened = next(event for event in events if event.kind == "cycle_opened" and event["cycle"] == plan.resume)
        return Work(opened.get("work", FULL), opened.get("steps", 1.0), f"as {plan.resume} was opened")
    policy = settings.policy
    full = last_full(events, plan.base_cycle)
    prints = [cycle.fingerprint for cycle in cycles(events) if cycle.cycle == plan.base_cycle]
    age = (date.fromisoformat(f"{week}-1") - date.fromisoformat(f"{full['week']}-1")).days // 7 if full else 0  # in weeks, from Monday to Monday
    if policy.work == FULL:
        why = "policy.work is full"
    elif not plan.base_model:
        why = "there is no champion to go on from"
    elif not full:
        why = "no full training here has been promoted yet"
    elif plan.regardless or plan.fingerprint not in prints:
        why = "a setting or a stage version changed since the champion was trained, or a person forced it"
    elif policy.full_every_weeks and age >= policy.full_every_weeks:
        why = f"the last full training, {full['cycle']}, is {age} weeks old (every {policy.full_every_weeks} weeks)"
    else:
        return Work(FINE_TUNE, policy.fine_tune_steps, f"the champion's last full training is {full['cycle']}, and nothing but media is new")
    return Work(FULL, 1.0, why)


def last_full(events: Sequence[Event], champion: str) -> Event | None:
    """What opened the full training that the champion of cycle `champion` goes back to, from base to base; None where none was run here."""
    opened = {event["cycle"]: event for event in events if event.kind == "cycle_opened"}
    event = opened.get(champion)
    while event and event.get("work", FULL) != FULL:
        event = opened.get(event.get("base_cycle", ""))
    return event
