"""The environment a cycle runs in: telemetry off, Prefect's files inside the workspace, children that know their parent."""

import atexit
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from uuid import UUID

from workspace.journal import Journal
from workspace.processes import deaf_to, parent_token
from workspace.quiet import set_quiet_environment
from workspace.state import workspace_id

OWNER_TAG = "vigil-workspace:"
LOOPBACK = ("127.0.0.1", "localhost")
AGAIN_SECONDS = 0.05  # the finaliser that a pause was lost in has ended by then


def owner_tags(root: Path) -> list[str]:
    """What Prefect's runs of this workspace are tagged with, nothing before its first event: on a server that several machines use a path says little."""
    mine = workspace_id(Journal(root).events())
    return [f"{OWNER_TAG}{mine}"] if mine else []


def sign_run(root: Path) -> None:
    """Note on the running flow whose it is."""
    from prefect import get_client, runtime

    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(runtime.flow_run.id), tags=[*runtime.flow_run.tags, *owner_tags(root)])


def start_private_server() -> None:
    """Start Prefect's temporary server of this process, deaf to Ctrl-C and SIGTERM: both are sent to every process of a group.

    A server that dies with the first of them leaves the flow waiting for minutes to note that it was stopped, and then failing. So it is
    killed at our end; its database stands that. Does nothing when PREFECT_API_URL names a server.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    with deaf_to(signal.SIGINT, signal.SIGTERM):
        server.start()
    if process := server.server_process:
        atexit.register(process.kill)  # before Prefect's own end of it, which asks with SIGTERM and waits


def pause_on_signals() -> None:
    """Let SIGTERM (`timeout`, `kill`, a service manager) pause this process as Ctrl-C does, in good order, and lose neither. Only from the main thread."""
    signal.signal(signal.SIGTERM, _pause)
    sys.unraisablehook = _ask_again


def _pause(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ask_again(lost: "sys.UnraisableHookArgs") -> None:
    """Python drops an exception that strikes in a finaliser: a pause that was is asked for once more, a moment later."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
    elif not sys.is_finalizing():
        timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()


def _past_proxies() -> None:
    """Have whoever asks this machine itself ask it: a proxy, which a company's shells and containers name, cannot. Safe to repeat.

    Brackets are taken off an address: over these Prefect's HTTP client ends.
    """
    known = os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).strip()
    hosts = [host.strip().strip("[]") for host in known.split(",") if host.strip()]
    if hosts != ["*"]:  # for everybody, which is so where it stands alone
        known = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
    os.environ.update(no_proxy=known, NO_PROXY=known)


def prepare_environment(root: Path) -> None:
    """Set what Prefect, MLflow and the stages read from the environment. Call before importing any of them.

    With PREFECT_API_URL set (a server or work pool of one's own) Prefect's own settings are left alone; else a
    temporary server of this process keeps its database in the workspace.
    """
    set_quiet_environment()
    os.environ["VIGIL_WORKSPACE"] = str(root.resolve())
    os.environ["VIGIL_PARENT"] = parent_token()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_SERVER_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    _past_proxies()
    if not os.environ.get("PREFECT_API_URL"):
        os.environ["PREFECT_HOME"] = str(root.resolve() / ".vigil" / "prefect")
        os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
        os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
        os.environ.setdefault("PREFECT_RESULTS_PERSIST_BY_DEFAULT", "false")


def say(text: str) -> None:
    """A line for whoever watches: results go to standard output, and this does not."""
    print(text, file=sys.stderr, flush=True)
