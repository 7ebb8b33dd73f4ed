"""Accounts: argon2, lock-out, sessions that end, keys that are revoked, and a last admin who stays."""

import io
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import event, update

from feedback import audit
from feedback.access import Actor, Role
from feedback.accounts import REMEMBERED_SECONDS, AccountRefused, Accounts
from feedback.database import Database, now
from feedback.gathering import _account
from feedback.same_secret import note_secret
from feedback.secret import FILE, VARIABLE, Secret, find_secret, load_secret
from feedback.tables import API_KEYS, AUDIT, SECRET, SESSIONS, USERS
from tests.feedback.conftest import PASSWORD as THEIRS
from tests.feedback.conftest import Make, ask, wait_for
from tests.feedback.databases import KINDS, filled_url
from tests.feedback.world import write_settings
from vigil import people, proving
from workspace.errors import SettingsError, WorkspaceError
from workspace.settings.values import LONGEST_DAYS

PASSWORD = "correct horse 9"


@pytest.fixture(params=KINDS)
def accounts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Accounts]:
    settings = write_settings(tmp_path, filled_url(request.param), login_attempts=3)
    database = Database(tmp_path, settings)
    yield Accounts(database, Secret(b"s" * 32), settings.feedback)
    assert audit.verify(database).broken_at == 0
    database.close()


@pytest.fixture
def strong(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """The same with hashes as people's are: they take so long that what happens at one moment does."""
    monkeypatch.setattr("feedback.accounts.PasswordHasher", PasswordHasher)
    return Accounts(accounts.database, accounts.secret, accounts.settings)


def add(accounts: Accounts, user_name: str, role: Role = Role.viewer) -> str:
    return accounts.create(user_name.title(), f"{user_name}@example.org", user_name, PASSWORD, role, by="")


def test_passwords_are_argon2id_and_tokens_and_keys_are_never_stored(strong: Accounts) -> None:
    accounts, user_id = strong, add(strong, "ann")
    session, (_, key) = accounts.log_in("ann", PASSWORD), accounts.create_key(user_id, "ci", "user:x")
    with accounts.database.read() as connection:
        stored = [str(tuple(row)) for table in (USERS, SESSIONS, API_KEYS, AUDIT) for row in connection.execute(table.select())]
        hashed = connection.execute(USERS.select()).one().password_hash
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert not any(secret in row for row in stored for secret in (PASSWORD, session.token, key))
    assert all("password_hash" not in row for row in accounts.users()) and all("key_hash" not in row for row in accounts.list_keys())


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", ("", " ", "x" * 101, "a\nb")),
        ("email", ("nobody", "a@b", "a b@example.org", "a\udcff@example.org", f"{'x' * 250}@example.org")),
        ("user_name", ("ab", "-ab", "a b", "a/b", "x" * 33, "né", "0123456789abcdef" * 2)),
        ("password", ("short", "x" * 513, "aaaaaaaaaaaa", "my ann is here 9")),
    ],
)
def test_what_cannot_be_an_account_is_refused_and_names_the_field(accounts: Accounts, field: str, values: tuple[str, ...]) -> None:
    for value in values:
        whole = {"name": "Ann", "email": "ann@example.org", "user_name": "ann", "password": PASSWORD, field: value}
        with pytest.raises(AccountRefused) as problem:
            accounts.create(whole["name"], whole["email"], whole["user_name"], whole["password"], Role.viewer, by="")
        assert problem.value.field == field
    assert accounts.users() == []


def test_a_name_or_address_is_taken_once_whatever_its_letters(strong: Accounts) -> None:
    accounts = strong
    add(accounts, "ann")
    for user_name, email, field in (("ANN", "x@example.org", "user_name"), ("other", "Ann@Example.ORG", "email")):
        with pytest.raises(AccountRefused) as problem:
            accounts.create("X", email, user_name, PASSWORD, Role.viewer, by="")
        assert problem.value.field == field
    results: list[str] = []

    def sign_up() -> None:
        try:
            results.append(add(accounts, "bob"))
        except AccountRefused:
            results.append("")

    threads = [threading.Thread(target=sign_up) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(list(filter(None, results))) == 1 and len(accounts.users()) == 2


def test_an_unknown_name_a_wrong_password_and_a_locked_account_are_refused_in_the_same_words(accounts: Accounts) -> None:
    """A locked account was said to be locked, which told anybody after some wrong passwords whether there is one of that name or address."""
    add(accounts, "ann")
    assert accounts.log_in("ANN@example.org", PASSWORD).actor.name == "Ann"
    said = []
    for user_name, password in [*(("ann", "wrong password 1"), ("nobody", "wrong password 1")) * 4, ("ann", PASSWORD)]:
        with pytest.raises(AccountRefused) as problem:
            accounts.log_in(user_name, password)
        said.append(str(problem.value))
    assert len(set(said)) == 1 and "locked" in said[0]


def test_a_session_and_a_lock_last_as_long_as_the_settings_can_say(tmp_path: Path) -> None:
    """Hours that leave the calendar let nobody log in, and minutes that do never locked: counting the wrong passwords ended in an error each time."""
    for name in ("session_hours", "lock_minutes"):
        with pytest.raises(SettingsError, match=f"feedback.{name}: .*less than or equal to"):
            write_settings(tmp_path, **{name: 9_999_999_999})
    settings = write_settings(tmp_path, login_attempts=1, session_hours=LONGEST_DAYS * 24, lock_minutes=LONGEST_DAYS * 24 * 60)
    database = Database(tmp_path, settings)
    accounts = Accounts(database, Secret(b"s" * 32), settings.feedback)
    add(accounts, "ann")
    assert accounts.session(accounts.log_in("ann", PASSWORD).token)
    for password in ("wrong password 1", PASSWORD):
        with pytest.raises(AccountRefused):
            accounts.log_in("ann", password)
    database.close()


def test_wrong_passwords_lock_an_account_even_for_the_right_one_until_the_time_is_over(accounts: Accounts) -> None:
    user_id = add(accounts, "ann")
    for _ in range(3):
        with pytest.raises(AccountRefused, match="wrong"):
            accounts.log_in("ann", "wrong password 1")
    with pytest.raises(AccountRefused, match="locked"):
        accounts.log_in("ann", PASSWORD)
    with accounts.database.write() as connection:
        connection.execute(update(USERS).where(USERS.c.id == user_id).values(locked_until=now(-1)))
    assert not (accounts.user(user_id) or {})["locked_until"], "what is over is no lock any more"
    assert accounts.log_in("ann", PASSWORD).actor.user_id == user_id
    for _ in range(3):
        with pytest.raises(AccountRefused):
            accounts.log_in("ann", "wrong password 1")
    accounts.govern(user_id, "user:admin", unlock=True)
    assert accounts.log_in("ann", PASSWORD).actor.user_id == user_id
    with accounts.database.read() as connection:
        told = [row.action for row in connection.execute(AUDIT.select().order_by(AUDIT.c.number))]
    assert told.count("account.lock") == 2 and told.count("account.wrong_password") == 4


def test_a_right_password_in_between_starts_the_count_anew(accounts: Accounts) -> None:
    add(accounts, "ann")
    for _ in range(4):
        for _ in range(2):
            with pytest.raises(AccountRefused, match="wrong"):
                accounts.log_in("ann", "wrong password 1")
        accounts.log_in("ann", PASSWORD)


def test_guesses_at_the_same_moment_are_all_counted(strong: Accounts) -> None:
    accounts = strong
    add(accounts, "ann")

    def guess() -> None:
        with pytest.raises(AccountRefused):
            accounts.log_in("ann", "wrong password 1")

    threads = [threading.Thread(target=guess) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with pytest.raises(AccountRefused, match="locked"):
        accounts.log_in("ann", PASSWORD)


def test_sessions_end_by_logging_out_by_time_by_a_new_password_and_by_being_disabled(accounts: Accounts) -> None:
    user_id = add(accounts, "ann")
    for end in ("log out", "time", "password", "disable"):
        one, other = accounts.log_in("ann", PASSWORD), accounts.log_in("ann", PASSWORD)
        found = accounts.session(one.token)
        assert found is not None and found.actor.user_id == user_id and found.csrf == one.csrf != other.csrf
        if end == "log out":
            accounts.log_out(one.token)
            assert accounts.session(one.token) is None and accounts.session(other.token) is not None
            accounts.log_out(one.token)
            continue
        if end == "time":
            with accounts.database.write() as connection:
                connection.execute(update(SESSIONS).values(expires_at=now(-1)))
        elif end == "password":
            accounts.change_password(user_id, PASSWORD, "user:x")
        else:
            accounts.govern(user_id, "user:x", disabled=True)
        assert accounts.session(one.token) is None and accounts.session(other.token) is None
    with pytest.raises(AccountRefused, match="wrong"):
        accounts.log_in("ann", PASSWORD)
    assert accounts.session("nonsense") is None and accounts.session("") is None


@pytest.mark.parametrize("what", ["a new password", "disabled"])
def test_a_log_in_that_is_proven_while_the_account_changes_opens_nothing(accounts: Accounts, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Its session was written after those of the account had ended: whoever knew the old password stayed for hours, and could make a key."""
    add(accounts, "root", Role.admin)
    user_id, proves = add(accounts, "ann"), accounts._is

    def meanwhile(hashed: str, password: str) -> bool:
        right = proves(hashed, password)
        if what == "disabled":
            accounts.govern(user_id, "user:x", disabled=True)
        else:
            accounts.change_password(user_id, PASSWORD + " two", "user:x")
        return right

    monkeypatch.setattr(accounts, "_is", meanwhile)
    with pytest.raises(AccountRefused, match="wrong"):
        accounts.log_in("ann", PASSWORD)
    accounts.govern(user_id, "user:x", disabled=False)
    with accounts.database.read() as connection:
        assert not connection.execute(SESSIONS.select()).all()


def test_nobody_waits_to_write_while_a_new_password_is_hashed(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was hashed under the write lock: each log-in by the old password that was in work meanwhile followed right after it."""
    user_id, hashes = add(accounts, "ann"), accounts._hash

    def meanwhile(password: str, user_name: str) -> str:
        accounts.create_key(user_id, "made meanwhile", "user:x")
        return hashes(password, user_name)

    monkeypatch.setattr(accounts, "_hash", meanwhile)
    accounts.change_password(user_id, PASSWORD + " two", "user:x")
    assert len(accounts.list_keys(user_id)) == 1 and accounts.log_in("ann", PASSWORD + " two")


def test_who_changes_a_password_has_not_logged_in(make: Make) -> None:
    """The old password was proven by a log-in: the trail told of one, and where the new one was refused its session stayed, which nobody had."""
    app, known = make(login_attempts=3)
    (user_id, key), database = known["vera"], app.state.service.database

    def change(old: str, password: str) -> int:
        return ask(app, ("POST", f"/v1/users/{user_id}/password", {"json": {"old": old, "password": password}}), key=key)[0].status_code

    def left() -> tuple[list[str], int]:
        with database.read() as connection:
            told = connection.execute(AUDIT.select().where(AUDIT.c.object == f"user:{user_id}").order_by(AUDIT.c.number)).all()
            return [row.action for row in told][1:], len(connection.execute(SESSIONS.select()).all())

    assert change(THEIRS, "short") == 422 and left() == ([], 0)
    assert change(THEIRS, PASSWORD) == 204 and left() == (["account.password"], 0)
    assert [change("wrong password 1", PASSWORD) for _ in range(3)] == [422] * 3 and change(PASSWORD, PASSWORD) == 422
    assert left() == (["account.password", "account.wrong_password", "account.wrong_password", "account.lock"], 0)


def test_of_two_changes_at_once_the_later_must_prove_the_password_that_holds_then(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one was proven and the new one written in two transactions: who knew the old one took the account back from who had just changed it."""
    app, known = make()
    (user_id, key), accounts = known["vera"], app.state.service.accounts
    proves, left = accounts._is, [PASSWORD]

    def change(password: str) -> int:
        return ask(app, ("POST", f"/v1/users/{user_id}/password", {"json": {"old": THEIRS, "password": password}}), key=key)[0].status_code

    def meanwhile(hashed: str, password: str) -> bool:
        right = proves(hashed, password)
        if left:
            accounts.change_password(user_id, left.pop(), "user:x")
        return bool(right)

    monkeypatch.setattr(accounts, "_is", meanwhile)
    assert change(PASSWORD + " of a thief") == 422
    assert accounts.log_in("vera", PASSWORD)


def test_who_asks_for_one_account_or_key_does_not_read_them_all(make: Make) -> None:
    """One's own page, a change of a role, a key's end: each read every account or key that there is, and the trail's page the names of all."""
    app, known = make()
    service, (vera, _) = app.state.service, known["vera"]
    ada = Actor(known["ada"][0], Role.admin)
    key_id = service.create_key(ada, "soon gone")["id"]
    asked: list[str] = []
    event.listen(service.database.engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    requests = [("GET", "/v1/users/me", {}), ("PATCH", f"/v1/users/{vera}", {"json": {"role": "reviewer"}}), ("DELETE", f"/v1/keys/{key_id}", {})]
    requests += [("POST", f"/v1/users/{vera}/password", {"json": {"password": PASSWORD}}), ("GET", "/v1/keys", {})]
    assert [answer.status_code for answer in ask(app, *requests, key=known["ada"][1])] == [200, 200, 204, 204, 200]
    assert service.accounts.user("Vera@example.org")["id"] == service.accounts.user(vera)["id"] == service.accounts.user("vera")["id"] == vera
    whole = [one for one in asked if re.search(r"FROM (users|api_keys)\b", one) and " WHERE " not in one.replace("\n", " ")]
    assert len(asked) > 9 and not whole
    assert service.user_names(ada, {vera, "0" * 32}) == {vera: "vera"} and service.user_names(ada, set()) == {}


def brought(accounts: Accounts, number: int) -> None:
    """So many accounts of sources, as the service makes them for media that wait for a label."""
    with accounts.database.write() as connection:
        for one in range(number):
            _account(connection, f"source {one}")


def test_accounts_come_in_pages_and_those_of_sources_when_asked_for(make: Make) -> None:
    """All came at once, those of ten thousand sources among six people: the service answered nobody for a quarter of a minute."""
    app, known = make()
    ada = known["ada"][1]
    brought(app.state.service.accounts, 120)

    def pages(**query: Any) -> list[list[str]]:
        found: list[list[str]] = []
        before: str | None = ""
        while before is not None:
            body = ask(app, ("GET", "/v1/users", {"params": {**query, "before": before}}), key=ada)[0].json()
            found.append([one["user_name"] for one in body["users"]])
            before = body["next"]
        return found

    (people,) = pages()
    assert people == list(known)[::-1], "the newest first"
    assert pages(limit=4) == [people[:4], people[4:]] and pages(limit=6) == [people], "no page that is empty"
    first, second = pages(sources=True)
    assert len(first) == 100 and first[0].startswith("source:") and second[-6:] == people and len({*first, *second}) == 126
    assert pages(named="VERA@ex") == pages(named="er", limit=1) == [["vera"]] and pages(named="_") == [[]]
    assert len(pages(named="source 7", sources=True)[0]) == 11
    with app.state.service.database.write() as connection:
        connection.execute(update(USERS).where(USERS.c.name == "source source 7").values(disabled=False))
    assert pages()[0][0].startswith("source:"), "what somebody enabled is no longer out of sight"
    assert ask(app, ("GET", f"/v1/users?before={'0' * 32}", {}), key=ada)[0].json() == {"users": [], "next": None}
    refused = ({"before": "x"}, {"limit": 0}, {"limit": 501}, {"named": "x" * 101})
    assert [answer.status_code for answer in ask(app, *(("GET", "/v1/users", {"params": query}) for query in refused), key=ada)] == [422] * 4


def test_keys_come_in_pages(make: Make) -> None:
    """All came at once, ended ones too, and nothing limits how many an account has made: a viewer's three thousand held the service up at each look."""
    app, known = make()
    (vera, key), accounts = known["vera"], app.state.service.accounts
    made = []
    for number in range(104):
        made.append(accounts.create_key(vera, f"k{number}", "user:x")[0])
        if number < 9:
            accounts.revoke_key(made[-1], "user:x")
    first = ask(app, ("GET", "/v1/keys", {}), key=key)[0].json()
    second = ask(app, ("GET", "/v1/keys", {"params": {"user": vera, "before": first["next"]}}), key=known["ada"][1])[0].json()
    every = first["keys"] + second["keys"]
    assert len(first["keys"]) == 100 and second["next"] is None and {one["id"] for one in every} > set(made) and len(every) == 105
    assert [one["created_at"] for one in every] == sorted((one["created_at"] for one in every), reverse=True)
    assert [one["name"] for one in every if one["revoked_at"]] == [f"k{number}" for number in reversed(range(9))] and all(
        "key_hash" not in one for one in every
    )
    assert ask(app, ("GET", "/v1/keys", {"params": {"user": vera}}), key=known["rob"][1])[0].status_code in (403, 404)
    assert ask(app, ("GET", "/v1/keys", {"params": {"limit": 0}}), key=key)[0].status_code == 422


def test_an_account_has_only_so_many_keys_that_open_something(make: Make) -> None:
    """Nothing limited them: one account's script that made a key a run filled the table, and nobody was told."""
    app, known = make()
    (vera, key), accounts = known["vera"], app.state.service.accounts
    made = [accounts.create_key(vera, f"k{number}", "user:x")[0] for number in range(99)]
    refused, others = (ask(app, ("POST", "/v1/keys", {"json": {"name": "more"}}), key=whose)[0] for whose in (key, known["rob"][1]))
    assert refused.status_code == 422 and "at most 100 keys" in refused.json()["detail"] and others.status_code == 201
    accounts.revoke_key(made[0], "user:x")
    assert [ask(app, ("POST", "/v1/keys", {"json": {"name": "more"}}), key=key)[0].status_code for _ in range(2)] == [201, 422]


def test_of_accounts_of_one_moment_none_is_left_out_between_two_pages(accounts: Accounts) -> None:
    ids = [add(accounts, f"ann{number}") for number in range(5)]
    with accounts.database.write() as connection:
        connection.execute(update(USERS).values(created_at=now()))
    first = accounts.page("", 2)
    rest = accounts.page(first[-1]["id"], 5)
    assert len(rest) == 3 and {row["id"] for row in first + rest} == set(ids)


def test_a_changed_role_is_that_of_the_next_request(accounts: Accounts) -> None:
    add(accounts, "root", Role.admin)
    user_id = add(accounts, "ann")
    session, (_, key) = accounts.log_in("ann", PASSWORD), accounts.create_key(user_id, "ci", "user:x")
    assert accounts.by_key(key, 0.0) is not None
    accounts.govern(user_id, "user:x", role=Role.engineer)
    found, by_key = accounts.session(session.token), accounts.by_key(key, 0.0)
    assert found is not None and by_key is not None and found.actor.role is by_key.role is Role.engineer


def test_the_last_admin_stays_one(accounts: Accounts) -> None:
    first, second = add(accounts, "root", Role.admin), add(accounts, "boss", Role.admin)
    accounts.govern(first, "user:x", role=Role.viewer)
    for change in ({"role": Role.engineer}, {"disabled": True}):
        with pytest.raises(AccountRefused, match="last admin"):
            accounts.govern(second, "user:x", **change)  # type: ignore[arg-type]
    accounts.govern(second, "user:x", role=Role.admin)
    accounts.govern(first, "user:x", role=Role.admin)
    accounts.govern(second, "user:x", disabled=True)
    with pytest.raises(AccountRefused, match="no such account"):
        accounts.govern("nobody", "user:x", disabled=True)


def test_two_admins_who_disable_one_another_at_once_leave_one(accounts: Accounts) -> None:
    ids = [add(accounts, "root", Role.admin), add(accounts, "boss", Role.admin)]
    refused: list[str] = []

    def disable(user_id: str) -> None:
        try:
            accounts.govern(user_id, "user:x", disabled=True)
        except AccountRefused:
            refused.append(user_id)

    threads = [threading.Thread(target=disable, args=(user_id,)) for user_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(refused) == 1 and sum(not user["disabled"] for user in accounts.users()) == 1


def test_keys_work_until_they_are_revoked_or_their_account_is_disabled(accounts: Accounts) -> None:
    add(accounts, "root", Role.admin)
    user_id = add(accounts, "ann", Role.reviewer)
    key_id, key = accounts.create_key(user_id, "ci", "user:x")
    other_id, other = accounts.create_key(user_id, "laptop", "user:x")
    with accounts.database.write():  # who only reads does not wait for those who write: the use is noted afterwards
        actor = accounts.by_key(key, 0.0)
    assert actor is not None and (actor.user_id, actor.role, actor.source, actor.who) == (user_id, Role.reviewer, key_id, f"key:{key_id}")
    wait_for(lambda: [row["last_used_at"] != "" for row in accounts.list_keys(user_id)], [True, False].__eq__)
    for wrong in ("", "vigil_", key[:-1], key + "x", key.upper(), "x" * 5000):
        assert accounts.by_key(wrong, 0.0) is None
    assert accounts.revoke_key(key_id, "user:x") and not accounts.revoke_key(key_id, "user:x") and not accounts.revoke_key("nobody", "user:x")
    assert accounts.by_key(key, 0.0) is None and accounts.by_key(other, 0.0) is not None
    accounts.govern(user_id, "user:x", disabled=True)
    assert accounts.by_key(other, 0.0) is None and other_id


def test_a_key_revoked_by_another_process_ends_within_seconds_here(accounts: Accounts) -> None:
    user_id = add(accounts, "ann")
    key_id, key = accounts.create_key(user_id, "ci", "user:x")
    elsewhere = Accounts(accounts.database, accounts.secret, accounts.settings)
    assert accounts.by_key(key, 100.0) is not None
    elsewhere.revoke_key(key_id, "user:x")
    assert accounts.by_key(key, 100.0 + REMEMBERED_SECONDS) is None


def test_an_account_called_like_the_id_of_another_is_never_taken_for_it(make: Make) -> None:
    """A key and a password for that user name were made for the account of the id, which could be an admin's."""
    app, known = make()
    root, settings, admin = app.state.service.root, app.state.service.settings, known["ada"][0]
    body = {"name": "Ada", "email": "other@example.org", "user_name": admin.upper(), "password": PASSWORD}
    (refused,) = ask(app, ("POST", "/v1/sign-up", {"json": body}))
    assert (refused.status_code, refused.json()["field"]) == (422, "user_name")
    with app.state.service.database.write() as connection:  # an account that has such a name from before
        connection.execute(update(USERS).where(USERS.c.id == known["vera"][0]).values(user_name=admin))
    mine, own = ask(
        app, ("GET", "/v1/users/me", {}), ("POST", f"/v1/users/{admin}/password", {"json": {"password": PASSWORD, "old": "wrong"}}), key=known["ada"][1]
    )
    assert (mine.json()["id"], mine.json()["user_name"], own.status_code) == (admin, "ada", 422)
    with pytest.raises(WorkspaceError, match="e-mail"):
        people.add_key(root, settings, admin, "whose?")
    with pytest.raises(WorkspaceError, match="e-mail"):
        people.set_password(root, settings, admin, "another password 1")
    for word, user_id in (("vera@example.org", known["vera"][0]), (known["vera"][0], known["vera"][0]), ("ada", admin)):
        key = people.add_key(root, settings, word, "named")["key"]
        assert ask(app, ("GET", "/v1/users/me", {}), key=key)[0].json()["id"] == user_id


def test_an_account_that_is_not_there_is_not_found_whatever_is_asked_of_it(make: Make) -> None:
    app, known = make()
    nobody = f"/v1/users/{'0' * 32}"
    asked = [("PATCH", nobody, {"json": change}) for change in ({}, {"disabled": True}, {"role": "viewer"}, {"unlock": True})]
    answers = ask(app, *asked, ("POST", f"{nobody}/password", {"json": {"password": PASSWORD}}), key=known["ada"][1])
    assert [(answer.status_code, answer.json()["detail"]) for answer in answers] == [(404, "There is no such account.")] * 5


# -- the command line ---------------------------------------------------------------------------------------------------------
def test_the_first_admin_is_made_at_the_command_line_with_a_password_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = write_settings(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\nnot this line\n"))
    people.add_user(tmp_path, settings, "root", "", "root@example.org", "admin", people.ask_password())
    (row,) = people.user_rows(tmp_path, settings)
    assert (row["user_name"], row["role"], row["name"], row["state"]) == ("root", "admin", "root", "")
    for errors in ("strict", "surrogateescape"):  # as Python opens it in most places, and where it is told of no language
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{PASSWORD} é".encode("latin-1")), "utf-8", errors))
        with pytest.raises(WorkspaceError, match="no text in UTF-8"):
            people.ask_password()
    with pytest.raises(WorkspaceError, match="last admin"):
        people.govern_user(tmp_path, settings, "root", role="viewer")
    with pytest.raises(WorkspaceError, match="no account"):
        people.set_password(tmp_path, settings, "nobody", PASSWORD)
    with pytest.raises(WorkspaceError, match="10 to 512"):
        people.set_password(tmp_path, settings, "root", "short")
    made = people.add_key(tmp_path, settings, "root", "ci")
    (key,) = people.key_rows(tmp_path, settings)
    assert key["begins"] == made["key"][:12] and made["key"] not in str(key)
    people.revoke_key(tmp_path, settings, key["begins"])
    with pytest.raises(WorkspaceError, match="No key"):
        people.revoke_key(tmp_path, settings, made["id"])
    for _ in range(2):
        people.add_key(tmp_path, settings, "root", "leaked")
    with pytest.raises(WorkspaceError, match="2 keys that work are called 'leaked'"):
        people.revoke_key(tmp_path, settings, "leaked")
    people.revoke_key(tmp_path, settings, next(key["id"] for key in people.key_rows(tmp_path, settings) if not key["revoked"]))
    people.revoke_key(tmp_path, settings, "leaked")  # the one that is left
    assert all(key["revoked"] for key in people.key_rows(tmp_path, settings))
    found = proving.verify_trail(tmp_path, settings)
    assert found["whole"] and found["entries"] == 7 and found["last_hash"] in proving.render_trail(found)
    assert "BROKEN" in proving.render_trail(proving.verify_trail(tmp_path, settings, "f" * 64))


def test_a_listing_makes_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One was made beside a service that has its own from the environment, and `vigil verify-report` held its reports to that."""
    monkeypatch.delenv(VARIABLE, raising=False)
    settings = write_settings(tmp_path)
    people.add_user(tmp_path, settings, "root", "", "root@example.org", "admin", PASSWORD)
    people.set_password(tmp_path, settings, "root", f"{PASSWORD}!")
    assert people.user_rows(tmp_path, settings) and people.key_rows(tmp_path, settings) == []
    assert not (tmp_path / FILE).exists()
    people.add_key(tmp_path, settings, "root", "ci")
    assert (tmp_path / FILE).exists(), "the first key of a service of this machine alone"


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_made_with_the_secret_of_the_service_or_not_at_all(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed without the service's VIGIL_SECRET the command made a key that opened nothing, without a word."""
    settings = write_settings(tmp_path, filled_url(kind))
    people.add_user(tmp_path, settings, "root", "", "root@example.org", "admin", PASSWORD)
    monkeypatch.setenv(VARIABLE, "a" * 32)
    service = find_secret(tmp_path)
    assert service is not None
    database = Database(tmp_path, settings)
    assert note_secret(database, service) == note_secret(database, service) == "" and isinstance(service, Secret)
    key = people.add_key(tmp_path, settings, "root", "ci")["key"]
    assert Accounts(database, service, settings.feedback).by_key(key, time.monotonic()) is not None
    for given in ("", "b" * 32):
        monkeypatch.setenv(VARIABLE, given)
        with pytest.raises(WorkspaceError, match=f"No key was made(?s:.)*{VARIABLE}"):
            people.add_key(tmp_path, settings, "root", "other")
    assert not (tmp_path / FILE).exists() and len(people.key_rows(tmp_path, settings)) == 1
    other = find_secret(tmp_path)
    assert other is not None and "another" in note_secret(database, other) and note_secret(database, other) == "", "a change on purpose is noted at the start"
    people.add_key(tmp_path, settings, "root", "other")
    database.close()


@pytest.mark.parametrize("here", [True, False])
def test_a_database_of_before_has_keys_and_does_not_say_of_which_secret(here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is here is believed until the service starts; where nothing is, the service has its secret from elsewhere."""
    monkeypatch.delenv(VARIABLE, raising=False)
    settings = write_settings(tmp_path)
    people.add_user(tmp_path, settings, "root", "", "root@example.org", "admin", PASSWORD)
    people.add_key(tmp_path, settings, "root", "first")
    database = Database(tmp_path, settings)
    with database.write() as connection:
        connection.execute(SECRET.delete())
    if here:
        people.add_key(tmp_path, settings, "root", "second")
        with database.read() as connection:
            assert connection.execute(SECRET.select()).all() == []
        assert note_secret(database, load_secret(tmp_path)) == ""
    else:
        (tmp_path / FILE).unlink()
        with pytest.raises(WorkspaceError, match="No key was made"):
            people.add_key(tmp_path, settings, "root", "second")
        assert not (tmp_path / FILE).exists()
    database.close()
