"""What a cycle costs beside its stages, and what `vigil retrain` and `vigil --help` cost when there is nothing to do.

    python benchmarks/overhead.py        appends a line to benchmarks/overhead.jsonl

Overhead is wall time less the time inside stage functions: imports, Prefect, DVC, MLflow, git, the promotion probe.
Bounds (issue of the first release): 90 s a demo cycle, 5 s for nothing new, 0.5 s for --help.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from workspace.files import add_row  # noqa: E402


def timed(*words: object) -> tuple[float, int]:
    """Wall seconds and exit code of one command."""
    started = time.monotonic()
    done = subprocess.run([Path(sys.executable).with_name("vigil"), *map(str, words)], capture_output=True)
    return time.monotonic() - started, done.returncode


def main() -> None:
    """One demo-profile cycle on one week of sample media, in a folder that goes away."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from media.synthetic import make_sample_media

    with tempfile.TemporaryDirectory(prefix="vigil-overhead-") as scratch:
        root = Path(scratch) / "w"
        make_sample_media(Path(scratch) / "media", people=40, clips_per_person=2, seconds=0.85, seed=1, fakes={"blendswap": 2})
        timed("init", root, "--profile", "demo")
        timed("ingest", Path(scratch) / "media" / "labels.csv", "-w", root)
        wall, code = timed("retrain", "-w", root)
        stages = [json.loads(line) for line in (root / ".vigil" / "timings.jsonl").read_text().splitlines()]
        inside = sum(stage["seconds"] for stage in stages)
        nothing = sorted(timed("retrain", "-w", root)[0] for _ in range(5))
        helps = sorted(timed("--help")[0] for _ in range(9))
    row = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "exit_code": code,
        "wall_seconds": round(wall, 1),
        "inside_stages_seconds": round(inside, 1),
        "overhead_seconds": round(wall - inside, 1),
        "nothing_new_seconds": {"median": round(nothing[2], 2), "max": round(nothing[-1], 2)},
        "help_seconds": {"median": round(helps[4], 2), "max": round(helps[-1], 2)},
        "stages": {stage["stage"].split("@")[0]: round(stage["seconds"], 1) for stage in stages},
    }
    add_row(HERE / "overhead.jsonl", row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
