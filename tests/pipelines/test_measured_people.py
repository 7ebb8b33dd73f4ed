"""What benchmarks train and measure on is what ingest made of a table, not what its cells say."""

import csv
import unicodedata
from pathlib import Path

import cv2
import pytest

from benchmarks import forgers, starter
from media.decode import read_frames
from media.shards import ShardWriter
from media.synthetic.sample import make_sample_media
from pipelines import faces
from pipelines.ingest import ingest
from pipelines.sides import split_of
from tests.pipelines.small_world import demo_settings
from tests.pipelines.test_ingest import source

SETTINGS = demo_settings()


def on(side: str, begins: str) -> str:
    """A name on this side."""
    return next(name for name in (f"{begins}{number}" for number in range(500)) if split_of(name, SETTINGS.split) == side)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the faces of a small table, `media/labels.csv` in it."""
    root = tmp_path_factory.mktemp("measured")
    folder = root / "media"
    make_sample_media(folder, people=5, clips_per_person=1, seconds=1.0, seed=11, fakes={}, size_px=192, fps=12.0)
    pictures = [next(iter(read_frames(clip, [0.5])))[1][..., ::-1] for clip in sorted((folder / "real").glob("*.mp4"))]
    composed = (f"Jos\u00e9{number}" for number in range(500))
    typed = next(name for one in composed if split_of(one, SETTINGS.split) == "train" != split_of(name := unicodedata.normalize("NFD", one), SETTINGS.split))
    rows = [
        ("typed.png", "real", "train", typed, ""),
        ("trains.png", "real", "train", on("train", "ana"), ""),
        ("z_copy.jpg", "real", "train", on("holdout", "bea"), ""),
        ("measured.png", "real", "train", on("holdout", "cy"), ""),
        ("collected.png", "fake", "train", on("train", "dora"), "facefusion"),
        ("kept.png", "fake", "evaluate", "emil", "vasa1"),
    ]
    for (name, *_), picture in zip(rows, [*pictures[:2], pictures[1], *pictures[2:]], strict=True):
        assert cv2.imwrite(str(folder / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("path", "label", "use", "identity", "generator"), *rows])
    ingest(root, SETTINGS, [source(folder / "labels.csv", "faces", layout="csv")], batch="faces")
    assert faces.run(root, SETTINGS, "faces")["with_face"] == len(rows)
    return root


def test_the_starter_is_measured_on_nobody_who_trained_nor_on_copies_of_what_did(world: Path, tmp_path: Path) -> None:
    """By the cells of the table a name that was typed decomposed stood on another side than where it trained, and so did a copy by another's name."""
    sets = starter.measured_sets(world / "media" / "labels.csv", world, SETTINGS, tmp_path)
    for path in sets.values():
        assert path.parent == tmp_path
    with open(sets["all"], encoding="utf-8", newline="") as handle:
        assert {row["path"]: row["generator"] for row in csv.DictReader(handle)} == {"kept.png": "vasa1", "measured.png": ""}


def test_fakes_that_a_table_would_train_on_stay_out_of_the_runs_of_named_forgers(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They trained in each run, also in that of one forger alone, and were measured as the media that the table keeps for evaluation."""
    for name in forgers.FORGERS:
        with ShardWriter(world / "forged" / name):
            pass
    monkeypatch.setattr(forgers, "settings_of", lambda work, *changes: SETTINGS)
    table = forgers.clips_of(world)
    of = dict(zip(table["sample_id"], table["side"], strict=True))
    names = {sample["sample_id"]: sample["path"] for sample in starter.samples_of(world, SETTINGS)}
    assert {names[sample_id]: side for sample_id, side in of.items()} == {
        "typed.png": "train",
        "trains.png": "train",
        "measured.png": "test",
        "kept.png": "test",
    }
