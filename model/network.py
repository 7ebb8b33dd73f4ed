"""The ResNeXt-LSTM: faces over time in, one logit out (positive means fake).

    frames -> shrink -> normalise -> CNN -> spatial attention (eyes, lips, skin; then learned) -> features
    features -> frame head -> frame logits -> certainty |2p-1|
    features * certainty -> LSTM (or GRU, transformer: model/temporal.py) -> temporal head
    logit = fusion * certainty-weighted mean of frame logits + (1 - fusion) * temporal head        (60 / 40)

That is the fusion of heads. Fusion of features averages the weighted mean of the frame features, brought to the width of the states, with the
summary of the states, by the same weight, and one head reads the average. The weight is fixed, or learned in phase 2 from there on.

The frame head learns in phase 1, and in phase 2 where it has a part in the logit: by fusion of heads, or as certainty attention. Where it has none
the backbone goes on without it, and the certainty that is told is the clip's own, |2p-1| of its logit, the same for each of its frames.

B clips, T frames, H = W = size_px, F encoder features, h the side of its maps, D width of the temporal states.
Pixels are in [0,1] and normalised inside, so that an attack's eps is one of pixels. One frame (T=1) is a clip too.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.backbones import build_backbone, feature_shape
from model.regions import attention_prior
from model.temporal import build_temporal, read
from workspace.settings import ModelSettings

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEAST_WEIGHT = 0.25  # of a frame nobody is certain of: with 0 an untrained frame head would starve the LSTM of gradients


@dataclass(frozen=True, slots=True)
class ClipOutputs:
    """Everything the network says about a batch. Frames beyond a clip's length hold zeros."""

    logits: Tensor  # [B]
    frame_logits: Tensor  # [B, T]
    certainty: Tensor  # [B, T], 0..1: the frame head's, or the clip's own where that head has no part in the logit
    embedding: Tensor  # [B, F], mean frame feature
    attention: Tensor  # [B, T, h, h], each map sums to 1


class SpatialAttention(nn.Module):
    """Pools a feature map with weights that start as the prior and learn a residual to it."""

    prior: Tensor

    def __init__(self, features: int, side: int, parts: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("prior", attention_prior(side, parts).flatten().log())  # [h*h]
        self.residual = nn.Conv2d(features, 1, 1)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """maps [N, F, h, h] -> features [N, F], weights [N, h*h]."""
        weights = torch.softmax(self.prior + self.residual(maps).flatten(1), dim=1)
        return torch.einsum("nfp,np->nf", maps.flatten(2), weights), weights


class ResNeXtLSTM(nn.Module):
    """The detector. `settings` and `size_px` decide its shape and are stored in its file."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: ModelSettings, size_px: int) -> None:
        super().__init__()
        self.settings, self.size_px = settings, size_px
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.backbone = build_backbone(settings.backbone, settings.weights, size_px // settings.shrink)
        self.features, self.side = feature_shape(self.backbone, size_px // settings.shrink)
        self.attention = SpatialAttention(self.features, self.side, settings.spatial_prior) if settings.spatial_attention else None
        self.norm = nn.LayerNorm(self.features)
        self.dropout = nn.Dropout(settings.dropout)
        self.frame_head = nn.Linear(self.features, 1)
        self.temporal, width = build_temporal(settings, self.features)
        self.temporal_head = nn.Linear(width, 1)
        self.bridge = nn.Linear(self.features, width) if settings.fusion == "features" else None
        self.fusion_logit = nn.Parameter(torch.tensor(settings.fusion_cnn).logit()) if settings.fusion_learned else None
        nn.init.normal_(self.temporal_head.weight, std=0.01)  # phase 2 starts from what phase 1 has learned, not from noise
        nn.init.zeros_(self.temporal_head.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # grouped convolutions train four times faster so on a CPU

    @property
    def frame_head_has_part(self) -> bool:
        """Whether the frame head has a part in a clip's logit. One that has none says nothing of a clip."""
        settings = self.settings
        return settings.certainty_attention or (settings.fusion == "heads" and (settings.fusion_learned or settings.fusion_cnn > 0))

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames [N, 3, H, W] in 0..1 -> features [N, F], attention [N, h*h]."""
        return self.pool(self.maps(frames))

    def maps(self, frames: Tensor) -> Tensor:
        """frames [N, 3, H, W] in 0..1 -> what the backbone sees [N, F, h, h]."""
        if self.settings.shrink > 1:
            frames = F.avg_pool2d(frames, self.settings.shrink)
        found: Tensor = self.backbone(((frames - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        return found

    def pool(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """maps [N, F, h, h] -> features [N, F], attention [N, h*h]."""
        if self.attention is None:
            cells = maps.shape[2] * maps.shape[3]
            return self.norm(maps.mean((2, 3))), maps.new_full((maps.shape[0], cells), 1.0 / cells)
        pooled, weights = self.attention(maps)
        return self.norm(pooled), weights

    def frame_logits(self, frames: Tensor) -> Tensor:
        """frames [N, 3, H, W] in 0..1 -> logits [N] of single frames (phase 1 trains these)."""
        return self.frame_head(self.dropout(self.encode(frames)[0])).squeeze(1)

    def forward(self, clips: Tensor, lengths: Tensor | None = None) -> Tensor:
        """clips [B, T, 3, H, W] in 0..1; lengths [B] int64 in 1..T, or None when all have T frames. Returns logits [B]."""
        return self.forward_all(clips, lengths).logits

    def forward_all(self, clips: Tensor, lengths: Tensor | None = None) -> ClipOutputs:
        """As forward, with everything on the way. Frames beyond a clip's length are not looked at."""
        if lengths is None:
            features, weights = self.encode(clips.flatten(0, 1))  # [B*T, F]
            features = features.unflatten(0, (clips.shape[0], clips.shape[1]))  # [B, T, F]
            weights = weights.unflatten(0, (clips.shape[0], clips.shape[1]))  # [B, T, h*h]
            mask = torch.ones_like(features[:, :, 0])  # [B, T]
        else:
            seen = torch.arange(clips.shape[1], device=clips.device) < lengths.unsqueeze(1)  # [B, T]
            found, found_weights = self.encode(clips[seen])  # [sum of lengths, F]
            mask = seen.to(found.dtype)
            features = found.new_zeros(*seen.shape, found.shape[1]).masked_scatter(seen.unsqueeze(2), found)
            weights = found_weights.new_zeros(*seen.shape, found_weights.shape[1]).masked_scatter(seen.unsqueeze(2), found_weights)
        frame_logits = self.frame_head(self.dropout(features)).squeeze(2) * mask  # [B, T]
        certainty = torch.tanh(0.5 * frame_logits.abs()) * mask  # |2p-1| = tanh(|z|/2)
        weight = (LEAST_WEIGHT + (1.0 - LEAST_WEIGHT) * certainty) * mask if self.settings.certainty_attention else mask
        share = weight / weight.sum(1, keepdim=True)  # [B, T], sums to 1 over a clip's own frames
        states = read(self.temporal, features * weight.unsqueeze(2), lengths)  # [B, T, D]
        summary = (states * share.unsqueeze(2)).sum(1)  # [B, D]
        fusion = self.settings.fusion_cnn if self.fusion_logit is None else torch.sigmoid(self.fusion_logit)
        if self.bridge is None:
            cnn_logit = (share * frame_logits).sum(1)
            logits = fusion * cnn_logit + (1.0 - fusion) * self.temporal_head(self.dropout(summary)).squeeze(1)
        else:
            seen_frames = self.bridge((features * share.unsqueeze(2)).sum(1))  # [B, D]
            logits = self.temporal_head(self.dropout(fusion * seen_frames + (1.0 - fusion) * summary)).squeeze(1)
        if not self.frame_head_has_part:
            certainty = torch.tanh(0.5 * logits.abs()).unsqueeze(1) * mask
        embedding = features.sum(1) / mask.sum(1, keepdim=True)  # padding holds zeros
        return ClipOutputs(logits, frame_logits, certainty, embedding, weights.unflatten(2, (self.side, -1)))


def count_parameters(model: nn.Module) -> int:
    """Numbers the optimiser may change."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
