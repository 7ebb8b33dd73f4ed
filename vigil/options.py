"""What several verbs share: options by name, the workspace that is meant, and how an answer is printed."""

import json as jsonlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from vigil.ending import works_in

if TYPE_CHECKING:
    from workspace.settings import Settings

HELD = 3
Verb = TypeVar("Verb", bound=Callable[..., None])
WorkspaceOption = Annotated[Path | None, typer.Option("--workspace", "-w", help="The workspace; else the one around the current folder.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="What the source's own label means, e.g. --label 1=fake --label 0=real.", show_default=False)]
Columns = Annotated[list[str] | None, typer.Option("--column", help="What a table calls a column, e.g. --column path=filename.", show_default=False)]


def storable(words: str) -> str:
    """What a terminal gives that is no UTF-8 as text that can be stored."""
    from pipelines.layouts.found import as_text

    return as_text(words)


Who = Annotated[str, typer.Option("--who", help="Who decides.", callback=storable)]
Why = Annotated[str, typer.Option("--why", help="The reason, for the journal.", callback=storable)]


def root_of(workspace: Path | None) -> Path:
    """The root of the workspace that was named, or of the one around the current folder. Raises WorkspaceError where there is none."""
    from workspace.layout import require_workspace

    root = require_workspace(workspace or Path.cwd()).root
    works_in(root)
    return root


def goes_on(context: typer.Context, workspace: Path | None, as_json: bool) -> bool:
    """Whether a subcommand follows, which has options of its own. Raises a usage error for those in front of it, which it would not see."""
    if context.invoked_subcommand and (workspace is not None or as_json):
        raise typer.BadParameter(f"-w and --json go behind the subcommand: `{context.command_path} {context.invoked_subcommand} ... -w WORKSPACE`")
    return bool(context.invoked_subcommand)


def listing(group: typer.Typer) -> Callable[[Verb], Verb]:
    """Let a verb list what its subcommands are about: bare, and as subcommand `list`."""

    def registered(verb: Verb) -> Verb:
        group.callback(invoke_without_command=True)(verb)
        return group.command("list")(verb)

    return registered


def settings_of(root: Path) -> "Settings":
    """Of a workspace. Raises SettingsError."""
    from workspace.settings import load_settings

    return load_settings(root / "params.yaml")


def emit(value: Any, text: str, as_json: bool) -> None:
    """Print an answer, for people or for programs: those in ASCII, which is JSON in whatever letters the output has."""
    print(jsonlib.dumps(value, indent=1, default=str) if as_json else text)
