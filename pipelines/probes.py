"""Probes: the same clips spoiled in a known way, where the right answer is known beforehand. Reported, judged by nobody but the reader.

A detector that still tells classes apart with the face blacked out looks at the surroundings; one that does as well on shuffled
frames has no use for time; one that calls a poor picture fake follows quality, not forgery, and one that calls a grey one so, colour;
and if numbers beside the pixels tell the classes apart, the set itself gives the answer away.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.comparison import auc_interval
from pipelines.nuisance import area_of, numbers_alone
from pipelines.robustness import attack_panel
from pipelines.scoring import Tell, read_set, score_rows, silent
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from model.inference import Engine

CLIPS = 120  # of the holdout, one a video, half of them real
AT_ONCE = 16
FACE = (0.15, 0.15, 0.85, 0.92)  # left, top, right, bottom of the face in a crop of margin 1.3, in parts of its side
SHUFFLES = 20
PASSES = 5  # of the network over clips
CLOSE = "near 0.5"
Clip = NDArray[np.uint8]


def measure(root: Path, settings: Settings, origins: list[str], seed: int, tell: Tell = silent) -> dict[str, Any]:
    """AUC of build/model on clips of the holdout, each probe with what it should be and its interval; {"n": 0} without both classes."""
    import pandas as pd

    from media.shards import read_clip
    from model.inference import Engine

    panel = attack_panel(root, origins, CLIPS, settings.split.key)
    if panel.empty:
        return {"n": 0, "rows": []}
    engine = Engine(root / "build/model", threads=settings.serve.threads)
    clips = [read_clip(root, row) for row in panel.to_dict("records")]
    plain = score_rows(root, root / "build/model", panel, threads=settings.serve.threads)["logit"].to_numpy()  # scored before: read, not run
    spoilt = {}
    for number, (name, spoil) in enumerate({"shuffled": _shuffled, "one": _middle, "faceless": _faceless}.items(), start=1):
        spoilt[name] = _logits(engine, clips, spoil, seed)
        tell(number, PASSES, "clips probed")
    real = (panel["label"] == "real").to_numpy()
    reals = panel[real].assign(p=plain[real])
    pixels = [clip for clip, is_real in zip(clips, real, strict=True) if is_real]
    copies = {}
    for number, (name, spoil) in enumerate({"poor": poor_picture, "grey": grey_picture}.items(), start=len(spoilt) + 1):
        copies[name] = pd.concat([reals, reals.assign(label="fake", p=_logits(engine, pixels, spoil, seed))], ignore_index=True)
        tell(number, PASSES, "clips probed")
    rng = np.random.default_rng(seed)

    def area(table: "pd.DataFrame") -> dict[str, Any]:
        return auc_interval(table, "p", settings, seed)

    shuffles = [area_of(rng.permutation(panel["label"].to_numpy(dtype=object)), plain) for _ in range(SHUFFLES)]
    rows = [
        {"name": "clips as they are", "expected": "high", **area(panel.assign(p=plain))},
        {"name": "frames in another order", "expected": "lower, if time is used", **area(panel.assign(p=spoilt["shuffled"]))},
        {"name": "the middle frame alone", "expected": "lower, if time is used", **area(panel.assign(p=spoilt["one"]))},
        {"name": "the face blacked out", "expected": CLOSE, **area(panel.assign(p=spoilt["faceless"]))},
        {"name": "poor copies of the reals against the reals", "expected": f"{CLOSE}: above it poor pictures are called fake", **area(copies["poor"])},
        {"name": "grey copies of the reals against the reals", "expected": f"{CLOSE}: above it black and white is called fake", **area(copies["grey"])},
        {"name": "labels shuffled", "expected": CLOSE, "value": float(np.mean(shuffles)), "low": min(shuffles), "high": max(shuffles), "n": len(panel)},
    ]
    if (aside := numbers_alone(read_set(root, "train"), seed)) is not None:
        rows.append({"name": "numbers beside the pixels, no picture", "expected": CLOSE, **aside})
    return {"n": len(panel), "rows": rows}


def _logits(engine: "Engine", clips: list[Clip], spoil: Callable[[Clip, np.random.Generator], Clip], seed: int) -> NDArray[np.float64]:
    found: list[float] = []
    for start in range(0, len(clips), AT_ONCE):
        part = [spoil(clip, np.random.default_rng([seed, start + place])) for place, clip in enumerate(clips[start : start + AT_ONCE])]
        found += [score.logit for score in engine.score_clips(part)]
    return np.array(found)


def _shuffled(clip: Clip, rng: np.random.Generator) -> Clip:
    return clip[rng.permutation(len(clip))]


def _middle(clip: Clip, rng: np.random.Generator) -> Clip:
    return clip[len(clip) // 2][None]


def _faceless(clip: Clip, rng: np.random.Generator) -> Clip:
    side, covered = clip.shape[1], clip.copy()
    left, top, right, bottom = (round(edge * side) for edge in FACE)
    covered[:, top:bottom, left:right] = 0
    return covered


def poor_picture(clip: Clip, rng: np.random.Generator | None = None) -> Clip:
    """The clip as a poor camera and a stingy service would give it: half the size and back, then JPEG 50."""
    from media.degrade import jpeg_round_trip, rescale

    return jpeg_round_trip(rescale(clip, 0.5), 50)


def grey_picture(clip: Clip, rng: np.random.Generator | None = None) -> Clip:
    """The clip without its colours (luma of BT.601)."""
    return np.stack([cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for frame in clip])
