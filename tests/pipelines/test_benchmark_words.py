"""What benchmarks are asked for is looked at before anything is done: a drill of nothing would pass, and its row be the newest."""

import subprocess
import sys

import pytest

from workspace.profiles import project_root

BENCHMARKS = project_root() / "benchmarks"


@pytest.mark.parametrize("words", [
    ("gates", "drill", "--seeds", "0"),
    ("gates", "level", "--weeks", "-1"),
    ("gates", "power", "--gate", "nosuch"),
    ("drill", "--kinds", "nosuch"),
    ("batching", "--rounds", "0"),
    ("latency", "--starter", "nowhere"),
])  # fmt: skip
def test_counts_of_nothing_and_unknown_names_are_refused(words: tuple[str, ...]) -> None:
    results = BENCHMARKS / f"{words[0]}.jsonl"
    before = results.read_bytes()
    done = subprocess.run([sys.executable, BENCHMARKS / f"{words[0]}.py", *words[1:]], capture_output=True, text=True, timeout=120)
    if results.read_bytes() != before:
        results.write_bytes(before)
        pytest.fail("it appended a row")
    assert done.returncode == 2 and words[-1] in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert [line[:8] for line in done.stderr.splitlines()[-2:]] == ["  Why:  ", "  Next: "] and done.stderr.endswith("no row was written.\n")
