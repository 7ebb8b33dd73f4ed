import shutil
from pathlib import Path

import pytest

from media.networks import FOLDER, MESH_FILE, SHA256, WHEEL
from workspace import wheels
from workspace.errors import ModelFileError

PATH = f"{FOLDER}/{MESH_FILE}"


def test_the_content_is_that_of_the_published_file():
    assert wheels.published(WHEEL, PATH, SHA256[MESH_FILE], "The networks")[4:8] == b"TFL3"


def test_one_changed_byte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = wheels.file_of_wheel(WHEEL, PATH)
    assert found is not None
    changed = Path(shutil.copyfile(found, tmp_path / MESH_FILE))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(wheels, "file_of_wheel", lambda wheel, path: changed)
    with pytest.raises(ModelFileError, match=r"Refused .*Nothing was loaded") as refusal:
        wheels.published(WHEEL, PATH, SHA256[MESH_FILE], "The networks")
    assert "make clean setup" in refusal.value.next_step


@pytest.mark.parametrize(("wheel", "path"), [("a-wheel-that-nobody-installs", PATH), (WHEEL, f"{FOLDER}/no-such-file"), (WHEEL, FOLDER)])
def test_what_is_missing_is_named_with_a_way_out(wheel: str, path: str):
    with pytest.raises(ModelFileError, match="The networks are not installed") as refusal:
        wheels.published(wheel, path, SHA256[MESH_FILE], "The networks", "; or go without")
    assert path in refusal.value.why and wheel in refusal.value.why and refusal.value.next_step.endswith("; or go without.")


def test_a_file_that_cannot_be_read_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wheels, "file_of_wheel", lambda wheel, path: tmp_path)  # a folder opens no better than a file of another's
    with pytest.raises(ModelFileError, match="Cannot read"):
        wheels.published(WHEEL, PATH, SHA256[MESH_FILE], "The networks")
