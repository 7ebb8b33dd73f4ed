"""What the service says of a verdict, in the same words wherever it is read."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model.aggregate import band
from model.inference import UNLIKE
from workspace.state import IMPORTED

PROBLEMS = ("reload_problem", "registry_problem")  # of Serving, as they are told from process to process and to who asks
LABEL_MAP = "p_fake: 1 means fake"
_END = r"(?![\w-])(?!\.\w)"  # of a path's part: /data is not /database, /data-2 or /data.old
VERDICT_WORDS = {"real": "Real", "fake": "Fake", "uncertain": "Uncertain", "none": "No verdict"}


def limits_of(detection: Mapping[str, Any]) -> list[str]:
    """What a reader must not take from the verdict, in sentences."""
    calibrated = "p_fake is calibrated on validation videos of the kind the model was trained with."
    if detection.get("cycle") == IMPORTED:
        calibrated = "The model was imported: nobody here has calibrated its p_fake, and how old it is is not known."
    said = [f"A verdict is an estimate by a trained network, not proof. {calibrated}"]
    knows = [str(name) for name in detection.get("knows") or []]
    met = f"The model has met these kinds of forgery: {', '.join(knows)}." if knows else "The model names no kind of forgery that it has met."
    said.append(f"{met} Others may go unnoticed.")
    if detection.get("origin") == "starter":
        said.append("No model of this workspace had been promoted: the starter model that ships with Vigil answered. It has learned nothing here.")
    if (days := _age_days(detection)) is not None:
        said.append(f"It was trained {days} {'day' if days == 1 else 'days'} before this verdict; forgeries that are newer were not known to it.")
    said.append("Only faces are examined: sound, background and text are not, and neither are faces too small or turned away.")
    if (uncertain := band_of(detection)) is not None:
        said.append("A p_fake below {:.3f} is called real, from {:.3f} on fake, between them uncertain.".format(*uncertain))
    if str(detection.get("reason") or "").startswith(UNLIKE):  # novelty is about 1 for what a model knows: the alarm is the model's own bound
        said.append("This file is unlike what the model was trained with; its figures hold less for it.")
    if note := str(detection.get("note") or ""):
        said.append(f"{note[0].upper()}{note[1:].rstrip('.')}.")
    if detection.get("verdict") == "none":
        said.append("There is no verdict. That says nothing about whether the file is forged.")
    return said


def without_root(text: str, root: Path, model_dir: Path | None = None) -> str:
    """The text with paths of the workspace from there on, and of a model's folder from its name on: where they lie is not for who asks from outside."""
    for folder in _spelled(root):
        text = re.sub(rf"{_whole(folder)}(?:(?P<below>/(?=[\w.~@%+-]))|/?{_END})", lambda found: "" if found["below"] else "the workspace", text)
    for folder in _spelled(model_dir) if model_dir else ():
        text = re.sub(f"{_whole(folder)}{_END}", folder.name.replace("\\", r"\\"), text)
    return text


def band_of(answer: Mapping[str, Any]) -> tuple[float, float] | None:
    """From which p_fake on to which the answer is `uncertain`, as it was judged; None where no threshold is known."""
    threshold = answer.get("threshold")
    return band(float(threshold), float(answer.get("abstain") or 0)) if isinstance(threshold, int | float) else None


def _spelled(folder: Path) -> list[Path]:
    """Under which paths a folder may stand in a text; the longer one first, which may begin with the other."""
    return sorted({folder.absolute(), folder.resolve()} - {Path(folder.anchor or "/")}, key=lambda one: -len(str(one)))


def _whole(folder: Path) -> str:
    """A pattern of this path where it begins one: not inside a longer path, and no host of an address. The n of an escaped line end is no part of a path."""
    return rf"(?:(?<![\w.-])(?<!:/)|(?<=\\[nrt])){re.escape(str(folder))}"


def _age_days(detection: Mapping[str, Any]) -> int | None:
    try:
        trained = datetime.fromisoformat(str(detection.get("model_trained_at") or ""))
        judged = datetime.fromisoformat(str(detection.get("finished_at") or detection.get("created_at") or ""))
    except ValueError:
        return None
    trained, judged = (moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in (trained, judged))
    return max(0, (judged - trained).days)
