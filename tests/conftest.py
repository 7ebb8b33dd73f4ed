"""Fixtures that more than one room's tests use, and the guard under which the whole suite runs."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell that starts the suite in the background lets it ignore Ctrl-C, and every child would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
GUARD = Path(__file__).parent / "guard"

# Before anything opens a socket: here, and in every child process.
os.environ["VIGIL_GUARD_LOG"] = str(Path(tempfile.mkdtemp(prefix="vigil-guard-")) / "refused.log")
os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), *filter(None, [os.environ.get("PYTHONPATH", "")])])
for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)
sys.path.insert(0, str(GUARD))
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402, F401

sys.path.remove(str(GUARD))

from workspace.quiet import set_quiet_environment  # noqa: E402

set_quiet_environment()  # before any test imports torch


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where the suite runs in several processes: the system tests first and all in one, since they share one costly workspace; else a file in one."""

    def group(item: pytest.Item) -> str:
        return "system" if ROOT / "tests" / "system" in item.path.parents else item.path.relative_to(ROOT).as_posix()

    items.sort(key=lambda item: group(item) != "system")
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))


@pytest.fixture(scope="session", autouse=True)
def nothing_calls_home() -> Iterator[None]:
    """The suite fails if any process of it tried to reach anything but loopback."""
    yield
    log = Path(os.environ["VIGIL_GUARD_LOG"])
    refused = [line for line in log.read_text(encoding="utf-8").splitlines() if "guard-test" not in line] if log.exists() else []
    assert not refused, "something called home:\n" + "\n".join(refused[:20])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real faces, beside the checkout or where VIGIL_SHARED_DATA says. The test is skipped where it is absent."""
    folder = Path(os.environ.get("VIGIL_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"no shared media: {folder} has no labels.csv (set VIGIL_SHARED_DATA)")
    return folder
