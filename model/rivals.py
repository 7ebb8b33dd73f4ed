"""Networks of the literature to stand beside ours: frame encoders [N, 3, H, W] -> [N, F, h, w], and one that reads whole clips in 3D."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workspace.settings import ModelSettings


class Meso4(nn.Module):
    """MesoNet's Meso-4 (Afchar et al. 2018): four convolutions and poolings, 28k parameters with its head; the head is ours here."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, kernel: int, pool: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.ReLU(), nn.BatchNorm2d(outputs), nn.MaxPool2d(pool, pool)]

        self.blocks = nn.Sequential(*block(3, 8, 3, 2), *block(8, 8, 5, 2), *block(8, 16, 5, 2), *block(16, 16, 5, 4))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 16, H/32, W/32]."""
        found: Tensor = self.blocks(x)
        return found


class _Separable(nn.Module):
    """ReLU, depthwise 3x3, pointwise 1x1, batch norm; the ReLU may be left out before the first."""

    def __init__(self, inputs: int, outputs: int, relu: bool = True) -> None:
        super().__init__()
        self.relu = relu
        self.depth = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False)
        self.point = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.point(self.depth(F.relu(x) if self.relu else x)))
        return found


class _XceptionBlock(nn.Module):
    """Separable convolutions beside a shortcut; `stride` 2 pools."""

    def __init__(self, widths: tuple[int, ...], stride: int, relu_first: bool = True) -> None:
        super().__init__()
        steps: list[nn.Module] = [_Separable(a, b, relu_first or place > 0) for place, (a, b) in enumerate(pairwise(widths))]
        self.steps = nn.Sequential(*steps, *([nn.MaxPool2d(3, 2, 1)] if stride == 2 else []))
        same = stride == 1 and widths[0] == widths[-1]
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False), nn.BatchNorm2d(widths[-1]))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.steps(x) + self.shortcut(x)
        return found


class Xception(nn.Module):
    """Xception (Chollet 2017), figure 5, without its classifier: the usual baseline of FaceForensics++. 20.8M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        )  # fmt: skip
        entry = [_XceptionBlock((64, 128, 128), 2, relu_first=False), _XceptionBlock((128, 256, 256), 2), _XceptionBlock((256, 728, 728), 2)]
        middle = [_XceptionBlock((728, 728, 728, 728), 1) for _ in range(8)]
        self.blocks = nn.Sequential(*entry, *middle, _XceptionBlock((728, 728, 1024), 2))
        self.exit = nn.Sequential(_Separable(1024, 1536, relu=False), nn.ReLU(), _Separable(1536, 2048, relu=False), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 2048, H/32, W/32]."""
        found: Tensor = self.exit(self.blocks(self.stem(x)))
        return found


class SwinMap(nn.Module):
    """A torchvision Swin (Liu et al. 2021) as a map: its last stage, channels first."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.features, self.norm = classifier.features, classifier.norm

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, F, H/32, W/32]."""
        return self.norm(self.features(x)).permute(0, 3, 1, 2).contiguous()


class VitMap(nn.Module):
    """A torchvision ViT (Dosovitskiy et al. 2021) as a map: the tokens of its patches, without the class token."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.vit = classifier
        self.vit.heads = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, S, S] of the side it was built for -> [N, D, S/patch, S/patch]."""
        tokens = self.vit._process_input(x.contiguous())
        tokens = torch.cat([self.vit.class_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        found = self.vit.encoder(tokens)[:, 1:]
        side = x.shape[-1] // self.vit.patch_size
        return found.transpose(1, 2).unflatten(2, (side, side))


class Clip3D(nn.Module):
    """A 3D ResNet-18 over whole clips (Tran et al. 2018) with one logit: trains like ours in both phases, has neither LSTM nor attention."""

    def __init__(self, settings: ModelSettings, size_px: int) -> None:
        super().__init__()
        import torchvision

        network = torchvision.models.video.r3d_18(weights=None)
        self.settings, self.size_px = settings, size_px
        self.backbone = nn.Sequential(network.stem, network.layer1, network.layer2, network.layer3, network.layer4)
        self.dropout, self.head = nn.Dropout(settings.dropout), nn.Linear(512, 1)

    def forward(self, clips: Tensor, lengths: Tensor | None = None) -> Tensor:
        """clips [B, T, 3, H, W] in 0..1 -> logits [B]. Filled-up frames repeat the last one and count like it."""
        if self.settings.shrink > 1:
            clips = F.avg_pool2d(clips.flatten(0, 1), self.settings.shrink).unflatten(0, clips.shape[:2])
        maps = self.backbone((clips.transpose(1, 2) - 0.45) / 0.225)  # [B, 512, t, h, w]
        found: Tensor = self.head(self.dropout(maps.mean((2, 3, 4)))).squeeze(1)
        return found

    def frame_logits(self, frames: Tensor) -> Tensor:
        """frames [N, 3, H, W] -> logits [N]: each a clip of one frame."""
        return self(frames.unsqueeze(1))
