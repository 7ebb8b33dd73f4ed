"""Model files: safetensors with the configuration in their header, and nothing that can run code when it is read.

A file is read once, hashed, compared with the sha256 it is known by, and only then parsed from those same bytes.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from model.card import refuse_changed
from model.network import ResNeXtLSTM
from workspace.errors import ModelFileError
from workspace.files import atomic_file, sha256_bytes
from workspace.settings import ModelSettings

HEADER = "vigil"  # the one metadata key: several would be written in random order
MODEL_KIND = "resnext-lstm-1"
FORMER_NAMES = {"lstm": "temporal", "lstm_head": "temporal_head"}  # of modules, before a GRU or a transformer could stand there


def save_tensors(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> str:
    """Write tensors and JSON-able `info` into one file, whole or not at all. Returns its sha256. Same content, same bytes."""
    ready = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    content = tensors_to_bytes(ready, metadata={HEADER: json.dumps(info, sort_keys=True)})
    with atomic_file(path, "wb") as handle:
        handle.write(content)
    return sha256_bytes(content)


def load_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors on the CPU, info). Raises ModelFileError for a missing, changed or foreign file (pickles included)."""
    try:
        content = Path(path).read_bytes()
    except OSError as problem:
        raise ModelFileError(f"Cannot read {path}.", why=str(problem), next_step="Restore it from DVC, or train again.") from problem
    if sha256 is not None:
        refuse_changed(Path(path), sha256_bytes(content), sha256)
    try:
        (length,) = struct.unpack("<Q", content[:8])
        info = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][HEADER])
        return parse_tensors(content), info
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ModelFileError(
            f"Refused {path}. Nothing was loaded.",
            why=f"not a safetensors file written by Vigil ({type(problem).__name__}); other formats can run code when read",
            next_step="Name a model.safetensors that a cycle made.",
        ) from problem


def save_model(model: ResNeXtLSTM, path: Path, info: Mapping[str, Any] | None = None) -> str:
    """Write the network and how to build it. Returns the sha256 that the model card records."""
    about = {**(info or {}), "kind": MODEL_KIND, "model": model.settings.model_dump(mode="json"), "size_px": model.size_px}
    return save_tensors(path, model.state_dict(), about)


def load_model(path: Path, sha256: str | None = None) -> ResNeXtLSTM:
    """The network stored at `path`, on the CPU, in eval mode.

    Raises ModelFileError where the file is missing, is not the one `sha256` names, or does not fit its own description.
    """
    tensors, info = load_tensors(path, sha256)
    try:
        if info["kind"] != MODEL_KIND:
            raise ValueError(f"kind is {info['kind']!r}, expected {MODEL_KIND!r}")
        # the backbone's own start weights are about to be overwritten: their file need not exist any more
        settings = ModelSettings.model_validate_json(json.dumps(info["model"] | {"weights": ""}))
        model = ResNeXtLSTM(settings, int(info["size_px"]))
        model.load_state_dict({_name_of_now(name): tensor for name, tensor in tensors.items()}, strict=True)
    except (KeyError, ValueError, TypeError, RuntimeError, ValidationError) as problem:  # RecursionError is a RuntimeError
        why = f"it does not fit its own description: {problem}"[:500]
        raise ModelFileError(f"Refused {path}. Nothing was loaded.", why=why, next_step="Train again with this version of Vigil.") from problem
    return model.eval()


def _name_of_now(name: str) -> str:
    module, dot, rest = name.partition(".")
    return f"{FORMER_NAMES.get(module, module)}{dot}{rest}"
