"""An object store over real HTTP: listed, fetched, resumed, checked, and clear about what went wrong."""

import hashlib
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from workspace.errors import DataError
from workspace.objectstore import CHUNK_BYTES, ObjectInfo, _loader, client, fetch, is_s3, list_prefix, partial_path, split_url

moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint():
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
def bucket(endpoint, request):
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=name)

    def put(**contents):
        for key, content in contents.items():
            client.put_object(Bucket=name, Key=key, Body=content)

    put.name, put.client = name, client
    return put


def test_what_is_an_address():
    assert is_s3("s3://b") and is_s3("s3://b/p/q") and not is_s3("s3:/b") and not is_s3("/data") and not is_s3("s3:///x") and not is_s3("https://b")
    assert split_url("s3://b/p/q") == ("b", "p/q") and split_url("s3://b") == ("b", "")
    with pytest.raises(DataError, match="s3://bucket/prefix"):
        split_url("/data")


def test_a_prefix_is_listed_sorted_beyond_one_page_without_folder_markers(bucket, endpoint):
    bucket(**{"media/0000.jpg": b"x", "media/": b"", "other.jpg": b"y"})
    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # what the server keeps: a thousand requests would take ten seconds
    for n in range(1, 1005):
        store.put_object(bucket.name, f"media/{n:04d}.jpg", b"x")
    found = list_prefix(f"s3://{bucket.name}/media/", endpoint)
    assert [item.key for item in found] == [f"media/{n:04d}.jpg" for n in range(1005)]
    assert found[0] == ObjectInfo("media/0000.jpg", 1, hashlib.md5(b"x").hexdigest())
    assert len(list_prefix(f"s3://{bucket.name}", endpoint)) == 1006


def test_clients_share_what_was_read_of_aws_and_neither_credentials_nor_endpoint(monkeypatch):
    first = client("http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    second = client("http://127.0.0.1:2")
    keys = [one._request_signer._credentials.access_key for one in (first, second)]
    assert keys == ["test", "another"] and [one.meta.endpoint_url[-1] for one in (first, second)] == ["1", "2"]
    assert first.meta.service_model.metadata is second.meta.service_model.metadata
    assert len(_loader(None).search_paths) == len(set(_loader(None).search_paths)), "boto3 adds a folder to it for each client"


def test_fetching_gives_every_object_below_the_prefix_and_only_once(bucket, endpoint, tmp_path):
    contents = {"in/real/a.jpg": b"a" * 10, "in/fake/gen/b.mp4": b"b" * 3_000_000, "in/empty.jpg": b""}
    bucket(**contents)
    steps = []
    paths = fetch(f"s3://{bucket.name}/in/", tmp_path / "to", endpoint, progress=lambda done, total: steps.append((done, total)))
    assert {str(path.relative_to(tmp_path / "to")): path.read_bytes() for path in paths} == {key.removeprefix("in/"): value for key, value in contents.items()}
    assert steps == [(1, 3), (2, 3), (3, 3)]
    stamps = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in fetch(f"s3://{bucket.name}/in/", tmp_path / "to", endpoint)] == stamps
    assert not list((tmp_path / "to").rglob("*.part"))


def test_a_file_that_was_damaged_here_is_fetched_again(bucket, endpoint, tmp_path):
    bucket(**{"a.jpg": b"right"})
    (tmp_path / "a.jpg").write_bytes(b"wrong")
    assert fetch(f"s3://{bucket.name}", tmp_path, endpoint)[0].read_bytes() == b"right"


def part_of(folder, item):
    return partial_path(folder / item.key, item)


def test_a_partial_file_is_resumed_by_range(bucket, endpoint, tmp_path, monkeypatch):
    import workspace.objectstore as objectstore

    content = bytes(range(256)) * 5000
    bucket(**{"a.bin": content})
    (item,) = list_prefix(f"s3://{bucket.name}", endpoint)
    part_of(tmp_path, item).write_bytes(content[:1_000_000])
    asked = []
    client = objectstore.client(endpoint)
    client.meta.events.register("before-send.s3.GetObject", lambda request, **_: asked.append(request.headers.get("Range")))
    monkeypatch.setattr(objectstore, "client", lambda _: client)
    assert fetch(f"s3://{bucket.name}", tmp_path, endpoint, objects=[item])[0].read_bytes() == content
    assert [value.decode() if isinstance(value, bytes) else value for value in asked] == ["bytes=1000000-"]


@pytest.mark.parametrize("start", [b"WRONG", b"WRONG-AND-FAR-TOO-LONG-A-START", b"WRONG BYTE"])
def test_a_partial_file_with_other_bytes_is_not_believed(bucket, endpoint, tmp_path, start):
    bucket(**{"a.bin": b"right bytes"})
    (item,) = list_prefix(f"s3://{bucket.name}", endpoint)
    part_of(tmp_path, item).write_bytes(start)
    assert fetch(f"s3://{bucket.name}", tmp_path, endpoint)[0].read_bytes() == b"right bytes"


def test_an_object_uploaded_in_parts_is_checked_by_size(bucket, endpoint, tmp_path):
    client, name = bucket.client, bucket.name
    upload = client.create_multipart_upload(Bucket=name, Key="big.bin")["UploadId"]
    blocks = [b"a" * (5 << 20), b"b" * 10]
    parts = [
        {"PartNumber": n, "ETag": client.upload_part(Bucket=name, Key="big.bin", UploadId=upload, PartNumber=n, Body=block)["ETag"]}
        for n, block in enumerate(blocks, 1)
    ]
    client.complete_multipart_upload(Bucket=name, Key="big.bin", UploadId=upload, MultipartUpload={"Parts": parts})
    (item,) = list_prefix(f"s3://{name}", endpoint)
    assert "-" in item.etag
    assert fetch(f"s3://{name}", tmp_path, endpoint)[0].read_bytes() == b"".join(blocks)


def test_an_object_that_changed_after_it_was_listed_is_refused(bucket, endpoint, tmp_path):
    bucket(**{"a.jpg": b"first"})
    listed = list_prefix(f"s3://{bucket.name}", endpoint)
    bucket(**{"a.jpg": b"second"})
    with pytest.raises(DataError, match=r"a\.jpg"):
        fetch(f"s3://{bucket.name}", tmp_path, endpoint, objects=listed)
    assert not (tmp_path / "a.jpg").exists()


def test_an_object_that_is_gone_is_refused_or_told_of(bucket, endpoint, tmp_path):
    bucket(**{"a.jpg": b"a", "b.jpg": b"b"})
    listed, refused = list_prefix(f"s3://{bucket.name}", endpoint), {}
    bucket.client.delete_object(Bucket=bucket.name, Key="a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg at http.*\n.*refuses it \(NoSuchKey\)"):
        fetch(f"s3://{bucket.name}", tmp_path, endpoint, objects=listed)
    fetch(f"s3://{bucket.name}", tmp_path, endpoint, objects=listed, refused=refused)
    assert refused == {"a.jpg": "NoSuchKey"} and not (tmp_path / "a.jpg").exists() and (tmp_path / "b.jpg").read_bytes() == b"b"


@pytest.mark.parametrize("key", ["in/../../x.jpg", "in//etc/x.jpg"])
def test_a_key_that_points_outside_the_folder_is_refused(tmp_path, key):
    with pytest.raises(DataError, match="leads outside"):
        fetch("s3://b/in/", tmp_path, "http://127.0.0.1:9", objects=[ObjectInfo(key, 1, "x")])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bucket_is_named_with_the_reason(endpoint):
    with pytest.raises(DataError, match=r"s3://nobody-has-this/x at http://.*\n.*NoSuchBucket"):
        list_prefix("s3://nobody-has-this/x", endpoint)


def test_an_unreachable_endpoint_is_a_reason(tmp_path):
    with pytest.raises(DataError, match=r"s3://b/x at http://127\.0\.0\.1:9\.\n.*Could not connect"):
        list_prefix("s3://b/x", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="Could not connect"):
        fetch("s3://b/x", tmp_path, "http://127.0.0.1:9", objects=[ObjectInfo("x/a", 1, "e")])


def test_missing_credentials_are_a_reason(monkeypatch, endpoint):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(DataError, match="credentials"):
        list_prefix("s3://b/x", endpoint)


def test_an_endpoint_that_is_no_url_is_a_reason():
    with pytest.raises(DataError, match="Invalid endpoint"):
        list_prefix("s3://b/x", "nonsense")


class Cutting(BaseHTTPRequestHandler):
    """A store that breaks off every answer after `server.portion` bytes, and gives slow.bin a chunk every `server.pause` seconds; it honours Range."""

    def do_GET(self):
        content, start = self.server.content, 0
        span = self.headers.get("Range")
        self.server.asked.append(span)
        if span:
            start = int(span.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", '"' + hashlib.md5(self.server.promised).hexdigest() + '"')
        self.end_headers()
        self.close_connection = True
        for at in range(start, min(start + self.server.portion, len(content)), CHUNK_BYTES):
            self.wfile.write(content[at : min(at + CHUNK_BYTES, start + self.server.portion)])
            if self.path.endswith("slow.bin"):
                time.sleep(self.server.pause)

    def log_message(self, *_):
        pass


@pytest.fixture
def cutting_store():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cutting)
    server.content = server.promised = bytes(range(256)) * 40
    server.asked, server.portion = [], 4000
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def info(server):
    return ObjectInfo("a.bin", len(server.promised), hashlib.md5(server.promised).hexdigest())


def test_a_connection_that_breaks_off_is_resumed_where_it_broke(cutting_store, tmp_path):
    server, endpoint = cutting_store
    (path,) = fetch("s3://b", tmp_path, endpoint, objects=[info(server)])
    assert path.read_bytes() == server.content and server.asked == [None, "bytes=4000-", "bytes=8000-"]


def test_a_store_that_never_gives_the_rest_is_an_error_and_the_next_run_goes_on(cutting_store, tmp_path):
    server, endpoint = cutting_store
    server.portion = 1000
    with pytest.raises(DataError, match=r"s3://b/a\.bin .*\n.*after 3 attempts"):
        fetch("s3://b", tmp_path, endpoint, objects=[info(server)])
    assert not (tmp_path / "a.bin").exists()
    server.portion, server.asked = 10**6, []
    assert fetch("s3://b", tmp_path, endpoint, objects=[info(server)])[0].read_bytes() == server.content
    assert server.asked == ["bytes=3000-"]


def test_ctrl_c_ends_a_slow_transfer_and_the_next_run_goes_on(cutting_store, tmp_path):
    """Every object on its way was waited for, eight of them and each as large as it liked."""
    server, endpoint = cutting_store
    server.content = server.promised = bytes(range(256)) * 256 * 100
    server.portion, server.pause = len(server.content), 0.3
    slow = replace(info(server), key="slow.bin")

    def ctrl_c(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("s3://b", tmp_path, endpoint, objects=[info(server), slow], progress=ctrl_c)
    assert (tmp_path / "a.bin").exists() and not (tmp_path / "slow.bin").exists()
    kept = part_of(tmp_path, slow).stat().st_size if part_of(tmp_path, slow).exists() else 0
    assert kept < len(server.content) / 2
    server.asked, server.pause = [], 0.0
    assert fetch("s3://b", tmp_path, endpoint, objects=[slow])[0].read_bytes() == server.content
    assert server.asked == [f"bytes={kept}-" if kept else None]


def test_content_that_is_not_what_the_store_promised_is_never_kept(cutting_store, tmp_path):
    server, endpoint = cutting_store
    server.portion = 10**6
    server.content = server.content[:-1] + b"!"
    with pytest.raises(DataError, match="not what the store promised"):
        fetch("s3://b", tmp_path, endpoint, objects=[info(server)])
    assert not (tmp_path / "a.bin").exists()
