"""The result: how often each word occurs, and in which documents."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .shuffler import Block, partition_of

NO_DOCUMENTS: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class InvertedIndex:
    """One reduced block per partition; a word is looked up in the block of its partition."""

    blocks: list[Block]

    def _place(self, word: bytes) -> tuple[Block, int] | None:
        """The block and the position of a word, or None when it does not occur."""
        block = self.blocks[partition_of(word, len(self.blocks))]
        place = bisect_left(block.words, word)
        if place < len(block.words) and block.words[place] == word:
            return block, place
        return None

    def count(self, word: bytes) -> int:
        """How often the word occurs; words are in lower case."""
        found = self._place(word)
        return int(found[0].counts[found[1]]) if found else 0

    def documents(self, word: bytes) -> NDArray[np.uint32]:
        """The numbers of the documents with the word, ascending."""
        found = self._place(word)
        if found is None:
            return NO_DOCUMENTS
        block, place = found
        return block.documents[block.starts[place] : block.starts[place + 1]]

    def search(self, *words: bytes) -> NDArray[np.uint32]:
        """The numbers of the documents that contain all the words, ascending; none for no words."""
        if not words:
            return NO_DOCUMENTS
        result = self.documents(words[0])
        for word in words[1:]:
            result = np.intersect1d(result, self.documents(word), assume_unique=True)
        return result

    def top(self, number: int) -> list[tuple[bytes, int]]:
        """The most frequent words with their counts; equal counts in the order of the words."""
        return heapq.nsmallest(number, self.counts(), key=lambda pair: (-pair[1], pair[0]))

    def counts(self) -> Iterator[tuple[bytes, int]]:
        """All words with their counts, in no order."""
        for block in self.blocks:
            yield from zip(block.words, block.counts.tolist(), strict=True)

    @property
    def distinct_words(self) -> int:
        return sum(len(block.words) for block in self.blocks)

    @property
    def total_words(self) -> int:
        return sum(int(block.counts.sum()) for block in self.blocks)
