"""Streaming generators on a real cluster: order, errors, retries, back-pressure, letting go."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aktis
import numpy as np
import pytest
from aktis.exceptions import TaskCancelledError, WorkerCrashedError

from tests.support.board import Board
from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("generators")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@aktis.remote
def count(n: int) -> Iterator[int]:
    yield from range(n)


def test_items_come_in_order_and_then_the_end() -> None:
    generator = count.remote(1_000)
    assert isinstance(generator, aktis.ObjectRefGenerator)
    assert [aktis.get(ref) for ref in generator] == list(range(1_000))
    assert generator.is_finished()
    with pytest.raises(StopIteration):
        next(generator)


def test_an_item_is_there_before_the_task_has_ended() -> None:
    gate = Board.remote()

    @aktis.remote
    def slow(gate: Any) -> Iterator[str]:
        yield "early"
        aktis.get(gate.hear.remote("go"))
        yield "late"

    generator = slow.remote(gate)
    assert aktis.get(next(generator)) == "early"
    assert not generator.next_ready()
    assert aktis.wait([generator], timeout=0) == ([], [generator])
    aktis.get(gate.say.remote("go"))
    ready, _ = aktis.wait([generator], timeout=30)
    assert ready == [generator]
    assert aktis.get(next(generator)) == "late"


def test_large_items_are_mapped_and_references_in_items_live() -> None:
    @aktis.remote
    def make() -> Iterator[Any]:
        for number in range(3):
            yield np.full(1 << 18, number)
        yield [aktis.put("inside")]

    *arrays, nested = list(make.remote())
    assert [int(aktis.get(ref)[5]) for ref in arrays] == [0, 1, 2]
    assert aktis.get(aktis.get(nested)[0]) == "inside"


def test_an_exception_is_the_last_item_and_the_error_of_the_whole() -> None:
    @aktis.remote
    def breaks() -> Iterator[int]:
        yield 1
        raise KeyError("in mid-stream")

    generator = breaks.remote()
    first, second = list(generator)
    assert aktis.get(first) == 1
    with pytest.raises(KeyError, match="in mid-stream"):
        aktis.get(second)
    with pytest.raises(KeyError):
        aktis.get(generator.completed())


def test_a_worker_that_dies_in_mid_stream_repeats_nothing_for_the_consumer(tmp_path: Path) -> None:
    @aktis.remote
    def dies(marker: Path) -> Iterator[int]:
        for number in range(6):
            if number == 4 and not marker.exists():
                marker.touch()
                os._exit(3)
            yield number

    assert [aktis.get(ref) for ref in dies.remote(tmp_path / "died")] == list(range(6))

    generator = dies.options(max_retries=0).remote(tmp_path / "again")
    *items, last = list(generator)
    assert [aktis.get(ref) for ref in items] == list(range(len(items)))
    with pytest.raises(WorkerCrashedError):
        aktis.get(last)


def test_exceptions_are_retried_when_asked_for(tmp_path: Path) -> None:
    @aktis.remote(retry_exceptions=[OSError])
    def flaky(marker: Path) -> Iterator[int]:
        yield 1
        if not marker.exists():
            marker.touch()
            raise OSError("once")
        yield 2

    assert [aktis.get(ref) for ref in flaky.remote(tmp_path / "failed")] == [1, 2]


def test_the_generator_waits_while_its_consumer_lags(tmp_path: Path) -> None:
    gate = Board.remote()

    @aktis.remote(generator_backpressure_num_objects=3)
    def produce(path: Path, gate: Any) -> Iterator[int]:
        for number in range(12):
            with path.open("a") as file:
                file.write("x")
            if number == 3:
                gate.say.remote("ahead")  # the consumer has taken one: three wait, and this is the next
            yield number

    path = tmp_path / "produced"
    generator = produce.remote(path, gate)
    taken = [aktis.get(next(generator))]
    aktis.get(gate.hear.remote("ahead"))
    assert path.stat().st_size == 4
    taken += [aktis.get(ref) for ref in generator]
    assert taken == list(range(12))


def test_a_dropped_generator_runs_to_its_end_and_keeps_nothing(tmp_path: Path) -> None:
    @aktis.remote(generator_backpressure_num_objects=2)
    def produce(path: Path) -> Iterator[Any]:
        for number in range(10):
            yield np.full(1 << 17, number)
        path.touch()

    generator = produce.remote(tmp_path / "ended")
    next(generator)
    completed = generator.completed()
    del generator
    aktis.get(completed, timeout=30)
    assert (tmp_path / "ended").exists()


def test_cancelling_ends_the_stream_with_the_error(tmp_path: Path) -> None:
    @aktis.remote
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    generator = endless.options(generator_backpressure_num_objects=5).remote()
    next(generator)
    aktis.cancel(generator)
    *_, last = generator
    with pytest.raises(TaskCancelledError):
        aktis.get(last)


def test_actors_stream_from_methods_of_every_kind() -> None:
    @aktis.remote
    class Plain:
        def items(self, n: int) -> Iterator[int]:
            yield from range(n)

    @aktis.remote
    class Async:
        async def items(self, n: int) -> AsyncIterator[int]:
            for number in range(n):
                await asyncio.sleep(0)
                yield number

        def plain_items(self, n: int) -> Iterator[int]:
            yield from range(n)

    plain, threaded, coroutines = Plain.remote(), Plain.options(max_concurrency=2).remote(), Async.remote()
    methods = [plain.items, threaded.items, coroutines.items, coroutines.plain_items]
    for method in methods:
        assert [aktis.get(ref) for ref in method.remote(20)] == list(range(20))
    limited = [method.options(generator_backpressure_num_objects=1) for method in methods]
    for method in limited:
        assert [aktis.get(ref) for ref in method.remote(20)] == list(range(20))


def test_items_are_awaited() -> None:
    async def consume() -> list[int]:
        return [await ref async for ref in count.remote(100)]

    assert asyncio.run(consume()) == list(range(100))


def test_dynamic_returns_one_list_of_references() -> None:
    @aktis.remote(num_returns="dynamic")
    def squares(n: int) -> Iterator[int]:
        for number in range(n):
            yield number * number

    refs: Any = aktis.get(squares.remote(4))
    assert len(refs) == 4
    assert [aktis.get(ref) for ref in refs] == [0, 1, 4, 9]


def test_wrong_uses_say_what_to_do() -> None:
    generator = count.remote(1)
    assert aktis.get(generator) is generator
    with pytest.raises(TypeError, match="take its references and send those"):
        aktis.put(generator)

    @aktis.remote(num_returns="streaming")
    def plain() -> Any:
        return 3

    stream: Any = plain.remote()
    (only,) = list(stream)
    with pytest.raises(TypeError, match="must be a generator"):
        aktis.get(only)
    with pytest.raises(ValueError, match="'streaming' or 'dynamic'"):
        count.options(num_returns="all")  # type: ignore[call-overload]


def test_nothing_is_kept_of_streams_that_are_over() -> None:
    from aktis._runtime import current

    core = current.require().core
    before = core.statistics()["objects"]
    generator = count.remote(50)
    next(generator)
    del generator
    for ref in count.remote(20):
        aktis.get(ref)
    del ref
    assert aktis.get(count.remote(0).completed(), timeout=30) is None
    assert core.statistics()["objects"] <= before
