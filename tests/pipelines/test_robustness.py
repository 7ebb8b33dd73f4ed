"""What stage `evaluate` attacks: with which settings, and how much of it at once."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model.attacks import RobustPoint
from pipelines import robustness
from tests.model.toys import model_folder
from tests.pipelines.small_world import demo_settings
from workspace.settings import Settings


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that draws the curve of one model with the given settings, and the list of attacks that were really made."""
    from model.card import load_card

    made: list[float] = []

    def robust_curve(model: Any, clips: Any, fake: Any, strengths: Any, *, border: float, **others: Any) -> list[RobustPoint]:
        made.append(border)
        return [RobustPoint(eps, 1, 1.0, 1.0, 0.0, 0.0) for eps in strengths]

    monkeypatch.setattr("model.attacks.robust_curve", robust_curve)
    monkeypatch.setattr(robustness, "load_clips", lambda root, panel: (None, None, None))
    model_folder(tmp_path / "build/model", threshold=0.7, temperature=2.0)

    def draw(settings: Settings) -> Any:
        return robustness.curve(tmp_path, "build/model", load_card(tmp_path / "build/model"), pd.DataFrame({"sha256": ["a"]}), settings, 1)

    return draw, made


def test_a_curve_is_read_again_until_the_stage_has_another_version(attacked: Any) -> None:
    draw, made = attacked
    settings = demo_settings()
    draw(settings)
    draw(settings)
    assert len(made) == 1
    raised = settings.stage_versions.model_copy(update={"evaluate": settings.stage_versions.evaluate + 1})
    draw(settings.model_copy(update={"stage_versions": raised}))
    assert len(made) == 2


def test_the_attacks_aim_at_the_raw_logit_of_the_shipped_threshold(attacked: Any) -> None:
    draw, made = attacked
    draw(demo_settings())
    assert made == [pytest.approx(2.0 * 0.8473, abs=1e-3)]
