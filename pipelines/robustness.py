"""How the challenger and the champion stand attacks on holdout clips: white-box PGD at growing eps, and transfer from another model.

Every model is attacked in its own shipped state: the border is its threshold through its temperature and offset. Attacks may push a
fake to look real (evasion) and a real to look fake (framing); both are reported. What was measured before, with the same
model, clips, settings and version of the stage, is read from .vigil/scores.
"""

import hashlib
import json
import math
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.scoring import CACHE, Tell, read_set, silent
from pipelines.surrogate import train_surrogate
from workspace.cycle import Cycle
from workspace.files import read_json, write_json
from workspace.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from model.card import ModelCard

WHITEBOX_EPS = 2 / 255
TRANSFER_EPS = 0.05  # pixels of [0,1]; the bound of the mission's own adversarial data
HUGE_EPS, STANDING = 0.5, 0.1  # at that strength, which no eye would miss, no more than this may be left of an attacked model
JPEG_QUALITY, H264_CRF = 75, 23  # what attacked clips are coded with, as they would be on their way to a detector


def attack_panel(root: Path, origins: list[str], most: int, key: str, new: bool = True) -> "pd.DataFrame":
    """One clip a video, half real and half fake, at most `most`, drawn by keyed hash from the holdout, or without `new` from what of it was there before."""
    clips = read_set(root, "holdout")
    clips = clips if new else clips[~clips["new"].astype(bool)]
    clips = clips[clips["origin"].isin(origins) & clips["label"].isin(["real", "fake"])].sort_values("clip_id").drop_duplicates("unit")
    order = [hashlib.sha256(f"{key}:{unit}".encode()).hexdigest() for unit in clips["unit"]]
    each = min(most // 2, *(int((clips["label"] == label).sum()) for label in ("real", "fake")))
    return clips.assign(order=order).sort_values("order").groupby("label").head(each).drop(columns="order").reset_index(drop=True)


NAMES = {"pgd": "white-box PGD", "apgd": "white-box APGD", "square": "black-box Square"}  # as the report says them


def measure(
    root: Path, settings: Settings, cycle: Cycle, challenger: "ModelCard", champion: "ModelCard | None", origins: list[str], tell: Tell = silent
) -> dict[str, Any]:
    """Curves of both models, transfer onto the challenger, and `gate`: what gate `robustness` reads.

    Against a champion clips of the holdout as it stood before the cycle are attacked, as the other gates judge: it has never met what a new generator makes.
    The gate judges the transfer from an attacker's own model; that from the champion (whether or not the challenger grew out of it), or without one
    from the phase-1 network, is reported, and judged where there is no other.
    """
    panel = attack_panel(root, origins, settings.budget.attack_clips, settings.split.key, new=champion is None or cycle.judges_all)
    if panel.empty:
        return {"n": 0, "challenger": [], "champion": [], "transfer": {}, "gate": {"n": 0}}
    measured = curve(root, "build/model", challenger, panel, settings, cycle.seed)
    mine = _below_huge(measured)
    theirs = _below_huge(curve(root, "build/base", champion, panel, settings, cycle.seed)) if champion and champion.model else []
    transferred = transfers(root, settings, cycle, challenger, champion, panel, tell)
    gate = {"n": len(panel), **gate_input(panel, mine, theirs, transferred.get("independent") or transferred["parent"])}
    if champion and not champion.model:
        gate["champion_has_no_gradients"] = True
    return {
        "n": len(panel),
        "by": " and ".join(NAMES[name] for name in settings.evaluate.attacks),
        "challenger": [without_clips(point) for point in mine],
        "champion": [without_clips(point) for point in theirs],
        "transfer": {name: without_clips(row) for name, row in transferred.items()},
        "masked": masked(measured),
        "survival": survival(root, challenger, panel, settings, cycle.seed),
        "gate": gate,
    }


def gate_input(panel: "pd.DataFrame", mine: list[dict[str, Any]], theirs: list[dict[str, Any]], transferred: dict[str, Any]) -> dict[str, Any]:
    """`transfer` (what the attacked clips gain, so less than 0), `whitebox` (what stands at 2/255) and, with a champion, `curve` (the challenger's
    mean over all strengths less the champion's): balanced accuracies, each with its standard error, people counting once.
    """
    import numpy as np

    from model.paired import paired_mean

    labels, people, nothing = panel["label"], panel["cluster"], np.zeros(len(panel))
    weak = point_at(mine, WHITEBOX_EPS)
    pairs = {
        "transfer": (transferred["right_attacked"], transferred["right_clean"]),
        "whitebox": (weak["right"] if weak else None, nothing),
        "curve": (standing(mine), standing(theirs)),
    }
    found = {name: paired_mean(labels, new, old, people) for name, (new, old) in pairs.items() if new is not None and old is not None}
    return {name: one.as_dict() for name, one in found.items() if one is not None}


def without_clips(row: dict[str, Any]) -> dict[str, Any]:
    """A point or a transfer as the report shows it: without its verdicts clip by clip."""
    return {name: value for name, value in row.items() if not name.startswith("right")}


def transfers(
    root: Path, settings: Settings, cycle: Cycle, challenger: "ModelCard", champion: "ModelCard | None", panel: "pd.DataFrame", tell: Tell
) -> dict[str, Any]:
    """Transfer onto the challenger from `independent` (an attacker's own model; absent without both classes in validation) and from
    `parent` (the champion, else the phase-1 network)."""
    from model.checkpoint import load_model
    from model.hardware import best_device
    from pipelines.frameview import FrameView

    model = load_model(root / "build/model/model.safetensors", challenger.model_sha256).to(best_device())
    parent = (
        load_model(root / "build/base/model.safetensors", champion.model_sha256)
        if champion and champion.model
        else FrameView(load_model(root / "build/pretrain/model.safetensors")).eval()
    ).to(best_device())
    shipped = border(champion) if champion and champion.model else 0.0
    attackers = {"parent": (parent, shipped), "independent": (train_surrogate(root, settings, cycle, tell), 0.0)}
    return {
        name: transfer(root, attacker, own, model, border(challenger), panel, settings, cycle.seed)
        for name, (attacker, own) in attackers.items()
        if attacker is not None
    }


def masked(points: list[dict[str, Any]]) -> list[str]:
    """Signs that gradients are masked and the curve flatters (Athalye et al. 2018); none is good news.

    Square, which asks for no gradient, must not do more harm than the attacks that follow it, and at HUGE_EPS nothing may stand.
    """
    found = []
    for point in points:
        each = {name: value for name, value in point["by_attack"].items() if value is not None}
        guided = [value for name, value in each.items() if name != "square"]
        if "square" in each and guided and each["square"] < min(guided) - 1e-9:
            found.append(f"at eps {point['eps']:.4f} Square leaves {each['square']:.2f}, gradients leave {min(guided):.2f}")
    last = points[-1] if points else None
    if last and last["eps"] >= HUGE_EPS and (last["balanced_accuracy"] or 0) > STANDING:
        found.append(f"at eps {last['eps']:.4f} a balanced accuracy of {last['balanced_accuracy']:.2f} still stands")
    return found


def eps_list(settings: Settings) -> list[float]:
    """The strengths of the settings, with 0 and 2/255 always among them, and HUGE_EPS last, which no curve shows."""
    wanted = {0.0, *settings.evaluate.attack_eps, HUGE_EPS}
    return sorted(wanted if any(_same(eps, WHITEBOX_EPS) for eps in wanted) else {*wanted, WHITEBOX_EPS})


def _below_huge(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [point for point in points if point["eps"] < HUGE_EPS]


def point_at(points: list[dict[str, Any]], eps: float) -> dict[str, Any] | None:
    """The point of one strength; None where it was not measured."""
    return next((point for point in points if _same(point["eps"], eps)), None)


def standing(points: list[dict[str, Any]]) -> "NDArray[np.float64] | None":
    """Of each clip [N]: the share of the strengths above 0 at which its verdict stands. None where nothing was measured."""
    import numpy as np

    found = [point["right"] for point in points if point["eps"] > 0]
    return np.mean(np.array(found, dtype=np.float64), axis=0) if found else None  # type: ignore[no-any-return]


def _same(a: float, b: float) -> bool:
    return abs(a - b) < 1e-4  # settings round 2/255 to 0.00784


def border(card: "ModelCard") -> float:
    """The raw logit at the shipped threshold."""
    kept = min(max(card.threshold, 1e-6), 1 - 1e-6)
    return card.temperature * (math.log(kept / (1 - kept)) - card.offset)


def curve(root: Path, folder: str, card: "ModelCard", panel: "pd.DataFrame", settings: Settings, seed: int) -> list[dict[str, Any]]:
    """The worst of the settings' attacks on the clips of `panel`: the fields of RobustPoint, one point a strength."""
    about = [
        card.model_sha256,
        border(card),
        list(panel["sha256"]),
        eps_list(settings),
        settings.evaluate.attack_steps,
        settings.evaluate.attack_restarts,
        *settings.evaluate.attacks,
        settings.evaluate.square_queries,
        seed,
        panel["label"].tolist(),  # of the same clips: a person may have corrected two of them
        settings.stage_versions.evaluate,  # raised where the attacks became others
    ]
    path = root / CACHE / f"attack-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError):  # none, or a damaged one: measured anew
        points: list[dict[str, Any]] = read_json(path)
        return points
    from model.attacks import robust_curve
    from model.checkpoint import load_model
    from model.hardware import best_device

    clips, fake, lengths = load_clips(root, panel)
    model = load_model(root / folder / "model.safetensors", card.model_sha256).to(best_device())
    found = robust_curve(
        model,
        clips,
        fake,
        eps_list(settings),
        steps=settings.evaluate.attack_steps,
        restarts=settings.evaluate.attack_restarts,
        seed=seed,
        border=border(card),
        lengths=lengths,
        attacks=settings.evaluate.attacks,
        queries=settings.evaluate.square_queries,
    )
    write_json(path, [asdict(point) for point in found])
    return [asdict(point) for point in found]


def transfer(root: Path, attacker: Any, own: float, model: Any, limit: float, panel: "pd.DataFrame", settings: Settings, seed: int) -> dict[str, Any]:
    """Balanced accuracy of `model` (border at logit `limit`) on clean clips and on the same clips attacked at 0.05 against `attacker`.

    `attacker_clean` and `attacker_attacked` say how good the attacker's own model is, and how hard its attack hits itself, at its border `own`: a champion's
    is the shipped one; what never shipped has learned from as many reals as fakes, and is asked at 0.
    """
    from model.attacks import attacked_margins, robust_point

    clips, fake, lengths = load_clips(root, panel)
    force = {"steps": settings.evaluate.attack_steps, "restarts": settings.evaluate.attack_restarts, "seed": seed, "lengths": lengths}
    judges = [(model, limit), (attacker, own)]
    (clean, own_clean), (moved, own_moved) = (
        [robust_point(eps, margins, fake) for margins in attacked_margins("pgd", attacker, judges, clips, fake, eps=eps, **force)]
        for eps in (0.0, TRANSFER_EPS)
    )
    return {
        "eps": TRANSFER_EPS,
        "clean": clean.balanced_accuracy,
        "attacked": moved.balanced_accuracy,
        "right_clean": list(clean.right),
        "right_attacked": list(moved.right),
        "attacker_clean": own_clean.balanced_accuracy,
        "attacker_attacked": own_moved.balanced_accuracy,
    }


def survival(root: Path, card: "ModelCard", panel: "pd.DataFrame", settings: Settings, seed: int) -> list[dict[str, Any]]:
    """What coding leaves of an attack, a row a strength: of the clips whose right verdict PGD turned (`turned` of `n`), the part that stays turned
    after JPEG (frame by frame) and after H.264, and the part of the same clips that coding alone turns (`jpeg_alone`, `h264_alone`)."""
    import numpy as np
    import torch

    from media.degrade import h264_round_trip, jpeg_round_trip
    from model.attacks import at_once, attack_clips, attacked_margins, robust_point, to_uint8
    from model.checkpoint import load_model
    from model.hardware import best_device

    model = load_model(root / "build/model/model.safetensors", card.model_sha256).to(best_device())
    pixels, fake, lengths = load_clips(root, panel)
    codecs = {"jpeg": lambda clip: jpeg_round_trip(clip, JPEG_QUALITY), "h264": lambda clip: h264_round_trip(clip, H264_CRF)}

    def right(clips: Any, chosen: slice) -> "NDArray[np.bool_]":
        """Of each clip [N] whether its verdict is right."""
        part, frames = fake[chosen], None if lengths is None else lengths[chosen]
        (margins,) = attacked_margins("pgd", model, [(model, border(card))], clips, part, eps=0.0, steps=1, lengths=frames)
        return np.array(robust_point(0.0, margins, part).right, dtype=bool)

    def coded(clips: Any, name: str) -> Any:
        frames = clips.permute(0, 1, 3, 4, 2).numpy()
        return torch.from_numpy(np.stack([codecs[name](np.ascontiguousarray(clip)) for clip in frames])).permute(0, 1, 4, 2, 3).contiguous()

    step = at_once(pixels.shape[1], pixels.shape[-1])
    force: dict[str, Any] = {"steps": settings.evaluate.attack_steps, "seed": seed, "border": border(card)}
    seen: dict[float, list[dict[str, NDArray[np.bool_]]]] = {WHITEBOX_EPS: [], TRANSFER_EPS: []}
    for start in range(0, len(pixels), step):
        chosen = slice(start, start + step)
        clean = pixels[chosen]
        stands, alone = right(clean, chosen), {f"{name}_alone": ~right(coded(clean, name), chosen) for name in codecs}
        for eps, parts in seen.items():
            moved = attack_clips("pgd", model, clean, fake[chosen], eps=eps, lengths=None if lengths is None else lengths[chosen], **force)
            attacked = to_uint8(moved, clean, eps)
            turned = stands & ~right(attacked, chosen)
            still = {name: ~right(coded(attacked, name), chosen) for name in codecs}
            parts.append({"turned": turned} | {name: values[turned] for name, values in (still | alone).items()})
    rows = []
    for eps, parts in seen.items():
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        shares = {name: float(values.mean()) if len(values) else None for name, values in whole.items() if name != "turned"}
        rows.append({"eps": eps, "n": len(pixels), "turned": int(whole["turned"].sum()), **shares})
    return rows


def load_clips(root: Path, panel: "pd.DataFrame") -> tuple[Any, Any, Any]:
    """8-bit pixels [N, T, 3, H, W], fake [N] bool, lengths [N] (None where all are equally long). As floats 400 clips of 30 frames would be 7 GB."""
    import torch

    from media.shards import read_clip
    from model.data import stack

    clips, lengths = stack([torch.from_numpy(read_clip(root, row).transpose(0, 3, 1, 2).copy()) for row in panel.to_dict("records")])
    return clips, torch.tensor((panel["label"] == "fake").to_numpy()), lengths
