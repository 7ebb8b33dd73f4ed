"""Novelty: familiar media raise no more alarms than promised, strange ones do, and too few clips promise nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.novelty import ALARMS, LEAST_SPREAD, fit_novelty, is_novel, novelty, video_novelty


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


def test_the_distance_is_counted_from_the_centre_in_units_of_the_spread() -> None:
    known = {"centre": [5.0, -3.0], "spread": [2.0, 0.5]}
    assert novelty(known, np.array([5.0, -3.0])) == 0
    assert novelty(known, np.array([7.0, -2.5])) == pytest.approx(1)
    assert novelty(known, np.array([5.0, -1.0])) == pytest.approx(8)


def test_of_a_video_the_median_counts_and_of_an_even_number_the_lower_one() -> None:
    known = {"centre": [0.0], "spread": [1.0], "bound": 4.0}
    rows = [np.array([float(x)]) for x in (6, 1, 5, 3, 2)]
    assert video_novelty(known, rows) == video_novelty(known, rows[:4]) == 9
    assert is_novel(known, rows) and not is_novel(known, [np.array([2.0])]), "at the bound is not beyond it"


def test_the_bound_is_of_people_who_did_not_draw_the_circle() -> None:
    """Half of them far from the middle, half near it: taken of the wrong half, or of one place more or less, the bound is another."""
    rng = np.random.default_rng(4)
    rows = rng.normal(3, 2, (240, 4))
    rows[::2] *= 0.1
    known = fit_novelty(np.repeat(rows, 2, axis=0), [f"p{number:03d}" for number in range(240) for _ in range(2)])
    assert np.allclose(known["centre"], rows[::2].mean(axis=0), atol=1e-5)
    assert np.allclose(known["spread"], np.maximum(rows[::2].std(axis=0), LEAST_SPREAD), atol=1e-5)
    others = np.sort([novelty(known, row) for row in rows[1::2]])
    assert known["people"] == len(others) == 120
    assert known["bound"] == others[math.ceil(121 * (1 - ALARMS)) - 1]


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
