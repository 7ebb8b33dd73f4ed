"""The front door of a workspace that has a champion: what is scored, explained, compared and decided there."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from media.decode import read_frames
from model.shipped import has_starter
from tests.system.world import Broken, copy_workspace, events, vigil, vigil_json
from workspace.journal import Journal
from workspace.revisions import git

COLUMNS = ["file", "p_fake", "verdict", "frames", "faces", "model", "reason"]


def bad_files(folder: Path) -> list[Path]:
    folder.mkdir()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "random.mp4").write_bytes(bytes(range(256)) * 40)
    (folder / 'words, with "quotes".txt').write_text("not a picture")
    return [*sorted(folder.iterdir()), folder / "absent.mp4"]


def test_csv_has_exactly_its_columns_and_a_row_a_file(promoted: Path, media: Path, tmp_path: Path):
    good = sorted(media.parent.glob("real/*.mp4"))[0]
    bad = bad_files(tmp_path / "bad")
    done = vigil("score", good, *bad, "-w", promoted, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == COLUMNS and [row["file"] for row in rows] == [str(path) for path in (good, *bad)]
    assert 0 <= float(rows[0]["p_fake"]) <= 1 and rows[0]["verdict"] in ("real", "fake", "uncertain")
    assert all(row["verdict"] == "none" and row["p_fake"] == "" and row["reason"] for row in rows[1:])
    assert done.returncode == 3 and "Traceback" not in done.stderr


def test_json_says_the_same_and_more(promoted: Path, media: Path, tmp_path: Path):
    good = sorted(media.parent.glob("fake/*/*.mp4"))[0]
    row = json.loads(vigil("score", good, "-w", promoted, "--format", "json").stdout)[0]
    assert set(COLUMNS) < set(row) and row["tracks"] and row["clips"] and row["promoted"] is True
    (named,) = json.loads(
        vigil("score", good, "--model", promoted / "models" / vigil_json("models", "list", "-w", promoted)[0]["cycle"], "--format", "json").stdout
    )
    assert named["p_fake"] == row["p_fake"] and named["promoted"] is False, "nobody vouches for a folder that was named"


def test_without_a_champion_the_candidate_is_marked(promoted: Path, media: Path, tmp_path: Path):
    root = copy_workspace(promoted, tmp_path / "w")

    kept = [event for event in Journal(root).events() if event.kind != "promotion"]
    (root / "journal.jsonl").unlink()
    for event in kept:
        Journal(root).append(event.kind, **event.fields)
    done = vigil("score", sorted(media.parent.glob("real/*.mp4"))[0], "-w", root)
    assert "not promoted" in done.stdout and "not promoted" in done.stderr


@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
def test_without_a_workspace_the_starter_answers(media: Path, tmp_path: Path):
    clip = sorted(media.parent.glob("real/*.mp4"))[0]
    done = vigil("score", clip, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)[0]
    assert row["model"].endswith("(starter)") and not row["promoted"] and "README.md" in done.stderr
    wrong = vigil("score", clip, "-w", tmp_path, cwd=tmp_path, check=False)
    assert wrong.returncode == 1 and "not in a workspace" in wrong.stderr, "a workspace that was named must be one"


@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
def test_a_picture_that_cannot_be_written_is_said_and_folders_of_any_name_take_it(media: Path, tmp_path: Path):
    """OpenCV wrote nothing and said nothing, and died where the name was no text."""
    photo, any_name = tmp_path / "a.png", tmp_path / os.fsdecode(b"\xff")
    cv2.imwrite(str(photo), next(read_frames(next(media.parent.glob("real/*.mp4")), [0.5]))[1][..., ::-1])
    (tmp_path / "taken" / "overlay.png").mkdir(parents=True)
    done = vigil("explain", photo, "--out", tmp_path / "taken", cwd=tmp_path, check=False)
    assert done.returncode == 1 and "Is a directory" in done.stderr and "Called" not in done.stdout
    assert vigil_json("explain", photo, "--out", any_name, cwd=tmp_path)["pictures"] == ["overlay.png"] and (any_name / "overlay.png").is_file()


@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
@pytest.mark.parametrize("way", ["command", "library"])
def test_a_score_leaves_nothing_in_the_home_folder(media: Path, tmp_path: Path, way: str):
    """onnxruntime kept a device id and a database of events there."""
    clip, home = next(media.parent.glob("real/*.mp4")), tmp_path / "home"
    home.mkdir()
    words = ["-m", "vigil", "score", str(clip)] if way == "command" else ["-c", f"import vigil; print(vigil.Detector().score({str(clip)!r}))"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, env={**kept, "HOME": str(home)}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []


def test_a_dry_run_of_an_erasure_without_a_name_erases_nothing(promoted: Path, tmp_path: Path):
    root = copy_workspace(promoted, tmp_path / "w")
    before = (root / "journal.jsonl").read_bytes()
    done = vigil("erase", "--dry-run", "--who", "ann", "--why", "asked to", "-w", root, check=False)
    assert done.returncode == 2 and "name it" in done.stderr and (root / "journal.jsonl").read_bytes() == before


@pytest.mark.slow
def test_search_says_what_was_tried_and_changes_nothing(promoted: Path, tmp_path: Path):
    root = copy_workspace(promoted, tmp_path / "w")
    before = (root / "params.yaml").read_bytes()
    done = vigil("search", "train.lr", "--trials", "1", "--steps", "2", "--fit-steps", "2", "-w", root, timeout=300)
    assert "Trial 0 is params.yaml" in done.stdout and "Nothing tried was better" in done.stdout
    assert (root / "params.yaml").read_bytes() == before
    wrong = vigil("search", "train.luck", "-w", root, check=False)
    assert wrong.returncode == 1 and "train.lr" in wrong.stderr and "Traceback" not in wrong.stderr


def test_scores_on_the_edge_files_of_the_shared_media(promoted: Path, shared_data: Path):
    files = sorted((shared_data / "edge").iterdir())
    done = vigil("score", *files, "-w", promoted, "--format", "csv", timeout=900)
    assert done.returncode in (0, 3) and "Traceback" not in done.stderr
    assert [row["file"] for row in csv.DictReader(io.StringIO(done.stdout))] == [str(path) for path in files]


def test_ctrl_c_is_a_pause_and_the_same_command_goes_on(paused: Broken, promoted: Path):
    assert paused.code == 130 and "Paused" in paused.said and "Traceback" not in paused.said, paused.said[-2000:]
    assert not [row for row in paused.events if row["kind"] == "cycle_closed"]
    assert len(events(promoted, "cycle_opened")) == len(events(promoted, "cycle_closed")) == 1


def test_two_models_are_compared_and_one_that_is_not_here_is_named(promoted: Path, tmp_path: Path):
    cycle = events(promoted, "promotion")[0]["fields"]["cycle"]
    page = vigil_json("models", "diff", cycle, "champion", "-w", promoted)
    assert page["models"] == [cycle, cycle] and page["settings"] == {} and page["clips"]["only_first"] == 0 < page["clips"]["both"]
    assert page["auc"] and "training clips" in vigil("models", "diff", cycle, "champion", "-w", promoted).stdout
    for words in (["2020-W01.1", "champion"], []):
        done = vigil("models", "diff", *words, "-w", promoted, check=False)
        assert done.returncode == 1 and cycle in done.stderr and "dvc pull" not in done.stderr and "Traceback" not in done.stderr


def test_a_model_and_the_champion_it_was_judged_against_are_compared_on_the_same_videos(twice: Path, promoted: Path):
    first, second = (one["fields"]["cycle"] for one in events(twice, "promotion"))
    matrix = json.loads((twice / "reports" / "evaluation.json").read_text())["forgetting_row"]
    page = vigil_json("models", "diff", first, second, "-w", twice)
    wanted = {name: [row.get("champion"), row.get("challenger")] for name, row in matrix.items()}
    assert page["same_videos"] and page["auc"] == {name: both for name, both in wanted.items() if both != [None, None]} != {}
    assert vigil_json("models", "diff", second, first, "-w", twice)["auc"] == {name: both[::-1] for name, both in page["auc"].items()}
    assert "on the same videos" in vigil("models", "diff", "-w", twice).stdout


def test_half_a_card_and_half_a_verdict_are_named_with_what_restores_them(promoted: Path, tmp_path: Path):
    """Both were called a mistake in Vigil."""
    root = copy_workspace(promoted, tmp_path / "w")
    cycle = events(root, "promotion")[0]["fields"]["cycle"]
    asked = {root / "models" / cycle / "card.json": ("models", "diff", cycle, "champion"), root / "reports" / "verdict.json": ("report", cycle, "--json")}
    for path, words in asked.items():
        whole = path.read_text()
        path.write_text(whole[: len(whole) // 2])
        done = vigil(*words, "-w", root, check=False)
        assert done.returncode == 1 and "mistake in Vigil" not in done.stderr, done.stderr
        assert path.parent.name in done.stderr and ("Restore" in done.stderr or "git checkout HEAD -- reports/verdict.json" in done.stderr), done.stderr
        path.write_text(whole)
        assert vigil(*words, "-w", root).returncode == 0


def test_models_that_never_met_are_not_said_to_be_compared_on_the_same_videos(twice: Path, tmp_path: Path):
    root = copy_workspace(twice, tmp_path / "w")
    first, second = (one["fields"]["cycle"] for one in events(root, "promotion"))
    card = json.loads((root / "models" / first / "card.json").read_text())
    (root / "models" / first / "card.json").write_text(json.dumps(card | {"model_sha256": "0" * 64}))
    page = vigil_json("models", "diff", first, second, "-w", root)
    assert not page["same_videos"]
    assert "each on the holdout of its own cycle" in vigil("models", "diff", first, second, "-w", root).stdout


def test_an_override_is_journalled_and_what_nobody_may_override_is_refused(promoted: Path, tmp_path: Path):
    root = copy_workspace(promoted, tmp_path / "w")
    done = vigil("models", "override", "latency", "--who", "ana", "--why", "a new machine", "--days", "3", "-w", root)
    assert "until" in done.stdout and events(root, "override")[-1]["fields"]["gate"] == "latency"
    assert "latency" in git(root, "log", "-1", "--format=%s") and not git(root, "diff", "HEAD", "--", "journal.jsonl"), "a clone knows of it"
    refused = vigil("models", "override", "data", "--who", "ana", "--why", "x", "-w", root, check=False)
    assert refused.returncode == 1 and "cannot be overridden" in refused.stderr
