"""What comes in before a cycle is opened: new media from the sources, reviewed cases from the service, and what people had erased taken out."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from workspace.errors import VigilError, in_one_line
from workspace.journal import Journal
from workspace.settings import Settings, SourceSettings
from workspace.state import batch_states


@dataclass(frozen=True, slots=True)
class Taken:
    """What an ingest says for people, and the sources that could not be read."""

    lines: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@task(name="ingest", cache_policy=NO_CACHE)
def take_in(root: Path, settings: Settings, sources: Sequence[SourceSettings]) -> Taken:
    """Take what is new from the sources and from the reviewed cases, and take out what people had erased."""
    from feedback.restored import hand_over_again
    from pipelines.ingest import ingest
    from pipelines.stage import Progress
    from workspace.repository import version_batches

    again = hand_over_again(root, settings)
    every = [*sources, *_reviewed_cases(root, settings)]
    report = ingest(root, settings, every, progress=Progress("ingest"))  # without a source, too: a killed run may have left a batch
    close_outbox(root, settings)
    why = "their batch was dropped so that they come in again, or is not in this workspace, as after a restore from a backup"
    lost = [f"{again} decided cases are handed over again: {why}"] if again else []
    lines = [*lost, *(report.lines() if every or report.batches else ()), *erase_requested(root, settings)]
    version_batches(root)
    return Taken(tuple(lines), tuple(f"{source}: {in_one_line(why)}" for source, why in report.refused.items()))


def _reviewed_cases(root: Path, settings: Settings) -> list[SourceSettings]:
    """Cases that people have decided since the last hand-over, as one more source."""
    from feedback.handover import export_reviewed, source

    folder = export_reviewed(root, settings)
    return [source(folder)] if folder else []


def close_outbox(root: Path, settings: Settings) -> None:
    """Tell the service which of the cases that it handed over are in a batch now, with the label that the batch has from people."""
    from feedback.cases import TRAINING_LABELS
    from feedback.handover import mark_ingested
    from workspace.manifest import manifests, read_manifest

    batch_of: dict[tuple[str, str], str] = {}
    states = batch_states(Journal(root).events())
    for folder in (manifest.parent for manifest in manifests(root)):
        table = read_manifest(folder)
        if folder.name in states and states[folder.name].state == "dropped":  # trains nobody; but what was erased stays erased
            table = table[table["use"] == "never"]
        for sample_id, label, use, case_id in zip(table["sample_id"], table["label"], table["use"], table["case_id"], strict=True):
            for said in TRAINING_LABELS if use == "never" else (label,) if case_id else ():
                batch_of[sample_id, said] = folder.name  # what may never be used takes no label any more
    mark_ingested(root, settings, batch_of)


def erase_requested(root: Path, settings: Settings) -> list[str]:
    """What was erased since the last cycle leaves the training data, here and on the remote; returns a line for each file. Between cycles, under the lease."""
    from feedback.database import Database, exists
    from feedback.forgetting import finish_erasures
    from feedback.restored import erase_again

    if not exists(root, settings):
        return []
    lines: list[str] = []
    with closing(Database(root, settings)) as database:
        erase_again(root, settings, database)
        try:
            for row in finish_erasures(root, database):
                learned = ", ".join(model["cycle"] for model in row["models"])
                lines.append(f"erased {row['sha256'][:16]} on request{f'; the weights of {learned} learned from it and stay' if learned else ''}")
        except VigilError as problem:  # the batches come first: what is left is copies that no stage reads, and the next cycle tries again
            lines.append(str(problem))
    return lines
