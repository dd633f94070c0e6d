"""Actors that do several things at a time: threads, coroutines, groups."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from tests.conformance.parts import Gate
from tests.conformance.systems import running_cluster

DEADLINE_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster():
        yield


@ray.remote(num_cpus=0)
class Meeting:
    """Calls that return when enough of them are here."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)

    def meet(self) -> int:
        self.barrier.wait(DEADLINE_S)
        return threading.get_ident()


def test_threads() -> None:
    meeting = Meeting.options(max_concurrency=3).remote(3)
    threads = ray.get([meeting.meet.remote() for _ in range(3)], timeout=DEADLINE_S)
    assert len(set(threads)) == 3


def test_an_actor_runs_one_call_at_a_time_by_default() -> None:
    @ray.remote(num_cpus=0)
    class Plain:
        def __init__(self) -> None:
            self.inside = 0

        def call(self) -> int:
            self.inside += 1
            assert self.inside == 1
            self.inside -= 1
            return threading.get_ident()

    plain = Plain.remote()
    assert len(set(ray.get([plain.call.remote() for _ in range(20)]))) == 1


def test_coroutines_interleave() -> None:
    gate = Gate.remote()
    waiting = [gate.wait.remote(index) for index in range(10)]
    assert ray.wait(waiting, timeout=0)[0] == []
    gate.open.remote()
    assert ray.get(waiting, timeout=DEADLINE_S) == list(range(10))


def test_the_concurrency_of_coroutines_is_limited_if_asked_for() -> None:
    @ray.remote(num_cpus=0, max_concurrency=2)
    class Limited:
        def __init__(self) -> None:
            self.inside = 0
            self.most = 0
            self.both_here = asyncio.Barrier(2)

        async def call(self) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self.both_here.wait()
            for _ in range(10):
                await asyncio.sleep(0)
            self.inside -= 1

        async def result(self) -> int:
            return self.most

    limited = Limited.remote()
    ray.get([limited.call.remote() for _ in range(10)], timeout=DEADLINE_S)
    assert ray.get(limited.result.remote()) == 2


def test_a_class_with_one_coroutine_method_runs_all_on_its_loop() -> None:
    @ray.remote(num_cpus=0)
    class Mixed:
        async def asynchronous(self) -> int:
            return threading.get_ident()

        def plain(self) -> int:
            return threading.get_ident()

    mixed = Mixed.remote()
    assert ray.get(mixed.asynchronous.remote()) == ray.get(mixed.plain.remote())


def test_a_coroutine_may_await_references() -> None:
    @ray.remote(num_cpus=0)
    class Awaits:
        async def sum(self, refs: list[Any]) -> int:
            return sum(await asyncio.gather(*refs))

    assert ray.get(Awaits.remote().sum.remote([ray.put(1), ray.put(2)])) == 3


def test_an_error_in_a_coroutine() -> None:
    @ray.remote(num_cpus=0)
    class Fails:
        async def fail(self) -> None:
            await asyncio.sleep(0)
            raise KeyError("in a coroutine")

        async def fine(self) -> str:
            return "fine"

    fails = Fails.remote()
    with pytest.raises(KeyError, match="in a coroutine"):
        ray.get(fails.fail.remote())
    assert ray.get(fails.fine.remote()) == "fine"


@ray.remote(num_cpus=0, concurrency_groups={"slow": 2, "quick": 1})
class Groups:
    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)

    @ray.method(concurrency_group="slow")
    def meet(self) -> str:
        self.barrier.wait(DEADLINE_S)
        return "met"

    @ray.method(concurrency_group="quick")
    def quick(self) -> str:
        return "quick"

    def default(self) -> str:
        return "default"


def test_groups_have_threads_of_their_own() -> None:
    groups = Groups.remote()
    first = groups.meet.remote()
    assert ray.get([groups.quick.remote(), groups.default.remote()], timeout=DEADLINE_S) == [
        "quick",
        "default",
    ]
    second = groups.meet.remote()
    assert ray.get([first, second], timeout=DEADLINE_S) == ["met", "met"]


def test_the_group_of_one_call() -> None:
    groups = Groups.remote()
    first = groups.meet.remote()
    assert (
        ray.get(groups.default.options(concurrency_group="quick").remote(), timeout=DEADLINE_S) == "default"
    )
    second = groups.meet.remote()
    assert ray.get([first, second], timeout=DEADLINE_S) == ["met", "met"]


def test_groups_of_coroutines() -> None:
    @ray.remote(num_cpus=0, concurrency_groups={"io": 2})
    class Service:
        def __init__(self) -> None:
            self.opened = threading.Event()

        @ray.method(concurrency_group="io")
        async def wait(self) -> str:
            # A group may have a loop of its own, and an event belongs to one loop.
            await asyncio.to_thread(self.opened.wait, DEADLINE_S)
            return "opened"

        async def open(self) -> None:
            self.opened.set()

    service = Service.remote()
    waiting = [service.wait.remote() for _ in range(3)]
    ray.get(service.open.remote(), timeout=DEADLINE_S)
    assert ray.get(waiting, timeout=DEADLINE_S) == ["opened"] * 3


def test_generators_of_threads() -> None:
    @ray.remote(num_cpus=0, max_concurrency=2)
    class Streams:
        def count(self, n: int) -> Iterator[int]:
            for index in range(n):
                yield 2 * index

    streams = Streams.remote()
    one, two = streams.count.remote(2), streams.count.remote(3)
    assert ray.get([*one, *two]) == [0, 2, 0, 2, 4]


def test_an_async_actor_may_leave() -> None:
    @ray.remote(num_cpus=0)
    class Leaves:
        async def leave(self) -> None:
            ray.actor.exit_actor()

    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(Leaves.remote().leave.remote(), timeout=DEADLINE_S)
