"""Making a workspace: settings, stages, git, DVC, journal. Safe to repeat."""

import shutil
from pathlib import Path

from workspace.errors import WorkspaceError
from workspace.files import atomic_file, private_folder
from workspace.profiles import compose_params, project_root
from workspace.repository import init_repository, is_versioned
from workspace.settings import load_settings

UNUSABLE = "{}?%"  # DVC fills in the first two, Prefect ends its database's name at the third, and MLflow takes the last and two digits for a letter


def refuse_path(root: Path) -> None:
    """Raises WorkspaceError for a path that DVC, Prefect or MLflow cannot work with."""
    path = str(root.resolve())
    found = next((sign for sign in path if sign in UNUSABLE or "\ud800" <= sign <= "\udfff"), "")  # the latter stand for bytes that are no UTF-8
    if found:
        raise WorkspaceError(
            f"{root} cannot be a workspace. Nothing was changed.",
            why=f"there is {found!r} in its path, which DVC, Prefect or MLflow cannot work with",
            next_step="Name a folder whose whole path is UTF-8 and has none of { } ? %",
        )


def open_workspace(root: Path, profile: str, recipe: str = "") -> bool:
    """Make `root` a workspace of this profile and recipe; False when it already is one. Never touches a folder with other things in it."""
    begun = (root / "params.yaml").exists() and (root / ".vigil").exists()
    if begun and is_versioned(root):
        return False
    refuse_path(root)
    if root.exists() and not root.is_dir():
        raise WorkspaceError(f"{root} is a file.", why="a workspace is a folder", next_step="Name another folder.")
    if (root / "pyproject.toml").exists():
        raise WorkspaceError(f"{root} holds a program.", why="a workspace is a repository of its own, apart from code", next_step="Name an empty folder.")
    if outer := next((parent for parent in root.resolve().parents if (parent / "params.yaml").exists() and (parent / ".vigil").exists()), None):
        raise WorkspaceError(
            f"{root} lies in the workspace {outer}. Nothing was changed.",
            why="a workspace is a repository of its own, and holds no other",
            next_step="Name a folder outside of it.",
        )
    if root.exists() and any(root.iterdir()) and not (root / ".vigil").exists():
        raise WorkspaceError(
            f"{root} is not empty. Nothing was changed.",
            why="a workspace is a repository of its own, not a folder with other things in it",
            next_step="Name an empty or new folder.",
        )
    if not begun:  # else one that was stopped before its first commit
        params = compose_params(profile, recipe)
        private_folder(root / ".vigil")
        shutil.copyfile(project_root() / "dvc.yaml", root / "dvc.yaml")
        with atomic_file(root / "batches.yaml") as handle:
            handle.write("batches: []\n")
        with atomic_file(root / "params.yaml") as handle:
            handle.write(params)
    settings = load_settings(root / "params.yaml")
    for folder in ("data/raw", "models", "reports"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    init_repository(root, settings.remote.url, settings.remote.s3_endpoint_url)
    return True
