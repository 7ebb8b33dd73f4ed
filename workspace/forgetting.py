"""Take samples out of a workspace for good: out of their batch, out of what was made of them, and out of what DVC keeps of before.

The row of a forgotten sample stays in its manifest with hash, label and `use` never, so that the same file never comes in
again; its media, name and person go. Where another batch has the same file from another source, it stays in that one, with what is made of that one.
Safe to repeat: a kill anywhere leaves batches that can be read, and the next run ends it.
What cannot be taken out are the weights of models that were trained with a sample. Run it under the lease, between cycles.
"""

import contextlib
import re
import shutil
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workspace.batches import set_batch_state
from workspace.errors import DataError
from workspace.files import atomic_file, read_json, remove_torn, write_json
from workspace.for_review import CONFLICTS, SUMMARY, TWO_LABELS, erased_path, forget_conflicts, unnamed, without_names
from workspace.journal import Journal
from workspace.manifest import composed, manifests, read_manifest, repack_shard, write_manifest
from workspace.naming import Paths, still_said
from workspace.objects import FOLDER, LOCK, cache_of, ever_named, is_own, is_shared, named_by, objects_in, outputs_in, refuse_damaged, tags_needing, with_files
from workspace.state import batch_states

if TYPE_CHECKING:
    import pandas as pd

Named = dict[str, Any]  # NAMING of a row
BLANKED = ("identity", "donor", "source_video", "method", "licence", "consent", "attributes", "shard", "phash", "duplicate_of", "looks")
NAMING = ("sample_id", "source", "path", "source_video", "case_id")  # how files are called, and what they were made of
CLIP_PREFIX = 16  # so many digits of a sample's hash begin the ids of its clips
MADE = ("data/faces/*", "data/forged/*", "data/hardened", "data/sets", "reports/predictions.parquet", "mlartifacts/**/predictions.parquet")
FORGING = ".vigil/forging"  # a folder a batch: the crops that a program from outside is at
# Made, fetched or handed over again when they are needed:
CACHES = (".vigil/scores", ".vigil/incoming", ".vigil/building", ".vigil/outbox", ".vigil/unfinished", FORGING)
SEEN = Path(".vigil/seen.json")  # names of files by hash (pipelines/seen.py)
PAGES = ("reports/report.html", ".vigil/reports/*.html")  # of cycles
NAMED_ON_PAGES = re.compile(TWO_LABELS.encode() + rb" \(.*?\)(?=; \d+: |</span>)", re.DOTALL)  # why a file was put aside, as pages copied it from a batch
MEMBERS = Path(".vigil/members")  # how the names in each tar begin, a file a tar: hashes alone; only a cache, deleting it costs time
LOST_TAGS = Path(".vigil/erasing.json")  # by sample, until its erasure is journalled
NOTHING_ERASED = "Nothing was erased from the training data."  # of a batch that is not here: with a later pull it would come back whole
NOT_FINISHED = "Copies of erased data may be left on the DVC remote. The erasure is not finished."
PARQUET, TAR_AT, TAR = b"PAR1", 257, b"ustar"


@dataclass(slots=True)
class Forgotten:
    """What was done about one sample: batches that it was taken out of, folders and tables with something of it that were removed (stages make them again),
    and how many objects with something of it were deleted from DVC's cache and its remote.

    `tags` are those that can no longer be restored whole without these objects; `kept_in` names the batches that have the sample from another source,
    `made_of` the samples that name it as their source video, which stay.
    """

    batches: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    cached_objects: int = 0
    remote_objects: int = 0
    tags: list[str] = field(default_factory=list)
    kept_in: list[str] = field(default_factory=list)
    made_of: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def forget(root: Path, case_of: Mapping[str, str], who: str) -> dict[str, Forgotten]:
    """Forget the samples named by sha256; a value that is not '' asks for this only where the row names that case. Returns those that a batch had.

    Raises VigilError where a batch cannot be rewritten; what was done until then stays done, and again ends it. Raises WorkspaceError before it begins
    where a committed file cannot be read (what DVC keeps could not be looked through) or a batch is not here.
    """
    from workspace.repository import delete_objects, refuse_absent

    refuse_damaged(root)
    refuse_absent(root, NOTHING_ERASED)
    forgotten: dict[str, Forgotten] = {}
    _name_by_hash(root, case_of)
    for manifest in manifests(root):
        for sample_id in _forget_in_batch(manifest.parent, case_of):
            forgotten.setdefault(sample_id, Forgotten()).batches.append(manifest.parent.name)
    for name in CACHES:  # what was on its way into a batch lies in none
        shutil.rmtree(root / name, ignore_errors=True)
    for noted in (SEEN, CONFLICTS, "data/raw/*"):
        remove_torn(root / noted)
    if not forgotten:
        return forgotten
    wanted, batches = set(forgotten), sorted({batch for one in forgotten.values() for batch in one.batches})
    kept_in, named = _kept_in(root, wanted), _named_erased(root, wanted)
    for made, of in _made_of(root, wanted, kept_in).items():
        shutil.rmtree(made) if made.is_dir() else made.unlink()
        for sample_id in of:
            forgotten[sample_id].folders.append(str(made.relative_to(root)))
    forget_conflicts(root, wanted)
    _forget_names(root, wanted)
    _forget_on_pages(root)
    _version(root, batches, {batch for of in named.values() for batch in of})
    _fetch_earlier(root)
    held = _held(root, wanted, kept_in)
    needing = tags_needing(root, set(held))
    costs = {tag: set[str]().union(*(held[md5] for md5 in needed)) for tag, needed in needing.items()}
    tags = _note_lost(root, {one: [tag for tag, of in costs.items() if one in of] for one in forgotten})
    _strike(root, held)
    there = delete_objects(root, held)
    _drop_notes(root)
    for md5, of in held.items():
        for one in (forgotten[sample_id] for sample_id in of):
            one.cached_objects, one.remote_objects = one.cached_objects + 1, one.remote_objects + (md5 in there)
    for sample_id, one in forgotten.items():
        one.tags = tags[sample_id]
        one.kept_in, one.made_of = kept_in.get(sample_id, []), sorted(set().union(*named.get(sample_id, {}).values()))
    _drop_empty(root, batches, who)
    return forgotten


def _note_lost(root: Path, tags: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The tags that the erasure of each sample costs, noted before it does: once the objects are gone, nobody could tell after a kill."""
    noted: dict[str, list[str]] = {}
    with contextlib.suppress(OSError, ValueError):
        noted = read_json(root / LOST_TAGS)
    every = {sample_id: [*dict.fromkeys([*noted.get(sample_id, []), *mine])] for sample_id, mine in tags.items()}
    write_json(root / LOST_TAGS, {**noted, **every})
    return every


def _strike(root: Path, held: Collection[str]) -> None:
    """Have dvc.lock name nothing that is deleted: the stages make it anew, and until then a remote lacks nothing and a clone finds all that it asks for."""
    from workspace.repository import strike_stages

    lock, stores = root / LOCK, objects_in(cache_of(root))
    outputs = outputs_in(lock.read_text(encoding="utf-8")) if lock.is_file() else {}
    if gone := [path for path, md5 in outputs.items() if with_files(stores, {md5}) & set(held)]:
        strike_stages(root, gone)


def would_forget(root: Path, sample_id: str, case_id: str = "") -> dict[str, Any]:
    """What `forget` would take out, and change nothing: rows with their bytes, folders, objects of DVC's cache with their bytes, tags that would be lost.

    A row whose media no shard has (put aside when it came in) has 0 bytes: what goes is its name and its person.

    With a case, only the rows that name it. `not_here` counts the objects of earlier versions that would be fetched first, to look into them.
    Raises WorkspaceError where a committed file cannot be read, or a batch is not here.
    """
    from workspace.repository import refuse_absent

    refuse_damaged(root)
    refuse_absent(root, NOTHING_ERASED)
    rows, alike, rewritten, keeping, tables = [], [], set(), [], dict[str, list[Named]]()
    for manifest in manifests(root):
        batch, table = manifest.parent.name, read_manifest(manifest.parent)
        tables[batch] = _names_in(table)
        mine = table[(table["sample_id"] == sample_id) & ((table["case_id"] == case_id) | (case_id == ""))]
        rewritten |= {batch} if len(mine) else set()
        keeping += [batch] if mine.empty and _with_media(table, {sample_id}) else []
        left = mine[(mine["shard"] != "") | (mine["use"] != "never")]  # what was erased before is left behind as a row
        rows += [
            {"batch": batch, "path": path, "shard": shard, "bytes": int(size) if shard else 0, "case_id": case}
            for path, shard, size, case in zip(left["path"], left["shard"], left["bytes"], left["case_id"], strict=True)
        ]
        group = {sample_id, *mine["duplicate_of"]} - {""}
        looks = table["looks"].str.contains(sample_id, regex=False)  # what is marked as no copy, for this one was dropped when it came in
        near = table["duplicate_of"].isin(group) | table["sample_id"].isin(group) | looks
        alike += table.loc[near & (table["sample_id"] != sample_id), "sample_id"].tolist()
    made_from, goes = _made_from(root, tables, {sample_id: case_id})
    made = [one for one, _ in made_from if one not in goes]
    made += [row["sample_id"] for row in chain.from_iterable(tables.values()) if row["source_video"] == erased_path(sample_id)]  # of before
    wanted = {sample_id} if rewritten else set()
    kept_in = {sample_id: keeping} if keeping else {}
    held = _held(root, wanted, kept_in, but=rewritten)
    here, folders = objects_in(cache_of(root)), {md5 for md5s in named_by(root).values() for md5 in md5s if md5.endswith(FOLDER)}
    return {
        "sample_id": sample_id,
        "rows": rows,
        "kept_in": keeping,
        "folders": [str(folder.relative_to(root)) for folder in _made_of(root, wanted, kept_in)],
        "cached_objects": len(held),
        "cached_bytes": sum(here[md5].stat().st_size for md5 in held),
        "not_here": len(with_files(here, folders) - here.keys()),
        "tags": [*tags_needing(root, set(held))],
        "near_duplicates": sorted(set(alike)),
        "made_of": sorted(set(made)),
    }


def batches_with(root: Path, samples: Collection[str]) -> dict[str, dict[str, str]]:
    """By sample the batches here whose tars hold its media, each with the case that its row names, "" where a source of its own brought it.

    A manifest that cannot be read is passed over: `vigil doctor` names it.
    """
    import pyarrow.parquet

    found: dict[str, dict[str, str]] = {sample_id: {} for sample_id in samples}
    for manifest in manifests(root) if found else ():
        with contextlib.suppress(OSError, ValueError):
            rows = pyarrow.parquet.read_table(manifest, columns=["sample_id", "shard", "case_id"], filters=[("sample_id", "in", [*found])]).to_pylist()
            for row in (row for row in rows if row["shard"]):
                found[row["sample_id"]].setdefault(manifest.parent.name, str(row["case_id"]))
    return found


def back_in_batches(root: Path, case_of: Mapping[str, str]) -> set[str]:
    """Those of the samples that `forget` would take out of a batch here: of one that it took out before, the batch was put back as it had been.

    A manifest that cannot be read is passed over: `vigil doctor` names it.
    """
    import pyarrow.parquet

    found: set[str] = set()
    for manifest in manifests(root) if case_of else ():
        with contextlib.suppress(OSError, ValueError):
            columns = ["sample_id", "case_id", "shard", "use"]
            rows = pyarrow.parquet.read_table(manifest, columns=columns, filters=[("sample_id", "in", [*case_of])]).to_pylist()
            found |= {row["sample_id"] for row in rows if case_of[row["sample_id"]] in ("", row["case_id"]) and (row["shard"] or row["use"] != "never")}
    return found


def _kept_in(root: Path, samples: set[str]) -> dict[str, list[str]]:
    """The samples whose media a batch has, with these batches."""
    found: dict[str, list[str]] = {}
    for manifest in manifests(root):
        for sample_id in _with_media(read_manifest(manifest.parent), samples):
            found.setdefault(sample_id, []).append(manifest.parent.name)
    return found


def _with_media(table: "pd.DataFrame", samples: set[str]) -> list[str]:
    """Those of the samples whose media this batch has."""
    return sorted(set(table.loc[table["shard"] != "", "sample_id"]) & samples)


def _made_of(root: Path, samples: set[str], kept_in: Mapping[str, list[str]]) -> dict[Path, set[str]]:
    """The folders and tables of stages that hold something of the samples, each with those, but for what is made of a batch that keeps one of them."""
    found = {}
    for made in (path for pattern in MADE for path in sorted(root.glob(pattern))):
        gone = {sample_id for sample_id in samples if made.name not in kept_in.get(sample_id, ())}
        sought = Sought(gone)
        if of := set[str]().union(*(mentioned(path, sought, root / MEMBERS) for path in _files_of(made))):
            found[made] = of
    return found


def _files_of(made: Path) -> list[Path]:
    return [path for path in (made.rglob("*") if made.is_dir() else [made]) if path.is_file()]


def _forget_names(root: Path, samples: Collection[str]) -> None:
    """Take the files' names out of what ingest remembers; it reads those again that still lie at their source."""
    try:
        stored = read_json(root / SEEN)
        gone = {source: {name for name, row in rows.items() if row[2] in samples} for source, rows in stored["sources"].items()}
        kept = {source: {name: row for name, row in rows.items() if name not in gone[source]} for source, rows in stored["sources"].items()}
        bare = {source: [name for name in names if name not in gone.get(source, ())] for source, names in stored.get("unlabelled", {}).items()}
    except (OSError, ValueError, AttributeError, KeyError, IndexError, TypeError):  # none, or none that ingest would read
        return
    if any(gone.values()):
        write_json(root / SEEN, {**stored, "sources": kept, "unlabelled": bare})


def _forget_on_pages(root: Path) -> None:
    """Take all names of files out of the pages of cycles, which are not written again; those of now name none."""
    for page in (path for pattern in PAGES for path in sorted(root.glob(pattern))):
        found = page.read_bytes()
        if (kept := NAMED_ON_PAGES.sub(TWO_LABELS.encode(), found)) != found:
            with atomic_file(page, "wb") as handle:
                handle.write(kept)


class Sought:
    """Samples, and clips of them, that files are looked through for: whatever their number, a name in a file is looked up at once."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self.starts = {name[:CLIP_PREFIX] for name in names}
        self._by_start: dict[str, set[str]] = {}
        for sample_id in (name for name in names if len(name) == 64):
            self._by_start.setdefault(f"{sample_id[:CLIP_PREFIX]}-", set()).add(sample_id)

    def shown_by(self, name: str) -> set[str]:
        """Those that a tar member or a clip of this name is of: `<sha256>.mp4`, `<16 digits>-t0-c1+forger.zst`."""
        stem = name.split(".")[0]
        return {stem} if stem in self.names else self._by_start.get(stem[: CLIP_PREFIX + 1], set())


def mentioned(path: Path, sought: Sought, notes: Path | None = None) -> set[str]:
    """Those of the samples, or clips, of which a file holds media or what was made of them: a table, a tar of media or clips, or a stage's report.

    `notes`: the folder that keeps how the names in tars begin. One that was read to its end is read again only where a name begins like one of these.
    """
    note = None if notes is None else _note_of(path, notes)
    if note is not None and sought.starts.isdisjoint(_noted(note, sought.starts)):
        return set()
    with open(path, "rb") as handle:
        head = handle.read(TAR_AT + len(TAR))
    if head[:4] == PARQUET:
        return set().union(*_clips_of(path, sought).values())
    if head[TAR_AT:] == TAR:
        return set().union(*(sought.shown_by(name) for name in _members(path, note)))
    if head[:1] == b"{":
        return _reported(path, sought.names)
    return set()


def _forget_in_batch(folder: Path, case_of: Mapping[str, str]) -> list[str]:
    """Blank the rows and pack their shards anew; returns the samples that are of this batch, also those blanked before."""
    table = read_manifest(folder)
    mine = table[[case_of.get(sample_id) in ("", case_id) for sample_id, case_id in zip(table["sample_id"], table["case_id"], strict=True)]]
    if mine.empty:
        return []
    if (mine["shard"] != "").any() or (mine["use"] != "never").any():
        _rewrite(folder, table, set(mine["sample_id"]))
    named = set(read_manifest(folder)["shard"])
    for stray in (*folder.glob("media-*.tar"), *folder.glob("*.tmp")):  # the latter as a kill left them: the next version of the batch would have them
        if stray.name not in named:
            stray.unlink()
    return sorted(set(mine["sample_id"]))


def _name_by_hash(root: Path, case_of: Mapping[str, str]) -> None:
    """Have what was made of these files name them as they are called from now on: under the old name it would pass for made of another file of that path.

    This comes before the files' own rows are blanked, which know the names.
    """
    tables = {manifest.parent.name: _names_in(read_manifest(manifest.parent)) for manifest in manifests(root)}
    made_from, _ = _made_from(root, tables, case_of)
    for folder in (manifest.parent for manifest in manifests(root) if made_from):
        table = read_manifest(folder)
        keys = zip(table["sample_id"], table["source_video"].map(composed), strict=True)
        anew = [erased_path(made_from[key]) if key in made_from else video for key, video in zip(keys, table["source_video"], strict=True)]
        if anew != table["source_video"].tolist():
            write_manifest(table.assign(source_video=anew), folder)


def _names_in(table: "pd.DataFrame") -> list[Named]:
    return [dict(zip(NAMING, row, strict=True)) for row in table[list(NAMING)].itertuples(index=False)]


def _made_from(root: Path, tables: Mapping[str, Sequence[Named]], case_of: Mapping[str, str]) -> tuple[dict[tuple[str, str], str], set[str]]:
    """By sample and the source video that it names, the file that it was made of, where that goes from every batch which has it; and all that go so."""
    said = still_said(Journal(root).events(), tables)
    paths = Paths(said)
    staying: set[str] = set()
    leaving: set[str] = set()
    for row in chain.from_iterable(said.values()):
        goes = case_of.get(row["sample_id"]) in ("", row["case_id"])
        (leaving if goes else staying).add(row["sample_id"])
    meant: dict[tuple[str, str], str] = {}
    for batch, rows in chain(said.items(), tables.items()):  # what counts no more last: it may yet, once another batch is dropped
        for row in rows:
            meant.setdefault((row["sample_id"], composed(row["source_video"])), paths.made_of(row, batch))
    gone = leaving - staying
    return {key: content for key, content in meant.items() if content in gone}, gone


def _named_erased(root: Path, samples: Collection[str]) -> dict[str, dict[str, set[str]]]:
    """By each of these samples, which were erased, the batches with what was made of it and stays, each with the samples that are it.

    Told by the names that `_name_by_hash` gave, so that an erasure which a kill tore says as much when it is ended.
    """
    videos = {erased_path(sample_id): sample_id for sample_id in samples}
    found: dict[str, dict[str, set[str]]] = {}
    for manifest in manifests(root):
        table = read_manifest(manifest.parent)
        mine = table[table["source_video"].isin(videos)]  # what goes itself has lost the name of its source video by then
        for sample_id, video in zip(mine["sample_id"], mine["source_video"], strict=True):
            found.setdefault(videos[video], {}).setdefault(manifest.parent.name, set()).add(sample_id)
    return found


def _rewrite(folder: Path, table: "pd.DataFrame", gone: set[str]) -> None:
    """New shards under new names, then the manifest that names them (the one moment that counts); the old ones are strays from then on."""
    leaving = table["sample_id"].isin(gone)
    for shard in sorted(set(table.loc[leaving, "shard"]) - {""}):
        staying = (table["shard"] == shard) & ~leaving
        new, places = repack_shard(folder, shard, set(table.loc[staying, "sample_id"]))
        table.loc[staying, "offset"] = table.loc[staying, "sample_id"].map(places).astype("int64")  # of none, too
        table.loc[staying, "shard"] = new
    table.loc[leaving, list(BLANKED)] = ""
    table.loc[leaving, "quarantine"] = [without_names(reason) for reason in table.loc[leaving, "quarantine"]]
    table.loc[leaving, "path"] = [erased_path(sample_id) for sample_id in table.loc[leaving, "sample_id"]]
    table.loc[leaving, "use"] = "never"
    table.loc[leaving, "offset"] = 0
    write_manifest(table, folder)
    summary = folder / SUMMARY
    if summary.is_file() and (found := read_json(summary)) != (kept := unnamed(found)):  # those of before this was so
        write_json(summary, kept)


def _version(root: Path, batches: list[str], naming: Collection[str]) -> None:
    """DVC and git know the batches as they are now, and those that named what was erased; a batch that nobody has versioned yet is left to the cycle."""
    from workspace.repository import commit, dvc_add

    tracked = [root / "data" / "raw" / name for name in sorted({*batches, *naming}) if (root / "data" / "raw" / f"{name}.dvc").exists()]
    dvc_add(root, tracked)
    if tracked:
        commit(root, f"Erase samples of {', '.join(batches)} on request")


def _fetch_earlier(root: Path) -> None:
    """Have in the cache what any branch or tag names and the remote has: only what is here can be looked into.

    Raises DataError, naming the tags, where the remote cannot be read, or is a folder that is away: DVC takes a disk that is not mounted for an empty remote.
    """
    from workspace.remote import fetch, folder_away

    named = named_by(root)
    away, cycles = folder_away(root), [name for name in named if name.startswith("vigil/") and not name.startswith("vigil/before-")]
    if away and cycles and not is_own(root, Path(away)):  # one of our own lies there once something was pushed
        why = f"there is no DVC remote in {away}; not looked through: {', '.join(cycles)}"
        raise DataError(NOT_FINISHED, why=why, next_step="Bring it back, or mend `remote` in params.yaml; then run the command again.")
    try:
        fetch(root, {md5 for md5s in named.values() for md5 in md5s if md5.endswith(FOLDER)})
        stores = objects_in(cache_of(root))
        fetch(root, set().union(*(with_files(stores, md5s) for md5s in named.values())))
    except DataError as problem:
        here = objects_in(cache_of(root))
        lacking = [name for name, md5s in named.items() if not with_files(here, md5s) <= here.keys()]
        why = f"{problem.why}; not looked through: {', '.join(lacking)}"
        raise DataError(NOT_FINISHED, why=why, next_step=problem.next_step) from problem


def _held(root: Path, samples: set[str], kept_in: Mapping[str, list[str]], but: Collection[str] = ()) -> dict[str, set[str]]:
    """The objects of DVC's cache that hold something of the samples, by md5, each with those, but for what a batch that keeps one needs (not one of `but`).

    Of a cache that other workspaces may share, those that this one has named at some time.
    """
    objects = {md5: path for md5, path in objects_in(cache_of(root)).items() if not md5.endswith(FOLDER)}
    if is_shared(root):
        objects = {md5: objects[md5] for md5 in objects.keys() & ever_named(root)}
    held = _mentioning(root, objects, samples)
    if kept_in:
        needed = {md5: objects[md5] for md5 in held.keys() & _needed_for(root, kept_in, but)}
        held = {md5: of for md5, of in held.items() if md5 not in needed} | _mentioning(root, needed, samples - kept_in.keys())
    return held


def _mentioning(root: Path, objects: Mapping[str, Path], samples: Collection[str]) -> dict[str, set[str]]:
    shown_in = {sample_id: {sample_id} for sample_id in samples}  # and by clip
    sought = Sought(samples)
    for path in objects.values():
        for clip, of in _clips_of(path, sought).items() if _begins(path, PARQUET) else ():
            shown_in.setdefault(clip, set()).update(of)
    sought = Sought(shown_in)
    found = {md5: set[str]().union(*(shown_in[name] for name in mentioned(path, sought, root / MEMBERS))) for md5, path in objects.items()}
    return {md5: of for md5, of in found.items() if of}


def _needed_for(root: Path, kept_in: Mapping[str, list[str]], but: Collection[str]) -> set[str]:
    """The objects of the batches as they are now, and of the faces and fakes of those that keep a sample."""
    batches = [path for path in root.glob("data/raw/*.dvc") if path.stem not in but]
    md5s = {md5 for path in batches for md5 in outputs_in(path.read_text(encoding="utf-8")).values()}
    made = {f"data/{folder}/{batch}" for names in kept_in.values() for batch in names for folder in ("faces", "forged")}
    lock = outputs_in((root / LOCK).read_text(encoding="utf-8")) if (root / LOCK).is_file() else {}
    return with_files(objects_in(cache_of(root)), md5s | {md5 for path, md5 in lock.items() if path in made})


def _drop_empty(root: Path, batches: list[str], who: str) -> None:
    """A batch of which nothing can be used any more takes part in no cycle."""
    states = batch_states(Journal(root).events())
    for name in batches:
        table = read_manifest(root / "data" / "raw" / name)
        if name in states and states[name].state != "dropped" and ((table["use"] == "never") | (table["quarantine"] != "")).all():
            set_batch_state(root, name, "dropped", who=who, why="all that it held was erased on request")


def is_emptied(root: Path, batch: str) -> bool:
    """Whether what a batch held was erased, and nothing is left that could be learned, or that people could be asked about. False where it is not here."""
    folder = root / "data" / "raw" / batch
    if not (folder / "manifest.parquet").is_file():
        return False
    try:
        table = read_manifest(folder)
    except DataError:  # `vigil doctor` names it
        return False
    erased = table["path"] == table["sample_id"].map(erased_path)
    refused = (table["quarantine"] != "") & ~table["quarantine"].str.startswith(TWO_LABELS)
    return bool(erased.any() and (erased | refused).all())


def _clips_of(path: Path, sought: Sought) -> dict[str, set[str]]:
    """Ids of the clips, or videos, in a table that show some of the samples, as its own, as source or as donor, each with those.

    Of a row without a clip that still names a shard it is the sample.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        of_videos = {"unit", "cluster"} <= set(names) and "donor_clip" not in names
        if of_videos:  # what models say of each: `<sha256>`, or of what was forged from it `<sha256>+forger`
            units = [row["unit"] for row in rows_that_begin(path, ["unit"], ["unit"], sought.starts)]
            return {unit: {content} for unit in units if (content := unit.split("+")[0]) in sought.names}
        if not {"sample_id", "shard"} <= set(names):
            return {}
        naming = [name for name in ("sample_id", "clip_id", "source_clip", "donor_clip") if name in names]
        rows = rows_that_begin(path, [*naming, "shard"], naming, sought.starts)
    except (OSError, pyarrow.ArrowInvalid):
        return {}
    found: dict[str, set[str]] = {}
    for row in (row for row in rows if row["shard"]):
        if of := set[str]().union(*(sought.shown_by(row[name] or "") for name in naming)):
            found.setdefault(row.get("clip_id") or row["sample_id"], set()).update(of)
    return found


def rows_that_begin(path: Path, columns: Sequence[str], naming: Sequence[str], starts: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a table in which one of the columns `naming` begins with one of these `starts`, of CLIP_PREFIX digits.

    No other row becomes Python's: the half million clips of a large batch would take half a gigabyte.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    wanted = pyarrow.array(sorted(starts), pyarrow.string())
    rows: list[dict[str, Any]] = []
    with pyarrow.parquet.ParquetFile(path) as table:
        for batch in table.iter_batches(columns=[*columns]):
            begins = (pyarrow.compute.utf8_slice_codeunits(batch[name].cast(pyarrow.string()), 0, CLIP_PREFIX) for name in naming)
            rows += batch.filter(reduce(pyarrow.compute.or_, (pyarrow.compute.is_in(one, wanted) for one in begins))).to_pylist()
    return rows


def _members(path: Path, note: Path | None) -> list[str]:
    """The names in a tar, as far as it can be read; how they begin is noted where that is to its end."""
    names = []
    try:
        with open(path, "rb") as handle, tarfile.open(fileobj=handle) as tar:
            for member in tar:
                names.append(member.name)
            handle.seek(tar.offset)
            rest = handle.read(tarfile.RECORDSIZE + 1)
    except (tarfile.TarError, OSError):
        return names
    if note is not None and 0 < len(rest) <= tarfile.RECORDSIZE and not any(rest):  # for tarfile a damaged header ends a tar, too
        with contextlib.suppress(OSError, ValueError):  # a full disk, or a name that is no text
            write_json(note, sorted({name.split(".")[0][:CLIP_PREFIX] for name in names}))
    return names


def _note_of(path: Path, notes: Path) -> Path:
    """Where it is noted what a file holds: by what changes when it is another, or is written to. A linked object of the cache is the same file."""
    stat = path.stat()
    return notes / f"{stat.st_dev}-{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}.json"


def _noted(note: Path, otherwise: Collection[str]) -> Collection[str]:
    """How the names in a tar begin, or `otherwise` where nobody noted it."""
    try:
        return [str(start) for start in read_json(note)]
    except (OSError, ValueError, TypeError):
        return otherwise


def _drop_notes(root: Path) -> None:
    """Remove what is noted of tars that are not here any more."""
    with contextlib.suppress(OSError):
        made = chain.from_iterable(_files_of(path) for pattern in MADE for path in root.glob(pattern))
        here = {_note_of(path, root / MEMBERS) for path in chain(made, objects_in(cache_of(root)).values())}
        remove_torn(root / MEMBERS / "*")
        for note in set((root / MEMBERS).glob("*.json")) - here:
            note.unlink(missing_ok=True)


def _reported(path: Path, samples: Collection[str]) -> set[str]:
    try:
        found = read_json(path)  # however large: the stage that wrote it held it whole, too
    except (OSError, ValueError):
        return set()
    rows = found.get("samples") if isinstance(found, dict) else None
    rows = rows if isinstance(rows, list) else []
    return {row["sample_id"] for row in rows if isinstance(row, dict) and row.get("sample_id") in samples and row.get("use") != "never"}


def _begins(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as handle:
        return handle.read(len(magic)) == magic
