"""Calls that may take long, off the threads that must not wait: the service thread and user code."""

import collections
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Final

MAX_THREADS: Final = 4
MAX_QUEUED: Final = 100_000

Errand = Callable[[], None]


class Errands:
    """A few threads that exist only while there is something to do. Any thread may call."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._queue: collections.deque[Errand] = collections.deque()
        self._threads = 0
        self._closed = False

    def run(self, errand: Errand) -> None:
        """Do ``errand`` soon on a thread of ours; after `close` it is dropped.

        Raises:
            RuntimeError: too many wait already.
        """
        with self._lock:
            if self._closed:
                return
            if len(self._queue) >= MAX_QUEUED:
                raise RuntimeError(
                    f"{MAX_QUEUED} control calls are waiting already: the GCS does not keep up"
                )
            self._queue.append(errand)
            if self._threads >= MAX_THREADS:
                return
            self._threads += 1
        threading.Thread(target=self._work, name="aktis-errand", daemon=True).start()

    def close(self) -> None:
        """Drop what has not begun."""
        with self._lock:
            self._closed = True
            self._queue.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                errand = self._queue.popleft()
            try:
                errand()
            except Exception:
                if not self._closed:
                    print(f"aktis: an internal call failed:\n{traceback.format_exc()}", file=sys.stderr)
