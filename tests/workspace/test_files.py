"""Whole files or none."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workspace.worlds import start_python
from workspace.files import CsvLines, add_row, atomic_file, read_json, rows_of, sha256_bytes, sha256_file, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as handle:
        handle.write("half")
        raise ZeroDivisionError
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]


@given(st.lists(st.tuples(st.text("a,\"\r\n \t'", max_size=4), st.text(max_size=4)), min_size=1))
def test_a_table_is_read_as_it_was_written_whatever_its_cells_hold_and_its_rows_end_in_a_line_feed(rows):
    r"""A carriage return stood without quotes, and broke the row."""
    table = io.StringIO(newline="")
    csv.writer(CsvLines(table)).writerows(rows)
    assert list(csv.reader(io.StringIO(table.getvalue(), newline=""))) == [list(row) for row in rows]
    plain = io.StringIO(newline="")
    csv.writer(CsvLines(plain)).writerows([["a", "b c"], ["", "1"]])
    assert plain.getvalue() == "a,b c\n,1\n"


def test_a_writer_killed_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    writer = start_python(
        """
        import sys, time
        from pathlib import Path
        from workspace.files import atomic_file
        with atomic_file(Path(sys.argv[1])) as handle:
            handle.write("half")
            handle.flush()
            print("wrote", flush=True)
            time.sleep(600)
    """,
        path,
    )
    assert writer.stdout.readline() == "wrote\n"
    writer.kill()
    writer.communicate()
    assert path.read_text(encoding="utf-8") == "old"


def test_json_is_stable_and_never_holds_a_number_that_json_has_not(tmp_path):
    value = {"b": [1, math.nan, -math.inf], "a": np.float32(0.5), "n": np.int64(3), "t": (True, None)}
    first = write_json(tmp_path / "deep" / "a.json", value).read_bytes()
    assert write_json(tmp_path / "deep" / "a.json", dict(reversed(value.items()))).read_bytes() == first
    assert read_json(tmp_path / "deep" / "a.json") == json.loads(first) == {"a": 0.5, "b": [1, None, None], "n": 3, "t": [True, None]}


NO_JSON = {"empty": b"", "cut short": b'{"a": 1', "no UTF-8": b'{"a": "\xff"}', "nested too deep": b"[" * 100_000}


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_whatever_is_no_json_is_a_value_error(tmp_path, content):
    """Who reads a file that may be damaged catches that, and nothing else."""
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json")


def test_a_line_that_a_crash_tore_costs_its_row_alone(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    assert rows_of(path) == []
    for number in range(2):
        add_row(path, {"number": number})
    whole = path.read_bytes()
    for cut in range(1, len(b'{"number": 1}\n') + 1):
        path.write_bytes(whole[:-cut])
        left = [{"number": 0}, {"number": 1}] if cut == 1 else [{"number": 0}]  # its end alone is missing
        assert rows_of(path) == left
        add_row(path, {"number": 2})
        add_row(path, {"number": 3})
        assert rows_of(path) == [*left, {"number": 2}, {"number": 3}]


def test_both_hashes_agree_on_content_larger_than_a_chunk(tmp_path):
    content = b"x" * (1 << 21) + b"y"
    (tmp_path / "big").write_bytes(content)
    assert sha256_file(tmp_path / "big") == sha256_bytes(content)
