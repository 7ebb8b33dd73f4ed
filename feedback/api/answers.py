"""What the API says, as types: they make the schema and its examples. Answers are written from the service's rows as they are."""

from typing import Annotated, Any, Literal

import orjson
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from feedback.cases import IDENTITY, UPLOADS_SHOWN
from feedback.wording import LABEL_MAP
from workspace import choices

Verdict = Literal["", "real", "fake", "uncertain", "none"]
Policy = Literal["", choices.Policy]
Mode = Literal["", choices.Mode]
Password = Annotated[str, StringConstraints(strip_whitespace=False, max_length=512)]  # as it was typed, wherever


def dumps(value: Any) -> bytes:
    """Plain values as JSON; the database's rows name their columns in a kind of string of their own."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON of plain values; NaN becomes null."""
    return Response(dumps(value), status_code=status, media_type="application/json", headers=headers)


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow")


class ProblemBody(_Told):
    """A refusal (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such detection."])
    next_step: str = ""


class Interval(_Told):
    """A part of a file in which a face scores at or above the threshold."""

    track: int
    start_seconds: float
    end_seconds: float
    p_fake: float


class Track(_Told):
    """One face through a file. `p_fake` is of the whole track, the seconds are those of its most suspicious clip."""

    track: int
    start_seconds: float
    end_seconds: float
    p_fake: float
    place: list[float] | None = None


class Clip(_Told):
    """One clip of the timeline."""

    track: int
    start_seconds: float
    end_seconds: float
    p_fake: float
    certainty: float | None = None
    place: list[float] | None = None


_EXAMPLE: dict[str, Any] = {
    "id": "5d1f0c5e9c0b4f6d9f0d3a2b1c4e5f60", "created_at": "2026-11-21T09:30:00.000+00:00", "state": "done", "progress": 1.0, "kind": "video",
    "verdict": "fake", "p_fake": 0.94, "threshold": 0.73, "abstain": 0.1, "novelty": 0.8, "reason": "most suspicious: 4.0-5.0 s, face 1",
    "policy": "moderation", "mode": "", "judged_mode": "fast", "frames": 120, "faces": 1,
    "tracks": [{"track": 0, "p_fake": 0.94, "start_seconds": 4.0, "end_seconds": 5.0, "place": None}],
    "clips": [{"track": 0, "start_seconds": 4.0, "end_seconds": 5.0, "p_fake": 0.97, "certainty": 0.9, "place": [0.5, 0.4, 0.2]}],
    "forged": [{"track": 0, "start_seconds": 4.0, "end_seconds": 5.0, "p_fake": 0.97}], "model": "52455c1e9f48", "model_sha256": "5" * 64,
    "model_trained_at": "", "cycle": "2026-W47.1", "origin": "registry", "knows": ["landmark_swap", "reenact"], "engine": "onnxruntime-fp32",
    "label_map": LABEL_MAP, "case_id": None, "people": "",
    "sha256": "a" * 64, "bytes": 1048576, "batch": "", "media_state": "kept", "finished_at": "",
}  # fmt: skip


class Detection(_Told):
    """A file and its verdict, or how far it is."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_EXAMPLE]})
    id: str
    created_at: str
    finished_at: str = ""
    state: Literal["queued", "running", "done", "erased"]
    progress: float = Field(description="0..1")
    kind: Literal["", "image", "video"] = ""
    verdict: Verdict = Field("", description="Empty until `state` is done; none: see `reason`.")
    p_fake: float | None = Field(None, description="Calibrated, 0..1: 1 means fake.")
    threshold: float | None = None
    abstain: float | None = Field(None, description="Half width of the uncertain band, which never takes more than half of the room on a side.")
    novelty: float | None = None
    reason: str = ""
    policy: str = ""
    mode: str = Field("", description="As it was asked for; empty: the policy's, or the one that the model was trained in.")
    judged_mode: Mode = Field("", description="The one that it was judged in; empty: of a verdict of before this was kept.")
    frames: int = 0
    faces: int = 0
    tracks: list[Track] = []
    clips: list[Clip] = []
    forged: list[Interval] = []
    model: str = ""
    model_sha256: str = ""
    model_trained_at: str = ""
    cycle: str = ""
    origin: str = Field("", description="starter: no model of this workspace has been promoted yet.")
    knows: list[str] = Field([], description="The forgeries that the model was trained on.")
    engine: str = ""
    label_map: str = ""
    case_id: str | None = None
    people: Literal["", "asked", "real", "fake", "unsure"] = Field("", description="Of one detection, for viewers: people are asked, or what they said.")
    sha256: str
    bytes: int
    batch: str = ""
    media_state: str = Field("", description="kept, quarantined (hidden from who sent them; to reviewers it is told as kept), deleted.")


class ReportKey(_Told):
    """What signed reports are verified with."""

    algorithm: str = Field(examples=["Ed25519"])
    key: str = Field(description="64 hex digits: `vigil verify-report FILE --key KEY`.", examples=["a" * 64])


class DetectionPage(_Told):
    """Newest first."""

    detections: list[Detection]
    next: int | None = Field(description="`before` of the following page.")


class Batch(_Told):
    """Files that were sent together."""

    detections: list[Detection]


class Case(_Told):
    """A question for people."""

    id: str
    number: int
    created_at: str
    state: Literal["open", "decided", "quarantined", "erased"]
    reason: Literal["uncertain", "novel", "disputed", "audit", "unlabelled", "conflict"]
    said: list[str] = Field([], description="Statements about its label that contradict each other.")
    kind: str
    sha256: str
    p_fake: float | None = None
    uncertainty: float = 0.0
    label: Literal["", "real", "fake", "unsure"] = ""
    identity: str = ""
    reviews: list[dict[str, Any]] = []
    needed: int = 0
    handover: str = ""
    batch: str = ""
    batch_state: str = Field("", description="Of one case that came in with a batch: new, deferred, accepted, held or dropped.")
    uploads: int = Field(0, description="How often its file was sent and not erased.")
    detections: list[str] = Field(
        [], description=f"Of these at most {UPLOADS_SHOWN}, oldest first: the disputed, then those with a verdict, the newest of each."
    )


class CasePage(_Told):
    """In order of arrival."""

    cases: list[Case]
    next: int | None = Field(None, description="`after` of the following page.")


class ExplainedFrame(_Told):
    """A frame of the clip that was looked into. `p_fake` and `certainty` are null where the network says nothing of single frames."""

    n: int
    seconds: float
    p_fake: float | None = None
    certainty: float | None = None
    state_change: float


class Explanation(_Told):
    """Why the network said so."""

    sentence: str
    regions: dict[str, float]
    heatmaps: int
    frames: list[ExplainedFrame]


class Webhook(_Told):
    """An address that verdicts are sent to."""

    id: str
    url: str
    created_at: str
    secret: str = Field("", description="Shown once, when it is made.")


class Key(_Told):
    """An API key."""

    id: str
    name: str
    key: str = Field("", description="Shown once, when it is made.")
    prefix: str = ""


class Account(_Told):
    """A person."""

    id: str
    name: str
    email: str
    user_name: str
    role: str
    disabled: bool


class AccountPage(_Told):
    """Newest first."""

    users: list[Account]
    next: str | None = Field(None, description="`before` of the following page.")


class Asked(BaseModel):
    """The bodies of requests refuse what they do not know."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:  # PostgreSQL keeps no such text
            raise ValueError("there is a NUL in this text")
        return value


class Reference(Asked):
    """A file to fetch, from a host or bucket on the list `feedback.reference_hosts`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reference": "https://media.example.org/clip.mp4", "policy": "moderation"}]})
    reference: str = Field(min_length=1, max_length=2000)
    policy: Policy = ""
    mode: Mode = ""


class Review(Asked):
    """What a person saw. `identity` names who is in the file, where known; without it the sample only ever trains."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, json_schema_extra={"examples": [{"label": "fake", "note": "the teeth flicker"}]})
    label: Literal["real", "fake", "unsure"]
    note: str = Field("", max_length=2000)
    identity: str = Field("", max_length=200, pattern=IDENTITY)
    seconds: float | None = Field(None, ge=0, le=86400, description="From seeing the case to the answer.")


class Dispute(Asked):
    """What the file truly is."""

    claim: Literal["real", "fake"]
    note: str = Field("", max_length=2000)


class Why(Asked):
    """A reason, for the audit trail."""

    why: str = Field(min_length=1, max_length=500)


class Gold(Asked):
    """What a case truly is; empty ends its use as a known case."""

    label: Literal["", "real", "fake"]


class Rollback(Asked):
    """Which model serves again: of the cycle `to`, else the previous champion. Refused where another than `instead_of` is champion by now."""

    why: str = Field(min_length=1, max_length=500)
    to: str = Field("", max_length=40, pattern=r"^[0-9A-Za-z.-]*$")
    instead_of: str = Field("", max_length=40, pattern=r"^[0-9A-Za-z.-]*$")


class NewWebhook(Asked):
    """Where verdicts go; its host must be in `feedback.webhook_hosts`."""

    url: str = Field(min_length=1, max_length=2000)


class NewKey(Asked):
    """A name to recognise the key by."""

    name: str = Field(min_length=1, max_length=100)


class SignUp(Asked):
    """One's own account."""

    name: str = Field(min_length=1, max_length=100)
    email: str = Field(max_length=254)
    user_name: str = Field(max_length=32)
    password: Password


class NewUser(SignUp):
    """An account."""

    role: Literal["viewer", "reviewer", "engineer", "admin"] = "viewer"


class Govern(Asked):
    """What to change."""

    role: Literal["", "viewer", "reviewer", "engineer", "admin"] = ""
    disabled: bool | None = None
    unlock: bool = False


class NewPassword(Asked):
    """One's own needs the old one."""

    password: Password
    old: Password = ""


_WORDS = {
    400: "Broken", 401: "Not known", 403: "Not allowed", 404: "Not there", 408: "Too slow", 409: "Not as things stand", 410: "Gone", 413: "Too large",
    415: "Not in this form", 421: "Not under this name", 422: "Not understood", 429: "Too often", 431: "Too long a head", 503: "Not now",
}  # fmt: skip


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the schema says of these statuses."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {status: {"model": ProblemBody, "description": _WORDS[status], "content": content} for status in statuses}


OPEN = {"security": list[Any]()}  # of a route that answers without a key
ANYWHERE = refusals(400, 403, 408, 413, 415, 421, 431, 503)  # whatever route is asked: feedback/api/guard.py
REFUSALS = refusals(401, 404, 422, 429)
