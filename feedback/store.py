"""`feedback.db`: what was detected, what nobody is sure of, what people said, and what still has to reach training.

SQLite in WAL mode with foreign keys. A review and its outbox row are one transaction, so a label can neither be lost
nor doubled on its way to `ingest` (feedback/handover.py). No file name of a client is kept; media of cases lie under
`.vigil/cases/<sha256>`, written and synced before the row that points to them.
"""

import shutil
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import CheckConstraint, Column, Connection, Engine, Float, ForeignKey, Integer, MetaData, String, Table, create_engine, event, select, update
from sqlalchemy.dialects.sqlite import JSON, insert
from sqlalchemy.exc import IntegrityError

from workspace.errors import WorkspaceError
from workspace.files import atomic_file, sync_folder

DATABASE = Path("feedback.db")
CASES = Path(".vigil/cases")
SCHEMA_VERSION = 1
BUSY_SECONDS = 30
Label = Literal["real", "fake", "unsure"]

METADATA = MetaData()
DETECTIONS = Table(
    "detections",
    METADATA,
    Column("id", String, primary_key=True),
    Column("created_at", String, nullable=False),
    Column("sha256", String, nullable=False, index=True),
    Column("bytes", Integer, nullable=False),
    Column("verdict", String, CheckConstraint("verdict IN ('real', 'fake', 'uncertain', 'none')"), nullable=False),
    Column("p_fake", Float),
    Column("model_sha256", String, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("case_id", String, ForeignKey("cases.id")),
)
CASES_TABLE = Table(
    "cases",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),  # order of arrival, for paging
    Column("id", String, nullable=False, unique=True),
    Column("created_at", String, nullable=False),
    Column("sha256", String, nullable=False, unique=True),  # one file is one question, however often it is sent
    Column("bytes", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("state", String, CheckConstraint("state IN ('open', 'reviewed')"), nullable=False, index=True),
    Column("p_fake", Float),
    Column("model_sha256", String, nullable=False),
    sqlite_autoincrement=True,
)
REVIEWS = Table(
    "reviews",
    METADATA,
    Column("case_id", String, ForeignKey("cases.id"), primary_key=True),
    Column("created_at", String, nullable=False),
    Column("label", String, CheckConstraint("label IN ('real', 'fake', 'unsure')"), nullable=False),
    Column("reviewer", String, nullable=False),
    Column("note", String, nullable=False),
    Column("identity", String, nullable=False),
)
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("case_id", String, ForeignKey("reviews.case_id"), primary_key=True),
    Column("state", String, CheckConstraint("state IN ('waiting', 'exported', 'ingested')"), nullable=False, index=True),
    Column("batch", String, nullable=False, default=""),
    Column("exported_at", String, nullable=False, default=""),
    Column("ingested_at", String, nullable=False, default=""),
)


class AlreadyReviewed(Exception):
    """A person has answered this case before; the first answer stays."""


class FeedbackStore:
    """The four tables of a workspace's `feedback.db`. Safe to use from several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        """Open (or create) the database of the workspace `root`. Raises WorkspaceError when a newer Vigil made it."""
        self.root = root
        self.engine = _open(root / DATABASE)

    def close(self) -> None:
        """Close every connection; the store cannot be used after it."""
        self.engine.dispose()

    def add_detection(self, answer: Mapping[str, Any], media: Path, sha256: str, size_bytes: int) -> dict[str, Any]:
        """Record a verdict; an uncertain one becomes a case, whose media are kept. Returns the answer with `id`, `created_at`, `case_id`.

        `media` is copied, never moved: the caller removes its own file. The same file again joins the case it already has.
        """
        uncertain = answer["verdict"] == "uncertain"
        if uncertain:
            self._keep_media(media, sha256)
        detection_id, now = uuid.uuid4().hex, _now()
        with self._write() as connection:
            case_id = _case_for(connection, answer, sha256, size_bytes, now) if uncertain else None
            whole = {"id": detection_id, "created_at": now, "case_id": case_id, **answer}
            connection.execute(
                DETECTIONS.insert().values(
                    id=detection_id,
                    created_at=now,
                    sha256=sha256,
                    bytes=size_bytes,
                    verdict=answer["verdict"],
                    p_fake=answer["p_fake"],
                    model_sha256=answer["model_sha256"],
                    answer=whole,
                    case_id=case_id,
                )
            )
        return whole

    def detection(self, detection_id: str) -> dict[str, Any] | None:
        """The answer that was given under this id, or None."""
        with self.engine.connect() as connection:
            found = connection.execute(select(DETECTIONS.c.answer).where(DETECTIONS.c.id == detection_id)).scalar_one_or_none()
        return dict(found) if found is not None else None

    def cases(self, state: str | None = None, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Cases in order of arrival, those numbered above `after`; `state` is open, reviewed or None for both."""
        query = _case_query().where(CASES_TABLE.c.number > after).order_by(CASES_TABLE.c.number).limit(limit)
        if state is not None:
            query = query.where(CASES_TABLE.c.state == state)
        with self.engine.connect() as connection:
            return [_case(dict(row._mapping)) for row in connection.execute(query)]

    def case(self, case_id: str) -> dict[str, Any] | None:
        """One case with its review and where its label is on the way to training, and its detections' ids; or None."""
        with self.engine.connect() as connection:
            row = connection.execute(_case_query().where(CASES_TABLE.c.id == case_id)).one_or_none()
            if row is None:
                return None
            ids = connection.execute(select(DETECTIONS.c.id).where(DETECTIONS.c.case_id == case_id).order_by(DETECTIONS.c.created_at)).scalars()
            return {**_case(dict(row._mapping)), "detections": list(ids)}

    def review(self, case_id: str, label: Label, reviewer: str, note: str = "", identity: str = "") -> dict[str, Any] | None:
        """Record what a person saw; `real` and `fake` go to the outbox in the same transaction. None for an unknown case.

        Raises AlreadyReviewed for a second answer, also when two arrive at the same moment.
        """
        try:
            with self._write() as connection:
                state = connection.execute(select(CASES_TABLE.c.state).where(CASES_TABLE.c.id == case_id)).scalar_one_or_none()
                if state is None:
                    return None
                connection.execute(REVIEWS.insert().values(case_id=case_id, created_at=_now(), label=label, reviewer=reviewer, note=note, identity=identity))
                connection.execute(update(CASES_TABLE).where(CASES_TABLE.c.id == case_id).values(state="reviewed"))
                if label != "unsure":
                    connection.execute(OUTBOX.insert().values(case_id=case_id, state="waiting"))
        except IntegrityError as problem:
            raise AlreadyReviewed(case_id) from problem
        return self.case(case_id)

    def not_ingested(self) -> list[dict[str, Any]]:
        """Outbox rows that training has not got yet, with media hash, kind, label and identity, in order of case id."""
        query = (
            select(OUTBOX.c.case_id, OUTBOX.c.state, OUTBOX.c.batch, CASES_TABLE.c.sha256, CASES_TABLE.c.kind, REVIEWS.c.label, REVIEWS.c.identity)
            .join(REVIEWS, REVIEWS.c.case_id == OUTBOX.c.case_id)
            .join(CASES_TABLE, CASES_TABLE.c.id == OUTBOX.c.case_id)
            .where(OUTBOX.c.state != "ingested")
            .order_by(OUTBOX.c.case_id)
        )
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def mark_exported(self, case_ids: Iterable[str], batch: str) -> int:
        """Note that these rows lie in the outbox folder `batch`. Rows that training has got stay as they are."""
        with self._write() as connection:
            wanted = OUTBOX.c.case_id.in_(list(case_ids)) & (OUTBOX.c.state != "ingested")
            return connection.execute(update(OUTBOX).where(wanted).values(state="exported", batch=batch, exported_at=_now())).rowcount

    def mark_ingested(self, case_ids: Iterable[str]) -> int:
        """Close these rows: training has them. Returns how many were open; again is harmless."""
        with self._write() as connection:
            wanted = OUTBOX.c.case_id.in_(list(case_ids)) & (OUTBOX.c.state != "ingested")
            return connection.execute(update(OUTBOX).where(wanted).values(state="ingested", ingested_at=_now())).rowcount

    def media_path(self, sha256: str) -> Path:
        """Where a case's media lie."""
        return self.root / CASES / sha256

    def _write(self) -> Any:
        # IMMEDIATE: the write lock is taken at BEGIN, so a transaction that reads first cannot lose it half-way.
        return self.engine.execution_options(vigil_begin="BEGIN IMMEDIATE").begin()

    def _keep_media(self, media: Path, sha256: str) -> None:
        kept = self.media_path(sha256)
        if kept.exists():
            return
        with atomic_file(kept, "wb") as handle, open(media, "rb") as upload:
            shutil.copyfileobj(upload, handle, 1 << 20)
        sync_folder(kept.parent)


def _case_for(connection: Connection, answer: Mapping[str, Any], sha256: str, size_bytes: int, now: str) -> str:
    fresh = insert(CASES_TABLE).values(
        id=uuid.uuid4().hex,
        created_at=now,
        sha256=sha256,
        bytes=size_bytes,
        kind=answer["kind"],
        state="open",
        p_fake=answer["p_fake"],
        model_sha256=answer["model_sha256"],
    )
    connection.execute(fresh.on_conflict_do_nothing(index_elements=["sha256"]))
    return str(connection.execute(select(CASES_TABLE.c.id).where(CASES_TABLE.c.sha256 == sha256)).scalar_one())


def _case_query() -> Any:
    review = [REVIEWS.c.label, REVIEWS.c.reviewer, REVIEWS.c.note, REVIEWS.c.identity, REVIEWS.c.created_at.label("reviewed_at")]
    joined = CASES_TABLE.outerjoin(REVIEWS, REVIEWS.c.case_id == CASES_TABLE.c.id).outerjoin(OUTBOX, OUTBOX.c.case_id == CASES_TABLE.c.id)
    return select(CASES_TABLE, *review, OUTBOX.c.state.label("handover"), OUTBOX.c.batch).select_from(joined)


def _case(row: Mapping[str, Any]) -> dict[str, Any]:
    case = {name: row[name] for name in ("number", "id", "created_at", "state", "kind", "sha256", "bytes", "p_fake", "model_sha256")}
    review = {name: row[name] for name in ("label", "reviewer", "note", "identity", "reviewed_at")} if row["label"] else None
    return {**case, "review": review, "handover": row["handover"] or "", "batch": row["batch"] or ""}


def _open(path: Path) -> Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours (below), not the driver's
        for pragma in ("foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_SECONDS * 1000}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("vigil_begin", "BEGIN"))

    with engine.execution_options(vigil_begin="BEGIN IMMEDIATE").begin() as connection:
        version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        if version > SCHEMA_VERSION:
            raise WorkspaceError(
                f"Cannot use {path}. Nothing was changed.",
                why=f"its schema has version {version}, this Vigil knows {SCHEMA_VERSION}",
                next_step="Use the newer Vigil that wrote it.",
            )
        METADATA.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
    return engine


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
