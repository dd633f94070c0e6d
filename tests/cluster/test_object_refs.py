"""The interface of references, and put() with what other programs pass to it."""

import asyncio
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import aktis
import pytest
from aktis.exceptions import OwnerDiedError, SessionEndedError

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("object_refs")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=1):
        yield


@aktis.remote
def same(value: Any) -> Any:
    return value


def test_ids() -> None:
    ref = aktis.put(1)
    assert ref.hex() == ref.binary().hex()
    assert len(ref.binary()) == ref.size()
    assert isinstance(ref.task_id(), aktis.TaskID)
    assert ref.task_id().binary() == ref.binary()[:16]
    assert ref.job_id() == aktis.JobID.from_hex(aktis.get_runtime_context().get_job_id())
    pair: Any = same.options(num_returns=2).remote((1, 2))
    first, second = pair
    assert first.task_id() == second.task_id() != ref.task_id()
    assert not ref.is_nil()


def test_comparison_and_hash() -> None:
    ref = aktis.put(1)
    assert ref == ref and ref != aktis.put(1) and ref != ref.binary() and ref != None  # noqa: E711, PT018
    assert {ref: "found"}[aktis.get(aktis.put([ref]))[0]] == "found"
    with pytest.raises(TypeError, match="not supported between"):
        ref < aktis.put(2)  # type: ignore[operator]  # noqa: B015
    assert ref.hex() in repr(ref) == str(ref)


def test_it_is_generic_and_cannot_be_made_or_derived_from() -> None:
    assert aktis.ObjectRef[int].__origin__ is aktis.ObjectRef
    with pytest.raises(TypeError):
        aktis.ObjectRef()
    with pytest.raises(TypeError):
        type("Mine", (aktis.ObjectRef,), {})


def test_futures() -> None:
    future = same.remote(3).future()
    assert isinstance(future, Future)
    assert future.result(timeout=30) == 3

    async def play() -> None:
        one = same.remote(4).as_future()
        assert isinstance(one, asyncio.Future)
        assert await asyncio.wait_for(one, 30) == 4
        assert list(await asyncio.gather(same.remote(5), aktis.put(6))) == [5, 6]
        never = same.remote(same.remote(1)).as_future()
        never.cancel()
        with pytest.raises(asyncio.CancelledError):
            await never

    asyncio.run(play())


@pytest.mark.parametrize("make", [aktis.ObjectRef.nil, aktis.ObjectRef.from_random])
def test_what_is_only_an_id(make: Any) -> None:
    ref = make()
    assert ref.is_nil() == (make is aktis.ObjectRef.nil)
    assert len(ref.binary()) == ref.size()
    assert (ref == make()) == ref.is_nil()
    assert ref in {ref}
    uses: list[Callable[[], Any]] = [
        lambda: aktis.get(ref, timeout=5),
        lambda: aktis.wait([ref], timeout=5),
        lambda: ref.future(),
        lambda: asyncio.run(asyncio.wait_for(ref, 5)),
        lambda: aktis.free([ref]),
        lambda: aktis.cancel(ref),
        lambda: same.remote(ref),
        lambda: pickle.dumps(ref),
    ]
    for use in uses:
        with pytest.raises(SessionEndedError, match="is only an id"):
            use()
    with pytest.raises(TypeError, match="is only an id"):
        aktis.put([ref])


def test_pickled_outside_of_a_task_it_comes_back_as_long_as_its_session_lasts() -> None:
    pickled = pickle.dumps(aktis.put("kept"))
    assert aktis.get(pickle.loads(pickled)) == "kept"
    assert aktis.get(pickle.loads(pickled)) == "kept"


def test_a_pickle_of_an_earlier_session_says_that_its_owner_is_dead() -> None:
    pickled = pickle.dumps(aktis.put("gone"))
    aktis.shutdown()
    try:
        with pytest.raises(RuntimeError, match=r"can only be loaded or sent while .* call aktis.init"):
            pickle.loads(pickled)
        assert not aktis.is_initialized()
    finally:
        aktis.init(address="local", num_cpus=1)
    with pytest.raises(OwnerDiedError):
        aktis.get(pickle.loads(pickled), timeout=30)


def test_put_takes_what_other_programs_pass() -> None:
    ref = aktis.put("x", _pin_memory=True, _owner=None, _tensor_transport="object_store")
    assert aktis.get(ref) == "x"
    with pytest.raises(ValueError, match=r"cannot make 3 the owner.*let a method of the actor put"):
        aktis.put("x", _owner=3)
    with pytest.raises(ValueError, match="not 'nccl'"):
        aktis.put("x", _tensor_transport="nccl")
