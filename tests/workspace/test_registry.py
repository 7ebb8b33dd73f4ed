"""MLflow's registry: it follows the journal, decides what serves, and is not believed against the journal."""

import json
import shutil
import sqlite3

import pandas as pd
import pytest
from ruamel.yaml import YAML
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from feedback.database import Database, schema_behind
from flows import publish
from flows.health import examine
from flows.leftovers import left_behind
from tests.feedback import databases
from tests.feedback.world import write_settings
from tests.workspace.worlds import make_model, start_python, verdict_for, wait_until
from vigil.deciding import roll_back
from vigil.measuring import promoted_models
from workspace import registry
from workspace.cycle import Cycle
from workspace.errors import ModelFileError, RegistryUnavailable, SettingsError, WorkspaceError, shown_address, without_passwords
from workspace.files import write_json
from workspace.journal import Journal
from workspace.lease import lease
from workspace.profiles import compose_params
from workspace.promotion import promote, rollback
from workspace.settings import Settings, parse_settings
from workspace.state import champion

ONE, TWO, THREE = "2026-W46.1", "2026-W47.1", "2026-W48.1"


class Killed(BaseException):
    """The process dies here: nothing handles it."""


def die(*_):
    raise Killed


def make_settings(**changes) -> Settings:
    raw = YAML(typ="safe", pure=True).load(compose_params("demo"))
    raw["registry"].update(changes)
    return parse_settings(raw)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A new database takes MLflow seconds: made once, copied for each test (it holds no experiment yet)."""
    root = tmp_path_factory.mktemp("template")
    with registry.open_registry(root, make_settings()) as client:
        client.search_experiments()
    return root / "mlflow.db"


@pytest.fixture
def world(template, tmp_path):
    root = tmp_path / "a workspace"
    root.mkdir()
    shutil.copy(template, root / "mlflow.db")
    return root, make_settings()


@pytest.fixture(scope="module")
def postgres():
    """The address of one PostgreSQL for all tests here, each under names of its own: MLflow's tables take seconds."""
    return databases.fresh_postgres()


def add_model(root, cycle, base="", promoted=True):
    sha256 = make_model(root, cycle)
    Journal(root).append("candidate", cycle=cycle, model_sha256=sha256, path=f"models/{cycle}")
    if promoted:
        promote(root, root / "models" / cycle, expected_champion_sha256=base, verdict=verdict_for(cycle, sha256, base), cycle=cycle, who="vigil", why="passed")
    return sha256


def test_a_relative_database_lies_in_the_workspace_and_others_stay_where_they_are(tmp_path):
    assert registry.tracking_uri(tmp_path, make_settings().registry) == f"sqlite:///{tmp_path}/mlflow.db"
    assert registry.tracking_uri(tmp_path, make_settings(tracking_uri="sqlite:///a/m.db?timeout=30").registry) == f"sqlite:///{tmp_path}/a/m.db?timeout=30"
    for uri in (
        "sqlite:////srv/mlflow.db",
        "sqlite:////srv/mlflow.db?timeout=30",
        "http://127.0.0.1:5000",
        "postgresql+psycopg://u:p@ss:w@h/db?sslmode=require",
    ):
        assert registry.tracking_uri(tmp_path, make_settings(tracking_uri=uri).registry) == uri


def test_a_new_workspace_gets_database_experiment_and_model_once(tmp_path):
    settings = make_settings()
    first = registry.prepare(tmp_path, settings)
    assert registry.prepare(tmp_path, settings) == first and (tmp_path / "mlflow.db").is_file()
    with registry.open_registry(tmp_path, settings) as client:
        assert client.get_experiment(first).artifact_location == str(tmp_path / "mlartifacts")
        client.delete_experiment(first)
    assert registry.prepare(tmp_path, settings) == first


@pytest.mark.slow
def test_a_database_whose_making_was_killed_is_made_anew_by_whoever_comes_next(tmp_path):
    look = """
        import sys
        from pathlib import Path
        from tests.workspace.test_registry import make_settings
        from workspace import registry
        with registry.open_registry(Path(sys.argv[1]), make_settings()) as client:
            print(len(client.search_experiments()))
    """
    begun = tmp_path / "mlflow.db.new" / "mlflow.db"
    with start_python(look, tmp_path) as killed:
        wait_until(lambda: begun.exists() and begun.stat().st_size > 100_000, 120)  # tables are there, steps are not
        killed.kill()
    assert begun.exists() and not (tmp_path / "mlflow.db").exists()
    with start_python(look, tmp_path) as one, start_python(look, tmp_path) as other:
        assert [process.communicate(timeout=240)[0].strip() for process in (one, other)] == ["1", "1"]
    assert (tmp_path / "mlflow.db").is_file() and not begun.parent.exists()


def test_a_model_is_registered_once_with_plain_files_and_tags(world):
    root, settings = world
    sha256 = add_model(root, ONE)
    made = registry.register(root, settings, root / "models" / ONE, cycle=ONE)
    assert (made.version, made.model_sha256, made.cycle, made.path) == ("1", sha256, ONE, f"models/{ONE}")
    assert registry.register(root, settings, root / "models" / ONE, cycle=ONE) == made
    kept = sorted(path.name for path in (root / "mlartifacts").rglob("*") if path.is_file())
    assert kept == ["card.json", "model.onnx", "model.safetensors"]
    with registry.open_registry(root, settings) as client:
        run = client.get_run(client.get_model_version("detector", made.version).run_id)
        assert run.info.status == "FINISHED" and run.data.tags["registered"] == ONE and "cycle" not in run.data.tags, "it shows no cycle"


def test_a_version_belongs_to_one_cycle_and_one_model(world):
    """What another cycle made too, or what this one made before, is another version: the wrong one was never promoted, and would not serve."""
    root, settings = world
    one, two = make_model(root, ONE), make_model(root, TWO)
    wanted = [(ONE, ONE, one), (ONE, TWO, one), (TWO, ONE, two)]
    made = [registry.register(root, settings, root / "models" / folder, cycle=cycle) for folder, cycle, _ in wanted]
    assert [(version.cycle, version.model_sha256) for version in made] == [(cycle, sha256) for _, cycle, sha256 in wanted]
    assert [registry.register(root, settings, root / "models" / folder, cycle=cycle) for folder, cycle, _ in wanted] == made


def test_a_card_that_was_changed_after_the_promotion_is_not_registered_as_the_champions(world):
    root, settings = world
    add_model(root, ONE)
    card = root / "models" / ONE / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "threshold": 0.99}))
    with pytest.raises(ModelFileError, match="the one that was judged"):
        registry.rebuild_aliases(root, settings)
    assert registry.read_alias(root, settings) is None


def test_a_model_is_registered_to_the_run_that_is_named(world):
    root, settings = world
    add_model(root, ONE)
    experiment = registry.prepare(root, settings)
    with registry.open_registry(root, settings) as client:
        run_id = client.create_run(experiment, tags={"cycle": ONE}).info.run_id
        registry.register(root, settings, root / "models" / ONE, cycle=ONE, run_id=run_id)
        assert [version.run_id for version in client.search_model_versions("name = 'detector'")] == [run_id]
        assert client.get_run(run_id).info.status == "RUNNING"  # the caller's to finish


def test_a_changed_model_is_not_registered(world):
    root, settings = world
    add_model(root, ONE)
    (root / "models" / ONE / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelFileError):
        registry.register(root, settings, root / "models" / ONE, cycle=ONE)
    with registry.open_registry(root, settings) as client:
        assert not client.search_registered_models()


def test_the_aliases_follow_the_journal_through_promotion_and_rollback(world):
    root, settings = world
    first = add_model(root, ONE)
    assert registry.rebuild_aliases(root, settings) == {"champion": "1", "previous": "", "challenger": ""}
    add_model(root, TWO, first)
    add_model(root, THREE, promoted=False)
    assert registry.rebuild_aliases(root, settings) == {"champion": "2", "previous": "1", "challenger": "3"}
    assert registry.read_alias(root, settings, "challenger").cycle == THREE
    rollback(root, who="ann", why="false alarms")
    assert registry.rebuild_aliases(root, settings) == {"champion": "1", "previous": "", "challenger": "3"}
    assert registry.read_alias(root, settings, "previous") is None
    assert registry.serving_model(root, settings) == root / "models" / ONE


def test_a_lost_registry_is_made_again_from_the_journal(world, template):
    root, settings = world
    add_model(root, TWO, add_model(root, ONE))
    registry.rebuild_aliases(root, settings)
    shutil.copy(template, root / "mlflow.db")
    with pytest.raises(WorkspaceError, match="alias `champion` is not set"):
        registry.serving_model(root, settings)
    registry.rebuild_aliases(root, settings)
    assert registry.serving_model(root, settings) == root / "models" / TWO


def test_the_aliases_of_a_lost_registry_need_the_champions_files_but_not_those_of_the_past(world):
    root, settings = world
    add_model(root, TWO, add_model(root, ONE))
    shutil.rmtree(root / "models" / ONE)
    assert registry.rebuild_aliases(root, settings) == {"champion": "1", "previous": "", "challenger": ""}
    add_model(root, THREE, registry.read_alias(root, settings).model_sha256)
    shutil.rmtree(root / "models" / THREE)
    with pytest.raises(ModelFileError):
        registry.rebuild_aliases(root, settings)


def test_the_alias_decides_what_serves(world):
    root, settings = world
    add_model(root, TWO, add_model(root, ONE))
    registry.rebuild_aliases(root, settings)
    assert registry.serving_model(root, settings) == root / "models" / TWO
    registry.set_aliases(root, settings, {"champion": registry.read_alias(root, settings, "previous").version})
    assert registry.serving_model(root, settings) == root / "models" / ONE


def test_what_was_rolled_back_from_does_not_come_back_with_the_registry(world):
    """A rollback while the registry is away, or killed before the alias moved: the alias then still names the bad model."""
    root, settings = world
    add_model(root, TWO, add_model(root, ONE))
    registry.rebuild_aliases(root, settings)
    assert {row["check"]: row["ok"] for row in examine(root, settings)}["alias"]
    rollback(root, who="ann", why="false alarms")
    assert registry.read_alias(root, settings).cycle == TWO and registry.serving_model(root, settings) == root / "models" / ONE
    (row,) = [row for row in examine(root, settings) if row["check"] == "alias"]
    assert not row["ok"] and TWO in row["found"] and ONE in row["found"]
    add_model(root, THREE, champion(Journal(root).events()).model_sha256)  # promoted before the alias was moved
    assert registry.read_alias(root, settings).cycle == TWO and registry.serving_model(root, settings) == root / "models" / THREE
    registry.rebuild_aliases(root, settings)
    assert {row["check"]: row["ok"] for row in examine(root, settings)}["alias"]


def test_after_a_rollback_no_alias_decides_not_even_one_that_is_older_than_what_was_rolled_back_from(world):
    root, settings = world
    second = add_model(root, TWO, add_model(root, ONE))
    registry.rebuild_aliases(root, settings)
    add_model(root, THREE, second)  # the registry was away, then and later
    rollback(root, ONE, who="ann", why="both are bad")
    assert registry.read_alias(root, settings).cycle == TWO and registry.serving_model(root, settings) == root / "models" / ONE


def test_a_card_that_was_changed_after_the_promotion_does_not_serve_and_is_neither_measured_nor_gone_back_to(world):
    """The weights are the same; the threshold, or which export serves, is what the card says."""
    root, settings = world
    add_model(root, TWO, add_model(root, ONE))
    registry.rebuild_aliases(root, settings)
    (root / "params.yaml").write_text(compose_params("demo"))
    (root / ".vigil").mkdir(exist_ok=True)
    uses = ((TWO, registry.serving_model), (ONE, lambda root, _: promoted_models(root)), (ONE, lambda root, _: rollback(root, who="ann", why="false alarms")))
    for cycle, use in uses:
        path = root / "models" / cycle / "card.json"
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), "threshold": 0.99}))
        with pytest.raises(ModelFileError, match="the one that was judged"):
            use(root, settings)
        path.write_text(before)
        use(root, settings)


def test_an_alias_on_a_model_that_was_never_promoted_is_refused(world):
    root, settings = world
    add_model(root, ONE)
    add_model(root, TWO, promoted=False)
    registry.rebuild_aliases(root, settings)
    registry.set_aliases(root, settings, {"champion": registry.read_alias(root, settings, "challenger").version})
    with pytest.raises(WorkspaceError, match="never promoted"):
        registry.serving_model(root, settings)


def test_a_version_whose_sha256_is_not_the_journals_is_refused(world):
    root, settings = world
    add_model(root, ONE)
    registry.rebuild_aliases(root, settings)
    with registry.open_registry(root, settings) as client:
        client.set_model_version_tag("detector", "1", "model_sha256", "0" * 64)
    with pytest.raises(WorkspaceError, match="never promoted"):
        registry.serving_model(root, settings)


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "card.json"])
def test_a_changed_file_does_not_serve(world, name):
    root, settings = world
    add_model(root, ONE)
    registry.rebuild_aliases(root, settings)
    (root / "models" / ONE / name).write_bytes(b"{}")
    with pytest.raises(ModelFileError):
        registry.serving_model(root, settings)


def test_a_model_that_the_workspace_lacks_is_fetched_from_the_registry_and_checked(world):
    root, settings = world
    add_model(root, ONE)
    before = {path.name: path.read_bytes() for path in (root / "models" / ONE).iterdir()}
    registry.rebuild_aliases(root, settings)
    shutil.rmtree(root / "models")
    folder = registry.serving_model(root, settings)
    assert folder == root / "models" / ONE and {path.name: path.read_bytes() for path in folder.iterdir()} == before
    shutil.rmtree(root / "models")
    for name, content in (("card.json", json.dumps({**json.loads(before["card.json"]), "threshold": 0.99}).encode()), ("model.safetensors", b"other")):
        kept = next((root / "mlartifacts").rglob(name))
        kept.write_bytes(content)
        with pytest.raises(ModelFileError, match="Nothing was kept"):
            registry.serving_model(root, settings)
        assert list((root / "models").iterdir()) == []
        kept.write_bytes(before[name])


def test_the_files_of_what_was_rolled_back_from_are_not_fetched_into_another_models_place(world):
    """The alias still names the bad model, and the folder of the good one is gone."""
    root, settings = world
    add_model(root, TWO, add_model(root, ONE))
    registry.rebuild_aliases(root, settings)
    rollback(root, who="ann", why="false alarms")
    shutil.rmtree(root / "models" / ONE)
    with pytest.raises(ModelFileError):
        registry.serving_model(root, settings)
    assert not (root / "models" / ONE).exists()


def test_a_run_that_a_killed_process_left_running_is_ended(world):
    root, settings = world
    experiment = registry.prepare(root, settings)
    with registry.open_registry(root, settings) as client:
        run_id = client.create_run(experiment, tags={"cycle": ONE}).info.run_id
        assert registry.end_running(root, settings) == [run_id] and registry.end_running(root, settings) == []
        assert client.get_run(run_id).info.status == "KILLED"


def test_a_cycle_whose_publishing_was_killed_is_shown_whole_though_the_doctor_has_registered_its_model(world, monkeypatch):
    """The doctor laid the model into the run that was cut short and called it finished: it stayed without a figure for ever."""
    root, settings = world
    add_model(root, ONE)
    write_json(root / "reports" / "evaluation.json", {"auc": 0.9})
    cycle = Cycle(cycle=ONE, seed=1, batches=("b",), judged=("b",))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(publish, "_log_metrics", die)  # after its parameters, before its figures
        publish.publish_cycle(root, settings, cycle, "promoted")
    (left,) = registry.end_running(root, settings)
    assert registry.rebuild_aliases(root, settings)["champion"] == "1"
    monkeypatch.setattr(publish, "_log_datasets", lambda *_: None)  # there are none
    shown = publish.publish_cycle(root, settings, cycle, "promoted")
    assert publish.publish_cycle(root, settings, cycle, "promoted") == shown != left
    with registry.open_registry(root, settings) as client:
        run = client.get_run(shown)
        assert (run.info.status, run.data.tags["vigil.outcome"], run.data.metrics["auc"]) == ("FINISHED", "promoted", 0.9)
        assert client.get_run(left).info.lifecycle_stage == "deleted"
        assert len(client.search_model_versions("name = 'detector'")) == 1


def test_a_cycle_with_nobody_in_the_holdout_is_shown_and_can_be_closed(world):
    """A first week of ten people has nobody there in a third of all cases: it ended in `The model registry did not answer`, and no later week began."""
    root, settings = world
    add_model(root, ONE)
    rows = pd.DataFrame({name: ["a", "b"] for name in ("clip_id", "label", "generator", "identity", "source", "origin")} | {"frames": [5, 5]})
    for side, number in (("train", 2), ("validation", 1), ("holdout", 0)):
        (root / "data" / "sets").mkdir(parents=True, exist_ok=True)
        rows.head(number).to_parquet(root / "data" / "sets" / f"{side}.parquet")
    shown = publish.publish_cycle(root, settings, Cycle(cycle=ONE, seed=1, batches=("b",), judged=("b",)), "held")
    with registry.open_registry(root, settings) as client:
        run = client.get_run(shown)
        assert run.info.status == "FINISHED" and {one.dataset.name for one in run.inputs.dataset_inputs} == {"train clips", "validation clips"}


def test_an_unknown_alias_is_a_mistake_of_the_caller(world):
    root, settings = world
    with pytest.raises(ValueError, match="unknown aliases"):
        registry.set_aliases(root, settings, {"winner": "1"})


ACTIONS = {
    "prepare": registry.prepare,
    "read": registry.read_alias,
    "serve": registry.serving_model,
    "rebuild": registry.rebuild_aliases,
    "set": lambda root, settings: registry.set_aliases(root, settings, {"champion": "1"}),
    "end": registry.end_running,
    "register": lambda root, settings: registry.register(root, settings, root / "models" / ONE, cycle=ONE),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_registry_that_cannot_be_used_is_one_clear_error(tmp_path, action):
    add_model(tmp_path, ONE)
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(RegistryUnavailable, match="nothing was lost"):
        ACTIONS[action](tmp_path, make_settings())


def test_a_postgresql_is_a_registry_by_its_plain_address(tmp_path, postgres):
    """MLflow took `postgresql://` for another driver than the one that is here."""
    settings = make_settings(tracking_uri=postgres, model_name="plain", experiment="plain")
    sha256 = add_model(tmp_path, ONE)
    assert registry.rebuild_aliases(tmp_path, settings)["champion"] == "1"
    assert registry.read_alias(tmp_path, settings).model_sha256 == sha256
    add_model(tmp_path / "other", TWO)
    with pytest.raises(SettingsError, match="another workspace") as refused:
        registry.prepare(tmp_path / "other", make_settings(tracking_uri=postgres.replace(":@", ":Geh/e1m@"), model_name="plain", experiment="plain"))
    assert "postgres:***@" in str(refused.value) and "e1m" not in str(refused.value)


def test_the_service_refuses_mlflows_database(tmp_path, postgres):
    """It told of a newer Vigil, which there is none of."""
    with registry.open_registry(tmp_path, make_settings(tracking_uri=postgres)):
        before = tables(postgres)
    for ask in (Database, schema_behind):
        with pytest.raises(WorkspaceError, match="it is MLflow's") as refused:
            ask(tmp_path, write_settings(tmp_path, postgres))
        assert "Nothing was changed" in refused.value.what and "createdb" in refused.value.next_step
    assert "experiments" in before and tables(postgres) == before


def test_mlflow_is_not_let_into_the_services_database(tmp_path):
    """It made five tables there, and then it was told that it does not run."""
    url = databases.filled_url("postgresql")
    before = tables(url)
    with pytest.raises(SettingsError, match="the feedback service's") as refused:
        registry.prepare(tmp_path, make_settings(tracking_uri=url))
    assert "Nothing was changed" in refused.value.what and "registry.tracking_uri" in refused.value.next_step
    assert "detections" in before and tables(url) == before


def tables(url):
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    return sorted(inspect(engine).get_table_names())


def test_a_dead_postgresql_is_told_by_the_doctor_before_the_first_model_too(tmp_path):
    add_model(tmp_path, ONE, promoted=False)
    rows = {row["check"]: row for row in examine(tmp_path, make_settings(tracking_uri="postgresql://mlflow:Gehe1m@127.0.0.1:1/mlflow"))}
    assert not rows["registry"]["ok"] and "refused" in rows["registry"]["found"] and "tracking_uri" in rows["registry"]["next"]
    assert rows["champion"]["found"] == "none yet"


def test_an_unreachable_server_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryUnavailable, match=r"http://127\.0\.0\.1:9"):
        registry.read_alias(tmp_path, make_settings(tracking_uri="http://127.0.0.1:9"))


def test_setting_an_alias_to_a_version_that_is_not_there_is_refused(world):
    root, settings = world
    registry.prepare(root, settings)
    with pytest.raises(RegistryUnavailable):
        registry.set_aliases(root, settings, {"champion": "99"})
    assert registry.read_alias(root, settings) is None


def test_mlflow_is_not_imported_before_it_is_needed():
    process = start_python("import sys, workspace.registry; print('mlflow' in sys.modules, 'boto3' in sys.modules)")
    assert process.communicate(timeout=60)[0] == "False False\n"


def test_what_is_written_is_a_database_of_the_version_that_is_pinned(world):
    root, _ = world
    with sqlite3.connect(root / "mlflow.db") as database:
        assert database.execute("select count(*) from alembic_version").fetchone() == (1,)


def test_a_person_rolls_back_while_a_long_cycle_runs_and_the_alias_follows_at_once(world, monkeypatch):
    monkeypatch.setattr("flows.environment.prepare_environment", lambda root: None)  # it would stay in this process
    root, settings = world
    first = add_model(root, ONE)
    add_model(root, TWO, first)
    registry.rebuild_aliases(root, settings)
    (root / ".vigil").mkdir(exist_ok=True)
    with lease(root, "retrain"):
        said = roll_back(root, settings, "previous", "ann", "false alarms")
    assert f"{ONE} is champion again" in said
    found = registry.read_alias(root, settings)
    assert found is not None and found.cycle == ONE


def test_a_rollback_beside_a_silent_registry_stands_and_does_not_ask_to_be_repeated(world, monkeypatch):
    """It told to run the command again, and that went back one model more; and it was in no commit."""
    monkeypatch.setattr("flows.environment.prepare_environment", lambda root: None)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    committed = []
    monkeypatch.setattr("workspace.repository.commit_journal", lambda root, why: committed.append(why))
    root, _ = world
    first = add_model(root, ONE)
    add_model(root, THREE, add_model(root, TWO, first))
    with pytest.raises(RegistryUnavailable, match=f"{TWO} is champion again") as told:
        roll_back(root, make_settings(tracking_uri="http://127.0.0.1:9"), "previous", "ann", "false alarms")
    assert "Not the same command again" in told.value.next_step and "doctor --fix" in told.value.next_step
    assert champion(Journal(root).events()).cycle == TWO and committed == [f"rolled back to {TWO} (ann: false alarms)"]


def test_two_workspaces_on_one_server_do_not_move_each_others_aliases(template, tmp_path):
    """With the default names each took the other's model out of service and its runs for its own."""
    shutil.copy(template, tmp_path / "shared.db")
    shared = f"sqlite:///{tmp_path / 'shared.db'}"
    (one, other), settings = (tmp_path / "one", tmp_path / "other"), make_settings(tracking_uri=shared)
    for root, cycle in ((one, ONE), (other, TWO)):
        root.mkdir()
        add_model(root, cycle)
    registry.rebuild_aliases(one, settings)
    for act in (registry.rebuild_aliases, registry.find_running, registry.end_running):
        with pytest.raises(SettingsError, match="another workspace"):
            act(other, settings)
    assert registry.read_alias(one, settings).cycle == ONE
    own = make_settings(tracking_uri=shared, model_name="staging", experiment="staging")
    registry.rebuild_aliases(other, own)
    assert registry.read_alias(other, own).cycle == TWO and registry.read_alias(one, settings).cycle == ONE
    with pytest.raises(SettingsError, match="another workspace"):
        registry.prepare(other, make_settings(tracking_uri=shared, model_name="staging"))


def test_what_nobody_owns_on_a_server_is_taken_by_the_first_who_uses_it(template, tmp_path):
    """As an administrator makes it, or a workspace of before owners were noted."""
    shutil.copy(template, tmp_path / "shared.db")
    settings = make_settings(tracking_uri=f"sqlite:///{tmp_path / 'shared.db'}")
    for name, cycle in (("one", ONE), ("other", TWO)):
        (tmp_path / name).mkdir()
        add_model(tmp_path / name, cycle)
    with registry.open_registry(tmp_path / "one", settings) as client:
        client.create_registered_model(settings.registry.model_name)
        client.create_experiment(settings.registry.experiment, artifact_location=str(tmp_path / "artifacts"))
    assert registry.rebuild_aliases(tmp_path / "one", settings)["champion"] == "1"
    with pytest.raises(SettingsError, match="another workspace"):
        registry.prepare(tmp_path / "other", settings)


def test_a_copy_writes_below_itself_and_a_moved_workspace_goes_on(world, tmp_path):
    """MLflow notes whole paths: a copy logged into its original, where no erasure looks, and could log nothing once that was gone."""
    root, settings = world
    add_model(root, ONE)
    registry.rebuild_aliases(root, settings)
    copy, before = tmp_path / "a copy", sorted((root / "mlartifacts").rglob("*"))
    shutil.copytree(root, copy)
    sha256 = add_model(copy, TWO, base=champion(Journal(copy).events()).model_sha256)
    registry.rebuild_aliases(copy, settings)
    served = registry.read_alias(copy, settings)
    assert served.model_sha256 == sha256 and served.source.startswith(f"{copy}/mlartifacts/")
    assert sorted((root / "mlartifacts").rglob("*")) == before and registry.read_alias(root, settings).cycle == ONE
    shutil.rmtree(root)
    rollback(copy, ONE, who="ann", why="the older one")
    registry.rebuild_aliases(copy, settings)
    shutil.rmtree(copy / "models" / ONE)
    assert registry.serving_model(copy, settings) == copy / "models" / ONE and (copy / "models" / ONE / "model.safetensors").is_file(), "from the copy's own"


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_moved_workspace_writes_below_itself_whatever_database_it_shares(template, request, tmp_path, kind):
    """What names people was logged to where the workspace had been, where no erasure looks, and earlier models could not be fetched."""
    if kind == "sqlite":
        shutil.copy(template, tmp_path / "shared.db")
    uri = f"sqlite:///{tmp_path / 'shared.db'}" if kind == "sqlite" else request.getfixturevalue("postgres")
    root, moved, settings = tmp_path / "before", tmp_path / "after", make_settings(tracking_uri=uri, model_name="moved", experiment="moved")
    root.mkdir()
    sha256 = add_model(root, ONE)
    registry.rebuild_aliases(root, settings)
    with registry.open_registry(root, settings) as client:  # of somebody else, in the same folder
        others = client.create_experiment("others", artifact_location=str(root / "mlartifacts"))
        run = client.create_run(others).info.run_id
    root.rename(moved)
    add_model(moved, TWO, base=sha256)
    registry.rebuild_aliases(moved, settings)
    assert registry.read_alias(moved, settings).source.startswith(f"{moved}/mlartifacts/") and not root.exists()
    rollback(moved, ONE, who="ann", why="the older one")
    registry.rebuild_aliases(moved, settings)
    shutil.rmtree(moved / "models" / ONE)
    assert (registry.serving_model(moved, settings) / "model.safetensors").is_file(), "from what was logged before the move"
    with registry.open_registry(moved, settings) as client:
        assert client.get_run(run).info.artifact_uri.startswith(f"{root}/mlartifacts/"), "another's stays where it is"


def test_a_copy_goes_on_below_itself_with_a_run_that_its_original_began(world, tmp_path):
    root, settings = world
    add_model(root, ONE)
    experiment = registry.prepare(root, settings)
    with registry.open_registry(root, settings) as client:
        run = client.create_run(experiment).info.run_id
    copy = tmp_path / "a copy"
    shutil.copytree(root, copy)
    registry.register(copy, settings, copy / "models" / ONE, cycle=ONE, run_id=run)
    assert list((copy / "mlartifacts").rglob("card.json")) and not list((root / "mlartifacts").rglob("card.json"))


def test_an_address_may_have_options(world, monkeypatch, make_database):
    """The first cycle's kill then left a database that could neither be used nor finished: only one without options was made whole or not at all."""
    root, settings = world[0], make_settings(tracking_uri="sqlite:///mlflow.db?timeout=30")
    experiment = registry.prepare(root, settings)
    assert experiment == registry.prepare(root, make_settings())
    with registry.open_registry(root, settings) as client:
        run = client.create_run(experiment).info.run_id
    assert f"MLflow run {run} says RUNNING" in left_behind(root, settings)
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == ["mlflow.db"]
    monkeypatch.setattr(registry, "_make_database", make_database)
    made = []
    monkeypatch.setattr("mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore", lambda uri, _: made.append(uri) or die())
    with pytest.raises(Killed):
        registry.prepare(root, make_settings(tracking_uri="sqlite:///other.db?timeout=30"))
    assert made == [f"sqlite:///{root}/other.db.new/other.db"] and not (root / "other.db").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@ss:w@h:5/db refused", "postgresql://u:***@h:5/db refused"),
        ("http://h/x?user=u&password=secret&a=b", "http://h/x?user=u&password=***&a=b"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("http://[::1]:5000/a and ann@example.org:8", "http://[::1]:5000/a and ann@example.org:8"),
    ],
)
def test_passwords_and_nothing_else_are_left_out(text, shown):
    assert without_passwords(text) == shown
    assert all(line == shown for line in (WorkspaceError(text, why=text, next_step=text).what, WorkspaceError("", why=text, next_step="").why))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://u:Geh/e1m+x=@h:5/db", "postgresql://u:***@h:5/db"),
        ("postgresql+psycopg://u:Geh e1m@/db?host=/run/a", "postgresql+psycopg://u:***@/db?host=/run/a"),
        ("postgresql://u:G/h@1m@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:G?h 1m@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h/db?sslpassword=Geh e1m&sslmode=require", "postgresql://u@h/db?sslpassword=***&sslmode=require"),
        *((same, same) for same in ("postgresql://u@h:5/db", "sqlite:////srv/a:b@c.db", "s3://bucket/a:b@c", "http://[::1]:5000/a", "")),
    ],
)
def test_an_address_is_told_without_its_password_whatever_signs_that_has(address, shown):
    assert shown_address(address) == shown == without_passwords(shown)


@pytest.mark.parametrize("password", ["Gehe1m", "Geh/e1m+x=", "Geh e1m"])
def test_no_password_of_an_address_is_shown_or_logged(world, password):
    """`openssl rand -base64` makes a `/`, and SQLAlchemy takes it as it stands: the log had such a password, and every viewer of the service was told it."""
    from flows.publish import _log_params

    root, settings = world
    address = f"postgresql://mlflow:{password}@127.0.0.1:1/mlflow"
    with pytest.raises(RegistryUnavailable) as told:
        registry.prepare(root, make_settings(tracking_uri=address))
    assert "mlflow:***@127.0.0.1:1" in str(told.value) and "e1m" not in str(told.value)
    experiment = registry.prepare(root, settings)
    with registry.open_registry(root, settings) as client:
        run = client.create_run(experiment).info.run_id
        _log_params(client, run, make_settings(tracking_uri=address))
        logged = client.get_run(run).data.params
    assert logged["registry.tracking_uri"] == "postgresql://mlflow:***@127.0.0.1:1/mlflow" and not any("e1m" in value for value in logged.values())


def test_a_generator_that_is_called_by_an_address_has_its_figures_too(world, tmp_path):
    """MLflow refuses a metric whose name is a path. The cycle was decided by then and could not end, nor could any later one begin.

    Nor is one lost behind another: two names that differ in such a sign were one metric, and all figures of a very long name.
    """
    from flows.publish import _log_metrics

    root, settings = world
    names = ("https://github.com/a/b", "a//b", "../a", "./a", "ä/ö", "face/swap", "face+swap", "L" * 230, "plain")
    told = {name: {"challenger": {"value": number / 8, "n": 40 + number}} for number, name in enumerate(names)}
    write_json(root / "reports" / "evaluation.json", {"generators": told})
    experiment = registry.prepare(root, settings)
    with registry.open_registry(root, settings) as client:
        run = client.create_run(experiment)
        _log_metrics(client, run.info.run_id, root)
        found = client.get_run(run.info.run_id).data.metrics
    assert sorted(found.values()) == sorted(value for row in told.values() for value in row["challenger"].values())
    assert found["generators.plain.challenger.n"] == 48, "a name that is allowed stays as it is"
