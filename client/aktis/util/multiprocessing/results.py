"""What the asynchronous calls of a pool return."""

import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import TimeoutError as PoolTimeoutError
from typing import Any

Outcome = tuple[bool, Any]
"""Whether it went well, and the value or the exception."""


class _Latch:
    """A threading.Event that costs less where it is set before anybody waits."""

    __slots__ = ("_lock", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let all through, now and later. Once."""
        self.is_set = True
        self._lock.release()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return whether it was set within a time; None waits as long as it takes."""
        if self.is_set:
            return True
        if not self._lock.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s)):
            return False
        self._lock.release()  # for the next one
        return True


class AsyncResult:
    """The result of `Pool.apply_async`, `Pool.map_async` or `Pool.starmap_async`."""

    def __init__(
        self,
        pool: object,
        parts: int | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        """Made by pools; ``parts``: how many lists the value is put together of, None: it is one value."""
        self._pool: object = pool  # a pool lives until its results are there
        self._callback = callback
        self._error_callback = error_callback
        self._joined = parts is not None
        self._values: list[Any] = [None] * (1 if parts is None else parts)
        self._left = len(self._values)
        self._error: BaseException | None = None
        self._done = _Latch()
        self.help: Callable[[float | None], None] | None = None
        """Given a time in seconds, may wait so long for the answer, and complete this."""
        if self._left == 0:
            self._complete()

    def get(self, timeout: float | None = None) -> Any:
        """Return the value when it is there.

        Raises:
            multiprocessing.TimeoutError: it was not there in time.
            Exception: what the function raised.
        """
        if not self._done.is_set and not self._wait(timeout):
            raise PoolTimeoutError(f"the result was not ready within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call is done, or until ``timeout`` seconds have passed."""
        self._wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        help_with_it = self.help  # which goes when the call is done
        if help_with_it is None:
            return self._done.wait(timeout)
        if timeout is None:
            help_with_it(None)
            return self._done.wait()
        due_s = time.monotonic() + timeout
        help_with_it(max(0.0, timeout))
        return self._done.wait(max(0.0, due_s - time.monotonic()))

    def ready(self) -> bool:
        """Whether the call is done."""
        return self._done.is_set

    def successful(self) -> bool:
        """Whether the call was done without an exception.

        Raises:
            ValueError: it is not done.
        """
        if not self._done.is_set:
            raise ValueError(f"{self!r} is not ready")
        return self._error is None

    def succeed(self, part: int, value: Any) -> None:
        """A part is there. Called by one thread."""
        self._values[part] = value
        self._count()

    def fail(self, error: BaseException) -> None:
        """A part failed; the first error is the one that is raised, when all parts are done."""
        if self._error is None:
            self._error = error
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._complete()

    def _complete(self) -> None:
        try:
            if self._error is None and self._callback is not None:
                self._callback(self._value())
            elif self._error is not None and self._error_callback is not None:
                self._error_callback(self._error)
        finally:
            self._pool = self._callback = self._error_callback = self.help = None
            self._done.set()

    def _value(self) -> Any:
        if not self._joined:
            return self._values[0]
        return [value for part in self._values for value in part]


class IMapIterator:
    """The iterator of `Pool.imap` and `Pool.imap_unordered`. For one thread, beside one in `Pool.join`.

    Chunks of the source are submitted as results are taken, so that it may be endless. An error is raised in
    the place of the chunk that failed, and the iteration can go on after it.
    """

    def __init__(
        self,
        pool: object,
        submit: Iterator[Callable[..., None]],
        under_way: int,
        source_ended: Callable[[], None],
        *,
        ordered: bool,
    ) -> None:
        """Made by pools.

        Args:
            pool: Is kept alive.
            submit: Each element submits one chunk when it is called with what is to be told its outcome.
            under_way: How many chunks are submitted ahead.
            source_ended: Called once, when there is nothing more to submit or nobody has the iterator.
            ordered: Whether results come in the order of the source.
        """
        self._pool: object = pool
        self._submit = submit
        self._ordered = ordered
        self._expected: deque[queue.SimpleQueue[Outcome]] = deque()
        self._any: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._buffer: deque[Any] = deque()
        self._source_error: BaseException | None = None
        self._submitting = threading.RLock()  # a source may take results of this very iterator
        self._end_source = weakref.finalize(self, source_ended)
        self._end_source.atexit = False
        for _ in range(under_way):
            self.submit_next()

    def __iter__(self) -> "IMapIterator":
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Raises:
            multiprocessing.TimeoutError: it was not there within ``timeout`` seconds.
            StopIteration: there are no more.
            Exception: what the function, or the source, raised.
        """
        while not self._buffer:
            if not self._expected:
                self._finish()
            try:
                went_well, value = self._expected[0].get(timeout=timeout)
            except queue.Empty:
                raise PoolTimeoutError(f"the next result was not ready within {timeout} s") from None
            self._expected.popleft()
            self.submit_next()
            if not went_well:
                raise value
            self._buffer.extend(value)
        return self._buffer.popleft()

    def _finish(self) -> None:
        self._pool = None
        error, self._source_error = self._source_error, None
        if error is not None:
            raise error
        raise StopIteration

    def submit_next(self) -> bool:
        """Submit the next chunk of the source; return False when there is none."""
        with self._submitting:
            try:
                submit = next(self._submit, None)
            except Exception as error:
                self._source_error = error
                submit = None
            if submit is None:
                self._end_source()
                return False
            outcome: queue.SimpleQueue[Outcome] = queue.SimpleQueue() if self._ordered else self._any
            self._expected.append(outcome)
            submit(outcome.put)
            return True
