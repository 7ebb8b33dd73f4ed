import ast
import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as tensors_to_bytes
from safetensors.torch import save_file

import model
from model.card import ModelCard, load_card, verify, write_card
from model.checkpoint import load_model, load_tensors, save_model, save_tensors
from tests.model.toys import SIZE, SMALL, face_settings, lively_model
from workspace.errors import ModelFileError
from workspace.files import sha256_bytes, sha256_file


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def test_what_is_loaded_is_what_was_saved(tmp_path):
    ours, x = lively_model(), torch.rand(2, 3, 3, SIZE, SIZE)
    sha = save_model(ours, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors", sha)
    assert sha == sha256_file(tmp_path / "m.safetensors") and again.settings == ours.settings and again.size_px == SIZE and not again.training
    assert torch.equal(again(x), ours(x))


def test_a_checkpoint_with_the_names_of_the_first_models_is_read_as_the_same_network(tmp_path):
    ours, x = lively_model(), torch.rand(2, 3, 3, SIZE, SIZE)
    save_model(ours, tmp_path / "now")
    tensors, info = load_tensors(tmp_path / "now")
    then = {re.sub(r"^temporal(?=[._])", "lstm", name): tensor for name, tensor in tensors.items()}
    assert {name.split(".")[0] for name in then} > {"lstm", "lstm_head"} and not any(name.startswith("temporal") for name in then)
    save_tensors(tmp_path / "then", then, info)
    assert torch.equal(load_model(tmp_path / "then")(x), ours(x))


def test_same_model_same_bytes(tmp_path):
    assert save_model(lively_model(), tmp_path / "a") == save_model(lively_model(), tmp_path / "b", {})
    many = {f"t{n}": torch.full((3,), float(n)) for n in range(20)}
    assert save_tensors(tmp_path / "c", many, {"b": 1, "a": 2}) == save_tensors(tmp_path / "d", dict(reversed(many.items())), {"a": 2, "b": 1})


def test_one_changed_bit_is_refused(tmp_path):
    sha = save_model(lively_model(), tmp_path / "m")
    flip_a_bit(tmp_path / "m")
    with pytest.raises(ModelFileError, match="has changed since"):
        load_model(tmp_path / "m", sha)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_and_never_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    Path("m").write_bytes(pickle.dumps(Trap(), protocol=protocol))
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        load_model(Path("m"))
    torch.save({"w": torch.zeros(2)}, "t")
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        load_tensors(Path("t"))
    assert not Path("sprung").exists()


def test_foreign_and_missing_files_are_refused(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign")
    save_tensors(tmp_path / "other", {"w": torch.zeros(2)}, {"kind": "something else"})
    (tmp_path / "empty").touch()
    for name in ("foreign", "other", "empty", "missing"):
        with pytest.raises(ModelFileError):
            load_model(tmp_path / name)


def test_a_file_that_does_not_fit_its_own_description_is_refused(tmp_path):
    ours = lively_model()
    tensors = ours.state_dict()
    tensors["frame_head.weight"] = torch.zeros(1, 5)
    save_tensors(tmp_path / "m", tensors, {"kind": "resnext-lstm-1", "model": SMALL.model_dump(mode="json"), "size_px": SIZE})
    with pytest.raises(ModelFileError, match="frame_head"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    "info",
    [
        "[]", "null", "5", '"x"', "[" * 100_000, '{"kind": "resnext-lstm-1", "model": [], "size_px": 64}',
        '{"kind": "resnext-lstm-1", "model": null, "size_px": 64}',
        json.dumps({"kind": "resnext-lstm-1", "model": SMALL.model_dump(mode="json"), "size_px": None}),
    ],
    ids=lambda info: info[:60],
)  # fmt: skip
def test_a_file_whose_description_is_none_is_refused(tmp_path, info):
    """It ended as a mistake of Vigil's own."""
    (tmp_path / "m").write_bytes(tensors_to_bytes({"w": torch.zeros(2)}, metadata={"vigil": info}))
    with pytest.raises(ModelFileError, match="Nothing was loaded"):
        load_model(tmp_path / "m")


def test_no_model_file_of_the_room_knows_pickle():
    """One exception: torchvision publishes its weights as nothing else; they are checked by hash first, and read as tensors alone."""
    forbidden = re.compile(r"torch\.(save|jit|package)\b|torch\.load\b(?!\([^\n]*weights_only=True)|\bpickle\b|\bjoblib\b|\bdill\b|np\.load\b|allow_pickle")
    found = [f"{path.name}: {match.group()}" for path in Path(model.__file__).parent.rglob("*.py") for match in forbidden.finditer(code_of(path))]
    assert found == []


def code_of(path):
    """A module without comments and with every text empty: what it does, not what it says."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.unparse(tree)


def test_a_pickle_that_is_read_would_be_found(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text('"""No pickle."""\nimport pickle  # a pickle\nsaid = "torch.save"\n')
    assert code_of(path).count("pickle") == 1 and "torch.save" not in code_of(path)


def make_folder(folder: Path) -> ModelCard:
    folder.mkdir()
    sha = save_model(lively_model(), folder / "model.safetensors")
    (folder / "model.onnx").write_bytes(b"onnx")
    card = ModelCard(
        model_sha256=sha, onnx_sha256=sha256_bytes(b"onnx"), cycle="2026-W47.1", faces=face_settings(), model=SMALL, threshold=0.4, temperature=1.5,
        abstain=0.1, generators_seen=("rows",), train_clips=("0" * 64,), settings={"seed": 1},
    )  # fmt: skip
    write_card(folder, card)
    return card


def test_a_card_comes_back_as_it_was_written(tmp_path):
    card = make_folder(tmp_path / "m")
    assert load_card(tmp_path / "m") == card == verify(tmp_path / "m")
    assert card.model_id == card.model_sha256[:12] and card.label_map == {"positive": "fake"}


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_verify_refuses_a_changed_or_missing_file(tmp_path, name):
    make_folder(tmp_path / "m")
    flip_a_bit(tmp_path / "m" / name)
    with pytest.raises(ModelFileError, match=re.escape(name)):
        verify(tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    with pytest.raises(ModelFileError, match="is missing"):
        verify(tmp_path / "m")


@pytest.mark.parametrize("about", [{"temperature": float("inf")}, {"temperature": 1e-320}, {"levels": [float("nan"), 1]}, {"offset": float("inf")}], ids=str)
def test_a_card_of_numbers_that_say_nothing_is_refused(tmp_path, about):
    """Of an infinite temperature every file was as much a fake as any other."""
    card = make_folder(tmp_path / "m")
    (tmp_path / "m" / "card.json").write_text(json.dumps(card.model_dump(mode="json") | about))
    with pytest.raises(ModelFileError, match=f"Cannot read the model card .*\n.*{next(iter(about))}"):
        load_card(tmp_path / "m")


@pytest.mark.parametrize("text", ["", "[]", '{"threshold": 2}', "\x00", "[" * 100_000], ids=lambda text: text[:20])
def test_a_card_that_is_none_is_one_clear_error(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ModelFileError, match="Cannot read the model card"):
        load_card(tmp_path)
