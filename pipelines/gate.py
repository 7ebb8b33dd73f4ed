"""Stage `gate`: gather what the other stages measured and write one verdict. The judging itself is `pipelines.gates.judge`.

Answers "why was it held?": reports/verdict.json has every check with its value, bound, production bound, n and reason.
A report that is missing or cannot be read leaves its gates undecided; it never lets a model through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.gates import GateVerdict, Verdict, judge, judge_data
from pipelines.stage import stage_main
from workspace.cycle import Cycle
from workspace.files import read_json, write_json
from workspace.settings import Settings

VERDICT = Path("reports/verdict.json")
REFUSED = Path(".vigil/refused.json")  # what failed before anything was trained, for the page


def run(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """Write reports/verdict.json and return it. Safe to repeat: the same reports give the same bytes."""
    evaluation = report_of(cycle.cycle, root / "reports/evaluation.json")
    return write_verdict(root, cycle, evaluation, judge(evaluation, *_data(root, cycle), settings.gates, **_about(cycle)))


def refusals(root: Path, settings: Settings, cycle: Cycle) -> list[dict[str, Any]]:
    """Gates that the data alone fail, before anything is trained, as rows of a verdict. What is undecided may still be decided."""
    found = judge_data(*_data(root, cycle), settings.gates, **_about(cycle))
    return [{**asdict(result), "verdict": str(result.verdict)} for result in found if result.verdict is GateVerdict.FAIL]


def _data(root: Path, cycle: Cycle) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    drift = report_of(cycle.cycle, root / "reports/drift/drift.json")
    checks = [validation_inputs(batch, read_report(root / f"reports/validate/{batch}.json")) for batch in cycle.judged]
    return drift, checks, leak_inputs(report_of(cycle.cycle, root / "data/sets/report.json"))


def _about(cycle: Cycle) -> dict[str, Any]:
    return {
        "judged": cycle.judged,
        "base_sha256": cycle.base_model,
        "anchor_sha256": cycle.anchor_model,
        "unknown": bool(cycle.base_model) and cycle.judges_all,
    }


def write_verdict(root: Path, cycle: Cycle, evaluation: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    """Store the verdict with the two models it is about, and the card that holds the challenger's threshold: promotion takes exactly these."""
    inputs = evaluation.get("gate_inputs") or {}
    about = {name: inputs.get(name) or "" for name in ("challenger_sha256", "card_sha256")}
    page = {"cycle": cycle.cycle, **about, "base_sha256": cycle.base_model, **verdict.as_dict()}
    write_json(root / VERDICT, page)
    return page


def read_report(path: Path) -> dict[str, Any]:
    """The report at `path`; an empty one when it is missing or no JSON object, which leaves its gates undecided."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def report_of(cycle: str, path: Path) -> dict[str, Any]:
    """The report of this cycle at `path`; one of another cycle is as good as none."""
    found = read_report(path)
    return found if found.get("cycle") == cycle else {}


def validation_inputs(batch: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """What gate `data` reads of one batch's validation report: its name, whether it succeeded, and each expectation's outcome."""
    return {
        "batch": report.get("batch") if report.get("batch") == batch else None,
        "success": report.get("success"),
        "checks": _table(report.get("expectations"), ("name", "success")),
    }


def leak_inputs(report: Mapping[str, Any]) -> dict[str, Any]:
    """What gate `leak-free` reads of the sets report: how many rows were looked at, and what stands on both sides of the split."""
    return {"train_rows": report.get("train_rows"), "leaks": _table(report.get("leaks"), ("kind", "key"))}


def _table(found: Any, names: Sequence[str]) -> dict[str, Any]:
    """`{count, rows}` of a list of mappings; empty-handed, hence undecided, for anything else."""
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        return {"count": None, "rows": None}
    return {"count": len(found), "rows": [{name: entry.get(name) for name in names} for entry in found]}


if __name__ == "__main__":
    stage_main("gate", run)
