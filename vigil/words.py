"""Small words of the command line, read: GENERATOR=2, pattern:REGEX, 1=fake."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import typer

from workspace.errors import DataError


def parse_fakes(words: list[str] | None) -> dict[str, int] | None:
    """`["blendswap=2"]` as a mapping. Raises a usage error."""
    if not words:
        return None
    found = {}
    for word in words:
        name, _, count = word.partition("=")
        if not (count.isascii() and count.isdigit()):  # of a raised two, too, isdigit says yes
            raise typer.BadParameter(f"'{word}' is not GENERATOR=CLIPS_A_PERSON")
        found[name] = int(count)
    _refuse_twice(words, found)
    return found


def parse_identity(word: str) -> dict[str, Any]:
    """The identity rule that a person named; '' is the usual one for what the source turns out to be."""
    if word.startswith("pattern:"):
        return {"rule": "pattern", "pattern": word.removeprefix("pattern:")}
    return {"rule": word}


def parse_labels(words: list[str]) -> dict[str, str]:
    """`["1=fake"]` as a mapping. Raises a usage error."""
    found = {}
    for word in words:
        raw, separator, label = word.rpartition("=")
        if not separator or label not in ("real", "fake", ""):
            raise typer.BadParameter(f"'{word}' is not LABEL=real or LABEL=fake")
        found[raw] = label
    _refuse_twice(words, found)
    return found


def parse_columns(words: list[str]) -> dict[str, str]:
    """`["path=filename"]` as a mapping. Raises a usage error."""
    found = dict(word.partition("=")[::2] for word in words)
    if wrong := next((name for name, theirs in found.items() if not name or not theirs), None):
        raise typer.BadParameter(f"'{wrong}' is not OURS=THEIRS, e.g. path=filename")
    _refuse_twice(words, found)
    return found


def _refuse_twice(words: list[str], found: Collection[str]) -> None:
    """Of a name that is said twice the last word would stand in silence."""
    if len(found) < len(words):
        raise typer.BadParameter(f"one name is said more than once: {', '.join(words)}")


def source_name(path: str, otherwise: str = "") -> str:
    """A short name for a source: its folder or file name in lower case, or `otherwise` where that has no Latin letter and no digit. Raises DataError."""
    if path.startswith("s3://"):
        stem = path.removeprefix("s3://").strip("/").replace("/", "-")
    else:
        there = Path(path).resolve()
        stem = there.name if there.is_dir() else there.parent.name if there.stem == "labels" else there.stem
    name = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:40]
    if not name and not otherwise:
        raise DataError(f"No source name can be made from {path}.", why="it has no letter from a to z and no digit", next_step="Give one with --name.")
    return name or otherwise
