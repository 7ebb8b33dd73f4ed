"""DVC's objects by who needs them: which revision of the workspace names which content, and where it lies on this disk.

Read from git alone (`*.dvc` and `dvc.lock` of every branch and tag) and the folder lists in the cache: what is named by a hash anywhere
counts as needed, the inputs of stages too. That is at least what DVC's own `gc --all-branches --all-tags --workspace` keeps.
"""

import json
import re
from pathlib import Path

from workspace.errors import DataError
from workspace.repository import git

WORKSPACE = "workspace"
NAMED = r"md5: [0-9a-f]{32}(\.dir)?"
FOLDER = ".dir"  # ends the md5 of a folder's list of files


def objects_in(store: Path) -> dict[str, Path]:
    """The objects of DVC's cache, or of a remote that is a folder, by md5; folder lists end in `.dir`. What a killed DVC left half written is none."""
    files = (path for path in sorted((store / "files" / "md5").glob("??/*")) if path.is_file() and not path.name.endswith(".tmp"))
    return {path.parent.name + path.name: path for path in files}


def cache_of(root: Path) -> Path:
    """DVC's cache of a workspace."""
    return root / ".dvc" / "cache"


def local_remote(root: Path, url: str) -> Path | None:
    """The remote of the settings where it is this workspace's own folder below .vigil, else None: others may need what another one holds."""
    if not url or "://" in url or Path(url).is_absolute():
        return None
    return root / ".vigil" / url


def revisions(root: Path) -> list[str]:
    """Every branch and tag, by its short name."""
    return git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags").split()


def needed_by(root: Path) -> dict[str, set[str]]:
    """The md5s that each branch and tag needs, and those of what lies in the workspace now (WORKSPACE), the files of folders among them.

    Raises DataError where the list of a folder is not in the cache: nobody could then say what it holds.
    """
    stores = objects_in(cache_of(root))
    named = {name: _named_in(root, name) for name in revisions(root)}
    here = [root / "dvc.lock", *root.glob("data/*/*.dvc"), *root.glob("models/*.dvc")]
    named[WORKSPACE] = {md5 for path in here if path.is_file() for md5 in hashes_in(path.read_text(encoding="utf-8"))}
    return {name: md5s | {inner for md5 in md5s if md5.endswith(FOLDER) for inner in inside(stores, md5)} for name, md5s in named.items()}


def tags_needing(root: Path, md5s: set[str]) -> list[str]:
    """The tags that cannot be restored whole without these objects, oldest first."""
    stores = objects_in(cache_of(root))
    found = []
    for tag in git(root, "tag", "-l", "vigil/*", "--sort=creatordate").split():
        named = _named_in(root, tag)
        lists = [inside(stores, md5) for md5 in named if md5.endswith(FOLDER) and md5 in stores]
        if md5s & named.union(*lists):
            found.append(tag)
    return found


def _named_in(root: Path, revision: str) -> set[str]:
    return hashes_in(git(root, "grep", "-h", "-o", "-E", NAMED, revision, "--", "*.dvc", "dvc.lock", check=False))


def hashes_in(text: str) -> set[str]:
    """The md5s that a .dvc file, or dvc.lock, names."""
    return {found.group().removeprefix("md5: ") for found in re.finditer(NAMED, text)}


def inside(stores: dict[str, Path], md5: str) -> set[str]:
    """The md5s of a folder's files, by its list. Raises DataError where the list is not among the `stores`."""
    if md5 not in stores:
        raise DataError(
            "Nobody can say which objects of DVC's cache are needed. Nothing was deleted.",
            why=f"the list of the folder {md5[:12]}... is not in the cache",
            next_step="Run `dvc fetch --all-tags --all-branches` in the workspace, then run the command again.",
        )
    return {str(entry["md5"]) for entry in json.loads(stores[md5].read_bytes())}
