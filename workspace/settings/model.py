"""The model, its two phases of training, and the attacks that it trains on."""

from typing import ClassVar, Literal

from pydantic import Field

from workspace.blocks import Block, Rule
from workspace.settings.values import Fraction, NotNegative, Positive


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
        description="Path of a safetensors file (a relative one is of the workspace) with weights of the backbone or of torchvision's whole classifier, "
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
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    warmup: Fraction = Field(0.05, description="Part of the steps over which the rate rises.")
    validate_every: Positive = Field(200, description="Steps between two looks at validation, and between two checkpoints.")
    patience: Positive = Field(5, description="Looks without a better validation loss, as it is once temperature and offset are fitted, before training stops.")
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

    RULES = (
        *PhaseSettings.RULES,
        Rule(
            ("distance", "wasserstein"),
            lambda distance, weight: distance != "critic" or weight < 1,
            "wasserstein ({wasserstein:g}) must be less than 1 with distance: critic, which reads the embedding: nothing else would train LSTM and heads",
        ),
        Rule(
            ("warmup", "steps", "adversarial_fraction", "adversarial_eps", "adversarial_steps"),
            lambda warmup, steps, *attacks: round(warmup * steps) < steps or not all(attacks),
            "warmup ({warmup:g}) leaves no step for attacks during training, which begin after it (adversarial_steps: 0 switches them off)",
        ),
    )

    loss: Literal["focal", "bce"] = Field("focal", description="Of the classification part.")
    focal_gamma: float = Field(2.0, ge=0, le=10, description="Focus on hard clips; 0 is plain cross-entropy.")
    wasserstein: Fraction = Field(0.2, description="Weight of the distance between real and fake; cross-entropy has the rest.")
    distance: Literal["scores", "critic"] = Field(
        "scores", description="The distance: 1-D Wasserstein between the scores, or a critic with gradient penalty on the clip embedding."
    )
    distillation: float = Field(
        0.5,
        ge=0,
        le=10,
        description="Weight of logit distillation from the base model on replayed clips, and on those forged from earlier batches by forgers that it has met.",
    )
    adversarial_fraction: Fraction = Field(
        0.5, description="Part of the clips attacked during training, once `warmup` is over; less than a clip of one batch counts in the next."
    )
    adversarial_eps: float = Field(2 / 255, ge=0, le=0.2, description="Bound of attacks during training, in pixels of [0,1].")
    adversarial_steps: NotNegative = Field(1, description="0 switches attacks during training off.")
    ema: Fraction = Field(0.99, description="Decay of the averaged weights that are kept.")
    frozen: Fraction = Field(
        0.0, description="Part of the steps during which the backbone stands still (`frozen-then-all`); below 1, `patience` counts looks after it alone."
    )
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
