"""What the served model is unsure of becomes a case; reviewed over HTTP it is in the next cycle's batch, once."""

import json

import pandas as pd

from tests.system.world import Asked, Broken, events, vigil


def test_what_the_model_is_unsure_of_becomes_a_case_that_is_answered_once(asked: Asked):
    assert asked.detected.status_code == 200 and asked.detected.json()["verdict"] == "uncertain", asked.detected.text
    assert [answer.status_code for answer in asked.answers] == [201, 409]


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
    assert plan["pending_files"] == 0 and not plan["needed"]  # handed over: nothing waits any more
