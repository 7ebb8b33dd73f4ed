"""What a retraining would do, and why: decided from the journal, the settings and the sources, without running anything."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from workspace.errors import DataError
from workspace.journal import Event
from workspace.promotion import overrides
from workspace.settings import Settings
from workspace.state import batch_states, champion, cycles, decided, open_cycle, promoted_cycles

# A change of these decides nothing about the data or the model, but for serve.int8.
NOT_TRAINED_ON = {"format", "ingest", "schedule", "policy", "serve", "feedback", "registry", "remote"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The batches of the next cycle and the reasons for it. Without reasons there is nothing to do."""

    judged: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()  # of the judged: what comes along from earlier cycles, and by itself makes none due
    vouched: tuple[str, ...] = ()  # of the judged: a person accepted them since
    accepted: tuple[str, ...] = ()
    resume: str = ""
    pending_files: int = 0  # of the sources
    pending_cases: int = 0  # that people have decided, and no batch holds
    unread: tuple[str, ...] = ()  # sources that cannot be read or understood now, and why
    base_model: str = ""
    base_cycle: str = ""
    fingerprint: str = ""
    reasons: tuple[str, ...] = field(default=())
    work: str = ""  # full, fine-tune or none, with its reason, once it is known when the cycle would run (flows/policy.py)
    work_why: str = ""
    due: str = ""  # the ISO week whose scheduled cycle is due
    timer: str = ""  # what would make a timer's question start a cycle now; '' where only a person's would
    regardless: bool = False  # a changed setting, an override, or force: there is work though nothing that is new can teach

    @property
    def needed(self) -> bool:
        """Whether a cycle should run."""
        return bool(self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values, for --json."""
        return {**asdict(self), "needed": self.needed}


def unread_sources(problems: Sequence[str]) -> DataError:
    """What a run ends with that found nothing new and could not ask every source: else a timer would call it well, week after week."""
    return DataError(
        "Nothing new came in, and not every source could be read. No cycle was run, and nothing was lost.",
        why="; ".join(problems),
        next_step="Mend the source, or its entry under ingest.sources in params.yaml; a week that is due stays due, and the next run asks again.",
    )


def settings_fingerprint(settings: Settings) -> str:
    """A hash of every setting that changes data or model."""
    kept = {key: value for key, value in settings.model_dump(mode="json", by_alias=True).items() if key not in NOT_TRAINED_ON}
    if settings.serve.int8:  # only then: the hash of a workspace that never asked for it stays what it was
        kept["serve"] = {"int8": True}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def make_plan(
    events: Sequence[Event],
    settings: Settings,
    *,
    pending_files: int = 0,
    pending_cases: int = 0,
    left: Sequence[str] = (),
    force: bool = False,
    now: datetime | None = None,
) -> Plan:
    """Decide what the next cycle would judge.

    New means: files, decided cases or batches that no cycle has judged, a batch that a person accepted since, a setting or stage version that no cycle has
    trained with, or force. A promotion alone is not new, a held batch waits for a person, and a deferred one for what comes in next.
    `left`: batches that a killed ingest left whole, and the journal does not know yet.
    """
    states = batch_states(events)
    settled = batches_trained_on(events)
    new = sorted([*(name for name, batch in states.items() if batch.state == "new"), *left])
    deferred = sorted(name for name, batch in states.items() if batch.state == "deferred")
    accepted = sorted(name for name, batch in states.items() if batch.state == "accepted")
    released = [name for name in accepted if name not in settled]
    asked = sorted(accepted_since(events) & {*released})
    fingerprint = settings_fingerprint(settings)
    closed = [cycle for cycle in cycles(events) if cycle.closed]
    trained = [cycle for cycle in closed if cycle.trained]
    leading = champion(events)
    running = open_cycle(events)

    reasons = []
    if running:
        what = "is decided and not closed: nothing is trained any more" if decided(events, running.cycle) else "was begun and not finished"
        reasons.append(f"cycle {running.cycle} {what}")
    if pending_files:
        reasons.append(f"{pending_files} new {'file or label' if pending_files == 1 else 'files or labels'} in the sources")
    if pending_cases:
        reasons.append(f"{pending_cases} {'case that is' if pending_cases == 1 else 'cases that are'} decided, and in no batch yet")
    if new:
        reasons.append(f"{len(new)} new {'batch' if len(new) == 1 else 'batches'}: {', '.join(new)}")
    if asked:
        reasons.append(f"accepted by a person since: {', '.join(asked)}")
    # where all that came in was refused, it has not been tried; what is deferred may be decided by the very setting, which is asked once
    last = trained if accepted else closed if deferred else []
    changed = bool(last and last[-1].fingerprint != fingerprint)
    if changed:
        reasons.append("a setting or a stage version changed")
    allowed = overridden_since(events, now or datetime.now(UTC)) if deferred or released else []
    if allowed:
        reasons.append(f"gate {', '.join(allowed)} overridden since")
    if force and (accepted or new or deferred):
        reasons.append("forced")
    again = sorted({*deferred, *released} - {*asked})
    if reasons and again and not running:
        reasons.append(f"judged again beside it: {', '.join(again)}")
    return Plan(
        judged=tuple(sorted({*new, *released, *deferred})) if reasons else (),
        deferred=tuple(deferred) if reasons else (),
        vouched=tuple(released) if reasons else (),
        accepted=tuple(name for name in accepted if name in settled),
        resume=running.cycle if running else "",
        pending_files=pending_files,
        pending_cases=pending_cases,
        base_model=leading.model_sha256 if leading else "",
        base_cycle=leading.cycle if leading else "",
        fingerprint=fingerprint,
        reasons=tuple(reasons),
        regardless=bool(changed or force or allowed),
    )


def accepted_since(events: Sequence[Event]) -> set[str]:
    """Batches that were accepted after the last cycle that judged them had ended: what a person has allowed is tried once, and then beside what is new."""
    judged = {cycle.cycle: cycle.judged for cycle in cycles(events)}
    found: set[str] = set()
    for event in events:
        if event.kind == "cycle_closed":
            found -= {*judged.get(event["cycle"], ())}
        elif event.kind == "batch_state" and event["state"] == "accepted":
            found.add(event["batch"])
    return found


def overridden_since(events: Sequence[Event], now: datetime) -> list[str]:
    """Gates that a person has overridden since the last cycle ended, and whose override is still in force."""
    in_force = overrides(events, now)
    found: list[str] = []
    for event in events:
        if event.kind == "cycle_closed":
            found = []
        elif event.kind == "override" and event.get("what") == "gate":
            found.append(str(event["gate"]))
    return [gate for gate in found if gate in in_force]


def cycles_held(events: Sequence[Event], batch: str) -> int:
    """How many cycles were held that judged this batch."""
    judged = {cycle.cycle for cycle in cycles(events) if batch in cycle.judged}
    return sum(event.kind == "cycle_held" and event["cycle"] in judged for event in events)


def batches_trained_on(events: Sequence[Event]) -> set[str]:
    """Batches that a cycle has trained on whose model was promoted."""
    learned = promoted_cycles(events)
    return {batch for cycle in cycles(events) if cycle.cycle in learned for batch in cycle.judged}
