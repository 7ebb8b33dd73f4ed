"""`vigil gc`, `vigil batches show` and `vigil erase SAMPLE` at the command line, on a workspace whose cycles are a few commits: nothing is trained."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from feedback.database import Database
from flows.taking_in import take_in
from media.shards import read_clip, read_index
from media.synthetic import render_take
from tests.feedback.buckets import s3_server
from tests.feedback.world import World
from tests.system.world import change_settings, copy_workspace, events, git, vigil, vigil_json
from workspace.batches import set_batch_state
from workspace.files import sha256_bytes
from workspace.journal import Journal
from workspace.lease import lease
from workspace.manifest import read_manifest
from workspace.objects import are_cached, cache_of, named_by, objects_in, place_of
from workspace.remote import pull, verify
from workspace.repository import commit, dvc_add, push, reproduce, set_remote
from workspace.settings import load_settings

pytestmark = pytest.mark.usefixtures("one_server")

CYCLES = ("2026-W01.1", "2026-W02.1", "2026-W03.1")


def picture(person: int) -> bytes:
    frames, _ = render_take(person, 1, 0, 2, size_px=256, fps=12.0)
    return bytes(cv2.imencode(".jpg", next(iter(frames))[..., ::-1])[1])


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Four rendered people, one JPEG each."""
    return [picture(person) for person in range(1, 5)]


def close(root: Path, cycle: str, outcome: str, judged: list[str]) -> None:
    """The end of a cycle as the flow leaves it: journal, model under DVC, commit and tag."""
    journal = Journal(root)
    journal.append("cycle_opened", cycle=cycle, judged=judged, base_model="", fingerprint="", scheduled=False, week=cycle[:8])
    model = root / "models" / cycle
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(cycle.encode() * 1000)
    sha256 = sha256_bytes(cycle.encode() * 1000)
    (model / "card.json").write_text(json.dumps({"train_clips": [], "cycle": cycle}))
    dvc_add(root, [model])
    journal.append("candidate", cycle=cycle, model_sha256=sha256, path=f"models/{cycle}")
    if outcome == "promoted":
        journal.append("promotion", cycle=cycle, model_sha256=sha256, path=f"models/{cycle}", previous_sha256="", who="vigil", why="every gate passed")
    journal.append("cycle_closed", cycle=cycle, outcome=outcome, reason="so", verdict_sha256="")
    commit(root, cycle, f"vigil/{cycle}")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, pictures: list[bytes]) -> Path:
    """A workspace with a batch of four pictures (real, fake, unlabelled, broken), its faces under DVC, three cycles (promoted, held, promoted), all pushed."""
    root = tmp_path_factory.mktemp("garbage") / "w"
    vigil("init", root, "--profile", "demo")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["faces"] |= {"size_px": 64, "clip_frames": 4, "workers": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    media = root.parent / "press"
    media.mkdir()
    with open(media / "labels.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "label", "identity", "generator", "licence"])
        for number, (content, label) in enumerate(zip([*pictures, b"no picture"], ("real", "fake", "", "real", "real"), strict=True)):
            (media / f"{number}.jpg").write_bytes(content)
            writer.writerow([f"{number}.jpg", label, f"p{number}", "gan" if label == "fake" else "", "CC-BY" if number else ""])
    vigil("ingest", media / "labels.csv", "-w", root)
    batch = events(root, "batch_added")[0]["fields"]["batch"]
    (root / "batches.yaml").write_text(yaml.safe_dump({"batches": [batch]}))
    reproduce(root, "faces")
    reproduce(root, "forge")
    close(root, CYCLES[0], "promoted", [batch])
    set_batch_state(root, batch, "accepted", who="vigil", why="promoted")
    close(root, CYCLES[1], "held", [])
    close(root, CYCLES[2], "promoted", [])
    push(root)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return copy_workspace(template, tmp_path / "w")


def batch_of(root: Path) -> str:
    return str(events(root, "batch_added")[0]["fields"]["batch"])


def garbage(root: Path, *words: str) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in vigil_json("gc", *words, "-w", root)}


def restored(root: Path, to: Path, tag: str) -> Path:
    """A clone that has nothing but what git holds and what the workspace's cache gives it, at this tag."""
    subprocess.run(["git", "clone", "-q", str(root), str(to)], check=True)
    git(to, "checkout", "-q", tag)
    (to / ".dvc" / "config").write_text(f"[core]\n    remote = near\n['remote \"near\"']\n    url = {root / '.dvc' / 'cache'}\n")
    pull(to, [str(path.relative_to(to)) for path in to.glob("*/**/*.dvc")])
    return to


# -- gc -------------------------------------------------------------------------------------------------------------------------
def test_gc_says_what_everything_costs_and_deletes_only_what_nobody_needs(root: Path, tmp_path: Path) -> None:
    (root / ".vigil" / "scores").mkdir(parents=True)
    leading = events(root, "promotion")[-1]["fields"]["model_sha256"]
    (root / ".vigil" / "scores" / f"{leading}-x.parquet").write_bytes(b"1" * 300)
    (root / ".vigil" / "scores" / f"{'0' * 64}-x.parquet").write_bytes(b"2" * 500)
    for folder in ("media", "derived"):
        (root / ".vigil" / folder).mkdir()
        (root / ".vigil" / folder / "upload").write_bytes(b"3")
    stray = root / "data" / "raw" / "stray"
    stray.mkdir()
    (stray / "media-000.tar").write_bytes(b"stray" * 2000)
    dvc_add(root, [stray])
    (root / "data" / "raw" / "stray.dvc").unlink()  # as after a batch that was never committed
    dry = garbage(root)
    assert dry["scores of other models"]["bytes"] == 500 and not dry["scores of other models"]["kept"] and not any(row["deleted"] for row in dry.values())
    assert dry["media of the service"]["path"] == ".vigil", "this was the whole workspace"
    assert dry["scores of the champion"]["kept"] and dry["DVC's cache: needed"]["kept"].startswith("4 branches and tags")
    unneeded = dry["DVC's cache: needed by nobody"]
    assert unneeded["files"] == 2 and unneeded["bytes"] >= 10_000
    assert dry[f"files of the held model of {CYCLES[1]}"]["kept"] == "" and f"files of the held model of {CYCLES[0]}" not in dry
    assert "Nothing was deleted" in vigil("gc", "-w", root).stdout and (root / ".vigil/scores" / f"{'0' * 64}-x.parquet").exists()
    done = garbage(root, "--delete")
    assert {name for name, row in done.items() if row["deleted"]} == {name for name, row in dry.items() if not row["kept"]}
    assert {name for name, row in garbage(root).items() if not row["kept"]} == set(), "nothing is left to remove"
    assert not (root / "models" / CYCLES[1]).exists() and (root / "models" / CYCLES[0]).exists()
    for number, cycle in enumerate(CYCLES):
        there = restored(root, tmp_path / f"clone{number}", f"vigil/{cycle}")
        assert (there / "models" / cycle / "model.safetensors").read_bytes() == cycle.encode() * 1000
        assert len(read_manifest(there / "data" / "raw" / batch_of(root))) == 5


def test_gc_keeps_everything_while_a_cycle_is_unfinished_and_waits_for_nobody(root: Path) -> None:
    (root / ".vigil" / "checkpoints").mkdir(parents=True, exist_ok=True)
    (root / ".vigil" / "checkpoints" / "half.pt").write_bytes(b"x" * 100)
    Journal(root).append("cycle_opened", cycle="2026-W09.1", judged=[], base_model="", fingerprint="", scheduled=False, week="2026-W09")
    assert all(row["kept"] and not row["deleted"] for row in garbage(root, "--delete").values())
    assert (root / ".vigil" / "checkpoints" / "half.pt").exists() and "2026-W09.1 is not finished" in vigil("gc", "-w", root).stdout
    with lease(root, "retrain"):
        refused = vigil("gc", "--delete", "-w", root, check=False)
    assert refused.returncode == 1 and "Next:" in refused.stderr and "Traceback" not in refused.stderr


def test_a_tag_goes_only_when_it_is_named_and_never_one_to_which_a_rollback_leads(root: Path, tmp_path: Path) -> None:
    set_remote(root, "remote")  # its own, not the template's
    push(root)
    for tag, why in ((f"vigil/{CYCLES[2]}", "champion"), (f"vigil/{CYCLES[0]}", "before it"), ("vigil/2020-W01.1", "no such tag"), ("main", "no such tag")):
        refused = vigil("gc", "--delete", "--without-tag", tag, "-w", root, check=False)
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr
    (root / "models" / f"{CYCLES[1]}.dvc").unlink()  # the batch list of today no longer names the held model; only its own tag does, and later ones
    commit(root, "without the held model", "vigil/2026-W04.1")
    for later in (CYCLES[2],):
        git(root, "tag", "-d", f"vigil/{later}")
    given = garbage(root, "--without-tag", f"vigil/{CYCLES[1]}")["DVC's cache: needed by a tag given up"]
    assert given["why"] == f"vigil/{CYCLES[1]} cannot be restored any more" and given["bytes"] > 0
    assert f"vigil gc --delete --without-tag {CYCLES[1]}" in vigil("gc", "--without-tag", CYCLES[1], "-w", root).stdout
    assert "DVC's cache: needed by a tag given up" not in garbage(root), "not unless it is asked for"
    garbage(root, "--delete", "--without-tag", CYCLES[1])
    (root / ".vigil" / "checkpoints").mkdir(parents=True, exist_ok=True)
    (root / ".vigil" / "checkpoints" / "half.pt").write_bytes(b"x")
    refused = vigil("gc", "--delete", "-w", root, check=False)
    assert refused.returncode == 1 and f"Give up what needs it: --without-tag vigil/{CYCLES[1]}" in refused.stderr, "the list of its files is gone too"
    assert (root / ".vigil" / "checkpoints" / "half.pt").exists(), "nothing was deleted, as it says"
    assert garbage(root, "--without-tag", f"vigil/{CYCLES[1]}")["DVC's cache: needed"]["kept"]
    assert restored(root, tmp_path / "kept", f"vigil/{CYCLES[0]}").joinpath("models", CYCLES[0], "model.safetensors").exists()
    with pytest.raises(Exception, match=r"(?i)missing|not exist|checkout|failed"):
        there = restored(root, tmp_path / "lost", f"vigil/{CYCLES[1]}")
        assert (there / "models" / CYCLES[1] / "model.safetensors").exists(), "its files are missing"


def erased_and_cloned(root: Path, pictures: list[bytes], clone: Path) -> Path:
    """A clone of a workspace out of which a picture was erased, with what the clone's own commit names."""
    push(root)
    vigil("erase", sha256_bytes(pictures[0]), "--who", "ada", "--why", "asked to", "-w", root)
    push(root)
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    vigil("doctor", "--pull", "-w", clone, check=False)
    assert needed_here(clone), "the lists of before the erasure are named by tags alone"
    return clone


def needed_here(root: Path) -> set[str]:
    """The lists of folders that some branch or tag names and the cache lacks."""
    return {md5 for md5s in named_by(root).values() for md5 in md5s if md5.endswith(".dir")} - objects_in(cache_of(root)).keys()


@pytest.mark.parametrize("store", ["its own folder", pytest.param("a folder", marks=pytest.mark.slow), pytest.param("s3", marks=pytest.mark.slow)])
def test_a_clone_of_after_an_erasure_fetches_the_lists_of_earlier_commits(store: str, root: Path, pictures: list[bytes], tmp_path: Path) -> None:
    """It was told to fetch what is erased, which cannot be, or to give up the champion's tag, which is refused."""
    with s3_server("vault") as (endpoint, _):
        places = {"its own folder": ("remote", ""), "a folder": (str(tmp_path / "store"), ""), "s3": ("s3://vault/store", endpoint)}
        url, endpoint = places[store]
        change_settings(root, {"remote": {"url": url, "s3_endpoint_url": endpoint}})
        set_remote(root, url, endpoint)
        commit(root, "another remote")
        clone = erased_and_cloned(root, pictures, tmp_path / "clone")
        settings, gone = (clone / "params.yaml").read_text(), objects_in(cache_of(clone)).keys()
        assert garbage(clone)["DVC's cache: needed"]["kept"] and needed_here(clone) == set()
        added = objects_in(cache_of(clone)).keys() - gone
        assert added and all(md5.endswith(".dir") for md5 in added), "no more than the lists"
        assert (clone / "params.yaml").read_text() == settings
        garbage(clone, "--delete")
        assert needed_here(clone) == set() and read_manifest(clone / "data" / "raw" / batch_of(clone)) is not None


@pytest.mark.slow
def test_where_the_remote_is_away_or_lacks_a_list_nothing_is_deleted_and_what_helps_is_said(root: Path, pictures: list[bytes], tmp_path: Path) -> None:
    store = tmp_path / "store"
    change_settings(root, {"remote": {"url": str(store)}})
    set_remote(root, str(store))
    commit(root, "another remote")
    clone = erased_and_cloned(root, pictures, tmp_path / "clone")
    checkpoint = clone / ".vigil" / "checkpoints" / "half.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"x")
    held = objects_in(cache_of(clone))

    def refused(*says: str) -> None:
        done = vigil("gc", "--delete", "-w", clone, check=False)
        assert done.returncode == 1 and "Nothing was deleted" in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert all(one in done.stderr for one in says), done.stderr
        assert objects_in(cache_of(clone)) == held and checkpoint.exists()

    store.rename(tmp_path / "unmounted")
    refused(f"there is no DVC remote in {store}\n", "Bring it back")
    with s3_server("vault") as (endpoint, _):
        change_settings(clone, {"remote": {"url": "s3://vault/x", "s3_endpoint_url": "http://127.0.0.1:9"}})
        refused("cannot be fetched", "127.0.0.1:9", "Check `remote` in params.yaml")
        change_settings(clone, {"remote": {"url": "s3://wrong/x", "s3_endpoint_url": endpoint}})
        refused("cannot be fetched", "NoSuchBucket", "Check `remote` in params.yaml")
    (tmp_path / "unmounted").rename(store)
    change_settings(clone, {"remote": {"url": str(store), "s3_endpoint_url": ""}})
    lost = {md5: objects_in(store)[md5] for md5 in needed_here(clone)}
    for md5, path in lost.items():
        path.rename(tmp_path / md5)
    refused(f"vigil/{CYCLES[2]}", f"Copy files/md5/{min(lost)[:2]}/{min(lost)[2:]}", str(cache_of(clone)))
    for md5 in lost:
        place = place_of(cache_of(clone), md5)
        place.parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / md5, place)
    assert garbage(clone, "--delete")["training checkpoints"]["deleted"] and not checkpoint.exists()


def test_faces_of_a_dropped_batch_may_go(root: Path) -> None:
    batch = batch_of(root)
    vigil("batches", "drop", batch, "--who", "Jos\udce9", "--why", "poisoned", "-w", root)
    assert events(root, "batch_state")[-1]["fields"]["who"] == "Jos\\xe9", "of a terminal that speaks Latin-1"
    row = garbage(root, "--delete")[f"faces and fakes of {batch}"]
    assert row["deleted"] and row["bytes"] > 0 and not (root / "data" / "faces" / batch).exists()


def test_faces_of_a_dropped_batch_stay_while_the_last_sets_draw_on_them(root: Path) -> None:
    """`vigil audit`, `compare` and `search`, which read the sets of the last cycle, failed after `batches drop` and `gc --delete` until a next cycle."""
    import pandas as pd

    batch, sets = batch_of(root), root / "data" / "sets"
    sets.mkdir()
    faces = read_index(root / "data" / "faces" / batch)
    faces.assign(store=f"data/faces/{batch}").to_parquet(sets / "train.parquet")
    faces[:0].assign(store="").to_parquet(sets / "unlabelled.parquet")
    vigil("batches", "drop", batch, "--who", "ana", "--why", "not ours", "-w", root)
    row = garbage(root, "--delete")[f"faces and fakes of {batch}"]
    assert not row["deleted"] and "draw on them" in row["kept"]
    assert len([read_clip(root, clip) for clip in pd.read_parquet(sets / "train.parquet").to_dict("records")]) == len(faces) > 0
    faces[:0].assign(store="").to_parquet(sets / "train.parquet")  # as the next cycle draws
    assert garbage(root, "--delete")[f"faces and fakes of {batch}"]["deleted"]


# -- batches show ---------------------------------------------------------------------------------------------------------------
def test_a_batch_shows_what_came_in_and_what_became_of_it(root: Path, pictures: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "other" / "fake").mkdir(parents=True)
    (tmp_path / "other" / "fake" / "x.jpg").write_bytes(pictures[0])
    vigil("ingest", tmp_path / "other", "--name", "rumour", "-w", root)
    batch = batch_of(root)
    page = vigil_json("batches", "show", batch, "-w", root)
    assert (page["state"], page["source"], page["samples"]) == ("accepted", "press", 4) and page["bytes"] > sum(map(len, pictures))
    assert page["by_label"] == {"fake": 1, "real": 2, "unknown": 1} and page["by_generator"] == {"gan": 1} and page["by_kind"] == {"image": 4}
    assert page["by_licence"] == {"CC-BY": 3, "not stated": 1} and page["identities"] == 4 and page["waiting"] == 1 and sum(page["quarantined"].values()) == 1
    (conflict,) = page["conflicts"]
    assert conflict == {"sample_id": sha256_bytes(pictures[0]), "said": [f"real in batch {batch}", "fake in rumour (fake/x.jpg)"]}
    assert [(one["who"], one["why"]) for one in page["history"]] == [("vigil", "promoted")]
    assert [one["cycle"] for one in page["judged_by"]] == [CYCLES[0]]
    assert [(one["cycle"], one["new"]) for one in page["models"]] == [(CYCLES[0], True), (CYCLES[2], False)], "the held one learned, and was not promoted"
    said = vigil("batches", "show", batch, "-w", root).stdout
    assert "quarantined: 1 x" in said and "conflict:" in said and "accepted by vigil: promoted" in said
    assert [row["batch"] for row in vigil_json("batches", "list", "-w", root)] == [batch] == [row["batch"] for row in vigil_json("batches", "-w", root)]
    refused = vigil("batches", "show", "nothing", "-w", root, check=False)
    assert refused.returncode == 1 and batch in refused.stderr and "Traceback" not in refused.stderr


# -- erasure of one sample --------------------------------------------------------------------------------------------------------
def places_of(root: Path, *contents: bytes) -> list[str]:
    """Files of the workspace, DVC's cache and its remote among them, that hold some of the contents."""
    found = (path for path in root.rglob("*") if path.is_file())
    return [str(path.relative_to(root)) for path in found if any(content in path.read_bytes() for content in contents)]


def packed_clips(root: Path, sample_id: str) -> list[bytes]:
    """The stored pixels of a sample's faces and of what was forged from them, as the tars hold them."""
    import pandas as pd

    found = []
    for index in root.glob("data/*/*/index.parquet"):
        rows = pd.read_parquet(index)
        for row in rows[rows["clip_id"].str.startswith(sample_id[:16])].to_dict("records"):
            found.append((index.parent / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["nbytes"]])
    return found


@pytest.mark.parametrize("store", ["folder", pytest.param("s3", marks=pytest.mark.slow)])
def test_an_erased_sample_is_nowhere_and_the_stages_go_on_without_it(store: str, root: Path, pictures: list[bytes], tmp_path: Path) -> None:
    if store == "s3":
        with s3_server("vault") as (endpoint, client):
            change_settings(root, {"remote": {"url": "s3://vault/store", "s3_endpoint_url": endpoint}})
            set_remote(root, "s3://vault/store", endpoint)
            assert places_of(root / ".vigil" / "remote", pictures[0][200:1200]) != [], "that was its remote before"
            assert push(root) > 0
            _erase_one(root, pictures, tmp_path)
            kept = {one["Key"]: client.get_object(Bucket="vault", Key=one["Key"])["Body"].read() for one in client.list_objects_v2(Bucket="vault")["Contents"]}
            assert not [key for key, content in kept.items() if pictures[0][200:1200] in content]
            assert [key for key, content in kept.items() if pictures[3][200:1200] in content], "its shard was one with the erased one, and was packed anew"
    else:
        set_remote(root, "remote")  # its own, not the template's
        commit(root, "its own remote")
        push(root)
        _erase_one(root, pictures, tmp_path, earlier=True)


def _erase_one(root: Path, pictures: list[bytes], scratch: Path, earlier: bool = False) -> None:
    batch, gone, stays = batch_of(root), sha256_bytes(pictures[0]), sha256_bytes(pictures[3])
    packed = packed_clips(root, gone)
    others = packed_clips(root, stays)
    assert len(packed) >= 2 and len(places_of(root, pictures[0][200:1200])) >= 2 and len(places_of(root, *packed)) >= 4, "faces and what was forged from them"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".git" not in path.parts}
    page = vigil_json("erase", gone, "--who", "ada", "--why", "asked to", "--dry-run", "-w", root)
    assert [(row["batch"], row["path"], row["bytes"]) for row in page["rows"]] == [(batch, "0.jpg", len(pictures[0]))]
    assert page["folders"] == [f"data/faces/{batch}", f"data/forged/{batch}"] and page["cached_objects"] >= 4 and page["cached_bytes"] > len(pictures[0])
    assert page["tags"] == [f"vigil/{cycle}" for cycle in CYCLES]
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert {path for path in before if after.get(path) != before[path] and path.suffix != ".lock"} - {root / ".vigil" / "lease.json"} == set(), (
        "a dry run changes nothing"
    )
    done = vigil_json("erase", gone, "--who", "ada", "--why", "asked to", "-w", root)
    (row,) = done["training"]
    assert row["training"]["batches"] == [batch] and row["training"]["tags"] == page["tags"] and row["training"]["remote_objects"] >= 4 and done["left"] == 0
    assert places_of(root, pictures[0][200:1200], *packed) == [], "not in the batch, the faces, the fakes, DVC's cache or the remote"
    assert places_of(root, pictures[3][200:1200]) != []
    (told,) = events(root, "erased")
    assert told["fields"] | {"requested_at": ""} == {
        "sample_id": gone, "requested_at": "", "batches": [batch], "tags": page["tags"], "who": "system:command line (ada)", "why": "asked to",
    }  # fmt: skip
    assert vigil_json("audit", "verify", "-w", root)["whole"] and vigil_json("batches", "show", batch, "-w", root)["erased"] == 1
    push(root)
    checks = json.loads(vigil("doctor", "--remote", "--json", "-w", root, check=False).stdout)["checks"]
    assert [row["ok"] for row in checks if row["check"] == "remote"] == [True], "nothing that is gone for good is missed"
    for revision in ("main", *([f"vigil/{CYCLES[2]}"] if earlier else [])):
        there = scratch / Path(revision).name
        subprocess.run(["git", "clone", "-q", "-b", revision, str(root), str(there)], check=True)
        told = vigil("doctor", "--pull", "-w", there, check=False)
        assert "remote could not be read" not in told.stderr and "WARNING" not in told.stderr, told.stderr
        assert (there / "models" / CYCLES[2] / "model.safetensors").exists(), "of an earlier commit what is left comes"
        assert (there / "data" / "raw" / batch).exists() == (revision == "main")
        assert places_of(there, pictures[0][200:1200], *packed) == []
        shutil.rmtree(there)
    if earlier:  # what follows is the same whatever the remote is
        return
    reproduce(root, "faces")
    reproduce(root, "forge")
    assert packed_clips(root, gone) == [] and len(packed_clips(root, stays)) == len(others)
    again = vigil_json("erase", gone, "--who", "ada", "--why", "asked to", "-w", root)
    assert again["training"][0]["training"]["cached_objects"] == 0, "safe to repeat"
    folder = root.parent / "again" / "real"
    folder.mkdir(parents=True)
    (folder / "back.jpg").write_bytes(pictures[0])
    assert "0 new, 1 known" in vigil("ingest", folder.parent, "-w", root).stdout, "it never comes in again"


def test_an_erasure_takes_nothing_of_another_workspace_out_of_a_shared_cache(root: Path, pictures: list[bytes], tmp_path: Path) -> None:
    """It deleted what mentions the file there, another's manifest and tar, with everybody in it."""
    shared, other, media = tmp_path / "shared", tmp_path / "other", tmp_path / "media" / "real"
    shutil.move(root / ".dvc" / "cache", shared)
    media.mkdir(parents=True)
    (media / "same.jpg").write_bytes(pictures[0])
    (media / "else.jpg").write_bytes(picture(11))
    vigil("init", other, "--profile", "demo")
    for one in (root, other):
        (one / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {shared}\n")
    vigil("ingest", media.parent, "-w", other)
    named = named_by(other)["workspace"]
    assert named and are_cached(shared, named)
    mine = named_by(root)["workspace"]
    set_remote(root, "remote")  # its own, not the template's
    push(root)
    done = vigil_json("erase", sha256_bytes(pictures[0]), "--who", "ada", "--why", "asked to", "-w", root)
    assert done["training"][0]["training"]["cached_objects"] >= 4
    assert are_cached(shared, named), "what only the other one names is its own to erase"
    assert not are_cached(shared, mine) and places_of(root, pictures[0][200:1200]) == []


def test_each_of_several_erased_files_is_told_its_own_batches_tags_and_objects(root: Path, pictures: list[bytes], tmp_path: Path) -> None:
    """An erasure of two told of each, in print, journal and audit trail, the batches, folders and tags of both."""
    other, content = tmp_path / "other" / "real", picture(9)
    other.mkdir(parents=True)
    (other / "x.jpg").write_bytes(content)
    vigil("ingest", other.parent, "-w", root)
    set_remote(root, "remote")  # its own, not the template's
    dvc_add(root, [root / "data" / "raw" / events(root, "batch_added")[1]["fields"]["batch"]])
    commit(root, "another batch", "vigil/2026-W05.1")
    push(root)
    words = ("--who", "ada", "--why", "two people asked", "-w", root)
    asked = [sha256_bytes(pictures[0]), sha256_bytes(content)]
    alone = {one: vigil_json("erase", one, "--dry-run", *words) for one in asked}
    assert alone[asked[1]]["tags"] == ["vigil/2026-W05.1"] and alone[asked[1]]["folders"] == [] and len(alone[asked[0]]["tags"]) == 4
    done = vigil_json("erase", *asked, *words)
    told = {row["sha256"]: row["training"] for row in done["training"]}
    for one, page in alone.items():
        assert told[one]["batches"] == [row["batch"] for row in page["rows"]]
        assert [told[one][name] for name in ("folders", "tags", "cached_objects")] == [page[name] for name in ("folders", "tags", "cached_objects")]
    fields = [event["fields"] for event in events(root, "erased")]
    assert {line["sample_id"]: (line["batches"], line["tags"]) for line in fields} == {one: (told[one]["batches"], told[one]["tags"]) for one in asked}


def test_an_upload_is_erased_and_the_same_file_from_another_source_stays_whole(root: Path, pictures: list[bytes], tmp_path: Path) -> None:
    """Whatever of DVC held the file was deleted, the other batch's manifest and shard, with everybody in it, and their copies on the remote too."""
    params, batch, mine = (root / "params.yaml").read_text(), batch_of(root), sha256_bytes(pictures[2])
    world = World(root)
    (root / "params.yaml").write_text(params)
    detection, case = world.upload(pictures[2])
    world.decide(case, "fake", identity="somebody")
    with lease(root, "retrain"):
        take_in.fn(root, load_settings(root / "params.yaml"), [])
    set_remote(root, "remote")  # its own, not the template's
    commit(root, "a case", "vigil/2026-W05.1")
    push(root)
    world.close()
    reviewed = next(path.parent for path in root.glob("data/raw/*/manifest.parquet") if path.parent.name != batch)
    before = {path: path.read_bytes() for folder in ("raw", "faces", "forged") for path in (root / "data" / folder / batch).rglob("*")}
    page = vigil_json("erase", detection, "--who", "ada", "--why", "asked to", "--dry-run", "-w", root)
    assert [row["batch"] for row in page["rows"]] == [reviewed.name] and page["kept_in"] == [batch] and page["folders"] == []
    assert page["tags"] == ["vigil/2026-W05.1"] and page["cached_objects"] == 2, "the case's manifest and its shard"
    said = vigil("erase", detection, "--who", "ada", "--why", "asked to", "-w", root).stdout
    assert f"{batch} has the same file from another source" in said and "2 objects of DVC's cache and 2 of its remote deleted" in said
    assert {path: path.read_bytes() for folder in ("raw", "faces", "forged") for path in (root / "data" / folder / batch).rglob("*")} == before
    row = read_manifest(reviewed).set_index("sample_id").loc[mine]
    assert (row["use"], row["identity"], row["shard"]) == ("never", "", "") and mine in set(read_manifest(root / "data" / "raw" / batch)["sample_id"])
    push(root)
    assert verify(root).whole
    there = restored(root, tmp_path / "clone", "main")
    assert len(read_manifest(there / "data" / "raw" / batch)) == 5 and (there / "data" / "raw" / reviewed.name / "manifest.parquet").exists()
    everything = vigil_json("erase", mine, "--who", "ada", "--why", "all of it", "-w", root)
    assert everything["training"][0]["training"]["kept_in"] == [] and places_of(root, pictures[2][200:1200]) == [], "by its hash it goes from everywhere"


def test_an_erasure_reaches_what_only_earlier_tags_and_the_remote_have(
    root: Path, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clone, whose cache has the present commit alone, pictures under earlier tags stayed on the remote, and nothing said so."""
    for key, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(key, value)
    store, gone = tmp_path / "store", sha256_bytes(pictures[0])
    change_settings(root, {"remote": {"url": str(store)}})
    set_remote(root, str(store))
    contents = [pictures[0][200:1200], *packed_clips(root, gone)]
    earlier = {md5 for md5, path in objects_in(cache_of(root)).items() if any(content in path.read_bytes() for content in contents[1:])}
    commit(root, "another remote")
    push(root)
    subprocess.run([sys.executable, "-m", "dvc", "push", "-q", "--all-tags"], cwd=root, check=True)
    change_settings(root, {"faces": {"size_px": 72, "clip_frames": 4, "workers": 1}})
    reproduce(root, "faces")
    reproduce(root, "forge")
    contents += packed_clips(root, gone)
    commit(root, "other faces", "vigil/2026-W05.1")
    push(root)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    vigil("doctor", "--pull", "-w", clone, check=False)
    assert earlier and not earlier & objects_in(cache_of(clone)).keys() and earlier <= objects_in(store).keys()
    page = vigil_json("erase", gone, "--who", "ada", "--why", "asked to", "--dry-run", "-w", clone)
    assert page["not_here"] >= len(earlier)
    change_settings(clone, {"remote": {"url": "s3://bucket/x", "s3_endpoint_url": "http://127.0.0.1:9"}})
    failed = vigil("erase", gone, "--who", "ada", "--why", "asked to", "-w", clone, check=False)
    assert failed.returncode == 1 and "not finished" in failed.stderr and f"vigil/{CYCLES[0]}" in failed.stderr, failed.stderr
    assert places_of(clone / "data", *contents) == [], "what no remote is needed for is done"
    change_settings(clone, {"remote": {"url": str(store), "s3_endpoint_url": ""}})
    (row,) = vigil_json("erase", "--who", "ada", "--why", "asked to", "-w", clone)["training"]
    assert row["training"]["remote_objects"] >= len(earlier) and set(row["training"]["tags"]) == {f"vigil/{cycle}" for cycle in (*CYCLES, "2026-W05.1")}
    assert places_of(store, *contents) == places_of(clone, *contents) == []


def test_what_was_said_of_an_erased_person_goes_and_the_commit_has_the_journal_s_line(root: Path, pictures: list[bytes]) -> None:
    """The table of scores kept the name beside the measurements, in the workspace, DVC's cache, its remote and MLflow; ingest's notes kept the file's name."""
    import pandas as pd

    set_remote(root, "remote")
    first, second, stays = (sha256_bytes(picture) for picture in (pictures[0], pictures[1], pictures[3]))
    table = root / "reports" / "predictions.parquet"
    pd.DataFrame({"unit": [first, f"{first}+gan", stays], "cluster": ["Ann", "Ann", "Bob"], "p_challenger": [0.1, 0.9, 0.2]}).to_parquet(table)
    shutil.copytree(table.parent, root / "before")  # dvc.yaml says that the table itself is a stage's
    dvc_add(root, [root / "before"])
    shutil.rmtree(root / "before")
    copies = [table, root / "mlartifacts" / "run" / "artifacts" / "reports" / table.name]
    copies[1].parent.mkdir(parents=True)
    shutil.copy(table, copies[1])
    push(root)
    for store in (cache_of(root), root / ".vigil" / "remote"):
        copies += [path for path in objects_in(store).values() if path.read_bytes() == table.read_bytes()]
    assert len(copies) == 4 and first in (root / ".vigil" / "seen.json").read_text()
    for words in ([first, "--who", "", "--why", "x"], [first, "--who", "ada", "--why", " "], [first, "f" * 64, "--who", "ada", "--why", "x"]):
        refused = vigil("erase", *words, "-w", root, check=False)
        assert refused.returncode == 1 and "Nothing was erased" in refused.stderr and "Traceback" not in refused.stderr
    assert all(path.exists() for path in copies) and events(root, "erased") == []
    done = vigil_json("erase", first, second, "--who", "ada", "--why", "asked to", "-w", root)
    assert [one["sha256"] for one in done["erased"]] == [first, second] and len(done["training"]) == 2
    assert [path for path in copies if path.exists()] == []
    seen = (root / ".vigil" / "seen.json").read_text()
    assert first not in seen and second not in seen and stays in seen
    assert git(root, "show", "HEAD:journal.jsonl").encode() == (root / "journal.jsonl").read_bytes().strip() and len(events(root, "erased")) == 2


def test_what_is_no_sample_is_refused(root: Path) -> None:
    for words in (["f" * 64], ["nonsense"], ["f" * 64, "--dry-run"], ["nonsense", "--dry-run"], ["..", "--dry-run"]):
        refused = vigil("erase", *words, "--who", "ada", "--why", "x", "-w", root, check=False)
        assert refused.returncode == 1 and "Nothing was erased" in refused.stderr and "Traceback" not in refused.stderr, refused.stderr
    Database(root, load_settings(root / "params.yaml")).close()
    assert events(root, "erased") == []


def test_an_erasure_waits_for_batches_that_are_not_here(root: Path, pictures: list[bytes], tmp_path: Path) -> None:
    """Known to the service it was said to be in no batch, and done; with the next pull it was back, ready to be trained on."""
    params, gone = (root / "params.yaml").read_text(), sha256_bytes(pictures[0])
    world = World(root)
    (root / "params.yaml").write_text(params)
    world.upload(pictures[0])
    world.close()
    folder = root / "data" / "raw" / batch_of(root)
    folder.rename(tmp_path / "aside")
    for words in ([gone, "--dry-run"], ["f" * 64], [gone], []):
        refused = vigil("erase", *words, "--who", "ada", "--why", "asked to", "-w", root, check=False)
        assert refused.returncode == 1 and f"not on this machine: {folder.name}" in refused.stderr and "doctor --pull" in refused.stderr, refused.stderr
    assert events(root, "erased") == []
    (tmp_path / "aside").rename(folder)
    done = vigil_json("erase", "--who", "ada", "--why", "asked to", "-w", root)
    assert done["training"][0]["sha256"] == gone and done["left"] == 0
    assert read_manifest(folder).set_index("sample_id").loc[gone, "use"] == "never" and places_of(root, pictures[0][200:1200]) == []


def test_an_erasure_waits_for_the_end_of_a_cycle(root: Path, pictures: list[bytes]) -> None:
    Journal(root).append("cycle_opened", cycle="2026-W09.1", judged=[], base_model="", fingerprint="", scheduled=False, week="2026-W09")
    done = vigil_json("erase", sha256_bytes(pictures[0]), "--who", "ada", "--why", "asked to", "-w", root)
    assert done["left"] == 1 and done["training"] == [] and places_of(root, pictures[0][200:1200]) != []
    assert "vigil retrain" in vigil("erase", "--who", "ada", "--why", "asked to", "-w", root).stdout
