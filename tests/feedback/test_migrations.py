"""A database of the first service is carried over without loss, on SQLite and PostgreSQL; what is newer than this Vigil is refused."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback import audit
from feedback.cases import Cases
from feedback.database import MIGRATIONS, Database
from feedback.handover import waiting
from feedback.tables import CASES, DETECTIONS, MEDIA, METADATA, OUTBOX, REVIEWS, USERS
from tests.feedback.databases import KINDS, database_url, drop_postgres
from tests.feedback.world import write_settings
from tests.size import drill
from workspace.errors import WorkspaceError
from workspace.profiles import project_root

MOMENT = "2026-11-0{}T10:00:00.000+00:00"
Rows = dict[str, list[dict[str, Any]]]


def earlier_rows(cases: list[tuple[str, str]], repeats: int, alone: int) -> Rows:
    """Rows of the first service: a case each with the label and reviewer given ("" is open), its detections, and detections without a case."""
    made: Rows = {"cases": [], "detections": [], "reviews": [], "outbox": []}

    def detection(sha256: str, case_id: str | None) -> None:
        number = len(made["detections"])
        answer = {"kind": "video", "verdict": "uncertain" if case_id else "real", "tracks": [{"track": 0, "p_fake": 0.5}]}
        about = {"id": f"d{number:031x}", "created_at": MOMENT.format(1 + number % 8), "sha256": sha256, "bytes": 7, "verdict": answer["verdict"]}
        made["detections"].append({**about, "p_fake": 0.5, "model_sha256": "a" * 64, "answer": answer, "case_id": case_id})

    for number, (label, reviewer) in enumerate(cases):
        case_id, sha256 = f"c{number:031x}", f"{number:064x}"
        about = {"number": number + 1, "id": case_id, "created_at": MOMENT.format(1), "sha256": sha256, "bytes": 7, "kind": "video", "p_fake": 0.5}
        made["cases"].append({**about, "state": "reviewed" if label else "open", "model_sha256": "a" * 64})
        for _ in range(1 + repeats):
            detection(sha256, case_id)
        if label:
            made["reviews"].append({"case_id": case_id, "created_at": MOMENT.format(9), "label": label, "reviewer": reviewer, "note": "n é", "identity": "p7"})
        if label in ("real", "fake"):
            state = ("waiting", "exported", "ingested")[number % 3]
            moments = {"exported_at": MOMENT.format(9) if state != "waiting" else "", "ingested_at": MOMENT.format(9) if state == "ingested" else ""}
            made["outbox"].append({"case_id": case_id, "state": state, "batch": "" if state == "waiting" else "feedback-1", **moments})
    for number in range(alone):
        detection(f"{1000 + number:064x}", None)
    return made


def make_first(url: str, rows: Rows, noted: bool) -> None:
    """A database of the first service with rows; `noted`: with Alembic's table, which the first service's own had not."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        found = sa.MetaData()
        found.reflect(connection)
        for table in ("cases", "detections", "reviews", "outbox"):
            for row in rows[table]:
                connection.execute(found.tables[table].insert().values(**row))
        if not noted:
            connection.execute(sa.text("DROP TABLE alembic_version"))
    engine.dispose()


def open_carried(kind: str, root: Path, rows: Rows, noted: bool = False) -> tuple[Database, str]:
    url = database_url(kind)
    vigil_settings = write_settings(root, url)
    make_first(url.replace("postgresql://", "postgresql+psycopg://") or f"sqlite:///{root / 'feedback.db'}", rows, noted)
    return Database(root, vigil_settings), url


@pytest.mark.parametrize("kind", KINDS)
@given(
    st.lists(st.tuples(st.sampled_from(["", "real", "fake", "unsure"]), st.sampled_from(["ann", "Böb", "x' OR 1=1 --", " "])), max_size=6),
    st.integers(0, 2),
    st.integers(0, 3),
    st.booleans(),
)
@settings(max_examples=drill(5, 12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_of_the_first_service_is_carried_over(
    tmp_path_factory: pytest.TempPathFactory, kind: str, cases: list[tuple[str, str]], repeats: int, alone: int, noted: bool
) -> None:
    root, rows = tmp_path_factory.mktemp("carried"), earlier_rows(cases, repeats, alone)
    database, url = open_carried(kind, root, rows, noted)
    with database.read() as connection:
        tables = (USERS, MEDIA, DETECTIONS, CASES, REVIEWS, OUTBOX)
        found = {table.name: [dict(row) for row in connection.execute(table.select()).mappings()] for table in tables}
    users = {row["id"]: row for row in found["users"]}
    by_id = {row["id"]: row for row in found["detections"]}
    for row in rows["detections"]:
        new = by_id[row["id"]]
        assert {name: new[name] for name in row} == row and (new["state"], new["kind"]) == ("done", "video")
    assert len(by_id) == len(rows["detections"]) and len(found["cases"]) == len(rows["cases"])
    for row, new in zip(rows["cases"], sorted(found["cases"], key=lambda one: one["number"]), strict=True):
        assert {name: new[name] for name in ("id", "created_at", "sha256", "bytes", "kind", "p_fake", "model_sha256")} == {
            name: row[name] for name in ("id", "created_at", "sha256", "bytes", "kind", "p_fake", "model_sha256")
        }
        assert new["state"] == ("decided" if row["state"] == "reviewed" else "open")
    reviews = {row["case_id"]: row for row in found["reviews"]}
    for row in rows["reviews"]:
        new = reviews[row["case_id"]]
        assert {name: new[name] for name in ("created_at", "label", "note", "identity")} == {
            name: row[name] for name in ("created_at", "label", "note", "identity")
        }
        assert users[new["reviewer_id"]]["name"] == row["reviewer"] and users[new["reviewer_id"]]["disabled"]
    outbox = {row["case_id"]: row for row in found["outbox"]}
    assert len(outbox) == len(rows["outbox"]) and all({name: outbox[row["case_id"]][name] for name in row} == row for row in rows["outbox"])
    states = {row["sha256"]: row["state"] for row in found["media"]}
    assert states == {row["sha256"]: "kept" if row["case_id"] else "deleted" for row in rows["detections"]}
    assert all(user["disabled"] and user["password_hash"] == "" for user in users.values())
    database.close()
    if url:
        drop_postgres(url)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_carried_over_goes_on_working(kind: str, tmp_path: Path) -> None:
    rows = earlier_rows([("fake", "ann"), ("", ""), ("real", "ann"), ("fake", "bob")], 1, 1)
    database, _ = open_carried(kind, tmp_path, rows)
    url = database.url.replace("postgresql+psycopg", "postgresql") if kind == "postgresql" else ""
    vigil_settings = write_settings(tmp_path, url)
    cases = Cases(database, vigil_settings.feedback)
    assert cases.counts() == {"open": 1, "decided": 3, "quarantined": 0, "erased": 0, "to_be_handed_over": 2}
    assert waiting(tmp_path, vigil_settings) == 0, "one person answered each, and two are needed by now"
    assert waiting(tmp_path, write_settings(tmp_path, url, queue__reviewers_needed=1)) == 2
    found = cases.get("c" + "0" * 31)
    assert found is not None and found["reviews"][0]["reviewer"] == "ann" and found["label"] == "fake" and len(found["detections"]) == 2
    with database.write() as connection:  # numbers go on above those that were carried over
        new = cases.open_for(
            connection, {"id": "d", "sha256": "f" * 64, "bytes": 1, "owner_id": found["owner_id"], "source": "console"}, {"kind": "image"}, "audit"
        )
    assert cases.page(None, 4, 10)[0]["id"] == new and audit.verify(database).broken_at == 0
    database.close()


@pytest.mark.parametrize("kind", KINDS)
def test_migrations_make_exactly_the_tables_that_the_code_uses(kind: str, tmp_path: Path) -> None:
    database = Database(tmp_path, write_settings(tmp_path, database_url(kind)))
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": METADATA})
        different = [one for one in compare_metadata(context, METADATA) if not (one[0] == "remove_table" and one[1].name == "alembic_version")]
    assert different == []
    database.close()
    Database(tmp_path, write_settings(tmp_path, database.url.replace("+psycopg", "") if kind == "postgresql" else "")).close()  # again is harmless


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_database_is_refused_and_left_alone(kind: str, tmp_path: Path) -> None:
    vigil_settings = write_settings(tmp_path, database_url(kind))
    database = Database(tmp_path, vigil_settings)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(WorkspaceError, match="9999"):
        Database(tmp_path, vigil_settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_migration_that_fails_changes_nothing(kind: str, tmp_path: Path) -> None:
    rows = earlier_rows([("fake", "ann")], 0, 0)
    rows["outbox"][0]["state"] = "a state that nobody knows"
    with pytest.raises(WorkspaceError, match="Nothing was changed"):
        open_carried(kind, tmp_path, rows)
    from workspace.settings import load_settings

    url = load_settings(tmp_path / "params.yaml").feedback.database_url.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(url or f"sqlite:///{tmp_path / 'feedback.db'}")
    with engine.connect() as connection:
        assert set(sa.inspect(connection).get_table_names()) == {"cases", "detections", "reviews", "outbox"}
        assert connection.execute(sa.text("SELECT count(*) FROM detections")).scalar_one() == 1
    engine.dispose()


def make_second(url: str) -> None:
    """A database as the step before 0003 left it: cases without `said`, and with four reasons."""
    before = sa.MetaData(naming_convention=METADATA.naming_convention)
    for table in METADATA.sorted_tables:
        table.to_metadata(before)
    cases = before.tables["cases"]
    cases._columns.remove(cases.c.said)  # type: ignore[attr-defined]
    cases.constraints = {one for one in cases.constraints if str(one.name) not in ("reason", "ck_cases_reason")}
    cases.c.reason.constraints.clear()
    detections = before.tables["detections"]
    detections._columns.remove(detections.c.audited)  # type: ignore[attr-defined]
    cases.append_constraint(sa.CheckConstraint("reason IN ('uncertain', 'novel', 'disputed', 'audit')", name="reason"))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        before.create_all(connection)
        connection.execute(USERS.insert().values(id="u", created_at=MOMENT.format(1), name="u", email="u@x", user_name="u", password_hash="", role="viewer"))
        connection.execute(MEDIA.insert().values(sha256="b" * 64, bytes=7, created_at=MOMENT.format(1)))
        same = {"created_at": MOMENT.format(2), "sha256": "b" * 64, "bytes": 7, "owner_id": "u", "source": "console"}
        values = {"number": 9, "id": "c", **same, "kind": "image", "reason": "novel", "state": "decided", "label": "fake", "model_sha256": "a" * 64}
        values |= {"identity": "p", "decided_at": MOMENT.format(3), "gold": "", "why": "", "uncertainty": 0.5, "embedding": sa.null()}
        connection.execute(cases.insert().values(values))
        connection.execute(detections.insert().values(number=4, id="d", **same, state="done", case_id="c", answer={"kind": "image"}))
        drawn = {"number": 8, "id": "a", "sha256": "a" * 64, "reason": "audit"}
        connection.execute(MEDIA.insert().values(sha256="a" * 64, bytes=7, created_at=MOMENT.format(1)))
        connection.execute(cases.insert().values({**values, **drawn}))
        of_draw = {**same, "number": 5, "id": "drawn", "sha256": "a" * 64, "case_id": "a"}
        connection.execute(detections.insert().values(**of_draw, state="done", answer={"kind": "image"}))
        connection.execute(REVIEWS.insert().values(id="r", case_id="c", reviewer_id="u", created_at=MOMENT.format(3), label="fake"))
        connection.execute(OUTBOX.insert().values(case_id="c", created_at=MOMENT.format(3), state="waiting"))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.stamp(config, "0002")
        with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
            connection.execute(cases.insert().values({**values, "number": 10, "id": "e", "sha256": "e" * 64, "reason": "conflict"}))
    engine.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_cases_from_before_media_without_a_label_stay_as_they_are(kind: str, tmp_path: Path) -> None:
    url = database_url(kind)
    make_second((url.replace("postgresql://", "postgresql+psycopg://") if url else "") or f"sqlite:///{tmp_path / 'feedback.db'}")
    database = Database(tmp_path, write_settings(tmp_path, url))
    cases = Cases(database, write_settings(tmp_path, url).feedback)
    found = cases.get("c")
    assert found is not None and (found["number"], found["label"], found["said"], found["detections"], found["handover"]) == (9, "fake", [], ["d"], "waiting")
    assert [review["label"] for review in found["reviews"]] == ["fake"]
    with database.read() as connection:
        audited = dict(connection.execute(sa.select(DETECTIONS.c.id, DETECTIONS.c.audited)).all())
    assert audited == {"d": False, "drawn": True}, "accuracy was estimated without what people had looked at"
    with database.write() as connection:
        about = {"id": "n", "sha256": "f" * 64, "bytes": 1, "owner_id": "u", "source": "console"}
        new = cases.open_for(connection, about, {"kind": "image"}, "conflict", ["real here", "fake there"])
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    assert cases.get(new)["said"] == ["real here", "fake there"]  # type: ignore[index]
    database.close()
    if url:
        drop_postgres(url)


def test_a_checkout_whose_path_has_a_percent_sign_opens_its_database(tmp_path: Path) -> None:
    """Alembic reads its settings as an ini file, where a % begins a name: every command that needs the database ended as a mistake in Vigil."""
    (tmp_path / "100%").symlink_to(project_root())
    write_settings(tmp_path)
    code = "from pathlib import Path; import feedback.database as it; from workspace.settings import load_settings as read; print(it.MIGRATIONS); "
    code += "s = read(Path('params.yaml')); it.Database(Path.cwd(), s).close(); print(it.schema_behind(Path.cwd(), s))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "100%")}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == [str(tmp_path / "100%/feedback/migrations"), "None"]
