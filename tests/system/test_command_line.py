"""The front door: help is light, scores are one row a file whatever is wrong, mistakes are usage errors, Ctrl-C is a pause."""

import csv
import hashlib
import io
import json
import os
import re
import resource
import shlex
import signal
import sqlite3
import struct
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from media.decode import read_frames
from media.synthetic import make_sample_media
from model.backbones import refuse_side, refuse_unknown_backbone
from model.shipped import STARTER, has_starter
from pipelines.names import USUAL, USUAL_SIDE
from pipelines.scoring import read_set
from pipelines.sides import split_of
from tests.pipelines import odd_inputs as odd
from tests.system.world import copy_workspace, events, vigil, vigil_json
from tests.workspace.worlds import make_model
from vigil.deciding import set_batch_state
from vigil.demo import figures_of, run_demo
from vigil.ending import unwritable
from vigil.main import app
from vigil.measuring import measured_sources
from vigil.opening import open_workspace
from vigil.options import emit
from vigil.people import add_user
from vigil.scoring import expand
from vigil.taking_in import ingest_sources, named_sources
from vigil.words import parse_columns, parse_fakes, parse_labels, source_name
from workspace import registry
from workspace.cycle import Cycle, write_cycle
from workspace.errors import DataError, LeaseHeldError, VigilError, WorkspaceError
from workspace.files import write_json
from workspace.format import FORMAT
from workspace.journal import Journal
from workspace.lease import lease
from workspace.profiles import compose_params
from workspace.settings import load_settings

HEAVY = ("torch", "pandas", "mlflow", "prefect", "dvc", "great_expectations", "evidently", "cv2", "onnxruntime", "fastapi", "sqlalchemy")
VERBS = (
    "init", "sample", "ingest", "batches", "retrain", "status", "score", "evaluate", "explain", "models", "report", "schedule", "serve", "demo", "doctor",
    "gc", "audit", "compare", "search", "users", "keys", "erase", "verify-report", "upgrade",
)  # fmt: skip
PEAK = "import atexit, pathlib, sys\natexit.register(lambda: print(pathlib.Path('/proc/self/status').read_text(), file=sys.stderr))"


def test_help_imports_nothing_heavy():
    lines = ["import sys", "from vigil.main import app", "try:", "    app(['--help'])", "except SystemExit:", "    pass"]
    program = "\n".join([*lines, f"print([name for name in {HEAVY!r} if name in sys.modules])"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    for verb in VERBS:
        assert verb in done.stdout


def test_the_version_says_what_a_report_of_a_mistake_needs(tmp_path: Path):
    done = vigil("--version", cwd=tmp_path)
    assert re.fullmatch(r"vigil \d+\.\d+\.\d+, workspace format \d+; Python 3\.11\.\d+, torch \d\S+\n", done.stdout), done.stdout


def test_a_folder_to_score_is_read_without_what_is_hidden_unless_it_is_named(tmp_path: Path):
    for name in ("b/clip.mp4", "a.mp4", ".cut.part", ".git/objects/ab", ".vigil/media/seen.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(expand([tmp_path])) == [(tmp_path / "a.mp4", ""), (tmp_path / "b" / "clip.mp4", "")]
    named = [tmp_path / ".vigil" / "media", tmp_path / ".cut.part"]
    assert list(expand(named)) == [(named[0] / "seen.mp4", ""), (named[1], "")]


@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
def test_folders_that_are_links_or_closed_have_a_row_that_says_so(tmp_path: Path):
    """They were passed over without a word, and the exit code said that each file had its verdict; a closed file that was named took all others along."""
    folder, picture, named, inner = tmp_path / "media", tmp_path / "elsewhere" / "a.png", tmp_path / "named.png", tmp_path / "inner"
    for made in (folder / "closed", picture.parent, inner):
        made.mkdir(parents=True)
    cv2.imwrite(str(picture), np.zeros((96, 96, 3), np.uint8))
    (folder / "linked").symlink_to(picture.parent)
    (folder / "picture.png").symlink_to(picture)
    (folder / "shut.png").write_bytes(picture.read_bytes())
    named.write_bytes(picture.read_bytes())
    for shut in (folder / "shut.png", folder / "closed", named, inner):
        shut.chmod(0)
    done = odd.run([sys.executable, "-m", "vigil", "score", str(named), str(inner), str(folder), "--format", "json"], cwd=tmp_path)
    for shut in (folder / "closed", inner):
        shut.chmod(0o700)
    assert done.returncode == 3, done.stderr
    assert {Path(row["file"]).name: row["reason"] for row in json.loads(done.stdout)} == {
        "closed": "unreadable folder",
        "inner": "unreadable folder",
        "linked": "link to a folder",
        "named.png": "no permission to read it",
        "picture.png": "no face found",
        "shut.png": "no permission to read it",
    }


def test_in_a_folder_that_may_not_be_searched_there_is_no_workspace(tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0)
    for words, says in ((["status"], "is not in a workspace"), (["sample", "/proc/x", "--people", "2"], "Cannot use /proc/x")):
        done = odd.run([sys.executable, "-m", "vigil", *words], cwd=tmp_path / "closed")
        assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr, done.stderr
    (tmp_path / "closed").chmod(0o700)


@pytest.mark.slow
def test_sample_media_for_a_workspace_have_both_people_of_a_swap_on_one_side(tmp_path: Path):
    root = tmp_path / "my w"
    assert f"-w '{root}', then vigil retrain -w '{root}'\n" in vigil("init", root, "--profile", "demo").stdout
    split = load_settings(root / "params.yaml").split

    def torn(folder: Path, *more: object) -> int:
        done = vigil("sample", folder, "--people", 6, "--fake", "blendswap=1", "--seconds", 0.5, *more)
        said = ["vigil", "ingest", f"{folder}/labels.csv", *map(str, more)]
        assert done.returncode == 0 and shlex.split(done.stdout.partition("Next: ")[2]) == said
        with open(folder / "labels.csv", newline="", encoding="utf-8") as handle:
            swaps = [row for row in csv.DictReader(handle) if row["donor"]]
        assert len(swaps) == 6 and all(row["donor"] != row["identity"] for row in swaps)
        return sum(split_of(row["donor"], split) != split_of(row["identity"], split) for row in swaps)

    assert torn(tmp_path / "any clips") > 0 == torn(tmp_path / "own clips", "-w", root)
    refused = vigil("sample", tmp_path / "none", "-w", tmp_path / "nowhere", check=False)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize("verb", ["score", "ingest"])
def test_a_bomb_of_a_photo_is_refused_before_it_takes_memory(tmp_path: Path, verb: str):
    """A bitmap of a kilobyte that claims 24000 x 24000 pixels took 3.4 GB before it was refused, a PNG of 46 bytes with a part of 4 GB as much as that."""
    colours, side = bytes(4 * 256), 24000
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 2, 0, 0, 256, 256)  # run-length coded, of 2 bytes
    bomb = tmp_path / "media" / "real" / "bomb.bmp"
    bomb.parent.mkdir(parents=True)
    bomb.write_bytes(b"BM" + struct.pack("<IHHI", 1080, 0, 0, 1078) + header + colours + b"\0\1")
    part = struct.pack(">I4sIIBBBBB", 13, b"IHDR", 20, 20, 8, 2, 0, 0, 0)
    begins = b"\x89PNG\r\n\x1a\n" + part + struct.pack(">I", zlib.crc32(part[4:]))
    bomb.with_name("part.png").write_bytes(begins + struct.pack(">I4s", 0xFFFFFF00, b"IDAT") + b"\0\0\0\0\0")
    open_workspace(tmp_path / "w", "demo")
    words = ["score", bomb, bomb.with_name("part.png")] if verb == "score" else ["ingest", tmp_path / "media", "-w", tmp_path / "w"]
    program = f"{PEAK}\nfrom vigil.main import main\nmain()"
    done = subprocess.run([sys.executable, "-c", program, *map(str, words)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert all(reason in done.stdout + done.stderr for reason in ("picture too large", "truncated or corrupt"))
    assert int(done.stderr.split("VmHWM:")[1].split()[0]) < 600_000, "kilobytes"


@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_no_name_of_a_file_breaks_what_is_printed(tmp_path: Path, form: str):
    """A name could make a row of its own, colour the terminal, or leave JSON that no parser takes."""
    names = [b"a\nb.mp4", b"a\rb.mp4", b"bad\xff.mp4", b"\x1b[31mred.mp4"] + ["\u00e9\U0001f600.mp4".encode()] * (form == "json")
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    (tmp_path / "a\nnote.txt").write_text("no medium")
    (tmp_path / "empty.txt").touch()
    env = {**os.environ, "PYTHONIOENCODING": "ascii" if form == "json" else "utf-8"}  # JSON knows no \\xe9
    done = subprocess.run([sys.executable, "-m", "vigil", "score", ".", "--format", form], cwd=tmp_path, capture_output=True, timeout=300, env=env)
    assert done.returncode == 3 and b"\x1b" not in done.stderr and b"passed over: a\\nnote.txt, empty.txt." in done.stderr
    said = done.stdout.decode("utf-8")
    if form == "table":
        assert {r"a\nb.mp4", r"a\rb.mp4", r"bad\xff.mp4", r"\x1b[31mred.mp4"} == {line.split()[0] for line in said.splitlines()[1:-1]}
    else:
        rows = json.loads(said) if form == "json" else list(csv.DictReader(io.StringIO(said, newline="")))
        assert {row["file"] for row in rows} == {os.fsdecode(name).replace("\udcff", r"\xff") for name in names}


@pytest.mark.slow
@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
def test_no_timeline_of_a_video_is_left_beside_a_photo_that_is_explained_after_it(tmp_path: Path):
    made = make_sample_media(tmp_path / "m", people=1, seconds=1.0, fakes={}, workers=1)
    clip, photo = tmp_path / "m" / made.rows[0]["path"], tmp_path / os.fsdecode(b"\xff.png")
    photo.write_bytes(cv2.imencode(".png", next(read_frames(clip, [0.5]))[1][..., ::-1])[1].tobytes())
    for path, pictures in ((clip, ["overlay.png", "timeline.png"]), (photo, ["overlay.png"])):
        page = vigil_json("explain", path, cwd=tmp_path)
        assert page["pictures"] == pictures == sorted(one.name for one in (tmp_path / "explanation").glob("*.png"))
    assert page["file"].endswith(r"\xff.png"), "a name that is no text stopped it"


def test_a_dry_run_of_several_erasures_is_told_that_it_takes_one(tmp_path: Path):
    """Who had named six was told to name it."""
    done = vigil("erase", "a" * 64, "b" * 64, "--dry-run", "--who", "ann", "--why", "asked to", "-w", tmp_path, check=False)
    assert done.returncode == 2 and "name one, not 2" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["scoer"], 2),
        (["init", "--profile", "huge"], 2),
        (["score"], 2),
        (["sample", "x", "--fake", "nobody"], 2),
        (["sample", "x", "--fake", "nobody=1"], 1),
        *((words, 2) for words in (["score", "x", "--mode", "slow"], ["explain", "x", "--mode", "slow"])),
        *((words, 2) for words in (["evaluate", ".", "--mode", "slow"], ["evaluate", ".", "--cross", "--mode", "slow"])),
        (["serve", "--port", "99999"], 2),
        (["serve", "--port", "-1"], 2),
        (["sample", "x", "--people", "2", "--seed", "-1"], 2),
        (["demo", "x", "--seed", "-1"], 2),
    ],
    ids=str,
)
def test_mistakes_are_told_without_a_traceback(tmp_path: Path, words: list[str], code: int):
    done = vigil(*words, cwd=tmp_path, check=False)
    assert done.returncode == code and "Traceback" not in done.stderr and done.stderr.strip()


def test_a_path_that_cannot_be_used_is_no_mistake_of_vigil(tmp_path: Path):
    (tmp_path / "note.txt").write_text("a line")
    for words in (["init", "/proc/x"], ["sample", "/proc/x", "--people", "2"], ["sample", "note.txt", "--people", "2"], ["demo", "note.txt"]):
        done = vigil(*words, cwd=tmp_path, check=False)
        assert done.returncode == 1 and done.stderr.startswith(f"Cannot use {'/proc/x' if '/proc/x' in words else ''}"), done.stderr
        assert "mistake in Vigil" not in done.stderr and words[1] in done.stderr and "Next:" in done.stderr


def kept_out() -> list[str]:
    """Words in front of a command that is to be refused what the modes of files refuse: root may do anything otherwise."""
    bounds = [f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps")]
    words = ["setpriv", *bounds] if os.geteuid() == 0 else []
    if words and subprocess.run([*words, "true"], capture_output=True).returncode != 0:
        pytest.skip("root cannot be kept out here: no setpriv")
    return words


@pytest.mark.parametrize(("closed", "where"), [(".vigil", "w"), ("data/raw", "w"), ("journal.jsonl", "w"), ("data/raw", "media/w")])
def test_a_workspace_that_this_user_may_not_write_in_is_told_as_that(tmp_path: Path, closed: str, where: str) -> None:
    """`vigil ingest` asked for another path, or to look whether the source's disk is there, and the path that was named was right."""
    words, root = kept_out(), tmp_path / where
    (tmp_path / "media" / "real").mkdir(parents=True)
    open_workspace(root, "demo")
    cv2.imwrite(str(tmp_path / "media" / "real" / "a.png"), np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    (root / "journal.jsonl").touch()
    mode = (root / closed).stat().st_mode
    (root / closed).chmod(0o500)
    try:
        done = subprocess.run(
            [*words, sys.executable, "-m", "vigil", "ingest", "media", "-w", where], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
    finally:
        (root / closed).chmod(mode)
    first, why, then = done.stderr.splitlines()[-3:]
    assert done.returncode == 1 and first.startswith("Cannot ") and closed in first and why == "  Why:  Permission denied", done.stdout + done.stderr
    assert then.startswith("  Next: Let this user read, write and delete there, and run the same command again; nothing that was finished is lost.")
    (report,) = ingest_sources(root, load_settings(root / "params.yaml"), named_sources([str(tmp_path / "media")], "auto", "", "", []))
    assert len(report.batches) == 1 and report.added + report.known == 1


def test_a_registry_whose_file_this_user_may_not_write_is_told_as_that(tmp_path: Path) -> None:
    """`vigil score` sent people to `vigil doctor`, that to `vigil doctor --fix`, and that back to the first: nothing named the rights of the file."""
    words, root = kept_out(), tmp_path / "before"
    open_workspace(root, "demo")
    fields = {"cycle": "2026-W46.1", "model_sha256": make_model(root, "2026-W46.1"), "path": "models/2026-W46.1", "previous_sha256": ""}
    Journal(root).append("promotion", **fields, who="vigil", why="every gate passed")
    registry.prepare(root, load_settings(root / "params.yaml"))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    root = root.rename(tmp_path / "w")  # the database is to name this place from now on
    (root / "mlflow.db").chmod(0o400)
    for command in (["score", "a.png"], ["doctor", "--fix"], ["doctor"]):
        done = subprocess.run([*words, sys.executable, "-m", "vigil", *command, "-w", "w"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1 and "et this user read and write that file and its folder" in done.stdout + done.stderr, done.stdout + done.stderr


def test_what_goes_on_in_a_workspace_is_not_guessed_where_this_user_may_not_look(tmp_path: Path) -> None:
    """Of another user's workspace it said that the cycle which ran had to be begun again, and that what had come in was new."""
    words, root = kept_out(), tmp_path / "w"
    open_workspace(root, "demo")
    (root / ".vigil").chmod(0)
    try:
        for verb in (["status"], ["retrain", "--dry-run"]):
            done = subprocess.run([*words, sys.executable, "-m", "vigil", *verb, "-w", "w"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
            first, why, then = done.stderr.splitlines()
            assert (done.returncode, done.stdout, why) == (1, "", "  Why:  Permission denied") and first.startswith(f"Cannot use {root / '.vigil'}")
            assert then.startswith("  Next: Let this user read")
    finally:
        (root / ".vigil").chmod(0o700)


def test_a_disk_without_room_is_no_mistake_of_vigil(tmp_path: Path):
    """The account of what went wrong could not be written either, and its traceback was all that was said. A copy that found no room was called unreadable."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    (tmp_path / "media" / "real").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "media" / "real" / "a.png"), np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8))
    verbs = (["ingest", "../media"], ["batches", "drop", "b", "--who", "ann", "--why", "x"], ["gc", "--delete"], ["init", "../v"], ["retrain"])
    for most_bytes, words in [(100_000, verbs[0]), *((0, words) for words in verbs)]:
        no_room = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        if words == ["retrain"]:
            assert "1 new" in vigil("ingest", "../media", cwd=root).stdout, "with room again, the same command does what it says"
        done = subprocess.run([sys.executable, "-m", "vigil", *words], cwd=root, preexec_fn=no_room, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1 and "Make room on the disk" in done.stderr and "Next:" in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr and "mistake in Vigil" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_no_file_of_the_workspace(tmp_path: Path, unbuffered: str):
    """A key whose text nobody saw is live, and one was told that the same command again loses nothing."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    add_user(root, load_settings(root / "params.yaml"), "ada", "", "ada@example.org", "viewer", "correct horse 9")
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "vigil", "keys", "add", "ada", "--name", "x", "-w", str(root)]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 1 and done.stderr.startswith("The output could not be written.\n"), done.stderr
    assert "may be done all the same" in done.stderr and "`vigil keys`" in done.stderr and "Exception" not in done.stderr
    assert len(vigil_json("keys", "-w", root)) == 1


@pytest.mark.parametrize(
    ("name", "is_so"),
    [("SQLITE_FULL", True), ("SQLITE_IOERR_SHMSIZE", True), ("SQLITE_IOERR_WRITE", True), ("SQLITE_IOERR_READ", False), ("SQLITE_BUSY", False), ("", False)],
)
def test_what_sqlite_says_of_a_full_disk_is_no_mistake_of_vigil(name: str, is_so: bool):
    problem = sqlite3.OperationalError("disk I/O error")
    problem.sqlite_errorname = name
    wrapped = RuntimeError("(sqlite3.OperationalError) disk I/O error")
    wrapped.__cause__ = problem
    assert unwritable(wrapped) == ("SQLite: disk I/O error" if is_so else "")


def test_what_is_not_there_is_said_to_be_not_there(tmp_path: Path):
    open_workspace(tmp_path / "w", "demo")
    told = {
        ("evaluate", "nowhere"): "There is nothing at",
        ("score", "a.jpg", "--model", "nowhere"): "Name a folder with model.onnx and card.json",
        ("evaluate", "w", "--cross", "--model", "nowhere"): "Name a folder with model.onnx and card.json",
        ("verify-report", "nowhere.json"): "There is no report to verify",
        ("ingest", "nowhere", "-w", "w"): "Next: Check the path",
        ("erase", os.fsdecode(b"k\xff"), "--who", "ann", "--why", "asked to", "-w", "w"): r"no sample of the batches is called 'k\\xff'",
    }
    for words, expected in told.items():
        done = vigil(*words, cwd=tmp_path, check=False)
        assert done.returncode == 1 and expected in done.stderr + done.stdout, (words, done.stdout, done.stderr)


@pytest.mark.parametrize("words", ["batches list", "models diff", "models list", "users add ann --email a@b.c", "keys list", "audit verify"])
def test_an_option_that_a_subcommand_would_not_see_is_refused(tmp_path: Path, words: str):
    """`vigil models -w prod rollback ...` inside another workspace would roll that one back."""
    group, *rest = words.split()
    open_workspace(tmp_path / "w", "demo")
    for before in (("-w", tmp_path / "other"), ("--json",)):
        done = vigil(group, *before, *rest, cwd=tmp_path / "w", check=False)
        assert done.returncode == 2 and "go behind the subcommand" in done.stderr, done.stdout + done.stderr


def test_what_is_said_of_a_source_is_not_thrown_away_where_none_is_named(tmp_path: Path):
    open_workspace(tmp_path / "w", "demo")
    done = vigil("ingest", "--identity", "unknown", "-w", tmp_path / "w", check=False)
    assert done.returncode == 2 and "params.yaml say their own" in done.stderr


@pytest.mark.parametrize("first", ["bad.csv", "good"])
def test_a_source_that_cannot_be_used_keeps_no_other_from_coming_in(tmp_path: Path, first: str):
    open_workspace(tmp_path / "w", "demo")
    (tmp_path / "bad.csv").write_text("file,cls\na.mp4,1\n")
    (tmp_path / "good" / "real").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "good" / "real" / "ann.png"), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    done = vigil("ingest", first, *({"bad.csv", "good"} - {first}), "-w", "w", cwd=tmp_path, check=False)
    assert done.returncode == 1 and "bad: nothing taken in" in done.stdout and "good: 1 files found, 1 new" in done.stdout, done.stdout + done.stderr
    assert len(vigil_json("batches", "-w", tmp_path / "w")) == 1 and list((tmp_path / "w" / "data" / "raw").glob("*.dvc"))
    assert vigil("ingest", "bad.csv", "-w", "w", cwd=tmp_path, check=False).stderr.startswith("Cannot use the table")


@pytest.mark.slow
def test_what_was_put_aside_when_it_came_in_is_erased_as_the_dry_run_says(tmp_path: Path):
    """A file that nothing could open has a row with its name and its person."""
    open_workspace(tmp_path / "w", "demo")
    (tmp_path / "q" / "real").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "q" / "real" / "ben.png"), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    (tmp_path / "q" / "real" / "anna.mp4").write_bytes(bytes(range(256)) * 9)
    vigil("ingest", "q", "-w", "w", cwd=tmp_path)
    sha256 = hashlib.sha256(bytes(range(256)) * 9).hexdigest()
    words = ("erase", sha256, "--who", "ann", "--why", "asked to", "-w", tmp_path / "w")
    page = vigil_json(*words, "--dry-run")
    (row,) = page["rows"]
    assert (row["path"], row["shard"], row["bytes"]) == ("real/anna.mp4", "", 0)
    assert "its name goes" in vigil(*words, "--dry-run").stdout
    assert vigil_json("erase", sha256.upper(), *words[2:], "--dry-run") == page, "as another system's tool says it"
    vigil("erase", f" {sha256.upper()}", *words[2:])
    assert vigil_json(*words, "--dry-run")["rows"] == []


@pytest.mark.parametrize("first", [(), pytest.param(("drop",), marks=pytest.mark.slow)], ids=["accepted until then", "dropped already"])
def test_a_batch_that_is_dropped_to_come_again_comes_in_as_its_source_says_it_now(tmp_path: Path, first: tuple[str, ...]):
    open_workspace(tmp_path / "w", "demo")
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.random.default_rng(ord(name)).integers(0, 256, (300, 300, 3), np.uint8))
    (tmp_path / "t.csv").write_text("path,label,identity\na.png,real,ann\nb.png,real,ann\n")
    vigil("ingest", "t.csv", "-w", "w", cwd=tmp_path)
    (batch,) = [row["batch"] for row in vigil_json("batches", "list", "-w", tmp_path / "w")]
    decide = ("drop", batch, "--who", "ann", "--why", "who is who", "-w", tmp_path / "w")
    if first:
        vigil("batches", *decide)
    (tmp_path / "t.csv").write_text("path,label,identity\na.png,real,ann\nb.png,real,bob\n")
    if not first:
        assert f"vigil batches drop {batch} --again" in vigil("ingest", "t.csv", "-w", "w", cwd=tmp_path).stdout
    vigil("batches", *decide, "--again")
    assert "2 new" in vigil("ingest", "t.csv", "-w", "w", cwd=tmp_path).stdout
    assert "0 new" in vigil("ingest", "t.csv", "-w", "w", cwd=tmp_path).stdout
    assert [row["state"] for row in vigil_json("batches", "list", "-w", tmp_path / "w")] == ["dropped", "new"]


@pytest.mark.parametrize(("word", "state"), [("accept", "accepted"), ("hold", "held"), ("drop", "dropped")])
def test_a_state_that_a_batch_has_already_is_not_said_to_be_somebody_elses_decision(tmp_path: Path, word: str, state: str):
    """The second name and reason were printed as taken, and stood nowhere."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    Journal(root).append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    assert set_batch_state(root, "b1", state, "ana", "first reason") == f"b1 is now {state} (ana: first reason)."
    before = (root / "journal.jsonl").read_bytes()
    said = vigil("batches", word, "b1", "--who", "bob", "--why", "second reason", "-w", root).stdout
    assert said == f"b1 is {state} already (ana: first reason). Nothing was recorded.\n"
    assert (root / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("word", ["blendswap=²", "blendswap=٣", "blendswap=", "blendswap=-1", "blendswap"])
def test_a_count_of_clips_is_written_in_plain_digits(word: str):
    """A raised two was said to be a mistake in Vigil."""
    with pytest.raises(typer.BadParameter, match="is not GENERATOR=CLIPS_A_PERSON"):
        parse_fakes([word])


def test_a_name_that_is_said_twice_is_a_mistake_of_the_command():
    """Of `--label 1=fake --label 1=real` the last word stood in silence."""
    for parse, words in ((parse_labels, ["1=fake", "1=real"]), (parse_columns, ["path=a", "path=b"]), (parse_fakes, ["blend=1", "blend=2"])):
        with pytest.raises(typer.BadParameter, match="more than once"):
            parse(words)
        assert len(parse(words[:1])) == 1


@pytest.mark.parametrize("path", ["http://x/y", "ftp://x", "s3://", "s3:///x", "S3://bucket/x", "", " "])
def test_a_source_that_no_run_can_read_is_a_mistake_of_the_command(path: str):
    """An address was taken for a path that may be there at the next run, and nothing at all for the folder that one is in."""
    with pytest.raises(typer.BadParameter, match=r"s3://BUCKET/PREFIX|is empty"):
        named_sources([path], "auto", "", "here", [])
    assert named_sources(["s3://bucket"], "auto", "", "", [])[0].path == "s3://bucket"


def test_a_set_whose_name_has_no_latin_letter_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No record is kept under its name, and `vigil evaluate` has no option that would give it one. In the folder itself it is `.`."""
    (tmp_path / "顔").mkdir()
    (tmp_path / "faces").mkdir()
    assert [source.name for source in measured_sources([str(tmp_path / "faces"), str(tmp_path / "顔")], "auto", "", [], [])] == ["faces", "source-2"]
    monkeypatch.chdir(tmp_path / "faces")
    assert source_name(".") == "faces"
    with pytest.raises(DataError, match=r"(?s)no letter from a to z.*--name"):
        source_name(str(tmp_path / "顔"))


def test_settings_that_are_empty_or_a_list_are_not_those_of_an_older_vigil(tmp_path: Path):
    open_workspace(tmp_path / "w", "demo")
    for text in ("", "- 1\n"):
        (tmp_path / "w" / "params.yaml").write_text(text)
        done = vigil("status", "-w", tmp_path / "w", check=False)
        assert done.returncode == 1 and "it is empty" in done.stderr and "older" not in done.stderr
    (tmp_path / "w" / "params.yaml").write_text(compose_params("demo").replace(f"format: {FORMAT}", "format: two"))
    done = vigil("status", "-w", tmp_path / "w", check=False)
    assert done.returncode == 1 and "format: Input should be" in done.stderr and "older" not in done.stderr, done.stderr


def test_what_is_advised_can_be_done(tmp_path: Path):
    root = tmp_path / "w"
    open_workspace(root, "demo")
    named = ["--who", "ana", "--why", "asked to", "-w", root]
    for words, advised in (
        (["erase", "nosuch", *named], "`sha256sum FILE`"),
        (["models", "override", "nosuch", *named], "Name one of these"),
        (["models", "override", "score collapse", *named], "Mend what it found"),
    ):
        done = vigil(*words, check=False)
        assert done.returncode == 1 and advised in done.stderr, done.stderr
    with pytest.raises(DataError, match="vigil ingest MEDIA"):
        read_set(root, "train")
    Journal(root).append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    with pytest.raises(DataError, match="retrain --force"):  # after an erasure nothing is new
        read_set(root, "train")
    assert "is now dropped" in set_batch_state(root, "b1", "dropped", "ana", "poisoned")
    with pytest.raises(DataError, match="vigil ingest MEDIA"):
        read_set(root, "train")
    assert "vigil batches drop NAME --again" in vigil("retrain", "-w", root).stdout


def test_the_account_of_what_went_wrong_lies_in_the_workspace_that_was_named(tmp_path: Path):
    """With -w from elsewhere there was none, and nothing to send in."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    (root / ".vigil" / "lease.lock").mkdir()
    done = vigil("batches", "drop", "b", "--who", "ana", "--why", "x", "-w", root, cwd=tmp_path, check=False)
    assert done.returncode == 1 and str(root / ".vigil" / "last-error.txt") in done.stderr, done.stderr
    account = (root / ".vigil" / "last-error.txt").read_text()
    assert "IsADirectoryError" in account and account.startswith("vigil "), account


def test_a_folder_with_other_things_in_it_is_never_made_a_workspace(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for words in (["init", tmp_path], ["demo", tmp_path]):
        done = vigil(*words, check=False)
        assert done.returncode == 1 and "Nothing was changed" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    open_workspace(tmp_path / "w", "demo")
    with pytest.raises(WorkspaceError, match=r"lies in the workspace .*w. Nothing was changed"):
        open_workspace(tmp_path / "w" / "deeper" / "sub", "demo")
    assert not (tmp_path / "w" / "deeper").exists()


@pytest.mark.parametrize("name", ["br{ace", "br}ace", "a?x=1", "my%20faces", os.fsdecode(b"w\xe9")])
def test_a_path_that_dvc_prefect_or_mlflow_cannot_work_with_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    """Each made a workspace; all files were read before DVC said that it is none, or Prefect's database or MLflow's files lay beside it."""
    (tmp_path / name).mkdir()
    for folder in (tmp_path / name, tmp_path / name / "w"):
        for refused in (lambda folder=folder: open_workspace(folder, "demo"), lambda folder=folder: run_demo(folder, 1, True)):
            with pytest.raises(WorkspaceError, match=r"Nothing was changed[\s\S]*UTF-8"):
                refused()
    assert list((tmp_path / name).iterdir()) == []
    done = vigil("init", tmp_path / name, check=False)
    assert done.returncode == 1 and "cannot be a workspace" in done.stderr and "mistake" not in done.stderr
    assert open_workspace(tmp_path / "Wörk späce 日本 #&", "demo")


def test_a_demo_that_runs_or_is_written_to_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `make demo` removed the workspace under the first, which then called its own week nothing new."""
    seen: list[str] = []

    def first_week(folder: Path, *_: object) -> Path:
        assert (folder / "params.yaml").exists() and not (folder / "models" / "old").exists() and not (folder / ".vigil" / "old").exists()
        before = sorted(folder.rglob("*"))
        with pytest.raises(LeaseHeldError, match="A demo runs in this folder"):
            run_demo(folder, 2, True)
        assert sorted(folder.rglob("*")) == before
        seen.append("refused")
        raise KeyboardInterrupt

    monkeypatch.setattr("vigil.demo.render_week", first_week)
    root = tmp_path / "demo"
    for _ in range(2):  # a first one, and one in place of it
        with pytest.raises(KeyboardInterrupt):
            run_demo(root, 1, True)
        for old in (root / "models" / "old", root / ".vigil" / "old"):
            old.mkdir()
    assert len(seen) == 2
    with lease(root, "retrain"), pytest.raises(LeaseHeldError, match="being written to"):
        run_demo(root, 1, True)
    assert (root / "params.yaml").exists() and (root / "models" / "old").exists() and len(seen) == 2


def test_a_mirrored_copy_is_named_when_it_comes_in(tmp_path: Path) -> None:
    picture = cv2.resize(np.random.default_rng(3).integers(0, 255, (9, 9, 3), np.uint8), (320, 320), interpolation=cv2.INTER_CUBIC)
    for folder, shown in (("first", picture), ("later", picture[20:, ::-1])):
        (tmp_path / folder / "real").mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / folder / "real" / "a.jpg"), np.ascontiguousarray(shown))
    root = tmp_path / "w"
    open_workspace(root, "demo")
    assert "look like" not in vigil("ingest", tmp_path / "first", "-w", root).stdout
    assert "1 look like a file that is known" in vigil("ingest", tmp_path / "later", "-w", root).stdout


def test_the_demo_shows_no_figures_of_an_earlier_cycle(tmp_path: Path) -> None:
    """A cycle that is held before training writes no evaluation: the page that lies there is the cycle's before."""
    assert figures_of(tmp_path, "2026-W01.1") == []
    reading = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 8}
    overall = {"challenger": {"auc": reading}, "champion": {}}
    page = {"cycle": "2026-W01.1", "overall": overall, "counts": {"overall": {"n_real": 4, "n_fake": 4}}, "judged_on": "videos"}
    write_json(tmp_path / "reports" / "evaluation.json", page)
    write_cycle(tmp_path, Cycle(cycle="2026-W01.1", seed=1, batches=("b1",), judged=("b1",)))
    assert figures_of(tmp_path, "2026-W01.1") and figures_of(tmp_path, "2026-W02.1") == []


@pytest.fixture(scope="module")
def one_batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which one picture came in. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("one-batch")
    root = folder / "w"
    open_workspace(root, "demo")
    (folder / "media" / "real").mkdir(parents=True)
    assert cv2.imwrite(str(folder / "media" / "real" / "a.jpg"), np.random.default_rng(3).integers(0, 255, (64, 64, 3), np.uint8))
    vigil("ingest", folder / "media", "-w", root)
    return root


@pytest.mark.parametrize(
    ("key", "name", "says"),
    [
        ("  forgers:\n", "  forgers:\n  - nope\n", "nope"),
        pytest.param("  backbone: resnext_tiny", "  backbone: resnext_giant", "resnext_giant", marks=pytest.mark.slow),
        ("  size_px: 64", "  size_px: 100", "100 px"),
        pytest.param('  weights: ""', "  weights: IMAGENET1K_V9", "IMAGENET1K_V9", marks=pytest.mark.slow),
    ],
)
def test_a_name_that_nobody_has_is_refused_before_a_cycle_begins(one_batch: Path, tmp_path: Path, key: str, name: str, says: str) -> None:
    root = copy_workspace(one_batch, tmp_path / "w")
    params = (root / "params.yaml").read_text()
    assert params.count(key) == 1
    (root / "params.yaml").write_text(params.replace(key, name))
    done = vigil("retrain", "-w", root, check=False)
    assert done.returncode == 1 and says in done.stderr and "in params.yaml" in done.stderr
    assert not events(root, "cycle_opened")


@pytest.mark.parametrize("name", USUAL)
def test_the_backbones_that_are_known_without_torch_are_there_and_take_those_pictures(name: str) -> None:
    refuse_unknown_backbone(name)
    for side in (1, 2, 4, 5, 7, 14):
        refuse_side(name, side * USUAL_SIDE)


def test_folders_of_ones_own_are_not_taken_for_rooms_of_the_house(tmp_path: Path) -> None:
    """Beside a folder media/ `python -m vigil` could not import what it is made of."""
    for name in ("media", "model", "pipelines", "workspace"):
        (tmp_path / name).mkdir()
    (tmp_path / "media" / "a.jpg").write_bytes(b"no picture")
    done = vigil("score", "media/a.jpg", cwd=tmp_path, check=False)
    assert "not a media file" in done.stdout and "mistake" not in done.stderr, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_terminal_has_no_letters_for_is_no_failure(tmp_path: Path, encoding: str):
    """`vigil status` of a workspace below such a folder ended with 1, as a mistake in Vigil."""
    root = tmp_path / "öde 日本" / "w"
    open_workspace(root, "demo")
    for words in (["status"], ["batches", "show", "日本"]):
        done = subprocess.run(
            [sys.executable, "-m", "vigil", *words, "-w", str(root)], capture_output=True, encoding=encoding, env={**os.environ, "PYTHONIOENCODING": encoding}
        )
        assert done.returncode == (words != ["status"]) and "mistake in Vigil" not in done.stderr
        assert r"\u65e5\u672c" in done.stdout + done.stderr


@pytest.mark.parametrize(("encoding", "errors"), [("ascii", "backslashreplace"), ("latin-1", "backslashreplace"), ("utf-8", "surrogateescape")])
def test_json_stays_json_where_the_output_lacks_a_letter(monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str):
    """`\\xe9` and `\\U0001f600` stood in it, which JSON does not know, or a raw byte of a path."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors)
    monkeypatch.setattr("sys.stdout", stream)
    said = {"file": "\u00e9\U0001f600\u4e2d\udce9.jpg"}
    emit(said, "", as_json=True)
    stream.flush()
    assert json.loads(stream.buffer.getvalue()) == said


def test_sample_media_of_another_seed_are_not_put_among_those_of_an_earlier_run(tmp_path: Path):
    """They replaced clips of the same names by other people's, and left swaps of the first run under the names of people who were others by then."""

    def sample(*more: str) -> Result:
        return CliRunner().invoke(app, ["sample", str(tmp_path / "m"), "--people", "2", "--seconds", "0.5", *more])

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "m").rglob("*") if path.is_file()}

    assert sample().exit_code == 0
    first = files()
    refused = sample("--seed", "1", "--first-person", "1").exception
    assert isinstance(refused, DataError) and "add to this one with --seed 0" in str(refused) and files() == first
    assert sample("--first-person", "2", "--fake", "smoother=0").exit_code == 0
    assert len(files()) == len(first) + 2
    assert first.items() - files().items() == {(tmp_path / "m/labels.csv", first[tmp_path / "m/labels.csv"])}
    (tmp_path / "m/seed.txt").unlink()  # as an earlier Vigil left it
    assert sample("--seed", "1", "--first-person", "9", "--fake", "smoother=0").exit_code == 0 and not (tmp_path / "m/seed.txt").exists()


def test_a_rendering_that_was_stopped_has_noted_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """People of another seed went among its clips under the same names, and the command that was to go on was refused from then on."""
    words = ["sample", str(tmp_path / "m"), "--people", "2", "--seconds", "0.5", "--fake", "smoother=0"]
    assert isinstance(CliRunner().invoke(app, [*words, "--fake", "nobody=1"]).exception, VigilError)

    def stopped(done: int, total: int, what: str = "") -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.stage.Progress", lambda name: stopped)
        assert CliRunner().invoke(app, [*words, "--seed", "4"]).exit_code != 0
    assert [*tmp_path.rglob("*.mp4")] and not (tmp_path / "m/labels.csv").exists()
    assert "holds people of seed 4" in str(CliRunner().invoke(app, [*words, "--seed", "5"]).exception)
    assert CliRunner().invoke(app, [*words, "--seed", "4"]).exit_code == 0 and len([*tmp_path.rglob("*.mp4")]) == 2


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_launcher_closed_is_no_fault_of_a_file(tmp_path: Path, closed: str):
    """A good labels.csv was said to be unreadable: "Bad file descriptor"."""
    open_workspace(tmp_path / "w", "demo")
    make_sample_media(tmp_path / "clips", people=2, clips_per_person=1, seconds=0.5, fakes={}, seed=5)
    words = shlex.join([sys.executable, "-m", "vigil", "ingest", "../clips/labels.csv"])
    assert subprocess.run(["sh", "-c", f"{words} {closed}"], cwd=tmp_path / "w", timeout=300).returncode == 0
    assert [event["fields"]["samples"] for event in events(tmp_path / "w", "batch_added")] == [2]


@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
def test_sigterm_is_a_pause_too(tmp_path: Path):
    """Of every command, as `vigil --help` says: a service manager sends it."""
    (tmp_path / "card.json").write_bytes((STARTER / "card.json").read_bytes())
    os.mkfifo(tmp_path / "model.onnx")  # whoever opens it waits
    process = subprocess.Popen([sys.executable, "-m", "vigil", "explain", "clip.mp4", "--model", str(tmp_path)], stderr=subprocess.PIPE, text=True)
    with open(tmp_path / "model.onnx", "wb"):  # until it was opened
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Paused" in said
