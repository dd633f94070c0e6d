"""The shared queue: order, limits, waiting, timeouts, many clients."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import aktis
import numpy as np
import pytest
from aktis.util.queue import Empty, Full, Queue, _QueueActor

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("util")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@aktis.remote
def produce(queue: Queue[int], numbers: list[int]) -> None:
    for number in numbers:
        queue.put(number)


@aktis.remote
def consume(queue: Queue[int], count: int) -> list[int]:
    return [queue.get() for _ in range(count)]


def test_first_in_first_out_between_tasks() -> None:
    queue: Queue[int] = Queue(maxsize=3)
    numbers = list(range(50))
    taken = consume.remote(queue, 50)
    aktis.get(produce.remote(queue, numbers))
    assert aktis.get(taken) == numbers


def test_many_producers_and_consumers_lose_nothing() -> None:
    queue: Queue[int] = Queue(maxsize=2)

    def fill(start: int) -> None:
        for number in range(start, start + 20):
            queue.put(number)

    threads = [threading.Thread(target=fill, args=(start,)) for start in range(0, 100, 20)]
    for thread in threads:
        thread.start()
    taken = sorted(queue.get(timeout=30) for _ in range(100))
    for thread in threads:
        thread.join()
    assert taken == list(range(100))


class Counted:
    """Knows how often this process has sent it."""

    times = 0

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        type(self).times += 1
        return (str, ("counted",))


def test_an_item_that_waits_for_room_is_sent_once() -> None:
    queue: Queue[Any] = Queue(maxsize=1)
    queue.put("first")
    Counted.times = 0
    putter = threading.Thread(target=queue.put, args=(Counted(),))
    putter.start()
    assert queue.get(timeout=30) == "first"
    assert queue.get(timeout=30) == "counted"
    putter.join(30)
    assert Counted.times == 1
    with pytest.raises(Full):
        queue.put_nowait_batch([Counted(), Counted()])
    queue.put("full")
    Counted.times = 0
    with pytest.raises(Full):
        queue.put(Counted(), timeout=0.01)
    assert Counted.times == 1
    assert queue.get(timeout=30) == "full"
    assert queue.empty(), "who has given up does not stand in line any more"


@pytest.mark.parametrize(("block", "timeout"), [(False, None), (True, 0), (True, 0.01)])
def test_empty_and_full(block: bool, timeout: float | None) -> None:
    queue: Queue[Any] = Queue(maxsize=1)
    with pytest.raises(Empty):
        queue.get(block, timeout)
    queue.put("only")
    with pytest.raises(Full):
        queue.put("more", block, timeout)
    assert queue.qsize() == len(queue) == queue.size() == 1
    assert queue.full()
    assert queue.get(block, timeout) == "only"
    assert queue.empty()
    assert not queue.full()


def test_empty_and_full_are_those_of_the_standard_library_too() -> None:
    import queue

    assert issubclass(Empty, queue.Empty)
    assert issubclass(Full, queue.Full)


def test_batches_are_all_or_nothing() -> None:
    queue: Queue[int] = Queue(maxsize=3)
    with pytest.raises(Full, match="room for 3 items, not for 4"):
        queue.put_nowait_batch(range(4))
    queue.put_nowait_batch([1, 2, 3])
    with pytest.raises(Empty, match="has 3 items, not 4"):
        queue.get_nowait_batch(4)
    assert queue.get_nowait_batch(2) == [1, 2]
    assert queue.get_nowait_batch(0) == []
    assert queue.get_nowait() == 3


def test_arguments_are_checked() -> None:
    queue: Queue[int] = Queue()
    for call in (lambda: queue.put(1, timeout=-1), lambda: queue.get(timeout=-1)):
        with pytest.raises(ValueError, match="negative"):
            call()
    with pytest.raises(ValueError, match="negative"):
        queue.get_nowait_batch(-1)
    with pytest.raises(TypeError):
        queue.get_nowait_batch("a")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        queue.put_nowait_batch(3)  # type: ignore[arg-type]


def test_from_an_event_loop() -> None:
    async def use() -> None:
        queue: Queue[int] = Queue(maxsize=1)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(queue.get_async())
            await queue.put_async(1)
        assert waiting.result() == 1
        with pytest.raises(Empty):
            await queue.get_async(timeout=0.01)
        await queue.put_async(2)
        with pytest.raises(Full):
            await queue.put_async(3, block=False)
        with pytest.raises(ValueError, match="negative"):
            await queue.put_async(3, timeout=-1)
        async with asyncio.TaskGroup() as group:
            group.create_task(queue.put_async(3))
            assert await queue.get_async() == 2
        assert await queue.get_async() == 3

    asyncio.run(use())


def test_more_getters_than_an_async_actor_runs_calls_leave_room_for_a_put() -> None:
    queue: Queue[int] = Queue()
    waiting = [queue.actor.get.remote(None) for _ in range(1200)]
    queue.put_nowait_batch(range(1200))
    assert sorted(item for (item,) in aktis.get(waiting, timeout=40)) == list(range(1200))


def test_a_getter_that_is_cancelled_takes_nothing() -> None:
    queue: Queue[int] = Queue()
    waiting = queue.actor.get.remote(None)
    with pytest.raises(aktis.exceptions.GetTimeoutError):
        aktis.get(waiting, timeout=0.1)
    aktis.cancel(waiting)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(waiting)
    queue.put(5)
    assert queue.get_nowait() == 5


@aktis.remote(num_cpus=0, concurrency_groups={"getters": 10, "putters": 10})
class Observed(_QueueActor):
    """Tells when somebody waits."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.somebody_waits = asyncio.Event()

    @aktis.method(concurrency_group="getters")
    async def get(self, timeout_s: float | None) -> tuple[Any, ...]:
        self.somebody_waits.set()
        return await super().get(timeout_s)

    @aktis.method(concurrency_group="putters")
    async def wait_for_room(self, place: int, timeout_s: float | None) -> bool:
        self.somebody_waits.set()
        return await super().wait_for_room(place, timeout_s)

    async def until_somebody_waits(self) -> None:
        await self.somebody_waits.wait()


def observed(maxsize: int = 0) -> Queue[int]:
    queue: Queue[int] = Queue(maxsize)
    queue.actor = Observed.remote(maxsize)
    return queue


async def cancelled(call: Coroutine[Any, Any, Any], queue: Queue[int]) -> None:
    """Cancel a call that waits for the queue."""
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(call)
        await queue.actor.until_somebody_waits.remote()
        waiting.cancel()
    assert waiting.cancelled()


@contextlib.contextmanager
def interrupted(
    monkeypatch: pytest.MonkeyPatch, calls: int, ready: Callable[[Any], object]
) -> Iterator[None]:
    """Interrupt the thread as Ctrl-C does in its so many-th call of `aktis.get`, as soon as it is ready."""
    get, counted = aktis.get, itertools.count(1)

    def interrupted_get(ref: Any) -> Any:
        if next(counted) < calls:
            return get(ref)
        ready(ref)
        raise KeyboardInterrupt

    monkeypatch.setattr(aktis, "get", interrupted_get)
    with pytest.raises(KeyboardInterrupt):
        yield
    monkeypatch.undo()


@pytest.mark.parametrize("blocking", [False, True])
def test_who_gives_up_waiting_takes_nothing(blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = observed()
    waits = queue.actor.until_somebody_waits
    if blocking:
        with interrupted(monkeypatch, 2, lambda _: aktis.wait([waits.remote()])):
            queue.get()
    else:
        asyncio.run(cancelled(queue.get_async(), queue))
    queue.put(5)
    assert queue.get(timeout=30) == 5


@pytest.mark.parametrize("blocking", [False, True])
def test_who_gives_up_waiting_for_room_puts_nothing(blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = observed(maxsize=1)
    queue.put(1)
    waits = queue.actor.until_somebody_waits
    if blocking:
        with interrupted(monkeypatch, 2, lambda _: aktis.wait([waits.remote()])):
            queue.put(2)
    else:
        asyncio.run(cancelled(queue.put_async(2), queue))
    assert queue.get() == 1
    with pytest.raises(Empty):
        queue.get_nowait()


def test_an_item_on_its_way_to_who_has_given_up_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: Queue[int] = Queue()
    queue.put_nowait_batch([1, 2])
    with interrupted(monkeypatch, 1, lambda ref: aktis.wait([ref])):
        queue.get()
    assert [queue.get(timeout=30) for _ in range(2)] in ([1, 2], [2, 1]), "it comes back in between"


def test_values_of_all_kinds() -> None:
    queue: Queue[Any] = Queue()
    array = np.arange(100_000)
    queue.put(array)
    queue.put(aktis.put("resolved"))
    queue.put([aktis.put("kept")])
    np.testing.assert_array_equal(queue.get(), array)
    assert queue.get() == "resolved"
    assert aktis.get(queue.get()[0]) == "kept"
    queue.put(None)
    assert queue.get() is None


def test_the_options_of_the_actor() -> None:
    queue: Queue[int] = Queue(actor_options={"name": "the queue"})
    assert aktis.get_actor("the queue") == queue.actor


@pytest.mark.parametrize("force", [False, True])
def test_shutdown(force: bool) -> None:
    queue: Queue[int] = Queue()
    queue.put(1)
    actor = queue.actor
    queue.shutdown(force=force)
    queue.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        queue.put(1)
    with pytest.raises(aktis.exceptions.ActorDiedError):
        aktis.get(actor.qsize.remote())


def test_an_item_that_came_just_before_its_getter_was_cancelled_is_not_lost() -> None:
    async def play() -> None:
        items = _QueueActor(0)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(items.get(None))
            await asyncio.sleep(0)
            assert items.try_put("saved", True) is True
            first.cancel()
        assert first.cancelled()
        assert items.try_get() == ("saved",)

    asyncio.run(play())


def test_a_putter_whose_time_is_up_leaves_no_item() -> None:
    async def play() -> None:
        items = _QueueActor(1)
        assert items.try_put(1, True) is True
        assert not await items.wait_for_room(items.try_put(2, True), 0.01)
        assert not items._putters
        async with asyncio.TaskGroup() as group:
            late = group.create_task(items.wait_for_room(items.try_put(3, True), None))
            await asyncio.sleep(0)
            late.cancel()
            assert items.try_get() == (1,), "before the putter has noticed that it is cancelled"
        assert items.try_get() == ()

    asyncio.run(play())
