"""What is kept how long, and what erasing an upload takes with it: the service's part on both databases, training's part with real DVC."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from feedback import audit
from feedback.access import Actor, Role
from feedback.detections import Detections
from feedback.erasing import Erasing
from feedback.forgetting import finish_erasures
from feedback.handover import export_reviewed, mark_ingested, source, waiting
from feedback.keep import FOLDER, StoreSilent, derived_name
from feedback.retention import Retention
from feedback.secret import load_secret
from feedback.tables import AUDIT, DETECTIONS, ERASURES, MEDIA, OUTBOX, REVIEWS
from feedback.webhooks import Webhooks
from feedback.work.supervisor import Workers
from pipelines.ingest import ingest
from tests.feedback.buckets import CREDENTIALS
from tests.feedback.conftest import PATIENCE_SECONDS, Make, ask
from tests.feedback.world import JPEG, World, write_settings
from vigil.erasing import erase, render_would_erase, would_erase
from workspace.errors import SettingsError, WorkspaceError
from workspace.files import read_json, sha256_bytes
from workspace.lease import serving_alone
from workspace.repository import init_repository
from workspace.settings.values import LONGEST_DAYS


def retention(world: World) -> Retention:
    return Retention(world.database, world.media, world.settings.feedback)


def erasing(world: World) -> Erasing:
    return Erasing(world.database, world.media)


def later(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds")


def media_state(world: World, content: bytes) -> str:
    with world.database.read() as connection:
        return str(connection.execute(MEDIA.select().where(MEDIA.c.sha256 == sha256_bytes(content))).one().state)


def row(world: World, table: Any, **where: Any) -> dict[str, Any]:
    query = table.select()
    for name, value in where.items():
        query = query.where(table.c[name] == value)
    with world.database.read() as connection:
        return dict(connection.execute(query).mappings().one())


# -- by age -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("verdict", "days"), [("real", 30), ("fake", 90), ("uncertain", 90), ("none", 7)])
def test_media_go_when_their_verdict_is_old_enough_and_the_hash_stays(tmp_path: Path, verdict: str, days: int) -> None:
    world = World(tmp_path / "w")
    world.upload(JPEG + b"one", verdict=verdict, reason="")
    derived = world.media.derived(sha256_bytes(JPEG + b"one"))
    derived.mkdir(parents=True)
    (derived / "thumbnail.webp").write_bytes(b"small")
    assert retention(world).sweep(later(days - 0.01))["deleted"] == 0 and world.media.has(sha256_bytes(JPEG + b"one"))
    assert retention(world).sweep(later(days + 0.01))["deleted"] == 1
    assert not world.media.has(sha256_bytes(JPEG + b"one")) and not derived.exists() and media_state(world, JPEG + b"one") == "deleted"
    assert row(world, DETECTIONS)["verdict"] == verdict and retention(world).sweep(later(days + 1)) == {"deleted": 0, "quarantined": 0, "released": 0}
    assert audit.verify(world.database).broken_at == 0
    world.close()


def test_what_is_kept_for_ever_keeps_nothing_else_from_its_end(tmp_path: Path) -> None:
    """A number of days that leaves the calendar ended each sweep: of no file were media deleted, and no fake was hidden."""
    for name in ("fake_days", "real_days", "uncertain_days", "none_days"):
        with pytest.raises(SettingsError, match=f"feedback.retention.{name}: .*less than or equal to 1000000"):
            write_settings(tmp_path / "w", **{f"retention__{name}": 9_999_999})
    with pytest.raises(SettingsError, match=r"feedback.moderation.keep_days: .*less than or equal to 1000000"):
        write_settings(tmp_path / "w", moderation__keep_days=9_999_999)
    world = World(tmp_path / "w", retention__fake_days=LONGEST_DAYS)
    for verdict in ("none", "fake", "real"):
        world.upload(JPEG + verdict.encode(), verdict=verdict, reason="")
    assert retention(world).sweep(later(60)) == {"deleted": 2, "quarantined": 1, "released": 0}
    world.close()


def test_a_dry_run_knows_an_upload_whose_media_have_gone_as_the_erasure_does(world: World) -> None:
    """Nobody was told that its verdict could still be erased: no upload was called so."""
    init_repository(world.root, "")
    detection_id, _ = world.upload(JPEG + b"one", verdict="real", reason="")
    assert retention(world).sweep(later(1000))["deleted"] == 1
    sha256 = sha256_bytes(JPEG + b"one")
    for what in (detection_id, sha256):
        page = would_erase(world.root, world.settings, what)
        assert (page["sample_id"], page["uploads"], page["rows"]) == (sha256, 1, []) and "1 uploads to the service" in render_would_erase(page)
    assert [one["sha256"] for one in erase(world.root, world.settings, [sha256], "ada", "asked to")["erased"]] == [sha256]
    assert row(world, DETECTIONS)["verdict"] == "" and would_erase(world.root, world.settings, sha256)["uploads"] == 0
    for what in ("f" * 64, "f" * 32):
        with pytest.raises(WorkspaceError, match="is called"):
            would_erase(world.root, world.settings, what)


def test_a_policy_keeps_as_long_as_it_says(tmp_path: Path) -> None:
    world = World(tmp_path / "w", identity_check__keep_days=0, moderation__keep_days=400)
    world.upload(JPEG + b"at once", verdict="real", reason="", policy="identity_check")
    world.upload(JPEG + b"long", verdict="real", reason="", policy="moderation")
    assert retention(world).sweep(later(100))["deleted"] == 1
    assert media_state(world, JPEG + b"at once") == "deleted" and media_state(world, JPEG + b"long") == "kept"
    world.close()


def test_media_that_somebody_needs_are_kept(world: World) -> None:
    _, open_id = world.upload(JPEG + b"open")
    _, held_id = world.upload(JPEG + b"held")
    world.cases.quarantine(world.cy, held_id, "a doubt")
    _, going = world.upload(JPEG + b"going")
    world.decide(going, "fake")
    _, gold_id = world.upload(JPEG + b"gold")
    world.cases.set_gold(world.cy, gold_id, "fake")
    world.cases.review(world.ann, gold_id, "unsure")
    world.cases.review(world.bob, gold_id, "unsure")
    detection_id, _ = world.upload(JPEG + b"in work", reason="")
    with world.database.write() as connection:
        connection.execute(DETECTIONS.update().where(DETECTIONS.c.id == detection_id).values(state="running"))
    world.upload(JPEG + b"twice", verdict="none", reason="")
    world.upload(JPEG + b"twice", verdict="real", reason="", owner=world.cy)
    assert retention(world).sweep(later(8)) == {"deleted": 0, "quarantined": 1, "released": 0}, "a second upload of the same file is kept longer"
    assert retention(world).sweep(later(1000))["deleted"] == 1
    assert {name: media_state(world, JPEG + name) for name in (b"open", b"held", b"going", b"gold", b"in work", b"twice")} == {
        b"open": "kept", b"held": "kept", b"going": "quarantined", b"gold": "kept", b"in work": "kept", b"twice": "deleted",
    }  # fmt: skip
    mark_ingested(world.root, world.settings, {(sha256_bytes(JPEG + b"going"), "fake"): "b"})
    world.decide(open_id, "real")
    assert retention(world).sweep(later(1000))["deleted"] == 1 and media_state(world, JPEG + b"going") == "deleted"
    world.cases.set_gold(world.cy, gold_id, "")
    assert retention(world).sweep(later(1000))["deleted"] == 1 and media_state(world, JPEG + b"gold") == "deleted", "once its use has ended"


def test_fakes_are_quarantined_after_a_while_where_the_settings_say_so(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    world.upload(JPEG + b"fake", verdict="fake", reason="")
    world.upload(JPEG + b"real", verdict="real", reason="")
    assert retention(world).sweep() == {"deleted": 0, "quarantined": 0, "released": 0}
    assert retention(world).sweep(later(0.5)) == {"deleted": 0, "quarantined": 1, "released": 0}
    assert media_state(world, JPEG + b"fake") == "quarantined" and media_state(world, JPEG + b"real") == "kept"
    assert world.media.has(sha256_bytes(JPEG + b"fake")) and retention(world).sweep(later(91)) == {"deleted": 2, "quarantined": 0, "released": 0}
    world.close()


def test_who_looks_once_a_day_for_what_is_old_hides_fakes_within_the_hour_all_the_same(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often the service looked was also how long a fake stayed before the eyes of who sent it: with 1440 minutes one to two days."""
    monkeypatch.setattr(Workers, "start", lambda _: asyncio.sleep(0))
    monkeypatch.setattr("feedback.api.app.HIDING_SECONDS", 0.05)
    app, _ = make(retention__every_minutes=1440)
    world = World(app.state.service.root)
    hour_ago, years_ago, swept = later(-1.1 / 24), later(-1000), threading.Event()

    async def go() -> None:
        async with app.router.lifespan_context(app), asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.to_thread(swept.wait)  # the look of the start, which deletes
            world.upload(JPEG + b"old", verdict="real", reason="", finished_at=years_ago)
            world.upload(JPEG + b"fake", verdict="fake", reason="", finished_at=hour_ago)
            world.upload(JPEG + b"new", verdict="fake", reason="")
            while media_state(world, JPEG + b"fake") == "kept":
                await asyncio.sleep(0.05)

    monkeypatch.setattr("feedback.api.app.remove_leftovers", lambda *_: swept.set())  # what follows a sweep
    asyncio.run(go())
    assert [media_state(world, JPEG + content) for content in (b"old", b"fake", b"new")] == ["kept", "quarantined", "kept"]
    world.close()


def _held_on_disk(world: World, sha256: str) -> Iterator[None]:
    """What cannot be unlinked: a folder of the file's name (whoever runs the tests; a file that its owner made immutable needs root)."""
    path = world.root / FOLDER / sha256
    path.unlink()
    (path / "held").mkdir(parents=True)
    yield
    (path / "held").rmdir()
    path.rmdir()


@contextmanager
def _bucket(world: World, delete: Callable[[str], int]) -> Iterator[None]:
    """A store that answers to the deletion of an object as `delete` says of its path."""

    class Store(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            self.send_response(delete(self.path))
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(501)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    world.media.url, world.media.endpoint = "s3://media/x", f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield
    server.shutdown()
    server.server_close()


def _held_in_bucket(world: World, sha256: str) -> Iterator[None]:
    """A store whose policy denies the deletion of one object, and of that alone."""
    denied = [sha256]
    with _bucket(world, lambda path: 403 if denied and path.endswith(denied[0]) else 204):
        yield
        denied.clear()
        yield


@pytest.mark.parametrize("hold", [_held_on_disk, _held_in_bucket])
def test_a_file_that_cannot_be_deleted_keeps_no_other(world: World, hold: Callable[[World, str], Iterator[None]], caplog: pytest.LogCaptureFixture) -> None:
    """A legal hold on one file, or a policy that denies one object, ended each sweep before the others: nothing was deleted or hidden any more."""
    for content in (b"held", b"one", b"two"):
        world.upload(JPEG + content, verdict="real", reason="")
    world.upload(JPEG + b"fake", verdict="fake", reason="")
    released = hold(world, sha256_bytes(JPEG + b"held"))
    next(released)
    for done in ({"deleted": 2, "quarantined": 1, "released": 0}, {"deleted": 0, "quarantined": 0, "released": 0}):
        assert retention(world).sweep(later(31)) == done
    assert [media_state(world, JPEG + content) for content in (b"held", b"one", b"two", b"fake")] == ["kept", "deleted", "deleted", "quarantined"]
    assert "1 media that are due" in caplog.text and sha256_bytes(JPEG + b"held")[:12] in caplog.text
    next(released, None)
    assert retention(world).sweep(later(31))["deleted"] == 1 and media_state(world, JPEG + b"held") == "deleted"
    next(released, None)


def test_what_a_bucket_has_no_more_is_deleted_whatever_the_store_says_of_it(world: World) -> None:
    """S3 says nothing of it. Others answer 404, and each sweep ended there, an erasure too."""
    for content in (b"one", b"two"):
        world.upload(JPEG + content, verdict="real", reason="")
    sent = world.upload(JPEG + b"three", reason="")[0]
    with _bucket(world, lambda _: 404):
        assert Erasing(world.database, world.media).erase(world.sender, sent)["state"] == "erased"
        assert retention(world).sweep(later(31))["deleted"] == 2
    assert {media_state(world, JPEG + content) for content in (b"one", b"two", b"three")} == {"deleted"}


def test_a_store_that_is_silent_keeps_no_fake_from_being_hidden(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """To hide a file needs no store."""
    world.upload(JPEG + b"real", verdict="real", reason="")
    world.upload(JPEG + b"fake", verdict="fake", reason="")
    monkeypatch.setattr("workspace.objectstore.QUICK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        world.media.url, world.media.endpoint = "s3://media/x", f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreSilent):
            retention(world).sweep(later(31))
    assert (media_state(world, JPEG + b"real"), media_state(world, JPEG + b"fake")) == ("kept", "quarantined")


@pytest.mark.parametrize("answered", ["before", "after"])
def test_what_people_call_real_is_shown_to_who_sent_it_again(make: Make, answered: str) -> None:
    """Nothing led out of the quarantine: what a champion had called fake stayed hidden from who sent it, until its media were deleted."""
    app, people = make()
    service, sha256 = app.state.service, sha256_bytes(JPEG)
    world = World(service.root)
    vera, told = Actor(people["vera"][0], Role.viewer), {"key": people["vera"][1]}
    detection_id, case_id = world.upload(JPEG, verdict="fake", reason="disputed", owner=vera)
    derived = world.media.derived(sha256)
    derived.mkdir(parents=True)
    (derived / derived_name(detection_id, "picture.webp")).write_bytes(b"RIFF")

    def decide() -> None:
        for name in ("rob", "rita"):
            assert ask(app, ("POST", f"/v1/cases/{case_id}/review", {"json": {"label": "real"}}), key=people[name][1])[0].status_code == 201

    if answered == "before":
        decide()
        assert service.retention.sweep(later(0.5))["quarantined"] == 0
    else:
        assert service.retention.sweep(later(0.5))["quarantined"] == 1
        assert ask(app, ("GET", f"/v1/detections/{detection_id}/picture", {}), **told)[0].status_code == 410
        decide()
    found, picture = ask(app, ("GET", f"/v1/detections/{detection_id}", {}), ("GET", f"/v1/detections/{detection_id}/picture", {}), **told)
    assert (found.json()["verdict"], found.json()["people"], found.json()["media_state"]) == ("fake", "real", "kept") and picture.status_code == 200
    assert service.retention.sweep(later(1)) == {"deleted": 0, "quarantined": 0, "released": 0}
    entries = ask(app, ("GET", f"/v1/audit?about=media:{sha256}", {}), key=people["ada"][1])[0].json()["entries"]
    assert [entry["action"] for entry in entries] == ([] if answered == "before" else ["media.released", "media.quarantined"])
    ask(app, ("POST", f"/v1/cases/{case_id}/undo", {}), key=people["rita"][1])
    assert service.retention.sweep(later(1))["quarantined"] == 1, "nobody has decided any more, and the verdict stands"
    world.close()


@pytest.mark.parametrize("way", ["gold", "undo", "release"])
def test_media_are_shown_again_at_once_by_whatever_decides_their_case(make: Make, way: str) -> None:
    """They were by an answer alone; by the end of a known case's use, an answer taken back and the end of a case's quarantine within an hour."""
    app, people = make()
    service = app.state.service
    world = World(service.root)
    case_id = world.upload(JPEG, verdict="fake")[1]

    def does(name: str, verb: str, **given: str) -> Any:
        (answer,) = ask(app, ("POST", f"/v1/cases/{case_id}/{verb}", {"json": given} if given else {}), key=people[name][1])
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    if way == "release":
        for name in ("rob", "rita"):
            does(name, "review", label="real")
        does("emil", "quarantine", why="a doubt")
        does("emil", "gold", label="real")
        does("emil", "gold", label="")
    else:
        does("emil", "gold", label="real")
        for name, label in {"rob": "real", "rita": "real", **({"rosa": "fake", "emil": "fake"} if way == "undo" else {})}.items():
            does(name, "review", label=label)
    assert service.retention.sweep(later(0.5))["quarantined"] == 1
    if way == "undo":
        assert does("emil", "gold", label="")["label"] == "unsure" and media_state(world, JPEG) == "quarantined"
    found = does("emil", way, **({"label": ""} if way == "gold" else {}))
    assert (found["state"], found["label"]) == ("decided", "real") and media_state(world, JPEG) == "kept"
    world.close()


def test_of_two_verdicts_on_a_file_the_newest_says_whether_it_is_hidden(world: World) -> None:
    case_id = world.upload(JPEG, verdict="fake")[1]
    assert retention(world).sweep(later(0.5))["quarantined"] == 1
    world.upload(JPEG, verdict="none", reason="", owner=world.cy)
    assert retention(world).sweep()["released"] == 0, "no verdict takes none back"
    world.upload(JPEG, verdict="real", reason="", owner=world.cy)
    assert retention(world).sweep() == {"deleted": 0, "quarantined": 0, "released": 1} and media_state(world, JPEG) == "kept"
    assert retention(world).sweep(later(0.5))["quarantined"] == 0
    world.decide(case_id, "fake")
    assert retention(world).sweep()["quarantined"] == 0, "as after a verdict, there is a while"
    assert retention(world).sweep(later(0.5))["quarantined"] == 1 and media_state(world, JPEG) == "quarantined"
    world.upload(JPEG, verdict="real", reason="", owner=world.bob)
    assert retention(world).sweep(later(0.5))["released"] == 0, "people count before any verdict"
    assert audit.verify(world.database).broken_at == 0


def test_what_keeps_being_called_fake_is_hidden_an_hour_after_the_first_time(world: World) -> None:
    """Each further verdict began the hour anew: what came once an hour was never hidden, and people who confirmed it put the hiding off."""
    world.upload(JPEG, verdict="fake", reason="", finished_at=later(-1.5 / 24))
    world.upload(JPEG, verdict="fake", reason="", finished_at=later(-0.5 / 24), owner=world.cy)
    assert retention(world).sweep()["quarantined"] == 1
    case_id = world.upload(JPEG + b"confirmed", verdict="fake", finished_at=later(-1.5 / 24))[1]
    world.decide(case_id, "fake")
    assert retention(world).sweep()["quarantined"] == 1
    world.upload(JPEG + b"taken back", verdict="fake", reason="", finished_at=later(-3 / 24))
    world.upload(JPEG + b"taken back", verdict="real", reason="", finished_at=later(-2 / 24))
    world.upload(JPEG + b"taken back", verdict="fake", reason="", finished_at=later(-0.5 / 24))
    assert retention(world).sweep()["quarantined"] == 0, "between the two it was called real"
    assert retention(world).sweep(later(1 / 24))["quarantined"] == 1


@pytest.mark.parametrize(("verdict", "policy", "mode", "shown"), [
    ("real", "moderation", "fast", True), ("real", "identity_check", "fast", False), ("real", "moderation", "", False), ("real", "", "", False),
    ("uncertain", "moderation", "fast", False), ("none", "moderation", "fast", False),
])  # fmt: skip
def test_who_sent_a_fake_cannot_have_it_shown_by_asking_in_another_way(world: World, verdict: str, policy: str, mode: str, shown: bool) -> None:
    """A newer verdict of any policy and mode showed it, at once and to everybody, `uncertain` too: who sends a file chooses both."""
    case_id = world.upload(JPEG, verdict="fake", policy="moderation", mode="fast")[1]
    assert retention(world).sweep(later(0.5))["quarantined"] == 1
    world.upload(JPEG, verdict=verdict, reason="", policy=policy, mode=mode)
    assert retention(world).sweep()["released"] == shown and media_state(world, JPEG) == ("kept" if shown else "quarantined")
    if not shown:
        world.decide(case_id, "real")
        assert retention(world).sweep()["released"] == 1, "people may say what they like"


@pytest.mark.parametrize("label", ["fake", "real"])
def test_the_quarantine_of_a_case_takes_back_nothing_that_people_decided(world: World, label: str) -> None:
    """The newest verdict counted from then on: an engineer's doubt about a fake showed its media to who sent them again."""
    case_id = world.upload(JPEG, verdict={"fake": "real", "real": "fake"}[label])[1]
    world.decide(case_id, label)
    state = {"fake": "quarantined", "real": "kept"}[label]
    retention(world).sweep(later(0.5))
    assert media_state(world, JPEG) == state
    world.cases.quarantine(world.cy, case_id, "a doubt")
    assert retention(world).sweep(later(0.5)) == {"deleted": 0, "quarantined": 0, "released": 0} and media_state(world, JPEG) == state


def test_each_way_in_which_a_file_was_called_fake_must_take_it_back(world: World) -> None:
    """The newest fake alone counted: who ended with the laxest way that still said fake had it shown by that way alone."""
    for verdict, policy in (("fake", "moderation"), ("fake", "forensics"), ("real", "forensics")):
        world.upload(JPEG, verdict=verdict, reason="", policy=policy)
    assert retention(world).sweep(later(0.5))["quarantined"] == 1
    world.upload(JPEG, verdict="real", reason="", policy="moderation")
    assert retention(world).sweep()["released"] == 1


@pytest.mark.parametrize("hidden", [True, False])
def test_erasing_the_upload_that_was_called_fake_shows_the_file_to_nobody(world: World, hidden: bool) -> None:
    """One DELETE, which is the right of who sent it, ended the hiding for every other upload of the same file."""
    first, _ = world.upload(JPEG, verdict="fake", reason="", policy="moderation")
    if hidden:
        assert retention(world).sweep(later(0.5))["quarantined"] == 1
    case_id = world.upload(JPEG, verdict="real", reason="audit", policy="forensics")[1]
    erasing(world).erase(world.sender, first)
    assert retention(world).sweep(later(0.5))["quarantined"] == (not hidden) and media_state(world, JPEG) == "quarantined"
    assert retention(world).sweep(later(0.6))["released"] == 0
    world.decide(case_id, "real")
    assert retention(world).sweep()["released"] == 1 and retention(world).sweep(later(0.5))["quarantined"] == 0


@pytest.mark.parametrize("also", ["a verdict", "people"])
def test_erasing_an_upload_that_was_called_fake_is_noted_also_where_something_else_says_fake_at_that_moment(world: World, also: str) -> None:
    """What else said fake hid the file alone from then on: a verdict of real in its way, or an answer that was taken back, showed it again."""
    first, _ = world.upload(JPEG, verdict="fake", reason="", policy="moderation")
    case_id = world.upload(JPEG, verdict="fake" if also == "a verdict" else "uncertain", policy="forensics")[1]
    if also == "people":
        world.decide(case_id, "fake")
    assert retention(world).sweep(later(0.5))["quarantined"] == 1
    erasing(world).erase(world.sender, first)
    if also == "people":
        world.cases.undo(world.bob, case_id)
    else:
        world.upload(JPEG, verdict="real", reason="", policy="forensics")
    assert retention(world).sweep(later(0.5))["released"] == 0 and media_state(world, JPEG) == "quarantined"
    for who in (world.bob, world.cy):
        world.cases.review(who, case_id, "real")
    assert retention(world).sweep()["released"] == 1, "people may say what they like"


def test_who_sent_a_file_that_anothers_upload_hides_may_say_that_it_is_real(world: World) -> None:
    """Its own verdict was `real`, and a claim of `real` was refused: nothing led out but the other's policy and mode, which nobody tells."""
    mine, _ = world.upload(JPEG, verdict="real", reason="")
    detections = Detections(
        world.database, world.media, world.cases, Webhooks(world.database, load_secret(world.root), world.settings.feedback), world.settings.feedback
    )
    with pytest.raises(ValueError, match="nothing to dispute"):
        detections.dispute(world.sender, mine, "real")
    world.upload(JPEG, owner=world.cy, verdict="fake", reason="", policy="moderation")
    assert retention(world).sweep(later(0.5))["quarantined"] == 1
    case_id = detections.dispute(world.sender, mine, "real")["case_id"]
    world.decide(case_id, "real")
    assert retention(world).sweep()["released"] == 1


def test_an_answer_that_is_taken_back_while_its_case_is_in_quarantine_counts_no_more(world: World) -> None:
    case_id = world.upload(JPEG, verdict="fake")[1]
    world.decide(case_id, "real")
    world.cases.quarantine(world.cy, case_id, "a doubt")
    world.cases.undo(world.ann, case_id)
    assert (world.case(case_id)["state"], world.case(case_id)["label"]) == ("quarantined", "")
    assert retention(world).sweep(later(0.5))["quarantined"] == 1
    world.cases.release(world.cy, case_id)
    assert world.case(case_id)["state"] == "open"


def test_people_who_could_not_tell_leave_it_to_the_verdict(world: World) -> None:
    case_id = world.upload(JPEG, verdict="fake")[1]
    world.decide(case_id, "unsure")
    assert retention(world).sweep(later(0.5))["quarantined"] == 1


def test_without_the_quarantine_of_fakes_what_was_in_it_is_released(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    world.upload(JPEG, verdict="fake", reason="")
    assert retention(world).sweep(later(0.5))["quarantined"] == 1
    world.close()
    after = World(tmp_path / "w", retention__quarantine_fakes=False)
    assert retention(after).sweep(later(0.5)) == {"deleted": 0, "quarantined": 0, "released": 1} and media_state(after, JPEG) == "kept"
    after.close()


# -- on request ---------------------------------------------------------------------------------------------------------------
def test_erasing_takes_media_verdict_case_and_notes_and_keeps_the_hash(world: World) -> None:
    content = JPEG + b"one"
    detection_id, case_id = world.upload(content, embedding=[1.0, 2.0])
    world.cases.review(world.ann, case_id, "fake", note="that is my neighbour", identity="Eve Example")
    world.cases.review(world.bob, case_id, "fake")
    said = erasing(world).erase(world.sender, detection_id, "I want it gone")
    assert (said["state"], said["training"], said["held_by"]) == ("erased", "none", 0)
    assert not world.media.has(sha256_bytes(content)) and media_state(world, content) == "deleted"
    gone = row(world, DETECTIONS, id=detection_id)
    assert (gone["state"], gone["verdict"], gone["answer"], gone["p_fake"], gone["case_id"]) == ("erased", "", None, None, None)
    case = world.case(case_id)
    assert (case["state"], case["label"], case["identity"], case["reviews"], case["handover"]) == ("erased", "", "", [], "")
    with world.database.read() as connection:
        assert [(review.note, review.identity) for review in connection.execute(REVIEWS.select())] == [("", ""), ("", "")]
    erased = row(world, ERASURES)
    assert (erased["state"], erased["why"], erased["requested_by"]) == ("done", "I want it gone", world.sender.who) and erased["detail"]["models"] == []
    assert row(world, AUDIT, action="detection.erase")["detail"]["sha256"] == sha256_bytes(content)
    again = erasing(world).erase(world.cy, detection_id, "again")
    assert again == said and row(world, ERASURES) == erased, "when it was erased, by whom and why stays as it was"
    assert audit.verify(world.database).broken_at == 0
    assert waiting(world.root, world.settings) == 0
    with pytest.raises(KeyError):
        erasing(world).erase(world.sender, "no-such-upload")


def test_no_file_of_the_database_has_notes_and_names_of_the_erased(tmp_path: Path) -> None:
    """They lay in SQLite's log for as long as little else was written, and went into every copy of the folder."""
    world = World(tmp_path / "w")
    detection_id, case_id = world.upload(JPEG, dispute={"claim": "real", "note": "WORD-OF-A-SENDER"}, reason="disputed")
    world.cases.review(world.ann, case_id, "fake", note="WORD-OF-A-REVIEWER", identity="NAME-OF-A-PERSON")
    words = (b"WORD-OF-A-SENDER", b"WORD-OF-A-REVIEWER", b"NAME-OF-A-PERSON")

    def found() -> list[bytes]:
        files = b"".join(path.read_bytes() for path in world.root.glob("feedback.db*"))
        return [word for word in words if word in files]

    assert found() == list(words)
    with world.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1, "whatever this SQLite was built with"
    erasing(world).erase(world.sender, detection_id)
    assert found() == []
    world.close()


def test_what_a_reader_keeps_in_the_log_of_an_erasure_goes_with_the_next_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.sqlite.EMPTY_MILLISECONDS", 0)
    world = World(tmp_path / "w")
    detection_id, case_id = world.upload(JPEG)
    world.cases.review(world.ann, case_id, "fake", identity="NAME-OF-A-PERSON")
    with world.database.read() as reader:
        reader.execute(MEDIA.select()).all()
        assert erasing(world).erase(world.sender, detection_id)["state"] == "erased"
        assert b"NAME-OF-A-PERSON" in (world.root / "feedback.db-wal").read_bytes()
    retention(world).sweep()
    assert [path.name for path in world.root.glob("feedback.db*") if b"NAME-OF-A-PERSON" in path.read_bytes()] == []
    world.close()


def test_a_file_that_others_sent_stays_for_them_unless_the_file_is_erased(world: World) -> None:
    content = JPEG + b"shared"
    mine, case_id = world.upload(content)
    theirs, _ = world.upload(content, owner=world.cy)
    derived = world.media.derived(sha256_bytes(content))
    derived.mkdir(parents=True)
    for name in ("thumbnail.webp", "heatmap-0.webp", "explanation.json"):
        for one in (mine, theirs):
            (derived / derived_name(one, name)).write_bytes(b"made of it")
    said = erasing(world).erase(world.sender, mine)
    assert (said["state"], said["held_by"]) == ("held", 1) and "stays for them" in said["next"]
    assert [path.name[: len(theirs)] for path in derived.iterdir()] == [theirs] * 3, "pictures and verdict in words of the erased upload are gone"
    assert world.media.has(sha256_bytes(content)) and media_state(world, content) == "kept"
    case = world.case(case_id)
    assert case["state"] == "open" and case["detections"] == [theirs] and case["owner_id"] == world.cy.user_id
    assert row(world, DETECTIONS, id=mine)["state"] == "erased" and row(world, DETECTIONS, id=theirs)["verdict"] == "uncertain"
    with world.database.read() as connection:
        assert connection.execute(ERASURES.select()).all() == []
    everything = erasing(world).erase_file(world.user("root", Role.admin), sha256_bytes(content), "a court's order")
    assert everything["state"] == "erased" and not world.media.has(sha256_bytes(content))
    assert row(world, DETECTIONS, id=theirs)["state"] == "erased" and world.case(case_id)["state"] == "erased"
    with pytest.raises(KeyError):
        erasing(world).erase_file(world.user("root", Role.admin), "f" * 64)


def test_an_erasure_where_no_service_runs_takes_what_killed_ones_left(world: World) -> None:
    """Nothing ever looked there again: whole copies of erased files stayed in .vigil/uploads of a machine that serves no more."""
    content, uploads = JPEG + b"sent", world.media.scratch()
    world.upload(content)
    left = [uploads / "sent.part", uploads / "media-x" / sha256_bytes(JPEG), world.root / FOLDER / f".{sha256_bytes(content)}.x.tmp"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with serving_alone(world.root, "serving", "held"):
        erase(world.root, world.settings, [sha256_bytes(content)], "ada", "asked")
        assert all(path.exists() for path in left), "a service that runs sees to it: some may be on its way"
    erase(world.root, world.settings, [], "ada", "asked")
    assert not any(path.exists() for path in left) and not list(uploads.iterdir())


def test_a_case_whose_own_upload_is_erased_keeps_the_other_uploads_of_its_file(world: World) -> None:
    """It stayed open with nothing to show: nobody could answer it, and twelve of them emptied the review page for everybody."""
    content = JPEG + b"twice"
    opened, case_id = world.upload(content, reason="disputed")
    other, _ = world.upload(content, verdict="real", reason="")
    said = erasing(world).erase(world.sender, opened)
    assert said["state"] == "held" and said["next"] == "The same account sent this file again; it stays until that upload is erased too."
    case = world.case(case_id)
    assert (case["state"], case["detections"]) == ("open", [other]) and row(world, DETECTIONS, id=other)["case_id"] == case_id
    assert [one["detections"] for one in world.cases.queue(world.ann)] == [[other]]
    assert erasing(world).erase(world.sender, other)["state"] == "erased" and not world.media.has(sha256_bytes(content))


def test_what_was_erased_may_come_again_and_be_judged_and_never_trains(world: World) -> None:
    detection_id, case_id = world.upload(JPEG + b"one")
    _, second = world.upload(JPEG + b"two")
    erasing(world).erase(world.sender, detection_id)
    _, again = world.upload(JPEG + b"one", owner=world.cy)
    assert again == case_id and world.case(case_id)["state"] == "open" and world.case(case_id)["owner_id"] == world.cy.user_id
    _, third = world.upload(JPEG + b"three")
    later = world.cases.page("open", after=world.case(second)["number"], limit=9)
    assert [case["id"] for case in later] == [case_id, third], "whoever asks for what has come since meets it"
    assert world.decide(case_id, "fake")["handover"] == ""
    assert export_reviewed(world.root, world.settings) is None


def test_what_was_erased_out_of_training_and_comes_again_is_a_case_like_any_other(make: Make) -> None:
    """It kept the hand-over of before, so people were told that it trains, and could not take their answers back."""
    app, people = make()
    world = World(app.state.service.root)
    detection_id, case_id = world.upload(JPEG)
    world.decide(case_id, "fake")
    assert export_reviewed(world.root, world.settings) is not None
    assert mark_ingested(world.root, world.settings, {(sha256_bytes(JPEG), "fake"): "b"}) == 1
    erasing(world).erase(world.sender, detection_id)
    assert world.upload(JPEG, owner=world.user("other"))[1] == case_id
    world.close()
    address, answer = f"/v1/cases/{case_id}", {"json": {"label": "real"}}
    ask(app, ("POST", f"{address}/review", answer), key=people["rob"][1])
    decided, undone = ask(app, ("POST", f"{address}/review", answer), ("POST", f"{address}/undo", {}), key=people["rita"][1])
    assert (decided.json()["state"], decided.json()["handover"], decided.json()["batch"]) == ("decided", "", "")
    assert undone.status_code == 200 and undone.json()["state"] == "open"


def test_an_erased_case_on_its_way_to_training_is_taken_back(world: World) -> None:
    kept_detection, kept = world.upload(JPEG + b"kept")
    detection_id, case_id = world.upload(JPEG + b"gone")
    for one in (kept, case_id):
        world.decide(one, "fake")
    first = export_reviewed(world.root, world.settings)
    said = erasing(world).erase(world.sender, detection_id)
    assert said["training"] == "requested" and kept_detection
    assert [path for path in world.root.rglob("*") if path.is_file() and sha256_bytes(JPEG + b"gone") in path.name] == [], "the copy on its way goes at once"
    second = export_reviewed(world.root, world.settings)
    assert first is not None and second is not None and not first.exists() and [path.stem for path in second.glob("*.jpg")] == [sha256_bytes(JPEG + b"kept")]
    (done,) = finish_erasures(world.root, world.database)
    assert done["training"] == "it was in no batch" and row(world, ERASURES)["state"] == "done"
    with world.database.read() as connection:
        assert [entry.case_id for entry in connection.execute(OUTBOX.select())] == [kept]
    assert finish_erasures(world.root, world.database) == []


def test_who_is_in_an_erased_file_is_named_on_no_way_to_training_any_more(world: World) -> None:
    """The table beside the copy kept who people had said is in it until the next hand-over, in every copy of the workspace that was made meanwhile."""
    ids = {}
    for name in ("Eve Example", 'Max "Muster", jun.'):
        ids[name], case_id = world.upload(JPEG + name.encode())
        world.decide(case_id, "fake", identity=name)
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None
    before = (folder / "labels.csv").read_bytes().splitlines(keepends=True)
    erasing(world).erase(world.sender, ids["Eve Example"])
    assert [path for path in (world.root / ".vigil").rglob("*") if path.is_file() and b"Eve Example" in path.read_bytes()] == []
    assert (folder / "labels.csv").read_bytes() == b"".join(line for line in before if b"Eve Example" not in line), "what others have said stays as it was"
    erasing(world).erase(world.sender, ids['Max "Muster", jun.'])
    assert (folder / "labels.csv").read_bytes() == before[0] and ingest(world.root, world.settings, [source(folder)]).refused == {}, "one that is reading it"


def test_a_finished_erasure_leaves_nothing_in_the_outbox_and_the_others_are_handed_over_again(world: World) -> None:
    gone, kept = JPEG + b"gone", JPEG + b"kept"
    detection_id, case_id = world.upload(gone)
    for one in (case_id, world.upload(kept)[1]):
        world.decide(one, "fake")
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None
    erasing(world).erase(world.sender, detection_id)
    finish_erasures(world.root, world.database)
    assert row(world, ERASURES)["state"] == "done"
    assert [path for path in world.root.rglob("*") if path.is_file() and sha256_bytes(gone) in path.name] == [] and not folder.exists()
    again = export_reviewed(world.root, world.settings)
    assert again is not None and [path.stem for path in again.glob("*.jpg")] == [sha256_bytes(kept)]
    assert mark_ingested(world.root, world.settings, {(sha256_bytes(kept), "fake"): "b"}) == 1


# -- training's part ----------------------------------------------------------------------------------------------------------
def test_erasing_reaches_the_batch_its_faces_dvc_and_its_remote(tmp_path: Path) -> None:
    import cv2
    import yaml

    from media.synthetic import render_take
    from vigil.opening import open_workspace
    from workspace.journal import Journal
    from workspace.repository import dvc_add, push, reproduce
    from workspace.state import batch_states

    root = tmp_path / "w"
    open_workspace(root, "demo")
    params = yaml.safe_load((root / "params.yaml").read_text())
    world = World(root)
    (root / "params.yaml").write_text(yaml.safe_dump({**params, "faces": {**params["faces"], "size_px": 64, "clip_frames": 4, "workers": 1}}, sort_keys=False))
    pictures = []
    for person in (1, 2, 3):
        frames, _ = render_take(person, 1, 0, 2, size_px=256, fps=12.0)
        pictures.append(cv2.imencode(".jpg", next(iter(frames))[..., ::-1])[1].tobytes())
    uploads = [world.upload(picture) for picture in pictures]
    for (_, case_id), label in zip(uploads, ("real", "real", "fake"), strict=True):
        world.decide(case_id, label)
    folder = export_reviewed(root, world.settings)
    assert folder is not None
    (batch,) = ingest(root, world.settings, [source(folder)]).batches
    mark_ingested(root, world.settings, {(sha256_bytes(one), label): batch for one, label in zip(pictures, ("real", "real", "fake"), strict=True)})
    dvc_add(root, [root / "data" / "raw" / batch])
    (root / "batches.yaml").write_text(yaml.safe_dump({"batches": [batch]}))
    reproduce(root, "faces")
    assert push(root) > 0
    gone, stays = sha256_bytes(pictures[0]), sha256_bytes(pictures[1])
    report = read_json(root / "data" / "faces" / batch / "report.json")
    assert {sample["sample_id"] for sample in report["samples"] if sample["clips"]} == {sha256_bytes(one) for one in pictures}

    def holding(content: bytes) -> list[str]:
        return [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file() and content[200:1200] in path.read_bytes()]

    places = holding(pictures[0])
    assert any(place.startswith(".dvc/cache") for place in places) and any(place.startswith(".vigil/remote") for place in places)
    said = erasing(world).erase(world.sender, uploads[0][0], "please")
    assert said["training"] == "requested"
    (done,) = finish_erasures(root, world.database)
    assert erasing(world).erase(world.sender, uploads[0][0])["training"] == "done"
    assert done["training"]["batches"] == [batch] and done["training"]["cached_objects"] >= 3 and done["training"]["remote_objects"] >= 3
    assert holding(pictures[0]) == [] and holding(pictures[1]) != []
    assert not (root / "data" / "faces" / batch).exists() and row(world, ERASURES)["state"] == "done"
    reproduce(root, "faces")
    after = {sample["sample_id"]: sample for sample in read_json(root / "data" / "faces" / batch / "report.json")["samples"]}
    assert after[gone]["clips"] == 0 and after[gone]["reason"] == "use is never" and after[stays]["clips"] > 0
    assert push(root) > 0, "the cache is whole for what is there now"
    again = ingest(root, world.settings, [source(folder)]) if folder.exists() else None
    assert again is None or again.added == 0
    for detection_id, _ in uploads[1:]:
        erasing(world).erase(world.sender, detection_id)
    assert len(finish_erasures(root, world.database)) == 2 and batch_states(Journal(root).events())[batch].state == "dropped"
    world.close()


def test_what_was_erased_after_it_was_ingested_and_before_the_outbox_was_closed_waits_for_no_training(tmp_path: Path) -> None:
    """Its row stayed `exported` for ever: one label waited for training, and the same file, sent again, was never deleted by age."""
    import cv2
    import numpy as np

    from pipelines.ingest import ingest
    from vigil.opening import open_workspace
    from workspace.repository import dvc_add

    root = tmp_path / "w"
    open_workspace(root, "demo")
    world = World(root)
    content = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    detection_id, case_id = world.upload(content)
    world.decide(case_id, "real")
    folder = export_reviewed(root, world.settings)
    assert folder is not None
    (batch,) = ingest(root, world.settings, [source(folder)]).batches
    dvc_add(root, [root / "data" / "raw" / batch])
    assert erasing(world).erase(world.sender, detection_id)["training"] == "requested"
    assert mark_ingested(root, world.settings, {(sha256_bytes(content), "real"): batch}) == 0
    (done,) = finish_erasures(root, world.database)
    assert done["training"]["batches"] == [batch] and world.cases.counts()["to_be_handed_over"] == 0
    world.upload(content, verdict="real", reason="", owner=world.cy)
    assert retention(world).sweep(later(31))["deleted"] == 1 and not world.media.has(sha256_bytes(content))
    world.close()
