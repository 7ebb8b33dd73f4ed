"""Small worlds for the tests of this room: a model on disk, a verdict about it, a process of its own."""

import hashlib
import json
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CODE = Path(__file__).resolve().parents[2]


def make_model(root: Path, cycle: str) -> str:
    """A model folder models/<cycle> with files that agree with its card; returns the sha256 of its weights."""
    folder = root / "models" / cycle
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "model.onnx"):
        (folder / name).write_bytes(f"{name} of {cycle}".encode())
    (folder / "card.json").write_text(card_of(cycle), encoding="utf-8")
    return str(json.loads(card_of(cycle))["model_sha256"])


def card_of(cycle: str) -> str:
    """The card that `make_model` writes."""
    names = (("model.safetensors", "model_sha256"), ("model.onnx", "onnx_sha256"))
    return json.dumps({key: hashlib.sha256(f"{name} of {cycle}".encode()).hexdigest() for name, key in names} | {"cycle": cycle})


def verdict_for(cycle: str, challenger: str, base: str = "", **changes: Any) -> dict[str, Any]:
    """A verdict page as stage `gate` writes it: some gates, all passed."""
    results = [{"gate": gate, "verdict": "pass", "reason": "good"} for gate in ("data", "leak-free", "accuracy", "forgetting")]
    card = hashlib.sha256(card_of(cycle).encode()).hexdigest()
    return {"cycle": cycle, "challenger_sha256": challenger, "card_sha256": card, "base_sha256": base, "verdict": "pass", "results": results, **changes}


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """A write beyond that fails, as on a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def start_python(code: str, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
    """A real process that runs `code` with the project on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], cwd=CODE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def wait_until(true: Callable[[], Any], seconds: float = 30) -> Any:
    """What `true` returns once it is truthy. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return value
