"""SIGKILL drill over the real flow: kill the parent, the stage or the whole group, at random times and in drawn stages, and start again.

    python benchmarks/kills.py [--kills 100] [--part 1/2]     resumable; each life appends a line to benchmarks/kills.jsonl

A life is one cycle whose `vigil retrain` dies up to ten times. Each start must end orphans and go on where the one before was; the last
one must finish, and end as the same cycle does when nothing kills it: promoted. No stage that DVC had recorded may run twice, and there must be
one commit, one promotion, one run and one version in MLflow, a champion that loads, no batch undecided, no lock, no process and no run that says
RUNNING. Whatever goes wrong in a life, also in the drill itself, is a complaint in its row. Rows of other code are not counted. Much of a life is
waiting: two drills beside each other, `--part 1/2` and `--part 2/2`, live lives of their own and count together.
"""

import argparse
import fcntl
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import code_hash  # noqa: E402
from benchmarks.results import rows_of_code  # noqa: E402
from tests.system.world import quick_workspace, stage_runs, vigil  # noqa: E402
from workspace.errors import VigilError  # noqa: E402
from workspace.files import add_row  # noqa: E402
from workspace.journal import Journal  # noqa: E402
from workspace.lease import lease_holder  # noqa: E402
from workspace.settings import STAGES  # noqa: E402
from workspace.state import batch_states, champion, cycles, open_cycle  # noqa: E402

TARGETS = ("parent", "stage", "group")
PATIENCE_SECONDS = 900
LONGEST_DELAY_SECONDS = 30.0  # after a start: six seconds go into starting, then the stages follow


@dataclass(frozen=True, slots=True)
class Round:
    """Whom to kill, in which stage, how long after it began. `after` means: in the pause after that stage. No stage: so long after the start."""

    target: str
    stage: str
    delay_seconds: float
    after: bool = False


def environment() -> dict[str, str]:
    """Ours, less what would tie the child to another workspace."""
    return {key: value for key, value in os.environ.items() if not key.startswith("VIGIL_") or key == "VIGIL_GUARD_LOG"}


def start(root: Path) -> "subprocess.Popen[bytes]":
    """`vigil retrain` as leader of a process group of its own."""
    with open(root / ".vigil" / "kill-drill.log", "ab") as log:
        return subprocess.Popen([sys.executable, "-m", "vigil", "retrain", "-w", str(root)], stdout=log, stderr=log, start_new_session=True, env=environment())


def running_stage(parent: psutil.Process) -> psutil.Process | None:
    """The stage that this `vigil retrain` is running now."""
    try:
        for child in parent.children(recursive=True):
            words = child.cmdline()
            if "-m" in words and any(word.startswith("pipelines.") for word in words) and "python" in Path(words[0]).name:
                return child
    except psutil.NoSuchProcess:
        return None
    return None


def stage_name(process: psutil.Process) -> str:
    """`faces` of `python -P -m pipelines.faces --batch b`."""
    try:
        return next((word.removeprefix("pipelines.") for word in process.cmdline() if word.startswith("pipelines.")), "")
    except psutil.NoSuchProcess:
        return ""


def recorded(root: Path) -> set[str]:
    """Stages whose result DVC has recorded."""
    path = root / "dvc.lock"
    return set((yaml.safe_load(path.read_text()) or {}).get("stages", {})) if path.exists() else set()


def strike(root: Path, plan: Round) -> dict[str, Any]:
    """Start a cycle, kill as planned, and say what stood at that moment."""
    process = start(root)
    leader = psutil.Process(process.pid)
    seen, deadline = False, time.monotonic() + PATIENCE_SECONDS
    while plan.stage and time.monotonic() < deadline and process.poll() is None:
        stage = running_stage(leader)
        here = stage is not None and stage_name(stage) == plan.stage
        seen = seen or here
        if (here and not plan.after) or (seen and not here and plan.after):
            break
        time.sleep(0.02)
    time.sleep(plan.delay_seconds)
    stage = running_stage(leader)
    victim = "nobody: it had ended"
    if process.poll() is None:
        if plan.target == "group":
            os.killpg(process.pid, signal.SIGKILL)
            victim = "group"
        elif plan.target == "stage" and stage is not None:
            victim = f"stage {stage_name(stage)}"
            stage.kill()
        else:
            victim = "parent"
            process.kill()
    before = {"recorded": sorted(recorded(root)), "runs": len(stage_runs(root)), "cycle_open": open_cycle(Journal(root).events()) is not None}
    if victim.startswith("stage"):
        process.wait(PATIENCE_SECONDS)  # the flow's own retry has to mend this
    process.wait(PATIENCE_SECONDS)
    return {"victim": victim, **before}


def repeated(root: Path, struck: dict[str, Any]) -> list[str]:
    """Stages that were finished at this death and ran again since."""
    return sorted(set(stage_runs(root)[struck["runs"] :]) & set(struck["recorded"]))


def complaints(root: Path, struck: dict[str, Any], cycles_before: int = 0) -> list[str]:
    """What does not hold after the next `vigil retrain`; empty when all is well."""
    found = []
    done = subprocess.run(
        [sys.executable, "-m", "vigil", "retrain", "-w", str(root)], capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=environment()
    )
    if done.returncode != 0:
        found.append(f"the next retrain ended with {done.returncode}: {done.stderr[-800:]}")
    if again := repeated(root, struck):
        found.append(f"repeated finished stages: {again}")
    events = Journal(root).events()
    known = cycles(events)[cycles_before:]
    if len(known) != 1 or not known[0].closed or known[0].outcome != "promoted":
        found.append(f"cycles: {[(one.cycle, one.outcome, one.reason[:200]) for one in known]}")
    promotions = [event["cycle"] for event in events if event.kind == "promotion"]
    if len(promotions) != len(set(promotions)):
        found.append(f"promoted twice: {promotions}")
    for one in known:
        tags = subprocess.run(["git", "log", "--format=%s", f"--grep=^{one.cycle} "], cwd=root, capture_output=True, text=True).stdout.splitlines()
        if len(tags) != 1:
            found.append(f"{len(tags)} commits for {one.cycle}")
    return [*found, *undone(root), *leftovers(root)]


def undone(root: Path) -> list[str]:
    """What a finished workspace lacks, or has twice: a champion that loads, its run and its version, batches decided."""
    from model.inference import Engine

    events, found = Journal(root).events(), []
    leading = champion(events)
    if leading is None:
        return ["there is no champion"]
    try:
        if Engine(root / leading.path).card.model_sha256 != leading.model_sha256:
            found.append("the champion's folder holds another model")
    except VigilError as problem:
        found.append(f"the champion does not load: {problem}")
    found += [f"batch {name} is {told.state}" for name, told in batch_states(events).items() if told.state != "accepted"]
    with sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True) as database:
        for cycle in [event["cycle"] for event in events if event.kind == "promotion"]:
            active = (
                "select r.run_uuid from runs r join tags t on t.run_uuid = r.run_uuid where t.key = 'cycle' and t.value = ? and r.lifecycle_stage = 'active'"
            )
            made = [row[0] for row in database.execute(active, (cycle,))]
            versions = sum(database.execute("select count(*) from model_versions where run_id = ?", (run,)).fetchone()[0] for run in made)
            if (len(made), versions) != (1, 1):
                found.append(f"MLflow has {len(made)} runs and {versions} versions of {cycle}")
    return found


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on this file; the file alone says nothing."""
    if not path.exists():
        return False
    with open(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def at_work(root: Path) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Processes whose environment or command line names this workspace, with their command lines."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            if process.environ().get("VIGIL_WORKSPACE") == str(root.resolve()) or str(root) in words:
                yield process, words


def leftovers(root: Path) -> list[str]:
    """Locks, processes and runs that nobody closed."""
    found = []
    if holder := lease_holder(root):
        found.append(f"the lease is held by {holder}")
    if is_locked(root / ".dvc" / "tmp" / "lock"):
        found.append("DVC's lock is held")
    found += [f"process {process.pid} is left: {' '.join(words)[:100]}" for process, words in at_work(root)]
    if (root / "mlflow.db").exists():
        with sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True) as database:
            found += [
                f"MLflow run {name} says RUNNING"
                for (name,) in database.execute("select name from runs where status = 'RUNNING' and lifecycle_stage = 'active'")
            ]
    prefect = root / ".vigil" / "prefect" / "prefect.db"
    if prefect.exists():
        with sqlite3.connect(f"file:{prefect}?mode=ro", uri=True) as database:
            found += [
                f"Prefect run {name} says {state}"
                for name, state in database.execute("select name, state_type from flow_run where state_type in ('RUNNING', 'PENDING')")
            ]
    return found


def make_template(folder: Path) -> Path:
    """A workspace of seconds with one new batch."""
    from media.synthetic import make_sample_media

    make_sample_media(folder / "media", people=16, clips_per_person=2, seconds=1.0, fakes={"blendswap": 2}, seed=5)
    root = quick_workspace(folder / "template")
    vigil("ingest", folder / "media" / "labels.csv", "-w", root)
    return root


def draw_round(draw: random.Random) -> Round:
    """Half of the kills come at a time that knows nothing of stages, half in a drawn stage or the pause after it."""
    target = draw.choices(TARGETS, (2, 1, 2))[0]  # after a stage's death the flow goes on by itself, and the life soon ends
    if draw.random() < 0.5:
        return Round(target, "", draw.uniform(0.5, LONGEST_DELAY_SECONDS))
    return Round(target, draw.choice(STAGES), draw.random() * draw.choice((0.0, 0.5, 4.0)), after=draw.random() < 0.3)


def live(root: Path, number: int, most: int) -> dict[str, Any]:
    """One cycle that dies up to `most` times; the row of results."""
    draw = random.Random(f"life {number}")
    deaths: list[dict[str, Any]] = []
    found: list[str] = []
    try:
        for _ in range(most):
            plan = draw_round(draw)
            if plan.stage in {name.partition("@")[0] for name in recorded(root)}:
                plan = Round(plan.target, "", draw.uniform(0.5, LONGEST_DELAY_SECONDS))  # that stage will not run again
            struck = strike(root, plan)
            if struck["victim"].startswith("nobody"):
                break
            deaths.append(struck | {"target": plan.target, "stage": plan.stage, "delay_seconds": round(plan.delay_seconds, 2)})
        found += complaints(root, deaths[-1] if deaths else {"runs": 0, "recorded": []})
        for death in deaths[:-1]:
            if again := repeated(root, death):
                found.append(f"a death after {len(death['recorded'])} stages: repeated {again}")
    except Exception as problem:  # a hang, a journal that cannot be read: the worst that can come out must not be the one that leaves no row
        found.append(f"the drill broke off: {type(problem).__name__}: {problem}"[:800])
    finally:
        end_all(root)
    shown = [
        {name: death[name] for name in ("target", "stage", "delay_seconds", "victim", "cycle_open")} | {"finished": len(death["recorded"])} for death in deaths
    ]
    return {"life": number, "kills": len(deaths), "deaths": shown, "complaints": found}


def end_all(root: Path) -> None:
    """End whatever still runs for this workspace: after Ctrl-C, or a life that broke off."""
    for process, _ in at_work(root):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()


def main() -> int:
    """Run what is missing of the drill; 1 when any life left a complaint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--a-life", type=int, default=10, help="kills in one life, at most")
    parser.add_argument("--results", type=Path, default=HERE / "kills.jsonl")
    parser.add_argument("--part", default="1/1", help="which part of the lives, of how many, e.g. 2/2")
    arguments = parser.parse_args()
    part, parts = (int(word) for word in arguments.part.split("/"))
    code = code_hash()
    done = rows_of_code(arguments.results, code)
    with tempfile.TemporaryDirectory(prefix="vigil-kills-") as scratch:
        template = make_template(Path(scratch)) if sum(row["kills"] for row in done) < arguments.kills else None
        while template and (killed := sum(row["kills"] for row in done)) < arguments.kills:
            number = next(number for number in count(part - 1, parts) if number not in {row["life"] for row in done})
            root = Path(scratch) / f"life{number}"
            shutil.copytree(template, root, symlinks=True)
            row = live(root, number, min(arguments.a_life, arguments.kills - killed)) | {"code": code}
            add_row(arguments.results, row)
            done = rows_of_code(arguments.results, code)
            told = f"{row['kills']} kills, {sum(one['kills'] for one in done)} of {arguments.kills} in all"
            print(f"life {number}: {told}; {row['complaints'] or 'ok'}", flush=True)
            shutil.rmtree(root)
    bad, deaths = [row for row in done if row["complaints"]], [death for row in done for death in row["deaths"]]
    early = sum(not death["cycle_open"] and not death["finished"] for death in deaths)
    print(f"{len(deaths)} kills in {len(done)} lives, {early} of them before any stage had finished or a cycle was open; {len(bad)} lives with complaints.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
