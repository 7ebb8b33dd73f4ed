"""Telemetry off and threads that wait asleep or are not there, for this process and every child it starts; and a collector that looks seldom.

Called first by every entry point.
"""

import atexit
import gc
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
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime keeps events and a device id in the home folder; its own disable_telemetry_events() comes too late
}

# On a machine that others use too, threads that spin while they wait slowed training seven times (2 cores, load 10).
POLITE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}

# NumPy's small products: threads of its own for them stand in the way of the network's, and two threads that forge wait for one another's (phase 1 of
# `full`, 2 cores: 0.80 of a bare loop's pace; without them 0.89). What a sum comes to no longer depends on the number of cores either.
ALONE = {"OPENBLAS_NUM_THREADS": "1"}

# Training frees and takes the same large pieces at each step. Without this a third of its time went into giving them back to the
# system (phase 1 of the demo: 9.5 s of system time instead of 3.3). Read by glibc when a process starts: it reaches the stages.
MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "33554432"}

# How many new objects bring Python to look for cycles among them (700 otherwise). torch, MLflow and Prefect make 400,000 that all stay: looking through
# them was a quarter of their import, and once more at the end a third of that, where other machines on the same host leave memory little pace.
NEW_OBJECTS = 10_000


def set_quiet_environment() -> None:
    """Switch the telemetry of every package off; let idle threads sleep and memory stay, unless the user set that. Before torch is imported.

    This process looks for cycles more seldom, and not once more as it ends.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    atexit.unregister(gc.freeze)  # once, however often this is called
    atexit.register(gc.freeze)
    os.environ.update(QUIET)
    for name, value in (POLITE | ALONE | MEMORY).items():
        os.environ.setdefault(name, value)
