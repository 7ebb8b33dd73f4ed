"""From the predictions table to figures with intervals and to what the gates read. No model runs here.

Which rows are judged: the holdout as it stood before this cycle (all of it for a first model, and against an
imported one that knows no batch of this workspace); collected media where they
hold enough videos of both classes, else collected and forged together, and the report says which.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.predictions import UNKNOWN, balanced_accuracy, class_counts, gaps, rows_by_generator, slices
from workspace.cycle import Cycle
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from model.card import ModelCard

FEW_PEOPLE = 10  # of one class in a slice: too few to say how much their part of a difference varies


@dataclass(frozen=True, slots=True)
class Judged:
    """Which holdout rows are judged: `rows` by most gates, `everything` of the same origins with the new ones, which the champion's own cycles did not know."""

    origins: list[str]
    rows: "pd.DataFrame"
    everything: "pd.DataFrame"

    @property
    def on(self) -> str:
        """`collected` or `collected+forged`."""
        return "+".join(self.origins)


def judged(holdout: "pd.DataFrame", champion: "ModelCard | None", settings: Settings, cycle: Cycle) -> Judged:
    """The collected rows where they hold `gates.min_per_class` videos of both classes, else the forged ones too."""

    def of(origins: list[str]) -> Judged:
        everything = holdout[holdout["origin"].isin(origins)]
        apart = champion is not None and not cycle.judges_all
        return Judged(origins, everything[~everything["new"].astype(bool)] if apart else everything, everything)

    collected = of(["collected"])
    return collected if min(class_counts(collected.rows).values()) >= settings.gates.min_per_class else of(["collected", "forged"])


def figures(rows: "pd.DataFrame", column: str, threshold: float, settings: Settings, seed: int) -> dict[str, Any]:
    """Every metric of the rows with its cluster-bootstrap interval and n, by name."""
    from model.intervals import summarise_with_intervals

    if rows.empty:
        return {}
    found = summarise_with_intervals(rows["label"], rows[column], rows["cluster"], threshold, resamples=settings.evaluate.resamples, seed=seed)
    return {name: interval.as_dict() for name, interval in found.items()}


def auc_of(rows: "pd.DataFrame", column: str) -> float | None:
    """AUC of a score column; None where it is undefined."""
    from model.metrics import auc

    return auc(rows["label"], rows[column]) if len(rows) else None


def auc_interval(rows: "pd.DataFrame", column: str, settings: Settings, seed: int) -> dict[str, Any]:
    """AUC with its cluster-bootstrap interval."""
    from model.intervals import cluster_interval
    from model.metrics import auc

    return cluster_interval(auc, rows["label"], rows[column], rows["cluster"], resamples=settings.evaluate.resamples, seed=seed).as_dict()


def gate_inputs(table: "pd.DataFrame", champion: "ModelCard | None", challenger: "ModelCard", settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """What the gates read of the predictions. Only values that some gate needs: each of them missing must hold the cycle."""
    holdout = table[table["fold"] == "holdout"]
    chosen = judged(holdout, champion, settings, cycle)
    rows, everything = chosen.rows, chosen.everything
    inputs: dict[str, Any] = {
        "judged_on": chosen.on,
        "challenger_sha256": challenger.model_sha256,
        "champion_sha256": champion.model_sha256 if champion else "",
        "accuracy": _accuracy(rows, challenger.threshold),
        "new_rows": _new_rows(everything[everything["new"].astype(bool)]),
        "generalisation": _generalisation(table[(table["fold"] == "train") & table["origin"].isin(chosen.origins)], rows),
        "collapse": _collapse(rows, challenger.threshold),
    }
    if not champion:
        return inputs | {"people": _people(rows)}
    return inputs | _against(champion, challenger, rows, holdout, everything, settings, cycle)


def _accuracy(rows: "pd.DataFrame", threshold: float) -> dict[str, Any]:
    """What the floors are held against; precision and F1 as they are where half are fakes, since a week of many reals and few fakes says nothing of a model."""
    from model.calibration import error_beyond_chance
    from model.metrics import f1_of, precision_at_prevalence, summarise

    labels = rows["label"].to_numpy(dtype=str)
    found = summarise(labels, rows["p_challenger"], threshold) if len(rows) else {}
    kept = {name: found.get(name) for name in ("balanced_accuracy", "recall", "auc", "fpr")}
    kept["ece_beyond_chance"] = error_beyond_chance(labels, rows["p_challenger"]) if len(rows) else None
    precision = 0.0 if kept["recall"] == kept["fpr"] == 0 else precision_at_prevalence(kept["recall"], kept["fpr"], 0.5)  # 0 where nothing is called fake
    return class_counts(rows) | kept | {"precision": precision, "f1": f1_of(precision, kept["recall"])}


def _people(rows: "pd.DataFrame") -> int:
    """Of how many people the class that has fewer has videos."""
    return min(int(rows.loc[rows["label"] == label, "cluster"].nunique()) for label in ("real", "fake"))


def _new_rows(rows: "pd.DataFrame") -> dict[str, Any]:
    counts = class_counts(rows)
    return counts | ({"challenger_auc": auc_of(rows, "p_challenger")} if min(counts.values()) else {})


def _generalisation(train: "pd.DataFrame", rows: "pd.DataFrame") -> dict[str, Any]:
    n = min(*class_counts(train).values(), *class_counts(rows).values())
    return {"n": n, "train_auc": auc_of(train, "p_challenger"), "holdout_auc": auc_of(rows, "p_challenger")}


def _collapse(rows: "pd.DataFrame", threshold: float) -> dict[str, Any]:
    called_fake = int((rows["p_challenger"] >= threshold).sum())
    spread = float(np.std(rows["p_challenger"].to_numpy(dtype=np.float64))) if len(rows) else None
    return {"n": len(rows), "spread": spread, "called_fake": called_fake, "called_real": len(rows) - called_fake}


def _against(
    champion: "ModelCard", challenger: "ModelCard", rows: "pd.DataFrame", holdout: "pd.DataFrame", everything: "pd.DataFrame", settings: Settings, cycle: Cycle
) -> dict[str, Any]:
    from model.paired import log_losses, paired_mean

    labels, clusters = rows["label"].to_numpy(dtype=str), rows["cluster"].to_numpy(dtype=str)
    lower, upper = auc_change_bounds(rows, settings, cycle.seed)
    loss = paired_mean(labels, log_losses(labels, rows["p_challenger"]), log_losses(labels, rows["p_champion"]), clusters)
    known = rows_by_generator(rows, settings.gates.min_slice)
    older = {"sha256": cycle.anchor_model, "cycle": cycle.anchor_cycle}
    parts = slices(rows, settings.gates.min_slice)
    cut = [change for name, part in parts.items() for change in _accuracy_changes(name, part, rows, champion.threshold, challenger.threshold)]
    return {
        "comparison": {
            **class_counts(rows),
            "champion_auc": auc_of(rows, "p_champion"),
            "challenger_auc": auc_of(rows, "p_challenger"),
            "people": _people(rows),
            "lower": lower,
            "upper": upper,
            "log_loss": loss.as_dict() if loss else None,
        },
        "forgetting": _auc_changes(known),
        "new_generators": _auc_changes(unmet(holdout, everything, cycle, settings.gates.min_slice)),
        "slices": {"count": len(cut), "rows": cut},
    } | ({"anchor": older | {"generators": _auc_changes(known, "p_anchor")}} if cycle.anchor_model else {})


def auc_change_bounds(rows: "pd.DataFrame", settings: Settings, seed: int) -> tuple[float | None, float | None]:
    """What the AUC may have changed by, at both one-sided levels `gates.alpha`: the wider of a cluster bootstrap and of the clustered DeLong interval.

    Each is too narrow somewhere: the percentile bootstrap where people are few (with two, one worse challenger in three passed), DeLong's where
    an AUC is near 1 and few videos have any influence; its lower end therefore has the spread of a challenger worse by `gates.margin`, and its bounds
    allow for skewness (Hall 1992), since those few lie on one side. The skewness is that of the difference as it was seen: with the spread of a worse
    challenger its few wrong videos would count for more than the champion's, and of 400 better ones 9 were held for one unlucky video. None where
    either says nothing, as with one person of a class.
    """
    from model.intervals import paired_difference
    from model.paired import paired_auc

    columns = rows["label"].to_numpy(dtype=str), rows["p_challenger"], rows["p_champion"], rows["cluster"].to_numpy(dtype=str)
    drawn = paired_difference(*columns, resamples=settings.evaluate.resamples, seed=seed, confidence=1 - 2 * settings.gates.alpha)
    summed, supposed = paired_auc(*columns), paired_auc(*columns, margin=settings.gates.margin)
    if drawn.low is None or drawn.high is None or summed is None or supposed is None or summed.df < 1:
        return None, None
    (lower, upper), (below, _) = summed.bounds(settings.gates.alpha), replace(supposed, skew=summed.skew).bounds(settings.gates.alpha)
    return min(drawn.low, lower, below), max(drawn.high, upper)


def _auc_changes(parts: "dict[str, pd.DataFrame]", before: str = "p_champion") -> dict[str, Any]:
    """The table that a gate reads: of each generator how many videos there are, and how its AUC changed."""
    rows = [{"generator": name, **class_counts(part), **_auc_change(part, before)} for name, part in parts.items()]
    return {"count": len(rows), "rows": rows}


def _auc_change(rows: "pd.DataFrame", before: str) -> dict[str, Any]:
    """Both AUCs, and their difference with its standard error; None where a class is missing. `before` is the older model's column."""
    from model.paired import paired_auc

    found = paired_auc(rows["label"].to_numpy(dtype=str), rows["p_challenger"], rows[before], rows["cluster"])
    change = found.as_dict() if found else {"difference": None, "se": None, "df": None}
    return {f"{before.removeprefix('p_')}_auc": auc_of(rows, before), "challenger_auc": auc_of(rows, "p_challenger"), **change}


def _accuracy_changes(name: str, part: "pd.DataFrame", rows: "pd.DataFrame", before: float, after: float) -> list[dict[str, Any]]:
    """Difference of balanced accuracy on a slice, each model at its own threshold; no row where all `rows` lack a class.

    A class of which the slice has fewer than FEW_PEOPLE is taken from all rows: two strangers among 300 fakes would hide what those lost. What these few
    lost is a row of its own then, by what it is worth in balanced accuracy, which is half; `n` are the videos of the slice there too.
    """
    import pandas as pd

    from model.paired import paired_balanced_accuracy

    have = part.groupby("label")["cluster"].nunique()
    most = have.idxmax() if len(have) else ""
    few = [label for label in ("real", "fake") if have.get(label, 0) < FEW_PEOPLE and label != most]
    seen = {name: pd.concat([part[~part["label"].isin(few)], rows[rows["label"].isin(few)]])}
    if set(seen[name]["label"]) != {"real", "fake"}:
        return []
    seen |= {f"{name}, its {label}s": part[part["label"] == label] for label in few if have.get(label, 0) > 1}
    found, champion = [], balanced_accuracy(part, rows, "p_champion", before)
    for called, some in seen.items():
        labels = some["label"].to_numpy(dtype=str)
        change = paired_balanced_accuracy(labels, some["p_challenger"] >= after, some["p_champion"] >= before, some["cluster"])
        assert change is not None  # there is a video
        worth = len({*labels}) / 2
        found.append({"slice": called, "n": len(part), **change.times(worth).as_dict(), "champion": champion})
    return found


def unmet(holdout: "pd.DataFrame", everything: "pd.DataFrame", cycle: Cycle, least: int) -> dict[str, "pd.DataFrame"]:
    """Collected generators among the new rows that nobody was judged on yet, each with its fakes and all judged reals, new ones too.

    The base has not met them, or the holdout had fewer than `least` of their fakes until now: a generator that comes in by threes and fours is
    judged once there are enough. Fakes that name no generator are one, UNKNOWN, which no base is said to have met: it is new until there are enough.
    """
    import pandas as pd

    fakes = holdout[(holdout["label"] == "fake") & (holdout["origin"] == "collected")]
    fakes = fakes.assign(generator=fakes["generator"].replace("", UNKNOWN))
    is_new, met = fakes["new"].astype(bool), {*cycle.known_generators, UNKNOWN}
    before = fakes.loc[~is_new, "generator"].value_counts()
    due = [name for name in fakes.loc[is_new, "generator"].unique() if name not in met or before.get(name, 0) < least]
    reals = everything[everything["label"] == "real"]
    return {str(name): pd.concat([reals, part]) for name, part in fakes[fakes["generator"].isin(due)].groupby("generator")}


def describe(table: "pd.DataFrame", champion: "ModelCard | None", challenger: "ModelCard", settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """The figures for people: overall, new, validation, every slice, each generator, with intervals; all of the origins that are judged.

    `not_judged`: of each own forger whose fakes are in the holdout beside enough collected ones, how the model tells them from the same reals.
    """
    import pandas as pd

    holdout = table[table["fold"] == "holdout"]
    chosen = judged(holdout, champion, settings, cycle)
    rows, everything = chosen.rows, chosen.everything
    models = {"challenger": ("p_challenger", challenger.threshold)} | ({"champion": ("p_champion", champion.threshold)} if champion else {})
    validation = table[(table["fold"] == "validation") & table["origin"].isin(chosen.origins)]
    parts = {"overall": rows, "new": everything[everything["new"].astype(bool)], "validation": validation}
    overall = {
        name: {model: figures(part, column, threshold, settings, cycle.seed) for model, (column, threshold) in models.items()} for name, part in parts.items()
    }
    cut = [
        {"slice": name, **class_counts(part), "people": min(map(int, part.groupby("label")["cluster"].nunique()), default=0)}
        | {model: balanced_accuracy(part, rows, column, threshold) for model, (column, threshold) in models.items()}
        for name, part in slices(rows, settings.gates.min_slice).items()
    ]
    generators = {
        name: class_counts(part) | {model: auc_interval(part, column, settings, cycle.seed) for model, (column, _) in models.items()}
        for name, part in rows_by_generator(everything).items()
    }
    new = {
        name: class_counts(part) | {model: auc_interval(part, column, settings, cycle.seed) for model, (column, _) in models.items()}
        for name, part in unmet(holdout, everything, cycle, settings.gates.min_slice).items()
    }
    beside = pd.concat([everything[everything["label"] == "real"], holdout[(holdout["label"] == "fake") & ~holdout["origin"].isin(chosen.origins)]])
    not_judged = {
        name: class_counts(part)
        | {model: auc_interval(part, column, settings, cycle.seed) for model, (column, _) in models.items()}
        | {"recall": {model: float((part.loc[part["label"] == "fake", column] >= threshold).mean()) for model, (column, threshold) in models.items()}}
        for name, part in rows_by_generator(beside).items()
    }
    return {
        "judged_on": chosen.on,
        "counts": {name: class_counts(part) for name, part in parts.items()},
        **overall,
        "slices": cut,
        "gaps": gaps(cut, "challenger", FEW_PEOPLE),
        "generators": generators,
        "not_judged": not_judged,
        "new_generators": new,
    }
