"""Map, shuffle, reduce and index against the plain computation; each stage's own promises."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.wordcount import baseline
from examples.wordcount.baseline import WrongResultError
from examples.wordcount.corpus import Corpus, split
from examples.wordcount.index import InvertedIndex
from examples.wordcount.mapper import map_documents, words
from examples.wordcount.reducer import reduce_blocks
from examples.wordcount.shuffler import make_block, partition_of, shuffle

texts = st.lists(st.text("abAB_1 \n", max_size=30).map(str.encode), min_size=1, max_size=12)


def corpus_of(*documents: bytes) -> Corpus:
    offsets = np.cumsum([0, *map(len, documents)])
    text = np.frombuffer(b"".join(documents), dtype=np.uint8)
    return Corpus([f"{number}.py" for number in range(len(documents))], text, offsets)


def index_of(corpus: Corpus, maps: int = 3, partitions: int = 2) -> InvertedIndex:
    rows = [
        shuffle(map_documents(corpus.text, corpus.offsets, first, end), partitions)
        for first, end in split(corpus.offsets, maps)
    ]
    return InvertedIndex([reduce_blocks(column) for column in zip(*rows, strict=True)])


@given(texts, st.integers(1, 5), st.integers(1, 4))
def test_the_stages_together_equal_the_plain_computation(
    documents: list[bytes], maps: int, partitions: int
) -> None:
    corpus = corpus_of(*documents)
    baseline.verify(index_of(corpus, maps, partitions), baseline.compute(corpus))


def test_words_are_identifiers_in_lower_case() -> None:
    assert words(memoryview(b"def Foo_1(x): return 42, x.y")) == [
        b"def",
        b"foo_1",
        b"x",
        b"return",
        b"x",
        b"y",
    ]


def test_map_reports_every_document() -> None:
    corpus = corpus_of(b"aa", b"", b"b")
    sizes: list[int] = []
    map_documents(corpus.text, corpus.offsets, 1, 3, sizes.append)
    assert sizes == [0, 1]


def test_a_words_partition_is_the_same_in_every_process() -> None:
    program = "from examples.wordcount.shuffler import partition_of; print(partition_of(b'self', 1000))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(other.stdout) == partition_of(b"self", 1000)


def test_shuffle_puts_each_word_in_one_block() -> None:
    corpus = corpus_of(b"a b c d e f a")
    blocks = shuffle(map_documents(corpus.text, corpus.offsets, 0, 1), 3)
    assert sorted(word for block in blocks for word in block.words) == [b"a", b"b", b"c", b"d", b"e", b"f"]
    for number, block in enumerate(blocks):
        assert all(partition_of(word, 3) == number for word in block.words)


def test_reduce_appends_documents_in_order() -> None:
    first = make_block({b"a": 3, b"b": 1}, {b"a": [0, 1], b"b": [1]})
    second = make_block({b"a": 1, b"c": 2}, {b"a": [5], b"c": [4, 6]})
    merged = reduce_blocks([first, second])
    assert merged.words == [b"a", b"b", b"c"]
    assert merged.counts.tolist() == [4, 1, 2]
    assert merged.starts.tolist() == [0, 3, 4, 6]
    assert merged.documents.tolist() == [0, 1, 5, 1, 4, 6]


def test_index_answers() -> None:
    index = index_of(corpus_of(b"spam eggs spam", b"eggs", b"spam ham"))
    assert index.count(b"spam") == 3
    assert index.count(b"nothing") == 0
    assert index.documents(b"spam").tolist() == [0, 2]
    assert index.documents(b"nothing").tolist() == []
    assert index.search(b"spam", b"eggs").tolist() == [0]
    assert index.search(b"spam", b"nothing").tolist() == []
    assert index.search().tolist() == []
    assert index.top(2) == [(b"spam", 3), (b"eggs", 2)]
    assert (index.distinct_words, index.total_words) == (3, 6)


def test_verify_names_what_differs() -> None:
    corpus = corpus_of(b"a a b", b"b")
    expected = baseline.compute(corpus)
    index = index_of(corpus, maps=1, partitions=1)
    (block,) = index.blocks
    with pytest.raises(WrongResultError, match=r"b'a' counted 3 times, a single process finds 2"):
        baseline.verify(InvertedIndex([replace(block, counts=block.counts + 1)]), expected)
    with pytest.raises(WrongResultError, match="b'a': not the documents"):
        baseline.verify(InvertedIndex([replace(block, documents=block.documents + 1)]), expected)
    with pytest.raises(WrongResultError, match="1 distinct words, but a single process finds 2"):
        baseline.verify(InvertedIndex([make_block({b"a": 2}, {b"a": [0]})]), expected)
