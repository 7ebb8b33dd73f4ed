"""Face masks: what of a crop lies outside its picture is found, black hair is not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from media.align import crop_transform, warp
from media.forgers.masks import beyond


@given(st.floats(0, 100), st.floats(0, 100), st.floats(30, 120), st.floats(-0.6, 0.6))
def test_what_a_crop_shows_of_nothing_is_what_lies_outside_its_picture(x: float, y: float, side: float, roll: float) -> None:
    picture = np.full((100, 100, 3), 90, np.uint8)
    matrix = crop_transform(np.array([x, y, side, roll]), 1.3, 64)
    crop = warp(picture, matrix, 64)
    assert np.abs(beyond(crop) - (crop.max(axis=2) == 0)).mean() < 0.03


def test_black_hair_at_the_edge_is_no_edge_of_a_picture() -> None:
    crop = np.full((64, 64, 3), 90, np.uint8)
    crop[40:, :20][np.add.outer(np.arange(24), np.arange(20)) % 17 > 4] = 0
    crop[50:, 10:30] = 0
    assert beyond(crop).max() == 0
    assert beyond(np.zeros((64, 64, 3), np.uint8)).max() == 0
