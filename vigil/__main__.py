"""`python -m vigil` is the command `vigil`."""

import sys
from pathlib import Path

if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parents[1]:
    del sys.path[0]  # the current folder: one of a person's own, such as media/, would stand before a room of ours

from vigil.main import main

main()
