"""What a resumable benchmark kept counts only for the code that made it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import commands, duplicates, history, longitudinal, poison
from benchmarks.results import rows_of_code
from media.synthetic import make_sample_media


def measured(number: int) -> dict[str, Any]:
    """A row of benchmarks/history.py."""
    return {"steps": "real", "round": 1, "old": number, "outcome": "promoted", "wall_seconds": 1.0, "cpu_seconds": 1.0}


def test_a_kept_step_of_other_code_is_measured_again(tmp_path: Path) -> None:
    kept, asked = tmp_path / "report.json", []

    def measure(found: int) -> dict[str, Any]:
        asked.append(found)
        return {"found": found}

    kept.write_text(json.dumps({"photo crop": {"found": 1}}))  # as it was kept before its code was told
    told = [duplicates.step(kept, code, "photo crop", lambda found=found: measure(found)) for code, found in (("a", 2), ("a", 3), ("b", 4))]  # type: ignore[misc]
    assert [one["found"] for one in told] == [2, 2, 4] and asked == [2, 4]


def test_a_row_about_copies_tells_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "HERE", tmp_path)
    tally = {"n": 2, "found": 2, "of_another": 0}
    duplicates.append_row("tune", "a", {"search": {}, "different": {"sort": {"n": 3, "matched": 0, "most_motion": 0.1}}, "photo crop": tally})
    assert json.loads((tmp_path / "duplicates.jsonl").read_text())["code"] == "a"


def test_a_workspace_of_known_media_is_that_of_the_code_that_asks(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_sample_media(data, people=2, clips_per_person=1, seconds=0.5, seed=1, fakes={})
    known = duplicates.known_media(tmp_path, data, "a")
    (known / "left").touch()
    assert (duplicates.known_media(tmp_path, data, "a") / "left").exists()
    assert not (duplicates.known_media(tmp_path, data, "b") / "left").exists() and (known / "data" / "raw" / "known").is_dir()


def test_a_cycle_that_other_code_timed_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (measured(1), measured(1) | {"code": "a"}, measured(10) | {"code": "b"})))
    assert history.missing(rows_of_code(path, "a"), "real", 1, [1, 10]) == [(1, 10)]
    assert history.missing(rows_of_code(path, "c"), "real", 1, [1, 10]) == [(1, 1), (1, 10)]


def test_a_workspace_that_other_code_built_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):
        """The building began."""

    def begun(*words: object) -> None:
        raise Begun

    monkeypatch.setattr(history, "vigil", begun)
    mark = tmp_path / "old-1" / ".vigil" / "built"
    mark.parent.mkdir(parents=True)
    mark.write_text("a")
    assert history.build(tmp_path, 1, "a") == tmp_path / "old-1"
    with pytest.raises(Begun):
        history.build(tmp_path, 1, "b")
    assert not mark.exists()


@pytest.mark.parametrize(("seconds", "told"), [((100, 104, 115), ["holds", "does not hold"]), ((100, 115, 120), ["does not hold", "holds"])])
def test_ten_times_the_history_is_weighed_against_a_tenth_of_it(seconds: tuple[int, ...], told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    history.summary([measured(old) | {"wall_seconds": took, "outcome": "held"} for old, took in zip((1, 10, 100), seconds, strict=True)], "real")
    lines = [line for line in capsys.readouterr().out.splitlines() if "wall" in line]
    assert all("held 1" in line for line in lines) and "most" not in lines[0]
    assert [line.split(": ")[1].split("  ")[0] for line in lines[1:]] == told


@pytest.mark.parametrize(("code_of_rows", "file"), [
    (poison.code_of_rows, "poison"), (poison.code_of_rows, "learning"), (longitudinal.code_of_rows, "longitudinal"),
])  # fmt: skip
def test_rows_of_other_constants_of_a_benchmark_are_of_other_code(
    code_of_rows: Callable[[], str], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("params.yaml", "dvc.yaml", "requirements.txt", "benchmarks/poison.py", "benchmarks/learning.py", "benchmarks/longitudinal.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(commands.HOME / name, tmp_path / name)
    monkeypatch.setattr(commands, "HOME", tmp_path)
    before = code_of_rows()
    with open(tmp_path / "benchmarks" / f"{file}.py", "a", encoding="utf-8") as handle:
        handle.write("PEOPLE = 20\n")
    assert code_of_rows() != before
