"""The audit: it passes a sound set, and it sees a set that nothing could learn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model.network import ClipOutputs, ResNeXtLSTM
from pipelines.audit import audit
from tests.pipelines.small_world import add_batch, demo_settings, start_in_two_places, write_sets
from workspace.errors import DataError

SETTINGS = demo_settings({"pretrain": {"lr": 0.004}})
# as the recipe resnext-lstm has it: the frame head has no part in what is said of a clip; and a rate that so few steps show nothing by
SEQUENCE = demo_settings(
    {
        "pretrain": {"lr": 0.004},
        "train": {"lr": 1e-6},
        "model": {"fusion_cnn": 0.0, "certainty_attention": False, "spatial_attention": False, "bidirectional": False},
    }
)
HEART = [("single frames", "AUC"), ("single frames", "loss"), ("clips", "AUC")]


def test_a_sound_set_passes(tmp_path: Path) -> None:
    write_sets(tmp_path, add_batch(tmp_path, "b1", 20), {"b1"})
    rows = {row["check"]: row for row in audit(tmp_path, SEQUENCE)}
    assert [rows[f"learns {what} by heart: {figure}"]["verdict"] for what, figure in HEART] == ["pass"] * 3
    assert not (tmp_path / ".vigil").exists(), "nothing is kept"
    alone = rows["numbers beside the pixels: AUC"]
    assert alone["low"] < alone["value"] and alone["verdict"] != "fail"


def test_a_network_that_cannot_answer_clips_fails_though_it_learns_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only frames were shown to it: a head that no verdict hears passed, and nobody had asked the one that answers."""
    whole = ResNeXtLSTM.forward_all

    def mute(network: ResNeXtLSTM, *given: Any) -> ClipOutputs:
        said = whole(network, *given)
        return replace(said, logits=said.logits * 0)

    monkeypatch.setattr(ResNeXtLSTM, "forward_all", mute)
    write_sets(tmp_path, add_batch(tmp_path, "b1", 20), {"b1"})
    found = {row["check"]: row["verdict"] for row in audit(tmp_path, SEQUENCE)}
    assert found["learns clips by heart: AUC"] == "fail"
    assert found["learns single frames by heart: AUC"] == found["learns single frames by heart: loss"] == "pass"


def test_one_picture_under_both_labels_cannot_be_learned(tmp_path: Path) -> None:
    rows = add_batch(tmp_path, "b1", 20)
    place = ["shard", "offset", "nbytes", "sha256", "frames"]
    one = rows[rows["label"] == "real"].iloc[0]
    larger = rows["face_px"] + 40 * (rows["label"] == "fake")
    write_sets(tmp_path, rows.assign(face_px=larger, **{name: one[name] for name in place}), {"b1"})
    found = {row["check"]: row["verdict"] for row in audit(tmp_path, SETTINGS)}
    assert [found[f"learns {what} by heart: {figure}"] for what, figure in HEART] == ["fail"] * 3
    assert found["numbers beside the pixels: AUC"] == "fail", "the fakes' faces are larger, of all twelve people"


def test_one_class_is_refused(tmp_path: Path) -> None:
    rows = add_batch(tmp_path, "b1", 20)
    write_sets(tmp_path, pd.DataFrame(rows[rows["label"] == "real"]), {"b1"})
    with pytest.raises(DataError, match="learn by heart"):
        audit(tmp_path, SETTINGS)


def test_weights_are_those_of_the_workspace_wherever_the_caller_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of that name in the caller's folder was taken in their place, and the audit failed; without one the setting, which was right, was blamed."""
    root, elsewhere, _ = start_in_two_places(tmp_path)
    settings = demo_settings({"pretrain": {"lr": 0.004}, "model": {"weights": "start.safetensors"}})
    monkeypatch.chdir(elsewhere)
    rows = {row["check"]: row for row in audit(root, settings)}
    assert [rows[f"learns {what} by heart: {figure}"]["verdict"] for what, figure in HEART] == ["pass"] * 3
