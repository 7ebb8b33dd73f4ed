"""Evidently's drift report, made in a process of its own: it reseeds NumPy's global generator and adds columns to the frames it gets.

`python -P -m pipelines.drift_report FOLDER` reads reference.parquet and current.parquet of FOLDER and writes evidently.html,
evidently.json there. The report is for people; the gate uses the permutation test of `pipelines.mmd`.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workspace.errors import StageFailed
from workspace.files import read_json, write_json
from workspace.quiet import QUIET, set_quiet_environment

if TYPE_CHECKING:
    import pandas as pd

LEAST_ROWS = 2
HTML, JSON = "evidently.html", "evidently.json"


def make_report(reference: "pd.DataFrame", current: "pd.DataFrame", folder: Path, *, why_not: str = "") -> list[dict[str, Any]]:
    """Write Evidently's HTML and JSON into `folder`; returns `{column, method, p_value, threshold, drifted}` a column.

    With fewer than two rows on a side, or where `why_not` says why nothing can be compared, a page says so and no column is returned.
    Raises StageFailed when the child fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if why_not or min(len(reference), len(current)) < LEAST_ROWS:
        note = f"Nothing to compare: {why_not or f'of known videos there are {len(reference)}, of incoming ones {len(current)}'}."
        (folder / HTML).write_text(f"<!doctype html><meta charset=utf-8><title>Drift</title><p>{note}</p>\n", encoding="utf-8")
        write_json(folder / JSON, {"metrics": [], "tests": [], "note": note})
        return []
    with tempfile.TemporaryDirectory(dir=folder) as work:
        reference.to_parquet(Path(work) / "reference.parquet")
        current.to_parquet(Path(work) / "current.parquet")
        child = subprocess.run(
            [sys.executable, "-P", "-m", "pipelines.drift_report", work],
            env={**os.environ, **QUIET, "MPLBACKEND": "Agg"},
            capture_output=True,
            text=True,
        )
        if child.returncode:
            raise StageFailed("Evidently's report could not be made.", why=child.stderr.strip()[-800:], next_step="Run `vigil doctor`, then `vigil retrain`.")
        for name in (HTML, JSON):
            os.replace(Path(work) / name, folder / name)
    return columns_of(read_json(folder / JSON))


def columns_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The drift of each column from Evidently's JSON; a p-value below its threshold is drift."""
    rows = []
    for metric in report["metrics"]:
        config = metric["config"]
        if not config["type"].endswith(":ValueDrift"):
            continue
        p_value = metric["value"]
        rows.append(
            {
                **{key: config[key] for key in ("column", "method", "threshold")},
                "p_value": p_value,
                "drifted": p_value is not None and p_value < config["threshold"],
            }
        )
    return rows


def _child(folder: Path) -> None:
    import warnings

    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    warnings.filterwarnings("ignore", category=RuntimeWarning)  # constant columns have no correlation; the page shows that
    reference, current = (pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "current"))
    definition = DataDefinition(numerical_columns=list(current.columns))
    report = Report([DataDriftPreset(num_method="ks")], include_tests=True)
    snapshot = report.run(Dataset.from_pandas(current, definition), Dataset.from_pandas(reference, definition))
    snapshot.save_html(str(folder / HTML))
    found = snapshot.dict()
    write_json(
        folder / JSON, {"metrics": found["metrics"], "tests": [{key: test[key] for key in ("name", "description", "status")} for test in found["tests"]]}
    )


if __name__ == "__main__":
    set_quiet_environment()
    _child(Path(sys.argv[1]))
