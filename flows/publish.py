"""MLflow shows what happened: one run a cycle, found by its tag, with data sets, curves, figures and the model version.

Stages that DVC restores never run, so they write files and the flow publishes them. A run that a kill left RUNNING is
ended and replaced: publishing twice leaves one finished run.
"""

import hashlib
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.gate import read_report
from workspace.cycle import Cycle
from workspace.errors import ModelFileError, shown_address, without_passwords
from workspace.files import read_json
from workspace.owning import CYCLE_TAG
from workspace.registry import OUTCOME_TAG
from workspace.settings import Settings

PARAMS_A_CALL, METRICS_A_CALL, VALUE_LENGTH = 100, 900, 500
NAME_LENGTH = 240  # of the 250 that MLflow allows, so that a hash has room


def publish_cycle(root: Path, settings: Settings, cycle: Cycle, outcome: str) -> str:
    """Write the cycle's run and model version, then let the aliases follow the journal; returns the run's id."""
    from workspace import registry

    experiment_id = registry.prepare(root, settings)
    with registry.open_registry(root, settings) as client:
        _put_away_unfinished(client, experiment_id, cycle.cycle)
        run_id = registry.published_run(client, experiment_id, cycle.cycle) or _publish_run(client, experiment_id, root, settings, cycle, outcome)
    try:
        registry.register(root, settings, root / "models" / cycle.cycle, cycle=cycle.cycle, run_id=run_id)
    except ModelFileError as problem:
        if outcome == "promoted":
            raise
        print(f"{problem}\n  The held model is not shown in MLflow; its cycle ends all the same.", file=sys.stderr, flush=True)
    registry.rebuild_aliases(root, settings)
    return run_id


def _put_away_unfinished(client: Any, experiment_id: str, cycle: str) -> None:
    """End and delete the cycle's runs that a kill cut short."""
    for run in client.search_runs([experiment_id], filter_string=f"tags.`{CYCLE_TAG}` = '{cycle}'"):
        if run.info.status != "FINISHED":
            client.set_terminated(run.info.run_id, "KILLED")
            client.delete_run(run.info.run_id)


def _publish_run(client: Any, experiment_id: str, root: Path, settings: Settings, cycle: Cycle, outcome: str) -> str:
    run = client.create_run(experiment_id, run_name=cycle.cycle, tags={CYCLE_TAG: cycle.cycle, OUTCOME_TAG: outcome, "vigil.base_model": cycle.base_model})
    run_id = run.info.run_id
    _log_params(client, run_id, settings)
    _log_metrics(client, run_id, root)
    _log_datasets(client, run_id, root)
    for name in ("reports/evaluation.json", "reports/verdict.json", "reports/predictions.parquet", "data/sets/report.json"):
        if (root / name).exists():
            client.log_artifact(run_id, str(root / name), "reports")
    for folder in ("reports/plots", "reports/drift"):
        if (root / folder).exists():
            client.log_artifacts(run_id, str(root / folder), folder)
    client.set_terminated(run_id, "FINISHED")
    return str(run_id)


def _log_params(client: Any, run_id: str, settings: Settings) -> None:
    from mlflow.entities import Param

    flat = [
        Param(key, without_passwords(shown_address(value) if isinstance(value, str) else str(value))[:VALUE_LENGTH])
        for key, value in flatten(settings.model_dump(mode="json", by_alias=True))
        if not key.startswith("ingest.")
    ]
    for start in range(0, len(flat), PARAMS_A_CALL):
        client.log_batch(run_id, params=flat[start : start + PARAMS_A_CALL])


def _log_metrics(client: Any, run_id: str, root: Path) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(_name(key), float(value), now, 0) for key, value in flatten(read_report(root / "reports" / "evaluation.json")) if _is_number(value)]
    for phase, folder in (("pretrain", "pretrain"), ("train", "model")):
        history = root / "build" / folder / "history.json"
        for point in _points(read_json(history)) if history.exists() else []:
            step = int(point.get("step", 0))
            metrics += [Metric(_name(f"curve.{phase}.{key}"), float(value), now, step) for key, value in point.items() if key != "step" and _is_number(value)]
    for start in range(0, len(metrics), METRICS_A_CALL):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])


def _points(history: Any) -> list[dict[str, Any]]:
    return [point for point in history["history"] if isinstance(point, dict)]


def _log_datasets(client: Any, run_id: str, root: Path) -> None:
    import mlflow.data
    import pandas as pd
    from mlflow.entities import DatasetInput, InputTag

    shown = ["clip_id", "label", "generator", "identity", "source", "origin", "frames"]
    inputs = []
    for split, context in (("train", "training"), ("validation", "validation"), ("holdout", "evaluation")):
        path = root / "data" / "sets" / f"{split}.parquet"
        table = pd.read_parquet(path, columns=shown).astype({"frames": "float64"})
        if table.empty:  # MLflow has no digest of nothing: the cycle could not have been closed
            continue
        with warnings.catch_warnings():  # a path may be read as two kinds of local source; both are the same file
            warnings.simplefilter("ignore", UserWarning)
            dataset = mlflow.data.from_pandas(table, source=str(path), name=f"{split} clips", targets="label")
        inputs.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", context)]))
    client.log_inputs(run_id, inputs)


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings as (dotted key, value); lists are left as they are."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _name(key: str) -> str:
    """A metric's name in the letters that MLflow allows, and no path: a generator may be called by the address that it comes from.

    What had to be changed ends with its hash: `face/swap` and `face+swap` are two, and so are value and n of a name that was cut.
    """
    name = "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in key)[:NAME_LENGTH]
    return name if name == key else f"{name}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
