"""`vigil doctor`: what is wrong with a workspace, and what is done about it."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

from workspace.errors import VigilError, first_few
from workspace.files import move_folder
from workspace.journal import Journal
from workspace.lease import lease
from workspace.modelfiles import is_as_promoted
from workspace.revisions import is_ahead
from workspace.settings import Settings
from workspace.state import Champion, champion


def examine_and_fix(
    root: Path,
    settings: Settings,
    *,
    fix: bool,
    push: bool,
    pull: bool = False,
    remote: bool = False,
    clock_is_right: bool = False,
    database_is_right: bool = False,
    forget_media_place: str = "",
) -> tuple[list[dict[str, Any]], list[str]]:
    """The doctor's findings, and what was done about them."""
    from flows.environment import prepare_environment

    prepare_environment(root)
    from flows.health import count_weeks_from_now, examine, examine_remote
    from flows.leftovers import end_what_was_left

    verified = None
    done: list[str] = []
    lost: list[dict[str, Any]] = []
    if database_is_right:
        from feedback.database import Database

        with lease(root, "doctor", decides=False), closing(Database(root, settings, take_over=True)) as database:
            done.append(f"{database.shown_url} is this workspace's database")
    if forget_media_place:
        from feedback.places import forget

        with lease(root, "doctor", decides=False):
            forget(root, forget_media_place)
        done.append(f"forgot {forget_media_place}: what it holds stays there, and is nobody's to erase here")
    if fix or push or pull or remote or clock_is_right:
        from flows.closing import finish_commit
        from pipelines.stage import Progress
        from workspace import registry, repository
        from workspace.objects import refuse_damaged
        from workspace.remote import not_had, renew_lists, replace_damaged, send_missing, verify
        from workspace.remote import pull as pull_all

        with lease(root, "doctor", decides=fix or clock_is_right):  # what is sent or fetched is saved, whatever the journal lacks
            refuse_damaged(root)
            lacking = repository.absent(root) if pull else []
            repository.restore_pointers(root, lacking)
            if lender := repository.lending_remote(root, settings.remote.url) if pull else "":
                repository.set_remote(root, lender)
                pull_all(root)  # its own remote is empty yet
            repository.set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)
            if fix or pull:
                broken, renewed = renew_lists(root)
                lists, them = ("lists", "them are") if broken > 1 else ("list", "it is")
                done += [f"removed {broken} damaged {lists} from DVC's cache, {renewed} of {them} there anew"] if broken else []
            if pull:
                if not lender:
                    pull_all(root)
                left = repository.absent(root)
                done.append(f"pulled {len(lacking) - len(left)} of {len(lacking)} batches and models that were not here")
                lost = [_not_fetched(nowhere)] if (nowhere := sorted({*left, *not_had(root)})) else []
            if clock_is_right:
                done += count_weeks_from_now(root, settings)
            if fix:
                if aside := registry.set_aside_damaged(root, settings):
                    done.append(f"set the registry's damaged database aside as {aside}: what MLflow showed of earlier runs stands there, and in reports/")
                done += end_what_was_left(root, settings)
                done += [f"removed {name}" for name in (*repository.remove_stale_dvc_files(root), *repository.remove_stale_git_locks(root))]
                leading = champion(Journal(root).events())
                if leading and not is_as_promoted(root / leading.path, leading) and _bring_back(root, leading):
                    done.append(f"pulled {leading.path}")
                if tag := finish_commit(root):
                    done.append(f"committed {tag}")
                if is_ahead(root):
                    repository.commit_journal(root, "What came in and was decided since the last commit")
                    done += [] if is_ahead(root) else ["committed the journal"]
            if (fix and leading) or (pull and _could_serve(root, settings)):
                registry.rebuild_aliases(root, settings)
                done.append("aliases rebuilt from the journal")
            if push:
                done.append(f"pushed {repository.push(root) + send_missing(root)} objects")
            verified = verify(root, Progress("remote")) if remote else None
            if verified and push and verified.damaged:
                done.append(f"replaced {replace_damaged(root, verified)} objects")
    rows = [row for row in examine(root, settings) if not (lost and row["check"] == "data")]  # nobody is sent to pull again
    return rows + lost + (examine_remote(verified) if verified else []), done


def _bring_back(root: Path, model: Champion) -> bool:
    """Whether DVC's cache or remote had the files of this model, which now lie here in place of damaged ones. If not, these stay."""
    from workspace.remote import pull

    folder, aside, whole = root / model.path, root / ".vigil" / "damaged", False
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():  # DVC replaces no file that it does not know
        move_folder(folder, aside)
    try:
        pull(root, [f"{model.path}.dvc"])
        whole = is_as_promoted(folder, model)
        return whole
    finally:
        if aside.exists() and not whole:
            shutil.rmtree(folder, ignore_errors=True)
            move_folder(aside, folder)
        shutil.rmtree(aside, ignore_errors=True)


def _could_serve(root: Path, settings: Settings) -> bool:
    """Whether the champion's files are here and the registry names none, as in a fresh clone that was pulled.

    A registry that others use knows better than the clone of an old tag.
    """
    from workspace.registry import read_alias

    try:
        leading = champion(Journal(root).events())
        return leading is not None and (root / leading.path).exists() and read_alias(root, settings) is None
    except VigilError:  # each has a row of its own
        return False


def _not_fetched(names: list[str]) -> dict[str, Any]:
    """The doctor's finding about what is neither here nor on the remote."""
    next_step = (
        "Run `vigil doctor --push` in the workspace that has them, or name its remote in remote.url; then pull again."
        " What was erased since this commit is nowhere any more: a later one has what is left."
        " A batch that is nowhere any more keeps others out: `vigil batches drop NAME --again`, and remove data/raw/NAME.dvc; what it held may come in anew."
    )
    return {"check": "data", "ok": False, "found": f"{len(names)} not on the remote, or not whole: {first_few(names)}", "next": next_step}


def render_checks(rows: list[dict[str, Any]], done: list[str]) -> str:
    """The doctor's page."""
    lines = [f"{'ok ' if row['ok'] else 'BAD'}  {row['check']:<10} {row['found']}" + (f"\n       Next: {row['next']}" if row["next"] else "") for row in rows]
    return "\n".join(lines + [f"done {line}" for line in done])
