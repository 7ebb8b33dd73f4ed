"""Networks of the literature as frame encoders: their maps, their size, and that gradients reach their first layer."""

import pytest
import torch

from model.backbones import build_backbone, feature_shape
from model.network import ResNeXtLSTM
from model.rivals import Clip3D
from workspace.settings import ModelSettings


@pytest.mark.parametrize(
    ("name", "size", "shape", "millions"),
    [
        ("meso4", 64, (16, 2), 0.0115),
        ("xception", 64, (2048, 2), 20.8),
        ("efficientnet_lite0", 64, (112, 4), 0.70),
        ("swin_t", 64, (768, 2), 27.5),
        ("vit_b_16", 64, (768, 4), 85.7),
    ],
)
def test_the_map_and_the_size_are_those_of_the_paper(name: str, size: int, shape: tuple[int, int], millions: float) -> None:
    encoder = build_backbone(name, "", size)
    assert feature_shape(encoder, size) == shape
    assert sum(parameter.numel() for parameter in encoder.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)


@pytest.mark.parametrize("name", ["meso4", "efficientnet_lite0", "swin_t"])
def test_the_whole_network_learns_with_it(name: str) -> None:
    torch.manual_seed(0)
    network = ResNeXtLSTM(ModelSettings(backbone=name, lstm_hidden=8), 64)
    network(torch.rand(2, 3, 3, 64, 64)).square().sum().backward()
    first = next(network.backbone.parameters()).grad
    assert first is not None and float(first.abs().sum()) > 0


def test_a_3d_network_reads_time() -> None:
    torch.manual_seed(0)
    network = Clip3D(ModelSettings(), 32).eval()
    clip = torch.rand(1, 6, 3, 32, 32)
    with torch.no_grad():
        assert network(clip).shape == (1,) and network.frame_logits(clip[0]).shape == (6,)
        assert not torch.allclose(network(clip), network(clip[:, torch.tensor([3, 0, 5, 1, 4, 2])]), atol=1e-5)


@pytest.mark.parametrize("kind", [ResNeXtLSTM, Clip3D])
def test_a_3d_network_sees_no_more_pixels_than_the_others(kind: type[torch.nn.Module]) -> None:
    """With `model.shrink` it was shown frames of the full size, and compared with networks that were not."""
    network, clip = kind(ModelSettings(backbone="resnext_tiny", lstm_hidden=8, shrink=2), 64).eval(), torch.rand(1, 2, 3, 64, 64)
    with torch.no_grad():
        shrunk = network(clip)
        network.settings = network.settings.model_copy(update={"shrink": 1})
        assert torch.allclose(shrunk, network(torch.nn.functional.avg_pool2d(clip[0], 2)[None]), atol=1e-6)
