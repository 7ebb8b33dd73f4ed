"""Paired comparisons: equal to the textbook where the textbook has it, calibrated where people bring several videos."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from model.intervals import paired_difference
from model.metrics import auc
from model.paired import Paired, detectable, holm, log_losses, needed, of_both, p_greater, paired_auc, paired_balanced_accuracy, paired_mean, shift_within


def world(seed: int, people: int, videos: int, shift: float = 0.0) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
    """Reals and fakes of people whose videos are alike; two models that agree in part. `shift` makes the challenger better."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(people), videos)
    fake = np.arange(people)[cluster] % 2 == 1
    shared = rng.normal(size=people)[cluster] * 0.7 + rng.normal(size=cluster.size) * 0.5
    one, two = (shared + rng.normal(size=people)[cluster] * 0.4 + rng.normal(size=cluster.size) * 0.5 for _ in range(2))
    return fake, one + (1.5 + shift) * fake, two + 1.5 * fake, cluster.astype(str)


def test_by_hand() -> None:
    fake = np.array([False, False, True, True])
    found = paired_auc(fake, [0.1, 0.4, 0.35, 0.8], [0.1, 0.2, 0.3, 0.4], ["a", "b", "c", "d"])
    assert found is not None and found.difference == pytest.approx(0.75 - 1.0) and found.df == 1
    # Shares of won comparisons: fakes 0.5, 1.0; reals 1.0, 0.5; the champion's are all 1. Influences are (share - 0.75) / 2.
    assert found.se == pytest.approx(math.sqrt(4 * 0.125**2 * 2 / 1))
    half = paired_balanced_accuracy(fake, [False, True, True, True], [False, False, True, True], ["a", "b", "c", "d"])
    assert half is not None and half.difference == pytest.approx(-0.25)
    mean = paired_mean(np.array([False, True, True, True]), [4.0, 1.0, 2.0, 3.0], np.zeros(4), ["a", "b", "c", "d"])
    assert mean is not None and mean.difference == 3.0, "the mean of the classes' means 4 and 2, not 2.5"
    assert mean.se == pytest.approx(math.sqrt(2 * (1 / 6) ** 2 * 3 / 2))


@given(st.integers(0, 10_000), st.integers(4, 30), st.integers(1, 4))
def test_the_difference_is_that_of_the_two_aucs(seed: int, people: int, videos: int) -> None:
    fake, new, old, cluster = world(seed, people, videos)
    found, first, second = paired_auc(fake, new, old, cluster), auc(fake, new), auc(fake, old)
    assert found is not None and first is not None and second is not None
    assert found.difference == pytest.approx(first - second) and found.se >= 0
    assert first == pytest.approx(mannwhitneyu(new[fake], new[~fake]).statistic / (fake.sum() * (~fake).sum()))


def test_the_standard_error_is_the_bootstraps() -> None:
    fake, new, old, cluster = world(3, 200, 3)
    found = paired_auc(fake, new, old, cluster)
    drawn = paired_difference(fake, new, old, cluster, resamples=800, seed=1, confidence=0.6827)
    assert found is not None and drawn.low is not None and drawn.high is not None
    assert found.se == pytest.approx((drawn.high - drawn.low) / 2, rel=0.12)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=12))
def test_degrees_of_freedom_are_those_of_the_spread_of_such_people(videos: list[int]) -> None:
    """By the matrix that makes the squares out of the people's means, which all differ alike (Bell and McCaffrey 2002)."""
    held = np.array(videos) / sum(videos)
    centred = np.eye(held.size) - np.outer(np.ones(held.size), held)
    squares = centred.T @ np.diag(held**2 / (1 - held)) @ centred
    cluster = np.repeat(np.arange(held.size), videos).astype(str)
    found = paired_mean(np.full(cluster.size, True), np.random.default_rng(0).normal(size=cluster.size), np.zeros(cluster.size), cluster)
    assert found is not None and found.df == pytest.approx(np.trace(squares) ** 2 / np.trace(squares @ squares), abs=0.51)
    assert found.df == held.size - 1 or len(set(videos)) > 1


@pytest.mark.parametrize(("people", "prolific"), [(10, 30), (30, 60), (100, 100)])
def test_one_person_with_most_of_the_videos_is_not_believed_for_all(people: int, prolific: int) -> None:
    """His own mean is nearly the mean of all, so that he seemed to differ from nobody: equal models were told apart in one draw of eight at 1%."""
    told = 0
    for seed in range(120):
        rng, videos = np.random.default_rng(seed), [1] * (people - 1) + [prolific]
        cluster = np.repeat(np.arange(people), videos)
        new, old = (rng.normal(size=people)[cluster] * 0.8 + rng.normal(size=cluster.size) * 0.5 for _ in range(2))
        found = paired_mean(np.full(cluster.size, True), new, old, cluster.astype(str))
        assert found is not None
        told += p_greater(-found.difference, found.se, found.df, 0.0) < 0.01
    assert told <= 5  # more has a chance of one in two thousand at 1%


@pytest.mark.parametrize(("alone", "prolific"), [(60, 1), (60, 60), (60, 180), (9, 30)])
def test_the_spread_told_is_the_spread_there_is_however_much_one_person_has(alone: int, prolific: int) -> None:
    """It was half of it where one had three videos in four, and what lay at a bound failed by it "beyond noise"."""
    videos = [prolific] + [1] * alone
    cluster, found = np.repeat(np.arange(alone + 1), videos), []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        gain = rng.normal(size=alone + 1)[cluster] * 0.7 + rng.normal(size=cluster.size) * 0.7
        found.append(paired_mean(np.full(cluster.size, True), gain, np.zeros(cluster.size), cluster.astype(str)))
    truth, told = np.std([one.difference for one in found if one]), np.mean([one.se for one in found if one])
    assert 0.8 * truth < told < 1.2 * truth, (truth, told)


def test_a_lopsided_class_does_not_hide_what_the_other_lost() -> None:
    """Most of the fakes of thirty people are lost, beside reals of which one person has three in four: by these alone nothing could be shown."""
    cluster = np.array(["r0"] * 30 + [f"r{number}" for number in range(1, 11)] + [f"f{number // 2}" for number in range(60)])
    fake, shown = np.arange(100) >= 40, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = paired_balanced_accuracy(fake, np.where(fake, rng.random(100) < 0.2, rng.random(100) < 0.05), fake, cluster)
        shown += found is not None and p_greater(-found.difference, found.se, found.df, 0.02) < 0.01
    assert shown >= 18


def test_one_person_with_many_videos_counts_once() -> None:
    fake, new, old, cluster = world(5, 60, 1)
    once, copied = paired_auc(fake, new, old, cluster), paired_auc(*(np.repeat(row, 7) for row in (fake, new, old, cluster)))
    assert once is not None and copied is not None
    assert (copied.difference, copied.se, copied.df) == pytest.approx((once.difference, once.se, once.df))


def test_the_spread_of_a_class_of_few_people_is_that_of_a_sample_of_so_few() -> None:
    """With two people of 302 in one class it was too small by a factor of 1.4: the correction was that of 302."""
    fake, gain = np.arange(302) < 2, np.r_[1.0, np.zeros(301)]
    found = paired_mean(fake, gain, np.zeros(302), np.arange(302))
    assert found is not None and found.df == 1 and found.se == pytest.approx(np.std([1.0, 0.0], ddof=1) / math.sqrt(2) / 2)
    both = paired_mean([True, False, True, False], [1.0, 1.0, 0.0, 0.0], np.zeros(4), ["a", "a", "b", "b"])
    assert both is not None and both.se == pytest.approx(np.std([1.0, 0.0], ddof=1) / math.sqrt(2)), "two people who are real and forged"


def test_the_level_holds_where_nothing_differs_and_a_difference_is_found() -> None:
    p_values: dict[float, list[float]] = {0.0: [], 0.8: []}
    for shift, found in p_values.items():
        for seed in range(400):
            fake, new, old, cluster = world(seed, 60, 3, shift)
            paired = paired_auc(fake, new, old, cluster)
            assert paired is not None
            found.append(p_greater(paired.difference, paired.se, paired.df, 0.0))
    false_alarms = np.mean(np.array(p_values[0.0]) < 0.05)
    assert 0.015 <= false_alarms <= 0.09, "400 draws of 5%: 0.05 plus or minus 3.3 standard errors"
    assert np.mean(np.array(p_values[0.8]) < 0.05) > 0.6


def test_equal_models_differ_by_nothing_for_certain() -> None:
    fake, new, _, cluster = world(1, 20, 2)
    found = paired_auc(fake, new, new, cluster)
    assert found is not None and (found.difference, found.se) == (0.0, 0.0)
    assert p_greater(0.0, 0.0, 9, 0.01) == 1.0 and p_greater(0.011, 0.0, 9, 0.01) == 0.5**10 and p_greater(0.5, 0.1, 0, 0.0) == 1.0
    assert p_greater(0.0, 0.0, 3, -0.01) == 0.5**4


def test_two_people_who_lost_the_same_prove_less_than_ten_who_did() -> None:
    """Each had lost one video of fifteen, the sums cancelled to 1e-18, and a loss was certain (p 1e-17)."""
    for people, shown in ((2, False), (10, True)):
        fake, cluster = np.array([False] * 30 + [True] * 15 * people), [*map(str, range(30)), *np.repeat([f"f{one}" for one in range(people)], 15)]
        old, new = fake.copy(), fake.copy()
        new[30::15] = False
        found = paired_balanced_accuracy(fake, new, old, cluster)
        assert found is not None and found.difference == pytest.approx(-1 / 30) and found.df == people - 1 and found.se < 1e-15
        assert (p_greater(-found.difference, found.se, found.df, 0.02) < 0.01) == shown


@pytest.mark.parametrize("people", range(2, 16))
@pytest.mark.parametrize(("loss", "bound"), [(0.5, 0.02), (0.1, 0.02), (0.03, 0.02), (0.5, 0.0)])
def test_people_who_all_lose_prove_no_less_than_if_one_of_them_were_spared(people: int, loss: float, bound: float) -> None:
    """Ten of ten who lost half of their balanced accuracy were weaker evidence (p 0.001) than nine of ten (p 0.000006), and passed a gate of twelve slices."""
    fake, cluster = np.full(people, True), [f"f{one}" for one in range(people)]
    gain = np.full(people, -loss)
    (every, spared) = (paired_mean(fake, row, np.zeros(people), cluster) for row in (gain, np.where(np.arange(people) == 0, 0.0, gain)))
    assert every is not None and spared is not None and every.se < 1e-12 < spared.se and every.df == spared.df
    of_all, of_the_rest = (p_greater(-found.difference, found.se, found.df, bound) for found in (every, spared))
    assert of_all <= of_the_rest + 1e-12 and (people > 2 or of_all == 0.25), "two may well agree by chance"
    for alpha in (0.01, 0.01 / 40):
        least = detectable(0.0, every.df, bound, alpha)
        assert (of_all <= alpha) == (loss >= least - 1e-12) or min(abs(of_all / alpha - 1), abs(loss / (least or 1) - 1)) < 1e-6


def test_a_margin_gives_the_spread_of_a_challenger_worse_by_it() -> None:
    fake = np.array([False] * 4 + [True] * 4)
    new, old, people = [0.1, 0.2, 0.3, 0.65, 0.6, 0.7, 0.8, 0.9], np.full(8, 0.5), list("abcdefgh")  # AUCs 15/16 and 1/2, the latter without any influence
    plain, at_half = paired_auc(fake, new, old, people), paired_auc(fake, new, old, people, margin=0.0)
    assert plain is not None and at_half is not None and plain.difference == at_half.difference
    assert at_half.se == pytest.approx(plain.se * math.sqrt(0.25 / (15 / 16 / 16)))
    behind, asked = paired_auc(fake, old, new, people), paired_auc(fake, old, new, people, margin=0.05)
    assert behind == asked, "it already has a wider spread than one just behind the champion"
    perfect = paired_auc(fake, fake.astype(float), old, people, margin=0.2)
    assert perfect is not None and perfect.se == 0, "what never erred shows no spread that could be scaled; the bootstrap stands beside it"


def test_what_cannot_be_said() -> None:
    assert paired_auc([True, True], [0.1, 0.2], [0.1, 0.2], ["a", "b"]) is None
    assert paired_balanced_accuracy([], [], [], []) is None and paired_mean([], [], [], []) is None
    alone = paired_balanced_accuracy([True, True], [True, False], [True, True], ["a", "a"])
    assert alone is not None and alone.difference == -0.5 and alone.df == 0
    assert detectable(0.1, 0, 0.01, 0.05) == math.inf


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_the_raw_values_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, held in zip(p_values, adjusted, strict=True):
        assert raw <= held <= min(1.0, len(p_values) * raw) + 1e-12 or held == max(adjusted)
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    assert [adjusted[at] for at in order] == sorted(adjusted)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_more_videos_are_needed_for_a_finer_margin() -> None:
    assert needed(100, 0.01, 0.01, 0.05) > 100 > needed(100, 0.001, 0.01, 0.05)
    assert needed(400, 0.005, 0.01, 0.05) == pytest.approx(400 * (2 * 1.6449 * 0.5) ** 2, abs=1)
    assert detectable(0.01, 200, 0.02, 0.01) == pytest.approx(0.02 + (2.345 + 0.8416) * 0.01, abs=1e-4)


def test_log_loss_of_a_certain_mistake_is_bounded() -> None:
    assert log_losses([True, False], [0.0, 0.5]) == pytest.approx([-math.log(1e-6), math.log(2)])


def test_a_challenger_whose_probabilities_are_right_is_not_held_for_the_mixture_of_the_week() -> None:
    """The champion calls everything too fake; of five fakes to a real its log-loss was the lower one by 0.09, and the right challenger was held."""
    rng, fake = np.random.default_rng(0), np.arange(2400) < 2000
    logits = 2.2 * np.where(fake, 1.1, -1.1) + 2.2 * rng.normal(size=2400)  # log-odds of these two classes in equal parts
    right, too_fake = (log_losses(fake, 1 / (1 + np.exp(-moved))) for moved in (logits, logits + 1))
    assert right.mean() > too_fake.mean() + 0.08
    found = paired_mean(fake, right, too_fake, np.arange(2400))
    assert found is not None and found.difference == pytest.approx(-0.046, abs=1e-3) and found.bounds(0.05) == pytest.approx((-0.058, -0.034), abs=1e-3)


def test_without_skewness_the_bounds_are_students() -> None:
    low, high = Paired(0.2, 0.1, 30).bounds(0.05)
    assert (low, high) == pytest.approx((0.2 - 0.1 * 1.6973, 0.2 + 0.1 * 1.6973), abs=1e-4)
    assert Paired(0.2, 0.1, 30, 1e-8).bounds(0.05) == pytest.approx((low, high), abs=1e-6)
    assert Paired(0.2, 0.1, 0, 0.3).bounds(0.05) == (-math.inf, math.inf)


def test_the_bounds_of_a_skewed_mean_undo_halls_transformation() -> None:
    made = Paired(0.2, 0.1, 400, 0.4)
    for bound, quantile in zip(made.bounds(0.05), (1.6487, -1.6487), strict=True):
        value = (made.difference - bound) / made.se
        assert value + 0.4 * value**2 / 3 + 0.4**2 * value**3 / 27 + 0.4 / 6 == pytest.approx(quantile, abs=1e-3)


def test_a_mean_in_which_few_decide_is_covered_at_its_level() -> None:
    """Squares of an exponential: the upper bound by Student's t lies below the truth 8% of the time at a nominal 5%, this one 5% to 6%."""
    rng, names = np.random.default_rng(3), np.arange(300)
    below = {"student": 0, "hall": 0}
    for _ in range(600):
        made = paired_mean(np.arange(300) % 2 == 0, rng.exponential(size=300) ** 2, np.zeros(300), names)
        assert made is not None
        below["student"] += replace(made, skew=0.0).bounds(0.05)[1] < 2.0
        below["hall"] += made.bounds(0.05)[1] < 2.0
    assert below["hall"] < 0.1 * 600 and below["hall"] < 0.75 * below["student"], below


def uneven_world(
    seed: int, own: int = 40, others: int = 15, reals: int = 12
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
    """Equally good models; one person has `own` of the fakes, `others` have one each, reals are of people with two."""
    rng = np.random.default_rng(seed)
    people = np.array(["prolific"] * own + [f"fake-{number}" for number in range(others)] + [f"real-{number // 2}" for number in range(2 * reals)])
    fake = np.arange(people.size) < own + others
    _, person = np.unique(people, return_inverse=True)
    shared = rng.normal(size=people.size) * 0.5
    new, old = (shared + 1.5 * fake + rng.normal(size=person.max() + 1)[person] * 0.7 + rng.normal(size=people.size) * 0.3 for _ in range(2))
    return fake, new, old, people


@given(st.integers(0, 10_000), st.integers(10, 60), st.integers(8, 20))
def test_with_each_person_counted_once_a_difference_is_that_of_the_peoples_means(seed: int, own: int, others: int) -> None:
    fake, new, old, people = uneven_world(seed, own, others)
    names, person = np.unique(people, return_inverse=True)
    means = [np.bincount(person, weights=scores) / np.bincount(person) for scores in (new, old)]
    made = np.array([name[:4] != "real" for name in names])
    found, alone = paired_mean(fake, new, old, people), paired_mean(made, *means, names)
    assert found is not None and found.once is not None and alone is not None and alone.once is None
    assert (found.once.difference, found.once.se, found.once.df, found.once.skew) == pytest.approx((alone.difference, alone.se, alone.df, alone.skew))
    area = paired_auc(fake, new, old, people)
    assert area is not None and area.once is not None and area.once.df == alone.df
    weight = 1 / np.bincount(person)[person]
    pairs = np.outer(weight[fake], weight[~fake])
    won = [(pairs * (scores[fake][:, None] > scores[~fake])).sum() / pairs.sum() for scores in (new, old)]
    assert area.once.difference == pytest.approx(won[0] - won[1])
    shift, shifted = (
        shift_within(values, side, np.zeros(len(side)), np.zeros(len(side)), clusters)
        for values, side, clusters in ((new, fake, people), (means[0], made, names))
    )
    assert shift is not None and shift.once is not None and shifted is not None and shift.once.df == shifted.df
    assert (shift.once.difference, shift.once.se) == pytest.approx((shifted.difference, shifted.se))


@given(st.integers(0, 10_000), st.lists(st.integers(1, 40), min_size=2, max_size=12))
def test_how_people_are_counted_depends_on_who_has_how_many_videos_alone(seed: int, videos: list[int]) -> None:
    rng, people = np.random.default_rng(seed), np.repeat(np.arange(len(videos) + 12), videos + [2] * 12)
    fake = people < len(videos)
    told = [paired(fake, *rng.normal(size=(2, people.size)), people) for paired in (paired_auc, paired_mean) for _ in range(3)]
    assert len({found is not None and found.once is not None for found in told}) == 1
    assert max(videos) > 2 or (told[0] is not None and told[0].once is None), "of people with a video or two nothing else is asked"


def test_two_ways_to_count_alarm_no_more_often_than_the_level_says() -> None:
    """Equal models, where one person has forty of 55 fakes: each way has half of the level."""
    alarms = 0
    for seed in range(1500):
        found = paired_auc(*uneven_world(seed))
        assert found is not None and found.once is not None
        alarms += of_both(*(p_greater(-way.difference, way.se, way.df, 0.0) for way in (found, found.once))) < 0.05
    assert alarms / 1500 < 0.065
