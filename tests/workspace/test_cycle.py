"""Cycle ids, cycle.yaml, and when a scheduled cycle is due."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace.cycle import Cycle, cycle_id, due_week, iso_week, next_cycle_id, read_cycle, restore_cycle, week_ahead, write_cycle
from workspace.errors import WorkspaceError
from workspace.journal import NO_HASH, Event
from workspace.settings import ScheduleSettings

MONDAY_THREE = ScheduleSettings()
GOOD = {"cycle": "2026-W47.1", "seed": 1, "batches": ("b1", "b2"), "judged": ("b2",)}
BERLIN = "Europe/Berlin"


def opened(week: str, scheduled: bool = True, number: int = 1) -> Event:
    return Event(1, "", "cycle_opened", NO_HASH, NO_HASH, {"cycle": f"{week}.{number}", "week": week, "scheduled": scheduled})


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_a_cycle_survives_the_file_and_gives_the_same_bytes(tmp_path):
    cycle = Cycle(
        cycle="2026-W47.2",
        seed=7,
        batches=("b2", "b1", "b2"),
        judged=("b2",),
        base_model="a" * 64,
        base_cycle="2026-W46.1",
        anchor_model="b" * 64,
        anchor_cycle="2026-W38.1",
        vouched=("b2",),
        known_generators=("x",),
        drawn_forgers=("z", "a", "z"),
        waiting_forgers=("w",),
    )
    first = write_cycle(tmp_path, cycle).read_bytes()
    assert read_cycle(tmp_path) == cycle
    assert write_cycle(tmp_path, read_cycle(tmp_path)).read_bytes() == first
    assert cycle.batches == ("b1", "b2") and cycle.drawn_forgers == ("z", "a") and cycle.week == "2026-W47"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cycle": "2026-47.1"}, "form"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"judged": ("b9",)}, "b9"),
        ({"refused": ("b1",)}, "refused"),
        ({"base_model": "abc"}, "sha256"),
        ({"base_model": "a" * 64, "anchor_model": "abc"}, "sha256"),
        ({"anchor_model": "a" * 64}, "no base"),
        ({"vouched": ("b9",)}, "vouched.*not under judgement"),
        ({"vouched": ("b1",)}, "vouched.*not under judgement"),
        ({"unlabelled": ("b1",)}, "unlabelled.*not under judgement"),
        ({"work": "full", "steps": 0.5}, "steps"),
        ({"work": "fine-tune", "steps": 2}, "steps"),
        ({"work": "fine-tune", "steps": 0}, "steps"),
    ],
)
def test_an_impossible_cycle_is_refused(change, says):
    with pytest.raises(WorkspaceError, match=says):
        Cycle(**{**GOOD, **change})


def test_all_of_the_holdout_judges_a_first_model_and_one_whose_batches_are_all_new():
    """Of an imported champion no batch is known: judged by known rows alone, nothing could ever take its place."""
    first, later = Cycle(**GOOD), Cycle(**GOOD, base_model="a" * 64)
    anew = Cycle(**{**GOOD, "judged": ("b1", "b2")}, base_model="a" * 64)
    assert first.judges_all and anew.judges_all and not later.judges_all


def test_a_cycle_trains_unless_all_that_is_new_was_refused_or_has_no_label():
    nothing_new = {**GOOD, "judged": ()}
    assert Cycle(**GOOD).trains and Cycle(**GOOD, refused=("b3",)).trains and Cycle(**nothing_new).trains, "the last for other settings"
    assert not Cycle(**nothing_new, refused=("b3",)).trains and not Cycle(**GOOD, unlabelled=("b2",)).trains


@pytest.mark.parametrize("lies_there", [True, False], ids=["another's", "gone"])
def test_an_open_cycle_is_what_the_journal_says_where_the_file_is_gone_or_another_s(tmp_path: Path, lies_there):
    this, other = Cycle(**GOOD, why=("new media",), waiting_forgers=("w",)), Cycle(**{**GOOD, "cycle": "2026-W46.1"})
    if lies_there:
        write_cycle(tmp_path, other)
    events = [Event(number, "", "cycle_opened", NO_HASH, NO_HASH, one.as_dict()) for number, one in enumerate((other, this), start=1)]
    assert restore_cycle(tmp_path, events, this.cycle) == this == read_cycle(tmp_path)


def test_where_the_journal_does_not_tell_an_open_cycle_whole_nothing_is_changed(tmp_path: Path):
    this, other = Cycle(**GOOD), Cycle(**{**GOOD, "cycle": "2026-W46.1"})
    write_cycle(tmp_path, other)
    told = {name: value for name, value in this.as_dict().items() if name != "waiting_forgers"}
    with pytest.raises(WorkspaceError, match=r"it is about 2026-W46\.1.*lacks waiting_forgers"):
        restore_cycle(tmp_path, [Event(1, "", "cycle_opened", NO_HASH, NO_HASH, told)], this.cycle)
    assert read_cycle(tmp_path) == other


def test_a_cycle_that_an_older_vigil_began_is_sent_to_the_upgrade_and_not_to_a_backup(tmp_path: Path):
    this = Cycle(**GOOD)
    write_cycle(tmp_path, this)
    file, told = tmp_path / "cycle.yaml", {name: value for name, value in this.as_dict().items() if name != "waiting_forgers"}
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("waiting_forgers")))
    events = [Event(1, "", "cycle_opened", NO_HASH, NO_HASH, told)]
    for read in (lambda: restore_cycle(tmp_path, events, this.cycle), lambda: read_cycle(tmp_path)):
        with pytest.raises(WorkspaceError, match="an older Vigil wrote it") as refused:
            read()
        assert "vigil upgrade" in refused.value.next_step
    whole = [Event(1, "", "cycle_opened", NO_HASH, NO_HASH, {**this.as_dict(), "cycle": "2026-W48.1"})]
    assert restore_cycle(tmp_path, whole, "2026-W48.1").cycle == "2026-W48.1", "an older file of another cycle is none of this one's"


@pytest.mark.parametrize("text", ["", "cycle: [", "- a", "cycle: 2026-W47.1\nseed: 1\n", None])
def test_a_damaged_cycle_file_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "cycle.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"cycle\.yaml"):
        read_cycle(tmp_path)


def test_unknown_and_misshapen_keys_of_a_cycle_file_are_named(tmp_path):
    path = write_cycle(tmp_path, Cycle(cycle="2026-W47.1", seed=1, batches=("b1",), judged=()))
    path.write_text(path.read_text(encoding="utf-8").replace("judged: []", "judged: b1") + "colour: red\n", encoding="utf-8")
    with pytest.raises(WorkspaceError, match="colour is unknown; judged is not a list"):
        read_cycle(tmp_path)


def test_the_week_is_that_of_the_zone():
    late = utc(2026, 11, 22, 23, 30)  # Sunday in UTC, Monday in Berlin
    assert iso_week(late) == "2026-W47" and iso_week(late, BERLIN) == "2026-W48"
    assert iso_week(utc(2027, 1, 1)) == "2026-W53"
    with pytest.raises(ValueError, match="time zone"):
        iso_week(datetime(2026, 11, 22))


def test_cycle_ids_count_within_their_week():
    assert cycle_id("2026-W47", 2) == "2026-W47.2"
    assert next_cycle_id([opened("2026-W46", number=5), opened("2026-W47", number=2)], "2026-W47") == "2026-W47.3"
    closed = Event(3, "", "cycle_closed", NO_HASH, NO_HASH, {"cycle": "2026-W47.9"})
    assert next_cycle_id([opened("2026-W47", number=4), opened("2026-W47", number=3), closed], "2026-W47") == "2026-W47.5", "those that were opened"
    for week, number in (("2026-47", 1), ("2026-W47", 0)):
        with pytest.raises(ValueError, match="cycle id"):
            cycle_id(week, number)


def test_a_week_is_due_from_its_planned_time_until_its_cycle_is_opened():
    before, at = utc(2026, 11, 16, 2, 59, 59), utc(2026, 11, 16, 3)
    assert due_week([opened("2026-W46")], MONDAY_THREE, before) is None
    assert due_week([opened("2026-W46")], MONDAY_THREE, at) == "2026-W47"
    assert due_week([opened("2026-W46"), opened("2026-W47")], MONDAY_THREE, at + timedelta(days=3)) is None


def test_a_machine_that_was_off_catches_up_once_with_the_latest_week():
    events = [opened("2026-W40")]
    assert due_week(events, MONDAY_THREE, utc(2026, 11, 16, 1)) == "2026-W46"  # before this week's time: last week's was missed
    assert due_week(events, MONDAY_THREE, utc(2026, 11, 18)) == "2026-W47"
    assert due_week([*events, opened("2026-W47")], MONDAY_THREE, utc(2026, 11, 18)) is None


def test_a_cycle_started_by_hand_does_not_use_up_the_week_and_a_skipped_week_does():
    now = utc(2026, 11, 18)
    assert due_week([opened("2026-W47", scheduled=False)], MONDAY_THREE, now) == "2026-W47"
    skipped = Event(1, "", "week_skipped", NO_HASH, NO_HASH, {"week": "2026-W47", "why": "nothing new"})
    assert due_week([skipped], MONDAY_THREE, now) is None


def test_a_clock_set_back_starts_no_second_run():
    assert due_week([opened("2026-W47")], MONDAY_THREE, utc(2026, 11, 11)) is None
    assert due_week([opened("2026-W47")], MONDAY_THREE, utc(1970, 1, 8)) is None


def test_the_repeated_hour_of_autumn_runs_once():
    schedule = ScheduleSettings(weekday="sunday", hour=2, minute=30, timezone=BERLIN)
    first, second = utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)  # both are 02:30 in Berlin
    assert first.astimezone(ZoneInfo(BERLIN)).hour == second.astimezone(ZoneInfo(BERLIN)).hour == 2
    assert due_week([opened("2026-W42")], schedule, first) == "2026-W43"
    assert due_week([opened("2026-W43")], schedule, second) is None


def test_the_skipped_hour_of_spring_is_taken_right_after_the_gap():
    schedule = ScheduleSettings(weekday="sunday", hour=2, minute=30, timezone=BERLIN)
    events = [opened("2026-W12")]
    assert due_week(events, schedule, utc(2026, 3, 29, 0, 59)) is None
    assert due_week(events, schedule, utc(2026, 3, 29, 1, 31)) == "2026-W13"


def test_a_naive_now_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        due_week([], MONDAY_THREE, datetime(2026, 11, 16))


schedules = st.builds(
    ScheduleSettings,
    weekday=st.sampled_from(["monday", "wednesday", "saturday", "sunday"]),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    timezone=st.sampled_from(["UTC", BERLIN, "America/New_York", "Pacific/Auckland", "Pacific/Kiritimati", "Asia/Kathmandu"]),
)
moments = st.datetimes(min_value=datetime(2019, 12, 20), max_value=datetime(2030, 1, 10), timezones=st.just(UTC))


@given(schedules, st.lists(moments, max_size=30))
def test_whatever_the_clock_does_no_week_runs_twice_and_none_goes_back(schedule, nows):
    events: list[Event] = []
    for now in nows:  # in any order: the clock jumps both ways
        if week := due_week(events, schedule, now):
            events.append(opened(week))
            assert due_week(events, schedule, now) is None
    weeks = [event["week"] for event in events]
    assert weeks == sorted(set(weeks))


@given(schedules, moments, st.integers(1, 40))
def test_a_machine_that_looks_every_few_hours_runs_every_week_exactly_once(schedule, start, hours):
    events: list[Event] = []
    now = start
    while now < start + timedelta(days=35):
        if week := due_week(events, schedule, now):
            events.append(opened(week))
        now += timedelta(hours=hours)
    assert len(events) in (5, 6)


@given(schedules, moments)
def test_what_is_due_was_planned_within_the_last_week(schedule, now):
    week = due_week([], schedule, now)
    zone = ZoneInfo(schedule.timezone)
    assert week in (iso_week(now, zone), iso_week(now - timedelta(days=7), zone))


def test_a_clock_that_was_years_ahead_blocks_the_weeks_until_it_is_said_to_be_mended() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    events = [Event(1, "", "week_skipped", NO_HASH, NO_HASH, {"week": "2035-W01", "why": "nothing new"})]
    assert due_week(events, ScheduleSettings(), now) is None and week_ahead(events, ScheduleSettings(), now) == "2035-W01"
    events.append(Event(2, "", "clock_mended", NO_HASH, NO_HASH, {"week": "2026-W48", "why": "2035-W01 was used up"}))
    assert due_week(events, ScheduleSettings(), now) == "2026-W48" and week_ahead(events, ScheduleSettings(), now) == ""


def test_a_mended_clock_gives_back_only_the_weeks_that_are_still_to_come() -> None:
    """The week that ran today would run again."""
    told = (("week_skipped", "2026-W48"), ("week_skipped", "2035-W01"), ("clock_mended", "2026-W48"))
    events = [Event(number, "", kind, NO_HASH, NO_HASH, {"week": week, "why": "y"}) for number, (kind, week) in enumerate(told, start=1)]
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert due_week(events, ScheduleSettings(), now) is None and due_week(events, ScheduleSettings(), now + timedelta(days=7)) == "2026-W49"


def test_a_clock_that_is_set_back_by_days_is_no_reason_to_ask() -> None:
    events = [Event(1, "", "week_skipped", NO_HASH, NO_HASH, {"week": "2026-W48", "why": "nothing new"})]
    assert week_ahead(events, ScheduleSettings(), datetime(2026, 11, 14, 12, tzinfo=UTC)) == ""
