"""Work dealt out to actors that already exist: each has one call at a time, the others wait in a line."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import aktis

Call = Callable[[Any, Any], Any]


@dataclass(slots=True, eq=False)
class _Running:
    """One call that an actor of the pool has been given, or one that could not be made."""

    index: int
    ref: Any
    actor: Any
    error: Exception | None = None
    """What ``fn`` has raised; then there is neither a reference nor an actor."""


class ActorPool:
    """Deals calls to a fixed set of actors. Belongs to the thread that uses it.

    An actor is *idle* or has exactly one call; what is submitted beyond that waits in order. A call keeps its
    actor until its result has been fetched from the pool.

    Example:
        >>> @aktis.remote
        ... class Doubler:
        ...     def double(self, value):
        ...         return 2 * value
        >>> pool = ActorPool([Doubler.remote(), Doubler.remote()])
        >>> list(pool.map(lambda actor, value: actor.double.remote(value), [1, 2, 3]))
        [2, 4, 6]
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        """Take the handles of the actors to use."""
        self._idle: deque[Any] = deque(actors)
        self._running: dict[int, _Running] = {}  # by index, so the oldest comes first
        self._waiting: deque[tuple[Call, Any]] = deque()
        self._next_index = 0
        self._unordered = False

    def map(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """Call ``fn(actor, value)`` for every value; return an iterator of the results in order.

        The calls are submitted now, not when the iterator is used. Results of earlier calls that nobody has
        fetched are discarded.
        """
        self._begin(fn, values)
        return self._drain(self.get_next)

    def map_unordered(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """Like `map`, but the results come as they are finished."""
        self._begin(fn, values)
        return self._drain(self.get_next_unordered)

    def submit(self, fn: Call, value: Any) -> None:
        """Schedule ``fn(actor, value)``, which calls a method of the actor and returns the reference."""
        if self._idle:
            self._start(fn, value)
        else:
            self._waiting.append((fn, value))

    def has_next(self) -> bool:
        """Whether a result is there or to come."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in the order of submission; its actor goes on with what waits.

        Args:
            timeout: Seconds to wait at most.
            ignore_if_timedout: Give the result up when the time is up, so that the next call is for the one
                after it.

        Raises:
            StopIteration: there is nothing more to come.
            TimeoutError: the result was not there in time.
            ValueError: results have been fetched out of order, and some are still to come.
            Exception: what the call raised, or ``fn`` when it was to make the call after others.
        """
        self._require_next()
        if self._unordered:
            raise ValueError(
                "get_next() cannot follow get_next_unordered() while results are to come: their order is lost"
            )
        oldest = next(iter(self._running.values()))
        ready = oldest.error is not None or aktis.wait([oldest.ref], timeout=timeout)[0]
        return self._take(oldest, bool(ready), timeout, ignore_if_timedout)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return any result as soon as one is there; its actor goes on with what waits.

        Arguments and errors as in `get_next`; what is given up after ``timeout`` is the oldest call.
        """
        self._require_next()
        running = list(self._running.values())
        finished = [call for call in running if call.error is not None]
        if not finished:
            ready, _ = aktis.wait([call.ref for call in running], num_returns=1, timeout=timeout)
            finished = [call for call in running if call.ref in ready]
        if finished:
            self._unordered = True
        return self._take((finished or running)[0], bool(finished), timeout, ignore_if_timedout)

    def has_free(self) -> bool:
        """Whether an actor has nothing to do."""
        return bool(self._idle)

    def pop_idle(self) -> Any:
        """Take an idle actor out of the pool and return it; None when there is none."""
        return self._idle.popleft() if self._idle else None

    def push(self, actor: Any) -> None:
        """Add an actor.

        Raises:
            ValueError: it is in the pool already.
        """
        if actor in self._idle or any(call.actor == actor for call in self._running.values()):
            raise ValueError(f"{actor!r} is in this pool already")
        self._release(actor)

    def _begin(self, fn: Call, values: Iterable[Any]) -> None:
        self._waiting.clear()
        for call in list(self._running.values()):
            self._forget(call)
        self._unordered = False
        for value in values:
            self.submit(fn, value)

    def _drain(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def _start(self, fn: Call, value: Any) -> None:
        actor = self._idle.popleft()
        try:
            ref = fn(actor, value)
        except BaseException:
            self._idle.appendleft(actor)
            raise
        self._add(ref, actor)

    def _add(self, ref: Any, actor: Any, error: Exception | None = None) -> None:
        self._running[self._next_index] = _Running(self._next_index, ref, actor, error)
        self._next_index += 1

    def _release(self, actor: Any) -> None:
        self._idle.append(actor)
        while self._idle and self._waiting:
            try:
                self._start(*self._waiting.popleft())
            except Exception as error:  # who asks for another result now is not to blame: said in its turn
                self._add(None, None, error)

    def _forget(self, call: _Running) -> None:
        del self._running[call.index]
        if call.error is None:
            self._release(call.actor)

    def _require_next(self) -> None:
        if not self._running:
            raise StopIteration("no more results: everything that was submitted has been fetched")

    def _take(self, call: _Running, ready: bool, timeout: float | None, ignore_if_timedout: bool) -> Any:
        if not ready and not ignore_if_timedout:
            raise TimeoutError(f"no result was ready within {timeout} s")
        self._forget(call)
        if not self._running:
            self._unordered = False
        if call.error is not None:
            raise call.error
        if not ready:
            raise TimeoutError(f"no result was ready within {timeout} s; call {call.index} is given up")
        return aktis.get(call.ref)
