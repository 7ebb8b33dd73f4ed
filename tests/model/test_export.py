import numpy as np
import onnx
import pytest
import torch

from model.export import INPUT, OUTPUTS, export_onnx, parity
from model.network import ResNeXtLSTM
from tests.model.toys import SIZE, lively_model, small_model
from workspace.errors import ModelFileError
from workspace.files import sha256_file
from workspace.settings import ModelSettings


def clips(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (length, SIZE, SIZE, 3), dtype=np.uint8) for length in lengths]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    model = lively_model()
    return model, path, export_onnx(model, path)


def test_the_exported_file_says_what_the_checkpoint_says_for_any_number_of_frames(exported):
    model, path, sha = exported
    assert sha == sha256_file(path)
    assert parity(model, path, clips([1, 2, 3, 7, 30])) < 1e-5


def test_parity_notices_a_file_of_another_model(exported):
    assert parity(lively_model(5), exported[1], clips([3, 4])) > 1e-3


def test_all_outputs_agree_with_the_network_for_any_number_of_clips(exported):
    import onnxruntime

    model, path, _ = exported
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for count, frames in ((1, 1), (1, 5), (5, 1), (4, 6)):
        x = torch.rand(count, frames, 3, SIZE, SIZE)
        with torch.no_grad():
            ours = model.forward_all(x)
        theirs = session.run(list(OUTPUTS), {INPUT: x.numpy()})
        for name, a, b in zip(OUTPUTS, (ours.logits, ours.certainty, ours.embedding), theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b, atol=2e-5, err_msg=f"{name} {count}x{frames}")


def test_the_file_is_one_piece_and_tells_nothing_about_the_machine(exported):
    import sys

    _, path, _ = exported
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    content = path.read_bytes()
    for trace in (sys.prefix, "site-packages", __file__.rsplit("/", 3)[0], "stack_trace", ".py"):
        assert trace.encode() not in content, trace


def test_the_model_is_left_as_it_was(tmp_path):
    model = small_model().train()
    model.backbone.eval()
    before = [m.training for m in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_onnx(model, tmp_path / "m.onnx")
    assert [m.training for m in model.modules()] == before
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_every_export_of_a_process_is_free_in_clips_and_frames_and_the_same(tmp_path):
    """torch's own LSTM loop is fixed to the example's T from the second export on, silently."""
    shas = {export_onnx(lively_model(), tmp_path / f"{n}.onnx") for n in range(3)}
    assert len(shas) == 1
    for n in range(3):
        assert [d.dim_param for d in onnx.load(tmp_path / f"{n}.onnx").graph.input[0].type.tensor_type.shape.dim][:2] == ["B", "T"]


def test_another_size_than_the_models_own_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="32 px, asked for 64 px"):
        export_onnx(lively_model(), tmp_path / "m.onnx", 64)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"bidirectional": False, "lstm_layers": 2},
        {"spatial_attention": False, "certainty_attention": False},
        {"temporal": "gru", "lstm_layers": 2},
        {"temporal": "transformer", "lstm_layers": 2},
    ],
)
def test_every_kind_of_network_exports(tmp_path, settings):
    torch.manual_seed(0)
    model = ResNeXtLSTM(ModelSettings(backbone="resnext_tiny", lstm_hidden=8, **settings), SIZE).eval()
    export_onnx(model, tmp_path / "m.onnx")
    assert parity(model, tmp_path / "m.onnx", clips([1, 4])) < 1e-5


def test_a_checkpoint_of_nan_agrees_with_nothing(exported):
    model, path, _ = exported
    broken = lively_model()
    broken.load_state_dict(model.state_dict())
    with torch.no_grad():
        for weight in broken.parameters():
            weight.fill_(float("nan"))
    assert np.isnan(parity(broken, path, clips([3, 4])))
