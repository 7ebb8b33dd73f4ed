"""Ingest through its front door, on rendered media."""

import errno
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import pipelines.fingerprint as fingerprint
import pipelines.ingest
import pipelines.known
import pipelines.neighbours
import pipelines.seen
import workspace.manifest
from media.photos import NO_MEMORY
from pipelines.fingerprint import TOO_BIG
from pipelines.ingest import ingest, pending
from pipelines.intake import NotNow
from pipelines.known import Known, spelling
from pipelines.layouts import read_layout
from pipelines.layouts.found import EMPTY, NOT_MEDIA
from pipelines.seen import stamp_of
from tests.feedback.buckets import s3_server
from tests.media.videos import write_video
from tests.pipelines.small_world import demo_settings
from tests.pipelines.trees import celebdf
from tests.system.world import vigil
from vigil.batches import batch_page, render_batch
from vigil.cycles import would_run
from vigil.scoring import is_beside
from vigil.taking_in import named_sources
from workspace.batches import set_batch_state
from workspace.errors import WorkspaceError
from workspace.files import read_json, sha256_file
from workspace.forgetting import forget
from workspace.journal import Journal
from workspace.manifest import manifests, read_manifest, read_media
from workspace.repository import init_repository
from workspace.settings import Settings, SourceSettings
from workspace.state import batch_states

ROOT = Path(__file__).resolve().parents[2]


def source(path: Path, name: str = "press", **more: object) -> SourceSettings:
    return SourceSettings.model_validate({"name": name, "path": str(path), **more})


def photo(path: Path, seed: int, quality: int = 95, scale: float = 1.0) -> Path:
    """A picture of random blobs: distinct for distinct seeds, alike for one seed at other qualities and sizes."""
    blobs = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    picture = cv2.resize(blobs, (320, 320), interpolation=cv2.INTER_CUBIC)
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


@pytest.fixture
def settings() -> Settings:
    return demo_settings()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Three real photos, two fakes."""
    folder = tmp_path / "media"
    for number in range(3):
        photo(folder / "real" / f"r{number}.jpg", number)
    for number in range(2):
        photo(folder / "fake" / "gan" / f"f{number}.jpg", 10 + number)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def test_a_table_of_videos_becomes_a_batch_with_its_bytes(root: Path, settings: Settings, sample_media: Path) -> None:
    report = ingest(root, settings, [source(sample_media)])
    assert (report.added, report.known, report.quarantined) == (18, 0, 0)
    counts = report.sources["press"]
    assert counts.by_label == {"fake": 6, "real": 12} and counts.by_generator == {"blendswap": 6} and counts.identities == 6
    (batch,) = report.batches
    assert batch.endswith("-press")
    table = read_manifest(root / "data" / "raw" / batch)
    for row in table.to_dict("records"):
        content = read_media(root / "data" / "raw" / batch, row["shard"], row["offset"], row["bytes"], row["sample_id"])
        assert content == (sample_media / row["path"]).read_bytes()
        assert row["sample_id"] == sha256_file(sample_media / row["path"]) and row["kind"] == "video" and len(row["phash"].split()) > 6
    assert set(table["duplicate_of"]) == {""}, "two takes of one person are not duplicates"
    state = batch_states(Journal(root).events())[batch]
    assert (state.state, state.rows, state.quarantined) == ("new", 18, 0)


def test_sources_are_ingested_at_a_cost_that_does_not_grow_with_the_others(root: Path, settings: Settings, tmp_path: Path, monkeypatch: Any) -> None:
    """The cache of all sources was written after each, changed or not, and the index of all known words built anew for each: sources times history."""
    sources = [source(photo(tmp_path / f"s{number}" / "real" / "r.jpg", number).parents[1], f"s{number}") for number in range(40)]
    ingest(root, settings, sources[:20])
    written, indexed = [], []
    save, index = pipelines.seen.write_json, pipelines.neighbours.HashIndex
    monkeypatch.setattr(pipelines.seen, "write_json", lambda path, content: (written.append(path), save(path, content)))
    monkeypatch.setattr(pipelines.neighbours, "HashIndex", lambda words: (indexed.append(len(words)), index(words))[1])
    ingest(root, settings, sources[:20])
    assert written == [], "nothing has changed"
    known = sum(len(words.split()) for path in manifests(root) for words in read_manifest(path.parent)["phash"])
    ingest(root, settings, sources)
    assert len(written) >= 1 and pending(root, settings, sources) == 0
    assert known > 100 and max(indexed) >= known and sum(indexed) < 12 * known, "twenty new files beside twenty known ones: each sorted a few times"


def test_a_second_ingest_adds_nothing_and_reads_no_file_again(root: Path, settings: Settings, media: Path) -> None:
    sources = [source(media)]
    assert pending(root, settings, sources) == 5
    first = ingest(root, settings, sources)
    assert pending(root, settings, sources) == 0
    before = Journal(root).events()
    for path in media.rglob("*.jpg"):
        path.chmod(0)
    again = ingest(root, settings, sources)
    for path in media.rglob("*.jpg"):
        path.chmod(0o644)
    assert (again.added, again.known, again.batches) == (0, 5, [])
    assert Journal(root).events() == before and first.added == 5
    shutil.rmtree(root / ".vigil")
    without_cache = ingest(root, settings, sources)
    assert (without_cache.added, without_cache.known, without_cache.batches) == (0, 5, [])
    assert pending(root, settings, sources) == 0


@pytest.mark.parametrize(("said", "cores", "most"), [("1", 2, 1), ("", 64, pipelines.ingest.MOST_READERS)])
def test_a_machine_says_how_many_files_are_open_at_once(
    root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, cores: int, most: int
) -> None:
    """All cores opened one each, whatever VIGIL_WORKERS said: of 64 and little memory good pictures were called truncated or corrupt, for ever."""
    monkeypatch.setenv("VIGIL_WORKERS", said)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    opened, most_open, measure = set[int](), list[int](), pipelines.ingest.measure

    def watched(path: Path, *more: Any) -> Any:
        opened.add(threading.get_ident())
        most_open.append(len(opened))
        time.sleep(0.01)  # so that each new file is given to a thread of its own, where there may be one
        return measure(path, *more)

    monkeypatch.setattr(pipelines.ingest, "measure", watched)
    (tmp_path / "many" / "real").mkdir(parents=True)
    for number in range(24):
        photo(tmp_path / "many" / "real" / f"{number}.jpg", number)
    ingest(root, settings, [source(tmp_path / "many")])
    assert max(most_open) == most


def test_a_damaged_cache_costs_time_and_nothing_else(root: Path, settings: Settings, media: Path) -> None:
    """One byte of it that was no text stopped every ingest, as a mistake in Vigil."""
    ingest(root, settings, [source(media)])
    cache = root / ".vigil" / "seen.json"
    whole = read_json(cache)
    ((known_as, rows),) = whole["sources"].items()
    some_rows_damaged = {known_as: rows | {"real/r0.jpg": 7}}
    of_another_shape: list[Any] = [[], {known_as: []}, some_rows_damaged, *({known_as: dict.fromkeys(rows, row)} for row in (["x", 1, 2, 3], [7], 7, None))]
    changes = [{"version": whole["version"] - 1}, *({"sources": sources} for sources in of_another_shape)]
    damaged = [b"\xff" + cache.read_bytes(), cache.read_bytes()[:-9], b"[" * 100_000, b"[]", b"{}"]
    for content in (*damaged, *(json.dumps(whole | change).encode() for change in changes)):
        cache.write_bytes(content)
        assert pending(root, settings, [source(media)]) == 5, content[:200]
        again = ingest(root, settings, [source(media)])
        assert (again.added, again.known) == (0, 5) and read_json(cache) == whole, content[:200]


def test_only_what_is_new_makes_the_next_batch_and_a_renamed_file_is_known(root: Path, settings: Settings, media: Path) -> None:
    ingest(root, settings, [source(media)], batch="w1")
    (media / "real" / "r0.jpg").rename(media / "real" / "renamed.jpg")
    photo(media / "real" / "late.jpg", 77)
    assert pending(root, settings, [source(media)]) == 2
    report = ingest(root, settings, [source(media)], batch="w1")
    assert report.batches == ["w1-2"] and report.added == 1 and report.known == 5
    assert list(read_manifest(root / "data" / "raw" / "w1-2")["path"]) == ["real/late.jpg"]


def test_a_label_that_a_table_was_given_later_is_something_new(root: Path, settings: Settings, media: Path) -> None:
    """No file had changed, so that the weekly cycle found nothing new until somebody ran `vigil ingest`."""
    table = media / "labels.csv"
    table.write_text("path,label,identity\nreal/r0.jpg,real,ann\nreal/r1.jpg,,bob\nreal/r2.jpg,,bob\n")
    listed = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"sources": (source(table),)})})
    ingest(root, settings, [source(table)])
    assert would_run(root, listed).pending_files == 0
    table.write_text("path,label,identity\nreal/r0.jpg,fake,ann\nreal/r1.jpg,real,bob\nreal/r2.jpg,,bob\n")
    assert would_run(root, listed).pending_files == 1, "another label than the recorded one is a contradiction, which brings nothing new"
    assert ingest(root, settings, [source(table)]).added == 1
    assert would_run(root, listed).pending_files == 0
    shutil.rmtree(root / ".vigil")
    assert ingest(root, settings, [source(table)]).added == 0 and would_run(root, listed).pending_files == 0


@pytest.mark.slow
def test_two_folders_of_one_name_with_files_of_one_size_and_time_are_two_sources(tmp_path: Path) -> None:
    """The second folder's files were taken for the first's."""
    vigil("init", tmp_path / "w", "--profile", "demo")
    for number, folder in enumerate((tmp_path / "a" / "media" / "real", tmp_path / "b" / "media" / "real")):
        folder.mkdir(parents=True)
        for name in range(3):
            pixels = np.random.default_rng(10 * number + name).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            assert cv2.imwrite(str(folder / f"{name}.bmp"), pixels)
            os.utime(folder / f"{name}.bmp", (1_700_000_000, 1_700_000_000))
        assert "3 new" in vigil("ingest", folder.parent, "-w", tmp_path / "w").stdout
        assert "0 new, 3 known" in vigil("ingest", folder.parent, "-w", tmp_path / "w").stdout


def test_a_file_that_was_replaced_by_one_of_its_size_and_time_is_new(root: Path, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "media" / "real" / "a.bmp"
    path.parent.mkdir(parents=True)
    for seed in range(2):
        assert cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert pending(root, settings, [source(tmp_path / "media")]) == 1
        assert ingest(root, settings, [source(tmp_path / "media")]).added == 1


def test_known_content_with_another_label_is_reported_and_the_first_word_stands(root: Path, settings: Settings, media: Path) -> None:
    ingest(root, settings, [source(media)], batch="w1")
    other = media.parent / "other"
    (other / "fake").mkdir(parents=True)
    shutil.copy(media / "real" / "r0.jpg", other / "fake" / "x.jpg")
    report = ingest(root, settings, [source(other, "other")])
    assert report.added == 0 and report.batches == []
    assert report.conflicts == ["fake/x.jpg is fake here, real in batch w1"]
    assert any("conflict" in line for line in report.lines())


def test_a_dropped_batch_stays_out_while_its_source_says_the_same_and_comes_in_with_other_labels(root: Path, settings: Settings, media: Path) -> None:
    table = media / "labels.csv"
    table.write_text("path,label,identity\nreal/r0.jpg,fake,ann\nreal/r1.jpg,real,ann\nreal/r2.jpg,,\n")
    ingest(root, settings, [source(media)], batch="w1")
    set_batch_state(root, "w1", "dropped", who="ada", why="labels of another table")
    again = ingest(root, settings, [source(media)])
    assert (again.added, again.known, again.conflicts) == (0, 3, []), "what a person has dropped does not come back by itself"
    assert pending(root, settings, [source(media)]) == 0
    table.write_text("path,label,identity\nreal/r0.jpg,real,bob\nreal/r1.jpg,real,ann\nreal/r2.jpg,fake,\n")
    assert pending(root, settings, [source(media)]) == 2, "a weekly cycle could else never take it in"
    mended = ingest(root, settings, [source(media)], batch="w2")
    assert (mended.added, mended.known, mended.conflicts) == (2, 1, [])
    rows = read_manifest(root / "data" / "raw" / "w2").set_index("path")
    assert rows["label"].to_dict() == {"real/r0.jpg": "real", "real/r2.jpg": "fake"} and rows["duplicate_of"].tolist() == ["", ""]
    assert rows.loc["real/r0.jpg", "identity"] == "bob", "what is said now, where a dropped batch said something else"
    assert ingest(root, settings, [source(media)]).known == 3 and pending(root, settings, [source(media)]) == 0


def test_what_a_person_lets_in_again_is_new_to_the_weekly_cycle(root: Path, settings: Settings, media: Path) -> None:
    """Nothing was new by its files, so that no cycle took it in: `vigil retrain` said that nothing would run, and a timer that the week is skipped."""
    weekly = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"sources": (source(media),)})})
    ingest(root, settings, [source(media)], batch="w1")
    for why, again, new in (("poisoned", False, 0), ("mended", True, 5)):
        set_batch_state(root, "w1", "dropped", who="ada", why=why, again=again)
        assert would_run(root, weekly).pending_files == new
    assert ingest(root, settings, [source(media)], batch="w2").added == 5 and would_run(root, weekly).pending_files == 0
    set_batch_state(root, "w2", "dropped", who="ada", why="no more")
    assert would_run(root, weekly).pending_files == 0, "what w2 holds stays out, though w1 let it in"


def test_what_is_let_in_again_is_new_though_a_copy_without_a_label_lies_elsewhere(root: Path, settings: Settings, media: Path, tmp_path: Path) -> None:
    press, inbox = source(media / "fake", name="press"), source(tmp_path / "inbox", name="inbox")
    (media / "fake" / "labels.csv").write_text("path,label,identity\ngan/f0.jpg,fake,ann\ngan/f1.jpg,fake,bob\n")
    ingest(root, settings, [press], batch="w1")
    shutil.copytree(media / "fake" / "gan", tmp_path / "inbox" / "unlabelled")
    set_batch_state(root, "w1", "dropped", who="ada", why="names are mended", again=True)
    photo(tmp_path / "inbox" / "real" / "r.jpg", 20)
    assert ingest(root, settings, [inbox], batch="w2").added == 3
    waiting = pending(root, settings, [press])
    assert waiting == 2 and ingest(root, settings, [press], batch="w3").added == waiting and not pending(root, settings, [press])


def test_a_copy_without_a_label_does_not_bring_back_what_was_dropped_for_its_labels(root: Path, settings: Settings, media: Path, tmp_path: Path) -> None:
    """From an inbox nobody had labelled, one of its files let the flipped label in again, unasked, under the next cycle."""
    poison, inbox = source(media / "fake", name="poison"), source(tmp_path / "inbox", name="inbox")
    table = media / "fake" / "labels.csv"
    table.write_text("path,label,identity\ngan/f0.jpg,fake,ann\ngan/f1.jpg,fake,bob\n")
    ingest(root, settings, [poison], batch="w1")
    set_batch_state(root, "w1", "dropped", who="ada", why="labels are flipped")
    (tmp_path / "inbox" / "unlabelled").mkdir(parents=True)
    shutil.copy(media / "fake" / "gan" / "f0.jpg", tmp_path / "inbox" / "unlabelled" / "upload.jpg")
    photo(tmp_path / "inbox" / "real" / "r.jpg", 20)
    assert ingest(root, settings, [inbox], batch="w2").added == 2
    again = ingest(root, settings, [poison])
    assert (again.added, again.batches, again.conflicts, again.sources["poison"].dropped) == (0, [], [], {"w1": 2})
    table.write_text("path,label,identity\ngan/f0.jpg,real,ann\ngan/f1.jpg,fake,bob\n")
    mended = ingest(root, settings, [poison], batch="w3")
    assert mended.added == 1 and read_manifest(root / "data" / "raw" / "w3")[["path", "label"]].values.tolist() == [["gan/f0.jpg", "real"]]


def test_other_words_for_known_files_are_said_and_come_in_once_their_batch_is_dropped(root: Path, settings: Settings, tmp_path: Path) -> None:
    """`--split own` and `--identity unknown` after a first ingest, where the docs send people, changed nothing and said nothing, not even after a drop."""
    celebdf(tmp_path / "cdf")
    cdf = source(tmp_path / "cdf", "cdf")
    ingest(root, settings, [cdf], batch="w1")
    assert ingest(root, settings, [cdf]).sources["cdf"].reworded == {}
    own = source(tmp_path / "cdf", "cdf", split="own")
    again = ingest(root, settings, [own])
    assert (again.added, again.known, again.sources["cdf"].reworded) == (0, 5, {"w1": {"use": 2}})
    assert "  conflict: what batch w1 recorded stands, though its source says other words now: 2 x use" in again.lines()
    assert "  to take in what is said now: vigil batches drop w1 --again, then ingest again" in again.lines()
    assert read_manifest(root / "data" / "raw" / "w1")["use"].tolist().count("evaluate") == 2, "nothing that was recorded is changed"
    set_batch_state(root, "w1", "dropped", who="ada", why="own split wanted")
    stays = ingest(root, settings, [cdf])
    assert (stays.known, stays.sources["cdf"].dropped) == (5, {"w1": 5}), "what a person has dropped does not come back by itself"
    assert ingest(root, settings, [source(tmp_path / "cdf", "other", split="own")]).known == 5, "nor by another source"
    taken = ingest(root, settings, [own], batch="w2")
    assert (taken.added, taken.known) == (2, 3)
    assert set(read_manifest(root / "data" / "raw" / "w2")["use"]) == {"train"}
    set_batch_state(root, "w1", "dropped", who="ada", why="all of it, with the own split", again=True)
    assert pending(root, settings, [own]) == 3
    rest = ingest(root, settings, [own], batch="w3")
    assert (rest.added, rest.known, rest.sources["cdf"].dropped) == (3, 2, {})
    set_batch_state(root, "w3", "dropped", who="ada", why="no more", again=True)
    set_batch_state(root, "w3", "dropped", who="ada", why="for good after all")
    assert ingest(root, settings, [own]).sources["cdf"].dropped == {"w3": 3}


def test_nobody_is_a_word_too_and_a_mended_column_counts(root: Path, settings: Settings, media: Path) -> None:
    table = media / "labels.csv"
    table.write_text("path,label,identity,generator\nreal/r0.jpg,real,ann,\nreal/r1.jpg,real,ann,\nfake/gan/f0.jpg,fake,bob,gan\n")
    ingest(root, settings, [source(media)], batch="w1")
    table.write_text("path,label,identity,generator\nreal/r0.jpg,real,ann,\nreal/r1.jpg,real,cy,\nfake/gan/f0.jpg,fake,,gan2\n")
    assert ingest(root, settings, [source(media)]).sources["press"].reworded == {"w1": {"generator": 1, "identity": 1}}, "an empty cell says nothing"
    nobody = source(media, identity={"rule": "unknown"})
    assert ingest(root, settings, [nobody]).sources["press"].reworded == {"w1": {"identity": 3, "generator": 1}}
    set_batch_state(root, "w1", "dropped", who="ada", why="who is in them is not known")
    assert ingest(root, settings, [nobody], batch="w2").added == 3
    rows = read_manifest(root / "data" / "raw" / "w2").set_index("path")
    assert set(rows["identity"]) == {""} and rows.loc["fake/gan/f0.jpg", "generator"] == "gan2"
    assert ingest(root, settings, [nobody]).sources["press"].reworded == {}


def test_copies_with_words_of_their_own_are_no_other_words(root: Path, settings: Settings, media: Path) -> None:
    """The strictest use of the copies, and the first one's person, were recorded: each next ingest says the same again."""
    shutil.copy(media / "real" / "r0.jpg", media / "copy.jpg")
    (media / "labels.csv").write_text("path,label,use,identity\nreal/r0.jpg,real,,ann\ncopy.jpg,real,evaluate,bob\n")
    ingest(root, settings, [source(media)], batch="w1")
    shutil.rmtree(root / ".vigil")
    for _ in ("measured again", "from the cache"):
        assert ingest(root, settings, [source(media)]).sources["press"].reworded == {}
    set_batch_state(root, "w1", "dropped", who="ada", why="poisoned")
    assert ingest(root, settings, [source(media)]).known == 2


def test_another_source_that_names_people_otherwise_is_heard(root: Path, settings: Settings, media: Path, tmp_path: Path) -> None:
    """It was lost in silence, and half of the people whom a table names stood on two sides."""
    ingest(root, settings, [source(media, layout="folder")], batch="w1")
    copy = tmp_path / "copy"
    shutil.copytree(media, copy)
    (copy / "labels.csv").write_text("path,label,identity\nreal/r0.jpg,real,ann\nreal/r1.jpg,real,\nreal/r2.jpg,real,ann\n")
    named = source(copy, "named")
    said = ingest(root, settings, [named])
    assert said.sources["named"].renamed == {"w1": 2} and any("2 known files show other people" in line for line in said.lines())
    assert ingest(root, settings, [source(media, layout="folder")]).sources["press"].renamed == {}
    set_batch_state(root, "w1", "dropped", who="ada", why="a table names them", again=True)
    ingest(root, settings, [named], batch="w2")
    assert ingest(root, settings, [named]).sources["named"].renamed == {}
    assert read_manifest(root / "data/raw/w2").set_index("path")["identity"].to_dict() == {"real/r0.jpg": "ann", "real/r1.jpg": "", "real/r2.jpg": "ann"}
    assert ingest(root, settings, [source(media, layout="folder")]).sources["press"].renamed == {}, "who names nobody contradicts nobody"


def test_a_name_that_may_be_another_spelling_of_a_person_is_told_once(root: Path, settings: Settings, media: Path) -> None:
    """A column of whole numbers in which one is missing is written 7.0, and half of the people whose names differ so stood on two sides."""
    table, header = media / "labels.csv", "path,label,identity,donor\n"
    table.write_text(f"{header}real/r0.jpg,real,Ana Lee,\nreal/r1.jpg,real,7,\nfake/gan/f0.jpg,fake,Ana Lee,bob\n")
    assert ingest(root, settings, [source(media)], batch="w1").conflicts == []
    for number in (3, 4, 5):
        photo(media / "real" / f"r{number}.jpg", 60 + number)
    week = f"{header}real/r2.jpg,real,ana  lee,\nfake/gan/f1.jpg,fake,7.0,ana  lee\nreal/r3.jpg,real,cy,\nreal/r4.jpg,real,Cy,\n"
    table.write_text(week)
    told = ingest(root, settings, [source(media)], batch="w2")
    so = "two spellings are two people, on two sides perhaps"
    mend = "If they are one, mend the source, then vigil batches drop w2 --again and ingest again"
    assert told.added == 4 and [line for line in told.lines() if "conflict" in line] == [
        f"  conflict: '7.0' (1 files) may be '7' of batch w1: {so}. {mend}",
        f"  conflict: 'ana  lee' (2 files) may be 'Ana Lee' of batch w1: {so}. {mend}",
        f"  conflict: 'Cy' (1 files) may be 'cy': {so}. {mend}",
    ]
    assert read_json(root / "data/raw/w2/summary.json")["conflicts"] == 3, "no names: an erasure would not find them"
    table.write_text(f"{week}real/r5.jpg,real,ana  lee,\n")
    again = ingest(root, settings, [source(media)], batch="w3")
    assert (again.added, again.conflicts) == (1, [])
    for batch in ("w2", "w3"):
        set_batch_state(root, batch, "dropped", who="ada", why="names", again=True)
    table.write_text(f"{week}real/r5.jpg,real,ana  lee,\n".replace("ana  lee", "Ana Lee").replace("7.0", "7").replace("Cy", "cy"))
    mended = ingest(root, settings, [source(media)], batch="w4")
    assert (mended.added, mended.conflicts) == (5, [])


def test_the_names_of_many_people_are_not_compared_each_with_each() -> None:
    known = Known()
    for number in range(200_000):
        known.name(f"Person {number}", "w1")
    told = known.spelled_alike(({"identity": f"person {number}", "donor": ""} for number in range(100_000, 300_000)), "w2")
    assert len(told) == 100_000  # each with each would take hours


@pytest.mark.parametrize(
    ("name", "other", "alike"),
    [
        ("Ana Lee", " ANA\u00a0 lee", True), ("4", "4.0", True), ("071", "71", True), ("0", "0.0", True), ("STRASSE", "Straße", True), ("ﬁn", "fin", True),
        ("4", "40", False), ("4.5", "4", False), ("0.0.7", "7", False), ("ana lee", "analee", False), ("p4", "p4.0", False), ("p07", "p7", False),
    ],
)  # fmt: skip
def test_how_a_name_is_spelled(name: str, other: str, alike: bool) -> None:
    assert (spelling(name) == spelling(other)) is alike


def test_a_name_stands_before_none_for_the_same_content(root: Path, settings: Settings, media: Path) -> None:
    shutil.copy(media / "real" / "r0.jpg", media / "a.jpg")
    (media / "labels.csv").write_text("path,label,identity\na.jpg,real,\nreal/r0.jpg,real,ann\nreal/r1.jpg,real,bob\n")
    assert ingest(root, settings, [source(media)], batch="w1").copies == 1
    assert sorted(read_manifest(root / "data/raw/w1")["identity"]) == ["ann", "bob"]


def test_copies_in_one_table_say_together_what_is_known_and_are_heard_where_they_name_others(root: Path, settings: Settings, media: Path) -> None:
    """Which of two names stayed was a matter of the file's, without a word; of a generator that only the second copy named nothing stayed."""
    for copy, of in (("b.jpg", "real/r0.jpg"), ("z.jpg", "fake/gan/f0.jpg"), ("n.jpg", "real/r1.jpg")):
        shutil.copy(media / of, media / copy)
    (media / "labels.csv").write_text(
        "path,label,identity,donor,generator,source_video,method,compression,licence,consent,attributes\n"
        "b.jpg,real,q1,,,,,,,,\nreal/r0.jpg,real,q0,,,r0.mp4,,c23,cc0,written,Male\nreal/r1.jpg,real,q1,,,,,,,,\n"
        "fake/gan/f0.jpg,fake,p1,p9,,,,,,,\nz.jpg,fake,p2,p9,swap,s.mp4,blend,,,,\nn.jpg,,,,swap,,,,,,Old\n"
    )
    report = ingest(root, settings, [source(media)], batch="w1")
    assert (report.added, report.copies) == (3, 3)
    assert report.conflicts == [
        "real/r0.jpg has identity q0 here; b.jpg, the same content, q1, which stands",
        "z.jpg has identity p2 here; fake/gan/f0.jpg, the same content, p1, which stands",
    ]
    assert any(line == f"  conflict: {report.conflicts[0]}" for line in report.lines())
    assert read_json(root / "data/raw/w1/summary.json")["conflicts"] == 2, "a number alone: an erasure would not find names here"
    columns = ["identity", "donor", "generator", "source_video", "method", "compression", "licence", "consent", "attributes"]
    rows = read_manifest(root / "data/raw/w1").set_index("path")[columns]
    assert rows.loc["b.jpg"].tolist() == ["q1", "", "", "r0.mp4", "", "c23", "cc0", "written", "Male"]
    assert rows.loc["fake/gan/f0.jpg"].tolist() == ["p1", "p9", "swap", "s.mp4", "blend", "", "", "", ""]
    assert rows.loc["real/r1.jpg"].tolist() == ["q1", "", "", "", "", "", "", "", "Old"], "a real has no generator"
    again = ingest(root, settings, [source(media)])
    assert (again.known, again.conflicts, again.sources["press"].reworded) == (6, [], {})


def test_a_copy_that_comes_later_and_names_somebody_else_is_heard_once(root: Path, settings: Settings, media: Path) -> None:
    """Beside the first it was a conflict, a week later nothing: the other name of the person was lost in silence."""
    table = media / "labels.csv"
    first = "path,label,identity,generator\nreal/r0.jpg,real,ann,\nreal/r1.jpg,real,,\nfake/gan/f0.jpg,fake,cy,gan\n"
    table.write_text(first)
    ingest(root, settings, [source(media)], batch="w1")
    for copy, of in (("a.jpg", "real/r0.jpg"), ("b.jpg", "real/r1.jpg"), ("c.jpg", "fake/gan/f0.jpg"), ("d.jpg", "real/r0.jpg")):
        shutil.copy(media / of, media / copy)
    table.write_text(f"{first}a.jpg,real,bob,\nb.jpg,real,dee,\nc.jpg,fake,cy,swap 50%\nd.jpg,real,ann,\n")
    later = ingest(root, settings, [source(media)])
    assert (later.added, later.known, later.conflicts) == (0, 7, [
        "a.jpg has identity bob here; real/r0.jpg, the same content, ann in batch w1, which stands",
        "b.jpg has identity dee here; real/r1.jpg, the same content, none in batch w1, which stands",
        "c.jpg has generator swap 50% here; fake/gan/f0.jpg, the same content, gan in batch w1, which stands",
    ])  # fmt: skip
    assert ingest(root, settings, [source(media)]).conflicts == []


def test_labels_for_many_known_files_read_the_manifest_of_their_batch_once(
    root: Path, settings: Settings, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read anew for every file."""
    import pipelines.ingest as room

    read: list[Path] = []

    def counted(folder: Path) -> Any:
        read.append(folder)
        return read_manifest(folder)

    table = media / "labels.csv"
    table.write_text("path,label,identity\nreal/r0.jpg,,ann\nreal/r1.jpg,,bob\nreal/r2.jpg,,cy\n")
    ingest(root, settings, [source(media)], batch="w1")
    table.write_text("path,label\nreal/r0.jpg,real\nreal/r1.jpg,real\nreal/r2.jpg,real\n")
    monkeypatch.setattr(room, "read_manifest", counted)
    assert ingest(root, settings, [source(media, identity={"rule": "file"})], batch="w2").added == 3
    assert read == [root / "data" / "raw" / "w1"]
    people = read_manifest(root / "data" / "raw" / "w2").set_index("path")["identity"]
    assert people.to_dict() == {"real/r0.jpg": "ann", "real/r1.jpg": "bob", "real/r2.jpg": "cy"}


def test_a_folder_called_erased_is_no_erasure(root: Path, settings: Settings, media: Path) -> None:
    (media / "real").rename(media / "erased")
    ingest(root, settings, [source(media, layout="folder")], batch="w1")
    page = batch_page(root, "w1")
    assert (page["samples"], page["erased"]) == (5, 0)


def test_erased_files_that_still_lie_at_their_source_are_counted_and_called_no_conflict(root: Path, settings: Settings, media: Path) -> None:
    """Each was a `conflict:` of its `use`, which docs/layouts.md says to mend in a table that is right, and nothing said that it was erased."""
    ingest(root, settings, [source(media)], batch="w1")
    init_repository(root, "")
    forget(root, {sha256_file(media / "real" / "r0.jpg"): "", sha256_file(media / "fake" / "gan" / "f0.jpg"): ""}, "ada")
    report = ingest(root, settings, [source(media)])
    assert report.added == 0 and report.sources["press"].erased == 2 and report.sources["press"].conflicts == []
    assert "  2 were erased on request and stay out; delete them at the source" in report.lines()


def test_names_of_folders_and_files_move_no_cursor_and_begin_no_line(root: Path, settings: Settings, media: Path) -> None:
    """A folder could clear the screen of whoever took it in, and a file could write a line of the report."""
    (media / "fake" / "gan").rename(media / "fake" / "gan\x1b[2J\nnew batch: none")
    photo(media / "real" / "two\x1b[31m\nnew batch: faked.jpg", 3)
    first = ingest(root, settings, [source(media)], batch="w1")
    (media / "fake" / "b").mkdir()
    shutil.copy(media / "real" / "two\x1b[31m\nnew batch: faked.jpg", media / "fake" / "b" / "again\x1b[31m\nnew batch: faked.jpg")
    again = ingest(root, settings, [source(media), source(media / "none\x1b[2J", "ill")])
    assert "2 gan\\x1b[2J\\nnew batch: none" in "\n".join(first.lines()) and len(again.conflicts) == 1 and "ill" in again.problems
    page = render_batch(batch_page(root, "w1"))
    assert "2 gan\\x1b[2J\\nnew batch: none" in page
    said = "\n".join([*first.lines(), *again.lines(), page]).split("\n")
    assert not any("\x1b" in line for line in said) and [line for line in said if line.startswith("new batch: ")] == ["new batch: w1"]
    assert any(line.startswith("  Next: ") for line in said), "a reason keeps its lines"


def test_what_cannot_be_told_of_a_batch_comes_with_what_helps(root: Path, settings: Settings, media: Path) -> None:
    """Of a damaged manifest the page said that it was not here, and to pull, which passes over a folder that is."""
    ingest(root, settings, [source(media)], batch="w1")
    folder = root / "data/raw/w1"
    (folder / "manifest.parquet").write_bytes(b"PAR1")
    assert "What it holds cannot be told: " in (page := render_batch(batch_page(root, "w1"))) and "move its folder away" in page
    shutil.rmtree(folder)
    assert (page := render_batch(batch_page(root, "w1"))).endswith("is not on this machine\nNext: Run `vigil doctor --pull`.")


def test_one_content_with_two_labels_in_one_source_is_quarantined(root: Path, settings: Settings, media: Path) -> None:
    shutil.copy(media / "real" / "r0.jpg", media / "fake" / "gan" / "r0.jpg")
    report = ingest(root, settings, [source(media)], batch="w1")
    assert report.added == 4 and report.quarantined == 1
    assert "two labels" in next(iter(report.by_reason)) and "r0.jpg" in next(iter(report.by_reason))
    kept = read_json(root / "data" / "raw" / "w1" / "summary.json")
    assert kept["by_reason"] == {"two labels for one content": 1}, "names of files are for who ingests: an erasure would not find them here"


def test_two_labels_that_a_table_makes_one_are_heard_and_come_in_once_their_batch_is_dropped(root: Path, settings: Settings, media: Path) -> None:
    """All were "known", without a word, and the file stayed out for ever."""
    shutil.copy(media / "real" / "r0.jpg", media / "a.jpg")
    shutil.copy(media / "real" / "r0.jpg", media / "b.jpg")
    table = media / "labels.csv"

    def says(*labels: str) -> None:
        table.write_text(
            "path,label,identity\n" + "".join(f"{name},{label},ann\n" for name, label in zip(("a.jpg", "b.jpg", "real/r1.jpg"), labels, strict=True))
        )

    says("real", "fake", "real")
    assert ingest(root, settings, [source(media)], batch="w1").quarantined == 1
    again = ingest(root, settings, [source(media)])
    assert again.conflicts == ["b.jpg is fake here, real in batch w1, where it is in quarantine: two labels for one content"]
    assert again.sources["press"].reworded == {}
    for label in ("real", "fake", ""):
        says(label, label or "fake", "real")
        mended = ingest(root, settings, [source(media)])
        assert (mended.known, mended.conflicts, mended.sources["press"].reworded) == (3, [], {"w1": {"label": 2}}), label
        assert "  to take in what is said now: vigil batches drop w1 --again, then ingest again" in mended.lines()
    other = ingest(root, settings, [source(media, "other")])
    assert other.sources["other"].reworded == {}, "another source mends nothing"
    set_batch_state(root, "w1", "dropped", who="ada", why="mended", again=True)
    assert ingest(root, settings, [source(media)], batch="w2").added == 2
    assert read_manifest(root / "data/raw/w2").set_index("path")["label"].to_dict() == {"b.jpg": "fake", "real/r1.jpg": "real"}


def test_a_label_stands_before_none_for_the_same_content_whichever_name_comes_first(root: Path, settings: Settings, media: Path) -> None:
    """A copy without a label counted as a second one: real and none."""
    shutil.copy(media / "real" / "r0.jpg", media / "a.jpg")
    shutil.copy(media / "real" / "r1.jpg", media / "z.jpg")
    (media / "labels.csv").write_text("path,label\na.jpg,\nreal/r0.jpg,real\nreal/r1.jpg,real\nz.jpg,\n")
    report = ingest(root, settings, [source(media, identity={"rule": "unknown"})], batch="w1")
    assert (report.added, report.quarantined, report.copies) == (2, 0, 2)
    assert read_manifest(root / "data" / "raw" / "w1").set_index("path")["label"].to_dict() == {"real/r0.jpg": "real", "real/r1.jpg": "real"}


def test_two_names_that_are_written_alike_are_two_files(root: Path, settings: Settings, media: Path) -> None:
    """A name that is no text, beside one that spells its bytes, kept the whole source out at each ingest; and of a folder it ended each after its batch."""
    media.symlink_to(media.rename(media.with_name(os.fsdecode(b"\xff"))))
    photo(media / "real" / "\\xff.jpg", 50)
    (media / "real" / "r1.jpg").rename(media / "real" / os.fsdecode(b"\xff.jpg"))
    (media / "real" / "r2.jpg").rename(media / "real" / "\\xff.jpg (2)")
    for _ in range(2):
        ingest(root, settings, [source(media)], batch="w1")
    (table,) = [read_manifest(folder) for folder in (root / "data" / "raw").iterdir()]
    names = set(table["path"])
    assert names > {"real/\\xff.jpg", "real/\\xff.jpg (2)", "real/\\xff.jpg (2) (2)"} and len(names) == 6


def test_the_strictest_use_of_two_copies_wins(root: Path, settings: Settings, media: Path) -> None:
    shutil.copy(media / "real" / "r0.jpg", media / "copy.jpg")
    (media / "labels.csv").write_text("path,label,use\nreal/r0.jpg,real,train\ncopy.jpg,real,evaluate\n")
    ingest(root, settings, [source(media, identity={"rule": "unknown"})], batch="w1")
    assert read_manifest(root / "data" / "raw" / "w1")["use"].tolist() == ["evaluate"]


def test_whatever_is_wrong_with_a_file_ends_as_a_reason(root: Path, settings: Settings, media: Path, sample_media: Path) -> None:
    video = next((sample_media / "real").glob("*.mp4")).read_bytes()
    (media / "real" / "empty.mp4").touch()
    (media / "real" / "also_empty.mp4").touch()
    (media / "real" / "notes.txt").write_text("nothing to see")
    (media / "real" / "cut.mp4").write_bytes(video[: len(video) // 3])
    (media / "real" / "big.mp4").write_bytes(video + bytes(200_000))
    (media / "real" / "out.mp4").symlink_to("/etc/hostname")
    small = demo_settings({"ingest": {"max_file_bytes": 150_000}})
    assert all(path.stat().st_size < 150_000 for path in media.rglob("r?.jpg"))
    report = ingest(root, small, [source(media)], batch="w1")
    assert report.added == 5
    assert report.by_reason == {"empty file": 2, "not a media file": 1, "truncated or corrupt": 1, "file too big": 1, "link leads outside the source": 1}
    table = read_manifest(root / "data" / "raw" / "w1")
    assert set(table.loc[table["quarantine"] != "", "shard"]) == {""}
    again = ingest(root, small, [source(media)])
    assert again.batches == [] and again.added == 0 and again.quarantined == 0 and again.known == 11


def test_what_could_not_be_read_or_was_too_big_comes_in_once_it_can(root: Path, settings: Settings, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_disk(path: Path) -> str:
        if path.name == "r0.jpg":
            raise OSError(errno.EIO, "Input/output error")
        return sha256_file(path)

    largest = max(media.rglob("*.jpg"), key=lambda path: path.stat().st_size)
    assert largest.name != "r0.jpg"
    small, fits = (demo_settings({"ingest": {"max_file_bytes": largest.stat().st_size - less}}) for less in (1, 0))
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "sha256_file", failing_disk)
        first = ingest(root, small, [source(media)], batch="w1")
        again = ingest(root, small, [source(media)])
    assert (first.added, first.by_reason) == (3, {"file too big": 1, "unreadable (OSError)": 1}) and (again.batches, again.known) == ([], 5)
    assert pending(root, small, [source(media)]) == 1 and pending(root, fits, [source(media)]) == 2
    assert ingest(root, fits, [source(media)], batch="w2").added == 2
    paths = read_manifest(root / "data" / "raw" / "w2")["path"]
    assert sorted(paths) == sorted(["real/r0.jpg", largest.relative_to(media).as_posix()])
    assert pending(root, settings, [source(media)]) == 0


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from media.faces import extract_clips
from pipelines.fingerprint import measure
from workspace.settings import FaceSettings
path, more = Path(sys.argv[1]), int(sys.argv[2])
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + more * 2**20, resource.RLIM_INFINITY))
found = extract_clips(path, FaceSettings())
print(measure(path, path.name, 1 << 40).problem, found.reason, len(found.clips), sep="|")
"""


@pytest.mark.parametrize(("kind", "megabytes"), [("photo", 60), ("video", 10)])
def test_a_file_that_memory_does_not_suffice_for_is_not_called_damaged(kind: str, megabytes: int, tmp_path: Path) -> None:
    """It was truncated or corrupt, for ever: the record of what was seen does not ask again after a file that is damaged."""
    path = tmp_path / ("large.jpg" if kind == "photo" else "large.mp4")
    if kind == "photo":
        cv2.imwrite(str(path), np.full((5000, 8000, 3), 90, np.uint8))
    else:
        write_video(path, [np.full((1080, 1920, 3), 90, np.uint8)] * 3)
    command = [sys.executable, "-c", SHORT_OF_MEMORY, str(path), str(megabytes)]
    said = subprocess.run(command, cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True, check=True).stdout.strip()
    assert said == f"unreadable ({NO_MEMORY})|{NO_MEMORY}|0"
    assert fingerprint.measure(path, path.name, 1 << 40).problem == ""


@pytest.mark.parametrize(("after", "back"), [("sha256_file", False), ("sha256_file", True), ("probe", False)], ids=["hashed", "a moment", "opened"])
def test_a_file_that_goes_away_while_it_is_measured_comes_in_once_it_is_back(
    after: str, back: bool, root: Path, settings: Settings, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was wrong with a share for a moment was recorded of the content, so that it never came in; or of its words, so that no copy of it was found."""
    here, away = media / "real" / "r0.jpg", media / "r0.away"
    real = getattr(fingerprint, after)

    def share_that_drops(path: Path) -> Any:
        first = path == here and not away.exists()
        if path == here and not first and back:
            away.rename(here)
        found = real(path)
        if first:
            here.rename(away)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, after, share_that_drops)
        report = ingest(root, settings, [source(media)], batch="w1")
    assert report.added == 4 and [reason.split(" (")[0] for reason in report.by_reason] == ["unreadable"], report.lines()
    if away.exists():
        away.rename(here)
    assert pending(root, settings, [source(media)]) == 1
    assert ingest(root, settings, [source(media)], batch="w2").added == 1 and pending(root, settings, [source(media)]) == 0
    (row,) = read_manifest(root / "data" / "raw" / "w2").to_dict("records")
    assert (row["sample_id"], row["quarantine"]) == (sha256_file(here), "") and row["phash"]


def test_a_file_that_a_table_names_and_that_is_gone_by_now_waits_for_nothing(root: Path, settings: Settings, media: Path) -> None:
    (media / "labels.csv").write_text("path,label\nreal/r0.jpg,real\nreal/r1.jpg,real\n")
    ingest(root, settings, [source(media, identity={"rule": "file"})], batch="w1")
    (media / "real" / "r0.jpg").unlink()
    assert pending(root, settings, [source(media, identity={"rule": "file"})]) == 0
    assert ingest(root, settings, [source(media, identity={"rule": "file"})]).known == 2


def test_a_photo_that_its_layout_barred_comes_in_once_the_tables_name_it(root: Path, settings: Settings, media: Path, tmp_path: Path) -> None:
    celeba = source(tmp_path / "celeba")
    (tmp_path / "celeba").mkdir()
    shutil.copytree(media / "real", tmp_path / "celeba" / "img_align_celeba")
    table = tmp_path / "celeba" / "list_eval_partition.txt"
    table.write_text("r0.jpg 0\nr1.jpg 0\n")
    report = ingest(root, settings, [celeba], batch="w1")
    assert (report.added, report.by_reason) == (2, {"not in list_eval_partition.txt": 1}) and pending(root, settings, [celeba]) == 0
    table.write_text("r0.jpg 0\nr1.jpg 0\nr2.jpg 0\n")
    assert pending(root, settings, [celeba]) == 1
    assert ingest(root, settings, [celeba], batch="w2").added == 1


def test_files_that_are_all_useless_make_no_batch_but_are_named_each_time(root: Path, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "m" / "real").mkdir(parents=True)
    (tmp_path / "m" / "real" / "a.mp4").write_bytes(b"not a film")
    for _ in range(2):
        report = ingest(root, settings, [source(tmp_path / "m")])
        assert report.batches == [] and report.by_reason == {"not a media file": 1}
    assert pending(root, settings, [source(tmp_path / "m")]) == 0


def test_a_copy_at_another_size_and_quality_is_a_near_duplicate_within_and_across_batches(root: Path, settings: Settings, media: Path) -> None:
    photo(media / "real" / "r0_again.jpg", 0, quality=60, scale=0.7)
    first = ingest(root, settings, [source(media)], batch="w1")
    assert first.sources["press"].near_duplicates == 1
    one = read_manifest(root / "data" / "raw" / "w1").set_index("path")
    assert one.loc["real/r0_again.jpg", "duplicate_of"] == one.loc["real/r0.jpg", "sample_id"]
    later = media.parent / "later"
    photo(later / "real" / "third.jpg", 0, quality=50, scale=0.5)
    photo(later / "real" / "other.jpg", 99)
    photo(later / "fake" / "gan" / "claims_otherwise.jpg", 1, quality=70)
    ingest(root, settings, [source(later, "later")], batch="w2")
    two = read_manifest(root / "data" / "raw" / "w2").set_index("path")["duplicate_of"].to_dict()
    assert two == {"real/third.jpg": one.loc["real/r0.jpg", "sample_id"], "real/other.jpg": "", "fake/gan/claims_otherwise.jpg": ""}


def test_a_re_encoded_video_is_a_near_duplicate(root: Path, settings: Settings, sample_media: Path, tmp_path: Path) -> None:
    from media.decode import probe, read_frames
    from media.synthetic.camera import encode_h264

    original = sorted((sample_media / "real").glob("*.mp4"))[0]
    info = probe(original)
    frames = [cv2.resize(frame, (160, 160), interpolation=cv2.INTER_AREA) for _, frame in read_frames(original, [n / info.fps for n in range(info.frames)])]
    ingest(root, settings, [source(sample_media)], batch="w1")
    (tmp_path / "copy" / "real").mkdir(parents=True)
    encode_h264(tmp_path / "copy" / "real" / "copy.mp4", frames, info.fps, 30, "fast")
    ingest(root, settings, [source(tmp_path / "copy", "copy")], batch="w2")
    assert read_manifest(root / "data" / "raw" / "w2")["duplicate_of"].tolist() == [sha256_file(original)]


@pytest.mark.parametrize(("name", "kind"), [("a.AVIF", "image"), ("a.heif", "image"), ("a.jfif", "image"), ("a.flv", "video"), ("a.gif", "video")])
def test_a_file_with_a_medium_s_name_that_holds_none_is_no_note(root: Path, settings: Settings, tmp_path: Path, name: str, kind: str) -> None:
    """Three lists of names stood beside each other: an empty `a.avif` was passed over by a score, and recorded as a video."""
    (tmp_path / "one" / "real").mkdir(parents=True)
    (tmp_path / "one" / "real" / name).touch()
    photo(tmp_path / "one" / "real" / "good.jpg", 1)
    (batch,) = ingest(root, settings, [source(tmp_path / "one")]).batches
    table = read_manifest(root / "data" / "raw" / batch).set_index("path")
    assert table.loc[f"real/{name}", ["kind", "quarantine"]].tolist() == [kind, EMPTY]
    assert not is_beside(Path(name), EMPTY) and not is_beside(Path(name), NOT_MEDIA)
    assert is_beside(Path("labels.csv"), NOT_MEDIA) and is_beside(Path("notes.txt"), EMPTY)


def test_a_source_out_of_reach_is_a_reason_and_the_others_come_in(root: Path, settings: Settings, media: Path) -> None:
    missing, nobodys = source(media.parent / "unplugged", "disk"), SourceSettings(name="home", path="~nobody-is-called-so/media")
    report = ingest(root, settings, [missing, nobodys, source(media)])
    assert report.added == 5 and "unplugged" in report.problems["disk"] and "~nobody-is-called-so" in report.problems["home"]
    assert any(line.startswith("disk: nothing taken in") for line in report.lines())
    assert pending(root, settings, [missing, nobodys]) == 0


def test_a_relative_source_is_of_the_workspace_wherever_the_caller_stands(
    root: Path, settings: Settings, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its share was not mounted, a folder of that name where the caller stood was taken in as this source, under its labels and without a word."""
    weekly, here = source(Path("incoming"), "weekly"), tmp_path / "here"
    photo(here / "incoming" / "real" / "other.jpg", 99)
    monkeypatch.chdir(here)
    assert pending(root, settings, [weekly], problems := {}) == 0 and str(root / "incoming") in problems["weekly"]
    report = ingest(root, settings, [weekly])
    assert report.added == 0 and isinstance(report.refused["weekly"], NotNow) and str(root / "incoming") in report.problems["weekly"]
    shutil.copytree(media, root / "incoming")
    assert pending(root, settings, [weekly]) == 5 and ingest(root, settings, [weekly]).added == 5


def test_a_source_that_cannot_be_understood_is_a_reason_alone_and_among_others(root: Path, settings: Settings, media: Path) -> None:
    (media.parent / "bad" / "videos").mkdir(parents=True)
    bad = source(media.parent / "bad", "bad")
    alone = ingest(root, settings, [bad])
    assert alone.batches == [] and alone.sources == {} and list(alone.refused) == ["bad"] and not isinstance(alone.refused["bad"], NotNow)
    report = ingest(root, settings, [bad, source(media)])
    assert report.added == 5 and "real" in report.problems["bad"]
    assert len(report.batches) == 1


def test_a_column_rule_needs_a_column(root: Path, settings: Settings, media: Path) -> None:
    assert "column `identity`" in ingest(root, settings, [source(media, identity={"rule": "column"})]).problems["press"]
    assert Journal(root).events() == []


def test_a_table_is_asked_who_is_in_its_files_however_it_is_named(root: Path, settings: Settings, tmp_path: Path) -> None:
    """`labels.csv` was refused; the same table by its folder, as JSON or in params.yaml made each file a person, and one person could stand on both sides."""
    folder = tmp_path / "set"
    for seed in (1, 2):
        photo(folder / f"{seed}.jpg", seed)
    (folder / "labels.csv").write_text("path,label\n1.jpg,real\n2.jpg,real\n")
    (folder / "set.json").write_text(json.dumps([{"path": f"{seed}.jpg", "label": "real"} for seed in (1, 2)]))
    ways = [folder / "labels.csv", folder, folder / "set.json"]
    unsaid = [named_sources([str(path)], "auto", "", "", [])[0] for path in ways]
    for one in [*unsaid, source(folder)]:
        assert "no column `identity`" in ingest(root, settings, [one]).problems[one.name]
    assert Journal(root).events() == []
    said = named_sources([str(folder)], "auto", "file", "", [])[0]
    assert ingest(root, settings, [said]).sources["set"].identities == 2
    (folder / "labels.csv").write_text("path,label,identity\n3.jpg,real,ann\n4.jpg,real,ann\n")
    for seed in (3, 4):
        photo(folder / f"{seed}.jpg", seed)
    assert ingest(root, settings, unsaid[:1]).sources["set"].identities == 1


def test_media_of_a_folder_that_its_table_does_not_name_are_counted(root: Path, settings: Settings, media: Path) -> None:
    """What was dropped into real/ of a folder with a table was "0 new" for ever, without a word."""
    (media / "labels.csv").write_text("path,label,identity\nreal/r0.jpg,real,ann\nreal/../real/r1.jpg,real,bob\nreal/gone.jpg,real,cy\n")
    for beside in ("notes.txt", "real/.r2.jpg"):
        (media / beside).touch()
    for new, known in ((2, 0), (0, 3)):
        told = ingest(root, settings, [source(media)])
        assert (told.added, told.known) == (new, known)
        assert "  3 photos and videos of the folder are not named in its labels.csv; passed over" in told.lines()
        assert told.as_dict()["sources"]["press"]["unlisted"] == 3
    assert ingest(root, settings, [source(media / "labels.csv")]).sources["press"].unlisted == 0, "a table on its own may lie beside much else"


def test_half_a_character_in_one_table_stops_no_other_source(root: Path, settings: Settings, media: Path, tmp_path: Path) -> None:
    """An emoji that a program had cut in two, in one JSON table, ended the ingest of all sources as a mistake in Vigil."""
    table = tmp_path / "cut.json"
    table.write_text(
        '[{"path": "a.mp4", "label": "real", "identity": "ana", "note": "\\ud83d"}, {"path": "b.mp4", "label": "real", "identity": "ana \\ud83d"}]'
    )
    sources, problems = [source(table, "cut"), source(media, "good")], dict[str, str]()
    assert pending(root, settings, sources, problems) > 0 and "entry 2: half a character in its identity" in problems["cut"]
    report = ingest(root, settings, sources)
    assert report.problems.keys() == {"cut"} and report.sources["good"].added > 0


def test_a_file_that_a_table_names_by_way_of_a_linked_folder_is_no_other(tmp_path: Path) -> None:
    """The file came in, and was told to be passed over at the place to which the link leads."""
    photo(tmp_path / "store/a.jpg", 1)
    photo(tmp_path / "store/b.jpg", 2)
    (tmp_path / "videos").symlink_to("store")
    (tmp_path / "labels.csv").write_text("path,label\nvideos/a.jpg,real\n")
    listing = read_layout(source(tmp_path), tmp_path)
    assert [found.problem for found in listing.files] == [""] and listing.unlisted == 1, "b.jpg alone"


def test_without_its_manifests_a_workspace_takes_nothing_in_twice(root: Path, settings: Settings, media: Path) -> None:
    ingest(root, settings, [source(media)], batch="w1")
    (root / "data" / "raw" / "w1" / "manifest.parquet").unlink()
    with pytest.raises(WorkspaceError, match="doctor --pull"):
        ingest(root, settings, [source(media)])


def test_the_same_files_give_the_same_bytes(tmp_path: Path, settings: Settings, media: Path) -> None:
    for name in ("one", "two"):
        ingest(tmp_path / name, settings, [source(media)], batch="w1")
    one, two = (sorted((tmp_path / name / "data" / "raw" / "w1").iterdir()) for name in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two] == ["manifest.parquet", "media-000.tar", "summary.json"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


KILLED = """
import sys, os, signal
from pathlib import Path
sys.path.insert(0, {code!r})
import pipelines.ingest as room
from tests.pipelines.small_world import demo_settings
from workspace.settings import SourceSettings

def die(*arguments, **more):
    os.kill(os.getpid(), signal.SIGKILL)

{plan}
room.ingest(Path({root!r}), demo_settings(), [SourceSettings(name="press", path={media!r})], batch="w1")
"""
MOMENTS = {
    "while the media are packed": "kept = room.write_media\ndef half(to, files, *more):\n    kept(to, list(files)[:2], *more); die()\nroom.write_media = half",
    "before the rename": "room.os.rename = die",
    "between the rename and the journal": "room._journal_batch = die",
    "before the cache is written": "room.Seen.save = die",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_leaves_nothing_half_taken(moment: str, root: Path, settings: Settings, media: Path) -> None:
    code = KILLED.format(code=str(ROOT), plan=MOMENTS[moment], root=str(root), media=str(media))
    done = subprocess.run([sys.executable, "-c", code], cwd=root.parent, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    whole = [path.name for path in (root / "data" / "raw").glob("*")] if (root / "data" / "raw").exists() else []
    for name in whole:
        assert len(read_manifest(root / "data" / "raw" / name)) == 5
    report = ingest(root, settings, [source(media)], batch="w1")
    journalled = moment == "before the cache is written"
    assert report.batches == ([] if journalled else ["w1"]) and report.left == report.batches[: len(whole)], "who waits for the batch's name is told it"
    assert [path.name for path in (root / "data" / "raw").iterdir()] == ["w1"]
    table = read_manifest(root / "data" / "raw" / "w1")
    assert len(table) == 5
    for row in table.to_dict("records"):
        read_media(root / "data" / "raw" / "w1", row["shard"], row["offset"], row["bytes"], row["sample_id"])
    added = [event for event in Journal(root).events() if event.kind == "batch_added"]
    assert [(event["batch"], event["samples"]) for event in added] == [("w1", 5)]
    assert not list((root / ".vigil").glob("unfinished/ingest/*")) and pending(root, settings, [source(media)]) == 0


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another disk than the tests' own."""
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no other disk")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_batch_moves_to_another_disk_whole_or_not_at_all(root: Path, settings: Settings, media: Path, tmp_path: Path, other_disk: Path) -> None:
    """With `.vigil` or `data/` on a disk of its own every ingest read and packed all, and then ended with advice that did not fit, for ever."""
    root.mkdir()
    (root / ".vigil").symlink_to(other_disk)
    ingest(tmp_path / "plain", settings, [source(media)], batch="w1")
    plan = "import workspace.files\nworkspace.files.sync_folder = die"  # copied, and not named yet
    code = KILLED.format(code=str(ROOT), plan=plan, root=str(root), media=str(media))
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == -signal.SIGKILL
    assert bytes_below(root / "data" / "raw") and manifests(root) == []
    assert ingest(root, settings, [source(media)], batch="w2").batches == ["w2"], "a batch that was begun may get another name, as of another day"
    assert [path.name for path in (root / "data" / "raw").iterdir()] == ["w2"] and not list(other_disk.glob("unfinished/ingest/*"))
    tars = [{name: content for name, content in bytes_below(folder).items() if name.endswith(".tar")} for folder in (root, tmp_path / "plain")]
    assert [*tars[0].values()] == [*tars[1].values()] and tars[0]


def bytes_below(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("piece", "done"), [("press", 3), ("looking for copies", 6), ("packing", 4), ("packing", 7)])
def test_a_stopped_ingest_goes_on_and_takes_in_what_one_without_a_stop_does(
    piece: str, done: int, root: Path, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days of reading and comparing were lost by one Ctrl-C."""
    for number in range(3):
        photo(media / "real" / f"again{number}.jpg", number, quality=60)  # each a copy
    settings = demo_settings({"ingest": {"shard_bytes": 25_000}})
    ingest(tmp_path / "whole", settings, [source(media)], batch="w1")
    wanted = bytes_below(tmp_path / "whole" / "data" / "raw" / "w1")
    assert len(wanted) > 3 and sum(map(bool, read_manifest(tmp_path / "whole" / "data" / "raw" / "w1")["duplicate_of"])) == 3
    at_work: dict[str, list[str]] = {"measure": [], "compare": [], "pack": []}

    def noted(what: str, function: Callable[..., Any], named: Callable[..., str]) -> Callable[..., Any]:
        def call(*words: Any, **named_words: Any) -> Any:
            at_work[what].append(named(*words))
            return function(*words, **named_words)

        return call

    for what, module, name, named in (
        ("measure", pipelines.ingest, "measure", lambda path, *_: path.name),
        ("compare", pipelines.known, "_same", lambda mine, new, other, *_: f"{new.sample_id} {other.sample_id}"),
        ("pack", workspace.manifest, "_add_member", lambda handle, sample_id, path: sample_id),
    ):
        monkeypatch.setattr(module, name, noted(what, getattr(module, name), named))

    def stop(number: int, total: int, told: str = "") -> None:
        if (told, number) == (piece, done):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(root, settings, [source(media)], batch="w1", progress=stop)
    assert not (root / "data" / "raw").exists() and not Journal(root).events()
    before = {what: list(names) for what, names in at_work.items()}
    report = ingest(root, settings, [source(media)], batch="w1")
    assert report.batches == ["w1"] and bytes_below(root / "data" / "raw" / "w1") == wanted
    assert not (root / ".vigil" / "unfinished").exists() or not list((root / ".vigil" / "unfinished").rglob("*.*"))
    again = {what: [name for name in names[len(before[what]) :] if name in before[what]] for what, names in at_work.items()}
    assert len(at_work["measure"]) - len(before["measure"]) == (8 - done if piece == "press" else 0)
    assert len(again["compare"]) <= 1 and len(again["pack"]) <= len(before["pack"]) // 2, again


def test_what_a_stopped_ingest_found_counts_for_the_same_file_in_the_same_place_alone(root: Path, settings: Settings, media: Path, tmp_path: Path) -> None:
    def stop(number: int, total: int, told: str = "") -> None:
        if told == "packing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(root, settings, [source(media)], batch="w1", progress=stop)
    found = root / ".vigil" / "unfinished" / "ingest" / "press" / "found.jsonl"
    found.write_text(found.read_text()[:-20] + "}\n[1]\n3")  # a kill cut the last line short, and a disk wrote nonsense
    photo(media / "real" / "r0.jpg", 99)
    (media / "fake" / "gan" / "f1.jpg").unlink()
    moved = media.rename(tmp_path / "moved")
    ingest(root, settings, [source(moved)], batch="w1")
    ingest(tmp_path / "whole", settings, [source(moved)], batch="w1")
    assert bytes_below(root / "data" / "raw") == bytes_below(tmp_path / "whole" / "data" / "raw")


def test_a_file_that_changes_without_a_new_time_stamp_holds_its_source_up_once(root: Path, settings: Settings, media: Path) -> None:
    """Written by way of memory, as a download is: what was found of it before its last piece came stood for ever."""
    last = sorted(media.rglob("*.jpg"))[-1]
    last.write_bytes(last.read_bytes() + bytes(8))
    with open(last, "r+b") as handle, mmap.mmap(handle.fileno(), 0) as pages:
        pages[-1] = 1
        stamp = stamp_of(last)

        def finish(number: int, total: int, told: str = "") -> None:
            if (told, number) == ("press", total):
                pages[-1] = 2

        report = ingest(root, settings, [source(media)], batch="w1", progress=finish)
        assert "changed while it was taken in" in report.problems["press"] and stamp_of(last) == stamp
        assert ingest(root, settings, [source(media)], batch="w1").batches == ["w1"]


def test_an_ingest_that_goes_on_keeps_to_a_limit_that_was_lowered_meanwhile(root: Path, settings: Settings, media: Path) -> None:
    def stop(number: int, total: int, told: str = "") -> None:
        if told == "packing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(root, settings, [source(media)], progress=stop)
    assert ingest(root, demo_settings({"ingest": {"max_file_bytes": 1000}}), [source(media)]).by_reason == {TOO_BIG: 5}


@pytest.mark.slow
def test_a_kill_at_any_time_leaves_nothing_half_taken(root: Path, settings: Settings, sample_media: Path) -> None:
    code = KILLED.format(code=str(ROOT), plan="print('go', flush=True)", root=str(root), media=str(sample_media))
    for delay in (0.05, 0.2, 0.4):
        with subprocess.Popen([sys.executable, "-c", code], cwd=root.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    ingest(root, settings, [source(sample_media)], batch="w1")
    states = batch_states(Journal(root).events())
    assert list(states) == ["w1"] == os.listdir(root / "data" / "raw")
    assert states["w1"].rows == len(read_manifest(root / "data" / "raw" / "w1")) == 18


@pytest.fixture
def bucket() -> Iterator[tuple[Any, str]]:
    """A real S3 server in this process, one bucket."""
    with s3_server("media") as (endpoint, client):
        yield client, endpoint


def test_an_s3_prefix_comes_in_once(root: Path, media: Path, bucket) -> None:  # type: ignore[no-untyped-def]
    client, endpoint = bucket
    settings = demo_settings({"ingest": {"s3_endpoint_url": endpoint}})
    remote = source(Path("x"), "cloud").model_copy(update={"path": "s3://media/press"})

    def upload(path: Path) -> None:
        client.upload_file(str(path), "media", f"press/{path.relative_to(media).as_posix()}")

    for path in media.rglob("*.jpg"):
        upload(path)
    client.put_object(Bucket="media", Key="press-old/real/x.jpg", Body=b"not ours")
    assert pending(root, settings, [remote]) == 5
    report = ingest(root, settings, [remote], batch="w1")
    assert report.added == 5 and report.quarantined == 0
    assert sorted(read_manifest(root / "data" / "raw" / "w1")["path"]) == sorted(path.relative_to(media).as_posix() for path in media.rglob("*.jpg"))
    assert not (root / ".vigil" / "incoming" / "cloud").exists()
    assert pending(root, settings, [remote]) == 0
    assert ingest(root, settings, [remote]).batches == []
    upload(photo(media / "real" / "late.jpg", 55))
    assert pending(root, settings, [remote]) == 1
    assert ingest(root, settings, [remote], batch="w2").added == 1
    set_batch_state(root, "w1", "dropped", who="ada", why="mended", again=True)
    assert pending(root, settings, [remote]) == 5 and ingest(root, settings, [remote]).added == 5 and pending(root, settings, [remote]) == 0


def test_an_s3_table_is_read_again_with_what_was_added_to_it(root: Path, media: Path, bucket) -> None:  # type: ignore[no-untyped-def]
    client, endpoint = bucket
    settings = demo_settings({"ingest": {"s3_endpoint_url": endpoint, "max_file_bytes": 150_000}})
    remote = source(Path("x"), "cloud").model_copy(update={"path": "s3://media/press/"})
    client.upload_file(str(media / "real" / "r0.jpg"), "media", "press/a.jpg")
    client.put_object(Bucket="media", Key="press/huge.jpg", Body=bytes(160_000))
    client.put_object(Bucket="media", Key="press/labels.csv", Body=b"path,label,identity\na.jpg,real,anna\nhuge.jpg,real,bert\n")
    first = ingest(root, settings, [remote], batch="w1")
    assert first.added == 1 and first.by_reason == {"file too big": 1}
    client.upload_file(str(media / "real" / "r1.jpg"), "media", "press/b.jpg")
    client.put_object(Bucket="media", Key="press/labels.csv", Body=b"path,label,identity\na.jpg,real,anna\nhuge.jpg,real,bert\nb.jpg,fake,bert\n")
    second = ingest(root, settings, [remote], batch="w2")
    assert (second.added, second.quarantined) == (1, 0)
    assert read_manifest(root / "data" / "raw" / "w2")[["path", "label", "identity"]].values.tolist() == [["b.jpg", "fake", "bert"]]


def test_what_an_s3_table_says_later_of_objects_that_were_looked_at_comes_in(root: Path, media: Path, bucket) -> None:  # type: ignore[no-untyped-def]
    client, endpoint = bucket
    settings = demo_settings({"ingest": {"s3_endpoint_url": endpoint}})
    remote = source(Path("x"), "cloud", identity={"rule": "file"}).model_copy(update={"path": "s3://media/press"})

    def says(text: str) -> None:
        client.put_object(Bucket="media", Key="press/labels.csv", Body=f"path,label\n{text}".encode())

    for number, name in enumerate("abc"):
        client.upload_file(str(media / "real" / f"r{number}.jpg"), "media", f"press/{name}.jpg")
    says("./a.jpg,\nb.jpg,real\n")
    assert ingest(root, settings, [remote], batch="w1").added == 2
    says("./a.jpg,fake\nb.jpg,fake\nc.jpg,real\n")
    report = ingest(root, settings, [remote], batch="w2")
    assert (report.added, report.known, report.quarantined) == (2, 1, 0) and report.conflicts == ["b.jpg is fake here, real in batch w1"]
    folder = root / "data" / "raw" / "w2"
    rows = {row["path"]: row for row in read_manifest(folder).to_dict("records")}
    assert {name: row["label"] for name, row in rows.items()} == {"a.jpg": "fake", "c.jpg": "real"}
    for row in rows.values():
        read_media(folder, row["shard"], row["offset"], row["bytes"], row["sample_id"])
    assert pending(root, settings, [remote]) == 0
    again = ingest(root, settings, [remote])
    assert (again.batches, again.known, again.quarantined) == ([], 3, 0)


def test_frames_of_deepfakebench_on_s3_come_in_once_beside_new_ones(root: Path, media: Path, bucket) -> None:  # type: ignore[no-untyped-def]
    client, endpoint = bucket
    settings = demo_settings({"ingest": {"s3_endpoint_url": endpoint}})
    remote = source(Path("x"), "cloud").model_copy(update={"path": "s3://media/bench"})

    def publish(count: int) -> None:
        videos = {f"v{number}": {"label": "UADFV_Real", "frames": [f"UADFV\\real\\v{number}\\0.jpg"]} for number in range(count)}
        for number in range(count):
            client.upload_file(str(media / "real" / f"r{number}.jpg"), "media", f"bench/rgb/UADFV/real/v{number}/0.jpg")
        client.put_object(Bucket="media", Key="bench/dataset_json/UADFV.json", Body=json.dumps({"UADFV": {"UADFV_Real": {"train": videos}}}).encode())

    publish(2)
    assert ingest(root, settings, [remote], batch="w1").added == 2
    again = ingest(root, settings, [remote])
    assert (again.batches, again.known) == ([], 2)
    publish(3)
    report = ingest(root, settings, [remote], batch="w2")
    assert (report.added, report.known, report.quarantined) == (1, 2, 0)
    assert read_manifest(root / "data" / "raw" / "w2")["path"].tolist() == ["rgb/UADFV/real/v2/0.jpg"]


def test_an_object_store_that_does_not_answer_is_a_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(key, value)
    settings = demo_settings({"ingest": {"s3_endpoint_url": "http://127.0.0.1:9"}})
    remote = source(Path("x"), "cloud").model_copy(update={"path": "s3://media/press"})
    report = ingest(root, settings, [remote])
    assert report.batches == [] and "s3://media/press" in report.problems["cloud"]
    assert pending(root, settings, [remote]) == 0
