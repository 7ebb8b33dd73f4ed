"""JSON in which no object names a key twice: of two readers one believes the first and one the last, without a word."""

import json
from typing import Any


class NamedTwice(Exception):
    """An object of the text names a key twice; `name` is the key, the beginning of a long one."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name[:40]!r} is named twice")
        self.name = name[:40]


def loads(content: bytes | str) -> Any:
    """What json.loads gives. Raises NamedTwice, or as it does: ValueError, RecursionError."""
    return json.loads(content, object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise NamedTwice(name)
        found[name] = value
    return found
