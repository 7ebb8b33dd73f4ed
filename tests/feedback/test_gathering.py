"""What came in without a label, or under two, is put before people; their label reaches the training table once, and only then."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import pytest
from sqlalchemy import event, select

from feedback import estimate
from feedback.access import ANONYMOUS, Role
from feedback.api.app import create_app
from feedback.detections import Detections
from feedback.erasing import Erasing
from feedback.forgetting import finish_erasures
from feedback.gathering import Gathering, put_aside
from feedback.handover import export_reviewed, mark_ingested, source, waiting
from feedback.retention import Retention
from feedback.secret import Secret, load_secret
from feedback.shadow import _logged
from feedback.tables import AUDIT, CASES, DETECTIONS, USERS
from feedback.webhooks import Webhooks
from flows.taking_in import close_outbox
from media.synthetic import render_take
from pipelines import assemble
from pipelines.ingest import ingest
from pipelines.rows import rows_of
from pipelines.sides import split_of, standing
from tests.feedback.conftest import Service, ask, running, wait_for
from tests.feedback.world import MODEL, World
from tests.pipelines.tables import sample, write_batch
from vigil.batches import batch_page
from vigil.erasing import render_erased, render_would_erase, would_erase
from workspace.batches import set_batch_state
from workspace.cycle import Cycle
from workspace.files import sha256_bytes
from workspace.for_review import waiting_samples
from workspace.forgetting import batches_with, forget
from workspace.journal import Journal
from workspace.manifest import read_manifest
from workspace.repository import init_repository
from workspace.settings import Settings, SourceSettings
from workspace.state import batch_states


@pytest.fixture(scope="session")
def faces() -> list[bytes]:
    """Six rendered people, one JPEG each."""
    made = []
    for person in range(6):
        frames, _ = render_take(person, 1, 0, 2, size_px=256, fps=12.0)
        made.append(bytes(cv2.imencode(".jpg", next(iter(frames))[..., ::-1])[1]))
    return made


def table_of(folder: Path, rows: list[tuple[bytes, str, str]]) -> Path:
    """A source: a labels.csv with (content, label, identity)."""
    folder.mkdir(parents=True)
    with open(folder / "labels.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "label", "identity", "generator", *(["licence", "consent"] if folder.name == "street" else [])])
        for number, (content, label, identity) in enumerate(rows):
            (folder / f"{number}.jpg").write_bytes(content)
            writer.writerow([f"{number}.jpg", label, identity, "gan" if label == "fake" else "", *(["CC-BY", "signed"] if folder.name == "street" else [])])
    return folder / "labels.csv"


def take(root: Path, settings: Settings, path: Path, name: str) -> list[str]:
    return ingest(root, settings, [SourceSettings(name=name, path=str(path))], batch=f"{name}-batch").batches


@pytest.fixture
def filled(root: Path, settings: Settings, faces: list[bytes]) -> Path:
    """Labelled people 0 and 1, people 2 and 3 without a label, 4 under two labels in one source; then another source calls 0 fake."""
    take(root, settings, table_of(root.parent / "press", [(faces[0], "real", "p0"), (faces[1], "fake", "p1"), (faces[5], "real", "p5")]), "press")
    unlabelled = [(faces[2], "", ""), (faces[3], "", ""), (faces[4], "real", "p4"), (faces[4], "fake", "p4")]
    take(root, settings, table_of(root.parent / "street", unlabelled), "street")
    assert take(root, settings, table_of(root.parent / "rumour", [(faces[0], "fake", "p0")]), "rumour") == []
    return root


def trained_on(root: Path, settings: Settings) -> dict[str, str]:
    """Samples in the training table of a cycle over every batch, each sample at most once, with its label. A face is taken as found in each file."""
    names = [name for name, state in batch_states(Journal(root).events()).items() if state.state != "dropped"]
    for name in names:
        write_batch(
            root, name, [{**row, "clips": 0 if row["quarantine"] or row["use"] == "never" else 1} for row in rows_of(read_manifest(root / "data/raw" / name))]
        )
    validates = next(f"v{number}" for number in range(99) if split_of(f"v{number}", settings.split) == "validation")
    write_batch(root, "beside", [sample("beside", identity=validates)])  # without anybody to validate with nothing is trained
    names.append("beside")
    assemble.run(root, settings, Cycle(cycle="2026-W47.1", seed=1, batches=tuple(names), judged=tuple(names)))
    sides = pd.concat([pd.read_parquet(root / "data/sets" / f"{side}.parquet") for side in ("train", "validation", "holdout")])
    mine = sides[(sides["origin"] == "collected") & (sides["batch"] != "beside")]
    assert max(Counter(mine["clip_id"]).values()) == 1
    return dict(zip(mine["sample_id"], mine["label"], strict=True))


def judge_all(gathering: Gathering) -> None:
    """The model calls everything that waits real."""
    while (row := gathering.detections.claim("w")) is not None:
        gathering.detections.finish(row["id"], "w", {"verdict": "real", "p_fake": 0.1, "threshold": 0.5, "reason": "", "kind": "image", "model_sha256": MODEL})


def gathering_of(world: World) -> Gathering:
    detections = Detections(
        world.database, world.media, world.cases, Webhooks(world.database, Secret(b"s" * 32), world.settings.feedback), world.settings.feedback
    )
    return Gathering(world.root, detections)


def cases_by_sha(service: Service) -> dict[str, dict[str, Any]]:
    return {case["sha256"]: case for case in service.by("rob").get("/v1/cases").json()["cases"]}


def test_through_the_service_the_label_of_a_person_trains_and_nothing_else_does(
    filled: Path, settings: Settings, faces: list[bytes], models: tuple[Path, Path]
) -> None:
    ids = [sha256_bytes(content) for content in faces]
    assert trained_on(filled, settings) == {ids[0]: "real", ids[1]: "fake", ids[5]: "real"}, "without a person's word: what was recorded first, and no more"
    with running(filled, "--model-dir", str(models[0])) as service:
        service.until_ready()
        asked = wait_for(lambda: cases_by_sha(service), lambda found: len(found) == 4 and all(one["p_fake"] is not None for one in found.values()), service.log)
        assert {sha256: case["reason"] for sha256, case in asked.items()} == {
            ids[0]: "conflict",
            ids[2]: "unlabelled",
            ids[3]: "unlabelled",
            ids[4]: "conflict",
        }
        assert asked[ids[0]]["said"] == ["real in batch press-batch", "fake in rumour (0.jpg)"]
        (both,) = asked[ids[4]]["said"]
        assert "real: 2.jpg" in both and "fake: 3.jpg" in both and asked[ids[2]]["said"] == []
        queue = [case["id"] for case in service.by("rob").get("/v1/queue").json()["cases"]]
        assert sorted(queue) == sorted(case["id"] for case in asked.values())
        address = f"/v1/detections/{asked[ids[2]]['detections'][0]}"
        assert service.by("rob").get(f"{address}/thumbnail").status_code == 200 and service.by("rob").get(address).json()["verdict"] == "uncertain"
        for number, label in ((0, "fake"), (2, "real"), (4, "fake")):
            assert service.review(asked[ids[number]]["id"], label).json()["state"] == "decided"
        assert list(cases_by_sha(service)) == [ids[3]], "each is asked once"
    for _ in range(2):  # as after a crash before the outbox was closed
        folder = export_reviewed(filled, settings)
        assert folder is not None
        found = ingest(filled, settings, [source(folder)])
    assert found.added == 0 and waiting(filled, settings) == 3
    close_outbox(filled, settings)
    assert waiting(filled, settings) == 0 and export_reviewed(filled, settings) is None
    now = trained_on(filled, settings)
    assert now == {ids[0]: "fake", ids[1]: "fake", ids[2]: "real", ids[4]: "fake", ids[5]: "real"}
    train = pd.read_parquet(filled / "data/sets/train.parquet")
    assert not train[train["origin"] == "forged"]["source_clip"].str.startswith(ids[0][:16]).any(), "no forgery is made of what people call forged"
    assert [one.sample_id for one in waiting_samples(filled)] == [ids[3]]
    feedback = next(name for name in batch_states(Journal(filled).events()) if "feedback" in name)
    set_batch_state(filled, feedback, "dropped", who="ada", why="the reviewers were wrong")
    assert trained_on(filled, settings) == {ids[0]: "real", ids[1]: "fake", ids[5]: "real"}, "a dropped batch of answers takes its answers along"


@pytest.mark.parametrize("free", [1, 0])  # 0 is for the hand-over; nobody was ever asked about what has no label, and nothing said why
def test_asking_twice_asks_once_and_a_source_keeps_to_its_cap(filled: Path, faces: list[bytes], free: int) -> None:
    world = World(filled, queue__source_cap_free=free)
    gathering = gathering_of(world)
    assert gathering.gather() == 3, "both conflicts, and one of the two without a label"
    assert gathering.gather() == 0 and gathering_of(world).gather() == 0
    with world.database.read() as connection:
        assert not [row for row in connection.execute(AUDIT.select()) if ".jpg" in str(row.detail)], "an erasure could not take a file's name out again"
        cases = [dict(row) for row in connection.execute(CASES.select()).mappings()]
        owners = {row.id: row for row in connection.execute(USERS.select()) if row.user_name.startswith("source:")}
        assert connection.execute(DETECTIONS.select()).mappings().all()[0]["state"] == "queued"
    assert Counter(case["reason"] for case in cases) == {"conflict": 2, "unlabelled": 1} and {case["owner_id"] for case in cases} <= set(owners)
    assert all(owner.disabled and owner.password_hash == "" for owner in owners.values())
    for case in cases:
        world.decide(case["id"], "real")
    assert gathering.gather() == 1, "the next of that source, once there is room"
    world.close()


def test_a_look_at_a_half_full_queue_asks_the_database_as_often_whatever_waits(filled: Path) -> None:
    """The queue was counted once for each of fifty thousand files that waited, at every look: five seconds of a core, every five seconds."""
    world = World(filled, max_batch_files=3, workers__queue_length=3)
    gathering = gathering_of(world)
    assert gathering.gather() == 2 and gathering.detections.waiting() == 2, "half of the queue, and no more"
    asked: list[str] = []
    event.listen(world.database.engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    assert gathering.gather() == 0
    few, left = len(asked), list(gathering._waiting)
    gathering._waiting = left * 100
    assert gathering.gather() == 0 and len(asked) == 2 * few and gathering._waiting == left * 100
    gathering._waiting = left
    judge_all(gathering)
    assert gathering.gather() == 2, "uploads come first, and then the rest"
    world.close()


def test_what_nobody_sent_is_no_upload_on_the_charts_and_no_logged_request(filled: Path, settings: Settings) -> None:
    """A folder without labels of the workspace's own changed the accuracy on the traffic, and was replayed as what users had asked."""
    world = World(filled)
    sent, _ = world.upload(b"sent by somebody", verdict="real", reason="", p_fake=0.05)
    gathering = gathering_of(world)
    queue, figures = gathering.detections, lambda: (gathering.detections.by_day(3), estimate.by_model(world.database, 3))
    before = figures()
    assert gathering.gather() == 4
    while (row := queue.claim("w")) is not None:
        queue.finish(row["id"], "w", {"verdict": "fake", "p_fake": 0.6, "threshold": 0.5, "reason": "", "kind": "image", "model_sha256": MODEL})
    assert queue.counts()["done"] == 5 and figures() == before
    assert [row["id"] for row in _logged(filled, settings, 20)] == [sent]
    world.close()


def test_nobody_can_sign_up_as_the_account_of_a_source(filled: Path, settings: Settings) -> None:
    """Whoever signed up as `source-` and a hash, which anybody could work out, owned what the source brought."""
    app = create_app(filled, settings, load_secret(filled))
    service, names = app.state.service, [f"source{sign}{sha256_bytes(b'street')[:12]}" for sign in ":-"]
    asked = [{"name": "M", "email": f"{name}@sources.invalid", "user_name": name, "password": "correct horse"} for name in names]
    refused, made = ask(app, *(("POST", "/v1/sign-up", {"json": given}) for given in asked))
    assert refused.status_code == 422 and refused.json()["field"] == "user_name" and made.status_code == 201
    assert service.gathering.gather() == 4
    key = service.create_key(service.log_in(ANONYMOUS, names[1], "correct horse").actor, "k")["key"]
    assert ask(app, ("GET", "/v1/detections", {}), key=key)[0].json()["detections"] == []
    service.close()


def test_what_a_stranger_owned_of_a_source_goes_over_to_the_source(filled: Path) -> None:
    world = World(filled, queue__source_cap_free=1)
    gathering = gathering_of(world)
    gathering.gather()
    with world.database.write() as connection:  # as if the source's account had been somebody's who had signed up as it
        stranger = {"user_name": "stranger", "email": "m@example.org", "password_hash": "known", "disabled": False}
        connection.execute(USERS.update().where(USERS.c.name == "source street").values(**stranger))
    for case in world.cases.page("open", 0, 10):
        world.decide(case["id"], "real")
    assert gathering.gather() == 1
    with world.database.read() as connection:
        owners = dict(connection.execute(select(USERS.c.id, USERS.c.user_name)).tuples().all())
        owned = {owners[row.owner_id] for table in (DETECTIONS, CASES) for row in connection.execute(table.select())}
    assert len(owned) == 2 and all(name.startswith("source:") for name in owned)
    world.close()


def test_a_conflict_about_an_upload_that_people_look_at_joins_its_case(filled: Path, faces: list[bytes]) -> None:
    world = World(filled)
    _, case_id = world.upload(faces[0])
    _, decided = world.upload(faces[2])
    world.decide(decided, "fake")
    gathering_of(world).gather()
    assert world.case(case_id)["reason"] == "conflict" and "fake in rumour (0.jpg)" in world.case(case_id)["said"]
    with world.database.read() as connection:
        assert not [row for row in connection.execute(AUDIT.select()) if ".jpg" in str(row.detail)]
    assert world.case(decided)["reason"] == "uncertain" and world.case(decided)["state"] == "decided", "people have answered: nobody asks again"
    world.close()


def test_what_was_erased_dropped_or_labelled_by_a_later_source_is_not_asked(filled: Path, faces: list[bytes], settings: Settings) -> None:
    world = World(filled)
    world.upload(faces[2], reason="")
    Erasing(world.database, world.media).erase_file(world.ann, sha256_bytes(faces[2]), "asked to")
    assert take(filled, settings, table_of(filled.parent / "later", [(faces[3], "fake", "p3")]), "later") == ["later-batch"]
    row = rows_of(read_manifest(filled / "data/raw/later-batch"))[0]
    assert (row["label"], row["identity"], row["case_id"]) == ("fake", "p3", "")
    assert (row["licence"], row["consent"]) == ("CC-BY", "signed"), "what was recorded before stays with it"
    assert {one.sample_id for one in waiting_samples(filled)} == {sha256_bytes(faces[number]) for number in (0, 2, 4)}
    set_batch_state(filled, "street-batch", "dropped", who="ada", why="poisoned")
    assert [one.sample_id for one in waiting_samples(filled)] == [sha256_bytes(faces[0])]
    assert gathering_of(world).gather() == 1
    world.close()


def test_of_a_batch_that_is_dropped_nobody_is_asked_any_more_and_nothing_trains_until_it_is_taken_back(
    filled: Path, settings: Settings, faces: list[bytes]
) -> None:
    """Its cases stayed before people, what they said came in as a batch of its own, and the copies of its media were kept for ever."""
    world, ids = World(filled), [sha256_bytes(content) for content in faces]
    gathering = gathering_of(world)
    assert gathering.gather() == 4
    case_of = {case["sha256"]: case["id"] for case in world.cases.page("open", 0, 10)}
    judge_all(gathering)
    assert world.decide(case_of[ids[2]], "real")["handover"] == "waiting"
    world.cases.review(world.ann, case_of[ids[3]], "fake")
    set_batch_state(filled, "street-batch", "dropped", who="ada", why="no consent")
    assert export_reviewed(filled, settings) is None, "before the service has looked, too"
    assert gathering.gather() == 0 and [case["sha256"] for case in world.cases.queue(world.cy)] == [ids[0]]
    aside = {case["sha256"]: case["why"] for case in world.cases.page("quarantined", 0, 10)}
    assert aside == dict.fromkeys(ids[2:5], "the batch that it came in with was dropped")
    assert Retention(world.database, world.media, settings.feedback).sweep("2999-01-01T00:00:00+00:00")["deleted"] == 3
    assert [world.media.has(one) for one in ids[:5]] == [True, False, False, False, False]
    set_batch_state(filled, "street-batch", "held", who="ada", why="they have given it")
    assert gathering.gather() == 3 and gathering.gather() == 0 and all(world.media.has(one) for one in ids[2:5])
    again = {case["sha256"]: (case["state"], case["answers"], case["handover"]) for case in world.cases.page(None, 0, 10)}
    assert again == {ids[0]: ("open", 0, ""), ids[2]: ("decided", 2, "waiting"), ids[3]: ("open", 1, ""), ids[4]: ("open", 0, "")}
    world.close()


def test_what_a_later_source_labels_is_not_asked_any_more_but_what_people_sent_or_said_stands(filled: Path, settings: Settings, faces: list[bytes]) -> None:
    world, ids = World(filled), [sha256_bytes(content) for content in faces]
    gathering = gathering_of(world)
    assert gathering.gather() == 4
    case_of = {case["sha256"]: case["id"] for case in world.cases.page("open", 0, 10)}
    assert world.upload(faces[4])[1] == case_of[ids[4]]
    world.decide(case_of[ids[2]], "real")
    take(filled, settings, table_of(filled.parent / "later", [(faces[2], "fake", "p2"), (faces[3], "fake", "p3")]), "later")
    set_batch_state(filled, "press-batch", "dropped", who="ada", why="poisoned")
    set_batch_state(filled, "street-batch", "dropped", who="ada", why="poisoned")
    assert gathering.gather() == 0
    found = {case["sha256"]: (case["state"], case["why"]) for case in world.cases.page(None, 0, 10)}
    dropped, labelled = "the batch that it came in with was dropped", "a later source says what it is"
    assert found == {ids[0]: ("quarantined", dropped), ids[2]: ("decided", ""), ids[3]: ("quarantined", labelled), ids[4]: ("open", "")}
    folder = export_reviewed(filled, settings)
    assert folder is not None and [path.stem for path in folder.glob("*.jpg")] == [ids[2]], "a person's word stands before any other"
    world.close()


def test_what_was_put_aside_as_labelled_and_is_contradicted_then_is_asked_with_both_statements(filled: Path, settings: Settings, faces: list[bytes]) -> None:
    """It was taken up as `unlabelled`, at the end of the queue, and showed no statement until the service was started anew."""
    world, ids = World(filled), [sha256_bytes(content) for content in faces]
    gathering = gathering_of(world)
    assert gathering.gather() == 4
    judge_all(gathering)
    for label, name in (("real", "later"), ("fake", "another")):
        take(filled, settings, table_of(filled.parent / name, [(faces[number], label, f"p{number}") for number in (2, 3)]), name)
        assert gathering.gather() == (0 if name == "later" else 2)
        gone = Retention(world.database, world.media, settings.feedback).sweep("2999-01-01T00:00:00+00:00", only=ids[3])["deleted"]
        assert gone == (name == "later"), "of one the media go by age before it is contradicted"
    found = {case["sha256"]: (case["state"], case["reason"], case["said"], case["why"]) for case in world.cases.page(None, 0, 10)}
    for number in (2, 3):
        statements = ["real in batch later-batch", f"fake in another ({number - 2}.jpg)"]
        assert found[ids[number]] == ("open", "conflict", statements, "") and world.media.has(ids[number])
    assert gathering.gather() == 0 and gathering_of(world).gather() == 0
    world.close()


@pytest.mark.parametrize("mended", [True, False], ids=["mended", "taken back"])
def test_a_conflict_ends_once_one_label_is_left(mended: bool, root: Path, settings: Settings, faces: list[bytes]) -> None:
    """It never did: who mended a table as ingest advises, or took a slip back, had two reviewers asked of each file for nothing."""
    world, batch = World(root), "press-batch-2" if mended else "press-batch"
    gathering = gathering_of(world)

    def says(label: str, name: str = "press") -> None:
        table = root.parent / name / "labels.csv"
        if not table.exists():
            table_of(table.parent, [(content, label, f"p{number}") for number, content in enumerate(faces[:2])])
        table.write_text(f"path,label,identity\n0.jpg,{label},p0\n1.jpg,{label},p1\n")
        take(root, settings, table, name)

    def asked() -> dict[str, tuple[str, str]]:
        return {case["sha256"]: (case["state"], case["why"]) for case in world.cases.page(None, 0, 10)}

    says("real")
    says("fake")
    assert gathering.gather() == 2 and len(batch_page(root, "press-batch")["conflicts"]) == 2
    judge_all(gathering)
    cases = {case["sha256"]: case["id"] for case in world.cases.page("open", 0, 10)}
    decided, other = (sha256_bytes(content) for content in faces[:2])
    world.decide(cases[decided], "fake")
    if mended:
        set_batch_state(root, "press-batch", "dropped", who="ada", why="wrong labels", again=True)
    says("fake" if mended else "real")
    assert [*waiting_samples(root)] == [] == batch_page(root, batch)["conflicts"] and gathering.gather() == 0
    assert asked() == {decided: ("decided", ""), other: ("quarantined", "nobody contradicts its label any more")}
    says("real" if mended else "fake", "rumour")
    said = {f"fake in batch {batch}", "real in rumour (1.jpg)"} if mended else {f"real in batch {batch}", "fake in rumour (1.jpg)"}
    assert said <= next({*one.said} for one in waiting_samples(root) if one.sample_id == other)
    assert gathering.gather() == 1 and asked()[other] == ("open", ""), "until somebody contradicts it again"
    if mended:
        set_batch_state(root, "press-batch", "held", who="ada", why="it was right")
        assert "real in batch press-batch" in next(one.said for one in waiting_samples(root) if one.sample_id == other)
    world.close()


def test_what_another_source_contradicts_is_asked_on_when_the_batch_that_it_contradicts_is_replaced(
    filled: Path, settings: Settings, faces: list[bytes]
) -> None:
    set_batch_state(filled, "press-batch", "dropped", who="ada", why="bad names", again=True)
    assert sha256_bytes(faces[0]) not in {one.sample_id for one in waiting_samples(filled)}, "no batch holds it"
    assert take(filled, settings, filled.parent / "press" / "labels.csv", "press") == ["press-batch-2"]
    (one,) = (one for one in waiting_samples(filled) if one.sample_id == sha256_bytes(faces[0]))
    assert (one.batch, one.reason, one.said) == ("press-batch-2", "conflict", ("real in batch press-batch-2", "fake in rumour (0.jpg)"))


def test_what_was_put_aside_is_asked_again_once_somebody_sends_the_file_and_the_model_is_unsure_or_it_is_disputed(
    filled: Path, settings: Settings, faces: list[bytes]
) -> None:
    """It stayed aside, which no person had wanted: nobody was asked, a dispute was refused, and the media went by age."""
    world, ids = World(filled), [sha256_bytes(content) for content in faces]
    gathering = gathering_of(world)
    assert gathering.gather() == 4
    judge_all(gathering)
    case_of = {case["sha256"]: case["id"] for case in world.cases.page("open", 0, 10)}
    world.decide(case_of[ids[2]], "real")
    take(filled, settings, table_of(filled.parent / "later", [(faces[3], "fake", "p3")]), "later")
    set_batch_state(filled, "street-batch", "dropped", who="ada", why="no consent")
    assert gathering.gather() == 0 and {case["sha256"] for case in world.cases.page("quarantined", 0, 10)} == set(ids[2:5])
    sure = {number: world.upload(faces[number], verdict="real", reason="", p_fake=0.1)[0] for number in (2, 3)}
    assert {case["sha256"] for case in world.cases.page("quarantined", 0, 10)} == set(ids[2:5]), "who sends it asks nothing yet"
    assert world.upload(faces[4], p_fake=0.45)[1] == case_of[ids[4]]
    disputed = gathering.detections.dispute(world.sender, sure[3], "fake")
    assert (disputed["case_id"], disputed["case_state"]) == (case_of[ids[3]], "open")
    with pytest.raises(ValueError, match="have looked at this file already, and say that it is real"):
        gathering.detections.dispute(world.sender, sure[2], "fake")
    assert world.upload(faces[2])[1] == case_of[ids[2]]
    found = {case["sha256"]: (case["state"], case["reason"], case["why"], case["p_fake"], case["handover"]) for case in world.cases.page(None, 0, 10)}
    assert found[ids[4]] == ("open", "uncertain", "", 0.45, "") and found[ids[3]] == ("open", "disputed", "", 0.1, "")
    assert (found[ids[2]][0], found[ids[2]][4]) == ("decided", "waiting"), "what people said of it stands"
    assert {case["sha256"] for case in world.cases.queue(world.cy)} == {ids[0], ids[3], ids[4]} and put_aside(filled, world.cases) == 0
    assert Retention(world.database, world.media, settings.feedback).sweep("2999-01-01T00:00:00+00:00")["deleted"] == 0
    case = world.upload(b"an engineer's doubt")[1]
    world.cases.quarantine(world.cy, case, "a doubt")
    assert world.upload(b"an engineer's doubt")[1] == case and world.case(case)["state"] == "quarantined", "what a person put aside stays so"
    world.close()


def test_a_case_that_was_put_aside_is_open_once_it_is_a_known_one(filled: Path, settings: Settings, faces: list[bytes]) -> None:
    """It stayed in quarantine, where nobody saw it, and its media went by age: after that its use as a known one could not even be ended."""
    world, ids = World(filled), [sha256_bytes(content) for content in faces]
    gathering = gathering_of(world)
    assert gathering.gather() == 4
    judge_all(gathering)
    case_of = {case["sha256"]: case["id"] for case in world.cases.page("open", 0, 10)}
    set_batch_state(filled, "street-batch", "dropped", who="ada", why="poisoned")
    assert gathering.gather() == 0
    known, aside = case_of[ids[2]], case_of[ids[3]]
    world.cases.set_gold(world.cy, known, "real")
    world.cases.set_gold(world.cy, aside, "")
    assert {case["sha256"]: case["why"] for case in world.cases.page("open", 0, 10)} == {ids[0]: "", ids[2]: ""} and put_aside(filled, world.cases) == 0
    assert Retention(world.database, world.media, settings.feedback).sweep("2999-01-01T00:00:00+00:00")["deleted"] == 2
    assert world.media.has(ids[2]) and not world.media.has(ids[3])
    world.cases.set_gold(world.cy, known, "")
    assert world.case(known)["state"] == "open" and put_aside(filled, world.cases) == 1
    world.close()


def test_media_that_are_not_here_are_passed_over_and_the_others_are_asked(filled: Path, faces: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    (filled / "data/raw/press-batch/media-000.tar").unlink()
    world = World(filled)
    assert gathering_of(world).gather() == 3 and "media-000.tar" in caplog.text
    world.close()


def test_what_is_erased_while_it_is_being_brought_leaves_no_copy(filled: Path, faces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(filled)
    gone, put = sha256_bytes(faces[2]), world.media.put

    def late(path: Path, sha256: str) -> None:
        if sha256 == gone:
            Erasing(world.database, world.media).erase_file(world.ann, gone, "asked to", in_batches=True)
        put(path, sha256)

    monkeypatch.setattr(world.media, "put", late)
    assert gathering_of(world).gather() == 3 and not world.media.has(gone)
    world.close()


def test_a_column_of_case_ids_in_somebody_s_table_is_no_person_s_word(filled: Path, faces: list[bytes], settings: Settings) -> None:
    path = table_of(filled.parent / "forged", [(faces[0], "fake", "p0")])
    path.write_text("path,label,identity,case_id\n0.jpg,fake,p0,0123456789abcdef\n")
    report = ingest(filled, settings, [SourceSettings(name="forged", path=str(path))])
    assert report.added == 0 and report.conflicts == ["0.jpg is fake here, real in batch press-batch"]


def test_a_label_for_what_only_a_dropped_batch_holds_comes_in_and_erased_content_stays_out(tmp_path: Path, faces: list[bytes]) -> None:
    root = tmp_path / "workspace"
    world = World(root)
    init_repository(root, "")
    take(root, world.settings, table_of(tmp_path / "press", [(faces[0], "fake", "p0"), (faces[1], "fake", "p1")]), "press")
    set_batch_state(root, "press-batch", "dropped", who="ada", why="poisoned")
    cases = [world.upload(content)[1] for content in faces[:2]]
    for case in cases:
        world.decide(case, "fake")
    forget(root, {sha256_bytes(faces[1]): ""}, "ada")
    for comes in (["fake"], []):  # twice, as after a crash before the outbox was closed
        folder = export_reviewed(root, world.settings)
        assert folder is not None
        batches = ingest(root, world.settings, [source(folder)]).batches
        assert [row["label"] for name in batches for row in rows_of(read_manifest(root / "data/raw" / name))] == comes
        feedback = [*batch_states(Journal(root).events())][-1]
    close_outbox(root, world.settings)
    assert [(world.case(case)["handover"], world.case(case)["batch"]) for case in cases] == [("ingested", feedback), ("ingested", "press-batch")]
    (row,) = rows_of(read_manifest(root / "data/raw" / feedback))
    assert (row["sample_id"], row["case_id"], row["identity"]) == (sha256_bytes(faces[0]), cases[0], "p0"), "who is in it is known from before"
    world.close()


@pytest.mark.parametrize("drop_first", [True, False])
def test_what_people_said_outlives_the_batch_of_a_source_that_said_the_same(tmp_path: Path, faces: list[bytes], drop_first: bool) -> None:
    """Handed over before the drop it made no row, was told as taken by the source's batch, and could never be said again once that was dropped."""
    root = tmp_path / "workspace"
    world = World(root)
    init_repository(root, "")
    take(root, world.settings, table_of(tmp_path / "press", [(faces[0], "fake", "p0"), (faces[1], "fake", "p1")]), "press")
    case = world.upload(faces[0])[1]
    world.decide(case, "fake")

    def hand_over(closed: bool = True) -> list[str]:
        folder = export_reviewed(root, world.settings)
        batches = ingest(root, world.settings, [source(folder)]).batches if folder else []
        if closed:
            close_outbox(root, world.settings)
        return batches

    if drop_first:
        set_batch_state(root, "press-batch", "dropped", who="ada", why="poisoned")
    close_outbox(root, world.settings)
    assert world.case(case)["handover"] == "waiting", "a source's word is not theirs"
    (answers,) = hand_over(closed=False)
    assert hand_over() == [] == hand_over(), "again as after a crash before the outbox was closed, and as in the next cycle"
    if not drop_first:
        set_batch_state(root, "press-batch", "dropped", who="ada", why="poisoned")
    (row,) = rows_of(read_manifest(root / "data/raw" / answers))
    assert [row[name] for name in ("label", "case_id", "identity", "duplicate_of")] == ["fake", case, "p0", ""]
    assert (world.case(case)["handover"], world.case(case)["batch"]) == ("ingested", answers)
    assert {name: state.state for name, state in batch_states(Journal(root).events()).items()} == {"press-batch": "dropped", answers: "new"}
    world.close()


def test_a_column_case_id_of_a_source_is_no_persons_word(tmp_path: Path, faces: list[bytes]) -> None:
    root = tmp_path / "workspace"
    world = World(root)
    court = table_of(tmp_path / "court", [(faces[0], "real", "p0")])
    court.write_text("path,label,identity,case_id\n0.jpg,real,p0,2024-CV-17\n")
    take(root, world.settings, court, "court")
    take(root, world.settings, table_of(tmp_path / "rumour", [(faces[0], "fake", "p0")]), "rumour")
    assert [one.sample_id for one in waiting_samples(root)] == [sha256_bytes(faces[0])], "a file's number at a court settles nothing"
    _, case = world.upload(faces[0])
    world.decide(case, "fake")
    folder = export_reviewed(root, world.settings)
    assert folder is not None
    (answers,) = ingest(root, world.settings, [source(folder)]).batches
    rows = {name: rows_of(read_manifest(root / "data/raw" / name)) for name in ("court-batch", answers)}
    assert {name: row["case_id"] for name, (row,) in rows.items()} == {"court-batch": "", answers: case}
    assert standing(rows) == {sha256_bytes(faces[0]): answers}
    world.close()


def test_a_dry_run_takes_nothing_out_of_training_that_an_upload_of_somebody_else_holds(filled: Path, faces: list[bytes]) -> None:
    """It listed rows, objects, tags and models, and the erasure then left the file where it was."""
    world = World(filled)
    init_repository(filled, "")
    gathering_of(world).gather()
    with world.database.read() as connection:
        brought = connection.execute(select(DETECTIONS.c.id).where(DETECTIONS.c.sha256 == sha256_bytes(faces[0]))).scalar_one()
    page = would_erase(filled, world.settings, brought)
    assert page["rows"] and not page["held_by"], "as long as nobody else has sent it"
    mine, _ = world.upload(faces[0], reason="")
    for upload in (brought, mine):
        page = would_erase(filled, world.settings, upload)
        assert (page["uploads"], page["held_by"], page["rows"], page["kept_in"]) == (1, 1, [], [])
        assert render_would_erase(page).splitlines()[1:] == [
            "  1 uploads to the service, each with its verdict",
            "  1 other uploads hold the same file: it stays for them, in the training data too; by its sha256 it goes for all",
        ]
    said = Erasing(world.database, world.media).erase(world.user("ada", Role.admin), brought)
    assert (said["held_by"], said["training"]) == (1, ""), "what it says before is what it does"
    page = would_erase(filled, world.settings, sha256_bytes(faces[0]))
    assert page["rows"] and not page["held_by"], "by its hash it goes for all"
    world.close()


def test_an_erasure_names_the_batches_that_keep_the_file_and_takes_out_of_them_what_the_service_brought(filled: Path, faces: list[bytes]) -> None:
    """It said that training never got the file, and was done."""
    world, (conflict, held, _, _, _, answered) = World(filled), [sha256_bytes(face) for face in faces]
    init_repository(filled, "")
    erasing = Erasing(world.database, world.media)
    said = erasing.erase(world.sender, world.upload(faces[1], reason="")[0])
    assert (said["training"], said["kept_in"]) == ("kept", ["press-batch"]) and f"vigil erase {held}" in said["next"]
    assert "press-batch has the same file from a source of its own" in render_erased(
        {"erased": [said], "training": [], "deleted_again": 0, "left": 0, "not_known": []}
    )
    gathering_of(world).gather()
    with world.database.read() as connection:
        brought = connection.execute(select(DETECTIONS.c.id).where(DETECTIONS.c.sha256 == conflict)).scalar_one()
    would = would_erase(filled, world.settings, brought)
    assert [row["batch"] for row in would["rows"]] == ["press-batch"] and not would["kept_in"], "what it says before is what it does"
    said = erasing.erase(world.user("ada", Role.admin), brought)
    assert (said["training"], said["kept_in"]) == ("requested", [])
    assert erasing.erase(world.user("ada", Role.admin), brought) == said
    upload, case = world.upload(faces[5])
    world.decide(case, "real")
    folder = export_reviewed(filled, world.settings)
    assert folder is not None and mark_ingested(filled, world.settings, {(answered, "real"): "press-batch"}) == 1, (
        "as an older Vigil laid what a source says too"
    )
    said = erasing.erase(world.sender, upload)
    assert (said["training"], said["kept_in"]) == ("requested", ["press-batch"]) and f"vigil erase {answered}" in said["next"]
    done = {one["sha256"]: one["training"] for one in finish_erasures(filled, world.database)}
    assert done[conflict]["batches"] == ["press-batch"] and done[answered].startswith("press-batch has it from a source of its own")
    assert batches_with(filled, (conflict, held, answered)) == {conflict: {}, held: {"press-batch": ""}, answered: {"press-batch": ""}}
    kept = {one["sha256"]: one["detail"]["kept_in"] for one in erasing.erasures()}
    assert kept == {conflict: [], held: ["press-batch"], answered: ["press-batch"]}
    world.close()
