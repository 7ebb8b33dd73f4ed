"""The rules of promotion and rollback. Flow, command line and console all use these; the journal is what they write.

A challenger becomes champion only by a verdict that says `pass` about exactly this file, judged against exactly the
champion of this moment, once a cycle. Aliases of the registry follow from the journal (workspace/registry.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from workspace.cycle import CYCLE_ID
from workspace.errors import PromotionConflict, WorkspaceError
from workspace.files import sha256_file
from workspace.journal import Event, Journal
from workspace.layout import Workspace
from workspace.lease import holds_lease, lease
from workspace.modelfiles import CARD, verify_model_files, verify_promoted
from workspace.revisions import refuse_cut_short
from workspace.state import IMPORTED, Champion, champion, previous, promoted

PASS = "pass"
NOTHING = "Nothing was promoted."
# What is wrong with the data or the file itself no person can vouch for.
DATA_GATES = ("data", "leak-free")
COUNTED = {"accuracy": "real or fake videos", "not worse than the champion": "people with real or with fake videos"}  # of what a first model needs enough
NEVER_OVERRIDDEN = (*DATA_GATES, "artifact parity", "score collapse")
OVERRIDABLE = (
    "label noise", "accuracy", "not worse than the champion", "better on what is new", "new rows", "worst slice", "drift", "robustness", "forgetting",
    "generalisation gap", "latency", "size",
)  # fmt: skip
LONGEST_OVERRIDE = timedelta(days=31)


def promote(root: Path, challenger: Path, *, expected_champion_sha256: str, verdict: Mapping[str, Any], cycle: str, who: str, why: str) -> Event:
    """Make `challenger` (a model folder inside the workspace) the champion; returns the journal's `promotion` event.

    `verdict` is reports/verdict.json. `expected_champion_sha256` is the champion that the challenger was judged against, '' for none.
    Safe to repeat: a cycle that was promoted returns its first event. Takes the workspace's lease unless this process holds it.
    Raises WorkspaceError when the verdict does not allow it, ModelFileError when a file is not what its card says,
    PromotionConflict when the champion is another by now or the cycle promoted another model, LeaseHeldError when somebody else writes.
    """
    _need_words(who, why)
    _check_verdict(verdict, cycle, expected_champion_sha256)
    sha256 = str(verdict["challenger_sha256"])
    verify_model_files(Workspace(root).root / challenger, sha256, card_sha256=str(verdict["card_sha256"]))
    path = Workspace(root).relative(challenger)

    def decide(events: Sequence[Event]) -> tuple[str, dict[str, Any]] | None:
        done = promoted(events).get(cycle)
        if done and done.model_sha256 == sha256:
            return None
        if done:
            raise _conflict(f"cycle {cycle} has already promoted model {done.model_sha256[:12]}, this is {sha256[:12]}")
        now = champion(events)
        if (now.model_sha256 if now else "") != expected_champion_sha256:
            raise _conflict(
                f"it was judged against {expected_champion_sha256[:12] or 'no champion'}; the champion is now {now.model_sha256[:12] if now else 'none'}"
            )
        told = {"card_sha256": str(verdict["card_sha256"]), "previous_sha256": expected_champion_sha256, "who": who, "why": why}
        return "promotion", {"cycle": cycle, "model_sha256": sha256, "path": path, **told}

    with _writer(root, f"promote {cycle}"):
        journal = Journal(root)
        return journal.append_if(decide) or next(event for event in journal.events() if event.kind == "promotion" and event["cycle"] == cycle)


def bootstrap(root: Path, challenger: Path, *, verdict: Mapping[str, Any], cycle: str, who: str, why: str) -> Event:
    """Make the first champion of a workspace on a person's word, whatever the verdict; journalled as an override.

    Refused (PromotionConflict) as soon as there is a champion, and (WorkspaceError) where a gate failed that no person can vouch for, or one that
    looks at the data did not pass (a report that nobody finished is none), or the holdout is too small: what comes in joins it with a promotion,
    and on this one no later model could be judged.
    `verdict` must be about this very file and cycle. Safe to repeat: while that model leads, it returns its first event, whoever asks.
    """
    _need_words(who, why)
    events = Journal(root).events()
    if now := champion(events):
        vouched = any(event.kind == "override" and event.get("what") == "bootstrap" and event["cycle"] == now.cycle for event in events)
        if vouched and (now.cycle, now.model_sha256) == (cycle, verdict.get("challenger_sha256")):
            return next(event for event in events if event.kind == "promotion" and event["cycle"] == cycle)
        raise _conflict("there is a champion already; only the first may be bootstrapped")
    judged = dict(verdict)
    results = [(_gate_of(row), row) for row in judged.get("results") or []]
    if few := [(gate, row) for gate, row in results if _judged_on_too_few(row)]:
        gate, row = few[0]
        why = f"{row['n']} {COUNTED[gate]} in its holdout, {row['smallest_n']} are the fewest on which two models can be compared"
        raise WorkspaceError(
            f"With this model no later one could ever be promoted. {NOTHING}", why=why, next_step="Ingest more labelled people, then run `vigil retrain`."
        )
    said = [f"{row['gate']}: {row.get('reason')}" for gate, row in results if gate in NEVER_OVERRIDDEN and row.get("verdict") == "fail"]
    finished = {gate for gate, row in results if row.get("verdict") in (PASS, "fail")}
    said += [f"{gate}: it did not pass" for gate in DATA_GATES if gate not in finished]
    if said:
        raise WorkspaceError(f"Nobody can vouch for this model. {NOTHING}", why="; ".join(said), next_step="Mend what it found, then run `vigil retrain`.")
    Journal(root).append(
        "override", who=who, why=why, cycle=cycle, what="bootstrap", verdict=str(judged.get("verdict")), model_sha256=str(judged.get("challenger_sha256"))
    )
    allowed = {**judged, "verdict": PASS, "results": [{"gate": "bootstrap", "verdict": PASS}]}
    return promote(root, challenger, expected_champion_sha256="", verdict=allowed, cycle=cycle, who=who, why=f"bootstrapped: {why}")


def import_champion(root: Path, model: Path, *, model_sha256: str, source_sha256: str, who: str, why: str) -> Event:
    """Make a model that was made elsewhere the first champion of a workspace, on a person's word; returns the journal's `promotion` event.

    Safe to repeat: the same model returns its first event. Raises PromotionConflict where there is a champion (a later model comes in
    through a cycle and its gates only), ModelFileError when a file is not what its card says.
    """
    _need_words(who, why)
    verify_model_files(Workspace(root).root / model, model_sha256)
    card_sha256 = sha256_file(Workspace(root).root / model / CARD)
    path = Workspace(root).relative(model)

    def decide(events: Sequence[Event]) -> tuple[str, dict[str, Any]] | None:
        now = champion(events)
        if now and (now.cycle, now.model_sha256) == (IMPORTED, model_sha256):
            return None
        if now:
            raise refuse_import(now)
        told = {"who": who, "why": f"imported: {why}", "source_sha256": source_sha256, "card_sha256": card_sha256}
        return "promotion", {"cycle": IMPORTED, "model_sha256": model_sha256, "path": path, "previous_sha256": "", **told}

    with _writer(root, "import"):
        journal = Journal(root)
        return journal.append_if(decide) or next(event for event in journal.events() if event.kind == "promotion")


def refuse_import(now: Champion) -> PromotionConflict:
    """Why a model cannot be imported beside a champion."""
    return PromotionConflict(
        "Nothing was imported.",
        why=f"{now.cycle} ({now.model_sha256[:12]}) is champion; only a workspace without one takes a model on a person's word",
        next_step="Compare the two with `vigil evaluate SOURCE --model FOLDER`, or import it into a new workspace (`vigil init`).",
    )


def override(root: Path, gate: str, *, who: str, why: str, until: datetime) -> Event:
    """Let cycles be promoted until a moment though this gate holds them; journalled. A person answers for it by name.

    Raises WorkspaceError for a gate that nobody may switch off, a moment without zone or in the past, or a missing name or reason.
    """
    _need_words(who, why)
    refuse_cut_short(Path(root))  # what needs no lease asks itself
    now = datetime.now(UTC)
    if gate in NEVER_OVERRIDDEN or gate not in OVERRIDABLE:
        allowed = ", ".join(OVERRIDABLE)
        next_step = "Mend what it found." if gate in NEVER_OVERRIDDEN else "Name one of these."
        raise WorkspaceError(f"Gate {gate!r} cannot be overridden. Nothing was changed.", why=f"these can: {allowed}", next_step=next_step)
    if until.tzinfo is None or not now < until <= now + LONGEST_OVERRIDE:
        why_not = f"{until.isoformat()} is not within the next {LONGEST_OVERRIDE.days} days"
        raise WorkspaceError("An override must expire. Nothing was changed.", why=why_not, next_step="Name fewer days.")
    return Journal(root).append("override", who=who, why=why, what="gate", gate=gate, until=until.astimezone(UTC).isoformat(timespec="seconds"))


def overrides(events: Sequence[Event], now: datetime) -> dict[str, Event]:
    """The overrides in force, by gate; the latest of each. A clock that was set back revives none: what was said later than now is not in force."""
    found = {str(event["gate"]): event for event in events if event.kind == "override" and event.get("what") == "gate"}
    return {gate: event for gate, event in found.items() if datetime.fromisoformat(event.time) <= now < datetime.fromisoformat(str(event["until"]))}


def overridden(verdict: Mapping[str, Any], in_force: Mapping[str, Event]) -> tuple[dict[str, Any], list[str]] | None:
    """The verdict as these overrides make it, with a sentence for each; None where something else holds it, or an override has no effect."""
    rows, used = [], []
    for row in verdict.get("results") or []:
        if row.get("verdict") == PASS:
            rows.append(row)
            continue
        event = in_force.get(_gate_of(row))
        if event is None or _beyond_override(verdict, row):
            return None
        rows.append({**row, "verdict": PASS, "overridden": {"who": event["who"], "why": event["why"], "until": event["until"], "said": row["verdict"]}})
        used.append(f"{row['gate']} said {row['verdict']} and was overridden by {event['who']} until {event['until'][:10]}: {event['why']}")
    return ({**verdict, "verdict": PASS, "results": rows}, used) if used else None


def without_effect(verdict: Mapping[str, Any], in_force: Mapping[str, Event]) -> list[str]:
    """A sentence for each override in force that does not cover what its gate says here."""
    held = [row for row in verdict.get("results") or [] if row.get("verdict") != PASS and _gate_of(row) in in_force]
    found = {_gate_of(row): why for row in held if (why := _beyond_override(verdict, row))}
    return [f"The override of {gate!r} by {in_force[gate]['who']} does not count: {why}." for gate, why in found.items()]


def _gate_of(row: Mapping[str, Any]) -> str:
    return str(row.get("gate", "")).split(":")[0]


def _judged_on_too_few(row: Mapping[str, Any]) -> bool:
    """Whether a first model that this result is about could have no successor: so few judge it that nothing could be compared on them."""
    return _gate_of(row) in COUNTED and _number(row.get("n")) < _number(row.get("smallest_n"))


def _beyond_override(verdict: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Why no override covers this result, '' where one does: it has a value, or beside a champion tells how many there are of what it asks for.

    Whatever value a first model has on too few videos, none covers it.
    """
    if not verdict.get("base_sha256") and _judged_on_too_few(row):
        return "too few are there to judge a first model"
    if row.get("measured") is not None:
        return ""
    if row.get("n") is None:
        return "a number is missing, and nobody can answer for one"
    return "" if verdict.get("base_sha256") else "too few are there to judge a first model"


def rollback(root: Path, to: str = "previous", *, who: str, why: str, instead_of: str = "") -> Event:
    """Make a model that was champion before the champion again; returns the journal's event.

    `to` is `previous` (the model that the champion replaced) or a cycle id. `instead_of` is the champion's cycle as the person saw it: where another
    leads by now, PromotionConflict. A cycle that leads already returns the event that made it lead. Needs no lease: a person must be able to roll
    back while a long cycle runs; that cycle's promotion then meets PromotionConflict.
    Raises WorkspaceError when there is nothing to go back to, ModelFileError when that model's files have changed.
    """
    _need_words(who, why)
    refuse_cut_short(Path(root))
    journal = Journal(root)
    target = _target(journal.events(), to)
    verify_promoted(Workspace(root).root, target)

    def decide(events: Sequence[Event]) -> tuple[str, dict[str, Any]] | None:
        now, meant = champion(events), _target(events, to)
        if now == target == meant:
            return None
        if meant != target or (now and instead_of not in ("", now.cycle)):
            raise PromotionConflict(
                f"The champion changed meanwhile: now it is {now.cycle if now else 'none'}. Nothing was rolled back.",
                why=f"somebody promoted or rolled back{f' since {instead_of} was seen to lead' if instead_of else ''}",
                next_step="Look at what was decided (`vigil models`), then try again.",
            )
        return "rollback", {"cycle": target.cycle, "model_sha256": target.model_sha256, "path": target.path, "who": who, "why": why}

    return journal.append_if(decide) or [event for event in journal.events() if event.kind in ("promotion", "rollback")][-1]


def _target(events: Sequence[Event], to: str) -> Champion:
    found = previous(events) if to == "previous" else promoted(events).get(to)
    if found is None:
        now = champion(events)
        others = [cycle for cycle in promoted(events) if now and cycle != now.cycle]
        why = "there is no model before the champion" if to == "previous" else f"{to!r} was never promoted"
        alone = "The first promotion after this one can be rolled back." if now else "Run `vigil retrain`."
        step = f"Name a promoted cycle: {', '.join(others)}." if others else alone
        raise WorkspaceError("Nothing was rolled back.", why=why, next_step=step)
    return found


def _check_verdict(verdict: Mapping[str, Any], cycle: str, expected_champion_sha256: str) -> None:
    """Refuse anything but a whole verdict that says pass, gate by gate, about this cycle and these two models."""
    mistakes = []
    said = verdict.get("verdict")
    if not (isinstance(said, str) and said == PASS):
        mistakes.append(f"the verdict is {said!r}; only 'pass' counts")
    results = verdict.get("results")
    rows = results if isinstance(results, list) else []
    if not rows:
        mistakes.append("it lists no gate")
    mistakes += [f"gate {row.get('gate')} says {row.get('verdict')!r}" for row in rows if row.get("verdict") != PASS]
    if not CYCLE_ID.fullmatch(str(cycle)) or verdict.get("cycle") != cycle:
        mistakes.append(f"it is about cycle {verdict.get('cycle')!r}, not {cycle!r}")
    if len(str(verdict.get("challenger_sha256") or "")) != 64:
        mistakes.append("it does not say which model was judged")
    if len(str(verdict.get("card_sha256") or "")) != 64:
        mistakes.append("it does not say which card was judged, and with it which threshold")
    if verdict.get("base_sha256") != expected_champion_sha256:
        mistakes.append(f"it judged against {verdict.get('base_sha256')!r}, not {expected_champion_sha256!r}")
    if mistakes:
        raise WorkspaceError(
            f"This verdict does not allow a promotion. {NOTHING}", why="; ".join(mistakes), next_step="Run `vigil retrain`, or read reports/report.html."
        )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _need_words(who: str, why: str) -> None:
    if not who.strip() or not why.strip():
        raise WorkspaceError("A decision needs a name and a reason. Nothing was changed.", why=f"who is {who!r}, why is {why!r}", next_step="Give both.")


def _conflict(why: str) -> PromotionConflict:
    return PromotionConflict(f"The challenger was not promoted. {NOTHING}", why=why, next_step="Run `vigil retrain`: it judges against the champion of now.")


@contextmanager
def _writer(root: Path, purpose: str) -> Iterator[None]:
    if holds_lease(root):
        yield
        return
    with lease(root, purpose):
        yield
