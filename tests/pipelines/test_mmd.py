"""The drift test is calibrated: it alarms as often as alpha says when nothing changed, and nearly always when something did."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mmd import _many_mmd, gram, joint_features, mmd_test, unbiased_mmd

ALPHA, RUNS = 0.1, 120


def people(rng: np.random.Generator, count: int, videos: int = 3, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Points [count * videos, 8]: one centre a person, far apart, and videos close round it."""
    centres = rng.normal(size=(count, 8)) + shift / np.sqrt(8)
    points = np.repeat(centres, videos, axis=0) + 0.2 * rng.normal(size=(count * videos, 8))
    return points, np.repeat([f"p{rng.integers(1 << 40)}" for _ in range(count)], videos)


def p_value(seed: int, shift: float) -> float:
    rng = np.random.default_rng(seed)
    (old, who_old), (new, who_new) = people(rng, 20), people(rng, 12, shift=shift)
    sides = np.r_[np.zeros(len(old), bool), np.ones(len(new), bool)]
    return mmd_test(np.vstack([old, new]), sides, np.r_[who_old, who_new], permutations=99, seed=seed).p_value


def test_false_alarms_come_as_often_as_alpha_says() -> None:
    alarms = np.mean([p_value(seed, 0.0) < ALPHA for seed in range(RUNS)])
    assert ALPHA - 0.09 < alarms < ALPHA + 0.09  # three standard errors of 120 draws at 10%


def test_a_shift_of_the_new_week_is_found() -> None:
    assert np.mean([p_value(seed, 2.5) < ALPHA for seed in range(30)]) > 0.9


def test_shuffling_single_videos_would_cry_drift_over_new_people() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for seed in range(20):
        (old, _), (new, _) = people(rng, 20), people(rng, 12)
        sides = np.r_[np.zeros(len(old), bool), np.ones(len(new), bool)]
        each = np.array([str(number) for number in range(len(sides))])
        alarms += mmd_test(np.vstack([old, new]), sides, each, permutations=99, seed=seed).p_value < ALPHA
    assert alarms > 10  # the reason why blocks change sides as a whole


def by_definition(kernel: np.ndarray, new: np.ndarray) -> float:
    a, b = np.flatnonzero(new), np.flatnonzero(~new)
    expected = np.mean([kernel[i, j] for i in a for j in a if i != j]) + np.mean([kernel[i, j] for i in b for j in b if i != j])
    return float(expected - 2 * np.mean([kernel[i, j] for i in a for j in b]))


def test_the_statistic_agrees_with_its_definition() -> None:
    rng = np.random.default_rng(0)
    points, new = rng.normal(size=(7, 3)), np.array([True, True, True, False, False, False, False])
    kernel = gram(points)
    assert unbiased_mmd(kernel, new) == pytest.approx(by_definition(kernel, new))


def test_same_seed_same_answer() -> None:
    assert p_value(5, 0.5) == p_value(5, 0.5)


def test_one_person_on_a_side_cannot_be_tested() -> None:
    with pytest.raises(ValueError, match="two blocks"):
        mmd_test(np.zeros((4, 1)), np.array([True, True, False, False]), np.array(["a", "a", "b", "c"]), permutations=99, seed=0)


def test_unknown_quality_becomes_the_columns_median_and_each_part_weighs_the_same() -> None:
    rng = np.random.default_rng(0)
    features = joint_features(100 * rng.normal(size=(50, 4)), np.c_[rng.normal(size=50), np.r_[np.nan, rng.normal(size=49)], np.full(50, np.nan)])
    assert np.isfinite(features).all()
    assert features[:, :4].var(axis=0).sum() == pytest.approx(1) and features[:, 4:].var(axis=0).sum() == pytest.approx(1)


def irregular(rng: np.random.Generator, sizes: list[int], shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """People of whom each has so many videos; half of what a video shows is its person's."""
    points = [rng.normal(size=8) / np.sqrt(2) + shift / np.sqrt(8) + rng.normal(size=(size, 8)) / np.sqrt(2) for size in sizes]
    return np.concatenate(points), np.repeat([f"p{rng.integers(1 << 40)}" for _ in sizes], sizes)


@pytest.mark.parametrize(
    ("known", "incoming"),
    [
        ([4] * 60, [1] * 40 + [20]),
        ([2] * 60, [1] * 30 + [40]),
        ([6] * 60, [1] * 15),
        ([3] * 60, [1] * 10 + [10] * 10),
        ([1] * 59 + [60], [1] * 40),
        ([1] * 20, [5] * 60),
    ],
)
def test_who_sends_more_than_others_is_no_drift(known: list[int], incoming: list[int]) -> None:
    """Where videos counted, one person of twenty beside forty of one was a drift in a third of right weeks."""

    def found(seed: int, shift: float = 0.0) -> float:
        rng = np.random.default_rng(seed)
        (old, who_old), (new, who_new) = irregular(rng, known), irregular(rng, incoming, shift)
        sides = np.r_[np.zeros(len(old), bool), np.ones(len(new), bool)]
        return mmd_test(np.vstack([old, new]), sides, np.r_[who_old, who_new], permutations=99, seed=seed).p_value

    assert np.mean([found(seed) < ALPHA for seed in range(60)]) < ALPHA + 0.12  # three standard errors of 60 draws at 10%
    assert np.mean([found(seed, 2.5) < ALPHA for seed in range(20)]) > 0.9


@given(st.integers(0, 1000), st.integers(4, 30))
def test_many_ways_at_once_give_what_each_gives_alone(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    kernel = gram(rng.normal(size=(rows, 3)))
    ways = rng.random((12, rows)) < 0.5
    ways[:, :2], ways[:, 2:4] = True, False  # two on each side
    for way, found in zip(ways, _many_mmd(kernel, ways), strict=True):
        assert found == pytest.approx(by_definition(kernel, way), abs=1e-9)
