"""Where eyes, lips and skin lie in an aligned crop: the prior of the spatial attention.

Serving sees crops, not landmarks, so the prior is a canonical face in crop coordinates (0..1, x right, y down): the
crop is the face's own extent times the margin, centred, so the face oval has 1/margin of its side. Within the oval,
eye centres lie at 0.30 and 0.70 of its width and 0.40 of its height, the lips' centre at 0.50 and 0.78 (mean shape of
the 468-point mesh, frontal). `media/landmarks.py` computes the same regions from real landmarks; a test compares both.
"""

import torch
from torch import Tensor

MARGIN = 1.3                                # of FaceSettings; a little more or less moves the regions by a few percent
EYES = ((0.30, 0.40), (0.70, 0.40))         # centres within the face oval
EYE_RADII = (0.14, 0.09)
LIPS = (0.50, 0.78)
LIP_RADII = (0.19, 0.10)
FACE_RADII = (0.50, 0.50)
FLOOR = 0.05                                # part of the prior spread over the whole crop: hair and borders are seen too


def _ellipse(size: int, centre: tuple[float, float], radii: tuple[float, float]) -> Tensor:
    """Soft ellipse [size, size]: 1 at its centre, 0.5 on its border. Positions are within the face oval, 0..1."""
    at = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    at = (at - 0.5) * MARGIN + 0.5                                       # crop -> oval coordinates
    y, x = torch.meshgrid(at, at, indexing="ij")
    distance = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    return torch.sigmoid(4.0 * (1.0 - distance))


def canonical_regions(size: int) -> Tensor:
    """Masks [3, size, size] of eyes, lips and skin (the face without the two) of the canonical face, in 0..1."""
    eyes = torch.stack([_ellipse(size, centre, EYE_RADII) for centre in EYES]).amax(0)
    lips = _ellipse(size, LIPS, LIP_RADII)
    skin = _ellipse(size, (0.5, 0.5), FACE_RADII) * (1 - torch.maximum(eyes, lips))
    return torch.stack([eyes, lips, skin]).float()


def attention_prior(side: int, parts: tuple[float, float, float]) -> Tensor:
    """The prior [side, side], summing to 1: `parts` of it (eyes, lips, skin) lie on each region, less the floor.

    Regions are drawn at eight times the side and averaged, so that a lip half a cell wide still counts.
    """
    fine = canonical_regions(side * 8)
    coarse = torch.nn.functional.avg_pool2d(fine.unsqueeze(0), 8).squeeze(0)          # [3, side, side]
    shares = coarse / coarse.sum((1, 2), keepdim=True)
    prior = (shares * torch.tensor(parts).view(3, 1, 1)).sum(0)
    return (1 - FLOOR) * prior + FLOOR / side**2
