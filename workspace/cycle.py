"""One cycle of the loop: its id, the file that DVC sees of it, and the rule that says when a scheduled one is due.

`cycle.yaml` is written when a cycle opens and only then, so that a promotion alone never makes work for DVC. The id is the
ISO week and a running number, `2026-W47.2`. Whether a scheduled cycle is due is a pure function of journal, schedule and time.
"""

import re
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from workspace.errors import WorkspaceError
from workspace.files import atomic_file, sync_folder
from workspace.journal import Event
from workspace.settings import ScheduleSettings

CYCLE_ID = re.compile(r"(?P<week>(?P<year>\d{4})-W(?P<number>\d{2}))\.(?P<running>[1-9]\d*)")
AHEAD = timedelta(weeks=2)  # a clock that is set back by days is no clock that was years ahead
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NAMES = ("batches", "judged", "vouched", "refused", "unlabelled", "known_generators", "drawn_forgers", "waiting_forgers", "why")
UPGRADE = "Run `vigil upgrade`: it adds what came since. Then go on with the same command."
FIRST_KEYS = {"cycle", "seed", "batches", "judged", "base_model", "base_cycle", "known_generators", "drawn_forgers"}  # of format 1
HEADER = "# What this cycle works on. Written when the cycle opens; do not edit.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What a cycle works on. `base_model` is the sha256 of build/base/model.safetensors, '' when there is no base."""

    cycle: str
    seed: int
    batches: tuple[str, ...]  # accepted and judged, sorted
    judged: tuple[str, ...]  # under judgement in this cycle, sorted
    vouched: tuple[str, ...] = ()  # of the judged: a person accepted them, and is not asked again whether they look right
    refused: tuple[str, ...] = ()  # held by the data checks before the cycle opened, sorted
    unlabelled: tuple[str, ...] = ()  # all that is judged, where none of it has a label: it is measured, and nothing is trained
    work: str = "full"  # or fine-tune
    steps: float = 1.0  # part of the settings' steps that both phases take
    why: tuple[str, ...] = ()  # what started it, what is new, and why it does so much
    base_model: str = ""
    base_cycle: str = ""
    anchor_model: str = ""  # an earlier champion, at build/base/anchor: what is lost little by little is lost against it
    anchor_cycle: str = ""
    known_generators: tuple[str, ...] = ()  # the base has met them
    drawn_forgers: tuple[str, ...] = ()  # this cycle's share of newly forged clips, in rotation
    waiting_forgers: tuple[str, ...] = ()  # they arrive later: nothing of theirs is drawn

    def __post_init__(self) -> None:
        for name in ("batches", "judged", "vouched", "refused", "unlabelled", "known_generators", "waiting_forgers"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        object.__setattr__(self, "drawn_forgers", tuple(dict.fromkeys(self.drawn_forgers)))  # their order is the rotation
        object.__setattr__(self, "why", tuple(self.why))
        mistakes = list(_mistakes(self))
        if mistakes:
            raise WorkspaceError("This cycle cannot be.", why="; ".join(mistakes), next_step="Open a new cycle with `vigil retrain`.")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as cycle.yaml and the journal hold them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @property
    def week(self) -> str:
        """The ISO week of the id, e.g. `2026-W47`."""
        return self.cycle.rpartition(".")[0]

    @property
    def judges_all(self) -> bool:
        """Whether all of the holdout is judged, the new rows too: for a first model, and where no batch is known (the champion was imported, or what it
        had learned was dropped): else nothing could ever be judged again.
        """
        return not self.base_model or set(self.batches) == set(self.judged)

    @property
    def trains(self) -> bool:
        """Whether there is something to learn from: not when the data checks refused all that was new, or nothing of it has a label."""
        return not self.unlabelled and (bool(self.judged) or not self.refused)


def _mistakes(cycle: Cycle) -> Iterable[str]:
    if not isinstance(cycle.cycle, str) or not CYCLE_ID.fullmatch(cycle.cycle):
        yield f"cycle {cycle.cycle!r} is not of the form 2026-W47.1"
    if isinstance(cycle.seed, bool) or not isinstance(cycle.seed, int) or cycle.seed < 0:
        yield f"seed {cycle.seed!r} is not a whole number from 0"
    number = isinstance(cycle.steps, int | float) and not isinstance(cycle.steps, bool)
    if not number or not 0 < cycle.steps <= 1 or cycle.work not in ("full", "fine-tune") or (cycle.work == "full" and cycle.steps != 1):
        yield f"work {cycle.work!r} with {cycle.steps!r} of the steps is neither a full cycle nor a fine-tune"
    if extra := set(cycle.judged) - set(cycle.batches):
        yield f"judged batches {sorted(extra)} are not among its batches"
    if strange := set(cycle.unlabelled) - set(cycle.judged):
        yield f"unlabelled batches {sorted(strange)} are not under judgement"
    if strange := set(cycle.vouched) - set(cycle.judged):
        yield f"vouched batches {sorted(strange)} are not under judgement"
    if both := set(cycle.refused) & set(cycle.batches):
        yield f"refused batches {sorted(both)} are among its batches"
    for name in ("base_model", "anchor_model"):
        if not re.fullmatch(r"([0-9a-f]{64})?", str(getattr(cycle, name))):
            yield f"{name} {getattr(cycle, name)!r} is not a sha256"
    if cycle.anchor_model and not cycle.base_model:
        yield "it has an anchor and no base"


def write_cycle(root: Path, cycle: Cycle) -> Path:
    """Write `cycle.yaml` whole or not at all; the same cycle gives the same bytes."""
    import yaml

    with atomic_file(Path(root) / "cycle.yaml") as handle:
        handle.write(HEADER + yaml.safe_dump(cycle.as_dict(), sort_keys=False, allow_unicode=True))
    sync_folder(Path(root))  # the journal, written next, must not outlive it in a power cut
    return Path(root) / "cycle.yaml"


def restore_cycle(root: Path, events: Iterable[Event], name: str) -> Cycle:
    """The cycle `name` as cycle.yaml has it; the file is written anew from the journal where it is missing or another cycle's. Errors as of `told_cycle`."""
    cycle, lies_there = told_cycle(root, events, name)
    if not lies_there:
        write_cycle(root, cycle)
    return cycle


def told_cycle(root: Path, events: Iterable[Event], name: str) -> tuple[Cycle, bool]:
    """The cycle `name`, and whether cycle.yaml tells it; where that is missing or another cycle's, as the journal has it.

    Raises WorkspaceError where the file is that of an older Vigil, and where the journal is and does not tell it whole.
    """
    try:
        if (found := read_cycle(root)).cycle == name:
            return found, True
        why = f"it is about {found.cycle}"
    except WorkspaceError as problem:
        if problem.next_step == UPGRADE and _begins(root, name):
            raise
        why = problem.why
    opened = next(event for event in events if event.kind == "cycle_opened" and event["cycle"] == name)
    if missing := [one.name for one in fields(Cycle) if one.name not in opened.fields]:
        raise WorkspaceError(
            f"Cannot go on with {name}: cycle.yaml is not its own. Nothing was changed.", why=f"{why}; the journal lacks {', '.join(missing)}",
            next_step=f"Put the cycle.yaml of {name} back, such as from a backup of the workspace.",
        )  # fmt: skip
    told: dict[str, Any] = {one.name: tuple(value) if isinstance(value := opened[one.name], list) else value for one in fields(Cycle)}
    return Cycle(**told), False


def _begins(root: Path, name: str) -> bool:
    """Whether the cycle.yaml of an older Vigil is this cycle's."""
    import yaml

    return bool(yaml.safe_load((Path(root) / "cycle.yaml").read_text(encoding="utf-8"))["cycle"] == name)


def read_cycle(root: Path) -> Cycle:
    """The cycle in `cycle.yaml`. Raises WorkspaceError when it is missing, not YAML, or has missing, unknown or impossible values."""
    import yaml

    path = Path(root) / "cycle.yaml"
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise TypeError("it is not a mapping")
        wrong = [f"{key} is unknown" for key in raw if key not in {field.name for field in fields(Cycle)}]
        wrong += [f"{field.name} is missing" for field in fields(Cycle) if field.name not in raw]
        wrong += [f"{key} is not a list of names" for key in NAMES if not _is_names(raw.get(key))]
        if wrong:
            raise ValueError("; ".join(wrong))
        return Cycle(**raw)
    except (OSError, TypeError, ValueError, RecursionError, yaml.YAMLError) as problem:
        older = path.is_file() and complete_cycle(path.read_bytes()) is not None
        next_step = UPGRADE if older else "Run `vigil retrain`: it opens a cycle and writes this file."
        why = f"an older Vigil wrote it: {problem}" if older else str(problem)
        raise WorkspaceError(f"Cannot read {path}.", why=why, next_step=next_step) from problem


def complete_cycle(content: bytes) -> tuple[str, list[str]] | None:
    """A cycle.yaml of an older Vigil with the keys that came since, at their defaults, and their names; None where none is missing.

    None too of half a file, which is no YAML or lacks what each Vigil wrote: `restore_cycle` then has the journal.
    """
    import yaml

    try:
        raw = yaml.safe_load(content)
    except (ValueError, RecursionError, yaml.YAMLError):
        return None
    if not isinstance(raw, dict) or not raw.keys() >= FIRST_KEYS:
        return None
    missing = [one for one in fields(Cycle) if one.name not in raw and one.default is not MISSING]
    added = {one.name: list(one.default) if isinstance(one.default, tuple) else one.default for one in missing}
    return (HEADER + yaml.safe_dump(raw | added, sort_keys=False, allow_unicode=True), list(added)) if added else None


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def iso_week(moment: datetime, tz: str | tzinfo = UTC) -> str:
    """The ISO week of a moment as seen in `tz`, e.g. `2026-W47`. A naive moment is refused (ValueError): it could be any week."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone belongs to no week")
    year, week, _ = moment.astimezone(_zone(tz)).isocalendar()
    return f"{year:04d}-W{week:02d}"


def cycle_id(week: str, number: int) -> str:
    """The id of the `number`-th cycle (from 1) of an ISO week. Raises ValueError for anything else."""
    made = f"{week}.{number}"
    if not CYCLE_ID.fullmatch(made):
        raise ValueError(f"{made!r} is not a cycle id like 2026-W47.1")
    return made


def next_cycle_id(events: Iterable[Event], week: str, tagged: Iterable[str] = ()) -> str:
    """The first free id of a week: one above every cycle of that week in the journal, and above those `tagged`: a clone of an old tag has later ones, too."""
    taken = [0]
    for name in (*(str(event.get("cycle", "")) for event in events if event.kind == "cycle_opened"), *tagged):
        match = CYCLE_ID.fullmatch(name)
        if match and match["week"] == week:
            taken.append(int(match["running"]))
    return cycle_id(week, max(taken) + 1)


def due_week(events: Iterable[Event], schedule: ScheduleSettings, now: datetime) -> str | None:
    """The ISO week whose scheduled cycle should be opened now, or None.

    The week is that of the latest planned time not after `now` (weekday, hour and minute in the schedule's zone), so a
    machine that was off catches up once, with the latest missed week only. A scheduled cycle opened for that week *or
    a later one* means that nothing is due: an hour repeated in autumn, a clock set back or a dead clock battery start no second run.
    An hour skipped in spring is taken at the first moment after the gap. Cycles started by hand do not count;
    a week journalled as skipped (nothing was new) does. One that a clock far ahead had journalled blocks all until then, unless a
    person has said that the clock was mended (`vigil doctor --clock-is-right`).
    """
    week = iso_week(_latest_slot(schedule, now), schedule.timezone)
    return None if any(done >= week for done in _weeks_used(events)) else week  # text order is time order: 2026-W53 < 2027-W01


def week_ahead(events: Iterable[Event], schedule: ScheduleSettings, now: datetime) -> str:
    """The latest week that is used up though it is far from now, '' where there is none: the clock was, or is, wrong."""
    return max((week for week in _weeks_used(events) if week > iso_week(now + AHEAD, schedule.timezone)), default="")


def _weeks_used(events: Iterable[Event]) -> list[str]:
    used: list[str] = []
    for event in events:
        if event.kind == "clock_mended":
            used = [week for week in used if week <= event["week"]]
        elif event.kind == "week_skipped" or (event.kind == "cycle_opened" and event.get("scheduled")):
            used.append(str(event.get("week", "")))
    return used


def _latest_slot(schedule: ScheduleSettings, now: datetime) -> datetime:
    """The latest planned moment not after `now`, compared in UTC so that no shift of the clock reorders moments."""
    if now.tzinfo is None:
        raise ValueError("`now` needs a time zone")
    zone = _zone(schedule.timezone)
    today = now.astimezone(zone).date()
    day = today - timedelta(days=today.weekday()) + timedelta(days=WEEKDAYS.index(schedule.weekday))  # in the ISO week of `now`
    while True:
        local = datetime(day.year, day.month, day.day, schedule.hour, schedule.minute, tzinfo=zone)  # fold=0: the first of two
        if local.astimezone(UTC) <= now.astimezone(UTC):
            return local
        day -= timedelta(days=7)


def _zone(tz: str | tzinfo) -> tzinfo:
    return ZoneInfo(tz) if isinstance(tz, str) else tz
