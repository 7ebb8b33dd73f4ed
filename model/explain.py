"""Why the network thinks so: where it looked, which frames decided, and what the mesh shows beside it.

Grad-CAM (Selvaraju et al. 2017) is taken through the whole network: the slope of the clip's logit, LSTM and certainty
weights included, on the backbone's maps. It says where a change would move the verdict, not what is forged. Blinks, jumps of the
mouth and how much the face trembles within its crop come from the mesh; they are evidence for a person to weigh and enter no score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from media.landmarks import LEFT_EYE, RIGHT_EYE
from model.aggregate import as_estimate
from model.data import to_tensor
from model.inference import UNLIKE, face_named, most_telling
from model.network import ResNeXtLSTM
from model.regions import canonical_regions

if TYPE_CHECKING:
    from media.faces import FaceClip
    from model.card import ModelCard
    from model.inference import FileVerdict

Floats = NDArray[np.float32]
REGIONS = ("eyes", "lips", "skin", "surroundings")
BLINK_CLOSED = 0.6  # of the eye's median opening
LIPS_INNER, FACE_ENDS = (13, 14), (10, 152)
NAMES = {"eyes": "the eyes", "lips": "the mouth", "skin": "the skin of the face", "surroundings": "what lies around the face"}


@dataclass(frozen=True, slots=True)
class ClipExplanation:
    """What one clip [T, S, S, 3] says. Maps are in 0..1 of the clip's own peak, frames side by side with time."""

    logit: float
    heat: Floats  # [T, S, S], Grad-CAM: 1 where the verdict hangs most
    attention: Floats  # [T, h, h], each sums to 1
    frame_p: Floats | None  # [T], frame head's own p_fake, by the temperature and offset given; None where that head has no part in the logit
    certainty: Floats | None  # [T], 0..1; None as above
    change: Floats  # [T], how far the LSTM's state moved since the frame before, 0 for the first

    def regions(self) -> dict[str, float]:
        """Parts of the heat that lie on eyes, lips, skin and beside the face; they sum to 1, or are all 0 without heat."""
        masks = canonical_regions(self.heat.shape[1]).numpy()  # [3, S, S]
        total = float(self.heat.sum())
        if total <= 0:
            return dict.fromkeys(REGIONS, 0.0)
        inside = [float((self.heat * mask).sum()) / total for mask in masks]
        return dict(zip(REGIONS, [*inside, max(0.0, 1 - sum(inside))], strict=True))


@dataclass(frozen=True, slots=True)
class MeshEvidence:
    """What the mesh of a clip shows. Rates a second; jumps in units of the face's height a frame. A single frame shows nothing of it: None."""

    blinks_per_second: float | None
    mouth_jump: float | None
    crop_tremble: float | None  # of the face within its crop, which follows the head: no measure of how far the head moves


def explain_clip(
    model: ResNeXtLSTM, clip: NDArray[np.uint8], towards_fake: bool | None = None, temperature: float = 1.0, offset: float = 0.0
) -> ClipExplanation:
    """Explain the logit of a clip [T, S, S, 3] uint8 RGB. Heat speaks for `fake` or for `real`: for what the model said unless given.

    `temperature` and `offset` are the card's: by them the frames stand on the scale of the clips beside which they are shown.
    """
    model.eval()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)  # only the slope on the maps is wanted: the backbone's graph takes a hundred megabytes a frame
    frames = to_tensor(clip)[None]
    kept: list[Tensor] = []

    def keep(module: Any, given: Any, maps: Tensor) -> Tensor:
        kept.append(maps.requires_grad_(True) if not maps.requires_grad else maps)
        kept[-1].retain_grad()
        return kept[-1]

    states: list[Tensor] = []
    hooks = [model.backbone.register_forward_hook(keep), model.temporal.register_forward_hook(lambda module, given, made: states.append(made[0]))]
    try:
        with torch.enable_grad():
            said = model.forward_all(frames)
            logit = said.logits[0].item()
            fake = logit >= 0 if towards_fake is None else towards_fake
            (said.logits[0] if fake else -said.logits[0]).backward()
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in learning:
            parameter.requires_grad_(True)
    maps, slopes = kept[0].detach(), kept[0].grad
    assert slopes is not None  # retain_grad was asked for
    heat = F.relu((maps * slopes).sum(1, keepdim=True))  # [T, 1, h, h]; HiResCAM's product, place by place (Draelos & Carin 2021)
    heat = F.interpolate(heat, clip.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    heat = heat / heat.max() if float(heat.max()) > 0 else heat
    run = states[0][0].detach()  # [T, D]
    change = torch.cat([run.new_zeros(1), (run[1:] - run[:-1]).norm(dim=1)])
    frame_p, certainty = torch.sigmoid(said.frame_logits[0].detach() / temperature + offset).numpy(), said.certainty[0].detach().numpy()
    has_part, attention = model.frame_head_has_part, said.attention[0].detach().numpy()
    return ClipExplanation(logit, heat.numpy(), attention, frame_p if has_part else None, certainty if has_part else None, change.numpy())


def explain_verdict(model: ResNeXtLSTM, card: "ModelCard", said: "FileVerdict", clips: "Sequence[FaceClip]") -> tuple[int, ClipExplanation]:
    """Which of `clips` speaks most for what was said of their file, and why: heat speaks for `fake` wherever the verdict is not `real`.

    So it does for a file that was left uncertain: its most suspicious clip is shown, and what makes that suspicious. Needs a verdict.
    """
    place = most_telling(said)
    return place, explain_clip(model, clips[place].frames, said.verdict != "real", card.temperature, card.offset)


def mesh_evidence(landmarks: NDArray[np.floating], seconds: float) -> MeshEvidence:
    """Blinks, the mouth's largest jump and the face's within its crop, from landmarks [T, 468, 2] in the crop over `seconds`."""
    if len(landmarks) < 2:
        return MeshEvidence(None, None, None)
    points = np.asarray(landmarks, np.float64)
    height = np.linalg.norm(points[:, FACE_ENDS[1]] - points[:, FACE_ENDS[0]], axis=1).mean() + 1e-9
    opening = np.mean([np.ptp(points[:, eye, 1], axis=1) / (np.ptp(points[:, eye, 0], axis=1) + 1e-9) for eye in (LEFT_EYE, RIGHT_EYE)], axis=0)
    closed = opening < BLINK_CLOSED * np.median(opening)
    blinks = int(np.sum(closed[1:] & ~closed[:-1]) + closed[0])
    mouth = np.linalg.norm(points[:, LIPS_INNER[1]] - points[:, LIPS_INNER[0]], axis=1) / height
    place = points.mean(axis=1) / height
    jumps = np.abs(np.diff(mouth)).max(), np.linalg.norm(np.diff(place, axis=0), axis=1).max()
    return MeshEvidence(blinks / max(seconds, 1e-6), float(jumps[0]), float(jumps[1]))


def sentence(said: "FileVerdict", found: "ClipExplanation", row: dict[str, Any]) -> str:
    """What a person may repeat: verdict, where it hangs (nothing of it where there is no heat), whose face, when. `row` is the clip's of `said.clips`."""
    assert said.p_fake is not None  # a clip was explained, so there is a verdict
    parts = found.regions()
    place = max(parts, key=lambda name: parts[name])
    face = face_named(said.clips, row)
    when = f", most of all {row['start_seconds']:.1f} to {row['end_seconds']:.1f} s into it ({face})"
    if said.kind == "image":
        when = f", going by {face}" if len(said.tracks) > 1 else ""
    sure = np.zeros(0) if found.certainty is None else found.certainty
    frame = "" if len(sure) < 2 else f" The network is surest of frame {int(np.argmax(sure)) + 1} of {len(sure)} there."
    word = {"fake": "Called fake", "real": "Called real", "uncertain": "Left uncertain"}[said.verdict]
    if said.reason.startswith(UNLIKE):
        most = f", from {NAMES[place]} most of all" if parts[place] else ""
        return f"Left uncertain: this is {UNLIKE} (p_fake {as_estimate(said.p_fake, 2)}{when}{most})."
    hangs = f"; the verdict hangs most on {NAMES[place]} ({parts[place]:.0%} of the heat)" if parts[place] else ""
    return f"{word} (p_fake {as_estimate(said.p_fake, 2)}){when}{hangs}.{frame}"
