"""The processes behind the service: killed ones come back, what they held is done again, explanations are kept and bounded."""

import contextlib
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from feedback.database import Database
from feedback.keep import StoreSilent
from feedback.tables import DETECTIONS
from feedback.work.supervisor import refusal
from media.faces import extract_clips
from model.card import load_card, write_card
from model.inference import LEARNED
from tests.feedback.buckets import s3_server
from tests.feedback.conftest import Service, running, wait_for
from tests.feedback.world import open_to_others
from tests.system.world import words_of
from workspace.errors import DatabaseSilent, WorkspaceError
from workspace.files import sha256_bytes
from workspace.settings import load_settings


def processes(service: Service) -> dict[str, psutil.Process]:
    """The service's children by their module."""
    found = {}
    for child in psutil.Process(service.process.pid).children(recursive=True):
        words = words_of(child)
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


def test_the_service_says_while_its_worker_is_away_and_takes_uploads_all_the_same(shared: Service, picture: bytes) -> None:
    shared.until_ready()
    worker = processes(shared)["worker"]
    worker.suspend()
    try:
        answer = shared.detect(picture, wait=0)
        assert answer.status_code == 202 and shared.client.get("/healthz").status_code == 200
    finally:
        worker.resume()
    wait_for(lambda: shared.client.get(f"/v1/detections/{answer.json()['id']}").json(), lambda row: row["state"] == "done", shared.log)


@pytest.mark.parametrize(("kills", "verdict"), [pytest.param(1, "uncertain", marks=pytest.mark.slow), (3, "none")])
def test_a_reader_that_somebody_ends_costs_its_file_an_attempt_and_no_more(
    root: Path, models: tuple[Path, Path], picture: bytes, kills: int, verdict: str
) -> None:
    """One kill by a machine short of memory was the last word on a sound file: `none`, said to be damaged, deleted where nothing is kept; no log."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params.setdefault("feedback", {})["workers"] = {"lease_seconds": 1, "max_attempts": 3, "decoders": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with running(root, "--model-dir", str(models[0])) as service:
        service.until_ready()
        reader = wait_for(lambda: processes(service).get("decoding"), bool, service.log)
        wait_for(
            lambda: service.detect(picture + b"\0").json()["state"], lambda state: state == "done", service.log
        )  # it has begun, and waits for the next file
        reader.suspend()
        sent = service.detect(picture, wait=0).json()["id"]
        for number in range(1, kills + 1):
            wait_for(lambda: service.client.get(f"/v1/detections/{sent}").json()["state"], lambda state: state == "running", service.log)
            found = wait_for(lambda: processes(service).get("decoding"), bool, service.log)
            os.kill(found.pid, signal.SIGKILL)
            told = f"detection {sent}, attempt {number} of 3: the process that opened it was ended from outside (signal 9)"
            wait_for(lambda told=told: service.log.read_text(), lambda text, told=told: told in text, service.log)
        done = wait_for(lambda: service.client.get(f"/v1/detections/{sent}").json(), lambda row: row["state"] == "done", service.log)
        log = service.log.read_text()
    assert done["verdict"] == verdict and log.count(f"detection {sent}, attempt") == kills
    assert [line for line in log.splitlines() if sent in line and "WARNING" not in line] == [], log
    if verdict == "none":
        assert done["reason"].startswith("the process that opened it was ended from outside 3 times (signal 9)") and "damaged" not in done["reason"]


def test_an_explanation_whose_reader_somebody_ends_may_be_asked_for_again(shared: Service, clip: bytes) -> None:
    verdict = shared.detect(clip + b"\0\0").json()
    page = f"/v1/detections/{verdict['id']}/explanation"
    if "explainer" in processes(shared):  # one that has explained has a reader that waits
        os.kill(processes(shared)["explainer"].pid, signal.SIGKILL)
    known = {child.pid for child in psutil.Process(shared.process.pid).children(recursive=True)}
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(shared.client.get(page, timeout=120)))
    asking.start()
    reader = wait_for(lambda: new_reader(shared, known), bool, shared.log)
    os.kill(reader, signal.SIGKILL)
    asking.join()
    assert (answers[0].status_code, answers[0].headers.get("retry-after")) == (503, "30"), answers[0].text
    assert "ended from outside (signal 9)" in answers[0].json()["detail"]
    assert shared.client.get(page, timeout=120).status_code == 200


def new_reader(service: Service, known: set[int]) -> int | None:
    """A process that opens media and was not known before."""
    for child in psutil.Process(service.process.pid).children(recursive=True):
        if child.pid not in known and "feedback.work.decoding" in words_of(child):
            return child.pid
    return None


def test_an_explanation_is_made_once_by_a_process_that_may_die(shared: Service, clip: bytes) -> None:
    verdict = shared.detect(clip).json()
    early = shared.client.get(f"/v1/detections/{verdict['id']}/heatmaps/0")
    assert early.status_code == 404 and "says why there are none" in early.json()["next_step"]
    asked: Any = shared.client.get(f"/v1/detections/{verdict['id']}/explanation", timeout=120)
    assert asked.status_code == 200, asked.text
    page = asked.json()
    assert page["model"] == verdict["model"] and page["heatmaps"] == len(page["frames"]) > 0
    assert shared.client.get(f"/v1/detections/{verdict['id']}/heatmaps/0").headers["content-type"] == "image/webp"
    assert "next_step" not in shared.client.get(f"/v1/detections/{verdict['id']}/heatmaps/999").json()
    explainer = processes(shared)["explainer"]
    os.kill(explainer.pid, signal.SIGKILL)
    assert shared.client.get(f"/v1/detections/{verdict['id']}/explanation", timeout=120).json() == page, "it was kept"
    assert open_to_others(shared.root) == []
    sparser = shared.detect(clip, mode="fast").json()  # the same upload, looked at in another way
    assert shared.client.get(f"/v1/detections/{sparser['id']}/explanation", timeout=120).json()["clip"] != page["clip"]
    assert shared.client.get(f"/v1/detections/{verdict['id']}/explanation", timeout=120).json() == page
    other, older = (shared.detect(clip + end, policy="moderation").json() for end in (b"\0", b"\0\0\0"))
    change_row(shared.root, other["id"], mode="fast" if other["judged_mode"] == "dense" else "dense")
    asked = shared.client.get(f"/v1/detections/{other['id']}/explanation", timeout=120)
    assert asked.status_code == 200, asked.text
    clip_named = ("track", "start_seconds", "end_seconds")
    assert [asked.json()["clip"][name] for name in clip_named] in [[one[name] for name in clip_named] for one in other["clips"]]
    forget_mode(shared.root, older["id"], "fast" if older["judged_mode"] == "dense" else "dense")
    asked = shared.client.get(f"/v1/detections/{older['id']}/explanation", timeout=120)
    assert asked.status_code == 409 and "other clips are found in the file today" in asked.json()["detail"], asked.text


def change_row(root: Path, detection_id: str, **values: Any) -> None:
    """Change the row of a verdict; another `mode` stands for settings by which it would be looked at otherwise today."""
    with contextlib.closing(Database(root, load_settings(root / "params.yaml"))) as database, database.write() as connection:
        connection.execute(DETECTIONS.update().where(DETECTIONS.c.id == detection_id).values(**values))


def forget_mode(root: Path, detection_id: str, today: str) -> None:
    """A verdict as a Vigil left it that did not keep the mode; today it would be looked at in this one."""
    with contextlib.closing(Database(root, load_settings(root / "params.yaml"))) as database, database.read() as connection:
        answer = connection.execute(DETECTIONS.select().where(DETECTIONS.c.id == detection_id)).mappings().one()["answer"]
    change_row(root, detection_id, mode=today, answer={name: value for name, value in answer.items() if name != "judged_mode"})


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_no_last_word_on_an_explanation(root: Path, models: tuple[Path, Path], clip: bytes) -> None:
    """It was 409, which no client sends again, where every other request said 503."""
    with s3_server("media"), contextlib.ExitStack() as stack:  # what is stored outlives the servers inside
        with s3_server() as (endpoint, _):
            params = yaml.safe_load((root / "params.yaml").read_text())
            params["feedback"] |= {"media_url": "s3://media/x", "s3_endpoint_url": endpoint}
            (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
            service = stack.enter_context(running(root, "--model-dir", str(models[0])))
            service.until_ready()
            verdict = service.detect(clip).json()
        page = f"/v1/detections/{verdict['id']}/explanation"
        silent = service.client.get(page, timeout=120)
        assert (silent.status_code, silent.headers.get("retry-after")) == (503, "30"), silent.text
        assert "the store of the media does not answer" in silent.json()["detail"] and silent.json()["next_step"].startswith("Ask again")
        with s3_server(port=int(endpoint.rpartition(":")[2])):
            assert service.client.get(page, timeout=120).status_code == 200, "what was silent is asked again"


@pytest.mark.parametrize(("silent", "kind"), [("StoreSilent", StoreSilent), ("DatabaseSilent", DatabaseSilent), ("", WorkspaceError)])
def test_what_the_explainer_says_of_silence_is_passed_on(silent: str, kind: type[Exception]) -> None:
    said = refusal({"id": "x", "error": "so it is"} | ({"silent": silent} if silent else {}))
    assert type(said) is kind and said.why == "so it is" and ("Ask again" in said.next_step) == bool(silent)


def test_what_is_no_media_has_no_explanation(shared: Service) -> None:
    verdict = shared.detect(b"not a picture").json()
    answer = shared.client.get(f"/v1/detections/{verdict['id']}/explanation", timeout=120)
    assert answer.status_code in (404, 409, 422, 503) and answer.headers["content-type"] == "application/problem+json"


def test_all_processes_end_with_the_service(service: Service, clip: bytes, tmp_path: Path) -> None:
    service.detect(clip)
    service.until_ready()
    children = list(processes(service).values())
    assert service.stop() == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_a_file_that_trained_the_model_is_told_so_by_the_service_too(root: Path, models: tuple[Path, Path], clip: bytes, tmp_path: Path) -> None:
    """`vigil score` said it; the verdict, the report and the console did not."""
    (tmp_path / "sent.mp4").write_bytes(clip)
    card = load_card(models[0])
    known = [sha256_bytes(np.ascontiguousarray(found.frames).tobytes()) for found in extract_clips(tmp_path / "sent.mp4", card.faces).clips]
    shutil.copytree(models[0], tmp_path / "learned")
    write_card(tmp_path / "learned", card.model_copy(update={"train_clips": tuple(known)}))
    with running(root, "--model-dir", str(tmp_path / "learned")) as service:
        service.until_ready()
        verdict = service.detect(clip).json()
        report = service.client.get(f"/v1/detections/{verdict['id']}/report").json()["report"]
    assert known and verdict["note"] == LEARNED and any(LEARNED[1:] in limit for limit in report["limits"])
