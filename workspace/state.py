"""What the journal says: pure folds over its events. Nothing here reads a file, so every caller sees the same state."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from workspace.journal import Event

IMPORTED = "imported"  # stands where a model's cycle stands, for one that was made elsewhere
BATCH_STATES = ("new", "deferred", "accepted", "held", "dropped")
CHAMPION_CHANGED = "the champion changed while this cycle was paused"


@dataclass(frozen=True, slots=True)
class BatchState:
    """Where a batch stands. `state` is one of BATCH_STATES; `rows` counts its samples."""

    state: str
    who: str = ""
    why: str = ""
    source: str = ""
    rows: int = 0
    quarantined: int = 0
    added: str = ""
    again: bool = False  # dropped, and what it holds may come in again as its source says it by then
    put_off: bool = False  # deferred only because its cycle did not go on: no gate has passed it


@dataclass(frozen=True, slots=True)
class Decision:
    """`promoted` or `held`, and the sentence a person repeats. `defer`: nothing speaks against what came in, and it can wait for what comes in next.

    `put_off`: nothing speaks for it either, for the cycle was ended before it came to a verdict.
    """

    outcome: str
    reason: str
    defer: bool = False
    put_off: bool = False


@dataclass(frozen=True, slots=True)
class Champion:
    """A model that was promoted. `version` counts promotions from 1 and stays with a model; `path` is relative to the workspace.

    `card_sha256` pins the card, and with it threshold and exported file; '' for promotions of before it was journalled.
    """

    model_sha256: str
    cycle: str
    version: int
    path: str
    card_sha256: str = ""


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a model is now: `role` is champion, previous, earlier, held, or candidate while its cycle is open.

    `why` and `at` are its cycle's reason and close, of an imported model its import's. `version` is 0 for those never promoted.
    """

    cycle: str
    role: str
    version: int
    model_sha256: str
    why: str
    at: str


@dataclass(frozen=True, slots=True)
class CycleState:
    """A cycle as journalled. `outcome` is promoted, held, or '' while it is open; `model_sha256` is its candidate's, '' when none was made;
    `fingerprint` that of the settings it was opened with, or its candidate was made with, '' where this was done with those of before and after a change.
    """

    cycle: str
    week: str
    scheduled: bool
    judged: tuple[str, ...]
    base_model: str
    fingerprint: str
    opened: str
    closed: str = ""
    outcome: str = ""
    reason: str = ""
    verdict_sha256: str = ""
    model_sha256: str = ""
    path: str = ""
    batches: tuple[str, ...] = ()  # all that it learns from, judged ones too

    @property
    def trained(self) -> bool:
        """Whether it is over and made a model."""
        return bool(self.closed and self.model_sha256)


def workspace_id(events: Sequence[Event]) -> str:
    """What no other workspace has, but a copy of this one: the hash of the first line of its journal; '' while it has none."""
    return events[0].hash[:16] if events else ""


def batch_states(events: Iterable[Event]) -> dict[str, BatchState]:
    """The state of each batch, in the order in which they came in."""
    states: dict[str, BatchState] = {}
    for event in events:
        if event.kind == "batch_added":
            states.setdefault(
                event["batch"], BatchState("new", source=event["source"], rows=event["samples"], quarantined=event["quarantined"], added=event.time)
            )
        elif event.kind == "batch_state" and event["batch"] in states:
            told = {"state": event["state"], "who": event["who"], "why": event["why"], "again": event.get("again", False)}
            states[event["batch"]] = replace(states[event["batch"]], **told, put_off=event["state"] == "deferred" and _put_off(event, event["why"]))
    return states


def _put_off(event: Event, said: str) -> bool:
    """Whether what this event defers was never judged. Before it was marked, this sentence alone told so."""
    return bool(event.get("put_off", CHAMPION_CHANGED in said))


def promoted(events: Iterable[Event]) -> dict[str, Champion]:
    """Every model that was ever promoted, by cycle, oldest first."""
    made: dict[str, Champion] = {}
    for event in events:
        if event.kind == "promotion" and event["cycle"] not in made:
            made[event["cycle"]] = Champion(event["model_sha256"], event["cycle"], len(made) + 1, event["path"], event.get("card_sha256", ""))
    return made


def promoted_cycles(events: Iterable[Event]) -> set[str]:
    """Cycles whose model was promoted, by the gates or, the first one, by a person: that one was held, and stays so."""
    events = list(events)
    return {*promoted(events), *(cycle.cycle for cycle in cycles(events) if cycle.outcome == "promoted")}


def champion(events: Iterable[Event]) -> Champion | None:
    """The model that should serve: of the last promotion or rollback. None before the first promotion."""
    events = list(events)
    last = leading(events)
    return promoted(events).get(last["cycle"]) if last else None


def leading(events: Sequence[Event]) -> Event | None:
    """What made the champion lead: the last promotion or rollback."""
    return next((event for event in reversed(events) if event.kind in ("promotion", "rollback")), None)


def was_rolled_back(events: Iterable[Event]) -> bool:
    """Whether the champion leads because somebody went back to it: then no later alias may say otherwise."""
    last = leading(list(events))
    return last is not None and last.kind == "rollback"


def rolled_back_from(events: Iterable[Event]) -> set[str]:
    """Cycles whose models somebody went back behind, and nobody went back to since: they serve no more, whatever was promoted later."""
    events = list(events)
    now = champion(events)
    return promoted(events).keys() - {model.cycle for model in [*led_to_champion(events), now] if model}


def anchor(events: Iterable[Event], promotions: int) -> Champion | None:
    """The champion of so many promotions before the present one, or the first; None where there is none before it, or for 0 promotions.

    Counted along the models that led to it: against one that was rolled back from nothing good can be lost.
    """
    before = led_to_champion(events)
    return before[max(0, len(before) - promotions)] if before and promotions else None


def previous(events: Iterable[Event]) -> Champion | None:
    """The model that the present champion replaced when it was promoted, None for the first.

    Rolling back twice therefore goes back two models; it never returns to the one that was rolled back from.
    """
    before = led_to_champion(events)
    return before[-1] if before else None


def led_to_champion(events: Iterable[Event]) -> list[Champion]:
    """The champions before the present one, oldest first, each the one that the next replaced when it was promoted."""
    replaced: dict[str, str] = {}
    events, now = list(events), ""
    for event in events:
        if event.kind == "promotion":
            replaced.setdefault(event["cycle"], now if now in replaced else "")
        if event.kind in ("promotion", "rollback"):
            now = event["cycle"]
    made, line = promoted(events), list[Champion]()
    while now := replaced.get(now, ""):
        line.insert(0, made[now])
    return line


def candidates(events: Iterable[Event]) -> dict[str, Champion]:
    """The candidate of each cycle that made one, and the model that was imported, oldest first; `version` is 0 for those never promoted."""
    events = list(events)
    versions = {cycle: model.version for cycle, model in promoted(events).items()}
    found: dict[str, Champion] = {}
    for event in events:
        if event.kind == "candidate" or (event.kind == "promotion" and event["cycle"] == IMPORTED):
            found[event["cycle"]] = Champion(event["model_sha256"], event["cycle"], versions.get(event["cycle"], 0), event["path"])
    return found


def model_states(events: Iterable[Event]) -> list[ModelState]:
    """What each model that was made or imported is now, oldest first."""
    events = list(events)
    leading, before, closed = champion(events), previous(events), {one.cycle: one for one in cycles(events)}
    imported = {event["cycle"]: event for event in events if event.kind == "promotion" and event["cycle"] == IMPORTED}
    found = []
    for cycle, model in candidates(events).items():
        one, came = closed.get(cycle), imported.get(cycle)
        if model.version:
            role = "champion" if leading and leading.cycle == cycle else "previous" if before and before.cycle == cycle else "earlier"
        else:
            role = one.outcome if one and one.outcome else "candidate"
        why, at = (str(came["why"]), came.time) if came else (one.reason, one.closed) if one else ("", "")
        found.append(ModelState(cycle, role, model.version, model.model_sha256, why, at))
    return found


def held_batches(states: Mapping[str, BatchState]) -> list[str]:
    """The batches that wait for a person."""
    return [name for name, batch in states.items() if batch.state == "held"]


def cycles(events: Iterable[Event]) -> list[CycleState]:
    """Every cycle, oldest first."""
    found: dict[str, CycleState] = {}
    for event in events:
        if event.kind == "cycle_opened":
            opened = CycleState(
                event["cycle"], event["week"], bool(event["scheduled"]), tuple(event["judged"]), event["base_model"], event["fingerprint"], event.time,
                batches=tuple(event.get("batches", event["judged"])),
            )  # fmt: skip
            found.setdefault(event["cycle"], opened)
        elif event.kind in ("candidate", "cycle_closed") and event["cycle"] in found:
            known = found[event["cycle"]]
            if event.kind == "candidate":
                fingerprint = event.get("fingerprint", known.fingerprint)  # settings may have changed while it paused
                found[known.cycle] = replace(known, model_sha256=event["model_sha256"], path=event["path"], fingerprint=fingerprint)
            elif not known.closed:
                found[known.cycle] = replace(known, closed=event.time, outcome=event["outcome"], reason=event["reason"], verdict_sha256=event["verdict_sha256"])
    return list(found.values())


def came_from(events: Iterable[Event], cycle: str) -> list[str]:
    """The cycles whose models this one's came from, each the base of the one before: what they learned from is in it, too."""
    bases = {event["cycle"]: event.get("base_cycle", "") for event in events if event.kind == "cycle_opened"}
    line: list[str] = []
    while (base := bases.get(line[-1] if line else cycle)) and base not in line:
        line.append(base)
    return line


def decided(events: Iterable[Event], cycle: str) -> Decision | None:
    """What was decided about a cycle, as journalled: from then on no setting, override or better day changes it."""
    for event in events:
        if event.kind == "promotion" and event["cycle"] == cycle:
            return Decision("promoted", event["why"])
        if event.kind == "cycle_held" and event["cycle"] == cycle:
            return Decision("held", event["reason"], bool(event.get("defer")), _put_off(event, event["reason"]))
        if event.kind == "cycle_closed" and event["cycle"] == cycle:
            return Decision(event["outcome"], event["reason"])
    return None


def open_cycle(events: Iterable[Event]) -> CycleState | None:
    """The cycle that was opened and not closed (the latest, should there be several), or None."""
    unfinished = [cycle for cycle in cycles(events) if not cycle.closed]
    return unfinished[-1] if unfinished else None
