"""Clips come back as they went in, stores are the same bytes for the same clips, and damage is named."""

from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from media.shards import CLIP_COLUMNS, ShardWriter, landmarks_of, read_clip, read_clip_at, read_frame, read_index, read_landmarks
from workspace.errors import DataError, MediaError


def mesh(frames, value=0.5):
    return np.full((frames, 468, 2), value, np.float32)


def clip(seed, frames=3, size=16):
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def store(folder, clips, shard_bytes=1 << 20):
    with ShardWriter(folder, shard_bytes) as writer:
        for name, frames in clips.items():
            writer.add({"clip_id": name, "label": "real", "score": 0.9}, frames, mesh(len(frames)))
    return folder


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 12)).flatmap(lambda ts: hnp.arrays(np.uint8, (ts[0], ts[1], ts[1], 3))), min_size=1, max_size=4))
def test_any_frames_come_back_unchanged(tmp_path_factory, clips):
    folder = store(tmp_path_factory.mktemp("store"), {f"c{k}": frames for k, frames in enumerate(clips)}, shard_bytes=2048)
    index = read_index(folder).set_index("clip_id", drop=False)
    for k, frames in enumerate(clips):
        np.testing.assert_array_equal(read_clip_at(folder, index.loc[f"c{k}"], verify=True), frames)
        row = index.loc[f"c{k}"].to_dict() | {"store": "."}
        for number in range(len(frames)):
            np.testing.assert_array_equal(read_frame(folder, row, number), frames[number : number + 1])
        with pytest.raises(IndexError):
            read_frame(folder, row, len(frames))


def test_the_same_clips_give_the_same_bytes(tmp_path):
    clips = {f"clip-{k}": clip(k) for k in range(6)}
    one, two = store(tmp_path / "one", clips, 4096), store(tmp_path / "two", clips, 4096)
    names = sorted(path.name for path in one.iterdir())
    assert len(names) > 2 and names == sorted(path.name for path in two.iterdir())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_the_index_has_every_column_and_is_sorted(tmp_path):
    folder = store(tmp_path, {"b": clip(1), "a": clip(2, frames=1)})
    index = read_index(folder)
    assert list(index.columns) == CLIP_COLUMNS
    assert list(index.clip_id) == ["a", "b"] and list(index.frames) == [1, 3]
    assert list(index.generator) == ["", ""] and index.sharpness.isna().all()


def test_of_a_large_index_the_rows_of_one_label_and_the_landmarks_of_some_clips_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("media.shards.ROWS_A_GROUP", 3)
    with ShardWriter(tmp_path) as writer:
        for k in range(10):
            writer.add({"clip_id": f"c{k}", "label": "fake" if k % 4 else "real"}, clip(k), mesh(3, k / 16))
    assert pq.ParquetFile(tmp_path / "index.parquet").num_row_groups == 4
    whole = read_index(tmp_path)
    pd.testing.assert_frame_equal(read_index(tmp_path, label="real"), whole[whole["label"] == "real"].reset_index(drop=True))
    assert list(read_index(tmp_path, label="none").columns) == CLIP_COLUMNS and read_index(tmp_path, label="none").empty
    some = ["c7", "c0", "c5", "nobody's"]
    assert landmarks_of(tmp_path, some) == {row["clip_id"]: row["landmarks"] for row in whole.to_dict("records") if row["clip_id"] in some}
    with pytest.raises(DataError, match="index"):
        read_index(tmp_path / "nowhere", label="real")


def test_a_row_with_a_store_is_read_from_the_workspace_root(tmp_path):
    store(tmp_path / "data" / "faces" / "b1", {"a": clip(7)})
    row = read_index(tmp_path / "data" / "faces" / "b1").iloc[0].to_dict() | {"store": "data/faces/b1"}
    np.testing.assert_array_equal(read_clip(tmp_path, row), clip(7))


def test_landmarks_keep_half_precision(tmp_path):
    points = np.random.default_rng(3).random((2, 468, 2), dtype=np.float32)
    with ShardWriter(tmp_path) as writer:
        writer.add({"clip_id": "a"}, clip(3, frames=2), points)
    np.testing.assert_allclose(read_landmarks(read_index(tmp_path).iloc[0]), points, atol=5e-4)


@pytest.mark.parametrize("where", ["first byte", "middle", "cut", "gone"])
def test_a_damaged_shard_names_the_clip(tmp_path, where):
    folder = store(tmp_path, {"good": clip(1), "hurt": clip(2)})
    row = read_index(folder).set_index("clip_id", drop=False).loc["hurt"]
    path = folder / row.shard
    content = bytearray(path.read_bytes())
    if where == "cut":
        content = content[: row.offset + row.nbytes // 2]
    else:
        content[row.offset + (0 if where == "first byte" else row.nbytes // 2)] ^= 0xFF
    path.unlink() if where == "gone" else path.write_bytes(content)
    with pytest.raises(MediaError, match="hurt"):
        read_clip_at(folder, row, verify=True)
    if where != "middle":  # a frame is not compared with the hash, and a flipped byte of noise is noise
        for number in (1, 2):
            with pytest.raises(MediaError, match="hurt"):
                read_frame(folder.parent, row.to_dict() | {"store": folder.name}, number)


def test_a_shard_that_is_not_there_is_called_so_and_what_helps_is_said(tmp_path):
    """It was called truncated or corrupt, to be deleted and made again by a `vigil retrain`, which then said that nothing is new."""
    folder = store(tmp_path, {"hurt": clip(1)})
    row, path = read_index(folder).iloc[0], folder / "clips-000.tar"
    path.write_bytes(path.read_bytes()[: row.offset])
    with pytest.raises(MediaError, match=r"truncated or corrupt(.|\n)*Delete that folder.*`vigil retrain --force`"):
        read_clip_at(folder, row)
    path.unlink()
    with pytest.raises(MediaError, match=r"that file is not there\n.*`vigil retrain --force`") as refused:
        read_clip_at(folder, row)
    assert "corrupt" not in str(refused.value) and "Delete" not in str(refused.value)


def test_a_failed_run_leaves_the_earlier_store(tmp_path):
    store(tmp_path, {"old": clip(1)})
    with pytest.raises(RuntimeError), ShardWriter(tmp_path) as writer:
        writer.add({"clip_id": "new"}, clip(2), mesh(3))
        raise RuntimeError("stop")
    assert list(read_index(tmp_path).clip_id) == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips-000.tar", "index.parquet"]


def test_a_smaller_second_run_leaves_no_stale_shard(tmp_path):
    store(tmp_path, {f"c{k}": clip(k) for k in range(5)}, shard_bytes=1024)
    store(tmp_path, {"only": clip(9)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips-000.tar", "index.parquet"]


def test_an_empty_store_has_an_index(tmp_path):
    assert len(read_index(store(tmp_path, {}))) == 0


@pytest.mark.parametrize(
    ("row", "frames", "points", "why"),
    [
        ({}, clip(1), mesh(3), "no clip_id"),
        ({"clip_id": "a", "labl": "real"}, clip(1), mesh(3), "labl"),
        ({"clip_id": "a"}, clip(1).astype(np.float32), mesh(3), "uint8"),
        ({"clip_id": "a"}, clip(1)[:, :, :8], mesh(3), "uint8"),
        ({"clip_id": "a"}, clip(1), mesh(2), "landmarks"),
    ],
)
def test_what_is_no_clip_is_refused(tmp_path, row, frames, points, why):
    with ShardWriter(tmp_path) as writer, pytest.raises(DataError, match=why):
        writer.add(row, frames, points)


def test_a_clip_is_stored_once(tmp_path):
    with ShardWriter(tmp_path) as writer:
        writer.add({"clip_id": "a"}, clip(1), mesh(3))
        with pytest.raises(DataError, match="before"):
            writer.add({"clip_id": "a"}, clip(1), mesh(3))


def test_a_missing_index_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="index"):
        read_index(tmp_path)


@settings(max_examples=25, deadline=None)
@given(ends=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4), number=st.integers(0, 9), shard_bytes=st.sampled_from([1, 4096, 1 << 20]))
def test_what_was_stopped_anywhere_goes_on_and_ends_with_the_same_bytes(tmp_path_factory, ends, number, shard_bytes):
    """Each end: so many clips are added and kept, then so many more that nobody kept."""
    folder = tmp_path_factory.mktemp("stores")
    names = [f"c{(7 * k) % 10}" for k in range(number)]
    clips = {name: clip(k) for k, name in enumerate(names)}
    store(folder / "whole", clips, shard_bytes)

    def add(writer, some):
        for name in some:
            writer.add({"clip_id": name, "label": "real", "score": 0.9}, clips[name], mesh(3))

    done = 0
    for more, lost in ends:
        with suppress(RuntimeError), ShardWriter(folder / "again", shard_bytes, folder / "unfinished", "these") as writer:
            assert writer.notes == names[:done]
            add(writer, names[done : done + more])
            writer.keep(*names[done : done + more])
            done = min(number, done + more)
            add(writer, names[done : done + lost])
            raise RuntimeError("stopped")
    with ShardWriter(folder / "again", shard_bytes, folder / "unfinished", "these") as writer:
        add(writer, names[len(writer.notes) :])
    assert bytes_of(folder / "again") == bytes_of(folder / "whole") and not (folder / "unfinished").exists()


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("change", ["made of something else", "a shard cut short", "an earlier shard cut short", "a shard gone", "no parquet"])
def test_what_was_begun_otherwise_is_begun_anew(tmp_path, change):
    begun = tmp_path / "unfinished"
    with suppress(RuntimeError), ShardWriter(tmp_path / "s", 1, begun, "old") as writer:
        for name in ("a", "b"):
            writer.add({"clip_id": name}, clip(1), mesh(3))
            writer.keep(name)
        raise RuntimeError("stopped")
    if change.endswith("cut short"):
        with open(begun / f"clips-00{int(change == 'a shard cut short')}.tar.part", "r+b") as handle:
            handle.truncate(100)
    elif change == "a shard gone":
        (begun / "clips-000.tar.part").unlink()
    elif change == "no parquet":
        (begun / "kept-000000.parquet").write_bytes(b"half")
    with ShardWriter(tmp_path / "s", 1, begun, "new" if change == "made of something else" else "old") as writer:
        assert writer.notes == [] and list(begun.iterdir()) == []
        writer.add({"clip_id": "a"}, clip(2), mesh(3))
    assert bytes_of(tmp_path / "s") == bytes_of(store_of_one(tmp_path / "other"))


def store_of_one(folder):
    with ShardWriter(folder, 1) as writer:
        writer.add({"clip_id": "a"}, clip(2), mesh(3))
    return folder
