"""How a policy binds a model: its operating point, its band, its mode, and what then does not hold."""

from dataclasses import asdict
from typing import Any

import pytest

from feedback.policies import Bound, bind
from feedback.work.judging import bound_of
from model.card import OperatingPoint, load_card
from model.shipped import STARTER
from workspace.choices import POLICIES
from workspace.errors import ModelFileError
from workspace.settings import FeedbackSettings, PolicySettings

POINTS = [OperatingPoint(0.01, 0.9, 0.01, 0.5, True), OperatingPoint(0.05, 0.7, 0.05, 0.8, True)]
SETTINGS = FeedbackSettings.model_validate({
    "moderation": {"target_fpr": 0.03, "abstain": 0.2, "mode": "fast"},
    "forensics": {"target_fpr": 0.001, "mode": "dense"},
})  # fmt: skip


def test_each_policy_has_its_block_of_settings() -> None:
    assert {name for name, field in FeedbackSettings.model_fields.items() if field.annotation is PolicySettings} == set(POLICIES)


def test_the_operating_point_is_stricter_than_the_policy_never_laxer() -> None:
    bound = bind(SETTINGS, "moderation", "", "fast", 0.5, 0.1, POINTS)
    assert (bound.threshold, bound.abstain, bound.target_fpr, bound.mode, bound.note) == (0.9, 0.2, 0.01, "fast", "")


@pytest.mark.parametrize(("asked", "threshold", "held"), [(0.2, 0.7, 0.05), (0.05, 0.7, 0.05), (0.01, 0.9, 0.01), (0.009, 0.9, 0.01)])
def test_of_the_operating_points_the_nearest_is_taken_the_rate_itself_included(asked: float, threshold: float, held: float | None) -> None:
    bound = bind(FeedbackSettings.model_validate({"moderation": {"target_fpr": asked}}), "moderation", "", "fast", 0.5, 0.1, POINTS)
    assert (bound.threshold, bound.target_fpr, bound.abstain) == (threshold, held, 0.1)


@pytest.mark.parametrize(
    "calibration", [None, [], {"points": [{"fpr": 0.01}]}, *({"points": [asdict(POINTS[0]) | {"threshold": one}]} for one in ("x", None, 1.7))]
)
def test_a_card_s_operating_points_are_read_as_strictly_as_for_a_score(calibration: Any) -> None:
    """A threshold of 1.7 was judged at, and one that is none failed every upload, which was then marked unreadable for what is in it."""
    card = load_card(STARTER)
    assert bound_of(SETTINGS, "moderation", "", card).target_fpr is not None
    with pytest.raises(ModelFileError, match="Cannot read the operating points"):
        bound_of(SETTINGS, "moderation", "", card.model_copy(update={"metrics": {"calibration": calibration}}))
    assert bound_of(SETTINGS, "moderation", "", card.model_copy(update={"metrics": {}})).threshold == card.threshold


def test_a_policy_that_sets_nothing_leaves_threshold_and_band_to_the_model() -> None:
    assert bind(FeedbackSettings(), "identity_check", "", "fast", 0.5, 0.1, POINTS) == Bound(0.5, 0.1, "fast", None)


@pytest.mark.parametrize(
    ("points", "own", "threshold", "held", "said"),
    [(POINTS, 0.5, 0.9, 0.01, "its strictest, at 0.01, holds"), (POINTS, 0.95, 0.95, None, "own threshold"), ([], 0.5, 0.5, None, "own threshold")],
)
def test_a_rate_below_every_operating_point_is_judged_as_strictly_as_the_card_can_and_says_so(
    points: list[OperatingPoint], own: float, threshold: float, held: float | None, said: str
) -> None:
    """Who asked for 0.001 in place of 0.01 was judged at the model's own threshold, which is laxer: more reals were called fake than before."""
    bound = bind(SETTINGS, "forensics", "", "dense", own, 0.1, points)
    assert (bound.threshold, bound.target_fpr) == (threshold, held) and "rate of 0.001" in bound.note and said in bound.note


@pytest.mark.parametrize(("policy", "asked", "own", "said"), [
    ("", "", "standard", False), ("", "standard", "standard", False), ("", "dense", "standard", True), ("moderation", "", "standard", True),
    ("moderation", "standard", "standard", False), ("moderation", "", "fast", False),
])  # fmt: skip
def test_a_mode_that_the_threshold_was_not_set_in_is_said(policy: str, asked: str, own: str, said: bool) -> None:
    note = bind(SETTINGS, policy, asked, own, 0.5, 0.1, POINTS).note
    assert ("were set in mode" in note) == said


def test_an_unknown_policy_is_an_error() -> None:
    with pytest.raises(KeyError):
        bind(SETTINGS, "nobody", "", "standard", 0.5, 0.1, POINTS)
