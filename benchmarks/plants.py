"""Bad weeks, each planted in a good one: what is wrong, and which gates may say so. A drill in which another gate speaks first has failed.

`GATE_PLANTS` spoil a week of cached scores (benchmarks/weeks.py). What spoils a real workspace on its way through the flow is in benchmarks/drill.py.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.weeks import KNOWN, NEW, SEPARATION, Week, probability

if TYPE_CHECKING:
    import pandas as pd

NOT_WORSE = ("not worse than the champion: AUC", "not worse than the champion: log-loss")
ACCURACY = tuple(f"accuracy: {name}" for name in ("balanced accuracy", "precision", "recall", "F1", "AUC", "false-positive rate", "ECE beyond chance"))
EVALUATION = ("accuracy", *NOT_WORSE, "not worse than the champion", "better on what is new", "new rows", "worst slice", "robustness", "forgetting",
              "generalisation gap", "score collapse", "latency", "size", "artifact parity", "label noise")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plant:
    """A kind of bad week. `may_fire` names gates, or the part of their name before the colon; `own` is the one that it is made for."""

    about: str
    may_fire: tuple[str, ...]
    spoil: Callable[[Week, np.random.Generator], None]
    made_for: str = ""
    drawn: bool = True  # scores or embeddings change, so that chance has a part; else a number or a file, the same with every seed

    @property
    def own(self) -> str:
        """The gate that it is made for."""
        return self.made_for or self.may_fire[0]

    def allows(self, gate: str) -> bool:
        """Whether this gate was named beforehand."""
        return gate in self.may_fire or gate.split(":")[0] in self.may_fire


def _flip(share: float) -> Callable[[Week, np.random.Generator], None]:
    """Labels of what came in, and of its holdout rows, are wrong; the challenger believed its part of them."""

    def spoil(week: Week, rng: np.random.Generator) -> None:
        for table, rows in ((week.incoming, week.incoming["new"]), (week.table, week.table["new"])):
            _swap_labels(table, rows.to_numpy() & (rng.random(len(table)) < share))
        fake = (week.table["label"] == "fake").to_numpy()
        learned = (week.table["fold"] == "holdout").to_numpy() & ~week.table["new"].to_numpy()
        week.table["x_challenger"] += np.where(learned, np.where(fake, -1, 1) * SEPARATION * share / 2, 0.0)

    return spoil


def _swap_labels(table: "pd.DataFrame", rows: Any) -> None:
    labels, generators = table["label"].to_numpy(dtype=object).copy(), table["generator"].to_numpy(dtype=object).copy()
    was_fake = labels == "fake"
    labels[rows & was_fake], labels[rows & ~was_fake] = "real", "fake"
    generators[rows & was_fake], generators[rows & ~was_fake] = "", KNOWN[0]
    table["label"], table["generator"] = labels, generators


def _move(name: str, by: float, which: Callable[[Any], Any]) -> Callable[[Week, np.random.Generator], None]:
    """Add to the challenger's scores of some rows."""

    def spoil(week: Week, rng: np.random.Generator) -> None:
        week.table.loc[which(week.table), name] += by

    return spoil


def _collapsed(week: Week, rng: np.random.Generator) -> None:
    week.table["x_challenger"] = week.table["x_challenger"] * 0.01
    week.thresholds["challenger"] = float(probability(np.array([0.003]))[0])


def _overconfident(week: Week, rng: np.random.Generator) -> None:
    week.table["x_challenger"] *= 6.0
    week.thresholds["challenger"] = float(probability(np.array([6 * 0.3]))[0])


def _threshold(at: float) -> Callable[[Week, np.random.Generator], None]:
    def spoil(week: Week, rng: np.random.Generator) -> None:
        week.thresholds["challenger"] = at

    return spoil


def _leaked(week: Week, rng: np.random.Generator) -> None:
    week.sets["leaks"] = {"count": 2, "rows": [{"kind": "identity", "key": "anna"}, {"kind": "clip", "key": "0123"}]}


def _set(*path: Any, value: Any) -> Callable[[Week, np.random.Generator], None]:
    def spoil(week: Week, rng: np.random.Generator) -> None:
        at: Any = week.measured
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return spoil


def _check_failed(name: str) -> Callable[[Week, np.random.Generator], None]:
    def spoil(week: Week, rng: np.random.Generator) -> None:
        week.validate[0] = {"batch": "b2", "success": False, "checks": {"count": 1, "rows": [{"name": name, "success": False}]}}

    return spoil


def _memorising(week: Week, rng: np.random.Generator) -> None:
    """Perfect on what it trained on, poor on people it has not met."""
    rows = (week.table["fold"] == "holdout").to_numpy()
    fake = (week.table["label"] == "fake").to_numpy()
    week.table["x_challenger"] += np.where(rows, np.where(fake, -1, 1) * 1.15, np.where(fake, 1, -1) * 3.0)


def _crept(week: Week, rng: np.random.Generator) -> None:
    """As good as last week's champion, which has lost a generator little by little."""
    mine = (week.table["generator"] == KNOWN[1]).to_numpy()
    for model in ("champion", "challenger"):
        week.table[f"x_{model}"] -= np.where(mine, 2.6, 0.0)


def _drifted(week: Week, rng: np.random.Generator) -> None:
    new = week.incoming["new"].to_numpy()
    shift = rng.normal(size=8)
    shift *= 3.0 / np.linalg.norm(shift)
    week.incoming["embedding"] = [point + shift if came else point for point, came in zip(week.incoming["embedding"], new, strict=True)]
    week.covered_by = {}


def _many_kinds(week: Week, rng: np.random.Generator) -> None:
    """The fakes that came in are of fifty generators that nobody knows, none of them a twentieth of what came in."""
    mine = (week.incoming["new"] & (week.incoming["label"] == "fake")).to_numpy()
    week.incoming["embedding"] = [point + 1.0 if new else point for point, new in zip(week.incoming["embedding"], mine, strict=True)]
    week.incoming["generator"] = np.where(mine, [f"kind {number % 50}" for number in range(len(mine))], week.incoming["generator"].to_numpy(dtype=object))


def _stale(week: Week, rng: np.random.Generator) -> None:
    week.base_sha256 = "c" * 64


def _half_written(week: Week, rng: np.random.Generator) -> None:
    week.reports.append(lambda evaluation, drift: evaluation.clear())


def _no_drift_report(week: Week, rng: np.random.Generator) -> None:
    week.reports.append(lambda evaluation, drift: drift.clear())


def _holes(week: Week, rng: np.random.Generator) -> None:
    def dig(evaluation: dict[str, Any], drift: dict[str, Any]) -> None:
        evaluation["gate_inputs"]["accuracy"]["auc"] = float("nan")

    week.reports.append(dig)


def _constant(week: Week, rng: np.random.Generator) -> None:
    """A network whose weights have become NaN and whose export answers one number."""
    week.table["x_challenger"] = 0.0


def _unreviewed(week: Week, rng: np.random.Generator) -> None:
    week.validate.clear()


def _rows(**wanted: str) -> Callable[[Any], Any]:
    def which(table: Any) -> Any:
        found = table["fold"] == "holdout"
        for column, value in wanted.items():
            found &= table[column] == value
        return found

    return which


def _weaker(week: Week, rng: np.random.Generator) -> None:
    """A little worse everywhere: 0.996 becomes 0.975."""
    fake = (week.table["label"] == "fake").to_numpy()
    week.table["x_challenger"] += np.where(week.table["fold"] == "holdout", np.where(fake, -0.5, 0.5), 0.0)


WRONG_SCORES = (*ACCURACY, *NOT_WORSE, "worst slice", "forgetting", "new rows", "better on what is new", "generalisation gap")
GATE_PLANTS: dict[str, Plant] = {
    "labels flipped 5%": Plant("one label in twenty is wrong", ("label noise", *NOT_WORSE, "worst slice", "forgetting"), _flip(0.05)),
    "labels flipped 10%": Plant("one label in ten is wrong", ("label noise", "new rows", *NOT_WORSE, "worst slice", "forgetting"), _flip(0.10)),
    "labels flipped 30%": Plant("three labels in ten are wrong", ("label noise", *WRONG_SCORES), _flip(0.30)),
    "collapsed scores": Plant("every score is about one half", ("score collapse", "accuracy: ECE beyond chance", NOT_WORSE[1], "worst slice"), _collapsed),
    "constant scores": Plant("NaN weights: one number for everything", ("score collapse", "accuracy", *WRONG_SCORES), _constant),
    "everything fake": Plant("the threshold is zero", ("accuracy", "score collapse", "worst slice"), _threshold(0.0)),
    "everything real": Plant("the threshold is one", ("accuracy", "score collapse", "worst slice"), _threshold(1.0)),
    "too many false alarms": Plant("a threshold with an FPR of 7%",
                                   ("accuracy", "worst slice"), _threshold(float(probability(np.array([-0.42]))[0])), made_for="accuracy"),
    "leaked holdout": Plant("people stand on both sides of the split", ("leak-free",), _leaked, drawn=False),
    "one slice ruined": Plant("fakes of the archive are not seen any more", (*NOT_WORSE, *ACCURACY, "worst slice", "forgetting"),
                              _move("x_challenger", -2.6, _rows(source="archive", label="fake", compression="c40")), made_for="worst slice"),
    "forgetting": Plant("a known generator is half forgotten", (*NOT_WORSE, *ACCURACY, "worst slice", "forgetting"),
                        _move("x_challenger", -1.5, _rows(generator="blend")), made_for="forgetting"),
    "forgotten little by little": Plant("no worse than a champion that has lost a generator in months",
                                          ("forgetting", *ACCURACY, *NOT_WORSE), _crept, made_for="forgetting"),
    "overconfident": Plant("logits six times too large", ("accuracy: ECE beyond chance", NOT_WORSE[1]), _overconfident, made_for=NOT_WORSE[1]),
    "worse everywhere": Plant("two points of AUC lost", (*ACCURACY, *NOT_WORSE, "worst slice", "forgetting"), _weaker, made_for=NOT_WORSE[0]),
    "memorising": Plant("perfect on its own training people alone", WRONG_SCORES, _memorising, made_for="generalisation gap"),
    "new generator not learned": Plant("the new forger is told no better than by the champion", ("better on what is new", "new rows"),
                                       _move("x_challenger", -3.1, _rows(generator=NEW))),
    "drift": Plant("what comes in looks unlike anything in the holdout", ("drift",), _drifted),
    "many small new kinds": Plant("half of what comes in is of kinds that nobody knows, each of them small", ("drift",), _many_kinds),
    "wrong preprocessing in the export": Plant("the export scores golden clips otherwise",
                                               ("artifact parity",), _set("parity", "max_difference", value=0.2), drawn=False),
    "no golden clips": Plant("nobody compared the export", ("artifact parity",), _set("parity", "clips", value=0), drawn=False),
    "slow model": Plant("9 s for a 10 s clip", ("latency",), _set("latency", "seconds", value=9.0), drawn=False),
    "too large": Plant("a file of 400 MB", ("size",), _set("size_bytes", value=400 << 20), drawn=False),
    "empty file": Plant("nothing was exported", ("size",), _set("size_bytes", value=0), drawn=False),
    "transferred attacks work": Plant("13 points lost to another model's attack",
                                      ("robustness",), _set("robustness", "transfer", "difference", value=-0.13), drawn=False),
    "white-box attacks work": Plant("nothing stands at 2/255", ("robustness",), _set("robustness", "whitebox", "difference", value=0.05), drawn=False),
    "robustness lost": Plant("the curve lies far below the champion's", ("robustness",), _set("robustness", "curve", "difference", value=-0.15), drawn=False),
    "attacks not measured": Plant("the attack stage gave no number", ("robustness",), _set("robustness", "whitebox", value=None), drawn=False),
    "stale champion": Plant("the evaluation compared with another champion", EVALUATION, _stale, made_for="not worse than the champion", drawn=False),
    "half-written evaluation": Plant("evaluation.json is cut off", EVALUATION, _half_written, made_for="accuracy", drawn=False),
    "drift report missing": Plant("drift.json is not there", ("drift", "label noise"), _no_drift_report, drawn=False),
    "a hole in the figures": Plant("an AUC is NaN", ("accuracy",), _holes, drawn=False),
    "empty batch": Plant("no row came in", ("data",), _check_failed("the batch has rows"), drawn=False),
    "all duplicates": Plant("every file was known", ("data",), _check_failed("few duplicates"), drawn=False),
    "unchecked batch": Plant("the data checks left no report", ("data",), _unreviewed, drawn=False),
}  # fmt: skip


def plant(week: Week, name: str, seed: int) -> Week:
    """The week, spoiled."""
    GATE_PLANTS[name].spoil(week, np.random.default_rng([seed, 7]))
    return week


def without(verdict: Any, gates: tuple[str, ...]) -> Any:
    """The verdict as it would be with these gates switched off."""
    from pipelines.gates import Verdict, decide

    kept = tuple(result for result in verdict.results if result.gate not in gates and result.gate.split(":")[0] not in gates)
    return replace(verdict, verdict=decide(kept), results=kept) if kept else Verdict(decide([]), ())
