"""`vigil batches show`: everything known about one batch, from its manifest, the journal and what waits for review."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workspace.errors import WorkspaceError, printable
from workspace.for_review import is_erased, is_unlabelled, open_conflicts
from workspace.journal import Event, Journal
from workspace.state import BatchState, batch_states, cycles, promoted

MOST_SHOWN = 10


def batch_page(root: Path, batch: str) -> dict[str, Any]:
    """What came in, what was put aside and why, what became of it, and who learned from it. Raises WorkspaceError for an unknown batch."""
    events = Journal(root).events()
    states = batch_states(events)
    if batch not in states:
        raise WorkspaceError(
            f"There is no batch {batch!r}.",
            why=f"the batches are {', '.join(states) or 'none yet'}",
            next_step="Name one of them; `vigil batches list` lists them.",
        )
    return {"batch": batch, **_stands(events, states[batch], batch), **_holds(root, batch)}


def render_batch(page: dict[str, Any]) -> str:
    """The page as text."""
    lines = [f"{page['batch']}: {page['state']}, from source {page['source']}, came in {page['added'][:16]}"]
    for line in page["history"]:
        lines.append(f"  {line['time'][:16]}  {line['state']} by {line['who']}: {line['why']}")
    lines += [f"  {one['cycle']} judged it: {one['outcome'] or 'not finished'}" for one in page["judged_by"]]
    lines += [f"  {one['cycle']} (v{one['version']}) learned {'from it as new' if one['new'] else 'with it at hand for replay'}" for one in page["models"]]
    if page["problem"]:
        return "\n".join(map(printable, [*lines, f"What it holds cannot be told: {page['problem']}", f"Next: {page['next']}"]))
    people = f"{page['identities']} people, {page['unknown_identity']} files of unknown people"
    lines.append(f"{page['samples']} samples, {page['bytes']:,} bytes in {page['shards']} shards; {people}")
    for name in ("label", "use", "kind", "generator", "licence", "consent"):
        if page[f"by_{name}"]:
            lines.append(f"  {name}: " + ", ".join(f"{number} {word}" for word, number in page[f"by_{name}"].items()))
    lines += [f"  quarantined: {number} x {reason}" for reason, number in page["quarantined"].items()]
    if page["near_duplicates"]:
        lines.append(f"  {page['near_duplicates']} look like a file that is known; they are not trained on")
    if page["waiting"]:
        lines.append(f"  {page['waiting']} have no label; they are measured for drift, and wait for people (`vigil serve`)")
    if page["erased"]:
        lines.append(f"  {page['erased']} were erased")
    lines += [f"  conflict: {one['sample_id'][:16]}... {'; '.join(one['said'])}" for one in page["conflicts"][:MOST_SHOWN]]
    if len(page["conflicts"]) > MOST_SHOWN:
        lines.append(f"  and {len(page['conflicts']) - MOST_SHOWN} more conflicts; --json has them all")
    return "\n".join(map(printable, lines))  # generators, sources, licences and people are called as folders and tables of others call them


def _stands(events: Sequence[Event], state: BatchState, batch: str) -> dict[str, Any]:
    """State, history, and the cycles and models that met the batch."""
    mine = [event for event in events if event.kind == "batch_state" and event["batch"] == batch]
    ever, models = promoted(events), []
    accepted = False
    for event in events:
        if event.kind == "batch_state" and event["batch"] == batch:
            accepted = event["state"] == "accepted"
        elif event.kind == "cycle_opened" and event["cycle"] in ever and (accepted or batch in event["judged"]) and batch not in event.get("refused", []):
            model = ever[event["cycle"]]
            models.append({"cycle": model.cycle, "version": model.version, "model_sha256": model.model_sha256, "new": batch in event["judged"]})
    return {
        "state": state.state, "source": state.source, "added": state.added,
        "history": [{"time": event.time, **{name: event[name] for name in ("state", "who", "why")}} for event in mine],
        "judged_by": [{"cycle": one.cycle, "outcome": one.outcome, "reason": one.reason} for one in cycles(events) if batch in one.judged],
        "models": models,
    }  # fmt: skip


def _holds(root: Path, batch: str) -> dict[str, Any]:
    """Counts of the manifest; `problem` says why there are none, `next` what helps."""
    from pipelines.intake import SourceCounts
    from pipelines.rows import rows_of
    from workspace.errors import DataError
    from workspace.manifest import read_manifest

    folder = root / "data" / "raw" / batch
    if not folder.is_dir():
        return {"problem": "the batch is not on this machine", "next": "Run `vigil doctor --pull`."}
    try:
        rows = rows_of(read_manifest(folder))
    except DataError as problem:
        return {"problem": problem.why, "next": problem.next_step}
    counts = SourceCounts()
    counts.count(rows)
    good = [row for row in rows if not row["quarantine"]]
    said = open_conflicts(root)
    shards = [path.stat().st_size for path in folder.glob("media-*.tar")]
    tallies = {f"by_{name}": dict(sorted(Counter(row[name] or "not stated" for row in good).items())) for name in ("kind", "licence", "consent")}
    return {
        "problem": "", "next": "", "samples": counts.added, "bytes": sum(shards), "shards": len(shards), "by_label": counts.by_label, "by_use": counts.by_use,
        "by_generator": counts.by_generator, **tallies, "identities": counts.identities, "unknown_identity": counts.unknown_identity,
        "quarantined": counts.by_reason, "near_duplicates": counts.near_duplicates, "waiting": sum(is_unlabelled(row) for row in rows),
        "erased": sum(is_erased(row) for row in rows),
        "conflicts": [{"sample_id": row["sample_id"], "said": said[row["sample_id"]]} for row in rows if row["sample_id"] in said],
    }  # fmt: skip
