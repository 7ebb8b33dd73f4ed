"""Is a champion as sure as it is right? ECE in its own domain, before and after its calibration, on enough videos to tell.

    python benchmarks/calibration.py -w demo [--people 500] [--mixture blendswap=1 ...]     appends a row to benchmarks/calibration.jsonl

Rendered people whom no model met, one real and one forged clip of each, forged as `--mixture` says: a model's own domain is
what its validation held. One champion is one draw: a word about the loop needs several, of worlds with seeds of their own. For `ece` nothing
is fitted here: temperature and offset are the card's, from its validation. `as_many_new_videos` says what validation of another size would
have given: both fitted as the stage `train` does it, and the temperature alone, on so many of these people, and measured on the
others; the mean of FITS draws. ECE is biased upwards by chance alone, more so on few videos: beside it stands what a model would
give whose every probability is exactly right, and what that model would give on the videos of one cycle.
"""

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from workspace.quiet import set_quiet_environment  # noqa: E402

set_quiet_environment()

RESULTS = HERE / "calibration.jsonl"
SEED, FIRST, DRAWS = 93, 300_000, 1000
FITTED_ON, FITS = (16, 32, 64, 128, 256), 20  # people, two videos each; draws of them


def perfect(p_fake: Any, n: int) -> float:
    """Mean ECE on `n` videos of a model whose every probability is exactly right."""
    import numpy as np

    from model.metrics import expected_calibration_error

    rng, found = np.random.default_rng(SEED), []
    for _ in range(DRAWS):
        p = rng.choice(p_fake, n)
        found.append(expected_calibration_error(rng.random(n) < p, p))
    return float(np.nanmean(np.array(found, dtype=float)))  # of few videos a draw may lack a class


def as_many_new(fake: Any, logits: Any, who: Any) -> dict[str, dict[str, float]]:
    """By number of people: ECE on the others with temperature and offset fitted on them, with the temperature alone, and of exactly right probabilities."""
    import numpy as np

    from model.calibration import USUAL_OFFSET, fit_platt
    from model.metrics import expected_calibration_error

    rng, people, found = np.random.default_rng(SEED), np.unique(who), {}
    for number in (number for number in FITTED_ON if number <= len(people) // 2):
        errors: dict[str, list[float | None]] = {"ece": [], "temperature_alone": [], "exactly_right": []}
        for _ in range(FITS):
            mine = np.isin(who, rng.permutation(people)[:number])
            for name, usual in (("ece", USUAL_OFFSET), ("temperature_alone", 1e-6)):
                middle = sum(float(np.median(logits[mine & side])) for side in (fake, ~fake)) / 2 if usual == USUAL_OFFSET else 0.0
                temperature, offset = fit_platt(fake[mine], lambda t, mine=mine: logits[mine] / t, usual, middle)  # type: ignore[misc]
                p = 1 / (1 + np.exp(-(logits[~mine] / temperature + offset)))
                errors[name].append(expected_calibration_error(fake[~mine], p))
                if name == "ece":
                    errors["exactly_right"].append(expected_calibration_error(rng.random(len(p)) < p, p))
        found[str(number)] = {name: round(float(np.nanmean(np.array(values, dtype=float))), 4) for name, values in errors.items()}
    return found


def main() -> None:
    """Render, score, append, print."""
    import numpy as np

    from benchmarks.commands import champion_of, count
    from media.synthetic import make_sample_media
    from model.inference import Engine
    from model.intervals import cluster_interval
    from model.metrics import auc, expected_calibration_error, risk_coverage
    from workspace.files import add_row

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--people", type=count, default=500)
    parser.add_argument("--mixture", nargs="+", default=["blendswap=1"], metavar="FORGER=PART")
    asked = parser.parse_args()
    parts = {name: int(part) for name, _, part in (one.partition("=") for one in asked.mixture)}
    engine = Engine(champion_of(asked.workspace))
    labels, after, who, unanswered = [], [], [], 0
    with tempfile.TemporaryDirectory(prefix="vigil-calibration-") as scratch:
        first = FIRST
        for name, part in parts.items():
            people = round(asked.people * part / sum(parts.values()))
            report = make_sample_media(Path(scratch) / name, people=people, seconds=0.85, seed=SEED, fakes={name: 1}, first_person=first)
            first += people
            for row in report.rows:
                said = engine.score_file(Path(scratch) / name / row["path"])
                if said.p_fake is None:
                    unanswered += 1
                    continue
                labels.append(row["label"])
                who.append(row["identity"])
                after.append(said.p_fake)
    p, known = np.array(after), np.array(labels)
    logits = engine.card.temperature * (np.log(p / (1 - p)) - engine.card.offset)  # one clip a video: what was fitted is taken back exactly
    before = 1 / (1 + np.exp(-logits))
    fitted = engine.card.metrics.get("calibration", {})
    cycle = int(fitted.get("n_real", 0) + fitted.get("n_fake", 0))
    ece = cluster_interval(expected_calibration_error, known, p, np.array(who))
    curve = risk_coverage(known, p, engine.card.threshold)
    assert curve is not None
    row = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "model": engine.model_id, "mixture": parts, "n": len(known), "people": len(set(who)),
        "no_verdict": unanswered,
        "auc": auc(known, p), "temperature": engine.card.temperature, "offset": engine.card.offset,
        "ece_before": expected_calibration_error(known, before), "ece": ece.value,
        "interval": [ece.low, ece.high], "ece_of_a_perfect_model": perfect(p, len(known)),
        "validation_videos": cycle, "ece_of_a_perfect_model_on_as_many": perfect(p, cycle) if cycle else None,
        "as_many_new_videos": as_many_new(known == "fake", logits, np.array(who)),
        "risk_at_coverage": {str(part): float(curve[1][np.searchsorted(curve[0], part)]) for part in (0.5, 0.8, 0.9, 0.95, 1.0)},
    }  # fmt: skip
    add_row(RESULTS, row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
