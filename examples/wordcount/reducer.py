"""Reduce: merges the blocks of one partition."""

from __future__ import annotations

from collections.abc import Sequence

from .shuffler import Block, make_block


def reduce_blocks(blocks: Sequence[Block]) -> Block:
    """One block of all words.

    The blocks come in the order of their documents (as the ranges of ``corpus.split`` do), so that the
    documents of a word stay ascending by being appended.
    """
    counts: dict[bytes, int] = {}
    documents: dict[bytes, list[int]] = {}
    for block in blocks:
        starts = block.starts.tolist()
        numbers = block.documents.tolist()
        for place, (word, count) in enumerate(zip(block.words, block.counts.tolist(), strict=True)):
            found = numbers[starts[place] : starts[place + 1]]
            if word in counts:
                counts[word] += count
                documents[word] += found
            else:
                counts[word] = count
                documents[word] = found
    return make_block(counts, documents)
