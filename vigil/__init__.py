"""The front door: the command line, and the same verbs for Python (`Detector`, `open_workspace`). It may import every room, only when asked to."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vigil.api import Detector, Verdict, Workspace, open_workspace

__all__ = ["Detector", "Verdict", "Workspace", "open_workspace"]


def __getattr__(name: str) -> Any:
    """Bring in vigil/api.py when one of its names is first asked for: `import vigil` itself costs nothing."""
    if name in __all__:
        from vigil import api

        return getattr(api, name)
    raise AttributeError(f"module 'vigil' has no attribute {name!r}")
