"""What a cycle is opened with: a champion that is as promoted, settings of the same ground, batches that passed the data checks, and this week's forgers."""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from flows.environment import say
from flows.plan import Plan, settings_fingerprint
from flows.policy import FULL, Start, how_much
from workspace.batches import set_batch_state
from workspace.cycle import Cycle, iso_week, next_cycle_id, write_cycle
from workspace.errors import FEW, ModelFileError, SettingsError
from workspace.files import atomic_file, parse_yaml, read_json, write_json
from workspace.journal import Event, Journal
from workspace.modelfiles import CARD, is_as_promoted, verify_promoted
from workspace.revisions import tagged_cycles
from workspace.settings import Settings
from workspace.state import CHAMPION_CHANGED, IMPORTED, Champion, anchor, champion, cycles, decided, promoted

CROPS = ("size_px", "detector", "margin", "fps", "clip_frames", "mode")  # what a model sees of a face, and its threshold was set on


def refuse_changed_champion(root: Path, journal: Journal, base_cycle: str) -> None:
    """Raise ModelFileError where the champion here is not what was promoted: by its card a cycle is opened, and at its threshold the next model judged.

    Where it is not here, as in a clone, it is fetched first; DataError where the remote cannot be read.
    """
    if known := promoted(journal.events()).get(base_cycle):
        _fetch_model(root, known)
        verify_promoted(root, known)


def _fetch_model(root: Path, model: Champion) -> None:
    """Have the folder of a model here. Raises ModelFileError where neither this clone nor its remote has it."""
    from workspace.remote import pull

    if (root / model.path).exists():
        return
    pull(root, [f"{model.path}.dvc"])
    if not (root / model.path / CARD).exists():
        shutil.rmtree(root / model.path, ignore_errors=True)  # part of one
        raise ModelFileError(
            f"The model {model.path} is not here, and could not be fetched. Nothing was judged against it.",
            why="neither DVC's cache nor its remote has the whole of it",
            next_step="Run `vigil doctor --push` in the workspace that has it, or name its remote in remote.url. Or go back: `vigil models rollback`.",
        )


def hold_where_the_champion_changed(journal: Journal, opened: Cycle) -> None:
    """Hold a cycle that goes on where another champion leads by now than the one that it was opened to beat: it could train to its end and promote nothing."""
    events = journal.events()
    leading = champion(events)
    now, before = leading.model_sha256 if leading else "", opened.base_model
    if now == before or decided(events, opened.cycle):
        return
    told = [f"{sha256[:12]} ({cycle})" if sha256 else "no champion" for sha256, cycle in ((before, opened.base_cycle), (now, leading.cycle if leading else ""))]
    reason = f"{CHAMPION_CHANGED}: it was opened to beat {told[0]}, and {told[1]} leads now; nothing more was trained. "
    journal.append("cycle_held", cycle=opened.cycle, reason=f"{reason}`vigil retrain --force` judges what came in against that one.", defer=True, put_off=True)


def refuse_missing_parameters(root: Path) -> None:
    """Raise SettingsError where params.yaml lacks what a stage depends on. A setting may have a default, but DVC reads the file, stage by stage."""
    pipeline, params = (parse_yaml(path.read_bytes()) if path.exists() else None for path in (root / "dvc.yaml", root / "params.yaml"))
    if not (pipeline and params):
        return
    needed = {str(name) for stage in pipeline["stages"].values() for name in stage.get("do", stage).get("params", [])}
    if missing := sorted(name for name in needed if not _has(params, name)):
        raise SettingsError(
            "Nothing was taken in, and no stage begun: params.yaml is not whole.",
            why=f"it lacks {', '.join(missing)}, and a stage is done anew where one of these changes",
            next_step="Run `vigil upgrade`: it adds what is missing.",
        )


def _has(values: Any, name: str) -> bool:
    """Whether nested settings have a name like gates.alpha."""
    for key in name.split("."):
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def refuse_other_ground(root: Path, settings: Settings, base_cycle: str, opened: Cycle | None = None) -> None:
    """Raise SettingsError where the settings cut faces, or split people, another way than the champion's did: nobody could compare the two.

    Who trained an imported model nobody here knows: the split is the workspace's. `opened`: the cycle that would go on, where it is not a new one.
    """
    path = root / "models" / base_cycle / "card.json"
    if not base_cycle or not path.exists():
        return
    card = read_json(path)
    _refuse_other_crops(card.get("faces", {}), settings.faces.model_dump(mode="json"), opened)
    if base_cycle != IMPORTED:
        _refuse_another_split(card.get("settings", {}).get("split", {}), settings.split.model_dump(mode="json"), opened)


def _refuse_other_crops(its: dict[str, Any], ours: dict[str, Any], opened: Cycle | None) -> None:
    """What a model sees of a face has to stay: on other crops its answers say nothing."""
    other = [f"faces.{name} is {ours[name]}, the champion's {its[name]}" for name in differing(its, ours, CROPS)]
    if other:
        raise SettingsError(
            f"{_stops(opened)}: faces would be cut another way than the champion looks at them.", why="; ".join(other),
            next_step=f"Set them as the champion's, or begin a workspace of its own for the other crops (`vigil init`) and ingest there.{_ends(opened)}",
        )  # fmt: skip


def _refuse_another_split(its: dict[str, Any], ours: dict[str, Any], opened: Cycle | None) -> None:
    """People have to stay on their sides: the next model would be judged on those whom the champion learned by heart."""
    if other := differing(its, ours, ours):
        was = ", ".join(f"{name}: {its[name]}" for name in other)
        own = "Set it back, or begin a workspace of its own for another split (`vigil init`) and ingest there. More people make a larger holdout."
        raise SettingsError(
            f"{_stops(opened)}: people would be split another way than when the champion was trained, and some whom it trained on would judge it.",
            why=f"the champion's split has {was}; params.yaml has {', '.join(f'{name}: {ours[name]}' for name in other)}",
            next_step=f"{own}{_ends(opened)}",
        )


def _stops(opened: Cycle | None) -> str:
    return f"{opened.cycle} does not go on" if opened else "No cycle was opened"


def _ends(opened: Cycle | None) -> str:
    return f" To end {opened.cycle}: `vigil batches hold` or `drop` ({', '.join(opened.judged)})." if opened and opened.judged else ""


def differing(its: dict[str, Any], ours: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Which of these keys a card has with another value. What an older card does not say differs in nothing."""
    return [name for name in names if name in its and its[name] != ours[name]]


def write_batches(root: Path, plan: Plan) -> None:
    """List the batches whose faces and checks DVC keeps up to date. What was begun of others goes."""
    import yaml

    from pipelines.faces import UNFINISHED

    batches = sorted({*plan.judged, *plan.accepted})
    with atomic_file(root / "batches.yaml") as handle:
        yaml.safe_dump({"batches": batches}, handle)
    for begun in (root / UNFINISHED).glob("*"):
        if begun.name not in batches:
            shutil.rmtree(begun, ignore_errors=True)


def _refused(root: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """Batches under judgement that the data checks did not let in, and what these found."""
    found = {batch: read_json(root / "reports" / "validate" / f"{batch}.json") for batch in plan.judged}
    return {batch: result for batch, result in found.items() if result.get("success") is not True}


def _not_met(check: dict[str, Any]) -> str:
    """A data check that failed, in words, with the setting that its limit comes from and the commonest reasons of the files that did not meet it."""
    reasons = "".join(f"; {count} x {reason}" for reason, count in Counter(check.get("reasons", {})).most_common(FEW))
    setting = f", see validate.{check['setting']}" if "setting" in check else ""
    return f"{check['name']} (observed {check.get('observed')}, limit {check.get('limit')}{setting}{reasons})"


def open_new_cycle(root: Path, journal: Journal, settings: Settings, plan: Plan, start: Start) -> Cycle:
    """Hold what the data checks refuse, then write cycle.yaml and the journal's `cycle_opened`."""
    refused = _refused(root, plan)
    for batch, result in refused.items():
        failed = "; ".join(_not_met(row) for row in result.get("expectations", []) if not row.get("success"))
        # Also where a person has accepted it: it could never pass gate `data`, and would hold every week that it is part of.
        set_batch_state(root, batch, "held", who="vigil", why=f"data checks: {failed or 'no result'}")
        say(f"held {batch}: {failed}")
    now = datetime.now(UTC)
    week = start.week or iso_week(now, settings.schedule.timezone)
    work = how_much(journal.events(), settings, plan, week)
    why = (start.why, *plan.reasons, f"{work.kind}: {work.why}")
    judged = tuple(batch for batch in plan.judged if batch not in refused)
    if not plan.regardless and not any(_teaches(root, batch) for batch in judged if batch not in plan.deferred):
        judged = tuple(batch for batch in judged if batch not in plan.deferred)  # there is nothing beside which to judge them again
    cycle = Cycle(
        cycle=next_cycle_id(journal.events(), week, tagged_cycles(root)),
        batches=tuple(sorted({*judged, *plan.accepted})),
        judged=judged,
        vouched=tuple(batch for batch in plan.vouched if batch in judged),
        refused=tuple(refused),
        unlabelled=nothing_to_learn(root, judged, plan),
        work=work.kind,
        steps=work.steps,
        why=why,
        base_model=plan.base_model,
        base_cycle=plan.base_cycle,
        known_generators=tuple(known_generators(root, plan.base_cycle)),
        **_taken_over(journal.events(), settings, now),
    )
    write_cycle(root, cycle)
    journal.append(
        "cycle_opened",
        **cycle.as_dict(),  # whole: a lost cycle.yaml is written again from it
        fingerprint=plan.fingerprint,
        scheduled=bool(start.week),
        week=week,
        started_by=start.by,
    )
    return cycle


def _taken_over(events: Sequence[Event], settings: Settings, now: datetime) -> dict[str, Any]:
    """What a cycle takes from the settings when it opens, and keeps, whatever is changed while it is paused."""
    older = anchor(events, settings.evaluate.anchor_promotions)
    return {
        "seed": settings.seed,
        "anchor_model": older.model_sha256 if older else "",
        "anchor_cycle": older.cycle if older else "",
        "drawn_forgers": drawn_forgers(settings, len(cycles(events)), now.date()),
        "waiting_forgers": waiting_forgers(settings, now.date()),
    }


def made_with(events: Sequence[Event], settings: Settings, cycle: Cycle) -> str:
    """The fingerprint of the settings that an open cycle's model is made with, should it end with these; '' where part of it is made with others.

    What was changed while it was paused its stages meet, but what it was opened with stays, and a fine-tune is no training with other settings.
    """
    opening = next(number for number, event in enumerate(events) if event.kind == "cycle_opened" and event["cycle"] == cycle.cycle)
    opened, fingerprint = events[opening], settings_fingerprint(settings)
    if fingerprint == opened["fingerprint"]:
        return fingerprint
    would_take = _taken_over(events[:opening], settings, datetime.fromisoformat(opened.time))
    return fingerprint if cycle.work == FULL and all(getattr(cycle, name) == value for name, value in would_take.items()) else ""


def nothing_to_learn(root: Path, judged: Sequence[str], plan: Plan) -> tuple[str, ...]:
    """The judged batches where not one of their media has a label and nothing else asks for a training; else none."""
    teaching = [*judged, *(plan.accepted if plan.regardless else ())]
    return () if any(_teaches(root, batch) for batch in teaching) else tuple(judged)


def _teaches(root: Path, batch: str) -> bool:
    path = root / "data" / "faces" / batch / "report.json"
    if not path.exists():  # not on this machine: the stages will say what is missing
        return True
    samples = read_json(path)["samples"]
    return any(one["label"] and one["clips"] and not one["quarantine"] and one["use"] != "never" for one in samples)


def known_generators(root: Path, base_cycle: str) -> list[str]:
    """Generators that the base model has met, as its card says."""
    card = root / "models" / base_cycle / "card.json"
    return sorted(read_json(card).get("generators_seen", [])) if base_cycle and card.exists() else []


def drawn_forgers(settings: Settings, number: int, day: date) -> tuple[str, ...]:
    """The forgers of this cycle, in rotation: each cycle begins with the next one."""
    waiting = waiting_forgers(settings, day)
    names = tuple(name for name in settings.forge.forgers if name not in waiting)
    start = number % len(names) if names else 0
    return (*names[start:], *names[:start])


def waiting_forgers(settings: Settings, day: date) -> tuple[str, ...]:
    """The forgers from outside that have not arrived by `day`; none where there is no other."""
    waiting = {plugin.name for plugin in settings.forge.plugins if plugin.arrived and plugin.arrived > day} & set(settings.forge.forgers)
    return () if waiting == set(settings.forge.forgers) else tuple(sorted(waiting))


def place_models(root: Path, journal: Journal, cycle: Cycle) -> None:
    """Lay the champion (or the word that there is none) and the anchor where the stages look for them. Same models, same bytes.

    Raises ModelFileError where one of them is not what was promoted, card and threshold too; nothing is laid then.
    """
    from workspace.repository import replace_folder

    base, made = root / "build" / "base", promoted(journal.events())
    marker, wanted = base / "base.json", {"model_sha256": cycle.base_model, "anchor_sha256": cycle.anchor_model}
    models = [(made[name], folder) for name, folder in ((cycle.base_cycle, base), (cycle.anchor_cycle, base / "anchor")) if name]
    if marker.exists() and read_json(marker) == wanted and all(is_as_promoted(folder, model) for model, folder in models):
        return
    for model, _ in models:
        _fetch_model(root, model)
        verify_promoted(root, model)
    shutil.rmtree(base, ignore_errors=True)
    for model, folder in models:
        replace_folder(root / model.path, folder)
    write_json(marker, wanted)
