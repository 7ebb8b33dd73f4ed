"""Probes: each shows the fault that it is there for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.nuisance import FOLDS, numbers_alone
from pipelines.probes import grey_picture, poor_picture
from pipelines.report import render
from tests.pipelines.test_report import CYCLE, page_of


def clips(people: int = 30, leak: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """One real and one fake clip a person; with `leak` the fakes' faces are so many pixels larger."""
    rng = np.random.default_rng(seed)
    rows = [
        {"clip_id": f"{person}{label}", "label": label, "cluster": f"p{person}", "origin": "collected", "kind": "video", "compression": "", "frames": 8}
        | {"face_px": 80 + rng.normal() + leak * (label == "fake"), "start_seconds": rng.uniform(0, 3), "end_seconds": np.nan}
        for person in range(people)
        for label in ("real", "fake")
    ]
    return pd.DataFrame(rows)


def test_numbers_beside_the_pixels_tell_classes_apart_only_where_they_leak() -> None:
    clean, leaking = numbers_alone(clips(), 1), numbers_alone(clips(leak=5.0), 1)
    assert clean is not None and leaking is not None
    assert 0.25 < clean["value"] < 0.75 and leaking["value"] > 0.95 and clean["n"] == 60
    assert clean["low"] < 0.5 < clean["high"] and leaking["low"] > 0.8, "an interval, as each probe has"


def test_a_compression_that_only_fakes_have_is_a_leak_too() -> None:
    table = clips()
    found = numbers_alone(table.assign(compression=np.where(table["label"] == "fake", "c23", "")), 1)
    assert found is not None and found["value"] > 0.95


@pytest.mark.parametrize("change", [{"people": FOLDS - 1}, {"people": 0}])
def test_with_too_few_people_nothing_is_claimed(change: dict[str, Any]) -> None:
    table = clips(**change) if change["people"] else clips().iloc[:0]
    assert numbers_alone(table, 1) is None


def test_forged_clips_are_not_asked() -> None:
    """They carry their source's numbers, so they could only dilute a leak."""
    table = clips(leak=5.0)
    assert numbers_alone(table.assign(origin=np.where(table["label"] == "fake", "forged", "collected")), 1) is None


def test_a_poor_picture_is_the_same_picture_with_less_in_it() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    poor = poor_picture(clip, np.random.default_rng(0))
    assert poor.shape == clip.shape and poor.dtype == np.uint8 and poor.std() < 0.8 * clip.std()


def test_a_grey_picture_keeps_its_brightness_and_loses_its_colours() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    grey = grey_picture(clip)
    assert grey.shape == clip.shape and grey.dtype == np.uint8
    assert (grey == grey[..., :1]).all() and np.abs(grey[..., 0] - clip @ np.array([0.299, 0.587, 0.114])).max() <= 1
    assert (grey_picture(grey) == grey).all()


def test_the_page_says_which_probe_asked_something_else(tmp_path: Path) -> None:
    """All were the challenger's on the holdout by its caption, and the range of the shuffles stood there like an interval."""
    named = [("labels shuffled", 0.4, 0.6, 120), ("numbers beside the pixels, no picture", None, None, 400)]
    rows = [{"name": name, "expected": "near 0.5", "value": 0.5, "low": low, "high": high, "n": n} for name, low, high, n in named]
    page = page_of(tmp_path, CYCLE, champion=True, more={"probes": {"n": 120, "rows": rows}})
    assert "is the range of the shuffles" in page and "a forest on training clips, not to the challenger" in page
    assert re.findall(r'</td><td class="n">(\d+)</td><td>near 0.5', page) == ["120", "400"]


def test_a_page_of_a_cycle_that_was_not_probed_can_be_drawn(tmp_path: Any) -> None:
    from pipelines.report import gather
    from tests.pipelines.small_world import first_cycle

    assert "Probes" not in render(gather(tmp_path, first_cycle()))
