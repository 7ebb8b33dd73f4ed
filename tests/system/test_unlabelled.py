"""A week in which only media without a label came in: it is measured, nothing is trained, and it ends well, with and without a champion."""

import shutil
from pathlib import Path

import pytest

from tests.system.world import copy_workspace, events, git, quick_workspace, stage_runs, vigil, vigil_json
from workspace.files import read_json

pytestmark = pytest.mark.usefixtures("one_server")


def unlabelled(media: Path, to: Path, count: int) -> Path:
    """So many real clips as a source that says nothing about them."""
    to.mkdir(parents=True)
    rows = []
    for path in sorted((media.parent / "real").rglob("*.mp4"))[:count]:
        shutil.copy(path, to / path.name)
        rows.append(f"{path.name},")
    assert len(rows) == count
    (to / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return to


def test_the_first_week_without_a_label_ends_and_says_so(media: Path, tmp_path: Path) -> None:
    root = quick_workspace(tmp_path / "w")
    vigil("ingest", unlabelled(media, tmp_path / "street", 6), "--identity", "file", "-w", root)
    done = vigil("retrain", "-w", root)
    assert done.returncode == 3 and "nothing to learn from" in done.stdout and "no champion" in done.stdout, done.stdout
    (batch,) = vigil_json("batches", "-w", root)
    assert batch["state"] == "held" and "no label" in batch["why"] and {name.partition("@")[0] for name in stage_runs(root)} <= {"faces", "validate"}
    assert vigil_json("batches", "show", batch["batch"], "-w", root)["waiting"] == batch["samples"]
    assert git(root, "tag", "-l", "vigil/*") and not vigil_json("retrain", "--dry-run", "-w", root)["needed"], "nothing is left to do"
    for path in media.parent.rglob("p0016_*.mp4"):
        to = tmp_path / "labelled" / path.relative_to(media.parent)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    assert "4 new" in vigil("ingest", tmp_path / "labelled", "-w", root).stdout
    assert "1 new batch" in vigil("retrain", "--dry-run", "-w", root).stdout, "the next labelled batch is a week like any other"


@pytest.mark.slow
def test_with_a_champion_such_a_week_is_measured_for_drift_and_the_champion_stays(promoted: Path, second_media: Path, tmp_path: Path) -> None:
    root = copy_workspace(promoted, tmp_path / "w")
    before = stage_runs(root)
    vigil("ingest", unlabelled(second_media, tmp_path / "street", 12), "--identity", "file", "--name", "street", "-w", root)
    done = vigil("retrain", "-w", root)
    assert done.returncode == 3 and "nothing to learn from" in done.stdout and "drift" in done.stdout, done.stdout
    ran = stage_runs(root)[len(before) :]
    assert {"drift", "assemble"} <= set(ran) and not {"pretrain", "harden", "train", "evaluate", "gate"} & set(ran)
    found = read_json(root / "reports" / "drift" / "drift.json")
    assert found["unlabelled"]["n_new"] == found["n_new"] > 0
    assert len(events(root, "promotion")) == 1 and len(events(root, "cycle_closed")) == 2
