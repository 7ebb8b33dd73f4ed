"""The pinned packages really work together: a resolver does not see the breaks that import and use do."""

import importlib

import pytest

PACKAGES = (
    "torch", "torchvision", "torchattacks", "mlflow", "prefect", "dvc.repo", "dvc_s3", "optuna", "boto3", "cv2", "av",
    "onnx", "onnxscript", "onnxruntime", "pandas", "numpy", "pyarrow", "sqlalchemy", "fastapi", "ai_edge_litert.interpreter",
)  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_it_imports(package):
    assert importlib.import_module(package)


def test_opencv_still_has_the_haar_cascades():
    import cv2

    assert not cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml").empty()
