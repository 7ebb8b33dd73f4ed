"""What the served model is unsure of becomes a case; reviewed over HTTP it is in the next cycle's batch, once."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pandas as pd

from benchmarks.kills import environment
from media.synthetic import make_sample_media
from tests.system.world import copy_workspace, events, vigil
from workspace.files import read_json, sha256_bytes, write_json


def test_a_reviewed_case_is_in_the_next_batch_once(promoted: Path, tmp_path: Path):
    root = copy_workspace(promoted, tmp_path / "w")
    model = root / "models" / events(root, "promotion")[0]["fields"]["cycle"]
    card = read_json(model / "card.json")
    write_json(model / "card.json", {**card, "threshold": 0.5, "abstain": 1.0})  # a wide band: this model is never sure
    make_sample_media(tmp_path / "upload", people=2, clips_per_person=1, seconds=1.0, fakes={}, seed=77)
    clip = sorted((tmp_path / "upload" / "real").glob("*.mp4"))[0].read_bytes()

    ready = tmp_path / "ready.json"
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "feedback.serve", "--workspace", str(root), "--port", "0", "--ready-file", str(ready)], env=environment()
    )
    try:
        deadline = time.monotonic() + 120
        while not ready.exists() and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.1)
        with httpx.Client(base_url=read_json(ready)["url"], timeout=60, trust_env=False) as client:
            while client.get("/readyz").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.2)
            verdict = client.post("/v1/detections", files={"file": ("../../etc/passwd.mp4", clip, "video/mp4")})
            assert verdict.status_code == 200 and verdict.json()["verdict"] == "uncertain", verdict.text
            cases = client.get("/v1/cases", params={"state": "open"}).json()
            cases = cases["cases"] if isinstance(cases, dict) else cases
            assert len(cases) == 1
            case = cases[0]["id"]
            review = {"label": "real", "reviewer": "ana", "note": "known person"}
            assert client.post(f"/v1/cases/{case}/review", json=review).status_code in (200, 201)
            assert client.post(f"/v1/cases/{case}/review", json=review).status_code == 409
    finally:
        server.terminate()
        server.wait(30)

    done = vigil("retrain", "-w", root)
    assert done.returncode in (0, 3)
    added = events(root, "batch_added")
    assert len(added) == 2 and added[-1]["fields"]["samples"] == 1
    manifests = [pd.read_parquet(path) for path in sorted((root / "data" / "raw").glob("*/manifest.parquet"))]
    rows = pd.concat(manifests)
    mine = rows[rows["sample_id"] == sha256_bytes(clip)]
    assert len(mine) == 1 and mine.iloc[0]["case_id"] == case and mine.iloc[0]["label"] == "real"
    assert added[-1]["fields"]["batch"] in events(root, "cycle_opened")[-1]["fields"]["judged"]
    plan = json.loads(vigil("retrain", "--dry-run", "--json", "-w", root).stdout)
    assert plan["pending_files"] == 0 and not plan["needed"]  # handed over: nothing waits any more
