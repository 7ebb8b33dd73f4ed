"""`vigil ingest`: sources named on the command line, or those of the settings."""

import os
from typing import Any

import typer

from vigil.words import parse_columns, parse_identity, parse_labels, source_name
from workspace.blocks import mistakes_of
from workspace.lease import lease
from workspace.settings import Settings, SourceSettings


def named_sources(
    paths: list[str], layout: str, identity: str, name: str, labels: list[str], columns: list[str] | None = None, split: str = "official"
) -> list[SourceSettings]:
    """The sources that a person named. Raises a usage error for what cannot be one."""
    if name and len(paths) > 1:
        raise typer.BadParameter("--name goes with one source")
    from pydantic import ValidationError

    found = []
    for path in paths:
        raw: dict[str, Any] = {
            "name": name or source_name(path),
            "path": path if "://" in path else os.path.abspath(os.path.expanduser(path)),
            "layout": layout,
            "identity": parse_identity(identity, path),
            "label_map": parse_labels(labels),
            "columns": parse_columns(columns or []),
            "split": split,
        }
        try:
            found.append(SourceSettings.model_validate(raw))
        except ValidationError as problem:
            raise typer.BadParameter("; ".join(mistakes_of(problem))) from problem
    return found


def ingest_sources(root: Any, settings: Settings, named: list[SourceSettings]) -> list[Any]:
    """Ingest each named source, or else those of the settings, under the workspace's lease; one report a source."""
    from pipelines.ingest import ingest
    from pipelines.stage import Progress
    from workspace.errors import DataError
    from workspace.journal import Journal
    from workspace.repository import dvc_add
    from workspace.state import batch_states

    sources = named or list(settings.ingest.sources)
    if not sources:
        raise DataError(
            "There is nothing to ingest.", why="no source was named and params.yaml lists none", next_step="Run `vigil ingest FOLDER`, or fill ingest.sources."
        )
    with lease(root, "ingest"):
        reports = [ingest(root, settings, [source], progress=Progress("ingest")) for source in sources]
        folders = [root / "data" / "raw" / batch for batch in batch_states(Journal(root).events())]
        dvc_add(root, [folder for folder in folders if folder.exists() and not folder.with_name(f"{folder.name}.dvc").exists()])
    return reports
