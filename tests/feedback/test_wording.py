"""The words in which the service tells things: what lies where on its machine is not among them."""

from pathlib import Path

import pytest

from feedback.wording import without_root


@pytest.mark.parametrize(("text", "told"), [
    ("/data/models/x is damaged", "models/x is damaged"), ("the disk of /data/.vigil is full: '/data/a b'", "the disk of .vigil is full: 'a b'"),
    ("Cannot use /data.", "Cannot use the workspace."), ("'/data' and /data/ are one", "'the workspace' and the workspace are one"),
    ("/data/x:/data/y", "x:y"), ("sqlite:////data/feedback.db", "sqlite:///feedback.db"), ("file:///data/x", "file://x"),
    (r"'one\n/data/x\r\n/data'", r"'one\nx\r\nthe workspace'"), (r"one\n/mnt/data/x", None),
    ("in /mnt/data/x", None), ("in ./data/x", None), ("s3://bucket/data/x", None), ("http://data/x", None), ("http://data", None),
    ("of /database, /data-2/x and /data.old/x", None),
    ("Refused the model in /model. /model/model.onnx has sha256 1", "Refused the model in model. model/model.onnx has sha256 1"),
    ("http://host//a and /models/x and /srv/model/x and /model.old", None),
])  # fmt: skip
def test_paths_of_the_workspace_and_the_model_are_cut_and_no_others(text: str, told: str | None) -> None:
    """Other paths and addresses lost their middle, and with a model folder below / every address one of its slashes."""
    assert without_root(text, Path("/data"), Path("/model")) == (text if told is None else told)


def test_a_model_in_the_workspace_or_elsewhere_is_called_by_what_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "disk" / "w" / "models" / "m").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    linked, real = tmp_path / "link" / "w", tmp_path / "disk" / "w"
    for root in (linked, real):
        text = f"{root / 'models' / 'm' / 'model.onnx'} is missing"
        assert without_root(text, linked) == without_root(text, linked, linked / "models" / "m") == "models/m/model.onnx is missing"
        assert without_root(text, Path("/elsewhere"), linked / "models" / "m") == "m/model.onnx is missing"
        assert without_root(text, Path("/"), Path("/")) == text
