"""docs/settings.md, made from the settings themselves; a test holds the page against the code.

`python -m workspace.settings_docs` prints the page.
"""

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from workspace.blocks import Block
from workspace.profiles import project_root
from workspace.settings import PluginSettings, Settings, SourceSettings

ENTRIES: dict[str, type[Block]] = {"ingest.sources": SourceSettings, "forge.plugins": PluginSettings}  # lists of blocks: a table each

INTRODUCTION = """# Settings

Every key of a workspace's `params.yaml`. The values shown are those of the profile `full`, which `params.yaml` of the project holds; `vigil init --profile
small|demo` lays its differences over them, and `--print-params` shows what a new workspace gets. (A key that is taken out of `params.yaml` falls back to a
default of the code, which may be another; one that a stage of dvc.yaml names is missed by the next cycle, and `vigil upgrade` adds it.) Unknown keys,
wrong types and combinations that cannot be are refused, all of them in one message. This page is made by `python -m workspace.settings_docs`.
"""


def settings_table() -> str:
    """The whole page, as Markdown: one table a block with key, type, default and description."""
    full = yaml.safe_load((project_root() / "params.yaml").read_text(encoding="utf-8"))
    parts = [INTRODUCTION, _table("The file", "", _plain(Settings), Settings.__doc__ or "", full)]
    for name, field in Settings.model_fields.items():
        block = _block(field)
        if block is not None:
            key = str(field.alias or name)
            parts.append(_table(f"`{key}`", f"{key}.", list(_rows(block)), block.__doc__ or "", full))
            parts += [
                _table(f"One entry of `{place}`", "", list(_rows(entry)), entry.__doc__ or "", {})
                for place, entry in ENTRIES.items()
                if place.startswith(f"{key}.")
            ]
    return "\n".join(parts)


def _plain(block: type[Block]) -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in _rows(block, nested=False) if _block(field) is None]


def _rows(block: type[Block], at: str = "", nested: bool = True) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in block.model_fields.items():
        inner = _block(field)
        if inner is not None and nested:
            yield from _rows(inner, f"{at}{field.alias or name}.")
        else:
            yield f"{at}{field.alias or name}", field


def _block(field: FieldInfo) -> type[Block] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Block) else None


def _table(title: str, at: str, rows: list[tuple[str, FieldInfo]], text: str, full: dict[str, Any]) -> str:
    lines = [f"## {title}", "", text.strip(), "", f"| key | type | {'`full`' if full else 'default'} | description |", "|---|---|---|---|"]
    for key, field in rows:
        value = _cell(_value(field, f"{at}{key}", full))
        lines.append(f"| `{at}{key}` | {_type(field.annotation)}{_limits(field)} | {value} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def _type(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{value}`" if value != "" else "empty" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(item) for item in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}" if inner[-1] is Ellipsis else f"{len(inner)} of {_type(inner[0])}"
    if origin is dict:
        return f"mapping of {_type(inner[0])} to {_type(inner[1])}"
    if origin is not None and inner:
        return _type(inner[0])
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", types.NoneType: "null"}
    names |= {entry: f"{place.rpartition('.')[2]} (below)" for place, entry in ENTRIES.items()}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _limits(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found: list[str] = []
    for item in field.metadata:
        for part in [item, *getattr(item, "metadata", [])]:
            bounds = [(sign, getattr(part, name, None)) for name, sign in signs.items()]
            found += [f"{sign} {bound:{'d' if isinstance(bound, int) else 'g'}}" for sign, bound in bounds if bound is not None]
    return f" ({', '.join(dict.fromkeys(found))})" if found else ""


def _value(field: FieldInfo, place: str, full: dict[str, Any]) -> str:
    """What the profile `full` has at a place, else the code's default."""
    found: Any = full
    for name in place.split("."):
        if not isinstance(found, dict) or name not in found:
            return "required" if field.is_required() else _written(field.get_default(call_default_factory=True))
        found = found[name]
    return _written(tuple(found) if isinstance(found, list) else found)


def _written(value: Any) -> str:
    if value is None:
        return "`null`"  # as YAML writes it
    if isinstance(value, float):
        return f"`{value:.6g}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f"{item:.6g}" if isinstance(item, float) else str(item) for item in value) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value not in ("", {}) else "empty"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(settings_table(), end="")
