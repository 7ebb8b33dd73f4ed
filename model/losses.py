"""What training minimises. Logits [B], positive means fake; `fake` [B] is bool."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ENOUGH = 0.8  # quantiles of fakes and reals this far apart are not pushed further: calibration would pay for it
QUANTILES = 16
CRITIC_WIDTH, PENALTY = 64, 10.0  # the penalty's weight is the paper's


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


class Critic(nn.Module):
    """A critic on clip embeddings whose slope is held near 1, so that the gap of its means is a Wasserstein distance (Gulrajani et al. 2017).

    Critic and network want the same here, classes that lie far apart, so they learn together. The slope is taken at the clips' own
    embeddings, not between two of them: then a batch may be looked at in pieces.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.value = nn.Sequential(nn.Linear(features, CRITIC_WIDTH), nn.LeakyReLU(0.2), nn.Linear(CRITIC_WIDTH, 1))

    def forward(self, embedding: Tensor) -> Tensor:
        """Embeddings [B, F] -> what it says of each, and the square by which its slope there misses 1 [B, 2]."""
        with torch.enable_grad():
            here = embedding.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.value(here).sum(), here, create_graph=True)
            missed = (slope.norm(dim=1) - 1.0) ** 2
        return torch.stack([self.value(embedding).squeeze(1), missed], dim=1)


def critic_gap(said: Tensor, fake: Tensor) -> Tensor:
    """Minus the gap of a Critic's means over fakes and reals, and its penalty: `said` [B, 2] as the critic gives it. 0 without both classes."""
    if not fake.any() or fake.all():
        return said.sum() * 0.0
    return said[~fake, 0].mean() - said[fake, 0].mean() + PENALTY * said[:, 1].mean()


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence [B] from the teacher's Bernoulli to ours: 0 where both say the same, whatever the truth."""
    target = torch.sigmoid(teacher)
    entropy = F.binary_cross_entropy_with_logits(teacher, target, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") - entropy
