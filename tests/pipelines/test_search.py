"""Settings tried by Optuna: trial 0 is params.yaml, a study goes on where it was left, a hopeless trial is given up, each is a child run in MLflow."""

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from mlflow import MlflowClient

from model import training
from pipelines import search as module
from pipelines.search import SPACE, STUDIES, search
from tests.pipelines.small_world import add_batch, demo_settings, start_in_two_places, write_sets
from vigil.reading import render_search
from workspace.errors import DataError, Diverged, LeaseHeldError, SettingsError
from workspace.files import sha256_bytes
from workspace.journal import Journal
from workspace.processes import stage_lock
from workspace.registry import open_registry

SETTINGS = demo_settings()
OVER = ["train.lr", "model.dropout"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sets(tmp_path, add_batch(tmp_path, "b1", 20), {"b1"})
    return tmp_path


def studies(root: Path) -> list[optuna.Study]:
    storage = f"sqlite:///{root / module.STUDIES}"
    return [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]


def test_a_study_begins_at_params_yaml_goes_on_and_is_logged(root: Path) -> None:
    found = search(root, SETTINGS, 2, 3, 2, OVER)
    assert [row["trial"] for row in found["trials"]] == [0, 1]
    assert found["trials"][0]["settings"] == {"train.lr": SETTINGS.train.lr, "model.dropout": SETTINGS.model.dropout}
    assert found["lacks"] == module.lacking(SETTINGS, has_champion=False)
    assert search(root, SETTINGS, 2, 3, 2, OVER) == found, "nothing is trained again"
    (study,) = studies(root)
    left = study.ask({"train.lr": optuna.distributions.FloatDistribution(*SPACE["train.lr"][:2], log=True)})  # as a killed process leaves it
    more = search(root, SETTINGS, 3, 3, 2, OVER)
    assert more["trials"][:2] == found["trials"] and len(more["trials"]) == 3
    assert more["trials"][2]["settings"]["train.lr"] == left.params["train.lr"], "what was being tried is tried again"
    search(root, SETTINGS, 1, 4, 2, OVER)
    assert len(studies(root)) == 2, "another budget is another study"
    with open_registry(root, SETTINGS) as client:
        experiment = client.get_experiment_by_name(SETTINGS.registry.experiment)
        runs = client.search_runs([experiment.experiment_id], f"tags.search = '{study.study_name}'")
    (parent,) = [run for run in runs if run.data.tags["trial"] == "all"]
    children = {run.data.tags["trial"]: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert sorted(run.data.metrics["auc"] for run in children.values()) == sorted(row["auc"] for row in more["trials"])
    assert all(run.info.status == "FINISHED" for run in runs)
    assert list((root / ".vigil/checkpoints").glob("*")) == [], "an empty folder a study stayed for ever"


@pytest.mark.slow
def test_a_study_goes_on_unless_something_that_a_training_reads_is_another(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Any setting, and the names in another order, began a new study: a night of trials anew, without a word."""
    found = search(root, SETTINGS, 1, 1, 2, OVER)
    other = demo_settings({"feedback": {"sign_up": not SETTINGS.feedback.sign_up}, "gates": {"max_fpr": 0.9}, "train": {"patience": 77, "steps": 77}})
    assert search(root, other, 1, 1, 2, [*reversed(OVER), OVER[0]]) == found and len(studies(root)) == 1 and caplog.text == ""
    told = f"are others than in the 1 finished trials of {found['study']}, which stay."
    versions = SETTINGS.stage_versions
    for number, changed in enumerate(
        (
            demo_settings({"model": {"lstm_hidden": SETTINGS.model.lstm_hidden * 2}}),
            SETTINGS.model_copy(update={"seed": SETTINGS.seed + 1}),
            SETTINGS.model_copy(update={"stage_versions": versions.model_copy(update={"train": versions.train + 1})}),
        )
    ):
        caplog.clear()
        module._open(module.read_sets(root, changed), changed, OVER, 1, 2)
        assert len(studies(root)) == 2 + number and told in caplog.text
        caplog.clear()
        module._open(module.read_sets(root, changed), changed, OVER, 1, 2)
        assert caplog.text == "", "it is gone on with"
    module._open(module.read_sets(root, SETTINGS), SETTINGS, OVER[:1], 1, 2)
    assert caplog.text == "", "of other settings to vary nothing is there"


@pytest.mark.slow
def test_a_trial_learns_by_the_distance_and_the_frozen_start_of_params_yaml(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were put aside without a word: a weight for the critic was advised that had been tried on the distance of scores."""
    ends, train_anew = [], module.train_anew

    def watched(*given: Any, **wanted: Any) -> tuple[Any, bool]:
        network, resumed = train_anew(*given, **wanted)
        ends.append(sha256_bytes(b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())))
        return network, resumed

    monkeypatch.setattr(module, "train_anew", watched)
    for asked in ({}, {"distance": "critic"}, {"frozen": 1.0}):
        search(root, demo_settings({"train": {"wasserstein": 0.5, **asked}}), 1, 1, 2, ["train.lr"])
    assert len(set(ends)) == 3


def test_weights_are_those_of_the_workspace_and_a_study_goes_on_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were looked for where the caller stands: a right setting was blamed, or a file of that name there was taken without a word."""
    root, elsewhere, state = start_in_two_places(tmp_path)
    begun, pretrain = [], training.pretrain

    def watched(network: Any, *given: Any, **wanted: Any) -> Any:
        begun.append({name: tensor.clone() for name, tensor in network.backbone.state_dict().items()})
        return pretrain(network, *given, **wanted)

    monkeypatch.setattr(training, "pretrain", watched)
    monkeypatch.chdir(elsewhere)
    settings = demo_settings({"model": {"weights": "start.safetensors"}})
    found = search(root, settings, 1, 1, 1, ["train.lr"])
    assert len(begun) == 1 and all(torch.equal(begun[0][name], tensor) for name, tensor in state.items())
    root.rename(tmp_path / "moved")
    assert search(tmp_path / "moved", settings, 1, 1, 1, ["train.lr"]) == found and len(begun) == 1, "the same study, and nothing is trained again"


def test_what_no_trial_has_is_said_where_params_yaml_asks_for_it() -> None:
    row = {"trial": 0, "state": "complete", "auc": 0.8, "settings": {}, "videos": [3, 4], "diverged": None}
    text = render_search({"trials": [row], "best": row, "first": row, "changes": {}, "lacks": module.lacking(SETTINGS, has_champion=True)})
    assert "attacks during training (train.adversarial_steps), hardened clips (budget.hardened_clips), distillation (train.distillation) and the ch" in text
    plain = demo_settings({"train": {"adversarial_steps": 0, "distillation": 0.0, "processes": 2}, "budget": {"hardened_clips": 0}})
    assert module.lacking(plain, has_champion=True) == ["the champion's weights"], "a result lacks nothing that more processes would give it"


def test_before_the_first_champion_no_trial_lacks_what_is_a_champions(root: Path) -> None:
    """Its weights were named as missing where there never was one."""
    settings = demo_settings({"train": {"adversarial_steps": 0, "distillation": 0.5}, "budget": {"hardened_clips": 0}})
    found = search(root, settings, 1, 1, 2, ["train.lr"])
    assert found["lacks"] == [] and "Trial 0 is params.yaml as it stands." in render_search(found)
    Journal(root).append("promotion", cycle="2026-W47.1", model_sha256="a" * 64, path="models/2026-W47.1", previous_sha256="", who="gates", why="")
    assert search(root, settings, 1, 1, 2, ["train.lr"])["lacks"] == ["distillation (train.distillation)", "the champion's weights"]


def test_a_study_of_trials_that_put_more_aside_is_not_gone_on_with(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = module.read_sets(root, SETTINGS)
    now = module._open(sets, SETTINGS, OVER, 1, 1).study_name
    monkeypatch.setattr(module, "ASIDE", {**module.ASIDE, "frozen": 0.0, "distance": "scores"})
    assert module._open(sets, SETTINGS, OVER, 1, 1).study_name != now


@pytest.mark.parametrize("killed", [(1, 2), (2, 2)], ids=["in phase 2", "at its end"])
def test_a_trial_that_was_killed_and_gone_on_with_is_judged_by_all_its_looks(root: Path, killed: tuple[int, int]) -> None:
    """Those of before the kill were not told to the study: it was compared with the others by its last ones alone."""

    def dies(step: int, total: int, message: str) -> None:
        if (step, total) == killed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(root, SETTINGS, 1, 3, 2, OVER, dies)
    search(root, SETTINGS, 1, 3, 2, OVER)
    before, after = studies(root)[0].trials
    assert before.state.name == "FAIL" and sorted(after.intermediate_values) == [1, 2, 3, 4, 5] and after.state.name == "COMPLETE"
    assert before.intermediate_values and before.intermediate_values.items() <= after.intermediate_values.items()


def test_trials_of_a_killed_search_are_logged_once_and_by_the_numbers_of_its_page(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ended as the search was killed was nowhere in MLflow, or half of it; the others had the numbers of another count than the page's."""

    def dies(self: Any, *_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(MlflowClient, "log_param", dies)
        search(root, SETTINGS, 2, 3, 2, OVER)
    (study,) = studies(root)
    study.ask()  # and one that is broken off in its training
    page = search(root, SETTINGS, 2, 3, 2, OVER)["trials"]
    with open_registry(root, SETTINGS) as client:
        runs = client.search_runs([client.get_experiment_by_name(SETTINGS.registry.experiment).experiment_id], "tags.search LIKE '%'")
    logged = {run.data.tags["trial"]: run for run in runs if run.data.tags["trial"] != "all"}
    assert len(logged) == len(runs) - 1 == len(page) == 2 and all(run.info.status == "FINISHED" for run in runs)
    assert all(float(logged[str(row["trial"])].data.params["train.lr"]) == pytest.approx(row["settings"]["train.lr"]) for row in page)


@pytest.mark.parametrize("told", [False, True])
def test_a_search_that_was_killed_as_it_began_still_begins_at_params_yaml(root: Path, told: bool) -> None:
    """What it had not been given yet was drawn anew, and then named as a change to make; killed a moment later params.yaml was never tried."""
    sets = module.read_sets(root, SETTINGS)
    study = module._open(sets, SETTINGS, OVER, 1, 1)
    trial = study.ask()
    trial.suggest_float("train.lr", *SPACE["train.lr"][:2], log=True)
    if told:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    again = module._open(sets, SETTINGS, OVER, 1, 1).ask({name: module._distribution(SETTINGS, name) for name in OVER})
    assert again.params == {"train.lr": SETTINGS.train.lr, "model.dropout": SETTINGS.model.dropout}


def test_what_was_being_tried_waits_once_however_often_the_search_is_killed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = module.read_sets(root, SETTINGS)
    module._open(sets, SETTINGS, OVER, 1, 1).ask()
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(optuna.Study, "tell", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        module._open(sets, SETTINGS, OVER, 1, 1)
    found = [trial.state.name for trial in module._open(sets, SETTINGS, OVER, 1, 1).trials]
    assert found == ["FAIL", "WAITING"]


def test_trial_0_is_params_yaml_even_where_that_lies_outside_the_usual_range(root: Path) -> None:
    """The recipe `resnext-lstm` has no CNN head; clamped to 0.2 another network was trained and then named as a change."""
    asked = demo_settings({"model": {"fusion_cnn": 0.0}, "train": {"lr": 0.01}})
    found = search(root, asked, 1, 3, 2, ["model.fusion_cnn", "train.lr"])
    assert found["trials"][0]["settings"] == {"model.fusion_cnn": 0.0, "train.lr": 0.01} and found["changes"] == {}


def test_a_trial_behind_the_median_is_given_up(root: Path) -> None:
    search(root, SETTINGS, 1, 3, 2, OVER)
    (study,) = studies(root)
    space = {name: optuna.distributions.FloatDistribution(*SPACE[name][:2], log=SPACE[name][2]) for name in OVER}
    for _ in range(module.STARTUP):
        perfect = dict.fromkeys(range(1, 6), 1.5)  # so good that nothing real reaches it
        study.add_trial(
            optuna.trial.create_trial(params=study.trials[0].params, distributions=space, value=1.5, intermediate_values=perfect),
        )
    found = search(root, SETTINGS, 2 + module.STARTUP, 3, 2, OVER)
    assert found["trials"][-1]["state"] == "pruned" and found["best"]["auc"] == 1.5
    assert list((root / ".vigil/checkpoints").glob("*")) == [], "nothing of a trial that was given up is left"
    text = render_search(found)
    assert "given up" in text and "behind the median" in text and "diverged" not in text


def test_a_trial_that_diverges_is_given_up_and_the_search_goes_on(root: Path) -> None:
    """Tried again with the same numbers it diverges again: a search was stuck there for ever."""
    wild = SETTINGS.model_copy(update={"pretrain": SETTINGS.pretrain.model_copy(update={"weight_decay": 1e35})})
    found = search(root, wild, 1, 6, 2, ["pretrain.weight_decay"])
    assert [row["state"] for row in found["trials"]] == ["pruned"] and list((root / ".vigil/checkpoints").glob("*")) == []
    (study,) = studies(root)
    assert "no longer numbers" in study.trials[0].user_attrs["gave_up"] and "no longer numbers" in found["trials"][0]["diverged"]
    text = render_search(found)
    assert "Diverged: " in text and "No trial was finished" in text
    assert "median" not in text and "better" not in text, "there were no others to be behind, and params.yaml itself did not learn"


def test_studies_that_are_no_database_are_named(root: Path) -> None:
    (root / STUDIES).parent.mkdir(parents=True, exist_ok=True)
    (root / STUDIES).write_text("no database " * 500)
    with pytest.raises(DataError, match=r"(?s)Nothing was tried.*search\.db.*Move it away") as refused:
        search(root, SETTINGS, 1, 6, 2, ["train.lr"])
    assert "mistake" not in str(refused.value) and (root / STUDIES).read_text().startswith("no database")


def test_the_best_is_told_as_changes(root: Path) -> None:
    row = {"trial": 1, "state": "complete", "auc": 0.9, "settings": {"train.lr": 0.001}, "videos": [3, 4], "diverged": None}
    first = row | {"trial": 0, "auc": 0.8}
    about = {"first": first, "lacks": ["the champion's weights"]}
    text = render_search({"trials": [first, row], "best": row, "changes": {"train": {"lr": 0.001}}, **about})
    assert "+0.100 against trial 0" in text and "  train:\n    lr: 0.001" in text and "3 real and 4 fake" in text
    assert "Nothing tried was better" in render_search({"trials": [first], "best": first, "changes": {}, **about})
    assert "but for what no trial has: the champion's weights." in text


def test_what_cannot_be_searched_is_refused(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(SettingsError, match=r"seed"):
        search(root, SETTINGS, 1, 3, 2, ["seed"])
    with pytest.raises(DataError, match="vigil retrain"):
        search(tmp_path_factory.mktemp("empty"), SETTINGS, 1, 3, 2)
    assert not (root / module.STUDIES).exists()


def test_a_setting_that_changes_nothing_is_not_searched(root: Path) -> None:
    """With bce four trials of focal_gamma were one and the same training, and the best of them named it as something to set."""
    focal, bare = demo_settings({"train": {"loss": "focal"}}), demo_settings({"train": {"loss": "focal"}, "augment": {"degrade": 0.0}})
    assert SETTINGS.train.loss == "bce" and SPACE.keys() - set(module._chosen(SETTINGS, None)) == {"train.focal_gamma"}
    assert module._chosen(focal, None) == module._chosen(bare, None) == list(SPACE), "where its switch is varied too it is searched"
    with pytest.raises(SettingsError, match=r"focal_gamma(.|\n)*train\.loss is bce"):
        search(root, SETTINGS, 4, 30, 6, ["train.lr", "train.focal_gamma"])
    with pytest.raises(SettingsError, match=r"poor_reals(.|\n)*augment\.degrade is 0"):
        search(root, bare, 4, 30, 6, ["augment.poor_reals"])
    assert not (root / module.STUDIES).exists(), "nothing was tried"


def test_a_trial_that_is_given_up_leaves_the_checkpoints_of_others_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cycle may begin to train while a trial runs; what it has saved is its way back after a kill."""
    others = root / module.CHECKPOINTS / "a-cycle"

    def gives_up(sets: object, *wanted: object, folder: Path, **rest: object) -> None:
        for made in (others, folder / "a-phase"):
            made.mkdir(parents=True)
        raise Diverged("Training diverged.", why="it does", next_step="Lower the rate.")

    monkeypatch.setattr(module, "train_anew", gives_up)
    found = search(root, SETTINGS, 1, 3, 2, OVER)
    assert [row["state"] for row in found["trials"]] == ["pruned"]
    assert [folder.name for folder in (root / module.CHECKPOINTS).iterdir()] == ["a-cycle"]


@pytest.mark.slow
def test_a_cycle_that_replaces_the_sets_meanwhile_changes_nothing(root: Path) -> None:
    """Each trial read data/sets anew, so that a study compared trials of different sets."""
    found = search(root, SETTINGS, 2, 3, 2, ["train.lr"], lambda *_: shutil.rmtree(root / "data/sets", ignore_errors=True))
    assert [(row["state"], row["videos"]) for row in found["trials"]] == [("complete", [4, 4])] * 2 and not (root / "data/sets").exists()


def test_a_second_search_is_refused_while_one_runs(root: Path) -> None:
    with stage_lock(root, "search"), pytest.raises(LeaseHeldError, match="search already runs"):
        search(root, SETTINGS, 1, 3, 2, OVER)
    assert not (root / module.STUDIES).exists(), "nothing was touched"
