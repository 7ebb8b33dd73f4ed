"""People, their sessions and API keys. Passwords are kept as argon2id, keys and session tokens as keyed hashes."""

import logging
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from feedback import audit
from feedback.access import Actor, Role
from feedback.database import ID, Database, new_id, now
from feedback.secret import Secret
from feedback.tables import API_KEYS, OF_SOURCE, SESSIONS, USERS
from workspace.errors import VigilError
from workspace.settings import FeedbackSettings

LOG = logging.getLogger("vigil.serve")
KEY_PREFIX = "vigil_"
MOST_KEYS = 100  # of one account that have not ended
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 512  # a longer one would only buy the sender our time
REMEMBERED_SECONDS = 5.0  # a revoked key or changed role works at most so long in another process
REMEMBERED = 4096
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_USER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{2,31}")
_ID = re.compile(ID)
_ACCOUNT = select(*(column for column in USERS.columns if column.name != "password_hash"))
_KEY = select(*(column for column in API_KEYS.columns if column.name != "key_hash"))


class AccountRefused(Exception):
    """A sign-up, log-in or change that was refused; the message is for the person. `field` names what to mend."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in: the token for the cookie (only ever known here), the token that forms must bring back, and who it is."""

    token: str
    csrf: str
    actor: Actor


class Accounts:
    """The people of one service. Safe to use from several threads. `secret`: None where no session and no key is made or known by its text."""

    def __init__(self, database: Database, secret: Secret | None, settings: FeedbackSettings) -> None:
        self.database, self.secret, self.settings = database, secret, settings
        self._hasher = PasswordHasher()  # argon2id, RFC 9106's low-memory choice
        self._nobody = self._hasher.hash(secrets.token_hex(16))  # an unknown name takes as long as a wrong password
        self._known: OrderedDict[str, tuple[float, Actor]] = OrderedDict()
        self._lock = threading.Lock()
        self._being_noted: set[str] = set()
        self._notes = ThreadPoolExecutor(1, thread_name_prefix="key-use")

    # -- accounts ---------------------------------------------------------------------------------------------------------
    def create(self, name: str, email: str, user_name: str, password: str, role: Role, by: str) -> str:
        """Make an account; returns its id. Raises AccountRefused naming the field to mend."""
        name, email, user_name = name.strip(), email.strip().lower(), user_name.strip().lower()
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise AccountRefused("A name has 1 to 100 printable characters.", "name")
        if len(email) > 254 or not email.isprintable() or not _EMAIL.fullmatch(email):
            raise AccountRefused("This is not an e-mail address.", "email")
        if not _USER_NAME.fullmatch(user_name):
            raise AccountRefused("A user name has 3 to 32 letters, digits, dots, dashes or underscores.", "user_name")
        if _ID.fullmatch(user_name):
            raise AccountRefused("This user name could be taken for the id of an account. Choose another one.", "user_name")
        hashed, user_id = self._hash(password, user_name), new_id()
        try:
            with self.database.write() as connection:
                row = {"id": user_id, "created_at": now(), "name": name, "email": email, "user_name": user_name, "password_hash": hashed, "role": role.name}
                connection.execute(USERS.insert().values(**row))
                audit.append(connection, by or f"user:{user_id}", "account.create", f"user:{user_id}", {"role": role.name})
        except IntegrityError:
            with self.database.read() as connection:
                taken = connection.execute(select(USERS.c.id).where(USERS.c.user_name == user_name)).one_or_none() is not None
            raise AccountRefused(*(("This user name is taken.", "user_name") if taken else ("This address has an account already.", "email"))) from None
        return user_id

    def log_in(self, user_name: str, password: str) -> Session:
        """A new session. Raises AccountRefused, in the same words for an unknown name, a wrong password and a locked account."""
        user_name = user_name.strip().lower()
        user, moment = self._proven((USERS.c.user_name == user_name) | (USERS.c.email == user_name), password), now()
        token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        with self.database.write() as connection:
            _write_as_proven(connection, user)
            connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at < moment))
            expires = now(self.settings.session_hours * 3600)
            row = {"token_hash": self._digest(token), "user_id": user["id"], "created_at": moment, "expires_at": expires, "csrf": csrf}
            connection.execute(SESSIONS.insert().values(**row))
            audit.append(connection, f"user:{user['id']}", "account.log_in", f"user:{user['id']}")
        return Session(token, csrf, Actor(user["id"], Role[user["role"]], user["name"]))

    def session(self, token: str) -> Session | None:
        """The session of a cookie, or None where it has ended or its account is disabled."""
        query = (
            select(SESSIONS.c.csrf, USERS.c.id, USERS.c.role, USERS.c.name)
            .join(USERS, USERS.c.id == SESSIONS.c.user_id)
            .where(SESSIONS.c.token_hash == self._digest(token), SESSIONS.c.expires_at > now(), USERS.c.disabled.is_(False))
        )
        with self.database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else Session(token, row["csrf"], Actor(row["id"], Role[row["role"]], row["name"]))

    def log_out(self, token: str) -> None:
        """End a session; an ended one is no error."""
        with self.database.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.token_hash == self._digest(token)))

    def change_password(self, user_id: str, password: str, by: str, old: str | None = None) -> None:
        """Set a password and end every session of the account. Where `old` is given, it is refused and counted as `log_in` does, but nobody has logged in."""
        if old is not None:
            user = self._proven(USERS.c.id == user_id, old)
        else:
            with self.database.read() as connection:
                user = connection.execute(select(USERS).where(USERS.c.id == user_id)).mappings().one()
        hashed = self._hash(password, user["user_name"])  # not under the write lock, for which all others would wait
        with self.database.write() as connection:
            if old is not None:
                _write_as_proven(connection, user, password_hash=hashed)
            else:
                connection.execute(update(USERS).where(USERS.c.id == user_id).values(password_hash=hashed, failed_logins=0, locked_until=""))
            connection.execute(delete(SESSIONS).where(SESSIONS.c.user_id == user_id))
            audit.append(connection, by, "account.password", f"user:{user_id}")

    def govern(self, user_id: str, by: str, role: Role | None = None, disabled: bool | None = None, unlock: bool = False) -> None:
        """Change role, disable or enable, unlock. The last admin who can log in stays one: raises AccountRefused."""
        changes: dict[str, Any] = {}
        if role is not None:
            changes["role"] = role.name
        if disabled is not None:
            changes["disabled"] = disabled
        if unlock:
            changes |= {"failed_logins": 0, "locked_until": ""}
        if not changes:
            return
        with self.database.write() as connection:
            admins = set(connection.execute(select(USERS.c.id).where(USERS.c.role == "admin", USERS.c.disabled.is_(False))).scalars())
            if admins == {user_id} and (disabled or (role is not None and role is not Role.admin)):
                raise AccountRefused("This is the last admin. Make another one first.", "role")
            if not connection.execute(update(USERS).where(USERS.c.id == user_id).values(**changes)).rowcount:
                raise AccountRefused("There is no such account.")
            if disabled:
                connection.execute(delete(SESSIONS).where(SESSIONS.c.user_id == user_id))
            audit.append(
                connection, by, "account.govern", f"user:{user_id}", {k: v for k, v in changes.items() if k in ("role", "disabled")} | {"unlock": unlock}
            )
        self._forget()

    def users(self) -> list[dict[str, Any]]:
        """Every account without its password hash, the oldest first; `locked_until` of a lock that stands, else ''."""
        return self._users(_ACCOUNT.order_by(USERS.c.created_at, USERS.c.id))

    def page(self, before: str, limit: int, named: str = "", sources: bool = False) -> list[dict[str, Any]]:
        """Accounts, the newest first, those made before the one of the id `before` ("": from the newest); as `users` gives them.

        `named`: a part of name, user name or e-mail, in whatever letters. Only with `sources` those too that own what a source brought.
        """
        query = _before(_ACCOUNT, USERS, before).limit(limit)
        if named:
            query = query.where(or_(*(column.icontains(named, autoescape=True) for column in (USERS.c.name, USERS.c.user_name, USERS.c.email))))
        return self._users(query if sources else query.where(~OF_SOURCE))

    def by_id(self, user_id: str) -> dict[str, Any] | None:
        """One account by its id alone, or None."""
        return next(iter(self._users(_ACCOUNT.where(USERS.c.id == user_id))), None)

    def user(self, name_or_id: str) -> dict[str, Any] | None:
        """One account by user name, e-mail or id, or None. Raises AccountRefused where that is the user name of one and the id of another."""
        wanted = name_or_id.strip().lower()
        meant = self._users(_ACCOUNT.where((USERS.c.user_name == wanted) | (USERS.c.email == wanted) | (USERS.c.id == wanted)))
        if len(meant) > 1:  # a user name of before such names were refused
            raise AccountRefused(f"{wanted} is the user name of one account and the id of another. Name the e-mail address of the one you mean.", "user_name")
        return next(iter(meant), None)

    def user_names(self, ids: Collection[str]) -> dict[str, str]:
        """The user names of these accounts, by their ids; without those that there are not."""
        with self.database.read() as connection:
            return dict(connection.execute(select(USERS.c.id, USERS.c.user_name).where(USERS.c.id.in_(ids))).tuples().all())

    # -- API keys -----------------------------------------------------------------------------------------------------------
    def create_key(self, user_id: str, name: str, by: str) -> tuple[str, str]:
        """A new key: its id, and its text, which is shown this once. Raises AccountRefused for a name that is none, and beyond MOST_KEYS of one account."""
        if not 1 <= len(name.strip()) <= 100 or not name.isprintable():
            raise AccountRefused("A key's name has 1 to 100 printable characters.", "name")
        key_id, text = new_id(), KEY_PREFIX + secrets.token_urlsafe(32)
        with self.database.write() as connection:
            valid = select(func.count()).select_from(API_KEYS).where(API_KEYS.c.user_id == user_id, API_KEYS.c.revoked_at == "")
            if connection.execute(valid).scalar_one() >= MOST_KEYS:
                raise AccountRefused(f"An account has at most {MOST_KEYS} keys that have not ended. End one that nobody uses any more.")
            row = {"id": key_id, "user_id": user_id, "name": name.strip(), "prefix": text[:12], "key_hash": self._digest(text), "created_at": now()}
            connection.execute(API_KEYS.insert().values(**row))
            audit.append(connection, by, "key.create", f"key:{key_id}", {"user": user_id})
        return key_id, text

    def list_keys(self, user_id: str | None = None) -> list[dict[str, Any]]:
        """Every key of one account or of all, without their hash, the oldest first."""
        query = _KEY.order_by(API_KEYS.c.created_at, API_KEYS.c.id)
        return self._keys(query if user_id is None else query.where(API_KEYS.c.user_id == user_id))

    def keys_page(self, user_id: str, before: str, limit: int) -> list[dict[str, Any]]:
        """Keys of one account, the newest first, those made before the one of the id `before` ("": from the newest); as `list_keys` gives them."""
        return self._keys(_before(_KEY.where(API_KEYS.c.user_id == user_id), API_KEYS, before).limit(limit))

    def owner(self, key_id: str) -> str | None:
        """Whose key it is, ended ones included, or None."""
        with self.database.read() as connection:
            return connection.execute(select(API_KEYS.c.user_id).where(API_KEYS.c.id == key_id)).scalar_one_or_none()

    def revoke_key(self, key_id: str, by: str) -> bool:
        """End a key. False where there is no such key, or it has ended before."""
        with self.database.write() as connection:
            ended = connection.execute(update(API_KEYS).where(API_KEYS.c.id == key_id, API_KEYS.c.revoked_at == "").values(revoked_at=now())).rowcount
            if ended:
                audit.append(connection, by, "key.revoke", f"key:{key_id}")
        self._forget()
        return bool(ended)

    def remembered(self, text: str, moment: float) -> Actor | None:
        """Whose key this was a moment ago, without asking the database; None where that is not known. `moment`: a monotonic clock's seconds."""
        if not text.startswith(KEY_PREFIX) or len(text) > 100:
            return None
        with self._lock:
            found = self._known.get(self._digest(text))
        return found[1] if found is not None and moment - found[0] < REMEMBERED_SECONDS else None

    def by_key(self, text: str, moment: float) -> Actor | None:
        """Whose key this is; None for an unknown, revoked or disabled one. `moment`: as above, for the short memory."""
        if not text.startswith(KEY_PREFIX) or len(text) > 100:
            return None
        digest = self._digest(text)
        query = (
            select(API_KEYS.c.id.label("key_id"), API_KEYS.c.last_used_at, USERS.c.id, USERS.c.role, USERS.c.name)
            .join(USERS, USERS.c.id == API_KEYS.c.user_id)
            .where(API_KEYS.c.key_hash == digest, API_KEYS.c.revoked_at == "", USERS.c.disabled.is_(False))
        )
        with self.database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            with self._lock:
                self._known.pop(digest, None)
            return None
        actor = Actor(row["id"], Role[row["role"]], row["name"], source=row["key_id"])
        if row["last_used_at"][:16] != now()[:16]:  # to the minute
            self._note_use(row["key_id"])
        with self._lock:
            self._known[digest] = (moment, actor)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return actor

    # -- inside -------------------------------------------------------------------------------------------------------------
    def _users(self, query: Select[Any]) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        moment = now()
        return [row | {"locked_until": row["locked_until"] if row["locked_until"] > moment else ""} for row in rows]

    def _keys(self, query: Select[Any]) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _note_use(self, key_id: str) -> None:
        """Have it noted when a key was last used, by a thread of its own: who only reads must not wait for those who write."""

        def note() -> None:
            try:
                with self.database.write() as connection:
                    connection.execute(update(API_KEYS).where(API_KEYS.c.id == key_id).values(last_used_at=now()))
            except (SQLAlchemyError, VigilError) as problem:  # the next minute notes it too
                LOG.warning("the use of key %s is not noted: %r", key_id, problem)
            finally:
                self._being_noted.discard(key_id)

        if key_id not in self._being_noted:
            self._being_noted.add(key_id)
            self._notes.submit(note)

    def _proven(self, whose: ColumnElement[bool], password: str) -> RowMapping:
        """The account whose password this is. Raises AccountRefused; too many wrong ones lock it."""
        with self.database.read() as connection:
            user = connection.execute(select(USERS).where(whose)).mappings().one_or_none()
        right = self._is(user["password_hash"] if user else self._nobody, password[:LONGEST_PASSWORD])
        if user is None or user["locked_until"] > now():
            raise AccountRefused(_WRONG)
        if not right or user["disabled"]:
            self._failed(user["id"])
            raise AccountRefused(_WRONG)
        return user

    def _failed(self, user_id: str) -> None:
        with self.database.write() as connection:
            failed = connection.execute(select(USERS.c.failed_logins).where(USERS.c.id == user_id)).scalar_one() + 1
            locked = now(self.settings.lock_minutes * 60) if failed >= self.settings.login_attempts else ""
            connection.execute(update(USERS).where(USERS.c.id == user_id).values(failed_logins=0 if locked else failed, locked_until=locked))
            audit.append(connection, f"user:{user_id}", "account.lock" if locked else "account.wrong_password", f"user:{user_id}")

    def _hash(self, password: str, user_name: str) -> str:
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise AccountRefused(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.", "password")
        if user_name in password.lower() or len(set(password)) < 4:
            raise AccountRefused("This password is too easy to guess.", "password")
        return self._hasher.hash(password)

    def _is(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    def _digest(self, text: str) -> str:
        assert self.secret is not None
        return self.secret.digest("accounts", text)

    def _forget(self) -> None:
        with self._lock:
            self._known.clear()


def _before(query: Select[Any], table: Table, row_id: str) -> Select[Any]:
    """The newest rows first, those made before the row of this id: none where there is no such row, all for ""."""
    newest = query.order_by(table.c.created_at.desc(), table.c.id.desc())
    if not row_id:
        return newest
    made = select(table.c.created_at).where(table.c.id == row_id).scalar_subquery()
    return newest.where((table.c.created_at < made) | ((table.c.created_at == made) & (table.c.id < row_id)))


_WRONG = "User name or password is wrong, or the account is locked for a while after too many wrong ones."


def _write_as_proven(connection: Connection, user: RowMapping, **values: str) -> None:
    """Write these to an account and end its count of wrong passwords. Raises AccountRefused where what was proven of it does not hold any more."""
    proven = (USERS.c.id == user["id"]) & (USERS.c.password_hash == user["password_hash"]) & USERS.c.disabled.is_(False)
    if not connection.execute(update(USERS).where(proven).values(failed_logins=0, locked_until="", **values)).rowcount:
        raise AccountRefused(_WRONG)
