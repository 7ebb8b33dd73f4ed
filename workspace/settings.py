"""The settings of a workspace: `params.yaml`, read once into frozen models. Every mistake is listed at once."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workspace.errors import SettingsError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
PROFILES = ("full", "small", "demo")
STAGES = (
    "faces", "validate", "forge", "assemble", "pretrain", "harden", "train", "evaluate", "drift", "gate",
)  # fmt: skip


class Block(BaseModel):
    """A frozen block of settings that refuses unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class IdentityRule(Block):
    """Who is in a file, and how that is known. Wrong identities leak people across splits, so the rule is explicit."""

    rule: Literal["column", "folder", "pattern", "file", "unknown"] = Field(
        "file",
        description="column: the table says; folder: the parent folder's name; pattern: first group of `pattern` on the "
        "file name; file: each file is its own person; unknown: nobody knows (such samples only train).",
    )
    pattern: str = Field("", description="Regular expression with one group, for rule `pattern`.")

    @model_validator(mode="after")
    def _pattern_present(self) -> Self:
        if (self.rule == "pattern") != bool(self.pattern):
            raise ValueError("`pattern` goes with rule `pattern`, and only with it")
        return self


class SourceSettings(Block):
    """One place where media come from."""

    name: str = Field(description="Short name; becomes the `source` column and part of the batch name.", pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")
    path: str = Field(description="A folder, a CSV file, or s3://bucket/prefix.")
    layout: Literal["auto", "folder", "csv", "faceforensics"] = "auto"
    identity: IdentityRule = IdentityRule()
    label_map: dict[str, Literal["real", "fake", ""]] = Field(
        default_factory=dict, description="What the source's own labels mean, e.g. {'0': real, '1': fake}."
    )


class IngestSettings(Block):
    """Where new media are looked for, and what may come in."""

    sources: tuple[SourceSettings, ...] = Field((), strict=False, description="A scheduled cycle ingests these.")
    max_file_bytes: Positive = Field(8 << 30, description="Larger files are quarantined.")
    near_duplicate_bits: NotNegative = Field(4, le=32, description="Perceptual hashes (64 bits) at most this far apart are one picture.")
    shard_bytes: Positive = Field(256 << 20, description="Raw media are kept in tar shards of about this size.")
    s3_endpoint_url: str = Field("", description="S3-compatible endpoint; empty means the default of boto3.")


class FaceSettings(Block):
    """How a face becomes a clip. Stored with the model: serving repeats exactly this."""

    detector: Literal["blazeface", "haar"] = "blazeface"
    size_px: int = Field(224, ge=32, le=512, description="Side of the aligned crop.")
    margin: float = Field(1.3, ge=1, le=3, description="Side of the crop as a multiple of the face's own extent.")
    mode: Literal["dense", "standard", "fast"] = Field("standard", description="dense: whole video; standard: clips spread over it; fast: 1 fps.")
    fps: float = Field(30.0, gt=0, le=120, description="Frames a second within a clip, taken by time stamp.")
    clip_frames: Positive = Field(30, le=120, description="Frames a clip (T).")
    clips_per_video: Positive = Field(4, description="Clips spread over a video in mode `standard`.")
    min_clip_frames: Positive = Field(5, description="Shorter runs of one face give no clip.")
    min_face_px: Positive = Field(40, description="Smaller faces are not judged.")
    min_score: Fraction = Field(0.5, description="Least score of the face detector.")
    max_gap_frames: NotNegative = Field(2, description="A longer gap in a track ends its clip.")
    max_tracks: Positive = Field(5, description="People followed in one video; the largest faces first.")
    max_detect_px: Positive = Field(512, description="Frames are shrunk to this longest side before detection.")
    workers: NotNegative = Field(0, description="Processes of the `faces` stage; 0 means one a core.")

    @model_validator(mode="after")
    def _clip_fits(self) -> Self:
        if self.min_clip_frames > self.clip_frames:
            raise ValueError(f"min_clip_frames ({self.min_clip_frames}) exceeds clip_frames ({self.clip_frames})")
        return self


class ValidateSettings(Block):
    """What a batch must show before it may enter training (Great Expectations)."""

    min_samples: Positive = Field(4, description="A smaller batch is held.")
    min_decodable: Fraction = Field(0.9, description="Least part of the files that decode.")
    min_face_found: Fraction = Field(0.7, description="Least part of the files in which a face is found.")
    max_duplicates: Fraction = Field(0.5, description="Largest part of exact or near duplicates.")
    min_size_px: Positive = Field(64, description="Shortest side of a picture.")


class ForgeSettings(Block):
    """Fakes made from the batch's own real clips."""

    forgers: tuple[str, ...] = Field(("self_blend", "landmark_swap"), strict=False, description="Names from the forger registry.")
    fakes_per_real: float = Field(1.0, ge=0, le=10, description="Forged clips a real clip, shared among the forgers.")
    max_clips: NotNegative = Field(2000, description="Most forged clips a batch.")


class AugmentSettings(Block):
    """One draw a clip, the same for each frame, the same for real and fake (design, 'The model')."""

    flip: Fraction = 0.5
    rotation_degrees: float = Field(15.0, ge=0, le=45)
    affine: float = Field(0.1, ge=0, le=0.5, description="Largest crop, shift, zoom and shear.")
    brightness: float = Field(0.2, ge=0, le=1)
    noise_sigma: float = Field(0.1, ge=0, le=0.5, description="Largest sigma of Gaussian noise, on [0,1] pixels.")
    jpeg_quality_min: int = Field(40, ge=5, le=100)
    downscale_min: float = Field(0.4, gt=0, le=1, description="Smallest factor of down-and-up scaling.")
    blur_sigma_max: float = Field(1.5, ge=0, le=10)
    degrade: Fraction = Field(0.5, description="Chance that a clip goes through JPEG, scaling or blur at all.")


class SplitSettings(Block):
    """Parts of the identities, by a keyed hash: who is in the holdout never changes."""

    train: Fraction = 0.7
    validation: Fraction = 0.2
    holdout: Fraction = 0.1
    key: str = Field("vigil", min_length=1, description="Changing it redraws every split: never in a living workspace.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.holdout - 1) > 1e-9:
            raise ValueError("train + validation + holdout must be 1")
        if not (self.train and self.validation and self.holdout):
            raise ValueError("each split needs a part above 0")
        return self


class BudgetSettings(Block):
    """What one cycle may cost, whatever the history holds."""

    new_clips: Positive = Field(20000, description="Most clips of the batches under judgement drawn to train.")
    replay_clips: NotNegative = Field(4000, description="Clips of earlier batches, generator- and class-balanced.")
    forged_fraction: Fraction = Field(0.1, description="Part of the drawn clips that is newly forged, generators in rotation.")
    hardened_clips: NotNegative = Field(1000, description="Clips attacked by `harden`.")
    evaluation_clips_per_slice: Positive = Field(400, description="Frozen, seeded panel: videos a slice.")
    attack_clips: Positive = Field(200, description="Holdout clips attacked in `evaluate`.")


class ModelSettings(Block):
    """The ResNeXt-LSTM. Letters and sources in model/network.py."""

    backbone: str = Field("resnext50_32x4d", description="A torchvision classifier by name, or resnext_small, resnext_tiny.")
    weights: str = Field("", description="Path of a safetensors file with backbone weights; empty trains from scratch.")
    lstm_hidden: Positive = 256
    lstm_layers: Positive = 1
    bidirectional: bool = True
    spatial_prior: tuple[float, float, float] = Field((0.40, 0.35, 0.25), strict=False, description="Eyes, lips, skin.")
    certainty_attention: bool = True
    spatial_attention: bool = True
    fusion_cnn: Fraction = Field(0.6, description="Weight of the CNN's head; the LSTM has the rest.")
    dropout: Fraction = 0.3

    @model_validator(mode="after")
    def _prior_is_a_distribution(self) -> Self:
        if abs(sum(self.spatial_prior) - 1) > 1e-6 or min(self.spatial_prior) < 0:
            raise ValueError("spatial_prior must be three parts that sum to 1")
        return self


class PhaseSettings(Block):
    """One phase of training."""

    steps: Positive = Field(description="Optimiser steps at most.")
    batch: Positive = Field(description="Clips (or frames) an optimiser step sees.")
    micro_batch: Positive = Field(description="Clips (or frames) at once; batch is reached by accumulation.")
    lr: float = Field(gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    warmup: Fraction = Field(0.05, description="Part of the steps over which the rate rises.")
    validate_every: Positive = Field(200, description="Steps between two looks at validation, and between two checkpoints.")
    patience: Positive = Field(5, description="Looks without a better validation loss before training stops.")

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.batch % self.micro_batch:
            raise ValueError(f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch})")
        return self


class TrainSettings(PhaseSettings):
    """Phase 2."""

    loss: Literal["focal", "bce"] = "focal"
    focal_gamma: float = Field(2.0, ge=0, le=10)
    wasserstein: Fraction = Field(0.2, description="Weight of the 1-D distance between real and fake scores; cross-entropy has the rest.")
    distillation: float = Field(0.5, ge=0, le=10, description="Weight of logit distillation from the base model on replayed clips.")
    adversarial_fraction: Fraction = Field(0.5, description="Part of each batch attacked during training.")
    adversarial_eps: float = Field(2 / 255, ge=0, le=0.2)
    adversarial_steps: NotNegative = Field(1, description="0 switches attacks during training off.")
    ema: Fraction = Field(0.99, description="Decay of the averaged weights that are kept.")
    clip_norm: float = Field(1.0, gt=0)


class HardenSettings(Block):
    """PGD in pixels of [0,1], Madry et al. 2018."""

    eps: float = Field(0.05, gt=0, le=0.5)
    steps: Positive = 10
    restarts: Positive = 1
    step_size: float = Field(0.0125, gt=0, le=0.5)

    @model_validator(mode="after")
    def _reaches_the_border(self) -> Self:
        if self.step_size * self.steps < self.eps:
            raise ValueError("step_size * steps is smaller than eps: the attack cannot reach its own bound")
        return self


class EvaluateSettings(Block):
    """How honest figures are made."""

    resamples: Positive = Field(2000, description="Cluster-bootstrap resamples.")
    target_fpr: float = Field(0.032, gt=0, lt=1, description="The threshold is set on validation to this false-positive rate.")
    abstain: Fraction = Field(0.1, description="Half-width of the band around the threshold that is called uncertain.")
    attack_eps: tuple[float, ...] = Field((0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 0.05, 16 / 255), strict=False)
    attack_steps: Positive = 20
    attack_restarts: Positive = 1


class DriftSettings(Block):
    """Permutation test on embeddings, and Evidently's report for people."""

    permutations: Positive = Field(199, ge=99)
    alpha: float = Field(0.01, gt=0, lt=0.5)
    min_samples: Positive = Field(20, description="Fewer on either side: undecided, reported.")
    max_samples: Positive = Field(500, description="Drawn by seed from each side.")

    @model_validator(mode="after")
    def _can_alarm(self) -> Self:
        if 1 / (self.permutations + 1) >= self.alpha:
            raise ValueError(f"{self.permutations} permutations cannot show a p-value below alpha ({self.alpha}): more are needed")
        return self


class GateSettings(Block):
    """Limits a challenger must meet. Fractions are 0..1. Production values are the defaults."""

    min_per_class: Positive = Field(94, description="Least real and fake videos; 94 with no false alarm is the fewest that can show 3.2%.")
    min_auc: Fraction = 0.90
    min_balanced_accuracy: Fraction = 0.90
    min_precision: Fraction = 0.90
    min_recall: Fraction = 0.90
    min_f1: Fraction = 0.90
    max_fpr: Fraction = Field(0.032, description="Wilson upper bound is printed; the point estimate and n decide.")
    max_ece: Fraction = 0.05
    margin: Fraction = Field(0.01, description="Largest tolerated loss of AUC against the champion (lower end of the paired interval).")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="One-sided level of the paired comparison.")
    min_slice: Positive = Field(30, description="Fewer videos in a slice: reported, pooled, not judged alone.")
    max_slice_drop: Fraction = Field(0.02, description="Largest drop of balanced accuracy of any slice against the champion.")
    min_new_auc: Fraction = Field(0.90, description="On a generator the champion has not met.")
    max_forgetting: Fraction = Field(0.01, description="Largest mean drop of AUC on generators known before.")
    max_generalisation_gap: Fraction = Field(0.10, description="Train AUC minus holdout AUC.")
    min_score_spread: Fraction = Field(0.05, description="Least standard deviation of p_fake on the holdout.")
    max_transfer_drop: Fraction = Field(0.04, description="Balanced accuracy lost to transferred PGD at 0.05.")
    min_whitebox: Fraction = Field(0.30, description="Balanced accuracy under white-box PGD at 2/255, above what an undefended model has.")
    max_curve_drop: Fraction = Field(0.05, description="Largest loss of mean robust accuracy against the champion.")
    max_latency_seconds: float = Field(5.0, gt=0, description="A 10 s clip, mode `standard`, two cores.")
    max_model_bytes: Positive = 200 << 20
    max_parity: float = Field(1e-3, gt=0, description="Largest difference of p_fake between checkpoint and export on golden clips.")
    hold_on_drift: bool = True


class ScheduleSettings(Block):
    """When the weekly cycle is due."""

    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = "monday"
    hour: int = Field(3, ge=0, le=23)
    minute: int = Field(0, ge=0, le=59)
    timezone: str = "UTC"
    retries: NotNegative = Field(2, description="Prefect retries a stage this often when the failure may pass.")
    retry_delay_seconds: NotNegative = 10
    stage_timeout_seconds: Positive = 24 * 3600


class ServeSettings(Block):
    """The thin service."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    max_upload_bytes: Positive = 512 << 20
    reload_seconds: float = Field(5.0, gt=0, description="How often the service looks whether the champion has changed.")
    ready_timeout_seconds: Positive = Field(60, description="The promotion probe waits this long for /readyz.")
    threads: Positive = Field(2, description="ONNX Runtime threads.")


class RegistrySettings(Block):
    """Where MLflow keeps runs and models. A relative sqlite path is inside the workspace."""

    tracking_uri: str = Field("sqlite:///mlflow.db", pattern=r"^(sqlite|postgresql(\+\w+)?|mysql(\+\w+)?|https?)://")
    model_name: str = Field("detector", pattern=r"^[A-Za-z0-9_-]+$")
    experiment: str = "vigil"


class RemoteSettings(Block):
    """The DVC remote: a folder, or s3://bucket/prefix."""

    url: str = Field("remote", description="Relative folders are inside the workspace's .vigil folder; empty means none.")
    s3_endpoint_url: str = ""


class StageVersions(Block):
    """Raised by one when a stage's result would change for the same input."""

    faces: Positive = 1
    validate_: Positive = Field(1, alias="validate")
    forge: Positive = 1
    assemble: Positive = 1
    pretrain: Positive = 1
    harden: Positive = 1
    train: Positive = 1
    evaluate: Positive = 1
    drift: Positive = 1
    gate: Positive = 1


class Settings(Block):
    """Everything in params.yaml."""

    profile: Literal["full", "small", "demo"]
    seed: NotNegative = 20261116
    ingest: IngestSettings
    faces: FaceSettings
    validate_: ValidateSettings = Field(alias="validate")
    forge: ForgeSettings
    augment: AugmentSettings
    split: SplitSettings
    budget: BudgetSettings
    model: ModelSettings
    pretrain: PhaseSettings
    train: TrainSettings
    harden: HardenSettings
    evaluate: EvaluateSettings
    drift: DriftSettings
    gates: GateSettings
    schedule: ScheduleSettings
    serve: ServeSettings
    registry: RegistrySettings
    remote: RemoteSettings
    stage_versions: StageVersions

    @model_validator(mode="after")
    def _possible(self) -> Self:
        names = [source.name for source in self.ingest.sources]
        if len(names) != len(set(names)):
            raise ValueError(f"ingest.sources: two sources share a name: {sorted(names)}")
        return self


def load_settings(path: Path) -> Settings:
    """Read params.yaml, or stop with one line per mistake.

    Raises SettingsError for a missing file, bad YAML, an unknown key, a wrong type or an impossible combination.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingsError(
            f"Cannot read the settings {path}.", why=str(problem), next_step="Run `vigil init FOLDER` to make a workspace, or name one with --workspace."
        ) from problem
    except yaml.YAMLError as problem:
        raise SettingsError(
            f"Cannot read the settings {path}.", why=f"not YAML: {problem}", next_step="Mend the line named above; `vigil init --print-params` prints a complete example."
        ) from problem
    return parse_settings(raw, where=str(path))


def parse_settings(raw: Any, where: str = "params.yaml") -> Settings:
    """Check a mapping against the settings. Raises SettingsError listing every mistake."""
    try:
        return Settings.model_validate(raw)
    except ValidationError as problem:
        mistakes = "\n        ".join(f"{'.'.join(map(str, mistake['loc'])) or 'settings'}: {mistake['msg']}" for mistake in problem.errors())
        raise SettingsError(
            f"Cannot use {where}. Nothing was changed.", why=mistakes, next_step="Mend these lines; `vigil init --print-params` prints a complete example."
        ) from problem
