"""Which models learned from a case: told by the tables of promoted cycles, found again in what a tag and DVC's cache keep."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from feedback import learned
from feedback.learned import FOLDER, learned_by, learned_from, not_known, remember, remember_all
from workspace.files import write_json
from workspace.journal import Journal
from workspace.objects import outputs_in
from workspace.repository import commit, dvc_add, init_repository, push

THEIRS, DONOR = "e" * 64, "d" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with a promoted cycle, a held one, and a promoted one that is not closed yet; all have trained on case `c1`."""
    journal = Journal(tmp_path)
    for number, outcome in ((1, "promoted"), (2, "held"), (3, "promoted"), (4, "")):
        cycle = f"2026-W0{number}.1"
        journal.append("cycle_opened", cycle=cycle, judged=[], base_model="", fingerprint="f", scheduled=False, week=cycle[:8])
        journal.append("candidate", cycle=cycle, model_sha256=f"{number}" * 64, path=f"models/{cycle}")
        if outcome != "held":
            journal.append(
                "promotion", cycle=cycle, model_sha256=f"{number}" * 64, path=f"models/{cycle}", previous_sha256="", who="vigil", why="every gate passed"
            )
        if outcome:
            journal.append("cycle_closed", cycle=cycle, outcome=outcome, reason="", verdict_sha256="")
    return tmp_path


def lay(root: Path, cycle: str, cases: list[str]) -> Path:
    """The training table of a cycle, as `assemble` leaves it: one clip a case, of a sample of its own, the first one forged from THEIRS and DONOR."""
    folder = root / "data" / "sets"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", {"cycle": cycle})
    more = [""] * (len(cases) - 1)
    columns = {"sample_id": [hash_of(case) for case in cases], "source_clip": [clip_of(THEIRS), *more], "donor_clip": [clip_of(DONOR), *more]}
    pyarrow.parquet.write_table(pyarrow.table({"case_id": cases, **columns}), folder / "train.parquet")
    return folder / "train.parquet"


def hash_of(case: str) -> str:
    return hashlib.sha256(case.encode()).hexdigest()


def clip_of(sample_id: str) -> str:
    return f"{sample_id[:16]}-t0-c0"


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
    samples = sorted(sample_id[:16] for sample_id in (hash_of("c1"), THEIRS, DONOR))
    assert json.loads((root / FOLDER / "2026-W01.1.json").read_text()) == {"cases": ["c1"], "cycle": "2026-W01.1", "samples": samples}


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


@pytest.mark.parametrize("sample_id", [hash_of("c1"), THEIRS, DONOR], ids=["its own", "forged from", "lent a face"])
def test_the_models_that_learned_from_a_sample_are_known_when_its_faces_have_gone_held_ones_too(root: Path, sample_id: str) -> None:
    """They were looked for in the faces that lay there: after one erasure, or `gc`, no model had learned from any other sample of the batch."""
    for number, cases in ((1, ["c1"]), (2, ["c1"]), (3, ["c2"]), (4, ["c1"])):
        lay(root, f"2026-W0{number}.1", cases)
        remember(root, f"2026-W0{number}.1")
    shutil.rmtree(root / "data")
    named = [(one["cycle"], one["version"]) for one in learned_from(root, [sample_id])[sample_id]]
    forged = sample_id in (THEIRS, DONOR)  # lent to the first clip of each table
    assert named == [("2026-W01.1", 1), ("2026-W02.1", 0), *([("2026-W03.1", 2)] if forged else []), ("2026-W04.1", 3)]
    assert learned_from(root, ["9" * 64]) == {"9" * 64: []} and not_known(root) == []


def test_models_that_go_on_from_one_that_learned_are_named_too_each_with_the_nearest(root: Path) -> None:
    """An erasure named the model that had been trained with the file, and not its heirs: who rolled forward to one served what was to go."""
    journal = Journal(root)
    for number, base in ((5, 3), (6, 5), (7, 2), (8, 7)):
        cycle = f"2026-W0{number}.1"
        opened = {"judged": [], "base_model": f"{base}" * 64, "base_cycle": f"2026-W0{base}.1", "fingerprint": "f", "scheduled": False, "week": cycle[:8]}
        journal.append("cycle_opened", cycle=cycle, **opened)
        journal.append("candidate", cycle=cycle, model_sha256=f"{number}" * 64, path=f"models/{cycle}")
    for number, case in enumerate(["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c3"], 1):
        lay(root, f"2026-W0{number}.1", [case])
        (table := pd.read_parquet(root / "data/sets/train.parquet")).loc[:, ["source_clip", "donor_clip"]] = ""
        table.to_parquet(root / "data/sets/train.parquet")
        remember(root, f"2026-W0{number}.1")
    told = {
        name: [(one["cycle"][6:8], one["goes_on_from"][6:8]) for one in found] for name, found in learned_from(root, map(hash_of, ("c1", "c2", "c3"))).items()
    }
    assert told == {
        hash_of("c1"): [("01", "")],
        hash_of("c2"): [("02", ""), ("07", "02"), ("08", "02")],
        hash_of("c3"): [("03", ""), ("05", "03"), ("06", "03"), ("08", "")],
    }


def test_a_clip_that_lies_here_and_in_a_card_counts_without_any_note(root: Path) -> None:
    for batch, row in (("faces/b", {"sample_id": THEIRS, "source_clip": ""}), ("forged/b", {"sample_id": "f" * 64, "source_clip": clip_of(THEIRS)})):
        (root / "data" / batch).mkdir(parents=True)
        pd.DataFrame([{"sha256": batch, "donor_clip": "", **row}]).to_parquet(root / "data" / batch / "index.parquet")
    for number, clips in ((1, ["faces/b"]), (2, ["other"]), (3, ["forged/b", "other"])):
        write_json(root / f"models/2026-W0{number}.1" / "card.json", {"train_clips": clips})
    assert [one["cycle"] for one in learned_from(root, [THEIRS])[THEIRS]] == ["2026-W01.1", "2026-W03.1"]
    assert [one["cycle"] for one in learned_from(root, ["f" * 64])["f" * 64]] == ["2026-W03.1"] and learned_from(root, [DONOR])[DONOR] == []


def test_what_an_older_vigil_noted_is_completed_before_the_tables_go(root: Path) -> None:
    write_json(root / FOLDER / "2026-W01.1.json", {"cycle": "2026-W01.1", "cases": ["c1"]})
    version(root, "2026-W01.1", lay(root, "2026-W01.1", ["c1"]))
    assert not_known(root) == ["2026-W02.1", "2026-W03.1", "2026-W04.1"]
    write_json(root / FOLDER / "2026-W01.1.json", {"cycle": "2026-W01.1", "cases": ["c1"]})
    remember_all(root)
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc")
    assert [one["cycle"] for one in learned_from(root, [hash_of("c1")])[hash_of("c1")]] == [one["cycle"] for one in learned_by(root, "c1")] == ["2026-W01.1"]


def test_a_table_that_only_the_remote_has_is_read_before_it_is_deleted_there(root: Path) -> None:
    """In a clone that was not pulled an erasure named nobody, and took the table off the remote."""
    init_repository(root, ".vigil/remote")
    lay(root, "2026-W01.1", ["c1"])
    dvc_add(root, [root / "data" / "sets"])
    pointer = (root / "data" / "sets.dvc").read_text()
    push(root)
    md5 = next(iter(outputs_in(pointer).values()))
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"assemble": {"outs": [{"path": "data/sets", "md5": md5}]}}}))
    commit(root, "2026-W01.1", "vigil/2026-W01.1")
    shutil.rmtree(root / ".dvc" / "cache")
    shutil.rmtree(root / "data")
    assert learned_from(root, [THEIRS]) == {THEIRS: []} and "2026-W01.1" in not_known(root)
    remember_all(root, fetch=True)
    assert [one["cycle"] for one in learned_from(root, [THEIRS])[THEIRS]] == ["2026-W01.1"] and "2026-W01.1" not in not_known(root)


def test_in_a_clone_the_lock_of_a_past_cycle_is_read_once_and_its_table_is_found_once_it_comes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every half minute, and for each erasure, the lock of every cycle was parsed anew, and it grows with every batch."""
    for number, cases in ((1, ["c1"]), (2, ["c2"]), (3, ["c3"])):
        version(root, f"2026-W0{number}.1", lay(root, f"2026-W0{number}.1", cases))
    shutil.rmtree(root / "data")
    cache, away = root / ".dvc" / "cache", root / "away"
    cache.rename(away)
    read: list[str] = []
    monkeypatch.setattr(learned, "outputs_in", lambda text: read.append(text) or outputs_in(text))
    monkeypatch.setattr(learned, "LOOK_AGAIN_SECONDS", 0.0)
    for _ in range(3):
        assert learned_by(root, "c1") == [] and learned_from(root, [hash_of("c1")]) == {hash_of("c1"): []}
    assert len(read) == len(set(read)) == 3
    subprocess.run(["git", "tag", "-f", "vigil/2026-W01.1", "vigil/2026-W03.1"], cwd=root, check=True, capture_output=True)
    away.rename(cache)
    assert [one["cycle"] for one in learned_by(root, "c3")] == ["2026-W01.1", "2026-W03.1"], "what a tag that was moved names now"
    assert [one["cycle"] for one in learned_from(root, [hash_of("c2")])[hash_of("c2")]] == ["2026-W02.1"] and len(read) == 3
