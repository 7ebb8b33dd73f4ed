"""Finding a workspace, and telling one from the project's own code."""

import pytest

from workspace.errors import WorkspaceError
from workspace.layout import Workspace, find_workspace, is_code_checkout, refuse_code_checkout, require_workspace
from workspace.profiles import project_root


def make_workspace(root):
    (root / ".vigil").mkdir(parents=True)
    (root / "params.yaml").write_text("format: 2\nprofile: demo\n", encoding="utf-8")
    return root


def test_a_workspace_is_found_from_any_folder_in_it(tmp_path):
    root = make_workspace(tmp_path / "w")
    deep = root / "data" / "raw" / "b1"
    deep.mkdir(parents=True)
    assert find_workspace(deep) == find_workspace(root) == require_workspace(deep) == Workspace(root)


def test_the_nearest_of_two_nested_workspaces_counts(tmp_path):
    make_workspace(tmp_path / "w")
    inner = make_workspace(tmp_path / "w" / "inner")
    assert find_workspace(inner / "data").root == inner


def test_a_folder_that_is_not_there_is_not_the_workspace_round_it(tmp_path):
    """`vigil score -w w/models/2026-W40.1` after that model was swept away is no question to the champion."""
    root = make_workspace(tmp_path / "w")
    for start in (root / "models" / "2026-W40.1", root / "params.yaml" / "x"):
        with pytest.raises(WorkspaceError, match=r"(?s)There is no .*mistake in the name"):
            require_workspace(start)


@pytest.mark.parametrize("missing", ["params.yaml", ".vigil"])
def test_half_a_workspace_is_none(tmp_path, missing):
    root = make_workspace(tmp_path / "w")
    (root / missing).unlink() if missing == "params.yaml" else (root / missing).rmdir()
    assert find_workspace(root) is None
    with pytest.raises(WorkspaceError, match="vigil init"):
        require_workspace(root)


def test_the_code_checkout_is_refused_even_when_it_looks_like_a_workspace(tmp_path):
    root = make_workspace(tmp_path / "code")
    (root / "pyproject.toml").write_text('[project]\nname = "vigil"\n', encoding="utf-8")
    with pytest.raises(WorkspaceError, match="is the code of Vigil"):
        require_workspace(root)
    with pytest.raises(WorkspaceError, match="is the code of Vigil"):
        refuse_code_checkout(root)


def test_this_very_checkout_is_refused():
    assert is_code_checkout(project_root())
    with pytest.raises(WorkspaceError, match="is the code of Vigil"):
        require_workspace(project_root())


@pytest.mark.parametrize("text", ["", "[project", '[project]\nname = "another"\n', "project = 3"])
def test_another_project_may_hold_a_workspace(tmp_path, text):
    root = make_workspace(tmp_path / "w")
    (root / "pyproject.toml").write_text(text, encoding="utf-8")
    assert require_workspace(root).root == root


def test_the_paths_are_those_of_the_tree_and_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = Workspace("w")
    assert [space.params, space.cycle, space.pipeline, space.artifacts] == [
        tmp_path / "w" / name for name in ("params.yaml", "cycle.yaml", "dvc.yaml", "mlartifacts")
    ]


def test_a_path_outside_cannot_be_journalled(tmp_path):
    space = Workspace(tmp_path / "w")
    assert space.relative(tmp_path / "w" / "models" / "x") == space.relative("models/x") == "models/x"
    for outside in (tmp_path, "../x", "models/../../x"):
        with pytest.raises(WorkspaceError, match="not in the workspace"):
            space.relative(outside)
