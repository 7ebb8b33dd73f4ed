"""Which known files may show what a new one shows: those that share perceptual words with it, the most telling first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.fingerprint import mirrored
from pipelines.hashindex import HashIndex

ENOUGH_WORDS = 4  # shared by a crop of half a video at the worst; or else
ENOUGH_RARITY = 0.1  # fewer, but words that hardly anybody has: the sum of one over the number of files that have each


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The words of files [W] uint64 each, to be asked for by words. A file's number is its place among them.

    It grows by pieces, so that a few new files beside a million cost little: a piece takes in those before it that are no larger, and so a word is
    sorted some twenty times at the most, and a search looks into as few pieces (the logarithmic method of Bentley and Saxe 1980).
    """

    files: int = 0
    pieces: tuple[tuple[np.ndarray, HashIndex], ...] = ()  # whose each word is, and the words

    def plus(self, signatures: Sequence[np.ndarray]) -> "Neighbours":
        """These files and more, numbered on. This one stays as it is."""
        if not signatures:
            return self
        files, pieces = self.files + len(signatures), list(self.pieces)
        owners = np.repeat(np.arange(self.files, files, dtype=np.int32), [len(words) for words in signatures])
        words = np.concatenate([np.empty(0, np.uint64), *signatures])
        while pieces and len(pieces[-1][0]) <= len(owners):
            before, index = pieces.pop()
            owners, words = np.concatenate([before, owners]), np.concatenate([index.words, words])
        return Neighbours(files, (*pieces, (owners, HashIndex(words))))

    def of(self, words: np.ndarray, before: int, bits: int) -> list[int]:
        """Files with a number below `before` that share enough words with these, or with their mirror images, within `bits`; the likeliest first."""
        both = np.concatenate([words, mirrored(words)])
        near = [(owners, *index.near(both, bits)) for owners, index in self.pieces]
        asking = np.concatenate([np.empty(0, np.int64), *(asking for _, asking, _ in near)])
        owners = np.concatenate([np.empty(0, np.int64), *(owners[found] for owners, _, found in near)])
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
