"""Which models learned from a case: told by the tables of promoted cycles, found again in what a tag and DVC's cache keep."""

import hashlib
import json
import subprocess
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from feedback.learned import FOLDER, learned_by, remember
from workspace.files import write_json
from workspace.journal import Journal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with a promoted cycle, a held one, and a promoted one that is not closed yet; all have trained on case `c1`."""
    journal = Journal(tmp_path)
    for number, outcome in ((1, "promoted"), (2, "held"), (3, "promoted"), (4, "")):
        cycle = f"2026-W0{number}.1"
        journal.append("cycle_opened", cycle=cycle, judged=[], base_model="", fingerprint="f", scheduled=False, week=cycle[:8])
        if outcome != "held":
            journal.append(
                "promotion", cycle=cycle, model_sha256=f"{number}" * 64, path=f"models/{cycle}", previous_sha256="", who="vigil", why="every gate passed"
            )
        if outcome:
            journal.append("cycle_closed", cycle=cycle, outcome=outcome, reason="", verdict_sha256="")
    return tmp_path


def lay(root: Path, cycle: str, cases: list[str]) -> Path:
    """The training table of a cycle, as `assemble` leaves it."""
    folder = root / "data" / "sets"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", {"cycle": cycle})
    pyarrow.parquet.write_table(pyarrow.table({"clip_id": [str(n) for n in range(len(cases))], "case_id": cases}), folder / "train.parquet")
    return folder / "train.parquet"


def version(root: Path, cycle: str, table: Path) -> None:
    """Keep the table as DVC's cache does, and name it in dvc.lock under the cycle's tag."""

    def keep(content: bytes, end: str = "") -> str:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + end
        path = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5

    folder = keep(json.dumps([{"md5": keep(table.read_bytes()), "relpath": "train.parquet"}]).encode(), ".dir")
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"assemble": {"outs": [{"path": "data/sets", "md5": folder}]}}}))
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for words in (["init", "-q"], ["add", "dvc.lock"], [*identity, "commit", "-qm", cycle], ["tag", f"vigil/{cycle}"]):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def test_promoted_closed_cycles_whose_table_has_the_case_are_named_in_order(root: Path) -> None:
    for number, cases in ((1, ["c1", "", "c1"]), (2, ["c1"]), (3, ["c1", "c2"]), (4, ["c1"])):
        lay(root, f"2026-W0{number}.1", cases)
        remember(root, f"2026-W0{number}.1")
    assert [(one["cycle"], one["version"], one["model_sha256"][:1]) for one in learned_by(root, "c1")] == [("2026-W01.1", 1, "1"), ("2026-W03.1", 2, "3")]
    assert [one["cycle"] for one in learned_by(root, "c2")] == ["2026-W03.1"] and learned_by(root, "c9") == [] and learned_by(root, "") == []


def test_a_table_of_another_cycle_is_not_taken_for_this_one(root: Path) -> None:
    lay(root, "2026-W09.1", ["c1"])
    remember(root, "2026-W01.1")
    assert not (root / FOLDER).exists() and learned_by(root, "c1") == []


def test_what_was_not_noted_is_found_under_the_tag(root: Path) -> None:
    version(root, "2026-W01.1", lay(root, "2026-W01.1", ["c1"]))
    lay(root, "2026-W03.1", ["c2"])  # the workspace has moved on
    assert [one["cycle"] for one in learned_by(root, "c1")] == ["2026-W01.1"]
    assert json.loads((root / FOLDER / "2026-W01.1.json").read_text()) == {"cases": ["c1"], "cycle": "2026-W01.1"}


def test_a_journal_that_has_grown_is_read_again(root: Path) -> None:
    lay(root, "2026-W01.1", ["c1"])
    remember(root, "2026-W01.1")
    lay(root, "2026-W03.1", ["c1"])
    remember(root, "2026-W03.1")
    assert len(learned_by(root, "c1")) == 2
    lay(root, "2026-W04.1", ["c1"])
    remember(root, "2026-W04.1")
    Journal(root).append("cycle_closed", cycle="2026-W04.1", outcome="promoted", reason="", verdict_sha256="")
    assert [one["version"] for one in learned_by(root, "c1")] == [1, 2, 3]


def test_without_a_journal_nobody_has_learned(tmp_path: Path) -> None:
    assert learned_by(tmp_path, "c1") == []
