"""Is a champion as sure as it is right? ECE in its own domain, before and after its temperature, on enough videos to tell.

    python benchmarks/calibration.py -w demo [--people 500] [--mixture blendswap=1 ...]     appends a row to benchmarks/calibration.jsonl

Rendered people whom no model met, one real and one forged clip of each, forged as `--mixture` says: a model's own domain is
what its validation held. One champion is one draw: a word about the loop needs several, of worlds with seeds of their own. Nothing is fitted
here: the temperature is the card's, from its validation. ECE is biased upwards by
chance alone, more so on few videos: beside it stands what a model would give whose every probability is exactly right, and what
that model would give on the videos of one cycle.
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


def perfect(p_fake: Any, n: int) -> float:
    """Mean ECE on `n` videos of a model whose every probability is exactly right."""
    import numpy as np

    from model.metrics import expected_calibration_error

    rng, found = np.random.default_rng(SEED), []
    for _ in range(DRAWS):
        p = rng.choice(p_fake, n)
        found.append(expected_calibration_error(rng.random(n) < p, p))
    return float(np.mean(found))


def main() -> None:
    """Render, score, append, print."""
    import numpy as np

    from benchmarks.commands import champion_of
    from benchmarks.results import add_row
    from media.synthetic import make_sample_media
    from model.inference import Engine
    from model.intervals import cluster_interval
    from model.metrics import auc, expected_calibration_error, risk_coverage

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--people", type=int, default=500)
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
    before = 1 / (1 + (p / (1 - p)) ** -engine.card.temperature)  # one clip a video: the temperature is taken back exactly
    fitted = engine.card.metrics.get("calibration", {})
    cycle = int(fitted.get("n_real", 0) + fitted.get("n_fake", 0))
    ece = cluster_interval(expected_calibration_error, known, p, np.array(who))
    curve = risk_coverage(known, p, engine.card.threshold)
    assert curve is not None
    row = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "model": engine.model_id, "mixture": parts, "n": len(known), "people": len(set(who)),
        "no_verdict": unanswered,
        "auc": auc(known, p), "temperature": engine.card.temperature, "ece_before": expected_calibration_error(known, before), "ece": ece.value,
        "interval": [ece.low, ece.high], "ece_of_a_perfect_model": perfect(p, len(known)),
        "validation_videos": cycle, "ece_of_a_perfect_model_on_as_many": perfect(p, cycle) if cycle else None,
        "risk_at_coverage": {str(part): float(curve[1][np.searchsorted(curve[0], part)]) for part in (0.5, 0.8, 0.9, 0.95, 1.0)},
    }  # fmt: skip
    add_row(RESULTS, row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
