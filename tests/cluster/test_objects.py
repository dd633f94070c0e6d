"""put, get, wait and references on a real cluster."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import aktis
import numpy as np
import pytest
from aktis.exceptions import GetTimeoutError, ObjectStoreFullError

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("objects")
STORE_BYTES = 64 << 20


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2, object_store_memory=STORE_BYTES):
        yield


@pytest.fixture
def never() -> Iterator[Any]:
    """A task that ends when the test does."""

    @aktis.remote
    class Gate:
        def __init__(self) -> None:
            self.event = asyncio.Event()

        async def wait(self) -> str:
            await self.event.wait()
            return "open"

        async def open(self) -> None:
            self.event.set()

    gate = Gate.remote()
    yield gate.wait.remote()
    aktis.get(gate.open.remote())


@pytest.mark.parametrize(
    "value", [None, 1, "text", b"bytes", [1, [2, {3}]], {"a": (1, 2)}, 1.5, range(3), ValueError]
)
def test_values_come_back_equal(value: Any) -> None:
    assert aktis.get(aktis.put(value)) == value


def test_exceptions_are_values_too() -> None:
    error = aktis.get(aktis.put(ValueError("x")))
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("count", [10, 1_000_000])
def test_arrays_come_back_equal_and_large_ones_read_only(count: int) -> None:
    array = np.arange(count, dtype=np.float64)
    result = aktis.get(aktis.put(array))
    assert np.array_equal(result, array)
    if count > 100_000:
        with pytest.raises(ValueError, match="read-only"):
            result[0] = 1


def test_a_list_keeps_the_order() -> None:
    assert aktis.get([aktis.put(n) for n in range(100)]) == list(range(100))
    assert aktis.get([]) == []


def test_references_are_equal_hashed_and_printed_by_their_id() -> None:
    ref = aktis.put(1)
    (same,) = aktis.get(aktis.put([ref]))
    assert same == ref
    assert len({ref, same}) == 1
    assert ref.hex() in repr(ref)
    assert aktis.put(1) != ref


def test_an_array_outlives_its_reference() -> None:
    array = aktis.get(aktis.put(np.ones(1_000_000)))
    gc.collect()
    assert array.sum() == 1_000_000


def test_freed_memory_is_used_again() -> None:
    for number in range(20):
        array = np.full(STORE_BYTES // 4 // 8, number, dtype=np.float64)
        assert aktis.get(aktis.put(array))[0] == number


def test_an_object_larger_than_the_store_is_refused() -> None:
    with pytest.raises(ObjectStoreFullError):
        aktis.put(np.ones(STORE_BYTES // 8 * 2))


def test_get_waits_as_long_as_it_may(never: Any) -> None:
    with pytest.raises(GetTimeoutError, match=r"1 of 1 objects were not ready within 0.05 s"):
        aktis.get(never, timeout=0.05)
    with pytest.raises(TimeoutError):
        aktis.get([aktis.put(1), never], timeout=0)


def test_wait_keeps_order_and_returns_exactly_what_was_asked_for(never: Any) -> None:
    ready = [aktis.put(n) for n in range(4)]
    refs = [ready[0], never, *ready[1:]]
    done, others = aktis.wait(refs, num_returns=2)
    assert done == [ready[0], ready[1]]
    assert others == [never, ready[2], ready[3]]
    done, others = aktis.wait(refs, num_returns=5, timeout=0.05)
    assert done == ready
    assert others == [never]
    assert aktis.wait([never], timeout=0) == ([], [never])
    assert aktis.wait([]) == ([], [])


def test_failed_objects_are_ready() -> None:
    @aktis.remote
    def fail() -> None:
        raise ValueError

    ref = fail.remote()
    assert aktis.wait([ref], timeout=30) == ([ref], [])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"refs": 3}, TypeError),
        ({"refs": [3]}, TypeError),
        ({"refs": None}, TypeError),
        ({"num_returns": 0}, ValueError),
        ({"num_returns": 3}, ValueError),
        ({"num_returns": "1"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": "1"}, TypeError),
    ],
)
def test_wait_refuses_bad_arguments(arguments: dict[str, Any], error: type[Exception]) -> None:
    call = {"refs": [aktis.put(1), aktis.put(2)], **arguments}
    with pytest.raises(error):
        aktis.wait(call.pop("refs"), **call)


def test_wait_refuses_the_same_reference_twice() -> None:
    ref = aktis.put(1)
    with pytest.raises(ValueError, match="distinct"):
        aktis.wait([ref, ref])


def test_get_and_put_refuse_bad_arguments() -> None:
    with pytest.raises(ValueError, match="ObjectRef or a list"):
        aktis.get(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="int 3"):
        aktis.get([3])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout"):
        aktis.get(aktis.put(1), timeout="1")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="ObjectRef"):
        aktis.put(aktis.put(1))


def test_awaiting_references_and_futures() -> None:
    @aktis.remote
    def slow(n: int) -> int:
        return n

    async def gather() -> list[int]:
        return await asyncio.gather(*(slow.remote(n) for n in range(20)), aktis.put(20))

    assert asyncio.run(gather()) == list(range(21))
    assert slow.remote(3).future().result(timeout=30) == 3


def test_awaiting_a_failed_task_raises() -> None:
    @aktis.remote
    def fail() -> None:
        raise KeyError("x")

    async def wait() -> None:
        await fail.remote()

    with pytest.raises(KeyError):
        asyncio.run(wait())
    assert isinstance(fail.remote().future().exception(timeout=30), KeyError)
