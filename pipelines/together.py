"""One process of several that train a phase together: `python -m pipelines.together pretrain|train`, started by torchrun from the stage.

The stage holds the lock and waits; this joins the others, learns, and ends with them or when the stage is gone.
"""

import os
import sys
from pathlib import Path

from workspace.quiet import set_quiet_environment


def main() -> None:
    """Learn one phase in the current folder."""
    set_quiet_environment()
    from model.parallel import joined, telling
    from pipelines import pretrain, train
    from workspace.cycle import read_cycle
    from workspace.processes import start_parent_watchdog
    from workspace.settings import load_settings

    if parent := os.environ.get("VIGIL_PARENT"):
        start_parent_watchdog(parent)
    root = Path.cwd()
    with telling(), joined():
        {"pretrain": pretrain.learn, "train": train.learn}[sys.argv[1]](root, load_settings(root / "params.yaml"), read_cycle(root))


if __name__ == "__main__":
    main()
