"""What the journal says: folds, and the rules of batch states."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workspace.batches import ALLOWED, set_batch_state
from workspace.errors import WorkspaceError
from workspace.journal import NO_HASH, Event, Journal
from workspace.state import (
    BATCH_STATES,
    IMPORTED,
    anchor,
    batch_states,
    candidates,
    champion,
    cycles,
    decided,
    led_to_champion,
    model_states,
    open_cycle,
    previous,
    promoted,
    promoted_cycles,
    rolled_back_from,
    was_rolled_back,
)


def event(kind: str, **fields) -> Event:
    return Event(1, "2026-11-16T03:00:00.000+00:00", kind, NO_HASH, NO_HASH, fields)


def promotion(cycle: str) -> Event:
    return event("promotion", cycle=cycle, model_sha256=f"sha-{cycle}", path=f"models/{cycle}", previous_sha256="", who="w", why="y")


def rollback(cycle: str) -> Event:
    return event("rollback", cycle=cycle, model_sha256=f"sha-{cycle}", path=f"models/{cycle}", who="w", why="y")


def opened(cycle: str) -> Event:
    return event("cycle_opened", cycle=cycle, judged=["b"], base_model="", fingerprint="f", scheduled=True, week=cycle[:8])


def closed(cycle: str, outcome: str = "held") -> Event:
    return event("cycle_closed", cycle=cycle, outcome=outcome, reason="because", verdict_sha256="v")


def test_an_empty_journal_has_no_state():
    assert batch_states([]) == {} and champion([]) is None and previous([]) is None and cycles([]) == [] and open_cycle([]) is None


def test_the_champion_is_the_last_promoted_and_keeps_its_version_through_rollbacks():
    events = [promotion("a"), promotion("b"), promotion("c")]
    assert champion(events).version == 3 and previous(events).cycle == "b"
    events.append(rollback("b"))
    assert (champion(events).cycle, champion(events).version, champion(events).path) == ("b", 2, "models/b")
    assert previous(events).cycle == "a"  # two rollbacks go back two models, never to the one just left
    events.append(rollback("a"))
    assert champion(events).cycle == "a" and previous(events) is None
    events.append(promotion("d"))
    assert champion(events).version == 4 and previous(events).cycle == "a"


def test_a_rollback_to_a_model_that_was_never_promoted_gives_no_champion():
    assert champion([promotion("a"), rollback("x")]) is None


def test_a_model_that_is_promoted_twice_in_the_journal_keeps_its_place_and_its_card():
    first = event("promotion", cycle="a", model_sha256="m", path="models/a", card_sha256="c")
    events = [first, promotion("b"), event("promotion", cycle="a", model_sha256="other", path="p", card_sha256="d")]
    assert (promoted(events)["a"].version, promoted(events)["a"].model_sha256, promoted(events)["a"].card_sha256) == (1, "m", "c")
    assert champion(events).cycle == "a"


def test_only_the_last_word_says_whether_somebody_went_back():
    """After one rollback the journal would override the registry's alias for ever."""
    events = [promotion("a"), promotion("b"), rollback("a")]
    assert was_rolled_back(events) and not was_rolled_back([*events, promotion("c")]) and not was_rolled_back(events[:2])


def test_promoted_cycles_are_those_that_a_person_promoted_too_and_none_that_was_held():
    events = [opened("a"), closed("a", "held"), promotion("a"), opened("b"), closed("b", "promoted"), opened("c"), closed("c", "held")]
    assert promoted_cycles(events) == {"a", "b"}


def test_an_open_cycle_is_one_that_was_opened_and_not_closed():
    events = [opened("2026-W46.1"), closed("2026-W46.1", "promoted"), opened("2026-W47.1")]
    assert open_cycle(events).cycle == "2026-W47.1" and open_cycle(events).week == "2026-W47"
    assert open_cycle([*events, closed("2026-W47.1")]) is None
    first, second = cycles([*events, event("candidate", cycle="2026-W47.1", model_sha256="m", path="p"), closed("2026-W47.1")])
    assert (first.outcome, second.outcome, second.model_sha256, second.reason) == ("promoted", "held", "m", "because")


def test_a_cycle_closes_once_and_cannot_close_unopened():
    events = [closed("x"), opened("x"), closed("x", "held"), closed("x", "promoted")]
    assert [cycle.outcome for cycle in cycles(events)] == ["held"]


def test_of_several_open_cycles_the_latest_is_the_open_one():
    assert open_cycle([opened("a"), opened("b"), opened("c"), closed("c")]).cycle == "b"


def test_a_cycle_knows_all_that_it_learns_from_and_the_settings_its_candidate_was_made_with():
    first = event("cycle_opened", cycle="a", judged=["b2"], batches=["b1", "b2"], base_model="", fingerprint="f", scheduled=False, week="w")
    again = event("cycle_opened", cycle="a", judged=["b3"], base_model="", fingerprint="g", scheduled=False, week="w")
    made = {"cycle": "a", "model_sha256": "m", "path": "p"}
    assert cycles([first])[0].batches == ("b1", "b2") and cycles([opened("z")])[0].batches == ("b",), "the last from before batches were journalled"
    assert [(one.fingerprint, one.judged) for one in cycles([first, event("candidate", **made, fingerprint="h"), again])] == [("h", ("b2",))]
    assert cycles([first, event("candidate", **made)])[0].fingerprint == "f"


def test_candidates_know_whether_they_were_promoted():
    made = [event("candidate", cycle=name, model_sha256=f"sha-{name}", path=f"models/{name}") for name in "ab"]
    assert {name: model.version for name, model in candidates([*made, promotion("b")]).items()} == {"a": 0, "b": 1}


def made(cycle: str) -> Event:
    return event("candidate", cycle=cycle, model_sha256=f"sha-{cycle}", path=f"models/{cycle}")


def test_what_each_model_is_now_and_why():
    """The console called the candidate of an unfinished cycle held back, and knew of an imported champion neither why nor when."""
    imported = event("promotion", cycle=IMPORTED, model_sha256="sha-i", path="models/imported", previous_sha256="", who="ann", why="imported: from the lab")
    events = [imported, opened("x"), made("x"), closed("x"), opened("y"), made("y")]
    told = [(one.cycle, one.role, one.version, one.why, one.at) for one in model_states(events)]
    first = (IMPORTED, "champion", 1, "imported: from the lab", imported.time)
    assert told == [first, ("x", "held", 0, "because", imported.time), ("y", "candidate", 0, "", "")]
    events += [promotion("y"), closed("y", "promoted"), opened("z"), made("z"), promotion("z"), closed("z", "promoted")]
    assert [one.role for one in model_states(events)] == ["earlier", "held", "previous", "champion"]
    assert [one.role for one in model_states([*events, rollback("y")])] == ["previous", "held", "champion", "earlier"]


def test_an_imported_model_is_a_candidate_though_no_cycle_made_it():
    assert {name: model.version for name, model in candidates([promotion(IMPORTED), promotion("b")]).items()} == {IMPORTED: 1}


names = st.sampled_from("abcd")


@given(st.lists(st.one_of(names.map(promotion), names.map(rollback)), max_size=12))
def test_a_champion_was_always_promoted_and_is_never_its_own_predecessor(events):
    leading, before = champion(events), previous(events)
    assert leading is None or leading in promoted(events).values()
    assert before is None or (before in promoted(events).values() and before != leading)


@given(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from(BATCH_STATES)), max_size=12))
def test_a_batch_has_the_last_state_it_was_given(changes):
    events = [event("batch_added", batch="x", source="s", samples=5, quarantined=1)]
    events += [event("batch_state", batch=batch, state=state, who="w", why="y") for batch, state in changes]
    states = batch_states(events)
    assert set(states) == {"x"} and states["x"].rows == 5
    assert states["x"].state == ([state for batch, state in changes if batch == "x"] or ["new"])[-1]


def test_a_batch_that_is_added_twice_keeps_its_state_and_its_first_count():
    """Else what a person dropped would come back as new."""
    first, again = (event("batch_added", batch="x", source="s", samples=samples, quarantined=samples - 4) for samples in (5, 6))
    states = batch_states([first, event("batch_state", batch="x", state="dropped", who="ann", why="y"), again])
    assert (states["x"].state, states["x"].rows, states["x"].quarantined) == ("dropped", 5, 1)


def journal_with(root: Path, *states: str) -> Journal:
    journal = Journal(root)
    journal.append("batch_added", batch="b1", source="s", samples=5, quarantined=0)
    for state in states:
        set_batch_state(root, "b1", state, who="ann", why="because")
    return journal


WAYS = {"new": (), "deferred": ("deferred",), "held": ("held",), "accepted": ("accepted",), "dropped": ("dropped",)}


def test_what_was_put_off_before_there_was_a_mark_is_told_by_its_sentence(tmp_path):
    journal = journal_with(tmp_path)
    said = "2026-W10.1 held: the champion changed while this cycle was paused: it was opened to beat another. Deferred: judged again with what comes in next."
    for why, marks, expected in ((said, {}, True), ("2026-W10.2 held: drift fail", {}, False), ("ana took b2 out of it", {"put_off": True}, True)):
        journal.append("batch_state", batch="b1", state="deferred", who="vigil", why=why, **marks)
        journal.append("cycle_held", cycle=why.split()[0], reason=why, defer=True, **marks)
        decision = decided(journal.events(), why.split()[0])
        assert (batch_states(journal.events())["b1"].put_off, decision is not None and decision.put_off) == (expected, expected), why
    set_batch_state(tmp_path, "b1", "held", who="ana", why=said)
    assert not batch_states(journal.events())["b1"].put_off


@pytest.mark.parametrize(("state", "to"), [pair for pair in itertools.product(BATCH_STATES, BATCH_STATES) if pair[0] != pair[1]])
def test_only_the_agreed_steps_between_batch_states_are_taken(tmp_path, state, to):
    journal = journal_with(tmp_path, *WAYS[state])
    if to in ALLOWED[state]:
        assert set_batch_state(tmp_path, "b1", to, who="ann", why="because")["state"] == to
        assert batch_states(journal.events())["b1"].state == to
    else:
        with pytest.raises(WorkspaceError, match="not changed"):
            set_batch_state(tmp_path, "b1", to, who="ann", why="because")
        assert batch_states(journal.events())["b1"].state == state


def test_the_same_state_again_adds_nothing(tmp_path):
    journal = journal_with(tmp_path, "held")
    assert set_batch_state(tmp_path, "b1", "held", who="ann", why="again") is None
    assert len(journal.events()) == 2


def test_that_a_dropped_batch_may_come_in_again_is_kept_and_can_be_taken_back(tmp_path):
    journal = journal_with(tmp_path, "dropped")
    for again in (True, True, False):
        set_batch_state(tmp_path, "b1", "dropped", who="ann", why="because", again=again)
        assert batch_states(journal.events())["b1"].again is again
    assert len(journal.events()) == 4, "the same word twice adds nothing"
    set_batch_state(tmp_path, "b1", "dropped", who="ann", why="because", again=True)
    set_batch_state(tmp_path, "b1", "held", who="ann", why="another look")
    assert not batch_states(journal.events())["b1"].again


@pytest.mark.parametrize(("batch", "who", "why"), [("b9", "ann", "x"), ("b1", " ", "x"), ("b1", "ann", "")])
def test_a_state_needs_a_known_batch_a_name_and_a_reason(tmp_path, batch, who, why):
    journal = journal_with(tmp_path)
    with pytest.raises(WorkspaceError):
        set_batch_state(tmp_path, batch, "held", who=who, why=why)
    assert len(journal.events()) == 1


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_dropped_batch_is_never_accepted_without_another_look(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("w")
    journal_with(root)
    for state in data.draw(st.lists(st.sampled_from(BATCH_STATES), max_size=8)):
        try:
            set_batch_state(root, "b1", state, who="ann", why="because")
        except WorkspaceError:
            continue
    seen = ["new", *(one["state"] for one in Journal(root).events() if one.kind == "batch_state")]
    assert ("dropped", "accepted") not in itertools.pairwise(seen)


@given(st.integers(0, 20), st.integers(0, 12), st.data())
def test_the_anchor_is_the_champion_of_so_many_promotions_ago_or_the_first(made, promotions, data):
    events = [event("promotion", cycle=f"c{number}", model_sha256=f"{number:064x}", path="", why="") for number in range(1, made + 1)]
    now = made
    if made > 1 and data.draw(st.booleans()):
        now = data.draw(st.integers(1, made))
        events.append(event("rollback", cycle=f"c{now}"))
    found = anchor(events, promotions)
    assert (found is None) == (now < 2 or not promotions)
    assert found is None or (found.cycle == f"c{max(1, now - promotions)}" and found.version < now)


def test_the_anchor_is_no_model_that_was_rolled_back_from():
    """Nothing good can be lost against it; gone back to, it counts again."""
    made = [event("promotion", cycle=f"c{number}", model_sha256=f"{number:064x}", path="", why="") for number in (1, 2, 3)]
    bad = [*made[:2], event("rollback", cycle="c1"), made[2]]
    assert rolled_back_from(bad) == {"c2"} and anchor(bad, 1).cycle == "c1"
    again = [*bad, event("rollback", cycle="c2"), event("promotion", cycle="c4", model_sha256=f"{4:064x}", path="", why="")]
    assert rolled_back_from(again) == {"c3"} and anchor(again, 1).cycle == "c2"


def test_the_anchor_lies_on_the_line_that_led_to_the_champion():
    """A rollback that was undone took the anchor away for good; behind one over several models, an abandoned one became it, and could serve again."""

    def promoted_now(*numbers):
        return [event("promotion", cycle=f"c{number}", model_sha256=f"{number:064x}", path="", why="") for number in numbers]

    undone = [*promoted_now(1, 2), event("rollback", cycle="c1"), event("rollback", cycle="c2")]
    assert anchor(undone, 8).cycle == "c1"
    assert anchor([*undone, *promoted_now(3)], 8).cycle == "c1"
    far = [*promoted_now(*range(1, 10)), event("rollback", cycle="c5"), *promoted_now(10, 11)]
    assert [model.cycle for model in led_to_champion(far)] == ["c1", "c2", "c3", "c4", "c5", "c10"]
    assert anchor(far, 3).cycle == "c4" and rolled_back_from(far) == {"c6", "c7", "c8", "c9"}
