"""What a forgery must not be told by: sharpness, colour, contrast, the border, the slope of the spectrum.

A forest sees sixteen such statistics of single frames as training sees them (made anew, augmented), never the picture. Where it
tells a forger's fakes from reals of other people, the detector will too, and will learn nothing else from that forger: decoders
that lost colour were found so, and a swap whose faces were blurs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.scoring import Tell, meshes, silent
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

FRAMES, FOLDS, FEWEST = 150, 5, 20  # frames a class at most, and how few clips of a forger say nothing
BANDS = ((0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.8))  # of the spectrum, in cycles a pixel


def statistics(frame: NDArray[np.uint8]) -> list[float]:
    """Sixteen numbers of a frame [S, S, 3] that say nothing of a face."""
    import cv2

    colours, half = frame.astype(np.float32), slice(frame.shape[0] // 4, 3 * frame.shape[0] // 4)
    grey, saturation = colours.mean(axis=2), cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)[..., 1]
    edges, fine = cv2.Laplacian(grey, cv2.CV_32F), grey - cv2.GaussianBlur(grey, (0, 0), 2.0)
    rim = np.abs(np.concatenate([edges[1], edges[-2], edges[:, 1], edges[:, -2]])).mean()
    spectrum = np.abs(np.fft.rfft2(grey - grey.mean()))
    radius = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])[None])
    return [
        float(np.log(edges.var() + 0.1)),
        float(np.log(np.median(np.abs(edges)) + 0.1)),
        float(saturation.mean()),
        float(saturation[half, half].mean()),
        float(colours[..., 0].mean() - colours[..., 2].mean()),
        float(colours[half, half, 0].mean() - colours[half, half, 2].mean()),
        float(grey.mean()),
        float(grey.std()),
        float(np.log(rim + 0.1) - np.log(np.abs(edges).mean() + 0.1)),
        float(np.log(fine[half, half].std() + 0.1) - np.log(fine.std() + 0.1)),
        *(float(np.log(spectrum[(radius >= low) & (radius < high)].mean() + 1)) for low, high in BANDS),
    ]


def told_by_statistics(root: Path, settings: Settings, rows: "pd.DataFrame", tell: Tell = silent) -> dict[str, float]:
    """AUC of the forest for each forger (and `collected`, fakes that came in) with at least FEWEST clips, on sources it was not fitted on."""
    from model.augment import augment_clip
    from model.data import ClipDataset, labels_of
    from model.reforge import Reforger

    clips = ClipDataset(root, rows[rows["role"] != "hardened"], settings.faces.size_px, landmarks=meshes(root, settings))
    reforger, fake = Reforger(clips, settings.augment.reforge), labels_of(clips.rows)
    kinds = np.where(fake, np.where(clips.rows["forger"] != "", clips.rows["forger"], "collected"), "")
    sources = np.where(clips.rows["source_clip"] != "", clips.rows["source_clip"], clips.rows["clip_id"])
    names = [name for name in sorted(set(kinds)) if name and (kinds == name).sum() >= FEWEST]
    if (~fake).sum() < FEWEST:
        return {}

    def drawn(name: str) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
        rng = np.random.default_rng([settings.seed, *name.encode()])
        members = np.flatnonzero(kinds == name)
        chosen = rng.choice(members, min(FRAMES, len(members)), replace=False)
        found = []
        for number, place in enumerate(chosen):
            draw = np.random.default_rng([settings.seed, number, *name.encode()])
            picture = augment_clip(reforger.take(int(place), draw, single=True), settings.augment, draw, real=not name)[0]
            found.append(statistics(np.rint(picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)))
        return np.array(found), sources[chosen].astype(str)

    reals, found = drawn(""), {}
    for number, name in enumerate(names, start=1):
        found[name] = _forest(reals, drawn(name), settings.seed)
        tell(number, len(names), "forgers looked at")
    return found


def _forest(reals: tuple[NDArray[Any], NDArray[Any]], fakes: tuple[NDArray[Any], NDArray[Any]], seed: int) -> float:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GroupKFold, cross_val_predict

    from model.metrics import auc

    seen = np.concatenate([reals[0], fakes[0]])
    fake = np.arange(len(seen)) >= len(reals[0])
    forest = RandomForestClassifier(200, min_samples_leaf=4, random_state=seed, class_weight="balanced")
    groups = np.concatenate([reals[1], fakes[1]])
    said = cross_val_predict(forest, seen, fake, groups=groups, cv=GroupKFold(FOLDS), method="predict_proba")[:, 1]
    area = auc(fake, said)
    assert area is not None  # both classes are there
    return area
