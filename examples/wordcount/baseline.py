"""The same answer from one process with plain dictionaries, to check the cluster's against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .corpus import Corpus
from .index import InvertedIndex
from .mapper import words


class WrongResultError(Exception):
    """The index differs from the single-process result; the message names a word that differs."""


@dataclass(slots=True)
class Baseline:
    """Count and documents of every word."""

    counts: dict[bytes, int] = field(default_factory=dict)
    documents: dict[bytes, list[int]] = field(default_factory=dict)


def compute(corpus: Corpus, on_document: Callable[[int], None] | None = None) -> Baseline:
    """One pass over all documents; calls ``on_document(size_bytes)`` after each."""
    result = Baseline()
    view = corpus.text.data
    for document in range(len(corpus.names)):
        start, stop = int(corpus.offsets[document]), int(corpus.offsets[document + 1])
        for word in words(view[start:stop]):
            result.counts[word] = result.counts.get(word, 0) + 1
            seen = result.documents.setdefault(word, [])
            if not seen or seen[-1] != document:
                seen.append(document)
        if on_document is not None:
            on_document(stop - start)
    return result


def verify(index: InvertedIndex, expected: Baseline) -> None:
    """Raises ``WrongResultError`` unless exactly the expected words are there, with counts and documents."""
    if index.distinct_words != len(expected.counts):
        raise WrongResultError(
            f"{index.distinct_words} distinct words, but a single process finds {len(expected.counts)}"
        )
    for word, count in expected.counts.items():
        if index.count(word) != count:
            raise WrongResultError(
                f"{word!r} counted {index.count(word)} times, a single process finds {count}"
            )
        if index.documents(word).tolist() != expected.documents[word]:
            raise WrongResultError(f"{word!r}: not the documents that a single process finds")
