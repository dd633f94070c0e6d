"""Waiting for references without blocking a thread."""

import asyncio
import threading
from typing import Any

import pytest
from aktis._runtime.refs import Watchers, _LoopWaiter


class FakeRef:
    def __init__(self, name: bytes) -> None:
        self._name = name

    def binary(self) -> bytes:
        return self._name


class FakeCore:
    def __init__(self) -> None:
        self.ready: set[bytes] = set()
        self.watched: list[tuple[bytes, bool]] = []

    def watch(self, ref: FakeRef, value: bool) -> bool:
        self.watched.append((ref.binary(), value))
        return ref.binary() in self.ready


def make() -> tuple[Any, FakeCore]:
    core = FakeCore()
    return Watchers(core), core  # type: ignore[arg-type]


def test_what_is_ready_is_not_waited_for() -> None:
    watchers, core = make()
    core.ready.add(b"a")
    calls: list[str] = []
    assert watchers.add(FakeRef(b"a"), lambda: calls.append("called"))
    watchers.ready([(b"a", True)])
    assert calls == []


def test_everybody_who_waits_is_called_once_and_the_core_asked_once() -> None:
    watchers, core = make()
    calls: list[str] = []
    assert not watchers.add(FakeRef(b"a"), lambda: calls.append("first"))
    assert not watchers.add(FakeRef(b"a"), lambda: calls.append("second"))
    assert core.watched == [(b"a", True)]
    watchers.ready([(b"b", True)])
    assert calls == []
    watchers.ready([(b"a", True), (b"a", True)])
    assert calls == ["first", "second"]


def test_who_needs_the_value_here_is_not_called_for_one_that_is_elsewhere() -> None:
    watchers, core = make()
    calls: list[str] = []
    watchers.add(FakeRef(b"a"), lambda: calls.append("value"))
    watchers.add(FakeRef(b"a"), lambda: calls.append("existence"), value=False)
    assert core.watched == [(b"a", True), (b"a", False)]
    watchers.ready([(b"a", False)])
    assert calls == ["existence"]
    watchers.ready([(b"a", True)])
    assert calls == ["existence", "value"]


def test_a_waiter_that_fails_does_not_keep_the_others_waiting(capfd: pytest.CaptureFixture[str]) -> None:
    watchers, _ = make()
    calls: list[str] = []

    def fail() -> None:
        raise ValueError("in a waiter")

    watchers.add(FakeRef(b"a"), fail)
    watchers.add(FakeRef(b"a"), lambda: calls.append("called"))
    watchers.ready([(b"a", True)])
    assert calls == ["called"]
    assert "in a waiter" in capfd.readouterr().err


def test_a_loop_is_woken_once_per_batch() -> None:
    watchers, _ = make()

    async def wait() -> int:
        loop = asyncio.get_running_loop()
        wakes = 0
        call = loop.call_soon_threadsafe

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return call(*args, **kwargs)

        loop.call_soon_threadsafe = counted  # type: ignore[assignment,method-assign]
        waiters = [_LoopWaiter(loop) for _ in range(10)]
        names = [bytes([n]) for n in range(10)]
        for name, waiter in zip(names, waiters, strict=True):
            watchers.add(FakeRef(name), waiter)
        thread = threading.Thread(target=watchers.ready, args=([(name, True) for name in names],))
        thread.start()
        await asyncio.gather(*(waiter.future for waiter in waiters))
        thread.join()
        return wakes

    assert asyncio.run(wait()) == 1


def test_closing_wakes_all() -> None:
    watchers, _ = make()
    calls: list[str] = []
    watchers.add(FakeRef(b"a"), lambda: calls.append("a"))
    watchers.close()
    assert calls == ["a"]


def test_of_what_was_given_up_nothing_is_left() -> None:
    watchers, core = make()
    core.ready.add(b"here")

    async def run() -> None:
        pending = watchers.begin([FakeRef(b"a"), FakeRef(b"here"), FakeRef(b"b")])
        assert [ref.binary() for ref, _ in pending] == [b"a", b"b"]
        others: list[str] = []
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(watchers.end(pending))
            watchers.add(FakeRef(b"b"), lambda: others.append("b"))
            await asyncio.sleep(0)
            waiting.cancel()
        assert list(watchers._waiting) == [(b"b", True)]
        watchers.ready([(b"a", True), (b"b", True)])
        assert others == ["b"]
        assert watchers._waiting == {}

    asyncio.run(run())


def test_all_that_are_waited_for_must_come() -> None:
    watchers, _ = make()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(watchers.end(watchers.begin([FakeRef(b"a"), FakeRef(b"b")])))
            await asyncio.sleep(0)
            watchers.ready([(b"b", True)])
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            watchers.ready([(b"a", True)])

    asyncio.run(run())


def test_who_gives_up_waiting_for_existence_leaves_nothing() -> None:
    watchers, core = make()
    ref: Any = FakeRef(b"a")

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watchers.end(watchers.begin([ref], value=False)), 0.001)

    asyncio.run(give_up())
    asyncio.run(give_up())
    assert core.watched == [(b"a", False)] * 2  # anew: nobody was waiting any more
