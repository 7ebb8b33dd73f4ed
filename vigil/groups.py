"""The verbs of groups: batches, models, users and keys. Rooms are imported inside the verb that needs them, as in vigil/main.py."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vigil.options import JsonOption, Who, Why, WorkspaceOption, emit, goes_on, listing, root_of, settings_of

batches_app = typer.Typer(help="List batches; show one; accept, hold or drop one, with who and why.", no_args_is_help=False)
models_app = typer.Typer(help="List models; roll back, compare two, import or bootstrap a first one, override a gate.", no_args_is_help=False)
users_app = typer.Typer(help="List accounts; make one (the first admin too), change role, disable, unlock, set a password.", no_args_is_help=False)
keys_app = typer.Typer(help="List API keys; make one, revoke one.", no_args_is_help=False)
NOTICED = "A service that is running takes notice within five seconds."


class RoleName(StrEnum):
    """What an account may do; each may do all that the one before may."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    ENGINEER = "engineer"
    ADMIN = "admin"


@listing(batches_app)
def batches_list(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List batches with their state, who decided and why."""
    if goes_on(context, workspace, as_json):
        return
    from vigil.reading import batch_rows, render_table

    rows = batch_rows(root_of(workspace))
    emit(rows, render_table(rows) if rows else "No batches yet. Next: vigil ingest MEDIA", as_json)


@batches_app.command("show")
def batches_show(batch: str, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show what came in with a batch, what was put aside and why, what became of it, and which models learned from it."""
    from vigil.batches import batch_page, render_batch

    page = batch_page(root_of(workspace), batch)
    emit(page, render_batch(page), as_json)


def _set_batch(batch: str, state: str, who: str, why: str, workspace: Path | None, again: bool = False) -> None:
    from vigil.deciding import set_batch_state

    print(set_batch_state(root_of(workspace), batch, state, who, why, again))


@batches_app.command("accept")
def batches_accept(batch: str, who: Who, why: Why, workspace: WorkspaceOption = None) -> None:
    """Let a new, held or deferred batch into training from the next cycle on. Gates `label noise` and `drift` do not ask about it again: you have."""
    _set_batch(batch, "accepted", who, why, workspace)


@batches_app.command("hold")
def batches_hold(batch: str, who: Who, why: Why, workspace: WorkspaceOption = None) -> None:
    """Keep a batch out until a person decides. Of an unfinished cycle that judges it: the cycle is held, and the next `vigil retrain` ends it."""
    _set_batch(batch, "held", who, why, workspace)


@batches_app.command("drop")
def batches_drop(
    batch: str,
    who: Who,
    why: Why,
    again: Annotated[bool, typer.Option("--again", help="Let the next ingest take in what it holds, as its source says it by then.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Keep a batch out for good; its files stay versioned."""
    _set_batch(batch, "dropped", who, why, workspace, again)


@listing(models_app)
def models_list(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List models: which one serves, which came before, which were held."""
    if goes_on(context, workspace, as_json):
        return
    from vigil.reading import model_rows, render_table

    rows = model_rows(root_of(workspace))
    emit(rows, render_table(rows) if rows else "No models yet. Next: vigil retrain", as_json)


@models_app.command("rollback")
def models_rollback(
    who: Who,
    why: Why,
    to: Annotated[str, typer.Option("--to", help="The cycle whose model serves again; else the previous champion.")] = "",
    instead_of: Annotated[str, typer.Option("--instead-of", help="Only while this cycle's model is champion; refused where another leads.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Serve an earlier champion again, at once."""
    from vigil.deciding import roll_back

    root = root_of(workspace)
    print(roll_back(root, settings_of(root), to, who, why, instead_of))


@models_app.command("bootstrap")
def models_bootstrap(who: Who, why: Why, workspace: WorkspaceOption = None) -> None:
    """Make the last model that was judged the first champion though gates hold it. Only where there is none yet; journalled with your name."""
    from vigil.deciding import bootstrap_first

    root = root_of(workspace)
    print(bootstrap_first(root, settings_of(root), who, why))


@models_app.command("import")
def models_import(
    source: Annotated[Path, typer.Argument(help="A model folder of Vigil, its model.safetensors, or an ONNX file of any detector (docs/import.md).")],
    who: Who,
    why: Why,
    words: Annotated[
        list[str] | None,
        typer.Option("--set", help="How an ONNX file wants to be asked, KEY=VALUE: says=p_fake, mean=[0.5,0.5,0.5]. May be repeated.", show_default=False),
    ] = None,
    card: Annotated[Path | None, typer.Option(help="The same keys in a YAML or JSON file.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model that was made elsewhere as the first champion; later ones come through the gates."""
    from vigil.importing import import_model, render_import

    root = root_of(workspace)
    found = import_model(root, settings_of(root), source, words or [], card, who, why)
    emit(found, render_import(found), as_json)


@models_app.command("diff")
def models_diff(
    cycles: Annotated[list[str] | None, typer.Argument(help="Two cycles, or `champion` and `previous`; else previous and champion.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What two models learned from, how they were set, and how each did."""
    from vigil.differences import diff_models, names_of, render_diff

    root = root_of(workspace)
    page = diff_models(root, *names_of(root, cycles or []))
    emit(page, render_diff(page), as_json)


@models_app.command("override")
def models_override(
    gate: Annotated[str, typer.Argument(help="The gate's name, as the report shows it before a colon.")],
    who: Who,
    why: Why,
    days: Annotated[int, typer.Option("--days", min=1, max=31, help="For so long.")] = 7,
    workspace: WorkspaceOption = None,
) -> None:
    """Let cycles pass though one gate holds them, for some days. Journalled with your name."""
    from vigil.deciding import override_gate

    print(override_gate(root_of(workspace), gate, who, why, days))


UserName = Annotated[str, typer.Argument(help="User name, or e-mail.")]


@listing(users_app)
def users_list(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List accounts with role and state."""
    if goes_on(context, workspace, as_json):
        return
    from vigil.people import user_rows
    from vigil.reading import render_table

    root = root_of(workspace)
    rows = user_rows(root, settings_of(root))
    emit(rows, render_table(rows) if rows else "No accounts yet. Next: vigil users add NAME --email ADDRESS --role admin", as_json)


@users_app.command("add")
def users_add(
    user_name: Annotated[str, typer.Argument(help="3 to 32 letters, digits, dots, dashes or underscores.")],
    email: Annotated[str, typer.Option(help="E-mail address.")],
    name: Annotated[str, typer.Option(help="The person's name.", show_default="the user name")] = "",
    role: Annotated[RoleName, typer.Option(help="What the account may do.")] = RoleName.VIEWER,
    workspace: WorkspaceOption = None,
) -> None:
    """Make an account. The password is asked for, or read from stdin."""
    from vigil.people import add_user, ask_password

    root = root_of(workspace)
    settings = settings_of(root)
    add_user(root, settings, user_name, name, email, role.value, ask_password())
    print(f"{user_name} can log in as {role.value}.")


def _govern(workspace: Path | None, user_name: str, told: str, **change: Any) -> None:
    """Change an account, and say what it is now."""
    from vigil.people import govern_user

    root = root_of(workspace)
    govern_user(root, settings_of(root), user_name, **change)
    print(f"{user_name} {told}")


@users_app.command("role")
def users_role(user_name: UserName, role: RoleName, workspace: WorkspaceOption = None) -> None:
    """Change what an account may do. The last admin stays one."""
    _govern(workspace, user_name, f"is now {role.value}.", role=role.value)


@users_app.command("disable")
def users_disable(user_name: UserName, workspace: WorkspaceOption = None) -> None:
    """End an account's sessions and let nobody log in to it."""
    _govern(workspace, user_name, f"is disabled. {NOTICED}", disabled=True)


@users_app.command("enable")
def users_enable(user_name: UserName, workspace: WorkspaceOption = None) -> None:
    """Let a disabled account log in again."""
    _govern(workspace, user_name, "is enabled.", disabled=False)


@users_app.command("unlock")
def users_unlock(user_name: UserName, workspace: WorkspaceOption = None) -> None:
    """End a lock-out after wrong passwords."""
    _govern(workspace, user_name, "is not locked.", unlock=True)


@users_app.command("password")
def users_password(user_name: UserName, workspace: WorkspaceOption = None) -> None:
    """Set a password; every session of the account ends. It is asked for, or read from stdin."""
    from vigil.people import ask_password, set_password

    root = root_of(workspace)
    settings = settings_of(root)
    set_password(root, settings, user_name, ask_password("New password: "))
    print(f"{user_name} has a new password.")


@listing(keys_app)
def keys_list(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List API keys: whose, how they begin, when they were last used. Never their text."""
    if goes_on(context, workspace, as_json):
        return
    from vigil.people import key_rows
    from vigil.reading import render_table

    root = root_of(workspace)
    rows = key_rows(root, settings_of(root))
    emit(rows, render_table(rows) if rows else "No keys yet. Next: vigil keys add USER_NAME --name WHAT_FOR", as_json)


@keys_app.command("add")
def keys_add(
    user_name: UserName, name: Annotated[str, typer.Option(help="What it is for.")], workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Make a key of an account; its text is printed this once."""
    from vigil.people import add_key

    root = root_of(workspace)
    made = add_key(root, settings_of(root), user_name, name)
    emit(made, made["key"], as_json)


@keys_app.command("revoke")
def keys_revoke(key: Annotated[str, typer.Argument(help="Its id, how it begins, or what it is called.")], workspace: WorkspaceOption = None) -> None:
    """End a key."""
    from vigil.people import revoke_key

    root = root_of(workspace)
    revoke_key(root, settings_of(root), key)
    print(f"{key} is revoked. {NOTICED}")
