"""The audit: it passes a sound set, and it sees a set that nothing could learn."""

from pathlib import Path

import pandas as pd
import pytest

from pipelines.audit import audit
from tests.pipelines.small_world import add_batch, demo_settings, start_in_two_places, write_sets
from workspace.errors import DataError

SETTINGS = demo_settings({"pretrain": {"lr": 0.004}})


def test_a_sound_set_passes(tmp_path: Path) -> None:
    write_sets(tmp_path, add_batch(tmp_path, "b1", 20), {"b1"})
    rows = {row["check"]: row for row in audit(tmp_path, SETTINGS)}
    assert rows["learns clips by heart: AUC"]["verdict"] == rows["learns clips by heart: loss"]["verdict"] == "pass"
    assert not (tmp_path / ".vigil").exists(), "nothing is kept"
    alone = rows["numbers beside the pixels: AUC"]
    assert alone["low"] < alone["value"] and alone["verdict"] != "fail"


def test_one_picture_under_both_labels_cannot_be_learned(tmp_path: Path) -> None:
    rows = add_batch(tmp_path, "b1", 20)
    place = ["shard", "offset", "nbytes", "sha256", "frames"]
    one = rows[rows["label"] == "real"].iloc[0]
    larger = rows["face_px"] + 40 * (rows["label"] == "fake")
    write_sets(tmp_path, rows.assign(face_px=larger, **{name: one[name] for name in place}), {"b1"})
    found = {row["check"]: row["verdict"] for row in audit(tmp_path, SETTINGS)}
    assert found["learns clips by heart: AUC"] == found["learns clips by heart: loss"] == "fail"
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
    assert rows["learns clips by heart: AUC"]["verdict"] == rows["learns clips by heart: loss"]["verdict"] == "pass"
