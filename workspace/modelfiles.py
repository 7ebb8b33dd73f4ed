"""A model on disk, as promotion and registry see it: files whose hashes agree with the card. Nothing is loaded here.

Three files; an imported ONNX model, whose card names no network of ours (`model` empty), has no weights and is known by its ONNX file.
"""

from pathlib import Path
from typing import Any

from workspace.errors import ModelFileError
from workspace.files import read_json, sha256_file
from workspace.state import Champion

CARD, WEIGHTS, EXPORT = "card.json", "model.safetensors", "model.onnx"
MODEL_FILES = (WEIGHTS, EXPORT, CARD)


def verify_model_files(folder: Path, model_sha256: str = "", *, card_sha256: str = "") -> dict[str, Any]:
    """The card of the model in `folder`, once its files have the sha256 it names; it is the model `model_sha256` with the card `card_sha256` (when given).

    Raises ModelFileError when a file is missing, a hash differs, or it is another model.
    """
    folder = Path(folder)
    try:
        card = read_json(folder / CARD)
        weights = EXPORT if card.get("imported") and card.get("model") is None else WEIGHTS
        expected = {weights: str(card["model_sha256"])} | {EXPORT: str(card["onnx_sha256"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise _refusal(folder, f"{CARD} cannot be read: {type(problem).__name__}: {problem}") from problem
    for name, sha256 in expected.items():
        try:
            found = sha256_file(folder / name)
        except OSError as problem:
            raise _refusal(folder, f"{name} cannot be read: {problem}") from problem
        if found != sha256:
            raise _refusal(folder, f"{name} has sha256 {found[:12]}..., its card says {sha256[:12]}...")
    if model_sha256 and expected[weights] != model_sha256:
        raise _refusal(folder, f"it holds model {expected[weights][:12]}..., not {model_sha256[:12]}...")
    if card_sha256 and (found := sha256_file(folder / CARD)) != card_sha256:
        raise _refusal(folder, f"its {CARD}, with the threshold, has sha256 {found[:12]}..., the one that was judged {card_sha256[:12]}...")
    return dict(card)


def verify_promoted(root: Path, model: Champion) -> dict[str, Any]:
    """The card of a model that was promoted, once its files here are those of then, the card with its threshold too. Raises ModelFileError."""
    return verify_model_files(root / model.path, model.model_sha256, card_sha256=model.card_sha256)


def is_as_promoted(folder: Path, model: Champion) -> bool:
    """Whether the files in `folder`, the model's own or a copy, are those of a model that was promoted, the card with its threshold too."""
    try:
        verify_model_files(folder, model.model_sha256, card_sha256=model.card_sha256)
    except ModelFileError:
        return False
    return True


def _refusal(folder: Path, why: str) -> ModelFileError:
    if not folder.exists():
        return ModelFileError(
            f"The model {folder} is not on this machine. Nothing was changed.",
            why="it was never fetched, as in a fresh clone, or was removed",
            next_step="Run `vigil doctor --pull`. Or train again.",
        )
    return ModelFileError(
        f"Refused the model in {folder}. Nothing was changed.",
        why=why,
        next_step="Run `vigil doctor --fix` where it is the champion; `dvc pull --force` of its .dvc file restores any other. Or train again.",
    )
