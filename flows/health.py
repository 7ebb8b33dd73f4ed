"""The doctor: what is wrong with a workspace, a function a check, in the order of `CHECKS`."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.leftovers import left_behind
from workspace import registry
from workspace.cycle import iso_week, week_ahead
from workspace.errors import SettingsError, VigilError, first_few
from workspace.journal import Event, Journal
from workspace.lease import cycle_runs
from workspace.objects import cache_of, damaged_files, damaged_lists
from workspace.remote import Verified
from workspace.repository import MOUNT, absent, is_versioned, linked
from workspace.revisions import NEVER_COMMITTED, PUT_BACK, cut_short, git_problem
from workspace.settings import Settings
from workspace.state import Champion, CycleState, champion, cycles, open_cycle, promoted
from workspace.unsent import unsent

Row = dict[str, Any]
PULL = "run `vigil doctor --pull`: it fetches what is not on this machine, as in a fresh clone"


@dataclass(frozen=True, slots=True)
class Patient:
    """A workspace whose journal is whole, and what several checks ask of it."""

    root: Path
    settings: Settings
    events: list[Event]
    running: CycleState | None  # the cycle that was begun and not finished
    without_git: tuple[str, str]  # why git cannot be used, and what to do; two empty texts where it can


def examine(root: Path, settings: Settings) -> list[Row]:
    """Every check of `vigil doctor` as {check, ok, found, next}; nothing is changed."""
    events, wrong = _read_journal(root)
    if wrong:  # everything else is read from it
        return [_row("journal", False, wrong, PUT_BACK)]
    patient = Patient(root, settings, events, open_cycle(events), _without_git(root))
    return [row for check in CHECKS for row in check(patient)]


def _row(check: str, ok: bool, found: str, next_step: str = "") -> Row:
    return {"check": check, "ok": ok, "found": found, "next": "" if ok else next_step}


def _read_journal(root: Path) -> tuple[list[Event], str]:
    """The events, and why they are not all that was journalled; '' where they are."""
    journal = Journal(root)
    try:
        journal.verify()
        events = journal.events()
    except Exception as problem:
        return [], str(problem) or repr(problem)
    return events, cut_short(root)


def _without_git(root: Path) -> tuple[str, str]:
    why, next_step = git_problem(root)
    return (why, next_step) if why or is_versioned(root) else ("its .git has no commit that can be read", NEVER_COMMITTED)


# -- the checks: each gives a row, or several, or none where there is nothing to say -----------------------------------------------
def _git(patient: Patient) -> Iterator[Row]:
    why, next_step = patient.without_git
    if why:
        yield _row("git", False, f"{why}; nothing can be versioned or restored", next_step)


def _journal(patient: Patient) -> Iterator[Row]:
    why, _ = patient.without_git
    yield _row("journal", True, f"{len(patient.events)} events, chain intact{'' if why else ', and all that was committed'}")


def _files(patient: Patient) -> Iterator[Row]:
    for name, (why, next_step) in damaged_files(patient.root).items():
        yield _row("files", False, f"{name} cannot be read: {why}", next_step)


def _data(patient: Patient) -> Iterator[Row]:
    """What is not on this machine of the batches, and of the models that led at some time: what others there were gc removes."""
    if names := linked(patient.root):
        yield _row("data", False, f"{', '.join(names)} is a link, behind which DVC keeps nothing", f"{MOUNT[0].lower()}{MOUNT[1:].rstrip('.')}")
    led = {model.path for model in promoted(patient.events).values()}
    if away := [name for name in absent(patient.root) if name in led or name.startswith("data/")]:
        yield _row("data", False, f"{len(away)} batches and models are not on this machine: {first_few(away)}", PULL)


def _cache(patient: Patient) -> Iterator[Row]:
    broken: dict[str, Path] = {}
    with suppress(VigilError):  # a .dvc/config that cannot be read has its row
        broken = damaged_lists(cache_of(patient.root))
    if broken:
        some = first_few([str(path) for path in broken.values()])
        lists, them = ("lists of folders", "are") if len(broken) > 1 else ("list of a folder", "is")
        found = f"{len(broken)} {lists} in DVC's cache {them} damaged: {some}"
        yield _row("cache", False, found, "run `vigil doctor --fix`: what is damaged goes, and is had anew")


def _cycle(patient: Patient) -> Iterator[Row]:
    running, holder = patient.running, cycle_runs(patient.root)
    if holder:
        found = f"{running.cycle if running else 'one that is not opened yet'} is run by {holder}"
    elif running:
        found = f"{running.cycle} was begun and not finished"
    else:
        found = f"{len(cycles(patient.events))} cycles, none open"
    yield _row("cycle", running is None or holder is not None, found, "run `vigil retrain`: it goes on")


def _schedule(patient: Patient) -> Iterator[Row]:
    now = datetime.now(UTC)
    ahead = week_ahead(patient.events, patient.settings.schedule, now)
    found = f"the cycle of {ahead} is used up, though it is {now:%Y-%m-%d} here: nothing is due until then" if ahead else "no week to come is used up"
    next_step = "set the clock if it is wrong; if it is right, run `vigil doctor --clock-is-right`: weeks count from now on again"
    yield _row("schedule", not ahead, found, next_step)


def _left_behind(patient: Patient) -> Iterator[Row]:
    left = left_behind(patient.root, patient.settings)
    yield _row("left behind", not left, "; ".join(left) or "nothing", "run `vigil doctor --fix`, or simply `vigil retrain`: both close it")


def _remote(patient: Patient) -> Iterator[Row]:
    """What the last push left; the remote itself is not asked."""
    if late := unsent(patient.root):
        yield _row("remote", False, str(late), "run `vigil doctor --push`; a `vigil retrain` tries again too")


def _service(patient: Patient) -> Iterator[Row]:
    """Whether the service's database and secret can be used: a cycle asks that database for corrections, too."""
    from feedback.database import damaged, exists, file_of, schema_behind
    from feedback.secret import find_secret

    root, settings = patient.root, patient.settings
    try:
        find_secret(root)
        there, file = exists(root, settings), file_of(root, settings)
        if there and file is not None and (wrong := registry.damage_of(file)):
            raise damaged(wrong)
        behind = schema_behind(root, settings) if there else None
    except VigilError as problem:
        yield _refused("service", problem)
        return
    if behind:
        yield _row("service", True, f"its database is of schema {behind[0]}; `vigil upgrade` makes it {behind[1]}")
    else:
        yield _row("service", True, "its database answers" if there else "no database yet")


def _erasures(patient: Patient) -> Iterator[Row]:
    """How many erasures wait, where there is a database that can be asked without changing it."""
    from feedback.database import exists, schema_behind
    from feedback.forgetting import erasures_waiting, what_waits

    root, settings, running = patient.root, patient.settings, patient.running
    with suppress(VigilError):  # the service's row says what is wrong with it
        if exists(root, settings) and not schema_behind(root, settings):
            yield _row("erasures", True, what_waits(erasures_waiting(root, settings), running.cycle if running else "") or "none waits")


def _restored(patient: Patient) -> Iterator[Row]:
    """Whether the database knows what this workspace has lost, or has again, as after a restore from a backup."""
    from feedback.database import exists, schema_behind
    from feedback.restored import look

    root, settings = patient.root, patient.settings
    with suppress(VigilError):
        if exists(root, settings) and not schema_behind(root, settings) and (said := str(found := look(root, settings, bucket=True))):
            yield _row(
                "restored", not (found.labels or found.erased or found.media), said, "run `vigil retrain`; what is to go goes at once with `vigil erase`"
            )


def _media(patient: Patient) -> Iterator[Row]:
    """The buckets in which media were kept before: what is erased or due goes from there too, and waits where one does not answer."""
    from feedback.keep import MediaStore
    from feedback.places import FORGET

    try:
        for url, holds in MediaStore(patient.root, patient.settings).former():
            forget = FORGET.format(url=url)
            if holds is None:
                found = "does not answer: what is to be erased or deleted waits for it"
            else:
                found = "holds some still: they are read there, and go from there" if holds else f"holds none any more; {forget} has it be asked no more"
            next_step = f"see what its store says; where it is given up, whatever it holds: {forget}"
            yield _row("media", holds is not None, f"{url}, where media were kept before, {found}", next_step)
    except VigilError as problem:
        yield _refused("media", problem)


def _models(patient: Patient) -> Iterator[Row]:
    """The registry, and the model that leads: of a registry that is damaged nothing more is asked."""
    if wrong := registry.damage(patient.root, patient.settings):
        yield _row("registry", False, wrong, registry.MEND_DATABASE)
    elif (leading := champion(patient.events)) is None:
        yield from _no_champion(patient)
    else:
        yield from _champion(patient, leading)


def _no_champion(patient: Patient) -> Iterator[Row]:
    root, settings = patient.root, patient.settings
    try:
        if registry.own_database(root, settings.registry) is None:  # a server, or a file of several; one of our own is made when it is needed
            registry.read_alias(root, settings)
            yield _row("registry", True, "it answers")
    except VigilError as problem:
        yield _refused("registry", problem)
    yield _row("champion", True, "none yet")


def _champion(patient: Patient, leading: Champion) -> Iterator[Row]:
    """Whether the registry names the model that the journal says leads, and that model can be loaded as it was promoted."""
    root, settings = patient.root, patient.settings
    away = PULL if not (root / leading.path).exists() else ""
    try:
        named = registry.read_alias(root, settings)
        same = named is not None and named.model_sha256 == leading.model_sha256
        says = f"{named.cycle} ({named.model_sha256[:12]})" if named else "nothing"
        if not same:
            registry.refuse_copy(root, settings)
        found = f"the registry's `champion` names {says}{'' if same else f', the journal {leading.cycle}'}"
        yield _row("alias", same, found, away or "run `vigil doctor --fix`")
        serving = registry.serving_model(root, settings)
        from model.card import load_card

        load_card(serving)
        yield _row("champion", True, f"{leading.cycle} ({leading.model_sha256[:12]}) verified in {serving.name}")
    except SettingsError as problem:  # its names are another's
        yield _refused("registry", problem)
    except Exception as problem:
        mended = "run `vigil doctor --fix`: aliases are rebuilt from the journal, a damaged model is pulled"
        yield _row("champion", False, str(problem), registry.OPEN_DATABASE if registry.is_closed(root, settings.registry) else away or mended)


def _refused(check: str, problem: VigilError) -> Row:
    return _row(check, False, f"{problem.what} {problem.why}".strip(), problem.next_step)


CHECKS: tuple[Callable[[Patient], Iterator[Row]], ...] = (
    _git,
    _journal,
    _files,
    _data,
    _cache,
    _cycle,
    _schedule,
    _left_behind,
    _remote,
    _service,
    _erasures,
    _restored,
    _media,
    _models,
)


# -- what else the doctor says -----------------------------------------------------------------------------------------------------
def count_weeks_from_now(root: Path, settings: Settings) -> list[str]:
    """Where a clock that was ahead used up weeks to come, journal that it was mended; returns what was done."""
    now = datetime.now(UTC)
    ahead = week_ahead(Journal(root).events(), settings.schedule, now)
    if not ahead:
        return []
    week = iso_week(now, settings.schedule.timezone)
    Journal(root).append("clock_mended", week=week, why=f"{ahead} was used up, and this is {week}")
    return [f"weeks count from {week} on again, {ahead} is not used up"]


def examine_remote(found: Verified) -> list[Row]:
    """The remote's part of the doctor's page: a row for every object that is not as it should be, else one that says so."""
    if found.whole:
        sentence = f"{found.objects} objects, {found.bytes / 1e6:.1f} MB, each read and as its checksum says"
        return [_row("remote", True, sentence)]
    again = "in a workspace that has it, run `vigil doctor --remote --push`"
    bad = [(oid, names, "missing") for oid, names in found.missing.items()] + [(oid, names, "damaged") for oid, names in found.damaged.items()]
    rows = [f"{', '.join(names)}: {how} on the remote (md5 {oid})" for oid, names, how in bad]
    if found.objects and len(found.missing) == found.objects:
        rows = [f"none of this workspace's {found.objects} objects is on the remote"]
        again = "`vigil doctor --push` in the workspace that has them; or mend remote.url, if it names another place"
    rows += [f"{output}: nobody can tell what belongs to it, its list of files is neither on the remote nor here" for output in found.unlisted]
    return [_row("remote", False, sentence, again) for sentence in rows]
