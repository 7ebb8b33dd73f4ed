"""Forgers make fake face clips out of real ones, each in its own module; `FORGERS` knows them by name."""

from media.forgers.registry import FORGERS, WHO, Forger, forge_clip, may_be_one_person

__all__ = ["FORGERS", "WHO", "Forger", "forge_clip", "may_be_one_person"]
