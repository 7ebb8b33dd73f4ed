"""The rules of batch states: what a cycle or a person may make of a batch, and who said so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workspace.errors import WorkspaceError
from workspace.journal import Event, Journal
from workspace.state import batch_states

ALLOWED = {
    "new": ("accepted", "deferred", "held", "dropped"),
    "deferred": ("accepted", "held", "dropped"),  # only more of its kind can tell: judged again together with what comes in next
    "held": ("accepted", "dropped"),
    # Taken out again, e.g. on a person's request; models that saw it stay known by their cards. Held: a person accepted what the data checks refuse.
    "accepted": ("dropped", "held"),
    "dropped": ("held",),  # another look, before it may be accepted
}


def set_batch_state(root: Path, batch: str, state: str, *, who: str, why: str, again: bool = False, put_off: bool = False) -> Event | None:
    """Journal a batch's new state; returns the event, or None when it has that state already (safe to repeat). Deferred for another reason than before is news.

    `again`, of a dropped batch: what it holds may come in again, as its source says it by then. `put_off`, of a deferred one: no gate has passed it.

    Raises WorkspaceError for an unknown batch, a step that is not allowed, or a missing name or reason.
    """
    if not who.strip() or not why.strip():
        raise _refusal(batch, f"who is {who!r}, why is {why!r}", "Give a name and a reason.")

    def decide(events: Sequence[Event]) -> tuple[str, dict[str, Any]] | None:
        known = batch_states(events)
        if batch not in known:
            raise _refusal(batch, f"the batches are {', '.join(known) or 'none yet'}", "Name one of them; `vigil batches` lists them.")
        was = known[batch]
        told = (was.why, was.put_off) == (why, put_off) if state == "deferred" else was.again == again
        if was.state == state and told:
            return None
        allowed = ALLOWED[was.state]
        if state not in allowed and state != was.state:
            raise _refusal(batch, f"a batch that is {was.state} cannot become {state!r}", f"It can become {' or '.join(allowed)}.")
        marks = {"put_off": put_off} if state == "deferred" else {"again": True} if again else {}
        return "batch_state", {"batch": batch, "state": state, "who": who, "why": why, **marks}

    return Journal(root).append_if(decide)


def _refusal(batch: str, why: str, next_step: str) -> WorkspaceError:
    return WorkspaceError(f"The state of batch {batch!r} was not changed.", why=why, next_step=next_step)
