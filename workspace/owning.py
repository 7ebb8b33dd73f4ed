"""Whose the registry's model and experiment are, where others can write there too: a server, or a file outside the workspace.

Both carry as tags the workspace, the place that it was last written from, and the last line that its journal had by then. A copy is the
same workspace by its first line; what tells it from the other are lines that it lacks (the clone of an old tag, two that went on apart),
or that the other still lies where it was. A copy on another machine which lacks nothing is taken for the workspace, moved there: once it
has gone on, the one that was left is refused.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workspace.errors import SettingsError, shown_address
from workspace.journal import Journal
from workspace.layout import place_of
from workspace.settings import RegistrySettings
from workspace.state import workspace_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

OWNER_TAG, PLACE_TAG, JOURNAL_TAG = "vigil.workspace", "vigil.place", "vigil.journal"
SHA256_TAG = "model_sha256"  # of every version that is registered
CYCLE_TAG = "cycle"
REGISTERED_TAG = "registered"  # of a run that only holds a cycle's model
SEARCH_TAG = "search"  # of the runs of `vigil search`
NAMES_OF_ITS_OWN = "Give this one names of its own in params.yaml (registry.model_name and registry.experiment), then run `vigil doctor --fix`."


def marks(root: Path, shared: bool) -> dict[str, str]:
    """The tags that say whose a model or experiment is, none before the workspace's first event; `shared`: and how far it has come, and where."""
    events = Journal(root).events()
    if not events:
        return {}
    return {OWNER_TAG: workspace_id(events)} | ({PLACE_TAG: place_of(root), JOURNAL_TAG: events[-1].hash} if shared else {})


def is_ours(run: Any) -> bool:
    """Whether Vigil made this run: others may log beside it."""
    return not {CYCLE_TAG, REGISTERED_TAG, SEARCH_TAG}.isdisjoint(run.data.tags)


def find_model(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    """The registered model of this name, if there is one."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def refuse_anothers(client: "MlflowClient", root: Path, registry: RegistrySettings, *, writes: bool) -> None:
    """Raise SettingsError where model or experiment of these names are another's: each would move the other's alias and take its runs for its own.

    A copy of the workspace may read what the other has there, and write nothing.
    """
    model, experiment = find_model(client, registry.model_name), client.get_experiment_by_name(registry.experiment)
    tags = [found.tags for found in (model, experiment) if found is not None]
    events = Journal(root).events()  # after the tags: who writes there has journalled first
    mine, known = workspace_id(events), {event.hash for event in events}
    names, why = f"{shown_address(registry.tracking_uri)} has `{registry.model_name}` or `{registry.experiment}`", ""
    if any(found.get(OWNER_TAG, mine) != mine for found in tags):
        why = f"{names} from a workspace with another journal"
    elif (model and OWNER_TAG not in model.tags and _has_others_versions(client, registry.model_name)) or (
        experiment and OWNER_TAG not in experiment.tags and _has_others_runs(client, experiment.experiment_id)
    ):
        why = f"{names} with models or runs that Vigil did not make"
    if why:
        raise SettingsError(
            "The registry's model or experiment belongs to another workspace or team. Nothing there was changed.", why=why, next_step=NAMES_OF_ITS_OWN
        )
    if writes and (why := next((why for found in tags if (why := _of_another_copy(found, root, known))), "")):
        raise SettingsError(
            "The registry's model or experiment belongs to another copy of this workspace. Nothing there was changed.",
            why=f"{names} from {why}",
            next_step=f"{NAMES_OF_ITS_OWN} Its models can be used without: `vigil score --model models/CYCLE`."
            " A clone that only lags behind: bring its journal up to date (`git pull`)."
            " Where the other is used no more: rename its model and experiment on the server, or move its folder, and this one takes its place.",
        )


def _of_another_copy(tags: Mapping[str, str], root: Path, known: set[str]) -> str:
    """Where the other copy is, and what shows that there is one; '' where it was this workspace that wrote these tags."""
    place = tags.get(PLACE_TAG, "")
    if (last := tags.get(JOURNAL_TAG)) and last not in known:
        return f"{place}, whose journal has lines that this one lacks"
    return f"{place}, which is still there" if place and _lies_beside(root, Path(place.partition(":")[2])) else ""


def _lies_beside(root: Path, other: Path) -> bool:
    """Whether another folder than this one holds the same workspace: their journals begin alike."""
    here, there = root / "journal.jsonl", other / "journal.jsonl"
    try:
        with here.open("rb") as mine, there.open("rb") as theirs:
            return mine.readline() == theirs.readline() and not os.path.samefile(here, there)
    except OSError:  # mostly there is none: it was moved, or is on another machine
        return False


def _has_others_versions(client: "MlflowClient", name: str) -> bool:
    return any(SHA256_TAG not in version.tags for version in _pages(lambda token: client.search_model_versions(f"name = '{name}'", page_token=token)))


def _has_others_runs(client: "MlflowClient", experiment_id: str) -> bool:
    return any(not is_ours(run) for run in _pages(lambda token: client.search_runs([experiment_id], page_token=token)))


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """All that a search finds, which MLflow gives page by page."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return
