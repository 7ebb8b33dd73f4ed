"""How a line of models learns and forgets: figures of the generator-by-update matrix.

R[i][j] is the measure (AUC, or balanced accuracy) on generator j after update i; NaN where it was not measured. Generators are in the
order in which they arrived: `learned[j]` is the update that brought j. Definitions as the field uses them: AA and AF of
Chaudhry et al. 2018 (AF in both forms, since CDDB and DFIL take the second), BWT and FWT of Lopez-Paz & Ranzato 2017. One differs: the
first AF takes the best of the updates from `learned[j]` to the one before the last, Chaudhry et al. of all before the last; what a
model told before it had learned it cannot be forgotten.
Rows are taken as they are: where each was measured on other videos, as the holdout grows, the figures hold that too.
A figure is None where nothing can be said: no earlier generator, or a value that is missing.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Continual:
    """The figures after the last update. Forgetting above 0 is bad; transfer above 0 is good."""

    average: float | None  # AA: mean over all generators met
    incremental: float | None  # mean over updates, from the first that brought one, of the mean over the generators met by then
    forgetting_from_best: float | None  # AF: best since it was learned (the last update apart) minus now, mean over the earlier generators
    forgetting_from_learned: float | None  # AF: just after learning minus now
    backward_transfer: float | None  # BWT: now minus just after learning
    forward_transfer: float | None  # FWT: before it was met minus chance, mean over the later generators that were measured before they were met

    def as_dict(self) -> dict[str, float | None]:
        """The figures by name."""
        return asdict(self)


def figures(
    matrix: Sequence[Sequence[float]] | NDArray[np.floating], learned: Sequence[int], chance: float = CHANCE, met_before: Collection[int] = ()
) -> Continual:
    """All figures of a matrix [updates, generators]; `learned` [generators] gives the update (from 0) that brought each.

    `met_before`: generators that the model before had been trained on when they were first measured, which say nothing of forward transfer.

    Raises ValueError for a matrix that is not one, or an update that it does not have.
    """
    table = np.asarray(matrix, dtype=np.float64)
    if table.ndim != 2 or not table.size or len(learned) != table.shape[1] or not all(0 <= update < len(table) for update in learned):
        raise ValueError(f"a matrix {table.shape} and {len(learned)} generators learned in updates {list(learned)} do not fit")
    last = len(table) - 1
    met = [generator for generator, update in enumerate(learned) if update <= last]
    earlier = [generator for generator in met if learned[generator] < last]
    later = [generator for generator in met if learned[generator] > 0 and generator not in met_before]
    now = table[last]
    at_learning = np.array([table[update, generator] for generator, update in enumerate(learned)])
    by_then = [[table[update, generator] for generator in met if learned[generator] <= update] for update in range(min(learned), len(table))]
    best = {generator: _best(table[learned[generator] : last, generator]) for generator in earlier}
    return Continual(
        average=_mean([now[generator] for generator in met]),
        incremental=_mean([float(np.mean(values)) for values in by_then]),
        forgetting_from_best=_mean([best[generator] - now[generator] for generator in earlier]),
        forgetting_from_learned=_mean([at_learning[generator] - now[generator] for generator in earlier]),
        backward_transfer=_mean([now[generator] - at_learning[generator] for generator in earlier]),
        forward_transfer=_mean([table[learned[generator] - 1, generator] - chance for generator in later]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) and np.isfinite(values).all() else None


def _best(values: NDArray[np.floating]) -> float:
    """The highest measured value, NaN where none was."""
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else float("nan")
