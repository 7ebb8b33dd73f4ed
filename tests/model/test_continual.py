"""Continual figures against cases worked out by hand, and rules that hold for every matrix."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.continual import figures
from pipelines.report import CONTINUAL

NAN = math.nan


def test_three_generators_by_hand():
    """Generators a, b, c come with updates 0, 1, 2.

    a: 0.90 0.95 0.80   b: 0.60 0.85 0.88   c: 0.50 0.55 0.97
    """
    found = figures([[0.90, 0.60, 0.50], [0.95, 0.85, 0.55], [0.80, 0.88, 0.97]], [0, 1, 2])
    assert found.average == pytest.approx((0.80 + 0.88 + 0.97) / 3)
    assert found.incremental == pytest.approx((0.90 + (0.95 + 0.85) / 2 + (0.80 + 0.88 + 0.97) / 3) / 3)
    assert found.forgetting_from_best == pytest.approx(((0.95 - 0.80) + (0.85 - 0.88)) / 2)
    assert found.forgetting_from_learned == pytest.approx(((0.90 - 0.80) + (0.85 - 0.88)) / 2)
    assert found.backward_transfer == pytest.approx(-found.forgetting_from_learned)
    assert found.forward_transfer == pytest.approx(((0.60 - 0.5) + (0.55 - 0.5)) / 2)


def test_two_generators_that_came_together_and_an_update_that_brought_none():
    found = figures([[0.9, 0.8], [0.7, 0.9]], [0, 0])
    assert found.average == pytest.approx(0.8) and found.forgetting_from_best == pytest.approx((0.2 - 0.1) / 2)
    assert found.forward_transfer is None


def test_what_was_told_before_it_was_learned_is_not_forgotten():
    """b comes with update 1; told at 0.90 by chance before, at 0.80 once learned. With all earlier updates (Chaudhry et al. 2018) AF would be 0.11."""
    found = figures([[0.95, 0.90], [0.94, 0.80], [0.93, 0.70]], [0, 1])
    assert found.forgetting_from_best == pytest.approx(((0.95 - 0.93) + (0.80 - 0.70)) / 2)
    assert CONTINUAL["forgetting_from_best"] == "AF: best since learning less now"


def test_after_the_first_update_nothing_can_be_forgotten():
    found = figures([[0.9]], [0])
    assert found.average == found.incremental == 0.9
    assert found.forgetting_from_best is found.backward_transfer is found.forward_transfer is None


def test_updates_of_before_the_first_generator_are_left_out_of_the_mean():
    found = figures([[NAN, NAN], [0.9, NAN], [0.7, 0.8]], [1, 2])
    assert found.incremental == pytest.approx((0.9 + (0.7 + 0.8) / 2) / 2)
    assert figures([[NAN, NAN], [NAN, NAN], [0.7, 0.8]], [1, 2]).incremental is None, "what is missing of one that was met stays missing"


@pytest.mark.parametrize("hole", [(1, 0), (1, 1)])
def test_what_was_not_measured_makes_no_figure(hole):
    matrix = np.array([[0.9, 0.6], [0.8, 0.9]])
    matrix[hole] = NAN
    assert figures(matrix, [0, 1]).average is None
    matrix = np.array([[0.9, NAN], [0.8, 0.9]])
    found = figures(matrix, [0, 1])
    assert found.forward_transfer is None and found.average == pytest.approx(0.85) and found.forgetting_from_best == pytest.approx(0.1)


@pytest.mark.parametrize(("matrix", "learned"), [([], []), ([[0.5, 0.5]], [0]), ([[0.5]], [1]), ([[0.5]], [-1]), ([0.5], [0])])
def test_what_is_no_matrix_is_refused(matrix, learned):
    with pytest.raises(ValueError, match="do not fit"):
        figures(matrix, learned)


@given(arrays(float, (4, 4), elements=st.floats(0, 1)))
def test_rules_of_every_matrix(matrix):
    found = figures(matrix, [0, 1, 2, 3])
    assert found.forgetting_from_best >= found.forgetting_from_learned - 1e-12
    assert found.backward_transfer == pytest.approx(-found.forgetting_from_learned)
    assert matrix[-1].min() - 1e-12 <= found.average <= matrix[-1].max() + 1e-12
    raised = matrix.copy()
    raised[-1] = 1.0
    assert figures(raised, [0, 1, 2, 3]).forgetting_from_best <= 0
