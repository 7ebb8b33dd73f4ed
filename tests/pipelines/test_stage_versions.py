"""A stage whose code changed must say whether its results changed: its number in params.yaml is what DVC sees of the code.

`python -m tests.pipelines.test_stage_versions` records the code as it stands, for a change that leaves every result as it
was, or after the number in params.yaml was raised. Comments, docstrings and layout do not count.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.commands import STANDS_FOR, telling_versions
from workspace.files import parse_yaml
from workspace.settings import STAGES

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("stage_code.json")
ROOMS = ("pipelines", "model", "media")  # what decides a result; workspace/ only carries it


def module_path(name: str) -> Path | None:
    """The file of a module of ours, None for anything else."""
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of ours that a file names, those imported inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ROOMS and module_path(name))


@cache
def read(path: Path) -> tuple[str, list[str]]:
    """What a file means, and the modules of ours that it names; most stages share most files."""
    source = path.read_text(encoding="utf-8")
    return meaning(source), list(imported(ast.parse(source)))


def meaning(source: str) -> str:
    """The code without comments, layout and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def code_of(stage: str) -> str:
    """A hash of the stage's module and of all that it imports from the rooms that decide results."""
    waiting, found = [f"pipelines.{stage}"], {}
    while waiting:
        name = waiting.pop()
        path = module_path(name)
        if name in found or path is None:
            continue
        found[name], named = read(path)
        waiting += named
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()[:16]


def present(stage: str) -> dict[str, object]:
    """The stage's number and code, as they are now."""
    return {"version": parse_yaml((ROOT / "params.yaml").read_text())["stage_versions"][stage], "code": code_of(stage)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_changed_stage_has_a_raised_number_or_was_looked_at(stage: str) -> None:
    recorded, now = json.loads(RECORD.read_text())[stage], present(stage)
    assert now == recorded, (
        f"the code behind stage `{stage}` changed. If its result may differ, raise stage_versions.{stage} in params.yaml; "
        "then, or if no result changes, record it: python -m tests.pipelines.test_stage_versions"
    )


def test_comments_do_not_count_and_code_does() -> None:
    plain = 'def f(x):\n    "what"\n    return x + 1\n'
    assert meaning(plain) == meaning('def f(x):\n    "other words"\n    # why\n    return (x + 1)\n') != meaning(plain.replace("1", "2"))


def test_a_stage_sees_what_its_helpers_import() -> None:
    """The backbone is four imports away from the stage that trains it."""
    found, waiting = set(), ["pipelines.pretrain"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imported(ast.parse(module_path(name).read_text()))
    assert {"model.backbones", "model.losses"} <= found and "pipelines.gate" not in found


def test_what_was_measured_stands_for_later_versions_only_where_they_are_named() -> None:
    now = parse_yaml((ROOT / "params.yaml").read_text())["stage_versions"]
    for (stage, version), (earlier, why) in STANDS_FOR.items():
        assert earlier < version <= now[stage] and why
        assert telling_versions({stage: version}) == telling_versions({stage: earlier}) != telling_versions({stage: now[stage] + 1})


if __name__ == "__main__":
    RECORD.write_text(json.dumps({stage: present(stage) for stage in STAGES}, indent=1) + "\n", encoding="utf-8")
    print(f"recorded {len(STAGES)} stages in {RECORD.relative_to(ROOT)}")
