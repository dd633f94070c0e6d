"""Actors: checked by mypy and by pyright, never run. Every line that is wrong says so."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import aktis
from aktis import ActorClass, ActorHandle, ObjectRef, ObjectRefGenerator
from aktis.util import typed_handle


class Counter:
    def __init__(self, start: int) -> None:
        self.value = start

    @aktis.method
    def add(self, by: int, *, twice: bool = False) -> int:
        """Call a method of the same object: a plain call."""
        return self.add(by) if twice else by

    @aktis.method(name="slowly", max_task_retries=2)
    async def slow(self) -> str:
        return ""

    @aktis.method
    def items(self, n: int) -> Iterator[float]:
        yield 1.0

    @aktis.method
    async def stream(self) -> AsyncIterator[str]:
        yield ""

    @aktis.method(num_returns=2)
    def pair(self) -> tuple[int, str]:
        return 1, ""

    @aktis.method(num_returns=0)
    def silent(self) -> None:
        return None

    def undecorated(self) -> int:
        return 1


CounterActor = aktis.remote(Counter)
number: ObjectRef[int] = aktis.put(1)
text: ObjectRef[str] = aktis.put("")


def takes_a_handle(handle: ActorHandle[Counter]) -> None:
    del handle


def classes() -> None:
    assert_type(CounterActor, ActorClass[Counter])
    assert_type(CounterActor.remote(1), ActorHandle[Counter])
    assert_type(CounterActor.options(name="c", lifetime="detached").remote(1), ActorHandle[Counter])
    takes_a_handle(CounterActor.remote(1))


def methods_of_a_typed_handle(handle: ActorHandle[Counter]) -> None:
    counter = typed_handle(handle)
    assert_type(counter.add.remote(1), ObjectRef[int])
    assert_type(counter.add.remote(by=1, twice=True), ObjectRef[int])
    assert_type(counter.add.remote(number, twice=True), ObjectRef[int])
    assert_type(counter.add.options(name="n").remote(1), ObjectRef[int])
    assert_type(counter.slow.remote(), ObjectRef[str])
    assert_type(counter.items.remote(1), ObjectRefGenerator[float])
    assert_type(counter.stream.remote(), ObjectRefGenerator[str])
    assert_type(counter.pair.remote(), list[ObjectRef[Any]])
    assert_type(counter.silent.remote(), None)
    assert_type(aktis.get(counter.add.remote(1)), int)


def an_instance_is_the_class_as_it_was(counter: Counter) -> None:
    assert_type(counter.add(1), int)
    assert_type(counter.pair(), tuple[int, str])


def methods_of_a_handle(handle: ActorHandle[Counter]) -> None:
    """Without typed_handle anything goes, and nothing is known of the result."""
    assert_type(handle.undecorated.remote(), Any)
    assert_type(handle.add.remote("a", "b"), Any)


def wrong(handle: ActorHandle[Counter], counter: Counter) -> None:
    typed = typed_handle(handle)
    typed.add.remote("a")  # wrong
    typed.add.remote(1, 2)  # wrong
    typed.add.remote(1, fast=True)  # wrong
    typed.add.options(num_cpus=1)  # wrong
    typed.undecorated.remote()  # wrong
    typed.nothing.remote()  # wrong
    counter.add("a")  # wrong
    CounterActor(1)  # wrong
    CounterActor.options(lifetime="for ever")  # wrong
    CounterActor.options(max_retries=1)  # wrong
    other: ActorHandle[str] = handle  # wrong
    del other
