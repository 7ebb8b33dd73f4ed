"""A copy is found however it was changed, is kept, and never trains; another take of the same person is no copy."""

import os
import struct
import warnings
from itertools import permutations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipelines.known
from benchmarks.duplicates import changed, clip_of, write_clip
from media.decode import probe
from media.synthetic.sample import make_sample_media
from pipelines import faces
from pipelines.fingerprint import mirrored, perceptual_hash, words_of
from pipelines.hashindex import HashIndex
from pipelines.ingest import ingest
from pipelines.lookalike import likeness, open_recording
from pipelines.neighbours import Neighbours
from pipelines.sides import DUPLICATE, OTHER_LOOK, decide_sides, split_of
from pipelines.validate import judge
from tests.media.videos import write_video
from tests.pipelines.small_world import demo_settings
from tests.pipelines.test_ingest import photo, source
from workspace.batches import set_batch_state
from workspace.files import read_json, sha256_file
from workspace.for_review import waiting_samples
from workspace.manifest import read_manifest

SETTINGS = demo_settings()
WORD = st.integers(0, 2**64 - 1)
CHANGES = ("mirror", "crop", "trim", "crf35", "mirror+crop", "crop+trim")


@settings(deadline=None, max_examples=40)
@given(st.lists(WORD, max_size=12), st.lists(st.tuples(st.integers(0, 11), st.lists(st.integers(0, 63), max_size=10)), max_size=12), WORD, st.integers(0, 8))
def test_the_index_finds_what_comparing_all_pairs_finds(words: list[int], changes: list[tuple[int, list[int]]], stranger: int, bits: int) -> None:
    known = np.array(words, np.uint64)
    asked = [stranger, *(words[place % len(words)] ^ sum(1 << bit for bit in set(flipped)) for place, flipped in changes if words)]
    queries = np.array(asked, np.uint64)
    expected = np.nonzero(np.bitwise_count(queries[:, None] ^ known[None]) <= bits)
    found = HashIndex(known).near(queries, bits)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(WORD, min_size=1, max_size=4), min_size=1, max_size=6), st.integers(0, 6))
def test_only_earlier_files_are_candidates_and_a_mirrored_one_is_found(files: list[list[int]], before: int) -> None:
    signatures = [np.array(words, np.uint64) for words in files]
    neighbours = Neighbours().plus(signatures)
    for number, words in enumerate(signatures):
        for asked in (words, mirrored(words)):
            found = neighbours.of(asked, before, 5)
            assert (number in found) == (number < before) and all(other < before for other in found)
    assert Neighbours().plus([]).of(signatures[0], 0, 5) == [] and neighbours.of(np.empty(0, np.uint64), 6, 5) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=4), max_size=9), st.lists(st.integers(0, 3), max_size=6), st.integers(0, 40))
def test_files_that_came_in_pieces_are_found_as_if_they_had_come_at_once(pieces: list[list[list[int]]], asked: list[int], before: int) -> None:
    signatures = [[np.array(words, np.uint64) for words in piece] for piece in pieces]
    grown, earlier = Neighbours(), []
    for piece in signatures:
        earlier.append((grown, grown.of(np.array(asked, np.uint64), before, 1)))
        grown = grown.plus(piece)
    whole = Neighbours().plus([words for piece in signatures for words in piece])
    assert grown.files == whole.files and grown.of(np.array(asked, np.uint64), before, 1) == whole.of(np.array(asked, np.uint64), before, 1)
    for one, found in earlier:  # stays as it was when another grew out of it
        assert one.of(np.array(asked, np.uint64), before, 1) == found


def test_the_words_of_a_mirrored_picture_are_the_mirrored_words(takes: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    picture = clip_of(_clips(takes)[0])[0][5]
    cv2.imwrite(str(one), picture)
    cv2.imwrite(str(two), np.ascontiguousarray(picture[:, ::-1]))
    words, of_mirrored = (words_of(perceptual_hash(path, probe(path))) for path in (one, two))
    assert len(words) > 4 and (mirrored(mirrored(words)) == words).all()
    near = [(np.bitwise_count(ours[:, None] ^ of_mirrored).min(1) <= 5).mean() for ours in (mirrored(words), words)]
    assert near[0] > 0.4 and near[1] < 0.2


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two takes of each of two people before their own walls, 3 s each, with a table."""
    folder = tmp_path_factory.mktemp("takes")
    make_sample_media(folder, people=2, clips_per_person=2, seconds=3.0, seed=5, fakes={}, size_px=192, fps=15.0)
    return folder


@pytest.fixture(scope="module")
def known(takes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the first person is kept for evaluation."""
    root = tmp_path_factory.mktemp("known")
    people = sorted({path.name.split("_")[0] for path in (takes / "real").glob("*.mp4")})
    lines = [f"real/{path.name},real,{'evaluate' if path.name.startswith(people[0]) else 'train'},{path.name.split('_')[0]}" for path in _clips(takes)]
    (takes / "labels.csv").write_text("path,label,use,identity\n" + "\n".join(lines) + "\n")
    ingest(root, SETTINGS, [source(takes, "takes")], batch="w1")
    return root


def _clips(takes: Path) -> list[Path]:
    return sorted((takes / "real").glob("*.mp4"))


def _copy(original: Path, change: str, path: Path) -> None:
    frames, fps = clip_of(original)
    made, crf = changed(frames, change, np.random.default_rng(7))
    write_clip(path, made, fps, crf)


def test_two_takes_of_one_person_are_not_copies_of_each_other(known: Path) -> None:
    rows = read_manifest(known / "data" / "raw" / "w1")
    assert len(rows) == 4 and set(rows["duplicate_of"]) == {""} and set(rows["looks"]) == {""}


def test_a_changed_copy_is_marked_kept_and_not_trained_on_whatever_its_label_says(known: Path, takes: Path, tmp_path: Path) -> None:
    original = _clips(takes)[0]  # kept for evaluation
    somebody = next(name for name in (f"n{number}" for number in range(99)) if split_of(name, SETTINGS.split) == "train")
    table = ["path,label,use,identity,generator"]
    for change in CHANGES:
        _copy(original, change, tmp_path / "later" / f"{change}.mp4")
        table.append(f"{change}.mp4,real,train,{somebody},")
    _copy(original, "mirror+trim", tmp_path / "later" / "relabelled.mp4")
    table.append(f"relabelled.mp4,fake,train,{somebody},swap")
    (tmp_path / "later" / "labels.csv").write_text("\n".join(table) + "\n")
    report = ingest(known, SETTINGS, [source(tmp_path / "later", "later")], batch="w2")
    rows = read_manifest(known / "data" / "raw" / "w2").set_index("path")
    sample_id = sha256_file(original)
    assert {change: rows.loc[f"{change}.mp4", "duplicate_of"] for change in CHANGES} == dict.fromkeys(CHANGES, sample_id)
    assert rows.loc["relabelled.mp4", "duplicate_of"] == "" and set(rows["looks"]) == {sample_id} and (rows["shard"] != "").all()
    said = "\n".join(report.lines())
    assert "6 look like a file that is known" in said and "1 show what a known file shows that has another label" in said
    for batch in ("w1", "w2"):
        faces.run(known, SETTINGS, batch)
    batches = [read_json(known / "data" / "faces" / batch / "report.json")["samples"] for batch in ("w1", "w2")]
    assert all(entry["clips"] for entry in batches[0])
    sides = decide_sides(batches, SETTINGS.split)
    assert sides.of_sample[sample_id] == "holdout"
    why = {entry["path"]: sides.excluded.get(entry["sample_id"], "") for entry in batches[1] if entry["clips"]}
    assert len(why) > 4 and why == dict.fromkeys(why, DUPLICATE) | {"relabelled.mp4": OTHER_LOOK}
    assert not [entry["path"] for entry in batches[1] if entry["sample_id"] in sides.of_sample]


def test_a_recording_that_holds_two_known_cuts_is_tied_to_both(takes: Path, tmp_path: Path) -> None:
    frames, fps = clip_of(_clips(takes)[2])
    third = len(frames) // 3
    write_clip(tmp_path / "cuts" / "real" / "begin.mp4", frames[:third], fps, 23)
    write_clip(tmp_path / "cuts" / "real" / "end.mp4", frames[-third:], fps, 23)
    write_clip(tmp_path / "whole" / "real" / "whole.mp4", frames, fps, 30)
    root = tmp_path / "workspace"
    ingest(root, SETTINGS, [source(tmp_path / "cuts", "cuts")], batch="w1")
    assert set(read_manifest(root / "data" / "raw" / "w1")["looks"]) == {""}
    ingest(root, SETTINGS, [source(tmp_path / "whole", "whole")], batch="w2")
    (row,) = read_manifest(root / "data" / "raw" / "w2").to_dict("records")
    both = sorted(sha256_file(tmp_path / "cuts" / "real" / name) for name in ("begin.mp4", "end.mp4"))
    assert row["duplicate_of"] in both and row["looks"].split() == both


def test_a_copy_is_known_whatever_its_header_says_of_its_length(takes: Path, tmp_path: Path) -> None:
    """A Matroska file counts its length from time 0: of one whose pictures begin late, as of one that lies, pictures after the end were asked for."""
    frames, fps = clip_of(_clips(takes)[0])
    frames = frames[:24]

    def cut(name: str, begins_seconds: int = 0) -> Path:
        path = tmp_path / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_video(path, frames, [round(1000 * (begins_seconds + number / fps)) for number in range(len(frames))])

    original = cut("real/a.mkv")
    content = bytearray(cut("fake/x/claims_hours.mkv").read_bytes())
    at = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration, milliseconds as a double
    content[at : at + 8] = struct.pack(">d", 5 * 3600e3)
    (tmp_path / "m" / "fake" / "x" / "claims_hours.mkv").write_bytes(content)
    copies = [cut("fake/x/late.mkv", 20), cut("fake/x/later.mkv", 600), tmp_path / "m" / "fake" / "x" / "claims_hours.mkv"]
    words = [perceptual_hash(path, probe(path)) for path in (original, *copies)]
    assert words[0] and words == words[:1] * 4
    assert [len(open_recording(path).pictures) for path in copies] == [len(open_recording(original).pictures)] * 3
    root = tmp_path / "workspace"
    assert ingest(root, SETTINGS, [source(tmp_path / "m")], batch="w1").added == 4
    rows = read_manifest(root / "data" / "raw" / "w1").set_index("path")["looks"].to_dict()
    one = {rows.pop(name) or sha256_file(tmp_path / "m" / name) for name in sorted(rows)}
    assert len(one) == 1, "all look like the first of them"


def test_where_the_media_are_not_on_this_machine_the_words_decide(tmp_path: Path) -> None:
    original, root = photo(tmp_path / "one" / "real" / "a.jpg", 1), tmp_path / "workspace"
    ingest(root, SETTINGS, [source(tmp_path / "one", "one")], batch="w1")
    for shard in (root / "data" / "raw" / "w1").glob("media-*.tar"):
        shard.unlink()
    photo(tmp_path / "two" / "real" / "b.jpg", 1, quality=70)
    photo(tmp_path / "two" / "real" / "c.jpg", 2)
    ingest(root, SETTINGS, [source(tmp_path / "two", "two")], batch="w2")
    marked = read_manifest(root / "data" / "raw" / "w2").set_index("path")["duplicate_of"].to_dict()
    assert marked == {"real/b.jpg": sha256_file(original), "real/c.jpg": ""}


def test_what_was_dropped_comes_in_encoded_anew_and_of_the_two_one_is_used_should_it_come_back(tmp_path: Path) -> None:
    """Its copies were "seen before" though nothing else was in use: accepted, their batch was held again, and nobody was asked what had no label."""
    root, limits = tmp_path / "workspace", SETTINGS.validate_.model_copy(update={"min_samples": 1})
    for name, quality in (("bad", 95), ("anew", 60), ("third", 40)):
        for number in range(2):
            photo(tmp_path / name / f"{number}.jpg", number, quality)
        (tmp_path / name / "labels.csv").write_text("path,label,identity\n0.jpg,real,ann\n1.jpg,,bob\n")
    first, second = (sha256_file(tmp_path / "bad" / f"{number}.jpg") for number in range(2))
    ingest(root, SETTINGS, [source(tmp_path / "bad", "set")], batch="w1")
    set_batch_state(root, "w1", "dropped", who="ada", why="bad export", again=True)
    report = ingest(root, SETTINGS, [source(tmp_path / "anew", "set")], batch="w2")
    counts = report.sources["set"]
    assert (counts.near_duplicates, counts.lookalikes) == (0, 2) and "dropped" in " ".join(report.lines())
    rows = read_manifest(root / "data" / "raw" / "w2")
    assert rows["duplicate_of"].tolist() == ["", ""], "no copy, and tied to its side"
    assert sorted(rows["looks"]) == sorted(" ".join(sorted(pair)) for pair in zip((first, second), rows.sort_values("path")["sample_id"], strict=True))
    assert [one.batch for one in waiting_samples(root)] == ["w2"]
    found = [{"sample_id": one, "decoded": True, "clips": 1, "width": 320, "height": 320, "reason": ""} for one in rows["sample_id"]]
    (check,) = (one for one in judge(rows, found, limits)["expectations"] if one["name"] == "not seen before")
    assert check["success"] and check["observed"] == 1.0
    ingest(root, SETTINGS, [source(tmp_path / "third", "third")], batch="w3")
    assert set(read_manifest(root / "data" / "raw" / "w3")["duplicate_of"]) == {*rows["sample_id"]}, "a copy of what is in use"
    samples = [[row | {"clips": 1} for row in read_manifest(root / "data" / "raw" / batch).to_dict("records")] for batch in ("w1", "w2", "w3")]
    assert len(decide_sides(samples[1:], SETTINGS.split).of_sample) == 1
    for order in permutations(samples):
        sides = decide_sides(order, SETTINGS.split)
        assert len(sides.of_sample) == 1 and [*sides.excluded.values()].count(DUPLICATE) == 2


def halves(path: Path, left: int, right: int) -> None:
    """Two pictures side by side: who shares the left one has many words of it, and is no copy."""
    blobs = [np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8) for seed in (left, right)]
    one, picture = (cv2.resize(blob, (320, 320), interpolation=cv2.INTER_CUBIC) for blob in blobs)
    picture[:, :200] = one[:, :200]
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])


def test_what_the_words_alone_decided_is_asked_of_the_frames_once_they_are_there(tmp_path: Path) -> None:
    """An ingest that was stopped for the media of an earlier batch went on with what it had taken for a copy without them."""
    halves(tmp_path / "one" / "real" / "a.jpg", 11, 111)
    halves(tmp_path / "two" / "real" / "b.jpg", 11, 211)

    def stop(number: int, total: int, told: str = "") -> None:
        if told == "packing":
            raise KeyboardInterrupt

    copies = {}
    for stopped in (False, True):
        root = tmp_path / f"workspace-{stopped}"
        ingest(root, SETTINGS, [source(tmp_path / "one", "one")], batch="w1")
        (shard,) = (root / "data" / "raw" / "w1").glob("media-*.tar")
        away = shard.rename(tmp_path / "away.tar")
        if stopped:
            with pytest.raises(KeyboardInterrupt):
                ingest(root, SETTINGS, [source(tmp_path / "two", "two")], batch="w2", progress=stop)
            away.rename(shard)
        ingest(root, SETTINGS, [source(tmp_path / "two", "two")], batch="w2")
        copies[stopped] = bool(read_manifest(root / "data" / "raw" / "w2")["duplicate_of"][0])
    assert copies == {False: True, True: False}


def test_consent_travels_and_a_manifest_from_before_it_is_read(tmp_path: Path) -> None:
    photo(tmp_path / "m" / "a.jpg", 1)
    (tmp_path / "m" / "labels.csv").write_text('path,label,licence,consent\na.jpg,real,CC BY 4.0,"signed 2026-03-01, research only"\n')
    root = tmp_path / "workspace"
    ingest(root, SETTINGS, [source(tmp_path / "m", identity={"rule": "file"})], batch="w1")
    folder = root / "data" / "raw" / "w1"
    (row,) = read_manifest(folder).to_dict("records")
    assert (row["licence"], row["consent"]) == ("CC BY 4.0", "signed 2026-03-01, research only")
    table = pyarrow.parquet.read_table(folder / "manifest.parquet").drop_columns(["consent", "looks"])
    old = table.set_column(table.schema.get_field_index("phash"), "phash", [["0f" * 8]])
    pyarrow.parquet.write_table(old, folder / "manifest.parquet")
    (row,) = read_manifest(folder).to_dict("records")
    assert (row["consent"], row["looks"], row["phash"]) == ("", "", "0f" * 8)
    photo(tmp_path / "later" / "real" / "b.jpg", 2)
    assert ingest(root, SETTINGS, [source(tmp_path / "later", "later")], batch="w2").added == 1


@pytest.mark.parametrize("change", ["still", "noise"])
def test_a_video_in_which_nothing_moves_is_known_by_its_pictures(tmp_path: Path, change: str) -> None:
    picture = cv2.imread(str(photo(tmp_path / "a.png", 4)))[..., ::-1]
    rng = np.random.default_rng(1)

    def frames(count: int) -> list[Any]:
        loud = 2.0 if change == "noise" else 0.0
        return [np.clip(picture + rng.normal(0, loud, picture.shape), 0, 255).astype(np.uint8) for _ in range(count)]

    write_clip(tmp_path / "one.mp4", frames(30), 15, 20)
    write_clip(tmp_path / "two.mp4", frames(20), 15, 32)
    write_clip(tmp_path / "other.mp4", [cv2.GaussianBlur(np.roll(frame, 40, axis=(0, 1)), (0, 0), 9) for frame in frames(20)], 15, 20)
    one, two, other = (open_recording(tmp_path / f"{name}.mp4") for name in ("one", "two", "other"))
    assert likeness(one, two).same and likeness(two, one).same and not likeness(one, other).same


def test_pictures_a_few_pixels_high_are_compared_like_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)

    def banner(name: str, high: int, wide: int, turned: bool = False) -> Path:
        path = tmp_path / "thin" / "real" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = cv2.resize(rng.integers(0, 256, (4, 60, 3), dtype=np.uint8), (wide, high), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(path), picture.swapaxes(0, 1) if turned else picture)
        return path

    first, other = banner("a.png", 30, 1920), banner("other.png", 30, 1920)
    assert cv2.imwrite(str(first.with_name("copy.jpg")), cv2.imread(str(first)))
    lines, square = [banner("line.png", 1, 400), banner("column.png", 1, 400, turned=True)], photo(tmp_path / "square.jpg", 1)
    root = tmp_path / "workspace"
    assert ingest(root, SETTINGS, [source(tmp_path / "thin")], batch="w1").added == 5
    rows = read_manifest(root / "data" / "raw" / "w1").set_index("path")
    assert rows.loc["real/copy.jpg", "duplicate_of"] == sha256_file(first) and not rows.loc["real/other.png", "duplicate_of"]
    opened = [open_recording(path) for path in (first, other, *lines, square)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [[likeness(one, two).same for two in opened] for one in opened] == np.eye(5, dtype=bool).tolist()


@pytest.mark.parametrize("problem", [cv2.error("odd"), ValueError("frames of two sizes")])
def test_a_file_that_cannot_be_compared_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    def fails(media: Any) -> Any:
        if media == odd:
            raise problem
        return open_recording(media)

    odd = photo(tmp_path / "m" / "real" / "a.jpg", 1, quality=70)
    for name, quality in (("b.jpg", 90), ("c.jpg", 50)):
        photo(tmp_path / "m" / "real" / name, 1, quality=quality)
    monkeypatch.setattr(pipelines.known, "open_recording", fails)
    assert ingest(tmp_path / "w", SETTINGS, [source(tmp_path / "m")], batch="w1").added == 3
    rows = read_manifest(tmp_path / "w" / "data" / "raw" / "w1").set_index("path")["duplicate_of"].to_dict()
    assert rows == {"real/a.jpg": "", "real/b.jpg": sha256_file(odd), "real/c.jpg": sha256_file(odd)}, "where pictures cannot tell, the words do"


def test_comparing_in_processes_marks_what_comparing_one_after_the_other_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two weeks of copies of copies, of fakes that look like reals, and of strangers; some of each week are like nobody, or like several."""
    weeks = [("real", 5, (95, 60)), ("fake", 3, (80,))], [("real", 8, (70, 40)), ("fake", 6, (90, 50))]
    for number, week in enumerate(weeks):
        for label, seeds, qualities in week:
            for seed in range(seeds):
                for quality in qualities:
                    photo(tmp_path / f"m{number}" / label / f"{(7 * seed + quality) % 50:02d}-{seed}-{quality}.jpg", seed, quality)
    said: list[tuple[int, int, str]] = []

    def marks(root: Path) -> list[tuple[str, str, str]]:
        for number in range(len(weeks)):
            ingest(root, SETTINGS, [source(tmp_path / f"m{number}", f"s{number}")], batch=f"w{number}", progress=lambda *told: said.append(told))
        tables = [read_manifest(root / "data" / "raw" / f"w{number}") for number in range(len(weeks))]
        return [tuple(row) for table in tables for row in table[["path", "duplicate_of", "looks"]].itertuples(index=False)]

    monkeypatch.setattr(pipelines.known, "FEWEST_FOR_PROCESSES", 1)
    together = marks(tmp_path / "together")
    assert [told[:2] for told in said if told[2] == "looking for copies"][-1] == (28, 28)
    monkeypatch.setattr(pipelines.known, "_compared_ahead", lambda *_: None)
    assert together == marks(tmp_path / "alone")
    assert sum(bool(original) for _, original, _ in together) >= 20 and any(not looks for _, _, looks in together)


def test_a_comparison_that_ends_its_process_ends_no_ingest_is_told_and_makes_no_new_person_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counted as like nobody, and nothing said so."""
    first = photo(tmp_path / "m" / "real" / "b.jpg", 1, quality=90)
    for name, seed in (("c.jpg", 1), ("d.jpg", 2)):
        photo(tmp_path / "m" / "real" / name, seed, quality=50)
    monkeypatch.setattr(pipelines.known, "FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(pipelines.known, "_compare", _dies)
    report = ingest(tmp_path / "w", SETTINGS, [source(tmp_path / "m")], batch="w1")
    rows = read_manifest(tmp_path / "w" / "data" / "raw" / "w1").set_index("path")["duplicate_of"].to_dict()
    assert rows == {"real/b.jpg": "", "real/c.jpg": sha256_file(first), "real/d.jpg": ""}
    assert report.added == 3 and report.sources["press"].judged_by_words == 1
    assert "  1 could not be compared with files that may be the same: it ended two processes, as too little memory does" in "\n".join(report.lines())


def _dies(job: pipelines.known.Comparison) -> dict[str, bool]:
    os._exit(9)
