"""Logged requests answered again by another model: the differences are told, and nothing that was answered changes."""

import shutil
from pathlib import Path

import pytest

from feedback.database import Database
from feedback.keep import MediaStore
from feedback.shadow import replay
from feedback.tables import MEDIA
from model.card import load_card, write_card
from tests.feedback.conftest import Service
from workspace.errors import ModelFileError
from workspace.settings import Settings


@pytest.fixture
def sure(models: tuple[Path, Path], tmp_path: Path) -> Path:
    """A model that calls everything fake."""
    folder = Path(shutil.copytree(models[1], tmp_path / "sure"))
    write_card(folder, load_card(folder).model_copy(update={"temperature": 1.0, "threshold": 1e-9, "abstain": 0.0}))
    return folder


def test_a_model_that_answers_otherwise_is_told_request_by_request(
    service: Service, root: Path, settings: Settings, models: tuple[Path, Path], sure: Path, clip: bytes, picture: bytes
) -> None:
    answers = [service.detect(clip).json(), service.detect(picture, "face.jpg").json(), service.detect(b"\x89PNG\r\n\x1a\nnothing", "no.png").json()]
    assert [answer["verdict"] for answer in answers] == ["uncertain", "uncertain", "none"]
    same = replay(root, settings, models[0], 20)
    assert (same["asked"], same["answered"], same["changed"], same["mean_difference"]) == (2, 2, 0, 0.0), "what got no score is not asked again"
    other = replay(root, settings, sure, 20)
    assert (other["asked"], other["changed"]) == (2, 2) and 0 < other["mean_difference"] <= 0.5
    assert {row["detection"] for row in other["largest"]} == {answer["id"] for answer in answers[:2]}
    assert all((row["was"], row["verdict"], row["p_was"]) == ("uncertain", "fake", 0.5) for row in other["largest"])
    assert replay(root, settings, sure, 1)["largest"][0]["detection"] == answers[1]["id"], "the newest first"
    assert [service.client.get(f"/v1/detections/{answer['id']}").json()["verdict"] for answer in answers] == ["uncertain", "uncertain", "none"]
    database = Database(root, settings)
    with database.write() as connection:
        connection.execute(MEDIA.update().values(state="quarantined"))
    assert replay(root, settings, sure, 20)["changed"] == 2, "most fakes are in quarantine within the hour"
    lost = MediaStore(root, settings)
    lost.delete(answers[0]["sha256"])
    gone = replay(root, settings, models[0], 20)
    assert (gone["asked"], gone["answered"], gone["not_opened"], gone["changed"]) == (2, 1, 1, 0), "a lost file says nothing about the model"
    assert [row["detection"] for row in gone["largest"]] == [answers[1]["id"], answers[0]["id"]] and gone["largest"][1]["reason"]
    with database.write() as connection:
        connection.execute(MEDIA.update().where(MEDIA.c.sha256 == answers[0]["sha256"]).values(state="deleted"))
    database.close()
    assert replay(root, settings, sure, 20)["asked"] == 1, "deleted media are not asked for"


def test_nothing_was_asked_yet(root: Path, settings: Settings, sure: Path) -> None:
    assert replay(root, settings, sure, 20) == {"asked": 0, "answered": 0, "not_opened": 0, "changed": 0, "mean_difference": None, "largest": []}


def test_a_model_with_changed_files_answers_nothing(service: Service, root: Path, settings: Settings, sure: Path, picture: bytes) -> None:
    service.detect(picture, "face.jpg")
    with open(sure / "model.onnx", "ab") as handle:
        handle.write(b"!")
    with pytest.raises(ModelFileError):
        replay(root, settings, sure, 20)
