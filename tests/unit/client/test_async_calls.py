"""Calls on the event loop of an async actor, on a core that only writes down what it is told."""

import asyncio
import contextvars
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aktis._worker.actor_executor import _AsyncCalls

TIMEOUT_S = 30.0


class Call:
    """What the core hands out."""

    concurrency_group = ""
    num_returns = 1
    is_generator = False
    cancelled = False
    name = "call"

    def __init__(self, name: str) -> None:
        self.task_id = name.encode()
        self.method = name


class Loop:
    """An actor with a concurrency of one, and what became of its calls."""

    def __init__(self, methods: dict[str, Callable[[], Any]], tasks: list[Call]) -> None:
        self.log: list[str] = []
        self._tasks = tasks
        session: Any = SimpleNamespace(core=self, watchers=None, fetch_timeout_s=60.0)
        shape = SimpleNamespace(max_concurrency=1, concurrency_groups={}, out_of_order=False)
        facts: Any = SimpleNamespace(instance=SimpleNamespace(**methods), saver=None, shape=shape)
        self.calls = _AsyncCalls(session, facts)
        self.calls._store = self  # type: ignore[assignment]

    async def serve(self, until: int) -> None:
        """Run the calls until so many have been answered."""
        loop = self.calls._event_loop = asyncio.get_running_loop()
        self._answered, self._until = loop.create_future(), until
        async with asyncio.TaskGroup() as group:
            self.calls._spawn = group.create_task
            self.calls._context = contextvars.copy_context()
            self.calls._on_readable()
            await asyncio.wait_for(self._answered, TIMEOUT_S)

    def poll(self) -> None: ...

    def take_tasks(self, most: int) -> list[Call]:
        taken, self._tasks = self._tasks, []
        return taken

    def begin(self, task: Call) -> None:
        self.log.append(f"begin {task.method}")

    async def load_args(self, task: Call, group: str) -> Any:
        return (), {}

    async def finish(self, task: Call, values: Any) -> None:
        self._answer(f"finish {task.method}")

    def fail(self, task: Call, error: bytes, cancelled: bool, text: str = "", references: Any = ()) -> None:
        self._answer(f"{'cancelled' if cancelled else 'failed'} {task.method}")

    def _answer(self, what: str) -> None:
        self.log.append(what)
        if sum(not line.startswith("begin") for line in self.log) == self._until:
            self._answered.set_result(None)


def test_a_call_that_is_cancelled_just_before_its_first_step_is_answered() -> None:
    """Its turn comes with the end of the call before, and the cancellation is in the loop's queue by then."""
    second = Call("second")

    async def first() -> None:
        second.cancelled = True
        asyncio.get_running_loop().call_soon(actor.calls._cancel, second.task_id)

    def never() -> None:
        pytest.fail("a cancelled call has run")

    async def third() -> None: ...

    methods = {"first": first, "second": never, "third": third}
    actor = Loop(methods, [Call("first"), second, Call("third")])
    asyncio.run(actor.serve(until=3))
    assert actor.log == [
        "begin first", "finish first", "begin second", "cancelled second", "begin third", "finish third",
    ]  # fmt: skip
