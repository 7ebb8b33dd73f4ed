"""Which known files may show what a new one shows: those that share perceptual words with it, the most telling first."""

from collections.abc import Sequence

import numpy as np

from pipelines.fingerprint import mirrored
from pipelines.hashindex import HashIndex

ENOUGH_WORDS = 4  # shared by a crop of half a video at the worst; or else
ENOUGH_RARITY = 0.1  # fewer, but words that hardly anybody has: the sum of one over the number of files that have each


class Neighbours:
    """The words of files [W] uint64 each, to be asked for by words. A file's number is its place in the list."""

    def __init__(self, signatures: Sequence[np.ndarray]) -> None:
        self.files = len(signatures)
        self._owners = np.repeat(np.arange(self.files, dtype=np.int32), [len(words) for words in signatures])
        self._index = HashIndex(np.concatenate([np.empty(0, np.uint64), *signatures]))

    def of(self, words: np.ndarray, before: int, bits: int) -> list[int]:
        """Files with a number below `before` that share enough words with these, or with their mirror images, within `bits`; the likeliest first."""
        asking, found = self._index.near(np.concatenate([words, mirrored(words)]), bits)
        owners = self._owners[found]
        known = owners < before
        shared = np.unique(asking[known] % max(1, len(words)) * self.files + owners[known])  # asking is int64, and so is this
        word, owner = np.divmod(shared, max(1, self.files))
        rarity = np.bincount(owner, weights=1 / np.bincount(word)[word] if len(word) else None)
        enough = np.nonzero((np.bincount(owner) >= ENOUGH_WORDS) | (rarity >= ENOUGH_RARITY))[0]
        return [int(number) for number in enough[np.argsort(-rarity[enough], kind="stable")]]


def shared_words(ours: np.ndarray, theirs: np.ndarray, bits: int) -> tuple[int, int]:
    """How many of our words [N] the others [M] have within `bits`: as they are, and all mirrored."""
    plain, turned = (int((np.bitwise_count(words[:, None] ^ theirs).min(1) <= bits).sum()) for words in (ours, mirrored(ours)))
    return plain, turned
