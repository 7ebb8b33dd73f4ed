"""A workspace that is restored from a backup beside a PostgreSQL that lived on: no label is lost by it, and nobody comes back."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sqlalchemy import select

from feedback import audit
from feedback.cases import TooLate
from feedback.erasing import Erasing
from feedback.keep import StoreSilent
from feedback.restored import Restored, erase_again, hand_over_again, look
from feedback.tables import AUDIT, ERASURES, OUTBOX
from flows.health import examine
from flows.taking_in import erase_requested, take_in
from pipelines.ingest import ingest
from tests.feedback.buckets import CREDENTIALS, s3_server
from tests.feedback.databases import filled_url
from tests.feedback.world import World
from vigil.erasing import erase, render_erased
from vigil.opening import open_workspace
from vigil.reading import render_status, status_of
from workspace.batches import set_batch_state
from workspace.files import sha256_bytes
from workspace.journal import Journal
from workspace.manifest import manifests, read_manifest
from workspace.settings import IdentityRule, SourceSettings


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    open_workspace(tmp_path / "w", "demo")
    made = World(tmp_path / "w", filled_url("postgresql"))
    yield made
    made.close()


def picture(number: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes())


def back_up(world: World) -> Path:
    return Path(shutil.copytree(world.root, world.root.with_name("backup"), symlinks=True))


def restore(world: World) -> None:
    shutil.rmtree(world.root)
    shutil.copytree(world.root.with_name("backup"), world.root, symlinks=True)


def batches(world: World) -> dict[str, dict[str, str]]:
    """The batches, each with the use of its samples that have media."""
    tables = {manifest.parent.name: read_manifest(manifest.parent) for manifest in manifests(world.root)}
    return {name: dict(zip(table.sample_id, table.use, strict=True)) for name, table in ((name, table[table["shard"] != ""]) for name, table in tables.items())}


def told(world: World, action: str) -> list[dict[str, Any]]:
    assert audit.verify(world.database).broken_at == 0
    with world.database.read() as connection:
        return [dict(row.detail) for row in connection.execute(AUDIT.select().where(AUDIT.c.action == action))]


def doctor(world: World) -> dict[str, Any]:
    return next((row for row in examine(world.root, world.settings) if row["check"] == "restored"), {})


def test_labels_handed_over_since_the_backup_come_in_again_once(world: World) -> None:
    """They were `ingested` for good, in a batch that was nowhere: status and doctor said nothing, no retraining had them, and age deleted their media."""
    contents = [picture(number) for number in range(3)]
    for content, label in zip(contents, ("real", "fake", "fake"), strict=True):
        world.decide(world.upload(content)[1], label)
    back_up(world)
    take_in.fn(world.root, world.settings, [])
    (lost,) = batches(world)
    restore(world)
    (world.root / ".vigil" / "media" / sha256_bytes(contents[2])).unlink()
    assert look(world.root, world.settings) == Restored(labels=2, lost=1)
    page = status_of(world.root, world.settings)
    assert page["next"]["pending_cases"] == 2 and "2 labels that were handed over before are in no batch here" in render_status(page)
    assert not doctor(world)["ok"] and "vigil retrain" in doctor(world)["next"]
    assert take_in.fn(world.root, world.settings, []).lines[0].startswith("2 decided cases are handed over again")
    ((again, samples),) = batches(world).items()
    assert samples.keys() == {sha256_bytes(content) for content in contents[:2]}
    assert [one["batch"] for one in told(world, "case.handover_again")] == [lost] * 2
    assert hand_over_again(world.root, world.settings) == 0 and status_of(world.root, world.settings)["next"]["pending_cases"] == 0
    with world.database.read() as connection:
        assert set(connection.execute(select(OUTBOX.c.state, OUTBOX.c.batch)).all()) == {("ingested", again), ("ingested", lost)} or again == lost
    for state in ("held", "dropped"):  # a batch that is here in whatever state, or on another machine, is none that was lost
        set_batch_state(world.root, again, state, who="ana", why="a test")
        assert hand_over_again(world.root, world.settings) == 0
    shutil.rmtree(world.root / "data" / "raw" / again)
    assert hand_over_again(world.root, world.settings) == 0


def test_one_wrong_answer_of_a_batch_is_taken_back_and_the_others_come_in_again(world: World) -> None:
    """Whoever dropped the batch, as was advised, was advised that again, and lost all its other answers: `--again` brought none of them back."""
    contents = [picture(number) for number in range(3)]
    wrong, *_ = cases = [world.upload(content)[1] for content in contents]
    for case_id in cases:
        world.decide(case_id, "real")
    take_in.fn(world.root, world.settings, [])
    (batch,) = batches(world)
    with pytest.raises(TooLate, match="vigil batches drop"):
        world.cases.undo(world.bob, wrong)
    set_batch_state(world.root, batch, "dropped", who="ana", why="one is wrong")
    assert hand_over_again(world.root, world.settings) == 0 and status_of(world.root, world.settings)["next"]["pending_cases"] == 0
    undone = world.cases.undo(world.bob, wrong)
    assert undone is not None and (undone["state"], undone["handover"]) == ("open", "")
    set_batch_state(world.root, batch, "dropped", who="ana", why="one is wrong", again=True)
    assert status_of(world.root, world.settings)["next"]["pending_cases"] == 2 and look(world.root, world.settings) == Restored() and not doctor(world)
    assert take_in.fn(world.root, world.settings, []).lines[0].startswith("2 decided cases are handed over again")
    (again,) = batches(world).keys() - {batch}
    assert batches(world)[again].keys() == {sha256_bytes(content) for content in contents[1:]}
    assert [one["why"] for one in told(world, "case.handover_again")] == ["its batch was dropped so that it comes in again"] * 2
    world.cases.undo(world.ann, wrong)
    world.decide(wrong, "fake")
    take_in.fn(world.root, world.settings, [])
    (last,) = batches(world).keys() - {batch, again}
    assert batches(world)[last].keys() == {sha256_bytes(contents[0])} and hand_over_again(world.root, world.settings) == 0


@pytest.mark.parametrize("again", [True, False], ids=["handed over again", "taken back"])
def test_an_upload_whose_batch_was_dropped_is_erased_out_of_it(world: World, again: bool) -> None:
    """Its label is on its way to no training, or only to the next, and the dropped batch has the file all the same."""
    detection_id, case_id = world.upload(picture(1))
    world.decide(case_id, "real")
    take_in.fn(world.root, world.settings, [])
    (batch,) = batches(world)
    set_batch_state(world.root, batch, "dropped", who="ana", why="wrong", again=again)
    if again:
        assert hand_over_again(world.root, world.settings) == 1
    else:
        world.cases.undo(world.bob, case_id)
    assert Erasing(world.database, world.media).erase(world.sender, detection_id)["training"] == "requested"
    erase_requested(world.root, world.settings)
    assert batches(world) == {batch: {}}


def test_a_store_of_media_that_is_silent_keeps_nobody_from_being_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`vigil status` ended in an error, though the hand-over asks the store again."""
    for number in range(2):
        world.decide(world.upload(picture(number))[1], "real")
    back_up(world)
    take_in.fn(world.root, world.settings, [])
    restore(world)
    media = world.root / ".vigil/media"
    media.rename(world.root / "media")  # as where the bucket alone has them
    for name, value in {**CREDENTIALS, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and never listens
        away = {"media_url": "s3://media/x", "s3_endpoint_url": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        settings = world.settings.model_copy(update={"feedback": world.settings.feedback.model_copy(update=away)})
        assert look(world.root, settings) == Restored(labels=2)
        with pytest.raises(StoreSilent):
            take_in.fn(world.root, settings, [])
    assert len(told(world, "case.handover_again")) == 2
    (world.root / "media").rename(media)
    take_in.fn(world.root, world.settings, [])
    assert [len(samples) for samples in batches(world).values()] == [2]


def test_who_was_erased_since_the_backup_is_not_trained_on_again(world: World) -> None:
    """The database knew it, and nobody asked: the person was back in the batch, and `vigil erase` said that nothing was to be erased."""
    gone, by_hash, stays = (picture(number) for number in range(3))
    detection_id, case_id = world.upload(gone)
    for one in (case_id, world.upload(by_hash)[1], world.upload(stays)[1]):
        world.decide(one, "real")
    take_in.fn(world.root, world.settings, [])
    (batch,) = batches(world)
    back_up(world)
    Erasing(world.database, world.media).erase(world.sender, detection_id)
    erase(world.root, world.settings, [sha256_bytes(by_hash)], "ana", "consent withdrawn")
    assert batches(world)[batch].keys() == {sha256_bytes(stays)} and look(world.root, world.settings) == Restored()
    restore(world)
    assert look(world.root, world.settings) == Restored(erased=2, media=2)
    assert "2 files that were erased are in the training data again" in doctor(world)["found"]
    assert len(erase_requested(world.root, world.settings)) == 2
    assert batches(world)[batch].keys() == {sha256_bytes(stays)}
    assert [path.name for path in (world.root / ".vigil" / "media").iterdir()] == [sha256_bytes(stays)]
    assert {event["sample_id"] for event in Journal(world.root).events() if event.kind == "erased"} == {sha256_bytes(gone), sha256_bytes(by_hash)}
    assert len(told(world, "erasure.again")) == 2 and look(world.root, world.settings) == Restored() and not doctor(world)
    restore(world)
    found = render_erased(erase(world.root, world.settings, [], "ana", "restored"))
    assert found.count(f"taken out of {batch}") == 2 and "2 files that had been deleted were there again" in found
    entries = len(told(world, "erasure.again"))
    assert render_erased(erase(world.root, world.settings, [], "ana", "again")) == "Nothing is to be erased." and len(told(world, "erasure.again")) == entries


def test_deleted_media_that_a_bucket_has_again_are_found_and_deleted(tmp_path: Path) -> None:
    """Put back from a backup or a replica, or undeleted: nothing found them, and erasing once more said `Erased` and left them there for ever."""
    open_workspace(tmp_path / "w", "demo")
    with s3_server("media") as (endpoint, store):
        world = World(tmp_path / "w", media_url="s3://media/up", s3_endpoint_url=endpoint)
        uploads = {sha256_bytes(content): world.upload(content)[0] for content in (picture(1), picture(2))}
        erasing, (first, second) = Erasing(world.database, world.media), uploads
        kept = {sha256: store.get_object(Bucket="media", Key=f"up/{sha256}")["Body"].read() for sha256 in uploads}
        world.upload(picture(3))
        for one in uploads.values():
            erasing.erase(world.sender, one)
        assert not doctor(world)
        for sha256, content in kept.items():
            for key in (f"up/{sha256}", f"up/elsewhere/{sha256}"):
                store.put_object(Bucket="media", Key=key, Body=content)
        assert "2 files that were deleted are there again" in doctor(world)["found"]
        assert erasing.erase(world.sender, uploads[first])["state"] == "erased" and not world.media.has(first)
        assert "1 file that had been deleted was there again" in render_erased(erase(world.root, world.settings, [], "ana", "restored"))
        left = [item["Key"] for item in store.list_objects_v2(Bucket="media")["Contents"]]
        assert sorted(left) == sorted([*(f"up/elsewhere/{sha256}" for sha256 in uploads), f"up/{sha256_bytes(picture(3))}"]), "others' stay"
        assert len(told(world, "media.deleted")) == 2 and not doctor(world)
        store.put_object(Bucket="media", Key=f"up/{second}", Body=b"again")
        away = world.settings.model_copy(update={"feedback": world.settings.feedback.model_copy(update={"media_url": "s3://gone/up"})})
        assert render_erased(erase(world.root, away, [], "ana", "a bucket that is away ends nothing else")) == "Nothing is to be erased."
        for sha256 in uploads:
            world.media.derived(sha256).mkdir(parents=True)
        assert "2 files that had been deleted were there again" in render_erased(erase(world.root, away, [], "ana", "what lies here waits for no bucket"))
        assert not any(world.media.derived(sha256).exists() for sha256 in uploads)
    world.close()


def test_media_that_cannot_be_deleted_again_keep_no_erasure_from_being_done(world: World) -> None:
    """One file under a legal hold ended every retraining and `vigil erase` in an OSError, with nobody erased."""
    held, gone = picture(1), picture(2)
    for content in (held, gone):
        world.decide(world.upload(content)[1], "real")
    take_in.fn(world.root, world.settings, [])
    back_up(world)
    erase(world.root, world.settings, [sha256_bytes(content) for content in (held, gone)], "ana", "consent withdrawn")
    restore(world)
    path = world.root / ".vigil" / "media" / sha256_bytes(held)
    path.unlink()
    (path / "held").mkdir(parents=True)  # cannot be unlinked, whoever runs the tests
    found = erase(world.root, world.settings, [], "ana", "restored")
    assert (len(found["training"]), found["deleted_again"]) == (2, 1) and look(world.root, world.settings) == Restored(media=1)
    assert [path.name for path in path.parent.iterdir()] == [path.name] and len(told(world, "media.deleted")) == 1


def test_an_erasure_that_is_asked_for_again_stays_so_until_it_is_done(world: World) -> None:
    content = picture(1)
    world.decide(world.upload(content)[1], "real")
    take_in.fn(world.root, world.settings, [])
    back_up(world)
    erase(world.root, world.settings, [sha256_bytes(content)], "ana", "consent withdrawn")
    restore(world)
    events = Journal(world.root)
    events.append("cycle_opened", cycle="2026-W47.1", judged=[], base_model="", fingerprint="", scheduled=False, week="2026-W47")
    assert erase(world.root, world.settings, [], "ana", "restored")["left"] == 1, "a cycle that was begun ends as it began"
    assert erase_again(world.root, world.settings, world.database) == 0 and len(told(world, "erasure.again")) == 1
    events.append("cycle_closed", cycle="2026-W47.1", outcome="held", reason="a test", verdict_sha256="")
    erase_requested(world.root, world.settings)
    with world.database.read() as connection:
        assert connection.execute(select(ERASURES.c.state)).scalar_one() == "done"
    assert list(batches(world).values()) == [{}]


def test_a_file_that_a_source_of_its_own_brought_stays_when_one_upload_of_it_was_erased(world: World) -> None:
    content = picture(1)
    (world.root.with_name("press") / "real").mkdir(parents=True)
    (world.root.with_name("press") / "real" / "a.jpg").write_bytes(content)
    press = SourceSettings(name="press", path=str(world.root.with_name("press")), identity=IdentityRule(rule="unknown"))
    detection_id, case_id = world.upload(content)
    world.decide(case_id, "fake")
    take_in.fn(world.root, world.settings, [press])
    back_up(world)
    Erasing(world.database, world.media).erase(world.sender, detection_id)
    erase_requested(world.root, world.settings)
    assert [list(samples) for samples in batches(world).values()] == [[], [sha256_bytes(content)]] and look(world.root, world.settings) == Restored()
    restore(world)
    assert look(world.root, world.settings) == Restored(erased=1, media=1)
    erase_requested(world.root, world.settings)
    assert [list(samples) for samples in batches(world).values()] == [[], [sha256_bytes(content)]] and look(world.root, world.settings) == Restored()


@pytest.mark.parametrize("way", ["a cycle", "vigil erase"])
def test_what_an_admin_had_erased_everywhere_goes_out_of_a_batch_that_brings_it_later(world: World, way: str) -> None:
    """It trained, and status, doctor and `vigil erase` said that nothing waits: the admin's word held for those files alone that a batch had already."""
    gone, by_sender, stays = (picture(number) for number in range(3))
    (world.root.with_name("press") / "real").mkdir(parents=True)
    for number, content in enumerate((gone, by_sender, stays)):
        (world.root.with_name("press") / "real" / f"{number}.jpg").write_bytes(content)
    press = SourceSettings(name="press", path=str(world.root.with_name("press")), identity=IdentityRule(rule="unknown"))
    world.upload(gone)
    Erasing(world.database, world.media).erase(world.sender, world.upload(by_sender)[0])
    (done,) = erase(world.root, world.settings, [sha256_bytes(gone)], "ana", "consent withdrawn")["training"]
    assert done["training"] == "it was in no batch" and status_of(world.root, world.settings)["erasures_waiting"] == 0
    (batch,) = ingest(world.root, world.settings, [press]).batches
    assert "erasures  1 erased file leaves the training data with the next cycle" in render_status(status_of(world.root, world.settings))
    assert [row["found"][:14] for row in examine(world.root, world.settings) if row["check"] == "erasures"] == ["1 erased file "] and not doctor(world)
    if way == "a cycle":
        assert [line[:23] for line in take_in.fn(world.root, world.settings, [press]).lines if "erased" in line] == [f"erased {sha256_bytes(gone)[:16]}"]
    else:
        assert f"{sha256_bytes(gone)[:16]}...: taken out of {batch}" in render_erased(erase(world.root, world.settings, [], "ana", "what waits"))
    assert batches(world) == {batch: dict.fromkeys((sha256_bytes(by_sender), sha256_bytes(stays)), "train")}, "its sender asked for no source's file"
    assert len(told(world, "erasure.again")) == 1 and look(world.root, world.settings) == Restored()
    assert (
        status_of(world.root, world.settings)["erasures_waiting"] == 0 and render_erased(erase(world.root, world.settings, [], "ana", "again"))[:7] == "Nothing"
    )


@pytest.mark.parametrize("noted", ["", "feedback-0123456789abcdef"])
def test_a_label_that_the_first_service_handed_over_is_none_that_was_lost(world: World, noted: str) -> None:
    _, case_id = world.upload(picture(1))
    world.decide(case_id, "real")
    with world.database.write() as connection:
        connection.execute(OUTBOX.update().values(state="ingested", batch=noted))
    assert look(world.root, world.settings) == Restored() and hand_over_again(world.root, world.settings) == 0
