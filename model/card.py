"""The model card: what a model is, how faces reach it, where its threshold lies, what it was trained on. No torch here.

A model is a folder: model.safetensors (to train on), model.onnx (to serve), card.json (this). The card holds the sha256
of both files; nothing is used before they agree.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workspace.errors import ModelFileError
from workspace.files import read_json, sha256_file, write_json
from workspace.settings import FaceSettings, ModelSettings

CARD, WEIGHTS, ONNX, HISTORY = "card.json", "model.safetensors", "model.onnx", "history.json"
SHA256 = r"^[0-9a-f]{64}$"
RESTORE = "Restore the folder from DVC, or train again."
UPGRADE = "Use the version of Vigil that wrote it: as a rule a newer one (`git pull && make setup`)."
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold for a false-positive rate that a user may ask for, and what it costs: all on validation."""

    target_fpr: Annotated[float, Field(gt=0, le=1)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    fpr: float | None
    recall: float | None  # part of the validation fakes that it finds
    shown: bool  # whether validation has the 1/target - 1 real people that such a rate takes; with fewer it is exceeded in the mean


class _Calibration(BaseModel):
    points: tuple[OperatingPoint, ...] = ()


class _Metrics(BaseModel):
    calibration: _Calibration = _Calibration()


class ModelCard(BaseModel):
    """Everything a reader of the model must know. Fractions are 0..1; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(1, ge=1, le=1, description="Version of this card's layout.")
    model_sha256: str = Field(pattern=SHA256, description="Of model.safetensors: the model's identity everywhere.")
    onnx_sha256: str = Field(pattern=SHA256, description="Of model.onnx.")
    engine: str = Field("onnxruntime-fp32", description="What runs model.onnx, and in which numbers.")
    cycle: str = Field(description="The cycle that trained it, e.g. 2026-W47.1.")
    created: str = Field("", description="UTC time, or empty where the same inputs must give the same bytes.")
    label_map: dict[str, str] = Field(default_factory=lambda: {"positive": "fake"}, description="Which way the logit points.")
    faces: FaceSettings = Field(description="Serving repeats exactly this.")
    model: ModelSettings | None = Field(
        description="Empty for an imported ONNX file: it is its own identity, has no weights of ours, and cannot be trained on."
    )
    imported: dict[str, Any] = Field(
        default_factory=dict, description="Of a model made elsewhere: file, sha256 of it, contract, what it said when it was probed."
    )
    threshold: float = Field(ge=0, le=1, description="On calibrated p_fake of a video; set on validation.")
    temperature: float = Field(ge=1e-6, allow_inf_nan=False, description="Logits are divided by this before the sigmoid.")
    offset: float = Field(default=0.0, allow_inf_nan=False, description="Added to them after that.")
    levels: tuple[Finite, Finite] = Field(
        default=(0.0, 0.0), description="Raw logits of a typical real and a typical fake (model/aggregate.py); equal: unknown."
    )
    abstain: float = Field(ge=0, le=1, description="Half-width of the uncertain band around the threshold.")
    generators_seen: tuple[str, ...] = Field(
        (), description="Generators and forgers among the training clips, and what the champion had met where the model started from it."
    )
    train_clips: tuple[str, ...] = Field((), description="sha256 of every training clip's pixels, in training order of epoch 0.")
    data_hash: str = Field("", description="model.data.epoch_hash of the training set.")
    seed: int = 0
    git_revision: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict, description="The whole params.yaml it was trained under.")

    @property
    def model_id(self) -> str:
        """First 12 digits of the sha256: the name shown to people."""
        return self.model_sha256[:12]


def operating_points(card: ModelCard) -> tuple[OperatingPoint, ...]:
    """The thresholds that a card keeps for false-positive rates; none on one without a calibration. Raises ModelFileError where they are none."""
    try:
        return _Metrics.model_validate(card.metrics).calibration.points
    except ValidationError as problem:
        raise ModelFileError(
            f"Cannot read the operating points of model {card.model_id}.",
            why=f"they are not what Vigil writes into a card: {_mistakes(problem)}",
            next_step=RESTORE,
        ) from problem


def trainable(folder: Path) -> bool:
    """Whether the model in `folder` has weights to go on from. Raises ModelFileError where its card cannot be read."""
    return load_card(folder).model is not None


def write_card(folder: Path, card: ModelCard) -> Path:
    """Write card.json into `folder`; the same card gives the same bytes."""
    return write_json(Path(folder) / CARD, card.model_dump(mode="json"))


def load_card(folder: Path) -> ModelCard:
    """The card of the model in `folder`. Raises ModelFileError where it is missing or not a card. Checks no hash: see `verify`."""
    path = Path(folder) / CARD
    try:
        return ModelCard.model_validate(read_json(path))
    except (OSError, ValueError, RecursionError, ValidationError) as problem:
        why, step = str(problem), RESTORE
        if isinstance(problem, ValidationError):
            why = _mistakes(problem)
            if _of_another_version(problem):
                why, step = f"another version of Vigil wrote it, and this one does not know all that it says: {why}", UPGRADE
        raise ModelFileError(f"Cannot read the model card in {folder}.", why=why, next_step=step) from problem


def _of_another_version(problem: ValidationError) -> bool:
    """Whether a card is of a later form, or all that is wrong with it are keys that this version does not have."""
    mistakes = problem.errors()
    return all(one["type"] == "extra_forbidden" for one in mistakes) or any(one["loc"] == ("format",) and one["type"] == "less_than_equal" for one in mistakes)


def _mistakes(problem: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, m['loc']))}: {m['msg']}" for m in problem.errors())


def verify(folder: Path) -> ModelCard:
    """The card, once its model files have the sha256 it names. Raises ModelFileError otherwise; nothing is loaded."""
    card = load_card(folder)
    for name, expected in ((WEIGHTS if card.model else ONNX, card.model_sha256), (ONNX, card.onnx_sha256)):
        path = Path(folder) / name
        if not path.is_file():
            raise ModelFileError(f"Cannot use the model in {folder}.", why=f"{name} is missing", next_step=RESTORE)
        refuse_changed(path, sha256_file(path), expected)
    return card


def refuse_changed(path: Path, found: str, expected: str) -> None:
    """Raise ModelFileError unless `found` is the `expected` sha256."""
    if found != expected:
        raise ModelFileError(
            f"Refused {path}. Nothing was loaded.",
            why=f"its sha256 is {found[:12]}..., recorded was {expected[:12]}...: the file has changed since it was written",
            next_step=RESTORE,
        )
