"""`vigil evaluate`: a model on any labelled data set."""

from pathlib import Path
from typing import Any

from vigil.scoring import choose_model
from vigil.taking_in import named_sources

SHOWN = ("auc", "balanced_accuracy", "recall", "fpr", "tpr_at_fpr_5", "ece")


def evaluate_source(path: str, layout: str, labels: list[str], workspace: Path | None, model: Path | None, out: Path, mode: str) -> dict[str, Any]:
    """Measure and write; returns the report, with the folder it lies in."""
    from model.inference import Engine
    from pipelines.measure import measure
    from pipelines.stage import Progress

    (source,) = named_sources([path], layout, "", "", labels)
    folder, mark = choose_model(workspace, model)
    report = measure(Engine(folder), source, out, mode or None, Progress("evaluate"))
    return report | {"mark": mark, "out": str(out)}


def render(report: dict[str, Any]) -> str:
    """The figures as a table, a line a slice, each with its interval."""
    from vigil.reading import render_table

    parts = {"overall": report["overall"]} | report["by_kind"] | {f"generator {name}": part for name, part in report["by_generator"].items()}
    rows = [
        {"slice": name, "real": part["n_real"], "fake": part["n_fake"]} | {figure: _cell(part.get(figure)) for figure in SHOWN} for name, part in parts.items()
    ]
    answered = report["answered"]
    lines = [
        render_table(rows),
        f"{answered['n']} of {answered['of']} files got a verdict; threshold {report['threshold']:.3f} as shipped; 95% intervals over people."
        + (f" This model is {report['mark']}." if report["mark"] else ""),
    ]
    lines += [f"  no verdict: {count} x {reason}" for reason, count in report["no_verdict"].items()]
    return "\n".join([*lines, f"  {report['out']}/predictions.csv and evaluation.json hold everything."])


def _cell(interval: dict[str, Any] | None) -> str:
    if not interval or interval["value"] is None:
        return "-"
    ends = f" [{interval['low']:.2f}, {interval['high']:.2f}]" if interval["low"] is not None else ""
    return f"{interval['value']:.3f}{ends}"
