"""`vigil gc`: what lies in a workspace beside the data and models in use, what may go and what may not, and why. Without `--delete` it only says so."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback.learned import remember_all
from workspace.errors import DataError, WorkspaceError, first_few
from workspace.journal import Event, Journal
from workspace.lease import lease
from workspace.objects import (
    FOLDER,
    NOBODY_KNOWS,
    WORKSPACE,
    cache_of,
    is_cached,
    is_shared,
    local_remote,
    named_by,
    needed_by,
    objects_in,
    place_of,
    refuse_damaged,
    refuse_damaged_lists,
    revisions,
)
from workspace.repository import absent
from workspace.settings import Settings
from workspace.state import batch_states, candidates, champion, open_cycle, previous, promoted

NEVER = "not removed here: "
DRAWN_ON = "the sets of the last cycle draw on them, and `vigil audit`, `compare` and `search` on these; the next cycle draws anew"
RESUMED = "no cycle is unfinished; a `vigil compare` or `vigil search` that was stopped begins its last training anew"


@dataclass(frozen=True, slots=True)
class Pile:
    """Files of one kind. `kept` says why they stay, '' where they may go; `why` says why they may."""

    what: str
    paths: tuple[Path, ...]
    why: str = ""
    kept: str = ""


def collect(root: Path, settings: Settings, delete: bool, without_tags: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What may go and what stays, with its bytes, the former deleted when asked: rows {what, path, files, bytes, why, kept, deleted}.

    `without_tags` are cycles' tags that a person gives up: what only they need may go, and they can then not be restored.
    Lists of folders that the cache lacks are fetched from the DVC remote, also where nothing is to be deleted.
    Raises LeaseHeldError while a cycle runs; keeps everything while one is unfinished, or a batch and its .dvc file are away, which names what the cache
    has of it. Raises WorkspaceError for a tag that may not be given up, DataError where a list of files cannot be had: before anything is deleted.
    """
    without_tags = [tag if "/" in tag else f"vigil/{tag}" for tag in without_tags]  # a cycle is named bare everywhere else
    with lease(root, "gc"):
        refuse_damaged(root)
        events = Journal(root).events()
        _refuse_tags(root, events, without_tags)
        running = open_cycle(events)
        away = [name for name in absent(root) if not (root / f"{name}.dvc").exists()]
        wait = f"{running.cycle} is not finished" if running else f"not here, and its .dvc file neither (`vigil doctor`): {first_few(away)}" if away else ""
        piles = list(_piles(root, settings, events, without_tags))
        if delete and not running:
            remember_all(root)  # what an erasure asks for later, and faces and tables told until now
        rows = []
        for pile in piles:
            kept = pile.kept or wait
            files = [file for path in pile.paths for file in _files(path)]
            if not files:
                continue
            size = sum(map(_size, files))
            common = Path(os.path.commonpath(pile.paths))
            shown = common.relative_to(root) if common.is_relative_to(root) else common
            row = {"what": pile.what, "path": str(shown), "files": len(files), "bytes": size, "why": pile.why, "kept": kept}
            rows.append({**row, "deleted": bool(delete and not kept)})
            if delete and not kept:
                for path in pile.paths:
                    shutil.rmtree(path, onerror=_unless_gone) if path.is_dir() else path.unlink(missing_ok=True)
    return rows


def render_garbage(rows: list[dict[str, Any]], delete: bool, without_tags: Sequence[str] = ()) -> str:
    """What `vigil gc` says."""
    from vigil.reading import render_table

    parts = []
    for title, mine, reason in (
        ("deleted" if delete else "may go", [row for row in rows if not row["kept"]], "why"),
        ("kept", [row for row in rows if row["kept"]], "kept"),
    ):
        if mine:
            shown = [{title: row["what"], "where": row["path"], "files": row["files"], "bytes": f"{row['bytes']:,}", "because": row[reason]} for row in mine]
            parts.append(f"{render_table(shown)}\n{sum(row['bytes'] for row in mine):,} bytes in all.")
    if not any(not row["kept"] for row in rows):
        parts.append("Nothing to remove.")
    elif not delete:
        parts.append(" ".join(["Nothing was deleted. Next: vigil gc --delete", *(f"--without-tag {tag}" for tag in without_tags)]))
    return "\n\n".join(parts)


def _piles(root: Path, settings: Settings, events: Sequence[Event], without_tags: Sequence[str]) -> Iterator[Pile]:
    leading = champion(events)
    private = root / ".vigil"
    yield Pile("training checkpoints", (private / "checkpoints",), RESUMED)
    scores = sorted((private / "scores").glob("*.parquet"))
    mine = tuple(path for path in scores if leading and path.name.startswith(leading.model_sha256))
    yield Pile("scores of other models", tuple(set(scores) - set(mine)), "they are made again when they are asked for")
    yield Pile("scores of the champion", mine, kept="the next cycle compares with them")
    yield Pile("fetched originals", (private / "incoming",), "what is in a batch is kept there; what is not is fetched again")
    half = (private / "unfinished" / "ingest", private / "building")
    yield Pile("half-built batches", half, "what was stopped left them; without them the next ingest of the source begins anew")
    yield Pile("half-cut faces", (private / "unfinished" / "faces",), kept="a stopped cycle goes on from them; those of dropped batches go with the next one")
    yield Pile("handed-over cases", (private / "outbox",), "the service writes those that are not in a batch again")
    yield from _batches(root, events)
    yield from _models(root, events)
    yield from _objects(root, settings, events, without_tags)
    yield Pile("models and reports in MLflow", (root / "mlartifacts",), kept=f"{NEVER}the registry serves models from them")
    yield Pile("runs in Prefect's database", (private / "prefect",), kept=f"{NEVER}a schedule may be using it")
    yield Pile("media of the service", (private / "media", private / "derived"), kept=f"{NEVER}feedback.retention says how long they stay")


def _batches(root: Path, events: Sequence[Event]) -> Iterator[Pile]:
    """Faces and forgeries of batches that take part in no cycle; those of a tag stay in the cache."""
    drawn = _drawn_on(root)
    for name, batch in batch_states(events).items():
        made = tuple(root / "data" / folder / name for folder in ("faces", "forged"))
        if batch.state == "dropped":
            kept = DRAWN_ON if drawn.intersection(made) else ""
            why = "the batch is dropped; they are made again if it comes back"
            yield Pile(f"faces and fakes of {name}", tuple(path for path in made if path.is_dir()), why, kept)


def _drawn_on(root: Path) -> set[Path]:
    """The folders of clips that the sets of the last cycle name; a set that cannot be read names none."""
    import pyarrow.parquet

    found: set[Path] = set()
    for path in (root / "data" / "sets").glob("*.parquet"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            found |= {root / store for store in pyarrow.parquet.read_table(path, columns=["store"])["store"].unique().to_pylist()}
    return found


def _models(root: Path, events: Sequence[Event]) -> Iterator[Pile]:
    """The files of models that were never promoted, where DVC's cache holds them too."""
    known, ever, cache = candidates(events), promoted(events), cache_of(root)
    for cycle, model in known.items():
        folder, pointer = root / model.path, (root / model.path).with_name(f"{cycle}.dvc")
        if cycle in ever or not folder.is_dir():
            continue
        whole = pointer.is_file() and is_cached(cache, pointer)
        kept = "" if whole else "not all of it is in DVC's cache"
        yield Pile(f"files of the held model of {cycle}", (folder,), f"in DVC's cache: `dvc checkout models/{cycle}.dvc` brings them back", kept)


def _objects(root: Path, settings: Settings, events: Sequence[Event], without_tags: Sequence[str]) -> Iterator[Pile]:
    """What DVC keeps: what nobody names, what only a tag that is given up names, and the rest, which stays."""
    named = named_by(root)
    _have_lists(root, settings, events, {name: md5s for name, md5s in named.items() if name not in without_tags})
    needed = needed_by(root, without_tags, named)
    staying = set().union(*(md5s for name, md5s in needed.items() if name not in without_tags))
    given_up = set().union(*(needed[tag] for tag in without_tags)) - staying
    cache = cache_of(root)
    stores = [("DVC's cache", cache)]
    shared = is_shared(root)
    if (remote := local_remote(root, settings.remote.url)) is not None:
        stores.append(("the DVC remote on this disk", remote))
    who = f"{sum(name != WORKSPACE for name in needed) - len(without_tags)} branches and tags, and the batches here"
    lost = f"{', '.join(without_tags)} cannot be restored any more"
    if len(stores) == 1 and settings.remote.url:
        lost = f"{', '.join(without_tags)} can then be restored from {settings.remote.url} only"
    for place, store in stores:
        found = objects_in(store)
        kept = "it lies outside of this workspace: others may need what it holds" if shared and store == cache else ""
        nobodys = tuple(path for md5, path in found.items() if md5 not in staying | given_up)
        yield Pile(f"{place}: needed by nobody", nobodys, "no branch, tag or batch names it", kept)
        yield Pile(f"{place}: needed by a tag given up", tuple(path for md5, path in found.items() if md5 in given_up), lost, kept)
        yield Pile(f"{place}: needed", tuple(path for md5, path in found.items() if md5 in staying), kept=f"{who} need it")


def _have_lists(root: Path, settings: Settings, events: Sequence[Event], named: Mapping[str, set[str]]) -> None:
    """Have in the cache the list of every folder that these branches and tags name: a clone has those of its own commit alone.

    Looks on the DVC remote, then on that of the workspace that this one was cloned from. Raises DataError, saying what helps, where one cannot be had.
    """
    from workspace.remote import fetch, folder_away
    from workspace.repository import origins_remote, set_remote

    def lacking() -> dict[str, list[str]]:  # md5 of a list, and who needs it
        here = objects_in(cache_of(root))
        lists = {md5 for md5s in named.values() for md5 in md5s if md5.endswith(FOLDER)} - here.keys()
        return {md5: [name for name, md5s in named.items() if md5 in md5s] for md5 in sorted(lists)}

    if not (lists := lacking()):
        return
    refuse_damaged_lists(root)  # to fetch removes them
    origins = origins_remote(root, settings.remote.url)
    set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)
    try:
        fetch(root, lists)
        away = "" if origins or local_remote(root, settings.remote.url) else folder_away(root)
        if origins and (lists := lacking()):
            set_remote(root, origins)
            fetch(root, lists)
    except DataError as problem:
        why = f"{len(lists)} lists of files that other branches and tags need are not in DVC's cache, and cannot be fetched: {problem.why}"
        raise DataError(NOBODY_KNOWS, why=why, next_step=problem.next_step) from problem
    finally:
        set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)
    if lists := lacking():
        raise _refuse_lost(root, events, lists, away)


def _refuse_lost(root: Path, events: Sequence[Event], lists: Mapping[str, list[str]], away: str) -> DataError:
    """What is said where lists of folders are neither here nor on the remote; `away` is the folder of one that is not there at all."""
    names = sorted({name for needing in lists.values() for name in needing})
    first = next(iter(lists))
    why = f"the list of the folder {first[:12]}... is neither in DVC's cache nor on its remote; needed by {first_few(names)}"
    if away:
        next_step = "Bring it back, or mend `remote` in params.yaml; then run the command again."
        return DataError(NOBODY_KNOWS, why=f"{why}; there is no DVC remote in {away}", next_step=next_step)
    files = first_few([str(place_of(Path(), md5)) for md5 in lists])
    next_step = f"Copy {files} into {cache_of(root)} from the cache or the remote of a workspace that has it."
    if all(name.startswith("vigil/") and name not in _rollback_tags(events) for name in names):
        next_step = f"Give up what needs it: {' '.join(f'--without-tag {name}' for name in names)}. Or: {next_step}"
    return DataError(NOBODY_KNOWS, why=why, next_step=next_step)


def _rollback_tags(events: Sequence[Event]) -> dict[str, str]:
    """The tags of cycles to whose models `vigil models rollback` may go, and which those are."""
    return {f"vigil/{model.cycle}": what for model, what in ((previous(events), "the model before it"), (champion(events), "the champion")) if model}


def _refuse_tags(root: Path, events: Sequence[Event], tags: Sequence[str]) -> None:
    needed = _rollback_tags(events)
    for tag in tags:
        if tag in needed or tag not in revisions(root) or not tag.startswith("vigil/"):
            why = f"it made {needed[tag]}, to which `vigil models rollback` may go" if tag in needed else "there is no such tag of a cycle"
            raise WorkspaceError(
                f"The tag {tag!r} cannot be given up. Nothing was deleted.", why=why, next_step="`git tag -l 'vigil/*'` lists the cycles' tags."
            )


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]


def _size(path: Path) -> int:
    """Its bytes; 0 for a file that went meanwhile: a service may be at work."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _unless_gone(function: Any, path: str, problem: Any) -> None:
    """For shutil.rmtree: what went meanwhile is removed."""
    if not isinstance(problem[1], FileNotFoundError):
        raise problem[1]
