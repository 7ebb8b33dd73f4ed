import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import metrics
from workspace.errors import DataError

scored = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=60).filter(lambda rows: len({label for label, _ in rows}) == 2)


def arrays(rows):
    return np.array([label for label, _ in rows]), np.array([score / 12 for _, score in rows])


@given(scored)
@settings(max_examples=60, deadline=None)
def test_ranking_figures_agree_with_scikit_learn_ties_included(rows):
    from sklearn.metrics import average_precision_score, roc_auc_score

    fake, p = arrays(rows)
    assert metrics.auc(fake, p) == pytest.approx(roc_auc_score(fake, p), abs=1e-12)
    assert metrics.average_precision(fake, p) == pytest.approx(average_precision_score(fake, p), abs=1e-12)


@given(scored, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_figures_at_a_threshold_agree_with_scikit_learn(rows, level):
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

    fake, p = arrays(rows)
    said = p >= level / 12
    found = metrics.threshold_metrics(fake, p, level / 12)
    assert found["accuracy"] == pytest.approx(accuracy_score(fake, said))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(fake, said))
    assert found["f1"] == pytest.approx(f1_score(fake, said))
    (tn, fp), (fn, tp) = confusion_matrix(fake, said).tolist()
    assert metrics.confusion(fake, p, level / 12) == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}


@given(scored)
@settings(max_examples=40, deadline=None)
def test_probability_figures_agree_with_scikit_learn(rows):
    from sklearn.metrics import brier_score_loss, log_loss
    from sklearn.utils import compute_sample_weight

    fake, p = arrays(rows)
    alike = compute_sample_weight("balanced", fake)
    assert metrics.brier(fake, p) == pytest.approx(brier_score_loss(fake, p, sample_weight=alike))
    assert metrics.log_loss(fake, p) == pytest.approx(log_loss(fake, np.clip(p, metrics.TINY, 1 - metrics.TINY), sample_weight=alike), rel=1e-9)


@given(scored, st.integers(2, 9))
@settings(max_examples=40, deadline=None)
def test_log_loss_and_brier_do_not_follow_the_mixture_of_the_classes(rows, times):
    fake, p = arrays(rows)
    often = np.repeat(np.arange(fake.size), np.where(fake, times, 1))
    assert metrics.log_loss(fake[often], p[often]) == pytest.approx(metrics.log_loss(fake, p))
    assert metrics.brier(fake[often], p[often]) == pytest.approx(metrics.brier(fake, p))


@given(scored, st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]))
@settings(max_examples=60, deadline=None)
def test_tpr_at_fpr_is_the_best_threshold_that_keeps_the_rate(rows, limit):
    fake, p = arrays(rows)
    rates = [((p[fake] >= t).mean(), (p[~fake] >= t).mean()) for t in [*np.unique(p), 2.0]]
    assert metrics.tpr_at_fpr(fake, p, limit) == pytest.approx(max(tpr for tpr, fpr in rates if fpr <= limit))


def test_equal_error_rate_by_hand():
    assert metrics.equal_error_rate(["real", "real", "fake", "fake"], [0.1, 0.2, 0.8, 0.9]) == 0.0
    assert metrics.equal_error_rate(["fake", "fake", "real", "real"], [0.1, 0.2, 0.8, 0.9]) == 1.0
    assert metrics.equal_error_rate(["real", "fake"] * 2, [0.1, 0.3, 0.5, 0.9]) == pytest.approx(0.5)
    assert metrics.equal_error_rate(["real", "fake"], [0.5, 0.5]) == pytest.approx(0.5)  # one point, halfway on the diagonal


def test_calibration_error_by_hand():
    labels = ["real"] * 3 + ["fake"] + ["fake"] * 3 + ["real"]
    p = [0.1] * 4 + [0.9] * 4  # two bins: 1 of 4 fake at 0.1, 3 of 4 at 0.9
    assert metrics.expected_calibration_error(labels, p, bins=2) == pytest.approx(0.15)
    assert metrics.expected_calibration_error(["fake", "real"], [1.0, 0.0]) == 0.0
    assert metrics.expected_calibration_error(["real"] * 4, [0.25] * 4) is None, "of reals alone it would be their mean, however right p_fake is"
    assert metrics.reliability(["fake"] * 4, [1.0] * 4) == []


@pytest.mark.parametrize("fakes", [200, 3000, 20000])
def test_calibration_error_does_not_follow_the_mixture_of_the_classes(fakes):
    """p_fake is right where half are fakes; a set of fifteen reals to a fake had an ECE of 0.19, and the gate held every model."""
    rng = np.random.default_rng(fakes)
    logits = np.concatenate([rng.normal(-2, 2, 3000), rng.normal(2, 2, fakes)])  # log-odds of these two classes in equal parts: z itself
    p, fake = 1 / (1 + np.exp(-logits)), np.arange(len(logits)) >= 3000
    assert metrics.expected_calibration_error(fake, p) < 0.05
    assert metrics.expected_calibration_error(fake, 1 / (1 + np.exp(-logits - 2))) > 0.1
    assert sum(row["n"] for row in metrics.reliability(fake, p)) == len(logits)


@given(scored, st.randoms())
@settings(max_examples=40, deadline=None)
def test_no_figure_depends_on_the_order_of_the_rows(rows, random):
    fake, p = arrays(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    for name, value in metrics.summarise(*arrays(shuffled), 0.5).items():
        assert value == pytest.approx(metrics.summarise(fake, p, 0.5)[name], abs=1e-12), name


def test_what_cannot_be_computed_is_none_and_never_a_number():
    only_real = metrics.summarise(["real", "real"], [0.2, 0.9], 0.5)
    unknown = {name for name, value in only_real.items() if value is None}
    assert unknown >= {"auc", "eer", "ap", "balanced_accuracy", "recall", "f1", "tpr_at_fpr_1", "log_loss", "brier", "ece"}
    assert only_real["fpr"] == 0.5
    only_fake = metrics.summarise(["fake"], [0.9], 0.5)
    assert {name for name, value in only_fake.items() if value is None} >= {"auc", "eer", "ap", "balanced_accuracy", "fpr", "log_loss", "brier", "ece"}
    assert set(metrics.summarise([], [], 0.5).values()) == {None}
    assert metrics.threshold_metrics(["real", "fake"], [0.1, 0.2], 0.5)["precision"] is None  # nothing was called fake
    assert metrics.f1_of(None, 0.0) == 0.0, "nothing was called fake"
    assert metrics.f1_of(None, 1.0) is None, "all fakes were found, and there was no real to accuse"


def test_precision_at_prevalence_is_bayes():
    assert metrics.precision_at_prevalence(0.9, 0.1, 0.5) == pytest.approx(0.9)
    assert metrics.precision_at_prevalence(0.9, 0.1, 0.01) == pytest.approx(0.009 / (0.009 + 0.099))
    assert metrics.precision_at_prevalence(0.0, 0.0, 0.01) is None


def test_wilson_interval_of_the_production_bound():
    assert metrics.wilson(0, 94)[1] == pytest.approx(0.0393, abs=1e-4)
    low, high = metrics.wilson(50, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert metrics.wilson(0, 0) is None


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0], ["real", "FAKE"], ["", "fake"], ["0", "1"]])
def test_numbers_and_unknown_words_are_no_labels(labels):
    with pytest.raises(DataError, match="expected 'real' and 'fake'"):
        metrics.auc(labels, [0.1, 0.2])


@pytest.mark.parametrize(("labels", "scores"), [(["real", "fake"], [0.1]), (["fake"], [0.1, 0.2]), (np.array([[False], [True]]), [[0.1], [0.9]])])
def test_labels_and_scores_that_do_not_fit_are_refused(labels, scores):
    with pytest.raises(DataError, match="do not fit"):
        metrics.auc(labels, scores)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    with pytest.raises(DataError, match="not a number"):
        metrics.summarise(["real", "fake"], [0.1, bad], 0.5)


@given(scored, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_risk_falls_to_what_the_surest_answers_cost_and_ends_at_the_whole_error(rows, level):
    fake, p = arrays(rows)
    coverage, risk = metrics.risk_coverage(fake, p, level / 12)
    assert coverage[-1] == 1 and (np.diff(coverage) > 0).all() and ((risk >= 0) & (risk <= 1)).all()
    assert risk[-1] == pytest.approx(np.mean((p >= level / 12) != fake))
    certainty = np.where(p >= level / 12, p, 1 - p)
    surest = certainty >= certainty.max()
    assert coverage[0] == pytest.approx(surest.mean()) and risk[0] == pytest.approx(np.mean((p[surest] >= level / 12) != fake[surest]))


def test_risk_and_coverage_by_hand():
    coverage, risk = metrics.risk_coverage(["fake", "real", "fake", "real"], [0.9, 0.7, 0.6, 0.45], 0.5)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0] and risk.tolist() == pytest.approx([0.0, 0.5, 1 / 3, 0.25])
    assert metrics.risk_coverage([], [], 0.5) is None
    coverage, risk = metrics.risk_coverage(["fake", "real", "fake"], [0.99, 0.05, 0.45], 0.8)
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0]) and risk.tolist() == pytest.approx([0.0, 0.0, 1 / 3])  # least sure: the real at 0.45
