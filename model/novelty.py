"""How unlike the training media a clip is, from its embedding: the score behind "this model has never met such a picture".

The distance is the mean squared deviation from the centre of validation's embeddings, each dimension in units of its own
spread (a diagonal Mahalanobis distance). The bound is conformal (Vovk et al. 2005): of clips of further people like validation's at
most ALARMS are above it, whatever their distribution. It counts people, one clip of each, since clips of one person are not
exchangeable with those of another; too few people to promise that give no bound, and so no alarm.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALARMS = 0.01
LEAST_SPREAD = 1e-3
Embeddings = Sequence[NDArray[np.floating]] | NDArray[np.floating]


def fit_novelty(embeddings: Embeddings, clusters: Sequence[str]) -> dict[str, Any]:
    """What the card keeps: `centre` and `spread` [D], `bound` (None: no promise is possible), `alarms`, `people` behind the bound.

    `embeddings` [N, D] of validation clips, `clusters` their people. Every second person makes the centre, the others the bound, each by
    one clip drawn by name: a clip must not help to draw the circle that it is tested against. No clips: no centre.
    """
    if not len(embeddings):
        return {"centre": [], "spread": [], "bound": None, "alarms": ALARMS, "people": 0}
    table = np.asarray(embeddings, dtype=np.float64)
    place = {name: number for number, name in enumerate(sorted(set(clusters)))}
    first = np.array([place[name] % 2 == 0 for name in clusters])
    centre, spread = table[first].mean(axis=0), np.maximum(table[first].std(axis=0), LEAST_SPREAD)
    found = {"centre": np.round(centre, 5).tolist(), "spread": np.round(spread, 5).tolist(), "alarms": ALARMS, "people": len(place) // 2}
    names = np.asarray(clusters)
    others = np.sort([novelty(found, _one_of(table[names == name], name)) for name, number in place.items() if number % 2])
    rank = math.ceil((len(others) + 1) * (1 - ALARMS))
    return found | {"bound": float(others[rank - 1]) if rank <= len(others) else None}


def _one_of(rows: NDArray[np.floating], name: str) -> NDArray[np.floating]:
    return rows[zlib.crc32(name.encode()) % len(rows)]  # type: ignore[no-any-return]


def novelty(known: dict[str, Any], embedding: NDArray[np.floating]) -> float:
    """The distance of one embedding [D]; about 1 for media like validation's."""
    centre, spread = np.asarray(known["centre"]), np.asarray(known["spread"])
    return float(np.mean(((np.asarray(embedding, dtype=np.float64) - centre) / spread) ** 2))


def video_novelty(known: dict[str, Any], embeddings: Embeddings) -> float:
    """The distance of a video from its clips' embeddings, at least one: the median, of an even number the lower of the two in the middle."""
    found = sorted(novelty(known, row) for row in embeddings)
    return found[(len(found) - 1) // 2]


def is_novel(known: dict[str, Any] | None, embeddings: Embeddings) -> bool:
    """Whether most of a video's clips (more than half) lie beyond the bound. False where there is none."""
    if not known or known.get("bound") is None or not len(embeddings):
        return False
    return video_novelty(known, embeddings) > float(known["bound"])
