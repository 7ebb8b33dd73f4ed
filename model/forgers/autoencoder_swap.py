"""The first kind of deepfake: one encoder that all faces share, two decoders, each of which has only ever drawn its own people.

People are split into two groups; each decoder learns to undo a random bend of its group's faces. Drawing a face of one group
with the other's decoder keeps pose and expression and changes the person.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from model.forgers.decoders import Up, drawing_loss

SIDE, CODE, WIDTH = 64, 64, 32  # pixels of the face, channels of its 8 x 8 code, channels of the widest picture layer
BATCH = 12  # of each group


class SwapNetwork(nn.Module):
    """Faces [N, 3, 64, 64] in 0..1 and the group whose decoder draws -> faces [N, 3, 64, 64]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, WIDTH), (WIDTH, 2 * WIDTH), (2 * WIDTH, 4 * WIDTH)):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.SiLU()]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(4 * WIDTH, CODE, 1))
        self.decoders = nn.ModuleList(_decoder() for _ in range(2))

    def forward(self, faces: Tensor, group: int) -> Tensor:
        """[N, 3, 64, 64] -> [N, 3, 64, 64], drawn by the decoder of `group` (0 or 1)."""
        return torch.sigmoid(self.decoders[group](self.encoder(faces)))


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((CODE, 4 * WIDTH), (4 * WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH)):
        layers += [Up("shuffle", inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, 3, 3, 1, 1))


def train_swap(
    groups: Sequence[Sequence[NDArray[np.uint8]]], steps: int, seed: int, tell: Callable[[int, int], None] = lambda done, total: None
) -> SwapNetwork:
    """A network that knows two groups of faces, each a list of crops [S, S, 3] uint8. Same inputs, same network; about 6 s for 100 steps on two cores."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SwapNetwork().to(memory_format=torch.channels_last)
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.5, 0.99), weight_decay=1e-4)
    faces = [[shrink(picture) for picture in group] for group in groups]
    for step in range(steps):
        loss = torch.zeros(())
        for group, members in enumerate(faces):
            pairs = [_bent(members[int(rng.integers(len(members)))], rng) for _ in range(BATCH)]
            given, wanted = (torch.stack([pair[side] for pair in pairs]).contiguous(memory_format=torch.channels_last) for side in (0, 1))
            loss = loss + drawing_loss(network(given, group), wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        tell(step + 1, steps)
    return network.eval()


def shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A crop [S, S, 3] at the network's size."""
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _bent(face: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A face with a random bend, mirrored by chance, and the same without the bend."""
    if rng.random() < 0.5:
        face = np.ascontiguousarray(face[:, ::-1])
    grid = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    offset = cv2.resize(rng.normal(0, 0.02, (5, 5, 2)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    x, y = np.meshgrid(grid, grid)
    bent = cv2.remap(face, (x + offset[..., 0]) * SIDE - 0.5, (y + offset[..., 1]) * SIDE - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return _tensor(np.asarray(bent, np.uint8)), _tensor(face)


def _tensor(face: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(face.transpose(2, 0, 1))).float() / 255


@torch.no_grad()
def draw_as(network: SwapNetwork, frames: NDArray[np.uint8], group: int) -> NDArray[np.float32]:
    """The crops [T, S, S, 3] uint8 as faces of `group`, float32 0..255 of the same shape."""
    size = frames.shape[1]
    given = torch.stack([_tensor(shrink(frame)) for frame in frames]).contiguous(memory_format=torch.channels_last)
    drawn = F.interpolate(network(given, group), (size, size), mode="bicubic", align_corners=False)
    return (drawn.clamp(0, 1) * 255).permute(0, 2, 3, 1).contiguous().numpy()
