"""Published backbone weights: fetched once, checked by hash, and where they cannot be had that is said."""

from pathlib import Path

import pytest
import torch
import torchvision

from model import backbones
from model.backbones import build_backbone
from workspace.errors import ModelFileError, SettingsError
from workspace.files import sha256_file


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file published in this very folder, its name with its hash, and what it holds; torch's cache is empty."""
    torch.manual_seed(7)
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "file.pth")
    path = (tmp_path / "file.pth").rename(tmp_path / f"resnet18-{sha256_file(tmp_path / 'file.pth')[:8]}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(backbones, "_address", lambda name, weights: path.as_uri())
    return path, state


def first(network: torch.nn.Module) -> torch.Tensor:
    return next(network.parameters())


def test_published_weights_are_fetched_once(published: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, state = published
    assert torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])
    path.unlink()
    assert torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])


def test_offline_it_says_that_it_starts_from_scratch(published: tuple[Path, dict[str, torch.Tensor]], capsys: pytest.CaptureFixture[str]) -> None:
    path, state = published
    path.unlink()
    assert not torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])
    assert "random weights instead" in capsys.readouterr().err


def test_a_file_that_is_not_the_published_one_is_refused(published: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    path, _ = published
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelFileError, match="Refused"):
        build_backbone("resnet18", "IMAGENET1K_V1")


def test_weights_of_another_shape_are_one_clear_error(published: tuple[Path, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(ModelFileError, match="224 px") as refusal:
        build_backbone("resnet34", "IMAGENET1K_V1", 224)
    assert "size_px" in refusal.value.next_step


@pytest.mark.parametrize(("name", "weights", "words"), [("resnet18", "IMAGENET9", "IMAGENET1K_V1"), ("resnext_tiny", "IMAGENET1K_V1", "networks written here")])
def test_weights_that_nobody_publishes_are_refused_with_those_that_are(name: str, weights: str, words: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        build_backbone(name, weights)
    assert words in str(refusal.value)


def test_torchvision_names_its_files_as_we_read_them() -> None:
    assert torch.hub.HASH_REGEX.search(backbones._address("resnext50_32x4d", "IMAGENET1K_V2").rsplit("/", 1)[-1])
