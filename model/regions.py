"""Where eyes, lips and skin lie in an aligned crop: the prior of the spatial attention.

Serving sees crops, not landmarks, so the prior is a canonical face in crop coordinates. The crop (media/align.py) is
centred between forehead top and chin, upright, and its side is the margin times that extent. All constants below are in
units of the extent, from the centre, x right and y down: mean shape of the 468-point mesh over frontal frames, where the
eye corners lie at x 0.109 and 0.284, the lips' corners at (0.164, 0.232) and the temples at x 0.433. A test compares the
regions with those of a real mesh.
"""

import torch
from torch import Tensor

MARGIN = 1.3  # the default of FaceSettings; at another the regions stay where they are, and are off by as much as the two differ
EYES = ((-0.197, -0.174), (0.197, -0.174))
EYE_RADII = (0.115, 0.060)
LIPS = (0.0, 0.235)
LIP_RADII = (0.175, 0.085)
FACE_RADII = (0.433, 0.500)
FLOOR = 0.05  # part of the prior spread over the whole crop: hair and borders are seen too
FINE = 8  # regions are drawn at this multiple and averaged, so that thin lips still count


def _ellipse(size: int, centre: tuple[float, float], radii: tuple[float, float]) -> Tensor:
    """Soft ellipse [size, size]: near 1 at its centre, 0.5 on its border."""
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) / size - 0.5) * MARGIN
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.sigmoid(4.0 * (1.0 - ((x - centre[0]) / radii[0]) ** 2 - ((y - centre[1]) / radii[1]) ** 2))


def canonical_regions(size: int) -> Tensor:
    """Masks [3, size, size] of eyes, lips and skin (the face without the two) of the canonical face, in 0..1."""
    eyes = torch.stack([_ellipse(size, centre, EYE_RADII) for centre in EYES]).amax(0)
    lips = _ellipse(size, LIPS, LIP_RADII)
    skin = _ellipse(size, (0.0, 0.0), FACE_RADII) * (1 - torch.maximum(eyes, lips))
    return torch.stack([eyes, lips, skin]).float()


def attention_prior(side: int, parts: tuple[float, float, float]) -> Tensor:
    """The prior [side, side], summing to 1: `parts` of it (eyes, lips, skin) lie on the three regions, less the floor."""
    coarse = torch.nn.functional.avg_pool2d(canonical_regions(side * FINE).unsqueeze(0), FINE).squeeze(0)  # [3, side, side]
    shares = coarse / coarse.sum((1, 2), keepdim=True)
    prior = (shares * torch.tensor(parts).view(3, 1, 1)).sum(0)
    return (1 - FLOOR) * prior + FLOOR / side**2
