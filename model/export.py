"""The network as ONNX, for serving without torch, and the proof that it says the same.

Input `frames` [B, T, 3, H, W] float32 in 0..1; outputs `logit` [B], `frame_certainty` [B, T], `embedding` [B, F].
B and T are free. The file is one piece, and holds no trace of the machine it was made on.
"""

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


class _Served(nn.Module):
    def __init__(self, model: ResNeXtLSTM) -> None:
        super().__init__()
        self.model = model

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
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    try:
        content = _export(model.eval().to("cpu"), size)
    finally:
        model.to(device)
        for module, training in modes.items():
            module.training = training
    with atomic_file(path, "wb") as handle:
        handle.write(content)
    return sha256_bytes(content)


def _export(model: ResNeXtLSTM, size: int) -> bytes:
    noise, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(noise), redirect_stderr(noise):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Served(model).eval(), (torch.zeros(2, 3, 3, size, size),), dynamo=True, external_data=False, verbose=False,
                input_names=[INPUT], output_names=list(OUTPUTS), dynamic_shapes={"frames": {0: torch.export.Dim("B"), 1: torch.export.Dim("T")}},
            )  # fmt: skip
    except Exception as problem:
        raise ModelFileError("The model could not be exported.", why=f"{type(problem).__name__}: {problem}"[:800], next_step="Use another backbone.") from problem
    finally:
        logging.disable(level)
    assert program is not None      # always a program with dynamo=True
    proto = program.model_proto
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.functions):
        del part.metadata_props[:]                  # the exporter writes source paths of this machine there
    for node in proto.graph.node:
        node.doc_string = ""
    return proto.SerializeToString(deterministic=True)


def parity(model: ResNeXtLSTM, onnx_path: Path, clips: Sequence[NDArray[np.uint8]]) -> float:
    """Largest difference of p_fake (uncalibrated) between the checkpoint and the exported file over `clips`, each [T, H, W, 3] uint8."""
    import onnxruntime

    session = onnxruntime.InferenceSession(Path(onnx_path).read_bytes(), providers=["CPUExecutionProvider"])
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    worst = 0.0
    for clip in clips:
        frames = np.ascontiguousarray(clip.transpose(0, 3, 1, 2)[None], dtype=np.float32) / np.float32(255)
        with torch.no_grad():
            ours = torch.sigmoid(model(torch.from_numpy(frames).to(device)))[0].item()
        exported = session.run([OUTPUTS[0]], {INPUT: frames})[0][0]
        worst = max(worst, abs(ours - float(1 / (1 + np.exp(-exported)))))
    model.train(was_training)
    return worst
