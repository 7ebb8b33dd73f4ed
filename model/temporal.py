"""What reads the frames in order: LSTM, GRU, or a small transformer encoder. All take [B, T, F] and give states [B, T, D].

Clips of different lengths are read as if each were alone: recurrent heads are packed, the transformer does not look at padding.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workspace.settings import ModelSettings

HEADS = 4


def build_temporal(settings: ModelSettings, features: int) -> tuple[nn.Module, int]:
    """The module of `settings.temporal` for features [B, T, F], and the width D of its states.

    A transformer's D is F itself, and `lstm_hidden` its inner width; `bidirectional` means nothing to it.
    """
    if settings.temporal == "transformer":
        return Transformer(features, settings.lstm_hidden, settings.lstm_layers), features
    kind = nn.LSTM if settings.temporal == "lstm" else nn.GRU
    made = kind(features, settings.lstm_hidden, settings.lstm_layers, batch_first=True, bidirectional=settings.bidirectional)
    return made, settings.lstm_hidden * (2 if settings.bidirectional else 1)


def read(module: nn.Module, features: Tensor, lengths: Tensor | None) -> Tensor:
    """States [B, T, D] of features [B, T, F]; zeros beyond a clip's length, or whatever the padding gives there for a transformer.

    A recurrent head reads and remembers in float32: in float16 its gradients are lost where the loss is small.
    """
    if isinstance(module, Transformer):
        return module(features, lengths)[0]
    with torch.autocast(features.device.type, enabled=False):  # on a GPU it would make float16 of a recurrent head, whatever it was asked for
        features = features.float()
        if lengths is None:
            states: Tensor = module(features)[0]
            return states
        packed = nn.utils.rnn.pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True, total_length=features.shape[1])[0]


class Transformer(nn.Module):
    """Encoder blocks, norm first (Vaswani et al. 2017; Xiong et al. 2020), with sines and cosines for the place in time."""

    def __init__(self, features: int, inner: int, layers: int) -> None:
        super().__init__()
        if features % HEADS:
            raise ValueError(f"{features} features do not divide into {HEADS} heads")
        self.blocks = nn.ModuleList(Block(features, inner) for _ in range(layers))
        self.norm = nn.LayerNorm(features)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        """x [B, T, F], lengths [B] or None -> states [B, T, F]."""
        x = x + places(x)
        seen = None
        if lengths is not None:
            seen = (torch.arange(x.shape[1], device=x.device) < lengths.to(x.device).unsqueeze(1))[:, None, None, :]  # [B, 1, 1, T]
        for block in self.blocks:
            x = block(x, seen)
        return self.norm(x), None


class Block(nn.Module):
    """Self-attention over time and a two-layer network, each added to what it reads."""

    def __init__(self, features: int, inner: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(features), nn.LayerNorm(features)
        self.asked, self.answer = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.widen, self.narrow = nn.Linear(features, inner), nn.Linear(inner, features)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """x [B, T, F]; seen [B, 1, 1, T] bool or None -> [B, T, F]."""
        query, key, value = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in self.asked(self.before(x)).chunk(3, dim=2))
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        x = x + self.answer(found.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.widen(self.between(x))))


def places(x: Tensor) -> Tensor:
    """Sines and cosines [1, T, F] of each frame's place in the clip."""
    half = x.shape[2] // 2
    rates = torch.exp(torch.arange(half, device=x.device, dtype=x.dtype) * (-math.log(10_000.0) / half))
    angles = torch.arange(x.shape[1], device=x.device, dtype=x.dtype).unsqueeze(1) * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, x.shape[2] - 2 * half)).unsqueeze(0)
