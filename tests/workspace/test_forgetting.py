"""A forgotten sample leaves no trace in its batch, whatever is killed while it is taken out, and the others stay as they were."""

import hashlib
import io
import os
import shutil
import signal
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest

import workspace.files
import workspace.forgetting
import workspace.journal
import workspace.manifest
from pipelines.seen import Seen
from tests.feedback.buckets import s3_server
from tests.feedback.killing import killed_at_line
from tests.size import drill
from tests.workspace.worlds import no_file_larger_than, start_python
from vigil.deciding import set_batch_state
from vigil.erasing import erase, render_erased, render_would_erase, would_erase
from vigil.opening import open_workspace
from workspace.errors import DataError, WorkspaceError
from workspace.files import read_json, sha256_bytes, write_json
from workspace.for_review import TWO_LABELS
from workspace.forgetting import (
    LOST_TAGS,
    MEMBERS,
    Sought,
    _drop_empty,
    _fetch_earlier,
    _forget_in_batch,
    _forget_names,
    _kept_in,
    _made_of,
    batches_with,
    forget,
    mentioned,
    would_forget,
)
from workspace.journal import Journal
from workspace.manifest import MANIFEST_COLUMNS, manifests, read_manifest, read_media, repack_shard, write_manifest, write_media
from workspace.objects import cache_of, objects_in, place_of
from workspace.repository import commit, delete_objects, dvc_add, init_repository, push, set_remote
from workspace.settings import load_settings
from workspace.state import batch_states

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


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def kept_whole(folder: Path, gone: str) -> None:
    for row in read_manifest(folder).to_dict("records"):
        if row["sample_id"] != gone:
            assert sha256_bytes(read_media(folder, row["shard"], row["offset"], row["bytes"], row["sample_id"])) == row["sample_id"]


def test_a_sample_goes_and_the_others_stay(batch: Path) -> None:
    gone = SAMPLES[2]
    assert any(mentioned(path, Sought({gone})) for path in batch.iterdir())
    assert _forget_in_batch(batch, {gone: "case2"}) == [gone]
    kept_whole(batch, gone)
    row = read_manifest(batch).set_index("sample_id").loc[gone]
    assert (row["use"], row["label"], row["shard"], row["identity"], row["phash"]) == ("never", "real", "", "", "")
    assert not any(mentioned(path, Sought({gone})) for path in batch.iterdir())
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


def test_no_name_is_left_on_the_pages_of_cycles(batch: Path) -> None:
    """The page of a cycle copies why files were put aside, and is not written again: it named an erased file for ever."""
    root, why = batch.parents[2], f"{TWO_LABELS} (fake: fake/eve smith (2).png, real: real/eve &amp; bob.png)"
    init_repository(root, "")
    pages = [root / "reports/report.html", root / ".vigil/reports/2026-W40.1.html", root / ".vigil/reports/2026-W41.1.html"]
    for page in pages:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f'<td>4 real<br><span class="soft">2: empty file; 1: {why}; 1: {why}</span></td>\n<td class="n">(3)</td>\n', encoding="utf-8")
    forget(root, {SAMPLES[2]: ""}, "ada")
    bare = f'<td>4 real<br><span class="soft">2: empty file; 1: {TWO_LABELS}; 1: {TWO_LABELS}</span></td>\n<td class="n">(3)</td>\n'
    assert [page.read_text(encoding="utf-8") for page in pages] == [bare] * 3


def test_a_training_table_names_who_lent_a_face_to_a_fake(tmp_path: Path) -> None:
    """Looked at by video alone, it kept the donor's name and clip after an erasure."""
    row = {"sample_id": SAMPLES[0], "shard": "s.tar", "unit": f"{SAMPLES[0]}+swap", "cluster": "ann", "clip_id": f"{SAMPLES[0][:16]}-t0-c0+swap"}
    row |= {"source_clip": f"{SAMPLES[0][:16]}-t0-c0", "donor_clip": f"{SAMPLES[1][:16]}-t0-c0", "donor": "eve"}
    pd.DataFrame([row]).to_parquet(tmp_path / "train.parquet")
    assert mentioned(tmp_path / "train.parquet", Sought({SAMPLES[1]})) and mentioned(tmp_path / "train.parquet", Sought({SAMPLES[0]}))
    assert not mentioned(tmp_path / "train.parquet", Sought({SAMPLES[2]}))


def test_the_same_file_from_another_source_stays_unless_every_source_is_meant(batch: Path) -> None:
    assert _forget_in_batch(batch, {SAMPLES[1]: "another case"}) == []
    assert _forget_in_batch(batch, {SAMPLES[1]: ""}) == [SAMPLES[1]]


def test_all_of_a_batch_can_go(batch: Path) -> None:
    assert len(_forget_in_batch(batch, dict.fromkeys(SAMPLES, ""))) == 6
    assert list(batch.glob("*.tar")) == [] and set(read_manifest(batch)["use"]) == {"never"}


def test_sigkill_before_any_line_leaves_a_batch_that_can_be_read_and_the_next_run_ends_it(batch: Path, tmp_path: Path) -> None:
    gone = SAMPLES[3]
    for number in range(1, 10_000, drill(8, 3)):  # not every line: each death is a process
        copy = tmp_path / "copy"
        shutil.copytree(batch, copy)
        killed = killed_at_line(number, lambda copy=copy: _forget_in_batch(copy, {gone: "case3"}), WATCHED)
        kept_whole(copy, gone)
        assert _forget_in_batch(copy, {gone: "case3"}) == [gone]
        kept_whole(copy, gone)
        assert not any(CONTENTS[3] in path.read_bytes() for path in copy.glob("*.tar")), f"killed at line {number}"
        left = {"manifest.parquet", *read_manifest(copy)["shard"]} - {""}
        assert {path.name for path in copy.iterdir()} == left, "a half packed shard was versioned with the batch, and outlived the erasure of the others in it"
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


DIE_AS_IT_COPIES = """
import os, signal, sys
from pathlib import Path
import dvc_objects.fs.local as local
from workspace.files import atomic_file
from workspace.repository import dvc_add, push
as_it_does = local.copyfile

def die(source, target, *rest, **more):
    done = as_it_does(source, target, *rest, **more)
    if str(target).startswith(store):
        os.kill(os.getpid(), signal.SIGKILL)
    return done

local.copyfile = die
root, act, store = Path(sys.argv[1]), *sys.argv[2:]
if act == "note":
    with atomic_file(root / ".vigil" / "seen.json") as handle:
        handle.write("eve.jpg")
        handle.flush()
        os.kill(os.getpid(), signal.SIGKILL)
dvc_add(root, [root / "data" / "raw" / "b"]) if act == "add" else push(root)
"""


@pytest.mark.parametrize("outside", [False, True], ids=["own", "outside"])
def test_what_kills_left_half_written_in_cache_remote_and_notes_goes_with_an_erasure(batch: Path, tmp_path: Path, outside: bool) -> None:
    """No erasure saw it: the media, and the name of their file, stayed for ever."""
    root, store = batch.parents[2], tmp_path / "store" if outside else batch.parents[2] / ".vigil" / "remote"

    def killed(act: str, where: Path) -> list[Path]:
        start_python(DIE_AS_IT_COPIES, root, act, where).communicate()
        return sorted(where.rglob("*.tmp"))

    init_repository(root, str(store) if outside else "remote")
    assert killed("note", root / ".vigil") and killed("add", root / ".dvc" / "cache")
    dvc_add(root, [batch])
    commit(root, "a batch")
    left = killed("push", store)
    assert left and list((root / ".dvc" / "cache").rglob("*.tmp"))
    forget(root, {SAMPLES[2]: ""}, "ada")
    assert not list(root.rglob("*.tmp")) and not [path for path in root.rglob("*") if path.is_file() and CONTENTS[2] in path.read_bytes()]
    assert outside == left[0].exists(), "another workspace may be writing it"
    if outside:
        os.utime(left[0], (0, 0))
        push(root)
        assert not left[0].exists()


def test_parts_of_a_shard_that_a_killed_push_left_in_a_bucket_go_with_it(batch: Path) -> None:
    """A push sends large shards in parts, which are in no list of what is stored: they stayed, and were paid for."""
    root = batch.parents[2]
    with s3_server("vault") as (endpoint, client):
        init_repository(root, "s3://vault/store", endpoint)
        dvc_add(root, [batch])
        commit(root, "a batch")
        mine, other = (place_of(Path("store"), md5_of(batch / f"media-00{number}.tar")).as_posix() for number in (0, 2))
        for key in (mine, other):
            upload = client.create_multipart_upload(Bucket="vault", Key=key)["UploadId"]
            client.upload_part(Bucket="vault", Key=key, UploadId=upload, PartNumber=1, Body=b"part")
        gone = read_manifest(batch).set_index("shard").loc["media-000.tar", "sample_id"].iloc[0]
        forget(root, {gone: ""}, "ada")
        assert [upload["Key"] for upload in client.list_multipart_uploads(Bucket="vault")["Uploads"]] == [other]


def test_every_remote_that_lay_in_the_workspace_is_looked_through(batch: Path) -> None:
    """Only those right below .vigil were: with `remote.url: store/dvc`, or the whole path of another folder of it, the media stayed."""
    root = batch.parents[2]
    init_repository(root, "remote")
    dvc_add(root, [batch])
    commit(root, "a batch")
    for url in ("store/dvc", str(root / "backup"), "remote"):
        set_remote(root, url)
        assert push(root)
    forget(root, {SAMPLES[2]: ""}, "ada")
    assert not [path for path in root.rglob("*") if path.is_file() and CONTENTS[2] in path.read_bytes()]


def test_a_remote_on_a_disk_that_is_not_mounted_is_no_empty_one(tmp_path: Path) -> None:
    """DVC takes the empty mount point for a remote without objects: copies stayed on the disk, and nobody was told."""
    root, disk = tmp_path / "w", tmp_path / "disk"
    (root / "data" / "raw" / "b").mkdir(parents=True)
    (root / "data" / "raw" / "b" / "media.tar").write_bytes(b"media")
    init_repository(root, str(disk / "vigil"))
    dvc_add(root, [root / "data" / "raw" / "b"])
    _fetch_earlier(root)  # nothing was ever pushed: there is nothing to look through
    commit(root, "Close", "vigil/2026-W48.1")
    with pytest.raises(DataError, match=r"(?s)erasure is not finished.*no DVC remote in .*vigil; not looked through: vigil/2026-W48.1"):
        _fetch_earlier(root)
    (disk / "vigil" / "files" / "md5").mkdir(parents=True)
    _fetch_earlier(root)


def test_each_kind_of_file_that_holds_something_of_a_sample_is_told_and_no_other(batch: Path, tmp_path: Path) -> None:
    gone, other = SAMPLES[2], SAMPLES[5]
    shards = read_manifest(batch).set_index("sample_id")["shard"]
    found = {"media": batch / shards[gone], "manifest": batch / "manifest.parquet", "clips": tmp_path / "clips.tar", "forged": tmp_path / "forged.tar"}
    for name, clip in (("clips", f"{gone[:16]}-t0-c0"), ("forged", f"{gone[:16]}-t0-c0+swap")):
        with tarfile.open(found[name], "w") as tar:
            tar.addfile(tarfile.TarInfo(f"{clip}.zst"), io.BytesIO(b""))
    for name, row in (("predictions", {"unit": f"{gone}+swap", "cluster": "ann"}), ("index", {"sample_id": gone, "shard": "s.tar", "clip_id": "c0"})):
        found[name] = tmp_path / f"{name}.parquet"
        pd.DataFrame([row]).to_parquet(found[name])
    found["report"] = tmp_path / "report.json"
    write_json(found["report"], {"batch": "b", "samples": [{"sample_id": gone, "use": "train"}]})
    assert {name for name, path in found.items() if mentioned(path, Sought({gone}))} == set(found)
    assert {name for name, path in found.items() if mentioned(path, Sought({other}))} == {"manifest"}
    write_json(tmp_path / "done.json", {"batch": "b", "samples": [{"sample_id": gone, "use": "never"}]})
    (tmp_path / "notes.txt").write_text(gone)
    pd.DataFrame([{"p_fake": 0.5}]).to_parquet(tmp_path / "figures.parquet")
    none = (tmp_path / "figures.parquet", tmp_path / "done.json", tmp_path / "notes.txt", batch / shards[other])
    assert not any(mentioned(path, Sought({gone})) for path in none)


def test_a_report_is_looked_into_however_large_it_is(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of more than 64 MiB, as of 119,154 files, was not opened: it kept the names of erased people, in DVC's cache too, and the erasure said done."""
    root, gone, report = batch.parents[2], SAMPLES[2], batch.parents[1] / "faces" / "b" / "report.json"
    init_repository(root, "")
    write_json(report, {"batch": "b", "samples": [{"sample_id": gone, "use": "train", "identity": "eve smith"}]})
    dvc_add(root, [report.parent])
    as_it_is = Path.stat

    def stat(path: Path, **more: bool) -> os.stat_result:
        found = as_it_is(path, **more)
        return os.stat_result([*found[:6], found.st_size + (1 << 40), *found[7:]])

    monkeypatch.setattr(Path, "stat", stat)
    assert forget(root, {gone: ""}, "ada")[gone].folders == ["data/faces/b"]
    assert not [path for path in root.rglob("*") if path.is_file() and b"eve smith" in path.read_bytes()]


def test_a_row_without_media_that_may_still_be_used_is_blanked_as_one_with_media(batch: Path) -> None:
    table = read_manifest(batch)
    table.loc[table["sample_id"] == SAMPLES[2], "shard"] = ""  # put aside when it came in
    table.loc[table["sample_id"] == SAMPLES[3], "use"] = "never"  # its owner's word; its media are here
    write_manifest(table, batch)
    assert _forget_in_batch(batch, {SAMPLES[2]: "", SAMPLES[3]: ""}) == sorted(SAMPLES[2:4])
    rows = read_manifest(batch).set_index("sample_id").loc[SAMPLES[2:4]]
    assert set(rows["identity"]) == set(rows["shard"]) == {""} and set(rows["use"]) == {"never"}
    assert not any(CONTENTS[3] in path.read_bytes() for path in batch.glob("*.tar"))


@pytest.mark.parametrize(("name", "value"), [("shard", ""), ("use", "never")])
def test_one_row_alone_without_media_or_without_use_is_blanked(batch: Path, name: str, value: str) -> None:
    table = read_manifest(batch)
    table.loc[table["sample_id"] == SAMPLES[2], name] = value
    write_manifest(table, batch)
    assert _forget_in_batch(batch, {SAMPLES[2]: ""}) == [SAMPLES[2]]
    row = read_manifest(batch).set_index("sample_id").loc[SAMPLES[2]]
    assert (row["identity"], row["shard"], row["use"]) == ("", "", "never")


def test_what_is_made_of_a_batch_that_keeps_a_sample_stays_and_the_rest_goes(tmp_path: Path) -> None:
    gone = SAMPLES[0]
    for name in ("keeps", "gives"):
        (tmp_path / "data" / "faces" / name).mkdir(parents=True)
        write_json(tmp_path / "data" / "faces" / name / "report.json", {"samples": [{"sample_id": gone, "use": "train"}]})
    faces = tmp_path / "data" / "faces"
    assert _made_of(tmp_path, {gone}, {gone: ["keeps"]}) == {faces / "gives": {gone}}
    assert [*_made_of(tmp_path, {gone}, {})] == [faces / "gives", faces / "keeps"] and _made_of(tmp_path, {SAMPLES[1]}, {}) == {}


def test_names_of_the_erased_leave_what_ingest_remembers(tmp_path: Path) -> None:
    """Those of files without a label are remembered twice, and stayed where they were."""
    (tmp_path / ".vigil").mkdir()
    rows = {"eve.jpg": [1, "2", SAMPLES[0], ""], "ann.jpg": [1, "2", SAMPLES[1], ""]}
    write_json(tmp_path / ".vigil" / "seen.json", {"version": 2, "sources": {"press": rows}, "unlabelled": {"press": ["ann.jpg", "eve.jpg"], "tv": ["bo.jpg"]}})
    _forget_names(tmp_path, {SAMPLES[0]})
    seen = Seen(tmp_path, 10)
    assert "eve" not in (tmp_path / ".vigil" / "seen.json").read_text() and seen.get("press", "ann.jpg")
    assert (seen.unlabelled("press"), seen.unlabelled("tv")) == ({"ann.jpg"}, {"bo.jpg"})


def test_a_dry_run_reads_each_batch_once_and_names_those_that_keep_the_file(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read each of them twice: what is large takes minutes to read."""
    root, gone, read = batch.parents[2], SAMPLES[2], []
    init_repository(root, "")
    shutil.copytree(batch, batch.with_name("c"))
    write_manifest(read_manifest(batch.with_name("c")).assign(batch="c", case_id=""), batch.with_name("c"))
    (batch.with_name("d")).mkdir()  # half made: no manifest yet
    monkeypatch.setattr(workspace.forgetting, "read_manifest", lambda folder: read.append(folder.name) or read_manifest(folder))
    page = would_forget(root, gone, "case2")
    assert ([row["batch"] for row in page["rows"]], page["kept_in"], read) == (["b"], ["c"], ["b", "c"])
    assert would_forget(root, gone)["kept_in"] == [] and [row["batch"] for row in would_forget(root, gone)["rows"]] == ["b", "c"]
    assert manifests(root) == [batch / "manifest.parquet", batch.with_name("c") / "manifest.parquet"]


def tar_of(path: Path, *clips: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for clip in clips:
            tar.addfile(tarfile.TarInfo(f"{clip}.zst"), io.BytesIO(b""))
    return path


def clips_of(*numbers: int) -> list[str]:
    return [f"{SAMPLES[number][:16]}-t0-c0" for number in numbers]


def cached(root: Path, path: Path) -> Path:
    """A copy of a file as an object of DVC's cache."""
    place = place_of(cache_of(root), md5_of(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(path, place))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tars that were read through, by name."""
    read, members = list[str](), workspace.forgetting._members
    monkeypatch.setattr(workspace.forgetting, "_members", lambda path, note: read.append(path.name) or members(path, note))
    return read


def test_a_tar_is_read_through_once_and_again_where_it_begins_like_a_sample_or_is_another(batch: Path, opened: list[str]) -> None:
    """Each dry run, and each erasure, read the header of every member of every tar of all history, below data/ and once more in the cache."""
    root, faces = batch.parents[2], batch.parents[1] / "faces"
    init_repository(root, "")
    first, second = (tar_of(faces / "b" / f"{name}.tar", *clips_of(*numbers)) for name, numbers in (("first", (0, 1)), ("second", (2,))))
    shards = read_manifest(batch).set_index("sample_id")["shard"]
    raw = batch / next(shard for shard in shards if shard not in (shards[SAMPLES[2]], shards[SAMPLES[5]]))
    objects = {path.stem: cached(root, path).name for path in (first, second, raw)}
    every = sorted(["first.tar", "second.tar", *objects.values()])
    page = would_forget(root, SAMPLES[2])
    assert (page["folders"], page["cached_objects"], sorted(opened)) == (["data/faces/b"], 1, every)
    opened.clear()
    assert would_forget(root, SAMPLES[2]) == page and sorted(opened) == sorted(["second.tar", objects["second"]])
    opened.clear()
    assert (would_forget(root, SAMPLES[5])["folders"], opened) == ([], [])
    tar_of(faces / "b" / "second.tar", *clips_of(5))  # made anew, as large as before
    assert (would_forget(root, SAMPLES[5])["folders"], opened) == (["data/faces/b"], ["second.tar"])
    tar_of(faces / "c" / "third.tar", *clips_of(5))
    assert would_forget(root, SAMPLES[5])["folders"] == ["data/faces/b", "data/faces/c"]


def test_what_is_noted_of_tars_goes_with_them_and_a_damaged_one_is_never_noted(batch: Path, tmp_path: Path, opened: list[str]) -> None:
    root, other = batch.parents[2], batch.parents[1] / "faces" / "other" / "clips.tar"
    init_repository(root, "")
    gone, stays = cached(root, tar_of(tmp_path / "gone.tar", *clips_of(2))), cached(root, tar_of(tmp_path / "stays.tar", *clips_of(3)))
    tar_of(other, *clips_of(1))
    other.write_bytes(other.read_bytes()[:512] + b"no header" * 100)
    found = forget(root, {SAMPLES[2]: ""}, "ann")[SAMPLES[2]]
    assert (found.cached_objects, gone.exists(), stays.exists()) == (1, False, True)
    assert "clips.tar" in opened
    notes = [path.read_text() for path in (root / MEMBERS).iterdir()]
    assert len(notes) == 1 and SAMPLES[3][:16] in notes[0]
    opened.clear()
    would_forget(root, SAMPLES[1])
    assert opened == ["clips.tar"]


def test_a_dry_run_names_the_rows_that_the_erasure_takes_and_those_alone(batch: Path) -> None:
    root, gone = batch.parents[2], SAMPLES[2]
    init_repository(root, "")
    table = read_manifest(batch)
    table.loc[table["sample_id"] == SAMPLES[4], "duplicate_of"] = gone
    write_manifest(table, batch)
    page = would_forget(root, gone)
    assert [(row["batch"], row["case_id"], row["bytes"]) for row in page["rows"]] == [("b", "case2", len(CONTENTS[2]))]
    assert page["near_duplicates"] == [SAMPLES[4]] and page["kept_in"] == []
    assert len(would_forget(root, gone, "case2")["rows"]) == 1 and would_forget(root, gone, "case9")["kept_in"] == ["b"]
    assert would_forget(root, gone, "case9")["rows"] == [] and batches_with(root, [gone]) == {gone: {"b": "case2"}}
    assert _kept_in(root, {gone}) == {gone: ["b"]}
    _forget_in_batch(batch, {gone: ""})
    assert would_forget(root, gone)["rows"] == [] and batches_with(root, [gone]) == {gone: {}} and _kept_in(root, {gone}) == {}
    table = read_manifest(batch)
    table.loc[table["sample_id"] == SAMPLES[1], ["shard", "use"]] = ["", "train"]
    write_manifest(table, batch)
    assert [row["bytes"] for row in would_forget(root, SAMPLES[1])["rows"]] == [0], "put aside: what goes is its name and its person"


def test_what_was_made_of_an_erased_file_is_named_and_stays(batch: Path) -> None:
    """Who asked for an erasure of their video was not told that fakes of them stay."""
    root, gone, other = batch.parents[2], SAMPLES[2], SAMPLES[3]
    init_repository(root, "")
    table = read_manifest(batch).set_index("sample_id", drop=False)
    table.loc[SAMPLES[4:6], ["label", "identity", "source_video"]] = [["fake", "", f"{gone}.jpg"], ["fake", "", f"{other}.jpg"]]
    table.loc[gone, "source_video"] = f"{gone}.jpg"  # as some sets say of a real
    write_manifest(table.reset_index(drop=True), batch)
    assert would_forget(root, gone)["made_of"] == [SAMPLES[4]] and would_forget(root, SAMPLES[4])["made_of"] == []
    found = forget(root, {gone: "", SAMPLES[5]: "", other: ""}, "ada")
    assert {sample_id: one.made_of for sample_id, one in found.items() if one.made_of} == {gone: [SAMPLES[4]]}, "what goes itself does not stay"
    again = forget(root, {gone: ""}, "ada")
    assert would_forget(root, gone)["made_of"] == [SAMPLES[4]] and again[gone].made_of == found[gone].made_of, "also where a kill tore it and this ends it"
    assert read_manifest(batch).set_index("sample_id").loc[SAMPLES[4], "shard"] != ""


def test_a_files_name_writes_no_line_of_a_dry_run(batch: Path, tmp_path: Path) -> None:
    """What would go was told in lines that the name of a file in somebody's folder had written, colours of the terminal among them."""
    root = tmp_path / "opened"
    open_workspace(root, "demo")
    shutil.copytree(batch, root / "data" / "raw" / "b")
    table = read_manifest(root / "data" / "raw" / "b")
    table["path"] = table["path"].where(table["sample_id"] != SAMPLES[2], "a.jpg, 0 bytes\n  9 objects of DVC's cache \x1b[31mred.jpg")
    write_manifest(table, root / "data" / "raw" / "b")
    said = render_would_erase(would_erase(root, load_settings(root / "params.yaml"), SAMPLES[2]))
    assert r"  b: a.jpg, 0 bytes\n  9 objects of DVC's cache \x1b[31mred.jpg, " in said.splitlines()[1] and said.replace("\n", "").isprintable()


def test_with_a_half_written_file_of_dvc_nothing_is_erased_by_half(batch: Path, tmp_path: Path) -> None:
    """The batch was rewritten, its copies in DVC's cache stayed, and it ended in a KeyError that was called a mistake in Vigil."""
    root, gone = tmp_path / "opened", SAMPLES[2]
    open_workspace(root, "demo")
    shutil.copytree(batch, root / "data" / "raw" / "b")
    settings, pointer = load_settings(root / "params.yaml"), root / "data" / "raw" / "other.dvc"
    pointer.write_text("outs:\n- md5: 00000000000000000000000000000000.dir\n  size: 3\n")
    before = read_manifest(root / "data" / "raw" / "b")
    for act in (
        lambda: forget(root, {gone: ""}, "ada"),
        lambda: would_forget(root, gone),
        lambda: would_erase(root, settings, gone),
        lambda: erase(root, settings, [gone], "ada", "asked to"),
    ):
        with pytest.raises(WorkspaceError, match=r"data/raw/other\.dvc cannot be read(.|\n)*Run `rm data/raw/other\.dvc`"):
            act()
    assert read_manifest(root / "data" / "raw" / "b").equals(before)
    pointer.unlink()
    assert len(would_forget(root, gone)["rows"]) == 1
    nothing = {"erased": [], "training": [], "deleted_again": 0, "left": 0, "not_known": []}
    assert erase(root, settings, [], "ada", "what was asked for before") == nothing, "nothing was noted"


@pytest.mark.parametrize(("left", "state"), [("never", "dropped"), ("quarantine", "dropped"), ("train", "new")])
def test_a_batch_of_which_nothing_can_be_used_is_dropped_and_no_other(batch: Path, left: str, state: str) -> None:
    root = batch.parents[2]
    Journal(root).append("batch_added", batch="b", source="x", samples=6, quarantined=0)
    table = read_manifest(batch)
    table["use"] = ["never"] * 5 + ["never" if left == "never" else "train"]
    table["quarantine"] = [""] * 5 + ["no face" if left == "quarantine" else ""]
    write_manifest(table, batch)
    _drop_empty(root, ["b"], "ada")
    assert batch_states(Journal(root).events())["b"].state == state


def test_each_of_two_samples_that_are_erased_one_after_the_other_names_the_models_that_learned_from_it(batch: Path, tmp_path: Path) -> None:
    """The first erasure took the faces and tables away by which this was known: of the second it said that no model had learned from it."""
    root = tmp_path / "opened"
    open_workspace(root, "demo")
    shutil.copytree(batch, root / "data" / "raw" / "b")
    settings, journal = load_settings(root / "params.yaml"), Journal(root)
    journal.append("cycle_opened", cycle="2026-W01.1", judged=["b"], base_model="", fingerprint="f", scheduled=False, week="2026-W01")
    journal.append("candidate", cycle="2026-W01.1", model_sha256="a" * 64, path="models/2026-W01.1")
    journal.append("cycle_closed", cycle="2026-W01.1", outcome="held", reason="", verdict_sha256="")
    for place, columns in (("data/sets/train.parquet", {"case_id": ""}), ("data/faces/b/index.parquet", {"sha256": "c"})):
        rows = [{"clip_id": f"{one[:16]}-t0-c0", "sample_id": one, "shard": "s.tar", "source_clip": "", "donor_clip": "", **columns} for one in SAMPLES[:2]]
        (root / place).parent.mkdir(parents=True)
        pd.DataFrame(rows).to_parquet(root / place)
    write_json(root / "data/sets/report.json", {"cycle": "2026-W01.1"})
    for gone, learned in ((SAMPLES[0], True), (SAMPLES[1], True), (SAMPLES[2], False)):
        said = render_would_erase(would_erase(root, settings, gone))
        assert ("the weights of 2026-W01.1 (never promoted), which learned from it" in said) == learned and "not known" not in said
        said = render_erased(erase(root, settings, [gone], "ada", "asked to"))
        assert ("Cannot be erased: the weights of 2026-W01.1 (never promoted), which learned from it." in said) == learned
        assert not (root / "data" / "sets").exists() and not (root / "data" / "faces" / "b").exists()
    journal.append(
        "cycle_opened", cycle="2026-W02.1", judged=[], base_model="a" * 64, base_cycle="2026-W01.1", fingerprint="f", scheduled=False, week="2026-W02"
    )
    journal.append("candidate", cycle="2026-W02.1", model_sha256="b" * 64, path="models/2026-W02.1")
    journal.append("cycle_closed", cycle="2026-W02.1", outcome="held", reason="", verdict_sha256="")
    write_json(root / ".vigil/learned/2026-W02.1.json", {"cycle": "2026-W02.1", "cases": [], "samples": []})
    heir = "the weights of 2026-W02.1 (never promoted), which goes on from 2026-W01.1, which learned from it"
    assert f"cannot be erased: {heir}\n" in render_would_erase(would_erase(root, settings, SAMPLES[0])) + "\n"
    shutil.rmtree(root / ".vigil" / "learned")
    assert "not known: whether the model of 2026-W01.1 learned from it" in render_would_erase(would_erase(root, settings, SAMPLES[3]))
    assert "Not known: whether the model of 2026-W01.1 learned from it" in render_erased(erase(root, settings, [SAMPLES[3]], "ada", "asked to"))


def test_an_erasure_of_several_files_reads_no_table_and_no_journal_more_often_than_that_of_one(
    batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of them all manifests, all tables of clips and the whole journal were read anew: 800 files of 10,000 were not erased within minutes."""
    root = tmp_path / "opened"
    open_workspace(root, "demo")
    for name in ("b", "c"):
        shutil.copytree(batch, root / "data" / "raw" / name)
        write_manifest(read_manifest(batch).assign(batch=name, case_id=""), root / "data" / "raw" / name)
        Journal(root).append("batch_added", batch=name, source="press", samples=6, quarantined=0)
        clips = [{"clip_id": f"{one[:16]}-t0-c0", "sample_id": one, "sha256": one, "shard": "s.tar", "source_clip": "", "donor_clip": ""} for one in SAMPLES]
        (root / "data" / "faces" / name).mkdir(parents=True)
        pd.DataFrame(clips).to_parquet(root / "data" / "faces" / name / "index.parquet")
    read: list[list[str]] = []

    def noted(act: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path, *more, **named: read[-1].append(str(Path(path).relative_to(place))) or act(path, *more, **named)

    for module, name in ((pyarrow.parquet, "read_table"), (pyarrow.parquet, "ParquetFile"), (workspace.journal, "_parse")):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    for what in (SAMPLES[:1], SAMPLES[:4]):
        place = tmp_path / f"of {len(what)}"
        shutil.copytree(root, place)
        read.append([])
        assert len(erase(place, load_settings(place / "params.yaml"), what, "ada", "asked to")["training"]) == len(what)
    assert Counter(read[0]) == Counter(read[1]) and "data/faces/b/index.parquet" in read[0]
    told = [event["sample_id"] for event in Journal(place).events() if event.kind == "erased"]
    assert told == sorted(SAMPLES[:4]) and set(read_manifest(place / "data/raw/c").set_index("sample_id").loc[SAMPLES[:4], "use"]) == {"never"}


def test_an_erasure_that_a_kill_tore_says_in_the_end_which_tags_it_cost(batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the last deleted object and the journal's line, it was ended with no tag: nobody was told that one cannot be restored."""
    root, gone = tmp_path / "opened", SAMPLES[2]
    open_workspace(root, "demo")
    shutil.copytree(batch, root / "data" / "raw" / "b")
    settings, journal = load_settings(root / "params.yaml"), Journal(root)
    journal.append("batch_added", batch="b", source="press", samples=6, quarantined=0)
    dvc_add(root, [root / "data" / "raw" / "b"])
    commit(root, "a cycle", "vigil/2026-W01.1")
    child = os.fork()
    if child == 0:
        monkeypatch.setattr("feedback.forgetting._journal", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        erase(root, settings, [gone], "ada", "asked to")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (row,) = erase(root, settings, [], "ada", "asked to")["training"]
    (told,) = [event for event in journal.events() if event.kind == "erased"]
    assert row["training"]["tags"] == told["tags"] == ["vigil/2026-W01.1"]
    (row,) = erase(root, settings, [SAMPLES[4]], "ada", "asked to")["training"]
    assert row["training"]["tags"] == ["vigil/2026-W01.1"] and not (root / LOST_TAGS).exists()


@pytest.mark.parametrize(("left", "refused"), [("nothing", True), ("no face", True), (f"{TWO_LABELS}: a, b", False), ("", False)])
def test_a_batch_that_was_erased_whole_is_not_taken_back(batch: Path, left: str, refused: bool) -> None:
    """It was held and accepted, and its cycle said that people are asked about what was gone."""
    root = batch.parents[2]
    Journal(root).append("batch_added", batch="b", source="x", samples=6, quarantined=0)
    if left != "nothing":
        table = read_manifest(batch)
        table.loc[table["sample_id"] == SAMPLES[5], "quarantine"] = left
        write_manifest(table, batch)
    _forget_in_batch(batch, dict.fromkeys(SAMPLES if left == "nothing" else SAMPLES[:5], ""))
    set_batch_state(root, "b", "dropped", "ada", "all that it held was erased on request")
    if refused:
        with pytest.raises(WorkspaceError, match="nothing of it is left to learn from"):
            set_batch_state(root, "b", "held", "bob", "another look")
    else:
        assert set_batch_state(root, "b", "held", "bob", "another look") == "b is now held (bob: another look)."
    assert batch_states(Journal(root).events())["b"].state == ("dropped" if refused else "held")
