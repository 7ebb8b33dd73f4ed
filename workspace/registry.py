"""MLflow's registered model: which version is which, and which one serves.

Models are logged as plain files (safetensors, ONNX, a JSON card), never as a pickle, and each version carries the tags
`model_sha256`, `cycle` and `path`. The aliases champion, challenger and previous follow the journal and can be made again from
it; the alias `champion` decides what serves, and is believed only when the journal knows that model as promoted. Whatever goes
wrong inside MLflow or on the way to it comes out as RegistryUnavailable.
"""

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workspace.errors import ModelFileError, RegistryUnavailable, SettingsError, VigilError, WorkspaceError, shown_address
from workspace.journal import Journal
from workspace.layout import Workspace
from workspace.lease import hold_lock
from workspace.modelfiles import MODEL_FILES, verify_model_files, verify_promoted
from workspace.owning import CYCLE_TAG, PLACE_TAG, REGISTERED_TAG, SHA256_TAG, find_model, is_ours, marks, refuse_anothers
from workspace.quiet import set_quiet_environment
from workspace.settings import RegistrySettings, Settings
from workspace.state import Champion, candidates, champion, previous, promoted, rolled_back_from, was_rolled_back

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.entities.model_registry import ModelVersion
    from sqlalchemy.engine import URL

ALIASES = ("champion", "challenger", "previous")
ALIAS_SECONDS = 60.0  # that one waits for another who sets them
DATABASE_SECONDS = 120.0  # that one waits for another who makes it
MEND_DATABASE = "Run `vigil doctor --fix`: it sets that file aside, and models and aliases are registered anew from the journal."
OPEN_DATABASE = "Let this user read and write that file and its folder, then run the command again."
OUTCOME_TAG = "vigil.outcome"  # of a run that shows a cycle
DRIVERS = {"postgresql": "postgresql+psycopg"}
REACH_SECONDS = 10
SERVICE_TABLE = "detections"  # in the feedback service's database
ARTIFACTS = "model"
# columns of MLflow's database that hold a whole path, and those that say of which experiment or model
PLACES = (
    ("experiments", "artifact_location", "experiment_id"), ("runs", "artifact_uri", "experiment_id"), ("logged_models", "artifact_location", "experiment_id"),
    ("model_versions", "source", "name"), ("model_versions", "storage_location", "name"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One version of the registered model. `path` is the model's folder, relative to the workspace; `source` is where MLflow keeps its copy."""

    version: str
    model_sha256: str
    path: str
    cycle: str
    source: str


def database_file(uri: str) -> Path | None:
    """The SQLite file that an address names, whatever options follow it; None for a server's."""
    from sqlalchemy.engine import make_url

    name = make_url(uri).database if uri.startswith("sqlite:") else None
    return None if name is None else Path(name)


def own_database(root: Path, registry: RegistrySettings) -> Path | None:
    """The SQLite file that is this workspace's registry, there or not yet; None where a server is, or another's file."""
    named = database_file(registry.tracking_uri)
    return None if named is None or named.is_absolute() else Workspace(root).root / named


def tracking_uri(root: Path, registry: RegistrySettings) -> str:
    """The registry's address; a relative sqlite file lies inside the workspace, and `postgresql://` is spoken to by the driver that comes with Vigil."""
    from sqlalchemy.engine import make_url

    if (own := own_database(root, registry)) is not None:
        return make_url(registry.tracking_uri).set(database=str(own)).render_as_string(hide_password=False)
    scheme, rest = registry.tracking_uri.split("://", 1)
    return f"{DRIVERS.get(scheme, scheme)}://{rest}"


def is_closed(root: Path, registry: RegistrySettings) -> bool:
    """Whether the workspace's own database is there, and this user may not read and write it, or make files beside it as SQLite does."""
    path = own_database(root, registry)
    return path is not None and path.is_file() and not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK))


def damage(root: Path, settings: Settings) -> str:
    """Why the workspace's own database can be used no more, as SQLite says it; '' where it is whole, not there, or not of this workspace alone."""
    path = own_database(root, settings.registry)
    return "" if path is None or not path.is_file() else damage_of(path)


def damage_of(path: Path) -> str:
    """What is damaged in an SQLite file, in SQLite's words; '' where nothing is, or it is busy."""
    try:
        with closing(sqlite3.connect(path, timeout=DATABASE_SECONDS)) as connection:
            said = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])  # quick_check compares no index with its table
    except sqlite3.DatabaseError as problem:
        if problem.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):  # one that is busy is not damaged
            return ""
        said = str(problem)
    return "" if said == "ok" else f"{path.name}: {' '.join(said.split())}"


def set_aside_damaged(root: Path, settings: Settings) -> str:
    """Move a damaged database out of the way, to be looked into; returns its new name, '' where nothing is damaged. The next to ask for one makes it anew."""
    path = own_database(root, settings.registry)
    if path is None or not damage(root, settings):
        return ""
    aside = next(name for number in count(1) if not (name := path.with_name(f"{path.name}.damaged-{number}")).exists())
    path.replace(aside)
    for tail in ("-wal", "-shm", "-journal"):  # belong to that file, and would spoil the next
        path.with_name(path.name + tail).unlink(missing_ok=True)
    return aside.name


@contextmanager
def open_registry(root: Path, settings: Settings, *, writes: bool = True) -> Iterator["MlflowClient"]:
    """A client of the workspace's registry. Any failure inside becomes RegistryUnavailable; a VigilError passes through.

    Raises SettingsError where what is to be used there, or (`writes`) changed, is another's (workspace/owning.py).
    """
    uri, own = tracking_uri(root, settings.registry), own_database(root, settings.registry)
    try:
        _quieten()
        _refuse_server(uri)
        _make_database(uri, Workspace(root).artifacts)
        client = _client(uri)
        if own is None:  # no file of this workspace alone
            refuse_anothers(client, root, settings.registry, writes=writes)
        else:
            _bring_own_home(own, Workspace(root).artifacts, settings.registry.experiment)
        yield client
    except VigilError:
        raise
    except Exception as problem:  # MLflow, SQLAlchemy, requests, the file system: the caller can do the same about all of them
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        wrong, shown = damage(root, settings), shown_address(uri)
        check = "Check `registry.tracking_uri` in params.yaml and that it runs (`vigil doctor`), then run the command again."
        raise RegistryUnavailable(
            "The model registry did not answer. What was decided stands in the journal (`vigil status`); nothing was lost.",
            why=wrong or f"{shown}: {said[0].replace(uri, shown)[:300]}",
            next_step=OPEN_DATABASE if is_closed(root, settings.registry) else MEND_DATABASE if wrong else check,
        ) from problem


def _bring_own_home(database: Path, artifacts: Path, experiment: str) -> None:
    """Have the workspace's own database name `artifacts` where it names the folder of another place: of before a move, or of what this one is a copy of.

    MLflow notes whole paths, once. A copy would write into its original, where no erasure looks; and nothing could be logged where that is gone.
    So a workspace is to be opened by one path at a time.
    """
    if not database.is_file():
        return
    with closing(sqlite3.connect(database, timeout=DATABASE_SECONDS)) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
    was = str(found[0]) if found else ""
    if was and was != str(artifacts) and Path(was).name == artifacts.name:
        from sqlalchemy.engine import URL

        _bring_home(URL.create("sqlite", database=str(database)), was, str(artifacts), {})


def _bring_home(uri: "str | URL", was: str, now: str, of: Mapping[str, Any]) -> None:
    """Have MLflow's database name the folder `now` where it names `was`; `of`: which experiment and model alone, where it is a database of several."""
    from sqlalchemy import String, column, create_engine, func, literal, table, update
    from sqlalchemy.pool import NullPool

    waits = {"timeout": DATABASE_SECONDS} if str(uri).startswith("sqlite:") else {}
    with create_engine(uri, poolclass=NullPool, connect_args=waits).begin() as connection:
        for name, place, key in PLACES:
            path = column(place, String)
            moved = update(table(name, path)).where(func.substr(path + "/", 1, len(was) + 1) == f"{was}/")
            connection.execute((moved.where(column(key) == of[key]) if of else moved).values({place: literal(now) + func.substr(path, len(was) + 1)}))


def _quieten() -> None:
    set_quiet_environment()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the defaults try for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # its first import sets what is set here
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


@cache
def _refuse_server(uri: str) -> None:
    """Raise what the driver says where a database server does not let anybody in: MLflow itself tries ten times, for a minute and a half.

    Raises SettingsError where the database is the feedback service's: MLflow would make tables there, and then fail. Once a process and address:
    MLflow looks so when it first opens a store, which it keeps.
    """
    if not uri.startswith("postgresql+psycopg://"):
        return
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    with create_engine(uri, poolclass=NullPool, connect_args={"connect_timeout": REACH_SECONDS}).connect() as connection:
        if inspect(connection).has_table(SERVICE_TABLE):
            raise SettingsError(
                "The registry cannot be in this database. Nothing was changed.",
                why=f"{shown_address(uri)} is the feedback service's",
                next_step="Make MLflow a database of its own (`createdb mlflow`), and name that in params.yaml (registry.tracking_uri).",
            )


def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make_database(uri: str, artifacts: Path) -> None:
    """A SQLite file that is not there yet appears whole or not at all: MLflow makes it in some fifty steps, and one that was cut short between
    two of them can neither be used nor finished. Other databases are not touched."""
    path = database_file(uri)
    if path is None or path.exists():
        return
    with hold_lock(path.with_name(f"{path.name}.lock"), "database", DATABASE_SECONDS, "The registry's database could not be made."):
        if path.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        unfinished = path.with_name(f"{path.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        store = SqlAlchemyStore(f"sqlite:///{unfinished / path.name}", str(artifacts))
        store.engine.dispose()
        os.replace(unfinished / path.name, path)
        shutil.rmtree(unfinished, ignore_errors=True)


def prepare(root: Path, settings: Settings) -> str:
    """Make database, experiment and registered model where they are missing; returns the experiment's id. A new database takes some seconds."""
    with open_registry(root, settings) as client:
        model = find_model(client, settings.registry.model_name) or client.create_registered_model(settings.registry.model_name)
        shared = own_database(root, settings.registry) is None
        tags = marks(root, shared=shared)
        for tag, value in tags.items() - model.tags.items():
            client.set_registered_model_tag(model.name, tag, value)
        found = client.get_experiment_by_name(settings.registry.experiment)
        local = not settings.registry.tracking_uri.startswith("http")  # a server keeps artifacts where it was told to
        folder = str(Workspace(root).artifacts) if local else None
        if found is None:
            return str(client.create_experiment(settings.registry.experiment, artifact_location=folder, tags=tags))
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if shared and folder and (was := _moved_from(found, folder)):
            of = {"experiment_id": int(found.experiment_id), "name": model.name}
            _bring_home(tracking_uri(root, settings.registry), was, folder, of)
        for tag, value in tags.items() - found.tags.items():
            client.set_experiment_tag(found.experiment_id, tag, value)
        return str(found.experiment_id)


def _moved_from(experiment: "Experiment", folder: str) -> str:
    """Where the workspace kept its artifacts when it last wrote to the experiment, as the tags of that say; '' where it was not moved since.

    A folder that somebody else chose is none of a workspace's place, and stays.
    """
    place = experiment.tags.get(PLACE_TAG, "").partition(":")[2]
    was = str(Path(place) / Path(folder).name)
    return was if place and experiment.artifact_location == was != folder else ""


def published_run(client: "MlflowClient", experiment_id: str, cycle: str) -> str:
    """The id of the run that shows the whole cycle, '' when there is none. One that a kill cut short shows a part, and is none."""
    runs = client.search_runs([experiment_id], f"tags.{CYCLE_TAG} = '{cycle}' and attributes.status = 'FINISHED'", order_by=["attributes.start_time ASC"])
    return next((str(run.info.run_id) for run in runs if OUTCOME_TAG in run.data.tags), "")


def refuse_copy(root: Path, settings: Settings) -> None:
    """Raise SettingsError where another copy of this workspace leads what the registry shows: then no `vigil doctor --fix` here may set it right."""
    with open_registry(root, settings):
        pass


def find_running(root: Path, settings: Settings) -> list[str]:
    """The ids of the runs that say RUNNING: of a process at work, or of one that was killed."""
    with open_registry(root, settings) as client:
        return _running(client, root, settings)


def end_running(root: Path, settings: Settings) -> list[str]:
    """Mark the runs that a killed process left RUNNING as KILLED; returns their ids. Call while holding the lease."""
    with open_registry(root, settings) as client:
        runs = _running(client, root, settings)
        for run in runs:
            client.set_terminated(run, "KILLED")
        return runs


def _running(client: Any, root: Path, settings: Settings) -> list[str]:
    experiment = client.get_experiment_by_name(settings.registry.experiment)
    runs = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'") if experiment else []
    own = own_database(root, settings.registry) is not None
    return [str(run.info.run_id) for run in runs if own or is_ours(run)]


def register(root: Path, settings: Settings, model_dir: Path, *, cycle: str, run_id: str = "") -> RegisteredModel:
    """Log the model in `model_dir` to the run `run_id`, else to that of its cycle, or where there is none to one of its own; register it as a version.

    Safe to repeat: the version of this cycle and sha256 is returned when there is one. Raises ModelFileError for changed
    files, RegistryUnavailable.
    """
    space = Workspace(root)
    model_dir = space.root / model_dir
    sha256 = str(verify_model_files(model_dir)["model_sha256"])
    tags = {SHA256_TAG: sha256, CYCLE_TAG: cycle, "path": space.relative(model_dir)}
    experiment_id = prepare(root, settings)
    with open_registry(root, settings) as client:
        if known := _find_version(client, settings, cycle, sha256):
            return known
        run_id = run_id or published_run(client, experiment_id, cycle)
        own_run = "" if run_id else client.create_run(experiment_id, tags={REGISTERED_TAG: cycle}, run_name=f"model of {cycle}").info.run_id
        run_id = run_id or own_run
        for name in (name for name in MODEL_FILES if (model_dir / name).is_file()):
            client.log_artifact(run_id, str(model_dir / name), ARTIFACTS)
        if own_run:
            client.set_terminated(own_run, "FINISHED")
        source = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACTS}"
        return _registered(client.create_model_version(settings.registry.model_name, source=source, run_id=run_id, tags=tags, description=f"Cycle {cycle}"))


def set_aliases(root: Path, settings: Settings, aliases: Mapping[str, str]) -> None:
    """Point each alias at a version; an empty version removes the alias. A blind overwrite: only promotion and rebuild_aliases call it."""
    if unknown := set(aliases) - set(ALIASES):
        raise ValueError(f"unknown aliases {sorted(unknown)}; there are {ALIASES}")
    name = settings.registry.model_name
    with open_registry(root, settings) as client:
        for alias, version in aliases.items():
            if version:
                client.set_registered_model_alias(name, alias, version)
            elif _alias_version(client, name, alias):
                client.delete_registered_model_alias(name, alias)


def read_alias(root: Path, settings: Settings, alias: str = "champion") -> RegisteredModel | None:
    """The version that an alias points to, or None when it is not set. Raises RegistryUnavailable."""
    with open_registry(root, settings, writes=False) as client:
        found = _alias_version(client, settings.registry.model_name, alias)
        return _registered(found) if found else None


def rebuild_aliases(root: Path, settings: Settings) -> dict[str, str]:
    """Make the aliases follow the journal, registering models that the registry lacks; returns {alias: version or ''}.

    champion and previous as the journal says; challenger is the latest candidate unless it was promoted. Safe to repeat, and one at a
    time: a rollback does not wait for a running cycle, and whoever comes last reads the journal last. Raises RegistryUnavailable, and
    ModelFileError when the champion must be registered and its files are missing or changed; the other two aliases are then left unset.
    """
    with hold_lock(Path(root).resolve() / ".vigil/locks/aliases.lock", "aliases", ALIAS_SECONDS, "The registry's aliases could not be set."):
        return _rebuild_aliases(root, settings)


def _rebuild_aliases(root: Path, settings: Settings) -> dict[str, str]:
    events = Journal(root).events()
    latest = list(candidates(events).values())[-1:]
    wanted = {"champion": champion(events), "previous": previous(events), "challenger": latest[0] if latest and not latest[0].version else None}
    versions = {}
    prepare(root, settings)
    for alias, model in wanted.items():
        try:
            versions[alias] = _version_of(root, settings, model) if model else ""
        except ModelFileError:
            if alias == "champion":
                raise
            versions[alias] = ""
    set_aliases(root, settings, versions)
    return versions


def _version_of(root: Path, settings: Settings, model: Champion) -> str:
    """The version of a journalled model, registered now where the registry lacks it (its files may be elsewhere by then)."""
    with open_registry(root, settings) as client:
        known = _find_version(client, settings, model.cycle, model.model_sha256)
    if known is None:
        verify_promoted(Workspace(root).root, model)
        known = register(root, settings, Path(model.path), cycle=model.cycle)
    return known.version


def serving_model(root: Path, settings: Settings) -> Path:
    """The folder of the model that the alias `champion` names, its files checked; fetched from the registry when the workspace lacks it.

    After a rollback the journal decides: an alias that could not be moved then must not bring back what was rolled back from.
    Raises WorkspaceError when the alias is not set or names a model that the journal does not know as promoted (SettingsError where that is
    for another copy of the workspace to mend), ModelFileError when the files are not that model with that card, RegistryUnavailable.
    """
    space, events = Workspace(root), Journal(root).events()
    found = read_alias(root, settings, "champion")
    leading = champion(events)
    if found is None:
        away = leading is not None and not (space.root / leading.path).exists()
        raise WorkspaceError(
            "No model serves.",
            why=f"the alias `champion` is not set in the registry{', and the model that leads is not on this machine, as in a fresh clone' if away else ''}",
            next_step="Run `vigil doctor --pull`." if away else "Run `vigil retrain`; after a lost registry, `vigil doctor --fix`.",
        )
    known = promoted(events).get(found.cycle)
    if known is None or known.model_sha256 != found.model_sha256:
        refuse_copy(root, settings)
        raise WorkspaceError(
            "Refused the model that the alias `champion` names.",
            why=f"version {found.version} ({found.model_sha256[:12] or 'no sha256'}, cycle {found.cycle or '?'}) was never promoted in the journal",
            next_step="Run `vigil doctor --fix`: it sets the aliases from the journal.",
        )
    serves = leading if leading and (was_rolled_back(events) or known.cycle in rolled_back_from(events)) else known
    folder = space.root / serves.path
    if serves == known and not folder.exists():
        _download(root, settings, found, known, folder)
    verify_promoted(space.root, serves)
    return folder


def _download(root: Path, settings: Settings, model: RegisteredModel, known: Champion, folder: Path) -> None:
    """Fetch a model's files beside `folder`, check them, then move them there whole."""
    import shutil
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        with open_registry(root, settings, writes=False):
            from mlflow.artifacts import download_artifacts

            fetched = Path(download_artifacts(artifact_uri=model.source, dst_path=scratch, tracking_uri=tracking_uri(root, settings.registry)))
        try:
            verify_model_files(fetched, known.model_sha256, card_sha256=known.card_sha256)
        except ModelFileError as problem:
            raise ModelFileError(
                f"Refused version {model.version} of the registry. Nothing was kept.", why=problem.why, next_step="Restore the model with `dvc pull`."
            ) from problem
        if not folder.exists():
            shutil.move(str(fetched), str(folder))


def _alias_version(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as problem:
        if problem.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE") and "not found" in str(problem).lower():
            return None
        raise


def _find_version(client: "MlflowClient", settings: Settings, cycle: str, sha256: str) -> RegisteredModel | None:
    found = [_registered(version) for version in client.search_model_versions(f"name = '{settings.registry.model_name}' and tags.{SHA256_TAG} = '{sha256}'")]
    return next((model for model in sorted(found, key=lambda model: int(model.version)) if model.cycle == cycle), None)


def _registered(version: Any) -> RegisteredModel:
    tags = version.tags or {}
    return RegisteredModel(str(version.version), tags.get(SHA256_TAG, ""), tags.get("path", ""), tags.get(CYCLE_TAG, ""), version.source or "")
