"""Weeks as cached scores: what the gates would read of a champion and a challenger, drawn instead of measured.

Gates are statistics, and statistics are proven on thousands of weeks, not on four. A week here is the predictions table of a
holdout (people with several videos, each person real or fake throughout; generators, compressions), the champion's look at what came in, and the measured
numbers that need no scores. The scores are drawn so that videos of one person rise and fall together and the two models agree in part, with
a champion a little better than the production bounds; from there on everything is the stages' own code. benchmarks/plants.py makes weeks bad.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray

from model.calibration import threshold_at_fpr
from model.card import ModelCard
from pipelines.comparison import gate_inputs
from pipelines.drift import QUALITY, label_noise, weigh
from pipelines.gates import Verdict, judge
from pipelines.predictions import add_bands
from pipelines.robustness import gate_input
from workspace.cycle import Cycle
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

CHAMPION, CHALLENGER, ANCHOR = "a" * 64, "b" * 64, "d" * 64
ANCHOR_CYCLE = "2026-W38.1"
KNOWN = ("swap", "blend", "reenact", "decoder", "upsample")
NEW = "portrait"
SEPARATION = 4.0  # between the means of reals and fakes, in standard deviations: AUC 0.998, and a recall at `evaluate.target_fpr` well above its floor
UNKNOWN, LEARNED = 0.5, 3.6  # the same of a generator that a model has never met, and after it was learned
SHARES = {"person": 0.35, "video": 0.25, "model_person": 0.15, "model_video": 0.25}  # of a score's variance; the first two are common to both models
VIDEOS_A_PERSON = 2
EMBEDDING = 8
NEW_LOOK = 1.0  # in each dimension, where a person's own embedding has a standard deviation of 1
STANDS = {0.0: 0.965, 1 / 255: 0.85, 2 / 255: 0.60, 4 / 255: 0.45, 8 / 255: 0.30, 0.05: 0.20}  # share of clips that stand an attack of this eps
STANDS_TRANSFER = 0.953
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Week:
    """One week before it is judged. Change what you like, then call `verdict`."""

    table: "pd.DataFrame"  # predictions: logits x_champion, x_challenger, x_anchor and what is known of each video
    incoming: "pd.DataFrame"  # what drift compares: known and incoming videos with the champion's p_fake
    cycle: Cycle
    settings: Settings
    thresholds: dict[str, float]
    covered_by: dict[str, int]
    measured: dict[str, Any]
    validate: list[dict[str, Any]]
    sets: dict[str, Any]
    base_sha256: str = CHAMPION
    reports: list[Callable[[dict[str, Any], dict[str, Any]], None]] = field(default_factory=list)

    def inputs(self) -> dict[str, Any]:
        """The keyword arguments of `judge`."""
        table = add_bands(self.table.copy())
        for model in ("champion", "challenger", "anchor"):
            table[f"p_{model}"] = probability(table[f"x_{model}"].to_numpy())
        champion, challenger = self._card(CHAMPION, "champion"), self._card(CHALLENGER, "challenger")
        evaluation = {"gate_inputs": gate_inputs(table, champion, challenger, self.settings, self.cycle) | self.measured}
        drift = weigh(self.incoming, self.covered_by, self.settings, self.cycle)
        labels = label_noise(self.incoming, self.thresholds["champion"], self.cycle)
        drift["gate_inputs"] |= {"labels": labels, "vouched": 0, "cases": 0}
        for change in self.reports:
            change(evaluation, drift)
        return {
            "evaluation": evaluation, "drift": drift, "validate": self.validate, "sets": self.sets,
            "judged": list(self.cycle.judged), "base_sha256": self.base_sha256, "anchor_sha256": ANCHOR,
        }  # fmt: skip

    def verdict(self) -> Verdict:
        """What the gates say."""
        inputs = self.inputs()
        return judge(inputs.pop("evaluation"), inputs.pop("drift"), inputs.pop("validate"), inputs.pop("sets"), self.settings.gates, **inputs)

    def _card(self, sha256: str, name: str) -> ModelCard:
        about = {"faces": self.settings.faces, "model": self.settings.model, "temperature": 1.0, "abstain": self.settings.evaluate.abstain}
        return ModelCard(model_sha256=sha256, onnx_sha256=sha256, cycle="2026-W46.1", threshold=self.thresholds[name], **about)


def probability(logits: Floats) -> Floats:
    """Calibrated p_fake of standardised scores whose classes lie SEPARATION apart."""
    found: Floats = 1 / (1 + np.exp(-np.clip(SEPARATION * logits, -500, 500)))
    return found


def good_week(
    settings: Settings,
    seed: int,
    videos: int = 2000,
    incoming: int = 1000,
    gain: float = 0.0,
    learned: float = LEARNED,
    agreement: float = 1.0,
    fresh: int = 100,
    validation: int = 0,
) -> Week:
    """A week that should be promoted: an equally good challenger (gain 0) or a better one, which has also learned the new generator.

    `videos` in the frozen holdout, half of them real; `gain` and `learned` are separations; `agreement` scales how much both models share; `fresh`
    fakes of the new generator stand in the holdout, and as many among what came in, whose embeddings lie NEW_LOOK off. Thresholds are set on
    `validation` reals; with 0 they have exactly the false-positive rate that is aimed at.
    """
    rng = np.random.default_rng([seed, 20261121])
    shares = dict(SHARES)
    moved = (shares["person"] + shares["video"]) * (1 - agreement)
    shares = {name: value * agreement if not name.startswith("model") else value + moved / 2 for name, value in shares.items()}
    # Each video as score-units from its class mean; classes lie symmetric about 0.
    rows = [_part(rng, videos // 2, "real", "", False), *(_part(rng, videos // 2 // len(KNOWN), "fake", name, False) for name in KNOWN)]
    rows += [_part(rng, 150, "real", "", True), _part(rng, fresh, "fake", NEW, True), _part(rng, 100, "fake", KNOWN[0], True)]
    train = [_part(rng, 200, "real", "", False, "train"), _part(rng, 200, "fake", KNOWN[0], False, "train")]
    import pandas as pd

    table = pd.concat([*rows, *train], ignore_index=True)
    _score(rng, table, shares, gain, learned)
    came = pd.concat([
        _part(rng, incoming // 2, "real", "", False, "seen"), *(_part(rng, incoming // 2 // len(KNOWN), "fake", name, False, "seen") for name in KNOWN),
        _part(rng, incoming // 2, "real", "", True, "came"), *(_part(rng, incoming // 2 // len(KNOWN), "fake", name, True, "came") for name in KNOWN),
        _part(rng, fresh, "fake", NEW, True, "came"),
    ], ignore_index=True)  # fmt: skip
    _score(rng, came, shares, gain, learned)
    came["batch"] = np.where(came["new"], "b2", "b1")
    came["p_fake"] = probability(came["x_champion"].to_numpy())
    people = {name: rng.normal(size=EMBEDDING) for name in came["cluster"].unique()}
    came["embedding"] = [
        people[name] + NEW_LOOK * (generator == NEW) + rng.normal(size=EMBEDDING) for name, generator in zip(came["cluster"], came["generator"], strict=True)
    ]
    for column in QUALITY:
        came[column] = rng.normal(size=len(came))
    borders = dict.fromkeys(
        ("champion", "challenger"), float(probability(np.array([NormalDist().inv_cdf(1 - settings.evaluate.target_fpr) - SEPARATION / 2]))[0])
    )
    if validation:
        side = _part(rng, validation, "real", "", False, "validation")
        _score(rng, side, shares, gain, learned)
        borders = {model: threshold_at_fpr(side["label"], probability(side[f"x_{model}"].to_numpy()), settings.evaluate.target_fpr) for model in borders}
    return Week(
        table, came,
        Cycle(cycle="2026-W47.1", seed=seed, batches=("b1", "b2"), judged=("b2",), base_model=CHAMPION, base_cycle="2026-W46.1",
              anchor_model=ANCHOR, anchor_cycle=ANCHOR_CYCLE, known_generators=KNOWN),
        settings, borders, {f"fake by {name}": 100 for name in KNOWN} | {"real": 150, f"fake by {NEW}": fresh},
        _measured(rng, settings), [{"batch": "b2", "success": True, "checks": {"count": 1, "rows": [{"name": "labels are known", "success": True}]}}],
        {"train_rows": 9000, "leaks": {"count": 0, "rows": []}},
    )  # fmt: skip


def _part(rng: np.random.Generator, count: int, label: str, generator: str, new: bool, fold: str = "holdout") -> "pd.DataFrame":
    import pandas as pd

    name = f"{fold}-{label}-{generator}-{new}"
    about = {"label": label, "generator": generator, "new": new, "fold": fold, "origin": "collected", "kind": "video", "face_px": 120.0, "yaw_degrees": 5.0}
    people = [f"{name}-{number // VIDEOS_A_PERSON}" for number in range(count)]
    compression = rng.choice(["c0", "c23", "c40"], count, p=[0.3, 0.5, 0.2])
    table = pd.DataFrame({"unit": [f"{name}/{number}" for number in range(count)], "cluster": people, "compression": compression})
    places = {"brightness": 0.4, "source_px": 720.0, "skin_tone_degrees": 30.0}
    return table.assign(source=rng.choice(["phone", "upload", "archive"], count), **places, **about)


def _score(rng: np.random.Generator, table: "pd.DataFrame", shares: dict[str, float], gain: float, learned: float) -> None:
    """Add x_champion and x_challenger: shared and own parts of a person and of a video, about the mean of the class."""
    _, person = np.unique(table["cluster"].to_numpy(dtype=str), return_inverse=True)
    n, people = len(table), int(person.max()) + 1
    shared = rng.normal(size=people)[person] * shares["person"] ** 0.5 + rng.normal(size=n) * shares["video"] ** 0.5
    fake = (table["label"] == "fake").to_numpy()
    unknown = (table["generator"] == NEW).to_numpy()
    for model, more in (("champion", 0.0), ("challenger", gain)):
        own = rng.normal(size=people)[person] * shares["model_person"] ** 0.5 + rng.normal(size=n) * shares["model_video"] ** 0.5
        separation = np.where(unknown, UNKNOWN if model == "champion" else learned, SEPARATION + more)
        table[f"x_{model}"] = np.where(fake, separation - SEPARATION / 2, -SEPARATION / 2) + shared + own
    older = rng.spawn(1)[0]  # the champion of weeks ago, as good as that of now; it takes none of the other draws
    own = older.normal(size=people)[person] * shares["model_person"] ** 0.5 + older.normal(size=n) * shares["model_video"] ** 0.5
    table["x_anchor"] = np.where(fake, np.where(unknown, UNKNOWN, SEPARATION) - SEPARATION / 2, -SEPARATION / 2) + shared + own


def _measured(rng: np.random.Generator, settings: Settings) -> dict[str, Any]:
    """What is not a score: robustness of both models on the same clips, latency, size, parity."""
    return {
        "robustness": robustness(rng, settings.budget.attack_clips),
        "latency": {"seconds": 2.1, "runs": 5},
        "size_bytes": 90_000_000,
        "parity": {"clips": 8, "max_difference": 2e-6},
    }


def robustness(rng: np.random.Generator, clips: int = 400, moved: float = 0.0, transfer: float = STANDS_TRANSFER) -> dict[str, Any]:
    """Attacks on a clip a video: each stands up to a strength of its own, in part common to both models and to the videos of one person.

    `moved` lowers the challenger's, in standard deviations; `transfer` is the share that a transferred attack leaves standing, of STANDS[0.0] without.
    """
    import pandas as pd

    panel = pd.concat([_part(rng, clips // 2, label, "", False) for label in ("real", "fake")], ignore_index=True)
    _, person = np.unique(panel["cluster"].to_numpy(dtype=str), return_inverse=True)
    people = int(person.max()) + 1
    shared = rng.normal(size=people)[person] * SHARES["person"] ** 0.5 + rng.normal(size=clips) * SHARES["video"] ** 0.5
    points: dict[str, list[dict[str, Any]]] = {}
    transferred: dict[str, Any] = {}
    for model, less in (("champion", 0.0), ("challenger", moved)):
        own = rng.normal(size=people)[person] * SHARES["model_person"] ** 0.5 + rng.normal(size=clips) * SHARES["model_video"] ** 0.5
        strength = shared + own - less
        stands = {share: strength > -NormalDist().inv_cdf(share) for share in (*STANDS.values(), transfer)}
        points[model] = [{"eps": eps, "right": stands[share]} for eps, share in STANDS.items()]
        transferred = {"right_clean": stands[STANDS[0.0]], "right_attacked": stands[transfer]}
    return {"n": clips, **gate_input(panel, points["challenger"], points["champion"], transferred)}
