"""Accuracy before anybody has looked, and after some have: on SQLite and PostgreSQL."""

import math
from statistics import NormalDist

import pytest

from feedback import estimate
from feedback.access import Role
from feedback.work.judging import case_reason
from model.estimate import LEAST_LABELS
from tests.feedback.world import JPEG, MODEL, World
from workspace.files import sha256_bytes

DAYS = 7


def picture(number: int) -> bytes:
    return JPEG + number.to_bytes(4, "big")


def test_nothing_is_estimated_of_nothing(world: World) -> None:
    assert estimate.by_model(world.database, DAYS) == []


def test_without_labels_the_probabilities_speak_and_uncertain_verdicts_do_not_count(world: World) -> None:
    world.upload(picture(1), verdict="fake", reason="", p_fake=0.9)
    world.upload(picture(2), verdict="real", reason="", p_fake=0.2)
    world.upload(picture(3), verdict="uncertain", p_fake=0.5)
    (found,) = estimate.by_model(world.database, DAYS)
    assert (found["n"], found["labels"], found["corrected"]) == (2, 0, False)
    assert found["value"] == pytest.approx(0.85, abs=0.02) and found["low"] < 0.85 < found["high"]


def test_the_share_of_fakes_is_that_of_all_the_traffic_the_uncertain_too(world: World) -> None:
    """Of exactly calibrated scores, the middle cut away: where 0.76 were right it said 0.87."""
    draws, right = NormalDist(), []
    for number in range(160):
        fake, logit = number % 2 == 0, 2 * draws.inv_cdf((number // 2 + 0.5) / 80)
        p_fake = 1 / (1 + math.exp(-(logit + (2 if fake else -2))))  # log-likelihood ratio of two normal classes, two spreads apart
        verdict = "real" if p_fake < 0.79 else "fake" if p_fake >= 0.98 else "uncertain"
        world.upload(picture(number), verdict=verdict, reason="uncertain" if verdict == "uncertain" else "", p_fake=p_fake)
        right += [fake == (verdict == "fake")] if verdict != "uncertain" else []
    (found,) = estimate.by_model(world.database, DAYS)
    truth = sum(right) / len(right)
    assert found["n"] == len(right) < 140 and found["value"] == pytest.approx(truth, abs=0.02) and found["low"] < truth < found["high"]


def test_a_file_that_comes_again_counts_once_a_model(world: World) -> None:
    for _ in range(3):
        world.upload(picture(1), verdict="fake", reason="", p_fake=0.9)
    assert [row["n"] for row in estimate.by_model(world.database, DAYS)] == [1]


def test_audited_verdicts_correct_it_and_chosen_ones_do_not(world: World) -> None:
    for number in range(2 * LEAST_LABELS):
        world.upload(picture(number), verdict="fake", reason="", p_fake=0.95)
    before = estimate.by_model(world.database, DAYS)[0]
    for number in range(LEAST_LABELS):  # disputed ones are chosen for being wrong
        _, case_id = world.upload(picture(100 + number), verdict="fake", reason="disputed", p_fake=0.95)
        world.decide(case_id, "real")
    still = estimate.by_model(world.database, DAYS)[0]
    assert not still["corrected"] and still["value"] == pytest.approx(before["value"], abs=0.01)
    for number in range(LEAST_LABELS):
        _, case_id = world.upload(picture(200 + number), verdict="fake", reason="audit", p_fake=0.95)
        world.decide(case_id, "real" if number % 2 else "fake")
    after = estimate.by_model(world.database, DAYS)[0]
    assert after["corrected"] and (after["labels"], after["right"]) == (LEAST_LABELS, LEAST_LABELS // 2)
    assert after["value"] == pytest.approx(0.5, abs=0.01) and after["low"] < 0.5 < after["high"] < before["value"]


def test_an_audited_verdict_that_is_disputed_too_stays_in_the_sample(world: World) -> None:
    """People dispute what is wrong: were these left out, the errors would leave the sample first."""
    for number in range(2 * LEAST_LABELS):
        detection, case_id = world.upload(picture(number), verdict="fake", reason="audit", p_fake=0.95)
        if number < LEAST_LABELS:
            row = {"id": detection, "sha256": sha256_bytes(picture(number)), "bytes": 1, "owner_id": world.sender.user_id, "source": "console"}
            with world.database.write() as connection:
                world.cases.open_for(connection, row, {"kind": "image"}, "disputed")
            assert world.case(case_id)["reason"] == "disputed"
        world.decide(case_id, "real" if number < LEAST_LABELS else "fake")
    (found,) = estimate.by_model(world.database, DAYS)
    assert (found["labels"], found["right"]) == (2 * LEAST_LABELS, LEAST_LABELS)


def test_what_an_engineer_makes_of_a_drawn_case_takes_no_error_out_of_the_sample(world: World) -> None:
    """Known cases are chosen among those where the model was wrong, and odd files go into quarantine: twenty of forty wrong were none of twenty."""
    eng = world.user("eng", Role.engineer)
    cases = [world.upload(picture(number), verdict="real", reason="audit", p_fake=0.05)[1] for number in range(4 * LEAST_LABELS)]
    for number, case_id in enumerate(cases):
        world.decide(case_id, "fake" if number % 2 else "real")
    before = estimate.by_model(world.database, DAYS)
    assert (before[0]["labels"], before[0]["right"]) == (4 * LEAST_LABELS, 2 * LEAST_LABELS)
    for number, case_id in enumerate(cases):
        if number % 4 == 1:
            world.cases.set_gold(eng, case_id, "fake")
        elif number % 4 == 3:
            world.cases.quarantine(eng, case_id, "odd compression, not for training")
    assert estimate.by_model(world.database, DAYS) == before


def test_a_drawn_case_in_quarantine_that_nobody_answered_still_waits(world: World) -> None:
    """Else who looks at the file first would choose what counts."""
    eng = world.user("eng", Role.engineer)
    cases = [world.upload(picture(number), verdict="fake", reason="audit", p_fake=0.95)[1] for number in range(4 * LEAST_LABELS)]
    for case_id in cases[: LEAST_LABELS // 2]:
        world.cases.quarantine(eng, case_id, "odd compression, not for training")
    for case_id in cases[LEAST_LABELS // 2 :]:
        world.decide(case_id, "fake")
    (found,) = estimate.by_model(world.database, DAYS)
    assert (found["labels"], found["ahead"]) == (0, 4 * LEAST_LABELS - LEAST_LABELS // 2)
    world.cases.release(eng, cases[0])
    world.decide(cases[0], "fake")
    (found,) = estimate.by_model(world.database, DAYS)
    assert (found["labels"], found["ahead"]) == (4 * LEAST_LABELS - LEAST_LABELS // 2 + 1, 0)


def test_errors_that_are_asked_about_first_do_not_stand_for_those_still_waiting(world: World) -> None:
    """Disputed ones come first in the queue, and are wrong: answered half, the draw said 0.54 where 0.95 were right."""
    wrong = set(range(3, 80, 20))
    cases = [world.upload(picture(number), verdict="fake", reason="audit", p_fake=0.95)[1] for number in range(80)]
    for number in wrong:
        world.decide(cases[number], "real")
    (found,) = estimate.by_model(world.database, DAYS)
    assert (found["labels"], found["corrected"], found["ahead"]) == (0, False, len(wrong))
    for number in range(40):
        if number not in wrong:
            world.decide(cases[number], "fake")
    (found,) = estimate.by_model(world.database, DAYS)
    assert (found["labels"], found["right"], found["ahead"]) == (41, 38, 1) and found["value"] == pytest.approx(38 / 41, abs=0.01)


def test_one_case_that_nobody_settles_does_not_stop_the_count(world: World) -> None:
    cases = [world.upload(picture(number), verdict="fake", reason="audit", p_fake=0.95)[1] for number in range(2 * LEAST_LABELS)]
    world.cases.review(world.ann, cases[0], "real")
    world.cases.review(world.bob, cases[0], "fake")
    for case_id in cases[1:]:
        world.decide(case_id, "fake")
    (found,) = estimate.by_model(world.database, DAYS)
    assert (found["labels"], found["corrected"], found["ahead"]) == (2 * LEAST_LABELS - 1, True, 0)


def test_what_was_drawn_is_shown_as_it_came(world: World) -> None:
    """However near the threshold, and however like one another."""
    cases = [world.upload(picture(number), verdict="fake", reason="audit", p_fake=p, embedding=[1.0, 0.0])[1] for number, p in enumerate((0.99, 0.6, 0.95))]
    assert [case["id"] for case in world.cases.queue(world.ann)] == cases


@pytest.mark.parametrize("world", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_a_part_that_was_raised_meanwhile_counts_for_what_it_was_drawn_from(world: World) -> None:
    for number in range(200):
        part = 0.1 if number < 100 else 1.0
        wrong, drawn = number >= 100 and number % 2, number % 10 == 0 or number >= 100
        _, case_id = world.upload(picture(number), verdict="fake", reason="audit" if drawn else "", p_fake=0.95, audit_fraction=part)
        if drawn:
            world.decide(case_id, "real" if wrong else "fake")
    (found,) = estimate.by_model(world.database, DAYS)
    assert (found["labels"], found["right"]) == (110, 60)
    assert found["value"] == pytest.approx(0.75, abs=0.01), "0.55 where each drawn verdict counts alike"


@pytest.mark.parametrize("world", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_files_that_are_sent_often_have_no_more_chances_to_be_drawn(world: World) -> None:
    """Each upload was drawn anew: what was sent sixty times, and wrong, was in nearly every sample, and the estimate far below the truth."""
    truth, right, often = {}, 0, 12
    for number in range(300):
        answer = {"verdict": "real", "p_fake": 0.05, "reason": "", "model_sha256": MODEL}
        label = "fake" if number < often or number % 20 == 0 else "real"
        right += label == "real"
        for _ in range(20 if number < often else 1):
            reason = case_reason(sha256_bytes(picture(number)), answer, b"key", 0.2)
            _, case_id = world.upload(picture(number), verdict="real", reason=reason, p_fake=0.05)
            truth |= {case_id: label} if case_id else {}
    for case_id, label in truth.items():
        world.decide(case_id, label)
    (found,) = estimate.by_model(world.database, DAYS)
    assert found["corrected"] and found["n"] == 300 and found["low"] <= right / 300 <= found["high"]
