"""The writer thread: the only one that touches a backend, and where commits are grouped.

The event loop submits batches; the thread takes everything that is waiting and commits it as one step, so a
burst costs one fsync. While that runs the next burst gathers. Reads wait in the same line, so a read sees
every write that was submitted before it.

A step that fails is tried again (batches are idempotent) with a growing delay within a time limit; then, or
when the storage has a newer owner, the writer is broken for good: the state in memory is ahead of what is
stored and only a new process can find back to it.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from aktisd.gcs.storage.interface import FencedError, Storage, StorageError, Table, Writes

RETRY_FIRST_DELAY_S = 0.05
RETRY_MAX_DELAY_S = 1.0
JOIN_TIMEOUT_S = 60.0

T = TypeVar("T")
Done = Callable[[StorageError | None], None]
GotValue = Callable[[bytes | None, StorageError | None], None]


@dataclass(slots=True)
class _Commit:
    writes: Writes
    done: Done


@dataclass(slots=True)
class _Read:
    table: Table
    key: bytes
    done: GotValue


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """Counters since the start."""

    commits: int
    batches: int
    rows: int
    retries: int
    commit_seconds: float


@dataclass(slots=True)
class _Counters:
    commits: int = 0
    batches: int = 0
    rows: int = 0
    retries: int = 0
    commit_seconds: float = 0.0


class StorageWriter:
    """Asynchronous front of a backend. Methods are called and callbacks run on the event loop.

    Args:
        storage: opened by `start`, closed by `stop`.
        retry_for_s: how long a failing step is tried again.
    """

    def __init__(self, storage: Storage, *, retry_for_s: float = 10.0) -> None:
        self._storage = storage
        self._retry_for_s = retry_for_s
        self._condition = threading.Condition()
        self._queue: deque[_Commit | _Read] = (
            deque()
        )  # guarded by _condition; bounded by Limits.unwritten_bytes
        self._stopping = False  # guarded by _condition
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._broken: StorageError | None = None  # written by the thread only
        self._counters = _Counters()

    async def start(self, load: Callable[[Storage, int], T]) -> T:
        """Open the storage on the thread and return ``load(storage, term)``, which runs there as well.

        Raises:
            StorageError: it could not be opened or read.
        """
        self._loop = asyncio.get_running_loop()
        opened: Future[T] = Future()
        self._thread = threading.Thread(
            target=self._run,
            args=(lambda: load(self._storage, self._storage.open()), opened),
            name="gcs-storage",
        )
        self._thread.start()
        return await asyncio.wrap_future(opened)

    def commit(self, writes: Writes, done: Done) -> None:
        """Store a batch, in the order of calls; ``done`` gets ``None`` when it is durable."""
        self._put(_Commit(writes, done))

    def read(self, table: Table, key: bytes, done: GotValue) -> None:
        """Read one value as it is after every batch submitted so far."""
        self._put(_Read(table, key, done))

    async def stop(self) -> None:
        """Finish what was submitted and close the storage."""
        if self._thread is None:
            return
        with self._condition:
            self._stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join, JOIN_TIMEOUT_S)

    def statistics(self) -> WriterStatistics:
        """Return the counters; they may be of slightly different moments."""
        counters = self._counters
        return WriterStatistics(
            counters.commits, counters.batches, counters.rows, counters.retries, counters.commit_seconds
        )

    def _put(self, item: _Commit | _Read) -> None:
        with self._condition:
            self._queue.append(item)
            self._condition.notify()

    # ---- on the thread ----

    def _run(self, opening: Callable[[], T], opened: "Future[T]") -> None:
        try:
            result = opening()
        except BaseException as error:
            self._storage.close()
            opened.set_exception(error)
            return
        opened.set_result(result)
        try:
            while items := self._take():
                self._serve(items)
        finally:
            self._storage.close()

    def _take(self) -> list[_Commit | _Read]:
        """Wait for work; an empty list ends the thread."""
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._stopping)
            items = list(self._queue)
            self._queue.clear()
            return items

    def _serve(self, items: list[_Commit | _Read]) -> None:
        finished: list[Callable[[], None]] = []
        group: list[_Commit] = []
        for item in items:
            if isinstance(item, _Commit):
                group.append(item)
            else:
                self._commit_group(group, finished)
                group = []
                self._read_one(item, finished)
        self._commit_group(group, finished)
        self._deliver(finished)

    def _commit_group(self, group: list[_Commit], finished: list[Callable[[], None]]) -> None:
        if not group:
            return
        writes = dict(group[0].writes)
        for commit in group[1:]:
            writes.update(commit.writes)
        started = time.monotonic()
        error = self._attempt(lambda: self._storage.commit(writes))[1]
        self._counters.commit_seconds += time.monotonic() - started
        self._counters.commits += 1
        self._counters.batches += len(group)
        self._counters.rows += len(writes)
        finished.extend(_bind(commit.done, error) for commit in group)

    def _read_one(self, item: _Read, finished: list[Callable[[], None]]) -> None:
        value, error = self._attempt(lambda: self._storage.get(item.table, item.key))
        finished.append(lambda: item.done(value, error))

    def _attempt(self, step: Callable[[], T]) -> tuple[T | None, StorageError | None]:
        """Run a step, again while it fails and there is time; afterwards the writer is broken."""
        deadline = time.monotonic() + self._retry_for_s
        delay_s = RETRY_FIRST_DELAY_S
        while self._broken is None:
            try:
                return step(), None
            except FencedError as error:
                self._broken = error
            except StorageError as error:
                if time.monotonic() + delay_s > deadline:
                    self._broken = error
                    break
                self._counters.retries += 1
                time.sleep(delay_s)  # the backend's fault cannot be waited for by an event
                delay_s = min(2 * delay_s, RETRY_MAX_DELAY_S)
            except Exception as error:
                self._broken = StorageError(
                    f"unexpected {type(error).__name__} in the storage backend: {error}"
                )
        return None, self._broken

    def _deliver(self, finished: list[Callable[[], None]]) -> None:
        def run() -> None:
            for callback in finished:
                callback()

        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:
            # The loop is closed: the process is going down and nobody waits for the answers.
            return


def _bind(done: Done, error: StorageError | None) -> Callable[[], None]:
    return lambda: done(error)
