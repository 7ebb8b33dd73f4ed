"""Promotion's last question: does the exported model load and score in a real `vigil serve` process?"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workspace.errors import VigilError
from workspace.files import read_json, write_json
from workspace.settings import Settings

GOLDEN_CLIPS = 8
SHADOW = Path("reports/shadow.json")
HOLDOUT = Path("data/sets/holdout.parquet")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the real server said. `passed` only when it answered every golden clip as the checkpoint does."""

    passed: bool
    reason: str
    ready_seconds: float | None = None
    clips: int = 0
    largest_difference: float | None = None
    clip_seconds: float | None = None  # median of the answers to golden clips
    memory_bytes: int | None = None  # of the service's processes after them


def probe_model(root: Path, settings: Settings, model_dir: Path) -> ProbeResult:
    """Start the service on `model_dir` in a process of its own, score golden clips over HTTP, compare, stop it.

    The golden clips are the first of the holdout; the checkpoint is scored here, the export there. The clips of a 10 s video, in the model's own
    mode, must be answered within `gates.max_latency_seconds`, and the service must keep to `gates.max_serving_bytes` meanwhile.
    """
    import httpx
    import psutil

    with tempfile.TemporaryDirectory(prefix="vigil-probe-") as scratch:
        ready, log = Path(scratch) / "ready.json", Path(scratch) / "serve.log"
        command = [
            sys.executable,
            "-P",
            "-m",
            "feedback.serve",
            "--workspace",
            str(root),
            "--model-dir",
            str(model_dir),
            "--port",
            "0",
            "--probe",
            "--ready-file",
            str(ready),
        ]
        started = time.monotonic()
        with open(log, "wb") as output:
            # in a session of its own: Ctrl-C is sent to a whole group, and a service that ends with it would say that the model does not answer
            process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT, env=os.environ.copy(), start_new_session=True)
        try:
            found = _ask(process, root, settings, model_dir, ready, log, started)
        except (httpx.HTTPError, psutil.Error) as problem:  # the model ended its service, or hangs it
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)  # one that is about to end has not always ended when its line goes dead, least of all on a busy machine
            code = process.returncode
            how = "did not answer" if code is None else f"ended with code {code}"
            found = ProbeResult(False, f"the service {how} while it was asked ({type(problem).__name__}: {problem}): {_last_line(log)}")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return _shadow(found, root, settings, model_dir) if found.passed else found


def golden_files(root: Path) -> list[Path]:
    """The files that the golden clips are read from: the holdout's table and, where that is here, the shards that it names. An erasure removes them."""
    if not (root / HOLDOUT).is_file():
        return [root / HOLDOUT]
    return [root / HOLDOUT, *sorted({root / row["store"] / row["shard"] for row in _golden_rows(root)})]


def _golden_rows(root: Path) -> list[dict[str, Any]]:
    import pandas as pd

    from pipelines.rows import rows_of

    return rows_of(pd.read_parquet(root / HOLDOUT).sort_values("clip_id").head(GOLDEN_CLIPS))


def _shadow(found: ProbeResult, root: Path, settings: Settings, model_dir: Path) -> ProbeResult:
    """Answer logged requests again and say what differs. A new model answers otherwise, that is its purpose: this informs and holds nothing."""
    from feedback.shadow import replay

    try:
        seen = replay(root, settings, model_dir, settings.serve.shadow_requests)
    except Exception as problem:  # such as a database that is not there, or locked: the model has shown that it answers
        why = problem.what if isinstance(problem, VigilError) else f"{type(problem).__name__}: {problem}"[:200]
        return replace(found, reason=f"{found.reason}; logged requests could not be replayed: {why}")
    write_json(root / SHADOW, {"model_sha256": read_json(model_dir / "card.json")["model_sha256"]} | seen)
    if not seen["asked"]:
        return found
    unopened = f", {seen['not_opened']} could not be opened" if seen["not_opened"] else ""
    return replace(found, reason=f"{found.reason}; of {seen['asked']} logged requests {seen['changed']} are answered otherwise{unopened}")


def _ask(process: "subprocess.Popen[bytes]", root: Path, settings: Settings, model_dir: Path, ready: Path, log: Path, started: float) -> ProbeResult:
    import httpx

    deadline = started + settings.serve.ready_timeout_seconds
    while not ready.exists() or time.monotonic() > deadline:  # one that was ready too late, while nobody looked, was not ready in time
        if process.poll() is not None:
            return ProbeResult(False, f"the service ended with code {process.returncode}: {_last_line(log)}")
        if time.monotonic() > deadline:
            return ProbeResult(False, f"the service was not ready after {settings.serve.ready_timeout_seconds} s: {_last_line(log)}")
        time.sleep(0.1)
    said = read_json(ready)
    with httpx.Client(base_url=said["url"], timeout=30.0, trust_env=False) as client:
        answer = client.get("/readyz")
        if answer.status_code != 200:
            return ProbeResult(False, f"/readyz answered {answer.status_code}: {answer.text[:200]}")
        seconds = time.monotonic() - started
        expected_sha256 = read_json(model_dir / "card.json")["model_sha256"]
        if answer.json().get("model_sha256") != expected_sha256:
            return ProbeResult(False, "the service loaded another model than the one asked for", seconds)
        found = _compare(client, root, model_dir, seconds, settings.gates.max_parity)
    return _bounded(replace(found, memory_bytes=_resident(process.pid)), settings, model_dir) if found.passed else found


def _bounded(found: ProbeResult, settings: Settings, model_dir: Path) -> ProbeResult:
    """Golden clips were answered rightly; were they answered in time, and in how much memory?"""
    from model.card import load_card
    from pipelines.artifact import VIDEO_SECONDS, looked_at

    clips, most = len(looked_at(load_card(model_dir).faces)), settings.gates.max_latency_seconds
    assert found.clip_seconds is not None and found.memory_bytes is not None
    if found.clip_seconds * clips > most:
        took = f"the {clips} of a {VIDEO_SECONDS:g} s video in {found.clip_seconds * clips:.1f} s"
        why = f"a clip was answered in {found.clip_seconds:.2f} s, {took} (at most {most:g})"
        return replace(found, passed=False, reason=why)
    if found.memory_bytes > settings.gates.max_serving_bytes:
        why = f"the service takes {found.memory_bytes >> 20:,} MB (at most {settings.gates.max_serving_bytes >> 20:,})"
        return replace(found, passed=False, reason=why)
    return replace(found, reason=f"{found.reason}, {found.clip_seconds * 1000:.0f} ms each, {found.memory_bytes >> 20:,} MB")


def _resident(pid: int) -> int:
    """Memory of a process and its children, in bytes: resident, so that what they share counts twice."""
    import psutil

    process = psutil.Process(pid)
    return sum(int(one.memory_info().rss) for one in (process, *process.children(recursive=True)))


def _compare(client: Any, root: Path, model_dir: Path, seconds: float, tolerance: float) -> ProbeResult:
    import numpy as np
    import torch

    from media.shards import read_clip
    from model.checkpoint import load_model

    rows = _golden_rows(root)
    if not rows:
        return ProbeResult(False, "there is no holdout clip to probe with", seconds)
    network = load_model(model_dir / "model.safetensors").eval()
    differences, took = [], []
    for row in rows:
        clip = read_clip(root, row)
        asked = time.monotonic()
        answer = client.post("/v1/clips", content=np.ascontiguousarray(clip).tobytes(), headers={"X-Shape": ",".join(map(str, clip.shape[:3])) + ",3"})
        took.append(time.monotonic() - asked)
        if answer.status_code != 200:
            return ProbeResult(False, f"golden clip {row['clip_id']} was answered with {answer.status_code}: {answer.text[:200]}", seconds)
        with torch.no_grad():
            frames = torch.from_numpy(clip).permute(0, 3, 1, 2).float().div(255)[None]  # [1, T, 3, H, W]
            expected = float(torch.sigmoid(network(frames))[0])
        differences.append(abs(expected - 1 / (1 + float(np.exp(-answer.json()["logit"])))))
    worst = float(np.max(differences))  # NaN stays NaN
    if not worst <= tolerance:
        return ProbeResult(
            False, f"the export differs from the checkpoint by {worst:.2g} on a golden clip (at most {tolerance:g})", seconds, len(differences), worst
        )
    told = f"ready in {seconds:.1f} s, {len(differences)} golden clips within {worst:.1g}"
    return ProbeResult(True, told, seconds, len(differences), worst, float(np.median(took)))


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"
