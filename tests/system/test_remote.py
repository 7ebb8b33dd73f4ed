"""The DVC remote, on a real S3 server and in a folder: pushed, cloned, pulled, and every lost or rotten object named and put back."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from flows.closing import send_again
from tests.feedback.buckets import CREDENTIALS, s3_server
from tests.system.world import change_settings, copy_workspace, git, vigil, vigil_json
from tests.workspace.worlds import make_model
from vigil.mending import examine_and_fix
from workspace.errors import WorkspaceError
from workspace.journal import Journal
from workspace.manifest import read_manifest
from workspace.objects import cache_of, objects_in
from workspace.repository import commit, dvc_add, open_dvc, push
from workspace.settings import load_settings
from workspace.unsent import mark_unsent, unsent

MODEL = "2026-W47.1"


class Store:
    """What is on the remote, whatever it is: by md5, to look at, delete and change."""

    def __init__(self, client: Any = None, folder: Path | None = None) -> None:
        self.client, self.folder = client, folder

    def key(self, md5: str) -> str:
        return f"files/md5/{md5[:2]}/{md5[2:]}"

    def read(self, md5: str) -> bytes:
        if self.folder:
            return (self.folder / self.key(md5)).read_bytes()
        return bytes(self.client.get_object(Bucket="past", Key=f"w/{self.key(md5)}")["Body"].read())

    def delete(self, md5: str) -> None:
        if self.folder:
            (self.folder / self.key(md5)).unlink()
        else:
            self.client.delete_object(Bucket="past", Key=f"w/{self.key(md5)}")

    def write(self, md5: str, content: bytes) -> None:
        if self.folder:
            (self.folder / self.key(md5)).chmod(0o644)
            (self.folder / self.key(md5)).write_bytes(content)
        else:
            self.client.put_object(Bucket="past", Key=f"w/{self.key(md5)}", Body=content)


@contextmanager
def remote(kind: str, tmp_path: Path) -> Iterator[tuple[dict[str, str], Store]]:
    """The settings of a remote and what lies in it."""
    if kind == "folder":
        yield {"url": str(tmp_path / "store")}, Store(folder=tmp_path / "store")
    else:
        with s3_server("past") as (endpoint, client):
            yield {"url": "s3://past/w", "s3_endpoint_url": endpoint}, Store(client=client)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos, enough for two shards."""
    folder = tmp_path_factory.mktemp("remote-media")
    for number in range(8):
        path = folder / ("real" if number % 2 else "fake/gan") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 255, (96, 96, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """A workspace with one batch of two shards and one kept model, committed, and no remote yet."""
    root = tmp_path_factory.mktemp("remote") / "w"
    vigil("init", root, "--profile", "demo")
    change_settings(root, {"ingest": {"shard_bytes": 130_000}})
    vigil("ingest", media, "--name", "press", "-w", root)
    make_model(root, MODEL)
    dvc_add(root, [root / "models" / MODEL])
    commit(root, "a batch and a model")
    return root


def made(root: Path, template: Path, where: dict[str, str]) -> str:
    """A copy of the template whose remote is named, not yet committed; returns the batch's name."""
    copy_workspace(template, root)
    change_settings(root, {"remote": where})
    return str(Journal(root).events()[0]["batch"])


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def doctor(root: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Code and page of the command. Where the remote is no server it is spared its start: DVC keeps what it knows of one as long as a process lives."""
    settings = load_settings(root / "params.yaml")
    if settings.remote.s3_endpoint_url:
        done = vigil("doctor", *words, "--json", "-w", root, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout)
    before = dict(os.environ)
    try:
        asked = {name: f"--{name}" in words for name in ("fix", "push", "pull", "remote")}
        rows, told = examine_and_fix(root, settings, **asked)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return 1 - all(row["ok"] for row in rows), json.loads(json.dumps({"checks": rows, "done": told}))


def bad(page: dict[str, Any]) -> list[str]:
    return [row["found"] for row in page["checks"] if row["check"] == "remote" and not row["ok"]]


@pytest.mark.parametrize("kind", [pytest.param("s3", marks=pytest.mark.slow), "folder"])
def test_what_was_pushed_comes_back_in_a_fresh_clone_and_what_rots_is_named_and_put_back(kind: str, tmp_path: Path, template: Path) -> None:
    root, clone = tmp_path / "w", tmp_path / "clone"
    with remote(kind, tmp_path) as (where, store):
        batch = made(root, template, where)
        code, page = doctor(root, "--remote")
        # four files of the batch, three of the model, and their lists
        assert code == 1 and bad(page) == ["none of this workspace's 9 objects is on the remote"]
        code, page = doctor(root, "--push", "--remote")
        assert code == 0 and not bad(page), page
        commit(root, "the remote is named")

        git(tmp_path, "clone", "-q", str(root), str(clone))
        code, page = doctor(clone, "--pull", "--remote")
        assert code == 0, page
        files = sorted(path.relative_to(root) for top in ("data/raw", "models") for path in (root / top).rglob("*") if path.is_file())
        assert len([path for path in files if path.suffix in (".tar", ".parquet", ".json", ".onnx", ".safetensors")]) == 7
        assert all((clone / path).read_bytes() == (root / path).read_bytes() for path in files)

        lost, rotten = root / "data" / "raw" / batch / "media-001.tar", root / "models" / MODEL / "model.onnx"
        content = store.read(md5_of(rotten))
        store.delete(md5_of(lost))
        store.write(md5_of(rotten), content[:-1] + bytes([content[-1] ^ 4]))
        assert doctor(root)[0] == 0, "without --remote the remote is not read"
        code, page = doctor(root, "--remote")
        assert code == 1
        assert bad(page) == [
            f"data/raw/{batch}/media-001.tar: missing on the remote (md5 {md5_of(lost)})",
            f"models/{MODEL}/model.onnx: damaged on the remote (md5 {md5_of(rotten)})",
        ]
        late = tmp_path / "late"
        git(tmp_path, "clone", "-q", str(root), str(late))
        pulled = vigil("doctor", "--pull", "-w", late, check=False)
        assert pulled.returncode == 1 and ("Why:" in pulled.stderr or "2 not on the remote, or not whole" in pulled.stdout) and "Traceback" not in pulled.stderr
        assert not (late / "models" / MODEL / "model.onnx").exists(), "rotten bytes were taken for the model"

        code, page = doctor(root, "--push")
        assert store.read(md5_of(lost)) == lost.read_bytes() and code == 0
        code, page = doctor(root, "--push", "--remote")
        assert code == 0 and not bad(page), page
        assert kind == "folder" or "replaced 1 objects" in page["done"], "in a folder DVC itself sees that a file was touched"
        assert store.read(md5_of(rotten)) == rotten.read_bytes()
        assert doctor(late, "--pull", "--remote")[0] == 0


def test_a_clone_of_a_workspace_with_a_remote_of_its_own_fetches_from_that(tmp_path: Path, template: Path) -> None:
    """As the README shows it: `remote.url` is a folder in the workspace, which a clone has empty."""
    root, clone, late = tmp_path / "w", tmp_path / "clone", tmp_path / "late"
    batch = made(root, template, {"url": "remote"})
    doctor(root, "--push")
    commit(root, "the remote is named")
    git(tmp_path, "clone", "-q", str(root), str(clone))
    code, page = doctor(clone, "--pull")
    assert code == 0 and "pulled 2 of 2 batches and models that were not here" in page["done"], page
    assert (clone / "data" / "raw" / batch / "media-001.tar").read_bytes() == (root / "data" / "raw" / batch / "media-001.tar").read_bytes()
    assert (clone / "models" / MODEL / "model.onnx").is_file()
    (clone / ".git").rename(clone / "away")
    code, page = doctor(clone)
    assert code == 1 and [row["check"] for row in page["checks"] if not row["ok"]] == ["git"] and "backup" in page["checks"][0]["next"]
    with pytest.raises(WorkspaceError, match="no git repository any more"):
        push(clone)
    (clone / "away").rename(clone / ".git")
    code, page = doctor(clone, "--pull", "--push")  # that one push did not come about stays in sight until another one did
    assert code == 0 and "pulled 0 of 0 batches and models that were not here" in page["done"]

    moved, other = tmp_path / "elsewhere", tmp_path / "other"
    root.rename(moved)
    (root / ".vigil" / "remote").mkdir(parents=True)  # another workspace stands where it was
    git(tmp_path, "clone", "-q", moved.as_uri(), str(other))
    code, page = doctor(other, "--pull")
    assert code == 0 and "pulled 2 of 2 batches and models that were not here" in page["done"], page
    assert str(other) in (other / ".dvc" / "config").read_text(), "what it makes goes to a remote of its own"

    (moved / ".vigil" / "remote").rename(tmp_path / "away")
    git(tmp_path, "clone", "-q", str(moved), str(late))
    code, page = doctor(late, "--pull")
    (row,) = [row for row in page["checks"] if not row["ok"]]
    assert code == 1 and row["found"] == f"2 not on the remote, or not whole: data/raw/{batch}, models/{MODEL}" and "--push" in row["next"]


def test_a_lost_list_of_files_and_a_workspace_that_has_it_no_more(tmp_path: Path, template: Path) -> None:
    root, clone = tmp_path / "w", tmp_path / "clone"
    with remote("folder", tmp_path) as (where, store):
        batch = made(root, template, where)
        doctor(root, "--push")
        commit(root, "the remote is named")
        git(tmp_path, "clone", "-q", str(root), str(clone))
        (listing,) = (line.split()[-1] for line in (root / "data" / "raw" / f"{batch}.dvc").read_text().splitlines() if ".dir" in line)
        content = store.read(listing)
        store.write(listing, content.replace(b"media-000", b"media-900"))
        code, page = doctor(clone, "--remote")
        assert code == 1 and any("nobody can tell" in line and batch in line for line in bad(page)) and any("damaged" in line for line in bad(page))
        assert doctor(clone, "--push", "--remote")[0] == 1, "a clone without the data cannot mend it"
        assert doctor(root, "--push", "--remote")[0] == 0 and store.read(listing) == content
        assert doctor(clone, "--pull", "--remote")[0] == 0


@pytest.mark.parametrize("with_remote", [True, False])
def test_a_list_of_files_that_is_damaged_here_is_named_and_had_anew_from_the_remote_or_the_batch(with_remote: bool, tmp_path: Path, template: Path) -> None:
    """Emptied by a power cut, it stopped `gc` and `erase` as a mistake in Vigil, and nobody fetched it anew: DVC takes what is there for whole."""
    root = tmp_path / "w"
    batch = made(root, template, {"url": str(tmp_path / "store") if with_remote else ""})
    if with_remote:
        doctor(root, "--push")
    (listing,) = (line.split()[-1] for line in (root / "data" / "raw" / f"{batch}.dvc").read_text().splitlines() if ".dir" in line)
    damaged = objects_in(cache_of(root))[listing]
    content = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(b"")
    damaged.chmod(0o444)
    refused = vigil("gc", "-w", root, check=False)
    assert refused.returncode == 1 and str(damaged) in refused.stderr and "vigil doctor --fix" in refused.stderr, refused.stderr
    code, page = doctor(root)
    (row,) = (row for row in page["checks"] if row["check"] == "cache")
    assert code == 1 and not row["ok"] and str(damaged) in row["found"]
    code, page = doctor(root, "--fix")
    assert code == 0 and "removed 1 damaged list from DVC's cache, 1 of it is there anew" in page["done"], page
    assert damaged.read_bytes() == content and vigil("gc", "-w", root).returncode == 0


@pytest.mark.slow
def test_a_manifest_that_is_missing_or_damaged_is_named_and_its_batch_comes_back(tmp_path: Path, template: Path) -> None:
    """The doctor called such a workspace well, and an erasure said that nobody had ever sent what lay in the batch."""
    root = tmp_path / "w"
    batch = made(root, template, {"url": str(tmp_path / "store")})
    folder = root / "data" / "raw" / batch
    manifest, sample = folder / "manifest.parquet", str(read_manifest(folder)["sample_id"][0])
    content = manifest.read_bytes()
    manifest.unlink()
    for number, words in enumerate((["erase", sample, "--who", "ada", "--why", "x"], ["retrain"], ["doctor", "--fix"])):
        refused = vigil(*words, "-w", root, check=False)
        assert refused.returncode == 1 and "manifest.parquet cannot be read" in refused.stderr and "away" in refused.stderr, refused.stderr
        if not number:  # half of it is read no better than nothing
            manifest.write_bytes(content[: len(content) // 2])
    code, page = doctor(root)
    (row,) = (row for row in page["checks"] if row["check"] == "files")
    assert code == 1 and f"data/raw/{batch}/manifest.parquet" in row["found"] and str(folder) in row["next"]
    folder.rename(root / "aside")
    assert doctor(root, "--pull")[0] == 0 and manifest.read_bytes() == content


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        pytest.param({"url": "s3://past/w", "s3_endpoint_url": "http://127.0.0.1:9"}, "127.0.0.1:9", marks=pytest.mark.slow),
        ({"url": "s3://nobody-has-this/w", "s3_endpoint_url": "SERVER"}, "bucket"),
        ({"url": ""}, "is empty"),
    ],
)
def test_a_remote_that_cannot_be_used_is_three_lines(tmp_path: Path, template: Path, where: dict[str, str], reason: str) -> None:
    with s3_server() as (endpoint, _):
        made(tmp_path / "w", template, {key: value.replace("SERVER", endpoint) for key, value in where.items()})
        if where["url"]:
            vigil("doctor", "--fix", "-w", tmp_path / "w")  # names the remote
            with open_dvc(tmp_path / "w") as repo, repo.config.edit() as config:
                config["remote"]["store"]["jobs"] = 1  # Python warned of the second question, which DVC had made and no longer asked
        for words in [("--remote",), ("--push",)]:
            done = vigil("doctor", *words, "-w", tmp_path / "w", check=False)
            if words == ("--push",) and not where["url"]:
                assert done.returncode == 0 and "pushed 0 objects" in done.stdout
                continue
            said = [line for line in done.stderr.splitlines() if not line.startswith("  remote ")]
            assert done.returncode == 1 and len(said) == 3 and said[1].startswith("  Why:  ") and said[2].startswith("  Next: "), done.stderr
            assert reason in said[1], done.stderr


@pytest.mark.slow
def test_what_could_not_be_sent_stays_in_sight_until_it_was(tmp_path: Path, template: Path) -> None:
    """A cycle said it once, on stderr. From then on everything was well: a promoted model could stand on one disk alone for months."""
    root, clone, nowhere = tmp_path / "w", tmp_path / "clone", "http://127.0.0.1:9"
    with s3_server("past") as (endpoint, client):
        made(root, template, {"url": "s3://past/w", "s3_endpoint_url": nowhere})
        assert unsent(root) is None and doctor(root)[0] == 0
        held = vigil("retrain", "-w", root)
        assert held.returncode == 3 and "could not be written" in held.stderr, held.stderr
        late = vigil_json("status", "-w", root)["unsent"]
        assert "127.0.0.1:9" in late["why"]
        shown = vigil("status", "-w", root).stdout
        assert f"since {late['since']}" in shown and "vigil doctor --push" in shown
        code, page = doctor(root)
        (row,) = [row for row in page["checks"] if not row["ok"]]
        assert code == 1 and row["check"] == "remote" and late["since"] in row["found"] and "--push" in row["next"]
        again = vigil("retrain", "-w", root)
        assert "Nothing new" in again.stdout and "could not be written" in again.stderr
        assert (mark := unsent(root)) and mark.since == late["since"]
        git(tmp_path, "clone", "-q", str(root), str(clone))
        assert unsent(clone) is None, "a clone has sent nothing"

        change_settings(root, {"remote": {"s3_endpoint_url": endpoint}})
        done = vigil("retrain", "-w", root)
        assert "Nothing new" in done.stdout and "could not be written" not in done.stderr
        assert client.list_objects_v2(Bucket="past", Prefix="w/files/md5/")["KeyCount"] > 9
        assert unsent(root) is None and doctor(root, "--remote")[0] == 0

        change_settings(root, {"remote": {"s3_endpoint_url": nowhere}})
        assert "could not be written" not in vigil("retrain", "-w", root).stderr, "nothing is to be sent, and nobody is asked"


def assembled(root: Path, content: str) -> None:
    """Leave what the stage `assemble` would: its output in DVC's cache, and named by dvc.lock."""
    for folder in (root / "data" / "sets", root / "data" / "raw" / "as-if"):
        folder.mkdir(exist_ok=True)
        (folder / "report.json").write_text(content)
    dvc_add(root, [root / "data" / "raw" / "as-if"])
    pointer = root / "data" / "raw" / "as-if.dvc"
    (out,) = yaml.safe_load(pointer.read_text())["outs"]
    pointer.unlink()
    shutil.rmtree(pointer.with_suffix(""))
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"assemble": {"cmd": "x", "outs": [out | {"path": "data/sets"}]}}}))


@pytest.mark.parametrize("by", ["doctor", "next cycle"])
def test_what_a_failed_push_left_is_sent_though_the_present_commit_names_it_no_more(by: str, tmp_path: Path, template: Path) -> None:
    """Status and doctor said that all was well, and the tag of that cycle came back without its training table, of which nobody was told."""
    root, old, late, store = tmp_path / "w", tmp_path / "old", tmp_path / "late", tmp_path / "store"
    made(root, template, {"url": str(store)})
    store.write_text("a file in the way")
    assembled(root, "first")
    failed = vigil("doctor", "--push", "-w", root, check=False)
    assert failed.returncode == 1 and "could not be written" in failed.stderr
    commit(root, "2026-W49.1 promoted", "vigil/2026-W49.1")
    assembled(root, "second")
    store.unlink()
    if by == "doctor":
        assert push(root) > 0 and unsent(root) is not None, "by itself it sends what the present commit names"
        assert doctor(root, "--push")[0] == 0
    else:
        send_again(root)
    assert unsent(root) is None and doctor(root, "--remote")[0] == 0
    git(tmp_path, "clone", "-q", "-b", "vigil/2026-W49.1", str(root), str(old))
    code, page = doctor(old, "--pull")
    assert code == 0 and (old / "data" / "sets" / "report.json").read_text() == "first", page

    (store / "files" / "md5" / hashlib.md5(b"first").hexdigest()[:2] / hashlib.md5(b"first").hexdigest()[2:]).unlink()
    git(tmp_path, "clone", "-q", "-b", "vigil/2026-W49.1", str(root), str(late))
    code, page = doctor(late, "--pull")
    (row,) = [row for row in page["checks"] if not row["ok"]]
    assert code == 1 and row["found"] == "1 not on the remote, or not whole: data/sets", page
    assert doctor(root, "--push")[0] == 0 and doctor(late, "--pull")[0] == 0 and (late / "data" / "sets" / "report.json").read_text() == "first"


def test_a_push_that_was_killed_stays_in_sight_too(tmp_path: Path, template: Path) -> None:
    root = tmp_path / "w"
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.settimeout(60)
        made(root, template, {"url": "s3://past/w", "s3_endpoint_url": f"http://127.0.0.1:{deaf.getsockname()[1]}"})
        with subprocess.Popen([sys.executable, "-m", "vigil", "doctor", "--push", "-w", root], env={**os.environ, **CREDENTIALS}) as process:
            deaf.accept()
            process.kill()
    assert "begun" in vigil_json("status", "-w", root)["unsent"]["why"] and doctor(root)[0] == 1
    change_settings(root, {"remote": {"url": "", "s3_endpoint_url": ""}})
    assert doctor(root, "--push")[0] == 0, "where there is no remote, nothing is to be sent"


def test_a_damaged_object_whose_replacing_was_cut_short_is_sent_with_the_next_cycle(tmp_path: Path, template: Path) -> None:
    """It had been removed, a push of DVC passed over it, and the mark went away: all was well, and the remote lacked it."""
    root = tmp_path / "w"
    with remote("s3", tmp_path) as (where, store):
        batch = made(root, template, where)
        doctor(root, "--push")
        lost = root / "data" / "raw" / batch / "media-001.tar"
        store.delete(md5_of(lost))
        mark_unsent(root, "a push was begun and has not ended")
        send_again(root)
        assert unsent(root) is None and store.read(md5_of(lost)) == lost.read_bytes()


@pytest.mark.parametrize("content", ["", "[1]", '{"since": "now"}'])
def test_a_mark_that_cannot_be_read_is_one_until_a_push_has_ended_well(content: str, tmp_path: Path, template: Path) -> None:
    """Status, doctor and each push ended as a mistake in Vigil."""
    root = tmp_path / "w"
    made(root, template, {"url": str(tmp_path / "store")})
    (root / ".vigil" / "unsent.json").write_text(content)
    assert "unsent.json cannot be read" in vigil("status", "-w", root).stdout
    assert doctor(root, "--push")[0] == 0 and unsent(root) is None


@pytest.mark.slow
def test_a_workspace_may_lie_below_a_folder_of_any_name(tmp_path: Path) -> None:
    """`vigil init` ended in a mistake of its own, and `vigil doctor --push` of a copy emptied DVC's configuration."""
    root = tmp_path / "josé ü 1" / "w"
    vigil("init", root, "--profile", "demo")
    (tmp_path / "media/real").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "media/real/a.png"), np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
    vigil("ingest", tmp_path / "media", "-w", root)
    vigil("doctor", "--push", "--remote", "-w", root)
    before = (root / ".dvc" / "config").read_bytes()
    vigil("doctor", "--push", "-w", root)
    assert (root / ".dvc" / "config").read_bytes() == before != b""
    copy = copy_workspace(root, tmp_path / "Kopie é")
    vigil("doctor", "--push", "--remote", "-w", copy)
    assert str(copy) in (copy / ".dvc" / "config").read_text(encoding="utf-8")


def test_a_damaged_journal_keeps_no_object_from_being_sent(tmp_path: Path, template: Path) -> None:
    root = tmp_path / "w"
    made(root, template, {"url": "remote"})
    (root / "journal.jsonl").write_text("not a line of a journal\n" * 2)
    code, page = doctor(root, "--push")
    assert code == 1 and [row["check"] for row in page["checks"] if not row["ok"]] == ["journal"]
    assert int(page["done"][0].removeprefix("pushed ").split()[0]) > 0
