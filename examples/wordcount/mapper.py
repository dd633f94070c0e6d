"""Map: the words of each document."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from .corpus import Offsets, Text

WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Mapped:
    """What a range of documents contains: how often each word occurs, and in which documents (ascending)."""

    counts: dict[bytes, int] = field(default_factory=dict)
    documents: dict[bytes, list[int]] = field(default_factory=dict)


def words(text: memoryview) -> list[bytes]:
    """The words of a text in lower case. The text is scanned where it lies; only its words are copied."""
    return [word.lower() for word in WORD.findall(text)]


def map_documents(
    text: Text, offsets: Offsets, first: int, end: int, on_document: Callable[[int], None] | None = None
) -> Mapped:
    """Maps documents ``first`` to ``end - 1``; calls ``on_document(size_bytes)`` after each."""
    mapped = Mapped()
    view = text.data
    bounds = offsets[first : end + 1].tolist()
    for document, (start, stop) in enumerate(pairwise(bounds), first):
        for word, count in Counter(words(view[start:stop])).items():
            if word in mapped.counts:
                mapped.counts[word] += count
                mapped.documents[word].append(document)
            else:
                mapped.counts[word] = count
                mapped.documents[word] = [document]
        if on_document is not None:
            on_document(stop - start)
    return mapped
