"""Find all 64-bit words within a few bits of others, without comparing each with each.

Multi-index hashing (Norouzi, Punjani and Fleet 2012): a word is cut into three parts. Two words that differ in at most r bits
differ in at most r // 3 bits in one of the parts, so only words that share a part so nearly are looked at. Of few words not all
bits of a part are needed to tell them apart. The answer is that of comparing all pairs.
"""

from functools import cache
from itertools import combinations

import numpy as np

PARTS = ((0, 21), (21, 21), (42, 22))  # (first bit, bits)
BLOCK = 1024  # queries at once; bounds the memory


class HashIndex:
    """Words [N] uint64, sorted by each of their parts: 20 bytes a word, of which there may be two thousand million. Building costs N log N and at most
    32 MB, a search little more than what it finds, up to some million words."""

    def __init__(self, words: np.ndarray) -> None:
        self.words = np.asarray(words, np.uint64)
        most = len(self.words).bit_length() + 2  # four and more values a word: it shares one with few others by chance
        self._parts = [(first, min(bits, most)) for first, bits in PARTS]
        self._orders: list[np.ndarray] = []
        self._starts: list[np.ndarray] = []  # where in the order the words with a value of the part begin
        for first, bits in self._parts:
            keys = _part(self.words, first, bits)
            self._orders.append(np.argsort(keys, kind="stable").astype(np.int32))
            self._starts.append(np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=1 << bits))]).astype(np.int32))

    def near(self, queries: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """All pairs at most `bits` apart, once each: places in `queries` [P] and places in the words [P], in order."""
        queries = np.asarray(queries, np.uint64)
        pairs = [self._block(queries[start : start + BLOCK], bits) + start * len(self.words) for start in range(0, len(queries), BLOCK)]
        found = np.concatenate([np.empty(0, np.int64), *pairs])
        return np.divmod(found, max(1, len(self.words)))

    def _block(self, queries: np.ndarray, bits: int) -> np.ndarray:
        """Pairs as one number each, query * N + word, sorted."""
        found = [np.empty(0, np.int64)]
        for (first, width), order, starts in zip(self._parts, self._orders, self._starts, strict=True):
            flips = _flips(width, bits // len(PARTS))
            wanted = (_part(queries, first, width)[:, None] ^ flips).ravel()
            low = starts[wanted].astype(np.int64)
            count = starts[wanted + 1] - low
            asking = np.repeat(np.repeat(np.arange(len(queries)), len(flips)), count)
            place = order[np.arange(len(asking)) + np.repeat(low - np.cumsum(count) + count, count)]
            close = np.bitwise_count(queries[asking] ^ self.words[place]) <= bits
            found.append(asking[close] * len(self.words) + place[close])
        return np.unique(np.concatenate(found))


def _part(words: np.ndarray, first: int, bits: int) -> np.ndarray:
    return ((words >> np.uint64(first)) & np.uint64((1 << bits) - 1)).astype(np.int64)


@cache
def _flips(width: int, most: int) -> np.ndarray:
    """Every pattern of `width` bits with at most `most` ones."""
    return np.array([sum(1 << bit for bit in chosen) for number in range(most + 1) for chosen in combinations(range(width), number)], np.int64)
