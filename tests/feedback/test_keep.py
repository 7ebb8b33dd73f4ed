"""Where media are kept: a folder and a real S3 server behave alike."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from s3transfer.utils import OSUtils

from feedback.keep import MediaMissing, MediaStore, StoreSilent
from tests.feedback.buckets import s3_server
from tests.feedback.conftest import environment
from tests.feedback.world import write_settings
from workspace.errors import DataError
from workspace.files import sha256_bytes

CONTENT = b"\xff\xd8\xff what was sent"
SHA256 = sha256_bytes(CONTENT)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server("media") as (url, _), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield url


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MediaStore:
    more = {"media_url": f"s3://media/{tmp_path.name}", "s3_endpoint_url": request.getfixturevalue("endpoint")} if request.param == "s3" else {}
    return MediaStore(tmp_path, write_settings(tmp_path, **more))


def test_what_is_put_is_there_whole_until_it_is_deleted(store: MediaStore, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(CONTENT)
    assert not store.has(SHA256)
    store.put(tmp_path / "sent", SHA256)
    store.put(tmp_path / "sent", SHA256)
    with store.local(SHA256) as path:
        assert path.read_bytes() == CONTENT
    store.derived(SHA256).mkdir(parents=True)
    (store.derived(SHA256) / "thumbnail.webp").write_bytes(b"x")
    store.delete(SHA256)
    store.delete(SHA256)
    assert not store.has(SHA256) and not store.derived(SHA256).exists()
    with pytest.raises(MediaMissing), store.local(SHA256):
        pass


def test_a_file_that_was_damaged_on_the_disk_is_whole_again_once_it_is_sent_again(tmp_path: Path) -> None:
    """It was kept as it was for ever: whoever sent the media again had the damaged ones judged."""
    store = MediaStore(tmp_path, write_settings(tmp_path))
    (tmp_path / "sent").write_bytes(CONTENT)
    store.put(tmp_path / "sent", SHA256)
    with store.local(SHA256) as path:
        path.chmod(0o600)
        path.write_bytes(CONTENT[::-1])
        store.put(tmp_path / "sent", SHA256)
        assert path.read_bytes() == CONTENT


def test_what_was_kept_on_the_disk_before_there_was_a_bucket_is_kept_all_the_same(tmp_path: Path, endpoint: str) -> None:
    """It was told to be gone: jobs that waited were not read, and whoever sent the media again left what the disk had damaged as it was."""
    (tmp_path / "sent").write_bytes(CONTENT)
    MediaStore(tmp_path, write_settings(tmp_path)).put(tmp_path / "sent", SHA256)
    store = MediaStore(tmp_path, write_settings(tmp_path, media_url=f"s3://media/{tmp_path.name}", s3_endpoint_url=endpoint))
    assert store.has(SHA256)
    with store.local(SHA256) as path:
        assert path.read_bytes() == CONTENT
        path.chmod(0o600)
        path.write_bytes(CONTENT[::-1])
    store.put(tmp_path / "sent", SHA256)
    with store.local(SHA256) as path:
        assert path.read_bytes() == CONTENT
    store.delete(SHA256)
    assert not store.has(SHA256) and not store.lies(SHA256)


def test_a_name_that_is_no_hash_never_reaches_the_store(store: MediaStore) -> None:
    for name in ("../../etc/passwd", "a" * 63, "A" * 64, "", "g" * 64):
        for ask in (store.has, store.delete, store.derived):
            with pytest.raises((DataError, ValueError)):
                ask(name)


def test_nothing_of_a_borrowed_file_is_left_on_the_disk(store: MediaStore, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(CONTENT)
    store.put(tmp_path / "sent", SHA256)
    with pytest.raises(ZeroDivisionError), store.local(SHA256):
        raise ZeroDivisionError
    assert not list((tmp_path / ".vigil").glob("uploads/*"))


def test_what_a_killed_process_had_borrowed_from_the_bucket_goes_with_the_file(endpoint: str, tmp_path: Path) -> None:
    """A whole copy of what was erased stayed in .vigil/uploads: for up to two hours while a service ran, and for ever where none did."""
    settings = write_settings(tmp_path, media_url=f"s3://media/{tmp_path.name}", s3_endpoint_url=endpoint)
    store, uploads = MediaStore(tmp_path, settings), tmp_path / ".vigil/uploads"
    for content in (CONTENT, b"another"):
        (tmp_path / "sent").write_bytes(content)
        store.put(tmp_path / "sent", sha256_bytes(content))
        borrows = f"with MediaStore(root, load_settings(root / 'params.yaml')).local({sha256_bytes(content)!r}):\n    os.kill(os.getpid(), signal.SIGKILL)"
        imports = "import os, signal\nfrom pathlib import Path\nfrom feedback.keep import MediaStore\nfrom workspace.settings import load_settings"
        child = [sys.executable, "-c", f"{imports}\nroot = Path({str(tmp_path)!r})\n{borrows}"]
        assert subprocess.run(child, env=environment(), check=False).returncode == -signal.SIGKILL
    (kept,) = uploads.glob(f"media-*/{sha256_bytes(b'another')}")
    (whole,) = uploads.glob(f"media-*/{SHA256}")
    half = whole.with_name(f"{SHA256}.0f3Ab1cD")  # as one that was killed while it fetched it
    half.write_bytes(CONTENT[:-1])
    store.delete(SHA256)
    assert [path for path in uploads.rglob("*") if path.is_file()] == [kept]


def test_a_file_that_is_erased_while_it_is_borrowed_is_missing(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MediaStore(tmp_path, write_settings(tmp_path, media_url=f"s3://media/{tmp_path.name}", s3_endpoint_url=endpoint))
    (tmp_path / "sent").write_bytes(CONTENT)
    store.put(tmp_path / "sent", SHA256)
    ends = OSUtils.rename_file

    def erased(files: OSUtils, current: str, new: str) -> None:
        store.delete(SHA256)
        ends(files, current, new)

    monkeypatch.setattr(OSUtils, "rename_file", erased)
    with pytest.raises(MediaMissing), store.local(SHA256):
        pass


def test_parts_that_a_killed_service_left_in_the_bucket_go_with_the_file(endpoint: str, tmp_path: Path) -> None:
    """They are in no list of what is stored, and stayed for ever; S3 has them paid for."""
    store = MediaStore(tmp_path, write_settings(tmp_path, media_url="s3://media/parts", s3_endpoint_url=endpoint))
    keys = [f"parts/{SHA256}", f"parts/{'b' * 64}", f"parts/{SHA256}.other"]
    for key in keys:
        upload = store._today()._s3().create_multipart_upload(Bucket="media", Key=key)["UploadId"]
        store._today()._s3().upload_part(Bucket="media", Key=key, UploadId=upload, PartNumber=1, Body=CONTENT)
    store.delete(SHA256)
    assert sorted(upload["Key"] for upload in store._today()._s3().list_multipart_uploads(Bucket="media")["Uploads"]) == sorted(keys[1:])
    store.abort_parts("b" * 64)
    assert [upload["Key"] for upload in store._today()._s3().list_multipart_uploads(Bucket="media")["Uploads"]] == keys[2:]


def test_a_store_out_of_reach_is_named_and_nothing_is_taken_for_missing(tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(500)
            self.end_headers()

        do_GET = do_PUT = do_HEAD

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    store = MediaStore(tmp_path, write_settings(tmp_path, media_url="s3://media/x", s3_endpoint_url=f"http://127.0.0.1:{server.server_port}"))
    for ask in (store.has, lambda sha256: store.local(sha256).__enter__()):
        with pytest.raises(StoreSilent) as silent:
            ask(SHA256)
        assert str(server.server_port) not in str(silent.value)
    server.shutdown()
    server.server_close()
    # this is waited for while the database's write lock is held: others had it busy for a minute
    monkeypatch.setattr("workspace.objectstore.QUICK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        address = f"http://127.0.0.1:{silent_server.getsockname()[1]}"
        stopped = MediaStore(tmp_path, write_settings(tmp_path, media_url="s3://media/x", s3_endpoint_url=address))
        for quick in (stopped.has, stopped.delete, stopped.abort_parts):
            with pytest.raises(StoreSilent):
                quick(SHA256)
    with pytest.raises(DataError, match="s3://bucket/prefix"):
        MediaStore(tmp_path, write_settings(tmp_path, media_url="ftp://host/x"))


def test_a_bucket_that_is_away_is_a_store_that_is_silent_and_no_file_of_it_is_lost(tmp_path: Path, endpoint: str) -> None:
    store = MediaStore(tmp_path, write_settings(tmp_path, media_url="s3://mispelled/x", s3_endpoint_url=endpoint))
    (tmp_path / "sent").write_bytes(CONTENT)
    asks = (store.has, lambda sha256: store.local(sha256).__enter__(), lambda sha256: store.put(tmp_path / "sent", sha256), store.delete, store.abort_parts)
    for ask in asks:
        with pytest.raises(StoreSilent, match="has no bucket of the name") as silent:
            ask(SHA256)
        assert not silent.value.refused, "the next file would fare no better"


def test_credentials_that_were_renewed_in_the_shared_file_are_read_again(tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a single sign-on are renewed every hour; a service that ran kept the first ones, and was refused until somebody started it anew."""
    accepted = "first"

    class Door(BaseHTTPRequestHandler):
        """A store that takes one access key, and hands on to the one behind it what is signed with that."""

        def do_HEAD(self) -> None:
            known = f"Credential={accepted}/" in self.headers["Authorization"]
            status, body = (200, b"") if known else (400, b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_DELETE = do_GET = do_HEAD

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    server = HTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    store = MediaStore(tmp_path, write_settings(tmp_path, media_url="s3://media/x", s3_endpoint_url=f"http://127.0.0.1:{server.server_port}"))
    for ask, renewed in ((store.has, "second"), (store.delete, "third")):
        (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = {accepted}\naws_secret_access_key = s\n")
        ask(SHA256)
        accepted = renewed
        with pytest.raises(StoreSilent, match="takes the credentials of the service") as silent:
            ask(SHA256)
        assert silent.value.refused == (ask == store.has), "of a deletion the reason is told, and it is not the file's"
    server.shutdown()
    server.server_close()
