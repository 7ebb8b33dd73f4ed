from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from model.intervals import cluster_interval, paired_difference, summarise_with_intervals
from model.metrics import auc, wilson
from workspace.errors import DataError


def world(clusters=40, each=6, seed=0, gap=1.0, personal=1.0):
    """Scores with a part that belongs to the person: videos of one person rise and fall together."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(clusters), each)
    fake = np.tile(np.arange(each) % 2 == 1, clusters)
    scores = gap * fake + personal * np.repeat(rng.standard_normal(clusters), each) * np.where(fake, 1, -1) + 0.3 * rng.standard_normal(clusters * each)
    return fake, scores, people


def test_people_drawn_whole_make_wider_intervals_than_videos_drawn_alone():
    fake, scores, people = world()
    whole = cluster_interval(auc, fake, scores, people, resamples=300)
    alone = cluster_interval(auc, fake, scores, np.arange(len(fake)), resamples=300)
    assert whole.value == alone.value == auc(fake, scores)
    assert whole.high - whole.low > 1.5 * (alone.high - alone.low)
    assert (whole.clusters, whole.n) == (40, 240)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    from math import erf

    truth = 0.5 * (1 + erf(1.0 / 2))  # AUC of two unit normals one apart
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        fake = np.arange(120) % 2 == 1
        scores = fake + rng.standard_normal(120)
        found = cluster_interval(auc, fake, scores, np.arange(120), resamples=200, seed=seed)
        hits += found.low <= truth <= found.high
    assert 50 <= hits <= 60


def test_a_share_of_nothing_is_not_known_to_be_nothing():
    fake = np.arange(20) % 2 == 1
    found = summarise_with_intervals(fake, np.where(fake, 0.4, 0.1), np.arange(20), 0.5, resamples=50)
    for name in ("recall", "fpr"):  # Wilson, 0 of 10
        assert found[name].value == 0.0 and found[name].low == pytest.approx(0.0, abs=1e-9) and found[name].high == pytest.approx(0.278, abs=0.001)
    assert (found["auc"].value, found["auc"].low, found["auc"].high) == (1.0, None, None)
    assert found["balanced_accuracy"].low == pytest.approx((1 - found["fpr"].high) / 2) and found["balanced_accuracy"].high == pytest.approx(0.639, abs=0.001)
    two = summarise_with_intervals(fake, np.where(fake, 0.4, 0.1), np.arange(20) // 10, 0.5, resamples=50)
    assert two["recall"].high > 0.6  # ten fakes of two people are two


def test_a_figure_that_no_draw_moves_is_no_certainty_wherever_it_lies():
    """One that calls everything fake had a balanced accuracy of 0.5, and a precision at each prevalence, with ends that were one."""
    fake, everyone = np.arange(48) % 2 == 1, np.arange(48)
    found = summarise_with_intervals(fake, np.full(48, 0.9), everyone, 0.5, resamples=100)
    least = found["recall"].low  # Wilson, 24 of 24, as of fpr
    assert (found["balanced_accuracy"].low, found["balanced_accuracy"].high) == pytest.approx((least / 2, 1 - least / 2))
    rare = found["precision_at_prevalence_0.1"]
    assert (rare.low, rare.value, rare.high) == pytest.approx((0.1 * least / (0.1 * least + 0.9), 0.1, 0.1 / (0.1 + 0.9 * least)))
    for name in ("auc", "eer", "log_loss", "brier", "ece"):  # the same of every file, so of every draw
        assert found[name].value is not None and found[name].low is None
    certain = summarise_with_intervals(fake, np.where(fake, 0.9, np.arange(48) / 48), everyone, 0.5, resamples=100)  # recall 1 in each draw, fpr in none
    assert certain["balanced_accuracy"].high == 1 - certain["fpr"].low / 2
    assert certain["balanced_accuracy"].low == pytest.approx((certain["recall"].low + 1 - certain["fpr"].high) / 2)
    each_half = cluster_interval(lambda labels, scores: float((scores[labels] > 0.5).mean()), fake, np.where(fake, everyone % 4 == 1, 0.0), everyone // 4)
    assert (each_half.value, each_half.low) == (0.5, None)


@pytest.mark.parametrize("videos", [1, 3])
def test_more_errors_make_no_figure_surer(videos):
    """One false alarm among 357 people had an upper end of 0.9%, none at all one of 1.1%, and precision where fakes are rare the same."""
    fake, who = np.arange(400 * videos) >= 357 * videos, np.arange(400 * videos) // videos
    known = []
    for alarms in range(8):
        p = np.where(fake | (np.arange(fake.size) < alarms), 0.9, 0.1)
        p[-2] = 0.1  # draws move recall
        known.append(summarise_with_intervals(fake, p, who, 0.5, resamples=200))
    for name in ("fpr", "precision", "accuracy", "precision_at_prevalence_0.01"):
        doubted = [found[name].high if name == "fpr" else 1 - found[name].low for found in known]
        assert all(more >= fewer for fewer, more in pairwise(doubted)), name
    if videos == 1:
        assert known[1]["fpr"].low == 0 and known[1]["fpr"].high == pytest.approx(wilson(1, 357)[1])


def test_a_model_compared_with_itself_differs_by_exactly_nothing():
    fake, scores, people = world()
    same = paired_difference(fake, scores, scores, people, resamples=100)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_pairing_sees_a_small_loss_that_unpaired_intervals_cannot():
    fake, scores, people = world(personal=2.0, gap=0.5)
    worse = scores - 0.35 * fake
    paired = paired_difference(fake, worse, scores, people, resamples=300)
    assert paired.high < 0
    a, b = (cluster_interval(auc, fake, s, people, resamples=300) for s in (worse, scores))
    assert a.high > b.low  # the two intervals overlap widely


def test_same_seed_same_interval_and_another_seed_another():
    fake, scores, people = world()
    first, again, other = (cluster_interval(auc, fake, scores, people, resamples=100, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_one_person_or_one_class_has_no_interval():
    fake, scores, _ = world(clusters=1)
    found = cluster_interval(auc, fake, scores, np.zeros(len(fake)), resamples=50)
    assert found.value is not None and found.low is None and found.high is None
    one_class = summarise_with_intervals(["real"] * 4, [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4], 0.35, resamples=50)
    assert one_class["auc"].value is None and one_class["auc"].low is None
    assert one_class["fpr"].value == 0.25 and one_class["fpr"].low is not None


def test_a_perfect_auc_of_a_few_people_has_no_ends():
    fake = np.array([True, False] * 3)
    found = cluster_interval(auc, fake, fake * 0.5 + 0.2, np.arange(6) // 2, resamples=200)
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_a_class_that_most_resamples_lack_leaves_the_ends_open():
    fake = np.array([True] + [False] * 20)
    found = cluster_interval(auc, fake, np.linspace(1, 0, 21), np.arange(21), resamples=200)
    assert found.value == 1.0 and found.low is None and found.resamples < 160


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="2 labels, 3 scores"):
        cluster_interval(auc, ["real", "fake"], [0.1, 0.2, 0.3], [1, 2])


@pytest.mark.parametrize(("people", "videos", "apart", "alike"), [(100, 1, 3.5, 0.0), (20, 5, 2.0, 0.5)])
def test_the_interval_of_an_auc_holds_it_near_one_and_with_few_people(people: int, videos: int, apart: float, alike: float) -> None:
    """Drawn people alone held it in 84 to 88 of 100 worlds."""
    rng, true, held, drawn = np.random.default_rng(2), NormalDist().cdf(apart / 2**0.5), 0, 0
    who = np.repeat(np.arange(people), videos)
    fake = who % 2 == 0
    for seed in range(60):
        scores = apart * fake + rng.normal(size=people)[who] * alike**0.5 + rng.normal(size=who.size) * (1 - alike) ** 0.5
        found = cluster_interval(auc, fake, scores, who, resamples=60, seed=seed)
        alone = cluster_interval(lambda labels, values: auc(labels, values), fake, scores, who, resamples=60, seed=seed)
        held += found.low is None or found.low <= true <= (found.high or 0)
        drawn += alone.low is None or alone.low <= true <= (alone.high or 0)
    assert held >= 56 > drawn


def test_what_is_found_at_few_false_alarms_has_no_ends_where_reals_are_few() -> None:
    rng = np.random.default_rng(3)
    for reals, known in ((39, set()), (40, {"tpr_at_fpr_5"}), (199, {"tpr_at_fpr_5"}), (200, {"tpr_at_fpr_1", "tpr_at_fpr_5"})):
        fake = np.arange(2 * reals) % 2 == 1
        p = 1 / (1 + np.exp(-(1.5 * fake - 0.7 + rng.normal(size=fake.size))))
        found = summarise_with_intervals(fake, p, np.arange(fake.size), 0.5, resamples=50)
        assert {name for name in ("tpr_at_fpr_1", "tpr_at_fpr_5") if found[name].low is not None} == known
        assert found["tpr_at_fpr_1"].value is not None and found["recall"].low is not None
