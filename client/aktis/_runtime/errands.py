"""Calls that may take long, off the threads that must not wait: the service thread and user code.

A session has several kinds, each with threads of its own, because what waits for one thing must not hold up
what another waits for: see `aktis._runtime.session.Session`. Nothing that is run here waits for a task, an
object or an actor, which may take for ever: that is what `aktis._runtime.refs.Watchers` is for.
"""

import collections
import contextlib
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Final

MAX_THREADS: Final = 4
MAX_QUEUED: Final = 100_000

Errand = Callable[[], object]


class Errands:
    """A few threads that exist only while there is something to do. Any thread may call."""

    def __init__(
        self, name: str = "errand", *, max_threads: int = MAX_THREADS, max_queued: int = MAX_QUEUED
    ) -> None:
        """Start nothing yet; ``name`` is for the names of the threads. With one thread the order is kept."""
        self._name = name
        self._max_threads = max_threads
        self._max_queued = max_queued
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._queue: collections.deque[Errand] = collections.deque()
        self._threads = 0
        self._closed = False

    def run(self, errand: Errand) -> bool:
        """Do ``errand`` soon on a thread of ours: True. False after `close`: it is dropped.

        Raises:
            RuntimeError: too many wait already.
        """
        with self._lock:
            if self._closed:
                return False
            if len(self._queue) >= self._max_queued:
                raise RuntimeError(
                    f"{self._max_queued} calls of the kind {self._name!r} are waiting already: what they "
                    "need (the GCS, the raylet, a callback of yours) does not keep up"
                )
            self._queue.append(errand)
            if self._threads >= self._max_threads:
                return True
            self._threads += 1
        try:
            threading.Thread(target=self._work, name=f"aktis-{self._name}", daemon=True).start()
        except BaseException:
            with self._lock:
                self._threads -= 1
                with contextlib.suppress(ValueError):  # another thread has it
                    self._queue.remove(errand)
            raise
        return True

    def close(self) -> list[Errand]:
        """Take nothing more; return what has not begun and will not."""
        with self._lock:
            self._closed = True
            dropped = list(self._queue)
            self._queue.clear()
            return dropped

    def finish(self, timeout_s: float) -> None:
        """Take nothing more, and wait so long for what is there; after `close` only for what has begun."""
        with self._lock:
            self._closed = True
            self._idle.wait_for(lambda: self._threads == 0, timeout_s)
            self._queue.clear()

    def _work(self) -> None:
        while (errand := self._next()) is not None:
            try:
                errand()
            except BaseException:  # also of a user's: this thread goes on
                if not self._closed:
                    print(f"aktis: an internal call failed:\n{traceback.format_exc()}", file=sys.stderr)
            del errand  # with what it refers to, before `finish` is told that nothing runs any more

    def _next(self) -> Errand | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._threads -= 1
            self._idle.notify_all()
            return None
