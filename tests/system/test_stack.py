"""The pinned packages really work together: a resolver does not see the breaks that import and use do."""

import importlib
import os
import subprocess
import sys

import pytest

PACKAGES = (
    "torch", "torchvision", "torchattacks", "mlflow", "prefect", "dvc.repo", "dvc_s3", "great_expectations", "evidently", "optuna", "boto3", "cv2", "av",
    "onnx", "onnxscript", "onnxruntime", "pandas", "numpy", "pyarrow", "sqlalchemy", "fastapi", "ai_edge_litert.interpreter",
)  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_it_imports(package):
    assert importlib.import_module(package)


def test_opencv_still_has_the_haar_cascades():
    import cv2

    assert not cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml").empty()


def test_a_prefect_flow_runs_on_its_own_server(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("from prefect import flow, task\n@task\ndef one(): return 1\n@flow\ndef two(): return one() + 1\nassert two() == 2\n")
    quiet = {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
    done = subprocess.run([sys.executable, str(program)], env={**os.environ, **quiet}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
