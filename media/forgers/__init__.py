"""Forgers make fake face clips out of real ones, each in its own module; `FORGERS` knows them by name."""

from media.forgers.registry import FORGERS, Forger, forge_clip

__all__ = ["FORGERS", "Forger", "forge_clip"]
