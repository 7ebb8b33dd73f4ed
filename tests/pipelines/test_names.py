"""What a cycle refuses before it begins: weights that cannot be had or do not fit, and single pictures that batch norm cannot learn from."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from model.backbones import build_backbone
from pipelines.names import refuse_unknown_names
from tests.model.toys import SMALL, model_folder
from tests.pipelines.small_world import demo_settings
from workspace.errors import ModelFileError, SettingsError, VigilError
from workspace.journal import Journal

PATH = "models/2026-W47.1"


def look(root: Path, model: dict[str, Any], **other: Any) -> None:
    refuse_unknown_names(root, demo_settings({"model": {"lstm_hidden": SMALL.lstm_hidden} | model} | other))


@pytest.mark.parametrize(
    ("model", "size_px", "problem", "says"),
    [
        ({"backbone": "resnext50_32x4d", "weights": "IMAGENET1K_V9"}, 64, SettingsError, "IMAGENET1K_V2"),
        ({"weights": "IMAGENET1K_V1"}, 64, SettingsError, "networks written here"),
        ({"backbone": "efficientnet_lite0", "weights": "IMAGENET1K_V2"}, 64, SettingsError, "IMAGENET1K_V1"),
        ({"backbone": "vit_b_32", "weights": "IMAGENET1K_V1"}, 64, ModelFileError, "224 px"),
        ({"weights": "no/such.safetensors"}, 64, ModelFileError, "no/such.safetensors"),
    ],
)
def test_weights_that_cannot_be_had_are_refused_before_a_cycle_begins(
    tmp_path: Path, model: dict[str, Any], size_px: int, problem: type[VigilError], says: str
) -> None:
    """They were found in stage `pretrain`, hours later."""
    with pytest.raises(problem, match=says) as refusal:
        look(tmp_path, model, faces={"size_px": size_px})
    assert "model.weights" in refusal.value.next_step


def test_weights_of_another_network_are_refused_and_fitting_ones_are_found_from_the_workspace(tmp_path: Path) -> None:
    save_file(build_backbone("resnext_tiny").state_dict(), tmp_path / "start.safetensors")
    look(tmp_path, {"weights": "start.safetensors"})
    with pytest.raises(ModelFileError, match="Cannot start from"):
        look(tmp_path, {"backbone": "meso4", "weights": "start.safetensors"})


def test_weights_that_can_be_had_are_not_fetched_to_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(address: str) -> Path:
        raise AssertionError(address)

    monkeypatch.setattr("model.backbones._fetched", fetched)
    look(tmp_path, {"backbone": "resnet18", "weights": "IMAGENET1K_V1"})
    look(tmp_path, {"backbone": "efficientnet_lite0", "weights": "IMAGENET1K_V1"})


def test_a_file_that_is_gone_is_missed_only_where_the_champion_is_not_the_start(tmp_path: Path) -> None:
    gone = {"weights": "gone.safetensors"}
    journal = Journal(tmp_path)
    model_folder(tmp_path / PATH)
    journal.append("promotion", cycle="2026-W47.1", model_sha256="a" * 64, path=PATH, previous_sha256="", who="vigil", why="passed")
    look(tmp_path, gone)
    with pytest.raises(ModelFileError, match="Cannot start from"):
        look(tmp_path, gone | {"lstm_hidden": 2 * SMALL.lstm_hidden})


def test_a_cycle_under_way_is_not_asked_for_what_it_may_have_started_from_already(tmp_path: Path) -> None:
    about = {"cycle": "2026-W47.1", "judged": ["b1"], "base_model": "", "fingerprint": "", "scheduled": False, "week": "2026-W47"}
    Journal(tmp_path).append("cycle_opened", **about)
    look(tmp_path, {"weights": "gone.safetensors"})


@pytest.mark.parametrize(
    ("backbone", "size_px", "phase", "refused"),
    [
        ("resnet18", 32, {"batch": 8, "micro_batch": 1}, True),
        ("resnet18", 32, {"batch": 20, "micro_batch": 4, "processes": 4}, True),  # five a process: four, and one
        ("resnext50_32x4d", 32, {"batch": 8, "micro_batch": 1}, True),
        ("resnet18", 32, {"batch": 8, "micro_batch": 2}, False),
        ("resnet18", 64, {"batch": 8, "micro_batch": 1}, False),
        ("squeezenet1_1", 32, {"batch": 8, "micro_batch": 1}, False),  # it has no batch norm
    ],
)
def test_a_single_picture_of_which_batch_norm_sees_one_value_is_refused(
    tmp_path: Path, backbone: str, size_px: int, phase: dict[str, int], refused: bool
) -> None:
    """It passed every check, and was a traceback of stage `pretrain` without a word about micro_batch."""
    about = {"faces": {"size_px": size_px}, "pretrain": phase}
    if not refused:
        return look(tmp_path, {"backbone": backbone}, **about)
    with pytest.raises(SettingsError, match="one picture of 32 px") as refusal:
        look(tmp_path, {"backbone": backbone}, **about)
    assert "micro_batch" in refusal.value.next_step
