"""A workspace of the first format is refused by every verb, carried over by `vigil upgrade`, and goes on; whatever kills the upgrade, it ends the same.

format1.tar.gz was made by the code of that time: three pictures in two batches, a promoted cycle as the journal tells it, two cases.
"""

import json
import re
import shutil
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

import workspace.journal
import workspace.upgrade
from feedback.database import schema_behind
from tests.feedback import databases
from tests.feedback.killing import killed_at_line
from tests.system.world import change_settings, vigil, vigil_json
from vigil.main import app
from vigil.upgrading import upgrade_workspace
from workspace.choices import PROFILES
from workspace.cycle import complete_cycle, read_cycle
from workspace.errors import SettingsError, WorkspaceError
from workspace.format import FORMAT, format_of
from workspace.journal import Journal
from workspace.lease import lease, serving_alone
from workspace.profiles import compose_params, project_root
from workspace.settings import load_settings, parse_settings
from workspace.upgrade import plan_upgrade, render_upgrade, upgraded_params

KEPT = Path(__file__).with_name("format1.tar.gz")
FILES = ("params.yaml", "dvc.yaml", "cycle.yaml", "batches.yaml")


def plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kept workspace with the git repository that it had."""
    root = tmp_path_factory.mktemp("kept") / "w"
    with tarfile.open(KEPT) as kept:
        kept.extractall(root, filter="data")
    for words in (["init", "-q", "-b", "main"], ["add", "params.yaml", "dvc.yaml", "batches.yaml", ".gitignore", ".dvc"], ["commit", "-qm", "Open"]):
        subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@localhost", *words], cwd=root, check=True)
    return root


@pytest.fixture
def old(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "w"))


def state(root: Path) -> dict[str, Any]:
    """What an upgrade leaves, however often it was begun."""
    events = [(event.kind, event.get("before"), event.get("after")) for event in Journal(root).events()]
    show = subprocess.run(["git", "show", "HEAD:params.yaml", "vigil/before-format-2:params.yaml"], cwd=root, capture_output=True, check=True).stdout
    with sqlite3.connect(root / "feedback.db") as database:
        rows = database.execute("SELECT id, state, sha256 FROM cases ORDER BY id").fetchall()
    with sqlite3.connect(root / ".vigil/backup/format-1/feedback.db") as database:
        before = database.execute("SELECT id, state FROM cases ORDER BY id").fetchall()
    assert (root / ".vigil/backup").stat().st_mode & 0o077 == 0, "accounts are in it"
    return {"files": {name: (root / name).read_text() for name in FILES}, "events": events, "git": show, "cases": rows, "before": before}


def test_every_verb_refuses_and_names_the_next_step(old: Path) -> None:
    for words in (["status"], ["batches"], ["models"], ["ingest", "."], ["retrain"], ["score", "x"], ["serve"], ["doctor"], ["schedule"], ["gc"], ["report"]):
        with pytest.raises(WorkspaceError, match="older Vigil"):
            CliRunner().invoke(app, [*words, "-w", str(old)], catch_exceptions=False)
    done = vigil("status", "-w", old, check=False)
    assert done.returncode == 1 and "older Vigil" in done.stderr and "vigil upgrade" in done.stderr and "Traceback" not in done.stderr
    inside = vigil("score", KEPT, cwd=old, check=False)
    assert inside.returncode == 1 and "vigil upgrade" in inside.stderr, "the starter must not answer in place of a champion"
    with pytest.raises(WorkspaceError, match="older Vigil"):
        load_settings(old / "params.yaml")


def test_a_newer_workspace_is_refused_also_by_upgrade(old: Path) -> None:
    path = old / "params.yaml"
    path.write_text(f"format: {FORMAT + 1}\nunheard_of: 3\n" + path.read_text())
    for words in (["status"], ["upgrade"], ["upgrade", "--dry-run"]):
        done = vigil(*words, "-w", old, check=False)
        assert done.returncode == 1 and "newer Vigil" in done.stderr and "Next:" in done.stderr, words


def test_a_newer_database_is_refused_in_a_dry_run_too(old: Path) -> None:
    with sqlite3.connect(old / "feedback.db") as database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("DELETE FROM alembic_version")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    for dry_run in (True, False):
        with pytest.raises(WorkspaceError, match="its schema is 9999"):
            upgrade_workspace(old, dry_run)


def test_no_copy_of_a_postgresql_is_named(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = databases.database_url("postgresql")
    (old / "feedback.db").unlink()
    monkeypatch.setenv("VIGIL_DATABASE_URL", url)
    said = render_upgrade(upgrade_workspace(old, True), True)
    assert "feedback.db" in said and "pg_dump" in said and ".vigil/backup" not in said
    said = render_upgrade(upgrade_workspace(old, False), False)
    assert "no copy was made" in said and not (old / ".vigil/backup").exists()
    assert schema_behind(old, load_settings(old / "params.yaml")) is None


def test_after_the_upgrade_the_workspace_goes_on(old: Path, tmp_path: Path) -> None:
    before = {name: (old / name).read_bytes() for name in (*FILES, "journal.jsonl", "feedback.db")}
    told = vigil("upgrade", "--dry-run", "-w", old).stdout
    assert "format 1 to 2" in told and "dvc.yaml" in told and "feedback.db" in told and "gates.max_label_noise: 0.1" in told
    assert {name: (old / name).read_bytes() for name in before} == before, "a dry run changes nothing"

    plan = vigil_json("upgrade", "-w", old)
    assert plan["before"] == 1 and set(plan["changes"]) == {"params.yaml", "dvc.yaml", "cycle.yaml", "feedback.db"}
    assert "up to date" in vigil("upgrade", "-w", old).stdout and len(Journal(old).events()) == 9

    found, user = load_settings(old / "params.yaml"), plain(before["params.yaml"].decode())
    assert found.faces.size_px == 80 and found.schedule.weekday == "friday" and "# ours: the faces are small" in (old / "params.yaml").read_text()
    kept = plain((old / "params.yaml").read_text())
    assert all(kept[block] == value or {**kept[block], **value} == kept[block] for block, value in user.items() if block != "stage_versions")
    assert kept["stage_versions"] == plain(compose_params("demo"))["stage_versions"]

    page = vigil_json("status", "-w", old)
    assert page["champion"]["cycle"] == "2026-W46.1" and page["batches"] == {"new": 0, "deferred": 0, "accepted": 1, "held": 1, "dropped": 0}
    assert "a setting or a stage version changed" in page["next"]["reasons"] and page["next"]["pending_files"] == 0
    assert page["next"]["pending_cases"] == 0, "one person answered the reviewed case, and two are needed by now"
    change_settings(old, {"feedback": {"queue": kept["feedback"]["queue"] | {"reviewers_needed": 1}}})
    page = vigil_json("status", "-w", old)
    assert page["next"]["pending_cases"] == 1 and "1 case that is decided, and in no batch yet" in page["next"]["reasons"]
    assert [row["state"] for row in vigil_json("batches", "-w", old)] == ["accepted", "held"]
    assert vigil_json("models", "-w", old)[0]["role"] == "champion" and read_cycle(old).refused == ()
    shutil.copytree(old / ".vigil/cases", tmp_path / "media/real")
    for number, path in enumerate(sorted((tmp_path / "media/real").iterdir())):
        path.rename(path.with_name(f"p{number}.png"))
    report = vigil_json("ingest", tmp_path / "media", "--name", "third", "-w", old)
    assert report[0]["sources"]["third"]["known"] == 2, "manifests of then and now are read together"


def test_killed_at_any_line_and_begun_again_it_ends_as_undisturbed(template: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(template, tmp_path / "whole"))
    upgrade_workspace(whole, False)
    wanted = state(whole)
    watched = {workspace.upgrade.__file__, workspace.journal.__file__}
    root, number, kills = tmp_path / "killed", 1, 0
    while True:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root)
        if not killed_at_line(number, partial(upgrade_workspace, root, False), watched={workspace.upgrade.__file__} if number % 2 else watched):
            break
        kills += 1
        upgrade_workspace(root, False)
        assert state(root) == wanted, f"killed at line {number}"
        number += 1 + number // 3
    assert kills > 8


def test_each_upgrade_keeps_the_state_of_its_own_day_and_names_it(old: Path) -> None:
    """It copied the database once a format: after a way back, or at a later schema, it named what was months old, and what came since was in no copy."""
    first = worked(old / "feedback.db")
    upgrade_workspace(old, False)
    in_git(old, "reset", "-q", "--hard", "vigil/before-format-2")
    shutil.copy(old / ".vigil/backup/format-1/feedback.db", old / "feedback.db")
    work_on(old, "since the way back")
    for dry_run in (True, False):
        said = render_upgrade(upgrade_workspace(old, dry_run), dry_run)
        assert "  The state before is tag vigil/before-format-2-2, the database before .vigil/backup/format-1/feedback-2.db.\n" in said, said
    assert worked(old / ".vigil/backup/format-1/feedback-2.db") == {"since the way back"} and worked(old / ".vigil/backup/format-1/feedback.db") == first
    assert in_git(old, "show", "vigil/before-format-2-2:params.yaml").endswith("# since the way back")
    for number, words in enumerate(("at schema 0004", "at schema 0004 again")):  # whatever the migrations after it, the format is the same
        with closing(sqlite3.connect(old / "feedback.db")) as database, database:
            database.execute("DROP TABLE workspace")
            database.execute("UPDATE alembic_version SET version_num = '0004'")
        work_on(old, words)
        said = render_upgrade(upgrade_workspace(old, False), False)
        copy = f".vigil/backup/format-2/feedback{f'-{number + 1}' if number else ''}.db"
        assert f"  The database before is {copy}.\n" in said and "tag" not in said, said
        assert worked(old / copy) == {words} == worked(old / "feedback.db")


def in_git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, check=True, text=True).stdout.rstrip()


def work_on(root: Path, words: str) -> None:
    """Something that people did: in the database, and in a setting's comment that they committed."""
    with closing(sqlite3.connect(root / "feedback.db")) as database, database:
        database.execute("UPDATE cases SET model_sha256 = ?", (words,))
    with open(root / "params.yaml", "a") as handle:
        handle.write(f"# {words}\n")
    in_git(root, "-c", "user.name=A", "-c", "user.email=a@localhost", "commit", "-qam", words)


def worked(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {one for (one,) in database.execute("SELECT model_sha256 FROM cases")}


def test_while_somebody_writes_nothing_is_upgraded(old: Path) -> None:
    with lease(old, "retrain"):
        done = vigil("upgrade", "-w", old, check=False)
    assert done.returncode == 1 and "being written to" in done.stderr and format_of(old / "params.yaml") == 1


def test_while_it_is_served_nothing_is_upgraded(old: Path) -> None:
    """The tables of a service that ran went another way than it knew them."""
    with serving_alone(old, "serving http://127.0.0.1:8000", "held"):
        done = vigil("upgrade", "-w", old, check=False)
    assert done.returncode == 1 and "is served" in done.stderr and "serving http://127.0.0.1:8000" in done.stderr, done.stderr
    assert format_of(old / "params.yaml") == 1
    upgrade_workspace(old, False)
    with serving_alone(old, "serving http://127.0.0.1:8000", "held"):
        assert not upgrade_workspace(old, False).changes, "nothing is to be done, so nobody is in the way"


@pytest.mark.parametrize("line", [f'"format": {FORMAT}', f"'format': {FORMAT}", f"format : {FORMAT} # ours"])
def test_the_format_is_read_however_yaml_lets_it_be_written(tmp_path: Path, line: str) -> None:
    """It counted as the first format: every verb asked for an upgrade, and that said that nothing was to be changed."""
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"(?m)^format:.*$", line, compose_params("demo")))
    assert line in path.read_text() and load_settings(path).format == FORMAT


def test_a_later_vigil_of_the_same_format_brings_its_stages_and_numbers(old: Path) -> None:
    upgrade_workspace(old, False)
    text = (old / "params.yaml").read_text()
    (old / "params.yaml").write_text(re.sub(r"gate: \d+}", "gate: 1}", text).replace("  learn_steps: 600\n", ""))
    (old / "dvc.yaml").write_text("stages: {}\n")
    plan = upgrade_workspace(old, False)
    assert set(plan.changes) == {"dvc.yaml", "params.yaml"} and len(plan.changes["params.yaml"]) == 2
    assert (old / "params.yaml").read_text() == text and not plan_upgrade(old).changes


@pytest.mark.parametrize("profile", PROFILES)
@given(st.data())
@settings(max_examples=4, deadline=None)  # a draw is three readings of a whole params.yaml with its comments
def test_whatever_keys_are_missing_they_come_back_and_no_value_of_the_users_changes(profile: str, data: st.DataObject) -> None:
    full = plain(compose_params(profile))
    blocks = [name for name, value in full.items() if isinstance(value, dict) and name != "stage_versions"]
    cut: dict[str, list[str]] = {
        name: data.draw(st.lists(st.sampled_from(sorted(full[name])), unique=True)) for name in data.draw(st.sets(st.sampled_from(blocks)))
    }
    mine = {
        name: {key: item for key, item in value.items() if key not in cut.get(name, [])} if isinstance(value, dict) else value for name, value in full.items()
    }
    mine.pop("format")
    mine["schedule"] = {**mine["schedule"], "hour": 17}
    written, read, said = upgraded_params(json.dumps(mine))  # JSON is YAML
    assert len(said) == 1 + sum(map(len, cut.values())) - ("hour" in cut.get("schedule", []))
    assert read == parse_settings({**full, "schedule": {**full["schedule"], "hour": 17}}) and upgraded_params(written)[2] == []


@pytest.mark.parametrize(
    "text", ["", "- 1\n", "profile: huge\n", "profile: demo\nprofile: demo\n", "a: [", "profile: demo\nluck: 3\n", "profile: demo\nformat: two\n"]
)
def test_what_is_no_settings_file_is_refused_with_a_next_step(text: str) -> None:
    with pytest.raises(SettingsError, match="Next:"):
        upgraded_params(text)


def test_half_a_cycle_file_is_not_completed_as_one_without_a_champion(old: Path) -> None:
    """The next cycle would have believed it; the journal knows better."""
    path = old / "cycle.yaml"
    path.write_text(path.read_text()[: path.read_text().index("base_model")])
    assert "cycle.yaml" not in plan_upgrade(old).changes


def test_a_cycle_file_that_ends_anywhere_or_is_no_text_is_left_to_the_journal(old: Path) -> None:
    """An upgrade ended at it with a mistake in Vigil, and so did every verb that asks for one."""
    path = old / "cycle.yaml"
    whole = path.read_bytes()
    assert complete_cycle(whole) and not any(complete_cycle(whole[:length]) for length in range(whole.index(b"drawn_forgers")))
    for damage in (b"cycle: [", b"\xff", b"\xff\xfe", b"[" * 1_000, b"cycle: 2026-99-99"):
        path.write_bytes(damage + b"\n" + whole)
        assert "cycle.yaml" not in plan_upgrade(old).changes, damage[:20]
        with pytest.raises(WorkspaceError, match=r"cycle\.yaml"):
            read_cycle(old)


def test_damaged_stages_come_back_and_damaged_settings_are_refused_with_a_next_step(old: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (old / name).write_bytes(b"# \xff\n" + (old / name).read_bytes())
    with pytest.raises(SettingsError, match="Save the file as UTF-8"):
        plan_upgrade(old)
    (old / "params.yaml").write_bytes((old / "params.yaml").read_bytes()[4:])
    assert plan_upgrade(old).texts["dvc.yaml"] == (project_root() / "dvc.yaml").read_text()
