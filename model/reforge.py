"""Forged anew each time it is drawn: a stored fake of a classical forger is a recipe, and each visit cooks it with other numbers.

A stored fake is one seam in one place; a network learns it by heart after a few visits. Made again from its source clip with
the step's own random numbers, it is a different forgery of the same person each time (Shiohara & Yamasaki 2022 draw theirs so).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from media.forgers import FORGERS, WHO, forge_clip, may_be_one_person
from model.data import ClipSource

if TYPE_CHECKING:
    import pandas as pd

Frames = NDArray[np.uint8]


TRIES = 8  # to draw somebody else's face; then the stored fake's own donor gives it, or the stored fake is shown


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the clip at a position was made: forger, positions of the clip it was made from and of its donor's, if that is here, and whether it needs one."""

    forger: str
    source: int
    donor: int | None
    needs_donor: bool


class Reforger:
    """Clips of a set, its classical forgeries made afresh with chance `chance` where their source (and donor) is in the set with landmarks."""

    def __init__(self, clips: ClipSource, chance: float) -> None:
        self._clips, self._chance = clips, chance
        meshed = [position for position in range(len(clips)) if clips.landmarks(position) is not None] if chance > 0 else []
        self._recipes = _recipes(clips.rows, meshed)
        swaps = any(recipe.needs_donor for recipe in self._recipes.values())
        self._givers = _givers(clips.rows, meshed) if swaps else {}
        self._kind = clips.rows["kind"].to_numpy(dtype=str)
        self._hardened = (clips.rows["role"] == "hardened").to_numpy()
        self._who = [dict(zip(WHO, row, strict=True)) for row in clips.rows[list(WHO)].itertuples(index=False)] if swaps else []

    def take(
        self,
        position: int,
        rng: np.random.Generator,
        single: bool = False,
        at: int | None = None,
        spoil: Callable[[Frames], Frames] = lambda frames: frames,
        spoil_donor: Callable[[Frames], Frames] = lambda frames: frames,
    ) -> Frames:
        """Pixels [T, H, W, 3] of the clip at `position`, or with `single` [1, H, W, 3] of one frame: number `at`, or one that `rng` chooses.

        `spoil` is done to what is forged anew before it is forged, so that the forgery's trace stays whole, else to the clip itself; a hardened
        clip is spared, since its attack would not survive. `spoil_donor` is done to who gives a face: always better than what is round it,
        it would give itself away.
        """
        recipe = self._recipes.get(position)
        if recipe is None or rng.random() >= self._chance:
            return self._stored(position, rng, single, at, spoil)
        gives = self._giver(recipe.source, recipe.donor, rng) if recipe.needs_donor else None
        if recipe.needs_donor and gives is None:
            return self._stored(position, rng, single, at, spoil)
        source, points, donor = recipe.source, self._points(recipe.source), None
        if single:
            moments = self._clips.length(source)
            chosen = _moment(moments, rng, at)
            if FORGERS[recipe.forger].from_other_moments and moments > 1:  # from itself alone a single frame would hardly be moved
                other = (chosen + 1 + int(rng.integers(moments - 1))) % moments
                donor = spoil(self._clips.frame(source, other)), points[other : other + 1]
            frames, points = self._clips.frame(source, chosen), points[chosen : chosen + 1]
        else:
            frames = self._clips.clip(source)
        if gives is not None:
            donor = spoil_donor(self._clips.clip(gives)), self._points(gives)
        return forge_clip(recipe.forger, spoil(frames), points, rng, donor)[0]

    def _stored(self, position: int, rng: np.random.Generator, single: bool, at: int | None, spoil: Callable[[Frames], Frames]) -> Frames:
        shown = self._clips.frame(position, _moment(self._clips.length(position), rng, at)) if single else self._clips.clip(position)
        return shown if self._hardened[position] else spoil(shown)

    def _giver(self, source: int, stored: int | None, rng: np.random.Generator) -> int | None:
        """Who gives a face this time: a real clip of the source's kind and of another person, else the stored fake's own donor, where that is here."""
        others = self._givers.get(str(self._kind[source]), [])
        for _ in range(TRIES if others else 0):
            one = others[int(rng.integers(len(others)))]
            if not may_be_one_person(self._who[source], self._who[one]):
                return one
        return stored

    def _points(self, position: int) -> NDArray[np.float32]:
        points = self._clips.landmarks(position)
        assert points is not None  # a recipe was only written for clips that have them
        return points


def _moment(moments: int, rng: np.random.Generator, at: int | None) -> int:
    """Number `at` of a clip of so many frames, or one that `rng` chooses."""
    return int(rng.integers(moments)) if at is None else min(at, moments - 1)


def _recipes(rows: "pd.DataFrame", meshed: Sequence[int]) -> dict[int, Recipe]:
    place = {str(rows["clip_id"].iat[position]): position for position in meshed}
    found: dict[int, Recipe] = {}
    columns = zip(rows["forger"], rows["role"], rows["source_clip"], rows["donor_clip"], strict=True)
    for position, (forger, role, source, donor) in enumerate(columns):
        if forger not in FORGERS or role == "hardened" or source not in place:
            continue  # a hardened clip carries an attack that cooking would lose
        found[position] = Recipe(forger, place[source], place.get(donor), FORGERS[forger].needs_donor)
    return found


def _givers(rows: "pd.DataFrame", meshed: Sequence[int]) -> dict[str, list[int]]:
    """Positions of the real clips with landmarks, by kind."""
    found: dict[str, list[int]] = {}
    for position in meshed:
        if rows["label"].iat[position] == "real" and rows["role"].iat[position] != "hardened":
            found.setdefault(str(rows["kind"].iat[position]), []).append(position)
    return found
