"""What a policy name means for a model: where the threshold lies, how wide the uncertain band is, how densely a video is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.card import OperatingPoint
from model.inference import other_mode
from workspace.choices import POLICIES
from workspace.settings import FeedbackSettings, PolicySettings


@dataclass(frozen=True, slots=True)
class Bound:
    """How one detection is judged. `target_fpr` is None where the model's own threshold holds."""

    threshold: float
    abstain: float
    mode: str
    target_fpr: float | None
    note: str = ""


def policy_settings(settings: FeedbackSettings, policy: str) -> PolicySettings | None:
    """The settings of a policy, None without one. Raises KeyError for an unknown name."""
    if not policy:
        return None
    if policy not in POLICIES:
        raise KeyError(policy)
    found: PolicySettings = getattr(settings, policy)
    return found


def bind(settings: FeedbackSettings, policy: str, mode: str, own_mode: str, threshold: float, abstain: float, points: Sequence[OperatingPoint]) -> Bound:
    """How a model judges under a policy. `points` are the operating points of its card, `own_mode` the mode they were set in.

    Of the points whose target is at most the policy's the one nearest to it is taken: stricter, never laxer. `note` says what does not
    hold: where the card has none, the strictest of its points is used, or the model's own threshold where none is stricter than that; in
    another mode than its own no rate is known.
    """
    wanted = policy_settings(settings, policy)
    judged = mode or (wanted.mode if wanted else "") or own_mode
    notes = [other_mode(own_mode, judged)] if judged != own_mode else []
    if wanted is None:
        return Bound(threshold, abstain, judged, None, "; ".join(notes))
    band, target = (abstain if wanted.abstain is None else wanted.abstain), None
    if wanted.target_fpr is not None:
        fitting = [point for point in points if point.target_fpr <= wanted.target_fpr + 1e-9]
        point = max(fitting, key=lambda one: one.target_fpr, default=None)
        if point is None:
            point = min((one for one in points if one.threshold > threshold), key=lambda one: one.target_fpr, default=None)
            holds = f"its strictest, at {point.target_fpr:g}, holds" if point else "its own threshold holds"
            notes.append(f"this model has no operating point at a false-positive rate of {wanted.target_fpr:g}: {holds}")
        if point is not None:
            threshold, target = point.threshold, point.target_fpr
    return Bound(threshold, band, judged, target, "; ".join(notes))
