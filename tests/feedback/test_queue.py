"""The queue of uploads, in both databases: leases, retries, idempotency, and that a verdict is written once with all that follows."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from feedback.access import Actor, Role
from feedback.audit import verify
from feedback.database import now
from feedback.detections import Accepted, Detections, KeyReused, MediaGone, QueueFull
from feedback.erasing import Erasing
from feedback.keep import StoreSilent
from feedback.secret import load_secret
from feedback.tables import AUDIT, DELIVERIES, DETECTIONS, MEDIA
from feedback.webhooks import Webhooks
from tests.feedback.databases import KINDS, filled_url
from tests.feedback.world import World
from workspace.files import sha256_bytes

SAID = {"verdict": "fake", "p_fake": 0.9, "threshold": 0.5, "reason": "", "kind": "image", "model_sha256": "a" * 64}


class Line:
    """A queue over a small world."""

    def __init__(self, root: Path, url: str = "", **feedback: Any) -> None:
        self.world = World(root, url, **{"webhook_hosts": ["127.0.0.1"], "allow_private_addresses": True, **feedback})
        self.hooks = Webhooks(self.world.database, load_secret(root), self.world.settings.feedback)
        self.queue = Detections(self.world.database, self.world.media, self.world.cases, self.hooks, self.world.settings.feedback)

    def file(self, content: bytes) -> Accepted:
        path = self.world.root / "upload.part"
        path.write_bytes(content)
        self.world.media.put(path, sha256_bytes(content))
        return Accepted(sha256_bytes(content), len(content))

    def send(self, *contents: bytes, actor: Actor | None = None, **more: str) -> list[dict[str, Any]]:
        return self.queue.accept(actor or self.world.sender, [self.file(content) for content in contents], **more)

    def let_time_pass(self, detection_id: str) -> None:
        """The lease of this job has run out."""
        with self.world.database.write() as connection:
            connection.execute(update(DETECTIONS).where(DETECTIONS.c.id == detection_id).values(lease_until=now(-1)))


@pytest.fixture(params=KINDS)
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path, filled_url(request.param), max_batch_files=4, workers__queue_length=4, workers__max_attempts=2)
    yield made
    made.world.close()


def test_the_oldest_comes_first_and_two_workers_never_hold_the_same(line: Line) -> None:
    first, second = line.send(b"one")[0], line.send(b"two")[0]
    one, two = line.queue.claim("left"), line.queue.claim("right")
    assert one is not None and two is not None and (one["id"], two["id"]) == (first["id"], second["id"])
    assert line.queue.claim("left") is None
    assert line.queue.counts() == {"queued": 0, "running": 2, "done": 0, "erased": 0} and line.queue.waiting() == 2


def test_many_workers_at_once_share_the_queue_without_a_job_twice(line: Line) -> None:
    sent = {row["id"] for row in line.send(b"1", b"2", b"3", b"4")}
    with ThreadPoolExecutor(8) as pool:
        held = [row["id"] for row in pool.map(line.queue.claim, [f"worker {number}" for number in range(8)]) if row is not None]
    assert sorted(held) == sorted(sent)


def test_a_silent_worker_loses_its_job_and_its_late_verdict_is_not_written(line: Line) -> None:
    job = line.send(b"one")[0]["id"]
    line.queue.claim("slow")
    line.queue.renew("slow", {job: 0.5})
    assert (line.queue.get(job) or {})["progress"] == 0.5 and line.queue.claim("other") is None
    line.let_time_pass(job)
    assert line.queue.claim("slow", but=[job]) is None, "it works on it still"
    assert (line.queue.claim("other") or {})["id"] == job
    assert line.queue.finish(job, "slow", SAID) is None
    line.queue.renew("slow", {job: 0.9})
    assert (line.queue.get(job) or {})["progress"] == 0.0
    assert (line.queue.finish(job, "other", SAID) or {})["verdict"] == "fake"
    assert line.queue.finish(job, "other", {**SAID, "verdict": "real"}) is None, "a verdict is written once"


def test_a_verdict_its_audit_entry_and_its_delivery_are_one(line: Line) -> None:
    line.hooks.create(line.world.sender, "http://127.0.0.1:9/hook")
    job = line.send(b"one")[0]["id"]
    line.queue.claim("w")
    done = line.queue.finish(job, "w", {**SAID, "verdict": "uncertain", "case_reason": "uncertain", "novelty": 0.2, "digests": {"thumbnail": "b" * 64}})
    assert done is not None and done["state"] == "done" and line.world.case(done["case_id"])["state"] == "open"
    with line.world.database.read() as connection:
        entry = connection.execute(select(AUDIT).where(AUDIT.c.action == "detection.verdict")).mappings().one()
        told = connection.execute(select(DELIVERIES.c.body)).scalar_one()
    assert not verify(line.world.database).broken_at
    assert entry["detail"]["p_fake"] == 0.9 and entry["detail"]["threshold"] == 0.5 and entry["detail"]["digests"] == {"thumbnail": "b" * 64}
    assert told["event"] == "detection.done" and told["data"]["id"] == job and told["data"]["case_id"] == done["case_id"]


def test_a_verdict_that_cannot_be_written_whole_is_not_written_at_all(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    job = line.send(b"one")[0]["id"]
    line.queue.claim("w")

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(line.hooks, "enqueue", broken)
    with pytest.raises(ZeroDivisionError):
        line.queue.finish(job, "w", {**SAID, "case_reason": "uncertain"})
    assert (line.queue.get(job) or {})["state"] == "running" and line.world.cases.counts()["open"] == 0


def test_a_file_that_ends_its_process_every_time_is_marked_unreadable(line: Line) -> None:
    job = line.send(b"a poisoned file")[0]["id"]
    for _ in range(2):
        assert (line.queue.claim("w") or {})["id"] == job
        assert line.queue.drop_lease("w") == 1
    assert line.queue.claim("w") is None
    found = line.queue.get(job) or {}
    assert found["state"] == "done" and found["verdict"] == "none" and "2 times" in found["answer"]["reason"]


def test_a_job_that_cannot_be_finished_stops_no_other(line: Line) -> None:
    # It is the oldest that is free: each look for work ended at it, for everybody, and no restart helped.
    stuck, healthy = (line.send(content)[0]["id"] for content in (b"stuck", b"healthy"))
    for _ in range(2):
        assert (line.queue.claim("w") or {})["id"] == stuck
        line.queue.drop_lease("w")
    refused = f"state = 'done' AND id = '{stuck}'"
    with line.world.database.write() as connection:
        if line.world.database.is_sqlite:
            condition = refused.replace("state", "NEW.state").replace("id =", "NEW.id =")
            connection.exec_driver_sql(f"CREATE TRIGGER refuse BEFORE UPDATE ON detections WHEN {condition} BEGIN SELECT RAISE(ABORT, 'refused'); END")
        else:
            connection.exec_driver_sql(f"ALTER TABLE detections ADD CONSTRAINT refuse CHECK (NOT ({refused}))")
    assert (line.queue.claim("w") or {})["id"] == healthy
    line.queue.finish(healthy, "w", SAID)
    assert line.queue.claim("w") is None and line.queue.waiting() == 1
    with line.world.database.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER refuse" if line.world.database.is_sqlite else "ALTER TABLE detections DROP CONSTRAINT refuse")
    line.let_time_pass(stuck)
    assert line.queue.claim("w") is None and (line.queue.get(stuck) or {})["verdict"] == "none", "it is tried again"


@pytest.mark.parametrize("while_it", ["waits", "is looked at"])
def test_an_upload_gets_its_verdict_though_its_file_was_once_a_case_and_erased(line: Line, while_it: str) -> None:
    # Erasing one of two gave the other the erased case, which was then to be opened anew without a reason: no verdict could be written.
    erasing = Erasing(line.world.database, line.world.media)
    before, case_id = line.world.upload(b"one", verdict="real", reason="disputed")
    erasing.erase(line.world.sender, before)
    one, other = (line.send(b"one", actor=actor)[0]["id"] for actor in (line.world.sender, line.world.cy))
    claimed = [line.queue.claim("w") for _ in range(2)] if while_it == "is looked at" else []
    assert erasing.erase(line.world.sender, one)["state"] == "held"
    claimed = claimed or [line.queue.claim("w")]
    assert (claimed[-1] or {})["id"] == other and (line.queue.get(other) or {})["case_id"] is None
    done = line.queue.finish(other, "w", SAID) or {}
    assert (done["verdict"], done["case_id"], line.world.case(case_id)["state"]) == ("fake", None, "erased")


def test_an_upload_that_was_given_an_erased_case_gets_its_verdict(line: Line) -> None:
    """As in a database of before."""
    before, case_id = line.world.upload(b"one", verdict="real", reason="disputed")
    Erasing(line.world.database, line.world.media).erase(line.world.sender, before)
    job = line.send(b"one")[0]["id"]
    with line.world.database.write() as connection:
        connection.execute(update(DETECTIONS).where(DETECTIONS.c.id == job).values(case_id=case_id))
    line.queue.claim("w")
    done = line.queue.finish(job, "w", SAID) or {}
    assert (done["verdict"], done["case_id"], line.world.case(case_id)["state"]) == ("fake", None, "erased")


def test_a_verdict_that_is_not_fake_releases_what_an_earlier_one_hid(line: Line) -> None:
    sha256 = sha256_bytes(b"one")
    for verdict, state in (("fake", "quarantined"), ("none", "quarantined"), ("real", "kept")):
        job = line.send(b"one")[0]["id"]
        line.queue.claim("w")
        line.queue.finish(job, "w", {**SAID, "verdict": verdict})
        if verdict == "fake":
            assert line.queue.retention.sweep(now(7200))["quarantined"] == 1
        with line.world.database.read() as connection:
            assert connection.execute(select(MEDIA.c.state).where(MEDIA.c.sha256 == sha256)).scalar_one() == state, verdict


def test_a_file_that_ends_its_worker_takes_no_other_along(line: Line) -> None:
    """All that the worker had in work was tried together again each time, and marked unreadable together."""
    sent = [row["id"] for row in line.send(b"first", b"the culprit", b"third")]
    assert [(line.queue.claim("w") or {})["id"] for _ in sent] == sent
    line.queue.drop_lease("w")
    fresh = line.send(b"fresh")[0]["id"]
    assert (line.queue.claim("w") or {})["id"] == sent[0] and line.queue.claim("w") is None, "nothing beside what was tried before"
    line.queue.finish(sent[0], "w", SAID)
    assert (line.queue.claim("w") or {})["id"] == sent[1]
    line.queue.drop_lease("w")
    assert (line.queue.claim("w") or {})["id"] == sent[2], "the culprit is given up"
    line.queue.let_go("w", sent[2])
    assert (line.queue.claim("w") or {})["id"] == fresh, "who failed at one file does not wait for its lease"
    line.queue.let_go("w", fresh)
    newest = line.send(b"newest")[0]["id"]
    assert (line.queue.claim("w") or {})["id"] == newest
    line.let_time_pass(fresh)
    assert line.queue.claim("w") is None, "nor what was tried before beside anything"
    assert [(line.queue.get(one) or {})["verdict"] for one in sent] == ["fake", "none", ""]


def kept(line: Line, *contents: bytes) -> list[bool]:
    return [line.world.media.has(sha256_bytes(content)) for content in contents]


def test_media_that_are_kept_for_no_day_go_with_their_verdict(line: Line) -> None:
    """A picture of an identity card lay there for up to an hour, until the next look at what is due."""
    sent = [line.send(content, policy=policy)[0]["id"] for content, policy in ((b"card", "identity_check"), (b"asked", "identity_check"), (b"other", ""))]
    for job, reason in zip(sent, ("", "uncertain", ""), strict=True):
        assert line.queue.claim("w") is not None
        line.queue.finish(job, "w", {**SAID, "case_reason": reason})
    assert kept(line, b"card", b"asked", b"other") == [False, True, True], "people are asked about the second"
    assert [(line.queue.get(job) or {})["media_state"] for job in sent] == ["deleted", "kept", "kept"]
    twice = [line.send(b"twice", policy="identity_check")[0]["id"] for _ in range(2)]
    for job, left in zip(twice, (True, False), strict=True):
        assert line.queue.claim("w") is not None
        line.queue.finish(job, "w", SAID)
        assert kept(line, b"twice") == [left], "while another upload of it is in work it stays"
    line.send(b"a poisoned card", policy="identity_check")
    for _ in range(2):
        assert line.queue.claim("w") is not None and line.queue.drop_lease("w") == 1
    assert line.queue.claim("w") is None and kept(line, b"a poisoned card") == [False]
    assert verify(line.world.database).broken_at == 0


def test_a_verdict_stands_though_its_media_cannot_be_deleted_now(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any) -> None:
        raise StoreSilent("The media cannot be had.", why="the store of the media does not answer", next_step="Try again.")

    job = line.send(b"card", policy="identity_check")[0]["id"]
    line.queue.claim("w")
    with monkeypatch.context() as patch:
        patch.setattr(line.world.media, "delete", silent)
        assert (line.queue.finish(job, "w", SAID) or {})["verdict"] == "fake"
    assert kept(line, b"card") == [True] and line.queue.retention.sweep()["deleted"] == 1 and kept(line, b"card") == [False]


def test_what_a_worker_gives_back_has_not_been_tried(line: Line) -> None:
    job = line.send(b"one")[0]["id"]
    for _ in range(5):
        assert (line.queue.claim("w") or {})["id"] == job
        assert line.queue.give_back("w") == 1
    assert (line.queue.get(job) or {})["attempts"] == 0


def test_a_full_queue_takes_a_batch_whole_or_not_at_all(line: Line) -> None:
    line.send(b"1", b"2", b"3")
    with pytest.raises(QueueFull):
        line.send(b"4", b"5")
    with pytest.raises(QueueFull):
        line.queue.make_room(2)
    assert line.queue.waiting() == 3
    line.queue.make_room(1)


def test_the_same_idempotency_key_is_the_same_answer_for_its_owner_alone(line: Line) -> None:
    first = line.send(b"1", idempotency_key="k", fingerprint="f")
    again = line.send(b"1", idempotency_key="k", fingerprint="f")
    assert [row["id"] for row in first] == [row["id"] for row in again]
    with pytest.raises(KeyReused):
        line.send(b"2", idempotency_key="k", fingerprint="g")
    other = line.send(b"1", actor=line.world.user("other", Role.viewer), idempotency_key="k", fingerprint="f")
    assert other[0]["id"] != first[0]["id"]
    assert line.queue.replayed(line.world.sender, "new", "f") is None


def test_media_that_went_meanwhile_are_asked_for_again(line: Line) -> None:
    file = line.file(b"one")
    line.world.media.delete(file.sha256)
    with pytest.raises(MediaGone):
        line.queue.accept(line.world.sender, [file])
    assert line.queue.waiting() == 0


def test_only_a_verdict_can_be_disputed(line: Line) -> None:
    job = line.send(b"one")[0]["id"]
    for claim, why in (("real", "no verdict"), ("perhaps", "real or fake")):
        with pytest.raises(ValueError, match=why):
            line.queue.dispute(line.world.sender, job, claim)
    line.queue.claim("w")
    line.queue.finish(job, "w", SAID)
    with pytest.raises(ValueError, match="The verdict is 'fake' already"):
        line.queue.dispute(line.world.sender, job, "fake")
    found = line.queue.dispute(line.world.sender, job, "real", "that is me")
    assert line.world.case(found["case_id"])["reason"] == "disputed" and found["answer"]["dispute"]["claim"] == "real"
    assert line.queue.dispute(line.world.sender, job, "real", "that is me")["answer"] == found["answer"], "said twice, it is said once"
    with pytest.raises(ValueError, match="disputed already"):
        line.queue.dispute(line.world.ann, job, "real")
    assert (line.queue.get(job) or {})["answer"] == found["answer"], "what its sender said was another's from then on"
    again = line.send(b"one")[0]["id"]
    line.queue.claim("w")
    line.queue.finish(again, "w", SAID)
    assert line.queue.dispute(line.world.sender, again, "real")["case_id"] == found["case_id"], "one file, one case"


@pytest.mark.parametrize(("label", "told"), [("fake", "say that it is fake"), ("unsure", "could not tell")])
def test_what_people_have_decided_is_told_and_not_disputed(line: Line, label: str, told: str) -> None:
    """It was recorded, everybody was told that people are asked to look, and nobody ever was."""
    job = line.send(b"one")[0]["id"]
    line.queue.claim("w")
    line.queue.finish(job, "w", SAID)
    line.world.decide(line.queue.dispute(line.world.sender, job, "real")["case_id"], label)
    again = line.send(b"one")[0]["id"]
    line.queue.claim("w")
    line.queue.finish(again, "w", SAID)
    with pytest.raises(ValueError, match=told):
        line.queue.dispute(line.world.sender, again, "real")
    assert "dispute" not in (line.queue.get(again) or {})["answer"]
    with pytest.raises(ValueError, match=told):  # the upload that was disputed before they decided
        line.queue.dispute(line.world.ann, job, "real", "other words")


STEPS = st.lists(st.sampled_from(["send", "claim a", "claim b", "finish a", "finish b", "late", "give back a", "die b"]), max_size=40)


@given(steps=STEPS)
@settings(max_examples=40, deadline=None)
def test_in_any_order_each_upload_has_one_verdict_or_waits(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    line = Line(tmp_path_factory.mktemp("line"), workers__queue_length=100)
    held: dict[str, list[str]] = {"a": [], "b": []}
    sent, verdicts = [], 0
    for number, step in enumerate(steps):
        verb, _, name = step.rpartition(" ")
        if step == "send":
            sent.append(line.send(str(number).encode())[0]["id"])
        elif step == "late":
            for job in sent:
                line.let_time_pass(job)
        elif verb == "claim":
            row = line.queue.claim(name)
            held[name] += [row["id"]] if row is not None else []
        elif verb == "finish" and held[name]:
            verdicts += line.queue.finish(held[name].pop(), name, SAID) is not None
        elif verb == "give back":
            line.queue.give_back(name)
        elif verb == "die":
            line.queue.drop_lease(name)
    counts = line.queue.counts()
    assert sum(counts.values()) == len(sent)
    with line.world.database.read() as connection:
        written = connection.execute(select(func.count()).select_from(AUDIT).where(AUDIT.c.action == "detection.verdict")).scalar_one()
    assert not verify(line.world.database).broken_at
    assert written == counts["done"] >= verdicts
    line.world.close()
