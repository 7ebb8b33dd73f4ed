"""Which model the registry says to serve: asked in a process of its own, so that MLflow never enters the service.

`python -P -m feedback.champion ROOT` prints one JSON line: {"model": {...}}, {"none": {"why", "next_step"}} or
{"failed": {"what", "why", "next_step"}}. The alias decides; where the registry does not answer, the journal does.
"""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.card import load_card
from workspace.errors import RegistryUnavailable, VigilError
from workspace.journal import Journal
from workspace.quiet import set_quiet_environment
from workspace.settings import load_settings
from workspace.state import champion, promoted

ANSWER_SECONDS = 120  # MLflow takes 3 s to import, and a new database 6 s to migrate (measured); slow disks take longer
NONE_YET = {"why": "no model has been promoted in this workspace yet", "next_step": "Run `vigil retrain`, or serve a model by its folder."}
HOUSE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Champion:
    """The model to serve. `settled` is False while registry and journal disagree, as between a promotion's two writes."""

    path: Path
    model_sha256: str
    cycle: str
    version: int
    origin: str  # registry | journal
    settled: bool
    note: str = ""  # why the registry did not say so itself


@dataclass(frozen=True, slots=True)
class NoChampion:
    """Nothing to serve, why, and what to do."""

    why: str
    next_step: str


async def ask(root: Path) -> Champion | NoChampion:
    """The registry's champion for workspace `root`.

    Raises RegistryUnavailable when the question itself fails, another VigilError where the model cannot be had.
    """
    if await asyncio.to_thread(_never_promoted, root):
        return NoChampion(**NONE_YET)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HOUSE), os.environ.get("PYTHONPATH", "")]))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "feedback.champion", str(root), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise _no_answer(f"no answer within {ANSWER_SECONDS} s") from None
    finally:
        if process.returncode is None:  # too slow, or this service is shutting down
            process.kill()
            await process.wait()
    lines = out.decode("utf-8", "replace").strip().splitlines()
    if process.returncode != 0 or not lines:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing on stderr"]
        raise _no_answer(f"the question ended with code {process.returncode}: {last[0]}")
    answer = json.loads(lines[-1])
    if "failed" in answer:
        raise VigilError(**answer["failed"])
    if "none" in answer:
        return NoChampion(**answer["none"])
    return Champion(**{**answer["model"], "path": Path(answer["model"]["path"])})


def _never_promoted(root: Path) -> bool:
    """Whether the journal, which is the truth, names no champion: then the registry need not be asked."""
    try:
        return champion(Journal(root).events()) is None
    except VigilError:
        return False


def _no_answer(why: str) -> RegistryUnavailable:
    return RegistryUnavailable("The registry did not say which model to serve.", why=why, next_step="Run `vigil doctor`; the service keeps asking.")


def look(root: Path) -> dict[str, Any]:
    """The answer of this process: what the alias names, else what the journal does. Raises VigilError when neither can be read."""
    events = Journal(root).events()
    leading = champion(events)
    if leading is None:
        return {"none": NONE_YET}
    try:
        path, origin, note = _of_registry(root), "registry", ""
    except RegistryUnavailable as problem:
        path, origin, note = root / leading.path, "journal", f"{problem.why.rstrip('.')}. {problem.next_step}"
    card = load_card(path)
    versions = {model.model_sha256: model.version for model in promoted(events).values()}
    return {
        "model": {
            "path": str(path),
            "model_sha256": card.model_sha256,
            "cycle": card.cycle,
            "version": versions.get(card.model_sha256, 0),
            "origin": origin,
            "settled": origin == "registry" and card.model_sha256 == leading.model_sha256,
            "note": note,
        }
    }


def _of_registry(root: Path) -> Path:
    """The folder of the model that the alias names. Where the registry is, params.yaml says as it is now, as for the cycle that promotes there.

    Raises RegistryUnavailable, also for a params.yaml that cannot be used, and another VigilError where the model cannot be had.
    """
    try:
        settings = load_settings(root / "params.yaml")
    except VigilError as problem:
        raise RegistryUnavailable(
            "The registry cannot be asked.", why=" ".join(f"{problem.what} {problem.why}".split()), next_step=problem.next_step
        ) from problem
    from workspace.registry import serving_model

    return serving_model(root, settings)


def main(arguments: list[str]) -> int:
    """Answer for the workspace named by the one argument; returns the exit code."""
    set_quiet_environment()
    try:
        answer = look(Path(arguments[0]))
    except VigilError as problem:
        answer = {"failed": {"what": problem.what, "why": problem.why, "next_step": problem.next_step}}
    print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
