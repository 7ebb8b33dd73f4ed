"""The ground: one writer at a time in both databases, addresses, and the secret that keys are derived from."""

import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import threading
import time
import uuid
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from feedback.belonging import NOTE
from feedback.database import URL_VARIABLE, Database, database_url, exists, file_of, new_id, now, schema_behind
from feedback.forgetting import erasures_waiting
from feedback.keep import MediaStore
from feedback.postgresql import SERVE_LOCK, WRITE_LOCK
from feedback.secret import FILE, VARIABLE, Secret, load_secret
from feedback.tables import AUDIT, MEDIA
from tests.feedback import databases
from tests.feedback.databases import KINDS
from tests.feedback.world import open_to_others, write_settings
from vigil.mending import examine_and_fix
from workspace.errors import DatabaseDamaged, DatabaseSilent, WorkspaceError
from workspace.files import read_json, write_json
from workspace.settings import load_settings


def _add_if_few(root: str, most: int, start: Any) -> None:
    """Read, then write what follows from it: right only where nobody writes in between."""
    database = Database(Path(root), load_settings(Path(root) / "params.yaml"))
    start.wait()
    for _ in range(most):
        with database.write() as connection:
            if connection.execute(select(func.count()).select_from(MEDIA)).scalar_one() < most:
                connection.execute(MEDIA.insert().values(sha256=new_id(), bytes=1, created_at=now()))
    database.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_transaction_read_is_still_so_when_it_writes(kind: str, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, databases.database_url(kind))
    database = Database(tmp_path, settings)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3, timeout=60)
    processes = [context.Process(target=_add_if_few, args=(str(tmp_path), 20, start), daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(MEDIA)).scalar_one() == 20
    assert [process.exitcode for process in processes] == [0, 0, 0]
    database.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_raises_leaves_nothing(kind: str, tmp_path: Path) -> None:
    database = Database(tmp_path, write_settings(tmp_path, databases.database_url(kind)))
    with pytest.raises(ZeroDivisionError):
        with database.write() as connection:
            connection.execute(MEDIA.insert().values(sha256="a" * 64, bytes=1, created_at=now()))
            _ = 1 / 0
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(MEDIA)).scalar_one() == 0
    database.close()


def test_many_threads_open_a_new_database_at_once(tmp_path: Path) -> None:
    settings, problems = write_settings(tmp_path), []

    def look() -> None:
        try:
            database = Database(tmp_path, settings)
            with database.read() as connection:
                connection.execute(select(MEDIA)).all()
            database.close()
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


def test_who_reads_the_embedded_database_waits_for_no_connection_of_others(tmp_path: Path) -> None:
    # On 11 cores or more 15 threads that waited for the write lock held all connections, and the loop that answers /healthz waited for one, too.
    database = Database(tmp_path, write_settings(tmp_path))
    with ExitStack() as others:
        for _ in range(40):
            others.enter_context(database.read())
    database.close()


def test_addresses_come_from_the_environment_then_the_settings_then_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write_settings(tmp_path)
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    assert database_url(tmp_path, plain) == f"sqlite:///{tmp_path / 'feedback.db'}" and not exists(tmp_path, plain)
    named = write_settings(tmp_path, "postgresql://vigil:word@db/name")
    assert database_url(tmp_path, named) == "postgresql+psycopg://vigil:word@db/name" and exists(tmp_path, named)
    for other in ("postgresql://other@db/name", "postgres://other@db/name"):
        monkeypatch.setenv(URL_VARIABLE, other)
        assert database_url(tmp_path, named) == "postgresql+psycopg://other@db/name"
    for wrong in ("mysql://a@b/c", "nonsense", "postgresql://a@b:port/c"):
        monkeypatch.setenv(URL_VARIABLE, wrong)
        with pytest.raises(WorkspaceError):
            database_url(tmp_path, plain)


def test_a_relative_sqlite_address_is_of_the_workspace_wherever_the_caller_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a file of the folder that the caller stood in: from another one an empty database was made there, and the workspace's own called another's."""
    root, ids = tmp_path / "w", set()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        settings = write_settings(root, "sqlite:///other.db")
        database = Database(root, settings)
        with database.read() as connection:
            ids.add(connection.exec_driver_sql("SELECT id FROM workspace").scalar_one())
        database.close()
        assert file_of(root, settings) == root / "other.db" and list((tmp_path / name).iterdir()) == []
    assert len(ids) == 1 and (root / "other.db").is_file() and not (root / "feedback.db").exists()


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_an_sqlite_address_without_a_file_is_refused_by_name(tmp_path: Path, address: str) -> None:
    """It ended as a mistake in Vigil; and what is kept in memory alone is gone with the process."""
    with pytest.raises(WorkspaceError, match="names no file"):
        Database(tmp_path, write_settings(tmp_path, address))


def test_a_database_out_of_reach_is_named_without_its_password(tmp_path: Path) -> None:
    settings = write_settings(tmp_path, "postgresql://vigil:hunter2hunter2@127.0.0.1:1/none")
    with pytest.raises(WorkspaceError, match="Nothing was changed") as problem:
        Database(tmp_path, settings)
    assert "hunter2" not in str(problem.value) and "127.0.0.1:1" in str(problem.value)


def test_a_file_that_may_not_be_opened_is_not_asked_to_run(tmp_path: Path) -> None:
    (tmp_path / "feedback.db").mkdir()  # what SQLite may not open, as root too
    with pytest.raises(WorkspaceError, match="unable to open database file") as problem:
        Database(tmp_path, write_settings(tmp_path))
    assert "Nothing was changed" in problem.value.what and problem.value.next_step == "Check that this user may read and write that file and its folder."


def test_a_file_that_another_program_keeps_locked_is_not_asked_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person was sent to an address that nobody had named, for a file that is the workspace's own."""
    settings = write_settings(tmp_path)
    Database(tmp_path, settings).close()
    monkeypatch.setattr("feedback.database.BUSY_SECONDS", 0)
    with closing(sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(WorkspaceError, match="database is locked") as problem:
            Database(tmp_path, settings)
    assert "no other program keeps that file locked" in problem.value.next_step and URL_VARIABLE not in problem.value.next_step


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_postgresql_that_does_not_keep_every_letter_is_refused(encoding: str, tmp_path: Path) -> None:
    """The first was called a mistake in Vigil, the second failed when somebody wrote a name that it has no letters for."""
    settings = write_settings(tmp_path, databases.fresh_postgres(encoding=encoding))
    for ask in (Database, schema_behind):
        with pytest.raises(WorkspaceError, match=f"its encoding is {encoding}, ") as refused:
            ask(tmp_path, settings)
        assert "Nothing was changed" in refused.value.what and "createdb -E UTF8 -T template0" in refused.value.next_step


def test_what_is_written_to_a_postgresql_comes_back_whatever_the_environment_of_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database = Database(tmp_path, write_settings(tmp_path, databases.fresh_postgres()))
    with database.write() as connection:
        connection.execute(MEDIA.insert().values(sha256="a" * 64, bytes=1, created_at=now(), why="Юля €"))
        assert connection.execute(select(MEDIA.c.why)).scalar_one() == "Юля €"
    database.close()


def test_a_database_that_an_upgrade_cannot_look_at_is_named(tmp_path: Path) -> None:
    """`vigil upgrade` called it a mistake in Vigil."""
    with pytest.raises(WorkspaceError, match="Cannot use the database") as problem:
        schema_behind(tmp_path, write_settings(tmp_path, "postgresql://vigil:hunter2hunter2@127.0.0.1:1/none"))
    assert "hunter2" not in str(problem.value)
    (tmp_path / "feedback.db").write_bytes(b"no database" * 1000)
    for ask in (schema_behind, Database):  # "Check that it runs", said those of them who opened it
        with pytest.raises(DatabaseDamaged, match="file is not a database") as damage:
            ask(tmp_path, write_settings(tmp_path))
        assert "backup" in damage.value.next_step and "feedback.db" in damage.value.why


def _be_silent_in_every_way(database: Database) -> None:
    """What a PostgreSQL does to its clients: each was waited for longer than anybody waits or for ever, or was a traceback."""
    with database.engine.begin() as holder:
        holder.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
        with pytest.raises(DatabaseSilent), database.write():
            pass
    with database.engine.connect() as stopped:
        pid = stopped.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    os.kill(pid, signal.SIGSTOP)  # whose connection is the next one that is asked
    try:
        with database.engine.connect() as other:
            assert other.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != pid, "it was asked whether it lives, and given up"
    finally:
        os.kill(pid, signal.SIGCONT)
    for statement in ("SELECT pg_sleep(20)", "SET LOCAL idle_in_transaction_session_timeout = 1"):
        with pytest.raises(DatabaseSilent), database.write() as connection:
            connection.exec_driver_sql(statement)
            time.sleep(0.1)
            connection.execute(select(MEDIA)).all()
    with pytest.raises(DatabaseSilent), database.write() as connection:  # as after a failover
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        connection.execute(MEDIA.insert().values(sha256="a" * 64, bytes=1, created_at=now()))
    with database.write() as connection:
        assert connection.execute(select(MEDIA)).all() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_that_does_not_answer_is_called_so_whoever_asks(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver raised went through everything: a page that failed, a traceback on the command line."""
    url = databases.database_url(kind)
    monkeypatch.setattr("feedback.database.BUSY_SECONDS", 1 if url else 0)
    database = Database(tmp_path, write_settings(tmp_path, url))
    if url:
        _be_silent_in_every_way(database)
        databases.drop_postgres(url)
        with pytest.raises(DatabaseSilent), database.read() as connection:
            connection.execute(select(MEDIA)).all()
    else:
        holder = sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseSilent) as problem, database.write():
        pass
    assert str(problem.value).splitlines() == ["The database does not answer.", "  Why:  it is busy, or cannot be reached", "  Next: Try again in a moment."]
    database.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_without_one_of_its_tables_is_damaged_and_not_busy(kind: str, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, databases.database_url(kind))
    database = Database(tmp_path, settings)
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE audit")
    for ask in (database.read, database.write):
        with pytest.raises(DatabaseDamaged, match="audit") as problem, ask() as connection:
            connection.execute(select(AUDIT)).all()
        assert "backup" in problem.value.next_step and "Nothing was changed" in problem.value.what
    with pytest.raises(DatabaseDamaged, match="the table audit is gone"):
        schema_behind(tmp_path, settings)
    database.close()


def test_text_that_cannot_be_read_is_damage_and_not_a_busy_database(tmp_path: Path) -> None:
    database = Database(tmp_path, write_settings(tmp_path))
    with database.write() as connection:
        connection.execute(MEDIA.insert().values(sha256="a" * 64, bytes=1, created_at=now()))
        connection.exec_driver_sql("UPDATE media SET why = CAST(x'ff' AS TEXT)")
    with pytest.raises(DatabaseDamaged, match="decode"), database.read() as connection:
        connection.execute(select(MEDIA)).all()
    database.close()


def test_accounts_and_uploads_are_closed_to_others_on_the_machine(tmp_path: Path) -> None:
    settings = write_settings(tmp_path)
    database = Database(tmp_path, settings)
    assert [path.name for path in tmp_path.glob("feedback.db*") if path.stat().st_mode & 0o077] == []
    database.close()
    (tmp_path / "clip").write_bytes(b"x")
    store = MediaStore(tmp_path, settings)
    store.put(tmp_path / "clip", "a" * 64)
    assert store.make_derived("a" * 64).is_dir() and store.scratch().is_dir()
    assert open_to_others(tmp_path) == []


def test_what_earlier_services_left_open_is_closed_and_what_an_operator_chose_stays(tmp_path: Path) -> None:
    settings, elsewhere = write_settings(tmp_path), tmp_path / "disk"
    for folder in (elsewhere, *(tmp_path / ".vigil" / name for name in ("derived", "outbox", "uploads", "scores"))):
        folder.mkdir()
    (tmp_path / ".vigil" / "media").symlink_to(elsewhere)
    (tmp_path / ".vigil" / "uploads").chmod(0o750)
    (tmp_path / "clip").write_bytes(b"x")
    MediaStore(tmp_path, settings).put(tmp_path / "clip", "a" * 64)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (elsewhere, *(tmp_path / ".vigil").iterdir())}
    assert modes == {"disk": 0o755, "media": 0o755, "derived": 0o700, "outbox": 0o700, "uploads": 0o750, "scores": 0o755}


# -- whose it is -------------------------------------------------------------------------------------------------------------
def test_two_workspaces_of_one_database_never_do_each_others_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A staging copy with the production's environment finished its jobs, exported its cases and closed its erasures, without a word."""
    monkeypatch.setenv(URL_VARIABLE, databases.fresh_postgres())
    first, clone, copy = (tmp_path / name for name in ("first", "clone", "copy"))
    settings = write_settings(first)
    database = Database(first, settings)
    write_settings(clone)  # as after `git clone`: nothing of .vigil
    shutil.copytree(first, copy)
    for other in (clone, copy):
        for ask in (Database, erasures_waiting, schema_behind):
            with pytest.raises(WorkspaceError) as refused:
                ask(other, settings)
            assert f"belongs to {socket.gethostname()}:{first}; this is {socket.gethostname()}:{other}" in refused.value.why
            assert "--database-is-right" in refused.value.next_step
    with database.serving_alone("http://here:1"):
        for ask in (lambda: Database(first, settings).serving_alone("http://there:1").__enter__(), lambda: Database(copy, settings, take_over=True)):
            with pytest.raises(WorkspaceError, match=r"served already.*\n.*\(http://here:1\)"):
                ask()
    with database.serving_alone("http://here:2"), database.engine.begin() as connection:  # it was let go of, and a server that ends it ends nothing else
        connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = {SERVE_LOCK}")
    database.close()
    shutil.move(first, tmp_path / "moved")
    Database(tmp_path / "moved", settings).close()
    _, done = examine_and_fix(clone, settings, fix=False, push=False, database_is_right=True)
    assert len(done) == 1 and erasures_waiting(clone, settings) == 0
    with pytest.raises(WorkspaceError, match=f"belongs to .*:{clone}"):
        Database(tmp_path / "moved", settings)


def test_a_workspace_whose_database_is_not_named_finds_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable `vigil audit verify` made a feedback.db and called it whole, and a cycle trained on what was to be erased."""
    url = databases.fresh_postgres()
    settings = write_settings(tmp_path)
    monkeypatch.setenv(URL_VARIABLE, url)
    Database(tmp_path, settings).close()
    monkeypatch.delenv(URL_VARIABLE)
    for ask in (Database, erasures_waiting, exists, schema_behind):
        with pytest.raises(WorkspaceError, match=f"(?s)keep its feedback in feedback.db.*Set {URL_VARIABLE}"):
            ask(tmp_path, settings)
    assert not (tmp_path / "feedback.db").exists()
    monkeypatch.setenv(URL_VARIABLE, databases.fresh_postgres())
    with pytest.raises(WorkspaceError, match="not the database of this workspace") as refused:
        Database(tmp_path, settings)
    assert url.split("/")[3].split("?")[0] in refused.value.why
    monkeypatch.delenv(URL_VARIABLE)
    Database(tmp_path, settings, take_over=True).close()
    Database(tmp_path, settings).close()
    monkeypatch.setenv(URL_VARIABLE, url)
    with pytest.raises(WorkspaceError, match="belongs to"):
        Database(tmp_path, settings)


def test_a_restored_dump_and_the_database_that_it_was_made_of_are_never_both_the_workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both were accepted, whichever a timer or a unit named, each a half of the accounts and labels with a trail that was whole."""
    (tmp_path / "w").mkdir()
    root, first = tmp_path / "w", databases.fresh_postgres()
    settings = write_settings(root)
    monkeypatch.setenv(URL_VARIABLE, first)
    Database(root, settings).close()
    noted = (root / NOTE).read_bytes()
    copy = databases.fresh_postgres(first)
    monkeypatch.setenv(URL_VARIABLE, copy)
    for ask in (Database, schema_behind):
        with pytest.raises(WorkspaceError, match=r"(?s)is a copy of this workspace's database. Nothing was changed.*--database-is-right") as refused:
            ask(root, settings)
        assert first.split("/")[3].split("?")[0] in refused.value.why
    assert (root / NOTE).read_bytes() == noted
    _, done = examine_and_fix(root, settings, fix=False, push=False, database_is_right=True)
    assert len(done) == 1
    Database(root, settings).close()
    monkeypatch.setenv(URL_VARIABLE, first)
    with pytest.raises(WorkspaceError, match=r"(?s)is the database of another workspace.*this one has gone over to"):
        Database(root, settings)


def test_one_database_by_two_addresses_is_one_database_also_while_it_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").symlink_to(databases.postgres_server().get_uri().partition("host=")[2])
    (tmp_path / "w").mkdir()
    root, first = tmp_path / "w", databases.fresh_postgres()
    other = f"{first.partition('host=')[0]}host={tmp_path / 'elsewhere'}"
    settings = write_settings(root)
    monkeypatch.setenv(URL_VARIABLE, first)
    served = Database(root, settings)
    shutil.copytree(root, tmp_path / "copy")
    with served.serving_alone("http://here:1"):
        ids = set()
        for address in (other, first, other):
            monkeypatch.setenv(URL_VARIABLE, address)
            with pytest.raises(WorkspaceError, match="is the database of another workspace"):
                Database(tmp_path / "copy", settings)
            Database(root, settings).close()
            assert schema_behind(root, settings) is None
            ids.add(read_json(root / NOTE)["workspace"])
        assert len(ids) == 1
    served.close()


def test_a_note_of_an_older_vigil_learns_which_database_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, first := databases.fresh_postgres())
    settings = write_settings(tmp_path)
    Database(tmp_path, settings).close()
    note = read_json(tmp_path / NOTE)
    write_json(tmp_path / NOTE, {name: note[name] for name in ("workspace", "database")})
    Database(tmp_path, settings).close()
    assert read_json(tmp_path / NOTE) == note and note["server"]
    user = f"u{uuid.uuid4().hex}"  # who may not ask which server it is knows as much as before
    databases.postgres_server().psql(
        f"CREATE ROLE {user} LOGIN;\n\\connect {first.split('/')[3].split('?')[0]}\n"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC;"
    )
    monkeypatch.setenv(URL_VARIABLE, first.replace("postgres:@", f"{user}@"))
    Database(tmp_path, settings).close()
    assert read_json(tmp_path / NOTE)["server"] == note["server"] and user in read_json(tmp_path / NOTE)["database"]


# -- the secret ---------------------------------------------------------------------------------------------------------------
def test_a_local_service_makes_its_secret_once_and_only_its_user_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    first = load_secret(tmp_path)
    assert load_secret(tmp_path).key("report") == first.key("report") and (tmp_path / FILE).stat().st_mode & 0o077 == 0
    (tmp_path / FILE).write_text("short")
    with pytest.raises(WorkspaceError, match="holds no secret"):
        load_secret(tmp_path)


def test_a_service_that_others_reach_needs_a_secret_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(WorkspaceError, match="not started"):
        load_secret(tmp_path, local=False)
    monkeypatch.setenv(VARIABLE, "too short")
    with pytest.raises(WorkspaceError, match="too short"):
        load_secret(tmp_path, local=False)
    monkeypatch.setenv(VARIABLE, "x" * 32)
    assert load_secret(tmp_path, local=False).key("a") == load_secret(tmp_path / "elsewhere").key("a") and not (tmp_path / FILE).exists()


def test_one_purpose_tells_nothing_of_another_and_seals_open_only_with_their_secret() -> None:
    ours, others = Secret(b"a" * 32), Secret(b"b" * 32)
    assert len({ours.key("a"), ours.key("b"), others.key("a")}) == 3 and ours.digest("a", "x") != ours.digest("b", "x")
    sealed = ours.seal("webhook", "s3cret")
    assert "s3cret" not in sealed and ours.unseal("webhook", sealed) == "s3cret"
    for secret, purpose in ((others, "webhook"), (ours, "other")):
        with pytest.raises(WorkspaceError, match="cannot be opened"):
            secret.unseal(purpose, sealed)
