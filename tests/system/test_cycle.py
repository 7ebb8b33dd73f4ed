"""The whole loop through the front door: one cycle, a second one by a schedule, nothing new, a refused batch, and the way back."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.kills import Round, leftovers, strike
from tests.system.world import Broken, change_settings, copy_workspace, events, git, stage_runs, vigil, vigil_json
from vigil.api import Detector
from workspace.journal import Journal
from workspace.registry import open_registry
from workspace.settings import STAGES, load_settings

pytestmark = pytest.mark.usefixtures("one_server")
ROOT = Path(__file__).resolve().parents[2]
WITHOUT_EFFECT = frozenset({"schedule.stage_timeout_seconds", "serve.threads"})  # how long a stage may take, how fast it is


def covers(named: str, place: str) -> bool:
    """Whether a line of `params` in dvc.yaml holds the value at `place`."""
    return place == named or place.startswith(f"{named}.")


def test_a_plain_folder_reaches_a_promotion(promoted: Path):
    assert [row["fields"]["cycle"] for row in events(promoted, "promotion")] == [row["fields"]["cycle"] for row in events(promoted, "cycle_opened")]
    ran = [name.split("@")[0] for name in stage_runs(promoted)]
    assert list(dict.fromkeys(ran)) == list(STAGES), "one twice only where a kill struck before DVC had noted it: test_kills.py"
    status = vigil_json("status", "-w", promoted)
    assert status["champion"]["cycle"] and status["batches"] == {"new": 0, "deferred": 0, "accepted": 1, "held": 0, "dropped": 0}


def test_a_stage_reads_no_setting_that_it_does_not_depend_on(twice: Path, settings_read: Path):
    """A setting that is read and not named in dvc.yaml could be changed, and the stage's old result would stand."""
    read: dict[str, set[str]] = {stage: set() for stage in STAGES}
    for line in settings_read.read_text().splitlines():
        stage, place = line.split()
        read[stage].add(place)
    assert all(read.values())
    for stage, told in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        named = set((told.get("do") or told)["params"])
        unnamed = {place for place in read.pop(stage) if not any(covers(one, place) for one in named | WITHOUT_EFFECT)}
        assert not unnamed, f"`{stage}` reads what dvc.yaml does not name: {sorted(unnamed)}"
    assert not read


def test_the_watch_on_settings_sees_what_a_stage_and_its_children_read(tmp_path: Path):
    reads = "from pathlib import Path\nfrom workspace.settings import BudgetSettings, load_settings\n"
    reads += "settings = load_settings(Path('params.yaml'))\nprint(BudgetSettings().replay_clips, settings.budget.new_clips, settings.faces.model_dump())\n"
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {reads!r}], check=True)\n"
    log = {**os.environ, "STAGE_READS_LOG": str(tmp_path / "log")}
    for code, words in ((reads, ["pipelines.forge"]), (child, ["pipelines.train"]), (reads, [])):
        subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, env=log, cwd=ROOT)
    assert (tmp_path / "log").read_text().splitlines() == ["forge budget.new_clips", "forge faces", "train budget.new_clips", "train faces"]


def test_a_cycle_ends_in_one_commit_and_its_tag(promoted: Path):
    cycle = events(promoted, "cycle_opened")[0]["fields"]["cycle"]
    assert git(promoted, "tag", "-l") == f"vigil/{cycle}"
    assert len(git(promoted, "log", "--format=%s").splitlines()) == 2  # the workspace's first, the cycle's one
    assert git(promoted, "rev-parse", f"vigil/{cycle}^{{commit}}") == git(promoted, "rev-parse", "HEAD")
    assert git(promoted, "status", "--porcelain", "--untracked-files=no") == ""
    assert leftovers(promoted) == []


def test_each_cycle_measures_how_its_champions_age_and_commits_that(promoted: Path):
    cycle = events(promoted, "promotion")[0]["fields"]["cycle"]
    (row,) = json.loads(git(promoted, "show", f"vigil/{cycle}:reports/decay.json"))["rows"]
    assert row["cycle"] == cycle and row["n_real"] >= 2 and row["n_fake"] >= 2
    (model,) = row["models"]
    assert model["cycle"] == cycle and 0 <= model["auc"]["value"] <= 1


@pytest.mark.slow
def test_a_person_makes_a_held_model_the_first_champion(promoted: Path, tmp_path: Path):
    """As it is after a first cycle that the gates held: the same workspace, whose journal ends in a hold."""
    root = copy_workspace(promoted, tmp_path / "w")
    told = events(root)
    (root / "journal.jsonl").unlink()
    for row in told:
        if row["kind"] in ("batch_added", "cycle_opened", "candidate"):
            Journal(root).append(row["kind"], **row["fields"])
    who = ("-c", "user.name=ann", "-c", "user.email=ann@localhost")
    git(root, *who, "commit", "-q", "--no-verify", "-m", "a journal that never had more", "--", "journal.jsonl")
    (batch,) = [row["fields"]["batch"] for row in told if row["kind"] == "batch_added"]
    (cycle,) = [row["fields"]["cycle"] for row in told if row["kind"] == "cycle_opened"]
    refused = vigil("models", "bootstrap", "--who", "ann", "--why", "first", "-w", root, check=False)
    assert refused.returncode == 1 and "not finished" in refused.stderr and "Traceback" not in refused.stderr
    Journal(root).append("batch_state", batch=batch, state="held", who="vigil", why="too few videos")
    Journal(root).append("cycle_closed", cycle=cycle, outcome="held", reason="too few videos", verdict_sha256="")
    assert vigil_json("status", "-w", root)["champion"] is None
    vigil("gc", "--delete", "-w", root)
    assert not (root / "models" / cycle).exists(), "DVC's cache has it"
    done = vigil("models", "bootstrap", "--who", "ann", "--why", "too few videos to decide", "-w", root)
    assert f"{cycle} is the first champion (ann" in done.stdout
    status = vigil_json("status", "-w", root)
    assert status["champion"]["cycle"] == cycle and status["batches"]["accepted"] == 1
    again = vigil("models", "bootstrap", "--who", "ann", "--why", "again", "-w", root, check=False)
    assert again.returncode == 0 and f"{cycle} is the first champion already (ann: too few videos to decide)" in again.stdout


@pytest.mark.slow
def test_gc_after_a_cycle_deletes_nothing_that_its_remote_must_hold(promoted: Path, tmp_path: Path):
    """It stopped at the hash of data/faces, which DVC notes of what a stage reads, and of which nobody keeps a list."""
    root = copy_workspace(promoted, tmp_path / "w")
    vigil("doctor", "--push", "-w", root)
    rows = {row["what"]: row for row in vigil_json("gc", "--delete", "-w", root)}
    assert rows["DVC's cache: needed"]["files"] > 20 and rows["the DVC remote on this disk: needed"]["files"] > 20
    assert [row["ok"] for row in vigil_json("doctor", "--remote", "-w", root)["checks"] if row["check"] == "remote"] == [True]


@pytest.mark.slow
def test_what_a_dead_cycle_left_is_told_beside_the_json(promoted: Path, tmp_path: Path):
    """The runs that `vigil retrain` ends for a killed one were named on stdout, before the JSON."""
    root = copy_workspace(promoted, tmp_path / "w")
    settings = load_settings(root / "params.yaml")
    with open_registry(root, settings) as client:
        run = client.create_run(client.get_experiment_by_name(settings.registry.experiment).experiment_id)
    change_settings(root, {"faces": {"size_px": 72}})  # which no cycle is opened with
    done = vigil("retrain", "--force", "--json", "-w", root, check=False)
    assert f"MLflow run {run.info.run_id} ended as KILLED" in done.stderr, done.stderr
    assert "No cycle was opened" in done.stderr and done.stdout == ""


def test_nothing_new_is_said_and_nothing_done(promoted: Path, tmp_path: Path):
    root = copy_workspace(promoted, tmp_path / "w")
    before = (git(root, "rev-parse", "HEAD"), stage_runs(root), (root / "journal.jsonl").read_bytes())
    done = vigil("retrain", "-w", root)
    assert done.returncode == 0 and "Nothing new" in done.stdout
    assert (git(root, "rev-parse", "HEAD"), stage_runs(root), (root / "journal.jsonl").read_bytes()) == before


def test_mlflow_shows_the_run_its_data_its_curves_and_the_model(promoted: Path):
    with sqlite3.connect(f"file:{promoted / 'mlflow.db'}?mode=ro", uri=True) as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)]
        keys = {key for (key,) in database.execute("select distinct key from metrics")}
        assert any(key.startswith("curve.train.") for key in keys) and any("auc" in key for key in keys)
        assert database.execute("select count(*) from datasets").fetchone() == (3,)
        tags = dict(database.execute("select key, value from model_version_tags"))
        card = json.loads((promoted / tags["path"] / "card.json").read_text())
        assert tags["model_sha256"] == card["model_sha256"]
        assert ("champion",) in database.execute("select alias from registered_model_aliases").fetchall()


def test_no_pickle_lies_in_a_model_or_in_mlflow(promoted: Path):
    for folder in (promoted / "models", promoted / "mlartifacts", promoted / "build"):
        for path in folder.rglob("*"):
            assert path.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".bin"}, path
            if path.is_file():
                assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), f"{path} starts like a pickle"


def test_a_changed_weight_file_is_refused(promoted: Path, tmp_path: Path, media: Path):
    root = copy_workspace(promoted, tmp_path / "w")
    cycle = events(root, "promotion")[0]["fields"]["cycle"]
    for name in ("model.onnx", "model.safetensors"):
        path = root / "models" / cycle / name
        kept = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        done = vigil("score", next(media.parent.glob("real/*.mp4")), "-w", root, check=False)
        assert done.returncode == 1 and "sha256" in done.stderr and "Traceback" not in done.stderr
        path.write_bytes(kept)


def test_a_fresh_clone_serves_once_it_was_pulled(promoted: Path, tmp_path: Path, media: Path):
    """As the README has it, in one command."""
    subprocess.run(["git", "clone", "-q", str(promoted), str(tmp_path / "clone")], check=True, capture_output=True)
    pulled = vigil("doctor", "--pull", "-w", tmp_path / "clone")
    assert "aliases rebuilt" in pulled.stdout and "mlflow" not in pulled.stderr
    assert vigil("score", next(media.parent.glob("real/*.mp4")), "-w", tmp_path / "clone").returncode == 0
    assert "aliases rebuilt" not in vigil("doctor", "--pull", "-w", tmp_path / "clone").stdout


def test_a_fresh_clone_with_only_the_remote_gives_the_clips_of_the_card(promoted: Path, tmp_path: Path):
    cycle = events(promoted, "promotion")[0]["fields"]["cycle"]
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--branch", f"vigil/{cycle}", str(promoted), str(clone)], check=True, capture_output=True)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "remote", "modify", "--local", "store", "url", str(promoted / ".vigil" / "remote")], cwd=clone, check=True, capture_output=True)
    subprocess.run([*dvc, "pull", "-q"], cwd=clone, check=True, capture_output=True)
    from model.data import epoch_hash
    from pipelines.train import training_rows

    card = json.loads((clone / "models" / cycle / "card.json").read_text())
    assert epoch_hash(clone, training_rows(clone), card["seed"]) == card["data_hash"]
    # ... and the hash is of the pixels: one flipped bit in a shard shows
    row = training_rows(clone).iloc[0]
    shard = clone / row["store"] / row["shard"]
    content = bytearray(shard.read_bytes())
    content[row["offset"] + row["nbytes"] // 2] ^= 1
    shard.unlink()
    shard.write_bytes(content)
    try:
        changed = epoch_hash(clone, training_rows(clone), card["seed"])
    except Exception as problem:
        changed = str(problem)
    assert changed != card["data_hash"]


def test_dvc_restores_what_was_lost(promoted: Path, tmp_path: Path):
    import shutil

    root = copy_workspace(promoted, tmp_path / "w")
    batch = next(path.name for path in (root / "data" / "faces").iterdir() if path.is_dir())
    before = (root / "data" / "faces" / batch / "index.parquet").read_bytes()
    shutil.rmtree(root / "data" / "faces" / batch)
    from workspace.repository import reproduce

    ran = stage_runs(root)
    reproduce(root, "faces")
    assert (root / "data" / "faces" / batch / "index.parquet").read_bytes() == before
    assert stage_runs(root) == ran  # from the cache: nothing was computed again


@pytest.mark.slow
def test_a_batch_that_great_expectations_refuses_is_held_and_the_champion_stays(promoted: Path, tmp_path: Path):
    import cv2

    root = copy_workspace(promoted, tmp_path / "w")
    (tmp_path / "noise" / "real").mkdir(parents=True)
    for number in range(6):
        cv2.imwrite(str(tmp_path / "noise" / "real" / f"{number}.png"), np.random.default_rng(number).integers(0, 255, (160, 160, 3)))
    vigil("ingest", tmp_path / "noise", "--name", "noise", "-w", root)
    ran = len(stage_runs(root))
    done = vigil("retrain", "-w", root)
    assert done.returncode == 3 and "HELD" in done.stdout
    assert {name.split("@")[0] for name in stage_runs(root)[ran:]} == {"faces", "validate"}  # nothing was trained on it
    held = [row for row in vigil_json("batches", "-w", root) if row["state"] == "held"]
    assert len(held) == 1 and "data checks" in held[0]["why"] and "; 6 x no face found)" in held[0]["why"] and held[0]["source"] == "noise"
    assert len(events(root, "promotion")) == 1


def test_the_alias_decides_what_serves_and_rollback_moves_it(twice: Path, tmp_path: Path, media: Path):
    root = copy_workspace(twice, tmp_path / "w")
    first, second = (row["fields"]["model_sha256"][:12] for row in events(root, "promotion"))
    assert Detector(root).model == second
    with sqlite3.connect(root / "mlflow.db") as database:
        version = database.execute("select version from model_version_tags where key = 'model_sha256' and value like ?", (first + "%",)).fetchone()[0]
        database.execute("update registered_model_aliases set version = ? where alias = 'champion'", (version,))
    assert Detector(root).model == first
    vigil("doctor", "--fix", "-w", root, check=False)  # the journal is the truth: the alias follows it again
    assert Detector(root).model == second
    done = vigil("models", "rollback", "--who", "ana", "--why", "false alarms", "-w", root)
    assert "champion again" in done.stdout and "stays in training" in done.stdout and Detector(root).model == first
    (row,) = json.loads(vigil("score", next(media.parent.glob("real/*.mp4")), "-w", root, "--format", "json").stdout)
    assert row["model"] == first


def test_the_second_cycle_computes_only_what_is_new(twice: Path, promoted: Path):
    later = stage_runs(twice)[len(stage_runs(promoted)) :]
    of_batches = ["faces", "validate", "forge"]  # of the two new ones: the second media, and the reviewed case
    assert sorted(name.split("@")[0] for name in later) == sorted([*STAGES, *of_batches])
    opened = events(twice, "cycle_opened")[-1]["fields"]
    assert opened["base_model"] == events(twice, "promotion")[0]["fields"]["model_sha256"]


def test_a_served_deployment_runs_and_a_timer_after_it_finds_the_week_done(scheduled: Broken, tmp_path: Path):
    opened = [row["fields"] for row in scheduled.events if row["kind"] == "cycle_opened"]
    assert [one["scheduled"] for one in opened] == [False, True], scheduled.said[-3000:]
    assert [row["fields"]["outcome"] in ("promoted", "held") for row in scheduled.events if row["kind"] == "cycle_closed"] == [True, True]
    assert [line for line in leftovers(scheduled.root) if "process" in line] == []
    root = copy_workspace(scheduled.root, tmp_path / "w")
    for _ in range(2):
        done = vigil("retrain", "--scheduled", "-w", root)
        assert done.returncode == 0 and "Nothing new" in done.stdout
    assert len(events(root, "cycle_opened")) == 2


def test_a_timer_twice_in_a_week_makes_one_cycle(promoted: Path, tmp_path: Path):
    root = copy_workspace(promoted, tmp_path / "w")
    first = vigil("retrain", "--scheduled", "-w", root)  # nothing is new: the week is skipped, and that is written down
    second = vigil("retrain", "--scheduled", "-w", root)
    assert "Nothing new" in first.stdout and "Nothing new" in second.stdout
    assert len(events(root, "week_skipped")) == 1 and len(events(root, "cycle_opened")) == 1


def test_a_killed_stage_without_retries_ends_the_run_with_an_error(ingested: Path, tmp_path: Path):
    """The counterpart of the kill drill: it is Prefect's retry that reruns a killed stage."""
    import time

    import psutil

    from benchmarks.kills import running_stage, stage_name, start

    root = copy_workspace(ingested, tmp_path / "w")
    change_settings(root, {"schedule": {"retries": 0}})
    process = start(root)
    while process.poll() is None:
        stage = running_stage(psutil.Process(process.pid))
        if stage is not None and stage_name(stage) == "faces":
            stage.kill()
            break
        time.sleep(0.02)
    assert process.wait(300) == 1
    assert "killed" in (root / ".vigil" / "kill-drill.log").read_text() and not events(root, "cycle_opened")


@pytest.mark.slow
def test_a_person_ends_a_cycle_that_cannot_be_finished_by_taking_a_batch_out(paused: Broken, tmp_path: Path):
    """As one whose stage fails the same way every time: nothing else could ever be decided, erased or trained."""
    root = copy_workspace(paused.root.parent / "as it was left", tmp_path / "w")
    (cycle,) = [one["fields"]["cycle"] for one in events(root, "cycle_opened")]
    (batch,) = [one["fields"]["batch"] for one in events(root, "batch_added")]
    refused = vigil("batches", "accept", batch, "--who", "ann", "--why", "fine", "-w", root, check=False)
    assert refused.returncode == 1 and "under judgement" in refused.stderr and "vigil batches hold" in refused.stderr
    done = vigil("batches", "hold", batch, "--who", "ann", "--why", "no stage can read it", "-w", root)
    assert f"{cycle} is held" in done.stdout
    ended = vigil("retrain", "-w", root, check=False)
    assert ended.returncode == 3 and "no stage can read it" in ended.stdout, ended.stdout + ended.stderr
    (closed,) = events(root, "cycle_closed")
    assert closed["fields"]["outcome"] == "held" and "ann took" in closed["fields"]["reason"]
    assert vigil("retrain", "-w", root).returncode == 0, "nothing new, and nothing left open"
    assert vigil("batches", "accept", batch, "--who", "ann", "--why", "repaired", "-w", root).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ["retrain"],
        ["status"],
        ["batches"],
        ["models"],
        ["report"],
        ["doctor"],
        ["gc"],
        ["evaluate", "x.csv"],
        ["audit"],
        ["compare"],
        ["search"],
        ["explain", "x.mp4"],
    ],
    ids=lambda words: words[0],
)
def test_outside_a_workspace_every_verb_says_what_to_do(tmp_path: Path, words: list[str]):
    done = vigil(*words, cwd=tmp_path, check=False)
    assert done.returncode == 1 and "Next:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("bound", "says"), [({"max_serving_bytes": 20 << 20}, "MB (at most 20)"), ({"max_latency_seconds": 1e-6}, ", the 15 of a 10 s video in ")]
)
def test_a_service_that_is_too_large_or_too_slow_is_not_promoted(promoted: Path, tmp_path: Path, bound: dict[str, float], says: str):
    """One of mode `dense`, which looks at all of a video, was asked for the time that as many clips take as it has in mode `standard`."""
    from flows.probe import probe_model
    from model.card import load_card, write_card
    from workspace.settings import load_settings

    settings = load_settings(promoted / "params.yaml")
    model = promoted / events(promoted, "candidate")[0]["fields"]["path"]
    fine = probe_model(promoted, settings, model)
    assert fine.passed and fine.memory_bytes and fine.memory_bytes > 20 << 20 and fine.clip_seconds and fine.clips == 8, fine.reason
    gates = settings.gates.model_copy(update=bound)
    dense = tmp_path / "dense"
    shutil.copytree(model, dense)
    write_card(dense, (card := load_card(model)).model_copy(update={"faces": card.faces.model_copy(update={"mode": "dense"})}))
    refused = probe_model(promoted, settings.model_copy(update={"gates": gates}), dense)
    assert not refused.passed and says in refused.reason


@pytest.mark.slow
def test_wrong_labels_end_a_cycle_before_anything_is_trained_unless_a_person_lets_them(promoted: Path, tmp_path: Path):
    from media.synthetic import make_sample_media

    root = copy_workspace(promoted, tmp_path / "w")
    change_settings(root, {"gates": {"max_label_noise": 0.0, "hold_alpha": 0.49, "min_slice": 2}})  # so that the small champion of this world is heard
    make_sample_media(tmp_path / "m", people=12, clips_per_person=2, seconds=1.0, fakes={"blendswap": 2}, seed=77, first_person=700, size_px=160)
    table = tmp_path / "m" / "labels.csv"
    with open(table, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row |= {"label": "real", "generator": "", "donor": ""} if row["label"] == "fake" else {"label": "fake", "generator": "blendswap"}
    with open(table, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    vigil("ingest", table, "-w", root)
    before = len(stage_runs(root))
    done = vigil("retrain", "-w", root)
    ran = [name.split("@")[0] for name in stage_runs(root)[before:]]
    assert done.returncode == 3 and ran[-1] == "drift" and "train" not in ran, (done.stdout, ran)
    last = events(root, "cycle_closed")[-1]["fields"]
    assert last["outcome"] == "held" and "nothing was trained: label noise" in last["reason"]
    assert vigil_json("status", "-w", root)["batches"]["held"] == 1 and leftovers(root) == []
    vigil("models", "override", "label noise", "--who", "ann", "--why", "looked at each", "--days", 1, "-w", root)
    batch = events(root, "batch_added")[-1]["fields"]["batch"]
    vigil("batches", "accept", batch, "--who", "ann", "--why", "looked at each", "-w", root)
    assert strike(root, Round("group", "pretrain", 0.0))["victim"] == "group", "it trains; what comes of that is not asked here, and takes a minute"
