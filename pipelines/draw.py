"""Seeded draws of clips: balanced for training, frozen for evaluation. The same names and seed give the same draw."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, TypeVar

Row = dict[str, Any]
Item = TypeVar("Item")


def rank(seed: int | str, name: str) -> int:
    """A place in a random order that depends on seed and name alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest(), "big")


def shuffled(rows: Iterable[Row], seed: int | str) -> list[Row]:
    """Rows in the order of their clip ids' ranks."""
    return sorted(rows, key=lambda row: (rank(seed, row["clip_id"]), row["clip_id"]))


def in_rotation(rows: Iterable[Row], group: Callable[[Row], Any]) -> list[Row]:
    """One row of each group in turn, groups in the order of what `group` says (names, numbers), until all are used up."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    return _interleaved([groups[name] for name in sorted(groups)])


def draw_balanced(rows: Iterable[Row], budget: int, seed: int | str) -> list[Row]:
    """At most `budget` rows: as many real as fake as there are, fakes by generator in turn; what one class lacks the other fills.

    Of more generators than places another seed has others: by their names the same would be replayed for ever.
    """
    order = shuffled(rows, seed)
    real = [row for row in order if row["label"] == "real"]
    fake = in_rotation((row for row in order if row["label"] == "fake"), lambda row: (rank(seed, row["generator"]), row["generator"]))
    return _interleaved([real, fake])[:budget]


def panel(rows: Iterable[Row], batches: Sequence[str], cap: int, key: str) -> list[Row]:
    """All clips of at most `cap` units (videos) a slice (label and generator): half of the places are the earliest batches' for good, half the latest's.

    With the first alone nothing that came in after a slice was full would ever be judged; with the last alone nothing could be compared over
    time. Within a batch the keyed rank decides. `batches` are in the order in which they were accepted.
    """
    place = {batch: number for number, batch in enumerate(batches)}
    slices: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        slices.setdefault((row["label"], row["generator"]), {}).setdefault(row["unit"], []).append(row)
    chosen: list[Row] = []
    for units in slices.values():
        order = sorted(units, key=lambda unit: (place[units[unit][0]["batch"]], rank(key, unit), unit))
        first, rest = order[: cap - cap // 2], order[cap - cap // 2 :]
        last = sorted(rest, key=lambda unit: (-place[units[unit][0]["batch"]], rank(key, unit), unit))[: cap // 2]
        chosen += chain.from_iterable(units[unit] for unit in (*first, *last))
    return sorted(chosen, key=lambda row: row["clip_id"])


def _interleaved(queues: Sequence[Sequence[Item]]) -> list[Item]:
    nothing = object()
    return [item for turn in zip_longest(*queues, fillvalue=nothing) for item in turn if item is not nothing]  # type: ignore[misc]
