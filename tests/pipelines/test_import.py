"""A model that was made elsewhere: what may come in and what is refused, and the first cycle that is judged against it."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from flows.health import examine
from flows.opening import refuse_other_ground
from flows.plan import make_plan
from model.export import export_onnx
from model.foreign import Contract, adapt, golden_clips, refuse_misread, sniff
from model.inference import Engine
from model.quantise import INT8, quantise
from model.shipped import STARTER
from pipelines import drift, evaluate, gate, harden, pretrain, train
from tests.model.toys import SIZE, lively_model, written
from tests.pipelines.small_world import add_batch, demo_settings, write_data_reports, write_sets
from tests.system.world import git, vigil
from vigil.importing import import_model, new_card
from vigil.main import app
from vigil.mending import examine_and_fix
from vigil.opening import open_workspace
from workspace.cycle import Cycle
from workspace.errors import DataError, ModelFileError, PromotionConflict, RegistryUnavailable, SettingsError, WorkspaceError
from workspace.files import read_json, sha256_bytes, sha256_file
from workspace.journal import Journal
from workspace.settings import load_settings
from workspace.state import champion

WHO = ("--who", "ana", "--why", "ours of last year")
SETTINGS = demo_settings()


def foreign(path: Path, shape: list[Any], says: str = "logit", opset: int = 17, scale: float = 4.0) -> Path:
    """A detector of somebody else: how much brighter the red is than the blue, over all that it is shown."""
    axes = list(range(1, len(shape)))
    colours = np.zeros([3, 1, 1], np.float32)
    colours[0], colours[2] = scale, -scale
    nodes, tensors = [helper.make_node("Mul", ["pixels", "colours"], ["weighed"])], [numpy_helper.from_array(colours, "colours")]
    if opset >= 18:
        tensors.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
        nodes.append(helper.make_node("ReduceMean", ["weighed", "axes"], ["logit"], keepdims=0))
    else:
        nodes.append(helper.make_node("ReduceMean", ["weighed"], ["logit"], axes=axes, keepdims=0))
    answer, dims = "logit", ["B"]
    if says == "p_fake":
        nodes, answer = [*nodes, helper.make_node("Sigmoid", ["logit"], ["said"])], "said"
    if says in ("logits", "probabilities"):  # real first
        tensors += [numpy_helper.from_array(np.array([-1, 1], np.int64), "pair"), numpy_helper.from_array(np.array([[-0.5, 0.5]], np.float32), "halves")]
        nodes += [helper.make_node("Reshape", ["logit", "pair_one"], ["column"]), helper.make_node("Mul", ["column", "halves"], ["said"])]
        tensors.append(numpy_helper.from_array(np.array([-1, 1], np.int64), "pair_one"))
        answer, dims = "said", ["B", 2]
    if says == "probabilities":
        nodes, answer = [*nodes, helper.make_node("Softmax", ["said"], ["shares"], axis=1)], "shares"
    ins, outs = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape), helper.make_tensor_value_info(answer, TensorProto.FLOAT, dims)
    model = helper.make_model(helper.make_graph(nodes, "g", [ins], [outs], tensors), opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, path)
    return path


def engine_of(folder: Path, content: bytes, size: int, **contract: Any) -> Engine:
    """The adapted file as an engine."""
    from model.card import write_card

    folder.mkdir(exist_ok=True)
    made = adapt(content, Contract(**contract), size)
    (folder / "model.onnx").write_bytes(made)
    about = demo_settings({"faces": {"size_px": size}})
    write_card(folder, new_card(about, Contract(**contract), model_sha256=sha256_bytes(made), onnx_sha256=sha256_bytes(made), model=None))
    return Engine(folder)


def redness(clip: np.ndarray) -> float:
    """What `foreign` answers: mean over all pixels of 4 (red - blue) / 3."""
    pixels = clip.astype(np.float64) / 255
    return float(4 * (pixels[..., 0] - pixels[..., 2]).mean() / 3)


@given(
    shape=st.sampled_from(
        [["B", 3, SIZE, SIZE], ["B", "T", 3, SIZE, SIZE], ["B", 3, "H", "W"], ["B", 3, 16, 16], ["B", 2, 3, SIZE, SIZE], ["B", "T", 3, 16, 16]]
    ),
    says=st.sampled_from(["logit", "p_fake", "logits", "probabilities"]),
    opset=st.sampled_from([13, 17, 18]),
    channels=st.sampled_from(["rgb", "bgr"]),
    mean=st.sampled_from([0.0, 0.25]),
    std=st.sampled_from([1.0, 0.5]),
)
@settings(max_examples=25, deadline=None)
def test_the_adapted_file_says_what_the_original_says_of_the_pixels_it_was_promised(
    tmp_path_factory: pytest.TempPathFactory, shape: list[Any], says: str, opset: int, channels: str, mean: float, std: float
) -> None:
    folder = tmp_path_factory.mktemp("foreign")
    content = foreign(folder / "f.onnx", shape, says, opset).read_bytes()
    engine = engine_of(folder / "m", content, SIZE, says=says, channels=channels, mean=(mean,) * 3, std=(std,) * 3)
    clips = golden_clips(SIZE, 2)
    if shape[1] == 2:
        clips = [np.repeat(clip[:1], 5, axis=0) for clip in clips]  # so many frames alike that it does not matter which are drawn
    for clip, score in zip(clips, engine.score_clips(clips), strict=True):
        wanted = redness(clip) / std * (1 if channels == "rgb" else -1)  # a mean that is the same for all colours cancels out
        assert score.logit == pytest.approx(wanted, abs=0.03) and len(score.certainty) == len(clip)
        assert score.embedding.shape == engine.score_clips(clips[:1])[0].embedding.shape


@pytest.mark.parametrize("shape", [["B", 3, SIZE, SIZE], ["B", "T", 3, SIZE, SIZE]])
@pytest.mark.parametrize(
    ("answers", "contract", "next_step"),
    [
        ("p_fake", {}, "says=p_fake"),
        ("p_fake", {"says": "logit"}, ""),
        ("p_fake", {"says": "p_fake"}, ""),
        ("logit", {}, ""),
        ("logit", {"says": "p_fake"}, "says=logit`"),
        ("logits", {"says": "logits"}, ""),
        ("logits", {"says": "probabilities", "fake": 0}, "says=logits"),
        ("probabilities", {"says": "logits", "fake": 0}, "says=probabilities"),
        ("probabilities", {"says": "probabilities"}, ""),
    ],
)
def test_an_answer_that_is_not_what_the_contract_says_is_refused(
    tmp_path: Path, shape: list[Any], answers: str, contract: dict[str, Any], next_step: str
) -> None:
    """A detector that ends in a sigmoid became champion as one of logits: p_fake of 0.5 to 0.73, and every real was a fake."""
    told = Contract(**contract)
    adapted = adapt(foreign(tmp_path / "f.onnx", shape, answers).read_bytes(), told, SIZE)
    if not next_step:
        return refuse_misread(adapted, told, SIZE, 3)
    with pytest.raises(ModelFileError, match=next_step):
        refuse_misread(adapted, told, SIZE, 3)


@pytest.mark.parametrize("frames", [3, 29, 58])
def test_a_clip_model_of_a_fixed_length_gets_each_frame_of_such_a_clip_once(tmp_path: Path, frames: int) -> None:
    """Of 29 frames it was given 14 twice and 15 never, as of half of all lengths up to 120."""
    content = foreign(tmp_path / "f.onnx", ["B", frames, 3, SIZE, SIZE]).read_bytes()
    engine = engine_of(tmp_path / "m", content, SIZE)
    red = np.random.default_rng(0).integers(0, 256, frames)
    clip = np.zeros((frames, SIZE, SIZE, 3), np.uint8)
    clip[..., 0] = red[:, None, None]
    assert engine.score_clips([clip])[0].logit == pytest.approx(redness(clip), abs=1e-4)


def test_our_own_export_is_taken_as_it_is(tmp_path: Path) -> None:
    export_onnx(lively_model(), tmp_path / "ours.onnx")
    content = (tmp_path / "ours.onnx").read_bytes()
    assert adapt(content, Contract(threshold=0.7), SIZE) == content
    with pytest.raises(ModelFileError, match=r"one of ours.*: says, channels would not count"):
        adapt(content, Contract(says="p_fake", channels="bgr"), SIZE)


@pytest.mark.parametrize("deep", [1, 2])
def test_a_branch_may_use_a_weight_of_the_graph_around_it(tmp_path: Path, deep: int) -> None:
    """`onnx.compose` renames all but these: what `torch.cond` exports was refused as invalid."""
    model = onnx.load(foreign(tmp_path / "f.onnx", ["B", 3, SIZE, SIZE]))
    out = helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [3, 1, 1])
    branch = helper.make_graph([helper.make_node("Identity", ["colours"], ["chosen"])], "branch", [], [out])
    for level in range(deep):
        node = helper.make_node("If", ["which"], ["chosen"], then_branch=branch, else_branch=branch)
        branch = helper.make_graph([node], f"around{level}", [], [out])
    model.graph.node.insert(0, node)
    model.graph.node[1].input[1] = "chosen"
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "which"))
    clip = golden_clips(SIZE, 2)[2]
    assert engine_of(tmp_path / "m", model.SerializeToString(), SIZE).score_clips([clip])[0].logit == pytest.approx(redness(clip), abs=1e-4)


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_an_answer_of_another_precision_is_taken(tmp_path: Path, kind: int) -> None:
    model = onnx.load(foreign(tmp_path / "f.onnx", ["B", 3, SIZE, SIZE]))
    model.graph.node.append(helper.make_node("Cast", [model.graph.output[0].name], ["other"], to=kind))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("other", kind, ["B"]))
    clip = golden_clips(SIZE, 2)[2]
    assert engine_of(tmp_path / "m", model.SerializeToString(), SIZE).score_clips([clip])[0].logit == pytest.approx(redness(clip), abs=1e-2)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL, TensorProto.BFLOAT16])
def test_an_output_that_is_no_float_is_refused_and_the_file_s_answers_are_named(tmp_path: Path, kind: int) -> None:
    """Classifiers put the class first: its 0 and 1 were taken for logits, p_fake 0.50 and 0.73 whatever the file itself was sure of."""
    model = onnx.load(foreign(tmp_path / "f.onnx", ["B", 3, SIZE, SIZE]))
    model.graph.node.append(helper.make_node("Cast", ["logit"], ["label"], to=kind))
    model.graph.output.insert(0, helper.make_tensor_value_info("label", kind, ["B"]))
    content, name = model.SerializeToString(), TensorProto.DataType.Name(kind).lower()
    for contract in (Contract(), Contract(output="label")):
        with pytest.raises(ModelFileError, match=rf"'label' is {name}, an answer is float16, float32 or float64\n.*`--set output=`: logit\."):
            adapt(content, contract, SIZE)
    clip = golden_clips(SIZE, 2)[2]
    assert engine_of(tmp_path / "m", content, SIZE, output="logit").score_clips([clip])[0].logit == pytest.approx(redness(clip), abs=1e-4)
    del model.graph.output[1]
    with pytest.raises(ModelFileError, match="Export it with its logits, or its probabilities"):
        adapt(model.SerializeToString(), Contract(), SIZE)


def test_a_free_size_may_be_written_as_minus_one(tmp_path: Path) -> None:
    clip = golden_clips(SIZE, 2)[2]
    engine = engine_of(tmp_path / "m", foreign(tmp_path / "f.onnx", [-1, 3, SIZE, SIZE]).read_bytes(), SIZE)
    assert engine.score_clips([clip])[0].logit == pytest.approx(redness(clip), abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "opset", "says"),
    [
        ([1, 3, SIZE, SIZE], 17, "fixed to 1"),
        (["B", SIZE, SIZE, 3], 17, "not \\[B, 3, H, W\\]"),
        (["B", 3, SIZE], 17, "not \\[B, 3, H, W\\]"),
        (["B", 3, "T", SIZE, SIZE], 17, "not \\[B, 3, H, W\\] or \\[B, T, 3, H, W\\]"),
        (["B", "H", "W", 3], 17, "colours before height and width, and their number fixed"),
        (["B", 3, SIZE, SIZE], 11, "opset is 11"),
    ],
)
def test_a_file_that_cannot_be_a_detector_is_refused_with_the_reason(tmp_path: Path, shape: list[Any], opset: int, says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        adapt(foreign(tmp_path / "f.onnx", shape, opset=opset).read_bytes(), Contract(), SIZE)


@pytest.mark.parametrize("place", ["graph", "initialiser of a branch", "constant of a branch"])
def test_weights_in_another_file_are_refused_wherever_they_are_named(tmp_path: Path, place: str) -> None:
    """In a branch of an `If` they were not looked for: a champion's answers would have changed with a file that no hash covers.

    Asked from any folder but its own, torch's default export was no ONNX that can be read, and the advice was to export again.
    """
    np.array([4, 0, -4], np.float32).tofile(tmp_path / "data.bin")
    model = onnx.load(foreign(tmp_path / "f.onnx", ["B", 3, SIZE, SIZE]))
    (here,) = model.graph.initializer
    away = TensorProto(name="colours", data_type=TensorProto.FLOAT, dims=[3, 1, 1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "data.bin"), ("offset", "0"), ("length", "12")):
        away.external_data.add(key=key, value=value)
    del model.graph.initializer[:]
    if place == "graph":
        model.graph.initializer.append(away)
    else:
        out = helper.make_tensor_value_info("said", TensorProto.FLOAT, [3, 1, 1])
        constants = [helper.make_node("Constant", [], ["said"], value=one) for one in (away, here)]
        first, second = (helper.make_graph([node], "branch", [], [out]) for node in constants)
        if place.startswith("initialiser"):
            first = helper.make_graph([helper.make_node("Identity", ["colours"], ["said"])], "branch", [], [out], [away])
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "which"))
        model.graph.node.insert(0, helper.make_node("If", ["which"], ["colours"], then_branch=first, else_branch=second))
    with pytest.raises(ModelFileError, match=r"(?s)its weights lie in another file.*export\(\.\.\., external_data=False"):
        adapt(model.SerializeToString(), Contract(), SIZE)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07"])
def test_what_is_no_onnx_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFileError, match="Nothing was imported"):
        adapt(content, Contract(), SIZE)


@pytest.mark.parametrize(("name", "kind"), [("m.pt", "torch"), ("m.onnx", "torch"), ("m.safetensors", "pickle"), ("m.bin", "zeros"), ("m.h5", "zeros")])
def test_pickles_are_refused_unread_whatever_they_are_called(tmp_path: Path, name: str, kind: str) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "it ran",))

    path = tmp_path / name
    if kind == "torch":
        torch.save({"bomb": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb()) if kind == "pickle" else bytes(64))
    with pytest.raises(ModelFileError, match="pickle" if name != "m.h5" else "no .onnx"):
        sniff(path)
    assert not (tmp_path / "it ran").exists()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new workspace whose faces are as large as the small world's, with a registry."""
    from workspace import registry

    root = tmp_path_factory.mktemp("opened") / "w"
    open_workspace(root, "demo")
    text = (root / "params.yaml").read_text().replace("size_px: 64", f"size_px: {SIZE}").replace("clip_frames: 6", "clip_frames: 3")
    (root / "params.yaml").write_text(text.replace("min_clip_frames: 4", "min_clip_frames: 2"))
    registry.prepare(root, load_settings(root / "params.yaml"))
    return root


@pytest.fixture
def root(opened: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(opened, tmp_path / "w", symlinks=True))


def run(*words: Any) -> Any:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout[done.stdout.index("{") :])


def test_an_imported_detector_serves_is_journalled_and_stays_the_only_one(root: Path, tmp_path: Path) -> None:
    source = foreign(tmp_path / "theirs.onnx", ["B", 3, 16, 16], "p_fake")
    (tmp_path / "card.yaml").write_text("says: p_fake\nmean: [0.5, 0.5, 0.5]\ngenerators_seen: [swap]\n")
    found = run("models", "import", source, "--card", tmp_path / "card.yaml", "--set", "threshold=0.6", *WHO, "-w", root, "--json")
    assert found["source_sha256"] == sha256_file(source) and found["trainable"] is False and found["threshold"] == 0.6
    event = [one for one in Journal(root).events() if one.kind == "promotion"][-1]
    assert (event["who"], event["why"], event["source_sha256"]) == ("ana", "imported: ours of last year", found["source_sha256"])
    card = read_json(root / "models/imported/card.json")
    assert card["imported"]["contract"]["mean"] == [0.5, 0.5, 0.5] and card["model"] is None and card["generators_seen"] == ["swap"]

    from workspace.registry import serving_model

    assert serving_model(root, load_settings(root / "params.yaml")) == root / "models/imported"
    again = run("models", "import", source, "--card", tmp_path / "card.yaml", "--set", "threshold=0.6", *WHO, "-w", root, "--json")
    assert again["time"] == found["time"], "twice is once"
    other = foreign(tmp_path / "other.onnx", ["B", 3, 16, 16], scale=1.0)
    with pytest.raises(PromotionConflict, match="only a workspace without one"):
        CliRunner().invoke(app, ["models", "import", str(other), *WHO, "-w", str(root)], catch_exceptions=False)
    assert champion(Journal(root).events()).model_sha256 == found["model_sha256"]  # type: ignore[union-attr]
    assert "imported" in CliRunner().invoke(app, ["models", "-w", str(root)]).output
    plan = make_plan(Journal(root).events(), load_settings(root / "params.yaml"))
    assert (plan.base_cycle, plan.base_model) == ("imported", found["model_sha256"])


def test_an_adapted_file_that_is_named_alone_comes_in_as_it_is(opened: Path, root: Path, tmp_path: Path) -> None:
    """It was refused for the probability that it reads inside, and `says=p_fake`, as told, since it is one of ours: round and round."""
    source = foreign(tmp_path / "f.onnx", ["B", 3, 16, 16], "p_fake")
    found = run("models", "import", source, "--set", "says=p_fake", *WHO, "-w", root, "--json")
    adapted, other = root / "models/imported/model.onnx", Path(shutil.copytree(opened, tmp_path / "other", symlinks=True))
    again = run("models", "import", adapted, *WHO, "-w", other, "--json")
    assert (again["model_sha256"], again["probe"]) == (found["model_sha256"], found["probe"])


def test_what_it_says_of_golden_clips_is_its_p_fake(root: Path, tmp_path: Path) -> None:
    """It was told without the temperature, beside the threshold that people hold it against."""
    found = run("models", "import", foreign(tmp_path / "f.onnx", ["B", 3, 16, 16]), "--set", "temperature=0.5", *WHO, "-w", root, "--json")
    faces, engine = load_settings(root / "params.yaml").faces, Engine(root / "models/imported")
    lengths = sorted({faces.clip_frames, faces.min_clip_frames, 1})
    said = [score.p_fake for frames in lengths for score in engine.score_clips(golden_clips(faces.size_px, frames))]
    assert found["probe"]["p_fake"] == read_json(root / "models/imported/card.json")["imported"]["probe"]["p_fake"] == pytest.approx(said, abs=1e-6)


def test_a_file_that_enlarges_its_faces_gets_fewer_at_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory was counted by the crops: a video of fifty seconds took 6 GB where a model of our own takes 1."""
    run("models", "import", foreign(tmp_path / "theirs.onnx", ["B", 3, 4 * SIZE, 4 * SIZE]), *WHO, "-w", root, "--json")
    engine, sizes = Engine(root / "models/imported"), []
    whole = engine._run
    monkeypatch.setattr("model.inference.BATCH_PIXELS", 4 * 2 * 16 * SIZE * SIZE)
    monkeypatch.setattr(engine, "_run", lambda clips: sizes.append(len(clips)) or whole(clips))
    engine.score_clips([clip for clip in golden_clips(SIZE, 2) for _ in range(3)])
    assert sizes == [4, 4, 4]


def test_a_file_that_onnxruntime_does_not_take_is_refused_as_an_import(root: Path, tmp_path: Path) -> None:
    """It was told that the model in `.vigil/building` cannot be used, and to train again."""
    model = onnx.load(foreign(tmp_path / "f.onnx", ["B", 3, SIZE, SIZE]))
    model.graph.node[0].domain, model.graph.node[0].op_type = "somebody", "Weigh"
    model.opset_import.append(helper.make_opsetid("somebody", 1))
    onnx.save(model, tmp_path / "f.onnx")
    with pytest.raises(ModelFileError, match="Nothing was imported") as refused:
        import_model(root, load_settings(root / "params.yaml"), tmp_path / "f.onnx", [], None, "ana", "x")
    assert "onnxruntime does not take it" in refused.value.why and "Export" in refused.value.next_step
    assert not (root / ".vigil/building/imported").exists() and champion(Journal(root).events()) is None


def test_nothing_is_imported_beside_a_first_cycle_that_is_unfinished(root: Path, tmp_path: Path) -> None:
    """It trained to its end, for hours, against no champion, and was held because there was one by then."""
    journal = Journal(root)
    journal.append("batch_added", batch="b1", source="folder", samples=4, quarantined=0)
    journal.append("cycle_opened", cycle="2026-W01.1", judged=["b1"], base_model="", fingerprint="", scheduled=False, week="")
    with pytest.raises(WorkspaceError, match=r"2026-W01\.1 is not finished") as refused:
        import_model(root, load_settings(root / "params.yaml"), foreign(tmp_path / "f.onnx", ["B", 3, SIZE, SIZE]), [], None, "ana", "x")
    assert "vigil retrain" in refused.value.next_step and champion(journal.events()) is None


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("threshold=0.4", r"threshold 0\.6, not 0\.4\n"),
        ("temperature=2", r"temperature 1\.0, not 2\.0\n"),
        ("generators_seen=[swap]", r'generators_seen \[\], not \["swap"\]\n'),
        ("about=a licence", r'about "", not "a licence"\n'),
    ],
)
def test_the_same_model_under_another_contract_is_refused_and_not_said_to_be_taken(root: Path, tmp_path: Path, word: str, says: str) -> None:
    """A wrong threshold was mended in the answer alone: the service went on judging by the old one."""
    words = ("models", "import", foreign(tmp_path / "theirs.onnx", ["B", 3, 16, 16]), "--set", "threshold=0.6", *WHO, "-w", root)
    found = run(*words, "--json")
    before = (root / "models/imported/card.json").read_bytes()
    with pytest.raises(PromotionConflict, match=says):
        CliRunner().invoke(app, [*map(str, words), "--set", word], catch_exceptions=False)
    assert run(*words, "--json")["time"] == found["time"] and (root / "models/imported/card.json").read_bytes() == before


def test_the_same_weights_under_another_card_are_refused(root: Path, tmp_path: Path) -> None:
    folder = a_folder_of_ours(tmp_path / "ours", 0)
    words = ("models", "import", folder, *WHO, "-w", root)
    run(*words, "--json")
    card = read_json(folder / "card.json")
    (folder / "card.json").write_text(json.dumps(card | {"threshold": 0.5, "faces": card["faces"] | {"margin": 1.5}}))
    with pytest.raises(PromotionConflict, match=r"its card says other crops \(`faces`\); threshold 0\.62, not 0\.5\n"):
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_a_folder_of_ours_keeps_its_threshold_and_can_be_trained_on(root: Path) -> None:
    params = root / "params.yaml"
    with pytest.raises(
        ModelFileError, match=r"Set faces\.size_px to 160, faces\.fps to 15\.0, faces\.clip_frames to 8 in params\.yaml, or import into another"
    ):
        CliRunner().invoke(app, ["models", "import", str(STARTER), *WHO, "-w", str(root)], catch_exceptions=False)
    text = params.read_text().replace(f"size_px: {SIZE}", "size_px: 160").replace("clip_frames: 3", "clip_frames: 8")
    params.write_text(re.sub(r"(?m)^  fps: [0-9.]+", "  fps: 15.0", text))
    found = run("models", "import", STARTER, *WHO, "-w", root, "--json")
    before, after = read_json(STARTER / "card.json"), read_json(root / "models/imported/card.json")
    assert found["trainable"] and (after["threshold"], after["model_sha256"]) == (before["threshold"], before["model_sha256"])
    assert (after["cycle"], after["imported"]["cycle"]) == ("imported", before["cycle"])


def rewrite(card: Path, **about: Any) -> None:
    card.write_text(json.dumps(read_json(card) | about))


def test_a_folder_that_looks_at_other_crops_than_the_workspace_keeps_is_refused(root: Path, tmp_path: Path) -> None:
    """It served on its own crops, and the gates judged it, and the next model against it, on the workspace's: a worse one could win."""
    folder = a_folder_of_ours(tmp_path / "ours", 0)
    faces = read_json(folder / "card.json")["faces"]
    rewrite(folder / "card.json", faces=faces | {"margin": 2.0, "mode": "dense"})
    words = ["models", "import", str(folder), *WHO, "-w", str(root)]
    with pytest.raises(
        ModelFileError, match=r"faces\.margin is 2\.0, here 1\.3; its card's faces\.mode is dense, here standard\n.*Or name .*safetensors alone"
    ):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert champion(Journal(root).events()) is None and not (root / "models/imported").exists()
    rewrite(folder / "card.json", faces=faces | {"min_face_px": 20, "workers": 3})  # of these no crop looks different
    run(*words, "--json")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("margin: 1.3", "margin: 2.0"))
    assert run(*words, "--json")["trainable"], "the same import again changes nothing"
    with pytest.raises(SettingsError, match=r"faces\.margin is 2\.0, the champion's 1\.3\n.*Set them as the champion's"):
        refuse_other_ground(root, load_settings(params), "imported")


UNLIKE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "format": (
        lambda folder: rewrite(folder / "card.json", format=2, threshold="0.6 of clips"),
        r"another version of Vigil wrote it.*\n.*git pull && make setup",
    ),
    "keys": (
        lambda folder: rewrite(folder / "card.json", faces=read_json(folder / "card.json")["faces"] | {"landmark_model": "x"}, licence="MIT"),
        r"another version of Vigil wrote it.*landmark_model.*licence.*\n.*git pull && make setup",
    ),
    "card": (lambda folder: (folder / "card.json").write_bytes((folder / "card.json").read_bytes()[:300]), r"model card.*\n.*Copy the folder anew"),
    "model.onnx": (lambda folder: (folder / "model.onnx").write_bytes(b"x"), r"model\.onnx.*has changed.*\n.*Copy the folder anew"),
    "gone": (lambda folder: (folder / "model.onnx").unlink(), r"model\.onnx is missing.*\n.*Copy the folder anew"),
}


@pytest.mark.parametrize("how", UNLIKE)
def test_a_folder_of_another_version_or_cut_short_is_refused_with_a_way_in(root: Path, tmp_path: Path, how: str) -> None:
    """`Restore the folder from DVC, or train again`: no DVC of this workspace has it."""
    folder = a_folder_of_ours(tmp_path / "ours", 0)
    change, says = UNLIKE[how]
    change(folder)
    with pytest.raises(ModelFileError, match=rf"Refused {folder}\. Nothing was imported\.\n.*{says}.* Or name .*model\.safetensors alone") as refused:
        CliRunner().invoke(app, ["models", "import", str(folder), *WHO, "-w", str(root)], catch_exceptions=False)
    assert "DVC" not in str(refused.value)
    if how == "keys":
        assert run("models", "import", folder / "model.safetensors", "--set", "threshold=0.62", *WHO, "-w", root, "--json")["threshold"] == 0.62


def test_bare_weights_are_exported_anew(root: Path, tmp_path: Path) -> None:
    from model.checkpoint import save_model

    save_model(lively_model(), tmp_path / "last-year.safetensors")
    found = run("models", "import", tmp_path / "last-year.safetensors", "--set", "threshold=0.7", *WHO, "-w", root, "--json")
    assert found["trainable"] and found["threshold"] == 0.7 and found["model_sha256"] == sha256_file(tmp_path / "last-year.safetensors")


@pytest.mark.slow
def test_words_that_would_not_count_are_refused_of_bare_weights_too(root: Path, tmp_path: Path) -> None:
    """They were taken, changed nothing, and stood in the card as what the model wants."""
    from model.checkpoint import save_model

    save_model(lively_model(), weights := tmp_path / "last-year.safetensors")
    words = ["--set", "says=logits", "--set", "fake=0", "--set", "output=z", "--set", "channels=bgr", "--set", "mean=[1, 1, 1]", "--set", "std=[2, 2, 2]"]
    with pytest.raises(ModelFileError, match=r"one of ours.*: says, fake, output, channels, mean, std would not count\n.*Leave these out"):
        CliRunner().invoke(app, ["models", "import", str(weights), *words, *WHO, "-w", str(root)], catch_exceptions=False)
    assert champion(Journal(root).events()) is None and not (root / "models/imported").exists()
    found = run("models", "import", weights, "--set", "channels=rgb", "--set", "temperature=2", "--set", "about=ours", *WHO, "-w", root, "--json")
    assert found["trainable"] and read_json(root / "models/imported/card.json")["temperature"] == 2


def a_folder_of_ours(folder: Path, seed: int) -> Path:
    """Weights, their card with a threshold of 0.62, and the ONNX file of the network of this seed; the weights are of seed 0."""
    from model.card import write_card
    from model.checkpoint import save_model

    folder.mkdir()
    network = lively_model()
    save_model(network, folder / "model.safetensors")
    content, onnx_sha256 = written(seed)["model.onnx"]
    (folder / "model.onnx").write_bytes(content)
    named = {"model_sha256": sha256_file(folder / "model.safetensors"), "onnx_sha256": onnx_sha256, "model": network.settings}
    about = demo_settings({"faces": {"size_px": SIZE}})
    write_card(folder, new_card(about, Contract(threshold=0.62), **named).model_copy(update={"cycle": "2026-W03.1"}))
    return folder


@pytest.mark.parametrize("how", ["--set", "--card"])
def test_a_contract_is_refused_for_a_folder_whose_card_says_it(root: Path, tmp_path: Path, how: str) -> None:
    """It was taken, written down as what had been asked for, and changed nothing."""
    folder = a_folder_of_ours(tmp_path / "ours", 0)
    (tmp_path / "card.yaml").write_text("threshold: 0.3\n")
    words = {"--set": ["--set", "threshold=0.3", "--set", "temperature=4"], "--card": ["--card", str(tmp_path / "card.yaml")]}[how]
    with pytest.raises(SettingsError, match=r"Leave out --set and --card, or name .*ours/model\.safetensors alone"):
        CliRunner().invoke(app, ["models", "import", str(folder), *words, *WHO, "-w", str(root)], catch_exceptions=False)
    assert champion(Journal(root).events()) is None and not (root / "models/imported").exists()
    found = run("models", "import", folder, *WHO, "-w", root, "--json")
    assert found["threshold"] == 0.62 and "contract" not in read_json(root / "models/imported/card.json")["imported"]


@pytest.mark.slow
def test_a_folder_whose_files_differ_comes_in_by_its_weights_alone_as_the_refusal_says(root: Path, tmp_path: Path) -> None:
    """The card beside the weights was found again, and with it the same refusal."""
    folder = a_folder_of_ours(tmp_path / "ours", 1)
    weights = folder / "model.safetensors"
    with pytest.raises(ModelFileError, match=f"Name {weights} alone: .*--set threshold=.*are lost"):
        CliRunner().invoke(app, ["models", "import", str(folder), *WHO, "-w", str(root)], catch_exceptions=False)
    found = run("models", "import", weights, "--set", "threshold=0.3", "--set", "temperature=4", *WHO, "-w", root, "--json")
    card = read_json(root / "models/imported/card.json")
    assert (found["threshold"], card["threshold"], card["temperature"]) == (0.3, 0.3, 4) and card["imported"]["contract"]["threshold"] == 0.3
    assert found["trainable"] and "cycle" not in card["imported"]


def test_a_model_in_8_bits_comes_in_with_its_card_under_the_bound_it_was_made_with_as_the_refusal_says(root: Path, tmp_path: Path) -> None:
    """It was told to come in by its weights alone: its threshold and offset were lost without a word, in a workspace that takes no other import."""
    folder, params = a_folder_of_ours(tmp_path / "ours", 0), root / "params.yaml"
    content = quantise((folder / "model.onnx").read_bytes(), golden_clips(SIZE, 3))
    (folder / "model.onnx").write_bytes(content)
    rewrite(folder / "card.json", engine=INT8, onnx_sha256=sha256_bytes(content))
    with pytest.raises(ModelFileError, match=r"Set gates\.max_parity as its card\.json has it.* Or: Name .* alone: .*--set threshold=.*are lost"):
        CliRunner().invoke(app, ["models", "import", str(folder), *WHO, "-w", str(root)], catch_exceptions=False)
    params.write_text(params.read_text().replace("max_parity: 0.001", "max_parity: 0.2"))
    assert run("models", "import", folder, *WHO, "-w", root, "--json")["threshold"] == 0.62


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["--set", "says=maybe", "--set", "luck=1"], SettingsError, "luck"),
        (["--set", "threshold=true"], SettingsError, "threshold: .*true or false"),
        (["--set", "temperature=on"], SettingsError, "temperature: .*true or false"),
        (["--set", "fake=no"], SettingsError, "fake: .*true or false"),
        (["--set", "mean=[0.5, yes, 0.5]"], SettingsError, "mean: .*true or false"),
        (["--set", "mean"], SettingsError, "KEY=VALUE"),
        (["--set", "output=nothing"], ModelFileError, "no output"),
        (["--set", "says=logits"], ModelFileError, "does not run"),
        *((["--set", f"says={says}", "--set", "fake=0"], ModelFileError, f"`{says}` is one number.*\n.*says=logits") for says in ("logit", "p_fake")),
        (["--set", "says=p_fake"], ModelFileError, r"to golden clips, and a probability lies in 0\.\.1"),
        *((["--set", f"temperature={value}"], SettingsError, "temperature") for value in ("0", "1e-320", "1.0e-320", ".inf", ".nan", "1.0e+9")),
        *((["--set", f"{name}=[{value}, 1, 1]"], SettingsError, f"{name}.0") for name in ("mean", "std") for value in (".inf", ".nan", "1.0e+300")),
        (["--set", "std=[1.0e-300, 1, 1]"], ModelFileError, "divided by 0"),
        (["--set", "mean=[123.675, 116.28, 103.53]", "--set", "std=[58.395, 57.12, 57.375]"], SettingsError, r"mean: .*0\.\.255: divide mean and std by 255"),
        (["--set", "mean=[-0.5, 0, 0]"], SettingsError, r"mean: .*lies in 0\.\.1"),
        (["--set", "std=[58.395, 57.12, 57.375]", "--set", "mean=[0.485, 0.456, 0.406]"], ModelFileError, "whatever it sees"),
    ],
)
def test_a_wrong_contract_is_refused_and_nothing_is_left(root: Path, tmp_path: Path, words: list[str], error: type[Exception], says: str) -> None:
    source = foreign(tmp_path / "f.onnx", ["B", 3, 16, 16])
    with pytest.raises(error, match=says):
        CliRunner().invoke(app, ["models", "import", str(source), *words, *WHO, "-w", str(root)], catch_exceptions=False)
    assert champion(Journal(root).events()) is None and not (root / "models/imported").exists()


@pytest.mark.parametrize("about", ["Sentinel v2: MIT licence", "2024", "", "ours, ticket #12", "[draft", "'tis ours"])
def test_a_word_for_text_is_taken_as_it_stands(root: Path, tmp_path: Path, about: str) -> None:
    """An output called `495`, as old exports call them, could not be named as the refusal told one to, and a licence with a colon was a mapping."""
    model = onnx.load(foreign(tmp_path / "f.onnx", ["B", 3, 16, 16]))
    model.graph.node.append(helper.make_node("Identity", ["logit"], ["495"]))
    model.graph.output.append(helper.make_tensor_value_info("495", TensorProto.FLOAT, ["B"]))
    onnx.save(model, tmp_path / "f.onnx")
    for word in ("495", '"495"'):  # the second as YAML wants it: what helped before
        run("models", "import", tmp_path / "f.onnx", "--set", f"output={word}", "--set", f"about={about}", *WHO, "-w", root, "--json")
        contract = read_json(root / "models/imported/card.json")["imported"]["contract"]
        assert (contract["output"], contract["about"]) == ("495", about)


@pytest.mark.parametrize("words", [["std=[0.0039215686, 0.0039215686, 0.0039215686]"], ["temperature=0.001"]], ids=["sure of all", "as good as silent"])
def test_a_model_that_tells_clips_apart_is_none_that_answers_the_same(root: Path, tmp_path: Path, words: list[str]) -> None:
    """One that is sure of all golden clips, as pixels of 0..255 may make it, and one whose logits are tiny until its temperature is heard."""
    sure = words != ["temperature=0.001"]
    model = onnx.load(foreign(tmp_path / "f.onnx", ["B", 3, 16, 16], scale=4.0 if sure else 0.02))
    if sure:
        model.graph.node.append(helper.make_node("Add", ["logit", "far"], ["far_logit"]))
        model.graph.initializer.append(numpy_helper.from_array(np.array(60, np.float32), "far"))
        model.graph.output[0].name = "far_logit"
    onnx.save(model, tmp_path / "f.onnx")
    said = run("models", "import", tmp_path / "f.onnx", "--set", *words, *WHO, "-w", root, "--json")["probe"]["p_fake"]
    assert min(said) > 0.99 if sure else max(said) - min(said) > 0.1


def test_a_file_that_was_quantised_dynamically_is_told_so(root: Path, tmp_path: Path) -> None:
    """It was told to be exported in evaluation mode, as it had been."""
    from onnxruntime.quantization import quantize_dynamic

    weights = np.random.default_rng(0).normal(0, 0.3, (3 * SIZE * SIZE, 1)).astype(np.float32)
    nodes = [("Mul", ["pixels", "pixels"], "bright"), ("Flatten", ["bright"], "flat"), ("MatMul", ["flat", "weights"], "logit")]
    ins, outs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *dims]) for name, dims in (("pixels", [3, SIZE, SIZE]), ("logit", [1])))
    made = [helper.make_node(kind, given, [name]) for kind, given, name in nodes]
    graph = helper.make_graph(made, "g", [ins], [outs], [numpy_helper.from_array(weights - weights.mean(), "weights")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "float32.onnx")
    quantize_dynamic(tmp_path / "float32.onnx", tmp_path / "int8.onnx")
    with pytest.raises(ModelFileError, match=r"(?s)depends on the other clips.*quantised dynamically, by the range of a whole batch.*float32.*statically"):
        CliRunner().invoke(app, ["models", "import", str(tmp_path / "int8.onnx"), *WHO, "-w", str(root)], catch_exceptions=False)
    run("models", "import", tmp_path / "float32.onnx", *WHO, "-w", root, "--json")


def test_a_constant_model_is_refused(root: Path, tmp_path: Path) -> None:
    source = foreign(tmp_path / "f.onnx", ["B", 3, 16, 16], scale=0.0)
    with pytest.raises(ModelFileError, match="whatever it sees"):
        CliRunner().invoke(app, ["models", "import", str(source), *WHO, "-w", str(root)], catch_exceptions=False)


@pytest.mark.slow
def test_the_next_cycle_starts_from_nothing_and_is_judged_against_an_imported_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(2)
    base = tmp_path / "build/base"
    base.parent.mkdir(parents=True)
    sha256 = engine_of(base, foreign(tmp_path / "f.onnx", ["B", 3, 16, 16]).read_bytes(), 32).card.model_sha256
    cycle = Cycle(cycle="2026-W47.1", seed=3, batches=("b1",), judged=("b1",), base_model=sha256, base_cycle="imported", known_generators=("sora",))
    rows = add_batch(tmp_path, "b1", 20)
    write_sets(tmp_path, rows, {"b1"})
    write_data_reports(tmp_path, cycle, rows)
    told = {stage.__name__.rpartition(".")[2]: stage.run(tmp_path, SETTINGS, cycle) for stage in (pretrain, harden, train, evaluate, drift, gate)}
    assert told["pretrain"]["warm_start"] is False and "starts from nothing" in capsys.readouterr().out and told["harden"]["surrogate"] == "phase 1"
    assert "sora" not in read_json(tmp_path / "build/model/card.json")["generators_seen"], "of what the import says it has learned this one knows nothing"
    table = pd.read_parquet(tmp_path / "reports/predictions.parquet")
    assert table[table["fold"] == "holdout"]["p_champion"].notna().all() and told["evaluate"]["gate_inputs"]["champion_sha256"] == sha256
    results = {row["gate"]: row for row in told["gate"]["results"]}
    compared = results["not worse than the champion: AUC"]
    assert compared["n"] == 4 and "the champion's" in compared["reason"]
    assert results["drift"]["verdict"] == results["label noise"]["verdict"] == results["robustness: curve"]["verdict"] == "pass"
    assert not [row for row in results.values() if "missing" in row["reason"]], "every measurement is there"

    (base / "model.onnx").write_bytes((base / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(ModelFileError):
        pretrain.start_model(tmp_path, SETTINGS, cycle)


def break_bit(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


BROKEN = {
    "bit": break_bit,
    "deleted": lambda folder: (folder / "model.onnx").unlink(),
    "cut": lambda folder: (folder / "card.json").write_text((folder / "card.json").read_text()[:200]),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_the_doctor_puts_a_damaged_champion_back(root: Path, tmp_path: Path, broken: str) -> None:
    """Each advice that was given failed: DVC replaces no file that it does not know."""
    folder, found = root / "models/imported", load_settings(root / "params.yaml")
    import_model(root, found, foreign(tmp_path / "theirs.onnx", ["B", 3, 16, 16]), [], None, "ana", "ours of last year")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    BROKEN[broken](folder)
    if broken in ("bit", "cut"):
        (row,) = [row for row in examine(root, found) if row["check"] == "champion"]
        assert not row["ok"] and "doctor --fix" in row["next"]
        with pytest.raises(DataError, match="could not be put in its place"):
            examine_and_fix(root, found, fix=False, push=False, pull=True)
    rows, done = examine_and_fix(root, found, fix=True, push=False)
    assert all(row["ok"] for row in rows) and "pulled models/imported" in done
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before and not (root / ".vigil/damaged").exists()


def test_a_damaged_champion_that_nobody_else_has_stays_as_it_is(root: Path, tmp_path: Path) -> None:
    folder, found = root / "models/imported", load_settings(root / "params.yaml")
    import_model(root, found, foreign(tmp_path / "theirs.onnx", ["B", 3, 16, 16]), [], None, "ana", "ours of last year")
    shutil.rmtree(root / ".dvc/cache")
    break_bit(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = vigil("doctor", "--fix", "-w", root, check=False)
    assert done.returncode == 1 and "pulled models/imported" not in done.stdout, done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_import_is_committed_where_the_registry_is_away_and_says_that_it_stands(root: Path, tmp_path: Path) -> None:
    """It was journalled and never committed, and the doctor did not finish it: a clone had no champion."""
    found = load_settings(root / "params.yaml")
    away = found.model_copy(update={"registry": found.registry.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})})
    with pytest.raises(RegistryUnavailable, match=r"is the champion .* Only the registry's aliases are not set"):
        import_model(root, away, foreign(tmp_path / "theirs.onnx", ["B", 3, 16, 16]), [], None, "ana", "ours of last year")
    assert "promotion" in git(root, "show", "vigil/imported:journal.jsonl") and "imported" in git(root, "show", "vigil/imported:models/imported.dvc")
    rows, _ = examine_and_fix(root, found, fix=True, push=False)
    assert all(row["ok"] for row in rows)
