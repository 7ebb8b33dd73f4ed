"""Git of a workspace, called with an identity of its own, and whether its journal still has all that was committed. Knows nothing of DVC.

Hooks, signing, other line ends, colours and line numbers are off, so that a user's set-up cannot stop or change a cycle's commit, nor what is read from git.
"""

import os
import subprocess
from itertools import chain
from pathlib import Path

from workspace.errors import WorkspaceError

# What to do with a journal that lost lines: never a checkout alone, which would drop what was decided since the commit.
PUT_BACK = "`git diff HEAD -- journal.jsonl` shows what is missing or changed; put those lines back and keep the ones that follow them, then `vigil doctor`"
PUT_BACK_GIT = "Put .git back from a backup or a clone, then run the command again: what has come in since is kept."
MEND_HEAD = "Its .git/HEAD is empty, as a power cut leaves it: `echo 'ref: refs/heads/main' > .git/HEAD` in the workspace mends it. No commit is lost."
NEVER_COMMITTED = "If it was never opened whole, run `vigil init` again: it goes on where it stopped. Else put .git back from a backup or a clone."
SET_UP = (
    "user.name=Vigil", "user.email=vigil@localhost", "commit.gpgsign=false", "tag.gpgsign=false", "core.hooksPath=/dev/null",
    "core.autocrlf=false", "core.safecrlf=false", "color.ui=false", "column.ui=never", "grep.lineNumber=false", "grep.column=false",
)  # fmt: skip


def git(root: Path, *arguments: str, check: bool = True) -> str:
    """Run git in `root` with the workspace's own identity; returns its output. Raises WorkspaceError. No other repository is ever touched."""
    done = _run_git(root, *arguments)
    if check and done.returncode:
        wrong, next_step = git_problem(root)
        raise WorkspaceError(
            f"git {arguments[0]} failed in {root}.",
            why=wrong or (done.stderr or done.stdout).strip(),
            next_step=next_step or "Run `vigil doctor --fix`; no data are lost.",
        )
    return done.stdout.strip()


def _run_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Git's answer. Without a whole .git in `root` git would work in the repository around it: its search ends here."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    above = str(root.resolve().parent)
    own = {"GIT_CEILING_DIRECTORIES": above} if os.pathsep not in above else {"GIT_DIR": ".git"}  # git cannot be told of a folder with a colon
    command = ["git", *chain.from_iterable(("-c", setting) for setting in SET_UP), *arguments]
    try:
        return subprocess.run(command, cwd=root, env=environment | own | {"GIT_TERMINAL_PROMPT": "0"}, capture_output=True, text=True)
    except FileNotFoundError as problem:
        raise WorkspaceError("git was not found.", why="a workspace is a git repository", next_step="Install git and try again.") from problem


def git_problem(root: Path) -> tuple[str, str]:
    """Why git cannot work in the workspace, and what to do; two empty texts where it can."""
    if not (root / ".git").exists():
        return "its .git is gone", PUT_BACK_GIT
    answer = _run_git(root, "rev-parse", "--git-dir")
    if answer.returncode == 0:
        return "", ""
    said = answer.stderr.strip()
    if "safe.directory" in said:
        return said, "Do what git says, or run the command as the one whose workspace it is."
    head = root / ".git" / "HEAD"
    emptied = head.is_file() and not head.read_bytes().strip(b"\0 \n")
    return f"its .git is damaged: git takes it for no repository ({said})", MEND_HEAD if emptied else NEVER_COMMITTED


def cut_short(root: Path) -> str:
    """Why the journal is not what was committed with more lines behind it; '' where it is, or nothing was committed yet."""
    here, committed = _journals(root)  # a power cut may have torn the last line here in the middle of a character
    if here.startswith(committed):
        return ""
    kept = sum(one == other for one, other in zip(here.splitlines(), committed.splitlines(), strict=False))
    return f"the last commit has {len(committed.splitlines())} events, of which the file holds {kept}: it was cut, removed or put back"


def is_ahead(root: Path) -> bool:
    """Whether the journal has events that no commit has, and lacks none: what came in since, or was decided while git was busy."""
    here, committed = _journals(root)
    return (root / ".git").exists() and here.endswith(b"\n") and here.startswith(committed) and here.rstrip() != committed


def _journals(root: Path) -> tuple[bytes, bytes]:
    """journal.jsonl as it is here, and as the last commit has it."""
    committed = git(root, "show", "HEAD:./journal.jsonl", check=False).encode() if (root / ".git").exists() else b""
    path = root / "journal.jsonl"  # read last: it only grows
    return path.read_bytes() if path.exists() else b"", committed


def refuse_cut_short(root: Path) -> None:
    """Raises WorkspaceError where the journal lacks what was committed: the next decision's commit would take it out for good."""
    if lacking := cut_short(root):
        raise WorkspaceError("Nothing was run: the journal lacks decisions that were committed.", why=lacking, next_step=f"In {root}: {PUT_BACK}.")


def tagged_cycles(root: Path) -> list[str]:
    """The cycles that git has a tag of, also those that another copy of the workspace ran; none where there is no git."""
    return [tag.removeprefix("vigil/") for tag in git(root, "tag", "-l", "vigil/*", check=False).splitlines()]
