"""What a fake was made of, from the table that names it to the side on which it stands: a nameless fake of somebody who judges never trains."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.assemble import _name_as_first, _with_others
from pipelines.ingest import ingest
from pipelines.intake import IngestReport
from pipelines.rows import rows_of
from pipelines.sides import decide_sides, only_standing, split_of, standing
from tests.pipelines.small_world import demo_settings
from tests.pipelines.test_ingest import photo, source
from workspace.batches import set_batch_state
from workspace.files import read_json, sha256_file
from workspace.journal import Journal
from workspace.manifest import read_manifest
from workspace.naming import learning_order
from workspace.state import batch_states

SETTINGS = demo_settings()
ANA = next(f"ana{number}" for number in range(99) if split_of(f"ana{number}", SETTINGS.split) == "holdout")
BOB = next(f"bob{number}" for number in range(99) if split_of(f"bob{number}", SETTINGS.split) == "train")
ANAS, BOBS, FAKE = 1, 3, 30  # pictures, by their seeds
Rows = list[tuple[str, int, str, str, str]]  # path, picture, label, identity, source_video

FAKE_OF_1, FAKE_OF_3 = ("fake/1.jpg", FAKE, "fake", "", "real/1.jpg"), ("fake/3.jpg", FAKE, "fake", "", "real/3.jpg")
WEEKS: dict[str, list[tuple[str, Rows]]] = {
    "a clip that came in before, under a path that was another's": [
        ("inbox", [("real/1.jpg", ANAS, "real", ANA, ""), ("real/3.jpg", BOBS, "real", BOB, "")]),
        ("inbox", [("real/3.jpg", ANAS, "real", ANA, ""), FAKE_OF_3]),
    ],
    "the second of two equal files": [
        ("inbox", [("real/3.jpg", BOBS, "real", BOB, "")]),
        ("inbox", [("real/1.jpg", ANAS, "real", ANA, ""), ("real/3.jpg", ANAS, "real", ANA, ""), FAKE_OF_3]),
    ],
    "a clip that another set has, too": [
        ("one", [("orig/ana.jpg", ANAS, "real", ANA, "")]),
        ("two", [("real/1.jpg", ANAS, "real", ANA, ""), FAKE_OF_1]),
    ],
    "a clip that had no label, nor that path": [
        ("dump", [("clips/17.jpg", ANAS, "", "", "")]),
        ("two", [("real/1.jpg", ANAS, "real", ANA, ""), FAKE_OF_1]),
    ],
    "a folder that was filled anew": [
        ("inbox", [("real/1.jpg", BOBS, "real", BOB, "")]),
        ("inbox", [("real/1.jpg", ANAS, "real", ANA, ""), FAKE_OF_1]),
    ],
    "another's folder, before its own had such a path": [
        ("studio", [("real/1.jpg", ANAS, "real", ANA, "")]),
        ("inbox", [FAKE_OF_1]),
        ("inbox", [("real/1.jpg", BOBS, "real", BOB, "")]),
    ],
}  # fmt: skip


def take_in(root: Path, folder: Path, name: str, rows: Rows, batch: str) -> IngestReport:
    for path, picture, *_ in rows:
        photo(folder / path, picture)
    with open(folder / "labels.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([("path", "label", "identity", "source_video"), *((path, *said) for path, _, *said in rows)])
    report = ingest(root, SETTINGS, [source(folder / "labels.csv", name)], batch=batch)
    assert not report.refused
    return report


def sides_of(root: Path) -> dict[str, str]:
    """The side of each content, as the stage assemble decides it."""
    events = Journal(root).events()
    live = [batch for batch, told in batch_states(events).items() if told.state != "dropped"]
    samples = {batch: [{**row, "clips": 1} for row in rows_of(read_manifest(root / "data" / "raw" / batch))] for batch in learning_order(events, live)}
    every = _with_others(root, events, samples)
    _name_as_first(every)
    stands = dict(zip(samples, only_standing(samples, standing(samples)), strict=True))
    sides = decide_sides([stands.get(batch, []) for batch in every], SETTINGS.split, said=list(every.values()))
    return {**dict.fromkeys(sides.excluded, "left out"), **sides.of_sample}


@pytest.mark.parametrize("weeks", WEEKS.values(), ids=WEEKS)
def test_a_nameless_fake_stands_where_the_person_does_whose_file_its_table_names(weeks: list[tuple[str, Rows]], tmp_path: Path) -> None:
    for number, (name, rows) in enumerate(weeks):
        take_in(tmp_path / "w", tmp_path / f"week{number}", name, rows, f"b{number}")
    fake, ana = (sha256_file(photo(tmp_path / "again.jpg", picture)) for picture in (FAKE, ANAS))
    sides = sides_of(tmp_path / "w")
    assert (sides[ana], sides[fake]) == ("holdout", "holdout")


SPELLINGS: dict[str, Callable[[Path, str], str]] = {
    "absolute": lambda folder, path: str(folder / path),
    "by way of another folder": lambda folder, path: f"fake/../{path}",
    "with a dot": lambda folder, path: f"./{path}",
    "as on Windows": lambda folder, path: path.replace("/", "\\"),
}


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
def test_a_source_video_means_the_file_of_that_path_however_its_table_spells_paths(spelled: Callable[[Path, str], str], tmp_path: Path) -> None:
    """Only the column `path` was brought to the table's folder, so that of a table of absolute paths all fakes of a person who judges were trained on."""
    folder = tmp_path / "in"
    real, fake = photo(folder / "real/1.jpg", ANAS), photo(folder / "fake/1.jpg", FAKE)
    rows = [(spelled(folder, "real/1.jpg"), "real", ANA, ""), (spelled(folder, "fake/1.jpg"), "fake", "", spelled(folder, "real/1.jpg"))]
    with open(folder / "labels.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([("path", "label", "identity", "source_video"), *rows])
    assert not ingest(tmp_path / "w", SETTINGS, [source(folder / "labels.csv", "inbox")], batch="b").refused
    sides = sides_of(tmp_path / "w")
    assert (sides[sha256_file(real)], sides[sha256_file(fake)]) == ("holdout", "holdout")


def test_a_drop_moves_no_fake_that_was_made_of_what_went_to_another_person(tmp_path: Path) -> None:
    root = tmp_path / "w"
    take_in(root, tmp_path / "monday", "inbox", [("real/1.jpg", ANAS, "real", ANA, "")], "b0")
    take_in(root, tmp_path / "tuesday", "inbox", [FAKE_OF_1], "b1")
    take_in(root, tmp_path / "next", "inbox", [("real/1.jpg", BOBS, "real", BOB, "")], "b2")
    fake = sha256_file(photo(tmp_path / "again.jpg", FAKE))
    assert sides_of(root)[fake] == "holdout"
    set_batch_state(root, "b0", "dropped", who="ana", why="asked to")
    assert sides_of(root)[fake] == "holdout"


FAKES = ("fake/5.jpg", 31, "fake", "", "real/3.jpg")  # of the same video, and of a source of its own
MENDED: dict[str, tuple[Rows, Rows, dict[int, str]]] = {
    "a person had two names": (
        [("real/1.jpg", BOBS, "real", BOB, ""), ("real/3.jpg", ANAS, "real", ANA, ""), FAKE_OF_3],
        [("real/1.jpg", BOBS, "real", BOB, ""), ("real/3.jpg", ANAS, "real", BOB, ""), FAKE_OF_3],
        {BOBS: "train", ANAS: "train", FAKE: "train", 31: "train"},
    ),
    "a file had another's name": (
        [("real/1.jpg", BOBS, "real", BOB, ""), ("real/3.jpg", ANAS, "real", BOB, ""), FAKE_OF_3],
        [("real/1.jpg", BOBS, "real", BOB, ""), ("real/3.jpg", ANAS, "real", ANA, ""), FAKE_OF_3],
        {BOBS: "train", ANAS: "holdout", FAKE: "holdout", 31: "holdout"},
    ),
    "a fake had another's source video": (
        [("real/1.jpg", BOBS, "real", BOB, ""), ("real/3.jpg", ANAS, "real", ANA, ""), ("fake/3.jpg", FAKE, "fake", "", "real/1.jpg")],
        [("real/1.jpg", BOBS, "real", BOB, ""), ("real/3.jpg", ANAS, "real", ANA, ""), FAKE_OF_3],
        {BOBS: "train", ANAS: "holdout", FAKE: "holdout", 31: "holdout"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("moved", ["", "2026/"], ids=["in place", "moved"])
@pytest.mark.parametrize(("wrong", "right", "expected"), MENDED.values(), ids=MENDED)
def test_what_came_in_again_is_believed_under_whatever_path_it_lies_now(wrong: Rows, right: Rows, expected: dict[int, str], moved: str, tmp_path: Path) -> None:
    """Names were mended while the folder was moved: the old name won, and a person's fakes judged whose own videos trained."""
    root = tmp_path / "w"
    take_in(root, tmp_path / "first", "inbox", wrong, "b0")
    take_in(root, tmp_path / "others", "swaps", [FAKES], "b1")
    set_batch_state(root, "b0", "dropped", who="ana", why="names are mended", again=True)
    rows = [(moved + path, picture, label, name, video and moved + video) for path, picture, label, name, video in right]
    take_in(root, tmp_path / "second", "inbox", rows, "b2")
    sides = sides_of(root)
    assert {picture: sides[sha256_file(photo(tmp_path / f"{picture}.jpg", picture))] for picture in expected} == expected


@pytest.mark.parametrize("moved", ["", "2026/"], ids=["in place", "moved"])
def test_what_stood_here_before_a_batch_was_dropped_does_not_unsay_what_that_one_said(moved: str, tmp_path: Path) -> None:
    """A file that first came in without a label or a name counted as come in again, once the batch that named it was dropped."""
    root = tmp_path / "w"
    take_in(root, tmp_path / "first", "dump", [(f"{moved}real/1.jpg", ANAS, "", "", "")], "b0")
    take_in(root, tmp_path / "second", "inbox", [("real/1.jpg", ANAS, "real", ANA, ""), FAKE_OF_1], "b1")
    take_in(root, tmp_path / "third", "swaps", [("fake/5.jpg", 31, "fake", "", "real/1.jpg")], "b2")
    fake = sha256_file(photo(tmp_path / "again.jpg", 31))
    assert sides_of(root)[fake] == "holdout"
    set_batch_state(root, "b1", "dropped", who="ana", why="asked to", again=True)
    assert sides_of(root)[fake] == "holdout"


def test_a_fake_whose_source_video_nothing_else_is_or_names_is_told(tmp_path: Path) -> None:
    """A misspelt column tied no fake to its real, and nobody was told; then, only where each real has one fake."""
    root, table = tmp_path / "w", [("real/1.jpg", ANAS, "real", ANA, ""), ("real/3.jpg", BOBS, "real", BOB, "of bob")]
    fakes = [("fake/1.jpg", 31, "fake", "", "real/1.jpg"), ("fake/2.jpg", 32, "fake", "", "of bob"), ("fake/3.jpg", 33, "fake", "", "real/3.JPG")]
    take_in(root, tmp_path / "first", "first", table, "w1")
    fakes += [("fake/4.jpg", 34, "fake", "", "one"), ("fake/5.jpg", 35, "fake", "", "one")]
    fakes += [("fake/7.jpg", 37, "fake", "", "../real/1.jpg"), ("fake/8.jpg", 38, "fake", "", "../real/1.jpg")]
    fakes.append(("fake/6.jpg", 36, "fake", ANA, "a take of its own"))  # who is in it is said, as in Vigil's own sample media
    found = take_in(root, tmp_path / "second", "second", fakes, "w2")
    assert found.sources["second"].unmatched_videos == ["../real/1.jpg", "real/3.JPG"]
    assert read_json(root / "data/raw/w2/summary.json")["unmatched_videos"] == 2, "no names: an erasure would not find them"
    assert any("fakes of a source video that no other file is or names: 2, as '../real/1.jpg'" in line for line in found.lines())
    same = take_in(root, tmp_path / "third", "third", [("real/3.jpg", 41, "real", "", ""), ("fake/1.jpg", 42, "fake", "", "real/3.jpg")], "w3")
    assert same.sources["third"].unmatched_videos == []
