"""Fixtures that more than one room's tests use, and the guard under which the whole suite runs."""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

# A shell that starts the suite in the background lets it ignore Ctrl-C, and every child would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
GUARD = Path(__file__).parent / "guard"

# Before anything opens a socket: here, and in every child process.
GUARD_FOLDER = tempfile.mkdtemp(prefix="vigil-guard-")
atexit.register(shutil.rmtree, GUARD_FOLDER, ignore_errors=True)
os.environ["VIGIL_GUARD_LOG"] = str(Path(GUARD_FOLDER) / "refused.log")
os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), *filter(None, [os.environ.get("PYTHONPATH", "")])])
for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)
sys.path.insert(0, str(GUARD))
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402, F401

sys.path.remove(str(GUARD))

from workspace.quiet import set_quiet_environment  # noqa: E402

set_quiet_environment()  # before any test imports torch
# how fast a machine is decides no test
hypothesis.settings.register_profile("any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any-machine")
if "PYTEST_XDIST_WORKER" in os.environ:  # a core each: two processes whose threads wait for one another on two cores take longer than one
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# which make all they need themselves; no test in them asks for the workspaces that tests/system/conftest.py shares
ALONE = frozenset(f"tests/system/test_{name}.py" for name in ("command_line", "garbage", "guard", "python", "remote", "schedule", "stack"))


class InRooms(LoadScopeScheduling):
    """Where the suite runs in several processes: the system tests that share one costly workspace all in one; of the others a file in one.

    The fewer are tied together, the less one process waits for another at the end. Not by xdist's `loadgroup`, which pytest 9.2 broke in silence: each
    process made that workspace for itself.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "system" if file.startswith("tests/system/") and file not in ALONE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InRooms:
    """The scheduler of `make test`."""
    return InRooms(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The system tests first: they take longest, and the other process has the rest meanwhile. Those in files of their own follow at once."""
    items.sort(key=lambda item: (ROOT / "tests" / "system" not in item.path.parents, item.nodeid.partition("::")[0] in ALONE))


@pytest.fixture(scope="module", autouse=True)
def only_what_is_new_is_looked_through() -> None:
    """What the files before left, modules above all, stays: looking through it for cycles again and again was a tenth of the suite."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nothing_calls_home() -> Iterator[None]:
    """The suite fails if any process of it tried to reach anything but loopback."""
    yield
    log = Path(os.environ["VIGIL_GUARD_LOG"])
    refused = [line for line in log.read_text(encoding="utf-8").splitlines() if "guard-test" not in line] if log.exists() else []
    assert not refused, "something called home:\n" + "\n".join(refused[:20])


@pytest.fixture(scope="session", autouse=True)
def make_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """MLflow makes an empty database in some fifty steps, a second each time: a process of the suite makes it once, as ever, and copies it then.

    Commands that run in processes of their own make each its own. Gives what makes it as ever.
    """
    from workspace import registry

    first, make = tmp_path_factory.mktemp("mlflow") / "first.db", registry._make_database

    def make_or_copy(uri: str, artifacts: Path) -> None:
        path = registry.database_file(uri)
        new = path is not None and not path.exists()
        if path is not None and new and first.exists():
            part = path.with_name(f"{path.name}.part-{uuid4().hex}")
            shutil.copyfile(first, part)
            part.replace(path)  # whole or not at all, as ever
            return
        make(uri, artifacts)
        if path is not None and new:
            shutil.copyfile(path, first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_make_database", make_or_copy)
        yield make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real faces, beside the checkout or where VIGIL_SHARED_DATA says. The test is skipped where it is absent."""
    folder = Path(os.environ.get("VIGIL_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"no shared media: {folder} has no labels.csv (set VIGIL_SHARED_DATA)")
    return folder
