"""Inputs of the gates that pass, for tests to break one at a time."""

import copy
from typing import Any

from workspace.settings import GateSettings

SETTINGS = GateSettings()
CHAMPION, CHALLENGER, ANCHOR = "c" * 64, "d" * 64, "e" * 64


def passing(champion: bool = True, something_new: bool = True, drift: str = "tested") -> dict[str, Any]:
    """Keyword arguments of `judge` with which every gate passes: production bounds, enough samples."""
    inputs: dict[str, Any] = {
        "judged_on": "collected",
        "challenger_sha256": CHALLENGER,
        "champion_sha256": CHAMPION if champion else "",
        "accuracy": {
            "n_real": 120,
            "n_fake": 130,
            "balanced_accuracy": 0.97,
            "precision": 0.97,
            "recall": 0.96,
            "f1": 0.965,
            "auc": 0.99,
            "fpr": 0.02,
            "ece_beyond_chance": 0.03,
        },
        "new_rows": {"n_real": 40, "n_fake": 40, "challenger_auc": 0.96},
        "robustness": {
            "n": 60,
            "transfer": {"difference": -0.02, "se": 0.01, "df": 28, "uneven": False},
            "whitebox": {"difference": 0.6, "se": 0.05, "df": 28, "uneven": False},
        },
        "generalisation": {"n": 60, "train_auc": 0.999, "holdout_auc": 0.99},
        "collapse": {"n": 250, "spread": 0.4, "called_real": 120, "called_fake": 130},
        "latency": {"seconds": 1.5, "runs": 5},
        "size_bytes": 90_000_000,
        "parity": {"clips": 8, "max_difference": 1e-5},
    }
    if not champion:
        inputs["people"] = 60
    if champion:
        neural = {
            "generator": "neural",
            "n_real": 120,
            "n_fake": 40,
            "champion_auc": 0.55,
            "challenger_auc": 0.95,
            "difference": 0.4,
            "se": 0.05,
            "df": 30,
            "uneven": False,
        }
        new = [neural] if something_new else []
        slices = [
            {"slice": "source=phone", "n": 90, "champion": 0.95, "difference": 0.01, "se": 0.02, "df": 40, "uneven": False},
            {"slice": "compression=c40", "n": 60, "champion": 0.92, "difference": -0.03, "se": 0.02, "df": 30, "uneven": False},
        ]
        known = [
            {
                "generator": "swap",
                "n_real": 120,
                "n_fake": 60,
                "champion_auc": 0.98,
                "challenger_auc": 0.978,
                "difference": -0.002,
                "se": 0.004,
                "df": 50,
                "uneven": False,
            },
            {
                "generator": "blend",
                "n_real": 120,
                "n_fake": 70,
                "champion_auc": 0.97,
                "challenger_auc": 0.975,
                "difference": 0.005,
                "se": 0.004,
                "df": 60,
                "uneven": False,
            },
        ]
        inputs["comparison"] = {
            "n_real": 120,
            "n_fake": 130,
            "people": 60,
            "champion_auc": 0.985,
            "challenger_auc": 0.99,
            "lower": -0.002,
            "upper": 0.012,
            "log_loss": {"difference": -0.01, "se": 0.005, "df": 100, "uneven": False, "skew": 0.1},
        }
        inputs["new_generators"] = {"count": len(new), "rows": new}
        inputs["slices"] = {"count": len(slices), "rows": slices}
        inputs["forgetting"] = {"count": len(known), "rows": known}
        long = [
            {
                "generator": "swap",
                "n_real": 120,
                "n_fake": 60,
                "anchor_auc": 0.985,
                "challenger_auc": 0.978,
                "difference": -0.007,
                "se": 0.006,
                "df": 50,
                "uneven": False,
            },
            {
                "generator": "blend",
                "n_real": 120,
                "n_fake": 70,
                "anchor_auc": 0.97,
                "challenger_auc": 0.975,
                "difference": 0.005,
                "se": 0.006,
                "df": 60,
                "uneven": False,
            },
        ]
        inputs["anchor"] = {"sha256": ANCHOR, "cycle": "2026-W38.1", "generators": {"count": len(long), "rows": long}}
        inputs["robustness"]["curve"] = {"difference": 0.02, "se": 0.02, "df": 28, "uneven": False}
    seen: dict[str, Any] = {"status": drift, "n_ref": 200, "n_new": 80, "vouched": 0, "cases": 0}
    if drift == "tested":
        seen |= {"p_value": 0.4, "alpha": 0.01, "drifted": False, "covered": True, "least": 20}
    seen["labels"] = (
        {
            "status": "tested",
            "n_ref": 200,
            "n_new": 80,
            "rate": 0.05,
            "rate_before": 0.04,
            "expected": 0.04,
            "expected_before": 0.04,
            "difference": 0.01,
            "se": 0.02,
            "df": 60,
            "uneven": False,
            "batches": {
                "count": 2,
                "rows": [{"batch": "b2", "n": 50, "rate": 0.04, "expected": 0.05}, {"batch": "b3", "n": 30, "rate": 0.07, "expected": 0.03}],
            },
        }
        if champion
        else {"status": "no champion"}
    )
    checks = [{"name": "labels are known", "success": True}, {"name": "files decode", "success": True}]
    return {
        "evaluation": {"gate_inputs": inputs},
        "drift": {"gate_inputs": seen},
        "validate": [{"batch": "b2", "success": True, "checks": {"count": len(checks), "rows": checks}}],
        "sets": {"train_rows": 900, "leaks": {"count": 0, "rows": []}},
        "judged": ["b2"],
        "base_sha256": CHAMPION if champion else "",
        "anchor_sha256": ANCHOR if champion else "",
    }


def uneven() -> dict[str, Any]:
    """`passing` where one person has most of the videos: every difference that the gates read is told of people too."""
    example = passing()
    seen, labels = example["evaluation"]["gate_inputs"], example["drift"]["gate_inputs"]["labels"]
    rows = [row for name in ("new_generators", "slices", "forgetting") for row in seen[name]["rows"]] + seen["anchor"]["generators"]["rows"]
    for row in (*rows, *(seen["robustness"][name] for name in ("transfer", "whitebox", "curve")), seen["comparison"]["log_loss"]):
        row |= {"uneven": True, "once": {name: row[name] for name in ("difference", "se", "df")} | {"uneven": False}}
    rates = ("rate", "expected", "rate_before", "expected_before")
    labels |= {"uneven": True, "once": {name: labels[name] for name in ("difference", "se", "df", *rates)} | {"uneven": False}}
    return example


EXAMPLES = {
    "champion and a new generator": passing(),
    "champion, one person with most of the videos": uneven(),
    "champion, nothing new": passing(something_new=False),
    "first model": passing(champion=False, drift="no reference"),
}


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every value in the tree that is no container, and of every container that is not empty."""
    here = [path] if path else []
    if isinstance(tree, dict):
        return here + [found for key, item in tree.items() for found in leaves(item, (*path, key))]
    if isinstance(tree, list):
        return here + [found for key, item in enumerate(tree) for found in leaves(item, (*path, key))]
    return here


def without(tree: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """A copy of the tree that lacks the value at `path`."""
    changed, at = _reach(tree, path)
    del at[path[-1]]
    return changed


def replaced(tree: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of the tree with another value at `path`."""
    changed, at = _reach(tree, path)
    at[path[-1]] = value
    return changed


def _reach(tree: dict[str, Any], path: tuple[Any, ...]) -> tuple[dict[str, Any], Any]:
    changed = copy.deepcopy(tree)
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    return changed, at
