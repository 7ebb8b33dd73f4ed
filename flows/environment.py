"""The environment a cycle runs in: telemetry off, Prefect's files inside the workspace, children that know their parent."""

import os
from pathlib import Path

from workspace.processes import parent_token
from workspace.quiet import set_quiet_environment


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
    if not os.environ.get("PREFECT_API_URL"):
        os.environ["PREFECT_HOME"] = str(root.resolve() / ".vigil" / "prefect")
        os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
        os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
        os.environ.setdefault("PREFECT_RESULTS_PERSIST_BY_DEFAULT", "false")
