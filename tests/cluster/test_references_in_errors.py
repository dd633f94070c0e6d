"""References in exceptions on a real cluster: an error counts what it refers to like any other value."""

import threading
from collections.abc import Iterator
from typing import Any

import aktis
import pytest

from tests.support.clients import embedded
from tests.support.keepers import (
    LARGE,
    SMALL,
    STORE_BYTES,
    TIMEOUT_S,
    CarriesReferencesError,
    Keeper,
    Refs,
    assert_room_in_store,
    call,
    check,
    make,
    pass_back,
)
from tests.support.references import Freed

pytestmark = pytest.mark.xdist_group("references in errors")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2, object_store_memory=STORE_BYTES):
        yield


@pytest.fixture(params=[SMALL, LARGE], ids=["inline", "stored"])
def size(request: pytest.FixtureRequest) -> Iterator[int]:
    """Bytes of the object that the test is about; nothing of it may be left in the store."""
    yield request.param
    if request.param == LARGE:
        assert_room_in_store()


def references_raised_by(ref: Any) -> Refs:
    try:
        aktis.get(ref, timeout=TIMEOUT_S)
    except CarriesReferencesError as error:
        return error.refs
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("num_returns", [1, 2])
def test_captured_in_an_exception(size: int, num_returns: int) -> None:
    keeper = Keeper.remote()
    ref = aktis.put(make(SMALL))
    freed = Freed(ref)
    results = keeper.fail.options(num_returns=num_returns).remote([ref], size)
    results = results if num_returns > 1 else [results]
    del ref
    while results:
        own, borrowed = references_raised_by(results.pop())
        check(own, size)
        check(borrowed, SMALL)
        assert not freed.is_set
        del own, borrowed
    assert call(keeper.were_freed)
    assert freed.wait()


def test_captured_in_an_exception_that_ends_a_stream(size: int) -> None:
    keeper = Keeper.remote()
    stream = keeper.fail_after_an_item.options(num_returns="streaming").remote(size)
    first, last = stream
    assert aktis.get(first, timeout=TIMEOUT_S) == "an item"
    del stream
    dependent = pass_back.remote(last)
    check(references_raised_by(last)[0], size)
    del last
    check(references_raised_by(dependent)[0], size)
    del first, dependent
    assert call(keeper.were_freed)


def test_captured_in_an_exception_that_nobody_looks_at(size: int) -> None:
    keeper = Keeper.remote()
    failed = keeper.fail.remote([], size)
    aktis.wait([failed], timeout=TIMEOUT_S)
    del failed
    assert call(keeper.were_freed)


def test_captured_in_an_exception_that_dependent_tasks_take_over(size: int) -> None:
    keeper, other = Keeper.remote(), Keeper.remote()
    failed = keeper.fail.remote([], size)
    dependent = pass_back.remote(failed)
    call(other.keep, [failed])
    depends_there = other.read_inner.remote(size)
    with pytest.raises(CarriesReferencesError):
        aktis.get(depends_there, timeout=TIMEOUT_S)
    del failed, depends_there
    call(other.let_go)
    check(references_raised_by(dependent)[0], size)
    del dependent
    assert call(keeper.were_freed)


def test_captured_in_an_exception_that_a_borrowers_task_takes_over(size: int) -> None:
    keeper = Keeper.remote()

    @aktis.remote
    def depend(refs: Refs) -> Refs:
        return [pass_back.remote(refs[0])]

    failed = keeper.fail.remote([], size)
    (dependent,) = aktis.get(depend.remote([failed]), timeout=TIMEOUT_S)
    del failed
    check(references_raised_by(dependent)[0], size)
    del dependent
    assert call(keeper.were_freed)


def test_captured_in_exceptions_of_attempts_that_are_repeated(size: int) -> None:
    """None of them is kept when the task succeeds in the end, and none but the last when it does not."""
    keeper = Keeper.remote()
    repeated = keeper.fail_first.options(max_task_retries=3, retry_exceptions=True)
    result = repeated.remote(2, SMALL)
    assert aktis.get(result, timeout=TIMEOUT_S) == 2
    assert call(keeper.were_freed)
    result = repeated.remote(100, size)
    check(references_raised_by(result)[0], size)
    assert call(keeper.were_freed, 5)
    del result
    assert call(keeper.were_freed, 6)


def test_beside_something_that_cannot_be_pickled(size: int) -> None:
    @aktis.remote
    def take(good: Any, bad: Any) -> None: ...

    ref = aktis.put(make(size))
    freed = Freed(ref)
    with pytest.raises(TypeError, match=r"argument 1 of .*take\(\)"):
        take.remote([ref], threading.Lock())
    with pytest.raises(TypeError, match=r"\[1\] is the member at fault"):
        aktis.put([ref, threading.Lock()])
    del ref
    assert freed.wait()
