"""Pictures whose words come from the data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipelines.plots import generator_matrix, learning_curves


def drawn(folder: Path, name: str) -> np.ndarray[Any, Any]:
    """The matrix of two generators, one of them so named, as pixels [H, W]."""
    row = {"challenger": 0.9, "champion": 0.8}
    return np.asarray(Image.open(folder / generator_matrix(folder, {name: row, "blend": row})).convert("L"))


@pytest.mark.parametrize("name", ["swap$$v2", "$^$", "x$\\foo$y"])
def test_a_generator_may_have_any_name_and_none_is_a_formula(tmp_path: Path, name: str) -> None:
    """`swap$$v2` ended stage `evaluate` after all the training."""
    assert (drawn(tmp_path, name) != drawn(tmp_path, name.replace("$", "S"))).any()


def test_a_long_name_leaves_room_for_the_others(tmp_path: Path) -> None:
    """One of 200 letters cut off the names of the models, and its own."""
    assert not (drawn(tmp_path, "x" * 200)[:, :4] < 128).any(), "something is cut at the left edge"
    assert (drawn(tmp_path, "x" * 200 + "-version-1") != drawn(tmp_path, "x" * 200 + "-version-2")).any(), "the end tells them apart"


def test_a_learning_curve_says_that_its_lines_are_not_of_one_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both were a `loss`: the same clips in training and in validation lay 0.34 apart, which looks like learning by heart."""
    told, savefig = [], Figure.savefig

    def watched(figure: Figure, *given: Any, **wanted: Any) -> None:
        told.extend(text.get_text() for text in figure.axes[0].get_legend().get_texts())
        savefig(figure, *given, **wanted)

    monkeypatch.setattr(Figure, "savefig", watched)
    name = learning_curves(tmp_path, "train", [{"step": step, "loss": 0.5, "val_loss": 0.84, "val_refinement": 0.6} for step in (1, 2)])
    assert (tmp_path / name).is_file() and told == ["training (what is minimised)", "validation (cross-entropy)", "the same, calibrated"]
