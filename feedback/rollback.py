"""A rollback that a person asks the service for: `vigil models rollback` in a process of its own, as the service never imports mlflow."""

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from workspace.errors import WorkspaceError
from workspace.journal import Journal

ROLLBACK_SECONDS = 300
_THREE_LINES = re.compile(r"^(\S.*)\n  Why:  ((?:.|\n)*?)\n  Next: (.*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one. `to`: the cycle whose model leads again, '' where the journal has no such decision."""

    to: str
    command: subprocess.CompletedProcess[str] | None  # None: it did not end in time

    def told(self) -> str:
        """What the command said. Raises WorkspaceError where it refused, or did not end."""
        if self.command is None:
            late = f"`vigil models rollback` did not end within {ROLLBACK_SECONDS} s"
            raise WorkspaceError("It is not known whether the model was changed.", why=late, next_step="Look at `vigil models` before you try again.")
        if self.command.returncode != 0:
            raise _refusal(self.command.stderr or self.command.stdout)
        return self.command.stdout.strip()


def attempt(root: Path, who: str, why: str, to: str = "", instead_of: str = "") -> Attempt:
    """Have the command try it, and look into the journal for what it did: that stands, whatever the command says."""
    words = [sys.executable, "-P", "-m", "vigil", "models", "rollback", "--who", who, "--why", why, "--workspace", str(root)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    known, done = len(Journal(root).events()), None
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(  # in a session of its own: Ctrl-C in the service's terminal is no word about the model
            words + (["--to", to] if to else []) + (["--instead-of", instead_of] if instead_of else []),
            capture_output=True, text=True, timeout=ROLLBACK_SECONDS, env=environment, check=False, start_new_session=True,
        )  # fmt: skip
    since = Journal(root).events()[known:]
    done_to = [event["cycle"] for event in since if event.kind == "rollback" and (event["who"], event["why"]) == (who, why)]
    return Attempt(done_to[0] if done_to else "", done)


def _refusal(said: str) -> WorkspaceError:
    """What a command refused, in its own words: of the three lines of a VigilError each in its place."""
    if told := _THREE_LINES.search(said):
        what, why, next_step = (" ".join(part.split()) for part in told.groups())
        return WorkspaceError(what, why=why, next_step=next_step)
    return WorkspaceError("The model was not changed.", why=" ".join(said.split()[:100]) or "no reason given", next_step="Look at `vigil models`.")
