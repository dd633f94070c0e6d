"""Waiting for references without blocking a thread."""

import asyncio
import threading
from typing import Any

from aktis._runtime.refs import Watchers, _LoopWaiter


class FakeRef:
    def __init__(self, name: bytes) -> None:
        self._name = name

    def binary(self) -> bytes:
        return self._name


class FakeCore:
    def __init__(self) -> None:
        self.ready: set[bytes] = set()
        self.watched: list[bytes] = []

    def watch(self, ref: FakeRef) -> bool:
        self.watched.append(ref.binary())
        return ref.binary() in self.ready


def make() -> tuple[Any, FakeCore]:
    core = FakeCore()
    return Watchers(core), core  # type: ignore[arg-type]


def test_what_is_ready_is_not_waited_for() -> None:
    watchers, core = make()
    core.ready.add(b"a")
    calls: list[str] = []
    assert watchers.add(FakeRef(b"a"), lambda: calls.append("called"))
    watchers.ready([b"a"])
    assert calls == []


def test_everybody_who_waits_is_called_once_and_the_core_asked_once() -> None:
    watchers, core = make()
    calls: list[str] = []
    assert not watchers.add(FakeRef(b"a"), lambda: calls.append("first"))
    assert not watchers.add(FakeRef(b"a"), lambda: calls.append("second"))
    assert core.watched == [b"a"]
    watchers.ready([b"b"])
    assert calls == []
    watchers.ready([b"a", b"a"])
    assert calls == ["first", "second"]


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
        thread = threading.Thread(target=watchers.ready, args=(names,))
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
