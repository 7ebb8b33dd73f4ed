"""Where tensors are worked on: this process's GPU where there is one, else the CPU."""

import os

import torch


def best_device() -> torch.device:
    """The GPU that torchrun gave this process (LOCAL_RANK), the first one outside torchrun, or the CPU."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")
