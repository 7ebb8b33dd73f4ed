"""What the served model is unsure of, or was drawn for an audit, becomes a case; reviewed over HTTP it is in the next cycle's batch, once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from feedback.learned import learned_by
from tests.system.world import Asked, Broken, copy_workspace, events, vigil, vigil_json


def fresh_learned_by(root: Path, case_id: str) -> Any:
    """The same in a process that has asked nothing before."""
    program = f"import json; from pathlib import Path; from feedback.learned import learned_by; print(json.dumps(learned_by(Path({str(root)!r}), {case_id!r})))"
    return json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def test_a_verdict_that_people_should_see_becomes_a_case_that_each_reviewer_answers_once(asked: Asked):
    assert asked.detected.status_code == 201 and asked.detected.json()["case_id"], asked.detected.text
    assert [answer.status_code for answer in asked.answers] == [201, 409, 201]
    assert asked.answers[-1].json()["state"] == "decided" and asked.answers[-1].json()["handover"] == "waiting"


def test_a_reviewed_case_is_in_the_next_batch_once(asked: Asked, scheduled: Broken):
    root, case = scheduled.root, asked.detected.json()["case_id"]
    manifests = [pd.read_parquet(path) for path in sorted((root / "data" / "raw").glob("*/manifest.parquet"))]
    rows = pd.concat(manifests)
    mine = rows[rows["sample_id"] == asked.sha256]
    assert len(mine) == 1 and mine.iloc[0]["case_id"] == case and mine.iloc[0]["label"] == "real"
    added = {event["fields"]["batch"]: event["fields"]["samples"] for event in events(root, "batch_added")}
    assert len(added) == 3 and added[mine.iloc[0]["batch"]] == 1, "the first media, the second, and the reviewed case"
    assert mine.iloc[0]["batch"] in events(root, "cycle_opened")[-1]["fields"]["judged"]
    plan = json.loads(vigil("retrain", "--dry-run", "--json", "-w", root).stdout)
    assert plan["pending_files"] == plan["pending_cases"] == 0 and not plan["needed"]  # handed over: nothing waits any more


def test_the_case_names_the_model_that_learned_from_it_and_the_trail_is_whole(asked: Asked, twice: Path):
    case = asked.detected.json()["case_id"]
    learned = learned_by(twice, case)
    tables = [pd.read_parquet(path) for path in (twice / "data" / "sets").glob("train.parquet")]
    assert [one["cycle"] for one in learned] == ([events(twice, "promotion")[-1]["fields"]["cycle"]] if case in set(tables[0]["case_id"]) else [])
    assert vigil_json("audit", "verify", "-w", twice)["whole"]
    shutil.rmtree(twice / ".vigil" / "learned")
    assert fresh_learned_by(twice, case) == learned, "the answer can be had again from what the tags and DVC keep"


def test_an_erased_upload_leaves_the_batch_and_the_next_cycle_can_run(asked: Asked, twice: Path, tmp_path: Path):
    root = copy_workspace(twice, tmp_path / "w")
    said = vigil_json("erase", asked.detected.json()["id"], "--who", "ana", "--why", "asked to", "-w", root)
    (done,) = said["training"]
    (batch,) = done["training"]["batches"]
    assert [one["state"] for one in said["erased"]] == ["erased"] and said["left"] == 0 and done["training"]["cached_objects"] > 0
    row = pd.read_parquet(root / "data" / "raw" / batch / "manifest.parquet").set_index("sample_id").loc[asked.sha256]
    assert row["use"] == "never" and row["shard"] == ""
    assert not any(asked.sha256 in path.name for path in (root / ".vigil" / "media").glob("*"))
    assert [one["cycle"] for one in done["models"]] == [one["cycle"] for one in learned_by(twice, asked.detected.json()["case_id"])]
    assert vigil_json("audit", "verify", "-w", root)["whole"]
    assert not json.loads(vigil("retrain", "--dry-run", "--json", "-w", root).stdout)["needed"]
