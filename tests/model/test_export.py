import numpy as np
import onnx
import pytest
import torch

from model.export import INPUT, OUTPUTS, export_onnx, parity
from model.network import ResNeXtLSTM
from model.quantise import as_input, quantise
from tests.model.toys import SIZE, lively_model
from workspace.errors import ModelFileError
from workspace.files import sha256_file
from workspace.settings import ModelSettings


def clips(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (length, SIZE, SIZE, 3), dtype=np.uint8) for length in lengths]


@pytest.fixture(scope="module")
def exporting(tmp_path_factory):
    """A network in the middle of its training, its export with the sha256, and what the network was before and after that. An export takes four seconds."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    model = lively_model().train()
    model.backbone.eval()

    def as_it_is():
        return [m.training for m in model.modules()], {name: tensor.clone() for name, tensor in model.state_dict().items()}

    before = as_it_is()
    sha = export_onnx(model, path)
    return model, path, sha, before, as_it_is()


@pytest.fixture(scope="module")
def exported(exporting):
    model, path, sha, *_ = exporting
    return model.eval(), path, sha


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


def test_the_model_is_left_as_it_was(exporting):
    (modes, state), (modes_after, state_after) = exporting[3:]
    assert modes_after == modes and len(set(modes)) == 2
    assert state_after.keys() == state.keys() and all(torch.equal(tensor, state[name]) for name, tensor in state_after.items())


def test_every_export_of_a_process_is_free_in_clips_and_frames_and_the_same(exported, tmp_path):
    """torch's own LSTM loop is fixed to the example's T from the second export on, silently."""
    again = tmp_path / "again.onnx"
    assert export_onnx(lively_model(), again) == exported[2]
    for path in (exported[1], again):
        assert [d.dim_param for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim][:2] == ["B", "T"]


def test_another_size_than_the_models_own_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="32 px, asked for 64 px"):
        export_onnx(lively_model(), tmp_path / "m.onnx", 64)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"bidirectional": False, "lstm_layers": 2},
        pytest.param({"spatial_attention": False, "certainty_attention": False}, marks=pytest.mark.slow),
        pytest.param({"temporal": "gru", "lstm_layers": 2}, marks=pytest.mark.slow),
        {"temporal": "transformer", "lstm_layers": 2},
    ],
)
def test_every_kind_of_network_exports(tmp_path, settings):
    torch.manual_seed(0)
    model = ResNeXtLSTM(ModelSettings(backbone="resnext_tiny", lstm_hidden=8, **settings), SIZE).eval()
    export_onnx(model, tmp_path / "m.onnx")
    assert parity(model, tmp_path / "m.onnx", clips([1, 4])) < 1e-5
    eighth = onnx.load_model_from_string(quantise((tmp_path / "m.onnx").read_bytes(), clips([4]))).graph
    made = {name: node.op_type for node in eighth.node for name in node.output}
    assert [made[name] for name in (one.name for one in eighth.output)].count("DequantizeLinear") == 0
    read = [node for node in eighth.node if any(made.get(name) == "DequantizeLinear" for name in node.input)]
    assert {name for node in read for name in node.input if "head." in name or "attention." in name or "temporal." in name} == set()


def test_in_8_bits_no_two_clips_get_one_logit_and_none_is_cut_off_where_the_ranges_were_measured(exported):
    """The last sum was quantised too: 89 logits of 114 clips, and nothing surer than the surest of the clips that had shown the range."""
    import onnxruntime

    session = onnxruntime.InferenceSession(quantise(exported[1].read_bytes(), clips([3, 3], seed=1)), providers=["CPUExecutionProvider"])
    logits = [float(session.run(["logit"], {INPUT: as_input(clip)})[0][0]) for clip in clips([3] * 30)]
    assert len(set(logits)) == 30


def test_a_checkpoint_of_nan_agrees_with_nothing(exported):
    model, path, _ = exported
    broken = lively_model()
    broken.load_state_dict(model.state_dict())
    with torch.no_grad():
        for weight in broken.parameters():
            weight.fill_(float("nan"))
    assert np.isnan(parity(broken, path, clips([3, 4])))
