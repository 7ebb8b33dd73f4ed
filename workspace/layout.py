"""Where everything of a workspace lies, and how a command finds the workspace it is in."""

import os
import socket
import tomllib
from dataclasses import dataclass
from pathlib import Path

from workspace.errors import WorkspaceError
from workspace.format import refuse_other_format


@dataclass(frozen=True, slots=True)
class Workspace:
    """The paths of one workspace. Making one touches no file; `root` is absolute."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).resolve())

    @property
    def params(self) -> Path:
        """The settings."""
        return self.root / "params.yaml"

    @property
    def pipeline(self) -> Path:
        """The stages as DVC sees them."""
        return self.root / "dvc.yaml"

    @property
    def cycle(self) -> Path:
        """What the present cycle works on (workspace/cycle.py)."""
        return self.root / "cycle.yaml"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts, when the registry is a local file."""
        return self.root / "mlartifacts"

    def relative(self, path: Path) -> str:
        """`path` as the journal stores it. Raises WorkspaceError for one outside the workspace."""
        try:
            return (self.root / path).resolve().relative_to(self.root).as_posix()
        except ValueError as problem:
            raise WorkspaceError(f"{path} is not in the workspace {self.root}.", why=str(problem), next_step="Copy it into the workspace first.") from problem


def place_of(root: Path) -> str:
    """Where a workspace lies, as another machine is told it: `host:/path`."""
    return f"{socket.gethostname()}:{Path(root).resolve()}"


def is_code_checkout(folder: Path) -> bool:
    """Whether `folder` is this project's own code: a pyproject.toml that calls itself vigil."""
    try:
        return bool(tomllib.loads((Path(folder) / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"] == "vigil")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def refuse_code_checkout(folder: Path) -> None:
    """Raise WorkspaceError when `folder` is the project's code."""
    folder = Path(folder).resolve()
    if is_code_checkout(folder):
        raise WorkspaceError(
            f"{folder} is the code of Vigil, not a workspace. Nothing was changed.",
            why="a cycle would commit data into the project's own history",
            next_step="Make a workspace elsewhere: `vigil init ~/faces`, then run the command there.",
        )


def find_workspace(start: Path) -> Workspace | None:
    """The workspace that `start` is in (a folder with params.yaml and .vigil or, in a fresh clone, .dvc; from `start` upwards), or None.

    A folder that may not be searched is none.
    """
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if os.path.isfile(folder / "params.yaml") and (os.path.isdir(folder / ".vigil") or os.path.isdir(folder / ".dvc")):
            return Workspace(folder)
    return None


def _is_missing(path: Path) -> bool:
    try:
        os.stat(path)
    except OSError as problem:
        return isinstance(problem, FileNotFoundError | NotADirectoryError)  # one that may not be looked at may be there
    return False


def require_workspace(start: Path, *, any_format: bool = False) -> Workspace:
    """The workspace that `start` is in. Raises WorkspaceError when there is none or no `start`, when it is the code, or when its format is not ours."""
    if _is_missing(start):  # below a workspace it would be taken for that workspace
        next_step = "Look for a mistake in the name, or run `vigil init FOLDER` to make a workspace."
        raise WorkspaceError(f"There is no {start}.", why="no file or folder has this name", next_step=next_step)
    found = find_workspace(start)
    if found is None:
        refuse_code_checkout(start)
        raise WorkspaceError(
            f"{Path(start).resolve()} is not in a workspace.",
            why="no folder from there upwards has params.yaml and .vigil",
            next_step="Run `vigil init FOLDER` to make one, or name one with --workspace.",
        )
    refuse_code_checkout(found.root)
    if not any_format:
        refuse_other_format(found.params)
    return found
