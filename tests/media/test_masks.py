"""Face masks: what of a crop lies outside its picture is found, black hair is not."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from media.align import beyond, crop_transform, warp
from media.forgers.masks import hull_mask


@given(st.floats(0, 100), st.floats(0, 100), st.floats(30, 120), st.floats(-0.6, 0.6))
def test_what_a_crop_shows_of_nothing_is_what_lies_outside_its_picture(x: float, y: float, side: float, roll: float) -> None:
    picture = np.full((100, 100, 3), 90, np.uint8)
    matrix = crop_transform(np.array([x, y, side, roll]), 1.3, 64)
    crop = warp(picture, matrix, 64)
    assert (beyond(crop) != (crop.max(axis=2) == 0)).mean() < 0.03


def test_black_hair_at_the_edge_is_no_edge_of_a_picture() -> None:
    crop = np.full((64, 64, 3), 90, np.uint8)
    crop[40:, :20][np.add.outer(np.arange(24), np.arange(20)) % 17 > 4] = 0
    crop[50:, 10:30] = 0
    assert beyond(crop).max() == 0
    assert beyond(np.zeros((64, 64, 3), np.uint8)).max() == 0


@given(st.lists(st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)), min_size=1, max_size=12), st.floats(0.02, 0.3), st.sampled_from([33, 64, 97]))
def test_a_grown_hull_is_the_hull_dilated_by_an_ellipse(points: list[tuple[float, float]], grow: float, size: int) -> None:
    mesh = np.array(points, np.float32)
    steps = round(grow * size)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * steps + 1, 2 * steps + 1))
    grown = hull_mask(mesh, size, grow)
    assert np.array_equal(grown, cv2.dilate(hull_mask(mesh, size), ellipse)) and grown.dtype == np.uint8
