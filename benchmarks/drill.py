"""Bad weeks on their way through the whole flow: each is planted in a real workspace whose next promotion is one command away.

    python benchmarks/drill.py [--kinds NAME ...] [--keep FOLDER]     resumable; each kind appends a line to benchmarks/drill.jsonl

A first week is promoted and a second one trained up to its gates, once. Then for each kind a copy is spoiled and `vigil retrain` run: gates,
the probe in a real service, promotion, MLflow, report, commit. Nothing bad may be promoted, the first reason must be the one that was
named beforehand, the cycle must have ended as held (but for a registry that is down, where it waits), the champion must serve on, and no
traceback be seen. The same copy, not spoiled, must be promoted. What most kinds plant is the figure or file that a gate reads: that a gate
finds what a bad model does to its scores is shown by benchmarks/gates.py. Rows of other code are not counted.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import code_hash, one_of  # noqa: E402
from benchmarks.results import rows_of_code  # noqa: E402
from tests.system.world import change_settings, copy_workspace, quick_workspace, vigil  # noqa: E402
from workspace.files import add_row, read_json, sha256_file  # noqa: E402
from workspace.journal import Journal  # noqa: E402
from workspace.processes import end_orphans  # noqa: E402
from workspace.state import champion, cycles  # noqa: E402

# The second week stops after its last stage, as a power cut there would leave it.
UP_TO_THE_GATES = """
import os, sys
from workspace.quiet import set_quiet_environment
set_quiet_environment()
from pathlib import Path
from flows.environment import prepare_environment
prepare_environment(Path(sys.argv[1]))
import flows.cycle
flows.cycle.conclude = lambda *_: os._exit(7)
flows.cycle.weekly_retrain(sys.argv[1])
"""
SERVABLE = {"min_score_spread": 0.001, "min_whitebox": 0.0}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is spoiled, how the first reason must begin, which stages' results are declared to be as spoiled, and how to mend it (registry)."""

    spoil: Callable[[Path], None]
    says: str
    commit: tuple[str, ...] = ()
    mend: Callable[[Path], None] | None = None


def edit(path: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change a JSON report."""

    def spoil(root: Path) -> None:
        page = read_json(root / path)
        change(page)
        replace(root / path, json.dumps(page).encode())

    return spoil


def replace(path: Path, content: bytes) -> None:
    """Write a file that may be linked into DVC's cache, without touching the cache."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def gate_input(*names: str, value: Any) -> Callable[[Path], None]:
    """Another value among what the gates read of the evaluation."""

    def change(page: dict[str, Any]) -> None:
        at = page["gate_inputs"]
        for name in names[:-1]:
            at = at[name]
        at[names[-1]] = value

    return edit("reports/evaluation.json", change)


def cut(path: str) -> Callable[[Path], None]:
    """The first half of a file."""
    return lambda root: replace(root / path, (root / path).read_bytes()[: (root / path).stat().st_size // 2])


def nan_weights(root: Path) -> None:
    """Weights that are no numbers, with a card that fits them."""
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    path = root / "build/model/model.safetensors"
    with safe_open(path, "numpy") as opened:
        about = opened.metadata()
    tensors = {name: np.full_like(tensor, np.nan) if tensor.dtype.kind == "f" else tensor for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(tensors, path, metadata=about)
    card = read_json(root / "build/model/card.json")
    replace(root / "build/model/card.json", json.dumps(card | {"model_sha256": sha256_file(path)}).encode())


def other_export(root: Path) -> None:
    """The ONNX file of another model under this model's name: what a wrong preprocessing in the export would be."""
    other = next(path for path in sorted((root / "models").glob("*/model.onnx")))
    replace(root / "build/model/model.onnx", other.read_bytes())
    card = read_json(root / "build/model/card.json")
    replace(root / "build/model/card.json", json.dumps(card | {"onnx_sha256": sha256_file(root / "build/model/model.onnx")}).encode())
    shutil.rmtree(root / "models" / read_json(root / "reports/verdict.json")["cycle"], ignore_errors=True)


def tampered(root: Path) -> None:
    """One flipped bit in the file that would serve."""
    content = bytearray((root / "build/model/model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    replace(root / "build/model/model.onnx", bytes(content))


def another_champion(root: Path) -> None:
    """Somebody rolls back while the cycle runs."""
    vigil("models", "rollback", "--who", "drill", "--why", "another champion", "-w", root)


def broken_registry(root: Path) -> None:
    """The registry's database is not one any more."""
    os.replace(root / "mlflow.db", root / "mlflow.kept")
    (root / "mlflow.db").write_bytes(b"no database" * 1000)


def mended_registry(root: Path) -> None:
    """It is back."""
    os.replace(root / "mlflow.kept", root / "mlflow.db")


def leak(page: dict[str, Any]) -> None:
    """A person on both sides of the split."""
    page["leaks"] = [{"kind": "identity", "key": "p1", "splits": ["train", "holdout"]}]


def forged_verdict(root: Path) -> None:
    """A failing week that the gates have held, and whose verdict somebody has rewritten by hand then."""
    gate_input("latency", "seconds", value=9999.0)(root)
    for words in (["commit", "-q", "-f", "evaluate"], ["repro", "-q", "-s", "gate"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, check=True, capture_output=True)
    page = read_json(root / "reports/verdict.json")
    assert page["verdict"] == "fail", "the gates were to hold it first"
    for row in page["results"]:
        row["verdict"] = "pass"
    replace(root / "reports/verdict.json", json.dumps(page | {"verdict": "pass", "reasons": []}).encode())


def half_validated(root: Path) -> None:
    """The data checks of the batch under judgement are cut off."""
    path = next(path for path in sorted((root / "reports/validate").glob("*.json")) if read_json(path)["batch"] in judged(root))
    replace(path, path.read_bytes()[: path.stat().st_size // 2])


def judged(root: Path) -> list[str]:
    """The batches of the open cycle."""
    return [batch for one in cycles(Journal(root).events()) if not one.closed for batch in one.judged]


def drifted(root: Path) -> None:
    """What came in is unlike all that is known, and the settings say to hold for it."""
    values = {"status": "tested", "p_value": 0.001, "alpha": 0.01, "drifted": True, "covered": False, "n_ref": 100, "n_new": 100, "least": 5}
    edit("reports/drift/drift.json", lambda page: page["gate_inputs"].update(values))(root)
    change_settings(root, {"gates": {"hold_on_drift": True}})


def labels_of(**values: Any) -> Callable[[Path], None]:
    """Other figures of the look at the labels."""
    return edit("reports/drift/drift.json", lambda page: page["gate_inputs"]["labels"].update(values))


E = ("evaluate",)
CHANGED = "the champion changed"
UNCAUGHT = ("Traceback", "Something unexpected went wrong")
REGISTRY = "The model registry did not answer"
KINDS: dict[str, Kind] = {
    "half-written evaluation": Kind(cut("reports/evaluation.json"), "label noise undecided: Undecided: evaluation is missing", E),
    "half-written drift report": Kind(cut("reports/drift/drift.json"), "label noise undecided: Undecided: drift is missing", ("drift",)),
    "half-written data checks": Kind(half_validated, "data undecided", ("validate",)),
    "collapsed scores": Kind(gate_input("collapse", "spread", value=0.0), "score collapse fail", E),
    "NaN in a figure": Kind(gate_input("accuracy", "auc", value=None), "accuracy undecided", E),
    "a champion of another evaluation": Kind(
        gate_input("champion_sha256", value="e" * 64), "label noise undecided: Undecided: the evaluation compared with champion", E
    ),
    "worse than the champion": Kind(gate_input("comparison", "lower", value=-1.1), "not worse than the champion: AUC", E),
    "slice ruined": Kind(
        edit("reports/evaluation.json", lambda page: page["gate_inputs"]["slices"]["rows"][0].update(difference=-1.2, se=0.01, df=9)), "worst slice fail", E
    ),
    "forgetting": Kind(
        edit("reports/evaluation.json", lambda page: page["gate_inputs"]["forgetting"]["rows"][0].update(difference=-1.2, se=0.01, df=9, n_fake=9, n_real=9)),
        "forgetting fail",
        E,
    ),
    "memorising": Kind(gate_input("generalisation", "train_auc", value=2.5), "generalisation gap fail", E),
    # of six attacked clips: fail, or undecided
    "transferred attacks work": Kind(gate_input("robustness", "transfer", "difference", value=-1.96), "robustness: transfer", E),
    "attacks not measured": Kind(gate_input("robustness", "whitebox", value=None), "robustness undecided", E),
    "slow model": Kind(gate_input("latency", "seconds", value=9999.0), "latency fail", E),
    "too large": Kind(gate_input("size_bytes", value=1 << 31), "size fail", E),
    "export unlike the checkpoint": Kind(gate_input("parity", "max_difference", value=0.3), "artifact parity fail", E),
    "leaked holdout": Kind(edit("data/sets/report.json", leak), "leak-free fail", ("assemble",)),
    "drift": Kind(drifted, "drift fail", ("drift",)),
    "labels flipped": Kind(
        labels_of(status="tested", n_ref=90, n_new=90, rate=1.0, rate_before=0.0, difference=1.1, se=0.01, df=30), "label noise fail", ("drift",)
    ),
    "forged verdict": Kind(forged_verdict, "latency fail"),
    "wrong preprocessing in the export": Kind(other_export, "artifact: the export differs", ("train", "evaluate", "drift")),
    "tampered artifact": Kind(tampered, "artifact: the service ended", ("train", "evaluate", "drift")),
    "NaN weights": Kind(nan_weights, "artifact parity undecided", ("train",)),
    "another champion meanwhile": Kind(another_champion, CHANGED),
    "registry down": Kind(broken_registry, REGISTRY, (), mended_registry),
}
FRESH = ("empty batch", "all duplicates")  # these come in from the start, over the first week's workspace


def build(work: Path, code: str) -> tuple[Path, Path]:
    """The workspace after two promoted weeks, and the same with a third one trained up to its gates; kept ones of other code are made anew."""
    from media.synthetic import make_sample_media

    first, ready = work / "first", work / "ready"
    mark = work / "built"
    if not mark.exists() or mark.read_text() != code:
        shutil.rmtree(work, ignore_errors=True)
        quick_workspace(first, gates=SERVABLE, drift={"min_samples": 5})
        for number, (forger, people) in enumerate((("blendswap", 14), ("blendswap", 12), ("upsampler", 12))):
            out = work / f"media-{number}"
            make_sample_media(out, people=people, clips_per_person=2 - bool(number), seconds=1.0, fakes={forger: 1}, seed=5, first_person=100 * number)
            root = first
            if number == 2:
                shutil.copytree(first, ready, symlinks=True)
                root = ready
            vigil("ingest", out / "labels.csv", "-w", root)
            if number < 2:
                done = vigil("retrain", "-w", root)
                if done.returncode:
                    raise SystemExit(f"week {number + 1} of the drill's own workspace was not promoted:\n{done.stdout[-2000:]}")
            else:
                up_to_the_gates(root)
        mark.write_text(code)
    return first, ready


def up_to_the_gates(root: Path) -> None:
    """Run what is new up to its last stage, and stop there."""
    log = root / ".vigil" / "drill.log"
    with open(log, "wb") as output:  # not a pipe: what Prefect leaves running would keep it open
        stopped = subprocess.run([sys.executable, "-c", UP_TO_THE_GATES, str(root)], stdout=output, stderr=output, cwd=HERE.parent)
    if stopped.returncode != 7:
        raise SystemExit(f"the drill's own workspace did not reach its gates:\n{log.read_text()[-2000:]}")
    end_orphans(root)  # Prefect's server, which outlives a flow that is broken off


def run_kind(name: str, first: Path, ready: Path, work: Path) -> dict[str, Any]:
    """Spoil a copy and let the flow decide."""
    root = work / "copy"
    shutil.rmtree(root, ignore_errors=True)
    started = time.monotonic()
    if name in FRESH:
        return {**fresh(name, copy_workspace(first, root), work), "seconds": round(time.monotonic() - started, 1)}
    kind = KINDS[name]
    copy_workspace(ready, root)
    kind.spoil(root)
    for stage in kind.commit:
        targets = [stage] if stage != "validate" else [f"validate@{batch}" for batch in judged(root)]
        subprocess.run([sys.executable, "-m", "dvc", "commit", "-q", "-f", *targets], cwd=root, check=True, capture_output=True)
    before = champion(Journal(root).events())
    found = ended(root, before, kind.says)
    if kind.mend is not None:
        kind.mend(root)
        done = vigil("retrain", "-w", root, check=False)
        events = Journal(root).events()
        promotions = [event["cycle"] for event in events if event.kind == "promotion"]
        last = cycles(events)[-1]
        found["mended"] = done.returncode == 0 and last.outcome == "promoted" and bool(last.closed) and len(promotions) == len(set(promotions))
        found["complaints"] += [] if found["mended"] else [f"after mending: {done.stderr[-500:]}"]
    return {"kind": name, **found, "seconds": round(time.monotonic() - started, 1)}


def ended(root: Path, before: Any, says: str) -> dict[str, Any]:
    """What `vigil retrain` made of it, and what does not hold."""
    waits = says == REGISTRY  # the decision stands, and the cycle waits for the registry
    done = vigil("retrain", "-w", root, check=False)
    events = Journal(root).events()
    now, last = champion(events), cycles(events)[-1]
    reason = (last.reason or done.stderr[-600:]).replace(str(root), "WORKSPACE")
    complaints = []
    if done.returncode != (1 if waits else 3):
        complaints.append(f"it ended with {done.returncode}")
    if not waits and (last.outcome != "held" or not last.closed):
        complaints.append(f"the cycle is {last.outcome or 'open'}, and not held")
    if any(word in done.stdout + done.stderr for word in UNCAUGHT):
        complaints.append("a traceback was shown")
    if not (says in reason if waits else reason.removeprefix("nothing was trained: ").startswith(says)):
        complaints.append(f"another reason: {reason[:300]}")
    if not waits and says != CHANGED and (now is None or before is None or now.model_sha256 != before.model_sha256):
        complaints.append("the champion is another")
    return {"outcome": last.outcome or "waits", "code": done.returncode, "reason": reason[:300], "complaints": complaints}


def fresh(name: str, root: Path, work: Path) -> dict[str, Any]:
    """Batches that hold nothing new."""
    out = work / "fresh"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if name == "empty batch":
        (out / "labels.csv").write_text("path,label,identity\n")
    else:
        shutil.copytree(work / "media-0", out, dirs_exist_ok=True)
    before = champion(Journal(root).events())
    taken = vigil("ingest", out / "labels.csv", "-w", root, check=False)
    done = vigil("retrain", "-w", root, check=False)
    events = Journal(root).events()
    complaints = [] if champion(events) == before else ["the champion is another"]
    complaints += ["a traceback was shown"] if any(word in part.stdout + part.stderr for word in UNCAUGHT for part in (taken, done)) else []
    last = cycles(events)[-1]
    opened = last.cycle != cycles(Journal(work / "first").events())[-1].cycle
    complaints += (
        [] if (taken.returncode, done.returncode, opened) == (0, 0, False) else [f"ingest {taken.returncode}, retrain {done.returncode}: {last.cycle}"]
    )
    return {
        "kind": name,
        "outcome": last.outcome if opened else "nothing new",
        "code": done.returncode,
        "reason": (last.reason if opened else done.stdout)[:300],
        "complaints": complaints,
    }


def control(ready: Path, work: Path) -> dict[str, Any]:
    """The same week, not spoiled, is promoted."""
    root = work / "copy"
    shutil.rmtree(root, ignore_errors=True)
    copy_workspace(ready, root)
    done = vigil("retrain", "-w", root, check=False)
    last = cycles(Journal(root).events())[-1]
    return {
        "kind": "not spoiled",
        "outcome": last.outcome,
        "code": done.returncode,
        "reason": last.reason[:300],
        "complaints": [] if last.outcome == "promoted" else [last.reason[:600]],
    }


def main() -> int:
    """Run what has not been run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ["not spoiled", *KINDS, *FRESH]
    parser.add_argument("--kinds", nargs="*", type=one_of(kinds), default=[], help="Only these.")
    parser.add_argument("--keep", type=Path, help="Where the drill's own workspace is kept for the next run.")
    parser.add_argument("--results", type=Path, default=HERE / "drill.jsonl")
    asked = parser.parse_args()
    code = code_hash("benchmarks/drill.py", "benchmarks/plants.py")
    names = asked.kinds or kinds
    rows = {row["kind"]: row for row in rows_of_code(asked.results, code)}
    with tempfile.TemporaryDirectory(prefix="vigil-drill-") as scratch:
        work = (asked.keep or Path(scratch)).resolve() / "workspaces"
        missing = [name for name in names if asked.kinds or name not in rows]
        first, ready = build(work, code) if missing else (work, work)
        for name in missing:
            row = control(ready, work) if name == "not spoiled" else run_kind(name, first, ready, work)
            rows[name] = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **row, "code": code}
            add_row(asked.results, rows[name])
            print(f"{name:<36} {row['outcome']:<12} {'; '.join(row['complaints']) or row['reason'][:110]}", flush=True)
    bad = sorted(name for name, row in rows.items() if row["complaints"])
    print(f"{len(rows)} kinds, with complaints: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
