"""How calls of an async actor wait for their arguments, in which order they begin, how results are stored."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aktis._worker.coroutine_store import CoroutineStore


class FakeWatchers:
    """References are futures of the running loop."""

    def begin(self, refs: Iterable[asyncio.Future[None]]) -> "list[Pending]":
        return [(ref, None) for ref in refs if not ref.done()]

    async def end(self, pending: "list[Pending]") -> None:
        for future, _ in pending:
            await asyncio.shield(future)


Pending = tuple[asyncio.Future[None], None]


class FakeTask:
    """A call with arguments in shared memory."""

    def __init__(self, name: str, refs: list[asyncio.Future[None]], owner: bytes = b"a") -> None:
        self.name = name
        self.owner_worker_id = owner
        self._refs = refs

    def argument_refs(self) -> list[asyncio.Future[None]]:
        return self._refs

    def load_args(self, wait: bool = True) -> Any:
        assert not wait
        if not all(ref.done() for ref in self._refs):
            raise LookupError("timed out")
        return (self.name,), {}


class FakeUnfinished:
    """Results that are stored when the test says so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_end = threading.Event()
        self.thread: threading.Thread | None = None
        self.error = error
        self.sent = False

    def store(self) -> None:
        self.thread = threading.current_thread()
        assert self.may_end.wait(20)
        if self.error is not None:
            raise self.error

    def send(self) -> None:
        self.sent = True


def store_with(
    timeout_s: float = -1.0,
    in_order: bool = True,
    unfinished: Any = None,
    awaits_owner: Callable[[Any], bool] = lambda _: False,
) -> CoroutineStore:
    core = SimpleNamespace(finish=lambda task, values, wait: unfinished, awaits_owner=awaits_owner)
    session: Any = SimpleNamespace(core=core, watchers=FakeWatchers(), fetch_timeout_s=timeout_s)
    return CoroutineStore(session, in_order=in_order)


async def begin(store: CoroutineStore, began: list[str], task: FakeTask, group: str = "") -> None:
    (name,), _ = await store.load_args(task, group)  # type: ignore[arg-type]
    began.append(name)


async def turns_of_the_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_calls_of_one_caller_begin_in_order_and_others_do_not_wait() -> None:
    async def run() -> None:
        store, began = store_with(), list[str]()
        first, second = asyncio.Future[None](), asyncio.Future[None]()
        async with asyncio.TaskGroup() as group:
            for task in (FakeTask("1", [first]), FakeTask("2", []), FakeTask("3", [second])):
                group.create_task(begin(store, began, task))
            group.create_task(begin(store, began, FakeTask("other", [], owner=b"b")))
            group.create_task(begin(store, began, FakeTask("group", []), "group"))
            await turns_of_the_loop()
            assert began == ["other", "group"]
            second.set_result(None)
            await turns_of_the_loop()
            assert began == ["other", "group"]
            first.set_result(None)
        assert began == ["other", "group", "1", "2", "3"]
        assert store._last_turns == {}

    asyncio.run(run())


def test_order_does_not_matter_when_the_actor_says_so() -> None:
    async def run() -> None:
        store, began = store_with(in_order=False), list[str]()
        first = asyncio.Future[None]()
        async with asyncio.TaskGroup() as group:
            group.create_task(begin(store, began, FakeTask("1", [first])))
            group.create_task(begin(store, began, FakeTask("2", [])))
            await turns_of_the_loop()
            assert began == ["2"]
            first.set_result(None)
        assert store._last_turns == {}

    asyncio.run(run())


def test_a_cancelled_call_lets_nobody_pass_the_one_before_it() -> None:
    async def run() -> None:
        store, began = store_with(), list[str]()
        first, never = asyncio.Future[None](), asyncio.Future[None]()
        async with asyncio.TaskGroup() as group:
            group.create_task(begin(store, began, FakeTask("1", [first])))
            cancelled = group.create_task(begin(store, began, FakeTask("2", [never])))
            group.create_task(begin(store, began, FakeTask("3", [])))
            await turns_of_the_loop()
            cancelled.cancel()
            await turns_of_the_loop()
            assert began == []
            first.set_result(None)
        assert began == ["1", "3"]
        assert store._last_turns == {}

    asyncio.run(run())


def test_arguments_are_waited_for_as_long_as_the_setting_says() -> None:
    async def run() -> None:
        store, began = store_with(timeout_s=0.01), list[str]()
        with pytest.raises(LookupError, match="timed out"):
            await begin(store, began, FakeTask("1", [asyncio.Future()]))
        await begin(store, began, FakeTask("2", []))
        assert began == ["2"]

    asyncio.run(run())


def test_what_is_computed_again_is_waited_for_without_a_limit() -> None:
    async def run() -> None:
        looks, argument, began = 0, asyncio.Future[None](), list[str]()

        def awaits_owner(ref: Any) -> bool:
            nonlocal looks
            looks += 1
            if looks == 3:
                argument.set_result(None)
            return looks < 3

        await begin(store_with(timeout_s=0.01, awaits_owner=awaits_owner), began, FakeTask("1", [argument]))
        assert (began, looks) == (["1"], 3)

    asyncio.run(run())


def test_results_are_stored_on_a_thread_and_sent_from_the_loop() -> None:
    async def run() -> None:
        unfinished = FakeUnfinished()
        store, task = store_with(unfinished=unfinished), FakeTask("1", [])
        async with asyncio.TaskGroup() as group:
            finishing = group.create_task(store.finish(task, ()))  # type: ignore[arg-type]
            await turns_of_the_loop()
            finishing.cancel()  # too late
            await turns_of_the_loop()
            assert not finishing.done()
            unfinished.may_end.set()
        assert unfinished.sent
        assert unfinished.thread is not threading.current_thread()

    asyncio.run(run())


def test_a_result_without_room_is_not_sent() -> None:
    async def run() -> None:
        unfinished = FakeUnfinished(OSError("full"))
        unfinished.may_end.set()
        with pytest.raises(OSError, match="full"):
            await store_with(unfinished=unfinished).finish(FakeTask("1", []), ())  # type: ignore[arg-type]
        assert not unfinished.sent

    asyncio.run(run())
