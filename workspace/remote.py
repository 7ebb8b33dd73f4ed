"""The DVC remote, object by object: what it must hold for this workspace, whether it does, and which file each object is.

DVC takes a folder to be whole when its list of files is there, and takes an object for what its name says; so a lost or rotten
object is found neither by push nor by status. What the present commit tracks is looked at: every batch, every kept model, and
what the stages made of them. What older cycles' tags name is sent with it where a push passes it over, as far as it is here.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workspace.errors import DataError, WorkspaceError
from workspace.files import CHUNK_BYTES
from workspace.objects import FOLDER, are_cached, cache_of, damaged_lists, is_whole, named_by, place_of
from workspace.repository import open_dvc, remote_errors, remote_name, sending, version_batches

AT_ONCE = 8
NOT_PULLED = "The DVC remote could not be read. What was fetched is kept."
UNREADABLE = "The DVC remote could not be read. Nothing was changed."
AGAIN = "run `vigil doctor --remote` again"


@dataclass(slots=True)
class Verified:
    """What a full reading of the remote found. The keys are object ids (md5), the values the files that are this object."""

    objects: int = 0
    bytes: int = 0
    missing: dict[str, list[str]] = field(default_factory=dict)
    damaged: dict[str, list[str]] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)  # folders whose list of files is neither there nor here

    @property
    def whole(self) -> bool:
        """Whether all that the workspace needs is there and right."""
        return not (self.missing or self.damaged or self.unlisted)


def verify(root: Path, progress: Callable[[int, int, str], None] | None = None) -> Verified:
    """Read every object that the workspace needs from the remote and compare its checksum. Costs the traffic of a full pull.

    Raises WorkspaceError when there is no remote, DataError when it cannot be read.
    """
    with open_dvc(root) as repo, remote_errors(UNREADABLE, AGAIN):
        remote = _remote_of(repo)
        found = Verified()
        wanted = _wanted(repo, remote, found)
        found.objects = len(wanted)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            readings = pool.map(lambda oid: _read(remote, oid), wanted)
            for number, (oid, (digest, size)) in enumerate(zip(wanted, readings, strict=True), start=1):
                found.bytes += size
                if digest != oid.removesuffix(FOLDER):
                    (found.damaged if digest else found.missing)[oid] = wanted[oid]
                if progress:
                    progress(number, len(wanted), f"{found.bytes / 1e6:.0f} MB")
        if len(found.missing) == found.objects and remote.fs.protocol == "s3" and not remote.fs.fs.exists(bucket := remote.path.split("/")[0]):
            raise FileNotFoundError(f"there is no bucket {bucket}")
    return found


def send_missing(root: Path) -> int:
    """Send the objects that a push of DVC passes over: their folder's list is there, or a cycle's tag names them and the present commit does not, as after
    a push that failed; returns how many. Lists, reads nothing.

    Objects that this workspace does not have, or has damaged, are left out. Raises DataError when the remote cannot be used.
    """
    with sending(root, whole=True):
        tagged = set[str]().union(*(md5s for name, md5s in named_by(root).items() if name.startswith("vigil/")))
        with open_dvc(root) as repo:
            if not remote_name(repo):
                return 0
            remote = _remote_of(repo)
            earlier = _folders(repo, tagged)
            wanted = [*_wanted(repo, remote, Verified()), *(oid for files in earlier.values() for oid in files), *tagged - earlier.keys(), *earlier]
            there = set(remote.oids_exist(list(dict.fromkeys(wanted))))
            torn = {oid for oid, files in earlier.items() if any(one not in there and not _cached(repo, one).exists() for one in files)}
            return _send(repo, remote, [oid for oid in dict.fromkeys(wanted) if oid not in there | torn])


def _folders(repo: Any, oids: Collection[str]) -> dict[str, list[str]]:
    """The folders among these objects whose lists are here and whole, each with its files."""
    lists = {oid: _cached(repo, oid) for oid in sorted(oids) if oid.endswith(FOLDER)}
    return {oid: [entry["md5"] for entry in json.loads(path.read_bytes())] for oid, path in lists.items() if is_whole(path, oid)}


def not_had(root: Path) -> list[str]:
    """What is tracked at the present commit and was not to be had: neither is all of it in DVC's cache, nor does it lie here as it was."""
    cache = cache_of(root)
    with open_dvc(root) as repo:
        tracked = [out for out in repo.index.outs if out.use_cache and out.hash_info]
        lacking = [out for out in tracked if not are_cached(cache, [out.hash_info.value]) and (not out.exists or out.changed_checksum())]
        return sorted(Path(out.fs_path).relative_to(repo.root_dir).as_posix() for out in lacking)


def pull(root: Path, targets: Collection[str] = ()) -> None:
    """Fetch and check out what is tracked at the present commit; what the remote does not have stays away (`absent`)."""
    from dvc.exceptions import DvcException

    names = list(targets) or None
    with open_dvc(root) as repo, remote_errors(NOT_PULLED, "try again, or run `vigil doctor --remote`"):
        lacking, there = _to_fetch(repo, targets)
        if len(there) == len(lacking):
            repo.fetch(names, remote=remote_name(repo) or None)
    if len(there) < len(lacking):  # DVC would fetch the rest, and end as if nothing could be had
        fetch(root, there)
    with open_dvc(root) as repo:
        logging.getLogger("dvc_data").setLevel(logging.ERROR)  # else a line for every output of a stage that never ran
        try:
            repo.checkout(names, allow_missing=True)
        except (DvcException, OSError) as problem:
            raise DataError(
                "What was fetched could not be put in its place. It is kept in DVC's cache.",
                why=str(problem),
                next_step="Where a champion is damaged, run `vigil doctor --fix`. Else move what was changed here away, then run `vigil doctor --pull`.",
            ) from problem


def renew_lists(root: Path) -> tuple[int, int]:
    """Remove the lists of folders that are damaged in the cache, and have them anew from the remote, or from a batch that lies here.

    Returns how many there were, and how many are whole again; others the next cycle makes. Raises DataError when the remote cannot be read.
    """
    cache = cache_of(root)
    broken = damaged_lists(cache)
    if broken:
        fetch(root, broken.keys())
        version_batches(root)
    return len(broken), sum(is_whole(place_of(cache, oid), oid) for oid in broken)


def _to_fetch(repo: Any, targets: Collection[str]) -> tuple[list[str], list[str]]:
    """The objects that the cache lacks of what these .dvc files (none: the present commit) track, and those of them that the remote has."""
    if not remote_name(repo):
        return [], []
    remote = _remote_of(repo)
    lacking = [oid for oid in _wanted(repo, remote, Verified(), targets) if not _cached(repo, oid).exists()]
    return lacking, sorted(remote.oids_exist(lacking))


def fetch(root: Path, oids: Collection[str]) -> None:
    """Have these objects in the cache, no damaged list among them; what the remote does not have stays away.

    Raises DataError when it cannot be read, or an object is damaged there.
    """
    with open_dvc(root) as repo, remote_errors(UNREADABLE, "run the command again"):
        for broken in damaged_lists(cache_of(root)).values():
            broken.unlink()
        lacking = [oid for oid in oids if not _cached(repo, oid).exists()]
        if not lacking or not remote_name(repo):
            return
        remote = _remote_of(repo)
        there = sorted(remote.oids_exist(lacking))
        repo.cache.local.add([remote.oid_to_path(oid) for oid in there], remote.fs, there, batch_size=AT_ONCE)
        damaged = [oid for oid in there if not is_whole(_cached(repo, oid), oid)]
        for oid in damaged:
            _cached(repo, oid).unlink()
    if damaged:
        next_step = "Put them right with `vigil doctor --push --remote` where they are whole, or delete them; then run the command again."
        raise DataError(UNREADABLE, why=f"{len(damaged)} of its objects are damaged: {', '.join(damaged[:3])}", next_step=next_step)


def folder_away(root: Path) -> str:
    """The folder of the DVC remote where nothing of one is, as where a disk is not mounted: DVC takes it for empty. '' for any other remote, and for none."""
    with open_dvc(root) as repo:
        if not remote_name(repo) or (remote := _remote_of(repo)).fs.protocol != "local":
            return ""
        return "" if Path(remote.path).is_dir() else str(Path(remote.path).parents[1])  # without files/md5


def replace_damaged(root: Path, found: Verified) -> int:
    """Put right what `verify` found damaged, from this workspace's cache, and strike it from `found`; returns how many objects that were."""
    with sending(root), open_dvc(root) as repo:
        remote = _remote_of(repo)
        mine = [oid for oid in found.damaged if is_whole(_cached(repo, oid), oid)]
        for oid in mine:
            remote.fs.remove(remote.oid_to_path(oid))
        _send(repo, remote, mine)
        right = [oid for oid in mine if _read(remote, oid)[0] == oid.removesuffix(FOLDER)]
        for oid in right:
            del found.damaged[oid]
        return len(right)


def _remote_of(repo: Any) -> Any:
    if not remote_name(repo):
        raise WorkspaceError("This workspace has no DVC remote.", why="`remote.url` in params.yaml is empty", next_step="Name a folder or s3://bucket/prefix.")
    remote = repo.cloud.get_remote_odb(remote_name(repo))
    getattr(remote.fs.fs, "invalidate_cache", lambda: None)()  # listings of before a push
    return remote


def _wanted(repo: Any, remote: Any, found: Verified, targets: Collection[str] = ()) -> dict[str, list[str]]:
    """Object ids and the files that they are, of all that is tracked or of these .dvc files.

    Files come before the list that names them, so that a list is never there alone.
    """
    names: dict[str, list[str]] = {}
    lists: dict[str, list[str]] = {}
    for out in repo.index.outs:
        if not out.use_cache or not out.hash_info or (targets and Path(out.stage.path).relative_to(repo.root_dir).as_posix() not in targets):
            continue
        output, oid = Path(out.fs_path).relative_to(repo.root_dir).as_posix(), out.hash_info.value
        if not oid.endswith(FOLDER):
            names.setdefault(oid, []).append(output)
            continue
        lists.setdefault(oid, []).append(f"{output}/ (its list of files)")
        entries = _entries(repo, remote, oid)
        if entries is None:
            found.unlisted.append(output)
        for entry in entries or []:
            names.setdefault(entry["md5"], []).append(f"{output}/{entry['relpath']}")
    return names | lists


def _entries(repo: Any, remote: Any, oid: str) -> list[dict[str, str]] | None:
    """The files of a folder, from here or from the remote; None where neither has a list that agrees with its checksum."""
    here = _cached(repo, oid)
    if is_whole(here, oid):
        entries: list[dict[str, str]] = json.loads(here.read_bytes())
        return entries
    try:
        with remote.fs.open(remote.oid_to_path(oid), "rb") as handle:
            content = handle.read()
    except FileNotFoundError:
        return None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != oid.removesuffix(FOLDER):
        return None
    entries = json.loads(content)
    return entries


def _read(remote: Any, oid: str) -> tuple[str, int]:
    """(md5, bytes) of an object on the remote, ('', 0) when it is not there."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    try:
        with remote.fs.open(remote.oid_to_path(oid), "rb") as handle:
            while chunk := handle.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return "", 0
    return digest.hexdigest(), size


def _cached(repo: Any, oid: str) -> Path:
    return Path(repo.cache.local.oid_to_path(oid))


def _send(repo: Any, remote: Any, oids: Collection[str]) -> int:
    whole = [oid for oid in oids if is_whole(_cached(repo, oid), oid)]
    for oid in whole:
        remote.add(str(_cached(repo, oid)), repo.cache.local.fs, oid)
    return len(whole)
