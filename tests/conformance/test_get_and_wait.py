"""get, put and wait, in each case."""

import asyncio
from collections.abc import Iterator

import pytest
import ray

from tests.conformance.parts import Gate, echo, fail
from tests.conformance.systems import running_cluster

DEADLINE_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster():
        yield


@pytest.fixture(scope="module")
def never(cluster: None) -> Iterator[object]:
    """A reference to what does not come."""
    gate = Gate.remote()
    yield gate.wait.remote()
    ray.kill(gate)


# ---- get ----


def test_get_of_one_and_of_a_list() -> None:
    assert ray.get(echo.remote(1)) == 1
    assert ray.get([echo.remote(1), echo.remote(2)]) == [1, 2]
    assert ray.get([]) == []


def test_get_of_a_list_with_a_reference_twice() -> None:
    ref = echo.remote("same")
    assert ray.get([ref, ref]) == ["same", "same"]


def test_get_with_a_timeout_of_zero_takes_what_is_there(never: object) -> None:
    ref = ray.put(1)
    assert ray.get(ref, timeout=0) == 1
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(never, timeout=0)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get([ref, never], timeout=0)


def test_get_with_a_timeout_that_passes(never: object) -> None:
    with pytest.raises(TimeoutError):
        ray.get(never, timeout=0.01)


@pytest.mark.differs("negative-timeout", run=False)
def test_get_with_a_negative_timeout(never: object) -> None:
    with pytest.raises(ValueError, match="timeout"):
        ray.get(never, timeout=-0.5)


@pytest.mark.differs("arguments-are-checked")
def test_get_with_a_timeout_that_is_no_number() -> None:
    with pytest.raises(TypeError):
        ray.get(ray.put(1), timeout="1")


@pytest.mark.parametrize("value", [1, None, "text", {"a": 1}], ids=repr)
def test_get_takes_nothing_but_references(value: object) -> None:
    with pytest.raises(ValueError):
        ray.get(value)


def test_get_takes_no_nested_lists() -> None:
    with pytest.raises((TypeError, ValueError)):
        ray.get([[ray.put(1)]])
    with pytest.raises((TypeError, ValueError)):
        ray.get([ray.put(1), 2])


def test_get_of_a_list_raises_the_first_error_in_its_order() -> None:
    good, first, second = echo.remote(1), fail.remote("first"), fail.remote("second")
    ray.wait([first, second], num_returns=2, timeout=DEADLINE_S)
    with pytest.raises(ValueError, match="first"):
        ray.get([good, first, second])


def test_get_leaves_nested_references_as_they_are() -> None:
    inner = ray.put("inner")
    (outer,) = ray.get(ray.put([inner]))
    assert outer == inner
    assert ray.get(outer) == "inner"


def test_arrays_are_read_only() -> None:
    numpy = pytest.importorskip("numpy")  # tidy: allow  the peer may lack it
    view = ray.get(ray.put(numpy.zeros(200_000)))
    assert not view.flags.writeable


# ---- put ----


def test_put_of_a_reference_is_refused() -> None:
    with pytest.raises(TypeError):
        ray.put(ray.put(1))


def test_put_of_what_cannot_be_pickled() -> None:
    import threading

    with pytest.raises(TypeError):
        ray.put(threading.Lock())


def test_values_are_copies() -> None:
    value = [1]
    ref = ray.put(value)
    value.append(2)
    assert ray.get(ref) == [1]
    ray.get(ref).append(3)
    assert ray.get(ref) == [1]


# ---- wait ----


def test_wait_keeps_the_order_and_returns_exactly_num_returns(never: object) -> None:
    a, b, c = ray.put("a"), ray.put("b"), ray.put("c")
    assert ray.wait([c, never, a], num_returns=2) == ([c, a], [never])
    assert ray.wait([never, b], num_returns=1) == ([b], [never])
    refs = [c, b, never, a]
    ready, others = ray.wait(refs, num_returns=2)
    assert ready == [ref for ref in refs if ref in ready]
    assert others == [ref for ref in refs if ref in others]
    assert (len(ready), len(others)) == (2, 2)


@pytest.mark.differs("wait-takes-the-first")
def test_wait_returns_the_first_ones_of_those_that_are_ready() -> None:
    refs = [ray.put(index) for index in range(20)]
    assert ray.wait(refs, num_returns=10) == (refs[:10], refs[10:])


def test_wait_is_for_one_by_default() -> None:
    refs = [ray.put(index) for index in range(3)]
    ready, rest = ray.wait(refs)
    assert len(ready) == 1
    assert set(ready + rest) == set(refs)
    assert len(rest) == 2


def test_wait_returns_fewer_when_the_time_is_up(never: object) -> None:
    ref = ray.put(1)
    assert ray.wait([never, ref], num_returns=2, timeout=0.01) == ([ref], [never])
    assert ray.wait([never], timeout=0) == ([], [never])


def test_what_has_failed_is_ready() -> None:
    ref = fail.remote()
    assert ray.wait([ref], timeout=DEADLINE_S) == ([ref], [])


def test_wait_of_nothing() -> None:
    assert ray.wait([]) == ([], [])


@pytest.mark.parametrize("num_returns", [0, -1, 3])
def test_num_returns_is_at_least_one_and_at_most_all(num_returns: int) -> None:
    with pytest.raises(ValueError):
        ray.wait([ray.put(1), ray.put(2)], num_returns=num_returns)


def test_references_to_wait_for_are_distinct() -> None:
    ref = ray.put(1)
    with pytest.raises(ValueError):
        ray.wait([ref, ref])


def test_wait_takes_a_list_of_references() -> None:
    with pytest.raises(TypeError):
        ray.wait(ray.put(1))
    with pytest.raises(TypeError):
        ray.wait([1])


def test_wait_with_a_negative_timeout() -> None:
    with pytest.raises(ValueError):
        ray.wait([ray.put(1)], timeout=-1)


def test_wait_without_fetching(never: object) -> None:
    ref = ray.put(1)
    assert ray.wait([ref, never], fetch_local=False) == ([ref], [never])


# ---- references ----


def test_a_reference_is_a_value() -> None:
    ref = ray.put(1)
    (copy,) = ray.get(ray.put([ref]))
    assert copy == ref
    assert hash(copy) == hash(ref)
    assert len({copy, ref}) == 1
    assert copy != ray.put(1)
    assert bytes.fromhex(ref.hex()) == ref.binary()
    assert ref.hex() in repr(ref)
    assert not ref.is_nil()
    assert isinstance(ref, ray.ObjectRef)


def test_a_reference_names_the_task_that_makes_it() -> None:
    @ray.remote
    def own_id() -> object:
        return ray.get_runtime_context().get_task_id()

    ref = own_id.remote()
    assert ref.task_id().hex() == ray.get(ref)


def test_a_reference_can_be_awaited() -> None:
    async def main() -> object:
        one, two = echo.remote(1), echo.remote(2)
        return await one, await asyncio.gather(one, two), await asyncio.wait_for(two, DEADLINE_S)

    assert asyncio.run(main()) == (1, [1, 2], 2)


def test_awaiting_raises_the_error() -> None:
    async def main() -> None:
        await fail.remote("awaited")

    with pytest.raises(ValueError, match="awaited"):
        asyncio.run(main())


def test_a_reference_has_a_future() -> None:
    assert echo.remote(5).future().result(timeout=DEADLINE_S) == 5
    error = fail.remote("future").future().exception(timeout=DEADLINE_S)
    assert isinstance(error, ValueError)


def test_a_reference_is_generic() -> None:
    assert ray.ObjectRef[int] is not None


def test_what_is_not_referenced_does_not_count_as_equal_to_other_types() -> None:
    ref = ray.put(1)
    assert ref != ref.hex()
    assert ref != ref.binary()


def test_references_that_stand_for_nothing() -> None:
    nil = ray.ObjectRef.nil()
    assert nil.is_nil()
    assert len(nil.binary()) == ray.ObjectRef.size()
    assert not ray.ObjectRef.from_random().is_nil()


def test_a_reference_as_a_future_of_asyncio() -> None:
    async def main() -> object:
        return await asyncio.wait_for(echo.remote("awaited").as_future(), DEADLINE_S)

    assert asyncio.run(main()) == "awaited"


def test_generators_and_references_can_be_waited_for_together() -> None:
    @ray.remote(num_cpus=0)
    def one() -> Iterator[int]:
        yield 1

    generator, ref = one.remote(), echo.remote(2)
    ready, others = ray.wait([generator, ref], num_returns=2, timeout=DEADLINE_S)
    assert ready == [generator, ref]
    assert others == []


@pytest.mark.differs("memory-stays-memory")
def test_memory_comes_back_as_memory() -> None:
    assert type(ray.get(ray.put(memoryview(b"abc")))) is memoryview
