"""The tables of the feedback service, for SQLite and PostgreSQL alike; `feedback/migrations` brings a database to this shape.

Ids are random hex, moments are ISO 8601 in UTC with milliseconds (they sort as text), media are named by their sha256.
No file name of a client is kept anywhere.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
    text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself only in a column of type INTEGER


def _one_of(column: str, *values: str) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


WORKSPACE = Table(  # whose database this is, one row (feedback/belonging.py); none in feedback.db
    "workspace",
    METADATA,
    Column("id", String, primary_key=True),
    Column("place", String, nullable=False),  # host:path, for people
)
SECRET = Table("secret", METADATA, Column("fingerprint", String, primary_key=True))  # which one the service has, one row (feedback/same_secret.py)

# -- people -------------------------------------------------------------------------------------------------------------
USERS = Table(
    "users",
    METADATA,
    Column("id", String, primary_key=True),
    Column("created_at", String, nullable=False),
    Column("name", String, nullable=False),
    Column("email", String, nullable=False, unique=True),  # lower case
    Column("user_name", String, nullable=False, unique=True),  # lower case
    Column("password_hash", String, nullable=False),  # argon2id
    Column("role", String, _one_of("role", "viewer", "reviewer", "engineer", "admin"), nullable=False),
    Column("disabled", Boolean, nullable=False, default=False),
    Column("failed_logins", Integer, nullable=False, default=0),
    Column("locked_until", String, nullable=False, default=""),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("token_hash", String, primary_key=True),  # keyed hash: the table alone opens no session
    Column("user_id", String, ForeignKey("users.id"), nullable=False, index=True),
    Column("created_at", String, nullable=False),
    Column("expires_at", String, nullable=False),
    Column("csrf", String, nullable=False),
)
API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String, primary_key=True),
    Column("user_id", String, ForeignKey("users.id"), nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("prefix", String, nullable=False),  # its first characters, to recognise it by
    Column("key_hash", String, nullable=False, unique=True),  # keyed hash
    Column("created_at", String, nullable=False),
    Column("last_used_at", String, nullable=False, default=""),
    Column("revoked_at", String, nullable=False, default=""),
)

# -- media and verdicts ---------------------------------------------------------------------------------------------------
MEDIA = Table(
    "media",
    METADATA,
    Column("sha256", String, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", String, nullable=False),
    Column("state", String, _one_of("state", "kept", "quarantined", "deleted"), nullable=False, default="kept"),
    Column("state_since", String, nullable=False, default=""),
    Column("why", String, nullable=False, default=""),
)
DETECTIONS = Table(
    "detections",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=True),  # order of arrival, for paging
    Column("id", String, nullable=False, unique=True),
    Column("created_at", String, nullable=False),
    Column("owner_id", String, ForeignKey("users.id"), nullable=False, index=True),
    Column("source", String, nullable=False),  # "console", or the id of the API key: what a per-source cap counts
    Column("sha256", String, ForeignKey("media.sha256"), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("policy", String, nullable=False, default=""),
    Column("mode", String, nullable=False, default=""),  # "" means the policy's, or the model card's
    Column("group_id", String, nullable=False, default="", index=True),  # files that were sent together
    Column("state", String, _one_of("state", "queued", "running", "done", "erased"), nullable=False, index=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_by", String, nullable=False, default=""),
    Column("lease_until", String, nullable=False, default=""),
    Column("progress", Float, nullable=False, default=0.0),  # 0..1
    Column("finished_at", String, nullable=False, default=""),
    Column("kind", String, nullable=False, default=""),  # image | video | "" while nobody has looked
    Column("verdict", String, CheckConstraint("verdict IN ('', 'real', 'fake', 'uncertain', 'none')", name="verdict"), nullable=False, default=""),
    Column("p_fake", Float),
    Column("novelty", Float),
    Column("model_sha256", String, nullable=False, default=""),
    Column("answer", JSON),  # everything that was found out; none while queued
    Column("case_id", String, ForeignKey("cases.id"), index=True),
    Column("audited", Boolean, nullable=False, default=False, server_default=false()),  # drawn at random for review, whatever else opened its case
)
Index("ix_detections_state_number", DETECTIONS.c.state, DETECTIONS.c.number)
BROUGHT = "source:"  # so begins the source of what the service brought out of a batch, to show it to people (feedback/gathering.py)
SENT = ~DETECTIONS.c.source.startswith(BROUGHT)  # what people sent
OF_SOURCE = USERS.c.user_name.startswith(BROUGHT) & USERS.c.disabled  # the accounts that own what was brought: no person's user name begins so
IDEMPOTENCY = Table(
    "idempotency",
    METADATA,
    Column("owner_id", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),  # of what was asked: another question under the same key is refused
    Column("created_at", String, nullable=False),
    Column("detection_ids", JSON, nullable=False),
)

# -- cases ----------------------------------------------------------------------------------------------------------------
CASES = Table(
    "cases",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("created_at", String, nullable=False),
    Column("sha256", String, nullable=False, unique=True),  # one file is one question, however often it is sent
    Column("bytes", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("owner_id", String, ForeignKey("users.id"), nullable=False),  # whose upload opened it
    Column("source", String, nullable=False),
    Column("reason", String, _one_of("reason", "uncertain", "novel", "disputed", "audit", "unlabelled", "conflict"), nullable=False),
    Column("state", String, _one_of("state", "open", "decided", "quarantined", "erased"), nullable=False, index=True),
    Column("label", String, CheckConstraint("label IN ('', 'real', 'fake', 'unsure')", name="label"), nullable=False, default=""),
    Column("identity", String, nullable=False, default=""),
    Column("decided_at", String, nullable=False, default=""),
    Column("gold", String, CheckConstraint("gold IN ('', 'real', 'fake')", name="gold"), nullable=False, default=""),  # known truth; never trains
    Column("p_fake", Float),
    Column("novelty", Float),
    Column("uncertainty", Float, nullable=False, default=0.0),  # 0..1, 1 on the threshold
    Column("embedding", JSON),  # of the worst track, float list, for diversity
    Column("model_sha256", String, nullable=False),
    Column("why", String, nullable=False, default=""),  # of a quarantine
    Column("said", JSON, nullable=False, default=list, server_default="[]"),  # statements about its label that contradict each other
)
REVIEWS = Table(
    "reviews",
    METADATA,
    Column("id", String, primary_key=True),
    Column("case_id", String, ForeignKey("cases.id"), nullable=False, index=True),
    Column("reviewer_id", String, ForeignKey("users.id"), nullable=False, index=True),
    Column("created_at", String, nullable=False),
    Column("label", String, _one_of("label", "real", "fake", "unsure"), nullable=False),
    Column("note", String, nullable=False, default=""),
    Column("identity", String, nullable=False, default=""),
    Column("seconds", Float),  # from seeing the case to the answer
    Column("undone_at", String, nullable=False, default=""),
)
Index(
    "uq_reviews_standing", REVIEWS.c.case_id, REVIEWS.c.reviewer_id, unique=True, sqlite_where=text("undone_at = ''"), postgresql_where=text("undone_at = ''")
)
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("case_id", String, ForeignKey("cases.id"), primary_key=True),
    Column("created_at", String, nullable=False),
    Column("state", String, _one_of("state", "waiting", "exported", "ingested"), nullable=False, index=True),
    Column("batch", String, nullable=False, default=""),
    Column("exported_at", String, nullable=False, default=""),
    Column("ingested_at", String, nullable=False, default=""),
)
ERASURES = Table(
    "erasures",
    METADATA,
    Column("sha256", String, primary_key=True),
    Column("requested_at", String, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("why", String, nullable=False, default=""),
    Column("state", String, _one_of("state", "requested", "done"), nullable=False),  # requested: training may still hold what came of it
    Column("done_at", String, nullable=False, default=""),
    Column("detail", JSON, nullable=False),
)

# -- telling others -------------------------------------------------------------------------------------------------------
WEBHOOKS = Table(
    "webhooks",
    METADATA,
    Column("id", String, primary_key=True),
    Column("owner_id", String, ForeignKey("users.id"), nullable=False, index=True),
    Column("url", String, nullable=False),
    Column("secret", String, nullable=False),  # sealed with the service's own secret
    Column("created_at", String, nullable=False),
    Column("disabled_at", String, nullable=False, default=""),
)
DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("webhook_id", String, ForeignKey("webhooks.id"), nullable=False, index=True),
    Column("event", String, nullable=False),
    Column("body", JSON, nullable=False),
    Column("state", String, _one_of("state", "waiting", "sent", "failed"), nullable=False, index=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", String, nullable=False),
    Column("last_error", String, nullable=False, default=""),
)
AUDIT = Table(
    "audit",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),  # 1, 2, 3 ... without a gap
    Column("at", String, nullable=False),
    Column("who", String, nullable=False),  # user:<id>, key:<id>, system:<part>
    Column("action", String, nullable=False),
    Column("object", String, nullable=False, index=True),
    Column("detail", JSON, nullable=False),
    Column("previous", String, nullable=False),
    Column("hash", String, nullable=False),
    UniqueConstraint("hash"),
)
