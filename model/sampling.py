"""Which clips meet in a batch: half of what is new, half of what is known, as many reals as fakes, in turn, pairs together.

Known clips are replayed and forged ones. Fakes come from their generators in rotation, so that a rare one is not drowned; forged ones take one known place in
four beside what is replayed, so that they do not push it out (a demo that gave them most places forgot: AUC on its first forger fell from 0.98 to 0.92 in the
next cycle); where nothing is, in a first cycle, they have all known places, half of the fakes'. Where a real clip is drawn, one time in four a fake made from
it takes a fake's place, and every time where all fakes are forged: the network then sees the difference that forgery makes, not the difference between two
people (half the time or more, where a few were collected). Videos and pictures come equally often, of reals and of each maker, where all fakes are forged: a
pair is of one kind. Where some were collected, a real of its kind answers each fake that comes without its real, and other fakes are of the kind that lacks
some. All this within bounds, since what is rare must not be learned by heart: a maker's clips of one kind come at most MOST_OFTEN times as often as those of
the other, those of a maker, a week or an origin in the mean at most MOST_FAVOURED times as often as the whole class's.
Where a class has more pictures than the other, a network takes a clip of one frame, or the look of a press photo, for a mark of that class. Hardened clips
take as many of the real places as of the fake ones, about as many as their part of all clips: where one class had more of them, adversarial noise would be
its mark. Without hardened clips of both classes none is drawn.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from model.data import epoch_order, labels_of
from workspace.errors import TooLittleData

if TYPE_CHECKING:
    import pandas as pd


FORGED_SHARE = 4  # forged clips take one place in so many
LEAST_BETWEEN = 2  # at most one place of a class in so many is a hardened clip's
MOST_FAVOURED = 8  # clips of a small week, maker or origin are in the mean not drawn more than so many times as often as those of their class
ALL_BUT_FORGED = 1 / 8  # where collected fakes are fewer than this part of all fakes, pairs are the rule as where there are none
MOST_OFTEN = 4  # of a maker, or of all reals: a clip of one kind is not drawn more than so many times as often as one of the other


Group = tuple[bool | str, ...]  # (new,), (new, forged) and (new, forged, maker); (maker,) of what was collected, new or not


class _Queue:
    """Endless positions: the first pass in training order of epoch 0 (the one a model card's hash follows), later ones reshuffled."""

    def __init__(self, members: "np.ndarray", seed: int) -> None:
        self._members, self._seed = members, seed  # in the order of the first pass
        self._epoch, self._left = 0, list[int]()

    def take(self) -> int:
        if not self._left:
            order = self._members if self._epoch == 0 else np.random.default_rng([self._seed, self._epoch]).permutation(self._members)
            self._left = order[::-1].tolist()
            self._epoch += 1
        return self._left.pop()


class _Favour:
    """How often a class's clips were drawn, and whether a group of them may be drawn from again: see MOST_FAVOURED.

    `levels`: groups by name (members bool [N]), those of a level share no clip. A maker lies in an origin and that in a week: each is held to the whole
    class, since bounds within bounds would multiply.
    """

    def __init__(self, levels: "Sequence[Mapping[Group, np.ndarray]]") -> None:
        size = max(1, sum(int(members.sum()) for members in levels[0].values()))
        self._parts = {name: members.sum() / size for level in levels for name, members in level.items()}
        self._names, self._of = [list(level) for level in levels], [_numbered(level) for level in levels]
        self._taken, self._drawn = Counter[Group](), 0

    def may(self, group: Group) -> bool:
        return bool(self._taken[group] <= MOST_FAVOURED * self._parts[group] * (self._drawn + 1))

    def how_often(self, group: Group) -> float:
        """How often its clips were drawn, beside another group's."""
        return float(self._taken[group] / self._parts[group])

    def may_all(self, position: int) -> bool:
        """Whether each of the groups that a clip is in may be drawn from."""
        return all(self.may(names[of[position]]) for names, of in zip(self._names, self._of, strict=True) if of[position] >= 0)

    def took(self, position: int) -> None:
        self._drawn += 1
        self._taken.update(names[of[position]] for names, of in zip(self._names, self._of, strict=True) if of[position] >= 0)


class _Rotation:
    """Endless positions from several groups in turn (`weights` turns each), but for one that was favoured too much."""

    def __init__(self, groups: "Mapping[Group, _Kinds | _Rotation]", favour: _Favour, weights: Sequence[int] = ()) -> None:
        self._groups, self._favour, self._turn = groups, favour, 0
        self._turns = [group for group, weight in zip(groups, weights or [1] * len(groups), strict=True) for _ in range(weight)]

    def take(self) -> int:
        self._turn += 1
        order = [self._turns[(self._turn - 1 + ahead) % len(self._turns)] for ahead in range(len(self._turns))]
        return self._groups[next((group for group in order if self._favour.may(group)), min(order, key=self._favour.how_often))].take()


class _Kinds:
    """Endless positions of clips of several kinds, each of the kind that is most `wanted`, else of the one that came least, but none too often."""

    def __init__(self, queues: Mapping[str, _Queue], sizes: Mapping[str, int], wanted: Mapping[str, int]) -> None:
        self._queues, self._sizes, self._wanted = queues, sizes, wanted
        self._taken = dict.fromkeys(queues, 0)

    def take(self) -> int:
        rarest = min((self._taken[kind] + 1) / size for kind, size in self._sizes.items())  # times that a clip of it will have come
        allowed = [kind for kind, size in self._sizes.items() if self._taken[kind] / size <= MOST_OFTEN * rarest]
        kind = max(allowed, key=lambda kind: (self._wanted[kind], -self._taken[kind]))
        self._taken[kind] += 1
        return self._queues[kind].take()


def _groups(members: "np.ndarray", names: "np.ndarray") -> dict[str, "np.ndarray"]:
    return {str(name): members & (names == name) for name in sorted(set(names[members]))}


def _numbered(groups: "Mapping[Group, np.ndarray]") -> "np.ndarray":
    """Of each position the number of its group; -1 where it is in none."""
    found = np.full(len(next(iter(groups.values()))), -1, np.int32)
    for number, members in enumerate(groups.values()):
        found[members] = number
    return found


class _Table:
    """What of each clip says in whose place it may stand: arrays over the positions of `rows` (the training set's index)."""

    def __init__(self, rows: "pd.DataFrame") -> None:
        role = rows["role"].to_numpy()
        self.fake, self.hardened, self.forged = labels_of(rows), role == "hardened", (rows["forger"] != "").to_numpy()
        self.new = rows["new"].to_numpy(dtype=bool) & (role != "forged") if rows["new"].any() else role == "new"
        self.makers = np.where(rows["generator"] != "", rows["generator"], rows["forger"])
        self.media = rows["kind"].to_numpy(dtype=str)
        self.clip_ids = rows["clip_id"].astype(str).tolist()
        self.made_from: dict[str, list[int]] = {}  # of a real clip, the fakes that were made from it
        self.sources = rows["source_clip"].astype(str).tolist()
        for position in sorted(np.flatnonzero(self.fake & ~self.hardened & (rows["source_clip"] != "").to_numpy()).tolist(), key=self.clip_ids.__getitem__):
            self.made_from.setdefault(self.sources[position], []).append(position)
        fakes, collected = int((self.fake & ~self.hardened).sum()), int((self.fake & ~self.hardened & ~self.forged).sum())
        self.some_collected = collected > 0
        self.pair_every = 1 if collected < ALL_BUT_FORGED * fakes else FORGED_SHARE  # so often a fake stands beside the real that it was made from
        # so often a fake that was collected, unpaired, where pairs are the rule; 0: as they come
        self.alone_every = max(2, round(fakes / (MOST_FAVOURED * collected))) if collected and self.pair_every == 1 else 0

    def within(self, groups: "Mapping[Group, np.ndarray]", which: "np.ndarray") -> "dict[Group, np.ndarray]":
        """Each group in two, by whether `which` [N] holds."""
        return {(*outer, bool(is_it)): members & (which == is_it) for outer, members in groups.items() for is_it in (True, False)}

    def by_maker(self, groups: "Mapping[Group, np.ndarray]") -> "dict[Group, np.ndarray]":
        """Each group by who made its fakes."""
        return {(*outer, name): group for outer, members in groups.items() for name, group in _groups(members, self.makers).items()}


class _Pools:
    """Who comes next, for each place of a batch: real or fake, new or known, collected or hardened."""

    def __init__(self, table: _Table, order: "np.ndarray", seed: int) -> None:
        self._table, self._order, self._seed = table, order, seed
        self.lacking = Counter[str]()  # of each kind: reals drawn so far, less fakes
        # of each kind, for reals that are new or known: fakes that they shall answer, drawn without their own real, less reals drawn so far
        self.unanswered = {is_new: Counter[str]() for is_new in (True, False)}
        self._weeks = {is_fake: table.within({(): (table.fake == is_fake) & ~table.hardened}, table.new) for is_fake in (True, False)}
        self._origins = table.within(self._weeks[True], table.forged)
        self._made, came_in = table.by_maker(self._origins), table.by_maker({(): table.fake & ~table.forged & ~table.hardened})
        levels = [level for level in (self._weeks[True], self._origins, self._made, came_in) if level]
        self.favour = {True: _Favour(levels), False: _Favour([self._weeks[False]])}  # reals have no makers
        pools = {(is_new, is_fake): self._pool(is_new, is_fake) for is_new in (True, False) for is_fake in (True, False)}
        # a half without a class takes that class from the other half; a missing half leaves the whole batch to the other
        self.plain = {(is_new, is_fake): found or pools[not is_new, is_fake] for (is_new, is_fake), found in pools.items()}
        self.collected = self._in_turn({name: group for name, group in self._made.items() if not name[1]}, Counter()) if table.alone_every else None
        attacked = {is_fake: table.hardened & (table.fake == is_fake) for is_fake in (True, False)}
        both = all(members.any() for members in attacked.values())
        self.hardened = {is_fake: self._kinds(members, Counter()) for is_fake, members in attacked.items()} if both else {}

    def _pool(self, is_new: bool, is_fake: bool) -> _Rotation | _Kinds | None:
        """Clips of one class, of the new ones or the known; None where there are none."""
        members = self._weeks[is_fake][is_new,]
        if not members.any():
            return None
        if not is_fake:  # where none was collected, fakes make up for a kind alone: each real has one of its own
            return self._kinds(members, self.unanswered[is_new] if self._table.some_collected else Counter())
        parts: list[Group] = [(is_new, is_forged) for is_forged in (False, True) if self._origins[is_new, is_forged].any()]
        sides = {part: self._in_turn({name: group for name, group in self._made.items() if name[:2] == part}, self.lacking) for part in parts}
        return _Rotation(sides, self.favour[True], [FORGED_SHARE - 1, 1] if len(sides) == 2 else [1])

    def _in_turn(self, groups: "Mapping[Group, np.ndarray]", wanted: Mapping[str, int]) -> _Rotation:
        return _Rotation({name: self._kinds(group, wanted) for name, group in groups.items()}, self.favour[True])

    def _kinds(self, members: "np.ndarray", wanted: Mapping[str, int]) -> _Kinds:
        groups = _groups(members, self._table.media)
        queues = {kind: _Queue(self._order[group[self._order]], self._seed) for kind, group in groups.items()}
        return _Kinds(queues, {kind: int(group.sum()) for kind, group in groups.items()}, wanted)


class _Batches:
    """Batches of positions without end."""

    def __init__(self, table: _Table, pools: _Pools, batch: int, seed: int) -> None:
        self._table, self._pools, self._batch = table, pools, batch
        # Which real meets a fake of its own is left to chance: halves and kinds come in turn, and a second thing in turn keeps step with one of them.
        self._chance = np.random.default_rng([seed, 0, 1])  # no reshuffle of a queue has it
        self._halves = [True, False] if table.new.any() and not table.new.all() else [bool(table.new.all())]
        self._hardened_every = max(LEAST_BETWEEN, round(len(table.hardened) / table.hardened.sum())) if pools.hardened else 0
        self._turn, self._fakes = 0, 0  # the class that an odd batch begins with; fakes drawn, hardened ones apart
        self._places, self._came = Counter[tuple[bool, bool]](), Counter[int]()  # places by (new, fake); how often each fake came

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            chosen: list[int] = []
            for slot in range(self._batch):
                is_new, is_fake = self._halves[slot % len(self._halves)], bool((slot // len(self._halves) + self._turn) % 2)
                chosen.append(self._drawn(is_new, is_fake, chosen))
            self._turn += 1 if self._batch % (2 * len(self._halves)) else 0  # an odd batch gives the spare place to each class in turn
            yield self._in_turn(chosen)

    def _in_turn(self, chosen: Sequence[int]) -> list[int]:
        """The same clips, real and fake in turn, and next to a real a fake that was made from it.

        So every piece of a batch that is shown at once (micro_batch, a process's share) holds both classes: of one class alone batch norm takes away
        what tells it apart. The class of which there are more comes first, so that the end holds no more than two of it.
        """
        table, reals, alone = self._table, list[int](), list[int]()
        fakes, others = list[int](), [one for one in chosen if table.fake[one]]
        for real in (one for one in chosen if not table.fake[one]):
            made_from = next((fake for fake in others if table.sources[fake] == table.clip_ids[real]), None)
            if made_from is None:
                alone.append(real)
            else:
                others.remove(made_from)
                reals.append(real)
                fakes.append(made_from)
        more, fewer = sorted((reals + alone, fakes + others), key=len, reverse=True)
        return [one for both in zip_longest(more, fewer) for one in both if one is not None]

    def _drawn(self, is_new: bool, is_fake: bool, chosen: Sequence[int]) -> int:
        """The clip of one place, beside those that the batch has already."""
        self._places[is_new, is_fake] += 1
        if self._hardened_every and self._places[is_new, is_fake] % self._hardened_every == 0:
            return self._pools.hardened[is_fake].take()
        self._fakes += is_fake
        favour = self._pools.favour[is_fake]
        if not favour.may((is_new,)):
            is_new = not is_new
        position = self._fake(is_new, chosen) if is_fake else self._from_pool(is_new, False)
        favour.took(position)
        self._came[position] += is_fake
        kind = self._table.media[position]
        if self._table.some_collected:
            self._answer(position, kind, chosen)
        self._pools.lacking[kind] += -1 if is_fake else 1
        return position

    def _answer(self, position: int, kind: str, chosen: Sequence[int]) -> None:
        """A real counts as an answer; a fake without its real asks for one, of the new or of the known: in turn, kinds would keep step with these."""
        table = self._table
        reals = [one for one in chosen if not table.fake[one]]
        if not table.fake[position]:
            self._pools.unanswered[bool(table.new[position])][kind] -= 1
        elif table.sources[position] not in {table.clip_ids[one] for one in reals}:
            beside = reals[self._chance.integers(len(reals))] if reals else position
            self._pools.unanswered[bool(table.new[beside])][kind] += 1

    def _fake(self, is_new: bool, chosen: Sequence[int]) -> int:
        """A fake made from a real of the batch, where one is due and may come; else one in turn."""
        table = self._table
        if self._pools.collected is not None and self._fakes % table.alone_every == 0:
            return self._pools.collected.take()
        child = self._child(chosen) if not is_new or table.pair_every == 1 else None
        return self._from_pool(is_new, True) if child is None or not self._pools.favour[True].may_all(child) else child

    def _child(self, chosen: Sequence[int]) -> int | None:
        """One of the fakes that came least often of those made from a real of the batch, where a pair is due.

        Which one is left to chance: all reals' in one order, all of a batch would be one forger's.
        """
        table, there = self._table, set(chosen)
        reals = [position for position in chosen if table.clip_ids[position] in table.made_from]
        alone = [real for real in reals if there.isdisjoint(table.made_from[table.clip_ids[real]])]
        found = alone or (reals if table.pair_every > 1 else [])
        if not found or self._chance.integers(table.pair_every):
            return None
        if table.some_collected:
            lacking = self._pools.lacking
            most = max(lacking[table.media[one]] for one in found)
            found = [one for one in found if lacking[table.media[one]] == most]
        real = found[self._chance.integers(len(found))]
        children = [one for one in table.made_from[table.clip_ids[real]] if one not in there]
        fewest = min((self._came[one] for one in children), default=0)
        least = [one for one in children if self._came[one] == fewest]
        return least[self._chance.integers(len(least))] if least else None

    def _from_pool(self, is_new: bool, is_fake: bool) -> int:
        pool = self._pools.plain[is_new, is_fake]
        assert pool is not None  # both classes exist, so every pool found one to stand in
        return pool.take()


def balanced_batches(rows: "pd.DataFrame", batch: int, seed: int) -> Iterator[list[int]]:
    """Batches of positions of `rows` without end, the same for the same clips, seed and size.

    Raises TooLittleData without both classes: nothing can be learned from one.
    """
    table = _Table(rows)
    if not table.fake.any() or table.fake.all():
        raise TooLittleData(
            "There is nothing to train on.",
            why=f"the training set holds {int((~table.fake).sum())} real and {int(table.fake.sum())} fake clips; it needs both",
            next_step="Ingest the missing class, or switch forgers on so that fakes are made from the reals.",
        )
    order = np.array(epoch_order(rows, seed, 0), dtype=np.intp)
    return iter(_Batches(table, _Pools(table, order, seed), batch, seed))
