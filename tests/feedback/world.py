"""A small world behind the service for tests: a workspace, its database, people, and uploads that became cases."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from feedback.access import Actor, Role
from feedback.cases import Cases
from feedback.database import DATABASE, Database, new_id, now
from feedback.keep import MediaStore
from feedback.sealing import seal
from feedback.tables import DETECTIONS, MEDIA, USERS
from workspace.files import atomic_file, parse_yaml, sha256_bytes
from workspace.profiles import compose_params
from workspace.settings import Settings, parse_settings

JPEG = b"\xff\xd8\xff\xe0"
MODEL = "a" * 64


@cache
def demo_text() -> str:
    """params.yaml of the demo profile; composed once, hundreds of tests write it."""
    return compose_params("demo")


@cache
def _demo() -> dict[str, Any]:
    return dict(parse_yaml(demo_text()))


def write_settings(root: Path, database_url: str = "", **feedback: Any) -> Settings:
    """The demo profile's params.yaml with other values in its `feedback` block; a name like queue__audit_fraction reaches into a block of it."""
    (root / ".vigil").mkdir(parents=True, exist_ok=True)
    params = deepcopy(_demo())
    block = params.setdefault("feedback", {})
    block["database_url"] = database_url
    for name, value in feedback.items():
        inner, _, last = name.rpartition("__")
        (block.setdefault(inner, {}) if inner else block)[last] = value
    with atomic_file(root / "params.yaml") as handle:  # several processes of one test do this at once
        handle.write(yaml.dump(params, Dumper=yaml.CSafeDumper, sort_keys=False))
    return parse_settings(params)


@cache
def _empty_sqlite() -> bytes:
    """An SQLite database in which all tables are and no row: a service makes it once, the tests need it a hundred times."""
    with TemporaryDirectory() as folder:
        Database(Path(folder), write_settings(Path(folder))).close()
        return (Path(folder) / DATABASE).read_bytes()


def open_to_others(root: Path) -> list[str]:
    """The folders of a service that somebody else on this machine could look into."""
    folders = (root / ".vigil" / name for name in ("media", "derived", "uploads", "outbox"))
    return [folder.name for folder in folders if folder.exists() and folder.stat().st_mode & 0o077]


class World:
    """One service's store, without the service. Close it when done."""

    def __init__(self, root: Path, database_url: str = "", **feedback: Any) -> None:
        self.root = root
        self.settings = write_settings(root, database_url, **feedback)
        if not database_url and not (root / DATABASE).exists():
            (root / DATABASE).touch(mode=0o600)
            (root / DATABASE).write_bytes(_empty_sqlite())
        self.database = Database(root, self.settings)
        self.media = MediaStore(root, self.settings)
        self.cases = Cases(self.database, self.settings.feedback, b"a key of the tests")
        self.sender = self.user("sender", Role.viewer)
        self.ann, self.bob, self.cy = (self.user(name) for name in ("ann", "bob", "cy"))

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def user(self, name: str, role: Role = Role.reviewer) -> Actor:
        """A person of this name; the same one when asked again."""
        with self.database.write() as connection:
            known = connection.execute(USERS.select().where(USERS.c.user_name == name)).mappings().one_or_none()
            if known is not None:
                return Actor(known["id"], Role[known["role"]], name)
            row = {"id": new_id(), "created_at": now(), "name": name, "email": f"{name}@example.org", "user_name": name, "password_hash": "", "role": role.name}
            connection.execute(USERS.insert().values(**row))
            return Actor(str(row["id"]), role, name)

    def upload(
        self,
        content: bytes,
        owner: Actor | None = None,
        verdict: str = "uncertain",
        reason: str = "uncertain",
        policy: str = "",
        mode: str = "",
        finished_at: str = "",
        **answer: Any,
    ) -> tuple[str, str]:
        """A finished upload of `content` whose media are kept: (detection id, case id or "")."""
        owner = owner or self.sender
        sha256 = sha256_bytes(content)
        path = self.root / f"{sha256}.part"
        path.write_bytes(content)
        self.media.put(path, sha256)
        path.unlink()
        told = {"kind": "image", "p_fake": 0.5, "threshold": 0.5, "novelty": 0.1, "model_sha256": MODEL, "verdict": verdict, **answer}
        detection = {
            "id": new_id(), "created_at": now(), "owner_id": owner.user_id, "source": owner.source, "sha256": sha256, "bytes": len(content), "policy": policy,
            "mode": mode,
        }  # fmt: skip
        with self.database.write() as connection:
            if connection.execute(MEDIA.select().where(MEDIA.c.sha256 == sha256)).one_or_none() is None:
                connection.execute(MEDIA.insert().values(sha256=sha256, bytes=len(content), created_at=now(), state_since=now()))
            connection.execute(MEDIA.update().where(MEDIA.c.sha256 == sha256, MEDIA.c.state == "deleted").values(state="kept", why=""))
            done = {
                "state": "done",
                "finished_at": finished_at or now(),
                "verdict": verdict,
                "p_fake": told["p_fake"],
                "kind": "image",
                "answer": told,
                "model_sha256": MODEL,
            }
            done["audited"] = reason == "audit"
            connection.execute(DETECTIONS.insert().values(**detection, **done))
            case_id = self.cases.open_for(connection, detection, told, reason) if reason else ""
            if case_id:
                connection.execute(DETECTIONS.update().where(DETECTIONS.c.id == detection["id"]).values(case_id=case_id))
            seal(connection, str(detection["id"]), None)
        return str(detection["id"]), case_id

    def decide(self, case_id: str, label: str, identity: str = "") -> dict[str, Any]:
        """Two reviewers agree."""
        self.cases.review(self.ann, case_id, label, identity=identity)
        found = self.cases.review(self.bob, case_id, label, identity=identity)
        assert found is not None and found["state"] == "decided"
        return found

    def case(self, case_id: str) -> dict[str, Any]:
        """A case as it stands."""
        found = self.cases.get(case_id)
        assert found is not None
        return found
