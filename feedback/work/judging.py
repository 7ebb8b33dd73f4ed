"""From what a child found and the network said to the answer that a detection keeps. Pure: no file, no process."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feedback.policies import Bound, bind
from model.card import ModelCard, operating_points
from model.inference import LEARNED, UNLIKE, ClipScore, FileVerdict, most_telling
from workspace.settings import FaceSettings, FeedbackSettings

EMBEDDING_DIGITS = 5
NEXT_SECONDS = 0.25  # apart, or half a clip: so far a clip may begin from where the one before it ends (its last frame) and still be the next


def bound_of(settings: FeedbackSettings, policy: str, mode: str, card: ModelCard) -> Bound:
    """How this model judges under this policy. Raises ModelFileError where the card's operating points are none."""
    return bind(settings, policy, mode, card.faces.mode, card.threshold, card.abstain, operating_points(card))


def faces_of(card: ModelCard, mode: str) -> FaceSettings:
    """How faces are cut for a model that judges in this mode (Bound.mode): as the model was trained but for it."""
    return card.faces.model_copy(update={"mode": mode})


def answer_of(said: FileVerdict, scores: Sequence[ClipScore], bound: Bound, model: Mapping[str, Any]) -> dict[str, Any]:
    """What a detection keeps and shows: verdict, score, where to look, how it was judged, by which model. `model` is Served.describe()."""
    clips = [
        {name: row[name] for name in ("track", "start_seconds", "end_seconds", "p_fake", "place")} | {"certainty": round(float(score.certainty.mean()), 4)}
        for row, score in zip(said.clips, scores, strict=True)
    ]
    note = "; ".join(filter(None, [bound.note, LEARNED if said.learned else ""]))
    answer = {
        "verdict": said.verdict, "p_fake": _finite(said.p_fake), "threshold": bound.threshold, "abstain": bound.abstain, "target_fpr": bound.target_fpr,
        "judged_mode": bound.mode,
        "novelty": _finite(said.novelty), "reason": said.reason, "note": note, "kind": said.kind, "frames": said.frames, "faces": said.faces,
        "tracks": said.tracks, "clips": clips, "forged": forged_intervals(said.clips, bound.threshold), "engine": said.engine, "shown": None,
        **{name: model[name] for name in ("model", "model_sha256", "model_trained_at", "cycle", "origin", "knows")},
    }  # fmt: skip
    if said.p_fake is not None:
        worst = most_telling(said)
        answer["shown"] = worst
        answer["frame_certainty"] = [round(float(value), 4) for value in scores[worst].certainty]
        mine = [score.embedding for row, score in zip(said.clips, scores, strict=True) if row["track"] == said.clips[worst]["track"]]
        answer["embedding"] = [round(float(value), EMBEDDING_DIGITS) for value in np.mean(np.stack(mine), axis=0)]
    return answer


def no_verdict(reason: str, model: Mapping[str, Any], bound: Bound) -> dict[str, Any]:
    """The answer for a file that could not be opened."""
    said = FileVerdict("", None, "none", 0, 0, reason, str(model["model"]), "")
    return answer_of(said, [], bound, model)


def forged_intervals(clips: Sequence[Mapping[str, Any]], threshold: float) -> list[dict[str, Any]]:
    """Where a face's clips are at or above the threshold: [{"track", "start_seconds", "end_seconds", "p_fake"}].

    Neighbours are joined where one follows the other. What lies between clips that were taken here and there, as in mode `standard`, nobody has looked at.
    """
    found: list[dict[str, Any]] = []
    for track in sorted({int(row["track"]) for row in clips}):
        ended = True
        for row in sorted((row for row in clips if row["track"] == track), key=lambda one: float(one["start_seconds"])):
            if row["p_fake"] < threshold:
                ended = True
                continue
            if ended or row["start_seconds"] - found[-1]["end_seconds"] > max(NEXT_SECONDS, (row["end_seconds"] - row["start_seconds"]) / 2):
                found.append({name: row[name] for name in ("track", "start_seconds", "end_seconds", "p_fake")})
            else:
                found[-1] |= {"end_seconds": row["end_seconds"], "p_fake": max(found[-1]["p_fake"], row["p_fake"])}
            ended = False
    return found


def case_reason(sha256: str, answer: Mapping[str, Any], key: bytes, audit_fraction: float) -> str:
    """Why a person should look at this content: uncertain, novel, audit; "" for no reason. Which confident ones are audited nobody outside can foretell.

    One draw a content and model, however often it is sent: the estimate (feedback/estimate.py) counts it once, so it may have one chance only.
    """
    if answer["p_fake"] is None:
        return ""
    if answer["verdict"] == "uncertain":
        return "novel" if answer["reason"].startswith(UNLIKE) else "uncertain"
    drawn = int.from_bytes(hmac.new(key, f"{answer['model_sha256']} {sha256}".encode(), hashlib.sha256).digest()[:8], "big") / 2**64
    return "audit" if drawn < audit_fraction else ""


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
