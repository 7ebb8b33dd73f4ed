"""The network as ONNX, for serving without torch, and the proof that it says the same.

Input `frames` [B, T, 3, H, W] float32 in 0..1; outputs `logit` [B], `frame_certainty` [B, T], `embedding` [B, F].
B and T are free. The file is one piece, and holds no trace of the machine it was made on.
"""

import copy
import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.network import ResNeXtLSTM
from workspace.errors import ModelFileError
from workspace.files import atomic_file, sha256_bytes

INPUT, OUTPUTS = "frames", ("logit", "frame_certainty", "embedding")


class OnnxRecurrent(nn.Module):
    """An nn.LSTM or nn.GRU as ONNX's own nodes: same weights, gates in ONNX's order. Only the exporter can run it.

    torch's exporter writes a loop instead, and from the second export in a process on it silently fixes T to the example's.
    """

    def __init__(self, recurrent: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.kind = "LSTM" if isinstance(recurrent, nn.LSTM) else "GRU"
        self.hidden, self.layers, self.directions = recurrent.hidden_size, recurrent.num_layers, 2 if recurrent.bidirectional else 1
        for layer in range(recurrent.num_layers):
            ends = [f"l{layer}{end}" for end in ("", "_reverse")[: self.directions]]
            for name, kinds in (("w", ("weight_ih",)), ("r", ("weight_hh",)), ("b", ("bias_ih", "bias_hh"))):
                parts = [torch.cat([_onnx_gates(getattr(recurrent, f"{kind}_{end}"), self.kind) for kind in kinds]) for end in ends]
                self.register_buffer(f"{name}{layer}", torch.stack(parts))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """x [B, T, F] -> states [B, T, D], as torch's module with batch_first gives them."""
        x = x.transpose(0, 1)  # [T, B, F]
        about: dict[str, int | str] = {"hidden_size": self.hidden, "direction": "bidirectional" if self.directions == 2 else "forward"}
        if self.kind == "GRU":
            about["linear_before_reset"] = 1  # torch's GRU resets after the product
        for layer in range(self.layers):
            (states,) = torch.onnx.ops.symbolic_multi_out(
                self.kind,
                [x, getattr(self, f"w{layer}"), getattr(self, f"r{layer}"), getattr(self, f"b{layer}")],
                about,
                dtypes=[torch.float32],
                shapes=[(x.shape[0], self.directions, x.shape[1], self.hidden)],
            )
            x = states.transpose(1, 2).flatten(2)  # [T, directions, B, H] -> [T, B, D]
        return x.transpose(0, 1), None


def _onnx_gates(weights: Tensor, kind: str) -> Tensor:
    """Rows in torch's order of gates in ONNX's.

    LSTM: input, forget, cell, output -> input, output, forget, cell. GRU: reset, update, new -> update, reset, new.
    """
    if kind == "GRU":
        r, z, n = weights.detach().chunk(3)
        return torch.cat([z, r, n])
    i, f, c, o = weights.detach().chunk(4)
    return torch.cat([i, o, f, c])


class _Served(nn.Module):
    def __init__(self, model: ResNeXtLSTM) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to("cpu").eval()
        if isinstance(self.model.temporal, nn.LSTM | nn.GRU):
            self.model.temporal = OnnxRecurrent(self.model.temporal)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = self.model.forward_all(frames)
        return outputs.logits, outputs.certainty, outputs.embedding


def export_onnx(model: ResNeXtLSTM, path: Path, size_px: int | None = None) -> str:
    """Write `model` as ONNX to `path`, whole or not at all. Returns the file's sha256.

    `size_px` must be the model's own. Raises ModelFileError where the exporter fails. The model is left as it was.
    """
    size = model.size_px if size_px is None else size_px
    if size != model.size_px:
        raise ModelFileError("Cannot export.", why=f"the model takes {model.size_px} px, asked for {size} px", next_step="Export at the model's own size.")
    content = _export(_Served(model), size)
    with atomic_file(path, "wb") as handle:
        handle.write(content)
    return sha256_bytes(content)


def _export(served: _Served, size: int) -> bytes:
    noise, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(noise), redirect_stderr(noise), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                served, (torch.zeros(2, 5, 3, size, size),), dynamo=True, external_data=False, verbose=False,
                input_names=[INPUT], output_names=list(OUTPUTS), dynamic_shapes={"frames": {0: torch.export.Dim("B"), 1: torch.export.Dim("T")}},
            )  # fmt: skip
    except Exception as problem:
        raise ModelFileError(
            "The model could not be exported.", why=f"{type(problem).__name__}: {problem}"[:800], next_step="Use another backbone."
        ) from problem
    finally:
        logging.disable(level)
    assert program is not None  # always a program with dynamo=True
    proto = program.model_proto
    free = [dimension.dim_param for dimension in proto.graph.input[0].type.tensor_type.shape.dim[:2]]
    if not all(free):
        raise ModelFileError(
            "The model could not be exported.", why=f"the exporter fixed the number of clips or frames ({free})", next_step="Use another backbone."
        )
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.functions):
        del part.metadata_props[:]  # the exporter writes source paths of this machine there
    for node in proto.graph.node:
        node.doc_string = ""
    return proto.SerializeToString(deterministic=True)


def parity(model: ResNeXtLSTM, onnx_path: Path, clips: Sequence[NDArray[np.uint8]]) -> float:
    """Largest difference of p_fake (uncalibrated) between the checkpoint and the exported file over `clips`, each [T, H, W, 3] uint8.

    NaN where either answers NaN.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(Path(onnx_path).read_bytes(), providers=["CPUExecutionProvider"])
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    differences = []
    for clip in clips:
        frames = np.ascontiguousarray(clip.transpose(0, 3, 1, 2)[None], dtype=np.float32) / np.float32(255)
        with torch.no_grad():
            ours = torch.sigmoid(model(torch.from_numpy(frames).to(device)))[0].item()
        exported = session.run([OUTPUTS[0]], {INPUT: frames})[0][0]
        differences.append(abs(ours - float(1 / (1 + np.exp(-exported)))))
    model.train(was_training)
    return float(np.max(differences, initial=0.0))  # NaN stays NaN, which Python's max would drop: a checkpoint of NaN agrees with nothing
