"""Who needs which of DVC's objects: never less than DVC itself would keep."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workspace.objects
from tests.workspace.worlds import no_file_larger_than
from vigil.garbage import collect
from vigil.opening import open_workspace
from workspace.errors import DataError, WorkspaceError
from workspace.files import read_json
from workspace.objects import WORKSPACE, cache_of, is_cached, local_remote, named_by, needed_by, objects_in, tags_needing, to_add
from workspace.repository import commit, delete_objects, dvc_add, open_dvc, reproduce
from workspace.revisions import git
from workspace.settings import load_settings

READING = ("grep", "show", "ls-tree")


def version(root: Path, batch: str, content: str, tag: str) -> None:
    """A batch of two files, versioned and tagged as a cycle's end does it."""
    folder = root / "data" / "raw" / batch
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "media-000.tar").write_text(content * 50)
    (folder / "notes.txt").write_text("the same in every batch")
    dvc_add(root, [folder])
    if tag:
        commit(root, tag, tag)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace in which one batch was written three times: under two tags, and as it lies here now; a version of no tag is left over."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    for content, tag in (("first", "vigil/2026-W01.1"), ("second", "vigil/2026-W02.1"), ("left over", ""), ("now", "")):
        version(root, "b", content, tag)
    return root


def test_what_dvc_would_keep_is_needed_and_what_it_would_collect_is_not(root: Path) -> None:
    with open_dvc(root) as repo:
        theirs = {info.value for infos in repo.used_objs(all_branches=True, all_tags=True).values() for info in infos}
    needed = needed_by(root)
    ours = set().union(*needed.values())
    found = objects_in(cache_of(root))
    assert theirs == ours & set(found) == ours and len(set(found) - ours) == 2, "the version that is left over: a file, and its folder's list"
    assert {"main", "vigil/2026-W01.1", "vigil/2026-W02.1", WORKSPACE} == set(needed)
    shared = next(md5 for md5, path in found.items() if path.read_text() == "the same in every batch")
    assert all(shared in md5s for md5s in needed.values())


def test_what_a_commit_names_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each erasure, and each `vigil gc`, read every tag anew, with the whole dvc.lock of its time: half a minute of 100 cycles, four times that of 200."""
    read, as_it_does = [], workspace.objects.git
    monkeypatch.setattr(workspace.objects, "git", lambda *words, **named: read.append(words[1]) or as_it_does(*words, **named))

    def reads(act: Callable[[], Any]) -> int:
        read.clear()
        assert act() == expected
        return sum(one in READING for one in read)

    expected = named_by(root)
    once = len(read) - 1  # which refs there are
    assert once >= 2 * 2 and reads(lambda: named_by(root)) == 0 and "for-each-ref" in read
    tags_needing(root, set())
    assert not {*READING} & {*read}
    version(root, "b", "third", "vigil/2026-W03.1")
    git(root, "tag", "-a", "-m", "as people make them", "mine")
    git(root, "tag", "-d", "vigil/2026-W01.1")
    first = expected.pop("vigil/2026-W01.1")
    read.clear()
    found = named_by(root)
    assert len([one for one in read if one in READING]) == once // 2, "main is where the new tags are"
    third = found["vigil/2026-W03.1"]
    assert found == {**expected, "main": third, "vigil/2026-W03.1": third, "mine": third, WORKSPACE: third} and third != first
    kept = sorted((root / ".vigil" / "named").iterdir())
    assert [path.stem for path in kept] == sorted({git(root, "rev-parse", f"{name}^{{commit}}") for name in ("mine", "vigil/2026-W02.1")})
    assert re.fullmatch(r'[\s{}\[\]:,"]*(md5s|[0-9a-f]{32}(\.dir)?|[\s{}\[\]:,"]+)*', kept[0].read_text()), "no name of a file or a person"


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"md5s": {}}', '{"md5s": null}', '{"md5s": ["../x"]}', '{"md5s": [1]}', "\0\0"])
def test_of_a_damaged_note_of_what_a_commit_names_the_commit_is_read_anew(root: Path, text: str) -> None:
    before = named_by(root)
    for kept in (root / ".vigil" / "named").iterdir():
        kept.write_text(text)
    assert named_by(root) == before and len(read_json(kept)["md5s"]) > 0


@pytest.mark.parametrize("name", ["dvc.lock", "data/raw/b.dvc"])
def test_what_git_could_not_read_for_once_is_not_taken_for_naming_nothing(root: Path, name: str) -> None:
    """It was, and `vigil gc` deleted what the tag needs."""
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    version(root, "b", "third", "vigil/2026-W03.1")
    blob = git(root, "rev-parse", f"vigil/2026-W03.1:{name}")
    place = root / ".git" / "objects" / blob[:2] / blob[2:]
    place.rename(root / "away")
    with pytest.raises(WorkspaceError, match="git show failed"):
        named_by(root)
    (root / "away").rename(place)
    assert all(named_by(root).values())


def test_on_a_full_disk_what_a_commit_names_is_known_all_the_same(root: Path) -> None:
    before = named_by(root)
    shutil.rmtree(root / ".vigil" / "named")
    with no_file_larger_than(10):
        assert named_by(root) == before
    assert not list((root / ".vigil" / "named").iterdir())


def test_the_tags_that_a_loss_touches_are_named(root: Path) -> None:
    found = objects_in(cache_of(root))
    of = {path.read_text(): md5 for md5, path in found.items() if not md5.endswith(".dir")}
    assert [*tags_needing(root, {of["first" * 50]})] == ["vigil/2026-W01.1"] and tags_needing(root, {of["left over" * 50]}) == {}
    assert [*tags_needing(root, {of["the same in every batch"]})] == ["vigil/2026-W01.1", "vigil/2026-W02.1"]


def test_without_the_list_of_a_folder_nobody_says_what_is_needed(root: Path) -> None:
    for md5, path in objects_in(cache_of(root)).items():
        if md5.endswith(".dir"):
            path.unlink()
    with pytest.raises(DataError, match="Nothing was deleted"):
        needed_by(root)


def test_inputs_that_are_no_output_are_no_objects(root: Path) -> None:
    """DVC notes the hash of a folder of outputs, as data/faces is, with the stage that reads it, but keeps no list of it: gc stopped there, after any cycle."""
    (root / "batches.yaml").write_text("batches: [b]\n")
    (root / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: mkdir -p made/a && cp data/raw/b/notes.txt made/a/x\n    deps: [data/raw/b]\n    outs: [made/a]\n"
        "  two:\n    cmd: cp made/a/x all\n    deps: [made]\n    outs: [all]\n"
    )
    reproduce(root, "one")
    reproduce(root, "two")
    commit(root, "a cycle", "vigil/2026-W03.1")
    listed = {name for name in (root / "dvc.lock").read_text().split() if name.endswith(".dir")}
    assert len(listed) == 3, "the batch, made/a and made"
    with open_dvc(root) as repo:
        theirs = {info.value for infos in repo.used_objs(all_branches=True, all_tags=True).values() for info in infos}
    assert theirs == set().union(*needed_by(root).values()) and len(listed - theirs) == 1


def test_only_the_workspace_s_own_folder_is_a_remote_on_this_disk(tmp_path: Path) -> None:
    assert local_remote(tmp_path, "remote") == tmp_path / ".vigil" / "remote"
    others = ("", "s3://bucket/x", "/mnt/shared", "../../team", "..", ".", "~/team")
    assert [local_remote(tmp_path, url) for url in others] == [None] * len(others), "other workspaces may use it"


def test_what_a_person_set_up_of_git_changes_nothing_of_what_is_needed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = needed_by(root)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[color]\n\tui = always\n[column]\n\tui = always\n[grep]\n\tlineNumber = true\n\tcolumn = true\n")
    assert needed_by(root) == before


def test_a_cache_that_others_may_use_is_looked_into_and_nothing_of_it_is_collected(root: Path, tmp_path: Path) -> None:
    shutil.move(root / ".dvc" / "cache", tmp_path / "cache")
    with open(root / ".dvc" / "config", "a") as config:
        config.write(f"[cache]\n    dir = {tmp_path / 'cache'}\n")
    held = objects_in(cache_of(root))
    assert held and cache_of(root) == tmp_path / "cache" and set().union(*needed_by(root).values()) < set(held)
    shutil.rmtree(root / "data" / "raw" / "b")  # of this world it has no manifest, over which nothing would be collected
    rows = [row for row in collect(root, load_settings(root / "params.yaml"), delete=True) if row["what"].startswith("DVC's cache")]
    assert len(rows) == 2 and not any(row["deleted"] for row in rows) and objects_in(cache_of(root)) == held
    assert "others may need what it holds" in rows[0]["kept"]
    delete_objects(root, list(held)[:1])
    assert len(objects_in(cache_of(root))) == len(held) - 1, "what is to be erased goes from there too"


@pytest.mark.parametrize("text", ["", "outs: []\n", "- 1\n", "outs:\n<<<<<<< HEAD\n", "outs:\n- {path: b1}\n", f"outs:\n- {{md5: {'0' * 32}.dir, path: b1}}\n"])
def test_of_a_dvc_file_that_names_nothing_whole_nobody_says_that_its_folder_is_cached(tmp_path: Path, text: str) -> None:
    """`vigil gc` deletes the loose files of a model that the cache has."""
    folder = tmp_path / "data" / "raw" / "b1"
    folder.mkdir(parents=True)
    (folder / "media-000.tar").write_bytes(b"media")
    pointer = folder.with_name("b1.dvc")
    pointer.write_text(text)
    assert not is_cached(tmp_path / "cache", pointer)
    assert to_add(tmp_path, [folder]) == [], "it is left for its owner to mend"
