"""Published backbone weights: fetched once, checked by hash, and where they cannot be had that is said."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

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


@contextmanager
def serving(bodies: Iterator[bytes], length: int) -> Iterator[str]:
    """The address of a server that says `length` bytes come, and sends the next body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(next(bodies))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def first(network: torch.nn.Module) -> torch.Tensor:
    return next(network.parameters())


def test_published_weights_are_fetched_once(published: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, state = published
    assert torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])
    path.unlink()
    assert torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])


def test_offline_it_says_that_it_starts_from_scratch(published: tuple[Path, dict[str, torch.Tensor]], capsys: pytest.CaptureFixture[str]) -> None:
    path, state = published
    assert not backbones.at_hand("resnet18", "IMAGENET1K_V1") and torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])
    assert backbones.at_hand("resnet18", "IMAGENET1K_V1") and backbones.at_hand("efficientnet_lite0", "IMAGENET1K_V1")
    shutil.rmtree(torch.hub.get_dir())
    path.unlink()
    assert not torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])
    assert "random weights instead" in capsys.readouterr().err and not backbones.at_hand("resnet18", "IMAGENET1K_V1")


def test_a_file_that_lies_there_and_is_not_the_published_one_is_refused(published: tuple[Path, dict[str, torch.Tensor]]) -> None:
    build_backbone("resnet18", "IMAGENET1K_V1")
    path = Path(torch.hub.get_dir()) / "checkpoints" / published[0].name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelFileError, match="Refused"):
        build_backbone("resnet18", "IMAGENET1K_V1")


def test_what_came_short_or_wrong_is_not_kept_and_is_fetched_again(
    published: tuple[Path, dict[str, torch.Tensor]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A connection that was cut left a short file under the final name: refused in every later cycle, until a person deleted it."""
    path, state = published
    content = path.read_bytes()
    monkeypatch.setenv("no_proxy", "*")
    bodies = iter((content[:100000], content[:-1] + b"x", content))
    with serving(bodies, len(content)) as address:
        monkeypatch.setattr(backbones, "_address", lambda name, weights: f"{address}/{path.name}")
        for _ in range(2):
            assert not torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])
            assert "could not be fetched" in capsys.readouterr().err
            assert not list((Path(torch.hub.get_dir()) / "checkpoints").iterdir())
        assert torch.equal(first(build_backbone("resnet18", "IMAGENET1K_V1")), state["conv1.weight"])


def test_weights_of_another_shape_are_one_clear_error(published: tuple[Path, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(ModelFileError, match="224 px") as refusal:
        build_backbone("resnet34", "IMAGENET1K_V1", 224)
    assert "size_px" in refusal.value.next_step


@pytest.mark.parametrize(("name", "weights", "words"), [("resnet18", "IMAGENET9", "IMAGENET1K_V1"), ("resnext_tiny", "IMAGENET1K_V1", "networks written here")])
def test_weights_that_nobody_publishes_are_refused_with_those_that_are(name: str, weights: str, words: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        build_backbone(name, weights)
    assert words in str(refusal.value)


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v3_small", "densenet121", "vit_b_16"])
def test_a_file_of_torchvisions_whole_classifier_is_a_start_whatever_its_head(tmp_path: Path, name: str) -> None:
    """Of all but resnets and Swin it was refused: only the names of the encoder that is left of the classifier were looked for."""
    sized, path = {"image_size": 64} if name.startswith("vit_") else {}, tmp_path / "start.safetensors"
    state = torchvision.models.get_model(name, weights=None, num_classes=2, **sized).state_dict()
    save_file(state, path)
    encoder = build_backbone(name, str(path), 64).state_dict()
    path.unlink()  # a ViT's is large
    assert len(encoder) > 50
    for key, tensor in encoder.items():
        theirs = next(whole for whole in (key, f"features.{key}", key.removeprefix("vit.")) if whole in state)
        assert torch.equal(tensor, state[theirs]), key


def test_a_file_of_the_encoder_alone_is_a_start_too_and_one_that_lacks_a_tensor_is_none(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    state = build_backbone("mobilenet_v3_small").state_dict()
    save_file(state, path)
    again = build_backbone("mobilenet_v3_small", str(path)).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in state.items())
    for prefix in ("", "features."):
        save_file({prefix + key: tensor for key, tensor in state.items() if key != "0.0.weight"}, path)
        with pytest.raises(ModelFileError, match=r"1 tensors of mobilenet_v3_small are not in it, 0\.0\.weight first") as refusal:
            build_backbone("mobilenet_v3_small", str(path))
        assert "the state_dict of torchvision" in refusal.value.next_step and "model.weights" in refusal.value.next_step


def test_torchvision_names_its_files_as_we_read_them() -> None:
    assert torch.hub.HASH_REGEX.search(backbones._address("resnext50_32x4d", "IMAGENET1K_V2").rsplit("/", 1)[-1])
