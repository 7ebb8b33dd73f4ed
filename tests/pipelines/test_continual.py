"""The matrix of a workspace: a row a promoted cycle, once, and what the model before scored on what is new."""

from pathlib import Path

import pytest

from pipelines.continual import record, rows_of, table_of
from tests.pipelines.test_report import page_of
from workspace.cycle import Cycle


def evaluation(cycle: str, **aucs: tuple[float | None, float | None]) -> dict:
    return {"cycle": cycle, "forgetting_row": {name: {"champion": before, "challenger": after} for name, (before, after) in aucs.items()}}


def test_rows_are_kept_once_a_cycle_and_make_the_matrix(tmp_path: Path) -> None:
    record(tmp_path, evaluation("2026-W47.1", swap=(None, 0.96)), "")
    record(tmp_path, evaluation("2026-W47.2", swap=(0.95, 0.90), upsample=(0.55, 0.99)), "2026-W47.1")
    record(tmp_path, evaluation("2026-W47.2", swap=(0.95, 0.93), upsample=(0.55, 0.99)), "2026-W47.1")  # a cycle that was finished twice
    assert [row["cycle"] for row in rows_of(tmp_path)] == ["2026-W47.1", "2026-W47.2"]
    found = table_of(rows_of(tmp_path), "2026-W47.2")
    assert found["generators"] == ["swap", "upsample"]
    assert [row["values"] for row in found["updates"]] == [[0.96, 0.55], [0.93, 0.99]]
    assert found["figures"]["average"] == pytest.approx(0.96) and found["figures"]["forgetting_from_best"] == pytest.approx(0.03)
    assert found["figures"]["forward_transfer"] == pytest.approx(0.05)


def test_what_is_judged_no_longer_leaves_the_figures_and_stays_in_the_matrix(tmp_path: Path) -> None:
    record(tmp_path, evaluation("2026-W47.1", swap=(None, 0.96), blend=(None, 0.80)), "")
    record(tmp_path, evaluation("2026-W47.2", swap=(0.96, 0.93)), "2026-W47.1")
    found = table_of(rows_of(tmp_path), "2026-W47.2")
    assert found["generators"] == ["blend", "swap"] and found["updates"][-1]["values"] == [None, 0.93]
    assert found["figures"]["average"] == pytest.approx(0.93) and found["figures"]["worst_drop"] == pytest.approx(0.03)


def test_where_the_first_models_generators_are_judged_no_longer_the_figures_begin_with_the_next(tmp_path: Path) -> None:
    """A workspace whose first model had learned our own forgeries alone had no mean over updates ever after."""
    record(tmp_path, evaluation("2026-W47.1", blend=(None, 0.90)), "")
    record(tmp_path, evaluation("2026-W47.2", blend=(0.90, 0.88), swap=(0.60, 0.90)), "2026-W47.1")
    record(tmp_path, evaluation("2026-W47.3", swap=(0.90, 0.92), gan=(0.50, 0.80)), "2026-W47.2")
    found = table_of(rows_of(tmp_path), "2026-W47.3")
    assert found["figures"]["incremental"] == pytest.approx((0.90 + (0.92 + 0.80) / 2) / 2) and found["figures"]["average"] == pytest.approx(0.86)


def test_a_generator_counts_from_the_first_model_that_was_measured_on_it(tmp_path: Path) -> None:
    """Of what it scored before only the update just before is asked, and what was measured itself stands."""
    record(tmp_path, evaluation("2026-W47.1", swap=(None, 0.96), upsample=(None, None)), "")
    record(tmp_path, evaluation("2026-W47.2", swap=(0.95, 0.90), upsample=(0.55, None)), "2026-W47.1")
    record(tmp_path, evaluation("2026-W47.3", swap=(0.89, 0.94), upsample=(0.60, 0.99)), "2026-W47.2")
    found = table_of(rows_of(tmp_path), "2026-W47.3")
    assert found["generators"] == ["swap", "upsample"]
    assert [row["values"] for row in found["updates"]] == [[0.96, None], [0.90, 0.60], [0.94, 0.99]]
    assert found["figures"]["forward_transfer"] == pytest.approx(0.10)


def test_what_a_model_had_learned_before_it_was_measured_on_it_is_no_forward_transfer(tmp_path: Path) -> None:
    """The first fakes of a generator may all fall to the training side: what the champion scored once the holdout had some was told as before it was met."""
    record(tmp_path, evaluation("2026-W47.1", swap=(None, 0.96)), "")
    record(tmp_path, evaluation("2026-W47.2", swap=(0.96, 0.95), gan=(0.98, 0.99)), "2026-W47.1", met=("swap", "gan"))
    assert table_of(rows_of(tmp_path), "2026-W47.2")["figures"]["forward_transfer"] is None
    record(tmp_path, evaluation("2026-W47.3", swap=(0.95, 0.95), gan=(0.99, 0.99), blend=(0.60, 0.90)), "2026-W47.2", met=("swap", "gan"))
    found = table_of(rows_of(tmp_path), "2026-W47.3")
    assert found["figures"]["forward_transfer"] == pytest.approx(0.10) and found["updates"][0]["values"] == [0.96, 0.98, None]


def test_where_nothing_is_judged_any_more_there_is_a_matrix_and_no_figure(tmp_path: Path) -> None:
    record(tmp_path, evaluation("2026-W47.1", swap=(None, 0.96)), "")
    record(tmp_path, evaluation("2026-W47.2"), "2026-W47.1")
    found = table_of(rows_of(tmp_path), "2026-W47.2")
    assert [row["values"] for row in found["updates"]] == [[0.96], [None]] and found["figures"] == {}


def compared(cycle: str, same: dict[str, tuple[float | None, float]], **aucs: tuple[float | None, float | None]) -> dict:
    rows = [{"generator": name, "champion_auc": before, "challenger_auc": after} for name, (before, after) in same.items()]
    return {**evaluation(cycle, **aucs), "gate_inputs": {"forgetting": {"count": len(rows), "rows": rows}}}


def test_a_holdout_that_grew_is_no_forgetting(tmp_path: Path) -> None:
    """`largest loss of one generator in the last update 0.034` stood beside a gate that had found a gain of 0.028: the later AUC was of other videos."""
    record(tmp_path, evaluation("2026-W48.1", swap=(None, 0.741)), "")
    record(tmp_path, compared("2026-W48.2", {"swap": (0.741, 0.769)}, swap=(0.702, 0.707), upsample=(0.31, 0.40)), "2026-W48.1")
    found = table_of(rows_of(tmp_path), "2026-W48.2")
    assert found["generators"] == ["swap", "upsample"] and [row["values"] for row in found["updates"]] == [[0.741, 0.31], [0.707, 0.40]], "the matrix stays"
    assert found["figures"]["worst_drop"] == pytest.approx(-0.028) and found["figures"]["backward_transfer"] == pytest.approx(-0.034)
    assert not found["with_new"] and found["last_change"] == found["change"] == [pytest.approx(0.028), None], "what an update brought it cannot lose"


def test_losses_on_the_same_videos_add_up_along_the_line(tmp_path: Path) -> None:
    """Of swap by hand: 0.90 - 0.94 and 0.88 - 0.85, less 0.01; what was pooled as too few, or was never compared, has no sum."""
    record(tmp_path, evaluation("2026-W48.1", swap=(None, 0.95), gan=(None, 0.90)), "")
    record(tmp_path, compared("2026-W48.2", {"swap": (0.94, 0.90), "others": (0.90, 0.70)}, swap=(0.93, 0.89), gan=(0.90, 0.70)), "2026-W48.1")
    record(tmp_path, compared("2026-W48.3", {"swap": (0.85, 0.88), "gan": (None, 0.9)}, swap=(0.86, 0.87), gan=(0.6, 0.9)), "2026-W48.2")
    found = table_of(rows_of(tmp_path), "2026-W48.3")
    assert found["generators"] == ["gan", "swap"]
    assert found["change"] == [None, pytest.approx(-0.01)] and found["last_change"] == [None, pytest.approx(0.03)]
    assert found["figures"]["worst_drop"] == pytest.approx(-0.03)
    before = table_of(rows_of(tmp_path), "2026-W48.2")
    assert before["figures"]["worst_drop"] == pytest.approx(0.20), "the worst is the one that the gate names, pooled or not"
    page = page_of(tmp_path, Cycle(cycle="2026-W48.4", seed=1, batches=("b1", "b2"), judged=("b2",), base_model="a" * 64, base_cycle="2026-W48.2"), True)
    kept = page.split("<h2>What was kept</h2>")[1].split("<h2>")[0]
    assert "on the same videos 0.2 (others)." in kept and "as others.</p>" in kept, "a loss that no column shows was said to be of one generator"


def test_rows_of_before_the_gates_pairs_were_kept_give_the_pairs_of_their_cycles(tmp_path: Path) -> None:
    record(tmp_path, evaluation("2026-W48.1", swap=(None, 0.95)), "")
    record(tmp_path, evaluation("2026-W48.2", swap=(0.90, 0.88), gan=(0.5, 0.9)), "2026-W48.1")
    found = table_of(rows_of(tmp_path), "2026-W48.2")
    assert found["with_new"] and "same" not in rows_of(tmp_path)[-1]
    assert found["last_change"] == [pytest.approx(-0.02), None] and found["figures"]["worst_drop"] == pytest.approx(0.02)


def test_the_page_says_what_of_a_loss_is_of_the_same_videos(tmp_path: Path) -> None:
    record(tmp_path, evaluation("2026-W47.1", swap=(None, 0.741)), "")
    record(tmp_path, compared("2026-W48.1", {"swap": (0.741, 0.769)}, swap=(0.702, 0.707)), "2026-W47.1")
    page = page_of(
        tmp_path, Cycle(cycle="2026-W49.1", seed=1, batches=("b1", "b2"), judged=("b2",), base_model="a" * 64, base_cycle="2026-W48.1"), champion=True
    )
    kept = page.split("<h2>What was kept</h2>")[1].split("<h2>")[0]
    assert '<td>change in the last update, same videos</td><td class="n">+0.028</td>' in kept and "last update, on the same videos -0.028 (swap)" in kept
    assert "BWT: now less just after learning -0.034" in kept and "the videos change with the model" in kept and "new ones too" not in kept


def test_before_the_first_promotion_there_is_no_matrix(tmp_path: Path) -> None:
    assert rows_of(tmp_path) == [] and table_of([], "") == {}


@pytest.mark.parametrize("kept", [True, False], ids=["bases are kept", "rows of before"])
def test_a_model_that_was_rolled_back_from_forgets_nothing(tmp_path: Path, kept: bool) -> None:
    """What the line of the champion never reached was counted as lost: 0.04 of AUC here, where the third model lost nothing against its base."""
    for cycle, base, aucs in (
        ("2026-W47.1", "", {"swap": (None, 0.95)}),
        ("2026-W48.1", "2026-W47.1", {"swap": (0.95, 0.99)}),
        ("2026-W49.1", "2026-W47.1", {"swap": (0.95, 0.95), "gan": (0.60, 0.90)}),
    ):
        record(tmp_path, evaluation(cycle, **aucs), base)
    rows = [row if kept else {name: row[name] for name in ("cycle", "before", "after")} for row in rows_of(tmp_path)]
    found = table_of(rows, "2026-W49.1")
    if not kept:
        assert [row["cycle"] for row in found["updates"]] == ["2026-W47.1", "2026-W48.1", "2026-W49.1"]
        return
    assert [(row["cycle"], row["values"]) for row in found["updates"]] == [("2026-W47.1", [0.95, 0.60]), ("2026-W49.1", [0.95, 0.90])]
    assert found["figures"]["worst_drop"] == found["figures"]["forgetting_from_best"] == pytest.approx(0.0)
    assert table_of(rows, "2026-W48.1")["updates"][-1]["values"] == [0.99], "somebody may go back to it"
