"""Cases: opened once a file, shown in a useful order, decided by people who agree; on SQLite and PostgreSQL."""

import multiprocessing
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from feedback import audit
from feedback.access import Actor
from feedback.accounts import Accounts
from feedback.cases import AlreadyReviewed, NotReviewable, TooLate, agreed_identity, decided, disguised, unanswered
from feedback.erasing import Erasing
from feedback.handover import claim, export_reviewed, waiting
from feedback.ordering import Candidate, gold_slots, in_order, uncertainty_of, use_of
from feedback.retention import Retention
from feedback.secret import Secret
from feedback.service import Service
from feedback.tables import AUDIT, CASES, OUTBOX, REVIEWS, USERS
from tests.feedback.conftest import Make, ask
from tests.feedback.test_gathering import gathering_of
from tests.feedback.test_handover import rows_of
from tests.feedback.world import JPEG, World, write_settings
from vigil.opening import open_workspace
from vigil.reading import render_status, status_of

LABELS = st.lists(st.sampled_from(["real", "fake", "unsure"]), max_size=3)


def actions(world: World, object_: str) -> list[str]:
    with world.database.read() as connection:
        return [row.action for row in connection.execute(AUDIT.select().where(AUDIT.c.object == object_).order_by(AUDIT.c.number))]


def outbox(world: World) -> dict[str, str]:
    with world.database.read() as connection:
        return {row.case_id: row.state for row in connection.execute(OUTBOX.select())}


# -- the rule that turns answers into a label ---------------------------------------------------------------------------------
@given(LABELS, st.sampled_from([1, 2]))
def test_a_label_needs_enough_agreeing_answers(labels: list[str], needed: int) -> None:
    label = decided(labels, needed)
    if len(labels) < needed:
        assert label == ""
    elif len(set(labels[:needed])) == 1 and len(labels) == needed:
        assert label == labels[0]
    elif len(labels) < 3:
        assert label == ("" if len(set(labels)) > 1 else labels[0])
    else:
        majority = [one for one in ("real", "fake") if labels.count(one) >= 2]
        assert label == (majority[0] if majority else "unsure")


def test_three_different_answers_are_unsure_and_a_name_that_two_disagree_on_is_nobody() -> None:
    assert decided(["real", "fake", "unsure"], 2) == "unsure" and decided(["real", "unsure", "unsure"], 2) == "unsure"
    assert agreed_identity([" ann b. ", "ann b.", ""]) == "ann b." and agreed_identity(["ann", "bob"]) == "" and agreed_identity(["", ""]) == ""
    assert agreed_identity(["Zo\u00eb", "Zoe\u0308"]) == "Zo\u00eb"  # one name, typed on two keyboards


# -- answering ----------------------------------------------------------------------------------------------------------------
def test_two_who_agree_decide_and_the_label_waits_for_training(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    first = world.cases.review(world.ann, case_id, "fake", note="teeth", identity="p7", seconds=1.5)
    assert first is not None and first["state"] == "open" and first["needed"] == 2 and first["answers"] == 1 and outbox(world) == {}
    second = world.cases.review(world.bob, case_id, "fake", identity="p7")
    assert second is not None and (second["state"], second["label"], second["identity"], second["handover"]) == ("decided", "fake", "p7", "waiting")
    assert outbox(world) == {case_id: "waiting"}
    assert actions(world, f"case:{case_id}") == ["case.open", "case.label", "case.label", "case.decide"]
    assert audit.verify(world.database).broken_at == 0


def test_where_two_differ_a_third_decides(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    world.cases.review(world.ann, case_id, "fake")
    second = world.cases.review(world.bob, case_id, "real")
    assert second is not None and second["state"] == "open" and second["needed"] == 3
    third = world.cases.review(world.cy, case_id, "real")
    assert third is not None and third["state"] == "decided" and third["label"] == "real" and outbox(world) == {case_id: "waiting"}


@pytest.mark.parametrize("named", ["Eve", ""])
def test_whom_a_case_shows_is_said_by_those_whose_label_it_got(world: World, named: str) -> None:
    """A name from somebody who was outvoted would put two people together, or blank the one that the others agree on."""
    _, case_id = world.upload(JPEG + b"one")
    for who, label, identity in ((world.ann, "fake", named), (world.bob, "real", "Zoe"), (world.cy, "fake", named)):
        world.cases.review(who, case_id, label, identity=identity)
    assert (world.case(case_id)["label"], world.case(case_id)["identity"]) == ("fake", named)


def test_what_is_decided_needed_as_many_answers_as_it_has(world: World) -> None:
    """The third answer had the list say "3 of 2"; a setting that was raised afterwards, "1 of 2" of a label that trains."""
    queue = world.settings.feedback.queue
    world.cases.settings = world.settings.feedback.model_copy(update={"queue": queue.model_copy(update={"reviewers_needed": 1})})
    alone, together = (world.upload(JPEG + content)[1] for content in (b"one", b"two"))
    world.cases.review(world.ann, alone, "fake")
    world.cases.settings = world.settings.feedback
    for who, label in ((world.ann, "fake"), (world.bob, "real"), (world.cy, "real")):
        world.cases.review(who, together, label)
    assert [(case["id"], case["answers"], case["needed"]) for case in world.cases.page("decided", 0, 10)] == [(alone, 1, 1), (together, 3, 3)]


def test_unsure_decides_and_never_trains(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    assert world.decide(case_id, "unsure")["handover"] == "" and outbox(world) == {}


def test_one_suffices_where_the_settings_say_so(tmp_path: Path) -> None:
    world = World(tmp_path / "w", queue__reviewers_needed=1)
    _, case_id = world.upload(JPEG + b"one")
    found = world.cases.review(world.ann, case_id, "real")
    assert found is not None and found["state"] == "decided" and found["handover"] == "waiting"
    world.close()


def test_answers_that_suffice_once_fewer_reviewers_are_needed_are_labels(world: World) -> None:
    """They stayed open for ever: who had answered was refused a second answer, and who works alone never trained anything."""
    ids = [world.upload(JPEG + bytes([number]))[1] for number in range(6)]
    for case_id, label in zip(ids, ("fake", "real", "unsure", "fake", "fake"), strict=False):
        world.cases.review(world.ann, case_id, label)
    world.cases.set_gold(world.cy, ids[3], "fake")
    world.cases.undo(world.ann, ids[4])
    fewer = write_settings(world.root, world.settings.feedback.database_url, queue__reviewers_needed=1)
    assert waiting(world.root, world.settings) == 0 and waiting(world.root, fewer) == 2 and outbox(world) == {}, "to ask changes nothing"
    service = Service(world.root, fewer, Secret(b"s" * 32))
    assert [world.case(case_id)["state"] for case_id in ids] == ["decided"] * 3 + ["open"] * 3
    assert outbox(world) == dict.fromkeys(ids[:2], "waiting") and waiting(world.root, fewer) == 2
    assert service.cases.settle_anew() == 0 and actions(world, f"case:{ids[0]}") == ["case.open", "case.label", "case.decide"]
    assert world.case(ids[0])["decided_at"] == world.case(ids[0])["reviews"][0]["created_at"], "as a known case is shown to who has answered it"
    service.close()


def test_a_hand_over_takes_answers_that_suffice_by_now_without_a_service(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    _, case_id = world.upload(JPEG + b"one")
    world.cases.review(world.ann, case_id, "fake")
    assert export_reviewed(world.root, world.settings) is None
    folder = export_reviewed(world.root, write_settings(world.root, queue__reviewers_needed=1))
    assert folder is not None and [row["case_id"] for row in rows_of(folder)] == [case_id]
    world.close()


@pytest.mark.parametrize("by", ["service", "hand-over"])
def test_a_label_of_too_few_reviewers_is_not_handed_over_once_more_are_needed(world: World, by: str) -> None:
    """It trained all the same, where the setting says how many have to agree before a label may."""
    one, two, unsure, gone = (world.upload(JPEG + content)[1] for content in (b"one", b"two", b"unsure", b"gone"))
    fewer = write_settings(world.root, world.settings.feedback.database_url, queue__reviewers_needed=1)
    world.cases.settings = fewer.feedback
    world.cases.review(world.ann, gone, "real")
    assert [row["case_id"] for row in claim(world.database, fewer.feedback.queue)] == [gone]
    world.cases.review(world.ann, one, "fake", identity="p7")
    world.cases.review(world.ann, unsure, "unsure")
    world.cases.settings = world.settings.feedback
    world.decide(two, "fake")
    assert waiting(world.root, world.settings) == 2, "what was claimed stays"
    if by == "service":
        Service(world.root, world.settings, Secret(b"s" * 32)).close()
    else:
        folder = export_reviewed(world.root, world.settings)
        assert folder is not None and {row["case_id"] for row in rows_of(folder)} == {two, gone}
    assert [(world.case(case_id)["state"], world.case(case_id)["label"]) for case_id in (one, two, unsure)] == [
        ("open", ""), ("decided", "fake"), ("decided", "unsure"),
    ]  # fmt: skip
    assert world.case(one)["identity"] == "" and one not in outbox(world) and actions(world, f"case:{one}")[-1] == "case.reopen"
    with pytest.raises(AlreadyReviewed):
        world.cases.review(world.ann, one, "fake")
    found = world.cases.review(world.bob, one, "fake")
    assert found is not None and (found["state"], found["handover"], found["answers"]) == ("decided", "waiting", 2)
    assert audit.verify(world.database).broken_at == 0


def test_nobody_answers_twice_their_own_or_a_settled_case(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    with pytest.raises(NotReviewable, match="sent this file in yourself"):
        world.cases.review(world.sender, case_id, "real")
    world.upload(JPEG + b"one", owner=world.cy)  # the same file from somebody else joins the case
    with pytest.raises(NotReviewable, match="yourself"):
        world.cases.review(world.cy, case_id, "real")
    world.cases.review(world.ann, case_id, "real")
    with pytest.raises(AlreadyReviewed):
        world.cases.review(world.ann, case_id, "fake")
    world.cases.review(world.bob, case_id, "real")
    with pytest.raises(NotReviewable, match="decided"):
        world.cases.review(world.user("dora"), case_id, "fake")
    with pytest.raises(ValueError, match="maybe"):
        world.cases.review(world.user("dora"), case_id, "maybe")
    assert world.cases.review(world.ann, "no-such-case", "real") is None
    assert world.case(case_id)["answers"] == 2


@pytest.mark.parametrize("story", ["before the case", "after the case", "erased since"])
def test_who_sent_a_file_never_answers_for_it_though_their_own_upload_opened_no_case(world: World, story: str) -> None:
    # An upload of which the model was sure has no case. Another of the same file, drawn for the audit, opens one.
    content, mine = JPEG + b"shared", ""
    if story != "after the case":
        mine, _ = world.upload(content, owner=world.ann, verdict="real", reason="")
    _, case_id = world.upload(content, verdict="real", reason="audit")
    if story == "after the case":
        world.upload(content, owner=world.ann, verdict="real", reason="")
    if story == "erased since":
        assert Erasing(world.database, world.media).erase(world.ann, mine)["state"] == "held"
    assert world.cases.queue(world.ann) == [] and [case["id"] for case in world.cases.queue(world.bob)] == [case_id]
    with pytest.raises(NotReviewable, match="yourself"):
        world.cases.review(world.ann, case_id, "real")
    assert world.cases.review(world.bob, case_id, "real") is not None


def test_people_may_review_their_own_where_the_settings_say_so(tmp_path: Path) -> None:
    world = World(tmp_path / "w", queue__review_own=True)
    _, case_id = world.upload(JPEG + b"one")
    assert [case["id"] for case in world.cases.queue(world.sender)] == [case_id]
    assert world.cases.review(world.sender, case_id, "real") is not None
    world.close()


# -- taking back --------------------------------------------------------------------------------------------------------------
def test_an_answer_can_be_taken_back_until_it_is_handed_over(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    world.decide(case_id, "fake")
    undone = world.cases.undo(world.bob, case_id)
    assert undone is not None and (undone["state"], undone["label"], undone["answers"], undone["handover"]) == ("open", "", 1, "")
    assert outbox(world) == {}
    with pytest.raises(NotReviewable):
        world.cases.undo(world.bob, case_id)
    world.cases.review(world.bob, case_id, "fake")
    assert [row["case_id"] for row in claim(world.database, world.settings.feedback.queue)] == [case_id]
    with pytest.raises(TooLate):
        world.cases.undo(world.ann, case_id)
    with pytest.raises(TooLate):
        world.cases.quarantine(world.ann, case_id, "a doubt")
    with pytest.raises(TooLate):
        world.cases.set_gold(world.ann, case_id, "real")
    assert world.case(case_id)["state"] == "decided" and outbox(world) == {case_id: "exported"}
    assert world.cases.undo(world.ann, "no-such-case") is None


def test_taking_back_one_of_three_leaves_what_the_other_two_agree_on(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    for who, label in ((world.ann, "fake"), (world.bob, "real"), (world.cy, "fake")):
        world.cases.review(who, case_id, label)
    found = world.cases.undo(world.bob, case_id)
    assert found is not None and found["state"] == "decided" and found["label"] == "fake" and outbox(world) == {case_id: "waiting"}


# -- governing ----------------------------------------------------------------------------------------------------------------
def test_quarantine_keeps_a_case_out_and_release_brings_it_back_as_it_stands(world: World) -> None:
    _, open_id = world.upload(JPEG + b"one")
    _, settled = world.upload(JPEG + b"two")
    world.decide(settled, "fake")
    for case_id in (open_id, settled):
        world.cases.quarantine(world.cy, case_id, "one sender, forty alike")
    assert world.cases.queue(world.ann) == [] and outbox(world) == {} and claim(world.database, world.settings.feedback.queue) == []
    with pytest.raises(NotReviewable, match="quarantined"):
        world.cases.review(world.ann, open_id, "real")
    for case_id in (open_id, settled):
        world.cases.release(world.cy, case_id)
    assert world.case(open_id)["state"] == "open" and world.case(settled)["state"] == "decided" and outbox(world) == {settled: "waiting"}
    with pytest.raises(ValueError, match="reason"):
        world.cases.quarantine(world.cy, open_id, " ")
    assert actions(world, f"case:{open_id}") == ["case.open", "case.quarantine", "case.release"]


def test_a_gold_case_measures_and_never_trains(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    world.decide(case_id, "fake")
    world.cases.set_gold(world.cy, case_id, "real")
    found = world.case(case_id)
    assert found["state"] == "open" and found["label"] == "" and outbox(world) == {}
    world.cases.review(world.user("dora"), case_id, "real")
    world.cases.review(world.user("eve"), case_id, "real")
    found = world.case(case_id)
    assert found["state"] == "open" and claim(world.database, world.settings.feedback.queue) == [] and found["answers"] == found["needed"] == 4
    gold = {row["reviewer"]: (row["gold"]["right"], row["gold"]["n"]) for row in world.cases.quality()}
    assert gold == {"ann": (0, 1), "bob": (0, 1), "dora": (1, 1), "eve": (1, 1)}
    world.cases.set_gold(world.cy, case_id, "")
    found = world.case(case_id)
    assert (found["state"], found["label"]) == ("decided", "unsure") and outbox(world) == {}, "four answers, two and two: nobody knows"


def test_a_file_without_a_face_is_no_known_case(world: World) -> None:
    """Where one answer decides it said "it trains", which it says of no other file without a face: the known case was told by that."""
    _, faceless = world.upload(JPEG + b"a wall", faces=0)
    with pytest.raises(NotReviewable, match="No face was found"):
        world.cases.set_gold(world.cy, faceless, "real")
    assert world.case(faceless)["gold"] == "" and actions(world, f"case:{faceless}") == ["case.open"]
    world.cases.set_gold(world.cy, faceless, "")  # to end it is never refused


def test_a_quarantine_of_media_tells_no_reviewer_which_case_is_a_known_one(make: Make) -> None:
    """Where one answer decides, `real` ended the quarantine of an ordinary case's media in the same request, and that of a known one's never."""
    app, people = make(queue__reviewers_needed=1)
    service = app.state.service
    world = World(service.root, queue__reviewers_needed=1)
    sent = [world.upload(JPEG + content, verdict="fake") for content in (b"ordinary", b"known")]
    world.cases.set_gold(world.cy, sent[1][1], "real")
    world.close()
    assert service.retention.sweep((datetime.now(UTC) + timedelta(hours=2)).isoformat())["quarantined"] == 2
    looks = [("GET", f"/v1/detections/{detection_id}", {}) for detection_id, _ in sent] + [("GET", "/v1/detections?everybody=true", {})]

    def told(name: str) -> list[list[str]]:
        *ones, page = ask(app, *looks, key=people[name][1])
        of = {row["id"]: row["media_state"] for row in page.json()["detections"]}
        return [[answer.json()["media_state"] for answer in ones], [of[detection_id] for detection_id, _ in sent]]

    assert told("rob") == [["kept", "kept"]] * 2 and told("emil") == [["quarantined", "quarantined"]] * 2
    for _, case_id in sent:
        assert ask(app, ("POST", f"/v1/cases/{case_id}/review", {"json": {"label": "real"}}), key=people["rob"][1])[0].json()["state"] == "decided"
    assert told("rob") == [["kept", "kept"]] * 2 and told("emil") == [["kept", "quarantined"]] * 2


def test_a_wrong_answer_to_a_gold_case_is_not_mended_by_another(make: Make) -> None:
    """The figure of gold cases told a reviewer after each answer whether it had been one, and right; a second answer made it right."""
    app, people = make()
    world = World(app.state.service.root)
    case_id = world.upload(JPEG)[1]
    world.cases.set_gold(world.cy, case_id, "real")
    world.close()
    address = f"/v1/cases/{case_id}"
    story = [("review", {"json": {"label": "fake"}}), ("undo", {}), ("review", {"json": {"label": "real"}})]
    ask(app, *(("POST", f"{address}/{verb}", more) for verb, more in story), key=people["rob"][1])
    (mine,) = ask(app, ("GET", "/v1/quality", {}), key=people["rob"][1])[0].json()["reviewers"]
    assert (mine["reviews"], mine["gold"]["right"], mine["gold"]["n"]) == (1, 0, 1)


def test_a_gold_case_looks_like_any_other_to_who_answered_it(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    world.cases.set_gold(world.cy, case_id, "real")
    for who in (world.ann, world.bob):
        world.cases.review(who, case_id, "fake")
    shown = disguised(world.case(case_id), world.ann.user_id, 2)
    assert "gold" not in shown and shown["answers"] == 1 and shown["state"] == "open" and shown["needed"] == 2
    alone = disguised(world.case(case_id), world.ann.user_id, 1)
    assert alone["state"] == "decided" and alone["label"] == "fake" and alone["handover"] == "waiting"


def test_the_queue_does_not_tell_a_gold_case_on_which_two_have_differed(world: World) -> None:
    """It said that nobody had answered and that three must, which it says of no other case."""
    gold, plain = (world.upload(JPEG + content)[1] for content in (b"one", b"two"))
    world.cases.set_gold(world.cy, gold, "real")
    for who, label in ((world.ann, "real"), (world.bob, "fake")):
        world.cases.review(who, gold, label)
    queue = world.settings.feedback.queue.model_copy(update={"gold_fraction": 1.0})
    world.cases.settings = world.settings.feedback.model_copy(update={"queue": queue})
    shown = {case["id"]: case for case in world.cases.queue(world.user("dora"))}
    of_the_file = ("number", "id", "created_at", "sha256", "detections")
    told = [{name: value for name, value in shown[one].items() if name not in of_the_file} for one in (gold, plain)]
    assert told[0] == told[1]


def test_where_one_reviewer_decides_no_list_tells_the_gold_case(make: Make) -> None:
    """The lists went by what it truly is: the answered case that still was among the open ones was the known one."""
    app, people = make(queue__reviewers_needed=1)
    world = World(app.state.service.root, queue__reviewers_needed=1)
    made = [world.upload(JPEG + bytes([number])) for number in range(3)]
    world.cases.set_gold(world.cy, made[0][1], "real")
    world.close()
    requests = [("POST", f"/v1/cases/{case}/review", {"json": {"label": "fake", "identity": "Anna"}}) for _, case in made[:2]]
    requests += [("GET", "/v1/cases", {"params": {"state": state}}) for state in ("open", "decided", "all")]
    requests += [("GET", f"/v1/detections/{detection}", {}) for detection, _ in made[:2]]
    answers = [answer.json() for answer in ask(app, *requests, key=people["rob"][1])]
    gold, ordinary, other = (case for _, case in made)
    listed = [[(case["id"], case["state"]) for case in answer["cases"]] for answer in answers[2:5]]
    assert listed[:2] == [[(other, "open")], [(gold, "decided"), (ordinary, "decided")]] and len(listed[2]) == 3
    assert [case["identity"] for case in answers[3]["cases"]] == ["Anna", "Anna"]
    assert answers[5].keys() == answers[6].keys() and "case_state" not in answers[5]
    seen = [
        [case["id"] for case in one.json()["cases"]]
        for one in ask(app, *[("GET", f"/v1/cases?state={state}", {}) for state in ("open", "known")], key=people["emil"][1])
    ]
    assert seen == [[gold, other], [gold]], "who may govern sees it as it is"
    assert ask(app, ("GET", "/v1/cases?state=known", {}), key=people["rob"][1])[0].status_code == 403


# -- opening ------------------------------------------------------------------------------------------------------------------
def test_a_dispute_does_not_tell_a_gold_case_from_one_that_its_reviewer_has_decided(tmp_path: Path) -> None:
    world = World(tmp_path / "w", queue__reviewers_needed=1)
    plain, gold = (world.upload(JPEG + name, verdict="fake")[1] for name in (b"plain", b"gold"))
    world.cases.set_gold(world.ann, gold, "real")
    for case_id in (plain, gold):
        world.cases.review(world.ann, case_id, "real")
    with world.database.read() as connection:
        seen = [world.cases.standing_of(connection, world.ann, world.case(case_id)["sha256"]) for case_id in (plain, gold)]
        assert seen == [("decided", "real")] * 2 and world.cases.standing_of(connection, world.bob, world.case(gold)["sha256"])[0] == "open"
    world.close()


def test_one_file_is_one_case_and_a_dispute_becomes_its_reason(world: World) -> None:
    first = world.upload(JPEG + b"one")
    again = world.upload(JPEG + b"one", owner=world.cy, reason="disputed", verdict="real")
    other = world.upload(JPEG + b"two", reason="novel")
    assert first[1] == again[1] != other[1]
    found = world.case(first[1])
    assert found["detections"] == [first[0], again[0]] and found["reason"] == "disputed" and found["owner_id"] == world.sender.user_id
    assert [case["id"] for case in world.cases.page("open", 0, 10)] == [first[1], other[1]]
    assert [case["id"] for case in world.cases.page(None, found["number"], 10)] == [other[1]]
    assert world.cases.counts()["open"] == 2


def test_a_case_lists_a_few_of_very_many_uploads_of_its_file(world: World) -> None:
    """Each of 3,000 was looked up by itself whenever the page of their case was opened."""
    content = JPEG + b"again and again"
    disputed, case_id = world.upload(content, verdict="fake")
    gathering_of(world).detections.dispute(world.sender, disputed, "real")
    sent = [world.upload(content, verdict="fake", reason="")[0] for _ in range(24)]
    alone = world.upload(JPEG + b"alone")[1]
    found = world.case(case_id)
    assert found["uploads"] == 25 and found["detections"] == [disputed, *sent[-19:]], "what is disputed stays in sight"
    assert [(case["uploads"], len(case["detections"])) for case in world.cases.page(None, 0, 10)] == [(25, 20), (1, 1)] and world.case(alone)["uploads"] == 1


def test_a_case_gets_scores_once_and_only_while_it_is_open(world: World) -> None:
    """The order of the queue and what is told of a model's answers go by the scores of the model that asked."""
    asked, answered = (world.upload(JPEG + content, reason="unlabelled", p_fake=None, model_sha256="")[1] for content in (b"one", b"two"))
    assert world.case(asked)["p_fake"] is None
    world.decide(answered, "fake")
    for p_fake, model in ((0.6, "b" * 64), (0.4, "c" * 64)):
        for content in (b"one", b"two"):
            world.upload(JPEG + content, p_fake=p_fake, model_sha256=model)
    found = [(case["p_fake"], case["model_sha256"]) for case in map(world.case, (asked, answered))]
    assert found == [(0.6, "b" * 64), (None, "")]


# -- the order ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("p_fake", "threshold", "expected"), [(0.5, 0.5, 1.0), (1.0, 0.5, 0.0), (0.0, 0.5, 0.0), (0.25, 0.5, 0.5), (0.9, 0.8, 0.5), (None, 0.5, 1.0)]
)
def test_uncertainty_is_one_on_the_threshold_and_none_at_the_ends(p_fake: float | None, threshold: float, expected: float) -> None:
    assert uncertainty_of(p_fake, threshold) == pytest.approx(expected)


def test_the_queue_shows_the_uncertain_first_and_then_what_is_unlike_it(world: World) -> None:
    alike = [world.upload(JPEG + bytes([n]), p_fake=0.5 + n / 100, embedding=[1.0, 0.0, n / 100])[1] for n in range(3)]
    other = world.upload(JPEG + b"other", p_fake=0.6, embedding=[0.0, 1.0, 0.0])[1]
    order = [case["id"] for case in world.cases.queue(world.ann)]
    assert order[:2] == [alike[0], other] and set(order[2:]) == set(alike[1:])
    world.cases.review(world.ann, alike[0], "fake")
    assert world.cases.queue(world.ann)[0]["id"] == other, "unlike what was just answered"
    assert world.cases.queue(world.bob)[0]["id"] == alike[0] and world.cases.queue(world.sender) == []


def test_a_dispute_comes_before_any_number_of_audited_verdicts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases that an order is made of were chosen by the model's doubt alone, so the sure and wrong verdict was never among them."""
    monkeypatch.setattr("feedback.cases.LOOKED_AT", 3)
    app, people = make(queue__gold_fraction=0.0)
    world = World(app.state.service.root, queue__gold_fraction=0.0)
    for number in range(4):
        world.upload(JPEG + bytes([number]), verdict="real", reason="audit", p_fake=0.2)
    disputed = world.upload(JPEG + b"wrong", verdict="fake", reason="disputed", p_fake=0.99)[1]
    world.close()
    (queue,) = ask(app, ("GET", "/v1/queue", {}), key=people["rob"][1])
    assert queue.json()["cases"][0]["id"] == disputed


@pytest.mark.parametrize(
    ("reason", "p_fake", "novelty", "use"),
    [("disputed", 1.0, 0.0, 1.0), ("conflict", 1.0, None, 1.0), ("audit", 0.9, 0.0, 0.5), ("audit", 0.6, 0.0, 0.5), ("novel", 0.9, 0.7, 0.7),
     ("novel", 0.9, 9.0, 1.0), ("novel", 0.6, 0.1, 0.8), ("novel", 0.6, None, 0.8), ("uncertain", 0.6, 9.0, 0.8)],
)  # fmt: skip
def test_what_an_answer_is_worth(world: World, reason: str, p_fake: float, novelty: float | None, use: float) -> None:
    world.upload(JPEG, reason=reason, p_fake=p_fake, novelty=novelty)
    with world.database.read() as connection:
        assert connection.execute(select(use_of(CASES))).scalar_one() == pytest.approx(use)


def test_the_queue_tells_nothing_of_what_others_said(world: World) -> None:
    _, case_id = world.upload(JPEG + b"one")
    world.cases.review(world.ann, case_id, "fake", note="look at the teeth", identity="p7")
    (shown,) = world.cases.queue(world.bob)
    assert shown["answers"] == 1 and "gold" not in shown
    assert all(review["label"] == "" and review["note"] == "" and review["reviewer"] == "" and "reviewer_id" not in review for review in shown["reviews"])


@given(st.lists(st.tuples(st.floats(0, 1), st.lists(st.floats(-1, 1), min_size=3, max_size=3)), max_size=12), st.integers(0, 15))
@settings(deadline=None)
def test_the_order_is_the_greedy_one_and_repeatable(cases: list[tuple[float, list[float]]], limit: int) -> None:
    import numpy as np

    candidates = [Candidate(number, str(number), use, tuple(embedding)) for number, (use, embedding) in enumerate(cases)]
    order = in_order(candidates, [], limit)
    assert order == in_order(list(reversed(candidates)), [], limit) and len(order) == min(limit, len(cases)) == len(set(order))

    def cosine(a: Candidate, b: Candidate) -> float:
        x, y = np.array(a.embedding), np.array(b.embedding)
        length = float(np.linalg.norm(x) * np.linalg.norm(y))
        return min(1.0, max(0.0, float(x @ y) / length)) if np.linalg.norm(x) > 0 and np.linalg.norm(y) > 0 and length > 0 else 0.0

    by_id = {case.id: case for case in candidates}
    for place, case_id in enumerate(order):
        before = [by_id[one] for one in order[:place]]

        def worth(case: Candidate, before: list[Candidate] = before) -> float:
            return case.use * (1 - max((cosine(case, one) for one in before), default=0.0))

        assert worth(by_id[case_id]) >= max(worth(case) for case in candidates if case not in before) - 1e-6


def test_gold_is_mixed_in_unmarked_at_its_fraction_and_the_places_stay(world: World) -> None:
    golden = [world.upload(JPEG + b"gold" + bytes([n]), p_fake=0.1)[1] for n in range(40)]
    for case_id in golden:
        world.cases.set_gold(world.cy, case_id, "fake")
    for n in range(60):
        world.upload(JPEG + b"plain" + bytes([n]), p_fake=0.5)
    many = world.settings.feedback.model_copy(update={"queue": world.settings.feedback.queue.model_copy(update={"gold_fraction": 0.3})})
    world.cases.settings = many
    shown = world.cases.queue(world.ann, 60)
    places = [place for place, case in enumerate(shown) if case["id"] in golden]
    assert len(shown) == 60 and 6 <= len(places) <= 32 and all("gold" not in case for case in shown)
    assert {frozenset(case) for case in shown} == {frozenset(shown[0])}, "a gold case has no other fields"
    assert [case["id"] for case in world.cases.queue(world.ann, 60)] == [case["id"] for case in shown]
    world.cases.review(world.ann, shown[0]["id"], "fake")
    moved = [place + 1 for place, case in enumerate(world.cases.queue(world.ann, 59)) if case["id"] in golden]
    assert moved == [place for place in places if place > 0]


def test_the_places_of_gold_follow_the_fraction_and_the_key() -> None:
    found = [sum(len(gold_slots(b"key", f"user {n}", 0, 100, 0.05)) for n in range(100)) / 10_000]
    assert 0.04 < found[0] < 0.06
    assert gold_slots(b"key", "ann", 0, 500, 0.2) != gold_slots(b"other", "ann", 0, 500, 0.2)
    assert gold_slots(b"key", "ann", 0, 50, 0.0) == [] and gold_slots(b"key", "ann", 0, 3, 1.0) == [0, 1, 2]


# -- at the same moment -------------------------------------------------------------------------------------------------------
def _race(root: str, case_ids: list[str], actor: Actor, label: str, start: Any) -> None:
    world = World(Path(root), Path(root, "url").read_text())
    start.wait()
    for case_id in case_ids:
        try:
            world.cases.review(actor, case_id, label)
        except (AlreadyReviewed, NotReviewable):
            continue
    world.close()


def test_reviewers_in_processes_and_threads_at_once_settle_each_case_once(world: World) -> None:
    Path(world.root, "url").write_text(world.settings.feedback.database_url)
    case_ids = [world.upload(JPEG + bytes([n]))[1] for n in range(15)]
    people = [world.user(f"person{n}") for n in range(4)]
    labels = ["fake", "real", "fake", "real"]
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3, timeout=60)
    processes = [context.Process(target=_race, args=(str(world.root), case_ids, people[n], labels[n], start), daemon=True) for n in range(3)]
    for process in processes:
        process.start()

    def answer(who: Actor, label: str) -> None:
        for case_id in case_ids:
            try:
                world.cases.review(who, case_id, label)
            except (AlreadyReviewed, NotReviewable):
                continue

    threads = [threading.Thread(target=answer, args=(people[3], labels[3])) for _ in range(3)]  # one person, three tabs
    for thread in threads:
        thread.start()
    for one in [*threads, *processes]:
        one.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with world.database.read() as connection:
        standing = Counter((row.case_id, row.reviewer_id) for row in connection.execute(REVIEWS.select()))
        decided_cases = {row.id: row.label for row in connection.execute(CASES.select())}
    assert set(standing.values()) == {1}, "somebody answered a case twice"
    for case_id in case_ids:
        said = [review["label"] for review in world.case(case_id)["reviews"]]
        assert decided(said, 2) == decided_cases[case_id] != "" and (len(said) == 2) == (len(set(said)) == 1)
    assert outbox(world) == dict.fromkeys(case_ids, "waiting")
    assert audit.verify(world.database).broken_at == 0


def test_an_answer_about_media_that_were_deleted_is_not_taken_back_and_others_are_still_handed_over(make: Make) -> None:
    """It opened the case again without anything to see, and the label that came of it stopped every later hand-over."""
    app, people = make()
    world = World(app.state.service.root)
    unsure, sure = (world.upload(JPEG + bytes([number]))[1] for number in range(2))
    world.decide(sure, "fake")
    for name in ("rob", "rita"):
        ask(app, ("POST", f"/v1/cases/{unsure}/review", {"json": {"label": "unsure"}}), key=people[name][1])
    assert Retention(world.database, world.media, world.settings.feedback).sweep("2999-01-01T00:00:00+00:00")["deleted"] == 1
    (undone,) = ask(app, ("POST", f"/v1/cases/{unsure}/undo", {}), key=people["rob"][1])
    (known,) = ask(app, ("POST", f"/v1/cases/{unsure}/gold", {"json": {"label": "real"}}), key=people["emil"][1])
    assert (undone.status_code, known.status_code) == (409, 409) and "have been deleted" in undone.json()["detail"]
    assert world.case(unsure)["state"] == "decided"
    folder = export_reviewed(world.root, world.settings)
    world.close()
    assert folder is not None and [row["case_id"] for row in rows_of(folder)] == [sure]


def test_what_people_are_still_to_answer_stands_in_the_status(tmp_path: Path) -> None:
    """For weeks nobody labelled anything, and `vigil status` said that all was done."""
    open_workspace(tmp_path / "w", "demo")
    world = World(tmp_path / "w")
    try:
        assert unanswered(world.root, world.settings) == (0, "") and "answer" not in render_status(status_of(world.root, world.settings))
        case = world.upload(JPEG)[1]
        page = status_of(world.root, world.settings)
        assert page["unanswered"]["cases"] == 1
        assert f"1 waits for an answer of people, since {page['unanswered']['since'][:10]}" in render_status(page)
        world.decide(case, "real")
        assert unanswered(world.root, world.settings) == (0, "")
    finally:
        world.close()


def test_text_that_no_database_keeps_is_refused_by_both_and_so_is_a_name_of_two_lines(world: World) -> None:
    """The console's live connection and its log-in handed it on: SQLite took it, and from PostgreSQL came a traceback with all that was written."""
    upload, case = world.upload(JPEG, verdict="real", p_fake=0.1)
    for said in ({"note": "the\0 teeth"}, {"identity": "\0ana"}, {"identity": "ana\nbob"}):
        with pytest.raises(ValueError, match=r"NUL|line breaks"):
            world.cases.review(world.ann, case, "fake", **said)
    accounts = Accounts(world.database, Secret(b"s" * 32), world.settings.feedback)
    for refused_too in (
        lambda: accounts.log_in("a\0nn", "some password"),
        lambda: world.cases.undo(world.ann, f"\0{case}"),
        lambda: gathering_of(world).detections.dispute(world.sender, upload, "fake", "the\0 teeth"),
    ):
        with pytest.raises(ValueError, match="NUL"):
            refused_too()
    assert world.case(case)["answers"] == 0 and world.cases.review(world.ann, case, "fake", "the teeth", " ana ") is not None
    with pytest.raises(IntegrityError) as refused, world.database.write() as connection:
        connection.execute(
            USERS.insert().values(id="x", created_at="", name="Ann", email="ann@example.org", user_name="b", password_hash="a hash", role="viewer")
        )
    assert "a hash" not in str(refused.value), "what was written is in no log"
