"""Pools of actors: who works, in which order results come, what happens to errors and timeouts."""

import threading
from collections.abc import Iterator
from typing import Any

import aktis
import pytest
from aktis.util import ActorPool

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("util")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@aktis.remote(num_cpus=0, max_concurrency=2)
class Gate:
    """Holds calls back until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def open(self) -> None:
        self.opened.set()

    def wait(self) -> None:
        self.opened.wait(30)


@aktis.remote(num_cpus=0)
class Worker:
    def double(self, value: int) -> int:
        return 2 * value

    def after(self, gate: Any, value: int) -> int:
        aktis.get(gate.wait.remote())
        return value

    def fail(self, value: int) -> None:
        raise ValueError(value)


def double(actor: Any, value: int) -> Any:
    return actor.double.remote(value)


def fail(actor: Any, value: int) -> Any:
    return actor.fail.remote(value)


def make(count: int = 2) -> ActorPool:
    return ActorPool([Worker.remote() for _ in range(count)])


def test_map_keeps_the_order_and_map_unordered_does_not_lose_any() -> None:
    pool = make()
    assert list(pool.map(double, range(20))) == [2 * n for n in range(20)]
    assert sorted(pool.map_unordered(double, range(20))) == [2 * n for n in range(20)]
    assert not pool.has_next()
    assert pool.has_free()


def test_the_calls_of_map_begin_before_its_results_are_asked_for() -> None:
    taken = []

    def values() -> Iterator[int]:
        for number in range(5):
            taken.append(number)
            yield number

    pool = make()
    results = pool.map(double, values())
    assert taken == [0, 1, 2, 3, 4]
    assert next(results) == 0


def test_map_discards_what_nobody_has_fetched() -> None:
    pool = make(1)
    for value in (10, 11, 12):
        pool.submit(double, value)
    assert list(pool.map(double, [1, 2])) == [2, 4]


def test_a_slow_call_holds_back_the_ordered_results_only() -> None:
    gate = Gate.remote()
    pool = make()
    pool.submit(lambda actor, value: actor.after.remote(gate, value), "slow")
    pool.submit(double, 1)
    pool.submit(double, 2)
    assert not pool.has_free()
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01)
    assert pool.get_next_unordered() == 2
    assert pool.get_next_unordered() == 4, "went to the actor that was free again"
    with pytest.raises(ValueError, match="cannot follow get_next_unordered"):
        pool.get_next()
    aktis.get(gate.open.remote())
    assert pool.get_next_unordered() == "slow"
    pool.submit(double, 3)
    assert pool.get_next() == 6, "in order again once all were fetched"


@pytest.mark.parametrize("take", ["get_next", "get_next_unordered"])
def test_a_result_that_is_given_up_is_not_asked_for_again(take: str) -> None:
    gate = Gate.remote()
    pool = make(1)
    pool.submit(lambda actor, value: actor.after.remote(gate, value), "slow")
    pool.submit(double, 1)
    with pytest.raises(TimeoutError, match="given up"):
        getattr(pool, take)(timeout=0.01, ignore_if_timedout=True)
    aktis.get(gate.open.remote())
    assert getattr(pool, take)() == 2
    assert not pool.has_next()


def test_an_error_is_raised_and_its_actor_goes_on() -> None:
    pool = make(1)
    pool.submit(fail, 7)
    pool.submit(double, 1)
    with pytest.raises(ValueError, match="7"):
        pool.get_next()
    assert pool.get_next() == 2
    assert pool.has_free()


@pytest.mark.parametrize("take", ["get_next", "get_next_unordered"])
def test_a_function_that_fails_later_loses_no_other_result(take: str) -> None:
    def refuse(actor: Any, value: int) -> Any:
        raise LookupError(str(value))

    pool = make(1)
    with pytest.raises(LookupError, match="0"):
        pool.submit(refuse, 0)
    for call, value in ((double, 1), (refuse, 2), (refuse, 3), (double, 4)):
        pool.submit(call, value)
    get = getattr(pool, take)
    assert get() == 2
    for refused in ("2", "3"):
        with pytest.raises(LookupError, match=refused):
            get(timeout=30)
    assert get() == 8
    assert not pool.has_next()
    assert pool.has_free()
    assert list(pool.map(double, [5])) == [10]


def test_nothing_to_come_is_the_end_of_an_iteration() -> None:
    pool = make()
    for take in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(StopIteration):
            take()


def test_actors_come_and_go() -> None:
    first, second = Worker.remote(), Worker.remote()
    pool = ActorPool([first])
    assert pool.pop_idle() == first
    assert pool.pop_idle() is None
    assert not pool.has_free()
    pool.submit(double, 4)
    assert not pool.has_next(), "nobody is there to do it"
    pool.push(second)
    with pytest.raises(ValueError, match="already"):
        pool.push(second)
    assert pool.get_next() == 8
    with pytest.raises(ValueError, match="already"):
        pool.push(second)
