"""The audit trail: whatever single entry is changed, removed, put elsewhere or cut off, it shows; on SQLite and PostgreSQL."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from typer.testing import CliRunner

from feedback import audit
from feedback.access import Role
from feedback.accounts import Accounts
from feedback.belonging import NOTE
from feedback.database import Database
from feedback.secret import Secret
from feedback.tables import AUDIT
from tests.feedback.databases import KINDS, database_url, filled_url
from tests.feedback.world import write_settings
from vigil.main import app
from vigil.proving import noted_hash
from workspace.errors import WorkspaceError

ENTRIES = 7
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=6)  # PostgreSQL keeps no NUL
DETAIL = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False, width=32) | TEXT, max_size=3
)


class Undone(Exception):
    """Rolls a transaction back."""


@pytest.fixture(scope="module", params=KINDS)
def trail(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A trail of seven entries."""
    root = tmp_path_factory.mktemp("trail")
    database = Database(root, write_settings(root, filled_url(request.param)))
    for number in range(ENTRIES):
        with database.write() as connection:
            audit.append(
                connection, f"user:{number}", "case.label", f"case:{number % 3}", {"label": "fake", "p_fake": number / 7, "none": None, "é": [1, {"a": True}]}
            )
    yield database
    database.close()


class _Held:
    """The trail as one open transaction sees it, for `verify`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def read(self) -> Any:
        from contextlib import nullcontext

        return nullcontext(self.connection)


def after(trail: Database, change: Any, expect: str = "") -> audit.Verified:
    """What `verify` says of the trail with a change, which is then undone."""
    found: list[audit.Verified] = []
    try:
        with trail.write() as connection:
            change(connection)
            found.append(audit.verify(_Held(connection), expect))  # type: ignore[arg-type]
            raise Undone
    except Undone:
        return found[0]


def rows(trail: Database) -> list[dict[str, Any]]:
    with trail.read() as connection:
        return [dict(row) for row in connection.execute(AUDIT.select().order_by(AUDIT.c.number)).mappings()]


def test_an_untouched_trail_is_whole_and_says_its_last_hash(trail: Database) -> None:
    kept = rows(trail)
    assert audit.verify(trail) == audit.Verified(ENTRIES, kept[-1]["hash"])
    for row in kept:
        assert audit.verify(trail, row["hash"]).broken_at == 0, "every hash noted earlier is still in it"
    assert audit.verify(trail, audit.FIRST).broken_at == 0


CHANGES = {
    "at": TEXT, "who": TEXT, "action": TEXT, "object": TEXT, "detail": DETAIL,
    "previous": st.text("0123456789abcdef", min_size=64, max_size=64), "hash": st.text("0123456789abcdef", min_size=64, max_size=64),
}  # fmt: skip


@given(st.integers(1, ENTRIES), st.sampled_from(sorted(CHANGES)), st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_field_of_any_entry_shows(trail: Database, number: int, name: str, data: st.DataObject) -> None:
    value = data.draw(CHANGES[name].filter(lambda one: one != rows(trail)[number - 1][name]))
    found = after(trail, lambda connection: connection.execute(AUDIT.update().where(AUDIT.c.number == number).values({name: value})))
    assert found.broken_at in (number, number + 1) and found.why


def test_an_entry_that_cannot_be_read_any_more_is_named(trail: Database) -> None:
    """It was told as a mistake in Vigil, or as a database that is busy, and no entry was named."""
    if not trail.is_sqlite:
        pytest.skip("PostgreSQL keeps nothing in a column that it cannot read")
    for change in ("detail = '{'", f"detail = '{'[' * 100_000}'", "at = x'ff'", "who = CAST(x'ff' AS TEXT)"):
        for number in (1, ENTRIES):
            found = after(trail, lambda connection, one=f"UPDATE audit SET {change} WHERE number = {number}": connection.execute(text(one)))
            assert (found.broken_at, found.entries) == (number, number - 1) and "cannot be read" in found.why


@given(st.integers(1, ENTRIES - 1))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_missing_entry_shows(trail: Database, number: int) -> None:
    found = after(trail, lambda connection: connection.execute(AUDIT.delete().where(AUDIT.c.number == number)))
    assert found.broken_at == number and "missing" in found.why


@given(st.integers(0, ENTRIES - 1))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_end_that_was_cut_off_shows_against_a_hash_noted_earlier(trail: Database, kept: int) -> None:
    last = rows(trail)[-1]["hash"]

    def cut(connection: Connection) -> None:
        connection.execute(AUDIT.delete().where(AUDIT.c.number > kept))

    assert after(trail, cut).broken_at == 0, "the chain alone cannot know what came after it"
    assert after(trail, cut, last).broken_at == kept + 1 and "cut off" in after(trail, cut, last).why


@given(st.lists(st.integers(1, ENTRIES), min_size=2, max_size=2, unique=True))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries_that_changed_places_show(trail: Database, two: list[int]) -> None:
    first, second = two

    def swap(connection: Connection) -> None:
        for number, to in ((first, -1), (second, first), (-1, second)):
            connection.execute(AUDIT.update().where(AUDIT.c.number == number).values(number=to))

    assert after(trail, swap).broken_at == min(two)


def test_an_entry_put_in_between_shows(trail: Database) -> None:
    def forge(connection: Connection) -> None:
        last = rows(trail)[-1]
        connection.execute(AUDIT.insert().values(**{**last, "number": ENTRIES + 1, "who": "user:forger", "hash": "f" * 64, "previous": last["hash"]}))

    assert after(trail, forge).broken_at == ENTRIES + 1


def test_a_number_below_the_first_shows(trail: Database) -> None:
    def forge(connection: Connection) -> None:
        connection.execute(AUDIT.insert().values(**{**rows(trail)[0], "number": 0, "hash": "f" * 64}))

    assert after(trail, forge).broken_at == 1


def test_an_entry_of_what_did_not_happen_does_not_stay(trail: Database) -> None:
    before = audit.verify(trail)
    with pytest.raises(Undone):
        with trail.write() as connection:
            audit.append(connection, "user:1", "case.label", "case:1")
            raise Undone
    assert audit.verify(trail) == before


def test_pages_go_from_the_newest_to_the_oldest(trail: Database) -> None:
    with trail.read() as connection:
        first = audit.entries(connection, limit=3)
        rest = audit.entries(connection, before=first[-1]["number"], limit=100)
        assert [row["number"] for row in [*first, *rest]] == list(range(ENTRIES, 0, -1))
        assert {row["object"] for row in audit.entries(connection, "case:1")} == {"case:1"}


@pytest.mark.parametrize("word", ["", " ", "zz", "86caeeef", "f" * 63, "f" * 65, "g" * 64])
def test_what_is_no_hash_is_a_mistake_of_the_command_and_not_of_the_trail(word: str) -> None:
    """A slip of copying was an alarm, and an empty variable a check that nobody made."""
    done = CliRunner().invoke(app, ["audit", "verify", "--expect", word])
    assert done.exit_code == 2 and "64 hexadecimal digits" in re.sub(r"[\s│]+", " ", done.output)


def test_a_hash_is_the_same_in_capitals_and_with_blanks_around_it() -> None:
    assert noted_hash(f" {'AB' * 32}\n") == "ab" * 32


@pytest.mark.parametrize("kind", KINDS)
def test_where_there_is_no_trail_none_is_called_whole_and_no_database_is_made(kind: str, tmp_path: Path) -> None:
    """In a clone, under a wrong -w, and where the database was deleted, a nightly check stayed green, and an empty feedback.db lay there after it."""
    write_settings(tmp_path, url := database_url(kind))
    words = ["audit", "verify", "-w", str(tmp_path)]
    for _ in range(2):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 1 and isinstance(done.exception, WorkspaceError) and "There is no audit trail here" in str(done.exception)
        assert str(tmp_path / "feedback.db") in str(done.exception) or kind == "postgresql"
    assert not (tmp_path / "feedback.db").exists() and not (tmp_path / NOTE).exists()
    if kind == "sqlite":
        (tmp_path / "feedback.db").touch()
        assert "no tables" in str(CliRunner().invoke(app, words).exception) and (tmp_path / "feedback.db").stat().st_size == 0
    database = Database(tmp_path, settings_there := write_settings(tmp_path, url))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "no entry yet" in done.output and "whole" not in done.output
    Accounts(database, Secret(b"s" * 32), settings_there.feedback).create("Ann", "ann@example.org", "ann", "correct horse battery", Role.admin, "")
    assert "whole: 1 entries" in CliRunner().invoke(app, words).output
    with database.write() as connection:
        connection.execute(AUDIT.delete())
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "BROKEN at entry 1: entry 1 is missing" in done.output
    database.close()


@pytest.mark.parametrize("kind", KINDS)
def test_many_writers_at_once_leave_no_gap(kind: str, tmp_path: Path) -> None:
    database = Database(tmp_path, write_settings(tmp_path, filled_url(kind)))

    def write(number: int) -> None:
        for turn in range(10):
            with database.write() as connection:
                audit.append(connection, f"user:{number}", "case.label", f"case:{turn}", {"turn": turn})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert audit.verify(database).entries == 60 and audit.verify(database).broken_at == 0
    database.close()
