"""Git and DVC of a workspace: what is versioned, what is restored, and the one commit and tag a cycle ends in.

DVC runs in-process: its command takes two seconds to say that nothing is new. How git is called: workspace/revisions.py.
"""

import errno
import io
import logging
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workspace.errors import DataError, JournalError, StageFailed, VigilError, WorkspaceError, first_few
from workspace.files import atomic_file
from workspace.journal import Journal
from workspace.last_word import LastWord, forget
from workspace.revisions import cut_short, git, git_problem
from workspace.state import batch_states, champion
from workspace.unsent import mark_sent, mark_unsent, unsent

LOG = logging.getLogger("vigil.remote")
MOUNT = "Make a folder in place of the link, and mount there what it leads to (`mount --bind`, or a volume); then run the command again."
MAKE_ROOM = "Make room on the disk, or make it writable, and run {command} again; {kept}."
NO_ROOM = "as a rule because the disk is full or closed to writing; the lines above say more"  # of what DVC only logs
REMOTE = "store"
DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n    hardlink_lock = false\n"
IGNORED = [
    "/mlflow.db*",
    "/mlartifacts/",
    "/feedback.db*",
    "/build/",
    "/.vigil/",
    "/reports/report.html",
    "/reports/shadow.json",
    "*.tmp",
    "/journal.lock",
    "/mlruns/",
    # What DVC keeps: its own lines it takes back when a stage does not end well, and no erasure reaches what git has.
    # A star alone is nothing, too, for DVC: it would look for no .dvc file in data/raw.
    "/data/?*/?*/",
    "/data/sets/",
    "/data/hardened/",
    "/models/?*/",
    "/reports/drift/",
    "/reports/plots/",
    "/reports/predictions.parquet",
]
COMMITTED = (
    "params.yaml", "dvc.yaml", "dvc.lock", "batches.yaml", "cycle.yaml", "journal.jsonl", ".gitignore", ".gitattributes", ".dvcignore", ".dvc/config",
    ".dvc/.gitignore", "data/raw/*.dvc", "models/*.dvc", "reports/validate/*.json", "reports/evaluation.json", "reports/verdict.json",
    "reports/continual.json", "reports/decay.json",
    "data/.gitignore", "data/*/.gitignore", "build/.gitignore", "reports/.gitignore", "models/.gitignore",
)  # fmt: skip


def init_repository(root: Path, remote_url: str, s3_endpoint_url: str = "") -> None:
    """Make `root` a git and DVC repository with one first commit. Safe to repeat, and goes on with one that was half made. Raises WorkspaceError."""
    if git_problem(root)[0]:
        git(root, "init", "-q", "-b", "main")
        _refuse_without_git(root)
    (root / ".dvc").mkdir(parents=True, exist_ok=True)
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
    (root / ".dvcignore").touch()
    set_remote(root, remote_url, s3_endpoint_url)
    if not (attributes := root / ".gitattributes").exists():
        attributes.write_text("* -text\n", encoding="utf-8")  # a person's git, which makes a clone, would end lines as Windows does: hashes are over bytes
    commit(root, "Open a Vigil workspace")


def _refuse_without_git(root: Path) -> None:
    """Raises WorkspaceError where git cannot work in the workspace: DVC would look at the repository around it."""
    wrong, next_step = git_problem(root)
    if wrong:
        raise WorkspaceError(f"{root} is no git repository any more.", why=wrong, next_step=next_step)


def is_versioned(root: Path) -> bool:
    """Whether the first commit of a workspace was made: an `init_repository` that was stopped leaves none."""
    return (root / ".git").exists() and bool(git(root, "rev-parse", "-q", "--verify", "HEAD", check=False))


def set_remote(root: Path, remote_url: str, s3_endpoint_url: str = "") -> None:
    """Make DVC's remote the one that the settings name; whatever else a person has configured stays, comments too. Safe to repeat.

    What is fetched is compared with its checksum (`verify`): DVC believes an S3 remote otherwise. Written here, because DVC cannot write a letter
    outside ASCII, and has emptied the file by the time it knows.
    """
    from configobj import ConfigObj

    from workspace.objects import remote_folder

    path = root / ".dvc" / "config"
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    config = ConfigObj((known or DVC_CONFIG).splitlines(), interpolation=False)
    before = config.dict() if known else {}
    core, section = config.setdefault("core", {}), f'remote "{REMOTE}"'
    if remote_url:
        local = "://" not in remote_url
        wanted = {"url": str(root.resolve() / remote_folder(remote_url)) if local else remote_url, "verify": "True"}
        if s3_endpoint_url:
            wanted["endpointurl"] = s3_endpoint_url
        same = section in config and config[section].get("url") == wanted["url"]  # what else it says of another place does not hold of this one
        config[section] = {**({key: value for key, value in config[section].items() if key != "endpointurl"} if same else {}), **wanted}
        core.setdefault("remote", REMOTE)
    else:
        config.pop(section, None)
        if core.get("remote") == REMOTE:
            del core["remote"]
    if config.dict() != before:
        with atomic_file(path) as handle:
            handle.writelines(f"{line}\n" for line in config.write())


def _ignore(root: Path) -> None:
    """Have git leave alone what is not its own, also where an older Vigil made the workspace. What a person wrote stays."""
    path = root / ".gitignore"
    known = path.read_bytes() if path.exists() else b""
    if missing := [line for line in IGNORED if line not in known.decode("utf-8", "replace").splitlines()]:
        with atomic_file(path, "wb") as handle:
            handle.write(known + b"\n" * (known[-1:] not in (b"", b"\n")) + "".join(f"{line}\n" for line in missing).encode())


def commit(root: Path, message: str, tag: str = "") -> str:
    """Commit exactly the workspace's own files, if any changed, and move to the tag; returns the commit's hash. What a person has staged stays so."""
    _ignore(root)
    present = [path for pattern in COMMITTED for path in sorted(root.glob(pattern))]
    names = [str(path.relative_to(root)) for path in present]
    git(root, "add", "-A", "-f", "--", *names)
    gone = git(root, "diff", "--name-only", "--no-renames", "--diff-filter=D", "HEAD", check=False)  # there is no HEAD yet at the first commit
    tracked_gone = [name for name in gone.splitlines() if name.endswith((".dvc", ".json")) and not (root / name).exists()]
    if tracked_gone:
        git(root, "rm", "-q", "--cached", "--ignore-unmatch", "--", *tracked_gone)  # a commit that was killed has done so
    names += tracked_gone
    if git(root, "diff", "--cached", "--name-only", "--", *names):
        git(root, "commit", "-q", "--no-verify", "-m", message, "--", *names)
    head = git(root, "rev-parse", "HEAD")
    if tag and not has_tag(root, tag):
        git(root, "tag", "-a", "-m", message, tag, head)
    return head


def commit_journal(root: Path, message: str) -> None:
    """Commit the journal with new .dvc files of batches, so that a clone knows of a decision that no cycle made, and finds the batches that it names.

    Where git is busy the next commit has it.
    """
    from workspace.objects import damaged_files

    if not (root / ".git").exists() or cut_short(root):
        return
    try:
        new = git(root, "ls-files", "-z", "--others", "--", "data/raw/*.dvc").split("\0")
        damaged = damaged_files(root) if any(new) else {}
        names = ["journal.jsonl", *(name for name in new if name and name not in damaged)]
        git(root, "add", "-f", "--", *names)
        git(root, "commit", "-q", "--no-verify", "-m", message, "--", *names)
    except WorkspaceError:
        return


def has_tag(root: Path, tag: str) -> bool:
    """Whether the workspace's git knows this tag."""
    return bool(git(root, "tag", "-l", tag))


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """These variables, for the time of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def open_dvc(root: Path) -> Any:
    """An open DVC repository with our interpreter first on PATH and the workspace as current folder. DVC's own state stays in the workspace.

    Stages run in /bin/sh, for which their commands are written: DVC takes the shell that a user logs in with, and a service's account has none.
    """
    root, before = root.resolve(), Path.cwd()
    _refuse_without_git(root)
    _ignore(root)
    state = root / ".vigil" / "dvc"
    state.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # another user's, or on a disk that knows no modes: what does not work DVC says
        state.chmod(0o700)  # DVC opens it to everybody, and runs what it finds there
    os.environ["DVC_NO_ANALYTICS"] = "1"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with _environment(PATH=path, SHELL="/bin/sh", DVC_SITE_CACHE_DIR=os.environ.get("DVC_SITE_CACHE_DIR") or str(state)):
        os.chdir(root)
        try:
            from dvc.repo import Repo

            logging.getLogger("dvc").setLevel(logging.WARNING)  # it advises git commands that the cycle runs itself
            # It makes its questions to a remote all at once, and asks no further ones after one that failed.
            warnings.filterwarnings("ignore", r"coroutine 'S3FileSystem\._exists' was never awaited", RuntimeWarning)
            _write_lock_quickly()
            _give_up_without_room()
            with Repo(str(root)) as repo:
                yield repo
        finally:
            os.chdir(before)


def _write_lock_quickly() -> None:
    """Have DVC write dvc.lock as ruamel.yaml's C parser does, and whole or not at all.

    DVC parses and writes the file for each finished stage so that comments survive; there are none in it, and with a hundred batches that is
    two seconds a stage. The bytes are the same (tests/workspace/test_repository.py).
    """
    from dvc import dvcfile

    as_dvc_does = dvcfile.modify_yaml
    if getattr(as_dvc_does, "quick", False):
        return

    @contextmanager
    def modify(path: Any, fs: Any = None) -> Iterator[Any]:
        if Path(path).name != dvcfile.LOCK_FILE:
            with as_dvc_does(path, fs=fs) as data:
                yield data
            return
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe")
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        found = (yaml.load(Path(path)) if Path(path).exists() else None) or {}
        yield found
        text = io.StringIO()
        yaml.dump(_plain(found), text)
        with atomic_file(Path(path)) as handle:
            handle.write(text.getvalue())

    modify.quick = True  # type: ignore[attr-defined]
    dvcfile.modify_yaml = modify


def _give_up_without_room() -> None:
    """Have DVC's notes (diskcache) wait for a lock only: it begins a transaction again for ever, and at once, whatever SQLite complains of, a full disk too."""
    import sqlite3

    import diskcache

    as_it_does = diskcache.Cache._sql.fget
    if getattr(as_it_does, "gives_up", False):
        return

    def statements(cache: Any) -> Any:
        execute = as_it_does(cache)

        def run(statement: str, *arguments: Any, **options: Any) -> Any:
            try:
                return execute(statement, *arguments, **options)
            except sqlite3.OperationalError as problem:
                if not statement.startswith("BEGIN") or getattr(problem, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                    raise
                raise OSError(errno.ENOSPC, f"SQLite: {problem}", cache.directory) from problem

        return run

    statements.gives_up = True  # type: ignore[attr-defined]
    diskcache.Cache._sql = property(statements)


def _plain(value: Any) -> Any:
    """Mappings of any kind as dict, in their order."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def version_batches(root: Path) -> None:
    """Put the journal's batches under DVC that it does not know yet, or that its cache lacks. Safe to repeat. Raises DataError as `dvc_add`."""
    from workspace.objects import to_add

    dvc_add(root, to_add(root, [root / "data" / "raw" / batch for batch in batch_states(Journal(root).events())]))


def dvc_add(root: Path, paths: Sequence[Path]) -> None:
    """Put folders under DVC (their .dvc files lie beside them). Safe to repeat.

    Raises DataError where its cache lacks something of one of them afterwards, of which DVC itself only logs a line; that one's .dvc file is then
    as it was before, or away.
    """
    if not paths:
        return
    from dvc.lock import LockError

    from workspace.objects import cache_of, is_cached

    names = [str(Path(path).resolve().relative_to(root.resolve())) for path in paths]
    pointers = [root.resolve() / f"{name}.dvc" for name in names]
    before = {pointer: pointer.read_bytes() if pointer.exists() else b"" for pointer in pointers}
    try:
        with open_dvc(root) as repo:
            repo.add(names)
    finally:
        cache = cache_of(root)
        lacking = [pointer for pointer in pointers if not (pointer.exists() and is_cached(cache, pointer))]
        if lacking and not isinstance(sys.exception(), LockError):  # that says that another DVC is at work, whose files they may be
            remove_stale_dvc_files(root)  # what it could not finish would keep the disk full
        for pointer in lacking:
            _put_back(pointer, before[pointer])
    if lacking:
        raise DataError(
            f"DVC could not keep {', '.join(name for name, pointer in zip(names, pointers, strict=True) if pointer in lacking)}. It stays here, not versioned.",
            why=f"its cache lacks what it was given, {NO_ROOM}",
            next_step=MAKE_ROOM.format(command="the same command", kept="nothing that was finished is lost"),
        )


def _put_back(pointer: Path, content: bytes) -> None:
    if not content:
        pointer.unlink(missing_ok=True)
    elif not pointer.exists() or pointer.read_bytes() != content:
        with atomic_file(pointer, "wb") as handle:
            handle.write(content)


def reproduce(root: Path, *targets: str, force: bool = False) -> list[str]:
    """Bring stages (or groups of stages) up to date, and only these; returns the stages that really ran.

    Raises KeyboardInterrupt when the stage was paused, StageFailed when it failed; `.retryable` says whether a
    second attempt may help. A stage that was killed leaves no word and may be tried again.
    """
    forget(root)
    remove_stale_dvc_files(root)
    from dvc.exceptions import DvcException

    try:
        with open_dvc(root) as repo:
            stages = repo.reproduce(list(targets), single_item=True, force=force, on_error="fail")
    except DvcException as problem:
        said = LastWord.of(root)
        if (said is not None and said.kind == "paused") or _ended_by(problem, signal.SIGINT) or _told_to_stop(problem):
            raise KeyboardInterrupt from problem
        cause = root_cause(problem)
        if said is None:
            silent = f"DVC did not begin it, or could not keep what it made: {cause}; where the disk is full, the lines above say so"
            if _exit_code(problem) is not None:
                silent = f"it ended without a word, as a killed process does ({cause})"
            said = LastWord(", ".join(targets), "crash", silent, retryable=was_killed(problem))
        step = said.next_step or "Mend the cause."
        raise StageFailed(
            f"Stage {said.stage} did not finish. Nothing was promoted; finished stages are kept.",
            why=said.text,
            next_step=step if "`vigil retrain`" in step else f"{step} `vigil retrain` goes on from this stage.",
            retryable=said.retryable,
            too_little=said.too_little,
        ) from None
    if (said := LastWord.of(root)) is not None and said.kind == "paused":  # Ctrl-C as its stage ended: DVC ignores one for as long as a stage runs
        raise KeyboardInterrupt
    if lost := [stage.addressing for stage in stages if not _was_kept(root, stage)]:
        raise StageFailed(
            f"Stage {', '.join(lost)} did not finish. Nothing was promoted; finished stages are kept.",
            why=f"DVC's cache lacks what it made, {NO_ROOM}",
            next_step=MAKE_ROOM.format(command="`vigil retrain`", kept="it goes on from this stage"),
        )
    return [stage.addressing for stage in stages]


def _was_kept(root: Path, stage: Any) -> bool:
    """Whether the cache has what a stage made: DVC writes it down as made where it had no room for it, and runs the stage again when it is asked next."""
    from workspace.objects import are_cached, cache_of

    return are_cached(cache_of(root), [out.hash_info.value for out in stage.outs if out.use_cache and out.hash_info])


def was_killed(problem: BaseException) -> bool:
    """Whether DVC's complaint names the exit code of a process that a signal ended (negative, or above 128)."""
    code = _exit_code(problem)
    return code is not None and not 0 <= code <= 128


def _ended_by(problem: BaseException, number: int) -> bool:
    """Whether this signal ended the process that DVC complains of: as Python says it, or as a shell does."""
    return _exit_code(problem) in (-number, 128 + number)


def _told_to_stop(problem: BaseException | None) -> bool:
    """Whether DVC complains only because we were told to pause: its lock file, cut off half written, can then not be read."""
    while isinstance(problem, Exception):
        problem = problem.__cause__ or problem.__context__
    return problem is not None


def _exit_code(problem: BaseException) -> int | None:
    code = re.search(r"exited with (-?\d+)", root_cause(problem))
    return int(code[1]) if code else None


def root_cause(problem: BaseException) -> str:
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__


def remove_stale_dvc_files(root: Path) -> list[str]:
    """Remove what a killed DVC left: its lock files (the lease says that nobody else runs) and temporary cache files."""
    from workspace.objects import cache_of, remove_unfinished

    temporary = root / ".dvc" / "tmp"
    removed = []
    for name in ("rwlock", "rwlock.lock", "lock"):
        path = temporary / name
        if path.exists():
            path.unlink()
            removed.append(str(path.relative_to(root)))
    return removed + [os.path.relpath(path, root) for path in remove_unfinished(root, [cache_of(root)])]


def stale_git_locks(root: Path) -> list[str]:
    """The lock files that a killed git left; none while a git is at work here."""
    import psutil

    folder = root / (git(root, "rev-parse", "--git-dir", check=False) or ".git")  # elsewhere in a worktree or a submodule, where .git is a file
    locks = [*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock")]
    for process in psutil.process_iter(["name", "cwd"]) if locks else ():
        cwd = process.info["cwd"]
        if process.info["name"] == "git" and (cwd is None or Path(cwd).is_relative_to(root.resolve())):  # None: another user's, who does not let us look
            return []
    return [os.path.relpath(lock, root) for lock in locks]


def remove_stale_git_locks(root: Path) -> list[str]:
    """Remove the lock files that a killed git left; returns what was removed. The lease says that no git of ours is at work."""
    locks = stale_git_locks(root)
    for lock in locks:
        (root / lock).unlink(missing_ok=True)
    return locks


def push(root: Path) -> int:
    """Send what the remote lacks of the present commit; returns the number of objects sent. Raises DataError naming the remote.

    A mark of before stays: what that push should have sent, an earlier commit may name (workspace/remote.py, `send_missing`).
    """
    with sending(root), open_dvc(root) as repo:
        if not remote_name(repo):
            return 0
        sent = int(repo.push(remote=remote_name(repo)))
        _remove_unfinished_in(repo)
        return sent


@contextmanager
def sending(root: Path, whole: bool = False) -> Iterator[None]:
    """Write to the remote. A mark says that not all is there (workspace/unsent.py) until this ends well, through failure and kill.

    One that stood there before stays, unless this sends the `whole` of what is here. Raises DataError when the remote cannot be written.
    """
    before = unsent(root)
    mark_unsent(root, "a push was begun and has not ended")
    try:
        with remote_errors("The DVC remote could not be written. All data and models are kept here.", "run `vigil doctor --push`, or `vigil retrain` again"):
            yield
    except VigilError as problem:
        mark_unsent(root, problem.why)
        raise
    if before and not whole:
        mark_unsent(root, before.why)
    else:
        mark_sent(root)


def remote_name(repo: Any) -> str:
    """The DVC remote in use: that of the settings, else what a person made DVC's default; '' where there is none."""
    return REMOTE if REMOTE in repo.config["remote"] else str(repo.config["core"].get("remote", ""))


@contextmanager
def remote_errors(what: str, then: str) -> Iterator[None]:
    """Turn whatever DVC and the store behind it raise into a DataError."""
    from botocore.exceptions import BotoCoreError, ClientError
    from dvc.exceptions import DvcException

    try:
        yield
    except (DvcException, OSError, BotoCoreError, ClientError) as problem:
        raise DataError(what, why=root_cause(problem), next_step=f"Check `remote` in params.yaml and the credentials, then {then}.") from problem


def delete_objects(root: Path, md5s: Collection[str]) -> set[str]:
    """Delete objects from DVC's remote, from folders of this workspace that were its remote before, then from its cache; returns those that the remote had.

    What killed processes left half written there goes with them. Raises DataError when the remote cannot be written; the cache then still knows what is
    left to do.
    """
    from workspace.objects import own_stores, place_of, remove_unfinished

    with open_dvc(root) as repo:
        there: dict[str, str] = {}
        if remote_name(repo) and md5s:
            what = "Erased data could not be deleted from the DVC remote. The erasure is not finished."
            with remote_errors(what, "run `vigil erase`; the next cycle tries again too"):
                remote = repo.cloud.get_remote_odb(remote_name(repo))
                there = {md5: path for md5 in sorted(md5s) if remote.fs.exists(path := remote.oid_to_path(md5))}
                for path in there.values():
                    remote.fs.remove(path)
                _abort_uploads(remote, md5s)
                _remove_unfinished_in(repo)
        stores = own_stores(root)
        remove_unfinished(root, stores)
        for store in (*stores[1:], stores[0]):  # a clone of an earlier commit would fetch from former remotes; the cache still knows what is left to do
            for md5 in md5s:
                place_of(store, md5).unlink(missing_ok=True)
    return set(there)


def _remove_unfinished_in(repo: Any) -> None:
    """Remove what killed pushes left half written in the remote, where that is a folder."""
    from workspace.objects import remove_unfinished

    remote = repo.cloud.get_remote_odb(remote_name(repo))
    if remote.fs.protocol == "local":
        remove_unfinished(Path(repo.root_dir), [Path(remote.path)])


def _abort_uploads(remote: Any, md5s: Collection[str]) -> None:
    """Remove the parts that killed pushes left of these objects in a bucket; they are in no list of what it holds."""
    if remote.fs.protocol != "s3":
        return
    store = remote.fs.fs
    for bucket, key, _ in (store.split_path(remote.oid_to_path(md5)) for md5 in sorted(md5s)):
        try:
            for upload in store.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key).get("Uploads", []):
                if upload["Key"] == key:
                    store.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"])
        except OSError as problem:
            if problem.errno not in (errno.EPERM, errno.ENOSYS) and not isinstance(problem, PermissionError | FileNotFoundError):
                raise
            LOG.warning("whether parts of %s were left on the remote is not told: %s", key, problem)  # a store need not offer it, or not to everybody
            return


def strike_stages(root: Path, outputs: Collection[str]) -> None:
    """Strike from dvc.lock the stages that have one of these outputs, and commit it: what is gone for good is nothing to fetch, push or look for."""
    from dvc import dvcfile

    from workspace.objects import LOCK

    def named(stage: Mapping[str, Any]) -> set[str]:
        return {out["path"] for out in stage.get("outs", [])}

    with open_dvc(root) as repo, dvcfile.modify_yaml(str(root.resolve() / LOCK), fs=repo.fs) as lock:
        for name in [name for name, stage in lock.get("stages", {}).items() if named(stage) & set(outputs)]:
            del lock["stages"][name]
    commit(root, "Strike what was made of erased samples")


def absent(root: Path) -> list[str]:
    """The batches and models that are not here, of those that DVC tracks and those that the journal cannot do without: its batches and its champion.

    A batch that was dropped so that what it holds comes in again is missed by nobody, once its .dvc file has gone too.
    """
    tracked = {str(path.relative_to(root).with_suffix("")) for pattern in ("data/raw/*.dvc", "models/*.dvc") for path in root.glob(pattern)}
    with suppress(JournalError):  # the doctor names one that cannot be read; what DVC tracks can be fetched all the same
        events = Journal(root).events()
        tracked |= {f"data/raw/{batch}" for batch, told in batch_states(events).items() if not told.again}
        tracked |= {leading.path} if (leading := champion(events)) else set()
    return sorted(name for name in tracked if not (root / name).exists())


def linked(root: Path) -> list[str]:
    """The folders of batches and models that are links: DVC keeps nothing that lies behind one."""
    return [name for name in ("data", "data/raw", "models") if (root / name).is_symlink()]


def refuse_linked(root: Path) -> None:
    """Raises WorkspaceError where a folder of batches or models is a link."""
    if names := linked(root):
        raise WorkspaceError(f"Nothing was taken in: {', '.join(names)} in {root} is a link.", why="DVC keeps nothing that lies behind one", next_step=MOUNT)


def refuse_absent(root: Path, what: str) -> None:
    """Raises WorkspaceError, which begins with `what`, where a batch is not here."""
    if batches := [Path(name).name for name in absent(root) if name.startswith("data/raw/")]:
        raise WorkspaceError(
            what,
            why=f"{len(batches)} batch{'es are' if len(batches) > 1 else ' is'} not on this machine: {first_few(batches)}",
            next_step="Run `vigil doctor --pull`, then the same command again.",
        )


def restore_pointers(root: Path, names: Iterable[str]) -> None:
    """Have the .dvc files of batches and models that are not here again as they were last committed, where they are away too: they say what to fetch."""
    for pointer in (f"{name}.dvc" for name in names):
        if not (root / pointer).exists() and (last := git(root, "log", "-1", "--format=%H", "--diff-filter=AM", "--", pointer, check=False)):
            git(root, "checkout", "-q", last, "--", pointer)


def lending_remote(root: Path, remote_url: str) -> str:
    """The remote of the workspace that this one was cloned from, where the settings want one within the workspace and it has none yet; else ''."""
    from workspace.objects import remote_folder

    return "" if (root.resolve() / remote_folder(remote_url)).exists() else origins_remote(root, remote_url)


def origins_remote(root: Path, remote_url: str) -> str:
    """The remote of the workspace that this one was cloned from, where the settings want one within the workspace; else ''.

    It lies where that workspace lies now, or else where the commit says: a workspace may have been moved since.
    """
    from workspace.objects import remote_folder

    if not remote_url or "://" in remote_url:
        return ""
    wanted = remote_folder(remote_url)
    with open_dvc(root) as repo:
        committed = str(repo.config.get("remote", {}).get(REMOTE, {}).get("url", ""))
    origin = git(root, "config", "--default", "", "--get", "remote.origin.url").strip().removeprefix("file://")
    known = [str(Path(origin) / wanted) if origin else "", committed]
    return next((place for place in known if place and "://" not in place and Path(place).is_dir()), "")


def replace_folder(source: Path, target: Path) -> None:
    """Copy a folder so that `target` is wholly the new one, or wholly the old one."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.replace(target)
