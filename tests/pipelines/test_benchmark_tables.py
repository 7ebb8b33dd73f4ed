"""The tables of docs/ that a benchmark of hours made can be had again from the recorded rows, at once and by one command."""

import json
import re
import subprocess
import sys

import pytest

from workspace.profiles import project_root


@pytest.mark.parametrize(("benchmark", "page", "row", "figures"), [
    ("learning", "evaluation", r"\| as it is: .*?\*\*(0\.\d{3}) \[", 1),
    ("learning", "evaluation", r"\| as it is: .*\| \+(0\.\d{3}) \[", 1),
    ("history", "cycle", r"takes (1\.15) times .* in turn, 21 November.*\n.* (does not hold)", 2),
    ("poison", "gates", r"\| 10% \|.* and (0\.\d{3}) \|.* and (0\.\d{3}) \|", 2),
])  # fmt: skip
def test_recorded_rows_print_what_the_docs_say(benchmark: str, page: str, row: str, figures: int) -> None:
    """`--show` trains nothing, and each figure of a row of the page is in what it prints."""
    text = (project_root() / "docs" / f"{page}.md").read_text(encoding="utf-8")
    found = re.search(row, text)
    assert found is not None
    told = [figure for figure in found.groups() if figure]
    done = subprocess.run([sys.executable, project_root() / "benchmarks" / f"{benchmark}.py", "--show"], capture_output=True, text=True, check=True, timeout=60)
    assert len(told) == figures
    assert all(figure in done.stdout for figure in told), (told, done.stdout)


def test_the_table_of_large_sets_is_the_recorded_rows() -> None:
    text = (project_root() / "docs" / "cycle.md").read_text(encoding="utf-8")
    rows = {row["videos"]: row for row in map(json.loads, (project_root() / "benchmarks" / "scale.jsonl").read_text(encoding="utf-8").splitlines())}
    told = [f"| {row['videos']:,} | {row['clips']:,} | {row['cpu_seconds']:.1f} | {row['peak_mb'] / 1000:.1f} GB |" for row in rows.values()]
    assert (
        len(told) == 3
        and "\n".join(told) in text
        and f"takes {rows[119_154]['cpu_seconds']:.0f} s of one core and {rows[119_154]['peak_mb'] / 1000:.1f} GB" in text
    )
