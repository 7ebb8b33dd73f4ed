"""A batch that nobody touched is not looked at again; one of which anything was touched is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.pipelines.small_world import ROOT
from workspace.repository import init_repository, open_dvc, reproduce
from workspace.settled import batches_of, settle, unsettled

BATCHES = ["2026-11-19-a", "2026-11-20-b", "2026-11-21-c"]
B = BATCHES[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three batches whose stage `faces` DVC has recorded, and settled."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "batches.yaml").write_text(yaml.safe_dump({"batches": BATCHES}))
    for batch in BATCHES:
        for folder in ("raw", "faces"):
            path = tmp_path / "data" / folder / batch / "one.tar"
            path.parent.mkdir(parents=True)
            path.write_text(f"{folder} {batch}")
    init_repository(tmp_path, "")
    with open_dvc(tmp_path) as repo:
        repo.commit("faces", force=True)
    settle(tmp_path, "faces", BATCHES)
    return tmp_path


def test_what_nobody_touched_is_settled_and_dvc_agrees(root: Path) -> None:
    assert batches_of(root) == BATCHES and unsettled(root, "faces", BATCHES) == []
    assert reproduce(root, *(f"faces@{batch}" for batch in BATCHES)) == []
    assert unsettled(root, "validate", BATCHES) == BATCHES, "what DVC has not recorded is never settled"


def edit(path: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda root: (root / path).write_text(change((root / path).read_text())) and None


def same_size_and_time(root: Path) -> None:
    path = root / "data" / "raw" / B / "one.tar"
    facts = path.stat()
    path.rename(path.with_suffix(".old"))
    path.write_text("X" * facts.st_size)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    path.with_suffix(".old").unlink()


def not_in_lock(root: Path) -> None:
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    del lock["stages"][f"faces@{B}"]
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))


TOUCHED = {
    "media changed": (edit(f"data/raw/{B}/one.tar", lambda text: text + "!"), [B]),
    "faces changed": (edit(f"data/faces/{B}/one.tar", lambda text: text + "!"), [B]),
    "another file of that size and time": (same_size_and_time, [B]),
    "a file more": (lambda root: (root / f"data/raw/{B}/two.tar").touch(), [B]),
    "faces gone": (lambda root: shutil.rmtree(root / f"data/faces/{B}"), [B]),
    "media gone": (lambda root: shutil.rmtree(root / f"data/raw/{B}"), [B]),
    "another dvc.lock": (not_in_lock, [B]),
    "no dvc.lock": (lambda root: (root / "dvc.lock").unlink(), BATCHES),
    "a setting changed": (edit("params.yaml", lambda text: text.replace("margin: 1.3", "margin: 1.4")), BATCHES),
    "the cache is gone": (lambda root: (root / ".vigil/settled.json").unlink(), BATCHES),
    "the cache is no JSON": (lambda root: (root / ".vigil/settled.json").write_text("{"), BATCHES),
    "the cache is of another shape": (lambda root: (root / ".vigil/settled.json").write_text(json.dumps([1])), BATCHES),
}


@pytest.mark.parametrize("name", TOUCHED)
def test_whatever_was_touched_is_looked_at_again_and_nothing_else(root: Path, name: str) -> None:
    touch, expected = TOUCHED[name]
    touch(root)
    assert unsettled(root, "faces", BATCHES) == expected


def test_a_batch_that_is_to_be_made_anew_is_though_dvc_knows_of_nothing_new(root: Path) -> None:
    """As one that was forged by a program which is another by now: DVC kept what it had, and would have put it back from its cache of runs."""
    from flows.cycle import run_stage

    path = root / "data" / "faces" / B / "one.tar"
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text())
    pipeline["stages"]["faces"]["do"]["cmd"] = "mkdir -p data/faces/${item} && date +%s%N > data/faces/${item}/one.tar"
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    assert run_stage.fn(root, "faces", []) == [f"faces@{batch}" for batch in BATCHES], "its command is another"
    first = path.read_text()
    assert run_stage.fn(root, "faces", []) == [] and path.read_text() == first
    assert run_stage.fn(root, "faces", [B]) == [f"faces@{B}"] and path.read_text() != first
    assert unsettled(root, "faces", BATCHES) == [] and run_stage.fn(root, "faces", []) == []
