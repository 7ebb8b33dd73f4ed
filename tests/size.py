"""How finely the drills go: `make test` has them small, `make thorough` as they were meant."""

import os

THOROUGH = bool(os.environ.get("VIGIL_THOROUGH"))


def drill(small: int, whole: int) -> int:
    """A number of worlds or draws, or every how manieth line is killed at."""
    return whole if THOROUGH else small
