"""Novelty: familiar media raise no more alarms than promised, strange ones do, and too few clips promise nothing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.novelty import ALARMS, fit_novelty, is_novel, novelty


def familiar(rng: np.random.Generator, people: int, each: int = 2) -> tuple[np.ndarray, list[str]]:
    """Embeddings [N, 8] of so many people, each with a place of its own."""
    centres = rng.normal(0, 1, (people, 8)) * np.arange(1, 9)
    rows = np.repeat(centres, each, axis=0) + rng.normal(0, 0.3, (people * each, 8))
    return rows, [f"p{person}" for person in range(people) for _ in range(each)]


def test_familiar_media_raise_about_as_many_alarms_as_promised() -> None:
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(40):
        rows, people = familiar(rng, 300)
        known = fit_novelty(rows, people)
        assert known["bound"] is not None and known["people"] == 150
        alarms += [is_novel(known, [row]) for row in familiar(rng, 50, 1)[0]]
    assert np.mean(alarms) < 2.5 * ALARMS


def test_strange_media_are_noticed_and_familiar_ones_lie_near_one() -> None:
    rng = np.random.default_rng(1)
    known = fit_novelty(*familiar(rng, 300))
    mine = [novelty(known, row) for row in familiar(rng, 100, 1)[0]]
    assert 0.8 < np.mean(mine) < 1.3
    assert is_novel(known, familiar(rng, 3, 1)[0] + 40 * np.arange(1, 9))


def test_one_strange_clip_among_familiar_ones_is_no_strange_video() -> None:
    rng = np.random.default_rng(2)
    known = fit_novelty(*familiar(rng, 300))
    assert not is_novel(known, [*familiar(rng, 1, 4)[0], np.full(8, 1e4)])
    assert not is_novel(known, [familiar(rng, 1, 1)[0][0], np.full(8, 1e4)]), "half is not most"


@given(people=st.integers(0, 60), each=st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_too_few_people_give_no_bound_and_no_alarm_however_many_clips_they_have(people: int, each: int) -> None:
    known = fit_novelty(*familiar(np.random.default_rng(people), people, each)) if people else fit_novelty([], [])
    assert known["bound"] is None and not is_novel(known, [np.full(8, 1e6)])
    assert not is_novel(None, [np.zeros(8)])


def test_a_dimension_that_never_moves_does_not_divide_by_zero() -> None:
    rows, people = familiar(np.random.default_rng(3), 300)
    rows[:, 0] = 5.0
    known = fit_novelty(rows, people)
    assert np.isfinite(known["bound"]) and not is_novel(known, rows[:1])
