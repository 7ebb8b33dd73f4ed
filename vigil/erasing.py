"""`vigil erase`: uploads, and samples of batches, out of the service and out of everything that trains."""

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from feedback.access import Role
from feedback.database import Database
from vigil.people import WHO, Operator
from vigil.proving import SHA256
from workspace.errors import LeaseHeldError, WorkspaceError, in_one_line, printable
from workspace.forgetting import NOTHING_ERASED
from workspace.repository import refuse_absent
from workspace.settings import Settings

if TYPE_CHECKING:
    from feedback.keep import MediaStore

LOG = logging.getLogger("vigil.keep")
NO_ROW = "-"  # in place of a case's id: no row of a batch names it
WHETHER = "whether the model of {cycle} learned from it; its training table is not here"


def would_erase(root: Path, settings: Settings, what: str) -> dict[str, Any]:
    """What `erase` would take out of the workspace for this upload or sample, and which models learned from it; changes nothing.

    `held_by`: so many other uploads hold the file, so the upload and its verdict are all that goes.
    """
    from feedback.database import exists
    from feedback.learned import learned_from, not_known
    from feedback.tables import BROUGHT, CASES
    from workspace.forgetting import would_forget
    from workspace.lease import lease

    uploads: list[dict[str, Any]] = []
    sha256, case_id, held_by = what if SHA256.fullmatch(what) else "", "", 0
    if exists(root, settings):
        with closing(Database(root, settings)) as database, database.read() as connection:
            uploads = _uploads(database, what)
            if uploads and not sha256:
                sha256 = str(uploads[0]["sha256"])
                held_by = sum(one["state"] != "erased" and one["id"] != what for one in _uploads(database, sha256))
                if not str(uploads[0]["source"]).startswith(BROUGHT):  # what the service brought out of a batch goes out of all of them
                    case_id = str(connection.execute(select(CASES.c.id).where(CASES.c.sha256 == sha256)).scalar_one_or_none() or NO_ROW)
    if not sha256:
        raise _unknown(root, what)
    with lease(root, "erase"):
        page = would_forget(root, sha256, NO_ROW if held_by else case_id)
    if not (uploads or page["rows"] or page["cached_objects"] or sha256 in _samples_of(root)):
        raise _unknown(root, what)
    page |= {"uploads": sum(one["state"] != "erased" for one in uploads), "held_by": held_by}
    if held_by:
        return {**page, "kept_in": [], "near_duplicates": [], "made_of": [], "not_here": 0, "models": [], "not_known": []}
    return {**page, "models": learned_from(root, [sha256])[sha256], "not_known": not_known(root)}


def render_would_erase(page: dict[str, Any]) -> str:
    """What `vigil erase --dry-run` says."""
    lines = [f"Would erase {page['sample_id'][:16]}...; nothing was changed."]
    lines += [f"  {page['uploads']} uploads to the service, each with its verdict"] if page["uploads"] else []
    if page["held_by"]:
        held = f"{page['held_by']} other uploads hold the same file: it stays for them, in the training data too; by its sha256 it goes for all"
        return "\n".join([*lines, f"  {held}"])
    lines += [f"  {row['batch']}: {printable(row['path'])}, {_of_shard(row)}" for row in page["rows"]]
    lines += [f"  {made}: removed" + ("" if made.startswith("mlartifacts") else "; the next cycle makes it again") for made in page["folders"]]
    lines.append(f"  {page['cached_objects']} objects of DVC's cache ({page['cached_bytes']:,} bytes), and their copies in its remote")
    if page["not_here"]:
        lines.append(f"  {page['not_here']} objects of earlier cycles are not in this cache: those that the remote has are fetched and looked into")
    lines += [f"  {batch}: has the same file from another source, in which it stays" for batch in page["kept_in"]]
    lines += [f"  near duplicate, another file, which stays: {sample_id[:16]}..." for sample_id in page["near_duplicates"]]
    lines += [f"  made of it, as its table says; it stays: {sample_id}" for sample_id in page["made_of"]]
    lines += [f"  {tag} cannot be restored whole any more" for tag in page["tags"]]
    lines += [f"  cannot be erased: the weights of {_name(model)}, which {_how(model)}" for model in page["models"]]
    lines += [f"  not known: {WHETHER.format(cycle=cycle)}" for cycle in page["not_known"]]
    return "\n".join(lines)


def _name(model: dict[str, Any]) -> str:
    return f"{model['cycle']} (v{model['version']})" if model["version"] else f"{model['cycle']} (never promoted)"


def _how(model: dict[str, Any]) -> str:
    """How it comes to know of what is erased. (An older Vigil noted only models that were trained with it.)"""
    base = model.get("goes_on_from", "")
    return f"goes on from {base}, which learned from it" if base else "learned from it"


def _of_shard(row: dict[str, Any]) -> str:
    return f"{row['bytes']:,} bytes of {row['shard']}, which is packed anew" if row["shard"] else "whose content was not kept: its name goes"


def erase(root: Path, settings: Settings, what: Sequence[str], who: str, why: str) -> dict[str, Any]:
    """Erase uploads (detection ids) and samples (sha256) and take what was erased out of the training data; with none only the latter.

    Returns {"erased": [...], "training": [...], "deleted_again": n, "left": n, "not_known": [...]}: of media that were deleted before, n lay here again;
    `left` erasures wait for the end of the cycle that is running; of the models of the cycles `not_known` nobody can say here what they were trained with.
    Raises WorkspaceError, with nothing erased, for one that nobody knows, without a name or a reason, and where a committed file cannot be read.
    """
    from feedback.erasing import Erasing, held_by_training
    from feedback.forgetting import finish_erasures
    from feedback.keep import MediaStore
    from feedback.learned import not_known
    from feedback.restored import erase_again
    from workspace.lease import lease
    from workspace.objects import refuse_damaged
    from workspace.repository import set_remote

    if not who.strip() or not why.strip():
        raise WorkspaceError("Nothing was erased.", why=f"who is {who!r}, why is {why!r}", next_step="Give a name and a reason.")
    with lease(root, "erase"), closing(Database(root, settings)) as database:
        refuse_damaged(root)
        set_remote(root, settings.remote.url, settings.remote.s3_endpoint_url)  # a copied workspace still names the remote of the first one
        media = MediaStore(root, settings)
        erasing, operator = Erasing(database, media), Operator("", Role.admin, who)
        in_batches = _samples_of(root) if what else set()
        files = {one: one if one in in_batches else _file_of(root, database, one) for one in what}
        held = held_by_training(root, [*files.values()]) if files else {}
        erased = [
            erasing.erase_file(operator, one, why, in_batches=one in in_batches, held=held)
            if SHA256.fullmatch(one)
            else erasing.erase(operator, one, why, held=held)
            for one in what
        ]
        deleted_again = erase_again(root, settings, database)
        _remove_leftovers(root, database, media)
        training = finish_erasures(root, database, WHO)
        left = sum(row["state"] == "requested" for row in erasing.erasures())
    return {"erased": erased, "training": training, "deleted_again": deleted_again, "left": left, "not_known": not_known(root) if training else []}


def _remove_leftovers(root: Path, database: Database, media: "MediaStore") -> None:
    """Delete what killed processes left of uploads, where no service runs that sees to it; of a store that is silent it is logged. Holds the lease."""
    from feedback.detections import remove_leftovers
    from feedback.keep import StoreSilent
    from workspace.lease import serving_alone

    try:
        with serving_alone(root, "erase", "This workspace is served."):
            remove_leftovers(database, media, older_than_seconds=0)
    except LeaseHeldError:
        return
    except StoreSilent as problem:
        LOG.warning("what killed processes left of uploads stays until the next time: %s", in_one_line(problem))


def render_erased(found: dict[str, Any]) -> str:
    """What `vigil erase` says."""
    lines = []
    for one in found["erased"]:
        held = f" {one['held_by']} other uploads hold the same file: it stays for them." if one["state"] == "held" else ""
        lines.append(f"Erased {one['sha256'][:16]}....{held}")
        if one["training"] == "kept":
            lines += [f"  {batch} has the same file from a source of its own: it stays there, unless it is erased by its sha256." for batch in one["kept_in"]]
    for row in found["training"]:
        done = row["training"]
        if isinstance(done, str):
            lines.append(f"{row['sha256'][:16]}...: {done}.")
        else:
            objects = f"{done['cached_objects']} objects of DVC's cache and {done['remote_objects']} of its remote deleted"
            lines.append(f"{row['sha256'][:16]}...: taken out of {', '.join(done['batches'])}; {objects}.")
            lines += [f"  {batch} has the same file from another source: it stays there, unless it is erased by its sha256." for batch in done["kept_in"]]
            lines += [f"  Made of it, as its table says; it stays unless it is erased too: {sample_id}" for sample_id in done["made_of"]]
            lines += [f"  {tag} cannot be restored whole any more." for tag in done["tags"]]
        lines += [f"  Cannot be erased: the weights of {_name(model)}, which {_how(model)}." for model in row["models"]]
    lines += [f"Not known: {WHETHER.format(cycle=cycle)}." for cycle in found["not_known"]]
    if again := found["deleted_again"]:
        lines.append(f"{again} file{'s' if again > 1 else ''} that had been deleted {'were' if again > 1 else 'was'} there again, as after a restore: deleted.")
    if found["left"]:
        lines.append(f"{found['left']} erasures wait for the end of the cycle that was begun. Next: vigil retrain")
    return "\n".join(lines) or "Nothing is to be erased."


def _samples_of(root: Path) -> set[str]:
    """The samples that the batches hold or held."""
    from workspace.manifest import manifests, read_manifest

    return set().union(*(read_manifest(path.parent)["sample_id"] for path in manifests(root)))


def _uploads(database: Database, what: str) -> list[dict[str, Any]]:
    """The detections of this id, or of this file, that the service has had: also those whose media have gone, or that were erased."""
    from feedback.tables import DETECTIONS

    with database.read() as connection:
        found = connection.execute(DETECTIONS.select().where((DETECTIONS.c.id == what) | (DETECTIONS.c.sha256 == what)))
        return [dict(row) for row in found.mappings()]


def _file_of(root: Path, database: Database, what: str) -> str:
    """The sha256 of the file of an upload. Raises WorkspaceError where there is none of this name."""
    uploads = _uploads(database, what)
    if not uploads:
        raise _unknown(root, what)
    return str(uploads[0]["sha256"])


def _unknown(root: Path, what: str) -> WorkspaceError:
    refuse_absent(root, NOTHING_ERASED)  # one of these may have it
    why = f"no upload and no sample of the batches is called {what!r}"
    return WorkspaceError(
        "Nothing was erased.", why=why, next_step="Give a detection's id, or a sample's sha256 in full: `sha256sum FILE` says it, and the manifest."
    )
