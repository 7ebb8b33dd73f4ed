"""What a stage leaves of how it ended, for the flow that asked for it: DVC tells no more than an exit code."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from workspace.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class LastWord:
    """How a stage ended that did not finish, or that Ctrl-C met. `next_step`: what a person is to do, where it knows. `too_little`: why there was too
    little data for it, where that was so.
    """

    stage: str
    kind: Literal["paused", "error", "crash", "timeout"]
    text: str
    retryable: bool = False
    next_step: str = ""
    too_little: str = ""
    trace: str = ""

    def leave(self, root: Path) -> None:
        """Write it down, whole or not at all, in place of an earlier one."""
        write_json(_path(root), asdict(self))

    @classmethod
    def of(cls, root: Path) -> Self | None:
        """What the last stage left; None where it left nothing, as a finished or a killed one does."""
        return cls(**read_json(_path(root))) if _path(root).exists() else None


def forget(root: Path) -> None:
    """Before a stage begins: what the one before it left is not its own."""
    _path(root).unlink(missing_ok=True)


def _path(root: Path) -> Path:
    return root / ".vigil" / "failure.json"
