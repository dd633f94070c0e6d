"""Loads whose size can be chosen, to see what one item costs as there are more of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aktis._microbenchmark.model import Api, Load


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """A load of any size.

    item: what there are more and more of.
    base: how many at 1x.
    prepare: builds the load for the api module and a size; one step handles that many items.
    """

    name: str
    item: str
    base: int
    prepare: Callable[[Api, int], Load]


def _small(api: Api) -> Any:
    def small(*_: object) -> bytes:
        return b"ok"

    return api.remote(small)


def _actor_class(api: Api) -> Any:
    class Small:
        def small(self) -> bytes:
            return b"ok"

    return api.remote(num_cpus=0)(Small)


def tasks_in_flight(api: Api, size: int) -> Load:
    small = _small(api)
    return Load(lambda: api.get([small.remote() for _ in range(size)]), size)


def actor_calls_in_flight(api: Api, size: int) -> Load:
    actor = _actor_class(api).remote()
    return Load(
        lambda: api.get([actor.small.remote() for _ in range(size)]), size, close=lambda: api.kill(actor)
    )


def objects_held(api: Api, size: int) -> Load:
    return Load(lambda: [api.put(number) for number in range(size)], size)


def objects_in_one_get(api: Api, size: int) -> Load:
    refs = [api.put(number) for number in range(size)]
    return Load(lambda: api.get(refs), size)


def references_in_one_wait(api: Api, size: int) -> Load:
    refs = [api.put(number) for number in range(size)]
    return Load(lambda: api.wait(refs, num_returns=size), size)


def references_in_one_object(api: Api, size: int) -> Load:
    inner = [api.put(number) for number in range(size)]
    return Load(lambda: api.get(api.put(inner)), size)


def arguments_of_one_task(api: Api, size: int) -> Load:
    small = _small(api)
    refs = [api.put(number) for number in range(size)]
    return Load(lambda: api.get(small.remote(*refs)), size)


def returns_of_one_task(api: Api, size: int) -> Load:
    def numbers(count: int) -> list[int]:
        return list(range(count))

    remote_numbers = api.remote(numbers).options(num_returns=size)
    return Load(lambda: api.get(remote_numbers.remote(size)), size)


def actors_alive(api: Api, size: int) -> Load:
    actor_class = _actor_class(api)
    actors = [actor_class.remote() for _ in range(size)]

    def close() -> None:
        for actor in actors:
            api.kill(actor)

    return Load(lambda: api.get([actor.small.remote() for actor in actors]), size, close=close)


GROWTH_ROWS = (
    GrowthRow("tasks in flight", "task", 100, tasks_in_flight),
    GrowthRow("actor calls in flight", "call", 100, actor_calls_in_flight),
    GrowthRow("objects put and held", "object", 100, objects_held),
    GrowthRow("objects in one get", "object", 100, objects_in_one_get),
    GrowthRow("references in one wait", "reference", 100, references_in_one_wait),
    GrowthRow("references in one object", "reference", 100, references_in_one_object),
    GrowthRow("arguments of one task", "argument", 10, arguments_of_one_task),
    GrowthRow("returns of one task", "return", 10, returns_of_one_task),
    GrowthRow("actors alive, one call each", "call", 1, actors_alive),
)
