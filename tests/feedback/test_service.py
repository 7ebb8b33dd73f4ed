"""The service over real HTTP, as a process, with a real exported model and rendered media."""

import io
import os
import re
import signal
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from feedback.handover import export_reviewed, mark_ingested, source, waiting
from feedback.secret import SHORTEST, VARIABLE
from tests.feedback.conftest import MAX_UPLOAD_BYTES, PASSWORD, Service, model_sha256, running, wait_for
from tests.feedback.world import open_to_others
from vigil.people import add_key
from workspace.errors import WorkspaceError
from workspace.files import sha256_bytes
from workspace.manifest import read_manifest
from workspace.profiles import compose_params
from workspace.settings import Settings, load_settings


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check the form of a refusal; returns its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status and body["title"] and body["detail"] and "Traceback" not in answer.text
    return body


def test_an_uncertain_detection_becomes_a_case_and_its_review_next_weeks_data_once(
    root: Path, settings: Settings, service: Service, clip: bytes, models: tuple[Path, Path]
) -> None:
    from pipelines.ingest import ingest

    answer = service.detect(clip, "holiday.mp4")
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["file"] == "holiday.mp4" and body["verdict"] == "uncertain" and body["p_fake"] == pytest.approx(0.5, abs=1e-3)
    assert body["threshold"] == 0.5 and body["label_map"] == "p_fake: 1 means fake" and body["model_sha256"] == model_sha256(models[0])
    assert body["model"] == body["model_sha256"][:12] and body["frames"] > 0 and body["faces"] == 1 and body["tracks"] and body["clips"]
    assert service.client.get(f"/v1/detections/{body['id']}").json() == {name: value for name, value in body.items() if name != "file"}

    cases = service.by("rob").get("/v1/cases", params={"state": "open"}).json()["cases"]
    assert [case["id"] for case in cases] == [body["case_id"]] and cases[0]["sha256"] == sha256_bytes(clip)
    one = service.by("rob").get(f"/v1/cases/{body['case_id']}").json()
    assert one["learned_by"] == [] and "learned_by" not in cases[0], "a list does not ask, and said that no model has learned from any"
    assert service.detect(clip).json()["case_id"] == body["case_id"], "the same file is the same question"
    assert export_reviewed(root, settings) is None, "an open case is nobody's label"

    first = service.review(body["case_id"], "fake", "rob", note="lips", identity="person-7")
    assert first.status_code == 201 and first.json()["state"] == "open" and export_reviewed(root, settings) is None, "one answer is no label yet"
    reviewed = service.review(body["case_id"], "fake", "rita", identity="person-7")
    assert reviewed.status_code == 201 and reviewed.json()["label"] == "fake" and reviewed.json()["handover"] == "waiting"
    assert service.by("rob").get("/v1/cases").json()["cases"] == []
    is_problem(service.review(body["case_id"], "real", "rob"), 409)

    rows = []
    for _ in range(2):  # a second round, as after a crash before the confirmation, adds nothing
        folder = export_reviewed(root, settings)
        assert folder is not None
        report = ingest(root, settings, [source(folder)])
        assert open_to_others(root) == [], "the original, who is in it, and the pictures of it"
        rows += [row for batch in report.batches for row in read_manifest(root / "data/raw" / batch).to_dict("records")]
    assert len(rows) == 1
    expected = {"label": "fake", "use": "train", "identity": "person-7", "generator": "reported", "case_id": body["case_id"], "kind": "video", "quarantine": ""}
    assert {name: rows[0][name] for name in expected} == expected and rows[0]["sample_id"] == sha256_bytes(clip)
    assert mark_ingested(root, settings, {(rows[0]["sample_id"], "fake"): rows[0]["batch"]}) == 1
    assert waiting(root, settings) == 0 and export_reviewed(root, settings) is None
    assert service.by("rob").get(f"/v1/cases/{body['case_id']}").json()["handover"] == "ingested"


def test_there_is_no_signed_report_without_a_verdict(shared: Service, picture: bytes) -> None:
    """Of an upload that was called fake and erased, its sender got a signed and valid "No verdict"; of one still in the queue, everybody."""
    sent = shared.client.post("/v1/detections", params={"wait": 30}, files={"file": ("a.jpg", picture + b"reported")}).json()
    assert shared.client.get(f"/v1/detections/{sent['id']}/report").status_code == 200
    assert shared.client.delete(f"/v1/detections/{sent['id']}").status_code == 200
    for form in ("json", "pdf"):
        refused = shared.client.get(f"/v1/detections/{sent['id']}/report", params={"format": form})
        assert refused.status_code == 410 and "erased" in refused.json()["detail"]
    queued = shared.client.post("/v1/detections", params={"wait": 0}, files={"file": ("b.jpg", picture + b"queued")}).json()
    early = shared.client.get(f"/v1/detections/{queued['id']}/report")
    state = shared.client.get(f"/v1/detections/{queued['id']}").json()["state"]
    assert (early.status_code == 409 and "no verdict" in early.json()["detail"]) or state == "done"


def test_a_picture_is_judged_too(shared: Service, picture: bytes) -> None:
    body = shared.detect(picture, "face.jpg").json()
    assert body["kind"] == "image" and body["verdict"] == "uncertain" and body["frames"] == 1
    assert shared.by("rob").get(f"/v1/cases/{body['case_id']}").json()["kind"] == "image"


@pytest.mark.parametrize("content", [os.urandom(20_000), b"just text", b"\xff\xd8\xff\xe0" + b"\0" * 500, b"RIFF"])
def test_what_is_no_media_gets_no_verdict_but_a_reason(shared: Service, content: bytes) -> None:
    answer = shared.detect(content, "x.mp4")
    assert answer.status_code == 201
    body = answer.json()
    assert body["verdict"] == "none" and body["p_fake"] is None and body["reason"] and body["case_id"] is None
    assert str(shared.root) not in answer.text and ".vigil" not in answer.text, "a reason tells nothing about the server's folders"
    case_id = shared.client.post(f"/v1/detections/{body['id']}/dispute", json={"claim": "fake"}).json()["case_id"]
    decided = shared.review(case_id, "fake").json()
    assert (decided["state"], decided["label"], decided["handover"]) == ("decided", "fake", ""), "ingest could not open it either"


def test_half_a_video_gets_a_row_not_a_crash(shared: Service, clip: bytes) -> None:
    body = shared.detect(clip[: len(clip) // 2]).json()
    assert body["verdict"] in ("none", "uncertain") and (body["reason"] or body["verdict"] == "uncertain")
    assert shared.client.get("/healthz").status_code == 200


def test_an_upload_to_the_address_with_a_slash_is_sent_on_whatever_its_size(shared: Service) -> None:
    """A large one was told to be no upload, and to come as multipart/form-data, which it was; a small one was sent on."""
    for size in (1000, 2 << 20):
        sent = shared.client.post("/v1/detections/?wait=0", files={"file": ("a", b"x" * size)})
        assert (sent.status_code, httpx.URL(sent.headers["location"]).path) == (307, "/v1/detections")
        assert shared.client.post("/v1/detections/?wait=0", files={"file": ("a", b"x" * size)}, follow_redirects=True).status_code == 202


def test_an_empty_file_is_refused(shared: Service) -> None:
    assert "empty" in is_problem(shared.detect(b""), 422)["detail"]


def test_a_file_above_the_cap_is_refused_by_its_declared_length_and_while_it_streams(shared: Service) -> None:
    assert is_problem(shared.detect(b"x" * (MAX_UPLOAD_BYTES + 100_000)), 413)["max_bytes"] == MAX_UPLOAD_BYTES
    is_problem(shared.detect(b"x" * (MAX_UPLOAD_BYTES + 1)), 413)

    def endless() -> Any:  # no Content-Length: only counting can stop it
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(2 * MAX_UPLOAD_BYTES // 50_000):
            yield b"x" * 50_000

    is_problem(shared.client.post("/v1/detections", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"}), 413)
    assert shared.detect(b"x" * MAX_UPLOAD_BYTES).status_code == 201, "the cap itself is allowed"
    assert list((shared.root / ".vigil/uploads").iterdir()) == []


def test_malformed_uploads_are_named_and_refused(shared: Service) -> None:
    post, form = shared.client.post, {"Content-Type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx'
    is_problem(post("/v1/detections", json={"file": "a"}), 422)
    is_problem(post("/v1/detections", content=b"{", headers={"Content-Type": "application/json"}), 422)
    is_problem(post("/v1/detections", content=b"x", headers={"Content-Type": "multipart/form-data"}), 415)
    is_problem(post("/v1/detections", content=b"not a form", headers=form), 400)
    assert "before its last boundary" in is_problem(post("/v1/detections", content=part, headers=form), 400)["detail"]
    is_problem(post("/v1/detections", files={"other": ("a", b"x")}), 422)
    is_problem(post("/v1/detections", files=[("file", ("a", b"x")), ("file", ("b", b"y"))]), 422)
    is_problem(post("/v1/detections", files={"file": ("a", b"x")}, data={"label": "real"}), 422)
    is_problem(post("/v1/detections", files={"file": ("a", b"x")}, params={"mode": "slow"}), 422)
    is_problem(post("/v1/detections"), 415)
    assert list((shared.root / ".vigil/uploads").iterdir()) == []


def test_wrong_reviews_and_unknown_ids_are_refused_and_change_nothing(shared: Service, clip: bytes) -> None:
    case_id, rob = shared.detect(clip).json()["case_id"], shared.by("rob")
    url = f"/v1/cases/{case_id}/review"
    wrong: list[dict[str, Any]] = [
        {},
        {"label": "1"},
        {"label": "fake", "reviewer": "ann"},
        {"label": "fake", "identity": "two\nlines"},
        {"label": "fake", "note": "x" * 5000},
        {"label": "fake", "seconds": -1},
    ]
    for body in wrong:
        assert is_problem(rob.post(url, json=body), 422)["mistakes"]
    is_problem(rob.post(url, content=b"{not json", headers={"Content-Type": "application/json"}), 422)
    nowhere = "0" * 32
    is_problem(rob.post(f"/v1/cases/{nowhere}/review", json={"label": "fake"}), 404)
    is_problem(rob.get(f"/v1/cases/{nowhere}"), 404)
    is_problem(rob.get("/v1/cases/none"), 422)
    is_problem(shared.client.get(f"/v1/detections/{nowhere}"), 404)
    is_problem(rob.get("/v1/cases", params={"state": "closed"}), 422)
    is_problem(rob.get("/nothing-here"), 404)
    is_problem(rob.delete(url), 405)
    assert rob.get(f"/v1/cases/{case_id}").json()["state"] == "open"


def test_a_head_is_answered_over_a_connection_and_a_range_out_of_reach_is_a_problem(shared: Service, picture: bytes) -> None:
    made = f"/v1/detections/{shared.detect(picture + b'head', 'a.jpg').json()['id']}"
    for path in ("/healthz", made, f"{made}/thumbnail", f"{made}/events", "/v1/detections"):
        looked, head = shared.client.get(path), shared.client.head(path)
        assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", looked.headers["content-type"]), path
    refused = shared.client.head("/v1/export")
    assert (refused.status_code, refused.content, refused.headers["allow"]) == (405, b"", "GET")
    size = len(shared.client.get(f"{made}/thumbnail").content)
    part = shared.client.get(f"{made}/thumbnail", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"RIFF")
    beyond = shared.client.get(f"{made}/thumbnail", headers={"Range": f"bytes={size}-"})
    assert is_problem(beyond, 416)["next_step"] and beyond.headers["content-range"] == f"bytes */{size}"
    is_problem(shared.client.get(f"{made}/thumbnail", headers={"Range": "bytes=x"}), 400)
    whole = shared.client.get(f"{made}/thumbnail", headers={"Range": "pages=1"})
    assert (whole.status_code, len(whole.content)) == (200, size), "a unit that is not known is to be ignored (RFC 9110)"


def test_two_reviews_of_unsure_close_the_case_and_hand_nothing_over(settings: Settings, shared: Service, clip: bytes) -> None:
    case_id = shared.detect(clip + b"unsure").json()["case_id"]
    body = shared.review(case_id, "unsure").json()
    assert body["state"] == "decided" and body["label"] == "unsure" and body["handover"] == "" and export_reviewed(shared.root, settings) is None


def test_a_clients_file_name_is_echoed_and_never_reaches_the_disk(root: Path, service: Service, clip: bytes) -> None:
    secret = "mrs-secret-name"
    answer = service.detect(clip, f"../../../{secret}.mp4").json()
    assert answer["file"] == f"{secret}.mp4"
    assert service.detect(clip, "C:\\private\\a\u202eb.mp4").json()["file"] == "ab.mp4"
    service.stop()
    for path in [root.parent, *root.parent.rglob("*")]:
        assert secret not in path.name
        if path.is_file() and path != service.log:
            assert secret.encode() not in path.read_bytes(), path
    assert [path.name for path in (root / ".vigil/media").iterdir()] == [sha256_bytes(clip)]


def test_many_at_once_are_all_answered_and_recorded(root: Path, service: Service, clip: bytes, picture: bytes) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: service.detect(picture if number % 2 else clip), range(12)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 12 and len({answer.json()["case_id"] for answer in answers}) == 2
    with sqlite3.connect(root / "feedback.db") as database:
        assert database.execute("SELECT count(*) FROM detections").fetchone() == (12,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_one_reviewer_twice_at_the_same_moment_counts_once(shared: Service, clip: bytes) -> None:
    case_id, barrier = shared.detect(clip + b"at once").json()["case_id"], threading.Barrier(6)
    headers = {"Authorization": f"Bearer {shared.people['rob'][1]}"}

    def answer(_: int) -> int:
        barrier.wait()
        return httpx.post(f"{shared.url}/v1/cases/{case_id}/review", json={"label": "fake"}, headers=headers, timeout=60, trust_env=False).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(answer, range(6))) == [201, 409, 409, 409, 409, 409]


@pytest.mark.parametrize(("number", "twice"), [(signal.SIGTERM, False), pytest.param(signal.SIGINT, False, marks=pytest.mark.slow), (signal.SIGINT, True)])
def test_a_signal_is_a_clean_end_and_what_was_accepted_waits_for_the_next_start(
    root: Path, models: tuple[Path, Path], service: Service, clip: bytes, number: int, twice: bool
) -> None:
    accepted = [service.detect(clip, wait=0) for _ in range(3)]
    assert {answer.status_code for answer in accepted} == {202}
    for child in psutil.Process(service.process.pid).children(recursive=True):
        if os.getpgid(child.pid) == os.getpgid(service.process.pid):
            child.send_signal(number)  # as a terminal does with Ctrl-C
    if twice:  # somebody who is still sending is waited for, but not beyond a second Ctrl-C
        sender = socket.create_connection((service.client.base_url.host, service.client.base_url.port))
        sender.sendall(
            f"POST /v1/detections HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {service.people['vera'][1]}\r\nContent-Length: 9\r\n\r\n-".encode()
        )
        service.process.send_signal(number)
        wait_for(lambda: service.log.read_text(), lambda log: "Waiting for connections to close" in log, service.log)
    assert service.stop(number) == 0, service.log.read_text()
    assert "Traceback" not in service.log.read_text() and "worker ended" not in service.log.read_text()
    assert list((root / ".vigil/uploads").iterdir()) == [] and not list(root.parent.glob("ready-*.json"))
    with running(root, "--model-dir", str(models[0])) as again:
        for answer in accepted:
            done = wait_for(lambda one=answer.json()["id"]: again.client.get(f"/v1/detections/{one}"), lambda found: found.json()["state"] == "done", again.log)
            assert done.json()["verdict"] == "uncertain"


def test_neither_the_service_nor_its_worker_imports_torch_or_mlflow(root: Path, models: tuple[Path, Path], clip: bytes) -> None:
    with running(root, "--model-dir", str(models[0]), python=("-X", "importtime")) as service:
        service.until_ready()
        assert service.detect(clip).json()["verdict"] == "uncertain"
        for process in [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children(recursive=True)]:
            assert "/torch/" not in Path(f"/proc/{process.pid}/maps").read_text(), process.cmdline()
        service.stop()
        imported = {found.split(".")[0] for found in re.findall(r"^import time:.*\|\s+(\S+)$", service.log.read_text(), re.MULTILINE)}
    assert {"fastapi", "sqlalchemy"} <= imported, "the list of imports was not read"
    assert not imported & {"torch", "torchvision", "mlflow", "prefect", "dvc"}


def test_a_server_that_was_killed_leaves_uploads_that_the_next_one_removes(root: Path, models: tuple[Path, Path], clip: bytes) -> None:
    """What had come of an upload lay there for up to two hours more, whole, also where the file was sent anew and erased."""
    uploads = root / ".vigil/uploads"
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + clip
    with running(root, "--model-dir", str(models[0])) as killed:
        where, key = httpx.URL(killed.url), killed.people["vera"][1]
        head = f"Host: {where.host}\r\nAuthorization: Bearer {key}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body) + 9}\r\n\r\n"
        with socket.create_connection((where.host, where.port or 0)) as sender:
            sender.sendall(b"POST /v1/detections HTTP/1.1\r\n" + head.encode() + body)
            wait_for(lambda: [path.stat().st_size for path in uploads.glob("*.part")], lambda sizes: sizes and sizes[0] > len(clip) // 2)
            killed.stop(signal.SIGKILL)
    (part,), copy = uploads.glob("*.part"), root / ".vigil/media" / f".{'a' * 64}.x3.tmp"
    others = [uploads / f"{name}-x" / ("b" * 64) for name in ("gathered", "media")]
    for path in (copy, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a face")
    with running(root, "--model-dir", str(models[0])):
        for path in (part, copy, others[0]):
            wait_for(path.exists, lambda there: not there)
        assert others[1].exists(), "a fresh one may be borrowed by another process"


def test_an_address_that_is_taken_is_one_clear_error(tmp_path: Path, shared: Service, settings: Settings) -> None:
    from feedback.serve import serve
    from workspace.errors import WorkspaceError

    with pytest.raises(WorkspaceError, match="Cannot listen"):
        serve(tmp_path / "another", settings, "127.0.0.1", int(shared.url.rsplit(":", 1)[1]))


@pytest.mark.parametrize("named", ["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8"])
def test_a_service_that_listens_on_ipv6_and_ipv4_believes_a_proxy_by_its_ipv4_address(
    tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """With `--host ::` whoever comes over IPv4 comes from ::ffff:127.0.0.1, and the proxy that the settings named was none."""
    try:
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True):
            pass
    except (OSError, ValueError) as problem:
        pytest.skip(f"this machine has no IPv6: {problem}")
    monkeypatch.setenv(VARIABLE, "5" * SHORTEST)
    root = tmp_path / "workspace"
    (root / ".vigil").mkdir(parents=True)
    params = compose_params("demo").replace("sign_ups_per_hour: 30", "sign_ups_per_hour: 1")
    (root / "params.yaml").write_text(params.replace("trusted_proxies: []", f"trusted_proxies: [{named}]"))
    with running(root, "--model-dir", str(models[0]), "--host", "::") as service:
        made = []
        for number in range(2):
            person = {"name": "N", "email": f"n{number}@example.org", "user_name": f"nora{number}", "password": PASSWORD}
            url = f"http://127.0.0.1:{urlsplit(service.url).port}/v1/sign-up"
            made.append(httpx.post(url, json=person, headers={"x-forwarded-for": f"203.0.113.{number}"}, trust_env=False).status_code)
    assert made == [201, 429 if named.startswith("10.") else 201]


def test_a_workspace_is_served_by_one_service_until_that_ends(root: Path, models: tuple[Path, Path], service: Service, settings: Settings) -> None:
    """Two went by one name as workers: each took the other's jobs away, and a file that was being looked at ran out of attempts."""
    from feedback.serve import serve
    from workspace.errors import LeaseHeldError

    for port in (0, int(service.url.rsplit(":", 1)[1])):
        with pytest.raises(LeaseHeldError, match=rf"served already[\s\S]*process {service.process.pid} on .* \(serving {re.escape(service.url)}, since"):
            serve(root, settings, "127.0.0.1", port)
    assert service.client.get("/readyz").status_code == 200
    with running(root, "--model-dir", str(models[0]), "--probe"):
        pass
    service.stop(signal.SIGKILL)
    with running(root, "--model-dir", str(models[0])) as another:
        assert another.client.get("/healthz").status_code == 200


def test_a_service_says_that_its_secret_is_another_one_and_goes_on_with_it(root: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, said = load_settings(root / "params.yaml"), []
    for given in ("a", "a", "b"):
        monkeypatch.setenv(VARIABLE, given * SHORTEST)
        with running(root, "--model-dir", str(models[0])) as service:
            key = add_key(root, settings, "rob", given)["key"]
            opened = httpx.get(f"{service.url}/v1/detections", headers={"authorization": f"Bearer {key}"}, trust_env=False)
            assert opened.status_code == 200
            said.append("the secret is another one" in service.log.read_text())
    assert said == [False, False, True]
    monkeypatch.setenv(VARIABLE, "a" * SHORTEST)
    with pytest.raises(WorkspaceError, match="No key was made"):
        add_key(root, settings, "rob", "of before")


def test_the_description_of_the_api_names_every_route_and_raw_clips_are_for_the_probe_alone(shared: Service) -> None:
    described = shared.client.get("/openapi.json").json()
    paths = described["paths"]
    assert {"/healthz", "/readyz", "/metrics", "/v1/detections", "/v1/detections/batch", "/v1/cases/{case_id}/review", "/v1/models/rollback"} <= set(paths)
    assert all(operation.get("description") for path in paths.values() for operation in path.values()), "every route says what it does"
    assert shared.client.post("/v1/clips", content=io.BytesIO(b"x")).status_code == 404
    keyless = {path for path, one in paths.items() if any(operation.get("security", described["security"]) == [] for operation in one.values())}
    assert keyless == {"/healthz", "/readyz", "/v1/report-key", "/v1/sign-up"}, "a generated client sends a key to all others"
    json_body, head = {"content": b'{"name": "' + b"a" * (1 << 20) + b'"}', "headers": {"Content-Type": "application/json"}}, {"headers": {"X": "a" * 40_000}}
    for path, more, status in (
        ("/v1/detections", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ("/v1/detections/batch", {"content": b"--B", "headers": {"Content-Type": "multipart/form-data; boundary=B"}}, 400),
        ("/v1/detections/batch", {"files": [("file", ("a.jpg", b"x")), ("file", ("b.jpg", b""))]}, 422),
        ("/v1/detections", {"files": {"file": b"x" * (MAX_UPLOAD_BYTES + 1)}}, 413),
        ("/v1/keys", json_body, 413),
        ("/v1/keys", {**head, "json": {}}, 431),
        ("/metrics", {}, 403),
        ("/healthz", head, 431),
    ):
        method = "POST" if "post" in paths[path] else "GET"
        answer = shared.client.request(method, path, **more)
        is_problem(answer, status)
        assert status != 422 or "b.jpg: nothing in it" in answer.json()["detail"], answer.text
        assert "application/problem+json" in paths[path][method.lower()]["responses"][str(status)]["content"], (path, status)


def test_a_tracks_seconds_are_those_of_its_most_suspicious_clip_and_the_schema_says_so(shared: Service, clip: bytes) -> None:
    """They were said to be one clip of the timeline, though their figure is of the whole track."""
    found = shared.detect(clip).json()
    for track in found["tracks"]:
        worst = max((one for one in found["clips"] if one["track"] == track["track"]), key=lambda one: one["p_fake"])
        assert [track[name] for name in ("start_seconds", "end_seconds")] == [worst[name] for name in ("start_seconds", "end_seconds")]
    schemas = shared.client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Detection"]["properties"]["tracks"]["items"] == {"$ref": "#/components/schemas/Track"}
    assert "most suspicious clip" in schemas["Track"]["description"]
