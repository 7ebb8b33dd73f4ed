"""Bending: what is asked for at the landmarks, and nothing flat or torn at the edge of the crop."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.forgers.warp import bend

POINTS = np.array([(x, y) for x in (0.0, 0.3, 0.6, 1.0) for y in (0.0, 0.4, 0.7, 1.0)], np.float32)


@pytest.mark.parametrize("size", [64, 112, 160, 224])
def test_points_that_stay_leave_every_pixel_where_it_is(size: int) -> None:
    """Over the outermost pixels the grid has no nodes: they once all read the same line, a smear that only fakes had."""
    x, y = bend(POINTS, POINTS, size)
    own = np.arange(size)
    assert np.abs(x - own).max() < 0.02 and np.abs(y - own[:, None]).max() < 0.02
    picture = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
    moved = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    assert np.abs(moved.astype(int) - picture).max() <= 12  # a fiftieth of a pixel, between neighbours that differ by up to 255


@given(right=st.floats(-0.1, 0.1), down=st.floats(-0.1, 0.1), size=st.integers(48, 200))
@settings(max_examples=30, deadline=None)
def test_a_shift_of_all_points_shifts_every_pixel_alike(right: float, down: float, size: int) -> None:
    x, y = bend(POINTS + np.array([right, down], np.float32), POINTS, size)
    own = np.arange(size)
    assert np.allclose(x, own - right * size, atol=0.05) and np.allclose(y, own[:, None] - down * size, atol=0.05)
