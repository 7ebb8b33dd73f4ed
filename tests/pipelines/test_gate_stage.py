"""Stage `gate`: reads the reports of the other stages and writes the verdict; an absent report never promotes."""

from pathlib import Path
from typing import Any

import pytest

from pipelines import gate
from tests.pipelines.gate_examples import ANCHOR, CHALLENGER, CHAMPION, passing
from workspace.cycle import Cycle
from workspace.files import read_json, write_json
from workspace.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
REPORTS = ("reports/evaluation.json", "reports/drift/drift.json", "reports/validate/b2.json", "data/sets/report.json")


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Settings, Cycle]:
    example: dict[str, Any] = passing()
    mine = {"cycle": "2026-W47.2"}
    reports = (
        example["evaluation"] | mine,
        example["drift"] | mine,
        {"batch": "b2", "success": True, "expectations": [{"name": "labels are known", "success": True, "detail": "40 rows"}]},
        {"train_rows": 900, "leaks": []} | mine,
    )
    for name, report in zip(REPORTS, reports, strict=True):
        write_json(tmp_path / name, report)
    cycle = Cycle(
        cycle="2026-W47.2",
        seed=1,
        batches=["b1", "b2"],
        judged=["b2"],
        base_model=CHAMPION,
        base_cycle="2026-W46.1",
        anchor_model=ANCHOR,
        anchor_cycle="2026-W38.1",
        known_generators=["swap"],
        drawn_forgers=[],
    )
    return tmp_path, load_settings(ROOT / "params.yaml"), cycle


def test_the_verdict_names_both_models_and_is_written(world: tuple[Path, Settings, Cycle]) -> None:
    page = gate.run(*world)
    assert page["verdict"] == "pass" and page["challenger_sha256"] == CHALLENGER and page["base_sha256"] == CHAMPION
    assert read_json(world[0] / "reports/verdict.json") == page


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("damage", ["missing", "half written", "another shape"])
def test_a_report_that_cannot_be_read_never_promotes(world: tuple[Path, Settings, Cycle], name: str, damage: str) -> None:
    path = world[0] / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_text('{"gate_inputs": {"acc' if damage == "half written" else "[1, 2]")
    assert gate.run(*world)["verdict"] == "undecided"


@pytest.mark.parametrize("name", [name for name in REPORTS if "validate" not in name])
def test_a_report_of_another_cycle_never_promotes(world: tuple[Path, Settings, Cycle], name: str) -> None:
    write_json(world[0] / name, read_json(world[0] / name) | {"cycle": "2026-W46.1"})
    page = gate.run(*world)
    assert page["verdict"] == "undecided" and "missing" in " ".join(page["reasons"])


def test_a_failing_expectation_holds_the_cycle(world: tuple[Path, Settings, Cycle]) -> None:
    write_json(world[0] / "reports/validate/b2.json", {"batch": "b2", "success": True, "expectations": [{"name": "files decode", "success": False}]})
    page = gate.run(*world)
    assert page["verdict"] == "fail" and "files decode" in page["reasons"][0]


def test_a_person_on_both_sides_holds_the_cycle(world: tuple[Path, Settings, Cycle]) -> None:
    write_json(
        world[0] / "data/sets/report.json",
        {"cycle": "2026-W47.2", "train_rows": 900, "leaks": [{"kind": "person", "key": "anna", "sides": ["holdout", "train"]}]},
    )
    page = gate.run(*world)
    assert page["verdict"] == "fail" and "anna" in page["reasons"][0]


def test_a_validation_report_without_a_single_expectation_decides_nothing(world: tuple[Path, Settings, Cycle]) -> None:
    write_json(world[0] / "reports/validate/b2.json", {"batch": "b2", "success": True, "expectations": []})
    assert gate.run(*world)["verdict"] == "undecided"
