"""The detector: network, losses, attacks, training loop, calibration, export, inference. May import `media` and `workspace`; never mlflow, dvc or prefect."""

import media.limits  # noqa: F401  before OpenCV
