"""The gates as statistics: planted bad weeks, false holds of good weeks, false alarms and power of each test. From cached scores, in minutes.

    python benchmarks/gates.py drill [--seeds 10]      every kind of benchmarks/plants.py: held, by gates named beforehand; and without its own
    python benchmarks/gates.py good [--weeks 200]      good weeks (equal, and truly better): how many are held, and by which gate
    python benchmarks/gates.py level [--weeks 400]     A/A: how often each statistical gate alarms where nothing differs, beside its nominal level
    python benchmarks/gates.py power [--weeks 60]      how often each finds a difference of a given size
    python benchmarks/gates.py poison [--weeks 60]     wrong labels by one reporter and by many: how many weeks are held, what gets through
    python benchmarks/gates.py time                    the gate's part of `evaluate` and `drift`, and `gate`, on 2,000 videos: seconds and memory

Each appends rows to benchmarks/gates.jsonl. Bounds are those of the `full` profile, with 500 resamples of the paired interval in place of 2,000. Holdouts have
2,000 videos of 1,000 people. `measured` of a power row is the mean of what the gate saw, which for gates that look at the largest of several losses lies
above the true one.
"""

import argparse
import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402

from benchmarks.commands import code_hash, count, one_of  # noqa: E402
from benchmarks.plants import GATE_PLANTS, plant, without  # noqa: E402
from benchmarks.weeks import ANCHOR_CYCLE, LEARNED, NEW, SEPARATION, STANDS, STANDS_TRANSFER, UNKNOWN, Week, good_week, probability, robustness  # noqa: E402
from model.metrics import wilson  # noqa: E402
from model.paired import log_losses  # noqa: E402
from pipelines.gates.attacks import ROBUSTNESS_TESTS  # noqa: E402
from pipelines.gates.lost import FORGETTING_TESTS  # noqa: E402
from pipelines.gates.result import GateResult  # noqa: E402
from workspace.files import add_row  # noqa: E402
from workspace.settings import Settings, load_settings  # noqa: E402

RESAMPLES = 500  # of the paired interval; 2000 in the profile cost four times as much and move its ends by 2%


def bounds() -> Settings:
    """The `full` profile."""
    settings = load_settings(HERE.parent / "params.yaml")
    return settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update={"resamples": RESAMPLES})})


def drill_one(name: str, seed: int, settings: Settings) -> dict[str, Any]:
    """One kind with one seed: what spoke, whether all of it was named beforehand, whether its own gate did, and whether the week passes with that
    gate alone switched off (`switched_off`), which it does not where a second gate finds it too, and with all that were named (`all_named_off`)."""
    week = plant(good_week(settings, seed), name, seed)
    verdict = week.verdict()
    spoke = [result.gate for result in verdict.results if result.verdict != "pass"]
    first = verdict.reasons()[0] if spoke else ""
    unexpected = [gate for gate in spoke if not GATE_PLANTS[name].allows(gate)]
    own = GATE_PLANTS[name].own
    found = {"kind": name, "seed": seed, "verdict": str(verdict.verdict), "gates": spoke, "unexpected": unexpected}
    found["first_named"] = bool(spoke) and GATE_PLANTS[name].allows(verdict.against()[0].gate)
    found |= {"switched_off": str(without(verdict, (own,)).verdict), "all_named_off": str(without(verdict, GATE_PLANTS[name].may_fire).verdict)}
    return found | {"own_spoke": any(own in (gate, gate.split(":")[0]) for gate in spoke), "first": first[:200]}


def drill(seeds: int) -> dict[str, Any]:
    """Every kind with every seed."""
    settings, rows = bounds(), []
    for number, name in enumerate(GATE_PLANTS):
        mine = [drill_one(name, 1000 * number + seed, settings) for seed in range(seeds)]
        held = sum(row["verdict"] != "pass" for row in mine)
        clean = sum(not row["unexpected"] for row in mine)
        own = sum(row["own_spoke"] for row in mine)
        passes = sum(row["switched_off"] == "pass" for row in mine)
        spoke = Counter(row["first"].split(":")[0] for row in mine if row["first"])
        one = {"kind": name, "drawn": GATE_PLANTS[name].drawn, "own": GATE_PLANTS[name].own, "seeds": seeds, "held": held, "only_named": clean}
        one["first_named"] = sum(row["first_named"] for row in mine)
        one |= {"own_spoke": own, "promoted_without_own": passes, "promoted_without_named": sum(row["all_named_off"] == "pass" for row in mine)}
        rows.append(one | {"first": dict(spoke.most_common())})
        told = f"held {held}/{seeds}  only named gates {clean}/{seeds}  its own ({GATE_PLANTS[name].own}) {own}/{seeds}, promoted without that {passes}/{seeds}"
        print(f"{name:<36} {told}  {dict(spoke)}", flush=True)
    return {"what": "drill", "seeds": seeds, "kinds": len(rows), "rows": rows}


def good(weeks: int) -> dict[str, Any]:
    """Weeks that should be promoted."""
    settings, found = bounds(), {}
    for name, gain, fresh in (("equal", 0.0, 100), ("better", 0.3, 100), ("better, few of the new generator", 0.3, 12)):
        held, by = 0, Counter[str]()
        for seed in range(weeks):
            verdict = good_week(settings, 60_000 + seed, gain=gain, fresh=fresh, validation=settings.budget.evaluation_clips_per_slice).verdict()
            held += verdict.verdict != "pass"
            by.update(result.gate for result in verdict.results if result.verdict != "pass")
        found[name] = {"weeks": weeks, "held": held, "share": held / weeks, "interval": wilson(held, weeks), "by": dict(by.most_common())}
        print(name, found[name], flush=True)
    return {"what": "good", **found}


# Gate -> how it alarms in a week without any difference; its nominal level is a setting.
ALARMS = {"label noise": "hold_alpha", "worst slice": "hold_alpha", "drift": "drift.alpha"}
FORGETTING = ("forgetting", f"forgetting: since {ANCHOR_CYCLE}")  # share the level
ROBUSTNESS = ("transfer", "white-box", "curve")


def level(weeks: int) -> dict[str, Any]:
    """False alarms (`fail`) and all holds of each gate that holds for something shown, at the edge of what it allows, the hardest case.

    Non-inferiority errs the other way: how often a challenger that is worse by exactly the margin passes.
    """
    settings = bounds()
    edge = {
        "max_label_noise": 0.0, "max_slice_drop": 0.0, "max_forgetting": 0.0, "max_long_forgetting": 0.0,
        "max_curve_drop": 0.0, "max_transfer_drop": STANDS[0.0] - STANDS_TRANSFER, "min_whitebox": STANDS[2 / 255],
    }  # fmt: skip
    at_zero = settings.model_copy(update={"gates": settings.gates.model_copy(update=edge)})
    alarms, held = Counter[str](), Counter[str]()
    for seed in range(weeks):
        week = good_week(at_zero, 110_000 + seed, fresh=0)
        week.covered_by = {}  # so that drift, should it be seen, holds
        results = week.verdict().results
        alarms.update(result.gate for result in results if result.verdict == "fail")
        held.update(result.gate for result in results if result.verdict != "pass")
    rows = []
    nominals = {gate: settings.drift.alpha if setting == "drift.alpha" else settings.gates.hold_alpha for gate, setting in ALARMS.items()}
    nominals |= dict.fromkeys(FORGETTING, settings.gates.hold_alpha / FORGETTING_TESTS)
    nominals |= {f"robustness: {name}": settings.gates.hold_alpha / ROBUSTNESS_TESTS for name in ROBUSTNESS}
    for gate, nominal in nominals.items():
        rows.append({"gate": gate, "nominal": nominal, "held": held[gate], **_share(alarms[gate], weeks)})
    rows.append({"gate": f"better on what is new: {NEW}", "nominal": settings.gates.hold_alpha, **_alarms_on_new(settings, weeks)})
    rows.append({"gate": "not worse than the champion: AUC", "nominal": settings.gates.alpha, **_passes_at_the_margin(settings, weeks)})
    rows.append({"gate": "not worse than the champion: log-loss", "nominal": settings.gates.alpha, **_passes_at_the_rise(settings, weeks)})
    for row in rows:
        print(row, flush=True)
    return {"what": "level", "rows": rows}


def _share(alarms: int, weeks: int) -> dict[str, Any]:
    return {"alarms": alarms, "weeks": weeks, "rate": alarms / weeks, "interval": wilson(alarms, weeks)}


def _result_of(week: Week, gate: str) -> GateResult:
    return next(result for result in week.verdict().results if result.gate == gate)


def _reaches(rising: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where between `low` and `high` a rising function reaches `wanted`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return low


def _alarms_on_new(settings: Settings, weeks: int) -> dict[str, Any]:
    """A new generator that champion and challenger tell equally well, where nothing may be lost: how often that counts as lost."""
    strict = settings.model_copy(update={"gates": settings.gates.model_copy(update={"margin": 0.0})})
    alarms = 0
    for seed in range(weeks):
        week = good_week(strict, 160_000 + seed)
        _unlearning(LEARNED)(week, np.random.default_rng(seed))
        alarms += _result_of(week, f"better on what is new: {NEW}").verdict == "fail"
    return _share(alarms, weeks)


def _passes_at_the_rise(settings: Settings, weeks: int) -> dict[str, Any]:
    """A challenger as good as the champion whose logits are too large, so that its true log-loss lies `max_log_loss_rise` higher: how often it passes."""
    before = expected_log_loss(1.0)
    scale = _reaches(expected_log_loss, before + settings.gates.max_log_loss_rise, 1.0, 64.0)
    passed = 0
    for seed in range(weeks):
        week = good_week(settings, 260_000 + seed, fresh=0)
        week.table["x_challenger"] *= scale
        passed += _result_of(week, "not worse than the champion: log-loss").verdict == "pass"
    return _share(passed, weeks) | {"true_rise": expected_log_loss(scale) - before}


def expected_log_loss(scale: float) -> float:
    """Expected log-loss, as the gate bounds it, of scores of good_week whose logits are multiplied; of either class, which lie symmetric."""
    spread = np.linspace(-9.0, 9.0, 20_001)
    density = np.exp(-(spread**2) / 2)
    return float(np.average(log_losses(np.ones(spread.size, bool), probability(scale * (spread + SEPARATION / 2))), weights=density))


def _passes_at_the_margin(settings: Settings, weeks: int) -> dict[str, Any]:
    """A challenger whose true AUC lies the margin below: how often the gate lets it through."""
    before = _auc(SEPARATION)
    separation = _reaches(_auc, before - settings.gates.margin, 0.0, SEPARATION)
    passed = 0
    for seed in range(weeks):
        week = good_week(settings, 210_000 + seed, gain=separation - SEPARATION)
        passed += _result_of(week, "not worse than the champion: AUC").verdict == "pass"
    return _share(passed, weeks) | {"true_loss": before - _auc(separation)}


def _auc(separation: float) -> float:
    from statistics import NormalDist

    return NormalDist().cdf(separation / math.sqrt(2))


def power_cases() -> list[tuple[str, str, list[tuple[float, Any]]]]:
    """Gates, with what is planted for each and in which sizes."""
    return [
        ("label noise", "share of labels flipped", [(share, _flipping(share)) for share in (0.01, 0.02, 0.03, 0.05, 0.1)]),
        ("worst slice", "recall lost on the fakes of one source in three", [(by, _sliding(by)) for by in (0.3, 0.5, 0.8, 1.2)]),
        ("forgetting", "separation lost on one generator", [(by, _forgetting(by)) for by in (0.3, 0.6, 0.9, 1.2)]),
        (FORGETTING[1], "separation lost on one generator since then, by the champion too", [(by, _long_forgetting(by)) for by in (1.2, 1.5, 1.8, 2.2)]),
        ("drift", "shift of all embeddings, in standard deviations", [(by, _shifting(by)) for by in (0.1, 0.2, 0.4, 0.8)]),
        ("robustness: transfer", "share that a transferred attack leaves standing", [(share, _transferring(share)) for share in (0.94, 0.92, 0.9, 0.86)]),
        ("robustness: white-box", "strength lost under attack, in standard deviations", [(by, _softening(by)) for by in (0.3, 0.6, 1.0, 1.5)]),
        ("robustness: curve", "strength lost under attack, in standard deviations", [(by, _softening(by)) for by in (0.1, 0.2, 0.3, 0.5)]),
        ("not worse than the champion: AUC", "separation lost everywhere", [(by, _weakening(by)) for by in (0.1, 0.3, 0.5, 0.8)]),
        ("not worse than the champion: log-loss", "factor on all logits", [(by, _overstating(by)) for by in (1.5, 2.0, 3.0, 5.0)]),
        (f"better on what is new: {NEW}", "separation on a generator that the champion tells well", [(by, _unlearning(by)) for by in (3.0, 2.6, 2.2, 1.8)]),
    ]


def power(weeks: int, only: str = "") -> dict[str, Any]:
    """How often each gate (`only`: those whose name begins so) speaks at a true effect of a given size."""
    settings, rows = bounds(), []
    for gate, unit, steps in (case for case in power_cases() if case[0].startswith(only)):
        for size, change in steps:
            spoke, failed, effects = 0, 0, []
            for seed in range(weeks):
                week = good_week(settings, 310_000 + seed, fresh=100 if gate.endswith(NEW) else 0)
                change(week, np.random.default_rng([seed, 9]))
                result = _result_of(week, gate)
                spoke += result.verdict != "pass"
                failed += result.verdict == "fail"
                effects.append(result.measured if result.measured is not None else math.nan)
            rows.append(
                {
                    "gate": gate,
                    "effect": unit,
                    "size": size,
                    "measured": float(np.nanmean(effects)),
                    "spoke": spoke,
                    "failed": failed,
                    "weeks": weeks,
                    "interval": wilson(spoke, weeks),
                }
            )
            print(rows[-1], flush=True)
    return {"what": "power", "rows": rows}


def _flipping(share: float) -> Any:
    from benchmarks.plants import _swap_labels

    return lambda week, rng: _swap_labels(week.incoming, week.incoming["new"].to_numpy() & (rng.random(len(week.incoming)) < share))


def _transferring(share: float) -> Any:
    return lambda week, rng: week.measured.update(robustness=robustness(rng, transfer=share))


def _softening(by: float) -> Any:
    return lambda week, rng: week.measured.update(robustness=robustness(rng, moved=by))


def _sliding(by: float) -> Any:
    from benchmarks.plants import _move, _rows

    return _move("x_challenger", -by, _rows(source="archive", label="fake"))


def _forgetting(by: float) -> Any:
    from benchmarks.plants import _move, _rows

    return _move("x_challenger", -by, _rows(generator="blend"))


def _long_forgetting(by: float) -> Any:
    def change(week: Any, rng: np.random.Generator) -> None:
        from benchmarks.plants import _move, _rows

        for model in ("x_challenger", "x_champion"):
            _move(model, -by, _rows(generator="blend"))(week, rng)

    return change


def _weakening(by: float) -> Any:
    from benchmarks.plants import _move, _rows

    return _move("x_challenger", -by, _rows(label="fake"))


def _overstating(factor: float) -> Any:
    def change(week: Any, rng: np.random.Generator) -> None:
        week.table["x_challenger"] *= factor

    return change


def _unlearning(separation: float) -> Any:
    def change(week: Any, rng: np.random.Generator) -> None:
        from benchmarks.plants import _move, _rows

        _move("x_champion", LEARNED - UNKNOWN, _rows(generator=NEW))(week, rng)
        _move("x_challenger", separation - LEARNED, _rows(generator=NEW))(week, rng)

    return change


def _shifting(by: float) -> Any:
    def change(week: Any, rng: np.random.Generator) -> None:
        direction = rng.normal(size=8)
        direction *= by * math.sqrt(2) / np.linalg.norm(direction)
        new = week.incoming["new"].to_numpy()
        week.incoming["embedding"] = [point + direction * came for point, came in zip(week.incoming["embedding"], new, strict=True)]
        week.covered_by = {}

    return change


def poison(weeks: int) -> dict[str, Any]:
    """Feedback with wrong labels, by one reporter and by many: how many weeks are held, and what share of wrong labels trains where they are not.

    One reporter's lie on a few people and are cut to `feedback.queue.source_cap` of the batch, as the hand-over does; many reporters' lie anywhere.
    """
    settings, rows = bounds(), []
    cap = settings.feedback.queue.source_cap
    for reporters in ("one", "many"):
        for share in (0.01, 0.05, 0.10, 0.30):
            held, through = 0, []
            for seed in range(weeks):
                week = good_week(settings, 410_000 + seed)
                rng = np.random.default_rng([seed, 11])
                wrong = _wrong_labels(week, rng, min(share, cap) if reporters == "one" else share, reporters == "one")
                results = week.verdict().results
                stopped = any(result.gate == "label noise" and result.verdict != "pass" for result in results)
                held += stopped
                through += [] if stopped else [wrong]
            row = {"reporters": reporters, "share": share, "weeks": weeks, "held": held, "interval": wilson(held, weeks)}
            rows.append(row | {"wrong_labels_let_through": float(np.mean(through)) if through else 0.0})
            print(rows[-1], flush=True)
    return {"what": "poison", "source_cap": cap, "rows": rows}


def _wrong_labels(week: Any, rng: np.random.Generator, share: float, few_people: bool) -> float:
    """Flip this share of what came in; returns the share that is wrong then."""
    from benchmarks.plants import _swap_labels

    new = week.incoming["new"].to_numpy()
    rows = np.flatnonzero(new)
    if few_people:
        start = int(rng.integers(0, len(rows)))
        chosen = np.roll(rows, -start)[: round(share * len(rows))]
    else:
        chosen = rows[rng.random(len(rows)) < share]
    flipped = np.zeros(len(new), dtype=bool)
    flipped[chosen] = True
    _swap_labels(week.incoming, flipped)
    return float(flipped.sum() / max(1, new.sum()))


def timed() -> dict[str, Any]:
    """Seconds and peak memory of everything the gates need from cached scores of 2,000 videos, at the profile's own resamples."""
    settings = load_settings(HERE.parent / "params.yaml")
    week = good_week(settings, 1, incoming=settings.drift.max_samples)
    start = time.perf_counter()
    verdict = week.verdict()
    row = {
        "what": "time",
        "seconds": round(time.perf_counter() - start, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "verdict": str(verdict.verdict),
    }
    print(row)
    return row


def main() -> None:
    """Run one of the studies and append its row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["drill", "good", "level", "power", "poison", "time"])
    parser.add_argument("--seeds", type=count, default=10)
    parser.add_argument("--weeks", type=count, help="Weeks drawn; else as above.")
    parser.add_argument(
        "--gate", type=one_of([gate for gate, _, _ in power_cases()], str.startswith), default="", help="Of `power`: only gates whose name begins so."
    )
    asked = parser.parse_args()
    studies: dict[str, Any] = {
        "drill": lambda: drill(asked.seeds), "good": lambda: good(asked.weeks or 200), "level": lambda: level(asked.weeks or 400),
        "power": lambda: power(asked.weeks or 60, asked.gate), "poison": lambda: poison(asked.weeks or 60), "time": timed,
    }  # fmt: skip
    code = code_hash("benchmarks/gates.py", "benchmarks/plants.py", "benchmarks/weeks.py")
    row = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "code": code, **studies[asked.study]()}
    add_row(HERE / "gates.jsonl", row)
    amiss = [one["kind"] for one in row.get("rows", []) if asked.study == "drill" and min(one["held"], one["first_named"]) < one["seeds"]]
    if amiss:
        sys.exit(f"Not held every time, or first by a gate that was not named: {', '.join(amiss)}.")


if __name__ == "__main__":
    main()
