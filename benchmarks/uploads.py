"""Uploads through killings: is anything that was accepted lost, or anything that was reviewed handed over twice?

    python benchmarks/uploads.py [--uploads 500] [--kills 25] [--seed 1] [--work FOLDER]     appends a row to benchmarks/uploads.jsonl

A real service with a small unsure model. Four senders upload pictures and clips, two reviewers answer what opens, a hand-over takes
batches all the while. At random moments the service, its worker, a process that opens media, or the hand-over is killed with
SIGKILL, and started again. At the end: every accepted upload has a verdict or is still queued, every case that reviewers settled
as real or fake is in exactly one batch, and the audit chain verifies.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import count  # noqa: E402
from workspace.files import add_row  # noqa: E402

PATIENCE_SECONDS = 180
SENDERS = 4
RETRIED = (httpx.HTTPError, ConnectionError)


class Drill:
    """One run. `models` is a model folder; `media` are the contents that are uploaded, each made a file of its own by trailing bytes."""

    def __init__(self, root: Path, model: Path, media: list[bytes], seed: int) -> None:
        self.root, self.model, self.media, self.random = root, model, media, random.Random(seed)
        self.accepted: list[str] = []
        self.settled: dict[str, str] = {}
        self.refused = 0
        self.kills: dict[str, int] = {}
        self.url = ""
        self.stop = threading.Event()
        self._lock, self._alone = threading.Lock(), threading.Lock()
        self._service: subprocess.Popen[bytes] | None = None
        self._handover: subprocess.Popen[bytes] | None = None
        self.keys = self._people()

    # -- the service ------------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the service and wait until it listens."""
        ready = self.root.parent / f"ready-{time.monotonic_ns()}.json"
        words = ["-P", "-m", "feedback.serve", "--workspace", str(self.root), "--port", "0", "--ready-file", str(ready), "--model-dir", str(self.model)]
        with open(self.root.parent / "service.log", "ab") as log:
            self._service = subprocess.Popen([sys.executable, *words], env=_environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready.exists():
            if self._service.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start; see {self.root.parent / 'service.log'}")
            time.sleep(0.05)
        self.url = json.loads(ready.read_text())["url"]

    def kill_one(self) -> None:
        """Kill one of the processes, whichever it is; a killed service is started again."""
        what = self.random.choice(["service", "worker", "opener", "handover"])
        with self._alone:
            assert self._service is not None
            family = psutil.Process(self._service.pid).children(recursive=True)
            if what == "service":
                self._service.kill()
                self._service.wait()
                self.start()
            elif what == "handover":
                if self._handover is None or self._handover.poll() is not None:
                    return
                self._handover.kill()
            else:
                module = "feedback.work.worker" if what == "worker" else "feedback.work.decoding"
                found = [process for process in family if module in _words(process)]
                if not found:
                    return
                self.random.choice(found).kill()
        self.kills[what] = self.kills.get(what, 0) + 1

    # -- the people -------------------------------------------------------------------------------------------------------------
    def send(self, number: int, of: int, uploads: int) -> None:
        """Upload this sender's part; an upload without an answer is sent again with the same key, which is the same upload."""
        for index in range(number, uploads, of):
            content = self.media[index % len(self.media)] + b"\0" * 8 + index.to_bytes(8, "big")
            while not self.stop.is_set():
                answer = self._ask(
                    "sender", "POST", "/v1/detections", files={"file": ("x", content)}, params={"wait": 0}, headers={"Idempotency-Key": f"u{index}"}
                )
                if answer is not None and answer.status_code in (201, 202):
                    with self._lock:
                        self.accepted.append(answer.json()["id"])
                    break
                if answer is not None and answer.status_code != 429:
                    raise SystemExit(f"upload {index}: {answer.status_code} {answer.text}")
                with self._lock:
                    self.refused += 1
                time.sleep(0.3)

    def review(self, name: str) -> None:
        """Answer the queue until told to stop: what a case is, its id says, so both reviewers say the same."""
        while not self.stop.is_set():
            answer = self._ask(name, "GET", "/v1/queue", params={"limit": 20})
            cases = answer.json()["cases"] if answer is not None and answer.status_code == 200 else []
            for case in cases:
                label = "fake" if int(case["id"][0], 16) % 2 else "real"
                said = self._ask(name, "POST", f"/v1/cases/{case['id']}/review", json={"label": label})
                if said is not None and said.status_code == 201 and said.json()["state"] == "decided":
                    with self._lock:
                        self.settled[case["id"]] = said.json()["label"]
            if not cases:
                time.sleep(0.3)

    def hand_over(self) -> None:
        """Take a batch every moment, in a process that may be killed."""
        while not self.stop.is_set():
            with self._alone:
                self._handover = subprocess.Popen([sys.executable, "-P", str(Path(__file__).resolve()), "--take", str(self.root)], env=_environment())
            self._handover.wait()
            time.sleep(0.5)

    # -- the end ----------------------------------------------------------------------------------------------------------------
    def outcome(self) -> dict[str, Any]:
        """What became of everything, from the database and the batches."""
        from sqlalchemy import select

        from feedback.audit import verify
        from feedback.database import Database
        from feedback.tables import CASES, DETECTIONS
        from workspace.settings import load_settings

        for _ in range(50):  # what no batch has taken yet
            if take(self.root) == 0:
                break
        database = Database(self.root, load_settings(self.root / "params.yaml"))
        with database.read() as connection:
            states = {row.id: (row.state, row.verdict) for row in connection.execute(select(DETECTIONS.c.id, DETECTIONS.c.state, DETECTIONS.c.verdict))}
            decided = {row.id: row.label for row in connection.execute(select(CASES.c.id, CASES.c.label).where(CASES.c.state == "decided"))}
        chain = verify(database)
        database.close()
        taken = [line.split("\t") for line in (self.root / "taken.tsv").read_text().splitlines()] if (self.root / "taken.tsv").exists() else []
        cases = [case for case, _ in taken]
        lost = [one for one in self.accepted if one not in states or not (states[one][0] in ("queued", "running") or states[one][1])]
        return {
            "accepted": len(set(self.accepted)), "detections": len(states), "lost": len(lost),
            "waiting": sum(state in ("queued", "running") for state, _ in states.values()),
            "without_verdict": sum(verdict == "none" for _, verdict in states.values()),
            "settled": len(decided), "reviews_lost": len(set(self.settled) - set(decided)), "taken": len(cases), "twice": len(cases) - len(set(cases)),
            "never_taken": len({case for case, label in decided.items() if label in ("real", "fake")} - set(cases)),
            "wrong_label": sum(decided.get(case) != label for case, label in taken),
            "audit_entries": chain.entries, "audit_broken_at": chain.broken_at, "kills": self.kills, "sent_again": self.refused,
        }  # fmt: skip

    def _people(self) -> dict[str, str]:
        from feedback.access import Role
        from feedback.accounts import Accounts
        from feedback.database import Database
        from feedback.secret import load_secret
        from workspace.settings import load_settings

        settings = load_settings(self.root / "params.yaml")
        database = Database(self.root, settings)
        accounts, made = Accounts(database, load_secret(self.root), settings.feedback), {}
        for name, role in (("sender", Role.viewer), ("first", Role.reviewer), ("second", Role.reviewer)):
            user = accounts.create(name, f"{name}@example.org", name, "a long drill password", role, "system:drill")
            made[name] = accounts.create_key(user, "drill", "system:drill")[1]
        database.close()
        return made

    def _ask(self, who: str, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response | None:
        try:
            given = {"Authorization": f"Bearer {self.keys[who]}", **(headers or {})}
            return httpx.request(method, self.url + path, headers=given, timeout=30, trust_env=False, **more)
        except RETRIED:
            return None


def take(root: Path) -> int:
    """One hand-over as a cycle does it, with a table instead of the training set: export, take in by content, confirm. Returns how many were new."""
    from feedback.handover import export_reviewed, mark_ingested
    from workspace.files import sha256_file
    from workspace.settings import load_settings

    settings, table = load_settings(root / "params.yaml"), root / "taken.tsv"
    folder = export_reviewed(root, settings)
    if folder is None:
        return 0
    known = {line.split("\t")[0] for line in table.read_text().splitlines()} if table.exists() else set()
    with open(folder / "labels.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    fresh = [row for row in rows if row["case_id"] not in known]
    with open(table, "a", encoding="utf-8") as handle:  # one write of whole lines: a kill leaves all of them or none
        handle.write("".join(f"{row['case_id']}\t{row['label']}\n" for row in fresh))
        handle.flush()
        os.fsync(handle.fileno())
    mark_ingested(root, settings, {(sha256_file(folder / row["path"]), row["label"]): folder.name for row in rows})
    return len(fresh)


def run(root: Path, model: Path, media: list[bytes], uploads: int, kills: int, seed: int) -> dict[str, Any]:
    """The whole drill; returns what became of everything."""
    drill = Drill(root, model, media, seed)
    drill.start()
    started = time.monotonic()
    people = [threading.Thread(target=drill.send, args=(number, SENDERS, uploads)) for number in range(SENDERS)]
    others = [threading.Thread(target=drill.review, args=(name,)) for name in ("first", "second")] + [threading.Thread(target=drill.hand_over)]
    for thread in [*people, *others]:
        thread.start()
    try:
        while sum(drill.kills.values()) < kills:
            time.sleep(drill.random.uniform(0.3, 2.0))
            drill.kill_one()
        for thread in people:
            thread.join()
        _until_quiet(drill)
    finally:
        drill.stop.set()
        for thread in [*people, *others]:
            thread.join()
        assert drill._service is not None
        drill._service.send_signal(signal.SIGTERM)
        drill._service.wait(60)
    return {"uploads": uploads, "seed": seed, "seconds": round(time.monotonic() - started), **drill.outcome()}


def _until_quiet(drill: Drill) -> None:
    """Until nothing waits for a verdict or for a reviewer, or patience ends: what still waits is counted, not lost."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        waiting = [drill._ask("first", "GET", "/v1/detections", params={"everybody": True, "state": state, "limit": 1}) for state in ("queued", "running")]
        cases = [drill._ask(name, "GET", "/v1/queue", params={"limit": 1}) for name in ("first", "second")]
        if not any(one is None or one.status_code != 200 or one.json().get("detections") or one.json().get("cases") for one in (*waiting, *cases)):
            return
        time.sleep(0.5)


def unsure_model(folder: Path) -> Path:
    """A small random network whose every verdict is uncertain, so that every file becomes a case."""
    import torch

    from model.card import ModelCard, write_card
    from model.checkpoint import save_model
    from model.export import export_onnx
    from model.network import ResNeXtLSTM
    from workspace.profiles import compose_params
    from workspace.settings import load_settings

    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(compose_params("demo"))
    settings = load_settings(folder / "params.yaml")
    torch.manual_seed(0)
    network = ResNeXtLSTM(settings.model, settings.faces.size_px).eval()
    model_sha256, onnx_sha256 = save_model(network, folder / "model.safetensors", {"cycle": "2026-W01.1"}), export_onnx(network, folder / "model.onnx")
    unsure = {"threshold": 0.5, "temperature": 1e6, "abstain": 0.4}
    write_card(folder, ModelCard(model_sha256=model_sha256, onnx_sha256=onnx_sha256, cycle="2026-W01.1", faces=settings.faces, model=settings.model, **unsure))
    return folder


def sample_media() -> list[bytes]:
    """A rendered face as JPEG, and a short rendered clip."""
    import cv2

    from media.synthetic import make_sample_media, render_take

    frames, _ = render_take(3, 1, 0, 2, size_px=256, fps=12.0)
    ok, picture = cv2.imencode(".jpg", next(iter(frames))[..., ::-1])
    assert ok
    with tempfile.TemporaryDirectory() as folder:
        make_sample_media(Path(folder), people=1, clips_per_person=1, seconds=0.7, seed=3, fakes={})
        clip = sorted(Path(folder).glob("real/**/*.mp4"))[0].read_bytes()
    return [bytes(picture)] * 4 + [clip]


def workspace(root: Path) -> Path:
    """A workspace of the demo profile that hands over everything, whoever sent it."""
    import yaml

    from workspace.profiles import compose_params

    (root / ".vigil").mkdir(parents=True)
    params = yaml.safe_load(compose_params("demo"))
    params["feedback"]["queue"] |= {"source_cap": 1.0, "gold_fraction": 0.0}
    params["feedback"]["workers"] |= {"lease_seconds": 3, "max_attempts": 20}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Run, append the row, say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=count, default=500)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="kept afterwards; else a folder that is deleted")
    parser.add_argument("--take", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.take:
        take(given.take)
        return
    folder = given.work or Path(tempfile.mkdtemp(prefix="vigil-uploads-"))
    try:
        found = run(workspace(folder / "workspace"), unsure_model(folder / "model"), sample_media(), given.uploads, given.kills, given.seed)
    finally:
        if given.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    row = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **found}
    add_row(HERE / "uploads.jsonl", row)
    print(json.dumps(row, indent=1))
    wrong = [name for name in ("lost", "reviews_lost", "twice", "never_taken", "wrong_label", "audit_broken_at") if row[name]]
    sys.exit(f"wrong: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
