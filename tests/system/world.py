"""A small world for tests of the whole: real media, real stages, real processes; bounds so wide that the joins are what is tested."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

# Every gate still runs and still reads its numbers; these bounds let a network of a few steps pass them.
WIDE_GATES = {
    "min_per_class": 2, "min_people": 1,
    "min_auc": 0.0, "min_balanced_accuracy": 0.0, "min_precision": 0.0, "min_recall": 0.0, "min_f1": 0.0, "max_fpr": 1.0, "max_ece": 1.0,
    "margin": 1.0, "max_log_loss_rise": 20.0, "min_slice": 2, "max_slice_drop": 1.0, "min_new_auc": 0.0, "max_forgetting": 1.0, "max_long_forgetting": 1.0,
    "max_generalisation_gap": 1.0, "max_label_noise": 1.0, "min_score_spread": 0.0,
    "max_transfer_drop": 1.0, "min_whitebox": 0.0, "max_curve_drop": 1.0, "max_latency_seconds": 600.0, "hold_on_drift": False,
}  # fmt: skip
QUICK = {
    "faces": {"size_px": 64, "clip_frames": 4, "fps": 6.0, "workers": 1},
    "pretrain": {"steps": 40, "batch": 16, "micro_batch": 16, "validate_every": 20},
    "train": {"steps": 6, "batch": 8, "micro_batch": 8, "validate_every": 3},
    "harden": {"steps": 5},
    "budget": {"hardened_clips": 6, "attack_clips": 6},
    "evaluate": {"target_fpr": 0.5, "resamples": 100, "attack_steps": 3, "attack_eps": [0.0, 0.00784, 0.05]},
    "gates": WIDE_GATES,
    "schedule": {"retries": 1, "retry_delay_seconds": 0},
}


@dataclass(frozen=True)
class Asked:
    """A workspace whose service was asked about a clip: its hash, the answer, and the answers to reviewers (one of whom tried twice)."""

    root: Path
    sha256: str
    detected: httpx.Response
    answers: list[httpx.Response]


@dataclass(frozen=True, slots=True)
class Broken:
    """A `vigil retrain` or `vigil schedule` that was stopped by a signal: the workspace, how it ended, what it said, and the events it left."""

    root: Path
    code: int
    said: str
    events: list[dict[str, Any]]


def vigil(*words: Any, cwd: Path | None = None, check: bool = True, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; with `check`, a code other than 0 or 3 fails the test."""
    done = subprocess.run(
        [sys.executable, "-m", "vigil", *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment}
    )
    assert not check or done.returncode in (0, 3), (
        f"vigil {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    )
    return done


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process, empty of one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie is one, too
        return []


def key_of(root: Path, user_name: str, role: str) -> dict[str, str]:
    """The header of a new account's new API key, made at the command line."""
    words = [sys.executable, "-m", "vigil", "users", "add", user_name, "--email", f"{user_name}@example.org", "--role", role, "-w", str(root)]
    subprocess.run(words, input="correct horse 9\n", text=True, capture_output=True, check=True)
    return {"Authorization": f"Bearer {vigil('keys', 'add', user_name, '--name', 'test', '-w', root).stdout.strip()}"}


def vigil_json(*words: Any, **named: Any) -> Any:
    """The JSON that a reading command prints."""
    return json.loads(vigil(*words, "--json", **named).stdout)


def quick_workspace(root: Path, **blocks: dict[str, Any]) -> Path:
    """A workspace of the demo profile whose budgets are cut to seconds; `blocks` change single settings further."""
    vigil("init", root, "--profile", "demo")
    change_settings(root, QUICK)
    change_settings(root, blocks)
    return root


def change_settings(root: Path, blocks: dict[str, Any]) -> None:
    """Lay values over params.yaml."""
    path = root / "params.yaml"
    params = yaml.load(path.read_text(), yaml.CSafeLoader)
    for block, values in blocks.items():
        params[block] = {**params[block], **values} if isinstance(values, dict) else values
    path.write_text(yaml.dump(params, Dumper=yaml.CSafeDumper, sort_keys=False))


def copy_workspace(template: Path, to: Path) -> Path:
    """A workspace of one's own to break, as the template stands. Paths inside follow (MLflow's artifacts are found by the workspace)."""
    shutil.copytree(template, to, symlinks=True)
    return to


def events(root: Path, kind: str = "") -> list[dict[str, Any]]:
    """The journal's events of a kind, oldest first."""
    path = root / "journal.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if not kind or row["kind"] == kind]


def git(root: Path, *words: str) -> str:
    """What git says."""
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def stage_runs(root: Path) -> list[str]:
    """Every stage that ran to its end, in order, repeats included."""
    path = root / ".vigil" / "timings.jsonl"
    return [json.loads(line)["stage"] for line in path.read_text().splitlines()] if path.exists() else []
