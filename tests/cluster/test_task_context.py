"""Whose child a submitted task is: parents, traces, recursive cancels, in coroutines and in threads."""

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import aktis
import pytest
from aktis._runtime.execution import current_task
from aktis.exceptions import TaskCancelledError

from tests.support.board import Board
from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("task context")
TIMEOUT_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=1):
        yield


class Identity(NamedTuple):
    """What a task knows of itself."""

    task: str | None
    parent: str | None
    trace: str | None


def identity() -> Identity:
    """Who the caller is; in a driver nobody."""
    task, context = current_task(), aktis.get_runtime_context()
    parent = None if task is None else task.parent_task_id.hex()
    return Identity(context.get_task_id(), parent, context.get_trace_id())


who = aktis.remote(identity)


@aktis.remote
class Spawner:
    """Coroutines that submit tasks in turns."""

    def __init__(self) -> None:
        self.all_here = asyncio.Barrier(2)

    async def spawn(self) -> tuple[Identity, list[Identity]]:
        children = []
        for _ in range(3):  # the other coroutine runs, begins and ends in between
            await self.all_here.wait()
            children.append(await who.remote())
        return identity(), children

    async def spawn_and_wait(self, board: Any, name: str) -> str:
        await self.all_here.wait()
        return str(await held.remote(board, name))

    async def in_thread(self) -> tuple[Identity, Identity]:
        return identity(), await asyncio.to_thread(lambda: aktis.get(who.remote()))

    async def span(self) -> None:
        from aktis.util.profiling import profile

        await self.all_here.wait()
        with profile(f"span of {identity().task}"):
            pass


@aktis.remote(num_cpus=0)
def held(board: Any, name: str) -> str:
    """Say that it runs and wait to be let go."""
    try:
        aktis.get(board.say.remote(f"{name} runs"))
        aktis.get(board.hear.remote(f"{name} may go"))
    except KeyboardInterrupt:
        aktis.get(board.say.remote(f"{name} interrupted"))
        raise
    return name


def test_interleaved_coroutines_have_the_children_that_they_submitted() -> None:
    spawner = Spawner.remote()
    refs = [spawner.spawn.remote() for _ in range(2)]
    traces = set()
    for ref, (parent, children) in zip(refs, aktis.get(refs, timeout=TIMEOUT_S), strict=True):
        assert parent.task == ref.task_id().hex()
        assert [child.parent for child in children] == [parent.task] * 3
        assert [child.trace for child in children] == [parent.trace] * 3
        traces.add(parent.trace)
    assert len(traces) == 2


def test_a_recursive_cancel_ends_only_the_coroutines_own_children() -> None:
    board, spawner = Board.remote(), Spawner.remote()
    refs = {name: spawner.spawn_and_wait.remote(board, name) for name in ("a", "b")}
    for name in refs:
        aktis.get(board.hear.remote(f"{name} runs"), timeout=TIMEOUT_S)
    aktis.cancel(refs["a"])
    with pytest.raises(TaskCancelledError):
        aktis.get(refs["a"], timeout=TIMEOUT_S)
    aktis.get(board.hear.remote("a interrupted"), timeout=TIMEOUT_S)
    aktis.get(board.say.remote("b may go"))
    assert aktis.get(refs["b"], timeout=TIMEOUT_S) == "b"


def test_a_trace_goes_through_tasks_actors_and_constructors() -> None:
    @aktis.remote
    class Actor:
        def __init__(self, _: Any) -> None:
            self.made_by = identity()

        def look(self) -> tuple[Identity, Identity]:
            return self.made_by, identity()

    @aktis.remote
    def root() -> list[Identity]:
        nested = who.remote()
        waits_for_argument, ready = Actor.remote(nested), Actor.remote(None)
        looks = aktis.get([waits_for_argument.look.remote(), ready.look.remote()])
        return [identity(), aktis.get(nested), *looks[0], *looks[1]]

    first, second = aktis.get([root.remote(), root.remote()], timeout=TIMEOUT_S)
    for me, *children in (first, second):
        assert [child.parent for child in children] == [me.task] * 5
        assert {child.trace for child in children} == {me.trace}
    assert first[0].trace != second[0].trace
    assert identity() == (None, None, None)
    assert len(str(first[0].trace)) == 32


def test_a_span_of_a_coroutine_is_its_tasks() -> None:
    spawner = Spawner.remote()
    refs = [spawner.span.remote() for _ in range(2)]
    aktis.get(refs, timeout=TIMEOUT_S)
    spans = {event["name"]: event["args"]["task_id"] for event in aktis.timeline() or []}
    for task in (ref.task_id().hex() for ref in refs):
        assert spans[f"span of {task}"] == task


def test_a_thread_belongs_to_the_task_whose_context_it_has() -> None:
    me, child = aktis.get(Spawner.remote().in_thread.remote(), timeout=TIMEOUT_S)
    assert (child.parent, child.trace) == (me.task, me.trace)

    @aktis.remote
    def threads() -> tuple[Identity, list[Identity]]:
        found: list[Identity] = []

        def ask() -> None:
            found.extend((identity(), aktis.get(who.options(num_cpus=0).remote())))

        context = contextvars.copy_context()
        for target in (lambda: context.run(ask), ask):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        return identity(), found

    me, (copied, copied_child, bare, bare_child) = aktis.get(threads.remote(), timeout=TIMEOUT_S)
    assert copied == me
    assert (copied_child.parent, copied_child.trace) == (me.task, me.trace)
    assert bare == (None, None, None)
    assert bare_child.parent == bytes(16).hex()
    assert bare_child.trace != me.trace


def test_a_thread_of_a_task_that_waits_lends_its_cpu() -> None:
    @aktis.remote
    def ask_in_thread() -> Any:
        child = who.remote()  # has the only CPU when the task blocks, and not before
        return asyncio.run(asyncio.to_thread(aktis.get, child))

    ref = ask_in_thread.remote()
    assert aktis.get(ref, timeout=TIMEOUT_S).parent == ref.task_id().hex()


def test_a_bare_thread_that_waits_lends_the_cpu_of_the_task_that_runs() -> None:
    @aktis.remote
    def ask_in_pool() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: aktis.get(who.remote())).result()

    assert aktis.get(ask_in_pool.remote(), timeout=TIMEOUT_S).task is not None


def test_a_thread_that_a_task_leaves_waiting_does_not_hold_up_the_next_one(tmp_path: Path) -> None:
    board = Board.remote()
    path = str(tmp_path / "fifo")
    os.mkfifo(path)

    @aktis.remote
    def child() -> None:
        Path(path).write_text("runs")

    @aktis.remote
    def leave_waiting(board: Any) -> int:
        if board is not None:
            never = board.hear.remote("never")
            threading.Thread(target=lambda: aktis.get([child.remote(), never]), daemon=True).start()
            Path(path).read_text()  # it has the CPU that the waiting thread lends
        return os.getpid()

    first = aktis.get(leave_waiting.remote(board), timeout=TIMEOUT_S)
    for _ in range(20):
        pid = aktis.get(leave_waiting.remote(None), timeout=TIMEOUT_S)
        if pid == first:
            return
        os.kill(pid, signal.SIGKILL)  # until only the first is left
    raise AssertionError("the worker refuses tasks")


def test_a_call_that_waited_does_not_see_what_the_one_before_it_set() -> None:
    @aktis.remote(max_concurrency=1)
    class Polite:
        def __init__(self) -> None:
            self.mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")

        async def set(self, value: str) -> str:
            before = self.mark.get()
            self.mark.set(value)
            await asyncio.sleep(0)
            return before

    polite = Polite.remote()
    assert aktis.get([polite.set.remote(str(n)) for n in range(5)], timeout=TIMEOUT_S) == ["unset"] * 5


def test_a_forked_child_is_not_part_of_the_task() -> None:
    @aktis.remote
    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if current_task() is None else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert aktis.get(fork.remote(), timeout=TIMEOUT_S) == 0
