"""Whose file a path means."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from workspace.files import sha256_bytes
from workspace.for_review import erased_path
from workspace.forgetting import _name_by_hash
from workspace.journal import Journal
from workspace.manifest import MANIFEST_COLUMNS, read_manifest, write_manifest
from workspace.naming import Paths, content_path, still_said

files = st.tuples(st.sampled_from(["one", "two"]), st.sampled_from(["b1", "b2", "b3"]), st.sampled_from(["a", "b"]), st.integers(0, 3))


def of(*found: tuple[str, str, str, int], batches: Sequence[str] = ()) -> Paths:
    rows: dict[str, list[dict[str, str]]] = {batch: [] for batch in batches}
    for source, batch, path, content in found:
        rows.setdefault(batch, []).append({"source": source, "path": path, "sample_id": f"{content:064}", "use": "train", "source_video": ""})
    return Paths(rows)


def called(paths: Paths, path: str, source: str, batch: str) -> str:
    return paths.called(path, paths.meant(path, source, batch))


@given(st.lists(files, max_size=8, unique_by=lambda one: one[:3]))
def test_each_file_is_meant_by_its_own_batch_and_no_two_contents_are_called_the_same(found: list[tuple[str, str, str, int]]) -> None:
    paths, names = of(*found), {}
    for source, batch, path, content in found:
        assert paths.meant(path, source, batch) == f"{content:064}"
        names.setdefault(called(paths, path, source, batch), set()).add((path, content))
    assert all(len(meant) == 1 for meant in names.values()), names
    assert len({meant for those in names.values() for meant in those}) == len(names), "one content under one path has one name, whoever asks"


@given(st.lists(files, max_size=8, unique_by=lambda one: one[:3]), st.sampled_from(["one", "two", "three"]), st.sampled_from(["b1", "b2"]))
def test_a_batch_that_comes_later_changes_nothing_that_a_name_meant(found: list[tuple[str, str, str, int]], source: str, batch: str) -> None:
    """Fakes that named a file of the studio were taken for made of another's once their own source had a file of that path."""
    found = sorted(found, key=lambda one: one[1])
    for path in ("a", "b"):
        before = of(*(one for one in found if one[1] < "b3"), batches=("b1", "b2")).meant(path, source, batch)
        assert not before or of(*found, batches=("b1", "b2", "b3")).meant(path, source, batch) == before


def test_what_names_a_file_means_that_of_its_batch_else_the_last_of_its_source_else_the_first() -> None:
    paths = of(("one", "b1", "a", 1), ("two", "b2", "a", 2), ("two", "b3", "a", 3))
    assert [called(paths, "a", *who) for who in (("one", "b1"), ("one", "b9"), ("three", "b2"), ("three", "b1"))] == ["one: a"] * 4
    assert [called(paths, "a", "two", batch) for batch in ("b1", "b2", "b3", "b9")] == ["one: a", "two, b2: a", "two, b3: a", "two, b3: a"]
    assert called(paths, "nowhere", "one", "b1") == "nowhere" and paths.meant("nowhere", "one", "b1") == ""
    assert called(of(("one", "b1", "a", 1), ("one", "b2", "a", 1), ("two", "b3", "a", 1)), "a", "two", "b3") == "a", "one content has no need of another name"


def test_what_was_erased_in_two_sources_is_called_erased() -> None:
    gone = erased_path("1" * 64)
    row = {"path": gone, "sample_id": "1" * 64, "use": "never"}
    assert called(Paths({"b1": [{**row, "source": "one"}], "b2": [{**row, "source": "two"}]}), gone, "two", "b2") == gone


def test_an_erasure_reaches_the_names_of_what_was_made_of_the_file_and_of_no_other_of_its_path(tmp_path: Path) -> None:
    """A folder is filled anew each week: real/1.mp4 of the second week is another video, and its fakes are not made of what is erased."""
    reals, fakes = [sha256_bytes(b"real1"), sha256_bytes(b"real2")], [sha256_bytes(b"fake1"), sha256_bytes(b"fake2")]
    later = sha256_bytes(b"fake3")  # of the first week's video, which came along with the second week once more
    for number, batch in enumerate(("b1", "b2")):
        about = dict.fromkeys(MANIFEST_COLUMNS, "") | {"batch": batch, "kind": "video", "use": "train", "source": "inbox", "bytes": 1, "offset": 0}
        rows = [
            about | {"sample_id": reals[number], "path": "real/1.mp4", "label": "real"},
            about | {"sample_id": fakes[number], "path": "fake/1.mp4", "label": "fake", "generator": "gan", "source_video": "real/1.mp4"},
        ]
        if number:
            rows.append(about | {"sample_id": later, "path": "fake/2.mp4", "label": "fake", "generator": "gan", "source_video": content_path(reals[0])})
        (tmp_path / "data" / "raw" / batch).mkdir(parents=True)
        write_manifest(pd.DataFrame(rows), tmp_path / "data" / "raw" / batch)
    _name_by_hash(tmp_path, {reals[0]: ""})
    said = {batch: read_manifest(tmp_path / "data" / "raw" / batch).set_index("sample_id")["source_video"] for batch in ("b1", "b2")}
    assert said["b1"][fakes[0]] == erased_path(reals[0]) and said["b2"][fakes[1]] == "real/1.mp4" and said["b2"][later] == erased_path(reals[0])


def test_what_came_in_again_from_a_folder_that_was_numbered_anew_means_the_files_of_its_own_batch(tmp_path: Path) -> None:
    """The old rows are names of their contents, and an answer in between says again what the row of its file said, in a batch where no file is called so."""
    journal, (one, two, fake) = Journal(tmp_path), (sha256_bytes(name) for name in (b"one", b"two", b"fake"))
    about = {"source": "inbox", "use": "train", "identity": "", "donor": "", "source_video": ""}

    def rows(first: str, second: str, of: str, **more: str) -> list[dict[str, str]]:
        reals = [about | {"sample_id": content, "path": f"real/{n}.mp4", "identity": f"{n}"} for n, content in ((1, first), (2, second))]
        return [*reals, about | {"sample_id": fake, "path": "fake/1.mp4", "source_video": of} | more]

    answer = about | {"sample_id": fake, "path": "f.mp4", "source": "feedback", "source_video": "real/2.mp4"}
    batches = {"b1": rows(one, two, "real/1.mp4"), "b2": rows(two, one, "real/2.mp4"), "b3": [answer]}
    for batch in batches:
        journal.append("batch_added", batch=batch, source="x", samples=1, quarantined=0)
    assert still_said(journal.events(), batches) == batches
    journal.append("batch_state", batch="b1", state="dropped", who="ana", why="numbered anew", again=True)
    said = still_said(journal.events(), batches)
    assert [(row["path"], row["identity"]) for row in said["b1"]] == [("real/1.mp4", "2"), ("real/2.mp4", "1"), ("fake/1.mp4", "")]
    assert said["b1"][2]["source_video"] == content_path(one) and batches["b1"][2]["source_video"] == "real/1.mp4", "the rows themselves stay"
    assert {Paths(said).made_of(row, batch) for batch in ("b1", "b2", "b3") for row in said[batch][-1:]} == {one}


def test_an_erasure_reaches_what_a_dropped_batch_said_of_a_file_that_came_in_again_elsewhere(tmp_path: Path) -> None:
    real, fake = sha256_bytes(b"real"), sha256_bytes(b"fake")
    for batch, place in (("b1", ""), ("b2", "2026/")):
        about = dict.fromkeys(MANIFEST_COLUMNS, "") | {"batch": batch, "kind": "video", "use": "train", "source": "inbox", "bytes": 1, "offset": 0}
        made = about | {"sample_id": fake, "path": f"{place}fake/1.mp4", "label": "fake", "source_video": f"{place}real/1.mp4"}
        (tmp_path / "data" / "raw" / batch).mkdir(parents=True)
        table = pd.DataFrame([about | {"sample_id": real, "path": f"{place}real/1.mp4", "label": "real"}, made])
        write_manifest(table, tmp_path / "data" / "raw" / batch)
        Journal(tmp_path).append("batch_added", batch=batch, source="inbox", samples=2, quarantined=0)
    Journal(tmp_path).append("batch_state", batch="b1", state="dropped", who="ana", why="moved", again=True)
    _name_by_hash(tmp_path, {real: ""})
    said = {batch: read_manifest(tmp_path / "data" / "raw" / batch).set_index("sample_id")["source_video"] for batch in ("b1", "b2")}
    assert said["b1"][fake] == said["b2"][fake] == erased_path(real)
