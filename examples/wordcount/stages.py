"""The pure functions as tasks: what runs in workers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from .corpus import Offsets, Text
from .mapper import map_documents
from .progress import MAP, REDUCE, SHUFFLE, ProgressBoard, StageProgress
from .reducer import reduce_blocks
from .shuffler import Block, shuffle

# A report costs one actor call; a live display needs a few per second, not one per document.
REPORT_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Stages:
    """Remote functions, and the class of the actor."""

    map_and_shuffle: Any
    reduce: Any
    board: Any


def reads_in_place(text: Text) -> bool:
    """True when the array is a read-only view of memory that belongs to somebody else (the store)."""
    return not text.flags.owndata and not text.flags.writeable


class DocumentReports:
    """Sends what a map task has done to the board, now and then."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._pending = StageProgress()
        self._last_s = time.monotonic()

    def __call__(self, size_bytes: int) -> None:
        self._pending = self._pending.plus(StageProgress(documents=1, size_bytes=size_bytes))
        if time.monotonic() - self._last_s >= REPORT_EVERY_S:
            self.send()

    def send(self, rest: StageProgress | None = None) -> Any:
        """Sends what is pending, with ``rest`` added; returns the reference of the call."""
        done = self._pending if rest is None else self._pending.plus(rest)
        self._pending = StageProgress()
        self._last_s = time.monotonic()
        return self._board.add.remote(MAP, done)


def remote_stages(api: Any) -> Stages:
    """The stages for a runtime: ``aktis``, or a module with the same calls."""

    def map_and_shuffle(
        text: Text, offsets: Offsets, first: int, end: int, partitions: int, board: Any
    ) -> list[Block] | Block:
        start_s = time.perf_counter()
        reports = DocumentReports(board)
        mapped = map_documents(text, offsets, first, end, reports)
        mapped_s = time.perf_counter()
        words = sum(mapped.counts.values())
        in_place = int(reads_in_place(text))
        reports.send(StageProgress(tasks=1, words=words, busy_s=mapped_s - start_s, in_place=in_place))
        blocks = shuffle(mapped, partitions)
        done = StageProgress(tasks=1, words=len(mapped.counts), busy_s=time.perf_counter() - mapped_s)
        # Calls of one caller run in order, so when this last one has run the board knows all of this task.
        api.get(board.add.remote(SHUFFLE, done))
        return blocks if partitions > 1 else blocks[0]

    def reduce(board: Any, *blocks: Block) -> Block:
        start_s = time.perf_counter()
        reduced = reduce_blocks(blocks)
        done = StageProgress(tasks=1, words=len(reduced.words), busy_s=time.perf_counter() - start_s)
        api.get(board.add.remote(REDUCE, done))
        return reduced

    return Stages(api.remote(map_and_shuffle), api.remote(reduce), api.remote(num_cpus=0)(ProgressBoard))
