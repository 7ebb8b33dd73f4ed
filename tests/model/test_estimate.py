"""Accuracy without labels: right where the probabilities are, and made right by a random draw where they are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.estimate import LEAST_LABELS, Moments, at_share, estimate, expected_right, share_of_fakes

THRESHOLD = 0.5


def world(rng: np.random.Generator, verdicts: int, heat: float) -> tuple[np.ndarray, np.ndarray]:
    """(expected, right) of verdicts whose true log-odds are `heat` times what the model believes: below 1 it is too sure of itself."""
    believed = rng.normal(0, 3, verdicts)
    truth = rng.random(verdicts) < 1 / (1 + np.exp(-heat * believed))
    p_fake = 1 / (1 + np.exp(-believed))
    return expected_right(p_fake, p_fake >= THRESHOLD), truth == (p_fake >= THRESHOLD)


def test_an_expected_verdict_is_as_right_as_its_probability() -> None:
    assert expected_right([0.9, 0.9, 0.2], [True, False, False]).tolist() == pytest.approx([0.9, 0.1, 0.8])


def test_calibrated_probabilities_need_no_label() -> None:
    expected, right = world(np.random.default_rng(1), 20_000, 1.0)
    found = estimate(Moments.of(expected), [], [])
    assert found is not None and not found.corrected and found.labels == 0
    assert found.value == pytest.approx(right.mean(), abs=0.01)


@pytest.mark.parametrize("fakes", [100, 1000, 1900])
def test_the_mixture_of_the_traffic_is_estimated_too(fakes: int) -> None:
    """p_fake is calibrated for classes alike, and a threshold far from a half makes one class the harder: a week of few fakes is no week of many errors."""
    rng = np.random.default_rng(fakes)
    fake = np.arange(2000) < fakes
    p_fake = 1 / (1 + np.exp(-2.0 * rng.normal(np.where(fake, 1.0, -1.0), 1.0)))  # log-likelihood ratio of two normals
    share = share_of_fakes(p_fake)
    assert share == pytest.approx(fakes / 2000, abs=0.04)
    right = (p_fake >= 0.814) == fake
    found = estimate(Moments.of(expected_right(at_share(p_fake, share), p_fake >= 0.814)), [], [])
    assert found is not None and found.value == pytest.approx(right.mean(), abs=0.03)
    as_if_half = expected_right(p_fake, p_fake >= 0.814).mean()
    assert fakes == 1000 or abs(as_if_half - right.mean()) > 0.08


@given(st.lists(st.floats(0, 1), max_size=40))
def test_a_share_of_fakes_is_within_0_and_1_and_counts_rows_or_times_alike(p_fake: list[float]) -> None:
    share = share_of_fakes(p_fake)
    assert 0 < share < 1 and share == pytest.approx(share_of_fakes([*p_fake, *p_fake[:3]], [1] * len(p_fake) + [0] * len(p_fake[:3])))
    assert np.all((at_share(p_fake, share) >= 0) & (at_share(p_fake, share) <= 1))


def test_a_model_that_is_too_sure_is_found_out_by_the_draw() -> None:
    expected, right = world(np.random.default_rng(2), 20_000, 0.2)
    blind, seen = estimate(Moments.of(expected), [], []), estimate(Moments.of(expected), expected[:400], right[:400])
    assert blind is not None and seen is not None and seen.corrected
    assert blind.low > right.mean() + 0.1  # sure, and wrong
    assert seen.low < right.mean() < seen.high and abs(seen.value - right.mean()) < 0.05


@pytest.mark.parametrize("heat", [1.0, 0.4, 0.1])
@pytest.mark.parametrize("labels", [LEAST_LABELS, 40, 150])
def test_the_interval_holds_the_truth_as_often_as_it_says(heat: float, labels: int) -> None:
    held = 0
    for seed in range(300):
        expected, right = world(np.random.default_rng([seed, labels]), 1000, heat)
        found = estimate(Moments.of(expected), expected[:labels], right[:labels])
        assert found is not None
        held += found.low <= right.mean() <= found.high
    assert held / 300 > 0.92  # 0.95 less three standard errors


@pytest.mark.parametrize("fakes", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("verdicts", [5, 20, 200])
def test_without_labels_too_it_holds_the_truth_as_often_as_it_says(fakes: float, verdicts: int) -> None:
    """Two verdicts of 0.9 gave 0.9 to 0.9, and twenty the truth in 0.4 to 0.9 of all worlds: whether each is right was no chance at all."""
    held = {"these": 0, "all": 0}
    for seed in range(300):
        rng = np.random.default_rng([seed, verdicts])
        fake = rng.random(verdicts) < fakes
        p_fake = 1 / (1 + np.exp(-rng.normal(np.where(fake, 4.5, -4.5), 3.0)))  # log-likelihood ratio of two normals
        right = (p_fake >= THRESHOLD) == fake
        found = estimate(Moments.of(expected_right(at_share(p_fake, share_of_fakes(p_fake)), p_fake >= THRESHOLD)), [], [])
        assert found is not None
        held["these"] += found.low <= right.mean() <= found.high
        held["all"] += found.low <= 0.93319 <= found.high  # the normal distribution at 1.5
    assert min(held.values()) / 300 > 0.92


def test_a_draw_without_an_error_is_not_certainty() -> None:
    found = estimate(Moments.of(np.full(1000, 0.999)), np.full(20, 0.999), np.full(20, True))
    assert found is not None and found.low < 0.95 and found.high <= 1.0


@given(st.lists(st.floats(0, 1), max_size=40), st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40))
def test_it_is_a_share_with_an_interval_around_it_or_nothing(expected: list[float], drawn: list[tuple[float, bool]]) -> None:
    found = estimate(Moments.of(expected), [one for one, _ in drawn], [right for _, right in drawn])
    if not expected:
        assert found is None
        return
    assert found is not None and 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == len(expected) and found.labels == len(drawn) and found.corrected == (len(drawn) >= LEAST_LABELS)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_databases_sums_say_what_the_values_say(values: list[float]) -> None:
    one, two = Moments.of(values), Moments.of_sums(len(values), float(np.mean(values)), float(np.mean(np.square(values))))
    assert (one.n, one.mean) == (two.n, two.mean) and one.variance == pytest.approx(two.variance, abs=1e-9)


def test_a_part_that_was_drawn_more_often_stands_for_fewer() -> None:
    """One in a hundred of 10,000 that were 95% right, one in five of 2,000 that were 70% right: as if all were drawn alike it said 0.76."""
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        right, part = rng.random(12_000) < np.repeat([0.95, 0.70], [10_000, 2_000]), np.repeat([0.01, 0.2], [10_000, 2_000])
        drawn, expected = rng.random(12_000) < part, np.full(12_000, 0.95)
        found = estimate(Moments.of(expected), expected[drawn], right[drawn], 1 / part[drawn])
        blind = estimate(Moments.of(expected), expected[drawn], right[drawn])
        assert found is not None and blind is not None and blind.high < right.mean() - 0.05
        held += found.low <= right.mean() <= found.high
    assert held >= 36


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.floats(0.01, 100))
def test_drawn_alike_it_is_as_if_nothing_were_said_of_it(right: list[bool], times: float) -> None:
    expected = np.linspace(0.6, 0.99, len(right))
    one, other = (estimate(Moments.of(expected), expected, right, weight) for weight in (None, [times] * len(right)))
    assert one is not None and other is not None
    assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))
