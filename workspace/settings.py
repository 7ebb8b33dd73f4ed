"""The settings of a workspace: `params.yaml`, read once into frozen models. Every mistake is listed at once."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from workspace.blocks import Block, Rule, every_mistake
from workspace.choices import MODES, LayoutName, Mode, Profile, Split
from workspace.errors import SettingsError
from workspace.format import FORMAT, refuse_other_format
from workspace.objectstore import is_s3

AnyBlock = TypeVar("AnyBlock", bound=Block)
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
STAGES = (
    "faces", "validate", "forge", "assemble", "drift", "pretrain", "harden", "train", "evaluate", "gate",
)  # fmt: skip


def check_mode(mode: str) -> None:
    """Raise ValueError unless `mode` is one of MODES, or empty: whatever the model's own is."""
    if mode and mode not in MODES:
        raise ValueError(f"There is no mode {mode!r}: use {', '.join(MODES[:-1])} or {MODES[-1]}.")


def _known_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (OSError, ValueError, KeyError):  # a folder, a bad name, an unknown name
        return False


def _one_group(pattern: str) -> bool:
    try:
        return not pattern or re.compile(pattern).groups == 1
    except re.error:
        return False


def _rises_from_zero(values: Sequence[float]) -> bool:
    return bool(values) and values[0] == 0 and all(low < high for low, high in pairwise(values)) and values[-1] < 0.5


def _defaults(block: type[AnyBlock]) -> Callable[[], AnyBlock]:
    return lambda: block.model_validate({})


class IdentityRule(Block):
    """Who is in a file, and how that is known. Wrong identities leak people across splits, so the rule is explicit."""

    RULES = (
        Rule(("rule", "pattern"), lambda rule, pattern: (rule == "pattern") == bool(pattern), "`pattern` goes with rule `pattern`, and only with it"),
        Rule(("pattern",), _one_group, "pattern {pattern!r} is not a regular expression with one group"),
    )

    rule: Literal["", "column", "folder", "pattern", "file", "unknown"] = Field(
        default="",
        description="column: the table says; folder: the parent folder's name; pattern: first group of `pattern` on the "
        "file name; file: each file is its own person, unless the source names people; unknown: nobody knows (such samples only train). "
        "Empty: column for a table (CSV, JSON, a folder with labels.csv), else file.",
    )
    pattern: str = Field(default="", description="Regular expression with one group, for rule `pattern`.")


ColumnName = Literal[
    "path", "label", "use", "identity", "donor", "generator", "source_video", "method", "compression", "licence", "consent", "case_id", "attributes"
]


class SourceSettings(Block):
    """One place where media come from."""

    RULES = (
        Rule(
            ("path",),
            lambda path: bool(path.strip()) and ("://" not in path or is_s3(path)),
            "path: {path!r} is not read: a source is a folder or a table on this disk, or s3://BUCKET/PREFIX",
        ),
    )

    name: str = Field(description="Short name; becomes the `source` column and part of the batch name.", pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")
    path: str = Field(description="A folder, a CSV file, or s3://bucket/prefix.")
    layout: LayoutName = Field(
        "auto", description="auto: by what lies there; folder: real/ and fake/<generator>/; csv, json: tables; the rest: docs/layouts.md."
    )
    identity: IdentityRule = Field(IdentityRule(), description="Who is in a file.")
    label_map: dict[str, Literal["real", "fake", ""]] = Field(
        default_factory=dict, description="What the source's own labels mean, e.g. {'0': real, '1': fake}."
    )
    columns: dict[ColumnName, str] = Field(default_factory=dict, description="What a table calls its columns, e.g. {path: filename, label: target}.")
    split: Split = Field(
        default="official",
        description="official: a published set's test part is kept for evaluation; own: Vigil divides it by person. Tables keep their `use`.",
    )


class IngestSettings(Block):
    """Where new media are looked for, and what may come in."""

    RULES = (Rule(("sources",), lambda sources: len({source.name for source in sources}) == len(sources), "sources: two sources share a name"),)

    sources: tuple[SourceSettings, ...] = Field((), strict=False, description="A scheduled cycle ingests these.")
    max_file_bytes: Positive = Field(8 << 30, description="Larger files are quarantined.")
    near_duplicate_bits: NotNegative = Field(5, le=8, description="Perceptual words (64 bits) at most this far apart count as shared.")
    shard_bytes: Positive = Field(256 << 20, description="Raw media are kept in tar shards of about this size.")
    s3_endpoint_url: str = Field("", description="S3-compatible endpoint; empty means the default of boto3.")


class FaceSettings(Block):
    """How a face becomes a clip. Stored with the model: serving repeats exactly this."""

    RULES = (
        Rule(("min_clip_frames", "clip_frames"), lambda least, most: least <= most, "min_clip_frames ({min_clip_frames}) exceeds clip_frames ({clip_frames})"),
    )

    detector: Literal["blazeface", "haar"] = Field(
        "blazeface", description="blazeface: BlazeFace full range with the 468-point mesh; haar: frontal faces only."
    )
    size_px: int = Field(224, ge=32, le=512, description="Side of the aligned crop.")
    margin: float = Field(1.3, ge=1, le=3, description="Side of the crop as a multiple of the face's own extent; eyes and mouth are named as at 1.3.")
    mode: Mode = Field("standard", description="dense: whole video; standard: clips spread over it; fast: 1 fps.")
    fps: float = Field(5.0, gt=0, le=120, description="Frames a second within a clip, taken by time stamp.")
    clip_frames: Positive = Field(5, le=120, description="Frames a clip (T).")
    clips_per_video: Positive = Field(4, description="Clips spread over a video in mode `standard`.")
    min_clip_frames: Positive = Field(3, description="Shorter runs of one face give no clip.")
    min_face_px: Positive = Field(40, description="Smaller faces are not judged.")
    min_score: Fraction = Field(0.5, description="Least score of the face detector.")
    max_gap_frames: NotNegative = Field(2, description="A longer gap in a track ends its clip.")
    max_tracks: Positive = Field(5, description="People followed in one video; the largest faces first.")
    max_detect_px: Positive = Field(512, description="Frames are shrunk to this longest side before detection.")
    workers: NotNegative = Field(0, description="Processes of the `faces` stage; 0 means one a core.")


class ValidateSettings(Block):
    """What a batch must show before it may enter training (Great Expectations)."""

    min_samples: Positive = Field(1, description="A smaller batch is held.")
    min_decodable: Fraction = Field(0.9, description="Least part of the opened files that decode.")
    min_face_found: Fraction = Field(0.7, description="Least part of the files in which a face is found.")
    max_duplicates: Fraction = Field(0.5, description="Largest part of exact or near duplicates.")
    min_size_px: Positive = Field(64, description="Shortest side of a picture.")


class PluginSettings(Block):
    """A forger from outside (contract: media/forgers/plugins.py). Its name may then stand in `forge.forgers`."""

    RULES = (Rule(("onnx", "command"), lambda onnx, command: bool(onnx) != bool(command), "name either `onnx` or `command`"),)

    name: str = Field(description="Name of the forger, and of the generator in every table.", pattern=r"^[a-z0-9][a-z0-9_]{0,40}$")
    onnx: str = Field("", description="Path of an exported image generator: [N, D] -> [N, 3, H, W] in -1..1.")
    command: tuple[str, ...] = Field((), strict=False, description="Program and words; {input}, {output} and {seed} are replaced.")
    timeout_seconds: Positive = Field(120, description="A command that takes longer for one clip is ended.")
    arrived: date | None = Field(None, strict=False, description="Day from which cycles draw what it forges, to train or to judge; none: at once.")


class ForgeSettings(Block):
    """Fakes made from the batch's own real clips."""

    RULES = (
        Rule(("plugins",), lambda plugins: len({plugin.name for plugin in plugins}) == len(plugins), "plugins: two share a name"),
        Rule(("forgers",), lambda forgers: len(set(forgers)) == len(forgers), "forgers: one is named twice"),
    )

    forgers: tuple[str, ...] = Field(("self_blend", "landmark_swap"), strict=False, description="Names from the forger registry.")
    fakes_per_real: float = Field(1.0, ge=0, le=10, description="Forged clips a real clip, shared among the forgers; of each forger at most one.")
    max_clips: NotNegative = Field(2000, description="Most forged clips a batch.")
    plugins: tuple[PluginSettings, ...] = Field((), strict=False, description="Forgers from outside: exported generators and commands.")
    learn_steps: Positive = Field(600, description="Training steps of each forger that has weights (decoders, portrait, autoencoder swap).")


class AugmentSettings(Block):
    """One draw a clip, the same for each frame, by the same rules for real and fake."""

    RULES = tuple(
        Rule((f"{name}_min", f"{name}_max"), lambda least, most: least <= most, f"{name}_min ({{{name}_min}}) exceeds {name}_max ({{{name}_max}})")
        for name in ("crf", "denoise", "clahe")
    )

    reforge: Fraction = Field(1.0, description="Chance that a stored forgery is made anew, with other numbers, each time it is drawn.")
    flip: Fraction = Field(0.5, description="Chance of a mirrored clip.")
    move_chance: Fraction = Field(0.5, description="Chance of rotation, crop, shift, zoom and shear: the other clips keep pixels that nobody resampled.")
    rotation_degrees: float = Field(15.0, ge=0, le=45, description="Largest rotation, either way.")
    affine: float = Field(0.1, ge=0, le=0.5, description="Largest crop, shift, zoom and shear.")
    brightness: float = Field(0.2, ge=0, le=1, description="Largest relative change.")
    contrast: float = Field(0.2, ge=0, le=1, description="Largest relative change of the spread about mid-grey, the same for a clip and its forgery.")
    saturation: float = Field(0.3, ge=0, le=1, description="Largest relative change of the distance from grey.")
    noise_chance: Fraction = Field(0.5, description="Chance of Gaussian noise.")
    noise_sigma: float = Field(0.1, ge=0, le=0.5, description="Largest sigma of Gaussian noise, on [0,1] pixels.")
    jpeg_quality_min: int = Field(40, ge=5, le=100, description="Lowest JPEG quality drawn; the highest is 100.")
    downscale_min: float = Field(0.4, gt=0, le=1, description="Smallest factor of down-and-up scaling.")
    blur_sigma_max: float = Field(1.5, ge=0, le=10, description="Largest sigma of Gaussian blur, in pixels.")
    motion_blur_px: NotNegative = Field(7, le=31, description="Longest motion blur, in pixels; 0 switches it off.")
    sharpen: float = Field(1.0, ge=0, le=5, description="Strongest unsharp mask, as a camera or an app applies it; 0 switches it off.")
    rare_chance: Fraction = Field(0.15, description="Chance of motion blur, and of sharpening, in a degraded clip.")
    clahe: Fraction = Field(0.05, description="Chance of local contrast equalisation (CLAHE), in a degraded clip.")
    clahe_min: float = Field(1.0, gt=0, le=40, description="Lowest clip limit of CLAHE drawn.")
    clahe_max: float = Field(3.0, gt=0, le=40, description="Highest clip limit of CLAHE drawn.")
    denoise: Fraction = Field(0.1, description="Chance of noise removal that keeps edges, as phones and editors do, in a degraded clip.")
    denoise_min: float = Field(8.0, gt=0, le=255, description="Least difference taken for noise, in 8-bit steps.")
    denoise_max: float = Field(40.0, gt=0, le=255, description="Largest difference taken for noise, in 8-bit steps.")
    h264: Fraction = Field(0.1, description="Part of the degraded clips that meet a codec whose codec is H.264; the others meet JPEG.")
    crf_min: int = Field(18, ge=0, le=51, description="Lowest H.264 crf drawn.")
    crf_max: int = Field(40, ge=0, le=51, description="Highest H.264 crf drawn.")
    degrade: Fraction = Field(
        0.5, description="Chance that a clip goes through scaling, blur, sharpening or a codec at all; at 0 nothing is degraded, sources neither."
    )
    step_chance: Fraction = Field(0.5, description="Chance of scaling, of blur and of a codec, each, in a degraded clip; where none is drawn, a codec.")
    poor_sources: Fraction = Field(
        0.6, description="Chance that a real clip and what its fake is forged from are degraded first, both alike: how good a source was says nothing then."
    )
    poor_reals: Fraction = Field(
        0.0, description="Chance that a real clip alone is degraded once more, since forging softens a picture; `poor_sources` does better."
    )
    tilt_db: float = Field(0.0, ge=0, le=20, description="Spread in dB by which fine detail is weakened or raised, so that sharpness says nothing; 0 is off.")
    tilt_chance: Fraction = Field(0.7, description="Chance of such a tilt.")
    cutout: Fraction = Field(0.15, description="Chance that a part of the face (eyes, nose, mouth, a half) is covered.")
    frequency_mask: Fraction = Field(0.1, description="Chance that part of the spectrum is taken away.")
    frequency_masked: Fraction = Field(0.15, description="Part of the spectrum that is then taken away.")


class SplitSettings(Block):
    """Parts of the identities, by a keyed hash: who is in the holdout never changes, and so none of these may once a model was promoted."""

    RULES = (
        Rule(("train", "validation", "holdout"), lambda *parts: abs(sum(parts) - 1) <= 1e-9, "train + validation + holdout must be 1"),
        Rule(("train", "validation", "holdout"), lambda *parts: all(parts), "each split needs a part above 0"),
    )

    train: Fraction = Field(0.7, description="Part of the identities that trains.")
    validation: Fraction = Field(0.2, description="Part that stops training and sets temperature, offset and threshold.")
    holdout: Fraction = Field(0.1, description="Part that only the gates see.")
    key: str = Field("vigil", min_length=1, description="Changing it redraws every split: never in a living workspace.")


class BudgetSettings(Block):
    """What one cycle may cost, whatever the history holds."""

    RULES = (Rule(("hardened_clips",), lambda most: most != 1, "hardened_clips 1 attacks none: half are real and half fake, so it takes 2 or more, or 0"),)

    new_clips: Positive = Field(20000, description="Most clips of the batches under judgement drawn to train.")
    replay_clips: NotNegative = Field(4000, description="Clips of earlier batches, generator- and class-balanced.")
    forged_fraction: Fraction = Field(0.1, description="Part of the drawn clips that is newly forged, generators in rotation.")
    hardened_clips: NotNegative = Field(1000, description="Clips attacked by `harden`, half real and half fake; 0 attacks none.")
    evaluation_clips_per_slice: Positive = Field(400, description="Seeded panel: videos a slice, half the earliest, half the latest.")
    attack_clips: Positive = Field(400, description="Holdout clips attacked in `evaluate`; with half as many an equal challenger is held once in 33 weeks.")


class ModelSettings(Block):
    """The ResNeXt-LSTM. Letters and sources in model/network.py."""

    RULES = (
        Rule(("spatial_prior",), lambda prior: abs(sum(prior) - 1) <= 1e-6 and min(prior) >= 0, "spatial_prior must be three parts that sum to 1"),
        Rule(
            ("fusion_learned", "fusion_cnn"),
            lambda learned, part: not learned or 0 < part < 1,
            "fusion_learned needs a fusion_cnn between 0 and 1, not {fusion_cnn:g}",
        ),
    )

    backbone: str = Field(
        "resnext50_32x4d",
        description="A torchvision classifier (no GoogLeNet, Inception or MaxViT), or efficientnet_lite0, meso4, resnext_small, resnext_tiny, xception.",
    )
    weights: str = Field(
        "",
        description="Path of a safetensors file with weights of the backbone or of torchvision's whole classifier, "
        "or the name of published ones: IMAGENET1K_V1 of efficientnet_lite0 "
        "(installed, no network needed), torchvision's of its own (fetched once, e.g. IMAGENET1K_V2). Empty trains from scratch. "
        "Where there is a champion of the same shape, it is the start instead.",
    )
    shrink: Positive = Field(
        1, description="Frames are averaged over squares of so many pixels a side first: forged large, looked at small, as fakes are that were sent on."
    )
    temporal: Literal["lstm", "gru", "transformer"] = Field("lstm", description="What reads the frames in order.")
    lstm_hidden: Positive = Field(256, description="Width of the LSTM or GRU, each direction; inner width of the transformer.")
    lstm_layers: Positive = Field(1, description="Layers of what reads the frames in order.")
    bidirectional: bool = Field(True, description="Whether the LSTM or GRU also reads backwards.")
    spatial_prior: tuple[float, float, float] = Field((0.40, 0.35, 0.25), strict=False, description="Eyes, lips, skin.")
    certainty_attention: bool = Field(True, description="Whether each frame's certainty weighs its features before the LSTM.")
    spatial_attention: bool = Field(True, description="Whether landmark-guided attention weighs the feature map.")
    fusion: Literal["heads", "features"] = Field(
        "heads", description="What of CNN and LSTM is averaged: what their heads say, or their features before one head."
    )
    fusion_cnn: Fraction = Field(0.6, description="Weight of the CNN; the LSTM has the rest. `vigil search model.fusion_cnn` tries others.")
    fusion_learned: bool = Field(False, description="Whether phase 2 learns the weight: a first model's from `fusion_cnn` on, later ones' from the champion's.")
    dropout: Fraction = Field(0.3, description="Before the heads; less than 1.")


class PhaseSettings(Block):
    """One phase of training."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(("batch", "micro_batch"), lambda batch, micro: batch % micro == 0, "batch ({batch}) must be a multiple of micro_batch ({micro_batch})"),
        Rule(("batch", "processes"), lambda batch, processes: batch % processes == 0, "batch ({batch}) must be a multiple of processes ({processes})"),
    )

    steps: Positive = Field(description="Optimiser steps at most.")
    batch: int = Field(ge=4, description="Clips (or frames) an optimiser step sees: either class of what is new and of what is known at least.")
    micro_batch: Positive = Field(description="Clips (or frames) at once; batch is reached by accumulation.")
    lr: float = Field(gt=0, le=1, description="Highest learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0, allow_inf_nan=False, description="Of AdamW.")
    warmup: Fraction = Field(0.05, description="Part of the steps over which the rate rises.")
    validate_every: Positive = Field(200, description="Steps between two looks at validation, and between two checkpoints.")
    patience: Positive = Field(5, description="Looks without a better validation loss before training stops.")
    pairs: bool = Field(
        False, description="A fake and the real clip that it was made from share frame, augmentation and degradation, so that only the forgery differs."
    )
    processes: Positive = Field(1, description="Processes that share each batch (torchrun); on GPUs one each.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Of the forward pass; `auto` is bf16 on GPUs and processors with bf16 instructions, else fp32."
    )
    compile: bool = Field(False, description="The backbone goes through torch.compile: faster after a first minute; asks for a C++ compiler.")

    @property
    def fewest_at_once(self) -> int:
        """Clips (or frames) in the smallest piece of a batch that a process sees at once."""
        return (self.batch // self.processes) % self.micro_batch or self.micro_batch


class PretrainSettings(PhaseSettings):
    """Phase 1."""

    RULES = (*PhaseSettings.RULES, Rule(("locate", "pairs"), lambda locate, pairs: pairs or not locate, "locate ({locate:g}) needs pairs: true"))

    ema: Fraction = Field(0.95, description="Decay of the averaged weights that are kept; longer trainings want more.")
    locate: float = Field(0.0, ge=0, le=10, description="Weight of a second loss of phase 1: where in the picture the forgery is, known from the pair.")
    warm_lr_factor: float = Field(0.3, gt=0, le=1, description="The rate of a warm start, as a part of `lr`: a champion's weights must not be washed out.")


class TrainSettings(PhaseSettings):
    """Phase 2."""

    loss: Literal["focal", "bce"] = Field("focal", description="Of the classification part.")
    focal_gamma: float = Field(2.0, ge=0, le=10, description="Focus on hard clips; 0 is plain cross-entropy.")
    wasserstein: Fraction = Field(0.2, description="Weight of the distance between real and fake; cross-entropy has the rest.")
    distance: Literal["scores", "critic"] = Field(
        "scores", description="The distance: 1-D Wasserstein between the scores, or a critic with gradient penalty on the clip embedding."
    )
    distillation: float = Field(0.5, ge=0, le=10, description="Weight of logit distillation from the base model on replayed clips.")
    adversarial_fraction: Fraction = Field(0.5, description="Part of the clips attacked during training; less than a clip of one batch counts in the next.")
    adversarial_eps: float = Field(2 / 255, ge=0, le=0.2, description="Bound of attacks during training, in pixels of [0,1].")
    adversarial_steps: NotNegative = Field(1, description="0 switches attacks during training off.")
    ema: Fraction = Field(0.99, description="Decay of the averaged weights that are kept.")
    frozen: Fraction = Field(0.0, description="Part of the steps during which the backbone stands still (`frozen-then-all`).")
    clip_norm: float = Field(1.0, gt=0, description="Largest gradient norm.")


class HardenSettings(Block):
    """PGD in pixels of [0,1], Madry et al. 2018."""

    RULES = (
        Rule(
            ("step_size", "steps", "eps"),
            lambda size, steps, eps: size * steps >= eps - 1e-9,  # 0.009 * 3 is a digit below 0.027
            "step_size * steps is smaller than eps: the attack cannot reach its own bound",
        ),
    )

    eps: float = Field(0.05, ge=0.0039, le=0.5, description="Bound of the attack, in pixels of [0,1]; at least one level of 255, as clips are stored in such.")
    steps: Positive = Field(10, description="Gradient steps.")
    restarts: Positive = Field(1, description="Random starts; the worst counts.")
    step_size: float = Field(0.0125, gt=0, le=0.5, description="Of one gradient step, in pixels of [0,1].")


class EvaluateSettings(Block):
    """How honest figures are made."""

    RULES = (
        Rule(("attack_eps",), _rises_from_zero, "attack_eps must rise from 0.0 and stay below 0.5"),
        Rule(
            ("attacks",),
            lambda attacks: not {"pgd", "apgd"}.isdisjoint(attacks),
            "attacks: none of them follows gradients, so that what stands white-box would not be known: name pgd or apgd",
        ),
    )

    resamples: Positive = Field(2000, description="Cluster-bootstrap resamples.")
    target_fpr: float = Field(0.0125, gt=0, lt=1, description="The threshold is set on validation to this false-positive rate; well below gates.max_fpr.")
    abstain: Fraction = Field(0.1, description="Half-width of the band around the threshold that is called uncertain.")
    anchor_promotions: NotNegative = Field(
        8,
        description="Gate forgetting also compares with the champion of so many promotions ago, or the first: small losses add up. 0: it does not.",
    )
    past_champions: Positive = Field(4, description="Past champions rescored on each cycle's new holdout videos: the decay curve of the report.")
    attack_eps: tuple[float, ...] = Field(
        (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 0.05, 16 / 255), strict=False, description="Points of the accuracy-against-eps curve, in pixels of [0,1]."
    )
    attack_steps: Positive = Field(20, description="Gradient steps of the white-box attack.")
    attack_restarts: Positive = Field(1, description="Random starts of the white-box attack.")
    attacks: tuple[Literal["pgd", "apgd", "square"], ...] = Field(
        ("pgd", "apgd", "square"), strict=False, min_length=1, description="The curve is that of the worst of these; Square uncovers masked gradients."
    )
    square_queries: Positive = Field(5000, description="How often Square asks the model, a clip and strength; a thousand are cheap on a GPU alone.")


class DriftSettings(Block):
    """Permutation test on embeddings, and Evidently's report for people."""

    RULES = (
        Rule(
            ("permutations", "alpha"),
            lambda number, alpha: 1 / (number + 1) < alpha,
            "{permutations} permutations cannot show a p-value below alpha ({alpha}): more are needed",
        ),
        Rule(("min_samples", "max_samples"), lambda least, most: least <= most, "min_samples ({min_samples}) exceeds max_samples ({max_samples})"),
    )

    permutations: Positive = Field(199, ge=99, description="Permutations of the test.")
    alpha: float = Field(0.01, gt=0, lt=0.5, description="A p-value below this is drift.")
    min_samples: Positive = Field(20, description="Fewer known ones: undecided. Fewer that came in: passed, too few to move the traffic.")
    max_samples: Positive = Field(500, description="Drawn by seed from each side.")


class GateSettings(Block):
    """Limits a challenger must meet. Fractions are 0..1. Production values are the defaults."""

    min_per_class: Positive = Field(94, description="Least real and fake videos; 94 with no false alarm is the fewest that can show 3.2%.")
    min_people: Positive = Field(
        50, description="People of either class on whom champion and challenger are compared; with 10 or 20 a model that is worse passes once in six times."
    )
    min_auc: Fraction = Field(0.90, description="Area under the ROC curve on the holdout.")
    min_balanced_accuracy: Fraction = Field(0.90, description="Mean of the true-positive and true-negative rates.")
    min_precision: Fraction = Field(0.90, description="At the shipped threshold, were half of the videos fakes.")
    min_recall: Fraction = Field(0.90, description="At the shipped threshold.")
    min_f1: Fraction = Field(0.90, description="At the shipped threshold, were half of the videos fakes.")
    max_fpr: Fraction = Field(0.032, description="The point estimate and n decide.")
    max_ece: Fraction = Field(0.05, description="Expected calibration error after calibration, classes alike, without what chance shows on so few videos.")
    margin: Fraction = Field(0.01, description="Largest tolerated loss of AUC against the champion (lower end of the paired interval).")
    max_log_loss_rise: float = Field(
        0.05, gt=0, description="Largest tolerated rise of log-loss in nats against the champion (upper end); of 2,000 videos it is known to 0.01."
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="One-sided level of the paired comparison: how often a model worse by the margin may pass.")
    hold_alpha: float = Field(0.01, gt=0, lt=0.5, description="Level of each gate that holds for a shown loss: how often noise alone may hold a model.")
    min_slice: Positive = Field(30, description="Fewer videos in a slice: reported, pooled, not judged alone.")
    max_slice_drop: Fraction = Field(0.02, description="A slice that is shown to lose more balanced accuracy against the champion holds the model.")
    min_new_auc: Fraction = Field(0.90, description="On a generator new to the champion, or to a holdout that had fewer than min_slice of it.")
    max_forgetting: Fraction = Field(0.01, description="A generator known before that is shown to lose more AUC holds the model.")
    max_long_forgetting: Fraction = Field(0.02, description="The same against the champion of evaluate.anchor_promotions ago.")
    max_generalisation_gap: Fraction = Field(0.10, description="Train AUC minus holdout AUC.")
    min_score_spread: Fraction = Field(0.05, description="Least standard deviation of p_fake on the holdout.")
    max_transfer_drop: Fraction = Field(0.04, description="Balanced accuracy lost to transferred PGD at 0.05.")
    min_whitebox: Fraction = Field(0.30, description="Least balanced accuracy under the worst white-box attack at 2/255; an undefended model has about 0.")
    max_curve_drop: Fraction = Field(0.05, description="Largest loss of mean robust accuracy against the champion.")
    max_latency_seconds: float = Field(
        5.0, gt=0, description="The network's time for the clips of a 10 s video, mode `standard`; decoding and faces come on top."
    )
    max_model_bytes: Positive = Field(200 << 20, description="Size of the exported model.")
    max_serving_bytes: Positive = Field(1536 << 20, description="Memory of a service process that has answered golden clips with it.")
    max_parity: float = Field(1e-3, gt=0, description="Largest difference of p_fake between checkpoint and export on golden clips.")
    max_label_noise: Fraction = Field(0.01, description="Incoming labels that the champion is shown to contradict more often than this beyond known ones hold.")
    hold_on_drift: bool = Field(True, description="Whether drift that no holdout slice covers holds the model back.")


class ScheduleSettings(Block):
    """When the weekly cycle is due."""

    RULES = (Rule(("timezone",), _known_zone, "timezone {timezone!r} is not known; give a name like Europe/Berlin"),)

    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = Field("monday", description="Day of the planned cycle.")
    hour: int = Field(3, ge=0, le=23, description="Hour of the planned cycle.")
    minute: int = Field(0, ge=0, le=59, description="Minute of the planned cycle.")
    timezone: str = Field("UTC", description="Zone of the day and hour, e.g. Europe/Berlin.")
    retries: NotNegative = Field(2, description="Prefect retries a stage this often when the failure may pass.")
    retry_delay_seconds: NotNegative = Field(10, description="Pause before a retry.")
    stage_timeout_seconds: Positive = Field(7 * 24 * 3600, description="A stage that takes longer is ended; the next `vigil retrain` goes on from there.")


class CyclePolicy(Block):
    """What starts a cycle between two weeks, and how much a cycle trains (flows/policy.py). A timer asks: `vigil retrain --scheduled`."""

    work: Literal["full", "auto"] = Field("full", description="full: each cycle trains with all steps; auto: it fine-tunes the champion where that will do.")
    fine_tune_steps: float = Field(0.25, gt=0, le=1, description="Part of the steps of both phases that a fine-tune takes.")
    full_every_weeks: NotNegative = Field(4, description="With `auto`, a full training every so many weeks of the calendar; 0: age alone asks for none.")
    early_reviews: NotNegative = Field(0, description="So many reviewed cases start a cycle before its week; 0: they wait for it.")
    early_drift: bool = Field(False, description="Whether drift in the last cycle starts the next one before its week, as soon as something is new.")
    deferrals: NotNegative = Field(
        4, description="So many cycles may hold media that drift alone held, and have them judged again beside the next; then a person decides. 0: at once."
    )


def _addresses(given: Sequence[str]) -> bool:
    try:
        return all(ipaddress.ip_network(one) for one in given)
    except ValueError:
        return False


def _host_names(given: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[\w-]+(\.[\w-]+)*", one) or (_addresses([one]) and "/" not in one) for one in given)


class ServeSettings(Block):
    """Where the service listens, and how it answers."""

    RULES = (
        Rule(("trusted_proxies",), _addresses, "trusted_proxies: each is an address, 10.0.0.7, or a network, 10.0.0.0/24; not a name"),
        Rule(("host_names",), _host_names, "host_names: each is a name alone, vigil.example.org, without https://, port or a dot at its end"),
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 127.0.0.1 is this machine only.")
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one.")
    host_names: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Names under which it is reached, such as vigil.example.org. Empty: any; on 127.0.0.1 only this machine's own.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Addresses or networks of proxies that are believed who is calling, and whether by https (X-Forwarded-For, X-Forwarded-Proto).",
    )
    max_upload_bytes: Positive = Field(512 << 20, description="Larger uploads are refused.")
    reload_seconds: float = Field(5.0, gt=0, description="How often the service looks whether the champion has changed.")
    ready_timeout_seconds: Positive = Field(60, description="The promotion probe waits this long for /readyz.")
    shadow_requests: int = Field(
        20, ge=0, description="Logged requests that the promotion probe answers again with the new model, to show what differs; 0 for none."
    )
    threads: Positive = Field(2, description="ONNX Runtime threads.")
    int8: bool = Field(False, description="Serve the network in 8-bit integers, where on validation clips it stays within gates.max_parity.")


class PolicySettings(Block):
    """How one kind of client wants to be answered. Empty values mean what the model and the workspace have."""

    target_fpr: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Judge at the model's operating point for this false-positive rate, or the nearest stricter one (0.005, 0.01, 0.02, 0.05, 0.1, 0.2).",
    )
    abstain: Fraction | None = Field(None, description="Half width of the band around the threshold in which the answer is `uncertain`.")
    mode: Literal["", Mode] = Field("", description="How densely a video is looked at.")
    keep_days: NotNegative | None = Field(
        None, description="Media of its uploads are deleted so many days after the verdict, whatever it is; 0 together with it."
    )


class RetentionSettings(Block):
    """For how many days the media of uploads are kept, by verdict; afterwards only their hashes are. Media of open cases are kept until they are decided."""

    real_days: NotNegative = Field(30, description="Called real.")
    fake_days: NotNegative = Field(90, description="Called fake.")
    uncertain_days: NotNegative = Field(90, description="Uncertain, once its case is decided.")
    none_days: NotNegative = Field(7, description="No verdict.")
    quarantine_fakes: bool = Field(
        True,
        description="Media called fake, by what people decided or else by the newest verdict, are shown to reviewers and engineers only, not to who sent them.",
    )
    every_minutes: Positive = Field(60, description="How often the service looks for what is due.")


class QueueSettings(Block):
    """Which uploads become cases for people, and when a person's label may train."""

    audit_fraction: Fraction = Field(0.01, description="Of confident verdicts, drawn at random for review.")
    reviewers_needed: int = Field(2, ge=1, le=2, description="Agreeing reviewers before a label may train; where two differ, a third decides.")
    review_own: bool = Field(False, description="Whether people may review what they sent in themselves.")
    gold_fraction: Fraction = Field(0.05, description="Of the cases shown, those whose truth is known: they measure reviewers and never train.")
    source_cap: float = Field(0.25, gt=0, le=1, description="Largest part of a handed-over batch that may come from one account, whatever keys it used.")
    source_cap_free: NotNegative = Field(20, description="So many cases a source are handed over whatever the cap says.")


class WorkerSettings(Block):
    """The processes behind the service: one network, and a pool that opens media under limits."""

    queue_length: Positive = Field(256, description="Uploads that may wait; the next one is answered 429.")
    decoders: Positive = Field(2, description="Processes that open media.")
    decode_seconds: Positive = Field(120, description="Longest time that opening one file may take.")
    decode_memory_bytes: Positive = Field(3 << 30, description="Address space of a process that opens media.")
    max_pixels: Positive = Field(40_000_000, description="Largest picture or frame.")
    max_video_seconds: Positive = Field(1800, description="Longest video.")
    max_attempts: Positive = Field(3, description="A file whose processing has ended the process so many times is marked unreadable.")
    batch_clips: Positive = Field(16, description="Most clips that one run of the network takes.")
    batch_wait_ms: NotNegative = Field(4, description="Wait so long for more clips when other files are being opened; a lone file never waits.")
    lease_seconds: Positive = Field(30, description="A job whose worker has been silent for so long is given to another.")


class FeedbackSettings(Block):
    """The service: accounts, limits, cases, media."""

    database_url: str = Field("", description="Empty: feedback.db in the workspace; or postgresql://user@host/name. VIGIL_DATABASE_URL wins.")
    media_url: str = Field("", description="Empty: .vigil/media in the workspace; or s3://bucket/prefix.")
    s3_endpoint_url: str = Field("", description="S3-compatible endpoint; empty means the default of boto3.")
    sign_up: bool = Field(True, description="Whether people may make an account themselves; otherwise an admin does.")
    sign_up_role: Literal["viewer", "reviewer"] = Field("viewer", description="What a new account may do.")
    session_hours: Positive = Field(12, description="A log-in lasts so long.")
    login_attempts: Positive = Field(5, description="Wrong passwords in a row before an account is locked.")
    lock_minutes: Positive = Field(15, description="For so long.")
    requests_per_minute: Positive = Field(6000, description="Of one key, account or (not logged in) address.")
    uploads_per_minute: Positive = Field(600, description="Of one key or account.")
    sign_ups_per_hour: Positive = Field(30, description="Of one address.")
    reference_hosts: tuple[str, ...] = Field((), strict=False, description="Hosts that a file may be fetched from by URL, and s3://bucket names.")
    webhook_hosts: tuple[str, ...] = Field((), strict=False, description="Hosts that webhooks may go to.")
    allow_private_addresses: bool = Field(False, description="Whether the hosts of the two lists may lie in a private network, or on this machine.")
    max_batch_files: Positive = Field(32, description="Files in one batch upload.")
    queue: QueueSettings = Field(default_factory=_defaults(QueueSettings))
    workers: WorkerSettings = Field(default_factory=_defaults(WorkerSettings))
    retention: RetentionSettings = Field(default_factory=_defaults(RetentionSettings))
    moderation: PolicySettings = Field(default_factory=_defaults(PolicySettings), description="Policy `moderation`.")
    identity_check: PolicySettings = Field(default_factory=_defaults(PolicySettings), description="Policy `identity_check`.")
    forensics: PolicySettings = Field(default_factory=_defaults(PolicySettings), description="Policy `forensics`.")


class RegistrySettings(Block):
    """Where MLflow keeps runs and models. A relative sqlite path is inside the workspace."""

    tracking_uri: str = Field("sqlite:///mlflow.db", pattern=r"^(sqlite|postgresql(\+\w+)?|mysql(\+\w+)?|https?)://", description="Address of MLflow's store.")
    model_name: str = Field("detector", pattern=r"^[A-Za-z0-9_-]+$", description="The registered model.")
    experiment: str = Field("vigil", description="The experiment that holds the runs.")


class RemoteSettings(Block):
    """The DVC remote: a folder, or s3://bucket/prefix."""

    RULES = (
        Rule(("url",), lambda url: "://" not in url or url.startswith("s3://"), "{url!r} is neither a folder nor s3://bucket/prefix"),
        Rule(("url", "s3_endpoint_url"), lambda url, s3: not (url and s3) or url.startswith("s3://"), "`s3_endpoint_url` goes with an s3:// url only"),
    )

    url: str = Field("remote", description="Relative folders are inside the workspace's .vigil folder; empty means none.")
    s3_endpoint_url: str = Field("", description="S3-compatible endpoint; empty means the default of boto3.")


class StageVersions(Block):
    """Raised by one when a stage's result would change for the same input."""

    faces: Positive = Field(1, description="Of stage `faces`.")
    validate_: Positive = Field(1, alias="validate", description="Of stage `validate`.")
    forge: Positive = Field(1, description="Of stage `forge`.")
    assemble: Positive = Field(1, description="Of stage `assemble`.")
    pretrain: Positive = Field(1, description="Of stage `pretrain`.")
    harden: Positive = Field(1, description="Of stage `harden`.")
    train: Positive = Field(1, description="Of stage `train`.")
    evaluate: Positive = Field(1, description="Of stage `evaluate`.")
    drift: Positive = Field(1, description="Of stage `drift`.")
    gate: Positive = Field(1, description="Of stage `gate`.")


class Settings(Block):
    """Everything in params.yaml."""

    RULES = (
        # not the model's own rule: a champion that somebody trained so can still be read
        Rule(("model",), lambda model: model.dropout < 1, "model.dropout must be less than 1: what nothing comes through teaches nothing"),
        Rule(
            ("budget", "forge"),
            lambda budget, forge: not budget.forged_fraction or forge.forgers,
            "budget.forged_fraction asks for forged clips, but forge.forgers is empty",
        ),
        Rule(
            ("evaluate", "gates"),
            lambda evaluate, gates: 2 * evaluate.target_fpr <= gates.max_fpr,
            "evaluate.target_fpr exceeds half of gates.max_fpr: a threshold that aims at what the gate just allows is refused every second time, by chance",
        ),
        Rule(
            ("budget", "gates"),
            lambda budget, gates: budget.evaluation_clips_per_slice >= max(gates.min_slice, gates.min_per_class),
            "budget.evaluation_clips_per_slice is below gates.min_slice or gates.min_per_class: so few are drawn that these gates could never decide",
        ),
    )

    format: int = Field(FORMAT, ge=FORMAT, le=FORMAT, description="Of the workspace; `vigil upgrade` raises it, nobody else.")
    profile: Profile = Field(description="The profile these values came from; a note, not a switch.")
    seed: int = Field(20261116, ge=0, le=2**32 - 1, description="Of every draw that a cycle makes.")
    ingest: IngestSettings
    faces: FaceSettings
    validate_: ValidateSettings = Field(alias="validate")
    forge: ForgeSettings
    augment: AugmentSettings
    split: SplitSettings
    budget: BudgetSettings
    model: ModelSettings
    pretrain: PretrainSettings
    train: TrainSettings
    harden: HardenSettings
    evaluate: EvaluateSettings
    drift: DriftSettings
    gates: GateSettings
    schedule: ScheduleSettings
    policy: CyclePolicy = Field(default_factory=_defaults(CyclePolicy))
    serve: ServeSettings
    feedback: FeedbackSettings = Field(default_factory=_defaults(FeedbackSettings))
    registry: RegistrySettings
    remote: RemoteSettings
    stage_versions: StageVersions


def load_settings(path: Path) -> Settings:
    """Read params.yaml, or stop with one line per mistake.

    Raises SettingsError for a missing file, bad YAML, an unknown key, a wrong type or an impossible combination, WorkspaceError for
    settings of another format.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = Path(path).read_text(encoding="utf-8")
        YAML(typ="safe").load(text)  # as DVC reads it, by the rules of YAML 1.1: an address without quotes inside {} is refused
        raw = YAML(typ="safe", pure=True).load(text)  # YAML 1.2, where `off` is a word and a key twice is refused
    except UnicodeDecodeError as problem:
        raise SettingsError(f"Cannot read the settings {path}.", why=f"not UTF-8: {problem}", next_step="Save the file as UTF-8.") from problem
    except OSError as problem:
        raise SettingsError(
            f"Cannot read the settings {path}.", why=str(problem), next_step="Run `vigil init FOLDER` to make a workspace, or name one with --workspace."
        ) from problem
    except (YAMLError, ValueError, RecursionError) as problem:  # also a date that is none, a number of thousands of digits, thousands of brackets
        raise SettingsError(
            f"Cannot read the settings {path}.",
            why=f"not YAML: {problem}",
            next_step='Mend what is named above (an address needs quotes: "http://host:5000"); `vigil init --print-params` prints a complete example.',
        ) from problem
    if isinstance(raw, dict) and "profile" in raw:  # else it is no settings file of any format
        refuse_other_format(Path(path))
    return parse_settings(raw, where=str(path))


def parse_settings(raw: Any, where: str = "params.yaml") -> Settings:
    """Check a mapping against the settings. Raises SettingsError listing every mistake."""
    if not isinstance(raw, dict):
        raise SettingsError(
            f"Cannot use {where}. Nothing was changed.",
            why="it is empty, or holds something else than `key: value` lines",
            next_step="Bring it back (`git checkout params.yaml`), or start from `vigil init --print-params`.",
        )
    try:
        return Settings.model_validate(raw)
    except ValidationError as problem:
        mistakes = "\n        ".join(every_mistake(Settings, raw, problem))
        raise SettingsError(
            f"Cannot use {where}. Nothing was changed.", why=mistakes, next_step="Mend these lines; `vigil init --print-params` prints a complete example."
        ) from problem
