"""In which order open cases are shown: the most useful first, unlike what was just seen, known ones mixed in where nobody can tell."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import FromClause, case, func

AUDIT_USE = 0.5  # a verdict drawn at random is worth as much as one half-way to the threshold, however sure: else it would wait for ever


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open case: what an answer to it is worth (0..1), and what it looks like."""

    number: int
    id: str
    use: float
    embedding: tuple[float, ...]

    @classmethod
    def of(cls, row: Any) -> "Candidate":
        """From a row with number, id, use, embedding, reason."""
        drawn = str(row.reason) == "audit"  # a random draw is looked at as it came, whatever is like it: feedback/estimate.py counts from its beginning
        return cls(int(row.number), str(row.id), float(row.use), () if drawn else tuple(row.embedding or ()))


def use_of(cases: FromClause) -> Any:
    """What an answer to a case is worth, 0..1, as a column of the table of cases: the database chooses by it, and what it chose is ordered by it."""
    uncertainty, novelty = cases.c.uncertainty, func.coalesce(cases.c.novelty, 0.0)
    return case(
        (cases.c.reason.in_(("disputed", "conflict")), 1.0),
        (cases.c.reason == "audit", AUDIT_USE),
        ((cases.c.reason == "novel") & (novelty >= 1.0), 1.0),
        ((cases.c.reason == "novel") & (uncertainty < novelty), novelty),
        else_=uncertainty,
    )


def uncertainty_of(p_fake: float | None, threshold: float | None) -> float:
    """1 on the threshold, falling evenly to 0 where p_fake is 0 or 1; 1 where there is no p_fake."""
    if p_fake is None:
        return 1.0
    limit = 0.5 if threshold is None else min(max(float(threshold), 0.0), 1.0)
    room = 1 - limit if p_fake >= limit else limit
    return 1.0 if room == 0 else max(0.0, 1 - abs(float(p_fake) - limit) / room)


def in_order(candidates: Sequence[Candidate], before: Sequence[Sequence[float]], limit: int) -> list[str]:
    """Ids, greedily: next is the highest use, discounted by its likeness (cosine, 0..1) to what is before it or was just answered.

    The same cases give the same order. Cases without an embedding, or with one of another network, are like nothing.
    """
    order: list[str] = []
    left = sorted(candidates, key=lambda case: case.number)
    likeness = np.zeros(len(left))
    units = [_unit(case.embedding) for case in left]
    for seen in before:
        likeness = np.maximum(likeness, _likeness(units, _unit(seen)))
    value = np.array([case.use for case in left])
    alive = np.ones(len(left), bool)
    while len(order) < min(limit, len(left)):
        place = int(np.argmax(np.where(alive, value * (1 - likeness), -1.0)))  # argmax: the earliest of equals
        order.append(left[place].id)
        alive[place] = False
        likeness = np.maximum(likeness, _likeness(units, units[place]))
    return order


def gold_slots(key: bytes, user_id: str, done: int, length: int, fraction: float) -> list[int]:
    """The places of known cases in a list of `length` for a reviewer who has answered `done` cases: about `fraction` of all places.

    A place is counted from the reviewer's first answer, so the same place stays the same as the list moves up.
    """
    return [place for place in range(length) if keyed(key, user_id, f"place {done + place}") < fraction]


def keyed(key: bytes, user_id: str, what: str) -> float:
    """A number in 0..1 that nobody can foretell without the key, the same each time."""
    return int.from_bytes(hmac.new(key, f"{user_id} {what}".encode(), hashlib.sha256).digest()[:8], "big") / 2**64


def _unit(embedding: Sequence[float]) -> np.ndarray:
    vector = np.asarray(embedding, float)
    length = float(np.linalg.norm(vector)) if vector.size else 0.0
    return vector / length if length > 0 and np.isfinite(length) else np.empty(0)


def _likeness(units: Sequence[np.ndarray], one: np.ndarray) -> np.ndarray:
    """Of each to `one`, 0..1."""
    if not one.size:
        return np.zeros(len(units))
    return np.array([min(1.0, max(0.0, float(unit @ one))) if unit.shape == one.shape else 0.0 for unit in units])
