"""The service: where it listens, accounts and limits, cases for people, and for how long it keeps media."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from workspace.blocks import Block, Rule
from workspace.choices import Mode
from workspace.settings.values import Days, Fraction, Hours, MemoryBytes, Minutes, NotNegative, Positive, Seconds, defaults


def _addresses(given: Sequence[str]) -> bool:
    try:
        return all(ipaddress.ip_network(one) for one in given)
    except ValueError:
        return False


def _host_names(given: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[\w-]+(\.[\w-]+)*", one) or (_addresses([one]) and "/" not in one) for one in given)


def _host_names_or_buckets(given: Sequence[str]) -> bool:
    return _host_names([one for one in given if not re.fullmatch(r"s3://[^/]+", one)])


class ServeSettings(Block):
    """Where the service listens, and how it answers. It reads this when `vigil serve` starts."""

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
        description="Judge at the model's operating point for this false-positive rate, or the nearest stricter one (0.005, 0.01, 0.02, 0.05, 0.1, 0.2); "
        "below all of them at the strictest there is, and the verdict's note says so.",
    )
    abstain: Fraction | None = Field(None, description="Half width of the band around the threshold in which the answer is `uncertain`.")
    mode: Literal["", Mode] = Field("", description="How densely a video is looked at.")
    keep_days: Days | None = Field(None, description="Media of its uploads are deleted so many days after the verdict, whatever it is; 0 together with it.")


class RetentionSettings(Block):
    """For how many days the media of uploads are kept, by verdict; afterwards only their hashes are. Media of open cases are kept until they are decided."""

    real_days: Days = Field(30, description="Called real.")
    fake_days: Days = Field(90, description="Called fake.")
    uncertain_days: Days = Field(90, description="Uncertain, once its case is decided.")
    none_days: Days = Field(7, description="No verdict.")
    quarantine_fakes: bool = Field(
        True,
        description="Media called fake, by what people decided or else by a verdict that none of the same policy and mode has taken back, are shown to "
        "reviewers and engineers only, not to who sent them.",
    )
    every_minutes: Minutes = Field(60, description="How often the service looks for what was kept long enough; for fakes to hide, every hour at least.")


class QueueSettings(Block):
    """Which uploads become cases for people, and when a person's label may train."""

    audit_fraction: Fraction = Field(0.01, description="Of confident verdicts, drawn at random for review.")
    reviewers_needed: int = Field(2, ge=1, le=2, description="Agreeing reviewers before a label may train; where two differ, a third decides.")
    review_own: bool = Field(False, description="Whether people may review what they sent in themselves.")
    gold_fraction: Fraction = Field(0.05, description="Of the cases shown, those whose truth is known: they measure reviewers and never train.")
    source_cap: float = Field(0.25, gt=0, le=1, description="Largest part of a handed-over batch that may come from one account, whatever keys it used.")
    source_cap_free: NotNegative = Field(
        20,
        description="So many cases a source are handed over whatever the cap says; of media without a label so many (one at least) are open at a time.",
    )


class WorkerSettings(Block):
    """The processes behind the service: one network, and a pool that opens media under limits."""

    queue_length: Positive = Field(256, description="Uploads that may wait; the next one is answered 429.")
    decoders: Positive = Field(2, description="Processes that open media.")
    decode_seconds: Seconds = Field(120, description="Longest time that opening one file may take.")
    decode_memory_bytes: MemoryBytes = Field(3 << 30, description="Address space of a process that opens media.")
    max_pixels: Positive = Field(40_000_000, description="Largest picture or frame.")
    max_video_seconds: Positive = Field(1800, description="Longest video.")
    max_attempts: Positive = Field(
        3, description="A file has no verdict after its processing has ended the process so many times; it says if that came from outside."
    )
    batch_clips: Positive = Field(16, description="So many clips of several files are scored together; those of one file always are, however many.")
    batch_wait_ms: NotNegative = Field(4, description="Wait so long for more clips when other files are being opened; a lone file never waits.")
    lease_seconds: Seconds = Field(30, description="A job whose worker has been silent for so long is given to another.")


class FeedbackSettings(Block):
    """The service: accounts, limits, cases, media. It reads this when `vigil serve` starts."""

    RULES = (
        Rule(
            ("max_batch_files", "workers"),
            lambda files, workers: files <= workers.queue_length,
            "max_batch_files is more than workers.queue_length: for so large a batch there would never be room",
        ),
        Rule(
            ("reference_hosts",),
            _host_names_or_buckets,
            "reference_hosts: each is a name alone, media.example.org, without https://, port or a dot at its end, or s3://bucket with nothing behind it",
        ),
        Rule(("webhook_hosts",), _host_names, "webhook_hosts: each is a name alone, hooks.example.org, without https://, port or a dot at its end"),
    )

    database_url: str = Field(
        "",
        description="Empty: feedback.db in the workspace; or postgresql://user@host/name, or another SQLite file (a relative one is of the workspace). "
        "VIGIL_DATABASE_URL wins.",
    )
    media_url: str = Field("", description="Empty: .vigil/media in the workspace; or s3://bucket/prefix, of this workspace alone.")
    s3_endpoint_url: str = Field("", description="S3-compatible endpoint; empty means the default of boto3.")
    sign_up: bool = Field(True, description="Whether people may make an account themselves; otherwise an admin does.")
    sign_up_role: Literal["viewer", "reviewer"] = Field("viewer", description="What a new account may do.")
    session_hours: Hours = Field(12, description="A log-in lasts so long.")
    login_attempts: Positive = Field(5, description="Wrong passwords in a row before an account is locked.")
    lock_minutes: Minutes = Field(15, description="For so long.")
    requests_per_minute: Positive = Field(6000, description="Of one account, whatever keys it uses, or (not logged in) address.")
    uploads_per_minute: Positive = Field(
        600, description="Files of one account, whatever keys it uses. A batch is let in by its first; what it has too many of is waited for after it."
    )
    sign_ups_per_hour: Positive = Field(30, description="Of one address.")
    reference_hosts: tuple[str, ...] = Field((), strict=False, description="Hosts that a file may be fetched from by URL, and s3://bucket names.")
    webhook_hosts: tuple[str, ...] = Field((), strict=False, description="Hosts that webhooks may go to.")
    allow_private_addresses: bool = Field(False, description="Whether the hosts of the two lists may lie in a private network, or on this machine.")
    max_batch_files: Positive = Field(32, description="Files in one batch upload.")
    queue: QueueSettings = Field(default_factory=defaults(QueueSettings))
    workers: WorkerSettings = Field(default_factory=defaults(WorkerSettings))
    retention: RetentionSettings = Field(default_factory=defaults(RetentionSettings))
    moderation: PolicySettings = Field(default_factory=defaults(PolicySettings), description="Policy `moderation`.")
    identity_check: PolicySettings = Field(default_factory=defaults(PolicySettings), description="Policy `identity_check`.")
    forensics: PolicySettings = Field(default_factory=defaults(PolicySettings), description="Policy `forensics`.")
