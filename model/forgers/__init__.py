"""Forgers that must learn before they can forge; `LEARNED` knows them by name. What they learn from is the batch's own real faces."""

from model.forgers.registry import LEARNED, Face, LearnedForger

__all__ = ["LEARNED", "Face", "LearnedForger"]
