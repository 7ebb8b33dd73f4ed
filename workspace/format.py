"""The format of a workspace: one whole number in its params.yaml, and the word to a person whose program and workspace do not fit.

The number travels with the workspace's git, and a Vigil from before it existed refuses the key as one that it does not know. It is
raised when an older Vigil could no longer use a workspace, or this one not an older workspace; what then has to change: workspace/upgrade.py.
"""

import re
from pathlib import Path

from workspace.errors import WorkspaceError

FORMAT = 2  # 1: the first workspaces, which name no format
KEY = r"""^(?:format|"format"|'format')[ \t]*:"""  # as YAML lets it be written
LINE = re.compile(rf"{KEY}[ \t]*(\d+)[ \t]*(?:#.*)?$", re.MULTILINE)
NAMED = re.compile(KEY, re.MULTILINE)


def format_of(params: Path) -> int:
    """The format that a params.yaml names; 1 where it names none. Cheap: no YAML is parsed."""
    found = LINE.search(params.read_text(encoding="utf-8", errors="replace"))
    return int(found[1]) if found else 1


def refuse_other_format(params: Path) -> None:
    """Raise WorkspaceError unless the workspace of this params.yaml has this program's format.

    A file that is no settings of any Vigil (empty, or a list, or of a format that is no number) passes: who reads it says what is wrong with it.
    """
    found, text = format_of(params), params.read_text(encoding="utf-8", errors="replace")
    if found < FORMAT and ("profile" not in text or (NAMED.search(text) and not LINE.search(text))):  # every format asks for a profile
        return
    if found < FORMAT:
        raise WorkspaceError(
            f"{params.parent} was made by an older Vigil. Nothing was changed.",
            why=f"its format is {found}, this Vigil uses {FORMAT}",
            next_step="Run `vigil upgrade --dry-run` to see what would change, then `vigil upgrade`.",
        )
    if found > FORMAT:
        raise WorkspaceError(
            f"{params.parent} was made by a newer Vigil. Nothing was changed.",
            why=f"its format is {found}, this Vigil knows formats up to {FORMAT}",
            next_step="Use the newer Vigil, or check out an older state of the workspace (`git tag` lists them).",
        )
