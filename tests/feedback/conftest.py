"""The world of these tests: a real small model, rendered media, a workspace, and the service as a process of its own."""

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI

from model.card import ModelCard, write_card
from tests.feedback.databases import KINDS, filled_url
from tests.feedback.world import World, demo_text
from workspace.files import sha256_file
from workspace.profiles import project_root
from workspace.settings import Settings, load_settings

MAX_UPLOAD_BYTES = 3_000_000
PATIENCE_SECONDS = 120


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Hashes of almost no cost: at full strength, for which test_accounts.py asks, one takes a fifth of a second, and each service here has six people."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feedback.accounts.PasswordHasher", partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered people: real/ and fake/ clips with a labels.csv."""
    from media.synthetic import make_sample_media

    out = tmp_path_factory.mktemp("media")
    make_sample_media(out, people=2, clips_per_person=1, seconds=1.5, seed=3)
    return out


@pytest.fixture(scope="session")
def clip(media: Path) -> bytes:
    """One rendered video."""
    return sorted(media.glob("real/**/*.mp4"))[0].read_bytes()


@pytest.fixture(scope="session")
def picture() -> bytes:
    """One rendered face, as JPEG."""
    import cv2

    from media.synthetic import render_take

    frames, _ = render_take(3, 1, 0, 2, size_px=256, fps=12.0)
    ok, content = cv2.imencode(".jpg", next(iter(frames))[..., ::-1])
    assert ok
    return bytes(content)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that are unsure of everything: one small random network, exported once and saved under two cycles, so two identities."""
    import torch

    from model.checkpoint import save_model
    from model.export import export_onnx
    from model.network import ResNeXtLSTM

    folder = tmp_path_factory.mktemp("models")
    (folder / "params.yaml").write_text(demo_text())
    settings = load_settings(folder / "params.yaml")
    torch.manual_seed(0)
    network = ResNeXtLSTM(settings.model, settings.faces.size_px).eval()
    onnx_sha256 = export_onnx(network, folder / "model.onnx")
    made = []
    for cycle in ("2026-W01.1", "2026-W02.1"):
        out = folder / cycle
        model_sha256 = save_model(network, out / "model.safetensors", {"cycle": cycle})
        shutil.copy(folder / "model.onnx", out / "model.onnx")
        # A huge temperature makes every p_fake 0.5: exactly on the threshold, so everything is uncertain.
        card = ModelCard(
            model_sha256=model_sha256,
            onnx_sha256=onnx_sha256,
            cycle=cycle,
            faces=settings.faces,
            model=settings.model,
            threshold=0.5,
            temperature=1e6,
            abstain=0.4,
        )
        write_card(out, card)
        made.append(out)
    return made[0], made[1]


def make_root(root: Path) -> Path:
    """An empty workspace of the demo profile that looks for a new champion five times a second and takes at most 3 MB a file."""
    (root / ".vigil").mkdir(parents=True)
    params = demo_text().replace("reload_seconds: 5.0", "reload_seconds: 0.2").replace("max_upload_bytes: 536870912", f"max_upload_bytes: {MAX_UPLOAD_BYTES}")
    (root / "params.yaml").write_text(params)
    settings = load_settings(root / "params.yaml")
    assert settings.serve.reload_seconds == 0.2 and settings.serve.max_upload_bytes == MAX_UPLOAD_BYTES
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Such a workspace."""
    return make_root(tmp_path / "workspace")


@pytest.fixture
def settings(root: Path) -> Settings:
    """The settings of that workspace."""
    return load_settings(root / "params.yaml")


PEOPLE = {"vera": "viewer", "rob": "reviewer", "rita": "reviewer", "rosa": "reviewer", "emil": "engineer", "ada": "admin"}
PASSWORD = "correct horse battery"


def people_of(root: Path) -> dict[str, tuple[str, str]]:
    """Make the people of these tests in a workspace; name -> (id, API key)."""
    from feedback.access import Role
    from feedback.accounts import Accounts
    from feedback.database import Database
    from feedback.secret import load_secret

    settings = load_settings(root / "params.yaml")
    database = Database(root, settings)
    accounts = Accounts(database, load_secret(root), settings.feedback)
    made = {}
    for name, role in PEOPLE.items():
        known = accounts.user(name)
        user_id = known["id"] if known else accounts.create(name.title(), f"{name}@example.org", name, PASSWORD, Role[role], "system:test")
        made[name] = (user_id, accounts.create_key(user_id, "tests", "system:test")[1])
    database.close()
    return made


class Service:
    """A running service process and clients that talk to it: `client` is Vera's, a viewer; `by("rob")` a reviewer's."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, log: Path, people: dict[str, tuple[str, str]], root: Path) -> None:
        self.process, self.url, self.log, self.people, self.root = process, url, log, people, root
        self._clients: dict[str, httpx.Client] = {}

    @property
    def client(self) -> httpx.Client:
        """The client of who sends files."""
        return self.by("vera" if self.people else "")

    def by(self, name: str) -> httpx.Client:
        """The client of one of PEOPLE; "" is nobody."""
        if name not in self._clients:
            headers = {"Authorization": f"Bearer {self.people[name][1]}"} if name and self.people else {}
            self._clients[name] = httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS, trust_env=False, headers=headers)
        return self._clients[name]

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.close()

    def until_ready(self) -> dict[str, Any]:
        """Wait for /readyz; returns what it says."""
        return wait_for(lambda: self.client.get("/readyz"), lambda answer: answer.status_code == 200, self.log).json()  # type: ignore[no-any-return]

    def detect(self, content: bytes, name: str = "clip.mp4", wait: float = 60, **query: str) -> httpx.Response:
        """Send one file as Vera; waits for the verdict."""
        return self.client.post("/v1/detections", files={"file": (name, io.BytesIO(content), "application/octet-stream")}, params={**query, "wait": wait})

    def review(self, case_id: str, label: str, *names: str, **more: str) -> httpx.Response:
        """Answer a case as each of these reviewers (two of them, unless given); the last answer's answer."""
        answers = [self.by(name).post(f"/v1/cases/{case_id}/review", json={"label": label, **more}) for name in names or ("rob", "rita")]
        return answers[-1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process by a signal; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


def wait_for(ask: Callable[[], Any], good: Callable[[Any], bool], log: Path | None = None) -> Any:
    """What `ask` returns once it is good; fails with the last answer and the service's log."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not good(answer := ask()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE_SECONDS} s; last: {getattr(answer, 'text', answer)}\n{log.read_text() if log else ''}")
        time.sleep(0.05)
    return answer


def command(root: Path, ready: Path, *more: str) -> list[str]:
    """The command line of a service on a free port."""
    return ["-P", "-m", "feedback.serve", "--workspace", str(root), "--host", "127.0.0.1", "--port", "0", "--ready-file", str(ready), *more]


def environment() -> dict[str, str]:
    """The environment in which a child finds the project's code."""
    return {**os.environ, "PYTHONPATH": str(project_root()), "OMP_NUM_THREADS": "2"}


@contextmanager
def running(root: Path, *more: str, python: tuple[str, ...] = (), before: tuple[str, ...] = ()) -> Iterator[Service]:
    """The service of `root` as a process, in which the words `before` end; ended afterwards whatever happens."""
    ready, log = root.parent / f"ready-{time.monotonic_ns()}.json", root.parent / "service.log"
    people = {} if "--probe" in more else people_of(root)
    with open(log, "ab") as output:
        process = subprocess.Popen([*before, sys.executable, *python, *command(root, ready, *more)], cwd=root, env=environment(), stdout=output, stderr=output)
    try:
        wait_for(lambda: ready.exists() or process.poll() is not None, bool, log)
        assert process.poll() is None, log.read_text()
        service = Service(process, json.loads(ready.read_text())["url"], log, people, root)
        yield service
        service.close()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def service(root: Path, models: tuple[Path, Path]) -> Iterator[Service]:
    """The service with the first model, ready."""
    with running(root, "--model-dir", str(models[0])) as service:
        service.until_ready()
        yield service


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path]) -> Iterator[Service]:
    """One for all tests of a file that neither end it nor count what is in it: a start takes five seconds."""
    with running(make_root(tmp_path_factory.mktemp("shared") / "workspace"), "--model-dir", str(models[0])) as service:
        service.until_ready()
        yield service


def model_sha256(model_dir: Path) -> str:
    """The identity of a model folder."""
    return sha256_file(model_dir / "model.safetensors")


# -- the application itself, without its workers: what is accepted waits ---------------------------------------------------------
Make = Callable[..., tuple[FastAPI, dict[str, tuple[str, str]]]]


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[str, str]]]:
    """A workspace in which the people are, to be copied: making six of them takes seconds."""
    from tests.feedback.world import write_settings

    root = tmp_path_factory.mktemp("people") / "workspace"
    write_settings(root)
    return root, people_of(root)


@pytest.fixture
def make(tmp_path: Path, people: tuple[Path, dict[str, tuple[str, str]]]) -> Iterator[Make]:
    """Builds the app of a workspace with other feedback settings; its database is closed afterwards."""
    from feedback.api.app import create_app
    from feedback.secret import load_secret
    from tests.feedback.world import write_settings

    made: list[FastAPI] = []

    def build(names: tuple[str, ...] = (), **feedback: Any) -> tuple[FastAPI, dict[str, tuple[str, str]]]:
        root = tmp_path / f"workspace-{len(made)}"
        settings = write_settings(root, **feedback)
        for name in ("feedback.db", ".vigil/secret"):
            shutil.copy(people[0] / name, root / name)
        made.append(create_app(root, settings, load_secret(root), names=names))
        return made[-1], people[1]

    yield build
    for app in made:
        app.state.service.close()


def ask(app: FastAPI, *requests: tuple[str, str, dict[str, Any]], key: str = "", base: str = "http://vigil") -> list[httpx.Response]:
    """Send requests one after the other."""

    async def send() -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base, headers=headers) as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(send())


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """What the service knows without a process of its own: on SQLite, then on PostgreSQL."""
    made = World(tmp_path / "w", filled_url(request.param))
    yield made
    made.close()
