"""Shuffle: deals words to partitions, in a form that travels well."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .mapper import Mapped


@dataclass(slots=True)
class Block:
    """Words in ascending order, with their counts and documents.

    The documents of word ``i`` are ``documents[starts[i]:starts[i + 1]]``, ascending. Arrays rather than
    lists, because a store keeps them beside the pickle and a reader uses them in place.
    """

    words: list[bytes]
    counts: NDArray[np.int64]
    starts: NDArray[np.int64]
    documents: NDArray[np.uint32]


def make_block(counts: dict[bytes, int], documents: dict[bytes, list[int]]) -> Block:
    """A block of all words of ``counts``."""
    words = sorted(counts)
    starts = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum([len(documents[word]) for word in words], out=starts[1:])
    return Block(
        words,
        np.fromiter((counts[word] for word in words), np.int64, len(words)),
        starts,
        np.fromiter((number for word in words for number in documents[word]), np.uint32, int(starts[-1])),
    )


def partition_of(word: bytes, partitions: int) -> int:
    """Where a word belongs. The same in every process, which ``hash`` is not."""
    return crc32(word) % partitions


def shuffle(mapped: Mapped, partitions: int) -> list[Block]:
    """One block per partition."""
    counts: list[dict[bytes, int]] = [{} for _ in range(partitions)]
    for word, count in mapped.counts.items():
        counts[partition_of(word, partitions)][word] = count
    return [make_block(part, mapped.documents) for part in counts]
