"""Cancelling: queued, running, by force, with children, in async actors."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.exceptions import TaskCancelledError

from tests.support.board import Board
from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("cancel")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=1):
        yield


@aktis.remote(max_retries=0)
def busy(board: Any, name: str) -> None:
    """Run until interrupted; say how that went."""
    try:
        aktis.get(board.say.remote(name))
        end = time.monotonic() + 40
        while time.monotonic() < end:
            pass
    except KeyboardInterrupt:
        aktis.get(board.say.remote(f"{name} interrupted"))
        raise


def test_a_running_task_is_interrupted_and_its_worker_goes_on() -> None:
    board: Any = Board.remote()
    ref = busy.remote(board, "a")
    aktis.get(board.hear.remote("a"))
    aktis.cancel(ref)
    with pytest.raises(TaskCancelledError):
        aktis.get(ref, timeout=30)
    assert "a interrupted" in aktis.get(board.all.remote())


def test_a_queued_task_never_runs() -> None:
    board: Any = Board.remote()
    first = busy.remote(board, "first")
    aktis.get(board.hear.remote("first"))
    second = busy.remote(board, "second")
    aktis.cancel(second)
    with pytest.raises(TaskCancelledError):
        aktis.get(second, timeout=30)
    aktis.cancel(first)
    with pytest.raises(TaskCancelledError):
        aktis.get(first, timeout=30)
    assert "second" not in aktis.get(board.all.remote())


def test_a_task_that_waits_is_interrupted() -> None:
    board: Any = Board.remote()

    @aktis.remote
    def wait(board: Any) -> None:
        aktis.get(board.say.remote("waits"))
        aktis.get(board.hear.remote("never"))

    ref = wait.remote(board)
    aktis.get(board.hear.remote("waits"))
    aktis.cancel(ref, recursive=False)
    with pytest.raises(TaskCancelledError):
        aktis.get(ref, timeout=30)


def test_a_finished_task_stays_as_it_is() -> None:
    @aktis.remote
    def one() -> int:
        return 1

    ref = one.remote()
    assert aktis.get(ref) == 1
    aktis.cancel(ref)
    assert aktis.get(ref) == 1


def test_force_kills_the_worker(tmp_path: Path) -> None:
    @aktis.remote
    def stubborn(path: str) -> None:
        Path(path).write_text(str(os.getpid()))
        while True:
            try:
                threading.Event().wait(1)
            except KeyboardInterrupt:
                continue

    @aktis.remote(num_cpus=0)
    def begun(path: str) -> None:
        while not Path(path).exists():
            os.sched_yield()

    path = str(tmp_path / "pid")
    ref = stubborn.remote(path)
    aktis.get(begun.remote(path))
    aktis.cancel(ref, force=True)
    with pytest.raises(TaskCancelledError):
        aktis.get(ref, timeout=30)


def test_children_are_cancelled_too() -> None:
    board: Any = Board.remote()

    @aktis.remote
    def parent(board: Any) -> None:
        aktis.get(busy.remote(board, "child"))

    ref = parent.remote(board)
    aktis.get(board.hear.remote("child"))
    aktis.cancel(ref)
    with pytest.raises(TaskCancelledError):
        aktis.get(ref, timeout=30)
    aktis.get(board.hear.remote("child interrupted"), timeout=30)


def test_coroutines_are_cancelled() -> None:
    @aktis.remote
    class Waiter:
        def __init__(self) -> None:
            self.begun = asyncio.Event()
            self.cancelled = False

        async def forever(self) -> None:
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

        async def wait_begun(self) -> None:
            await self.begun.wait()

        async def was_cancelled(self) -> bool:
            return self.cancelled

    waiter = Waiter.remote()
    ref = waiter.forever.remote()
    aktis.get(waiter.wait_begun.remote())
    with pytest.raises(ValueError, match=r"kill\(\)"):
        aktis.cancel(ref, force=True)
    aktis.cancel(ref)
    with pytest.raises(TaskCancelledError):
        aktis.get(ref, timeout=30)
    assert aktis.get(waiter.was_cancelled.remote()) is True


def test_a_plain_actors_call_is_interrupted_and_the_next_one_is_not() -> None:
    board: Any = Board.remote()

    @aktis.remote
    class Worker:
        def work(self, board: Any) -> None:
            aktis.get(board.say.remote("works"))
            end = time.monotonic() + 40
            while time.monotonic() < end:
                pass

        def next(self) -> str:
            return "fine"

    worker = Worker.remote()
    ref = worker.work.remote(board)
    after = worker.next.remote()
    aktis.get(board.hear.remote("works"))
    aktis.cancel(ref)
    with pytest.raises(TaskCancelledError):
        aktis.get(ref, timeout=30)
    assert aktis.get(after) == "fine"


def test_what_depends_on_a_cancelled_task_is_cancelled() -> None:
    board: Any = Board.remote()

    @aktis.remote
    def use(value: Any) -> Any:
        return value

    ref = busy.remote(board, "needed")
    user = use.remote(ref)
    aktis.get(board.hear.remote("needed"))
    aktis.cancel(ref)
    with pytest.raises(TaskCancelledError):
        aktis.get(user, timeout=30)


def test_cancel_refuses_what_is_no_reference() -> None:
    with pytest.raises(TypeError, match=r"kill\(\) is for actors"):
        aktis.cancel(3)  # type: ignore[arg-type]
