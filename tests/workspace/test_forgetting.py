"""A forgotten sample leaves no trace in its batch, whatever is killed while it is taken out, and the others stay as they were."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import workspace.files
import workspace.forgetting
import workspace.manifest
from tests.feedback.killing import killed_at_line
from tests.workspace.worlds import no_file_larger_than
from workspace.errors import DataError
from workspace.files import read_json, sha256_bytes, write_json
from workspace.for_review import TWO_LABELS
from workspace.forgetting import _forget_in_batch, mentions
from workspace.manifest import MANIFEST_COLUMNS, read_manifest, read_media, repack_shard, write_manifest, write_media
from workspace.objects import cache_of, objects_in
from workspace.repository import delete_objects, dvc_add, init_repository

CONTENTS = [f"media number {number} ".encode() * 400 for number in range(6)]
SAMPLES = [sha256_bytes(content) for content in CONTENTS]
WATCHED = {workspace.forgetting.__file__, workspace.manifest.__file__, workspace.files.__file__}


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A batch of six files in three shards, the first of them from a case."""
    folder = tmp_path / "w" / "data" / "raw" / "b"
    files = []
    for content, sample_id in zip(CONTENTS, SAMPLES, strict=True):
        (tmp_path / f"{sample_id}.jpg").write_bytes(content)
        files.append((sample_id, tmp_path / f"{sample_id}.jpg"))
    folder.mkdir(parents=True)
    places = write_media(folder, files, shard_bytes=15_000)
    rows = []
    for number, sample_id in enumerate(SAMPLES):
        shard, offset, size = places[sample_id]
        rows.append(
            dict.fromkeys(MANIFEST_COLUMNS, "")
            | {"sample_id": sample_id, "batch": "b", "path": f"{sample_id}.jpg", "kind": "image", "label": "real", "use": "train", "identity": f"p{number}"}
            | {"case_id": f"case{number}", "shard": shard, "offset": offset, "bytes": size, "phash": "0" * 16}
        )
    write_manifest(pd.DataFrame(rows), folder)
    assert len(list(folder.glob("media-*.tar"))) == 3
    return folder


def kept_whole(folder: Path, gone: str) -> None:
    for row in read_manifest(folder).to_dict("records"):
        if row["sample_id"] != gone:
            assert sha256_bytes(read_media(folder, row["shard"], row["offset"], row["bytes"], row["sample_id"])) == row["sample_id"]


def test_a_sample_goes_and_the_others_stay(batch: Path) -> None:
    gone = SAMPLES[2]
    assert any(mentions(path, {gone}) for path in batch.iterdir())
    assert _forget_in_batch(batch, {gone: "case2"}) == [gone]
    kept_whole(batch, gone)
    row = read_manifest(batch).set_index("sample_id").loc[gone]
    assert (row["use"], row["label"], row["shard"], row["identity"], row["phash"]) == ("never", "real", "", "", "")
    assert not any(mentions(path, {gone}) for path in batch.iterdir())
    assert not any(CONTENTS[2] in path.read_bytes() for path in batch.glob("*.tar"))
    before = {path.name: path.read_bytes() for path in batch.iterdir()}
    assert _forget_in_batch(batch, {gone: "case2"}) == [gone] and {path.name: path.read_bytes() for path in batch.iterdir()} == before


def test_no_name_is_left_in_why_it_was_put_aside_nor_in_the_summary(batch: Path) -> None:
    gone, table = SAMPLES[2], read_manifest(batch)
    why = f"{TWO_LABELS} (fake: fake/eve_smith_copy.png, real: real/eve_smith.png)"
    table.loc[table["sample_id"] == gone, "quarantine"] = why
    write_manifest(table, batch)
    old = {"batch": "b", "samples": 5, "by_reason": {why: 1, "empty file": 2}, "conflicts": ["real/eve_smith.png is real in a, fake here"]}
    write_json(batch / "summary.json", old)
    assert _forget_in_batch(batch, {gone: ""}) == [gone]
    row = read_manifest(batch).set_index("sample_id").loc[gone]
    assert row["quarantine"] == TWO_LABELS and not any(b"eve_smith" in path.read_bytes() for path in batch.iterdir())
    assert read_json(batch / "summary.json") == {"batch": "b", "samples": 5, "by_reason": {TWO_LABELS: 1, "empty file": 2}, "conflicts": 1}


def test_a_training_table_names_who_lent_a_face_to_a_fake(tmp_path: Path) -> None:
    """Looked at by video alone, it kept the donor's name and clip after an erasure."""
    row = {"sample_id": SAMPLES[0], "shard": "s.tar", "unit": f"{SAMPLES[0]}+swap", "cluster": "ann", "clip_id": f"{SAMPLES[0][:16]}-t0-c0+swap"}
    row |= {"source_clip": f"{SAMPLES[0][:16]}-t0-c0", "donor_clip": f"{SAMPLES[1][:16]}-t0-c0", "donor": "eve"}
    pd.DataFrame([row]).to_parquet(tmp_path / "train.parquet")
    assert mentions(tmp_path / "train.parquet", {SAMPLES[1]}) and mentions(tmp_path / "train.parquet", {SAMPLES[0]})
    assert not mentions(tmp_path / "train.parquet", {SAMPLES[2]})


def test_the_same_file_from_another_source_stays_unless_every_source_is_meant(batch: Path) -> None:
    assert _forget_in_batch(batch, {SAMPLES[1]: "another case"}) == []
    assert _forget_in_batch(batch, {SAMPLES[1]: ""}) == [SAMPLES[1]]


def test_all_of_a_batch_can_go(batch: Path) -> None:
    assert len(_forget_in_batch(batch, dict.fromkeys(SAMPLES, ""))) == 6
    assert list(batch.glob("*.tar")) == [] and set(read_manifest(batch)["use"]) == {"never"}


def test_sigkill_before_any_line_leaves_a_batch_that_can_be_read_and_the_next_run_ends_it(batch: Path, tmp_path: Path) -> None:
    gone = SAMPLES[3]
    for number in range(1, 10_000, 3):  # every third line: each death is a process
        copy = tmp_path / "copy"
        shutil.copytree(batch, copy)
        killed = killed_at_line(number, lambda copy=copy: _forget_in_batch(copy, {gone: "case3"}), WATCHED)
        kept_whole(copy, gone)
        assert _forget_in_batch(copy, {gone: "case3"}) == [gone]
        kept_whole(copy, gone)
        assert not any(CONTENTS[3] in path.read_bytes() for path in copy.glob("*.tar")), f"killed at line {number}"
        shutil.rmtree(copy)
        if not killed:
            break
    assert number > 60


def test_a_damaged_shard_is_not_packed_anew(batch: Path) -> None:
    shard = read_manifest(batch)["shard"][0]
    (batch / shard).write_bytes((batch / shard).read_bytes()[:700])
    with pytest.raises(DataError, match="cannot be packed anew"):
        repack_shard(batch, shard, {SAMPLES[0], SAMPLES[1], SAMPLES[2]})


def test_a_disk_without_room_is_no_damage_to_a_shard(batch: Path) -> None:
    """`dvc checkout`, which was then advised, needs more room still."""
    before = {path.name: path.read_bytes() for path in batch.iterdir()}
    with no_file_larger_than(5_000), pytest.raises(OSError, match="too large"):
        _forget_in_batch(batch, {SAMPLES[0]: ""})
    assert {path.name: path.read_bytes() for path in batch.iterdir()} == before


def test_a_remote_out_of_reach_is_said_and_the_cache_still_knows_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(key, value)
    init_repository(tmp_path, "s3://bucket/vigil", "http://127.0.0.1:9")
    (tmp_path / "data" / "raw" / "b").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "b" / "media.tar").write_bytes(b"media")
    dvc_add(tmp_path, [tmp_path / "data" / "raw" / "b"])
    held = objects_in(cache_of(tmp_path))
    assert held
    with pytest.raises(DataError, match="erasure is not finished"):
        delete_objects(tmp_path, held)
    assert all(path.exists() for path in held.values())
