"""S3 over a bad wire: what is fetched is whole or refused, nothing is half-ingested, and no byte comes twice without need."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

import workspace.objectstore as objectstore
from pipelines.ingest import ingest, pending
from tests.feedback.buckets import CREDENTIALS, s3_server
from tests.pipelines.faulty_store import FOREVER, Fault, FaultyStore, faulty_store
from tests.pipelines.small_world import demo_settings
from tests.system.world import change_settings, events, vigil
from tests.workspace.worlds import no_file_larger_than, start_python, wait_until
from workspace.journal import Journal
from workspace.manifest import read_manifest, read_media
from workspace.settings import IdentityRule, SourceSettings

BIG = "real/big.png"
SMALL = tuple(f"real/{number}.png" for number in range(6))
CUT = 64 << 10  # what a cut may cost again: the chunk that was on its way
REMOTE = SourceSettings(name="cloud", path="s3://media/press")


def noise(seed: int, size_px: int) -> bytes:
    """A PNG that no two seeds share and that hardly compresses: about 3 bytes a pixel."""
    import cv2

    return bytes(cv2.imencode(".png", np.random.default_rng(seed).integers(0, 255, (size_px, size_px, 3), dtype=np.uint8))[1])


CONTENT = {BIG: noise(99, 400), **{name: noise(number, 48) for number, name in enumerate(SMALL)}}


def fill(client: Any) -> None:
    for name, content in CONTENT.items():
        client.put_object(Bucket="media", Key=f"press/{name}", Body=content)


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[str, Any]]:
    with pytest.MonkeyPatch.context() as patch, s3_server("media") as (endpoint, client):
        patch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # as most stores have them: with an etag and nothing more
        client = boto3.client("s3", endpoint_url=endpoint)
        fill(client)
        yield endpoint, client


def take(root: Path, store: FaultyStore) -> Any:
    return ingest(root, demo_settings({"ingest": {"s3_endpoint_url": store.url}}), [REMOTE])


def is_untouched(root: Path) -> bool:
    return not Journal(root).events() and not list((root / "data").glob("raw/*")) and not list((root / ".vigil").glob("unfinished/ingest/*/batch"))


def assert_all_in_once(root: Path, store: FaultyStore, content: dict[str, bytes] = CONTENT) -> None:
    """One batch, one journal entry, each object once and byte for byte, nothing left over, nothing pending."""
    (folder,) = (path.parent for path in (root / "data" / "raw").glob("*/manifest.parquet"))
    found = {row["path"]: read_media(folder, row["shard"], row["offset"], row["bytes"], row["sample_id"]) for row in read_manifest(folder).to_dict("records")}
    assert found == content
    assert [(event.kind, event["samples"]) for event in Journal(root).events()] == [("batch_added", len(content))]
    assert not (root / ".vigil" / "incoming" / "cloud").exists()
    settings = demo_settings({"ingest": {"s3_endpoint_url": store.url}})
    assert pending(root, settings, [REMOTE]) == 0 and ingest(root, settings, [REMOTE]).batches == []


PASSING = {
    "cut in mid-body, twice": (Fault(BIG, "cut", times=2, at=150_000), 2 * CUT),
    "two answers 500": (Fault(BIG, "status", times=2), 0),
    "two answers 503": (Fault(BIG, "status", times=2, code=503), 0),
    "a short body that claims to be whole": (Fault(BIG, "short", times=1, at=200_000), 0),
    "one wrong byte, once": (Fault(BIG, "wrong", times=1), len(CONTENT[BIG])),
    "silent in mid-body": (Fault(BIG, "stall", times=1, at=200_000, seconds=2.5), CUT),
    "a listing cut in half": (Fault("", "cut", times=1, at=300), 0),
    "a listing answered 503": (Fault("", "status", times=1, code=503), 0),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_outlived_in_the_same_run(filled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fault, again = PASSING[name]
    monkeypatch.setattr(objectstore, "READ_SECONDS", 1)
    with faulty_store(filled[0], fault) as store:
        report = take(tmp_path, store)
        assert report.problems == {} and report.added == len(CONTENT) and fault.times == 0
        assert len(CONTENT[BIG]) <= store.sent[f"/media/press/{BIG}"] <= len(CONTENT[BIG]) + again
        assert all(store.sent[f"/media/press/{small}"] == len(CONTENT[small]) for small in SMALL)
        assert_all_in_once(tmp_path, store)


LASTING = {
    "cut at once": (Fault(BIG, "cut", at=0), "press/real/big.png"),
    "cut in mid-body": (Fault(BIG, "cut", at=70_000), "attempts"),
    "500 for ever": (Fault(BIG, "status"), "(InternalError)"),
    "503 for ever": (Fault(BIG, "status", code=503), "reached max retries"),
    "short for ever": (Fault(BIG, "short", at=0), f"0 of {len(CONTENT[BIG])} bytes came"),
    "wrong bytes for ever": (Fault(BIG, "wrong"), "not what the store promised"),
    "silent for ever": (Fault(BIG, "stall", at=1000, seconds=2.0), "Read timeout"),
    "no listing": (Fault("", "status"), "s3://media/press/"),
    "half a listing that claims to be whole": (Fault("", "short", at=300), "s3://media/press/"),
    "a listing cut for ever": (Fault("", "cut", at=300), "s3://media/press/"),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_fault_that_lasts_is_refused_with_the_reason_and_the_next_run_takes_everything_once(
    filled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault, reason = LASTING[name]
    fault.times = FOREVER
    monkeypatch.setattr(objectstore, "READ_SECONDS", 1)
    with faulty_store(filled[0], fault) as store:
        report = take(tmp_path, store)
        assert report.batches == [] and report.sources == {} and reason in report.problems["cloud"], report.problems
        assert report.problems["cloud"].count("\n") == 2 and "  Why:  " in report.problems["cloud"] and "  Next: " in report.problems["cloud"]
        assert is_untouched(tmp_path)
        kept = sum(path.stat().st_size for path in (tmp_path / ".vigil" / "incoming" / "cloud").rglob("*") if path.is_file())
        store.fault, before = None, store.sent.total() - store.sent[""]
        assert take(tmp_path, store).added == len(CONTENT)
        assert store.sent.total() - store.sent[""] - before <= sum(map(len, CONTENT.values())) - kept, "what was kept came again"
        assert_all_in_once(tmp_path, store)


def test_an_object_that_changes_between_list_and_get_is_refused_and_comes_in_as_it_is_then(filled: Any, tmp_path: Path) -> None:
    endpoint, client = filled
    other = {**CONTENT, BIG: noise(7, 420)}
    with faulty_store(endpoint) as store:
        store.fault = Fault(BIG, "none", times=1, before=lambda: client.put_object(Bucket="media", Key=f"press/{BIG}", Body=other[BIG]))
        try:
            report = take(tmp_path, store)
            assert "changed after it was listed" in report.problems["cloud"] and is_untouched(tmp_path)
            assert take(tmp_path, store).added == len(CONTENT)
            assert_all_in_once(tmp_path, store, other)
        finally:
            fill(client)


def forbidden(_: Any) -> Fault:
    return Fault(BIG, "status", code=403, error="AccessDenied")


def locked(_: Any) -> Fault:
    return Fault(BIG, "status", code=400, error="KMS.DisabledException")


def archived(client: Any) -> Fault | None:
    client.put_object(Bucket="media", Key=f"press/{BIG}", Body=CONTENT[BIG], StorageClass="GLACIER")
    return None


def gone(client: Any) -> Fault:
    return Fault(BIG, "none", times=1, before=lambda: client.delete_object(Bucket="media", Key=f"press/{BIG}"))


REFUSED = {"AccessDenied": forbidden, "InvalidObjectState": archived, "NoSuchKey": gone, "KMS.DisabledException": locked}


@pytest.mark.parametrize("word", REFUSED)
def test_one_object_that_cannot_be_had_is_put_aside_and_comes_in_once_it_can(filled: Any, tmp_path: Path, word: str) -> None:
    """It kept all others of its source out, for ever."""
    endpoint, client = filled
    with faulty_store(endpoint) as store:
        try:
            store.fault = REFUSED[word](client)
            settings = demo_settings({"ingest": {"s3_endpoint_url": store.url}})
            report = take(tmp_path, store)
            assert (report.problems, report.added, report.by_reason) == ({}, len(SMALL), {f"unreadable ({word})": 1})
            assert pending(tmp_path, settings, [REMOTE]) == 0, "what stays refused is not new"
            again = take(tmp_path, store)
            assert (again.problems, again.batches, again.quarantined) == ({}, [], 0)
        finally:
            store.fault = None
            fill(client)
        late = take(tmp_path, store)
        assert (late.problems, late.added) == ({}, 1) and pending(tmp_path, settings, [REMOTE]) == 0


def test_a_label_for_an_object_that_cannot_be_had_any_more_waits_for_it(filled: Any, tmp_path: Path) -> None:
    endpoint, client = filled
    remote = REMOTE.model_copy(update={"path": "s3://media/tabled", "identity": IdentityRule(rule="file")})
    with faulty_store(endpoint) as store:
        settings = demo_settings({"ingest": {"s3_endpoint_url": store.url}})

        def says(labels: str) -> Any:
            client.put_object(Bucket="media", Key="tabled/labels.csv", Body=labels.encode())
            return ingest(tmp_path, settings, [remote])

        for number in range(2):
            client.put_object(Bucket="media", Key=f"tabled/{number}.png", Body=CONTENT[SMALL[number]])
        assert says("path,label\n0.png,\n1.png,\n").added == 2
        store.fault = Fault("0.png", "status", code=403, error="AccessDenied")
        report = says("path,label\n0.png,real\n1.png,real\n")
        assert (report.problems, report.added, report.by_reason) == ({}, 1, {"unreadable (AccessDenied)": 1})
        store.fault = None
        report = ingest(tmp_path, settings, [remote])
        assert (report.added, report.quarantined) == (1, 0)
        store.fault = Fault("labels.csv", "status", code=403, error="AccessDenied")
        report = ingest(tmp_path, settings, [remote])
        assert report.batches == [] and "refuses a table" in report.problems["cloud"]


def test_a_store_that_refuses_every_object_is_told_as_one_problem(filled: Any, tmp_path: Path) -> None:
    with faulty_store(filled[0], Fault(".png", "status", code=403, error="AccessDenied")) as store:
        report = take(tmp_path, store)
        assert report.sources == {} and "the store refuses every object (AccessDenied)" in report.problems["cloud"] and is_untouched(tmp_path)
        store.fault = None
        assert take(tmp_path, store).added == len(CONTENT)
        assert_all_in_once(tmp_path, store)


def test_a_prefix_without_objects_is_told_by_its_address(filled: Any, tmp_path: Path) -> None:
    """By a folder of the workspace in which nothing said what is real."""
    settings, nowhere = demo_settings({"ingest": {"s3_endpoint_url": filled[0]}}), REMOTE.model_copy(update={"path": "s3://media/nothere"})
    reasons: dict[str, str] = {}
    assert pending(tmp_path, settings, [nowhere], reasons) == 0
    for told in (ingest(tmp_path, settings, [nowhere]).problems, reasons):
        assert told["cloud"].startswith("There is nothing below s3://media/nothere/.") and "incoming" not in told["cloud"]


def test_an_object_that_was_deleted_after_an_interrupted_run_does_not_come_in(filled: Any, tmp_path: Path) -> None:
    endpoint, client = filled
    with faulty_store(endpoint, Fault(BIG, "cut", at=0)) as store:
        assert take(tmp_path, store).batches == []
        assert (tmp_path / ".vigil" / "incoming" / "cloud" / SMALL[0]).exists()
        store.fault = None
        client.delete_object(Bucket="media", Key=f"press/{SMALL[0]}")
        try:
            take(tmp_path, store)
            assert_all_in_once(tmp_path, store, {name: content for name, content in CONTENT.items() if name != SMALL[0]})
        finally:
            fill(client)


def test_a_disk_without_room_is_no_fault_of_the_store(filled: Any, tmp_path: Path) -> None:
    with faulty_store(filled[0]) as store:
        with no_file_larger_than(100_000), pytest.raises(OSError, match="too large"):
            take(tmp_path, store)
        assert is_untouched(tmp_path) and take(tmp_path, store).added == len(CONTENT)


def start_server(port: int) -> "subprocess.Popen[bytes]":
    """A real S3 server as a process of its own, filled."""
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket="media")
            fill(client)
            return process
        except Exception:
            assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_killed_in_mid_transfer_costs_only_the_cut_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command line. The object was half sent when its server died; a new server has the same objects."""
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    root, port = tmp_path / "w", free_port()
    vigil("init", root, "--profile", "demo")
    server = start_server(port)
    with faulty_store(f"http://127.0.0.1:{port}") as store:
        change_settings(root, {"ingest": {"s3_endpoint_url": store.url}})

        def kill() -> None:
            server.send_signal(signal.SIGKILL)
            server.wait()

        try:
            store.fault = Fault(BIG, "cut", times=1, at=len(CONTENT[BIG]) // 2, after=kill)
            died = vigil("ingest", REMOTE.path, "--name", "cloud", "-w", root, check=False)
            assert died.returncode == 1 and server.returncode == -signal.SIGKILL
            assert "Cannot read s3://media/press" in died.stdout and "Traceback" not in died.stdout + died.stderr
            assert events(root) == [] and not list((root / "data" / "raw").glob("*"))
            server, store.fault = start_server(port), None
            vigil("ingest", REMOTE.path, "--name", "cloud", "-w", root)
            assert len(CONTENT[BIG]) <= store.sent[f"/media/press/{BIG}"] <= len(CONTENT[BIG]) + CUT
            assert_all_in_once(root, store)
        finally:
            server.kill()
            server.wait()


KILLED = """
import sys
from pathlib import Path
from pipelines.ingest import ingest
from tests.pipelines.small_world import demo_settings
from tests.pipelines.test_s3_faults import REMOTE
ingest(Path(sys.argv[1]), demo_settings({"ingest": {"s3_endpoint_url": sys.argv[2]}}), [REMOTE])
"""


def test_an_ingest_killed_in_mid_transfer_goes_on_where_it_was(filled: Any, tmp_path: Path) -> None:
    at = 300_000
    with faulty_store(filled[0], Fault(BIG, "stall", times=1, at=at, seconds=60)) as store:
        process = start_python(KILLED, tmp_path, store.url)
        incoming = tmp_path / ".vigil" / "incoming" / "cloud"
        wait_until(lambda: all((incoming / name).exists() for name in SMALL) and any(part.stat().st_size >= at - CUT for part in incoming.rglob("*.part")))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and is_untouched(tmp_path)
        assert take(tmp_path, store).added == len(CONTENT)
        assert store.sent.total() - store.sent[""] <= sum(map(len, CONTENT.values())) + CUT
        assert_all_in_once(tmp_path, store)
