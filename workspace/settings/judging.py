"""How a challenger is measured, how drift is, and the bounds of the gates."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field

from workspace.blocks import Block, Rule
from workspace.settings.values import Fraction, NotNegative, Positive


def _rises_from_zero(values: Sequence[float]) -> bool:
    return bool(values) and values[0] == 0 and all(low < high for low, high in pairwise(values)) and values[-1] < 0.5


class EvaluateSettings(Block):
    """How honest figures are made."""

    RULES = (
        Rule(("attack_eps",), _rises_from_zero, "attack_eps must rise from 0.0 and stay below 0.5"),
        Rule(
            ("attacks",),
            lambda attacks: not {"pgd", "apgd"}.isdisjoint(attacks),
            "attacks: none of them follows gradients, so that what stands white-box would not be known: name pgd or apgd",
        ),
    )

    resamples: Positive = Field(2000, description="Cluster-bootstrap resamples.")
    target_fpr: float = Field(0.0125, gt=0, lt=1, description="The threshold is set on validation to this false-positive rate; well below gates.max_fpr.")
    abstain: Fraction = Field(0.1, description="Half-width of the band around the threshold that is called uncertain.")
    anchor_promotions: NotNegative = Field(
        8,
        description="Gate forgetting also compares with the champion of so many promotions ago, or the first: small losses add up. 0: it does not.",
    )
    past_champions: Positive = Field(4, description="Past champions rescored on each cycle's new holdout videos: the decay curve of the report.")
    attack_eps: tuple[float, ...] = Field(
        (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 0.05, 16 / 255), strict=False, description="Points of the accuracy-against-eps curve, in pixels of [0,1]."
    )
    attack_steps: Positive = Field(20, description="Gradient steps of the white-box attacks.")
    attack_restarts: Positive = Field(1, description="Random starts of the white-box attacks; Square begins once.")
    attacks: tuple[Literal["pgd", "apgd", "square"], ...] = Field(
        ("pgd", "apgd", "square"), strict=False, min_length=1, description="The curve is that of the worst of these; Square uncovers masked gradients."
    )
    square_queries: Positive = Field(5000, description="How often Square asks the model, a clip and strength; a thousand are cheap on a GPU alone.")


class DriftSettings(Block):
    """Permutation test on embeddings, and Evidently's report for people."""

    RULES = (
        Rule(
            ("permutations", "alpha"),
            lambda number, alpha: 1 / (number + 1) < alpha,
            "{permutations} permutations cannot show a p-value below alpha ({alpha}): more are needed",
        ),
        Rule(("min_samples", "max_samples"), lambda least, most: least <= most, "min_samples ({min_samples}) exceeds max_samples ({max_samples})"),
    )

    permutations: Positive = Field(199, ge=99, description="Permutations of the test.")
    alpha: float = Field(0.01, gt=0, lt=0.5, description="A p-value below this is drift.")
    min_samples: Positive = Field(20, description="Fewer known ones: undecided. Fewer that came in: passed, too few to move the traffic.")
    max_samples: Positive = Field(500, description="Drawn by seed from each side.")


class GateSettings(Block):
    """Limits a challenger must meet. Fractions are 0..1. Production values are the defaults."""

    min_per_class: Positive = Field(94, description="Least real and fake videos; 94 with no false alarm is the fewest that can show 3.2%.")
    min_people: Positive = Field(
        50, description="People of either class on whom champion and challenger are compared; with 10 or 20 a model that is worse passes once in six times."
    )
    min_auc: Fraction = Field(0.90, description="Area under the ROC curve on the holdout.")
    min_balanced_accuracy: Fraction = Field(0.90, description="Mean of the true-positive and true-negative rates.")
    min_precision: Fraction = Field(0.90, description="At the shipped threshold, were half of the videos fakes.")
    min_recall: Fraction = Field(0.90, description="At the shipped threshold.")
    min_f1: Fraction = Field(0.90, description="At the shipped threshold, were half of the videos fakes.")
    max_fpr: Fraction = Field(0.032, description="The point estimate and n decide.")
    max_ece: Fraction = Field(0.05, description="Expected calibration error after calibration, classes alike, without what chance shows on so few videos.")
    margin: Fraction = Field(0.01, description="Largest tolerated loss of AUC against the champion (lower end of the paired interval).")
    max_log_loss_rise: float = Field(
        0.05, gt=0, description="Largest tolerated rise of log-loss in nats against the champion (upper end); of 2,000 videos it is known to 0.01."
    )
    alpha: float = Field(0.05, gt=0, le=0.1, description="One-sided level of the paired comparison: how often a model worse by the margin may pass.")
    hold_alpha: float = Field(0.01, ge=0.001, lt=0.5, description="Level of each gate that holds for a shown loss: how often noise alone may hold a model.")
    min_slice: Positive = Field(30, description="Fewer videos in a slice: reported, pooled, not judged alone.")
    max_slice_drop: Fraction = Field(0.02, description="A slice that is shown to lose more balanced accuracy against the champion holds the model.")
    min_new_auc: Fraction = Field(0.90, description="On a generator new to the champion, or to a holdout that had fewer than min_slice of it.")
    max_forgetting: Fraction = Field(0.01, description="A generator known before that is shown to lose more AUC holds the model.")
    max_long_forgetting: Fraction = Field(0.02, description="The same against the champion of evaluate.anchor_promotions ago.")
    max_generalisation_gap: Fraction = Field(0.10, description="Train AUC minus holdout AUC.")
    min_score_spread: Fraction = Field(0.05, description="Least standard deviation of p_fake on the holdout.")
    max_transfer_drop: Fraction = Field(0.04, description="Balanced accuracy lost to transferred PGD at 0.05.")
    min_whitebox: Fraction = Field(0.30, description="Least balanced accuracy under the worst white-box attack at 2/255; an undefended model has about 0.")
    max_curve_drop: Fraction = Field(0.05, description="Largest loss of mean robust accuracy against the champion.")
    max_latency_seconds: float = Field(
        5.0, gt=0, description="The network's time for the clips of a 10 s video, in the model's own mode; decoding and faces come on top."
    )
    max_model_bytes: Positive = Field(200 << 20, description="Size of the exported model.")
    max_serving_bytes: Positive = Field(1536 << 20, description="Memory of a service process that has answered golden clips with it.")
    max_parity: float = Field(1e-3, gt=0, description="Largest difference of p_fake between checkpoint and export on golden clips.")
    max_label_noise: Fraction = Field(0.01, description="Incoming labels that the champion is shown to contradict more often than this beyond known ones hold.")
    hold_on_drift: bool = Field(True, description="Whether drift that no holdout slice covers holds the model back.")
