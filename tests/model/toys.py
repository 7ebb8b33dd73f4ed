"""Small worlds for the tests of the detector: clips whose fakes carry a visible mark, and a network that learns it in seconds."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from model.card import ModelCard, write_card
from model.checkpoint import save_model
from model.data import MemoryClips
from model.export import export_onnx
from model.network import ResNeXtLSTM
from workspace.settings import FaceSettings, ModelSettings

SIZE = 32
SMALL = ModelSettings(backbone="resnext_tiny", lstm_hidden=8, dropout=0.1)


def small_model(seed: int = 0, **settings: object) -> ResNeXtLSTM:
    """A network for 32 px with random weights, its frame head included."""
    torch.manual_seed(seed)
    return ResNeXtLSTM(SMALL.model_copy(update=settings), SIZE)


def lively_model(seed: int = 0, **settings: object) -> ResNeXtLSTM:
    """As small_model, in eval mode, with all weights moved so that no branch is silent."""
    model = small_model(seed, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def toy_clip(fake: bool, rng: np.random.Generator, frames: int = 3) -> np.ndarray:
    """Noise [T, 32, 32, 3]; a fake has brighter rows in turn, at 24/255."""
    clip = rng.normal(120, 20, (frames, SIZE, SIZE, 3))
    if fake:
        clip[:, ::2] += 24
    return clip.clip(0, 255).astype(np.uint8)


def toy_clips(count: int, seed: int = 0, lengths: tuple[int, ...] = (3,), role: str = "new") -> MemoryClips:
    """`count` clips, half of them fake."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "clip_id": f"{seed}-{n:03d}",
            "label": "fake" if n % 2 else "real",
            "sha256": f"{seed}-{n}",
            "role": role,
            "new": role == "new",
            "generator": "rows" if n % 2 else "",
        }
        for n in range(count)
    ]
    return MemoryClips(pd.DataFrame(rows), [toy_clip(bool(n % 2), rng, lengths[n % len(lengths)]) for n in range(count)])


def face_settings() -> FaceSettings:
    """Faces as the small network takes them."""
    return FaceSettings(size_px=SIZE, clip_frames=3, min_clip_frames=1)


@cache
def written(seed: int, **settings: Any) -> dict[str, tuple[bytes, str]]:
    """A lively model's checkpoint and export, each with its sha256. An export takes five seconds."""
    with TemporaryDirectory() as folder:
        checkpoint, export = Path(folder) / "model.safetensors", Path(folder) / "model.onnx"
        model = lively_model(seed, **settings)
        shas = save_model(model, checkpoint), export_onnx(model, export)
        return {path.name: (path.read_bytes(), sha) for path, sha in zip((checkpoint, export), shas, strict=True)}


def model_folder(
    folder: Path, threshold: float = 0.5, abstain: float = 0.1, temperature: float = 2.0, seed: int = 0, offset: float = -0.25, **settings: Any
) -> ResNeXtLSTM:
    """Write a lively model as it ships: checkpoint, export and card. `settings` are of the network. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (content, _) in written(seed, **settings).items():
        (folder / name).write_bytes(content)
    card = ModelCard(
        model_sha256=written(seed, **settings)["model.safetensors"][1],
        onnx_sha256=written(seed, **settings)["model.onnx"][1],
        cycle="2026-W47.1",
        faces=face_settings(),
        model=SMALL.model_copy(update=settings),
        threshold=threshold,
        temperature=temperature,
        offset=offset,
        abstain=abstain,
    )
    write_card(folder, card)
    return lively_model(seed, **settings)
