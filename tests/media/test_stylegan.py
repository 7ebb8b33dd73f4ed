"""MobileStyleGAN out of its wheel: what its authors' runtime says, ours says too; a talking portrait moves as its clip does; no other file is taken."""

import numpy as np
import onnxruntime
import pytest

from media.faces import looks
from media.forgers import stylegan
from media.forgers.masks import steady
from media.forgers.openvino_ir import to_onnx
from media.forgers.plugins import PUBLISHED
from media.forgers.reenact import LIP_BOTTOM, lip_gap
from media.forgers.stylegan import MobileStyleGan
from tests.faces import Clip, detail, motion, rendered_clips
from workspace.errors import ModelFileError
from workspace.settings import FaceSettings

FACES = FaceSettings(size_px=96, fps=8.0, clip_frames=8, min_clip_frames=4, max_detect_px=256)
STYLE = (-0.048995, -0.002909, -0.241988, -0.194594, -0.163740, -0.301403)  # OpenVINO 2026.4 in full precision, of `VECTOR`: its first numbers
SPREAD = 0.550429  # of the whole style
PICTURE = (0.151647, -0.035638, -0.224618)  # and of that style's picture the mean of each colour
MIDDLE = (0.838648, 0.551758, 0.501676)  # and its middle
LOWER_LIP = (LIP_BOTTOM, 17, 84, 314, 152)  # and the chin
VECTOR = (1.4 * np.sin(np.arange(512)))[None].astype(np.float32)


@pytest.fixture(scope="module")
def forger() -> MobileStyleGan:
    return MobileStyleGan(FACES)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return rendered_clips(tmp_path_factory.mktemp("stylegan"), people=2)


def test_the_translated_networks_say_what_the_published_ones_say(forger: MobileStyleGan) -> None:
    style = stylegan._run(forger._mapping, VECTOR)
    assert style.shape == (1, 512) and style[0, :6] == pytest.approx(STYLE, abs=1e-4) and float(style.std()) == pytest.approx(SPREAD, abs=1e-4)
    picture = stylegan._run(forger._synthesis, style)[0]
    assert picture.shape == (3, 1024, 1024)
    assert picture.mean((1, 2)) == pytest.approx(PICTURE, abs=1e-3) and picture[:, 512, 512] == pytest.approx(MIDDLE, abs=3e-3)


def test_a_picture_becomes_one_of_nobody_and_a_video_a_portrait_that_moves_as_it_does(forger: MobileStyleGan, clips: list[Clip]) -> None:
    people = []
    for seed, (frames, landmarks) in enumerate(clips):
        made, points = forger.forge(frames, landmarks, np.random.default_rng(seed))
        assert made.shape == frames.shape and made.dtype == np.uint8 and points.shape == landmarks.shape
        assert np.array_equal(made, forger.forge(frames, landmarks, np.random.default_rng(seed))[0])
        assert np.abs(made.astype(int) - frames).mean() > 20, "it is somebody else, surroundings and all"
        assert 0.2 < motion(made) / motion(frames) < 5, "neither a still nor a flicker would pass for a video"
        alone, _ = forger.forge(frames[:1], landmarks[:1], np.random.default_rng(seed))
        assert alone.shape == frames[:1].shape
        people.append(alone[0].astype(int))
    assert np.abs(people[0] - people[1]).mean() > 10, "each vector is another person"


def test_it_speaks_and_sways_as_the_clip_does_and_not_by_itself(forger: MobileStyleGan, clips: list[Clip]) -> None:
    frames, still = clips[0][0], np.repeat(clips[0][1][:1], len(clips[0][0]), axis=0)
    times = np.arange(len(frames))
    speaks, sways = still.copy(), still.copy()
    speaks[:, list(LOWER_LIP), 1] += 0.03 * (1 + np.sin(times))[:, None]
    sways[..., 0] += 0.03 * np.sin(times)[:, None]
    made = {name: forger.forge(frames, mesh, np.random.default_rng(5)) for name, mesh in (("still", still), ("speaks", speaks), ("sways", sways))}
    mouth = {name: [lip_gap(mesh) for mesh in points] for name, (_, points) in made.items()}
    assert np.ptp(mouth["still"]) < 1e-6 and np.corrcoef(mouth["speaks"], [lip_gap(mesh) for mesh in steady(speaks)])[0, 1] > 0.95
    across = {name: points[..., 0].mean(axis=1) for name, (_, points) in made.items()}
    assert np.ptp(across["still"]) < 1e-6 and np.corrcoef(across["sways"], steady(sways)[..., 0].mean(axis=1))[0, 1] > 0.95
    shown = {name: motion(pictures) for name, (pictures, _) in made.items()}
    assert shown["sways"] > 1.2 * shown["still"] and shown["speaks"] > shown["still"], f"what the mesh does is seen: {shown}"


@pytest.mark.slow
def test_it_is_not_known_by_its_sharpness_its_colours_or_its_edge(forger: MobileStyleGan, clips: list[Clip]) -> None:
    """A camera cuts faces off and lights them: a fake that never is cut, or always warm, would be told by that."""
    ratios, tones = [], []
    for seed in range(12):
        frames, landmarks = clips[seed % 2][0][:1].copy(), clips[seed % 2][1][:1]
        if seed % 3 == 0:
            frames[:, : 5 + seed] = 0
            frames[:, :, -9:] = 0
        made, points = forger.forge(frames, landmarks, np.random.default_rng(seed))
        ratios.append(detail(made.astype(np.float32)) / detail(frames.astype(np.float32)))
        tones.append(looks(made, points)["brightness"] - looks(frames, landmarks)["brightness"])
        black, wanted = (float((one[0].max(axis=2) == 0).mean()) for one in (made, frames))
        assert wanted - 0.03 <= black <= wanted + 0.01, "black where the clip is, and nowhere else"
    assert 0.95 < float(np.median(ratios)) < 1.05
    assert np.median(np.abs(tones)) < 0.08


def test_another_file_than_the_one_of_its_hash_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stylegan.SHA256, "mobilestylegan_ffhq_snet.bin", "0" * 64)
    with pytest.raises(ModelFileError, match="Refused") as refusal:
        MobileStyleGan(FACES)
    assert "not the file that was published" in refusal.value.why


def test_numbers_of_an_unknown_type_are_refused_by_name() -> None:
    with pytest.raises(ModelFileError, match="Cannot translate") as refusal:
        to_onnx(
            layered(one_layer("Add")).replace(
                b'element_type="f32"/><output><port id="0" precision="FP32"><dim>1</dim><dim>4</dim></port></output></layer><layer id="2"',
                b'element_type="f16"/><output><port id="0" precision="FP32"><dim>1</dim><dim>4</dim></port></output></layer><layer id="2"',
            ),
            NUMBERS.tobytes(),
        )
    assert "type f16" in refusal.value.why


def test_where_the_wheel_is_missing_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stylegan, "WHEEL", "a-wheel-that-nobody-installs")
    with pytest.raises(ModelFileError) as refusal:
        PUBLISHED["mobile_stylegan"](FACES)
    assert "mobile_stylegan out of forge.forgers" in refusal.value.next_step


def layered(*between: str) -> bytes:
    """The XML of a network: a parameter of shape [1, 4], a constant of the same, one layer, its result."""
    wide = "<dim>1</dim><dim>4</dim>"
    return (
        '<net name="toy" version="10"><layers>'
        f'<layer id="0" name="x" type="Parameter"><data shape="1,4" element_type="f32"/><output><port id="0" precision="FP32">{wide}</port></output></layer>'
        '<layer id="1" name="c" type="Const"><data offset="8" size="16" shape="1,4" element_type="f32"/>'
        f'<output><port id="0" precision="FP32">{wide}</port></output></layer>' + "".join(between) + '<layer id="9" name="r" type="Result"><input>'
        f'<port id="0">{wide}</port></input></layer></layers><edges><edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>'
        '<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/><edge from-layer="2" from-port="2" to-layer="9" to-port="0"/></edges></net>'
    ).encode()


def one_layer(kind: str, said: str = "") -> str:
    ports = '<input><port id="0"/><port id="1"/></input><output><port id="2" precision="FP32"><dim>1</dim><dim>4</dim></port></output>'
    return f'<layer id="2" name="work" type="{kind}"><data {said}/>{ports}</layer>'


NUMBERS = np.concatenate([[7.0, 7.0], [1.0, -2.0, 3.0, 0.5]]).astype(np.float32)
X = np.array([[0.5, 2.0, -1.0, 4.0]], np.float32)


@pytest.mark.parametrize(("kind", "wanted"), [("Add", X + NUMBERS[2:]), ("Multiply", X * NUMBERS[2:])])
def test_a_network_of_one_layer_is_translated(kind: str, wanted: np.ndarray) -> None:
    model = to_onnx(layered(one_layer(kind)), NUMBERS.tobytes())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {session.get_inputs()[0].name: X})[0] == pytest.approx(wanted)


@pytest.mark.parametrize(("kind", "said"), [("Sigmoid", ""), ("MatMul", 'transpose_a="true" transpose_b="false"')])
def test_an_operation_that_is_not_known_is_refused_by_name(kind: str, said: str) -> None:
    with pytest.raises(ModelFileError) as refusal:
        to_onnx(layered(one_layer(kind, said)), NUMBERS.tobytes())
    assert f"layer 'work' is a {kind}" in refusal.value.why
