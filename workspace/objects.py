"""DVC's objects by who needs them: which revision of the workspace names which content, and where it lies on this disk.

Read from git alone (`*.dvc` and `dvc.lock` of every branch and tag) and the folder lists in the cache: what is an output anywhere counts as
needed, as for DVC's own `gc --all-branches --all-tags --workspace`. An input that is nobody's output, as a folder of outputs is, never was an object.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from configobj import ConfigObj

from workspace.errors import DataError, SettingsError, WorkspaceError
from workspace.files import parse_yaml, read_json, remove_torn, write_json
from workspace.revisions import git

WORKSPACE = "workspace"
LOCK = "dvc.lock"
NAMED = Path(".vigil/named")  # what each commit names, a file a commit: hashes alone, no name that an erasure would have to look for
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
FOLDER = ".dir"  # ends the md5 of a folder's list of files
STALE_SECONDS = 3600
HISTORIES = ("reports/continual.json", "reports/decay.json")  # a row a cycle, which nothing makes again
NOBODY_KNOWS = "Nobody can say which objects of DVC's cache are needed. Nothing was deleted."
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, yaml.YAMLError)  # of a list or a .dvc file that is none, or half of one


def objects_in(store: Path) -> dict[str, Path]:
    """The objects of DVC's cache, or of a remote that is a folder, by md5; folder lists end in `.dir`. What a killed DVC left half written is none."""
    files = (path for path in sorted((store / "files" / "md5").glob("??/*")) if path.is_file() and not path.name.endswith(".tmp"))
    return {path.parent.name + path.name: path for path in files}


def cache_of(root: Path) -> Path:
    """DVC's cache of a workspace: its own, or where a person's set-up of DVC has it."""
    from dvc.config import Config, ConfigError

    own = root.resolve() / ".dvc"
    try:
        return Path(Config(str(own), validate=False).get("cache", {}).get("dir") or own / "cache")
    except ConfigError as problem:
        raise WorkspaceError(f"The configuration of DVC in {root} cannot be read.", why=str(problem), next_step="Mend .dvc/config.") from problem


def is_shared(root: Path) -> bool:
    """Whether DVC's cache lies outside of the workspace: others may need what it holds."""
    return not cache_of(root).resolve().is_relative_to(root.resolve())


def own_stores(root: Path) -> list[Path]:
    """DVC's cache, and every folder of this workspace that is, or was, its remote."""
    found = {path.parents[1] for path in root.resolve().glob(".vigil/*/files/md5")}  # links are followed here
    for folder, names, _ in os.walk(root.resolve()):
        names[:] = [name for name in names if name not in (".git", ".dvc")]
        found |= {Path(folder).parent} if Path(folder).name == "files" and "md5" in names else set()
    return [cache_of(root), *sorted(found)]


def remove_unfinished(root: Path, stores: Iterable[Path]) -> list[Path]:
    """Remove what a killed DVC left half written in its cache and in remotes that are folders; returns these files.

    Outside the workspace, where another one may be at work, a file goes once nobody has written to it for an hour.
    """
    removed = []
    for path in (path for store in stores for path in sorted(store.rglob("*.tmp"))):
        with suppress(FileNotFoundError):  # another one has ended it
            if path.is_relative_to(root.resolve()) or time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()
                removed.append(path)
    return removed


def is_cached(cache: Path, pointer: Path) -> bool:
    """Whether a .dvc file names something and the cache has all of it."""
    try:
        named = list(outputs_in(pointer.read_text(encoding="utf-8")).values())
    except UNREADABLE:
        return False
    return bool(named) and are_cached(cache, named)


def are_cached(cache: Path, md5s: Collection[str]) -> bool:
    """Whether the cache has these objects, and of a folder every file. Reads the lists of folders and looks whether the rest is there, however large it is."""
    try:
        every = with_files({md5: place_of(cache, md5) for md5 in md5s}, md5s)
    except DataError:
        return False
    return all(place_of(cache, one).is_file() for one in every)


def place_of(store: Path, md5: str) -> Path:
    """Where DVC's cache, or a remote that is a folder, has an object."""
    return store / "files" / "md5" / md5[:2] / md5[2:]


def to_add(root: Path, folders: Iterable[Path]) -> list[Path]:
    """The folders here that DVC does not know yet, and those whose content its cache lacks while the whole of it lies here.

    A full disk left such ones. Of a folder that was fetched in part nothing is known that its .dvc file does not say better.
    """
    found, cache = [], None
    for folder in folders:
        pointer = folder.with_name(f"{folder.name}.dvc")
        if not folder.is_dir():
            continue
        if pointer.exists():
            cache = cache or cache_of(root)
            if is_cached(cache, pointer) or not _as_said(folder, pointer):
                continue
        found.append(folder)
    return found


def _as_said(folder: Path, pointer: Path) -> bool:
    """Whether a folder has as many files and bytes as its .dvc file says; of one that cannot be read nobody knows."""
    try:
        out = yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]
    except UNREADABLE:
        return False
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return (len(sizes), sum(sizes)) == (out.get("nfiles"), out.get("size"))


def remote_folder(url: str) -> Path:
    """Where a remote that is a folder lies: a relative one as seen from the workspace, below .vigil. Raises SettingsError for a home that nobody has."""
    try:
        return Path(".vigil") / Path(url).expanduser()
    except RuntimeError as problem:
        raise SettingsError(
            f"There is no folder for remote.url: {url}. Nothing was sent or fetched.",
            why="~ stands for the home folder of a user, and this machine knows of none with that name",
            next_step="Write the whole path of the folder into params.yaml.",
        ) from problem


def local_remote(root: Path, url: str) -> Path | None:
    """The remote of the settings where it is this workspace's own folder below .vigil, else None: others may need what another one holds."""
    if not url or "://" in url:
        return None
    folder = root / remote_folder(url)
    return folder if is_own(root, folder) else None


def is_own(root: Path, folder: Path) -> bool:
    """Whether a folder lies below the workspace's .vigil, wherever links lead."""
    return (root / ".vigil").resolve() in folder.resolve().parents


def revisions(root: Path) -> dict[str, str]:
    """Every branch and tag, by its short name, with its commit."""
    return _commits(root, "refname:short", "refs/heads", "refs/remotes", "refs/tags")


def cycle_tags(root: Path) -> dict[str, str]:
    """The tags of cycles (`vigil/<cycle>`), oldest first, each with its commit. Raises WorkspaceError."""
    return _commits(root, "refname:strip=2", "--sort=creatordate", "refs/tags/vigil/**")


def _commits(root: Path, name: str, *which: str) -> dict[str, str]:
    lines = git(root, "for-each-ref", f"--format=%({name}) %(objectname) %(*objectname)", *which).splitlines()  # the last is a tag's that has a message
    return {words[0]: words[-1] for words in map(str.split, lines)}


def named_by(root: Path) -> dict[str, set[str]]:
    """The md5s of the outputs of each branch and tag, and of what lies in the workspace now (WORKSPACE); those of a folder's files are in its list."""
    commits = revisions(root)
    named = {name: _named_in(root, commit) for name, commit in commits.items()}
    with suppress(OSError):
        remove_torn(root / NAMED / "*")
        for stale in {path.stem for path in (root / NAMED).glob("*.json")}.difference(commits.values()):
            (root / NAMED / f"{stale}.json").unlink(missing_ok=True)
    here = [root / LOCK, *root.glob("data/*/*.dvc"), *root.glob("models/*.dvc")]
    named[WORKSPACE] = {md5 for path in here if path.is_file() for md5 in outputs_in(path.read_text(encoding="utf-8")).values()}
    return named


def ever_named(root: Path) -> set[str]:
    """The md5s that any commit of this workspace named, and what lies in it now does, with those of the files in folders whose lists the cache has."""
    pages = git(root, "log", "--all", "--format=", "--patch", "--", "*.dvc", LOCK, check=False)
    md5s = re.findall(r"^\+.*\bmd5: ([0-9a-f]{32}(?:\.dir)?)$", pages, re.MULTILINE)
    return with_files(objects_in(cache_of(root)), named_by(root)[WORKSPACE].union(md5s))


def needed_by(root: Path, given_up: Collection[str] = (), named: Mapping[str, set[str]] | None = None) -> dict[str, set[str]]:
    """What `named_by` says (`named`, where it was asked already), with the files of folders.

    Raises DataError where the list of a folder is not in the cache, unless only tags that are `given_up` need it: nobody could then say what it holds.
    """
    stores, needed = objects_in(cache_of(root)), {}
    for name, md5s in (named_by(root) if named is None else named).items():
        lists = [md5 for md5 in md5s if md5.endswith(FOLDER) and (md5 in stores or name not in given_up)]
        needed[name] = md5s.union(*(inside(stores, md5) for md5 in lists))
    return needed


def tags_needing(root: Path, md5s: set[str]) -> dict[str, set[str]]:
    """The tags that cannot be restored whole without these objects, oldest first, each with those of them that it needs."""
    stores = objects_in(cache_of(root))
    found = {}
    for tag, commit in cycle_tags(root).items():
        if needed := md5s & with_files(stores, _named_in(root, commit)):
            found[tag] = needed
    return found


def _named_in(root: Path, commit: str) -> set[str]:
    """What a commit names, as it was noted, or read now and noted: a commit never changes, and dvc.lock grows with every batch."""
    kept = root / NAMED / f"{commit}.json"
    with suppress(*UNREADABLE):
        md5s = read_json(kept)["md5s"]
        if isinstance(md5s, list) and all(MD5.fullmatch(md5) for md5 in md5s):
            return set(md5s)
    named = _read_named(root, commit)
    with suppress(OSError):  # on a full disk, where `vigil gc` is to make room
        write_json(kept, {"md5s": sorted(named)})
    return named


def _read_named(root: Path, commit: str) -> set[str]:
    """Raises WorkspaceError where git cannot read all of it (of `git grep` nobody could tell): noted as one that names less, it would lose what it needs."""
    entries = (entry.partition("\t") for entry in git(root, "ls-tree", "-r", "-z", commit).split("\0"))
    blobs = {path: about.split()[-1] for about, _, path in entries if path == LOCK or path.endswith(".dvc")}
    lock = git(root, "show", blobs.pop(LOCK)) if LOCK in blobs else ""
    pointers = git(root, "show", *blobs.values()) if blobs else ""
    return {found[0] for found in re.finditer(rf"(?<=md5: ){MD5.pattern}", pointers)} | set(outputs_in(lock).values())  # a pointer names its one output


def outputs_in(text: str) -> dict[str, str]:
    """The outputs that a .dvc file, or dvc.lock, names: path and md5."""
    page: dict[str, Any] = parse_yaml(text) or {}
    stages = page["stages"].values() if "stages" in page else [page]
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}


def damaged_files(root: Path) -> dict[str, tuple[str, str]]:
    """Committed files, and manifests of batches that lie here, that cannot be read, with why and what to do.

    Those that a cycle writes anew, and files of models, have ways of their own. Histories only grow: what is taken for empty is written so.
    """
    found = {}
    for pattern in ("dvc.yaml", LOCK, ".dvc/config", "reports/verdict.json", *HISTORIES, "data/raw/*.dvc", "models/*.dvc"):
        for path in sorted(root.glob(pattern)):
            try:
                _read(path)
            except (*UNREADABLE, SyntaxError) as problem:  # a ConfigObjError is a SyntaxError
                name = str(path.relative_to(root))
                known = git(root, "ls-tree", "--name-only", "HEAD", "--", name, check=False)
                again = f"git checkout HEAD -- {name}" if known else f"rm {name}"  # without HEAD git refuses what a merge has marked
                found[name] = (str(problem).splitlines()[0], f"run `{again}` in {root}" + ("" if known else ": it was never committed, and is made again"))
    for pointer in sorted(root.glob("data/raw/*.dvc")):
        folder = pointer.with_suffix("")
        if folder.is_dir() and (why := _unreadable_table(folder / "manifest.parquet")):
            back = f"move {folder} away and run `vigil doctor --pull`: the batch comes back from DVC's cache or remote"
            found[str((folder / "manifest.parquet").relative_to(root))] = (why, back)
    return found


def _unreadable_table(path: Path) -> str:
    """Why a table's head cannot be read, '' where it can."""
    import pyarrow
    import pyarrow.parquet

    try:
        pyarrow.parquet.read_schema(path)
    except FileNotFoundError:
        return "it is missing"
    except (OSError, pyarrow.ArrowInvalid) as problem:
        return str(problem).splitlines()[0]
    return ""


def _read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "config":
        ConfigObj(text.splitlines(), interpolation=False)
    elif path.suffix == ".json":
        if not isinstance(json.loads(text), dict):
            raise ValueError("it is no JSON object")
    elif not text.strip():
        raise ValueError("it is empty")
    elif path.name == "dvc.yaml":
        parse_yaml(text)["stages"].items()
    elif not outputs_in(text) and path.suffix == ".dvc":
        raise ValueError("it names nothing")


def refuse_damaged(root: Path) -> None:
    """Raises WorkspaceError where a committed file cannot be read: a training would end at it, and DVC blames the remote."""
    for name, (why, next_step) in damaged_files(root).items():
        raise WorkspaceError(f"Nothing was run: {name} cannot be read.", why=why, next_step=f"{next_step[0].upper()}{next_step[1:]}.")


def with_files(stores: dict[str, Path], md5s: Collection[str]) -> set[str]:
    """These md5s, and those of the files in folders whose lists are among the `stores`."""
    return set(md5s).union(*(inside(stores, md5) for md5 in md5s if md5.endswith(FOLDER) and md5 in stores))


def inside(stores: dict[str, Path], md5: str) -> set[str]:
    """The md5s of a folder's files, by its list. Raises DataError where the list is not among the `stores`, or cannot be read."""
    if md5 not in stores:
        next_step = "Bring it from the DVC remote, or from a workspace that has it, then run the command again."
        raise DataError(NOBODY_KNOWS, why=f"the list of the folder {md5[:12]}... is not in the cache", next_step=next_step)
    try:
        return {str(entry["md5"]) for entry in json.loads(stores[md5].read_bytes())}
    except UNREADABLE as problem:
        raise _unreadable_list(stores[md5]) from problem


def refuse_damaged_lists(root: Path) -> None:
    """Raises DataError where the list of a folder in DVC's cache is damaged."""
    for path in damaged_lists(cache_of(root)).values():
        raise _unreadable_list(path)


def _unreadable_list(path: Path) -> DataError:
    next_step = "Run `vigil doctor --fix`: it removes the list and fetches it anew, then run the command again."
    return DataError(NOBODY_KNOWS, why=f"the list of a folder cannot be read: {path}", next_step=next_step)


def damaged_lists(cache: Path) -> dict[str, Path]:
    """The lists of folders in DVC's cache that are not what their names say, by md5: DVC takes each for whole, and fetches none anew."""
    lists = {md5: path for md5, path in objects_in(cache).items() if md5.endswith(FOLDER)}
    return {md5: path for md5, path in lists.items() if not is_whole(path, md5)}


def is_whole(path: Path, md5: str) -> bool:
    """Whether a file is here and has this checksum."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5.removesuffix(FOLDER)
    except OSError:
        return False
