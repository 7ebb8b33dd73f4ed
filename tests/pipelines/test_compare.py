"""Networks side by side: one recipe, finished runs are kept, a changed budget is another comparison, unknown names are refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.compare import CHECKPOINTS, RESULTS, compare, means, read_sets
from tests.pipelines.small_world import add_batch, demo_settings, write_sets
from vigil.reading import render_compared
from workspace.errors import DataError, LeaseHeldError, SettingsError
from workspace.processes import stage_lock

SETTINGS = demo_settings()
NAMES = ("meso4", "resnet18", "temporal:gru")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sets(tmp_path, add_batch(tmp_path, "b1", 20), {"b1"})
    return tmp_path


def test_each_network_is_trained_measured_and_not_trained_again(root: Path) -> None:
    rows = compare(root, SETTINGS, NAMES, 3, 2, [1])
    assert [row["name"] for row in rows] == list(NAMES) and {row["n_real"] for row in rows} == {4}
    assert all(0 <= row["auc"] <= 1 and row["clip_ms"] > 0 for row in rows)
    assert rows[0]["parameters"] < rows[2]["parameters"] < rows[1]["parameters"]
    before = (root / RESULTS).read_text()
    assert compare(root, SETTINGS, NAMES, 3, 2, [1]) == rows and (root / RESULTS).read_text() == before
    other = compare(root, SETTINGS, ["meso4"], 4, 2, [1, 2])
    assert len((root / RESULTS).read_text().splitlines()) == 5, "another budget is another comparison"
    (row,) = means(other)
    assert row["seeds"] == 2 and row["auc"] == pytest.approx(sum(one["auc"] for one in other) / 2)


def test_a_network_that_diverges_is_a_row_of_its_own_and_the_others_are_trained(root: Path) -> None:
    """It ended the command, the same way each time, and nobody saw what was finished."""
    wild = SETTINGS.model_copy(update={"pretrain": SETTINGS.pretrain.model_copy(update={"weight_decay": 1e35})})
    lost = compare(root, wild, ["meso4", "temporal:gru"], 6, 2, [1])
    assert [row["auc"] for row in lost] == [None, None] and all("is not finite" in row["diverged"] or "no longer numbers" in row["diverged"] for row in lost)
    before = (root / RESULTS).read_text()
    assert compare(root, wild, ["meso4", "temporal:gru"], 6, 2, [1]) == lost and (root / RESULTS).read_text() == before, "it would diverge again"
    learned = compare(root, SETTINGS, ["meso4"], 3, 2, [1])
    (mixed, other) = means([learned[0], lost[0] | {"seed": 2}, lost[1]])
    assert (mixed["seeds"], mixed["diverged"], mixed["auc"], mixed["auc_spread"]) == (2, 1, learned[0]["auc"], None)
    assert other["diverged"] == 1 and other["auc"] is None and other["clip_ms"] is None
    text = render_compared([other, mixed], lost[0])
    assert text.index("meso4") < text.index("temporal:gru") and "(1 of 2 diverged)" in text and "too high" in text
    assert f"{lost[0]['n_real']} real" in text and "Diverged:" not in render_compared(means(learned), learned[0])


def test_a_cycle_that_replaces_the_sets_meanwhile_changes_nothing(root: Path) -> None:
    """Each network read data/sets anew: rows of different sets stood under one key, and the first line's counts were told of all."""

    def a_cycle_begins_anew(*_: object) -> None:
        shutil.rmtree(root / "data/sets", ignore_errors=True)

    rows = compare(root, SETTINGS, ["meso4", "temporal:gru"], 3, 2, [1], a_cycle_begins_anew)
    assert [(row["n_real"], row["n_fake"]) for row in rows] == [(4, 4)] * 2 and not (root / "data/sets").exists()


def test_a_run_that_was_broken_off_while_it_wrote_a_row_is_run_again(root: Path) -> None:
    """Half a row ended every later comparison."""
    (row,) = compare(root, SETTINGS, ["meso4"], 1, 1, [1])
    text = (root / RESULTS).read_text()
    (root / RESULTS).write_text(text + text[: len(text) // 2])
    assert compare(root, SETTINGS, ["meso4"], 1, 1, [1, 2])[0] == row
    assert [one["seed"] for one in compare(root, SETTINGS, ["meso4"], 1, 1, [1, 2])] == [1, 2] and len((root / RESULTS).read_text().splitlines()) == 3


@pytest.mark.parametrize("phase", [1, 2])
def test_how_long_a_training_took_is_not_told_of_one_that_was_broken_off(root: Path, phase: int) -> None:
    """The seconds of the last part alone stood in the comparison for good."""

    def stop(done: int, total: int, *_: object) -> None:
        if (done, total) == (1, phase):  # phase 2 has two steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(root, SETTINGS, ["meso4"], 1, 2, [1], stop)
    rows = compare(root, SETTINGS, ["meso4"], 1, 2, [1, 2])
    assert rows[0]["seconds"] is None and rows[1]["seconds"] >= 0
    assert means(rows)[0]["seconds"] == rows[1]["seconds"]
    (alone,) = means(rows[:1])
    assert alone["seconds"] is None and render_compared([alone], rows[0]).splitlines()[1].split()[-1] == "-"


def test_means_of_times_are_as_exact_as_what_they_are_of() -> None:
    """15.399999999999999 ms were printed."""
    row = {"name": "meso4", "auc": 0.9, "accuracy": 0.8, "f1": None, "seconds": 3, "megabytes": 0.1}
    (mean,) = means([row | {"clip_ms": one} for one in (15.1, 15.7)])
    assert mean["clip_ms"] == 15.4


@pytest.mark.parametrize("column", ["label", "role", "new", "identity"])
def test_what_was_corrected_is_another_comparison(root: Path, column: str) -> None:
    """Only the clips were told: after a label was mended the rows of the wrong one were still given out."""
    sets = read_sets(root, SETTINGS)
    for name, table in (("train", sets.train), ("validation", sets.validation)):
        mended = replace(sets, **{name: table.assign(**{column: ["other", *table[column][1:]]})})
        assert mended.key({}) != sets.key({}) == replace(sets, **{name: table[::-1]}).key({})


def test_a_name_given_twice_is_no_second_seed(root: Path) -> None:
    (row,) = means(compare(root, SETTINGS, ["meso4", "meso4"], 3, 2, [1]))
    assert row["seeds"] == 1 and row["auc_spread"] is None


def test_a_setting_that_no_network_is_trained_with_changes_nothing_and_all_begin_from_nothing(root: Path) -> None:
    """A recipe with published weights would else give its temporal heads a start that no other network has. And a night of trainings began anew
    because `pretrain.steps` was another, in whose place the command has its own."""
    (row,) = compare(root, SETTINGS, ["temporal:gru"], 1, 1, [1])
    for block, aside in {
        "model": {"weights": "IMAGENET1K_V1"},
        "pretrain": {"steps": 24, "validate_every": 7, "patience": 9},
        "train": {"steps": 25, "validate_every": 7, "patience": 9, "adversarial_steps": 3, "adversarial_eps": 0.1, "distillation": 0.9, "frozen": 0.2},
    }.items():
        assert compare(root, demo_settings({block: aside}), ["temporal:gru"], 1, 1, [1]) == [row]
    assert compare(root, demo_settings({"train": {"lr": 0.00042}}), ["temporal:gru"], 1, 1, [1])[0]["key"] != row["key"]
    assert "began from nothing (without model.weights)" in render_compared(means([row]), row)


@pytest.mark.slow
def test_no_network_is_taught_the_places_of_forgeries_which_a_3d_network_cannot_tell(root: Path) -> None:
    """With `pretrain.locate`, as the profile `full` has it, r3d_18 had no map to find them in, and the comparison ended there."""
    places, none = (demo_settings({"pretrain": {"pairs": True, "locate": weight}}) for weight in (1.0, 0.0))
    (row,) = compare(root, places, ["r3d_18"], 1, 1, [1])
    assert compare(root, none, ["r3d_18"], 1, 1, [1]) == [row], "and so it is the same comparison"


@pytest.mark.parametrize("name", ["resnext_99", "temporal:abacus", "vit_h_14", "googlenet"])
def test_unknown_networks_are_refused_before_anything_is_trained(root: Path, name: str) -> None:
    """And one that does not take pictures of this size (vit_h_14 wants a multiple of 14), or whose map nobody knows: such a one was a mistake in Vigil."""
    with pytest.raises(SettingsError):
        compare(root, SETTINGS, ["meso4", name], 3, 2, [1])
    assert not (root / RESULTS).exists()


def test_a_network_that_cannot_learn_from_one_picture_at_once_is_refused_before_anything_is_trained(root: Path) -> None:
    with pytest.raises(SettingsError, match="one picture of 32 px"):
        compare(root, demo_settings({"pretrain": {"micro_batch": 1}}), ["resnet18"], 3, 2, [1])


def test_a_second_comparison_is_refused_while_one_runs_and_a_cycle_s_checkpoints_are_not_its(root: Path) -> None:
    """Both trained every network, wrote each row twice, and went on from each other's checkpoints."""
    with stage_lock(root, "compare"), pytest.raises(LeaseHeldError, match="compare already runs"):
        compare(root, SETTINGS, ["meso4"], 1, 2, [1])
    assert not (root / RESULTS).exists(), "nothing was touched"

    def stop(done: int, total: int, *_: object) -> None:
        if (done, total) == (1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(root, SETTINGS, ["meso4"], 1, 2, [1], stop)
    assert [one.name for one in (root / CHECKPOINTS).iterdir()] == ["compare"]


def test_before_the_first_cycle_there_is_nothing_to_compare_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="vigil retrain"):
        compare(tmp_path, SETTINGS, ["meso4"], 3, 2, [1])
