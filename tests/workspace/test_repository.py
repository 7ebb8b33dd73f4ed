"""dvc.lock, written quickly: what DVC would have written, and never half of it."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dvc import dvcfile
from dvc.utils.serialize import dumps_yaml, load_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import vigil.opening
import workspace.repository
from pipelines.train import revision
from tests.feedback.killing import killed_at_line
from tests.size import drill
from tests.workspace.worlds import start_python
from vigil.deciding import set_batch_state
from vigil.differences import render_diff
from vigil.mending import examine_and_fix
from vigil.opening import open_workspace
from workspace.errors import DataError, SettingsError, StageFailed, WorkspaceError
from workspace.journal import Journal
from workspace.lease import lease
from workspace.objects import cache_of, is_cached, objects_in, to_add
from workspace.processes import parent_token
from workspace.repository import REMOTE, commit, delete_objects, dvc_add, init_repository, open_dvc, push, remove_stale_git_locks, reproduce, set_remote
from workspace.revisions import cut_short, git
from workspace.settings import load_settings

HASH = "0123456789abcdef0123456789abcdef"
# Words that some YAML takes for a number, a truth or a time; hashes of digits and one e are among them.
ODD = [
    "123e45",
    "1234567e8",
    "yes",
    "on",
    "12:30:45",
    "0o17",
    "017",
    "1_000",
    "null",
    "~",
    "1.5",
    "true",
    "2026-11-21",
    ".5",
    "=",
    "<<",
    "0x1f",
    "",
    " a",
    "a: b",
    "é",
]
VALUES = st.recursive(
    st.sampled_from(ODD)
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ODD, "md5", "path"]), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.system.world import vigil

    made = tmp_path_factory.mktemp("repository") / "w"
    vigil("init", made, "--profile", "demo")
    with open_dvc(made):
        assert dvcfile.modify_yaml.quick  # type: ignore[attr-defined]
    return made


def written(path: Path, data: dict[str, Any]) -> str:
    path.unlink(missing_ok=True)
    with dvcfile.modify_yaml(str(path)) as found:
        found.update(data)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("batches", [1, 30])
def test_a_lock_file_has_the_bytes_that_dvc_writes(root: Path, batches: int) -> None:
    entry = OrderedDict(
        cmd="python -P -m pipelines.faces",
        deps=[OrderedDict(path="data/raw/b", md5=f"{HASH}.dir", hash="md5", size=31_000_000, nfiles=12)],
        params={"params.yaml": {"faces": {"size_px": 224, "fps": 30.0, "margin": 0.15, "mode": "standard", "odd": ODD, "rate": 1e-7, "on": True}}},
        outs=[OrderedDict(path="data/faces/b", md5=f"{HASH}.dir", hash="md5", size=2, nfiles=3)],
    )
    lock = {"schema": "2.0", "stages": {f"faces@2026-11-{number:02d}-weekly": entry for number in range(1, batches + 1)}}
    plain = json.loads(json.dumps(lock))
    text = written(root / "dvc.lock", lock)
    assert text == dumps_yaml(plain)
    with dvcfile.modify_yaml(str(root / "dvc.lock")) as again:  # read and written back: nothing moves
        assert again == plain
    assert (root / "dvc.lock").read_text(encoding="utf-8") == text


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*ODD, "stages"]), VALUES, max_size=4))
def test_dvc_reads_back_whatever_was_written(root: Path, data: dict[str, Any]) -> None:
    written(root / "dvc.lock", data)
    assert load_yaml(str(root / "dvc.lock")) == data


def test_a_death_in_between_leaves_the_lock_file_as_it_was(root: Path) -> None:
    before = written(root / "dvc.lock", {"schema": "2.0", "stages": {"a": {"cmd": "b"}}})
    with pytest.raises(KeyboardInterrupt), dvcfile.modify_yaml(str(root / "dvc.lock")) as found:
        found["stages"]["c"] = {"cmd": "d"}
        raise KeyboardInterrupt
    assert (root / "dvc.lock").read_text(encoding="utf-8") == before


def test_other_files_keep_their_comments(root: Path) -> None:
    (root / "other.yaml").write_text("# why\na: 1 # because\n", encoding="utf-8")
    with dvcfile.modify_yaml(str(root / "other.yaml")) as found:
        found["b"] = 2
    assert (root / "other.yaml").read_text(encoding="utf-8") == "# why\na: 1 # because\nb: 2\n"


# -- its configuration, and commits --------------------------------------------------------------------------------------------
def test_the_remote_s_place_may_have_any_letters_and_the_file_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    """DVC opened the file for writing, met a letter outside ASCII, and left it empty; and every push wrote it anew, without its comments."""
    root = tmp_path / "josé ü, #1"
    root.mkdir()
    init_repository(root, "remote")
    config = root / ".dvc" / "config"
    with open_dvc(root) as repo:
        assert repo.config["remote"]["store"]["url"] == str(root / ".vigil" / "remote") and repo.config["core"]["remote"] == "store"
    other = "['remote \"other\"']\n    url = s3://other/place  # é\n"
    config.write_text("# mine\n" + config.read_text(encoding="utf-8") + "    jobs = 2\n" + other, encoding="utf-8")
    before = config.read_bytes()
    set_remote(root, "remote")
    with pytest.raises(SettingsError, match="~nobody-is-called-so/store"):
        set_remote(root, "~nobody-is-called-so/store")
    assert config.read_bytes() == before
    set_remote(root, "s3://bucket/x", "http://127.0.0.1:9")
    with open_dvc(root) as repo:
        assert repo.config["remote"]["store"]["endpointurl"] == "http://127.0.0.1:9" and repo.config["remote"]["other"]["url"] == "s3://other/place"
    assert "# mine" in config.read_text(encoding="utf-8") and "jobs" not in config.read_text(encoding="utf-8"), "what it said of another place"
    set_remote(root, "")
    with open_dvc(root) as repo:
        assert list(repo.config["remote"]) == ["other"] and "remote" not in repo.config["core"]
    config.write_bytes(b"")
    set_remote(root, "remote")
    with open_dvc(root) as repo:
        assert repo.config["core"]["remote"] == "store" and repo.config["core"]["analytics"] is False


def test_a_hook_of_another_repository_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the GIT_DIR that git gives a hook, a commit asked the other repository whether anything had changed, and was left out."""
    root, other = tmp_path / "w", tmp_path / "other"
    for folder in (root, other):
        folder.mkdir()
        init_repository(folder, "remote")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    before = revision(root)
    (root / "params.yaml").write_text("a: 1\n")
    assert commit(root, "a change") == revision(root) != before
    (root / "params.yaml").write_text("a: 2\n")
    assert revision(root) == f"{git(root, 'rev-parse', 'HEAD')}, with params.yaml edited since", "the commit's own did not train the model"
    page = {"models": ["a", "b"], "facts": {"git_revision": [before, revision(root)]}, "clips": dict.fromkeys(("both", "only_first", "only_second"), 0)}
    none = {"generators": dict.fromkeys(("only_first", "only_second")), "auc": {}, "settings": {}, "not_known": {"clips": [], "settings": []}}
    assert f"{revision(root)[:7]}, params edited" in render_diff(page | none)
    assert commit(root, "an edit") == revision(root)
    assert commit(root, "none") == revision(root) and revision(other) != revision(root) and revision(tmp_path) == ""


def test_a_persons_own_set_up_of_git_neither_stops_a_commit_nor_signs_it_nor_colours_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, home = tmp_path / "w", tmp_path / "home"
    for folder in (root, home):
        folder.mkdir()
    for hook in ("pre-commit", "commit-msg", "reference-transaction"):
        (home / hook).write_text("#!/bin/sh\nexit 1\n")
        (home / hook).chmod(0o755)
    signs = "[commit]\ngpgsign = true\n[tag]\ngpgsign = true\n[gpg]\nprogram = /bin/false\n"
    (home / ".gitconfig").write_text(
        f"[user]\nname = ann\nemail = ann@localhost\n{signs}[core]\nhooksPath = {home}\nautocrlf = true\nsafecrlf = true\n[color]\nui = always\n"
    )
    monkeypatch.setenv("HOME", str(home))
    init_repository(root, "remote")
    (root / "params.yaml").write_text("a: 1\n")
    made = commit(root, "a change")
    git(root, "tag", "-a", "vigil/2026-W46.1", "-m", "a cycle")
    assert git(root, "log", "-1", "--format=%H %an <%ae>") == f"{made} Vigil <vigil@localhost>"
    assert git(root, "branch") == "* main"


def test_a_clone_that_a_persons_git_makes_has_the_journal_that_was_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git ends lines as Windows does the clone lacked every decision, and nothing was decided in it any more."""
    root = tmp_path / "w"
    root.mkdir()
    (tmp_path / ".gitconfig").write_text("[core]\nautocrlf = true\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for week in ("2026-W46", "2026-W47"):
        Journal(root).append("week_skipped", week=week, why="nothing is new")
    init_repository(root, "remote")
    subprocess.run(["git", "clone", "-q", str(root), str(tmp_path / "clone")], check=True)
    assert cut_short(tmp_path / "clone") == "" and git(tmp_path / "clone", "status", "--short") == ""


def test_what_a_person_staged_stays_staged_and_what_is_gone_leaves_whoever_took_it_out(tmp_path: Path) -> None:
    init_repository(tmp_path, "remote")
    (tmp_path / "data" / "raw").mkdir(parents=True)
    pointers = [tmp_path / "data" / "raw" / f"{name}.dvc" for name in ("one", "two", "three")]
    for pointer in pointers[:2]:
        pointer.write_text("outs: []\n")
    commit(tmp_path, "two batches")
    (tmp_path / "notes.txt").write_text("mine")
    git(tmp_path, "add", "notes.txt")
    git(tmp_path, "rm", "-q", "--cached", "data/raw/one.dvc")  # as a commit that was killed leaves it
    for pointer in pointers[:2]:
        pointer.unlink()
    pointers[2].write_text("outs: []\n")  # of the same bytes: git would call it one of them, renamed
    commit(tmp_path, "a cycle")
    changed = git(tmp_path, "show", "--name-status", "--no-renames", "--format=").splitlines()
    assert changed == ["D\tdata/raw/one.dvc", "A\tdata/raw/three.dvc", "D\tdata/raw/two.dvc"]
    assert git(tmp_path, "diff", "--cached", "--name-only") == "notes.txt"


@pytest.fixture(params=["around", "a:round"])  # what git is told of a folder cannot have a colon
def inside(request: pytest.FixtureRequest, tmp_path: Path, root: Path) -> tuple[Path, Callable[[], str]]:
    """A workspace in a folder of somebody's repository, who has staged a file; and what that repository says of itself."""
    around, copy = tmp_path / request.param, tmp_path / request.param / "w"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("other.yaml"))  # another test's
    (around / "draft").write_text("half a sentence")
    for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "mine"], ["add", "draft"]):
        subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@localhost", *words], cwd=around, check=True)

    def said() -> str:
        return subprocess.run("git log --all; git diff --cached --stat", shell=True, cwd=around, check=True, capture_output=True, text=True).stdout

    return copy, said


def doctor(root: Path) -> dict[str, dict[str, Any]]:
    rows, _ = examine_and_fix(root, load_settings(root / "params.yaml"), fix=False, push=False)
    return {row["check"]: row for row in rows}


def test_init_goes_on_with_a_git_that_was_half_made(inside: tuple[Path, Callable[[], str]]) -> None:
    """A full disk left .git/hooks alone; git then took the repository around it, and what was staged there was committed as Vigil's."""
    copy, said = inside
    before = said()
    shutil.rmtree(copy / ".git")
    (copy / ".git" / "hooks").mkdir(parents=True)
    row = doctor(copy)["git"]
    assert not row["ok"] and "damaged" in row["found"] and "vigil init" in row["next"]
    assert open_workspace(copy, "demo") and not open_workspace(copy, "demo")
    assert git(copy, "log", "--format=%s") == "Open a Vigil workspace" and git(copy, "status", "--porcelain") == "" and "git" not in doctor(copy)
    assert said() == before


def test_a_workspace_without_its_head_leaves_the_repository_around_it_alone(inside: tuple[Path, Callable[[], str]]) -> None:
    """After a power cut every decision became a commit of that repository, and the doctor found nothing."""
    copy, said = inside
    before, commits = said(), git(copy, "log")
    (copy / ".git" / "HEAD").write_bytes(b"")
    Journal(copy).append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    set_batch_state(copy, "b1", "held", "ann", "look at it")
    for refused in (lambda: open_workspace(copy, "demo"), lambda: commit(copy, "a change"), lambda: push(copy)):
        with pytest.raises(WorkspaceError, match=r"damaged[\s\S]*refs/heads/main"):
            refused()
    checks = doctor(copy)
    assert not checks["git"]["ok"] and "refs/heads/main" in checks["git"]["next"] and "committed" not in checks["journal"]["found"]
    assert said() == before
    (copy / ".git" / "HEAD").write_text("ref: refs/heads/main\n")  # as it advises
    assert git(copy, "log") == commits and "git" not in doctor(copy)
    (copy / ".git" / "refs" / "heads" / "main").write_bytes(b"")
    assert not doctor(copy)["git"]["ok"]


def test_the_lock_of_a_killed_git_goes_and_that_of_a_living_one_stays(root: Path, tmp_path: Path) -> None:
    """A commit advised the doctor, the doctor `--fix`, and that failed at the same lock."""
    copy = tmp_path / "w"
    shutil.copytree(root, copy)
    (copy / ".git" / "index.lock").touch()
    (copy / "params.yaml").write_text((copy / "params.yaml").read_text() + "# changed\n")
    with pytest.raises(WorkspaceError, match=r"index\.lock[\s\S]*doctor --fix"):
        commit(copy, "a change")
    with subprocess.Popen(["git", "cat-file", "--batch"], cwd=copy, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as at_work:
        assert remove_stale_git_locks(copy) == []
        at_work.communicate()
    _, done = examine_and_fix(copy, load_settings(copy / "params.yaml"), fix=True, push=False)
    assert "removed .git/index.lock" in done
    git(copy, "init", "-q", "--separate-git-dir", str(tmp_path / "apart"))  # then .git is a file, as in a worktree or a submodule
    (tmp_path / "apart" / "index.lock").touch()
    assert remove_stale_git_locks(copy) == ["../apart/index.lock"]
    before = git(copy, "rev-parse", "HEAD")
    assert commit(copy, "a change") != before


def test_whatever_ends_init_the_next_one_makes_the_workspace_whole(tmp_path: Path) -> None:
    """With settings and .vigil there, git and DVC still to come, a second `vigil init` said that it was open already, and nothing could ever be taken in."""
    whole = tmp_path / "whole"
    assert open_workspace(whole, "demo") and not open_workspace(whole, "demo")
    half_made = 0
    for number in range(1, 10_000, drill(15, 6)):  # not every line: each death is a process
        root = tmp_path / f"w{number}"
        killed = killed_at_line(number, lambda root=root: open_workspace(root, "demo"), {vigil.opening.__file__, workspace.repository.__file__})
        half_made += (root / "params.yaml").exists() and killed
        open_workspace(root, "demo")
        assert not open_workspace(root, "demo") and git(root, "ls-files") == git(whole, "ls-files") and git(root, "status", "--porcelain") == ""
        with open_dvc(root) as repo:
            assert repo.config["core"]["remote"] == "store"
        if not killed:
            break
    assert number > 60 and half_made >= drill(2, 6)


def test_what_is_private_of_a_workspace_and_of_its_clone_is_closed_to_others_on_the_machine(tmp_path: Path) -> None:
    open_workspace(tmp_path / "w", "demo")
    git(tmp_path / "w", "clone", "-q", ".", str(tmp_path / "clone"))
    for root in (tmp_path / "w", tmp_path / "clone"):
        with lease(root, "test"):
            assert (root / ".vigil").stat().st_mode & 0o077 == 0


# -- how a stage ends ---------------------------------------------------------------------------------------------------------
STAGE = """import os, signal, sys
from pathlib import Path
from pipelines.stage import stage_main

def run(root, settings, batch):
    Path("made").write_text("made")
    {in_its_work}
    return {{}}

{at_its_start}
stage_main("validate", run)
{at_its_end}
"""
HIT = "os.kill(os.getpid(), signal.{})"


def one_stage(root: Path, copy: Path, **hit: str) -> Path:
    """A workspace whose only stage is a real one that meets these lines."""
    shutil.copytree(root, copy, symlinks=True)
    (copy / "dvc.lock").unlink(missing_ok=True)
    (copy / "stage.py").write_text(STAGE.format(**({"in_its_work": "", "at_its_start": "", "at_its_end": ""} | hit)))
    command = f"{sys.executable} -P stage.py --batch b"
    (copy / "dvc.yaml").write_text(json.dumps({"stages": {"only": {"cmd": command, "deps": ["stage.py"], "outs": ["made"]}}}))
    return copy


def recorded(root: Path) -> list[str]:
    return list(load_yaml(str(root / "dvc.lock"))["stages"]) if (root / "dvc.lock").exists() else []


@pytest.mark.parametrize("when", ["at_its_start", "in_its_work", "at_its_end"])
def test_ctrl_c_in_any_moment_of_a_stage_pauses_and_the_next_call_goes_on(root: Path, tmp_path: Path, when: str) -> None:
    """Before, one that met a stage in its imports was taken for a kill and the stage run again; one at its end was lost."""
    hit = HIT.format("SIGINT") if when != "at_its_start" else f"signal.signal(signal.SIGINT, signal.SIG_DFL); {HIT.format('SIGINT')}"
    copy = one_stage(root, tmp_path / "w", **{when: hit})
    with pytest.raises(KeyboardInterrupt):
        reproduce(copy, "only")
    assert recorded(copy) == (["only"] if when == "at_its_end" else [])
    if when == "at_its_end":
        assert reproduce(copy, "only") == [], "what was finished is not done again"
    else:
        one_stage(root, tmp_path / "mended")
        shutil.copy(tmp_path / "mended" / "stage.py", copy / "stage.py")
        assert reproduce(copy, "only") == ["only"]


def test_a_pause_that_strikes_dvc_as_it_writes_its_lock_is_no_failure(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told as a stage that did not finish, because DVC could not read what it had half written."""
    copy, written = one_stage(root, tmp_path / "w"), itertools.count()

    def dump(*given: Any) -> None:
        if next(written) == 2:
            signal.raise_signal(signal.SIGINT)
        json.dump(*given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("dvc.rwlock.json", SimpleNamespace(load=json.load, JSONDecodeError=json.JSONDecodeError, dump=dump))
        reproduce(copy, "only")
    assert reproduce(copy, "only") == ["only"]


CUTS = """import os, signal
from pathlib import Path
from pipelines.stage import stage_main

def run(root, settings, batch):
    out = Path("data/faces") / batch
    out.mkdir(parents=True)
    (out / "clips-000.tar").write_text(batch)
    if batch == os.environ.get("PAUSED_IN"):
        os.kill(os.getpid(), signal.SIGINT)
    return {}

stage_main("faces", run)
"""


@pytest.mark.parametrize("older", [False, True])
def test_what_a_paused_stage_had_finished_is_nothing_that_git_would_take(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool) -> None:
    """DVC takes back its lines in .gitignore where a stage of several batches does not end well, and adds none of what it finds finished: pictures of faces
    lay there for the next `git add -A`, and no erasure reaches what git has.
    """
    copy = one_stage(root, tmp_path / "w")
    shutil.rmtree(copy / ".vigil" / "dvc", ignore_errors=True)
    (copy / "stage.py").write_text(CUTS)
    cut = {"cmd": f"{sys.executable} -P stage.py --batch ${{item}}", "deps": ["stage.py"], "outs": ["data/faces/${item}"]}
    (copy / "dvc.yaml").write_text(json.dumps({"stages": {"faces": {"foreach": ["b1", "b2", "b3"], "do": cut}}}))
    mine = "/notes/"
    if older:
        (copy / ".gitignore").write_text(f"/.vigil/\n*.tmp\n{mine}")
    monkeypatch.setenv("PAUSED_IN", "b3")
    with pytest.raises(KeyboardInterrupt):
        reproduce(copy, "faces")
    assert recorded(copy) == ["faces@b1", "faces@b2"]

    def seen() -> list[str]:
        return git(copy, "ls-files", "--others", "--exclude-standard", "data").splitlines()

    assert seen() == []
    monkeypatch.delenv("PAUSED_IN")
    assert reproduce(copy, "faces") == ["faces@b3"] and len(list(copy.glob("data/faces/*/clips-000.tar"))) == 3
    commit(copy, "a cycle")
    assert seen() == [] and git(copy, "ls-files", "data") == "" and git(copy, "status", "--porcelain", ".gitignore") == ""
    assert not older or (copy / ".gitignore").read_text().splitlines()[:3] == ["/.vigil/", "*.tmp", mine], "a person's lines stay"


def test_git_takes_nothing_that_dvc_keeps_and_all_that_names_it(root: Path) -> None:
    pipeline = load_yaml(str(root / "dvc.yaml"))["stages"].values()
    kept = [out.replace("${item}", "b") for stage in pipeline for out in stage.get("do", stage).get("outs", [])]
    kept += ["data/raw/b", "models/2026-W46.1"]
    assert git(root, "check-ignore", *(f"{path}/x" for path in kept)).splitlines() == [f"{path}/x" for path in kept] and len(kept) > 10
    assert git(root, "check-ignore", "data/raw/b.dvc", "models/2026-W46.1.dvc", "dvc.lock", "reports/validate/b.json", check=False) == ""


ONCE_MORE = f"""import atexit
    atexit.register(lambda: {HIT.format("SIGINT")})
    """


def test_ctrl_c_once_more_while_a_stage_ends_is_no_traceback(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It struck where Python waits for its threads, and said so."""
    copy = one_stage(root, tmp_path / "w", in_its_work=ONCE_MORE + HIT.format("SIGINT"))
    with pytest.raises(KeyboardInterrupt):
        reproduce(copy, "only")
    assert "Exception ignored" not in capfd.readouterr().err and recorded(copy) == []


SWALLOWED = f"""try:
        {HIT.format("SIGINT")}
    except BaseException:
        pass
    """


@pytest.mark.parametrize("told", [True, False])
def test_ctrl_c_that_a_library_swallowed_pauses_all_the_same(root: Path, tmp_path: Path, told: bool) -> None:
    """An extension that clears whatever an import of its own raised: the stage went on, and so did the cycle."""
    goes_on = "from pipelines.stage import Progress; Progress('only')(1, 2)" if told else ""
    copy = one_stage(root, tmp_path / "w", in_its_work=SWALLOWED + goes_on)
    with pytest.raises(KeyboardInterrupt):
        reproduce(copy, "only")
    assert recorded(copy) == ([] if told else ["only"]), "at once where it tells how far it is, else after its work"


ENDED = """import subprocess
    from workspace.errors import Killed
    slow = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600"])
    subprocess.run(["sleep", "600"])
    raise Killed("Training failed.", why="one of them was told to end", next_step="Run it again.")"""


def test_a_stage_that_took_too_long_says_so_and_not_that_its_children_were_ended(root: Path, tmp_path: Path) -> None:
    """They are ended first, and what it said of that took the place of its last word: as a kill it would be tried again, for as long."""
    copy = one_stage(root, tmp_path / "w", in_its_work=ENDED)
    params = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(re.sub(r"stage_timeout_seconds: \d+", "stage_timeout_seconds: 2", params))
    with pytest.raises(StageFailed, match=r"it took longer than schedule\.stage_timeout_seconds") as caught:
        reproduce(copy, "only")
    assert not caught.value.retryable and "told to end" not in str(caught.value)


def test_a_killed_stage_may_be_tried_again(root: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed) as caught:
        reproduce(one_stage(root, tmp_path / "w", in_its_work=HIT.format("SIGKILL")), "only")
    assert caught.value.retryable


@pytest.mark.parametrize(("kind", "again"), [("Killed", True), ("DataError", False)])
def test_a_stage_whose_processes_were_killed_may_be_tried_again(root: Path, tmp_path: Path, kind: str, again: bool) -> None:
    """A training in several processes outlives them, and its word said nothing of another attempt: what one process is given, the week of several was not."""
    says = f"from workspace.errors import {kind}; raise {kind}('Training failed.', why='one of them was killed', next_step='Run it again.')"
    with pytest.raises(StageFailed) as caught:
        reproduce(one_stage(root, tmp_path / "w", in_its_work=says), "only")
    assert caught.value.retryable == again


@pytest.mark.parametrize(
    ("what", "step", "shown"),
    [
        ("No faces.", "Wait for the day.", "Wait for the day. `vigil retrain` goes on from this stage."),
        ("Training diverged. Nothing was written.", "Run `vigil retrain` by day.", "Run `vigil retrain` by day."),
    ],
)
def test_what_a_stage_has_to_say_is_told_once_with_one_why_and_one_next(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], what: str, step: str, shown: str
) -> None:
    """It was printed by the stage, and again by the flow, as a why with a why and a next in it; then as `Nothing was written: it is night`."""
    monkeypatch.setenv("VIGIL_PARENT", parent_token())
    says = f"from workspace.errors import DataError; raise DataError({what!r}, why='it is night', next_step={step!r})"
    with pytest.raises(StageFailed) as caught:
        reproduce(one_stage(root, tmp_path / "w", in_its_work=says), "only")
    told = "Stage validate@b did not finish. Nothing was promoted; finished stages are kept."
    assert str(caught.value) == f"{told}\n  Why:  {what} (it is night)\n  Next: {shown}"
    assert "night" not in capfd.readouterr().err


def test_what_dvc_could_not_keep_is_not_laid_to_a_killed_process(root: Path, tmp_path: Path) -> None:
    """On a full disk a stage that had ended well was said to have ended as a killed process does."""
    copy = one_stage(root, tmp_path / "w")
    shutil.rmtree(copy / ".dvc" / "cache", ignore_errors=True)
    (copy / ".dvc" / "cache").write_text("no folder")
    with pytest.raises(StageFailed, match="could not keep what it made") as caught:
        reproduce(copy, "only")
    assert "killed" not in str(caught.value) and not caught.value.retryable
    (copy / ".dvc" / "cache").unlink()
    assert reproduce(copy, "only") == ["only"]


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/of-another-machine", None])
def test_a_stage_runs_whatever_shell_its_user_logs_in_with(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str | None) -> None:
    """A service's account has one that refuses everybody, a container the name of one that it lacks: DVC began no stage with it."""
    monkeypatch.delenv("SHELL", raising=False)
    if shell:
        monkeypatch.setenv("SHELL", shell)
    assert reproduce(one_stage(root, tmp_path / "w"), "only") == ["only"] and os.environ.get("SHELL") == shell


def test_ctrl_c_before_a_stage_listens_ends_it_without_a_traceback(root: Path) -> None:
    """`python -m pipelines.<stage>` imports the package first, with `-m` as the program's name."""
    code = f"import os, signal, sys; sys.argv[0] = '-m'; import pipelines; {HIT.format('SIGINT')}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=120)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_what_dvc_notes_for_itself_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It opens its notes to everybody, pickles among them: whoever writes there runs what he likes."""
    init_repository(tmp_path, "remote")
    shutil.rmtree(tmp_path / ".vigil" / "dvc", ignore_errors=True)
    for mode in (None, 0o777):
        if mode:
            (tmp_path / ".vigil" / "dvc").chmod(mode)
        with open_dvc(tmp_path):
            assert (tmp_path / ".vigil" / "dvc").stat().st_mode & 0o777 == 0o700


def test_the_remote_of_the_settings_is_used_whatever_dvc_takes_by_itself(tmp_path: Path) -> None:
    init_repository(tmp_path, "remote")
    config = tmp_path / ".dvc" / "config"
    config.write_text(config.read_text().replace(f"remote = {REMOTE}", "remote = backup") + f"['remote \"backup\"']\n    url = {tmp_path / 'backup'}\n")
    (tmp_path / "data" / "raw" / "b").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "b" / "media.tar").write_bytes(b"media")
    dvc_add(tmp_path, [tmp_path / "data" / "raw" / "b"])
    held = objects_in(cache_of(tmp_path))
    assert push(tmp_path) == len(held) == 2 and not (tmp_path / "backup").exists()
    assert set(objects_in(tmp_path / ".vigil" / "remote")) == set(held)
    assert len(delete_objects(tmp_path, held)) == 2 and not objects_in(tmp_path / ".vigil" / "remote")


def one_batch(root: Path) -> Path:
    """A workspace with one batch that DVC does not know yet; the batch's folder."""
    init_repository(root, "remote")
    batch = root / "data" / "raw" / "b"
    batch.mkdir(parents=True)
    (batch / "media-000.tar").write_bytes(b"media")
    return batch


WITHOUT_ROOM = """
    import sqlite3, sys
    from pathlib import Path
    import diskcache
    from workspace.files import is_no_room
    from workspace.repository import dvc_add

    as_it_does = diskcache.Cache._sql.fget

    def statements(cache):
        def run(statement, *arguments, **options):
            if statement == "BEGIN IMMEDIATE":
                problem = sqlite3.OperationalError("database or disk is full")
                problem.sqlite_errorname = "SQLITE_FULL"
                raise problem
            return as_it_does(cache)(statement, *arguments, **options)

        return run

    diskcache.Cache._sql = property(statements)
    try:
        dvc_add(Path(sys.argv[1]), [Path(sys.argv[1]) / "data" / "raw" / "b"])
    except OSError as problem:
        print(problem.strerror, is_no_room(problem))
"""


def test_a_full_disk_ends_dvc_instead_of_holding_it_for_ever(tmp_path: Path) -> None:
    """Its notes are kept by a library that begins again at once whatever SQLite says: an ingest held the workspace until somebody made room."""
    one_batch(tmp_path)
    half_written = tmp_path / ".dvc" / "cache" / "files" / "md5" / "ab" / ".b.tmp"
    half_written.parent.mkdir(parents=True)
    half_written.touch()
    process = start_python(WITHOUT_ROOM, tmp_path)
    try:
        said, problem = process.communicate(timeout=60)
    finally:
        process.kill()
    assert said.strip() == "SQLite: database or disk is full True", problem
    assert not (tmp_path / "data" / "raw" / "b.dvc").exists()
    assert not half_written.exists(), "it would keep the disk full"


def cannot_be_kept(patch: pytest.MonkeyPatch, name: str) -> None:
    """The cache has no room for files of this name; a folder's list, which is small, still finds some."""
    from dvc_objects.fs import generic

    as_it_does = generic._try_links

    def links(links: Any, from_fs: Any, from_path: Any, to_fs: Any, to_path: Any, *rest: Any, **options: Any) -> Any:
        if str(from_path).endswith(name) and ".dvc/cache" in str(to_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), to_path)
        return as_it_does(links, from_fs, from_path, to_fs, to_path, *rest, **options)

    patch.setattr(generic, "_try_links", links)


@pytest.mark.parametrize("lacking", ["shard", "made"], ids=["a file of a folder", "a file"])
def test_a_stage_whose_work_the_cache_could_not_keep_has_not_finished(root: Path, tmp_path: Path, lacking: str) -> None:
    """DVC wrote it down as made: the cycle went on, and its tag named what neither cache nor remote ever had."""
    folder = "made = Path('made'); made.unlink(); made.mkdir(); (made / 'shard').write_text('shard')"
    copy = one_stage(root, tmp_path / "w", in_its_work=folder if lacking == "shard" else "")
    with pytest.MonkeyPatch.context() as patch:
        cannot_be_kept(patch, lacking)
        with pytest.raises(StageFailed, match=r"Stage only did not finish[\s\S]*(lacks|could not keep) what it made[\s\S]*disk is full"):
            reproduce(copy, "only")
    assert reproduce(copy, "only") == ["only"], "with room again it is done again"
    assert len(objects_in(cache_of(copy))) == (2 if lacking == "shard" else 1) and reproduce(copy, "only") == []


def test_the_batches_of_the_journal_are_versioned_and_what_else_lies_beside_them_is_not(tmp_path: Path) -> None:
    batch = one_batch(tmp_path)
    shutil.copytree(batch, batch.with_name("stray"))
    for name in ("b", "not-here"):
        Journal(tmp_path).append("batch_added", batch=name, source="x", samples=1, quarantined=0)
    workspace.repository.version_batches(tmp_path)
    known = batch.with_name("b.dvc").read_bytes()
    workspace.repository.version_batches(tmp_path)
    assert sorted(batch.parent.glob("*.dvc")) == [batch.with_name("b.dvc")] and batch.with_name("b.dvc").read_bytes() == known


def test_what_the_cache_could_not_keep_counts_as_not_versioned_until_it_is(tmp_path: Path) -> None:
    """DVC logs a line and goes on: with its .dvc file written the batch was never added again, and its media were in neither cache nor remote."""
    batch = one_batch(tmp_path)
    pointer = batch.with_name("b.dvc")
    with pytest.MonkeyPatch.context() as patch:
        cannot_be_kept(patch, "media-000.tar")
        with pytest.raises(DataError, match=r"data/raw/b\. It stays[\s\S]*Make room"):
            dvc_add(tmp_path, [batch])
    assert not pointer.exists() and (batch / "media-000.tar").read_bytes() == b"media"
    assert to_add(tmp_path, [batch, batch.with_name("not-here")]) == [batch]
    dvc_add(tmp_path, [batch])
    known = pointer.read_bytes()
    assert is_cached(cache_of(tmp_path), pointer) and to_add(tmp_path, [batch]) == []
    (batch / "media-000.tar").unlink()  # a shard may be linked to the cache, read-only
    (batch / "media-000.tar").write_bytes(b"other media")
    with pytest.MonkeyPatch.context() as patch:
        cannot_be_kept(patch, "media-000.tar")
        with pytest.raises(DataError):
            dvc_add(tmp_path, [batch])
    assert pointer.read_bytes() == known and (batch / "media-000.tar").read_bytes() == b"other media"


def test_a_batch_that_the_cache_lacks_is_added_again_where_it_lies_here_whole(tmp_path: Path) -> None:
    batch = one_batch(tmp_path)
    (batch / "manifest.parquet").write_bytes(b"rows")
    dvc_add(tmp_path, [batch])
    known, pointer = batch.with_name("b.dvc").read_bytes(), batch.with_name("b.dvc")
    for lost in objects_in(cache_of(tmp_path)).values():
        content = lost.read_bytes()
        lost.unlink()
        assert to_add(tmp_path, [batch]) == [batch]
        dvc_add(tmp_path, [batch])
        assert lost.read_bytes() == content and pointer.read_bytes() == known
    lost.unlink()
    (batch / "manifest.parquet").unlink()
    assert to_add(tmp_path, [batch]) == [], "fetched in part: what is left of it is no new version"
