"""The processes behind the service: killed ones come back, what they held is done again, explanations are kept and bounded."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil

from tests.feedback.conftest import Service, wait_for
from tests.feedback.world import open_to_others


def processes(service: Service) -> dict[str, psutil.Process]:
    """The service's children by their module."""
    found = {}
    for child in psutil.Process(service.process.pid).children(recursive=True):
        words = child.cmdline()
        for name in ("worker", "explainer", "decoding"):
            if f"feedback.work.{name}" in words:
                found[name] = child
    return found


def test_a_killed_worker_comes_back_and_what_waited_is_judged(service: Service, picture: bytes, clip: bytes) -> None:
    service.until_ready()
    before = processes(service)["worker"]
    jobs = [service.client.post("/v1/detections", files={"file": ("a", content)}).json()["id"] for content in (clip, picture, clip + b"\0")]
    os.kill(before.pid, signal.SIGKILL)
    done = [wait_for(lambda job=job: service.client.get(f"/v1/detections/{job}").json(), lambda row: row["state"] == "done", service.log) for job in jobs]
    assert all(row["verdict"] in ("real", "fake", "uncertain") for row in done)
    assert processes(service)["worker"].pid != before.pid
    assert service.until_ready()["model_sha256"]


def test_the_service_says_while_its_worker_is_away_and_takes_uploads_all_the_same(service: Service, picture: bytes) -> None:
    service.until_ready()
    worker = processes(service)["worker"]
    worker.suspend()
    try:
        answer = service.detect(picture, wait=0)
        assert answer.status_code == 202 and service.client.get("/healthz").status_code == 200
    finally:
        worker.resume()
    wait_for(lambda: service.client.get(f"/v1/detections/{answer.json()['id']}").json(), lambda row: row["state"] == "done", service.log)


def test_an_explanation_is_made_once_by_a_process_that_may_die(root: Path, service: Service, clip: bytes) -> None:
    verdict = service.detect(clip).json()
    early = service.client.get(f"/v1/detections/{verdict['id']}/heatmaps/0")
    assert early.status_code == 404 and "/explanation first" in early.json()["next_step"]
    asked: Any = service.client.get(f"/v1/detections/{verdict['id']}/explanation", timeout=120)
    assert asked.status_code == 200, asked.text
    page = asked.json()
    assert page["model"] == verdict["model"] and page["heatmaps"] == len(page["frames"]) > 0
    assert service.client.get(f"/v1/detections/{verdict['id']}/heatmaps/0").headers["content-type"] == "image/webp"
    assert "next_step" not in service.client.get(f"/v1/detections/{verdict['id']}/heatmaps/999").json()
    explainer = processes(service)["explainer"]
    os.kill(explainer.pid, signal.SIGKILL)
    assert service.client.get(f"/v1/detections/{verdict['id']}/explanation", timeout=120).json() == page, "it was kept"
    assert open_to_others(root) == []
    sparser = service.detect(clip, mode="fast").json()  # the same upload, looked at in another way
    assert service.client.get(f"/v1/detections/{sparser['id']}/explanation", timeout=120).json()["clip"] != page["clip"]
    assert service.client.get(f"/v1/detections/{verdict['id']}/explanation", timeout=120).json() == page
    other = service.detect(clip + b"\0").json()
    os.kill(processes(service)["explainer"].pid, signal.SIGKILL)
    assert service.client.get(f"/v1/detections/{other['id']}/explanation", timeout=120).status_code == 200


def test_what_is_no_media_has_no_explanation(service: Service) -> None:
    verdict = service.detect(b"not a picture").json()
    answer = service.client.get(f"/v1/detections/{verdict['id']}/explanation", timeout=120)
    assert answer.status_code in (404, 409, 422, 503) and answer.headers["content-type"] == "application/problem+json"


def test_all_processes_end_with_the_service(service: Service, clip: bytes, tmp_path: Path) -> None:
    service.detect(clip)
    service.until_ready()
    children = list(processes(service).values())
    assert service.stop() == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
