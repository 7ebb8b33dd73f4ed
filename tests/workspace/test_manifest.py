"""Manifest rows and media shards: deterministic, checked, read by offset."""

import hashlib
import tarfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workspace.errors import DataError
from workspace.manifest import MANIFEST_COLUMNS, manifests, read_manifest, read_media, repack_shard, write_manifest, write_media


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def row(number: int, **changes):
    blank = dict.fromkeys(MANIFEST_COLUMNS, "")
    return {
        **blank,
        "sample_id": sha(str(number).encode()),
        "batch": "b1",
        "path": f"real/{number}.mp4",
        "kind": "video",
        "label": "real",
        "use": "train",
        "bytes": 10,
        "shard": "media-000.tar",
        "offset": 512,
        "phash": "0" * 16,
        **changes,
    }


def frame(*rows):
    return pd.DataFrame(list(rows))


def test_rows_come_back_sorted_with_empty_text_for_unknown(tmp_path):
    rows = frame(row(1, generator=None), row(2, identity=float("nan")), row(3, path="b", label="", quarantine="empty file", shard=""))
    write_manifest(rows, tmp_path)
    back = read_manifest(tmp_path)
    assert tuple(back.columns) == MANIFEST_COLUMNS and list(back["sample_id"]) == sorted(rows["sample_id"])
    assert set(back["generator"]) == {""} and set(back["identity"]) == {""} and back["bytes"].dtype == "int64"


FULL = {
    "identity": "ann", "donor": "eve", "generator": "swap", "source": "lab", "source_video": "real/0.mp4", "method": "m", "compression": "c23",
    "licence": "CC-BY", "consent": "signed", "case_id": "7", "quarantine": "why", "duplicate_of": "a" * 64, "looks": "b" * 64, "attributes": "pose=turned",
}  # fmt: skip


def test_every_value_comes_back_as_it_was_written_and_what_an_older_manifest_lacks_is_empty(tmp_path):
    """`consent`, `looks` and `attributes` came later than the first manifests."""
    written = row(1, **FULL)
    assert all(written.values())
    path = write_manifest(frame(written), tmp_path)
    assert read_manifest(tmp_path).to_dict("records") == [written]
    pd.read_parquet(path).drop(columns=["consent", "looks", "attributes"]).to_parquet(path)
    assert read_manifest(tmp_path).to_dict("records") == [written | {"consent": "", "looks": "", "attributes": ""}]


def test_manifests_are_listed_by_the_names_of_their_batches(tmp_path):
    """A file system lists them as it likes, and what is built from them would differ from one machine to the next."""
    names = [f"b{number * 7 % 20:02d}" for number in range(20)]
    for name in names:
        write_manifest(frame(row(1, batch=name)), tmp_path / "data" / "raw" / name)
    assert [path.parent.name for path in manifests(tmp_path)] == sorted(names)


@given(st.permutations(range(8)), st.permutations(MANIFEST_COLUMNS))
@settings(deadline=None, max_examples=20)
def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path_factory, order, columns):
    rows = [row(n // 2, path=f"{n}.mp4") for n in range(8)]  # each file under two names
    first = write_manifest(frame(*rows), tmp_path_factory.mktemp("a"))
    second = write_manifest(frame(*(rows[n] for n in order))[list(columns)], tmp_path_factory.mktemp("b"))
    assert first.read_bytes() == second.read_bytes()


def test_an_empty_batch_can_be_written_and_read(tmp_path):
    write_manifest(pd.DataFrame(columns=list(MANIFEST_COLUMNS)), tmp_path)
    assert len(read_manifest(tmp_path)) == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": 1}, "label"),
        ({"label": "1"}, "label"),
        ({"label": "Fake"}, "label"),
        ({"kind": "audio"}, "kind"),
        ({"use": ""}, "use"),
        ({"sample_id": "abc"}, "sample_id"),
        ({"phash": "xyz"}, "phash"),
        ({"shard": "../media-000.tar"}, "shard"),
        ({"bytes": -1}, "bytes"),
        ({"offset": 1.5}, "offset"),
        ({"duplicate_of": "b1"}, "duplicate_of"),
        ({"path": "real/1.mp4"}, "path"),
        ({"batch": ""}, "batch"),
        ({"identity": 7}, "identity"),
    ],
)
def test_a_wrong_value_is_refused_and_nothing_is_written(tmp_path, changes, says):
    with pytest.raises(DataError) as refusal:
        write_manifest(frame(row(1), row(2, **changes)), tmp_path)
    assert refusal.value.why.startswith(f"{says}:") and not (tmp_path / "manifest.parquet").exists()


def test_every_mistake_of_a_manifest_is_listed(tmp_path):
    with pytest.raises(DataError) as refusal:
        write_manifest(frame(row(1, label="x", kind="y"), row(2, use="z")), tmp_path)
    assert len(refusal.value.why.splitlines()) == 3
    with pytest.raises(DataError, match=r"column phash is missing\n +column colour is unknown"):
        write_manifest(frame(row(1)).drop(columns="phash").assign(colour=1), tmp_path)


def test_a_missing_or_foreign_manifest_is_refused(tmp_path):
    with pytest.raises(DataError, match="doctor --pull"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError):
        read_manifest(tmp_path)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(DataError, match="column a is unknown"):
        read_manifest(tmp_path)


def media(folder, contents):
    folder.mkdir(exist_ok=True)
    files = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.MP4"
        path.write_bytes(content)
        files.append((sha(content), path))
    return files


@given(st.lists(st.binary(max_size=3000), max_size=8), st.integers(1, 6000))
@settings(deadline=None, max_examples=40)
def test_every_file_is_read_back_by_offset_from_shards_that_tar_can_open(tmp_path_factory, contents, shard_bytes):
    root = tmp_path_factory.mktemp("media")
    files = media(root / "in", contents)
    places = write_media(root / "batch", files, shard_bytes)
    assert set(places) == {sample_id for sample_id, _ in files}
    for content in contents:
        assert read_media(root / "batch", *places[sha(content)], sample_id=sha(content)) == content
    members = {}
    for shard in sorted((root / "batch").glob("media-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar.getmembers():
                members[member.name] = tar.extractfile(member).read()
                assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
                assert places[member.name.split(".")[0]] == (shard.name, member.offset_data, member.size)
    assert members == {f"{sha(content)}.mp4": content for content in contents}


def test_the_same_files_give_the_same_bytes_whatever_their_order_and_age(tmp_path):
    import os

    contents = [b"a" * 700, b"b" * 1500, b"c"]
    files = media(tmp_path / "in", contents)
    write_media(tmp_path / "one", files, 2000)
    os.utime(files[0][1], (1, 1))
    write_media(tmp_path / "two", [*reversed(files), files[0]], 2000)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) >= 2 and names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_shards_of_an_interrupted_attempt_are_replaced(tmp_path):
    files = media(tmp_path / "in", [b"x"])
    (tmp_path / "batch").mkdir()
    for name in ("media-000.tar", "media-007.tar"):
        (tmp_path / "batch" / name).write_bytes(b"half")
    write_media(tmp_path / "batch", files, 1000)
    assert [path.name for path in (tmp_path / "batch").iterdir()] == ["media-000.tar"]


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=8, unique=True), st.integers(1, 5000), st.data())
@settings(deadline=None, max_examples=40)
def test_packing_goes_on_where_it_was_stopped_whatever_lies_there(tmp_path_factory, contents, shard_bytes, data):
    """The same bytes as without a stop; a shard that was whole is not written again, half of one and one of other files are replaced."""
    root = tmp_path_factory.mktemp("media")
    files = media(root / "in", contents)
    places = write_media(root / "whole", files, shard_bytes)
    stop = data.draw(st.integers(1, len(files)))

    def stopped(done, total, what):
        assert total == len(files) and what == "packing"
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_media(root / "batch", files, shard_bytes, stopped)
    whole = {path.name: path.stat().st_ino for path in (root / "batch").glob("media-*.tar")}
    spoilt = data.draw(st.sampled_from(["", *whole]))
    if spoilt:
        content = (root / "batch" / spoilt).read_bytes()
        other = data.draw(st.sampled_from([content[: len(content) // 2], b"", b"no tar", content[512:]]))
        (root / "batch" / spoilt).write_bytes(other)
    assert write_media(root / "batch", files, shard_bytes) == places
    assert {path.name: path.read_bytes() for path in (root / "batch").iterdir()} == {path.name: path.read_bytes() for path in (root / "whole").iterdir()}
    assert all((root / "batch" / name).stat().st_ino == inode for name, inode in whole.items() if name != spoilt)


def test_a_file_that_changed_since_it_was_hashed_is_refused_and_leaves_no_shard(tmp_path):
    files = media(tmp_path / "in", [b"before"])
    files[0][1].write_bytes(b"after!")
    with pytest.raises(DataError, match="changed while it was taken in"):
        write_media(tmp_path / "batch", files, 1000)
    files[0][1].unlink()
    with pytest.raises(DataError, match="Cannot read"):
        write_media(tmp_path / "batch", files, 1000)
    assert list((tmp_path / "batch").iterdir()) == []


def test_damaged_or_missing_media_are_refused(tmp_path):
    content = b"picture" * 100
    places = write_media(tmp_path, media(tmp_path / "in", [content]), 10_000)
    shard, offset, nbytes = places[sha(content)]
    damaged = bytearray((tmp_path / shard).read_bytes())
    damaged[offset] ^= 1
    (tmp_path / shard).write_bytes(damaged)
    with pytest.raises(DataError, match="not that of sample"):
        read_media(tmp_path, shard, offset, nbytes, sample_id=sha(content))
    for wrong in ((shard, 10**6, nbytes), (shard, -1, nbytes), ("media-009.tar", 0, 1), ("", 0, 0)):
        with pytest.raises(DataError):
            read_media(tmp_path, *wrong)
    for elsewhere in ("in/0.MP4", f"../{tmp_path.name}/in/0.MP4", str(tmp_path / "in" / "0.MP4")):
        assert (tmp_path / elsewhere).is_file()
        with pytest.raises(DataError, match="No media are kept"):
            read_media(tmp_path, elsewhere, 0, 1)


def test_a_shard_that_lacks_a_sample_to_be_kept_is_not_packed_anew(tmp_path):
    """The manifest would go on without the place of that sample, and the old shard would be taken away."""
    contents = [b"a" * 700, b"b" * 1500]
    files = media(tmp_path / "in", contents)
    shard, _, _ = write_media(tmp_path / "batch", files, 10_000)[sha(contents[0])]
    before = {path.name: path.read_bytes() for path in (tmp_path / "batch").iterdir()}
    with pytest.raises(DataError, match="it lacks sample"):
        repack_shard(tmp_path / "batch", shard, {sha(contents[0]), sha(b"elsewhere")})
    assert {path.name: path.read_bytes() for path in (tmp_path / "batch").iterdir()} == before


@given(st.sets(st.binary(max_size=2000), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=20)
def test_a_shard_packed_anew_holds_what_is_kept_alone_and_can_be_packed_again(tmp_path_factory, contents, data):
    root = tmp_path_factory.mktemp("again")
    files = media(root / "in", sorted(contents))
    shard = write_media(root / "batch", files, 100_000)[files[0][0]][0]
    keep = {sample_id for sample_id, _ in files}
    while keep:
        keep = data.draw(st.sets(st.sampled_from(sorted(keep))))
        shard, offsets = repack_shard(root / "batch", shard, keep)
        assert set(offsets) == keep and bool(shard) == bool(keep)
        for content in (content for content in contents if sha(content) in keep):
            assert read_media(root / "batch", shard, offsets[sha(content)], len(content), sha(content)) == content
        if keep:
            with tarfile.open(root / "batch" / shard) as tar:
                assert sorted(member.name for member in tar.getmembers()) == sorted(f"{sample_id}.mp4" for sample_id in keep)
