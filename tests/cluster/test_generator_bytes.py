"""Items of a generator that nobody takes: bounded in bytes, and never in the way of who waits for the end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("generator_bytes")
ITEM_BYTES = 50_000
LIMIT_BYTES = 10 * ITEM_BYTES
ITEMS = 1000  # enough that the word to wait, which takes its time, comes before the last
TIMEOUT_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One CPU: another task runs only while the generator does not."""
    with embedded(num_cpus=1, _system_config={"core.stream_bytes": LIMIT_BYTES}):
        yield


@aktis.remote
def produce(progress: Path, size_bytes: int) -> Iterator[bytes]:
    for number in range(ITEMS):
        progress.write_text(str(number))
        yield bytes(size_bytes)


def reached_when_it_waits(progress: Path) -> int:
    """Return how far the generator is when it waits: the one CPU is free then, and not before."""

    @aktis.remote
    def reached() -> int:  # closes over what differs per test, so that there is no lease for it already
        return int(progress.read_text())

    return aktis.get(reached.remote(), timeout=TIMEOUT_S)


@aktis.remote
class Async:
    reached = 0

    async def produce(self) -> Any:
        for number in range(ITEMS):
            self.reached = number
            yield bytes(ITEM_BYTES)

    async def progress(self) -> int:
        return self.reached


@pytest.mark.parametrize("size_bytes", [ITEM_BYTES, 4 * ITEM_BYTES], ids=["inline", "stored"])
def test_a_generator_waits_while_its_owner_keeps_too_much(tmp_path: Path, size_bytes: int) -> None:
    items = produce.remote(tmp_path / "progress", size_bytes)
    first = next(items)
    reached = reached_when_it_waits(tmp_path / "progress")
    assert reached < ITEMS - 1, "it has run to its end although nobody takes what it yields"
    assert reached >= LIMIT_BYTES // size_bytes, "it waits although there is room"
    assert len(aktis.get(first)) == size_bytes
    assert sum(len(aktis.get(ref)) for ref in items) == (ITEMS - 1) * size_bytes


@aktis.remote
def _nothing(value: object) -> None:
    del value


@aktis.remote
def _get(refs: list[Any]) -> None:
    aktis.get(refs[0])


WAITS_FOR_THE_END: dict[str, Callable[[Any], Any]] = {
    "get": lambda completed: aktis.get(completed, timeout=TIMEOUT_S),
    "wait": lambda completed: aktis.wait([completed], timeout=TIMEOUT_S)[0][0],
    "future": lambda completed: completed.future().result(TIMEOUT_S),
    "argument": lambda completed: aktis.get(_nothing.remote(completed), timeout=TIMEOUT_S),
    "borrower": lambda completed: aktis.get(_get.remote([completed]), timeout=TIMEOUT_S),
}


@pytest.mark.parametrize("wait", WAITS_FOR_THE_END.values(), ids=WAITS_FOR_THE_END)
def test_who_waits_for_the_end_need_not_take_the_items(tmp_path: Path, wait: Any) -> None:
    items = produce.remote(tmp_path / "progress", ITEM_BYTES)
    next(items)
    assert reached_when_it_waits(tmp_path / "progress") < ITEMS - 1
    wait(items.completed())
    assert aktis.get(items.completed(), timeout=TIMEOUT_S) is None
    assert sum(1 for _ in items) == ITEMS - 1


def test_a_generator_that_is_dropped_goes_on_to_its_end(tmp_path: Path) -> None:
    items = produce.remote(tmp_path / "progress", ITEM_BYTES)
    next(items)
    assert reached_when_it_waits(tmp_path / "progress") < ITEMS - 1
    completed = items.completed()
    del items
    aktis.get(completed, timeout=TIMEOUT_S)
    assert (tmp_path / "progress").read_text() == str(ITEMS - 1)


def test_an_async_generator_lets_its_loop_go_on() -> None:
    actor = Async.options(num_cpus=0).remote()
    items = actor.produce.options(num_returns="streaming").remote()
    next(items)
    assert aktis.get(actor.progress.remote(), timeout=TIMEOUT_S) < ITEMS - 1
    assert sum(1 for _ in items) == ITEMS - 1


@aktis.remote
class Plain:
    """One call at a time."""

    def produce(self, progress: Path) -> Iterator[bytes]:
        for number in range(ITEMS):
            progress.write_text(str(number))
            yield bytes(ITEM_BYTES)

    def answer(self) -> str:
        return "here"


@pytest.mark.parametrize("waits", [True, False], ids=["waits already", "runs still"])
def test_calls_behind_a_generator_do_not_wait_for_its_consumer(tmp_path: Path, waits: bool) -> None:
    actor = Plain.options(num_cpus=1).remote()
    items = actor.produce.remote(tmp_path / "progress")
    next(items)
    if waits:
        assert reached_when_it_waits(tmp_path / "progress") < ITEMS - 1
    assert aktis.get(actor.answer.remote(), timeout=TIMEOUT_S) == "here"
    assert sum(1 for _ in items) == ITEMS - 1


def test_calls_behind_a_generator_wait_as_its_limit_of_items_says(tmp_path: Path) -> None:
    actor = Plain.options(num_cpus=1).remote()
    items = actor.produce.options(generator_backpressure_num_objects=2).remote(tmp_path / "progress")
    next(items)
    assert reached_when_it_waits(tmp_path / "progress") <= 3
    answer = actor.answer.remote()
    assert aktis.wait([answer], timeout=0.1) == ([], [answer])
    assert sum(1 for _ in items) == ITEMS - 1
    assert aktis.get(answer, timeout=TIMEOUT_S) == "here"
