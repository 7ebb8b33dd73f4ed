"""What a forgery must not be told by: numbers of its file; sharpness, colour and how fine it is, contrast, border, slope of the spectrum, flat places, a
codec's blocks; how it moves.

A forest sees the file's numbers alone, or twenty-two statistics of single frames as training sees them (made anew, augmented) and three of how the stored
clip moves, never the picture. Where it tells a forger's fakes from reals of other people, the detector will too, and will learn nothing else from that
forger: decoders that lost colour were found so, and a swap whose faces were blurs.
"""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.scoring import Tell, meshes, silent
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

FRAMES, FOLDS, FEWEST = 150, 5, 20  # frames a class at most, and how few clips of a forger say nothing
BY_CHANCE = 0.025  # that people fall into one of the two perfect orders: of five and five 1 in 126
NUMBERS = ("frames", "face_px", "start_seconds", "end_seconds")  # what a file says of itself
BANDS = ((0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.8))  # of the spectrum, in cycles a pixel
# what `statistics` gives, in its order
STATISTICS = (
    "edges, log variance", "edges, log median", "saturation", "saturation, middle", "red less blue", "red less blue, middle", "brightness", "contrast",
    "edges at the rim", "detail, middle", *(f"spectrum {low:g}-{high:g}" for low, high in BANDS), "finest brightness",
    "finest red difference", "finest blue difference", "flat places", "blocks, columns", "blocks, rows",
)  # fmt: skip

MOTION = ("motion of the rim over that of the middle", "motion of the rim", "flicker")  # what `motion` gives


def motion(clip: NDArray[np.uint8]) -> list[float]:
    """Three numbers of how a clip [T, S, S, 3] changes from frame to frame, as logarithms; of a single frame zeros.

    Round a still that was driven everything stood still, which no single frame shows.
    """
    import cv2

    if len(clip) < 2:
        return [0.0] * len(MOTION)
    grey = clip.astype(np.float32).mean(axis=3)
    coarse, fine = (np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in grey]) for sigma in (2.0, 1.0))
    moved, size = np.abs(np.diff(coarse, axis=0)).mean(axis=0), clip.shape[1]
    edge, middle, rim = size // 28 + 1, slice(size // 4, 3 * size // 4), np.ones((size, size), bool)
    rim[edge:-edge, edge:-edge] = False
    round_it, within = float(np.log(moved[rim].mean() + 0.02)), float(np.log(moved[middle, middle].mean() + 0.02))
    return [round_it - within, round_it, float(np.log(np.abs(np.diff(grey - fine, axis=0)).mean() + 0.02))]


def statistics(frame: NDArray[np.uint8]) -> list[float]:
    """Twenty-two numbers of a frame [S, S, 3] that say nothing of a face."""
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
        *map(float, shares_of_detail(frame[None])),
        _in_flat_places(edges),
        _on_blocks(grey),
        _on_blocks(grey.T),
    ]


def shares_of_detail(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of a clip [T,S,S,3], as logarithms: the finest of its detail of brightness, of red and of blue difference, each beside all its detail of brightness.

    What a camera or a codec recorded has colour at half the resolution.
    """
    import cv2

    colours = [cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb).astype(np.float32) for frame in frames]
    finest, fine = (np.stack([one - cv2.GaussianBlur(one, (0, 0), sigma) for one in colours]).std(axis=(0, 1, 2)) for sigma in (0.6, 1.0))
    shares: NDArray[np.float32] = np.log(finest + 0.05) - np.log(fine[0] + 0.05)
    return shares


def _in_flat_places(edges: NDArray[np.float32]) -> float:
    """Of a Laplacian [S, S] how large it is where it is least, a tenth of the picture, as a logarithm: grain that a forger took away or gave to flat skin."""
    import cv2

    return float(np.log(np.percentile(cv2.blur(np.abs(edges), (5, 5)), 10) + 0.1))


def _on_blocks(grey: NDArray[np.float32]) -> float:
    """How much larger the steps between columns of a picture [S, S] are where blocks of 8 px meet than near by, as a logarithm: 0 where no codec's are."""
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=0)
    meet = np.arange(8, grey.shape[1] - 3, 8) - 1
    near = np.mean([steps[meet + away] for away in (-3, -2, 2, 3)], axis=0)
    return float(np.log(steps[meet].mean() + 0.1) - np.log(near.mean() + 0.1))


def told_by_statistics(root: Path, settings: Settings, rows: "pd.DataFrame", tell: Tell = silent) -> dict[str, dict[str, float]]:
    """What the forest tells (see `forest_auc`) for each forger (and `collected`, fakes that came in) with at least FEWEST clips.

    Beside the fakes stand reals, of each kind (photos, videos) in the fakes' proportion. A forger with fakes of fewer than FOLDS people says nothing.
    """
    from model.augment import augment_clip, impoverish
    from model.data import ClipDataset, labels_of
    from model.reforge import Reforger
    from model.views import DONOR

    clips = ClipDataset(root, rows[rows["role"] != "hardened"], settings.faces.size_px, landmarks=meshes(root, settings))
    reforger, fake = Reforger(clips, settings.augment.reforge), labels_of(clips.rows)
    kinds = np.where(fake, np.where(clips.rows["forger"] != "", clips.rows["forger"], "collected"), "")
    people = clips.rows["cluster"].to_numpy(dtype=str)
    names = [name for name in sorted(set(kinds)) if name and (kinds == name).sum() >= FEWEST]
    if (~fake).sum() < FEWEST:
        return {}

    augment, media = settings.augment, clips.rows["kind"].to_numpy(dtype=str)
    reals = np.random.default_rng([settings.seed]).permutation(np.flatnonzero(~fake))
    seen_before: dict[int, list[float]] = {}

    def drawn(name: str) -> NDArray[np.int64]:
        rng = np.random.default_rng([settings.seed, *name.encode()])
        members = np.flatnonzero((kinds == name) & np.isin(media, media[reals]))
        return rng.choice(members, min(FRAMES, len(members)), replace=False)

    def like(fakes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Reals, as many of each kind in proportion: photos against videos alone would be told apart."""
        counts = [(reals[media[reals] == kind], (media[fakes] == kind).mean()) for kind in sorted(set(media[fakes]))]
        total = min([FRAMES, *(len(own) / part for own, part in counts)])
        return np.concatenate([own[: round(total * part)] for own, part in counts])

    def look(chosen: NDArray[np.int64], name: str) -> list[list[float]]:
        for place in map(int, chosen):
            if place in seen_before:
                continue
            draw = np.random.default_rng([settings.seed, place, *name.encode()])
            spoil = partial(impoverish, chance=augment.poor_sources, settings=augment, rng=draw)
            spoil_donor = partial(spoil, rng=np.random.default_rng([settings.seed, place, DONOR, *name.encode()]))  # as in training, a draw of its own
            clip = reforger.take(place, draw, single=True, spoil=spoil, spoil_donor=spoil_donor)
            picture = augment_clip(clip if name else impoverish(clip, augment.poor_reals, augment, draw), augment, draw)[0]
            seen_before[place] = statistics(np.rint(picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)) + motion(clips.clip(place))
        return [seen_before[int(place)] for place in chosen]

    found = {}
    for number, name in enumerate(names, start=1):
        fakes = drawn(name)
        if len(fakes) < FEWEST or len(beside := like(fakes)) < FEWEST or min(len(set(people[fakes])), len(set(people[beside]))) < FOLDS:
            continue
        seen = np.array(look(beside, "") + look(fakes, name))
        found[name] = forest_auc(seen, np.arange(len(seen)) >= len(beside), people[[*beside, *fakes]], settings.seed, trees=200, leaf=4)
        tell(number, len(names), "forgers looked at")
    return found


def numbers_alone(clips: "pd.DataFrame", seed: int) -> dict[str, Any] | None:
    """AUC (see `forest_auc`) of a forest that sees of each collected training clip only NUMBERS, kind and compression.

    None where fewer than FOLDS people of either class are there.
    """
    table = clips[(clips["origin"] == "collected") & clips["label"].isin(["real", "fake"])].sort_values("clip_id")
    if min(table[table["label"] == label]["cluster"].nunique() for label in ("real", "fake")) < FOLDS:
        return None
    known = [table[name].astype(float).fillna(-1.0).to_numpy() for name in NUMBERS]
    words = [table[column].to_numpy() == word for column in ("kind", "compression") for word in sorted(set(table[column]))]
    seen, fake = np.column_stack([*known, *words]).astype(np.float64), (table["label"] == "fake").to_numpy()
    return {**forest_auc(seen, fake, table["cluster"].to_numpy(), seed, trees=100, leaf=3), "n": len(table)}


def forest_auc(seen: NDArray[np.float64], fake: NDArray[np.bool_], people: NDArray[Any], seed: int, *, trees: int, leaf: int) -> dict[str, float]:
    """AUC of a random forest on rows `seen` [N, F], each person judged by a forest that was fitted on others: its value, and low and high, as people count."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GroupKFold

    said = np.zeros(len(seen))
    for fit, test in GroupKFold(FOLDS).split(seen, fake, people):
        forest = RandomForestClassifier(trees, min_samples_leaf=leaf, random_state=seed, class_weight="balanced").fit(seen[fit], fake[fit])
        said[test] = forest.predict_proba(seen[test])[:, -1] if fake[fit].any() and not fake[fit].all() else 0.5
    value = area_of(fake, said)
    low, high = _ends(value, fake, said, people)
    return {"value": value, "low": low, "high": high}


def _ends(value: float, fake: NDArray[np.bool_], said: NDArray[np.float64], people: NDArray[Any]) -> tuple[float, float]:
    """The 95% interval of an AUC. One of 0 or 1 shows no spread: where chance alone hardly ever puts so many people in such an order, it is what it is;
    else it has that of a share of the people of the poorer class."""
    from model.metrics import wilson
    from model.paired import auc_bounds

    fakes, reals = len(set(people[fake])), len(set(people[~fake]))
    if value in (0.0, 1.0) and 2 / math.comb(fakes + reals, fakes) <= BY_CHANCE:
        return value, value
    fewest = min(fakes, reals)
    return auc_bounds(fake, said, people) or wilson(round(value * fewest), fewest) or (0.0, 1.0)


def area_of(labels: NDArray[Any], scores: NDArray[np.float64]) -> float:
    """AUC of scores; both classes are there."""
    from model.metrics import auc

    found = auc(labels, scores)
    assert found is not None
    return found
