"""`vigil upgrade`: what an older workspace lacks, and how it gets it without losing a word of its owner's.

The user's values stay. Keys that params.yaml lacks take the value that a new workspace of the same profile has; stage numbers and
dvc.yaml are the program's own; cycle.yaml gets the keys that came since. The state before is committed and tagged, the feedback
database copied, each under a name of its own, and the format is written last: a killed upgrade is simply run again.
"""

import copy
import io
import sqlite3
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from workspace.choices import PROFILES
from workspace.cycle import complete_cycle
from workspace.errors import SettingsError, WorkspaceError
from workspace.files import atomic_file, private_folder
from workspace.format import FORMAT, LINE, format_of, refuse_other_format
from workspace.journal import Event, Journal
from workspace.layout import Workspace
from workspace.profiles import compose_params, project_root
from workspace.settings import Settings, parse_settings

BACKUP = Path(".vigil/backup")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What would change, a sentence each, by file; and the texts that would be written. Nothing to do where `changes` is empty."""

    before: int
    after: int
    settings: Settings
    changes: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    tag: str = ""  # of the state before, where the format changes
    database: Path | None = None  # the file of a feedback database that changes, which is copied first; a PostgreSQL has none
    copy: Path | None = None  # where to, from the workspace on

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values, for --json."""
        return {"before": self.before, "after": self.after, "changes": self.changes}


def plan_upgrade(root: Path) -> Upgrade:
    """What this program would change in the workspace at `root`. Reads only.

    Raises WorkspaceError where the workspace is newer than the program, SettingsError where the user's values and the new ones exclude each other.
    """
    space = Workspace(root)
    before = format_of(space.params)
    if before > FORMAT:
        refuse_other_format(space.params)
    try:
        text = space.params.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise SettingsError("Cannot upgrade params.yaml. Nothing was changed.", why=f"not UTF-8: {problem}", next_step="Save the file as UTF-8.") from problem
    params, settings, said = upgraded_params(text)
    changes: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    pipeline = (project_root() / "dvc.yaml").read_text(encoding="utf-8")
    if not space.pipeline.exists() or space.pipeline.read_text(encoding="utf-8", errors="replace") != pipeline:
        changes["dvc.yaml"], texts["dvc.yaml"] = ["the stages of this Vigil"], pipeline
    if space.cycle.exists() and (found := complete_cycle(space.cycle.read_bytes())):
        changes["cycle.yaml"], texts["cycle.yaml"] = [f"{name} is new" for name in found[1]], found[0]
    if said:
        changes["params.yaml"], texts["params.yaml"] = said, params  # last: it holds the format
    return Upgrade(before, FORMAT, settings, changes, texts, _tag(root) if before < FORMAT else "")


def with_database(root: Path, plan: Upgrade, changes: list[str], file: Path | None) -> Upgrade:
    """The plan and what changes in the feedback database, which is `file` where it is one: its copy gets a name that no earlier one has."""
    names = (BACKUP / f"format-{plan.before}" / f"{name}.db" for name in _numbered("feedback"))
    copied = next(name for name in names if not (root / name).exists()) if file else None
    return replace(plan, changes={**plan.changes, "feedback.db": changes}, database=file, copy=copied)


def _tag(root: Path) -> str:
    """The tag of the state before: a new one, or that of an upgrade which was killed, since when nothing was committed."""
    from workspace.revisions import git

    head = git(root, "rev-parse", "HEAD", check=False)
    names = _numbered(f"vigil/before-format-{FORMAT}")
    return next(name for name in names if git(root, "rev-parse", "-q", "--verify", f"refs/tags/{name}^{{commit}}", check=False) in ("", head))


def _numbered(name: str) -> Iterator[str]:
    """`name`, `name`-2, `name`-3, ..."""
    yield name
    for number in count(2):
        yield f"{name}-{number}"


def upgraded_params(text: str) -> tuple[str, Settings, list[str]]:
    """A params.yaml with every key of this program: (its text, the settings, what changed). The user's values, order and comments stay."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 160
    try:
        mine = yaml.load(text)
        profile = mine["profile"] if isinstance(mine, MutableMapping) else None
    except (YAMLError, KeyError, ValueError, RecursionError) as problem:  # as load_settings refuses them
        raise SettingsError("Cannot upgrade params.yaml. Nothing was changed.", why=f"not settings: {problem}", next_step="Mend the file.") from problem
    if profile not in PROFILES:
        raise SettingsError(
            "Cannot upgrade params.yaml. Nothing was changed.", why=f"profile is {profile!r}, not one of {', '.join(PROFILES)}", next_step="Mend that line."
        )
    if type(mine.get("format", 1)) is not int:
        raise SettingsError(
            "Cannot upgrade params.yaml. Nothing was changed.",
            why=f"format is {mine['format']!r}, not a whole number, so that nobody can tell what the workspace is",
            next_step=f"Write `format: N` as it was (this Vigil's is {FORMAT}); git has the file as it was committed.",
        )
    theirs = yaml.load(compose_params(profile))
    said = _raise_numbers(mine, theirs) + _add_missing(mine, theirs)
    written = text
    if said:
        out = io.StringIO()
        yaml.dump(mine, out)
        written = out.getvalue()
    return written, parse_settings(YAML(typ="safe", pure=True).load(written), where="params.yaml with the new keys"), said


def _raise_numbers(mine: MutableMapping[str, Any], theirs: MutableMapping[str, Any]) -> list[str]:
    """The format and the stage numbers say what the program is: they are never the user's."""
    said = []
    if mine.get("format", 1) != FORMAT and "format" in mine:
        said.append(f"format {mine['format']} -> {FORMAT}")
        mine["format"] = FORMAT
    for stage, number in theirs["stage_versions"].items():
        if stage in mine.get("stage_versions", {}) and mine["stage_versions"][stage] != number:
            said.append(f"stage_versions.{stage} {mine['stage_versions'][stage]} -> {number}")
            mine["stage_versions"][stage] = number
    return said


def _add_missing(mine: Any, theirs: Any, at: str = "") -> list[str]:
    """Put every key that `mine` lacks behind the one that precedes it in `theirs`."""
    said = []
    place = 0
    for key, value in theirs.items():
        if key not in mine:
            mine.insert(place, key, copy.deepcopy(value))
            said.append(f"{at}{key}: {_shown(value)}")
        elif isinstance(value, MutableMapping) and isinstance(mine[key], MutableMapping):
            said += _add_missing(mine[key], value, f"{at}{key}.")
        place = list(mine).index(key) + 1
    return said


def _shown(value: Any) -> str:
    text = str(dict(value) if isinstance(value, MutableMapping) else list(value) if isinstance(value, list) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def apply_upgrade(root: Path, plan: Upgrade, migrate: Callable[[], None]) -> None:
    """Carry out `plan`; `migrate` brings the feedback database up to date. The lease must be held. Safe to repeat after a kill at any point."""
    from workspace.repository import commit, has_tag

    if plan.tag and not has_tag(root, plan.tag):
        commit(root, f"Before the upgrade to format {plan.after}", plan.tag)
    keep_database(root, plan)
    migrate()
    for name in sorted(plan.texts, key=lambda one: one == "params.yaml"):
        if name == "params.yaml":
            Journal(root).append_if(lambda events: _entry(events, plan))
        with atomic_file(root / name) as handle:
            handle.write(plan.texts[name])
    commit(root, f"Upgrade to format {plan.after}")


def _entry(events: Sequence[Event], plan: Upgrade) -> tuple[str, dict[str, Any]] | None:
    """Once a format, however often a killed upgrade is begun again; a change within a format is told each time."""
    told = any(event.kind == "upgraded" and event["after"] == plan.after for event in events)
    return None if told and plan.before < plan.after else ("upgraded", {"before": plan.before, "after": plan.after, "changes": plan.changes})


def uncommitted(root: Path) -> bool:
    """Whether an upgrade was killed before its last step: the workspace has this format, its last commit an older one."""
    from workspace.revisions import git

    text = git(root, "show", "HEAD:params.yaml", check=False)
    found = LINE.search(text)
    return format_of(root / "params.yaml") == FORMAT and bool(text) and (int(found[1]) if found else 1) < FORMAT


def keep_database(root: Path, plan: Upgrade) -> None:
    """Copy the file of the feedback database as it is before the upgrade, where it changes. One that was killed after its copy makes another."""
    if plan.database is None or plan.copy is None:
        return
    source, kept = plan.database, root / plan.copy
    private_folder(root / BACKUP)  # accounts are in it
    kept.parent.mkdir(exist_ok=True)
    fresh = kept.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    try:
        old, new = sqlite3.connect(source), sqlite3.connect(fresh)
        with new:
            old.backup(new)
        new.close()
        old.close()
    except sqlite3.Error as problem:
        raise WorkspaceError("The feedback database could not be copied. Nothing was changed.", why=str(problem), next_step="Stop the service.") from problem
    fresh.replace(kept)


def render_upgrade(plan: Upgrade, dry_run: bool) -> str:
    """The plan for people."""
    if not plan.changes:
        return f"Format {plan.after}: up to date, nothing to change."
    lines = [f"{'Would upgrade' if dry_run else 'Upgraded'} from format {plan.before} to {plan.after}:"]
    for name, said in plan.changes.items():
        lines += [f"  {name}", *(f"    {line}" for line in said)]
    kept = f"  The state before is tag {plan.tag}" if plan.tag else ""
    if plan.copy:
        kept = f"{kept}, the database before {plan.copy}" if kept else f"  The database before is {plan.copy}"
    lines += [f"{kept}."] if kept else []
    if "feedback.db" in plan.changes and plan.database is None:
        lines.append(
            f"  Of a PostgreSQL database no copy {'is' if dry_run else 'was'} made: `pg_dump` makes one{', and is best run first' if dry_run else ''}."
        )
    return "\n".join([*lines, "  Nothing was changed. Next: stop `vigil serve`, then vigil upgrade" if dry_run else "  Next: vigil status"])
