"""Where media were kept before `feedback.media_url` named another place: read there, erased there, and forgotten only on purpose."""

import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from feedback.api.app import create_app
from feedback.erasing import Erasing
from feedback.keep import MediaMissing, MediaStore, StoreSilent
from feedback.places import NOTE, Place, forget, noted, place
from feedback.retention import Retention
from feedback.secret import load_secret
from tests.feedback.buckets import s3_server
from tests.feedback.conftest import ask
from tests.feedback.world import JPEG, World, write_settings
from vigil.erasing import erase
from vigil.mending import examine_and_fix
from vigil.opening import open_workspace
from workspace.errors import DataError, WorkspaceError
from workspace.files import sha256_bytes

CONTENT = JPEG + b" what was sent"
SHA256 = sha256_bytes(CONTENT)
Stores = tuple[str, Any]


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """The address of a store with the buckets olda and newb, and a client of it."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3_server("olda", "newb") as found:
        yield found


def keys(client: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def at(bucket: str, endpoint: str) -> dict[str, str]:
    return {"media_url": f"s3://{bucket}/up" if bucket else "", "s3_endpoint_url": endpoint}


# -- through the service ----------------------------------------------------------------------------------------------------------
def app_of(root: Path, people: Path, **feedback: Any) -> FastAPI:
    """The service of one workspace, started with these settings."""
    settings = write_settings(root, **feedback)
    for name in ("feedback.db", ".vigil/secret"):
        if not (root / name).exists():
            shutil.copy(people / name, root / name)
    return create_app(root, settings, load_secret(root))


def test_what_is_erased_goes_from_the_bucket_of_before_too(tmp_path: Path, people: tuple[Path, dict[str, tuple[str, str]]], stores: Stores) -> None:
    """Once media_url named another bucket the answer was "Erased", and the old one had the whole file for ever."""
    (endpoint, client), root, key = stores, tmp_path / "w", people[1]["vera"][1]
    first = app_of(root, people[0], **at("olda", endpoint))
    upload = ("POST", "/v1/detections?wait=0", {"files": {"file": ("a.jpg", CONTENT)}})
    sent = ask(first, upload, key=key)[0].json()["id"]
    assert keys(client, "olda") == [f"up/{SHA256}"]
    first.state.service.close()
    second = app_of(root, people[0], **at("newb", endpoint))
    told = ask(second, ("DELETE", f"/v1/detections/{sent}", {}), key=key)[0].json()
    assert told["state"] == "erased" and keys(client, "olda") == keys(client, "newb") == []
    second.state.service.close()


def test_media_of_a_service_that_noted_no_place_yet_are_known_once_it_starts(tmp_path: Path, people: tuple[Path, Any], stores: Stores) -> None:
    (endpoint, client), root = stores, tmp_path / "w"
    client.put_object(Bucket="olda", Key=f"up/{SHA256}", Body=CONTENT)  # as an earlier Vigil did
    app_of(root, people[0], **at("olda", endpoint)).state.service.close()
    store = MediaStore(root, write_settings(root, **at("newb", endpoint)))
    assert store.has(SHA256)


# -- in the store -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("now", ["newb", ""])
def test_what_lies_in_the_bucket_of_before_is_read_there_and_goes_from_there_by_age(tmp_path: Path, stores: Stores, now: str) -> None:
    endpoint, client = stores
    world = World(tmp_path / "w", **at("olda", endpoint))
    world.upload(CONTENT, verdict="real", reason="")
    settings = write_settings(world.root, **at(now, endpoint if now else ""))
    store = MediaStore(world.root, settings)
    assert store.has(SHA256) and store.lies(SHA256) and not store.has("b" * 64)
    with store.local(SHA256) as path:
        assert path.read_bytes() == CONTENT
    with pytest.raises(MediaMissing), store.local("b" * 64):
        pass
    retention = Retention(world.database, store, settings.feedback)
    assert retention.sweep((datetime.now(UTC) + timedelta(days=400)).isoformat())["deleted"] == 1
    assert keys(client, "olda") == [] and not store.has(SHA256)
    world.close()


def test_an_erasure_waits_for_a_place_that_is_silent_until_it_is_forgotten(tmp_path: Path, stores: Stores) -> None:
    (endpoint, client), root = stores, tmp_path / "w"
    open_workspace(root, "demo")
    world = World(root, **at("olda", endpoint))
    sent, _ = world.upload(CONTENT, reason="")
    away = f"http://127.0.0.1:{_free_port()}"
    note = (root / NOTE).read_text()
    (root / NOTE).write_text(note.replace(endpoint, away))
    world.close()
    world = World(root, **at("newb", endpoint))
    world.media.put(_written(tmp_path / "sent"), SHA256)
    with pytest.raises(StoreSilent, match="in which media were kept before, and may lie still, does not answer") as silent:
        Erasing(world.database, world.media).erase(world.sender, sent)
    assert away not in str(silent.value) and world.media.has(SHA256), "nothing is gone yet"
    with pytest.raises(StoreSilent):
        erase(root, world.settings, [SHA256], "ana", "consent withdrawn")
    row = next(row for row in examine_and_fix(root, world.settings, fix=False, push=False)[0] if row["check"] == "media")
    assert not row["ok"] and "s3://olda/up" in row["found"] and "--forget-media-place s3://olda/up" in row["next"]
    (root / NOTE).write_text((root / NOTE).read_text().replace(away, endpoint))
    row = next(row for row in examine_and_fix(root, world.settings, fix=False, push=False)[0] if row["check"] == "media")
    assert row["ok"] and "holds some still" in row["found"]
    rows, done = examine_and_fix(root, world.settings, fix=False, push=False, forget_media_place="s3://olda/up/")
    assert "media" not in {row["check"] for row in rows} and any("forgot s3://olda/up" in line for line in done)
    assert erase(root, world.settings, [SHA256], "ana", "consent withdrawn")["erased"][0]["state"] == "erased"
    assert keys(client, "newb") == [] and keys(client, "olda") == [f"up/{SHA256}"]
    world.close()


# -- the note ---------------------------------------------------------------------------------------------------------------------
def test_only_a_bucket_that_has_answered_is_noted_and_never_with_credentials(tmp_path: Path, stores: Stores) -> None:
    endpoint, _ = stores
    store = MediaStore(tmp_path, write_settings(tmp_path, **at("mispelled", endpoint)))
    store.begin_service()
    with pytest.raises(StoreSilent):
        store.put(_written(tmp_path / "sent"), SHA256)
    assert noted(tmp_path) == [] and not (tmp_path / NOTE).exists()
    known = endpoint.replace("://", "://user:secret@")
    MediaStore(tmp_path, write_settings(tmp_path, media_url="s3://olda/up/", s3_endpoint_url=known)).put(tmp_path / "sent", SHA256)
    assert noted(tmp_path) == [Place("s3://olda/up", endpoint)] == [place("s3://olda/up", known)] and "secret" not in (tmp_path / NOTE).read_text()


def test_a_workspace_that_was_moved_keeps_its_places_and_a_copy_beside_it_has_none(tmp_path: Path, stores: Stores) -> None:
    """What was erased in a copy would have gone from the first one's bucket."""
    endpoint, client = stores
    first, copy = tmp_path / "first", tmp_path / "copy"
    MediaStore(first, write_settings(first, **at("olda", endpoint))).put(_written(tmp_path / "sent"), SHA256)
    shutil.copytree(first, copy)
    store = MediaStore(copy, write_settings(copy, **at("newb", endpoint)))
    store.delete(SHA256)
    assert keys(client, "olda") == [f"up/{SHA256}"] and not store.has(SHA256)
    store.put(tmp_path / "sent", SHA256)
    assert [one.url for one in noted(copy)] == ["s3://newb/up"] and [one.url for one in noted(first)] == ["s3://olda/up"]
    moved = first.rename(tmp_path / "moved")
    MediaStore(moved, write_settings(moved, **at("newb", endpoint))).delete(SHA256)
    assert keys(client, "olda") == keys(client, "newb") == []


def test_a_note_that_cannot_be_read_is_no_place_less(tmp_path: Path) -> None:
    store = MediaStore(tmp_path, write_settings(tmp_path))
    for damaged in ("{", "[]", '{"id": "a", "root": "/", "places": [{"url": 1}]}'):
        (tmp_path / NOTE).write_text(damaged)
        with pytest.raises(DataError, match="may lie still"):
            store.delete(SHA256)
    (tmp_path / NOTE).unlink()
    store.delete(SHA256)
    with pytest.raises(WorkspaceError, match="never kept there"):
        forget(tmp_path, "s3://olda/up")


def _written(path: Path) -> Path:
    path.write_bytes(CONTENT)
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
