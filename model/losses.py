"""What training minimises. Logits [B], positive means fake; `fake` [B] is bool."""

import torch
from torch import Tensor
from torch.nn import functional as F

ENOUGH = 0.8  # quantiles of fakes and reals this far apart are not pushed further: calibration would pay for it
QUANTILES = 16


def cross_entropy(logits: Tensor, fake: Tensor, kind: str = "focal", gamma: float = 2.0) -> Tensor:
    """Loss of each clip [B]: binary cross-entropy, or the focal loss (Lin et al. 2017), which is gamma=0's cross-entropy."""
    plain = F.binary_cross_entropy_with_logits(logits, fake.to(logits.dtype), reduction="none")
    if kind == "bce":
        return plain
    return (1.0 - torch.exp(-plain)).clamp_min(1e-8) ** gamma * plain  # exp(-plain) is the probability of the truth


def wasserstein(logits: Tensor, fake: Tensor) -> Tensor:
    """How far the score distributions still are from ENOUGH apart: 0 (apart) .. 1 + ENOUGH (the wrong way round). 0 without both classes.

    The 1-D Wasserstein distance is the mean gap between equal quantiles of p_fake. The gaps are signed, so that reals
    above fakes are never rewarded for being far apart.
    """
    if not fake.any() or fake.all():
        return logits.sum() * 0.0
    scores = torch.sigmoid(logits.float())
    levels = (torch.arange(QUANTILES, device=logits.device) + 0.5) / QUANTILES
    gaps = torch.quantile(scores[fake], levels) - torch.quantile(scores[~fake], levels)
    return F.relu(ENOUGH - gaps).mean()


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence [B] from the teacher's Bernoulli to ours: 0 where both say the same, whatever the truth."""
    target = torch.sigmoid(teacher)
    entropy = F.binary_cross_entropy_with_logits(teacher, target, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") - entropy
