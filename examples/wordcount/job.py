"""The job on a cluster: shares the corpus, runs the stages, keeps the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .corpus import Corpus, split
from .index import InvertedIndex
from .progress import Snapshot
from .stages import Stages, remote_stages

# How often the display is renewed while nothing finishes.
REFRESH_S = 0.1


@dataclass(slots=True)
class Times:
    """Wall time of each step in seconds, in the order in which they ran."""

    steps: dict[str, float] = field(default_factory=dict)

    def measure(self, step: str, action: Callable[[], Any]) -> Any:
        start_s = time.perf_counter()
        result = action()
        self.steps[step] = time.perf_counter() - start_s
        return result

    @property
    def job_s(self) -> float:
        """From the shared corpus to the finished index."""
        return sum(self.steps[step] for step in ("share", "map and shuffle", "reduce", "collect"))


@dataclass(frozen=True, slots=True)
class JobResult:
    """The index, and what the actor knew at the end."""

    index: InvertedIndex
    progress: Snapshot


OnProgress = Callable[[Snapshot], None]


def run(
    api: Any, corpus: Corpus, maps: int, partitions: int, times: Times, on_progress: OnProgress
) -> JobResult:
    """Indexes the corpus on the cluster that ``api`` is connected to.

    maps: at most so many map tasks. partitions: so many reduce tasks.
    on_progress: called with a snapshot whenever something has happened.
    """
    stages = remote_stages(api)
    board = stages.board.remote()
    watch = Watch(api, board, on_progress)
    # The whole text is one object: every worker of the node maps it, nobody copies it.
    text, offsets = times.measure("share", lambda: (api.put(corpus.text), api.put(corpus.offsets)))
    ranges = split(corpus.offsets, maps)

    def map_all() -> list[list[Any]]:
        submit = stages.map_and_shuffle.options(num_returns=partitions).remote
        refs = [submit(text, offsets, first, end, partitions, board) for first, end in ranges]
        rows = [list(row) if partitions > 1 else [row] for row in refs]
        watch.until_ready([row[0] for row in rows])
        return rows

    rows = times.measure("map and shuffle", map_all)
    blocks = times.measure("reduce", lambda: _reduce_all(stages, board, rows, watch))
    index = InvertedIndex(times.measure("collect", lambda: api.get(blocks)))
    return JobResult(index, watch.show())


def _reduce_all(stages: Stages, board: Any, rows: list[list[Any]], watch: Watch) -> list[Any]:
    """One reduce task per partition, over that partition's block of every map task."""
    refs = [stages.reduce.remote(board, *column) for column in zip(*rows, strict=True)]
    watch.until_ready(refs)
    return refs


class Watch:
    """Waits for tasks and shows the progress meanwhile."""

    def __init__(self, api: Any, board: Any, on_progress: OnProgress) -> None:
        self._api = api
        self._board = board
        self._on_progress = on_progress

    def show(self) -> Snapshot:
        snapshot: Snapshot = self._api.get(self._board.snapshot.remote())
        self._on_progress(snapshot)
        return snapshot

    def until_ready(self, refs: list[Any]) -> None:
        """Returns when all are ready; raises the error of the first that is found to have failed."""
        pending = refs
        while pending:
            ready, pending = self._api.wait(pending, num_returns=1, timeout=REFRESH_S)
            self._api.get(ready)  # raises here, rather than after all the others have run
            self.show()
