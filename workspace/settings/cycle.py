"""A cycle: when one is due, how much it trains, its stages and their versions, and where its runs and data are kept."""

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from workspace.blocks import Block, Rule
from workspace.settings.values import NotNegative, Positive, Seconds

STAGES = (
    "faces", "validate", "forge", "assemble", "drift", "pretrain", "harden", "train", "evaluate", "gate",
)  # fmt: skip


def _known_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (OSError, ValueError, KeyError):  # a folder, a bad name, an unknown name
        return False


class ScheduleSettings(Block):
    """When the weekly cycle is due."""

    RULES = (Rule(("timezone",), _known_zone, "timezone {timezone!r} is not known; give a name like Europe/Berlin"),)

    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = Field("monday", description="Day of the planned cycle.")
    hour: int = Field(3, ge=0, le=23, description="Hour of the planned cycle.")
    minute: int = Field(0, ge=0, le=59, description="Minute of the planned cycle.")
    timezone: str = Field("UTC", description="Zone of the day and hour, e.g. Europe/Berlin.")
    retries: NotNegative = Field(2, description="Prefect retries a stage this often when the failure may pass.")
    retry_delay_seconds: NotNegative = Field(10, description="Pause before a retry.")
    stage_timeout_seconds: Seconds = Field(7 * 24 * 3600, description="A stage that takes longer is ended; the next `vigil retrain` goes on from there.")


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


class RegistrySettings(Block):
    """Where MLflow keeps runs and models. A relative sqlite path is inside the workspace."""

    tracking_uri: str = Field("sqlite:///mlflow.db", pattern=r"^(sqlite|postgresql(\+\w+)?|mysql(\+\w+)?|https?)://", description="Address of MLflow's store.")
    model_name: str = Field("detector", pattern=r"^[A-Za-z0-9_-]+$", description="The registered model.")
    experiment: str = Field("vigil", min_length=1, description="The experiment that holds the runs.")


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
