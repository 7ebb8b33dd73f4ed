"""The doctor and the journal: a shorter journal is a valid chain, and would undo what people decided."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from feedback.database import Database
from flows.cycle import _one_cycle
from flows.health import examine
from flows.probe import HOLDOUT
from tests.system.world import git, vigil
from tests.workspace.worlds import make_model, start_python, verdict_for
from vigil.cycles import run_cycle, would_run
from vigil.deciding import bootstrap_first, override_gate, roll_back, set_batch_state
from vigil.erasing import erase
from vigil.garbage import collect
from vigil.importing import import_model
from vigil.mending import examine_and_fix
from vigil.opening import open_workspace
from vigil.reading import render_status, status_of
from vigil.taking_in import ingest_sources
from vigil.upgrading import upgrade_workspace
from workspace import registry
from workspace.errors import ModelFileError, WorkspaceError
from workspace.files import read_json, write_json
from workspace.journal import Journal
from workspace.lease import lease_holder
from workspace.manifest import read_manifest
from workspace.objects import cache_of, objects_in
from workspace.promotion import bootstrap, promote
from workspace.repository import commit, commit_journal, dvc_add, push
from workspace.revisions import cut_short, is_ahead
from workspace.settings import Settings, SourceSettings, load_settings
from workspace.state import batch_states


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings, str]:
    """A workspace with a batch that a person held, and one that came in since; its settings, and its whole journal."""
    root = tmp_path_factory.mktemp("health") / "w"
    open_workspace(root, "demo")
    journal = Journal(root)
    journal.append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    set_batch_state(root, "b1", "held", "ann", "look at it")
    journal.append("batch_added", batch="b2", source="folder", samples=4, quarantined=0)
    return root, load_settings(root / "params.yaml"), (root / "journal.jsonl").read_text()


def journal_row(root: Path, settings: Settings) -> dict[str, Any]:
    (row,) = [row for row in examine(root, settings) if row["check"] == "journal"]
    return row


def test_a_persons_decision_is_committed_at_once(world: tuple[Path, Settings, str]) -> None:
    root, settings, whole = world
    assert git(root, "show", "HEAD:journal.jsonl").splitlines() == whole.splitlines()[:2]
    assert journal_row(root, settings)["ok"], "what came in since is no part of a commit yet, and need not be"


def test_a_cycle_that_begins_holds_the_workspace_in_its_own_name(world: tuple[Path, Settings, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For its first twenty seconds it was a doctor, whom nobody had called."""
    root, settings, _ = world
    seen: list[str] = []

    def begun() -> None:
        holder = lease_holder(root)
        seen.append(holder.purpose if holder else "")
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.environment.start_private_server", begun)
    with pytest.raises(KeyboardInterrupt):
        run_cycle(root, settings)
    assert seen == ["retrain"]


def test_a_torn_last_line_is_no_loss_of_what_was_committed(world: tuple[Path, Settings, str]) -> None:
    root, _, whole = world
    path = root / "journal.jsonl"
    assert is_ahead(root), "of what came in since"
    path.write_bytes(whole.encode() + b'{"kind": "\xff')
    assert cut_short(root) == "" and not is_ahead(root), "what is torn is in no commit"
    path.write_text(whole)


def test_a_journal_that_was_put_back_and_went_on_lacks_what_was_committed_however_long_it_grew(world: tuple[Path, Settings, str]) -> None:
    root, _, whole = world
    path = root / "journal.jsonl"
    path.write_text(whole.splitlines()[0] + "\n")
    try:
        for name in ("b3", "b4"):
            Journal(root).append("batch_added", batch=name, source="folder", samples=4, quarantined=0)
        assert len(path.read_text()) > len(git(root, "show", "HEAD:journal.jsonl"))
        assert "of which the file holds 1" in cut_short(root) and not is_ahead(root)
    finally:
        path.write_text(whole)


VERBS: dict[str, Callable[[Path, Settings], object]] = {
    "retrain": lambda root, settings: run_cycle(root, settings, force=True),
    "ingest": lambda root, settings: ingest_sources(root, settings, [SourceSettings(name="more", path=str(root.parent))]),
    "batches": lambda root, settings: set_batch_state(root, "b1", "dropped", "ann", "look at it"),
    "override": lambda root, settings: override_gate(root, "robustness", "ann", "look at it", 1),
    "rollback": lambda root, settings: roll_back(root, settings, "", "ann", "look at it"),
    "bootstrap": lambda root, settings: bootstrap_first(root, settings, "ann", "look at it"),
    "import": lambda root, settings: import_model(root, settings, root, [], None, "ann", "look at it"),
    "erase": lambda root, settings: erase(root, settings, ["0" * 64], "ann", "she asked"),
    "upgrade": lambda root, settings: upgrade_workspace(root, dry_run=False),
    "doctor": lambda root, settings: examine_and_fix(root, settings, fix=True, push=False),
    "clock": lambda root, settings: examine_and_fix(root, settings, fix=False, push=False, clock_is_right=True),
}


@pytest.mark.parametrize("kept", [0, 1], ids=["gone", "cut"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_journal_that_lost_committed_lines_is_named_and_nothing_is_decided_on_it(world: tuple[Path, Settings, str], kept: int, verb: str) -> None:
    """A small decision was committed, and the loss with it: from then on nobody could find it."""
    root, settings, whole = world
    path = root / "journal.jsonl"
    path.write_text("".join(line + "\n" for line in whole.splitlines()[:kept]))
    try:
        Journal(root).verify()  # the chain alone finds nothing wrong with it
        row = journal_row(root, settings)
        assert not row["ok"] and f"of which the file holds {kept}" in row["found"] and "git diff HEAD" in row["next"]
        before, head = path.read_text(), git(root, "rev-parse", "HEAD")
        with pytest.raises(WorkspaceError, match="lacks decisions that were committed"):
            VERBS[verb](root, settings)
        commit_journal(root, "whatever else decides")
        assert path.read_text() == before and git(root, "rev-parse", "HEAD") == head
    finally:
        path.write_text(whole)
    assert journal_row(root, settings)["ok"]


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "new"])
@pytest.mark.parametrize(
    "name",
    ["dvc.yaml", "dvc.lock", ".dvc/config", "reports/verdict.json", "reports/continual.json", "reports/decay.json", "data/raw/b1.dvc", "models/m.dvc"],
)
def test_a_damaged_file_is_named_before_anything_is_trained(tmp_path: Path, name: str, committed: bool) -> None:
    """A cycle trained everything and died at its end, for ever, or wrote one row in place of a history that a merge had marked; the doctor found nothing."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    settings, path = load_settings(root / "params.yaml"), root / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text("{}\n" if path.suffix == ".json" else "outs:\n- md5: 0123456789abcdef0123456789abcdef\n  path: m\n")
    if committed:
        git(root, "add", "-f", name)
        git(root, "-c", "user.name=A", "-c", "user.email=a@localhost", "commit", "-q", "--allow-empty", "-m", "all")
    assert not [row for row in examine(root, settings) if row["check"] == "files"]
    known = bool(git(root, "ls-tree", "--name-only", "HEAD", "--", name))
    path.write_text("[1]" if name == "reports/decay.json" else "[outs: [{{{")
    (row,) = [row for row in examine(root, settings) if row["check"] == "files"]
    assert name in row["found"] and f"{'git checkout HEAD --' if known else 'rm'} {name}" in row["next"]
    for act in (lambda: _one_cycle(root, settings, False, True, ()), lambda: examine_and_fix(root, settings, fix=True, push=True)):
        with pytest.raises(WorkspaceError, match=re.escape(f"{name} cannot be read")):
            act()


def test_a_decision_beside_a_stale_lock_of_git_is_committed_by_the_doctor(tmp_path: Path) -> None:
    """Nobody said that there was one, and the lock went without the decision being committed."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    (root / ".git/index.lock").touch()
    override_gate(root, "robustness", "ann", "look at it", 1)
    (row,) = [row for row in examine(root, settings) if row["check"] == "left behind"]
    assert not row["ok"] and ".git/index.lock" in row["found"]
    rows, done = examine_and_fix(root, settings, fix=True, push=False)
    assert all(row["ok"] for row in rows) and "committed the journal" in done
    assert git(root, "show", "HEAD:journal.jsonl") == (root / "journal.jsonl").read_text().strip()
    assert "committed the journal" not in examine_and_fix(root, settings, fix=True, push=False)[1]


def test_a_damaged_registry_is_set_aside_and_made_anew_from_the_journal(tmp_path: Path) -> None:
    """Whoever asked the doctor was sent to the doctor."""
    root, cycle = tmp_path / "w", "2026-W46.1"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    sha256 = make_model(root, cycle)
    Journal(root).append("candidate", cycle=cycle, model_sha256=sha256, path=f"models/{cycle}")
    promote(root, root / "models" / cycle, expected_champion_sha256="", verdict=verdict_for(cycle, sha256, ""), cycle=cycle, who="vigil", why="passed")
    registry.rebuild_aliases(root, settings)
    database = root / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(whole[: len(whole) // 2])
    assert "vigil doctor --fix" in vigil("score", root / "params.yaml", "-w", root, check=False).stderr, "it says what helps, and not to ask the doctor"
    for damaged in (b"no database" * 2000, whole[: len(whole) // 2]):
        database.write_bytes(damaged)
        (row,) = [row for row in examine(root, settings) if row["check"] == "registry"]
        assert not row["ok"] and "mlflow.db" in row["found"] and "--fix" in row["next"]
        page = json.loads(vigil("doctor", "--fix", "-w", root, "--json", check=False).stdout)
        (told,) = [line for line in page["done"] if "aside" in line]
        aside = next(name for name in told.split() if name.startswith("mlflow.db.damaged-")).rstrip(":")
        assert (root / aside).read_bytes() == damaged
        assert [row["found"] for row in page["checks"] if row["check"] == "alias"] == [f"the registry's `champion` names {cycle} ({sha256[:12]})"]
    assert "aside" not in vigil("doctor", "--fix", "-w", root, check=False).stdout


def test_a_fresh_clone_is_sent_to_what_fetches_its_data_and_that_mends_it(tmp_path: Path) -> None:
    """Everybody named `vigil doctor --fix`, which named itself; without a champion nobody saw that anything was missing."""
    root, clone, cycle = tmp_path / "w", tmp_path / "clone", "2026-W46.1"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    sha256 = make_model(root, cycle)
    made = [root / "data" / "raw" / "b1", root / "models" / cycle]
    made[0].mkdir(parents=True)
    (made[0] / "media-000.tar").write_bytes(b"media")
    dvc_add(root, made)
    push(root)
    commit(root, "a batch and a model")
    shutil.copytree(root, tmp_path / "held")
    Journal(root).append("candidate", cycle=cycle, model_sha256=sha256, path=f"models/{cycle}")
    promote(root, root / "models" / cycle, expected_champion_sha256="", verdict=verdict_for(cycle, sha256, ""), cycle=cycle, who="vigil", why="passed")
    commit(root, "a champion")
    git(tmp_path, "clone", "-q", str(root), str(clone))
    bad = {row["check"]: row for row in examine(clone, settings) if not row["ok"]}
    assert set(bad) == {"data", "alias", "champion"} and all("`vigil doctor --pull`" in row["next"] for row in bad.values())
    assert "--fix" not in str(bad) and bad["data"]["found"] == f"2 batches and models are not on this machine: data/raw/b1, models/{cycle}"
    with pytest.raises(ModelFileError, match=r"not on this machine[\s\S]*doctor --pull"):
        examine_and_fix(clone, settings, fix=True, push=False)
    rows, done = examine_and_fix(clone, settings, fix=False, push=False, pull=True)
    after = {row["check"]: row["ok"] for row in rows}
    assert "data" not in after and after["alias"] and "aliases rebuilt from the journal" in done
    assert registry.serving_model(clone, settings) == clone / "models" / cycle
    git(tmp_path, "clone", "-q", str(tmp_path / "held"), str(tmp_path / "other"))
    assert [(row["check"], row["found"][-11:]) for row in examine(tmp_path / "other", settings) if not row["ok"]] == [("data", "data/raw/b1")], (
        "gc removes held models"
    )


def one_picture(folder: Path, seed: int) -> SourceSettings:
    """A source of one real picture."""
    (folder / "real").mkdir(parents=True)
    cv2.imwrite(str(folder / "real" / "a.png"), np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    return SourceSettings(name=folder.name, path=str(folder))


def with_a_batch(root: Path, source: SourceSettings) -> tuple[Settings, str]:
    """A workspace that has taken in this source; the name of its batch."""
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    ingest_sources(root, settings, [source])
    (batch,) = batch_states(Journal(root).events())
    return settings, batch


def test_a_clone_knows_where_the_batches_are_that_its_journal_names(tmp_path: Path) -> None:
    """A decision committed the journal alone: a clone of then was told that all was well, and sent to a pull that did nothing by every ingest."""
    root, clone = tmp_path / "w", tmp_path / "clone"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    ingest_sources(root, settings, [one_picture(tmp_path / "press", 1)])
    (batch,) = batch_states(Journal(root).events())
    set_batch_state(root, batch, "accepted", "ann", "labels checked")
    examine_and_fix(root, settings, fix=False, push=True)
    git(tmp_path, "clone", "-q", str(root), str(clone))
    (row,) = [row for row in examine(clone, settings) if row["check"] == "data"]
    assert f"data/raw/{batch}" in row["found"] and "`vigil doctor --pull`" in row["next"]
    pointer = root / "data" / "raw" / f"{batch}.dvc"
    whole = pointer.read_text()
    for damaged in (pointer, pointer.with_name("new.dvc")):
        damaged.write_text("[outs: [{{{")
        set_batch_state(root, batch, "held" if damaged == pointer else "dropped", "ann", "look at it")
        assert damaged.name in str([row for row in examine(root, settings) if row["check"] == "files"])
    assert git(root, "show", f"HEAD:data/raw/{batch}.dvc") == whole.strip() and "new.dvc" not in git(root, "ls-files"), "what mends it comes from git"
    rows, done = examine_and_fix(clone, settings, fix=False, push=False, pull=True)
    assert "pulled 1 of 1 batches and models that were not here" in done and all(row["ok"] for row in rows)
    assert ingest_sources(clone, settings, [one_picture(tmp_path / "other", 2)])[0].batches


def test_a_batch_that_is_gone_with_its_dvc_file_is_named_and_comes_back_from_an_earlier_commit(tmp_path: Path) -> None:
    """The doctor looked for .dvc files alone and called all well, while every ingest sent people to a pull that did nothing."""
    root, source = tmp_path / "w", one_picture(tmp_path / "press", 1)
    settings, batch = with_a_batch(root, source)
    folder = root / "data" / "raw" / batch
    whole, pointer = read_manifest(folder), folder.with_name(f"{batch}.dvc")
    for committed, then in ((False, ""), (True, ""), (True, "a commit of after the loss")):
        if committed:
            set_batch_state(root, batch, "accepted", "ann", "labels checked")
        aside = tmp_path / "aside"
        folder.rename(aside)
        pointer.rename(tmp_path / "pointer")
        if then:
            commit(root, then)
        (row,) = [row for row in examine(root, settings) if row["check"] == "data"]
        assert not row["ok"] and f"data/raw/{batch}" in row["found"]
        with pytest.raises(WorkspaceError, match=rf"(?s){batch}.*vigil doctor --pull"):
            ingest_sources(root, settings, [source])
        kept = objects_in(cache_of(root))
        assert kept and not any(row["deleted"] for row in collect(root, settings, delete=True)), "the last copy went, for no .dvc file named it"
        rows, _ = examine_and_fix(root, settings, fix=False, push=False, pull=True)
        assert all(row["ok"] for row in rows) == committed and objects_in(cache_of(root)) == kept
        if committed:
            assert read_manifest(folder).equals(whole)
            shutil.rmtree(aside)
            (tmp_path / "pointer").unlink()
        else:
            assert [row for row in rows if not row["ok"] and f"data/raw/{batch}" in row["found"] and "drop NAME --again" in row["next"]]
            aside.rename(folder)
            (tmp_path / "pointer").rename(pointer)


@pytest.mark.parametrize("name", ["data", "data/raw", "models"])
def test_a_folder_that_is_a_link_is_named_before_anything_is_read(tmp_path: Path, name: str) -> None:
    """A batch came in, and then every command ended as a mistake in Vigil: DVC keeps nothing that lies behind a link. The doctor called all well."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    settings, source = load_settings(root / "params.yaml"), one_picture(tmp_path / "press", 1)
    (root / name).mkdir(exist_ok=True)
    (root / name).rename(tmp_path / "elsewhere")
    (root / name).symlink_to(tmp_path / "elsewhere")
    assert [row["found"] for row in examine(root, settings) if not row["ok"]] == [f"{name} is a link, behind which DVC keeps nothing"]
    for act in (lambda: ingest_sources(root, settings, [source]), lambda: _one_cycle(root, settings, False, True, ())):
        with pytest.raises(WorkspaceError, match=rf"(?s)Nothing was taken in: {name} in .* is a link.*mount"):
            act()
    assert not batch_states(Journal(root).events())


def test_a_batch_that_is_nowhere_any_more_holds_nobody_up_once_it_is_dropped_to_come_in_again(tmp_path: Path) -> None:
    """No source whatever could come in, for ever: without its manifest nobody could tell what was new."""
    root, source = tmp_path / "w", one_picture(tmp_path / "press", 1)
    settings, batch = with_a_batch(root, source)
    shutil.rmtree(root / "data" / "raw" / batch)
    (root / "data" / "raw" / f"{batch}.dvc").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    set_batch_state(root, batch, "dropped", "ann", "lost")
    with pytest.raises(WorkspaceError, match="not on this machine"):
        ingest_sources(root, settings, [source])
    set_batch_state(root, batch, "dropped", "ann", "lost", again=True)
    (new,) = ingest_sources(root, settings, [source])[0].batches
    assert new != batch and all(row["ok"] for row in examine(root, settings))


def test_a_registry_that_is_busy_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DATABASE_SECONDS", 0.1)
    root = tmp_path / "w"
    open_workspace(root, "demo")
    with closing(sqlite3.connect(root / "mlflow.db")) as writer:
        writer.execute("CREATE TABLE t (a)")
        writer.commit()
        writer.execute("BEGIN EXCLUSIVE")
        assert registry.damage(root, load_settings(root / "params.yaml")) == ""
        assert registry.set_aside_damaged(root, load_settings(root / "params.yaml")) == ""


@pytest.mark.parametrize(("name", "content"), [("feedback.db", b"no database" * 2000), (".vigil/secret", b"")])
def test_what_the_service_cannot_use_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """No cycle runs without that database, and the doctor called the workspace sound."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    assert [row["found"] for row in examine(root, settings) if row["check"] == "service"] == ["no database yet"]
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(content)
    (row,) = [row for row in examine(root, settings) if not row["ok"]]
    assert row["check"] == "service" and name in row["found"] and row["next"]
    (root / name).unlink()
    Database(root, settings).close()
    assert [row["found"] for row in examine(root, settings) if row["check"] == "service"] == ["its database answers"]


@pytest.mark.parametrize("way", ["a page", "a table"])
def test_a_damaged_database_of_the_service_is_called_so(tmp_path: Path, way: str) -> None:
    """The doctor said that it answers; who read it was told of a mistake in Vigil, or that it is busy."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    Database(root, settings).close()
    with closing(sqlite3.connect(root / "feedback.db")) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        if way == "a table":
            connection.execute("DROP TABLE audit")
            connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if way == "a page":
        content = bytearray((root / "feedback.db").read_bytes())
        content[(page - 1) * size : (page - 1) * size + 200] = b"\xff" * 200
        (root / "feedback.db").write_bytes(content)
    (row,) = [row for row in examine(root, settings) if row["check"] == "service"]
    assert not row["ok"] and "database is damaged" in row["found"] and "backup" in row["next"]
    done = vigil("audit", "verify", "-w", root, check=False)
    assert done.returncode == 1 and "The service's database is damaged." in done.stderr and "backup" in done.stderr, done.stderr


def test_a_database_copied_while_it_was_written_to_is_called_damaged(tmp_path: Path) -> None:
    """Pages of before and after a write: each can be read, but an index lacks a row of its table. The doctor and the audit called such a copy whole."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    Database(root, settings).close()
    index = "name = 'ix_deliveries_state'"
    with closing(sqlite3.connect(root / "feedback.db", isolation_level=None)) as connection:
        kept = connection.execute(f"SELECT * FROM sqlite_schema WHERE {index}").fetchone()
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(f"DELETE FROM sqlite_schema WHERE {index}")
    columns = "(id, webhook_id, event, body, state, attempts, next_at, last_error)"
    with closing(sqlite3.connect(root / "feedback.db", isolation_level=None)) as connection:
        connection.execute(f"INSERT INTO deliveries {columns} VALUES ('1', '1', 'e', '{{}}', 'waiting', 0, '', '')")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", kept)
    (row,) = [row for row in examine(root, settings) if row["check"] == "service"]
    assert not row["ok"] and "database is damaged" in row["found"] and "ix_deliveries_state" in row["found"] and "backup" in row["next"]
    done = vigil("audit", "verify", "-w", root, check=False)
    assert done.returncode == 1 and "The service's database is damaged." in done.stderr and "backup" in done.stderr, done.stderr


def held_first(root: Path) -> tuple[Settings, str]:
    """A workspace whose first cycle the gates held: the settings, and the cycle, whose batch is b1."""
    open_workspace(root, "demo")
    journal, cycle = Journal(root), "2026-W46.1"
    journal.append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    journal.append("cycle_opened", cycle=cycle, judged=["b1"], base_model="", fingerprint="", scheduled=False, week="")
    sha256 = make_model(root, cycle)
    journal.append("candidate", cycle=cycle, model_sha256=sha256, path=f"models/{cycle}")
    journal.append("batch_state", batch="b1", state="held", who="vigil", why="AUC 0.88")
    journal.append("cycle_closed", cycle=cycle, outcome="held", reason="AUC 0.88", verdict_sha256="")
    write_json(root / "reports" / "verdict.json", verdict_for(cycle, sha256, verdict="fail"))
    return load_settings(root / "params.yaml"), cycle


def test_a_model_that_learned_from_what_was_dropped_since_is_no_beginning(tmp_path: Path) -> None:
    """It led without a word, judged on a holdout that no later cycle has."""
    root = tmp_path / "w"
    settings, cycle = held_first(root)
    set_batch_state(root, "b1", "dropped", "ann", "consent withdrawn")
    before = (root / "journal.jsonl").read_bytes()
    with pytest.raises(WorkspaceError, match=rf"{cycle} learned from b1, which is dropped \(ann: consent withdrawn\)[\s\S]*vigil retrain"):
        bootstrap_first(root, settings, "bob", "a start")
    assert (root / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("left", ["nothing", "the table"])
def test_a_model_whose_holdout_was_erased_is_no_beginning_and_it_is_said_what_is(tmp_path: Path, left: str) -> None:
    """It said that a file cannot be used, which nobody had named, and to name another."""
    root = tmp_path / "w"
    settings, cycle = held_first(root)
    if left == "the table":
        (root / HOLDOUT).parent.mkdir(parents=True)
        pd.DataFrame({"clip_id": ["a"], "store": ["data/faces/b1"], "shard": ["clips-000.tar"]}).to_parquet(root / HOLDOUT)
    missing = HOLDOUT if left == "nothing" else "data/faces/b1/clips-000.tar"
    with pytest.raises(WorkspaceError, match=rf"{cycle} was judged on {missing}, which is not here[\s\S]*vigil batches accept` \(b1\), then `vigil retrain`"):
        bootstrap_first(root, settings, "bob", "a start")


def test_a_first_champion_is_made_whatever_a_later_cycle_left_without_a_verdict(tmp_path: Path) -> None:
    """It led, and its batch stayed held: the row for the report was asked of another model's figures."""
    root = tmp_path / "w"
    settings, cycle = held_first(root)
    write_json(root / "reports" / "evaluation.json", {"cycle": "2026-W46.2"})
    bootstrap(root, root / "models" / cycle, verdict=read_json(root / "reports" / "verdict.json"), cycle=cycle, who="ann", why="a start")
    bootstrap_first(root, settings, "ann", "a start")
    assert batch_states(Journal(root).events())["b1"].state == "accepted" and not (root / "reports" / "continual.json").exists()


@pytest.mark.parametrize("since", ["nobody", "a person"])
def test_a_bootstrap_that_was_killed_after_its_promotion_is_ended_by_the_next(tmp_path: Path, since: str) -> None:
    """Its batch stayed held, and whoever repeated it was told that the challenger was not promoted."""
    root = tmp_path / "w"
    settings, cycle = held_first(root)
    write_json(root / "reports" / "evaluation.json", {"cycle": cycle})
    bootstrap(root, root / "models" / cycle, verdict=read_json(root / "reports" / "verdict.json"), cycle=cycle, who="ann", why="a start")
    if since == "a person":
        set_batch_state(root, "b1", "dropped", "eve", "consent withdrawn")
    told = [bootstrap_first(root, settings, "bob", "again") for _ in range(2)]
    assert told == [f"{cycle} is the first champion already (ann: a start). Every later model comes through the gates."] * 2
    states = batch_states(Journal(root).events())["b1"]
    assert (states.state, states.who) == (("accepted", "ann") if since == "nobody" else ("dropped", "eve"))
    assert [event.kind for event in Journal(root).events()][-3:] == ["override", "promotion", "batch_state"], "each once"
    assert git(root, "show", "HEAD:journal.jsonl") == (root / "journal.jsonl").read_text().strip()


def test_of_a_rollback_it_is_said_what_stays_in_training_though_the_champion_did_not_learn_it(tmp_path: Path) -> None:
    """Of one that goes forward again it was said of what the champion itself had learned from."""
    root, base, first = tmp_path / "w", "", ""
    open_workspace(root, "demo")
    settings, journal = load_settings(root / "params.yaml"), Journal(root)
    for cycle, batch in (("2026-W46.1", "b1"), ("2026-W47.1", "b2")):
        journal.append("batch_added", batch=batch, source="folder", samples=4, quarantined=0)
        journal.append("cycle_opened", cycle=cycle, judged=[batch], base_model=base, base_cycle=first, fingerprint="", scheduled=False, week="")
        sha256 = make_model(root, cycle)
        journal.append("candidate", cycle=cycle, model_sha256=sha256, path=f"models/{cycle}")
        promote(root, root / "models" / cycle, expected_champion_sha256=base, verdict=verdict_for(cycle, sha256, base), cycle=cycle, who="vigil", why="passed")
        journal.append("cycle_closed", cycle=cycle, outcome="promoted", reason="passed", verdict_sha256="")
        base, first = sha256, first or cycle
    back, forward = (roll_back(root, settings, to, "ann", "false alarms") for to in ("2026-W46.1", "2026-W47.1"))
    assert "What 2026-W47.1 learned from stays in training: b2" in back
    assert "2026-W47.1 is champion again" in forward and "stays in training" not in forward


HOLD = """
    import sys, time
    from pathlib import Path
    from workspace.lease import lease
    with lease(Path(sys.argv[1]), sys.argv[2]):
        print("held", flush=True)
        time.sleep(600)
"""


def test_a_cycle_at_work_is_no_fault_and_one_that_nobody_runs_is(tmp_path: Path) -> None:
    """Whoever watches the doctor's exit code was alarmed for as long as a training took, and told to run what was running."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    Journal(root).append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)

    def seen(purpose: str) -> tuple[bool, str, str]:
        process = start_python(HOLD, root, purpose)
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            (row,) = [row for row in examine(root, settings) if row["check"] == "cycle"]
            return row["ok"], row["found"], render_status(status_of(root, settings))
        finally:
            process.kill()
            process.communicate()

    ok, found, page = seen("retrain")
    assert ok and "one that is not opened yet is run by process" in found
    assert "running   a cycle that is not opened yet, by process" in page and "vigil retrain" not in page
    Journal(root).append("cycle_opened", cycle="2026-W01.1", judged=["b1"], base_model="", fingerprint="", scheduled=False, week="")
    ok, found, page = seen("retrain")
    assert ok and "2026-W01.1 is run by process" in found
    assert "running   2026-W01.1, by process" in page and "begun and not finished" not in page and "vigil retrain" not in page
    ok, found, page = seen("ingest")
    assert not ok and found == "2026-W01.1 was begun and not finished" and "begun and not finished" in page


def test_a_batch_that_the_champion_learned_is_told_of_where_it_may_come_in_again(tmp_path: Path) -> None:
    """Under mended names 18 of 24 that judged had trained the champion, and nothing said a word."""
    root, cycle = tmp_path / "w", "2026-W46.1"
    open_workspace(root, "demo")
    journal = Journal(root)
    for batch in ("b1", "b2"):
        journal.append("batch_added", batch=batch, source="folder", samples=4, quarantined=0)
    journal.append("cycle_opened", cycle=cycle, judged=["b1"], base_model="", fingerprint="", scheduled=False, week="")
    sha256 = make_model(root, cycle)
    journal.append("candidate", cycle=cycle, model_sha256=sha256, path=f"models/{cycle}")
    promote(root, root / "models" / cycle, expected_champion_sha256="", verdict=verdict_for(cycle, sha256, ""), cycle=cycle, who="vigil", why="passed")
    journal.append("cycle_closed", cycle=cycle, outcome="promoted", reason="passed", verdict_sha256="")
    assert "know" not in set_batch_state(root, "b2", "dropped", "ana", "mended", again=True)
    assert "know" not in set_batch_state(root, "b1", "dropped", "ana", "consent withdrawn")
    assert "whom it knows by heart judges no model that goes on from it" in set_batch_state(root, "b1", "dropped", "ana", "mended", again=True)


def test_a_persons_copy_of_a_batch_is_no_batch_that_a_killed_ingest_left(tmp_path: Path) -> None:
    """What had been dropped was judged again so, by nobody's decision, and its rows named the batch it was copied from: assembling failed in every cycle."""
    root, media = tmp_path / "w", tmp_path / "media" / "real"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    media.mkdir(parents=True)
    cv2.imwrite(str(media / "a.png"), np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    source = SourceSettings(name="press", path=str(media.parent))
    ingest_sources(root, settings, [source])
    (batch,) = batch_states(Journal(root).events())
    set_batch_state(root, batch, "dropped", who="ana", why="consent withdrawn")
    for name in (f"{batch}.bak", f"{batch} (copy)"):
        shutil.copytree(root / "data" / "raw" / batch, root / "data" / "raw" / name)
    assert would_run(root, settings).reasons == ()
    assert all(row["ok"] for row in examine(root, settings) if row["check"] == "left behind")
    ingest_sources(root, settings, [source])
    assert [*batch_states(Journal(root).events())] == [batch]


def test_a_batch_that_a_killed_ingest_left_whole_is_seen_by_everybody_and_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was lost, and nobody was told: status, doctor and retrain said that all was well, until the same ingest was run again."""
    root, media = tmp_path / "w", tmp_path / "media" / "real"
    open_workspace(root, "demo")
    settings = load_settings(root / "params.yaml")
    media.mkdir(parents=True)
    cv2.imwrite(str(media / "a.png"), np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pipelines.ingest._journal_batch", die)
        ingest_sources(root, settings, [SourceSettings(name="press", path=str(media.parent))])
    (batch,) = (path.name for path in (root / "data" / "raw").iterdir())
    assert would_run(root, settings).reasons == (f"1 new batch: {batch}",) and batch not in batch_states(Journal(root).events())
    (left,) = [row for row in examine(root, settings) if row["check"] == "left behind"]
    assert not left["ok"] and f"batch {batch} is whole and not in the journal" in left["found"]
    _, done = examine_and_fix(root, settings, fix=True, push=False)
    assert f"batch {batch}, which a killed ingest had left whole, is journalled" in done and batch_states(Journal(root).events())[batch].rows == 1
    assert all(row["ok"] for row in examine(root, settings) if row["check"] in ("left behind", "journal"))
    assert would_run(root, settings).reasons == (f"1 new batch: {batch}",)
