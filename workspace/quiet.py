"""Telemetry off and threads that wait asleep, for this process and every child it starts. Called first by every entry point."""

import os

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}

# On a machine that others use too, threads that spin while they wait slowed training seven times (2 cores, load 10).
POLITE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def set_quiet_environment() -> None:
    """Switch the telemetry of every package off, and let idle threads sleep unless the user set that. Before torch is imported."""
    os.environ.update(QUIET)
    for name, value in POLITE.items():
        os.environ.setdefault(name, value)
