"""Decided cases reach training once, whatever is killed on the way, and no account fills a batch by itself."""

import csv
import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback import audit
from feedback.access import Actor, Role
from feedback.cases import Cases
from feedback.database import Database
from feedback.handover import export_reviewed, mark_ingested, media_suffix, source, waiting, within_caps
from feedback.keep import StoreSilent
from feedback.tables import AUDIT, OUTBOX
from tests.feedback.buckets import CREDENTIALS, s3_server
from tests.feedback.databases import KINDS, drop_postgres, filled_url, fresh_postgres
from tests.feedback.killing import killed_at_line
from tests.feedback.world import JPEG, World, write_settings
from tests.size import drill
from workspace.files import atomic_file, sha256_bytes
from workspace.settings import QueueSettings, Settings, load_settings

LABELS = ("fake", "real", "fake", "unsure", "")


def fill(world: World) -> None:
    """Four decided cases (two fake, one real, one unsure) and an open one."""
    for number, label in enumerate(LABELS):
        _, case_id = world.upload(JPEG + bytes([number]) * 50)
        if label:
            world.decide(case_id, label, identity="ann, b." if label == "real" else "")


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "workspace", filled_url(request.param))
    fill(made)
    yield made
    made.close()


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "labels.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def outbox(root: Path, settings: Settings) -> Counter[str]:
    database = Database(root, settings)
    with database.read() as connection:
        states = Counter(row.state for row in connection.execute(OUTBOX.select()))
    assert audit.verify(database).broken_at == 0
    database.close()
    return states


def take(root: Path, settings: Settings) -> None:
    """What the flow does: export, take in by content hash (each sample once), confirm. Stands for `ingest` where every line is killed."""
    taken_path = root / "taken.json"
    taken = json.loads(taken_path.read_text()) if taken_path.exists() else {}
    folder = export_reviewed(root, settings)
    if folder is not None:
        for row in rows_of(folder):
            taken.setdefault(sha256_bytes((folder / row["path"]).read_bytes()), row)
        with atomic_file(taken_path) as handle:
            json.dump(taken, handle)
    mark_ingested(root, settings, {(sha256, row["label"]): "2026-11-20-feedback" for sha256, row in taken.items()})


def taken(root: Path) -> list[tuple[str, str]]:
    return sorted((row["case_id"], row["label"]) for row in json.loads((root / "taken.json").read_text()).values())


# -- what goes, and how -------------------------------------------------------------------------------------------------------
def test_only_real_and_fake_labels_are_handed_over_and_every_column_is_there(world: World) -> None:
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None
    rows = rows_of(folder)
    assert sorted(row["label"] for row in rows) == ["fake", "fake", "real"]
    for row in rows:
        assert row["use"] == "train" and row["kind"] == "image" and row["source"] == "feedback" and row["case_id"]
        assert row["generator"] == ("reported" if row["label"] == "fake" else "")
        assert row["identity"] == ("ann, b." if row["label"] == "real" else "")
        assert row["path"] == sha256_bytes((folder / row["path"]).read_bytes()) + ".jpg"
        assert row["labelled_by"].split() == [world.ann.user_id, world.bob.user_id] and row["unsure_model"] == "a" * 64
        case = world.case(row["case_id"])
        assert (case["handover"], case["batch"]) == ("exported", folder.name)
    assert source(folder).identity.rule == "column" and source(folder).path.endswith("labels.csv")


def test_exporting_twice_gives_the_same_folder_and_marking_closes_it(world: World) -> None:
    root, settings = world.root, world.settings
    first = export_reviewed(root, settings)
    assert first is not None and export_reviewed(root, settings) == first and waiting(root, settings) == 3
    rows = rows_of(first)
    samples = {(row["path"][:64], row["label"]): "2026-11-20-feedback" for row in rows}
    assert mark_ingested(root, settings, samples) == 3
    assert mark_ingested(root, settings, samples) == 0
    assert waiting(root, settings) == 0 and export_reviewed(root, settings) is None and not first.exists()
    case = world.case(rows[0]["case_id"])
    assert (case["handover"], case["batch"]) == ("ingested", "2026-11-20-feedback")
    with world.database.read() as connection:
        told = [row.action for row in connection.execute(AUDIT.select().where(AUDIT.c.object == f"case:{case['id']}").order_by(AUDIT.c.number))]
    assert told[-2:] == ["case.handover", "case.ingested"] and told.count("case.handover") == 1


def test_a_folder_goes_once_all_of_it_is_in_a_batch_whatever_was_decided_meanwhile(world: World) -> None:
    root, settings = world.root, world.settings
    folder = export_reviewed(root, settings)
    assert folder is not None
    rows = rows_of(folder)
    world.decide(world.upload(JPEG + b"late")[1], "fake")
    assert mark_ingested(root, settings, {(row["path"][:64], row["label"]): "b" for row in rows[1:]}) == len(rows) - 1 and folder.exists()
    assert mark_ingested(root, settings, {(row["path"][:64], row["label"]): "b" for row in rows}) == 1 and not folder.exists()
    assert waiting(root, settings) == 1


def test_what_ingest_did_not_confirm_comes_again_with_what_is_new(world: World) -> None:
    root, settings = world.root, world.settings
    first = export_reviewed(root, settings)
    assert first is not None
    (confirmed, *rest), label = (row["path"][:64] for row in rows_of(first)), rows_of(first)[0]["label"]
    other = "real" if label == "fake" else "fake"
    assert mark_ingested(root, settings, {(confirmed, other): "a", (confirmed, ""): "a"}) == 0, "known, but not under the label that people gave"
    assert mark_ingested(root, settings, {(confirmed, label): "b"}) == 1
    late = JPEG + b"late"
    world.decide(world.upload(late)[1], "fake")
    second = export_reviewed(root, settings)
    assert second is not None and second != first and not first.exists()
    assert sorted(row["path"][:64] for row in rows_of(second)) == sorted([*rest, sha256_bytes(late)])


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "w")
    before = sorted((tmp_path / "w").rglob("*"))
    assert export_reviewed(tmp_path / "w", settings) is None and mark_ingested(tmp_path / "w", settings, {"a" * 64: "b"}) == 0
    assert waiting(tmp_path / "w", settings) == 0 and sorted((tmp_path / "w").rglob("*")) == before


def test_lost_media_are_named_and_keep_no_other_label_from_training(world: World, caplog: pytest.LogCaptureFixture) -> None:
    lost, *others = [case for case in world.cases.page("decided", 0, 10) if case["handover"]]
    kept = world.root / ".vigil/media" / lost["sha256"]
    kept.rename(world.root / "elsewhere")
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None and {row["case_id"] for row in rows_of(folder)} == {case["id"] for case in others}
    assert lost["id"] in caplog.text and world.case(lost["id"])["handover"] == "waiting"
    (world.root / "elsewhere").rename(kept)
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None and len(rows_of(folder)) == 3


def test_media_that_are_another_file_by_now_are_named_and_do_not_train_under_the_answer(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The changed file trained under a hash of its own, handed over again with every cycle, and the erasure of the upload said done while it stayed."""
    changed, *others = [case for case in world.cases.page("decided", 0, 10) if case["handover"]]
    kept = world.root / ".vigil/media" / changed["sha256"]
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + b"?")
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None and {row["case_id"] for row in rows_of(folder)} == {case["id"] for case in others}
    assert len(list(folder.glob("*.jpg"))) == 2 and f"{changed['sha256']} are not that file any more" in caplog.text
    assert world.case(changed["id"])["handover"] == "waiting"
    kept.write_bytes(whole)
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None and len(rows_of(folder)) == 3
    (folder / f"{changed['sha256']}.jpg").write_bytes(b"of a disk that is failing")  # the store's file, too: it is one
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None and {row["case_id"] for row in rows_of(folder)} == {case["id"] for case in others}


def test_an_object_that_is_another_one_by_now_is_not_handed_over_and_one_that_is_gone_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with s3_server("media") as (endpoint, store):
        world = World(tmp_path / "w", media_url="s3://media/vigil", s3_endpoint_url=endpoint)
        fill(world)
        changed, gone, whole = [case for case in world.cases.page("decided", 0, 10) if case["handover"]]
        store.put_object(Bucket="media", Key=f"vigil/{changed['sha256']}", Body=JPEG + b"another")
        store.delete_object(Bucket="media", Key=f"vigil/{gone['sha256']}")
        folder = export_reviewed(world.root, world.settings)
        world.close()
    assert folder is not None and [row["case_id"] for row in rows_of(folder)] == [whole["id"]]
    assert f"{changed['sha256']} are not that file any more" in caplog.text and f"{gone['sha256']} are gone" in caplog.text


def test_a_store_that_does_not_answer_stops_the_hand_over_and_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CREDENTIALS, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    with s3_server("media") as (endpoint, _):
        world = World(tmp_path / "w", media_url="s3://media/vigil", s3_endpoint_url=endpoint)
        fill(world)
    with pytest.raises(StoreSilent):
        export_reviewed(world.root, world.settings)
    assert outbox(world.root, world.settings) == {"waiting": 3}
    world.close()


def test_what_could_not_be_opened_is_not_handed_over(tmp_path: Path) -> None:
    """Ingest refused it each time, and the label that was never taken started a cycle again and again."""
    world = World(tmp_path / "w")
    case_id = world.upload(b"no media", verdict="none", reason="disputed", p_fake=None, kind="")[1]
    assert world.decide(case_id, "fake")["handover"] == ""
    assert waiting(world.root, world.settings) == 0 and export_reviewed(world.root, world.settings) is None
    world.close()


@pytest.mark.parametrize(("found", "handed_over"), [([0], False), ([1], True), ([1, 0], False), ([0, 2], True), ([None], True)])
def test_a_file_without_a_face_is_not_handed_over(tmp_path: Path, found: list[int | None], handed_over: bool) -> None:
    """It counted against the whole batch of answers, which the check that a face is found then held. The newest look at a file says whether it has one."""
    world = World(tmp_path / "w")
    for faces in found:
        verdict = {"verdict": "uncertain"} if faces else {"verdict": "none", "p_fake": None}
        case_id = world.upload(JPEG, reason="disputed", **verdict, **({} if faces is None else {"faces": faces}))[1]
    assert world.decide(case_id, "real")["handover"] == ("waiting" if handed_over else "")
    assert waiting(world.root, world.settings) == handed_over == (export_reviewed(world.root, world.settings) is not None)
    world.close()


def test_quarantined_and_gold_cases_are_never_handed_over(world: World) -> None:
    real, fake, _ = sorted(case["id"] for case in world.cases.page("decided", 0, 10) if case["handover"])
    world.cases.quarantine(world.cy, real, "a doubt")
    world.cases.set_gold(world.cy, fake, "fake")
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None and len(rows_of(folder)) == 1 and not {real, fake} & {row["case_id"] for row in rows_of(folder)}


@pytest.mark.parametrize(("head", "suffix"), [
    (JPEG, ".jpg"), (b"\x89PNG\r\n", ".png"), (b"\0\0\0\x20ftypisom", ".mp4"), (b"\0\0\0\x20ftypavif", ".avif"), (b"\0\0\0\x20ftypheic", ".heic"),
    (b"\0\0\0\x20ftyphevc", ".mp4"), (b"II+\0\x08\0", ".tif"), (b"", ".bin"), (b"what", ".bin"),
])  # fmt: skip
def test_the_ending_comes_from_the_content(tmp_path: Path, head: bytes, suffix: str) -> None:
    (tmp_path / "media").write_bytes(head)
    assert media_suffix(tmp_path / "media") == suffix


def test_media_in_an_object_store_are_handed_over_too(tmp_path: Path) -> None:
    with s3_server("media") as (endpoint, _):
        world = World(tmp_path / "w", media_url="s3://media/vigil", s3_endpoint_url=endpoint)
        fill(world)
        folder = export_reviewed(world.root, world.settings)
        world.close()
    assert folder is not None and not (world.root / ".vigil/media").exists()
    assert all(sha256_bytes((folder / row["path"]).read_bytes()) == row["path"][:64] for row in rows_of(folder)) and len(rows_of(folder)) == 3


def test_what_was_sent_before_there_was_a_bucket_is_handed_over(tmp_path: Path) -> None:
    """What people had decided never trained: the media were told to be gone, and waited on the disk."""
    world = World(tmp_path / "w")
    fill(world)
    world.close()
    with s3_server("media") as (endpoint, _):
        folder = export_reviewed(world.root, write_settings(world.root, media_url="s3://media/vigil", s3_endpoint_url=endpoint))
    assert folder is not None and len(rows_of(folder)) == 3


# -- caps ---------------------------------------------------------------------------------------------------------------------
def pending(owners: list[tuple[int, bool]]) -> list[dict[str, Any]]:
    return [
        {"case_id": f"{number:04d}", "owner_id": f"owner {owner}", "state": "exported" if exported else "waiting", "created_at": f"{number:04d}"}
        for number, (owner, exported) in enumerate(owners)
    ]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60), st.floats(0.05, 1), st.integers(0, 5))
def test_no_account_has_more_of_a_batch_than_its_cap(owners: list[tuple[int, bool]], cap: float, free: int) -> None:
    rows = pending(owners)
    chosen = within_caps(rows, QueueSettings.model_validate({"source_cap": cap, "source_cap_free": free}))
    claimed = Counter(row["owner_id"] for row in rows if row["state"] == "exported")
    held = Counter(row["owner_id"] for row in chosen)
    assert chosen == [row for row in rows if row in chosen] and all(row in chosen for row in rows if row["state"] == "exported")
    for owner, number in held.items():
        assert number <= max(free, int(cap * len(chosen)), claimed[owner])
    for owner, number in Counter(row["owner_id"] for row in rows).items():
        assert held[owner] >= min(number, free)
        left_out = [row["created_at"] for row in rows if row["owner_id"] == owner and row not in chosen]
        taken_now = [row["created_at"] for row in chosen if row["owner_id"] == owner and row["state"] == "waiting"]
        assert not left_out or not taken_now or max(taken_now) < min(left_out), "the longest waiting go first"


def test_what_is_over_the_cap_waits_for_the_next_batch_and_another_key_does_not_help(tmp_path: Path) -> None:
    world = World(tmp_path / "w", queue__source_cap=0.25, queue__source_cap_free=2)
    flooder = world.user("flooder", Role.viewer)
    ids = [world.upload(JPEG + b"flood" + bytes([n]), owner=Actor(flooder.user_id, Role.viewer, source=f"key{n % 3}"))[1] for n in range(5)]
    for case_id in ids:
        world.decide(case_id, "real")
    folder = export_reviewed(world.root, world.settings)
    assert folder is not None and {row["case_id"] for row in rows_of(folder)} == set(ids[:2])
    assert world.case(ids[2])["handover"] == "waiting" and world.cases.undo(world.ann, ids[2]) is not None, "what waits can still be taken back"
    world.cases.review(world.ann, ids[2], "real")
    seen = set()
    for _ in range(4):
        take(world.root, world.settings)
        seen |= {case_id for case_id, _ in taken(world.root)}
    assert seen == set(ids) and waiting(world.root, world.settings) == 0
    world.close()


# -- kills --------------------------------------------------------------------------------------------------------------------
def test_sigkill_before_any_line_neither_loses_nor_doubles_a_label(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    world = World(root)
    fill(world)
    world.close()
    settings, expected = world.settings, None
    for number in range(1, 10_000, drill(8, 3)):  # not every line: each death is a process
        copy = tmp_path / "copy"
        shutil.copytree(root, copy)
        killed = killed_at_line(number, lambda copy=copy: take(copy, settings))
        take(copy, settings)
        expected = expected or taken(copy)
        assert taken(copy) == expected and len(expected) == 3, f"killed at line {number}"
        assert outbox(copy, settings) == {"ingested": 3} and list((copy / ".vigil/outbox").iterdir()) == [], f"killed at line {number}"
        shutil.rmtree(copy)
        if not killed:
            break
    assert number > 60, "the drill hardly killed anything"


@pytest.mark.slow
def test_sigkill_with_postgresql_neither_loses_nor_doubles_a_label(tmp_path: Path) -> None:
    root, template = tmp_path / "workspace", fresh_postgres()
    world = World(root, template)
    fill(world)
    world.close()
    lines = 0
    for number in range(1, 10_000, 9):  # each needs a database of its own: every ninth line
        copy = tmp_path / "copy"
        shutil.copytree(root, copy)
        url = fresh_postgres(template)
        settings = world.settings.model_copy(update={"feedback": world.settings.feedback.model_copy(update={"database_url": url})})
        Database(copy, settings, take_over=True).close()
        killed = killed_at_line(number, lambda copy=copy, settings=settings: take(copy, settings))
        take(copy, settings)
        assert len(taken(copy)) == 3 and outbox(copy, settings) == {"ingested": 3}, f"killed at line {number}"
        shutil.rmtree(copy)
        drop_postgres(url)
        lines = number
        if not killed:
            break
    assert lines > 60


def test_sigkill_in_a_review_leaves_the_whole_review_or_none(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    world = World(fresh)
    _, case_id = world.upload(JPEG + b"one")
    world.cases.review(world.ann, case_id, "fake")
    bob, settings = world.bob, world.settings
    world.close()
    outcomes = set()

    def answer(root: Path) -> None:
        Cases(Database(root, settings), settings.feedback).review(bob, case_id, "fake")

    for number in range(1, 1000, drill(4, 1)):
        copy = tmp_path / "copy"
        shutil.copytree(fresh, copy)
        killed = killed_at_line(number, lambda copy=copy: answer(copy))
        database = Database(copy, settings)
        case = Cases(database, settings.feedback).get(case_id)
        assert case is not None
        outcomes.add(case["state"])
        assert (case["state"], case["answers"], case["handover"]) in {("open", 1, ""), ("decided", 2, "waiting")}, f"killed at line {number}"
        assert audit.verify(database).broken_at == 0 and waiting(copy, settings) == (case["state"] == "decided")
        database.close()
        shutil.rmtree(copy)
        if not killed:
            break
    assert outcomes == {"open", "decided"}


# -- two at once --------------------------------------------------------------------------------------------------------------
def _hand_over(root: str, rounds: int, start: Any) -> None:
    settings = load_settings(Path(root) / "params.yaml")
    start.wait()
    for _ in range(rounds):
        folder = export_reviewed(Path(root), settings)
        have = {}
        if folder is not None:
            try:
                have = {(row["path"][:64], row["label"]): "batch" for row in rows_of(folder)}
            except FileNotFoundError:  # the other has closed it meanwhile
                continue
        mark_ingested(Path(root), settings, have)


def test_two_hand_overs_at_once_hand_each_label_over_once(world: World) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2, timeout=60)
    both = [context.Process(target=_hand_over, args=(str(world.root), 4, start), daemon=True) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0] and outbox(world.root, world.settings) == {"ingested": 3}
    with world.database.read() as connection:
        told = Counter((row.action, row.object) for row in connection.execute(AUDIT.select().where(AUDIT.c.action.in_(("case.handover", "case.ingested")))))
    assert set(told.values()) == {1} and len(told) == 6
