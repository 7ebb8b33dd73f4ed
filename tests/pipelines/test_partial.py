"""The share of partial forgeries that is found, and its interval."""

import pytest

from benchmarks.partial import HERE, SEED, found_at
from model.metrics import wilson
from workspace.files import rows_of
from workspace.profiles import project_root


def test_a_forgery_more_that_is_missed_lowers_the_lower_end() -> None:
    real = {str(person): person / 800 for person in range(400)}
    ends = [found_at(real, {str(person): 0.0 if person < missed else 0.9 for person in range(60)})["interval"] for missed in (0, 1, 2)]
    assert ends[0][0] > ends[1][0] > ends[2][0], ends
    assert all(low <= wilson(60 - missed, 60)[0] and high == 1.0 for missed, (low, high) in enumerate(ends)), ends  # type: ignore[index]


def test_the_docs_show_each_kept_row_by_the_same_rule() -> None:
    text = (project_root() / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [row[kind] for row in rows_of(HERE / "partial.jsonl") if row.get("seed") == SEED for kind in ("second", "three")]
    for row in rows:
        least, most = wilson(row["found"] * row["n"], row["n"]) or pytest.fail("a row of nothing")
        low, high = row["interval"]
        assert f"{row['found']:.2f} [{min(low, least):.2f}, {max(high, most):.2f}]" in text, row["interval"]
