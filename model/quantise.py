"""The exported network in 8-bit integers: less than half of the size, faster where the processor has VNNI, and not quite the same.

The backbone's convolutions are quantised, and the sums of two of their maps; weights channel by channel, activations by the range they have on real
training clips. Attention, LSTM and heads stay as they are: what is beyond such a range is cut off, of a logit all that is surer than those clips were.
What it costs in agreement depends on the weights, so nobody should serve it unmeasured:
`difference` says how far it is from the fp32 file, and the stage `train` keeps it only inside `gates.max_parity` (docs/evaluation.md).
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.export import INPUT, OUTPUTS
from workspace.errors import ModelFileError

FP32, INT8 = "onnxruntime-fp32", "onnxruntime-int8"
Clips = Sequence[NDArray[np.uint8]]
ATTENTION = "model.attention."  # its weights in an exported file: the one convolution that is none of the backbone
KEEPS_MAPS = ("Relu", "Clip", "MaxPool", "AveragePool")


def quantise(content: bytes, clips: Clips) -> bytes:
    """The fp32 network `content` (an exported file's bytes) in int8; `clips` [T, S, S, 3] uint8 show the ranges. Same inputs, same bytes.

    Raises ModelFileError where ONNX Runtime cannot quantise it, ValueError without clips.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    if not clips:
        raise ValueError("ranges cannot be measured without a clip")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(clips)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            clip = next(self._left, None)
            return None if clip is None else {INPUT: as_input(clip)}

    network = onnx.load_model_from_string(content)
    del network.graph.value_info[:]  # shapes that the exporter wrote for its example; the quantiser trips over them
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(prefix="vigil-int8-") as scratch:
            out = Path(scratch) / "int8.onnx"
            quantize_static(
                network, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv", "MaxPool", "Add"], nodes_to_quantize=_of_the_backbone(network.graph), calibrate_method=CalibrationMethod.MinMax,
            )  # fmt: skip
            made = onnx.load(out)
    except Exception as problem:  # the quantiser raises whatever its parts raise
        raise ModelFileError(
            "The model could not be quantised.", why=f"{type(problem).__name__}: {problem}"[:800], next_step="Switch serve.int8 off, or use another backbone."
        ) from problem
    finally:
        logging.disable(level)
    return bytes(made.SerializeToString(deterministic=True))


def _of_the_backbone(graph: Any) -> list[str]:
    """Names of the backbone's convolutions, of its pooling of their maps, and of the sums of two of them."""
    maps, found = set[str](), list[str]()
    for node in graph.node:  # each after those that it reads
        pooled = node.op_type in KEEPS_MAPS and node.input[0] in maps
        convolved = node.op_type == "Conv" and not node.input[1].startswith(ATTENTION)
        if pooled or convolved or (node.op_type == "Add" and maps.issuperset(node.input)):
            maps.update(node.output)
            found.append(node.name)
    return found


def difference(first: bytes, second: bytes, clips: Clips) -> NDArray[np.float64]:
    """|p_fake of the first file - p_fake of the second| (uncalibrated) of each clip [T, S, S, 3] uint8."""
    scores = [_probabilities(content, clips) for content in (first, second)]
    return np.asarray(np.abs(scores[0] - scores[1]), np.float64)


def _probabilities(content: bytes, clips: Clips) -> NDArray[np.float64]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits = [float(session.run([OUTPUTS[0]], {INPUT: as_input(clip)})[0][0]) for clip in clips]
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(logits))), np.float64)


def as_input(clip: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [T, S, S, 3] -> float32 [1, T, 3, S, S] in 0..1, as the exported network takes it."""
    return np.ascontiguousarray(clip.transpose(0, 3, 1, 2)[None], dtype=np.float32) / np.float32(255)
