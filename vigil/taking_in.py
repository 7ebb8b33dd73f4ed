"""`vigil ingest`: sources named on the command line, or those of the settings."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vigil.words import parse_columns, parse_identity, parse_labels, source_name
from workspace.blocks import mistakes_of
from workspace.lease import lease
from workspace.settings import Settings, SourceSettings

if TYPE_CHECKING:
    from pipelines.intake import IngestReport


def named_sources(
    paths: list[str],
    layout: str,
    identity: str,
    name: str,
    labels: list[str],
    columns: list[str] | None = None,
    split: str = "official",
    *,
    numbered: bool = False,
) -> list[SourceSettings]:
    """The sources that a person named. Raises a usage error for what cannot be one, and for what is said of a source where none is named.

    `numbered`: one whose path makes no name is called source-1, source-2 ... by its place.
    """
    if name and len(paths) > 1:
        raise typer.BadParameter("--name goes with one source")
    if not paths and (identity or name or labels or columns or layout != "auto" or split != "official"):
        raise typer.BadParameter(
            "--layout, --identity, --name, --label, --column and --split are said of a source that is named here; those of params.yaml say their own"
        )
    from pydantic import ValidationError

    found = []
    for number, path in enumerate(paths, start=1):
        if not path.strip():
            raise typer.BadParameter("the path of a source is empty; the folder that you are in is `.`")
        raw: dict[str, Any] = {
            "name": name or source_name(path, f"source-{number}" if numbered else ""),
            "path": path if "://" in path else os.path.abspath(os.path.expanduser(path)),
            "layout": layout,
            "identity": parse_identity(identity),
            "label_map": parse_labels(labels),
            "columns": parse_columns(columns or []),
            "split": split,
        }
        try:
            found.append(SourceSettings.model_validate(raw))
        except ValidationError as problem:
            raise typer.BadParameter("; ".join(mistakes_of(problem))) from problem
    return found


def ingest_sources(root: Path, settings: Settings, named: list[SourceSettings], must_be_there: bool = False) -> "list[IngestReport]":
    """Ingest each named source, or else those of the settings, under the workspace's lease; one report a source.

    Of several, one that cannot be used is a problem of its report, and the others are taken in. Raises DataError where it is the only one;
    where that is out of reach, only with `must_be_there`: it may be there at the next run.
    """
    from pipelines.ingest import ingest
    from pipelines.intake import NotNow
    from pipelines.stage import Progress
    from workspace.errors import DataError
    from workspace.repository import refuse_linked, version_batches

    sources = named or list(settings.ingest.sources)
    if not sources:
        raise DataError(
            "There is nothing to ingest.", why="no source was named and params.yaml lists none", next_step="Run `vigil ingest FOLDER`, or fill ingest.sources."
        )
    with lease(root, "ingest"):
        refuse_linked(root)
        reports = [ingest(root, settings, [source], progress=Progress("ingest")) for source in sources]
        for problem in reports[0].refused.values() if len(sources) == 1 else ():
            if must_be_there or not isinstance(problem, NotNow):
                raise problem
        version_batches(root)
    return reports
