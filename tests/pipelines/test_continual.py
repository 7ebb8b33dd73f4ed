"""The matrix of a workspace: a row a promoted cycle, once, and what the model before scored on what is new."""

from pathlib import Path

import pytest

from pipelines.continual import record, rows_of, table_of


def evaluation(cycle: str, **aucs: tuple[float | None, float | None]) -> dict:
    return {"cycle": cycle, "forgetting_row": {name: {"champion": before, "challenger": after} for name, (before, after) in aucs.items()}}


def test_rows_are_kept_once_a_cycle_and_make_the_matrix(tmp_path: Path) -> None:
    record(tmp_path, evaluation("2026-W47.1", swap=(None, 0.96)))
    record(tmp_path, evaluation("2026-W47.2", swap=(0.95, 0.90), upsample=(0.55, 0.99)))
    record(tmp_path, evaluation("2026-W47.2", swap=(0.95, 0.93), upsample=(0.55, 0.99)))  # a cycle that was finished twice
    found = table_of(rows_of(tmp_path))
    assert found["generators"] == ["swap", "upsample"]
    assert [row["values"] for row in found["updates"]] == [[0.96, 0.55], [0.93, 0.99]]
    assert found["figures"]["average"] == pytest.approx(0.96) and found["figures"]["forgetting_from_best"] == pytest.approx(0.03)
    assert found["figures"]["forward_transfer"] == pytest.approx(0.05)


def test_what_is_judged_no_longer_leaves_the_figures_and_stays_in_the_matrix(tmp_path: Path) -> None:
    record(tmp_path, evaluation("2026-W47.1", swap=(None, 0.96), blend=(None, 0.80)))
    record(tmp_path, evaluation("2026-W47.2", swap=(0.96, 0.93)))
    found = table_of(rows_of(tmp_path))
    assert found["generators"] == ["blend", "swap"] and found["updates"][-1]["values"] == [None, 0.93]
    assert found["figures"]["average"] == pytest.approx(0.93) and found["figures"]["worst_drop"] == pytest.approx(0.03)


def test_before_the_first_promotion_there_is_no_matrix(tmp_path: Path) -> None:
    assert rows_of(tmp_path) == [] and table_of([]) == {}
