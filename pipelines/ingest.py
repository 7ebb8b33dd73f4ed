"""Take what is new from the sources: folders, tables, FaceForensics++, S3 prefixes, the reviewed cases. Once each, by content.

A source with new files becomes one batch. Everything found is accounted for: new, known, or quarantined with a reason. A batch
is built in `.vigil/unfinished/ingest`, renamed into place whole and then journalled; a kill at any moment leaves nothing half-taken, and
the next run goes on: what was read, compared and packed is not done again. The caller holds the workspace's lease.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from media.names import MEDIA_SUFFIXES, PHOTO_SUFFIXES
from pipelines.begun import Begun, begun
from pipelines.fetch import Place, fetched, located, pending_objects
from pipelines.fingerprint import Measured, measure, refused
from pipelines.intake import IngestReport, NotNow, SourceCounts
from pipelines.known import BY_FILE, PEOPLE, Known, Progress, Said, read_known
from pipelines.layouts import Found, Listing, read_layout
from pipelines.rows import rows_of
from pipelines.seen import Entry, Seen, Stamp, seen_as, stamp_of
from pipelines.sides import KEPT_BEFORE
from workspace.errors import DataError, VigilError, in_one_line
from workspace.files import is_no_room, move_folder, names_path_in, remove_torn, write_json
from workspace.for_review import SUMMARY, TWO_LABELS, is_disputed, note_conflicts, unnamed
from workspace.journal import Journal
from workspace.manifest import MANIFEST_COLUMNS, ContentChanged, composed, manifests, read_manifest, write_manifest, write_media
from workspace.naming import content_path
from workspace.objectstore import is_s3
from workspace.pool import workers_here
from workspace.settings import IdentityRule, Settings, SourceSettings
from workspace.state import batch_states

BATCH_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,80}$")
DESCRIBED = ("identity", "source_video", "method", "compression", "licence", "consent", "attributes")
OF_FAKES = ("donor", "generator")
SAYING = ["sample_id", "batch", "path", "label", "use", "identity", "donor", "generator", "source", "case_id", "quarantine", "duplicate_of"]
STRICTEST, UNSTATED = ("never", "evaluate", "train"), "train"
MOST_READERS = 16  # threads, each with an open picture: of a large machine's cores all would ask for more memory than it may have


@dataclass(frozen=True, slots=True)
class Taken:
    """A file with what its layout says and what was measured."""

    found: Found
    measured: Measured
    stamp: Stamp


def ingest(root: Path, settings: Settings, sources: Sequence[SourceSettings], batch: str | None = None, progress: Progress | None = None) -> IngestReport:
    """Take in what is new; at most one new batch a source. Safe to repeat: a second run adds nothing.

    `batch` names the new batch (with several sources, each further one adds its own name); else it is `<date>-<source>`, UTC.
    Why a source cannot be understood, or is out of reach (NotNow), is in the report's `refused`; the others are taken in.
    Raises OSError when the workspace's disk has no room, or a file of the workspace cannot be used.
    """
    if batch is not None and not BATCH_NAME.match(batch):
        raise DataError(f"{batch!r} cannot name a batch.", why="a name has letters, digits, dots and dashes", next_step="Name it like 2026-11-20-press.")
    remove_torn(root / "data" / "raw" / "*")
    left = journal_unjournalled(root)
    report = IngestReport(batches=[*left], left=left)
    if not sources:
        return report
    known, seen = read_known(root), Seen(root, settings.ingest.max_file_bytes)
    for number, source in enumerate(sources):
        wanted = batch if batch is None or number == 0 else f"{batch}-{source.name}"
        try:
            with fetched(root, source, settings.ingest, seen) as place, begun(root, source.name, place.source) as unfinished:
                _ingest_source(root, settings, source, place, wanted, known, seen, unfinished, report, progress)
        except OSError as problem:
            if is_no_room(problem) or (names_path_in(problem, root) and not _is_of_source(problem, root, source)):
                raise
            there = "Check the path, and that its disk or share is there; then run the same again."
            report.refused[source.name] = NotNow(f"{source.path} cannot be read.", why=problem.strerror or str(problem), next_step=there)
        except DataError as problem:
            report.refused[source.name] = problem
    seen.save()
    return report


def _is_of_source(problem: OSError, root: Path, source: SourceSettings) -> bool:
    """Whether a path of the workspace that a failure names is one of a source that lies in it. A workspace may lie in its source, too."""
    place = Path(os.path.abspath(root / os.path.expanduser(source.path)))
    return place.is_relative_to(os.path.abspath(root)) and names_path_in(problem, place)


def pending(root: Path, settings: Settings, sources: Sequence[SourceSettings], problems: dict[str, str] | None = None) -> int:
    """How many files of the sources were never looked at, changed since, can be read now, were given the label they lacked, or may come in again after
    their batch was dropped; reads no media.

    A source that cannot be read or understood counts 0; the reason is put into `problems`.
    """
    seen, count = Seen(root, settings.ingest.max_file_bytes), 0
    known, dropped = _of_dropped(root)
    for source in sources:
        try:
            if is_s3(source.path):
                count += len(pending_objects(source, settings.ingest, seen, dropped - known.dropped.keys()))
                continue
            place = located(root, source)
            listing = read_layout(source, place)
        except (OSError, VigilError) as problem:
            if problems is not None:
                problems[source.name] = in_one_line(problem)
            continue
        known_as = seen_as(source, place)
        before = [(found, _measured_before(seen, known_as, source, found, stamp_of(found.path))) for found in listing.files]
        again = [found for found, entry in before if entry is None]
        bare = seen.unlabelled(known_as)
        labelled = {found.name for found, entry in before if entry and found.label and found.name in bare}
        count += len(labelled | _let_in([(found, entry) for found, entry in before if entry and entry.sample_id in dropped], source, listing, known))
        count += sum(seen.get(known_as, found.name) is None or os.access(found.path, os.R_OK) for found in again)  # what stays closed or gone is not new
    return count


def _of_dropped(root: Path) -> tuple[Known, set[str]]:
    """What all batches say of the contents of dropped ones, and those of these contents that no other batch holds with a label. Looks are left out."""
    import pyarrow.parquet

    def said(batch: str, columns: Sequence[str], of: Collection[str] | None = None) -> list[dict[str, Any]]:
        with suppress(OSError, ValueError):  # `vigil doctor` names one that is away or cannot be read
            chosen = None if of is None else [("sample_id", "in", of)]
            rows: list[dict[str, Any]] = pyarrow.parquet.read_table(
                root / "data" / "raw" / batch / "manifest.parquet", columns=columns, filters=chosen
            ).to_pylist()
            return rows
        return []

    known, states = Known(), batch_states(Journal(root).events())
    samples = {row["sample_id"] for batch, told in states.items() if told.state == "dropped" for row in said(batch, ["sample_id"])}
    for batch, told in states.items() if samples else ():
        rows = [{**row, "phash": ""} for row in said(batch, SAYING, samples)]
        known.add(root / "data" / "raw" / batch, rows, dropped=told.state == "dropped", again=told.again)
    return known, samples - (known.labels.keys() - known.unlabelled)


def _let_in(of_dropped: Sequence[tuple[Found, Entry]], source: SourceSettings, listing: Listing, known: Known) -> set[str]:
    """The files, by name, whose content a dropped batch holds that lets it in again, or of which something else is said now."""
    readable = [(found, entry.sample_id) for found, entry in of_dropped if not (entry.problem or found.problem)]
    uses: dict[str, str] = {}
    for found, sample_id in readable:
        _note_use(uses, sample_id, found)
    return {
        found.name
        for found, sample_id in readable
        if not known.holds(sample_id, found, _said_now(sample_id, found, source, listing.names_people, uses[sample_id], False), by_people=False)
    }


def _measured_before(seen: Seen, known_as: str, source: SourceSettings, found: Found, stamp: Stamp) -> Entry | None:
    """What is known of exactly this file, None where it has to be looked at again: also where its layout barred it and now does not, or for another reason."""
    entry = seen.unchanged(known_as, found.name, stamp)
    if entry and entry.problem != found.problem and entry.sample_id == refused(f"{source.name}/{found.name}", entry.problem).sample_id:
        return None
    return entry


def _ingest_source(
    root: Path,
    settings: Settings,
    source: SourceSettings,
    place: Place,
    wanted: str | None,
    known: Known,
    seen: Seen,
    unfinished: Begun,
    report: IngestReport,
    progress: Progress | None,
) -> None:
    listing = read_layout(source, place.path)
    refused_names = {found.name for found in place.refused}
    listing.files = [found for found in listing.files if found.name not in refused_names] + list(place.refused)
    if not listing.names_people and (source.identity.rule or "column" * listing.is_table) == "column":
        raise DataError(
            f"Source {source.name} does not say who is in its files.",
            why=f"{'its table' if listing.is_table else 'identity rule `column`: it'} has no column `identity`",
            next_step="Add the column, or say `--identity file` (each file is its own person), folder, pattern:REGEX or unknown (`identity` in params.yaml).",
        )
    if source.identity.rule in ("folder", "pattern") and not listing.is_table and any(found.donor for found in listing.files):
        raise DataError(
            f"Source {source.name} says itself who is in its files, and whose face its fakes have.",
            why=f"identity rule `{source.identity.rule}` would call its people otherwise than its donors: one person, two names, two sides of the split",
            next_step="Leave the rule out; or say `--identity unknown`: what nobody is named in trains, and judges only in the set's own test part.",
        )
    counts = SourceCounts(found=len(listing.files), hidden=listing.hidden, unlisted=listing.unlisted)
    if listing.card:
        counts.card = {"title": listing.card.title, "terms": listing.card.terms, "counts": listing.published}
    by_people = root / ".vigil" / "outbox" in Path(source.path).parents  # never a column `case_id` that somebody else wrote
    taken, contents = _measure_all(source, settings, place, listing, known, seen, unfinished, counts, by_people, progress)
    rows = _rows(taken, source, listing, by_people, report, counts)
    counts.unmatched_videos = _unmatched_videos([row for row, _ in rows], contents, known)
    _name_source_videos([row for row, _ in rows], contents, known)
    recorded = _recorded(root, [row["sample_id"] for row, _ in rows], known)
    for row, _ in rows:
        if before := recorded.get(row["sample_id"]):
            row |= _as_recorded(row, before, known)
    good = [(row, item) for row, item in rows if not row["quarantine"]]
    name = _free_name(root, source, wanted) if any(_is_kept(row) for row, _ in rows) else ""
    for row, _ in rows:
        row["batch"] = name
    to_compare = [(row, item.found.path) for row, item in good]
    counts.judged_by_words = known.mark_near_duplicates(to_compare, settings.ingest.near_duplicate_bits, settings.faces.workers, progress, unfinished)
    if name:
        counts.conflicts += known.spelled_alike((row for row, _ in rows), name)
        _write_batch(root, name, source, rows, settings, counts, known.kept, unfinished, progress)
        known.add(root / "data" / "raw" / name, [row for row, _ in rows])
        report.batches.append(name)
    note_conflicts(root, known.contradicted)
    counts.count([row for row, _ in rows])
    for item in taken:
        seen.put(place.source, item.found.name, Entry(item.stamp, item.measured.sample_id, item.measured.problem))
    seen.put_unlabelled(place.source, (found.name for found in listing.files if not found.label))
    seen.save(at_once=False)
    report.sources[source.name] = counts


def _measure_all(
    source: SourceSettings,
    settings: Settings,
    place: Place,
    listing: Listing,
    known: Known,
    seen: Seen,
    unfinished: Begun,
    counts: SourceCounts,
    by_people: bool,
    progress: Progress | None,
) -> tuple[list[Taken], dict[str, str]]:
    """What is not in a batch yet, measured; what is, counted; and the content of every file, by name. Files that the cache knows are not read."""
    todo: list[tuple[Found, Stamp]] = []
    done: list[Taken] = []
    listed: list[tuple[Found, Stamp, Entry | None]] = []
    uses: dict[str, str] = {}  # the strictest of a content's copies
    disputed: dict[str, list[tuple[Found, Said]]] = {}
    for found in listing.files:
        stamp = place.known.get(found.path) or stamp_of(found.path)
        before = _measured_before(seen, place.source, source, found, stamp)
        if found.problem == "file not found":
            before = before or seen.get(place.source, found.name)
        listed.append((found, stamp, before))
        if before:
            _note_use(uses, before.sample_id, found)

    def is_known(sample_id: str, found: Found, first_look: bool = False) -> bool:
        known.take_back(sample_id, found, source.name)
        now = _said_now(sample_id, found, source, listing.names_people, uses[sample_id], by_people)
        if not known.holds(sample_id, found, now, by_people):
            return False
        counts.known += 1
        if first_look:  # once, as where all copies come together
            counts.conflicts += known.copy_conflicts(sample_id, found, now)
        if sample_id in known.disputed:  # what its copies say together shows once all are measured
            disputed.setdefault(sample_id, []).append((found, now))
        else:
            known.compare(sample_id, found, now, counts)
        return True

    for found, stamp, before in listed:
        if before and is_known(before.sample_id, found):
            continue
        if before and before.problem:
            done.append(Taken(found, Measured(before.sample_id, stamp.bytes, problem=before.problem), stamp))
        else:
            todo.append((found, stamp))
    closed = place.bring([found.path for found, _ in todo if found.path in place.known and not found.problem])
    todo = [(replace(found, problem=closed[found.path]) if found.path in closed else found, stamp) for found, stamp in todo]

    def look(job: tuple[Found, Stamp]) -> Taken:
        found, stamp = job
        name = f"{source.name}/{found.name}"
        if found.problem:
            return Taken(found, refused(name, found.problem), stamp)
        measured = unfinished.get(*_file_of(found, stamp)) if stamp.bytes <= settings.ingest.max_file_bytes else None
        return Taken(found, Measured(*measured) if measured else measure(found.path, name, settings.ingest.max_file_bytes), stamp)

    with ThreadPoolExecutor(max_workers=min(workers_here(), MOST_READERS)) as pool:
        for number, item in enumerate(pool.map(look, todo), start=1):
            done.append(item)
            if item.measured.kind:  # its content was read, and is a picture or a video
                unfinished.put(list(astuple(item.measured)), *_file_of(item.found, item.stamp))
            if progress:
                progress(number, len(todo), source.name)
    for item in done:
        _note_use(uses, item.measured.sample_id, item.found)
    fresh = []
    for item in sorted(done, key=lambda item: item.found.name):
        if is_known(item.measured.sample_id, item.found, first_look=True):
            seen.put(place.source, item.found.name, Entry(item.stamp, item.measured.sample_id, item.measured.problem))
        else:
            fresh.append(item)
    for sample_id, copies in disputed.items():
        settled = len({found.label for found, _ in copies if not found.problem} - {""}) == 1
        for found, now in copies:
            known.compare(sample_id, found, now, counts, settled)
    contents = {composed(found.name): before.sample_id for found, _, before in listed if before}
    return fresh, contents | {composed(item.found.name): item.measured.sample_id for item in done}


def _unmatched_videos(rows: Sequence[Mapping[str, Any]], contents: Mapping[str, str], known: Known) -> list[str]:
    """The source videos that usable fakes of nobody by name say they were made of, where no file has that path, here or in any batch, and no other file is
    of that video. One that is called as files are is also told where further such fakes name it, for a path is misspelt in all of them alike.
    """
    named = Counter(composed(row["source_video"]) for row in rows)
    nameless = [row for row in rows if row["label"] == "fake" and (not row["identity"] or row["identity"].startswith(BY_FILE))]
    by_nameless = Counter(composed(row["source_video"]) for row in nameless)
    fakes = {composed(row["source_video"]) for row in nameless if not row["quarantine"]} - {"", *contents}
    alone = {video for video in fakes if named[video] == (by_nameless[video] if video.lower().endswith(MEDIA_SUFFIXES) else 1)}
    return sorted(alone - known.videos()) if alone else []


def _name_source_videos(rows: Sequence[dict[str, Any]], contents: Mapping[str, str], known: Known) -> None:
    """Have what was made of a file say which one, where no row of this batch has its path: of equal files one has a row, of known content none.

    A path that means a file of its own batch, or the one that had it when the same source brought it, stays as it is.
    """
    here = {row["sample_id"]: row["path"] for row in rows}
    for row in rows:
        video = composed(row["source_video"])
        if not (content := contents.get(video, "")):
            continue
        before = known.said.get(content)
        if content in here:
            if composed(here[content]) != video:
                row["source_video"] = here[content]
        elif before is None or (before.source, composed(before.path)) != (row["source"], video):
            row["source_video"] = content_path(content)


def _file_of(found: Found, stamp: Stamp) -> tuple[str, int, str]:
    """Exactly this file, as an ingest that goes on knows it."""
    return found.name, stamp.bytes, stamp.stamp


def _note_use(uses: dict[str, str], sample_id: str, found: Found) -> None:
    uses[sample_id] = min(uses.get(sample_id, UNSTATED), found.use or UNSTATED, key=STRICTEST.index)


def _said_now(sample_id: str, found: Found, source: SourceSettings, named: bool, use: str, by_people: bool) -> Said:
    """What is said of a file now. Where nobody is named nothing is said, unless that is the rule; the service says nothing but its label."""
    person = identity_of(found, source.identity, named, sample_id)
    words = (person if person or source.identity.rule == "unknown" else None, found.donor or None, found.generator or None, use)
    return Said(source.name, "" if by_people or found.problem else found.name, words)


def _rows(
    taken: list[Taken], source: SourceSettings, listing: Listing, by_people: bool, report: IngestReport, counts: SourceCounts
) -> list[tuple[dict[str, Any], Taken]]:
    """Manifest rows, one a content: of equal files the first stands, one with a label before one without. What it does not say, the others do; where
    they name somebody else that is a conflict. The strictest `use` wins, and two labels mean quarantine.
    """
    rows: dict[str, tuple[dict[str, Any], Taken]] = {}
    for item in sorted(taken, key=lambda one: not one.found.label):
        found, measured = item.found, item.measured
        row = dict.fromkeys(MANIFEST_COLUMNS, "") | {
            "sample_id": measured.sample_id, "path": found.name, "kind": measured.kind or _kind_by_name(found.name), "label": found.label,
            "use": found.use or UNSTATED, "identity": identity_of(found, source.identity, listing.names_people, measured.sample_id),
            "donor": found.donor, "generator": found.generator, "source": source.name, "source_video": found.source_video, "method": found.method,
            "compression": found.compression, "licence": found.licence or (listing.card.terms if listing.card else ""), "consent": found.consent,
            "case_id": found.case_id if by_people else "", "bytes": measured.bytes, "offset": 0, "quarantine": measured.problem, "phash": measured.phash,
            "attributes": found.attributes,
        }  # fmt: skip
        first, _ = rows.setdefault(measured.sample_id, (row, item))
        if first is row:
            continue
        report.copies += 1
        for name in (*PEOPLE, "generator"):
            if row[name] and first[name] and row[name] != first[name]:
                counts.conflicts.append(f"{row['path']} has {name} {row[name]} here; {first['path']}, the same content, {first[name]}, which stands")
        first |= {name: first[name] or row[name] for name in (*DESCRIBED, *(() if first["label"] == "real" else OF_FAKES))}
        first["use"] = min(first["use"], row["use"], key=STRICTEST.index)
        if row["label"] not in ("", first["label"]) and not first["quarantine"]:
            first["quarantine"] = f"{TWO_LABELS} ({first['label']}: {first['path']}, {row['label']}: {row['path']})"
    return list(rows.values())


def _is_kept(row: dict[str, Any]) -> bool:
    """Whether the media of a row go into the batch: people have to look at what has two labels."""
    return not row["quarantine"] or is_disputed(row)


def _recorded(root: Path, samples: Sequence[str], known: Known) -> dict[str, dict[str, Any]]:
    """The earlier rows of those contents that are known, by sample id. The manifest of a batch is read once, however many of them it holds."""
    wanted: dict[str, set[str]] = {}
    for sample_id in samples:
        if batch := known.batch_of(sample_id):
            wanted.setdefault(batch, set()).add(sample_id)
    tables = ((read_manifest(root / "data" / "raw" / batch), mine) for batch, mine in wanted.items())
    return {row["sample_id"]: row for table, mine in tables for row in rows_of(table[table["sample_id"].isin(mine)])}


def _as_recorded(row: dict[str, Any], before: dict[str, Any], known: Known) -> dict[str, Any]:
    """What is kept of the earlier row of a content whose label comes now: who is in it and where it may stand, so that it changes no side.

    What only a dropped batch said, perhaps wrongly, fills the gaps of what is said now; of the same file of the same source nothing is kept.
    """
    if row["sample_id"] not in known.labels and (row["source"], row["path"]) == (before["source"], before["path"]):
        return {}
    first, then = (before, row) if row["sample_id"] in known.labels else (row, before)
    kept = {name: first[name] or then[name] for name in (*DESCRIBED, *(OF_FAKES if row["label"] == "fake" else ()))}
    return kept | {"use": min(row["use"], before["use"], key=STRICTEST.index)}


def identity_of(found: Found, rule: IdentityRule, named: bool, sample_id: str) -> str:
    """Who is in the file by the source's rule, '' when nobody can say.

    A source that names people is believed under rule `file` and where no rule is given, too: a person with two files must not be two.
    """
    by_file = rule.rule in ("", "file")
    if rule.rule == "column" or (by_file and named):
        return found.identity
    if rule.rule == "folder":
        return found.folder
    if rule.rule == "pattern":
        match = re.search(rule.pattern, composed(Path(found.name).name))
        return (match.group(1) or "") if match and match.re.groups else ""
    return f"{BY_FILE}{sample_id[:16]}" if by_file else ""


def _write_batch(
    root: Path,
    name: str,
    source: SourceSettings,
    rows: list[tuple[dict[str, Any], Taken]],
    settings: Settings,
    counts: SourceCounts,
    kept_before: set[str],
    unfinished: Begun,
    progress: Progress | None,
) -> None:
    import pandas as pd

    building = unfinished.batch
    building.mkdir(parents=True, exist_ok=True)
    for stray in {*building.iterdir()} - {*building.glob("media-*.tar")}:
        stray.unlink()  # of a shard that was being packed, or a manifest of other rows
    kept = [(row["sample_id"], item.found.path) for row, item in rows if _is_kept(row)]
    try:
        places = write_media(building, kept, settings.ingest.shard_bytes, progress)
    except DataError as problem:  # a file is still being copied into the source
        for item in (item for row, item in rows if isinstance(problem, ContentChanged) and row["sample_id"] == problem.sample_id):
            unfinished.put(None, *_file_of(item.found, item.stamp))  # whose time stamp need not tell, where it is written by way of memory
        raise NotNow(problem.what, why=problem.why, next_step=problem.next_step) from problem
    for row, _ in rows:
        if row["sample_id"] in places:
            row["shard"], row["offset"], row["bytes"] = places[row["sample_id"]]
    write_manifest(pd.DataFrame([row for row, _ in rows], columns=list(MANIFEST_COLUMNS)), building)
    tally = replace(counts)
    tally.count([row for row, _ in rows])
    theirs = sorted(row["sample_id"] for row, _ in rows if composed(row["identity"]) in kept_before)
    write_json(building / SUMMARY, unnamed({"batch": name, "source": source.name, "samples": tally.added, **tally.as_dict(), KEPT_BEFORE: theirs}))
    final = root / "data" / "raw" / name
    final.parent.mkdir(parents=True, exist_ok=True)
    move_folder(building, final)
    _journal_batch(Journal(root), name, [row for row, _ in rows])


def unjournalled(root: Path) -> list[str]:
    """The batches that nobody heard of: a kill between the rename and the journal's line left them whole. A person's copy of a batch is none."""
    told = batch_states(Journal(root).events())
    return [manifest.parent.name for manifest in manifests(root) if manifest.parent.name not in told and not _is_copy(manifest.parent)]


def _is_copy(folder: Path) -> bool:
    """Whether the rows in a batch's folder are those of another batch."""
    try:
        return {*read_manifest(folder)["batch"]} != {folder.name}
    except DataError:
        return False  # who takes it in says what is wrong with it


def journal_unjournalled(root: Path) -> list[str]:
    """Tell the journal of the batches that a kill left whole; returns their names. The lease must be held."""
    left = unjournalled(root)
    for name in left:
        _journal_batch(Journal(root), name, rows_of(read_manifest(root / "data" / "raw" / name)))
    return left


def _journal_batch(journal: Journal, name: str, rows: list[dict[str, Any]]) -> None:
    quarantined = sum(bool(row["quarantine"]) for row in rows)
    journal.append("batch_added", batch=name, source=rows[0]["source"] if rows else "", samples=len(rows) - quarantined, quarantined=quarantined)


def _free_name(root: Path, source: SourceSettings, wanted: str | None) -> str:
    base = wanted or f"{datetime.now(UTC):%Y-%m-%d}-{source.name}"
    taken = set(batch_states(Journal(root).events())) | {path.name for path in (root / "data" / "raw").glob("*")}
    return next(name for number in range(1, len(taken) + 2) if (name := base if number == 1 else f"{base}-{number}") not in taken)


def _kind_by_name(name: str) -> str:
    """A quarantined file's kind is only what its name claims; the manifest wants one of two words."""
    return "image" if name.lower().endswith(PHOTO_SUFFIXES) else "video"
