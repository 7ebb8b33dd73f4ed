"""A registry that others can write to: what is another's there, a copy's of this workspace too, is left alone."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from flows.health import examine
from flows.leftovers import left_behind
from tests.system.world import change_settings, git
from tests.workspace.test_registry import ONE, THREE, TWO, add_model, make_settings
from tests.workspace.worlds import wait_until
from vigil.deciding import roll_back
from vigil.mending import examine_and_fix
from vigil.opening import open_workspace
from workspace import registry
from workspace.errors import SettingsError
from workspace.journal import Journal
from workspace.repository import commit
from workspace.settings import Settings, load_settings
from workspace.state import champion


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of a real one, which keeps everything in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    places = ("--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder / "artifacts"))
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "server.log").read_text()
        try:
            return httpx.get(f"{address}/health").is_success
        except httpx.HTTPError:
            return False

    without = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # processes that nothing here asks for
    with (folder / "server.log").open("w") as log, subprocess.Popen([sys.executable, *words, *places], stdout=log, stderr=log, env=without) as process:
        try:
            wait_until(answers, seconds=120)
            yield address
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database takes MLflow seconds: made once, copied for each test."""
    path = tmp_path_factory.mktemp("template") / "shared.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def shared(template: Path, tmp_path: Path) -> Settings:
    """The settings of workspaces that share a database which is none of theirs."""
    shutil.copy(template, tmp_path / "shared.db")
    return make_settings(tracking_uri=f"sqlite:///{tmp_path / 'shared.db'}")


def client_of(settings: Settings) -> MlflowClient:
    """What another team works with."""
    return MlflowClient(settings.registry.tracking_uri)


@pytest.mark.slow
def test_the_clone_of_an_old_tag_leaves_productions_champion_on_a_server(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told to run `vigil doctor --fix`, and that put production back to the old model, without a word there."""
    monkeypatch.setattr("flows.environment.prepare_environment", lambda root: None)  # it would stay in this process
    shutil.copy(template, tmp_path / "server.db")
    root, old = tmp_path / "w", tmp_path / "old"
    open_workspace(root, "demo")
    with mlflow_server(tmp_path) as address:
        change_settings(root, {"registry": {"tracking_uri": address}})
        settings = load_settings(root / "params.yaml")
        first = add_model(root, ONE)
        commit(root, "the first", f"vigil/{ONE}")
        second = add_model(root, TWO, first)
        registry.rebuild_aliases(root, settings)
        git(tmp_path, "clone", "-q", "-b", f"vigil/{ONE}", str(root), str(old))
        shutil.copytree(root / "models" / ONE, old / "models" / ONE)
        with pytest.raises(SettingsError, match="another copy") as told:
            examine_and_fix(old, settings, fix=True, push=False)
        assert registry.read_alias(root, settings).model_sha256 == second and "Nothing there was changed" in told.value.what


def test_what_a_copy_that_stayed_behind_is_told_helps_it(shared: Settings, tmp_path: Path) -> None:
    root, old = tmp_path / "w", tmp_path / "old"
    open_workspace(root, "demo")
    first = add_model(root, ONE)
    shutil.copytree(root, old)
    add_model(root, TWO, first)
    registry.rebuild_aliases(root, shared)
    with pytest.raises(SettingsError, match="another copy") as told:
        registry.serving_model(old, shared)
    assert "registry.model_name" in told.value.next_step and "--model models/" in told.value.next_step
    (row,) = [row for row in examine(old, shared) if row["check"] in ("registry", "alias", "champion")]
    assert not row["ok"] and "registry.model_name" in row["next"]
    own = make_settings(tracking_uri=shared.registry.tracking_uri, model_name="old", experiment="old")
    registry.rebuild_aliases(old, own)
    assert registry.serving_model(old, own) == old / "models" / ONE and registry.serving_model(root, shared) == root / "models" / TWO
    assert [row["ok"] for row in examine(old, own) if row["check"] in ("registry", "alias")] == [True]
    client = client_of(shared)
    client.rename_registered_model("detector", "detector before the restore")
    client.rename_experiment(client.get_experiment_by_name("vigil").experiment_id, "vigil before the restore")
    registry.rebuild_aliases(old, shared)
    assert registry.serving_model(old, shared) == old / "models" / ONE, "it takes the other's place once those names are free"


def test_a_copy_beside_its_original_may_read_and_decides_for_itself_alone(shared: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.environment.prepare_environment", lambda root: None)  # it would stay in this process
    monkeypatch.setattr("workspace.repository.commit_journal", lambda root, why: None)
    root, copy = tmp_path / "w", tmp_path / "copy"
    root.mkdir()
    add_model(root, TWO, add_model(root, ONE))
    experiment = registry.prepare(root, shared)
    registry.rebuild_aliases(root, shared)
    run = client_of(shared).create_run(experiment, tags={"cycle": THREE}).info.run_id
    shutil.copytree(root, copy)
    assert registry.serving_model(copy, shared) == copy / "models" / TWO and not left_behind(copy, shared)
    with pytest.raises(SettingsError, match=f"{ONE} is champion again") as told:
        roll_back(copy, shared, "previous", "ann", "to try it")
    assert str(root) in told.value.why and "registry.model_name" in told.value.next_step and "Not the same command again" in told.value.next_step
    with pytest.raises(SettingsError, match="Nothing there was changed"):
        registry.end_running(copy, shared)
    assert (champion(Journal(copy).events()).cycle, registry.read_alias(root, shared).cycle) == (ONE, TWO)
    assert registry.find_running(root, shared) == [run]

    shutil.rmtree(root)  # the copy was a move
    registry.rebuild_aliases(copy, shared)
    assert registry.read_alias(copy, shared).cycle == ONE


def test_of_two_copies_that_went_on_apart_one_writes(shared: Settings, tmp_path: Path) -> None:
    """Each had a cycle of the same name: the later logged its model over the other's, and that one served no more."""
    root, copy = tmp_path / "w", tmp_path / "copy"
    root.mkdir()
    first = add_model(root, ONE)
    registry.rebuild_aliases(root, shared)
    shutil.copytree(root, copy)
    second = add_model(root, TWO, first)
    registry.rebuild_aliases(root, shared)
    add_model(copy, THREE, first)
    for act in (registry.rebuild_aliases, lambda *_: registry.register(copy, shared, copy / "models" / THREE, cycle=TWO)):
        with pytest.raises(SettingsError, match=r"another copy.*\n.*has lines that this one lacks"):
            act(copy, shared)
    shutil.rmtree(root / "models" / TWO)
    assert registry.serving_model(root, shared) == root / "models" / TWO, "fetched from the registry, as it was promoted"
    assert registry.read_alias(root, shared).model_sha256 == second


def test_what_another_team_keeps_under_these_names_stays_as_it_is(shared: Settings, tmp_path: Path) -> None:
    """Its model lost the alias `champion` to ours, and its running runs were killed."""
    root, client = tmp_path / "w", client_of(shared)
    root.mkdir()
    client.create_registered_model("detector")
    theirs = client.create_model_version("detector", "s3://theirs/model").version
    client.set_registered_model_alias("detector", "champion", theirs)
    run = client.create_run(client.create_experiment("vigil")).info.run_id
    for journalled in (False, True):
        if journalled:
            add_model(root, ONE)
        for act in (registry.read_alias, registry.find_running, registry.end_running, registry.prepare, registry.rebuild_aliases):
            with pytest.raises(SettingsError, match="Nothing there was changed"):
                act(root, shared)
    own_model = make_settings(tracking_uri=shared.registry.tracking_uri, model_name="ours")
    with pytest.raises(SettingsError, match="Nothing there was changed"):
        registry.end_running(root, own_model)
    assert client.get_run(run).info.status == "RUNNING" and client.get_model_version_by_alias("detector", "champion").version == theirs
    assert not client.get_registered_model("detector").tags and not client.get_experiment_by_name("vigil").tags.keys() & {"vigil.workspace"}


def test_a_workspace_that_has_no_journal_yet_ends_no_runs_of_another(shared: Settings, tmp_path: Path) -> None:
    """Its first `vigil retrain` asks for runs that were left before anything is journalled."""
    one, new = tmp_path / "one", tmp_path / "new"
    for root in (one, new):
        root.mkdir()
    add_model(one, ONE)
    run = client_of(shared).create_run(registry.prepare(one, shared), tags={"cycle": TWO}).info.run_id
    with pytest.raises(SettingsError, match="another workspace"):
        registry.end_running(new, shared)
    assert registry.find_running(one, shared) == [run]


def test_a_run_that_others_log_beside_ours_is_not_ended(shared: Settings, tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    add_model(root, ONE)
    experiment, client = registry.prepare(root, shared), client_of(shared)
    theirs, ours = client.create_run(experiment).info.run_id, client.create_run(experiment, tags={"cycle": ONE}).info.run_id
    assert registry.end_running(root, shared) == [ours] and client.get_run(theirs).info.status == "RUNNING"


def test_what_an_older_vigil_made_without_noting_whose_it_is_goes_on(shared: Settings, tmp_path: Path) -> None:
    root, client = tmp_path / "w", client_of(shared)
    root.mkdir()
    add_model(root, ONE)
    registry.rebuild_aliases(root, shared)
    experiment = client.get_experiment_by_name("vigil")
    for tag in client.get_registered_model("detector").tags:
        client.delete_registered_model_tag("detector", tag)
    for tag in [tag for tag in experiment.tags if tag.startswith("vigil.")]:
        client.delete_experiment_tag(experiment.experiment_id, tag)
    assert registry.rebuild_aliases(root, shared)["champion"] == "1"
    assert client.get_registered_model("detector").tags["vigil.workspace"]
