"""`vigil evaluate`: any labelled data set, every file a row, figures that anyone can recompute from the table."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from model.metrics import auc, summarise
from model.shipped import STARTER, has_starter
from pipelines.measure import measure, read_labelled
from tests.system.world import git, vigil, vigil_json
from vigil.api import Detector
from vigil.measuring import render, render_cross
from workspace.settings import SourceSettings


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, second_media: Path) -> Path:
    """A plain folder of a few clips, one file that is no video, one without a label."""
    folder = tmp_path_factory.mktemp("set")
    for kind, into in (("real", "real"), ("fake/upsampler", "fake/upsampler")):
        (folder / into).mkdir(parents=True)
        for path in sorted((second_media.parent / kind).glob("*.mp4"))[:5]:
            shutil.copy(path, folder / into)
    (folder / "real" / "broken.mp4").write_bytes(b"\x00" * 3000)
    return folder


@pytest.fixture(scope="module")
def measured(promoted: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("out")
    return vigil_json("evaluate", source, "-w", promoted, "--out", out), out


def test_every_file_is_a_row_and_the_figures_follow_from_the_rows(measured: tuple[dict, Path]) -> None:
    report, out = measured
    with open(out / "predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 11 and report["answered"]["of"] == 11
    broken = next(row for row in rows if row["file"] == "real/broken.mp4")
    assert broken["verdict"] == "none" and broken["reason"] and report["no_verdict"] == {broken["reason"]: 1}
    known = [row for row in rows if row["p_fake"]]
    labels, scores = [row["label"] for row in known], [float(row["p_fake"]) for row in known]
    assert report["overall"]["auc"]["value"] == pytest.approx(auc(labels, scores), abs=1e-6)
    again = summarise(labels, scores, report["threshold"])
    assert report["overall"]["balanced_accuracy"]["value"] == pytest.approx(again["balanced_accuracy"], abs=1e-6)
    assert set(report["by_generator"]) == {"upsampler"} and set(report["by_kind"]) == {"video"}
    assert json.loads((out / "evaluation.json").read_text())["overall"] == report["overall"]
    low, value, high = (report["overall"]["auc"][end] for end in ("low", "value", "high"))
    assert low <= value <= high if 0 < value < 1 else low is None
    assert report["drawn"] == {"over": "files", "people": 0, "source_videos": 0, "files": 10} and "over files: nobody says whose" in render(report)
    assert report["learned"] == 0 and report["learned_unknown"] == "" and sum(sum(said.values()) for said in report["verdicts"].values()) == len(rows)


def test_measuring_leaves_the_workspace_as_it_was(promoted: Path, measured: tuple[dict, Path]) -> None:
    assert git(promoted, "status", "--porcelain") == "" and len(vigil_json("batches", "-w", promoted)) == 1


@pytest.mark.slow
def test_identity_says_who_is_in_a_file_and_people_are_drawn(promoted: Path, source: Path, tmp_path: Path) -> None:
    done = vigil("evaluate", source, "--identity", r"pattern:^(p\d+)", "-w", promoted, "--out", tmp_path / "out")
    assert "95% intervals over people." in done.stdout
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    with open(tmp_path / "out" / "predictions.csv", newline="") as handle:
        people = {row["identity"] for row in csv.DictReader(handle) if row["p_fake"]}
    assert report["overall"]["auc"]["clusters"] == len(people) < report["answered"]["n"] == report["drawn"]["people"]
    done = vigil("evaluate", source, "--identity", "column", "-w", promoted, "--out", tmp_path / "no", check=False)
    assert done.returncode == 1 and "does not say who is in its files" in done.stderr


@pytest.mark.slow
def test_every_past_champion_on_every_source(twice: Path, source: Path, media: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    for kind in ("real", "fake/blendswap"):
        (first / kind).mkdir(parents=True)
        for path in sorted((media.parent / kind).glob("*.mp4"))[:16:2]:
            shutil.copy(path, first / kind)
    found = vigil_json("evaluate", first, source, "--cross", "-w", twice, "--out", tmp_path / "out")
    assert len(found["models"]) == 2 and [len(row["cells"]) for row in found["models"]] == [2, 2]
    assert "upsampler" not in found["models"][0]["learned"] and "upsampler" in found["models"][1]["learned"]
    for place, row in enumerate(found["models"]):
        for number, cell in enumerate(row["cells"], start=1):
            (folder,) = (tmp_path / "out" / row["model"]).glob(f"{number}-*")
            report = json.loads((folder / "evaluation.json").read_text())
            assert report["overall"]["auc"] == cell["auc"] and report["learned"] == cell["learned"]
            if number == 1 or place == 0:
                assert (report["learned"] > 0) == (number == 1), "of eight people some trained both models; the others the first had never met"
    warned = next(line for line in render_cross(found).splitlines() if "in its last training" in line)
    assert all((f"{row['model']} on {number} " in warned) == (cell["learned"] > 0) for row in found["models"] for number, cell in enumerate(row["cells"], 1))
    done = vigil("evaluate", first, "--cross", "-w", tmp_path, "--out", tmp_path / "no", check=False)
    assert done.returncode == 1 and "Next:" in done.stderr


@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
def test_a_source_of_which_no_file_got_a_verdict_is_not_a_success(tmp_path: Path) -> None:
    for number, kind in enumerate(("real", "fake/x")):
        (tmp_path / "set" / kind).mkdir(parents=True)
        (tmp_path / "set" / kind / "broken.mp4").write_bytes(bytes([number]) * 3000)
    for words in (["set"], ["set", "--cross", "--model", STARTER]):
        done = vigil("evaluate", *words, cwd=tmp_path, check=False)
        assert done.returncode == 3, done.stdout + done.stderr


def test_where_the_figures_go_is_settled_before_anything_is_scored(tmp_path: Path) -> None:
    (tmp_path / "set" / "real").mkdir(parents=True)
    (tmp_path / "set" / "real" / "a.mp4").write_bytes(b"x")
    (tmp_path / "taken").write_text("a file, and no folder")
    source = SourceSettings(name="set", path=str(tmp_path / "set"))
    with pytest.raises(FileExistsError, match="taken"):
        measure([], read_labelled(source), [tmp_path / "taken"])


@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
def test_every_source_is_read_before_any_is_scored(tmp_path: Path) -> None:
    """That the second one had no labels was said after the first had been scored, whole."""
    for folder in ("good/real", "good/fake/x", "bad"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.mp4").write_bytes(folder.encode() * 100)
    done = vigil("evaluate", "good", "bad", "--cross", "--model", STARTER, "--out", "out", cwd=tmp_path, check=False)
    assert done.returncode == 1 and "what is real and what is fake" in done.stderr and "files scored" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_source_without_labels_says_what_to_do(promoted: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"x")
    done = vigil("evaluate", tmp_path / "clips", "-w", promoted, check=False)
    assert done.returncode == 1 and "Next:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_explain_writes_pictures_and_a_sentence_a_person_may_repeat(promoted: Path, source: Path, tmp_path: Path) -> None:
    import cv2

    clip = next((source / "fake" / "upsampler").glob("*.mp4"))
    detector = Detector(promoted)
    said = detector.score(clip)
    page = vigil_json("explain", clip, "-w", promoted, "--out", tmp_path / "why")
    dense = detector.score(clip, mode="dense")  # what was found there can be explained there
    assert vigil_json("explain", clip, "-w", promoted, "--mode", "dense", "--out", tmp_path / "dense")["p_fake"] == pytest.approx(dense.p_fake)
    assert page["verdict"] == said.verdict and page["p_fake"] == pytest.approx(said.p_fake)
    assert page["sentence"].startswith(("Called fake", "Called real", "Left uncertain")) and page["sentence"].endswith("there.")
    for name in page["pictures"]:
        picture = cv2.imread(str(tmp_path / "why" / name))
        assert picture is not None and picture.std() > 5
    done = vigil("explain", source / "real" / "broken.mp4", "-w", promoted, "--out", tmp_path / "none", check=False)
    assert done.returncode == 1 and "nothing to explain" in done.stderr and "Traceback" not in done.stderr
    assert "it is a folder" in vigil("explain", source, "-w", promoted, check=False).stderr
