"""Async actors: one loop, coroutines that interleave, groups, awaited references."""

import asyncio
from collections.abc import Iterator
from typing import Any

import aktis
import pytest
from aktis.exceptions import ActorDiedError

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("async")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@aktis.remote
class Signal:
    """Coroutines wait until one of them says go."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.waiting = 0
        self.most = 0

    async def wait(self) -> int:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.event.wait()
        self.waiting -= 1
        return self.most

    async def go(self) -> None:
        self.event.set()

    def sync(self) -> bool:
        return asyncio.get_running_loop().is_running()

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise KeyError("async")

    async def leave(self) -> None:
        aktis.exit_actor()

    async def task_ids(self) -> tuple[str | None, str | None]:
        before = aktis.get_runtime_context().get_task_id()
        await asyncio.sleep(0)
        return before, aktis.get_runtime_context().get_task_id()


def test_coroutines_interleave() -> None:
    signal = Signal.remote()
    waiting = [signal.wait.remote() for _ in range(50)]
    aktis.get(signal.go.remote())
    assert max(aktis.get(waiting)) > 1


def test_many_calls() -> None:
    signal = Signal.remote()
    aktis.get(signal.go.remote())
    assert len(aktis.get([signal.wait.remote() for _ in range(1000)])) == 1000


def test_sync_methods_run_on_the_loop() -> None:
    assert aktis.get(Signal.remote().sync.remote()) is True


def test_exceptions() -> None:
    signal = Signal.remote()
    with pytest.raises(KeyError, match="async"):
        aktis.get(signal.fail.remote())
    assert aktis.get(signal.sync.remote()) is True


def test_max_concurrency_limits_coroutines() -> None:
    signal = Signal.options(max_concurrency=2).remote()
    waiting = [signal.wait.remote() for _ in range(4)]
    done, _ = aktis.wait(waiting, timeout=0.2)
    assert done == []
    aktis.kill(signal)
    with pytest.raises(ActorDiedError):
        aktis.get(waiting)


def test_groups_have_their_own_limits() -> None:
    @aktis.remote(concurrency_groups={"control": 1}, max_concurrency=1)
    class Grouped:
        def __init__(self) -> None:
            self.event = asyncio.Event()

        async def wait(self) -> str:
            await self.event.wait()
            return "went"

        @aktis.method(concurrency_group="control")
        async def go(self) -> None:
            self.event.set()

    grouped = Grouped.remote()
    waiting = grouped.wait.remote()
    aktis.get(grouped.go.remote())
    assert aktis.get(waiting) == "went"


def test_references_are_awaited_in_actors() -> None:
    @aktis.remote
    def square(n: int) -> int:
        return n * n

    @aktis.remote
    class Gatherer:
        async def squares(self, count: int) -> list[Any]:
            return list(await asyncio.gather(*(square.remote(n) for n in range(count))))

        async def ask(self, other: Any) -> Any:
            return await other.sync.remote()

    gatherer = Gatherer.remote()
    assert aktis.get(gatherer.squares.remote(10)) == [n * n for n in range(10)]
    assert aktis.get(gatherer.ask.remote(Signal.remote())) is True


def test_each_coroutine_knows_its_task() -> None:
    signal = Signal.remote()
    refs = [signal.task_ids.remote() for _ in range(5)]
    for ref, (before, after) in zip(refs, aktis.get(refs), strict=True):
        assert before == after == ref.task_id().hex()


def test_exit_actor_from_a_coroutine() -> None:
    signal = Signal.remote()
    with pytest.raises(ActorDiedError, match="exit_actor"):
        aktis.get(signal.leave.remote())
