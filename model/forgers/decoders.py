"""Small convolutional autoencoders of faces: what a learned decoder leaves in a picture that it has drawn.

The three decoders differ in how they enlarge: transposed convolution, nearest neighbour and convolution, sub-pixel shuffle;
the traces of each are its own (Odena et al. 2016). They are fully convolutional, so they learn from patches and draw whole
pictures of any size. Nothing here blends: a picture drawn whole has no seam.
"""

import copy
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("transposed", "resize", "shuffle")
WIDTH, LATENT, SHRINK = 32, 12, 4  # channels, channels of the code, how much smaller it is: 16 pixels have 12 numbers instead of 48
PATCH, BATCH = 64, 16
MARGIN = 8  # pixels mirrored round a picture before it is drawn
MOST_JITTER, MOST_ENLARGED, AT_ITS_OWN_SIZE = 0.12, 2.0, 0.3


class Up(nn.Module):
    """One enlargement by two, [N, inputs, h, w] -> [N, outputs, 2h, 2w]."""

    def __init__(self, kind: str, inputs: int, outputs: int) -> None:
        super().__init__()
        if kind == "transposed":
            self.work: nn.Module = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
        elif kind == "resize":
            self.work = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(inputs, outputs, 3, 1, 1))
        elif kind == "shuffle":
            self.work = nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 3, 1, 1), nn.PixelShuffle(2))
        else:
            raise ValueError(f"no decoder is called {kind!r}; there are {', '.join(KINDS)}")

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, 2h, 2w]."""
        return self.work(x)


def encoder() -> nn.Sequential:
    """Pictures [N, 3, H, W] -> code [N, LATENT, H/4, W/4]."""
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 4, 2, 1), nn.SiLU(),
        nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1), nn.SiLU(),
        nn.Conv2d(2 * WIDTH, LATENT, 3, 1, 1),
    )  # fmt: skip


def decoder(kind: str) -> nn.Sequential:
    """Code [N, LATENT, h, w] -> pictures [N, 3, 4h, 4w]."""
    return nn.Sequential(
        nn.Conv2d(LATENT, 2 * WIDTH, 3, 1, 1), nn.SiLU(),
        Up(kind, 2 * WIDTH, WIDTH), nn.SiLU(),
        Up(kind, WIDTH, WIDTH // 2), nn.SiLU(),
        nn.Conv2d(WIDTH // 2, 3, 3, 1, 1),
    )  # fmt: skip


class Autoencoder(nn.Module):
    """Pictures [N, 3, H, W] in 0..1 -> the same, drawn anew. H and W are multiples of 4."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder(kind)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 3, H, W]."""
        return self.decoder(self.encoder(x))


def drawing_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Pixels and their slopes: without the slopes what comes out is soft, and softness is not the trace that we look for."""
    loss = F.l1_loss(drawn, wanted)
    for axis in (2, 3):
        loss = loss + F.l1_loss(drawn.diff(dim=axis), wanted.diff(dim=axis))
    return loss


def train_autoencoder(
    kind: str, pictures: Sequence[NDArray[np.uint8]], steps: int, seed: int, tell: Callable[[int, int], None] = lambda done, total: None
) -> Autoencoder:
    """An autoencoder of `kind` that has seen random patches of `pictures` (each [S, S, 3] uint8, any S from 64). Same inputs, same network.

    AdamW at 2e-3 with a cosine; about 4 s for 100 steps on two cores.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(kind).to(memory_format=torch.channels_last)
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=5e-5)
    for step in range(steps):
        batch = torch.stack([_patch(pictures[int(rng.integers(len(pictures)))], rng) for _ in range(BATCH)]).contiguous(memory_format=torch.channels_last)
        loss = drawing_loss(network(batch), batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        tell(step + 1, steps)
    return network.eval()


def _patch(picture: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    side = min(PATCH, picture.shape[0] // 4 * 4)
    top, left = rng.integers(0, picture.shape[0] - side + 1, 2)
    patch = picture[top : top + side, left : left + side]
    return torch.from_numpy(np.ascontiguousarray(patch[:, :: 1 if rng.random() < 0.5 else -1].transpose(2, 0, 1))).float() / 255


@torch.no_grad()
def draw_unlike(network: Autoencoder, frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """As `draw_again`, by a sibling of the network and at a size of its own: no two clips carry the same trace.

    Each weight of the decoder is scaled by a normal draw about 1 (spread up to MOST_JITTER), and the picture is drawn up to twice as
    large and brought back. A detector learns one fixed network's trace by heart, and then knows that network alone.
    """
    sibling, spread = copy.deepcopy(network), float(rng.uniform(0, MOST_JITTER))
    for parameter in sibling.decoder.parameters():
        parameter.mul_(1 + spread * torch.from_numpy(rng.standard_normal(tuple(parameter.shape), dtype=np.float32)))
    size = frames.shape[1]
    side = round(size * float(rng.uniform(1, MOST_ENLARGED)))
    if rng.random() < AT_ITS_OWN_SIZE or side == size:
        return draw_again(sibling, frames)
    large = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC) for frame in frames])
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in draw_again(sibling, large)])


@torch.no_grad()
def draw_again(network: Autoencoder, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The frames [T, S, S, 3] uint8 as the network draws them, float32 0..255 of the same shape. Sides are padded by mirroring."""
    size = frames.shape[1]
    more = MARGIN + (-size) % SHRINK
    given = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 255
    given = F.pad(given, (MARGIN, more, MARGIN, more), mode="reflect")  # a network's own border must not stand in the picture
    drawn = network(given.contiguous(memory_format=torch.channels_last))[:, :, MARGIN : MARGIN + size, MARGIN : MARGIN + size]
    return (drawn.clamp(0, 1) * 255).permute(0, 2, 3, 1).contiguous().numpy()
