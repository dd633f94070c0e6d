"""A queue that tasks and actors of a whole cluster share: first in, first out."""

import asyncio
import contextlib
import functools
import queue
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

import aktis
from aktis.exceptions import AktisError

T = TypeVar("T")

_ADDED: Final = True
WAITING_LIMIT: Final = 100_000
"""How many calls of each kind may wait in one queue; more wait for those to be served."""


class Empty(queue.Empty):
    """There is no item to get, or not enough of them."""


class Full(queue.Full):
    """There is no room for the item, or for all of the items."""


class Queue(Generic[T]):
    """A first-in, first-out queue in an actor of its own; it can be passed to tasks and actors.

    What can be done at once is tried first, by a plain method of the actor: those are answered faster than
    coroutines. Only who has to wait makes a second call; an item that is put stands in line by then, and is
    sent once.

    The queue ends with the last copy of this object, or by `shutdown`. Items are copied into the queue and
    out of it. An item that is a reference is resolved on the way, as arguments of tasks are; put it into a
    list to pass on the reference.

    Example:
        >>> queue = Queue(maxsize=2)
        >>> queue.put("a")
        >>> queue.put_nowait_batch(["b"])
        >>> queue.qsize(), queue.full(), queue.get(), queue.get_nowait()
        (2, True, 'a', 'b')
        >>> queue.get(timeout=0.01)
        Traceback (most recent call last):
        ...
        aktis.util.queue.Empty: the queue is empty: nothing came within 0.01 s
    """

    def __init__(self, maxsize: int = 0, actor_options: Mapping[str, Any] | None = None) -> None:
        """Make a queue.

        Args:
            maxsize: How many items it holds at most; 0 or less: no limit.
            actor_options: Options of the actor that holds the items, for example ``{"name": "work"}``. It
                takes no CPU unless they say so.
        """
        options = {"num_cpus": 0, **(actor_options or {})}
        self.maxsize = maxsize
        self.actor: Any = _actor_class().options(**options).remote(maxsize)

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Add an item.

        Args:
            item: Anything that can be serialized.
            block: Wait for room; False: as `put_nowait`.
            timeout: Seconds to wait at most; None waits as long as it takes.

        Raises:
            Full: there is no room, now or in time.
            ValueError: ``timeout`` is negative.
        """
        actor = self._ready(block, timeout)
        place = aktis.get(actor.try_put.remote(item, block))
        if place is _ADDED:
            return
        if not block:
            raise _full(block, timeout)
        with _withdrawing(actor, place):
            added = aktis.get(actor.wait_for_room.remote(place, timeout))
        if not added:
            raise _full(block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Remove the oldest item and return it.

        Args:
            block: Wait for an item; False: as `get_nowait`.
            timeout: Seconds to wait at most; None waits as long as it takes.

        Raises:
            Empty: there is no item, now or in time.
            ValueError: ``timeout`` is negative.
        """
        actor = self._ready(block, timeout)
        ref = actor.try_get.remote()
        with _giving_back(actor, ref):
            answer: tuple[T, ...] = aktis.get(ref)
        if block and not answer:
            ref = actor.get.remote(timeout)
            with _giving_back(actor, ref):
                answer = aktis.get(ref)
        return _first(answer, block, timeout)

    async def put_async(
        self,
        item: T,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109  as in put()
    ) -> None:
        """Like `put`, without blocking the event loop."""
        actor = self._ready(block, timeout)
        place = await actor.try_put.remote(item, block)
        if place is _ADDED:
            return
        if not block:
            raise _full(block, timeout)
        with _withdrawing(actor, place):
            added = await actor.wait_for_room.remote(place, timeout)
        if not added:
            raise _full(block, timeout)

    async def get_async(
        self,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109  as in get()
    ) -> T:
        """Like `get`, without blocking the event loop."""
        actor = self._ready(block, timeout)
        ref = actor.try_get.remote()
        with _giving_back(actor, ref):
            answer: tuple[T, ...] = await ref
        if block and not answer:
            ref = actor.get.remote(timeout)
            with _giving_back(actor, ref):
                answer = await ref
        return _first(answer, block, timeout)

    def put_nowait(self, item: T) -> None:
        """Add an item; raise Full when there is no room now."""
        self.put(item, block=False)

    def get_nowait(self) -> T:
        """Remove the oldest item and return it; raise Empty when there is none now."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[T]) -> None:
        """Add all of the items in one message, or raise Full when there is no room for all of them now."""
        if not isinstance(items, Iterable):
            raise TypeError(f"put_nowait_batch() takes an iterable, got {type(items).__name__} {items!r}")
        batch = list(items)
        room = aktis.get(self._living().put_nowait_batch.remote(batch))
        if room is not None:
            raise Full(f"the queue has room for {room} items, not for {len(batch)}")

    def get_nowait_batch(self, num_items: int) -> list[T]:
        """Remove the oldest ``num_items`` in one message, or raise Empty when there are fewer now."""
        if not isinstance(num_items, int):
            raise TypeError(f"get_nowait_batch() needs an int as num_items, got {num_items!r}")
        if num_items < 0:
            raise ValueError(f"num_items must not be negative, got {num_items}")
        answer = aktis.get(self._living().get_nowait_batch.remote(num_items))
        if isinstance(answer, int):
            raise Empty(f"the queue has {answer} items, not {num_items}")
        return list(answer)

    def qsize(self) -> int:
        """Return how many items there are; others may change that at any time."""
        return int(aktis.get(self._living().qsize.remote()))

    def size(self) -> int:
        """Return the same as `qsize`."""
        return self.qsize()

    def __len__(self) -> int:
        return self.qsize()

    def empty(self) -> bool:
        """Whether there is no item."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether there is no room for an item."""
        return 0 < self.maxsize <= self.qsize()

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the queue; items that are left are lost. A second call does nothing.

        Args:
            force: Kill the actor; calls under way fail.
            grace_period_s: Otherwise, how long calls under way may take before it is killed.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            ended = actor.__aktis_terminate__.remote()
            aktis.wait([ended], timeout=grace_period_s)
        aktis.kill(actor)

    def _living(self) -> Any:
        if self.actor is None:
            raise RuntimeError("this queue has been shut down")
        return self.actor

    def _ready(self, block: bool, timeout: float | None) -> Any:
        """Check a call and return the actor."""
        if block and timeout is not None and timeout < 0:
            raise ValueError(f"timeout must not be negative, got {timeout!r}")
        return self._living()


@contextlib.contextmanager
def _giving_back(actor: Any, ref: aktis.ObjectRef[Any]) -> Iterator[None]:
    """Who gives up waiting for an item (a cancelled coroutine, Ctrl-C) takes none.

    If it is on its way already, it goes back to the head of the queue.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(AktisError):  # the session may have ended, and the queue with it
            ref.future().add_done_callback(functools.partial(_give_back, actor))
            aktis.cancel(ref)
        raise


def _give_back(actor: Any, answer: Future[tuple[Any, ...]]) -> None:
    if not answer.cancelled() and not answer.exception() and answer.result():
        actor.give_back.remote(*answer.result())


@contextlib.contextmanager
def _withdrawing(actor: Any, place: int) -> Iterator[None]:
    """Who gives up waiting for room puts nothing, unless there has been room."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(AktisError):
            actor.withdraw.remote(place)
        raise


def _first(answer: tuple[T, ...], block: bool, timeout: float | None) -> T:
    if not answer:
        raise Empty(f"the queue is empty: nothing came within {timeout} s" if block else "the queue is empty")
    return answer[0]


def _full(block: bool, timeout: float | None) -> Full:
    return Full(f"the queue is full: no room came within {timeout} s" if block else "the queue is full")


@functools.cache
def _actor_class() -> Any:
    # Groups of their own, so that any number of waiting getters leaves room for the put that ends their wait.
    groups = {"getters": WAITING_LIMIT, "putters": WAITING_LIMIT}
    return aktis.remote(concurrency_groups=groups)(_QueueActor)


class _QueueActor:
    """Holds the items. Belongs to the actor's event loop; nothing is awaited between a look and a change.

    Whoever waits has a future in one of two lines. An item goes straight to the first getter; a getter gives
    room to the first putter, whose item then takes its place at the end. So while somebody waits in one line
    the other one is empty, and nobody overtakes. An answer is never an exception: those cost more.
    """

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        self._getters: deque[asyncio.Future[Any]] = deque()
        self._putters: deque[tuple[asyncio.Future[bool], Any]] = deque()
        self._places: dict[int, asyncio.Future[bool]] = {}  # of who waits for room, or has yet to ask for it
        self._last_place = 0

    @aktis.method(concurrency_group="putters")
    async def wait_for_room(self, place: int, timeout_s: float | None) -> bool:
        """Wait until the item at ``place`` in the line is added; False when it was not in time."""
        room = self._places.get(place)
        if room is None:  # who asks has given up meanwhile
            return False
        try:
            async with asyncio.timeout(timeout_s):
                return await room
        except TimeoutError:
            return room.done() and not room.cancelled()
        finally:
            self.withdraw(place)

    def withdraw(self, place: int) -> None:
        """Forget the item at ``place``, if it is still in the line."""
        room = self._places.pop(place, None)
        if room is not None and (room.cancelled() or room.cancel()):
            self._putters = deque(entry for entry in self._putters if entry[0] is not room)

    @aktis.method(concurrency_group="getters")
    async def get(self, timeout_s: float | None) -> tuple[Any, ...]:
        """Return the oldest item in a tuple, an empty one when there was none in time."""
        if self._items:
            return (self._take(),)
        arrival: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._getters.append(arrival)
        try:
            async with asyncio.timeout(timeout_s):
                return (await arrival,)
        except TimeoutError:
            return (arrival.result(),) if arrival.done() and not arrival.cancelled() else ()
        except asyncio.CancelledError:
            if arrival.done() and not arrival.cancelled():
                self.give_back(arrival.result())
            raise
        finally:
            if arrival.cancelled():
                with contextlib.suppress(ValueError):  # somebody who came by has taken it out already
                    self._getters.remove(arrival)

    def try_put(self, item: Any, stay: bool) -> bool | int:
        """Add an item; when there is no room return its place in the line, or False when it does not stay.

        Who has died before it asked for its place has put the item all the same, as soon as there is room.
        """
        if self._add(item):
            return _ADDED
        if not stay:
            return False
        room: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._putters.append((room, item))
        self._last_place += 1
        self._places[self._last_place] = room
        return self._last_place

    def try_get(self) -> tuple[Any, ...]:
        """Return the oldest item in a tuple, an empty one when there is none."""
        return (self._take(),) if self._items else ()

    def put_nowait_batch(self, items: list[Any]) -> int | None:
        """Add all of the items; return how many there is room for when that is not enough."""
        waiting = sum(not arrival.done() for arrival in self._getters)
        room = max(0, self._maxsize - len(self._items)) + waiting
        if self._maxsize > 0 and room < len(items):
            return room
        for item in items:
            self._add(item)
        return None

    def get_nowait_batch(self, num_items: int) -> list[Any] | int:
        """Return so many items, or how many there are when that is not enough."""
        if len(self._items) < num_items:
            return len(self._items)
        return [self._take() for _ in range(num_items)]

    def qsize(self) -> int:
        """Return how many items there are."""
        return len(self._items)

    def give_back(self, item: Any) -> None:
        """Take back an item whose getter has gone: it is the oldest one."""
        for arrival in self._getters:
            if not arrival.done():
                self._getters.remove(arrival)
                arrival.set_result(item)
                return
        self._items.appendleft(item)

    def _add(self, item: Any) -> bool:
        while self._getters:
            arrival = self._getters.popleft()
            if not arrival.done():
                arrival.set_result(item)
                return True
        if 0 < self._maxsize <= len(self._items):
            return False
        self._items.append(item)
        return True

    def _take(self) -> Any:
        item = self._items.popleft()
        while self._putters:
            room, waiting = self._putters.popleft()
            if not room.done():
                self._items.append(waiting)
                room.set_result(True)
                break
        return item
