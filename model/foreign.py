"""An ONNX file of somebody else as a model of ours: its tensors are asked, its preprocessing written into the graph, its answers probed.

What it must be: one float32 input, [B, 3, H, W] (a frame) or [B, T, 3, H, W] (a clip), B free; one answer a frame or clip: a logit,
a probability of fake, or a logit or a probability for each of two classes. `Contract` says which. The result takes and gives what our own exports do
(model/export.py), so the engine, the service and the gates need not know where a model came from.

Frames of an image model are averaged in logits. The certainty of a frame is |2 p - 1|. The embedding, which a foreign file does not have
for us, is the mean frame on a grid of about 4 x 4 and p_fake: enough for drift of light, colour and score, not of more.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from model.aggregate import sigmoid
from model.card import ONNX
from model.export import INPUT, OUTPUTS
from workspace.errors import ModelFileError

if TYPE_CHECKING:
    from onnx import ModelProto

    from model.inference import Engine

LEAST_OPSET = 13
GRID = 4
SURE = 1e-6  # p_fake of 0 or 1 has no logit
ALMOST = 1e-2  # probabilities in float16, and sums of two, are that exact
TOGETHER = 1e-3  # largest change of p_fake of a clip scored beside another one
SAME = 4e-3  # logits nearer than this are p_fake nearer than 1e-3, wherever they lie; p_fake itself is all alike in one that is sure of all
SEED = 20261121
QUANTISED = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}  # in a graph that was quantised dynamically
READERS = ("ours/p", "ours/classes0", "ours/classes1", "ours/z")  # the first of these is what reads the answer of the file
PREFIX = "foreign/"  # of every name of the file
ANSWERS = ("FLOAT", "FLOAT16", "DOUBLE")  # types of an output that may be one, as ONNX calls them
HOW = ("says", "fake", "output", "channels", "mean", "std")  # of a contract: what is written into the graph
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures that logits of any detector may need; beyond them all answers are 0 or 1, or all are 1/2
Colour = Annotated[float, Field(ge=-1e6, le=1e6)]


class Contract(BaseModel):
    """How the file wants its pixels and what its answer means. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    says: Literal["logit", "p_fake", "logits", "probabilities"] = Field(
        "logit", description="logit: positive means fake; p_fake: 0..1; logits, probabilities: one for each of two classes."
    )
    fake: Literal[0, 1] = Field(1, description="Of `logits` and `probabilities`: which class is fake.")
    output: str = Field("", description="Name of the output to read; empty: the first.")
    channels: Literal["rgb", "bgr"] = Field("rgb", description="Order of the colours.")
    mean: tuple[Colour, Colour, Colour] = Field((0.0, 0.0, 0.0), description="Taken from pixels in 0..1, in the order of `channels`.")
    std: tuple[Colour, Colour, Colour] = Field((1.0, 1.0, 1.0), description="Pixels are divided by this after that.")
    threshold: float = Field(0.5, ge=0, le=1, description="On p_fake of a video.")
    temperature: float = Field(1.0, ge=COLDEST, le=HOTTEST, description="Logits are divided by this.")
    generators_seen: tuple[str, ...] = Field((), description="Generators that it is known to have learned; others count as new to it.")
    about: str = Field("", description="Where it comes from and under which licence, for people.")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        """What was given, unless a number would be made of a yes or no."""
        if any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError("it is true or false, as YAML also reads yes, no, on and off; no key of a contract is")
        return value

    @field_validator("mean")
    @classmethod
    def _of_pixels_in_0_to_1(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        """What was given, unless it is none of pixels in 0..1."""
        if max(value) > 1:
            raise ValueError("these are of pixels in 0..255: divide mean and std by 255")
        if min(value) < 0:
            raise ValueError("that of pixels in 0..1 lies in 0..1")
        return value


def adapt(content: bytes, contract: Contract, size_px: int) -> bytes:
    """The file as ONNX that takes `frames` [B, T, 3, S, S] in 0..1 with S = `size_px` and gives logit, frame_certainty and embedding.

    Raises ModelFileError, saying what does not fit, for a file that cannot be one of ours. A file of ours is given back as it is.
    """
    import onnx
    from onnx import compose

    try:
        proto = onnx.load_model_from_string(content)
        apart = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(proto))
        if not apart:  # else the checker looks for the other file in the current folder
            onnx.checker.check_model(proto)
    except Exception as problem:  # protobuf and the checker raise kinds of their own
        raise refusal(f"it is not ONNX that can be read: {str(problem).strip().splitlines()[0][:200] if str(problem).strip() else problem!r}") from problem
    if apart:
        next_step = "Save it as one file: `torch.onnx.export(..., external_data=False)`, or `onnx.save(model, path, save_as_external_data=False)`."
        raise refusal("its weights lie in another file", next_step)
    opset = max([one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")], default=0)
    if opset < LEAST_OPSET:
        raise refusal(f"its opset is {opset}, {LEAST_OPSET} is the oldest that can be used", "Export it again with a newer opset.")
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [one for one in proto.graph.input if one.name not in weights]
    if len(inputs) != 1:
        raise refusal(f"it wants {len(inputs)} inputs ({', '.join(one.name for one in inputs)}), a detector takes one", "Export it with its frames alone.")
    shape = _shape(inputs[0])
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise refusal("its input is not float32", "Export it in float32.")
    if len(shape) not in (4, 5) or shape[-3] != 3:  # a free number of colours may be time ([B, 3, T, H, W]) or height ([B, H, W, 3])
        raise refusal(
            f"its input is {shape} (None: free), not [B, 3, H, W] or [B, T, 3, H, W]",
            "Export it with the three colours before height and width, and their number fixed.",
        )
    if shape[0] is not None:
        raise refusal(f"the number of clips is fixed to {shape[0]}", "Export it with a free first dimension (dynamic_axes or dynamic_shapes).")
    names = [one.name for one in proto.graph.output]
    if inputs[0].name == INPUT and set(OUTPUTS) <= set(names) and len(shape) == 5 and shape[1] is None and shape[-1] in (size_px, None):
        if why := not_counting(contract):
            raise refusal(why, "Leave these out.")
        return content
    if contract.output and contract.output not in names:
        raise refusal(f"it has no output {contract.output!r}, but {', '.join(names)}", "Name one of these as `output`.")
    if not np.asarray(contract.std, np.float32).all():
        raise refusal("a colour would be divided by 0", "Give three numbers above 0 as `std`.")
    if contract.fake == 0 and contract.says in ("logit", "p_fake"):  # it was kept in the card and not heard: every verdict was turned round
        rule = {"logit": "a logit is above 0", "p_fake": "a probability is near 1"}[contract.says]
        raise refusal(
            f"`fake` says which of two classes is fake, and `{contract.says}` is one number: {rule} where it is fake",
            "Say `says=logits` or `says=probabilities` where it answers two classes; one number that means real is to be exported as "
            f"{'minus itself' if contract.says == 'logit' else '1 - p'}. Leave `fake` out where it means fake.",
        )
    output = contract.output or names[0]
    kinds = {one.name: onnx.TensorProto.DataType.Name(one.type.tensor_type.elem_type) for one in proto.graph.output}
    if kinds[output] not in ANSWERS:  # a class, such as classifiers put first: cast to float it would pass for a logit
        answers = [name for name in names if kinds[name] in ANSWERS]
        next_step = f"Name one with `--set output=`: {', '.join(answers)}." if answers else "Export it with its logits, or its probabilities, as an output."
        raise refusal(f"its output {output!r} is {kinds[output].lower()}, an answer is float16, float32 or float64", next_step)
    made = compose.add_prefix(proto, PREFIX)
    _prefix_outer(made.graph)
    if kinds[output] != "FLOAT":
        made.graph.node.append(onnx.helper.make_node("Cast", [f"{PREFIX}{output}"], ["ours/answer"], name="ours/node/ours/answer", to=onnx.TensorProto.FLOAT))
        output = ""
    _wrap(made, f"{PREFIX}{inputs[0].name}", f"{PREFIX}{output}" if output else "ours/answer", shape, contract, size_px, opset)
    return bytes(made.SerializeToString(deterministic=True))


def not_counting(contract: Contract) -> str:
    """Why a contract cannot be that of a model of ours, '' where it can: of HOW it says nothing, or what goes without saying."""
    ignored = [name for name in HOW if getattr(contract, name) != Contract.model_fields[name].default]
    return f"it is one of ours, which says itself how it wants its pixels: {', '.join(ignored)} would not count" if ignored else ""


def own_pixels(content: bytes, size_px: int) -> int:
    """Pixels of one frame as the file itself wants them: it may enlarge what it is given."""
    import onnx

    proto = onnx.load_model_from_string(content)
    weights = {tensor.name for tensor in proto.graph.initializer}
    height, width = next(_shape(one) for one in proto.graph.input if one.name not in weights)[-2:]
    return (height or size_px) * (width or size_px)


def _prefix_outer(graph: Any) -> None:
    """Give what branches and loops read of the graph around them the name that it has there now: weights keep their old one in `onnx.compose`, in place."""
    from onnx import GraphProto

    for attribute in (one for node in graph.node for one in node.attribute):
        for inner in [found for _, value in attribute.ListFields() for found in (value if isinstance(value, Sequence) else [value])]:
            if isinstance(inner, GraphProto):
                for node in inner.node:
                    node.input[:] = [name if not name or name.startswith(PREFIX) else f"{PREFIX}{name}" for name in node.input]
                _prefix_outer(inner)


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of a protobuf message, however deep: initialisers, constants, those of branches, loops and functions."""
    from onnx import TensorProto

    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for one in value if isinstance(value, Sequence) else [value]:
            yield from [one] if isinstance(one, TensorProto) else _tensors(one)


def _shape(value: Any) -> list[int | None]:
    return [dimension.dim_value if dimension.dim_value > 0 else None for dimension in value.type.tensor_type.shape.dim]  # some write a free one as -1


def refusal(why: str, next_step: str = "Export the model as ONNX again; docs/import.md says what it must be.") -> ModelFileError:
    return ModelFileError("This ONNX file cannot be a model here. Nothing was imported.", why=why, next_step=next_step)


def _wrap(proto: "ModelProto", entry: str, answer: str, shape: list[int | None], contract: Contract, size: int, opset: int) -> None:
    """Lay our input before `entry` and our outputs behind `answer`, in place."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []

    def const(name: str, value: Any, kind: Any = np.int64) -> str:
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), f"ours/{name}"))
        return f"ours/{name}"

    def node(kind: str, inputs: list[str], name: str, **options: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], name=f"ours/node/{name}", **options))
        return name

    def mean_over_frames(value: str, name: str) -> str:  # [B, T, ...] -> [B, ...]; the axes became an input with opset 18
        options = {"keepdims": 0} if opset >= 18 else {"keepdims": 0, "axes": [1]}
        return node("ReduceMean", [value, const(f"{name}_axes", [1])] if opset >= 18 else [value], name, **options)

    whole = node("Shape", [INPUT], "ours/shape")
    part = {name: node("Slice", [whole, const(f"{name}_at", [at]), const(f"{name}_end", [at + 1])], f"ours/{name}") for at, name in enumerate("BT")}
    pairs = node("Concat", [part["B"], part["T"]], "ours/BT", axis=0)
    flat = node("Reshape", [INPUT, const("flat_shape", [-1, 3, size, size])], "ours/flat")  # [N, 3, S, S], N = B * T
    side = (shape[-2] or size, shape[-1] or size)
    pixels = flat
    if side != (size, size):
        count = node("Slice", [node("Shape", [flat], "ours/flat_dims"), const("N_at", [0]), const("N_end", [1])], "ours/N")
        sizes = node("Concat", [count, const("sized", [3, *side])], "ours/sizes", axis=0)
        pixels = node("Resize", [flat, "", "", sizes], "ours/resized", mode="linear", coordinate_transformation_mode="half_pixel")
    if contract.channels == "bgr":
        pixels = node("Gather", [pixels, const("bgr", [2, 1, 0])], "ours/bgr_pixels", axis=1)
    for kind, name, values in (("Sub", "mean", contract.mean), ("Div", "std", contract.std)):
        pixels = node(kind, [pixels, const(name, np.reshape(values, (1, 3, 1, 1)), np.float32)], f"ours/after_{name}")
    if len(shape) == 5:
        clips = node("Reshape", [pixels, node("Concat", [pairs, const("frame", [3, *side])], "ours/clip_shape", axis=0)], "ours/clips")
        if shape[1] is not None:  # so many frames, spread over the clip, some of them twice where it is shorter; middles, since float32 may round a border down
            length = node("Cast", [part["T"]], "ours/length", to=TensorProto.FLOAT)
            places = node("Mul", [const("places", (np.arange(shape[1]) + 0.5) / shape[1], np.float32), length], "ours/places_in_clip")
            clips = node("Gather", [clips, node("Cast", [node("Floor", [places], "ours/floor")], "ours/chosen", to=TensorProto.INT64)], "ours/frames", axis=1)
        node("Identity", [clips], entry)
    else:
        node("Identity", [pixels], entry)

    inner, before = list(proto.graph.node), nodes[:]
    nodes.clear()
    one = const("one", [-1])
    if contract.says in ("logits", "probabilities"):
        if contract.says == "probabilities":
            answer = node("Log", [node("Clip", [answer, const("low", SURE, np.float32)], "ours/p")], "ours/log_p")  # without their sum, which falls away below
        each = [
            node("Gather", [node("Reshape", [answer, const(f"two{at}", [-1, 2])], f"ours/classes{at}"), const(f"class{at}", at)], f"ours/z{at}", axis=1)
            for at in (contract.fake, 1 - contract.fake)
        ]
        z = node("Sub", each, "ours/z")
    elif contract.says == "p_fake":
        p = node("Clip", [node("Reshape", [answer, one], "ours/p"), const("low", SURE, np.float32), const("high", 1 - SURE, np.float32)], "ours/p_kept")
        odds = node("Div", [p, node("Sub", [const("unit", 1.0, np.float32), p], "ours/p_not")], "ours/odds")
        z = node("Log", [odds], "ours/z")
    else:
        z = node("Reshape", [answer, one], "ours/z")
    if len(shape) == 5:
        logits = node("Reshape", [z, part["B"]], "ours/logits")  # [B]; anything but one answer a clip breaks here
        column = node("Reshape", [logits, node("Concat", [part["B"], const("column", [1])], "ours/column_shape", axis=0)], "ours/logit_column")
        frames = node("Expand", [column, pairs], "ours/frame_logits")  # [B, T]
    else:
        frames = node("Reshape", [z, pairs], "ours/frame_logits")
        logits = mean_over_frames(frames, "ours/logits")
    doubled = node("Mul", [node("Sigmoid", [frames], "ours/frame_p"), const("two", 2.0, np.float32)], "ours/doubled")
    certainty = node("Abs", [node("Sub", [doubled, const("middle", 1.0, np.float32)], "ours/centred")], "ours/certainty")
    step = max(1, size // GRID)
    cells = node("Flatten", [node("AveragePool", [flat], "ours/cells", kernel_shape=[step, step], strides=[step, step])], "ours/cell_rows", axis=1)
    grid_shape = node("Concat", [pairs, const("rest", [-1])], "ours/grid_shape", axis=0)
    grid = mean_over_frames(node("Reshape", [cells, grid_shape], "ours/grid"), "ours/mean_grid")
    p_column = node("Reshape", [node("Sigmoid", [logits], "ours/clip_p"), const("p_column", [-1, 1])], "ours/clip_p_column")
    embedding = node("Concat", [grid, p_column], "ours/embedded", axis=1)
    for found, name in zip((logits, certainty, embedding), OUTPUTS, strict=True):
        node("Identity", [found], name)

    graph = proto.graph
    kept = [one_input for one_input in graph.input if one_input.name != entry]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend([*before, *inner, *nodes])
    graph.input.extend([helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["B", "T", 3, size, size]), *kept])
    shapes = {"logit": ["B"], "frame_certainty": ["B", "T"], "embedding": ["B", "F"]}
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shapes.items())


def golden_clips(size_px: int, frames: int) -> list[np.ndarray]:
    """Clips [frames, S, S, 3] uint8 that no two detectors should answer alike: grey, noise, a soft blob, its negative. Same numbers, same clips."""
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[0:size_px, 0:size_px] / size_px
    blob = 60 + 150 * np.exp(-(((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.08))[None, :, :, None] * np.array([1.0, 0.8, 0.7])
    soft = np.repeat(blob, frames, axis=0) + rng.normal(0, 4, (frames, size_px, size_px, 3))
    noise = rng.integers(0, 256, (frames, size_px, size_px, 3))
    return [np.clip(one, 0, 255).astype(np.uint8) for one in (np.full_like(noise, 128), noise, soft, 255 - soft)]


def probe(engine: "Engine") -> dict[str, Any]:
    """What the engine says of golden clips: {clips, p_fake}.

    Raises ModelFileError where an answer is missing, not finite, or depends on its neighbours, and where all are the same.
    """
    faces = engine.card.faces
    answers, said = [], []
    try:
        for frames in sorted({faces.clip_frames, faces.min_clip_frames, 1}):
            clips = golden_clips(faces.size_px, frames)
            together = engine.score_clips(clips)
            alone = [engine.score_clips([clip])[0] for clip in clips]
            for a, b in zip(together, alone, strict=True):
                if not np.isfinite([a.logit, *np.ravel(a.certainty), *np.ravel(a.embedding)]).all():
                    raise refusal(f"it answers {a.logit} to a golden clip of {frames} frames")
                if abs(sigmoid(a.logit) - sigmoid(b.logit)) > TOGETHER:
                    raise _depends_on_others(engine.model_dir / ONNX)
                answers.append(a.logit)
                said.append(round(a.p_fake, 6))
    except ModelFileError:
        raise
    except Exception as problem:  # onnxruntime raises a dozen kinds, none exported
        raise refusal(f"it does not run on golden clips: {str(problem)[:300]}", "Check `says`, `output` and the input's shape; docs/import.md.") from problem
    if max(answers) - min(answers) < SAME * engine.card.temperature:
        raise refusal(f"it answers {answers[0]:.4g} whatever it sees", "Check which output is the answer (`output`), `says`, `mean` and `std`.")
    return {"clips": len(said), "p_fake": said}


def _depends_on_others(file: Path) -> ModelFileError:
    """The refusal of a file whose answer to a clip is another one beside other clips."""
    import onnx

    why = "its answer to a clip depends on the other clips beside it"
    if QUANTISED.isdisjoint(node.op_type for node in onnx.load(file).graph.node):
        return refusal(why, "Export it in evaluation mode (`model.eval()`).")
    return refusal(f"{why}: it is quantised dynamically, by the range of a whole batch", "Import the float32 file, or quantise that statically.")


def refuse_misread(content: bytes, contract: Contract, size_px: int, frames: int) -> None:
    """Raise ModelFileError where what an adapted file answers to golden clips is not, or most likely not, what `contract.says`.

    Probabilities passed for logits without a word: every p_fake was 0.5 to 0.73. One logit may lie in 0..1 by chance, so that a contract which
    says `logit` itself is believed; two numbers that are 1 together each time are no logits, and what leaves 0..1 is no probability.
    """
    import onnx
    import onnxruntime

    proto = onnx.load_model_from_string(content)
    read = next(node.input[0] for node in proto.graph.node if node.output[0] in READERS)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(read, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.stack(golden_clips(size_px, frames)).transpose(0, 1, 4, 2, 3).astype(np.float32) / 255
    (answers,) = session.run([read], {INPUT: pixels})
    low, high = float(answers.min()), float(answers.max())
    if contract.says == "logit" and "says" not in contract.model_fields_set and low >= 0 and high <= 1:
        why = f"nothing says what it answers, and that lies in 0..1 on all golden clips ({low:.3g} to {high:.3g}): a probability, most likely, and no logit"
        raise refusal(why, "Add `--set says=p_fake`; or `--set says=logit`, where a logit is what it is.")
    if contract.says == "logits" and low >= 0 and (abs(answers.reshape(-1, 2).sum(axis=1) - 1) < ALMOST).all():
        raise refusal("its two answers are 1 together on all golden clips: probabilities (a softmax), and no logits", "Say `says=probabilities`.")
    if contract.says in ("p_fake", "probabilities") and (low < -ALMOST or high > 1 + ALMOST):
        right = "logit" if contract.says == "p_fake" else "logits"
        raise refusal(
            f"it answers {low:.3g} to {high:.3g} to golden clips, and a probability lies in 0..1", f"Say `says={right}`, or mend the model's `output`."
        )


def sniff(path: Path) -> str:
    """`onnx`, `safetensors` or `folder`. Raises ModelFileError for anything else; what can run code when it is read is named as such."""
    if path.is_dir():
        return "folder"
    try:
        with open(path, "rb") as handle:
            head = handle.read(16)
    except OSError as problem:
        raise ModelFileError(f"Cannot read {path}. Nothing was imported.", why=str(problem), next_step="Name a model file or its folder.") from problem
    kind = path.suffix.lower()
    bare = head[:1] == b"\x80" and head[1:2] <= b"\x05" and head[8:9] != b"{"  # a safetensors header may be 0x0480 bytes long
    if bare or head.startswith(b"PK\x03\x04") or kind in (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".bin"):
        raise ModelFileError(
            f"Refused {path}. Nothing was read.",
            why="it is a pickle (torch.save writes one), which can run any code when it is read",
            next_step="Export the model as ONNX, or save its weights with safetensors, where it was trained.",
        )
    if kind in (".onnx", ".safetensors"):
        return kind[1:]
    raise ModelFileError(
        f"Refused {path}. Nothing was read.", why="it is no .onnx, no .safetensors and no model folder", next_step="docs/import.md says what can be imported."
    )
